//! Trust anchors: what a path may end at.

use time::OffsetDateTime;

use crate::{
    Certificate, PkiError,
    validate::{Failure, Place, faults},
};

/// A certificate that is trusted because somebody said so.
#[derive(Clone, Debug)]
pub struct TrustAnchor {
    /// Its name and key are what a path ends at; its own signature is never looked at.
    pub certificate: Certificate,
    /// Whether it is judged like the CAs below it: validity, basic constraints and path length, key usage, purposes,
    /// name and policy constraints (RFC 5937). Without, its name and key are all that counts (RFC 5280, 6.1.1 (d)).
    pub enforce: bool,
}

impl TrustAnchor {
    /// An anchor whose own constraints are enforced, from DER.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] as for [`Certificate::from_der`].
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        Ok(Self { certificate: Certificate::from_der(der)?, enforce: true })
    }

    /// What is wrong with it as an anchor at `now`, whatever is below it: no CA, not valid, a weak key. Its own signature
    /// is not looked at.
    #[must_use]
    pub fn check(&self, now: OffsetDateTime) -> Vec<Failure> {
        faults(&self.certificate, Place::Ca, now, &[], 0)
    }
}
