use aws_lc_rs::rand;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::KmsError;

/// Bytes that must not leak: zeroized on drop, redacted in `Debug`, compared in constant time, and
/// neither `Clone` nor serializable; to copy or show them one has to say so by name.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; they are zeroized when this value is dropped.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Whoever calls this answers for where they go.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// A second copy, zeroized on its own.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Equality in time that depends on the lengths alone.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret([{} bytes])", self.0.len())
    }
}

/// A 256-bit symmetric key, under the same rules as [`Secret`].
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    /// The number of bytes in every key.
    pub const LEN: usize = 32;

    /// A fresh key from the operating system's generator.
    ///
    /// # Errors
    /// [`KmsError::Device`] if the generator fails.
    pub fn generate() -> Result<Self, KmsError> {
        let mut key = Self(Zeroizing::new([0; Self::LEN]));
        rand::fill(key.0.as_mut_slice()).map_err(|_| KmsError::Device {
            provider: "system",
            message: "the random number generator failed".into(),
            source: None,
        })?;
        Ok(key)
    }

    /// Copies a key out of a slice; `None` unless it has exactly 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == Self::LEN).then(|| {
            let mut key = Self(Zeroizing::new([0; Self::LEN]));
            key.0.copy_from_slice(bytes);
            key
        })
    }

    /// The bytes themselves. Whoever calls this answers for where they go.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Equality in constant time.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey([32 bytes])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_byte_of_a_secret() {
        assert_eq!(format!("{:?}", Secret::new(b"canary".to_vec())), "Secret([6 bytes])");
        assert_eq!(format!("{:?}", SecretKey::generate().unwrap()), "SecretKey([32 bytes])");
    }

    #[test]
    fn a_key_has_exactly_32_bytes() {
        assert!(SecretKey::from_slice(&[0; 31]).is_none());
        assert!(SecretKey::from_slice(&[0; 33]).is_none());
        assert!(SecretKey::from_slice(&[7; 32]).unwrap().ct_eq(&SecretKey::from_slice(&[7; 32]).unwrap()));
    }
}
