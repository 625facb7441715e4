use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use scaivault_kms::KeyProvider;
use tokio::{sync::watch, task::JoinHandle};

#[cfg(feature = "redis")]
use crate::RedisUrl;
#[cfg(feature = "postgres")]
use crate::storage::RolePasswords;
use crate::{
    Action, Audit, Caller, Category, Clock, Code, Ctx, Database, Error, Introspection, PartnerId, Random,
    RateLimits, Result, SchemaState, Scope, SystemClock, SystemRandom, TenantId, TokenVerifier, Whoami,
    audit::{AuditKey, Recorder, Sequencer},
    envelope::{Keyring, Keys, RootHealth, Roots},
    id,
    identity::directory::{Directory, DirectorySettings, Identities, IdentitySource, WebhookSecrets},
    limits,
    pipeline::{Act, Door, DoorSettings},
    pki::{Issuers, KeyPool, OcspAnswers, OcspCounts, Pki, PublicPki, Responders},
    policy::{Policies, PolicyCache},
    ratelimit::RateLimiter,
    secrets::Secrets,
    storage::Db,
    tenancy::Tenants,
    trust::{ExchangeRequest, ExchangeSettings, Exchanged, Exchanger, Origin, Trusts},
};

/// A vault: everything behind one database and one root key. Cheap to clone; several may live in a process.
///
/// Verbs hang on handles, one a room, each made for a [`Ctx`] that says who asks.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
    recorder: Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>,
}

pub(crate) struct Inner {
    pub(crate) door: Door,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) settings: Settings,
    pub(crate) issuers: Issuers,
    pub(crate) ocsp_answers: OcspAnswers,
    pub(crate) ocsp_counts: OcspCounts,
    /// Revocation lists that were not published, since they were not what has to follow.
    pub(crate) crls_refused: AtomicU64,
    pub(crate) responders: Responders,
    pub(crate) rsa_keys: KeyPool,
    /// Wraps under retired tenant keys, as the background work last found them.
    pub(crate) rewrap_remaining: AtomicU64,
    /// Wraps under active root keys that are missing, as the background work last found them.
    pub(crate) root_wraps_missing: AtomicU64,
    pub(crate) sequencer: Sequencer,
    /// None where nothing mints tokens.
    pub(crate) exchanger: Option<Exchanger>,
    /// Whether the anchor was written since the start.
    pub(crate) anchored: std::sync::atomic::AtomicBool,
    /// Where the directory is synced from.
    pub(crate) identity_source: Option<Arc<dyn IdentitySource>>,
    /// What the identity provider signs its events with.
    pub(crate) webhook_secrets: Option<Arc<WebhookSecrets>>,
    /// Told when a sync is wanted before the next round.
    pub(crate) sync_wanted: tokio::sync::Notify,
    /// The address of the first super admin.
    pub(crate) bootstrap: Option<String>,
    /// Becomes `true` when the vault is closed.
    pub(crate) closed: watch::Sender<bool>,
    db: Db,
}

/// What an operator may choose about a vault.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where this vault is reached, without a slash at the end: CRL and OCSP addresses begin with it.
    pub(crate) base_url: Option<String>,
    pub(crate) soft_delete_retention: Duration,
    pub(crate) audit_retention: Duration,
    /// Where it is written down what the database has at least.
    pub(crate) anchor: Option<std::path::PathBuf>,
}

