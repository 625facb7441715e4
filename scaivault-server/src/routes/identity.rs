//! The directory: who people are, and what the identity provider tells of them.

use http::{HeaderName, StatusCode};
use scaivault_core::{
    Code, Error, IdentityType, PartnerId, Result, Role, TenantId,
    identities::{Delivery, Listed, PageOf},
    limits,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Caller, Request};
use crate::http::Reply;

/// A page of a list under its resource's name.
fn envelope<T: Serialize>(name: &str, listed: &Listed<T>) -> Result<Value> {
    let items = serde_json::to_value(&listed.items).map_err(Error::internal)?;
    Ok(json!({
        name: items, "page": listed.page, "page_size": listed.page_size, "total": listed.total,
    }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListQuery {
    status: Option<String>,
    partner_id: Option<String>,
    q: Option<String>,
    page: Option<u32>,
    page_size: Option<u32>,
}

/// The query of a list, of which `known` parameters apply to this one.
fn list_query(request: &Request, known: &[&str]) -> Result<(ListQuery, PageOf)> {
    let query: ListQuery = request.query()?;
    let given = [
        ("status", query.status.is_some()),
        ("partner_id", query.partner_id.is_some()),
        ("q", query.q.is_some()),
    ];
    if let Some((name, _)) = given.iter().find(|(name, given)| *given && !known.contains(name)) {
        return Err(Error::new(
            Code::InvalidRequest,
            format!("Query parameter {name}: is not a known field."),
        ));
    }
    let page = PageOf::new(query.page, query.page_size)?;
    Ok((query, page))
}

/// `GET /v1/identity/partners`.
pub(super) async fn partners(request: Request, ctx: Caller) -> Result<Reply> {
    let (query, page) = list_query(&request, &["status"])?;
    let partners = request.app().vault.identities(&ctx).partners(query.status.as_deref(), page).await?;
    Reply::ok(&envelope("partners", &partners)?)
}

/// `GET /v1/identity/tenants`.
pub(super) async fn tenants(request: Request, ctx: Caller) -> Result<Reply> {
    let (query, page) = list_query(&request, &["status", "partner_id"])?;
    let identities = request.app().vault.identities(&ctx);
    let tenants = identities.tenants(query.partner_id.as_deref(), query.status.as_deref(), page).await?;
    Reply::ok(&envelope("tenants", &tenants)?)
}

/// `GET /v1/identity/tenants/{tenant_id}/users`.
pub(super) async fn users(request: Request, ctx: Caller) -> Result<Reply> {
    let (query, page) = list_query(&request, &["status", "q"])?;
    let tenant = TenantId::parse(request.param("tenant_id")?)?;
    let identities = request.app().vault.identities(&ctx);
    let users = identities.users(&tenant, query.status.as_deref(), query.q.as_deref(), page).await?;
    Reply::ok(&envelope("users", &users)?)
}

/// `GET /v1/identity/tenants/{tenant_id}/groups`.
pub(super) async fn groups(request: Request, ctx: Caller) -> Result<Reply> {
    let (_, page) = list_query(&request, &[])?;
    let tenant = TenantId::parse(request.param("tenant_id")?)?;
    let groups = request.app().vault.identities(&ctx).groups(&tenant, page).await?;
    Reply::ok(&envelope("groups", &groups)?)
}

/// `GET /v1/identity/groups/{group_id}/members`.
pub(super) async fn members(request: Request, ctx: Caller) -> Result<Reply> {
    let (_, page) = list_query(&request, &[])?;
    let members = request.app().vault.identities(&ctx).members(request.param("group_id")?, page).await?;
    Reply::ok(&envelope("members", &members)?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResolveQuery {
    tenant_id: Option<String>,
}

/// `GET /v1/identity/resolve/{identity_type}/{identity_id}`.
pub(super) async fn resolve(request: Request, ctx: Caller) -> Result<Reply> {
    let query: ResolveQuery = request.query()?;
    let kind = IdentityType::parse(request.param("identity_type")?).ok_or_else(|| {
        let message = "The identity type must be user, service_account, group or system.";
        Error::new(Code::InvalidRequest, message)
    })?;
    let tenant = query.tenant_id.map(TenantId::parse).transpose()?;
    let identities = request.app().vault.identities(&ctx);
    Reply::ok(&identities.resolve(kind, request.param("identity_id")?, tenant.as_ref()).await?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SyncQuery {
    partner_id: Option<String>,
    tenant_id: Option<String>,
}

/// `POST /v1/identity/sync`.
pub(super) async fn sync(request: Request, ctx: Caller) -> Result<Reply> {
    let query: SyncQuery = request.query()?;
    let partner = query.partner_id.map(PartnerId::parse).transpose()?;
    let tenant = query.tenant_id.map(TenantId::parse).transpose()?;
    let started = request.app().vault.identities(&ctx).sync(partner.as_ref(), tenant.as_ref()).await?;
    Reply::json(StatusCode::ACCEPTED, &started)
}

/// `GET /v1/identity/sync/history`.
pub(super) async fn syncs(request: Request, ctx: Caller) -> Result<Reply> {
    let (_, page) = list_query(&request, &[])?;
    Reply::ok(&envelope("syncs", &request.app().vault.identities(&ctx).syncs(page).await?)?)
}

/// `GET /v1/identity/roles`.
pub(super) async fn roles(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&json!({ "roles": request.app().vault.identities(&ctx).roles().await? }))
}

/// `GET /v1/identity/users/{user_id}/roles`.
pub(super) async fn user_roles(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.identities(&ctx).roles_of(request.param("user_id")?).await?)
}

#[derive(Debug, Deserialize)]
struct RolesBody {
    roles: Vec<String>,
}

/// `PUT /v1/identity/users/{user_id}/roles`.
pub(super) async fn set_user_roles(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: RolesBody = request.json().await?;
    let role = |(at, name): (usize, &String)| {
        let reason = "must be super_admin, partner_admin or tenant_admin";
        Role::parse(name).ok_or_else(|| Error::field(format!("roles[{at}]"), reason))
    };
    let roles: Vec<Role> = body.roles.iter().enumerate().map(role).collect::<Result<_>>()?;
    Reply::ok(&request.app().vault.identities(&ctx).set_roles(request.param("user_id")?, &roles).await?)
}

/// `POST /v1/identity/webhooks/scaikey`.
pub(super) async fn webhook(mut request: Request) -> Result<Reply> {
    let body = request.bytes("application/json", limits::WEBHOOK_BYTES).await?;
    let head = request.head();
    let unsigned = |_| Error::new(Code::InvalidSignature, "A header of the signature is there twice.");
    let delivery = Delivery {
        signature: head.header(&X_SCAIKEY_SIGNATURE).map_err(unsigned)?,
        sent_at: head.header(&X_SCAIKEY_TIMESTAMP).map_err(unsigned)?,
        body: &body,
        from: request.app().origin(head),
        request_id: head.id().as_str(),
    };
    Reply::ok(&request.app().vault.receive_identity_event(delivery).await?)
}

static X_SCAIKEY_SIGNATURE: HeaderName = HeaderName::from_static("x-scaikey-signature");
static X_SCAIKEY_TIMESTAMP: HeaderName = HeaderName::from_static("x-scaikey-timestamp");
