//! Syncs: everything is fetched first, so that one that fails changes nothing; then tenant by tenant is brought up to
//! date. What a sync does not see any more was deleted.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{
    apply,
    model::{ACTIVE, DELETED, Fact, Key, SyncStarted, roles_of, status, status_value, text_value},
    registers::{Registers, Version},
    source::{IdentityPage, IdentitySource, SourceUser},
    store::sql,
};
use crate::{
    Caller, Code, Ctx, Error, PartnerId, Result, Role, TenantId, Vault,
    audit::Action,
    envelope::OPERATOR,
    id, limits,
    pipeline::{Act, Outcome, Permit, Write},
    storage::{On, Query, Row, Ts, json as json_arg, query},
};

/// What a sync is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) partner: Option<PartnerId>,
    pub(super) tenant: Option<TenantId>,
}

/// Does what is due of syncs: a full one every so often on one of the replicas, and whatever was asked for.
pub(crate) async fn run_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let Some(source) = &inner.identity_source else { return Ok(()) };
    if vault.quarantine().is_some() {
        return Ok(());
    }
    let directory = inner.door.directory();
    let now = inner.clock.now();
    let next = now + directory.settings().sync_every;
    if directory.db().execute(query(sql::TAKE_TURN).bind(next).bind(now)).await? == 1 {
        queue(vault, &Scope::default(), REQUESTED_BY).await?;
        directory.db().execute(query(sql::FORGET_EVENTS).bind(now - limits::EVENTS_KEPT)).await?;
        directory.db().execute(query(sql::FORGET_SYNCS).bind(now - limits::SYNCS_KEPT)).await?;
    }
    type Wanted = (String, Option<String>, Option<String>);
    let wanted: Vec<Wanted> = directory.db().fetch_all(query(sql::WANTED).bind(now)).await?;
    let mut result = Ok(());
    for (id, partner, tenant) in wanted {
        let started = inner.clock.now();
        let claim = query(sql::CLAIM).bind(&id).bind(started).bind(started + limits::SYNC_CLAIM);
        if directory.db().execute(claim).await? == 0 {
            continue;
        }
        let scope = Scope {
            partner: partner.map(PartnerId::parse).transpose()?,
            tenant: tenant.map(TenantId::parse).transpose()?,
        };
        let run = Run { vault, id: &id, scope: &scope, started };
        // One that fails does not keep the others.
        if let Err(error) = run.to_its_end(source.as_ref()).await {
            tracing::error!(%error, causes = error.causes(), "a sync of identities failed");
            result = Err(error);
        }
    }
    result
}

/// Asks for a sync of what an event that could not be taken over is about.
pub(super) async fn request_for(
    vault: &Vault,
    tenant: Option<&TenantId>,
    partner: Option<&PartnerId>,
) -> Result<()> {
    if vault.inner().identity_source.is_none() {
        return Ok(());
    }
    let partner = if tenant.is_some() { None } else { partner.cloned() };
    queue(vault, &Scope { partner, tenant: tenant.cloned() }, "system:scaikey-webhook").await?;
    vault.inner().sync_wanted.notify_one();
    Ok(())
}

/// Notes that a sync is wanted, unless the same is wanted already.
async fn queue(vault: &Vault, scope: &Scope, requested_by: &str) -> Result<()> {
    let inner = vault.inner();
    let db = inner.door.directory().db();
    if db.fetch_optional::<(String, String, Ts)>(queued(scope)).await?.is_none() {
        let now = inner.clock.now();
        let id = id::new("sync_", now, inner.random.as_ref())?;
        db.execute(insert(&id, scope, requested_by, now)?).await?;
    }
    Ok(())
}

fn queued(scope: &Scope) -> Query<'_> {
    let partner = scope.partner.as_ref().map_or("", PartnerId::as_str);
    query(sql::QUEUED).bind(partner).bind(scope.tenant.as_ref().map_or("", TenantId::as_str))
}

fn insert<'a>(
    id: &'a str,
    scope: &'a Scope,
    requested_by: &'a str,
    now: OffsetDateTime,
) -> Result<Query<'a>> {
    let queue = query(sql::QUEUE).bind(id).bind(scope.partner.as_ref().map(PartnerId::as_str));
    let queue = queue.bind(scope.tenant.as_ref().map(TenantId::as_str)).bind(requested_by).bind(now);
    Ok(queue.bind(json_arg(&Vec::<String>::new())?))
}

