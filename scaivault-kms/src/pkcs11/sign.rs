use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, SHA384, digest};
use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        eddsa::{EddsaParams, EddsaSignatureScheme},
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    object::{Attribute, AttributeType, KeyType, ObjectHandle},
};

use super::{
    error::{Failure, device, invalid, not_found, unsupported},
    provider::{Use, fill, hidden},
    session::{Abilities, Kind, Need, Object, Open, Worker, check_made},
};
use crate::{KeyRef, KeySpec, KmsError, SignatureScheme, SigningKey, der, device::Pool};

/// A signing key in a PKCS #11 token.
pub struct Pkcs11Key {
    pool: Arc<Pool<Worker>>,
    object: Object,
    spec: KeySpec,
    public: Vec<u8>,
}

impl std::fmt::Debug for Pkcs11Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pkcs11Key")
            .field("label", &self.object.label)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SigningKey for Pkcs11Key {
    fn spec(&self) -> KeySpec {
        self.spec
    }

    fn public_key_der(&self) -> &[u8] {
        &self.public
    }

    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        if !self.spec.signs_by(scheme) {
            return Err(unsupported(format!("{scheme:?} with a key of kind {}", self.spec.as_str())));
        }
        let (object, message) = (self.object.clone(), message.to_vec());
        self.pool
            .call(move |worker| worker.run("signing", |open| sign(open, &object, scheme, &message)))
            .await
    }
}

/// Makes a key pair labelled `name` inside the token.
pub(super) async fn create(
    pool: &Arc<Pool<Worker>>,
    name: &str,
    spec: KeySpec,
) -> Result<Arc<dyn SigningKey>, KmsError> {
    if name.is_empty() {
        return Err(invalid("a signing key needs a name"));
    }
    let label = name.to_owned();
    let made = pool
        .call(move |worker| worker.run_once("making a signing key", |open| make(open, &label, spec)))
        .await?;
    Ok(key(pool, made))
}

/// Finds a key by `label:NAME`, `id:HEX`, or a label alone.
pub(super) async fn refer(
    pool: &Arc<Pool<Worker>>,
    key_ref: &KeyRef,
) -> Result<Arc<dyn SigningKey>, KmsError> {
    let wanted = parse(&key_ref.0)?;
    let shown = key_ref.0.clone();
    let found = pool
        .call(move |worker| {
            worker.run("looking up a signing key", |open| {
                let found = open.find(&wanted)?;
                match found[..] {
                    [handle] => describe(open, handle),
                    [] => Err(not_found(format!("no signing key {shown:?} in the token")).into()),
                    _ => {
                        Err(invalid(format!("more than one signing key {shown:?}: refer to it by id")).into())
                    }
                }
            })
        })
        .await?;
    Ok(key(pool, found))
}

type Found = (Object, KeySpec, Vec<u8>);

fn key(pool: &Arc<Pool<Worker>>, (object, spec, public): Found) -> Arc<dyn SigningKey> {
    Arc::new(Pkcs11Key { pool: Arc::clone(pool), object, spec, public })
}

fn parse(text: &str) -> Result<Object, KmsError> {
    let (label, id) = match text.split_once(':') {
        Some(("id", id)) => {
            let bytes = hex::decode(id).ok().filter(|bytes| !bytes.is_empty());
            (None, Some(bytes.ok_or_else(|| invalid(format!("the id {id:?} of a key is not hexadecimal")))?))
        }
        Some(("label", label)) => (Some(label), None),
        _ => (Some(text), None),
    };
    if label.is_some_and(str::is_empty) {
        return Err(invalid("a reference to a key without a name"));
    }
    Ok(Object { kind: Kind::Private, label: label.map(str::to_owned), id })
}

// ---------------------------------------------------------------- keys

