use std::{collections::HashMap, sync::Arc, time::Duration};

use moka::future::Cache;
use scaivault_kms::{Context, KeyProvider, Secret, SecretKey, WrappedKey};

use super::seal::{self, Aead, Sealed, Slot};
use crate::{
    Clock, Error, PartnerId, Random, Result, TenantId, id,
    storage::{Db, Query, query},
};

/// Finds, makes and keeps the keys between the root key and the rows.
///
/// Unwrapped keys stay in memory for at most the configured time; concurrent misses of one key make one
/// call to the provider. A key is made only for a tenant or partner that has none, which is known from a
/// read that succeeded, never from one that failed.
#[derive(Debug)]
pub(crate) struct Keyring {
    db: Db,
    pub(super) provider: Arc<dyn KeyProvider>,
    clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    /// `None` if nothing may be kept.
    cache: Option<Cache<TenantId, Arc<TenantKeys>>>,
}

/// The keys of one tenant, open. The newest seals, all of them open.
#[derive(Debug)]
pub(crate) struct TenantKeys {
    newest: String,
    keys: HashMap<String, Aead>,
    random: Arc<dyn Random>,
}

impl TenantKeys {
    /// Seals a value in its slot, under a data key of its own.
    pub(crate) fn seal(&self, slot: &Slot<'_>, plaintext: &[u8]) -> Result<Sealed> {
        seal::seal(slot, (&self.newest, self.newest()?), plaintext, self.random.as_ref())
    }

    /// Opens what was sealed in that slot.
    pub(crate) fn open(&self, slot: &Slot<'_>, sealed: &Sealed) -> Result<Secret> {
        let key = self.keys.get(&sealed.key_id);
        let key =
            key.ok_or_else(|| Error::internal(format!("no tenant key {} in the keyring", sealed.key_id)))?;
        seal::open(slot, key, sealed)
    }

