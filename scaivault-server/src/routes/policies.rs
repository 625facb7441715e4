//! Policies, their bindings, and what they would say.

pub(super) mod look;

use scaivault_core::{
    Error, IdentityType, Name, Result,
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
    check_scope(query.scope.as_deref())?;
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
        check_scope(self.scope.as_deref())?;
        PolicyDocument::parse(PolicyWrite {
            name: self.name,
            description: self.description,
            rules: self.rules,
        })
    }
}

fn check_scope(scope: Option<&str>) -> Result<()> {
    match scope {
        None | Some("tenant") => Ok(()),
        Some(_) => Err(Error::field("scope", "must be tenant; policies of a partner are not there yet")),
    }
}

/// `POST /v1/policies`.
pub(super) async fn create(mut request: Request, ctx: Caller) -> Result<Reply> {
    let document = request.json::<PolicyBody>().await?.parse()?;
    Reply::created(&request.app().vault.policies(&ctx).create(document).await?)
}

/// `GET /v1/policies/{id}`.
pub(super) async fn read(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.policies(&ctx).read(request.param("id")?).await?)
}

/// `PUT /v1/policies/{id}`.
pub(super) async fn replace(mut request: Request, ctx: Caller) -> Result<Reply> {
    let document = request.json::<PolicyBody>().await?.parse()?;
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
    force: Option<bool>,
}

/// `DELETE /v1/policies/{id}`.
pub(super) async fn delete(request: Request, ctx: Caller) -> Result<Reply> {
    let query: DeleteQuery = request.query()?;
    request.app().vault.policies(&ctx).delete(request.param("id")?, query.force.unwrap_or(false)).await?;
    Ok(Reply::no_content())
}

/// `GET /v1/policies/{id}/bindings`.
pub(super) async fn bindings(request: Request, ctx: Caller) -> Result<Reply> {
    let bindings = request.app().vault.policies(&ctx).bindings(request.param("id")?).await?;
    Reply::ok(&json!({ "bindings": bindings }))
}

#[derive(Debug, Deserialize)]
struct BindingBody {
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
        Ok(BindingWrite { identity_type, identity_id: self.identity_id, expires_at })
    }
}

/// `POST /v1/policies/{id}/bindings`.
pub(super) async fn bind(mut request: Request, ctx: Caller) -> Result<Reply> {
    let write = request.json::<BindingBody>().await?.parse("")?;
    let (binding, created) = request.app().vault.policies(&ctx).bind(request.param("id")?, write).await?;
    if created { Reply::created(&binding) } else { Reply::ok(&binding) }
}

/// `DELETE /v1/policies/{id}/bindings/{binding_id}`.
pub(super) async fn unbind(request: Request, ctx: Caller) -> Result<Reply> {
    let policies = request.app().vault.policies(&ctx);
    policies.unbind(request.param("id")?, request.param("binding_id")?).await?;
    Ok(Reply::no_content())
}
