//! The fence between tenants on PostgreSQL: what the role that serves can do with SQL of its own making, as if
//! every statement of ours were wrong.

use scaivault_core::{
    Caller, Code, Database, IdempotencyKey, PartnerId, Scope, Vault,
    pki::IssueWrite,
    secrets::{Expectation, ListFilter, Metadata, SecretWrite},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{
    bench::{
        ACME, Bench, OTHER, Raw, Scratch, any, code, on_postgres, path, refusal, root_key, server, tenant,
        write,
    },
    issuing, pki,
};

const TENANT_TABLES: &str = "\
    SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') \
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped) \
    ORDER BY 1";

fn tagged(value: serde_json::Value) -> SecretWrite {
    let metadata = json!({"tags": ["a"]}).as_object().unwrap().clone();
    SecretWrite { metadata: Some(Metadata::new(metadata).unwrap()), ..write(value) }
}

fn create_only() -> SecretWrite {
    SecretWrite { expect: Expectation::Absent, ..any() }
}

/// Partitions are reached through their tables alone.
const PARTITIONS: &str = "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid \
    WHERE c.relkind = 'r' ORDER BY 1";

/// One of everything in two tenants of two partners.
async fn fill(t: &Bench) {
    for (id, partner) in [(ACME, "ptn_one"), (OTHER, "ptn_two")] {
        let caller = Caller::user("user:admin", tenant(id)).unwrap();
        let caller = caller
            .with_scopes([Scope::Admin])
            .with_roles([scaivault_core::Role::TenantAdmin])
            .with_partner(PartnerId::parse(partner).unwrap());
        let ctx = t.ctx(caller);
        t.vault.secrets(&ctx).put(&path("app/db"), tagged(json!({"of": id}))).await.unwrap();
        let document = crate::bench::policy("one", &[("app/**", &["read"])]);
        let policy = t.vault.policies(&ctx).create(document).await.unwrap();
        t.vault.policies(&ctx).bind(&policy.id, crate::bench::bind_user("user:u")).await.unwrap();
        let ca = pki::root(&t.vault, &ctx, "Top").await;
        pki::role(&t.vault, &ctx, "web", &ca.id).await;
        let idempotency_key = Some(IdempotencyKey::parse("once").unwrap());
        let wanted = IssueWrite {
            common_name: Some("a.svc.test".to_owned()),
            idempotency_key,
            ..IssueWrite::default()
        };
        let leaf = t.vault.pki(&ctx).issue("web", wanted).await.unwrap();
        let submission = issuing::submission(issuing::csr("a.svc.test"));
        t.vault.pki(&ctx).submit_csr(submission).await.unwrap();
        t.vault.pki(&ctx).revoke(pki::revocation(&leaf.serial_number)).await.unwrap();
    }
    for id in [ACME, OTHER] {
        for insert in [
            "idp_tenant (tenant_id, status, status_at, epoch, state, updated_at) VALUES ('$ID', 'ACTIVE', now(), 1, '{}', now())",
            "idp_user (tenant_id, user_id, status, status_at, mfa_enabled, roles, state, updated_at) \
             VALUES ('$ID', 'usr', 'ACTIVE', now(), FALSE, '[]', '{}', now())",
            "idp_user_name (tenant_id, name, user_id) VALUES ('$ID', 'usr', 'usr')",
            "idp_group (tenant_id, group_id, status, status_at, state, updated_at) VALUES ('$ID', 'grp', 'ACTIVE', now(), '{}', now())",
            "idp_membership (tenant_id, group_id, user_id, status, status_at, membership_type, state, updated_at) \
             VALUES ('$ID', 'grp', 'usr', 'ACTIVE', now(), 'DIRECT', '{}', now())",
            "idp_role (tenant_id, identity_id, role, granted_by, granted_at) VALUES ('$ID', 'usr', 'tenant_admin', 'x', now())",
            "trust (tenant_id, id, name, name_key, issuer, document, created_at, created_by) \
             VALUES ('$ID', 'trust_1', 'one', 'one', 'https://x.example', '{}', now(), 'x')",
            "pki_anchor (tenant_id, id, name, name_key, description, purpose, certificate, fingerprint_sha256, not_after, notify_at, \
             created_at, created_by) VALUES ('$ID', 'ta_1', 'one', 'one', '', 'any', '\\x00', '\\x00', now() + interval '90 days', \
             now() + interval '60 days', now(), 'x')",
            "trust_use (tenant_id, trust_id, proof, expires_at) VALUES ('$ID', 'trust_1', 'proof', now())",
        ] {
            t.raw.execute(&format!("INSERT INTO {}", insert.replace("$ID", id))).await;
        }
    }
    t.vault.run_due_jobs().await.unwrap();
    // A record that waits for its place, as after a crash.
    let columns = "tenant_id, id, timestamp, action, identity_type, identity_id, acting_tenant_id, success, duration_ms, \
         request_id, extra_data";
    t.raw
        .execute(&format!(
            "INSERT INTO audit_intake ({columns}) SELECT DISTINCT ON (tenant_id) {columns} FROM audit_log"
        ))
        .await;
}

/// A connection as the role that serves.
async fn app(t: &Bench) -> PgConnection {
    PgConnection::connect(&t.scratch.as_ref().unwrap().url_of("scaivault_app")).await.unwrap()
}

async fn look_as(connection: &mut PgConnection, tenant: &str, role: &str) {
    sqlx::query("SELECT set_config('scaivault.tenant', $1, false), set_config('role', $2, false)")
        .bind(tenant)
        .bind(role)
        .execute(connection)
        .await
        .unwrap();
}

/// The first column of every row, or SQLSTATE.
async fn ask(connection: &mut PgConnection, sql: &str) -> Result<Vec<String>, String> {
    match sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await {
        Ok(rows) => Ok(rows),
        Err(sqlx::Error::Database(error)) => Err(error.code().unwrap().into_owned()),
        Err(other) => panic!("{sql}: {other}"),
    }
}

const DENIED: &str = "42501";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_c2_every_table_of_tenants_stands_behind_the_fence() {
    on_postgres(|t| async move {
        let tables = t.raw.texts(TENANT_TABLES).await;
        assert!(tables.len() >= 12, "{tables:?}");
        let open = format!(
            "SELECT c.relname::text FROM pg_class c WHERE c.relname IN ({TENANT_TABLES}) \
             AND c.relnamespace = 'public'::regnamespace AND NOT (c.relrowsecurity AND c.relforcerowsecurity \
             AND EXISTS (SELECT FROM pg_policies p WHERE p.schemaname = 'public' AND p.tablename = c.relname \
             AND p.policyname = 'scaivault_tenant' AND p.cmd = 'ALL' \
             AND p.qual ~ 'current_setting' AND p.with_check ~ 'current_setting'))"
        );
        assert_eq!(t.raw.texts(&open).await, Vec::<String>::new());
        let owned = "SELECT relname::text FROM pg_class WHERE relowner IN \
            (SELECT oid FROM pg_roles WHERE rolname LIKE 'scaivault\\_%' AND rolname <> 'scaivault_owner')";
        assert_eq!(t.raw.texts(owned).await, Vec::<String>::new());
        let mighty = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'scaivault\\_%' \
            AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)";
        assert_eq!(t.raw.texts(mighty).await, Vec::<String>::new());
        // A policy for all rows is that of a narrow role, never of everybody.
        let all = "SELECT tablename || ' ' || policyname FROM pg_policies WHERE qual = 'true' \
            AND roles && ARRAY['public', 'scaivault_app', 'scaivault_owner']::name[]";
        assert_eq!(t.raw.texts(all).await, Vec::<String>::new());
        // One that a later migration makes is behind it, too.
        t.raw.execute("CREATE TABLE later (tenant_id text NOT NULL) PARTITION BY LIST (tenant_id)").await;
        t.raw.execute("CREATE TABLE later_a PARTITION OF later DEFAULT").await;
        let mut both = t.raw.texts(&open).await;
        both.sort();
        assert_eq!(both, ["later", "later_a"]);
        let builder = || t.builder(root_key(7)).migrate(false);
        let error = refusal(builder().open().await);
        assert_eq!(error.code(), Code::InvalidState);
        assert!(error.message().contains("later"), "{error}");
        let server = Database::postgres(&t.scratch.as_ref().unwrap().url, 1).unwrap();
        t.raw.execute("ALTER TABLE later OWNER TO scaivault_owner").await;
        t.raw.execute("ALTER TABLE later_a OWNER TO scaivault_owner").await;
        Vault::builder(server, root_key(7)).migrate_now().await.unwrap();
        assert_eq!(t.raw.texts(&open).await, Vec::<String>::new());
        builder().open().await.unwrap().close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_c2_nobody_sees_no_row_and_a_tenant_only_its_own() {
    on_postgres(|t| async move {
        fill(&t).await;
        let mut connection = app(&t).await;
        let partitions = t.raw.texts(PARTITIONS).await;
        assert!(partitions.len() >= 8, "{partitions:?}");
        for partition in &partitions {
            let past = format!("SELECT count(*)::text FROM {partition}");
            assert_eq!(ask(&mut connection, &past).await, Err(DENIED.into()), "{partition}");
        }
        let mut tables = t.raw.texts(TENANT_TABLES).await;
        tables.retain(|table| !partitions.contains(table));
        for table in &tables {
            let count = format!("SELECT count(*)::text FROM {table}");
            assert!(t.raw.count(table).await >= 2, "{table} is empty: the test shows nothing");
            assert_eq!(ask(&mut connection, &count).await, Ok(vec!["0".into()]), "{table}, tenant not set");
        }
        assert_eq!(ask(&mut connection, "SELECT id FROM partner_key").await, Ok(vec![]));
        // Queries that forgot their filter.
        for (own, foreign) in [(ACME, OTHER), (OTHER, ACME)] {
            look_as(&mut connection, own, "none").await;
            for table in &tables {
                let seen = ask(&mut connection, &format!("SELECT DISTINCT tenant_id FROM {table}")).await;
                assert_eq!(seen, Ok(vec![own.to_owned()]), "{table}");
            }
            let partner = if own == ACME { "ptn_one" } else { "ptn_two" };
            let keys = ask(&mut connection, "SELECT partner_id FROM partner_key").await;
            assert_eq!(keys, Ok(vec![partner.to_owned()]));
            let update = "UPDATE secret SET metadata = metadata RETURNING tenant_id";
            assert_eq!(ask(&mut connection, update).await, Ok(vec![own.to_owned()]));
            let delete = format!("DELETE FROM secret_tag WHERE tenant_id = '{foreign}' RETURNING tenant_id");
            assert_eq!(ask(&mut connection, &delete).await, Ok(vec![]));
            let insert = format!("INSERT INTO secret_tag SELECT '{foreign}', secret_id, 'x' FROM secret_tag");
            assert_eq!(ask(&mut connection, &insert).await, Err(DENIED.into()));
            let moved = format!("UPDATE secret_tag SET tenant_id = '{foreign}'");
            assert_eq!(ask(&mut connection, &moved).await, Err(DENIED.into()));
        }
        for name in ["", "all tenants", "*", "%", "'' OR TRUE"] {
            look_as(&mut connection, name, "none").await;
            for table in &tables {
                let count = format!("SELECT count(*)::text FROM {table}");
                assert_eq!(ask(&mut connection, &count).await, Ok(vec!["0".into()]), "{table} as {name:?}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_c2_what_looks_across_tenants_sees_little_and_the_trail_is_append_only() {
    on_postgres(|t| async move {
        fill(&t).await;
        let mut connection = app(&t).await;
        look_as(&mut connection, ACME, "none").await;
        for sql in [
            "UPDATE audit_log SET success = success",
            "DELETE FROM audit_log",
            "INSERT INTO audit_log SELECT * FROM audit_log",
            "TRUNCATE audit_log",
            "UPDATE audit_head SET seq = 0",
            "DELETE FROM audit_intake",
            "INSERT INTO audit_checkpoint SELECT * FROM audit_checkpoint",
            "SELECT wrapped FROM audit_key",
            "SELECT wrapped FROM root_key",
            "UPDATE root_key SET state = 'removed'",
            "SELECT scaivault_make_partition('audit_log', '2014-02-01')",
            "DELETE FROM tenant",
            "UPDATE partner_key SET version = 9",
            "ALTER TABLE secret DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE secret NO FORCE ROW LEVEL SECURITY",
            "DROP POLICY scaivault_tenant ON secret",
            "CREATE TABLE mine ()",
            "SET ROLE scaivault_owner",
            "SELECT scaivault_fence()",
            "SELECT scaivault_fence_of_tenants()",
            "SELECT scaivault_fence_of_root_holds()",
            "SELECT epoch FROM idp_state",
            "SELECT name FROM idp_partner",
            "DELETE FROM idp_event",
            "UPDATE idp_user SET status = 'ACTIVE'",
            "INSERT INTO idp_role SELECT tenant_id, identity_id, 'super_admin', granted_by, granted_at FROM idp_role",
            "DELETE FROM idp_role",
        ] {
            let refused = ask(&mut connection, sql).await;
            assert_eq!(refused, Err(DENIED.into()), "{sql}");
        }
        let hidden = [
            ("scaivault_jobs", "SELECT ciphertext FROM secret_version"),
            ("scaivault_jobs", "SELECT metadata FROM secret"),
            ("scaivault_jobs", "UPDATE secret SET deleted_at = NULL"),
            ("scaivault_jobs", "SELECT id FROM audit_log"),
            ("scaivault_jobs", "SELECT key_ciphertext FROM pki_ca"),
            ("scaivault_jobs", "SELECT wrapped FROM tenant_key"),
            ("scaivault_recorder", "SELECT id FROM audit_log"),
            ("scaivault_recorder", "UPDATE audit_log SET success = success"),
            ("scaivault_recorder", "DELETE FROM audit_checkpoint"),
            ("scaivault_recorder", "SELECT wrapped FROM tenant_key"),
            ("scaivault_recorder", "DELETE FROM audit_log"),
            ("scaivault_recorder", "SELECT path FROM secret"),
            ("scaivault_keys", "SELECT ciphertext FROM secret_version"),
            ("scaivault_keys", "SELECT path FROM secret"),
            ("scaivault_keys", "SELECT key_ciphertext FROM pki_certificate"),
            ("scaivault_public", "SELECT key_ciphertext FROM pki_ca"),
            ("scaivault_public", "SELECT serial FROM pki_certificate"),
            ("scaivault_public", "SELECT tenant_id FROM tenant"),
            ("scaivault_jobs", "SELECT state FROM root_key"),
            ("scaivault_recorder", "SELECT wrapped FROM root_key"),
            ("scaivault_keys", "DELETE FROM root_key"),
            ("scaivault_keys", "SELECT email FROM idp_user"),
            ("scaivault_jobs", "SELECT status FROM idp_tenant"),
            ("scaivault_directory", "SELECT path FROM secret"),
            ("scaivault_directory", "SELECT wrapped FROM tenant_key"),
            ("scaivault_directory", "SELECT id FROM audit_intake"),
            ("scaivault_directory", "DELETE FROM idp_user"),
            ("scaivault_directory", "SELECT tenant_id FROM tenant"),
        ];
        for (role, sql) in hidden {
            look_as(&mut connection, "", role).await;
            assert_eq!(ask(&mut connection, sql).await, Err(DENIED.into()), "{role}: {sql}");
        }
        look_as(&mut connection, "", "scaivault_jobs").await;
        let due = ask(&mut connection, "SELECT DISTINCT tenant_id FROM secret ORDER BY 1").await;
        assert_eq!(due, Ok(vec![ACME.to_owned(), OTHER.to_owned()]));
    })
    .await;
}

/// A role of this test alone, gone with it.
async fn role(t: &Bench, name: &str, options: &str) -> String {
    let name = format!("{name}_{}", t.scratch.as_ref().unwrap().name());
    t.raw.execute(&format!("CREATE ROLE {name} LOGIN {options} PASSWORD 'scaivault-test'")).await;
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_c2_a_role_that_could_get_past_the_fence_is_refused() {
    on_postgres(|t| async move {
        let scratch = t.scratch.clone().unwrap();
        let bypass = role(&t, "bypass", "NOINHERIT BYPASSRLS").await;
        let member = role(&t, "member", "NOINHERIT").await;
        let inherits = role(&t, "inherits", "INHERIT").await;
        let outside = role(&t, "outside", "NOINHERIT").await;
        for name in [&bypass, &member, &inherits] {
            let grant = "GRANT scaivault_jobs, scaivault_recorder, scaivault_keys, scaivault_public, scaivault_directory TO";
            t.raw.execute(&format!("{grant} {name}")).await;
        }
        t.raw.execute(&format!("GRANT scaivault_owner TO {member}")).await;
        let cases = [
            (scratch.url.clone(), "superuser".to_owned()),
            (scratch.url_of("scaivault_owner"), "connect as scaivault_app".to_owned()),
            (scratch.url_of(&bypass), format!("ALTER ROLE {bypass} NOBYPASSRLS")),
            (scratch.url_of(&member), format!("REVOKE scaivault_owner FROM {member}")),
            (scratch.url_of(&inherits), format!("ALTER ROLE {inherits} NOINHERIT")),
            (scratch.url_of(&outside), format!("GRANT scaivault_jobs TO {outside}")),
        ];
        for (url, fix) in cases {
            let open =
                Vault::builder(Database::postgres(&url, 2).unwrap(), root_key(7)).migrate(false).open();
            let error = refusal(open.await);
            assert_eq!(error.code(), Code::InvalidRequest, "{error}");
            assert!(error.message().contains(&fix), "{error}");
        }
        for name in [bypass, member, inherits, outside] {
            t.raw.execute(&format!("DROP OWNED BY {name}")).await;
            t.raw.execute(&format!("DROP ROLE {name}")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_development_the_owner_may_serve_and_sees_one_tenant_at_a_time() {
    on_postgres(|t| async move {
        let scratch = t.scratch.clone().unwrap();
        let database = Database::postgres(&scratch.url_of("scaivault_owner"), 2).unwrap();
        let vault = Vault::builder(database, root_key(7)).clock(t.clock.clone()).allow_unfenced(true);
        let vault = vault.open().await.unwrap();
        let (admin, other) = (t.admin(), t.admin_of(OTHER));
        vault.secrets(&admin).put(&path("a"), any()).await.unwrap();
        assert_eq!(code(vault.secrets(&other).get(&path("a"), None).await), Code::SecretNotFound);
        vault.secrets(&admin).delete(&path("a"), false).await.unwrap();
        t.clock.advance(crate::bench::DAY * 31);
        vault.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count("secret").await, 0, "jobs see all tenants");
        let mut owner = PgConnection::connect(&scratch.url_of("scaivault_owner")).await.unwrap();
        assert_eq!(ask(&mut owner, "SELECT tenant_id FROM audit_log").await, Ok(vec![]), "FORCE");
        vault.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_may_lag_behind_on_a_replica_and_nothing_else_does() {
    on_postgres(|t| async move {
        let scratch = t.scratch.clone().unwrap();
        t.put("old", json!({})).await;
        t.vault.close().await;
        // A copy of the database is a replica that has not moved since.
        let copy = scratch.copy().await;
        let open = async |replica: &str| {
            let database = Database::postgres(&scratch.url_of("scaivault_app"), 2).unwrap();
            let database = database.with_read_replica(replica).unwrap();
            Vault::builder(database, root_key(7)).clock(t.clock.clone()).open().await.unwrap()
        };
        let admin = t.admin();
        let paths = async |vault: &Vault| {
            let page = vault.secrets(&admin).list(ListFilter::default()).await.unwrap();
            page.items.into_iter().map(|item| item.path).collect::<Vec<_>>()
        };
        let vault = open(&copy.url_of("scaivault_app")).await;
        vault.secrets(&admin).put(&path("new"), any()).await.unwrap();
        vault.secrets(&admin).get(&path("new"), None).await.unwrap();
        vault.secrets(&admin).metadata(&path("new")).await.unwrap();
        assert_eq!(paths(&vault).await, ["old"], "from the replica");
        let other = t.admin_of(OTHER);
        assert!(vault.secrets(&other).list(ListFilter::default()).await.unwrap().items.is_empty());
        copy.drop_database().await;
        assert_eq!(paths(&vault).await, ["new", "old"], "the replica is gone");
        assert_eq!(paths(&vault).await, ["new", "old"]);
        vault.close().await;
        // One that is not there, and one whose role could get past the fence, are not asked.
        for url in ["postgres://scaivault_app@127.0.0.1:1/none".to_owned(), scratch.url.clone()] {
            let vault = open(&url).await;
            assert_eq!(paths(&vault).await, ["new", "old"]);
            vault.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_role_that_may_not_migrate_says_who_may() {
    let Some(server) = server() else { return };
    let scratch = Scratch::create(server).await;
    scratch.raise_fence().await;
    let raw = Raw::connect(&scratch.url).await;
    raw.execute("DELETE FROM scaivault_migrations WHERE version > 1").await;
    let app =
        || Vault::builder(Database::postgres(&scratch.url_of("scaivault_app"), 1).unwrap(), root_key(7));
    for open in [app().open().await, app().migrate(false).open().await] {
        let error = refusal(open);
        assert_eq!(error.code(), Code::InvalidState);
        assert!(error.message().contains("lacks the migrations [2"), "{error}");
    }
    let error = refusal(app().open().await);
    assert!(
        error.message().contains("the schema belongs to scaivault_owner: migrate as that role"),
        "{error}"
    );
    scratch.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_c2_connections_that_change_hands_show_nobody_elses_rows() {
    on_postgres(|t| async move {
        for id in [ACME, OTHER] {
            t.vault.secrets(&t.admin_of(id)).put(&path("same"), write(json!({"of": id}))).await.unwrap();
        }
        // Four connections; cancelled requests, failed ones and others of two tenants in one heap.
        let tasks: Vec<_> = (0..400_u64)
            .map(|n| {
                let t = t.clone();
                tokio::spawn(async move {
                    let id = if n % 3 == 0 { ACME } else { OTHER };
                    let ctx = t.admin_of(id);
                    let secrets = t.vault.secrets(&ctx);
                    let work = async {
                        match n % 4 {
                            0 => {
                                let refused = secrets.put(&path("same"), create_only()).await;
                                assert!(refused.is_err());
                            }
                            1 => {
                                let page = secrets.list(ListFilter::default()).await.unwrap();
                                assert_eq!(page.items.len(), 1);
                            }
                            _ => {
                                let value = secrets.get(&path("same"), None).await.unwrap();
                                assert_eq!(
                                    value.data.decode::<serde_json::Value>().unwrap(),
                                    json!({"of": id})
                                );
                            }
                        }
                    };
                    let patience = if n % 5 == 0 { n % 30 } else { 60_000 };
                    let _ = tokio::time::timeout(std::time::Duration::from_millis(patience), work).await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let wrong = "audit_log WHERE tenant_id <> acting_tenant_id";
        assert_eq!(t.raw.count(wrong).await, 0);
    })
    .await;
}
