//! Path validation (RFC 5280, 6): is this certificate good for that name, now, under these anchors?
//!
//! [`validate`] takes everything as values: it asks no clock, fetches nothing and remembers nothing. Its work is bounded
//! by the constants of [`limits`], however the certificates were made; a search that is cut off is a refusal.

pub(crate) mod constraints;
mod crl;
mod host;
mod ocsp;
mod path;
mod policy;
mod reason;
mod revocation;

use time::OffsetDateTime;

pub(crate) use path::{Place, faults};

pub use host::ReferenceName;
pub use policy::PolicyRules;
pub use reason::{Failure, Reason};
pub use revocation::{
    CertificateRevocation, Evidence, OcspEvidence, Registered, RevocationMode, Source, Verdict,
};

use crate::{
    Certificate, Oid, TrustAnchor,
    chain::{Path, Pool, Search},
    time::{shown, whole_second},
};

/// How much work one validation may do. An honest one stays far below each of them.
pub mod limits {
    /// Certificates of a bag that are looked at; the rest is left out.
    pub const MAX_CERTIFICATES: usize = 256;
    /// Certificates between a leaf and its anchor, self-issued ones included.
    pub const MAX_DEPTH: usize = 24;
    /// Signatures that are verified over certificates, lists and OCSP answers; each pair of signature and key once.
    pub const MAX_SIGNATURES: u32 = 512;
    /// Certificates that are tried as an issuer.
    pub const MAX_STEPS: u32 = 20_000;
    /// Names that are compared with a constraint.
    pub const MAX_COMPARISONS: u32 = 250_000;
    /// Octets of revocation lists that are looked through, each time that one is.
    pub const MAX_LIST_OCTETS: usize = 1 << 29;
    /// Rejected paths that an answer lists.
    pub const MAX_REJECTED: usize = 16;
    /// Lists, and OCSP answers, that may be shown; with more of them the verdict is no.
    pub const MAX_EVIDENCE: usize = 512;
}

/// What a certificate must be good for.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The time of the question.
    pub now: OffsetDateTime,
    /// Names that the certificate must have, each of them.
    pub names: Vec<ReferenceName>,
    /// Purposes (`ExtKeyUsage`) that the certificate and the CAs above it must allow, each of them; empty for any.
    pub purposes: Vec<Oid>,
    /// The most CA certificates between leaf and anchor; self-issued ones do not count.
    pub max_intermediates: Option<usize>,
    /// What is demanded of certificate policies.
    pub policies: PolicyRules,
    /// What is demanded of revocation.
    pub revocation: RevocationMode,
}

impl Rules {
    /// Any name and purpose, any policy, no revocation.
    #[must_use]
    pub fn at(now: OffsetDateTime) -> Self {
        Self {
            now,
            names: Vec::new(),
            purposes: Vec::new(),
            max_intermediates: None,
            policies: PolicyRules::default(),
            revocation: RevocationMode::None,
        }
    }
}

/// The verdict, and how it came about.
#[derive(Clone, Debug)]
pub struct Validation {
    /// Whether there is a path that satisfies every rule.
    pub valid: bool,
    /// The path: the certificate first, the anchor last. If the verdict is no, the path that came furthest.
    pub chain: Vec<Certificate>,
    /// Which of the anchors it ends at: its place in the list.
    pub anchor: Option<usize>,
    /// What is wrong with [`chain`](Self::chain); empty exactly if the verdict is yes.
    pub errors: Vec<Failure>,
    /// What is known of the revocation of each certificate of the chain but the anchor, in its order. Shorter if the chain
    /// was refused before revocation was looked at.
    pub revocation: Vec<CertificateRevocation>,
    /// Paths that were tried and left, the earliest first; at most [`limits::MAX_REJECTED`].
    pub rejected: Vec<RejectedPath>,
}

/// A path, or the beginning of one, that does not do.
#[derive(Clone, Debug)]
pub struct RejectedPath {
    /// The certificates, from the one in question on.
    pub chain: Vec<Certificate>,
    /// Why, never empty; [`Failure::certificate`] counts in this chain.
    pub failures: Vec<Failure>,
}

/// Looks for a path from `leaf` over certificates of `bag` to one of `anchors` that satisfies `rules`.
///
/// The order of `bag` means nothing, and what cannot be part of a path does no harm in it. A leaf that is an anchor
/// itself is judged as both.
#[must_use]
pub fn validate(
    leaf: &Certificate,
    bag: &[Certificate],
    anchors: &[TrustAnchor],
    evidence: &Evidence,
    rules: &Rules,
) -> Validation {
    let pool = Pool::new(leaf, bag, anchors);
    let revocation = revocation::Revocation::new(&pool, evidence, rules);
    let now = rules.now;
    let mut search = Search::new(&pool, now, &rules.purposes);
    let mut checked: Vec<(Path, Vec<CertificateRevocation>)> = Vec::new();
    let found = search.run(pool.leaf(), None, &mut |path| {
        let mut failures = path::check(&pool, path, rules);
        if failures.is_empty() {
            checked.push((path.clone(), revocation.check(path, &mut failures)));
        }
        failures
    });
    // What was found out about the path that is shown.
    let known = |chain: &[Certificate], anchor: Option<usize>| {
        let of = |path: &Path| path.anchor == anchor && pool.chain(path) == chain;
        checked.iter().find(|(path, _)| of(path)).map(|(_, known)| known.clone()).unwrap_or_default()
    };
    let into_rejected =
        |(path, failures): (Vec<Certificate>, Vec<Failure>)| RejectedPath { chain: path, failures };
    match found {
        Some(path) => Validation {
            valid: true,
            revocation: known(&pool.chain(&path), path.anchor),
            chain: pool.chain(&path),
            anchor: path.anchor,
            errors: Vec::new(),
            rejected: search.rejected.into_iter().map(into_rejected).collect(),
        },
        None => {
            let best = search.best(&pool);
            Validation {
                valid: false,
                revocation: known(&best.chain, best.anchor),
                chain: best.chain,
                anchor: best.anchor,
                errors: best.failures,
                rejected: search.rejected.into_iter().map(into_rejected).collect(),
            }
        }
    }
}

/// Whether `at` lies in the life of `certificate`, both ends included.
pub(crate) fn check_validity(certificate: &Certificate, at: OffsetDateTime) -> Result<(), (Reason, String)> {
    if at < certificate.not_before() {
        return Err((Reason::NotYetValid, format!("is valid from {}", shown(certificate.not_before()))));
    }
    // Ends are whole seconds, and the second named is part of the life (RFC 5280, 4.1.2.5).
    if whole_second(at) > certificate.not_after() {
        return Err((Reason::Expired, format!("was valid until {}", shown(certificate.not_after()))));
    }
    Ok(())
}
