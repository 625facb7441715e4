use std::fmt;

use scaivault_kms::{KeySpec, Secret};
use scaivault_pki::{
    KeyKind, KeyRule, PastIssuerEnd, RevocationReason, RoleConfig, Subject, SubjectParts, pem,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{Code, DurationText, Error, FieldErrors, IdempotencyKey, Result, wire};

/// The families of keys that the API names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// RSA, with 2048, 3072 or 4096 bits.
    Rsa,
    /// ECDSA on a NIST curve of 256 or 384 bits; for certificates of roles also of 521.
    Ec,
    /// Ed25519; for certificates of roles alone.
    Ed25519,
    /// Whatever kind the caller brings; for certificates of roles alone, where a key that is made is on P-256.
    Any,
}

impl KeyType {
    /// The kind of key of a CA, or what is wrong with it.
    pub(super) fn spec(self, bits: Option<u32>) -> Result<KeySpec, String> {
        let default = if self == Self::Rsa { 4096 } else { 256 };
        match (self, bits.unwrap_or(default)) {
            (Self::Rsa, 2048) => Ok(KeySpec::Rsa2048),
            (Self::Rsa, 3072) => Ok(KeySpec::Rsa3072),
            (Self::Rsa, 4096) => Ok(KeySpec::Rsa4096),
            (Self::Ec, 256) => Ok(KeySpec::EcP256),
            (Self::Ec, 384) => Ok(KeySpec::EcP384),
            (Self::Rsa, bits) => Err(format!("must be 2048, 3072 or 4096 for rsa, not {bits}")),
            (Self::Ec, bits) => Err(format!("must be 256 or 384 for ec, not {bits}")),
            (Self::Ed25519 | Self::Any, _) => Err("must be rsa or ec for a CA".to_owned()),
        }
    }

    /// The kind of key of a role, or what is wrong with the size.
    fn rule(self, bits: Option<u32>) -> Result<KeyRule, String> {
        let kind = match (self, bits) {
            (Self::Any, None) => return Ok(KeyRule::Any),
            (Self::Ed25519, None) => KeyKind::Ed25519,
            (Self::Ed25519 | Self::Any, Some(_)) => {
                return Err("must be absent for ed25519 and any".to_owned());
            }
            (Self::Ec, Some(256) | None) => KeyKind::EcP256,
            (Self::Ec, Some(384)) => KeyKind::EcP384,
            (Self::Ec, Some(521)) => KeyKind::EcP521,
            (Self::Rsa, None) => KeyKind::Rsa(2048),
            (Self::Rsa, Some(bits @ (2048 | 3072 | 4096))) => KeyKind::Rsa(bits as usize),
            (Self::Rsa, Some(bits)) => {
                return Err(format!("must be 2048, 3072 or 4096 for rsa, not {bits}"));
            }
            (Self::Ec, Some(bits)) => return Err(format!("must be 256, 384 or 521 for ec, not {bits}")),
        };
        Ok(KeyRule::Kind(kind))
    }
}

/// Family and size of a kind of key.
pub(super) fn family(spec: KeySpec) -> (KeyType, u32) {
    match spec {
        KeySpec::Rsa2048 => (KeyType::Rsa, 2048),
        KeySpec::Rsa3072 => (KeyType::Rsa, 3072),
        KeySpec::Rsa4096 => (KeyType::Rsa, 4096),
        KeySpec::EcP384 => (KeyType::Ec, 384),
        // The engine signs with no other kind.
        _ => (KeyType::Ec, 256),
    }
}

/// Where a CA stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaType {
    /// Self-signed.
    Root,
    /// Signed by another CA of the tenant.
    Intermediate,
}

impl CaType {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        match text {
            "root" => Ok(Self::Root),
            "intermediate" => Ok(Self::Intermediate),
            _ => Err(Error::internal("a stored CA of an unknown type")),
        }
    }
}

/// The parts of a name beside its common name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the attributes of a distinguished name")]
pub struct SubjectFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organizational_unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
}

