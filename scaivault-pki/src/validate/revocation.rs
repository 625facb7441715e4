//! Whether the certificates of a path were revoked: what is demanded, what is known, and who says so.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
};

use time::OffsetDateTime;

use super::{Failure, Reason, Rules, limits};
use crate::{
    RevocationReason,
    chain::{Path, Pool},
    read::{asn1::Malformed, crl::Crl, ocsp::Answer},
    time::shown,
};

/// What is demanded of revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationMode {
    /// Nothing, and nothing is looked at.
    #[default]
    None,
    /// What is known to be revoked is refused, and so is what a responder says it does not know. Missing or useless evidence
    /// is no reason to refuse.
    Prefer,
    /// Every certificate of the path but the anchor has to be known to be good.
    Require,
}

/// What the caller has found about revocation. Nothing in it is believed before its signature was verified; what is
/// useless does no harm.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Revocation lists in DER: complete, partitioned, delta and indirect ones, in any order.
    pub crls: Vec<Vec<u8>>,
    /// OCSP answers.
    pub ocsp: Vec<OcspEvidence>,
    /// What the caller's own register says of certificates that CAs of his own issued. It is believed without a signature.
    pub register: Vec<Registered>,
}

/// What the register of a CA says of one serial number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The CA, by the SHA-256 of its `SubjectPublicKeyInfo` ([`Certificate::key_sha256`](crate::Certificate::key_sha256)).
    pub issuer_key_sha256: [u8; 32],
    /// The serial number ([`Certificate::serial_octets`](crate::Certificate::serial_octets)).
    pub serial: Vec<u8>,
    /// What it says; [`Verdict::Unknown`] if it does not have the serial number, which then was never issued.
    pub verdict: Verdict,
}

/// An OCSP answer, and what it answers.
#[derive(Clone, Debug)]
pub struct OcspEvidence {
    /// The answer in DER.
    pub der: Vec<u8>,
    /// The nonce of the request: an answer without it, or with another, is not used.
    pub nonce: Option<Vec<u8>>,
}

/// What is known of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not revoked, as of the evidence's time.
    Good,
    /// It was revoked.
    Revoked {
        /// Since when.
        at: OffsetDateTime,
        /// Why; `unspecified` if nobody says.
        reason: RevocationReason,
    },
    /// Nobody says, or a responder says that it does not know.
    Unknown,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An OCSP answer.
    Ocsp,
    /// Complete lists.
    Crl,
    /// A delta list on top of a complete one.
    Delta,
    /// The caller's own register.
    Register,
    /// Nobody.
    None,
}

impl Source {
    /// A stable name: `ocsp`, `crl`, `delta`, `register`, `none`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ocsp => "ocsp",
            Self::Crl => "crl",
            Self::Delta => "delta",
            Self::Register => "register",
            Self::None => "none",
        }
    }
}

/// What is known of the revocation of one certificate, by whom, and what evidence was of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRevocation {
    /// The verdict.
    pub verdict: Verdict,
    /// Who gave it; [`Source::None`] goes with [`Verdict::Unknown`] alone.
    pub source: Source,
    /// For people: why evidence that seemed to be about it was not used; at most 8 notes.
    pub notes: Vec<String>,
}

impl CertificateRevocation {
    pub(super) fn unknown(notes: Vec<String>) -> Self {
        Self { verdict: Verdict::Unknown, source: Source::None, notes }
    }

    /// Why it is refused, if it is.
    fn refusal(&self, mode: RevocationMode) -> Option<(Reason, String)> {
        match (self.verdict, mode, self.source) {
            (_, RevocationMode::None, _) | (Verdict::Good, ..) => None,
            (Verdict::Revoked { at, reason }, ..) => {
                let why = reason.as_str();
                Some((
                    Reason::Revoked,
                    format!("was revoked on {} ({why}), says {}", shown(at), self.source.name()),
                ))
            }
            (Verdict::Unknown, RevocationMode::Prefer, Source::None) => None,
            (Verdict::Unknown, _, Source::None) => {
                let notes =
                    if self.notes.is_empty() { "no evidence".to_owned() } else { self.notes.join("; ") };
                Some((Reason::RevocationUnknown, format!("may be revoked or not: {notes}")))
            }
            (Verdict::Unknown, _, Source::Register) => {
                Some((Reason::RevocationUnknown, "is not in the register of its issuer".to_owned()))
            }
            (Verdict::Unknown, ..) => {
                Some((Reason::RevocationUnknown, "is unknown to the responder of its issuer".to_owned()))
            }
        }
    }
}

/// The notes of one certificate.
const MAX_NOTES: usize = 8;

pub(super) fn note(notes: &mut Vec<String>, text: impl Into<String>) {
    let text = text.into();
    if notes.len() < MAX_NOTES && !notes.contains(&text) {
        notes.push(text);
    }
}

/// Lists and answers of one validation, read when they are first asked for.
pub(super) struct Revocation<'p, 'a> {
    pub(super) pool: &'p Pool<'a>,
    pub(super) rules: &'p Rules,
    evidence: &'p Evidence,
    crls: OnceCell<Vec<Result<Crl<'p>, Malformed>>>,
    answers: OnceCell<Vec<Result<Answer<'p>, Malformed>>>,
    /// Which certificate is known to have signed a list, by indexes.
    pub(super) crl_signatures: RefCell<HashMap<(usize, usize), bool>>,
    /// By certificate, issuer and anchor.
    known: RefCell<HashMap<(usize, usize, usize), CertificateRevocation>>,
    /// Whether a certificate may sign lists under an anchor.
    pub(super) authorities: RefCell<HashMap<(usize, usize), bool>>,
    /// Signers of lists whose own status is being looked for.
    pub(super) pending: RefCell<Vec<usize>>,
}

