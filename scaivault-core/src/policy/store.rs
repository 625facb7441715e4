use std::collections::HashMap;

use serde::Deserialize;
use sqlx::types::Json;

use super::{
    BindingInput, PolicyInput, Rule, RuleWrite,
    records::{Binding, Policy, PolicySummary},
};
use crate::{
    Error, IdentityType, Result, TenantId,
    pipeline::Permit,
    storage::{On, Query, QueryBuilder, Ts, query},
};

pub(crate) mod sql {
    pub(crate) const EPOCH: &str = "SELECT policy_epoch FROM tenant WHERE tenant_id = $1";
    pub(crate) const BUMP_EPOCH: &str =
        "UPDATE tenant SET policy_epoch = policy_epoch + 1 WHERE tenant_id = $1";
    /// What decisions are made by: active policies, and what is bound to them.
    pub(crate) const ACTIVE: &str = "\
        SELECT id, name, description, rules, is_active, created_at, updated_at FROM policy \
        WHERE tenant_id = $1 AND is_active";
    pub(crate) const EVERY: &str = "\
        SELECT id, name, description, rules, is_active, created_at, updated_at FROM policy \
        WHERE tenant_id = $1 ORDER BY id";
    pub(crate) const ALL_BINDINGS: &str = "\
        SELECT id, policy_id, of_tenant, identity_type, identity_id, expires_at, created_at, created_by FROM policy_binding \
        WHERE tenant_id = $1";
    pub(crate) const POLICY: &str = "\
        SELECT id, name, description, rules, is_active, created_at, updated_at FROM policy \
        WHERE tenant_id = $1 AND id = $2";
    pub(crate) const BINDINGS: &str = "\
        SELECT id, policy_id, of_tenant, identity_type, identity_id, expires_at, created_at, created_by FROM policy_binding \
        WHERE tenant_id = $1 AND policy_id = $2 ORDER BY id";
    pub(crate) const INSERT: &str = "\
        INSERT INTO policy (tenant_id, id, name, name_key, description, rules, rule_count, is_active, created_at, \
        updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, TRUE, $8, $8) ON CONFLICT (tenant_id, name_key) DO NOTHING";
    pub(crate) const NAME_TAKEN: &str =
        "SELECT count(*) FROM policy WHERE tenant_id = $1 AND name_key = $2 AND id <> $3";
    pub(crate) const UPDATE: &str = "\
        UPDATE policy SET name = $3, name_key = $4, description = $5, rules = $6, rule_count = $7, is_active = $8, \
        updated_at = $9 \
        WHERE tenant_id = $1 AND id = $2";
    pub(crate) const DELETE: &str = "DELETE FROM policy WHERE tenant_id = $1 AND id = $2";
    pub(crate) const INSERT_BINDING: &str = "\
        INSERT INTO policy_binding (tenant_id, id, policy_id, of_tenant, identity_type, identity_id, expires_at, \
        created_at, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
        ON CONFLICT (tenant_id, policy_id, of_tenant, identity_type, identity_id) DO NOTHING";
    pub(crate) const BINDING_OF: &str = "\
        SELECT id, policy_id, of_tenant, identity_type, identity_id, expires_at, created_at, created_by FROM policy_binding \
        WHERE tenant_id = $1 AND policy_id = $2 AND of_tenant = $3 AND identity_type = $4 AND identity_id = $5";
    pub(crate) const COUNT: &str = "SELECT count(*) FROM policy WHERE tenant_id = $1";
    pub(crate) const COUNT_BINDINGS: &str =
        "SELECT count(*) FROM policy_binding WHERE tenant_id = $1 AND policy_id = $2";
    pub(crate) const BINDING: &str = "\
        SELECT id, policy_id, of_tenant, identity_type, identity_id, expires_at, created_at, created_by FROM policy_binding \
        WHERE tenant_id = $1 AND policy_id = $2 AND id = $3";
    pub(crate) const DELETE_BINDING: &str = "DELETE FROM policy_binding WHERE tenant_id = $1 AND id = $2";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[
        EPOCH,
        BUMP_EPOCH,
        ACTIVE,
        EVERY,
        ALL_BINDINGS,
        POLICY,
        BINDINGS,
        INSERT,
        NAME_TAKEN,
        UPDATE,
        DELETE,
        INSERT_BINDING,
        BINDING_OF,
        COUNT,
        COUNT_BINDINGS,
        BINDING,
        DELETE_BINDING,
    ];
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct PolicyRow {
    id: String,
    name: String,
    description: String,
    rules: Json<Vec<StoredRule>>,
    is_active: bool,
    created_at: Ts,
    updated_at: Ts,
}

/// A rule as it is stored, which is how it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
struct StoredRule(RuleWrite);

impl PolicyRow {
    /// The rules, checked again: one that we do not understand must never be skipped.
    fn rules(&self) -> Result<Vec<Rule>> {
        let rules = self.rules.0.iter().map(|r| r.0.clone()).collect();
        Rule::parse_all(rules).map_err(|error| Error::internal(format!("stored policy {}: {error}", self.id)))
    }

