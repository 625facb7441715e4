//! Revocation by lists (RFC 5280, 6.3.3).

use super::{
    CertificateRevocation, Source, Verdict, path,
    revocation::{Revocation, note, reason},
};
use crate::{
    Certificate,
    chain::Search,
    read::{
        crl::{Crl, Entry, REMOVED, less},
        dn::Dn,
        extensions::{CRL_SIGN, DistributionPoint, PointName},
        general::GeneralName,
    },
    time::shown,
    validate::{RevocationMode, Rules},
};

/// Every reason of `ReasonFlags`; bit 0 is not used.
const ALL_REASONS: u16 = 0b1_1111_1110;
/// Signers of lists that are looked for inside of each other.
const MAX_NESTING: usize = 4;

/// A list that may speak of the certificate.
struct Usable<'c, 'p> {
    crl: &'c Crl<'p>,
    signer: usize,
    reasons: u16,
}

impl Revocation<'_, '_> {
    /// What lists say of a certificate of `issuer`.
    pub(super) fn by_crl(
        &self,
        certificate: &Certificate,
        issuer: usize,
        anchor: usize,
    ) -> CertificateRevocation {
        let mut notes = Vec::new();
        let points = points(certificate);
        let mut usable: Vec<Usable<'_, '_>> = Vec::new();
        for (at, crl) in self.crls().iter().enumerate() {
            let crl = match crl {
                Ok(crl) if crl.base.is_none() => crl,
                Ok(_) => continue,
                Err(why) => {
                    note(&mut notes, format!("a list cannot be read ({})", why.0));
                    continue;
                }
            };
            let reasons = points.iter().fold(0, |all, point| all | scope(crl, certificate, point));
            if reasons == 0 {
                if crl.issuer == certificate.parts().issuer {
                    note(&mut notes, "a list of the issuer is about other certificates");
                }
                continue;
            }
            match self.signer(at, crl, certificate, issuer, anchor) {
                Ok(signer) => usable.push(Usable { crl, signer, reasons }),
                Err(why) => note(&mut notes, format!("a list {why}")),
            }
        }
        self.judge(certificate, usable, notes)
    }

    fn judge(
        &self,
        certificate: &Certificate,
        lists: Vec<Usable<'_, '_>>,
        mut notes: Vec<String>,
    ) -> CertificateRevocation {
        let mut covered = 0;
        let mut source = Source::Crl;
        let mut verdict = None;
        for list in &lists {
            if lists.iter().any(|other| supersedes(other.crl, list.crl) && self.is_fresh(other.crl).is_ok()) {
                continue;
            }
            let (entry, by) = match self.look_up(certificate, list) {
                Ok(found) => found,
                Err(why) => {
                    note(&mut notes, format!("a list {why}"));
                    continue;
                }
            };
            match entry {
                Some(Entry { at, reason: code }) => {
                    verdict = verdict.or(Some((Verdict::Revoked { at, reason: reason(code) }, by)));
                }
                None => {
                    covered |= list.reasons;
                    if by == Source::Delta {
                        source = by;
                    }
                }
            }
        }
        match verdict {
            Some((verdict, source)) => CertificateRevocation { verdict, source, notes },
            None if covered & ALL_REASONS == ALL_REASONS => {
                CertificateRevocation { verdict: Verdict::Good, source, notes }
            }
            None => {
                if covered != 0 {
                    note(&mut notes, "the lists are not about every reason");
                }
                CertificateRevocation::unknown(notes)
            }
        }
    }

