use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use aws_lc_rs::{
    digest::{Context as Digest, SHA256},
    rand,
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
    PROVIDER, Pkcs11Config,
    error::{Failure, device, invalid, not_found, unsupported},
    session::{Kind, Need, Object, Open, Shared, Worker, check_made, open_module},
    sign,
};
use crate::{
    Attestation, Context, Description, Health, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey, SigningKey,
    WrappedKey, device::Pool, wrapped,
};

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
    fn uses(self) -> &'static [Need] {
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
    fn makes(self) -> &'static [Need] {
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

/// A root key in the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// Its `CKA_ID`.
    id: Vec<u8>,
    wrapping: Wrapping,
    extractable: bool,
    schemes: Vec<crate::SignatureScheme>,
}

/// Wraps under a root key in a PKCS #11 token, and refers to signing keys there.
pub struct Pkcs11Provider {
    shared: Arc<Shared>,
    pool: Arc<Pool<Worker>>,
}

impl Pkcs11Provider {
    /// A provider that has opened the module but not yet spoken to the token: that happens at the first call, so
    /// that a token that is away for a while is not fatal.
    ///
    /// # Errors
    /// [`KmsError::Device`] if the module cannot be opened or started.
    pub fn new(config: Pkcs11Config) -> Result<Self, KmsError> {
        let module = open_module(&config.module)?;
        let (threads, queue, deadline) = (config.sessions, config.queue, config.deadline);
        let shared = Arc::new(Shared { config, module, root: Default::default() });
        let for_threads = Arc::clone(&shared);
        let pool =
            Pool::start(PROVIDER, threads, queue, deadline, move || Worker::new(Arc::clone(&for_threads)))?;
        Ok(Self { shared, pool: Arc::new(pool) })
    }

    /// A provider whose token has answered and has the root key.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`KmsError::Unavailable`] if there is no such token, [`KmsError::Denied`] if it
    /// refuses the PIN, [`KmsError::NotFound`] if it has no such key (and none is made),
    /// [`KmsError::Unsupported`] if it lacks the mechanisms for it.
    pub async fn connect(config: Pkcs11Config) -> Result<Self, KmsError> {
        let provider = Self::new(config)?;
        provider.pool.call(|worker| worker.run("looking up the root key", refresh)).await?;
        Ok(provider)
    }

    fn wrapped(&self, root: &Root, blob: Vec<u8>) -> WrappedKey {
        WrappedKey {
            provider: PROVIDER.to_owned(),
            key_id: self.shared.config.key_label.clone(),
            key_version: Some(hex::encode(&root.id)),
            algorithm: root.wrapping.as_str().to_owned(),
            blob,
        }
    }

    /// Checks what can be checked without the token.
    fn parse(&self, wrapped: &WrappedKey) -> Result<(Vec<u8>, Wrapping), KmsError> {
        if wrapped.provider != PROVIDER {
            return Err(invalid(format!("the key was wrapped by provider {:?}", wrapped.provider)));
        }
        if wrapped.key_id != self.shared.config.key_label {
            return Err(not_found(format!(
                "it was wrapped under root key {:?}, but this provider uses {:?}",
                wrapped.key_id, self.shared.config.key_label
            )));
        }
        let id = wrapped.key_version.as_deref().and_then(|version| hex::decode(version).ok());
        let id = id.ok_or_else(|| invalid("the version of the root key is not hexadecimal"))?;
        let wrapping = Wrapping::ALL.iter().copied().find(|w| w.as_str() == wrapped.algorithm);
        let wrapping =
            wrapping.ok_or_else(|| invalid(format!("unknown algorithm {:?}", wrapped.algorithm)))?;
        Ok((id, wrapping))
    }
}

