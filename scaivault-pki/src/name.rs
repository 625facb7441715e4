//! Names: what a subject may say, what a DNS name and an IP address look like, and which names a pattern
//! of a role admits.

use std::net::{IpAddr, Ipv6Addr};

use const_oid::{ObjectIdentifier, db::rfc4519};
use der::{
    Any, Encode as _, Sequence, ValueOrd,
    asn1::{PrintableString, SetOfVec},
};
use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};

use crate::{
    PkiError,
    error::{Violations, quote},
};

/// The most characters of a common name (RFC 5280, appendix A.1, `ub-common-name`).
pub(crate) const MAX_COMMON_NAME: usize = 64;
/// The most octets of a DNS name as text (RFC 1035, 2.3.4), and of one of its labels.
const MAX_DNS_NAME: usize = 253;
const MAX_DNS_LABEL: usize = 63;

/// What a subject says beside its common name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectParts {
    /// At most 64 characters.
    pub organization: Option<String>,
    /// At most 64 characters.
    pub organizational_unit: Option<String>,
    /// A code of two letters (ISO 3166), written in upper case.
    pub country: Option<String>,
    /// State or province, at most 128 characters.
    pub state: Option<String>,
    /// Town, at most 128 characters.
    pub locality: Option<String>,
}

impl SubjectParts {
    /// The names of the parts.
    pub const FIELDS: [&'static str; 5] =
        ["organization", "organizational_unit", "country", "state", "locality"];

    /// The part of that name.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&str> {
        match field {
            "organization" => self.organization.as_deref(),
            "organizational_unit" => self.organizational_unit.as_deref(),
            "country" => self.country.as_deref(),
            "state" => self.state.as_deref(),
            "locality" => self.locality.as_deref(),
            _ => None,
        }
    }

    /// Sets the part of that name; there is no other.
    pub(crate) fn set(&mut self, field: &str, value: String) {
        let part = match field {
            "organization" => &mut self.organization,
            "organizational_unit" => &mut self.organizational_unit,
            "country" => &mut self.country,
            "state" => &mut self.state,
            "locality" => &mut self.locality,
            _ => return,
        };
        *part = Some(value);
    }

    /// Adds a violation for every part that cannot be written; `prefix` stands before its name.
    pub(crate) fn check(&self, prefix: &str, found: &mut Violations) {
        for (field, most) in
            [("organization", 64), ("organizational_unit", 64), ("state", 128), ("locality", 128)]
        {
            if let Some(value) = self.get(field) {
                check_text(&format!("{prefix}{field}"), value, most, found);
            }
        }
        let is_code = |c: &String| c.len() == 2 && c.bytes().all(|b| b.is_ascii_alphabetic());
        if self.country.as_ref().is_some_and(|country| !is_code(country)) {
            let message = "must be a country code of two letters, as NL";
            found.add(format!("{prefix}country"), "country_code", message);
        }
    }
}

/// The distinguished name of a CA. Attributes are written in the order country, state, locality,
/// organization, organizational unit, common name; as `UTF8String`, the country as `PrintableString`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// What the CA is called: 1 to 64 characters.
    pub common_name: String,
    /// At most 64 characters.
    pub organization: Option<String>,
    /// At most 64 characters.
    pub organizational_unit: Option<String>,
    /// A code of two letters (ISO 3166), written in upper case.
    pub country: Option<String>,
    /// State or province, at most 128 characters.
    pub state: Option<String>,
    /// Town, at most 128 characters.
    pub locality: Option<String>,
}

impl Subject {
    /// Adds a violation for every field that cannot be written.
    pub(crate) fn check(&self, found: &mut Violations) {
        check_text("common_name", &self.common_name, MAX_COMMON_NAME, found);
        self.parts().check("subject.", found);
    }

    /// The DER `Name`.
    pub(crate) fn to_name(&self) -> Result<Vec<u8>, PkiError> {
        write_name(Some(&self.common_name), &self.parts())
    }

    fn parts(&self) -> SubjectParts {
        let Self { common_name: _, organization, organizational_unit, country, state, locality } =
            self.clone();
        SubjectParts { organization, organizational_unit, country, state, locality }
    }
}

/// A DER `Name`: country, state, locality, organization, organizational unit, common name, of what there is.
pub(crate) fn write_name(common_name: Option<&str>, parts: &SubjectParts) -> Result<Vec<u8>, PkiError> {
    let country = parts.country.as_ref().map(|country| country.to_ascii_uppercase());
    let texts = [
        (rfc4519::C, country.as_deref()),
        (rfc4519::ST, parts.state.as_deref()),
        (rfc4519::L, parts.locality.as_deref()),
        (rfc4519::O, parts.organization.as_deref()),
        (rfc4519::OU, parts.organizational_unit.as_deref()),
        (rfc4519::CN, common_name),
    ];
    write_attributes(texts.into_iter().filter_map(|(oid, text)| Some((oid, text?))))
}

