//! One answer, one error: what the service says becomes what a caller can act on.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use super::PROVIDER;
use crate::{Cause, KmsError, net::of_tls};

pub(super) fn invalid(message: &str) -> KmsError {
    KmsError::Invalid { provider: PROVIDER, message: message.to_owned() }
}

pub(super) fn unsupported(message: &str) -> KmsError {
    KmsError::Unsupported { provider: PROVIDER, message: message.to_owned() }
}

/// An answer that is not what the API promises.
pub(super) fn unexpected(what: &str) -> KmsError {
    KmsError::Device { provider: PROVIDER, message: format!("an answer without {what}"), source: None }
}

/// A request about `what` that failed. The SDK's error is not kept: it may hold the whole answer.
pub(super) fn failed<E>(error: SdkError<E, HttpResponse>, what: &str) -> KmsError
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let unavailable = |cause, message: &str| {
        KmsError::unavailable(PROVIDER, cause, format!("{what}: {message}"), None, None)
    };
    match &error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let told = answer.err().message().unwrap_or_default();
            refused(answer.err().code().unwrap_or_default(), status, told, what)
        }
        SdkError::TimeoutError(_) => unavailable(Cause::Deadline, "no answer in time"),
        SdkError::ResponseError(_) => unavailable(Cause::Service, "an answer that cannot be read"),
        _ if of_tls(&error) => unavailable(Cause::Tls, "TLS failed"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            unavailable(Cause::Deadline, "no answer in time")
        }
        other => match credentials(other) {
            Some(CredentialsError::ProviderTimedOut(_)) => {
                unavailable(Cause::Deadline, "no credentials in time")
            }
            Some(CredentialsError::ProviderError(_)) => {
                unavailable(Cause::Service, "whoever gives out credentials failed")
            }
            Some(_) => unauthenticated("there are no credentials"),
            None => unavailable(Cause::Unreachable, "no connection"),
        },
    }
}

fn credentials<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CredentialsError> {
    error.downcast_ref().or_else(|| credentials(error.source()?))
}

fn unauthenticated(message: &str) -> KmsError {
    KmsError::Unauthenticated { provider: PROVIDER, message: message.to_owned() }
}

fn refused(code: &str, status: u16, told: &str, what: &str) -> KmsError {
    let message = || format!("{what}: {code}: {}", told.chars().take(200).collect::<String>());
    let unavailable = |cause| KmsError::unavailable(PROVIDER, cause, format!("{what}: {code}"), None, None);
    match code {
        "InvalidCiphertextException" | "IncorrectKeyException" => {
            invalid("the blob or its context was changed, or another key made it")
        }
        // Said of a blob, not of the key that we named: it names another.
        "AccessDeniedException" if told.starts_with("The ciphertext refers to") => {
            invalid("the blob or its context was changed, or another key made it")
        }
        "AccessDeniedException" | "AccessDenied" | "InvalidGrantTokenException" => {
            KmsError::Denied { provider: PROVIDER, message: message() }
        }
        // What is told here may quote the request with its session token.
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "OptInRequired" => unauthenticated(&format!("{what}: {code}")),
        "NotFoundException" => KmsError::NotFound { provider: PROVIDER, message: message() },
        "DisabledException" | "KMSInvalidStateException" | "KmsInvalidStateException" => {
            KmsError::Disabled { provider: PROVIDER, message: message() }
        }
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "LimitExceededException" => unavailable(Cause::Throttled),
        "DependencyTimeoutException" => unavailable(Cause::Deadline),
        "KeyUnavailableException"
        | "KMSInternalException"
        | "KmsInternalException"
        | "ServiceUnavailable" => unavailable(Cause::Service),
        "InvalidKeyUsageException" | "UnsupportedOperationException" => {
            KmsError::Unsupported { provider: PROVIDER, message: message() }
        }
        "ValidationException"
        | "InvalidArnException"
        | "InvalidAliasNameException"
        | "AlreadyExistsException" => KmsError::Invalid { provider: PROVIDER, message: message() },
        _ if status == 429 => unavailable(Cause::Throttled),
        _ if status >= 500 => unavailable(Cause::Service),
        _ => KmsError::Device { provider: PROVIDER, message: message(), source: None },
    }
}
