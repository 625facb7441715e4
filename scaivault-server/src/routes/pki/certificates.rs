use http::StatusCode;
use scaivault_core::{
    Result,
    pki::{Certificate, CertificateFilter},
};
use serde::{Deserialize, Serialize};

use super::super::{Caller, Request, wire};
use crate::http::{Reply, query::Limit};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListQuery {
    ca_id: Option<String>,
    expiring_within: Option<String>,
    include_revoked: Option<bool>,
    limit: Option<Limit>,
    cursor: Option<String>,
}

/// `GET /v1/pki/certificates`.
pub(in crate::routes) async fn list(request: Request, ctx: Caller) -> Result<Reply> {
    let query: ListQuery = request.query()?;
    let window = query.expiring_within.map(|text| wire::duration("expiring_within", &text)).transpose()?;
    let filter = CertificateFilter {
        ca_id: query.ca_id,
        expiring_within: window,
        include_revoked: query.include_revoked.unwrap_or(false),
        limit: query.limit.map(Limit::get),
        cursor: query.cursor,
    };
    let page = request.app().vault.pki(&ctx).certificates(filter).await?;
    Reply::ok(&wire::envelope("certificates", page)?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReadQuery {
    include_private_key: Option<bool>,
}

#[derive(Serialize)]
struct WithKey<'a> {
    #[serde(flatten)]
    certificate: &'a Certificate,
    /// `null` if the role did not have it kept.
    private_key: Option<&'a str>,
}

/// `GET /v1/pki/certificates/{id}`.
pub(in crate::routes) async fn read(request: Request, ctx: Caller) -> Result<Reply> {
    let query: ReadQuery = request.query()?;
    let pki = request.app().vault.pki(&ctx);
    let id = request.param("id")?;
    if query.include_private_key.unwrap_or(false) {
        let (certificate, key) = pki.certificate_with_key(id).await?;
        let private_key = key.as_ref().map(scaivault_core::pki::PrivateKeyPem::expose);
        return Reply::ok(&WithKey { certificate: &certificate, private_key });
    }
    Reply::ok(&pki.certificate(id).await?)
}

/// `GET /v1/pki/certificates/{id}/pem`.
pub(in crate::routes) async fn pem(request: Request, ctx: Caller) -> Result<Reply> {
    let certificate = request.app().vault.pki(&ctx).certificate(request.param("id")?).await?;
    let pem = certificate.certificate_pem.unwrap_or_default();
    Ok(Reply::raw(StatusCode::OK, wire::PEM, pem.into_bytes()))
}