/// A DER `Name` of these attributes, each in a part of its own: as `UTF8String`, countries as `PrintableString`.
pub(crate) fn write_attributes<'a>(
    attributes: impl Iterator<Item = (ObjectIdentifier, &'a str)>,
) -> Result<Vec<u8>, PkiError> {
    let mut rdns = Vec::new();
    for (oid, text) in attributes {
        let value = match oid {
            rfc4519::C => {
                let text = PrintableString::new(text).map_err(PkiError::encoding("the country"))?;
                Any::encode_from(&text)
            }
            _ => Any::encode_from(&text.to_owned()),
        };
        rdns.push(rdn(oid, value)?);
    }
    rdns.to_der().map_err(PkiError::encoding("the subject"))
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence, ValueOrd)]
struct Attribute {
    oid: ObjectIdentifier,
    value: Any,
}

fn rdn(oid: ObjectIdentifier, value: der::Result<Any>) -> Result<SetOfVec<Attribute>, PkiError> {
    value
        .and_then(|value| SetOfVec::try_from(vec![Attribute { oid, value }]))
        .map_err(PkiError::encoding("a name attribute"))
}

fn check_text(field: &str, text: &str, most: usize, found: &mut Violations) {
    let length = text.chars().take(most + 1).count();
    if length == 0 || length > most {
        found.add(field, "length", format!("must have 1 to {most} characters"));
    } else if text.chars().any(is_unprintable) {
        found.add(field, "characters", "must not have control or invisible formatting characters");
    } else if text.trim() != text {
        found.add(field, "characters", "must not begin or end with a space");
    }
}

/// Control characters, and those that change how the rest of a line is shown.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A host name: lower case, letters-digits-hyphens, without a dot at the end, and at most its first label
/// a wildcard `*` (RFC 5280, 4.2.1.6; RFC 1123, 2.1; RFC 6125, 6.4.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

impl DnsName {
    /// Reads a name in any case; internationalized names as A-labels (`xn--…`, RFC 5890).
    ///
    /// # Errors
    /// What is wrong, in a sentence for people.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let name = Self::pattern(text)?;
        name.0.split('.').try_for_each(check_reserved)?;
        Ok(name)
    }

    /// The same of what names are held against, whose labels may be parts of A-labels, or reserved.
    pub(crate) fn pattern(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("must not be empty");
        }
        if text.len() > 4 * MAX_DNS_NAME {
            return Err("must have at most 253 characters");
        }
        if text.contains("://") {
            return Err("is a URI; only DNS names are issued here");
        }
        if text.contains('@') {
            return Err("is an e-mail address; only DNS names are issued here");
        }
        if !text.is_ascii() {
            return Err("must be in ASCII; write internationalized names as A-labels (xn--…)");
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err("is an IP address; it belongs into ip_sans");
        }
        let host = text.strip_prefix("*.").unwrap_or(text);
        if text.contains('*') && (host.contains('*') || host.len() == text.len()) {
            return Err("may have a wildcard only as the whole left-most label, as *.example.com");
        }
        if text.ends_with('.') {
            return Err("must not end with a dot");
        }
        if text.len() > MAX_DNS_NAME {
            return Err("must have at most 253 characters");
        }
        host.split('.').try_for_each(check_label)?;
        if host.rsplit('.').next().is_some_and(is_number) {
            return Err("must not end in a number: it could be read as an IPv4 address");
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the first label is `*`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl std::fmt::Display for DnsName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_label(label: &str) -> Result<(), &'static str> {
    if label.is_empty() {
        return Err("must not have an empty label");
    }
    if label.len() > MAX_DNS_LABEL {
        return Err("must not have a label of more than 63 characters");
    }
    if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err("may have only letters, digits, hyphens and dots");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("must not have a label that begins or ends with a hyphen");
    }
    Ok(())
}

/// Labels with `--` in the third and fourth place are reserved (RFC 5890, 2.3.1) but for A-labels, which have to be what
/// their own text is encoded as.
fn check_reserved(label: &str) -> Result<(), &'static str> {
    if label.as_bytes().get(2..4) != Some(b"--") {
        return Ok(());
    }
    if !label.starts_with("xn--") {
        return Err(
            "must not have a label with -- in its third and fourth place, unless it begins with xn--",
        );
    }
    let deny = AsciiDenyList::STD3;
    let read = Uts46::new().to_ascii(label.as_bytes(), deny, Hyphens::Check, DnsLength::Verify);
    match read.is_ok_and(|read| read == label) {
        true => Ok(()),
        false => Err("has a label that begins with xn-- and is no A-label (RFC 5890)"),
    }
}