impl SubjectFields {
    pub(super) fn parts(self) -> SubjectParts {
        let Self { organization, organizational_unit, country, state, locality } = self;
        SubjectParts { organization, organizational_unit, country, state, locality }
    }

    fn of(parts: &SubjectParts) -> Self {
        let SubjectParts { organization, organizational_unit, country, state, locality } = parts.clone();
        Self { organization, organizational_unit, country, state, locality }
    }
}

/// A CA to be made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaCreate {
    /// Unique in the tenant, in whatever case.
    pub name: String,
    /// The common name of the certificate.
    pub common_name: String,
    /// Root or intermediate.
    pub ca_type: CaType,
    /// Who signs an intermediate.
    #[serde(default)]
    pub parent_ca_id: Option<String>,
    /// `rsa` unless given.
    #[serde(default)]
    pub key_type: Option<KeyType>,
    /// 4096 for rsa, 256 for ec unless given.
    #[serde(default)]
    pub key_size: Option<u32>,
    /// Which of the configured key providers holds the key, inside of which it is made and stays; without one it is made
    /// here and sealed.
    #[serde(default)]
    pub key_provider: Option<String>,
    /// An existing key of the provider, in its own words (a label, an ARN, a handle), instead of a new one. For operators
    /// alone, since tenants share the provider; no other CA may have that key.
    #[serde(default)]
    pub key_ref: Option<String>,
    /// 3650 days for a root, 1825 for an intermediate unless given; cut to the parent's end.
    #[serde(default)]
    pub validity_days: Option<u32>,
    /// The rest of the name.
    #[serde(default)]
    pub subject: SubjectFields,
    /// How many CAs may follow below this one.
    #[serde(default)]
    pub max_path_length: Option<u8>,
    /// On how many lists stands what it revokes, a power of two up to 128: each certificate names its own. With 1, as
    /// unless given, there is the complete list alone.
    #[serde(default)]
    pub crl_shards: Option<u32>,
    /// Whether its lists have deltas, which are built more often.
    #[serde(default)]
    pub delta_crls: bool,
    /// Whether certificates stay on its lists when they have expired.
    #[serde(default)]
    pub keep_expired_on_crl: bool,
}

impl CaCreate {
    pub(super) fn subject(&self) -> Subject {
        let SubjectFields { organization, organizational_unit, country, state, locality } =
            self.subject.clone();
        Subject {
            common_name: self.common_name.clone(),
            organization,
            organizational_unit,
            country,
            state,
            locality,
        }
    }
}

/// A CA, without its key.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct Ca {
    pub id: String,
    pub name: String,
    pub common_name: String,
    pub ca_type: CaType,
    pub parent_ca_id: Option<String>,
    pub key_type: KeyType,
    pub key_size: u32,
    pub key_provider: Option<String>,
    pub key_ref: Option<String>,
    pub serial_number: String,
    #[serde(serialize_with = "wire::seconds")]
    pub valid_from: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub valid_until: OffsetDateTime,
    pub is_active: bool,
    pub certificates_issued: i64,
    pub crl_shards: i64,
    pub delta_crls: bool,
    pub keep_expired_on_crl: bool,
    pub crl_url: Option<String>,
    pub ocsp_url: Option<String>,
    #[serde(serialize_with = "wire::seconds_opt")]
    pub revoked_at: Option<OffsetDateTime>,
    pub revocation_reason: Option<String>,
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
}

/// A CA's certificate, and those above it, the nearest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaCertificate {
    /// PEM.
    pub certificate_pem: String,
    /// PEM blocks one after another; empty for a root.
    pub chain_pem: String,
}

/// The complete revocation list that was just built; its PEM is empty if there is too much for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct Crl {
    pub crl_pem: String,
    pub crl_number: i64,
    #[serde(serialize_with = "wire::seconds")]
    pub this_update: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub next_update: OffsetDateTime,
}

/// The current revocation list of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicCrl {
    /// DER.
    pub der: Vec<u8>,
    /// When it was built.
    pub this_update: OffsetDateTime,
    /// Until when it may be used.
    pub next_update: OffsetDateTime,
}

