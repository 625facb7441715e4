//! Distinguished names and when two of them are the same (RFC 5280, 7.1).

use std::fmt::Write as _;

use const_oid::{
    ObjectIdentifier,
    db::{rfc3280, rfc4519},
};
use unicode_normalization::UnicodeNormalization as _;

use super::{
    asn1::{Malformed, OID, Reader, Result, SEQUENCE, SET, UTF8_STRING},
    oid::Oid,
};

/// A name as it came, and in the form that is compared. Equality is that of RFC 5280, 7.1: case, runs of spaces and the
/// string type make no difference.
#[derive(Clone, Debug)]
pub(crate) struct Dn {
    raw: Vec<u8>,
    rdns: Vec<Rdn>,
}

/// The attributes of one relative name, sorted: a SET has no order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Rdn(Vec<(Oid, Value)>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Value {
    Text(String),
    /// Of no string type, or no valid string: the whole element, compared octet by octet.
    Raw(Vec<u8>),
}

/// The most relative names of one name.
const MAX_RDNS: usize = 128;

impl PartialEq for Dn {
    fn eq(&self, other: &Self) -> bool {
        self.rdns == other.rdns
    }
}

impl Eq for Dn {}

impl std::hash::Hash for Dn {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.rdns.hash(state);
    }
}

impl Dn {
    /// Reads the whole element `raw`, a `Name`.
    pub(crate) fn parse(raw: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(Reader::only(raw, SEQUENCE)?);
        let mut rdns = Vec::new();
        while !reader.is_empty() {
            if rdns.len() == MAX_RDNS {
                return Err(Malformed("a name of more than 128 parts"));
            }
            rdns.push(Rdn::parse(reader.expect(SET)?)?);
        }
        Ok(Self { raw: raw.to_vec(), rdns })
    }

    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rdns.is_empty()
    }

    /// Whether this name lies in the subtree of `base` (RFC 5280, 4.2.1.10).
    pub(crate) fn is_within(&self, base: &Self) -> bool {
        self.rdns.starts_with(&base.rdns)
    }

    /// This name with one more relative name (`nameRelativeToCRLIssuer`), as compared; its octets stay those of the base.
    pub(crate) fn with(&self, last: Rdn) -> Self {
        let mut rdns = self.rdns.clone();
        rdns.push(last);
        Self { raw: self.raw.clone(), rdns }
    }

    fn texts(&self, oid: ObjectIdentifier) -> impl Iterator<Item = &str> {
        self.rdns.iter().flat_map(|rdn| &rdn.0).filter_map(move |(kind, value)| match value {
            Value::Text(text) if kind.is(oid) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Common names, in lower case.
    pub(crate) fn common_names(&self) -> impl Iterator<Item = &str> {
        self.texts(rfc4519::CN)
    }

    /// `emailAddress` attributes, in lower case.
    pub(crate) fn email_addresses(&self) -> impl Iterator<Item = &str> {
        self.texts(rfc3280::EMAIL_ADDRESS)
    }

    /// For people, after RFC 4514: the last part first.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let Ok(content) = Reader::only(&self.raw, SEQUENCE) else { return text };
        let mut reader = Reader::new(content);
        let mut parts = Vec::new();
        while let Ok(set) = reader.expect(SET) {
            let mut attributes = Reader::new(set);
            let mut part = String::new();
            while let Ok((oid, value)) = attribute(&mut attributes) {
                let _ = write!(part, "{}{}=", if part.is_empty() { "" } else { "+" }, label(&oid));
                match string(value.tag, value.content) {
                    Some(string) => escape(&string, &mut part),
                    None => part.push('?'),
                }
            }
            parts.push(part);
        }
        for (i, part) in parts.iter().rev().enumerate() {
            let _ = write!(text, "{}{part}", if i == 0 { "" } else { "," });
        }
        text
    }
}

impl Rdn {
    /// Reads the content of a SET of attributes.
    pub(crate) fn parse(set: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(set);
        let mut attributes = Vec::new();
        while !reader.is_empty() {
            let (oid, value) = attribute(&mut reader)?;
            let value = match string(value.tag, value.content) {
                Some(text) => Value::Text(fold(&text)),
                None => Value::Raw(value.raw.to_vec()),
            };
            attributes.push((oid, value));
        }
        if attributes.is_empty() {
            return Err(Malformed("an empty part of a name"));
        }
        attributes.sort();
        Ok(Self(attributes))
    }
}

fn attribute<'a>(reader: &mut Reader<'a>) -> Result<(Oid, super::asn1::Element<'a>)> {
    let mut attribute = reader.sequence()?;
    let oid = Oid::from_der_content(attribute.expect(OID)?)?;
    let value = attribute.next()?;
    attribute.end()?;
    Ok((oid, value))
}

