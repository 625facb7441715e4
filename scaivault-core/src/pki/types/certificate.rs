use serde::Serialize;
use time::OffsetDateTime;

use crate::{DurationText, wire};

/// A certificate of the inventory.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct Certificate {
    pub id: String,
    /// Who issued it; for the certificate of a CA that was signed outside, that CA.
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
    /// `internal`, or `ca` for the certificate of a CA, `imported` for what a CA issued before it came here.
    pub source: String,
    /// Why nobody should rely on it: `weak_key`, `unjudged_key`, `sha1_signature`. Only of those that are imported: nothing
    /// of that kind is issued here.
    pub weak: Vec<String>,
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