/// What a vault counts in its process; the others know of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Connections to the database.
    pub connections: usize,
    /// Connections to the database that are free.
    pub connections_free: usize,
    /// Round trips to PostgreSQL since the vault was opened, without those to a read replica and for new connections.
    pub database_round_trips: u64,
    /// Those of them that did nothing but change as whom a connection looks at rows.
    pub database_handovers: u64,
    /// Audit records that wait to be written.
    pub audit_waiting: usize,
    /// Data keys under retired tenant keys, as the background work of this process last found them.
    pub rewrap_remaining: u64,
    /// Wraps under active root keys that are missing, as the background work of this process last found them: a root
    /// key was out, or is not configured here.
    pub root_wraps_missing: u64,
    /// Calls of the provider of the root key, since the vault was opened.
    pub provider_calls: u64,
    /// How long ago the last complete sync of the directory began; `None` if there was none.
    pub identity_sync_age: Option<Duration>,
    /// What OCSP requests came to since the vault was opened, by a word for it: `good`, `revoked` and `unknown` for
    /// each certificate; `malformed`, `unauthorized` and `try_later` for each request; `cached` and `signed` say where
    /// answers came from.
    pub ocsp: Vec<(&'static str, u64)>,
    /// RSA keys that were made ahead and wait.
    pub rsa_keys_ready: usize,
    /// Certificates with a key that was made ahead, since the vault was opened.
    pub rsa_keys_taken: u64,
    /// Certificates whose RSA key had to be waited for, since the vault was opened.
    pub rsa_keys_missed: u64,
    /// Revocation lists that were not published since the vault was opened: older than the one before, without something
    /// that is still revoked, or not built at all.
    pub crls_refused: u64,
    /// For how long a revocation list or a delta has been due, of any tenant and on any replica, without being published;
    /// lists are built within half a minute. `None` if the database does not say.
    pub crl_overdue: Option<Duration>,
    /// Entries of the longest revocation list of any tenant; `None` if the database does not say.
    pub crl_longest: Option<u64>,
}

/// Puts a vault together. From [`Vault::builder`].
#[derive(Debug)]
pub struct VaultBuilder {
    database: Database,
    provider: Arc<dyn KeyProvider>,
    first_root_name: Option<String>,
    further_roots: Vec<(String, Arc<dyn KeyProvider>)>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    migrate: bool,
    allow_unfenced: bool,
    key_cache_ttl: Duration,
    rate_limits: RateLimits,
    #[cfg(feature = "redis")]
    redis: Option<RedisUrl>,
    tenant_admin_bypass: bool,
    mfa_window: Duration,
    rsa_pool: u32,
    default_partner: Option<PartnerId>,
    exchange: Option<ExchangeSettings>,
    identity_source: Option<Arc<dyn IdentitySource>>,
    identity_sync_every: Duration,
    webhook_secrets: Option<Arc<WebhookSecrets>>,
    bootstrap: Option<String>,
    settings: Settings,
}

impl Vault {
    /// Starts with a database and the provider of the root key; everything else has a default.
    #[must_use]
    pub fn builder(database: Database, provider: Arc<dyn KeyProvider>) -> VaultBuilder {
        VaultBuilder {
            database,
            provider,
            first_root_name: None,
            further_roots: Vec::new(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            migrate: true,
            allow_unfenced: false,
            key_cache_ttl: limits::KEY_CACHE_TTL,
            rate_limits: RateLimits::none(),
            #[cfg(feature = "redis")]
            redis: None,
            tenant_admin_bypass: true,
            mfa_window: limits::MFA_WINDOW,
            rsa_pool: 0,
            default_partner: None,
            exchange: None,
            identity_source: None,
            identity_sync_every: limits::IDENTITY_SYNC_EVERY,
            webhook_secrets: None,
            bootstrap: None,
            settings: Settings {
                base_url: None,
                soft_delete_retention: limits::SOFT_DELETE_RETENTION,
                audit_retention: limits::AUDIT_RETENTION,
                anchor: None,
            },
        }
    }

    /// Whether a database holds keys that were wrapped by a root key: then another root key is of no use to it.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`] if the database cannot be reached.
    pub async fn holds_keys(database: &Database) -> Result<bool> {
        let db = Db::open(database).await?;
        let held = match db.schema().await {
            Ok(SchemaState::Behind(missing)) if missing.first() == Some(&1) => Ok(false),
            Ok(_) => crate::envelope::holds_keys(&db).await,
            Err(error) => Err(error),
        };
        db.close().await;
        held
    }

    /// Says who asks. The request gets a name of its own unless [`Ctx::with_request_id`] gives it one.
    ///
    /// # Errors
    /// [`Code::InternalError`] if the random generator fails.
    pub fn ctx(&self, caller: Caller) -> Result<Ctx> {
        let now = self.inner.clock.now();
        Ok(Ctx::new(caller, id::new("req_", now, self.inner.random.as_ref())?, now))
    }

    /// Secrets, as `ctx` may see them.
    #[must_use]
    pub fn secrets<'a>(&'a self, ctx: &'a Ctx) -> Secrets<'a> {
        Secrets::new(&self.inner, ctx)
    }

    /// Policies, as `ctx` may see them.
    #[must_use]
    pub fn policies<'a>(&'a self, ctx: &'a Ctx) -> Policies<'a> {
        Policies::new(&self.inner, ctx)
    }

    /// Whose proofs of identity are exchanged for tokens, as `ctx` may say.
    #[must_use]
    pub fn trusts<'a>(&'a self, ctx: &'a Ctx) -> Trusts<'a> {
        Trusts::new(&self.inner, ctx)
    }

    /// Gives a workload a token of its own for what its platform gave it, if a trust configuration of the tenant that it
    /// names accepts that (RFC 8693). Whoever asks needs nothing else, and is charged by his address.
    ///
    /// # Errors
    /// - [`Code::TokenInvalid`], with one message whatever the reason is; the reason is in the tenant's audit trail.
    /// - [`Code::InvalidRequest`] for a scope or path beyond what the trust configuration gives.
    /// - [`Code::RateLimited`]; [`Code::ServiceUnavailable`] if nothing mints the token;
    ///   [`Code::NotFound`] if nothing is configured that could.
    pub async fn exchange(&self, request: &ExchangeRequest, origin: Origin<'_>) -> Result<Exchanged> {
        self.inner.door.charge_address(Category::AuthExchange, origin.source_ip).await?;
        crate::trust::exchange(&self.inner, request, origin).await
    }

    /// Certificate authorities, roles and certificates, as `ctx` may see them.
    #[must_use]
    pub fn pki<'a>(&'a self, ctx: &'a Ctx) -> Pki<'a> {
        Pki::new(&self.inner, ctx)
    }

    /// What relying parties may fetch without a token: revocation lists and OCSP answers.
    #[must_use]
    pub fn public_pki(&self) -> PublicPki<'_> {
        PublicPki::new(&self.inner)
    }

