use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use moka::{Entry, Expiry, future::Cache, ops::compute::Op};
use scaivault_kms::{Context, Secret, SecretKey};
use time::OffsetDateTime;

use super::{
    locked::{KeptKey, KeyMemory},
    recovery::RecoveryPublic,
    roots::Roots,
    seal::{self, Aead, Sealed, Slot},
    store::{self, PartnerKeyRow, TenantKeyRow},
    wear::{Stock, used_up},
    wraps::Wraps,
};
use crate::{
    Clock, Error, PartnerId, Random, Result, TenantId, id, limits,
    storage::{As, Db, On},
};

/// A new key could not be stored, since every root key that wrapped it was removed before.
pub(crate) fn never_held() -> Error {
    let source = "the root key that wrapped a new key was removed, again and again";
    Error::unavailable("The key service is not available.", Duration::from_secs(1), source)
}

/// Finds, makes and keeps the keys between the root key and the rows.
///
/// Unwrapped keys stay in memory for at most the configured time, counted from the call to the provider that
/// opened them; concurrent misses of one key make one call. A key is made only for a tenant or partner that
/// has none, which is known from a read that succeeded, never from one that failed.
#[derive(Debug)]
pub(crate) struct Keyring {
    db: Db,
    roots: Roots,
    /// The public key of the recovery root, since it was last opened.
    recovery: Mutex<Option<RecoveryPublic>>,
    clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    ttl: Duration,
    memory: KeyMemory,
    /// What this process may still seal, by tenant key; not secret, and outlives the keys.
    stocks: Cache<String, Arc<Stock>>,
    /// `None` if nothing may be kept.
    cache: Option<Caches>,
}

#[derive(Debug)]
struct Caches {
    partners: Cache<(PartnerId, String), Arc<PartnerKey>>,
    tenants: Cache<TenantId, Arc<TenantKeys>>,
}

/// A partner key, open.
#[derive(Debug)]
pub(super) struct PartnerKey {
    key: KeptKey,
    until: Until,
}

impl PartnerKey {
    pub(super) fn aead(&self) -> Result<Aead> {
        self.key.aead()
    }
}

/// When a key is to be forgotten: by the time that only runs forward, and by the vault's clock, whichever is
/// first. So a clock that is set back keeps no key longer.
#[derive(Clone, Copy, Debug)]
struct Until {
    instant: Instant,
    clock: OffsetDateTime,
}

impl Until {
    fn first(self, other: Self) -> Self {
        Self { instant: self.instant.min(other.instant), clock: self.clock.min(other.clock) }
    }
}

/// A tenant key, open.
#[derive(Debug)]
struct TenantKey {
    key: KeptKey,
    stock: Arc<Stock>,
}

/// The keys of one tenant, open. The newest seals, all of them open.
#[derive(Debug)]
pub(crate) struct TenantKeys {
    newest: String,
    /// What seals cursors: the newest key that every replica must have read by now, so that a cursor that
    /// one gave out opens at any other.
    token: String,
    keys: HashMap<String, TenantKey>,
    until: Until,
    random: Arc<dyn Random>,
}

impl TenantKeys {
    /// Seals a value in its slot, under a data key of its own.
    pub(crate) fn seal(&self, slot: &Slot<'_>, plaintext: &[u8]) -> Result<Sealed> {
        let newest = self.key(&self.newest)?;
        newest.stock.spend()?;
        seal::seal(slot, (&self.newest, &newest.key.aead()?), plaintext, self.random.as_ref())
    }

    /// Opens what was sealed in that slot.
    pub(crate) fn open(&self, slot: &Slot<'_>, sealed: &Sealed) -> Result<Secret> {
        seal::open(slot, &self.key(&sealed.key_id)?.key.aead()?, sealed)
    }

    /// Wraps the data key of a slot anew: it was under `old`, and is under `new` afterwards.
    pub(super) fn rewrap(
        &self,
        slot: &Slot<'_>,
        old: &str,
        new: &str,
        wrapped_key: &[u8],
    ) -> Result<Vec<u8>> {
        let (from, to) = (self.key(old)?, self.key(new)?);
        to.stock.spend()?;
        let (from, to) = ((old, &from.key.aead()?), (new, &to.key.aead()?));
        seal::rewrap(slot, from, to, wrapped_key, self.random.as_ref())
    }

