use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest::{SHA256, digest},
    error::Unspecified,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    AzureConfig, PROVIDER,
    config::{KeyUrl, check_version, reference},
    error::{disabled, invalid, not_found, unexpected, unsupported},
    session::{Session, parse},
    sign::{AzureKey, Jwk, create},
};
use crate::{
    Attestation, Context, Description, Health, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey,
    SignatureScheme, SigningKey, WrappedKey, probe::Probe, spki, wrapped::authenticated,
};

/// A root key in Azure. Built without a request; [`connect`](Self::connect) makes the first ones.
#[derive(Debug)]
pub struct AzureProvider {
    session: Arc<Session>,
    url: KeyUrl,
    key_id: String,
    hsm: bool,
    /// What the service said of the key, once it was asked.
    known: Mutex<Option<Known>>,
    /// The public keys of versions that have signed, each a `SubjectPublicKeyInfo`.
    public: Mutex<BTreeMap<String, Arc<[u8]>>>,
    probe: Probe,
}

#[derive(Clone, Debug)]
struct Known {
    wrapping: Wrapping,
    version: String,
    extractable: bool,
}

/// How a key wraps, by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrapping {
    Oaep,
    KeyWrap,
}

impl AzureProvider {
    /// Refers to the key; makes no request.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] if the configuration cannot be right.
    pub fn new(config: AzureConfig) -> Result<Self, KmsError> {
        let url = KeyUrl::parse(&config.key_url)?;
        let hsm = config.hsm;
        Ok(Self {
            session: Arc::new(Session::new(config, url.vault.clone())?),
            key_id: url.key_id(),
            url,
            hsm,
            known: Mutex::default(),
            public: Mutex::default(),
            probe: Probe::default(),
        })
    }

    /// Refers to the key and asks what it is: fails now if it is missing, unfit, disabled or out of reach.
    ///
    /// # Errors
    /// As [`new`](Self::new); then whatever the requests run into.
    pub async fn connect(config: AzureConfig) -> Result<Self, KmsError> {
        let provider = Self::new(config)?;
        provider.look().await?;
        Ok(provider)
    }

