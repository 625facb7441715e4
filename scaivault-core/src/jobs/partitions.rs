//! Partitions ahead of time, and the end of what has outlived its retention: a month at a time on PostgreSQL, a few
//! hundred rows at a time on SQLite. Before records go, their tenants' chains are signed for up to there, so that
//! what is left can still be proved.

#[cfg(feature = "postgres")]
use std::collections::BTreeSet;

use time::OffsetDateTime;

#[cfg(feature = "postgres")]
use crate::audit::sequencer::{first_day, month_of, next_month};
use crate::{
    Result, Vault,
    audit::{Checkpoints, store},
    limits,
    storage::{Db, query},
    vault::Inner,
};

pub(super) async fn run_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let now = inner.clock.now();
    let cutoff = now - inner.settings.audit_retention;
    match inner.door.job_db() {
        Db::Lite { .. } => delete_old(inner, cutoff).await,
        #[cfg(feature = "postgres")]
        Db::Pg(..) => {
            make_ahead(inner, now).await?;
            detach_old(inner, cutoff).await
        }
    }
}

/// Deletes in small steps what a chain has before the first record that is to be kept.
async fn delete_old(inner: &Inner, cutoff: OffsetDateTime) -> Result<()> {
    let db = inner.door.job_db();
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
    let last: Option<(i64, Vec<u8>)> = inner.door.job_db().fetch_optional(until).await?;
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
    let rows: Vec<(String,)> = inner.door.job_db().fetch_all(query(store::sql::TENANTS)).await?;
    Ok(rows.into_iter().map(|(tenant,)| tenant).collect())
}

/// This month and the next ones have a partition each.
#[cfg(feature = "postgres")]
async fn make_ahead(inner: &Inner, now: OffsetDateTime) -> Result<()> {
    let months = std::iter::successors(Some(month_of(now)), |month| Some(next_month(*month)));
    inner.sequencer.make_months(months.take(1 + limits::PARTITIONS_AHEAD as usize).collect()).await
}

/// Takes months out that lie wholly before `cutoff`.
#[cfg(feature = "postgres")]
async fn detach_old(inner: &Inner, cutoff: OffsetDateTime) -> Result<()> {
    let db = inner.door.job_db();
    let names: Vec<(String,)> = db.fetch_all(query(store::sql::partitions::NAMES).bind("audit_log")).await?;
    let months: BTreeSet<(i32, u8)> = names.iter().filter_map(|(name,)| month_named(name)).collect();
    let old: Vec<_> = months.into_iter().filter(|month| *month < month_of(cutoff)).collect();
    if old.is_empty() {
        return Ok(());
    }
    let mut checkpoints = None;
    let tenants = tenants(inner).await?;
    for month in old {
        let before = begin(next_month(month))?;
        for tenant in &tenants {
            retire(inner, &mut checkpoints, tenant, (before, None)).await?;
        }
        let detach = query(store::sql::partitions::DETACH).bind("audit_log").bind(first_day(month));
        db.execute(detach).await?;
        inner.sequencer.forget_months();
        tracing::info!(month = first_day(month), "a month of the audit trail has outlived its retention");
    }
    Ok(())
}

/// The month of a partition.
#[cfg(feature = "postgres")]
fn month_named(name: &str) -> Option<(i32, u8)> {
    let (year, month) = name.rsplit_once("_p")?.1.split_once('_')?;
    Some((year.parse().ok()?, month.parse().ok()?))
}

#[cfg(feature = "postgres")]
fn begin((year, month): (i32, u8)) -> Result<OffsetDateTime> {
    let month = time::Month::try_from(month).map_err(crate::Error::internal)?;
    let date = time::Date::from_calendar_date(year, month, 1).map_err(crate::Error::internal)?;
    Ok(date.midnight().assume_utc())
}
