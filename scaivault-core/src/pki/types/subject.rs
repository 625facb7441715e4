use scaivault_pki::SubjectParts;
use serde::{Deserialize, Serialize};

/// The parts of a name beside its common name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the attributes of a distinguished name")]
pub struct SubjectFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organizational_unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
}

impl SubjectFields {
    pub(in crate::pki) fn parts(self) -> SubjectParts {
        let Self { organization, organizational_unit, country, state, locality } = self;
        SubjectParts { organization, organizational_unit, country, state, locality }
    }

    pub(in crate::pki) fn of(parts: &SubjectParts) -> Self {
        let SubjectParts { organization, organizational_unit, country, state, locality } = parts.clone();
        Self { organization, organizational_unit, country, state, locality }
    }
}
