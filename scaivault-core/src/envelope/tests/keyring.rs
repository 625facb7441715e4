//! What is kept, and what that costs the provider.

use std::time::Duration;

use super::{
    ground::{Ground, get, put, tenant, user},
    over_both,
};
use crate::secrets::ListFilter;

const TTL: Duration = Duration::from_secs(60);

over_both! {
    async fn many_tenants_of_a_partner_cost_one_call(ground: Ground) {
        let vault = ground.replica(TTL).await;
        let tenants: Vec<_> = (0..20).map(|i| tenant(&format!("tnt_{i}"))).collect();
        for tenant in &tenants {
            put(&vault, &user(&vault, tenant), "app/db", tenant.as_str()).await.unwrap();
        }
        assert_eq!(ground.provider.unwraps(), 1, "the first of them");
        vault.close().await;

        let vault = ground.replica(TTL).await;
        let tasks: Vec<_> = tenants.into_iter().flat_map(|tenant| [tenant.clone(), tenant]).map(|tenant| {
            let vault = vault.clone();
            tokio::spawn(async move {
                let read = get(&vault, &user(&vault, &tenant), "app/db").await.unwrap();
                assert_eq!(read, tenant.as_str());
            })
        }).collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(ground.provider.unwraps(), 1, "forty at once");
    }

    async fn without_a_cache_each_request_is_exactly_one_call(ground: Ground) {
        let vault = ground.replica(Duration::ZERO).await;
        let ctx = user(&vault, &tenant("tnt_acme"));
        put(&vault, &ctx, "app/db", "first").await.unwrap();
        ground.provider.unwraps();
        for i in 0..3 {
            put(&vault, &ctx, "app/db", &format!("{i}")).await.unwrap();
            assert_eq!(ground.provider.unwraps(), 1, "a write");
            get(&vault, &ctx, "app/db").await.unwrap();
            assert_eq!(ground.provider.unwraps(), 1, "a read");
            vault.secrets(&ctx).list(ListFilter::default()).await.unwrap();
            assert_eq!(ground.provider.unwraps(), 1, "a list");
        }
        ground.provider.switch_off(true);
        let error = get(&vault, &ctx, "app/db").await.unwrap_err();
        assert_eq!(error.code(), crate::Code::ServiceUnavailable);
    }

    async fn keys_are_kept_no_longer_than_their_time(ground: Ground) {
        let vault = ground.replica(Duration::from_millis(600)).await;
        let (acme, late) = (tenant("tnt_acme"), tenant("tnt_late"));
        put(&vault, &user(&vault, &acme), "app/db", "x").await.unwrap();
        put(&vault, &user(&vault, &late), "app/db", "x").await.unwrap();
        ground.provider.unwraps();
        // Whoever is opened under a partner key that was kept does not outlive it.
        tokio::time::sleep(Duration::from_millis(700)).await;
        get(&vault, &user(&vault, &acme), "app/db").await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        get(&vault, &user(&vault, &late), "app/db").await.unwrap();
        assert_eq!(ground.provider.unwraps(), 1);
        ground.provider.switch_off(true);
        assert!(get(&vault, &user(&vault, &late), "app/db").await.is_ok(), "an outage is bridged");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(get(&vault, &user(&vault, &late), "app/db").await.is_err());
        ground.provider.switch_off(false);
        assert!(get(&vault, &user(&vault, &late), "app/db").await.is_ok(), "it recovers by itself");
    }

    async fn a_cursor_opens_at_a_replica_that_has_not_read_the_new_key(ground: Ground) {
        let (a, b) = (ground.replica(TTL).await, ground.replica(TTL).await);
        let acme = tenant("tnt_acme");
        for i in 0..4 {
            put(&a, &user(&a, &acme), &format!("app/s{i}"), "x").await.unwrap();
        }
        get(&b, &user(&b, &acme), "app/s0").await.unwrap();
        let operator = super::ground::operator(&a);
        a.keys(&operator).rotate_tenant(&acme).await.unwrap();
        let filter = |cursor| ListFilter { limit: Some(2), cursor, ..ListFilter::default() };
        let page = a.secrets(&user(&a, &acme)).list(filter(None)).await.unwrap();
        let next = b.secrets(&user(&b, &acme)).list(filter(page.cursor)).await.unwrap();
        assert_eq!(next.items.len(), 2);
    }
}
