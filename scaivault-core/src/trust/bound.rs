use serde::{Serialize, Serializer};
use serde_json::{Map, Number, Value};

use crate::limits;

/// A text with `*`, each of which stands for any number of characters other than `:` and `/`; no other character means
/// anything but itself. So a wildcard never reaches into the next part of `repo:acme/app:ref:refs/heads/main`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(String);

const SEPARATORS: [char; 2] = [':', '/'];

impl Pattern {
    /// Reads a pattern of 1 to [`limits::BOUND_VALUE`] bytes.
    ///
    /// # Errors
    /// Why not; a text that is nothing but wildcards and separators binds nothing.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if !(1..=limits::BOUND_VALUE).contains(&text.len()) || text.chars().any(char::is_control) {
            return Err(format!("must have 1 to {} bytes without control characters", limits::BOUND_VALUE));
        }
        if text.chars().all(|c| c == '*' || SEPARATORS.contains(&c)) {
            return Err("must not be wildcards alone".into());
        }
        Ok(Self(text.to_owned()))
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let of = |text: &str| text.matches(SEPARATORS).map(str::to_owned).collect::<Vec<_>>();
        let parts = self.0.split(SEPARATORS).zip(text.split(SEPARATORS));
        of(&self.0) == of(text) && parts.fold(true, |good, (pattern, part)| good && is_like(pattern, part))
    }

    /// Whether it begins with `prefix` and at least one more part without a wildcard, and `end` behind that.
    pub(super) fn names(&self, prefix: &str, end: char) -> bool {
        let rest = self.0.strip_prefix(prefix);
        let named = rest.and_then(|rest| rest.split_once(end));
        named.is_some_and(|(name, _)| !name.is_empty() && !name.contains('*'))
    }

    pub(super) fn has_wildcards(&self) -> bool {
        self.0.contains('*')
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

/// What stands between wildcards is found from the left, each as early as it can be; the last at the end.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some((_, after)) = text.split_once(part) else { return false };
        text = after;
    }
    text.ends_with(last)
}

/// One value that a claim may have. A text is never a number, and a number never a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Text(Pattern),
    Bool(bool),
    Number(Number),
}

impl Wanted {
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Pattern::parse(text).map(Self::Text),
            Value::Bool(value) => Ok(Self::Bool(*value)),
            Value::Number(number) if !number.is_f64() => Ok(Self::Number(number.clone())),
            _ => Err("must be a text, a whole number, true or false, or a list of those".into()),
        }
    }

    /// Whether a claim has it, or is a list of which one has.
    fn is(&self, claim: &Value) -> bool {
        let one = |value: &Value| match (self, value) {
            (Self::Text(pattern), Value::String(text)) => pattern.matches(text),
            (Self::Bool(wanted), Value::Bool(value)) => wanted == value,
            (Self::Number(wanted), Value::Number(value)) => wanted == value,
            _ => false,
        };
        match claim {
            Value::Array(items) => items.iter().any(one),
            claim => one(claim),
        }
    }
}

impl Serialize for Wanted {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(pattern) => pattern.serialize(to),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Number(number) => number.serialize(to),
        }
    }
}

/// Where a claim is: its name, or a JSON pointer (RFC 6901), which begins with `/`. A dot is a character of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClaimPath(String);

impl ClaimPath {
    /// # Errors
    /// Why it is none, or none that may be bound.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if !(1..=limits::BOUND_VALUE).contains(&text.len()) || text.chars().any(char::is_control) {
            return Err("is not the name of a claim".into());
        }
        let path = Self(text.to_owned());
        let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        if text.starts_with('/') && (!escapes || text == "/") {
            return Err("is not a JSON pointer".into());
        }
        match path.first().as_str() {
            "sub" => Err("is bound by bound_subject".into()),
            "iss" | "aud" | "exp" | "nbf" | "iat" => Err("is checked by itself".into()),
            _ => Ok(path),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the claim that it is or is in.
    pub(super) fn first(&self) -> String {
        match self.0.strip_prefix('/') {
            Some(pointer) => {
                pointer.split('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~")
            }
            None => self.0.clone(),
        }
    }

    fn find<'v>(&self, claims: &'v Map<String, Value>) -> Option<&'v Value> {
        let Some(pointer) = self.0.strip_prefix('/') else { return claims.get(&self.0) };
        let first = claims.get(&self.first())?;
        let rest = pointer.find('/').map_or("", |at| &pointer[at..]);
        first.pointer(rest)
    }
}

