use http::{HeaderValue, StatusCode, header};
use scaivault_core::{Code, Error, Result, pki::PublicCrl};

use super::super::{Caller, Request, wire};
use crate::http::{Reply, query::Limit};

/// `GET /v1/pki/ca`.
pub(in crate::routes) async fn list(request: Request, ctx: Caller) -> Result<Reply> {
    let query: wire::PageQuery = request.query()?;
    let page = request.app().vault.pki(&ctx).cas(query.limit.map(Limit::get), query.cursor).await?;
    Reply::ok(&wire::envelope("cas", page)?)
}

/// `POST /v1/pki/ca`.
pub(in crate::routes) async fn create(mut request: Request, ctx: Caller) -> Result<Reply> {
    let write = request.json().await?;
    Reply::created(&request.app().vault.pki(&ctx).create_ca(write).await?)
}

/// `GET /v1/pki/ca/{id}`.
pub(in crate::routes) async fn read(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.pki(&ctx).ca(request.param("id")?).await?)
}

/// `GET /v1/pki/ca/{id}/certificate`: JSON, or the certificate and its chain as PEM.
pub(in crate::routes) async fn certificate(request: Request, ctx: Caller) -> Result<Reply> {
    let certificate = request.app().vault.pki(&ctx).ca_certificate(request.param("id")?).await?;
    if wire::wants_pem(request.head().headers()) {
        let pem = certificate.certificate_pem + &certificate.chain_pem;
        return Ok(Reply::raw(StatusCode::OK, wire::PEM, pem.into_bytes()));
    }
    Reply::ok(&certificate)
}

/// `GET /v1/pki/ca/{id}/crl`: DER, or PEM. Needs no token.
pub(in crate::routes) async fn crl(request: Request) -> Result<Reply> {
    let crl = request.app().vault.public_pki().crl(request.param("id")?).await?;
    published(&request, crl)
}

/// `GET /v1/pki/ca/{id}/crl/{shard}`: the same for one shard, or as `…/crl/delta` what changed since the complete list.
pub(in crate::routes) async fn crl_of_shard(request: Request) -> Result<Reply> {
    let (pki, id) = (request.app().vault.public_pki(), request.param("id")?);
    let crl = match request.param("shard")? {
        "delta" => pki.delta_crl(id, None).await?,
        shard => pki.crl_of_shard(id, number(shard)?).await?,
    };
    published(&request, crl)
}

/// `GET /v1/pki/ca/{id}/crl/{shard}/delta`.
pub(in crate::routes) async fn delta_of_shard(request: Request) -> Result<Reply> {
    let shard = number(request.param("shard")?)?;
    let crl = request.app().vault.public_pki().delta_crl(request.param("id")?, Some(shard)).await?;
    published(&request, crl)
}

/// A shard as its list's URL spells it, and not otherwise.
fn number(shard: &str) -> Result<u8> {
    let number = shard.parse().ok().filter(|number: &u8| number.to_string() == shard);
    number.ok_or_else(|| Error::new(Code::CaNotFound, "There is no such list."))
}

fn published(request: &Request, crl: PublicCrl) -> Result<Reply> {
    let reply = if wire::wants_pem(request.head().headers()) {
        Reply::raw(StatusCode::OK, wire::PEM, crl.pem().into_bytes())
    } else {
        Reply::raw(StatusCode::OK, "application/pkix-crl", crl.der)
    };
    // Short, so that a list that was built out of turn is soon everywhere.
    Ok(reply
        .header(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"))
        .header(header::VARY, HeaderValue::from_static("accept")))
}

/// `POST /v1/pki/ca/{id}/crl`: builds the list now.
pub(in crate::routes) async fn build_crl(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.pki(&ctx).build_crl(request.param("id")?).await?)
}
