//! Wrapping anew, and the end of old keys.
//!
//! Everything goes in batches, each an act of its own with its own audit record: a transaction takes some
//! wraps, opens them under the old key, and puts new ones where the old still are. What was done is known
//! from the rows themselves, so that a crash loses nothing and any replica can go on. On PostgreSQL a batch
//! takes its rows with `SKIP LOCKED`: it never waits for a writer, and two replicas share the work.
//!
//! A row may come under an old key later: from a transaction that was open during the switch, or from a
//! replica that has not yet read the new key. That is why an old key lives for [`Keyring::grace`] after it was
//! last found in use, and why its end is a `DELETE` that the references of the rows can refuse.

use std::{sync::atomic::Ordering, time::Duration};

use time::OffsetDateTime;

use super::{
    keyring::{Keyring, rewrap_tenant_key},
    ops::{Replace, again, replace_tenant_key},
    store::{self, RetiredPartnerKey, RetiredTenantKey, SealedTable, TakenTenantKey, WrapRow, sql},
    types::{OldKey, Progress, RowCounts},
    wear::used_up,
};
use crate::{
    Caller, Ctx, PartnerId, Result, Scope, TenantId, Vault,
    audit::Action,
    id, limits,
    pipeline::{Act, Permit},
    storage::{Ts, query},
    vault::Inner,
};

/// The job, as it appears in the audit trail.
pub(super) const JOB: &str = "key-rotation";
/// How often rows that others hold are looked at again before they are left to the next round.
const PASSES: u32 = 20;
/// How long to wait for those who hold them.
const PAUSE: Duration = Duration::from_millis(50);

/// Told how far an act has come.
pub(super) type Watch<'a> = Option<&'a (dyn Fn(Progress) + Send + Sync)>;

/// What looking after a retired key came to.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) key: OldKey,
    pub(super) rewrapped: u64,
    pub(super) broken: u64,
    /// Wraps that are under it still.
    left: u64,
}

/// What one batch came to.
struct Batch<R> {
    rewrapped: u64,
    broken: u64,
    /// Where the next begins; none after the last.
    next: Option<R>,
}

/// Goes on with every rotation that is not finished, and destroys the keys whose time has come. For the
/// background work of any replica.
pub(crate) async fn run_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let mut result = replace_worn(inner).await;
    let mut left = 0;
    let mut after = String::new();
    loop {
        let due = query(sql::RETIRED_TENANT_KEYS).bind(&after).bind("");
        let page: Vec<RetiredTenantKey> = inner.door.key_db().fetch_all(due).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.id);
        for old in &page {
            let ctx = keeper(inner, &TenantId::stored(&*old.tenant_id)?, None)?;
            let settled = settle_tenant_key(inner, &ctx, old, limits::REWRAP_ROUND, None).await;
            result = result.and(settled.map(|settled| left += settled.left));
        }
    }
    inner.rewrap_remaining.store(left, Ordering::Relaxed);
    after.clear();
    loop {
        let due = query(sql::RETIRED_PARTNER_KEYS).bind(&after);
        let page: Vec<RetiredPartnerKey> = inner.door.key_db().fetch_all(due).await?;
        let Some(last) = page.last() else { return result };
        after.clone_from(&last.key.id);
        for old in &page {
            let ctx = keeper(inner, &TenantId::stored(&*old.retired_under)?, None)?;
            result = result.and(settle_partner_key(inner, &ctx, old, None).await.map(drop));
        }
    }
}

/// Makes a new key for each tenant whose key has sealed half of what it may.
async fn replace_worn(inner: &Inner) -> Result<()> {
    let mut result = Ok(());
    let mut after = String::new();
    loop {
        let worn = query(sql::WORN).bind(limits::WRAPS_WORN).bind(&after);
        let page: Vec<(String,)> = inner.door.key_db().fetch_all(worn).await?;
        let Some((last,)) = page.last() else { return result };
        after.clone_from(last);
        for (tenant,) in page {
            let ctx = keeper(inner, &TenantId::stored(tenant)?, None)?;
            let replaced = again(|| replace_tenant_key(inner, None, &ctx, Replace::Worn)).await;
            result = result.and(replaced.map(drop));
        }
    }
}

/// The job acting for a tenant; in the name of a request if there is one.
pub(super) fn keeper(vault: &Inner, tenant: &TenantId, request: Option<&Ctx>) -> Result<Ctx> {
    let now = vault.clock.now();
    let caller = Caller::system(JOB, tenant.clone())?;
    let request_id = match request {
        Some(request) => request.request_id().to_owned(),
        None => id::new("req_", now, vault.random.as_ref())?,
    };
    Ok(Ctx::new(caller, request_id, now))
}

pub(super) fn act(kind: &'static str, id: &str) -> Act {
    Act::object(Action::KeyRotate, &[Scope::Admin], kind, Some(id))
}

