//! Partitions by month, which PostgreSQL has and SQLite has not.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use time::{Month as Name, OffsetDateTime, UtcOffset};

use super::{As, Db, query::query};
use crate::{Error, Result};

/// Year and month, in UTC.
pub(crate) type Month = (i32, u8);

/// The months of a table that are known to have their partition. Cheap to clone; clones know the same.
#[derive(Clone, Debug)]
pub(crate) struct Months {
    table: &'static str,
    known: Arc<Mutex<BTreeSet<Month>>>,
}

impl Months {
    pub(crate) fn of(table: &'static str) -> Self {
        Self { table, known: Arc::default() }
    }

    /// Those of these times whose month is not known to have a partition; none where there are no partitions.
    pub(crate) fn lacking(&self, db: &Db, times: impl Iterator<Item = OffsetDateTime>) -> BTreeSet<Month> {
        if !db.has_partitions() {
            return BTreeSet::new();
        }
        self.with(|known| times.map(month_of).filter(|month| !known.contains(month)).collect())
    }

    /// Makes the partitions of these months, unless it is known that they are there. Never within a transaction.
    pub(crate) async fn make(&self, db: &Db, months: BTreeSet<Month>) -> Result<()> {
        for month in months {
            if !self.with(|known| known.contains(&month)) {
                db.on(As::Jobs).execute(query(sql::MAKE).bind(self.table).bind(first_day(month))).await?;
                self.with(|known| known.insert(month));
            }
        }
        Ok(())
    }

    /// Makes the partitions of this month and the next ones.
    pub(crate) async fn make_ahead(&self, db: &Db, now: OffsetDateTime, ahead: u32) -> Result<()> {
        let months = std::iter::successors(Some(month_of(now)), |month| Some(next_month(*month)));
        self.make(db, months.take(1 + ahead as usize).collect()).await
    }

    /// The months that have a partition and lie wholly before a time.
    pub(crate) async fn before(&self, db: &Db, time: OffsetDateTime) -> Result<BTreeSet<Month>> {
        let names: Vec<(String,)> = db.on(As::Jobs).fetch_all(query(sql::NAMES).bind(self.table)).await?;
        let months = names.iter().filter_map(|(name,)| month_named(name));
        Ok(months.filter(|month| *month < month_of(time)).collect())
    }

    /// Takes the partition of a month out of its table.
    pub(crate) async fn detach(&self, db: &Db, month: Month) -> Result<()> {
        let detach = query(sql::DETACH).bind(self.table).bind(first_day(month));
        db.on(As::Jobs).execute(detach).await?;
        self.forget();
        tracing::info!(table = self.table, month = first_day(month), "a month has outlived its retention");
        Ok(())
    }

    /// No month is known any more to have a partition.
    pub(crate) fn forget(&self) {
        self.with(BTreeSet::clear);
    }

    fn with<T>(&self, with: impl FnOnce(&mut BTreeSet<Month>) -> T) -> T {
        with(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn month_of(time: OffsetDateTime) -> Month {
    let date = time.to_offset(UtcOffset::UTC).date();
    (date.year(), date.month().into())
}

fn next_month((year, month): Month) -> Month {
    if month == u8::from(Name::December) { (year + 1, 1) } else { (year, month + 1) }
}

/// The first moment after a month.
pub(crate) fn end_of(month: Month) -> Result<OffsetDateTime> {
    let (year, month) = next_month(month);
    let month = Name::try_from(month).map_err(Error::internal)?;
    let date = time::Date::from_calendar_date(year, month, 1).map_err(Error::internal)?;
    Ok(date.midnight().assume_utc())
}

/// As PostgreSQL reads it.
fn first_day((year, month): Month) -> String {
    format!("{year:04}-{month:02}-01")
}

/// The month of a partition.
fn month_named(name: &str) -> Option<Month> {
    let (year, month) = name.rsplit_once("_p")?.1.split_once('_')?;
    Some((year.parse().ok()?, month.parse().ok()?))
}

/// Prepared on PostgreSQL alone.
pub(crate) mod sql {
    pub(crate) const MAKE: &str = "SELECT scaivault_make_partition($1, CAST($2 AS TEXT)::date)";
    pub(crate) const DETACH: &str = "SELECT scaivault_detach_partition($1, CAST($2 AS TEXT)::date)";
    pub(crate) const NAMES: &str = "\
        SELECT c.relname::text FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
        WHERE i.inhparent = to_regclass($1) ORDER BY c.relname";
    #[cfg(all(test, feature = "postgres"))]
    pub(crate) const ALL: &[&str] = &[MAKE, DETACH, NAMES];
}
