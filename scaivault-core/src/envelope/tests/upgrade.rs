//! A vault of the schema before key life goes on under this one.

use std::time::Duration;

use super::{
    ground::{Ground, ciphertexts, get, operator, rows, tenant, tenant_keys, user},
    over_both,
};
use crate::{
    SchemaState,
    storage::{Db, query},
};

over_both! {
    async fn a_vault_of_the_first_schema_is_migrated_with_its_data(ground: Ground) {
        // What the first release wrote, taken from a vault of today and put under the schema of then.
        let source = Ground::sqlite_with(&ground).await;
        let db = Db::open(&ground.database).await.unwrap();
        db.migrate_to(1).await.unwrap();
        let SchemaState::Behind(missing) = db.schema().await.unwrap() else { panic!("the schema is old") };
        assert!(missing.contains(&3) && !missing.contains(&1), "{missing:?}");
        source.copy_first_schema(&db).await;
        db.close().await;

        let vault = ground.replica(Duration::from_secs(60)).await;
        let acme = tenant("tnt_acme");
        assert_eq!(get(&vault, &user(&vault, &acme), "app/s00003").await.unwrap(), "value 3");
        let live = "SELECT count(*) FROM tenant_key WHERE retired_at IS NULL AND drained_at IS NULL";
        assert_eq!(rows::<(i64,)>(&vault, query(live)).await, [(1,)]);
        let before = ciphertexts(&vault).await;
        let ctx = operator(&vault);
        let keys = vault.keys(&ctx);
        assert_eq!(keys.rotate_tenant(&acme).await.unwrap().rewrapped, 5);
        let partner = crate::PartnerId::parse("ptn_acme").unwrap();
        assert!(keys.rotate_partner(&partner).await.unwrap().old[0].destroyed);
        assert_eq!(ciphertexts(&vault).await, before);
        assert_eq!(tenant_keys(&vault, &acme).await.len(), 2);
        assert_eq!(get(&vault, &user(&vault, &acme), "app/s00003").await.unwrap(), "value 3");
    }
}
