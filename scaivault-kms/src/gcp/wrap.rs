use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use crc::{CRC_32_ISCSI, Crc};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::{
    GcpConfig, PROVIDER, Protection,
    config::{ring_of, version_name},
    error::{disabled, invalid, mismatch, unavailable, unexpected, unsupported},
    session::Session,
    sign::{GcpKey, create},
};
use crate::{
    Attestation, Cause, Context, Description, Health, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey,
    SignatureScheme, SigningKey, WrappedKey, probe::Probe,
};

/// A root key in Cloud KMS. Built without a request; [`connect`](Self::connect) makes the first ones.
#[derive(Debug)]
pub struct GcpProvider {
    session: Arc<Session>,
    name: String,
    ring: String,
    protection: Protection,
    /// The version that the service wrapped with last, or said is the primary one.
    version: Mutex<Option<String>>,
    probe: Probe,
}

impl GcpProvider {
    /// Refers to the key; makes no request.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] if the configuration cannot be right.
    pub fn new(config: GcpConfig) -> Result<Self, KmsError> {
        Ok(Self {
            session: Arc::new(Session::new(&config)?),
            ring: ring_of(&config.key_name)?.to_owned(),
            name: config.key_name,
            protection: config.protection,
            version: Mutex::default(),
            probe: Probe::default(),
        })
    }

    /// Refers to the key and asks what it is: fails now if it is missing, unfit, disabled or out of reach.
    ///
    /// # Errors
    /// As [`new`](Self::new); then whatever the requests run into.
    pub async fn connect(config: GcpConfig) -> Result<Self, KmsError> {
        let provider = Self::new(config)?;
        provider.look().await?;
        Ok(provider)
    }

    async fn look(&self) -> Result<(), KmsError> {
        let answer = self.session.get(&self.name, &self.name).await?;
        let key: CryptoKey<'_> = parse(&answer)?;
        if key.purpose != PURPOSE {
            let wanted = format!("a root key is for {PURPOSE}, this is for {}", key.purpose);
            return Err(unsupported(&format!("{}: {wanted}", self.name)));
        }
        let Some(primary) = key.primary else {
            return Err(disabled(format!("{}: the key has no primary version", self.name)));
        };
        if primary.algorithm.is_some_and(|algorithm| algorithm != ALGORITHM) {
            let told = primary.algorithm.unwrap_or_default();
            return Err(unsupported(&format!("{}: a root key is {ALGORITHM}, this is {told}", self.name)));
        }
        if primary.state != ENABLED {
            let told = format!("{}: the primary version is in state {}", self.name, primary.state);
            return Err(disabled(told));
        }
        self.remember(primary.name)?;
        Ok(())
    }

    /// The number of a version of our key, kept as the current one.
    fn remember(&self, version: &str) -> Result<String, KmsError> {
        let number =
            version.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix("/cryptoKeyVersions/"));
        let number = number.filter(|number| number.parse::<u32>().is_ok());
        let number = number.ok_or_else(|| unexpected("a version of the key that was named"))?.to_owned();
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(number.clone());
        Ok(number)
    }

    /// Refuses what can be refused without asking.
    fn check(&self, wrapped: &WrappedKey) -> Result<(), KmsError> {
        if wrapped.provider != PROVIDER {
            return Err(invalid(&format!("the key was wrapped by provider {:?}", wrapped.provider)));
        }
        if wrapped.key_id != self.name {
            let message = format!(
                "it was wrapped under root key {}, but this provider is for {}",
                wrapped.key_id, self.name
            );
            return Err(KmsError::NotFound { provider: PROVIDER, message });
        }
        if wrapped.algorithm != ALGORITHM {
            return Err(invalid(&format!("unknown algorithm {:?}", wrapped.algorithm)));
        }
        if wrapped.blob.is_empty() || wrapped.blob.len() > MAX_BLOB {
            return Err(invalid("the blob is cut short or too long"));
        }
        Ok(())
    }
}

