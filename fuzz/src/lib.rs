//! What the targets share: fixed keys, an issuer, and knives for DER.

use std::{
    future::Future,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
    time::Duration,
};

use aws_lc_rs::{
    agreement::{ECDH_P256, PrivateKey},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use scaivault_kms::{KeySpec, Secret, SignatureScheme, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    CaPlan, Certificate, IssueRequest, Issuer, IssuerUrls, KeyKind, KeyRule, PkiError, Role, RoleConfig,
    Serial, Subject, TrustAnchor, issue_leaf, issue_root, validate,
    validate::{Evidence, RevocationMode, Rules, Source, Verdict},
};
use time::{OffsetDateTime, macros::datetime};

/// The time of every target.
pub const NOW: OffsetDateTime = datetime!(2026-10-05 12:00:00 UTC);

/// The key of [`ISSUER`], the same in every run. It protects nothing.
pub static ISSUER_KEY: LazyLock<SoftwareKey> = LazyLock::new(|| fixed_key(7));
/// A key to request certificates for, the same in every run. It protects nothing.
pub static REQUEST_KEY: LazyLock<SoftwareKey> = LazyLock::new(|| fixed_key(9));

/// A root that may issue anything. Its name and key are the same in every run.
pub static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let plan = CaPlan::root(subject("Fuzz Root"), KeySpec::EcP256, 3650, None, NOW).expect("a valid plan");
    let root = run(issue_root(plan, serial(), &*ISSUER_KEY)).expect("a root");
    Issuer::from_certificate(&root.der, urls()).expect("its own certificate")
});

/// The domains under which [`role`] admits names.
pub const DOMAINS: [&str; 4] = ["test", "example.com", "local", "org"];

fn fixed_key(byte: u8) -> SoftwareKey {
    let private = [byte; 32];
    let key = PrivateKey::from_private_key(&ECDH_P256, &private).expect("a scalar below the order of P-256");
    let public = key.compute_public_key().expect("its point");
    let pair = EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &private,
        public.as_ref(),
    );
    let pkcs8 = pair.expect("a pair").to_pkcs8v1().expect("PKCS #8");
    SoftwareKey::from_pkcs8(KeySpec::EcP256, &Secret::new(pkcs8.as_ref().to_vec())).expect("a P-256 key")
}

/// Runs what never waits: a software key signs at once.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("a software key waits for nobody"),
    }
}

/// A subject with nothing but a name.
pub fn subject(name: &str) -> Subject {
    Subject { common_name: name.into(), ..Subject::default() }
}

/// Addresses for what is issued.
pub fn urls() -> IssuerUrls {
    IssuerUrls {
        crl_url: Some("http://pki.example/crl".into()),
        ocsp_url: Some("http://pki.example/ocsp".into()),
    }
}

/// Some serial number.
pub fn serial() -> Serial {
    Serial::from_random([1; 16])
}

/// A role that admits every name below [`DOMAINS`] and every address, for keys of one kind.
pub fn role(key: KeySpec) -> Role {
    let wildcards = DOMAINS.iter().map(|domain| format!("*.{domain}"));
    let role = RoleConfig {
        name: "fuzz".into(),
        allowed_domains: DOMAINS.iter().map(|domain| (*domain).to_owned()).chain(wildcards).collect(),
        allow_subdomains: true,
        allow_ip_sans: true,
        max_ttl: Duration::from_secs(3653 * 86_400),
        default_ttl: Duration::from_secs(86_400),
        key: KeyRule::Kind(KeyKind::of(key).expect("a kind of leaf")),
        require_cn: false,
        ..RoleConfig::default()
    };
    role.compile().expect("a valid role")
}

/// Input may be refused, never be found out to be wrong when it was accepted already.
pub fn no_defect<T>(result: Result<T, PkiError>) -> Option<T> {
    match result {
        Ok(made) => Some(made),
        Err(PkiError::Refused(refused)) => {
            assert!(!refused.violations.is_empty());
            None
        }
        Err(PkiError::Invalid { .. }) => None,
        Err(defect) => panic!("{defect:?}"),
    }
}

/// The first TLV of `der`, its content and what follows it; any definite length, minimal or not.
fn tlv(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&first, mut rest) = der.get(1..)?.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if !(1..=3).contains(&count) || rest.len() < count {
            return None;
        }
        length = rest[..count].iter().fold(0, |all, &byte| all << 8 | usize::from(byte));
        rest = &rest[count..];
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((&der[..der.len() - after.len()], content, after))
}

