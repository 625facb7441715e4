use serde_json::json;

use super::{
    Diff, Draft, Explanation, Permission, PolicyDocument, Question, Rule, Verdict, WhoCan, ask, diff,
    records::{Binding, BindingWrite, Policy, PolicyPatch, PolicySummary},
    store::{self, BindingRow, PolicyRow, SummaryRow, sql},
    types::check_description,
};
use crate::{
    Code, Ctx, Error, Result, Scope, TenantId,
    audit::Action,
    events::EventType,
    limits,
    pipeline::{Act, Outcome, Permit, Write},
    storage::{json as json_arg, query},
    vault::Inner,
    wire::{self, Page},
};

/// The verbs on policies, for one caller. From [`Vault::policies`](crate::Vault::policies).
///
/// With [`Ctx::in_partner`] they are about the policies that a partner gives to all of his tenants: these are bound to
/// identities of his tenants, and grant on what he shares and in the tenant of each identity. Only admins of the partner
/// see and change them.
#[derive(Clone, Copy, Debug)]
pub struct Policies<'a> {
    vault: &'a Inner,
    ctx: &'a Ctx,
}

const READ: &[Scope] = &[Scope::PoliciesRead];
const WRITE: &[Scope] = &[Scope::PoliciesWrite];

impl<'a> Policies<'a> {
    pub(crate) fn new(vault: &'a Inner, ctx: &'a Ctx) -> Self {
        Self { vault, ctx }
    }

