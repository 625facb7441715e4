//! What the suites of other validators have found here, one case each.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod forge;

use std::rc::Rc;

use forge::{
    Draft, Key, Made, NOW, constraints, dns,
    evidence::{GOOD, List, Reply, delta_of},
    extension, key_usage, mappings, name, names, oid_der, policies, purposes, sequence, tlv,
};
use scaivault_pki::{
    Certificate, TrustAnchor, Validation, validate,
    validate::{Evidence, OcspEvidence, Reason, ReferenceName, RevocationMode, Rules},
};

const SERVER: &str = "1.3.6.1.5.5.7.3.1";
const CLIENT: &str = "1.3.6.1.5.5.7.3.2";
const CODE: &str = "1.3.6.1.5.5.7.3.3";
const EMAIL: &str = "1.3.6.1.5.5.7.3.4";
const STAMPS: &str = "1.3.6.1.5.5.7.3.8";
const OCSP: &str = "1.3.6.1.5.5.7.3.9";

/// Bits of a key usage, the first one highest.
const SIGNATURE: u8 = 1 << 7;
const NON_REPUDIATION: u8 = 1 << 6;
const ENCIPHERMENT: u8 = 1 << 5;
const AGREEMENT: u8 = 1 << 3;
const CERTIFICATES: u8 = 1 << 2;

fn read(made: &Made) -> Certificate {
    Certificate::from_der(&made.der).unwrap()
}

fn judge_by(leaf: &Made, bag: &[&Made], root: &Made, evidence: &Evidence, rules: &Rules) -> Validation {
    let bag: Vec<_> = bag.iter().map(|made| read(made)).collect();
    let anchors = [TrustAnchor { certificate: read(root), enforce: true }];
    validate(&read(leaf), &bag, &anchors, evidence, rules)
}

fn judge(leaf: &Made, bag: &[&Made], root: &Made, rules: &Rules) -> Validation {
    judge_by(leaf, bag, root, &Evidence::default(), rules)
}

fn asking(purpose: &str) -> Rules {
    Rules { purposes: vec![purpose.parse().unwrap()], ..Rules::at(NOW) }
}

fn reasons(verdict: &Validation) -> Vec<Reason> {
    assert_eq!(verdict.valid, verdict.errors.is_empty());
    verdict.errors.iter().map(|failure| failure.reason).collect()
}

/// A key usage and an extended one both have to allow what a certificate is used for (RFC 5280, 4.2.1.12).
#[test]
fn a_key_usage_goes_with_the_purpose() {
    let root = Made::root("root");
    for (purpose, fitting, not_fitting) in [
        (SERVER, SIGNATURE | ENCIPHERMENT | AGREEMENT, NON_REPUDIATION | CERTIFICATES),
        (CLIENT, SIGNATURE | AGREEMENT, NON_REPUDIATION | ENCIPHERMENT | CERTIFICATES),
        (CODE, SIGNATURE, NON_REPUDIATION | ENCIPHERMENT | AGREEMENT | CERTIFICATES),
        (EMAIL, SIGNATURE | NON_REPUDIATION | ENCIPHERMENT | AGREEMENT, CERTIFICATES),
        (OCSP, SIGNATURE | NON_REPUDIATION, ENCIPHERMENT | AGREEMENT | CERTIFICATES),
    ] {
        for bit in (0..8).map(|bit| 1_u8 << bit) {
            let leaf = root.draft("leaf").with(key_usage(bit)).sign(&root.key);
            let found = reasons(&judge(&leaf, &[], &root, &asking(purpose)));
            if fitting & bit != 0 {
                assert_eq!(found, [], "{purpose} {bit:08b}");
            }
            if not_fitting & bit != 0 {
                assert_eq!(found, [Reason::KeyUsage], "{purpose} {bit:08b}");
            }
            assert!(judge(&leaf, &[], &root, &Rules::at(NOW)).valid);
        }
    }
    // One bit that fits is enough; that of a CA is about what it issues; a purpose that nobody knows asks for nothing.
    let both = root.draft("leaf").with(key_usage(SIGNATURE | CERTIFICATES)).sign(&root.key);
    assert_eq!(reasons(&judge(&both, &[], &root, &asking(SERVER))), []);
    assert_eq!(reasons(&judge(&root.ca("CA"), &[], &root, &asking(SERVER))), []);
    let odd = root.draft("leaf").with(key_usage(AGREEMENT)).sign(&root.key);
    assert_eq!(reasons(&judge(&odd, &[], &root, &asking("1.3.6.1.4.1.55555.1"))), []);
}

