//! Path building (RFC 4158): from a certificate over others to an anchor, by names first, then by signatures.
//!
//! A bag of certificates can be made so that there are more paths in it than anybody can walk. So each signature is
//! verified once, each step is counted, and what leads to no anchor is not entered at all.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
};

use time::OffsetDateTime;

use crate::{
    Certificate, Oid, TrustAnchor,
    read::{certificate::Parsed, dn::Dn, signature::SignatureFault},
    validate::{Failure, Place, Reason, faults, limits},
};

/// The work that is left; shared by everything that one validation does.
#[derive(Debug)]
pub(crate) struct Work {
    signatures: Cell<u32>,
    steps: Cell<u32>,
    comparisons: Cell<u32>,
    octets: Cell<usize>,
}

impl Work {
    fn new() -> Self {
        Self {
            signatures: Cell::new(limits::MAX_SIGNATURES),
            steps: Cell::new(limits::MAX_STEPS),
            comparisons: Cell::new(limits::MAX_COMPARISONS),
            octets: Cell::new(limits::MAX_LIST_OCTETS),
        }
    }

    fn spend(left: &Cell<u32>) -> bool {
        let before = left.get();
        left.set(before.saturating_sub(1));
        before > 0
    }

    /// Whether one more signature may be verified.
    pub(crate) fn signature(&self) -> bool {
        Self::spend(&self.signatures)
    }

    fn step(&self) -> bool {
        Self::spend(&self.steps)
    }

    /// Counts a comparison of a name with a constraint.
    pub(crate) fn compare(&self) -> Result<(), (Reason, String)> {
        if Self::spend(&self.comparisons) {
            return Ok(());
        }
        Err((Reason::WorkLimit, "has more names than may be compared with constraints".to_owned()))
    }

    /// Whether so many octets of lists may be looked through.
    pub(crate) fn scan(&self, octets: usize) -> bool {
        let before = self.octets.get();
        self.octets.set(before.saturating_sub(octets));
        before > octets
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.signatures.get() == 0
            || self.steps.get() == 0
            || self.comparisons.get() == 0
            || self.octets.get() == 0
    }
}

/// The certificates of one validation, each once, by index; the leaf is the first.
pub(crate) struct Pool<'a> {
    certificates: Vec<&'a Certificate>,
    by_subject: HashMap<&'a Dn, Vec<usize>>,
    anchors: &'a [TrustAnchor],
    /// The index of each anchor's certificate.
    anchor_at: Vec<usize>,
    verified: RefCell<HashMap<(usize, usize), Result<(), SignatureFault>>>,
    pub(crate) work: Work,
}

/// A path: indexes into the pool, the certificate in question first, without the anchor.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) certificates: Vec<usize>,
    /// Its place in the list of anchors; `None` if the path does not get there.
    pub(crate) anchor: Option<usize>,
    /// The certificate in question is the anchor itself.
    pub(crate) leaf_is_anchor: bool,
}

impl<'a> Pool<'a> {
    pub(crate) fn new(leaf: &'a Certificate, bag: &'a [Certificate], anchors: &'a [TrustAnchor]) -> Self {
        let mut pool = Self {
            certificates: Vec::new(),
            by_subject: HashMap::new(),
            anchors,
            anchor_at: Vec::new(),
            verified: RefCell::new(HashMap::new()),
            work: Work::new(),
        };
        let mut known = HashMap::new();
        pool.add(leaf, &mut known);
        for certificate in bag.iter().take(limits::MAX_CERTIFICATES) {
            pool.add(certificate, &mut known);
        }
        for anchor in anchors {
            let at = pool.add(&anchor.certificate, &mut known);
            pool.anchor_at.push(at);
        }
        pool
    }

    fn add(&mut self, certificate: &'a Certificate, known: &mut HashMap<&'a [u8], usize>) -> usize {
        let next = self.certificates.len();
        let at = *known.entry(certificate.der()).or_insert(next);
        if at == next {
            self.certificates.push(certificate);
            self.by_subject.entry(&certificate.parts().subject).or_default().push(at);
        }
        at
    }

    pub(crate) fn leaf(&self) -> usize {
        0
    }

