use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    PROVIDER, TransitConfig,
    client::{Client, body},
    config::check_name,
    error::{invalid, unexpected, unsupported},
    session::Session,
    sign::{Create, TransitKey, create},
};
use crate::{
    Attestation, Context, Description, Health, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey,
    SignatureScheme, SigningKey, WrappedKey, probe::Probe,
};

/// A root key in Transit. Built without a request; [`connect`](Self::connect) makes the first ones.
pub struct TransitProvider {
    session: Arc<Session>,
    mount: String,
    name: String,
    key_id: String,
    /// What the service said of the key, once it was asked.
    known: Mutex<Option<Known>>,
    probe: Probe,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    algorithm: Algorithm,
    version: u64,
    extractable: bool,
}

/// How a key wraps: its cipher, and how the context is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Algorithm {
    cipher: &'static str,
    binding: Binding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    /// The context is the additional data of the AEAD.
    AssociatedData,
    /// The key is derived from the context.
    Derived,
}

impl TransitProvider {
    /// Refers to the key; makes no request.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] if the configuration cannot be right.
    pub fn new(config: TransitConfig) -> Result<Self, KmsError> {
        config.check()?;
        let client = Client::new(&config)?;
        let key_id = config.key_id();
        Ok(Self {
            session: Arc::new(Session::new(client, config.auth)),
            mount: config.mount,
            name: config.key,
            key_id,
            known: Mutex::default(),
            probe: Probe::default(),
        })
    }

    /// Refers to the key and asks what it is: fails now if it is missing, unfit or out of reach.
    ///
    /// # Errors
    /// As [`new`](Self::new); then whatever the requests run into.
    pub async fn connect(config: TransitConfig) -> Result<Self, KmsError> {
        let provider = Self::new(config)?;
        provider.look().await?;
        Ok(provider)
    }

    async fn known(&self) -> Result<Known, KmsError> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(known) => Ok(known),
            None => self.look().await,
        }
    }

    async fn look(&self) -> Result<Known, KmsError> {
        let answer = self.call(Method::GET, "keys", &self.name, "", None).await?;
        let data = parse::<KeyData>(&answer)?;
        if data.soft_deleted {
            let message = format!("{}: the key is deleted and can be restored", self.key_id);
            return Err(KmsError::Disabled { provider: PROVIDER, message });
        }
        let known = Known {
            algorithm: data.algorithm(&self.key_id)?,
            version: data.latest_version,
            extractable: data.exportable || data.allow_plaintext_backup,
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(known)
    }

    /// `METHOD mount/verb/name[rest]`.
    async fn call(
        &self,
        method: Method,
        verb: &str,
        name: &str,
        rest: &str,
        body: Option<bytes::Bytes>,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let path = format!("{}/{verb}/{name}{rest}", self.mount);
        self.session.call(method, &path, body, &path).await
    }

    /// What a request made: remembers that the key has this version.
    fn wrapped(&self, answer: &[u8], algorithm: Algorithm) -> Result<WrappedKey, KmsError> {
        let data = parse::<Encrypted<'_>>(answer)?;
        let (version, blob) = split(data.ciphertext).ok_or_else(|| unexpected("a ciphertext"))?;
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            known.version = known.version.max(version);
        }
        Ok(WrappedKey {
            provider: PROVIDER.to_owned(),
            key_id: self.key_id.clone(),
            key_version: Some(version.to_string()),
            algorithm: algorithm.to_string(),
            blob,
        })
    }

    /// The ciphertext as the service had it, after everything that can be checked without asking.
    fn unwrapped(&self, wrapped: &WrappedKey) -> Result<(String, Algorithm), KmsError> {
        if wrapped.provider != PROVIDER {
            return Err(invalid(&format!("the key was wrapped by provider {:?}", wrapped.provider)));
        }
        if wrapped.key_id != self.key_id {
            let message = format!(
                "it was wrapped under root key {}, but this provider is for {}",
                wrapped.key_id, self.key_id
            );
            return Err(KmsError::NotFound { provider: PROVIDER, message });
        }
        let algorithm = Algorithm::parse(&wrapped.algorithm)
            .ok_or_else(|| invalid(&format!("unknown algorithm {:?}", wrapped.algorithm)))?;
        let version = wrapped.key_version.as_deref().and_then(|version| version.parse::<u64>().ok());
        // Version 0 is read as version 1 by the service: one wrap, two names.
        let version =
            version.filter(|version| *version > 0).ok_or_else(|| invalid("no version of the root key"))?;
        if wrapped.blob.len() != algorithm.blob_len() {
            return Err(invalid("the blob is cut short or too long"));
        }
        Ok((format!("vault:v{version}:{}", BASE64.encode(&wrapped.blob)), algorithm))
    }
}