fn string(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        UTF8_STRING => std::str::from_utf8(content).ok().map(str::to_owned),
        // Numeric, Printable, IA5 and Visible strings.
        18 | 19 | 22 | 26 => {
            content.is_ascii().then(|| content.iter().map(|&byte| char::from(byte)).collect())
        }
        // Teletex: in practice Latin 1.
        20 => Some(content.iter().map(|&byte| char::from(byte)).collect()),
        28 => {
            let chunks = content.as_chunks::<4>();
            if !chunks.1.is_empty() {
                return None;
            }
            chunks.0.iter().map(|&chunk| char::from_u32(u32::from_be_bytes(chunk))).collect()
        }
        30 => {
            let chunks = content.as_chunks::<2>();
            if !chunks.1.is_empty() {
                return None;
            }
            char::decode_utf16(chunks.0.iter().map(|&chunk| u16::from_be_bytes(chunk)))
                .collect::<std::result::Result<_, _>>()
                .ok()
        }
        _ => None,
    }
}

/// The preparation of RFC 4518 as far as it makes strings equal: compatible forms, case, spaces, and characters that do not
/// show are no difference.
fn fold(text: &str) -> String {
    let ignored = |c: &char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}');
    let folded: String =
        text.chars().filter(|c| !ignored(c)).nfkc().flat_map(char::to_lowercase).nfkc().collect();
    let mut result = String::with_capacity(folded.len());
    for word in folded.split(char::is_whitespace).filter(|word| !word.is_empty()) {
        if !result.is_empty() {
            result.push(' ');
        }
        result.push_str(word);
    }
    result
}

fn label(oid: &Oid) -> String {
    let known = [
        (rfc4519::CN, "CN"),
        (rfc4519::C, "C"),
        (rfc4519::ST, "ST"),
        (rfc4519::L, "L"),
        (rfc4519::O, "O"),
        (rfc4519::OU, "OU"),
        (rfc4519::DC, "DC"),
        (rfc4519::SERIAL_NUMBER, "serialNumber"),
        (rfc3280::EMAIL_ADDRESS, "emailAddress"),
    ];
    known
        .iter()
        .find(|(known, _)| oid.is(*known))
        .map_or_else(|| oid.to_string(), |(_, label)| (*label).to_owned())
}

fn escape(text: &str, into: &mut String) {
    for c in text.chars() {
        match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => into.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(into, "\\{:02X}", u32::from(c));
            }
            c => into.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(tag: u8, text: &[u8]) -> Dn {
        let mut value = vec![0x06, 3, 0x55, 4, 3, tag, u8::try_from(text.len()).unwrap()];
        value.extend(text);
        let wrap =
            |tag: u8, content: Vec<u8>| [vec![tag, u8::try_from(content.len()).unwrap()], content].concat();
        Dn::parse(&wrap(SEQUENCE, wrap(SET, wrap(SEQUENCE, value)))).unwrap()
    }

    #[test]
    fn case_spaces_and_string_types_make_no_difference() {
        let plain = name(19, b"Good CA Root");
        for (tag, text) in [
            (UTF8_STRING, &b"good ca root"[..]),
            (22, b"  GOOD  ca\troot "),
            (20, b"Good CA Root"),
            (30, b"\0G\0O\0O\0D\0 \0C\0A\0 \0R\0o\0o\0t"),
            (UTF8_STRING, "Go\u{ad}od CA Root".as_bytes()),
        ] {
            assert_eq!(name(tag, text), plain, "{text:?}");
        }
        assert_eq!(name(20, b"Z\xfcrich"), name(UTF8_STRING, "ZÜRICH".as_bytes()));
        assert_ne!(name(19, b"Good CARoot"), plain);
        assert_ne!(name(4, b"Good CA Root"), plain);
        assert_eq!(plain.to_text(), "CN=Good CA Root");
        assert_eq!(name(UTF8_STRING, b"a,b\n").to_text(), "CN=a\\,b\\0A");
    }
}
