//! Looking through policies: nothing here changes anything.

use std::net::IpAddr;

use scaivault_core::{
    Code, Error, IdentityType, Result, Role,
    policy::{Draft, Permission, Question, Rule, RuleWrite},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{Caller, Request, wire},
    BindingBody, tenant,
};
use crate::http::{Reply, query::Limit};

#[derive(Debug, Deserialize)]
struct QuestionBody {
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    tenant_id: Option<String>,
    identity_id: String,
    path: String,
    permission: String,
    #[serde(default)]
    identity_type: Option<String>,
    #[serde(default)]
    groups: Option<Vec<String>>,
    #[serde(default)]
    roles: Option<Vec<String>>,
    #[serde(default)]
    context: Option<ContextBody>,
}

#[derive(Debug, Default, Deserialize)]
struct ContextBody {
    #[serde(default)]
    source_ip: Option<String>,
    #[serde(default)]
    mfa_verified: Option<bool>,
    #[serde(default)]
    timestamp: Option<String>,
}

impl QuestionBody {
    fn parse(self) -> Result<Question> {
        let identity_type = match &self.identity_type {
            None => kind_of(&self.identity_id),
            Some(text) => IdentityType::parse(text)
                .ok_or_else(|| Error::field("identity_type", "must be user, service_account or system"))?,
        };
        let role = |(i, text): (usize, &String)| {
            let known = || "must be super_admin, partner_admin or tenant_admin";
            Role::parse(text).ok_or_else(|| Error::field(format!("roles[{i}]"), known()))
        };
        let roles = self.roles.unwrap_or_default().iter().enumerate().map(role).collect::<Result<_>>()?;
        let context = self.context.unwrap_or_default();
        let address = |text: String| {
            text.parse::<IpAddr>().map_err(|_| Error::field("context.source_ip", "must be an IP address"))
        };
        Ok(Question {
            identity_type,
            groups: self.groups.unwrap_or_default(),
            roles,
            permission: permission(&self.permission)
                .ok_or_else(|| Error::field("permission", format!("must be {PERMISSIONS}")))?,
            source_ip: context.source_ip.map(address).transpose()?,
            mfa_verified: context.mfa_verified.unwrap_or(false),
            timestamp: context
                .timestamp
                .map(|text| wire::time_field("context.timestamp", &text))
                .transpose()?,
            tenant_id: self.tenant_id.map(|text| tenant("tenant_id", &text)).transpose()?,
            identity_id: self.identity_id,
            path: self.path,
        })
    }
}

const PERMISSIONS: &str = "read, write, delete, list, rotate or admin";

fn permission(text: &str) -> Option<Permission> {
    Permission::parse(text)
}

/// What an identifier names by the way it begins, where it is not said.
fn kind_of(id: &str) -> IdentityType {
    match id.split_once(':').map(|(kind, _)| kind) {
        Some("sa") => IdentityType::ServiceAccount,
        Some("system" | "dynamic") => IdentityType::System,
        Some("group") => IdentityType::Group,
        _ => IdentityType::User,
    }
}

/// `POST /v1/policies/test`.
pub(in crate::routes) async fn test(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: QuestionBody = request.json().await?;
    let ctx = wire::scoped(&ctx, body.scope.as_deref())?;
    let question = body.parse()?;
    Reply::ok(&request.app().vault.policies(&ctx).test(&question).await?)
}

/// `POST /v1/policies/explain`.
pub(in crate::routes) async fn explain(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: QuestionBody = request.json().await?;
    let ctx = wire::scoped(&ctx, body.scope.as_deref())?;
    let question = body.parse()?;
    Reply::ok(&request.app().vault.policies(&ctx).explain(&question).await?)
}

#[derive(Debug, Deserialize)]
struct WhoCanQuery {
    #[serde(default)]
    scope: Option<String>,
    path: String,
    permission: String,
    #[serde(default)]
    limit: Option<Limit>,
    #[serde(default)]
    cursor: Option<String>,
}

/// `GET /v1/policies/who-can`.
pub(in crate::routes) async fn who_can(request: Request, ctx: Caller) -> Result<Reply> {
    let query: WhoCanQuery = request.query()?;
    let ctx = wire::scoped(&ctx, query.scope.as_deref())?;
    let permission = permission(&query.permission).ok_or_else(|| {
        Error::new(Code::InvalidRequest, format!("Query parameter permission: must be {PERMISSIONS}."))
    })?;
    let limit = query.limit.map(Limit::get);
    let found =
        request.app().vault.policies(&ctx).who_can(&query.path, permission, limit, query.cursor).await?;
    let mut answer = wire::envelope("identities", found.identities)?;
    let built_in: Vec<_> = found.built_in.iter().map(|by| json!({ "granted_by": by })).collect();
    answer["built_in"] = built_in.into();
    Reply::ok(&answer)
}

#[derive(Debug, Deserialize)]
struct DiffBody {
    #[serde(default)]
    scope: Option<String>,
    rules: Vec<RuleWrite>,
    #[serde(default)]
    policy_id: Option<String>,
    #[serde(default)]
    bindings: Option<Vec<BindingBody>>,
    #[serde(default)]
    days: Option<u32>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    cursor: Option<String>,
}

/// `POST /v1/policies/diff`.
pub(in crate::routes) async fn diff(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: DiffBody = request.json().await?;
    let ctx = wire::scoped(&ctx, body.scope.as_deref())?;
    let read = |(i, body): (usize, BindingBody)| body.parse(&format!("bindings[{i}]."));
    let bindings = body.bindings.map(|bindings| bindings.into_iter().enumerate().map(read).collect());
    let draft = Draft {
        policy_id: body.policy_id,
        rules: Rule::parse_all(body.rules)?,
        bindings: bindings.transpose()?,
        days: body.days,
        limit: body.limit,
        cursor: body.cursor,
    };
    Reply::ok(&request.app().vault.policies(&ctx).diff(&draft).await?)
}
