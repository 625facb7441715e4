//! The database: SQLite or PostgreSQL, one schema, one SQL text.
//!
//! Statements are constants beside the rows they return, in the `store.rs` of each room. What the two
//! databases do not share is in [`dialect`]. Nobody outside the pipeline holds a [`Db`]: a verb reaches
//! it through its permit.

mod backend;
pub(crate) mod dialect;
#[cfg(feature = "postgres")]
mod fence;
mod migrate;
pub(crate) mod partitions;
#[cfg(feature = "postgres")]
mod pool;
mod query;
#[cfg(feature = "postgres")]
mod replica;
#[cfg(feature = "postgres")]
mod scram;
mod types;

use std::{path::PathBuf, time::Duration};
#[cfg(feature = "postgres")]
use std::{str::FromStr as _, sync::Arc};

#[cfg(feature = "postgres")]
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{
    Connection as _, FromRow, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

pub use self::migrate::SchemaState;
#[cfg(feature = "postgres")]
pub use self::scram::RolePasswords;
pub(crate) use self::{
    backend::NulInText,
    query::{Query, QueryBuilder, prefix_end, query},
    types::{Arg, Ts, has_nul, json},
};
#[cfg(feature = "postgres")]
use self::{
    pool::{Held, Pool, is_worth_repeating},
    replica::Replica,
};
#[cfg(feature = "postgres")]
use crate::{Code, Error, limits};
use crate::{Result, TenantId};

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
        replica: Option<Box<PgConnectOptions>>,
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
        Ok(Self(Kind::Postgres { options: postgres_options(url)?, pool_size, replica: None }))
    }

    /// The same with a streaming replica, by its URL, for reads that may lag behind: lists and the audit trail.
    /// While it does not answer, the server itself is asked.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if the URL cannot be read, or if this is not PostgreSQL.
    #[cfg(feature = "postgres")]
    pub fn with_read_replica(mut self, url: &str) -> Result<Self> {
        match &mut self.0 {
            Kind::Postgres { replica, .. } => *replica = Some(postgres_options(url)?),
            _ => return Err(Error::new(Code::InvalidRequest, "only PostgreSQL has read replicas")),
        }
        Ok(self)
    }
}

#[cfg(feature = "postgres")]
fn postgres_options(url: &str) -> Result<Box<PgConnectOptions>> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| Error::new(Code::InvalidRequest, "the PostgreSQL URL cannot be read"))?;
    let milliseconds = |time: Duration| time.as_millis().to_string();
    Ok(Box::new(options.application_name("scaivault").options([
        ("statement_timeout", milliseconds(limits::STATEMENT_TIME)),
        ("lock_timeout", milliseconds(limits::LOCK_TIME)),
    ])))
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
    Pg {
        pool: Arc<Pool>,
        replica: Option<Arc<Replica>>,
    },
}

/// As whom the database is asked. PostgreSQL shows and takes only what is theirs; on SQLite the statements
/// alone keep tenants apart.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "SQLite does not look at it"))]
pub(crate) enum As<'a> {
    /// Nobody: sees no row of any tenant.
    Nobody,
    /// A tenant, and what of its partner it may see.
    Tenant(&'a TenantId),
    /// Background work that looks for what is due over all tenants.
    Jobs,
    /// The writer of audit records and events, whose groups are of several tenants.
    Recorder,
    /// Who looks after the keys of all partners and tenants.
    Keys,
    /// Anybody who asks for a revocation list or a certificate's state: knows a CA, not a tenant.
    Public,
    /// Who keeps the directory of partners, tenants and people.
    Directory,
}

/// The database, for somebody. From [`Db::on`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct On<'a> {
    db: &'a Db,
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "SQLite does not look at it"))]
    who: As<'a>,
}