    /// Seals something small that goes to a caller and comes back: a cursor.
    pub(crate) fn seal_token(&self, purpose: &str, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>> {
        self.newest()?.derive(purpose)?.seal(aad, plaintext, self.random.as_ref())
    }

    /// Opens what [`seal_token`](Self::seal_token) made, also under a key that is no longer the newest.
    pub(crate) fn open_token(&self, purpose: &str, aad: &[u8], sealed: &[u8]) -> Result<Option<Secret>> {
        for key in self.keys.values() {
            if let Some(opened) = key.derive(purpose)?.open(aad, sealed) {
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    fn newest(&self) -> Result<&Aead> {
        self.keys.get(&self.newest).ok_or_else(|| Error::internal("a tenant without a key"))
    }
}

impl Keyring {
    pub(crate) fn new(
        db: Db,
        provider: Arc<dyn KeyProvider>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        ttl: Duration,
    ) -> Self {
        let cache =
            (!ttl.is_zero()).then(|| Cache::builder().max_capacity(CACHED_TENANTS).time_to_live(ttl).build());
        Self { db, provider, clock, random, cache }
    }

    /// The open keys of a tenant, made on first use. The tenant's row must exist.
    pub(crate) async fn tenant(&self, tenant: &TenantId, partner: &PartnerId) -> Result<Arc<TenantKeys>> {
        let Some(cache) = &self.cache else {
            return self.load(tenant, partner).await.map(Arc::new);
        };
        if let Some(keys) = cache.get(tenant).await {
            return Ok(keys);
        }
        let load = async { self.load(tenant, partner).await.map(Arc::new) };
        cache.try_get_with(tenant.clone(), load).await.map_err(Error::shared)
    }

    /// Drops the keys whose time is over.
    pub(crate) async fn forget_expired(&self) {
        if let Some(cache) = &self.cache {
            cache.run_pending_tasks().await;
        }
    }

    /// Asks the provider for a round trip.
    pub(crate) async fn health(&self) -> Result<()> {
        self.provider.health().await?;
        Ok(())
    }

    async fn load(&self, tenant: &TenantId, partner: &PartnerId) -> Result<TenantKeys> {
        let mut rows: Vec<TenantKeyRow> = self.db.fetch_all(select_tenant_keys(tenant)).await?;
        if rows.is_empty() {
            self.create_tenant_key(tenant, partner).await?;
            rows = self.db.fetch_all(select_tenant_keys(tenant)).await?;
        }
        let mut partners: HashMap<String, Aead> = HashMap::new();
        let mut keys = HashMap::new();
        for row in &rows {
            if !partners.contains_key(&row.partner_key_id) {
                partners.insert(row.partner_key_id.clone(), self.open_partner_key(partner, row).await?);
            }
            let key = partners[&row.partner_key_id]
                .open(&tenant_key_aad(tenant, &row.id, row.version), &row.wrapped)
                .and_then(|key| SecretKey::from_slice(key.expose()))
                .ok_or_else(|| {
                    Error::internal(format!("tenant key {} does not open under its partner key", row.id))
                })?;
            keys.insert(row.id.clone(), Aead::new(key)?);
        }
        // Rows come oldest first.
        let newest = rows.pop().ok_or_else(|| Error::internal("a tenant without a key"))?.id;
        Ok(TenantKeys { newest, keys, random: self.random.clone() })
    }

    async fn open_partner_key(&self, partner: &PartnerId, row: &TenantKeyRow) -> Result<Aead> {
        let wrapped = WrappedKey::from_bytes(&row.partner_wrapped)?;
        let context = partner_context(partner, &row.partner_key_id, row.partner_version);
        Aead::new(self.provider.unwrap(&wrapped, &context).await?)
    }

    /// Makes the first key of a tenant. Of two replicas that do so at once, one wins and both read its key.
    async fn create_tenant_key(&self, tenant: &TenantId, partner: &PartnerId) -> Result<()> {
        let partner_key = self.newest_partner_key(partner).await?;
        let context = partner_context(partner, &partner_key.id, partner_key.version);
        let opened =
            Aead::new(self.provider.unwrap(&WrappedKey::from_bytes(&partner_key.wrapped)?, &context).await?)?;
        let now = self.clock.now();
        let id = id::new("tk_", now, self.random.as_ref())?;
        let wrapped = opened.seal(
            &tenant_key_aad(tenant, &id, 1),
            SecretKey::generate()?.expose(),
            self.random.as_ref(),
        )?;
        let insert = query(sql::INSERT_TENANT_KEY)
            .bind(&id)
            .bind(tenant)
            .bind(1)
            .bind(&partner_key.id)
            .bind(&wrapped)
            .bind(now);
        self.db.execute(insert).await?;
        Ok(())
    }

    async fn newest_partner_key(&self, partner: &PartnerId) -> Result<PartnerKeyRow> {
        let select = || query(sql::NEWEST_PARTNER_KEY).bind(partner);
        if let Some(row) = self.db.fetch_optional(select()).await? {
            return Ok(row);
        }
        let now = self.clock.now();
        let id = id::new("pk_", now, self.random.as_ref())?;
        let wrapped =
            self.provider.wrap(&SecretKey::generate()?, &partner_context(partner, &id, 1)).await?.to_bytes();
        let insert = query(sql::INSERT_PARTNER_KEY).bind(&id).bind(partner).bind(1).bind(&wrapped).bind(now);
        self.db.execute(insert).await?;
        self.db.fetch_optional(select()).await?.ok_or_else(|| Error::internal("a partner key vanished"))
    }
}

/// Whether any partner key was ever wrapped for this database.
pub(crate) async fn holds_keys(db: &Db) -> Result<bool> {
    Ok(db.fetch_optional::<(i64,)>(query(sql::COUNT_PARTNER_KEYS)).await?.is_some_and(|(n,)| n > 0))
}

/// Tenants whose keys are kept open at once.
const CACHED_TENANTS: u64 = 10_000;

/// What the provider binds a partner key to.
fn partner_context(partner: &PartnerId, key_id: &str, version: i64) -> Context {
    Context::new()
        .with("scaivault", "partner-key")
        .with("partner", partner.as_str())
        .with("key", key_id)
        .with("version", version.to_string())
}

fn tenant_key_aad(tenant: &TenantId, key_id: &str, version: i64) -> Vec<u8> {
    Context::new()
        .with("scaivault", "tenant-key")
        .with("tenant", tenant.as_str())
        .with("key", key_id)
        .with("version", version.to_string())
        .to_aad()
}

#[derive(sqlx::FromRow)]
struct PartnerKeyRow {
    id: String,
    version: i64,
    wrapped: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct TenantKeyRow {
    id: String,
    version: i64,
    wrapped: Vec<u8>,
    partner_key_id: String,
    partner_version: i64,
    partner_wrapped: Vec<u8>,
}

fn select_tenant_keys(tenant: &TenantId) -> Query<'_> {
    query(sql::TENANT_KEYS).bind(tenant)
}

pub(crate) mod sql {
    pub(crate) const TENANT_KEYS: &str = "\
        SELECT t.id, t.version, t.wrapped, t.partner_key_id, p.version AS partner_version, p.wrapped AS partner_wrapped \
        FROM tenant_key t JOIN partner_key p ON p.id = t.partner_key_id \
        WHERE t.tenant_id = $1 ORDER BY t.version";
    pub(crate) const INSERT_TENANT_KEY: &str = "\
        INSERT INTO tenant_key (id, tenant_id, version, partner_key_id, wrapped, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, version) DO NOTHING";
    pub(crate) const NEWEST_PARTNER_KEY: &str = "\
        SELECT id, version, wrapped FROM partner_key WHERE partner_id = $1 ORDER BY version DESC LIMIT 1";
    pub(crate) const INSERT_PARTNER_KEY: &str = "\
        INSERT INTO partner_key (id, partner_id, version, wrapped, created_at) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (partner_id, version) DO NOTHING";
    pub(crate) const COUNT_PARTNER_KEYS: &str = "SELECT count(*) FROM partner_key";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] =
        &[COUNT_PARTNER_KEYS, TENANT_KEYS, INSERT_TENANT_KEY, NEWEST_PARTNER_KEY, INSERT_PARTNER_KEY];
}
