//! CAs that others signed or made: what their certificates have to be, and keys that come with them.

use const_oid::db::rfc4519;
use der::Decode as _;
use scaivault_kms::Secret;
use time::OffsetDateTime;
use x509_cert::name::Name;
use zeroize::Zeroizing;

use crate::{
    Certificate, Issued, Issuer, IssuerUrls, PkiError, Serial, TrustAnchor,
    csr::text,
    issue::issued,
    key::PublicKey,
    pem::{self, Block},
    read::{
        asn1::{Reader, SEQUENCE},
        weak::Weakness,
    },
    validate::{self, Evidence, Rules, validate},
};

const FIELD: &str = "certificate_pem";

/// A CA certificate of others that may be used here.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The certificate as it came.
    pub issued: Issued,
    /// The certificates above it, the nearest first, as far as they were given; empty for one that signed itself.
    pub above: Vec<Vec<u8>>,
    /// The certificate as an issuer, bounded by what stands above it.
    pub issuer: Issuer,
    /// Its common name; without one, its whole subject.
    pub common_name: String,
    /// Whether it signed itself.
    pub is_root: bool,
}

/// Judges the certificate of a CA whose key, a DER `SubjectPublicKeyInfo`, is `public_key`: it must be for that key, be
/// that of a CA that may sign certificates and revocation lists, be valid at `now`, and be signed by the first of `above`,
/// which is signed by the second, and so on (RFC 5280, 6.1). The last of them is believed.
///
/// # Errors
/// [`PkiError::Invalid`] naming `certificate_pem` or `chain_pem`.
pub fn adopt(
    der: &[u8],
    above: &[Vec<u8>],
    public_key: &[u8],
    urls: IssuerUrls,
    now: OffsetDateTime,
) -> Result<Adopted, PkiError> {
    let bad = |message: String| PkiError::Invalid { field: FIELD, message };
    let in_field = |error| match error {
        PkiError::Invalid { message, .. } => bad(message),
        other => other,
    };
    let issuer = Issuer::from_certificate(der, urls).map_err(in_field)?;
    let certificate = Certificate::from_der(der).map_err(in_field)?;
    if let Some(fault) = certificate.parts().faults.first() {
        return Err(bad(fault.clone()));
    }
    if let Err(Weakness::Malformed(why) | Weakness::Unsupported(why) | Weakness::Weak(why)) =
        certificate.key()
    {
        return Err(bad(format!("has a key that {why}")));
    }
    if *issuer.public_key() != PublicKey::parse("key", public_key)? {
        return Err(bad("is not for the key of this CA".to_owned()));
    }
    if !issuer.signs_crls() {
        return Err(bad("is not for signing revocation lists (cRLSign)".to_owned()));
    }
    validate::check_validity(&certificate, now).map_err(|(_, why)| bad(why))?;
    let own = certificate.key().is_ok_and(|key| certificate.parts().signed.verify(key).is_ok());
    let is_root = certificate.is_self_issued() && own;
    check_above(&certificate, is_root, above, now)?;
    let issuer = issuer.below(above.iter().map(Vec::as_slice)).map_err(|error| match error {
        PkiError::Invalid { message, .. } => PkiError::Invalid { field: CHAIN, message },
        other => other,
    })?;
    let serial = &certificate.parts().serial;
    let positive = serial.first().is_some_and(|first| first & 0x80 == 0);
    let serial = Serial::from_bytes(serial).ok().filter(|_| positive);
    let serial = serial.ok_or_else(|| bad("has a serial number that is not positive".to_owned()))?;
    let life = (issuer.not_before(), issuer.not_after());
    Ok(Adopted {
        issued: issued(der.to_vec(), serial, life, &certificate.parts().spki),
        above: above.to_vec(),
        common_name: common_name(issuer.name_der()).unwrap_or_else(|| certificate.subject()),
        is_root,
        issuer,
    })
}

/// The field of the certificates above.
const CHAIN: &str = "chain_pem";
/// The most certificates above a CA.
const MAX_ABOVE: usize = 8;