/// A transaction; rolled back unless it is committed.
#[derive(Debug)]
pub(crate) enum Tx {
    Lite(Transaction<'static, Sqlite>),
    #[cfg(feature = "postgres")]
    Pg {
        held: Held,
        /// Whether a statement failed: PostgreSQL would take a COMMIT for a ROLLBACK, and say that it is done.
        failed: bool,
    },
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
            Kind::Postgres { options, pool_size, replica } => {
                let pool = Pool::open(options.as_ref().clone(), *pool_size).await?;
                let replica = replica.as_ref().map(|options| {
                    Arc::new(Replica::new(options.as_ref().clone(), *pool_size, pool.findings().is_empty()))
                });
                Ok(Self::Pg { pool, replica })
            }
        }
    }

    /// Connections, and those of them that are free.
    pub(crate) fn connections(&self) -> (usize, usize) {
        match self {
            Self::Lite { read, .. } => (read.size() as usize, read.num_idle()),
            #[cfg(feature = "postgres")]
            Self::Pg { pool, .. } => pool.connections(),
        }
    }

    /// Round trips to the database so far, and how many of them only changed as whom a connection looks at rows. SQLite
    /// makes none.
    pub(crate) fn round_trips(&self) -> (u64, u64) {
        match self {
            Self::Lite { .. } => (0, 0),
            #[cfg(feature = "postgres")]
            Self::Pg { pool, .. } => pool.round_trips(),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Lite { write, read } => {
                read.close().await;
                write.close().await;
            }
            #[cfg(feature = "postgres")]
            Self::Pg { pool, replica } => {
                if let Some(replica) = replica {
                    replica.close().await;
                }
                pool.close().await;
            }
        }
    }

    /// Whether tables are partitioned by month.
    pub(crate) fn has_partitions(&self) -> bool {
        !matches!(self, Self::Lite { .. })
    }

    /// The way in for somebody.
    pub(crate) fn on<'a>(&'a self, who: As<'a>) -> On<'a> {
        On { db: self, who }
    }

    /// What of the fence between tenants is missing: nothing on SQLite, which has none.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if the role of the URL could get past it; [`Code::InvalidState`] if a table
    /// stands outside.
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "SQLite has no fence"))]
    pub(crate) async fn check_fence(&self, tables: bool) -> Result<()> {
        match self {
            Self::Lite { .. } => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Pg { pool, .. } => {
                let findings: Vec<String> = pool.findings().iter().map(ToString::to_string).collect();
                if !findings.is_empty() {
                    let message = format!(
                        "the role of the database URL could read the rows of any tenant: {}",
                        findings.join("; ")
                    );
                    return Err(Error::new(Code::InvalidRequest, message));
                }
                if tables {
                    let mut connection = pool.connect_apart().await?;
                    let open = fence::unfenced_tables(&mut connection).await?;
                    fence::done(connection).await;
                    if !open.is_empty() {
                        let message = format!(
                            "row-level security is not forced on {}: run `migrate` as the owner",
                            open.join(", ")
                        );
                        return Err(Error::new(Code::InvalidState, message));
                    }
                }
                Ok(())
            }
        }
    }
}

