use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::storage::Ts;

/// When something was so, and which news says it: of two of the same moment the greater name wins, whichever came first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Version {
    /// Microseconds since 1970.
    at: i64,
    /// The event; empty for a sync.
    by: String,
}

impl Version {
    /// Of two events of one moment, one that closes comes after one that does not.
    pub(super) fn of_event(at: OffsetDateTime, event_id: &str, closes: bool) -> Self {
        let rank = if closes { "~" } else { "" };
        Self { at: Ts::from(at).micros(), by: format!("{rank}{event_id}") }
    }

    pub(super) fn of_sync(at: OffsetDateTime) -> Self {
        Self { at: Ts::from(at).micros(), by: String::new() }
    }

    pub(super) fn at(&self) -> OffsetDateTime {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.at) * 1000);
        at.unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// The fields of a record, each with where it comes from. Merging is commutative, associative and idempotent, so that
/// the order and number of times in which news arrives say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Registers(BTreeMap<String, (Version, Value)>);

impl Registers {
    pub(super) fn value(&self, field: &str) -> Option<&Value> {
        self.0.get(field).map(|(_, value)| value)
    }

    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.value(field).and_then(Value::as_str)
    }

    /// When a field was last set.
    pub(super) fn set_at(&self, field: &str) -> Option<OffsetDateTime> {
        self.0.get(field).map(|(version, _)| version.at())
    }

    /// Takes a value over, unless a newer one is there. Whether anything is different now.
    pub(super) fn set(&mut self, field: &str, version: &Version, value: Value) -> bool {
        match self.0.get_mut(field) {
            // One news says one thing of a field; if it said two, the greater text.
            Some((known, old)) if (&*known, old.to_string()) >= (version, value.to_string()) => false,
            Some(known) => {
                *known = (version.clone(), value);
                true
            }
            None => {
                self.0.insert(field.to_owned(), (version.clone(), value));
                true
            }
        }
    }

    /// As [`set`](Self::set) by a sync, which leaves a field alone that says the same: what vouches for it is then the
    /// time of the sync, which is kept once for all.
    pub(super) fn sync(&mut self, field: &str, version: &Version, value: Value) -> bool {
        if self.value(field) == Some(&value) { false } else { self.set(field, version, value) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn news() -> impl Strategy<Value = Vec<(u8, i64, u8, u8)>> {
        proptest::collection::vec((0u8..3, 0i64..6, 0u8..3, 0u8..4), 0..24)
    }

    fn apply(news: &[(u8, i64, u8, u8)]) -> Registers {
        let mut registers = Registers::default();
        for (field, at, by, value) in news {
            let version = Version { at: *at, by: format!("evt_{by}") };
            registers.set(&format!("field{field}"), &version, json!(value));
        }
        registers
    }

    proptest! {
        #[test]
        fn order_and_repetition_of_news_say_nothing(
            (news, shuffled) in news().prop_flat_map(|news| {
                let twice = news.iter().chain(&news).copied().collect::<Vec<_>>();
                (Just(news), Just(twice).prop_shuffle())
            })
        ) {
            prop_assert_eq!(apply(&news), apply(&shuffled));
        }
    }

    #[test]
    fn a_sync_leaves_alone_what_says_the_same() {
        let (old, new) = (Version { at: 1, by: "evt".into() }, Version { at: 2, by: String::new() });
        let mut registers = Registers::default();
        assert!(registers.set("status", &old, json!("ACTIVE")));
        assert!(!registers.sync("status", &new, json!("ACTIVE")));
        assert!(registers.sync("status", &new, json!("SUSPENDED")));
        assert!(!registers.set("status", &old, json!("ACTIVE")), "it is older");
        assert_eq!(registers.text("status"), Some("SUSPENDED"));
        let back: Registers = serde_json::from_str(&serde_json::to_string(&registers).unwrap()).unwrap();
        assert_eq!(back, registers);
    }
}
