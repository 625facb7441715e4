//! Root keys, wherever they live.
//!
//! A [`KeyProvider`] wraps and unwraps 32-byte keys under a root key that it never gives out, and
//! refers to (or creates) [`SigningKey`]s whose private half stays inside. This crate holds the trait,
//! its types, the software provider [`local::LocalProvider`], and one adapter for each service behind a
//! feature of its name: `aws`, `azure`, `gcp`, `transit`, `pkcs11`, `tpm`. The feature `guard` has what belongs around every one of them.
//!
//! It does **not** know X.509, SQL, tenants, policy or HTTP, and it never creates a root key unless told
//! to by an explicit call: a provider that is unavailable is not a provider without a key.
//!
//! ```
//! # async fn demo() -> Result<(), scaivault_kms::KmsError> {
//! use scaivault_kms::{Context, KeyProvider, SecretKey, local::{KeyFile, LocalProvider}};
//!
//! let provider = LocalProvider::new(KeyFile::generate()?);
//! let context = Context::new().with("partner", "ptn_acme").with("version", "1");
//! let key = SecretKey::generate()?;
//! let wrapped = provider.wrap(&key, &context).await?;
//! assert!(provider.unwrap(&wrapped, &context).await?.ct_eq(&key));
//! // Another context does not open it.
//! assert!(provider.unwrap(&wrapped, &Context::new()).await.is_err());
//! # Ok(()) }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(demo()).unwrap();
//! ```

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "azure")]
pub mod azure;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(feature = "azure", feature = "pkcs11", feature = "tpm"))]
mod der;
#[cfg(any(feature = "pkcs11", feature = "tpm"))]
mod device;
mod error;
#[cfg(feature = "gcp")]
pub mod gcp;
#[cfg(feature = "guard")]
pub mod guard;
pub mod local;
#[cfg(any(feature = "aws", feature = "rest"))]
mod net;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
#[cfg(any(feature = "aws", feature = "rest"))]
mod probe;
mod provider;
#[cfg(feature = "rest")]
mod rest;
mod secret;
mod signing;
#[cfg(any(feature = "aws", feature = "conformance", feature = "rest"))]
mod spki;
#[cfg(any(feature = "azure", feature = "gcp"))]
#[cfg(test)]
mod testing;
#[cfg(feature = "tpm")]
pub mod tpm;
#[cfg(feature = "transit")]
pub mod transit;
mod wrapped;

pub use error::{Cause, KmsError};
pub use provider::{Attestation, Description, Health, KeyProvider};
pub use secret::{Secret, SecretKey};
pub use signing::{KeyRef, KeySpec, SignatureScheme, SigningKey};
pub use wrapped::{Context, WrappedKey};
