use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_lc_rs::rand;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};
use tracing::Instrument as _;

use super::{
    Limits, Observer, Operation, Outcome,
    breaker::{Breaker, Change, Verdict},
};
use crate::{
    Cause, Context, Description, Health, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey, SignatureScheme,
    SigningKey, WrappedKey,
};

/// A provider with bounds around it. Everything it hands out (signing keys) is under the same bounds.
#[derive(Clone, Debug)]
pub struct Guarded {
    inner: Arc<dyn KeyProvider>,
    guard: Arc<Guard>,
}

/// The bounds, shared by a provider and its signing keys.
#[derive(Debug)]
struct Guard {
    provider: &'static str,
    limits: Limits,
    permits: Semaphore,
    breaker: Breaker,
    observer: Option<Arc<dyn Observer>>,
}

impl Guarded {
    /// Puts `limits` around `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn KeyProvider>, limits: Limits) -> Self {
        let provider = inner.describe().provider;
        Self { inner, guard: Arc::new(Guard::new(provider, limits, None)) }
    }

    /// The same bounds, and `observer` is told of every operation. To be called before the first one.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        let guard = Guard::new(self.guard.provider, self.guard.limits.clone(), Some(observer));
        Self { inner: self.inner, guard: Arc::new(guard) }
    }

    /// Whether the provider is at present not asked because it failed too often in a row.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.guard.breaker.refuses().is_some()
    }

    fn key(&self, inner: Arc<dyn SigningKey>) -> Arc<dyn SigningKey> {
        Arc::new(GuardedKey { inner, guard: self.guard.clone() })
    }
}

#[async_trait]
impl KeyProvider for Guarded {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        self.guard.run(Operation::Wrap, || self.inner.wrap(key, context)).await
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        self.guard.run(Operation::Unwrap, || self.inner.unwrap(wrapped, context)).await
    }

    async fn rewrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<WrappedKey, KmsError> {
        self.guard.run(Operation::Rewrap, || self.inner.rewrap(wrapped, context)).await
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.guard.run(Operation::Health, || self.inner.health()).await
    }

    async fn create_root(&self) -> Result<Description, KmsError> {
        self.guard.run(Operation::CreateRoot, || self.inner.create_root()).await
    }

    async fn rotate(&self) -> Result<Description, KmsError> {
        self.guard.run(Operation::Rotate, || self.inner.rotate()).await
    }

    async fn create_signing_key(&self, name: &str, spec: KeySpec) -> Result<Arc<dyn SigningKey>, KmsError> {
        let made = self.guard.run(Operation::CreateSigningKey, || self.inner.create_signing_key(name, spec));
        Ok(self.key(made.await?))
    }

    async fn signing_key(&self, key: &KeyRef) -> Result<Arc<dyn SigningKey>, KmsError> {
        Ok(self.key(self.guard.run(Operation::PublicKey, || self.inner.signing_key(key)).await?))
    }
}

#[derive(Debug)]
struct GuardedKey {
    inner: Arc<dyn SigningKey>,
    guard: Arc<Guard>,
}

#[async_trait]
impl SigningKey for GuardedKey {
    fn spec(&self) -> KeySpec {
        self.inner.spec()
    }

    fn public_key_der(&self) -> &[u8] {
        self.inner.public_key_der()
    }

    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        self.guard.run(Operation::Sign, || self.inner.sign(scheme, message)).await
    }
}

