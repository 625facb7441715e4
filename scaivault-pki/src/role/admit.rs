//! The admission of one request by a role.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use time::OffsetDateTime;

use super::{KeyRule, PastIssuerEnd, Plan, Role};
use crate::{
    Csr, CsrName, Issuer, Refused,
    error::{Match, Violation, Violations, quote},
    name::{DnsName, MAX_COMMON_NAME, SubjectParts, parse_ip, write_name},
    read::dn::Dn,
    sans::{Email, Uri},
    time::{backdated, last_second, shown, two_thirds, whole_second},
    validate::constraints::Name as Judged,
};

/// The most names of one certificate.
const MAX_NAMES: usize = 100;

/// What a caller asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssueRequest {
    /// A DNS name, an IP address or an e-mail address; becomes a subject alternative name as well.
    pub common_name: Option<String>,
    /// DNS names.
    pub alt_names: Vec<String>,
    /// IP addresses.
    pub ip_sans: Vec<String>,
    /// E-mail addresses.
    pub email_sans: Vec<String>,
    /// URIs.
    pub uri_sans: Vec<String>,
    /// The rest of the subject, as far as the role leaves it to the request.
    pub subject: SubjectParts,
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
    /// E-mail addresses.
    pub email_sans: Vec<String>,
    /// URIs.
    pub uri_sans: Vec<String>,
}

/// What a role thinks of a request, rule by rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The rules that admitted something.
    pub matched: Vec<Match>,
    /// The rules that are broken.
    pub violations: Vec<Violation>,
    /// What a certificate request says besides, and no certificate will.
    pub ignored: Vec<String>,
    /// What the certificate would say, if no rule is broken.
    pub plan: Option<Plan>,
}

/// Where the fields stand that hold names: those of a certificate request begin with this.
const IN_CSR: &str = "csr_pem.";

