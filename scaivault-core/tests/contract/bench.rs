//! A vault to try things on: its own database, a clock that tests move, callers, and a look behind the
//! verbs by plain SQL.

use std::{
    future::Future,
    io::Write as _,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use scaivault_core::{
    Caller, Clock, Code, Ctx, Database, Error, IdentityType, Random, Result, Role, RolePasswords, Scope,
    SystemRandom, TenantId, Vault, VaultBuilder,
    policy::{Binding, BindingWrite, Policy, PolicyDocument, PolicyWrite, RuleWrite},
    secrets::{SecretData, SecretPath, SecretWrite, Written},
};
use scaivault_kms::{
    KeyProvider, SecretKey,
    local::{KeyFile, LocalProvider},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row as _, postgres::PgPoolOptions, sqlite::SqlitePoolOptions};
use time::{OffsetDateTime, macros::datetime};

pub(crate) const ACME: &str = "tnt_acme";
pub(crate) const OTHER: &str = "tnt_other";

/// Stamps a test out over both databases.
macro_rules! contract {
    ($(async fn $name:ident($bench:ident: Bench) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports, clippy::allow_attributes, reason = "not every test uses all of its room")]
            use super::*;

            async fn run($bench: crate::bench::Bench) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                crate::bench::on_sqlite(run).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                crate::bench::on_postgres(run).await;
            }
        }
    )+};
}
pub(crate) use contract;

/// Identifiers that sort in the order they were made in although the clock stands still: a count is in front of
/// the ten random bytes that one ends in. Everything else is random.
#[derive(Debug)]
struct InOrder;

impl Random for InOrder {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SystemRandom.fill(bytes)?;
        if bytes.len() == 10 {
            bytes[..4].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        }
        Ok(())
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct TestClock(Mutex<OffsetDateTime>);

impl TestClock {
    pub(crate) fn at(time: OffsetDateTime) -> Arc<Self> {
        Arc::new(Self(Mutex::new(time)))
    }

    pub(crate) fn advance(&self, by: impl Into<Duration>) {
        *self.0.lock().unwrap() += by.into();
    }

    pub(crate) fn set(&self, to: OffsetDateTime) {
        *self.0.lock().unwrap() = to;
    }
}

impl Clock for TestClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) vault: Vault,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) raw: Raw,
    pub(crate) database: Database,
    /// Where a SQLite database lies.
    pub(crate) folder: Option<std::path::PathBuf>,
    /// The database on PostgreSQL.
    pub(crate) scratch: Option<Arc<Scratch>>,
}

impl Bench {
    async fn new(database: Database, raw: Raw, folder: Option<std::path::PathBuf>) -> Self {
        let clock = TestClock::at(datetime!(2026-04-23 18:00 UTC));
        let builder = settings(database.clone(), root_key(7), clock.clone());
        let vault = builder.open().await.unwrap();
        // Records of changes may still wait for their place in the chain.
        let columns = "tenant_id, id, timestamp, action, identity_id, acting_tenant_id, secret_path, resource_id, success, \
             error_code, duration_ms, request_id, extra_data";
        raw.execute(&format!(
            "CREATE VIEW audit_trail AS SELECT {columns} FROM audit_log UNION ALL SELECT {columns} FROM audit_intake"
        ))
        .await;
        Self { vault, clock, raw, database, folder, scratch: None }
    }

    /// Another vault over the same database, with the same clock and root key.
    pub(crate) async fn replica(&self) -> Vault {
        self.builder(root_key(7)).open().await.unwrap()
    }