impl Guard {
    fn new(provider: &'static str, mut limits: Limits, observer: Option<Arc<dyn Observer>>) -> Self {
        for duration in [&mut limits.deadline, &mut limits.attempt, &mut limits.open_for] {
            *duration = (*duration).min(LONGEST);
        }
        Self {
            provider,
            permits: Semaphore::new(limits.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            breaker: Breaker::new(limits.failures, limits.open_for),
            limits,
            observer,
        }
    }

    async fn run<T, F>(&self, operation: Operation, call: impl Fn() -> F + Sync) -> Result<T, KmsError>
    where
        T: Send,
        F: Future<Output = Result<T, KmsError>> + Send,
    {
        let start = Instant::now();
        let span = tracing::debug_span!("kms", provider = self.provider, operation = operation.as_str());
        let result = self.attempts(operation, start + self.limits.deadline, call).instrument(span).await;
        if let Some(observer) = &self.observer {
            observer.finished(self.provider, operation, start.elapsed(), Outcome::of(&result));
        }
        result
    }

    async fn attempts<T, F>(
        &self,
        operation: Operation,
        deadline: Instant,
        call: impl Fn() -> F + Sync,
    ) -> Result<T, KmsError>
    where
        T: Send,
        F: Future<Output = Result<T, KmsError>> + Send,
    {
        let mut made = 1;
        loop {
            let error = match self.attempt(operation, deadline, &call).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if made >= self.limits.attempts || !may_repeat(operation, &error) {
                return Err(error);
            }
            let pause = self.pause(made).max(error.retry_after().unwrap_or_default());
            // A pause that leaves no time for another attempt helps nobody.
            if pause >= deadline.saturating_duration_since(Instant::now()) {
                return Err(error);
            }
            tracing::debug!(provider = self.provider, operation = operation.as_str(), made, "trying again");
            if let Some(observer) = &self.observer {
                observer.retried(self.provider, operation);
            }
            sleep(pause).await;
            made += 1;
        }
    }

    async fn attempt<T, F>(
        &self,
        operation: Operation,
        deadline: Instant,
        call: &(impl Fn() -> F + Sync),
    ) -> Result<T, KmsError>
    where
        T: Send,
        F: Future<Output = Result<T, KmsError>> + Send,
    {
        // Asked before as well as after the wait for a turn: an open circuit answers at once.
        if let Some(wait) = self.breaker.refuses() {
            return Err(self.open(wait));
        }
        // Whoever gets a turn is to have time to use it.
        let turn_by = deadline - self.limits.attempt.min(self.limits.deadline / 2);
        let Ok(Ok(_permit)) = timeout_at(turn_by, self.permits.acquire()).await else {
            let message = format!("{} calls are under way", self.limits.concurrency);
            return Err(KmsError::unavailable(self.provider, Cause::Overloaded, message, None, None));
        };
        let ticket = self.breaker.admit().map_err(|wait| self.open(wait))?;
        let until = if operation.repeatable() {
            deadline.min(Instant::now() + self.limits.attempt)
        } else {
            deadline
        };
        let result = timeout_at(until, call()).await.unwrap_or_else(|_| {
            let message = format!("{} did not end in time", operation.as_str());
            Err(KmsError::unavailable(self.provider, Cause::Deadline, message, None, None))
        });
        if let Some(change) = ticket.settle(verdict(&result)) {
            self.changed(change);
        }
        result
    }

    /// Between half and all of what is due after `made` attempts.
    fn pause(&self, made: u32) -> Duration {
        let full = self.limits.backoff.saturating_mul(1 << (made - 1).min(16)).min(self.limits.backoff_max);
        let mut byte = [0];
        // Without randomness the pause is merely not jittered.
        let _ = rand::fill(&mut byte);
        full / 2 + full.mul_f64(f64::from(byte[0]) / 510.0)
    }

    fn open(&self, wait: Duration) -> KmsError {
        let message = "it failed several times in a row";
        KmsError::unavailable(self.provider, Cause::CircuitOpen, message, Some(wait), None)
    }

    fn changed(&self, change: Change) {
        let open = change == Change::Opened;
        tracing::warn!(provider = self.provider, open, "the circuit to the key provider changed");
        if let Some(observer) = &self.observer {
            observer.circuit(self.provider, open);
        }
    }
}

/// No instant that is reckoned with lies further ahead.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether the same call may be made again now.
fn may_repeat(operation: Operation, error: &KmsError) -> bool {
    let transient = error.is_transient()
        && !matches!(error.cause(), Some(Cause::Tls | Cause::CircuitOpen | Cause::Overloaded));
    transient && operation.repeatable()
}

fn verdict<T>(result: &Result<T, KmsError>) -> Verdict {
    match result {
        // Whoever throttles is there; it is no sign of health either.
        Err(error) if error.cause() == Some(Cause::Throttled) => Verdict::Unknown,
        Err(KmsError::Unavailable { .. } | KmsError::Device { .. }) => Verdict::Failed,
        _ => Verdict::Alive,
    }
}
