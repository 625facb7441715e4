//! From a plan and a public key to a certificate.

use aws_lc_rs::digest::{SHA256, digest};
use scaivault_kms::SigningKey;
use time::OffsetDateTime;

use crate::{
    Issuer, PkiError, Plan, Serial,
    error::Refused,
    key::PublicKey,
    lint::LintedTbs,
    name::write_name,
    pem,
    sign::sign,
    tbs::{Draft, Usage},
};

/// A certificate that was made here, and what to remember of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// Its serial number.
    pub serial: Serial,
    /// The first second of its life.
    pub not_before: OffsetDateTime,
    /// The last second of its life.
    pub not_after: OffsetDateTime,
    /// SHA-256 of the DER.
    pub fingerprint_sha256: [u8; 32],
    /// SHA-256 of the public key, a DER `SubjectPublicKeyInfo`.
    pub key_sha256: [u8; 32],
}

impl Issued {
    /// The certificate as a PEM block.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }
}

/// Makes the certificate of an end entity whose key is `public_key_spki` (DER `SubjectPublicKeyInfo`).
///
/// # Errors
/// [`PkiError::Refused`] if the key is not of the kind that the role demands or is the issuer's own;
/// [`PkiError::Invalid`] if it is no good key at all, if the plan was admitted under another issuer or for another
/// key, or `issuer_key` is not the key of `issuer`; [`PkiError::Kms`] if that cannot sign.
pub async fn issue_leaf(
    plan: Plan,
    serial: Serial,
    public_key_spki: &[u8],
    issuer: &Issuer,
    issuer_key: &dyn SigningKey,
) -> Result<Issued, PkiError> {
    if !plan.is_under(issuer) {
        return Err(PkiError::invalid("plan", "was admitted under another issuer"));
    }
    let public_key = PublicKey::parse("public_key", public_key_spki)?;
    check_key(&plan, &public_key, issuer)?;
    if !plan.is_for(public_key_spki) {
        return Err(PkiError::invalid("public_key", "is not the key of the request that was admitted"));
    }
    let subject = write_name(plan.common_name(), plan.subject())?;
    let usage = Usage::Leaf {
        dns_names: plan.dns_names(),
        ip_addresses: plan.ip_addresses(),
        emails: plan.emails(),
        uris: plan.uris(),
        purposes: plan.purposes(),
    };
    let draft = Draft {
        serial: &serial,
        subject: &subject,
        not_before: plan.not_before(),
        not_after: plan.not_after(),
        spki: public_key_spki,
        public_key: &public_key,
        usage,
        authority: Some(issuer),
    };
    finish(draft, issuer_key).await
}

fn check_key(plan: &Plan, key: &PublicKey, issuer: &Issuer) -> Result<(), Refused> {
    if !plan.key().admits(key.kind) {
        let message = format!("is {}, but the role demands {}", key.kind, plan.key());
        return Err(Refused::one("public_key", "key_type", message));
    }
    if key == issuer.public_key() {
        return Err(Refused::one("public_key", "distinct_from_issuer", "is the key of the issuer itself"));
    }
    Ok(())
}

/// Encodes, lints, signs.
pub(crate) async fn finish(draft: Draft<'_>, key: &dyn SigningKey) -> Result<Issued, PkiError> {
    let linted = LintedTbs::certificate(draft.encode()?, &draft)?;
    let der = sign(linted, key).await?;
    Ok(issued(der, draft.serial.clone(), (draft.not_before, draft.not_after), draft.spki))
}

/// What to remember of a certificate.
pub(crate) fn issued(
    der: Vec<u8>,
    serial: Serial,
    (not_before, not_after): (OffsetDateTime, OffsetDateTime),
    spki: &[u8],
) -> Issued {
    let (mut fingerprint_sha256, mut key_sha256) = ([0; 32], [0; 32]);
    fingerprint_sha256.copy_from_slice(digest(&SHA256, &der).as_ref());
    key_sha256.copy_from_slice(digest(&SHA256, spki).as_ref());
    Issued { der, serial, not_before, not_after, fingerprint_sha256, key_sha256 }
}
