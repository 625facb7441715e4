use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::{Code, DurationText, limits};

/// What a request is like, as far as conditions look at it. Nothing of it is ever kept for another request.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// When it is made.
    pub now: OffsetDateTime,
    /// Where it comes from; if that is not known, no condition on it holds.
    pub source_ip: Option<IpAddr>,
    /// When the caller last showed a second factor; `None` is never.
    pub mfa_verified_at: Option<OffsetDateTime>,
    /// How long ago that may be where a rule does not say it.
    pub mfa_window: Duration,
}

impl Circumstances {
    /// A request of which nothing is known but its time; [`limits::MFA_WINDOW`].
    #[must_use]
    pub fn at(now: OffsetDateTime) -> Self {
        Self { now, source_ip: None, mfa_verified_at: None, mfa_window: limits::MFA_WINDOW }
    }
}

/// A kind of condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// The source address is in one of the ranges.
    SourceIp,
    /// It is a time of the week that the window names.
    TimeWindow,
    /// A second factor was shown recently.
    Mfa,
}

impl Condition {
    /// The name of the member of `conditions` that failed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceIp => IP_RANGES,
            Self::TimeWindow => TIME_WINDOW,
            Self::Mfa => REQUIRE_MFA,
        }
    }

    /// What a caller is told whom nothing but this stands in the way.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::SourceIp => Code::IpNotAllowed,
            Self::TimeWindow => Code::TimeWindowViolation,
            Self::Mfa => Code::MfaRequired,
        }
    }
}

const IP_RANGES: &str = "ip_ranges";
const TIME_WINDOW: &str = "time_window";
const REQUIRE_MFA: &str = "require_mfa";
const MFA_MAX_AGE: &str = "mfa_max_age";

/// What must hold beside path and permission for a rule to allow anything: all of it. Written as it is read,
/// ranges sorted and each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conditions {
    ip_ranges: Vec<IpNet>,
    time_window: Option<TimeWindow>,
    mfa: Option<Mfa>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Mfa {
    max_age: Option<MaxAge>,
}

/// A duration, compared by its length.
#[derive(Clone, Debug)]
struct MaxAge(DurationText);

impl PartialEq for MaxAge {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for MaxAge {}

impl Hash for MaxAge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.get().hash(state);
    }
}

/// Hours of some days by the clocks of a place: from `start` up to, not including, `end`. If `start` is after `end`
/// it goes on past midnight, and belongs to the day on which it starts.
///
/// What counts is what a clock on the wall there shows: hours that are left out when clocks go forward never come,
/// hours that are repeated when they go back count both times.
#[derive(Clone, Debug)]
struct TimeWindow {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes since midnight.
    start: u16,
    /// Minutes since midnight, up to 1440.
    end: u16,
    zone: TimeZone,
    zone_name: String,
}

/// The time zones of the build, each read once.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

const EVERY_DAY: u8 = 0b111_1111;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Which conditions of a rule do not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unmet {
    ip: bool,
    time: bool,
    mfa: bool,
}

impl Unmet {
    /// Whether every condition holds.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Each that does not hold: source address, time, second factor.
    pub fn iter(self) -> impl Iterator<Item = Condition> {
        let all =
            [(self.ip, Condition::SourceIp), (self.time, Condition::TimeWindow), (self.mfa, Condition::Mfa)];
        all.into_iter().filter_map(|(failed, condition)| failed.then_some(condition))
    }
}

/// What stands in the way where rules match and none of them allows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Obstacles {
    ip: bool,
    time: bool,
    /// Of some rule nothing but this is missing.
    only_mfa: bool,
}

impl Obstacles {
    pub(super) fn add(&mut self, unmet: Unmet) {
        match unmet.iter().next() {
            Some(Condition::SourceIp) => self.ip = true,
            Some(Condition::TimeWindow) => self.time = true,
            Some(Condition::Mfa) => self.only_mfa = true,
            None => {}
        }
    }

    /// The second factor if, and only if, it alone would help; then the source address, then the time.
    pub(super) fn named(self) -> Option<Condition> {
        match self {
            Self { only_mfa: true, .. } => Some(Condition::Mfa),
            Self { ip: true, .. } => Some(Condition::SourceIp),
            Self { time: true, .. } => Some(Condition::TimeWindow),
            Self { .. } => None,
        }
    }
}

