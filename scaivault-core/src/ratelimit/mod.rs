//! How often somebody may ask: a token bucket for each identity and category.
//!
//! Buckets are in Redis, so that replicas share them, by one script call a request; without Redis, or while it does not
//! answer, each process has its own at the same rate. Nothing is lost when Redis forgets: buckets are full again.

mod bucket;
#[cfg(feature = "redis")]
mod redis;
mod types;

use std::time::{Duration, Instant};

use self::bucket::{Buckets, MINUTE, Taken};
#[cfg(feature = "redis")]
pub use self::redis::RedisUrl;
pub use self::types::{Category, Charged, RateLimits};
use crate::{Code, Error, Result};

/// Charges requests to their buckets.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limits: RateLimits,
    local: Buckets,
    #[cfg(feature = "redis")]
    shared: Option<redis::Shared>,
}

impl RateLimiter {
    pub(crate) fn new(limits: RateLimits) -> Self {
        Self {
            limits,
            local: Buckets::new(),
            #[cfg(feature = "redis")]
            shared: None,
        }
    }

    /// The same with buckets that replicas share.
    #[cfg(feature = "redis")]
    pub(crate) fn shared(mut self, url: RedisUrl) -> Self {
        self.shared = Some(redis::Shared::new(url));
        self
    }

    /// Takes one from the bucket of `who` in that category, if it has a limit.
    pub(crate) async fn charge(&self, category: Category, who: &str) -> Option<Charged> {
        let limit = self.limits.of(category)?;
        let key = format!("{}:{who}", category.key());
        let taken = self.take(&key, limit).await;
        let rate = f64::from(limit) / MINUTE.as_secs_f64();
        let reset = Duration::from_secs_f64(f64::from(limit.saturating_sub(taken.left)) / rate);
        let retry_after = (!taken.ok).then_some(taken.wait);
        Some(Charged { category, limit, remaining: taken.left, reset, retry_after })
    }

    #[cfg(feature = "redis")]
    async fn take(&self, key: &str, limit: u32) -> Taken {
        if let Some(shared) = &self.shared
            && let Some(taken) = shared.take(key, limit).await
        {
            return taken;
        }
        self.local.take(key, limit, Instant::now())
    }

    #[cfg(not(feature = "redis"))]
    async fn take(&self, key: &str, limit: u32) -> Taken {
        self.local.take(key, limit, Instant::now())
    }

    /// Whether the trail is to be told that somebody asks too often: once a minute.
    pub(crate) fn is_to_be_told(&self, category: Category, who: &str) -> bool {
        self.local.take(&format!("told:{}:{who}", category.key()), 1, Instant::now()).ok
    }

    /// Whether the buckets are shared as configured; `None` if each process has its own anyway.
    pub(crate) async fn is_shared(&self) -> Option<bool> {
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.shared {
            return Some(shared.check().await);
        }
        None
    }
}

impl Charged {
    /// The refusal of a request that was one too many.
    ///
    /// # Errors
    /// [`Code::RateLimited`] with the time to wait, in whole seconds, at least one.
    pub(crate) fn passed(&self) -> Result<()> {
        let Some(wait) = self.retry_after else { return Ok(()) };
        let wait = Duration::from_secs(wait.as_secs_f64().ceil().max(1.0) as u64);
        let message = format!("More than {} requests of {} in a minute.", self.limit, self.category.key());
        Err(Error::new(Code::RateLimited, message).with(|d| d.retry_after = Some(wait)))
    }
}
