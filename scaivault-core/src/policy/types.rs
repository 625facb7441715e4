use std::fmt;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use serde_json::Value;

use super::{Conditions, PathPattern};
use crate::{Code, Error, FieldErrors, Name, Result, limits};

/// What a rule may allow on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// Read values.
    Read,
    /// Create and update.
    Write,
    /// Delete; restoring is writing.
    Delete,
    /// Enumerate, without values.
    List,
    /// Rotate.
    Rotate,
    /// All of them.
    Admin,
}

impl Permission {
    /// Every one there is.
    pub const ALL: &[Self] = &[Self::Read, Self::Write, Self::Delete, Self::List, Self::Rotate, Self::Admin];

    /// The stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Rotate => "rotate",
            Self::Admin => "admin",
        }
    }

    /// The one with exactly this text, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.as_str() == text)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// What one rule allows.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permissions(u8);

impl Permissions {
    /// Whether `wanted` is allowed: it is among these, or [`Permission::Admin`] is. Nothing else implies
    /// anything.
    #[must_use]
    pub fn allow(self, wanted: Permission) -> bool {
        self.holds(wanted) || self.holds(Permission::Admin)
    }

    /// Those that were given, without what they imply, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.holds(*permission))
    }

    fn holds(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |all, permission| all | 1 << permission as u8))
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Permission::as_str)).finish()
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

/// A grant: these permissions on the paths that match. It is written as it is read by [`RuleWrite`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    path_pattern: PathPattern,
    permissions: Permissions,
    conditions: Conditions,
}

impl Rule {
    /// Reads the rules of one policy; one that repeats an earlier one is dropped.
    ///
    /// # Errors
    /// [`Code::InvalidGlob`] for a pattern, [`Code::InvalidPolicy`] for the rest: no rules, more than
    /// [`limits::POLICY_RULES`], a rule without permissions or with one that we do not know, and
    /// conditions that are not understood to the letter, which are never skipped. The first finding is told,
    /// with its field, such as `rules[2].conditions.ip_ranges[0]`.
    pub fn parse_all(rules: Vec<RuleWrite>) -> Result<Vec<Self>> {
        if !(1..=limits::POLICY_RULES).contains(&rules.len()) {
            return Err(invalid("rules", format!("must have 1 to {} rules", limits::POLICY_RULES)));
        }
        let mut seen = std::collections::HashSet::with_capacity(rules.len());
        let parsed: Vec<_> =
            rules.into_iter().enumerate().map(|(i, rule)| Self::parse(i, rule)).collect::<Result<_>>()?;
        Ok(parsed.into_iter().filter(|rule| seen.insert(rule.clone())).collect())
    }

    /// Which paths it is about.
    #[must_use]
    pub fn path_pattern(&self) -> &PathPattern {
        &self.path_pattern
    }

    /// What it allows there.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// What else must hold.
    #[must_use]
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    fn parse(index: usize, rule: RuleWrite) -> Result<Self> {
        let RuleWrite { path_pattern, permissions, conditions } = rule;
        let field = |name: &str| format!("rules[{index}].{name}");
        let path_pattern = PathPattern::parse(&path_pattern)
            .map_err(|error| at(error.code(), &field("path_pattern"), error.message().to_owned()))?;
        if permissions.is_empty() {
            return Err(invalid(&field("permissions"), "must have at least one permission"));
        }
        let read = |(i, text): (usize, &String)| {
            Permission::parse(text).ok_or_else(|| {
                invalid(
                    &field(&format!("permissions[{i}]")),
                    "must be read, write, delete, list, rotate or admin",
                )
            })
        };
        let permissions = permissions.iter().enumerate().map(read).collect::<Result<_>>()?;
        let conditions = Conditions::parse(conditions).map_err(|(member, reason)| {
            let dot = if member.is_empty() { "" } else { "." };
            invalid(&field(&format!("conditions{dot}{member}")), reason)
        })?;
        Ok(Self { path_pattern, permissions, conditions })
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut rule = to.serialize_struct("Rule", 3)?;
        rule.serialize_field("path_pattern", &self.path_pattern)?;
        rule.serialize_field("permissions", &self.permissions)?;
        rule.serialize_field("conditions", &self.conditions)?;
        rule.end()
    }
}

