//! A recovery root: keys are wrapped to a public key whose private half is in no machine, but in shares.
//!
//! A wrap is an ephemeral X25519 key, and the key under AES-256-GCM with a key from HKDF-SHA-256 over what both
//! agree on, both public keys and nothing else; the context is its additional data. The private key is split byte by
//! byte by Shamir's scheme over GF(2⁸) with the polynomial of AES.

use std::fmt;

use aws_lc_rs::{
    agreement::{PrivateKey, UnparsedPublicKey, X25519, agree},
    digest, hkdf,
};
use scaivault_kms::{Context, KmsError, Secret, SecretKey, WrappedKey};
use zeroize::Zeroizing;

use super::{
    seal::Aead,
    wraps::{RootId, Wraps},
};
use crate::{Code, Error, Random, Result, limits};

/// The kind of provider that stands in the wraps of a recovery root.
pub(super) const PROVIDER: &str = "recovery";
const ALGORITHM: &str = "X25519-HKDF-SHA256-AES256GCM";
/// Bytes of an X25519 key.
const KEY: usize = 32;
/// What the salt of the derivation says.
const LABEL: &[u8] = b"scaivault/recovery/1";

/// The public half, which wraps.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RecoveryPublic([u8; KEY]);

/// The private half, for as long as a verb takes.
pub(super) struct RecoveryKey {
    seed: SecretKey,
    public: RecoveryPublic,
}

/// One of the parts of a recovery root's private key. To be kept by a person, apart from the others; so many of them
/// as its threshold says make the key. Its text is given out by [`text`](Self::text) alone.
pub struct RecoveryShare {
    threshold: u8,
    shares: u8,
    index: u8,
    /// The first bytes of the public key's hash: shares of different keys are told apart.
    set: [u8; SET],
    part: Secret,
}

/// Bytes of a share that name its key.
const SET: usize = 8;
/// Bytes of a share's checksum.
const CHECK: usize = 4;
/// What the text of a share begins with.
const PREFIX: &str = "svr1";

impl RecoveryPublic {
    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What names the key everywhere: the first half of its SHA-256, in hexadecimal.
    pub(super) fn fingerprint(&self) -> String {
        hex::encode(&digest::digest(&digest::SHA256, &self.0).as_ref()[..16])
    }

    pub(super) fn id(&self) -> RootId {
        RootId::new(PROVIDER, self.fingerprint())
    }

    /// Wraps a key to whoever has the private half.
    pub(super) fn wrap(&self, key: &SecretKey, context: &Context, random: &dyn Random) -> Result<WrappedKey> {
        let mut seed = Zeroizing::new([0; KEY]);
        random.fill(&mut seed[..])?;
        let seed = SecretKey::from_slice(&seed[..]).ok_or_else(|| Error::internal("a key of 32 bytes"))?;
        let ephemeral = RecoveryKey::from_seed(seed)?;
        let sealed = ephemeral.agreed(&self.0, &ephemeral.public.0, &self.0)?.seal(
            &context.to_aad(),
            key.expose(),
            random,
        )?;
        Ok(WrappedKey {
            provider: PROVIDER.to_owned(),
            key_id: self.fingerprint(),
            key_version: None,
            algorithm: ALGORITHM.to_owned(),
            blob: [ephemeral.public.0.as_slice(), &sealed].concat(),
        })
    }
}

impl RecoveryKey {
    pub(super) fn generate() -> Result<Self> {
        Self::from_seed(SecretKey::generate()?)
    }

    fn from_seed(seed: SecretKey) -> Result<Self> {
        let broken = || Error::internal("X25519 refused a key");
        let private = PrivateKey::from_private_key(&X25519, seed.expose()).map_err(|_| broken())?;
        let public = private.compute_public_key().map_err(|_| broken())?;
        let public = RecoveryPublic::from_slice(public.as_ref()).ok_or_else(broken)?;
        Ok(Self { seed, public })
    }

    pub(super) fn public(&self) -> &RecoveryPublic {
        &self.public
    }

