use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use scaivault_kms::{
    Context, Description, Health, KeyProvider, KmsError, SecretKey, WrappedKey,
    local::{KeyFile, LocalProvider},
};
use time::{OffsetDateTime, macros::datetime};
use tokio::task::JoinHandle;

use crate::{
    Caller, Clock, Ctx, Database, PartnerId, Role, Scope, TenantId, Vault, pki,
    secrets::{SecretData, SecretPath, SecretWrite},
    storage::{Arg, As, Db, Query, Row, query},
};

/// A database, a clock and a root key, on which several replicas may stand.
pub(super) struct Ground {
    pub(super) database: Database,
    pub(super) clock: Arc<TestClock>,
    pub(super) provider: Arc<Counting>,
    folder: Option<tempfile::TempDir>,
}

impl Ground {
    pub(super) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::on(Database::sqlite(folder.path().join("vault.db")), Some(folder))
    }

    #[cfg(feature = "postgres")]
    pub(super) async fn postgres() -> Option<Self> {
        use sqlx::{AssertSqlSafe, Executor as _};
        #[expect(clippy::disallowed_methods, reason = "which server to test on is the environment's to say")]
        let server = std::env::var("SCAIVAULT_TEST_POSTGRES").ok()?;
        let name = crate::id::new("keys_", SystemNow::now(), &crate::SystemRandom).unwrap();
        let pool = sqlx::PgPool::connect(&server).await.unwrap();
        pool.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        pool.close().await;
        let base = server.rsplit_once('/').unwrap().0;
        Some(Self::on(Database::postgres(&format!("{base}/{name}"), 8).unwrap(), None))
    }

    /// A vault on SQLite with the same root key and clock, and five secrets in it.
    pub(super) async fn sqlite_with(other: &Self) -> Self {
        let mut ground = Self::sqlite();
        (ground.provider, ground.clock) = (other.provider.clone(), other.clock.clone());
        let vault = ground.replica(Duration::from_secs(60)).await;
        fill(&vault, &tenant("tnt_acme"), 5).await;
        vault.close().await;
        ground
    }

    /// Copies what the tables of the first schema need to hold a secret.
    pub(super) async fn copy_first_schema(&self, to: &Db) {
        let from = Db::open(&self.database).await.unwrap();
        let at = self.clock.now();
        let all = query("SELECT tenant_id, partner_id FROM tenant");
        for (tenant, partner) in from.on(As::Jobs).fetch_all::<(String, String)>(all).await.unwrap() {
            let insert = "INSERT INTO tenant (tenant_id, partner_id, partner_named, created_at) VALUES ($1, $2, TRUE, $3)";
            to.on(As::Jobs).execute(query(insert).bind(tenant).bind(partner).bind(at)).await.unwrap();
        }
        let all = query("SELECT id, partner_id, wrapped FROM partner_key");
        for (id, partner, wrapped) in
            from.on(As::Jobs).fetch_all::<(String, String, Vec<u8>)>(all).await.unwrap()
        {
            let insert = "INSERT INTO partner_key (id, partner_id, version, wrapped, created_at) VALUES ($1, $2, 1, $3, $4)";
            to.on(As::Jobs)
                .execute(query(insert).bind(id).bind(partner).bind(&wrapped).bind(at))
                .await
                .unwrap();
        }
        let all = query("SELECT id, tenant_id, partner_key_id, wrapped FROM tenant_key");
        for (id, tenant, above, wrapped) in
            from.on(As::Jobs).fetch_all::<(String, String, String, Vec<u8>)>(all).await.unwrap()
        {
            let insert = "INSERT INTO tenant_key (id, tenant_id, version, partner_key_id, wrapped, created_at)                           VALUES ($1, $2, 1, $3, $4, $5)";
            let insert = query(insert).bind(id).bind(tenant).bind(above).bind(&wrapped).bind(at);
            to.on(As::Jobs).execute(insert).await.unwrap();
        }
        let all = query("SELECT tenant_id, path, id FROM secret");
        for (tenant, path, id) in from.on(As::Jobs).fetch_all::<(String, String, String)>(all).await.unwrap()
        {
            let insert = "INSERT INTO secret (tenant_id, path, id, secret_type, current_version, max_versions, metadata,                           notify_before, created_at, updated_at) VALUES ($1, $2, $3, 'kv', 1, 10, $4, '14d', $5, $5)";
            let metadata = Arg::Json(serde_json::json!({}));
            let insert = query(insert).bind(tenant).bind(path).bind(id).bind(metadata).bind(at);
            to.on(As::Jobs).execute(insert).await.unwrap();
        }
        type Version = (String, String, Vec<u8>, Vec<u8>, String);
        let all = query("SELECT tenant_id, secret_id, ciphertext, wrapped_key, key_id FROM secret_version");
        for (tenant, id, ciphertext, wrapped, key) in
            from.on(As::Jobs).fetch_all::<Version>(all).await.unwrap()
        {
            let insert = "INSERT INTO secret_version (tenant_id, secret_id, version, ciphertext, wrapped_key, key_id,                           created_at, created_by) VALUES ($1, $2, 1, $3, $4, $5, $6, 'user:alice')";
            let insert =
                query(insert).bind(tenant).bind(id).bind(&ciphertext).bind(&wrapped).bind(key).bind(at);
            to.on(As::Jobs).execute(insert).await.unwrap();
        }
        from.close().await;
    }

    fn on(database: Database, folder: Option<tempfile::TempDir>) -> Self {
        let provider = Arc::new(Counting::new(LocalProvider::new(KeyFile::generate().unwrap())));
        Self { database, clock: Arc::new(TestClock::new()), provider, folder }
    }

    /// A replica that keeps keys for this long.
    pub(super) async fn replica(&self, ttl: Duration) -> Vault {
        self.replica_with(self.provider.clone(), ttl).await
    }

    /// One whose clock does not move with the ground's.
    pub(super) async fn replica_that_lags(&self, ttl: Duration) -> Vault {
        let builder = Vault::builder(self.database.clone(), self.provider.clone());
        builder
            .allow_unfenced(true)
            .clock(Arc::new(TestClock::new()))
            .key_cache_ttl(ttl)
            .open()
            .await
            .unwrap()
    }

    /// SQLite's file, if it is that.
    pub(super) fn file(&self) -> Option<std::path::PathBuf> {
        self.folder.as_ref().map(|folder| folder.path().join("vault.db"))
    }

    pub(super) async fn replica_with(&self, provider: Arc<dyn KeyProvider>, ttl: Duration) -> Vault {
        let builder = Vault::builder(self.database.clone(), provider);
        builder.allow_unfenced(true).clock(self.clock.clone()).key_cache_ttl(ttl).open().await.unwrap()
    }
}