impl std::fmt::Debug for Pkcs11Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pkcs11Provider")
            .field("token", &self.shared.config.token)
            .field("key_id", &self.shared.config.key_label)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyProvider for Pkcs11Provider {
    /// Until the token has answered once, `algorithm` says that it is not chosen, `extractable` is pessimistic and
    /// there are no signature schemes.
    fn describe(&self) -> Description {
        let root = self.shared.root();
        Description {
            provider: PROVIDER,
            key_id: self.shared.config.key_label.clone(),
            key_version: root.as_ref().map(|root| hex::encode(&root.id)),
            algorithm: root.as_ref().map_or("chosen by the token", |root| root.wrapping.as_str()).to_owned(),
            native_context: root.as_ref().is_some_and(|root| root.wrapping == Wrapping::AesGcm),
            key_bits: root.as_ref().filter(|root| root.wrapping != Wrapping::RsaOaep).map(|_| 256),
            extractable: root.as_ref().is_none_or(|root| root.extractable),
            attestation: match &root {
                Some(root) if !root.extractable => Attestation::Device,
                _ => Attestation::Service,
            },
            signature_schemes: root.map(|root| root.schemes).unwrap_or_default(),
        }
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        let (key, context) = (Zeroizing::new(*key.expose()), context.to_aad());
        let (root, blob) = self
            .pool
            .call(move |worker| {
                worker.run("wrapping a key", |open| {
                    let root = current(open)?;
                    let blob = wrap(open, &root, &key, &context)?;
                    Ok((root, blob))
                })
            })
            .await?;
        Ok(self.wrapped(&root, blob))
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        let (id, wrapping) = self.parse(wrapped)?;
        let (blob, context) = (wrapped.blob.clone(), context.to_aad());
        self.pool
            .call(move |worker| {
                worker.run("unwrapping a key", |open| {
                    for need in wrapping.uses() {
                        if !open.abilities.has(*need) {
                            let how = wrapping.as_str();
                            return Err(unsupported(format!(
                                "this token lacks {need}, and the key was wrapped by {how}"
                            ))
                            .into());
                        }
                    }
                    unwrap(open, wrapping, &id, &blob, &context)
                })
            })
            .await
    }

    async fn health(&self) -> Result<Health, KmsError> {
        let start = Instant::now();
        self.pool
            .call(|worker| {
                worker.run("the self-test", |open| {
                    let root = refresh(open)?;
                    self_test(open, root.wrapping, &root.id)
                })
            })
            .await?;
        Ok(Health { latency: start.elapsed() })
    }

    /// Makes the first root key inside the token, for the best [`Wrapping`] that the token can;
    /// [`KmsError::Unsupported`], with what the token lacks, if it can none of the four.
    async fn create_root(&self) -> Result<Description, KmsError> {
        self.pool
            .call(|worker| {
                worker.run_once("making the root key", |open| {
                    if root_keys(open)?.is_empty() {
                        return make_root(open, 1);
                    }
                    let label = &open.shared.config.key_label;
                    let told = format!("root key {label:?} exists already; it is not overwritten");
                    Err(invalid(told).into())
                })
            })
            .await?;
        Ok(self.describe())
    }

    /// Makes the next version of the root key in the token, for the best [`Wrapping`] that it can now. Older
    /// versions stay and open what they wrapped; other processes wrap under the new one from their next health
    /// check.
    async fn rotate(&self) -> Result<Description, KmsError> {
        self.pool
            .call(|worker| {
                worker.run_once("rotating the root key", |open| {
                    let keys = root_keys(open)?;
                    if keys.is_empty() {
                        return Err(no_root(open).into());
                    }
                    let last = keys.iter().filter_map(|key| version_of(&key.id)).max().unwrap_or(0);
                    make_root(open, last.saturating_add(1))
                })
            })
            .await?;
        Ok(self.describe())
    }

    async fn create_signing_key(&self, name: &str, spec: KeySpec) -> Result<Arc<dyn SigningKey>, KmsError> {
        sign::create(&self.pool, name, spec).await
    }

    async fn signing_key(&self, key: &KeyRef) -> Result<Arc<dyn SigningKey>, KmsError> {
        sign::refer(&self.pool, key).await
    }
}

