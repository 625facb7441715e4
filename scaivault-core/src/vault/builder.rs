//! How a vault is put together.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use scaivault_kms::KeyProvider;
use tokio::sync::watch;

use super::{Inner, Settings, Vault};
#[cfg(feature = "redis")]
use crate::RedisUrl;
#[cfg(feature = "postgres")]
use crate::storage::RolePasswords;
use crate::{
    Clock, Code, Database, Error, PartnerId, Random, RateLimits, Result, SchemaState, SystemClock,
    SystemRandom,
    audit::{Recorder, Sequencer},
    envelope::{Keyring, Roots},
    identity::directory::{Directory, DirectorySettings, IdentitySource, WebhookSecrets},
    limits,
    pipeline::{Door, DoorSettings},
    pki::{Issuers, KeyPool, OcspAnswers, OcspCounts, Responders},
    policy::PolicyCache,
    ratelimit::RateLimiter,
    storage::Db,
    tenancy::Tenants,
    trust::{ExchangeSettings, Exchanger},
};

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

impl VaultBuilder {
    pub(super) fn new(database: Database, provider: Arc<dyn KeyProvider>) -> Self {
        Self {
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
