//! Name constraints of CAs: what they refuse here, others refuse as well.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Bench, Ca, DAY, now, request, serial, subject};
use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    CaPlan, Certificate, IssueRequest, Issued, Issuer, IssuerUrls, KeyKind, KeyRule, NameConstraints,
    NameSubtrees, Refused, Role, RoleConfig, TrustAnchor, issue_intermediate, issue_leaf, issue_root, pem,
    validate,
    validate::{Evidence, Reason, Rules},
};

const SPEC: KeySpec = KeySpec::EcP256;

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|&text| text.to_owned()).collect()
}

fn limits() -> NameConstraints {
    let permitted = NameSubtrees {
        dns: strings(&["acme.test"]),
        ip: strings(&["10.0.0.0/8", "2001:db8::/32"]),
        email: strings(&["acme.test"]),
        uri: strings(&["acme.test"]),
        // What the subjects of these tests begin with.
        directory: strings(&["C=NL"]),
    };
    let excluded = NameSubtrees {
        dns: strings(&["secret.acme.test"]),
        ip: strings(&["10.9.0.0/16"]),
        email: strings(&["root@acme.test"]),
        ..NameSubtrees::default()
    };
    NameConstraints { permitted, excluded }
}

/// A role that would issue anything.
fn role() -> Role {
    let config = RoleConfig {
        name: "any".to_owned(),
        allowed_domains: strings(&["test", "*.test"]),
        allow_subdomains: true,
        allow_ip_sans: true,
        allowed_emails: strings(&["*@acme.test", "*@other.test"]),
        allowed_uris: strings(&["spiffe://acme.test/ns/*", "spiffe://other.test/*"]),
        allowed_subject_fields: strings(&["country", "organization"]),
        max_ttl: 30 * DAY,
        default_ttl: DAY,
        key: KeyRule::Kind(KeyKind::EcP256),
        require_cn: false,
        ..RoleConfig::default()
    };
    config.compile().unwrap()
}

struct Chain {
    root: Issued,
    mid: Issued,
    issuer: Issuer,
    key: SoftwareKey,
}

/// A root with constraints, or a CA below it with them.
async fn chain(at_root: bool) -> Chain {
    let limits = limits();
    let (of_root, of_mid) = if at_root { (Some(&limits), None) } else { (None, Some(&limits)) };
    let (root_key, _) = SoftwareKey::generate(SPEC).unwrap();
    let policies = strings(&["2.23.140.1.2.1", "1.3.6.1.4.1.99999.1"]);
    let plan = CaPlan::root(subject("Bounded Root"), SPEC, 100, None, now()).unwrap();
    let root = issue_root(plan.limited(of_root, &[]).unwrap(), serial(), &root_key).await.unwrap();
    let parent = Issuer::from_certificate(&root.der, IssuerUrls::default()).unwrap();
    let (key, _) = SoftwareKey::generate(SPEC).unwrap();
    let plan = CaPlan::intermediate(subject("Bounded CA"), SPEC, 50, None, &parent, now()).unwrap();
    let plan = plan.limited(of_mid, &policies).unwrap();
    let mid = issue_intermediate(plan, serial(), key.public_key_der(), &parent, &root_key).await.unwrap();
    let issuer = Issuer::from_certificate(&mid.der, IssuerUrls::default()).unwrap();
    let issuer = issuer.below([root.der.as_slice()]).unwrap();
    assert_eq!(parent.name_constraints().unwrap().as_ref(), of_root);
    assert_eq!(issuer.name_constraints().unwrap().as_ref(), of_mid);
    assert_eq!(issuer.policies().unwrap(), policies);
    Chain { root, mid, issuer, key }
}

fn rules(refused: &Refused) -> Vec<(&str, &str)> {
    refused.violations.iter().map(|v| (v.field.as_str(), v.rule)).collect()
}

fn with(country: &str, request: IssueRequest) -> IssueRequest {
    let mut request = request;
    request.subject.country = Some(country.to_owned());
    request
}

