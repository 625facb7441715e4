//! A streaming replica for reads that may lag behind. It is never needed: whatever goes wrong with it, the server
//! itself is asked instead.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::OnceCell;

use super::{
    As, Row,
    pool::{Pool, is_lost},
    query::Query,
};
use crate::{Error, Result};

/// How long the replica may take to give a connection.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it is left alone after it did not.
const LEFT_ALONE: Duration = Duration::from_secs(5);

pub(crate) struct Replica {
    options: PgConnectOptions,
    size: u32,
    /// Whether the fence holds the role of the server's URL: then it has to hold that of this one.
    fenced: bool,
    pool: OnceCell<Arc<Pool>>,
    left_alone_until: Mutex<Option<Instant>>,
}

impl Replica {
    pub(super) fn new(options: PgConnectOptions, size: u32, fenced: bool) -> Self {
        Self { options, size, fenced, pool: OnceCell::new(), left_alone_until: Mutex::new(None) }
    }

    /// The rows, or `None` if the server has to be asked.
    pub(super) async fn all<R: Row>(&self, who: As<'_>, query: Query<'_>) -> Option<Vec<R>> {
        if self.left_alone_until().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let take = async { self.pool().await?.take(who).await };
        let mut held = match tokio::time::timeout(PATIENCE, take).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => return self.leave_alone(&error.causes()),
            Err(_) => return self.leave_alone("no connection in time"),
        };
        match held.all(query).await {
            Ok(rows) => Some(rows),
            Err(error) if is_lost(&error) => self.leave_alone(&error.to_string()),
            // What it replayed got in the way of this one statement, say.
            Err(error) => {
                tracing::debug!(error = %error, "a read failed on the replica");
                None
            }
        }
    }

    async fn pool(&self) -> Result<&Arc<Pool>> {
        let open = async {
            let pool = Pool::open(self.options.clone(), self.size).await?;
            match pool.findings().first() {
                Some(finding) if self.fenced => Err(Error::internal(finding.to_string())),
                _ => Ok(pool),
            }
        };
        self.pool.get_or_try_init(|| open).await
    }

    fn left_alone_until(&self) -> Option<Instant> {
        *self.left_alone_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave_alone<T>(&self, why: &str) -> Option<T> {
        tracing::warn!(why, "the read replica cannot be used; the database itself is asked");
        *self.left_alone_until.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + LEFT_ALONE);
        None
    }

    pub(super) async fn close(&self) {
        if let Some(pool) = self.pool.get() {
            pool.close().await;
        }
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("size", &self.size).finish_non_exhaustive()
    }
}
