//! Roles: what a caller may have issued. A [`RoleConfig`] is compiled once into a [`Role`]; a role admits a
//! request and gives a [`Plan`], or says every rule that the request breaks.

mod admit;
mod plan;

use std::{net::IpAddr, time::Duration};

use const_oid::{ObjectIdentifier, db::rfc5280};

pub use self::{
    admit::{CsrOverride, IssueRequest, Verdict},
    plan::Plan,
};
use crate::{
    KeyKind, Refused,
    error::{Violations, quote},
    name::{Pattern, SubjectParts},
    sans::{DnsGlob, EmailPattern, IpRange, UriPattern},
};

/// The most patterns of each list of one role.
const MAX_PATTERNS: usize = 256;
/// The most purposes beside those of TLS.
const MAX_PURPOSES: usize = 16;
/// The longest life that a role may allow: ten years.
const MAX_TTL: Duration = Duration::from_secs(3653 * 86_400);
/// How far back a certificate may begin.
const MAX_BACKDATE: Duration = Duration::from_secs(24 * 3600);

/// A role as it is written down. The grammar of its patterns is in `docs/ROLES.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleConfig {
    /// 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit.
    pub name: String,
    /// Patterns `x` and `*.x`, at most 256, as in each list below. All lists may be empty where IP addresses are allowed.
    pub allowed_domains: Vec<String>,
    /// Whether `x` also admits what is below it, and `*.x` more than one label.
    pub allow_subdomains: bool,
    /// Whether names with a wildcard, which `*.x` of `allowed_domains` admits, may be issued at all.
    pub allow_wildcards: bool,
    /// DNS names with `*` for any part of a label and `**` for one or more whole labels. They never admit a wildcard.
    pub allowed_dns_globs: Vec<String>,
    /// Whether certificates may name IP addresses.
    pub allow_ip_sans: bool,
    /// Which, as networks `10.0.0.0/8`; all if there are none.
    pub allowed_ip_ranges: Vec<String>,
    /// E-mail addresses: `local@host`, `*@host`, `*@*.host`.
    pub allowed_emails: Vec<String>,
    /// URIs: `scheme://host/a/*/**`.
    pub allowed_uris: Vec<String>,
    /// The longest life, whole seconds, 1 second to 3653 days.
    pub max_ttl: Duration,
    /// The life of what is asked for without one; at most `max_ttl`.
    pub default_ttl: Duration,
    /// How far before their issuance certificates begin, in whole seconds, at most 24 hours.
    pub backdate: Duration,
    /// What becomes of a life that was asked for and would outlive the issuer.
    pub past_issuer_end: PastIssuerEnd,
    /// The kind of key that certificates are issued for.
    pub key: KeyRule,
    /// Whether a request must have a common name.
    pub require_cn: bool,
    /// Whether certificates are for TLS clients.
    pub client_flag: bool,
    /// Whether certificates are for TLS servers.
    pub server_flag: bool,
    /// Purposes beside those (RFC 5280, 4.2.1.12), at most 16: `code_signing`, `email_protection` or a dotted OID.
    pub extended_key_usages: Vec<String>,
    /// What every certificate's subject says beside its common name.
    pub subject: SubjectParts,
    /// Which parts of its subject a request may choose where `subject` says nothing: `organization`,
    /// `organizational_unit`, `country`, `state`, `locality`.
    pub allowed_subject_fields: Vec<String>,
}

impl Default for RoleConfig {
    /// A role without a name that admits nothing yet: TLS in both directions, P-256, a week, at most thirty days.
    fn default() -> Self {
        Self {
            name: String::new(),
            allowed_domains: Vec::new(),
            allow_subdomains: false,
            allow_wildcards: true,
            allowed_dns_globs: Vec::new(),
            allow_ip_sans: false,
            allowed_ip_ranges: Vec::new(),
            allowed_emails: Vec::new(),
            allowed_uris: Vec::new(),
            max_ttl: Duration::from_secs(30 * 86_400),
            default_ttl: Duration::from_secs(7 * 86_400),
            backdate: crate::time::BACKDATE,
            past_issuer_end: PastIssuerEnd::Refuse,
            key: KeyRule::Kind(KeyKind::EcP256),
            require_cn: true,
            client_flag: true,
            server_flag: true,
            extended_key_usages: Vec::new(),
            subject: SubjectParts::default(),
            allowed_subject_fields: Vec::new(),
        }
    }
}