    pub(crate) fn get(&self, at: usize) -> &'a Certificate {
        // Indexes come from this pool alone.
        self.certificates[at]
    }

    pub(crate) fn anchor(&self, at: usize) -> Option<&'a TrustAnchor> {
        self.anchors.get(at)
    }

    /// The index of the certificate of an anchor.
    pub(crate) fn anchor_certificate(&self, anchor: usize) -> Option<usize> {
        self.anchor_at.get(anchor).copied()
    }

    pub(crate) fn named(&self, subject: &Dn) -> &[usize] {
        self.by_subject.get(subject).map_or(&[], Vec::as_slice)
    }

    /// The certificates of a path, its anchor last.
    pub(crate) fn chain(&self, path: &Path) -> Vec<Certificate> {
        let mut chain: Vec<Certificate> = path.certificates.iter().map(|&at| self.get(at).clone()).collect();
        if !path.leaf_is_anchor {
            chain.extend(path.anchor.and_then(|at| self.anchor(at)).map(|anchor| anchor.certificate.clone()));
        }
        chain
    }

    /// Whether `issuer` signed `child`; verified once.
    fn verify(&self, child: usize, issuer: usize) -> Result<(), (Reason, String)> {
        let cached = self.verified.borrow().get(&(child, issuer)).cloned();
        let verdict = match cached {
            Some(verdict) => verdict,
            None => {
                let Ok(key) = self.get(issuer).key() else {
                    return Err((
                        Reason::UnsupportedKey,
                        "is signed by a key that is not accepted".to_owned(),
                    ));
                };
                if !self.work.signature() {
                    return Err((Reason::WorkLimit, "needs more signatures than may be verified".to_owned()));
                }
                let verdict = self.get(child).parts().signed.verify(key);
                self.verified.borrow_mut().insert((child, issuer), verdict.clone());
                verdict
            }
        };
        verdict.map_err(describe)
    }
}

pub(crate) fn describe(fault: SignatureFault) -> (Reason, String) {
    match fault {
        SignatureFault::Bad => (Reason::BadSignature, "is not signed by the issuer's key".to_owned()),
        SignatureFault::Weak(name) => {
            (Reason::WeakSignature, format!("is signed by {name}, which can be forged"))
        }
        SignatureFault::Unsupported(why) => (Reason::UnsupportedSignature, format!("has a signature: {why}")),
    }
}

/// A search for one path, depth first.
pub(crate) struct Search<'p, 'a> {
    pool: &'p Pool<'a>,
    now: OffsetDateTime,
    purposes: &'p [Oid],
    /// Steps to the nearest anchor by names alone; absent if there is no way.
    distance: HashMap<usize, usize>,
    only_anchor: Option<usize>,
    pub(crate) rejected: Vec<(Vec<Certificate>, Vec<Failure>)>,
    best: Option<Best>,
}

/// The path that came furthest.
pub(crate) struct Best {
    pub(crate) chain: Vec<Certificate>,
    pub(crate) anchor: Option<usize>,
    pub(crate) failures: Vec<Failure>,
}

type Visit<'v> = dyn FnMut(&Path) -> Vec<Failure> + 'v;

impl<'p, 'a> Search<'p, 'a> {
    pub(crate) fn new(pool: &'p Pool<'a>, now: OffsetDateTime, purposes: &'p [Oid]) -> Self {
        let distance = HashMap::new();
        Self { pool, now, purposes, distance, only_anchor: None, rejected: Vec::new(), best: None }
    }

    /// The first path from `start` that `visit` finds nothing wrong with; to `only_anchor`, if there is one.
    pub(crate) fn run(
        &mut self,
        start: usize,
        only_anchor: Option<usize>,
        visit: &mut Visit<'_>,
    ) -> Option<Path> {
        self.only_anchor = only_anchor;
        self.measure();
        let own = self.anchors().find(|(_, at)| *at == start);
        if let Some((anchor, _)) = own {
            let path = Path { certificates: vec![start], anchor: Some(anchor), leaf_is_anchor: true };
            if self.offer(&path, visit) {
                return Some(path);
            }
        }
        self.extend(&mut vec![start], visit)
    }

    /// What to say if nothing was found.
    pub(crate) fn best(&mut self, pool: &Pool<'_>) -> Best {
        let exhausted =
            pool.work.is_exhausted().then(|| Failure::new(Reason::WorkLimit, None, "the search was cut off"));
        let mut best = self.best.take().unwrap_or_else(|| {
            let leaf = pool.get(pool.leaf());
            let mut failures = faults(leaf, Place::Leaf, self.now, self.purposes, 0);
            failures.push(Failure::new(Reason::UnknownIssuer, 0, "has an issuer that leads to no anchor"));
            Best { chain: vec![leaf.clone()], anchor: None, failures }
        });
        best.failures.extend(exhausted);
        best.failures.dedup();
        best
    }

    fn anchors(&self) -> impl Iterator<Item = (usize, usize)> + use<'p, 'a> {
        let only = self.only_anchor;
        let all = self.pool.anchor_at.iter().copied().enumerate();
        all.filter(move |(anchor, _)| only.is_none_or(|only| only == *anchor))
    }

    /// Walks from the anchors down by names, so that dead ends are never entered.
    fn measure(&mut self) {
        let mut by_issuer: HashMap<&Dn, Vec<usize>> = HashMap::new();
        for (at, certificate) in self.pool.certificates.iter().enumerate() {
            by_issuer.entry(&certificate.parts().issuer).or_default().push(at);
        }
        let mut queue: VecDeque<(&Dn, usize)> =
            self.anchors().map(|(_, at)| (&self.pool.get(at).parts().subject, 1)).collect();
        self.distance.clear();
        while let Some((subject, distance)) = queue.pop_front() {
            // Each name is looked at once: it is taken out.
            for at in by_issuer.remove(subject).unwrap_or_default() {
                self.distance.entry(at).or_insert(distance);
                queue.push_back((&self.pool.get(at).parts().subject, distance + 1));
            }
        }
    }

