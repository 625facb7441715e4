//! RSA keys that are made ahead: finding the primes takes a tenth of a second and more, which a caller need not wait for.
//!
//! Nothing is made before the first such key is asked for. From then on one thread makes the kinds that were asked for
//! lately, and rests after each key for as long as it took: half of one core at most, and only until the pool is full.
//! Keys are in memory alone, each is given once, and what nobody took is overwritten.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use scaivault_kms::{KeySpec, KmsError, Secret, SigningKey as _, local::SoftwareKey};

/// A key pair for a certificate: the public half in DER, the private one in PKCS #8.
pub(super) type KeyPair = (Vec<u8>, Secret);

/// How many requests for keys say which kinds are made.
const LATELY: usize = 16;

/// Keys that wait for whoever asks next.
pub(crate) struct KeyPool(Arc<Shared>);

/// What became of the requests for RSA keys, and how many keys wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolCounts {
    pub(crate) ready: usize,
    /// Requests that had a key which was there.
    pub(crate) taken: u64,
    /// Requests that had to wait for theirs.
    pub(crate) missed: u64,
}

struct Shared {
    capacity: usize,
    make: fn(KeySpec) -> Result<KeyPair, KmsError>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: Vec<(KeySpec, KeyPair)>,
    lately: VecDeque<KeySpec>,
    working: bool,
    stopped: bool,
    taken: u64,
    missed: u64,
}

impl KeyPool {
    /// A pool of at most `capacity` keys; of none if that is 0.
    pub(crate) fn new(capacity: usize) -> Self {
        Self::of(capacity, |spec| {
            let (key, pkcs8) = SoftwareKey::generate(spec)?;
            Ok((key.public_key_der().to_vec(), pkcs8))
        })
    }

    fn of(capacity: usize, make: fn(KeySpec) -> Result<KeyPair, KmsError>) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { capacity, make, state, changed }))
    }

    /// A key that nobody else has had or will have; `None` if there is none at hand, or keys of that kind are made at
    /// once.
    pub(super) fn take(&self, spec: KeySpec) -> Option<KeyPair> {
        if !matches!(spec, KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096) {
            return None;
        }
        let mut state = self.0.state();
        state.lately.push_back(spec);
        if state.lately.len() > LATELY {
            state.lately.pop_front();
        }
        let at = state.ready.iter().position(|(kind, _)| *kind == spec);
        let key = at.map(|at| state.ready.swap_remove(at).1);
        match key {
            Some(_) => state.taken += 1,
            None => state.missed += 1,
        }
        if !state.working && !state.stopped && state.next(self.0.capacity).is_some() {
            let shared = Arc::clone(&self.0);
            let started =
                std::thread::Builder::new().name("rsa-keys".to_owned()).spawn(move || shared.fill());
            state.working = started.is_ok();
        }
        key
    }

    pub(crate) fn counts(&self) -> PoolCounts {
        let state = self.0.state();
        PoolCounts { ready: state.ready.len(), taken: state.taken, missed: state.missed }
    }

    /// Makes no more keys, and overwrites those that wait.
    pub(crate) fn stop(&self) {
        let mut state = self.0.state();
        state.stopped = true;
        state.ready.clear();
        self.0.changed.notify_all();
    }
}

impl Drop for KeyPool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for KeyPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPool").field("capacity", &self.0.capacity).finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No invariant spans a change that could have been cut short.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes keys until there is nothing to make.
    fn fill(&self) {
        loop {
            let mut state = self.state();
            let next = if state.stopped { None } else { state.next(self.capacity) };
            let Some((spec, instead_of)) = next else {
                state.working = false;
                self.changed.notify_all();
                return;
            };
            if let Some(at) = instead_of {
                state.ready.swap_remove(at);
            }
            drop(state);
            let began = Instant::now();
            let made = (self.make)(spec);
            let took = began.elapsed();
            let mut state = self.state();
            match made {
                Ok(key) if !state.stopped => state.ready.push((spec, key)),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "no key could be made ahead");
                    state.working = false;
                    return;
                }
            }
            self.changed.notify_all();
            drop(self.changed.wait_timeout_while(state, took, |state| !state.stopped));
        }
    }
}

