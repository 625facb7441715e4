use cryptoki::error::{Error, RvError};

use super::PROVIDER;
use crate::KmsError;

/// What ended an operation on a session: the token's answer, which may ask for another session, or ours.
#[derive(Debug)]
pub(super) enum Failure {
    Token(Error),
    Ours(KmsError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Token(error)
    }
}

impl From<KmsError> for Failure {
    fn from(error: KmsError) -> Self {
        Self::Ours(error)
    }
}

impl Failure {
    /// Whether the session, its login or what it knew of the token is gone, so that a fresh one may do better.
    pub(super) fn asks_for_a_new_session(&self) -> bool {
        let Self::Token(Error::Pkcs11(code, _)) = self else { return false };
        matches!(
            code,
            RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent
                | RvError::SlotIdInvalid
                | RvError::UserNotLoggedIn
                | RvError::CryptokiNotInitialized
                | RvError::OperationActive
                | RvError::KeyHandleInvalid
                | RvError::ObjectHandleInvalid
                | RvError::WrappingKeyHandleInvalid
                | RvError::UnwrappingKeyHandleInvalid
        )
    }

    /// Whether the token may mean that the data it was given are wrong. `Some(true)`: it surely does. `Some(false)`:
    /// its answer also stands for other failures (SoftHSM says `CKR_GENERAL_ERROR` of a tag that does not match).
    pub(super) fn blames_the_data(&self) -> Option<bool> {
        let Self::Token(Error::Pkcs11(code, _)) = self else { return None };
        match code {
            RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::WrappedKeyInvalid
            | RvError::WrappedKeyLenRange => Some(true),
            RvError::GeneralError
            | RvError::FunctionFailed
            | RvError::DataInvalid
            | RvError::DataLenRange
            | RvError::ArgumentsBad
            | RvError::DeviceError => Some(false),
            _ => None,
        }
    }

    /// The error that leaves this adapter.
    pub(super) fn into_kms(self, what: &str) -> KmsError {
        match self {
            Self::Token(error) => refine(what, error),
            Self::Ours(error) => error,
        }
    }
}

/// Sorts the token's answer by what the caller can do. The text of [`Error`] names the function and the return
/// value; it never has what was passed.
fn refine(what: &str, error: Error) -> KmsError {
    let Error::Pkcs11(code, function) = error else {
        return KmsError::Device {
            provider: PROVIDER,
            message: what.to_owned(),
            source: Some(Box::new(error)),
        };
    };
    let message = format!("{what}: C_{function:?} answered {code:?}");
    match code {
        RvError::PinIncorrect
        | RvError::PinInvalid
        | RvError::PinLenRange
        | RvError::PinExpired
        | RvError::PinLocked
        | RvError::UserPinNotInitialized
        | RvError::KeyFunctionNotPermitted
        | RvError::ActionProhibited
        | RvError::TokenWriteProtected => KmsError::Denied { provider: PROVIDER, message },
        RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::FunctionNotSupported
        | RvError::CurveNotSupported
        | RvError::KeyTypeInconsistent
        | RvError::KeySizeRange
        | RvError::TemplateInconsistent
        | RvError::AttributeValueInvalid => KmsError::Unsupported { provider: PROVIDER, message },
        _ if code_may_pass(&code) => KmsError::Unavailable {
            provider: PROVIDER,
            message,
            retry_after: None,
            source: Some(Box::new(error)),
        },
        _ => KmsError::Device { provider: PROVIDER, message, source: Some(Box::new(error)) },
    }
}

/// Whether it is the connection to the token that failed, and not the token.
fn code_may_pass(code: &RvError) -> bool {
    matches!(
        code,
        RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::SessionCount
            | RvError::DeviceRemoved
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::SlotIdInvalid
            | RvError::UserNotLoggedIn
            | RvError::CryptokiNotInitialized
            | RvError::OperationActive
            | RvError::HostMemory
            | RvError::DeviceMemory
            | RvError::FunctionCanceled
    )
}

pub(super) fn invalid(message: impl Into<String>) -> KmsError {
    KmsError::Invalid { provider: PROVIDER, message: message.into() }
}

pub(super) fn not_found(message: impl Into<String>) -> KmsError {
    KmsError::NotFound { provider: PROVIDER, message: message.into() }
}

pub(super) fn denied(message: impl Into<String>) -> KmsError {
    KmsError::Denied { provider: PROVIDER, message: message.into() }
}

pub(super) fn unsupported(message: impl Into<String>) -> KmsError {
    KmsError::Unsupported { provider: PROVIDER, message: message.into() }
}

pub(super) fn device(message: impl Into<String>) -> KmsError {
    KmsError::Device { provider: PROVIDER, message: message.into(), source: None }
}

pub(super) fn unavailable(message: impl Into<String>) -> KmsError {
    KmsError::Unavailable { provider: PROVIDER, message: message.into(), retry_after: None, source: None }
}