    /// What this private and that public key agree on, for one wrap by `ephemeral` to `recipient`.
    fn agreed(&self, with: &[u8; KEY], ephemeral: &[u8; KEY], recipient: &[u8; KEY]) -> Result<Aead> {
        let failed = || Error::internal("X25519 failed");
        let private = PrivateKey::from_private_key(&X25519, self.seed.expose()).map_err(|_| failed())?;
        agree(&private, UnparsedPublicKey::new(&X25519, with), failed(), |agreed| {
            let mut okm = Zeroizing::new([0; SecretKey::LEN]);
            hkdf::Salt::new(hkdf::HKDF_SHA256, LABEL)
                .extract(agreed)
                .expand(&[ephemeral, recipient], hkdf::HKDF_SHA256)
                .and_then(|from| from.fill(&mut okm[..]))
                .map_err(|_| failed())?;
            Aead::new(SecretKey::from_slice(&okm[..]).ok_or_else(failed)?)
        })
    }

    /// Opens what was wrapped to this key under the same context.
    pub(super) fn unwrap(&self, wrap: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        let invalid = |message: &str| KmsError::Invalid { provider: PROVIDER, message: message.to_owned() };
        if wrap.provider != PROVIDER || wrap.key_id != self.public.fingerprint() {
            return Err(invalid("it was wrapped to another key"));
        }
        if wrap.algorithm != ALGORITHM {
            return Err(invalid("unknown algorithm"));
        }
        let (ephemeral, sealed) =
            wrap.blob.split_first_chunk::<KEY>().ok_or_else(|| invalid("the blob is cut short"))?;
        let aead = self.agreed(ephemeral, ephemeral, &self.public.0);
        let aead = aead.map_err(|_| invalid("the blob was changed"))?;
        let opened = aead.open(&context.to_aad(), sealed);
        opened
            .and_then(|key| SecretKey::from_slice(key.expose()))
            .ok_or_else(|| invalid("the blob or its context was changed"))
    }

    /// Opens the wrap of this key among several.
    pub(super) fn open(&self, wraps: &Wraps, context: &Context) -> Result<SecretKey, KmsError> {
        let id = self.public.id();
        let wrap = wraps.under(&id).ok_or_else(|| KmsError::NotFound {
            provider: PROVIDER,
            message: format!("it is not wrapped to {}", id.key_id),
        })?;
        self.unwrap(wrap, context)
    }

    /// Splits the key, so that `threshold` of `shares` make it and fewer say nothing about it.
    pub(super) fn split(&self, shares: u8, threshold: u8, random: &dyn Random) -> Result<Vec<RecoveryShare>> {
        if shares > limits::RECOVERY_SHARES || threshold < 2 || threshold > shares {
            let message = format!(
                "{threshold} of {shares} shares: the threshold is at least 2 and at most the number of shares, \
                 which is at most {}",
                limits::RECOVERY_SHARES
            );
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let mut coefficients = vec![Zeroizing::new([0; KEY]); usize::from(threshold) - 1];
        for coefficient in &mut coefficients {
            random.fill(&mut coefficient[..])?;
        }
        let share = |index| {
            let part = (0..KEY).map(|at| {
                let mut value = 0;
                for coefficient in coefficients.iter().rev() {
                    value = multiply(value ^ coefficient[at], index);
                }
                value ^ self.seed.expose()[at]
            });
            let part = Secret::new(part.collect());
            RecoveryShare { threshold, shares, index, set: set(&self.public), part }
        };
        Ok((1..=shares).map(share).collect())
    }

    /// Makes the key of its shares again.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if they are too few, if one is there twice, or if they are not of one key.
    pub(super) fn join(shares: &[RecoveryShare]) -> Result<Self> {
        let refused = |message: String| Err(Error::new(Code::InvalidRequest, message));
        let Some(first) = shares.first() else { return refused("there are no shares".to_owned()) };
        for (at, share) in shares.iter().enumerate() {
            if share.set != first.set {
                let (a, b) = (hex::encode(first.set), hex::encode(share.set));
                return refused(format!(
                    "share {} of key {b}… is not of the key {a}… of the others",
                    share.index
                ));
            }
            if (share.threshold, share.shares) != (first.threshold, first.shares) {
                return refused(format!("share {} was not made together with the others", share.index));
            }
            if shares[..at].iter().any(|known| known.index == share.index) {
                return refused(format!("share {} is there twice", share.index));
            }
        }
        if shares.len() < usize::from(first.threshold) {
            return refused(format!("{} shares are too few: it takes {}", shares.len(), first.threshold));
        }
        let mut seed = Zeroizing::new([0; KEY]);
        for share in shares {
            let weight = weight(share.index, shares.iter().map(|other| other.index));
            for (byte, part) in seed.iter_mut().zip(share.part.expose()) {
                *byte ^= multiply(weight, *part);
            }
        }
        let seed = SecretKey::from_slice(&seed[..]).ok_or_else(|| Error::internal("a key of 32 bytes"))?;
        let key = Self::from_seed(seed)?;
        if set(&key.public) != first.set {
            let key = hex::encode(first.set);
            return refused(format!("the shares do not make the key {key}…: one of them is wrong"));
        }
        Ok(key)
    }
}

fn set(public: &RecoveryPublic) -> [u8; SET] {
    let mut set = [0; SET];
    set.copy_from_slice(&digest::digest(&digest::SHA256, &public.0).as_ref()[..SET]);
    set
}

/// The weight of a share in the sum that gives the value at 0: the product of x / (x − own) over the others.
fn weight(own: u8, all: impl Iterator<Item = u8>) -> u8 {
    all.filter(|x| *x != own).fold(1, |product, x| multiply(product, multiply(x, inverse(x ^ own))))
}

/// The product in GF(2⁸) of AES, in the same steps whatever the factors are.
fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..8 {
        product ^= a & 0u8.wrapping_sub((b >> bit) & 1);
        a = (a << 1) ^ (0x1b & 0u8.wrapping_sub(a >> 7));
    }
    product
}