    async fn known(&self) -> Result<Known, KmsError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(known) => Ok(known),
            None => self.look().await,
        }
    }

    async fn look(&self) -> Result<Known, KmsError> {
        let answer = match self.session.get(&self.path(self.url.version.as_deref(), "")).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.session.refine(error, &self.url.name).await),
        };
        let bundle: Bundle = parse(&answer)?;
        let wrapping = Wrapping::of(&bundle.key, &self.key_id)?;
        if bundle.attributes.enabled == Some(false) {
            return Err(disabled(format!("{}: the key is disabled", self.key_id)));
        }
        let version = self.version_of(&bundle.key.kid)?;
        let extractable = bundle.attributes.exportable == Some(true);
        let known = Known { wrapping, version: version.clone(), extractable };
        if let Some(public) = bundle.key.public() {
            self.publics().insert(version, public.into());
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }

    fn publics(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<[u8]>>> {
        self.public.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The public key of a version, which never changes and is asked for once.
    async fn public(&self, version: &str) -> Result<Arc<[u8]>, KmsError> {
        if let Some(public) = self.publics().get(version) {
            return Ok(public.clone());
        }
        let answer = match self.session.get(&self.path(Some(version), "")).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.session.refine(error, &self.url.name).await),
        };
        let bundle: Bundle = parse(&answer)?;
        let public =
            bundle.key.public().ok_or_else(|| invalid("the version that wrapped it is no RSA key"))?;
        let public: Arc<[u8]> = public.into();
        self.publics().insert(version.to_owned(), public.clone());
        Ok(public)
    }

    /// `keys/NAME[/VERSION][/verb]`.
    fn path(&self, version: Option<&str>, verb: &str) -> String {
        let parts = ["keys", &self.url.name, version.unwrap_or_default(), verb];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// The version in the name of a key that has to be ours.
    fn version_of(&self, kid: &str) -> Result<String, KmsError> {
        let version = kid.strip_prefix(&self.key_id).and_then(|rest| rest.strip_prefix('/'));
        let version = version.filter(|version| check_version(version).is_ok());
        version.map(str::to_owned).ok_or_else(|| unexpected("a version of the key that was named"))
    }

    async fn operate(
        &self,
        version: Option<&str>,
        verb: &str,
        alg: &str,
        value: &[u8],
    ) -> Result<(String, Zeroizing<Vec<u8>>), KmsError> {
        let value = Zeroizing::new(BASE64.encode(value));
        let request = Operate { alg, value: &value };
        let answer = match self.session.post(&self.path(version, verb), &request).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.session.refine(error, &self.url.name).await),
        };
        let told: Operated<'_> = parse(&answer)?;
        let value = Zeroizing::new(BASE64.decode(told.value).map_err(|_| unexpected("a value"))?);
        Ok((self.version_of(told.kid)?, value))
    }

    /// What can be refused without asking; the version that opens it, and how.
    fn check<'a>(&self, wrapped: &'a WrappedKey) -> Result<(&'a str, Wrapping), KmsError> {
        if wrapped.provider != PROVIDER {
            return Err(invalid(&format!("the key was wrapped by provider {:?}", wrapped.provider)));
        }
        if wrapped.key_id != self.key_id {
            return Err(not_found(format!(
                "it was wrapped under root key {}, but this provider is for {}",
                wrapped.key_id, self.key_id
            )));
        }
        let wrapping = [Wrapping::Oaep, Wrapping::KeyWrap].into_iter();
        let wrapping = wrapping.into_iter().find(|wrapping| wrapping.as_str() == wrapped.algorithm);
        let wrapping =
            wrapping.ok_or_else(|| invalid(&format!("unknown algorithm {:?}", wrapped.algorithm)))?;
        let version = wrapped.key_version.as_deref().unwrap_or_default();
        check_version(version)?;
        let fits = match wrapping {
            // Ciphertext and signature, each as long as the modulus: 2048, 3072 or 4096 bits.
            Wrapping::Oaep => [512, 768, 1024].contains(&wrapped.blob.len()),
            Wrapping::KeyWrap => wrapped.blob.len() == KW_LEN + NONCE_LEN + SecretKey::LEN + TAG_LEN,
        };
        if fits { Ok((version, wrapping)) } else { Err(invalid("the blob is cut short or too long")) }
    }
}

