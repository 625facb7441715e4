use der::{
    Any, Encode as _, Header, Length, Tag, TagMode, TagNumber,
    asn1::{BitString, ContextSpecific},
};
use scaivault_kms::SigningKey;

use crate::{
    PkiError,
    key::{PublicKey, algorithm},
    lint::LintedTbs,
    tbs::verbatim,
};

/// Signs what was linted, and puts the pieces together. Certificates, revocation lists and basic OCSP
/// answers have the same three pieces (RFC 5280, 4.1 and 5.1; RFC 6960, 4.2.1).
///
/// What the key made is verified before it leaves: a faulty signature of an RSA key can give it away, and a
/// provider that signs with another key would break every chain.
///
/// # Errors
/// [`PkiError::Invalid`] if `key` is not the one that the issuer's certificate names, or its signature does not
/// verify; [`PkiError::Kms`] if it cannot sign.
pub(crate) async fn sign(tbs: LintedTbs, key: &dyn SigningKey) -> Result<Vec<u8>, PkiError> {
    sign_with(tbs, key, None).await
}

/// The same, with the certificate of the signer at the end, which only an OCSP answer has.
pub(crate) async fn sign_with(
    tbs: LintedTbs,
    key: &dyn SigningKey,
    certificate: Option<&[u8]>,
) -> Result<Vec<u8>, PkiError> {
    if PublicKey::read("key", key.public_key_der())? != *tbs.signer() {
        return Err(PkiError::invalid("key", "is not the key of the issuer"));
    }
    let (scheme, oid, identifier) = algorithm(key.spec())?;
    let signature = key.sign(scheme, tbs.bytes()).await?;
    if tbs.signer().verify(oid, tbs.bytes(), &signature) != Some(true) {
        return Err(PkiError::invalid("key", "made a signature that does not verify"));
    }
    let signature = BitString::from_bytes(&signature).map_err(PkiError::encoding("the signature"))?;
    let certificates = certificate.map(|der| Ok::<_, PkiError>(vec![verbatim("the certificate", der)?]));
    let certificates = certificates.transpose()?;
    frame(tbs.bytes(), &identifier, &signature, certificates).map_err(PkiError::encoding("what is signed"))
}

/// The SEQUENCE of the pieces, whose first is copied once: it may be long.
fn frame(
    tbs: &[u8],
    algorithm: &Any,
    signature: &BitString,
    certificates: Option<Vec<Any>>,
) -> der::Result<Vec<u8>> {
    let mut after = algorithm.to_der()?;
    signature.encode_to_vec(&mut after)?;
    if let Some(value) = certificates {
        let explicit = ContextSpecific { tag_number: TagNumber(0), tag_mode: TagMode::Explicit, value };
        explicit.encode_to_vec(&mut after)?;
    }
    sequence(&[tbs, &after])
}

/// A SEQUENCE of what is encoded already.
pub(crate) fn sequence(parts: &[&[u8]]) -> der::Result<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let head = Header::new(Tag::Sequence, Length::try_from(length)?).to_der()?;
    let mut whole = Vec::with_capacity(head.len() + length);
    whole.extend_from_slice(&head);
    for part in parts {
        whole.extend_from_slice(part);
    }
    Ok(whole)
}
