use http::StatusCode;
use scaivault_core::Result;

use super::super::Request;
use crate::http::Reply;

/// The largest request: room for many certificates, far from a burden.
const MAX_BYTES: usize = 16 << 10;

/// `POST /v1/pki/ocsp/{ca_id}` (RFC 6960, appendix A.1). Needs no token.
pub(in crate::routes) async fn post(mut request: Request) -> Result<Reply> {
    let body = request.bytes("application/ocsp-request", MAX_BYTES).await?;
    let answer = request.app().vault.public_pki().ocsp(request.param("ca_id")?, &body).await?;
    Ok(Reply::raw(StatusCode::OK, "application/ocsp-response", answer))
}

/// `GET /v1/pki/ocsp/{ca_id}/{request}`: the same, the request in base64 as the rest of the path as it was sent.
pub(in crate::routes) async fn get(request: Request) -> Result<Reply> {
    let pki = request.app().vault.public_pki();
    let answer = pki.ocsp_get(request.param("ca_id")?, request.param("request")?).await?;
    Ok(Reply::raw(StatusCode::OK, "application/ocsp-response", answer))
}
