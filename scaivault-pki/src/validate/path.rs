//! One path from its anchor down (RFC 5280, 6.1). Signatures were verified when the path was built.

use const_oid::{ObjectIdentifier, db::rfc5280 as id};
use time::OffsetDateTime;

use super::{Failure, Reason, Rules, check_validity, constraints, policy};
use crate::{
    Certificate, Oid,
    chain::{Path, Pool},
    read::{
        extensions::{
            DIGITAL_SIGNATURE, ENCIPHERMENT, KEY_AGREEMENT, KEY_CERT_SIGN, KEY_ENCIPHERMENT, NON_REPUDIATION,
        },
        general::NameConstraints,
        weak::Weakness,
    },
};

/// What a certificate is on a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Leaf,
    /// Between, or somewhere it has to be plain that it is one.
    Ca,
    /// An anchor that is enforced.
    Anchor,
}

/// The bits of a key usage that go with a purpose, one of which has to be there (RFC 5280, 4.2.1.12).
const USAGES: [(ObjectIdentifier, u16); 6] = [
    (id::ID_KP_SERVER_AUTH, DIGITAL_SIGNATURE | KEY_ENCIPHERMENT | KEY_AGREEMENT),
    (id::ID_KP_CLIENT_AUTH, DIGITAL_SIGNATURE | KEY_AGREEMENT),
    (id::ID_KP_CODE_SIGNING, DIGITAL_SIGNATURE),
    (id::ID_KP_EMAIL_PROTECTION, DIGITAL_SIGNATURE | NON_REPUDIATION | KEY_ENCIPHERMENT | KEY_AGREEMENT),
    (id::ID_KP_TIME_STAMPING, DIGITAL_SIGNATURE | NON_REPUDIATION),
    (id::ID_KP_OCSP_SIGNING, DIGITAL_SIGNATURE | NON_REPUDIATION),
];

/// Everything that is wrong with `path` but revocation; empty if nothing is.
pub(super) fn check(pool: &Pool<'_>, path: &Path, rules: &Rules) -> Vec<Failure> {
    let mut failures = Vec::new();
    let certificates: Vec<&Certificate> = path.certificates.iter().map(|&at| pool.get(at)).collect();
    let anchor = path.anchor.and_then(|at| pool.anchor(at));
    let enforced = anchor.filter(|anchor| anchor.enforce).map(|anchor| &anchor.certificate);
    let mut state = State { constraints: Vec::new(), path_length: None };
    if let Some(anchor) = enforced {
        // A leaf that is its own anchor is judged once, with the rest of what is asked of it below.
        let at = if path.leaf_is_anchor { 0 } else { certificates.len() };
        failures.extend(faults(anchor, Place::Anchor, rules.now, &rules.purposes, at));
        state.enter(anchor);
    }
    for (at, certificate) in certificates.iter().enumerate().rev() {
        let place = if at == 0 { Place::Leaf } else { Place::Ca };
        failures.extend(faults(certificate, place, rules.now, &rules.purposes, at));
        if at == 0 || !certificate.is_self_issued() {
            state.check_names(pool, certificate, at, &mut failures);
        }
        if at > 0 {
            state.count(certificate, at, &mut failures);
            state.enter(certificate);
        }
    }
    let intermediates =
        certificates.iter().skip(1).filter(|certificate| !certificate.is_self_issued()).count();
    if let Some(most) = rules.max_intermediates.filter(|most| intermediates > *most) {
        let detail = format!("has {intermediates} intermediates, of which {most} are allowed");
        failures.push(Failure::new(Reason::TooManyIntermediates, None, detail));
    }
    if let Err((at, why)) = policy::check(&certificates, enforced, &rules.policies) {
        failures.push(Failure::new(Reason::Policy, at, why));
    }
    if let Some(leaf) = certificates.first() {
        for name in rules.names.iter().filter(|name| !name.is_in(leaf)) {
            let detail = format!("is not for {}", name.describe());
            failures.push(Failure::new(Reason::NameMismatch, 0, detail));
        }
    }
    failures.sort_by_key(|failure| failure.certificate);
    failures.dedup();
    failures
}

struct State<'a> {
    constraints: Vec<&'a NameConstraints>,
    path_length: Option<u32>,
}

impl<'a> State<'a> {
    fn check_names(
        &self,
        pool: &Pool<'_>,
        certificate: &Certificate,
        at: usize,
        failures: &mut Vec<Failure>,
    ) {
        for constraints in &self.constraints {
            if let Err((reason, detail)) = constraints::check(constraints, certificate, at == 0, &pool.work) {
                failures.push(Failure::new(reason, at, detail));
                return;
            }
        }
    }

    /// Counts a CA that is not self-issued (RFC 5280, 6.1.4 (l)).
    fn count(&mut self, certificate: &Certificate, at: usize, failures: &mut Vec<Failure>) {
        if certificate.is_self_issued() {
            return;
        }
        match self.path_length {
            Some(0) => {
                let detail = "is a CA below one that allows no more CAs below it";
                failures.push(Failure::new(Reason::PathLength, at, detail));
            }
            Some(left) => self.path_length = Some(left - 1),
            None => {}
        }
    }

