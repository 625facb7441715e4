use std::sync::Arc;

use arc_swap::ArcSwapOption;
use moka::sync::Cache;
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{CompiledPolicies, PolicyInput, store};
use crate::{
    Clock, Result, TenantId, limits,
    storage::{As, Db},
};

/// The compiled policies of each tenant, looked up by every request.
///
/// A tenant's epoch rises with every change of its policies. What was compiled is used without asking for
/// up to [`limits::EPOCH_CHECK`]; then the epoch is read, and only if it rose are the policies. What a partner gives to
/// all of his tenants has an epoch of its own, which is looked at in the same way, once for all of them. A change
/// made here is seen at once: [`PolicyCache::forget`] is called between its commit and its answer.
#[derive(Debug)]
pub(crate) struct PolicyCache {
    db: Db,
    clock: Arc<dyn Clock>,
    tenants: Cache<TenantId, Arc<Slot>>,
    partners: Cache<TenantId, Arc<Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    current: ArcSwapOption<Loaded>,
    /// Held while loading and while forgetting: what was read before a change cannot be stored after it.
    loading: Mutex<()>,
}

#[derive(Debug)]
struct Loaded {
    epoch: i64,
    /// The partner's, which these policies were compiled with.
    above: i64,
    checked_at: OffsetDateTime,
    /// A partner's policies as they are stored, to be compiled with those of each of his tenants.
    stored: Arc<Vec<PolicyInput>>,
    policies: Arc<CompiledPolicies>,
}

/// Tenants whose policies are kept compiled at once.
const TENANTS: u64 = 10_000;

impl PolicyCache {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock, tenants: Cache::new(TENANTS), partners: Cache::new(TENANTS) }
    }

    /// The policies that count in a tenant of a partner, or in what stands for the partner; at most
    /// [`limits::EPOCH_CHECK`] behind what any replica committed.
    pub(crate) async fn current(
        &self,
        tenant: &TenantId,
        partner: &TenantId,
    ) -> Result<Arc<CompiledPolicies>> {
        let above = self.look(partner, None).await?;
        if tenant == partner {
            return Ok(above.policies.clone());
        }
        Ok(self.look(tenant, Some(&above)).await?.policies.clone())
    }

    async fn look(&self, tenant: &TenantId, above: Option<&Loaded>) -> Result<Arc<Loaded>> {
        let slot = self.slot(tenant);
        let above_epoch = above.map_or(0, |above| above.epoch);
        if let Some(loaded) = self.fresh(&slot, above_epoch) {
            return Ok(loaded);
        }
        let _loading = slot.loading.lock().await;
        // Whoever held the lock before may have loaded what we need.
        if let Some(loaded) = self.fresh(&slot, above_epoch) {
            return Ok(loaded);
        }
        let checked_at = self.clock.now();
        // The epoch is read before the policies: they may be newer than it says, never older.
        let epoch = self.epoch(tenant).await?;
        let known =
            slot.current.load_full().filter(|known| (known.epoch, known.above) == (epoch, above_epoch));
        let (stored, policies) = match known {
            Some(known) => (known.stored.clone(), known.policies.clone()),
            None => {
                let own = self.load(tenant, epoch).await?;
                match above {
                    None => (Arc::new(own.clone()), CompiledPolicies::compile(own).into()),
                    Some(above) => {
                        let all = own.into_iter().chain(above.stored.iter().cloned()).collect();
                        (Arc::default(), CompiledPolicies::compile(all).into())
                    }
                }
            }
        };
        let loaded = Arc::new(Loaded { epoch, above: above_epoch, checked_at, stored, policies });
        slot.current.store(Some(loaded.clone()));
        Ok(loaded)
    }

    /// Drops what is compiled, so that the next request reads what was just committed.
    pub(crate) async fn forget(&self, tenant: &TenantId) {
        let slot = self.slot(tenant);
        let _loading = slot.loading.lock().await;
        slot.current.store(None);
    }

    /// Policies and bindings are two reads: if a change was committed in between, they are read again, so that
    /// no rule is joined to a binding that it never stood beside.
    async fn load(&self, tenant: &TenantId, mut epoch: i64) -> Result<Vec<PolicyInput>> {
        loop {
            let policies = store::load(self.db.on(As::Tenant(tenant)), tenant).await?;
            let now = self.epoch(tenant).await?;
            if now == epoch {
                return Ok(policies);
            }
            epoch = now;
        }
    }

    async fn epoch(&self, tenant: &TenantId) -> Result<i64> {
        let epoch = self.db.on(As::Tenant(tenant)).fetch_optional::<(i64,)>(store::epoch(tenant)).await?;
        Ok(epoch.map_or(0, |(epoch,)| epoch))
    }

    fn slot(&self, tenant: &TenantId) -> Arc<Slot> {
        let slots = if tenant.is_partner() { &self.partners } else { &self.tenants };
        slots.get_with_by_ref(tenant, Arc::default)
    }

    fn fresh(&self, slot: &Slot, above: i64) -> Option<Arc<Loaded>> {
        let loaded = slot.current.load_full().filter(|loaded| loaded.above == above)?;
        let age = self.clock.now() - loaded.checked_at;
        // A clock that was set back gives a negative age: look again.
        (!age.is_negative() && age < limits::EPOCH_CHECK).then_some(loaded)
    }
}