impl<'p, 'a> Revocation<'p, 'a> {
    pub(super) fn new(pool: &'p Pool<'a>, evidence: &'p Evidence, rules: &'p Rules) -> Self {
        Self {
            pool,
            rules,
            evidence,
            crls: OnceCell::new(),
            answers: OnceCell::new(),
            crl_signatures: RefCell::default(),
            known: RefCell::default(),
            authorities: RefCell::default(),
            pending: RefCell::default(),
        }
    }

    pub(super) fn crls(&self) -> &[Result<Crl<'p>, Malformed>] {
        self.crls.get_or_init(|| {
            self.evidence.crls.iter().take(limits::MAX_EVIDENCE).map(|der| Crl::parse(der)).collect()
        })
    }

    /// The answers that could be read, each with the nonce that it must have.
    pub(super) fn answers(&self) -> impl Iterator<Item = (&Result<Answer<'p>, Malformed>, Option<&'p [u8]>)> {
        let read = |evidence: &'p OcspEvidence| Answer::parse(&evidence.der);
        let answers = self
            .answers
            .get_or_init(|| self.evidence.ocsp.iter().take(limits::MAX_EVIDENCE).map(read).collect());
        answers.iter().zip(self.evidence.ocsp.iter().map(|evidence| evidence.nonce.as_deref()))
    }

    /// What is known of each certificate of `path`, the first one first; adds why the path is refused.
    pub(super) fn check(&self, path: &Path, failures: &mut Vec<Failure>) -> Vec<CertificateRevocation> {
        if self.rules.revocation == RevocationMode::None || path.leaf_is_anchor {
            return path.certificates.iter().map(|_| CertificateRevocation::unknown(Vec::new())).collect();
        }
        let Some(anchor) = path.anchor else { return Vec::new() };
        let mut all = Vec::with_capacity(path.certificates.len());
        for (at, &certificate) in path.certificates.iter().enumerate() {
            let issuer =
                path.certificates.get(at + 1).copied().or_else(|| self.pool.anchor_certificate(anchor));
            let Some(issuer) = issuer else { break };
            let known = self.status(certificate, issuer, anchor);
            if let Some((reason, detail)) = known.refusal(self.rules.revocation) {
                failures.push(Failure::new(reason, at, detail));
            }
            all.push(known);
        }
        // What was not looked at must not be taken for what is not there.
        let too_much = self.evidence.crls.len().max(self.evidence.ocsp.len()) > limits::MAX_EVIDENCE;
        if too_much || self.pool.work.is_exhausted() {
            failures.push(Failure::new(Reason::WorkLimit, None, "has more evidence than may be looked at"));
        }
        all
    }

    /// What the caller himself knows of a certificate of a CA of his own.
    fn by_register(&self, certificate: usize, issuer: usize) -> Option<CertificateRevocation> {
        if self.evidence.register.is_empty() {
            return None;
        }
        let (certificate, key) = (self.pool.get(certificate), self.pool.get(issuer).key_sha256());
        let known = |of: &&Registered| {
            of.issuer_key_sha256 == key && of.serial.as_slice() == certificate.serial_octets()
        };
        let known = self.evidence.register.iter().find(known)?;
        let (verdict, source) = (known.verdict, Source::Register);
        Some(CertificateRevocation { verdict, source, notes: Vec::new() })
    }

    /// Answers first; any word that a certificate is revoked stands, whoever says otherwise; and that a responder does not
    /// know it is not undone by a list that does not have it.
    fn status(&self, certificate: usize, issuer: usize, anchor: usize) -> CertificateRevocation {
        let key = (certificate, issuer, anchor);
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone();
        }
        let said = self.by_ocsp(certificate, issuer, anchor);
        let listed = self.by_crl(self.pool.get(certificate), issuer, anchor);
        let registered = self.by_register(certificate, issuer);
        let result = match (said.verdict, listed.verdict) {
            (Verdict::Revoked { .. }, _) => said,
            (_, Verdict::Revoked { .. }) => listed,
            _ if registered.is_some() => registered.unwrap_or(said),
            (Verdict::Good, _) => said,
            (Verdict::Unknown, _) if said.source == Source::Ocsp => said,
            (_, Verdict::Good) => listed,
            (Verdict::Unknown, Verdict::Unknown) => {
                let mut notes = said.notes;
                listed.notes.into_iter().for_each(|text| note(&mut notes, text));
                CertificateRevocation::unknown(notes)
            }
        };
        // What was found while a signer was pending may be less than what there is.
        if self.pending.borrow().is_empty() {
            self.known.borrow_mut().insert(key, result.clone());
        }
        result
    }
}

/// The reason of a code; codes that nobody knows are `unspecified`.
pub(super) fn reason(code: u8) -> RevocationReason {
    RevocationReason::of_code(code).unwrap_or(RevocationReason::Unspecified)
}
