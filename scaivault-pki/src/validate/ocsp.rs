//! Revocation by OCSP answers (RFC 6960, 3.2 and 4.2.2).

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use const_oid::db::rfc5280::ID_KP_OCSP_SIGNING;
use time::Duration;

use super::{
    CertificateRevocation, Source, Verdict, check_validity,
    revocation::{Revocation, note, reason},
};
use crate::{
    Certificate,
    read::{
        extensions::{DIGITAL_SIGNATURE, NON_REPUDIATION},
        ocsp::{Answer, CertHash, Responder, Single, Status},
    },
    time::shown,
};

/// How old an answer may be that does not say when the next one comes.
const MAX_AGE: Duration = Duration::DAY;

impl Revocation<'_, '_> {
    /// What answers say of a certificate of `issuer`.
    pub(super) fn by_ocsp(&self, certificate: usize, issuer: usize, anchor: usize) -> CertificateRevocation {
        let mut notes = Vec::new();
        let mut verdict: Option<Verdict> = None;
        let certificate = self.pool.get(certificate);
        for (answer, nonce) in self.answers() {
            let answer = match answer {
                Ok(answer) => answer,
                Err(why) => {
                    note(&mut notes, format!("an OCSP answer cannot be used ({})", why.0));
                    continue;
                }
            };
            let about: Vec<_> = answer
                .statuses
                .iter()
                .filter(|single| is_about(single, certificate, self.pool.get(issuer)))
                .collect();
            if about.is_empty() {
                continue;
            }
            if let Err(why) = self.trust(answer, nonce, issuer, anchor) {
                note(&mut notes, format!("an OCSP answer {why}"));
                continue;
            }
            for single in about {
                match self.is_current(single) {
                    Ok(()) => verdict = Some(worse(verdict, single.status)),
                    Err(why) => note(&mut notes, format!("an OCSP answer {why}")),
                }
            }
        }
        match verdict {
            Some(verdict) => CertificateRevocation { verdict, source: Source::Ocsp, notes },
            None => CertificateRevocation::unknown(notes),
        }
    }

    /// Whether an answer comes from who may give it, and to our question.
    fn trust(
        &self,
        answer: &Answer<'_>,
        nonce: Option<&[u8]>,
        issuer: usize,
        anchor: usize,
    ) -> Result<(), String> {
        if let Some(nonce) = nonce {
            let same = answer
                .nonce
                .as_deref()
                .is_some_and(|own| aws_lc_rs::constant_time::verify_slices_are_equal(own, nonce).is_ok());
            if !same {
                return Err("does not have the nonce of the request".to_owned());
            }
        }
        if answer.produced_at > self.rules.now {
            return Err("is of the future".to_owned());
        }
        let ca = self.pool.get(issuer);
        if is_named(&answer.responder, ca) && self.is_answer_signed(answer, ca)? {
            return Ok(());
        }
        let mut why = "is signed neither by the issuer nor by a responder of it".to_owned();
        for responder in
            answer.certificates.iter().filter(|certificate| is_named(&answer.responder, certificate))
        {
            match self.is_delegate(responder, ca).and_then(|()| self.is_answer_signed(answer, responder)) {
                Ok(true) if self.is_revoked_responder(responder, issuer, anchor) => {
                    why = "is signed by a responder that was revoked".to_owned();
                }
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(reason) => why = reason,
            }
        }
        Err(why)
    }

    fn is_answer_signed(&self, answer: &Answer<'_>, by: &Certificate) -> Result<bool, String> {
        let Ok(key) = by.key() else { return Err("is signed by a key that is not accepted".to_owned()) };
        if !self.pool.work.signature() {
            return Err("needs more signatures than may be verified".to_owned());
        }
        Ok(answer.signed.verify(key).is_ok())
    }

