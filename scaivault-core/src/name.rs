use std::fmt;

use serde::Serialize;

use crate::{Error, Result, limits};

/// The name of a policy or a CA: unique in its tenant whatever the case, see [`Name::key`].
///
/// Being ASCII it has one Unicode form, and folding its case is putting it in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Reads a name, without the spaces around it: a letter or digit, then letters, digits, `. _ -` and
    /// single spaces, all ASCII, so that two names that look alike are alike; at most
    /// [`limits::NAME_CHARS`] characters.
    ///
    /// # Errors
    /// [`Code::ValidationError`](crate::Code::ValidationError) on `name`, for these rules and for the reserved names `root`, `system`
    /// and `default` in any case.
    pub fn parse(text: &str) -> Result<Self> {
        let name = Self::parse_label(text)?;
        if is_reserved(name.as_str()) { Err(Error::field("name", RESERVED_REASON)) } else { Ok(name) }
    }

    /// Reads the name of something that is only ever shown by it, and addressed by an identifier, as CAs are: the
    /// same rules, but nothing is reserved, so that a root CA can be called `Root`.
    ///
    /// # Errors
    /// [`Code::ValidationError`](crate::Code::ValidationError) on `name`.
    pub(crate) fn parse_label(text: &str) -> Result<Self> {
        let name = text.trim_matches(' ');
        let reason = if !(1..=limits::NAME_CHARS).contains(&name.len()) {
            format!("must have 1 to {} characters", limits::NAME_CHARS)
        } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            "must begin with a letter or digit".into()
        } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b" ._-".contains(&b)) {
            "must hold only letters, digits, spaces and . _ -".into()
        } else if name.contains("  ") {
            "must not hold two spaces in a row".into()
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(Error::field("name", reason))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What has to be unique in a tenant: the name in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

const RESERVED: [&str; 3] = ["root", "system", "default"];
/// What is said of them.
pub(crate) const RESERVED_REASON: &str = "is reserved";

/// Whether a name of a policy, or one that stands in paths, is kept back, whatever the case: somewhere it could be
/// taken for more than it is.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
