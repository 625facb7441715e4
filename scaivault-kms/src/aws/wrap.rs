use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use aws_sdk_kms::{
    Client,
    config::SharedCredentialsProvider,
    primitives::Blob,
    types::{EncryptionAlgorithmSpec, KeySpec as AwsKeySpec, KeyState, KeyUsageType},
};
use zeroize::Zeroizing;

use super::{
    AwsConfig, PROVIDER,
    config::same_key,
    error::{failed, invalid, unexpected, unsupported},
    sign::{AwsKey, create},
};
use crate::{
    Attestation, Context, Description, Health, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey,
    SignatureScheme, SigningKey, WrappedKey, probe::Probe,
};

/// A root key in AWS KMS. Built without a request to KMS; [`connect`](Self::connect) makes the first one.
pub struct AwsProvider {
    client: Client,
    /// As it was configured.
    named: String,
    /// The ARN, which is what wraps are recorded under; known from the start if it is what was configured.
    arn: Mutex<Option<String>>,
    probe: Probe,
}

impl AwsProvider {
    /// Refers to the key; makes no request to KMS.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] if the configuration cannot be right.
    pub async fn new(config: AwsConfig) -> Result<Self, KmsError> {
        Self::with_credentials(config, None).await
    }

    /// Refers to the key and asks what it is: fails now if it is missing, unfit, disabled or out of reach.
    ///
    /// # Errors
    /// As [`new`](Self::new); then whatever the request runs into.
    pub async fn connect(config: AwsConfig) -> Result<Self, KmsError> {
        let provider = Self::new(config).await?;
        provider.look().await?;
        Ok(provider)
    }