    /// Takes what a CA demands of those below it.
    fn enter(&mut self, certificate: &'a Certificate) {
        let extensions = &certificate.parts().extensions;
        self.constraints.extend(&extensions.name_constraints);
        if let Some(most) = extensions.basic.and_then(|basic| basic.max_path_length) {
            self.path_length = Some(self.path_length.map_or(most, |left| left.min(most)));
        }
    }
}

/// What is wrong with a certificate at its place, whatever path it is on.
pub(crate) fn faults(
    certificate: &Certificate,
    place: Place,
    now: OffsetDateTime,
    purposes: &[Oid],
    at: usize,
) -> Vec<Failure> {
    let parts = certificate.parts();
    let extensions = &parts.extensions;
    let mut failures = Vec::new();
    let mut add = |reason, detail: String| failures.push(Failure::new(reason, at, detail));
    for fault in &parts.faults {
        add(Reason::Malformed, fault.clone());
    }
    if let Err((reason, detail)) = check_validity(certificate, now) {
        add(reason, detail);
    }
    for oid in &extensions.unknown_critical {
        add(Reason::UnknownCriticalExtension, format!("has the critical extension {oid}, which is unknown"));
    }
    match certificate.key() {
        Ok(key)
            if key.only_signs() && extensions.key_usage.is_some_and(|usage| usage & ENCIPHERMENT != 0) =>
        {
            add(Reason::Malformed, "has a key that signs, and a key usage for encryption".to_owned());
        }
        Ok(_) => {}
        Err(Weakness::Malformed(why)) => add(Reason::Malformed, format!("has a key that {why}")),
        Err(Weakness::Weak(why)) => add(Reason::WeakKey, format!("has a key that {why}")),
        Err(Weakness::Unsupported(why)) => add(Reason::UnsupportedKey, format!("has a key that {why}")),
    }
    if let (Some(allowed), Some(purpose)) =
        (&extensions.purposes, refused_purpose(certificate, place, purposes))
    {
        add(Reason::Purpose, format!("is for {} purpose(s), none of them {purpose}", allowed.len()));
    }
    match place {
        Place::Leaf => {
            if parts.subject.is_empty() && !(extensions.names.is_some() && extensions.names_critical) {
                add(Reason::Malformed, "has neither a subject nor critical alternative names".to_owned());
            }
            if extensions.name_constraints.is_some() && !certificate.is_ca() {
                add(Reason::Malformed, "constrains names and is no CA".to_owned());
            }
            if let Some(purpose) = unfit_purpose(certificate, purposes) {
                add(Reason::KeyUsage, format!("has a key usage that does not go with the purpose {purpose}"));
            }
            let stamps = purposes.iter().any(|purpose| purpose.is(id::ID_KP_TIME_STAMPING));
            let alone = extensions.purposes.as_ref().is_some_and(|all| all.len() == 1);
            if stamps && !(alone && extensions.purposes_critical) {
                add(Reason::Purpose, "is not for time stamps alone, by a critical extension".to_owned());
            }
        }
        Place::Ca | Place::Anchor => {
            if parts.subject.is_empty() {
                add(Reason::Malformed, "is a CA without a name".to_owned());
            }
            // Version 1 has no way to say so: who trusts it has to know (RFC 5280, 6.1.4 (k)).
            let is_known = place == Place::Anchor && parts.version == 0;
            if !is_known && (parts.version != 2 || !certificate.is_ca()) {
                add(Reason::NotCa, "is no CA by its basic constraints".to_owned());
            }
            if !certificate.key_usage_allows(KEY_CERT_SIGN) {
                add(Reason::KeyUsage, "may not sign certificates by its key usage".to_owned());
            }
        }
    }
    failures
}

/// A purpose that is asked for and not allowed. CAs may allow any; a leaf has to name what it is for, as TLS stacks and
/// the rules for public CAs have it (RFC 5280, 4.2.1.12 leaves that to the application).
fn refused_purpose<'a>(certificate: &Certificate, place: Place, asked: &'a [Oid]) -> Option<&'a Oid> {
    let allowed = certificate.parts().extensions.purposes.as_ref()?;
    let any = place != Place::Leaf && allowed.iter().any(|oid| oid.is(id::ANY_EXTENDED_KEY_USAGE));
    asked.iter().find(|oid| !any && !allowed.contains(oid))
}

/// A purpose that is asked for and that the key usage of an end entity rules out: both have to allow it. The key usage of
/// a CA is about what it issues.
fn unfit_purpose<'a>(certificate: &Certificate, asked: &'a [Oid]) -> Option<&'a Oid> {
    let usage = certificate.parts().extensions.key_usage.filter(|_| !certificate.is_ca())?;
    let fits = |bits: u16| usage & bits != 0;
    asked.iter().find(|purpose| USAGES.iter().any(|(known, bits)| purpose.is(*known) && !fits(*bits)))
}
