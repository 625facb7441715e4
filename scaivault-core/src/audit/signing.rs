//! Checkpoints: signed statements about places of chains. The key that signs them is the vault's own; it is made
//! when the first checkpoint is, and sealed under the root key.

use scaivault_kms::{KeySpec, SignatureScheme, SigningKey as _, local::SoftwareKey};

use super::{
    AuditKey, ChainHash, Checkpoint, Purpose,
    chain::ALGORITHM,
    store::{self, CheckpointRow, sql},
};
use crate::{
    Error, Result,
    envelope::{INSTANCE_AUDIT, InstanceKey, hold_root, never_held},
    limits,
    storage::query,
    vault::Inner,
};

/// Makes checkpoints, under the key that was opened for a round of them.
pub(crate) struct Checkpoints<'a> {
    vault: &'a Inner,
    key: SoftwareKey,
    public: AuditKey,
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    id: String,
    spec: String,
    ciphertext: Vec<u8>,
    wrapped: Vec<u8>,
}

impl<'a> Checkpoints<'a> {
    /// Opens the key, or makes it if the vault has none.
    pub(crate) async fn open(vault: &'a Inner) -> Result<Self> {
        let db = vault.door.audit_db();
        let mut row: Option<KeyRow> = db.fetch_optional(query(sql::KEY)).await?;
        if row.is_none() {
            make_key(vault).await?;
            row = db.fetch_optional(query(sql::KEY)).await?;
        }
        let row = row.ok_or_else(|| Error::internal("the key of the audit trail vanished"))?;
        let sealed = InstanceKey { ciphertext: row.ciphertext, wrapped: row.wrapped };
        let pkcs8 = vault.door.keyring().open_instance(INSTANCE_AUDIT, &row.id, &sealed).await?;
        let key = SoftwareKey::from_pkcs8(row.spec.parse()?, &pkcs8)?;
        // The public half comes from the private one, which opened under the root key: nobody who can only write
        // to the database can put another in its place.
        let public = AuditKey::from_der(key.public_key_der())?;
        Ok(Self { vault, key, public })
    }

    pub(crate) fn public(&self) -> &AuditKey {
        &self.public
    }

    pub(crate) fn into_public(self) -> AuditKey {
        self.public
    }

    /// Signs where the chain of a tenant ends, unless nothing happened since that was done. Gives the last checkpoint; `None` for a chain without records.
    ///
    /// # Errors
    /// [`crate::Code::InternalError`] if the chain is no longer what was signed before: nothing is signed then.
    pub(crate) async fn head(&self, tenant: &str) -> Result<Option<Checkpoint>> {
        let db = self.vault.door.audit_db();
        let head: Option<(String, i64, Vec<u8>)> = db.fetch_optional(query(sql::HEAD).bind(tenant)).await?;
        let last = self.last(tenant, i64::MAX).await?;
        let Some((_, seq, hash)) = head.filter(|head| head.1 > 0) else {
            return match last {
                None => Ok(None),
                Some(_) => Err(tampered(tenant, "its head is gone")),
            };
        };
        if let Some(last) = last {
            if let Some(objection) = self.public.objection(&last) {
                return Err(tampered(tenant, &format!("its last checkpoint {objection}")));
            }
            if last.seq > seq {
                return Err(tampered(tenant, "it ends before its last checkpoint"));
            }
            let at = self.hash_at(tenant, last.seq).await?;
            if at.map_or(last.purpose != Purpose::Retention, |hash| hash != last.hash) {
                return Err(tampered(tenant, "the record of its last checkpoint is gone or another one"));
            }
            if last.seq == seq {
                return Ok(Some(last));
            }
        }
        self.sign(tenant, seq, ChainHash::from_column(&hash), Purpose::Head).await.map(Some)
    }

    /// Signs that the records up to a place may be gone.
    pub(crate) async fn retire(&self, tenant: &str, seq: i64, hash: &[u8]) -> Result<()> {
        self.sign(tenant, seq, ChainHash::from_column(hash), Purpose::Retention).await.map(drop)
    }

