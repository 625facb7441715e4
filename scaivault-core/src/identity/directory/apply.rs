//! How facts get into the database: by one transaction at a time, which holds the directory's one row.

use serde_json::Value;
use time::OffsetDateTime;

use super::{
    model::{DELETED, Fact, Key, names_of},
    registers::{Registers, Version},
    store::{self, StateRow, sql},
};
use crate::{
    Result, TenantId, limits,
    pipeline::Write,
    storage::{QueryBuilder, Ts, json, query},
};

/// Keeps everybody else from changing the directory until the transaction ends.
pub(super) async fn lock(tx: &mut Write<'_>) -> Result<()> {
    let mut state = QueryBuilder::with(sql::STATE, []);
    state.text(tx.lock_rows());
    tx.fetch_optional::<(i64, Option<Ts>)>(state.build()).await.map(drop)
}

/// Takes an event over. What is not newer than the last sync of its tenant changes nothing that the sync saw, and what
/// the sync did not see was deleted by then. Whether anything is different now.
pub(super) async fn apply(tx: &mut Write<'_>, fact: &Fact) -> Result<bool> {
    let floor = floor(tx, &fact.key).await?;
    let known: Option<StateRow> = tx.fetch_optional(store::state_of(&fact.key)).await?;
    let named = add_names(tx, fact).await?;
    let old = floor.filter(|floor| fact.version.at() <= *floor);
    let mut state = match (known, old) {
        (Some(_), Some(_)) => return Ok(named),
        (known, _) => known.map(|row| row.state.0).unwrap_or_default(),
    };
    let mut changed = fact.merge(&mut state);
    if let Some(floor) = old {
        changed |= state.set("status", &Version::of_sync(floor), DELETED.into());
    }
    if changed {
        write(tx, &fact.key, &state).await?;
    }
    Ok(changed || named)
}

/// Up to when the last sync knows everything; clocks may differ.
async fn floor(tx: &mut Write<'_>, key: &Key) -> Result<Option<OffsetDateTime>> {
    let tenant = key.tenant().map_or("", TenantId::as_str);
    let row: Option<(Option<Ts>, Option<Ts>)> = tx.fetch_optional(query(sql::FLOOR).bind(tenant)).await?;
    let (full, own) = row.unwrap_or_default();
    let own = own.filter(|_| !matches!(key, Key::Partner(_) | Key::Tenant(_)));
    Ok(full.max(own).map(|at| at.get() - limits::DIRECTORY_SKEW))
}

/// Writes a record from its registers.
pub(super) async fn write(tx: &mut Write<'_>, key: &Key, state: &Registers) -> Result<()> {
    let now = tx.ctx().now();
    tx.execute(store::set(key, state, now)?).await.map(drop)
}

/// Remembers the names that a fact gives to a user: also one from long ago, which refuses him while he is refused.
pub(super) async fn add_names(tx: &mut Write<'_>, fact: &Fact) -> Result<bool> {
    let Key::User(tenant, id) = &fact.key else { return Ok(false) };
    let text = |field: &str| fact.fields.get(field).and_then(Value::as_str);
    let mut added = 0;
    for name in names_of(id, text("email"), text("external_id")) {
        added += tx.execute(query(sql::ADD_NAME).bind(tenant).bind(name).bind(id)).await?;
    }
    Ok(added > 0)
}

/// Makes every replica look anew, at all partners or at one tenant.
pub(super) async fn raise(tx: &mut Write<'_>, tenant: Option<&TenantId>) -> Result<()> {
    if let Some(tenant) = tenant {
        let empty = json(&Registers::default())?;
        let now = tx.ctx().now();
        tx.execute(query(sql::MAKE_TENANT).bind(tenant).bind(now).bind(empty)).await?;
        tx.execute(query(sql::RAISE_TENANT).bind(tenant)).await?;
    }
    tx.execute(query(sql::RAISE_EPOCH)).await?;
    tx.directory_changed();
    Ok(())
}