/// Wraps anew what is under a retired tenant key, and destroys the key if its time has come. `ctx` acts for
/// the tenant. Stops after about `budget` rows.
pub(super) async fn settle_tenant_key(
    vault: &Inner,
    ctx: &Ctx,
    old: &RetiredTenantKey,
    budget: u64,
    watch: Watch<'_>,
) -> Result<Settled> {
    let (mut rewrapped, mut broken) = (0, 0);
    let mut left = count(vault, &old.id).await?;
    let total = left.total().unsigned_abs();
    for pass in 0..PASSES {
        if left.total().unsigned_abs() <= broken || rewrapped >= budget {
            break;
        }
        if pass > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        broken = 0;
        for table in SealedTable::ALL.into_iter().filter(|table| left.of(*table) > 0) {
            let mut after = None;
            loop {
                let batch = rewrap_rows(vault, ctx, table, old, after.as_ref()).await?;
                rewrapped += batch.rewrapped;
                broken += batch.broken;
                if let Some(watch) = watch {
                    watch(Progress { table: table.name(), done: rewrapped, total: total.max(rewrapped) });
                }
                after = batch.next;
                if after.is_none() || rewrapped >= budget {
                    break;
                }
            }
        }
        left = count(vault, &old.id).await?;
    }
    let mut key = OldKey { id: old.id.clone(), destroyed: false, destroy_after: None };
    if left.total() > 0 {
        return Ok(Settled { key, rewrapped, broken, left: left.total().unsigned_abs() });
    }
    let now = vault.clock.now();
    let grace = vault.door.key_grace();
    let drained_at = match old.drained_at {
        Some(at) if rewrapped == 0 => at.get(),
        _ => mark_drained(vault, ctx, &old.id, now).await?,
    };
    let destroy_after = drained_at.max(old.retired_at.get()) + grace;
    if destroy_after <= now {
        key.destroyed = destroy_tenant_key(vault, ctx, &old.id, now - grace).await?;
    } else {
        key.destroy_after = Some(destroy_after);
    }
    Ok(Settled { key, rewrapped, broken, left: 0 })
}

/// What is under a retired key, over all tables.
async fn count(vault: &Inner, key_id: &str) -> Result<RowCounts> {
    let row: Option<(i64, i64, i64, i64)> =
        vault.door.key_db().fetch_optional(store::under_tenant_key(key_id)).await?;
    Ok(row.map(RowCounts::from).unwrap_or_default())
}

async fn rewrap_rows<'a>(
    vault: &'a Inner,
    ctx: &'a Ctx,
    table: SealedTable,
    old: &RetiredTenantKey,
    after: Option<&WrapRow>,
) -> Result<Batch<WrapRow>> {
    let work = |permit: Permit<'a>| async move {
        let keys = permit.keys_for(&old.newest).await?;
        if !permit.keyring().may_seal(&keys, &old.newest).await? {
            return Err(used_up());
        }
        let now = vault.clock.now();
        let mut tx = permit.begin().await?;
        let take = table.take(tx.tenant(), &old.id, after, tx.take_rows());
        let rows: Vec<WrapRow> = tx.fetch_all(take).await?;
        let full = rows.len() == limits::REWRAP_BATCH;
        let (mut anew, mut broken, mut last) = (Vec::with_capacity(rows.len()), 0, None);
        for row in rows {
            let wrapped = table
                .in_slot(tx.tenant(), &row, |slot| keys.rewrap(slot, &old.id, &old.newest, &row.wrapped_key));
            last = full.then(|| row.place());
            match wrapped {
                Ok(wrapped) => anew.push((row, wrapped)),
                Err(error) => {
                    broken += 1;
                    tracing::error!(source = ?std::error::Error::source(&error), "a data key does not open");
                }
            }
        }
        let rewrapped = match anew.is_empty() {
            true => 0,
            false => tx.execute(table.replace(tx.tenant(), (&old.id, &old.newest), &anew)).await?,
        };
        if rewrapped > 0 {
            // Whoever has read these rows opens them with the old key: its time begins anew, in the same
            // transaction, so that no other replica finds it drained for long and empty.
            tx.execute(query(sql::STILL_IN_USE).bind(&old.id).bind(now)).await?;
        }
        tx.note("step", "rewrap");
        tx.note("table", table.name());
        tx.note("rows", rewrapped);
        tx.note("new_key_id", old.newest.clone());
        tx.commit(Batch { rewrapped, broken, next: last }).await
    };
    vault.door.perform(ctx, act("tenant_key", &old.id), work).await
}

async fn mark_drained<'a>(
    vault: &'a Inner,
    ctx: &'a Ctx,
    id: &str,
    now: OffsetDateTime,
) -> Result<OffsetDateTime> {
    let work = |permit: Permit<'a>| async move {
        let mut tx = permit.begin().await?;
        tx.execute(query(sql::DRAINED).bind(id).bind(now)).await?;
        tx.note("step", "drained");
        tx.commit(Ts::from(now).get()).await
    };
    vault.door.perform(ctx, act("tenant_key", id), work).await
}

