//! What is kept, and what that costs the provider.

use std::time::Duration;

use super::{
    ground::{Ground, authority, get, leaf, put, tenant, user},
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
        let vault = ground.replica(TTL).await;
        let (acme, late) = (tenant("tnt_acme"), tenant("tnt_late"));
        put(&vault, &user(&vault, &acme), "app/db", "x").await.unwrap();
        put(&vault, &user(&vault, &late), "app/db", "x").await.unwrap();
        ground.provider.unwraps();
        // Whoever is opened under a partner key that was kept does not outlive it.
        ground.clock.forward(TTL);
        get(&vault, &user(&vault, &acme), "app/db").await.unwrap();
        ground.clock.forward(TTL * 2 / 3);
        get(&vault, &user(&vault, &late), "app/db").await.unwrap();
        assert_eq!(ground.provider.unwraps(), 1);
        ground.provider.switch_off(true);
        assert!(get(&vault, &user(&vault, &late), "app/db").await.is_ok(), "an outage is bridged");
        ground.clock.forward(TTL / 3);
        for _ in 0..3 {
            let error = get(&vault, &user(&vault, &late), "app/db").await.unwrap_err();
            assert_eq!(error.code(), crate::Code::ServiceUnavailable);
        }
        ground.provider.switch_off(false);
        assert!(get(&vault, &user(&vault, &late), "app/db").await.is_ok(), "it recovers by itself");
        assert_eq!(ground.provider.unwraps(), 4);
    }

    async fn a_clock_that_stands_still_keeps_no_key_longer(ground: Ground) {
        let vault = ground.replica(Duration::from_millis(300)).await;
        let ctx = user(&vault, &tenant("tnt_acme"));
        put(&vault, &ctx, "app/db", "x").await.unwrap();
        ground.provider.unwraps();
        tokio::time::sleep(Duration::from_millis(400)).await;
        get(&vault, &ctx, "app/db").await.unwrap();
        assert_eq!(ground.provider.unwraps(), 1);
    }

    async fn however_many_come_at_once_one_call_is_made_also_when_it_fails(ground: Ground) {
        let vault = ground.replica(TTL).await;
        let acme = tenant("tnt_acme");
        put(&vault, &user(&vault, &acme), "app/db", "x").await.unwrap();
        let burst = async || {
            let tasks: Vec<_> = (0..64).map(|_| {
                let (vault, acme) = (vault.clone(), acme.clone());
                tokio::spawn(async move { get(&vault, &user(&vault, &acme), "app/db").await.is_ok() })
            }).collect();
            let mut answered = 0;
            for task in tasks {
                answered += u64::from(task.await.unwrap());
            }
            (answered, ground.provider.unwraps())
        };
        ground.provider.unwraps();
        ground.clock.forward(TTL);
        assert_eq!(burst().await, (64, 1), "the time of the keys was over");
        assert_eq!(burst().await, (64, 0));
        ground.clock.forward(TTL);
        ground.provider.switch_off(true);
        let (answered, calls) = burst().await;
        assert_eq!(answered, 0);
        assert!(calls < 64, "{calls}: who waits for a call that fails makes none of its own");
        ground.provider.switch_off(false);
        assert_eq!(burst().await, (64, 1));
    }

    async fn a_thousand_requests_are_one_call_and_without_a_cache_each_is_one(ground: Ground) {
        let acme = tenant("tnt_acme");
        let vault = ground.replica(TTL).await;
        let ctx = user(&vault, &acme);
        put(&vault, &ctx, "app/db", "x").await.unwrap();
        authority(&vault, &ctx).await;
        vault.close().await;
        ground.provider.unwraps();

        let vault = ground.replica(TTL).await;
        let ctx = user(&vault, &acme);
        for i in 0..300 {
            get(&vault, &ctx, "app/db").await.unwrap();
            put(&vault, &ctx, &format!("app/s{}", i % 10), "x").await.unwrap();
            vault.pki(&ctx).issue(if i % 2 == 0 { "svc" } else { "kept" }, leaf()).await.unwrap();
        }
        assert_eq!(ground.provider.unwraps(), 1);
        vault.close().await;

        let vault = ground.replica(Duration::ZERO).await;
        let ctx = user(&vault, &acme);
        for _ in 0..5 {
            get(&vault, &ctx, "app/db").await.unwrap();
            assert_eq!(ground.provider.unwraps(), 1, "a read");
            put(&vault, &ctx, "app/db", "y").await.unwrap();
            assert_eq!(ground.provider.unwraps(), 1, "a write");
            for role in ["svc", "kept"] {
                vault.pki(&ctx).issue(role, leaf()).await.unwrap();
                assert_eq!(ground.provider.unwraps(), 1, "a certificate of {role}");
            }
        }
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
