//! Google Cloud KMS: the root key is a crypto key `ENCRYPT_DECRYPT`, CA keys are versions of keys `ASYMMETRIC_SIGN`.
//!
//! The context is bound by the service itself, as additional authenticated data. One wrap or unwrap is one round
//! trip. CRC32C checksums go with everything that is sent and are compared with everything that comes back; one that
//! does not hold is [`Cause::Checksum`](crate::Cause::Checksum), and the request may be made again.
//!
//! What the account needs on the root key: `cloudkms.cryptoKeyVersions.useToEncrypt`, `….useToDecrypt` and
//! `cloudkms.cryptoKeys.get`; for rotation `cloudkms.cryptoKeyVersions.create`, `….get` and
//! `cloudkms.cryptoKeys.update`. On a CA key: `cloudkms.cryptoKeyVersions.viewPublicKey` and `….useToSign`; to make
//! a key `cloudkms.cryptoKeys.create` on the key ring and `cloudkms.cryptoKeyVersions.get`.

mod config;
mod error;
#[cfg(test)]
mod fake;
mod session;
mod sign;
#[cfg(test)]
mod tests;
mod wrap;

pub use config::{GcpAuth, GcpConfig, Protection};
pub use wrap::GcpProvider;

/// The name of this provider in errors and wraps.
pub(crate) const PROVIDER: &str = "gcp";
