//! The one walk that every verb takes: authorize, work, commit or record, answer.
//!
//! A verb is a call of [`Door::perform`] with an [`Act`] (what is to be done to what) and the work. The
//! work is handed a [`Permit`], and only `perform` makes permits. A permit is the only way to the database,
//! the keys and the identifiers, and it is consumed by the only two things that make an [`Outcome`]:
//! [`Permit::answer`], after which `perform` records the read, and [`Write::commit`], which writes the
//! change, its audit record and its events in one transaction. So a verb that skips authorization has
//! nothing to work with, and one that skips the audit has nothing to return.

mod act;
mod ctx;
mod permit;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

pub use self::ctx::Ctx;
pub(crate) use self::{
    act::{Act, On},
    permit::{Outcome, Permit, PublicPermit, Sees, Write},
};
use crate::{
    Clock, Code, Error, PartnerId, Random, Result, Statistics, TenantId,
    audit::{Action, Note, Record, Recorder, shown},
    envelope::{Keyring, Roots},
    events::{Event, EventType},
    id,
    identity::{Caller, IdentityType, Role, Scope, directory::Directory},
    limits,
    policy::{Circumstances, Condition, Decision, InForce, Permission, PolicyCache},
    ratelimit::{Category, RateLimiter},
    storage::{
        self, As, Db,
        partitions::{Month, Months},
    },
    tenancy::{Access, Tenants},
};

/// Holds everything that a verb may reach only through a permit.
#[derive(Debug)]
pub(crate) struct Door {
    db: Db,
    keyring: Keyring,
    policies: PolicyCache,
    tenants: Tenants,
    directory: Directory,
    recorder: Recorder,
    limiter: RateLimiter,
    certificate_months: Months,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    settings: DoorSettings,
    /// Why nothing may be written, if that is so.
    quarantine: arc_swap::ArcSwapOption<String>,
}

/// What an operator may choose about the door.
#[derive(Clone, Debug)]
pub(crate) struct DoorSettings {
    /// Whether admins may act on every path of what they administer without a policy.
    pub(crate) tenant_admin_bypass: bool,
    /// How long ago a second factor may have been shown where a rule does not say it.
    pub(crate) mfa_window: Duration,
}

/// What makes policies of no account for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A job of the vault itself: no scope is asked for either.
    System,
    /// He administers the tenant.
    TenantAdmin,
    /// He administers the partner of the tenant.
    PartnerAdmin,
    /// He administers everything.
    SuperAdmin,
}

impl Standing {
    /// As it goes into audit records and explanations.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::TenantAdmin => "role:tenant_admin",
            Self::PartnerAdmin => "role:partner_admin",
            Self::SuperAdmin => "role:super_admin",
        }
    }
}

impl DoorSettings {
    /// Whether the caller stands above the policies where `role` is the highest of his that counts.
    pub(crate) fn standing(&self, caller: &Caller, role: Option<Role>) -> Option<Standing> {
        if caller.identity_type() == IdentityType::System {
            return Some(Standing::System);
        }
        let standing = match role.filter(|_| self.tenant_admin_bypass)? {
            Role::TenantAdmin => Standing::TenantAdmin,
            Role::PartnerAdmin => Standing::PartnerAdmin,
            Role::SuperAdmin => Standing::SuperAdmin,
        };
        Some(standing)
    }
}

/// Why something was allowed, as it goes into the audit record.
#[derive(Clone, Debug)]
enum Grant {
    /// The scope of the token is enough.
    Scope,
    /// No policy was asked.
    Above(Standing),
    /// What a partner shares, all of his tenants may read.
    Shared,
    /// A rule of a policy.
    Rule { policy_id: String, rule_index: usize },
}

impl Door {
    #[expect(clippy::too_many_arguments, reason = "called once, by the vault's builder")]
    pub(crate) fn new(
        db: Db,
        keyring: Keyring,
        policies: PolicyCache,
        tenants: Tenants,
        directory: Directory,
        recorder: Recorder,
        limiter: RateLimiter,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        settings: DoorSettings,
    ) -> Self {
        Self {
            db,
            keyring,
            policies,
            tenants,
            directory,
            recorder,
            limiter,
            certificate_months: Months::of("pki_certificate"),
            clock,
            random,
            settings,
            quarantine: arc_swap::ArcSwapOption::empty(),
        }
    }

