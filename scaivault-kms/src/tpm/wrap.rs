use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use async_trait::async_trait;
use aws_lc_rs::digest::{Context as Digester, SHA256};
use subtle::ConstantTimeEq as _;
use tss_esapi::{
    attributes::ObjectAttributesBuilder,
    interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm},
    structures::{
        Digest, KeyedHashScheme, Private, Public, PublicBuilder, PublicKeyedHashParameters, SensitiveData,
    },
    traits::{Marshall as _, UnMarshall as _},
};
use zeroize::Zeroizing;

use super::{
    PROVIDER, RootKey, TpmConfig,
    error::{Failure, device, invalid, not_found, unsupported},
    session::{Open, Shared, Worker, create_primary, keep, persistent},
    sign,
};
use crate::{
    Attestation, Context, Description, Health, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey,
    SignatureScheme, SigningKey, WrappedKey, device::Pool,
};

const ALGORITHM: &str = "TPM2-SEAL";
const PCR_BANK: &str = "/PCR-SHA256:";

/// Wraps under a storage key of a TPM, and refers to signing keys at its persistent handles.
pub struct TpmProvider {
    shared: Arc<Shared>,
    pool: Arc<Pool<Worker>>,
}

impl TpmProvider {
    /// A provider that has not yet spoken to the TPM: that happens at the first call.
    ///
    /// # Errors
    /// [`KmsError::Device`] if its thread cannot be started.
    pub fn new(config: TpmConfig) -> Result<Self, KmsError> {
        let (queue, deadline) = (config.queue, config.deadline);
        let shared = Arc::new(Shared { config, version: OnceLock::new() });
        let for_thread = Arc::clone(&shared);
        let pool = Pool::start(PROVIDER, 1, queue, deadline, move || Worker::new(Arc::clone(&for_thread)))?;
        Ok(Self { shared, pool: Arc::new(pool) })
    }

    /// A provider whose TPM has answered and has the root key.
    ///
    /// # Errors
    /// [`KmsError::Unavailable`] if there is no TPM, [`KmsError::Denied`] if it refuses the authorisation,
    /// [`KmsError::NotFound`] if nothing is at the persistent handle (and nothing is put there).
    pub async fn connect(config: TpmConfig) -> Result<Self, KmsError> {
        let provider = Self::new(config)?;
        provider.pool.call(|worker| worker.run("loading the root key", |_| Ok(()))).await?;
        Ok(provider)
    }
}

impl std::fmt::Debug for TpmProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TpmProvider")
            .field("tcti", &self.shared.config.tcti)
            .field("key_id", &self.shared.config.label)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyProvider for TpmProvider {
    /// `key_version` is the beginning of the root key's name (a digest of its public half), once the TPM has told it.
    fn describe(&self) -> Description {
        Description {
            provider: PROVIDER,
            key_id: self.shared.config.label.clone(),
            key_version: self.shared.version.get().cloned(),
            algorithm: algorithm(&self.shared.config.pcrs),
            native_context: false,
            key_bits: Some(256),
            extractable: false,
            attestation: Attestation::Device,
            signature_schemes: vec![
                SignatureScheme::EcdsaSha256,
                SignatureScheme::EcdsaSha384,
                SignatureScheme::RsaPkcs1Sha256,
                SignatureScheme::RsaPkcs1Sha384,
                SignatureScheme::RsaPssSha256,
            ],
        }
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        let payload = Zeroizing::new([&key.expose()[..], &commitment(context)].concat());
        let pcrs = self.shared.config.pcrs.clone();
        let (version, blob) = self
            .pool
            .call(move |worker| {
                worker.run("wrapping a key", |open| Ok((open.version.clone(), seal(open, &payload, &pcrs)?)))
            })
            .await?;
        Ok(WrappedKey {
            provider: PROVIDER.to_owned(),
            key_id: self.shared.config.label.clone(),
            key_version: Some(version),
            algorithm: algorithm(&self.shared.config.pcrs),
            blob,
        })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        if wrapped.provider != PROVIDER {
            return Err(invalid(format!("the key was wrapped by provider {:?}", wrapped.provider)));
        }
        if wrapped.key_id != self.shared.config.label {
            return Err(not_found(format!(
                "it was wrapped under root key {:?}, but this provider uses {:?}",
                wrapped.key_id, self.shared.config.label
            )));
        }
        let pcrs = pcrs_of(&wrapped.algorithm)
            .ok_or_else(|| invalid(format!("unknown algorithm {:?}", wrapped.algorithm)))?;
        let (version, blob) = (wrapped.key_version.clone().unwrap_or_default(), wrapped.blob.clone());
        let payload = self
            .pool
            .call(move |worker| {
                worker.run("unwrapping a key", |open| {
                    if version != open.version {
                        return Err(not_found(format!(
                            "it was wrapped under root key {version}, but this TPM has {}: it is another TPM, or was \
                             cleared since",
                            open.version
                        ))
                        .into());
                    }
                    unseal(open, &blob, &pcrs)
                })
            })
            .await?;
        let (key, hash) = payload.split_first_chunk::<{ SecretKey::LEN }>().ok_or_else(no_key)?;
        if !bool::from(hash.ct_eq(&commitment(context))) {
            return Err(invalid("it was wrapped under another context"));
        }
        SecretKey::from_slice(key).ok_or_else(no_key)
    }

    /// Puts the root key at its persistent handle. [`KmsError::Unsupported`] for a derived root key, which is there as
    /// long as the TPM's seed is.
    async fn create_root(&self) -> Result<Description, KmsError> {
        let RootKey::Persistent(handle) = self.shared.config.root else {
            return Err(unsupported("making a root key that is derived: there is nothing to make"));
        };
        self.pool
            .call(move |worker| {
                worker.bare("making the root key", |context, config| {
                    if persistent(context, handle)?.is_some() {
                        let told = format!("a key exists at {handle:#010x} already; it is not overwritten");
                        return Err(invalid(told).into());
                    }
                    let made = create_primary(context, &config.label)?;
                    keep(context, made, handle)
                })?;
                worker.run("loading the root key", |_| Ok(()))
            })
            .await?;
        Ok(self.describe())
    }

    async fn health(&self) -> Result<Health, KmsError> {
        let start = Instant::now();
        let context = Context::new().with("purpose", "health");
        let probe = SecretKey::generate()?;
        let opened = self.unwrap(&self.wrap(&probe, &context).await?, &context).await?;
        if !opened.ct_eq(&probe) {
            return Err(device("the self-test gave another key back"));
        }
        Ok(Health { latency: start.elapsed() })
    }

    /// `name` is the persistent handle that the key is put at: `0x81010001`.
    async fn create_signing_key(&self, name: &str, spec: KeySpec) -> Result<Arc<dyn SigningKey>, KmsError> {
        sign::create(&self.pool, name, spec).await
    }

    async fn signing_key(&self, key: &KeyRef) -> Result<Arc<dyn SigningKey>, KmsError> {
        sign::refer(&self.pool, &key.0).await
    }
}

