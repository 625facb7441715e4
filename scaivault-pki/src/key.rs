//! Public keys as they come, in a DER `SubjectPublicKeyInfo`.

use aws_lc_rs::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest},
    signature::{self as sig, ParsedPublicKey, VerificationAlgorithm},
};
use const_oid::{
    ObjectIdentifier,
    db::{fips204, rfc5912, rfc8410},
};
use der::{
    Any, Decode as _, Encode as _, Sequence,
    asn1::{BitString, UintRef},
};
use scaivault_kms::{KeySpec, SignatureScheme};

use crate::{
    PkiError,
    read::weak::{self, Weakness},
};

/// The kinds of public key that a certificate request may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyKind {
    /// A point on NIST P-256.
    EcP256,
    /// A point on NIST P-384.
    EcP384,
    /// A point on NIST P-521.
    EcP521,
    /// An RSA key of that many bits, 2048 to 8192.
    Rsa(usize),
    /// An Ed25519 key.
    Ed25519,
    /// An ML-DSA-44 key.
    MlDsa44,
    /// An ML-DSA-65 key.
    MlDsa65,
    /// An ML-DSA-87 key.
    MlDsa87,
}

impl KeyKind {
    /// The kind of signing key that has such a public half, if the vault has one.
    #[must_use]
    pub fn spec(self) -> Option<KeySpec> {
        match self {
            Self::EcP256 => Some(KeySpec::EcP256),
            Self::EcP384 => Some(KeySpec::EcP384),
            Self::Rsa(2048) => Some(KeySpec::Rsa2048),
            Self::Rsa(3072) => Some(KeySpec::Rsa3072),
            Self::Rsa(4096) => Some(KeySpec::Rsa4096),
            Self::Rsa(_) => None,
            Self::EcP521 => Some(KeySpec::EcP521),
            Self::Ed25519 => Some(KeySpec::Ed25519),
            Self::MlDsa44 => Some(KeySpec::MlDsa44),
            Self::MlDsa65 => Some(KeySpec::MlDsa65),
            Self::MlDsa87 => Some(KeySpec::MlDsa87),
        }
    }

    /// The kind of the public half of such a signing key, if certificates are issued for it.
    #[must_use]
    pub fn of(spec: KeySpec) -> Option<Self> {
        match spec {
            KeySpec::EcP256 => Some(Self::EcP256),
            KeySpec::EcP384 => Some(Self::EcP384),
            KeySpec::EcP521 => Some(Self::EcP521),
            KeySpec::Rsa2048 => Some(Self::Rsa(2048)),
            KeySpec::Rsa3072 => Some(Self::Rsa(3072)),
            KeySpec::Rsa4096 => Some(Self::Rsa(4096)),
            KeySpec::Ed25519 => Some(Self::Ed25519),
            KeySpec::MlDsa44 => Some(Self::MlDsa44),
            KeySpec::MlDsa65 => Some(Self::MlDsa65),
            KeySpec::MlDsa87 => Some(Self::MlDsa87),
            _ => None,
        }
    }
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EcP256 => f.write_str("ec-p256"),
            Self::EcP384 => f.write_str("ec-p384"),
            Self::EcP521 => f.write_str("ec-p521"),
            Self::Rsa(bits) => write!(f, "rsa-{bits}"),
            Self::Ed25519 => f.write_str("ed25519"),
            Self::MlDsa44 => f.write_str("ml-dsa-44"),
            Self::MlDsa65 => f.write_str("ml-dsa-65"),
            Self::MlDsa87 => f.write_str("ml-dsa-87"),
        }
    }
}

/// A public key whose shape was checked: a point on its curve, an RSA key of decent size, no key that is known to be
/// worthless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub(crate) kind: KeyKind,
    /// The content of the BIT STRING.
    bits: Vec<u8>,
}

#[derive(Sequence)]
pub(crate) struct Algorithm {
    pub(crate) oid: ObjectIdentifier,
    #[asn1(optional = "true")]
    pub(crate) parameters: Option<Any>,
}

#[derive(Sequence)]
struct Spki {
    algorithm: Algorithm,
    key: BitString,
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// The longest `SubjectPublicKeyInfo` that is looked at: ML-DSA-87 needs 2614 octets, RSA with 8192 bits about 1050.
const MAX_SPKI: usize = 3072;
/// RSA exponents below are refused (FIPS 186-5, 5.1), as are those of more than 32 bits.
const MIN_RSA_EXPONENT: u64 = 65_537;

impl PublicKey {
    /// Reads DER.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] naming `field` if it is not DER, of a kind not in [`KeyKind`], or weak; each cause has its
    /// own reason.
    pub(crate) fn parse(field: &'static str, der: &[u8]) -> Result<Self, PkiError> {
        let key = Self::read(field, der)?;
        let checked = match key.kind {
            KeyKind::Rsa(_) => weak::check_rsa(&key.bits),
            KeyKind::Ed25519 => weak::check_ed25519(&key.bits),
            _ => Ok(()),
        };
        match checked {
            Ok(()) => Ok(key),
            Err(Weakness::Malformed(why) | Weakness::Unsupported(why) | Weakness::Weak(why)) => {
                Err(PkiError::invalid(field, format!("public key {why}")))
            }
        }
    }

