//! HashiCorp Vault and OpenBao: the root key lives in their secrets engine Transit.
//!
//! The context is bound by the service itself: as `associated_data` under a plain AEAD key, as the `context`
//! of the key derivation under a key made with `derived=true`. One wrap or unwrap is one round trip.
//!
//! What the token needs, and nothing more (`scai` is the key; the last three lines are for rotation and
//! for CA keys):
//!
//! ```hcl
//! path "transit/keys/scai"        { capabilities = ["read"] }
//! path "transit/encrypt/scai"     { capabilities = ["update"] }
//! path "transit/decrypt/scai"     { capabilities = ["update"] }
//! path "transit/rewrap/scai"      { capabilities = ["update"] }
//! path "transit/keys/scai/rotate" { capabilities = ["update"] }
//! path "transit/keys/ca-*"        { capabilities = ["create", "read", "update"] }
//! path "transit/sign/ca-*"        { capabilities = ["update"] }
//! ```

mod client;
mod config;
mod error;
mod session;
mod sign;
#[cfg(test)]
mod tests;
mod wrap;

pub use config::{Auth, TransitConfig};
pub use wrap::TransitProvider;

/// The name of this provider in errors and wraps.
pub(crate) const PROVIDER: &str = "transit";
