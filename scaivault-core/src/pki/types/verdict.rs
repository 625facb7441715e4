use serde::Serialize;
use time::OffsetDateTime;

use super::{IssueWrite, SignWrite, SubjectFields};
use crate::wire;

/// What to hold against a role.
#[derive(Clone, Debug)]
pub enum RoleQuestion {
    /// A request whose key would be made here.
    Issue(IssueWrite),
    /// A certificate request.
    Sign(SignWrite),
}

/// What a role thinks of a request, by the very check that issues.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoleVerdict {
    /// Whether a certificate would be issued.
    pub allowed: bool,
    /// The rules that admitted something.
    pub matched: Vec<RuleMatch>,
    /// The rules that are broken.
    pub violations: Vec<RuleViolation>,
    /// What the certificate request says besides, and no certificate would.
    pub ignored: Vec<String>,
    /// What the certificate would say.
    pub certificate: Option<PlannedCertificate>,
}

impl RoleVerdict {
    /// Adds a rule that no role knows of.
    pub(in crate::pki) fn refuse(&mut self, field: &str, rule: &'static str, message: &str) {
        self.violations.push(RuleViolation { field: field.to_owned(), rule, message: message.to_owned() });
        self.allowed = false;
        self.certificate = None;
    }
}

/// A rule that admitted something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct RuleMatch {
    pub field: String,
    pub rule: &'static str,
    /// The entry of the role, or the value, that it was held against.
    pub by: String,
}

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct RuleViolation {
    pub field: String,
    pub rule: &'static str,
    pub message: String,
}

/// What a certificate would say.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct PlannedCertificate {
    pub common_name: Option<String>,
    pub subject: SubjectFields,
    pub alt_names: Vec<String>,
    pub ip_sans: Vec<String>,
    pub email_sans: Vec<String>,
    pub uri_sans: Vec<String>,
    /// Dotted OIDs.
    pub extended_key_usages: Vec<String>,
    #[serde(serialize_with = "wire::seconds")]
    pub not_before: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub not_after: OffsetDateTime,
}

impl From<scaivault_pki::Verdict> for RoleVerdict {
    fn from(verdict: scaivault_pki::Verdict) -> Self {
        let matched = verdict.matched.into_iter();
        let violations = verdict.violations.into_iter();
        Self {
            allowed: verdict.plan.is_some(),
            matched: matched.map(|m| RuleMatch { field: m.field, rule: m.rule, by: m.by }).collect(),
            violations: violations
                .map(|v| RuleViolation { field: v.field, rule: v.rule, message: v.message })
                .collect(),
            ignored: verdict.ignored,
            certificate: verdict.plan.as_ref().map(PlannedCertificate::of),
        }
    }
}

impl PlannedCertificate {
    fn of(plan: &scaivault_pki::Plan) -> Self {
        Self {
            common_name: plan.common_name().map(str::to_owned),
            subject: SubjectFields::of(plan.subject()),
            alt_names: plan.dns_names().iter().map(|name| name.as_str().to_owned()).collect(),
            ip_sans: plan.ip_addresses().iter().map(ToString::to_string).collect(),
            email_sans: plan.emails().to_vec(),
            uri_sans: plan.uris().to_vec(),
            extended_key_usages: plan.purposes().iter().map(ToString::to_string).collect(),
            not_before: plan.not_before(),
            not_after: plan.not_after(),
        }
    }
}