    pub(crate) async fn last(&self, tenant: &str, up_to: i64) -> Result<Option<Checkpoint>> {
        let select = query(sql::LAST_CHECKPOINT).bind(tenant).bind(up_to);
        let row: Option<CheckpointRow> = self.vault.door.audit_db().fetch_optional(select).await?;
        row.map(CheckpointRow::into_checkpoint).transpose()
    }

    async fn hash_at(&self, tenant: &str, seq: i64) -> Result<Option<ChainHash>> {
        let select = query(sql::HASH_AT).bind(tenant).bind(seq);
        let row: Option<(Vec<u8>,)> = self.vault.door.audit_db().fetch_optional(select).await?;
        Ok(row.map(|(hash,)| ChainHash::from_column(&hash)))
    }

    /// Signs something that is no checkpoint. What it is has to be in the text.
    pub(crate) async fn sign_text(&self, text: &[u8]) -> Result<Vec<u8>> {
        Ok(self.key.sign(SignatureScheme::EcdsaSha256, text).await?)
    }

    async fn sign(&self, tenant: &str, seq: i64, hash: ChainHash, purpose: Purpose) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint {
            tenant_id: tenant.to_owned(),
            seq,
            hash,
            timestamp: crate::storage::Ts::from(self.vault.clock.now()).get(),
            purpose,
            algorithm: ALGORITHM.to_owned(),
            key_id: self.public.id().to_owned(),
            signature: Vec::new(),
        };
        checkpoint.signature = self.key.sign(SignatureScheme::EcdsaSha256, &checkpoint.message()).await?;
        self.vault.door.audit_db().execute(store::insert_checkpoint(&checkpoint)).await?;
        Ok(checkpoint)
    }
}

impl std::fmt::Debug for Checkpoints<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoints").field("key", &self.public.id()).finish_non_exhaustive()
    }
}

/// Signs the end of every chain that went on since its last checkpoint, if that is old enough; says whether there was
/// any.
pub(crate) async fn checkpoint_all(vault: &Inner) -> Result<bool> {
    let before = vault.clock.now() - limits::AUDIT_CHECKPOINT_EVERY;
    let due: Vec<(String,)> = vault.door.audit_db().fetch_all(query(sql::DUE).bind(before)).await?;
    if due.is_empty() {
        return Ok(false);
    }
    let checkpoints = Checkpoints::open(vault).await?;
    let mut result = Ok(true);
    for (tenant,) in due {
        // What is wrong with one chain does not keep the others.
        if let Err(error) = checkpoints.head(&tenant).await {
            tracing::error!(error = %error, causes = error.causes(), tenant, "a chain of the audit trail was not signed for");
            result = Err(error);
        }
    }
    result
}

async fn make_key(vault: &Inner) -> Result<()> {
    let (_, pkcs8) = SoftwareKey::generate(KeySpec::EcP256)?;
    let id = vault.door.new_id("ak_")?;
    for _ in 0..3 {
        let (sealed, by) = vault.door.keyring().seal_instance(INSTANCE_AUDIT, &id, &pkcs8).await?;
        let insert = query(sql::INSERT_KEY)
            .bind(&id)
            .bind(KeySpec::EcP256.as_str())
            .bind(&sealed.ciphertext)
            .bind(&sealed.wrapped)
            .bind(vault.clock.now());
        let mut tx = vault.door.key_db().begin().await?;
        // A root key that was removed meanwhile may be the only one that has wrapped it.
        let held: Option<(String,)> = tx.fetch_optional(hold_root(&by, tx.lock_rows())).await?;
        if held.is_some() {
            // Of two replicas that do so at once, one wins and both use its key.
            tx.execute(insert).await?;
            return tx.commit().await;
        }
    }
    Err(never_held())
}

fn tampered(tenant: &str, what: &str) -> Error {
    Error::internal(format!("the audit trail of {tenant} was tampered with: {what}"))
}
