//! The database: SQLite or PostgreSQL, one schema, one SQL text.
//!
//! Statements are constants beside the rows they return, in the `store.rs` of each room. What the two
//! databases do not share is in [`dialect`]. Nobody outside the pipeline holds a [`Db`]: a verb reaches
//! it through its permit.

mod backend;
pub(crate) mod dialect;
mod migrate;
mod query;
mod types;

#[cfg(feature = "postgres")]
use std::str::FromStr as _;
use std::{path::PathBuf, time::Duration};

use sqlx::{
    FromRow, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};
#[cfg(feature = "postgres")]
use sqlx::{
    Postgres,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow},
};

pub use self::migrate::SchemaState;
pub(crate) use self::{
    backend::NulInText,
    query::{Query, QueryBuilder, prefix_end, query},
    types::{Arg, Ts, has_nul, json},
};
use crate::Result;
#[cfg(feature = "postgres")]
use crate::{Code, Error, limits};

/// Which database a vault lives in.
#[derive(Clone)]
pub struct Database(Kind);

#[derive(Clone)]
enum Kind {
    Memory,
    File(PathBuf),
    #[cfg(feature = "postgres")]
    Postgres {
        options: Box<PgConnectOptions>,
        pool_size: u32,
    },
}

impl Database {
    /// SQLite in memory, gone with the vault.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Kind::Memory)
    }

    /// A SQLite file, created if it is not there.
    #[must_use]
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self(Kind::File(path.into()))
    }

    /// A PostgreSQL server (14 or later) by its URL, with up to `pool_size` connections.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if the URL cannot be read; the message does not repeat it.
    #[cfg(feature = "postgres")]
    pub fn postgres(url: &str, pool_size: u32) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| Error::new(Code::InvalidRequest, "the PostgreSQL URL cannot be read"))?;
        let milliseconds = |time: Duration| time.as_millis().to_string();
        let options = options.application_name("scaivault").options([
            ("statement_timeout", milliseconds(limits::STATEMENT_TIME)),
            ("lock_timeout", milliseconds(limits::LOCK_TIME)),
        ]);
        Ok(Self(Kind::Postgres { options: Box::new(options), pool_size }))
    }
}

impl Database {
    /// Whether this is a SQLite file that is yet to be made, in a folder that is there.
    pub(crate) fn is_to_be_made(&self) -> bool {
        let Kind::File(path) = &self.0 else { return false };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        !path.exists() && folder.is_none_or(std::path::Path::is_dir)
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Memory => f.write_str("Database(in memory)"),
            Kind::File(path) => write!(f, "Database({})", path.display()),
            // Never the options: they hold a password.
            #[cfg(feature = "postgres")]
            Kind::Postgres { .. } => f.write_str("Database(PostgreSQL)"),
        }
    }
}

/// A row that both databases can give.
#[cfg(feature = "postgres")]
pub(crate) trait Row:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}
#[cfg(feature = "postgres")]
impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// A row that the database can give.
#[cfg(not(feature = "postgres"))]
pub(crate) trait Row: for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}
#[cfg(not(feature = "postgres"))]
impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

/// The pools. SQLite has one connection that writes and several that read; in memory, one for both.
#[derive(Clone, Debug)]
pub(crate) enum Db {
    Lite {
        write: SqlitePool,
        read: SqlitePool,
    },
    #[cfg(feature = "postgres")]
    Pg(PgPool),
}

