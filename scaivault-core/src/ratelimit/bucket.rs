use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use moka::{policy::EvictionPolicy, sync::Cache};

/// What one charge found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Whether there was a token.
    pub(super) ok: bool,
    /// Whole tokens that are left.
    pub(super) left: u32,
    /// How long until there is one again; nothing if there is.
    pub(super) wait: Duration,
}

/// Token buckets in this process. A bucket holds what may be done in a minute and is filled at that rate; one that was
/// not used for a minute is full, so it need not be kept.
#[derive(Debug)]
pub(super) struct Buckets(Cache<String, Arc<Mutex<Bucket>>>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Buckets {
    pub(super) fn new() -> Self {
        let cache = Cache::builder().max_capacity(BUCKETS).time_to_idle(MINUTE * 2);
        // Never that of somebody new because others come more often: he would have a full one each time.
        Self(cache.eviction_policy(EvictionPolicy::lru()).build())
    }

    /// Takes a token from the bucket `key` of `limit` tokens.
    pub(super) fn take(&self, key: &str, limit: u32, now: Instant) -> Taken {
        let full = || Arc::new(Mutex::new(Bucket { tokens: f64::from(limit), at: now }));
        let bucket = self.0.get_with_by_ref(key, full);
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (capacity, rate) = (f64::from(limit), f64::from(limit) / MINUTE.as_secs_f64());
        let since = now.saturating_duration_since(bucket.at);
        bucket.tokens = (bucket.tokens + since.as_secs_f64() * rate).min(capacity);
        bucket.at = bucket.at.max(now);
        let ok = bucket.tokens >= 1.0;
        if ok {
            bucket.tokens -= 1.0;
        }
        let missing = (1.0 - bucket.tokens).max(0.0);
        // Never nothing, however little is missing.
        let wait = match ok {
            true => Duration::ZERO,
            false => Duration::from_secs_f64(missing / rate).max(Duration::from_micros(1)),
        };
        // At least zero and at most `limit`.
        Taken { ok, left: bucket.tokens.floor() as u32, wait }
    }
}

/// Buckets that are kept at once.
const BUCKETS: u64 = 200_000;
pub(super) const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bucket_is_full_at_first_and_filled_at_its_rate() {
        let (buckets, start) = (Buckets::new(), Instant::now());
        let take = |after: u64| buckets.take("a", 60, start + Duration::from_millis(after));
        for left in (0..60).rev() {
            assert_eq!(take(0), Taken { ok: true, left, wait: Duration::ZERO });
        }
        assert_eq!(take(0), Taken { ok: false, left: 0, wait: Duration::from_secs(1) });
        assert_eq!(take(250), Taken { ok: false, left: 0, wait: Duration::from_millis(750) });
        assert!(take(1000).ok && !take(1000).ok);
        // A minute fills it, and no more than that.
        assert_eq!(take(3_600_000).left, 59);
        assert!(buckets.take("b", 1, start).ok && !buckets.take("b", 1, start).ok);
    }

    proptest! {
        #[test]
        fn no_more_pass_than_the_burst_and_the_rate_allow(
            limit in 1_u32..500,
            steps in proptest::collection::vec(0_u64..2000, 1..400),
        ) {
            let (buckets, start) = (Buckets::new(), Instant::now());
            let (mut at, mut passed) = (0, 0_u32);
            for step in steps {
                at += step;
                let taken = buckets.take("a", limit, start + Duration::from_millis(at));
                passed += u32::from(taken.ok);
                prop_assert!(taken.left <= limit);
                let allowed = f64::from(limit) * (1.0 + at as f64 / 60_000.0);
                prop_assert!(f64::from(passed) <= allowed + 0.001);
                if !taken.ok {
                    prop_assert!(taken.wait > Duration::ZERO);
                    // Whoever waits as told gets one.
                    let later = start + Duration::from_millis(at) + taken.wait + Duration::from_micros(1);
                    prop_assert!(buckets.take("a", limit, later).ok);
                    passed += 1;
                    at += taken.wait.as_millis() as u64 + 1;
                }
            }
        }
    }
}
