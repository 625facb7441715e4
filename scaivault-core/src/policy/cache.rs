use std::sync::Arc;

use arc_swap::ArcSwapOption;
use moka::sync::Cache;
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{CompiledPolicies, store};
use crate::{
    Clock, Result, TenantId, limits,
    storage::{As, Db},
};

/// The compiled policies of each tenant, looked up by every request.
///
/// A tenant's epoch rises with every change of its policies. What was compiled is used without asking for
/// up to [`limits::EPOCH_CHECK`]; then the epoch is read, and only if it rose are the policies. A change
/// made here is seen at once: [`PolicyCache::forget`] is called between its commit and its answer.
#[derive(Debug)]
pub(crate) struct PolicyCache {
    db: Db,
    clock: Arc<dyn Clock>,
    tenants: Cache<TenantId, Arc<Slot>>,
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
    checked_at: OffsetDateTime,
    policies: Arc<CompiledPolicies>,
}

/// Tenants whose policies are kept compiled at once.
const TENANTS: u64 = 10_000;

impl PolicyCache {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock, tenants: Cache::new(TENANTS) }
    }

    /// The tenant's policies, at most [`limits::EPOCH_CHECK`] behind what any replica committed.
    pub(crate) async fn current(&self, tenant: &TenantId) -> Result<Arc<CompiledPolicies>> {
        let slot = self.slot(tenant);
        if let Some(policies) = self.fresh(&slot) {
            return Ok(policies);
        }
        let _loading = slot.loading.lock().await;
        // Whoever held the lock before may have loaded what we need.
        if let Some(policies) = self.fresh(&slot) {
            return Ok(policies);
        }
        let checked_at = self.clock.now();
        // The epoch is read before the policies: they may be newer than it says, never older.
        let epoch = self
            .db
            .on(As::Tenant(tenant))
            .fetch_optional::<(i64,)>(store::epoch(tenant))
            .await?
            .map_or(0, |(epoch,)| epoch);
        let known = slot.current.load_full().filter(|loaded| loaded.epoch == epoch);
        let policies = match known {
            Some(loaded) => loaded.policies.clone(),
            None => Arc::new(self.load(tenant, epoch).await?),
        };
        slot.current.store(Some(Arc::new(Loaded { epoch, checked_at, policies: policies.clone() })));
        Ok(policies)
    }

    /// Drops what is compiled, so that the next request reads what was just committed.
    pub(crate) async fn forget(&self, tenant: &TenantId) {
        let slot = self.slot(tenant);
        let _loading = slot.loading.lock().await;
        slot.current.store(None);
    }

    /// Policies and bindings are two reads: if a change was committed in between, they are read again, so that
    /// no rule is joined to a binding that it never stood beside.
    async fn load(&self, tenant: &TenantId, mut epoch: i64) -> Result<CompiledPolicies> {
        loop {
            let policies = store::load(self.db.on(As::Tenant(tenant)), tenant).await?;
            let (now,) = self
                .db
                .on(As::Tenant(tenant))
                .fetch_optional::<(i64,)>(store::epoch(tenant))
                .await?
                .unwrap_or_default();
            if now == epoch {
                return Ok(policies);
            }
            epoch = now;
        }
    }

    fn slot(&self, tenant: &TenantId) -> Arc<Slot> {
        self.tenants.get_with_by_ref(tenant, Arc::default)
    }

    fn fresh(&self, slot: &Slot) -> Option<Arc<CompiledPolicies>> {
        let loaded = slot.current.load();
        let loaded = loaded.as_ref()?;
        let age = self.clock.now() - loaded.checked_at;
        // A clock that was set back gives a negative age: look again.
        (!age.is_negative() && age < limits::EPOCH_CHECK).then(|| loaded.policies.clone())
    }
}
