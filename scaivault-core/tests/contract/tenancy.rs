//! Tenants are apart: by every door, by every identifier, and below the verbs by their keys.

use scaivault_core::{
    AuditFilter, Caller, Code, PartnerId, Scope,
    pki::{CertificateFilter, IssueWrite, RolePatch, RoleWrite},
    policy::PolicyPatch,
    secrets::ListFilter,
};
use serde_json::{Value, json};

use crate::{
    bench::{ACME, Bench, OTHER, any, bind_user, code, contract, path, policy, refusal, tenant, user, write},
    pki,
};

/// Exchanges the ciphertexts of two versions, given as conditions on `secret_version`.
async fn swap(t: &Bench, columns: &[&str], one: &str, two: &str) {
    t.raw
        .execute(&format!(
            "CREATE TABLE held AS SELECT {} FROM secret_version WHERE {one}",
            columns.join(", ")
        ))
        .await;
    let set = |from: &str| {
        let part = |column: &&str| format!("{column} = (SELECT {column} FROM {from})");
        columns.iter().map(part).collect::<Vec<_>>().join(", ")
    };
    let other = format!("secret_version s WHERE {two}");
    assert_eq!(t.raw.execute(&format!("UPDATE secret_version SET {} WHERE {one}", set(&other))).await, 1);
    assert_eq!(t.raw.execute(&format!("UPDATE secret_version SET {} WHERE {two}", set("held"))).await, 1);
    t.raw.execute("DROP TABLE held").await;
}

fn of(tenant: &str, at: &str, version: i64) -> String {
    format!(
        "secret_id = (SELECT id FROM secret WHERE tenant_id = '{tenant}' AND path = '{at}') AND version = {version} \
         AND tenant_id = '{tenant}'"
    )
}

