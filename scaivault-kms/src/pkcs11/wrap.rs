//! How keys are wrapped in a token, and opened again.

use aws_lc_rs::{
    digest::{Context as Digest, SHA256},
    rsa::{
        OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey,
        PublicEncryptingKey,
    },
    signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256},
};
use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        aead::GcmParams,
        rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    error::{Failure, device, invalid, not_found, unsupported},
    provider::{Root, fill, main_key, partner, partner_label},
    session::{Kind, Need, Open},
    sign,
};
use crate::{Context, KmsError, SecretKey, wrapped};

/// How a 32-byte key is wrapped in a token. The first that the token can is chosen for a new root key, in this
/// order, and each root key keeps to its own, so that what was wrapped opens after the choice would be another.
///
/// Below, `context` is [`Context::to_aad`] and `‖` puts bytes one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// AES-256-GCM with the context as additional data. Blob: nonce (12) ‖ ciphertext ‖ tag (16).
    AesGcm,
    /// AES key wrap with padding (RFC 5649) of nonce (16) ‖ key ‖ SHA-256(domain ‖ nonce ‖ context): the mechanism
    /// has no additional data but opens to nothing once a bit is changed, so what is inside can be trusted and the
    /// hash is compared with that of the context in constant time. The nonce makes every wrap another.
    AesKeyWrapPad,
    /// AES-256-CBC without padding, then HMAC-SHA-256 by a second key in the token over domain ‖ length of context ‖
    /// context ‖ IV ‖ ciphertext, compared in constant time before anything is decrypted.
    /// Blob: IV (16) ‖ ciphertext (32) ‖ HMAC (32).
    AesCbcHmac,
    /// RSA-OAEP with a 3072-bit key, encrypted outside by its public half, then an RSA signature (PKCS #1 v1.5,
    /// SHA-256) by a second key in the token over domain ‖ length of context ‖ context ‖ hash ‖ ciphertext: without
    /// it anybody with the public key could make wraps. Blob: hash (1: SHA-1, 2: SHA-256) ‖ ciphertext ‖ signature.
    RsaOaep,
}

impl Wrapping {
    /// Every way, the one that is preferred first.
    pub const ALL: &[Self] = &[Self::AesGcm, Self::AesKeyWrapPad, Self::AesCbcHmac, Self::RsaOaep];

    /// The name that is recorded in a wrap.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AesGcm => "AES-256-GCM",
            Self::AesKeyWrapPad => "AES-256-KWP",
            Self::AesCbcHmac => "AES-256-CBC+HMAC-SHA-256",
            Self::RsaOaep => "RSA-OAEP+RSASSA-PKCS1-SHA-256",
        }
    }

    /// What using a key takes.
    pub(super) fn uses(self) -> &'static [Need] {
        match self {
            Self::AesGcm => &[Need::Encrypt(MechanismType::AES_GCM)],
            Self::AesKeyWrapPad => &[Need::Wrap(MechanismType::AES_KEY_WRAP_PAD)],
            Self::AesCbcHmac => {
                &[Need::Encrypt(MechanismType::AES_CBC), Need::Sign(MechanismType::SHA256_HMAC)]
            }
            Self::RsaOaep => {
                &[Need::Decrypt(MechanismType::RSA_PKCS_OAEP), Need::Sign(MechanismType::SHA256_RSA_PKCS)]
            }
        }
    }

    /// What making a key takes beyond that.
    pub(super) fn makes(self) -> &'static [Need] {
        match self {
            Self::AesGcm | Self::AesKeyWrapPad => &[Need::Generate(MechanismType::AES_KEY_GEN)],
            Self::AesCbcHmac => &[
                Need::Generate(MechanismType::AES_KEY_GEN),
                Need::Generate(MechanismType::GENERIC_SECRET_KEY_GEN),
            ],
            Self::RsaOaep => &[Need::GeneratePair(MechanismType::RSA_PKCS_KEY_PAIR_GEN)],
        }
    }
}

