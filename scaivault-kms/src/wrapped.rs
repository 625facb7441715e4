use std::collections::BTreeMap;

use crate::KmsError;

/// Name-value pairs that a wrap is bound to: the service's encryption context where it has one,
/// additional authenticated data elsewhere. Not secret: services log it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<String, String>);

impl Context {
    /// The empty context.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same context with one more pair; a name that is there already is replaced.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The pairs in the order of their names.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// An encoding that no other context shares: for each pair, name and value, each behind its length
    /// as four big-endian bytes.
    #[must_use]
    pub fn to_aad(&self) -> Vec<u8> {
        let mut out = b"scaivault/kms/context/1".to_vec();
        for part in self.0.iter().flat_map(|(n, v)| [n, v]) {
            push(&mut out, part.as_bytes());
        }
        out
    }
}

/// A key under a root key, with what is needed to find that root key again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The kind of provider that made it (see [`Description::provider`](crate::Description::provider)).
    pub provider: String,
    /// The root key's name at that provider.
    pub key_id: String,
    /// The root key's version, where the provider has versions.
    pub key_version: Option<String>,
    /// How it was wrapped, in the provider's words.
    pub algorithm: String,
    /// The wrapped bytes; only the provider can read them.
    pub blob: Vec<u8>,
}

/// The first byte of every encoded [`WrappedKey`].
const FORMAT: u8 = 1;

impl WrappedKey {
    /// Encodes the wrap: a format byte, then each field behind its length as four big-endian bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        let version = self.key_version.as_deref().unwrap_or_default();
        for part in [&self.provider, &self.key_id, version, &self.algorithm] {
            push(&mut out, part.as_bytes());
        }
        push(&mut out, &self.blob);
        out
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] for an unknown format byte, a field that is cut, or trailing bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KmsError> {
        let bad = |message: &str| KmsError::Invalid { provider: "wrap", message: message.to_owned() };
        let (format, mut rest) = bytes.split_first().ok_or_else(|| bad("empty"))?;
        if *format != FORMAT {
            return Err(bad("unknown format"));
        }
        let mut text = || -> Result<String, KmsError> {
            String::from_utf8(take(&mut rest).ok_or_else(|| bad("cut short"))?.to_vec())
                .map_err(|_| bad("not UTF-8"))
        };
        let (provider, key_id, version, algorithm) = (text()?, text()?, text()?, text()?);
        let blob = take(&mut rest).ok_or_else(|| bad("cut short"))?.to_vec();
        if !rest.is_empty() {
            return Err(bad("trailing bytes"));
        }
        let key_version = (!version.is_empty()).then_some(version);
        Ok(Self { provider, key_id, key_version, algorithm, blob })
    }
}

/// What a second key authenticates where the service binds no context: `domain` says for which way of wrapping.
#[cfg(any(feature = "azure", feature = "pkcs11"))]
pub(crate) fn authenticated(domain: &str, context: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let length = (context.len() as u64).to_be_bytes();
    [&[domain.as_bytes(), &length, context], parts].concat().concat()
}

fn push(out: &mut Vec<u8>, part: &[u8]) {
    // A part is a name, a path or a wrapped key: far below 4 GiB.
    out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(part);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, tail) = rest.split_first_chunk::<4>()?;
    let (part, tail) = tail.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    *rest = tail;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> WrappedKey {
        WrappedKey {
            provider: "local".into(),
            key_id: "k".into(),
            key_version: None,
            algorithm: "AES-256-GCM".into(),
            blob: vec![1, 2, 3],
        }
    }

    #[test]
    fn encoding_round_trips_and_every_truncation_is_refused() {
        for wrapped in [sample(), WrappedKey { key_version: Some("7".into()), ..sample() }] {
            let bytes = wrapped.to_bytes();
            assert_eq!(WrappedKey::from_bytes(&bytes).unwrap(), wrapped);
            for cut in 0..bytes.len() {
                assert!(WrappedKey::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
        let mut long = sample().to_bytes();
        long.push(0);
        assert!(WrappedKey::from_bytes(&long).is_err());
    }

    #[test]
    fn contexts_that_concatenate_alike_encode_apart() {
        let a = Context::new().with("ab", "c");
        let b = Context::new().with("a", "bc");
        assert_ne!(a.to_aad(), b.to_aad());
        assert_ne!(Context::new().to_aad(), Context::new().with("", "").to_aad());
    }
}
