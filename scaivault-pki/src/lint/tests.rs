//! What is signed is determined by its plan to the last bit, so every bit that is changed must be found.

use const_oid::{ObjectIdentifier, db::rfc5280};
use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
use time::macros::datetime;

use super::*;
use crate::{
    CaPlan, IssuerUrls, NameConstraints, NameSubtrees, RevocationReason, Serial, Subject,
    constraints::Limits,
    crl, issue_root,
    name::{DnsName, SubjectParts, write_name},
    ocsp::{self, CertStatus, OcspRequest},
    tbs::Usage,
};

const NOW: OffsetDateTime = datetime!(2026-10-05 12:00:00 UTC);
const SERVER: ObjectIdentifier = rfc5280::ID_KP_SERVER_AUTH;
const CLIENT: ObjectIdentifier = rfc5280::ID_KP_CLIENT_AUTH;

fn leaf<'a>(dns_names: &'a [DnsName], purposes: &'a [ObjectIdentifier]) -> Usage<'a> {
    Usage::Leaf { dns_names, ip_addresses: &[], emails: &[], uris: &[], purposes }
}

fn ca<'a>(max_path_length: Option<u8>) -> Usage<'a> {
    Usage::Ca { max_path_length, limits: None, policies: &[] }
}

fn limits(subtrees: NameSubtrees) -> Limits {
    let names = NameConstraints { permitted: subtrees.clone(), excluded: subtrees };
    Limits::parse(&names, &[], &mut crate::error::Violations::default())
}

const LATER: OffsetDateTime = datetime!(2051-01-01 00:00:00 UTC);

async fn issuer(spec: KeySpec) -> Issuer {
    let (key, _) = SoftwareKey::generate(spec).unwrap();
    let subject =
        Subject { common_name: "Lint Root".into(), country: Some("NL".into()), ..Subject::default() };
    let plan = CaPlan::root(subject, spec, 36_000, Some(3), NOW).unwrap();
    let issued = issue_root(plan, Serial::from_random([9; 16]), &key).await.unwrap();
    let urls =
        IssuerUrls { crl_url: Some("http://x.test/crl".into()), ocsp_url: Some("http://x.test/ocsp".into()) };
    Issuer::from_certificate(&issued.der, urls).unwrap()
}

/// The positions of changed bits that `check` lets pass.
fn unseen(bytes: &[u8], check: impl Fn(Vec<u8>) -> bool) -> Vec<String> {
    assert!(check(bytes.to_vec()), "what was built passes");
    let flipped = |at: usize| {
        let mut flipped = bytes.to_vec();
        flipped[at / 8] ^= 1 << (at % 8);
        flipped
    };
    let places = (0..bytes.len() * 8).filter(|&at| check(flipped(at)));
    let mut unseen: Vec<_> = places.map(|at| format!("octet {} bit {}", at / 8, at % 8)).collect();
    unseen.extend(
        (0..bytes.len()).filter(|&cut| check(bytes[..cut].to_vec())).map(|cut| format!("cut at {cut}")),
    );
    if check([bytes, &[0]].concat()) {
        unseen.push("an octet more".to_owned());
    }
    unseen
}