impl PublicCrl {
    /// PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode("X509 CRL", &self.der)
    }
}

/// A role as it is written, stored and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleWrite {
    /// Unique in the tenant; part of the policy paths `pki/issue/<name>` and `pki/sign/<name>`.
    pub name: String,
    /// Who signs.
    pub ca_id: String,
    /// Which names may be issued: `x` or `*.x`.
    #[serde(default)]
    pub allowed_domains: Vec<String>,
    /// Whether more labels may stand to the left.
    #[serde(default)]
    pub allow_subdomains: bool,
    /// Whether IP addresses may be issued.
    #[serde(default)]
    pub allow_ip_sans: bool,
    /// The longest life; `720h` unless given.
    #[serde(default = "max_ttl")]
    pub max_ttl: DurationText,
    /// The life if none is asked for; `168h` or `max_ttl`, whichever is shorter, unless given.
    #[serde(default)]
    pub default_ttl: Option<DurationText>,
    /// `ec` unless given.
    #[serde(default = "ec")]
    pub key_type: KeyType,
    /// 256 for ec, 2048 for rsa unless given.
    #[serde(default)]
    pub key_bits: Option<u32>,
    /// Whether a common name must be given; it must unless this says otherwise.
    #[serde(default = "yes")]
    pub require_cn: bool,
    /// Whether certificates are for clients; they are unless this says otherwise.
    #[serde(default = "yes")]
    pub client_flag: bool,
    /// Whether certificates are for servers; they are unless this says otherwise.
    #[serde(default = "yes")]
    pub server_flag: bool,
    /// Whether private keys are kept, sealed, and can be read again with `pki:admin`.
    #[serde(default)]
    pub store_private_keys: bool,
    /// Whether names with a wildcard may be issued, where `allowed_domains` admits them.
    #[serde(default = "yes")]
    pub allow_wildcards: bool,
    /// DNS names with `*` within a label and `**` for labels, which never admit a wildcard.
    #[serde(default)]
    pub allowed_dns_globs: Vec<String>,
    /// Which IP addresses, as networks; all if there are none.
    #[serde(default)]
    pub allowed_ip_ranges: Vec<String>,
    /// Which e-mail addresses.
    #[serde(default)]
    pub allowed_emails: Vec<String>,
    /// Which URIs.
    #[serde(default)]
    pub allowed_uris: Vec<String>,
    /// Purposes beside those of the flags.
    #[serde(default)]
    pub extended_key_usages: Vec<String>,
    /// What every subject says beside its common name.
    #[serde(default)]
    pub subject: SubjectFields,
    /// Which parts of a subject are left to the request.
    #[serde(default)]
    pub allowed_subject_fields: Vec<String>,
    /// How far back certificates begin; five minutes unless given, 24 hours at most.
    #[serde(default = "backdate")]
    pub backdate: DurationText,
    /// What becomes of a life that would outlive the issuer.
    #[serde(default)]
    pub past_issuer_end: IssuerEnd,
    /// Whether certificates are given out and not kept: only their serial number, end and revocation are.
    #[serde(default)]
    pub no_store: bool,
}

/// What becomes of a life that was asked for and would outlive the issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssuerEnd {
    /// The request is refused.
    #[default]
    Error,
    /// The certificate ends with its issuer.
    Truncate,
}

fn backdate() -> DurationText {
    DurationText::from_duration(std::time::Duration::from_secs(300))
}

/// The life of certificates for which nothing is said, in seconds: a week.
const DEFAULT_TTL: u64 = 168 * 3600;

fn max_ttl() -> DurationText {
    DurationText::from_duration(std::time::Duration::from_secs(720 * 3600))
}

fn ec() -> KeyType {
    KeyType::Ec
}

fn yes() -> bool {
    true
}