    /// Reads DER without a look for known weaknesses, which takes long for RSA: for a key to be compared with one that
    /// was parsed.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse) but for the weaknesses.
    pub(crate) fn read(field: &'static str, der: &[u8]) -> Result<Self, PkiError> {
        if der.len() > MAX_SPKI {
            return Err(PkiError::invalid(field, "public key is too long"));
        }
        let spki = Spki::from_der(der).map_err(|_| PkiError::invalid(field, "public key is not in DER"))?;
        let bits =
            spki.key.as_bytes().ok_or_else(|| PkiError::invalid(field, "public key has unused bits"))?;
        let kind = kind(field, &spki.algorithm, bits)?;
        let key = Self { kind, bits: bits.to_vec() };
        key.verifiers()
            .first()
            .and_then(|(_, algorithm)| ParsedPublicKey::new(*algorithm, &key.bits).ok())
            .ok_or_else(|| PkiError::invalid(field, format!("is not a valid {kind} public key")))?;
        Ok(key)
    }

    /// The subject key identifier: the left-most 160 bits of SHA-256 (RFC 7093, method 1).
    pub(crate) fn key_id(&self) -> [u8; 20] {
        let mut id = [0; 20];
        id.copy_from_slice(&digest(&SHA256, &self.bits).as_ref()[..20]);
        id
    }

    /// The `KeyHash` of OCSP's `ResponderID`, which is SHA-1 always (RFC 6960, 4.2.1), and of `CertID`s.
    pub(crate) fn sha1(&self) -> Vec<u8> {
        digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.bits).as_ref().to_vec()
    }

    /// The key hash of `CertID`s that use SHA-256.
    pub(crate) fn sha256(&self) -> Vec<u8> {
        digest(&SHA256, &self.bits).as_ref().to_vec()
    }

    /// Whether `signature` over `message` was made with this key by the algorithm `oid`; `None` if such a
    /// key has no such algorithm.
    pub(crate) fn verify(&self, oid: ObjectIdentifier, message: &[u8], signature: &[u8]) -> Option<bool> {
        let verifiers = self.verifiers();
        let (_, algorithm) = verifiers.iter().find(|(known, _)| *known == oid)?;
        Some(sig::UnparsedPublicKey::new(*algorithm, &self.bits).verify(message, signature).is_ok())
    }

    fn verifiers(&self) -> &'static [(ObjectIdentifier, &'static dyn VerificationAlgorithm)] {
        match self.kind {
            KeyKind::EcP256 => &[
                (rfc5912::ECDSA_WITH_SHA_256, &sig::ECDSA_P256_SHA256_ASN1),
                (rfc5912::ECDSA_WITH_SHA_384, &sig::ECDSA_P256_SHA384_ASN1),
                (rfc5912::ECDSA_WITH_SHA_512, &sig::ECDSA_P256_SHA512_ASN1),
            ],
            KeyKind::EcP384 => &[
                (rfc5912::ECDSA_WITH_SHA_256, &sig::ECDSA_P384_SHA256_ASN1),
                (rfc5912::ECDSA_WITH_SHA_384, &sig::ECDSA_P384_SHA384_ASN1),
                (rfc5912::ECDSA_WITH_SHA_512, &sig::ECDSA_P384_SHA512_ASN1),
            ],
            KeyKind::EcP521 => &[
                (rfc5912::ECDSA_WITH_SHA_256, &sig::ECDSA_P521_SHA256_ASN1),
                (rfc5912::ECDSA_WITH_SHA_384, &sig::ECDSA_P521_SHA384_ASN1),
                (rfc5912::ECDSA_WITH_SHA_512, &sig::ECDSA_P521_SHA512_ASN1),
            ],
            KeyKind::Rsa(_) => &[
                (rfc5912::SHA_256_WITH_RSA_ENCRYPTION, &sig::RSA_PKCS1_2048_8192_SHA256),
                (rfc5912::SHA_384_WITH_RSA_ENCRYPTION, &sig::RSA_PKCS1_2048_8192_SHA384),
                (rfc5912::SHA_512_WITH_RSA_ENCRYPTION, &sig::RSA_PKCS1_2048_8192_SHA512),
            ],
            KeyKind::Ed25519 => &[(rfc8410::ID_ED_25519, &sig::ED25519)],
            KeyKind::MlDsa44 => &[(fips204::ID_ML_DSA_44, &sig::ML_DSA_44)],
            KeyKind::MlDsa65 => &[(fips204::ID_ML_DSA_65, &sig::ML_DSA_65)],
            KeyKind::MlDsa87 => &[(fips204::ID_ML_DSA_87, &sig::ML_DSA_87)],
        }
    }
}