fn make(open: &mut Open, label: &str, spec: KeySpec) -> Result<Found, Failure> {
    let same_name = Object { kind: Kind::Private, label: Some(label.to_owned()), id: None };
    if !open.find(&same_name)?.is_empty() {
        return Err(invalid(format!("there is a key {label:?} already; it is not overwritten")).into());
    }
    let mut id = [0; 16];
    fill(&mut id)?;
    let (mechanism, need) = match spec {
        KeySpec::EcP256 | KeySpec::EcP384 => (Mechanism::EccKeyPairGen, MechanismType::ECC_KEY_PAIR_GEN),
        KeySpec::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, MechanismType::ECC_EDWARDS_KEY_PAIR_GEN),
        KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
            (Mechanism::RsaPkcsKeyPairGen, MechanismType::RSA_PKCS_KEY_PAIR_GEN)
        }
        other => return Err(unsupported(format!("keys of kind {}", other.as_str())).into()),
    };
    let lacks = open.abilities.lacks(&[Need::GeneratePair(need)]);
    if !lacks.is_empty() {
        return Err(unsupported(format!("this token lacks {} for {}", lacks.join(""), spec.as_str())).into());
    }
    let mut public = vec![
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
        Attribute::Verify(true),
    ];
    let rsa = |bits: u64| [Attribute::ModulusBits(bits.into()), Attribute::PublicExponent(vec![1, 0, 1])];
    match spec {
        KeySpec::EcP256 => public.push(Attribute::EcParams(der::P256.to_vec())),
        KeySpec::EcP384 => public.push(Attribute::EcParams(der::P384.to_vec())),
        KeySpec::Ed25519 => public.push(Attribute::EcParams(der::ED25519.to_vec())),
        KeySpec::Rsa2048 => public.extend(rsa(2048)),
        KeySpec::Rsa3072 => public.extend(rsa(3072)),
        KeySpec::Rsa4096 => public.extend(rsa(4096)),
        other => return Err(unsupported(format!("keys of kind {}", other.as_str())).into()),
    }
    let private = hidden(label, &id, Use::Sign);
    let session = open.read_write()?;
    let (public, key) = session.generate_key_pair(&mechanism, &public, &private)?;
    let found = check_made(open, key, "the signing key").and_then(|()| describe(open, key));
    found.inspect_err(|_| {
        // Nothing half-made is left under that name.
        drop(session.destroy_object(key));
        drop(session.destroy_object(public));
    })
}

/// What kind of key it is, and its public half.
fn describe(open: &mut Open, key: ObjectHandle) -> Result<Found, Failure> {
    let told = open.attributes(
        key,
        &[
            AttributeType::Label,
            AttributeType::Id,
            AttributeType::KeyType,
            AttributeType::Sign,
            AttributeType::AlwaysAuthenticate,
        ],
    )?;
    let (mut object, mut kind) = (Object { kind: Kind::Private, label: None, id: None }, None);
    for attribute in told {
        match attribute {
            Attribute::Label(label) => object.label = String::from_utf8(label).ok().filter(|l| !l.is_empty()),
            Attribute::Id(id) => object.id = Some(id).filter(|id| !id.is_empty()),
            Attribute::KeyType(key_type) => kind = Some(key_type),
            Attribute::Sign(false) => return Err(unsupported("the key may not sign").into()),
            Attribute::AlwaysAuthenticate(true) => {
                return Err(unsupported("the key asks for the PIN at every signature").into());
            }
            _ => {}
        }
    }
    match kind {
        Some(KeyType::RSA) => {
            let (modulus, exponent) = rsa_parts(open, &object, key)?;
            let bits = modulus.iter().position(|b| *b != 0).map_or(0, |zeros| (modulus.len() - zeros) * 8);
            let spec = match bits {
                2048 => KeySpec::Rsa2048,
                3072 => KeySpec::Rsa3072,
                4096 => KeySpec::Rsa4096,
                _ => return Err(unsupported(format!("an RSA key of {bits} bits")).into()),
            };
            Ok((object, spec, der::rsa_public_key(&modulus, &exponent)))
        }
        Some(KeyType::EC | KeyType::EC_EDWARDS) => {
            let (curve, point) = ec_parts(open, &object, key)?;
            let (spec, length) = match &curve[..] {
                der::P256 => (KeySpec::EcP256, 65),
                der::P384 => (KeySpec::EcP384, 97),
                // By object identifier, or by the name that PKCS #11 3.0 gives it.
                der::ED25519 | b"\x13\x0cedwards25519" => (KeySpec::Ed25519, 32),
                _ => return Err(unsupported(format!("the curve {}", hex::encode(&curve))).into()),
            };
            // The standard wants the point inside an OCTET STRING; some tokens give it bare.
            let point = der::octet_string(&point).unwrap_or(&point);
            if point.len() != length {
                return Err(device("the token told a public key of another length than its curve has").into());
            }
            let public = match spec {
                KeySpec::Ed25519 => der::ed25519_public_key(point),
                _ => der::ec_public_key(&curve, point),
            };
            Ok((object, spec, public))
        }
        _ => Err(unsupported("a signing key that is neither RSA nor on an elliptic curve").into()),
    }
}

