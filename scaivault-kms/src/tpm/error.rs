use tss_esapi::{
    Error,
    constants::{Tss2ResponseCode, Tss2ResponseCodeKind as Kind},
};

use super::PROVIDER;
use crate::KmsError;

/// What ended an operation: the TPM's (or its library's) answer, or ours.
#[derive(Debug)]
pub(super) enum Failure {
    Tpm(Error),
    Ours(KmsError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Tpm(error)
    }
}

impl From<KmsError> for Failure {
    fn from(error: KmsError) -> Self {
        Self::Ours(error)
    }
}

impl Failure {
    /// Whether a fresh connection may do better: its library failed, or the TPM no longer knows what we had loaded.
    /// Codes of format one come from the TPM itself; of the others only warnings surely do.
    pub(super) fn asks_for_a_new_connection(&self) -> bool {
        match self {
            Self::Tpm(Error::Tss2Error(code @ Tss2ResponseCode::FormatOne(_))) => {
                matches!(code.kind(), Some(Kind::Handle | Kind::Nonce))
            }
            Self::Tpm(Error::Tss2Error(code)) => !matches!(code.kind(), Some(Kind::Lockout | Kind::Retry)),
            _ => false,
        }
    }

    /// Whether the TPM says that what it was given is wrong, when it was given a blob.
    pub(super) fn blames_the_data(&self) -> bool {
        match self {
            Self::Tpm(Error::WrapperError(_)) => true,
            Self::Tpm(Error::Tss2Error(code @ Tss2ResponseCode::FormatOne(_))) => !matches!(
                code.kind(),
                Some(Kind::AuthFail | Kind::BadAuth | Kind::Nonce | Kind::Handle | Kind::Hierarchy)
            ),
            Self::Tpm(Error::Tss2Error(code)) => code.kind() == Some(Kind::Sensitive),
            Self::Ours(_) => false,
        }
    }

    /// The error that leaves this adapter.
    pub(super) fn into_kms(self, what: &str) -> KmsError {
        match self {
            Self::Tpm(error) => refine(what, error),
            Self::Ours(error) => error,
        }
    }
}

fn refine(what: &str, error: Error) -> KmsError {
    let kind = match error {
        Error::Tss2Error(code) => code.kind(),
        Error::WrapperError(_) => None,
    };
    let first_format = matches!(error, Error::Tss2Error(Tss2ResponseCode::FormatOne(_)));
    let told = kind.map_or_else(String::new, |kind| format!(": the TPM answered {kind:?}"));
    let message = format!("{what}{told}");
    match kind {
        Some(Kind::AuthFail | Kind::BadAuth) if first_format => {
            KmsError::Denied { provider: PROVIDER, message }
        }
        Some(Kind::Lockout) => KmsError::Denied {
            provider: PROVIDER,
            message: format!(
                "{what}: the TPM is locked after wrong authorisations, until its owner or time resets it"
            ),
        },
        Some(Kind::PolicyFail) if first_format => KmsError::Denied {
            provider: PROVIDER,
            message: format!("{what}: the PCRs do not hold what they held when the key was wrapped"),
        },
        Some(Kind::Curve | Kind::KeySize | Kind::Scheme | Kind::Hash | Kind::Value) if first_format => {
            KmsError::Unsupported {
                provider: PROVIDER,
                message: format!("this TPM lacks what is needed: {message}"),
            }
        }
        Some(
            Kind::ObjectMemory
            | Kind::SessionMemory
            | Kind::Memory
            | Kind::SessionHandles
            | Kind::ObjectHandles,
        ) => unavailable(
            format!("{message}: others have loaded too much into it; use its resource manager"),
            error,
        ),
        Some(
            Kind::Retry
            | Kind::PcrChanged
            | Kind::Yielded
            | Kind::Testing
            | Kind::Canceled
            | Kind::NvRate
            | Kind::NvUnavailable,
        ) => unavailable(message, error),
        _ => KmsError::Device { provider: PROVIDER, message, source: Some(Box::new(error)) },
    }
}

pub(super) fn unavailable(message: String, error: Error) -> KmsError {
    KmsError::Unavailable { provider: PROVIDER, message, retry_after: None, source: Some(Box::new(error)) }
}

pub(super) fn invalid(message: impl Into<String>) -> KmsError {
    KmsError::Invalid { provider: PROVIDER, message: message.into() }
}

pub(super) fn not_found(message: impl Into<String>) -> KmsError {
    KmsError::NotFound { provider: PROVIDER, message: message.into() }
}

pub(super) fn unsupported(message: impl Into<String>) -> KmsError {
    KmsError::Unsupported { provider: PROVIDER, message: message.into() }
}

pub(super) fn device(message: impl Into<String>) -> KmsError {
    KmsError::Device { provider: PROVIDER, message: message.into(), source: None }
}
