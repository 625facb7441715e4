//! `GeneralName`s, and the subtrees that name constraints make of them (RFC 5280, 4.2.1.6 and 4.2.1.10).

use super::{
    asn1::{Malformed, Reader, Result, constructed, context},
    dn::Dn,
    oid::Oid,
};

/// One name of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GeneralName {
    /// `otherName`: its type and the whole value.
    Other(Oid, Vec<u8>),
    Email(String),
    Dns(String),
    Directory(Dn),
    Uri(String),
    Ip(Vec<u8>),
    RegisteredId(Oid),
    /// `x400Address` or `ediPartyName`: the tag and the content.
    Exotic(u8, Vec<u8>),
}

impl GeneralName {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let element = reader.next()?;
        let content = element.content;
        Ok(match element.tag {
            tag if tag == constructed(0) => {
                let mut parts = Reader::new(content);
                let oid = parts.oid()?;
                let value = Reader::only(parts.expect(constructed(0))?, super::asn1::UTF8_STRING);
                parts.end()?;
                // Values of other types are never looked at.
                Self::Other(oid, value.unwrap_or_default().to_vec())
            }
            tag if tag == context(1) => Self::Email(ia5(content)?),
            tag if tag == context(2) => Self::Dns(ia5(content)?),
            tag if tag == constructed(4) => Self::Directory(Dn::parse(content)?),
            tag if tag == context(6) => Self::Uri(ia5(content)?),
            tag if tag == context(7) => Self::Ip(content.to_vec()),
            tag if tag == context(8) => Self::RegisteredId(Oid::from_der_content(content)?),
            tag if tag == constructed(3) || tag == constructed(5) => Self::Exotic(tag, content.to_vec()),
            _ => return Err(Malformed("a name of no known kind")),
        })
    }

    /// A number for the kind of name, to compare kinds by.
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Other(..) => 0,
            Self::Email(_) => 1,
            Self::Dns(_) => 2,
            Self::Directory(_) => 4,
            Self::Uri(_) => 6,
            Self::Ip(_) => 7,
            Self::RegisteredId(_) => 8,
            Self::Exotic(tag, _) => tag & 0x1f,
        }
    }
}

/// The names of a `GeneralNames`, of which there is at least one.
pub(crate) fn general_names(content: &[u8]) -> Result<Vec<GeneralName>> {
    let mut reader = Reader::new(content);
    let mut names = Vec::new();
    while !reader.is_empty() {
        names.push(GeneralName::read(&mut reader)?);
    }
    if names.is_empty() { Err(Malformed("a list of names without a name")) } else { Ok(names) }
}

fn ia5(content: &[u8]) -> Result<String> {
    match std::str::from_utf8(content) {
        Ok(text) if text.is_ascii() => Ok(text.to_owned()),
        _ => Err(Malformed("a name with characters beyond ASCII")),
    }
}

/// The extension of CAs; each list is absent or has an element.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameConstraints {
    pub(crate) permitted: Vec<Subtree>,
    pub(crate) excluded: Vec<Subtree>,
}

/// The base of a subtree.
#[derive(Clone, Debug)]
pub(crate) enum Subtree {
    /// A host and everything below it; in lower case, empty for every name.
    Dns(String),
    /// Network and mask of 4 or 16 octets each.
    Ip(Vec<u8>, Vec<u8>),
    Email(HostOrDomain),
    Uri(HostOrDomain),
    Directory(Dn),
    /// A kind of name that is not understood in constraints: its number.
    Unsupported(u8),
}

/// What a mailbox or URI constraint names; hosts in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostOrDomain {
    /// One mailbox: the local part as it came, and the host.
    Mailbox(String, String),
    /// This host exactly.
    Host(String),
    /// Every host below this domain, but not the domain (written with a leading period).
    Below(String),
    /// Every host.
    Any,
}

impl NameConstraints {
    pub(crate) fn parse(value: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(Reader::only(value, super::asn1::SEQUENCE)?);
        let mut subtrees = |number| -> Result<Vec<Subtree>> {
            let Some(content) = reader.optional(constructed(number))? else { return Ok(Vec::new()) };
            let mut list = Reader::new(content);
            let mut found = Vec::new();
            while !list.is_empty() {
                found.push(Subtree::read(list.sequence()?)?);
            }
            if found.is_empty() { Err(Malformed("an empty list of subtrees")) } else { Ok(found) }
        };
        let constraints = Self { permitted: subtrees(0)?, excluded: subtrees(1)? };
        reader.end()?;
        if constraints.permitted.is_empty() && constraints.excluded.is_empty() {
            return Err(Malformed("name constraints without a constraint"));
        }
        Ok(constraints)
    }
}

impl Subtree {
    fn read(mut reader: Reader<'_>) -> Result<Self> {
        let base = GeneralName::read(&mut reader)?;
        // `minimum` DEFAULT 0 may be written; anything else is not used with any form of name.
        if reader.optional(context(0))?.is_some_and(|minimum| minimum != [0]) {
            return Err(Malformed("a subtree with a minimum"));
        }
        reader.end().map_err(|_| Malformed("a subtree with a maximum"))?;
        Self::of(&base)
    }

