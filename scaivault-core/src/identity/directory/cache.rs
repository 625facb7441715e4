use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use moka::future::Cache;
use sqlx::types::Json;
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{
    model::{ACTIVE, DELETED, group_names, names_of, roles_of},
    store::{ClaimantRow, sql},
};
use crate::{
    Caller, Clock, Code, Error, IdentityType, PartnerId, Result, Role, TenantId, limits,
    storage::{As, Db, On, Ts, query},
};

/// What an operator may choose about the directory.
#[derive(Clone, Debug)]
pub(crate) struct DirectorySettings {
    /// Whether there is anything that tells of identities.
    pub(crate) fed: bool,
    /// How often everything is synced.
    pub(crate) sync_every: Duration,
}

impl DirectorySettings {
    /// How long after the last complete sync the directory still gives roles and groups.
    pub(crate) fn gives_for(&self) -> Duration {
        self.sync_every.saturating_mul(limits::DIRECTORY_SYNCS_MISSED)
    }
}

/// What the directory says of callers, looked up by every request.
///
/// Once in [`limits::EPOCH_CHECK`] and process the directory's epoch is read; only if it rose is a tenant looked at
/// anew, and only if the tenant's own epoch rose are its people. A change made here is seen at once:
/// [`Directory::forget`] is called between its commit and its answer.
#[derive(Debug)]
pub(crate) struct Directory {
    db: Db,
    clock: Arc<dyn Clock>,
    settings: DirectorySettings,
    state: ArcSwapOption<State>,
    /// Held while loading and while forgetting: what was read before a change cannot be stored after it.
    loading: Mutex<()>,
    tenants: Cache<(TenantId, Option<PartnerId>), Arc<Tenant>>,
    people: Cache<(TenantId, IdentityType, String), Arc<Person>>,
}

/// How the directory stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    epoch: i64,
    /// When the last complete sync began.
    pub(crate) synced_at: Option<OffsetDateTime>,
    checked_at: OffsetDateTime,
}

/// What is known of a tenant at an epoch of the directory.
#[derive(Debug)]
struct Tenant {
    directory_epoch: i64,
    /// The tenant's own; `None` if it is not known.
    epoch: Option<i64>,
    /// Whether the tenant or its partner is suspended or deleted.
    closed: bool,
    /// Names of groups that are no more, and since when.
    ended_groups: Vec<(String, OffsetDateTime)>,
}

/// What is known of a name at an epoch of its tenant.
#[derive(Debug, Default)]
struct Person {
    tenant_epoch: i64,
    /// When somebody of that name was suspended or deleted, last.
    ended_at: Option<OffsetDateTime>,
    /// Whether somebody of that name is active.
    active: bool,
    /// From the provider.
    roles: Vec<Role>,
    /// Given here.
    own_roles: Vec<Role>,
    groups: BTreeSet<String>,
    /// Names of groups that he was taken out of, and when.
    left: Vec<(String, OffsetDateTime)>,
}

/// Tenants and people that are remembered at once.
const TENANTS: u64 = 10_000;
/// See [`TENANTS`].
const PEOPLE: u64 = 50_000;