/// A rule as somebody writes it, unchecked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleWrite {
    /// See [`PathPattern`].
    pub path_pattern: String,
    /// See [`Permission`].
    pub permissions: Vec<String>,
    /// See [`Conditions`]; absent, `null` or empty for none.
    #[serde(default)]
    pub conditions: Option<Value>,
}

/// A policy as somebody writes it, unchecked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyWrite {
    /// See [`Name`].
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// See [`Rule::parse_all`].
    pub rules: Vec<RuleWrite>,
}

/// A policy that means something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyDocument {
    name: Name,
    description: Option<String>,
    rules: Vec<Rule>,
}

impl PolicyDocument {
    /// Checks everything about it that can be checked without knowing other policies.
    ///
    /// # Errors
    /// [`Code::ValidationError`] on `name` or `description` (at most [`limits::DESCRIPTION_CHARS`]
    /// characters, none of them control characters except line breaks and tabs); for the rules, see
    /// [`Rule::parse_all`].
    pub fn parse(write: PolicyWrite) -> Result<Self> {
        let PolicyWrite { name, description, rules } = write;
        let name = Name::parse(&name)?;
        check_description(description.as_deref())?;
        Ok(Self { name, description, rules: Rule::parse_all(rules)? })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it is for.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// The rules, at least one.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

pub(super) fn check_description(text: Option<&str>) -> Result<()> {
    let mut fields = FieldErrors::default();
    let text = text.unwrap_or_default();
    if text.chars().count() > limits::DESCRIPTION_CHARS {
        fields.push("description", format!("must have at most {} characters", limits::DESCRIPTION_CHARS));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        fields.push("description", "must not hold control characters");
    }
    fields.finish()
}

fn invalid(field: &str, reason: impl Into<String>) -> Error {
    at(Code::InvalidPolicy, field, reason.into())
}

fn at(code: Code, field: &str, reason: String) -> Error {
    Error::new(code, format!("{field}: {reason}")).with(|details| {
        details.fields.insert(field.to_owned(), vec![reason]);
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(rules: Value) -> Result<PolicyDocument> {
        let write = json!({"name": "payments", "rules": rules});
        PolicyDocument::parse(serde_json::from_value(write).unwrap())
    }

    fn refusal(rules: Value, field: &str) -> Code {
        let error = parse(rules).unwrap_err();
        assert!(error.details().fields.contains_key(field), "{:?}", error.details());
        error.code()
    }

    #[test]
    fn a_document_is_read_and_written_back() {
        let rules = json!([
            {"path_pattern": "app/**", "permissions": ["write", "read", "read"]},
            {"path_pattern": "app/**", "permissions": ["read", "write"], "conditions": {}},
            {"path_pattern": "ops/*", "permissions": ["admin"], "conditions": null},
        ]);
        let document = parse(rules).unwrap();
        let written = serde_json::to_value(document.rules()).unwrap();
        assert_eq!(
            written,
            json!([
                {"path_pattern": "app/**", "permissions": ["read", "write"], "conditions": {}},
                {"path_pattern": "ops/*", "permissions": ["admin"], "conditions": {}},
            ])
        );
        assert_eq!(parse(written).unwrap(), document);
        assert!(Permission::ALL.iter().all(|wanted| document.rules()[1].permissions().allow(*wanted)));
        assert!(!document.rules()[0].permissions().allow(Permission::List));
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        let rule = json!({"path_pattern": "a", "permissions": ["read"]});
        let good = |n: usize| json!(vec![rule.clone(); n]);
        assert_eq!(refusal(good(0), "rules"), Code::InvalidPolicy);
        assert_eq!(refusal(good(limits::POLICY_RULES + 1), "rules"), Code::InvalidPolicy);
        assert!(parse(good(limits::POLICY_RULES)).is_ok());
        let none = json!([rule, {"path_pattern": "a", "permissions": []}]);
        assert_eq!(refusal(none, "rules[1].permissions"), Code::InvalidPolicy);
        for bad in ["Read", "read ", "*", "", "sudo"] {
            let odd = json!([{"path_pattern": "a", "permissions": ["list", bad]}]);
            assert_eq!(refusal(odd, "rules[0].permissions[1]"), Code::InvalidPolicy);
        }
        let glob = json!([{"path_pattern": "a**", "permissions": ["read"]}]);
        assert_eq!(refusal(glob, "rules[0].path_pattern"), Code::InvalidGlob);
        let unknown = json!({"path_pattern": "a", "permissions": ["read"], "deny": true});
        assert!(serde_json::from_value::<RuleWrite>(unknown).is_err());
    }

    #[test]
    fn sec_a6_no_condition_is_ever_skipped() {
        for (conditions, member) in [
            (json!({"ip_ranges": []}), ".ip_ranges"),
            (json!({"ip_ranges": ["10.0.0.0/8", "10.0.0.0/33"]}), ".ip_ranges[1]"),
            (json!({"time_window": {"start": "25:00"}}), ".time_window.start"),
            (json!({"require_mfa": "yes"}), ".require_mfa"),
            (json!({"require_mfa": true, "unheard_of": null}), ".unheard_of"),
            (json!([]), ""),
            (json!("{}"), ""),
        ] {
            let good = json!({"path_pattern": "a", "permissions": ["read"]});
            let bad = json!({"path_pattern": "a", "permissions": ["read"], "conditions": conditions});
            assert_eq!(
                refusal(json!([good, bad]), &format!("rules[1].conditions{member}")),
                Code::InvalidPolicy
            );
        }
        let misspelt =
            json!({"path_pattern": "a", "permissions": ["read"], "condition": {"require_mfa": true}});
        assert!(serde_json::from_value::<RuleWrite>(misspelt).is_err());
    }

    #[test]
    fn sec_a4_names_that_look_alike_collide_and_reserved_ones_are_refused() {
        let key = |name: &str| Name::parse(name).unwrap().key();
        assert_eq!(key("Payments Team"), key(" payments team "));
        assert_eq!(Name::parse(" Payments ").unwrap().as_str(), "Payments");
        let long = "x".repeat(limits::NAME_CHARS + 1);
        for bad in [
            "root",
            "ROOT",
            "Root ",
            "system",
            "sYstem",
            "default",
            "Default",
            ".",
            "..",
            "",
            "  ",
            "-a",
            "_a",
            "a  b",
            "a\tb",
            "a\n",
            "a/b",
            "../root",
            "r\u{43e}ot",
            "roo\u{ff54}",
            "ro\u{200b}ot",
            "\u{212a}ey",
            "a\u{301}",
            "a\0",
            &long,
        ] {
            let error = Name::parse(bad).unwrap_err();
            assert_eq!(error.code(), Code::ValidationError, "{bad:?}");
            assert!(error.details().fields.contains_key("name"));
        }
    }

    #[test]
    fn a_description_is_bounded_text() {
        let parse = |description: &str| {
            let rules = json!([{"path_pattern": "a", "permissions": ["read"]}]);
            let write = json!({"name": "p", "description": description, "rules": rules});
            PolicyDocument::parse(serde_json::from_value(write).unwrap())
        };
        assert_eq!(parse("für\tBüro\n").unwrap().description(), Some("für\tBüro\n"));
        assert!(parse(&"x".repeat(limits::DESCRIPTION_CHARS + 1)).is_err());
        assert!(parse("a\u{1b}[2J").is_err());
    }
}