contract! {
    async fn one_path_in_two_tenants_is_two_secrets(t: Bench) {
        t.put("app/db", json!({"of": "acme"})).await;
        let other = t.admin_of(OTHER);
        let secrets = t.vault.secrets(&other);
        assert_eq!(code(secrets.get(&path("app/db"), None).await), Code::SecretNotFound);
        assert!(secrets.list(ListFilter { include_deleted: true, ..ListFilter::default() }).await.unwrap().items.is_empty());
        assert!(secrets.put(&path("app/db"), write(json!({"of": "other"}))).await.unwrap().created);
        assert_eq!(t.get("app/db").await.unwrap(), json!({"of": "acme"}));
        secrets.delete(&path("app/db"), true).await.unwrap();
        assert_eq!(t.get("app/db").await.unwrap(), json!({"of": "acme"}));
    }

    async fn a_connection_that_served_a_tenant_serves_it_again_without_being_told(t: Bench) {
        t.put("app/db", json!({"k": "v"})).await;
        let reads = async |count: usize| {
            for _ in 0..count {
                t.get("app/db").await.unwrap();
            }
            t.vault.statistics(&t.admin()).await.unwrap()
        };
        let (before, after) = (reads(5).await, reads(100).await);
        // Which connection of the pool a read gets is chance, and each may have served somebody else before.
        let handovers = after.database_handovers - before.database_handovers;
        assert!(handovers <= 4, "{handovers} handovers for 100 reads of one tenant");
        let trips = after.database_round_trips - before.database_round_trips;
        if t.scratch.is_some() {
            assert!((100..=800).contains(&trips), "{trips} round trips for 100 reads and their records");
        } else {
            assert_eq!(trips, 0);
        }
    }

    async fn sec_c3_no_identifier_of_one_tenant_means_anything_in_another(t: Bench) {
        let admin = t.admin();
        let (made, binding) = t.grant("user:u", "**", &["admin"]).await;
        let ca = pki::root(&t.vault, &admin, "Top").await;
        pki::role(&t.vault, &admin, "web", &ca.id).await;
        let wanted = || IssueWrite { common_name: Some("a.svc.test".to_owned()), ..IssueWrite::default() };
        let leaf = t.vault.pki(&admin).issue("web", wanted()).await.unwrap();
        let before = t.raw.dump_all().await.len();

        let other = t.admin_of(OTHER);
        let policies = t.vault.policies(&other);
        assert_eq!(code(policies.read(&made.id).await), Code::PolicyNotFound);
        assert_eq!(code(policies.bindings(&made.id).await), Code::PolicyNotFound);
        assert_eq!(code(policies.replace(&made.id, policy("x", &[("a", &["read"])])).await), Code::PolicyNotFound);
        assert_eq!(code(policies.patch(&made.id, PolicyPatch::default()).await), Code::PolicyNotFound);
        assert_eq!(code(policies.delete(&made.id, true).await), Code::PolicyNotFound);
        assert_eq!(code(policies.bind(&made.id, bind_user("user:v")).await), Code::PolicyNotFound);
        assert_eq!(code(policies.unbind(&made.id, &binding.id).await), Code::BindingNotFound);
        assert!(policies.list(true, None, None).await.unwrap().items.is_empty());

        let pki = t.vault.pki(&other);
        assert_eq!(code(pki.ca(&ca.id).await), Code::CaNotFound);
        assert_eq!(code(pki.ca_certificate(&ca.id).await), Code::CaNotFound);
        assert_eq!(code(pki.build_crl(&ca.id).await), Code::CaNotFound);
        assert_eq!(code(pki.create_ca(pki::below(&ca, "Mine")).await), Code::CaNotFound);
        assert_eq!(code(pki.create_role(pki::role_write("mine", &ca.id)).await), Code::CaNotFound);
        assert_eq!(code(pki.role("web").await), Code::RoleNotFound);
        assert_eq!(code(pki.patch_role("web", RolePatch::default()).await), Code::RoleNotFound);
        assert_eq!(code(pki.delete_role("web").await), Code::RoleNotFound);
        assert_eq!(code(pki.issue("web", wanted()).await), Code::RoleNotFound);
        assert_eq!(code(pki.certificate(&leaf.id).await), Code::CertificateNotFound);
        assert_eq!(code(pki.certificate_with_key(&leaf.id).await), Code::CertificateNotFound);
        assert_eq!(code(pki.revoke(pki::revocation(&leaf.serial_number)).await), Code::CertificateNotFound);
        assert!(pki.cas(None, None).await.unwrap().items.is_empty());
        assert!(pki.roles(None, None).await.unwrap().items.is_empty());
        let of_ca = CertificateFilter { ca_id: Some(ca.id.clone()), include_revoked: true, ..CertificateFilter::default() };
        assert!(pki.certificates(of_ca).await.unwrap().items.is_empty());

        // Nothing happened, and nobody sees the other's trail.
        assert!(t.raw.dump_all().await.len() > before, "the tries themselves are recorded");
        assert_eq!(t.vault.pki(&admin).certificate(&leaf.id).await.unwrap().status, "active");
        assert_eq!(t.vault.policies(&admin).read(&made.id).await.unwrap().bindings, [binding]);
        let logs = t.vault.audit(&other).query(AuditFilter { limit: Some(1000), ..AuditFilter::default() }).await.unwrap().items;
        assert!(logs.len() >= 20 && logs.iter().all(|log| log.tenant_id == OTHER && log.identity_id == "user:admin"));
        let own_role = t.vault.pki(&other).create_ca(pki::root_write("Top")).await.unwrap();
        assert_ne!(own_role.id, ca.id, "the name is free in each tenant");
    }

    async fn sec_c3_a_cursor_of_one_tenant_leads_nowhere_in_another(t: Bench) {
        let (admin, other) = (t.admin(), t.admin_of(OTHER));
        for ctx in [&admin, &other] {
            for at in ["a", "b"] {
                t.vault.secrets(ctx).put(&path(at), any()).await.unwrap();
                t.vault.policies(ctx).create(policy(at, &[("a", &["read"])])).await.unwrap();
                let ca = pki::root(&t.vault, ctx, at).await;
                pki::role(&t.vault, ctx, at, &ca.id).await;
            }
        }
        let secrets = |cursor| ListFilter { limit: Some(1), cursor, ..ListFilter::default() };
        let cursor = t.vault.secrets(&admin).list(secrets(None)).await.unwrap().cursor;
        assert!(cursor.is_some());
        assert_eq!(code(t.vault.secrets(&other).list(secrets(cursor.clone())).await), Code::InvalidCursor);
        t.vault.secrets(&admin).list(secrets(cursor)).await.unwrap();

        let cursor = t.vault.policies(&admin).list(false, Some(1), None).await.unwrap().cursor;
        assert!(cursor.is_some());
        assert_eq!(code(t.vault.policies(&other).list(false, Some(1), cursor).await), Code::InvalidCursor);

        let logs = |cursor| AuditFilter { limit: Some(1), cursor, ..AuditFilter::default() };
        let cursor = t.vault.audit(&admin).query(logs(None)).await.unwrap().cursor;
        assert!(cursor.is_some());
        assert_eq!(code(t.vault.audit(&other).query(logs(cursor)).await), Code::InvalidCursor);

        let cursor = t.vault.pki(&admin).cas(Some(1), None).await.unwrap().cursor;
        assert!(cursor.is_some());
        assert_eq!(code(t.vault.pki(&other).cas(Some(1), cursor).await), Code::InvalidCursor);
        let cursor = t.vault.pki(&admin).roles(Some(1), None).await.unwrap().cursor;
        assert!(cursor.is_some());
        assert_eq!(code(t.vault.pki(&other).roles(Some(1), cursor).await), Code::InvalidCursor);
        let filter = |cursor| CertificateFilter { limit: Some(1), cursor, ..CertificateFilter::default() };
        let cursor = t.vault.pki(&admin).certificates(filter(None)).await.unwrap().cursor;
        assert!(cursor.is_some());
        assert_eq!(code(t.vault.pki(&other).certificates(filter(cursor)).await), Code::InvalidCursor);
    }

    async fn sec_c4_keys_roles_and_issuers_that_are_cached_serve_their_own_tenant_alone(t: Bench) {
        let (admin, other) = (t.admin(), t.admin_of(OTHER));
        let mut cas = Vec::new();
        for ctx in [&admin, &other] {
            let ca = pki::root(&t.vault, ctx, "Top").await;
            pki::role(&t.vault, ctx, "web", &ca.id).await;
            t.vault.secrets(ctx).put(&path("same"), write(json!({"of": ctx.tenant().as_str()}))).await.unwrap();
            cas.push(ca);
        }
        // Only the second tenant's role allows another name.
        let wider = RolePatch { allowed_domains: Some(vec!["*.wide.test".to_owned()]), ..RolePatch::default() };
        t.vault.pki(&other).patch_role("web", wider).await.unwrap();
        let wanted = |name: &str| IssueWrite { common_name: Some(name.to_owned()), ..IssueWrite::default() };
        for _ in 0..3 {
            for (ctx, ca, good, bad) in [
                (&admin, &cas[0], "a.svc.test", "a.wide.test"),
                (&other, &cas[1], "a.wide.test", "a.svc.test"),
            ] {
                let value = t.vault.secrets(ctx).get(&path("same"), None).await.unwrap();
                assert_eq!(value.data.decode::<Value>().unwrap(), json!({"of": ctx.tenant().as_str()}));
                let issued = t.vault.pki(ctx).issue("web", wanted(good)).await.unwrap();
                assert_eq!(t.vault.pki(ctx).certificate(&issued.id).await.unwrap().ca_id, ca.id);
                assert_eq!(code(t.vault.pki(ctx).issue("web", wanted(bad)).await), Code::ValidationError);
            }
            // The issuer is known by now, to its own tenant.
            assert_eq!(code(t.vault.pki(&other).create_ca(pki::below(&cas[0], "Mine")).await), Code::CaNotFound);
            assert_eq!(code(t.vault.pki(&other).build_crl(&cas[0].id).await), Code::CaNotFound);
        }
    }

    async fn sec_c4_a_grant_in_one_tenant_is_none_in_another(t: Bench) {
        t.put("a", json!({})).await;
        t.vault.secrets(&t.admin_of(OTHER)).put(&path("a"), any()).await.unwrap();
        t.grant("user:u", "**", &["admin"]).await;
        // The same name, the same request, right after one another: no decision is carried over.
        for _ in 0..3 {
            t.vault.secrets(&t.user("user:u")).get(&path("a"), None).await.unwrap();
            let twin = t.ctx(Caller::user("user:u", tenant(OTHER)).unwrap().with_scopes([Scope::Admin]));
            assert_eq!(code(t.vault.secrets(&twin).get(&path("a"), None).await), Code::AccessDenied);
            assert!(t.vault.secrets(&twin).list(ListFilter::default()).await.unwrap().items.is_empty());
        }
    }

    async fn sec_c5_a_ciphertext_that_is_moved_does_not_open(t: Bench) {
        let other = t.admin_of(OTHER);
        for at in ["a", "b"] {
            t.put(at, json!({"canary": at})).await;
            t.put(at, json!({"canary": at})).await;
            t.vault.secrets(&other).put(&path(at), write(json!({"canary": at}))).await.unwrap();
        }
        let sealed: &[&str] = &["ciphertext", "wrapped_key", "key_id"];
        let moves = [
            ("another path", sealed, of(ACME, "a", 2), of(ACME, "b", 2)),
            ("another version", sealed, of(ACME, "a", 1), of(ACME, "a", 2)),
            ("another tenant", sealed, of(ACME, "a", 1), of(OTHER, "a", 1)),
            ("only the ciphertext", &sealed[..1], of(ACME, "a", 1), of(ACME, "a", 2)),
            ("only the key", &sealed[1..2], of(ACME, "a", 1), of(ACME, "a", 2)),
        ];
        for (what, columns, one, two) in moves {
            swap(&t, columns, &one, &two).await;
            let mut failed = 0;
            for (ctx, at, version) in [(t.admin(), "a", 1), (t.admin(), "a", 2), (t.admin(), "b", 2), (t.admin_of(OTHER), "a", 1)] {
                match t.vault.secrets(&ctx).get(&path(at), Some(version)).await {
                    Ok(value) => assert_eq!(value.data.decode::<Value>().unwrap(), json!({"canary": at})),
                    Err(error) => {
                        assert_eq!(error.code(), Code::InternalError, "{what}");
                        assert!(!format!("{error} {:?}", error.details()).contains("canary"));
                        let outcomes: Vec<_> = t.trail(&ctx).await.into_iter().map(|r| r.outcome).collect();
                        assert_eq!(outcomes, ["internal_error"]);
                        failed += 1;
                    }
                }
            }
            assert_eq!(failed, 2, "{what}: both ends of the move are dead");
            swap(&t, columns, &one, &two).await;
            t.get("a").await.unwrap();
        }
    }

    async fn sec_c5_a_row_that_is_renamed_does_not_open(t: Bench) {
        t.put("a", json!({"k": "v"})).await;
        assert_eq!(t.raw.execute("UPDATE secret SET path = 'mine' WHERE path = 'a'").await, 1);
        t.grant("user:u", "mine", &["read"]).await;
        assert_eq!(code(t.vault.secrets(&t.user("user:u")).get(&path("mine"), None).await), Code::InternalError);
        t.raw.execute("UPDATE secret SET path = 'a' WHERE path = 'mine'").await;
        assert_eq!(t.get("a").await.unwrap(), json!({"k": "v"}));
        // Nor does one bit of it change unnoticed.
        let flipped = match &t.folder {
            Some(_) => "UPDATE secret_version SET ciphertext = CAST(substr(ciphertext, 1, 20) || CASE substr(ciphertext, 21, 1) WHEN X'00' THEN X'01' ELSE X'00' END || substr(ciphertext, 22) AS BLOB)",
            None => "UPDATE secret_version SET ciphertext = set_byte(ciphertext, 20, get_byte(ciphertext, 20) # 1)",
        };
        assert_eq!(t.raw.execute(flipped).await, 1);
        assert_eq!(code(t.get("a").await), Code::InternalError);
    }

    async fn sec_c5_the_key_of_a_ca_does_not_open_in_another(t: Bench) {
        let admin = t.admin();
        let one = pki::root(&t.vault, &admin, "One").await;
        let two = pki::root(&t.vault, &admin, "Two").await;
        for column in ["key_ciphertext", "key_wrapped_key"] {
            let from = format!("(SELECT c.{column} FROM pki_ca c WHERE c.id = '{}')", one.id);
            t.raw.execute(&format!("UPDATE pki_ca SET {column} = {from} WHERE id = '{}'", two.id)).await;
        }
        // A vault that has not read the CA yet.
        let fresh = t.replica().await;
        assert_eq!(code(fresh.pki(&t.admin()).build_crl(&two.id).await), Code::InternalError);
        fresh.pki(&t.admin()).build_crl(&one.id).await.unwrap();
        fresh.close().await;
    }

    async fn sec_c5_a_row_cut_short_or_in_another_column_is_an_error_and_no_more(t: Bench) {
        t.put("a", json!({"canary": 1})).await;
        let admin = t.admin();
        let ca = pki::root(&t.vault, &admin, "Top").await;
        let keeps = RolePatch {
            allowed_domains: Some(vec!["*.svc.test".to_owned()]),
            store_private_keys: Some(true),
            ..RolePatch::default()
        };
        t.vault.pki(&admin).create_role(RoleWrite::new("kept", &ca.id, keeps)).await.unwrap();
        let wanted = IssueWrite { common_name: Some("a.svc.test".to_owned()), ..IssueWrite::default() };
        let leaf = t.vault.pki(&admin).issue("kept", wanted).await.unwrap();
        t.vault.pki(&admin).certificate_with_key(&leaf.id).await.unwrap();
        let sealed = [
            ("secret_version", "ciphertext", "wrapped_key"),
            ("pki_certificate", "key_ciphertext", "key_wrapped_key"),
            ("pki_ca", "key_ciphertext", "key_wrapped_key"),
        ];
        for (table, ciphertext, wrap) in sealed {
            let short = |column: &str, bytes: u32| format!("{column} = substr({column}, 1, {bytes})");
            let mut changes: Vec<String> =
                [0, 1, 12, 13, 28, 29].into_iter().flat_map(|n| [short(ciphertext, n), short(wrap, n)]).collect();
            changes.push(format!("{ciphertext} = {wrap}, {wrap} = {ciphertext}"));
            let which = format!("{wrap} IS NOT NULL");
            t.raw.execute(&format!("CREATE TABLE held AS SELECT {ciphertext}, {wrap} FROM {table} WHERE {which}")).await;
            for change in changes {
                t.raw.execute(&format!("UPDATE {table} SET {change} WHERE {which}")).await;
                // One that has read nothing yet.
                let fresh = t.replica().await;
                let error = match table {
                    "secret_version" => fresh.secrets(&admin).get(&path("a"), None).await.map(drop),
                    "pki_certificate" => fresh.pki(&admin).certificate_with_key(&leaf.id).await.map(drop),
                    _ => fresh.pki(&admin).build_crl(&ca.id).await.map(drop),
                };
                assert_eq!(code(error), Code::InternalError, "{table}: {change}");
                fresh.close().await;
                let back = |column: &str| format!("{column} = (SELECT held.{column} FROM held)");
                t.raw.execute(&format!("UPDATE {table} SET {}, {} WHERE {which}", back(ciphertext), back(wrap))).await;
            }
            t.raw.execute("DROP TABLE held").await;
        }
        t.get("a").await.unwrap();
        t.vault.pki(&admin).build_crl(&ca.id).await.unwrap();
    }

    async fn sec_c5_keys_above_the_rows_do_not_open_elsewhere(t: Bench) {
        t.put("a", json!({"canary": 1})).await;
        t.vault.secrets(&t.admin_of(OTHER)).put(&path("a"), any()).await.unwrap();
        let far = Caller::user("user:far", tenant("tnt_far")).unwrap().with_scopes([Scope::Admin]);
        let far = far.with_roles([scaivault_core::Role::TenantAdmin]);
        let far = t.ctx(far.with_partner(PartnerId::parse("ptn_far").unwrap()));
        t.vault.secrets(&far).put(&path("a"), any()).await.unwrap();
        let of = |table: &str, owner: &str, change: &str| {
            let column = if table == "tenant_key" { "tenant_id" } else { "partner_id" };
            format!("UPDATE {table} SET {change} WHERE {column} = '{owner}'")
        };
        let wrap_of = |table: &str, column: &str, owner: &str| {
            format!("wrapped = (SELECT o.wrapped FROM {table} o WHERE o.{column} = '{owner}')")
        };
        t.raw.execute("CREATE TABLE held_t AS SELECT id, wrapped, partner_key_id FROM tenant_key").await;
        t.raw.execute("CREATE TABLE held_p AS SELECT id, wrapped FROM partner_key").await;
        let partner = t.raw.texts(&format!("SELECT partner_id FROM tenant WHERE tenant_id = '{ACME}'")).await.remove(0);
        let changes = [
            of("tenant_key", ACME, &wrap_of("tenant_key", "tenant_id", OTHER)),
            of("tenant_key", ACME, "wrapped = substr(wrapped, 1, 20)"),
            of("tenant_key", ACME, "version = 7"),
            of("tenant_key", ACME, "partner_key_id = (SELECT id FROM partner_key WHERE partner_id = 'ptn_far')"),
            of("partner_key", &partner, &wrap_of("partner_key", "partner_id", "ptn_far")),
            of("partner_key", &partner, "wrapped = substr(wrapped, 1, 20)"),
            of("partner_key", &partner, "wrapped = substr(wrapped, 1, 0)"),
            of("partner_key", &partner, "version = 7"),
        ];
        let before = t.raw.count("tenant_key").await;
        for change in changes {
            assert_eq!(t.raw.execute(&change).await, 1, "{change}");
            let fresh = t.replica().await;
            for error in [
                fresh.secrets(&t.admin()).get(&path("a"), None).await.map(drop),
                fresh.secrets(&t.admin()).put(&path("b"), any()).await.map(drop),
            ] {
                let error = refusal(error);
                assert!(matches!(error.code(), Code::InternalError | Code::ServiceUnavailable), "{change}: {error:?}");
                assert!(!format!("{error} {:?}", error.details()).contains("canary"));
            }
            fresh.secrets(&far).get(&path("a"), None).await.unwrap();
            fresh.close().await;
            for (table, columns) in [("held_t", &["wrapped", "partner_key_id"][..]), ("held_p", &["wrapped"])] {
                let real = if table == "held_t" { "tenant_key" } else { "partner_key" };
                let sets = columns.iter().map(|c| format!("{c} = (SELECT h.{c} FROM {table} h WHERE h.id = {real}.id)"));
                let sets = sets.collect::<Vec<_>>().join(", ");
                t.raw.execute(&format!("UPDATE {real} SET version = 1, {sets}")).await;
            }
        }
        assert_eq!(t.raw.count("tenant_key").await, before, "no key was made because one did not open");
        let fresh = t.replica().await;
        fresh.secrets(&t.admin()).get(&path("a"), None).await.unwrap();
        fresh.close().await;
        t.raw.execute("DROP TABLE held_t").await;
        t.raw.execute("DROP TABLE held_p").await;
    }

    async fn acting_on_another_tenant_is_refused_and_recorded_at_home(t: Bench) {
        t.vault.secrets(&t.admin_of(OTHER)).put(&path("a"), any()).await.unwrap();
        let there = t.raw.count(&format!("audit_trail WHERE tenant_id = '{OTHER}'")).await;
        let ctx = t.admin().for_tenant(tenant(OTHER));
        assert_eq!(code(t.vault.secrets(&ctx).get(&path("a"), None).await), Code::TenantAccessDenied);
        assert_eq!(code(t.vault.secrets(&ctx).list(ListFilter::default()).await), Code::TenantAccessDenied);
        assert_eq!(code(t.vault.audit(&ctx).query(AuditFilter::default()).await), Code::TenantAccessDenied);
        assert_eq!(code(t.vault.pki(&ctx).cas(None, None).await), Code::TenantAccessDenied);
        let trail = t.trail(&ctx).await;
        assert_eq!(trail.len(), 4);
        for record in trail {
            assert_eq!((record.tenant.as_str(), record.acting_tenant.as_str()), (ACME, ACME));
            assert_eq!(record.outcome, "tenant_access_denied");
            assert_eq!(record.extra["target_tenant_id"], json!(OTHER));
        }
        assert_eq!(t.raw.count(&format!("audit_trail WHERE tenant_id = '{OTHER}'")).await, there);
        // His own tenant by name is his own.
        t.put("mine", json!({})).await;
        let ctx = t.admin().for_tenant(tenant(ACME));
        t.vault.secrets(&ctx).get(&path("mine"), None).await.unwrap();
    }

    async fn a_token_that_names_another_partner_than_the_tenants_is_refused(t: Bench) {
        let with = |partner: &str| {
            let caller = user("user:a").with_scopes([Scope::Admin]).with_roles([scaivault_core::Role::TenantAdmin]);
            t.ctx(caller.with_partner(PartnerId::parse(partner).unwrap()))
        };
        t.vault.secrets(&with("ptn_one")).put(&path("a"), any()).await.unwrap();
        assert_eq!(t.raw.texts("SELECT partner_id FROM tenant").await, ["ptn_one"]);
        let error = refusal(t.vault.secrets(&with("ptn_two")).get(&path("a"), None).await);
        assert_eq!(error.code(), Code::TenantAccessDenied);
        let fresh = t.replica().await;
        assert_eq!(code(fresh.secrets(&with("ptn_two")).get(&path("a"), None).await), Code::TenantAccessDenied);
        fresh.close().await;
        t.vault.secrets(&with("ptn_one")).get(&path("a"), None).await.unwrap();
        assert_eq!(t.raw.texts("SELECT partner_id FROM partner_key").await, ["ptn_one"]);
    }
}