/// `TPM2-SEAL`, and the PCRs that it takes to open: `TPM2-SEAL/PCR-SHA256:0,7`.
fn algorithm(pcrs: &[u8]) -> String {
    if pcrs.is_empty() {
        return ALGORITHM.to_owned();
    }
    let list: Vec<String> = pcrs.iter().map(u8::to_string).collect();
    format!("{ALGORITHM}{PCR_BANK}{}", list.join(","))
}

/// What [`algorithm`] was made of.
fn pcrs_of(text: &str) -> Option<Vec<u8>> {
    let rest = text.strip_prefix(ALGORITHM)?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let pcrs = rest.strip_prefix(PCR_BANK)?.split(',').map(|pcr| pcr.parse().ok().filter(|pcr| *pcr < 24));
    pcrs.collect::<Option<Vec<u8>>>().filter(|pcrs| algorithm(pcrs) == text)
}

/// SHA-256(domain ‖ context), sealed with the key. Nothing random is needed: sealing is.
fn commitment(context: &Context) -> [u8; 32] {
    let mut digest = Digester::new(&SHA256);
    digest.update(b"scaivault/tpm/seal/1");
    digest.update(&context.to_aad());
    let mut out = [0; 32];
    out.copy_from_slice(digest.finish().as_ref());
    out
}

fn no_key() -> KmsError {
    invalid("the blob does not hold a 32-byte key and the hash of its context")
}

fn changed() -> KmsError {
    invalid("the blob was changed or cut, or another root key made it")
}

/// Blob: length of the public part as two big-endian bytes, the public part, the private part.
fn seal(open: &mut Open, payload: &[u8], pcrs: &[u8]) -> Result<Vec<u8>, Failure> {
    let policy = if pcrs.is_empty() { Digest::default() } else { open.pcr_policy(pcrs)? };
    let template = sealed_template(policy, pcrs)?;
    let data = SensitiveData::try_from(payload)?;
    let root = open.root;
    let made = open.within(|context| context.create(root, template, None, Some(data), None, None))?;
    let public = made.out_public.marshall()?;
    let length = u16::try_from(public.len()).map_err(|_| device("the TPM made a public part too long"))?;
    Ok([&length.to_be_bytes()[..], &public, made.out_private.value()].concat())
}

fn unseal(open: &mut Open, blob: &[u8], pcrs: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (length, rest) = blob.split_first_chunk::<2>().ok_or_else(changed)?;
    let (public, private) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(changed)?;
    let read = Public::unmarshall(public).map_err(|_| changed())?;
    // One encoding for one object, so that no byte can be changed without being noticed.
    if read.marshall().map_err(|_| changed())? != public || read.object_attributes() != attributes(pcrs)? {
        return Err(changed().into());
    }
    let private = Private::try_from(private).map_err(|_| changed())?;
    let root = open.root;
    let loaded = open.within(|context| context.load(root, private, read)).map_err(|error| {
        let failure = Failure::from(error);
        if failure.blames_the_data() { changed().into() } else { failure }
    })?;
    let opened = if pcrs.is_empty() {
        let opened = open.within(|context| context.unseal(loaded.into()));
        open.flush(loaded, opened)?
    } else {
        let opened = open.within_policy(pcrs, |context| context.unseal(loaded.into()));
        open.context.flush_context(loaded.into())?;
        opened?
    };
    Ok(Zeroizing::new(opened.value().to_vec()))
}

/// Under a policy there is no other way in: an empty authorisation would do otherwise.
fn attributes(pcrs: &[u8]) -> tss_esapi::Result<tss_esapi::attributes::ObjectAttributes> {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_user_with_auth(pcrs.is_empty())
        .with_no_da(true)
        .build()
}

fn sealed_template(policy: Digest, pcrs: &[u8]) -> tss_esapi::Result<Public> {
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes(pcrs)?)
        .with_auth_policy(policy)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}