impl RoleWrite {
    /// A role with these settings, and the defaults for the rest.
    #[must_use]
    pub fn new(name: impl Into<String>, ca_id: impl Into<String>, settings: RolePatch) -> Self {
        let defaults = Self {
            name: name.into(),
            ca_id: ca_id.into(),
            allowed_domains: Vec::new(),
            allow_subdomains: false,
            allow_ip_sans: false,
            max_ttl: max_ttl(),
            default_ttl: None,
            key_type: KeyType::Ec,
            key_bits: None,
            require_cn: true,
            client_flag: true,
            server_flag: true,
            store_private_keys: false,
            allow_wildcards: true,
            allowed_dns_globs: Vec::new(),
            allowed_ip_ranges: Vec::new(),
            allowed_emails: Vec::new(),
            allowed_uris: Vec::new(),
            extended_key_usages: Vec::new(),
            subject: SubjectFields::default(),
            allowed_subject_fields: Vec::new(),
            backdate: backdate(),
            past_issuer_end: IssuerEnd::Error,
            no_store: false,
        };
        settings.apply(&defaults)
    }

    /// Fills in what was left out, so that what is stored says everything.
    pub(super) fn complete(mut self) -> Self {
        let default = || {
            DurationText::from_duration(std::time::Duration::from_secs(DEFAULT_TTL).min(self.max_ttl.get()))
        };
        self.default_ttl = Some(self.default_ttl.clone().unwrap_or_else(default));
        self.key_bits = self.key_bits.or(match self.key_type {
            KeyType::Rsa => Some(2048),
            KeyType::Ec => Some(256),
            KeyType::Ed25519 | KeyType::Any => None,
        });
        self
    }

    /// The engine's role.
    ///
    /// # Errors
    /// [`Code::InvalidRole`] naming every field that means nothing.
    pub(super) fn compile(&self) -> Result<scaivault_pki::Role> {
        let mut wrong = FieldErrors::default();
        let key = self.key_type.rule(self.key_bits).unwrap_or_else(|message| {
            wrong.push("key_bits", message);
            KeyRule::Any
        });
        if self.no_store && self.store_private_keys {
            wrong.push("no_store", "must not be set together with store_private_keys");
        }
        let config = RoleConfig {
            name: self.name.clone(),
            allowed_domains: self.allowed_domains.clone(),
            allow_subdomains: self.allow_subdomains,
            allow_ip_sans: self.allow_ip_sans,
            max_ttl: self.max_ttl.get(),
            default_ttl: self.default_ttl.as_ref().unwrap_or(&self.max_ttl).get(),
            key,
            require_cn: self.require_cn,
            client_flag: self.client_flag,
            server_flag: self.server_flag,
            allow_wildcards: self.allow_wildcards,
            allowed_dns_globs: self.allowed_dns_globs.clone(),
            allowed_ip_ranges: self.allowed_ip_ranges.clone(),
            allowed_emails: self.allowed_emails.clone(),
            allowed_uris: self.allowed_uris.clone(),
            extended_key_usages: self.extended_key_usages.clone(),
            subject: self.subject.clone().parts(),
            allowed_subject_fields: self.allowed_subject_fields.clone(),
            backdate: self.backdate.get(),
            past_issuer_end: match self.past_issuer_end {
                IssuerEnd::Error => PastIssuerEnd::Refuse,
                IssuerEnd::Truncate => PastIssuerEnd::Truncate,
            },
        };
        let compiled = config.compile();
        if let Err(refused) = &compiled {
            for violation in &refused.violations {
                wrong.push(violation.field.clone(), violation.message.clone());
            }
        }
        wrong.finish().map_err(|error| error.with_code(Code::InvalidRole))?;
        compiled.map_err(Error::from)
    }
}

/// A stored role.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Role {
    /// What it says.
    #[serde(flatten)]
    pub config: RoleWrite,
    /// When it was made.
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(serialize_with = "wire::seconds")]
    pub updated_at: OffsetDateTime,
}