    /// Walks one verb. See the module's documentation.
    pub(crate) async fn perform<'a, T, F, W>(&'a self, ctx: &'a Ctx, act: Act, work: F) -> Result<T>
    where
        F: FnOnce(Permit<'a>) -> W + Send,
        W: Future<Output = Result<Outcome<T>>> + Send,
        T: Send,
    {
        let started = Instant::now();
        let act = Arc::new(act);
        let authorized = self.authorize(ctx, &act, started).await;
        let result = match (authorized, self.charge(ctx, act.action).await) {
            // Boxed: what a verb keeps on its way would otherwise lie on the stack of everybody who awaits it.
            (Ok(permit), Ok(())) => Box::pin(work(permit)).await,
            // Also for who may not do it: asking in vain is not free.
            (_, Err(limited)) => Err(limited),
            (Err(refusal), Ok(())) => Err(refusal),
        };
        match result {
            Ok(Outcome::Committed(value) | Outcome::Unrecorded(value)) => Ok(value),
            Ok(Outcome::Answered(value, note)) => {
                self.recorder.record(*note).await?;
                Ok(value)
            }
            Err(error) => {
                let error = match crate::envelope::refers_to_nothing(&error) {
                    // What it referred to went away meanwhile: a key, if the clocks of replicas are far apart.
                    true => {
                        self.keyring.forget(ctx.tenant()).await;
                        error.into_unavailable("Something that this refers to has just changed; try again.")
                    }
                    false => error,
                };
                Err(self.refuse(ctx, &act, error, started.elapsed()).await)
            }
        }
    }

    /// See [`Vault::statistics`](crate::Vault::statistics).
    pub(crate) fn statistics(&self) -> Statistics {
        let (connections, connections_free) = self.db.connections();
        let (database_round_trips, database_handovers) = self.db.round_trips();
        Statistics {
            connections,
            connections_free,
            database_round_trips,
            database_handovers,
            audit_waiting: self.recorder.waiting(),
            rewrap_remaining: 0,
            root_wraps_missing: 0,
            provider_calls: self.keyring.provider_calls(),
            identity_sync_age: None,
            crls_refused: 0,
            crl_overdue: None,
            crl_longest: None,
            ocsp: Vec::new(),
            rsa_keys_ready: 0,
            rsa_keys_taken: 0,
            rsa_keys_missed: 0,
        }
    }

    /// Hands out what the public may read without a token: revocation lists and OCSP answers.
    pub(crate) fn public(&self) -> PublicPermit<'_> {
        PublicPermit::new(self)
    }

    /// Records an error that a caller with an identity got, unless it is recorded already; gives back the
    /// error to answer with.
    pub(crate) async fn refuse(&self, ctx: &Ctx, act: &Act, error: Error, took: Duration) -> Error {
        if error.is_recorded() {
            return error;
        }
        match self.refusal(ctx, act, &error, took) {
            Ok(note) => match self.recorder.record(note).await {
                Ok(()) => error.recorded(),
                // No answer leaves without its record; what went wrong first stays in the log.
                Err(unrecorded) => {
                    tracing::warn!(code = error.code().as_str(), "a refusal could not be recorded");
                    unrecorded
                }
            },
            Err(broken) => broken,
        }
    }

    /// As [`refuse`](Self::refuse), for a request that cannot be read. Authorization comes first: who may not
    /// do it learns that, and not what is wrong with the request.
    pub(crate) async fn refuse_unread(&self, ctx: &Ctx, act: Act, error: Error, took: Duration) -> Error {
        if error.is_recorded() {
            return error;
        }
        let act = Arc::new(act);
        let unchecked = act.scopes.is_empty();
        let denied = if unchecked { None } else { self.authorize(ctx, &act, Instant::now()).await.err() };
        let limited = match error.code() {
            // It was charged where it was refused.
            Code::RateLimited => None,
            _ => self.charge(ctx, act.action).await.err(),
        };
        self.refuse(ctx, &act, limited.or(denied).unwrap_or(error), took).await
    }