    fn extend(&mut self, path: &mut Vec<usize>, visit: &mut Visit<'_>) -> Option<Path> {
        let child = *path.last()?;
        let (anchors, issuers) = self.candidates(child, path);
        for (anchor, at) in anchors {
            if !self.pool.work.step() {
                return None;
            }
            let full = Path { certificates: path.clone(), anchor: Some(anchor), leaf_is_anchor: false };
            match self.pool.verify(child, at) {
                Ok(()) => {
                    if self.offer(&full, visit) {
                        return Some(full);
                    }
                }
                Err((reason, detail)) => {
                    // A key that is refused is refused at its certificate.
                    let mut failures =
                        faults(self.pool.get(at), Place::Ca, self.now, self.purposes, path.len());
                    failures
                        .retain(|failure| matches!(failure.reason, Reason::WeakKey | Reason::UnsupportedKey));
                    if failures.is_empty() {
                        failures.push(Failure::new(reason, path.len() - 1, detail));
                    }
                    self.reject(&full, failures);
                }
            }
        }
        for at in issuers {
            if !self.pool.work.step() {
                return None;
            }
            path.push(at);
            let found = self.enter(path, visit);
            path.pop();
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Judges the last certificate of `path` as a CA, and goes on from there.
    fn enter(&mut self, path: &mut Vec<usize>, visit: &mut Visit<'_>) -> Option<Path> {
        let &[.., child, at] = path.as_slice() else { return None };
        let mut failures = faults(self.pool.get(at), Place::Ca, self.now, self.purposes, path.len() - 1);
        if failures.is_empty()
            && let Err((reason, detail)) = self.pool.verify(child, at)
        {
            failures.push(Failure::new(reason, path.len() - 2, detail));
        }
        if failures.is_empty() && path.len() > limits::MAX_DEPTH + 1 {
            failures.push(Failure::new(Reason::TooManyIntermediates, None, "is longer than any path may be"));
        }
        if failures.is_empty() {
            return self.extend(path, visit);
        }
        let part = Path { certificates: path.clone(), anchor: None, leaf_is_anchor: false };
        self.reject(&part, failures);
        None
    }

    /// Anchors and certificates that have the name of the issuer of `child`, the likeliest first.
    fn candidates(&self, child: usize, path: &[usize]) -> (Vec<(usize, usize)>, Vec<usize>) {
        let parts = self.pool.get(child).parts();
        // Key identifiers are a hint and no more: a wrong one puts a candidate last.
        let rank = |at: usize| match (
            &parts.extensions.authority_key_id,
            &self.pool.get(at).parts().extensions.subject_key_id,
        ) {
            (Some(wanted), Some(own)) if wanted == own => 0,
            (Some(_), Some(_)) => 2,
            _ => 1,
        };
        // The same name with the same key twice on a path is a loop (RFC 4158, 2.4.2).
        let loops = |at: usize, path: &[usize]| {
            let candidate = self.pool.get(at).parts();
            let same = |on: &Parsed| on.subject == candidate.subject && on.spki == candidate.spki;
            path.iter().any(|&on| same(self.pool.get(on).parts()))
        };
        let above = path.get(1..).unwrap_or_default();
        let mut anchors: Vec<_> = self.anchors().collect();
        anchors.retain(|(_, at)| self.pool.get(*at).parts().subject == parts.issuer && !loops(*at, above));
        anchors.sort_by_key(|(_, at)| rank(*at));
        let mut issuers: Vec<usize> = self.pool.named(&parts.issuer).to_vec();
        issuers.retain(|at| {
            let ends = anchors.iter().any(|(_, anchor)| anchor == at);
            !ends && self.distance.contains_key(at) && !loops(*at, path)
        });
        issuers.sort_by_key(|&at| (rank(at), self.distance.get(&at).copied(), at));
        (anchors, issuers)
    }

    /// Shows a whole path; whether it was liked.
    fn offer(&mut self, path: &Path, visit: &mut Visit<'_>) -> bool {
        let failures = visit(path);
        let liked = failures.is_empty();
        if !liked {
            self.reject(path, failures);
        }
        liked
    }

    fn reject(&mut self, path: &Path, failures: Vec<Failure>) {
        let complete = |anchor: Option<usize>| usize::from(anchor.is_some());
        let signed =
            |failures: &[Failure]| usize::from(failures.iter().all(|f| f.reason != Reason::BadSignature));
        let score =
            |anchor, length: usize, failures: &[Failure]| (signed(failures), complete(anchor), length);
        let chain = self.pool.chain(path);
        let better = self.best.as_ref().is_none_or(|best| {
            score(path.anchor, chain.len(), &failures) > score(best.anchor, best.chain.len(), &best.failures)
        });
        if better {
            self.best = Some(Best { chain: chain.clone(), anchor: path.anchor, failures: failures.clone() });
        }
        if self.rejected.len() < limits::MAX_REJECTED {
            self.rejected.push((chain, failures));
        }
    }
}
