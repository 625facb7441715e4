//! What is told of a secret's expiry: that it comes, at each threshold of `notify_before`, and that it came.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{
    SecretPath,
    store::{self, SecretRow, sql},
};
use crate::{
    DurationText, Error, Result,
    events::EventType,
    pipeline::{Outcome, Permit},
    storage::query,
    wire::rfc3339,
};

/// The moments at which something is to be told of what expires.
#[derive(Debug)]
pub(crate) struct Schedule {
    expires_at: OffsetDateTime,
    thresholds: Vec<DurationText>,
}

/// What is to be told.
#[derive(Debug, PartialEq)]
pub(crate) enum Due {
    Expiring { threshold: String, days_remaining: i64 },
    Expired,
}

impl Schedule {
    /// `notify_before` is the column's text: durations with commas between.
    pub(crate) fn new(expires_at: OffsetDateTime, notify_before: &str) -> Result<Self> {
        let thresholds: Result<_> = notify_before.split(',').map(str::parse).collect();
        let thresholds = thresholds.map_err(|_| Error::internal("a stored threshold cannot be read"))?;
        Ok(Self { expires_at, thresholds })
    }

    /// The first moment after `time` at which something is to be told.
    pub(crate) fn next(&self, time: OffsetDateTime) -> Option<OffsetDateTime> {
        let thresholds = self.thresholds.iter().filter_map(|t| self.moment(t));
        thresholds.chain([self.expires_at]).filter(|moment| *moment > time).min()
    }

    /// What is to be told at `now` of what became due since `since`: of several thresholds, the last one.
    pub(crate) fn due(&self, since: OffsetDateTime, now: OffsetDateTime) -> Option<Due> {
        if self.expires_at <= now {
            return Some(Due::Expired);
        }
        let passed = |t: &&DurationText| self.moment(t).is_some_and(|m| since <= m && m <= now);
        let threshold = self.thresholds.iter().filter(passed).min_by_key(|t| t.get())?;
        let left = self.expires_at - now;
        let begun = i64::from(left > Duration::days(left.whole_days()));
        let days_remaining = left.whole_days() + begun;
        Some(Due::Expiring { threshold: threshold.as_str().to_owned(), days_remaining })
    }

    fn moment(&self, threshold: &DurationText) -> Option<OffsetDateTime> {
        self.expires_at.checked_sub(threshold.get().try_into().ok()?)
    }
}

/// Tells what is due of one secret and sets when to look at it next. Several replicas may come at once: the
/// first one moves the row on, and the others find nothing due.
pub(super) async fn notify(permit: Permit<'_>, path: &SecretPath) -> Result<Outcome<()>> {
    let mut tx = permit.begin().await?;
    let select = store::secret_locked(tx.tenant(), path.as_str(), tx.lock_rows());
    let found: Option<SecretRow> = tx.fetch_optional(select).await?;
    let now = tx.ctx().now();
    let due = |row: &SecretRow| row.deleted_at().is_none() && row.notify_at().is_some_and(|at| at <= now);
    let row = found.filter(due).ok_or_else(super::ops::not_found)?;
    let schedule = row.expires_at().map(|at| Schedule::new(at, &row.notify_before)).transpose()?;
    if let (Some(schedule), Some(since)) = (&schedule, row.notify_at())
        && let Some(due) = schedule.due(since, now)
    {
        let (event_type, data) = told(due, schedule.expires_at);
        tx.event(event_type, Some(path.as_str()), data)?;
        tx.note("event", event_type.as_str());
    }
    let next = schedule.and_then(|schedule| schedule.next(now));
    tx.execute(query(sql::SET_NOTIFY).bind(tx.tenant()).bind(&row.id).bind(next)).await?;
    tx.commit(()).await
}

fn told(due: Due, expires_at: OffsetDateTime) -> (EventType, Value) {
    let event_type = match due {
        Due::Expired => EventType::SecretExpired,
        Due::Expiring { .. } => EventType::SecretExpiring,
    };
    (event_type, due.data(expires_at))
}

impl Due {
    /// What an event about it says.
    pub(crate) fn data(self, expires_at: OffsetDateTime) -> Value {
        let expires_at = rfc3339(expires_at);
        match self {
            Self::Expired => json!({ "expires_at": expires_at }),
            Self::Expiring { threshold, days_remaining } => {
                json!({ "expires_at": expires_at, "days_remaining": days_remaining, "threshold": threshold })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const END: OffsetDateTime = datetime!(2026-05-31 12:00 UTC);

    fn schedule() -> Schedule {
        Schedule::new(END, "30d,7d,1d").unwrap()
    }

    fn before(days: i64) -> OffsetDateTime {
        END - Duration::days(days)
    }

    #[test]
    fn the_next_moment_is_strictly_later_and_the_expiry_is_the_last() {
        let moments = [before(40), before(30), before(7), before(1)];
        let next: Vec<_> = moments.into_iter().map(|m| schedule().next(m)).collect();
        assert_eq!(next, [Some(before(30)), Some(before(7)), Some(before(1)), Some(END)]);
        assert_eq!(schedule().next(END), None);
        assert_eq!(Schedule::new(END, "366000d").unwrap().next(before(2)), Some(END));
    }

    #[test]
    fn of_several_thresholds_that_passed_unseen_the_last_is_told() {
        let expiring = |threshold: &str, days_remaining| {
            Some(Due::Expiring { threshold: threshold.to_owned(), days_remaining })
        };
        assert_eq!(schedule().due(before(30), before(30)), expiring("30d", 30));
        assert_eq!(schedule().due(before(30), before(30) + Duration::seconds(20)), expiring("30d", 30));
        assert_eq!(schedule().due(before(30), before(6)), expiring("7d", 6));
        assert_eq!(schedule().due(before(7), END - Duration::seconds(1)), expiring("1d", 1));
        assert_eq!(schedule().due(before(30), END), Some(Due::Expired));
        assert_eq!(schedule().due(before(29), before(8)), None);
    }
}
