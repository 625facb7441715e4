//! Our verdict beside that of `rustls-webpki`, on chains whose signatures all hold and whose extensions are anything.
//! What we accept it accepts too, or it lacks what the certificate needs.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use scaivault_fuzz::{ISSUER, ISSUER_KEY, NOW, sequence, sign_frame};
use scaivault_kms::SigningKey as _;
use scaivault_pki::{
    Certificate, TrustAnchor, validate,
    validate::{Evidence, ReferenceName, Rules},
};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

static ROOT: LazyLock<Vec<u8>> = LazyLock::new(|| ISSUER.certificate_der().to_vec());

fuzz_target!(|data: &[u8]| {
    // Two lists of extensions, the first with its length before it.
    let Some((&[high, low], rest)) = data.split_first_chunk() else { return };
    let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let (ca_extensions, leaf_extensions) = rest.split_at(length);
    let root = Certificate::from_der(&ROOT).expect("a certificate");
    let ca = certificate(ISSUER.name_der(), &name(b"CA"), 2, ca_extensions);
    let leaf = certificate(&name(b"CA"), &name(b"leaf"), 3, leaf_extensions);
    let (Ok(ca), Ok(leaf)) = (Certificate::from_der(&ca), Certificate::from_der(&leaf)) else { return };

    let mut rules = Rules::at(NOW);
    rules.names = vec![ReferenceName::dns("a.test").expect("a host name")];
    rules.purposes = vec!["1.3.6.1.5.5.7.3.1".parse().expect("an identifier")];
    let anchors = [TrustAnchor { certificate: root, enforce: true }];
    let ours = validate(&leaf, std::slice::from_ref(&ca), &anchors, &Evidence::default(), &rules);
    if let (true, Err(error)) = (ours.valid, webpki(&leaf, &ca)) {
        assert!(is_limit(&error), "we accept what rustls-webpki refuses: {error:?}");
    }
});

/// What that library is known not to have, or to refuse by its own profile.
fn is_limit(error: &Error) -> bool {
    matches!(
        error,
        // Policies, and constraints of names other than hosts and addresses, are not there.
        Error::UnsupportedCriticalExtension | Error::NameConstraintViolation
        // A CA as a leaf is left to the application by RFC 5280.
        | Error::CaUsedAsEndEntity
        // It reads fewer forms of lengths, key usages and versions.
        | Error::BadDer | Error::TrailingData(_)
        // Under constraints it refuses wildcards with one label behind them.
        | Error::MalformedDnsIdentifier
    )
}

fn webpki(leaf: &Certificate, ca: &Certificate) -> Result<(), Error> {
    let (leaf, ca, root) =
        (CertificateDer::from(leaf.der()), CertificateDer::from(ca.der()), CertificateDer::from(ROOT.as_slice()));
    let anchor = anchor_from_trusted_cert(&root).expect("an anchor");
    let leaf = EndEntityCert::try_from(&leaf)?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.unix_timestamp().unsigned_abs()));
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[anchor],
        &[ca],
        now,
        KeyUsage::server_auth(),
        None,
        None,
    )?;
    leaf.verify_is_valid_for_subject_name(&ServerName::try_from("a.test").expect("a host name"))
}

/// A name of one common name.
fn name(text: &[u8]) -> Vec<u8> {
    let attribute = sequence(&[b"\x06\x03\x55\x04\x03", &[0x0c, text.len() as u8], text]);
    sequence(&[&[0x31, attribute.len() as u8], &attribute])
}

/// A certificate of version 3 for the one key and signed by it, with extensions as they come.
fn certificate(issuer: &[u8], subject: &[u8], serial: u8, extensions: &[u8]) -> Vec<u8> {
    let list = sequence(&[extensions]);
    let mut wrapped = sequence(&[&list]);
    wrapped[0] = 0xa3;
    let validity = sequence(&[b"\x17\x0d260101000000Z", b"\x17\x0d270101000000Z"]);
    let tbs = sequence(&[
        b"\xa0\x03\x02\x01\x02",
        &[2, 1, serial],
        b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
        issuer,
        &validity,
        subject,
        ISSUER_KEY.public_key_der(),
        if extensions.is_empty() { &[] } else { &wrapped },
    ]);
    sign_frame(&tbs, &[])
}
