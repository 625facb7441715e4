use http::StatusCode;
use scaivault_core::{
    Error, Result,
    pki::{AnchorFilter, AnchorPurpose, AnchorWrite},
};
use serde::Deserialize;
use serde_json::json;

use super::super::{Caller, Request, wire};
use crate::http::{Reply, query::Limit};

#[derive(Debug, Deserialize)]
struct AnchorBody {
    name: String,
    certificate_pem: Option<String>,
    bundle: Option<String>,
    purpose: Option<String>,
    description: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListQuery {
    purpose: Option<String>,
    limit: Option<Limit>,
    cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BundleQuery {
    purpose: Option<String>,
}

/// `POST /v1/pki/trust-anchors`: one anchor for `certificate_pem`, a list of them for `bundle`.
pub(in crate::routes) async fn create(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: AnchorBody = request.json().await?;
    let is_bundle = body.bundle.is_some();
    let write = AnchorWrite {
        name: body.name,
        certificate_pem: body.certificate_pem,
        bundle: body.bundle,
        purpose: purpose(body.purpose.as_deref())?.unwrap_or_default(),
        description: body.description.unwrap_or_default(),
    };
    let mut added = request.app().vault.pki(&ctx).add_trust_anchors(write).await?;
    if is_bundle {
        return Reply::created(&json!({ "trust_anchors": added }));
    }
    let one = added.pop().ok_or_else(|| Error::internal("a trust anchor was added and is not shown"))?;
    Reply::created(&one)
}

/// `GET /v1/pki/trust-anchors`.
pub(in crate::routes) async fn list(request: Request, ctx: Caller) -> Result<Reply> {
    let query: ListQuery = request.query()?;
    let filter = AnchorFilter {
        purpose: purpose(query.purpose.as_deref())?,
        limit: query.limit.map(Limit::get),
        cursor: query.cursor,
    };
    let page = request.app().vault.pki(&ctx).trust_anchors(filter).await?;
    Reply::ok(&wire::envelope("trust_anchors", page)?)
}

/// `GET /v1/pki/trust-anchors/bundle`: PEM.
pub(in crate::routes) async fn bundle(request: Request, ctx: Caller) -> Result<Reply> {
    let query: BundleQuery = request.query()?;
    let purpose = purpose(query.purpose.as_deref())?.unwrap_or_default();
    let pem = request.app().vault.pki(&ctx).trust_anchor_bundle(purpose).await?;
    Ok(Reply::raw(StatusCode::OK, wire::PEM, pem.into_bytes()))
}

/// `GET /v1/pki/trust-anchors/{id}`.
pub(in crate::routes) async fn read(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.pki(&ctx).trust_anchor(request.param("id")?).await?)
}

/// `DELETE /v1/pki/trust-anchors/{id}`.
pub(in crate::routes) async fn delete(request: Request, ctx: Caller) -> Result<Reply> {
    request.app().vault.pki(&ctx).delete_trust_anchor(request.param("id")?).await?;
    Ok(Reply::no_content())
}

pub(super) fn purpose(text: Option<&str>) -> Result<Option<AnchorPurpose>> {
    text.map(AnchorPurpose::parse).transpose()
}