#[cfg(feature = "postgres")]
struct SystemNow;

#[cfg(feature = "postgres")]
impl SystemNow {
    fn now() -> OffsetDateTime {
        crate::SystemClock.now()
    }
}

/// Stands still until it is moved.
#[derive(Debug)]
pub(super) struct TestClock(Mutex<OffsetDateTime>);

impl TestClock {
    fn new() -> Self {
        Self(Mutex::new(datetime!(2026-11-22 04:00 UTC)))
    }

    pub(super) fn forward(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

/// Counts the calls that take a key out, and can be switched off.
#[derive(Debug)]
pub(super) struct Counting {
    inner: LocalProvider,
    unwraps: AtomicU64,
    down: AtomicBool,
}

impl Counting {
    pub(super) fn new(inner: LocalProvider) -> Self {
        Self { inner, unwraps: AtomicU64::new(0), down: AtomicBool::new(false) }
    }

    /// How many since it was asked last.
    pub(super) fn unwraps(&self) -> u64 {
        self.unwraps.swap(0, Ordering::SeqCst)
    }

    pub(super) fn switch_off(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }
}

#[async_trait]
impl KeyProvider for Counting {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        self.inner.wrap(key, context).await
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        self.unwraps.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            let message = "switched off".to_owned();
            return Err(KmsError::Unavailable { provider: "test", message, retry_after: None, source: None });
        }
        // Long enough for others to come while a call is under way.
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.inner.unwrap(wrapped, context).await
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.inner.health().await
    }
}

pub(super) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

/// Somebody who may do everything with the tenant's secrets and CAs, and nothing with keys.
pub(super) fn user(vault: &Vault, tenant: &TenantId) -> Ctx {
    let caller = Caller::user("user:alice", tenant.clone()).unwrap();
    let caller = caller.with_roles([Role::TenantAdmin]).with_scopes([Scope::Admin]);
    vault.ctx(caller.with_partner(PartnerId::parse("ptn_acme").unwrap())).unwrap()
}

pub(super) fn operator(vault: &Vault) -> Ctx {
    vault.ctx(Caller::system("key-rotation", tenant("tnt_operator")).unwrap()).unwrap()
}

pub(super) async fn put(vault: &Vault, ctx: &Ctx, path: &str, value: &str) -> crate::Result<()> {
    let data = SecretData::from_value(&serde_json::json!({"v": value})).unwrap();
    vault.secrets(ctx).put(&SecretPath::parse(path).unwrap(), SecretWrite::new(data)).await.map(drop)
}

pub(super) async fn get(vault: &Vault, ctx: &Ctx, path: &str) -> crate::Result<String> {
    let read = vault.secrets(ctx).get(&SecretPath::parse(path).unwrap(), None).await?;
    Ok(read.data.decode::<serde_json::Value>().unwrap()["v"].as_str().unwrap().to_owned())
}

