//! Connections to PostgreSQL, each of which remembers as whom it last served.
//!
//! Row-level security looks at two settings of a connection: the tenant and the role. A connection that served
//! the same tenant or role before is preferred and used as it is; any other is told both in one round trip. One
//! whose state is not certain (its last statement was cancelled, or the connection failed) is closed, never given
//! to somebody else.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgDatabaseError, PgSeverity},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    ACQUIRE, As, backend,
    fence::{self, Finding, Sight},
    query::{Query, query},
};
use crate::{Error, Result, limits};

/// After how long without use a connection is asked whether it is still there.
const PING_AFTER_IDLE: Duration = Duration::from_secs(5);
/// How long the answer to that, or to the change of tenant, may take.
const PING_TIME: Duration = Duration::from_secs(2);
/// After how long a connection is replaced, so that a server behind a name that moved is found.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long a rollback may take before the connection is closed instead.
const ROLLBACK_TIME: Duration = Duration::from_secs(5);
/// How long closing waits for the connections that are in use.
const CLOSING_TIME: Duration = Duration::from_secs(10);
/// How long a statement may take before its connection is believed dead; the server gives up earlier.
const ANSWER_TIME: Duration = limits::STATEMENT_TIME.saturating_add(Duration::from_secs(5));

pub(crate) struct Pool {
    options: PgConnectOptions,
    size: u32,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
    closed: AtomicBool,
    round_trips: AtomicU64,
    handovers: AtomicU64,
    /// How the role of the URL could get past the fence; empty if it cannot.
    findings: Vec<Finding>,
}

struct Idle {
    connection: PgConnection,
    sight: Sight,
    born: Instant,
    since: Instant,
}

/// What a statement comes to.
type Answer<T> = std::result::Result<T, sqlx::Error>;

/// A connection in use.
pub(crate) struct Held {
    /// Taken out when it is dropped.
    connection: Option<PgConnection>,
    permit: Option<OwnedSemaphorePermit>,
    pool: Arc<Pool>,
    sight: Sight,
    born: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between statements, outside of a transaction.
    Free,
    /// Between statements of a transaction.
    InTransaction,
    /// In the middle of something, or after a failure: nobody knows what the next answer belongs to.
    Uncertain,
}

impl Pool {
    /// Connects once, and looks at what the role may do.
    pub(super) async fn open(options: PgConnectOptions, size: u32) -> Result<Arc<Self>> {
        let mut connection = within(ACQUIRE, options.connect()).await?;
        let findings = fence::findings(&mut connection).await?;
        let now = Instant::now();
        let idle = Idle { connection, sight: Sight::default(), born: now, since: now };
        Ok(Arc::new(Self {
            options,
            size,
            permits: Arc::new(Semaphore::new(size as usize)),
            waiting: AtomicUsize::new(0),
            idle: Mutex::new(vec![idle]),
            closed: AtomicBool::new(false),
            round_trips: AtomicU64::new(0),
            handovers: AtomicU64::new(0),
            findings,
        }))
    }

    /// Connections, and those of them that are free.
    pub(super) fn connections(&self) -> (usize, usize) {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).len();
        let in_use = (self.size as usize).saturating_sub(self.permits.available_permits());
        (idle + in_use, idle)
    }

    /// Round trips so far, and how many of them told a connection that it serves somebody else from then on.
    pub(super) fn round_trips(&self) -> (u64, u64) {
        (self.round_trips.load(Ordering::Relaxed), self.handovers.load(Ordering::Relaxed))
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// A connection outside of the pool, without limits on time, for migrations.
    pub(super) async fn connect_apart(&self) -> Result<PgConnection> {
        let options = self.options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        Ok(within(ACQUIRE, options.connect()).await?)
    }

    /// A connection that serves `who`.
    pub(super) async fn take(self: &Arc<Self>, who: As<'_>) -> Result<Held> {
        let sight = who.sight(self.findings.is_empty());
        let permit = self.permit().await?;
        match tokio::time::timeout(ACQUIRE, self.find(sight, permit)).await {
            Ok(found) => found,
            Err(_) => Err(busy("no connection in time")),
        }
    }

    /// The same on a new connection: for a second try after one was lost.
    pub(super) async fn take_new(self: &Arc<Self>, who: As<'_>) -> Result<Held> {
        self.forget_idle();
        self.take(who).await
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        if self.closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed.into());
        }
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = Waiting::enter(&self.waiting).ok_or_else(|| busy("too many wait for a connection"))?;
        match tokio::time::timeout(ACQUIRE, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| sqlx::Error::PoolClosed.into()),
            Err(_) => Err(busy("no connection was free in time")),
        }
    }

    async fn find(self: &Arc<Self>, sight: Sight, permit: OwnedSemaphorePermit) -> Result<Held> {
        let mut permit = Some(permit);
        while let Some(idle) = self.pop(&sight) {
            if idle.born.elapsed() > LIFETIME {
                continue;
            }
            let tired = idle.since.elapsed() > PING_AFTER_IDLE;
            let mut held = self.hold(idle.connection, idle.sight, idle.born, permit.take());
            let ready = match held.sight == sight {
                true if tired => held.ping().await,
                true => Ok(()),
                false => held.look_as(&sight).await,
            };
            match ready {
                Ok(()) => return Ok(held),
                Err(error) if is_lost(&error) => {
                    // Where one was cut, the others are as a rule: after a failover, all of them.
                    permit = held.permit.take();
                    self.forget_idle();
                }
                Err(error) => return Err(error.into()),
            }
        }
        let connection = self.options.connect().await?;
        let mut held = self.hold(connection, Sight::default(), Instant::now(), permit);
        if held.sight != sight {
            held.look_as(&sight).await?;
        }
        Ok(held)
    }

    fn hold(
        self: &Arc<Self>,
        connection: PgConnection,
        sight: Sight,
        born: Instant,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Held {
        let pool = Arc::clone(self);
        Held { connection: Some(connection), permit, pool, sight, born, state: State::Free }
    }

    /// The one used last among those that served the same, or else the one that was not used for longest.
    fn pop(&self, sight: &Sight) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.iter().rposition(|idle| idle.sight == *sight) {
            Some(at) => Some(idle.remove(at)),
            None => (!idle.is_empty()).then(|| idle.remove(0)),
        }
    }

    fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits for what is in use, then closes everything.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _ = tokio::time::timeout(CLOSING_TIME, self.permits.acquire_many(self.size)).await;
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for idle in idle {
            let _ = tokio::time::timeout(PING_TIME, idle.connection.close()).await;
        }
    }
}