#[tokio::test]
async fn what_a_chain_permits_is_issued_and_verifies() {
    for at_root in [true, false] {
        let chain = chain(at_root).await;
        let wanted = IssueRequest {
            alt_names: strings(&["acme.test", "*.acme.test", "a.b.acme.test"]),
            ip_sans: strings(&["10.1.2.3", "2001:db8::1"]),
            email_sans: strings(&["ann@acme.test"]),
            uri_sans: strings(&["spiffe://acme.test/ns/a"]),
            ..with("NL", request("a.acme.test"))
        };
        // A wildcard may stand for what is excluded, and is not issued.
        let refused = role().admit(&wanted, &chain.issuer, now()).unwrap_err();
        assert_eq!(rules(&refused), [("alt_names[1]", "name_constraints")]);
        let wanted = IssueRequest { alt_names: strings(&["acme.test", "*.b.acme.test"]), ..wanted };
        let plan = role().admit(&wanted, &chain.issuer, now()).unwrap();
        let (key, _) = SoftwareKey::generate(SPEC).unwrap();
        let leaf = issue_leaf(plan, serial(), key.public_key_der(), &chain.issuer, &chain.key).await.unwrap();
        let verdict = judge(&chain, &leaf.der);
        assert!(verdict.valid, "{:#?}", verdict.errors);
        let bench = Bench::new();
        bench.write("root.pem", chain.root.pem());
        bench.write("mid.pem", chain.mid.pem());
        bench.write("leaf.pem", leaf.pem());
        bench.ok("verify -x509_strict -CAfile root.pem -untrusted mid.pem leaf.pem");
        let text = bench.ok("x509 -in mid.pem -noout -text") + &bench.ok("x509 -in root.pem -noout -text");
        for expected in [
            "X509v3 Name Constraints: critical",
            "DNS:acme.test",
            "IP:10.0.0.0/255.0.0.0",
            "email:root@acme.test",
            "URI:acme.test",
            "Policy: 1.3.6.1.4.1.99999.1",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}

fn judge(chain: &Chain, leaf: &[u8]) -> scaivault_pki::Validation {
    let read = |der: &[u8]| Certificate::from_der(der).unwrap();
    let anchors = [TrustAnchor::from_der(&chain.root.der).unwrap()];
    validate(&read(leaf), &[read(&chain.mid.der)], &anchors, &Evidence::default(), &Rules::at(now()))
}

#[tokio::test]
async fn sec_e4_what_a_chain_forbids_no_role_admits() {
    for at_root in [true, false] {
        let chain = chain(at_root).await;
        let free = Ca::root(SPEC, None).await.issuer;
        let base = IssueRequest::default;
        for (field, wanted) in [
            ("common_name", with("NL", request("acme.other.test"))),
            ("common_name", with("NL", request("badacme.test"))),
            ("alt_names[0]", IssueRequest { alt_names: strings(&["x.secret.acme.test"]), ..base() }),
            ("alt_names[0]", IssueRequest { alt_names: strings(&["*.acme.test"]), ..base() }),
            ("ip_sans[0]", IssueRequest { ip_sans: strings(&["10.9.1.1"]), ..base() }),
            ("ip_sans[0]", IssueRequest { ip_sans: strings(&["192.0.2.1"]), ..base() }),
            ("ip_sans[0]", IssueRequest { ip_sans: strings(&["2001:db9::1"]), ..base() }),
            ("email_sans[0]", IssueRequest { email_sans: strings(&["root@acme.test"]), ..base() }),
            ("email_sans[0]", IssueRequest { email_sans: strings(&["ann@other.test"]), ..base() }),
            ("uri_sans[0]", IssueRequest { uri_sans: strings(&["spiffe://other.test/a"]), ..base() }),
            ("subject", with("DE", request("a.acme.test"))),
        ] {
            let refused = role().admit(&wanted, &chain.issuer, now()).unwrap_err();
            assert_eq!(rules(&refused), [(field, "name_constraints")], "{wanted:?}");
            // The dry run says the same.
            let tested = role().test(&wanted, &chain.issuer, now());
            assert_eq!(tested.violations, refused.violations);
            assert!(role().admit(&wanted, &free, now()).is_ok(), "the role alone admits it: {wanted:?}");
        }
    }
}

#[tokio::test]
async fn a_ca_does_not_widen_what_its_parent_permits() {
    let chain = chain(true).await;
    let plan = || CaPlan::intermediate(subject("Sub"), SPEC, 10, None, &chain.issuer, now()).unwrap();
    let only = |dns: &str| NameConstraints {
        permitted: NameSubtrees { dns: strings(&[dns]), ..NameSubtrees::default() },
        ..NameConstraints::default()
    };
    assert!(plan().limited(Some(&only("b.acme.test")), &[]).is_ok());
    for dns in ["test", "other.test", "secret.acme.test", "a.secret.acme.test"] {
        let refused = plan().limited(Some(&only(dns)), &[]).unwrap_err();
        assert_eq!(rules(&refused), [("name_constraints.permitted.dns[0]", "within_parent")], "{dns}");
    }
    let refused = plan().limited(None, &strings(&["1.2.3", "x", "1.2.3"])).unwrap_err();
    assert_eq!(rules(&refused), [("policies[1]", "oid"), ("policies[2]", "single")]);
    // Its own name is held against the constraints above, too.
    let foreign = scaivault_pki::Subject { country: Some("DE".to_owned()), ..subject("Sub") };
    let refused = CaPlan::intermediate(foreign, SPEC, 10, None, &chain.issuer, now()).unwrap_err();
    assert_eq!(rules(&refused), [("subject", "name_constraints")]);
}

/// A leaf whose CA was made without regard to the root's constraints is refused by the validator for that reason.
#[tokio::test]
async fn the_validator_finds_what_an_issuer_would_overlook() {
    let chain = chain(true).await;
    // The issuer without what stands above it.
    let careless = Issuer::from_certificate(&chain.mid.der, IssuerUrls::default()).unwrap();
    let wanted = with("NL", request("a.other.test"));
    let plan = role().admit(&wanted, &careless, now()).unwrap();
    let (key, _) = SoftwareKey::generate(SPEC).unwrap();
    let leaf = issue_leaf(plan, serial(), key.public_key_der(), &careless, &chain.key).await.unwrap();
    let verdict = judge(&chain, &leaf.der);
    assert!(!verdict.valid && verdict.errors.iter().all(|e| e.reason == Reason::NameConstraint));
    let bench = Bench::new();
    bench.write("root.pem", chain.root.pem());
    bench.write("mid.pem", chain.mid.pem());
    bench.write("leaf.pem", pem::encode("CERTIFICATE", &leaf.der));
    let (agreed, said) = bench.openssl("verify -CAfile root.pem -untrusted mid.pem leaf.pem");
    assert!(!agreed && said.contains("permitted subtree violation"), "{said}");
}
