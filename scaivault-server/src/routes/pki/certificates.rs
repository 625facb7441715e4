use std::collections::BTreeMap;

use http::StatusCode;
use scaivault_core::{
    Result,
    pki::{Certificate, CertificateSearch, Sort, StatusFilter},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::super::{Caller, Request, wire};
use crate::http::{Reply, query::Limit};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListQuery {
    common_name: Option<String>,
    san: Option<String>,
    ca_id: Option<String>,
    role: Option<String>,
    key_hash: Option<String>,
    serial_number: Option<String>,
    requested_by: Option<String>,
    tag: Option<String>,
    weak: Option<bool>,
    status: Option<String>,
    include_revoked: Option<bool>,
    expires_after: Option<String>,
    expires_before: Option<String>,
    expiring_within: Option<String>,
    sort: Option<String>,
    count: Option<bool>,
    limit: Option<Limit>,
    cursor: Option<String>,
}

/// `GET /v1/pki/certificates`.
pub(in crate::routes) async fn list(request: Request, ctx: Caller) -> Result<Reply> {
    let query: ListQuery = request.query()?;
    let time = |name: &str, text: Option<String>| -> Result<Option<OffsetDateTime>> {
        text.map(|text| wire::time_parameter(name, &text)).transpose()
    };
    let window = query.expiring_within.map(|text| wire::duration("expiring_within", &text)).transpose()?;
    let search = CertificateSearch {
        common_name: query.common_name,
        san: query.san,
        ca_id: query.ca_id,
        role: query.role,
        key_hash: query.key_hash,
        serial_number: query.serial_number,
        requested_by: query.requested_by,
        tag: query.tag,
        weak: query.weak,
        status: query.status.as_deref().map(StatusFilter::parse).transpose()?,
        include_revoked: query.include_revoked.unwrap_or(false),
        expires_after: time("expires_after", query.expires_after)?,
        expires_before: time("expires_before", query.expires_before)?,
        expiring_within: window,
        sort: query.sort.as_deref().map(Sort::parse).transpose()?.unwrap_or_default(),
        count: query.count.unwrap_or(false),
        limit: query.limit.map(Limit::get),
        cursor: query.cursor,
    };
    let found = request.app().vault.pki(&ctx).search_certificates(search).await?;
    let mut envelope = wire::envelope("certificates", found.page)?;
    if let Some(count) = found.count {
        envelope["count"] = count.count.into();
        envelope["count_is_exact"] = count.count_is_exact.into();
    }
    Reply::ok(&envelope)
}

/// `GET /v1/pki/certificates/summary`.
pub(in crate::routes) async fn summary(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.pki(&ctx).certificate_summary().await?)
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
    Reply::ok(&pki.tagged_certificate(id).await?)
}

#[derive(Debug, Deserialize)]
struct PatchBody {
    tags: BTreeMap<String, String>,
}

/// `PATCH /v1/pki/certificates/{id}`: replaces its tags.
pub(in crate::routes) async fn patch(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: PatchBody = request.json().await?;
    Reply::ok(&request.app().vault.pki(&ctx).tag_certificate(request.param("id")?, body.tags).await?)
}

/// `GET /v1/pki/certificates/{id}/pem`.
pub(in crate::routes) async fn pem(request: Request, ctx: Caller) -> Result<Reply> {
    let certificate = request.app().vault.pki(&ctx).certificate(request.param("id")?).await?;
    let pem = certificate.certificate_pem.unwrap_or_default();
    Ok(Reply::raw(StatusCode::OK, wire::PEM, pem.into_bytes()))
}
