use std::{borrow::Cow, cell::Cell, collections::HashSet, fmt};

use scaivault_core::{Code, Error, Result};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};

use crate::http::fault;

/// Checks that `text` is one JSON value whose objects have no name twice and which is at most
/// [`DEPTH`] levels deep. Looks into every part, typed or not.
pub(super) fn check(text: &str) -> Result<()> {
    let found = Cell::new(None);
    let mut from = serde_json::Deserializer::from_str(text);
    let read = Scan { depth: 0, found: &found }.deserialize(&mut from).and_then(|()| from.end());
    match (found.take(), read) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(Error::new(
            Code::InvalidRequest,
            format!("The body is not valid JSON (line {}, column {}).", error.line(), error.column()),
        )),
    }
}

/// Levels of arrays and objects.
const DEPTH: usize = 32;

/// Walks a value and keeps nothing; what it objects to is left in `found`.
#[derive(Clone, Copy)]
struct Scan<'c> {
    depth: usize,
    found: &'c Cell<Option<Error>>,
}

impl Scan<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH {
            return self.stop(format!("The body is nested more than {DEPTH} levels deep."));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn stop<T, E: serde::de::Error>(self, message: String) -> Result<T, E> {
        self.found.set(Some(Error::new(Code::InvalidRequest, message)));
        Err(E::custom("refused"))
    }
}

impl<'de> DeserializeSeed<'de> for Scan<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scan<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut names = HashSet::new();
        while let Some(Name(name)) = members.next_key()? {
            if names.contains(&name) {
                return self.stop(format!("The body names `{}` twice in one object.", fault::name(&name)));
            }
            names.insert(name);
            members.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// The name of a member, borrowed unless it is written with escapes.
#[derive(Deserialize, PartialEq, Eq, Hash)]
pub(super) struct Name<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);