const NONCE: usize = 12;
const BLOCK: usize = 16;
pub(super) const KEY: usize = SecretKey::LEN;
const HASH: usize = 32;
/// RFC 5649 adds eight bytes.
const KWP: usize = BLOCK + KEY + HASH + 8;

pub(super) fn wrap(
    open: &mut Open,
    root: &Root,
    key: &[u8; KEY],
    context: &[u8],
) -> Result<Vec<u8>, Failure> {
    let main = main_key(open, root.wrapping, &root.id);
    let handle = open.handle(&main)?.ok_or_else(|| gone(open, &root.id))?;
    match root.wrapping {
        Wrapping::AesGcm => {
            let mut nonce = [0; NONCE];
            fill(&mut nonce)?;
            let mechanism = Mechanism::AesGcm(GcmParams::new(&mut nonce, context, 128.into())?);
            let sealed = open.session.encrypt(&mechanism, handle, key)?;
            drop(mechanism);
            // Read after the call: a token may insist on a nonce of its own and write it there.
            Ok([&nonce[..], &sealed].concat())
        }
        Wrapping::AesKeyWrapPad => {
            let mut nonce = [0; BLOCK];
            fill(&mut nonce)?;
            let payload = Zeroizing::new([&nonce[..], key, &commitment(&nonce, context)].concat());
            let session_key = session_key(open, &payload)?;
            let sealed = open.session.wrap_key(&Mechanism::AesKeyWrapPad, handle, session_key);
            drop(open.session.destroy_object(session_key));
            Ok(sealed?)
        }
        Wrapping::AesCbcHmac => {
            let mut iv = [0; BLOCK];
            fill(&mut iv)?;
            let sealed = open.session.encrypt(&Mechanism::AesCbc(iv), handle, key)?;
            let mac_key = partner_handle(open, Kind::Secret, &root.id)?;
            let message = authenticated(root.wrapping, context, &[&iv, &sealed]);
            let mac = open.session.sign(&Mechanism::Sha256Hmac, mac_key, &message)?;
            Ok([&iv[..], &sealed, &mac].concat())
        }
        Wrapping::RsaOaep => {
            let public = sign::rsa_public_key(open, &main, handle)?;
            let hash = oaep_hash(open, handle, &public)?;
            let sealed = oaep_encrypt(&public, hash, key)?;
            let signer = partner_handle(open, Kind::Private, &root.id)?;
            let message = authenticated(root.wrapping, context, &[&[hash], &sealed]);
            let signature = open.session.sign(&Mechanism::Sha256RsaPkcs, signer, &message)?;
            Ok([&[hash][..], &sealed, &signature].concat())
        }
    }
}

