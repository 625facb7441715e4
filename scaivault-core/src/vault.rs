mod builder;

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

pub use self::builder::VaultBuilder;
use crate::{
    Action, Audit, Caller, Category, Clock, Ctx, Database, Error, Introspection, Random, Result, SchemaState,
    Scope, TenantId, TokenVerifier, Whoami,
    audit::{AuditKey, Sequencer},
    envelope::{Keys, RootHealth},
    id,
    identity::directory::{Identities, IdentitySource, WebhookSecrets},
    pipeline::{Act, Door},
    pki::{Issuers, KeyPool, OcspAnswers, OcspCounts, Pki, PublicPki, Responders},
    policy::Policies,
    secrets::Secrets,
    storage::Db,
    trust::{ExchangeRequest, Exchanged, Exchanger, Origin, Trusts},
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
    /// each certificate; `malformed`, `unauthorized` and `try_later` for each request; `cached` and `signed` say
    /// where answers came from.
    pub ocsp: Vec<(&'static str, u64)>,
    /// RSA keys that were made ahead and wait.
    pub rsa_keys_ready: usize,
    /// Certificates with a key that was made ahead, since the vault was opened.
    pub rsa_keys_taken: u64,
    /// Certificates whose RSA key had to be waited for, since the vault was opened.
    pub rsa_keys_missed: u64,
    /// Revocation lists that were not published since the vault was opened: older than the one before, without
    /// something that is still revoked, or not built at all.
    pub crls_refused: u64,
    /// For how long a revocation list or a delta has been due, of any tenant and on any replica, without being published;
    /// lists are built within half a minute. `None` if the database does not say.
    pub crl_overdue: Option<Duration>,
    /// Entries of the longest revocation list of any tenant; `None` if the database does not say.
    pub crl_longest: Option<u64>,
}

impl Vault {
    /// Starts with a database and the provider of the root key; everything else has a default.
    #[must_use]
    pub fn builder(database: Database, provider: Arc<dyn KeyProvider>) -> VaultBuilder {
        VaultBuilder::new(database, provider)
    }

    /// Whether a database holds keys that were wrapped by a root key: then another root key is of no use to it.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable) if the database cannot be reached.
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
    /// [`Code::InternalError`](crate::Code::InternalError) if the random generator fails.
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

    /// Gives a workload a token of its own for what its platform gave it, if a trust configuration of the tenant
    /// that it names accepts that (RFC 8693). Whoever asks needs nothing else, and is charged by his address.
    ///
    /// # Errors
    /// - [`Code::TokenInvalid`](crate::Code::TokenInvalid), with one message whatever the reason is; the reason is
    ///   in the tenant's audit trail.
    /// - [`Code::InvalidRequest`](crate::Code::InvalidRequest) for a scope or path beyond what the trust
    ///   configuration gives.
    /// - [`Code::RateLimited`](crate::Code::RateLimited);
    ///   [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable) if nothing mints the token;
    ///   [`Code::NotFound`](crate::Code::NotFound) if nothing is configured that could.
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
    /// [`Code::InsufficientScope`](crate::Code::InsufficientScope).
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
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable) if the database or the provider of the root
    /// key does not answer.
    pub async fn audit_key(&self) -> Result<AuditKey> {
        crate::audit::public_key(&self.inner).await
    }

    /// Every tenant that has, or had, an audit trail; for whoever runs the vault.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable) if the database does not answer.
    pub async fn audited_tenants(&self) -> Result<Vec<TenantId>> {
        let tenants = crate::storage::query(crate::audit::store::sql::TENANTS);
        let rows: Vec<(String,)> = self.inner.door.audit_db().fetch_all(tenants).await?;
        rows.into_iter().map(|(tenant,)| TenantId::stored(tenant)).collect()
    }

    /// Who asks, as far as he may be told. Charged like a verb, and not recorded.
    ///
    /// # Errors
    /// [`Code::TenantAccessDenied`](crate::Code::TenantAccessDenied) in a tenant that is not his;
    /// [`Code::RateLimited`](crate::Code::RateLimited).
    pub async fn whoami<'c>(&self, ctx: &'c Ctx) -> Result<Whoami<'c>> {
        self.inner.door.whoami(ctx).await?;
        Ok(ctx.caller().whoami())
    }

    /// Whom a token speaks for, by the judgement of `verifier`. A token that is bad, or of a tenant that is none of
    /// the caller's business, is not active: nothing tells one from the other. An administrator of a partner may
    /// know of the tokens of its tenants, and a super admin of all.
    ///
    /// # Errors
    /// [`Code::InsufficientScope`](crate::Code::InsufficientScope);
    /// [`Code::RateLimited`](crate::Code::RateLimited);
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable) if the issuer is needed and does not answer.
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
    /// [`Code::RateLimited`](crate::Code::RateLimited) if there were too many: answer with that instead.
    pub async fn failed_login(&self, from: std::net::IpAddr) -> Result<()> {
        self.inner.door.failed_login(from).await
    }

    /// Whether a token from there may be looked up at its issuer ([`TokenVerifier::has_to_ask`]): not while the
    /// address has been told to wait for showing tokens that were not believed, so that guessing is no load on the
    /// issuer.
    ///
    /// # Errors
    /// [`Code::RateLimited`](crate::Code::RateLimited) if not: answer with that.
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
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable) if it does not answer.
    pub async fn check_database(&self) -> Result<()> {
        self.inner.door.check_database().await
    }

    /// One round trip to each root key; that one of them works is enough. See [`check_roots`](Self::check_roots).
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable) if none of them works.
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
    /// most once in [`limits::ROOT_CHECK_SHARED`](crate::limits::ROOT_CHECK_SHARED), however often this is called.
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
