//! Why a value does not fit its type, told without the value.
//!
//! serde builds its usual messages from the offending value (`invalid type: string "hunter2"`). This error
//! type never looks at it: it keeps where, and what was expected.

use std::fmt::{self, Display};

use scaivault_core::{Code, Error, FieldErrors};
use serde::de::{self, Expected, Unexpected};

/// What does not fit, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    /// From the innermost step outwards.
    path: Vec<Step>,
    kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

#[derive(Debug)]
enum Kind {
    Missing(&'static str),
    Unknown(Vec<String>),
    Wrong(String),
    Other,
}

impl Fault {
    /// Members that the type does not have.
    pub(crate) fn unknown(names: Vec<String>) -> Self {
        Kind::Unknown(names).into()
    }

    /// A value that is not `expected` (say `an object`).
    pub(crate) fn wrong(expected: impl Into<String>) -> Self {
        Kind::Wrong(expected.into()).into()
    }

    /// Adds the step that leads to where this was found.
    pub(crate) fn at(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    /// 422 with every field named.
    pub(crate) fn into_fields(self) -> Error {
        let mut fields = FieldErrors::default();
        for (field, reason) in self.findings() {
            fields.push(field, reason);
        }
        match fields.finish() {
            Err(error) => error,
            Ok(()) => Error::new(Code::ValidationError, "The body is not valid."),
        }
    }

    /// 400 naming the first parameter.
    pub(crate) fn into_parameter(self) -> Error {
        let (name, reason) = self.findings().swap_remove(0);
        Error::new(Code::InvalidRequest, format!("Query parameter {name}: {reason}."))
    }

    /// At least one pair of where and why.
    fn findings(self) -> Vec<(String, String)> {
        let parent = self.path.iter().rev().fold(String::new(), |path, step| match step {
            Step::Key(key) => join(&path, key),
            Step::Index(index) => format!("{path}[{index}]"),
        });
        match self.kind {
            Kind::Missing(name) => vec![(join(&parent, name), "is required".into())],
            Kind::Unknown(names) => {
                names.iter().map(|name| (join(&parent, name), "is not a known field".into())).collect()
            }
            Kind::Wrong(expected) => vec![(or_body(parent), format!("must be {expected}"))],
            Kind::Other => vec![(or_body(parent), "is not valid".into())],
        }
    }
}

fn or_body(path: String) -> String {
    if path.is_empty() { "body".into() } else { path }
}

fn join(path: &str, key: &str) -> String {
    let key = name(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// A name from the outside, fit to be shown: short and without control characters.
pub(crate) fn name(key: &str) -> String {
    let mut shown: String = key
        .chars()
        .take(NAME_CHARS)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if key.chars().nth(NAME_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// What serde calls a type, in the words of JSON.
fn plain(expected: &str) -> String {
    let text = match expected {
        "a map" => "an object",
        "a sequence" => "an array",
        "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a non-negative integer in range",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer in range",
        "f32" | "f64" => "a number",
        "string" | "a string" | "a borrowed string" => "a string",
        text if text.starts_with("struct ") => "an object",
        text if text.starts_with("enum ") || text.starts_with("variant ") => "one of the known values",
        text if text.starts_with("tuple ") || text.starts_with("an array ") => "an array of that length",
        text => text,
    };
    text.into()
}

impl From<Kind> for Fault {
    fn from(kind: Kind) -> Self {
        Self { path: Vec::new(), kind }
    }
}

impl de::Error for Fault {
    fn custom<T: Display>(_: T) -> Self {
        Kind::Other.into()
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::wrong(plain(&expected.to_string()))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::wrong(plain(&expected.to_string()))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::wrong(plain(&expected.to_string()))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::wrong(format!("one of {}", expected.join(", ")))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::unknown(vec![field.to_owned()])
    }

    fn missing_field(field: &'static str) -> Self {
        Kind::Missing(field).into()
    }

    fn duplicate_field(_: &'static str) -> Self {
        Kind::Other.into()
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value does not fit its type")
    }
}

impl std::error::Error for Fault {}

/// Characters of a name that are shown.
const NAME_CHARS: usize = 64;
