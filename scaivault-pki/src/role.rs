//! Roles: what a caller may have issued. A [`RoleConfig`] is compiled once into a [`Role`]; a role admits a
//! request and gives a [`Plan`], or says every rule that the request breaks.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use scaivault_kms::KeySpec;
use time::OffsetDateTime;

use crate::{
    Csr, CsrName, Issuer, Refused,
    error::{Violations, quote},
    name::{DnsName, MAX_COMMON_NAME, Pattern, parse_ip},
    time::{begin, last_second, whole_second},
};

/// The most names of one certificate.
const MAX_NAMES: usize = 100;
/// The most patterns of one role.
const MAX_DOMAINS: usize = 256;
/// The longest life that a role may allow: ten years.
const MAX_TTL: Duration = Duration::from_secs(3653 * 86_400);

/// A role as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleConfig {
    /// 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit.
    pub name: String,
    /// Patterns `x` and `*.x`, at most 256. None at all is fine where IP addresses are allowed.
    pub allowed_domains: Vec<String>,
    /// Whether `x` also admits what is below it, and `*.x` more than one label.
    pub allow_subdomains: bool,
    /// Whether certificates may name IP addresses.
    pub allow_ip_sans: bool,
    /// The longest life, whole seconds, 1 second to 3653 days.
    pub max_ttl: Duration,
    /// The life of what is asked for without one; at most `max_ttl`.
    pub default_ttl: Duration,
    /// The kind of key that certificates are issued for.
    pub key: KeySpec,
    /// Whether a request must have a common name.
    pub require_cn: bool,
    /// Whether certificates are for TLS clients.
    pub client_flag: bool,
    /// Whether certificates are for TLS servers.
    pub server_flag: bool,
}

/// A role whose every field was checked.
#[derive(Clone, Debug)]
pub struct Role {
    config: RoleConfig,
    domains: Vec<Pattern>,
}

/// What a caller asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssueRequest {
    /// A DNS name or an IP address; becomes a subject alternative name as well.
    pub common_name: Option<String>,
    /// DNS names.
    pub alt_names: Vec<String>,
    /// IP addresses.
    pub ip_sans: Vec<String>,
    /// How long the certificate shall live; the role's default if there is none.
    pub ttl: Option<Duration>,
}

