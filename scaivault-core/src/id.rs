use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;

use crate::{Code, Error, Random, Result, limits};

/// Crockford's alphabet: no `i`, `l`, `o`, `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A fresh identifier: `prefix`, then 26 characters that sort by the millisecond they were made in and
/// end in 80 random bits.
pub(crate) fn new(prefix: &str, now: OffsetDateTime, random: &dyn Random) -> Result<String> {
    let mut tail = [0; 10];
    random.fill(&mut tail)?;
    Ok(spell(prefix, now, tail))
}

/// The smallest identifier of that moment: all that were made before it sort before it.
pub(crate) fn first(prefix: &str, moment: OffsetDateTime) -> String {
    spell(prefix, moment, [0; 10])
}

fn spell(prefix: &str, now: OffsetDateTime, tail: [u8; 10]) -> String {
    let millis = (now.unix_timestamp_nanos() / 1_000_000).unsigned_abs() & ((1 << 48) - 1);
    let mut value = millis << 80;
    for (i, byte) in tail.iter().rev().enumerate() {
        value |= u128::from(*byte) << (8 * i);
    }
    let mut id = String::with_capacity(prefix.len() + 26);
    id.push_str(prefix);
    for shift in (0..26).rev() {
        id.push(char::from(ALPHABET[(value >> (5 * shift)) as usize & 31]));
    }
    id
}

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes an identifier as it comes: 1 to 128 bytes of visible ASCII.
            ///
            /// # Errors
            /// [`Code::InvalidRequest`] otherwise.
            pub fn parse(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                let good = (1..=limits::ID_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
                if good { Ok(Self(text)) } else {
                    Err(Error::new(Code::InvalidRequest, concat!("not a valid ", stringify!($name), ": 1 to 128 visible ASCII characters")))
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

opaque! {
    /// A tenant, such as `tnt_acme_prod`.
    TenantId,
    /// A partner, such as `ptn_acme`.
    PartnerId,
}

/// What stands before a partner in the name of what stands for him. No name from outside holds a space.
const OF_PARTNER: &str = "partner ";

impl TenantId {
    /// What stands for a partner: a tenant that no caller belongs to and that none can name, with keys, policies and an
    /// audit trail of its own. What is in its rows is shared by the partner's tenants.
    pub(crate) fn of_partner(partner: &PartnerId) -> Self {
        Self(format!("{OF_PARTNER}{}", partner.0))
    }

    /// Whether it stands for a partner.
    pub(crate) fn is_partner(&self) -> bool {
        self.0.starts_with(OF_PARTNER)
    }

    /// Reads one that is stored: a tenant, or what stands for a partner.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if it is neither.
    pub(crate) fn stored(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        match text.strip_prefix(OF_PARTNER) {
            Some(partner) => PartnerId::parse(partner).map(|partner| Self::of_partner(&partner)),
            None => Self::parse(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;

    #[test]
    fn nobody_outside_can_name_what_stands_for_a_partner() {
        let of = TenantId::of_partner(&PartnerId::parse("ptn_acme").unwrap());
        assert!(of.is_partner() && TenantId::parse(of.as_str()).is_err());
        assert_eq!(TenantId::stored(of.as_str()).unwrap(), of);
        let tenant = TenantId::stored("tnt_acme").unwrap();
        assert!(!tenant.is_partner() && tenant.as_str() == "tnt_acme");
        for bad in ["partner ", "partner a b", "all tenants", ""] {
            assert!(TenantId::stored(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn identifiers_sort_by_time_and_differ() {
        let early = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let late = OffsetDateTime::from_unix_timestamp(1_800_000_001).unwrap();
        let (a, b) = (new("sec_", early, &SystemRandom).unwrap(), new("sec_", late, &SystemRandom).unwrap());
        assert!(a < b, "{a} {b}");
        assert_eq!(a.len(), 30);
        assert_ne!(a, new("sec_", early, &SystemRandom).unwrap());
    }

    #[test]
    fn an_identifier_is_bounded_visible_ascii() {
        for bad in ["", "a b", "é", "a\n", &"x".repeat(129)] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(TenantId::parse("tnt_acme").unwrap().as_str(), "tnt_acme");
    }
}
