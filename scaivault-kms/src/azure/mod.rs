//! Azure Key Vault and Managed HSM: the root key is an RSA key (`RSA`, `RSA-HSM`), or in a Managed HSM an AES key
//! (`oct-HSM`); CA keys are EC and RSA keys.
//!
//! The service binds no context to what it wraps, so this adapter does:
//!
//! * `RSA-OAEP-256+PS256`: `wrapKey`, then a signature by the same key over domain, length of context, context and
//!   ciphertext, which is verified here before anything is opened. Without it whoever reads the public key could make
//!   wraps. Two round trips to wrap, one to unwrap. Blob: ciphertext, signature.
//! * `A256KW+A256GCM`: a fresh key is wrapped by the service, and seals the key here, with domain, length of context,
//!   context and the wrapped fresh key as additional data. One round trip each. Blob: wrapped key 40, nonce 12,
//!   ciphertext 32, tag 16.
//!
//! What the identity needs: `keys/get`, `keys/wrapKey`, `keys/unwrapKey`, `keys/sign` (for RSA); for rotation
//! `keys/rotate`; to refer to a CA key by its name alone `keys/list`; to make keys `keys/create`. With
//! `keys/get` on deleted keys a key that was deleted and can be recovered is told from one that never was.
//!
//! Tokens come from Azure's own library, which keeps copies of credentials that this crate cannot zeroize.

mod config;
mod error;
#[cfg(test)]
mod fake;
mod session;
mod sign;
#[cfg(test)]
mod tests;
mod wrap;

pub use config::{AzureAuth, AzureConfig};
pub use wrap::AzureProvider;

/// The name of this provider in errors and wraps.
pub(crate) const PROVIDER: &str = "azure";
