use std::{fmt, slice, vec};

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::StringDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;

use super::scan::Name;
use crate::http::fault::{Fault, Step};

/// The text of one well-formed JSON value, decoded on demand. Its errors never hold the value.
#[derive(Clone, Copy)]
pub(super) struct Node<'de>(&'de str);

impl<'de> Node<'de> {
    /// `text` without surrounding white space, as the scan let it pass.
    pub(super) fn new(text: &'de str) -> Self {
        Self(text)
    }

    fn starts_with(self, first: char) -> bool {
        self.0.starts_with(first)
    }

    fn members(self) -> Result<Members<'de>, Fault> {
        Ok(Members { rest: read::<Pairs<'de>>(self.0)?.0.into_iter(), value: None })
    }

    fn string(self) -> Result<String, Fault> {
        read(self.0)
    }
}

/// Reads what the scan has seen to be well-formed; only a value of another kind can fail.
fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(de::Error::custom)
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.as_bytes().first() {
            Some(b'{') => visitor.visit_map(self.members()?),
            Some(b'[') => {
                let items: Vec<&RawValue> = read(self.0)?;
                visitor.visit_seq(Items { rest: items.iter(), index: 0 })
            }
            Some(b'"') => match self.0.get(1..self.0.len() - 1) {
                Some(plain) if !plain.contains('\\') => visitor.visit_borrowed_str(plain),
                _ => visitor.visit_string(self.string()?),
            },
            Some(b'n') => visitor.visit_unit(),
            Some(b't') => visitor.visit_bool(true),
            Some(b'f') => visitor.visit_bool(false),
            _ => {
                let number: serde_json::Number = read(self.0)?;
                match (number.as_u64(), number.as_i64(), number.as_f64()) {
                    (Some(n), ..) => visitor.visit_u64(n),
                    (_, Some(n), _) => visitor.visit_i64(n),
                    (.., n) => visitor.visit_f64(n.unwrap_or(f64::NAN)),
                }
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0 == "null" { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name.starts_with("$serde_json::") {
            // `RawValue` and its deserializer have an agreement of their own.
            let mut from = serde_json::Deserializer::from_str(self.0);
            return from.deserialize_newtype_struct(name, visitor).map_err(de::Error::custom);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if !self.starts_with('{') {
            return Err(Fault::wrong("an object"));
        }
        let members = self.members()?;
        let unknown: Vec<String> = members
            .rest
            .as_slice()
            .iter()
            .filter(|(Name(name), _)| !fields.contains(&name.as_ref()))
            .map(|(Name(name), _)| name.to_string())
            .collect();
        if unknown.is_empty() { visitor.visit_map(members) } else { Err(Fault::unknown(unknown)) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let known = || Fault::wrong(format!("one of {}", variants.join(", ")));
        if self.starts_with('"') {
            return visitor.visit_enum(Choice { variant: self.string()?, content: None });
        }
        if !self.starts_with('{') {
            return Err(known());
        }
        let mut members = self.members()?.rest;
        match (members.next(), members.next()) {
            (Some((Name(name), value)), None) => {
                visitor.visit_enum(Choice { variant: name.into_owned(), content: Some(Node(value.get())) })
            }
            _ => Err(known()),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier
    }
}

/// The members of an object, in their order, values unread.
struct Pairs<'de>(Vec<(Name<'de>, &'de RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Collect)
    }
}

struct Members<'de> {
    rest: vec::IntoIter<(Name<'de>, &'de RawValue)>,
    value: Option<(String, &'de RawValue)>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((Name(name), value)) = self.rest.next() else { return Ok(None) };
        let name = name.into_owned();
        self.value = Some((name.clone(), value));
        let key: StringDeserializer<Fault> = name.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((name, value)) = self.value.take() else { return Err(de::Error::custom("no key was read")) };
        seed.deserialize(Node(value.get())).map_err(|fault| fault.at(Step::Key(name)))
    }
}

struct Items<'a, 'de> {
    rest: slice::Iter<'a, &'de RawValue>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(item) = self.rest.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Node(item.get())).map(Some).map_err(|fault| fault.at(Step::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A variant, by its name or as an object of one member.
struct Choice<'de> {
    variant: String,
    content: Option<Node<'de>>,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Fault;
    type Variant = Content<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), Fault> {
        let name: StringDeserializer<Fault> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, Content(self.content)))
    }
}

struct Content<'de>(Option<Node<'de>>);

impl<'de> Content<'de> {
    fn required(self) -> Result<Node<'de>, Fault> {
        self.0.ok_or_else(|| Fault::wrong("an object with one member"))
    }
}

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        if self.0.is_none() { Ok(()) } else { Err(Fault::wrong("a string")) }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.required()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.required()?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.required()?.deserialize_struct("", fields, visitor)
    }
}