/// Whether the key is gone.
async fn destroy_tenant_key<'a>(
    vault: &'a Inner,
    ctx: &'a Ctx,
    id: &str,
    unused_since: OffsetDateTime,
) -> Result<bool> {
    let work = |permit: Permit<'a>| async move {
        let keyring: &Keyring = permit.keyring();
        let tenant = permit.tenant();
        let mut tx = permit.begin().await?;
        let gone = tx.execute(query(sql::DESTROY_TENANT_KEY).bind(id).bind(unused_since)).await? == 1;
        tx.note("step", "destroy");
        tx.note("destroyed", gone);
        let done = tx.commit(gone).await?;
        keyring.forget(tenant).await;
        Ok(done)
    };
    still_needed(vault.door.perform(ctx, act("tenant_key", id), work).await)
}

/// A reference that came in the last moment keeps the key: the next round finds the row.
fn still_needed(destroyed: Result<bool>) -> Result<bool> {
    match destroyed {
        Err(error) if store::is_reference(&error) => Ok(false),
        destroyed => destroyed,
    }
}

/// Wraps the tenant keys under a retired partner key anew, and destroys it if nothing is under it any more.
pub(super) async fn settle_partner_key(
    vault: &Inner,
    ctx: &Ctx,
    old: &RetiredPartnerKey,
    watch: Watch<'_>,
) -> Result<Settled> {
    let partner = PartnerId::parse(&*old.partner_id)?;
    let (mut rewrapped, mut broken) = (0, 0);
    let mut total = None;
    for pass in 0..PASSES {
        let under = query(sql::UNDER_PARTNER_KEY).bind(&old.key.id);
        let left: Option<(i64,)> = vault.door.key_db().fetch_optional(under).await?;
        let left = left.map_or(0, |(left,)| left.unsigned_abs());
        let total = *total.get_or_insert(left);
        if left <= broken {
            break;
        }
        if pass > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        broken = 0;
        let mut after = String::new();
        loop {
            let batch = rewrap_tenant_keys(vault, ctx, &partner, old, &after).await?;
            rewrapped += batch.rewrapped;
            broken += batch.broken;
            if let Some(watch) = watch {
                watch(Progress { table: "tenant_key", done: rewrapped, total: total.max(rewrapped) });
            }
            match batch.next {
                Some(next) => after = next,
                None => break,
            }
        }
    }
    let destroyed = broken == 0 && destroy_partner_key(vault, ctx, &old.key.id).await?;
    let key = OldKey { id: old.key.id.clone(), destroyed, destroy_after: None };
    Ok(Settled { key, rewrapped, broken, left: 0 })
}

async fn rewrap_tenant_keys<'a>(
    vault: &'a Inner,
    ctx: &'a Ctx,
    partner: &PartnerId,
    old: &RetiredPartnerKey,
    after: &str,
) -> Result<Batch<String>> {
    let work = |permit: Permit<'a>| async move {
        let permit = permit.over_keys()?;
        let keyring = permit.keyring();
        let from = keyring.partner_key(partner, &old.key).await?;
        let (new, to) = keyring.newest_partner_key(partner).await?;
        let mut tx = permit.begin().await?;
        let take = store::take_tenant_keys(&old.key.id, after, limits::REWRAP_BATCH, tx.take_rows());
        let rows: Vec<TakenTenantKey> = tx.fetch_all(take).await?;
        let next = (rows.len() == limits::REWRAP_BATCH).then(|| rows.last().map(|row| row.key.id.clone()));
        let (mut rewrapped, mut broken) = (0, 0);
        for TakenTenantKey { key, tenant_id } in &rows {
            let tenant = TenantId::stored(&**tenant_id)?;
            let Ok(wrapped) = rewrap_tenant_key(&tenant, key, (&from, &to), keyring.random()) else {
                broken += 1;
                tracing::error!(key_id = key.id, "a tenant key does not open");
                continue;
            };
            let replace = query(sql::REWRAP_TENANT_KEY)
                .bind(&key.id)
                .bind(&key.partner_key_id)
                .bind(&key.wrapped)
                .bind(&new.id)
                .bind(&wrapped);
            rewrapped += tx.execute(replace).await?;
        }
        tx.note("step", "rewrap");
        tx.note("table", "tenant_key");
        tx.note("rows", rewrapped);
        tx.note("new_key_id", new.id);
        tx.commit(Batch { rewrapped, broken, next: next.flatten() }).await
    };
    vault.door.perform(ctx, act("partner_key", &old.key.id), work).await
}

async fn destroy_partner_key<'a>(vault: &'a Inner, ctx: &'a Ctx, id: &str) -> Result<bool> {
    let work = |permit: Permit<'a>| async move {
        let mut tx = permit.over_keys()?.begin().await?;
        let gone = tx.execute(query(sql::DESTROY_PARTNER_KEY).bind(id)).await? == 1;
        tx.note("step", "destroy");
        tx.note("destroyed", gone);
        tx.commit(gone).await
    };
    still_needed(vault.door.perform(ctx, act("partner_key", id), work).await)
}