impl Directory {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, settings: DirectorySettings) -> Self {
        let (tenants, people) = (Cache::new(TENANTS), Cache::new(PEOPLE));
        Self { db, clock, settings, state: ArcSwapOption::empty(), loading: Mutex::new(()), tenants, people }
    }

    /// The directory in the database.
    pub(crate) fn db(&self) -> On<'_> {
        self.db.on(As::Directory)
    }

    pub(crate) fn settings(&self) -> &DirectorySettings {
        &self.settings
    }

    /// Whether the directory has ever been told anything, by whatever replica.
    pub(crate) async fn holds_anything(db: &Db) -> Result<bool> {
        let state: Option<(i64, Option<Ts>)> = db.on(As::Directory).fetch_optional(query(sql::STATE)).await?;
        Ok(state.is_some_and(|(epoch, _)| epoch > 0))
    }

    /// The caller as the directory knows him: with the groups and roles that it gives besides those of his token, and
    /// without the groups that he has left since the token was issued. `None` if nothing is different.
    ///
    /// # Errors
    /// [`Code::TokenRevoked`] if he, his tenant or his partner is suspended or deleted.
    pub(crate) async fn standing(&self, caller: &Caller) -> Result<Option<Caller>> {
        if !self.settings.fed || caller.identity_type() == IdentityType::System {
            return Ok(None);
        }
        let state = self.state().await?;
        // The epoch is 0 until the directory was told anything.
        if state.epoch == 0 {
            return Ok(None);
        }
        let tenant = self.tenant(&state, caller).await?;
        if tenant.closed {
            return Err(revoked());
        }
        let Some(epoch) = tenant.epoch else { return Ok(None) };
        let person = self.person(epoch, caller).await?;
        let issued = caller.token_issued_at();
        // What happened in the second of the issue, or to a token that does not say when that was, came after it.
        let after_issue = |at: OffsetDateTime| issued.is_none_or(|issued| issued <= at);
        if person.ended_at.is_some_and(|at| !person.active || after_issue(at)) {
            return Err(revoked());
        }
        let fresh = state.synced_at.is_some_and(|at| self.clock.now() - at < self.settings.gives_for());
        let mut groups: BTreeSet<String> = caller.groups().iter().cloned().collect();
        for (group, at) in person.left.iter().chain(&tenant.ended_groups) {
            if after_issue(*at) {
                groups.remove(group);
            }
        }
        let mut roles = caller.roles().to_vec();
        roles.extend(&person.own_roles);
        if fresh {
            groups.extend(person.groups.iter().cloned());
            roles.extend(&person.roles);
        }
        let known = caller.clone().with_groups(groups)?.with_roles(roles);
        let same = known.groups() == caller.groups() && known.roles() == caller.roles();
        Ok((!same).then_some(known))
    }

    /// Whether a tenant was deleted, as the database has it now.
    pub(crate) async fn has_deleted(&self, tenant: &TenantId) -> Result<bool> {
        if !self.settings.fed {
            return Ok(false);
        }
        let view = query(sql::TENANT_VIEW).bind(tenant).bind(None::<&str>);
        type View = (Option<i64>, Option<String>, Option<String>, Option<String>);
        let (_, status, ..): View = self.db().fetch_optional(view).await?.unwrap_or_default();
        Ok(status.as_deref() == Some(DELETED))
    }

    /// How the directory stands, at most [`limits::EPOCH_CHECK`] behind what any replica committed.
    pub(crate) async fn state(&self) -> Result<State> {
        if let Some(state) = self.known_state() {
            return Ok(state);
        }
        let _loading = self.loading.lock().await;
        // Whoever held the lock before may have loaded what we need.
        if let Some(state) = self.known_state() {
            return Ok(state);
        }
        let checked_at = self.clock.now();
        let row: Option<(i64, Option<Ts>)> = self.db().fetch_optional(query(sql::STATE)).await?;
        let (epoch, synced_at) = row.ok_or_else(|| Error::internal("the directory has no state"))?;
        let state = State { epoch, synced_at: synced_at.map(Ts::get), checked_at };
        self.state.store(Some(Arc::new(state)));
        Ok(state)
    }

    /// Makes the next request read what was just committed.
    pub(crate) async fn forget(&self) {
        let _loading = self.loading.lock().await;
        self.state.store(None);
    }

    fn known_state(&self) -> Option<State> {
        let state = self.state.load();
        let state = state.as_ref()?;
        let age = self.clock.now() - state.checked_at;
        // A clock that was set back gives a negative age: look again.
        (!age.is_negative() && age < limits::EPOCH_CHECK).then_some(**state)
    }

    async fn tenant(&self, state: &State, caller: &Caller) -> Result<Arc<Tenant>> {
        let key = (caller.tenant_id().clone(), caller.partner_id().cloned());
        if let Some(known) = self.tenants.get(&key).await.filter(|known| known.directory_epoch == state.epoch)
        {
            return Ok(known);
        }
        let claimed = caller.partner_id().map(PartnerId::as_str);
        let view = query(sql::TENANT_VIEW).bind(caller.tenant_id()).bind(claimed);
        type View = (Option<i64>, Option<String>, Option<String>, Option<String>);
        let (epoch, tenant, _, partner): View = self.db().fetch_optional(view).await?.unwrap_or_default();
        let closed = [&tenant, &partner].into_iter().flatten().any(|status| status != ACTIVE);
        let mut ended_groups = Vec::new();
        if epoch.is_some() {
            let ended = query(sql::ENDED_GROUPS).bind(caller.tenant_id());
            for (id, slug, at, learned) in
                self.db().fetch_all::<(String, Option<String>, Ts, Ts)>(ended).await?
            {
                let at = at.max(learned).get();
                ended_groups.extend(group_names(&id, slug.as_deref()).into_iter().map(|name| (name, at)));
            }
        }
        let known = Arc::new(Tenant { directory_epoch: state.epoch, epoch, closed, ended_groups });
        self.tenants.insert(key, known.clone()).await;
        Ok(known)
    }

    async fn person(&self, tenant_epoch: i64, caller: &Caller) -> Result<Arc<Person>> {
        let key = (caller.tenant_id().clone(), caller.identity_type(), caller.identity_id().to_owned());
        if let Some(known) = self.people.get(&key).await.filter(|known| known.tenant_epoch == tenant_epoch) {
            return Ok(known);
        }
        let person = Arc::new(self.load_person(tenant_epoch, caller).await?);
        self.people.insert(key, person.clone()).await;
        Ok(person)
    }

    async fn load_person(&self, tenant_epoch: i64, caller: &Caller) -> Result<Person> {
        let (tenant, name) = (caller.tenant_id(), caller.identity_id());
        let claimants: Vec<ClaimantRow> =
            self.db().fetch_all(query(sql::CLAIMANTS).bind(tenant).bind(name)).await?;
        let mut person = Person { tenant_epoch, ..Person::default() };
        let (active, ended): (Vec<_>, Vec<_>) = claimants.into_iter().partition(|row| row.status == ACTIVE);
        person.active = !active.is_empty();
        person.ended_at = ended.iter().map(ClaimantRow::changed_at).max();
        // Whom it named once, it may refuse; it gives only to the one whom it names now.
        let mut current = active.into_iter().filter(|row| {
            names_of(&row.user_id, row.email.as_deref(), row.external_id.as_deref())
                .iter()
                .any(|own| own == name)
        });
        if caller.identity_type() != IdentityType::User {
            return Ok(person);
        }
        let one = match (current.next(), current.next()) {
            (one, None) => one,
            _ => None,
        };
        let id = one.as_ref().map_or(name, |row| row.user_id.as_str());
        // What was given to a name is not for who has the name after somebody else.
        let by_name = if person.ended_at.is_none() { name } else { id };
        let own = query(sql::ROLES).bind(tenant).bind(by_name).bind(id);
        let own: Vec<(String,)> = self.db().fetch_all(own).await?;
        person.own_roles = roles_of(own.iter().map(|(role,)| role.as_str()));
        let Some(row) = one else { return Ok(person) };
        let Json(roles) = row.roles;
        person.roles = roles_of(roles.iter().map(String::as_str));
        type Membership = (String, Option<String>, Option<String>, String, Ts, Ts);
        let memberships = query(sql::MEMBERSHIPS).bind(tenant).bind(&row.user_id);
        for (group, slug, of_group, status, at, learned) in
            self.db().fetch_all::<Membership>(memberships).await?
        {
            let names = group_names(&group, slug.as_deref());
            match (status.as_str(), of_group.as_deref().unwrap_or(ACTIVE)) {
                (ACTIVE, ACTIVE) => person.groups.extend(names),
                // Of a group that is no more the tenant's list tells.
                (ACTIVE, _) => {}
                _ => person.left.extend(names.into_iter().map(|name| (name, at.max(learned).get()))),
            }
        }
        Ok(person)
    }
}

fn revoked() -> Error {
    Error::new(Code::TokenRevoked, "This identity, its tenant or its partner was suspended or deleted.")
}
