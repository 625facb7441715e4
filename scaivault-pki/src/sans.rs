//! E-mail addresses and URIs as they stand in a certificate, and the patterns of a role for what is no plain domain:
//! DNS globs, networks, e-mail addresses, URIs. `docs/ROLES.md` publishes the grammar.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::name::{DnsName, parse_ip};

/// The most octets of the part of an e-mail address before the `@` (RFC 5321, 4.5.3.1.1), and of a whole address.
const MAX_LOCAL: usize = 64;
const MAX_EMAIL: usize = 254;
/// The most octets of a URI (as SPIFFE has it), and of a pattern.
const MAX_URI: usize = 2048;
const MAX_PATTERN: usize = 2048;
/// The most `**` of one pattern.
const MAX_DOUBLE_STARS: usize = 2;

/// A pattern of DNS names: `*` in a label stands for any part of that label, also for nothing, and `**` for one or
/// more whole labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DnsGlob {
    text: String,
    labels: Vec<String>,
}

impl DnsGlob {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_PATTERN {
            return Err("is too long");
        }
        let text = text.to_ascii_lowercase();
        let labels: Vec<String> = text.split('.').map(str::to_owned).collect();
        let fixed = labels.iter().rev().take_while(|label| !label.contains('*')).count();
        if fixed < 2 {
            return Err("must end with at least two labels without a wildcard");
        }
        check_stars(&labels)?;
        // What is left is checked as a name that the pattern admits.
        let example: Vec<String> = labels.iter().map(|label| label.replace('*', "a")).collect();
        let parsed = DnsName::pattern(&example.join("."))?;
        if parsed.is_wildcard() {
            return Err("must not admit wildcards: those go by allowed_domains");
        }
        Ok(Self { text, labels })
    }

    pub(crate) fn admits(&self, name: &DnsName) -> bool {
        let labels: Vec<&str> = name.as_str().split('.').collect();
        !name.is_wildcard() && segments_match(&self.labels, &labels)
    }
}

/// Whether each `**` is a whole segment, and there are few of them.
fn check_stars(segments: &[String]) -> Result<(), &'static str> {
    if segments.iter().any(|segment| segment.contains("**") && segment != "**") {
        return Err("may have ** only as a whole part between separators");
    }
    if segments.iter().filter(|segment| *segment == "**").count() > MAX_DOUBLE_STARS {
        return Err("must have at most two **");
    }
    Ok(())
}

/// `*` within a segment, `**` for one or more segments. The work is bounded by the product of both lengths, once for
/// each `**`.
fn segments_match(pattern: &[String], name: &[&str]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return name.is_empty() };
    if first == "**" {
        return (1..=name.len()).any(|taken| segments_match(rest, &name[taken..]));
    }
    name.split_first().is_some_and(|(head, tail)| star_matches(first, head) && segments_match(rest, tail))
}

/// `*` for any octets, also none.
fn star_matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|head| text.strip_prefix(head)) else { return false };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// A network of IP addresses, by its first address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpRange {
    first: IpAddr,
    prefix: u8,
}

impl IpRange {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').ok_or("must have a prefix length, as 10.0.0.0/8")?;
        let first = parse_ip(address)?;
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let plain = !prefix.is_empty()
            && prefix.len() <= 3
            && prefix.bytes().all(|b| b.is_ascii_digit())
            && (prefix == "0" || !prefix.starts_with('0'));
        let prefix = prefix.parse::<u8>().ok().filter(|prefix| plain && *prefix <= bits);
        let prefix = prefix.ok_or_else(|| format!("must have a prefix length of 0 to {bits}"))?;
        if masked(first, prefix) != first {
            return Err(format!(
                "has bits beyond its prefix; did you mean {}/{prefix}?",
                masked(first, prefix)
            ));
        }
        Ok(Self { first, prefix })
    }

    /// Address and mask, as name constraints have them (RFC 5280, 4.2.1.10).
    pub(crate) fn octets(&self) -> Vec<u8> {
        match self.first {
            IpAddr::V4(first) => {
                let mask = masked(Ipv4Addr::BROADCAST.into(), self.prefix);
                [first.octets().to_vec(), octets(mask)].concat()
            }
            IpAddr::V6(first) => {
                let mask = masked(Ipv6Addr::from_bits(u128::MAX).into(), self.prefix);
                [first.octets().to_vec(), octets(mask)].concat()
            }
        }
    }

    /// Of the same family, and with the same prefix.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && masked(address, self.prefix) == self.first
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// A mailbox `local@host` in ASCII: the local part as it was written, the host in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Email {
    local: String,
    host: DnsName,
}

