//! One answer, one error: what the service says becomes what a caller can act on.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use super::PROVIDER;
use crate::{Cause, KmsError, rest::redact};

pub(super) fn invalid(message: &str) -> KmsError {
    KmsError::Invalid { provider: PROVIDER, message: message.to_owned() }
}

/// An answer that is not what the API promises.
pub(super) fn unexpected(what: &str) -> KmsError {
    KmsError::Device { provider: PROVIDER, message: format!("an answer without {what}"), source: None }
}

/// What the service answers with a failure.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    errors: Vec<String>,
}

/// An answer other than success to a request about `what`. 403 means more than one thing and is told apart
/// by [`Session`](super::session::Session).
pub(super) fn answered(
    status: StatusCode,
    retry_after: Option<Duration>,
    body: &[u8],
    what: &str,
) -> KmsError {
    let told = serde_json::from_slice::<Refusal>(body).map(|r| r.errors.join("; ")).unwrap_or_default();
    let unavailable = |cause, message: &str| {
        KmsError::unavailable(PROVIDER, cause, format!("{what}: {message}"), retry_after, None)
    };
    match status {
        StatusCode::FORBIDDEN => denied(what),
        StatusCode::NOT_FOUND => not_found(&told, what),
        StatusCode::METHOD_NOT_ALLOWED => unsupported(&format!("{what}: the service cannot do this")),
        StatusCode::PAYLOAD_TOO_LARGE => invalid("more than the service takes"),
        StatusCode::TOO_MANY_REQUESTS => unavailable(Cause::Throttled, "the service wants fewer requests"),
        StatusCode::SERVICE_UNAVAILABLE if told.contains("sealed") => {
            unavailable(Cause::Sealed, "the service is sealed")
        }
        // A performance standby that has not caught up.
        StatusCode::PRECONDITION_FAILED => unavailable(Cause::Service, "the service is catching up"),
        _ if status.is_redirection() => {
            unavailable(Cause::Sealed, "a standby points elsewhere; use the address of the active server")
        }
        _ if status.is_server_error() => unavailable(Cause::Service, &format!("status {}", status.as_u16())),
        _ => refused(status, &told, what),
    }
}

pub(super) fn denied(what: &str) -> KmsError {
    KmsError::Denied { provider: PROVIDER, message: format!("{what}: the token's policies do not allow it") }
}

pub(super) fn unsupported(message: &str) -> KmsError {
    KmsError::Unsupported { provider: PROVIDER, message: message.to_owned() }
}

fn not_found(told: &str, what: &str) -> KmsError {
    let message = if told.contains("namespace") {
        format!("{what}: there is no such namespace")
    } else if told.contains("no handler for route") {
        format!("{what}: nothing is mounted there")
    } else {
        format!("{what}: there is no such key")
    };
    KmsError::NotFound { provider: PROVIDER, message }
}

/// Status 400: the words are all there is to tell one refusal from another.
fn refused(status: StatusCode, told: &str, what: &str) -> KmsError {
    let any = |words: &[&str]| words.iter().any(|word| told.contains(word));
    if any(&["soft-deleted", "policy (too old)", "disallowed by policy"]) {
        let message = format!("{what}: the key, or the version that made this, is no longer to be used");
        KmsError::Disabled { provider: PROVIDER, message }
    } else if any(&["key not found", "unknown key type", "version is too new", "no key version"]) {
        let message = format!("{what}: there is no such key, or not that version of it");
        KmsError::NotFound { provider: PROVIDER, message }
    } else if any(&["message authentication failed", "ciphertext", "unable to decrypt"]) {
        invalid("the blob or its context was changed, or another key made it")
    } else if any(&["does not support", "unsupported", "missing 'context'", "non-AEAD"]) {
        unsupported(&format!("{what}: not with a key of this kind"))
    } else {
        let message = format!("{what}: status {}: {}", status.as_u16(), redact(told));
        KmsError::Device { provider: PROVIDER, message, source: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_told_apart() {
        let of = |status: u16, told: &str| {
            let body = serde_json::json!({ "errors": [told] }).to_string();
            answered(StatusCode::from_u16(status).unwrap(), None, body.as_bytes(), "transit/keys/k")
        };
        assert_eq!(of(503, "Vault is sealed").cause(), Some(Cause::Sealed));
        assert_eq!(of(503, "").cause(), Some(Cause::Service));
        assert_eq!(of(500, "internal").cause(), Some(Cause::Service));
        assert_eq!(of(429, "rate limit").cause(), Some(Cause::Throttled));
        assert_eq!(of(307, "").cause(), Some(Cause::Sealed));
        assert!(matches!(of(404, "no handler for route"), KmsError::NotFound { .. }));
        assert!(matches!(of(400, "refusing to use soft-deleted key"), KmsError::Disabled { .. }));
        assert!(matches!(of(400, "cipher: message authentication failed"), KmsError::Invalid { .. }));
        assert!(matches!(of(400, "invalid ciphertext: version is too new"), KmsError::NotFound { .. }));
        assert!(matches!(of(400, "something new"), KmsError::Device { .. }));
        assert!(matches!(of(403, "permission denied"), KmsError::Denied { .. }));
    }

    #[test]
    fn what_could_be_a_secret_is_not_passed_on() {
        let body = br#"{"errors":["bad plaintext AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= for s.canarycanarycanary"]}"#;
        let error = answered(StatusCode::BAD_REQUEST, None, body, "transit/encrypt/k");
        let text = format!("{error} {error:?}");
        assert!(text.contains("bad plaintext"), "{text}");
        assert!(!text.contains("AAAA") && !text.contains("canary"), "{text}");
    }
}