    /// Charges a request to its caller. Of those that are one too many the trail gets one a minute: it is to show
    /// that somebody asks too often, and not to be filled by him.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    async fn charge(&self, ctx: &Ctx, action: Action) -> Result<()> {
        let caller = ctx.caller();
        let Some(category) = Category::of(action).filter(|_| caller.identity_type() != IdentityType::System)
        else {
            return Ok(());
        };
        let who = [caller.tenant_id().as_str(), caller.identity_type().as_str(), caller.identity_id()];
        let Some(charged) = self.limiter.charge(category, &who).await else { return Ok(()) };
        ctx.set_charged(charged);
        charged.passed().map_err(|error| {
            if self.limiter.is_to_be_told(category, &who) { error } else { error.recorded() }
        })
    }

    /// See [`Vault::whoami`](crate::Vault::whoami).
    pub(crate) async fn whoami(&self, ctx: &Ctx) -> Result<()> {
        self.admit(ctx).await?;
        if ctx.named() != ctx.caller().tenant_id() {
            self.enter(ctx).await?;
        }
        self.charge(ctx, Action::Whoami).await
    }

    /// See [`Vault::failed_login`](crate::Vault::failed_login).
    pub(crate) async fn failed_login(&self, from: std::net::IpAddr) -> Result<()> {
        self.limiter.charge_stranger(&stranger(from)).await
    }

    /// See [`Vault::may_look_up`](crate::Vault::may_look_up).
    pub(crate) fn may_look_up(&self, from: std::net::IpAddr) -> Result<()> {
        self.limiter.check_stranger(&stranger(from))
    }

    /// Charges an address for what it asks without being anybody.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub(crate) async fn charge_address(&self, category: Category, from: std::net::IpAddr) -> Result<()> {
        match self.limiter.charge(category, &[&stranger(from)]).await {
            Some(charged) => charged.passed(),
            None => Ok(()),
        }
    }

    /// See [`RateLimiter::may_sign_for_anybody`].
    pub(crate) fn may_sign_for_anybody(&self, ca_id: &str) -> bool {
        self.limiter.may_sign_for_anybody(ca_id)
    }

    /// See [`RateLimiter::is_shared`].
    pub(crate) async fn limits_are_shared(&self) -> Option<bool> {
        self.limiter.is_shared().await
    }

    /// Refuses whom the directory has closed, and lets `ctx` know what it gives to the caller.
    ///
    /// # Errors
    /// [`Code::TokenRevoked`].
    pub(crate) async fn admit(&self, ctx: &Ctx) -> Result<()> {
        if let Some(known) = self.directory.standing(ctx.authenticated()).await? {
            ctx.set_known(known);
        }
        Ok(())
    }

    /// Who people are.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Whether somebody of the tenant was ever here.
    pub(crate) async fn knows_tenant(&self, tenant: &TenantId) -> Result<bool> {
        Ok(self.tenants.partner_of(tenant).await?.is_some())
    }

    async fn authorize<'a>(&'a self, ctx: &'a Ctx, act: &Arc<Act>, started: Instant) -> Result<Permit<'a>> {
        self.admit(ctx).await?;
        let caller = ctx.caller();
        let is_system = caller.identity_type() == IdentityType::System;
        // Whoever may not act on a tenant at all learns that first.
        let foreign = ctx.named() != caller.tenant_id();
        let entered = if foreign { Some(self.enter(ctx).await?) } else { None };
        if !is_system {
            self.check_scope(ctx, act.scopes)?;
        }
        let access = match entered {
            Some(access) => access,
            None => self.enter(ctx).await?,
        };
        let standing = self.settings.standing(caller, access.role);
        if ctx.is_in_partner() {
            check_shared(act, &access, is_system)?;
        }
        let mut sees = Sees::Nothing;
        let by_path = matches!(act.on, On::Path { .. } | On::Virtual { .. } | On::Listing { .. });
        let above = standing.filter(|standing| by_path || *standing == Standing::System);
        let grant = match (&act.on, above) {
            // Whatever would grant it: the token is narrowed to other paths.
            (On::Path { path, .. } | On::Virtual { path, .. }, _) if !caller.may_reach(path) => {
                return Err(denied(path, None));
            }
            (_, Some(standing)) => {
                sees = Sees::Everything;
                Grant::Above(standing)
            }
            (On::Path { permission, .. }, None) if ctx.is_in_partner() && is_shared(*permission) => {
                sees = Sees::Shared(self.in_force(ctx, &access.partner).await?);
                Grant::Shared
            }
            (On::Path { path, permission } | On::Virtual { path, permission, .. }, None) => {
                let in_force = self.in_force(ctx, &access.partner).await?;
                let grant = match in_force.decide(path, *permission) {
                    Decision::Allow(rule) => {
                        Grant::Rule { policy_id: rule.policy_id.to_owned(), rule_index: rule.rule_index }
                    }
                    Decision::Deny(failed) => return Err(denied(path, failed)),
                };
                sees = Sees::Granted(in_force);
                grant
            }
            (On::Listing { .. }, None) => {
                let in_force = self.in_force(ctx, &access.partner).await?;
                sees = if ctx.is_in_partner() { Sees::Shared(in_force) } else { Sees::Granted(in_force) };
                Grant::Scope
            }
            (On::Object { .. } | On::Nothing, None) => Grant::Scope,
        };
        Ok(Permit::new(self, ctx, act.clone(), access.partner, grant.note(ctx.caller()), sees, started))
    }

    /// By what right the caller acts on what the request names.
    async fn enter(&self, ctx: &Ctx) -> Result<Access> {
        let access = self.tenants.access(ctx).await?;
        let foreign = ctx.named() != ctx.caller().tenant_id() && access.role != Some(Role::SuperAdmin);
        if foreign && self.directory.has_deleted(ctx.named()).await? {
            return Err(crate::tenancy::unknown());
        }
        if access.store != *ctx.caller().tenant_id() {
            ctx.enter(&access.store);
        }
        Ok(access)
    }

    /// What the caller's policies say of this request, conditions included.
    async fn in_force(&self, ctx: &Ctx, partner: &PartnerId) -> Result<InForce> {
        let at = Circumstances {
            now: ctx.now(),
            source_ip: ctx.source_ip(),
            mfa_verified_at: ctx.caller().mfa_verified_at(),
            mfa_window: self.settings.mfa_window,
        };
        let policies = self.policies.current(ctx.tenant(), &TenantId::of_partner(partner)).await?;
        Ok(policies.for_caller(ctx.caller(), at))
    }

    fn check_scope(&self, ctx: &Ctx, any_of: &'static [Scope]) -> Result<()> {
        if any_of.iter().any(|scope| ctx.caller().has_scope(*scope)) || any_of.is_empty() {
            return Ok(());
        }
        let needed: Vec<&str> = any_of.iter().map(|s| s.as_str()).collect();
        let message = format!("The token needs the scope {}.", needed.join(" or "));
        let first = any_of.first().map(|s| s.as_str());
        Err(Error::new(Code::InsufficientScope, message).with(|d| d.required_scope = first))
    }

    fn refusal(&self, ctx: &Ctx, act: &Act, error: &Error, took: Duration) -> Result<Note> {
        let now = self.clock.now();
        let mut record = Record::new(ctx, act.action, &act.on, (now, took), self.random.as_ref())?;
        record.error = Some(error.code());
        if act.action == Action::AuthExchange {
            // Whoever asked is told less.
            record.extra.insert("reason".into(), json!(error.message()));
        }
        if ctx.tenant() != ctx.caller().tenant_id() && !ctx.has_entered() {
            // A tenant that the caller may not act on does not get his records.
            record.tenant = ctx.caller().tenant_id().clone();
            record.extra.insert("target_tenant_id".into(), json!(ctx.tenant().as_str()));
        }
        let failed = error.details().failed_condition;
        let by_policy = error.code() == Code::AccessDenied || failed.is_some();
        let event = match &act.on {
            On::Path { path, permission } | On::Virtual { path, permission, .. } if by_policy => {
                who(ctx.caller(), &mut record.extra);
                record.extra.insert("permission".into(), json!(permission.as_str()));
                if !ctx.caller().may_reach(path) {
                    record.extra.insert("outside_allowed_paths".into(), json!(true));
                }
                if let Some(failed) = failed {
                    record.extra.insert("failed_condition".into(), json!(failed));
                }
                let data = json!({
                    "permission": permission.as_str(),
                    "reason": error.code().as_str(),
                    "failed_condition": failed,
                    "source_ip": ctx.source_ip().map(|ip| ip.to_string()),
                });
                Some(self.event(ctx, EventType::PolicyViolation, Some(shown(path)), data)?)
            }
            _ => None,
        };
        Ok(Note { record, event, touch: None })
    }

    fn event(
        &self,
        ctx: &Ctx,
        event_type: EventType,
        path: Option<String>,
        data: serde_json::Value,
    ) -> Result<Event> {
        let now = self.clock.now();
        Ok(Event {
            id: id::new("evt_", now, self.random.as_ref())?,
            tenant: ctx.tenant().clone(),
            event_type,
            path,
            identity_id: ctx.caller().identity_id().to_owned(),
            request_id: ctx.request_id().to_owned(),
            data,
            created_at: now,
        })
    }

    /// Comes back when every durable record of the tenant has its place in the trail.
    pub(crate) async fn audit_linked(&self, tenant: &str) -> Result<()> {
        self.recorder.linked(tenant).await
    }

    /// Forbids to write, or allows it again.
    pub(crate) fn quarantine(&self, reason: Option<String>) {
        self.quarantine.store(reason.map(Arc::new));
    }

    pub(crate) fn quarantined(&self) -> Option<Arc<String>> {
        self.quarantine.load_full()
    }

    /// What must not be done in quarantine passes here.
    fn check_quarantine(&self) -> Result<()> {
        match self.quarantined() {
            None => Ok(()),
            Some(reason) => {
                let message = format!(
                    "The database was put back to an older state: {reason}. An operator has to look."
                );
                Err(Error::new(Code::Quarantined, message)
                    .with(|d| d.retry_after = Some(Duration::from_secs(300))))
            }
        }
    }

    /// What seals and opens keys, for the one that signs checkpoints.
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Takes no more records, so that the audit writer comes to its end.
    pub(crate) fn stop_recording(&self) {
        self.recorder.stop();
    }

    /// Drops unwrapped keys whose time is over, also when nobody asks for any.
    pub(crate) async fn forget_expired_keys(&self) {
        self.keyring.forget_expired().await;
    }

    /// Readiness: the database answers.
    pub(crate) async fn check_database(&self) -> Result<()> {
        self.db
            .on(As::Nobody)
            .fetch_optional::<(i64,)>(storage::query("SELECT count(*) FROM tenant WHERE tenant_id = ''"))
            .await?;
        Ok(())
    }

    /// The root keys that the vault is configured with.
    pub(crate) fn roots(&self) -> &Roots {
        self.keyring.roots()
    }

    /// See [`Keyring::grace`].
    pub(crate) fn key_grace(&self) -> Duration {
        self.keyring.grace()
    }

    /// What a job needs to find work over all tenants; the work itself is done under a permit.
    pub(crate) fn job_db(&self) -> storage::On<'_> {
        self.db.on(As::Jobs)
    }

    /// What the audit trail's own work needs, over all tenants: places, checkpoints, retention.
    pub(crate) fn audit_db(&self) -> storage::On<'_> {
        self.db.on(As::Recorder)
    }

    /// See [`Db::has_partitions`].
    pub(crate) fn has_partitions(&self) -> bool {
        self.db.has_partitions()
    }

    /// See [`Months::make_ahead`].
    pub(crate) async fn make_months_ahead(&self, months: &Months, now: time::OffsetDateTime) -> Result<()> {
        months.make_ahead(&self.db, now, limits::PARTITIONS_AHEAD).await
    }

    /// The partitions of certificates.
    pub(crate) fn certificate_months(&self) -> &Months {
        &self.certificate_months
    }

    /// See [`Months::before`].
    pub(crate) async fn months_before(
        &self,
        months: &Months,
        time: time::OffsetDateTime,
    ) -> Result<BTreeSet<Month>> {
        months.before(&self.db, time).await
    }

    /// See [`Months::detach`].
    pub(crate) async fn detach_month(&self, months: &Months, month: Month) -> Result<()> {
        months.detach(&self.db, month).await
    }

    /// Sees to it that there is a partition for a certificate that expires then.
    async fn make_room(&self, not_after: time::OffsetDateTime) -> Result<()> {
        let lacking = self.certificate_months.lacking(&self.db, std::iter::once(not_after));
        self.certificate_months.make(&self.db, lacking).await
    }

    /// The same for what is due of keys.
    pub(crate) fn key_db(&self) -> storage::On<'_> {
        self.db.on(As::Keys)
    }

    /// What a job needs to take a tenant's work for itself.
    pub(crate) fn job_db_of<'a>(&'a self, tenant: &'a TenantId) -> storage::On<'a> {
        self.db.on(As::Tenant(tenant))
    }

    pub(crate) fn now(&self) -> time::OffsetDateTime {
        self.clock.now()
    }

    pub(crate) fn new_id(&self, prefix: &str) -> Result<String> {
        id::new(prefix, self.clock.now(), self.random.as_ref())
    }

    /// Whether there is such a tenant. Asking makes none.
    pub(crate) async fn is_tenant(&self, tenant: &TenantId) -> Result<bool> {
        Ok(self.tenants.partner_of(tenant).await?.is_some())
    }

    async fn partner_of(&self, tenant: &TenantId) -> Result<PartnerId> {
        let partner = self.tenants.partner_of(tenant).await?;
        partner.ok_or_else(|| Error::internal("a row of a tenant that does not exist"))
    }
}

