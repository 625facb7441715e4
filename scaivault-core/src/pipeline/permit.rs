use std::{sync::Arc, time::Instant};

use serde_json::{Map, Value};

use super::{Act, Ctx, Door, DoorSettings, On, success};
use crate::{
    Error, PartnerId, Result, TenantId,
    audit::{self, Action, Note, Touch},
    envelope::{Keyring, TenantKeys},
    events::{self, Event, EventType},
    policy::{CompiledPolicies, InForce, Permission},
    storage::{As, On as Access, Query, Row, Tx},
};

/// The proof that an act was authorized, and the way to everything that it needs. Neither made nor
/// copied anywhere but in the pipeline.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    door: &'a Door,
    ctx: &'a Ctx,
    act: Arc<Act>,
    partner: PartnerId,
    extra: Map<String, Value>,
    resource_id: Option<String>,
    touch: Option<Touch>,
    sees: Sees,
    over: Over,
    started: Instant,
}

/// What a permit reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// What is the tenant's.
    Tenant,
    /// Instead the keys of every partner and tenant.
    Keys,
    /// Instead the directory of every partner and tenant.
    Directory,
}

/// Which paths of the tenant the holder of a permit may look at besides the one it is for.
#[derive(Debug)]
pub(crate) enum Sees {
    /// None: the act is not about paths.
    Nothing,
    /// All: a tenant admin, or a job.
    Everything,
    /// What these policies grant.
    Granted(InForce),
    /// What a partner shares: all of it to read and to list, and what these policies grant.
    Shared(InForce),
}

/// What a verb returns to the pipeline. Made by [`Permit::answer`], [`Permit::answer_unrecorded`] and [`Write::commit`]
/// alone.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// The change is durable together with its record.
    Committed(T),
    /// Nothing was changed; the pipeline writes the record before it gives the value out.
    Answered(T, Box<Note>),
    /// A dry run, which is nothing that was done. See [`Permit::answer_unrecorded`].
    Unrecorded(T),
}

impl<'a> Permit<'a> {
    pub(super) fn new(
        door: &'a Door,
        ctx: &'a Ctx,
        act: Arc<Act>,
        partner: PartnerId,
        extra: Map<String, Value>,
        sees: Sees,
        started: Instant,
    ) -> Self {
        Self {
            door,
            ctx,
            act,
            partner,
            extra,
            resource_id: None,
            touch: None,
            sees,
            over: Over::Tenant,
            started,
        }
    }

