//! OCSP: reading requests and signing answers (RFC 6960, RFC 9654), by the CA's own key or by a [`Responder`] that
//! it has delegated that to.

mod responder;
mod wire;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use const_oid::db::{rfc5912, rfc6960};
use der::{
    Any, Decode as _, Encode as _, Tag,
    asn1::{Null, OctetString},
};
use scaivault_kms::SigningKey;
use time::OffsetDateTime;
use x509_cert::ext::Extension;

pub use self::responder::{Responder, issue_responder};
use crate::{
    Issuer, PkiError, RevocationReason, Serial,
    key::PublicKey,
    lint::LintedTbs,
    sign::sign_with,
    tbs::verbatim,
    time::{generalized_time, whole_second},
};

/// The longest request that is read, in octets of DER.
const MAX_REQUEST: usize = 64 * 1024;
/// The most certificates that one request may ask about.
const MAX_CERT_IDS: usize = 64;
/// The longest nonce (RFC 9654, 2.1).
const MAX_NONCE: usize = 128;
/// The longest tail of a path; longer requests are sent by POST.
const MAX_PATH: usize = 16 * 1024;

/// A request that was read. A signature on it is not looked at, as RFC 6960 leaves to the responder.
#[derive(Clone, Debug)]
pub struct OcspRequest {
    cert_ids: Vec<CertId>,
    nonce: Option<Vec<u8>>,
}

/// Which certificate a request asks about: hashes of its issuer's name and key, and its serial number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertId {
    der: Vec<u8>,
    hash: Option<Hash>,
    name_hash: Vec<u8>,
    key_hash: Vec<u8>,
    serial: Option<Serial>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Hash {
    Sha1,
    Sha256,
}

impl OcspRequest {
    /// Reads a request in DER.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] if it is not one in DER of at most 64 KiB about 1 to 64 certificates, if it has a
    /// nonce that is empty or longer than 128 octets, or a critical extension that is unknown. All of them are
    /// answered with [`OcspError::MalformedRequest`].
    pub fn parse(der: &[u8]) -> Result<Self, PkiError> {
        let bad = |message: &str| PkiError::invalid("ocsp_request", message);
        if der.len() > MAX_REQUEST {
            return Err(bad("must have at most 64 KiB"));
        }
        let request = wire::Request::from_der(der).map_err(|_| bad("is not an OCSP request in DER"))?;
        let wire::TbsRequest { version: _, requestor: _, requests, extensions } = request.tbs;
        if requests.is_empty() || requests.len() > MAX_CERT_IDS {
            return Err(bad("must ask about 1 to 64 certificates"));
        }
        let nonce = read_nonce(extensions.unwrap_or_default())?;
        let cert_ids = requests.into_iter().map(read_cert_id).collect::<Result<_, _>>()?;
        Ok(Self { cert_ids, nonce })
    }

    /// What it asks about, in its order.
    #[must_use]
    pub fn cert_ids(&self) -> &[CertId] {
        &self.cert_ids
    }

    /// Its nonce, 1 to 128 octets; an answer to a request with one must not be cached.
    #[must_use]
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    /// The same without its nonce, which a responder may leave out of its answer (RFC 9654, 2.1): then the answer may be
    /// given to others who ask the same.
    #[must_use]
    pub fn without_nonce(self) -> Self {
        Self { nonce: None, ..self }
    }
}

impl CertId {
    /// Whether `issuer` is the issuer meant, by both hashes, of SHA-1 or SHA-256. No other hash matches.
    #[must_use]
    pub fn matches(&self, issuer: &Issuer) -> bool {
        let (name_hash, key_hash) = match self.hash {
            Some(Hash::Sha1) => {
                (digest(&SHA1_FOR_LEGACY_USE_ONLY, issuer.name_der()), issuer.public_key().sha1())
            }
            Some(Hash::Sha256) => (digest(&SHA256, issuer.name_der()), issuer.public_key().sha256()),
            None => return false,
        };
        self.name_hash == name_hash.as_ref() && self.key_hash == key_hash
    }

    /// The serial number of the certificate asked about; `None` for one that no certificate has (RFC 5280, 4.1.2.2): zero,
    /// negative, or of more than 20 octets.
    #[must_use]
    pub fn serial(&self) -> Option<&Serial> {
        self.serial.as_ref()
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }
}