/// How strangers are counted: by their address.
fn stranger(from: std::net::IpAddr) -> String {
    match from.to_canonical() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        // A subscriber has a whole network of them.
        std::net::IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// The refusal of whom no rule allows it; `failed` is the condition that stands in the way of one.
fn denied(path: &str, failed: Option<Condition>) -> Error {
    let (code, message) = match failed {
        None => (Code::AccessDenied, "No policy allows this."),
        Some(Condition::SourceIp) => {
            (Condition::SourceIp.code(), "Policies allow this only from other addresses.")
        }
        Some(Condition::TimeWindow) => {
            (Condition::TimeWindow.code(), "Policies allow this only at other times.")
        }
        Some(Condition::Mfa) => {
            (Condition::Mfa.code(), "Policies allow this only shortly after a second factor was shown.")
        }
    };
    Error::new(code, message).with(|details| {
        details.path = Some(path.to_owned());
        details.failed_condition = failed.map(Condition::as_str);
    })
}

/// Whether everybody in the tenants of a partner may do this to the secrets that he shares.
pub(crate) fn is_shared(permission: Permission) -> bool {
    matches!(permission, Permission::Read | Permission::List)
}

/// What can be done to what a partner shares, and by whom: his secrets by whom policies say, the rest by his admins.
fn check_shared(act: &Act, access: &Access, is_system: bool) -> Result<()> {
    let forbidden = |message| Err(Error::new(Code::Forbidden, message));
    match act.action {
        _ if is_system => forbidden("A job acts on its own tenant."),
        Action::Read | Action::Write | Action::Delete | Action::List | Action::Restore => Ok(()),
        Action::PolicyRead
        | Action::PolicyTest
        | Action::PolicyCreate
        | Action::PolicyUpdate
        | Action::PolicyDelete
        | Action::PolicyBind
        | Action::PolicyUnbind
        | Action::AuditQuery => match access.role {
            Some(Role::PartnerAdmin | Role::SuperAdmin) => Ok(()),
            _ => forbidden("Only the admins of the partner may do this."),
        },
        _ => forbidden("A partner shares secrets and policies with his tenants, and nothing else."),
    }
}

/// What policies know of the caller beside his name, so that the decision can be made again from the record: his
/// groups, up to a number, and when he last showed a second factor.
fn who(caller: &Caller, extra: &mut serde_json::Map<String, serde_json::Value>) {
    let groups = caller.groups();
    let kept = groups.get(..limits::AUDIT_GROUPS).unwrap_or(groups);
    extra.insert("groups".into(), json!(kept));
    if kept.len() < groups.len() {
        extra.insert("groups_omitted".into(), json!(groups.len() - kept.len()));
    }
    if let Some(at) = caller.mfa_verified_at() {
        extra.insert("mfa_verified_at".into(), json!(crate::wire::rfc3339(at)));
    }
}

impl Grant {
    fn note(&self, caller: &Caller) -> serde_json::Map<String, serde_json::Value> {
        let mut extra = serde_json::Map::new();
        match self {
            Self::Scope => {}
            Self::Above(standing) => drop(extra.insert("granted_by".into(), json!(standing.as_str()))),
            Self::Shared => drop(extra.insert("granted_by".into(), json!("partner"))),
            Self::Rule { policy_id, rule_index } => {
                who(caller, &mut extra);
                extra.insert("policy_id".into(), json!(policy_id));
                extra.insert("rule_index".into(), json!(rule_index));
            }
        }
        extra
    }
}

/// The record that `perform` writes for an act that succeeded.
fn success(
    door: &Door,
    ctx: &Ctx,
    (action, on): (Action, &On),
    took: Duration,
    extra: serde_json::Map<String, serde_json::Value>,
) -> Result<Record> {
    let mut record = Record::new(ctx, action, on, (door.clock.now(), took), door.random.as_ref())?;
    record.extra = extra;
    Ok(record)
}