/// A change of a role; what is `None` stays.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of `RoleWrite`")]
pub struct RolePatch {
    pub ca_id: Option<String>,
    pub allowed_domains: Option<Vec<String>>,
    pub allow_subdomains: Option<bool>,
    pub allow_ip_sans: Option<bool>,
    pub max_ttl: Option<DurationText>,
    pub default_ttl: Option<DurationText>,
    pub key_type: Option<KeyType>,
    pub key_bits: Option<u32>,
    pub require_cn: Option<bool>,
    pub client_flag: Option<bool>,
    pub server_flag: Option<bool>,
    pub store_private_keys: Option<bool>,
    pub allow_wildcards: Option<bool>,
    pub allowed_dns_globs: Option<Vec<String>>,
    pub allowed_ip_ranges: Option<Vec<String>>,
    pub allowed_emails: Option<Vec<String>>,
    pub allowed_uris: Option<Vec<String>>,
    pub extended_key_usages: Option<Vec<String>>,
    pub subject: Option<SubjectFields>,
    pub allowed_subject_fields: Option<Vec<String>>,
    pub backdate: Option<DurationText>,
    pub past_issuer_end: Option<IssuerEnd>,
    pub no_store: Option<bool>,
}

impl RolePatch {
    pub(super) fn apply(self, to: &RoleWrite) -> RoleWrite {
        let key_type = self.key_type.unwrap_or(to.key_type);
        let max_ttl = self.max_ttl.unwrap_or_else(|| to.max_ttl.clone());
        // A default that nobody asks to change follows the maximum down.
        let kept = to.default_ttl.clone().filter(|default| default.get() <= max_ttl.get());
        RoleWrite {
            name: to.name.clone(),
            ca_id: self.ca_id.unwrap_or_else(|| to.ca_id.clone()),
            allowed_domains: self.allowed_domains.unwrap_or_else(|| to.allowed_domains.clone()),
            allow_subdomains: self.allow_subdomains.unwrap_or(to.allow_subdomains),
            allow_ip_sans: self.allow_ip_sans.unwrap_or(to.allow_ip_sans),
            max_ttl,
            default_ttl: self.default_ttl.or(kept),
            key_type,
            // Another family without a size takes that family's default.
            key_bits: self.key_bits.or(if key_type == to.key_type { to.key_bits } else { None }),
            require_cn: self.require_cn.unwrap_or(to.require_cn),
            client_flag: self.client_flag.unwrap_or(to.client_flag),
            server_flag: self.server_flag.unwrap_or(to.server_flag),
            store_private_keys: self.store_private_keys.unwrap_or(to.store_private_keys),
            allow_wildcards: self.allow_wildcards.unwrap_or(to.allow_wildcards),
            allowed_dns_globs: self.allowed_dns_globs.unwrap_or_else(|| to.allowed_dns_globs.clone()),
            allowed_ip_ranges: self.allowed_ip_ranges.unwrap_or_else(|| to.allowed_ip_ranges.clone()),
            allowed_emails: self.allowed_emails.unwrap_or_else(|| to.allowed_emails.clone()),
            allowed_uris: self.allowed_uris.unwrap_or_else(|| to.allowed_uris.clone()),
            extended_key_usages: self.extended_key_usages.unwrap_or_else(|| to.extended_key_usages.clone()),
            subject: self.subject.unwrap_or_else(|| to.subject.clone()),
            allowed_subject_fields: self
                .allowed_subject_fields
                .unwrap_or_else(|| to.allowed_subject_fields.clone()),
            backdate: self.backdate.unwrap_or_else(|| to.backdate.clone()),
            past_issuer_end: self.past_issuer_end.unwrap_or(to.past_issuer_end),
            no_store: self.no_store.unwrap_or(to.no_store),
        }
        .complete()
    }
}

/// A certificate to be issued.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IssueWrite {
    /// A DNS name, an IP address or an e-mail address.
    pub common_name: Option<String>,
    /// More DNS names.
    pub alt_names: Vec<String>,
    /// IP addresses.
    pub ip_sans: Vec<String>,
    /// E-mail addresses.
    pub email_sans: Vec<String>,
    /// URIs.
    pub uri_sans: Vec<String>,
    /// The rest of the subject, as far as the role leaves it to the request.
    pub subject: SubjectFields,
    /// How long it lives; the role's default unless given.
    pub ttl: Option<DurationText>,
    /// What the caller names this request by, so that sending it again issues nothing more.
    #[serde(skip)]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// A certificate to be issued for a key of the caller's.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignWrite {
    /// The certificate request, PEM.
    pub csr_pem: String,
    /// Names that take the place of those in the request.
    pub names: Option<SignNames>,
    /// How long it lives; the role's default unless given.
    pub ttl: Option<DurationText>,
    /// See [`IssueWrite::idempotency_key`].
    #[serde(skip)]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// The alternative names of a certificate, whatever its request says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of `IssueWrite`")]
