//! A reader of DER (X.690) that borrows and never recurses.

use time::{Date, Month, OffsetDateTime, Time};

use super::oid::Oid;

/// What is wrong with some octets; for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) type Result<T> = std::result::Result<T, Malformed>;

pub(crate) const BOOLEAN: u8 = 1;
pub(crate) const INTEGER: u8 = 2;
pub(crate) const BIT_STRING: u8 = 3;
pub(crate) const OCTET_STRING: u8 = 4;
pub(crate) const NULL: u8 = 5;
pub(crate) const OID: u8 = 6;
pub(crate) const ENUMERATED: u8 = 10;
pub(crate) const UTF8_STRING: u8 = 12;
pub(crate) const UTC_TIME: u8 = 23;
pub(crate) const GENERALIZED_TIME: u8 = 24;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The identifier octet of a context-specific primitive, `[n] IMPLICIT`.
pub(crate) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// The identifier octet of a context-specific constructed value, `[n] EXPLICIT` or `[n] IMPLICIT` of a constructed one.
pub(crate) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// One element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// The whole of it, with its head.
    pub(crate) raw: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of the one element with `tag` that `bytes` are.
    pub(crate) fn only(bytes: &'a [u8], tag: u8) -> Result<&'a [u8]> {
        let mut reader = Self(bytes);
        let content = reader.expect(tag)?;
        reader.end()?;
        Ok(content)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn end(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("octets after the end")) }
    }

    pub(crate) fn peek(self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(crate) fn next(&mut self) -> Result<Element<'a>> {
        let cut = Malformed("an element is cut off");
        let (&tag, rest) = self.0.split_first().ok_or(cut)?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed("a tag above 30"));
        }
        let (&first, mut rest) = rest.split_first().ok_or(cut)?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let octets = usize::from(first & 0x7f);
            if octets == 0 {
                return Err(Malformed("an indefinite length"));
            }
            if octets > 4 {
                return Err(Malformed("a length above 4 GiB"));
            }
            let (head, tail) = rest.split_at_checked(octets).ok_or(cut)?;
            length = head.iter().fold(0, |all, &byte| all << 8 | usize::from(byte));
            if length < 0x80 || head.first() == Some(&0) {
                return Err(Malformed("a length that is not minimal"));
            }
            rest = tail;
        }
        let (content, after) = rest.split_at_checked(length).ok_or(cut)?;
        let raw = self.0.get(..self.0.len() - after.len()).ok_or(cut)?;
        self.0 = after;
        Ok(Element { tag, content, raw })
    }

    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8]> {
        let element = self.next()?;
        if element.tag == tag { Ok(element.content) } else { Err(Malformed("an element of another type")) }
    }

    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>> {
        if self.peek() == Some(tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    pub(crate) fn sequence(&mut self) -> Result<Self> {
        self.expect(SEQUENCE).map(Self)
    }

    pub(crate) fn oid(&mut self) -> Result<Oid> {
        Oid::from_der_content(self.expect(OID)?)
    }

    /// A `BOOLEAN DEFAULT FALSE`. An explicit FALSE is tolerated: it cannot be mistaken.
    pub(crate) fn boolean_or_false(&mut self) -> Result<bool> {
        self.optional(BOOLEAN)?.map_or(Ok(false), boolean)
    }

    /// The octets of an INTEGER, minimal.
    pub(crate) fn integer(&mut self) -> Result<&'a [u8]> {
        integer(self.expect(INTEGER)?)
    }

    /// A BIT STRING of whole octets.
    pub(crate) fn octets_of_bits(&mut self) -> Result<&'a [u8]> {
        match self.expect(BIT_STRING)? {
            [0, octets @ ..] => Ok(octets),
            _ => Err(Malformed("a BIT STRING with unused bits")),
        }
    }

    pub(crate) fn time(&mut self) -> Result<OffsetDateTime> {
        let element = self.next()?;
        match element.tag {
            UTC_TIME => utc_time(element.content),
            GENERALIZED_TIME => generalized_time(element.content),
            _ => Err(Malformed("a time of another type")),
        }
    }
}

pub(crate) fn boolean(content: &[u8]) -> Result<bool> {
    match content {
        [0] => Ok(false),
        [0xff] => Ok(true),
        _ => Err(Malformed("a BOOLEAN that is neither 00 nor FF")),
    }
}

pub(crate) fn integer(content: &[u8]) -> Result<&[u8]> {
    match content {
        [] => Err(Malformed("an INTEGER without octets")),
        [0, second, ..] if second & 0x80 == 0 => Err(Malformed("an INTEGER that is not minimal")),
        [0xff, second, ..] if second & 0x80 != 0 => Err(Malformed("an INTEGER that is not minimal")),
        _ => Ok(content),
    }
}

