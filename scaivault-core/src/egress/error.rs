use std::time::Duration;

/// Why a request that we made brought nothing. Its text is for logs: it names the address and the cause, never what was
/// sent or came back; of an address that a user named, scheme, host and port only, since the rest may be a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The address itself: no URL of ours, or one that may not be reached.
    #[error("{url} is not asked: {reason}")]
    Refused {
        /// Where to.
        url: String,
        /// Why, as the end of a sentence.
        reason: String,
    },
    /// No usable answer.
    #[error("{url} gives no usable answer")]
    Transport {
        /// Where to.
        url: String,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No whole answer in time.
    #[error("{url} gives no answer within {} ms", after.as_millis())]
    Late {
        /// Where to.
        url: String,
        /// The bound.
        after: Duration,
    },
    /// Another status than the one that was needed.
    #[error("{url} answered {status}")]
    Status {
        /// Where to.
        url: String,
        /// The status.
        status: u16,
    },
    /// More bytes in the body, or more in the header, than are read.
    #[error("{url} answered more than {max} bytes")]
    TooLarge {
        /// Where to.
        url: String,
        /// The bound.
        max: usize,
    },
    /// Not what was asked for.
    #[error("{url}: {reason}")]
    Unfit {
        /// Where to.
        url: String,
        /// Why.
        reason: String,
    },
}

impl EgressError {
    /// Whether the address must not be asked, so that asking again would change nothing but with another resolution.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}