/// What becomes of a life that was asked for and would outlive the issuer. A default is always cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PastIssuerEnd {
    /// The request is refused.
    #[default]
    Refuse,
    /// The certificate ends with its issuer.
    Truncate,
}

/// The kinds of key that a role demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// This one.
    Kind(KeyKind),
    /// Any [`KeyKind`], RSA with 2048 to 4096 bits.
    Any,
}

impl KeyRule {
    /// Whether a key of that kind will do.
    #[must_use]
    pub fn admits(self, kind: KeyKind) -> bool {
        match self {
            Self::Kind(due) => due == kind,
            Self::Any => !matches!(kind, KeyKind::Rsa(bits) if bits > 4096),
        }
    }

    /// The kind to make where a key is made for the caller: P-256 unless there is no choice.
    #[must_use]
    pub fn to_make(self) -> KeyKind {
        match self {
            Self::Kind(kind) => kind,
            Self::Any => KeyKind::EcP256,
        }
    }
}

impl std::fmt::Display for KeyRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(kind) => kind.fmt(f),
            Self::Any => f.write_str("any kind, RSA with at most 4096 bits"),
        }
    }
}

/// A role whose every field was checked.
#[derive(Clone, Debug)]
pub struct Role {
    config: RoleConfig,
    domains: Vec<Pattern>,
    globs: Vec<DnsGlob>,
    ranges: Vec<IpRange>,
    emails: Vec<EmailPattern>,
    uris: Vec<UriPattern>,
    purposes: Vec<ObjectIdentifier>,
}

impl RoleConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn compile(self) -> Result<Role, Refused> {
        let mut found = Violations::default();
        if !is_role_name(&self.name) {
            let message = "must have 1 to 64 letters, digits, hyphens, underscores and dots, and begin with a letter or digit";
            found.add("name", "role_name", message);
        }
        let nothing = self.allowed_domains.is_empty()
            && self.allowed_dns_globs.is_empty()
            && self.allowed_emails.is_empty()
            && self.allowed_uris.is_empty()
            && !self.allow_ip_sans;
        if nothing {
            found.add("allowed_domains", "empty", "must not be empty: the role could issue nothing");
        }
        let domains =
            patterns("allowed_domains", "dns_name", &self.allowed_domains, Pattern::parse, &mut found);
        let globs =
            patterns("allowed_dns_globs", "glob", &self.allowed_dns_globs, DnsGlob::parse, &mut found);
        let ranges =
            patterns("allowed_ip_ranges", "ip_range", &self.allowed_ip_ranges, IpRange::parse, &mut found);
        if !self.allow_ip_sans && !self.allowed_ip_ranges.is_empty() {
            found.add("allowed_ip_ranges", "allow_ip_sans", "has no effect unless allow_ip_sans is true");
        }
        let emails =
            patterns("allowed_emails", "email", &self.allowed_emails, EmailPattern::parse, &mut found);
        let uris = patterns("allowed_uris", "uri", &self.allowed_uris, UriPattern::parse, &mut found);
        self.check_times(&mut found);
        let purposes = self.purposes(&mut found);
        if matches!(self.key, KeyRule::Kind(KeyKind::Rsa(bits)) if !matches!(bits, 2048 | 3072 | 4096)) {
            found.add("key_bits", "key_type", "must be 2048, 3072 or 4096 for rsa");
        }
        self.subject.check("subject.", &mut found);
        self.check_subject_fields(&mut found);
        found.into_result()?;
        Ok(Role { config: self, domains, globs, ranges, emails, uris, purposes })
    }

    fn check_times(&self, found: &mut Violations) {
        for (field, ttl) in [("max_ttl", self.max_ttl), ("default_ttl", self.default_ttl)] {
            if ttl.subsec_nanos() != 0 || ttl.is_zero() || ttl > MAX_TTL {
                found.add(field, "range", "must be whole seconds, from 1 second to 3653 days");
            }
        }
        if self.default_ttl > self.max_ttl {
            found.add("default_ttl", "max_ttl", "must not be longer than max_ttl");
        }
        if self.backdate.subsec_nanos() != 0 || self.backdate > MAX_BACKDATE {
            found.add("backdate", "range", "must be whole seconds, at most 24 hours");
        }
    }

    fn purposes(&self, found: &mut Violations) -> Vec<ObjectIdentifier> {
        let flags =
            [(self.server_flag, rfc5280::ID_KP_SERVER_AUTH), (self.client_flag, rfc5280::ID_KP_CLIENT_AUTH)];
        let mut all: Vec<_> = flags.into_iter().filter_map(|(set, oid)| set.then_some(oid)).collect();
        if all.is_empty() && self.extended_key_usages.is_empty() {
            let message = "server_flag and client_flag must not both be false without extended_key_usages";
            found.add("server_flag", "purpose", message);
        }
        let further = patterns("extended_key_usages", "purpose", &self.extended_key_usages, purpose, found);
        if further.len() > MAX_PURPOSES {
            let message = format!("must have at most {MAX_PURPOSES} entries");
            found.add("extended_key_usages", "length", message);
        }
        for (i, oid) in further.into_iter().enumerate() {
            if all.contains(&oid) {
                found.add(format!("extended_key_usages[{i}]"), "twice", "is there already");
            }
            all.push(oid);
        }
        all
    }

    fn check_subject_fields(&self, found: &mut Violations) {
        for (i, field) in self.allowed_subject_fields.iter().enumerate() {
            let entry = format!("allowed_subject_fields[{i}]");
            if !SubjectParts::FIELDS.contains(&field.as_str()) {
                let known = SubjectParts::FIELDS.join(", ");
                found.add(entry, "subject_field", format!("{} is none of {known}", quote(field)));
            } else if self.subject.get(field).is_some() {
                found.add(entry, "subject", "is set by the role already");
            } else if self.allowed_subject_fields.iter().take(i).any(|before| before == field) {
                found.add(entry, "twice", "is there already");
            }
        }
    }
}