#[async_trait]
impl KeyProvider for GcpProvider {
    /// Before the service was asked for the first time there is no version.
    fn describe(&self) -> Description {
        Description {
            provider: PROVIDER,
            key_id: self.name.clone(),
            key_version: self.version.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            algorithm: ALGORITHM.to_owned(),
            native_context: true,
            key_bits: Some(256),
            extractable: false,
            attestation: Attestation::Service,
            signature_schemes: SCHEMES.to_vec(),
        }
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        let aad = context.to_aad();
        let request = Encrypt {
            plaintext: &Zeroizing::new(BASE64.encode(key.expose())),
            plaintext_crc32c: &Zeroizing::new(crc32c(key.expose()).to_string()),
            additional_authenticated_data: &BASE64.encode(&aad),
            additional_authenticated_data_crc32c: crc32c(&aad).to_string(),
        };
        let answer = self.session.post(&format!("{}:encrypt", self.name), &request, &self.name).await?;
        let told: Encrypted<'_> = parse(&answer)?;
        if !(told.verified_plaintext_crc32c && told.verified_additional_authenticated_data_crc32c) {
            return Err(mismatch("what we sent"));
        }
        let blob = BASE64.decode(told.ciphertext).map_err(|_| unexpected("a ciphertext"))?;
        check_crc(&blob, told.ciphertext_crc32c, "the ciphertext")?;
        Ok(WrappedKey {
            provider: PROVIDER.to_owned(),
            key_id: self.name.clone(),
            key_version: Some(self.remember(told.name)?),
            algorithm: ALGORITHM.to_owned(),
            blob,
        })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        self.check(wrapped)?;
        let aad = context.to_aad();
        let request = Decrypt {
            ciphertext: &BASE64.encode(&wrapped.blob),
            ciphertext_crc32c: crc32c(&wrapped.blob).to_string(),
            additional_authenticated_data: &BASE64.encode(&aad),
            additional_authenticated_data_crc32c: crc32c(&aad).to_string(),
        };
        let answer = self.session.post(&format!("{}:decrypt", self.name), &request, &self.name).await;
        let answer = answer.map_err(|error| match error {
            KmsError::Invalid { .. } => {
                invalid("the blob or its context was changed, or another key made it")
            }
            error => error,
        })?;
        let told: Decrypted<'_> = parse(&answer)?;
        let key = Zeroizing::new(BASE64.decode(told.plaintext).map_err(|_| unexpected("a plaintext"))?);
        check_crc(&key, told.plaintext_crc32c, "the plaintext")?;
        SecretKey::from_slice(&key).ok_or_else(|| invalid("the blob does not hold a 32-byte key"))
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.probe.run(self).await
    }

    /// Makes a key for `ENCRYPT_DECRYPT` in the key ring, which has to be there.
    async fn create_root(&self) -> Result<Description, KmsError> {
        let (_, id) = self.name.rsplit_once('/').unwrap_or_default();
        let request = NewKey {
            purpose: PURPOSE,
            version_template: Template { algorithm: ALGORITHM, protection_level: self.protection.as_str() },
        };
        let path = format!("{}/cryptoKeys?cryptoKeyId={id}", self.ring);
        self.session.post(&path, &request, &self.name).await?;
        self.look().await?;
        Ok(self.describe())
    }

    /// Makes a version and the primary one of it. Other processes wrap under it when the service has told all of
    /// itself, which takes it up to some hours; what is wrapped by it opens everywhere at once.
    async fn rotate(&self) -> Result<Description, KmsError> {
        let path = format!("{}/cryptoKeyVersions", self.name);
        let answer = self.session.post(&path, &Nothing {}, &self.name).await?;
        let made = parse::<Version<'_>>(&answer)?.name.to_owned();
        until_enabled(&self.session, &made).await?;
        let (_, number) = made.rsplit_once('/').unwrap_or_default();
        let request = Primary { crypto_key_version_id: number };
        let path = format!("{}:updatePrimaryVersion", self.name);
        self.session.post(&path, &request, &self.name).await?;
        self.remember(&made)?;
        Ok(self.describe())
    }