impl Email {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_EMAIL {
            return Err("must have at most 254 characters");
        }
        if !text.is_ascii() {
            return Err("must be in ASCII");
        }
        let (local, host) = text.rsplit_once('@').ok_or("must have an @")?;
        check_local(local)?;
        let host = DnsName::parse(host)?;
        if host.is_wildcard() {
            return Err("must not have a wildcard");
        }
        Ok(Self { local: local.to_owned(), host })
    }
}

/// `Dot-string` of RFC 5321, 4.1.2; quoted local parts are not issued.
fn check_local(local: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'+-/=?^_`{|}~".contains(&b);
    let good = local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(plain));
    match good && local.len() <= MAX_LOCAL {
        true => Ok(()),
        false => Err("must have 1 to 64 letters, digits and common signs before the @, without quotes"),
    }
}

/// `local@host`, `*@host`, `local@*.host`, `*@*.host`; the last two admit exactly one label more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EmailPattern {
    local: Option<String>,
    host: DnsName,
}

impl EmailPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (local, host) = text.rsplit_once('@').ok_or("must have an @, as *@example.com")?;
        if local != "*" {
            check_local(local)?;
        }
        let host = DnsName::pattern(host)?;
        Ok(Self { local: (local != "*").then(|| local.to_owned()), host })
    }

    pub(crate) fn admits(&self, email: &Email) -> bool {
        let host = match self.host.as_str().strip_prefix("*.") {
            Some(above) => email.host.as_str().split_once('.').is_some_and(|(_, rest)| rest == above),
            None => self.host == email.host,
        };
        host && self.local.as_ref().is_none_or(|local| *local == email.local)
    }
}

/// `scheme://host[:port][/segment…]` in ASCII, scheme and host in lower case. No user, query, fragment or escape, no
/// empty segment, no `.` and `..`: two spellings of one URI would be two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    scheme: String,
    /// With the port.
    authority: String,
    segments: Vec<String>,
}

impl Uri {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let uri = Self::read(text, DnsName::parse)?;
        match uri.segments.iter().any(|segment| segment.contains('*')) {
            true => Err("must not have a wildcard"),
            false => Ok(uri),
        }
    }

    fn read(text: &str, host_of: fn(&str) -> Result<DnsName, &'static str>) -> Result<Self, &'static str> {
        if text.len() > MAX_URI {
            return Err("must have at most 2048 characters");
        }
        let (scheme, rest) = text.split_once("://").ok_or("must be of the form scheme://host/path")?;
        let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !good {
            return Err("must begin with a scheme of letters, digits, +, - and .");
        }
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
        let (host, port) = authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p)));
        let port_is_plain = port.is_none_or(|port| {
            !port.starts_with('0') && port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit())
        });
        if !port_is_plain {
            return Err("must have a plain port or none");
        }
        let host = host_of(host).map_err(|_| "must have a DNS name as its host, and no user before it")?;
        if host.is_wildcard() {
            return Err("must not have a wildcard in its host");
        }
        let segments: Vec<String> =
            path.map(|path| path.split('/').map(str::to_owned).collect()).unwrap_or_default();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b);
        let fit = |segment: &String| {
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
        };
        if !segments.iter().all(fit) {
            return Err(
                "must have a path of plain segments: none empty, no . or .., no escapes, query or fragment",
            );
        }
        let authority = match port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        Ok(Self { scheme: scheme.to_ascii_lowercase(), authority, segments })
    }
}

/// A URI whose path may have `*` for a part of a segment, also for nothing but never for a whole empty one, and `**`
/// for one or more segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UriPattern(Uri);

impl UriPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let uri = Uri::read(text, DnsName::pattern)?;
        check_stars(&uri.segments)?;
        Ok(Self(uri))
    }

    pub(crate) fn admits(&self, uri: &Uri) -> bool {
        let segments: Vec<&str> = uri.segments.iter().map(String::as_str).collect();
        self.0.scheme == uri.scheme
            && self.0.authority == uri.authority
            && segments_match(&self.0.segments, &segments)
    }
}