/// Whether a last label makes URL parsers take the host for an IPv4 address: decimal, or `0x` and hexadecimal.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|b| b.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// One entry of a role's `allowed_domains`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(DnsName);

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Err("would admit every name; name the domains, as *.example.com");
        }
        DnsName::pattern(text).map(Self)
    }

    /// `x` admits `x`, and with `subdomains` what is below it; `*.x` admits what is one label below `x`,
    /// and with `subdomains` any number. A name with a wildcard needs a pattern with one; the `*` counts as
    /// a label then.
    pub(crate) fn admits(&self, name: &DnsName, subdomains: bool) -> bool {
        let domain = self.0.0.strip_prefix("*.").unwrap_or(&self.0.0);
        let above = name.0.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
        match (self.0.is_wildcard(), above) {
            (true, Some(labels)) => subdomains || !labels.contains('.'),
            (false, Some(_)) => subdomains && !name.is_wildcard(),
            (false, None) => name.0 == domain,
            (true, None) => false,
        }
    }
}

/// Reads an IP address as it must stand in a certificate: no zone, no prefix length, no leading zeros, and
/// IPv4 as IPv4.
pub(crate) fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let plain = "must be an IPv4 or IPv6 address without zone, prefix length or leading zeros";
    let address: IpAddr = text.parse().map_err(|_| format!("{} {plain}", quote(text)))?;
    match address {
        IpAddr::V6(v6) if embeds_ipv4(v6) => {
            Err(format!("{} hides an IPv4 address; write that", quote(text)))
        }
        _ => Ok(address),
    }
}

