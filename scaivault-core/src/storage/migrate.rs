use std::collections::BTreeSet;

use sqlx::{
    AssertSqlSafe, SqlSafeStr as _,
    migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator},
};

#[cfg(feature = "postgres")]
use super::fence;
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
        version: 2,
        description: "expiry events",
        shared: text!("0002_expiry_events.sql"),
        postgres: "",
        sqlite: "",
    },
    Step {
        version: 3,
        description: "key life",
        shared: text!("0003_key_life.sql"),
        postgres: "",
        sqlite: "",
    },
    Step {
        version: 4,
        description: "audit chain",
        shared: text!("0004_audit_chain.sql"),
        postgres: text!("0004_audit_chain.postgres.sql"),
        sqlite: text!("0004_audit_chain.sqlite.sql"),
    },
    Step {
        version: 5,
        description: "certificate partitions",
        shared: text!("0005_certificate_partitions.sql"),
        postgres: text!("0005_certificate_partitions.postgres.sql"),
        sqlite: "",
    },
    Step {
        version: 6,
        description: "fence",
        shared: "",
        postgres: text!("0006_fence.postgres.sql"),
        sqlite: "",
    },
    Step {
        version: 7,
        description: "tag order",
        shared: text!("0007_tag_order.sql"),
        postgres: "",
        sqlite: "",
    },
    Step {
        version: 8,
        description: "root keys",
        shared: text!("0008_root_keys.sql"),
        postgres: text!("0008_root_keys.postgres.sql"),
        sqlite: "",
    },
    Step {
        version: 9,
        description: "CA keys in providers",
        shared: text!("0009_ca_key_provider.sql"),
        postgres: text!("0009_ca_key_provider.postgres.sql"),
        sqlite: text!("0009_ca_key_provider.sqlite.sql"),
    },
    Step {
        version: 10,
        description: "role names",
        shared: text!("0010_role_names.sql"),
        postgres: "",
        sqlite: "",
    },
    Step {
        version: 11,
        description: "what root keys hold",
        shared: "",
        postgres: text!("0011_root_holds.postgres.sql"),
        sqlite: "",
    },
    Step {
        version: 12,
        description: "directory",
        shared: text!("0012_directory.sql"),
        postgres: text!("0012_directory.postgres.sql"),
        sqlite: "",
    },
    Step { version: 13, description: "trust", shared: text!("0013_trust.sql"), postgres: "", sqlite: "" },
    Step {
        version: 14,
        description: "tenancy",
        shared: text!("0014_tenancy.sql"),
        postgres: text!("0014_tenancy.postgres.sql"),
        sqlite: "",
    },
    Step {
        version: 15,
        description: "issuing",
        shared: text!("0015_issuing.sql"),
        postgres: text!("0015_issuing.postgres.sql"),
        sqlite: "",
    },
    Step {
        version: 16,
        description: "keys of certificates",
        shared: text!("0016_revocation.sql"),
        postgres: "",
        sqlite: "",
    },
    Step {
        version: 17,
        description: "lists",
        shared: text!("0017_lists.sql"),
        postgres: text!("0017_lists.postgres.sql"),
        sqlite: "",
    },
    Step {
        version: 18,
        description: "CAs of others",
        shared: text!("0018_ca_origins.sql"),
        postgres: "",
        sqlite: "",
    },
    Step {
        version: 19,
        description: "trust anchors",
        shared: text!("0019_trust_anchors.sql"),
        postgres: text!("0019_trust_anchors.postgres.sql"),
        sqlite: "",
    },
    Step {
        version: 20,
        description: "inventory",
        shared: text!("0020_inventory.sql"),
        postgres: text!("0020_inventory.postgres.sql"),
        sqlite: text!("0020_inventory.sqlite.sql"),
    },
    Step {
        version: 21,
        description: "life of CAs",
        shared: text!("0021_ca_life.sql"),
        postgres: text!("0021_ca_life.postgres.sql"),
        sqlite: text!("0021_ca_life.sqlite.sql"),
    },
    Step {
        version: 22,
        description: "what CAs did before",
        shared: text!("0022_past.sql"),
        postgres: text!("0022_past.postgres.sql"),
        sqlite: "",
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
            Self::Lite { write, .. } => run(&migrator(Step::for_sqlite), &mut *write.acquire().await?).await,
            #[cfg(feature = "postgres")]
            Self::Pg { pool, .. } => {
                let mut connection = pool.connect_apart().await?;
                fence::become_owner(&mut connection, TABLE).await?;
                migrate_postgres(connection).await
            }
        }
    }

    /// Brings an empty database to where a former release had it.
    #[cfg(test)]
    pub(crate) async fn migrate_to(&self, version: i64) -> Result<()> {
        let steps: Vec<&Step> = MIGRATIONS.iter().filter(|step| step.version <= version).collect();
        match self {
            Self::Lite { write, .. } => {
                run(&migrator_of(&steps, Step::for_sqlite), &mut *write.acquire().await?).await
            }
            #[cfg(feature = "postgres")]
            Self::Pg { pool, .. } => {
                let mut connection = pool.connect_apart().await?;
                fence::become_owner(&mut connection, TABLE).await?;
                run(&migrator_of(&steps, Step::for_postgres), &mut connection).await
            }
        }
    }

    /// Makes the roles that are missing, and brings the schema up to date as its owner.
    #[cfg(feature = "postgres")]
    pub(crate) async fn create_roles(&self, verifiers: &fence::Verifiers) -> Result<()> {
        let Self::Pg { pool, .. } = self else {
            return Err(Error::new(Code::InvalidRequest, "SQLite has no roles"));
        };
        let mut connection = pool.connect_apart().await?;
        fence::create_roles(&mut connection, verifiers, TABLE).await?;
        migrate_postgres(connection).await
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
            Self::Pg { pool, .. } => {
                let mut connection = pool.connect_apart().await?;
                // Not created here: the role that serves may not be the one that migrates.
                let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
                    .bind(TABLE)
                    .fetch_one(&mut connection)
                    .await?;
                if !exists {
                    return Ok(Vec::new());
                }
                let applied = connection.list_applied_migrations(TABLE).await;
                fence::done(connection).await;
                applied
            }
        };
        Ok(applied.map_err(refused)?.into_iter().map(|m| m.version).collect())
    }
}

#[cfg(feature = "postgres")]
async fn migrate_postgres(mut connection: sqlx::PgConnection) -> Result<()> {
    run(&migrator(Step::for_postgres), &mut connection).await?;
    // Again after each: whatever a migration made, and whatever role there is since the last one.
    fence::raise(&mut connection).await?;
    fence::done(connection).await;
    Ok(())
}

fn migrator(text: fn(&Step) -> String) -> Migrator {
    migrator_of(&MIGRATIONS.iter().collect::<Vec<_>>(), text)
}

fn migrator_of(steps: &[&Step], text: fn(&Step) -> String) -> Migrator {
    let migrations = steps.iter().map(|step| {
        // The text is a constant of this build, translated by replacing the names of types.
        let sql = AssertSqlSafe(text(step)).into_sql_str();
        Migration::new(step.version, step.description.into(), MigrationType::Simple, sql, false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

/// `Migrator::run` asks for more than the compiler can show of a future that is sent elsewhere.
async fn run(migrator: &Migrator, on: &mut impl sqlx::migrate::Migrate) -> Result<()> {
    migrator.run_direct(None, on, false).await.map_err(refused)
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