/// The verb behind `POST /v1/identity/sync`; joins one of the same scope that waits.
pub(super) async fn start(permit: Permit<'_>, scope: &Scope) -> Result<Outcome<SyncStarted>> {
    let new_id = permit.new_id("sync_")?;
    let mut tx = permit.begin().await?;
    apply::lock(&mut tx).await?;
    let waits: Option<(String, String, Ts)> = tx.fetch_optional(queued(scope)).await?;
    let started = match waits {
        Some((sync_id, status, at)) => SyncStarted { sync_id, status, started_at: at.get() },
        None => {
            let (now, by) = (tx.ctx().now(), tx.ctx().caller().identity_id());
            tx.execute(insert(&new_id, scope, by, now)?).await?;
            SyncStarted { sync_id: new_id, status: "queued".to_owned(), started_at: now }
        }
    };
    tx.resource(&started.sync_id);
    tx.commit(started).await
}

/// All pages of a list.
macro_rules! all {
    ($seen:expr, $cursor:ident => $page:expr) => {{
        let (mut items, mut next) = (Vec::new(), None::<String>);
        loop {
            let $cursor = next.as_deref();
            let page = $page.await?;
            if !$seen.page(&mut items, &mut next, page)? {
                break items;
            }
        }
    }};
}

/// A sync that this process has taken.
struct Run<'a> {
    vault: &'a Vault,
    id: &'a str,
    scope: &'a Scope,
    started: OffsetDateTime,
}

/// What a source said.
#[derive(Default)]
struct Seen {
    facts: BTreeMap<Option<TenantId>, Vec<Fact>>,
    tenants: BTreeSet<TenantId>,
    records: usize,
    users: i64,
    groups: i64,
    skipped: Vec<String>,
}

