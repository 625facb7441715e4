use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Context, KeyRef, KeySpec, KmsError, SecretKey, SignatureScheme, SigningKey, WrappedKey};

/// A service or device that holds a root key and never gives it out.
///
/// **For implementers.** A provider is a value: everything it needs comes in when it is built. Keep these
/// promises; `scaivault_kms::conformance` (feature `conformance`) has one function for each:
///
/// * what `wrap` made, `unwrap` opens, under the same context and no other;
/// * a blob that was changed, cut or made by another key is [`KmsError::Invalid`], never other bytes;
/// * `wrap` of one key twice gives two different blobs;
/// * a blob made before the root was rotated still opens;
/// * nothing is created as a side effect: a missing key is [`KmsError::NotFound`], a service that does
///   not answer is [`KmsError::Unavailable`];
/// * no error, `Debug` or trace carries key material or a credential.
///
/// Deadlines, retries, concurrency limits and metrics are added around a provider, not inside it.
#[async_trait]
pub trait KeyProvider: Debug + Send + Sync {
    /// What the root key is and what the provider can do. Never makes a network call.
    fn describe(&self) -> Description;

    /// Wraps a key under the current version of the root key, bound to `context`.
    ///
    /// # Errors
    /// Any [`KmsError`] but `Invalid`, which is for input that only `unwrap` has.
    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError>;

    /// Opens what [`wrap`](Self::wrap) made under the same context.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] if the blob was changed, belongs to another key or another context;
    /// [`KmsError::NotFound`] or [`KmsError::Disabled`] if the root key version that made it is gone.
    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError>;

    /// One cheap round trip that proves that the root key can be used now.
    ///
    /// # Errors
    /// Whatever the round trip ran into.
    async fn health(&self) -> Result<Health, KmsError>;

    /// Makes the first version of the root key, inside the service or device. The explicit bootstrap: nothing else
    /// makes a root key, and never is one made because a call failed. Not to be repeated after a failure without
    /// looking, since the key may have been made.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] if the root key exists already; [`KmsError::Unsupported`] unless the provider overrides
    /// this.
    async fn create_root(&self) -> Result<Description, KmsError> {
        Err(self.unsupported("making the root key"))
    }

    /// Rotates the root key in place by the service's own primitive; what was wrapped before still opens.
    ///
    /// # Errors
    /// [`KmsError::Unsupported`] unless the provider overrides this.
    async fn rotate(&self) -> Result<Description, KmsError> {
        Err(self.unsupported("rotating the root key in place"))
    }

    /// Wraps anew, under the current version of the root key, what `wrap` made: afterwards the older version
    /// is not needed for it. By the service's own primitive where it has one that keeps the context; the key
    /// then never leaves it. Otherwise, and unless the provider overrides this, by `unwrap` and `wrap`.
    ///
    /// # Errors
    /// As [`unwrap`](Self::unwrap) and [`wrap`](Self::wrap).
    async fn rewrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<WrappedKey, KmsError> {
        self.wrap(&self.unwrap(wrapped, context).await?, context).await
    }

    /// Creates a signing key whose private half stays inside the provider.
    ///
    /// # Errors
    /// [`KmsError::Unsupported`] unless the provider overrides this.
    async fn create_signing_key(&self, _name: &str, _spec: KeySpec) -> Result<Arc<dyn SigningKey>, KmsError> {
        Err(self.unsupported("creating signing keys"))
    }

    /// Refers to a signing key that exists.
    ///
    /// # Errors
    /// [`KmsError::NotFound`] if there is none; [`KmsError::Unsupported`] unless the provider overrides this.
    async fn signing_key(&self, _key: &KeyRef) -> Result<Arc<dyn SigningKey>, KmsError> {
        Err(self.unsupported("signing keys"))
    }

    /// The error for something that this provider lacks.
    fn unsupported(&self, what: &str) -> KmsError {
        KmsError::Unsupported { provider: self.describe().provider, message: what.to_owned() }
    }
}

/// What a provider says of itself and its root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The kind of provider: `local`, `aws`, `gcp`, `azure`, `transit`, `pkcs11`, `tpm`.
    pub provider: &'static str,
    /// The root key as the provider names it (an ARN, a resource name, a label, a fingerprint).
    /// Public: it is stored beside what the key wraps, and shown to operators.
    pub key_id: String,
    /// The version that `wrap` uses now, where the provider has versions.
    pub key_version: Option<String>,
    /// The wrapping algorithm, in the provider's words.
    pub algorithm: String,
    /// Whether the provider itself authenticates the context; if not, the adapter binds it.
    pub native_context: bool,
    /// The size of the root key in bits (of a curve's order, or of a modulus), as far as it is known.
    pub key_bits: Option<u32>,
    /// Whether the root key could be read out by whoever runs the provider's host.
    pub extractable: bool,
    /// What vouches for the root key staying where it is.
    pub attestation: Attestation,
    /// Signature schemes of the keys that this provider can create; empty if it has none.
    pub signature_schemes: Vec<SignatureScheme>,
}

/// What vouches for a root key staying where it is. No adapter asks for a signed statement about the key yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attestation {
    /// Nothing: it is in a file, or in the memory of a program.
    None,
    /// The word of the service that has it.
    Service,
    /// Attributes of the key that the device itself enforces.
    Device,
}

/// The answer of a provider that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How long the round trip took.
    pub latency: Duration,
}