/// IPv4-mapped and IPv4-compatible addresses (RFC 4291, 2.5.5), but not `::` and `::1`.
fn embeds_ipv4(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
        || matches!(address.segments(), [0, 0, 0, 0, 0, 0, high, _] if high != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admits(pattern: &str, name: &str, subdomains: bool) -> bool {
        Pattern::parse(pattern).unwrap().admits(&DnsName::parse(name).unwrap(), subdomains)
    }

    #[test]
    fn patterns_admit_what_the_interface_says() {
        // (pattern, name, without subdomains, with subdomains)
        let cases = [
            ("x.test", "x.test", true, true),
            ("X.test", "x.TEST", true, true),
            ("x.test", "a.x.test", false, true),
            ("x.test", "a.b.x.test", false, true),
            ("x.test", "ax.test", false, false),
            ("x.test", "test", false, false),
            ("x.test", "*.x.test", false, false),
            ("*.x.test", "x.test", false, false),
            ("*.x.test", "a.x.test", true, true),
            ("*.x.test", "a.b.x.test", false, true),
            ("*.x.test", "ax.test", false, false),
            ("*.x.test", "*.x.test", true, true),
            ("*.x.test", "*.a.x.test", false, true),
            ("*.x.test", "*.test", false, false),
            ("*.x.test", "*.y.test", false, false),
            ("*.svc.cluster.local", "billing.svc.cluster.local", true, true),
            ("*.svc.cluster.local", "billing-api.svc.cluster.local", true, true),
            ("localhost", "localhost", true, true),
        ];
        for (pattern, name, without, with) in cases {
            assert_eq!(admits(pattern, name, false), without, "{pattern} {name}");
            assert_eq!(admits(pattern, name, true), with, "{pattern} {name} with subdomains");
        }
    }

    #[test]
    fn names_are_letters_digits_hyphens() {
        for good in [
            "a",
            "a.b",
            "xn--bcher-kva.example",
            "3com.com",
            "a-b.c",
            "*.a.b",
            "abc--d.test",
            "XN--BCHER-KVA.example",
            "xn--nxasmm1c.test",
            "xn--fiqs8s",
            "*.xn--bcher-kva.example",
            &["a"; 127].join("."),
        ] {
            assert!(DnsName::parse(good).is_ok(), "{good}");
        }
        let long = format!("{}.test", "a".repeat(64));
        let longer = vec!["a".repeat(63); 4].join(".");
        let bad = [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a.b",
            "a-.b",
            "a_b.c",
            "a b",
            "a/b",
            "a:1",
            "*",
            "*.",
            "a.*.b",
            "*a.b",
            "**.b",
            "*.*.b",
            "bücher.example",
            "mailto:a",
            "https://a.b",
            "a@b.c",
            "1.2.3.4",
            "::1",
            "a.1",
            "0x7f.1",
            "1.2.3.0x4",
            "a.0x",
            "r3---x.test",
            "ab--c.example.com",
            "xn--.example.com",
            "xn--a.example.com",
            "xn--abc-.example.com",
            "xn--999999.example.com",
            "xn--bcher-KVB9.example.com",
            "a.xn--example.com",
            "*.xn--a.example.com",
            "xn--zca-.test",
            "a\0.b",
            "a\n",
            "a.b%00",
            &long,
            &longer,
        ];
        for text in bad {
            assert!(DnsName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn patterns_hold_labels_that_no_name_has() {
        let pattern = Pattern::parse("*.r3---x.test").unwrap();
        assert!(pattern.admits(&DnsName::pattern("a.r3---x.test").unwrap(), false));
        let why = DnsName::parse("a.r3---x.test").unwrap_err();
        assert!(why.contains("third and fourth"), "{why}");
        let why = DnsName::parse("xn--a.test").unwrap_err();
        assert!(why.contains("no A-label"), "{why}");
    }

    #[test]
    fn sec_e2_addresses_have_one_spelling_for_one_family() {
        for good in ["10.0.0.1", "0.0.0.0", "::", "::1", "2001:db8::1", "2001:DB8:0:0::1", "fe80::1"] {
            assert!(parse_ip(good).is_ok(), "{good}");
        }
        let bad = [
            "",
            "10.0.0.01",
            "010.0.0.1",
            "0x0a.0.0.1",
            "10.0.0",
            "10.1",
            "167772161",
            "10.0.0.1/32",
            "10.0.0.1/0",
            "::1/128",
            "fe80::1%eth0",
            "fe80::1%25eth0",
            "::ffff:10.0.0.1",
            "::FFFF:0a00:0001",
            "::10.0.0.1",
            "[::1]",
            "10.0.0.1:443",
            " 10.0.0.1",
            "10.0.0.1 ",
            "10.0.0.256",
            "1::2::3",
            "٣.0.0.1",
        ];
        for text in bad {
            assert!(parse_ip(text).is_err(), "{text:?}");
        }
        assert!(parse_ip(&"1".repeat(1_000_000)).unwrap_err().len() < 300);
    }

    #[test]
    fn every_bad_field_of_a_subject_is_named() {
        let subject = Subject {
            common_name: "a".repeat(65),
            organization: Some("Evil\u{202e}".into()),
            organizational_unit: Some(String::new()),
            country: Some("NLD".into()),
            state: Some(" x".into()),
            locality: Some("a\0".into()),
        };
        let mut found = Violations::default();
        subject.check(&mut found);
        let fields: Vec<_> =
            found.into_result().unwrap_err().violations.into_iter().map(|v| v.field).collect();
        let all = [
            "common_name",
            "subject.organization",
            "subject.organizational_unit",
            "subject.state",
            "subject.locality",
            "subject.country",
        ];
        assert_eq!(fields, all);
    }

    #[test]
    fn a_subject_is_written_in_its_order() {
        let subject =
            Subject { common_name: "Zoë".into(), country: Some("nl".into()), ..Subject::default() };
        let expected = b"\x30\x1c\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02NL\x31\x0d\x30\x0b\x06\x03\x55\x04\x03\x0c\x04Zo\xc3\xab";
        assert_eq!(subject.to_name().unwrap(), expected);
        assert_eq!(write_name(None, &SubjectParts::default()).unwrap(), [0x30, 0]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_not(text in ".{0,80}|[a-z0-9*._-]{0,80}") {
            if let Ok(name) = DnsName::parse(&text) {
                prop_assert_eq!(&DnsName::parse(name.as_str()).unwrap(), &name);
                prop_assert!(name.as_str().len() <= MAX_DNS_NAME && !name.as_str().bytes().any(|b| b.is_ascii_uppercase()));
            }
            let _ = parse_ip(&text);
        }

        /// Against a second, slower reading of the rule: compare label by label.
        #[test]
        fn matching_agrees_with_a_comparison_by_labels(
            pattern in "(\\*\\.)?[ab](\\.[ab]){0,2}", name in "(\\*\\.)?[ab](\\.[ab]){0,4}", subdomains: bool,
        ) {
            let (p, n): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), name.split('.').collect());
            let wild = p[0] == "*";
            let base = if wild { &p[1..] } else { &p[..] };
            let below = n.len().checked_sub(base.len()).filter(|&extra| &n[extra..] == base);
            let expected = match below {
                None => false,
                Some(0) => !wild,
                Some(1) if wild => true,
                Some(_) => subdomains && (wild || n[0] != "*"),
            };
            prop_assert_eq!(admits(&pattern, &name, subdomains), expected);
        }
    }
}