    pub(crate) fn builder(&self, provider: Arc<dyn KeyProvider>) -> VaultBuilder {
        settings(self.database.clone(), provider, self.clock.clone())
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// A new request of somebody.
    pub(crate) fn ctx(&self, caller: Caller) -> Ctx {
        self.vault.ctx(caller).unwrap()
    }

    /// A new request of the administrator of the first tenant.
    pub(crate) fn admin(&self) -> Ctx {
        self.admin_of(ACME)
    }

    pub(crate) fn admin_of(&self, tenant_id: &str) -> Ctx {
        let caller = Caller::user("user:admin", tenant(tenant_id)).unwrap();
        self.ctx(caller.with_scopes([Scope::Admin]).with_roles([Role::TenantAdmin]))
    }

    /// A new request of somebody without a role who has every scope: only policies stand in his way.
    pub(crate) fn user(&self, id: &str) -> Ctx {
        self.ctx(user(id).with_scopes([Scope::Admin]))
    }

    pub(crate) fn scoped(&self, id: &str, scopes: &[Scope]) -> Ctx {
        self.ctx(user(id).with_scopes(scopes.iter().copied()))
    }

    /// A policy of one rule, bound to a user.
    pub(crate) async fn grant(&self, id: &str, pattern: &str, permissions: &[&str]) -> (Policy, Binding) {
        let admin = self.admin();
        let name = format!("grant {}", self.admin().request_id().replace('_', "-"));
        let document = policy(&name, &[(pattern, permissions)]);
        let policy = self.vault.policies(&admin).create(document).await.unwrap();
        let bind = bind_user(id);
        let (binding, _) = self.vault.policies(&self.admin()).bind(&policy.id, bind).await.unwrap();
        (policy, binding)
    }

    /// The same, with conditions.
    pub(crate) async fn grant_if(
        &self,
        id: &str,
        pattern: &str,
        permissions: &[&str],
        conditions: Value,
    ) -> Policy {
        let admin = self.admin();
        let name = format!("grant {}", self.admin().request_id().replace('_', "-"));
        let document = conditional(&name, pattern, permissions, conditions);
        let policy = self.vault.policies(&admin).create(document).await.unwrap();
        self.vault.policies(&self.admin()).bind(&policy.id, bind_user(id)).await.unwrap();
        policy
    }

    pub(crate) async fn put(&self, at: &str, data: Value) -> Written {
        self.vault.secrets(&self.admin()).put(&path(at), write(data)).await.unwrap()
    }

    pub(crate) async fn get(&self, at: &str) -> Result<Value> {
        self.vault.secrets(&self.admin()).get(&path(at), None).await?.data.decode()
    }

    /// What the trail has of one request, oldest first.
    pub(crate) async fn trail(&self, ctx: &Ctx) -> Vec<Trail> {
        let id = ctx.request_id();
        self.raw.trail(&format!("request_id = '{id}'")).await
    }
}

fn settings(database: Database, provider: Arc<dyn KeyProvider>, clock: Arc<TestClock>) -> VaultBuilder {
    Vault::builder(database, provider).clock(clock).random(Arc::new(InOrder)).base_url("https://vault.test/")
}

pub(crate) fn root_key(byte: u8) -> Arc<dyn KeyProvider> {
    let key = SecretKey::from_slice(&[byte; 32]).unwrap();
    Arc::new(LocalProvider::new(KeyFile::from_key(key)))
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

pub(crate) fn user(id: &str) -> Caller {
    Caller::user(id, tenant(ACME)).unwrap()
}

pub(crate) fn path(path: &str) -> SecretPath {
    SecretPath::parse(path).unwrap()
}

pub(crate) fn write(data: Value) -> SecretWrite {
    SecretWrite::new(SecretData::from_value(&data).unwrap())
}

/// A write whose value nobody looks at.
pub(crate) fn any() -> SecretWrite {
    write(json!({"k": "v"}))
}

pub(crate) fn rule(pattern: &str, permissions: &[&str]) -> RuleWrite {
    let permissions = permissions.iter().map(|&p| p.to_owned()).collect();
    RuleWrite { path_pattern: pattern.to_owned(), permissions, conditions: None }
}

pub(crate) fn policy(name: &str, rules: &[(&str, &[&str])]) -> PolicyDocument {
    let rules = rules.iter().map(|(pattern, permissions)| rule(pattern, permissions)).collect();
    PolicyDocument::parse(PolicyWrite { name: name.to_owned(), description: None, rules }).unwrap()
}

/// A policy of one rule with conditions.
pub(crate) fn conditional(
    name: &str,
    pattern: &str,
    permissions: &[&str],
    conditions: Value,
) -> PolicyDocument {
    let rules = vec![RuleWrite { conditions: Some(conditions), ..rule(pattern, permissions) }];
    PolicyDocument::parse(PolicyWrite { name: name.to_owned(), description: None, rules }).unwrap()
}

pub(crate) fn bind_user(id: &str) -> BindingWrite {
    BindingWrite {
        tenant_id: None,
        identity_type: IdentityType::User,
        identity_id: id.to_owned(),
        expires_at: None,
    }
}

/// The code of an error that must have come.
#[track_caller]
pub(crate) fn code<T>(result: Result<T>) -> Code {
    refusal(result).code()
}

#[track_caller]
pub(crate) fn refusal<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("this had to be refused"),
        Err(error) => error,
    }
}