    /// The policy of what these rows are of: a tenant, or what stands for a partner.
    pub(super) fn into_policy(self, of: &TenantId, bindings: Vec<BindingRow>) -> Result<Policy> {
        let binding = |row: BindingRow| row.into_binding(of);
        Ok(Policy {
            rules: self.rules()?,
            id: self.id,
            name: self.name,
            description: self.description,
            scope: scope(of),
            is_active: self.is_active,
            bindings: bindings.into_iter().map(binding).collect::<Result<_>>()?,
            created_at: self.created_at.get(),
            updated_at: self.updated_at.get(),
        })
    }
}

/// How far a policy reaches.
pub(super) fn scope(of: &TenantId) -> &'static str {
    if of.is_partner() { "partner" } else { "tenant" }
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct BindingRow {
    id: String,
    policy_id: String,
    of_tenant: String,
    identity_type: String,
    identity_id: String,
    expires_at: Option<Ts>,
    created_at: Ts,
    created_by: String,
}

impl BindingRow {
    /// See [`PolicyRow::into_policy`].
    pub(super) fn into_binding(self, of: &TenantId) -> Result<Binding> {
        Ok(Binding {
            tenant_id: of.is_partner().then_some(self.of_tenant),
            identity_type: identity_type(&self.identity_type)?,
            id: self.id,
            policy_id: self.policy_id,
            identity_id: self.identity_id,
            expires_at: self.expires_at.map(Ts::get),
            created_at: self.created_at.get(),
            created_by: self.created_by,
        })
    }
}

fn identity_type(text: &str) -> Result<IdentityType> {
    IdentityType::parse(text).ok_or_else(|| Error::internal("a stored binding has an unknown identity type"))
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct SummaryRow {
    pub(super) id: String,
    name: String,
    rule_count: i64,
    binding_count: i64,
    is_active: bool,
    created_at: Ts,
    updated_at: Ts,
}

impl SummaryRow {
    /// See [`PolicyRow::into_policy`].
    pub(super) fn into_summary(self, of: &TenantId) -> PolicySummary {
        let row = self;
        PolicySummary {
            id: row.id,
            name: row.name,
            scope: scope(of),
            rule_count: row.rule_count,
            binding_count: row.binding_count,
            is_active: row.is_active,
            created_at: row.created_at.get(),
            updated_at: row.updated_at.get(),
        }
    }
}

pub(super) fn epoch(tenant: &TenantId) -> Query<'_> {
    query(sql::EPOCH).bind(tenant)
}

pub(crate) fn bump_epoch(tenant: &TenantId) -> Query<'_> {
    query(sql::BUMP_EPOCH).bind(tenant)
}

/// Reads what decides: the policies of a tenant, or those that a partner gives to all of his.
pub(super) async fn load(db: On<'_>, tenant: &TenantId) -> Result<Vec<PolicyInput>> {
    let policies: Vec<PolicyRow> = db.fetch_all(query(sql::ACTIVE).bind(tenant)).await?;
    let bindings = db.fetch_all(query(sql::ALL_BINDINGS).bind(tenant)).await?;
    join(policies, bindings)
}

fn join(policies: Vec<PolicyRow>, rows: Vec<BindingRow>) -> Result<Vec<PolicyInput>> {
    let mut bindings: HashMap<String, Vec<BindingInput>> = HashMap::new();
    for row in rows {
        let input = BindingInput {
            tenant_id: TenantId::stored(row.of_tenant)?,
            identity_type: identity_type(&row.identity_type)?,
            identity_id: row.identity_id,
            expires_at: row.expires_at.map(Ts::get),
        };
        bindings.entry(row.policy_id).or_default().push(input);
    }
    let input = |policy: PolicyRow| {
        let bindings = bindings.remove(&policy.id).unwrap_or_default();
        let rules = policy.rules()?;
        Ok(PolicyInput { id: policy.id, name: policy.name, is_active: policy.is_active, rules, bindings })
    };
    policies.into_iter().map(input).collect()
}

/// Every policy that counts in the tenant with its bindings, active or not: to look through them. Of what its partner
/// gives to all of his tenants, only the bindings to identities of this one.
pub(super) async fn everything(permit: &Permit<'_>) -> Result<Vec<PolicyInput>> {
    let (tenant, partner) = (permit.tenant(), permit.shared());
    let policies = permit.fetch_all(query(sql::EVERY).bind(tenant)).await?;
    let bindings = permit.fetch_all(query(sql::ALL_BINDINGS).bind(tenant)).await?;
    let mut all = join(policies, bindings)?;
    if *tenant != partner {
        let policies = permit.fetch_all_shared(query(sql::EVERY).bind(&partner)).await?;
        let mut bindings: Vec<BindingRow> =
            permit.fetch_all_shared(query(sql::ALL_BINDINGS).bind(&partner)).await?;
        bindings.retain(|binding| binding.of_tenant == tenant.as_str());
        all.extend(join(policies, bindings)?);
        all.sort_by(|a, b| a.id.cmp(&b.id));
    }
    Ok(all)
}

pub(super) fn page<'a>(
    tenant: &'a TenantId,
    include_inactive: bool,
    after: Option<&'a str>,
    limit: i64,
) -> Query<'a> {
    let mut q = QueryBuilder::new(
        "SELECT p.id, p.name, p.rule_count, p.is_active, p.created_at, p.updated_at, (SELECT count(*) FROM policy_binding b \
         WHERE b.tenant_id = p.tenant_id AND b.policy_id = p.id) AS binding_count FROM policy p WHERE p.tenant_id = ",
    );
    q.arg(tenant).and("p.id > ", after);
    if !include_inactive {
        q.text(" AND p.is_active");
    }
    q.text(" ORDER BY p.id LIMIT ").arg(limit);
    q.build()
}

pub(super) fn locked<'a>(tenant: &'a TenantId, id: &'a str, lock: &'static str) -> Query<'a> {
    let mut q = QueryBuilder::with(sql::POLICY, [tenant.into(), id.into()]);
    q.text(lock);
    q.build()
}