    pub(crate) fn ctx(&self) -> &'a Ctx {
        self.ctx
    }

    pub(crate) fn tenant(&self) -> &'a TenantId {
        self.ctx.tenant()
    }

    /// The open keys of the tenant, for opening and for cursors. Never called while a transaction is open: it may call the provider.
    pub(crate) async fn keys(&self) -> Result<Arc<TenantKeys>> {
        self.door.keyring.tenant(self.ctx.tenant(), &self.partner).await
    }

    /// The open keys of the tenant, for opening what is under `key_id`: also if another replica made that key
    /// since ours were read.
    pub(crate) async fn keys_for(&self, key_id: &str) -> Result<Arc<TenantKeys>> {
        self.door.keyring.tenant_with(self.ctx.tenant(), &self.partner, key_id).await
    }

    /// The open keys of the tenant, for sealing; if `key_id` is given, for opening what is under that as well.
    pub(crate) async fn keys_to_seal(&self, key_id: Option<&str>) -> Result<Arc<TenantKeys>> {
        self.door.keyring.tenant_to_seal(self.ctx.tenant(), &self.partner, key_id).await
    }

    /// The keyring itself, for the verbs that look after it.
    pub(crate) fn keyring(&self) -> &'a Keyring {
        &self.door.keyring
    }

    /// The partner of the tenant.
    pub(crate) fn partner(&self) -> &PartnerId {
        &self.partner
    }

    /// The partner of a tenant, if that has been seen.
    pub(crate) async fn partner_of(&self, tenant: &TenantId) -> Result<Option<PartnerId>> {
        self.door.tenants.partner_of(tenant).await
    }

    /// The tenant's policies as requests are decided by.
    pub(crate) async fn policies(&self) -> Result<Arc<CompiledPolicies>> {
        self.door.policies.current(self.tenant(), &self.shared()).await
    }

    /// What stands for the partner of the tenant.
    pub(crate) fn shared(&self) -> TenantId {
        TenantId::of_partner(&self.partner)
    }

    /// Whether a tenant is one of the same partner.
    pub(crate) async fn is_of_partner(&self, tenant: &TenantId) -> Result<bool> {
        Ok(self.door.tenants.partner_of(tenant).await?.is_some_and(|partner| partner == self.partner))
    }

    /// Reads the policies that the partner of the tenant gives to it.
    pub(crate) async fn fetch_all_shared<R: Row>(&self, query: Query<'_>) -> Result<Vec<R>> {
        self.door.db.on(As::Tenant(&self.shared())).fetch_all(query).await
    }

    /// What decides about callers beside their policies.
    pub(crate) fn settings(&self) -> &'a DoorSettings {
        &self.door.settings
    }

    pub(crate) fn new_id(&self, prefix: &str) -> Result<String> {
        self.door.new_id(prefix)
    }

    /// The source of randomness.
    pub(crate) fn source(&self) -> &'a dyn crate::Random {
        self.door.random.as_ref()
    }

    /// Fills bytes with randomness, for a serial number.
    pub(crate) fn random(&self, bytes: &mut [u8]) -> Result<()> {
        self.door.random.fill(bytes)
    }

    pub(crate) async fn fetch_optional<R: Row>(&self, query: Query<'_>) -> Result<Option<R>> {
        self.db().fetch_optional(query).await
    }

    pub(crate) async fn fetch_all<R: Row>(&self, query: Query<'_>) -> Result<Vec<R>> {
        self.db().fetch_all(query).await
    }

    /// For lists, and nothing that must show what was just written: from a replica, if there is one.
    pub(crate) async fn fetch_all_lagging<R: Row>(&self, query: Query<'_>) -> Result<Vec<R>> {
        self.db().fetch_all_lagging(query).await
    }

    /// Reaches the keys of all partners and tenants from here on, and nothing else: for the acts on keys.
    pub(crate) fn over_keys(mut self) -> Result<Self> {
        if !matches!(self.act.action, Action::KeyRead | Action::KeyRotate) {
            return Err(Error::internal("only acts on keys reach over tenants"));
        }
        self.over = Over::Keys;
        Ok(self)
    }

    /// Reaches the directory of all partners and tenants from here on, and nothing else.
    pub(crate) fn over_directory(mut self) -> Result<Self> {
        let about = [Action::IdentityRead, Action::IdentitySync, Action::IdentityEvent, Action::RoleAssign];
        if !about.contains(&self.act.action) {
            return Err(Error::internal("only acts on identities reach the directory"));
        }
        self.over = Over::Directory;
        Ok(self)
    }

    /// What is a tenant's, for a permit that reaches over tenants.
    pub(crate) async fn fetch_all_of<R: Row>(&self, tenant: &TenantId, query: Query<'_>) -> Result<Vec<R>> {
        if self.over != Over::Keys {
            return Err(Error::internal("this permit is for one tenant"));
        }
        self.door.db.on(As::Tenant(tenant)).fetch_all(query).await
    }

    fn db(&self) -> Access<'_> {
        let reads = matches!(self.act.action, Action::Read | Action::List);
        self.door.db.on(match self.over {
            Over::Keys => As::Keys,
            Over::Directory => As::Directory,
            // What a partner shares is read as one of his tenants, which can do nothing else to it.
            Over::Tenant if reads && self.ctx.is_in_partner() => As::Tenant(self.ctx.named()),
            Over::Tenant => As::Tenant(self.ctx.tenant()),
        })
    }

    /// Whether the caller may do this to that path as well: for each item of a list, and for what only
    /// those may see who administer a path.
    pub(crate) fn may(&self, path: &str, permission: Permission) -> bool {
        if !self.ctx.caller().may_reach(path) {
            return false;
        }
        match &self.sees {
            Sees::Nothing => false,
            Sees::Everything => true,
            Sees::Shared(_) if super::is_shared(permission) => true,
            Sees::Granted(policies) | Sees::Shared(policies) => {
                policies.decide(path, permission).is_allowed()
            }
        }
    }

    /// Adds a particular to the audit record. Never a secret.
    pub(crate) fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.extra.insert(name.to_owned(), value.into());
    }

    /// Names what was acted on, where that is only known later.
    pub(crate) fn resource(&mut self, id: &str) {
        self.resource_id = Some(id.to_owned());
    }

    /// Moves a secret's `last_accessed_at` forward together with the record of the read.
    pub(crate) fn touch(&mut self, secret_id: &str) {
        let tenant = self.ctx.tenant().clone();
        self.touch = Some(Touch { tenant, secret_id: secret_id.to_owned(), at: self.ctx.now() });
    }

    /// Ends a verb that changed nothing.
    pub(crate) fn answer<T>(self, value: T) -> Result<Outcome<T>> {
        let record = self.record()?;
        Ok(Outcome::Answered(value, Box::new(Note { record, event: None, touch: self.touch })))
    }

    /// Ends a dry run of policies, the one verb whose success leaves no record; a refusal of it does.
    pub(crate) fn answer_unrecorded<T>(self, value: T) -> Result<Outcome<T>> {
        if self.act.action != Action::PolicyTest {
            return Err(Error::internal("only dry runs of policies are not recorded"));
        }
        Ok(Outcome::Unrecorded(value))
    }

    /// Sees to it that there is room for a certificate that expires then.
    pub(crate) async fn make_room(&self, not_after: time::OffsetDateTime) -> Result<()> {
        self.door.make_room(not_after).await
    }

    /// Starts the transaction of a verb that changes something.
    pub(crate) async fn begin(self) -> Result<Write<'a>> {
        self.door.check_quarantine()?;
        Ok(Write {
            tx: self.db().begin().await?,
            permit: self,
            events: Vec::new(),
            policies_changed: false,
            directory_changed: false,
        })
    }

    fn record(&self) -> Result<audit::Record> {
        let mut on = self.act.on.clone();
        if let (On::Object { id, .. }, Some(known)) = (&mut on, &self.resource_id) {
            *id = Some(known.clone());
        }
        let mut record =
            success(self.door, self.ctx, (self.act.action, &on), self.started.elapsed(), self.extra.clone())?;
        if record.resource_id.is_none() {
            record.resource_id.clone_from(&self.resource_id);
        }
        Ok(record)
    }
}

