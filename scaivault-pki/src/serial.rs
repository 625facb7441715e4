use std::{cmp::Ordering, fmt};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};

use crate::PkiError;

/// A certificate's serial number: a positive integer of at most 20 octets (RFC 5280, 4.1.2.2).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Serial {
    /// Zeros behind the number.
    octets: [u8; Self::MAX_LEN],
    length: u8,
}

impl Serial {
    /// The longest serial number, in octets of DER content.
    pub const MAX_LEN: usize = 20;

    /// A serial of exactly 16 octets from 16 random ones. The two top bits are fixed to `01`, so that it
    /// is positive and of one length always; 126 bits stay random.
    #[must_use]
    pub fn from_random(mut random: [u8; 16]) -> Self {
        random[0] = random[0] & 0x3f | 0x40;
        Self::of(&random)
    }

    /// Reads hexadecimal digits of any case, in pairs set apart by colons or with none at all, with any
    /// leading zeros: `1A:2B`, `1a2b`, `00:1A:2B`.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] for anything else, for zero, and for more than 20 octets.
    pub fn parse(text: &str) -> Result<Self, PkiError> {
        let bad = || {
            PkiError::invalid(
                "serial_number",
                "must be hexadecimal digits, in pairs set apart by colons or none",
            )
        };
        // Three characters an octet, and some room for leading zeros.
        if text.len() > 4 * 3 * Self::MAX_LEN {
            return Err(bad());
        }
        let mut bytes = Vec::with_capacity(Self::MAX_LEN + 1);
        if text.contains(':') {
            for pair in text.split(':') {
                let &[high, low] = pair.as_bytes() else { return Err(bad()) };
                bytes.push(octet(high, low).ok_or_else(bad)?);
            }
        } else {
            let digits = text.as_bytes();
            let (first, pairs) = digits.split_at(digits.len() % 2);
            if let &[low] = first {
                bytes.push(octet(b'0', low).ok_or_else(bad)?);
            }
            for pair in pairs.chunks_exact(2) {
                bytes.push(octet(pair[0], pair[1]).ok_or_else(bad)?);
            }
        }
        Self::from_bytes(&bytes)
    }

    /// Takes an unsigned big-endian integer; leading zeros do not matter.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] for zero and for more than 20 octets of DER content.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PkiError> {
        let start = bytes.iter().position(|&byte| byte != 0);
        let Some(magnitude) = start.map(|start| &bytes[start..]) else {
            return Err(PkiError::invalid("serial_number", "must not be zero"));
        };
        let sign = usize::from(magnitude[0] & 0x80 != 0);
        if magnitude.len() + sign > Self::MAX_LEN {
            return Err(PkiError::invalid("serial_number", "must have at most 20 octets"));
        }
        let mut content = [0; Self::MAX_LEN];
        let content = &mut content[..sign + magnitude.len()];
        content[sign..].copy_from_slice(magnitude);
        Ok(Self::of(content))
    }

    /// Of at most 20 octets: lists have millions of them, which therefore lie in one piece of memory.
    fn of(content: &[u8]) -> Self {
        let length = content.len().min(Self::MAX_LEN);
        let mut octets = [0; Self::MAX_LEN];
        octets[..length].copy_from_slice(&content[..length]);
        Self { octets, length: u8::try_from(length).unwrap_or_default() }
    }

    /// The content octets of the DER INTEGER: big-endian, minimal, with a zero octet first where the
    /// number's own top bit is set.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }

    /// The number without a sign octet, as it is shown.
    fn magnitude(&self) -> &[u8] {
        self.as_bytes().strip_prefix(&[0]).unwrap_or(self.as_bytes())
    }
}

/// What makes serial numbers that tell whether they were made with it, and which shard of a revocation list they are on.
///
/// They have 20 octets: one that begins with the bits `01`, the shard, ten more, and the first eight of HMAC-SHA-256 over
/// those twelve. 86 bits are random. Whoever has the key can tell without a database that such a number was given
/// out; who has not finds another that passes with a chance of 2⁻⁶⁴ a try.
pub struct SerialKey(hmac::Key);

impl SerialKey {
    /// Octets of randomness for one serial number.
    pub const RANDOM: usize = 11;
    /// What is authenticated.
    const HEAD: usize = 12;

    /// Takes 32 secret octets, of one CA alone.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A serial number on that shard.
    #[must_use]
    pub fn serial(&self, shard: u8, random: [u8; Self::RANDOM]) -> Serial {
        let [first, rest @ ..] = random;
        let mut bytes = vec![first & 0x3f | 0x40, shard];
        bytes.extend_from_slice(&rest);
        let tag = self.tag(&bytes);
        bytes.extend_from_slice(&tag);
        Serial::of(&bytes)
    }