/// A TLV of less than 16 MiB.
fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let octets = u32::try_from(length).expect("short input").to_be_bytes();
    let skip = octets.iter().take_while(|&&byte| byte == 0).count();
    let mut der = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            der.push(0x80 | (4 - skip) as u8);
            der.extend_from_slice(&octets[skip..]);
        }
    }
    parts.iter().for_each(|part| der.extend_from_slice(part));
    der
}

/// The same elements with element `at` replaced.
fn replace(elements: &[u8], at: usize, with: &[u8]) -> Option<Vec<u8>> {
    let mut rest = elements;
    for _ in 0..at {
        rest = tlv(rest)?.2;
    }
    let (_, _, after) = tlv(rest)?;
    Some([&elements[..elements.len() - rest.len()], with, after].concat())
}

/// A certificate request for [`REQUEST_KEY`] and signed by it, otherwise as `der` has it: no mutation alone gets past
/// a signature.
pub fn resign_request(der: &[u8]) -> Option<Vec<u8>> {
    let (_, request, _) = tlv(der)?;
    let (_, info, _) = tlv(request)?;
    let info = wrap(0x30, &[&replace(info, 2, REQUEST_KEY.public_key_der())?]);
    let signature = run(REQUEST_KEY.sign(SignatureScheme::EcdsaSha256, &info)).expect("a signature");
    // ecdsa-with-SHA256
    let algorithm = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    Some(wrap(0x30, &[&info, algorithm, &wrap(3, &[&[0], &signature])]))
}

/// The same certificate for [`ISSUER_KEY`], its signature broken: then something can be issued under it.
pub fn transplant_certificate(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate, _) = tlv(der)?;
    let (_, tbs, rest) = tlv(certificate)?;
    let tbs = wrap(0x30, &[&replace(tbs, 6, ISSUER_KEY.public_key_der())?]);
    Some(wrap(0x30, &[&tbs, rest]))
}

/// The elements of a certificate, list or OCSP answer: what is signed, and what follows the signature.
fn signed_parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, content, _) = tlv(der)?;
    let (_, tbs, rest) = tlv(content)?;
    let (_, _, rest) = tlv(rest)?;
    let (_, _, rest) = tlv(rest)?;
    Some((tbs, rest))
}

/// ecdsa-with-SHA256
const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";

/// The frame of X.509 around `tbs`, signed by [`ISSUER_KEY`].
pub fn sign_frame(tbs: &[u8], after: &[u8]) -> Vec<u8> {
    let signature = run(ISSUER_KEY.sign(SignatureScheme::EcdsaSha256, tbs)).expect("a signature");
    wrap(0x30, &[tbs, ECDSA_SHA256, &wrap(3, &[&[0], &signature]), after])
}

/// A SEQUENCE of `parts`.
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    wrap(0x30, parts)
}

/// The same certificate for [`ISSUER_KEY`] and signed by it: then every name that fits makes a path.
pub fn resign_certificate(der: &[u8]) -> Option<Vec<u8>> {
    let (tbs, after) = signed_parts(der)?;
    let shift = usize::from(tbs.first() == Some(&0xa0));
    let tbs = replace(tbs, 1 + shift, ECDSA_SHA256)?;
    let tbs = replace(&tbs, 5 + shift, ISSUER_KEY.public_key_der())?;
    Some(sign_frame(&wrap(0x30, &[&tbs]), after))
}

/// The same revocation list, signed by [`ISSUER_KEY`].
pub fn resign_list(der: &[u8]) -> Option<Vec<u8>> {
    let (tbs, after) = signed_parts(der)?;
    let shift = usize::from(tbs.first() == Some(&2));
    Some(sign_frame(&wrap(0x30, &[&replace(tbs, shift, ECDSA_SHA256)?]), after))
}

/// Elements of DER one after the other, as many as can be read and at most `most`.
pub fn elements(mut data: &[u8], most: usize) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some((raw, _, after)) = tlv(data).filter(|_| found.len() < most) {
        found.push(raw);
        data = after;
    }
    found
}