    /// The entry of a list and of the delta on top of it (RFC 5280, 5.2.4), which may be fresh where the list is not.
    fn look_up(
        &self,
        certificate: &Certificate,
        list: &Usable<'_, '_>,
    ) -> Result<(Option<Entry>, Source), String> {
        let parts = certificate.parts();
        let find = |crl: &Crl<'_>| {
            if !self.pool.work.scan(crl.octets()) {
                return Err("is one more than may be looked through".to_owned());
            }
            crl.entry(&parts.issuer, &parts.serial).map_err(|why| format!("cannot be used ({})", why.0))
        };
        if let Some(why) = list.crl.faults.first() {
            return Err(why.clone());
        }
        let delta = self.delta(list);
        if delta.is_none() {
            self.is_fresh(list.crl)?;
        }
        let entry = find(list.crl)?;
        let Some(delta) = delta else { return Ok((entry, Source::Crl)) };
        match find(delta)? {
            Some(Entry { reason: REMOVED, .. }) => Ok((None, Source::Delta)),
            Some(changed) => Ok((Some(changed), Source::Delta)),
            None => Ok((entry, if entry.is_some() { Source::Crl } else { Source::Delta })),
        }
    }

    /// The newest delta that goes with a list: of the same issuer, scope and key, on a base that the list includes, and
    /// newer than it.
    fn delta(&self, list: &Usable<'_, '_>) -> Option<&Crl<'_>> {
        let number = list.crl.number.as_ref()?;
        let fits = |delta: &Crl<'_>| {
            let (Some(base), Some(own)) = (&delta.base, &delta.number) else { return false };
            delta.issuer == list.crl.issuer
                && delta.scope.raw == list.crl.scope.raw
                && delta.authority_key_id == list.crl.authority_key_id
                && !less(number, base)
                && less(number, own)
                && delta.faults.is_empty()
                && self.is_fresh(delta).is_ok()
        };
        let deltas = self.crls().iter().enumerate().filter_map(|(at, crl)| Some((at, crl.as_ref().ok()?)));
        let fitting = deltas.filter(|(at, delta)| fits(delta) && self.is_signed(*at, delta, list.signer));
        fitting.map(|(_, delta)| delta).reduce(|newest, delta| {
            let newer = newest.number.as_ref().zip(delta.number.as_ref()).is_some_and(|(a, b)| less(a, b));
            if newer { delta } else { newest }
        })
    }

    fn is_fresh(&self, crl: &Crl<'_>) -> Result<(), String> {
        let now = self.rules.now;
        match crl.next_update {
            _ if now < crl.this_update => Err(format!("is of the future ({})", shown(crl.this_update))),
            Some(next) if now > next => Err(format!("is stale since {}", shown(next))),
            Some(_) => Ok(()),
            None => Err("does not say when the next one comes".to_owned()),
        }
    }

    fn is_signed(&self, at: usize, crl: &Crl<'_>, signer: usize) -> bool {
        let cached = self.crl_signatures.borrow().get(&(at, signer)).copied();
        cached.unwrap_or_else(|| {
            let Ok(key) = self.pool.get(signer).key() else { return false };
            let verified = self.pool.work.signature() && crl.signed.verify(key).is_ok();
            self.crl_signatures.borrow_mut().insert((at, signer), verified);
            verified
        })
    }

    /// The certificate that signed a list, if it may: the issuer's own, or another of that name under the same anchor.
    fn signer(
        &self,
        at: usize,
        crl: &Crl<'_>,
        about: &Certificate,
        issuer: usize,
        anchor: usize,
    ) -> Result<usize, String> {
        let pool = self.pool;
        let top = pool.anchor_certificate(anchor);
        let mut why = format!("is signed by nobody known ({})", crate::error::quote(&crl.issuer.to_text()));
        let mut candidates: Vec<usize> = pool.named(&crl.issuer).to_vec();
        candidates.sort_by_key(|&candidate| (candidate != issuer, Some(candidate) != top));
        for candidate in candidates {
            if !self.is_signed(at, crl, candidate) {
                continue;
            }
            let enforced = Some(candidate) != top || pool.anchor(anchor).is_some_and(|anchor| anchor.enforce);
            if enforced && !pool.get(candidate).key_usage_allows(CRL_SIGN) {
                why = "is signed by a key that may not sign lists".to_owned();
                continue;
            }
            // The issuer is part of the path, whose certificates are judged one by one.
            // A signer vouches for itself where the CA has named its lists for that, and not otherwise.
            let own = pool.get(candidate) == about && names_issuer(about, &crl.issuer);
            if candidate == issuer || Some(candidate) == top || own || self.is_authority(candidate, anchor) {
                return Ok(candidate);
            }
            why = "is signed by a certificate that is not valid under the same anchor".to_owned();
        }
        Err(why)
    }

    /// Whether a signer of lists has a path of its own to `anchor`, and is not revoked.
    fn is_authority(&self, signer: usize, anchor: usize) -> bool {
        if let Some(known) = self.authorities.borrow().get(&(signer, anchor)) {
            return *known;
        }
        if self.pending.borrow().contains(&signer) || self.pending.borrow().len() >= MAX_NESTING {
            return false;
        }
        self.pending.borrow_mut().push(signer);
        let rules = Rules { revocation: self.rules.revocation, ..Rules::at(self.rules.now) };
        let mut search = Search::new(self.pool, rules.now, &rules.purposes);
        let found = search.run(signer, Some(anchor), &mut |path| {
            let mut failures = path::check(self.pool, path, &rules);
            if failures.is_empty() && rules.revocation != RevocationMode::None {
                self.check(path, &mut failures);
            }
            failures
        });
        self.pending.borrow_mut().pop();
        if self.pending.borrow().is_empty() {
            self.authorities.borrow_mut().insert((signer, anchor), found.is_some());
        }
        found.is_some()
    }
}