    /// The tenant's policies in the order they were made. Needs `policies:read`.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`].
    pub async fn list(
        &self,
        include_inactive: bool,
        limit: Option<u32>,
        cursor: Option<String>,
    ) -> Result<Page<PolicySummary>> {
        let act = Act::object(Action::PolicyRead, READ, "policy", None);
        let work = |permit| async move { list(permit, include_inactive, limit, cursor).await };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// One policy with its rules and bindings. Needs `policies:read`.
    ///
    /// # Errors
    /// [`Code::PolicyNotFound`].
    pub async fn read(&self, id: &str) -> Result<Policy> {
        let act = Act::object(Action::PolicyRead, READ, "policy", Some(id));
        let work = |permit: Permit<'a>| async move {
            let row: Option<PolicyRow> =
                permit.fetch_optional(query(sql::POLICY).bind(permit.tenant()).bind(id)).await?;
            let row = row.ok_or_else(not_found)?;
            let bindings = permit.fetch_all(query(sql::BINDINGS).bind(permit.tenant()).bind(id)).await?;
            let policy = row.into_policy(permit.tenant(), bindings)?;
            permit.answer(policy)
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Stores a new policy, active and bound to nobody. Needs `policies:write`.
    ///
    /// # Errors
    /// [`Code::NameConflict`] if the tenant has one of that name, in whatever case.
    pub async fn create(&self, document: PolicyDocument) -> Result<Policy> {
        let act = Act::object(Action::PolicyCreate, WRITE, "policy", None);
        self.vault.door.perform(self.ctx, act, |permit| async move { create(permit, &document).await }).await
    }

    /// Replaces rules and description and name, keeps the bindings. Needs `policies:write`.
    ///
    /// # Errors
    /// [`Code::PolicyNotFound`], [`Code::NameConflict`].
    pub async fn replace(&self, id: &str, document: PolicyDocument) -> Result<Policy> {
        let patch = PolicyPatch {
            name: Some(document.name().clone()),
            description: Some(document.description().unwrap_or_default().to_owned()),
            rules: Some(document.rules().to_vec()),
            is_active: None,
        };
        self.patch(id, patch).await
    }

    /// Changes what is given. Needs `policies:write`.
    ///
    /// # Errors
    /// [`Code::PolicyNotFound`], [`Code::NameConflict`], [`Code::ValidationError`].
    pub async fn patch(&self, id: &str, patch: PolicyPatch) -> Result<Policy> {
        let act = Act::object(Action::PolicyUpdate, WRITE, "policy", Some(id));
        self.vault
            .door
            .perform(self.ctx, act, |permit| async move { self::patch(permit, id, patch).await })
            .await
    }

    /// Deletes a policy; with `force`, also one that is bound, and its bindings. Needs `policies:write`.
    ///
    /// # Errors
    /// [`Code::PolicyNotFound`], [`Code::PolicyInUse`].
    pub async fn delete(&self, id: &str, force: bool) -> Result<()> {
        let act = Act::object(Action::PolicyDelete, WRITE, "policy", Some(id));
        self.vault.door.perform(self.ctx, act, |permit| async move { delete(permit, id, force).await }).await
    }

    /// To whom a policy grants. Needs `policies:read`.
    ///
    /// # Errors
    /// [`Code::PolicyNotFound`].
    pub async fn bindings(&self, id: &str) -> Result<Vec<Binding>> {
        self.read(id).await.map(|policy| policy.bindings)
    }

    /// Grants a policy to an identity or group, which need not be known yet. Needs `policies:write`. A binding
    /// that is there stays as it is, its expiry too; the second value says whether it was made now.
    ///
    /// # Errors
    /// [`Code::PolicyNotFound`]; [`Code::ValidationError`] for a bad identity or an expiry in the past.
    pub async fn bind(&self, id: &str, binding: BindingWrite) -> Result<(Binding, bool)> {
        let act = Act::object(Action::PolicyBind, WRITE, "policy", Some(id));
        self.vault.door.perform(self.ctx, act, |permit| async move { bind(permit, id, &binding).await }).await
    }

    /// What the policies in force would say to somebody who is imagined: a dry run, of which no record is written.
    /// Needs `policies:read`.
    ///
    /// # Errors
    /// [`Code::InvalidPath`]; [`Code::ValidationError`] for an identity or groups that cannot be.
    pub async fn test(&self, question: &Question) -> Result<Verdict> {
        let act = Act::object(Action::PolicyTest, READ, "policy", None);
        let work = |permit: Permit<'a>| async move {
            let policies = permit.policies().await?;
            ask::test(permit, policies, question).await
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// The same with every rule of the tenant held against the question: which allow it, what fails of the others,
    /// and what would have to change. Needs `policies:read`.
    ///
    /// # Errors
    /// As [`test`](Self::test).
    pub async fn explain(&self, question: &Question) -> Result<Explanation> {
        let act = Act::object(Action::PolicyRead, READ, "policy", None);
        self.vault
            .door
            .perform(self.ctx, act, |permit| async move { ask::explain(permit, question).await })
            .await
    }

    /// Whom rules let do this on that path, as bindings name them. Needs `policies:read`.
    ///
    /// # Errors
    /// [`Code::InvalidPath`], [`Code::InvalidCursor`].
    pub async fn who_can(
        &self,
        path: &str,
        permission: Permission,
        limit: Option<u32>,
        cursor: Option<String>,
    ) -> Result<WhoCan> {
        let act = Act::object(Action::PolicyRead, READ, "policy", None);
        let work = |permit| async move { ask::who_can(permit, (path, permission), limit, cursor).await };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Which requests of the past days a draft would let end otherwise than they did, a page of the audit trail at
    /// a time. Decided again, by the identity, groups, source address, second factor and time of each record; bindings
    /// count from when on they were made or before. Needs `policies:read` and `audit:read`.
    ///
    /// # Errors
    /// [`Code::InsufficientScope`], [`Code::PolicyNotFound`], [`Code::InvalidCursor`]; [`Code::ValidationError`] on
    /// `days` and `bindings`.
    pub async fn diff(&self, draft: &Draft) -> Result<Diff> {
        let act = Act::object(Action::AuditQuery, READ, "policy", draft.policy_id.as_deref());
        let vault = self.vault;
        self.vault
            .door
            .perform(self.ctx, act, |permit| async move { diff::diff(vault, permit, draft).await })
            .await
    }

    /// Takes a grant back. When this returns, this vault allows nothing by it any more; another replica may for
    /// up to [`limits::EPOCH_CHECK`]. Needs `policies:write`.
    ///
    /// # Errors
    /// [`Code::BindingNotFound`].
    pub async fn unbind(&self, id: &str, binding_id: &str) -> Result<()> {
        let act = Act::object(Action::PolicyUnbind, WRITE, "policy", Some(id));
        self.vault
            .door
            .perform(self.ctx, act, |permit| async move { unbind(permit, id, binding_id).await })
            .await
    }
}

async fn list(
    permit: Permit<'_>,
    include_inactive: bool,
    limit: Option<u32>,
    cursor: Option<String>,
) -> Result<Outcome<Page<PolicySummary>>> {
    let keys = permit.keys().await?;
    let open = |cursor: String| wire::open_cursor::<String>(&keys, "policies", &include_inactive, &cursor);
    let after = cursor.map(open).transpose()?;
    let wanted = wire::page_size(limit);
    let page = store::page(permit.tenant(), include_inactive, after.as_deref(), wanted as i64 + 1);
    let rows: Vec<SummaryRow> = permit.fetch_all_lagging(page).await?;
    let page = wire::cut(rows, wanted, (&keys, "policies", &include_inactive), |last| last.id.clone())?;
    let of = permit.tenant();
    permit.answer(page.try_map(|row| Ok(row.into_summary(of)))?)
}

async fn create(permit: Permit<'_>, document: &PolicyDocument) -> Result<Outcome<Policy>> {
    let id = permit.new_id("pol_")?;
    let mut tx = permit.begin().await?;
    // First of all: from here on, whoever else changes the tenant's policies waits.
    tx.bump_policies().await?;
    let count = query(sql::COUNT).bind(tx.tenant());
    if tx.fetch_optional::<(i64,)>(count).await?.is_some_and(|(n,)| n >= limits::POLICIES) {
        let message =
            format!("The tenant has {} policies, which is as many as there may be.", limits::POLICIES);
        return Err(Error::new(Code::InvalidState, message));
    }
    let insert = query(sql::INSERT)
        .bind(tx.tenant())
        .bind(&id)
        .bind(document.name().as_str())
        .bind(document.name().key())
        .bind(document.description().unwrap_or_default())
        .bind(json_arg(&document.rules())?)
        .bind(document.rules().len() as i64)
        .bind(tx.ctx().now());
    if tx.execute(insert).await? == 0 {
        return Err(name_conflict());
    }
    tx.resource(&id);
    finish(tx, &id, EventType::PolicyCreated).await
}

async fn patch(permit: Permit<'_>, id: &str, patch: PolicyPatch) -> Result<Outcome<Policy>> {
    check_description(patch.description.as_deref())?;
    let mut tx = permit.begin().await?;
    tx.bump_policies().await?;
    let row: Option<PolicyRow> = tx.fetch_optional(store::locked(tx.tenant(), id, tx.lock_rows())).await?;
    let before = row.ok_or_else(not_found)?.into_policy(tx.tenant(), Vec::new())?;
    let (name, name_key) = match &patch.name {
        Some(name) => (name.as_str().to_owned(), name.key()),
        None => (before.name.clone(), before.name.to_ascii_lowercase()),
    };
    let taken = query(sql::NAME_TAKEN).bind(tx.tenant()).bind(&name_key).bind(id);
    if tx.fetch_optional::<(i64,)>(taken).await?.is_some_and(|(n,)| n > 0) {
        return Err(name_conflict());
    }
    let rules: Vec<Rule> = patch.rules.unwrap_or(before.rules);
    let update = query(sql::UPDATE)
        .bind(tx.tenant())
        .bind(id)
        .bind(name)
        .bind(name_key)
        .bind(patch.description.unwrap_or(before.description))
        .bind(json_arg(&rules)?)
        .bind(rules.len() as i64)
        .bind(patch.is_active.unwrap_or(before.is_active))
        .bind(tx.ctx().now());
    tx.execute(update).await?;
    finish(tx, id, EventType::PolicyUpdated).await
}

async fn delete(permit: Permit<'_>, id: &str, force: bool) -> Result<Outcome<()>> {
    let mut tx = permit.begin().await?;
    let row: Option<PolicyRow> = tx.fetch_optional(store::locked(tx.tenant(), id, tx.lock_rows())).await?;
    let bindings: Vec<BindingRow> = tx.fetch_all(query(sql::BINDINGS).bind(tx.tenant()).bind(id)).await?;
    let policy = row.ok_or_else(not_found)?.into_policy(tx.tenant(), bindings)?;
    if !policy.bindings.is_empty() && !force {
        let message = format!("The policy has {} bindings; remove them or use force.", policy.bindings.len());
        return Err(Error::new(Code::PolicyInUse, message));
    }
    tx.execute(query(sql::DELETE).bind(tx.tenant()).bind(id)).await?;
    tx.event(EventType::PolicyDeleted, None, told(&tx, id, &policy.name))?;
    tx.bump_policies().await?;
    tx.note("bindings_dropped", policy.bindings.len());
    tx.commit(()).await
}

async fn bind(permit: Permit<'_>, id: &str, write: &BindingWrite) -> Result<Outcome<(Binding, bool)>> {
    check_binding(write, permit.ctx())?;
    let of = whose(&permit, "tenant_id", write.tenant_id.as_ref()).await?;
    let binding_id = permit.new_id("bind_")?;
    let mut tx = permit.begin().await?;
    let row: Option<PolicyRow> = tx.fetch_optional(store::locked(tx.tenant(), id, tx.lock_rows())).await?;
    row.ok_or_else(not_found)?;
    let count = query(sql::COUNT_BINDINGS).bind(tx.tenant()).bind(id);
    if tx.fetch_optional::<(i64,)>(count).await?.is_some_and(|(n,)| n >= limits::BINDINGS) {
        let message =
            format!("The policy has {} bindings, which is as many as there may be.", limits::BINDINGS);
        return Err(Error::new(Code::InvalidState, message));
    }
    let insert = query(sql::INSERT_BINDING)
        .bind(tx.tenant())
        .bind(&binding_id)
        .bind(id)
        .bind(&of)
        .bind(write.identity_type.as_str())
        .bind(&write.identity_id)
        .bind(write.expires_at)
        .bind(tx.ctx().now())
        .bind(tx.ctx().caller().identity_id());
    let created = tx.execute(insert).await? == 1;
    let find = query(sql::BINDING_OF).bind(tx.tenant()).bind(id).bind(&of);
    let find = find.bind(write.identity_type.as_str()).bind(&write.identity_id);
    let row: Option<BindingRow> = tx.fetch_optional(find).await?;
    let binding = row.ok_or_else(|| Error::internal("a binding vanished"))?.into_binding(tx.tenant())?;
    if created {
        tx.event(EventType::PolicyBindingCreated, None, told_of_binding(id, &binding))?;
        tx.bump_policies().await?;
    }
    note_binding(&mut tx, &binding);
    tx.note("created", created);
    tx.commit((binding, created)).await
}

async fn unbind(permit: Permit<'_>, id: &str, binding_id: &str) -> Result<Outcome<()>> {
    let mut tx = permit.begin().await?;
    let find = query(sql::BINDING).bind(tx.tenant()).bind(id).bind(binding_id);
    let row: Option<BindingRow> = tx.fetch_optional(find).await?;
    let missing = || Error::new(Code::BindingNotFound, "The policy has no such binding.");
    let binding = row.ok_or_else(missing)?.into_binding(tx.tenant())?;
    if tx.execute(query(sql::DELETE_BINDING).bind(tx.tenant()).bind(binding_id)).await? == 0 {
        return Err(missing());
    }
    tx.event(EventType::PolicyBindingDeleted, None, told_of_binding(id, &binding))?;
    note_binding(&mut tx, &binding);
    tx.bump_policies().await?;
    tx.commit(()).await
}

pub(super) fn check_identity(field: &str, id: &str, wrong: &mut crate::FieldErrors) {
    if !(1..=limits::ID_BYTES).contains(&id.len()) || id.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        wrong.push(field, "must be 1 to 128 bytes without spaces or control characters");
    }
}

fn check_binding(write: &BindingWrite, ctx: &Ctx) -> Result<()> {
    let mut wrong = crate::FieldErrors::default();
    check_identity("identity_id", &write.identity_id, &mut wrong);
    if write.expires_at.is_some_and(|at| at <= ctx.now()) {
        wrong.push("expires_at", "must be in the future");
    }
    wrong.finish()
}

/// Whose identity a binding names. What a partner gives to his tenants is bound to identities of one of them, each said
/// by itself: the same name in two tenants is two people.
pub(super) async fn whose(permit: &Permit<'_>, field: &str, named: Option<&TenantId>) -> Result<TenantId> {
    let own = permit.tenant();
    match named {
        None if own.is_partner() => {
            Err(Error::field(field, "is needed: a policy of a partner is bound to identities of one tenant"))
        }
        None => Ok(own.clone()),
        Some(named) if !own.is_partner() => match named == own {
            true => Ok(own.clone()),
            false => Err(Error::field(field, "must be the tenant of the policy")),
        },
        Some(named) => match permit.is_of_partner(named).await? {
            true => Ok(named.clone()),
            false => Err(Error::field(field, "is no tenant of the partner")),
        },
    }
}

fn note_binding(tx: &mut Write<'_>, binding: &Binding) {
    tx.note("binding_id", binding.id.clone());
    if let Some(tenant) = &binding.tenant_id {
        tx.note("bound_tenant_id", tenant.clone());
    }
    tx.note("bound_identity_type", binding.identity_type.as_str());
    tx.note("bound_identity_id", binding.identity_id.clone());
}

fn told(tx: &Write<'_>, id: &str, name: &str) -> serde_json::Value {
    json!({"policy_id": id, "name": name, "changed_by": tx.ctx().caller().identity_id()})
}

fn told_of_binding(policy_id: &str, binding: &Binding) -> serde_json::Value {
    json!({
        "policy_id": policy_id,
        "binding_id": binding.id,
        "identity_type": binding.identity_type.as_str(),
        "identity_id": binding.identity_id,
    })
}

/// Ends a verb that made or changed a policy with the policy as it is now.
async fn finish(mut tx: Write<'_>, id: &str, event: EventType) -> Result<Outcome<Policy>> {
    let row: Option<PolicyRow> = tx.fetch_optional(query(sql::POLICY).bind(tx.tenant()).bind(id)).await?;
    let bindings = tx.fetch_all(query(sql::BINDINGS).bind(tx.tenant()).bind(id)).await?;
    let policy =
        row.ok_or_else(|| Error::internal("a policy vanished"))?.into_policy(tx.tenant(), bindings)?;
    tx.event(event, None, told(&tx, id, &policy.name))?;
    tx.note("name", policy.name.clone());
    tx.commit(policy).await
}

pub(super) fn not_found() -> Error {
    Error::new(Code::PolicyNotFound, "There is no such policy.")
}

fn name_conflict() -> Error {
    Error::new(Code::NameConflict, "name: another policy of the tenant has this name")
}