    /// Partners, tenants, users, groups and roles, as `ctx` may see them.
    #[must_use]
    pub fn identities<'a>(&'a self, ctx: &'a Ctx) -> Identities<'a> {
        Identities::new(&self.inner, ctx)
    }

    /// The audit trail, as `ctx` may see it.
    #[must_use]
    pub fn audit<'a>(&'a self, ctx: &'a Ctx) -> Audit<'a> {
        Audit::new(&self.inner, ctx)
    }

    /// Numbers of this process, for monitoring. Needs `admin`.
    ///
    /// # Errors
    /// [`Code::InsufficientScope`].
    pub async fn statistics(&self, ctx: &Ctx) -> Result<Statistics> {
        let act = Act::object(Action::MetricsRead, &[Scope::Admin], "vault", None);
        let rewrap_remaining = self.inner.rewrap_remaining.load(Ordering::Relaxed);
        let root_wraps_missing = self.inner.root_wraps_missing.load(Ordering::Relaxed);
        let synced_at = self.inner.door.directory().state().await.ok().and_then(|state| state.synced_at);
        let age = synced_at.map(|at| (self.inner.clock.now() - at).try_into().unwrap_or_default());
        let rsa_keys = self.inner.rsa_keys.counts();
        let lists = crate::pki::list_health(&self.inner).await.ok();
        let numbers = Statistics {
            rewrap_remaining,
            root_wraps_missing,
            identity_sync_age: age,
            ocsp: self.inner.ocsp_counts.all(),
            rsa_keys_ready: rsa_keys.ready,
            rsa_keys_taken: rsa_keys.taken,
            rsa_keys_missed: rsa_keys.missed,
            crls_refused: self.inner.crls_refused.load(Ordering::Relaxed),
            crl_overdue: lists.map(|lists| lists.overdue),
            crl_longest: lists.map(|lists| lists.longest),
            ..self.inner.door.statistics()
        };
        self.inner.door.perform(ctx, act, |permit| async move { permit.answer(numbers) }).await
    }

    /// The keys between the root key and the rows, as `ctx` may handle them.
    #[must_use]
    pub fn keys<'a>(&'a self, ctx: &'a Ctx) -> Keys<'a> {
        Keys::new(&self.inner, ctx)
    }

    /// The public half of the key that signs checkpoints of the audit trail; it is made if there is none yet. Whoever
    /// is to verify exported trails is to have it from here.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`] if the database or the provider of the root key does not answer.
    pub async fn audit_key(&self) -> Result<AuditKey> {
        crate::audit::public_key(&self.inner).await
    }

