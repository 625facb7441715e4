//! Public keys and signatures of others: which are accepted, and why others are not.

use std::borrow::Cow;

use aws_lc_rs::signature::{self as sig, ParsedPublicKey, VerificationAlgorithm};
use const_oid::{
    ObjectIdentifier,
    db::{fips204, rfc5912, rfc8410},
};

use super::{
    asn1::{INTEGER, Malformed, NULL, OID, Reader, Result, SEQUENCE, constructed, count},
    oid::Oid,
    weak::{self, Weakness},
};

/// What was signed, by which algorithm, and the signature: the frame of certificates, lists and OCSP answers.
pub(crate) struct Signed<'a> {
    pub(crate) message: Cow<'a, [u8]>,
    /// The whole `AlgorithmIdentifier`.
    pub(crate) algorithm: Cow<'a, [u8]>,
    pub(crate) signature: Cow<'a, [u8]>,
}

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignatureFault {
    /// It was not made by this key over this message.
    Bad,
    /// Its hash can be forged: MD5, SHA-1 and their elders.
    Weak(&'static str),
    /// This engine has no such algorithm, or not with such a key or such parameters.
    Unsupported(String),
}

impl<'a> Signed<'a> {
    /// Reads the outermost SEQUENCE; also what was signed.
    pub(crate) fn parse(der: &'a [u8]) -> Result<(&'a [u8], Self)> {
        let mut reader = Reader::new(Reader::only(der, SEQUENCE)?);
        let (message, signed) = Self::read(&mut reader)?;
        reader.end()?;
        Ok((message, signed))
    }

    /// Reads the three elements; others may follow.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<(&'a [u8], Self)> {
        let message = reader.next()?.raw;
        let algorithm = reader.next()?.raw;
        algorithm_identifier(algorithm)?;
        let signature = reader.octets_of_bits()?.into();
        Ok((message, Self { message: message.into(), algorithm: algorithm.into(), signature }))
    }

    pub(crate) fn into_owned(self) -> Signed<'static> {
        let Self { message, algorithm, signature } = self;
        let own = |octets: Cow<'_, [u8]>| Cow::Owned(octets.into_owned());
        Signed { message: own(message), algorithm: own(algorithm), signature: own(signature) }
    }

    /// Whether `key` signed this.
    pub(crate) fn verify(&self, key: &Key) -> std::result::Result<(), SignatureFault> {
        let verifier = verifier(&self.algorithm, key)?;
        sig::UnparsedPublicKey::new(verifier, &key.bits)
            .verify(&self.message, &self.signature)
            .map_err(|_| SignatureFault::Bad)
    }

    /// The same of what was signed in the past and is not to be relied on, but known: gives whether by SHA-1.
    pub(crate) fn verify_old(&self, key: &Key) -> std::result::Result<bool, SignatureFault> {
        match self.verify(key) {
            Err(SignatureFault::Weak(name)) => {
                let oid = algorithm_identifier(&self.algorithm).map(|(oid, _)| oid);
                let old = oid.ok().and_then(|oid| sha1_verifier(&oid, key.kind));
                let old = old.ok_or(SignatureFault::Weak(name))?;
                let verified =
                    sig::UnparsedPublicKey::new(old, &key.bits).verify(&self.message, &self.signature);
                verified.map(|()| true).map_err(|_| SignatureFault::Bad)
            }
            verified => verified.map(|()| false),
        }
    }
}

