//! ML-DSA in certificates (RFC 9881). OpenSSL 3.0 does not know it: what is here was made by OpenSSL 4.0 from the seeds of
//! the RFC's examples (`known/`), or is made here and judged by the validator. `scripts/check-profile` has another
//! implementation judge what is made here.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use common::{Ca, DAY, HOUR, now, request};
use scaivault_kms::{KeySpec, Secret, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    Certificate, CrlEntry, Csr, Issuer, IssuerUrls, KeyKind, RevocationReason, TrustAnchor, build_crl,
    issue_leaf,
    ocsp::{CertStatus, OcspRequest, issue_responder, respond_by},
    pem, validate,
    validate::{Evidence, OcspEvidence, Reason, ReferenceName, RevocationMode, Rules, Source},
};
use time::macros::datetime;

const ROOT: &str = include_str!("known/ml-dsa-44-root.pem");
const LEAF: &str = include_str!("known/ml-dsa-44-leaf.pem");
const CSR: &str = include_str!("known/ml-dsa-44-csr.pem");

/// The kinds; the lengths of public key and signature (FIPS 204, table 2); the last arc of the algorithm, and SHA-256 of
/// the `SubjectPublicKeyInfo` of the key with the seed 0, 1 … 31 as OpenSSL 4.0 writes it (that of RFC 9881, C).
const KINDS: [(KeySpec, usize, usize, u8, &str); 3] = [
    (KeySpec::MlDsa44, 1312, 2420, 17, "837832708c5236d951581f1fddf2b79991b3424a0486d16da1ddad0fd69701be"),
    (KeySpec::MlDsa65, 1952, 3309, 18, "b8b62131bfbe84433efb2273d7f5b87f7a22854a2cfd366fc2aead86d837c52d"),
    (KeySpec::MlDsa87, 2592, 4627, 19, "07e57c4f14dbad1267f621ec3777b4e2e6c4fbc4c22fbb87510ff8e0b3c6a642"),
];

/// RFC 9881, 2: the algorithm without parameters.
fn identifier(arc: u8) -> [u8; 13] {
    [0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, arc]
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

#[tokio::test]
async fn a_seed_makes_the_key_that_others_make_of_it() {
    for (spec, public, signature, arc, known) in KINDS {
        let seed: Vec<u8> = (0..32).collect();
        let head = [&[0x30, 52, 2, 1, 0][..], &identifier(arc), &[4, 34, 0x80, 32]].concat();
        let key = SoftwareKey::from_pkcs8(spec, &Secret::new([head, seed].concat())).unwrap();
        assert_eq!(hex(digest(&SHA256, key.public_key_der()).as_ref()), known);
        assert_eq!(key.public_key_der().len(), public + 22);
        assert_eq!(key.public_key_der()[4..17], identifier(arc));
        assert_eq!(key.sign(spec.default_scheme(), b"message").await.unwrap().len(), signature);
    }
}

#[test]
fn what_another_implementation_signed_is_valid_and_a_flipped_bit_is_not() {
    let read = |text: &str| Certificate::from_der(&pem::parse_certificates(text).unwrap()[0]).unwrap();
    let (root, leaf) = (read(ROOT), read(LEAF));
    let anchors = [TrustAnchor { certificate: root.clone(), enforce: true }];
    let rules = Rules {
        names: vec![ReferenceName::dns("a.test").unwrap()],
        ..Rules::at(datetime!(2027-01-01 0:00 UTC))
    };
    let judge = |leaf: &Certificate| validate(leaf, &[], &anchors, &Evidence::default(), &rules);
    let verdict = judge(&leaf);
    assert!(verdict.valid, "{:?}", verdict.errors);
    let mut der = leaf.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let verdict = judge(&Certificate::from_der(&der).unwrap());
    assert!(
        verdict.errors.iter().any(|failure| failure.reason == Reason::BadSignature),
        "{:?}",
        verdict.errors
    );
    let issuer = Issuer::from_certificate(root.der(), IssuerUrls::default()).unwrap();
    assert_eq!(issuer.spec(), KeySpec::MlDsa44);
}

#[test]
fn a_request_that_another_implementation_signed_is_read_and_a_forged_one_is_not() {
    let csr = Csr::parse(CSR.as_bytes()).unwrap();
    assert_eq!((csr.key_kind(), csr.common_name()), (KeyKind::MlDsa44, Some("a.svc.test")));
    let mut der = csr.to_der();
    *der.last_mut().unwrap() ^= 1;
    let error = Csr::parse(&der).unwrap_err().to_string();
    assert!(error.contains("not signed with its own key"), "{error}");
}

#[tokio::test]
async fn a_hierarchy_with_lists_and_answers_is_good_until_it_is_revoked() {
    for (spec, _, signature, arc, _) in KINDS {
        let root = Ca::root(spec, Some(1)).await;
        let sub = root.below("Test Intermediate", spec).await;
        let (leaf, _) = sub.leaf(spec, &request("api.svc.test")).await;
        // RFC 9881, 3: the signature's algorithm is the key's, without parameters.
        let tail = [&identifier(arc)[..], &[3, 0x82]].concat();
        let at = leaf.der.len() - signature - 5 - 13;
        assert_eq!(leaf.der[at..at + tail.len()], tail);

        let (key, _) = SoftwareKey::generate(spec).unwrap();
        let life = std::time::Duration::from_secs(7 * 86_400);
        let made =
            issue_responder(common::serial(), key.public_key_der(), life, &sub.issuer, &sub.key, now()).await;
        let responder = made.unwrap();
        let ask = Ask { ca: &sub, responder: &responder, key: &key };
        let list = async |ca: &Ca, entries: Vec<CrlEntry>| {
            build_crl(&ca.issuer, &ca.key, 1, now(), now() + DAY, entries.into_iter()).await.unwrap()
        };
        let entry = || CrlEntry {
            serial: leaf.serial.clone(),
            revoked_at: now() - HOUR,
            reason: RevocationReason::KeyCompromise,
        };
        let revoked = CertStatus::Revoked { at: now() - HOUR, reason: RevocationReason::KeyCompromise };
        let of_root = list(&root, vec![]).await;
        let good = [
            (
                Evidence { crls: vec![of_root.clone(), list(&sub, vec![]).await], ..Evidence::default() },
                Source::Crl,
            ),
            (
                Evidence {
                    crls: vec![of_root.clone()],
                    ocsp: vec![ask.answer(&leaf.serial, CertStatus::Good).await],
                    ..Evidence::default()
                },
                Source::Ocsp,
            ),
        ];
        let bad = [
            Evidence { crls: vec![of_root.clone(), list(&sub, vec![entry()]).await], ..Evidence::default() },
            Evidence {
                crls: vec![of_root.clone()],
                ocsp: vec![ask.answer(&leaf.serial, revoked).await],
                ..Evidence::default()
            },
        ];
        let judge = |evidence: &Evidence| {
            let bag = [Certificate::from_der(&sub.issued.der).unwrap()];
            let anchors = [TrustAnchor {
                certificate: Certificate::from_der(&root.issued.der).unwrap(),
                enforce: true,
            }];
            let rules = Rules {
                names: vec![ReferenceName::dns("api.svc.test").unwrap()],
                revocation: RevocationMode::Require,
                ..Rules::at(now())
            };
            validate(&Certificate::from_der(&leaf.der).unwrap(), &bag, &anchors, evidence, &rules)
        };
        for (evidence, source) in &good {
            let verdict = judge(evidence);
            assert!(verdict.valid, "{} {:?}", spec.as_str(), verdict.errors);
            assert_eq!(verdict.revocation[0].source, *source);
        }
        for evidence in &bad {
            let verdict = judge(evidence);
            let reasons: Vec<_> = verdict.errors.iter().map(|failure| failure.reason).collect();
            assert_eq!(reasons, [Reason::Revoked], "{}", spec.as_str());
        }
    }
}

struct Ask<'a> {
    ca: &'a Ca,
    responder: &'a scaivault_pki::ocsp::Responder,
    key: &'a SoftwareKey,
}