/// The member that is wrong, such as `ip_ranges[0]` (empty for the whole), and why.
pub(super) type Wrong = (String, String);

impl Conditions {
    /// Reads the conditions of one rule. What is unknown is wrong, never skipped.
    pub(super) fn parse(value: Option<Value>) -> Result<Self, Wrong> {
        let members = match value {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(members)) => members,
            Some(_) => return Err((String::new(), "must be an object".into())),
        };
        let mut conditions = Self::default();
        let (mut required, mut max_age) = (None, None);
        for (name, value) in members {
            match name.as_str() {
                IP_RANGES => conditions.ip_ranges = ranges(&value)?,
                TIME_WINDOW => conditions.time_window = Some(TimeWindow::parse(value)?),
                REQUIRE_MFA => match value {
                    Value::Bool(value) => required = Some(value),
                    _ => return Err((name, "must be true or false".into())),
                },
                MFA_MAX_AGE => max_age = Some(age(&value)?),
                _ => return Err((name, "is not a condition that is known here".into())),
            }
        }
        if required == Some(true) {
            conditions.mfa = Some(Mfa { max_age });
        } else if max_age.is_some() {
            return Err((MFA_MAX_AGE.into(), "needs require_mfa to be true".into()));
        }
        Ok(conditions)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ip_ranges.is_empty() && self.time_window.is_none() && self.mfa.is_none()
    }

    /// What one that does not hold asks for, in words.
    pub(super) fn demand(&self, condition: Condition, at: &Circumstances) -> String {
        match (condition, &self.time_window, &self.mfa) {
            (Condition::SourceIp, ..) => {
                let ranges: Vec<String> = self.ip_ranges.iter().map(IpNet::to_string).collect();
                format!("the source address is in {}", ranges.join(" or "))
            }
            (Condition::TimeWindow, Some(window), _) => format!("the time is {window}"),
            (Condition::Mfa, _, Some(mfa)) => {
                format!("a second factor was shown in the last {} seconds", mfa.window(at).as_secs())
            }
            _ => format!("{} holds", condition.as_str()),
        }
    }

    /// Those that do not hold. What is not known fails: a source address that nobody told, a time that no calendar
    /// has, a second factor that is said to have been shown later than the clocks' difference
    /// ([`limits::TOKEN_LEEWAY`]) from now.
    #[must_use]
    pub fn unmet(&self, at: &Circumstances) -> Unmet {
        Unmet {
            ip: !self.ip_ranges.is_empty() && !at.source_ip.is_some_and(|ip| contain(&self.ip_ranges, ip)),
            time: self.time_window.as_ref().is_some_and(|window| !window.holds(at.now)),
            mfa: self.mfa.as_ref().is_some_and(|mfa| !mfa.holds(at)),
        }
    }
}

fn contain(ranges: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ranges.iter().any(|range| range.contains(&ip))
}

fn ranges(value: &Value) -> Result<Vec<IpNet>, Wrong> {
    let wrong = |reason: String| (IP_RANGES.to_owned(), reason);
    let items =
        value.as_array().ok_or_else(|| wrong("must be a list of ranges such as 10.0.0.0/8".into()))?;
    if !(1..=limits::CONDITION_RANGES).contains(&items.len()) {
        return Err(wrong(format!("must have 1 to {} ranges", limits::CONDITION_RANGES)));
    }
    let read =
        |(i, item): (usize, &Value)| range(item).map_err(|reason| (format!("{IP_RANGES}[{i}]"), reason));
    let mut ranges: Vec<IpNet> = items.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    ranges.sort_unstable();
    ranges.dedup();
    Ok(ranges)
}

