use super::*;

async fn migrated() -> Db {
    let db = Db::open(&Database::in_memory()).await.unwrap();
    db.migrate().await.unwrap();
    db
}

#[tokio::test]
async fn schema_goes_from_behind_to_current_and_migrating_twice_changes_nothing() {
    let db = Db::open(&Database::in_memory()).await.unwrap();
    assert_eq!(db.schema().await.unwrap(), SchemaState::Behind(vec![1, 2]));
    db.migrate().await.unwrap();
    assert_eq!(db.schema().await.unwrap(), SchemaState::Current);
    db.migrate().await.unwrap();
    assert_eq!(db.schema().await.unwrap(), SchemaState::Current);
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
async fn a_transaction_that_is_dropped_leaves_nothing() {
    let db = migrated().await;
    let now = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let insert = || {
        query("INSERT INTO tenant (tenant_id, partner_id, created_at) VALUES ($1, $2, $3)")
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