impl Ask<'_> {
    /// What the delegate answers about that serial number.
    async fn answer(&self, serial: &scaivault_pki::Serial, status: CertStatus) -> OcspEvidence {
        let key = &self.ca.key.public_key_der()[22..];
        let hash = |octets: &[u8]| [&[4, 32], digest(&SHA256, octets).as_ref()].concat();
        let sha256 = [0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
        let serial = [&[2, serial.as_bytes().len() as u8], serial.as_bytes()].concat();
        let id = [&sha256[..], &hash(self.ca.issuer.name_der()), &hash(key), &serial].concat();
        let request = (0..5).fold(id, |inner, _| [vec![0x30, inner.len() as u8], inner].concat());
        let request = OcspRequest::parse(&request).unwrap();
        let times = [now() - HOUR, now() + DAY, now()];
        let made = respond_by(&request, &[status], &self.ca.issuer, self.responder, self.key, times).await;
        OcspEvidence { der: made.unwrap(), nonce: None }
    }
}

#[tokio::test]
async fn such_a_key_may_sign_and_nothing_else() {
    let root = Ca::root(KeySpec::MlDsa65, None).await;
    let plan = common::role(KeySpec::MlDsa44).admit(&request("a.svc.test"), &root.issuer, now()).unwrap();
    let (key, pkcs8) = SoftwareKey::generate(KeySpec::MlDsa44).unwrap();
    let leaf =
        issue_leaf(plan, common::serial(), key.public_key_der(), &root.issuer, &root.key).await.unwrap();
    // RFC 9881, 5: no keyEncipherment. Bit 0 alone for a leaf; 0, 5 and 6 for a CA.
    let usage = |bits: &[u8]| [&[6, 3, 0x55, 0x1d, 15, 1, 1, 0xff, 4, 4, 3, 2][..], bits].concat();
    let has = |der: &[u8], wanted: &[u8]| der.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(&leaf.der, &usage(&[7, 0x80])));
    assert!(has(&root.issued.der, &usage(&[1, 0x86])));
    assert!(pem::encode_private_key(&pkcs8).len() < 160, "the seed alone");
    let admitted = common::role(KeySpec::EcP256).admit(&request("a.svc.test"), &root.issuer, now()).unwrap();
    let error = issue_leaf(admitted, common::serial(), key.public_key_der(), &root.issuer, &root.key).await;
    assert!(error.unwrap_err().to_string().contains("ec-p256"));
}
