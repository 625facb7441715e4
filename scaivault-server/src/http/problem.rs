//! The one place that knows which status a code has and what an error looks like on the wire.

use http::{HeaderValue, StatusCode, header};
use scaivault_core::{Code, Details, Error};
use serde::Serialize;

use super::{Reply, RequestId};

/// The status of a code.
#[must_use]
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest
        | Code::InvalidPath
        | Code::InvalidSecretType
        | Code::InvalidDuration
        | Code::InvalidCursor
        | Code::InvalidPolicy
        | Code::InvalidGlob
        | Code::InvalidRole => StatusCode::BAD_REQUEST,
        Code::AuthenticationRequired
        | Code::TokenExpired
        | Code::TokenInvalid
        | Code::TokenRevoked
        | Code::InvalidSignature => StatusCode::UNAUTHORIZED,
        Code::AccessDenied
        | Code::MfaRequired
        | Code::IpNotAllowed
        | Code::TimeWindowViolation
        | Code::InsufficientScope
        | Code::TenantAccessDenied
        | Code::Forbidden => StatusCode::FORBIDDEN,
        Code::TenantNotFound
        | Code::IdentityNotFound
        | Code::SecretNotFound
        | Code::VersionNotFound
        | Code::PolicyNotFound
        | Code::BindingNotFound
        | Code::CaNotFound
        | Code::CertificateNotFound
        | Code::CsrNotFound
        | Code::RoleNotFound
        | Code::TrustAnchorNotFound
        | Code::TrustNotFound
        | Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::SecretExists
        | Code::VersionConflict
        | Code::PolicyInUse
        | Code::NameConflict
        | Code::IdempotencyConflict
        | Code::InvalidState => StatusCode::CONFLICT,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::ValidationError => StatusCode::UNPROCESSABLE_ENTITY,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        Code::ServiceUnavailable | Code::Quarantined => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The answer that tells the caller of `error`; logs it, once, with what only we may know.
pub(crate) fn reply(error: &Error, id: &RequestId, action: &str) -> Reply {
    let status = status(error.code());
    log(error, status, id, action);
    let body = Envelope {
        error: Problem {
            code: error.code().as_str(),
            message: error.message(),
            details: error.details(),
            request_id: id.as_str(),
        },
    };
    let mut reply =
        Reply::json(status, &body).unwrap_or_else(|_| Reply::raw(status, "application/json", Vec::new()));
    if let Some(wait) = error.details().retry_after {
        reply = reply.header(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    if status == StatusCode::UNAUTHORIZED {
        reply = reply.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}

/// A defect or an outage is an operator's business; a refusal is the caller's.
fn log(error: &Error, status: StatusCode, id: &RequestId, action: &str) {
    let (code, request_id) = (error.code().as_str(), id.as_str());
    if status.is_server_error() {
        tracing::error!(code, request_id, action, causes = error.causes(), "{}", error.message());
    } else {
        tracing::debug!(code, request_id, action, "request refused");
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Problem<'a>,
}

#[derive(Serialize)]
struct Problem<'a> {
    code: &'static str,
    message: &'a str,
    details: &'a Details,
    request_id: &'a str,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use scaivault_core::SystemRandom;

    use super::*;

    async fn answer(error: &Error) -> (http::response::Parts, serde_json::Value) {
        let id = RequestId::mint(&SystemRandom);
        let (parts, body) = reply(error, &id, "test").into_response().into_parts();
        let body: serde_json::Value =
            serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(body["error"]["request_id"], id.as_str());
        (parts, body)
    }

    #[tokio::test]
    async fn every_code_has_an_error_status_and_an_envelope() {
        for code in Code::ALL {
            let (parts, body) = answer(&Error::new(*code, "no")).await;
            assert!(parts.status.as_u16() >= 400);
            assert_eq!(body["error"]["code"], code.as_str());
            assert_eq!(body["error"]["message"], "no");
            assert_eq!(body["error"]["details"], serde_json::json!({}));
            let challenge = parts.headers.contains_key(header::WWW_AUTHENTICATE);
            assert_eq!(challenge, parts.status == StatusCode::UNAUTHORIZED, "{code:?}");
        }
    }

    #[tokio::test]
    async fn a_source_is_not_told_and_a_wait_is() {
        let error =
            Error::unavailable("The database is not available.", Duration::from_secs(7), "canary-dsn");
        let (parts, body) = answer(&error).await;
        assert_eq!(parts.status, 503);
        assert_eq!(parts.headers[header::RETRY_AFTER], "7");
        assert_eq!(body["error"]["details"]["retry_after"], 7);
        assert!(!body.to_string().contains("canary"));
    }
}
