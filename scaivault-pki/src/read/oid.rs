use std::{fmt, str::FromStr};

use super::asn1::{Malformed, Result};
use crate::PkiError;

/// An object identifier of any size; the fixed-size ones of parsers cannot hold every policy that is out there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Box<[u8]>);

impl Oid {
    pub(crate) fn from_der_content(content: &[u8]) -> Result<Self> {
        let bad = Malformed("a malformed object identifier");
        if content.last().is_none_or(|last| last & 0x80 != 0) {
            return Err(bad);
        }
        // A component may not begin with an octet that says nothing (X.690, 8.19.2).
        let mut first = true;
        for &byte in content {
            if first && byte == 0x80 {
                return Err(bad);
            }
            first = byte & 0x80 == 0;
        }
        Ok(Self(content.into()))
    }

    /// Whether it is `known`.
    pub(crate) fn is(&self, known: const_oid::ObjectIdentifier) -> bool {
        *self.0 == *known.as_bytes()
    }

    pub(crate) fn known(known: const_oid::ObjectIdentifier) -> Self {
        Self(known.as_bytes().into())
    }
}

impl FromStr for Oid {
    type Err = PkiError;

    /// Reads `2.23.140.1.2.1`. Components may have up to 128 bits.
    fn from_str(text: &str) -> std::result::Result<Self, PkiError> {
        let bad = || PkiError::invalid("oid", "must be numbers with dots between them, as 2.5.29.32.0");
        if text.len() > 512 {
            return Err(bad());
        }
        let mut numbers = Vec::new();
        for part in text.split('.') {
            let plain =
                part.bytes().all(|byte| byte.is_ascii_digit()) && (part.len() == 1 || !part.starts_with('0'));
            numbers.push(part.parse::<u128>().ok().filter(|_| plain).ok_or_else(bad)?);
        }
        let (&[root, second], rest) = numbers.split_first_chunk().ok_or_else(bad)?;
        if root > 2 || (root < 2 && second > 39) {
            return Err(bad());
        }
        let mut content = Vec::new();
        push(&mut content, (root * 40).checked_add(second).ok_or_else(bad)?);
        rest.iter().for_each(|&number| push(&mut content, number));
        Ok(Self(content.into()))
    }
}

fn push(content: &mut Vec<u8>, number: u128) {
    let octets = (128 - number.leading_zeros()).div_ceil(7).max(1);
    for at in (0..octets).rev() {
        let low = (number >> (7 * at) & 0x7f) as u8;
        content.push(if at > 0 { low | 0x80 } else { low });
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = Some(0_u128);
        let mut first = true;
        for byte in &self.0 {
            number = number.and_then(|n| n.checked_mul(128)).map(|n| n | u128::from(byte & 0x7f));
            if byte & 0x80 != 0 {
                continue;
            }
            match (number, first) {
                (Some(n), true) => {
                    let root = (n / 40).min(2);
                    write!(f, "{root}.{}", n - root * 40)?;
                }
                (Some(n), false) => write!(f, ".{n}")?,
                (None, true) => f.write_str("2.?")?,
                (None, false) => f.write_str(".?")?,
            }
            (number, first) = (Some(0), false);
        }
        Ok(())
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_octets_agree() {
        let big = "2.25.329800735698586629295641978511506172918";
        for text in ["2.5.29.32.0", "1.3.6.1.4.1.55738.666.1", "0.39", "2.999.1", big] {
            let oid: Oid = text.parse().unwrap();
            assert_eq!(oid.to_string(), text);
            assert_eq!(Oid::from_der_content(&oid.0).unwrap(), oid);
        }
        assert!("2.5.29.32.0".parse::<Oid>().unwrap().is(const_oid::db::rfc5280::ANY_POLICY));
        for bad in ["", "1", "3.1", "1.40", "1..2", "1.02", "1.2.", "1.+2", "a.b"] {
            assert!(bad.parse::<Oid>().is_err(), "{bad}");
        }
        for bad in [&[][..], &[0x80, 1], &[0x55, 0x80, 1], &[0x55, 0x81]] {
            assert!(Oid::from_der_content(bad).is_err(), "{bad:?}");
        }
    }
}