impl fmt::Display for DnsGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.host)
    }
}

impl fmt::Display for EmailPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local.as_deref().unwrap_or("*"), self.host)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)?;
        self.segments.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

impl fmt::Display for UriPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(pattern: &str, name: &str) -> bool {
        DnsGlob::parse(pattern).unwrap().admits(&DnsName::parse(name).unwrap())
    }

    #[test]
    fn globs_admit_parts_of_labels_and_never_a_wildcard() {
        let cases = [
            ("web-*.x.test", "web-1.x.test", true),
            ("xn--*.x.test", "xn--bcher-kva.x.test", true),
            ("web-*.x.test", "WEB-.x.test", false),
            ("web-*.x.test", "web-1.y.x.test", false),
            ("web-*.x.test", "webb.x.test", false),
            ("*.x.test", "a.x.test", true),
            ("*.x.test", "a.b.x.test", false),
            ("*.x.test", "x.test", false),
            ("*.x.test", "*.x.test", false),
            ("**.x.test", "a.x.test", true),
            ("**.x.test", "a.b.c.x.test", true),
            ("**.x.test", "x.test", false),
            ("**.x.test", "*.x.test", false),
            ("a*b*c.x.test", "abc.x.test", true),
            ("a*b*c.x.test", "axbxbxc.x.test", true),
            ("a*b*c.x.test", "axc.x.test", false),
            ("a*a.x.test", "a.x.test", false),
            ("api.**.x.test", "api.eu.west.x.test", true),
            ("api.**.x.test", "api.x.test", false),
        ];
        for (pattern, name, admitted) in cases {
            match DnsName::parse(name) {
                Ok(_) => assert_eq!(glob(pattern, name), admitted, "{pattern} {name}"),
                Err(_) => assert!(!admitted, "{pattern} {name}"),
            }
        }
        for bad in [
            "*",
            "**",
            "*.test",
            "**.test",
            "a.*",
            "x.*.test",
            "a**.x.test",
            "",
            "a b.x.test",
            "*..x.test",
            "**.**.**.x.test",
        ] {
            assert!(DnsGlob::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sec_e2_networks_hold_their_edges_and_one_family() {
        let holds =
            |range: &str, address: &str| IpRange::parse(range).unwrap().contains(parse_ip(address).unwrap());
        let cases = [
            ("10.0.0.0/8", "10.0.0.0", true),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "9.255.255.255", false),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("10.0.0.1/32", "10.0.0.2", false),
            ("10.0.0.1/32", "10.0.0.0", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("10.0.0.254/31", "10.0.0.255", true),
            ("10.0.0.254/31", "10.0.1.0", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("2001:db8::1/128", "2001:db8::1", true),
            ("2001:db8::1/128", "2001:db8::", false),
            ("::/0", "::1", true),
            ("::/0", "127.0.0.1", false),
        ];
        for (range, address, held) in cases {
            assert_eq!(holds(range, address), held, "{range} {address}");
        }
        let bad = [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/8/8",
            "10.0.0.1/8",
            "010.0.0.0/8",
            "::/129",
            "2001:db8::1/64",
            "::ffff:10.0.0.0/104",
            "fe80::%1/64",
            "10.0.0.0/ 8",
            "10.0.0.0/999",
            "10.0.0.0/255.0.0.0",
            "0x0a.0.0.0/8",
        ];
        for text in bad {
            assert!(IpRange::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mailboxes_are_admitted_by_host_and_exact_local_part() {
        let admits = |pattern: &str, email: &str| {
            EmailPattern::parse(pattern).unwrap().admits(&Email::parse(email).unwrap())
        };
        let cases = [
            ("*@x.test", "a@x.test", true),
            ("*@x.test", "A.b+c@X.TEST", true),
            ("*@x.test", "a@y.x.test", false),
            ("*@*.x.test", "a@y.x.test", true),
            ("*@*.x.test", "a@z.y.x.test", false),
            ("*@*.x.test", "a@x.test", false),
            ("ops@x.test", "ops@x.test", true),
            ("ops@x.test", "Ops@x.test", false),
            ("ops@*.x.test", "ops@y.x.test", true),
        ];
        for (pattern, email, admitted) in cases {
            assert_eq!(admits(pattern, email), admitted, "{pattern} {email}");
        }
        let bad = [
            "",
            "a",
            "@x.test",
            "a@",
            "a@b@x.test",
            "a b@x.test",
            "\"a\"@x.test",
            "a@[10.0.0.1]",
            "a@10.0.0.1",
            "a\0@x.test",
            ".a@x.test",
            "a.@x.test",
            "a@*.x.test",
            "bü@x.test",
            "a@x.test\n",
            "a<b>@x.test",
            "*@x.test",
        ];
        for text in bad {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
        assert!(Email::parse(&format!("{}@x.test", "a".repeat(65))).is_err());
        for text in ["*", "*@*", "a*@x.test", "*@", "**@x.test"] {
            assert!(EmailPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn uris_have_one_spelling_and_are_admitted_by_segment() {
        let admits =
            |pattern: &str, uri: &str| UriPattern::parse(pattern).unwrap().admits(&Uri::parse(uri).unwrap());
        let cases = [
            ("spiffe://x.test/ns/*/sa/*", "spiffe://x.test/ns/a/sa/b", true),
            ("spiffe://x.test/ns/*/sa/*", "SPIFFE://X.test/ns/a/sa/b", true),
            ("spiffe://x.test/ns/*/sa/*", "spiffe://x.test/ns/a/b/sa/c", false),
            ("spiffe://x.test/ns/*/sa/*", "spiffe://x.test/ns/a/sa", false),
            ("spiffe://x.test/ns/*/sa/*", "spiffe://y.test/ns/a/sa/b", false),
            ("spiffe://x.test/**", "spiffe://x.test/a/b/c", true),
            ("spiffe://x.test/**", "spiffe://x.test", false),
            ("spiffe://x.test", "spiffe://x.test", true),
            ("spiffe://x.test/web-*", "spiffe://x.test/web-1", true),
            ("spiffe://x.test/Web", "spiffe://x.test/web", false),
            ("https://x.test:8443/a", "https://x.test:8443/a", true),
            ("https://x.test:8443/a", "https://x.test/a", false),
        ];
        for (pattern, uri, admitted) in cases {
            assert_eq!(admits(pattern, uri), admitted, "{pattern} {uri}");
        }
        let bad = [
            "",
            "x.test",
            "urn:x:y",
            "://x.test",
            "spiffe://",
            "spiffe://a@x.test/",
            "spiffe://x.test/",
            "spiffe://x.test//a",
            "spiffe://x.test/../a",
            "spiffe://x.test/./a",
            "spiffe://x.test/a?b",
            "spiffe://x.test/a#b",
            "spiffe://x.test/%61",
            "spiffe://x.test/a b",
            "spiffe://x.test/a\0",
            "spiffe://10.0.0.1/a",
            "spiffe://x.test:0/a",
            "spiffe://x.test:+1/a",
            "spiffe://*.x.test/a",
            "spiffe://x.test/*",
            "1a://x.test/a",
            "spiffe://x.test/ü",
            "javascript:alert(1)",
        ];
        for text in bad {
            assert!(Uri::parse(text).is_err(), "{text:?}");
        }
        for text in ["spiffe://*/a", "spiffe://x.test/a**", "*://x.test/a", "spiffe://x.test/**/**/**"] {
            assert!(UriPattern::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// Against a second, slower reading of `*`: every way to cut the text in two.
        #[test]
        fn stars_agree_with_a_search_over_all_cuts(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|cut| slow(rest, &text[cut..])),
                    Some((first, rest)) => text.split_first().is_some_and(|(t, more)| t == first && slow(rest, more)),
                }
            }
            prop_assert_eq!(star_matches(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,60}|[a-z0-9@:/.*%-]{0,60}") {
            if let Ok(email) = Email::parse(&text) {
                prop_assert_eq!(Email::parse(&email.to_string()).unwrap(), email);
            }
            if let Ok(uri) = Uri::parse(&text) {
                prop_assert_eq!(Uri::parse(&uri.to_string()).unwrap(), uri);
            }
            let _ = (DnsGlob::parse(&text), IpRange::parse(&text), EmailPattern::parse(&text), UriPattern::parse(&text));
        }
    }
}