/// RFC 3161, 2.3.
#[test]
fn time_stamps_are_made_by_who_does_nothing_else() {
    let root = Made::root("root");
    let critical = |ids: &[&str]| {
        extension("2.5.29.37", true, &sequence(&[&ids.iter().flat_map(|id| oid_der(id)).collect::<Vec<_>>()]))
    };
    for (usage, expected) in [
        (Some(critical(&[STAMPS])), None),
        (Some(purposes(&[STAMPS])), Some(Reason::Purpose)),
        (Some(critical(&[STAMPS, SERVER])), Some(Reason::Purpose)),
        (None, Some(Reason::Purpose)),
    ] {
        let draft = root.draft("stamper");
        let leaf = usage.into_iter().fold(draft, Draft::with).sign(&root.key);
        let found = reasons(&judge(&leaf, &[], &root, &asking(STAMPS)));
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        assert!(judge(&leaf, &[], &root, &Rules::at(NOW)).valid);
    }
}

/// An address in the subject counts whatever other names there are.
#[test]
fn mailboxes_of_the_subject_are_constrained() {
    let mailbox = |text: &str| tlv(0x81, &[text.as_bytes()]);
    let root = Made::root("root");
    let ca = root.ca_draft("CA").with(constraints(&[mailbox("good.test")], &[])).sign(&root.key);
    let subject = |address: &str| {
        let attribute = sequence(&[&oid_der("1.2.840.113549.1.9.1"), &tlv(0x16, &[address.as_bytes()])]);
        sequence(&[&tlv(0x31, &[&attribute])])
    };
    for (own, alternative, expected) in [
        ("a@good.test", Some("a@good.test"), None),
        ("a@bad.test", Some("a@good.test"), Some(Reason::NameConstraint)),
        ("a@good.test", Some("a@bad.test"), Some(Reason::NameConstraint)),
        ("a@bad.test", None, Some(Reason::NameConstraint)),
    ] {
        let draft = Draft { subject: subject(own), ..ca.draft("leaf") };
        let alternative = alternative.map(|address| names(&[mailbox(address)]));
        let leaf = alternative.into_iter().fold(draft, Draft::with).sign(&ca.key);
        let found = reasons(&judge(&leaf, &[&ca], &root, &Rules::at(NOW)));
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{own}");
    }
}

/// RFC 5280, 4.2.1.5, also of the CA that is asked about itself.
#[test]
fn nothing_is_mapped_to_any_policy() {
    const ANY: &str = "2.5.29.32.0";
    let root = Made::root("root");
    for (pair, expected) in [
        (("1.2.3.4", "1.2.3.5"), None),
        (("1.2.3.4", ANY), Some(Reason::Policy)),
        ((ANY, "1.2.3.4"), Some(Reason::Policy)),
    ] {
        let ca = root.ca_draft("CA").with(policies(&["1.2.3.4"])).with(mappings(&[pair])).sign(&root.key);
        let found = reasons(&judge(&ca, &[], &root, &Rules::at(NOW)));
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{pair:?}");
    }
}

/// A root of version 1 cannot say that it is a CA; who trusts it does (RFC 5280, 6.1.4 (k)). Below an anchor nobody does.
#[test]
fn an_anchor_of_version_1_is_known_to_be_a_ca() {
    let old = |subject: &str, issuer: Option<&Made>| {
        let key = Key::p256();
        let issuer_name = issuer.map_or_else(|| name(subject), |issuer| issuer.name.clone());
        let draft = Draft { version: 0, ..Draft::new(&name(subject), &issuer_name, Rc::clone(&key)) };
        draft.sign(issuer.map_or(&key, |issuer| &issuer.key))
    };
    let root = old("root", None);
    assert_eq!(reasons(&judge(&root.leaf(), &[], &root, &asking(SERVER))), []);
    let sub = old("sub", Some(&root));
    assert_eq!(reasons(&judge(&sub.leaf(), &[&sub], &root, &asking(SERVER))), [Reason::NotCa]);
    // One of version 3 could have said so.
    let key = Key::p256();
    let silent = Draft::new(&name("root"), &name("root"), Rc::clone(&key)).with(dns(&["a.test"])).sign(&key);
    assert_eq!(reasons(&judge(&silent.leaf(), &[], &silent, &asking(SERVER))), [Reason::NotCa]);
}

/// Responders of public CAs have a key usage of nothing but non-repudiation, which RFC 5280, 4.2.1.12, allows.
#[test]
fn a_responder_may_have_either_usage_for_signatures() {
    let root = Made::root("root");
    let leaf = root.leaf();
    for (usage, expected) in
        [(SIGNATURE, true), (NON_REPUDIATION, true), (ENCIPHERMENT, false), (CERTIFICATES, false)]
    {
        let responder =
            root.draft("responder").with(purposes(&[OCSP])).with(key_usage(usage)).sign(&root.key);
        let der = Reply::by_delegate(&responder).says(&root, &leaf.serial, GOOD).sign();
        let evidence = Evidence { ocsp: vec![OcspEvidence { der, nonce: None }], ..Evidence::default() };
        let rules = Rules { revocation: RevocationMode::Require, ..Rules::at(NOW) };
        let verdict = judge_by(&leaf, &[], &root, &evidence, &rules);
        assert_eq!(verdict.valid, expected, "{usage:08b} {:#?}", verdict.errors);
    }
}