pub(super) fn unwrap(
    open: &mut Open,
    wrapping: Wrapping,
    id: &[u8],
    blob: &[u8],
    context: &[u8],
) -> Result<SecretKey, Failure> {
    let main = main_key(open, wrapping, id);
    let handle = open.handle(&main)?.ok_or_else(|| gone(open, id))?;
    let opened = match wrapping {
        Wrapping::AesGcm => {
            let (nonce, sealed) = blob.split_first_chunk::<NONCE>().ok_or_else(cut)?;
            if sealed.len() != KEY + BLOCK {
                return Err(cut().into());
            }
            let mut nonce = *nonce;
            let mechanism = Mechanism::AesGcm(GcmParams::new(&mut nonce, context, 128.into())?);
            let opened = open.session.decrypt(&mechanism, handle, sealed);
            drop(mechanism);
            opened.map(Zeroizing::new).map_err(|e| judge(open, wrapping, id, e.into()))?
        }
        Wrapping::AesKeyWrapPad => {
            if blob.len() != KWP {
                return Err(cut().into());
            }
            let template = session_key_template(None);
            let opened = open.session.unwrap_key(&Mechanism::AesKeyWrapPad, handle, blob, &template);
            let session_key = opened.map_err(|e| judge(open, wrapping, id, e.into()))?;
            let payload = value(open, session_key);
            drop(open.session.destroy_object(session_key));
            let payload = payload?;
            let (nonce, rest) = payload.split_first_chunk::<BLOCK>().ok_or_else(cut)?;
            let (key, hash) = rest.split_first_chunk::<KEY>().ok_or_else(cut)?;
            if !bool::from(hash.ct_eq(&commitment(nonce, context))) {
                return Err(invalid("it was wrapped under another context").into());
            }
            Zeroizing::new(key.to_vec())
        }
        Wrapping::AesCbcHmac => {
            let (iv, rest) = blob.split_first_chunk::<BLOCK>().ok_or_else(cut)?;
            let (sealed, mac) = rest.split_last_chunk::<HASH>().ok_or_else(cut)?;
            if sealed.len() != KEY {
                return Err(cut().into());
            }
            let mac_key = partner_handle(open, Kind::Secret, id)?;
            let message = authenticated(wrapping, context, &[iv, sealed]);
            let right = open.session.sign(&Mechanism::Sha256Hmac, mac_key, &message)?;
            if !bool::from(right.ct_eq(mac)) {
                return Err(changed().into());
            }
            Zeroizing::new(open.session.decrypt(&Mechanism::AesCbc(*iv), handle, sealed)?)
        }
        Wrapping::RsaOaep => {
            let signer = partner(open, Kind::Private, id);
            let signer_handle = partner_handle(open, Kind::Private, id)?;
            let verifier = sign::rsa_public_key(open, &signer, signer_handle)?;
            let (hash, rest) = blob.split_first_chunk::<1>().ok_or_else(cut)?;
            let (sealed, signature) = rest.split_at(rest.len() / 2);
            let message = authenticated(wrapping, context, &[hash, sealed]);
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &verifier)
                .map_err(|_| device("the token told a public key that is none"))?
                .verify_sig(&message, signature)
                .map_err(|_| changed())?;
            Zeroizing::new(open.session.decrypt(&oaep(hash[0])?.0, handle, sealed)?)
        }
    };
    Ok(SecretKey::from_slice(&opened).ok_or_else(|| invalid("the blob does not hold a 32-byte key"))?)
}

/// Wraps and unwraps a key that nobody needs.
pub(super) fn self_test(open: &mut Open, wrapping: Wrapping, id: &[u8]) -> Result<(), Failure> {
    let (probe, context) = (SecretKey::generate()?, Context::new().with("purpose", "self-test").to_aad());
    let root = Root { id: id.to_vec(), wrapping, extractable: false, schemes: Vec::new() };
    let blob = wrap(open, &root, probe.expose(), &context)?;
    let opened = unwrap(open, wrapping, id, &blob, &context)?;
    if opened.ct_eq(&probe) { Ok(()) } else { Err(device("the self-test gave another key back").into()) }
}

/// Whether the blob or the token is at fault. Where the token's answer leaves it open, the token is asked to open a
/// fresh wrap: if it can, the fault is the blob's.
fn judge(open: &mut Open, wrapping: Wrapping, id: &[u8], failure: Failure) -> Failure {
    match failure.blames_the_data() {
        Some(true) => changed().into(),
        Some(false) if !open.in_self_test => {
            open.in_self_test = true;
            let tested = self_test(open, wrapping, id);
            open.in_self_test = false;
            if tested.is_ok() { changed().into() } else { failure }
        }
        _ => failure,
    }
}

fn changed() -> KmsError {
    invalid("the blob or its context was changed, or another root key made it")
}

fn cut() -> KmsError {
    invalid("the blob is not of the length that its algorithm has")
}

fn gone(open: &Open, id: &[u8]) -> KmsError {
    let label = &open.shared.config.key_label;
    not_found(format!("root key {label:?} has no version {} in this token", hex::encode(id)))
}

fn partner_handle(open: &mut Open, kind: Kind, id: &[u8]) -> Result<ObjectHandle, Failure> {
    let object = partner(open, kind, id);
    let label = partner_label(open);
    Ok(open.handle(&object)?.ok_or_else(|| not_found(format!("no key {label:?} beside the root key")))?)
}

