//! OCSP requests that OpenSSL wrote, and answers that it judges.

mod common;

use common::{Bench, Ca, DAY, HOUR, SPECS, now, request};
use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    PkiError, RevocationReason, Serial,
    ocsp::{
        CertStatus, OcspError, OcspRequest, decode_get_path, error_response, issue_responder, respond,
        respond_by,
    },
};

/// A folder with the certificates of two leaves and their issuer.
async fn bench(spec: KeySpec) -> (Bench, Ca) {
    let ca = Ca::root(spec, None).await;
    let bench = Bench::new();
    bench.write("ca.pem", ca.issued.pem());
    for name in ["a", "b"] {
        let (leaf, _) = ca.leaf(spec, &request(&format!("{name}.svc.test"))).await;
        bench.write(&format!("{name}.pem"), leaf.pem());
    }
    (bench, ca)
}

async fn answer(ca: &Ca, request: &OcspRequest, statuses: &[CertStatus]) -> Result<Vec<u8>, PkiError> {
    respond(request, statuses, &ca.issuer, &ca.key, now() - HOUR, now() + DAY, now()).await
}

#[tokio::test]
async fn every_status_arrives_with_and_without_nonce_by_either_hash() {
    for spec in SPECS {
        let (bench, ca) = bench(spec).await;
        let revoked_for = |reason| CertStatus::Revoked { at: now() - HOUR, reason };
        let cases = [
            (CertStatus::Good, "a.pem: good"),
            (revoked_for(RevocationReason::KeyCompromise), "Reason: keyCompromise"),
            (revoked_for(RevocationReason::AaCompromise), "a.pem: revoked"),
            (revoked_for(RevocationReason::Unspecified), "a.pem: revoked"),
            (CertStatus::Unknown, "a.pem: unknown"),
        ];
        for hash in ["-sha1", "-sha256"] {
            for nonce in ["-nonce", "-no_nonce"] {
                let ask = format!("ocsp {hash} -issuer ca.pem -cert a.pem {nonce}");
                bench.ok(&format!("{ask} -reqout req.der"));
                let request = OcspRequest::parse(&bench.read("req.der")).unwrap();
                assert!(request.cert_ids()[0].matches(&ca.issuer));
                assert_eq!(request.nonce().is_some(), nonce == "-nonce");
                for (status, expected) in cases {
                    bench.write("resp.der", answer(&ca, &request, &[status]).await.unwrap());
                    let said = bench.ok(&format!(
                        "ocsp {hash} -issuer ca.pem -cert a.pem -no_nonce -reqin req.der -respin resp.der -CAfile ca.pem"
                    ));
                    assert!(said.contains("Response verify OK") && said.contains(expected), "{said}");
                    assert!(!said.contains("nonce"), "{said}");
                    let unspecified = status == revoked_for(RevocationReason::Unspecified);
                    assert!(!(unspecified && said.contains("Reason")), "{said}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_delegate_answers_in_the_name_of_its_ca_alone() {
    for spec in SPECS {
        let (bench, ca) = bench(spec).await;
        let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
        let (serial, week) = (Serial::from_random([9; 16]), std::time::Duration::from_secs(7 * 86_400));
        let at = now();
        let made = issue_responder(serial, key.public_key_der(), week, &ca.issuer, &ca.key, at).await;
        let responder = made.unwrap();
        let last = at.replace_nanosecond(0).unwrap() + 7 * DAY - time::Duration::SECOND;
        assert_eq!(responder.issued().not_after, last);
        bench.write("responder.pem", responder.issued().pem());
        let text = bench.ok("x509 -in responder.pem -noout -text");
        for expected in ["OCSP Signing", "OCSP No Check", "CA:FALSE", "Digital Signature"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        for absent in ["Certificate Sign", "Authority Information", "CRL Distribution", "Subject Alternative"]
        {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        bench.ok("ocsp -issuer ca.pem -cert a.pem -nonce -reqout req.der");
        let request = OcspRequest::parse(&bench.read("req.der")).unwrap();
        let ask = async |by: &SoftwareKey, issuer, at| {
            respond_by(&request, &[CertStatus::Good], issuer, &responder, by, [at, at + HOUR, at]).await
        };
        bench.write("resp.der", ask(&key, &ca.issuer, now()).await.unwrap());
        let said = bench.ok(
            "ocsp -issuer ca.pem -cert a.pem -reqin req.der -respin resp.der -CAfile ca.pem -resp_text -no_nonce",
        );
        assert!(said.contains("Response verify OK") && said.contains("a.pem: good"), "{said}");
        assert!(
            said.contains("CN = OCSP responder") || said.contains("CN=OCSP responder"),
            "its certificate goes with the answer: {said}"
        );

        let other = Ca::root(spec, None).await;
        let refused = |answer| matches!(answer, Err(PkiError::Invalid { field: "responder" | "key", .. }));
        assert!(refused(ask(&key, &other.issuer, now()).await), "of another issuer");
        assert!(refused(ask(&key, &ca.issuer, now() + 8 * DAY).await), "after its end");
        assert!(refused(ask(&SoftwareKey::generate(KeySpec::EcP256).unwrap().0, &ca.issuer, now()).await));
    }
}

#[tokio::test]
async fn one_answer_serves_several_certificates() {
    let (bench, ca) = bench(KeySpec::EcP256).await;
    bench.ok("ocsp -issuer ca.pem -cert a.pem -cert b.pem -reqout req.der");
    let request = OcspRequest::parse(&bench.read("req.der")).unwrap();
    let reason = RevocationReason::CertificateHold;
    let statuses = [CertStatus::Good, CertStatus::Revoked { at: now() - HOUR, reason }];
    bench.write("resp.der", answer(&ca, &request, &statuses).await.unwrap());
    let said = bench
        .ok("ocsp -issuer ca.pem -cert a.pem -cert b.pem -no_nonce -reqin req.der -respin resp.der -CAfile ca.pem");
    assert!(said.contains("a.pem: good") && said.contains("b.pem: revoked"), "{said}");
    assert!(answer(&ca, &request, &statuses[..1]).await.is_err(), "one status for each certificate");
}

#[tokio::test]
async fn nothing_is_said_of_certificates_of_another_issuer() {
    let (bench, ca) = bench(KeySpec::EcP256).await;
    let other = Ca::root(KeySpec::EcP256, None).await;
    bench.ok("ocsp -issuer ca.pem -cert a.pem -reqout req.der");
    let request = OcspRequest::parse(&bench.read("req.der")).unwrap();
    // Same name, another key: only both hashes together name an issuer.
    assert_eq!(other.issuer.name_der(), ca.issuer.name_der());
    assert!(!request.cert_ids()[0].matches(&other.issuer));
    assert!(matches!(answer(&other, &request, &[CertStatus::Good]).await, Err(PkiError::Lint(_))));
    assert!(answer(&other, &request, &[CertStatus::Unknown]).await.is_ok());
}

#[tokio::test]
async fn times_out_of_order_are_not_signed() {
    let (bench, ca) = bench(KeySpec::EcP256).await;
    bench.ok("ocsp -issuer ca.pem -cert a.pem -reqout req.der");
    let request = OcspRequest::parse(&bench.read("req.der")).unwrap();
    let at = now();
    for (this, next, produced) in [(at, at, at), (at + HOUR, at + DAY, at), (at, at + HOUR, at + DAY)] {
        let answer = respond(&request, &[CertStatus::Good], &ca.issuer, &ca.key, this, next, produced).await;
        assert!(matches!(answer, Err(PkiError::Invalid { field: "produced_at", .. })));
    }
}

#[test]
fn errors_are_what_openssl_calls_them() {
    let bench = Bench::new();
    let cases = [
        (OcspError::MalformedRequest, "malformedrequest"),
        (OcspError::InternalError, "internalerror"),
        (OcspError::TryLater, "trylater"),
        (OcspError::Unauthorized, "unauthorized"),
    ];
    for (error, name) in cases {
        bench.write("resp.der", error_response(error));
        let (_, said) = bench.openssl("ocsp -respin resp.der -noverify");
        assert!(said.contains(name), "{said}");
    }
}

#[tokio::test]
async fn a_get_path_holds_the_same_request() {
    let (bench, _) = bench(KeySpec::EcP256).await;
    bench.ok("ocsp -issuer ca.pem -cert a.pem -reqout req.der");
    let path = bench.ok("base64 -A -in req.der");
    let path = path.trim();
    let forms = [
        path.to_owned(),
        path.trim_end_matches('=').to_owned(),
        path.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D"),
        path.replace('+', "-").replace('/', "_"),
    ];
    for form in forms {
        assert_eq!(decode_get_path(&form).unwrap(), bench.read("req.der"), "{form}");
    }
}