/// The attributes of the public key: from the private one where it tells them, else from its public object.
fn public_attributes(
    open: &mut Open,
    object: &Object,
    private: ObjectHandle,
    wanted: &[AttributeType],
) -> Result<Vec<Attribute>, Failure> {
    let has_all = |told: &[Attribute]| {
        wanted.iter().all(|want| told.iter().any(|a| a.attribute_type() == *want && !is_empty(a)))
    };
    let told = open.attributes(private, wanted)?;
    if has_all(&told) {
        return Ok(told);
    }
    let public = Object { kind: Kind::Public, ..object.clone() };
    for handle in open.find(&public)? {
        let told = open.attributes(handle, wanted)?;
        if has_all(&told) {
            return Ok(told);
        }
    }
    Err(not_found("the token has no public key beside the private one").into())
}

fn is_empty(attribute: &Attribute) -> bool {
    match attribute {
        Attribute::EcPoint(bytes) | Attribute::EcParams(bytes) => bytes.is_empty(),
        Attribute::Modulus(bytes) | Attribute::PublicExponent(bytes) => bytes.is_empty(),
        _ => false,
    }
}

fn rsa_parts(open: &mut Open, object: &Object, key: ObjectHandle) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (mut modulus, mut exponent) = (Vec::new(), Vec::new());
    let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
    for attribute in public_attributes(open, object, key, &wanted)? {
        match attribute {
            Attribute::Modulus(bytes) => modulus = bytes,
            Attribute::PublicExponent(bytes) => exponent = bytes,
            _ => {}
        }
    }
    Ok((modulus, exponent))
}

fn ec_parts(open: &mut Open, object: &Object, key: ObjectHandle) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (mut curve, mut point) = (Vec::new(), Vec::new());
    let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
    for attribute in public_attributes(open, object, key, &wanted)? {
        match attribute {
            Attribute::EcParams(bytes) => curve = bytes,
            Attribute::EcPoint(bytes) => point = bytes,
            _ => {}
        }
    }
    Ok((curve, point))
}

/// The public half of an RSA key as `SubjectPublicKeyInfo`.
pub(super) fn rsa_public_key(
    open: &mut Open,
    object: &Object,
    key: ObjectHandle,
) -> Result<Vec<u8>, Failure> {
    let (modulus, exponent) = rsa_parts(open, object, key)?;
    Ok(der::rsa_public_key(&modulus, &exponent))
}

// ---------------------------------------------------------------- signatures

/// The schemes of the keys that the token can make and sign with.
pub(super) fn schemes(abilities: &Abilities) -> Vec<SignatureScheme> {
    let all = [
        (SignatureScheme::EcdsaSha256, MechanismType::ECC_KEY_PAIR_GEN),
        (SignatureScheme::EcdsaSha384, MechanismType::ECC_KEY_PAIR_GEN),
        (SignatureScheme::RsaPkcs1Sha256, MechanismType::RSA_PKCS_KEY_PAIR_GEN),
        (SignatureScheme::RsaPkcs1Sha384, MechanismType::RSA_PKCS_KEY_PAIR_GEN),
        (SignatureScheme::RsaPssSha256, MechanismType::RSA_PKCS_KEY_PAIR_GEN),
        (SignatureScheme::Ed25519, MechanismType::ECC_EDWARDS_KEY_PAIR_GEN),
    ];
    let made = |generate| abilities.can(Need::GeneratePair(generate));
    all.into_iter()
        .filter(|(scheme, generate)| {
            made(*generate) && ways(*scheme).iter().any(|w| abilities.can(Need::Sign(w.0)))
        })
        .map(|(scheme, _)| scheme)
        .collect()
}

/// What a token is given to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// The message; the mechanism hashes.
    Message,
    /// Its hash.
    Hash,
    /// Its hash as a `DigestInfo` (RFC 8017, 9.2).
    DigestInfo,
}