pub struct SignNames {
    pub alt_names: Vec<String>,
    pub ip_sans: Vec<String>,
    pub email_sans: Vec<String>,
    pub uri_sans: Vec<String>,
}

/// What to hold against a role.
#[derive(Clone, Debug)]
pub enum RoleQuestion {
    /// A request whose key would be made here.
    Issue(IssueWrite),
    /// A certificate request.
    Sign(SignWrite),
}

/// What a role thinks of a request, by the very check that issues.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoleVerdict {
    /// Whether a certificate would be issued.
    pub allowed: bool,
    /// The rules that admitted something.
    pub matched: Vec<RuleMatch>,
    /// The rules that are broken.
    pub violations: Vec<RuleViolation>,
    /// What the certificate request says besides, and no certificate would.
    pub ignored: Vec<String>,
    /// What the certificate would say.
    pub certificate: Option<PlannedCertificate>,
}

/// A rule that admitted something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct RuleMatch {
    pub field: String,
    pub rule: &'static str,
    /// The entry of the role, or the value, that it was held against.
    pub by: String,
}

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct RuleViolation {
    pub field: String,
    pub rule: &'static str,
    pub message: String,
}

/// What a certificate would say.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct PlannedCertificate {
    pub common_name: Option<String>,
    pub subject: SubjectFields,
    pub alt_names: Vec<String>,
    pub ip_sans: Vec<String>,
    pub email_sans: Vec<String>,
    pub uri_sans: Vec<String>,
    /// Dotted OIDs.
    pub extended_key_usages: Vec<String>,
    #[serde(serialize_with = "wire::seconds")]
    pub not_before: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub not_after: OffsetDateTime,
}

impl From<scaivault_pki::Verdict> for RoleVerdict {
    fn from(verdict: scaivault_pki::Verdict) -> Self {
        let matched = verdict.matched.into_iter();
        let violations = verdict.violations.into_iter();
        Self {
            allowed: verdict.plan.is_some(),
            matched: matched.map(|m| RuleMatch { field: m.field, rule: m.rule, by: m.by }).collect(),
            violations: violations
                .map(|v| RuleViolation { field: v.field, rule: v.rule, message: v.message })
                .collect(),
            ignored: verdict.ignored,
            certificate: verdict.plan.as_ref().map(PlannedCertificate::of),
        }
    }
}

impl PlannedCertificate {
    fn of(plan: &scaivault_pki::Plan) -> Self {
        Self {
            common_name: plan.common_name().map(str::to_owned),
            subject: SubjectFields::of(plan.subject()),
            alt_names: plan.dns_names().iter().map(|name| name.as_str().to_owned()).collect(),
            ip_sans: plan.ip_addresses().iter().map(ToString::to_string).collect(),
            email_sans: plan.emails().to_vec(),
            uri_sans: plan.uris().to_vec(),
            extended_key_usages: plan.purposes().iter().map(ToString::to_string).collect(),
            not_before: plan.not_before(),
            not_after: plan.not_after(),
        }
    }
}

/// A private key as PEM (PKCS #8), zeroized on drop and redacted in `Debug`.
pub struct PrivateKeyPem(pub(super) Zeroizing<String>);

impl PrivateKeyPem {
    /// Encodes a PKCS #8 key.
    #[must_use]
    pub fn from_pkcs8(pkcs8: &Secret) -> Self {
        Self(pem::encode_private_key(pkcs8))
    }

    /// The text. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(..)")
    }
}