/// A chain of two for lists and answers to speak about: a leaf for [`REQUEST_KEY`] below [`ISSUER`].
pub static LEAF: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let request = IssueRequest { common_name: Some("a.test".into()), ..IssueRequest::default() };
    let plan = role(KeySpec::EcP256).admit(&request, &ISSUER, NOW).expect("a name below the domains");
    let made = issue_leaf(plan, leaf_serial(), REQUEST_KEY.public_key_der(), &ISSUER, &*ISSUER_KEY);
    run(made).expect("a leaf").der
});

/// The serial number of [`LEAF`].
pub fn leaf_serial() -> Serial {
    Serial::from_random([2; 16])
}

/// What is known of [`LEAF`] by this evidence, which is demanded; and whether it is valid.
pub fn judge_leaf(evidence: &Evidence) -> (bool, Verdict) {
    let read = |der: &[u8]| Certificate::from_der(der).expect("its own certificate");
    let anchors = [TrustAnchor { certificate: read(ISSUER.certificate_der()), enforce: true }];
    let mut rules = Rules::at(NOW);
    rules.revocation = RevocationMode::Require;
    let verdict = validate(&read(&LEAF), &[], &anchors, evidence, &rules);
    assert_eq!(verdict.valid, verdict.errors.is_empty());
    let known = verdict.revocation.first().expect("nothing else is wrong with it");
    assert_eq!(verdict.valid, known.verdict == Verdict::Good);
    assert!(known.source != Source::None || known.verdict == Verdict::Unknown);
    (verdict.valid, known.verdict)
}

/// The same revocation list of [`ISSUER`], signed by its key.
pub fn own_list(der: &[u8]) -> Option<Vec<u8>> {
    let (tbs, after) = signed_parts(der)?;
    let shift = usize::from(tbs.first() == Some(&2));
    let tbs = replace(tbs, shift, ECDSA_SHA256)?;
    let tbs = replace(&tbs, shift + 1, ISSUER.name_der())?;
    Some(sign_frame(&wrap(0x30, &[&tbs]), after))
}

/// The same OCSP answer (RFC 6960, 4.2.1), signed by [`ISSUER_KEY`].
pub fn own_answer(der: &[u8]) -> Option<Vec<u8>> {
    let (_, answer, _) = tlv(der)?;
    let (status, _, rest) = tlv(answer)?;
    let (_, bytes, _) = tlv(rest)?;
    let (_, bytes, _) = tlv(bytes)?;
    let (kind, _, rest) = tlv(bytes)?;
    let (_, basic, _) = tlv(rest)?;
    let (_, basic, _) = tlv(basic)?;
    let (data, _, rest) = tlv(basic)?;
    let (_, _, rest) = tlv(rest)?;
    let (_, _, after) = tlv(rest)?;
    let basic = sign_frame(data, after);
    let bytes = wrap(0x30, &[kind, &wrap(4, &[&basic])]);
    Some(wrap(0x30, &[status, &wrap(0xa0, &[&bytes])]))
}

/// A certificate by [`ISSUER`] for [`ISSUER_KEY`] with these parts, each in DER or not.
pub fn certificate(issuer: &[u8], validity: &[u8], subject: &[u8], extensions: &[u8]) -> Vec<u8> {
    let version = [0xa0, 3, 2, 1, 2];
    let extensions = wrap(0xa3, &[&wrap(0x30, &[extensions])]);
    let key = ISSUER_KEY.public_key_der();
    let serial = [2, 1, 9];
    let tbs = [&version[..], &serial, ECDSA_SHA256, issuer, validity, subject, key, &extensions];
    sign_frame(&wrap(0x30, &tbs), &[])
}

/// An extension of X.509 below 2.5.29.
pub fn extension(arc: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    wrap(0x30, &[&[6, 3, 0x55, 0x1d, arc], flag, &wrap(4, &[value])])
}

/// A request for [`REQUEST_KEY`], signed by it, for that subject and those alternative names.
pub fn request(subject: &[u8], names: &[u8]) -> Vec<u8> {
    let wanted = wrap(0x30, &[&extension(17, false, names)]);
    let attribute =
        [&b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e"[..], &wrap(0x31, &[&wanted])].concat();
    let attributes = wrap(0xa0, &[&wrap(0x30, &[&attribute])]);
    let info = wrap(0x30, &[&[2, 1, 0], subject, REQUEST_KEY.public_key_der(), &attributes]);
    let signature = run(REQUEST_KEY.sign(SignatureScheme::EcdsaSha256, &info)).expect("a signature");
    wrap(0x30, &[&info, ECDSA_SHA256, &wrap(3, &[&[0], &signature])])
}