impl State {
    /// The kind that is lacking most, and the place of a key to give up for it if the pool is full.
    fn next(&self, capacity: usize) -> Option<(KeySpec, Option<usize>)> {
        let there = |spec| self.ready.iter().filter(|(kind, _)| *kind == spec).count();
        let due = |spec| {
            let asked = self.lately.iter().filter(|kind| **kind == spec).count();
            let share = (asked * capacity).checked_div(self.lately.len()).unwrap_or_default();
            share.max(usize::from(asked > 0 && capacity > 0))
        };
        let lacking = |spec: &KeySpec| due(*spec).saturating_sub(there(*spec));
        let spec = *self.lately.iter().filter(|spec| lacking(spec) > 0).max_by_key(|spec| lacking(spec))?;
        if self.ready.len() < capacity {
            return Some((spec, None));
        }
        let too_many = self.ready.iter().position(|(kind, _)| there(*kind) > due(*kind))?;
        Some((spec, Some(too_many)))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    /// Keys that are made at once, whatever kind they are asked for.
    fn quick(_: KeySpec) -> Result<KeyPair, KmsError> {
        let (key, pkcs8) = SoftwareKey::generate(KeySpec::EcP256)?;
        Ok((key.public_key_der().to_vec(), pkcs8))
    }

    /// Waits until nothing is left to be made.
    fn settle(pool: &KeyPool) -> PoolCounts {
        let state = pool.0.state();
        let wait = pool.0.changed.wait_timeout_while(state, Duration::from_secs(120), |state| state.working);
        let (state, waited) = wait.unwrap();
        assert!(!waited.timed_out());
        drop(state);
        pool.counts()
    }

    fn kinds(pool: &KeyPool, spec: KeySpec) -> usize {
        pool.0.state().ready.iter().filter(|(kind, _)| *kind == spec).count()
    }

    #[test]
    fn no_two_callers_get_one_key() {
        let pool = KeyPool::of(8, quick);
        assert!(pool.take(KeySpec::Rsa2048).is_none(), "nothing is made before somebody asks");
        assert_eq!(settle(&pool), PoolCounts { ready: 8, taken: 0, missed: 1 });
        let take = || {
            let taken = (0..50).filter_map(|_| pool.take(KeySpec::Rsa2048));
            taken.map(|(public, pkcs8)| (public, pkcs8.expose().to_vec())).collect::<Vec<_>>()
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
            callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
        });
        assert!(all.len() >= 8);
        let counts = settle(&pool);
        assert_eq!((counts.ready, counts.taken + counts.missed), (8, 401));
        assert_eq!(counts.taken, all.len() as u64);
        let publics: HashSet<_> = all.iter().map(|(public, _)| public).collect();
        let privates: HashSet<_> = all.iter().map(|(_, pkcs8)| pkcs8).collect();
        assert_eq!((publics.len(), privates.len()), (all.len(), all.len()));
    }

    #[test]
    fn what_is_made_follows_what_is_asked_and_never_more_than_fits() {
        let pool = KeyPool::of(4, quick);
        pool.take(KeySpec::Rsa2048);
        settle(&pool);
        assert_eq!(kinds(&pool, KeySpec::Rsa2048), 4);
        for _ in 0..LATELY {
            pool.take(KeySpec::Rsa4096);
        }
        settle(&pool);
        assert_eq!((kinds(&pool, KeySpec::Rsa4096), kinds(&pool, KeySpec::Rsa2048)), (4, 0));
        for _ in 0..LATELY / 2 {
            pool.take(KeySpec::Rsa3072);
        }
        settle(&pool);
        assert_eq!((kinds(&pool, KeySpec::Rsa4096), kinds(&pool, KeySpec::Rsa3072)), (2, 2));
    }

    #[test]
    fn other_kinds_an_empty_pool_and_a_stopped_one_have_nothing() {
        let pool = KeyPool::of(4, quick);
        assert!(pool.take(KeySpec::EcP256).is_none() && pool.take(KeySpec::MlDsa44).is_none());
        assert_eq!(settle(&pool), PoolCounts::default());
        pool.take(KeySpec::Rsa2048);
        settle(&pool);
        pool.stop();
        assert!(pool.take(KeySpec::Rsa2048).is_none());
        assert_eq!(settle(&pool), PoolCounts { ready: 0, taken: 0, missed: 2 });
        let none = KeyPool::of(0, quick);
        assert!(none.take(KeySpec::Rsa2048).is_none() && none.take(KeySpec::Rsa2048).is_none());
        assert_eq!(settle(&none), PoolCounts { ready: 0, taken: 0, missed: 2 });
    }

    #[test]
    fn one_slot_for_two_kinds_comes_to_rest() {
        let pool = KeyPool::of(1, quick);
        pool.take(KeySpec::Rsa2048);
        pool.take(KeySpec::Rsa3072);
        assert_eq!(settle(&pool).ready, 1);
        assert!(!format!("{pool:?}").contains("ready"));
    }

    #[test]
    fn real_keys_are_of_the_kind_that_was_asked_for() {
        let pool = KeyPool::new(1);
        pool.take(KeySpec::Rsa2048);
        settle(&pool);
        let (public, pkcs8) = pool.take(KeySpec::Rsa2048).unwrap();
        let key = SoftwareKey::from_pkcs8(KeySpec::Rsa2048, &pkcs8).unwrap();
        assert_eq!(key.public_key_der(), public);
    }
}
