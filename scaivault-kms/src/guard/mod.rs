//! What every provider needs around it, written once: [`Guarded`] gives each operation a deadline, tries
//! again what is safe to try again, lets so many calls through at a time and no more, stops asking a
//! service that has failed several times in a row, and says how long everything took.
//!
//! ```
//! # use scaivault_kms::{KmsError, local::{KeyFile, LocalProvider}};
//! # fn demo() -> Result<(), KmsError> {
//! use std::sync::Arc;
//! use scaivault_kms::guard::{Guarded, Latencies, Limits};
//!
//! let latencies = Arc::new(Latencies::new());
//! let inner = Arc::new(LocalProvider::new(KeyFile::generate()?));
//! let provider = Guarded::new(inner, Limits::default()).observed_by(latencies.clone());
//! # drop(provider);
//! assert!(latencies.snapshot().is_empty(), "nothing was asked yet");
//! # Ok(()) }
//! # demo().unwrap();
//! ```

mod breaker;
mod config;
mod observe;
#[cfg(test)]
mod tests;
mod wrap;

pub use config::Limits;
pub use observe::{BUCKETS, Latencies, Latency, Observer, Operation, Outcome};
pub use wrap::Guarded;
