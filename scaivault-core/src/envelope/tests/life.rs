//! Rotation of a tenant's key.

use std::time::Duration;

use super::{
    super::types::Progress,
    ground::{Ground, Load, ciphertexts, execute, fill, get, operator, put, rows, tenant, tenant_keys, user},
    over_both,
};
use crate::{Caller, Code, Role, Scope, Vault, limits, pki, storage::query};

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
        let stale = ground.replica(TTL).await;
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
        let create = pki::CaCreate {
            name: "acme-root".into(),
            common_name: "Acme Root".into(),
            ca_type: pki::CaType::Root,
            parent_ca_id: None,
            key_type: Some(pki::KeyType::Ec),
            key_size: Some(256),
            validity_days: None,
            subject: Default::default(),
            max_path_length: None,
        };
        let ca = a.pki(&ctx).create_ca(create).await.unwrap();
        let settings = pki::RolePatch {
            allowed_domains: Some(vec!["*.acme.example".into()]),
            store_private_keys: Some(true),
            ..Default::default()
        };
        let role = pki::RoleWrite::new("svc", &ca.id, settings);
        a.pki(&ctx).create_role(role).await.unwrap();
        let issue = || pki::IssueWrite { common_name: Some("a.acme.example".into()), ..Default::default() };
        let kept = a.pki(&ctx).issue("svc", issue()).await.unwrap();
        b.pki(&user(&b, &acme)).issue("svc", issue()).await.unwrap();
        let before = ciphertexts(&a).await;
        let rotation = rotate(&a, "tnt_acme").await;
        assert_eq!(rotation.rewrapped, 3);
        assert_eq!(ciphertexts(&a).await, before);
        // A replica that has the CA in its cache goes on issuing, for as long as the cache lives.
        for vault in [&a, &b] {
            vault.pki(&user(vault, &acme)).issue("svc", issue()).await.unwrap();
        }
        ground.clock.forward(GRACE);
        a.run_due_jobs().await.unwrap();
        ground.clock.forward(GRACE);
        a.run_due_jobs().await.unwrap();
        assert_eq!(tenant_keys(&a, &acme).await, [rotation.key_id]);
        let fresh = ground.replica(TTL).await;
        let ctx = user(&fresh, &acme);
        fresh.pki(&ctx).issue("svc", issue()).await.unwrap();
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
        let trail = "SELECT tenant_id, identity_id FROM audit_log WHERE action = 'key_rotate' AND request_id = $1 AND success";
        let trail = rows::<(String, String)>(&vault, query(trail).bind(ctx.request_id())).await;
        assert!(trail.contains(&("tnt_ops".into(), "user:root".into())), "{trail:?}");
        let own = trail.iter().filter(|(tenant, who)| tenant == "tnt_acme" && who == "system:key-rotation").count();
        assert!(own >= 3, "the switch, the batch, the state: {trail:?}");
    }
}