impl Held {
    /// Marks the connection as uncertain until [`done`](Self::done) has seen how a statement ended.
    fn start(&mut self) -> Answer<(&mut PgConnection, State)> {
        let before = std::mem::replace(&mut self.state, State::Uncertain);
        self.pool.round_trips.fetch_add(1, Ordering::Relaxed);
        // One that failed within a transaction must not go on as if it had not.
        match (&mut self.connection, before) {
            (Some(connection), State::Free | State::InTransaction) => Ok((connection, before)),
            _ => Err(sqlx::Error::Protocol("the connection failed before".into())),
        }
    }

    fn done<T>(&mut self, then: State, result: Answer<T>) -> Answer<T> {
        let certain = match &result {
            Ok(_) | Err(sqlx::Error::Encode(_)) => true,
            Err(error) => !is_lost(error) && matches!(error, sqlx::Error::Database(_)),
        };
        if certain {
            self.state = then;
        }
        result
    }

    async fn ping(&mut self) -> Answer<()> {
        let (connection, before) = self.start()?;
        let result = within(PING_TIME, connection.ping()).await;
        self.done(before, result)
    }

    /// Changes as whom the connection looks at rows.
    async fn look_as(&mut self, sight: &Sight) -> Answer<()> {
        self.pool.handovers.fetch_add(1, Ordering::Relaxed);
        let change = query(fence::LOOK_AS).bind(&sight.tenant).bind(sight.role);
        let (connection, before) = self.start()?;
        let result = within(PING_TIME, backend::optional::<_, (String, String)>(connection, change)).await;
        let known = self.done(before, result);
        known.map(|_| self.sight = sight.clone())
    }

    pub(super) async fn optional<R: super::Row>(&mut self, query: Query<'_>) -> Answer<Option<R>> {
        let (connection, before) = self.start()?;
        let result = within(ANSWER_TIME, backend::optional(connection, query)).await;
        self.done(before, result)
    }

    pub(super) async fn all<R: super::Row>(&mut self, query: Query<'_>) -> Answer<Vec<R>> {
        let (connection, before) = self.start()?;
        let result = within(ANSWER_TIME, backend::all(connection, query)).await;
        self.done(before, result)
    }

    pub(super) async fn execute(&mut self, query: Query<'_>) -> Answer<u64> {
        let (connection, before) = self.start()?;
        let result = within(ANSWER_TIME, backend::execute(connection, query)).await;
        self.done(before, result)
    }

    /// `BEGIN`. Dropped before it has committed, the connection rolls back before anybody else gets it.
    pub(super) async fn begin(&mut self) -> Answer<()> {
        let (connection, _) = self.start()?;
        let result = within(ANSWER_TIME, connection.execute("BEGIN")).await;
        self.done(State::InTransaction, result.map(drop))
    }

    /// `COMMIT`. After an error nobody knows whether it was one.
    pub(super) async fn commit(&mut self) -> Answer<()> {
        let (connection, _) = self.start()?;
        let result = within(ANSWER_TIME, connection.execute("COMMIT")).await;
        self.done(State::Free, result.map(drop))
    }

    fn give_back(mut self) {
        self.state = State::Free;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        match self.state {
            State::Uncertain => {}
            State::Free => {
                let idle =
                    Idle { connection, sight: self.sight.clone(), born: self.born, since: Instant::now() };
                self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
            }
            State::InTransaction => {
                let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
                let (pool, permit) = (Arc::clone(&self.pool), self.permit.take());
                let (sight, born) = (self.sight.clone(), self.born);
                runtime.spawn(async move {
                    let rollback = within(ROLLBACK_TIME, connection.execute("ROLLBACK")).await;
                    if rollback.is_ok() {
                        pool.hold(connection, sight, born, permit).give_back();
                    }
                });
            }
        }
    }
}

/// Somebody who waits for a connection.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::AcqRel) < limits::DATABASE_QUEUE).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether a read that failed so may succeed on another connection, or when it is repeated.
pub(super) fn is_worth_repeating(error: &sqlx::Error) -> bool {
    let timed_out = matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut);
    let lost_to_another = matches!(error, sqlx::Error::Database(error)
        if matches!(error.code().as_deref(), Some("40001" | "40P01")));
    (is_lost(error) && !timed_out) || lost_to_another
}

/// Whether the connection is of no use any more.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
        _ => false,
    }
}

fn busy(why: &'static str) -> Error {
    Error::unavailable("The database is busy.", Duration::from_secs(1), why)
}

async fn within<T>(time: Duration, work: impl Future<Output = Answer<T>> + Send) -> Answer<T> {
    match tokio::time::timeout(time, work).await {
        Ok(result) => result,
        Err(_) => {
            Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database does not answer")))
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the options: they hold a password.
        f.debug_struct("Pool").field("size", &self.size).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("sight", &self.sight).field("state", &self.state).finish_non_exhaustive()
    }
}