#[async_trait]
impl KeyProvider for AzureProvider {
    /// Before the service was asked for the first time, the algorithm is `unknown` and there is no version.
    fn describe(&self) -> Description {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Description {
            provider: PROVIDER,
            key_id: self.key_id.clone(),
            key_version: known.as_ref().map(|known| known.version.clone()),
            algorithm: known.as_ref().map_or("unknown", |known| known.wrapping.as_str()).to_owned(),
            native_context: false,
            key_bits: known.as_ref().filter(|known| known.wrapping == Wrapping::KeyWrap).map(|_| 256),
            extractable: known.is_some_and(|known| known.extractable),
            attestation: Attestation::Service,
            signature_schemes: SCHEMES.to_vec(),
        }
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        let wrapping = self.known().await?.wrapping;
        let (pinned, domain, context) = (self.url.version.as_deref(), wrapping.domain(), context.to_aad());
        let (version, blob) = match wrapping {
            Wrapping::Oaep => {
                let (version, sealed) = self.operate(pinned, "wrapkey", "RSA-OAEP-256", key.expose()).await?;
                let message = authenticated(&domain, &context, &[&sealed]);
                let hash = digest(&SHA256, &message);
                let (signer, signature) =
                    self.operate(Some(&version), "sign", "PS256", hash.as_ref()).await?;
                if signer != version {
                    return Err(unexpected("a signature by the version that was asked"));
                }
                let public = self.public(&version).await?;
                let signature = spki::check_signature(
                    PROVIDER,
                    SignatureScheme::RsaPssSha256,
                    &public,
                    &message,
                    signature.to_vec(),
                )?;
                (version, [&sealed[..], &signature].concat())
            }
            Wrapping::KeyWrap => {
                let fresh = SecretKey::generate()?;
                let (version, sealed) = self.operate(pinned, "wrapkey", "A256KW", fresh.expose()).await?;
                if sealed.len() != KW_LEN {
                    return Err(unexpected("a key wrapped by A256KW"));
                }
                let aad = Aad::from(authenticated(&domain, &context, &[&sealed]));
                let mut inner = Zeroizing::new(key.expose().to_vec());
                let nonce = cipher(&fresh)?.seal_in_place_append_tag(aad, &mut *inner);
                let nonce = nonce.map_err(|Unspecified| failed("sealing"))?;
                (version, [&sealed[..], nonce.as_ref(), &inner].concat())
            }
        };
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            known.version.clone_from(&version);
        }
        Ok(WrappedKey {
            provider: PROVIDER.to_owned(),
            key_id: self.key_id.clone(),
            key_version: Some(version),
            algorithm: wrapping.as_str().to_owned(),
            blob,
        })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        let (version, wrapping) = self.check(wrapped)?;
        let (domain, context) = (wrapping.domain(), context.to_aad());
        let changed = || invalid("the blob or its context was changed, or another key made it");
        // What the service refuses to open was not made by this version.
        let blame = |error| if matches!(error, KmsError::Invalid { .. }) { changed() } else { error };
        let key = match wrapping {
            Wrapping::Oaep => {
                let (sealed, signature) = wrapped.blob.split_at(wrapped.blob.len() / 2);
                let message = authenticated(&domain, &context, &[sealed]);
                let public = self.public(version).await?;
                spki::check_signature(
                    PROVIDER,
                    SignatureScheme::RsaPssSha256,
                    &public,
                    &message,
                    signature.to_vec(),
                )
                .map_err(|_| changed())?;
                let opened = self.operate(Some(version), "unwrapkey", "RSA-OAEP-256", sealed).await;
                SecretKey::from_slice(&opened.map_err(blame)?.1)
            }
            Wrapping::KeyWrap => {
                let (sealed, rest) = wrapped.blob.split_at(KW_LEN);
                let (nonce, inner) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(changed)?;
                let opened = self.operate(Some(version), "unwrapkey", "A256KW", sealed).await;
                let fresh = SecretKey::from_slice(&opened.map_err(blame)?.1).ok_or_else(changed)?;
                let aad = Aad::from(authenticated(&domain, &context, &[sealed]));
                let mut inner = Zeroizing::new(inner.to_vec());
                let opened = cipher(&fresh)?.open_in_place(Nonce::from(nonce), aad, &mut inner);
                SecretKey::from_slice(opened.map_err(|Unspecified| changed())?)
            }
        };
        key.ok_or_else(|| invalid("the blob does not hold a 32-byte key"))
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.probe.run(self).await
    }

    /// Makes an AES key in a Managed HSM, an RSA key of 3072 bits elsewhere. The service would make one more version
    /// of a key that exists, so it is asked first.
    async fn create_root(&self) -> Result<Description, KmsError> {
        match self.session.get(&self.path(None, "")).await {
            Err(KmsError::NotFound { .. }) => {}
            Ok(_) => return Err(invalid(&format!("{}: the root key exists already", self.key_id))),
            Err(error) => return Err(error),
        }
        if self.url.version.is_some() {
            return Err(invalid("the key's URL names a version of a key that does not exist"));
        }
        let request = if self.session.is_hsm() {
            NewKey { kty: "oct-HSM", key_size: Some(256), crv: None, key_ops: &["wrapKey", "unwrapKey"] }
        } else {
            let kty = if self.hsm { "RSA-HSM" } else { "RSA" };
            NewKey { kty, key_size: Some(3072), crv: None, key_ops: OAEP_OPERATIONS }
        };
        self.session.post(&self.path(None, "create"), &request).await?;
        self.look().await?;
        Ok(self.describe())
    }

    /// A new version, under which everybody without a version in the URL wraps from now on.
    async fn rotate(&self) -> Result<Description, KmsError> {
        if self.url.version.is_some() {
            return Err(unsupported("rotating a root key whose URL names a version"));
        }
        self.session.post(&self.path(None, "rotate"), &Nothing {}).await?;
        self.look().await?;
        Ok(self.describe())
    }

    /// Makes the key `name` in the vault of the root key; the name is also its [`KeyRef`].
    async fn create_signing_key(&self, name: &str, spec: KeySpec) -> Result<Arc<dyn SigningKey>, KmsError> {
        Ok(Arc::new(create(&self.session, name, spec, self.hsm).await?))
    }

    /// `NAME/VERSION`, or the URL of it, in the vault of the root key. A name alone is the oldest version: the key of
    /// a CA is the one that its certificate names, and does not change because somebody rotates it.
    async fn signing_key(&self, key: &KeyRef) -> Result<Arc<dyn SigningKey>, KmsError> {
        let (name, version) = reference(&self.session.vault, &key.0)?;
        let version = match version {
            Some(version) => version,
            None => AzureKey::oldest(&self.session, &name).await?,
        };
        Ok(Arc::new(AzureKey::find(&self.session, &name, &version).await?))
    }
}