impl Run<'_> {
    async fn to_its_end(&self, source: &dyn IdentitySource) -> Result<()> {
        let fetched = tokio::time::timeout(limits::SYNC_TIME, self.fetch(source)).await;
        let done = match fetched {
            Ok(Ok(seen)) => self.take_over(&seen).await.map(|()| seen),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::unavailable(
                "The identity provider took too long.",
                limits::SYNC_TIME,
                "a sync was given up",
            )),
        };
        let told = self.finish(done.as_ref()).await;
        done.and(told)
    }

    /// As of when the source is believed where it does not say: clocks differ, and events may overtake it.
    fn floor(&self) -> OffsetDateTime {
        self.started - limits::DIRECTORY_SKEW
    }

    async fn fetch(&self, source: &dyn IdentitySource) -> Result<Seen> {
        let mut seen = Seen::default();
        let partner = self.scope.partner.as_ref().map(PartnerId::as_str);
        if let Some(tenant) = &self.scope.tenant {
            seen.tenants.insert(tenant.clone());
        } else {
            if partner.is_none() {
                for partner in all!(seen, cursor => source.partners(cursor)) {
                    let places = [("name", partner.name), ("slug", partner.slug), ("region", partner.region)];
                    let fields = fields(places);
                    match PartnerId::parse(partner.id) {
                        Ok(id) => {
                            let key = Key::Partner(id.as_str().to_owned());
                            self.see(&mut seen, key, fields, partner.status, partner.updated_at);
                        }
                        Err(error) => seen.skip("partner", &error),
                    }
                }
            }
            for tenant in all!(seen, cursor => source.tenants(partner, cursor)) {
                let (name, slug, region) = (tenant.name, tenant.slug, tenant.region);
                let of = tenant.partner_id.or_else(|| partner.map(str::to_owned));
                let of = of.filter(|of| PartnerId::parse(of.as_str()).is_ok());
                let fields = fields([("name", name), ("slug", slug), ("region", region), ("partner_id", of)]);
                match TenantId::parse(tenant.id) {
                    Ok(id) => {
                        self.see(
                            &mut seen,
                            Key::Tenant(id.clone()),
                            fields,
                            tenant.status,
                            tenant.updated_at,
                        );
                        seen.tenants.insert(id);
                    }
                    Err(error) => seen.skip("tenant", &error),
                }
            }
        }
        if *self.scope == Scope::default() && seen.tenants.is_empty() {
            // Taken at its word it would close the vault to everybody.
            return Err(Error::new(Code::InvalidState, "The identity provider names no tenant at all."));
        }
        for tenant in seen.tenants.clone() {
            self.fetch_tenant(source, &tenant, &mut seen).await?;
        }
        Ok(seen)
    }

    async fn fetch_tenant(
        &self,
        source: &dyn IdentitySource,
        tenant: &TenantId,
        seen: &mut Seen,
    ) -> Result<()> {
        for user in all!(seen, cursor => source.users(tenant.as_str(), cursor)) {
            let Some(id) = identifier(&user.id) else {
                seen.skip("user", &Error::field("id", "must be 1 to 128 visible ASCII characters"));
                continue;
            };
            seen.users += 1;
            let (status, at) = (user.status.clone(), user.updated_at);
            self.see(seen, Key::User(tenant.clone(), id), user_fields(user), status, at);
        }
        let groups = all!(seen, cursor => source.groups(tenant.as_str(), cursor));
        for group in groups {
            let Some(id) = identifier(&group.id) else {
                seen.skip("group", &Error::field("id", "must be 1 to 128 visible ASCII characters"));
                continue;
            };
            seen.groups += 1;
            let named = fields([("name", group.name), ("slug", group.slug)]);
            self.see(seen, Key::Group(tenant.clone(), id.clone()), named, group.status, group.updated_at);
            let members = all!(seen, cursor => source.members(tenant.as_str(), &id, cursor));
            for member in members {
                let Some(user) = identifier(&member.user_id) else {
                    seen.skip(
                        "member",
                        &Error::field("user_id", "must be 1 to 128 visible ASCII characters"),
                    );
                    continue;
                };
                let nested = member.membership_type.is_some_and(|kind| kind.eq_ignore_ascii_case("NESTED"));
                let kind = if nested { "NESTED" } else { "DIRECT" };
                let fields = fields([("membership_type", Some(kind.to_owned()))]);
                let key = Key::Member(tenant.clone(), id.clone(), user);
                self.see(seen, key, fields, None, member.added_at);
            }
        }
        Ok(())
    }

    fn see(
        &self,
        seen: &mut Seen,
        key: Key,
        mut fields: Map<String, Value>,
        status: Option<String>,
        at: Option<OffsetDateTime>,
    ) {
        // A status that cannot be read opens nothing.
        let status = status.map_or_else(
            || ACTIVE.into(),
            |text| status_value(&text.into()).unwrap_or_else(|_| "UNKNOWN".into()),
        );
        fields.insert("status".to_owned(), status);
        let at = at.map_or(self.floor(), |at| at.min(self.started).max(self.floor()));
        let of = match &key {
            Key::Partner(_) | Key::Tenant(_) => None,
            other => other.tenant().cloned(),
        };
        seen.facts.entry(of).or_default().push(Fact { key, version: Version::of_sync(at), fields });
    }

    /// Brings the directory up to date: partners and tenants, then tenant by tenant, each in a transaction of its own.
    async fn take_over(&self, seen: &Seen) -> Result<()> {
        let of_all = std::iter::once(None);
        let of_each = seen.tenants.iter().cloned().map(Some);
        for part in of_all.chain(of_each) {
            let facts = seen.facts.get(&part).map_or(&[][..], Vec::as_slice);
            if part.is_none() && self.scope.tenant.is_some() {
                continue;
            }
            let known =
                self.load(Reads::Outside(self.vault.inner().door.directory().db()), part.as_ref()).await?;
            if self.differences(known, facts).is_empty() {
                continue;
            }
            self.write(part.as_ref(), facts).await?;
        }
        Ok(())
    }

    async fn write(&self, part: Option<&TenantId>, facts: &[Fact]) -> Result<()> {
        let ctx = self.ctx(part).await?;
        let act = Act::object(Action::IdentitySync, &[], "identity_sync", Some(self.id));
        let door = &self.vault.inner().door;
        door.perform(&ctx, act, |permit| async move { self.write_permitted(permit, part, facts).await }).await
    }

    async fn write_permitted(
        &self,
        permit: Permit<'_>,
        part: Option<&TenantId>,
        facts: &[Fact],
    ) -> Result<Outcome<()>> {
        let mut tx = permit.over_directory()?.begin().await?;
        apply::lock(&mut tx).await?;
        let known = self.load(Reads::Inside(&mut tx), part).await?;
        let changed = self.differences(known, facts);
        for fact in facts {
            apply::add_names(&mut tx, fact).await?;
        }
        for (key, state) in &changed {
            apply::write(&mut tx, key, state).await?;
        }
        tx.note("changed", changed.len());
        tx.note("tenant", part.map(TenantId::as_str));
        apply::raise(&mut tx, part).await?;
        tx.commit(()).await
    }

    /// What is to be written: what the source says otherwise, and what it does not know any more.
    fn differences(&self, mut known: BTreeMap<Key, Registers>, facts: &[Fact]) -> Vec<(Key, Registers)> {
        let mut seen: BTreeMap<&Key, (Registers, bool)> = BTreeMap::new();
        for fact in facts {
            let (state, changed) = seen.entry(&fact.key).or_insert_with(|| {
                let state = known.remove(&fact.key);
                let made = state.is_none();
                (state.unwrap_or_default(), made)
            });
            *changed |= fact.sync(state);
        }
        let mut differences: Vec<(Key, Registers)> = seen
            .into_iter()
            .filter(|(_, (_, changed))| *changed)
            .map(|(key, (state, _))| (key.clone(), state))
            .collect();
        let floor = Version::of_sync(self.floor());
        for (key, mut state) in known {
            if status(&state).0 != DELETED && state.set("status", &floor, DELETED.into()) {
                differences.push((key, state));
            }
        }
        differences
    }

    /// All that is known of partners and tenants, as far as the sync is of them, or of what a tenant has.
    async fn load(
        &self,
        mut from: Reads<'_, '_>,
        part: Option<&TenantId>,
    ) -> Result<BTreeMap<Key, Registers>> {
        let mut known = BTreeMap::new();
        let Some(tenant) = part else {
            if self.scope.partner.is_none() {
                for (id, state) in from.all::<Named>(query(sql::ALL_PARTNERS)).await? {
                    known.insert(Key::Partner(id), state.0);
                }
            }
            let of = self.scope.partner.as_ref().map(PartnerId::as_str);
            for (id, partner, state) in from.all::<Twice>(query(sql::ALL_TENANTS)).await? {
                if of.is_none() || of == partner.as_deref() {
                    known.insert(Key::Tenant(TenantId::parse(id)?), state.0);
                }
            }
            return Ok(known);
        };
        for (id, state) in from.all::<Named>(query(sql::ALL_USERS).bind(tenant)).await? {
            known.insert(Key::User(tenant.clone(), id), state.0);
        }
        for (id, state) in from.all::<Named>(query(sql::ALL_GROUPS).bind(tenant)).await? {
            known.insert(Key::Group(tenant.clone(), id), state.0);
        }
        type Member = (String, String, Json<Registers>);
        for (group, user, state) in from.all::<Member>(query(sql::ALL_MEMBERS).bind(tenant)).await? {
            known.insert(Key::Member(tenant.clone(), group, user), state.0);
        }
        Ok(known)
    }

    /// Writes down how it ended.
    async fn finish(&self, done: Result<&Seen, &Error>) -> Result<()> {
        let ctx = self.ctx(self.scope.tenant.as_ref()).await?;
        let act = Act::object(Action::IdentitySync, &[], "identity_sync", Some(self.id));
        let door = &self.vault.inner().door;
        door.perform(&ctx, act, |permit| async move { self.finish_permitted(permit, done).await }).await
    }

    async fn finish_permitted(&self, permit: Permit<'_>, done: Result<&Seen, &Error>) -> Result<Outcome<()>> {
        let mut tx = permit.over_directory()?.begin().await?;
        apply::lock(&mut tx).await?;
        let (status, users, groups, errors) = match done {
            Ok(seen) => ("completed", seen.users, seen.groups, seen.skipped.clone()),
            Err(error) => ("failed", 0, 0, vec![error.message().to_owned()]),
        };
        let now = self.vault.inner().clock.now();
        let finish = query(sql::FINISH).bind(self.id).bind(status).bind(now).bind(users).bind(groups);
        tx.execute(finish.bind(json_arg(&errors)?)).await?;
        if let Ok(seen) = done {
            self.vouch(&mut tx, seen).await?;
        }
        tx.note("status", status);
        tx.note("users", users);
        tx.note("groups", groups);
        tx.directory_changed();
        tx.commit(()).await
    }

    /// Writes down as of when the directory is complete.
    async fn vouch(&self, tx: &mut Write<'_>, seen: &Seen) -> Result<()> {
        if *self.scope == Scope::default() {
            return tx.execute(query(sql::SYNCED).bind(self.started)).await.map(drop);
        }
        for tenant in &seen.tenants {
            tx.execute(query(sql::TENANT_SYNCED).bind(tenant).bind(self.started)).await?;
        }
        Ok(())
    }

    /// In whose trail it is recorded: a tenant's own, if the vault has it.
    async fn ctx(&self, tenant: Option<&TenantId>) -> Result<Ctx> {
        ctx_in(self.vault, tenant, JOB).await
    }
}

