//! Policies, their bindings, and what they would say.

pub(super) mod look;

use scaivault_core::{
    Error, IdentityType, Name, Result, TenantId,
    policy::{BindingWrite, PolicyDocument, PolicyPatch, PolicyWrite, Rule, RuleWrite},
};
use serde::Deserialize;
use serde_json::json;

use super::{Caller, Request, wire};
use crate::http::{Reply, query::Limit};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListQuery {
    scope: Option<String>,
    include_inactive: Option<bool>,
    limit: Option<Limit>,
    cursor: Option<String>,
}

/// `GET /v1/policies`.
pub(super) async fn list(request: Request, ctx: Caller) -> Result<Reply> {
    let query: ListQuery = request.query()?;
    let ctx = wire::scoped(&ctx, query.scope.as_deref())?;
    let policies = request.app().vault.policies(&ctx);
    let inactive = query.include_inactive.unwrap_or(false);
    let page = policies.list(inactive, query.limit.map(Limit::get), query.cursor).await?;
    Reply::ok(&wire::envelope("policies", page)?)
}

#[derive(Debug, Deserialize)]
struct PolicyBody {
    name: String,
    #[serde(default)]
    description: Option<String>,
    rules: Vec<RuleWrite>,
    #[serde(default)]
    scope: Option<String>,
}

impl PolicyBody {
    fn parse(self) -> Result<PolicyDocument> {
        PolicyDocument::parse(PolicyWrite {
            name: self.name,
            description: self.description,
            rules: self.rules,
        })
    }
}

/// Which policies are meant by an identifier: those of the tenant, or those of its partner.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ScopeQuery {
    scope: Option<String>,
}

fn scoped(request: &Request, ctx: &Caller) -> Result<Caller> {
    let query: ScopeQuery = request.query()?;
    wire::scoped(ctx, query.scope.as_deref())
}

/// `POST /v1/policies`.
pub(super) async fn create(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: PolicyBody = request.json().await?;
    let ctx = wire::scoped(&ctx, body.scope.as_deref())?;
    let document = body.parse()?;
    Reply::created(&request.app().vault.policies(&ctx).create(document).await?)
}

/// `GET /v1/policies/{id}`.
pub(super) async fn read(request: Request, ctx: Caller) -> Result<Reply> {
    let ctx = scoped(&request, &ctx)?;
    Reply::ok(&request.app().vault.policies(&ctx).read(request.param("id")?).await?)
}

/// `PUT /v1/policies/{id}`.
pub(super) async fn replace(mut request: Request, ctx: Caller) -> Result<Reply> {
    let mut ctx = scoped(&request, &ctx)?;
    let body: PolicyBody = request.json().await?;
    if let Some(scope) = &body.scope {
        ctx = wire::scoped(&ctx, Some(scope))?;
    }
    let document = body.parse()?;
    Reply::ok(&request.app().vault.policies(&ctx).replace(request.param("id")?, document).await?)
}

#[derive(Debug, Deserialize)]
struct PatchBody {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    rules: Option<Vec<RuleWrite>>,
    #[serde(default)]
    is_active: Option<bool>,
}

/// `PATCH /v1/policies/{id}`.
pub(super) async fn patch(mut request: Request, ctx: Caller) -> Result<Reply> {
    let ctx = scoped(&request, &ctx)?;
    let body: PatchBody = request.json().await?;
    let patch = PolicyPatch {
        name: body.name.as_deref().map(Name::parse).transpose()?,
        description: body.description,
        rules: body.rules.map(Rule::parse_all).transpose()?,
        is_active: body.is_active,
    };
    Reply::ok(&request.app().vault.policies(&ctx).patch(request.param("id")?, patch).await?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeleteQuery {
    scope: Option<String>,
    force: Option<bool>,
}

/// `DELETE /v1/policies/{id}`.
pub(super) async fn delete(request: Request, ctx: Caller) -> Result<Reply> {
    let query: DeleteQuery = request.query()?;
    let ctx = wire::scoped(&ctx, query.scope.as_deref())?;
    request.app().vault.policies(&ctx).delete(request.param("id")?, query.force.unwrap_or(false)).await?;
    Ok(Reply::no_content())
}

/// `GET /v1/policies/{id}/bindings`.
pub(super) async fn bindings(request: Request, ctx: Caller) -> Result<Reply> {
    let ctx = scoped(&request, &ctx)?;
    let bindings = request.app().vault.policies(&ctx).bindings(request.param("id")?).await?;
    Reply::ok(&json!({ "bindings": bindings }))
}

#[derive(Debug, Deserialize)]
struct BindingBody {
    #[serde(default)]
    tenant_id: Option<String>,
    identity_type: String,
    identity_id: String,
    #[serde(default)]
    expires_at: Option<String>,
}

impl BindingBody {
    /// `prefix` stands before the fields of one in a list.
    fn parse(self, prefix: &str) -> Result<BindingWrite> {
        let field = |name: &str| format!("{prefix}{name}");
        let identity_type = IdentityType::parse(&self.identity_type).ok_or_else(|| {
            Error::field(field("identity_type"), "must be user, service_account, group or system")
        })?;
        let time = |text: String| wire::time_field(&field("expires_at"), &text);
        let expires_at = self.expires_at.map(time).transpose()?;
        let tenant_id = self.tenant_id.map(|text| tenant(field("tenant_id"), &text)).transpose()?;
        Ok(BindingWrite { tenant_id, identity_type, identity_id: self.identity_id, expires_at })
    }
}

fn tenant(field: impl Into<String>, text: &str) -> Result<TenantId> {
    TenantId::parse(text).map_err(|_| Error::field(field, "must be 1 to 128 visible ASCII characters"))
}

/// `POST /v1/policies/{id}/bindings`.
pub(super) async fn bind(mut request: Request, ctx: Caller) -> Result<Reply> {
    let ctx = scoped(&request, &ctx)?;
    let write = request.json::<BindingBody>().await?.parse("")?;
    let (binding, created) = request.app().vault.policies(&ctx).bind(request.param("id")?, write).await?;
    if created { Reply::created(&binding) } else { Reply::ok(&binding) }
}

/// `DELETE /v1/policies/{id}/bindings/{binding_id}`.
pub(super) async fn unbind(request: Request, ctx: Caller) -> Result<Reply> {
    let ctx = scoped(&request, &ctx)?;
    let policies = request.app().vault.policies(&ctx);
    policies.unbind(request.param("id")?, request.param("binding_id")?).await?;
    Ok(Reply::no_content())
}
