//! Root and signing keys in an HSM, through its PKCS #11 module (feature `pkcs11`).
//!
//! The module is opened at run time, so nothing is needed to build this. Keys are made inside the token, are
//! sensitive and not extractable, and are made by [`create_root`](crate::KeyProvider::create_root),
//! [`rotate`](crate::KeyProvider::rotate) and [`create_signing_key`](crate::KeyProvider::create_signing_key) alone.
//!
//! How a key is wrapped is chosen when the root key is made, by asking the token what it can, and is recorded in
//! every wrap; see [`Wrapping`] for the four ways and how each binds the context.
//!
//! Futures of this provider need a tokio runtime with its timer enabled.

mod config;
mod error;
mod provider;
mod session;
mod sign;
mod wrap;

pub use config::{Pin, Pkcs11Config, Token};
pub use provider::Pkcs11Provider;
pub use sign::Pkcs11Key;
pub use wrap::Wrapping;

/// The name of this provider in errors and wraps.
pub(crate) const PROVIDER: &str = "pkcs11";
