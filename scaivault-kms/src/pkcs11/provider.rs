//! A token as a provider: its root keys, how they are found and made.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use aws_lc_rs::rand;
use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType},
};
use zeroize::Zeroizing;

use super::{
    PROVIDER, Pkcs11Config,
    error::{Failure, device, invalid, not_found, unsupported},
    session::{Kind, Object, Open, Shared, Worker, check_made, open_module},
    sign,
    wrap::{KEY, Wrapping, self_test, unwrap, wrap},
};
use crate::{
    Attestation, Context, Description, Health, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey, SigningKey,
    WrappedKey, device::Pool,
};

/// A root key in the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// Its `CKA_ID`.
    pub(super) id: Vec<u8>,
    pub(super) wrapping: Wrapping,
    pub(super) extractable: bool,
    pub(super) schemes: Vec<crate::SignatureScheme>,
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

pub(super) fn main_key(open: &Open, wrapping: Wrapping, id: &[u8]) -> Object {
    let kind = if wrapping == Wrapping::RsaOaep { Kind::Private } else { Kind::Secret };
    Object { kind, label: Some(open.shared.config.key_label.clone()), id: Some(id.to_vec()) }
}

/// The key that authenticates what the root key with this id encrypts.
pub(super) fn partner(open: &Open, kind: Kind, id: &[u8]) -> Object {
    Object { kind, label: Some(partner_label(open)), id: Some(id.to_vec()) }
}

pub(super) fn partner_label(open: &Open) -> String {
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