// ---------------------------------------------------------------- which root key

/// The `CKA_ID` of a key of ours: this, its version as four big-endian bytes, eight random bytes.
const ID_PREFIX: &[u8; 4] = b"SVK1";

fn version_of(id: &[u8]) -> Option<u32> {
    let rest = id.strip_prefix(ID_PREFIX)?;
    (rest.len() == 12).then(|| u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]))
}

/// A key that carries the label of the root key, as the token describes it.
struct Candidate {
    id: Vec<u8>,
    kind: Kind,
    told: Vec<Attribute>,
}

impl Candidate {
    fn may(&self, uses: &[Attribute]) -> bool {
        uses.iter().all(|usage| self.told.contains(usage))
    }
}

fn root_keys(open: &Open) -> Result<Vec<Candidate>, Failure> {
    let mut found = Vec::new();
    for kind in [Kind::Secret, Kind::Private] {
        let wanted = Object {
            kind,
            label: Some(open.shared.config.key_label.clone()),
            id: open.shared.config.key_id.clone(),
        };
        for handle in open.find(&wanted)? {
            let told = open.attributes(
                handle,
                &[
                    AttributeType::Id,
                    AttributeType::KeyType,
                    AttributeType::Encrypt,
                    AttributeType::Decrypt,
                    AttributeType::Wrap,
                    AttributeType::Unwrap,
                    AttributeType::Sensitive,
                    AttributeType::Extractable,
                    AttributeType::ValueLen,
                ],
            )?;
            let id = told.iter().find_map(|a| match a {
                Attribute::Id(id) => Some(id.clone()),
                _ => None,
            });
            found.push(Candidate { id: id.unwrap_or_default(), kind, told });
        }
    }
    Ok(found)
}

fn no_root(open: &Open) -> KmsError {
    let config = &open.shared.config;
    not_found(format!("no root key {:?} in the token with {}; none was made", config.key_label, config.token))
}

/// The root key that wraps: the one that is known, or else the newest that the token has.
fn current(open: &mut Open) -> Result<Root, Failure> {
    match open.shared.root() {
        Some(root) => Ok(root),
        None => refresh(open),
    }
}

/// Asks the token which root key wraps, and remembers it.
fn refresh(open: &mut Open) -> Result<Root, Failure> {
    let keys = root_keys(open)?;
    let newest = match &keys[..] {
        [] => return Err(no_root(open).into()),
        [only] => only,
        // Keys made by two processes at once have one version; every process takes the same of the two.
        several => match several.iter().max_by_key(|key| (version_of(&key.id), key.id.clone())) {
            Some(newest) if version_of(&newest.id).is_some() => newest,
            _ => {
                let label = &open.shared.config.key_label;
                return Err(
                    invalid(format!("more than one key labelled {label:?}: name one by its id")).into()
                );
            }
        },
    };
    let root = choose(open, newest)?;
    open.shared.set_root(&root);
    Ok(root)
}

