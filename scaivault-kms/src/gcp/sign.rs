use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::{
    PROVIDER, Protection,
    config::check_name,
    error::{mismatch, unexpected, unsupported},
    session::Session,
    wrap::{NewKey, Template, check_crc, crc32c, parse, until_enabled},
};
use crate::{KeySpec, KmsError, SignatureScheme, SigningKey, spki};

/// One version of a signing key in Cloud KMS. The service fixes the scheme with the key.
#[derive(Debug)]
pub(super) struct GcpKey {
    session: Arc<Session>,
    version: String,
    spec: KeySpec,
    scheme: SignatureScheme,
    public: Vec<u8>,
}

impl GcpKey {
    /// Refers to a version that exists.
    pub(super) async fn find(session: &Arc<Session>, version: String) -> Result<Self, KmsError> {
        let answer = session.get(&format!("{version}/publicKey"), &version).await?;
        let told: PublicKey = parse(&answer)?;
        check_crc(told.pem.as_bytes(), &told.pem_crc32c, "the public key")?;
        let known = ALGORITHMS.iter().find(|(name, ..)| *name == told.algorithm);
        let (_, spec, scheme) = *known.ok_or_else(|| {
            unsupported(&format!("{version}: a key {} does not sign for a CA", told.algorithm))
        })?;
        let public = spki::from_pem(&told.pem).ok_or_else(|| unexpected("a public key"))?;
        Ok(Self { session: session.clone(), version, spec, scheme, public })
    }
}

/// Makes a key that is not there yet, and waits for its first version.
pub(super) async fn create(
    session: &Arc<Session>,
    ring: &str,
    name: &str,
    spec: KeySpec,
    protection: Protection,
) -> Result<GcpKey, KmsError> {
    check_name(name)?;
    let scheme = spec.default_scheme();
    let known = ALGORITHMS.iter().find(|(_, s, by)| *s == spec && *by == scheme);
    let (algorithm, ..) = known.ok_or_else(|| unsupported(spec.as_str()))?;
    let request = NewKey {
        purpose: "ASYMMETRIC_SIGN",
        version_template: Template { algorithm, protection_level: protection.as_str() },
    };
    let key = format!("{ring}/cryptoKeys/{name}");
    session.post(&format!("{ring}/cryptoKeys?cryptoKeyId={name}"), &request, &key).await?;
    let version = format!("{key}/cryptoKeyVersions/1");
    until_enabled(session, &version).await?;
    GcpKey::find(session, version).await
}

#[async_trait]
impl SigningKey for GcpKey {
    fn spec(&self) -> KeySpec {
        self.spec
    }

    fn public_key_der(&self) -> &[u8] {
        &self.public
    }

    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        if scheme != self.scheme {
            let message = format!("{scheme:?} with a key that was made for {:?}", self.scheme);
            return Err(unsupported(&message));
        }
        let digest = spki::prehash(scheme, message);
        let sent = digest.as_ref().map_or(message, |digest| digest.as_ref());
        let (text, checksum) = (BASE64.encode(sent), crc32c(sent).to_string());
        let request = match (&digest, scheme) {
            (None, _) => Sign { data: Some(&text), data_crc32c: Some(checksum), ..Sign::default() },
            (Some(_), SignatureScheme::EcdsaSha384) => Sign {
                digest: Some(Digest { sha384: Some(&text), ..Digest::default() }),
                digest_crc32c: Some(checksum),
                ..Sign::default()
            },
            (Some(_), _) => Sign {
                digest: Some(Digest { sha256: Some(&text), ..Digest::default() }),
                digest_crc32c: Some(checksum),
                ..Sign::default()
            },
        };
        let path = format!("{}:asymmetricSign", self.version);
        let answer = self.session.post(&path, &request, &self.version).await?;
        let told: Signed<'_> = parse(&answer)?;
        let verified = if digest.is_some() { told.verified_digest_crc32c } else { told.verified_data_crc32c };
        if !verified {
            return Err(mismatch("what we sent"));
        }
        if told.name != self.version {
            return Err(unexpected("the version that was asked to sign"));
        }
        let signature = BASE64.decode(told.signature).map_err(|_| unexpected("a signature"))?;
        check_crc(&signature, told.signature_crc32c, "the signature")?;
        spki::check_signature(PROVIDER, scheme, &self.public, message, signature)
    }
}

/// What signs for a CA, and by which scheme. Those that are made come first of their kind.
const ALGORITHMS: &[(&str, KeySpec, SignatureScheme)] = &[
    ("EC_SIGN_P256_SHA256", KeySpec::EcP256, SignatureScheme::EcdsaSha256),
    ("EC_SIGN_P384_SHA384", KeySpec::EcP384, SignatureScheme::EcdsaSha384),
    ("RSA_SIGN_PKCS1_2048_SHA256", KeySpec::Rsa2048, SignatureScheme::RsaPkcs1Sha256),
    ("RSA_SIGN_PKCS1_3072_SHA256", KeySpec::Rsa3072, SignatureScheme::RsaPkcs1Sha256),
    ("RSA_SIGN_PKCS1_4096_SHA256", KeySpec::Rsa4096, SignatureScheme::RsaPkcs1Sha256),
    ("RSA_SIGN_PSS_2048_SHA256", KeySpec::Rsa2048, SignatureScheme::RsaPssSha256),
    ("RSA_SIGN_PSS_3072_SHA256", KeySpec::Rsa3072, SignatureScheme::RsaPssSha256),
    ("RSA_SIGN_PSS_4096_SHA256", KeySpec::Rsa4096, SignatureScheme::RsaPssSha256),
    ("EC_SIGN_ED25519", KeySpec::Ed25519, SignatureScheme::Ed25519),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    /// Owned, because its line breaks are escaped.
    pem: String,
    algorithm: String,
    #[serde(default)]
    pem_crc32c: String,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sign<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest_crc32c: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_crc32c: Option<String>,
}

#[derive(Default, Serialize)]
struct Digest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha384: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed<'a> {
    name: &'a str,
    signature: &'a str,
    #[serde(default)]
    signature_crc32c: &'a str,
    #[serde(default)]
    verified_digest_crc32c: bool,
    #[serde(default)]
    verified_data_crc32c: bool,
}
