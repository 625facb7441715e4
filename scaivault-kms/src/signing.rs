use std::{fmt::Debug, str::FromStr};

use async_trait::async_trait;

use crate::KmsError;

/// A private key that signs and is never shown.
#[async_trait]
pub trait SigningKey: Debug + Send + Sync {
    /// What kind of key it is.
    fn spec(&self) -> KeySpec;

    /// The public half as a DER `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7).
    fn public_key_der(&self) -> &[u8];

    /// Signs `message` (the provider hashes it). ECDSA signatures come as DER `Ecdsa-Sig-Value`.
    ///
    /// # Errors
    /// [`KmsError::Unsupported`] if the key cannot sign by `scheme`; otherwise what the provider ran into.
    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError>;
}

/// Refers to a signing key inside a provider, in the provider's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRef(pub String);

/// The kinds of signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeySpec {
    /// ECDSA on NIST P-256.
    EcP256,
    /// ECDSA on NIST P-384.
    EcP384,
    /// ECDSA on NIST P-521.
    EcP521,
    /// RSA with a 2048-bit modulus.
    Rsa2048,
    /// RSA with a 3072-bit modulus.
    Rsa3072,
    /// RSA with a 4096-bit modulus.
    Rsa4096,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ML-DSA-44 (FIPS 204).
    MlDsa44,
    /// ML-DSA-65 (FIPS 204).
    MlDsa65,
    /// ML-DSA-87 (FIPS 204).
    MlDsa87,
}

impl KeySpec {
    /// Every kind that certificates are issued with.
    pub const ALL: &[Self] = &[
        Self::EcP256,
        Self::EcP384,
        Self::EcP521,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::Ed25519,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::MlDsa87,
    ];

    /// The stable name, as it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::EcP521 => "ec-p521",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::Ed25519 => "ed25519",
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
        }
    }

    /// The scheme that such a key signs certificates with: the hash as strong as the key.
    #[must_use]
    pub fn default_scheme(self) -> SignatureScheme {
        match self {
            Self::EcP256 => SignatureScheme::EcdsaSha256,
            Self::EcP384 => SignatureScheme::EcdsaSha384,
            Self::EcP521 => SignatureScheme::EcdsaSha512,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => SignatureScheme::RsaPkcs1Sha256,
            Self::Ed25519 => SignatureScheme::Ed25519,
            Self::MlDsa44 => SignatureScheme::MlDsa44,
            Self::MlDsa65 => SignatureScheme::MlDsa65,
            Self::MlDsa87 => SignatureScheme::MlDsa87,
        }
    }

    /// Whether such a key can sign by `scheme`. RSA has several; every other kind has its one.
    #[must_use]
    pub fn signs_by(self, scheme: SignatureScheme) -> bool {
        use SignatureScheme as S;
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => {
                matches!(scheme, S::RsaPkcs1Sha256 | S::RsaPkcs1Sha384 | S::RsaPssSha256)
            }
            other => scheme == other.default_scheme(),
        }
    }
}

impl FromStr for KeySpec {
    type Err = KmsError;

    fn from_str(text: &str) -> Result<Self, KmsError> {
        Self::ALL.iter().copied().find(|spec| spec.as_str() == text).ok_or_else(|| KmsError::Unsupported {
            provider: "signing",
            message: format!("key kind {text:?}"),
        })
    }
}

/// How a message is hashed and signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureScheme {
    /// ECDSA with SHA-256 (on P-256).
    EcdsaSha256,
    /// ECDSA with SHA-384 (on P-384).
    EcdsaSha384,
    /// ECDSA with SHA-512 (on P-521).
    EcdsaSha512,
    /// RSA PKCS #1 v1.5 with SHA-256.
    RsaPkcs1Sha256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    RsaPkcs1Sha384,
    /// RSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes.
    RsaPssSha256,
    /// Ed25519 over the message itself (RFC 8032, 5.1).
    Ed25519,
    /// ML-DSA-44 over the message itself, with an empty context (RFC 9881, 3).
    MlDsa44,
    /// ML-DSA-65 over the message itself, with an empty context.
    MlDsa65,
    /// ML-DSA-87 over the message itself, with an empty context.
    MlDsa87,
}