/// A record of the audit trail.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trail {
    pub(crate) action: String,
    /// `ok`, or the error's code.
    pub(crate) outcome: String,
    pub(crate) tenant: String,
    pub(crate) acting_tenant: String,
    pub(crate) identity: String,
    pub(crate) path: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) extra: Value,
}

/// The database itself, past the vault.
#[derive(Clone)]
pub(crate) enum Raw {
    Lite(sqlx::SqlitePool),
    Pg(sqlx::PgPool),
}

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        Self::Pg(PgPoolOptions::new().max_connections(1).connect(url).await.unwrap())
    }

    /// Every row, every column as text.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Lite(pool) => {
                let rows = sqlx::query(sql).fetch_all(pool).await.unwrap();
                rows.iter().map(|row| (0..row.len()).map(|i| row.get(i)).collect()).collect()
            }
            Self::Pg(pool) => {
                let rows = sqlx::query(sql).fetch_all(pool).await.unwrap();
                rows.iter().map(|row| (0..row.len()).map(|i| row.get(i)).collect()).collect()
            }
        }
    }

    /// The first column, as text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        self.rows(sql).await.into_iter().map(|mut row| row.remove(0).unwrap_or_default()).collect()
    }

    pub(crate) async fn count(&self, from: &str) -> usize {
        self.texts(&format!("SELECT CAST(count(*) AS TEXT) FROM {from}")).await[0].parse().unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Lite(pool) => sqlx::query(sql).execute(pool).await.unwrap().rows_affected(),
            Self::Pg(pool) => sqlx::query(sql).execute(pool).await.unwrap().rows_affected(),
        }
    }

    pub(crate) async fn try_execute(&self, sql: &str) -> sqlx::Result<u64> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Self::Lite(pool) => sqlx::query(sql).execute(pool).await?.rows_affected(),
            Self::Pg(pool) => sqlx::query(sql).execute(pool).await?.rows_affected(),
        })
    }

    pub(crate) async fn trail(&self, which: &str) -> Vec<Trail> {
        let rows = self
            .rows(&format!(
                "SELECT action, CASE WHEN success THEN 'ok' ELSE error_code END, tenant_id, acting_tenant_id, \
                 identity_id, secret_path, resource_id, CAST(extra_data AS TEXT) FROM audit_trail \
                 WHERE {which} ORDER BY timestamp, id"
            ))
            .await;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let trail = |row: Vec<Option<String>>| Trail {
            action: text(&row[0]),
            outcome: text(&row[1]),
            tenant: text(&row[2]),
            acting_tenant: text(&row[3]),
            identity: text(&row[4]),
            path: row[5].clone(),
            resource: row[6].clone(),
            extra: serde_json::from_str(&text(&row[7])).unwrap(),
        };
        rows.into_iter().map(trail).collect()
    }

    pub(crate) async fn tables(&self) -> Vec<String> {
        self.texts(match self {
            Self::Lite(_) => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            }
            Self::Pg(_) => {
                "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'"
            }
        })
        .await
    }

    /// Every row of a table as one text, bytes in hexadecimal.
    pub(crate) async fn dump(&self, table: &str) -> Vec<String> {
        match self {
            Self::Lite(_) => {
                let columns = self.texts(&format!("SELECT name FROM pragma_table_info('{table}')")).await;
                let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
                self.texts(&format!("SELECT {} FROM {table}", quoted.join(" || ',' || "))).await
            }
            Self::Pg(_) => self.texts(&format!("SELECT t::text FROM {table} t")).await,
        }
    }

    /// Every table but the bookkeeping of migrations.
    pub(crate) async fn dump_all(&self) -> String {
        let mut all = String::new();
        for table in self.tables().await {
            if table != "scaivault_migrations" {
                all += &self.dump(&table).await.join("\n");
                all.push('\n');
            }
        }
        all
    }
}

