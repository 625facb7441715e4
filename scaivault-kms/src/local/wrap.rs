use std::time::Instant;

use async_trait::async_trait;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    error::Unspecified,
};
use zeroize::Zeroizing;

use super::{KeyFile, PROVIDER};
use crate::{Attestation, Context, Description, Health, KeyProvider, KmsError, SecretKey, WrappedKey};

const ALGORITHM: &str = "AES-256-GCM";

/// Wraps under a key held in this process. The context is the AEAD's additional data.
///
/// Several key files may be given: the first wraps, all of them open, so that a root key is changed by
/// putting a new file in front and dropping the old one once nothing needs it.
pub struct LocalProvider {
    active: Key,
    older: Vec<Key>,
}

struct Key {
    fingerprint: String,
    aead: RandomizedNonceKey,
}

impl LocalProvider {
    /// A provider with one root key.
    #[must_use]
    pub fn new(active: KeyFile) -> Self {
        Self::with_older(active, Vec::new())
    }

    /// A provider that wraps under `active` and also opens what the `older` keys wrapped.
    #[must_use]
    pub fn with_older(active: KeyFile, older: Vec<KeyFile>) -> Self {
        Self { active: Key::new(&active), older: older.iter().map(Key::new).collect() }
    }

    fn invalid(message: impl Into<String>) -> KmsError {
        KmsError::Invalid { provider: PROVIDER, message: message.into() }
    }
}

impl Key {
    fn new(file: &KeyFile) -> Self {
        // Infallible for a key of exactly 32 bytes, which the type guarantees.
        #[expect(clippy::expect_used, reason = "AES-256 takes any key of 32 bytes")]
        let aead = RandomizedNonceKey::new(&AES_256_GCM, file.key().expose()).expect("32 bytes");
        Self { fingerprint: file.fingerprint().to_owned(), aead }
    }
}