/// How a key that exists is to be used: by what it may do and what the token can.
fn choose(open: &mut Open, key: &Candidate) -> Result<Root, Failure> {
    let crypt = key.may(&[Attribute::Encrypt(true), Attribute::Decrypt(true)]);
    let wrap = key.may(&[Attribute::Wrap(true), Attribute::Unwrap(true)]);
    let short = key.told.iter().any(|a| matches!(a, Attribute::ValueLen(len) if usize::from(*len) != KEY));
    let aes = key.told.contains(&Attribute::KeyType(KeyType::AES)) && !short;
    let rsa = key.told.contains(&Attribute::KeyType(KeyType::RSA)) && key.may(&[Attribute::Decrypt(true)]);
    let fitting: &[Wrapping] = match key.kind {
        Kind::Secret if aes && open.handle(&partner(open, Kind::Secret, &key.id))?.is_some() => {
            &[Wrapping::AesCbcHmac]
        }
        Kind::Secret if aes && crypt && wrap => &[Wrapping::AesGcm, Wrapping::AesKeyWrapPad],
        Kind::Secret if aes && crypt => &[Wrapping::AesGcm],
        Kind::Secret if aes && wrap => &[Wrapping::AesKeyWrapPad],
        Kind::Private if rsa => &[Wrapping::RsaOaep],
        _ => &[],
    };
    let label = &open.shared.config.key_label;
    let Some(wrapping) = fitting.iter().copied().find(|w| open.abilities.lacks(w.uses()).is_empty()) else {
        let lacks: Vec<_> = fitting.iter().flat_map(|w| open.abilities.lacks(w.uses())).collect();
        let why = if lacks.is_empty() {
            "it is neither an AES key of 256 bits nor an RSA key, or may neither encrypt and decrypt nor wrap and unwrap".to_owned()
        } else {
            format!("this token lacks {}; rotating makes a version for what it can", lacks.join(" and "))
        };
        return Err(unsupported(format!("root key {label:?} cannot wrap: {why}")).into());
    };
    let hidden = key.may(&[Attribute::Sensitive(true), Attribute::Extractable(false)]);
    let schemes = sign::schemes(&open.abilities);
    Ok(Root { id: key.id.clone(), wrapping, extractable: !hidden, schemes })
}

fn main_key(open: &Open, wrapping: Wrapping, id: &[u8]) -> Object {
    let kind = if wrapping == Wrapping::RsaOaep { Kind::Private } else { Kind::Secret };
    Object { kind, label: Some(open.shared.config.key_label.clone()), id: Some(id.to_vec()) }
}

/// The key that authenticates what the root key with this id encrypts.
fn partner(open: &Open, kind: Kind, id: &[u8]) -> Object {
    Object { kind, label: Some(partner_label(open)), id: Some(id.to_vec()) }
}

fn partner_label(open: &Open) -> String {
    format!("{}/mac", open.shared.config.key_label)
}

// ---------------------------------------------------------------- making one

fn make_root(open: &mut Open, version: u32) -> Result<(), Failure> {
    let needs = |w: Wrapping| [w.makes(), w.uses()].concat();
    let lacks: Vec<_> = Wrapping::ALL.iter().map(|w| (*w, open.abilities.lacks(&needs(*w)))).collect();
    let mut failed = Vec::new();
    for (wrapping, _) in lacks.iter().filter(|(_, lacks)| lacks.is_empty()) {
        let mut id = [&ID_PREFIX[..], &version.to_be_bytes(), &[0; 8]].concat();
        fill(&mut id[8..])?;
        match make_root_for(open, *wrapping, &id) {
            Ok(()) => {
                let schemes = sign::schemes(&open.abilities);
                open.shared.set_root(&Root { id, wrapping: *wrapping, extractable: false, schemes });
                return Ok(());
            }
            Err(failure) => {
                // Nothing was ever wrapped under what has this id, and nobody knows of it.
                if let Ok(session) = open.read_write() {
                    for made in session.find_objects(&[Attribute::Id(id)]).unwrap_or_default() {
                        drop(session.destroy_object(made));
                    }
                }
                if failure.asks_for_a_new_session() {
                    return Err(failure);
                }
                match failure.into_kms(wrapping.as_str()) {
                    error @ (KmsError::Unavailable { .. } | KmsError::Denied { .. }) => {
                        return Err(error.into());
                    }
                    error => failed.push(error.to_string()),
                }
            }
        }
    }
    // A token may tell of a mechanism that it then does not keep to; then the next way was tried.
    let lacks = lacks.iter().filter(|(_, lacks)| !lacks.is_empty());
    let lacks = lacks.map(|(w, lacks)| format!("{} for {}", lacks.join(" and "), w.as_str()));
    let lacks = lacks.chain(failed.into_iter().map(|failed| format!("what it tells of ({failed})")));
    Err(unsupported(format!("this token lacks {}", lacks.collect::<Vec<_>>().join("; "))).into())
}

