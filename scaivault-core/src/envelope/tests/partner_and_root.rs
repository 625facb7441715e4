//! Rotation of a partner's key, and of the root key.

use std::{sync::Arc, time::Duration};

use scaivault_kms::{
    SecretKey,
    local::{KeyFile, LocalProvider},
};

use super::{
    ground::{Counting, Ground, Load, ciphertexts, execute, fill, get, operator, put, rows, tenant, user},
    over_both,
};
use crate::{Code, PartnerId, storage::query};

const TTL: Duration = Duration::from_secs(60);

fn acme() -> PartnerId {
    PartnerId::parse("ptn_acme").unwrap()
}

/// A root key that can be held by several providers.
fn root(byte: u8) -> KeyFile {
    KeyFile::from_key(SecretKey::from_slice(&[byte; 32]).unwrap())
}

over_both! {
    async fn a_partner_rotates_under_load_and_the_old_key_is_destroyed(ground: Ground) {
        let (a, b) = (ground.replica(TTL).await, ground.replica(TTL).await);
        let busy = tenant("tnt_busy");
        fill(&a, &busy, 50).await;
        for i in 0..300 {
            put(&a, &user(&a, &tenant(&format!("tnt_{i}"))), "app/db", "x").await.unwrap();
        }
        let before = ciphertexts(&a).await;
        let load = Load::start(&[&a, &b], &busy, 50);
        let newcomers = tokio::spawn({
            let b = b.clone();
            async move {
                for i in 0..30 {
                    put(&b, &user(&b, &tenant(&format!("tnt_new{i}"))), "app/db", "x").await.unwrap();
                }
            }
        });
        let ctx = operator(&a);
        let rotation = a.keys(&ctx).rotate_partner(&acme()).await.unwrap();
        newcomers.await.unwrap();
        assert!(load.finish().await > 10);
        assert!(rotation.made && rotation.rewrapped >= 301 && rotation.broken == 0, "{rotation:?}");
        // Whoever came in the last moment is found by the background work.
        a.run_due_jobs().await.unwrap();
        let keys = rows::<(String,)>(&a, query("SELECT id FROM partner_key WHERE partner_id = 'ptn_acme'")).await;
        assert_eq!(keys, [(rotation.key_id.clone(),)]);
        let after = ciphertexts(&a).await;
        assert!(before.iter().all(|(place, bytes)| after[place] == *bytes));
        let fresh = ground.replica(TTL).await;
        for name in ["tnt_busy", "tnt_0", "tnt_299", "tnt_new29"] {
            let path = if name == "tnt_busy" { "app/s00001" } else { "app/db" };
            get(&fresh, &user(&fresh, &tenant(name)), path).await.unwrap();
        }
        let nobody = a.keys(&ctx).rotate_partner(&PartnerId::parse("ptn_nobody").unwrap()).await;
        assert_eq!(nobody.unwrap_err().code(), Code::NotFound);
    }

    async fn a_partner_rotation_that_was_cut_goes_on(ground: Ground) {
        let vault = ground.replica(TTL).await;
        for i in 0..300 {
            put(&vault, &user(&vault, &tenant(&format!("tnt_{i}"))), "app/db", "x").await.unwrap();
        }
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn({
            let vault = vault.clone();
            async move {
                let ctx = operator(&vault);
                let watch = |progress| {
                    let _ = tell.send(progress);
                    // So that it is cut off here, and not after its last batch.
                    std::thread::sleep(Duration::from_millis(200));
                };
                vault.keys(&ctx).watched(&watch).rotate_partner(&acme()).await
            }
        });
        told.recv().await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        let fresh = ground.replica(TTL).await;
        get(&fresh, &user(&fresh, &tenant("tnt_7")), "app/db").await.unwrap();
        let ctx = operator(&fresh);
        let rotation = fresh.keys(&ctx).rotate_partner(&acme()).await.unwrap();
        assert!(!rotation.made && rotation.rewrapped > 0 && rotation.old[0].destroyed, "{rotation:?}");
        let under = "SELECT count(*) FROM tenant_key WHERE partner_key_id <> $1";
        assert_eq!(rows::<(i64,)>(&fresh, query(under).bind(&rotation.key_id)).await, [(0,)]);
    }

    async fn the_root_rotates_under_load_and_the_old_one_is_no_longer_needed(ground: Ground) {
        let both = || Arc::new(LocalProvider::with_older(root(2), vec![root(1)]));
        let old = ground.replica_with(Arc::new(LocalProvider::new(root(1))), TTL).await;
        let busy = tenant("tnt_busy");
        fill(&old, &busy, 20).await;
        let before = ciphertexts(&old).await;
        let wrapped = rows::<(Vec<u8>,)>(&old, query("SELECT wrapped FROM partner_key")).await;
        old.close().await;

        // Replicas are restarted with both, then one of them rotates.
        let (a, b) = (ground.replica_with(both(), TTL).await, ground.replica_with(both(), Duration::ZERO).await);
        let ctx = operator(&a);
        let status = a.keys(&ctx).status().await.unwrap();
        assert!(status.partner_keys.iter().all(|key| !key.root_is_current), "{status:?}");
        let load = Load::start(&[&a, &b], &busy, 20);
        let rotation = a.keys(&ctx).rotate_root().await.unwrap();
        assert_eq!((rotation.rewrapped, rotation.current), (1, 0));
        let again = a.keys(&ctx).rotate_root().await.unwrap();
        assert_eq!((again.rewrapped, again.current), (0, 1), "a second time changes nothing");
        load.finish().await;
        assert_ne!(rows::<(Vec<u8>,)>(&a, query("SELECT wrapped FROM partner_key")).await, wrapped);
        let after = ciphertexts(&a).await;
        assert!(before.iter().all(|(place, bytes)| after[place] == *bytes));

        let new = ground.replica_with(Arc::new(LocalProvider::new(root(2))), TTL).await;
        assert_eq!(get(&new, &user(&new, &busy), "app/s00007").await.unwrap(), "value 7");
        let status = new.keys(&ctx).status().await.unwrap();
        assert!(status.partner_keys.iter().all(|key| key.root_is_current), "{status:?}");
    }

    async fn a_wrong_root_key_is_named_and_changes_nothing(ground: Ground) {
        let vault = ground.replica_with(Arc::new(LocalProvider::new(root(1))), TTL).await;
        put(&vault, &user(&vault, &tenant("tnt_acme")), "app/db", "x").await.unwrap();
        let wrapped = rows::<(Vec<u8>,)>(&vault, query("SELECT wrapped FROM partner_key")).await;
        let wrong = ground.replica_with(Arc::new(LocalProvider::new(root(2))), TTL).await;
        let ctx = operator(&wrong);
        let error = wrong.keys(&ctx).rotate_root().await.unwrap_err();
        assert_eq!(error.code(), Code::ServiceUnavailable);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(root(1).fingerprint()) && source.contains(root(2).fingerprint()), "{source}");
        assert!(wrong.keys(&ctx).rotate_tenant(&tenant("tnt_acme")).await.is_err());
        assert_eq!(rows::<(Vec<u8>,)>(&vault, query("SELECT wrapped FROM partner_key")).await, wrapped);
        assert_eq!(rows::<(i64,)>(&vault, query("SELECT count(*) FROM tenant_key")).await, [(1,)], "no key was made");
    }

    async fn one_lost_partner_key_does_not_keep_the_others_from_a_new_root(ground: Ground) {
        let vault = ground.replica_with(Arc::new(LocalProvider::new(root(1))), TTL).await;
        put(&vault, &user(&vault, &tenant("tnt_acme")), "app/db", "x").await.unwrap();
        let copy = "INSERT INTO partner_key (id, partner_id, version, wrapped, created_at) \
                    SELECT 'pk_0', 'ptn_lost', 1, wrapped, created_at FROM partner_key";
        assert_eq!(execute(&vault, query(copy)).await, 1);
        let provider = Arc::new(Counting::new(LocalProvider::with_older(root(2), vec![root(1)])));
        let vault = ground.replica_with(provider.clone(), TTL).await;
        let ctx = operator(&vault);
        provider.switch_off(true);
        assert_eq!(vault.keys(&ctx).rotate_root().await.unwrap_err().code(), Code::ServiceUnavailable);
        assert_eq!(provider.unwraps(), 1, "a provider that is out is not asked again");
        provider.switch_off(false);
        assert!(vault.keys(&ctx).rotate_root().await.is_err(), "it says that something is wrong");
        let status = vault.keys(&ctx).status().await.unwrap();
        let current: Vec<_> = status.partner_keys.iter().map(|key| (key.id == "pk_0", key.root_is_current)).collect();
        assert_eq!(current, [(true, false), (false, true)]);
    }
}
