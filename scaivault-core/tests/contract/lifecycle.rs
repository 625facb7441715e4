//! From opening a vault to closing it.

use scaivault_core::{Code, Database, SchemaState, Vault};
use serde_json::{Value, json};

use crate::bench::{Scratch, any, code, contract, path, root_key, server, user, write};

async fn is_refused_unless_migrated(database: Database) {
    let builder = || Vault::builder(database.clone(), root_key(7)).allow_unfenced(true);
    let empty = builder().schema().await.unwrap();
    assert!(matches!(&empty, SchemaState::Behind(missing) if missing.first() == Some(&1)));
    assert_eq!(code(builder().migrate(false).open().await), Code::InvalidState);
    assert_eq!(builder().schema().await.unwrap(), empty, "a refusal changes nothing");
    builder().open().await.unwrap().close().await;
    assert_eq!(builder().schema().await.unwrap(), SchemaState::Current);
    builder().migrate(false).open().await.unwrap().close().await;
}

#[tokio::test]
async fn an_empty_sqlite_file_is_refused_unless_it_may_be_migrated() {
    let folder = tempfile::tempdir().unwrap();
    is_refused_unless_migrated(Database::sqlite(folder.path().join("vault.db"))).await;
}

#[tokio::test]
async fn an_empty_postgres_database_is_refused_unless_it_may_be_migrated() {
    let Some(server) = server() else { return };
    let scratch = Scratch::create(server).await;
    let test = tokio::spawn(is_refused_unless_migrated(Database::postgres(&scratch.url, 2).unwrap())).await;
    scratch.drop_database().await;
    test.unwrap();
}

#[tokio::test]
async fn two_vaults_in_one_process_know_nothing_of_each_other() {
    let open = async |key| Vault::builder(Database::in_memory(), root_key(key)).open().await.unwrap();
    let (one, two) = (open(1).await, open(2).await);
    let admin = || {
        user("user:a")
            .with_scopes([scaivault_core::Scope::Admin])
            .with_roles([scaivault_core::Role::TenantAdmin])
    };
    let (first, second) = (one.ctx(admin()).unwrap(), two.ctx(admin()).unwrap());
    one.secrets(&first).put(&path("a"), write(json!({"of": 1}))).await.unwrap();
    assert_eq!(code(two.secrets(&second).get(&path("a"), None).await), Code::SecretNotFound);
    two.secrets(&second).put(&path("a"), write(json!({"of": 2}))).await.unwrap();
    one.close().await;
    let value = two.secrets(&second).get(&path("a"), None).await.unwrap();
    assert_eq!(value.data.decode::<Value>().unwrap(), json!({"of": 2}));
    assert_eq!(code(one.secrets(&first).get(&path("a"), None).await), Code::ServiceUnavailable);
    two.close().await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable_and_not_shown() {
    let url = "postgres://somebody:canary@127.0.0.1:1/none";
    let builder = Vault::builder(Database::postgres(url, 1).unwrap(), root_key(7));
    assert!(!format!("{builder:?}").contains("canary"));
    let error = crate::bench::refusal(builder.open().await);
    assert_eq!(error.code(), Code::ServiceUnavailable);
    assert!(!format!("{error} {error:?}").contains("canary"));
    let error = crate::bench::refusal(Database::postgres("canary", 1));
    assert!(!format!("{error} {error:?}").contains("canary"));
}

contract! {
    async fn closing_loses_no_record_of_what_was_answered(t: Bench) {
        t.put("a", json!({})).await;
        let tasks: Vec<_> = (0..100).map(|_| {
            let t = t.clone();
            tokio::spawn(async move {
                let ctx = t.admin();
                let answered = t.vault.secrets(&ctx).get(&path("a"), None).await.is_ok();
                (ctx.request_id().to_owned(), answered)
            })
        }).collect();
        t.get("a").await.unwrap();
        t.vault.close().await;
        let mut answered = 0;
        for task in tasks {
            let (id, ok) = task.await.unwrap();
            if ok {
                answered += 1;
                assert_eq!(t.raw.trail(&format!("request_id = '{id}'")).await.len(), 1, "answered, so recorded");
            }
        }
        assert_eq!(t.raw.count("audit_trail WHERE action = 'read' AND success").await, answered + 1);
        assert_eq!(code(t.vault.secrets(&t.admin()).put(&path("b"), any()).await), Code::ServiceUnavailable);
        t.vault.close().await;
    }

    async fn what_was_written_is_there_after_a_restart(t: Bench) {
        t.put("a", json!({"k": "v"})).await;
        let (_, binding) = t.grant("user:u", "a", &["read"]).await;
        t.vault.close().await;
        let again = t.replica().await;
        let value = again.secrets(&t.user("user:u")).get(&path("a"), None).await.unwrap();
        assert_eq!(value.data.decode::<Value>().unwrap(), json!({"k": "v"}));
        assert!(binding.expires_at.is_none());
        again.close().await;
    }

    async fn a_schema_from_a_newer_build_is_refused(t: Bench) {
        let checksum = if t.folder.is_some() { "X'00'" } else { "'\\x00'::bytea" };
        t.raw.execute(&format!(
            "INSERT INTO scaivault_migrations (version, description, success, checksum, execution_time) \
             VALUES (99, 'future', TRUE, {checksum}, 0)"
        )).await;
        assert_eq!(t.builder(root_key(7)).schema().await.unwrap(), SchemaState::Ahead(99));
        let error = crate::bench::refusal(t.builder(root_key(7)).open().await);
        assert_eq!(error.code(), Code::InvalidState);
        assert!(error.message().contains("99"));
        assert_eq!(code(t.builder(root_key(7)).migrate(false).open().await), Code::InvalidState);
    }

    async fn a_migration_that_was_changed_by_hand_is_not_built_upon(t: Bench) {
        let checksum = if t.folder.is_some() { "X'00'" } else { "'\\x00'::bytea" };
        t.raw.execute(&format!("UPDATE scaivault_migrations SET checksum = {checksum}")).await;
        assert_eq!(code(t.builder(root_key(7)).migrate_now().await), Code::InvalidState);
    }
}