impl Role {
    /// Checks a request against the role and the issuer, and plans the certificate. It begins as long before `now`
    /// as the role says, but not before its issuer, and its life is counted from `now` with both ends included.
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
        admitted(|found| self.judge(request, found, issuer, now))
    }

    /// Checks a certificate request in the same way, and that its key is of the role's kind, that it asks for no
    /// purpose that the role does not give, and for nothing that makes a CA. `names` takes the place of the
    /// alternative names that it asks for.
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
        admitted(|found| self.judge_csr(csr, names, ttl, found, (issuer, now)))
    }

    /// What [`admit`](Self::admit) does, told rule by rule.
    #[must_use]
    pub fn test(&self, request: &IssueRequest, issuer: &Issuer, now: OffsetDateTime) -> Verdict {
        let mut found = Violations::traced();
        let plan = self.judge(request, &mut found, issuer, now);
        found.into_verdict(Vec::new(), plan)
    }

    /// What [`admit_csr`](Self::admit_csr) does, told rule by rule.
    #[must_use]
    pub fn test_csr(
        &self,
        csr: &Csr,
        names: Option<CsrOverride>,
        ttl: Option<Duration>,
        issuer: &Issuer,
        now: OffsetDateTime,
    ) -> Verdict {
        let mut found = Violations::traced();
        let plan = self.judge_csr(csr, names, ttl, &mut found, (issuer, now));
        let mut ignored = csr.ignored().to_vec();
        for (field, values) in csr.subject_parts() {
            if !values.is_empty() && !self.lets_choose(field) {
                ignored.push(format!("subject attribute {field}"));
            }
        }
        found.into_verdict(ignored, plan)
    }

    fn judge_csr(
        &self,
        csr: &Csr,
        names: Option<CsrOverride>,
        ttl: Option<Duration>,
        found: &mut Violations,
        (issuer, now): (&Issuer, OffsetDateTime),
    ) -> Plan {
        if self.config.key.admits(csr.key_kind()) {
            found.matched("csr_pem", "key_type", csr.key_kind());
        } else {
            let (kind, due) = (csr.key_kind(), self.config.key);
            found.add("csr_pem", "key_type", format!("has a key of kind {kind}, but the role demands {due}"));
        }
        if csr.public_key() == issuer.public_key() {
            found.add("csr_pem", "distinct_from_issuer", "has the key of the issuer itself");
        }
        for (field, rule, message) in csr.objections() {
            found.add(*field, rule, message.clone());
        }
        for purpose in csr.purposes() {
            if self.purposes.contains(purpose) {
                found.matched("csr_pem.extended_key_usage", "purpose", purpose);
            } else {
                let message = format!("asks for the purpose {purpose}, which the role does not give");
                found.add("csr_pem.extended_key_usage", "purpose", message);
            }
        }
        let prefix = if names.is_some() { "" } else { IN_CSR };
        let names = names.unwrap_or_else(|| self.names_of(csr, found));
        let request = IssueRequest {
            common_name: csr.common_name().map(str::to_owned),
            alt_names: names.alt_names,
            ip_sans: names.ip_sans,
            email_sans: names.email_sans,
            uri_sans: names.uri_sans,
            subject: self.subject_of(csr, found),
            ttl,
        };
        let named = csr.has_common_name();
        let mut plan = self.plan((&request, named), (prefix, IN_CSR), found, (issuer, now));
        plan.key = KeyRule::Kind(csr.key_kind());
        plan.public_key = Some(csr.public_key_spki().to_vec());
        plan
    }

    fn judge(
        &self,
        request: &IssueRequest,
        found: &mut Violations,
        issuer: &Issuer,
        now: OffsetDateTime,
    ) -> Plan {
        self.plan((request, request.common_name.is_some()), ("", ""), found, (issuer, now))
    }

    /// Checks names, subject and life; `named` is whether there is a common name, also where it could not be read. The
    /// prefixes stand before the fields that hold names, and the subject. What is returned is of use only where no violation
    /// was found.
    fn plan(
        &self,
        (request, named): (&IssueRequest, bool),
        (prefix, subject_prefix): (&str, &str),
        found: &mut Violations,
        (issuer, now): (&Issuer, OffsetDateTime),
    ) -> Plan {
        let now = whole_second(now);
        let mut names = Names::under(issuer);
        if !named && self.config.require_cn {
            found.add("common_name", "require_cn", "is required by the role");
        }
        let common_name = request.common_name.as_deref();
        let common_name = common_name.and_then(|text| self.admit_common_name(text, &mut names, found));
        let count = [&request.alt_names, &request.ip_sans, &request.email_sans, &request.uri_sans]
            .iter()
            .map(|list| list.len())
            .sum::<usize>();
        if count > MAX_NAMES {
            let message = format!(
                "alt_names, ip_sans, email_sans and uri_sans must have at most {MAX_NAMES} names together"
            );
            found.add(format!("{prefix}alt_names"), "count", message);
        } else {
            self.admit_names(request, prefix, &mut names, found);
            if count == 0 && !named && !self.config.require_cn {
                let message =
                    "a certificate needs a name: common_name, alt_names, ip_sans, email_sans or uri_sans";
                found.add("common_name", "no_name", message);
            }
        }
        let subject = self.admit_subject(&request.subject, subject_prefix, found);
        check_subject(issuer, common_name.as_deref(), &subject, subject_prefix, found);
        for purpose in self.purposes.iter().filter(|purpose| !issuer.is_for(**purpose)) {
            let message = format!("the CA, or one above it, is not for {purpose}, which the role gives");
            found.add("extended_key_usage", "issuer_purpose", message);
        }
        let (not_after, is_cut) = self.admit_ttl(request.ttl, issuer, now, found);
        Plan {
            common_name,
            subject,
            dns_names: names.dns.kept,
            ip_addresses: names.ips.kept,
            emails: names.emails.kept,
            uris: names.uris.kept,
            not_before: backdated(now, self.config.backdate, Some(issuer.not_before())),
            not_after,
            is_cut,
            renew_after: two_thirds(now, not_after),
            key: self.config.key,
            public_key: None,
            purposes: self.purposes.clone(),
            issuer: issuer.certificate_der().to_vec(),
        }
    }

    fn admit_common_name(&self, text: &str, names: &mut Names<'_>, found: &mut Violations) -> Option<String> {
        let field = "common_name";
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
        if text.contains('@') && !self.emails.is_empty() {
            return self.admit_email(field, text, names, found);
        }
        self.admit_dns(field, text, names, found).map(|name| name.as_str().to_owned())
    }

    fn admit_names(
        &self,
        request: &IssueRequest,
        prefix: &str,
        names: &mut Names<'_>,
        found: &mut Violations,
    ) {
        for (i, text) in request.alt_names.iter().enumerate() {
            self.admit_dns(&format!("{prefix}alt_names[{i}]"), text, names, found);
        }
        for (i, text) in request.ip_sans.iter().enumerate() {
            self.admit_ip(&format!("{prefix}ip_sans[{i}]"), text, names, found);
        }
        for (i, text) in request.email_sans.iter().enumerate() {
            self.admit_email(&format!("{prefix}email_sans[{i}]"), text, names, found);
        }
        for (i, text) in request.uri_sans.iter().enumerate() {
            self.admit_uri(&format!("{prefix}uri_sans[{i}]"), text, names, found);
        }
    }

    fn admit_dns(
        &self,
        field: &str,
        text: &str,
        names: &mut Names<'_>,
        found: &mut Violations,
    ) -> Option<DnsName> {
        let name = match DnsName::parse(text) {
            Ok(name) => name,
            Err(why) => {
                found.add(field, "dns_name", format!("{} {why}", quote(text)));
                return None;
            }
        };
        if name.is_wildcard() && !self.config.allow_wildcards {
            found.add(field, "allow_wildcards", "wildcards are not allowed by the role");
            return None;
        }
        let domain = self.domains.iter().find(|domain| domain.admits(&name, self.config.allow_subdomains));
        let glob = || self.globs.iter().find(|glob| glob.admits(&name));
        if let Some(domain) = domain {
            found.matched(field, "allowed_domains", domain);
        } else if let Some(glob) = glob() {
            found.matched(field, "allowed_dns_globs", glob);
        } else {
            let message = format!("{} is not under the allowed domains of the role", quote(name.as_str()));
            found.add(field, "allowed_domains", message);
            return None;
        }
        if names.forbidden(field, &Judged::Dns(name.as_str()), found) {
            return None;
        }
        names.dns.add(name.clone());
        Some(name)
    }

    fn admit_ip(
        &self,
        field: &str,
        text: &str,
        names: &mut Names<'_>,
        found: &mut Violations,
    ) -> Option<IpAddr> {
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
        match self.range_of(address) {
            Some(range) => found.matched(field, "allowed_ip_ranges", range),
            None if self.ranges.is_empty() => found.matched(field, "allow_ip_sans", "every address"),
            None => {
                let message = format!("{address} is in none of the allowed networks of the role");
                found.add(field, "allowed_ip_ranges", message);
                return None;
            }
        }
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        if names.forbidden(field, &Judged::Ip(&octets), found) {
            return None;
        }
        names.ips.add(address);
        Some(address)
    }

    fn admit_email(
        &self,
        field: &str,
        text: &str,
        names: &mut Names<'_>,
        found: &mut Violations,
    ) -> Option<String> {
        let email = match Email::parse(text) {
            Ok(email) => email,
            Err(why) => {
                found.add(field, "email", format!("{} {why}", quote(text)));
                return None;
            }
        };
        let Some(pattern) = self.emails.iter().find(|pattern| pattern.admits(&email)) else {
            let message = format!("{} is none of the allowed e-mail addresses of the role", quote(text));
            found.add(field, "allowed_emails", message);
            return None;
        };
        found.matched(field, "allowed_emails", pattern);
        if names.forbidden(field, &Judged::Email(&email.to_string()), found) {
            return None;
        }
        names.emails.add(email.to_string());
        Some(email.to_string())
    }

    fn admit_uri(&self, field: &str, text: &str, names: &mut Names<'_>, found: &mut Violations) {
        let uri = match Uri::parse(text) {
            Ok(uri) => uri,
            Err(why) => return found.add(field, "uri", format!("{} {why}", quote(text))),
        };
        match self.uris.iter().find(|pattern| pattern.admits(&uri)) {
            Some(pattern) => {
                found.matched(field, "allowed_uris", pattern);
                if !names.forbidden(field, &Judged::Uri(&uri.to_string()), found) {
                    names.uris.add(uri.to_string());
                }
            }
            None => {
                let message = format!("{} is none of the allowed URIs of the role", quote(text));
                found.add(field, "allowed_uris", message);
            }
        }
    }

    fn lets_choose(&self, field: &str) -> bool {
        self.config.allowed_subject_fields.iter().any(|allowed| allowed == field)
    }

    /// The role's own parts, and those that it leaves to the request.
    fn admit_subject(&self, asked: &SubjectParts, prefix: &str, found: &mut Violations) -> SubjectParts {
        let mut subject = self.config.subject.clone();
        let mut chosen = SubjectParts::default();
        for field in SubjectParts::FIELDS {
            let Some(value) = asked.get(field) else { continue };
            let at = format!("{prefix}subject.{field}");
            if self.lets_choose(field) {
                found.matched(at, "allowed_subject_fields", field);
                chosen.set(field, value.to_owned());
                subject.set(field, value.to_owned());
            } else if subject.get(field) != Some(value) {
                found.add(at, "allowed_subject_fields", "is not left to requests by the role");
            }
        }
        chosen.check(&format!("{prefix}subject."), found);
        subject
    }

    /// The last second of the life, `now` if a rule is broken; and whether it was cut to the end of the issuer.
    fn admit_ttl(
        &self,
        asked: Option<Duration>,
        issuer: &Issuer,
        now: OffsetDateTime,
        found: &mut Violations,
    ) -> (OffsetDateTime, bool) {
        let ttl = asked.unwrap_or(self.config.default_ttl);
        if now < issuer.not_before() || now > issuer.not_after() {
            found.add("ttl", "issuer_validity", "the issuer is not valid at this time");
            return (now, false);
        }
        if ttl.is_zero() || ttl.subsec_nanos() != 0 {
            found.add("ttl", "range", "must be whole seconds, at least one");
            return (now, false);
        }
        if ttl > self.config.max_ttl {
            let most = self.config.max_ttl.as_secs();
            found.add("ttl", "max_ttl", format!("must be at most {most} seconds, the role's max_ttl"));
            return (now, false);
        }
        let cut = asked.is_none() || self.config.past_issuer_end == PastIssuerEnd::Truncate;
        match last_second(now, ttl) {
            Some(end) if end <= issuer.not_after() => {
                found.matched("ttl", "max_ttl", self.config.max_ttl.as_secs());
                (end, false)
            }
            _ if cut => {
                found.matched("ttl", "past_issuer_end", "truncate");
                (issuer.not_after(), true)
            }
            _ => {
                let end = shown(issuer.not_after());
                found.add("ttl", "issuer_validity", format!("would outlive the issuer, which ends at {end}"));
                (now, false)
            }
        }
    }

    /// The names of a certificate request as text; adds a violation for each of a type that the role does not issue.
    fn names_of(&self, csr: &Csr, found: &mut Violations) -> CsrOverride {
        let mut names = CsrOverride::default();
        let mut foreign = |i: usize, kind: &str| {
            let message = format!("is {kind}, which the role does not issue");
            found.add(format!("csr_pem.names[{i}]"), "name_type", message);
        };
        for (i, name) in csr.names().iter().enumerate().take(MAX_NAMES + 1) {
            match name {
                CsrName::Dns(text) => names.alt_names.push(text.clone()),
                CsrName::Ip(address) => names.ip_sans.push(address.to_string()),
                CsrName::Email(text) if !self.emails.is_empty() => names.email_sans.push(text.clone()),
                CsrName::Uri(text) if !self.uris.is_empty() => names.uri_sans.push(text.clone()),
                CsrName::Email(_) => foreign(i, "an e-mail address"),
                CsrName::Uri(_) => foreign(i, "a URI"),
                CsrName::Other(kind) => foreign(i, kind),
            }
        }
        names
    }

    /// What a certificate request says in the parts of its subject that are left to it. The rest is not used.
    fn subject_of(&self, csr: &Csr, found: &mut Violations) -> SubjectParts {
        let mut parts = SubjectParts::default();
        for (field, values) in csr.subject_parts().filter(|(field, _)| self.lets_choose(field)) {
            let at = format!("csr_pem.subject.{field}");
            match values {
                [] => {}
                [Some(value)] => parts.set(field, value.clone()),
                [None] => found.add(at, "encoding", "must be a UTF8String or PrintableString"),
                _ => found.add(at, "single", "must be there once only"),
            }
        }
        parts
    }
}

