//! Name constraints along a path (RFC 5280, 4.2.1.10 and 6.1.3; RFC 9549 for mailboxes beyond ASCII).

use std::net::IpAddr;

use const_oid::ObjectIdentifier;

use super::{Reason, host::mailbox};
use crate::{
    Certificate,
    chain::Work,
    error::quote,
    read::{
        dn::Dn,
        general::{GeneralName, HostOrDomain, NameConstraints, Subtree, host_name},
    },
};

/// `SmtpUTF8Mailbox` (RFC 9598), a mailbox in an `otherName`.
const SMTP_UTF8_MAILBOX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.9");

/// A name of a certificate as constraints see it.
pub(crate) enum Name<'a> {
    Dns(&'a str),
    Ip(&'a [u8]),
    Email(&'a str),
    /// An `emailAddress` of a subject, whose case means nothing.
    SubjectEmail(&'a str),
    Uri(&'a str),
    Directory(&'a Dn),
    /// Of a kind that no constraint here is understood for.
    Other(u8),
}

/// Whether a name lies in a subtree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Yes,
    No,
    /// It cannot be told: the name is malformed, or the kind is not understood.
    Unclear,
}

/// Checks every name of `certificate` against the constraints of one CA above it.
pub(super) fn check(
    constraints: &NameConstraints,
    certificate: &Certificate,
    is_leaf: bool,
    work: &Work,
) -> Result<(), (Reason, String)> {
    let common_name = common_names(certificate, is_leaf);
    let names = names(certificate).into_iter().chain(common_name.iter().map(|(text, ip)| match ip {
        Some(octets) => Name::Ip(octets),
        None => Name::Dns(text),
    }));
    for name in names {
        judge(constraints, &name, || work.compare())?;
    }
    Ok(())
}

/// Checks one name; `count` is called for each comparison, and may end it.
pub(crate) fn judge(
    constraints: &NameConstraints,
    name: &Name<'_>,
    mut count: impl FnMut() -> Result<(), (Reason, String)>,
) -> Result<(), (Reason, String)> {
    let cannot = || {
        (
            Reason::UnsupportedNameConstraint,
            format!("has {} that its constraint cannot be compared with", name.text()),
        )
    };
    let mut allowed = None;
    for subtree in constraints.permitted.iter().filter(|subtree| subtree.kind() == name.kind()) {
        count()?;
        match within(name, subtree, false) {
            Within::Unclear => return Err(cannot()),
            Within::Yes => allowed = Some(true),
            Within::No => allowed = allowed.or(Some(false)),
        }
    }
    if allowed == Some(false) {
        return Err((Reason::NameConstraint, format!("has {}, which is not permitted", name.text())));
    }
    for subtree in constraints.excluded.iter().filter(|subtree| subtree.kind() == name.kind()) {
        count()?;
        match within(name, subtree, true) {
            Within::Unclear => return Err(cannot()),
            Within::Yes => {
                return Err((Reason::NameConstraint, format!("has {}, which is excluded", name.text())));
            }
            Within::No => {}
        }
    }
    Ok(())
}

fn names(certificate: &Certificate) -> Vec<Name<'_>> {
    let parts = certificate.parts();
    let alternative = parts.extensions.names.as_deref().unwrap_or_default();
    let mut names = Vec::with_capacity(alternative.len() + 1);
    if !parts.subject.is_empty() {
        names.push(Name::Directory(&parts.subject));
    }
    for name in alternative {
        let seen = match name {
            GeneralName::Dns(text) => Name::Dns(text),
            GeneralName::Ip(octets) => Name::Ip(octets),
            GeneralName::Email(text) => Name::Email(text),
            GeneralName::Uri(text) => Name::Uri(text),
            GeneralName::Directory(name) => Name::Directory(name),
            // Its value is a UTF8String, or empty if it was anything else: then it is a mailbox that matches nothing.
            GeneralName::Other(oid, value) if oid.is(SMTP_UTF8_MAILBOX) => {
                names.push(Name::Other(name.kind()));
                Name::Email(std::str::from_utf8(value).unwrap_or_default())
            }
            other => Name::Other(other.kind()),
        };
        names.push(seen);
    }
    names.extend(parts.subject.email_addresses().map(Name::SubjectEmail));
    names
}

/// Common names that others would take for a host or an address, of a leaf without any alternative name.
fn common_names(certificate: &Certificate, is_leaf: bool) -> Vec<(String, Option<Vec<u8>>)> {
    let parts = certificate.parts();
    if !is_leaf || parts.extensions.names.is_some() {
        return Vec::new();
    }
    let read = |text: &str| match text.parse() {
        Ok(IpAddr::V4(address)) => Some((text.to_owned(), Some(address.octets().to_vec()))),
        Ok(IpAddr::V6(address)) => Some((text.to_owned(), Some(address.octets().to_vec()))),
        Err(_) => {
            let host = text.strip_prefix("*.").unwrap_or(text);
            (text.contains('.') && host_name(host).is_some()).then(|| (text.to_owned(), None))
        }
    };
    parts.subject.common_names().filter_map(read).collect()
}

impl Name<'_> {
    fn kind(&self) -> u8 {
        match self {
            Self::Email(_) | Self::SubjectEmail(_) => 1,
            Self::Dns(_) => 2,
            Self::Directory(_) => 4,
            Self::Uri(_) => 6,
            Self::Ip(_) => 7,
            Self::Other(kind) => *kind,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Dns(text) => format!("the host {}", quote(text)),
            Self::Email(text) | Self::SubjectEmail(text) => format!("the mailbox {}", quote(text)),
            Self::Uri(text) => format!("the URI {}", quote(text)),
            Self::Directory(name) => format!("the name {}", quote(&name.to_text())),
            Self::Ip(_) => "an address".to_owned(),
            Self::Other(_) => "a name of another kind".to_owned(),
        }
    }
}

fn within(name: &Name<'_>, subtree: &Subtree, excluding: bool) -> Within {
    let yes = |is: bool| if is { Within::Yes } else { Within::No };
    match (name, subtree) {
        (Name::Directory(name), Subtree::Directory(base)) => yes(name.is_within(base)),
        (Name::Ip(octets), Subtree::Ip(network, mask)) => match octets.len() {
            4 | 16 => yes(octets.len() == network.len() && in_network(octets, network, mask)),
            _ => Within::Unclear,
        },
        (Name::Dns(text), Subtree::Dns(base)) => dns_within(text, base, excluding),
        (Name::Email(text), Subtree::Email(base)) => email_within(text, base, false),
        (Name::SubjectEmail(text), Subtree::Email(base)) => email_within(text, base, true),
        (Name::Uri(text), Subtree::Uri(base)) => match uri_host(text) {
            Some(host) => yes(host_within(&host, base)),
            None => Within::Unclear,
        },
        _ => Within::Unclear,
    }
}

fn in_network(octets: &[u8], network: &[u8], mask: &[u8]) -> bool {
    octets.iter().zip(network).zip(mask).all(|((octet, network), mask)| octet & mask == network & mask)
}

fn dns_within(text: &str, base: &str, excluding: bool) -> Within {
    let wildcard = text.strip_prefix("*.");
    let Some(host) = host_name(wildcard.unwrap_or(text)) else { return Within::Unclear };
    let below = |host: &str| {
        base.is_empty() || host == base || host.strip_suffix(base).is_some_and(|h| h.ends_with('.'))
    };
    // A wildcard also stands for the one host of the subtree that is a label longer than its parent.
    let expands =
        wildcard.is_some() && excluding && base.split_once('.').is_some_and(|(_, rest)| rest == host);
    if below(&host) || expands { Within::Yes } else { Within::No }
}

fn email_within(text: &str, base: &HostOrDomain, any_case: bool) -> Within {
    let Some((local, host)) = mailbox(text) else { return Within::Unclear };
    let is = match base {
        HostOrDomain::Mailbox(l, h) => {
            *h == host && (*l == local || any_case && l.eq_ignore_ascii_case(&local))
        }
        other => host_within(&host, other),
    };
    if is { Within::Yes } else { Within::No }
}

fn host_within(host: &str, base: &HostOrDomain) -> bool {
    match base {
        HostOrDomain::Any => true,
        HostOrDomain::Host(name) => host == name,
        HostOrDomain::Below(domain) => {
            host.strip_suffix(domain.as_str()).is_some_and(|h| h.ends_with('.') && h.len() > 1)
        }
        HostOrDomain::Mailbox(..) => false,
    }
}

/// The host of a URI's authority in lower case; `None` if it has none that is a name (RFC 5280, 4.2.1.10).
fn uri_host(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) || !scheme.bytes().all(fine) {
        return None;
    }
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) => return None,
        None => host,
    };
    let host = host_name(host)?;
    let is_address =
        host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (!is_address).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lie_below_a_constraint_with_whole_labels() {
        for (text, base, permitted, excluded) in [
            ("example.com", "example.com", true, true),
            ("a.b.Example.com", "example.com", true, true),
            ("badexample.com", "example.com", false, false),
            ("anything.test", "", true, true),
            ("*.example.com", "example.com", true, true),
            ("*.example.com", "a.example.com", false, true),
            ("*.example.com", "b.a.example.com", false, false),
            ("*.a.example.com", "example.com", true, true),
        ] {
            assert!((dns_within(text, base, false) == Within::Yes) == permitted, "{text} {base}");
            assert!((dns_within(text, base, true) == Within::Yes) == excluded, "{text} {base}");
        }
        for odd in ["a..b", "a.example.com.", "a b.example.com", "*", "a.*.example.com", "a\0.example.com"] {
            assert!(dns_within(odd, "example.com", false) == Within::Unclear, "{odd:?}");
        }
    }

    #[test]
    fn mailboxes_and_uris_are_held_to_hosts() {
        let host = HostOrDomain::Host("example.com".into());
        let below = HostOrDomain::Below("example.com".into());
        let one = HostOrDomain::Mailbox("Ann".into(), "example.com".into());
        assert!(email_within("x@EXAMPLE.com", &host, false) == Within::Yes);
        assert!(email_within("x@a.example.com", &host, false) == Within::No);
        assert!(email_within("x@a.example.com", &below, false) == Within::Yes);
        assert!(email_within("x@example.com", &below, false) == Within::No);
        assert!(email_within("Ann@example.com", &one, false) == Within::Yes);
        assert!(email_within("ann@example.com", &one, false) == Within::No);
        assert!(email_within("ann@example.com", &one, true) == Within::Yes);
        assert!(email_within("x@münchen.example", &below, false) == Within::Unclear);
        assert_eq!(uri_host("https://u:p@A.example.com:8443/x?y#z").as_deref(), Some("a.example.com"));
        assert_eq!(uri_host("https://good.example\\@bad.example/").as_deref(), Some("good.example"));
        for none in
            ["urn:a:b", "mailto:a@b", "https://[::1]/", "https://10.0.0.1/", "https:///x", "://x", "ldap://"]
        {
            assert_eq!(uri_host(none), None, "{none}");
        }
        assert!(host_within("a.example.com", &below) && !host_within("example.com", &below));
        assert!(!host_within("badexample.com", &below));
    }
}
