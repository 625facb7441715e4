//! Weak keys at every door (attack test E8): in a certificate request, as the key of a certificate that is to be made,
//! in the certificate of a CA that is to be known here, and in a path that is judged.

mod common;
mod forge;

use common::{Ca, now, request, role};
use forge::{Draft, Key, Made, NOW, ca, dns, oid_der, sequence, signs, tlv, weak};
use scaivault_kms::KeySpec;
use scaivault_pki::{
    Certificate, Csr, Issuer, IssuerUrls, KeyRule, RoleConfig, TrustAnchor, issue_leaf, validate,
    validate::{Evidence, Reason, Rules},
};

/// What is wrong with each, the key, and words that the refusal must have at a door and in a verdict.
fn weak_keys() -> Vec<(&'static str, Vec<u8>, &'static str, Reason)> {
    let sound = weak::sound();
    let rsa = |modulus: &_| weak::rsa_spki(modulus, 65537);
    let ec = |curve: &str, point: &[u8]| {
        forge::spki(&sequence(&[&oid_der("1.2.840.10045.2.1"), &oid_der(curve)]), point)
    };
    let mut off_curve = Key::p256().bits();
    off_curve[64] ^= 1;
    let mut keys = vec![
        ("ROCA", rsa(&weak::roca()), "ROCA", Reason::WeakKey),
        ("close primes", rsa(&weak::close()), "close to each other", Reason::WeakKey),
        ("one prime twice", rsa(&weak::square()), "close to each other", Reason::WeakKey),
        ("a small factor", rsa(&weak::small_factor()), "small factor", Reason::WeakKey),
        ("1024 bits", rsa(&(&sound >> 1024_u32 | &1_u32.into())), "2048 to 8192 bits", Reason::WeakKey),
        ("2047 bits", rsa(&(&sound >> 1_u32 | &1_u32.into())), "2048 to 8192 bits", Reason::WeakKey),
        ("an even modulus", rsa(&(&sound - 1_u32)), "odd modulus", Reason::WeakKey),
        ("e = 1", weak::rsa_spki(&sound, 1), "exponent", Reason::WeakKey),
        ("e = 0", weak::rsa_spki(&sound, 0), "exponent", Reason::WeakKey),
        ("an even e", weak::rsa_spki(&sound, 65538), "exponent", Reason::WeakKey),
        ("off the curve", ec("1.2.840.10045.3.1.7", &off_curve), "not a valid", Reason::WeakKey),
        (
            "the point (0, 0)",
            ec("1.3.132.0.34", &[&[4][..], &[0; 96]].concat()),
            "not a valid",
            Reason::WeakKey,
        ),
    ];
    for point in weak::low_points() {
        keys.push((
            "an Ed25519 point of small order",
            weak::ed25519_spki(&point),
            "small order",
            Reason::WeakKey,
        ));
    }
    keys
}

/// A request for that key, of which nothing but the key is looked at.
fn csr(spki: &[u8]) -> Vec<u8> {
    let info = sequence(&[&tlv(2, &[&[0]]), &sequence(&[]), spki, &tlv(0xa0, &[])]);
    sequence(&[&info, &sequence(&[&oid_der("1.2.840.10045.4.3.2")]), &tlv(3, &[&[0, 0x30, 0]])])
}

#[tokio::test]
async fn sec_e8_weak_keys_are_refused_wherever_they_come_in() {
    let authority = Ca::root(KeySpec::EcP256, None).await;
    let any = RoleConfig { key: KeyRule::Any, ..common::config(KeySpec::EcP256) }.compile().unwrap();
    let root = Made::root("root");
    let sub = root.ca("CA");
    let of_ca = |spki: &[u8]| {
        let key = Key::p256();
        let draft = Draft::new(&forge::name("weak"), &forge::name("weak"), key.clone());
        Draft { spki: spki.to_vec(), ..draft.with(ca(None)).with(signs()) }.sign(&key).der
    };
    let judge = |spki: &[u8]| {
        let leaf = Draft { spki: spki.to_vec(), ..sub.draft("leaf").with(dns(&["a.test"])) }.sign(&sub.key);
        let read = |made: &Made| Certificate::from_der(&made.der).unwrap();
        let anchors = [TrustAnchor { certificate: read(&root), enforce: true }];
        validate(&read(&leaf), &[read(&sub)], &anchors, &Evidence::default(), &Rules::at(NOW)).errors
    };
    for (what, spki, words, reason) in weak_keys() {
        let refused = Csr::parse(&csr(&spki)).unwrap_err().to_string();
        assert!(refused.contains(words), "a request with {what}: {refused}");
        let plan = any.admit(&request("a.svc.test"), &authority.issuer, now()).unwrap();
        let made = issue_leaf(plan, common::serial(), &spki, &authority.issuer, &authority.key).await;
        let refused = made.unwrap_err().to_string();
        assert!(refused.contains(words), "a certificate for {what}: {refused}");
        let known = Issuer::from_certificate(&of_ca(&spki), IssuerUrls::default());
        let refused = known.unwrap_err().to_string();
        assert!(refused.contains(words), "a CA with {what}: {refused}");
        assert_eq!(judge(&spki)[0].reason, reason, "{what}");
    }
}

#[tokio::test]
async fn a_key_in_which_nothing_is_found_is_taken() {
    let authority = Ca::root(KeySpec::EcP256, None).await;
    let plan = role(KeySpec::Rsa2048).admit(&request("a.svc.test"), &authority.issuer, now()).unwrap();
    let spki = weak::rsa_spki(&weak::sound(), 65537);
    issue_leaf(plan, common::serial(), &spki, &authority.issuer, &authority.key).await.unwrap();
    let refused = Csr::parse(&csr(&spki)).unwrap_err().to_string();
    assert!(refused.contains("algorithm"), "only its signature is at fault: {refused}");
}
