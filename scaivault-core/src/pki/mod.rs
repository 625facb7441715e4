//! The records around the X.509 engine: CAs with their keys, roles, certificates, revocation lists.
//!
//! The engine (`scaivault-pki`) decides what a certificate contains and what a role admits; here it is
//! decided who may ask, what is kept, and what relying parties are told.

mod adopt;
mod again;
mod bulk;
mod ca;
mod cascade;
mod certificate;
mod crl;
pub(crate) mod csr;
mod issue;
mod issuer;
mod key;
mod ocsp;
mod responder;
mod retention;
mod revoke;
mod role;
mod sign;
pub(crate) mod store;
mod types;

pub(crate) use self::{
    certificate::key_slot as certificate_key_slot,
    crl::build_due,
    issuer::{Issuers, key_slot as ca_key_slot},
    ocsp::{OcspAnswers, OcspCounts},
    responder::Responders,
    retention::{delete_expired, detach_expired},
};
pub use scaivault_pki::RevocationReason;

pub use self::{
    csr::{CsrFilter, CsrRequest, CsrStatus, CsrWrite},
    ocsp::{OcspReply, PublicPki},
    types::{
        BulkRevocation, BulkRevoke, Ca, CaCertificate, CaCreate, CaCrossSign, CaCsr, CaImport, CaInstall,
        CaRekey, CaState, CaType, Certificate, CertificateFilter, Crl, CrossCertificate, IssueWrite,
        IssuedCertificate, IssuerEnd, KeyType, NameConstraints, NameSubtrees, PlannedCertificate,
        PrivateKeyPem, PublicCrl, ReleaseWrite, Released, Revocation, RevokeWrite, Role, RolePatch,
        RoleQuestion, RoleVerdict, RoleWrite, RuleMatch, RuleViolation, SignNames, SignWrite, SubjectFields,
    },
};
use crate::{Ctx, vault::Inner};

/// The verbs on CAs, roles and certificates, for one caller. From [`Vault::pki`](crate::Vault::pki).
#[derive(Clone, Copy, Debug)]
pub struct Pki<'a> {
    vault: &'a Inner,
    ctx: &'a Ctx,
}

impl<'a> Pki<'a> {
    pub(crate) fn new(vault: &'a Inner, ctx: &'a Ctx) -> Self {
        Self { vault, ctx }
    }
}
