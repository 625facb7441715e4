use scaivault_pki::{Subject, pem};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{KeyType, SubjectFields};
use crate::{Error, Result, wire};

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
    pub(in crate::pki) fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
        }
    }

    pub(in crate::pki) fn parse(text: &str) -> Result<Self> {
        match text {
            "root" => Ok(Self::Root),
            "intermediate" => Ok(Self::Intermediate),
            _ => Err(Error::internal("a stored CA of an unknown type")),
        }
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
}

impl CaCreate {
    pub(in crate::pki) fn subject(&self) -> Subject {
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

/// A revocation list that was just built.
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
