use scaivault_core::{
    Error, Result,
    pki::{BulkRevoke, ReleaseWrite, RevocationReason, RevokeWrite},
};
use serde::Deserialize;

use super::super::{Caller, Request};
use crate::http::Reply;

#[derive(Debug, Deserialize)]
struct RevokeBody {
    serial_number: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    ca_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ReleaseBody {
    serial_number: String,
    #[serde(default)]
    ca_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BulkBody {
    ca_id: Option<String>,
    role: Option<String>,
    issued_to: Option<String>,
    key_sha256: Option<String>,
    san: Option<String>,
    reason: Option<String>,
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CaBody {
    reason: Option<String>,
}

/// `POST /v1/pki/revoke`.
pub(in crate::routes) async fn revoke(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: RevokeBody = request.json().await?;
    let reason = reason(body.reason.as_deref())?;
    let write = RevokeWrite { serial_number: body.serial_number, ca_id: body.ca_id, reason };
    Reply::ok(&request.app().vault.pki(&ctx).revoke(write).await?)
}

/// `POST /v1/pki/revoke/bulk`.
pub(in crate::routes) async fn bulk(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: BulkBody = request.json().await?;
    let write = BulkRevoke {
        ca_id: body.ca_id,
        role: body.role,
        issued_to: body.issued_to,
        key_sha256: body.key_sha256,
        san: body.san,
        reason: reason(body.reason.as_deref())?,
        dry_run: body.dry_run,
    };
    Reply::ok(&request.app().vault.pki(&ctx).revoke_many(write).await?)
}

/// `POST /v1/pki/release`.
pub(in crate::routes) async fn release(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: ReleaseBody = request.json().await?;
    let write = ReleaseWrite { serial_number: body.serial_number, ca_id: body.ca_id };
    Reply::ok(&request.app().vault.pki(&ctx).release(write).await?)
}

/// `POST /v1/pki/ca/{id}/revoke`.
pub(in crate::routes) async fn ca(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: CaBody = request.json().await?;
    let reason = reason(body.reason.as_deref())?;
    Reply::ok(&request.app().vault.pki(&ctx).revoke_ca(request.param("id")?, reason).await?)
}

fn reason(text: Option<&str>) -> Result<RevocationReason> {
    let Some(text) = text else { return Ok(RevocationReason::Unspecified) };
    RevocationReason::parse(text).ok_or_else(|| {
        let known: Vec<&str> = RevocationReason::ALL.iter().map(|reason| reason.as_str()).collect();
        Error::field("reason", format!("must be one of {}", known.join(", ")))
    })
}