/// Reads a range; one of IPv4 addresses in IPv6 is one of IPv4 addresses.
fn range(value: &Value) -> Result<IpNet, String> {
    let text = value.as_str().unwrap_or_default();
    let (address, length) = text.split_once('/').unwrap_or_default();
    let plain = (1..=3).contains(&length.len())
        && length.bytes().all(|b| b.is_ascii_digit())
        && (length.len() == 1 || !length.starts_with('0'));
    let net = match (address.parse::<IpAddr>(), length.parse::<u8>()) {
        (Ok(address), Ok(length)) if plain => IpNet::new(address, length).ok(),
        _ => None,
    };
    let net = net.ok_or("must be a range such as 10.0.0.0/8 or 2001:db8::/32")?;
    if net.trunc() != net {
        return Err(format!("has bits beyond its prefix: the range is {}", net.trunc()));
    }
    match net {
        IpNet::V6(mapped) if mapped.prefix_len() >= 96 => match mapped.addr().to_ipv4_mapped() {
            Some(address) => v4(address, mapped.prefix_len() - 96),
            None => Ok(net),
        },
        _ => Ok(net),
    }
}

fn v4(address: Ipv4Addr, length: u8) -> Result<IpNet, String> {
    Ipv4Net::new(address, length).map(IpNet::V4).map_err(|error| error.to_string())
}

fn age(value: &Value) -> Result<MaxAge, Wrong> {
    let wrong = || (MFA_MAX_AGE.to_owned(), "must be a duration such as 15m".to_owned());
    value.as_str().ok_or_else(wrong)?.parse().map(MaxAge).map_err(|_| wrong())
}

impl Mfa {
    fn window(&self, at: &Circumstances) -> Duration {
        self.max_age.as_ref().map_or(at.mfa_window, |age| age.0.get())
    }

    fn holds(&self, at: &Circumstances) -> bool {
        let window = self.window(at);
        at.mfa_verified_at.is_some_and(|shown| {
            let ago = at.now - shown;
            ago <= window && -ago <= limits::TOKEN_LEEWAY
        })
    }
}

impl TimeWindow {
    fn parse(value: Value) -> Result<Self, Wrong> {
        let at = |name: &str| format!("{TIME_WINDOW}.{name}");
        let Value::Object(mut members) = value else {
            return Err((TIME_WINDOW.into(), "must be an object with start, end and timezone".into()));
        };
        let days = members.remove("days").map_or(Ok(EVERY_DAY), |value| days(&value))?;
        let mut minutes = |name: &str, most: u16| {
            let value = members.remove(name);
            let minutes = value.as_ref().and_then(Value::as_str).and_then(minutes).filter(|m| *m <= most);
            minutes.ok_or_else(|| (at(name), "must be a time of day such as 09:00".to_owned()))
        };
        let (start, end) = (minutes("start", DAY - 1)?, minutes("end", DAY)?);
        let zone = members.remove("timezone");
        let zone = zone.as_ref().and_then(Value::as_str).unwrap_or_default();
        let zone = ZONES.get(zone).map_err(|_| {
            (at("timezone"), "must be a time zone such as Europe/Amsterdam or UTC".to_owned())
        })?;
        let zone_name = zone.iana_name().unwrap_or("UTC").to_owned();
        if let Some(name) = members.keys().next() {
            return Err((at(name), "is not known here".into()));
        }
        if start == end {
            return Err((at("end"), "must differ from start; a whole day is from 00:00 to 24:00".into()));
        }
        Ok(Self { days, start, end, zone, zone_name })
    }

    fn holds(&self, now: OffsetDateTime) -> bool {
        let instant = i32::try_from(now.nanosecond())
            .ok()
            .and_then(|nanos| jiff::Timestamp::new(now.unix_timestamp(), nanos).ok());
        let Some(instant) = instant else { return false };
        let local = self.zone.to_datetime(instant);
        let today = local.weekday().to_monday_zero_offset() as u8;
        let on = |day: u8| self.days & (1 << day) != 0;
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        if self.start < self.end {
            on(today) && (self.start..self.end).contains(&minute)
        } else {
            (on(today) && minute >= self.start) || (on((today + 6) % 7) && minute < self.end)
        }
    }
}

/// Minutes of a day.
const DAY: u16 = 24 * 60;