/// A claim and the values of which it has to have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BoundClaim {
    pub(super) path: ClaimPath,
    pub(super) any_of: Vec<Wanted>,
}

impl BoundClaim {
    pub(super) fn holds(&self, claims: &Map<String, Value>) -> bool {
        self.path.find(claims).is_some_and(|claim| self.any_of.iter().any(|wanted| wanted.is(claim)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sec_b1_a_wildcard_stays_in_its_part() {
        for (pattern, yes, no) in [
            (
                "repo:acme/app:ref:refs/heads/main",
                &["repo:acme/app:ref:refs/heads/main"][..],
                &[
                    "repo:acme/app:ref:refs/heads/main2",
                    "repo:acme/app:ref:refs/heads/main/x",
                    "xrepo:acme/app:ref:refs/heads/main",
                    "Repo:acme/app:ref:refs/heads/main",
                    "",
                ][..],
            ),
            (
                "repo:acme/*:ref:refs/heads/main",
                &["repo:acme/app:ref:refs/heads/main", "repo:acme/:ref:refs/heads/main"],
                &[
                    "repo:acme/a/b:ref:refs/heads/main",
                    "repo:acme/a:x:ref:refs/heads/main",
                    "repo:acme2/a:ref:refs/heads/main",
                ],
            ),
            ("a*", &["a", "ab", "a*"], &["a/", "a:", "a/b", "ba", "a:b"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a/b"]),
            ("a*a", &["aa", "aba", "aaa"], &["a"]),
            ("*/main", &["x/main", "/main"], &["main", "x/main/", "x/y/main"]),
            ("a?[b].", &["a?[b]."], &["ax[b].", "ab."]),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            for text in yes {
                assert!(pattern.matches(text), "{pattern:?} {text}");
            }
            for text in no {
                assert!(!pattern.matches(text), "{pattern:?} {text}");
            }
        }
        for bad in ["", "*", "**", "*/*", ":", "*:*/*", "a\n", &"x".repeat(limits::BOUND_VALUE + 1)] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn claims_are_compared_with_their_types() {
        let claims = json!({
            "a.b": "dotted", "a": { "b": "nested", "c/d": 1, "e~f": [1, "two", true, ["deep"], null] },
            "yes": true, "text": "true", "one": 1, "float": 1.0, "none": null, "list": ["x", "y"],
        });
        let claims = claims.as_object().unwrap();
        let holds = |path: &str, wanted: Value| {
            let any_of = match wanted {
                Value::Array(values) => values.iter().map(|value| Wanted::parse(value).unwrap()).collect(),
                one => vec![Wanted::parse(&one).unwrap()],
            };
            BoundClaim { path: ClaimPath::parse(path).unwrap(), any_of }.holds(claims)
        };
        for (path, wanted) in [
            ("a.b", json!("dotted")),
            ("/a.b", json!("dotted")),
            ("/a/b", json!("nested")),
            ("/a/c~1d", json!(1)),
            ("/a/e~0f", json!("t*o")),
            ("/a/e~0f/1", json!("two")),
            ("yes", json!(true)),
            ("text", json!("true")),
            ("list", json!(["z", "y"])),
        ] {
            assert!(holds(path, wanted.clone()), "{path} {wanted}");
        }
        for (path, wanted) in [
            ("a.b", json!("nested")),
            ("a/b", json!("nested")),
            ("yes", json!("true")),
            ("text", json!(true)),
            ("one", json!("1")),
            ("float", json!(1)),
            ("none", json!("null")),
            ("missing", json!("x")),
            ("/a/e~0f", json!("deep")),
            ("/list/2", json!("x")),
            ("a", json!("nested")),
        ] {
            assert!(!holds(path, wanted.clone()), "{path} {wanted}");
        }
        for bad in ["", "/", "/a~", "/a~2b", "sub", "/sub", "iss", "aud", "exp", "/iat", "a\0"] {
            assert!(ClaimPath::parse(bad).is_err(), "{bad:?}");
        }
        for bad in [json!(null), json!([]), json!({}), json!(1.5), json!("*")] {
            assert!(Wanted::parse(&bad).is_err(), "{bad}");
        }
    }
}
