//! What a CA did elsewhere: its last list, and what it issued.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod forge;

use forge::{
    DAY, Made, NOW, dns,
    evidence::{INDIRECT, List, ONLY_CAS, ONLY_USERS, SOME_REASONS, delta_of, idp},
    extension, name, names, tlv,
    weak::{rsa_spki, small_factor},
};
use scaivault_pki::{Certificate, PastCertificate, PastList, PkiError, RevocationReason, Weak};

fn read(made: &Made) -> Certificate {
    Certificate::from_der(&made.der).unwrap()
}

fn why<T: std::fmt::Debug>(result: Result<T, PkiError>, field: &str) -> String {
    match result {
        Err(PkiError::Invalid { field: named, message }) if named == field => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_complete_list_is_taken_with_dates_and_reasons() {
    let root = Made::root("root");
    let list = || List::of(&root).revoking(&[1, 2], 0).revoking(&[0, 0x80], 6).revoking(&[7; 20], 1);
    let taken = |der: Vec<u8>| PastList::read(&der, &read(&root), NOW).unwrap();
    let past = taken(list().number(77).sign(&root.key));
    assert_eq!(past.number, Some(77));
    let entries: Vec<_> =
        past.entries.iter().map(|entry| (entry.serial.to_string(), entry.revoked_at, entry.reason)).collect();
    let at = NOW - DAY * 2;
    assert_eq!(
        entries,
        [
            ("01:02".to_owned(), at, RevocationReason::Unspecified),
            ("80".to_owned(), at, RevocationReason::CertificateHold),
            (["07"; 20].join(":"), at, RevocationReason::KeyCompromise),
        ]
    );
    // Old lists: of version 1, without a number, past their end.
    let bare = List { number: None, version: false, next_update: None, ..List::of(&root) };
    let old = List { entries: vec![list().entries.remove(0)], ..bare };
    let past = taken(old.sign(&root.key));
    assert_eq!((past.number, past.entries.len()), (None, 1));
    let ended = List { next_update: Some(NOW - DAY / 2), ..list() };
    assert_eq!(taken(ended.sign(&root.key)).entries.len(), 3);
    assert!(taken(List::of(&root).sign(&root.key)).entries.is_empty());
    // Nothing is revoked in the future.
    let early = PastList::read(&list().sign(&root.key), &read(&root), NOW - DAY * 5).unwrap();
    assert!(early.entries.iter().all(|entry| entry.revoked_at == NOW - DAY * 5));
}

#[test]
fn what_is_not_all_that_the_ca_revoked_is_refused() {
    let (root, stranger) = (Made::root("root"), Made::root("stranger"));
    let namesake = Made::root("root");
    let list = || List::of(&root);
    let unknown = extension("1.2.3.4", true, &[5, 0]);
    for (der, said) in [
        (List::of(&stranger).sign(&stranger.key), "another CA"),
        (List::of(&namesake).sign(&namesake.key), "not signed by the key"),
        (list().with(delta_of(3)).sign(&root.key), "delta"),
        (list().with(idp(Some("http://x.test/1"), &[])).sign(&root.key), "a part"),
        (list().with(idp(None, ONLY_USERS)).sign(&root.key), "a part"),
        (list().with(idp(None, ONLY_CAS)).sign(&root.key), "a part"),
        (list().with(idp(None, SOME_REASONS)).sign(&root.key), "a part"),
        (list().with(idp(None, INDIRECT)).sign(&root.key), "a part"),
        (list().with(unknown.clone()).sign(&root.key), "unknown critical extension"),
        (list().entry(&[1], 0, &unknown).sign(&root.key), "unknown critical extension"),
        (list().revoking_of(&stranger.name, &[1]).sign(&root.key), "critical extension"),
        (list().revoking(&[1], 0).revoking(&[1], 1).sign(&root.key), "01 twice"),
        (list().revoking(&[0x80], 0).sign(&root.key), "not positive"),
        (list().revoking(&[0], 0).sign(&root.key), "not positive"),
        (list().revoking(&[1; 21], 0).sign(&root.key), "longer than 20"),
        (list().revoking(&[1], 8).sign(&root.key), "unknown reason 8"),
        (list().revoking(&[1], 7).sign(&root.key), "unknown reason 7"),
        (root.der.clone(), "not a revocation list"),
        (Vec::new(), "not a revocation list"),
    ] {
        let message = why(PastList::read(&der, &read(&root), NOW), "crl_pem");
        assert!(message.contains(said), "{said}: {message}");
    }
}

#[test]
fn every_changed_octet_of_a_list_is_noticed() {
    let root = Made::root("root");
    let good = List::of(&root).revoking(&[1, 2], 1).sign(&root.key);
    let ca = read(&root);
    let expected = PastList::read(&good, &ca, NOW).unwrap();
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        // The signature has more than one form, and says the same in each.
        assert!(PastList::read(&changed, &ca, NOW).map_or(true, |past| past == expected), "octet {at}");
    }
}

#[test]
fn a_certificate_of_the_ca_is_taken_with_its_names() {
    let root = Made::root("root");
    let sans = [
        tlv(0x82, &[b"a.test"]),
        tlv(0x81, &[b"ann@a.test"]),
        tlv(0x86, &[b"spiffe://a.test/x"]),
        tlv(0x87, &[&[10, 0, 0, 1]]),
        tlv(0x87, &[&[0; 16]]),
        tlv(0x87, &[&[1, 2, 3]]),
        tlv(0x82, &[b"a\0b.test"]),
        tlv(0xa4, &[&name("x")]),
    ];
    let leaf = root.draft("Leaf of Root").with(names(&sans)).sign(&root.key);
    let past = PastCertificate::read(&read(&leaf), &read(&root)).unwrap();
    assert_eq!(past.common_name.as_deref(), Some("Leaf of Root"));
    assert_eq!(past.alt_names, ["a.test", "ann@a.test", "spiffe://a.test/x"]);
    assert_eq!(past.ip_sans, ["10.0.0.1", "::"]);
    assert_eq!((past.issued.der, past.weak), (leaf.der.clone(), Vec::new()));
    assert_eq!(past.issued.serial.as_bytes(), leaf.serial);
    assert_eq!((past.issued.not_before, past.issued.not_after), (NOW - DAY * 30, NOW + DAY * 30));
    // CAs below are certificates like others.
    assert!(PastCertificate::read(&read(&root.ca("below")), &read(&root)).is_ok());
    assert!(PastCertificate::read(&read(&root), &read(&root)).is_ok());
}

#[test]
fn weak_keys_are_named() {
    let root = Made::root("root");
    let weak = |spki: Vec<u8>| {
        let mut draft = root.draft("leaf").with(dns(&["a.test"]));
        draft.spki = spki;
        PastCertificate::read(&read(&draft.sign(&root.key)), &read(&root)).unwrap().weak
    };
    assert_eq!(weak(rsa_spki(&small_factor(), 65537)), [Weak::Key]);
    assert_eq!(
        weak(forge::spki(&forge::sequence(&[&forge::oid_der("1.2.840.10040.4.1")]), &[1, 2])),
        [Weak::UnjudgedKey]
    );
    let named: Vec<_> = Weak::ALL.iter().map(|weak| weak.as_str()).collect();
    assert_eq!(named, ["weak_key", "unjudged_key", "sha1_signature"]);
}

#[test]
fn what_the_ca_did_not_issue_is_refused() {
    let (root, namesake, stranger) = (Made::root("root"), Made::root("root"), Made::root("stranger"));
    let serial = |octets: &[u8]| {
        let mut draft = root.draft("leaf");
        draft.serial = octets.to_vec();
        draft.sign(&root.key)
    };
    for (made, said) in [
        (stranger.leaf(), "another issuer"),
        (namesake.leaf(), "not signed by the key"),
        (serial(&[0x80, 1]), "not positive"),
        (serial(&[0]), "not positive"),
        (serial(&[1; 21]), "longer than 20"),
    ] {
        let message = why(PastCertificate::read(&read(&made), &read(&root)), "certificates_pem");
        assert!(message.contains(said), "{said}: {message}");
    }
}
