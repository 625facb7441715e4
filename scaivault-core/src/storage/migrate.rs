use std::collections::BTreeSet;

use sqlx::{
    AssertSqlSafe, SqlSafeStr as _,
    migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator},
};

use super::{Db, dialect};
use crate::{Code, Error, Result};

/// The bookkeeping table, named so that an embedding program's own migrations do not collide with ours.
const TABLE: &str = "scaivault_migrations";

/// One step of the schema.
pub(super) struct Step {
    pub(super) version: i64,
    description: &'static str,
    /// For both databases, in PostgreSQL's words.
    shared: &'static str,
    /// What only PostgreSQL gets, after that; empty for most.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "there is no PostgreSQL in this build")
    )]
    postgres: &'static str,
    /// What only SQLite gets, after that; empty for most.
    sqlite: &'static str,
}

/// The text of a migration: `NNNN_name.sql`, then `NNNN_name.postgres.sql` or `NNNN_name.sqlite.sql`.
macro_rules! text {
    ($file:literal) => {
        include_str!(concat!("../../../migrations/", $file))
    };
}

/// Every migration there is, oldest first. One that was ever released is never edited.
pub(super) const MIGRATIONS: &[Step] = &[
    Step { version: 1, description: "vault", shared: text!("0001_vault.sql"), postgres: "", sqlite: "" },
    Step {
        version: 4,
        description: "audit chain",
        shared: text!("0004_audit_chain.sql"),
        postgres: text!("0004_audit_chain.postgres.sql"),
        sqlite: text!("0004_audit_chain.sqlite.sql"),
    },
];

impl Step {
    pub(super) fn for_sqlite(&self) -> String {
        dialect::lite_schema(&format!("{}\n{}", self.shared, self.sqlite))
    }

    #[cfg(feature = "postgres")]
    pub(super) fn for_postgres(&self) -> String {
        format!("{}\n{}", self.shared, self.postgres)
    }
}

/// How a database's schema compares to what this build needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// It is what this build needs.
    Current,
    /// These migrations are missing, oldest first.
    Behind(Vec<i64>),
    /// A newer build has migrated it: this one must not touch it.
    Ahead(i64),
}

impl SchemaState {
    /// What a database has in which nothing was ever made.
    pub(crate) fn empty() -> Self {
        Self::Behind(MIGRATIONS.iter().map(|m| m.version).collect())
    }
}

impl Db {
    /// Compares the schema with what this build needs; changes nothing.
    pub(crate) async fn schema(&self) -> Result<SchemaState> {
        let applied: BTreeSet<i64> = self.applied().await?.into_iter().collect();
        let known: BTreeSet<i64> = MIGRATIONS.iter().map(|m| m.version).collect();
        if let Some(newest) = applied.difference(&known).last() {
            return Ok(SchemaState::Ahead(*newest));
        }
        let missing: Vec<i64> = known.difference(&applied).copied().collect();
        Ok(if missing.is_empty() { SchemaState::Current } else { SchemaState::Behind(missing) })
    }

    /// Applies what is missing, each migration in a transaction, under the database's advisory lock where
    /// it has one.
    ///
    /// # Errors
    /// [`Code::InvalidState`] if the schema is ahead of this build or was changed by hand.
    pub(crate) async fn migrate(&self) -> Result<()> {
        match self {
            Self::Lite { write, .. } => run(&migrator(Step::for_sqlite), write).await,
            #[cfg(feature = "postgres")]
            Self::Pg(pool) => run(&migrator(Step::for_postgres), pool).await,
        }
    }

    async fn applied(&self) -> Result<Vec<i64>> {
        let applied = match self {
            Self::Lite { write, .. } => {
                let mut connection = write.acquire().await?;
                let exists: bool = sqlx::query_scalar(
                    "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = $1",
                )
                .bind(TABLE)
                .fetch_one(&mut *connection)
                .await?;
                if !exists {
                    return Ok(Vec::new());
                }
                connection.list_applied_migrations(TABLE).await
            }
            #[cfg(feature = "postgres")]
            Self::Pg(pool) => {
                let mut connection = pool.acquire().await?;
                // Not created here: the role that serves may not be the one that migrates.
                let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
                    .bind(TABLE)
                    .fetch_one(&mut *connection)
                    .await?;
                if !exists {
                    return Ok(Vec::new());
                }
                connection.list_applied_migrations(TABLE).await
            }
        };
        Ok(applied.map_err(refused)?.into_iter().map(|m| m.version).collect())
    }
}

fn migrator(text: fn(&Step) -> String) -> Migrator {
    let migrations = MIGRATIONS.iter().map(|step| {
        // The text is a constant of this build, translated by replacing the names of types.
        let sql = AssertSqlSafe(text(step)).into_sql_str();
        Migration::new(step.version, step.description.into(), MigrationType::Simple, sql, false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

async fn run<'a, A>(migrator: &Migrator, on: A) -> Result<()>
where
    A: sqlx::Acquire<'a>,
    <A::Connection as std::ops::Deref>::Target: sqlx::migrate::Migrate,
{
    migrator.run(on).await.map_err(refused)
}

fn refused(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) => error.into(),
        MigrateError::VersionMissing(version) => Error::new(
            Code::InvalidState,
            format!(
                "the database schema has migration {version}, which this build does not know: use a newer build"
            ),
        ),
        MigrateError::VersionMismatch(version) => Error::new(
            Code::InvalidState,
            format!("migration {version} was applied with another text than this build has"),
        ),
        other => Error::internal(other),
    }
}