    pub(super) async fn with_credentials(
        config: AwsConfig,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Self, KmsError> {
        let client = config.client(credentials).await?;
        let arn = (config.key_id.starts_with("arn:") && config.key_id.contains(":key/"))
            .then(|| config.key_id.clone());
        Ok(Self { client, named: config.key_id, arn: Mutex::new(arn), probe: Probe::default() })
    }

    /// The key's state, kind and ARN.
    pub(super) async fn look(&self) -> Result<String, KmsError> {
        let answer = self.client.describe_key().key_id(&self.named).send().await;
        let answer = answer.map_err(|error| failed(error, &self.named))?;
        let key = answer.key_metadata().ok_or_else(|| unexpected("metadata"))?;
        match key.key_state() {
            Some(KeyState::Enabled) | None => {}
            // The last is of a key store of one's own that is not connected.
            Some(state @ (KeyState::Creating | KeyState::Updating | KeyState::Unavailable)) => {
                let message = format!("{}: the key is in state {}", self.named, state.as_str());
                return Err(KmsError::unavailable(PROVIDER, crate::Cause::Service, message, None, None));
            }
            Some(state) => {
                let message = format!("{}: the key is in state {}", self.named, state.as_str());
                return Err(KmsError::Disabled { provider: PROVIDER, message });
            }
        }
        let symmetric = key.key_spec() == Some(&AwsKeySpec::SymmetricDefault);
        if !symmetric || key.key_usage() != Some(&KeyUsageType::EncryptDecrypt) {
            let kind = key.key_spec().map_or("unknown", AwsKeySpec::as_str);
            let usage = key.key_usage().map_or("nothing", KeyUsageType::as_str);
            let wanted = "a root key is SYMMETRIC_DEFAULT for ENCRYPT_DECRYPT";
            return Err(unsupported(&format!("{}: {wanted}, this is {kind} for {usage}", self.named)));
        }
        let arn = key.arn().ok_or_else(|| unexpected("an ARN"))?.to_owned();
        *self.arn.lock().unwrap_or_else(PoisonError::into_inner) = Some(arn.clone());
        Ok(arn)
    }

    fn known(&self) -> Option<String> {
        self.arn.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn arn(&self) -> Result<String, KmsError> {
        match self.known() {
            Some(arn) => Ok(arn),
            None => self.look().await,
        }
    }

    /// The key that opens `wrapped`, after everything that can be checked without asking.
    async fn opens(&self, wrapped: &WrappedKey) -> Result<String, KmsError> {
        if wrapped.provider != PROVIDER {
            return Err(invalid(&format!("the key was wrapped by provider {:?}", wrapped.provider)));
        }
        let arn = self.arn().await?;
        if !same_key(&wrapped.key_id, &arn) {
            let message =
                format!("it was wrapped under root key {}, but this provider is for {arn}", wrapped.key_id);
            return Err(KmsError::NotFound { provider: PROVIDER, message });
        }
        if wrapped.algorithm != ALGORITHM {
            return Err(invalid(&format!("unknown algorithm {:?}", wrapped.algorithm)));
        }
        if wrapped.blob.is_empty() || wrapped.blob.len() > MAX_BLOB {
            return Err(invalid("the blob is cut short or too long"));
        }
        Ok(arn)
    }

    fn wrapped(arn: &str, blob: Option<Blob>) -> Result<WrappedKey, KmsError> {
        Ok(WrappedKey {
            provider: PROVIDER.to_owned(),
            key_id: arn.to_owned(),
            key_version: None,
            algorithm: ALGORITHM.to_owned(),
            blob: blob.ok_or_else(|| unexpected("a ciphertext"))?.into_inner(),
        })
    }
}

impl std::fmt::Debug for AwsProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsProvider").field("key_id", &self.named).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyProvider for AwsProvider {
    /// Before the service was asked for the first time, a key that was configured by its alias or id is named
    /// by that and not by its ARN. KMS shows no versions: a blob says by itself which key material made it.
    fn describe(&self) -> Description {
        Description {
            provider: PROVIDER,
            key_id: self.known().unwrap_or_else(|| self.named.clone()),
            key_version: None,
            algorithm: ALGORITHM.to_owned(),
            native_context: true,
            key_bits: Some(256),
            extractable: false,
            attestation: Attestation::Service,
            signature_schemes: SCHEMES.to_vec(),
        }
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        let arn = self.arn().await?;
        let request = self.client.encrypt().key_id(&arn).plaintext(Blob::new(key.expose().to_vec()));
        let request = request.encryption_algorithm(EncryptionAlgorithmSpec::SymmetricDefault);
        let answer = request.set_encryption_context(pairs(context)).send().await;
        Self::wrapped(&arn, answer.map_err(|error| failed(error, &arn))?.ciphertext_blob)
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        let arn = self.opens(wrapped).await?;
        let request = self.client.decrypt().key_id(&arn).ciphertext_blob(Blob::new(wrapped.blob.clone()));
        let request = request.encryption_algorithm(EncryptionAlgorithmSpec::SymmetricDefault);
        let answer = request.set_encryption_context(pairs(context)).send().await;
        let answer = answer.map_err(|error| failed(error, &arn))?;
        if answer.key_id().is_some_and(|opened| !same_key(opened, &arn)) {
            return Err(invalid("another key made the blob"));
        }
        let key = Zeroizing::new(answer.plaintext.ok_or_else(|| unexpected("a plaintext"))?.into_inner());
        SecretKey::from_slice(&key).ok_or_else(|| invalid("the blob does not hold a 32-byte key"))
    }

    /// `ReEncrypt`: the key does not leave the service.
    async fn rewrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<WrappedKey, KmsError> {
        let arn = self.opens(wrapped).await?;
        let request = self.client.re_encrypt().ciphertext_blob(Blob::new(wrapped.blob.clone()));
        let request = request.source_key_id(&arn).set_source_encryption_context(pairs(context));
        let request = request.destination_key_id(&arn).set_destination_encryption_context(pairs(context));
        let answer = request.send().await.map_err(|error| failed(error, &arn))?;
        Self::wrapped(&arn, answer.ciphertext_blob)
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.probe.run(self).await
    }

    /// Refused: KMS names a key when it makes it, so that the name cannot be configured before.
    async fn create_root(&self) -> Result<Description, KmsError> {
        Err(unsupported(
            "KMS gives a key its ARN when it makes it: make a key SYMMETRIC_DEFAULT there and configure its ARN",
        ))
    }

    /// `RotateKeyOnDemand`, of which KMS allows a limited number for the life of a key.
    async fn rotate(&self) -> Result<Description, KmsError> {
        let arn = self.arn().await?;
        let answer = self.client.rotate_key_on_demand().key_id(&arn).send().await;
        answer.map_err(|error| failed(error, &arn))?;
        Ok(self.describe())
    }

    /// Makes a key and the alias `alias/NAME`, which is its [`KeyRef`].
    async fn create_signing_key(&self, name: &str, spec: KeySpec) -> Result<Arc<dyn SigningKey>, KmsError> {
        Ok(Arc::new(create(&self.client, name, spec).await?))
    }

    /// An ARN, a key id or `alias/NAME`. The key behind an alias is looked up once and then held by its ARN.
    async fn signing_key(&self, key: &KeyRef) -> Result<Arc<dyn SigningKey>, KmsError> {
        Ok(Arc::new(AwsKey::find(&self.client, &key.0).await?))
    }
}

const ALGORITHM: &str = "SYMMETRIC_DEFAULT";
/// The most that `Decrypt` takes.
const MAX_BLOB: usize = 6144;
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::EcdsaSha256,
    SignatureScheme::EcdsaSha384,
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::RsaPkcs1Sha384,
    SignatureScheme::RsaPssSha256,
    SignatureScheme::Ed25519,
];

fn pairs(context: &Context) -> Option<HashMap<String, String>> {
    Some(context.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}