impl Wrapping {
    fn as_str(self) -> &'static str {
        match self {
            Self::Oaep => "RSA-OAEP-256+PS256",
            Self::KeyWrap => "A256KW+A256GCM",
        }
    }

    fn domain(self) -> String {
        format!("scaivault/azure/{}/1", self.as_str())
    }

    fn of(key: &Jwk, key_id: &str) -> Result<Self, KmsError> {
        let (wrapping, needs) = match key.kty.as_str() {
            "RSA" | "RSA-HSM" => (Self::Oaep, OAEP_NEEDS),
            "oct" | "oct-HSM" => (Self::KeyWrap, &OAEP_NEEDS[..2]),
            kty => {
                return Err(unsupported(&format!("{key_id}: a root key is RSA or AES, this is {kty}")));
            }
        };
        let lacking = needs.iter().find(|need| !key.key_ops.iter().any(|may| may == *need));
        match lacking {
            None => Ok(wrapping),
            Some(need) => Err(unsupported(&format!("{key_id}: the key may not {need} (its key_ops)"))),
        }
    }
}

fn cipher(key: &SecretKey) -> Result<RandomizedNonceKey, KmsError> {
    RandomizedNonceKey::new(&AES_256_GCM, key.expose()).map_err(|Unspecified| failed("a cipher"))
}

fn failed(what: &str) -> KmsError {
    KmsError::Device { provider: PROVIDER, message: format!("{what} failed"), source: None }
}

const OAEP_NEEDS: &[&str] = &["wrapKey", "unwrapKey", "sign"];
const OAEP_OPERATIONS: &[&str] = &["wrapKey", "unwrapKey", "sign", "verify"];
/// RFC 3394 adds eight bytes.
const KW_LEN: usize = SecretKey::LEN + 8;
const TAG_LEN: usize = 16;
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::EcdsaSha256,
    SignatureScheme::EcdsaSha384,
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::RsaPkcs1Sha384,
    SignatureScheme::RsaPssSha256,
];

#[derive(Serialize)]
pub(super) struct Operate<'a> {
    pub(super) alg: &'a str,
    pub(super) value: &'a str,
}

/// Borrowed from the answer, which is zeroized: base64 needs no escapes in JSON.
#[derive(Deserialize)]
pub(super) struct Operated<'a> {
    pub(super) kid: &'a str,
    pub(super) value: &'a str,
}

#[derive(Deserialize)]
pub(super) struct Bundle {
    pub(super) key: Jwk,
    #[serde(default)]
    pub(super) attributes: Attributes,
}

#[derive(Default, Deserialize)]
pub(super) struct Attributes {
    pub(super) enabled: Option<bool>,
    pub(super) exportable: Option<bool>,
    /// Seconds since 1970.
    pub(super) created: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct NewKey<'a> {
    pub(super) kty: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crv: Option<&'a str>,
    pub(super) key_ops: &'a [&'a str],
}

#[derive(Serialize)]
struct Nothing {}
