use std::fmt;

use scaivault_kms::{KmsError, WrappedKey};

/// Which root key: the kind of its provider, and the name that it has there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RootId {
    pub(super) provider: String,
    pub(super) key_id: String,
}

impl RootId {
    pub(super) fn new(provider: impl Into<String>, key_id: impl Into<String>) -> Self {
        Self { provider: provider.into(), key_id: key_id.into() }
    }

    pub(super) fn of(wrap: &WrappedKey) -> Self {
        Self::new(&*wrap.provider, &*wrap.key_id)
    }

    fn made(&self, wrap: &WrappedKey) -> bool {
        self.provider == wrap.provider && self.key_id == wrap.key_id
    }
}

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.provider, self.key_id)
    }
}

/// One key under one or several root keys, at most once under each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wraps(Vec<WrappedKey>);

/// The first byte where there are several; one alone is encoded as [`WrappedKey`] does, which begins with 1.
const SEVERAL: u8 = 2;

impl Wraps {
    /// Each later wrap of a root key takes the place of the earlier one.
    pub(super) fn new(wraps: impl IntoIterator<Item = WrappedKey>) -> Self {
        wraps.into_iter().fold(Self(Vec::new()), Self::with)
    }

    /// Several: the byte 2, then each wrap behind its length as four big-endian bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        if let [only] = self.0.as_slice() {
            return only.to_bytes();
        }
        let mut out = vec![SEVERAL];
        for wrap in &self.0 {
            let wrap = wrap.to_bytes();
            // A wrap is a name and a wrapped key: far below 4 GiB.
            out.extend_from_slice(&u32::try_from(wrap.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(&wrap);
        }
        out
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] for bytes that it did not write.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, KmsError> {
        let Some((&SEVERAL, mut rest)) = bytes.split_first() else {
            return Ok(Self(vec![WrappedKey::from_bytes(bytes)?]));
        };
        let bad = |message: &str| KmsError::Invalid { provider: "wrap", message: message.to_owned() };
        let mut wraps: Vec<WrappedKey> = Vec::new();
        while !rest.is_empty() {
            let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(|| bad("cut short"))?;
            let (wrap, tail) =
                tail.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or_else(|| bad("cut short"))?;
            let wrap = WrappedKey::from_bytes(wrap)?;
            if wraps.iter().any(|known| RootId::of(known) == RootId::of(&wrap)) {
                return Err(bad("two wraps of one root key"));
            }
            wraps.push(wrap);
            rest = tail;
        }
        if wraps.len() < 2 {
            return Err(bad("not several"));
        }
        Ok(Self(wraps))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &WrappedKey> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The wrap of this root key.
    pub(super) fn under(&self, root: &RootId) -> Option<&WrappedKey> {
        self.0.iter().find(|wrap| root.made(wrap))
    }

    /// With this wrap, in the place of the one that its root key has made before.
    pub(super) fn with(mut self, wrap: WrappedKey) -> Self {
        let root = RootId::of(&wrap);
        match self.0.iter_mut().find(|known| root.made(known)) {
            Some(known) => *known = wrap,
            None => self.0.push(wrap),
        }
        self
    }

    /// Without the wrap of this root key.
    pub(super) fn without(mut self, root: &RootId) -> Self {
        self.0.retain(|wrap| !root.made(wrap));
        self
    }

    /// Those whose root key passes the test.
    pub(super) fn only(&self, test: impl Fn(&RootId) -> bool) -> Self {
        Self(self.0.iter().filter(|wrap| test(&RootId::of(wrap))).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrap(provider: &str, key_id: &str, blob: &[u8]) -> WrappedKey {
        WrappedKey {
            provider: provider.into(),
            key_id: key_id.into(),
            key_version: None,
            algorithm: "a".into(),
            blob: blob.into(),
        }
    }

    #[test]
    fn one_alone_is_encoded_as_ever_and_several_are_not_mistaken_for_it() {
        let one = wrap("local", "k", b"x");
        assert_eq!(Wraps::new([one.clone()]).to_bytes(), one.to_bytes());
        assert_eq!(Wraps::from_bytes(&one.to_bytes()).unwrap(), Wraps::new([one.clone()]));
        let two = Wraps::new([one, wrap("aws", "k", b"y")]).to_bytes();
        assert!(WrappedKey::from_bytes(&two).is_err(), "an older build refuses what it does not know");
    }

    #[test]
    fn a_root_key_has_one_wrap_at_most() {
        let all = Wraps::new([wrap("a", "k", b"1"), wrap("b", "k", b"2"), wrap("a", "k", b"3")]);
        assert_eq!(all.iter().map(|wrap| wrap.blob[0]).collect::<Vec<_>>(), [b'3', b'2']);
        let (a, b) = (RootId::new("a", "k"), RootId::new("b", "k"));
        assert!(all.under(&a).is_some() && all.clone().without(&a).under(&a).is_none());
        assert_eq!(all.only(|root| *root == b), all.without(&a));

        let mut twice = vec![SEVERAL];
        for _ in 0..2 {
            let wrap = wrap("a", "k", b"1").to_bytes();
            twice.extend((wrap.len() as u32).to_be_bytes());
            twice.extend(wrap);
        }
        assert!(Wraps::from_bytes(&twice).is_err());
        assert!(
            Wraps::from_bytes(&twice[..twice.len() / 2 + 1]).is_err(),
            "a single one in the form of several"
        );
        assert!(Wraps::from_bytes(&[SEVERAL]).is_err() && Wraps::from_bytes(&[]).is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_nothing_else_is(
            blobs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..10),
            cut in any::<prop::sample::Index>(),
        ) {
            let made = Wraps::new(blobs.iter().enumerate().map(|(n, blob)| wrap("p", &n.to_string(), blob)));
            let bytes = made.to_bytes();
            prop_assert_eq!(Wraps::from_bytes(&bytes).unwrap(), made.clone());
            if let Ok(other) = Wraps::from_bytes(&bytes[..cut.index(bytes.len())]) {
                prop_assert_ne!(other, made);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(wraps) = Wraps::from_bytes(&bytes) {
                prop_assert_eq!(wraps.to_bytes(), bytes);
            }
        }
    }
}
