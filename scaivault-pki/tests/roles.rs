//! What the further rules of a role admit, and what OpenSSL reads of it (attack tests E1, E4, E8).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Bench, Ca, DAY, HOUR, config, now, request, serial};
use proptest::prelude::*;
use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    CaPlan, Csr, IssueRequest, Issuer, IssuerUrls, KeyKind, KeyRule, PastIssuerEnd, RoleConfig, Subject,
    SubjectParts, issue_leaf, issue_root,
};
use time::{OffsetDateTime, ext::NumericalDuration as _, macros::datetime};

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn wide() -> RoleConfig {
    RoleConfig {
        allowed_dns_globs: strings(&["web-*.glob.test"]),
        allowed_ip_ranges: strings(&["10.0.0.0/8", "2001:db8::/32"]),
        allowed_emails: strings(&["*@mail.test", "ops@svc.test"]),
        allowed_uris: strings(&["spiffe://svc.test/ns/*/sa/*"]),
        extended_key_usages: strings(&["email_protection", "1.3.6.1.4.1.311.10.3.12"]),
        subject: SubjectParts { organization: Some("Zoë & Söhne".into()), ..SubjectParts::default() },
        allowed_subject_fields: strings(&["organizational_unit", "country"]),
        ..config(KeySpec::EcP256)
    }
}

fn violations(role: RoleConfig, asked: &IssueRequest, ca: &Ca) -> Vec<(String, &'static str)> {
    let refused = role.compile().unwrap().admit(asked, &ca.issuer, now()).unwrap_err();
    refused.violations.into_iter().map(|v| (v.field, v.rule)).collect()
}

#[tokio::test]
async fn every_type_of_name_and_the_subject_stand_in_the_certificate() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let asked = IssueRequest {
        alt_names: strings(&["web-1.glob.test"]),
        ip_sans: strings(&["10.1.2.3"]),
        email_sans: strings(&["Ops.Team@MAIL.test", "ops@svc.test"]),
        uri_sans: strings(&["spiffe://svc.test/ns/a/sa/b"]),
        subject: SubjectParts {
            organizational_unit: Some("Payments".into()),
            country: Some("nl".into()),
            ..SubjectParts::default()
        },
        ..request("a.svc.test")
    };
    let plan = wide().compile().unwrap().admit(&asked, &ca.issuer, now()).unwrap();
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let leaf = issue_leaf(plan, serial(), key.public_key_der(), &ca.issuer, &ca.key).await.unwrap();
    let bench = Bench::new();
    bench.write("ca.pem", ca.issued.pem());
    bench.write("leaf.pem", leaf.pem());
    bench.ok(
        "verify -x509_strict -CAfile ca.pem -purpose sslserver -verify_email Ops.Team@mail.test leaf.pem",
    );
    bench.ok("verify -x509_strict -CAfile ca.pem -purpose smimesign leaf.pem");
    let text = bench.ok("x509 -in leaf.pem -noout -text -nameopt utf8,sep_comma_plus_space");
    for part in [
        "DNS:a.svc.test, DNS:web-1.glob.test, IP Address:10.1.2.3, email:Ops.Team@mail.test, email:ops@svc.test, \
         URI:spiffe://svc.test/ns/a/sa/b",
        "C=NL, O=Zoë & Söhne, OU=Payments, CN=a.svc.test",
        "E-mail Protection, 1.3.6.1.4.1.311.10.3.12",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn sec_e1_each_type_of_name_has_its_own_list() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let asked = IssueRequest {
        alt_names: strings(&["web-1.x.glob.test", "*.glob.test"]),
        ip_sans: strings(&["11.0.0.0", "9.255.255.255", "2001:db9::"]),
        email_sans: strings(&["Ops@svc.test", "a@b.mail.test", "a"]),
        uri_sans: strings(&[
            "spiffe://svc.test/ns/a",
            "spiffe://evil.test/ns/a/sa/b",
            "https://svc.test/ns/a/sa/b",
            "urn:a:b",
        ]),
        subject: SubjectParts {
            organization: Some("Evil".into()),
            locality: Some("Town".into()),
            country: Some("NLD".into()),
            ..SubjectParts::default()
        },
        ..request("evil@mail.test")
    };
    let mut found = violations(wide(), &asked, &ca);
    found.sort();
    let mut expected: Vec<(String, &str)> = [
        ("alt_names[0]", "allowed_domains"),
        ("alt_names[1]", "allowed_domains"),
        ("ip_sans[0]", "allowed_ip_ranges"),
        ("ip_sans[1]", "allowed_ip_ranges"),
        ("ip_sans[2]", "allowed_ip_ranges"),
        ("email_sans[0]", "allowed_emails"),
        ("email_sans[1]", "allowed_emails"),
        ("email_sans[2]", "email"),
        ("uri_sans[0]", "allowed_uris"),
        ("uri_sans[1]", "allowed_uris"),
        ("uri_sans[2]", "allowed_uris"),
        ("uri_sans[3]", "uri"),
        ("subject.organization", "allowed_subject_fields"),
        ("subject.locality", "allowed_subject_fields"),
        ("subject.country", "country_code"),
    ]
    .map(|(field, rule)| (field.to_owned(), rule))
    .into();
    expected.sort();
    assert_eq!(found, expected);

    let plain = IssueRequest {
        email_sans: strings(&["a@svc.test"]),
        uri_sans: strings(&["spiffe://svc.test/a"]),
        ..request("a.svc.test")
    };
    let rules: Vec<_> =
        violations(config(KeySpec::EcP256), &plain, &ca).into_iter().map(|(_, rule)| rule).collect();
    assert_eq!(rules, ["allowed_emails", "allowed_uris"], "a role that says nothing issues none");
    let tame = RoleConfig { allow_wildcards: false, ..config(KeySpec::EcP256) };
    assert_eq!(
        violations(tame, &request("*.svc.test"), &ca),
        [("common_name".to_owned(), "allow_wildcards")]
    );
    assert!(
        config(KeySpec::EcP256).compile().unwrap().admit(&request("*.svc.test"), &ca.issuer, now()).is_ok()
    );
}