/// Reads each entry of a list; adds a violation for each that cannot be read.
fn patterns<T, E: std::fmt::Display>(
    field: &str,
    rule: &'static str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
    found: &mut Violations,
) -> Vec<T> {
    if texts.len() > MAX_PATTERNS {
        found.add(field, "length", format!("must have at most {MAX_PATTERNS} entries"));
        return Vec::new();
    }
    let mut read = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match parse(text) {
            Ok(pattern) => read.push(pattern),
            Err(why) => found.add(format!("{field}[{i}]"), rule, format!("{} {why}", quote(text))),
        }
    }
    read
}

/// A purpose by its name or OID. Those are refused that would make the certificate good for everything, for
/// answers of the CA, or that go by a flag.
fn purpose(text: &str) -> Result<ObjectIdentifier, &'static str> {
    let oid = match text {
        "code_signing" => return Ok(rfc5280::ID_KP_CODE_SIGNING),
        "email_protection" => return Ok(rfc5280::ID_KP_EMAIL_PROTECTION),
        dotted => ObjectIdentifier::new(dotted)
            .map_err(|_| "is neither code_signing nor email_protection nor a dotted OID")?,
    };
    match oid {
        rfc5280::ID_KP_SERVER_AUTH => Err("is set by server_flag"),
        rfc5280::ID_KP_CLIENT_AUTH => Err("is set by client_flag"),
        rfc5280::ANY_EXTENDED_KEY_USAGE => Err("would be good for every purpose"),
        rfc5280::ID_KP_OCSP_SIGNING => Err("would speak for the CA: responders are made by the vault itself"),
        rfc5280::ID_KP_TIME_STAMPING => {
            Err("must be alone and critical (RFC 3161, 2.3), which is not issued here")
        }
        oid => Ok(oid),
    }
}

fn is_role_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

impl Role {
    /// What it was compiled from.
    #[must_use]
    pub fn config(&self) -> &RoleConfig {
        &self.config
    }

    /// The network that the address is in, if it is in one that is allowed.
    fn range_of(&self, address: IpAddr) -> Option<&IpRange> {
        self.ranges.iter().find(|range| range.contains(address))
    }
}
