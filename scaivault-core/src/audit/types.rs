use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// What was done, as the audit trail names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action { $($(#[$doc])* $variant,)* }

        impl Action {
            /// Every action there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The action of that text, if there is one.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|action| action.as_str() == text)
            }
        }
    };
}

actions! {
    /// A secret's value was read.
    Read = "read",
    /// A secret's value or metadata was written.
    Write = "write",
    /// A secret was deleted.
    Delete = "delete",
    /// Secrets, their metadata or their versions were listed.
    List = "list",
    /// A deleted secret was restored.
    Restore = "restore",
    /// Deleted secrets past their retention were destroyed.
    SecretPurge = "secret_purge",
    /// It was told that a secret expires soon, or has expired.
    SecretNotify = "secret_notify",
    /// A policy or the list of policies was read.
    PolicyRead = "policy_read",
    /// A decision of policies was tried. Only refusals of it are recorded.
    PolicyTest = "policy_test",
    /// A policy was created.
    PolicyCreate = "policy_create",
    /// A policy was changed.
    PolicyUpdate = "policy_update",
    /// A policy was deleted.
    PolicyDelete = "policy_delete",
    /// An identity was bound to a policy.
    PolicyBind = "policy_bind",
    /// A binding was removed.
    PolicyUnbind = "policy_unbind",
    /// A CA, or the list of CAs, was read.
    PkiCaRead = "pki_ca_read",
    /// A CA was created.
    PkiCaCreate = "pki_ca_create",
    /// A CA got the certificate that somebody outside had signed.
    PkiCaInstall = "pki_ca_install",
    /// A CA that was made elsewhere was imported, with its key.
    PkiCaImport = "pki_ca_import",
    /// A CA certified the key of another CA.
    PkiCaCrossSign = "pki_ca_cross_sign",
    /// A CA was made that has the name of another one and a new key.
    PkiCaRekey = "pki_ca_rekey",
    /// A CA that waited for its certificate was given up.
    PkiCaDelete = "pki_ca_delete",
    /// The roles of a CA's family went over to it.
    PkiCaDefault = "pki_ca_default",
    /// A CA was revoked, with everything below it.
    PkiCaRevoke = "pki_ca_revoke",
    /// A role, or the list of roles, was read.
    PkiRoleRead = "pki_role_read",
    /// A role was created.
    PkiRoleCreate = "pki_role_create",
    /// A role was changed.
    PkiRoleUpdate = "pki_role_update",
    /// A role was deleted.
    PkiRoleDelete = "pki_role_delete",
    /// A certificate, or the list of certificates, was read.
    PkiCertificateRead = "pki_certificate_read",
    /// The tags of a certificate were changed.
    PkiCertificateUpdate = "pki_certificate_update",
    /// Certificates that an imported CA had issued before were registered.
    PkiCertificateRegister = "pki_certificate_register",
    /// A certificate was issued with a key made here.
    PkiIssue = "pki_issue",
    /// A certificate was issued for a key of the caller's.
    PkiSign = "pki_sign",
    /// A certificate request, or the list of them, was read.
    CsrRead = "csr_read",
    /// A certificate request was submitted for approval.
    CsrSubmit = "csr_submit",
    /// A certificate request was approved.
    CsrApprove = "csr_approve",
    /// A certificate request was rejected.
    CsrReject = "csr_reject",
    /// A trust anchor, the list of them or a bundle was read.
    PkiAnchorRead = "trust_anchor_read",
    /// A trust anchor was added.
    PkiAnchorCreate = "trust_anchor_create",
    /// A trust anchor was deleted.
    PkiAnchorDelete = "trust_anchor_delete",
    /// It was told that a trust anchor expires soon, or has expired.
    PkiAnchorNotify = "trust_anchor_notify",
    /// A certificate was judged.
    PkiValidate = "pki_validate",
    /// A certificate was revoked.
    PkiRevoke = "pki_revoke",
    /// A certificate was released from its hold.
    PkiRelease = "pki_release",
    /// A revocation list was built.
    PkiCrlBuild = "pki_crl_build",
    /// A CA delegated OCSP to a responder.
    PkiOcspResponder = "pki_ocsp_responder",
    /// The audit trail was read.
    AuditQuery = "audit_query",
    /// The numbers of the running vault were read.
    MetricsRead = "metrics_read",
    /// Keys were looked at or checked.
    KeyRead = "key_read",
    /// A key was rotated, something was wrapped anew, or a key that nothing needs was destroyed.
    KeyRotate = "key_rotate",
    /// The chain of the audit trail was verified.
    AuditVerify = "audit_verify",
    /// The audit trail was exported.
    ExportCreated = "export_created",
    /// A database that was put back to an older state was accepted.
    RollbackAccept = "rollback_accept",
    /// A trust configuration or the list of them was read.
    TrustRead = "trust_read",
    /// A trust configuration was made.
    TrustCreate = "trust_create",
    /// A trust configuration was deleted.
    TrustDelete = "trust_delete",
    /// A foreign proof of identity was exchanged for a token.
    AuthExchange = "auth_exchange",
    /// A token was looked at: whom it speaks for.
    AuthIntrospect = "auth_introspect",
    /// The caller asked who he is. Only refusals of it are recorded.
    Whoami = "whoami",
    /// Somebody was looked up in the directory, or the directory was listed.
    IdentityRead = "identity_read",
    /// The directory was synced with the identity provider, or that was asked for.
    IdentitySync = "identity_sync",
    /// The identity provider told of a change.
    IdentityEvent = "identity_event",
    /// Roles were given or taken away.
    RoleAssign = "role_assign",
    /// A request that no route answers.
    Unrouted = "unrouted",
}

/// Which records to show; what is `None` does not filter. Newest come first.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Not before this time.
    pub from: Option<OffsetDateTime>,
    /// Not at or after this time.
    pub to: Option<OffsetDateTime>,
    /// Any of these actions.
    pub actions: Vec<String>,
    /// This identity, exactly.
    pub identity_id: Option<String>,
    /// `user`, `service_account` or `system`.
    pub identity_type: Option<String>,
    /// This path, exactly.
    pub path: Option<String>,
    /// Paths that begin with this text.
    pub path_prefix: Option<String>,
    /// Only what succeeded, or only what did not.
    pub success: Option<bool>,
    /// This source address, exactly.
    pub source_ip: Option<String>,
    /// This request, exactly.
    pub request_id: Option<String>,
    /// Records a page: 100 unless given, 1000 at most.
    pub limit: Option<u32>,
    /// Where the previous page ended.
    pub cursor: Option<String>,
}

/// One record of the trail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the audit row, as the API contract names them")]
pub struct AuditLog {
    pub id: String,
    #[serde(serialize_with = "crate::wire::micros", deserialize_with = "time::serde::rfc3339::deserialize")]
    pub timestamp: OffsetDateTime,
    pub action: String,
    pub identity_type: String,
    pub identity_id: String,
    pub tenant_id: String,
    pub acting_tenant_id: String,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
    pub secret_path: Option<String>,
    pub source_ip: Option<String>,
    pub user_agent: Option<String>,
    pub success: bool,
    pub error_code: Option<String>,
    pub duration_ms: i64,
    pub request_id: String,
    pub extra_data: serde_json::Value,
}
