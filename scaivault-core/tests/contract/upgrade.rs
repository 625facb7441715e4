//! Databases that earlier builds left behind: migrated, everything in them is still there and still opens.
//!
//! `tests/data/schema-N.*.sql` is a dump of a database at migration N with a row in every table, made under the
//! root key of these tests by `dev`.

use scaivault_core::{
    AuditFilter, Caller, Code, Database, PartnerId, Role, SchemaState, Scope, Vault, VaultBuilder,
    pki::{CertificateFilter, CertificateSearch, IssueWrite, RevokeWrite},
};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use time::macros::datetime;

use crate::bench::{Scratch, TestClock, any, path, refusal, root_key, server, tenant};

const POSTGRES: &str = include_str!("../data/schema-1.postgres.sql");
const SQLITE: &str = include_str!("../data/schema-1.sqlite.sql");

/// Two more roles whose names differ from the first one's by case alone.
const TWINS: &str = "\
    INSERT INTO pki_role (tenant_id, name, ca_id, config, created_at, updated_at) \
    SELECT tenant_id, 'SVC', ca_id, config, created_at, updated_at FROM pki_role WHERE name = 'svc' UNION ALL \
    SELECT tenant_id, 'Svc', ca_id, config, created_at, updated_at FROM pki_role WHERE name = 'svc'";

/// A CA as former releases had those that were signed outside: its certificate stands under itself.
const OUTSIDE: &str = "\
    INSERT INTO pki_ca (tenant_id, id, name, name_key, common_name, ca_type, parent_ca_id, key_spec, certificate, serial, \
    key_ciphertext, key_wrapped_key, key_id, not_before, not_after, is_active, created_at) \
    SELECT tenant_id, 'ca_outside', 'outside', 'outside', common_name, 'intermediate', NULL, key_spec, certificate, serial, \
    key_ciphertext, key_wrapped_key, key_id, not_before, not_after, is_active, created_at FROM pki_ca; \
    INSERT INTO pki_certificate (tenant_id, id, ca_id, serial, role, common_name, alt_names, ip_sans, certificate, \
    fingerprint_sha256, not_before, not_after, source, issued_to, created_at) \
    SELECT c.tenant_id, 'cert_outside', 'ca_outside', c.serial, NULL, c.common_name, c.alt_names, c.ip_sans, c.certificate, \
    c.fingerprint_sha256, c.not_before, c.not_after, c.source, c.issued_to, c.created_at FROM pki_certificate c \
    WHERE c.source = 'ca'";

fn builder(database: Database) -> VaultBuilder {
    Vault::builder(database, root_key(7))
        .add_root("second", root_key(8))
        .clock(TestClock::at(datetime!(2026-11-23 12:00 UTC)))
}

