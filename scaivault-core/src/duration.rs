use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Code, Error};

/// A duration as the API writes it: a whole number from 1 and one unit, `s`, `m`, `h`, `d` or `w`, such
/// as `168h`. The caller's own spelling is kept and given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationText {
    text: String,
    value: Duration,
}

impl DurationText {
    /// The length of time.
    #[must_use]
    pub fn get(&self) -> Duration {
        self.value
    }

    /// The spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Writes a length of time in the largest unit up to hours that holds it without a rest.
    #[must_use]
    pub fn from_duration(value: Duration) -> Self {
        let seconds = value.as_secs();
        let text = match seconds {
            s if s % 3600 == 0 && s > 0 => format!("{}h", s / 3600),
            s if s % 60 == 0 && s > 0 => format!("{}m", s / 60),
            s => format!("{s}s"),
        };
        Self { text, value: Duration::from_secs(seconds) }
    }
}

impl FromStr for DurationText {
    type Err = Error;

    /// Reads one.
    ///
    /// # Errors
    /// [`Code::InvalidDuration`] if it is not of that form or longer than a thousand years.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::new(
                Code::InvalidDuration,
                "a duration is a whole number from 1 and one of s, m, h, d, w, such as 168h",
            )
        };
        let (digits, unit) = text
            .char_indices()
            .next_back()
            .and_then(|(at, _)| text.split_at_checked(at))
            .ok_or_else(invalid)?;
        let unit: u64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return Err(invalid()),
        };
        if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let count: u64 = digits.parse().map_err(|_| invalid())?;
        let seconds = count.checked_mul(unit).filter(|s| *s <= LONGEST).ok_or_else(invalid)?;
        Ok(Self { text: text.to_owned(), value: Duration::from_secs(seconds) })
    }
}

/// A thousand years, in seconds: the sum with any time that we handle stays in range.
const LONGEST: u64 = 1000 * 366 * 86_400;

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for DurationText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_and_one_unit() {
        for (text, seconds) in
            [("15m", 900), ("720h", 2_592_000), ("7d", 604_800), ("1w", 604_800), ("1s", 1)]
        {
            let parsed: DurationText = text.parse().unwrap();
            assert_eq!((parsed.get().as_secs(), parsed.as_str()), (seconds, text));
        }
        for text in [
            "",
            "h",
            "0h",
            "01h",
            "-1h",
            "+1h",
            "1",
            "1.5h",
            "1 h",
            "1h30m",
            "1y",
            "1H",
            "99999999999999999999s",
            "9999999999w",
            "1é",
        ] {
            assert_eq!(text.parse::<DurationText>().unwrap_err().code(), Code::InvalidDuration, "{text:?}");
        }
    }
}
