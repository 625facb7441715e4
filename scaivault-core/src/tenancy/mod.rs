//! Whose: which partner a tenant belongs to. A tenant's row is made when a verified caller of it first acts.

pub(crate) mod store;

use std::sync::Arc;

use moka::future::Cache;

use crate::{
    Clock, Code, Ctx, Error, PartnerId, Result, TenantId,
    storage::{As, Db},
};

/// The tenants that were seen. A tenant never changes its partner, so nothing here gets stale.
#[derive(Debug)]
pub(crate) struct Tenants {
    db: Db,
    clock: Arc<dyn Clock>,
    default_partner: PartnerId,
    seen: Cache<TenantId, Home>,
}

/// Where a tenant belongs.
#[derive(Clone, Debug)]
struct Home {
    partner: PartnerId,
    /// Whether a token named it.
    named: bool,
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
        let claimed = ctx.caller().partner_id();
        let home = match self.seen.get(ctx.tenant()).await {
            Some(home) => home,
            None => {
                let load = self.load(ctx.tenant(), claimed);
                self.seen.try_get_with_by_ref(ctx.tenant(), load).await.map_err(Error::shared)?
            }
        };
        match claimed {
            // A tenant whose first token named no partner stays under the default one, whatever later tokens
            // name: its keys do.
            Some(claimed) if home.named && *claimed != home.partner => Err(Error::new(
                Code::TenantAccessDenied,
                "The tenant belongs to another partner than the token names.",
            )),
            _ => Ok(home.partner),
        }
    }

    /// The partner of a tenant that exists.
    pub(crate) async fn partner_of(&self, tenant: &TenantId) -> Result<Option<PartnerId>> {
        if let Some(home) = self.seen.get(tenant).await {
            return Ok(Some(home.partner));
        }
        Ok(self.find(tenant).await?.map(|home| home.partner))
    }

    async fn load(&self, tenant: &TenantId, claimed: Option<&PartnerId>) -> Result<Home> {
        if let Some(home) = self.find(tenant).await? {
            return Ok(home);
        }
        // The directory knows better than a token.
        let told: Option<(Option<String>,)> =
            self.db.on(As::Tenant(tenant)).fetch_optional(store::partner_of_directory(tenant)).await?;
        let told = told.and_then(|(partner,)| partner).map(PartnerId::parse).transpose()?;
        let named = told.as_ref().or(claimed);
        let partner = named.unwrap_or(&self.default_partner);
        self.db
            .on(As::Tenant(tenant))
            .execute(store::insert(tenant, partner, named.is_some(), self.clock.now()))
            .await?;
        self.find(tenant).await?.ok_or_else(|| Error::internal("a tenant vanished"))
    }

    async fn find(&self, tenant: &TenantId) -> Result<Option<Home>> {
        let row: Option<(String, bool)> =
            self.db.on(As::Tenant(tenant)).fetch_optional(store::partner(tenant)).await?;
        row.map(|(partner, named)| Ok(Home { partner: PartnerId::parse(partner)?, named })).transpose()
    }
}
