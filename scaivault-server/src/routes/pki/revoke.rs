use scaivault_core::{
    Error, Result,
    pki::{RevocationReason, RevokeWrite},
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

/// `POST /v1/pki/revoke`.
pub(in crate::routes) async fn revoke(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: RevokeBody = request.json().await?;
    let reason = match body.reason.as_deref() {
        None => RevocationReason::Unspecified,
        Some(text) => RevocationReason::parse(text).ok_or_else(|| {
            let known: Vec<&str> = RevocationReason::ALL.iter().map(|reason| reason.as_str()).collect();
            Error::field("reason", format!("must be one of {}", known.join(", ")))
        })?,
    };
    let write = RevokeWrite { serial_number: body.serial_number, ca_id: body.ca_id, reason };
    Reply::ok(&request.app().vault.pki(&ctx).revoke(write).await?)
}