/// A number that is not negative; one above `u32::MAX` counts as that, since what it limits never gets there.
pub(crate) fn count(content: &[u8]) -> Result<u32> {
    let octets = integer(content)?;
    if octets.first().is_some_and(|first| first & 0x80 != 0) {
        return Err(Malformed("a negative number"));
    }
    let small = octets
        .iter()
        .try_fold(0_u32, |all, &byte| all.checked_mul(256).and_then(|all| all.checked_add(u32::from(byte))));
    Ok(small.unwrap_or(u32::MAX))
}

/// A named bit list of at most 16 bits; bit `n` of ASN.1 is `1 << n`.
pub(crate) fn named_bits(content: &[u8]) -> Result<u16> {
    let bad = Malformed("a list of bits that is not well formed");
    let (&unused, octets) = content.split_first().ok_or(bad)?;
    if unused > 7 || (octets.is_empty() && unused != 0) {
        return Err(bad);
    }
    if octets.last().is_some_and(|last| last.trailing_zeros() < u32::from(unused)) {
        return Err(bad);
    }
    let bit = |octet: usize| octets.get(octet).map_or(0, |byte| u16::from(byte.reverse_bits()));
    Ok(bit(0) | bit(1) << 8)
}

fn utc_time(content: &[u8]) -> Result<OffsetDateTime> {
    let [digits @ .., b'Z'] = content else { return Err(BAD_TIME) };
    let [year, rest @ ..] = pairs::<6>(digits)?;
    // RFC 5280, 4.1.2.5.1.
    let century = if year >= 50 { 1900 } else { 2000 };
    date_time(century + i32::from(year), rest)
}

pub(crate) fn generalized_time(content: &[u8]) -> Result<OffsetDateTime> {
    let [digits @ .., b'Z'] = content else { return Err(BAD_TIME) };
    let [century, year, rest @ ..] = pairs::<7>(digits)?;
    date_time(i32::from(century) * 100 + i32::from(year), rest)
}

const BAD_TIME: Malformed = Malformed("a time that is not of the form YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ");

fn pairs<const N: usize>(digits: &[u8]) -> Result<[u8; N]> {
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BAD_TIME);
    }
    let mut pairs = [0; N];
    for (pair, digits) in pairs.iter_mut().zip(digits.chunks_exact(2)) {
        *pair = digits.iter().fold(0, |all, digit| all * 10 + (digit - b'0'));
    }
    Ok(pairs)
}

fn date_time(year: i32, [month, day, hour, minute, second]: [u8; 5]) -> Result<OffsetDateTime> {
    let month = Month::try_from(month).map_err(|_| BAD_TIME)?;
    let date = Date::from_calendar_date(year, month, day).map_err(|_| BAD_TIME)?;
    let time = Time::from_hms(hour, minute, second).map_err(|_| BAD_TIME)?;
    Ok(date.with_time(time).assume_utc())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn heads_are_minimal_and_definite() {
        let read = |bytes: &'static [u8]| Reader::new(bytes).next().map(|element| element.content.len());
        assert_eq!(read(&[4, 0]), Ok(0));
        assert_eq!(read(&[4, 1, 9, 9]), Ok(1));
        for bad in
            [&[4][..], &[4, 1], &[4, 0x80, 0, 0], &[4, 0x81, 1, 0], &[0x1f, 1, 0], &[4, 0x85, 0, 0, 0, 0, 0]]
        {
            assert!(Reader::new(bad).next().is_err(), "{bad:?}");
        }
        let mut long = vec![4, 0x82, 1, 0];
        long.extend([7; 256]);
        assert_eq!(Reader::new(&long).next().unwrap().raw.len(), 260);
    }

    #[test]
    fn times_have_one_form() {
        assert_eq!(utc_time(b"491231235959Z"), Ok(datetime!(2049-12-31 23:59:59 UTC)));
        assert_eq!(utc_time(b"500101000000Z"), Ok(datetime!(1950-01-01 0:00 UTC)));
        assert_eq!(generalized_time(b"20500101000000Z"), Ok(datetime!(2050-01-01 0:00 UTC)));
        for bad in ["4912312359Z", "491231235959+0000", "490230000000Z", "49123123595aZ", "+91231235959Z"] {
            assert!(utc_time(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(generalized_time(b"20500101000000.5Z").is_err());
    }

    #[test]
    fn numbers_and_bits_are_in_their_shortest_form() {
        assert_eq!(count(&[0, 0x80]), Ok(128));
        assert_eq!(count(&[1, 0, 0, 0, 0]), Ok(u32::MAX));
        for bad in [&[][..], &[0x80], &[0, 1], &[0xff, 0x80]] {
            assert!(count(bad).is_err(), "{bad:?}");
        }
        assert_eq!(named_bits(&[1, 0b0000_0110]), Ok(1 << 5 | 1 << 6));
        assert_eq!(named_bits(&[7, 0, 0x80]), Ok(1 << 8));
        assert_eq!(named_bits(&[0]), Ok(0));
        for bad in [&[][..], &[8, 0], &[1], &[1, 1]] {
            assert!(named_bits(bad).is_err(), "{bad:?}");
        }
    }
}
