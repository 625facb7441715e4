use sqlx::SqlSafeStr as _;

use super::*;

async fn migrated() -> Db {
    let db = Db::open(&Database::in_memory()).await.unwrap();
    db.migrate().await.unwrap();
    db
}

#[tokio::test]
async fn schema_goes_from_behind_to_current_and_migrating_twice_changes_nothing() {
    let db = Db::open(&Database::in_memory()).await.unwrap();
    assert_eq!(db.schema().await.unwrap(), SchemaState::empty());
    db.migrate().await.unwrap();
    assert_eq!(db.schema().await.unwrap(), SchemaState::Current);
    db.migrate().await.unwrap();
    assert_eq!(db.schema().await.unwrap(), SchemaState::Current);
}

/// A row as the first schema had it; on SQLite a time is a number.
const OLD_RECORD: &str = "\
    INSERT INTO audit_log (tenant_id, id, timestamp, action, identity_type, identity_id, acting_tenant_id, success, \
    duration_ms, request_id, extra_data) VALUES ('tnt', 'log_1', $TIME, 'read', 'user', 'user:a', 'tnt', TRUE, 1, 'req', '{}')";

#[tokio::test]
async fn the_trail_of_the_first_schema_waits_for_its_places() {
    let Db::Lite { write, .. } = Db::open(&Database::in_memory()).await.unwrap() else { panic!("SQLite") };
    for step in migrate::MIGRATIONS {
        sqlx::raw_sql(sqlx::AssertSqlSafe(step.for_sqlite())).execute(&write).await.unwrap();
        if step.version == 1 {
            let insert = OLD_RECORD.replace("$TIME", "1800000000000000");
            sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&write).await.unwrap();
        }
    }
    let waiting: String = sqlx::query_scalar("SELECT id FROM audit_intake").fetch_one(&write).await.unwrap();
    assert_eq!(waiting, "log_1");
}

#[tokio::test]
async fn a_schema_from_a_newer_build_is_ahead_and_refused() {
    let db = migrated().await;
    db.execute(query(
        "INSERT INTO scaivault_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'future', TRUE, x'00', 0)",
    ))
    .await
    .unwrap();
    assert_eq!(db.schema().await.unwrap(), SchemaState::Ahead(99));
    assert_eq!(db.migrate().await.unwrap_err().code(), Code::InvalidState);
}

#[tokio::test]
async fn looking_at_a_schema_makes_neither_file_nor_table() {
    let dir = tempfile::tempdir().unwrap();
    let file = Database::sqlite(dir.path().join("vault.db"));
    assert!(file.is_to_be_made() && !Database::in_memory().is_to_be_made());
    assert!(!Database::sqlite(dir.path().join("no/vault.db")).is_to_be_made());
    let db = Db::open(&file).await.unwrap();
    assert!(!file.is_to_be_made());
    assert_eq!(db.schema().await.unwrap(), SchemaState::empty());
    let tables = db.fetch_optional::<(i64,)>(query("SELECT count(*) FROM sqlite_schema")).await.unwrap();
    assert_eq!(tables, Some((0,)));
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_nothing() {
    let db = migrated().await;
    let now = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let insert = || {
        query(
            "INSERT INTO tenant (tenant_id, partner_id, partner_named, created_at) VALUES ($1, $2, TRUE, $3)",
        )
        .bind("tnt")
        .bind("ptn")
        .bind(now)
    };
    let count = || query("SELECT count(*) FROM tenant");
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.execute(insert()).await.unwrap(), 1);
    drop(tx);
    assert_eq!(db.fetch_optional::<(i64,)>(count()).await.unwrap(), Some((0,)));
    let mut tx = db.begin().await.unwrap();
    tx.execute(insert()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.fetch_optional::<(i64,)>(count()).await.unwrap(), Some((1,)));
}

#[tokio::test]
async fn times_keep_microseconds_and_sort() {
    let db = migrated().await;
    let base = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let row: Option<(Ts, bool)> = db
        .fetch_optional(
            query("SELECT $1, $1 < $2")
                .bind(base + time::Duration::nanoseconds(1_999))
                .bind(base + time::Duration::microseconds(2)),
        )
        .await
        .unwrap();
    let (time, less) = row.unwrap();
    assert_eq!(time.get(), base + time::Duration::microseconds(1));
    assert!(less);
}

/// Every constant statement of every room.
fn statements() -> Vec<std::sync::Arc<str>> {
    let rooms = [
        crate::anchor::sql::ALL,
        crate::audit::recorder::sql::ALL,
        crate::audit::store::sql::ALL,
        crate::audit::summary::sql::ALL,
        crate::envelope::keyring::sql::ALL,
        crate::events::store::sql::ALL,
        crate::pki::store::sql::ALL,
        crate::policy::store::sql::ALL,
        crate::secrets::store::sql::ALL,
        crate::tenancy::store::sql::ALL,
    ];
    let constants = rooms.into_iter().flatten().map(|sql| std::sync::Arc::from(*sql));
    constants.chain(crate::audit::store::inserts()).collect()
}

#[tokio::test]
async fn every_statement_prepares_on_sqlite() {
    use sqlx::Executor as _;
    let Db::Lite { write, .. } = migrated().await else { panic!("in memory is SQLite") };
    let mut connection = write.acquire().await.unwrap();
    let statements = statements();
    assert!(statements.len() > 60, "some room's list is missing");
    for sql in statements {
        let prepared = connection.prepare(sqlx::AssertSqlSafe(sql.clone()).into_sql_str()).await;
        assert!(prepared.is_ok(), "{sql}: {}", prepared.err().unwrap());
    }
}

/// Needs a server and does nothing without one; the contract tests say so. Everything is done in a transaction that is rolled back.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn every_statement_prepares_on_postgres() {
    use sqlx::{Connection as _, Executor as _};
    #[expect(clippy::disallowed_methods, reason = "the one setting that the tests themselves have")]
    let Ok(url) = std::env::var("SCAIVAULT_TEST_POSTGRES") else {
        return;
    };
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    for sql in ["CREATE SCHEMA scaivault_prepare", "SET LOCAL search_path TO scaivault_prepare"] {
        sqlx::raw_sql(sql).execute(&mut *tx).await.unwrap();
    }
    for step in migrate::MIGRATIONS {
        let sql = sqlx::AssertSqlSafe(step.for_postgres());
        sqlx::raw_sql(sql).execute(&mut *tx).await.unwrap();
        if step.version == 1 {
            let insert = OLD_RECORD.replace("$TIME", "now()");
            sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&mut *tx).await.unwrap();
        }
    }
    let waiting: String =
        sqlx::query_scalar("SELECT id FROM audit_intake").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(waiting, "log_1");
    let partitions = crate::audit::store::sql::partitions::ALL.iter().map(|sql| std::sync::Arc::from(*sql));
    for sql in statements().into_iter().chain(partitions) {
        let prepared = tx.prepare(sqlx::AssertSqlSafe(sql.clone()).into_sql_str()).await;
        assert!(prepared.is_ok(), "{sql}: {}", prepared.err().unwrap());
    }
    tx.rollback().await.unwrap();
}
