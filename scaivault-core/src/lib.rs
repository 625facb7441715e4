//! placeholder
mod clock;
mod error;
mod id;
mod identity;
pub mod limits;
pub mod policy;
mod storage;

pub use clock::{Clock, Random, SystemClock, SystemRandom};
pub use error::{Code, Details, Error, FieldErrors, Result};
pub use id::{PartnerId, TenantId};
pub use identity::{
    Caller, IdentityType, JwksSource, Role, Scope, Scopes, StaticJwks, TokenSettings, TokenVerifier, Whoami,
};