    /// The shard of a serial number that was made with this key; `None` for every other. Takes the same time for all of
    /// one length.
    #[must_use]
    pub fn shard(&self, serial: &Serial) -> Option<u8> {
        let (head, tag) = serial.as_bytes().split_at_checked(Self::HEAD)?;
        verify_slices_are_equal(&self.tag(head), tag).ok()?;
        head.get(1).copied()
    }

    fn tag(&self, head: &[u8]) -> [u8; Serial::MAX_LEN - Self::HEAD] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"serial number\0");
        context.update(head);
        let mut tag = [0; Serial::MAX_LEN - Self::HEAD];
        tag.copy_from_slice(&context.sign().as_ref()[..Serial::MAX_LEN - Self::HEAD]);
        tag
    }
}

impl fmt::Debug for SerialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SerialKey(..)")
    }
}

fn octet(high: u8, low: u8) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.magnitude().iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl Ord for Serial {
    /// The order of the numbers.
    fn cmp(&self, other: &Self) -> Ordering {
        self.length.cmp(&other.length).then_with(|| self.octets.cmp(&other.octets))
    }
}

impl PartialOrd for Serial {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn random_serials_are_positive_and_of_one_length() {
        for random in [[0; 16], [0xff; 16], [0x80; 16]] {
            let serial = Serial::from_random(random);
            assert_eq!(serial.as_bytes().len(), 16);
            assert_eq!(serial.as_bytes()[0] & 0xc0, 0x40);
            assert_eq!(serial.as_bytes()[1..], random[1..]);
        }
    }

    #[test]
    fn one_number_has_one_serial_however_it_is_written() {
        let serial = Serial::from_bytes(&[0x1a, 0x2b]).unwrap();
        for text in ["1A:2B", "1a:2b", "1a2B", "00:1A:2B", "001a2b", "01a2b"] {
            assert_eq!(Serial::parse(text).unwrap(), serial, "{text}");
        }
        assert_eq!(serial.to_string(), "1A:2B");
        assert_eq!(Serial::parse("5").unwrap().as_bytes(), [5]);
    }

    #[test]
    fn a_set_top_bit_gets_a_sign_octet_that_is_not_shown() {
        let serial = Serial::parse("FF:00").unwrap();
        assert_eq!(serial.as_bytes(), [0, 0xff, 0]);
        assert_eq!(serial.to_string(), "FF:00");
        assert!(Serial::from_bytes(&[0x7f; 20]).is_ok());
        assert!(Serial::from_bytes(&[0x80; 20]).is_err(), "21 octets with the sign");
        assert!(serial > Serial::from_bytes(&[0x7f, 0xff]).unwrap());
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "0", "00:00", ":", "1A:", ":1A", "1A::2B", "1:2", "1A-2B", "0x1A", "1A 2B", "-1", "é1", "g0"]
        {
            assert!(matches!(Serial::parse(text), Err(PkiError::Invalid { .. })), "{text}");
        }
        assert!(Serial::parse(&"1".repeat(100_000)).is_err());
    }

    #[test]
    fn a_serial_tells_its_shard_to_who_has_the_key() {
        let (key, other) = (SerialKey::new(&[1; 32]), SerialKey::new(&[2; 32]));
        for shard in [0, 1, 127, 255] {
            for random in [[0; SerialKey::RANDOM], [0xff; SerialKey::RANDOM]] {
                let serial = key.serial(shard, random);
                assert_eq!((serial.as_bytes().len(), serial.as_bytes()[0] & 0xc0), (20, 0x40));
                assert_eq!(Serial::from_bytes(serial.as_bytes()).unwrap(), serial);
                assert_eq!((key.shard(&serial), other.shard(&serial)), (Some(shard), None));
                for bit in 0..160 {
                    let mut changed = serial.as_bytes().to_vec();
                    changed[bit / 8] ^= 0x80 >> (bit % 8);
                    assert_eq!(key.shard(&Serial::of(&changed)), None, "bit {bit}");
                }
            }
        }
        for older in [Serial::from_random([7; 16]), Serial::from_bytes(&[5]).unwrap()] {
            assert_eq!(key.shard(&older), None);
        }
        assert!(!format!("{key:?}").contains('1'));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,64}") {
            let _ = Serial::parse(&text);
        }

        #[test]
        fn what_is_shown_is_read_back(bytes in prop::collection::vec(any::<u8>(), 1..=20)) {
            if let Ok(serial) = Serial::from_bytes(&bytes) {
                prop_assert_eq!(&Serial::parse(&serial.to_string()).unwrap(), &serial);
                prop_assert_eq!(&Serial::from_bytes(serial.as_bytes()).unwrap(), &serial);
            }
        }
    }
}
