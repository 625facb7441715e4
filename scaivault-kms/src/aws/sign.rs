use async_trait::async_trait;
use aws_sdk_kms::{
    Client,
    primitives::Blob,
    types::{KeySpec as AwsKeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec},
};

use super::{
    PROVIDER,
    error::{failed, invalid, unexpected, unsupported},
};
use crate::{KeySpec, KmsError, SignatureScheme, SigningKey, spki};

/// An asymmetric KMS key.
pub(super) struct AwsKey {
    client: Client,
    arn: String,
    spec: KeySpec,
    public: Vec<u8>,
}

impl AwsKey {
    pub(super) async fn find(client: &Client, key_id: &str) -> Result<Self, KmsError> {
        let answer = client.get_public_key().key_id(key_id).send().await;
        let answer = answer.map_err(|error| failed(error, key_id))?;
        #[expect(deprecated, reason = "the older name of the same field, which emulators still use alone")]
        let older = answer.customer_master_key_spec().map_or("unknown", |spec| spec.as_str());
        let kind = answer.key_spec().map_or(older, AwsKeySpec::as_str);
        let spec =
            spki::SPECS.into_iter().find(|spec| aws_spec(*spec).is_some_and(|known| known.as_str() == kind));
        let spec = spec.filter(|_| answer.key_usage() == Some(&KeyUsageType::SignVerify));
        let spec = spec
            .ok_or_else(|| unsupported(&format!("{key_id}: a key of kind {kind} does not sign for a CA")))?;
        let arn = answer.key_id().ok_or_else(|| unexpected("an ARN"))?.to_owned();
        let public = answer.public_key.ok_or_else(|| unexpected("a public key"))?.into_inner();
        Ok(Self { client: client.clone(), arn, spec, public })
    }
}

/// Makes a key under an alias that nothing has yet.
pub(super) async fn create(client: &Client, name: &str, spec: KeySpec) -> Result<AwsKey, KmsError> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "/_-".contains(c);
    if name.is_empty() || name.len() > 240 || !name.chars().all(fit) || name.starts_with("aws/") {
        return Err(invalid("a name is up to 240 letters, digits, '/', '_' and '-', and not below aws/"));
    }
    let kind = aws_spec(spec).ok_or_else(|| unsupported(&format!("keys of kind {}", spec.as_str())))?;
    let alias = format!("alias/{name}");
    match client.describe_key().key_id(&alias).send().await.map_err(|error| failed(error, &alias)) {
        Err(KmsError::NotFound { .. }) => {}
        Ok(_) => return Err(invalid(&format!("{alias}: there is a key of this name already"))),
        Err(error) => return Err(error),
    }
    let request = client.create_key().key_usage(KeyUsageType::SignVerify).key_spec(kind);
    let made = request.description(&alias).send().await.map_err(|error| failed(error, &alias))?;
    let id = made.key_metadata().ok_or_else(|| unexpected("metadata"))?.key_id();
    let named = client.create_alias().alias_name(&alias).target_key_id(id).send().await;
    if let Err(error) = named {
        // A key that nothing refers to. Should this fail as well, it is there and costs, and signs nothing.
        let _ = client.schedule_key_deletion().key_id(id).pending_window_in_days(7).send().await;
        return Err(failed(error, &alias));
    }
    AwsKey::find(client, id).await
}

impl std::fmt::Debug for AwsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsKey").field("arn", &self.arn).field("spec", &self.spec).finish_non_exhaustive()
    }
}

#[async_trait]
impl SigningKey for AwsKey {
    fn spec(&self) -> KeySpec {
        self.spec
    }

    fn public_key_der(&self) -> &[u8] {
        &self.public
    }

    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        spki::check_scheme(PROVIDER, self.spec, scheme)?;
        let request = self.client.sign().key_id(&self.arn).signing_algorithm(match scheme {
            SignatureScheme::EcdsaSha256 => SigningAlgorithmSpec::EcdsaSha256,
            SignatureScheme::EcdsaSha384 => SigningAlgorithmSpec::EcdsaSha384,
            SignatureScheme::RsaPkcs1Sha256 => SigningAlgorithmSpec::RsassaPkcs1V15Sha256,
            SignatureScheme::RsaPkcs1Sha384 => SigningAlgorithmSpec::RsassaPkcs1V15Sha384,
            SignatureScheme::RsaPssSha256 => SigningAlgorithmSpec::RsassaPssSha256,
            SignatureScheme::Ed25519 => SigningAlgorithmSpec::Ed25519Sha512,
            other => return Err(unsupported(&format!("{other:?}"))),
        });
        // What is longer than the service takes, it takes as a digest.
        let digest = (message.len() > MAX_MESSAGE).then(|| spki::prehash(scheme, message));
        let request = match &digest {
            None => request.message_type(MessageType::Raw).message(Blob::new(message)),
            Some(Some(digest)) => {
                request.message_type(MessageType::Digest).message(Blob::new(digest.as_ref()))
            }
            Some(None) => {
                return Err(unsupported(&format!("{scheme:?} over more than {MAX_MESSAGE} bytes")));
            }
        };
        let answer = request.send().await.map_err(|error| failed(error, &self.arn))?;
        let signature = answer.signature.ok_or_else(|| unexpected("a signature"))?.into_inner();
        spki::check_signature(PROVIDER, scheme, &self.public, message, signature)
    }
}

/// The most that `Sign` takes as it is.
const MAX_MESSAGE: usize = 4096;

/// What the service calls such keys; none for those that are not asked of it.
fn aws_spec(spec: KeySpec) -> Option<AwsKeySpec> {
    Some(match spec {
        KeySpec::EcP256 => AwsKeySpec::EccNistP256,
        KeySpec::EcP384 => AwsKeySpec::EccNistP384,
        KeySpec::Rsa2048 => AwsKeySpec::Rsa2048,
        KeySpec::Rsa3072 => AwsKeySpec::Rsa3072,
        KeySpec::Rsa4096 => AwsKeySpec::Rsa4096,
        KeySpec::Ed25519 => AwsKeySpec::EccNistEdwards25519,
        KeySpec::EcP521 | KeySpec::MlDsa44 | KeySpec::MlDsa65 | KeySpec::MlDsa87 => return None,
    })
}