/// Makes the keys of one way of wrapping, and looks that it works.
fn make_root_for(open: &mut Open, wrapping: Wrapping, id: &[u8]) -> Result<(), Failure> {
    let label = open.shared.config.key_label.clone();
    // The partner first: a root key that is there is complete.
    match wrapping {
        Wrapping::AesGcm => secret_key(open, &label, id, AES, Use::Crypt)?,
        Wrapping::AesKeyWrapPad => secret_key(open, &label, id, AES, Use::Wrap)?,
        Wrapping::AesCbcHmac => {
            secret_key(open, &partner_label(open), id, GENERIC, Use::Sign)?;
            secret_key(open, &label, id, AES, Use::Crypt)?;
        }
        Wrapping::RsaOaep => {
            rsa_pair(open, &partner_label(open), id, Use::Sign)?;
            rsa_pair(open, &label, id, Use::Crypt)?;
        }
    }
    self_test(open, wrapping, id)
}

const AES: (Mechanism<'static>, KeyType) = (Mechanism::AesKeyGen, KeyType::AES);
const GENERIC: (Mechanism<'static>, KeyType) = (Mechanism::GenericSecretKeyGen, KeyType::GENERIC_SECRET);

fn secret_key(
    open: &Open,
    label: &str,
    id: &[u8],
    (mechanism, key_type): (Mechanism<'_>, KeyType),
    usage: Use,
) -> Result<(), Failure> {
    let mut template = hidden(label, id, usage);
    template.extend([Attribute::KeyType(key_type), Attribute::ValueLen(32.into())]);
    template.extend([
        Attribute::Encrypt(usage == Use::Crypt),
        Attribute::Wrap(usage == Use::Wrap),
        Attribute::Verify(usage == Use::Sign),
    ]);
    let session = open.read_write()?;
    let key = session.generate_key(&mechanism, &template)?;
    check_made(open, key, "the root key").inspect_err(|_| drop(session.destroy_object(key)))
}

fn rsa_pair(open: &Open, label: &str, id: &[u8], usage: Use) -> Result<(), Failure> {
    let public = [
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
        Attribute::ModulusBits(3072.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Encrypt(usage == Use::Crypt),
        Attribute::Wrap(false),
        Attribute::Verify(usage == Use::Sign),
    ];
    let private = hidden(label, id, usage);
    let session = open.read_write()?;
    let (public, key) = session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)?;
    check_made(open, key, "the root key").inspect_err(|_| {
        drop(session.destroy_object(key));
        drop(session.destroy_object(public));
    })
}

/// What a key is for; it is for nothing else, which is said too, because tokens differ in what they take for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Crypt,
    Wrap,
    Sign,
}

/// What every private or secret key of ours is: kept in the token, never to be read, and for one use.
pub(super) fn hidden(label: &str, id: &[u8], usage: Use) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
        Attribute::Decrypt(usage == Use::Crypt),
        Attribute::Unwrap(usage == Use::Wrap),
        Attribute::Sign(usage == Use::Sign),
        Attribute::Derive(false),
    ]
}

pub(super) fn fill(bytes: &mut [u8]) -> Result<(), KmsError> {
    rand::fill(bytes).map_err(|_| device("the random number generator failed"))
}

// ---------------------------------------------------------------- wrapping and unwrapping

const NONCE: usize = 12;
const BLOCK: usize = 16;
const KEY: usize = SecretKey::LEN;
const HASH: usize = 32;
/// RFC 5649 adds eight bytes.
const KWP: usize = BLOCK + KEY + HASH + 8;

fn wrap(open: &mut Open, root: &Root, key: &[u8; KEY], context: &[u8]) -> Result<Vec<u8>, Failure> {
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

fn unwrap(
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
fn self_test(open: &mut Open, wrapping: Wrapping, id: &[u8]) -> Result<(), Failure> {
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
