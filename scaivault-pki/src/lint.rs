//! Nothing is signed that was not read again and compared with what was meant.
//!
//! The encoder is built on `der`; the lint reads with `x509-parser` and `asn1-rs`, which share no code with it, so
//! that a defect in either shows as a finding before there is a signature. Those readers forgive tags of another
//! class, hence a strict reading as well (`strict`).

mod answer;
mod certificate;
mod list;
mod request;
mod strict;

use std::fmt;

use time::OffsetDateTime;
use x509_parser::{
    asn1_rs::{Any, Class, Tag},
    x509::AlgorithmIdentifier,
};

use crate::{
    Issuer, PkiError,
    crl::{CrlEntry, CrlScope},
    key::{KeyKind, PublicKey},
    ocsp::Answer,
    request::RequestDraft,
    tbs::Draft,
};

/// Something that must not be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of defect it is.
    pub severity: Severity,
    /// A stable name of what was checked: `serial`, `extensions`.
    pub rule: &'static str,
    /// For people: what was found, and what was expected.
    pub message: String,
}

/// The kinds of defect that a lint finds. Both prevent signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// It breaks a standard, or the profile of this crate.
    Profile,
    /// It does not say what was planned.
    Mismatch,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.message)
    }
}

/// Bytes that passed the lint: the only thing that can be signed, and each only once.
#[derive(Debug)]
pub(crate) struct LintedTbs {
    bytes: Vec<u8>,
    signer: PublicKey,
}

impl LintedTbs {
    /// Takes a `TBSCertificate` that says what `draft` says.
    pub(crate) fn certificate(bytes: Vec<u8>, draft: &Draft<'_>) -> Result<Self, PkiError> {
        let mut findings = Findings::default();
        certificate::check(&bytes, draft, &mut findings);
        findings.pass(bytes, draft.signer())
    }

    /// Takes a `TBSCertList` that says what `list` says.
    pub(crate) fn crl(bytes: Vec<u8>, list: &ListDraft<'_>) -> Result<Self, PkiError> {
        let mut findings = Findings::default();
        list::check(&bytes, list, &mut findings);
        findings.pass(bytes, list.issuer.public_key())
    }

    /// Takes a `ResponseData` that says what `answer` says.
    pub(crate) fn ocsp(bytes: Vec<u8>, answer: &Answer<'_>) -> Result<Self, PkiError> {
        let mut findings = Findings::default();
        answer::check(&bytes, answer, &mut findings);
        findings.pass(bytes, answer.signer)
    }

    /// Takes a `CertificationRequestInfo` that says what `draft` says.
    pub(crate) fn request(bytes: Vec<u8>, draft: &RequestDraft<'_>) -> Result<Self, PkiError> {
        let mut findings = Findings::default();
        request::check(&bytes, draft, &mut findings);
        findings.pass(bytes, draft.public_key)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key that must sign it.
    pub(crate) fn signer(&self) -> &PublicKey {
        &self.signer
    }
}

/// What a revocation list is going to say.
#[derive(Debug)]
pub(crate) struct ListDraft<'a> {
    pub(crate) issuer: &'a Issuer,
    pub(crate) scope: &'a CrlScope,
    pub(crate) number: u64,
    pub(crate) this_update: OffsetDateTime,
    pub(crate) next_update: OffsetDateTime,
    pub(crate) entries: Vec<CrlEntry>,
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// A rule of a standard or of the profile.
    pub(crate) fn require(&mut self, holds: bool, rule: &'static str, message: impl Into<String>) {
        if !holds {
            self.0.push(Finding { severity: Severity::Profile, rule, message: message.into() });
        }
    }

    /// What was read must be what was planned.
    pub(crate) fn same<T: PartialEq + fmt::Debug>(&mut self, rule: &'static str, read: T, planned: T) {
        if read != planned {
            let mut message = format!("reads {read:?}, planned was {planned:?}");
            if message.len() > 400 {
                message = "reads otherwise than planned".to_owned();
            }
            self.0.push(Finding { severity: Severity::Mismatch, rule, message });
        }
    }

    fn pass(self, bytes: Vec<u8>, signer: &PublicKey) -> Result<LintedTbs, PkiError> {
        if self.0.is_empty() {
            Ok(LintedTbs { bytes, signer: signer.clone() })
        } else {
            Err(PkiError::Lint(self.0))
        }
    }
}

/// The algorithm that is named must be that of the signer's key, by the numbers of RFC 5758, 3.2,
/// RFC 4055, 5, RFC 8410, 3, and RFC 9881, 2.
fn check_algorithm(read: &AlgorithmIdentifier<'_>, signer: &PublicKey, findings: &mut Findings) {
    let (oid, has_null) = match signer.kind {
        KeyKind::EcP256 => ("1.2.840.10045.4.3.2", false),
        KeyKind::EcP384 => ("1.2.840.10045.4.3.3", false),
        KeyKind::Rsa(_) => ("1.2.840.113549.1.1.11", true),
        KeyKind::EcP521 => ("1.2.840.10045.4.3.4", false),
        KeyKind::Ed25519 => ("1.3.101.112", false),
        KeyKind::MlDsa44 => ("2.16.840.1.101.3.4.3.17", false),
        KeyKind::MlDsa65 => ("2.16.840.1.101.3.4.3.18", false),
        KeyKind::MlDsa87 => ("2.16.840.1.101.3.4.3.19", false),
    };
    findings.same("algorithm", read.algorithm.to_id_string().as_str(), oid);
    let is_null =
        |any: &Any<'_>| any.class() == Class::Universal && any.tag() == Tag::Null && any.data.is_empty();
    findings.same("algorithm", read.parameters.as_ref().map(is_null), has_null.then_some(true));
}

#[cfg(test)]
mod tests;
