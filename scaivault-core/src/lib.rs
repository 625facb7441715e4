//! A vault to embed: secrets, policies, an X.509 PKI and an audit trail behind typed verbs.
//!
//! What it does **not** do: it serves no HTTP and knows no status codes of its own, reads no environment, prints
//! nothing, and installs nothing process-wide. It has no global state: a [`Vault`] owns its database, its
//! clock, its randomness and the provider of its root key, and several may live in one process.
//!
//! # One walk
//!
//! A verb hangs on a handle that is made for a [`Ctx`], which says who asks. There is no verb without one:
//!
//! ```compile_fail
//! # async fn demo(vault: scaivault_core::Vault, path: scaivault_core::secrets::SecretPath) {
//! vault.secrets().get(&path, None).await; // who asks?
//! # }
//! ```
//!
//! Every verb takes the same walk. It is *authorized*: the caller's token must have the scope, and a policy
//! must grant the permission on the path. Then it works, with no transaction open. What it changes is
//! *committed* together with its audit record and the events it causes, or not at all. What it only read is
//! recorded before it is given out; so is every refusal.
//!
//! # A first secret
//!
//! ```
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use scaivault_core::{Caller, Database, Role, Scope, TenantId, Vault, secrets::*};
//! use scaivault_kms::local::{KeyFile, LocalProvider};
//!
//! let root_key = Arc::new(LocalProvider::new(KeyFile::generate()?));
//! let vault = Vault::builder(Database::in_memory(), root_key).open().await?;
//!
//! // Whoever embeds a vault vouches for its callers, or verifies their tokens with a `TokenVerifier`.
//! let admin = Caller::user("user:alice@acme.example", TenantId::parse("tnt_acme")?)?
//!     .with_roles([Role::TenantAdmin])
//!     .with_scopes([Scope::SecretsRead, Scope::SecretsWrite]);
//! let ctx = vault.ctx(admin)?;
//!
//! let path = SecretPath::parse("app/db")?;
//! let value = SecretData::from_value(&serde_json::json!({"password": "correct horse"}))?;
//! let written = vault.secrets(&ctx).put(&path, SecretWrite::new(value)).await?;
//! assert_eq!(written.item.version, 1);
//!
//! let read = vault.secrets(&ctx).get(&path, None).await?;
//! assert_eq!(read.data.decode::<serde_json::Value>()?["password"], "correct horse");
//! vault.close().await;
//! # Ok(()) }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(demo()).unwrap();
//! ```
//!
//! # Rooms
//!
//! | you want to | go to |
//! |---|---|
//! | keep and read secrets | [`Vault::secrets`], [`secrets`] |
//! | say who may do what | [`Vault::policies`], [`policy`] |
//! | run a CA, issue and revoke certificates | [`Vault::pki`], [`pki`] |
//! | answer relying parties (CRL, OCSP) | [`Vault::public_pki`] |
//! | see who did what | [`Vault::audit`] |
//! | rotate the keys that everything is under | [`Vault::keys`], [`keys`] |
//! | know who people are, and close to them at once | [`Vault::identities`], [`identities`] |
//! | know who a bearer token speaks for | [`TokenVerifier`] |
//! | give workloads tokens for what their platform gave them | [`Vault::trusts`], [`Vault::exchange`], [`trust`] |
//! | ask somebody else over HTTP, safely | [`egress`] |
//! | know every bound | [`limits`] |
//!
//! Errors are an [`Error`] with a stable [`Code`]; its message and details are safe to show to the caller.

mod anchor;
mod audit;
mod clock;
mod duration;
pub mod egress;
mod envelope;
mod error;
mod events;
mod id;
mod idempotency;
pub mod identities {
    //! Who people are, as their identity provider tells: the nouns of [`Vault::identities`](crate::Vault::identities).
    pub use crate::identity::directory::{
        AssignableRole, Delivery, DirectoryGroup, DirectoryMember, DirectoryPartner, DirectoryTenant,
        DirectoryUser, HttpDirectory, Identities, IdentityPage, IdentitySource, Listed, PageOf, Received,
        ResolvedIdentity, SourceGroup, SourceMember, SourcePartner, SourceTenant, SourceUser, SyncReport,
        SyncStarted, UserRoles, WebhookSecrets,
    };
}
mod identity;
mod jobs;
pub mod keys {
    //! The life of the keys between the root key and the rows: the nouns of [`Vault::keys`](crate::Vault::keys).
    pub use crate::envelope::{
        Broken, Checked, KeyReport, KeyStatus, Keys, OldKey, PartnerKeyStatus, Progress, RecoveryDrill,
        RecoveryMade, RecoveryShare, RootAdded, RootHealth, RootKeyStatus, RootMade, RootRemoved, RootReport,
        RootRotation, RootStatus, Rotation, RowCounts, TenantKeyStatus, Verify,
    };
}
pub mod limits;
mod name;
mod pipeline;
pub mod pki;
pub mod policy;
mod ratelimit;
pub mod secrets;
mod storage;
mod tenancy;
pub mod trust;
mod vault;
mod wire;

pub use audit::{
    Action, Audit, AuditFilter, AuditKey, AuditLog, AuditSummary, ChainHash, ChainedRecord, Checkpoint,
    Count, End, Fault, FaultKind, IdentitySummary, IdentityTrail, Line, ProofRange, Purpose, SecretSummary,
    SecretTrail, Verdict, Verifier, verify_export,
};
pub use clock::{Clock, Random, SystemClock, SystemRandom};
pub use duration::DurationText;
pub use error::{Code, Details, Error, FieldErrors, Result};
pub use id::{PartnerId, TenantId};
pub use idempotency::IdempotencyKey;
pub use identity::{
    Caller, ClientCertificate, ClientIdentities, HttpIntrospection, HttpJwks, IdentityType, Introspect,
    Introspection, JwksSource, Role, Scope, Scopes, StaticJwks, TokenSettings, TokenSubject, TokenVerifier,
    Whoami,
};
pub use name::Name;
pub use pipeline::Ctx;
#[cfg(feature = "redis")]
pub use ratelimit::RedisUrl;
pub use ratelimit::{Category, Charged, RateLimits};
#[cfg(feature = "postgres")]
pub use storage::RolePasswords;
pub use storage::{Database, SchemaState};
pub use vault::{Statistics, Vault, VaultBuilder};
pub use wire::{Page, rfc3339};
