//! How much a tenant key has sealed. Nonces are random, so a key must not seal 2³² times: past half of that
//! the background work makes a new one, and shortly before it nothing more is sealed.
//!
//! Counted are wraps, the only thing that a tenant key seals: a data key seals once, and cursors are under
//! keys of their own. Each process takes a stock from the row *before* it uses any of it, so that a crash
//! counts too many and never too few.

use std::sync::atomic::{AtomicU64, Ordering};

use super::store;
use crate::{Code, Error, Result, limits, storage::Db};

/// What this process may still seal under one key.
#[derive(Debug, Default)]
pub(super) struct Stock {
    left: AtomicU64,
    filling: tokio::sync::Mutex<()>,
}

impl Stock {
    /// Takes one wrap out.
    pub(super) fn spend(&self) -> Result<()> {
        let spent = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        spent.map(drop).map_err(|_| used_up())
    }

    /// Sees to it that there is enough for whoever is under way; of many, one asks the database. `false` if the
    /// key may seal no more, or is not there.
    pub(super) async fn fill(&self, db: &Db, key_id: &str) -> Result<bool> {
        if self.is_enough() {
            return Ok(true);
        }
        let _one = self.filling.lock().await;
        if self.is_enough() {
            return Ok(true);
        }
        if db.execute(store::reserve_wraps(key_id, limits::WRAPS_STEP, limits::WRAPS_MAX)).await? == 0 {
            return Ok(false);
        }
        self.left.fetch_add(limits::WRAPS_STEP.unsigned_abs(), Ordering::AcqRel);
        Ok(true)
    }

    fn is_enough(&self) -> bool {
        self.left.load(Ordering::Acquire) >= limits::WRAPS_STEP.unsigned_abs() / 2
    }
}

pub(super) fn used_up() -> Error {
    let message = "The tenant's key has sealed as often as it may and has to be replaced first.";
    Error::new(Code::ServiceUnavailable, message)
        .with(|d| d.retry_after = Some(std::time::Duration::from_secs(30)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_k3_an_empty_stock_seals_nothing() {
        let stock = Stock::default();
        assert_eq!(stock.spend().unwrap_err().code(), Code::ServiceUnavailable);
        stock.left.store(2, Ordering::Release);
        assert!(stock.spend().is_ok() && stock.spend().is_ok() && stock.spend().is_err());
        assert!(stock.spend().is_err(), "it does not wrap around");
    }
}
