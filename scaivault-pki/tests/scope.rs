//! Shards and deltas of revocation lists, as OpenSSL reads them.

mod common;

use common::{Bench, Ca, DAY, HOUR, now, request};
use scaivault_kms::KeySpec;
use scaivault_pki::{CrlEntry, CrlScope, PkiError, RevocationReason, Serial, build_crl_of, pem};

fn entry(serial: &Serial, reason: RevocationReason) -> CrlEntry {
    CrlEntry { serial: serial.clone(), revoked_at: now() - HOUR, reason }
}

async fn list(ca: &Ca, scope: &CrlScope, number: u64, entries: Vec<CrlEntry>) -> Result<Vec<u8>, PkiError> {
    let times = [now() - HOUR, now() + DAY];
    build_crl_of(&ca.issuer, &ca.key, scope, number, times, entries.into_iter()).await
}

/// Where the leaves of `Ca::root` say that their list is.
const POINT: &str = "http://pki.test/root/crl";

#[tokio::test]
async fn a_list_counts_for_the_certificates_of_its_distribution_point_alone() {
    let (bench, ca) = (Bench::new(), Ca::root(KeySpec::EcP256, None).await);
    bench.write("ca.pem", ca.issued.pem());
    let (leaf, _) = ca.leaf(KeySpec::EcP256, &request("a.svc.test")).await;
    bench.write("leaf.pem", leaf.pem());
    let verify = "verify -crl_check -extended_crl -x509_strict -CAfile ca.pem -CRLfile list.pem leaf.pem";
    for (point, revoked, agrees, said) in [
        (POINT, false, true, "leaf.pem: OK"),
        (POINT, true, false, "certificate revoked"),
        ("http://pki.test/root/crl/2", false, false, "ifferent CRL scope"),
    ] {
        let scope = CrlScope { distribution_point: Some(point.to_owned()), ..CrlScope::default() };
        let entries = match revoked {
            true => vec![entry(&leaf.serial, RevocationReason::Superseded)],
            false => Vec::new(),
        };
        bench.write("list.pem", pem::encode("X509 CRL", &list(&ca, &scope, 2, entries).await.unwrap()));
        let (agreed, text) = bench.openssl(verify);
        assert!(agreed == agrees && text.contains(said), "{point} {revoked}: {text}");
        let text = bench.ok("crl -in list.pem -noout -text");
        assert!(text.contains("Issuing Distribution Point: critical") && text.contains(point), "{text}");
    }
}

#[tokio::test]
async fn a_delta_adds_to_its_base_and_takes_away() {
    let (bench, ca) = (Bench::new(), Ca::root(KeySpec::EcP256, None).await);
    let serials = [Serial::from_random([0xa1; 16]), Serial::from_random([0xa2; 16])];
    let scope = CrlScope {
        delta_base: Some(4),
        released: vec![(serials[1].clone(), now())],
        expired_since: Some(now()),
        ..CrlScope::default()
    };
    let delta = list(&ca, &scope, 6, vec![entry(&serials[0], RevocationReason::KeyCompromise)]).await;
    bench.write("delta.pem", pem::encode("X509 CRL", &delta.unwrap()));
    let text = bench.ok("crl -in delta.pem -noout -text");
    let flat = text.replace(char::is_whitespace, "");
    assert!(
        flat.contains("X509v3DeltaCRLIndicator:critical4X509v3")
            || flat.contains("DeltaCRLIndicator:critical4")
    );
    assert!(text.contains("Key Compromise") && text.contains("Remove From CRL"), "{text}");
    let complete =
        CrlScope { freshest: Some("http://pki.test/root/delta".to_owned()), ..CrlScope::default() };
    bench.write("full.pem", pem::encode("X509 CRL", &list(&ca, &complete, 7, Vec::new()).await.unwrap()));
    let text = bench.ok("crl -in full.pem -noout -text");
    assert!(text.contains("Freshest CRL") && text.contains("http://pki.test/root/delta"), "{text}");
}

#[tokio::test]
async fn a_scope_that_contradicts_itself_is_refused() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let url = || Some("http://pki.test/x".to_owned());
    let released = vec![(Serial::from_random([1; 16]), now())];
    for (scope, field) in [
        (CrlScope { delta_base: Some(2), ..CrlScope::default() }, "delta_base"),
        (CrlScope { delta_base: Some(1), freshest: url(), ..CrlScope::default() }, "freshest"),
        (CrlScope { released, ..CrlScope::default() }, "released"),
        (
            CrlScope { distribution_point: Some("ldap://x".into()), ..CrlScope::default() },
            "distribution_point",
        ),
        (CrlScope { freshest: Some(String::new()), ..CrlScope::default() }, "freshest"),
    ] {
        let refused = list(&ca, &scope, 2, Vec::new()).await;
        assert!(
            matches!(refused, Err(PkiError::Invalid { field: named, .. }) if named == field),
            "{scope:?}"
        );
    }
}