/// A CA, and two roles under it: `svc`, and `kept`, which keeps the keys of its certificates.
pub(super) async fn authority(vault: &Vault, ctx: &Ctx) -> pki::Ca {
    let create = pki::CaCreate {
        name: "acme-root".into(),
        common_name: "Acme Root".into(),
        ca_type: pki::CaType::Root,
        parent_ca_id: None,
        key_type: Some(pki::KeyType::Ec),
        key_size: Some(256),
        validity_days: None,
        subject: Default::default(),
        max_path_length: None,
        key_provider: None,
        key_ref: None,
        name_constraints: None,
        policies: Vec::new(),
        external: false,
        crl_shards: None,
        delta_crls: false,
        keep_expired_on_crl: false,
    };
    let ca = vault.pki(ctx).create_ca(create).await.unwrap();
    for (name, keeps) in [("svc", false), ("kept", true)] {
        let settings = pki::RolePatch {
            allowed_domains: Some(vec!["*.acme.example".into()]),
            store_private_keys: Some(keeps),
            ..Default::default()
        };
        vault.pki(ctx).create_role(pki::RoleWrite::new(name, &ca.id, settings)).await.unwrap();
    }
    ca
}

pub(super) fn leaf() -> pki::IssueWrite {
    pki::IssueWrite { common_name: Some("a.acme.example".into()), ..Default::default() }
}

/// Many secrets at once, without a flush each: copies of one row would not open, so they are written by the
/// vault, in parallel.
pub(super) async fn fill(vault: &Vault, tenant: &TenantId, count: usize) {
    let tasks: Vec<_> = (0..8)
        .map(|worker| {
            let (vault, tenant) = (vault.clone(), tenant.clone());
            tokio::spawn(async move {
                let ctx = user(&vault, &tenant);
                for i in (worker..count).step_by(8) {
                    put(&vault, &ctx, &format!("app/s{i:05}"), &format!("value {i}")).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

pub(super) async fn rows<R: Row>(vault: &Vault, query: Query<'_>) -> Vec<R> {
    vault.inner().door.job_db().fetch_all(query).await.unwrap()
}

pub(super) async fn execute(vault: &Vault, query: Query<'_>) -> u64 {
    vault.inner().door.job_db().execute(query).await.unwrap()
}

/// Every sealed value there is, by its place.
pub(super) async fn ciphertexts(vault: &Vault) -> BTreeMap<String, Vec<u8>> {
    let all = "SELECT secret_id || '/' || CAST(version AS TEXT), ciphertext FROM secret_version \
               UNION ALL SELECT id, key_ciphertext FROM pki_ca \
               UNION ALL SELECT id, key_ciphertext FROM pki_certificate WHERE key_ciphertext IS NOT NULL \
               UNION ALL SELECT 'numbering ' || id, key_ciphertext FROM pki_numbering";
    rows::<(String, Vec<u8>)>(vault, query(all)).await.into_iter().collect()
}

/// The tenant keys, oldest first.
pub(super) async fn tenant_keys(vault: &Vault, tenant: &TenantId) -> Vec<String> {
    let all = query("SELECT id FROM tenant_key WHERE tenant_id = $1 ORDER BY version").bind(tenant);
    rows::<(String,)>(vault, all).await.into_iter().map(|(id,)| id).collect()
}

/// Readers and writers that go on until they are stopped, and must not see one failure.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<u64>>,
}

impl Load {
    pub(super) fn start(vaults: &[&Vault], tenant: &TenantId, secrets: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for (n, vault) in vaults.iter().enumerate() {
            for writes in [false, true] {
                let (vault, tenant, stop) = ((*vault).clone(), tenant.clone(), stop.clone());
                tasks.push(tokio::spawn(async move {
                    let ctx = user(&vault, &tenant);
                    let mut done = 0;
                    while !stop.load(Ordering::SeqCst) {
                        let i = (done as usize * 7 + n) % secrets;
                        if writes {
                            let path = format!("load/w{n}-{}", done % 20);
                            put(&vault, &ctx, &path, &format!("value {done}")).await.unwrap();
                            let read = get(&vault, &ctx, &path).await.unwrap();
                            assert_eq!(read, format!("value {done}"));
                        } else {
                            let read = get(&vault, &ctx, &format!("app/s{i:05}")).await.unwrap();
                            assert_eq!(read, format!("value {i}"));
                        }
                        done += 1;
                    }
                    done
                }));
            }
        }
        Self { stop, tasks }
    }

    /// How many requests there were; each of them was answered.
    pub(super) async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        let mut done = 0;
        for task in self.tasks {
            done += task.await.expect("no request fails while keys are rotated");
        }
        done
    }
}
