use std::time::Duration;

use scaivault_kms::SigningKey;
use time::OffsetDateTime;

use crate::{
    Issued, Issuer, PkiError, Serial, Subject,
    error::Refused,
    issue::finish,
    key::PublicKey,
    tbs::{Draft, Usage},
    time::{begin, last_second, whole_second},
};

/// A responder that a CA has delegated OCSP to (RFC 6960, 4.2.2.2): its certificate, without its key.
#[derive(Clone, Debug)]
pub struct Responder {
    issued: Issued,
    public_key: PublicKey,
    /// The name and the key identifier of its issuer.
    issuer: (Vec<u8>, Vec<u8>),
}

impl Responder {
    /// What was issued, to be kept in an inventory.
    #[must_use]
    pub fn issued(&self) -> &Issued {
        &self.issued
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.issued.der
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    pub(super) fn check(&self, issuer: &Issuer, at: OffsetDateTime) -> Result<(), PkiError> {
        if (issuer.name_der(), issuer.key_id()) != (&self.issuer.0, &self.issuer.1) {
            return Err(PkiError::invalid("responder", "is a delegate of another issuer"));
        }
        if at < self.issued.not_before || at > self.issued.not_after {
            return Err(PkiError::invalid("responder", "has a certificate that is not valid at this time"));
        }
        Ok(())
    }
}

/// The name of every responder below its issuer.
const NAME: &str = "OCSP responder";

/// Makes the certificate of a responder whose key is `public_key_spki` (DER `SubjectPublicKeyInfo`). It may sign OCSP
/// answers about what `issuer` issued and nothing else, is valid for `life` from `now`, five minutes back, at most as
/// long as its issuer, and says that nobody need ask whether it was revoked (`id-pkix-ocsp-nocheck`): keep it short.
///
/// # Errors
/// [`PkiError::Refused`] if `issuer` is not valid at this time or the key is its own; [`PkiError::Invalid`] if the
/// key is no good key, or `issuer_key` is not the key of `issuer`; [`PkiError::Kms`] if that cannot sign.
pub async fn issue_responder(
    serial: Serial,
    public_key_spki: &[u8],
    life: Duration,
    issuer: &Issuer,
    issuer_key: &dyn SigningKey,
    now: OffsetDateTime,
) -> Result<Responder, PkiError> {
    let now = whole_second(now);
    if now < issuer.not_before() || now > issuer.not_after() {
        return Err(Refused::one("ca_id", "issuer_validity", "is not valid at this time").into());
    }
    let public_key = PublicKey::parse("public_key", public_key_spki)?;
    if public_key == *issuer.public_key() {
        let message = "is the key of the issuer itself";
        return Err(Refused::one("public_key", "distinct_from_issuer", message).into());
    }
    let subject = Subject { common_name: NAME.to_owned(), ..Subject::default() };
    let subject = subject.to_name()?;
    let draft = Draft {
        serial: &serial,
        subject: &subject,
        not_before: begin(now, Some(issuer.not_before())),
        not_after: last_second(now, life).map_or(issuer.not_after(), |end| end.min(issuer.not_after())),
        spki: public_key_spki,
        public_key: &public_key,
        usage: Usage::Responder,
        authority: Some(issuer),
    };
    let issued = finish(draft, issuer_key).await?;
    Ok(Responder { issued, public_key, issuer: (issuer.name_der().to_vec(), issuer.key_id().to_vec()) })
}