/// The inverse, and 0 for 0: the 254th power.
fn inverse(a: u8) -> u8 {
    let (mut power, mut square) = (1, a);
    for _ in 0..7 {
        square = multiply(square, square);
        power = multiply(power, square);
    }
    power
}

impl RecoveryShare {
    /// The share as text, for its keeper alone: `svr1`, then groups of hexadecimal digits with hyphens between. It
    /// holds the threshold, its number, which key it is of, and a checksum.
    #[must_use]
    pub fn text(&self) -> Secret {
        // Never grown, so that no copy is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(3 + SET + KEY + CHECK));
        bytes.extend_from_slice(&[self.threshold, self.shares, self.index]);
        bytes.extend_from_slice(&self.set);
        bytes.extend_from_slice(self.part.expose());
        let check = digest::digest(&digest::SHA256, &bytes);
        bytes.extend_from_slice(&check.as_ref()[..CHECK]);
        let digits = Zeroizing::new(hex::encode(&*bytes));
        let mut text = Vec::with_capacity(digits.len() * 2);
        text.extend_from_slice(PREFIX.as_bytes());
        for (at, digit) in digits.bytes().enumerate() {
            if at % 8 == 0 {
                text.push(b'-');
            }
            text.push(digit);
        }
        Secret::new(text)
    }

    /// Reads what [`text`](Self::text) gave; blanks and hyphens may be anywhere, and letters of either case.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if it is none, or was mistyped. The message shows nothing of it.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |message: &str| Error::new(Code::InvalidRequest, message.to_owned());
        let mut letters = Zeroizing::new(String::with_capacity(text.len()));
        letters
            .extend(text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_lowercase()));
        let digits =
            letters.strip_prefix(PREFIX).ok_or_else(|| refused("no share: it does not begin with svr1"))?;
        let mut bytes = Zeroizing::new([0; 3 + SET + KEY + CHECK]);
        if digits.len() != 2 * bytes.len() {
            return Err(refused("no share: it is too long or too short"));
        }
        hex::decode_to_slice(digits, &mut bytes[..])
            .map_err(|_| refused("no share: it has other signs than 0 to 9 and a to f"))?;
        let (content, check) = bytes.split_at(3 + SET + KEY);
        if digest::digest(&digest::SHA256, content).as_ref()[..CHECK] != *check {
            return Err(refused("the share was mistyped: its checksum is wrong"));
        }
        let (&[threshold, shares, index], rest) =
            content.split_first_chunk().ok_or_else(|| refused("no share"))?;
        let (set, part) = rest.split_first_chunk::<SET>().ok_or_else(|| refused("no share"))?;
        let sane = threshold >= 2
            && threshold <= shares
            && shares <= limits::RECOVERY_SHARES
            && (1..=shares).contains(&index);
        if !sane {
            return Err(refused("no share: its numbers contradict each other"));
        }
        Ok(Self { threshold, shares, index, set: *set, part: Secret::new(part.to_vec()) })
    }

    /// Which of the shares it is, from 1.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// How many shares make the key.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.threshold
    }
}