/// A job's context in a tenant that the vault has seen, or else in the operator's: no tenant is made by hearsay.
pub(super) async fn ctx_in(vault: &Vault, tenant: Option<&TenantId>, job: &str) -> Result<Ctx> {
    let own = match tenant {
        Some(tenant) => vault.inner().door.knows_tenant(tenant).await?.then(|| tenant.clone()),
        None => None,
    };
    let tenant = own.map_or_else(|| TenantId::parse(OPERATOR), Ok)?;
    vault.ctx(Caller::system(job, tenant)?)
}

impl Seen {
    /// Takes a page over; whether there is another.
    fn page<T>(
        &mut self,
        items: &mut Vec<T>,
        cursor: &mut Option<String>,
        page: IdentityPage<T>,
    ) -> Result<bool> {
        self.records += page.items.len();
        if self.records > limits::DIRECTORY_RECORDS {
            let message =
                format!("The identity provider has more than {} records.", limits::DIRECTORY_RECORDS);
            return Err(Error::new(Code::InvalidState, message));
        }
        let next = page.cursor.filter(|next| !next.is_empty());
        if next.is_some() && (page.items.is_empty() || next == *cursor) {
            let message = "A list of the identity provider goes on without anything in it.";
            return Err(Error::new(Code::InvalidState, message));
        }
        items.extend(page.items);
        *cursor = next;
        Ok(cursor.is_some())
    }

