use scaivault_core::{AuditFilter, Error, Result, secrets::SecretPath};
use serde::Deserialize;

use super::{Caller, Request, wire};
use crate::http::{Reply, query::Limit};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LogsQuery {
    scope: Option<String>,
    from: Option<String>,
    to: Option<String>,
    action: Option<String>,
    identity_id: Option<String>,
    identity_type: Option<String>,
    path_prefix: Option<String>,
    success: Option<bool>,
    source_ip: Option<String>,
    request_id: Option<String>,
    limit: Option<Limit>,
    cursor: Option<String>,
}

/// `GET /v1/audit/logs`.
pub(super) async fn logs(request: Request, ctx: Caller) -> Result<Reply> {
    let query: LogsQuery = request.query()?;
    let ctx = wire::scoped(&ctx, query.scope.as_deref())?;
    let actions = query.action.as_deref().unwrap_or_default();
    let filter = AuditFilter {
        from: query.from.map(|text| wire::time_parameter("from", &text)).transpose()?,
        to: query.to.map(|text| wire::time_parameter("to", &text)).transpose()?,
        actions: actions.split(',').map(str::trim).filter(|a| !a.is_empty()).map(str::to_owned).collect(),
        identity_id: query.identity_id,
        identity_type: query.identity_type,
        path: None,
        path_prefix: query.path_prefix,
        success: query.success,
        source_ip: query.source_ip,
        request_id: query.request_id,
        limit: query.limit.map(Limit::get),
        cursor: query.cursor,
    };
    let page = request.app().vault.audit(&ctx).query(filter).await?;
    Reply::ok(&wire::envelope("logs", page)?)
}

/// `GET /v1/audit/secrets/{path}`.
pub(super) async fn secret(request: Request, ctx: Caller) -> Result<Reply> {
    let query: wire::PageQuery = request.query()?;
    let path = SecretPath::parse(request.param("path")?)?;
    let page = (query.limit.map(Limit::get), query.cursor);
    let trail = request.app().vault.audit(&ctx).of_secret(&path, page).await?;
    let mut answer = wire::envelope("logs", trail.logs)?;
    answer["secret_path"] = trail.secret_path.into();
    answer["summary"] = serde_json::to_value(trail.summary).map_err(Error::internal)?;
    Reply::ok(&answer)
}

/// `GET /v1/audit/identities/{identity_id}`.
pub(super) async fn identity(request: Request, ctx: Caller) -> Result<Reply> {
    let query: wire::PageQuery = request.query()?;
    let page = (query.limit.map(Limit::get), query.cursor);
    let id = request.param("identity_id")?;
    let trail = request.app().vault.audit(&ctx).of_identity(id, page).await?;
    let mut answer = wire::envelope("logs", trail.logs)?;
    answer["identity_id"] = trail.identity_id.into();
    answer["summary"] = serde_json::to_value(trail.summary).map_err(Error::internal)?;
    Reply::ok(&answer)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SummaryQuery {
    from: Option<String>,
    to: Option<String>,
}

/// `GET /v1/audit/summary`.
pub(super) async fn summary(request: Request, ctx: Caller) -> Result<Reply> {
    let query: SummaryQuery = request.query()?;
    let from = query.from.map(|text| wire::time_parameter("from", &text)).transpose()?;
    let to = query.to.map(|text| wire::time_parameter("to", &text)).transpose()?;
    Reply::ok(&request.app().vault.audit(&ctx).summary(from, to).await?)
}
