use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, advance, sleep};

use super::*;
use crate::{
    Cause, Context, Description, Health, KeyProvider, KeySpec, KmsError, SecretKey, SigningKey, WrappedKey,
    conformance,
    local::{KeyFile, LocalProvider},
};

/// What the scripted provider does with its next call; when the script is over, it works.
#[derive(Clone, Copy, Debug)]
enum Next {
    Work,
    WorkAfter(u64),
    Hang,
    Fail(Cause),
    FailFor(Cause, u64),
    Deny,
}

#[derive(Debug)]
struct Scripted {
    inner: LocalProvider,
    script: Mutex<VecDeque<Next>>,
    calls: AtomicUsize,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Next>) -> Arc<Self> {
        Arc::new(Self {
            inner: LocalProvider::new(KeyFile::generate().unwrap()),
            script: Mutex::new(script.into_iter().collect()),
            calls: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn turn(&self) -> Result<(), KmsError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        let next = self.script.lock().unwrap().pop_front().unwrap_or(Next::Work);
        let result = match next {
            Next::Work => Ok(()),
            Next::WorkAfter(ms) => {
                sleep(Duration::from_millis(ms)).await;
                Ok(())
            }
            Next::Hang => std::future::pending().await,
            Next::Fail(cause) => Err(KmsError::unavailable("scripted", cause, "", None, None)),
            Next::FailFor(cause, ms) => {
                let after = Some(Duration::from_millis(ms));
                Err(KmsError::unavailable("scripted", cause, "", after, None))
            }
            Next::Deny => Err(KmsError::Denied { provider: "scripted", message: String::new() }),
        };
        self.inside.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

#[async_trait]
impl KeyProvider for Scripted {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        self.turn().await?;
        self.inner.wrap(key, context).await
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        self.turn().await?;
        self.inner.unwrap(wrapped, context).await
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.turn().await?;
        self.inner.health().await
    }

    async fn rotate(&self) -> Result<Description, KmsError> {
        self.turn().await?;
        Ok(self.describe())
    }

    async fn create_root(&self) -> Result<Description, KmsError> {
        self.turn().await?;
        Ok(self.describe())
    }

    async fn create_signing_key(&self, name: &str, _: KeySpec) -> Result<Arc<dyn SigningKey>, KmsError> {
        self.turn().await?;
        Err(self.unsupported(name))
    }
}

fn guarded(inner: &Arc<Scripted>, limits: Limits) -> (Guarded, Arc<Latencies>) {
    let latencies = Arc::new(Latencies::new());
    (Guarded::new(inner.clone(), limits).observed_by(latencies.clone()), latencies)
}

#[tokio::test]
async fn keeps_every_promise_of_what_is_inside() {
    let inside = || Arc::new(LocalProvider::new(KeyFile::generate().unwrap()));
    let (one, other) = (Guarded::new(inside(), Limits::default()), Guarded::new(inside(), Limits::default()));
    conformance::all(&one, &other).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hang_ends_at_the_deadline_and_a_late_answer_before_it_counts() {
    let inner = Scripted::new([Next::Hang, Next::Hang, Next::Hang]);
    let (provider, latencies) = guarded(&inner, Limits::default());
    let start = Instant::now();
    let error = provider.health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Deadline), "{error}");
    assert!(start.elapsed() <= Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(inner.calls(), 3);

    let inner = Scripted::new([Next::WorkAfter(2900)]);
    guarded(&inner, Limits::default()).0.health().await.unwrap();

    let told = latencies.snapshot();
    assert_eq!((told.len(), told[0].operation, told[0].unavailable), (1, Operation::Health, 1));
    assert_eq!(told[0].buckets[BUCKETS.len()], 1, "slower than every bound");
}

#[tokio::test(start_paused = true)]
async fn what_is_safe_is_tried_again_and_nothing_else() {
    let fail = [Next::Fail(Cause::Unreachable), Next::Fail(Cause::Throttled)];
    let inner = Scripted::new(fail);
    let (provider, latencies) = guarded(&inner, Limits::default());
    provider.wrap(&SecretKey::generate().unwrap(), &Context::new()).await.unwrap();
    assert_eq!((inner.calls(), latencies.retries()), (3, 2));

    for (next, cause) in [(Next::Fail(Cause::Tls), Some(Cause::Tls)), (Next::Deny, None)] {
        let inner = Scripted::new([next]);
        let error = guarded(&inner, Limits::default()).0.health().await.unwrap_err();
        assert_eq!((inner.calls(), error.cause()), (1, cause));
    }

    let inner = Scripted::new(fail);
    assert!(guarded(&inner, Limits::default()).0.create_root().await.is_err());
    assert_eq!(inner.calls(), 1, "the root key made once");
    let inner = Scripted::new(fail);
    assert!(guarded(&inner, Limits::default()).0.rotate().await.is_err());
    assert_eq!(inner.calls(), 1, "rotated once");
    let inner = Scripted::new(fail);
    assert!(guarded(&inner, Limits::default()).0.create_signing_key("k", KeySpec::EcP256).await.is_err());
    assert_eq!(inner.calls(), 1, "created once");
}

#[tokio::test(start_paused = true)]
async fn the_service_says_when_to_come_back_unless_that_is_past_the_deadline() {
    let inner = Scripted::new([Next::FailFor(Cause::Throttled, 4000)]);
    let start = Instant::now();
    guarded(&inner, Limits::default()).0.health().await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(4));

    let inner = Scripted::new([Next::FailFor(Cause::Throttled, 60_000)]);
    let start = Instant::now();
    let error = guarded(&inner, Limits::default()).0.health().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(start.elapsed(), Duration::ZERO, "at once: there is nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn no_duration_is_too_long() {
    let inner = Scripted::new([Next::FailFor(Cause::Service, u64::MAX)]);
    let longest = Duration::MAX;
    let limits = Limits {
        deadline: longest,
        attempt: longest,
        attempts: u32::MAX,
        backoff: longest,
        backoff_max: longest,
        concurrency: usize::MAX,
        failures: 1,
        open_for: longest,
    };
    let (provider, _) = guarded(&inner, limits);
    assert_eq!(provider.health().await.unwrap_err().cause(), Some(Cause::Service));
    assert_eq!(provider.health().await.unwrap_err().cause(), Some(Cause::CircuitOpen));
    let least = Duration::ZERO;
    let limits = Limits {
        deadline: least,
        attempt: least,
        attempts: 0,
        backoff: least,
        backoff_max: least,
        concurrency: 0,
        failures: 0,
        open_for: least,
    };
    let inner = Scripted::new([]);
    let _ = guarded(&inner, limits).0.health().await;
}

#[tokio::test(start_paused = true)]
async fn pauses_are_jittered_and_bounded() {
    let mut seen = std::collections::HashSet::new();
    for _ in 0..32 {
        let inner = Scripted::new([Next::Fail(Cause::Service), Next::Fail(Cause::Service)]);
        let start = Instant::now();
        guarded(&inner, Limits::default()).0.health().await.unwrap();
        let took = start.elapsed();
        assert!((Duration::from_millis(75)..=Duration::from_millis(152)).contains(&took), "{took:?}");
        seen.insert(took.as_millis());
    }
    assert!(seen.len() > 4, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_at_a_time_than_allowed_and_the_rest_wait_or_give_up() {
    let inner = Scripted::new([Next::WorkAfter(1000); 12]);
    let limits = Limits { concurrency: 4, ..Limits::default() };
    let (provider, _) = guarded(&inner, limits.clone());
    let calls = (0..12).map(|_| {
        let provider = provider.clone();
        tokio::spawn(async move { provider.health().await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert_eq!(inner.most.load(Ordering::SeqCst), 4);

    let inner = Scripted::new([Next::WorkAfter(60_000)]);
    let limits = Limits { concurrency: 1, attempts: 1, attempt: Duration::from_secs(60), ..limits };
    let (provider, _) = guarded(&inner, limits);
    let first = tokio::spawn({
        let provider = provider.clone();
        async move { provider.health().await.unwrap_err().cause() }
    });
    sleep(Duration::from_secs(1)).await;
    let second = tokio::time::timeout(Duration::from_secs(1), provider.health()).await;
    assert!(second.is_err(), "it waits for its turn");
    assert_eq!(first.await.unwrap(), Some(Cause::Deadline));
}

#[tokio::test(start_paused = true)]
async fn whoever_gets_no_turn_in_time_is_told_so() {
    let inner = Scripted::new([Next::WorkAfter(9000)]);
    let limits = Limits { concurrency: 1, ..Limits::default() };
    let (provider, _) = guarded(&inner, limits);
    let first = tokio::spawn({
        let provider = provider.clone();
        async move { provider.rotate().await }
    });
    sleep(Duration::from_millis(1)).await;
    let start = Instant::now();
    let second = provider.health().await.unwrap_err();
    assert_eq!(second.cause(), Some(Cause::Overloaded));
    assert!(start.elapsed() <= Duration::from_millis(7001), "with time left for an attempt");
    first.await.unwrap().unwrap();
    assert_eq!(inner.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_circuit_opens_answers_at_once_and_closes_by_one_probe() {
    let limits = Limits { attempts: 1, ..Limits::default() };
    let inner = Scripted::new([[Next::Fail(Cause::Unreachable); 5].as_slice(), &[Next::Hang]].concat());
    let (provider, latencies) = guarded(&inner, limits);
    for _ in 0..5 {
        assert_eq!(provider.health().await.unwrap_err().cause(), Some(Cause::Unreachable));
    }
    assert!(provider.is_open());
    assert_eq!(latencies.opened(), 1);

    let start = Instant::now();
    let error = provider.health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::CircuitOpen));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    assert_eq!((start.elapsed(), inner.calls()), (Duration::ZERO, 5), "not asked");

    // One probe at a time, and while it hangs the others are refused.
    advance(Duration::from_secs(2)).await;
    let probe = tokio::spawn({
        let provider = provider.clone();
        async move { provider.health().await }
    });
    sleep(Duration::from_millis(1)).await;
    assert_eq!(provider.health().await.unwrap_err().cause(), Some(Cause::CircuitOpen));
    assert_eq!(inner.calls(), 6);
    assert_eq!(probe.await.unwrap().unwrap_err().cause(), Some(Cause::Deadline));
    assert!(provider.is_open(), "a failed probe keeps it open");

    advance(Duration::from_secs(2)).await;
    provider.health().await.unwrap();
    assert!(!provider.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_goes_away_does_not_keep_the_circuit_open() {
    let limits = Limits { attempts: 1, failures: 1, ..Limits::default() };
    let inner = Scripted::new([Next::Fail(Cause::Service), Next::Hang]);
    let (provider, _) = guarded(&inner, limits);
    assert!(provider.health().await.is_err());
    advance(Duration::from_secs(2)).await;
    assert!(tokio::time::timeout(Duration::from_millis(1), provider.health()).await.is_err());
    provider.health().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refusals_and_throttling_do_not_open_the_circuit() {
    let limits = Limits { attempts: 1, failures: 2, ..Limits::default() };
    let script = [[Next::Deny; 5].as_slice(), &[Next::Fail(Cause::Throttled); 5]].concat();
    let inner = Scripted::new(script);
    let (provider, latencies) = guarded(&inner, limits);
    for _ in 0..10 {
        assert!(provider.health().await.is_err());
    }
    assert!(!provider.is_open());
    let told = &latencies.snapshot()[0];
    assert_eq!((told.count, told.refused, told.unavailable), (10, 5, 5));
}

#[test]
fn operations_are_numbered_as_they_are_listed() {
    for (at, operation) in Operation::ALL.iter().enumerate() {
        assert_eq!(*operation as usize, at);
    }
}
