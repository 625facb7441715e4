//! placeholder
mod clock;
mod envelope;
mod error;
mod id;
pub mod limits;
mod storage;

pub use clock::{Clock, Random, SystemClock, SystemRandom};
pub use error::{Code, Details, Error, FieldErrors, Result};
pub use id::{PartnerId, TenantId};