impl std::fmt::Debug for LocalProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalProvider").field("key_id", &self.active.fingerprint).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyProvider for LocalProvider {
    fn describe(&self) -> Description {
        Description {
            provider: PROVIDER,
            key_id: self.active.fingerprint.clone(),
            key_version: None,
            algorithm: ALGORITHM.to_owned(),
            native_context: true,
            key_bits: Some(256),
            extractable: true,
            attestation: Attestation::None,
            signature_schemes: Vec::new(),
        }
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        let mut sealed = Zeroizing::new(key.expose().to_vec());
        let nonce =
            self.active.aead.seal_in_place_append_tag(Aad::from(context.to_aad()), &mut *sealed).map_err(
                |Unspecified| KmsError::Device {
                    provider: PROVIDER,
                    message: "sealing failed".into(),
                    source: None,
                },
            )?;
        let mut blob = nonce.as_ref().to_vec();
        blob.extend_from_slice(&sealed);
        Ok(WrappedKey {
            provider: PROVIDER.to_owned(),
            key_id: self.active.fingerprint.clone(),
            key_version: None,
            algorithm: ALGORITHM.to_owned(),
            blob,
        })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        if wrapped.provider != PROVIDER {
            return Err(Self::invalid(format!("the key was wrapped by provider {:?}", wrapped.provider)));
        }
        let Some(key) =
            std::iter::once(&self.active).chain(&self.older).find(|k| k.fingerprint == wrapped.key_id)
        else {
            return Err(KmsError::NotFound {
                provider: PROVIDER,
                message: format!(
                    "it was wrapped under root key {}, but this provider holds {}",
                    wrapped.key_id, self.active.fingerprint
                ),
            });
        };
        if wrapped.algorithm != ALGORITHM {
            return Err(Self::invalid(format!("unknown algorithm {:?}", wrapped.algorithm)));
        }
        let (nonce, sealed) = wrapped
            .blob
            .split_first_chunk::<NONCE_LEN>()
            .ok_or_else(|| Self::invalid("the blob is cut short"))?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let opened = key
            .aead
            .open_in_place(Nonce::from(nonce), Aad::from(context.to_aad()), &mut buffer)
            .map_err(|Unspecified| Self::invalid("the blob or its context was changed"))?;
        SecretKey::from_slice(opened).ok_or_else(|| Self::invalid("the blob does not hold a 32-byte key"))
    }

    /// Always refused: a provider is made of key files that exist, and [`KeyFile::create`] makes them.
    async fn create_root(&self) -> Result<Description, KmsError> {
        Err(Self::invalid(format!("root key {} exists already", self.active.fingerprint)))
    }

    async fn health(&self) -> Result<Health, KmsError> {
        let start = Instant::now();
        let context = Context::new().with("purpose", "health");
        let probe = SecretKey::generate()?;
        let opened = self.unwrap(&self.wrap(&probe, &context).await?, &context).await?;
        if !opened.ct_eq(&probe) {
            return Err(KmsError::Device {
                provider: PROVIDER,
                message: "self-test failed".into(),
                source: None,
            });
        }
        Ok(Health { latency: start.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    fn provider() -> LocalProvider {
        LocalProvider::new(KeyFile::generate().unwrap())
    }

    #[tokio::test]
    async fn keeps_every_promise() {
        conformance::all(&provider(), &provider()).await.unwrap();
    }

    #[tokio::test]
    async fn several_key_files_keep_every_promise_and_the_first_wraps() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["new", "old", "older"].map(|name| dir.path().join(name));
        for path in &paths {
            KeyFile::create(path).unwrap();
        }
        let open = |order: [usize; 3]| {
            let [active, older @ ..] = order.map(|at| KeyFile::open(&paths[at]).unwrap());
            LocalProvider::with_older(active, older.into())
        };
        let (context, key) = (Context::new().with("partner", "p"), SecretKey::generate().unwrap());
        let mut wraps = Vec::new();
        // Each file was the first one once, and each provider opens what any of them wrapped.
        for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
            let provider = open(order);
            conformance::all(&provider, &self::provider()).await.unwrap();
            let wrapped = provider.wrap(&key, &context).await.unwrap();
            assert_eq!(wrapped.key_id, KeyFile::open(&paths[order[0]]).unwrap().fingerprint());
            wraps.push(wrapped);
            for wrapped in &wraps {
                assert!(provider.unwrap(wrapped, &context).await.unwrap().ct_eq(&key));
                let anew = provider.rewrap(wrapped, &context).await.unwrap();
                assert_eq!(anew.key_id, provider.describe().key_id);
            }
        }
        // A file that is taken out is missed by its name.
        let [new, old, _] = [0, 1, 2].map(|at| KeyFile::open(&paths[at]).unwrap());
        let fewer = LocalProvider::with_older(new, vec![old]);
        let error = fewer.unwrap(&wraps[2], &context).await.unwrap_err();
        assert!(matches!(error, KmsError::NotFound { .. }), "{error:?}");
        assert!(error.to_string().contains(&wraps[2].key_id), "{error}");
    }

    #[tokio::test]
    async fn an_older_key_opens_and_no_longer_wraps() {
        let old = SecretKey::generate().unwrap();
        let copy = SecretKey::from_slice(old.expose()).unwrap();
        let context = Context::new().with("partner", "p");
        let key = SecretKey::generate().unwrap();
        let before = LocalProvider::new(KeyFile::from_key(old)).wrap(&key, &context).await.unwrap();
        let now = LocalProvider::with_older(KeyFile::generate().unwrap(), vec![KeyFile::from_key(copy)]);
        assert!(now.unwrap(&before, &context).await.unwrap().ct_eq(&key));
        assert_ne!(now.wrap(&key, &context).await.unwrap().key_id, before.key_id);
    }

    #[tokio::test]
    async fn a_wrong_root_key_is_named() {
        let context = Context::new();
        let wrapped = provider().wrap(&SecretKey::generate().unwrap(), &context).await.unwrap();
        let error = provider().unwrap(&wrapped, &context).await.unwrap_err();
        assert!(matches!(error, KmsError::NotFound { .. }));
        assert!(error.to_string().contains(&wrapped.key_id), "{error}");
    }
}