/// A certificate that was just issued, with its key if that was made here, which is not shown again.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct IssuedCertificate {
    pub id: String,
    pub certificate: String,
    /// None where the caller has the key, or got it before.
    pub private_key: Option<PrivateKeyPem>,
    /// Whether the key was given with the first answer to this request, and is not given again.
    pub private_key_withheld: bool,
    /// The issuer first, the root last.
    pub ca_chain: Vec<String>,
    pub serial_number: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// A certificate of the inventory.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct Certificate {
    pub id: String,
    pub ca_id: String,
    pub role: Option<String>,
    pub common_name: Option<String>,
    pub alt_names: Vec<String>,
    pub ip_sans: Vec<String>,
    pub serial_number: String,
    pub fingerprint_sha256: String,
    #[serde(serialize_with = "wire::seconds")]
    pub not_before: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub not_after: OffsetDateTime,
    /// `active`, `expired` or `revoked`.
    pub status: &'static str,
    #[serde(serialize_with = "wire::seconds_opt")]
    pub revoked_at: Option<OffsetDateTime>,
    pub revocation_reason: Option<String>,
    /// `internal`, or `ca` for the certificate of a CA.
    pub source: String,
    pub issued_to: String,
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
    /// The certificate in PEM; only where one certificate was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_pem: Option<String>,
}

/// Which certificates to list; what is `None` does not filter. Newest come first.
#[derive(Clone, Debug, Default)]
pub struct CertificateFilter {
    /// Issued by this CA.
    pub ca_id: Option<String>,
    /// Valid now, and ending within this time.
    pub expiring_within: Option<DurationText>,
    /// Also those that were revoked.
    pub include_revoked: bool,
    /// Certificates a page: 100 unless given, 1000 at most.
    pub limit: Option<u32>,
    /// Where the previous page ended.
    pub cursor: Option<String>,
}

/// A certificate to be revoked.
#[derive(Clone, Debug)]
pub struct RevokeWrite {
    /// Its serial number, in hexadecimal with or without colons.
    pub serial_number: String,
    /// Which CA issued it, if several issued that serial.
    pub ca_id: Option<String>,
    /// Why.
    pub reason: RevocationReason,
}

/// A certificate to be released from its hold.
#[derive(Clone, Debug)]
pub struct ReleaseWrite {
    /// Its serial number, in hexadecimal with or without colons.
    pub serial_number: String,
    /// Which CA issued it, if several issued that serial.
    pub ca_id: Option<String>,
}

/// A certificate that is no longer on hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct Released {
    pub id: String,
    pub ca_id: String,
    pub serial_number: String,
    #[serde(serialize_with = "wire::seconds")]
    pub released_at: OffsetDateTime,
}

/// Certificates to be revoked at once: those that fit everything that is said.
#[derive(Clone, Debug)]
pub struct BulkRevoke {
    /// Issued by this CA.
    pub ca_id: Option<String>,
    /// Issued by this role.
    pub role: Option<String>,
    /// Issued to this identity.
    pub issued_to: Option<String>,
    /// With this public key: the SHA-256 of its `SubjectPublicKeyInfo`, in hexadecimal digits.
    pub key_sha256: Option<String>,
    /// With this DNS name, or with one below it after `*.`.
    pub san: Option<String>,
    /// Why.
    pub reason: RevocationReason,
    /// Whether only to tell which.
    pub dry_run: bool,
}

impl BulkRevoke {
    /// None yet.
    #[must_use]
    pub fn new(reason: RevocationReason) -> Self {
        Self { ca_id: None, role: None, issued_to: None, key_sha256: None, san: None, reason, dry_run: false }
    }
}

/// What became of [`BulkRevoke`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BulkRevocation {
    /// Certificates that fit and were not revoked.
    pub matched: i64,
    /// How many of them this call revoked.
    pub revoked: i64,
    /// How many the same call would find again.
    pub remaining: i64,
    /// The first of those that were revoked, or would be.
    pub serial_numbers: Vec<String>,
}

/// What is known of a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct Revocation {
    pub id: String,
    pub ca_id: String,
    pub serial_number: String,
    #[serde(serialize_with = "wire::seconds")]
    pub revoked_at: OffsetDateTime,
    pub revocation_reason: String,
}
