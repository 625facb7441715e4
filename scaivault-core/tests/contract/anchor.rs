//! A database that is put back to an older state shows.

use std::{future::Future, path::Path, sync::Arc};

use scaivault_core::{Caller, Code, Ctx, Database, ProofRange, Role, Scope, Vault};
use scaivault_kms::KeyProvider;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::{
    bench::{ACME, Scratch, any, code, path, root_key, server, tenant},
    pki,
};

async fn open(database: &Database, anchor: &Path) -> Vault {
    let provider: Arc<dyn KeyProvider> = root_key(7);
    Vault::builder(database.clone(), provider).allow_unfenced(true).anchor(anchor).open().await.unwrap()
}

fn admin(vault: &Vault) -> Ctx {
    let caller = Caller::user("user:admin", tenant(ACME)).unwrap();
    vault.ctx(caller.with_scopes([Scope::Admin]).with_roles([Role::TenantAdmin])).unwrap()
}

/// `copy` makes `old` from `database` as it is at that moment.
async fn a_rollback_shows(database: Database, old: Database, copy: impl Future<Output = ()>) {
    let folder = tempfile::tempdir().unwrap();
    let anchor = folder.path().join("root.key.anchor");
    let vault = open(&database, &anchor).await;
    let ca = pki::root(&vault, &admin(&vault), "Top").await;
    vault.secrets(&admin(&vault)).put(&path("a"), any()).await.unwrap();
    vault.run_due_jobs().await.unwrap();
    assert!(anchor.exists(), "written with the first checkpoint");
    vault.close().await;
    copy.await;
    // The same database, and its copy of that moment, are not older than what was written down.
    for database in [&database, &old] {
        let vault = open(database, &anchor).await;
        assert_eq!(vault.quarantine(), None);
        vault.close().await;
    }

    let vault = open(&database, &anchor).await;
    vault.secrets(&admin(&vault)).put(&path("b"), any()).await.unwrap();
    pki::role(&vault, &admin(&vault), "r", &ca.id).await;
    let wanted =
        scaivault_core::pki::IssueWrite { common_name: Some("a.svc.test".to_owned()), ..Default::default() };
    let leaf = vault.pki(&admin(&vault)).issue("r", wanted).await.unwrap();
    vault.pki(&admin(&vault)).revoke(pki::revocation(&leaf.serial_number)).await.unwrap();
    vault.pki(&admin(&vault)).build_crl(&ca.id).await.unwrap();
    // A whole chain that is good is signed for at once; the anchor follows with the next round.
    assert!(vault.audit(&admin(&vault)).verify(ProofRange::default()).await.unwrap().is_good());
    vault.run_due_jobs().await.unwrap();
    vault.close().await;
    let vault = open(&database, &anchor).await;
    vault.run_due_jobs().await.unwrap();
    assert_eq!(vault.quarantine(), None);
    vault.close().await;

    let vault = open(&old, &anchor).await;
    let reason = vault.quarantine().unwrap();
    assert!(reason.contains("audit trail of tnt_acme"), "{reason}");
    // Reads work and are recorded, nothing else does.
    vault.secrets(&admin(&vault)).get(&path("a"), None).await.unwrap();
    assert_eq!(code(vault.secrets(&admin(&vault)).put(&path("a"), any()).await), Code::Quarantined);
    assert_eq!(code(vault.pki(&admin(&vault)).build_crl(&ca.id).await), Code::Quarantined);
    assert_eq!(code(vault.pki(&admin(&vault)).create_ca(pki::root_write("Second")).await), Code::Quarantined);
    let before = std::fs::read(&anchor).unwrap();
    vault.run_due_jobs().await.unwrap();
    assert_eq!(std::fs::read(&anchor).unwrap(), before, "what is known of the time after is not forgotten");
    vault.close().await;
    let vault = open(&old, &anchor).await;
    assert!(vault.quarantine().is_some(), "a restart does not end it");
    assert_eq!(vault.accept_rollback().await.unwrap(), reason);
    assert_eq!((vault.quarantine(), code(vault.accept_rollback().await)), (None, Code::InvalidState));
    vault.secrets(&admin(&vault)).put(&path("c"), any()).await.unwrap();
    let filter =
        scaivault_core::AuditFilter { actions: vec!["rollback_accept".to_owned()], ..Default::default() };
    let found = vault.audit(&admin(&vault)).query(filter).await.unwrap().items;
    assert_eq!((found.len(), found[0].identity_id.as_str()), (1, "system:recover"));
    vault.close().await;
    let vault = open(&old, &anchor).await;
    assert_eq!(vault.quarantine(), None);
    vault.close().await;

    // An anchor that somebody changed is none.
    let text = std::fs::read_to_string(&anchor).unwrap();
    std::fs::write(&anchor, text.replace("tnt_acme", "tnt_acne")).unwrap();
    let vault = open(&old, &anchor).await;
    assert!(vault.quarantine().unwrap().contains("not signed"));
    vault.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_i3_a_rollback_shows_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let (now, old) = (folder.path().join("now.db"), folder.path().join("old.db"));
    let copy = async {
        std::fs::copy(&now, &old).unwrap();
    };
    a_rollback_shows(Database::sqlite(&now), Database::sqlite(&old), copy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_i3_a_rollback_shows_on_postgres() {
    let Some(server) = server() else { return };
    let (now, old) = (Scratch::create(server).await, Scratch::create(server).await);
    let (now_url, old_url) = (now.url.clone(), old.url.clone());
    let name = |url: &str| url.rsplit_once('/').unwrap().1.to_owned();
    let (from, to) = (name(&now_url), name(&old_url));
    let done = tokio::spawn(async move {
        let copy = async {
            let mut server = sqlx::PgConnection::connect(server).await.unwrap();
            for sql in [format!("DROP DATABASE {to}"), format!("CREATE DATABASE {to} TEMPLATE {from}")] {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut server).await.unwrap();
            }
        };
        let (now, old) = (Database::postgres(&now_url, 4).unwrap(), Database::postgres(&old_url, 4).unwrap());
        a_rollback_shows(now, old, copy).await;
    });
    let done = done.await;
    now.drop_database().await;
    old.drop_database().await;
    if let Err(panicked) = done {
        std::panic::resume_unwind(panicked.into_panic());
    }
}
