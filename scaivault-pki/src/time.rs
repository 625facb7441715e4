use std::time::Duration;

use der::{
    DateTime,
    asn1::{GeneralizedTime, UtcTime},
};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use x509_cert::time::Time;

use crate::PkiError;

/// How far back certificates begin unless a role says otherwise, for verifiers whose clocks are slow.
pub(crate) const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// The same instant in UTC with the fraction of its second cut off.
pub(crate) fn whole_second(at: OffsetDateTime) -> OffsetDateTime {
    // At the very ends of time there may be no such date; those are refused when they are written.
    let utc = at.checked_to_offset(UtcOffset::UTC).unwrap_or(at);
    utc.replace_nanosecond(0).unwrap_or(utc)
}

/// A time as messages have it: whole seconds in UTC, as `2026-10-05T12:00:00Z` (RFC 3339).
pub(crate) fn shown(at: OffsetDateTime) -> String {
    let at = whole_second(at);
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// The instant that a certificate issued at `now` begins at: five minutes back, but not before `floor`.
pub(crate) fn begin(now: OffsetDateTime, floor: Option<OffsetDateTime>) -> OffsetDateTime {
    backdated(now, BACKDATE, floor)
}

/// The instant `back` before `now`, but not before `floor`.
pub(crate) fn backdated(
    now: OffsetDateTime,
    back: Duration,
    floor: Option<OffsetDateTime>,
) -> OffsetDateTime {
    let begin = now.checked_sub(back.try_into().unwrap_or_default()).unwrap_or(now);
    floor.map_or(begin, |floor| begin.max(floor))
}

/// The last second of a life of `lifetime` that is counted from `now`. Both ends of a validity are part of
/// it (RFC 5280, 4.1.2.5), hence the second less. `None` if it is past the year 9999, or empty.
pub(crate) fn last_second(now: OffsetDateTime, lifetime: Duration) -> Option<OffsetDateTime> {
    let rest = lifetime.checked_sub(Duration::from_secs(1))?;
    now.checked_add(rest.try_into().ok()?).filter(|end| end.year() <= 9999)
}

/// The second that is two thirds of the way from `begin` to `end`.
pub(crate) fn two_thirds(begin: OffsetDateTime, end: OffsetDateTime) -> OffsetDateTime {
    let way = (end - begin).whole_seconds().saturating_mul(2) / 3;
    begin.checked_add(time::Duration::seconds(way)).unwrap_or(end)
}

/// `Time` of certificates and lists: `UTCTime` through 2049, then `GeneralizedTime` (RFC 5280, 4.1.2.5).
pub(crate) fn x509_time(at: OffsetDateTime) -> Result<Time, PkiError> {
    let date = date_time(at)?;
    if date.year() < 2050 {
        let utc = UtcTime::from_date_time(date).map_err(PkiError::encoding("UTCTime"))?;
        Ok(Time::UtcTime(utc))
    } else {
        Ok(Time::GeneralTime(GeneralizedTime::from_date_time(date)))
    }
}

/// `GeneralizedTime`, which OCSP uses for every year (RFC 6960, 4.2.1).
pub(crate) fn generalized_time(at: OffsetDateTime) -> Result<GeneralizedTime, PkiError> {
    Ok(GeneralizedTime::from_date_time(date_time(at)?))
}

/// The inverse of [`x509_time`], for what others wrote.
pub(crate) fn from_x509(at: x509_parser::time::ASN1Time) -> OffsetDateTime {
    at.to_datetime()
}

fn date_time(at: OffsetDateTime) -> Result<DateTime, PkiError> {
    let seconds = u64::try_from(whole_second(at).unix_timestamp())
        .map_err(|_| PkiError::invalid("now", "must not be before 1970"))?;
    DateTime::from_unix_duration(Duration::from_secs(seconds)).map_err(PkiError::encoding("a time"))
}

#[cfg(test)]
mod tests {
    use der::Encode as _;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_form_changes_with_the_year_2050() {
        let last = x509_time(datetime!(2049-12-31 23:59:59.999 UTC)).unwrap().to_der().unwrap();
        assert_eq!(last, b"\x17\x0d491231235959Z");
        let first = x509_time(datetime!(2050-01-01 00:00:00 UTC)).unwrap().to_der().unwrap();
        assert_eq!(first, b"\x18\x0f20500101000000Z");
        let ocsp = generalized_time(datetime!(2026-10-05 01:02:03.5 +02:00)).unwrap().to_der().unwrap();
        assert_eq!(ocsp, b"\x18\x0f20261004230203Z");
    }

    #[test]
    fn a_life_includes_its_first_and_last_second() {
        let now = datetime!(2026-10-05 00:00:00 UTC);
        assert_eq!(last_second(now, Duration::from_secs(86_400)), Some(datetime!(2026-10-05 23:59:59 UTC)));
        assert_eq!(last_second(now, Duration::from_secs(1)), Some(now));
        assert_eq!(last_second(now, Duration::ZERO), None);
        assert_eq!(last_second(now, Duration::from_secs(u64::MAX)), None);
        assert_eq!(last_second(datetime!(9999-12-31 23:59:59 UTC), Duration::from_secs(2)), None);
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        use time::PrimitiveDateTime;
        let offset = time::macros::offset!(+23);
        for end in
            [PrimitiveDateTime::MIN.assume_offset(offset), PrimitiveDateTime::MAX.assume_offset(-offset)]
        {
            let _ = x509_time(begin(whole_second(end), None));
            let _ = last_second(end, Duration::from_secs(1)).map(x509_time);
        }
    }

    #[test]
    fn times_are_shown_to_the_second_in_utc() {
        assert_eq!(shown(datetime!(2026-10-05 01:02:03.999 +02:00)), "2026-10-04T23:02:03Z");
        assert_eq!(shown(datetime!(0001-01-01 00:00:00 UTC)), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn times_before_1970_are_refused() {
        assert!(x509_time(datetime!(1969-12-31 23:59:59 UTC)).is_err());
    }
}
