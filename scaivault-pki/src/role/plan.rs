use std::net::IpAddr;

use const_oid::ObjectIdentifier;
use time::OffsetDateTime;

use super::KeyRule;
use crate::{
    Issuer,
    name::{DnsName, SubjectParts},
};

/// What a certificate is going to say: admitted by a role, under one issuer. There is no other way to have
/// one, and issuing consumes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) common_name: Option<String>,
    pub(super) subject: SubjectParts,
    pub(super) dns_names: Vec<DnsName>,
    pub(super) ip_addresses: Vec<IpAddr>,
    pub(super) emails: Vec<String>,
    pub(super) uris: Vec<String>,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
    /// Whether the end is that of the issuer, and not what was asked for.
    pub(super) is_cut: bool,
    pub(super) renew_after: OffsetDateTime,
    pub(super) key: KeyRule,
    /// The key of the certificate request that was admitted; none where the key is made for the caller.
    pub(super) public_key: Option<Vec<u8>>,
    pub(super) purposes: Vec<ObjectIdentifier>,
    pub(super) issuer: Vec<u8>,
}

impl Plan {
    /// The subject's common name.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The rest of the subject; with no common name either, it is empty.
    #[must_use]
    pub fn subject(&self) -> &SubjectParts {
        &self.subject
    }

    /// The DNS names, the common name first if it is one.
    #[must_use]
    pub fn dns_names(&self) -> &[DnsName] {
        &self.dns_names
    }

    /// The IP addresses, the common name first if it is one.
    #[must_use]
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.ip_addresses
    }

    /// The e-mail addresses, the common name first if it is one.
    #[must_use]
    pub fn emails(&self) -> &[String] {
        &self.emails
    }

    /// The URIs.
    #[must_use]
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// The first second of its life.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The last second of its life.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Whether its life was cut to the end of its issuer.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// When to ask for the next one: after two thirds of what is left of its life when it is issued.
    #[must_use]
    pub fn renew_after(&self) -> OffsetDateTime {
        self.renew_after
    }

    /// The kind of key that it is for.
    #[must_use]
    pub fn key(&self) -> KeyRule {
        self.key
    }

    /// What it is for (RFC 5280, 4.2.1.12).
    #[must_use]
    pub fn purposes(&self) -> &[ObjectIdentifier] {
        &self.purposes
    }

    pub(crate) fn is_under(&self, issuer: &Issuer) -> bool {
        self.issuer == issuer.certificate_der()
    }

    /// Whether it was admitted for this very key, or for no key in particular.
    pub(crate) fn is_for(&self, spki: &[u8]) -> bool {
        self.public_key.as_ref().is_none_or(|admitted| admitted == spki)
    }
}
