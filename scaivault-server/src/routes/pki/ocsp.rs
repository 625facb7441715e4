use http::StatusCode;
use scaivault_core::Result;

use super::{super::Request, kept::Kept};
use crate::http::Reply;

/// The largest request: room for many certificates, far from a burden.
const MAX_BYTES: usize = 16 << 10;

/// `POST /v1/pki/ocsp/{ca_id}` (RFC 6960, appendix A.1). Needs no token.
pub(in crate::routes) async fn post(mut request: Request) -> Result<Reply> {
    let body = request.bytes("application/ocsp-request", MAX_BYTES).await?;
    let answer = request.app().vault.public_pki().ocsp(request.param("ca_id")?, &body).await?;
    Ok(Reply::raw(StatusCode::OK, MEDIA, answer.der))
}

/// `GET /v1/pki/ocsp/{ca_id}/{request}`: the same, the request in base64 as the rest of the path as it was sent. An answer
/// that others may have says for how long (RFC 5019, 6.2).
pub(in crate::routes) async fn get(request: Request) -> Result<Reply> {
    let pki = request.app().vault.public_pki();
    let answer = pki.ocsp_get(request.param("ca_id")?, request.param("request")?).await?;
    let headers = request.head().headers();
    match answer.fresh {
        None => Ok(Reply::raw(StatusCode::OK, MEDIA, answer.der)),
        Some((this_update, next_update)) => {
            let tag = answer.digest();
            let (media, body, cache) = (MEDIA, answer.der, CACHE);
            Kept { media, body, tag, this_update, next_update, cache }.reply(headers)
        }
    }
}

const MEDIA: &str = "application/ocsp-response";
/// A minute, so that a revocation is soon everywhere: well before `nextUpdate`, which is fifty minutes away at least.
const CACHE: &str = "max-age=60, public, no-transform, must-revalidate";
