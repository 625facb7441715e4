use std::time::Duration;

/// The bounds of [`Guarded`](super::Guarded). A duration of more than a day is a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For an operation as a whole: waiting for its turn, every attempt, the pauses between them.
    pub deadline: Duration,
    /// For one attempt of an operation that may be tried again. Others have all of `deadline`.
    pub attempt: Duration,
    /// Attempts of an operation that may be tried again, the first one included; at least 1.
    pub attempts: u32,
    /// The pause before the second attempt is between half of this and this; it doubles from there.
    pub backoff: Duration,
    /// No pause is longer, unless the service asks for it.
    pub backoff_max: Duration,
    /// Attempts under way at one time; at least 1. Others wait for their turn.
    pub concurrency: usize,
    /// The circuit opens after so many failures in a row; at least 1.
    pub failures: u32,
    /// How long the circuit stays open before one call is let through to see.
    pub open_for: Duration,
}

impl Default for Limits {
    /// 10 s for an operation, 3 attempts of 3 s, pauses from 50 ms to 1 s, 64 at a time, open for 2 s after 5
    /// failures.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            attempt: Duration::from_secs(3),
            attempts: 3,
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            concurrency: 64,
            failures: 5,
            open_for: Duration::from_secs(2),
        }
    }
}