#[test]
fn a_role_that_means_nothing_names_every_entry() {
    let bad = RoleConfig {
        allowed_dns_globs: strings(&["*.test", "a b"]),
        allow_ip_sans: false,
        allowed_ip_ranges: strings(&["10.0.0.1/8"]),
        allowed_emails: strings(&["x"]),
        allowed_uris: strings(&["urn:x"]),
        extended_key_usages: strings(&[
            "any",
            "2.5.29.37.0",
            "1.3.6.1.5.5.7.3.9",
            "1.3.6.1.5.5.7.3.1",
            "code_signing",
            "1.3.6.1.5.5.7.3.3",
        ]),
        subject: SubjectParts {
            country: Some("NLD".into()),
            locality: Some(String::new()),
            ..SubjectParts::default()
        },
        allowed_subject_fields: strings(&["common_name", "country", "state", "state"]),
        backdate: 25 * HOUR,
        key: KeyRule::Kind(KeyKind::Rsa(1024)),
        ..config(KeySpec::EcP256)
    };
    let refused = bad.compile().unwrap_err();
    let fields: Vec<_> = refused.violations.iter().map(|v| v.field.as_str()).collect();
    let expected = [
        "allowed_dns_globs[0]",
        "allowed_dns_globs[1]",
        "allowed_ip_ranges[0]",
        "allowed_ip_ranges",
        "allowed_emails[0]",
        "allowed_uris[0]",
        "backdate",
        "extended_key_usages[0]",
        "extended_key_usages[1]",
        "extended_key_usages[2]",
        "extended_key_usages[3]",
        "extended_key_usages[1]",
        "key_bits",
        "subject.locality",
        "subject.country",
        "allowed_subject_fields[0]",
        "allowed_subject_fields[1]",
        "allowed_subject_fields[3]",
    ];
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn every_kind_of_key_is_issued_for_where_the_role_says_so() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let bench = Bench::new();
    bench.write("ca.pem", ca.issued.pem());
    let (ed, _) = SoftwareKey::generate(KeySpec::Ed25519).unwrap();
    let (rsa, _) = SoftwareKey::generate(KeySpec::Rsa3072).unwrap();
    let (p521, _) = SoftwareKey::generate(KeySpec::EcP521).unwrap();
    let keys = [
        (KeyKind::EcP521, p521.public_key_der().to_vec()),
        (KeyKind::Ed25519, ed.public_key_der().to_vec()),
        (KeyKind::Rsa(3072), rsa.public_key_der().to_vec()),
    ];
    for (kind, spki) in &keys {
        for rule in [KeyRule::Kind(*kind), KeyRule::Any] {
            let role = RoleConfig { key: rule, ..config(KeySpec::EcP256) }.compile().unwrap();
            let plan = role.admit(&request("a.svc.test"), &ca.issuer, now()).unwrap();
            let leaf = issue_leaf(plan, serial(), spki, &ca.issuer, &ca.key).await.unwrap();
            bench.write("leaf.pem", leaf.pem());
            bench.ok("verify -x509_strict -CAfile ca.pem -purpose sslserver leaf.pem");
        }
        let plan = common::role(KeySpec::EcP384).admit(&request("a.svc.test"), &ca.issuer, now()).unwrap();
        assert!(issue_leaf(plan, serial(), spki, &ca.issuer, &ca.key).await.is_err(), "{kind}");
    }
    assert!(!KeyRule::Any.admits(KeyKind::Rsa(8192)) && KeyRule::Any.admits(KeyKind::Rsa(2048)));
}

