//! How often somebody may ask: a token bucket for each identity and category.
//!
//! Buckets are in Redis, so that replicas share them, by one script call a request; without Redis, or while it does not
//! answer, each process has its own at the same rate. Nothing is lost when Redis forgets: buckets are full again.

mod bucket;
#[cfg(feature = "redis")]
mod redis;
mod types;

use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use moka::sync::Cache;

use self::bucket::{Buckets, MINUTE, Taken};
#[cfg(feature = "redis")]
pub use self::redis::RedisUrl;
pub use self::types::{Category, Charged, RateLimits};
use crate::{Code, Error, Result, limits};

/// Charges requests to their buckets.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limits: RateLimits,
    /// Which vault this is, for those who share a Redis.
    vault: String,
    local: Buckets,
    /// Of those who have no identity: they may be many, and are not to push the others out.
    strangers: Buckets,
    /// Those of them who were told to wait, and until when.
    waiting: Cache<String, (Instant, Charged)>,
    #[cfg(feature = "redis")]
    shared: Option<redis::Shared>,
}

impl RateLimiter {
    pub(crate) fn new(limits: RateLimits, vault: String) -> Self {
        Self {
            limits,
            vault,
            local: Buckets::new(),
            strangers: Buckets::new(),
            waiting: Cache::builder().max_capacity(WAITING).time_to_live(MINUTE).build(),
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
    pub(crate) async fn charge(&self, category: Category, who: &[&str]) -> Option<Charged> {
        let limit = self.limits.of(category)?;
        let stranger = matches!(category, Category::AuthFailed | Category::AuthExchange);
        let taken = self.take(&self.key(category, who), limit, stranger).await;
        let rate = f64::from(limit) / MINUTE.as_secs_f64();
        let reset = Duration::from_secs_f64(f64::from(limit.saturating_sub(taken.left)) / rate);
        let retry_after = (!taken.ok).then_some(taken.wait);
        Some(Charged { category, limit, remaining: taken.left, reset, retry_after })
    }

    /// Charges somebody who has no identity for a token that was not believed.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub(crate) async fn charge_stranger(&self, from: &str) -> Result<()> {
        let Some(charged) = self.charge(Category::AuthFailed, &[from]).await else { return Ok(()) };
        if let Some(wait) = charged.retry_after {
            self.waiting.insert(from.to_owned(), (Instant::now() + wait, charged));
        }
        charged.passed()
    }

    /// Whether what he shows may be tried at somebody else's cost: not while he has been told to wait.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub(crate) fn check_stranger(&self, from: &str) -> Result<()> {
        match self.waiting.get(from) {
            Some((until, charged)) if Instant::now() < until => charged.passed(),
            _ => Ok(()),
        }
    }

    /// Nothing that a caller chose is in it as it is, and no two have one.
    fn key(&self, category: Category, who: &[&str]) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [self.vault.as_str(), category.key()].iter().chain(who) {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hex::encode(&hash.finish().as_ref()[..16])
    }

    async fn take(&self, key: &str, limit: u32, stranger: bool) -> Taken {
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.shared
            && let Some(taken) = shared.take(key, limit).await
        {
            return taken;
        }
        let local = if stranger { &self.strangers } else { &self.local };
        local.take(key, limit, Instant::now())
    }

    /// Whether the trail is to be told that somebody asks too often: once a minute.
    pub(crate) fn is_to_be_told(&self, category: Category, who: &[&str]) -> bool {
        self.local.take(&format!("told {}", self.key(category, who)), 1, Instant::now()).ok
    }

    /// Whether a key in a provider may sign once more for somebody who has no identity.
    pub(crate) fn may_sign_for_anybody(&self, ca_id: &str) -> bool {
        self.local.take(&format!("ocsp {ca_id}"), limits::OCSP_SIGNED, Instant::now()).ok
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

/// Strangers who are remembered to be waiting.
const WAITING: u64 = 10_000;

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