fn days(value: &Value) -> Result<u8, Wrong> {
    let field = format!("{TIME_WINDOW}.days");
    let items = value.as_array().filter(|items| !items.is_empty());
    let items = items.ok_or_else(|| (field.clone(), "must be a list of days, mon to sun".to_owned()))?;
    let read = |(i, item): (usize, &Value)| {
        let day = item.as_str().and_then(|text| DAYS.iter().position(|day| *day == text));
        day.ok_or_else(|| (format!("{field}[{i}]"), "must be mon, tue, wed, thu, fri, sat or sun".to_owned()))
    };
    items.iter().enumerate().try_fold(0, |days, item| Ok(days | 1 << read(item)?))
}

/// `HH:MM` as minutes, up to 24:00.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |text: &str| match text.as_bytes() {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(u16::from(a - b'0') * 10 + u16::from(b - b'0')),
        _ => None,
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (minutes < 60).then_some(hours * 60 + minutes).filter(|all| *all <= DAY)
}

impl PartialEq for TimeWindow {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for TimeWindow {}

impl Hash for TimeWindow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl TimeWindow {
    fn days(&self) -> Vec<&'static str> {
        (0..7).filter(|day| self.days & (1 << day) != 0).map(|day| DAYS[day]).collect()
    }

    fn key(&self) -> (u8, u16, u16, &str) {
        (self.days, self.start, self.end, &self.zone_name)
    }
}

/// Minutes as `HH:MM`.
fn clock(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

impl fmt::Display for TimeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end, zone_name, .. } = self;
        let days = self.days().join(", ");
        write!(f, "from {} to {} on {days} in {zone_name}", clock(*start), clock(*end))
    }
}

impl Serialize for TimeWindow {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut window = to.serialize_map(Some(4))?;
        window.serialize_entry("days", &self.days())?;
        window.serialize_entry("start", &clock(self.start))?;
        window.serialize_entry("end", &clock(self.end))?;
        window.serialize_entry("timezone", &self.zone_name)?;
        window.end()
    }
}

