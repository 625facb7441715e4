use std::{error::Error as StdError, time::Duration};

/// What a caller can act on when a key operation fails. No variant ever carries key material, a PIN or
/// a token; what the service said is in [`std::error::Error::source`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// The service knows us and refuses: a grant or key policy is missing. Waiting does not help.
    #[error("{provider}: access to the key was denied: {message}")]
    Denied {
        /// Which provider answered.
        provider: &'static str,
        /// What was refused, without secrets.
        message: String,
    },
    /// There is no such key. Never used for a service that could not be reached.
    #[error("{provider}: key not found: {message}")]
    NotFound {
        /// Which provider answered.
        provider: &'static str,
        /// Which key was looked for.
        message: String,
    },
    /// The key exists but is disabled, expired or pending deletion.
    #[error("{provider}: the key is disabled: {message}")]
    Disabled {
        /// Which provider answered.
        provider: &'static str,
        /// The state that the provider reports.
        message: String,
    },
    /// The service cannot be reached, is throttling, or timed out. Safe to try again.
    #[error("{provider}: unavailable: {message}")]
    Unavailable {
        /// Which provider did not answer.
        provider: &'static str,
        /// What happened, without secrets.
        message: String,
        /// When to try again, if the service said so.
        retry_after: Option<Duration>,
        /// The underlying failure.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The provider cannot do this at all (an algorithm or operation that it lacks).
    #[error("{provider}: not supported: {message}")]
    Unsupported {
        /// Which provider was asked.
        provider: &'static str,
        /// What it lacks.
        message: String,
    },
    /// The input is wrong: a corrupt or truncated blob, the wrong context, a blob of another key.
    #[error("{provider}: invalid input: {message}")]
    Invalid {
        /// Which provider refused.
        provider: &'static str,
        /// What is wrong with the input.
        message: String,
    },
    /// The device or its library failed in a way that is none of the above (session lost, lockout).
    #[error("{provider}: device failure: {message}")]
    Device {
        /// Which provider failed.
        provider: &'static str,
        /// What the device reported.
        message: String,
        /// The underlying failure.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
}

impl KmsError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// When to try again, where the provider said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
