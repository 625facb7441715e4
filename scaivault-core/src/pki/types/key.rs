use scaivault_kms::KeySpec;
use scaivault_pki::{KeyKind, KeyRule};
use serde::{Deserialize, Serialize};

/// The families of keys that the API names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// RSA, with 2048, 3072 or 4096 bits.
    Rsa,
    /// ECDSA on a NIST curve of 256 or 384 bits; for certificates of roles also of 521.
    Ec,
    /// Ed25519; for certificates of roles alone.
    Ed25519,
    /// Whatever kind the caller brings; for certificates of roles alone, where a key that is made is on P-256.
    Any,
}

impl KeyType {
    /// The kind of key of a CA, or what is wrong with it.
    pub(in crate::pki) fn spec(self, bits: Option<u32>) -> Result<KeySpec, String> {
        let default = if self == Self::Rsa { 4096 } else { 256 };
        match (self, bits.unwrap_or(default)) {
            (Self::Rsa, 2048) => Ok(KeySpec::Rsa2048),
            (Self::Rsa, 3072) => Ok(KeySpec::Rsa3072),
            (Self::Rsa, 4096) => Ok(KeySpec::Rsa4096),
            (Self::Ec, 256) => Ok(KeySpec::EcP256),
            (Self::Ec, 384) => Ok(KeySpec::EcP384),
            (Self::Rsa, bits) => Err(format!("must be 2048, 3072 or 4096 for rsa, not {bits}")),
            (Self::Ec, bits) => Err(format!("must be 256 or 384 for ec, not {bits}")),
            (Self::Ed25519 | Self::Any, _) => Err("must be rsa or ec for a CA".to_owned()),
        }
    }

    /// The kind of key of a role, or what is wrong with the size.
    pub(in crate::pki) fn rule(self, bits: Option<u32>) -> Result<KeyRule, String> {
        let kind = match (self, bits) {
            (Self::Any, None) => return Ok(KeyRule::Any),
            (Self::Ed25519, None) => KeyKind::Ed25519,
            (Self::Ed25519 | Self::Any, Some(_)) => {
                return Err("must be absent for ed25519 and any".to_owned());
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

/// Family and size of a kind of key.
pub(in crate::pki) fn family(spec: KeySpec) -> (KeyType, u32) {
    match spec {
        KeySpec::Rsa2048 => (KeyType::Rsa, 2048),
        KeySpec::Rsa3072 => (KeyType::Rsa, 3072),
        KeySpec::Rsa4096 => (KeyType::Rsa, 4096),
        KeySpec::EcP384 => (KeyType::Ec, 384),
        // The engine signs with no other kind.
        _ => (KeyType::Ec, 256),
    }
}
