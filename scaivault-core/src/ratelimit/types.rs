use std::time::Duration;

use crate::audit::Action;

macro_rules! categories {
    ($($(#[$doc:meta])* $variant:ident = $key:literal, $per_minute:literal;)*) => {
        /// What requests are counted by: each identity has one bucket of each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Category { $($(#[$doc])* $variant,)* }

        impl Category {
            /// Every category there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name.
            #[must_use]
            pub fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)* }
            }

            /// The contract's requests a minute.
            #[must_use]
            pub fn per_minute(self) -> u32 {
                match self { $(Self::$variant => $per_minute,)* }
            }
        }
    };
}

categories! {
    /// Reading a secret's value.
    SecretsRead = "secrets:read", 1000;
    /// Writing and restoring secrets.
    SecretsWrite = "secrets:write", 100;
    /// Deleting secrets.
    SecretsDelete = "secrets:delete", 100;
    /// Lists, metadata and versions of secrets.
    SecretsList = "secrets:list", 100;
    /// Queries of the audit trail.
    AuditQuery = "audit:query", 50;
    /// Exports of the audit trail.
    AuditExport = "audit:export", 5;
    /// Policies and their bindings.
    Policies = "policies", 50;
    /// Dry runs of policies.
    PoliciesTest = "policies:test", 200;
    /// Issuing certificates.
    PkiIssue = "pki:issue", 50;
    /// Certificate authorities, roles, certificates, revocation.
    PkiAdmin = "pki:admin", 20;
    /// Looking into the directory, and giving roles.
    IdentityRead = "identity:read", 100;
    /// Syncs of the directory that are asked for.
    IdentitySync = "identity:sync", 5;
    /// Who the caller or a token is, and what belongs to no other category.
    Auth = "auth", 300;
    /// Exchanges of foreign proofs for tokens, by source address; see [`Vault::exchange`](crate::Vault::exchange).
    AuthExchange = "auth:exchange", 60;
    /// Tokens that were not believed, by source address; see [`Vault::failed_login`](crate::Vault::failed_login).
    AuthFailed = "auth:failed", 60;
}

impl Category {
    /// What an act is charged to; `None` for what operators do and for what has no limit.
    pub(crate) fn of(action: Action) -> Option<Self> {
        Some(match action {
            Action::Read => Self::SecretsRead,
            Action::Write | Action::Restore => Self::SecretsWrite,
            Action::Delete => Self::SecretsDelete,
            Action::List => Self::SecretsList,
            Action::PolicyTest => Self::PoliciesTest,
            Action::PolicyRead
            | Action::PolicyCreate
            | Action::PolicyUpdate
            | Action::PolicyDelete
            | Action::PolicyBind
            | Action::PolicyUnbind => Self::Policies,
            Action::PkiIssue | Action::PkiSign => Self::PkiIssue,
            Action::PkiCaRead
            | Action::PkiCaCreate
            | Action::PkiCaInstall
            | Action::PkiCaImport
            | Action::PkiCaCrossSign
            | Action::PkiCaRekey
            | Action::PkiCaDefault
            | Action::PkiCaDelete
            | Action::PkiRoleRead
            | Action::PkiRoleCreate
            | Action::PkiRoleUpdate
            | Action::PkiRoleDelete
            | Action::PkiCertificateRead
            | Action::PkiCertificateUpdate
            | Action::PkiCertificateRegister
            | Action::CsrRead
            | Action::CsrSubmit
            | Action::CsrApprove
            | Action::CsrReject
            | Action::PkiRevoke
            | Action::PkiCaRevoke
            | Action::PkiRelease
            | Action::PkiAnchorRead
            | Action::PkiAnchorCreate
            | Action::PkiAnchorDelete
            | Action::PkiValidate
            | Action::PkiCrlBuild
            | Action::PkiOcspResponder => Self::PkiAdmin,
            Action::AuditQuery => Self::AuditQuery,
            Action::ExportCreated => Self::AuditExport,
            Action::IdentityRead | Action::RoleAssign => Self::IdentityRead,
            Action::IdentitySync => Self::IdentitySync,
            Action::Whoami
            | Action::AuthIntrospect
            | Action::Unrouted
            | Action::MetricsRead
            | Action::TrustRead
            | Action::TrustCreate
            | Action::TrustDelete => Self::Auth,
            Action::AuthExchange => Self::AuthExchange,
            Action::SecretPurge
            | Action::SecretNotify
            | Action::PkiAnchorNotify
            | Action::KeyRead
            | Action::KeyRotate
            | Action::AuditVerify
            | Action::IdentityEvent
            | Action::RollbackAccept => return None,
        })
    }
}

/// How many requests of each category an identity may make in a minute; so many at once as well, after a minute
/// without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits([Option<u32>; Category::ALL.len()]);

impl RateLimits {
    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self([None; Category::ALL.len()])
    }

    /// Those of the API contract.
    #[must_use]
    pub fn documented() -> Self {
        Category::ALL
            .iter()
            .fold(Self::none(), |limits, category| limits.with(*category, Some(category.per_minute())))
    }

    /// The same with another figure for one category; `None` and 0 are no limit.
    #[must_use]
    pub fn with(mut self, category: Category, per_minute: Option<u32>) -> Self {
        self.0[category as usize] = per_minute.filter(|limit| *limit > 0);
        self
    }

    /// The figure of one category.
    #[must_use]
    pub fn of(&self, category: Category) -> Option<u32> {
        self.0[category as usize]
    }
}

/// What a request was charged, and what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// To which category.
    pub category: Category,
    /// Requests a minute.
    pub limit: u32,
    /// Requests that could be made at once from here on.
    pub remaining: u32,
    /// How long until all of them could again.
    pub reset: Duration,
    /// How long to wait, if this request was one too many.
    pub retry_after: Option<Duration>,
}
