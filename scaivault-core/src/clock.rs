use std::fmt::Debug;

use time::OffsetDateTime;

use crate::{Error, Result};

/// Where a vault takes the time from. A test hands in one that it moves.
pub trait Clock: Debug + Send + Sync {
    /// The present, in UTC.
    fn now(&self) -> OffsetDateTime;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the global clock")]
        OffsetDateTime::now_utc()
    }
}

/// Where a vault takes randomness for identifiers, serial numbers and nonces from.
pub trait Random: Debug + Send + Sync {
    /// Fills `bytes` with unpredictable bytes.
    ///
    /// # Errors
    /// [`crate::Code::InternalError`] if the generator fails; nothing may be built on what is in `bytes` then.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;
}

/// The generator of aws-lc, seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        aws_lc_rs::rand::fill(bytes).map_err(|_| Error::internal("the random number generator failed"))
    }
}
