use scaivault_core::{
    Result,
    trust::{TrustDocument, TrustWrite},
};

use super::{Caller, Request};
use crate::{
    http::{Reply, query::Limit},
    routes::wire,
};

/// `GET /v1/auth/trust`.
pub(in crate::routes) async fn list(request: Request, ctx: Caller) -> Result<Reply> {
    let query: wire::PageQuery = request.query()?;
    let page = request.app().vault.trusts(&ctx).list(query.limit.map(Limit::get), query.cursor).await?;
    Reply::ok(&wire::envelope("trusts", page)?)
}

/// `POST /v1/auth/trust`.
pub(in crate::routes) async fn create(mut request: Request, ctx: Caller) -> Result<Reply> {
    let write: TrustWrite = request.json().await?;
    let document = TrustDocument::parse(write)?;
    Reply::created(&request.app().vault.trusts(&ctx).create(document).await?)
}

/// `GET /v1/auth/trust/{id}`.
pub(in crate::routes) async fn read(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.trusts(&ctx).read(request.param("id")?).await?)
}

/// `DELETE /v1/auth/trust/{id}`.
pub(in crate::routes) async fn delete(request: Request, ctx: Caller) -> Result<Reply> {
    request.app().vault.trusts(&ctx).delete(request.param("id")?).await?;
    Ok(Reply::no_content())
}
