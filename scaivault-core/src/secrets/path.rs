use std::fmt;

use serde::Serialize;

use crate::{Code, Error, Result, limits};

/// A path that holds a secret, in its one spelling: what is authorized is what is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SecretPath(String);

/// First segments that are routes of their own.
const RESERVED_FIRST: &[&str] = &["batch", "expiring"];
/// Last segments that are actions on the path before them.
const RESERVED_LAST: &[&str] = &["metadata", "versions", "restore", "rotate"];
/// What stands for something else in policies.
const VIRTUAL: &[&str] = &["pki/issue/", "pki/sign/", "dynamic/"];

impl SecretPath {
    /// Reads a path: 1 to 10 segments of `a-z 0-9 - _`, separated by single slashes, at most 512
    /// characters, none of the reserved words in a place where it means something else.
    ///
    /// # Errors
    /// [`Code::InvalidPath`] with the rule that is broken.
    pub fn parse(path: &str) -> Result<Self> {
        let invalid = |rule: String| Err(Error::new(Code::InvalidPath, format!("path: {rule}")));
        check_characters(path)?;
        let segments: Vec<&str> = path.split('/').collect();
        if segments.iter().any(|s| s.is_empty()) {
            return invalid("it must not be empty, begin or end with a slash, or hold two in a row".into());
        }
        if segments.len() > limits::PATH_SEGMENTS {
            return invalid(format!(
                "it has {} levels, at most {} are allowed",
                segments.len(),
                limits::PATH_SEGMENTS
            ));
        }
        if let Some(word) = segments.first().filter(|s| RESERVED_FIRST.contains(s)) {
            return invalid(format!("the first level {word:?} is reserved"));
        }
        if let Some(word) = segments.last().filter(|s| RESERVED_LAST.contains(s)) {
            return invalid(format!("the last level {word:?} is reserved"));
        }
        if let Some(start) = VIRTUAL.iter().find(|v| path.starts_with(*v)) {
            return invalid(format!("{start:?} stands for something that is not a secret"));
        }
        Ok(Self(path.to_owned()))
    }

    /// Whether a path begins like one that stands for something else than a secret.
    pub(crate) fn is_virtual(path: &str) -> bool {
        VIRTUAL.iter().any(|start| path.starts_with(start))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks what a path or a prefix of one may consist of.
///
/// # Errors
/// [`Code::InvalidPath`] if it is too long or has a character that no path has.
pub(super) fn check_characters(path: &str) -> Result<()> {
    if path.chars().count() > limits::PATH_CHARS {
        let rule = format!("path: at most {} characters are allowed", limits::PATH_CHARS);
        return Err(Error::new(Code::InvalidPath, rule));
    }
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '/');
    match path.chars().find(|c| !good(*c)) {
        None => Ok(()),
        Some(bad) => {
            let rule = format!("path: only a-z, 0-9, '-', '_' and '/' are allowed, not {bad:?}");
            Err(Error::new(Code::InvalidPath, rule))
        }
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths_are_kept_as_they_are() {
        for path in [
            "a",
            "app/db",
            "a-b/c_d/0",
            "metadata/x",
            "versions/restore/x",
            "pki/x",
            "pki/issue",
            "app/batch",
        ] {
            assert_eq!(SecretPath::parse(path).unwrap().as_str(), path);
        }
        assert!(SecretPath::parse(&["x"; 10].join("/")).is_ok());
        assert!(SecretPath::parse(&"x".repeat(512)).is_ok());
    }

    /// Every other spelling of a path is refused, so that no two keys mean one secret.
    #[test]
    fn sec_a1_no_path_has_a_second_spelling() {
        let spellings = [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "a/./b",
            "a/../b",
            ".",
            "..",
            "a/b.",
            "A/b",
            "a/B",
            "a%2fb",
            "a%2Fb",
            "%2e%2e/a",
            "a\\b",
            "a\0b",
            "a b",
            " a",
            "a ",
            "a\tb",
            "a\nb",
            "ａ/b",
            "a／b",
            "á",
            "a\u{301}",
            "a\u{200b}b",
            "a\u{2044}b",
            "a;b",
            "a?b",
            "a#b",
            "a*b",
            "a**",
            "~a",
            "a:b",
            "a@b",
            "a+b",
            "a=b",
            "a,b",
            "\u{feff}a",
            "ﬁ",
            "ı",
        ];
        for path in spellings {
            let error = SecretPath::parse(path).unwrap_err();
            assert_eq!(error.code(), Code::InvalidPath, "{path:?}");
            assert!(error.message().starts_with("path: "), "{}", error.message());
        }
        assert!(SecretPath::parse(&["x"; 11].join("/")).is_err());
        assert!(SecretPath::parse(&"x".repeat(513)).is_err());
    }

    #[test]
    fn reserved_words_are_refused_where_they_mean_something() {
        for path in [
            "batch",
            "batch/x",
            "expiring/x",
            "a/metadata",
            "versions",
            "a/restore",
            "a/rotate",
            "pki/issue/x",
            "pki/sign/x",
            "dynamic/x",
        ] {
            assert_eq!(SecretPath::parse(path).unwrap_err().code(), Code::InvalidPath, "{path:?}");
        }
    }
}
