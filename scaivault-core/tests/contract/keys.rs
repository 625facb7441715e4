//! Rotating keys, as whom a production server logs in: on PostgreSQL behind the fence between tenants.

use scaivault_core::{Caller, Code, Ctx, PartnerId, keys::Verify};
use serde_json::json;

use crate::{
    bench::{ACME, Bench, HOUR, OTHER, any, code, contract, path, tenant},
    pki,
};

fn operator(t: &Bench) -> Ctx {
    t.ctx(Caller::system("key-rotation", tenant("tnt_operator")).unwrap())
}

contract! {
    async fn every_level_is_rotated_over_all_tenants_and_nothing_is_lost(t: Bench) {
        for n in 0..20 {
            t.put(&format!("a/{n}"), json!({"n": n})).await;
            t.vault.secrets(&t.admin_of(OTHER)).put(&path(&format!("o/{n}")), any()).await.unwrap();
        }
        pki::root(&t.vault, &t.admin(), "Top").await;
        let ctx = operator(&t);
        let keys = t.vault.keys(&ctx);
        let before = keys.status().await.unwrap();
        assert_eq!((before.partner_keys.len(), before.tenant_keys.len()), (1, 2));

        let rotation = keys.rotate_tenant(&tenant(ACME)).await.unwrap();
        assert_eq!((rotation.made, rotation.rewrapped, rotation.broken), (true, 22, 0));
        let partner = PartnerId::parse("ptn_default").unwrap();
        let rotation = keys.rotate_partner(&partner).await.unwrap();
        assert_eq!((rotation.made, rotation.rewrapped, rotation.broken), (true, 3, 0), "the old key of ACME as well");
        assert!(rotation.old.iter().all(|key| key.destroyed));
        let root = keys.rotate_root().await.unwrap();
        assert_eq!((root.rewrapped, root.current), (0, 1));

        let report = keys.verify(Verify::All).await.unwrap();
        assert_eq!((report.checked.partner_keys, report.checked.tenant_keys, report.checked.data_keys), (1, 3, 42));
        assert_eq!(report.broken_total, 0);
        for n in 0..20 {
            assert_eq!(t.get(&format!("a/{n}")).await.unwrap(), json!({"n": n}));
            t.vault.secrets(&t.admin_of(OTHER)).get(&path(&format!("o/{n}")), None).await.unwrap();
        }

        // The job destroys what nothing needs any more.
        t.clock.advance(HOUR);
        t.vault.run_due_jobs().await.unwrap();
        t.clock.advance(HOUR);
        t.vault.run_due_jobs().await.unwrap();
        let ctx = operator(&t);
        let after = t.vault.keys(&ctx).status().await.unwrap();
        assert_eq!((after.partner_keys.len(), after.tenant_keys.len()), (1, 2));
        assert!(after.tenant_keys.iter().all(|key| key.retired_at.is_none()));
        assert!(!t.raw.trail("action = 'key_rotate'").await.is_empty());
        let fresh = t.replica().await;
        fresh.secrets(&t.admin()).get(&path("a/7"), None).await.unwrap();
        fresh.close().await;
    }

    async fn keys_are_not_for_the_admin_of_a_tenant(t: Bench) {
        t.put("a", json!({})).await;
        let admin = t.admin();
        assert_eq!(code(t.vault.keys(&admin).status().await), Code::AccessDenied);
        assert_eq!(code(t.vault.keys(&admin).rotate_tenant(&tenant(ACME)).await), Code::AccessDenied);
        assert_eq!(code(t.vault.keys(&admin).rotate_root().await), Code::AccessDenied);
    }
}
