//! How much a tenant key has sealed. Nonces are random, so a key must not seal 2³² times: past half of that
//! the background work makes a new one, and shortly before it nothing more is sealed.
//!
//! Counted are wraps, the only thing that a tenant key seals: a data key seals once, and cursors are under
//! keys of their own. Each process takes a stock from the row *before* it uses any of it, so that a crash
//! counts too many and never too few.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::store;
use crate::{
    Code, Error, Result, limits,
    storage::{As, Db},
};

/// What this process may still seal under one key.
#[derive(Debug, Default)]
pub(super) struct Stock {
    left: AtomicU64,
    /// Held by whoever asks the database; with the time when that failed last.
    filling: tokio::sync::Mutex<Option<Instant>>,
}

impl Stock {
    /// Takes one wrap out.
    pub(super) fn spend(&self) -> Result<()> {
        let spent = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        spent.map(drop).map_err(|_| used_up())
    }

    /// Sees to it that there is enough for whoever is under way. Of many, one asks the database, and who waited
    /// for an answer that did not come does not ask again. `false` if the key may seal no more, or is not there.
    pub(super) async fn fill(&self, db: &Db, key_id: &str) -> Result<bool> {
        self.fill_by(async || {
            db.on(As::Keys).execute(store::reserve_wraps(key_id, limits::WRAPS_STEP, limits::WRAPS_MAX)).await
        })
        .await
    }

    async fn fill_by(&self, ask: impl AsyncFnOnce() -> Result<u64>) -> Result<bool> {
        if self.has_parts(2) {
            return Ok(true);
        }
        let came = Instant::now();
        let mut failed = match self.filling.try_lock() {
            Ok(filling) => filling,
            // There is still some left while somebody else asks.
            Err(_) if self.has_parts(1) => return Ok(true),
            Err(_) => self.filling.lock().await,
        };
        if self.has_parts(2) {
            return Ok(true);
        }
        if failed.is_some_and(|failed| failed >= came) {
            let second = Duration::from_secs(1);
            let source = "who asked for the key's count got no answer";
            return Err(Error::unavailable("The database is not available.", second, source));
        }
        match ask().await {
            Ok(0) => Ok(false),
            Ok(_) => {
                self.left.fetch_add(limits::WRAPS_STEP.unsigned_abs(), Ordering::AcqRel);
                Ok(true)
            }
            Err(error) => {
                *failed = Some(Instant::now());
                Err(error)
            }
        }
    }

    /// Whether so many quarters of a step are left.
    fn has_parts(&self, quarters: u64) -> bool {
        self.left.load(Ordering::Acquire) >= limits::WRAPS_STEP.unsigned_abs() / 4 * quarters
    }
}

pub(super) fn used_up() -> Error {
    let message = "The tenant's key has sealed as often as it may and has to be replaced first.";
    Error::new(Code::ServiceUnavailable, message).with(|d| d.retry_after = Some(Duration::from_secs(30)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_many_one_asks_also_when_there_is_no_answer() {
        let (stock, asked) = (Stock::default(), AtomicU64::new(0));
        let ask = async |answer: Result<u64>| {
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            answer
        };
        let out = || Err(Error::unavailable("out", Duration::from_secs(1), "test"));
        let (a, b, c) = tokio::join!(
            stock.fill_by(async || ask(out()).await),
            stock.fill_by(async || ask(Ok(1)).await),
            stock.fill_by(async || ask(Ok(1)).await)
        );
        assert!(a.is_err() && b.is_err() && c.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 1, "nobody waits for one timeout after another");
        let (a, b) =
            tokio::join!(stock.fill_by(async || ask(Ok(1)).await), stock.fill_by(async || ask(Ok(1)).await));
        assert!(a.unwrap() && b.unwrap());
        assert_eq!((asked.load(Ordering::SeqCst), stock.left.load(Ordering::SeqCst)), (2, 1 << 16));
        stock.left.store(1 << 14, Ordering::SeqCst);
        let (a, b) =
            tokio::join!(stock.fill_by(async || ask(Ok(0)).await), stock.fill_by(async || ask(out()).await));
        assert!(!a.unwrap() && b.unwrap(), "what is left is used while somebody asks");
    }

    #[test]
    fn sec_k3_an_empty_stock_seals_nothing() {
        let stock = Stock::default();
        assert_eq!(stock.spend().unwrap_err().code(), Code::ServiceUnavailable);
        stock.left.store(2, Ordering::Release);
        assert!(stock.spend().is_ok() && stock.spend().is_ok() && stock.spend().is_err());
        assert!(stock.spend().is_err(), "it does not wrap around");
    }
}