/// What was planned, if nothing was found to be wrong.
fn admitted(judge: impl FnOnce(&mut Violations) -> Plan) -> Result<Plan, Refused> {
    let mut found = Violations::default();
    let plan = judge(&mut found);
    found.into_result().map(|()| plan)
}

/// Whether a text was meant as an address, so that it is judged as one and the message fits.
fn looks_like_ip(text: &str) -> bool {
    let address = text.split('%').next().unwrap_or(text);
    let hexadecimal = address.bytes().all(|b| b.is_ascii_hexdigit() || b":./[]".contains(&b));
    text.parse::<IpAddr>().is_ok() || hexadecimal && text.contains(':')
}

/// Holds the whole subject against the name constraints above (RFC 5280, 4.2.1.10); an empty one is no name.
fn check_subject(
    issuer: &Issuer,
    common_name: Option<&str>,
    parts: &SubjectParts,
    prefix: &str,
    found: &mut Violations,
) {
    let subject = write_name(common_name, parts).ok().and_then(|der| Dn::parse(&der).ok());
    let Some(subject) = subject.filter(|subject| !subject.is_empty()) else { return };
    if let Some(why) = issuer.forbids(&Judged::Directory(&subject)) {
        found.add(format!("{prefix}subject"), "name_constraints", why);
    }
}

/// Names of each type in the order of the request, each once.
#[derive(Debug)]
struct Names<'i> {
    issuer: &'i Issuer,
    dns: Once<DnsName>,
    ips: Once<IpAddr>,
    emails: Once<String>,
    uris: Once<String>,
}

impl<'i> Names<'i> {
    fn under(issuer: &'i Issuer) -> Self {
        Self {
            issuer,
            dns: Once::default(),
            ips: Once::default(),
            emails: Once::default(),
            uris: Once::default(),
        }
    }

    /// Whether a name constraint of the issuer, or of a CA above it, stands against a name, which is told then.
    fn forbidden(&self, field: &str, name: &Judged<'_>, found: &mut Violations) -> bool {
        let why = self.issuer.forbids(name);
        if let Some(why) = &why {
            found.add(field, "name_constraints", why.clone());
        }
        why.is_some()
    }
}

#[derive(Debug)]
struct Once<T> {
    kept: Vec<T>,
    seen: BTreeSet<T>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), seen: BTreeSet::new() }
    }
}

impl<T: Ord + Clone> Once<T> {
    fn add(&mut self, name: T) {
        if self.seen.insert(name.clone()) {
            self.kept.push(name);
        }
    }
}
