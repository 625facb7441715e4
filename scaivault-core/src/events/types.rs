use serde_json::Value;
use time::OffsetDateTime;

use crate::TenantId;

/// An event on its way to the outbox.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) tenant: TenantId,
    pub(crate) event_type: EventType,
    /// Only for what has a path: secrets and issued certificates.
    pub(crate) path: Option<String>,
    pub(crate) identity_id: String,
    pub(crate) request_id: String,
    pub(crate) data: Value,
    pub(crate) created_at: OffsetDateTime,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventType {
    SecretCreated,
    SecretUpdated,
    SecretDeleted,
    SecretExpiring,
    SecretExpired,
    PolicyCreated,
    PolicyUpdated,
    PolicyDeleted,
    PolicyBindingCreated,
    PolicyBindingDeleted,
    PolicyViolation,
    CertificateIssued,
    CertificateRevoked,
    CertificateReleased,
    TrustAnchorExpiring,
    TrustAnchorExpired,
}

impl EventType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SecretCreated => "secret.created",
            Self::SecretUpdated => "secret.updated",
            Self::SecretDeleted => "secret.deleted",
            Self::SecretExpiring => "secret.expiring",
            Self::SecretExpired => "secret.expired",
            Self::PolicyCreated => "policy.created",
            Self::PolicyUpdated => "policy.updated",
            Self::PolicyDeleted => "policy.deleted",
            Self::PolicyBindingCreated => "policy.binding.created",
            Self::PolicyBindingDeleted => "policy.binding.deleted",
            Self::PolicyViolation => "policy.violation",
            Self::CertificateIssued => "certificate.issued",
            Self::CertificateRevoked => "certificate.revoked",
            Self::CertificateReleased => "certificate.released",
            Self::TrustAnchorExpiring => "trust_anchor.expiring",
            Self::TrustAnchorExpired => "trust_anchor.expired",
        }
    }
}
