//! CAs that OpenSSL made, keys that misbehave, and octets that are nothing at all.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use async_trait::async_trait;
use common::{Bench, Ca, DAY, now, request, role, serial, subject};
use proptest::prelude::*;
use scaivault_kms::{KeySpec, KmsError, Secret, SignatureScheme, SigningKey, local::SoftwareKey};
use scaivault_pki::{
    CaPlan, CrlEntry, Csr, Issuer, IssuerUrls, PkiError, RevocationReason, Serial, build_crl, issue_leaf,
    issue_root, pem,
};
use time::macros::datetime;

const CA: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash";

/// A CA of OpenSSL's, and its key.
fn foreign(
    bench: &Bench,
    spec: KeySpec,
    dn: &str,
    extensions: &str,
) -> (Result<Issuer, PkiError>, SoftwareKey) {
    let (key, pkcs8) = SoftwareKey::generate(spec).unwrap();
    bench.write("ca.key", pem::encode_private_key(&pkcs8).as_bytes());
    bench.write("ca.cnf", format!("[req]\ndistinguished_name=dn\nprompt=no\nutf8=yes\nx509_extensions=ext\n[dn]\n{dn}\n[ext]\n{extensions}\n"));
    bench.ok("req -x509 -new -key ca.key -config ca.cnf -days 30 -out ca.pem -multivalue-rdn");
    let der = pem::parse_certificates(bench.read("ca.pem")).unwrap().remove(0);
    (Issuer::from_certificate(&der, IssuerUrls::default()), key)
}

#[tokio::test]
async fn names_of_foreign_cas_are_copied_byte_for_byte() {
    // Attributes that are there twice, several in one set, and strings of other types.
    let bench = Bench::new();
    let dn = "0.DC=test\n1.DC=corp\n0.OU=a\n1.OU=b\n+CN=Sub\n2.OU=ü\nserialNumber=7";
    for spec in [KeySpec::EcP256, KeySpec::Rsa3072] {
        let (issuer, key) = foreign(&bench, spec, dn, CA);
        let issuer = issuer.unwrap();
        let plan = role(KeySpec::EcP256).admit(&request("a.svc.test"), &issuer, now()).unwrap();
        let (leaf_key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
        let leaf = issue_leaf(plan, serial(), leaf_key.public_key_der(), &issuer, &key).await.unwrap();
        bench.write("leaf.pem", leaf.pem());
        bench.ok("verify -x509_strict -CAfile ca.pem leaf.pem");
        assert_eq!(
            bench.ok("x509 -in leaf.pem -noout -issuer_hash").trim(),
            bench.ok("x509 -in ca.pem -noout -subject_hash").trim()
        );
        let reason = RevocationReason::Superseded;
        let entry = CrlEntry { serial: leaf.serial, revoked_at: now(), reason };
        let crl = build_crl(&issuer, &key, 1, now(), now() + DAY, [entry].into_iter()).await.unwrap();
        bench.write("crl.pem", pem::encode("X509 CRL", &crl));
        let (content, said) = bench.openssl("verify -crl_check -CAfile ca.pem -CRLfile crl.pem leaf.pem");
        assert!(!content && said.contains("certificate revoked"), "{said}");
    }
}

#[tokio::test]
async fn foreign_certificates_that_cannot_issue_are_refused() {
    let bench = Bench::new();
    let cases = [
        ("CN=x", "basicConstraints=CA:FALSE", "not that of a CA"),
        ("CN=x", "subjectKeyIdentifier=hash", "not that of a CA"),
        ("CN=x", "basicConstraints=CA:TRUE\nkeyUsage=cRLSign", "not for signing certificates"),
    ];
    for (dn, extensions, message) in cases {
        let error = foreign(&bench, KeySpec::EcP256, dn, extensions).0.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let no_lists = "basicConstraints=CA:TRUE\nkeyUsage=keyCertSign\nsubjectKeyIdentifier=none";
    let (issuer, key) = foreign(&bench, KeySpec::EcP256, "CN=x", no_lists);
    let issuer = issuer.unwrap();
    assert_eq!(issuer.key_id().len(), 20, "its own, where the certificate has none");
    let error = build_crl(&issuer, &key, 1, now(), now() + DAY, [].into_iter()).await.unwrap_err();
    assert!(error.to_string().contains("revocation lists"), "{error}");
}

/// Changes octets in place.
type Edit<'a> = &'a dyn Fn(&mut [u8]);

/// What is copied into certificates below must be what every verifier reads in the issuer's.
#[tokio::test]
async fn a_subject_key_identifier_is_one_octet_string_with_something_in_it() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let good = [b"\x30\x1d\x06\x03\x55\x1d\x0e\x04\x16\x04\x14", ca.issuer.key_id()].concat();
    let empty = b"\x30\x09\x06\x03\x55\x1d\x0e\x04\x02\x04\x00";
    let other = b"\x30\x12\x06\x03\x2a\x03\x04\x04\x0b of no kind";
    let at = ca.issued.der.windows(good.len()).position(|window| window == good).unwrap();
    let edited = |edit: Edit<'_>| {
        let mut der = ca.issued.der.clone();
        edit(&mut der[at..at + good.len()]);
        Issuer::from_certificate(&der, IssuerUrls::default())
    };
    assert!(edited(&|_| ()).is_ok());
    let malformed: [Edit<'_>; 4] = [
        &|extension| extension.copy_from_slice(&[&empty[..], other].concat()),
        // Of another tag, and empty; of another tag; with an octet after its end.
        &|extension| extension[9..11].fill(0),
        &|extension| extension[9] = 0x0c,
        &|extension| extension[10] -= 1,
    ];
    for edit in malformed {
        let error = edited(edit).unwrap_err().to_string();
        assert!(error.contains("malformed subject key identifier"), "{error}");
    }
}