fn check_above(
    certificate: &Certificate,
    is_root: bool,
    above: &[Vec<u8>],
    now: OffsetDateTime,
) -> Result<(), PkiError> {
    let bad = |message: String| PkiError::Invalid { field: CHAIN, message };
    if is_root && !above.is_empty() {
        return Err(bad("must be empty: the certificate signed itself".to_owned()));
    }
    if above.len() > MAX_ABOVE {
        return Err(bad(format!("must have at most {MAX_ABOVE} certificates")));
    }
    let read = above.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| bad(error.to_string()))?;
    let Some(last) = read.last() else { return Ok(()) };
    let anchors = [TrustAnchor { certificate: last.clone(), enforce: true }];
    let verdict = validate(certificate, &read, &anchors, &Evidence::default(), &Rules::at(now));
    if let Some(failure) = verdict.errors.first() {
        return Err(bad(format!("is no chain above the certificate: {}", failure.detail)));
    }
    if verdict.chain.iter().skip(1).ne(&read) {
        return Err(bad("must have each certificate behind the one that it signed".to_owned()));
    }
    Ok(())
}

/// The common name in a DER `Name`.
pub(crate) fn common_name(name: &[u8]) -> Option<String> {
    let name = Name::from_der(name).ok()?;
    let attribute = name.iter().find(|attribute| attribute.oid == rfc4519::CN)?;
    text(&attribute.value)
}

/// Reads the private key of a CA out of PEM text: PKCS #8 (`PRIVATE KEY`, RFC 5958), SEC 1 (`EC PRIVATE KEY`, RFC 5915)
/// or PKCS #1 (`RSA PRIVATE KEY`, RFC 8017); gives PKCS #8. `public_key` is the DER `SubjectPublicKeyInfo` of its
/// certificate, which says what kind of key it is. Whether they fit is not looked at.
///
/// # Errors
/// [`PkiError::Invalid`] naming `private_key_pem`, also for a key that is encrypted.
pub fn private_key(text: &str, public_key: &[u8]) -> Result<Secret, PkiError> {
    let bad = |message: &str| PkiError::invalid("private_key_pem", message);
    let mut blocks = pem::blocks("private_key_pem", text.as_bytes(), 2)?;
    blocks.retain(|(label, _)| label != "EC PARAMETERS");
    let (label, der): Block =
        blocks.pop().filter(|_| blocks.is_empty()).ok_or_else(|| bad("must be one key"))?;
    match label.as_str() {
        "PRIVATE KEY" => Ok(Secret::new(der.to_vec())),
        "EC PRIVATE KEY" | "RSA PRIVATE KEY" => {
            let algorithm = algorithm_of(public_key).ok_or_else(|| bad("cannot be read"))?;
            let key = wrap(0x04, &[&der]).ok_or_else(|| bad("is too long"))?;
            let pkcs8 = wrap(0x30, &[&[0x02, 1, 0], algorithm, &key]).ok_or_else(|| bad("is too long"))?;
            Ok(Secret::new(pkcs8.to_vec()))
        }
        "ENCRYPTED PRIVATE KEY" => Err(bad("is encrypted; send it decrypted, over this connection alone")),
        _ => Err(bad("must be a PEM block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY")),
    }
}

/// The `AlgorithmIdentifier` of a `SubjectPublicKeyInfo`, whole.
fn algorithm_of(spki: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(Reader::only(spki, SEQUENCE).ok()?);
    reader.next().ok().map(|element| element.raw)
}

/// One DER element, in memory that is wiped; `None` beyond 65,535 octets.
fn wrap(tag: u8, parts: &[&[u8]]) -> Option<Zeroizing<Vec<u8>>> {
    let length = u16::try_from(parts.iter().map(|part| part.len()).sum::<usize>()).ok()?;
    let [high, low] = length.to_be_bytes();
    let mut element = Zeroizing::new(Vec::with_capacity(usize::from(length) + 4));
    element.push(tag);
    match length {
        0..=0x7f => element.push(low),
        0x80..=0xff => element.extend([0x81, low]),
        _ => element.extend([0x82, high, low]),
    }
    for part in parts {
        element.extend_from_slice(part);
    }
    Some(element)
}