#[tokio::test]
async fn every_changed_bit_of_a_certificate_is_found() {
    for spec in [KeySpec::EcP256, KeySpec::Rsa2048] {
        let authority = issuer(spec).await;
        let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
        let public_key = PublicKey::parse("key", key.public_key_der()).unwrap();
        let dns_names = [DnsName::parse("a.test").unwrap(), DnsName::parse("*.b.test").unwrap()];
        let ip_addresses = ["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let (serial, name) =
            (Serial::from_random([7; 16]), write_name(Some("a.test"), &SubjectParts::default()).unwrap());
        let (emails, uris) = (["a@a.test".to_owned()], ["spiffe://a.test/ns/a".to_owned()]);
        let further = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.10.3.12");
        let purposes =
            [SERVER, CLIENT, rfc5280::ID_KP_CODE_SIGNING, rfc5280::ID_KP_EMAIL_PROTECTION, further];
        let leaf = |purposes| Usage::Leaf {
            dns_names: &dns_names,
            ip_addresses: &ip_addresses,
            emails: &emails,
            uris: &uris,
            purposes,
        };
        let strings = |text: &str| vec![text.to_owned()];
        let limits = limits(NameSubtrees {
            dns: strings("a.test"),
            ip: vec!["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned()],
            email: strings("a@a.test"),
            uri: strings(".a.test"),
            directory: strings("O=A,C=NL"),
        });
        let policies = [ObjectIdentifier::new_unwrap("2.23.140.1.2.1"), further];
        let limited = Usage::Ca { max_path_length: Some(2), limits: Some(&limits), policies: &policies };
        let usages = [leaf(&purposes[..]), leaf(&[SERVER]), ca(Some(2)), limited];
        for (usage, subject) in usages.into_iter().zip([&name[..], &[0x30, 0], &name, &name]) {
            let draft = Draft {
                serial: &serial,
                subject,
                not_before: NOW,
                not_after: LATER,
                spki: key.public_key_der(),
                public_key: &public_key,
                usage,
                authority: Some(&authority),
            };
            let passes = |bytes| LintedTbs::certificate(bytes, &draft).is_ok();
            assert_eq!(unseen(&draft.encode().unwrap(), passes), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn every_changed_bit_of_a_list_is_found() {
    for spec in [KeySpec::EcP384, KeySpec::Rsa2048] {
        let issuer = issuer(spec).await;
        let entry = |n, reason| CrlEntry { serial: Serial::from_random([n; 16]), revoked_at: NOW, reason };
        let entries = vec![entry(1, RevocationReason::Unspecified), entry(2, RevocationReason::Superseded)];
        let list = ListDraft {
            issuer: &issuer,
            scope: &CrlScope::default(),
            number: 0x1234_5678,
            this_update: NOW,
            next_update: LATER,
            entries,
        };
        let bytes = crl::encode(&list).unwrap();
        assert_eq!(unseen(&bytes, |bytes| LintedTbs::crl(bytes, &list).is_ok()), Vec::<String>::new());
    }
}

#[tokio::test]
async fn every_changed_bit_of_a_shard_and_of_a_delta_is_found() {
    let issuer = issuer(KeySpec::EcP256).await;
    let shard = Some("http://pki.test/crl/7".to_owned());
    let delta = CrlScope {
        distribution_point: shard.clone(),
        delta_base: Some(0x1_0000),
        released: vec![(Serial::from_random([3; 16]), NOW)],
        expired_since: Some(NOW),
        ..CrlScope::default()
    };
    let freshest = Some("http://pki.test/delta/7".to_owned());
    for scope in [delta, CrlScope { distribution_point: shard, freshest, ..CrlScope::default() }] {
        let reason = RevocationReason::KeyCompromise;
        let entries = vec![CrlEntry { serial: Serial::from_random([1; 16]), revoked_at: NOW, reason }];
        let list = ListDraft {
            issuer: &issuer,
            scope: &scope,
            number: 0x1_0001,
            this_update: NOW,
            next_update: LATER,
            entries,
        };
        let bytes = crl::encode(&list).unwrap();
        assert_eq!(unseen(&bytes, |bytes| LintedTbs::crl(bytes, &list).is_ok()), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_list_with_a_serial_twice_is_refused() {
    let issuer = issuer(KeySpec::EcP256).await;
    let entry = CrlEntry {
        serial: Serial::from_random([1; 16]),
        revoked_at: NOW,
        reason: RevocationReason::Unspecified,
    };
    let entries = vec![entry.clone(), entry];
    let list = ListDraft {
        issuer: &issuer,
        scope: &CrlScope::default(),
        number: 1,
        this_update: NOW,
        next_update: LATER,
        entries,
    };
    let Err(PkiError::Lint(findings)) = LintedTbs::crl(crl::encode(&list).unwrap(), &list) else { panic!() };
    assert_eq!((findings.len(), findings[0].rule), (1, "entries"));
}

#[tokio::test]
async fn every_changed_bit_of_an_ocsp_answer_is_found() {
    let issuer = issuer(KeySpec::EcP256).await;
    let request = OcspRequest::for_tests(&issuer, &[1, 2, 3], Some(vec![5; 32]));
    let revoked = |reason| CertStatus::Revoked { at: NOW, reason };
    let statuses = [revoked(RevocationReason::AaCompromise), CertStatus::Good, CertStatus::Unknown];
    let answer = Answer {
        signer: issuer.public_key(),
        issuer: &issuer,
        request: &request,
        statuses: &statuses,
        this_update: NOW,
        next_update: LATER,
        produced_at: NOW,
    };
    let bytes = ocsp::encode(&answer).unwrap();
    assert_eq!(unseen(&bytes, |bytes| LintedTbs::ocsp(bytes, &answer).is_ok()), Vec::<String>::new());
}

#[tokio::test]
async fn a_plan_that_breaks_the_profile_is_refused_however_it_is_written() {
    let authority = issuer(KeySpec::EcP256).await;
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let public_key = PublicKey::parse("key", key.public_key_der()).unwrap();
    let dns_names = [DnsName::parse("a.test").unwrap()];
    let serial = Serial::from_random([7; 16]);
    let short = Serial::from_bytes(&[1]).unwrap();
    let name = write_name(Some("a.test"), &SubjectParts::default()).unwrap();
    let draft = || Draft {
        serial: &serial,
        subject: &name,
        not_before: NOW,
        not_after: LATER,
        spki: key.public_key_der(),
        public_key: &public_key,
        usage: leaf(&dns_names, &[SERVER]),
        authority: Some(&authority),
    };
    let no_names = leaf(&[], &[SERVER]);
    let no_purpose = leaf(&dns_names, &[]);
    let twice = [dns_names[0].clone(), dns_names[0].clone()];
    let name_twice = leaf(&twice, &[SERVER]);
    let mailbox = ["not a mailbox".to_owned()];
    let no_mailbox =
        Usage::Leaf { dns_names: &[], ip_addresses: &[], emails: &mailbox, uris: &[], purposes: &[SERVER] };
    let link = ["https://a.test/../b".to_owned()];
    let no_uri =
        Usage::Leaf { dns_names: &[], ip_addresses: &[], emails: &[], uris: &link, purposes: &[SERVER] };
    let responder = leaf(&dns_names, &[rfc5280::ID_KP_OCSP_SIGNING]);
    let cases = [
        ("serial", Draft { serial: &short, ..draft() }),
        ("validity", Draft { not_after: datetime!(2200-01-01 0:00 UTC), ..draft() }),
        ("validity", Draft { not_before: datetime!(2020-01-01 0:00 UTC), ..draft() }),
        ("validity", Draft { not_before: LATER, not_after: NOW, ..draft() }),
        ("subject_alt_name", Draft { usage: no_names, ..draft() }),
        ("subject_alt_name", Draft { usage: name_twice, ..draft() }),
        ("subject_alt_name", Draft { usage: no_mailbox, ..draft() }),
        ("subject_alt_name", Draft { usage: no_uri, ..draft() }),
        ("extended_key_usage", Draft { usage: no_purpose, ..draft() }),
        ("extended_key_usage", Draft { usage: responder, ..draft() }),
        ("basic_constraints", Draft { usage: ca(Some(3)), ..draft() }),
        ("basic_constraints", Draft { usage: ca(None), ..draft() }),
        ("subject", Draft { usage: ca(Some(0)), subject: &[0x30, 0], ..draft() }),
        ("issuer", Draft { authority: None, ..draft() }),
    ];
    for (rule, draft) in cases {
        let Err(PkiError::Lint(findings)) = LintedTbs::certificate(draft.encode().unwrap(), &draft) else {
            panic!("{rule}: {draft:?}");
        };
        assert!(findings.iter().any(|finding| finding.rule == rule), "{rule}: {findings:?}");
    }
}