    /// Makes the key `name` in the key ring of the root key; the name is also its [`KeyRef`].
    async fn create_signing_key(&self, name: &str, spec: KeySpec) -> Result<Arc<dyn SigningKey>, KmsError> {
        Ok(Arc::new(create(&self.session, &self.ring, name, spec, self.protection).await?))
    }

    /// The full name of a version; or the full name of a key, or its name in the key ring of the root key, which
    /// mean version 1 unless `@VERSION` is behind them.
    async fn signing_key(&self, key: &KeyRef) -> Result<Arc<dyn SigningKey>, KmsError> {
        Ok(Arc::new(GcpKey::find(&self.session, version_name(&self.ring, &key.0)?).await?))
    }
}

/// Waits for a version that was just made: an HSM takes a moment.
pub(super) async fn until_enabled(session: &Session, version: &str) -> Result<(), KmsError> {
    for _ in 0..MOST_LOOKS {
        let answer = session.get(version, version).await?;
        match parse::<Version<'_>>(&answer)?.state {
            ENABLED => return Ok(()),
            "PENDING_GENERATION" => sleep(BETWEEN_LOOKS).await,
            state => return Err(disabled(format!("{version}: the new version is in state {state}"))),
        }
    }
    Err(unavailable(Cause::Service, format!("{version}: the new version is not ready yet")))
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// A minute's.
const MOST_LOOKS: u32 = 240;

const PURPOSE: &str = "ENCRYPT_DECRYPT";
const ALGORITHM: &str = "GOOGLE_SYMMETRIC_ENCRYPTION";
const ENABLED: &str = "ENABLED";
/// The most that a key of 32 bytes becomes is far below.
const MAX_BLOB: usize = 4096;
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::EcdsaSha256,
    SignatureScheme::EcdsaSha384,
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::Ed25519,
];

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    CRC32C.checksum(bytes)
}

/// The service writes the number as text.
pub(super) fn check_crc(bytes: &[u8], told: &str, what: &str) -> Result<(), KmsError> {
    if told.parse() == Ok(crc32c(bytes)) { Ok(()) } else { Err(mismatch(what)) }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, KmsError> {
    serde_json::from_slice(answer).map_err(|_| unexpected("the data that the API promises"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Encrypt<'a> {
    plaintext: &'a str,
    plaintext_crc32c: &'a str,
    additional_authenticated_data: &'a str,
    additional_authenticated_data_crc32c: String,
}

/// Borrowed from the answer, which is zeroized: base64 needs no escapes in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Encrypted<'a> {
    name: &'a str,
    ciphertext: &'a str,
    #[serde(default)]
    ciphertext_crc32c: &'a str,
    #[serde(default)]
    verified_plaintext_crc32c: bool,
    #[serde(default)]
    verified_additional_authenticated_data_crc32c: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Decrypt<'a> {
    ciphertext: &'a str,
    ciphertext_crc32c: String,
    additional_authenticated_data: &'a str,
    additional_authenticated_data_crc32c: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decrypted<'a> {
    #[serde(default)]
    plaintext: &'a str,
    #[serde(default)]
    plaintext_crc32c: &'a str,
}

#[derive(Deserialize)]
struct CryptoKey<'a> {
    purpose: &'a str,
    #[serde(borrow)]
    primary: Option<Version<'a>>,
}

#[derive(Deserialize)]
struct Version<'a> {
    name: &'a str,
    state: &'a str,
    algorithm: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewKey<'a> {
    pub(super) purpose: &'a str,
    pub(super) version_template: Template<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Template<'a> {
    pub(super) algorithm: &'a str,
    pub(super) protection_level: &'a str,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Primary<'a> {
    crypto_key_version_id: &'a str,
}
