use scaivault_kms::{Context, Secret, SecretKey, WrappedKey};

use super::{Keyring, seal::Aead};
use crate::{Error, Result};

/// A key of the vault itself rather than of a tenant, as it is stored.
#[derive(Debug)]
pub(crate) struct InstanceKey {
    /// The key under a data key.
    pub(crate) ciphertext: Vec<u8>,
    /// The data key under the root key.
    pub(crate) wrapped: Vec<u8>,
}

impl Keyring {
    /// Seals a key of the vault itself, for `purpose` and under `id` only.
    pub(crate) async fn seal_instance(&self, purpose: &str, id: &str, key: &Secret) -> Result<InstanceKey> {
        let data_key = SecretKey::generate()?;
        let context = context(purpose, id);
        let wrapped = self.provider().wrap(&data_key, &context).await?.to_bytes();
        let ciphertext = Aead::new(data_key)?.seal(&context.to_aad(), key.expose(), self.random.as_ref())?;
        Ok(InstanceKey { ciphertext, wrapped })
    }

    /// Opens what [`seal_instance`](Self::seal_instance) made for the same purpose and id.
    pub(crate) async fn open_instance(
        &self,
        purpose: &str,
        id: &str,
        sealed: &InstanceKey,
    ) -> Result<Secret> {
        let context = context(purpose, id);
        let data_key = self.provider().unwrap(&WrappedKey::from_bytes(&sealed.wrapped)?, &context).await?;
        let opened = Aead::new(data_key)?.open(&context.to_aad(), &sealed.ciphertext);
        opened.ok_or_else(|| {
            Error::internal(format!("the {purpose} key {id} does not open under its data key"))
        })
    }
}

impl Keyring {
    /// Wraps the data key of an instance key under the root key of today.
    pub(super) async fn rewrap_instance(&self, purpose: &str, id: &str, wrapped: &[u8]) -> Result<Vec<u8>> {
        let context = context(purpose, id);
        let data_key = self.provider().unwrap(&WrappedKey::from_bytes(wrapped)?, &context).await?;
        let anew = self.provider().wrap(&data_key, &context).await?;
        if !self.provider().unwrap(&anew, &context).await?.ct_eq(&data_key) {
            return Err(Error::internal("the provider does not open what it wrapped"));
        }
        Ok(anew.to_bytes())
    }
}

fn context(purpose: &str, id: &str) -> Context {
    Context::new().with("scaivault", "instance-key").with("purpose", purpose).with("key", id)
}
