//! Partitions ahead of time, and the end of what has outlived its retention: a month at a time on PostgreSQL, a few
//! hundred rows at a time on SQLite. Before records go, their tenants' chains are signed for up to there, so that
//! what is left can still be proved.

use time::OffsetDateTime;

use crate::{
    Result, Vault,
    audit::{Checkpoints, store},
    limits, pki,
    storage::{partitions::end_of, query},
    vault::Inner,
};

pub(super) async fn run_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let now = inner.clock.now();
    let cutoff = now - inner.settings.audit_retention;
    if !inner.door.has_partitions() {
        return delete_old(inner, cutoff).await.and(pki::delete_expired(inner, cutoff).await);
    }
    for months in [inner.sequencer.months(), inner.door.certificate_months()] {
        inner.door.make_months_ahead(months, now).await?;
    }
    detach_old(inner, cutoff).await.and(pki::detach_expired(inner, cutoff).await)
}

/// Deletes in small steps what a chain has before the first record that is to be kept.
async fn delete_old(inner: &Inner, cutoff: OffsetDateTime) -> Result<()> {
    let db = inner.door.audit_db();
    let mut checkpoints = None;
    for tenant in tenants(inner).await? {
        let kept = query(store::sql::KEPT_FROM).bind(&tenant).bind(cutoff);
        let kept = db.fetch_optional::<(Option<i64>,)>(kept).await?.and_then(|(seq,)| seq);
        let Some((seq, _)) = retire(inner, &mut checkpoints, &tenant, (cutoff, kept)).await? else {
            continue;
        };
        loop {
            let delete = query(store::sql::DELETE_OLD).bind(&tenant).bind(seq).bind(limits::AUDIT_DELETE);
            if db.execute(delete).await? < limits::AUDIT_DELETE.unsigned_abs() {
                break;
            }
        }
    }
    Ok(())
}

/// Signs that the records of a tenant before a time may be gone; gives the last of them, if there are any.
async fn retire<'a>(
    inner: &'a Inner,
    checkpoints: &mut Option<Checkpoints<'a>>,
    tenant: &str,
    (before, kept): (OffsetDateTime, Option<i64>),
) -> Result<Option<(i64, Vec<u8>)>> {
    let until = match kept {
        Some(kept) => query(store::sql::PLACE).bind(tenant).bind(kept - 1),
        None => query(store::sql::OLD_UNTIL).bind(tenant).bind(before),
    };
    let last: Option<(i64, Vec<u8>)> = inner.door.audit_db().fetch_optional(until).await?;
    if let Some((seq, hash)) = &last {
        if checkpoints.is_none() {
            *checkpoints = Some(Checkpoints::open(inner).await?);
        }
        if let Some(checkpoints) = checkpoints {
            // A chain that is not what it was is left as it is, for somebody to look at.
            checkpoints.head(tenant).await?;
            checkpoints.retire(tenant, *seq, hash).await?;
        }
    }
    Ok(last)
}

async fn tenants(inner: &Inner) -> Result<Vec<String>> {
    let rows: Vec<(String,)> = inner.door.audit_db().fetch_all(query(store::sql::TENANTS)).await?;
    Ok(rows.into_iter().map(|(tenant,)| tenant).collect())
}

/// Takes months out that lie wholly before `cutoff`.
async fn detach_old(inner: &Inner, cutoff: OffsetDateTime) -> Result<()> {
    let months = inner.sequencer.months();
    let old = inner.door.months_before(months, cutoff).await?;
    if old.is_empty() {
        return Ok(());
    }
    let mut checkpoints = None;
    let tenants = tenants(inner).await?;
    for month in old {
        let before = end_of(month)?;
        for tenant in &tenants {
            retire(inner, &mut checkpoints, tenant, (before, None)).await?;
        }
        inner.door.detach_month(months, month).await?;
    }
    Ok(())
}
