//! The records around the X.509 engine: CAs with their keys, roles, certificates, revocation lists.
//!
//! The engine (`scaivault-pki`) decides what a certificate contains and what a role admits; here it is
//! decided who may ask, what is kept, and what relying parties are told.

mod adopt;
mod again;
pub(crate) mod anchors;
mod bulk;
mod ca;
mod cascade;
mod certificate;
mod crl;
pub(crate) mod csr;
pub(crate) mod inventory;
mod issue;
mod issuer;
mod key;
mod list;
mod numbering;
mod ocsp;
pub(crate) mod past;
mod pool;
mod responder;
mod retention;
mod revoke;
mod role;
mod sign;
pub(crate) mod store;
pub(crate) mod summary;
pub(crate) mod tags;
mod types;
pub(crate) mod validate;

pub(crate) use self::{
    certificate::key_slot as certificate_key_slot,
    crl::{build_due, health as list_health},
    issuer::{Issuers, key_slot as ca_key_slot},
    numbering::slot as numbering_slot,
    ocsp::{OcspAnswers, OcspCounts},
    pool::KeyPool,
    responder::Responders,
    retention::{delete_expired, detach_expired},
};
pub use scaivault_pki::RevocationReason;

pub use self::{
    anchors::{AnchorFilter, AnchorPurpose, AnchorWrite, TrustAnchor},
    csr::{CsrFilter, CsrRequest, CsrStatus, CsrWrite},
    inventory::{CertificatePage, CertificateSearch, Count, Sort, StatusFilter},
    ocsp::{OcspReply, PublicPki},
    past::{CertificateRegistration, RegisteredCertificates},
    summary::{CertificateSummary, IssuerCount, RoleCount, SharedKey, StatusCounts, WeaknessCount},
    tags::TaggedCertificate,
    types::{
        BulkRevocation, BulkRevoke, Ca, CaCertificate, CaCreate, CaCrossSign, CaCsr, CaImport, CaInstall,
        CaRekey, CaState, CaType, Certificate, CertificateFilter, Crl, CrossCertificate, IssueWrite,
        IssuedCertificate, IssuerEnd, KeyType, NameConstraints, NameSubtrees, PlannedCertificate,
        PrivateKeyPem, PublicCrl, ReleaseWrite, Released, Revocation, RevokeWrite, Role, RolePatch,
        RoleQuestion, RoleVerdict, RoleWrite, RuleMatch, RuleViolation, SignNames, SignWrite, SubjectFields,
    },
    validate::{
        CandidatePath, ChainCertificate, PathError, RevocationCheck, RevocationFinding, ValidateWrite,
        ValidationReport,
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