#[tokio::test]
async fn a_request_of_others_brings_only_the_parts_of_a_subject_that_are_left_to_it() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let bench = Bench::new();
    let csr = |subject: &str| {
        bench.write(
            "req.cnf",
            format!("[req]\ndistinguished_name=dn\nprompt=no\nutf8=yes\n[dn]\n{subject}\n"),
        );
        bench.ok("req -new -nodes -keyout k.key -config req.cnf -outform DER -out r.der -newkey ec -pkeyopt ec_paramgen_curve:P-256");
        Csr::parse(&bench.read("r.der")).unwrap()
    };
    let role = wide().compile().unwrap();
    let verdict = role.test_csr(
        &csr("C=NL\nO=Evil\nOU=Payments\nL=Town\nCN=a.svc.test\nemailAddress=x@y.test"),
        None,
        None,
        &ca.issuer,
        now(),
    );
    let plan = verdict.plan.unwrap();
    let expected = SubjectParts {
        organization: Some("Zoë & Söhne".into()),
        organizational_unit: Some("Payments".into()),
        country: Some("NL".into()),
        ..SubjectParts::default()
    };
    assert_eq!(plan.subject(), &expected);
    let ignored = verdict.ignored.join("; ");
    for part in ["organization", "locality", "1.2.840.113549.1.9.1"] {
        assert!(ignored.contains(part), "{part}: {ignored}");
    }
    let refused =
        role.admit_csr(&csr("0.OU=A\n1.OU=B\nCN=a.svc.test"), None, None, &ca.issuer, now()).unwrap_err();
    assert_eq!(refused.violations[0].field, "csr_pem.subject.organizational_unit");
}

const BORN: OffsetDateTime = datetime!(2026-10-05 12:00:00 UTC);

async fn dated(days: u32) -> Issuer {
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let subject = Subject { common_name: "Dated Root".into(), ..Subject::default() };
    let plan = CaPlan::root(subject, KeySpec::EcP256, days, None, BORN).unwrap();
    let issued = issue_root(plan, serial(), &key).await.unwrap();
    Issuer::from_certificate(&issued.der, IssuerUrls::default()).unwrap()
}

#[tokio::test]
async fn a_life_past_the_issuers_end_is_refused_or_cut_as_the_role_says() {
    let issuer = dated(10).await;
    let asked = IssueRequest { ttl: Some(20 * DAY), ..request("a.svc.test") };
    let refused = config(KeySpec::EcP256).compile().unwrap().admit(&asked, &issuer, BORN).unwrap_err();
    assert_eq!(refused.violations[0].rule, "issuer_validity");
    let cuts = RoleConfig { past_issuer_end: PastIssuerEnd::Truncate, ..config(KeySpec::EcP256) };
    let plan = cuts.clone().compile().unwrap().admit(&asked, &issuer, BORN).unwrap();
    assert_eq!((plan.not_after(), plan.is_cut()), (issuer.not_after(), true));
    let beyond = IssueRequest { ttl: Some(31 * DAY), ..request("a.svc.test") };
    let refused = cuts.compile().unwrap().admit(&beyond, &issuer, BORN).unwrap_err();
    assert_eq!(refused.violations[0].rule, "max_ttl", "cutting does not lift the role's own bound");

    // A default is cut in any case; what lives within its issuer is not.
    let role = config(KeySpec::EcP256).compile().unwrap();
    let late = role.admit(&request("a.svc.test"), &issuer, BORN + 4.days()).unwrap();
    assert_eq!((late.not_after(), late.is_cut()), (issuer.not_after(), true));
    assert_eq!(late.renew_after(), BORN + 4.days() + 4.days() - 1.seconds());
    let asked = IssueRequest { ttl: Some(DAY), ..request("a.svc.test") };
    let whole = role.admit(&asked, &issuer, BORN).unwrap();
    assert_eq!((whole.not_after(), whole.is_cut()), (BORN + 1.days() - 1.seconds(), false));
    assert_eq!(whole.renew_after(), BORN + 16.hours() - 1.seconds());
    let shortest = IssueRequest { ttl: Some(Duration::from_secs(1)), ..request("a.svc.test") };
    assert_eq!(role.admit(&shortest, &issuer, BORN).unwrap().renew_after(), BORN);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Attack test E4: whatever the clock says, a certificate lives within its role and its issuer, both ends included.
    #[test]
    fn sec_e4_no_life_exceeds_its_role_or_issuer(
        step in -90_000_i64..1_000_000, ttl in prop::option::of(1_u64..3_000_000), backdate in 1_u64..86_401, cut: bool,
    ) {
        let issuer = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(dated(10));
        let past_issuer_end = if cut { PastIssuerEnd::Truncate } else { PastIssuerEnd::Refuse };
        let backdate = Duration::from_secs(backdate);
        let role = RoleConfig { past_issuer_end, backdate, ..config(KeySpec::EcP256) }.compile().unwrap();
        let at = BORN + step.seconds();
        let asked = IssueRequest { ttl: ttl.map(Duration::from_secs), ..request("a.svc.test") };
        if let Ok(plan) = role.admit(&asked, &issuer, at) {
            let life = plan.not_after() - at + 1.seconds();
            prop_assert!(life <= ttl.map_or(7 * DAY, Duration::from_secs) && life <= 30 * DAY && life >= 1.seconds());
            prop_assert!(plan.not_after() <= issuer.not_after() && plan.not_before() >= issuer.not_before());
            prop_assert!(at - plan.not_before() <= backdate && plan.not_before() <= at);
        }
    }
}
