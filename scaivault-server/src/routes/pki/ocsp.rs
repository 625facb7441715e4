use http::{HeaderValue, StatusCode, header};
use scaivault_core::{Error, Result};
use time::{OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description};

use super::super::Request;
use crate::http::Reply;

/// The largest request: room for many certificates, far from a burden.
const MAX_BYTES: usize = 16 << 10;

/// `POST /v1/pki/ocsp/{ca_id}` (RFC 6960, appendix A.1). Needs no token.
pub(in crate::routes) async fn post(mut request: Request) -> Result<Reply> {
    let body = request.bytes("application/ocsp-request", MAX_BYTES).await?;
    let answer = request.app().vault.public_pki().ocsp(request.param("ca_id")?, &body).await?;
    Ok(Reply::raw(StatusCode::OK, "application/ocsp-response", answer.der))
}

/// `GET /v1/pki/ocsp/{ca_id}/{request}`: the same, the request in base64 as the rest of the path as it was sent. An answer
/// that others may have says for how long (RFC 5019, 6.2).
pub(in crate::routes) async fn get(request: Request) -> Result<Reply> {
    let pki = request.app().vault.public_pki();
    let answer = pki.ocsp_get(request.param("ca_id")?, request.param("request")?).await?;
    let (tag, fresh) = (format!("\"{}\"", answer.digest()), answer.fresh);
    let reply = Reply::raw(StatusCode::OK, "application/ocsp-response", answer.der);
    let Some((this_update, next_update)) = fresh else { return Ok(reply) };
    Ok(reply
        .header(header::CACHE_CONTROL, HeaderValue::from_static(CACHE))
        .header(header::ETAG, HeaderValue::from_str(&tag).map_err(Error::internal)?)
        .header(header::LAST_MODIFIED, date(this_update)?)
        .header(header::EXPIRES, date(next_update)?))
}

/// A minute, so that a revocation is soon everywhere: well before `nextUpdate`, which is fifty minutes away at least.
const CACHE: &str = "max-age=60, public, no-transform, must-revalidate";

/// RFC 9110, 5.6.7.
const DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

fn date(at: OffsetDateTime) -> Result<HeaderValue> {
    let text = at.to_offset(UtcOffset::UTC).format(DATE).map_err(Error::internal)?;
    HeaderValue::from_str(&text).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(date(datetime!(2026-11-02 04:05:06 +02:00)).unwrap(), "Mon, 02 Nov 2026 02:05:06 GMT");
    }
}