impl fmt::Debug for RecoveryShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryShare")
            .field("index", &self.index)
            .field("threshold", &self.threshold)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RecoveryPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecoveryPublic").field(&self.fingerprint()).finish()
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryKey").field("public", &self.public).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SystemRandom;

    fn key() -> RecoveryKey {
        RecoveryKey::generate().unwrap()
    }

    fn reason<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => panic!("this had to be refused"),
            Err(error) => error.to_string(),
        }
    }

    /// The products that FIPS 197 gives in 4.2, and the inverse that its S-box is made from.
    #[test]
    fn the_field_is_that_of_aes() {
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(multiply(0x57, 0x13), 0xfe);
        assert_eq!([2, 4, 8, 16].map(|x| multiply(0x57, x)), [0xae, 0x47, 0x8e, 0x07]);
        assert_eq!(inverse(0x53), 0xca);
        assert_eq!(inverse(0), 0);
        for a in 1..=255 {
            assert_eq!(multiply(a, inverse(a)), 1, "{a}");
            assert_eq!(multiply(a, 1), a);
        }
    }

    /// f(x) = 42 + 7x over the field: f(1) = 45, f(2) = 36, and any two give 42.
    #[test]
    fn a_line_through_two_points_is_known_at_zero() {
        let points = [(1, 42 ^ 7), (2, 42 ^ multiply(7, 2)), (9, 42 ^ multiply(7, 9))];
        assert_eq!((points[0].1, points[1].1), (45, 36));
        for pair in [[points[0], points[1]], [points[1], points[2]], [points[2], points[0]]] {
            let at_zero = pair
                .iter()
                .fold(0, |sum, (x, y)| sum ^ multiply(weight(*x, pair.iter().map(|(x, _)| *x)), *y));
            assert_eq!(at_zero, 42);
        }
    }

    /// Made by another implementation of X25519, HKDF and AES-GCM (in Python) from this module's description.
    #[test]
    fn a_wrap_that_another_implementation_made_opens() {
        let key = RecoveryKey::from_seed(SecretKey::from_slice(&[7; 32]).unwrap()).unwrap();
        assert_eq!(
            hex::encode(key.public().bytes()),
            "13be4feaeaf204c7fd3358fc9c00721881d174278128227ec674f37f7fe97b6d"
        );
        assert_eq!(key.public().fingerprint(), "0f6d2553ff0c0f447ae202edd84383e1");
        let blob = "\
             57db4b359f23ae5e146e4e2512056704722506348c150c14753d0c933d04d4210105050505050505\
             050505050592d0f9a310c2a7a191e62e63ccbcba517602e7975832106b56770c4d206f29456559e3\
             0f72ee22d0b5245c58a89798a3";
        let wrap = WrappedKey {
            provider: PROVIDER.into(),
            key_id: key.public().fingerprint(),
            key_version: None,
            algorithm: ALGORITHM.into(),
            blob: hex::decode(blob).unwrap(),
        };
        let opened = key.unwrap(&wrap, &Context::new().with("key", "pk_1")).unwrap();
        assert!(opened.ct_eq(&SecretKey::from_slice(&[3; 32]).unwrap()));
    }

    #[test]
    fn a_wrap_opens_by_its_key_under_its_context_and_not_otherwise() {
        let (key, other) = (key(), key());
        let (context, secret) = (Context::new().with("key", "pk_1"), SecretKey::generate().unwrap());
        let wrap = key.public().wrap(&secret, &context, &SystemRandom).unwrap();
        assert!(key.unwrap(&wrap, &context).unwrap().ct_eq(&secret));
        assert!(other.unwrap(&wrap, &context).is_err());
        assert!(key.unwrap(&wrap, &Context::new().with("key", "pk_2")).is_err());
        assert_ne!(wrap.blob, key.public().wrap(&secret, &context, &SystemRandom).unwrap().blob);
        for at in 0..wrap.blob.len() {
            let mut changed = wrap.clone();
            changed.blob[at] ^= 1;
            assert!(key.unwrap(&changed, &context).is_err(), "byte {at}");
            changed.blob.truncate(at);
            assert!(key.unwrap(&changed, &context).is_err(), "cut at {at}");
        }
        // A point of small order agrees on nothing.
        let mut weak = wrap;
        weak.blob[..KEY].fill(0);
        assert!(key.unwrap(&weak, &context).is_err());
    }

    #[test]
    fn what_is_wrong_with_shares_is_said_and_nothing_of_them_shown() {
        let (a, b) = (key(), key());
        let shares = || a.split(5, 3, &SystemRandom).unwrap();
        let [one, two, three, four, five]: [RecoveryShare; 5] = shares().try_into().unwrap();
        assert!(reason(RecoveryKey::join(&[])).contains("no shares"));
        let two_of_them = [one, two];
        assert!(reason(RecoveryKey::join(&two_of_them)).contains("2 shares are too few: it takes 3"));
        let [one, two] = two_of_them;
        let again = RecoveryShare::parse(std::str::from_utf8(two.text().expose()).unwrap()).unwrap();
        assert!(reason(RecoveryKey::join(&[one, two, again])).contains("share 2 is there twice"));
        let stranger = b.split(5, 3, &SystemRandom).unwrap().remove(0);
        let mixed = [three, four, stranger];
        let named = reason(RecoveryKey::join(&mixed));
        assert!(named.contains("share 1 of key") && named.contains(&hex::encode(set(&a.public))), "{named}");
        let [three, four, _] = mixed;
        // Split once more, the same key has other shares.
        let other_time = shares().remove(0);
        assert!(reason(RecoveryKey::join(&[three, four, other_time])).contains("one of them is wrong"));

        let text = five.text();
        let text = std::str::from_utf8(text.expose()).unwrap();
        assert!(text.starts_with("svr1-0305") && !format!("{five:?}").contains(&text[40..60]), "{five:?}");
        assert_eq!(RecoveryShare::parse(&text.to_uppercase().replace('-', " ")).unwrap().index(), 5);
        // The first digit of a group in the middle.
        let changed = |to: &str| [&text[..41], to, &text[42..]].concat();
        let mistyped = changed(if &text[41..42] == "0" { "1" } else { "0" });
        for (typed, why) in [
            (mistyped.as_str(), "checksum"),
            (&text[..text.len() - 1], "too short"),
            ("correct horse", "does not begin"),
            (&changed("x"), "other signs"),
        ] {
            let refused = reason(RecoveryShare::parse(typed));
            assert!(refused.contains(why) && !refused.contains(&text[20..40]), "{refused}");
        }
        for (shares, threshold) in [(1, 1), (3, 1), (2, 3), (17, 2), (0, 0)] {
            assert!(reason(a.split(shares, threshold, &SystemRandom)).contains("threshold"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_enough_shares_make_the_key_and_fewer_do_not(
            shares in 2..=16u8, threshold in 2..=16u8, order in any::<u64>(),
        ) {
            prop_assume!(threshold <= shares);
            let key = key();
            let mut made = key.split(shares, threshold, &SystemRandom).unwrap();
            let from = usize::try_from(order % u64::from(shares)).unwrap();
            made.rotate_left(from);
            if order & 1 == 1 { made.reverse(); }
            let joined = RecoveryKey::join(&made[..usize::from(threshold)]).unwrap();
            prop_assert!(joined.seed.ct_eq(&key.seed));
            prop_assert!(RecoveryKey::join(&made).unwrap().seed.ct_eq(&key.seed), "all of them");
            // One fewer, taken for enough, makes another key.
            let mut fewer: Vec<RecoveryShare> = made.drain(..usize::from(threshold) - 1).collect();
            fewer.iter_mut().for_each(|share| share.threshold = threshold - 1);
            prop_assert!(RecoveryKey::join(&fewer).is_err());
        }

        #[test]
        fn multiplication_is_that_of_a_field(a: u8, b: u8, c: u8) {
            prop_assert_eq!(multiply(a, b), multiply(b, a));
            prop_assert_eq!(multiply(a, multiply(b, c)), multiply(multiply(a, b), c));
            prop_assert_eq!(multiply(a, b ^ c), multiply(a, b) ^ multiply(a, c));
        }
    }
}