#[tokio::test]
async fn lists_keep_their_bounds_and_forms() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let bench = Bench::new();
    bench.write("ca.pem", ca.issued.pem());
    let at = now();
    let entry = |n: u32, revoked_at, reason| {
        let serial = Serial::from_bytes(&[&[1; 12], &n.to_be_bytes()[..]].concat()).unwrap();
        CrlEntry { serial, revoked_at, reason }
    };
    let reasons = RevocationReason::ALL.iter().copied().zip(0..);
    let mut entries: Vec<_> = reasons.map(|(reason, n)| entry(n, at, reason)).collect();
    entries.push(entry(99, datetime!(2050-01-01 0:00 UTC), RevocationReason::Superseded));
    entries.extend((100..3000).map(|n| entry(n, at, RevocationReason::Unspecified)));
    let number = u64::MAX;
    let crl = build_crl(&ca.issuer, &ca.key, number, at, at + DAY, entries.into_iter()).await.unwrap();
    bench.write("crl.pem", pem::encode("X509 CRL", &crl));
    assert!(bench.ok("crl -in crl.pem -noout -verify -CAfile ca.pem").contains("verify OK"));
    let text = bench.ok("crl -in crl.pem -noout -text");
    assert_eq!(text.matches("Serial Number:").count(), 9 + 1 + 2900);
    assert_eq!(text.matches("CRL Reason Code").count(), 8 + 1, "unspecified is absent");
    assert!(text.contains("18446744073709551615") || text.contains("0xFFFFFFFFFFFFFFFF"), "{}", &text[..600]);
    let parsed = bench.ok("asn1parse -in crl.pem");
    assert_eq!(parsed.matches("GENERALIZEDTIME").count(), 1);

    let error = build_crl(&ca.issuer, &ca.key, 1, at, at, [].into_iter()).await.unwrap_err();
    assert!(matches!(error, PkiError::Invalid { field: "next_update", .. }));
    let (other, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let error = build_crl(&ca.issuer, &other, 1, at, at + DAY, [].into_iter()).await.unwrap_err();
    assert!(matches!(error, PkiError::Invalid { field: "key", .. }));
}

/// A key that says it is another, or spoils what it signs, or is not there.
#[derive(Debug)]
struct Misbehaving(SoftwareKey, &'static str);

#[async_trait]
impl SigningKey for Misbehaving {
    fn spec(&self) -> KeySpec {
        self.0.spec()
    }

    fn public_key_der(&self) -> &[u8] {
        self.0.public_key_der()
    }

    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        match self.1 {
            "spoils" => self.0.sign(scheme, &[message, b"!"].concat()).await,
            "empty" => Ok(Vec::new()),
            _ => Err(KmsError::Denied { provider: "test", message: "no grant".to_owned() }),
        }
    }
}

#[tokio::test]
async fn a_signature_that_does_not_verify_never_leaves() {
    for spec in [KeySpec::EcP384, KeySpec::Rsa2048] {
        for fault in ["spoils", "empty", "denies"] {
            let (key, _) = SoftwareKey::generate(spec).unwrap();
            let plan = CaPlan::root(subject("x"), spec, 10, None, now()).unwrap();
            let error = issue_root(plan, serial(), &Misbehaving(key, fault)).await.unwrap_err();
            let kms = matches!(error, PkiError::Kms(KmsError::Denied { .. }));
            assert_eq!(kms, fault == "denies", "{error}");
            assert!(kms || error.to_string().contains("does not verify"), "{error}");
        }
    }
}

#[test]
fn sec_e5_octets_that_are_nothing_never_panic() {
    let bench = Bench::new();
    let (issuer, _) = foreign(&bench, KeySpec::EcP256, "CN=x", CA);
    let certificate = issuer.unwrap().certificate_der().to_vec();
    bench.ok("req -new -key ca.key -config ca.cnf -outform DER -out req.der");
    let csr = bench.read("req.der");
    proptest!(ProptestConfig::with_cases(2000), |(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    )| {
        let _ = Csr::parse(&noise);
        let _ = Issuer::from_certificate(&noise, IssuerUrls::default());
        for original in [&certificate, &csr] {
            let mut mutated = original.clone();
            for (at, byte) in &changes {
                let at = at.index(mutated.len());
                mutated[at] = *byte;
            }
            let _ = Csr::parse(&mutated);
            let _ = Issuer::from_certificate(&mutated, IssuerUrls::default());
        }
    });
}

#[test]
fn a_private_key_is_written_as_openssl_reads_it() {
    let bench = Bench::new();
    for spec in common::SPECS.into_iter().chain([KeySpec::Rsa3072]) {
        let (key, pkcs8): (_, Secret) = SoftwareKey::generate(spec).unwrap();
        bench.write("key.pem", pem::encode_private_key(&pkcs8).as_bytes());
        bench.ok("pkey -in key.pem -check -noout");
        bench.ok("pkey -in key.pem -pubout -outform DER -out pub.der");
        assert_eq!(bench.read("pub.der"), key.public_key_der(), "{}", spec.as_str());
    }
}