/// Whether `newer` takes the place of `older`: the same issuer and scope, a higher number, and no earlier date. Lists whose
/// numbers go backwards both count.
fn supersedes(newer: &Crl<'_>, older: &Crl<'_>) -> bool {
    let numbers = newer.number.as_ref().zip(older.number.as_ref());
    newer.issuer == older.issuer
        && newer.scope.raw == older.scope.raw
        && newer.authority_key_id == older.authority_key_id
        && newer.faults.is_empty()
        && newer.this_update >= older.this_update
        && numbers.is_some_and(|(newer, older)| less(older, newer))
}

/// The points that a certificate names, and the one that stands for any list of its issuer (RFC 5280, 6.3.3, last part).
fn points(certificate: &Certificate) -> Vec<DistributionPoint> {
    let parts = certificate.parts();
    let own = PointName::Full(vec![GeneralName::Directory(parts.issuer.clone())]);
    let mut points = parts.extensions.distribution_points.clone();
    points.push(DistributionPoint { name: Some(own), ..DistributionPoint::default() });
    points
}

/// Whether `certificate` has a distribution point whose lists `issuer` signs.
fn names_issuer(certificate: &Certificate, issuer: &Dn) -> bool {
    let points = &certificate.parts().extensions.distribution_points;
    points.iter().any(|point| directories(&point.crl_issuer).any(|name| name == issuer))
}

/// The reasons that a list covers for a certificate by one of its points; 0 if the list is not about it.
fn scope(crl: &Crl<'_>, certificate: &Certificate, point: &DistributionPoint) -> u16 {
    let issuer = &certificate.parts().issuer;
    let scope = &crl.scope;
    let right_issuer = if point.crl_issuer.is_empty() {
        crl.issuer == *issuer
    } else {
        scope.indirect && directories(&point.crl_issuer).any(|name| *name == crl.issuer)
    };
    let other_kind = if certificate.is_ca() { scope.only_users } else { scope.only_cas };
    if !right_issuer || other_kind || scope.only_attributes {
        return 0;
    }
    if let Some(name) = &scope.name {
        let base = directories(&point.crl_issuer).next().unwrap_or(issuer);
        let wanted = match &point.name {
            Some(name) => expand(name, base),
            None => point.crl_issuer.clone(),
        };
        let published = expand(name, &crl.issuer);
        if !wanted.iter().any(|name| published.contains(name)) {
            return 0;
        }
    }
    scope.reasons.unwrap_or(ALL_REASONS) & point.reasons.unwrap_or(ALL_REASONS)
}

fn directories(names: &[GeneralName]) -> impl Iterator<Item = &Dn> {
    names.iter().filter_map(|name| match name {
        GeneralName::Directory(name) => Some(name),
        _ => None,
    })
}

fn expand(name: &PointName, base: &Dn) -> Vec<GeneralName> {
    match name {
        PointName::Full(names) => names.clone(),
        PointName::Relative(rdn) => vec![GeneralName::Directory(base.with(rdn.clone()))],
    }
}
