//! What a check of the keys finds.

use std::time::Duration;

use super::{
    super::types::Verify,
    ground::{Ground, execute, fill, operator, put, tenant, user},
    over_both,
};
use crate::storage::query;

over_both! {
    async fn a_wrap_that_was_changed_or_moved_is_named_at_every_level(ground: Ground) {
        let vault = ground.replica(Duration::from_secs(60)).await;
        fill(&vault, &tenant("tnt_acme"), 40).await;
        put(&vault, &user(&vault, &tenant("tnt_other")), "app/db", "x").await.unwrap();
        let ctx = operator(&vault);
        vault.keys(&ctx).rotate_tenant(&tenant("tnt_acme")).await.unwrap();
        let report = vault.keys(&ctx).verify(Verify::All).await.unwrap();
        let checked = report.checked;
        assert_eq!((checked.partner_keys, checked.tenant_keys, checked.data_keys), (1, 3, 41));
        assert_eq!(report.broken_total, 0, "{report:?}");
        let report = vault.keys(&ctx).verify(Verify::Sample(5)).await.unwrap();
        assert_eq!((report.checked.data_keys, report.broken_total), (6, 0));

        // A wrap that belongs to another row.
        let swap = "UPDATE secret_version SET wrapped_key = (SELECT v.wrapped_key FROM secret_version v JOIN secret s \
                    ON s.id = v.secret_id WHERE s.path = 'app/s00001') WHERE secret_id = \
                    (SELECT id FROM secret WHERE path = 'app/s00002')";
        assert_eq!(execute(&vault, query(swap)).await, 1);
        let report = vault.keys(&ctx).verify(Verify::All).await.unwrap();
        assert_eq!(report.broken_total, 1, "{report:?}");
        assert_eq!((report.broken[0].table, report.broken[0].owner.as_str()), ("secret_version", "tnt_acme"));
        assert!(report.broken[0].row.starts_with("sec_") && report.broken[0].row.ends_with("/1"));

        // A tenant key of somebody else: it takes everything under it along.
        let swap = "UPDATE tenant_key SET wrapped = (SELECT wrapped FROM tenant_key WHERE tenant_id = 'tnt_acme' \
                    AND version = 1) WHERE tenant_id = 'tnt_other'";
        assert_eq!(execute(&vault, query(swap)).await, 1);
        let report = vault.keys(&ctx).verify(Verify::All).await.unwrap();
        let found: Vec<_> = report.broken.iter().map(|b| (b.table, b.owner.as_str())).collect();
        assert_eq!(found, [("secret_version", "tnt_acme"), ("tenant_key", "tnt_other"), ("secret_version", "tnt_other")]);

        assert_eq!(execute(&vault, query("UPDATE partner_key SET version = 7")).await, 1);
        let report = vault.keys(&ctx).verify(Verify::All).await.unwrap();
        assert_eq!(report.broken[0].table, "partner_key");
        assert_eq!(report.broken_total, 1 + 3 + 41);

        // An outage says nothing about the keys.
        ground.provider.switch_off(true);
        assert!(vault.keys(&ctx).verify(Verify::All).await.is_err());
    }
}