/// A transaction of an authorized act. Dropped, it leaves nothing; committed, everything at once.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    tx: Tx,
    permit: Permit<'a>,
    events: Vec<Event>,
    policies_changed: bool,
    directory_changed: bool,
}

impl<'a> Write<'a> {
    pub(crate) fn ctx(&self) -> &'a Ctx {
        self.permit.ctx
    }

    pub(crate) fn tenant(&self) -> &'a TenantId {
        self.permit.tenant()
    }

    pub(crate) fn new_id(&self, prefix: &str) -> Result<String> {
        self.permit.new_id(prefix)
    }

    pub(crate) async fn fetch_optional<R: Row>(&mut self, query: Query<'_>) -> Result<Option<R>> {
        self.tx.fetch_optional(query).await
    }

    pub(crate) async fn fetch_all<R: Row>(&mut self, query: Query<'_>) -> Result<Vec<R>> {
        self.tx.fetch_all(query).await
    }

    pub(crate) async fn execute(&mut self, query: Query<'_>) -> Result<u64> {
        self.tx.execute(query).await
    }

    pub(crate) fn lock_rows(&self) -> &'static str {
        self.tx.lock_rows()
    }

    pub(crate) fn take_rows(&self) -> &'static str {
        self.tx.take_rows()
    }

    /// See [`Permit::note`].
    pub(crate) fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.permit.note(name, value);
    }

    /// See [`Permit::resource`].
    pub(crate) fn resource(&mut self, id: &str) {
        self.permit.resource(id);
    }

    /// Adds an event that is told if, and only if, the transaction commits.
    pub(crate) fn event(&mut self, event_type: EventType, path: Option<&str>, data: Value) -> Result<()> {
        let event = self.permit.door.event(self.permit.ctx, event_type, path.map(str::to_owned), data)?;
        self.events.push(event);
        Ok(())
    }

    /// Marks that what the tenant's policies allow is different after this transaction.
    pub(crate) async fn bump_policies(&mut self) -> Result<()> {
        self.policies_changed = true;
        let bump = crate::policy::store::bump_epoch(self.permit.tenant());
        self.tx.execute(bump).await.map(drop)
    }

    /// Marks that the directory says something else after this transaction.
    pub(crate) fn directory_changed(&mut self) {
        self.directory_changed = true;
    }

    /// Writes the audit record and the events, and makes all of it durable.
    pub(crate) async fn commit<T>(mut self, value: T) -> Result<Outcome<T>> {
        let record = self.permit.record()?;
        audit::append(&mut self.tx, record.into_log()).await?;
        for event in &self.events {
            self.tx.execute(events::store::insert(event)).await?;
        }
        let waits = !self.tx.writes_alone();
        self.tx.commit().await?;
        if waits {
            self.permit.door.recorder.wake(self.permit.tenant().as_str());
        }
        if self.directory_changed {
            self.permit.door.directory.forget().await;
        }
        if self.policies_changed {
            self.permit.door.policies.forget(self.permit.tenant()).await;
        }
        Ok(Outcome::Committed(value))
    }
}

/// The way to what anybody may read: it writes nothing and records nothing.
#[derive(Debug)]
pub(crate) struct PublicPermit<'a> {
    door: &'a Door,
}

impl<'a> PublicPermit<'a> {
    pub(super) fn new(door: &'a Door) -> Self {
        Self { door }
    }

    pub(crate) async fn fetch_optional<R: Row>(&self, query: Query<'_>) -> Result<Option<R>> {
        self.door.db.on(As::Public).fetch_optional(query).await
    }

    /// What belongs to the tenant that owns what was asked for.
    pub(crate) async fn fetch_all_of<R: Row>(&self, tenant: &TenantId, query: Query<'_>) -> Result<Vec<R>> {
        self.door.db.on(As::Tenant(tenant)).fetch_all(query).await
    }

    /// Whether anything may be signed: in quarantine, what is signed for the public would call good what was revoked
    /// since.
    pub(crate) fn check_signing(&self) -> Result<()> {
        self.door.check_quarantine()
    }

    /// The keys of the tenant that owns what was asked for, among them `key_id`.
    pub(crate) async fn keys_for(&self, tenant: &TenantId, key_id: &str) -> Result<Arc<TenantKeys>> {
        self.check_signing()?;
        let partner = self.door.partner_of(tenant).await?;
        self.door.keyring.tenant_with(tenant, &partner, key_id).await
    }

    pub(crate) fn now(&self) -> time::OffsetDateTime {
        self.door.now()
    }
}
