use scaivault_kms::KeySpec;
use scaivault_pki::{KeyKind, KeyRule};
use serde::{Deserialize, Serialize};

/// The families of keys that the API names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// RSA, with 2048, 3072 or 4096 bits.
    Rsa,
    /// ECDSA on a NIST curve of 256, 384 or 521 bits.
    Ec,
    /// Ed25519.
    Ed25519,
    /// ML-DSA-44 (FIPS 204).
    #[serde(rename = "ml-dsa-44")]
    MlDsa44,
    /// ML-DSA-65.
    #[serde(rename = "ml-dsa-65")]
    MlDsa65,
    /// ML-DSA-87.
    #[serde(rename = "ml-dsa-87")]
    MlDsa87,
    /// Whatever kind the caller brings; for certificates of roles alone, where a key that is made is on P-256.
    Any,
}

impl KeyType {
    /// The kind of key of a CA, or what is wrong with it.
    pub(in crate::pki) fn spec(self, bits: Option<u32>) -> Result<KeySpec, String> {
        let bits = bits.or((self == Self::Rsa).then_some(4096));
        match self.rule(bits)? {
            KeyRule::Kind(kind) => kind.spec().ok_or_else(|| "is of a kind that does not sign".to_owned()),
            KeyRule::Any => Err("must be one kind of key for a CA".to_owned()),
        }
    }

    /// The kind of key of a role, or what is wrong with the size.
    pub(in crate::pki) fn rule(self, bits: Option<u32>) -> Result<KeyRule, String> {
        let kind = match (self, bits) {
            (Self::Any, None) => return Ok(KeyRule::Any),
            (Self::Ed25519, None) => KeyKind::Ed25519,
            (Self::MlDsa44, None) => KeyKind::MlDsa44,
            (Self::MlDsa65, None) => KeyKind::MlDsa65,
            (Self::MlDsa87, None) => KeyKind::MlDsa87,
            (Self::Ed25519 | Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87 | Self::Any, Some(_)) => {
                return Err("must be absent for ed25519, ml-dsa and any".to_owned());
            }
            (Self::Ec, Some(256) | None) => KeyKind::EcP256,
            (Self::Ec, Some(384)) => KeyKind::EcP384,
            (Self::Ec, Some(521)) => KeyKind::EcP521,
            (Self::Rsa, None) => KeyKind::Rsa(2048),
            (Self::Rsa, Some(bits @ (2048 | 3072 | 4096))) => KeyKind::Rsa(bits as usize),
            (Self::Rsa, Some(bits)) => {
                return Err(format!("must be 2048, 3072 or 4096 for rsa, not {bits}"));
            }
            (Self::Ec, Some(bits)) => return Err(format!("must be 256, 384 or 521 for ec, not {bits}")),
        };
        Ok(KeyRule::Kind(kind))
    }
}

/// Family of a kind of key, and its size where the family has several.
pub(in crate::pki) fn family(spec: KeySpec) -> (KeyType, Option<u32>) {
    match spec {
        KeySpec::Rsa2048 => (KeyType::Rsa, Some(2048)),
        KeySpec::Rsa3072 => (KeyType::Rsa, Some(3072)),
        KeySpec::Rsa4096 => (KeyType::Rsa, Some(4096)),
        KeySpec::EcP384 => (KeyType::Ec, Some(384)),
        KeySpec::EcP521 => (KeyType::Ec, Some(521)),
        KeySpec::Ed25519 => (KeyType::Ed25519, None),
        KeySpec::MlDsa44 => (KeyType::MlDsa44, None),
        KeySpec::MlDsa65 => (KeyType::MlDsa65, None),
        KeySpec::MlDsa87 => (KeyType::MlDsa87, None),
        // The engine signs with no other kind.
        _ => (KeyType::Ec, Some(256)),
    }
}
