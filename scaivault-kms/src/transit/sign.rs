use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{
    PROVIDER,
    client::body,
    config::check_name,
    error::{invalid, unexpected, unsupported},
    session::Session,
    wrap::{KeyData, parse, split},
};
use crate::{KeySpec, KmsError, SignatureScheme, SigningKey, spki};

/// One version of a signing key in Transit.
pub(super) struct TransitKey {
    session: Arc<Session>,
    /// `mount/sign/name`.
    path: String,
    version: u64,
    spec: KeySpec,
    public: Vec<u8>,
}

impl TransitKey {
    /// Refers to a version of a key that exists.
    pub(super) async fn find(
        session: &Arc<Session>,
        mount: &str,
        name: &str,
        version: u64,
    ) -> Result<Self, KmsError> {
        let path = format!("{mount}/keys/{name}");
        let answer = session.call(Method::GET, &path, None, &path).await?;
        let data = parse::<KeyData>(&answer)?;
        if data.soft_deleted {
            let message = format!("{path}: the key is deleted and can be restored");
            return Err(KmsError::Disabled { provider: PROVIDER, message });
        }
        let spec = spec(&data.r#type).ok_or_else(|| {
            unsupported(&format!("{path}: a key of type {:?} does not sign for a CA", data.r#type))
        })?;
        let told = data.keys.get(&version.to_string()).ok_or_else(|| KmsError::NotFound {
            provider: PROVIDER,
            message: format!("{path}: it has no version {version}"),
        })?;
        let told = told.get("public_key").and_then(|key| key.as_str());
        let public = told.and_then(|key| public(spec, key)).ok_or_else(|| unexpected("a public key"))?;
        let path = format!("{mount}/sign/{name}");
        Ok(Self { session: session.clone(), path, version, spec, public })
    }
}

/// Makes a key that is not there yet and cannot be exported.
pub(super) async fn create(
    session: &Arc<Session>,
    mount: &str,
    name: &str,
    spec: KeySpec,
) -> Result<TransitKey, KmsError> {
    check_name(name)?;
    let path = format!("{mount}/keys/{name}");
    // The service answers a second creation as it answers the first.
    match session.call(Method::GET, &path, None, &path).await {
        Err(KmsError::NotFound { .. }) => {}
        Ok(_) => return Err(invalid(&format!("{path}: there is a key of this name already"))),
        Err(error) => return Err(error),
    }
    let kind = type_of(spec).ok_or_else(|| unsupported(&format!("keys of kind {}", spec.as_str())))?;
    let request = body(&Create { r#type: kind, exportable: false, allow_plaintext_backup: false })?;
    session.call(Method::POST, &path, Some(request), &path).await?;
    let key = TransitKey::find(session, mount, name, 1).await?;
    if key.spec == spec { Ok(key) } else { Err(invalid(&format!("{path}: somebody else made it just now"))) }
}

impl std::fmt::Debug for TransitKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("TransitKey");
        shown.field("path", &self.path).field("version", &self.version).field("spec", &self.spec);
        shown.finish_non_exhaustive()
    }
}

#[async_trait]
impl SigningKey for TransitKey {
    fn spec(&self) -> KeySpec {
        self.spec
    }

    fn public_key_der(&self) -> &[u8] {
        &self.public
    }

    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        spki::check_scheme(PROVIDER, self.spec, scheme)?;
        let digest = spki::prehash(scheme, message);
        let request = Sign {
            input: &BASE64.encode(digest.as_ref().map_or(message, |digest| digest.as_ref())),
            prehashed: digest.is_some(),
            key_version: self.version,
            marshaling_algorithm: "asn1",
            signature_algorithm: match scheme {
                SignatureScheme::RsaPkcs1Sha256 | SignatureScheme::RsaPkcs1Sha384 => Some("pkcs1v15"),
                SignatureScheme::RsaPssSha256 => Some("pss"),
                _ => None,
            },
            salt_length: (scheme == SignatureScheme::RsaPssSha256).then_some("hash"),
        };
        let hash = match scheme {
            SignatureScheme::EcdsaSha256
            | SignatureScheme::RsaPkcs1Sha256
            | SignatureScheme::RsaPssSha256 => "/sha2-256",
            SignatureScheme::EcdsaSha384 | SignatureScheme::RsaPkcs1Sha384 => "/sha2-384",
            _ => "",
        };
        let path = format!("{}{hash}", self.path);
        let answer = self.session.call(Method::POST, &path, Some(body(&request)?), &self.path).await?;
        let data = parse::<Signed<'_>>(&answer)?;
        let (_, signature) = split(data.signature).ok_or_else(|| unexpected("a signature"))?;
        spki::check_signature(PROVIDER, scheme, &self.public, message, signature)
    }
}

fn spec(r#type: &str) -> Option<KeySpec> {
    spki::SPECS.into_iter().find(|spec| type_of(*spec) == Some(r#type))
}

/// What the service calls such keys; none for those that are not asked of it.
fn type_of(spec: KeySpec) -> Option<&'static str> {
    Some(match spec {
        KeySpec::EcP256 => "ecdsa-p256",
        KeySpec::EcP384 => "ecdsa-p384",
        KeySpec::Rsa2048 => "rsa-2048",
        KeySpec::Rsa3072 => "rsa-3072",
        KeySpec::Rsa4096 => "rsa-4096",
        KeySpec::Ed25519 => "ed25519",
        KeySpec::EcP521 | KeySpec::MlDsa44 | KeySpec::MlDsa65 | KeySpec::MlDsa87 => return None,
    })
}

/// PEM, but for Ed25519, whose bytes come bare.
fn public(spec: KeySpec, told: &str) -> Option<Vec<u8>> {
    if spec == KeySpec::Ed25519 {
        return spki::ed25519(&BASE64.decode(told).ok()?);
    }
    spki::from_pem(told)
}

#[derive(Serialize)]
pub(super) struct Create<'a> {
    pub(super) r#type: &'a str,
    pub(super) exportable: bool,
    pub(super) allow_plaintext_backup: bool,
}

#[derive(Serialize)]
struct Sign<'a> {
    input: &'a str,
    prehashed: bool,
    key_version: u64,
    marshaling_algorithm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_algorithm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    salt_length: Option<&'a str>,
}

#[derive(Deserialize)]
struct Signed<'a> {
    signature: &'a str,
}
