use scaivault_core::{
    Code, Error, Result,
    pki::{CsrFilter, CsrStatus, CsrWrite},
};
use serde::Deserialize;

use super::{
    super::{Caller, Request, wire},
    issue::{idempotency_key, reply},
};
use crate::http::{Reply, query::Limit};

#[derive(Debug, Deserialize)]
struct CsrBody {
    csr_pem: String,
    role: String,
    ttl: Option<String>,
    description: Option<String>,
}

/// `POST /v1/pki/csr`.
pub(in crate::routes) async fn submit(mut request: Request, ctx: Caller) -> Result<Reply> {
    let idempotency_key = idempotency_key(&request)?;
    let body: CsrBody = request.json().await?;
    let write = CsrWrite {
        csr_pem: body.csr_pem,
        role: body.role,
        ttl: body.ttl.map(|text| wire::duration("ttl", &text)).transpose()?,
        description: body.description.unwrap_or_default(),
        idempotency_key,
    };
    Reply::created(&request.app().vault.pki(&ctx).submit_csr(write).await?)
}

#[derive(Debug, Default, Deserialize)]
struct ListQuery {
    status: Option<String>,
    limit: Option<Limit>,
    cursor: Option<String>,
}

/// `GET /v1/pki/csr`.
pub(in crate::routes) async fn list(request: Request, ctx: Caller) -> Result<Reply> {
    let query: ListQuery = request.query()?;
    let unknown = "Query parameter status: must be pending, approved, signed or rejected.";
    let status =
        |text: String| CsrStatus::parse(&text).ok_or_else(|| Error::new(Code::InvalidRequest, unknown));
    let filter = CsrFilter {
        status: query.status.map(status).transpose()?,
        limit: query.limit.map(Limit::get),
        cursor: query.cursor,
    };
    Reply::ok(&wire::envelope("csrs", request.app().vault.pki(&ctx).csrs(filter).await?)?)
}

/// `GET /v1/pki/csr/{id}`.
pub(in crate::routes) async fn read(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.pki(&ctx).csr(request.param("id")?).await?)
}

/// `POST /v1/pki/csr/{id}/approve`.
pub(in crate::routes) async fn approve(mut request: Request, ctx: Caller) -> Result<Reply> {
    let wire::Nothing {} = request.json_or_default().await?;
    Reply::ok(&request.app().vault.pki(&ctx).approve_csr(request.param("id")?).await?)
}

#[derive(Debug, Deserialize)]
struct RejectBody {
    reason: String,
}

/// `POST /v1/pki/csr/{id}/reject`.
pub(in crate::routes) async fn reject(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: RejectBody = request.json().await?;
    Reply::ok(&request.app().vault.pki(&ctx).reject_csr(request.param("id")?, &body.reason).await?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SignBody {
    ttl: Option<String>,
}

/// `POST /v1/pki/csr/{id}/sign`.
pub(in crate::routes) async fn sign(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: SignBody = request.json_or_default().await?;
    let ttl = body.ttl.map(|text| wire::duration("ttl", &text)).transpose()?;
    reply(&request.app().vault.pki(&ctx).sign_csr(request.param("id")?, ttl).await?)
}