/// A public key that signatures are accepted from.
#[derive(Debug)]
pub(crate) struct Key {
    kind: Kind,
    bits: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    P521,
    Rsa,
    /// An RSA key for PSS alone; with which hash, if it says.
    Pss(Option<Hash>),
    Ed25519,
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn octets(self) -> u32 {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl Key {
    /// Reads a whole `SubjectPublicKeyInfo` and looks for known weaknesses.
    pub(crate) fn parse(spki: &[u8]) -> std::result::Result<Self, Weakness> {
        let malformed = |Malformed(why): Malformed| Weakness::Malformed(why.to_owned());
        let mut reader = Reader::new(Reader::only(spki, SEQUENCE).map_err(malformed)?);
        let (oid, parameters) =
            reader.next().and_then(|element| algorithm_identifier(element.raw)).map_err(malformed)?;
        let bits = reader.octets_of_bits().map_err(malformed)?.to_vec();
        reader.end().map_err(malformed)?;
        let key = Self { kind: kind(&oid, parameters)?, bits };
        if matches!(key.kind, Kind::Rsa | Kind::Pss(_)) {
            weak::check_rsa(&key.bits)?;
        }
        if key.kind == Kind::Ed25519 {
            weak::check_ed25519(&key.bits)?;
        }
        // Points are checked to be on their curve here, and lengths.
        match ParsedPublicKey::new(key.any_verifier(), &key.bits) {
            Ok(_) => Ok(key),
            Err(_) => Err(Weakness::Weak(format!("is no valid {} key", key.kind.text()))),
        }
    }

    /// Whether it can do nothing but sign, so that a key usage beyond that is a lie (RFC 8410, 5; RFC 9881, 5).
    pub(crate) fn only_signs(&self) -> bool {
        matches!(self.kind, Kind::Ed25519 | Kind::MlDsa44 | Kind::MlDsa65 | Kind::MlDsa87)
    }

    /// The content of the BIT STRING, which key hashes are made of.
    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    fn any_verifier(&self) -> &'static dyn VerificationAlgorithm {
        match self.kind {
            Kind::P256 => &sig::ECDSA_P256_SHA256_ASN1,
            Kind::P384 => &sig::ECDSA_P384_SHA384_ASN1,
            Kind::P521 => &sig::ECDSA_P521_SHA512_ASN1,
            Kind::Rsa | Kind::Pss(_) => &sig::RSA_PKCS1_2048_8192_SHA256,
            Kind::Ed25519 => &sig::ED25519,
            Kind::MlDsa44 => &sig::ML_DSA_44,
            Kind::MlDsa65 => &sig::ML_DSA_65,
            Kind::MlDsa87 => &sig::ML_DSA_87,
        }
    }
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
            Self::Rsa => "RSA",
            Self::Pss(_) => "RSA-PSS",
            Self::Ed25519 => "Ed25519",
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
            Self::MlDsa87 => "ML-DSA-87",
        }
    }
}

/// The identifier and the whole of the parameters, if there are some.
fn algorithm_identifier(raw: &[u8]) -> Result<(Oid, Option<&[u8]>)> {
    let mut reader = Reader::new(Reader::only(raw, SEQUENCE)?);
    let oid = reader.oid()?;
    let parameters = if reader.is_empty() { None } else { Some(reader.next()?.raw) };
    reader.end()?;
    Ok((oid, parameters))
}

const NULL_DER: &[u8] = &[NULL, 0];

fn kind(oid: &Oid, parameters: Option<&[u8]>) -> std::result::Result<Kind, Weakness> {
    let unsupported = |why: String| Err(Weakness::Unsupported(why));
    let bare = |kind| match parameters {
        None => Ok(kind),
        Some(_) => Err(Weakness::Malformed("has parameters where there are none".to_owned())),
    };
    if oid.is(rfc5912::ID_EC_PUBLIC_KEY) {
        let curve = parameters.and_then(|raw| Reader::only(raw, OID).and_then(Oid::from_der_content).ok());
        return match curve {
            Some(curve) if curve.is(rfc5912::SECP_256_R_1) => Ok(Kind::P256),
            Some(curve) if curve.is(rfc5912::SECP_384_R_1) => Ok(Kind::P384),
            Some(curve) if curve.is(rfc5912::SECP_521_R_1) => Ok(Kind::P521),
            Some(curve) => unsupported(format!("is on the curve {curve}, not P-256, P-384 or P-521")),
            None => unsupported("is on a curve without a name".to_owned()),
        };
    }
    let modern = [
        (rfc8410::ID_ED_25519, Kind::Ed25519),
        (fips204::ID_ML_DSA_44, Kind::MlDsa44),
        (fips204::ID_ML_DSA_65, Kind::MlDsa65),
        (fips204::ID_ML_DSA_87, Kind::MlDsa87),
    ];
    match () {
        () if oid.is(rfc5912::RSA_ENCRYPTION) => match parameters {
            Some(NULL_DER) => Ok(Kind::Rsa),
            _ => Err(Weakness::Malformed("is an RSA key without NULL parameters".to_owned())),
        },
        () if oid.is(rfc5912::ID_RSASSA_PSS) => match parameters {
            None => Ok(Kind::Pss(None)),
            Some(raw) => match pss_hash(raw) {
                Ok(hash) => Ok(Kind::Pss(Some(hash))),
                Err(_) => unsupported("is bound to RSA-PSS parameters that are not supported".to_owned()),
            },
        },
        () => match modern.iter().find(|(known, _)| oid.is(*known)) {
            Some((_, kind)) => bare(*kind),
            None => unsupported(format!("is of the unsupported kind {oid}")),
        },
    }
}