fn read_cert_id(request: wire::SingleRequest) -> Result<CertId, PkiError> {
    let bad = |message: &str| PkiError::invalid("ocsp_request", message);
    if request.extensions.unwrap_or_default().iter().any(|extension| extension.critical) {
        return Err(bad("has a critical extension that is unknown"));
    }
    let der = request.cert_id.to_der().map_err(PkiError::encoding("a CertID"))?;
    let id: wire::CertId = request.cert_id.decode_as().map_err(|_| bad("has a malformed CertID"))?;
    let no_parameters = id.algorithm.parameters.as_ref().is_none_or(Any::is_null);
    let hash = match id.algorithm.oid {
        rfc5912::ID_SHA_1 if no_parameters => Some(Hash::Sha1),
        rfc5912::ID_SHA_256 if no_parameters => Some(Hash::Sha256),
        _ => None,
    };
    let serial =
        Some(id.serial.as_bytes()).filter(|octets| octets.first().is_none_or(|byte| byte & 0x80 == 0));
    Ok(CertId {
        der,
        hash,
        name_hash: id.name_hash.into_bytes().into(),
        key_hash: id.key_hash.into_bytes().into(),
        serial: serial.and_then(|octets| Serial::from_bytes(octets).ok()),
    })
}

fn read_nonce(extensions: Vec<Extension>) -> Result<Option<Vec<u8>>, PkiError> {
    let bad = |message: &str| PkiError::invalid("ocsp_request", message);
    let mut nonce = None;
    for extension in extensions {
        if extension.extn_id != rfc6960::ID_PKIX_OCSP_NONCE {
            if extension.critical {
                return Err(bad("has a critical extension that is unknown"));
            }
            continue;
        }
        let value = OctetString::from_der(extension.extn_value.as_bytes());
        let value = value.map_err(|_| bad("has a nonce that is not an OCTET STRING"))?;
        if value.as_bytes().is_empty() || value.as_bytes().len() > MAX_NONCE {
            return Err(bad("must have a nonce of 1 to 128 octets"));
        }
        if nonce.replace(value.into_bytes().into()).is_some() {
            return Err(bad("has two nonces"));
        }
    }
    Ok(nonce)
}

/// What is known of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertStatus {
    /// It was issued and is not revoked.
    Good,
    /// It is revoked.
    Revoked {
        /// Since when; the fraction of the second is cut off.
        at: OffsetDateTime,
        /// Why; `unspecified` is not written.
        reason: RevocationReason,
    },
    /// It was never issued by this CA.
    Unknown,
}

/// What a responder answers when it gives no status (RFC 6960, 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspError {
    /// The request cannot be read.
    MalformedRequest,
    /// The responder failed.
    InternalError,
    /// The responder cannot answer now.
    TryLater,
    /// The responder has no authority over what was asked (RFC 5019, 2.2.3).
    Unauthorized,
}

/// What an answer is going to say.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) issuer: &'a Issuer,
    /// Who signs: the issuer's key, or that of its delegate.
    pub(crate) signer: &'a PublicKey,
    pub(crate) request: &'a OcspRequest,
    pub(crate) statuses: &'a [CertStatus],
    pub(crate) this_update: OffsetDateTime,
    pub(crate) next_update: OffsetDateTime,
    pub(crate) produced_at: OffsetDateTime,
}

/// Answers a request in DER: one status for each of its certificates, in order, and its nonce. The CA signs with
/// its own key and is named by the hash of it. Times are cut to whole seconds.
///
/// # Errors
/// [`PkiError::Invalid`] if there is not one status for each certificate, the times are not
/// `this_update` ≤ `produced_at` < `next_update`, or `key` is not the key of `issuer`; [`PkiError::Lint`] if a
/// certificate of another issuer would be called good or revoked; [`PkiError::Kms`] if the key cannot sign.
pub async fn respond(
    request: &OcspRequest,
    statuses: &[CertStatus],
    issuer: &Issuer,
    key: &dyn SigningKey,
    this_update: OffsetDateTime,
    next_update: OffsetDateTime,
    produced_at: OffsetDateTime,
) -> Result<Vec<u8>, PkiError> {
    let times = [this_update, next_update, produced_at];
    answer(request, statuses, issuer, (issuer.public_key(), None), key, times).await
}