    /// Every tenant that has, or had, an audit trail; for whoever runs the vault.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`] if the database does not answer.
    pub async fn audited_tenants(&self) -> Result<Vec<TenantId>> {
        let tenants = crate::storage::query(crate::audit::store::sql::TENANTS);
        let rows: Vec<(String,)> = self.inner.door.audit_db().fetch_all(tenants).await?;
        rows.into_iter().map(|(tenant,)| TenantId::stored(tenant)).collect()
    }

    /// Who asks, as far as he may be told. Charged like a verb, and not recorded.
    ///
    /// # Errors
    /// [`Code::TenantAccessDenied`] in a tenant that is not his; [`Code::RateLimited`].
    pub async fn whoami<'c>(&self, ctx: &'c Ctx) -> Result<Whoami<'c>> {
        self.inner.door.whoami(ctx).await?;
        Ok(ctx.caller().whoami())
    }

    /// Whom a token speaks for, by the judgement of `verifier`. A token that is bad, or of a tenant that is none of the
    /// caller's business, is not active: nothing tells one from the other. An administrator of a partner may know of
    /// the tokens of its tenants, and a super admin of all.
    ///
    /// # Errors
    /// [`Code::InsufficientScope`]; [`Code::RateLimited`]; [`Code::ServiceUnavailable`] if the issuer is needed and
    /// does not answer.
    pub async fn introspect(
        &self,
        ctx: &Ctx,
        verifier: &TokenVerifier,
        token: &str,
    ) -> Result<Introspection> {
        crate::identity::introspect(&self.inner.door, ctx, verifier, token).await
    }

    /// Charges the source address of a token that was not believed.
    ///
    /// # Errors
    /// [`Code::RateLimited`] if there were too many: answer with that instead.
    pub async fn failed_login(&self, from: std::net::IpAddr) -> Result<()> {
        self.inner.door.failed_login(from).await
    }

    /// Whether a token from there may be looked up at its issuer ([`TokenVerifier::has_to_ask`]): not while the address
    /// has been told to wait for showing tokens that were not believed, so that guessing is no load on the issuer.
    ///
    /// # Errors
    /// [`Code::RateLimited`] if not: answer with that.
    pub fn may_look_up(&self, from: std::net::IpAddr) -> Result<()> {
        self.inner.door.may_look_up(from)
    }

    /// Whether replicas share rate limits, as they do while Redis answers; `None` if they are not to.
    pub async fn limits_are_shared(&self) -> Option<bool> {
        self.inner.door.limits_are_shared().await
    }

    /// One round trip to the database.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`] if it does not answer.
    pub async fn check_database(&self) -> Result<()> {
        self.inner.door.check_database().await
    }

    /// One round trip to each root key; that one of them works is enough. See [`check_roots`](Self::check_roots).
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`] if none of them works.
    pub async fn check_encryption(&self) -> Result<()> {
        let found = self.check_roots().await;
        if found.iter().any(|root| root.failure.is_none()) {
            return Ok(());
        }
        let named = |root: &RootHealth| format!("{}: {}", root.name, root.failure.unwrap_or_default());
        let source = found.iter().map(named).collect::<Vec<_>>().join(", ");
        Err(Error::unavailable("No root key can be used.", Duration::from_secs(2), source))
    }

    /// Whether each root key that the vault is configured with can be used, in order of preference. They are asked at
    /// most once in [`limits::ROOT_CHECK_SHARED`], however often this is called.
    pub async fn check_roots(&self) -> Vec<RootHealth> {
        self.inner.door.roots().check().await
    }

    /// Does what is due in the background once: revocation lists, deleted secrets past their retention, events
    /// about secrets that expire, rotations of keys that are not finished, and what the audit trail needs.
    /// Safe to run on every replica, at any time.
    ///
    /// # Errors
    /// The first thing that went wrong; the rest is done all the same.
    pub async fn run_due_jobs(&self) -> Result<()> {
        let jobs = crate::jobs::run_due(self).await;
        jobs.and(crate::identity::directory::run_due_syncs(self).await)
    }

    /// Runs the background work in a task of its own until the vault is closed or the handle is aborted.
    #[must_use]
    pub fn spawn_jobs(&self) -> JoinHandle<()> {
        tokio::spawn(crate::jobs::run_forever(self.clone()))
    }

    /// Writes what is waiting to be written and closes the database. Verbs called after this fail.
    pub async fn close(&self) {
        self.inner.closed.send_replace(true);
        self.inner.door.stop_recording();
        self.inner.rsa_keys.stop();
        let task = self.recorder.lock().await.take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("the audit writer failed");
        }
        self.inner.db.close().await;
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl VaultBuilder {
    /// What the first root key is called, if not after the kind of its provider; as the names of
    /// [`add_root`](Self::add_root).
    #[must_use]
    pub fn first_root_name(mut self, name: impl Into<String>) -> Self {
        self.first_root_name = Some(name.into());
        self
    }

    /// A further root key, less preferred than those before it; at most [`limits::ROOTS`] with the first, which is
    /// named after the kind of its provider (`local`, `aws`, …). A name is 1 to 32 of `a-z`, `0-9` and `-`; names
    /// that are no names or there twice are refused by [`open`](Self::open).
    #[must_use]
    pub fn add_root(mut self, name: impl Into<String>, provider: Arc<dyn KeyProvider>) -> Self {
        self.further_roots.push((name.into(), provider));
        self
    }

    /// Takes the time from somewhere else.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes randomness for identifiers, serial numbers, nonces and data keys from somewhere else.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Whether a schema that is behind is migrated (the default), or refused.
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Whether the vault also opens on PostgreSQL with a role that could get past the fence between tenants: a
    /// superuser, the owner of the tables, or one with `BYPASSRLS`. For development; refused unless allowed.
    #[must_use]
    pub fn allow_unfenced(mut self, allow: bool) -> Self {
        self.allow_unfenced = allow;
        self
    }

    /// How often an identity may ask; without this as often as it likes.
    #[must_use]
    pub fn rate_limits(mut self, limits: RateLimits) -> Self {
        self.rate_limits = limits;
        self
    }

    /// Shares rate limits with other replicas, through Redis. It need not answer, now or later.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn redis(mut self, url: RedisUrl) -> Self {
        self.redis = Some(url);
        self
    }

    /// How long unwrapped keys may stay in memory; zero makes a call to the provider for each request.
    #[must_use]
    pub fn key_cache_ttl(mut self, ttl: Duration) -> Self {
        self.key_cache_ttl = ttl;
        self
    }

    /// Where this vault is reached, such as `https://vault.example`: certificates carry the addresses of
    /// their revocation list and OCSP responder under it. Without one they carry none.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.settings.base_url = Some(url.into().trim_end_matches('/').to_owned());
        self
    }

    /// How long a deleted secret can be restored, at most a thousand years.
    #[must_use]
    pub fn soft_delete_retention(mut self, retention: Duration) -> Self {
        self.settings.soft_delete_retention = retention.min(limits::RETENTION_MAX);
        self
    }

    /// How long audit records are kept: seven years unless given, at least 90 days, at most a thousand years.
    #[must_use]
    pub fn audit_retention(mut self, retention: Duration) -> Self {
        self.settings.audit_retention = retention.clamp(limits::AUDIT_RETENTION_MIN, limits::RETENTION_MAX);
        self
    }

    /// A file outside of the database, best beside the root key, in which it is written down at checkpoints what the
    /// database has at least. A database that is older puts the vault in quarantine; see [`Vault::quarantine`].
    #[must_use]
    pub fn anchor(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.settings.anchor = Some(path.into());
        self
    }

    /// Whether admins may act on every path without a policy (the default): tenant admins in their own tenant, partner
    /// admins in all tenants of their partner and on what he shares, super admins everywhere.
    #[must_use]
    pub fn tenant_admin_bypass(mut self, bypass: bool) -> Self {
        self.tenant_admin_bypass = bypass;
        self
    }

    /// How many RSA keys are made ahead for certificates, once somebody asked for one: none unless given, at most
    /// [`limits::RSA_POOL_MAX`]. They are in memory alone.
    #[must_use]
    pub fn rsa_pool(mut self, keys: u32) -> Self {
        self.rsa_pool = keys.min(limits::RSA_POOL_MAX);
        self
    }

    /// How long ago a second factor may have been shown where a rule that requires one does not say it: 15 minutes
    /// unless given.
    #[must_use]
    pub fn mfa_window(mut self, window: Duration) -> Self {
        self.mfa_window = window;
        self
    }

    /// What exchanges of foreign proofs for tokens stand on; without it there are none.
    #[must_use]
    pub fn exchange(mut self, settings: ExchangeSettings) -> Self {
        self.exchange = Some(settings);
        self
    }

    /// The partner of tenants whose callers name none; `ptn_default` unless given.
    #[must_use]
    pub fn default_partner(mut self, partner: PartnerId) -> Self {
        self.default_partner = Some(partner);
        self
    }

    /// Where the directory of people is synced from: at the start, every so often, and when it is asked for. All replicas
    /// are to have the same. Until the first complete sync, and so long after the last one that
    /// [`limits::DIRECTORY_SYNCS_MISSED`] were missed, the directory gives no roles and groups.
    #[must_use]
    pub fn identity_source(mut self, source: Arc<dyn IdentitySource>, every: Duration) -> Self {
        self.identity_source = Some(source);
        self.identity_sync_every = every.clamp(Duration::from_secs(10), limits::RETENTION_MAX);
        self
    }

    /// What the identity provider signs its events with; without it none are taken.
    #[must_use]
    pub fn webhook_secrets(mut self, secrets: Arc<WebhookSecrets>) -> Self {
        self.webhook_secrets = Some(secrets);
        self
    }

    /// The address of the person who becomes super admin when he first signs in, if there never was one. Whoever has a
    /// verified token with that address, or that name, of whatever tenant, is taken for him.
    #[must_use]
    pub fn bootstrap_super_admin(mut self, email: impl Into<String>) -> Self {
        self.bootstrap = Some(email.into()).filter(|email: &String| !email.is_empty());
        self
    }

    /// Compares the database's schema with what this build needs; changes nothing.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`] if the database cannot be reached.
    pub async fn schema(&self) -> Result<SchemaState> {
        if self.database.is_to_be_made() {
            // Opening it would make it.
            return Ok(SchemaState::empty());
        }
        let db = Db::open(&self.database).await?;
        let state = db.schema().await;
        db.close().await;
        state
    }

    /// Brings the schema up to date without opening the vault.
    ///
    /// # Errors
    /// [`Code::InvalidState`] if the schema is ahead of this build or was changed by hand;
    /// [`Code::ServiceUnavailable`] if the database cannot be reached.
    pub async fn migrate_now(&self) -> Result<()> {
        let db = Db::open(&self.database).await?;
        let done = db.migrate().await;
        db.close().await;
        done
    }

    /// Whether PostgreSQL's fence between tenants holds the role that connects; [`open`](Self::open) asks this
    /// unless told not to. SQLite has none.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if the role could get past it.
    pub async fn check_fence(&self) -> Result<()> {
        if self.database.is_to_be_made() {
            return Ok(());
        }
        let db = Db::open(&self.database).await?;
        let held = db.check_fence(false).await;
        db.close().await;
        held
    }

    /// Makes the roles that PostgreSQL's fence between tenants takes, as far as they are missing, and brings the
    /// schema up to date: for a superuser, or an owner who may create roles.
    ///
    /// # Errors
    /// As [`migrate_now`](Self::migrate_now); [`Code::InvalidRequest`] on SQLite, which has no roles, and for a
    /// password that is not printable ASCII.
    #[cfg(feature = "postgres")]
    pub async fn create_roles(&self, passwords: &RolePasswords) -> Result<()> {
        let verifiers = passwords.verifiers(self.random.as_ref())?;
        let db = Db::open(&self.database).await?;
        let done = db.create_roles(&verifiers).await;
        db.close().await;
        done
    }

    /// Opens the vault. Needs a tokio runtime, here and for every verb.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if the role that connects to PostgreSQL could get past the fence between tenants, or
    /// the root keys are too many, or two of them the same;
    /// [`Code::InvalidState`] if the schema is ahead of this build, or behind and may not be migrated;
    /// [`Code::ServiceUnavailable`] if the database cannot be reached.
    pub async fn open(self) -> Result<Vault> {
        let roots =
            Roots::new(self.first_root_name.clone(), self.provider.clone(), self.further_roots.clone())?;
        let db = Db::open(&self.database).await?;
        if let Err(error) = self.prepare(&db).await {
            db.close().await;
            return Err(error);
        }
        let partner = self.default_partner.map_or_else(|| PartnerId::parse("ptn_default"), Ok)?;
        let (clock, random) = (self.clock, self.random);
        let keyring = Keyring::new(db.clone(), roots, clock.clone(), random.clone(), self.key_cache_ttl);
        let sequencer = Sequencer::new(db.clone());
        let (recorder, task) = Recorder::start(db.clone(), sequencer.clone());
        // What a crash left without a place, or an older schema.
        sequencer.waiting().await?.iter().for_each(|tenant| recorder.wake(tenant));
        let vault = self.settings.base_url.clone().unwrap_or_default();
        let limiter = RateLimiter::new(self.rate_limits, vault);
        #[cfg(feature = "redis")]
        let limiter = match self.redis {
            Some(url) => limiter.shared(url),
            None => limiter,
        };
        let configured =
            self.identity_source.is_some() || self.webhook_secrets.is_some() || self.bootstrap.is_some();
        // What was closed once stays closed, also where nothing tells of people any more.
        let fed = configured || Directory::holds_anything(&db).await?;
        let directory = DirectorySettings { fed, sync_every: self.identity_sync_every };
        let directory = Directory::new(db.clone(), clock.clone(), directory);
        let door = Door::new(
            db.clone(),
            keyring,
            PolicyCache::new(db.clone(), clock.clone()),
            Tenants::new(db.clone(), clock.clone(), partner),
            directory,
            recorder,
            limiter,
            clock.clone(),
            random.clone(),
            DoorSettings { tenant_admin_bypass: self.tenant_admin_bypass, mfa_window: self.mfa_window },
        );
        let exchanger = self.exchange.map(|settings| Exchanger::new(settings, clock.clone()));
        let inner = Arc::new(Inner {
            door,
            exchanger,
            clock,
            random,
            settings: self.settings,
            issuers: Issuers::new(),
            ocsp_answers: OcspAnswers::new(),
            ocsp_counts: OcspCounts::default(),
            crls_refused: AtomicU64::new(0),
            responders: Responders::new(),
            rsa_keys: KeyPool::new(usize::try_from(self.rsa_pool).unwrap_or_default()),
            rewrap_remaining: AtomicU64::new(0),
            root_wraps_missing: AtomicU64::new(0),
            sequencer,
            identity_source: self.identity_source,
            webhook_secrets: self.webhook_secrets,
            sync_wanted: tokio::sync::Notify::new(),
            bootstrap: self.bootstrap,
            anchored: std::sync::atomic::AtomicBool::new(false),
            closed: watch::Sender::new(false),
            db,
        });
        if let Some(reason) = crate::anchor::check(&inner).await? {
            tracing::error!(reason, "the database is older than its anchor: the vault is in quarantine");
            inner.door.quarantine(Some(reason));
        }
        if let Err(error) = inner.door.keyring().tell_inactive().await {
            tracing::warn!(%error, causes = error.causes(), "it is not known which root keys wrap");
        }
        Ok(Vault { inner, recorder: Arc::new(tokio::sync::Mutex::new(Some(task))) })
    }
}

impl VaultBuilder {
    /// Brings the schema up to date if that is wanted, and refuses what may not be served.
    async fn prepare(&self, db: &Db) -> Result<()> {
        if !self.allow_unfenced {
            db.check_fence(false).await?;
        }
        match db.schema().await? {
            SchemaState::Current => {}
            SchemaState::Behind(missing) if self.migrate => db.migrate().await.map_err(|error| {
                let behind = format!("the schema lacks the migrations {missing:?}, and {}", error.message());
                if error.code() == Code::InvalidState {
                    Error::new(Code::InvalidState, behind)
                } else {
                    error
                }
            })?,
            SchemaState::Behind(missing) => {
                let message = format!("the schema lacks the migrations {missing:?}: run `migrate`");
                return Err(Error::new(Code::InvalidState, message));
            }
            SchemaState::Ahead(version) => {
                let message = format!(
                    "the schema has migration {version}, which this build does not know: use a newer build"
                );
                return Err(Error::new(Code::InvalidState, message));
            }
        }
        if self.allow_unfenced { Ok(()) } else { db.check_fence(true).await }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inner(..)")
    }
}