type Verifier = &'static dyn VerificationAlgorithm;

fn verifier(raw: &[u8], key: &Key) -> std::result::Result<Verifier, SignatureFault> {
    let unsupported = |why: String| SignatureFault::Unsupported(why);
    let (oid, parameters) =
        algorithm_identifier(raw).map_err(|Malformed(why)| unsupported(why.to_owned()))?;
    if let Some((_, name)) = FORGEABLE.iter().find(|(known, _)| oid.is(*known)) {
        return Err(SignatureFault::Weak(name));
    }
    let mismatch = || unsupported(format!("algorithm {oid} does not go with a key for {}", key.kind.text()));
    if oid.is(rfc5912::ID_RSASSA_PSS) {
        let hash = pss_hash(parameters.unwrap_or(&[SEQUENCE, 0]))?;
        return match key.kind {
            Kind::Pss(Some(bound)) if bound != hash => Err(mismatch()),
            Kind::Rsa | Kind::Pss(_) => Ok(match hash {
                Hash::Sha256 => &sig::RSA_PSS_2048_8192_SHA256,
                Hash::Sha384 => &sig::RSA_PSS_2048_8192_SHA384,
                Hash::Sha512 => &sig::RSA_PSS_2048_8192_SHA512,
            }),
            _ => Err(mismatch()),
        };
    }
    let (_, verifier) =
        verifiers(key.kind).iter().find(|(known, _)| oid.is(*known)).ok_or_else(|| match known(&oid) {
            true => mismatch(),
            false => unsupported(format!("the algorithm {oid} is not supported")),
        })?;
    // RFC 4055, 5: NULL, and verifiers take none for it; RFC 5758, 8410 and 9881: none.
    let fine = match parameters {
        None => true,
        Some(parameters) => key.kind == Kind::Rsa && parameters == NULL_DER,
    };
    if fine { Ok(*verifier) } else { Err(unsupported(format!("the algorithm {oid} has parameters"))) }
}

fn known(oid: &Oid) -> bool {
    let kinds = [Kind::P256, Kind::Rsa, Kind::Ed25519, Kind::MlDsa44, Kind::MlDsa65, Kind::MlDsa87];
    kinds.iter().any(|kind| verifiers(*kind).iter().any(|(known, _)| oid.is(*known)))
}

fn verifiers(kind: Kind) -> &'static [(ObjectIdentifier, Verifier)] {
    match kind {
        Kind::P256 => &[
            (rfc5912::ECDSA_WITH_SHA_256, &sig::ECDSA_P256_SHA256_ASN1),
            (rfc5912::ECDSA_WITH_SHA_384, &sig::ECDSA_P256_SHA384_ASN1),
            (rfc5912::ECDSA_WITH_SHA_512, &sig::ECDSA_P256_SHA512_ASN1),
        ],
        Kind::P384 => &[
            (rfc5912::ECDSA_WITH_SHA_256, &sig::ECDSA_P384_SHA256_ASN1),
            (rfc5912::ECDSA_WITH_SHA_384, &sig::ECDSA_P384_SHA384_ASN1),
            (rfc5912::ECDSA_WITH_SHA_512, &sig::ECDSA_P384_SHA512_ASN1),
        ],
        Kind::P521 => &[
            (rfc5912::ECDSA_WITH_SHA_256, &sig::ECDSA_P521_SHA256_ASN1),
            (rfc5912::ECDSA_WITH_SHA_384, &sig::ECDSA_P521_SHA384_ASN1),
            (rfc5912::ECDSA_WITH_SHA_512, &sig::ECDSA_P521_SHA512_ASN1),
        ],
        Kind::Rsa => &[
            (rfc5912::SHA_256_WITH_RSA_ENCRYPTION, &sig::RSA_PKCS1_2048_8192_SHA256),
            (rfc5912::SHA_384_WITH_RSA_ENCRYPTION, &sig::RSA_PKCS1_2048_8192_SHA384),
            (rfc5912::SHA_512_WITH_RSA_ENCRYPTION, &sig::RSA_PKCS1_2048_8192_SHA512),
        ],
        Kind::Pss(_) => &[],
        Kind::Ed25519 => &[(rfc8410::ID_ED_25519, &sig::ED25519)],
        Kind::MlDsa44 => &[(fips204::ID_ML_DSA_44, &sig::ML_DSA_44)],
        Kind::MlDsa65 => &[(fips204::ID_ML_DSA_65, &sig::ML_DSA_65)],
        Kind::MlDsa87 => &[(fips204::ID_ML_DSA_87, &sig::ML_DSA_87)],
    }
}

