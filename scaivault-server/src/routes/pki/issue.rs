use scaivault_core::{Result, pki::IssueWrite, rfc3339};
use serde::{Deserialize, Serialize};

use super::super::{Caller, Request, wire};
use crate::http::Reply;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IssueBody {
    common_name: Option<String>,
    alt_names: Vec<String>,
    ip_sans: Vec<String>,
    ttl: Option<String>,
}

#[derive(Serialize)]
struct IssueReply<'a> {
    id: &'a str,
    certificate: &'a str,
    private_key: &'a str,
    ca_chain: &'a [String],
    serial_number: &'a str,
    not_before: String,
    not_after: String,
}

/// `POST /v1/pki/issue/{role}`.
pub(in crate::routes) async fn issue(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: IssueBody = request.json().await?;
    let write = IssueWrite {
        common_name: body.common_name,
        alt_names: body.alt_names,
        ip_sans: body.ip_sans,
        ttl: body.ttl.map(|text| wire::duration("ttl", &text)).transpose()?,
    };
    let issued = request.app().vault.pki(&ctx).issue(request.param("role")?, write).await?;
    Reply::created(&IssueReply {
        id: &issued.id,
        certificate: &issued.certificate,
        private_key: issued.private_key.expose(),
        ca_chain: &issued.ca_chain,
        serial_number: &issued.serial_number,
        not_before: rfc3339(issued.not_before),
        not_after: rfc3339(issued.not_after),
    })
}