    /// Seals something small that goes to a caller and comes back: a cursor. Each has a key of its own, derived
    /// with what stands before it, so that any number of them wears no key out.
    pub(crate) fn seal_token(&self, purpose: &str, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>> {
        let mut salt = [0; TOKEN_SALT];
        self.random.fill(&mut salt)?;
        let key = self.key(&self.token)?.key.aead()?.derive(purpose, &salt)?;
        let sealed = key.seal(aad, plaintext, self.random.as_ref())?;
        Ok([salt.as_slice(), &sealed].concat())
    }

    /// Opens what [`seal_token`](Self::seal_token) made, also under a key that is no longer the newest.
    pub(crate) fn open_token(&self, purpose: &str, aad: &[u8], sealed: &[u8]) -> Result<Option<Secret>> {
        let Some((salt, sealed)) = sealed.split_first_chunk::<TOKEN_SALT>() else { return Ok(None) };
        for key in self.keys.values() {
            if let Some(opened) = key.key.aead()?.derive(purpose, salt)?.open(aad, sealed) {
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    pub(crate) fn has(&self, key_id: &str) -> bool {
        self.keys.contains_key(key_id)
    }

    fn key(&self, key_id: &str) -> Result<&TenantKey> {
        self.keys.get(key_id).ok_or_else(|| Error::internal(format!("no tenant key {key_id} in the keyring")))
    }
}

impl Keyring {
    pub(crate) fn new(
        db: Db,
        roots: Roots,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        ttl: Duration,
    ) -> Self {
        let cache = (!ttl.is_zero()).then(|| Caches {
            partners: Cache::builder().max_capacity(CACHED_PARTNERS).expire_after(Ends).build(),
            tenants: Cache::builder().max_capacity(CACHED_TENANTS).expire_after(Ends).build(),
        });
        let stocks = Cache::new(2 * CACHED_TENANTS);
        let memory = KeyMemory::new();
        Self { db, roots, recovery: Mutex::default(), clock, random, ttl, memory, stocks, cache }
    }

    /// The open keys of a tenant, made on first use. The tenant's row must exist.
    pub(crate) async fn tenant(&self, tenant: &TenantId, partner: &PartnerId) -> Result<Arc<TenantKeys>> {
        let Some(Caches { tenants, .. }) = &self.cache else {
            return self.load(tenant, partner).await.map(Arc::new);
        };
        if let Some(keys) = tenants.get(tenant).await {
            if self.is_fresh(keys.until) {
                return Ok(keys);
            }
            forget_if(tenants, tenant, |known| !self.is_fresh(known.until)).await;
        }
        let load = async { self.load(tenant, partner).await.map(Arc::new) };
        tenants.try_get_with(tenant.clone(), load).await.map_err(Error::shared)
    }

    /// The same, with `key_id` among them if there is such a key: another replica may have made it since ours
    /// were read. They are read once more then, by one caller for all that wait.
    pub(crate) async fn tenant_with(
        &self,
        tenant: &TenantId,
        partner: &PartnerId,
        key_id: &str,
    ) -> Result<Arc<TenantKeys>> {
        let mut keys = self.tenant(tenant, partner).await?;
        let Some(Caches { tenants, .. }) = &self.cache else { return Ok(keys) };
        // The first time, this may join a read that began before the key was made; the second time it cannot.
        for _ in 0..2 {
            if keys.has(key_id) {
                break;
            }
            forget_if(tenants, tenant, |known| !known.has(key_id)).await;
            keys = self.tenant(tenant, partner).await?;
        }
        Ok(keys)
    }

    /// The open keys of a tenant, the newest of which may seal; with `key_id` among them, if one is given and
    /// there is such a key.
    pub(crate) async fn tenant_to_seal(
        &self,
        tenant: &TenantId,
        partner: &PartnerId,
        key_id: Option<&str>,
    ) -> Result<Arc<TenantKeys>> {
        for _ in 0..2 {
            let keys = match key_id {
                Some(key_id) => self.tenant_with(tenant, partner, key_id).await?,
                None => self.tenant(tenant, partner).await?,
            };
            if self.may_seal(&keys, &keys.newest).await? {
                return Ok(keys);
            }
            // It is used up, or gone: another replica may have replaced it since ours were read.
            self.forget(tenant).await;
        }
        Err(used_up())
    }

    /// Whether a key may go on sealing. Asks the database once in many thousand times.
    pub(super) async fn may_seal(&self, keys: &TenantKeys, key_id: &str) -> Result<bool> {
        keys.key(key_id)?.stock.fill(&self.db, key_id).await
    }

    fn is_fresh(&self, until: Until) -> bool {
        self.clock.now() < until.clock
    }

    /// The end of what is read now.
    fn until(&self) -> Until {
        Until { instant: Instant::now() + self.ttl, clock: self.clock.now() + self.ttl }
    }

    /// Drops the keys whose time is over; without requests nothing else would.
    pub(crate) async fn forget_expired(&self) {
        if let Some(Caches { partners, tenants }) = &self.cache {
            partners.run_pending_tasks().await;
            tenants.run_pending_tasks().await;
        }
    }

    /// How long a key must have been out of use before it is destroyed. In that time every cache of a replica
    /// that is configured as this one has read the keys anew, rows that were read with their old wrap are
    /// open, and the requests that did so have ended.
    pub(crate) fn grace(&self) -> Duration {
        self.ttl.max(limits::KEY_CACHE_TTL) + limits::KEY_IN_FLIGHT
    }

    /// Reads the keys of a tenant anew on their next use.
    pub(crate) async fn forget(&self, tenant: &TenantId) {
        if let Some(Caches { tenants, .. }) = &self.cache {
            tenants.invalidate(tenant).await;
        }
    }

    /// The root keys that the vault is configured with.
    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// How often a provider was called.
    pub(crate) fn provider_calls(&self) -> u64 {
        self.roots.calls()
    }

    pub(super) fn known_recovery(&self) -> Option<RecoveryPublic> {
        self.recovery.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn remember_recovery(&self, public: RecoveryPublic) {
        *self.recovery.lock().unwrap_or_else(PoisonError::into_inner) = Some(public);
    }

    /// What the keys of all partners need.
    pub(super) fn key_db(&self) -> On<'_> {
        self.db.on(As::Keys)
    }

    pub(super) fn random(&self) -> &dyn Random {
        self.random.as_ref()
    }

    /// A partner key, open, from the cache if that may be.
    pub(super) async fn partner_key(
        &self,
        partner: &PartnerId,
        row: &PartnerKeyRow,
    ) -> Result<Arc<PartnerKey>> {
        let open = async { self.unwrap(partner, row).await.map(Arc::new) };
        match &self.cache {
            None => open.await,
            Some(Caches { partners, .. }) => {
                let key = (partner.clone(), row.id.clone());
                forget_if(partners, &key, |known| !self.is_fresh(known.until)).await;
                partners.try_get_with(key, open).await.map_err(Error::shared)
            }
        }
    }

    /// The partner key that seals, made on first use.
    pub(super) async fn newest_partner_key(
        &self,
        partner: &PartnerId,
    ) -> Result<(PartnerKeyRow, Arc<PartnerKey>)> {
        let row = match self.key_db().fetch_optional(store::newest_partner_key(partner)).await? {
            Some(row) => row,
            None => self.first_partner_key(partner).await?,
        };
        let key = self.partner_key(partner, &row).await?;
        Ok((row, key))
    }

    async fn first_partner_key(&self, partner: &PartnerId) -> Result<PartnerKeyRow> {
        for _ in 0..3 {
            let (made, by) = self.new_partner_key(partner, 1).await?;
            let mut tx = self.key_db().begin().await?;
            // A root key that was removed meanwhile may be the only one that has wrapped it.
            let held: Option<(String,)> = tx.fetch_optional(store::hold_root(&by, tx.lock_rows())).await?;
            if held.is_none() {
                continue;
            }
            // Of two replicas that do so at once, one wins and both read its key.
            tx.execute(store::insert_partner_key(partner, &made, self.clock.now())).await?;
            tx.commit().await?;
            let row = self.key_db().fetch_optional(store::newest_partner_key(partner)).await?;
            return row.ok_or_else(|| Error::internal("a partner key vanished"));
        }
        Err(never_held())
    }

    /// A fresh partner key under the root keys, stored nowhere yet; and the row of one of them, which has to be active
    /// when it is stored.
    pub(super) async fn new_partner_key(
        &self,
        partner: &PartnerId,
        version: i64,
    ) -> Result<(PartnerKeyRow, String)> {
        let id = id::new("pk_", self.clock.now(), self.random.as_ref())?;
        let context = partner_context(partner, &id, version);
        let made = self.wrap_new(&SecretKey::generate()?, &context).await?;
        Ok((PartnerKeyRow { id, version, wrapped: made.wraps.to_bytes() }, made.by))
    }

    /// A fresh tenant key under a partner key, stored nowhere yet.
    pub(super) fn new_tenant_key(
        &self,
        tenant: &TenantId,
        version: i64,
        (partner_key_id, partner_key): (&str, &PartnerKey),
    ) -> Result<TenantKeyRow> {
        let id = id::new("tk_", self.clock.now(), self.random.as_ref())?;
        let key = SecretKey::generate()?;
        let aad = tenant_key_aad(tenant, &id, version);
        let wrapped = partner_key.aead()?.seal(&aad, key.expose(), self.random.as_ref())?;
        Ok(TenantKeyRow { id, version, wrapped, partner_key_id: partner_key_id.to_owned() })
    }

    async fn load(&self, tenant: &TenantId, partner: &PartnerId) -> Result<TenantKeys> {
        let mut opened: HashMap<String, Arc<PartnerKey>> = HashMap::new();
        let mut rows = self.db.on(As::Tenant(tenant)).fetch_all(store::tenant_keys(tenant)).await?;
        if rows.is_empty() {
            let (id, key) = self.create_tenant_key(tenant, partner).await?;
            opened.insert(id, key);
            rows = self.db.on(As::Tenant(tenant)).fetch_all(store::tenant_keys(tenant)).await?;
        }
        // The tenant's keys are forgotten with the first of the partner keys that opened them.
        let mut until = self.until();
        let mut keys = HashMap::new();
        for (row, partner_key) in rows.iter().map(store::TenantKeyAndPartner::parts) {
            if !opened.contains_key(&partner_key.id) {
                opened.insert(partner_key.id.clone(), self.partner_key(partner, &partner_key).await?);
            }
            let above = &opened[&partner_key.id];
            until = until.first(above.until);
            let key = self.memory.keep(&open_tenant_key(tenant, &row, &above.aead()?)?);
            let stock = self.stocks.get_with_by_ref(&row.id, async { Arc::default() }).await;
            keys.insert(row.id, TenantKey { key, stock });
        }
        // Rows come oldest first.
        let newest = rows.last().ok_or_else(|| Error::internal("a tenant without a key"))?.id.clone();
        let token = self.token_key(&rows).unwrap_or(&newest).to_owned();
        Ok(TenantKeys { newest, token, keys, until, random: self.random.clone() })
    }

    /// The newest key that is older than any cache; the oldest if there is none.
    fn token_key<'r>(&self, rows: &'r [store::TenantKeyAndPartner]) -> Option<&'r str> {
        let known_since = self.clock.now() - self.grace();
        let everywhere = rows.iter().rev().find(|row| row.created_at.get() <= known_since);
        everywhere.or(rows.first()).map(|row| row.id.as_str())
    }

    /// Makes the first key of a tenant. Of two replicas that do so at once, one wins and both read its key.
    async fn create_tenant_key(
        &self,
        tenant: &TenantId,
        partner: &PartnerId,
    ) -> Result<(String, Arc<PartnerKey>)> {
        loop {
            let (above, partner_key) = self.newest_partner_key(partner).await?;
            let row = self.new_tenant_key(tenant, 1, (&above.id, &partner_key))?;
            match self
                .db
                .on(As::Tenant(tenant))
                .execute(store::insert_tenant_key(tenant, &row, self.clock.now()))
                .await
            {
                Ok(_) => return Ok((above.id, partner_key)),
                // The partner key was replaced and destroyed in between: there is a newer one.
                Err(error) if store::is_reference(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn unwrap(&self, partner: &PartnerId, row: &PartnerKeyRow) -> Result<PartnerKey> {
        let until = self.until();
        let key = self.memory.keep(&self.root_unwrap(partner, row).await?);
        Ok(PartnerKey { key, until })
    }

    /// One call to a root key, and more only if that one fails; past every cache.
    async fn root_unwrap(&self, partner: &PartnerId, row: &PartnerKeyRow) -> Result<SecretKey> {
        let context = partner_context(partner, &row.id, row.version);
        Ok(self.roots.open(&Wraps::from_bytes(&row.wrapped)?, &context).await?)
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }
}

/// Whether any partner key was ever wrapped for this database.
pub(crate) async fn holds_keys(db: &Db) -> Result<bool> {
    Ok(db.on(As::Keys).fetch_optional::<(i64,)>(store::count_partner_keys()).await?.is_some_and(|(n,)| n > 0))
}

/// Tenants whose keys are kept open at once.
const CACHED_TENANTS: u64 = 10_000;
/// Partner keys that are kept open at once.
const CACHED_PARTNERS: u64 = 1_000;

/// Random bytes before a cursor.
const TOKEN_SALT: usize = 16;

/// Takes out what is kept for a key if it is not good; whoever put something else there meanwhile keeps it.
async fn forget_if<K, V>(cache: &Cache<K, Arc<V>>, key: &K, bad: impl Fn(&V) -> bool + Send + Sync)
where
    K: std::hash::Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    if !cache.get(key).await.is_some_and(|known| bad(&known)) {
        return;
    }
    let entry = cache.entry_by_ref(key);
    let take = |entry: Option<Entry<K, Arc<V>>>| {
        let bad = entry.is_some_and(|entry| bad(entry.value()));
        async move { if bad { Op::Remove } else { Op::Nop } }
    };
    entry.and_compute_with(take).await;
}

/// Open keys end when they say so.
#[derive(Debug)]
struct Ends;

trait Held {
    fn until(&self) -> Instant;
}

impl Held for PartnerKey {
    fn until(&self) -> Instant {
        self.until.instant
    }
}

impl Held for TenantKeys {
    fn until(&self) -> Instant {
        self.until.instant
    }
}

impl<K, V: Held> Expiry<K, Arc<V>> for Ends {
    fn expire_after_create(&self, _: &K, value: &Arc<V>, at: Instant) -> Option<Duration> {
        Some(value.until().saturating_duration_since(at))
    }

    fn expire_after_update(
        &self,
        _: &K,
        value: &Arc<V>,
        at: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(value.until().saturating_duration_since(at))
    }
}

/// What the provider binds a partner key to.
pub(super) fn partner_context(partner: &PartnerId, key_id: &str, version: i64) -> Context {
    Context::new()
        .with("scaivault", "partner-key")
        .with("partner", partner.as_str())
        .with("key", key_id)
        .with("version", version.to_string())
}

/// The same tenant key under another partner key.
pub(super) fn rewrap_tenant_key(
    tenant: &TenantId,
    row: &TenantKeyRow,
    (old, new): (&PartnerKey, &PartnerKey),
    random: &dyn Random,
) -> Result<Vec<u8>> {
    let key = open_tenant_key(tenant, row, &old.aead()?)?;
    new.aead()?.seal(&tenant_key_aad(tenant, &row.id, row.version), key.expose(), random)
}

pub(super) fn open_tenant_key(tenant: &TenantId, row: &TenantKeyRow, above: &Aead) -> Result<SecretKey> {
    above
        .open(&tenant_key_aad(tenant, &row.id, row.version), &row.wrapped)
        .and_then(|key| SecretKey::from_slice(key.expose()))
        .ok_or_else(|| Error::internal(format!("tenant key {} does not open under its partner key", row.id)))
}

fn tenant_key_aad(tenant: &TenantId, key_id: &str, version: i64) -> Vec<u8> {
    Context::new()
        .with("scaivault", "tenant-key")
        .with("tenant", tenant.as_str())
        .with("key", key_id)
        .with("version", version.to_string())
        .to_aad()
}
