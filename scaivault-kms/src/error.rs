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
    /// The service does not know us: the token, PIN or access key is wrong, expired or revoked. Waiting does
    /// not help; new credentials do.
    #[error("{provider}: the credentials were not accepted: {message}")]
    Unauthenticated {
        /// Which provider answered.
        provider: &'static str,
        /// Which credential was refused, without showing it.
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

/// Why a provider is unavailable. [`KmsError::cause`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// No answer within the deadline. What was asked may have been done.
    #[error("no answer within the deadline")]
    Deadline,
    /// The service wants fewer requests.
    #[error("throttled")]
    Throttled,
    /// The service is there and sealed, starting, or a standby.
    #[error("sealed or not yet ready")]
    Sealed,
    /// TLS failed: another certificate than the one trusted, or no TLS at all. Not tried again.
    #[error("the TLS handshake failed")]
    Tls,
    /// No connection.
    #[error("no connection")]
    Unreachable,
    /// Something was changed on its way: a checksum of the request or of the answer does not hold.
    #[error("a checksum does not hold")]
    Checksum,
    /// The service answered that it failed.
    #[error("the service failed")]
    Service,
    /// It failed so often in a row that it was not asked.
    #[error("not asked: the circuit is open")]
    CircuitOpen,
    /// So many requests are under way that this one was not made.
    #[error("not asked: too many requests are under way")]
    Overloaded,
}

/// The source of [`KmsError::Unavailable`] that knows its cause.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
struct Outage {
    cause: Cause,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl KmsError {
    /// [`KmsError::Unavailable`] for a reason that [`KmsError::cause`] gives back.
    #[must_use]
    pub fn unavailable(
        provider: &'static str,
        cause: Cause,
        message: impl Into<String>,
        retry_after: Option<Duration>,
        source: Option<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let source = Some(Outage { cause, source }.into());
        Self::Unavailable { provider, message: message.into(), retry_after, source }
    }

    /// Why the provider is unavailable, if it is and its adapter knows.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Unavailable { source: Some(source), .. } => {
                source.downcast_ref::<Outage>().map(|outage| outage.cause)
            }
            _ => None,
        }
    }

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