/// Names that take the place of those in a certificate request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrOverride {
    /// DNS names.
    pub alt_names: Vec<String>,
    /// IP addresses.
    pub ip_sans: Vec<String>,
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
        let domains = self.compile_domains(&mut found);
        self.check_ttls(&mut found);
        if !self.client_flag && !self.server_flag {
            found.add("server_flag", "purpose", "server_flag and client_flag must not both be false");
        }
        found.into_result()?;
        Ok(Role { config: self, domains })
    }

    fn compile_domains(&self, found: &mut Violations) -> Vec<Pattern> {
        if self.allowed_domains.len() > MAX_DOMAINS {
            found.add("allowed_domains", "length", format!("must have at most {MAX_DOMAINS} entries"));
            return Vec::new();
        }
        if self.allowed_domains.is_empty() && !self.allow_ip_sans {
            found.add("allowed_domains", "empty", "must not be empty: the role could issue nothing");
        }
        let mut domains = Vec::with_capacity(self.allowed_domains.len());
        for (i, text) in self.allowed_domains.iter().enumerate() {
            match Pattern::parse(text) {
                Ok(pattern) => domains.push(pattern),
                Err(why) => {
                    found.add(format!("allowed_domains[{i}]"), "dns_name", format!("{} {why}", quote(text)))
                }
            }
        }
        domains
    }

    fn check_ttls(&self, found: &mut Violations) {
        for (field, ttl) in [("max_ttl", self.max_ttl), ("default_ttl", self.default_ttl)] {
            if ttl.subsec_nanos() != 0 || ttl.is_zero() || ttl > MAX_TTL {
                found.add(field, "range", "must be whole seconds, from 1 second to 3653 days");
            }
        }
        if self.default_ttl > self.max_ttl {
            found.add("default_ttl", "max_ttl", "must not be longer than max_ttl");
        }
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

    /// Checks a request against the role and the issuer, and plans the certificate. It begins five minutes
    /// before `now`, but not before its issuer, and its life is counted from `now` with both ends included.
    /// Where the caller asked for no `ttl`, the default is cut to the issuer's end.
    ///
    /// # Errors
    /// Every rule that the request breaks.
    pub fn admit(
        &self,
        request: &IssueRequest,
        issuer: &Issuer,
        now: OffsetDateTime,
    ) -> Result<Plan, Refused> {
        self.plan(request, "", Violations::default(), issuer, now)
    }

    /// Checks a certificate request in the same way, and that its key is of the role's kind and that it
    /// asks for nothing that makes a CA. `names` takes the place of the alternative names that it asks for.
    ///
    /// # Errors
    /// Every rule that the request breaks; fields of the certificate request begin with `csr_pem`.
    pub fn admit_csr(
        &self,
        csr: &Csr,
        names: Option<CsrOverride>,
        ttl: Option<Duration>,
        issuer: &Issuer,
        now: OffsetDateTime,
    ) -> Result<Plan, Refused> {
        let mut found = Violations::default();
        if csr.key_kind().spec() != Some(self.config.key) {
            let (kind, due) = (csr.key_kind(), self.config.key.as_str());
            found.add("csr_pem", "key_type", format!("has a key of kind {kind}, but the role demands {due}"));
        }
        for (field, rule, message) in csr.objections() {
            found.add(*field, rule, message.clone());
        }
        let overridden = names.is_some();
        let names = names.unwrap_or_else(|| names_of(csr, &mut found));
        let request = IssueRequest {
            common_name: csr.common_name().map(str::to_owned),
            alt_names: names.alt_names,
            ip_sans: names.ip_sans,
            ttl,
        };
        self.plan(&request, if overridden { "" } else { "csr_pem." }, found, issuer, now)
    }

    /// Checks names and life; `prefix` stands before the fields that hold names.
    fn plan(
        &self,
        request: &IssueRequest,
        prefix: &str,
        mut found: Violations,
        issuer: &Issuer,
        now: OffsetDateTime,
    ) -> Result<Plan, Refused> {
        let now = whole_second(now);
        let mut names = Names::default();
        let common_name = self.admit_common_name(request.common_name.as_deref(), &mut names, &mut found);
        if request.alt_names.len() + request.ip_sans.len() > MAX_NAMES {
            let message = format!("alt_names and ip_sans must have at most {MAX_NAMES} names together");
            found.add(format!("{prefix}alt_names"), "count", message);
        } else {
            self.admit_names(request, prefix, &mut names, &mut found);
        }
        let not_after = self.admit_ttl(request.ttl, issuer, now, &mut found);
        found.into_result()?;
        Ok(Plan {
            common_name,
            dns_names: names.dns,
            ip_addresses: names.ips,
            not_before: begin(now, Some(issuer.not_before())),
            not_after,
            key: self.config.key,
            client_flag: self.config.client_flag,
            server_flag: self.config.server_flag,
            issuer: issuer.certificate_der().to_vec(),
        })
    }

    fn admit_common_name(
        &self,
        text: Option<&str>,
        names: &mut Names,
        found: &mut Violations,
    ) -> Option<String> {
        let field = "common_name";
        let Some(text) = text else {
            if self.config.require_cn {
                found.add(field, "require_cn", "is required by the role");
            }
            return None;
        };
        if text.chars().take(MAX_COMMON_NAME + 1).count() > MAX_COMMON_NAME {
            found.add(
                field,
                "length",
                format!("must have at most {MAX_COMMON_NAME} characters; longer names go to alt_names"),
            );
            return None;
        }
        if looks_like_ip(text) {
            return self.admit_ip(field, text, names, found).map(|ip| ip.to_string());
        }
        self.admit_dns(field, text, names, found).map(|name| name.as_str().to_owned())
    }

    fn admit_names(&self, request: &IssueRequest, prefix: &str, names: &mut Names, found: &mut Violations) {
        for (i, text) in request.alt_names.iter().enumerate() {
            self.admit_dns(&format!("{prefix}alt_names[{i}]"), text, names, found);
        }
        for (i, text) in request.ip_sans.iter().enumerate() {
            self.admit_ip(&format!("{prefix}ip_sans[{i}]"), text, names, found);
        }
        let nothing =
            request.alt_names.is_empty() && request.ip_sans.is_empty() && request.common_name.is_none();
        if nothing && !self.config.require_cn {
            found.add(
                "common_name",
                "no_name",
                "a certificate needs a name: common_name, alt_names or ip_sans",
            );
        }
    }

    fn admit_dns(
        &self,
        field: &str,
        text: &str,
        names: &mut Names,
        found: &mut Violations,
    ) -> Option<DnsName> {
        let name = match DnsName::parse(text) {
            Ok(name) => name,
            Err(why) => {
                found.add(field, "dns_name", format!("{} {why}", quote(text)));
                return None;
            }
        };
        if !self.domains.iter().any(|domain| domain.admits(&name, self.config.allow_subdomains)) {
            let message = format!("{} is not under the allowed domains of the role", quote(name.as_str()));
            found.add(field, "allowed_domains", message);
            return None;
        }
        names.add_dns(&name);
        Some(name)
    }

    fn admit_ip(&self, field: &str, text: &str, names: &mut Names, found: &mut Violations) -> Option<IpAddr> {
        let address = match parse_ip(text) {
            Ok(address) => address,
            Err(message) => {
                found.add(field, "ip_address", message);
                return None;
            }
        };
        if !self.config.allow_ip_sans {
            found.add(field, "allow_ip_sans", "IP addresses are not allowed by the role");
            return None;
        }
        names.add_ip(address);
        Some(address)
    }

    /// The last second of the life; `now` if a rule is broken.
    fn admit_ttl(
        &self,
        asked: Option<Duration>,
        issuer: &Issuer,
        now: OffsetDateTime,
        found: &mut Violations,
    ) -> OffsetDateTime {
        let ttl = asked.unwrap_or(self.config.default_ttl);
        if now < issuer.not_before() || now > issuer.not_after() {
            found.add("ttl", "issuer_validity", "the issuer is not valid at this time");
            return now;
        }
        if ttl.is_zero() || ttl.subsec_nanos() != 0 {
            found.add("ttl", "range", "must be whole seconds, at least one");
            return now;
        }
        if ttl > self.config.max_ttl {
            let most = self.config.max_ttl.as_secs();
            found.add("ttl", "max_ttl", format!("must be at most {most} seconds, the role's max_ttl"));
            return now;
        }
        match last_second(now, ttl) {
            Some(end) if end <= issuer.not_after() => end,
            _ if asked.is_none() => issuer.not_after(),
            _ => {
                let end = issuer.not_after();
                found.add("ttl", "issuer_validity", format!("would outlive the issuer, which ends at {end}"));
                now
            }
        }
    }
}

