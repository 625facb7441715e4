//! Requests for the certificate of a CA, to be signed by somebody else (PKCS #10, RFC 2986).

use const_oid::db::rfc5912;
use der::{Any, Decode as _, Encode as _, asn1::SetOfVec};
use scaivault_kms::SigningKey;
use x509_cert::{
    attr::Attribute,
    ext::pkix::{BasicConstraints, KeyUsage, KeyUsages},
    name::Name,
};

use crate::{
    PkiError, Subject,
    csr::Info,
    error::Violations,
    key::PublicKey,
    lint::LintedTbs,
    sign::sign,
    tbs::{extension, verbatim},
};

/// What a request is going to say.
#[derive(Debug)]
pub(crate) struct RequestDraft<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) spki: &'a [u8],
    pub(crate) public_key: &'a PublicKey,
    pub(crate) max_path_length: Option<u8>,
}

/// Asks for the certificate of a CA with that subject, in DER, signed by its own key. It asks for the CA flag, for the path
/// length if one is given, and for the key usages of a CA; who signs decides.
///
/// # Errors
/// [`PkiError::Refused`] naming every part of the subject that breaks a rule; [`PkiError::Invalid`] for a key of a kind
/// that does not sign here; [`PkiError::Kms`] if it cannot sign.
pub async fn request_ca(
    subject: &Subject,
    max_path_length: Option<u8>,
    key: &dyn SigningKey,
) -> Result<Vec<u8>, PkiError> {
    let mut found = Violations::default();
    subject.check(&mut found);
    found.into_result()?;
    request_ca_named(&subject.to_name()?, max_path_length, key).await
}

/// The same for a name that is there: the DER of one that another certificate bears, which is copied byte for byte.
///
/// # Errors
/// As [`request_ca`], but [`PkiError::Encoding`] for what is no name.
pub async fn request_ca_named(
    name: &[u8],
    max_path_length: Option<u8>,
    key: &dyn SigningKey,
) -> Result<Vec<u8>, PkiError> {
    let spki = key.public_key_der();
    let public_key = PublicKey::parse("key", spki)?;
    let draft = RequestDraft { subject: name, spki, public_key: &public_key, max_path_length };
    sign(LintedTbs::request(draft.encode()?, &draft)?, key).await
}

impl RequestDraft<'_> {
    fn encode(&self) -> Result<Vec<u8>, PkiError> {
        let what = PkiError::encoding;
        let constraints = BasicConstraints { ca: true, path_len_constraint: self.max_path_length };
        let usage = KeyUsages::DigitalSignature | KeyUsages::KeyCertSign | KeyUsages::CRLSign;
        let extensions = [extension(true, &constraints), extension(true, &KeyUsage(usage))];
        let extensions =
            extensions.into_iter().collect::<der::Result<Vec<_>>>().map_err(what("an extension"))?;
        let value = Any::encode_from(&extensions).map_err(what("an extension"))?;
        let values = SetOfVec::try_from(vec![value]).map_err(what("an attribute"))?;
        let asked = Attribute { oid: rfc5912::ID_EXTENSION_REQ, values };
        let info = Info {
            version: 0,
            subject: Name::from_der(self.subject).map_err(what("the subject"))?,
            public_key: verbatim("the public key", self.spki)?,
            attributes: Some(SetOfVec::try_from(vec![asked]).map_err(what("an attribute"))?),
        };
        info.to_der().map_err(what("a certificate request"))
    }
}