    fn skip(&mut self, what: &str, error: &Error) {
        if self.skipped.len() < limits::SYNC_ERRORS {
            self.skipped.push(format!("a {what} was left out: {}", error.message()));
        }
    }
}

fn identifier(text: &str) -> Option<String> {
    let good = (1..=limits::ID_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    good.then(|| text.to_owned())
}

/// Texts as they are kept; what is absent, or cannot be kept, is told as absent.
fn fields<const N: usize>(texts: [(&str, Option<String>); N]) -> Map<String, Value> {
    let kept =
        |text: Option<String>| text.and_then(|text| text_value("", &text.into()).ok()).unwrap_or(Value::Null);
    texts.into_iter().map(|(name, text)| (name.to_owned(), kept(text))).collect()
}

fn user_fields(user: SourceUser) -> Map<String, Value> {
    let mut fields = fields([
        ("email", user.email),
        ("external_id", user.external_id),
        ("display_name", user.display_name),
    ]);
    fields.insert("mfa_enabled".to_owned(), user.mfa_enabled.into());
    let roles = roles_of(user.roles.iter().map(String::as_str));
    fields.insert("roles".to_owned(), json!(roles.into_iter().map(Role::as_str).collect::<Vec<_>>()));
    fields
}

/// Reads inside of a transaction, and outside of one.
enum Reads<'t, 'w> {
    Outside(On<'t>),
    Inside(&'t mut Write<'w>),
}

impl Reads<'_, '_> {
    async fn all<R: Row>(&mut self, query: Query<'_>) -> Result<Vec<R>> {
        match self {
            Self::Outside(db) => db.fetch_all(query).await,
            Self::Inside(tx) => tx.fetch_all(query).await,
        }
    }
}

/// A row that has one name, and one that has two.
type Named = (String, Json<Registers>);
type Twice = (String, Option<String>, Json<Registers>);

/// Who syncs.
const JOB: &str = "identity-sync";
const REQUESTED_BY: &str = "system:identity-sync";
