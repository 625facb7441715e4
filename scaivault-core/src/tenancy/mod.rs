//! Whose: which partner a tenant belongs to, and by what right somebody acts on a tenant that is not his own.
//!
//! A tenant's row is made when a verified caller of it first acts, never because somebody else names it. What a partner
//! shares with all of his tenants stands in rows of a tenant that stands for him, see [`TenantId::of_partner`].

pub(crate) mod store;

use std::sync::Arc;

use moka::future::Cache;

use crate::{
    Caller, Clock, Code, Ctx, Error, IdentityType, PartnerId, Result, Role, TenantId,
    name::is_reserved,
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

/// What somebody may act on.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The partner of the tenant that the request names.
    pub(crate) partner: PartnerId,
    /// Whose rows are acted on: the tenant that is named, or what stands for its partner.
    pub(crate) store: TenantId,
    /// The highest of the caller's roles that counts there.
    pub(crate) role: Option<Role>,
}

/// Tenants remembered at once.
const SEEN: u64 = 100_000;

impl Tenants {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, default_partner: PartnerId) -> Self {
        Self { db, clock, default_partner, seen: Cache::new(SEEN) }
    }

    /// By what right the caller acts on what the request names: his own tenant, which is made on first sight; as a
    /// partner admin another one of his partner; as a super admin any. Who has neither role learns nothing of other
    /// tenants, and it is not looked whether they are there.
    ///
    /// # Errors
    /// [`Code::TenantAccessDenied`], also if the caller's token names another partner than his tenant's first one did,
    /// or a tenant that may not be made; [`Code::TenantNotFound`] for partner and super admins.
    pub(crate) async fn access(&self, ctx: &Ctx) -> Result<Access> {
        let (caller, tenant) = (ctx.caller(), ctx.named());
        let is_super = caller.has_role(Role::SuperAdmin);
        let own = tenant == caller.tenant_id();
        if !own && (tenant.is_partner() || !is_super && !caller.has_role(Role::PartnerAdmin)) {
            return Err(stranger());
        }
        let at_home = if own || !is_super { Some(self.at_home(caller).await?) } else { None };
        let partner = match (&at_home, own) {
            (Some(home), true) => home.clone(),
            _ => self.partner_of(tenant).await?.ok_or_else(unknown)?,
        };
        let claimed = caller.partner_id();
        let administers_partner = caller.has_role(Role::PartnerAdmin)
            && at_home.is_some_and(|home| home == partner)
            && claimed.is_none_or(|claimed| *claimed == partner);
        let administers_tenant = own && !ctx.is_in_partner() && caller.has_role(Role::TenantAdmin);
        let role = if is_super {
            Some(Role::SuperAdmin)
        } else if administers_partner {
            Some(Role::PartnerAdmin)
        } else {
            administers_tenant.then_some(Role::TenantAdmin)
        };
        if !own && role.is_none() {
            return Err(stranger());
        }
        let store = if ctx.is_in_partner() {
            let store = TenantId::of_partner(&partner);
            self.known(&store, Some(&partner)).await?;
            store
        } else {
            tenant.clone()
        };
        Ok(Access { partner, store, role })
    }

    /// The partner of a tenant that exists.
    pub(crate) async fn partner_of(&self, tenant: &TenantId) -> Result<Option<PartnerId>> {
        if let Some(home) = self.seen.get(tenant).await {
            return Ok(Some(home.partner));
        }
        let Some(home) = self.find(tenant).await? else { return Ok(None) };
        self.seen.insert(tenant.clone(), home.clone()).await;
        Ok(Some(home.partner))
    }

    /// The partner of the caller's own tenant.
    async fn at_home(&self, caller: &Caller) -> Result<PartnerId> {
        let claimed = caller.partner_id();
        let home = match self.known(caller.tenant_id(), claimed).await {
            // A refused tenant has a trail, and jobs that look after that, and nothing else.
            Err(error)
                if error.code() == Code::TenantAccessDenied
                    && caller.identity_type() == IdentityType::System =>
            {
                return Ok(self.default_partner.clone());
            }
            known => known?,
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

    async fn known(&self, tenant: &TenantId, claimed: Option<&PartnerId>) -> Result<Home> {
        match self.seen.get(tenant).await {
            Some(home) => Ok(home),
            None => {
                let load = self.load(tenant, claimed);
                self.seen.try_get_with_by_ref(tenant, load).await.map_err(Error::shared)
            }
        }
    }

    async fn load(&self, tenant: &TenantId, claimed: Option<&PartnerId>) -> Result<Home> {
        if let Some(home) = self.find(tenant).await? {
            return Ok(home);
        }
        if is_reserved(tenant.as_str()) || matches!(tenant.as_str(), "." | "..") {
            return Err(unfit());
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
        // Not there: another tenant has its name but for the case.
        self.find(tenant).await?.ok_or_else(unfit)
    }

    async fn find(&self, tenant: &TenantId) -> Result<Option<Home>> {
        let row: Option<(String, bool)> =
            self.db.on(As::Tenant(tenant)).fetch_optional(store::partner(tenant)).await?;
        row.map(|(partner, named)| Ok(Home { partner: PartnerId::parse(partner)?, named })).transpose()
    }
}

/// The highest role of somebody in his own tenant, or in what stands for its partner.
pub(crate) fn highest_role(caller: &Caller, store: &TenantId) -> Option<Role> {
    let counts = |role: &Role| caller.has_role(*role) && !(store.is_partner() && *role == Role::TenantAdmin);
    [Role::SuperAdmin, Role::PartnerAdmin, Role::TenantAdmin].into_iter().find(counts)
}

fn stranger() -> Error {
    Error::new(Code::TenantAccessDenied, "The token does not belong to that tenant.")
}

pub(crate) fn unknown() -> Error {
    Error::new(Code::TenantNotFound, "There is no such tenant.")
}

fn unfit() -> Error {
    let message = "The token names a tenant that may not be: its name is reserved, or another tenant's but for the case.";
    Error::new(Code::TenantAccessDenied, message)
}
