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
    db.on(As::Nobody)
        .execute(query(
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
    let tables = db
        .on(As::Nobody)
        .fetch_optional::<(i64,)>(query("SELECT count(*) FROM sqlite_schema"))
        .await
        .unwrap();
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
    let mut tx = db.on(As::Nobody).begin().await.unwrap();
    assert_eq!(tx.execute(insert()).await.unwrap(), 1);
    drop(tx);
    assert_eq!(db.on(As::Nobody).fetch_optional::<(i64,)>(count()).await.unwrap(), Some((0,)));
    let mut tx = db.on(As::Nobody).begin().await.unwrap();
    tx.execute(insert()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.on(As::Nobody).fetch_optional::<(i64,)>(count()).await.unwrap(), Some((1,)));
}

#[tokio::test]
async fn times_keep_microseconds_and_sort() {
    let db = migrated().await;
    let base = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let row: Option<(Ts, bool)> = db
        .on(As::Nobody)
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
fn statements() -> Vec<Arc<str>> {
    let rooms = [
        crate::anchor::sql::ALL,
        crate::audit::recorder::sql::ALL,
        crate::envelope::store::sql::ALL,
        crate::envelope::rooted::sql::ALL,
        crate::audit::store::sql::ALL,
        crate::audit::summary::sql::ALL,
        crate::events::store::sql::ALL,
        crate::identity::directory::store::sql::ALL,
        crate::idempotency::sql::ALL,
        crate::pki::anchors::sql::ALL,
        crate::pki::csr::sql::ALL,
        crate::pki::past::sql::ALL,
        crate::pki::tags::sql::ALL,
        crate::pki::store::sql::ALL,
        crate::pki::summary::sql::ALL,
        crate::pki::validate::sql::ALL,
        crate::policy::store::sql::ALL,
        crate::secrets::store::sql::ALL,
        crate::tenancy::store::sql::ALL,
        crate::trust::store::sql::ALL,
    ];
    let constants = rooms.into_iter().flatten().map(|sql| Arc::from(*sql));
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
    let partitions = partitions::sql::ALL.iter().map(|sql| Arc::from(*sql));
    for sql in statements().into_iter().chain(partitions) {
        let prepared = tx.prepare(sqlx::AssertSqlSafe(sql.clone()).into_sql_str()).await;
        assert!(prepared.is_ok(), "{sql}: {}", prepared.err().unwrap());
    }
    plans_use_indexes(&mut tx).await;
    tx.rollback().await.unwrap();
}

/// No search of the inventory reads a table from end to end: where an index can be used, none does in the plan for any value.
#[cfg(feature = "postgres")]
async fn plans_use_indexes(tx: &mut sqlx::PgConnection) {
    for sql in [
        "SELECT scaivault_make_partition('pki_certificate', '2026-01-01')",
        "SET LOCAL enable_seqscan = off",
        "SET LOCAL plan_cache_mode = force_generic_plan",
    ] {
        sqlx::raw_sql(sql).execute(&mut *tx).await.unwrap();
    }
    let mut statements = Vec::new();
    crate::pki::inventory::each_statement(&mut |name, query| {
        statements.push((name.to_owned(), query.sql.as_str().to_owned(), query.args.len()));
    });
    assert!(statements.len() > 90, "{}", statements.len());
    for (at, (name, sql, arguments)) in statements.into_iter().enumerate() {
        let prepare = format!("PREPARE inventory_{at} AS {sql}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *tx).await.unwrap();
        let nulls = vec!["NULL"; arguments].join(", ");
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN EXECUTE inventory_{at} ({nulls})"));
        let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&mut *tx).await.unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains("Index") && !plan.contains("Seq Scan"), "{name}: {sql}\n{plan}");
    }
}

#[cfg(feature = "postgres")]
mod pool {
    use std::time::Duration;

    use super::*;

    /// A pool on the server for tests, of one connection; `None` without one. Nothing is written.
    async fn one() -> Option<Arc<Pool>> {
        #[expect(clippy::disallowed_methods, reason = "the one setting that the tests themselves have")]
        let url = std::env::var("SCAIVAULT_TEST_POSTGRES").ok()?;
        Some(Pool::open(*postgres_options(&url).unwrap(), 1).await.unwrap())
    }

    async fn pid(held: &mut Held) -> i32 {
        held.optional::<(i64,)>(query("SELECT pg_backend_pid()::bigint")).await.unwrap().unwrap().0 as i32
    }

    async fn tenant(held: &mut Held) -> String {
        let get = query("SELECT current_setting('scaivault.tenant', true)");
        held.optional::<(Option<String>,)>(get).await.unwrap().unwrap().0.unwrap_or_default()
    }

    #[tokio::test]
    async fn a_connection_shows_whom_it_serves_and_is_used_again() {
        let Some(pool) = one().await else { return };
        let (a, b) = (TenantId::parse("tnt_a").unwrap(), TenantId::parse("tnt_b").unwrap());
        let mut held = pool.take(As::Tenant(&a)).await.unwrap();
        let first = pid(&mut held).await;
        assert_eq!(tenant(&mut held).await, "tnt_a");
        drop(held);
        let mut held = pool.take(As::Tenant(&b)).await.unwrap();
        assert_eq!((pid(&mut held).await, tenant(&mut held).await), (first, "tnt_b".to_owned()));
        drop(held);
        let mut held = pool.take(As::Nobody).await.unwrap();
        assert_eq!((pid(&mut held).await, tenant(&mut held).await), (first, String::new()));
        // What a statement of ours did wrong is no reason to give the connection up.
        assert!(held.execute(query("SELECT 1 / 0")).await.is_err());
        assert_eq!(pid(&mut held).await, first);
    }

    #[tokio::test]
    async fn a_connection_in_the_middle_of_something_is_closed() {
        let Some(pool) = one().await else { return };
        let mut held = pool.take(As::Nobody).await.unwrap();
        let first = pid(&mut held).await;
        let sleep = held.execute(query("SELECT pg_sleep(60)"));
        assert!(tokio::time::timeout(Duration::from_millis(50), sleep).await.is_err());
        assert!(held.execute(query("SELECT 1")).await.is_err(), "it is not used any more");
        drop(held);
        let mut held = pool.take(As::Nobody).await.unwrap();
        assert_ne!(pid(&mut held).await, first);
    }

    #[tokio::test]
    async fn a_transaction_that_is_dropped_is_rolled_back_before_the_next_is_served() {
        let Some(pool) = one().await else { return };
        let mut held = pool.take(As::Nobody).await.unwrap();
        let first = pid(&mut held).await;
        held.begin().await.unwrap();
        held.execute(query("CREATE TEMPORARY TABLE held_back (x int)")).await.unwrap();
        drop(held);
        let mut held = pool.take(As::Nobody).await.unwrap();
        let there = held.optional::<(bool,)>(query("SELECT to_regclass('held_back') IS NOT NULL")).await;
        assert_eq!((pid(&mut held).await, there.unwrap()), (first, Some((false,))));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_to_come_back_and_a_server_that_restarts_is_found_again() {
        let Some(pool) = one().await else { return };
        let mut held = pool.take(As::Nobody).await.unwrap();
        let first = pid(&mut held).await;
        let refused = pool.take(As::Jobs).await.unwrap_err();
        assert_eq!(refused.code(), Code::ServiceUnavailable);
        assert!(refused.details().retry_after.is_some());
        drop(held);
        let db = Db::Pg { pool: Arc::clone(&pool), replica: None };
        let other = one().await.unwrap();
        let end = query("SELECT pg_terminate_backend($1::bigint::int, 5000)").bind(i64::from(first));
        other.take(As::Nobody).await.unwrap().optional::<(bool,)>(end).await.unwrap();
        // A read is tried again on a new connection; so is BEGIN.
        let read = db.on(As::Nobody).fetch_optional::<(i64,)>(query("SELECT 1::bigint")).await;
        assert_eq!(read.unwrap(), Some((1,)));
        db.on(As::Nobody).begin().await.unwrap().commit().await.unwrap();
        db.close().await;
        assert_eq!(
            db.on(As::Nobody).execute(query("SELECT 1")).await.unwrap_err().code(),
            Code::ServiceUnavailable
        );
    }
}