/// An entry that is not understood says at least that its certificate was revoked; the list says nothing of others.
#[test]
fn an_entry_that_is_not_understood_revokes() {
    let root = Made::root("root");
    let leaf = root.leaf();
    let critical = extension("1.3.6.1.4.1.55555.1", true, &[5, 0]);
    let judged = |crls: Vec<Vec<u8>>| {
        let evidence = Evidence { crls, ..Evidence::default() };
        let rules = Rules { revocation: RevocationMode::Prefer, ..Rules::at(NOW) };
        reasons(&judge_by(&leaf, &[], &root, &evidence, &rules))
    };
    let list = || List::of(&root);
    assert_eq!(judged(vec![list().entry(&leaf.serial, 0, &critical).sign(&root.key)]), [Reason::Revoked]);
    assert_eq!(judged(vec![list().revoking(&leaf.serial, 7).sign(&root.key)]), [Reason::Revoked]);
    assert_eq!(judged(vec![list().entry(&[9, 9], 0, &critical).sign(&root.key)]), []);
    assert_eq!(judged(vec![list().revoking_of(&root.name, &leaf.serial).sign(&root.key)]), [Reason::Revoked]);
    assert_eq!(judged(vec![list().revoking_of(&name("other"), &leaf.serial).sign(&root.key)]), []);
    let both = list().entry(&[9, 9], 0, &critical).revoking(&leaf.serial, 1);
    assert_eq!(judged(vec![both.sign(&root.key)]), [Reason::Revoked]);
    // That it is released is not believed of a list of which a part is not understood.
    let released =
        list().number(11).with(delta_of(10)).revoking(&leaf.serial, 8).entry(&[9, 9], 0, &critical);
    let evidence = Evidence {
        crls: vec![list().revoking(&leaf.serial, 6).sign(&root.key), released.sign(&root.key)],
        ..Evidence::default()
    };
    let rules = Rules { revocation: RevocationMode::Require, ..Rules::at(NOW) };
    assert!(!judge_by(&leaf, &[], &root, &evidence, &rules).valid);
}

/// Certificates have no names with a last dot; people who ask may write one.
#[test]
fn a_last_dot_is_no_part_of_a_certificate() {
    let root = Made::root("root");
    let asking = |text: &str| Rules { names: vec![ReferenceName::dns(text).unwrap()], ..Rules::at(NOW) };
    for (presented, wanted, expected) in [
        ("a.test", "a.test.", true),
        ("a.test.", "a.test", false),
        ("a.test.", "a.test.", false),
        ("*.a.test", "b.a.test.", true),
        ("*.a.test.", "b.a.test", false),
    ] {
        let leaf = root.draft("leaf").with(dns(&[presented])).sign(&root.key);
        let found = reasons(&judge(&leaf, &[], &root, &asking(wanted)));
        let wrong = if expected { vec![] } else { vec![Reason::NameMismatch] };
        assert_eq!(found, wrong, "{presented} {wanted}");
    }
    let host = |text: &str| tlv(0x82, &[text.as_bytes()]);
    let ca = root.ca_draft("CA").with(constraints(&[], &[host("bad.test")])).sign(&root.key);
    let leaf = ca.draft("leaf").with(dns(&["a.bad.test."])).sign(&ca.key);
    let found = reasons(&judge(&leaf, &[&ca], &root, &Rules::at(NOW)));
    assert_eq!(found, [Reason::UnsupportedNameConstraint]);
}

/// What nothing here goes by is not understood, so it must not be critical; and a constraint has to constrain.
#[test]
fn extensions_that_are_not_gone_by_are_not_critical() {
    const ISSUER_NAMES: &str = "2.5.29.18";
    let root = Made::root("root");
    let host = sequence(&[&tlv(0x82, &[b"ca.test"])]);
    let empty = extension("2.5.29.36", true, &sequence(&[]));
    for (change, expected) in [
        (extension(ISSUER_NAMES, false, &host), vec![]),
        (extension(ISSUER_NAMES, true, &host), vec![Reason::UnknownCriticalExtension]),
        (empty, vec![Reason::Malformed]),
    ] {
        let leaf = root.draft("leaf").with(change.clone()).sign(&root.key);
        assert_eq!(reasons(&judge(&leaf, &[], &root, &Rules::at(NOW))), expected);
        let ca = root.ca_draft("CA").with(change).sign(&root.key);
        assert_eq!(reasons(&judge(&ca.leaf(), &[&ca], &root, &Rules::at(NOW))), expected);
    }
}
