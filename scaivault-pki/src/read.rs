//! Certificates, lists and answers of others, as a validator has to see them: read strictly, and kept even where they
//! break a rule, so that a verdict can say which.
//!
//! Signatures are made over octets, so these readers keep octets; nothing here decides whether to trust.

mod about;
pub(crate) mod asn1;
pub(crate) mod certificate;
pub(crate) mod crl;
pub(crate) mod dn;
pub(crate) mod extensions;
pub(crate) mod general;
pub(crate) mod ocsp;
pub(crate) mod oid;
pub(crate) mod signature;
pub(crate) mod weak;