/// Runs a test on a SQLite file of its own.
pub(crate) async fn on_sqlite<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vault.db");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let raw = Raw::Lite(SqlitePoolOptions::new().max_connections(1).connect(&url).await.unwrap());
    let bench = Bench::new(Database::sqlite(&file), raw, Some(folder.path().to_owned())).await;
    test(bench.clone()).await;
    bench.vault.close().await;
}

/// Runs a test on a PostgreSQL database of its own, which is dropped whatever happens.
///
/// The test is not spawned: to prove that hundreds of futures as large as these may change threads takes a compiler minutes.
pub(crate) async fn on_postgres<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    let Some(server) = server() else { return };
    let scratch = Scratch::create(server).await;
    scratch.raise_fence().await;
    let scratch = Arc::new(scratch);
    let held = Arc::clone(&scratch);
    let done = AssertUnwindSafe(async move {
        let raw = Raw::connect(&held.url).await;
        let database = Database::postgres(&held.url_of("scaivault_app"), 4).unwrap();
        let bench = Bench { scratch: Some(held), ..Bench::new(database, raw, None).await };
        test(bench.clone()).await;
        bench.vault.close().await;
    });
    let done = done.catch_unwind().await;
    scratch.drop_database().await;
    if let Err(panicked) = done {
        std::panic::resume_unwind(panicked);
    }
}

/// For a server that wants one.
const APP_PASSWORD: &str = "scaivault-test";

/// Of both roles that log in.
pub(crate) fn passwords() -> RolePasswords {
    let password = || Some(APP_PASSWORD.to_owned().into());
    RolePasswords { owner: password(), app: password() }
}

/// A database that nobody else has.
pub(crate) struct Scratch {
    server: sqlx::PgPool,
    name: String,
    pub(crate) url: String,
}

impl Scratch {
    pub(crate) async fn create(server: &str) -> Self {
        let pool = PgPoolOptions::new().max_connections(1).connect(server).await.unwrap();
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).unwrap();
        let name = format!("scaivault_test_{}", hex::encode(random));
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
        let (front, _) = server.rsplit_once('/').unwrap();
        Self { url: format!("{front}/{name}"), server: pool, name }
    }

    /// Makes the roles, as far as they are missing, and the schema, as its owner.
    pub(crate) async fn raise_fence(&self) {
        let database = Database::postgres(&self.url, 1).unwrap();
        Vault::builder(database, root_key(7)).create_roles(&passwords()).await.unwrap();
    }

    /// As another role: `scaivault_app` serves, `scaivault_owner` owns the schema.
    pub(crate) fn url_of(&self, role: &str) -> String {
        let (_, rest) = self.url.split_once('@').unwrap();
        format!("postgres://{role}:{APP_PASSWORD}@{rest}")
    }

    /// Another database with what is in this one, which nobody may be using.
    pub(crate) async fn copy(&self) -> Self {
        let name = format!("{}_copy", self.name);
        let end = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        );
        sqlx::query(AssertSqlSafe(end)).execute(&self.server).await.unwrap();
        let create = format!("CREATE DATABASE {name} TEMPLATE {}", self.name);
        sqlx::query(AssertSqlSafe(create)).execute(&self.server).await.unwrap();
        let (front, _) = self.url.rsplit_once('/').unwrap();
        Self { url: format!("{front}/{name}"), server: self.server.clone(), name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn drop_database(&self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        sqlx::query(AssertSqlSafe(drop)).execute(&self.server).await.unwrap();
    }
}

/// The URL of the PostgreSQL server for tests; says once that there is none.
pub(crate) fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        #[expect(
            clippy::disallowed_methods,
            reason = "one of the two settings that the tests themselves have"
        )]
        let url = std::env::var("SCAIVAULT_TEST_POSTGRES").ok();
        if url.is_none() {
            // Not by a macro: the harness would keep it to itself.
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "PostgreSQL half skipped: SCAIVAULT_TEST_POSTGRES is not set");
        }
        url
    };
    SERVER.get_or_init(read).as_deref()
}
