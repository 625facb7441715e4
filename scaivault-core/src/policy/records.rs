use serde::Serialize;
use time::OffsetDateTime;

use super::Rule;
use crate::{IdentityType, Name, TenantId, wire};

/// A stored policy with everything about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct Policy {
    pub id: String,
    pub name: String,
    pub description: String,
    pub scope: &'static str,
    pub rules: Vec<Rule>,
    pub bindings: Vec<Binding>,
    pub is_active: bool,
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub updated_at: OffsetDateTime,
}

/// A stored policy in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct PolicySummary {
    pub id: String,
    pub name: String,
    pub scope: &'static str,
    pub rule_count: i64,
    pub binding_count: i64,
    pub is_active: bool,
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub updated_at: OffsetDateTime,
}

/// A change of a policy; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct PolicyPatch {
    /// Another name.
    pub name: Option<Name>,
    /// Another description.
    pub description: Option<String>,
    /// Other rules, all of them.
    pub rules: Option<Vec<Rule>>,
    /// Whether it counts.
    pub is_active: Option<bool>,
}

/// To whom a policy grants.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct Binding {
    pub id: String,
    pub policy_id: String,
    /// Of a policy that a partner gives to all of his tenants: whose identity it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    #[serde(serialize_with = "identity_type")]
    pub identity_type: IdentityType,
    pub identity_id: String,
    #[serde(serialize_with = "wire::seconds_opt")]
    pub expires_at: Option<OffsetDateTime>,
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
    pub created_by: String,
}

fn identity_type<S: serde::Serializer>(value: &IdentityType, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(value.as_str())
}

/// A binding to be made.
#[derive(Clone, Debug)]
pub struct BindingWrite {
    /// Whose identity it is: needed for a policy that a partner gives to all of his tenants. Any other is bound to
    /// identities of its own tenant.
    pub tenant_id: Option<TenantId>,
    /// What `identity_id` names.
    pub identity_type: IdentityType,
    /// Whom, byte for byte as tokens name him.
    pub identity_id: String,
    /// When it lapses; `None` is never.
    pub expires_at: Option<OffsetDateTime>,
}
