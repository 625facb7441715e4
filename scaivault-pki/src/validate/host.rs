//! Names that a certificate is asked for (RFC 9525).

use std::net::IpAddr;

use crate::{
    Certificate, PkiError,
    error::quote,
    read::general::{GeneralName, host_name},
};

/// A name that the certificate in question must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferenceName {
    /// A host, as [`ReferenceName::dns`] checked it: lower case, no last dot.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// A mailbox: the local part as it came, and the host in lower case.
    Email(String, String),
}

impl ReferenceName {
    /// A host name, internationalized ones as A-labels (`xn--`), with or without a last dot; or an IP address.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] naming `hostname` if it is neither.
    pub fn dns(text: &str) -> Result<Self, PkiError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let bad = || PkiError::invalid("hostname", format!("{} is no host name", quote(text)));
        let host = host_name(text.strip_suffix('.').unwrap_or(text)).ok_or_else(bad)?;
        // Four numbers that are no address are no name either.
        let last = host.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) { Err(bad()) } else { Ok(Self::Dns(host)) }
    }

    /// An address as text.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] naming `ip` if it is none.
    pub fn ip(text: &str) -> Result<Self, PkiError> {
        text.parse()
            .map(Self::Ip)
            .map_err(|_| PkiError::invalid("ip", format!("{} is no IP address", quote(text))))
    }

    /// A mailbox, `local@host`.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] naming `email` if it is none in ASCII.
    pub fn email(text: &str) -> Result<Self, PkiError> {
        match mailbox(text) {
            Some((local, host)) => Ok(Self::Email(local, host)),
            None => Err(PkiError::invalid("email", format!("{} is no mailbox", quote(text)))),
        }
    }

    /// Whether `certificate` has this name as a subject alternative name; its common name does not count.
    pub(super) fn is_in(&self, certificate: &Certificate) -> bool {
        let names = certificate.parts().extensions.names.as_deref().unwrap_or_default();
        names.iter().any(|name| match (self, name) {
            (Self::Dns(host), GeneralName::Dns(presented)) => matches_host(presented, host),
            (Self::Ip(IpAddr::V4(address)), GeneralName::Ip(octets)) => octets == &address.octets(),
            (Self::Ip(IpAddr::V6(address)), GeneralName::Ip(octets)) => octets == &address.octets(),
            (Self::Email(local, host), GeneralName::Email(text)) => {
                mailbox(text).is_some_and(|(l, h)| l == *local && h == *host)
            }
            _ => false,
        })
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Dns(host) => host.clone(),
            Self::Ip(address) => address.to_string(),
            Self::Email(local, host) => quote(&format!("{local}@{host}")),
        }
    }
}

/// A wildcard is the whole leftmost label, stands for exactly one label, and has two labels or more behind it.
fn matches_host(presented: &str, host: &str) -> bool {
    if let Some(parent) = presented.strip_prefix("*.") {
        let Some(parent) = host_name(parent).filter(|parent| parent.contains('.')) else { return false };
        return host.split_once('.').is_some_and(|(_, rest)| rest == parent);
    }
    host_name(presented).is_some_and(|presented| presented == host)
}

/// Local part and host of a mailbox; the local part as it came, since only its host knows what it means.
pub(super) fn mailbox(text: &str) -> Option<(String, String)> {
    let (local, host) = text.rsplit_once('@')?;
    let printable = local.bytes().all(|byte| byte.is_ascii_graphic());
    let plain = !local.is_empty()
        && local.len() <= 64
        && printable
        && (!local.contains('@') || local.starts_with('"'));
    plain.then(|| host_name(host)).flatten().map(|host| (local.to_owned(), host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_whole_label() {
        assert!(matches_host("*.Example.com", "a.example.com"));
        for (presented, host) in [
            ("*.example.com", "example.com"),
            ("*.example.com", "a.b.example.com"),
            ("a*.example.com", "ab.example.com"),
            ("*a.example.com", "ba.example.com"),
            ("a.*.example.com", "a.b.example.com"),
            ("*", "example"),
            ("*.com", "example.com"),
            ("*.*.example.com", "a.b.example.com"),
            ("", ""),
            ("xn--*.example.com", "xn--a.example.com"),
            ("a.example.com.", "a.example.com"),
            ("*.example.com.", "a.example.com"),
        ] {
            assert!(!matches_host(presented, host), "{presented} {host}");
        }
        assert!(matches_host("A.example.com", "a.example.com"));
    }

    #[test]
    fn references_are_hosts_addresses_or_mailboxes() {
        assert_eq!(ReferenceName::dns("Example.COM.").unwrap(), ReferenceName::Dns("example.com".into()));
        assert_eq!(ReferenceName::dns("::1").unwrap(), ReferenceName::ip("0:0:0:0:0:0:0:1").unwrap());
        for bad in [
            "",
            ".",
            "a..",
            "*.example.com",
            "a b",
            "1.2.3",
            "1.2.3.4.5",
            "010.1.2.3",
            "bücher.example",
            "fe80::1%eth0",
        ] {
            assert!(ReferenceName::dns(bad).is_err(), "{bad}");
        }
        assert!(ReferenceName::email("Ann@Example.com").is_ok());
        for bad in ["ann", "@example.com", "a@b@example.com", "ann@", "a nn@example.com"] {
            assert!(ReferenceName::email(bad).is_err(), "{bad}");
        }
    }
}