impl Serialize for Conditions {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut members = to.serialize_map(None)?;
        if !self.ip_ranges.is_empty() {
            let texts: Vec<String> = self.ip_ranges.iter().map(IpNet::to_string).collect();
            members.serialize_entry(IP_RANGES, &texts)?;
        }
        if let Some(window) = &self.time_window {
            members.serialize_entry(TIME_WINDOW, window)?;
        }
        if let Some(mfa) = &self.mfa {
            members.serialize_entry(REQUIRE_MFA, &true)?;
            if let Some(MaxAge(age)) = &mfa.max_age {
                members.serialize_entry(MFA_MAX_AGE, age)?;
            }
        }
        members.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::{Duration as Span, macros::datetime};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-04-23 18:00 UTC);

    fn read(value: Value) -> Conditions {
        Conditions::parse(Some(value)).unwrap()
    }

    fn unmet(conditions: &Conditions, at: Circumstances) -> Vec<Condition> {
        conditions.unmet(&at).iter().collect()
    }

    fn from(ip: &str) -> Circumstances {
        Circumstances { source_ip: Some(ip.parse().unwrap()), ..Circumstances::at(NOW) }
    }

    fn window(days: &[&str], start: &str, end: &str, zone: &str) -> Conditions {
        read(json!({"time_window": {"days": days, "start": start, "end": end, "timezone": zone}}))
    }

    fn open(conditions: &Conditions, at: OffsetDateTime) -> bool {
        conditions.unmet(&Circumstances::at(at)).is_empty()
    }

    #[test]
    fn a_source_address_is_in_one_of_the_ranges() {
        let office = read(json!({"ip_ranges": ["10.1.0.0/16", "2001:db8::/32", "192.0.2.7/32"]}));
        for inside in ["10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3", "2001:db8::1", "192.0.2.7"] {
            assert_eq!(unmet(&office, from(inside)), [], "{inside}");
        }
        for outside in
            ["10.2.0.0", "10.0.255.255", "::ffff:10.2.0.1", "2001:db9::1", "192.0.2.8", "::10.1.2.3"]
        {
            assert_eq!(unmet(&office, from(outside)), [Condition::SourceIp], "{outside}");
        }
        assert_eq!(unmet(&office, Circumstances::at(NOW)), [Condition::SourceIp], "nobody told");
        let six = read(json!({"ip_ranges": ["::/0"]}));
        assert_eq!(unmet(&six, from("::ffff:10.0.0.1")), [Condition::SourceIp], "that is IPv4");
        assert_eq!(unmet(&read(json!({"ip_ranges": ["0.0.0.0/0"]})), from("::ffff:10.0.0.1")), []);
    }

    #[test]
    fn what_is_read_is_written_in_one_form() {
        let messy = read(json!({
            "mfa_max_age": "5m",
            "require_mfa": true,
            "time_window": {"timezone": "europe/amsterdam", "end": "24:00", "start": "09:30", "days": ["fri", "mon", "fri"]},
            "ip_ranges": ["2001:DB8:0::/32", "192.0.2.0/24", "::ffff:10.0.0.0/104", "10.0.0.0/8"],
        }));
        let written = serde_json::to_value(&messy).unwrap();
        assert_eq!(
            written,
            json!({
                "ip_ranges": ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"],
                "time_window": {"days": ["mon", "fri"], "start": "09:30", "end": "24:00", "timezone": "Europe/Amsterdam"},
                "require_mfa": true,
                "mfa_max_age": "5m",
            })
        );
        assert_eq!(read(written), messy);
        for none in [json!({}), json!(null), json!({"require_mfa": false})] {
            let none = read(none);
            assert!(none.is_empty());
            assert_eq!(serde_json::to_value(none).unwrap(), json!({}));
        }
    }

    #[test]
    fn sec_a6_what_is_not_understood_is_refused_with_its_place() {
        let hours = |more: Value| {
            let mut window = json!({"start": "09:00", "end": "17:00", "timezone": "UTC"});
            for (name, value) in more.as_object().unwrap() {
                window[name] = value.clone();
            }
            json!({ "time_window": window })
        };
        for (bad, place) in [
            (json!([]), ""),
            (json!(true), ""),
            (json!({"unheard_of": null}), "unheard_of"),
            (json!({"IP_RANGES": ["10.0.0.0/8"]}), "IP_RANGES"),
            (json!({"ip_ranges": []}), "ip_ranges"),
            (json!({"ip_ranges": null}), "ip_ranges"),
            (json!({"ip_ranges": "10.0.0.0/8"}), "ip_ranges"),
            (json!({"ip_ranges": vec!["10.0.0.0/8"; limits::CONDITION_RANGES + 1]}), "ip_ranges"),
            (json!({"ip_ranges": ["10.0.0.0/8", "10.0.0.0/33"]}), "ip_ranges[1]"),
            (json!({"ip_ranges": ["10.0.0.1/8"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": ["10.0.0.1"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": ["010.0.0.0/8"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": ["10.0.0.0/08"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": ["10.0.0.0/+8"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": ["10.0.0.0/"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": [" 10.0.0.0/8"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": ["10/8"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": ["fe80::%eth0/64"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": ["2001:db8::1/32"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": ["::/129"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": ["office"]}), "ip_ranges[0]"),
            (json!({"ip_ranges": [7]}), "ip_ranges[0]"),
            (json!({"require_mfa": "true"}), "require_mfa"),
            (json!({"require_mfa": null}), "require_mfa"),
            (json!({"mfa_max_age": "5m"}), "mfa_max_age"),
            (json!({"require_mfa": false, "mfa_max_age": "5m"}), "mfa_max_age"),
            (json!({"require_mfa": true, "mfa_max_age": "0m"}), "mfa_max_age"),
            (json!({"require_mfa": true, "mfa_max_age": 300}), "mfa_max_age"),
            (json!({"time_window": null}), "time_window"),
            (json!({"time_window": []}), "time_window"),
            (json!({"time_window": {}}), "time_window.start"),
            (json!({"time_window": {"start": "09:00", "end": "17:00"}}), "time_window.timezone"),
            (hours(json!({"start": "25:00"})), "time_window.start"),
            (hours(json!({"start": "24:00"})), "time_window.start"),
            (hours(json!({"start": "9:00"})), "time_window.start"),
            (hours(json!({"start": "09:60"})), "time_window.start"),
            (hours(json!({"start": "09:00:00"})), "time_window.start"),
            (hours(json!({"end": "24:01"})), "time_window.end"),
            (hours(json!({"end": "+9:00"})), "time_window.end"),
            (hours(json!({"end": "09:00"})), "time_window.end"),
            (hours(json!({"end": 17})), "time_window.end"),
            (hours(json!({"timezone": "Mars/Olympus"})), "time_window.timezone"),
            (hours(json!({"timezone": ""})), "time_window.timezone"),
            (hours(json!({"timezone": "+02:00"})), "time_window.timezone"),
            (hours(json!({"timezone": "CET-1CEST,M3.5.0,M10.5.0/3"})), "time_window.timezone"),
            (hours(json!({"timezone": "../../etc/passwd"})), "time_window.timezone"),
            (hours(json!({"days": []})), "time_window.days"),
            (hours(json!({"days": "mon"})), "time_window.days"),
            (hours(json!({"days": ["mon", "Tue"]})), "time_window.days[1]"),
            (hours(json!({"until": "2030-01-01"})), "time_window.until"),
        ] {
            let (found, reason) = Conditions::parse(Some(bad.clone())).unwrap_err();
            assert_eq!(found, place, "{bad}");
            assert!(!reason.is_empty(), "{bad}");
        }
        let (_, reason) = Conditions::parse(Some(json!({"ip_ranges": ["10.9.8.7/8"]}))).unwrap_err();
        assert!(reason.contains("10.0.0.0/8"), "{reason}");
    }

    #[test]
    fn a_window_is_half_open() {
        let office = window(&["mon", "tue", "wed", "thu", "fri"], "09:00", "17:00", "Europe/Amsterdam");
        // Two hours ahead of UTC in April; the 23rd is a Thursday.
        for (at, expected) in [
            (datetime!(2026-04-23 06:59:59.999999 UTC), false),
            (datetime!(2026-04-23 07:00 UTC), true),
            (datetime!(2026-04-23 14:59:59.999999 UTC), true),
            (datetime!(2026-04-23 15:00 UTC), false),
            (datetime!(2026-04-25 12:00 UTC), false),
            // One hour ahead in winter.
            (datetime!(2026-12-01 07:30 UTC), false),
            (datetime!(2026-12-01 08:00 UTC), true),
        ] {
            assert_eq!(open(&office, at), expected, "{at}");
        }
        let day = window(&["thu"], "00:00", "24:00", "UTC");
        assert!(
            open(&day, datetime!(2026-04-23 00:00 UTC)) && open(&day, datetime!(2026-04-23 23:59:59 UTC))
        );
        assert!(!open(&day, datetime!(2026-04-24 00:00 UTC)) && !open(&day, datetime!(2026-04-22 23:59 UTC)));
    }

    #[test]
    fn a_window_past_midnight_belongs_to_the_day_on_which_it_starts() {
        let night = window(&["fri"], "22:00", "06:00", "UTC");
        for (at, expected) in [
            (datetime!(2026-04-24 05:00 UTC), false),
            (datetime!(2026-04-24 21:59 UTC), false),
            (datetime!(2026-04-24 22:00 UTC), true),
            (datetime!(2026-04-25 05:59 UTC), true),
            (datetime!(2026-04-25 06:00 UTC), false),
            (datetime!(2026-04-25 22:30 UTC), false),
            (datetime!(2026-04-26 01:00 UTC), false),
        ] {
            assert_eq!(open(&night, at), expected, "{at}");
        }
        let sunday = window(&["sun"], "23:00", "01:00", "UTC");
        assert!(open(&sunday, datetime!(2026-04-27 00:30 UTC)), "early on Monday");
        let to_midnight = window(&["fri"], "22:00", "00:00", "UTC");
        assert!(open(&to_midnight, datetime!(2026-04-24 23:59 UTC)));
        assert!(!open(&to_midnight, datetime!(2026-04-25 00:00 UTC)));
    }

    #[test]
    fn clocks_that_are_changed_count_as_they_show() {
        // 29 March 2026: 02:00 becomes 03:00 in Amsterdam, which is 01:00 UTC.
        let gap = window(&["sun"], "02:30", "04:00", "Europe/Amsterdam");
        for (at, expected) in [
            (datetime!(2026-03-29 00:59:59 UTC), false),
            (datetime!(2026-03-29 01:00 UTC), true),
            (datetime!(2026-03-29 01:59:59 UTC), true),
            (datetime!(2026-03-29 02:00 UTC), false),
        ] {
            assert_eq!(open(&gap, at), expected, "{at}");
        }
        let never = window(&["sun"], "02:00", "03:00", "Europe/Amsterdam");
        let minutes = (0..24 * 60).map(|m| datetime!(2026-03-29 00:00 UTC) + Span::minutes(m));
        assert_eq!(minutes.filter(|at| open(&never, *at)).count(), 0);
        // 25 October 2026: 03:00 becomes 02:00, which is 01:00 UTC.
        let fold = window(&["sun"], "02:15", "02:45", "Europe/Amsterdam");
        for (at, expected) in [
            (datetime!(2026-10-25 00:14 UTC), false),
            (datetime!(2026-10-25 00:15 UTC), true),
            (datetime!(2026-10-25 00:44 UTC), true),
            (datetime!(2026-10-25 00:45 UTC), false),
            (datetime!(2026-10-25 01:15 UTC), true),
            (datetime!(2026-10-25 01:45 UTC), false),
        ] {
            assert_eq!(open(&fold, at), expected, "{at}");
        }
        // A day that a place left out: Samoa had no 30 December 2011.
        let friday = window(&["fri"], "00:00", "24:00", "Pacific/Apia");
        assert!(!open(&friday, datetime!(2011-12-30 09:59 UTC)));
        assert!(!open(&friday, datetime!(2011-12-30 10:00 UTC)), "Saturday there");
    }

    #[test]
    fn sec_d3_a_second_factor_is_recent_and_not_of_the_future() {
        let required = read(json!({"require_mfa": true}));
        let strict = read(json!({"require_mfa": true, "mfa_max_age": "1m"}));
        let shown =
            |at: Option<OffsetDateTime>| Circumstances { mfa_verified_at: at, ..Circumstances::at(NOW) };
        for (at, by_default, by_minute) in [
            (None, false, false),
            (Some(NOW), true, true),
            (Some(NOW - Span::MINUTE), true, true),
            (Some(NOW - Span::minutes(15)), true, false),
            (Some(NOW - Span::minutes(15) - Span::MICROSECOND), false, false),
            (Some(NOW + Span::seconds(30)), true, true),
            (Some(NOW + Span::seconds(31)), false, false),
            (Some(OffsetDateTime::UNIX_EPOCH - Span::DAY), false, false),
        ] {
            assert_eq!(required.unmet(&shown(at)).is_empty(), by_default, "{at:?}");
            assert_eq!(strict.unmet(&shown(at)).is_empty(), by_minute, "{at:?}");
        }
        let short = Circumstances { mfa_window: Duration::ZERO, ..shown(Some(NOW - Span::SECOND)) };
        assert_eq!(unmet(&required, short), [Condition::Mfa]);
        assert_eq!(unmet(&strict, short), [], "the rule says how long");
    }

    #[test]
    fn the_obstacle_that_is_named_is_mfa_only_where_mfa_alone_would_help() {
        let of = |ip, time, mfa| Unmet { ip, time, mfa };
        for (rules, named) in [
            (vec![], None),
            (vec![of(true, true, true)], Some(Condition::SourceIp)),
            (vec![of(false, true, true)], Some(Condition::TimeWindow)),
            (vec![of(false, false, true)], Some(Condition::Mfa)),
            (vec![of(true, false, true), of(false, true, true)], Some(Condition::SourceIp)),
            (vec![of(true, false, true), of(false, false, true)], Some(Condition::Mfa)),
            (vec![of(false, true, false), of(true, false, false)], Some(Condition::SourceIp)),
        ] {
            let mut obstacles = Obstacles::default();
            rules.iter().for_each(|unmet| obstacles.add(*unmet));
            assert_eq!(obstacles.named(), named, "{rules:?}");
        }
    }
}