impl std::fmt::Debug for TransitProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransitProvider").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyProvider for TransitProvider {
    /// Before the service was asked for the first time, the algorithm is `unknown` and there is no version.
    fn describe(&self) -> Description {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Description {
            provider: PROVIDER,
            key_id: self.key_id.clone(),
            key_version: known.map(|known| known.version.to_string()),
            algorithm: known.map_or_else(|| "unknown".to_owned(), |known| known.algorithm.to_string()),
            native_context: true,
            key_bits: known.map(|_| 256),
            extractable: known.is_some_and(|known| known.extractable),
            attestation: Attestation::Service,
            signature_schemes: SCHEMES.to_vec(),
        }
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        let algorithm = self.known().await?.algorithm;
        let plaintext = Zeroizing::new(BASE64.encode(key.expose()));
        let aad = BASE64.encode(context.to_aad());
        let (associated_data, context) = algorithm.bind(&aad);
        let request =
            body(&Encrypt { plaintext: &plaintext, associated_data, context, r#type: NO_SUCH_TYPE })?;
        let answer = self.call(Method::POST, "encrypt", &self.name, "", Some(request)).await?;
        self.wrapped(&answer, algorithm)
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        let (ciphertext, algorithm) = self.unwrapped(wrapped)?;
        let aad = BASE64.encode(context.to_aad());
        let (associated_data, context) = algorithm.bind(&aad);
        let request = body(&Decrypt { ciphertext: &ciphertext, associated_data, context })?;
        let answer = self.call(Method::POST, "decrypt", &self.name, "", Some(request)).await?;
        let data = parse::<Decrypted<'_>>(&answer)?;
        let key = Zeroizing::new(BASE64.decode(data.plaintext).map_err(|_| unexpected("a plaintext"))?);
        SecretKey::from_slice(&key).ok_or_else(|| invalid("the blob does not hold a 32-byte key"))
    }

    async fn rewrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<WrappedKey, KmsError> {
        let (ciphertext, algorithm) = self.unwrapped(wrapped)?;
        if algorithm.binding == Binding::AssociatedData {
            // The service's `rewrap` takes no associated data.
            return self.wrap(&self.unwrap(wrapped, context).await?, context).await;
        }
        let aad = BASE64.encode(context.to_aad());
        let (associated_data, context) = algorithm.bind(&aad);
        let request = body(&Decrypt { ciphertext: &ciphertext, associated_data, context })?;
        let answer = self.call(Method::POST, "rewrap", &self.name, "", Some(request)).await?;
        self.wrapped(&answer, algorithm)
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.probe.run(self).await
    }

    /// Makes a key `aes256-gcm96` that cannot be exported. The token needs `create` and `read` on `keys/NAME`.
    async fn create_root(&self) -> Result<Description, KmsError> {
        // The service answers a second creation as it answers the first.
        match self.call(Method::GET, "keys", &self.name, "", None).await {
            Err(KmsError::NotFound { .. }) => {}
            Ok(_) => return Err(invalid(&format!("{}: the root key exists already", self.key_id))),
            Err(error) => return Err(error),
        }
        let request = body(&Create {
            r#type: Algorithm::CIPHERS[0],
            exportable: false,
            allow_plaintext_backup: false,
        })?;
        self.call(Method::POST, "keys", &self.name, "", Some(request)).await?;
        self.look().await?;
        Ok(self.describe())
    }

    async fn rotate(&self) -> Result<Description, KmsError> {
        self.call(Method::POST, "keys", &self.name, "/rotate", None).await?;
        self.look().await?;
        Ok(self.describe())
    }

    /// The name is also the [`KeyRef`].
    async fn create_signing_key(&self, name: &str, spec: KeySpec) -> Result<Arc<dyn SigningKey>, KmsError> {
        Ok(Arc::new(create(&self.session, &self.mount, name, spec).await?))
    }

    /// `name@version`; `name` is version 1. Not the latest: the key of a CA is the one that its certificate
    /// names, and does not change because somebody rotates it.
    async fn signing_key(&self, key: &KeyRef) -> Result<Arc<dyn SigningKey>, KmsError> {
        let (name, version) = key.0.split_once('@').unwrap_or((&key.0, "1"));
        let version = version.parse().map_err(|_| invalid("a key version is a number"))?;
        check_name(name)?;
        Ok(Arc::new(TransitKey::find(&self.session, &self.mount, name, version).await?))
    }
}

const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::EcdsaSha256,
    SignatureScheme::EcdsaSha384,
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::RsaPkcs1Sha384,
    SignatureScheme::RsaPssSha256,
    SignatureScheme::Ed25519,
];

