//! One answer, one error: what the service says becomes what a caller can act on.

use std::time::Duration;

use gcp_auth::Error;
use serde::Deserialize;

use super::PROVIDER;
use crate::{
    Cause, KmsError,
    net::of_tls,
    rest::{Answer, LONGEST_WAIT, redact},
};

pub(super) fn invalid(message: &str) -> KmsError {
    KmsError::Invalid { provider: PROVIDER, message: message.to_owned() }
}

pub(super) fn unsupported(message: &str) -> KmsError {
    KmsError::Unsupported { provider: PROVIDER, message: message.to_owned() }
}

pub(super) fn disabled(message: String) -> KmsError {
    KmsError::Disabled { provider: PROVIDER, message }
}

pub(super) fn unauthenticated(message: impl Into<String>) -> KmsError {
    KmsError::Unauthenticated { provider: PROVIDER, message: message.into() }
}

/// An answer that is not what the API promises.
pub(super) fn unexpected(what: &str) -> KmsError {
    KmsError::Device { provider: PROVIDER, message: format!("an answer without {what}"), source: None }
}

pub(super) fn unavailable(cause: Cause, message: impl Into<String>) -> KmsError {
    KmsError::unavailable(PROVIDER, cause, message, None, None)
}

/// Something was changed on its way; the same request may fare better.
pub(super) fn mismatch(what: &str) -> KmsError {
    unavailable(Cause::Checksum, format!("the CRC32C checksum of {what} does not hold"))
}

/// No token. What the source of tokens said is not kept: it may quote its credentials.
pub(super) fn no_token(error: &Error) -> KmsError {
    match error {
        Error::NoAuthMethod(..) => unauthenticated(
            "no credentials: GOOGLE_APPLICATION_CREDENTIALS names no file, gcloud left none for applications, and \
             there is no metadata server",
        ),
        Error::Io(what, error) => unauthenticated(format!("{what}: {}", error.kind())),
        Error::Json(what, _) if what.contains("token") => {
            unavailable(Cause::Service, "whoever gives out tokens answered something else")
        }
        Error::Json(what, _) => unauthenticated(*what),
        error if of_tls(error) => unavailable(Cause::Tls, "TLS to whoever gives out tokens failed"),
        Error::Http(..) => unavailable(Cause::Unreachable, "no connection to whoever gives out tokens"),
        Error::Other(what, _) if what.contains("HTTP request") => {
            unavailable(Cause::Unreachable, "no connection to whoever gives out tokens")
        }
        Error::Other(what, _) | Error::Str(what) => unauthenticated(*what),
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    /// Of `google.rpc.RetryInfo`, such as `3.5s`.
    retry_delay: Option<String>,
}

/// An answer other than success to a request about `what`.
pub(super) fn answered(answer: &Answer, what: &str) -> KmsError {
    let Ok(Refusal { error: told }) = serde_json::from_slice::<Refusal>(&answer.body) else {
        return bare(answer, what);
    };
    let delay = told.details.iter().find_map(|detail| seconds(detail.retry_delay.as_deref()?));
    let message = || format!("{what}: {}", redact(&told.message));
    let unavailable =
        |cause| KmsError::unavailable(PROVIDER, cause, message(), delay.max(answer.retry_after), None);
    let says = |word: &str| told.message.to_ascii_lowercase().contains(word);
    match told.status.as_str() {
        "UNAUTHENTICATED" => unauthenticated(format!("{what}: the token was refused")),
        "PERMISSION_DENIED" => KmsError::Denied { provider: PROVIDER, message: message() },
        "NOT_FOUND" => KmsError::NotFound { provider: PROVIDER, message: message() },
        "FAILED_PRECONDITION" if says("pending_generation") || says("pending_import") => {
            unavailable(Cause::Service)
        }
        "FAILED_PRECONDITION" if says("purpose") => unsupported(&message()),
        "FAILED_PRECONDITION" => disabled(message()),
        "RESOURCE_EXHAUSTED" => unavailable(Cause::Throttled),
        "ALREADY_EXISTS" => invalid(&format!("{what}: there is a key of this name already")),
        "INVALID_ARGUMENT" if says("crc32c") || says("checksum") => mismatch("what we sent"),
        "INVALID_ARGUMENT" if says("purpose") => unsupported(&message()),
        "INVALID_ARGUMENT" => invalid(&message()),
        "UNIMPLEMENTED" => unsupported(&message()),
        "DEADLINE_EXCEEDED" => unavailable(Cause::Deadline),
        "UNAVAILABLE" | "INTERNAL" | "ABORTED" | "CANCELLED" | "UNKNOWN" => unavailable(Cause::Service),
        _ => bare(answer, what),
    }
}

/// An answer without the words of this API: of a proxy, or of another service. No key is missing because of it.
fn bare(answer: &Answer, what: &str) -> KmsError {
    let status = answer.status.as_u16();
    let unavailable = |cause| {
        let message = format!("{what}: status {status}");
        KmsError::unavailable(PROVIDER, cause, message, answer.retry_after, None)
    };
    match status {
        429 => unavailable(Cause::Throttled),
        500.. => unavailable(Cause::Service),
        _ => KmsError::Device {
            provider: PROVIDER,
            message: format!(
                "{what}: status {status}, and not in the words of Cloud KMS; check the endpoint"
            ),
            source: None,
        },
    }
}

/// `3.5s`; at most an hour.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|delay| delay.min(LONGEST_WAIT))
}