/// A transaction; rolled back unless it is committed.
#[derive(Debug)]
pub(crate) enum Tx {
    Lite(Transaction<'static, Sqlite>),
    #[cfg(feature = "postgres")]
    Pg(Transaction<'static, Postgres>),
}

impl Db {
    /// Opens the pools. The schema is not looked at; see [`Db::schema`].
    pub(crate) async fn open(database: &Database) -> Result<Self> {
        match &database.0 {
            Kind::Memory => {
                let pool = lite_pool(lite_options().in_memory(true), 1).await?;
                Ok(Self::Lite { write: pool.clone(), read: pool })
            }
            Kind::File(path) => {
                let options = lite_options().filename(path).create_if_missing(true);
                let options = options.journal_mode(SqliteJournalMode::Wal);
                let write = lite_pool(options.clone(), 1).await?;
                let read = lite_pool(options.read_only(true), LITE_READERS).await?;
                Ok(Self::Lite { write, read })
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres { options, pool_size } => {
                let pool = PgPoolOptions::new()
                    .max_connections(*pool_size)
                    .acquire_timeout(ACQUIRE)
                    .test_before_acquire(false)
                    // A ping a request would double the round trips of a read: only a connection that
                    // lay idle is asked whether it is still there.
                    .before_acquire(|connection, meta| {
                        Box::pin(async move {
                            use sqlx::Connection as _;
                            if meta.idle_for > PING_AFTER_IDLE {
                                connection.ping().await.map(|()| true)
                            } else {
                                Ok(true)
                            }
                        })
                    });
                Ok(Self::Pg(pool.connect_with(options.as_ref().clone()).await?))
            }
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Lite { write, read } => {
                read.close().await;
                write.close().await;
            }
            #[cfg(feature = "postgres")]
            Self::Pg(pool) => pool.close().await,
        }
    }

    pub(crate) async fn fetch_optional<R: Row>(&self, query: Query<'_>) -> Result<Option<R>> {
        Ok(match self {
            Self::Lite { read, .. } => backend::optional(read, query).await?,
            #[cfg(feature = "postgres")]
            Self::Pg(pool) => backend::optional(pool, query).await?,
        })
    }

    pub(crate) async fn fetch_all<R: Row>(&self, query: Query<'_>) -> Result<Vec<R>> {
        Ok(match self {
            Self::Lite { read, .. } => backend::all(read, query).await?,
            #[cfg(feature = "postgres")]
            Self::Pg(pool) => backend::all(pool, query).await?,
        })
    }

    /// Starts a transaction that writes. On SQLite writers queue here, so that none fails half-way.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        Ok(match self {
            Self::Lite { write, .. } => Tx::Lite(write.begin_with("BEGIN IMMEDIATE").await?),
            #[cfg(feature = "postgres")]
            Self::Pg(pool) => Tx::Pg(pool.begin().await?),
        })
    }

    /// Runs one writing statement in a transaction of its own; gives the number of rows it touched.
    pub(crate) async fn execute(&self, query: Query<'_>) -> Result<u64> {
        Ok(match self {
            Self::Lite { write, .. } => backend::execute(write, query).await?,
            #[cfg(feature = "postgres")]
            Self::Pg(pool) => backend::execute(pool, query).await?,
        })
    }
}

impl Tx {
    pub(crate) async fn fetch_optional<R: Row>(&mut self, query: Query<'_>) -> Result<Option<R>> {
        Ok(match self {
            Self::Lite(tx) => backend::optional(&mut **tx, query).await?,
            #[cfg(feature = "postgres")]
            Self::Pg(tx) => backend::optional(&mut **tx, query).await?,
        })
    }

    pub(crate) async fn fetch_all<R: Row>(&mut self, query: Query<'_>) -> Result<Vec<R>> {
        Ok(match self {
            Self::Lite(tx) => backend::all(&mut **tx, query).await?,
            #[cfg(feature = "postgres")]
            Self::Pg(tx) => backend::all(&mut **tx, query).await?,
        })
    }

    /// Runs one statement; gives the number of rows it touched.
    pub(crate) async fn execute(&mut self, query: Query<'_>) -> Result<u64> {
        Ok(match self {
            Self::Lite(tx) => backend::execute(&mut **tx, query).await?,
            #[cfg(feature = "postgres")]
            Self::Pg(tx) => backend::execute(&mut **tx, query).await?,
        })
    }

    /// ` FOR UPDATE` where rows that are read must be locked against other writers.
    pub(crate) fn lock_rows(&self) -> &'static str {
        match self {
            Self::Lite(_) => dialect::LITE_LOCK_ROWS,
            #[cfg(feature = "postgres")]
            Self::Pg(_) => dialect::PG_LOCK_ROWS,
        }
    }

    /// Whether no other transaction can write while this one lives.
    pub(crate) fn writes_alone(&self) -> bool {
        matches!(self, Self::Lite(_))
    }

    /// Makes the transaction durable.
    pub(crate) async fn commit(self) -> Result<()> {
        match self {
            Self::Lite(tx) => tx.commit().await?,
            #[cfg(feature = "postgres")]
            Self::Pg(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// How long a caller waits for a connection before he is told to come back.
const ACQUIRE: Duration = Duration::from_secs(5);
/// After how long without use a connection is asked whether it is still there.
#[cfg(feature = "postgres")]
const PING_AFTER_IDLE: Duration = Duration::from_secs(5);
/// Connections that read a SQLite file.
const LITE_READERS: u32 = 4;

fn lite_options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        // A commit is on the disk when it is acknowledged, also in WAL mode.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(ACQUIRE)
        // What is deleted is overwritten: a shredded key must not stay in a free page.
        .pragma("secure_delete", "on")
}

async fn lite_pool(options: SqliteConnectOptions, connections: u32) -> Result<SqlitePool> {
    // Never closed for age: in memory, the last connection is the database.
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false);
    Ok(pool.connect_with(options).await?)
}

#[cfg(test)]
mod tests;
