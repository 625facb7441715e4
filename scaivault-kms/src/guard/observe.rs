use std::{
    fmt::Debug,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::KmsError;

/// What is asked of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`KeyProvider::wrap`](crate::KeyProvider::wrap).
    Wrap,
    /// [`KeyProvider::unwrap`](crate::KeyProvider::unwrap).
    Unwrap,
    /// [`KeyProvider::rewrap`](crate::KeyProvider::rewrap).
    Rewrap,
    /// [`KeyProvider::health`](crate::KeyProvider::health).
    Health,
    /// [`KeyProvider::create_root`](crate::KeyProvider::create_root).
    CreateRoot,
    /// [`KeyProvider::rotate`](crate::KeyProvider::rotate).
    Rotate,
    /// [`KeyProvider::create_signing_key`](crate::KeyProvider::create_signing_key).
    CreateSigningKey,
    /// [`KeyProvider::signing_key`](crate::KeyProvider::signing_key), which fetches the public key.
    PublicKey,
    /// [`SigningKey::sign`](crate::SigningKey::sign).
    Sign,
}

impl Operation {
    /// Every operation there is.
    pub const ALL: &[Self] = &[
        Self::Wrap,
        Self::Unwrap,
        Self::Rewrap,
        Self::Health,
        Self::CreateRoot,
        Self::Rotate,
        Self::CreateSigningKey,
        Self::PublicKey,
        Self::Sign,
    ];

    /// The stable name, as metrics show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wrap => "wrap",
            Self::Unwrap => "unwrap",
            Self::Rewrap => "rewrap",
            Self::Health => "health",
            Self::CreateRoot => "create_root",
            Self::Rotate => "rotate",
            Self::CreateSigningKey => "create_signing_key",
            Self::PublicKey => "public_key",
            Self::Sign => "sign",
        }
    }

    /// Whether doing it twice is as good as doing it once.
    pub(super) fn repeatable(self) -> bool {
        match self {
            Self::Wrap | Self::Unwrap | Self::Rewrap | Self::Health | Self::PublicKey => true,
            Self::CreateRoot | Self::Rotate | Self::CreateSigningKey | Self::Sign => false,
        }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// The provider answered, and refused.
    Refused,
    /// The provider did not answer, or was not asked.
    Unavailable,
}

impl Outcome {
    pub(super) fn of<T>(result: &Result<T, KmsError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(KmsError::Unavailable { .. } | KmsError::Device { .. }) => Self::Unavailable,
            Err(_) => Self::Refused,
        }
    }
}

/// Is told of every operation. Called on the path of requests: it must not block.
pub trait Observer: Debug + Send + Sync {
    /// An operation ended. `latency` covers all of it, attempts and pauses included.
    fn finished(&self, provider: &'static str, operation: Operation, latency: Duration, outcome: Outcome);

    /// An attempt failed and there will be another.
    fn retried(&self, _provider: &'static str, _operation: Operation) {}

    /// The circuit opened (`true`) or closed again.
    fn circuit(&self, _provider: &'static str, _open: bool) {}
}

/// The upper bounds of the buckets of [`Latencies`], in seconds; one more bucket has no bound.
pub const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// An [`Observer`] that counts, for a metrics endpoint to read.
#[derive(Debug, Default)]
pub struct Latencies {
    operations: [Counters; 8],
    retries: AtomicU64,
    opened: AtomicU64,
}

#[derive(Debug, Default)]
struct Counters {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    refused: AtomicU64,
    unavailable: AtomicU64,
}

/// What [`Latencies`] knows of one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// Which operation.
    pub operation: Operation,
    /// How many ended within each of [`BUCKETS`] and not within the one before; the last are slower.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// How many there were.
    pub count: u64,
    /// How long they took together, in seconds.
    pub sum: f64,
    /// How many of them the provider refused.
    pub refused: u64,
    /// How many of them the provider did not answer.
    pub unavailable: u64,
}

impl Latencies {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The operations that were asked for, in the order of [`Operation::ALL`].
    #[must_use]
    pub fn snapshot(&self) -> Vec<Latency> {
        let all = Operation::ALL.iter().zip(&self.operations);
        all.map(|(operation, counters)| counters.read(*operation)).filter(|l| l.count > 0).collect()
    }

    /// Attempts that were made again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// How often the circuit opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}

impl Counters {
    fn read(&self, operation: Operation) -> Latency {
        let buckets = std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed));
        Latency {
            operation,
            buckets,
            count: buckets.iter().sum(),
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64(),
            refused: self.refused.load(Ordering::Relaxed),
            unavailable: self.unavailable.load(Ordering::Relaxed),
        }
    }
}

impl Observer for Latencies {
    fn finished(&self, _: &'static str, operation: Operation, latency: Duration, outcome: Outcome) {
        // The discriminants number the operations from 0, as `ALL` lists them.
        let counters = &self.operations[operation as usize];
        let bucket = BUCKETS.partition_point(|bound| *bound < latency.as_secs_f64());
        counters.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        counters.micros.fetch_add(micros, Ordering::Relaxed);
        match outcome {
            Outcome::Done => 0,
            Outcome::Refused => counters.refused.fetch_add(1, Ordering::Relaxed),
            Outcome::Unavailable => counters.unavailable.fetch_add(1, Ordering::Relaxed),
        };
    }

    fn retried(&self, _: &'static str, _: Operation) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    fn circuit(&self, _: &'static str, open: bool) {
        if open {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
    }
}
