//! What roles admit (attack tests E1, E2, E4), under issuers with fixed dates.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{DAY, config, request, serial, subject};
use proptest::prelude::*;
use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    CaPlan, IssueRequest, Issuer, IssuerUrls, Refused, Role, issue_intermediate, issue_leaf, issue_root,
};
use time::{OffsetDateTime, ext::NumericalDuration as _, macros::datetime};

const BORN: OffsetDateTime = datetime!(2026-10-05 12:00:00 UTC);
const SECOND: Duration = Duration::from_secs(1);

/// A root that was made at `born` for `days` days, and its key.
async fn root(born: OffsetDateTime, days: u32) -> (Issuer, SoftwareKey) {
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let plan = CaPlan::root(subject("Dated Root"), KeySpec::EcP256, days, None, born).unwrap();
    let issued = issue_root(plan, serial(), &key).await.unwrap();
    (Issuer::from_certificate(&issued.der, IssuerUrls::default()).unwrap(), key)
}

fn role() -> Role {
    config(KeySpec::EcP256).compile().unwrap()
}

fn rules(refused: &Refused) -> Vec<(&str, &str)> {
    refused.violations.iter().map(|violation| (violation.field.as_str(), violation.rule)).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[tokio::test]
async fn sec_e1_every_forbidden_name_of_a_request_is_listed() {
    let (issuer, _) = root(BORN, 3650).await;
    let asked = IssueRequest {
        common_name: Some("Alice".to_owned()),
        alt_names: strings(&[
            "a.svc.test",
            "evil.test",
            "a@svc.test",
            "https://a.svc.test",
            "10.0.0.1",
            "bücher.svc.test",
            "a.b.svc.test",
        ]),
        ip_sans: strings(&["10.0.0.1", "10.0.0.0/8", "::ffff:10.0.0.1"]),
        ttl: Some(31 * DAY),
        ..IssueRequest::default()
    };
    let mut config = config(KeySpec::EcP256);
    config.allow_ip_sans = false;
    let refused = config.compile().unwrap().admit(&asked, &issuer, BORN).unwrap_err();
    let expected = [
        ("common_name", "allowed_domains"),
        ("alt_names[1]", "allowed_domains"),
        ("alt_names[2]", "dns_name"),
        ("alt_names[3]", "dns_name"),
        ("alt_names[4]", "dns_name"),
        ("alt_names[5]", "dns_name"),
        ("alt_names[6]", "allowed_domains"),
        ("ip_sans[0]", "allow_ip_sans"),
        ("ip_sans[1]", "ip_address"),
        ("ip_sans[2]", "ip_address"),
        ("ttl", "max_ttl"),
    ];
    assert_eq!(rules(&refused), expected);
    assert!(refused.to_string().contains("xn--"), "says how to write it: {refused}");
}

#[tokio::test]
async fn a_common_name_is_a_host_or_an_address() {
    let (issuer, _) = root(BORN, 3650).await;
    let common = |text: &str| role().admit(&request(text), &issuer, BORN);
    assert_eq!(common("API.svc.test").unwrap().dns_names()[0].as_str(), "api.svc.test");
    for (text, canonical) in [("10.0.0.1", "10.0.0.1"), ("2001:DB8::0:1", "2001:db8::1")] {
        let plan = common(text).unwrap();
        assert_eq!(plan.common_name(), Some(canonical));
        assert_eq!(plan.ip_addresses()[0].to_string(), canonical);
        assert!(plan.dns_names().is_empty());
    }
    for text in
        ["", "Alice", "Alice Smith", "a@svc.test", "::ffff:10.0.0.1", "010.0.0.1", "urn:x", &"a.".repeat(40)]
    {
        let refused = common(text).unwrap_err();
        assert_eq!(refused.violations.len(), 1, "{text}: {refused}");
        assert_eq!(refused.violations[0].field, "common_name");
    }
}

#[tokio::test]
async fn names_are_needed_and_bounded() {
    let (issuer, _) = root(BORN, 3650).await;
    let refused = role().admit(&IssueRequest::default(), &issuer, BORN).unwrap_err();
    assert_eq!(rules(&refused), [("common_name", "no_name")]);
    let mut strict = config(KeySpec::EcP256);
    strict.require_cn = true;
    let asked = IssueRequest { alt_names: strings(&["a.svc.test"]), ..IssueRequest::default() };
    let refused = strict.compile().unwrap().admit(&asked, &issuer, BORN).unwrap_err();
    assert_eq!(rules(&refused), [("common_name", "require_cn")]);

    let many = |count: usize| IssueRequest {
        alt_names: (0..count).map(|n| format!("n{n}.svc.test")).collect(),
        ..IssueRequest::default()
    };
    assert_eq!(role().admit(&many(100), &issuer, BORN).unwrap().dns_names().len(), 100);
    assert_eq!(rules(&role().admit(&many(101), &issuer, BORN).unwrap_err()), [("alt_names", "count")]);
    assert_eq!(role().admit(&many(1_000_000), &issuer, BORN).unwrap_err().violations.len(), 1);
}

#[tokio::test]
async fn sec_e2_addresses_are_written_once_and_plainly() {
    let (issuer, _) = root(BORN, 3650).await;
    let asked = IssueRequest {
        ip_sans: strings(&["10.0.0.1", "2001:db8::1", "2001:0DB8:0::1", "10.0.0.1"]),
        ..IssueRequest::default()
    };
    let plan = role().admit(&asked, &issuer, BORN).unwrap();
    assert_eq!(
        plan.ip_addresses(),
        ["10.0.0.1".parse::<std::net::IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]
    );
    for bad in ["::ffff:10.0.0.1", "fe80::1%eth0", "010.0.0.1", "10.0.0.1/32", "::/0"] {
        let asked = IssueRequest { ip_sans: strings(&[bad]), ..IssueRequest::default() };
        assert_eq!(
            rules(&role().admit(&asked, &issuer, BORN).unwrap_err()),
            [("ip_sans[0]", "ip_address")],
            "{bad}"
        );
    }
}

#[tokio::test]
async fn sec_e4_a_life_never_exceeds_what_the_role_and_the_issuer_allow() {
    let (issuer, _) = root(BORN, 20).await;
    let life = |ttl: Option<Duration>, now: OffsetDateTime| {
        role().admit(&IssueRequest { ttl, ..request("a.svc.test") }, &issuer, now)
    };
    // To the second, both ends included, and counted from now.
    let plan = life(Some(DAY), BORN).unwrap();
    assert_eq!(
        (plan.not_before(), plan.not_after()),
        (issuer.not_before(), datetime!(2026-10-06 11:59:59 UTC))
    );
    let plan = life(Some(SECOND), BORN + 1.hours() + 999.milliseconds()).unwrap();
    assert_eq!(plan.not_before(), BORN + 55.minutes());
    assert_eq!(plan.not_after(), BORN + 1.hours());
    // The issuer's last second, and the one after it.
    assert_eq!(life(Some(20 * DAY), BORN).unwrap().not_after(), issuer.not_after());
    let refused = life(Some(20 * DAY + SECOND), BORN).unwrap_err();
    assert_eq!(rules(&refused), [("ttl", "issuer_validity")]);
    assert!(refused.to_string().contains("2026-10-25T11:59:59Z"), "names the issuer's end: {refused}");
    // The default is cut instead.
    assert_eq!(life(None, BORN + 18.days()).unwrap().not_after(), issuer.not_after());
    assert_eq!(life(None, issuer.not_after()).unwrap().not_after(), issuer.not_after());
    // A clock that stepped out of the issuer's life.
    for now in [
        BORN - 1.days(),
        issuer.not_before() - 1.seconds(),
        issuer.not_after() + 1.seconds(),
        BORN + 21.days(),
    ] {
        assert_eq!(rules(&life(None, now).unwrap_err()), [("ttl", "issuer_validity")], "{now}");
    }
    for (ttl, rule) in [
        (30 * DAY + SECOND, "max_ttl"),
        (Duration::MAX, "range"),
        (Duration::ZERO, "range"),
        (Duration::from_millis(1500), "range"),
    ] {
        assert_eq!(rules(&life(Some(ttl), BORN).unwrap_err()), [("ttl", rule)], "{ttl:?}");
    }
    let whole = Duration::from_secs(u64::MAX);
    assert_eq!(rules(&life(Some(whole), BORN).unwrap_err()), [("ttl", "max_ttl")]);
}

#[tokio::test]
async fn sec_e4_a_plan_is_for_the_issuer_that_it_was_admitted_under() {
    let (issuer, key) = root(BORN, 3650).await;
    let (short, short_key) = root(BORN, 2).await;
    let (leaf_key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let plan = role().admit(&request("a.svc.test"), &issuer, BORN).unwrap();
    let error = issue_leaf(plan, serial(), leaf_key.public_key_der(), &short, &short_key).await.unwrap_err();
    assert!(error.to_string().contains("another issuer"), "{error}");
    let plan = CaPlan::intermediate(subject("Sub"), KeySpec::EcP256, 1, None, &issuer, BORN).unwrap();
    let error =
        issue_intermediate(plan, serial(), leaf_key.public_key_der(), &short, &key).await.unwrap_err();
    assert!(error.to_string().contains("this parent"), "{error}");
}

#[tokio::test]
async fn a_ca_keeps_within_its_parent() {
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let plan = CaPlan::root(subject("Bounded"), KeySpec::EcP256, 100, Some(1), BORN).unwrap();
    let issued = issue_root(plan, serial(), &key).await.unwrap();
    let parent = Issuer::from_certificate(&issued.der, IssuerUrls::default()).unwrap();
    let below = |name: &str, days, length, now| {
        CaPlan::intermediate(subject(name), KeySpec::EcP256, days, length, &parent, now)
    };
    let plan = below("Sub", 1825, None, BORN + 1.days()).unwrap();
    assert_eq!((plan.not_after(), plan.max_path_length()), (parent.not_after(), Some(0)));
    assert_eq!(rules(&below("Sub", 10, Some(1), BORN).unwrap_err()), [("max_path_length", "path_length")]);
    assert_eq!(
        rules(&below("Bounded", 10, None, BORN).unwrap_err()),
        [("common_name", "distinct_from_parent")]
    );
    assert_eq!(
        rules(&below("Sub", 10, None, BORN + 101.days()).unwrap_err()),
        [("parent_ca_id", "issuer_validity")]
    );
    let all = below("", 0, Some(9), BORN - 1.days()).unwrap_err();
    let expected = [
        ("common_name", "length"),
        ("validity_days", "range"),
        ("parent_ca_id", "issuer_validity"),
        ("max_path_length", "path_length"),
    ];
    assert_eq!(rules(&all), expected);

    let (sub_key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let plan = below("Sub", 10, None, BORN).unwrap();
    let error = issue_intermediate(plan, serial(), key.public_key_der(), &parent, &key).await.unwrap_err();
    assert!(error.to_string().contains("parent's own key"), "{error}");
    let plan = below("Sub", 10, None, BORN).unwrap();
    let issued = issue_intermediate(plan, serial(), sub_key.public_key_der(), &parent, &key).await.unwrap();
    let sub = Issuer::from_certificate(&issued.der, IssuerUrls::default()).unwrap();
    let refused = CaPlan::intermediate(subject("Deep"), KeySpec::EcP256, 10, None, &sub, BORN).unwrap_err();
    assert_eq!(rules(&refused), [("parent_ca_id", "path_length")]);
}

#[test]
fn every_bad_field_of_a_role_is_named() {
    let mut bad = config(KeySpec::EcP256);
    bad.name = "../x".to_owned();
    bad.allowed_domains = strings(&["ok.test", "*", "a.*.b", "10.0.0.1", "x_y.test", "*.*.test", "é.test"]);
    bad.max_ttl = Duration::from_millis(10);
    bad.default_ttl = DAY;
    (bad.client_flag, bad.server_flag) = (false, false);
    let refused = bad.compile().unwrap_err();
    let fields: Vec<_> = refused.violations.iter().map(|violation| violation.field.as_str()).collect();
    let expected = [
        "name",
        "allowed_domains[1]",
        "allowed_domains[2]",
        "allowed_domains[3]",
        "allowed_domains[4]",
        "allowed_domains[5]",
        "allowed_domains[6]",
        "max_ttl",
        "default_ttl",
        "server_flag",
    ];
    assert_eq!(fields, expected);
    let mut nothing = config(KeySpec::EcP256);
    (nothing.allowed_domains, nothing.allow_ip_sans) = (vec![], false);
    assert_eq!(rules(&nothing.compile().unwrap_err()), [("allowed_domains", "empty")]);
}

#[tokio::test]
async fn only_ca_certificates_make_issuers() {
    let (issuer, key) = root(BORN, 3650).await;
    let (leaf_key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let plan = role().admit(&request("a.svc.test"), &issuer, BORN).unwrap();
    let leaf = issue_leaf(plan, serial(), leaf_key.public_key_der(), &issuer, &key).await.unwrap();
    let read = |der: &[u8]| Issuer::from_certificate(der, IssuerUrls::default());
    assert!(read(&leaf.der).unwrap_err().to_string().contains("not that of a CA"));
    let der = issuer.certificate_der();
    assert!(read(&[der, &[0]].concat()).is_err() && read(&[]).is_err() && read(&[0x30; 70_000]).is_err());
    for cut in 0..der.len() {
        assert!(read(&der[..cut]).is_err());
    }
    for url in [
        "ftp://x/crl",
        "http://",
        "http:///x",
        "x",
        "http://a b/",
        "http://a/\n",
        "http://é/",
        &format!("http://{}", "a".repeat(1024)),
    ] {
        let urls = IssuerUrls { crl_url: Some(url.to_owned()), ocsp_url: None };
        assert!(Issuer::from_certificate(der, urls).is_err(), "{url}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is asked, whatever is admitted keeps the rules; a second reading of them, in plain words.
    #[test]
    fn whatever_is_admitted_keeps_the_rules(
        common_name in prop::option::of(name_text()),
        alt_names in prop::collection::vec(name_text(), 0..4),
        ip_sans in prop::collection::vec("[0-9a-f:./%]{0,16}|10\\.0\\.0\\.[0-9]{1,3}", 0..3),
        ttl in prop::option::of(0_u64..4_000_000),
        step in -100_000_i64..3_000_000,
    ) {
        let (issuer, _) = block_on(root(BORN, 30));
        let now = BORN + time::Duration::seconds(step);
        let ttl = ttl.map(Duration::from_secs);
        let asked = IssueRequest { common_name, alt_names, ip_sans, ttl, ..IssueRequest::default() };
        match role().admit(&asked, &issuer, now) {
            Err(refused) => prop_assert!(!refused.violations.is_empty()),
            Ok(plan) => {
                for name in plan.dns_names() {
                    let label = name.as_str().strip_suffix("svc.test").unwrap();
                    prop_assert!(label.is_empty() || label.ends_with('.') && label.matches('.').count() == 1);
                }
                prop_assert!(!plan.dns_names().is_empty() || !plan.ip_addresses().is_empty());
                let life = plan.not_after() - now + 1.seconds();
                prop_assert!(life <= ttl.unwrap_or(7 * DAY) && life <= 30 * DAY && life >= 1.seconds());
                prop_assert!(plan.not_after() <= issuer.not_after() && plan.not_before() >= issuer.not_before());
                prop_assert!(now - plan.not_before() <= 5.minutes());
            }
        }
    }
}

fn name_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z*.-]{0,3}(svc)?\\.(svc\\.test|test|evil)",
        "(\\*|a|b-1)\\.svc\\.test",
        "svc\\.test",
        "\\PC{0,12}"
    ]
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