impl On<'_> {
    pub(crate) async fn fetch_optional<R: Row>(&self, query: Query<'_>) -> Result<Option<R>> {
        match self.db {
            Db::Lite { read, .. } => Ok(backend::optional(read, query).await?),
            #[cfg(feature = "postgres")]
            Db::Pg { pool, .. } => {
                let first = pool.take(self.who).await?.optional(query.clone()).await;
                match first {
                    Err(error) if is_worth_repeating(&error) => {
                        Ok(pool.take_new(self.who).await?.optional(query).await?)
                    }
                    done => Ok(done?),
                }
            }
        }
    }

    pub(crate) async fn fetch_all<R: Row>(&self, query: Query<'_>) -> Result<Vec<R>> {
        match self.db {
            Db::Lite { read, .. } => Ok(backend::all(read, query).await?),
            #[cfg(feature = "postgres")]
            Db::Pg { pool, .. } => {
                let first = pool.take(self.who).await?.all(query.clone()).await;
                match first {
                    Err(error) if is_worth_repeating(&error) => {
                        Ok(pool.take_new(self.who).await?.all(query).await?)
                    }
                    done => Ok(done?),
                }
            }
        }
    }

    /// The same from a replica, if there is one: for what may lag behind, never for what was just written.
    pub(crate) async fn fetch_all_lagging<R: Row>(&self, query: Query<'_>) -> Result<Vec<R>> {
        #[cfg(feature = "postgres")]
        if let Db::Pg { replica: Some(replica), .. } = self.db
            && let Some(rows) = replica.all(self.who, query.clone()).await
        {
            return Ok(rows);
        }
        self.fetch_all(query).await
    }

    /// Starts a transaction that writes. On SQLite writers queue here, so that none fails half-way.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        match self.db {
            Db::Lite { write, .. } => Ok(Tx::Lite(write.begin_with("BEGIN IMMEDIATE").await?)),
            #[cfg(feature = "postgres")]
            Db::Pg { pool, .. } => {
                let mut held = pool.take(self.who).await?;
                if let Err(error) = held.begin().await {
                    if !is_worth_repeating(&error) {
                        return Err(error.into());
                    }
                    // Nothing has begun yet.
                    held = pool.take_new(self.who).await?;
                    held.begin().await?;
                }
                Ok(Tx::Pg { held, failed: false })
            }
        }
    }

    /// Runs one writing statement in a transaction of its own; gives the number of rows it touched.
    pub(crate) async fn execute(&self, query: Query<'_>) -> Result<u64> {
        Ok(match self.db {
            Db::Lite { write, .. } => backend::execute(write, query).await?,
            #[cfg(feature = "postgres")]
            Db::Pg { pool, .. } => pool.take(self.who).await?.execute(query).await?,
        })
    }
}

impl Tx {
    pub(crate) async fn fetch_optional<R: Row>(&mut self, query: Query<'_>) -> Result<Option<R>> {
        Ok(match self {
            Self::Lite(tx) => backend::optional(&mut **tx, query).await?,
            #[cfg(feature = "postgres")]
            Self::Pg { held, failed } => {
                let result = held.optional(query).await;
                *failed |= result.is_err();
                result?
            }
        })
    }

    pub(crate) async fn fetch_all<R: Row>(&mut self, query: Query<'_>) -> Result<Vec<R>> {
        Ok(match self {
            Self::Lite(tx) => backend::all(&mut **tx, query).await?,
            #[cfg(feature = "postgres")]
            Self::Pg { held, failed } => {
                let result = held.all(query).await;
                *failed |= result.is_err();
                result?
            }
        })
    }

    /// Runs one statement; gives the number of rows it touched.
    pub(crate) async fn execute(&mut self, query: Query<'_>) -> Result<u64> {
        Ok(match self {
            Self::Lite(tx) => backend::execute(&mut **tx, query).await?,
            #[cfg(feature = "postgres")]
            Self::Pg { held, failed } => {
                let result = held.execute(query).await;
                *failed |= result.is_err();
                result?
            }
        })
    }

    /// ` FOR UPDATE` where rows that are read must be locked against other writers.
    pub(crate) fn lock_rows(&self) -> &'static str {
        match self {
            Self::Lite(_) => dialect::LITE_LOCK_ROWS,
            #[cfg(feature = "postgres")]
            Self::Pg { .. } => dialect::PG_LOCK_ROWS,
        }
    }

    /// Where rows that are read as `v` are to be taken, leaving out those that somebody else is changing.
    pub(crate) fn take_rows(&self) -> &'static str {
        match self {
            Self::Lite(_) => dialect::LITE_TAKE_ROWS,
            #[cfg(feature = "postgres")]
            Self::Pg { .. } => dialect::PG_TAKE_ROWS,
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
            Self::Pg { failed: true, .. } => {
                return Err(Error::internal("a transaction went on after one of its statements had failed"));
            }
            #[cfg(feature = "postgres")]
            Self::Pg { mut held, .. } => held.commit().await?,
        }
        Ok(())
    }
}

/// How long a caller waits for a connection before he is told to come back.
const ACQUIRE: Duration = Duration::from_secs(5);
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
        .test_before_acquire(false)
        // When the disk is full, SQLite ends a transaction by itself; the driver then takes it for open, for ever.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
    Ok(pool.connect_with(options).await?)
}

#[cfg(test)]
mod tests;
