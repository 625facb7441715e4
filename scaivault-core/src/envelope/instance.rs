use scaivault_kms::{Context, Secret, SecretKey};

use super::{Keyring, seal::Aead, wraps::Wraps};
use crate::{Error, Result};

/// The purpose of the key that signs the audit trail.
pub(crate) const AUDIT: &str = "audit";
/// The purpose of what says which recovery root is ours.
pub(super) const RECOVERY: &str = "recovery";

/// A key of the vault itself rather than of a tenant, as it is stored.
#[derive(Debug)]
pub(crate) struct InstanceKey {
    /// The key under a data key.
    pub(crate) ciphertext: Vec<u8>,
    /// The data key under the root keys.
    pub(crate) wrapped: Vec<u8>,
}

impl Keyring {
    /// Seals a key of the vault itself, for `purpose` and under `id` only; and the row of a root key that has wrapped
    /// it, which has to be active when it is stored.
    pub(crate) async fn seal_instance(
        &self,
        purpose: &str,
        id: &str,
        key: &Secret,
    ) -> Result<(InstanceKey, String)> {
        let data_key = SecretKey::generate()?;
        let context = context(purpose, id);
        let made = self.wrap_new(&data_key, &context).await?;
        let ciphertext = Aead::new(data_key)?.seal(&context.to_aad(), key.expose(), self.random.as_ref())?;
        Ok((InstanceKey { ciphertext, wrapped: made.wraps.to_bytes() }, made.by))
    }

    /// Opens what [`seal_instance`](Self::seal_instance) made for the same purpose and id.
    pub(crate) async fn open_instance(
        &self,
        purpose: &str,
        id: &str,
        sealed: &InstanceKey,
    ) -> Result<Secret> {
        let context = context(purpose, id);
        let data_key = self.roots().open(&Wraps::from_bytes(&sealed.wrapped)?, &context).await?;
        let opened = Aead::new(data_key)?.open(&context.to_aad(), &sealed.ciphertext);
        opened.ok_or_else(|| {
            Error::internal(format!("the {purpose} key {id} does not open under its data key"))
        })
    }
}

/// What the provider binds a key of the vault itself to.
pub(super) fn context(purpose: &str, id: &str) -> Context {
    Context::new().with("scaivault", "instance-key").with("purpose", purpose).with("key", id)
}
