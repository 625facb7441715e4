//! Hierarchies, leaves and revocation lists as OpenSSL judges them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Bench, Ca, DAY, HOUR, SPECS, now, request, role, serial};
use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{CrlEntry, IssueRequest, RevocationReason, build_crl, issue_leaf, pem};

async fn crl(ca: &Ca, number: u64, entries: Vec<CrlEntry>) -> String {
    let der = build_crl(&ca.issuer, &ca.key, number, now(), now() + DAY, entries.into_iter()).await.unwrap();
    pem::encode("X509 CRL", &der)
}

const VERIFY: &str = "verify -x509_strict -crl_check_all -check_ss_sig -policy_check -CAfile root.pem -untrusted sub.pem -CRLfile crls.pem";

#[tokio::test]
async fn a_leaf_verifies_until_it_is_revoked() {
    for spec in SPECS {
        let root = Ca::root(spec, None).await;
        let sub = root.below("Test Intermediate", spec).await;
        let names = IssueRequest {
            common_name: Some("api.svc.test".to_owned()),
            alt_names: vec!["*.svc.test".to_owned(), "svc.test".to_owned(), "API.svc.test".to_owned()],
            ip_sans: vec!["10.1.2.3".to_owned(), "2001:db8::1".to_owned(), "10.1.2.3".to_owned()],
            ttl: Some(HOUR),
            ..IssueRequest::default()
        };
        let (leaf, key) = sub.leaf(spec, &names).await;
        let bench = Bench::new();
        bench.write("root.pem", root.issued.pem());
        bench.write("sub.pem", sub.issued.pem());
        bench.write("leaf.pem", leaf.pem());
        bench.write("leaf.key", pem::encode_private_key(&key).as_bytes());
        let root_crl = crl(&root, 1, vec![]).await;
        bench.write("crls.pem", format!("{root_crl}{}", crl(&sub, 1, vec![]).await));

        for purpose in
            ["sslserver -verify_hostname x.svc.test", "sslclient", "sslserver -verify_ip 2001:db8::1"]
        {
            bench.ok(&format!("{VERIFY} -purpose {purpose} leaf.pem"));
        }
        let (content, _) = bench.openssl(&format!("{VERIFY} -verify_hostname a.b.svc.test leaf.pem"));
        assert!(!content, "another name must not verify");
        let text = bench.ok("x509 -in leaf.pem -noout -text -ext subjectAltName");
        let names = "DNS:api.svc.test, DNS:*.svc.test, DNS:svc.test, IP Address:10.1.2.3, IP Address:2001:DB8:0:0:0:0:0:1";
        assert!(text.contains(names), "{text}");
        assert_eq!(bench.ok("x509 -in leaf.pem -noout -pubkey"), bench.ok("pkey -in leaf.key -pubout"));
        let fingerprint = bench.ok("x509 -in leaf.pem -noout -fingerprint -sha256").replace(':', "");
        let ours: String = leaf.fingerprint_sha256.iter().map(|byte| format!("{byte:02X}")).collect();
        assert!(fingerprint.contains(&ours), "{fingerprint}");
        let shown = bench.ok("x509 -in leaf.pem -noout -serial");
        assert_eq!(shown.trim(), format!("serial={}", leaf.serial.to_string().replace(':', "")));

        let reason = RevocationReason::KeyCompromise;
        let entry = CrlEntry { serial: leaf.serial.clone(), revoked_at: now(), reason };
        bench.write("sub.crl", crl(&sub, 2, vec![entry]).await);
        bench.write("crls.pem", [root_crl.into_bytes(), bench.read("sub.crl")].concat());
        let (content, said) = bench.openssl(&format!("{VERIFY} leaf.pem"));
        assert!(!content && said.contains("certificate revoked"), "{said}");
        assert!(bench.ok("crl -in sub.crl -noout -verify -CAfile sub.pem").contains("verify OK"));
        let text = bench.ok("crl -in sub.crl -noout -text");
        assert!(text.contains("Key Compromise") && text.contains("X509v3 CRL Number"), "{text}");
    }
}

#[tokio::test]
async fn an_intermediate_that_is_revoked_takes_its_leaves_along() {
    let root = Ca::root(KeySpec::EcP256, None).await;
    let sub = root.below("Test Intermediate", KeySpec::EcP384).await;
    let (leaf, _) = sub.leaf(KeySpec::EcP256, &request("api.svc.test")).await;
    let bench = Bench::new();
    let entry = CrlEntry {
        serial: sub.issued.serial.clone(),
        revoked_at: now(),
        reason: RevocationReason::CessationOfOperation,
    };
    bench.write("root.pem", root.issued.pem());
    bench.write("sub.pem", sub.issued.pem());
    bench.write("leaf.pem", leaf.pem());
    bench.write("crls.pem", format!("{}{}", crl(&root, 7, vec![entry]).await, crl(&sub, 1, vec![]).await));
    let (content, said) = bench.openssl(&format!("{VERIFY} leaf.pem"));
    assert!(!content && said.contains("certificate revoked"), "{said}");
}

#[tokio::test]
async fn a_certificate_without_common_name_verifies_by_its_critical_names() {
    let root = Ca::root(KeySpec::EcP256, None).await;
    let names = IssueRequest { ip_sans: vec!["10.0.0.1".to_owned()], ..IssueRequest::default() };
    let (leaf, _) = root.leaf(KeySpec::EcP256, &names).await;
    let bench = Bench::new();
    bench.write("root.pem", root.issued.pem());
    bench.write("leaf.pem", leaf.pem());
    bench.ok("verify -x509_strict -CAfile root.pem -verify_ip 10.0.0.1 leaf.pem");
    let text = bench.ok("x509 -in leaf.pem -noout -text");
    assert!(text.contains("Subject Alternative Name: critical"), "{text}");
}

#[tokio::test]
async fn path_lengths_hold() {
    let root = Ca::root(KeySpec::EcP256, Some(1)).await;
    let sub = root.below("Test Intermediate", KeySpec::EcP256).await;
    assert_eq!(sub.issuer.max_path_length(), Some(0));
    let (leaf, _) = sub.leaf(KeySpec::EcP256, &request("a.svc.test")).await;
    let bench = Bench::new();
    bench.write("root.pem", root.issued.pem());
    bench.write("sub.pem", sub.issued.pem());
    bench.write("leaf.pem", leaf.pem());
    bench.ok("verify -x509_strict -CAfile root.pem -untrusted sub.pem leaf.pem");
}

#[tokio::test]
async fn only_the_issuers_key_signs_and_only_the_due_key_is_certified() {
    let root = Ca::root(KeySpec::EcP256, None).await;
    let (other, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let (weak, _) = SoftwareKey::generate(KeySpec::EcP384).unwrap();
    let plan = || role(KeySpec::EcP256).admit(&request("a.svc.test"), &root.issuer, now()).unwrap();
    let spki = other.public_key_der();
    let error = issue_leaf(plan(), serial(), spki, &root.issuer, &other).await.unwrap_err();
    assert!(error.to_string().contains("not the key of the issuer"), "{error}");
    let error =
        issue_leaf(plan(), serial(), weak.public_key_der(), &root.issuer, &root.key).await.unwrap_err();
    assert!(error.to_string().contains("role demands ec-p256"), "{error}");
    let own = root.key.public_key_der();
    let error = issue_leaf(plan(), serial(), own, &root.issuer, &root.key).await.unwrap_err();
    assert!(error.to_string().contains("issuer itself"), "{error}");
}