/// The mechanisms that make such a signature. Where there are two, the one that hashes in here comes first for
/// ECDSA, which every token has, and last for RSA.
fn ways(scheme: SignatureScheme) -> &'static [(MechanismType, Input)] {
    match scheme {
        SignatureScheme::EcdsaSha256 => {
            &[(MechanismType::ECDSA, Input::Hash), (MechanismType::ECDSA_SHA256, Input::Message)]
        }
        SignatureScheme::EcdsaSha384 => {
            &[(MechanismType::ECDSA, Input::Hash), (MechanismType::ECDSA_SHA384, Input::Message)]
        }
        SignatureScheme::RsaPkcs1Sha256 => {
            &[(MechanismType::SHA256_RSA_PKCS, Input::Message), (MechanismType::RSA_PKCS, Input::DigestInfo)]
        }
        SignatureScheme::RsaPkcs1Sha384 => {
            &[(MechanismType::SHA384_RSA_PKCS, Input::Message), (MechanismType::RSA_PKCS, Input::DigestInfo)]
        }
        SignatureScheme::RsaPssSha256 => &[
            (MechanismType::SHA256_RSA_PKCS_PSS, Input::Message),
            (MechanismType::RSA_PKCS_PSS, Input::Hash),
        ],
        SignatureScheme::Ed25519 => &[(MechanismType::EDDSA, Input::Message)],
        _ => &[],
    }
}

fn mechanism(of: MechanismType) -> Result<Mechanism<'static>, KmsError> {
    let pss =
        PkcsPssParams { hash_alg: MechanismType::SHA256, mgf: PkcsMgfType::MGF1_SHA256, s_len: 32.into() };
    Ok(match of {
        MechanismType::ECDSA => Mechanism::Ecdsa,
        MechanismType::ECDSA_SHA256 => Mechanism::EcdsaSha256,
        MechanismType::ECDSA_SHA384 => Mechanism::EcdsaSha384,
        MechanismType::RSA_PKCS => Mechanism::RsaPkcs,
        MechanismType::SHA256_RSA_PKCS => Mechanism::Sha256RsaPkcs,
        MechanismType::SHA384_RSA_PKCS => Mechanism::Sha384RsaPkcs,
        MechanismType::RSA_PKCS_PSS => Mechanism::RsaPkcsPss(pss),
        MechanismType::SHA256_RSA_PKCS_PSS => Mechanism::Sha256RsaPkcsPss(pss),
        MechanismType::EDDSA => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)),
        _ => return Err(unsupported("a mechanism that does not sign")),
    })
}

const DIGEST_INFO_SHA256: &[u8] =
    b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
const DIGEST_INFO_SHA384: &[u8] =
    b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30";

fn sign(
    open: &mut Open,
    object: &Object,
    scheme: SignatureScheme,
    message: &[u8],
) -> Result<Vec<u8>, Failure> {
    let Some((of, input)) = ways(scheme).iter().find(|(of, _)| open.abilities.can(Need::Sign(*of))) else {
        let needs: Vec<_> = ways(scheme).iter().map(|(of, _)| Need::Sign(*of)).collect();
        let lacks = open.abilities.lacks(&needs).join(" and ");
        return Err(unsupported(format!("this token lacks {lacks} for {scheme:?}")).into());
    };
    let handle = open.handle(object)?.ok_or_else(|| {
        let label = object.label.as_deref().unwrap_or("without label");
        not_found(format!("the signing key {label:?} is no longer in the token"))
    })?;
    let (hash, prefix) = match scheme {
        SignatureScheme::EcdsaSha384 | SignatureScheme::RsaPkcs1Sha384 => (&SHA384, DIGEST_INFO_SHA384),
        _ => (&SHA256, DIGEST_INFO_SHA256),
    };
    let input = match input {
        Input::Message => message.to_vec(),
        Input::Hash => digest(hash, message).as_ref().to_vec(),
        Input::DigestInfo => [prefix, digest(hash, message).as_ref()].concat(),
    };
    let raw = open.session.sign(&mechanism(*of)?, handle, &input)?;
    match scheme {
        SignatureScheme::EcdsaSha256 | SignatureScheme::EcdsaSha384 => {
            Ok(der::ecdsa_signature(&raw).ok_or_else(|| device("the token gave half an ECDSA signature"))?)
        }
        _ => Ok(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::PROVIDER, *};

    #[test]
    fn a_key_is_referred_to_by_label_or_id() {
        assert_eq!(parse("ca").unwrap().label.as_deref(), Some("ca"));
        assert_eq!(parse("label:id:x").unwrap().label.as_deref(), Some("id:x"));
        assert_eq!(parse("id:00ff").unwrap().id, Some(vec![0, 255]));
        for bad in ["", "label:", "id:", "id:xy"] {
            assert!(matches!(parse(bad), Err(KmsError::Invalid { provider: PROVIDER, .. })), "{bad}");
        }
    }
}
