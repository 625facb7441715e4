use scaivault_pki::{KeyRule, PastIssuerEnd, RoleConfig};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{KeyType, SubjectFields};
use crate::{Code, DurationText, Error, FieldErrors, Result, wire};

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
    pub(in crate::pki) fn complete(mut self) -> Self {
        let default = || {
            DurationText::from_duration(std::time::Duration::from_secs(DEFAULT_TTL).min(self.max_ttl.get()))
        };
        self.default_ttl = Some(self.default_ttl.clone().unwrap_or_else(default));
        self.key_bits = self.key_bits.or(match self.key_type {
            KeyType::Rsa => Some(2048),
            KeyType::Ec => Some(256),
            KeyType::Ed25519 | KeyType::MlDsa44 | KeyType::MlDsa65 | KeyType::MlDsa87 | KeyType::Any => None,
        });
        self
    }

    /// The engine's role.
    ///
    /// # Errors
    /// [`Code::InvalidRole`] naming every field that means nothing.
    pub(in crate::pki) fn compile(&self) -> Result<scaivault_pki::Role> {
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
    pub(in crate::pki) fn apply(self, to: &RoleWrite) -> RoleWrite {
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