/// The same, signed by a responder that the CA has delegated that to: it is named by the hash of its own key, and its
/// certificate goes with the answer. `key` is that of the responder.
///
/// # Errors
/// As [`respond`]; [`PkiError::Invalid`] also if the responder's certificate is of another issuer, or not valid at
/// `produced_at`.
pub async fn respond_by(
    request: &OcspRequest,
    statuses: &[CertStatus],
    issuer: &Issuer,
    responder: &Responder,
    key: &dyn SigningKey,
    [this_update, next_update, produced_at]: [OffsetDateTime; 3],
) -> Result<Vec<u8>, PkiError> {
    responder.check(issuer, produced_at)?;
    let signer = (responder.public_key(), Some(responder.certificate_der()));
    answer(request, statuses, issuer, signer, key, [this_update, next_update, produced_at]).await
}

async fn answer(
    request: &OcspRequest,
    statuses: &[CertStatus],
    issuer: &Issuer,
    (signer, certificate): (&PublicKey, Option<&[u8]>),
    key: &dyn SigningKey,
    times: [OffsetDateTime; 3],
) -> Result<Vec<u8>, PkiError> {
    if statuses.len() != request.cert_ids.len() {
        return Err(PkiError::invalid("statuses", "must be one for each certificate of the request"));
    }
    let [this_update, next_update, produced_at] = times.map(whole_second);
    if this_update > produced_at || produced_at >= next_update {
        return Err(PkiError::invalid("produced_at", "must be from this_update on, and before next_update"));
    }
    let answer = Answer { issuer, signer, request, statuses, this_update, next_update, produced_at };
    let basic = sign_with(LintedTbs::ocsp(encode(&answer)?, &answer)?, key, certificate).await?;
    let response = OctetString::new(basic).map_err(PkiError::encoding("the OCSP answer"))?;
    let body = wire::ResponseBytes { kind: rfc6960::ID_PKIX_OCSP_BASIC, response };
    wire::Response { status: wire::Status::Successful, body: Some(body) }
        .to_der()
        .map_err(PkiError::encoding("the OCSP answer"))
}

/// The answer that is an error, in DER; it is not signed.
#[must_use]
pub fn error_response(error: OcspError) -> Vec<u8> {
    let status = match error {
        OcspError::MalformedRequest => wire::Status::MalformedRequest,
        OcspError::InternalError => wire::Status::InternalError,
        OcspError::TryLater => wire::Status::TryLater,
        OcspError::Unauthorized => wire::Status::Unauthorized,
    };
    // SEQUENCE { ENUMERATED status }
    vec![0x30, 3, 0x0a, 1, status as u8]
}

pub(crate) fn encode(answer: &Answer<'_>) -> Result<Vec<u8>, PkiError> {
    let responses = answer.request.cert_ids.iter().zip(answer.statuses);
    let key_hash = OctetString::new(answer.signer.sha1());
    let data = wire::ResponseData {
        version: wire::Version::V1,
        responder: wire::ResponderId::ByKey(key_hash.map_err(PkiError::encoding("the responder"))?),
        produced_at: generalized_time(answer.produced_at)?,
        responses: responses.map(|(id, status)| single(id, *status, answer)).collect::<Result<_, _>>()?,
        extensions: nonce_extensions(answer.request.nonce()).map_err(PkiError::encoding("the nonce"))?,
    };
    data.to_der().map_err(PkiError::encoding("the OCSP answer"))
}

fn single(id: &CertId, status: CertStatus, answer: &Answer<'_>) -> Result<wire::SingleResponse, PkiError> {
    let status = match status {
        CertStatus::Good => wire::CertStatus::Good(Null),
        CertStatus::Unknown => wire::CertStatus::Unknown(Null),
        CertStatus::Revoked { at, reason } => {
            let reason = reason.encoded().map(|code| Any::new(Tag::Enumerated, [code])).transpose();
            let reason = reason.map_err(PkiError::encoding("a revocation reason"))?;
            wire::CertStatus::Revoked(wire::RevokedInfo { at: generalized_time(at)?, reason })
        }
    };
    Ok(wire::SingleResponse {
        cert_id: verbatim("a CertID", &id.der)?,
        status,
        this_update: generalized_time(answer.this_update)?,
        next_update: Some(generalized_time(answer.next_update)?),
    })
}

