use std::fmt;

use scaivault_kms::KmsError;

use crate::{
    lint::Finding,
    role::{Plan, Verdict},
};

/// What a caller of this crate can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The request breaks rules of the role, the issuer or the profile. The caller can mend it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// An argument is not what it should be (not DER, not a CA certificate, another issuer's key).
    #[error("{field}: {message}")]
    Invalid {
        /// Which argument.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// What was built does not say what was planned, so it was not signed. A defect of ours.
    #[error("refused to sign: {}", Listed(.0))]
    Lint(Vec<Finding>),
    /// The key provider could not sign.
    #[error("the key provider could not sign")]
    Kms(#[from] KmsError),
    /// A value that was accepted cannot be written in DER. A defect of ours.
    #[error("encoding {what} failed")]
    Encoding {
        /// What was being written.
        what: &'static str,
        /// Why it cannot be.
        #[source]
        source: der::Error,
    },
}

impl PkiError {
    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
    }

    /// For `map_err` where the DER encoder fails.
    pub(crate) fn encoding(what: &'static str) -> impl FnOnce(der::Error) -> Self {
        move |source| Self::Encoding { what, source }
    }
}

/// Every rule that a request breaks; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused: {}", Listed(.violations))]
pub struct Refused {
    /// The broken rules, in the order of the request's fields.
    pub violations: Vec<Violation>,
}

impl Refused {
    pub(crate) fn one(field: &str, rule: &'static str, message: impl Into<String>) -> Self {
        Self { violations: vec![Violation { field: field.to_owned(), rule, message: message.into() }] }
    }
}

/// One rule that one field breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field as the caller knows it: `ttl`, `alt_names[2]`.
    pub field: String,
    /// A stable name of the rule: `allowed_domains`, `max_ttl`.
    pub rule: &'static str,
    /// For people: what is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// One rule that admitted one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The field as the caller knows it.
    pub field: String,
    /// The stable name of the rule.
    pub rule: &'static str,
    /// Which of its entries it was, or the value that it was held against.
    pub by: String,
}

/// Collects violations, so that a caller hears of all of them at once.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    found: Vec<Violation>,
    /// The rules that admitted something, where somebody wants to know.
    matched: Option<Vec<Match>>,
}

impl Violations {
    /// One that remembers what was admitted, too.
    pub(crate) fn traced() -> Self {
        Self { found: Vec::new(), matched: Some(Vec::new()) }
    }

    pub(crate) fn add(&mut self, field: impl Into<String>, rule: &'static str, message: impl Into<String>) {
        self.found.push(Violation { field: field.into(), rule, message: message.into() });
    }

    pub(crate) fn matched(&mut self, field: impl Into<String>, rule: &'static str, by: impl fmt::Display) {
        if let Some(matched) = &mut self.matched {
            matched.push(Match { field: field.into(), rule, by: by.to_string() });
        }
    }

    pub(crate) fn into_result(self) -> Result<(), Refused> {
        if self.found.is_empty() { Ok(()) } else { Err(Refused { violations: self.found }) }
    }

    /// All of it; the plan only if nothing was violated.
    pub(crate) fn into_verdict(self, ignored: Vec<String>, plan: Plan) -> Verdict {
        let plan = self.found.is_empty().then_some(plan);
        Verdict { matched: self.matched.unwrap_or_default(), violations: self.found, ignored, plan }
    }
}

/// Text of the caller, made safe for a message: quoted, escaped and cut at 80 characters.
pub(crate) fn quote(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

struct Listed<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_caller_is_escaped_and_cut() {
        assert_eq!(quote("a\n\u{202e}"), r#""a\n\u{202e}""#);
        assert!(quote(&"ä".repeat(10_000)).len() < 200);
    }

    #[test]
    fn all_violations_show() {
        let mut found = Violations::default();
        found.add("ttl", "max_ttl", "too long");
        found.add("alt_names[1]", "allowed_domains", "not allowed");
        let text = found.into_result().unwrap_err().to_string();
        assert_eq!(text, "refused: ttl: too long; alt_names[1]: not allowed");
    }
}
