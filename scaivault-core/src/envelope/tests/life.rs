//! Rotation of a tenant's key.

use std::time::Duration;

use super::{
    super::{
        store::{SealedTable, sql},
        types::Progress,
    },
    ground::{
        Ground, Load, authority, ciphertexts, execute, fill, get, leaf, operator, put, rows, tenant,
        tenant_keys, user,
    },
    over_both,
};
use crate::{Caller, Code, Role, Scope, Vault, limits, storage::query};

const TTL: Duration = Duration::from_secs(60);
/// Longer than any key is kept after it was last in use.
const GRACE: Duration = Duration::from_secs(91);

async fn rotate(vault: &Vault, name: &str) -> super::super::Rotation {
    let ctx = operator(vault);
    vault.keys(&ctx).rotate_tenant(&tenant(name)).await.unwrap()
}

async fn under(vault: &Vault, key_id: &str) -> i64 {
    let count = query("SELECT count(*) FROM secret_version WHERE key_id = $1").bind(key_id);
    rows::<(i64,)>(vault, count).await[0].0
}

over_both! {
    async fn reads_and_writes_go_on_over_two_replicas_and_no_ciphertext_changes(ground: Ground) {
        let (a, b) = (ground.replica(TTL).await, ground.replica(TTL).await);
        let acme = tenant("tnt_acme");
        fill(&a, &acme, 700).await;
        let before = ciphertexts(&a).await;
        let load = Load::start(&[&a, &b], &acme, 700);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let rotation = rotate(&a, "tnt_acme").await;
        assert!(rotation.made && rotation.rewrapped >= 700 && rotation.broken == 0, "{rotation:?}");
        put(&b, &user(&b, &acme), "late/one", "value").await.unwrap();
        let keys = tenant_keys(&a, &acme).await;
        assert_eq!((keys.len(), keys.last()), (2, Some(&rotation.key_id)));
        a.run_due_jobs().await.unwrap();
        assert!(load.finish().await > 50);
        let after = ciphertexts(&a).await;
        assert!(before.iter().all(|(place, bytes)| after[place] == *bytes), "no ciphertext was rewritten");

        // A replica that has not come upon the new key yet would still seal with the old one.
        b.close().await;
        let b = ground.replica(TTL).await;
        a.run_due_jobs().await.unwrap();
        assert_eq!(under(&a, &keys[0]).await, 0);
        assert_eq!(tenant_keys(&a, &acme).await.len(), 2, "its time has not come");
        ground.clock.forward(GRACE);
        b.run_due_jobs().await.unwrap();
        assert_eq!(tenant_keys(&a, &acme).await, [rotation.key_id]);
        for vault in [&a, &b] {
            assert_eq!(get(vault, &user(vault, &acme), "late/one").await.unwrap(), "value");
            assert_eq!(get(vault, &user(vault, &acme), "app/s00042").await.unwrap(), "value 42");
        }
    }

    async fn a_rotation_that_was_cut_between_batches_goes_on(ground: Ground) {
        let vault = ground.replica(TTL).await;
        let acme = tenant("tnt_acme");
        fill(&vault, &acme, 3 * limits::REWRAP_BATCH).await;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn({
            let (vault, acme) = (vault.clone(), acme.clone());
            async move {
                let ctx = operator(&vault);
                let watch = |progress: Progress| {
                    let _ = tell.send(progress);
                };
                vault.keys(&ctx).watched(&watch).rotate_tenant(&acme).await
            }
        });
        let first = told.recv().await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!((first.table, first.total), ("secret_version", 3 * limits::REWRAP_BATCH as u64));
        let keys = tenant_keys(&vault, &acme).await;
        assert!(under(&vault, &keys[0]).await > 0 && under(&vault, &keys[1]).await > 0, "it was cut half-way");
        assert_eq!(get(&vault, &user(&vault, &acme), "app/s00000").await.unwrap(), "value 0");

        // Another process goes on with it, and makes no third key.
        vault.close().await;
        let vault = ground.replica(TTL).await;
        let rotation = rotate(&vault, "tnt_acme").await;
        assert!(!rotation.made && rotation.rewrapped > 0, "{rotation:?}");
        assert_eq!(tenant_keys(&vault, &acme).await, keys);
        assert_eq!(under(&vault, &keys[0]).await, 0);
        let last = format!("app/s{:05}", 3 * limits::REWRAP_BATCH - 1);
        assert!(get(&vault, &user(&vault, &acme), &last).await.is_ok());
        // Once that is done, the next is a rotation of its own.
        assert!(rotate(&vault, "tnt_acme").await.made);
    }

    async fn an_old_key_stays_while_a_row_or_a_transaction_needs_it(ground: Ground) {
        let vault = ground.replica(TTL).await;
        let acme = tenant("tnt_acme");
        put(&vault, &user(&vault, &acme), "app/db", "one").await.unwrap();
        let stale = ground.replica_that_lags(TTL).await;
        get(&stale, &user(&stale, &acme), "app/db").await.unwrap();
        let rotation = rotate(&vault, "tnt_acme").await;
        let old = rotation.old[0].id.clone();
        assert!(!rotation.old[0].destroyed && rotation.old[0].destroy_after.is_some(), "{rotation:?}");

        // Its clock runs ahead of a replica that seals with it still: the row keeps it, whatever the clock says.
        ground.clock.forward(GRACE);
        put(&stale, &user(&stale, &acme), "app/late", "two").await.unwrap();
        assert_eq!(under(&vault, &old).await, 1);
        let ctx = operator(&vault);
        let settled = vault.keys(&ctx).settle(&acme).await.unwrap();
        assert_eq!((settled.rewrapped, settled.old[0].destroyed), (1, false), "its time begins anew");
        assert_eq!(get(&stale, &user(&stale, &acme), "app/late").await.unwrap(), "two");

        // A transaction that has sealed under it and has not committed yet.
        ground.clock.forward(GRACE);
        let mut tx = vault.inner().door.job_db().begin().await.unwrap();
        let copy = query(
            "INSERT INTO secret_version (tenant_id, secret_id, version, ciphertext, wrapped_key, key_id, created_at, created_by) \
             SELECT tenant_id, secret_id, 99, ciphertext, wrapped_key, $1, created_at, created_by FROM secret_version \
             WHERE version = 1 AND secret_id = (SELECT id FROM secret WHERE path = 'app/db')",
        );
        assert_eq!(tx.execute(copy.bind(&old)).await.unwrap(), 1);
        let task = tokio::spawn({
            let (vault, acme) = (vault.clone(), acme.clone());
            async move {
                let ctx = operator(&vault);
                vault.keys(&ctx).settle(&acme).await.unwrap()
            }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        tx.commit().await.unwrap();
        let settled = task.await.unwrap();
        assert!(!settled.old[0].destroyed, "{settled:?}");
        assert!(tenant_keys(&vault, &acme).await.contains(&old));
        assert_eq!(execute(&vault, query("DELETE FROM secret_version WHERE version = 99")).await, 1);

        let settled = vault.keys(&ctx).settle(&acme).await.unwrap();
        let settled = match settled.old[0].destroyed {
            true => settled,
            false => {
                ground.clock.forward(GRACE);
                vault.keys(&ctx).settle(&acme).await.unwrap()
            }
        };
        assert!(settled.old[0].destroyed, "{settled:?}");
        assert_eq!(tenant_keys(&vault, &acme).await, [rotation.key_id]);
    }

    async fn keys_of_authorities_and_certificates_are_wrapped_anew_too(ground: Ground) {
        let (a, b) = (ground.replica(TTL).await, ground.replica(TTL).await);
        let acme = tenant("tnt_acme");
        let ctx = user(&a, &acme);
        let ca = authority(&a, &ctx).await;
        let kept = a.pki(&ctx).issue("kept", leaf()).await.unwrap();
        b.pki(&user(&b, &acme)).issue("kept", leaf()).await.unwrap();
        let before = ciphertexts(&a).await;
        let rotation = rotate(&a, "tnt_acme").await;
        assert_eq!(rotation.rewrapped, 4, "the keys of a CA and of two certificates, and that for serial numbers");
        assert_eq!(ciphertexts(&a).await, before);
        // A replica that has the CA in its cache goes on issuing, for as long as the cache lives.
        for vault in [&a, &b] {
            vault.pki(&user(vault, &acme)).issue("kept", leaf()).await.unwrap();
        }
        ground.clock.forward(GRACE);
        a.run_due_jobs().await.unwrap();
        ground.clock.forward(GRACE);
        a.run_due_jobs().await.unwrap();
        assert_eq!(tenant_keys(&a, &acme).await, [rotation.key_id]);
        let fresh = ground.replica(TTL).await;
        let ctx = user(&fresh, &acme);
        fresh.pki(&ctx).issue("kept", leaf()).await.unwrap();
        let (_, key) = fresh.pki(&ctx).certificate_with_key(&kept.id).await.unwrap();
        assert!(key.is_some());
        fresh.pki(&ctx).build_crl(&ca.id).await.unwrap();
    }

    async fn a_row_that_does_not_open_keeps_its_key_and_stops_nothing_else(ground: Ground) {
        let vault = ground.replica(TTL).await;
        let acme = tenant("tnt_acme");
        fill(&vault, &acme, 10).await;
        let spoil = "UPDATE secret_version SET wrapped_key = ciphertext WHERE secret_id = \
                     (SELECT id FROM secret WHERE path = 'app/s00003')";
        assert_eq!(execute(&vault, query(spoil)).await, 1);
        let rotation = rotate(&vault, "tnt_acme").await;
        assert_eq!((rotation.rewrapped, rotation.broken), (9, 1));
        assert_eq!(rotation.old[0].destroy_after, None);
        ground.clock.forward(GRACE);
        vault.run_due_jobs().await.unwrap();
        assert_eq!(tenant_keys(&vault, &acme).await.len(), 2);
        assert_eq!(get(&vault, &user(&vault, &acme), "app/s00004").await.unwrap(), "value 4");
    }

    async fn two_rotations_at_once_make_one_key(ground: Ground) {
        let (a, b) = (ground.replica(TTL).await, ground.replica(TTL).await);
        let acme = tenant("tnt_acme");
        fill(&a, &acme, 600).await;
        let (one, two) = tokio::join!(rotate(&a, "tnt_acme"), rotate(&b, "tnt_acme"));
        let keys = tenant_keys(&a, &acme).await;
        // The second either helps the first, or comes after it.
        assert!(one.made || two.made);
        assert_eq!(keys.len(), 1 + usize::from(one.made) + usize::from(two.made));
        assert_eq!(under(&a, keys.last().unwrap()).await, 600);
    }

    async fn a_row_that_does_not_open_does_not_end_all_rotation(ground: Ground) {
        let vault = ground.replica(TTL).await;
        let acme = tenant("tnt_acme");
        fill(&vault, &acme, 5).await;
        let spoil = "UPDATE secret_version SET wrapped_key = ciphertext WHERE secret_id = \
                     (SELECT id FROM secret WHERE path = 'app/s00003')";
        assert_eq!(execute(&vault, query(spoil)).await, 1);
        assert!(rotate(&vault, "tnt_acme").await.made);
        let second = rotate(&vault, "tnt_acme").await;
        assert!(second.made && second.rewrapped == 4 && second.broken == 1, "{second:?}");
        let keys = tenant_keys(&vault, &acme).await;
        assert_eq!((keys.len(), under(&vault, &keys[0]).await, under(&vault, &keys[2]).await), (3, 1, 4));
        ground.clock.forward(GRACE);
        vault.run_due_jobs().await.unwrap();
        assert_eq!(tenant_keys(&vault, &acme).await, [keys[0].clone(), keys[2].clone()]);
    }

    async fn what_is_found_under_a_drained_key_starts_its_time_anew(ground: Ground) {
        let (a, b) = (ground.replica(TTL).await, ground.replica_that_lags(TTL).await);
        let acme = tenant("tnt_acme");
        put(&b, &user(&b, &acme), "app/db", "one").await.unwrap();
        let old = rotate(&a, "tnt_acme").await.old[0].id.clone();
        put(&b, &user(&b, &acme), "app/late", "two").await.unwrap();
        assert_eq!(under(&a, &old).await, 1, "the other has not read the new key");
        ground.clock.forward(GRACE - Duration::from_secs(1));
        // Looked at in the moment after the batch, before whoever made it has said anything else.
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let task = tokio::spawn({
            let (a, acme, wait) = (a.clone(), acme.clone(), std::sync::Mutex::new(wait));
            async move {
                let ctx = operator(&a);
                let watch = |_: Progress| {
                    let _ = tell.send(());
                    let _ = tokio::task::block_in_place(|| wait.lock().unwrap().recv());
                };
                a.keys(&ctx).watched(&watch).settle(&acme).await.unwrap()
            }
        });
        told.recv().await.unwrap();
        let drained = query("SELECT drained_at FROM tenant_key WHERE id = $1").bind(&old);
        let drained = rows::<(crate::storage::Ts,)>(&a, drained).await[0].0.get();
        assert_eq!(drained, crate::storage::Ts::from(a.inner().clock.now()).get());
        drop(go);
        task.await.unwrap();
        ground.clock.forward(Duration::from_secs(2));
        a.run_due_jobs().await.unwrap();
        assert!(tenant_keys(&a, &acme).await.contains(&old), "it was read with its old wrap a moment ago");
        ground.clock.forward(GRACE);
        a.run_due_jobs().await.unwrap();
        assert!(!tenant_keys(&a, &acme).await.contains(&old));
    }

    async fn clocks_an_hour_apart_lose_nothing_and_a_replica_recovers_by_itself(ground: Ground) {
        let (a, late) = (ground.replica(TTL).await, ground.replica_that_lags(TTL).await);
        let acme = tenant("tnt_acme");
        let ctx = user(&late, &acme);
        put(&late, &ctx, "app/db", "one").await.unwrap();
        authority(&late, &ctx).await;
        late.pki(&ctx).issue("kept", leaf()).await.unwrap();
        rotate(&a, "tnt_acme").await;
        ground.clock.forward(Duration::from_secs(3600));
        a.run_due_jobs().await.unwrap();
        assert_eq!(tenant_keys(&a, &acme).await.len(), 1, "destroyed, by a clock that runs ahead");
        // The other still holds it, and the CA's key under it. What it seals is refused, not lost.
        let error = put(&late, &ctx, "app/new", "two").await.unwrap_err();
        assert_eq!((error.code(), error.details().retry_after), (Code::ServiceUnavailable, Some(Duration::from_secs(1))));
        put(&late, &ctx, "app/new", "two").await.unwrap();
        assert_eq!(late.pki(&ctx).issue("svc", leaf()).await.unwrap_err().code(), Code::ServiceUnavailable);
        late.pki(&ctx).issue("svc", leaf()).await.unwrap();
        for (path, value) in [("app/db", "one"), ("app/new", "two")] {
            assert_eq!(get(&late, &ctx, path).await.unwrap(), value);
            assert_eq!(get(&a, &user(&a, &acme), path).await.unwrap(), value);
        }
    }

    async fn what_is_deleted_for_good_takes_its_key_along(ground: Ground) {
        let vault = ground.replica(TTL).await;
        let acme = tenant("tnt_acme");
        let ctx = user(&vault, &acme);
        put(&vault, &ctx, "app/db", "one").await.unwrap();
        put(&vault, &ctx, "app/db", "two").await.unwrap();
        let wraps = query("SELECT wrapped_key FROM secret_version");
        let wraps = rows::<(Vec<u8>,)>(&vault, wraps).await;
        assert_eq!(wraps.len(), 2);
        let path = crate::secrets::SecretPath::parse("app/db").unwrap();
        // Also while a rotation is half done.
        let rotation = rotate(&vault, "tnt_acme").await;
        vault.secrets(&ctx).delete(&path, true).await.unwrap();
        assert!(rows::<(Vec<u8>,)>(&vault, query("SELECT wrapped_key FROM secret_version")).await.is_empty());
        ground.clock.forward(GRACE);
        vault.run_due_jobs().await.unwrap();
        assert_eq!(tenant_keys(&vault, &acme).await, [rotation.key_id]);
        if let Some(file) = ground.file() {
            vault.close().await;
            let bytes = std::fs::read(file).unwrap();
            for (wrap,) in wraps {
                assert!(!bytes.windows(wrap.len()).any(|at| at == wrap), "its bytes are not in the file");
            }
        }
    }

    async fn every_table_that_refers_to_a_tenant_key_is_wrapped_anew(ground: Ground) {
        let vault = ground.replica(TTL).await;
        let from = match ground.file() {
            Some(_) => "SELECT DISTINCT m.name FROM sqlite_schema m, pragma_foreign_key_list(m.name) f \
                        WHERE f.\"table\" = 'tenant_key'",
            None => "SELECT DISTINCT CAST(conrelid::regclass AS TEXT) FROM pg_constraint \
                     WHERE confrelid = 'tenant_key'::regclass",
        };
        let mut tables: Vec<_> = rows::<(String,)>(&vault, query(from)).await.into_iter().map(|(t,)| t).collect();
        tables.sort();
        let mut known: Vec<_> = SealedTable::ALL.map(SealedTable::name).into();
        known.sort_unstable();
        assert_eq!(tables, known, "a new table with sealed columns belongs into `SealedTable` and its statements");
        for table in known {
            for statement in [sql::DESTROY_TENANT_KEY, sql::UNDER_TENANT_KEY] {
                assert!(statement.contains(table), "{table}");
            }
        }
    }

    async fn keys_are_for_operators_and_every_act_is_recorded(ground: Ground) {
        let vault = ground.replica(TTL).await;
        let acme = tenant("tnt_acme");
        put(&vault, &user(&vault, &acme), "app/db", "one").await.unwrap();
        let plain = user(&vault, &acme);
        assert_eq!(vault.keys(&plain).status().await.unwrap_err().code(), Code::AccessDenied);
        assert_eq!(vault.keys(&plain).rotate_tenant(&acme).await.unwrap_err().code(), Code::AccessDenied);
        assert_eq!(vault.keys(&plain).rotate_root().await.unwrap_err().code(), Code::AccessDenied);
        let scopeless = Caller::user("user:root", tenant("tnt_ops")).unwrap().with_roles([Role::SuperAdmin]);
        let ctx = vault.ctx(scopeless.clone()).unwrap();
        assert_eq!(vault.keys(&ctx).status().await.unwrap_err().code(), Code::InsufficientScope);
        let purge = vault.ctx(Caller::system("secret-purge", acme.clone()).unwrap()).unwrap();
        assert_eq!(vault.keys(&purge).rotate_tenant(&acme).await.unwrap_err().code(), Code::AccessDenied);
        assert_eq!(tenant_keys(&vault, &acme).await.len(), 1);

        let ctx = vault.ctx(scopeless.with_scopes([Scope::Admin])).unwrap();
        let keys = vault.keys(&ctx);
        let nobody = keys.rotate_tenant(&tenant("tnt_nobody")).await.unwrap_err();
        assert_eq!(nobody.code(), Code::NotFound);
        keys.rotate_tenant(&acme).await.unwrap();
        let trail = "SELECT tenant_id, identity_id FROM (SELECT tenant_id, identity_id, action, request_id, success FROM audit_log UNION ALL \
             SELECT tenant_id, identity_id, action, request_id, success FROM audit_intake) AS t \
             WHERE action = 'key_rotate' AND request_id = $1 AND success";
        let trail = rows::<(String, String)>(&vault, query(trail).bind(ctx.request_id())).await;
        assert!(trail.contains(&("tnt_ops".into(), "user:root".into())), "{trail:?}");
        let own = trail.iter().filter(|(tenant, who)| tenant == "tnt_acme" && who == "system:key-rotation").count();
        assert!(own >= 3, "the switch, the batch, the state: {trail:?}");
    }
}
