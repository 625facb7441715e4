//! One answer, one error: what the service says becomes what a caller can act on.

use std::error::Error as StdError;

use azure_core::{Error, error::ErrorKind};
use serde::Deserialize;

use super::PROVIDER;
use crate::{
    Cause, KmsError,
    net::of_tls,
    rest::{Answer, redact},
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

pub(super) fn not_found(message: String) -> KmsError {
    KmsError::NotFound { provider: PROVIDER, message }
}

/// An answer that is not what the API promises.
pub(super) fn unexpected(what: &str) -> KmsError {
    KmsError::Device { provider: PROVIDER, message: format!("an answer without {what}"), source: None }
}

pub(super) fn unavailable(cause: Cause, message: impl Into<String>) -> KmsError {
    KmsError::unavailable(PROVIDER, cause, message, None, None)
}

/// No token. What the authority said is not kept, but for the codes of its errors.
pub(super) fn no_token(error: &(dyn StdError + 'static)) -> KmsError {
    let mut told = None;
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<Error>() {
            match error.kind() {
                ErrorKind::HttpResponse { status, error_code, .. } => {
                    told = Some((u16::from(*status), error_code.clone()));
                }
                ErrorKind::Connection | ErrorKind::Io => {
                    let (cause, why) = if of_tls(error) {
                        (Cause::Tls, "TLS to whoever gives out tokens failed")
                    } else {
                        (Cause::Unreachable, "no connection to whoever gives out tokens")
                    };
                    return unavailable(cause, why);
                }
                _ => {}
            }
        }
        at = error.source();
    }
    match told {
        Some((429, _)) => unavailable(Cause::Throttled, "whoever gives out tokens wants fewer requests"),
        Some((500.., _)) => unavailable(Cause::Service, "whoever gives out tokens failed"),
        Some((status, code)) => {
            let code = code.filter(|code| code.chars().all(|c| c.is_ascii_digit() || c == ','));
            let code = code.map_or_else(|| format!("status {status}"), |code| format!("AADSTS{code}"));
            unauthenticated(format!("the login was refused: {code}"))
        }
        None => unauthenticated("there are no credentials, or they are of no use"),
    }
}

/// 401: whether the vault wants a token for somebody else than ours is for.
pub(super) fn challenged(answer: &Answer, scope: &str, what: &str) -> KmsError {
    let ours = scope.trim_end_matches("/.default");
    let challenge = answer.challenge.as_deref().unwrap_or_default();
    let wanted = ["resource=\"", "scope=\""].iter().find_map(|field| {
        let (_, rest) = challenge.split_once(field)?;
        Some(rest.split_once('"')?.0.trim_end_matches("/.default").trim_end_matches('/'))
    });
    match wanted {
        Some(wanted) if wanted != ours => unauthenticated(format!(
            "{what}: tokens there are for {}, and ours are for {ours}: the key's URL or the resource is wrong",
            plain(wanted)
        )),
        _ => unauthenticated(format!("{what}: the token was refused")),
    }
}

/// A URL as it was told, if it has nothing else in it.
fn plain(url: &str) -> String {
    url.chars().filter(|c| c.is_ascii_alphanumeric() || ".:/-".contains(*c)).take(100).collect()
}

#[derive(Deserialize)]
struct Refusal {
    error: Told,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    code: String,
    message: String,
    innererror: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    code: String,
}

/// An answer other than success to a request about `what`.
pub(super) fn answered(answer: &Answer, what: &str) -> KmsError {
    let status = answer.status.as_u16();
    let unavailable = |cause| {
        let message = format!("{what}: status {status}");
        KmsError::unavailable(PROVIDER, cause, message, answer.retry_after, None)
    };
    match status {
        429 => return unavailable(Cause::Throttled),
        500.. => return unavailable(Cause::Service),
        _ => {}
    }
    // No key is missing because somebody else says that nothing is there.
    let Ok(Refusal { error: told }) = serde_json::from_slice::<Refusal>(&answer.body) else {
        let message = format!("{what}: status {status}, and not in the words of Key Vault; check the URL");
        return KmsError::Device { provider: PROVIDER, message, source: None };
    };
    let inner = told.innererror.map(|inner| inner.code).unwrap_or_default();
    let message = || format!("{what}: {} {inner}: {}", told.code, redact(&told.message));
    let says = |words: &[&str]| {
        let text = told.message.to_ascii_lowercase();
        words.iter().any(|word| text.contains(word))
    };
    match (status, told.code.as_str(), inner.as_str()) {
        (_, _, "KeyDisabled" | "KeyExpired" | "KeyNotYetValid") => disabled(message()),
        (403, ..) if says(&["disabled key", "key is disabled", "expired", "not yet valid"]) => {
            disabled(message())
        }
        (_, _, "KeyOperationForbidden" | "KeyOperationNotSupported") => unsupported(&message()),
        (403, ..) => KmsError::Denied { provider: PROVIDER, message: message() },
        (404, "KeyNotFound" | "NotFound", _) => not_found(message()),
        (409, _, "ObjectIsDeletedButRecoverable" | "ObjectIsBeingDeleted") => {
            disabled(format!("{what}: the key was deleted and can be recovered"))
        }
        (409, ..) => unavailable(Cause::Service),
        (400, ..) => invalid(&message()),
        _ => KmsError::Device { provider: PROVIDER, message: message(), source: None },
    }
}