/// SHA-256(domain ‖ nonce ‖ context): 32 bytes that only this context gives.
fn commitment(nonce: &[u8; BLOCK], context: &[u8]) -> [u8; HASH] {
    let mut digest = Digest::new(&SHA256);
    digest.update(b"scaivault/pkcs11/kwp/1");
    digest.update(nonce);
    digest.update(context);
    let mut out = [0; HASH];
    out.copy_from_slice(digest.finish().as_ref());
    out
}

/// What the second key authenticates.
fn authenticated(wrapping: Wrapping, context: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let domain = format!("scaivault/pkcs11/{}/1", wrapping.as_str());
    wrapped::authenticated(&domain, context, parts)
}

fn session_key_template(value: Option<&[u8]>) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    template.extend(value.map(|value| Attribute::Value(value.to_vec())));
    template
}

/// Puts bytes into the token as an object of this session, since a token wraps keys and not bytes.
fn session_key(open: &Open, payload: &[u8]) -> Result<ObjectHandle, Failure> {
    let mut template = session_key_template(Some(payload));
    let made = open.session.create_object(&template);
    if let Some(Attribute::Value(value)) = template.last_mut() {
        value.zeroize();
    }
    Ok(made?)
}

/// The value of an object of this session. The one place where `CKA_VALUE` is read, and never of a key of the token.
fn value(open: &Open, session_key: ObjectHandle) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match open.attributes(session_key, &[AttributeType::Value])?.pop() {
        Some(Attribute::Value(value)) => Ok(Zeroizing::new(value)),
        _ => Err(unsupported("this token does not give back what it unwraps by CKM_AES_KEY_WRAP_PAD").into()),
    }
}

const SHA1_OAEP: u8 = 1;
const SHA256_OAEP: u8 = 2;

fn oaep(hash: u8) -> Result<(Mechanism<'static>, &'static OaepAlgorithm), KmsError> {
    let (digest, mgf, outside) = match hash {
        SHA1_OAEP => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1, &OAEP_SHA1_MGF1SHA1),
        SHA256_OAEP => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, &OAEP_SHA256_MGF1SHA256),
        _ => return Err(invalid("an unknown hash for RSA-OAEP")),
    };
    Ok((PkcsOaepParams::new(digest, mgf, PkcsOaepSource::empty()).into(), outside))
}

fn oaep_encrypt(public: &[u8], hash: u8, key: &[u8]) -> Result<Vec<u8>, KmsError> {
    let failed = |_| device("the token told a public key that cannot encrypt");
    let public = PublicEncryptingKey::from_der(public)
        .map_err(|_| device("the token told a public key that is none"))?;
    let public = OaepPublicEncryptingKey::new(public).map_err(failed)?;
    let mut sealed = vec![0; public.ciphertext_size()];
    let len = public.encrypt(oaep(hash)?.1, key, &mut sealed, None).map_err(failed)?.len();
    sealed.truncate(len);
    Ok(sealed)
}

/// The best hash that this key's token takes for OAEP; many know SHA-1 alone, and none says so when asked.
fn oaep_hash(open: &mut Open, key: ObjectHandle, public: &[u8]) -> Result<u8, Failure> {
    if let Some(hash) = open.oaep_hash {
        return Ok(hash);
    }
    let mut last = None;
    for hash in [SHA256_OAEP, SHA1_OAEP] {
        let sealed = oaep_encrypt(public, hash, &[0; KEY])?;
        match open.session.decrypt(&oaep(hash)?.0, key, &sealed) {
            Ok(opened) if opened == [0; KEY] => {
                open.oaep_hash = Some(hash);
                return Ok(hash);
            }
            Ok(_) => {}
            Err(error) => {
                let failure = Failure::from(error);
                if failure.asks_for_a_new_session() {
                    return Err(failure);
                }
                last = Some(failure);
            }
        }
    }
    Err(last.unwrap_or_else(|| device("this token decrypts RSA-OAEP to other bytes").into()))
}
