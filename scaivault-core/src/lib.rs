//! placeholder

mod audit;
mod clock;
mod duration;
mod envelope;
mod error;
mod events;
mod id;
mod identity;
mod jobs;
pub mod limits;
mod pipeline;
pub mod pki;
pub mod policy;
pub mod secrets;
mod storage;
mod tenancy;
mod vault;
mod wire;

pub use audit::{Action, Audit, AuditFilter, AuditLog};
pub use clock::{Clock, Random, SystemClock, SystemRandom};
pub use duration::DurationText;
pub use error::{Code, Details, Error, FieldErrors, Result};
pub use id::{PartnerId, TenantId};
pub use identity::{
    Caller, IdentityType, JwksSource, Role, Scope, Scopes, StaticJwks, TokenSettings, TokenVerifier, Whoami,
};
pub use pipeline::Ctx;
pub use storage::{Database, SchemaState};
pub use vault::{Vault, VaultBuilder};
pub use wire::{Page, rfc3339};