/// The service makes a key that is missing if the token may: `encrypt` with the type of no key cannot.
/// A key that is there is used whatever this says.
const NO_SUCH_TYPE: &str = "must-exist";

impl Algorithm {
    const CIPHERS: &[&str] = &["aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"];

    fn parse(text: &str) -> Option<Self> {
        let (cipher, binding) = text.split_once('/')?;
        let cipher = Self::CIPHERS.iter().find(|known| **known == cipher)?;
        let binding = match binding {
            "aad" => Binding::AssociatedData,
            "derived" => Binding::Derived,
            _ => return None,
        };
        Some(Self { cipher, binding })
    }

    /// Nonce, key and tag.
    fn blob_len(self) -> usize {
        let nonce = if self.cipher == "xchacha20-poly1305" { 24 } else { 12 };
        nonce + SecretKey::LEN + 16
    }

    /// `associated_data` and `context` of a request.
    fn bind(self, aad: &str) -> (Option<&str>, Option<&str>) {
        match self.binding {
            Binding::AssociatedData => (Some(aad), None),
            Binding::Derived => (None, Some(aad)),
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let binding = match self.binding {
            Binding::AssociatedData => "aad",
            Binding::Derived => "derived",
        };
        write!(f, "{}/{binding}", self.cipher)
    }
}

impl KeyData {
    fn algorithm(&self, key_id: &str) -> Result<Algorithm, KmsError> {
        let Some(cipher) = Algorithm::CIPHERS.iter().find(|known| **known == self.r#type) else {
            let message = format!(
                "{key_id}: a root key is {}; this one is {:?}",
                Algorithm::CIPHERS.join(", "),
                self.r#type
            );
            return Err(unsupported(&message));
        };
        if self.convergent_encryption {
            return Err(unsupported(&format!("{key_id}: under a convergent key equal keys wrap alike")));
        }
        let binding = if self.derived { Binding::Derived } else { Binding::AssociatedData };
        Ok(Algorithm { cipher, binding })
    }
}

/// `vault:v3:BASE64` as 3 and the bytes.
pub(super) fn split(ciphertext: &str) -> Option<(u64, Vec<u8>)> {
    let (version, blob) = ciphertext.strip_prefix("vault:v")?.split_once(':')?;
    Some((version.parse().ok()?, BASE64.decode(blob).ok()?))
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    associated_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    r#type: &'a str,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    associated_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answered<T> {
    data: T,
}

/// Borrowed from the answer, which is zeroized: base64 needs no escapes in JSON.
#[derive(Deserialize)]
struct Encrypted<'a> {
    ciphertext: &'a str,
}

#[derive(Deserialize)]
struct Decrypted<'a> {
    plaintext: &'a str,
}

/// What `GET keys/NAME` tells.
#[derive(Deserialize)]
pub(super) struct KeyData {
    pub(super) r#type: String,
    pub(super) latest_version: u64,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    convergent_encryption: bool,
    #[serde(default)]
    exportable: bool,
    #[serde(default)]
    allow_plaintext_backup: bool,
    #[serde(default)]
    pub(super) soft_deleted: bool,
    pub(super) keys: BTreeMap<String, serde_json::Value>,
}

pub(super) fn parse<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, KmsError> {
    let answered = serde_json::from_slice::<Answered<T>>(answer);
    answered.map(|a| a.data).map_err(|_| unexpected("the data that the API promises"))
}
