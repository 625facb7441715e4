use std::{sync::Arc, time::Instant};

use serde_json::{Map, Value};

use super::{Act, Ctx, Door, On, success};
use crate::{
    PartnerId, Result, TenantId,
    audit::{self, Note, Touch},
    envelope::TenantKeys,
    events::{self, Event, EventType},
    policy::{InForce, Permission},
    storage::{Query, Row, Tx},
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
    started: Instant,
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
}

/// What a verb returns to the pipeline. Made by [`Permit::answer`] and [`Write::commit`] alone.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// The change is durable together with its record.
    Committed(T),
    /// Nothing was changed; the pipeline writes the record before it gives the value out.
    Answered(T, Box<Note>),
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
        Self { door, ctx, act, partner, extra, resource_id: None, touch: None, sees, started }
    }

    pub(crate) fn ctx(&self) -> &'a Ctx {
        self.ctx
    }

    pub(crate) fn tenant(&self) -> &'a TenantId {
        self.ctx.tenant()
    }

    /// The open keys of the tenant. Never called while a transaction is open: it may call the provider.
    pub(crate) async fn keys(&self) -> Result<Arc<TenantKeys>> {
        self.door.keyring.tenant(self.ctx.tenant(), &self.partner).await
    }

    pub(crate) fn new_id(&self, prefix: &str) -> Result<String> {
        self.door.new_id(prefix)
    }

    /// Fills bytes with randomness, for a serial number.
    pub(crate) fn random(&self, bytes: &mut [u8]) -> Result<()> {
        self.door.random.fill(bytes)
    }

    pub(crate) async fn fetch_optional<R: Row>(&self, query: Query<'_>) -> Result<Option<R>> {
        self.door.db.fetch_optional(query).await
    }

    pub(crate) async fn fetch_all<R: Row>(&self, query: Query<'_>) -> Result<Vec<R>> {
        self.door.db.fetch_all(query).await
    }

    /// Whether the caller may do this to that path as well: for each item of a list, and for what only
    /// those may see who administer a path.
    pub(crate) fn may(&self, path: &str, permission: Permission) -> bool {
        match &self.sees {
            Sees::Nothing => false,
            Sees::Everything => true,
            Sees::Granted(policies) => policies.decide(path, permission).is_allowed(),
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

    /// Starts the transaction of a verb that changes something.
    pub(crate) async fn begin(self) -> Result<Write<'a>> {
        self.door.check_quarantine()?;
        Ok(Write {
            tx: self.door.db.begin().await?,
            permit: self,
            events: Vec::new(),
            policies_changed: false,
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
}

impl<'a> Write<'a> {
    pub(crate) fn ctx(&self) -> &'a Ctx {
        self.permit.ctx
    }

    pub(crate) fn tenant(&self) -> &'a TenantId {
        self.permit.tenant()
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
        self.door.db.fetch_optional(query).await
    }

    pub(crate) async fn fetch_all<R: Row>(&self, query: Query<'_>) -> Result<Vec<R>> {
        self.door.db.fetch_all(query).await
    }

    /// The keys of the tenant that owns what was asked for.
    pub(crate) async fn keys(&self, tenant: &TenantId) -> Result<Arc<TenantKeys>> {
        // What is signed for the public would call good what was revoked since.
        self.door.check_quarantine()?;
        let partner = self.door.partner_of(tenant).await?;
        self.door.keyring.tenant(tenant, &partner).await
    }

    pub(crate) fn now(&self) -> time::OffsetDateTime {
        self.door.now()
    }
}
