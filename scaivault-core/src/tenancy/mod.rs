//! Whose: which partner a tenant belongs to. A tenant's row is made when a verified caller of it first acts.

pub(crate) mod store;

use std::sync::Arc;

use moka::future::Cache;

use crate::{Clock, Code, Ctx, Error, PartnerId, Result, TenantId, storage::Db};

/// The tenants that were seen. A tenant never changes its partner, so nothing here gets stale.
#[derive(Debug)]
pub(crate) struct Tenants {
    db: Db,
    clock: Arc<dyn Clock>,
    default_partner: PartnerId,
    seen: Cache<TenantId, PartnerId>,
}

/// Tenants remembered at once.
const SEEN: u64 = 100_000;

impl Tenants {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, default_partner: PartnerId) -> Self {
        Self { db, clock, default_partner, seen: Cache::new(SEEN) }
    }

    /// The partner of the tenant that `ctx` acts on; makes the tenant's row on first sight.
    ///
    /// # Errors
    /// [`Code::TenantAccessDenied`] if the caller's token names another partner than the tenant's first one did.
    pub(crate) async fn partner(&self, ctx: &Ctx) -> Result<PartnerId> {
        let partner = match self.seen.get(ctx.tenant()).await {
            Some(partner) => partner,
            None => {
                let claimed = ctx.caller().partner_id().unwrap_or(&self.default_partner);
                let load = self.load(ctx.tenant(), claimed);
                self.seen.try_get_with_by_ref(ctx.tenant(), load).await.map_err(Error::shared)?
            }
        };
        match ctx.caller().partner_id() {
            // A tenant whose first token named no partner stays under the default one, whatever later tokens
            // name: its keys do.
            Some(claimed) if *claimed != partner && partner != self.default_partner => Err(Error::new(
                Code::TenantAccessDenied,
                "The tenant belongs to another partner than the token names.",
            )),
            _ => Ok(partner),
        }
    }

    /// The partner of a tenant that exists.
    pub(crate) async fn partner_of(&self, tenant: &TenantId) -> Result<Option<PartnerId>> {
        if let Some(partner) = self.seen.get(tenant).await {
            return Ok(Some(partner));
        }
        self.db
            .fetch_optional::<(String,)>(store::partner(tenant))
            .await?
            .map(|(id,)| PartnerId::parse(id))
            .transpose()
    }

    async fn load(&self, tenant: &TenantId, claimed: &PartnerId) -> Result<PartnerId> {
        if let Some((partner,)) = self.db.fetch_optional::<(String,)>(store::partner(tenant)).await? {
            return PartnerId::parse(partner);
        }
        self.db.execute(store::insert(tenant, claimed, self.clock.now())).await?;
        let row: Option<(String,)> = self.db.fetch_optional(store::partner(tenant)).await?;
        row.map_or_else(|| Err(Error::internal("a tenant vanished")), |(partner,)| PartnerId::parse(partner))
    }
}