async fn is_whole(vault: Vault) {
    let caller = Caller::user("user:admin@dev.example", tenant("tnt_dev")).unwrap();
    let caller = caller.with_partner(PartnerId::parse("ptn_dev").unwrap());
    let admin = caller.with_roles([Role::TenantAdmin]).with_scopes([Scope::Admin]);
    let ctx = || vault.ctx(admin.clone()).unwrap();

    let (one, two, three) = (ctx(), ctx(), ctx());
    for (ctx, version, value) in [(&one, Some(1), "one"), (&two, Some(2), "two"), (&three, None, "two")] {
        let read = vault.secrets(ctx).get(&path("app/db"), version).await.unwrap();
        assert_eq!(read.data.decode::<Value>().unwrap(), json!({"k": value}));
    }
    let item = vault.secrets(&ctx()).metadata(&path("app/db")).await.unwrap();
    assert_eq!(item.metadata.tags(), ["db"]);

    let all = CertificateFilter { include_revoked: true, ..CertificateFilter::default() };
    let certificates = vault.pki(&ctx()).certificates(all).await.unwrap().items;
    assert_eq!(certificates.len(), 3, "a root, a leaf, and a CA that was signed outside");
    let leaf = certificates.iter().find(|c| c.status == "revoked").unwrap();
    for (san, found) in [("svc.", true), ("vc.", false)] {
        let search = CertificateSearch {
            san: Some(san.to_owned()),
            include_revoked: true,
            ..CertificateSearch::default()
        };
        let items = vault.pki(&ctx()).search_certificates(search).await.unwrap().page.items;
        assert_eq!(items.iter().any(|item| item.certificate.id == leaf.id), found, "{san}");
    }
    let (leaf, key) = vault.pki(&ctx()).certificate_with_key(&leaf.id).await.unwrap();
    assert!(key.is_some(), "it was stored, and opens");
    assert!(!vault.public_pki().crl(&leaf.ca_id).await.unwrap().der.is_empty());

    let policies = vault.policies(&ctx()).list(false, None, None).await.unwrap().items;
    assert_eq!(policies.iter().map(|p| (p.rule_count, p.binding_count)).collect::<Vec<_>>(), [(1, 1)]);
    let reader = Caller::user("user:reader", tenant("tnt_dev")).unwrap().with_scopes([Scope::SecretsRead]);
    vault.secrets(&vault.ctx(reader).unwrap()).get(&path("app/db"), None).await.unwrap();

    let old = AuditFilter { to: Some(datetime!(2026-11-23 00:00 UTC)), ..AuditFilter::default() };
    assert_eq!(vault.audit(&ctx()).query(old).await.unwrap().items.len(), 9);

    // And life goes on.
    assert_eq!(vault.secrets(&ctx()).put(&path("app/db"), any()).await.unwrap().item.version, 3);
    let wanted = IssueWrite { common_name: Some("b.svc.test".to_owned()), ..IssueWrite::default() };
    // Roles that were one too many go on to work; no more are made.
    for role in ["svc", "SVC", "Svc"] {
        vault.pki(&ctx()).issue(role, wanted.clone()).await.unwrap();
    }
    let ca = &leaf.ca_id;
    for name in ["svc", "sVc"] {
        let role = vault.pki(&ctx()).create_role(crate::pki::role_write(name, ca)).await;
        assert_eq!(crate::bench::code(role), Code::NameConflict, "{name}");
    }
    vault.run_due_jobs().await.unwrap();
    let outside = certificates.iter().find(|c| c.id == "cert_outside").unwrap();
    assert_eq!((outside.ca_id.as_str(), outside.status), ("ca_outside", "active"));
    for (ca_id, told) in [(ca.as_str(), "A root cannot"), ("ca_outside", "signed outside")] {
        let write =
            RevokeWrite { ca_id: Some(ca_id.to_owned()), ..crate::pki::revocation(&outside.serial_number) };
        let error = refusal(vault.pki(&ctx()).revoke(write).await);
        assert!(error.code() == Code::InvalidState && error.message().contains(told), "{error:?}");
    }
    let under = CertificateSearch { ca_id: Some("ca_outside".to_owned()), ..CertificateSearch::default() };
    assert!(vault.pki(&ctx()).search_certificates(under).await.unwrap().page.items.is_empty());
    let by_name =
        CertificateSearch { common_name: outside.common_name.clone(), ..CertificateSearch::default() };
    assert_eq!(vault.pki(&ctx()).search_certificates(by_name).await.unwrap().page.items.len(), 2);

    // The root key that everything is under is known as such, and another may be added.
    let operator = Caller::system("key-rotation", tenant("tnt_operator")).unwrap();
    let operator = || vault.ctx(operator.clone()).unwrap();
    let roots = vault.keys(&operator()).status().await.unwrap().roots;
    let states: Vec<_> = roots.iter().map(|root| (root.state.as_str(), root.missing)).collect();
    assert_eq!(states, [("active", 0), ("inactive", 0)]);
    assert!(vault.keys(&operator()).add_root("second").await.unwrap().wrapped >= 1);
    vault.keys(&operator()).remove_root("local").await.unwrap();
    let fourth = ctx();
    vault.secrets(&fourth).get(&path("app/db"), Some(1)).await.unwrap();
    vault.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_database_of_the_first_migration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vault.db");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    // The dump names tables before it makes them.
    let mut connection = options.foreign_keys(false).connect().await.unwrap();
    sqlx::raw_sql(SQLITE).execute(&mut connection).await.unwrap();
    sqlx::raw_sql(TWINS).execute(&mut connection).await.unwrap();
    sqlx::raw_sql(OUTSIDE).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let database = Database::sqlite(&file);
    assert!(matches!(builder(database.clone()).schema().await.unwrap(), SchemaState::Behind(_)));
    is_whole(builder(database).open().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_database_of_the_first_migration() {
    let Some(server) = server() else { return };
    let scratch = Scratch::create(server).await;
    // Its owner is no role of ours, and may go on to own it.
    let mut connection = sqlx::PgConnection::connect(&scratch.url).await.unwrap();
    sqlx::raw_sql(POSTGRES).execute(&mut connection).await.unwrap();
    // The dump leaves no schema to look for tables in.
    sqlx::raw_sql("SET search_path TO public").execute(&mut connection).await.unwrap();
    sqlx::raw_sql(TWINS).execute(&mut connection).await.unwrap();
    sqlx::raw_sql(OUTSIDE).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let url = scratch.url_of("scaivault_app");
    let done = tokio::spawn({
        let (owner, url) = (scratch.url.clone(), url);
        async move {
            let owner = builder(Database::postgres(&owner, 1).unwrap());
            assert!(matches!(owner.schema().await.unwrap(), SchemaState::Behind(_)));
            owner.create_roles(&crate::bench::passwords()).await.unwrap();
            assert_eq!(owner.schema().await.unwrap(), SchemaState::Current);
            is_whole(builder(Database::postgres(&url, 4).unwrap()).migrate(false).open().await.unwrap())
                .await;
        }
    });
    let done = done.await;
    scratch.drop_database().await;
    done.unwrap();
}
