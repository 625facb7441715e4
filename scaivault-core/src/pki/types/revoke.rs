use scaivault_pki::RevocationReason;
use serde::Serialize;
use time::OffsetDateTime;

use crate::wire;

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