/// Whether a text was meant as an address, so that it is judged as one and the message fits.
fn looks_like_ip(text: &str) -> bool {
    let address = text.split('%').next().unwrap_or(text);
    let hexadecimal = address.bytes().all(|b| b.is_ascii_hexdigit() || b":./[]".contains(&b));
    text.parse::<IpAddr>().is_ok() || hexadecimal && text.contains(':')
}

/// The names of a certificate request as text; adds a violation for each that has no such form.
fn names_of(csr: &Csr, found: &mut Violations) -> CsrOverride {
    let mut names = CsrOverride::default();
    for (i, name) in csr.names().iter().enumerate().take(MAX_NAMES + 1) {
        match name {
            CsrName::Dns(text) => names.alt_names.push(text.clone()),
            CsrName::Ip(address) => names.ip_sans.push(address.to_string()),
            CsrName::Other(kind) => {
                let message = format!("is {kind}; only DNS names and IP addresses are issued");
                found.add(format!("csr_pem.names[{i}]"), "name_type", message);
            }
        }
    }
    names
}

/// Names in the order of the request, each once.
#[derive(Debug, Default)]
struct Names {
    dns: Vec<DnsName>,
    ips: Vec<IpAddr>,
    seen_dns: BTreeSet<DnsName>,
    seen_ips: BTreeSet<IpAddr>,
}

impl Names {
    fn add_dns(&mut self, name: &DnsName) {
        if self.seen_dns.insert(name.clone()) {
            self.dns.push(name.clone());
        }
    }

    fn add_ip(&mut self, address: IpAddr) {
        if self.seen_ips.insert(address) {
            self.ips.push(address);
        }
    }
}

/// What a certificate is going to say: admitted by a role, under one issuer. There is no other way to have
/// one, and issuing consumes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    common_name: Option<String>,
    dns_names: Vec<DnsName>,
    ip_addresses: Vec<IpAddr>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    key: KeySpec,
    client_flag: bool,
    server_flag: bool,
    issuer: Vec<u8>,
}

impl Plan {
    /// The subject's common name; `None` makes an empty subject.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
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

    /// The kind of key that it is for.
    #[must_use]
    pub fn key(&self) -> KeySpec {
        self.key
    }

    /// Whether it is for TLS clients.
    #[must_use]
    pub fn client_flag(&self) -> bool {
        self.client_flag
    }

    /// Whether it is for TLS servers.
    #[must_use]
    pub fn server_flag(&self) -> bool {
        self.server_flag
    }

    pub(crate) fn is_under(&self, issuer: &Issuer) -> bool {
        self.issuer == issuer.certificate_der()
    }
}
