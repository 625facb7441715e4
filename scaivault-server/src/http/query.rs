//! Query strings, as strict as bodies: no unknown parameter, none twice.

use std::vec;

use scaivault_core::{Code, Error, Result, limits};
use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, IntoDeserializer as _, MapAccess, Visitor,
        value::StringDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{
    fault::{self, Fault, Step},
    path,
};

/// Decodes a query string into a struct of strings, integers, booleans (`true`, `false`), enums of names,
/// or options of these.
///
/// # Errors
/// [`Code::InvalidRequest`] naming the first parameter that is unknown, repeated, missing or malformed;
/// its value is not repeated.
pub fn decode<T: DeserializeOwned>(query: Option<&str>) -> Result<T> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (Some(name), Some(value)) = (text(name), text(value)) else {
            return Err(Error::new(Code::InvalidRequest, "The query string is not percent-encoded UTF-8."));
        };
        if pairs.len() == PARAMETERS {
            return Err(Error::new(Code::InvalidRequest, "The query string has too many parameters."));
        }
        if pairs.iter().any(|(known, _)| *known == name) {
            let shown = fault::name(&name);
            return Err(Error::new(
                Code::InvalidRequest,
                format!("Query parameter {shown}: is given twice."),
            ));
        }
        pairs.push((name, value));
    }
    T::deserialize(Query(pairs)).map_err(Fault::into_parameter)
}

/// How many rows of a list the caller wants: absent is the default of [`limits`]; what is below 1 or above
/// the maximum, however large, is the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u32);

impl Limit {
    /// Between 1 and [`limits::PAGE_MAX`] rows.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(limits::PAGE_DEFAULT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(de::Error::invalid_value(de::Unexpected::Other("text"), &"an integer"));
        }
        let asked = text.parse().ok().filter(|n| (1..=limits::PAGE_MAX).contains(n));
        Ok(Self(asked.unwrap_or(limits::PAGE_MAX)))
    }
}

/// Decodes one name or value of a form (`+` is a space); `None` if it is not UTF-8 or badly encoded.
fn text(raw: &str) -> Option<String> {
    let bytes = raw.as_bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                decoded.push(path::octet(bytes, at)?);
                at += 2;
            }
            byte => decoded.push(*byte),
        }
        at += 1;
    }
    String::from_utf8(decoded).ok()
}

/// Parameters of one query string.
const PARAMETERS: usize = 64;

struct Query(Vec<(String, String)>);

impl<'de> Deserializer<'de> for Query {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(Pairs { rest: self.0.into_iter(), value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let unknown = self.0.iter().map(|(name, _)| name).find(|name| !fields.contains(&name.as_str()));
        match unknown {
            Some(name) => Err(Fault::unknown(vec![name.clone()])),
            None => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Pairs {
    rest: vec::IntoIter<(String, String)>,
    value: Option<(String, String)>,
}

impl<'de> MapAccess<'de> for Pairs {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((name.clone(), value));
        let key: StringDeserializer<Fault> = name.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((name, value)) = self.value.take() else { return Err(de::Error::custom("no key was read")) };
        seed.deserialize(Value(value)).map_err(|fault| fault.at(Step::Key(name)))
    }
}

/// The value of one parameter, read as whatever its field is.
struct Value(String);

macro_rules! parsed {
    ($($method:ident => $visit:ident, $expected:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit(self.0.parse().map_err(|_| Fault::wrong($expected))?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Value {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let name: StringDeserializer<Fault> = self.0.into_deserializer();
        visitor.visit_enum(name)
    }

    parsed! {
        deserialize_bool => visit_bool, "true or false";
        deserialize_u8 => visit_u8, "a non-negative integer in range";
        deserialize_u16 => visit_u16, "a non-negative integer in range";
        deserialize_u32 => visit_u32, "a non-negative integer in range";
        deserialize_u64 => visit_u64, "a non-negative integer in range";
        deserialize_i32 => visit_i32, "an integer in range";
        deserialize_i64 => visit_i64, "an integer in range";
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Filter {
        prefix: Option<String>,
        limit: Limit,
        version: Option<i64>,
        force: bool,
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        SshKey,
    }

    fn filter(query: &str) -> Result<Filter> {
        decode(Some(query))
    }

    #[test]
    fn parameters_are_decoded_once_and_typed() {
        assert_eq!(decode::<Filter>(None).unwrap(), Filter::default());
        assert_eq!(filter("").unwrap(), Filter::default());
        let read = filter("prefix=a%2Fb+c%252F&version=-3&force=true&kind=ssh_key&limit=7").unwrap();
        assert_eq!(read.prefix.as_deref(), Some("a/b c%2F"));
        assert_eq!((read.version, read.force, read.limit.get()), (Some(-3), true, 7));
        assert_eq!(read.kind, Some(Kind::SshKey));
    }

    #[test]
    fn unknown_repeated_and_malformed_parameters_are_named_without_their_value() {
        for (query, name) in [
            ("nope=canary", "nope"),
            ("prefix=canary&prefix=canary", "prefix"),
            ("prefix=canary&%70refix=canary", "prefix"),
            ("version=canary", "version"),
            ("version=", "version"),
            ("version=99999999999999999999", "version"),
            ("force=canary", "force"),
            ("force", "force"),
            ("kind=canary", "kind"),
            ("limit=canary", "limit"),
            ("limit=1.5", "limit"),
            ("limit=", "limit"),
        ] {
            let error = filter(query).unwrap_err();
            assert_eq!(error.code(), Code::InvalidRequest, "{query}");
            assert!(error.message().contains(name), "{query}: {error}");
            assert!(!error.message().contains("canary"), "{query}: {error}");
        }
        for query in
            ["prefix=%", "prefix=%zz", "prefix=%ff", &"a&".repeat(100), &format!("{}=1", "n".repeat(100))]
        {
            let error = filter(query).unwrap_err();
            assert_eq!(error.code(), Code::InvalidRequest, "{query}");
            assert!(error.message().len() < 120, "{error}");
        }
    }

    #[test]
    fn sec_a5_a_limit_is_clamped_to_the_maximum() {
        let limit = |text: &str| filter(&format!("limit={text}")).unwrap().limit.get();
        for beyond in ["0", "-1", "1001", "9223372036854775808", "-9223372036854775809", "00"] {
            assert_eq!(limit(beyond), limits::PAGE_MAX, "{beyond}");
        }
        assert_eq!((limit("1"), limit("1000"), filter("").unwrap().limit.get()), (1, 1000, 100));
    }
}