    /// A responder's certificate is issued by the CA itself, and for this purpose by name: `anyExtendedKeyUsage` is not
    /// enough (RFC 6960, 4.2.2.2).
    fn is_delegate(&self, responder: &Certificate, ca: &Certificate) -> Result<(), String> {
        let parts = responder.parts();
        let extensions = &parts.extensions;
        let bad = |why: &str| Err(format!("is signed by a responder whose certificate {why}"));
        if parts.issuer != ca.parts().subject {
            return bad("is not issued by the CA");
        }
        if !extensions.purposes.as_ref().is_some_and(|all| all.iter().any(|oid| oid.is(ID_KP_OCSP_SIGNING))) {
            return bad("is not for signing answers");
        }
        if !responder.key_usage_allows(DIGITAL_SIGNATURE | NON_REPUDIATION) {
            return bad("is not for signatures");
        }
        if !parts.faults.is_empty() || !extensions.unknown_critical.is_empty() {
            return bad("breaks the rules of certificates");
        }
        if let Err((_, why)) = check_validity(responder, self.rules.now) {
            return bad(&why);
        }
        let Ok(key) = ca.key() else { return bad("is signed by a key that is not accepted") };
        if !self.pool.work.signature() || parts.signed.verify(key).is_err() {
            return bad("is not signed by the CA");
        }
        Ok(())
    }

    /// Lists may say that a responder was revoked, unless its certificate says not to ask (RFC 6960, 4.2.2.2.1).
    fn is_revoked_responder(&self, responder: &Certificate, issuer: usize, anchor: usize) -> bool {
        !responder.parts().extensions.no_check
            && matches!(self.by_crl(responder, issuer, anchor).verdict, Verdict::Revoked { .. })
    }

    fn is_current(&self, single: &Single) -> Result<(), String> {
        let now = self.rules.now;
        match single.next_update {
            _ if now < single.this_update => Err(format!("is of the future ({})", shown(single.this_update))),
            Some(next) if now > next => Err(format!("is stale since {}", shown(next))),
            Some(_) => Ok(()),
            None if now - single.this_update > MAX_AGE => Err("is more than a day old".to_owned()),
            None => Ok(()),
        }
    }
}

/// Revoked before unknown, unknown before good.
fn worse(known: Option<Verdict>, status: Status) -> Verdict {
    let new = match status {
        Status::Good => Verdict::Good,
        Status::Unknown => Verdict::Unknown,
        Status::Revoked { at, reason: code } => Verdict::Revoked { at, reason: reason(code) },
    };
    match (known, new) {
        (Some(revoked @ Verdict::Revoked { .. }), _) => revoked,
        (_, Verdict::Revoked { .. }) => new,
        (Some(Verdict::Unknown), _) => Verdict::Unknown,
        _ => new,
    }
}

fn is_named(responder: &Responder, certificate: &Certificate) -> bool {
    match responder {
        Responder::Name(name) => *name == certificate.parts().subject,
        Responder::KeyHash(hash) => certificate
            .key()
            .is_ok_and(|key| digest(&SHA1_FOR_LEGACY_USE_ONLY, key.bits()).as_ref() == hash.as_slice()),
    }
}

fn is_about(single: &Single, certificate: &Certificate, issuer: &Certificate) -> bool {
    let algorithm: &Algorithm = match single.hash {
        Some(CertHash::Sha1) => &SHA1_FOR_LEGACY_USE_ONLY,
        Some(CertHash::Sha256) => &SHA256,
        Some(CertHash::Sha384) => &SHA384,
        Some(CertHash::Sha512) => &SHA512,
        None => return false,
    };
    if single.serial != certificate.parts().serial {
        return false;
    }
    let is = |hash: &[u8], octets: &[u8]| digest(algorithm, octets).as_ref() == hash;
    // The name may be written in two ways and be the same.
    let names = [certificate.parts().issuer.raw(), issuer.parts().subject.raw()];
    names.iter().any(|name| is(&single.name_hash, name))
        && issuer.key().is_ok_and(|key| is(&single.key_hash, key.bits()))
}
