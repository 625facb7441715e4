use std::fmt;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No anchor, and no certificate on the way to one, has the name of the issuer.
    UnknownIssuer,
    /// It breaks a rule of syntax, or one that every certificate has to keep.
    Malformed,
    /// It begins later.
    NotYetValid,
    /// It ended.
    Expired,
    /// Its signature is not that of the issuer's key.
    BadSignature,
    /// It is signed over a hash that can be forged.
    WeakSignature,
    /// It is signed by an algorithm that this engine does not have.
    UnsupportedSignature,
    /// Its key gives no security.
    WeakKey,
    /// Its key is of a kind that this engine does not have.
    UnsupportedKey,
    /// It issued a certificate and is no CA.
    NotCa,
    /// It issued a certificate and its key usage does not include that; or it is asked for a purpose that its key usage
    /// does not go with.
    KeyUsage,
    /// There are more CAs below it than it allows.
    PathLength,
    /// There are more CAs than the question allows.
    TooManyIntermediates,
    /// It is not for this purpose.
    Purpose,
    /// It has a critical extension that is unknown.
    UnknownCriticalExtension,
    /// A name is outside of what a CA above it may certify.
    NameConstraint,
    /// A CA above it constrains names of a kind that cannot be compared, and it has such a name.
    UnsupportedNameConstraint,
    /// No policy that is demanded holds along the path.
    Policy,
    /// It does not have the name.
    NameMismatch,
    /// It was revoked.
    Revoked,
    /// Whether it was revoked is not known, and has to be.
    RevocationUnknown,
    /// The search took more work than it may.
    WorkLimit,
}

impl Reason {
    /// A stable name, in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownIssuer => "unknown_issuer",
            Self::Malformed => "malformed",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::BadSignature => "bad_signature",
            Self::WeakSignature => "weak_signature",
            Self::UnsupportedSignature => "unsupported_signature",
            Self::WeakKey => "weak_key",
            Self::UnsupportedKey => "unsupported_key",
            Self::NotCa => "not_ca",
            Self::KeyUsage => "key_usage",
            Self::PathLength => "path_length",
            Self::TooManyIntermediates => "too_many_intermediates",
            Self::Purpose => "purpose",
            Self::UnknownCriticalExtension => "unknown_critical_extension",
            Self::NameConstraint => "name_constraint",
            Self::UnsupportedNameConstraint => "unsupported_name_constraint",
            Self::Policy => "policy",
            Self::NameMismatch => "name_mismatch",
            Self::Revoked => "revoked",
            Self::RevocationUnknown => "revocation_unknown",
            Self::WorkLimit => "work_limit",
        }
    }
}

/// One thing that is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of thing.
    pub reason: Reason,
    /// With which certificate of the chain: 0 is the one in question. `None` if with the path as a whole.
    pub certificate: Option<usize>,
    /// For people; without what an attacker wrote, save names in quotes.
    pub detail: String,
}

impl Failure {
    pub(crate) fn new(
        reason: Reason,
        certificate: impl Into<Option<usize>>,
        detail: impl Into<String>,
    ) -> Self {
        Self { reason, certificate: certificate.into(), detail: detail.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.certificate {
            Some(at) => write!(f, "{}: certificate {at} {}", self.reason.name(), self.detail),
            None => write!(f, "{}: {}", self.reason.name(), self.detail),
        }
    }
}