    /// What `base` means as a subtree.
    pub(crate) fn of(base: &GeneralName) -> Result<Self> {
        let host = |text: &str| host_name(text).ok_or(Malformed("a constraint that is no host name"));
        Ok(match base {
            GeneralName::Dns(text) if text.is_empty() => Self::Dns(String::new()),
            GeneralName::Dns(text) => Self::Dns(host(text)?),
            GeneralName::Ip(octets) if matches!(octets.len(), 8 | 32) => {
                let (network, mask) = octets.split_at(octets.len() / 2);
                let zeros = mask.iter().map(|byte| byte.count_zeros()).sum::<u32>();
                let trailing: u32 = mask
                    .iter()
                    .rev()
                    .fold((0, true), |(all, more), byte| {
                        (all + if more { byte.trailing_zeros() } else { 0 }, more && *byte == 0)
                    })
                    .0;
                if zeros != trailing {
                    return Err(Malformed("a mask that is no prefix"));
                }
                Self::Ip(network.to_vec(), mask.to_vec())
            }
            GeneralName::Ip(_) => return Err(Malformed("an address range of odd length")),
            GeneralName::Email(text) => Self::Email(match text.rsplit_once('@') {
                Some((local, _)) if local.is_empty() || (local.contains('@') && !local.starts_with('"')) => {
                    return Err(Malformed("a constraint that is no mailbox"));
                }
                Some((local, domain)) => HostOrDomain::Mailbox(local.to_owned(), host(domain)?),
                None => host_or_domain(text)?,
            }),
            GeneralName::Uri(text) => Self::Uri(host_or_domain(text)?),
            GeneralName::Directory(name) => Self::Directory(name.clone()),
            other => Self::Unsupported(other.kind()),
        })
    }

    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Email(_) => 1,
            Self::Dns(_) => 2,
            Self::Directory(_) => 4,
            Self::Uri(_) => 6,
            Self::Ip(..) => 7,
            Self::Unsupported(kind) => *kind,
        }
    }

    /// Whether every name in `other` is in this one, too. Of two of a kind that is not understood nobody knows.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dns(base), Self::Dns(name)) => base.is_empty() || name == base || is_below(name, base),
            (Self::Ip(network, mask), Self::Ip(inner, inner_mask)) => {
                network.len() == inner.len()
                    && network.iter().zip(mask).zip(inner.iter().zip(inner_mask)).all(
                        |((network, mask), (inner, inner_mask))| {
                            mask & inner_mask == *mask && network & mask == inner & mask
                        },
                    )
            }
            (Self::Email(base), Self::Email(name)) | (Self::Uri(base), Self::Uri(name)) => base.holds(name),
            (Self::Directory(base), Self::Directory(name)) => name.is_within(base),
            _ => false,
        }
    }
}

impl HostOrDomain {
    fn holds(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Host(base), Self::Host(host) | Self::Mailbox(_, host)) => base == host,
            (Self::Below(base), Self::Host(host) | Self::Mailbox(_, host)) => is_below(host, base),
            (Self::Below(base), Self::Below(domain)) => domain == base || is_below(domain, base),
            (Self::Mailbox(..), Self::Mailbox(..)) => self == other,
            _ => false,
        }
    }
}

impl std::fmt::Display for HostOrDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mailbox(local, host) => write!(f, "{local}@{host}"),
            Self::Host(host) => f.write_str(host),
            Self::Below(domain) => write!(f, ".{domain}"),
            Self::Any => Ok(()),
        }
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
}

fn host_or_domain(text: &str) -> Result<HostOrDomain> {
    let bad = Malformed("a constraint that is no host name");
    match text.strip_prefix('.') {
        Some(domain) => host_name(domain).map(HostOrDomain::Below).ok_or(bad),
        None if text.is_empty() => Ok(HostOrDomain::Any),
        None => host_name(text).map(HostOrDomain::Host).ok_or(bad),
    }
}

/// A host name in lower case: labels of 1 to 63 letters, digits, hyphens and underscores, at most 253 octets. Underscores
/// are no host names by the book, but certificates have them. A last dot is for people who ask, and not for certificates.
pub(crate) fn host_name(text: &str) -> Option<String> {
    let label = |label: &str| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(fine)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (text.len() <= 253 && text.split('.').all(label)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn constraints(list: u8, name: &[u8]) -> Result<NameConstraints> {
        NameConstraints::parse(&wrap(0x30, &wrap(constructed(list), &wrap(0x30, name))))
    }

    #[test]
    fn constraints_have_to_make_sense() {
        let ip = |octets: &[u8]| constraints(0, &wrap(context(7), octets));
        assert!(ip(&[10, 0, 0, 0, 255, 0, 0, 0]).is_ok());
        assert!(ip(&[0; 32]).is_ok());
        for bad in [&[10, 0, 0, 0][..], &[10, 0, 0, 0, 255, 0, 255, 0], &[10, 0, 0, 0, 0, 0, 0, 1], &[0; 16]]
        {
            assert!(ip(bad).is_err(), "{bad:?}");
        }
        for (tag, good) in
            [(2, "example.com"), (2, ""), (1, "a@example.com"), (1, ".example.com"), (6, "host.example")]
        {
            assert!(constraints(1, &wrap(context(tag), good.as_bytes())).is_ok(), "{good}");
        }
        for (tag, bad) in [
            (2, "*.example.com"),
            (2, ".example.com"),
            (2, "a..b"),
            (1, "@example.com"),
            (1, "a@b@example.com"),
            (6, "http://a"),
        ] {
            assert!(constraints(1, &wrap(context(tag), bad.as_bytes())).is_err(), "{bad}");
        }
        assert!(NameConstraints::parse(&wrap(0x30, &[])).is_err());
        assert!(NameConstraints::parse(&wrap(0x30, &wrap(constructed(0), &[]))).is_err());
        let with_minimum = [wrap(context(2), b"a.example"), wrap(context(0), &[1])].concat();
        assert!(constraints(0, &with_minimum).is_err());
    }

    #[test]
    fn host_names_are_plain() {
        assert_eq!(host_name("A_b.Example").as_deref(), Some("a_b.example"));
        for bad in ["", ".", "a.", "a..b", ".a", "*.a", "a b", "-a.b", "a-.b", "a\0.b", "ä.b"] {
            assert_eq!(host_name(bad), None, "{bad:?}");
        }
    }
}
