//! Public keys as `SubjectPublicKeyInfo`, and what is signed under them, for keys that live elsewhere.

#[cfg(any(feature = "aws", feature = "rest"))]
use aws_lc_rs::digest::{Digest, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ED25519, ML_DSA_44, ML_DSA_65,
    ML_DSA_87, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA256, VerificationAlgorithm,
};

#[cfg(any(feature = "aws", feature = "azure", feature = "transit"))]
use crate::KeySpec;
use crate::{KmsError, SignatureScheme};

/// The kinds of key that the services make.
#[cfg(any(feature = "aws", feature = "transit"))]
pub(crate) const SPECS: [KeySpec; 6] = [
    KeySpec::EcP256,
    KeySpec::EcP384,
    KeySpec::Rsa2048,
    KeySpec::Rsa3072,
    KeySpec::Rsa4096,
    KeySpec::Ed25519,
];

#[cfg(any(feature = "aws", feature = "azure", feature = "transit"))]
/// Refuses a scheme that such a key cannot sign by.
pub(crate) fn check_scheme(
    provider: &'static str,
    spec: KeySpec,
    scheme: SignatureScheme,
) -> Result<(), KmsError> {
    if spec.signs_by(scheme) {
        return Ok(());
    }
    Err(KmsError::Unsupported {
        provider,
        message: format!("{scheme:?} with a key of kind {}", spec.as_str()),
    })
}

#[cfg(any(feature = "aws", feature = "rest"))]
/// The digest that is signed, so that a request is as small for a list of ten thousand certificates as for
/// one; `None` where the scheme wants the message itself.
pub(crate) fn prehash(scheme: SignatureScheme, message: &[u8]) -> Option<Digest> {
    use SignatureScheme as S;
    match scheme {
        S::EcdsaSha256 | S::RsaPkcs1Sha256 | S::RsaPssSha256 => Some(digest(&SHA256, message)),
        S::EcdsaSha384 | S::RsaPkcs1Sha384 => Some(digest(&SHA384, message)),
        S::EcdsaSha512 => Some(digest(&SHA512, message)),
        S::Ed25519 | S::MlDsa44 | S::MlDsa65 | S::MlDsa87 => None,
    }
}

/// A signature that came over a network is passed on only if it holds under the public key that the caller
/// was shown: a key replaced behind our back, or a wrong padding, shows here and not in a client's chain.
pub(crate) fn check_signature(
    provider: &'static str,
    scheme: SignatureScheme,
    public: &[u8],
    message: &[u8],
    signature: Vec<u8>,
) -> Result<Vec<u8>, KmsError> {
    use SignatureScheme as S;
    let verifier: &'static dyn VerificationAlgorithm = match scheme {
        S::EcdsaSha256 => &ECDSA_P256_SHA256_ASN1,
        S::EcdsaSha384 => &ECDSA_P384_SHA384_ASN1,
        S::EcdsaSha512 => &ECDSA_P521_SHA512_ASN1,
        S::RsaPkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        S::RsaPkcs1Sha384 => &RSA_PKCS1_2048_8192_SHA384,
        S::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
        S::Ed25519 => &ED25519,
        S::MlDsa44 => &ML_DSA_44,
        S::MlDsa65 => &ML_DSA_65,
        S::MlDsa87 => &ML_DSA_87,
    };
    let holds =
        ParsedPublicKey::new(verifier, public).is_ok_and(|key| key.verify_sig(message, &signature).is_ok());
    if holds {
        return Ok(signature);
    }
    let message = "its signature does not hold under its public key".to_owned();
    Err(KmsError::Device { provider, message, source: None })
}

/// The DER inside the PEM of a `SubjectPublicKeyInfo`; `None` if it is another PEM, or none.
#[cfg(any(feature = "gcp", feature = "transit"))]
pub(crate) fn from_pem(pem: &str) -> Option<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let body = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?;
    let body: String = body.strip_suffix("-----END PUBLIC KEY-----")?.split_ascii_whitespace().collect();
    STANDARD.decode(body).ok()
}

/// The `SubjectPublicKeyInfo` of a raw Ed25519 key (RFC 8410, 4); `None` unless it has 32 bytes.
#[cfg(feature = "transit")]
pub(crate) fn ed25519(raw: &[u8]) -> Option<Vec<u8>> {
    const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    (raw.len() == 32).then(|| [&PREFIX[..], raw].concat())
}