fn kind(field: &'static str, algorithm: &Algorithm, bits: &[u8]) -> Result<KeyKind, PkiError> {
    let bad = |message: &str| PkiError::invalid(field, message);
    match algorithm.oid {
        rfc5912::ID_EC_PUBLIC_KEY => {
            let curve = algorithm.parameters.as_ref().and_then(|p| p.decode_as::<ObjectIdentifier>().ok());
            let (kind, length) = match curve {
                Some(rfc5912::SECP_256_R_1) => (KeyKind::EcP256, 65),
                Some(rfc5912::SECP_384_R_1) => (KeyKind::EcP384, 97),
                Some(rfc5912::SECP_521_R_1) => (KeyKind::EcP521, 133),
                _ => return Err(bad("elliptic curve must be P-256, P-384 or P-521, by its name")),
            };
            if bits.len() != length || bits.first() != Some(&4) {
                return Err(bad("elliptic curve point must be uncompressed"));
            }
            Ok(kind)
        }
        rfc5912::RSA_ENCRYPTION => {
            if !algorithm.parameters.as_ref().is_some_and(Any::is_null) {
                return Err(bad("RSA key must have NULL parameters"));
            }
            rsa_kind(bits).map_err(|why| PkiError::invalid(field, why))
        }
        rfc5912::ID_RSASSA_PSS => {
            Err(bad("RSA-PSS keys are not supported; use an RSA key (rsaEncryption) with PKCS #1 v1.5"))
        }
        oid => match MODERN.iter().find(|(known, _)| *known == oid) {
            Some((_, kind)) if algorithm.parameters.is_none() => Ok(*kind),
            Some((_, kind)) => Err(PkiError::invalid(field, format!("{kind} key must have no parameters"))),
            None => Err(bad("key must be RSA, elliptic curve (P-256, P-384, P-521), Ed25519 or ML-DSA")),
        },
    }
}

/// The kinds whose algorithm identifiers are the same for keys and signatures, and have no parameters (RFC 8410, 3;
/// RFC 9881, 2).
const MODERN: [(ObjectIdentifier, KeyKind); 4] = [
    (rfc8410::ID_ED_25519, KeyKind::Ed25519),
    (fips204::ID_ML_DSA_44, KeyKind::MlDsa44),
    (fips204::ID_ML_DSA_65, KeyKind::MlDsa65),
    (fips204::ID_ML_DSA_87, KeyKind::MlDsa87),
];

fn rsa_kind(bits: &[u8]) -> Result<KeyKind, String> {
    let key = RsaPublicKey::from_der(bits).map_err(|_| "RSA key is not in DER".to_owned())?;
    let modulus = key.modulus.as_bytes();
    let unused = modulus.first().map_or(0, |first| first.leading_zeros());
    let size = modulus.len() * 8 - usize::try_from(unused).unwrap_or_default();
    if !(2048..=8192).contains(&size) {
        return Err(format!("RSA key must have 2048 to 8192 bits, not {size}"));
    }
    if modulus.last().is_some_and(|last| last % 2 == 0) {
        return Err("RSA key must have an odd modulus".to_owned());
    }
    let exponent = key
        .exponent
        .as_bytes()
        .iter()
        .try_fold(0_u64, |all, &byte| (all < 1 << 24).then_some(all << 8 | u64::from(byte)));
    match exponent {
        Some(exponent) if exponent % 2 == 1 && exponent >= MIN_RSA_EXPONENT => Ok(KeyKind::Rsa(size)),
        _ => Err("RSA key must have an odd exponent from 65537, of at most 32 bits".to_owned()),
    }
}

/// How keys of kind `spec` sign certificates: the scheme, its identifier and its DER `AlgorithmIdentifier`.
pub(crate) fn algorithm(spec: KeySpec) -> Result<(SignatureScheme, ObjectIdentifier, Any), PkiError> {
    let scheme = spec.default_scheme();
    // RFC 5758, 3.2, RFC 8410, 3, and RFC 9881, 3: no parameters. RFC 4055, 5: NULL for RSA.
    let (oid, parameters) = match scheme {
        SignatureScheme::EcdsaSha256 => (rfc5912::ECDSA_WITH_SHA_256, None),
        SignatureScheme::EcdsaSha384 => (rfc5912::ECDSA_WITH_SHA_384, None),
        SignatureScheme::EcdsaSha512 => (rfc5912::ECDSA_WITH_SHA_512, None),
        SignatureScheme::Ed25519 => (rfc8410::ID_ED_25519, None),
        SignatureScheme::MlDsa44 => (fips204::ID_ML_DSA_44, None),
        SignatureScheme::MlDsa65 => (fips204::ID_ML_DSA_65, None),
        SignatureScheme::MlDsa87 => (fips204::ID_ML_DSA_87, None),
        SignatureScheme::RsaPkcs1Sha256 => (rfc5912::SHA_256_WITH_RSA_ENCRYPTION, Some(Any::null())),
        _ => {
            return Err(PkiError::invalid(
                "key",
                format!("{} does not sign certificates here", spec.as_str()),
            ));
        }
    };
    let identifier = Algorithm { oid, parameters }
        .to_der()
        .and_then(|der| Any::from_der(&der))
        .map_err(PkiError::encoding("the signature algorithm"))?;
    Ok((scheme, oid, identifier))
}
