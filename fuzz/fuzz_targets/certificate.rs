//! Certificates of issuers: what is read is kept, and nothing below an issuer outlives it or goes beyond it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scaivault_fuzz::{
    ISSUER_KEY, NOW, REQUEST_KEY, no_defect, role, run, serial, subject, transplant_certificate, urls,
};
use scaivault_kms::{KeySpec, SigningKey as _};
use scaivault_pki::{
    CaPlan, CrlEntry, IssueRequest, Issued, Issuer, RevocationReason, Role, build_crl, issue_intermediate,
    issue_leaf,
};
use time::OffsetDateTime;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

static ROLE: LazyLock<Role> = LazyLock::new(|| role(KeySpec::EcP256));

fuzz_target!(|data: &[u8]| {
    let Ok(issuer) = Issuer::from_certificate(data, urls()) else { return };
    check(data, &issuer);
    let Some(transplanted) = transplant_certificate(data) else { return };
    if let Ok(issuer) = Issuer::from_certificate(&transplanted, urls()) {
        for now in times(&issuer) {
            issue(&issuer, now);
        }
    }
});

fn times(issuer: &Issuer) -> [OffsetDateTime; 3] {
    [NOW, issuer.not_before(), issuer.not_after()]
}

fn check(data: &[u8], issuer: &Issuer) {
    assert_eq!(issuer.certificate_der(), data);
    let (rest, certificate) = X509Certificate::from_der(data).expect("it was read before");
    assert!(rest.is_empty() && certificate.is_ca());
    assert_eq!(certificate.subject().as_raw(), issuer.name_der());
    assert!(!issuer.key_id().is_empty(), "an empty key identifier");
    for now in times(issuer) {
        let valid = issuer.not_before() <= now && now <= issuer.not_after();
        for asked in [None, Some(0), Some(255)] {
            let name = subject("A name that is not the issuer's");
            match CaPlan::intermediate(name, KeySpec::EcP384, 36_525, asked, issuer, now) {
                Ok(plan) => {
                    assert!(valid);
                    assert!(
                        plan.not_after() <= issuer.not_after() && issuer.not_before() <= plan.not_before()
                    );
                    assert!(plan.not_before() <= plan.not_after());
                    if let Some(limit) = issuer.max_path_length() {
                        assert!(plan.max_path_length().is_some_and(|length| u32::from(length) < limit));
                    }
                }
                Err(refused) => assert!(!refused.violations.is_empty()),
            }
        }
        let request = IssueRequest { common_name: Some("a.test".into()), ..IssueRequest::default() };
        match ROLE.admit(&request, issuer, now) {
            Ok(plan) => {
                assert!(valid);
                assert!(plan.not_after() <= issuer.not_after() && issuer.not_before() <= plan.not_before());
                assert!(plan.not_before() <= plan.not_after());
            }
            Err(refused) => assert!(!refused.violations.is_empty()),
        }
    }
}

/// Issues under it whatever there is to issue: an issuer that was accepted does not make the lint stop us.
fn issue(issuer: &Issuer, now: OffsetDateTime) {
    let name = subject("Below");
    if let Ok(plan) = CaPlan::intermediate(name, KeySpec::EcP256, 36_525, None, issuer, now) {
        let key = REQUEST_KEY.public_key_der();
        let made = run(issue_intermediate(plan, serial(), key, issuer, &*ISSUER_KEY));
        if let Some(made) = no_defect(made) {
            check_issued(issuer, &made);
            let below = Issuer::from_certificate(&made.der, urls()).expect("one of our own");
            assert!(below.not_after() <= issuer.not_after());
        }
    }
    let request = IssueRequest { common_name: Some("a.test".into()), ..IssueRequest::default() };
    if let Ok(plan) = ROLE.admit(&request, issuer, now) {
        let key = REQUEST_KEY.public_key_der();
        if let Some(made) = no_defect(run(issue_leaf(plan, serial(), key, issuer, &*ISSUER_KEY))) {
            check_issued(issuer, &made);
        }
    }
    let entry = CrlEntry { serial: serial(), revoked_at: NOW, reason: RevocationReason::Superseded };
    let until = NOW + time::Duration::days(1);
    let made = run(build_crl(issuer, &*ISSUER_KEY, 1, NOW, until, [entry].into_iter()));
    if let Some(list) = no_defect(made) {
        let (rest, list) = CertificateRevocationList::from_der(&list).expect("a list");
        assert!(rest.is_empty());
        assert_eq!(list.issuer().as_raw(), issuer.name_der());
    }
}

fn check_issued(issuer: &Issuer, issued: &Issued) {
    let (rest, made) = X509Certificate::from_der(&issued.der).expect("a certificate");
    assert!(rest.is_empty());
    assert_eq!(made.issuer().as_raw(), issuer.name_der());
    assert!(made.validity().not_after.to_datetime() <= issuer.not_after());
}
