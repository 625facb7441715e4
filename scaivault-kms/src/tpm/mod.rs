//! Root and signing keys in a TPM 2.0 (feature `tpm`, which links the system's libtss2).
//!
//! The root key is a storage key under the TPM's owner hierarchy: derived anew from the TPM's seed and a label at every
//! start, or kept at a persistent handle. It wraps by sealing (`TPM2_Create`): what comes out can be loaded by this TPM
//! under this key alone, and not one bit of it can be changed. A TPM binds no context to what it seals, so the hash of
//! the context is sealed with the key, and compared in constant time.
//!
//! A TPM does one thing at a time and has few places for keys: one thread owns the connection, keeps one key and one
//! session loaded, and flushes everything else. Parameters are encrypted on the way, by a session that is salted with
//! the root key. Futures of this provider need a tokio runtime with its timer enabled.

mod config;
mod error;
mod session;
mod sign;
mod wrap;

pub use config::{RootKey, TpmConfig};
pub use sign::TpmKey;
pub use wrap::TpmProvider;

/// The name of this provider in errors and wraps.
pub(crate) const PROVIDER: &str = "tpm";
