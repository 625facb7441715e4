//! No key seals more often than AES-GCM bears.

use std::time::Duration;

use super::{
    ground::{Ground, authority, execute, fill, get, leaf, operator, put, rows, tenant, tenant_keys, user},
    over_both,
};
use crate::{Code, Vault, limits, storage::query};

const TTL: Duration = Duration::from_secs(60);

/// What the database says that each key has sealed, oldest first.
async fn wraps(vault: &Vault) -> Vec<i64> {
    let all = query("SELECT wraps FROM tenant_key ORDER BY version");
    rows::<(i64,)>(vault, all).await.into_iter().map(|(wraps,)| wraps).collect()
}

async fn wear(vault: &Vault, wraps: i64) {
    execute(vault, query("UPDATE tenant_key SET wraps = $1 WHERE retired_at IS NULL").bind(wraps)).await;
}

over_both! {
    async fn sec_k3_wraps_are_counted_before_they_are_made_by_every_replica(ground: Ground) {
        let acme = tenant("tnt_acme");
        for replica in 1..=3 {
            let vault = ground.replica(TTL).await;
            for i in 0..20 {
                put(&vault, &user(&vault, &acme), &format!("app/s{i}"), "x").await.unwrap();
                get(&vault, &user(&vault, &acme), &format!("app/s{i}")).await.unwrap();
            }
            // One stock each, which nothing gives back: the replica may be killed.
            assert_eq!(wraps(&vault).await, [replica * limits::WRAPS_STEP]);
        }
        // A cache that is read anew takes no new stock, nor does one that keeps nothing, beyond its first.
        let vault = ground.replica(Duration::ZERO).await;
        for _ in 0..5 {
            put(&vault, &user(&vault, &acme), "app/db", "x").await.unwrap();
        }
        assert_eq!(wraps(&vault).await, [4 * limits::WRAPS_STEP]);
        // Nor does whoever only reads.
        let reader = ground.replica(TTL).await;
        get(&reader, &user(&reader, &acme), "app/db").await.unwrap();
        reader.secrets(&user(&reader, &acme)).list(Default::default()).await.unwrap();
        assert_eq!(wraps(&reader).await, [4 * limits::WRAPS_STEP]);
    }

    async fn sec_k3_a_worn_key_is_replaced_well_before_its_end(ground: Ground) {
        let (a, b) = (ground.replica(TTL).await, ground.replica(TTL).await);
        let acme = tenant("tnt_acme");
        for (vault, path) in [(&a, "app/a"), (&b, "app/b")] {
            put(vault, &user(vault, &acme), path, "x").await.unwrap();
        }
        wear(&a, limits::WRAPS_WORN - 1).await;
        a.run_due_jobs().await.unwrap();
        assert_eq!(tenant_keys(&a, &acme).await.len(), 1, "not before");
        wear(&a, limits::WRAPS_WORN).await;
        let (one, two) = tokio::join!(a.run_due_jobs(), b.run_due_jobs());
        one.and(two).unwrap();
        let keys = tenant_keys(&a, &acme).await;
        assert_eq!(keys.len(), 2, "two replicas that see it at once make one key");
        put(&a, &user(&a, &acme), "app/c", "x").await.unwrap();
        a.run_due_jobs().await.unwrap();
        let under = query("SELECT count(*) FROM secret_version WHERE key_id = $1").bind(&keys[1]);
        assert_eq!(rows::<(i64,)>(&a, under).await, [(3,)], "what was under the worn one is wrapped anew");
        for path in ["app/a", "app/b", "app/c"] {
            get(&b, &user(&b, &acme), path).await.unwrap();
        }
    }

    async fn sec_k3_a_key_at_its_end_opens_and_seals_nothing_until_it_is_replaced(ground: Ground) {
        let acme = tenant("tnt_acme");
        let vault = ground.replica(TTL).await;
        put(&vault, &user(&vault, &acme), "app/db", "x").await.unwrap();
        authority(&vault, &user(&vault, &acme)).await;
        wear(&vault, limits::WRAPS_MAX).await;
        let fresh = ground.replica(TTL).await;
        let ctx = user(&fresh, &acme);
        let error = put(&fresh, &ctx, "app/new", "x").await.unwrap_err();
        assert_eq!(error.code(), Code::ServiceUnavailable);
        assert!(error.details().retry_after.is_some());
        assert_eq!(fresh.pki(&ctx).issue("kept", leaf()).await.unwrap_err().code(), Code::ServiceUnavailable);
        assert_eq!(rows::<(i64,)>(&fresh, query("SELECT count(*) FROM secret_version")).await, [(1,)]);
        assert_eq!(wraps(&fresh).await, [limits::WRAPS_MAX], "it counts no further");
        // What seals nothing goes on.
        get(&fresh, &ctx, "app/db").await.unwrap();
        fresh.pki(&ctx).issue("svc", leaf()).await.unwrap();
        fresh.run_due_jobs().await.unwrap();
        put(&fresh, &ctx, "app/new", "x").await.unwrap();
        fresh.pki(&ctx).issue("kept", leaf()).await.unwrap();
        get(&vault, &user(&vault, &acme), "app/new").await.unwrap();
        assert_eq!(tenant_keys(&fresh, &acme).await.len(), 2);
    }

    async fn sec_k3_wrapping_anew_is_counted_too(ground: Ground) {
        let acme = tenant("tnt_acme");
        let vault = ground.replica(TTL).await;
        fill(&vault, &acme, 20).await;
        let ctx = operator(&vault);
        vault.keys(&ctx).rotate_tenant(&acme).await.unwrap();
        assert_eq!(wraps(&vault).await, [limits::WRAPS_STEP; 2]);
        put(&vault, &user(&vault, &acme), "app/db", "x").await.unwrap();
        assert_eq!(wraps(&vault).await, [limits::WRAPS_STEP; 2], "from the same stock");
    }
}