fn sha1_verifier(oid: &Oid, kind: Kind) -> Option<Verifier> {
    match kind {
        Kind::Rsa if oid.is(rfc5912::SHA_1_WITH_RSA_ENCRYPTION) => {
            Some(&sig::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY)
        }
        Kind::P256 if oid.is(ECDSA_WITH_SHA_1) => Some(&sig::ECDSA_P256_SHA1_ASN1),
        Kind::P521 if oid.is(ECDSA_WITH_SHA_1) => Some(&sig::ECDSA_P521_SHA1_ASN1),
        _ => None,
    }
}

const ECDSA_WITH_SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");
const FORGEABLE: [(ObjectIdentifier, &str); 5] = [
    (rfc5912::MD_2_WITH_RSA_ENCRYPTION, "MD2 with RSA"),
    (rfc5912::MD_5_WITH_RSA_ENCRYPTION, "MD5 with RSA"),
    (rfc5912::SHA_1_WITH_RSA_ENCRYPTION, "SHA-1 with RSA"),
    (ECDSA_WITH_SHA_1, "SHA-1 with ECDSA"),
    (rfc5912::DSA_WITH_SHA_1, "SHA-1 with DSA"),
];

/// The hash of RSA-PSS parameters, all of which have to agree with it (RFC 4055, 3.1): the mask is made with the same
/// hash, and the salt is as long as it.
fn pss_hash(raw: &[u8]) -> std::result::Result<Hash, SignatureFault> {
    let unsupported = |why: &str| SignatureFault::Unsupported(format!("RSA-PSS {why}"));
    let parameters = read_pss(raw).map_err(|Malformed(why)| unsupported(why))?;
    let Some(hash) = parameters.hash else { return Err(SignatureFault::Weak("SHA-1 with RSA-PSS")) };
    let hash = plain_hash(&hash).ok_or_else(|| unsupported("with a hash other than SHA-256, 384 or 512"))?;
    match parameters.mask {
        Some(mask) if plain_hash(&mask) == Some(hash) => {}
        _ => return Err(unsupported("whose mask is made with another hash")),
    }
    if parameters.salt != hash.octets() {
        return Err(unsupported("with a salt that is not as long as its hash"));
    }
    if parameters.trailer != 1 { Err(unsupported("with another trailer")) } else { Ok(hash) }
}

struct Pss {
    hash: Option<Vec<u8>>,
    mask: Option<Vec<u8>>,
    salt: u32,
    trailer: u32,
}

fn read_pss(raw: &[u8]) -> Result<Pss> {
    let mut reader = Reader::new(Reader::only(raw, SEQUENCE)?);
    let hash = reader.optional(constructed(0))?.map(<[u8]>::to_vec);
    let mask = match reader.optional(constructed(1))? {
        Some(content) => match algorithm_identifier(content)? {
            (oid, Some(parameters)) if oid.is(rfc5912::ID_MGF_1) => Some(parameters.to_vec()),
            _ => return Err(Malformed("with a mask other than MGF1")),
        },
        None => None,
    };
    let mut number = |tag, default| match reader.optional(constructed(tag))? {
        Some(content) => count(Reader::only(content, INTEGER)?),
        None => Ok(default),
    };
    let (salt, trailer) = (number(2, 20)?, number(3, 1)?);
    reader.end()?;
    Ok(Pss { hash, mask, salt, trailer })
}

fn plain_hash(raw: &[u8]) -> Option<Hash> {
    let (oid, parameters) = algorithm_identifier(raw).ok()?;
    if !matches!(parameters, None | Some(NULL_DER)) {
        return None;
    }
    let known = [
        (rfc5912::ID_SHA_256, Hash::Sha256),
        (rfc5912::ID_SHA_384, Hash::Sha384),
        (rfc5912::ID_SHA_512, Hash::Sha512),
    ];
    known.iter().find(|(known, _)| oid.is(*known)).map(|(_, hash)| *hash)
}