fn nonce_extensions(nonce: Option<&[u8]>) -> der::Result<Option<Vec<Extension>>> {
    let Some(nonce) = nonce else { return Ok(None) };
    let extn_value = OctetString::new(OctetString::new(nonce)?.to_der()?)?;
    Ok(Some(vec![Extension { extn_id: rfc6960::ID_PKIX_OCSP_NONCE, critical: false, extn_value }]))
}

/// Base64 that does not care for padding; bits beyond the last octet must be zero.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The request in the tail of a GET path (RFC 6960, A.1), as it was sent: neither decoded nor normalized. The Base64
/// may be of the standard or the URL-safe alphabet, padded or not, percent-encoded or not; a slash is a
/// character of it, and so are two in a row.
///
/// # Errors
/// [`PkiError::Invalid`] if it is anything else, empty, or longer than 16 KiB.
pub fn decode_get_path(raw: &str) -> Result<Vec<u8>, PkiError> {
    let bad = |message: &str| PkiError::invalid("ocsp_request", message);
    if raw.is_empty() || raw.len() > MAX_PATH {
        return Err(bad("path must have 1 to 16384 characters after the CA"));
    }
    let mut text =
        percent_decode(raw.as_bytes()).ok_or_else(|| bad("path has a malformed percent-encoding"))?;
    for byte in &mut text {
        match *byte {
            b'-' => *byte = b'+',
            b'_' => *byte = b'/',
            _ => {}
        }
    }
    BASE64.decode(text).map_err(|_| bad("path is not Base64"))
}

fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(*rest.next()?).to_digit(16).and_then(|d| u8::try_from(d).ok());
        decoded.push(digit()? << 4 | digit()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use der::asn1::Int;
    use proptest::prelude::*;
    use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};

    use super::*;
    use crate::key::Algorithm;

    impl OcspRequest {
        /// A request about small serial numbers, by SHA-256.
        pub(crate) fn for_tests(issuer: &Issuer, serials: &[u8], nonce: Option<Vec<u8>>) -> Self {
            Self::parse(
                &write(issuer, serials, nonce_extensions(nonce.as_deref()).unwrap()).to_der().unwrap(),
            )
            .unwrap()
        }
    }

    fn write(issuer: &Issuer, serials: &[u8], extensions: Option<Vec<Extension>>) -> wire::Request {
        let cert_id = |&serial: &u8| wire::CertId {
            algorithm: Algorithm { oid: rfc5912::ID_SHA_256, parameters: None },
            name_hash: OctetString::new(digest(&SHA256, issuer.name_der()).as_ref()).unwrap(),
            key_hash: OctetString::new(issuer.public_key().sha256()).unwrap(),
            serial: Int::new(&[serial]).unwrap(),
        };
        let single = |serial| wire::SingleRequest {
            cert_id: Any::from_der(&cert_id(serial).to_der().unwrap()).unwrap(),
            extensions: None,
        };
        wire::Request {
            tbs: wire::TbsRequest {
                version: wire::Version::V1,
                requestor: None,
                requests: serials.iter().map(single).collect(),
                extensions,
            },
            signature: None,
        }
    }

    async fn issuer() -> Issuer {
        let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
        let subject = crate::Subject { common_name: "x".into(), ..crate::Subject::default() };
        let now = time::macros::datetime!(2026-10-05 12:00 UTC);
        let plan = crate::CaPlan::root(subject, key.spec(), 10, None, now).unwrap();
        let der = crate::issue_root(plan, Serial::from_random([1; 16]), &key).await.unwrap().der;
        Issuer::from_certificate(&der, crate::IssuerUrls::default()).unwrap()
    }

    #[tokio::test]
    async fn requests_are_bounded() {
        let issuer = issuer().await;
        let parse = |serials: &[u8], extensions| {
            OcspRequest::parse(&write(&issuer, serials, extensions).to_der().unwrap())
        };
        assert!(parse(&[1; 64], None).is_ok());
        assert!(parse(&[1; 65], None).is_err());
        assert!(parse(&[], None).is_err());
        for odd in [0, 0x80] {
            let request = parse(&[1, odd], None).unwrap();
            let serials: Vec<_> = request.cert_ids().iter().map(CertId::serial).collect();
            assert_eq!(
                serials,
                [Some(&Serial::from_bytes(&[1]).unwrap()), None],
                "one does not spoil the other"
            );
            assert!(request.cert_ids().iter().all(|id| id.matches(&issuer)));
        }
        for (length, good) in [(0, false), (1, true), (32, true), (128, true), (129, false)] {
            let nonce = nonce_extensions(Some(&vec![1; length])).unwrap();
            assert_eq!(parse(&[1], nonce).is_ok(), good, "{length}");
        }
        let nonce = || nonce_extensions(Some(&[1])).unwrap().unwrap().remove(0);
        assert!(parse(&[1], Some(vec![nonce(), nonce()])).is_err(), "two nonces");
        let unwrapped = Extension { extn_value: OctetString::new([1; 16]).unwrap(), ..nonce() };
        assert!(parse(&[1], Some(vec![unwrapped])).is_err());
        let other = |critical| Extension { extn_id: rfc6960::ID_PKIX_OCSP_BASIC, critical, ..nonce() };
        assert!(parse(&[1], Some(vec![other(true)])).is_err());
        assert!(parse(&[1], Some(vec![other(false)])).is_ok());
        let der = write(&issuer, &[1, 2], None).to_der().unwrap();
        assert!((0..der.len()).all(|cut| OcspRequest::parse(&der[..cut]).is_err()));
        assert!(OcspRequest::parse(&[&der[..], &[0]].concat()).is_err());
    }

    #[tokio::test]
    async fn one_wrong_hash_or_another_algorithm_does_not_match() {
        let issuer = issuer().await;
        let id = OcspRequest::for_tests(&issuer, &[1], None).cert_ids.remove(0);
        assert!(id.matches(&issuer));
        assert!(!CertId { name_hash: vec![0; 32], ..id.clone() }.matches(&issuer));
        assert!(!CertId { key_hash: vec![0; 32], ..id.clone() }.matches(&issuer));
        assert!(!CertId { hash: Some(Hash::Sha1), ..id.clone() }.matches(&issuer));
        assert!(!CertId { hash: None, ..id }.matches(&issuer));
    }

    #[test]
    fn paths_are_base64_of_either_alphabet() {
        let same = |text: &str, bytes: &[u8]| assert_eq!(decode_get_path(text).unwrap(), bytes, "{text}");
        for text in ["+/8=", "%2B%2f8%3d", "-_8", "+/8", "-_8%3D", "%2b/8="] {
            same(text, &[0xfb, 0xff]);
        }
        same("////", &[0xff; 3]);
        same("//8=", &[0xff; 2]);
        same("A//A", &[3, 255, 192]);
        for text in [
            "", " ", "AA A", "AAAA\n", "%", "%4", "%zz", "%+1AA", "=", "A", "AA=A", "AAA==", "A%00A", "//9=",
            "é", "AAAA?x", "AAAA#",
        ] {
            assert!(decode_get_path(text).is_err(), "{text:?}");
        }
        assert!(decode_get_path(&"A".repeat(16 * 1024)).is_ok());
        assert!(decode_get_path(&"A".repeat(16 * 1024 + 4)).is_err());
    }

    #[test]
    fn an_error_is_what_the_wire_type_says() {
        for (error, status) in [
            (OcspError::TryLater, wire::Status::TryLater),
            (OcspError::Unauthorized, wire::Status::Unauthorized),
        ] {
            assert_eq!(error_response(error), wire::Response { status, body: None }.to_der().unwrap());
        }
    }

    proptest! {
        #[test]
        fn any_path_is_decoded_or_refused(raw in "[A-Za-z0-9+/=_-]{0,40}|(%[0-9a-fA-F]{0,2}|.){0,20}") {
            let _ = decode_get_path(&raw);
        }

        #[test]
        fn what_was_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 1..200), escape: bool, url_safe: bool, padded: bool) {
            use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
            let engine = match (url_safe, padded) {
                (false, true) => STANDARD,
                (false, false) => STANDARD_NO_PAD,
                (true, true) => URL_SAFE,
                (true, false) => URL_SAFE_NO_PAD,
            };
            let mut text = engine.encode(&bytes);
            if escape {
                text = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            }
            prop_assert_eq!(decode_get_path(&text).unwrap(), bytes);
        }

        #[test]
        fn any_octets_are_a_request_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = OcspRequest::parse(&bytes);
        }
    }
}
