//! What the verbs on CAs, roles and certificates are given and give.

mod ca;
mod certificate;
mod issue;
mod key;
mod revoke;
mod role;
mod subject;
mod verdict;

pub(super) use self::key::family;
pub use self::{
    ca::{
        Ca, CaCertificate, CaCreate, CaCrossSign, CaCsr, CaImport, CaInstall, CaRekey, CaState, CaType, Crl,
        CrossCertificate, NameConstraints, NameSubtrees, PublicCrl,
    },
    certificate::{Certificate, CertificateFilter},
    issue::{IssueWrite, IssuedCertificate, PrivateKeyPem, SignNames, SignWrite},
    key::KeyType,
    revoke::{BulkRevocation, BulkRevoke, ReleaseWrite, Released, Revocation, RevokeWrite},
    role::{IssuerEnd, Role, RolePatch, RoleWrite},
    subject::SubjectFields,
    verdict::{PlannedCertificate, RoleQuestion, RoleVerdict, RuleMatch, RuleViolation},
};
