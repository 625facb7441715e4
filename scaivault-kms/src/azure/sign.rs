use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::Deserialize;

use super::{
    PROVIDER,
    config::check_name,
    error::{disabled, invalid, not_found, unexpected, unsupported},
    session::{Session, parse},
    wrap::{Attributes, Bundle, NewKey, Operate, Operated},
};
use crate::{KeySpec, KmsError, SignatureScheme, SigningKey, der, spki};

/// One version of a signing key in Azure.
#[derive(Debug)]
pub(super) struct AzureKey {
    session: Arc<Session>,
    /// `keys/NAME/VERSION`.
    path: String,
    spec: KeySpec,
    public: Vec<u8>,
}

impl AzureKey {
    /// Refers to a version that exists.
    pub(super) async fn find(session: &Arc<Session>, name: &str, version: &str) -> Result<Self, KmsError> {
        let path = format!("keys/{name}/{version}");
        let answer = match session.get(&path).await {
            Ok(answer) => answer,
            Err(error) => return Err(session.refine(error, name).await),
        };
        let bundle: Bundle = parse(&answer)?;
        if bundle.attributes.enabled == Some(false) {
            return Err(disabled(format!("{path}: the key is disabled")));
        }
        let kind = &bundle.key.kty;
        let spec = bundle.key.spec().filter(|_| bundle.key.key_ops.iter().any(|may| may == "sign"));
        let spec =
            spec.ok_or_else(|| unsupported(&format!("{path}: this key ({kind}) does not sign for a CA")))?;
        let public = bundle.key.public().ok_or_else(|| unexpected("a public key"))?;
        Ok(Self { session: session.clone(), path, spec, public })
    }

    /// The version of a key that was made first.
    pub(super) async fn oldest(session: &Session, name: &str) -> Result<String, KmsError> {
        let path = format!("keys/{name}/versions");
        let mut answer = match session.get(&path).await {
            Ok(answer) => answer,
            Err(error) => return Err(session.refine(error, name).await),
        };
        let mut oldest: Option<(i64, String)> = None;
        for _ in 0..MOST_PAGES {
            let page: Page = parse(&answer)?;
            for version in page.value {
                let (_, id) = version.kid.rsplit_once('/').ok_or_else(|| unexpected("a version"))?;
                let made = version.attributes.created.unwrap_or(i64::MAX);
                if oldest.as_ref().is_none_or(|(first, _)| made < *first) {
                    oldest = Some((made, id.to_owned()));
                }
            }
            match page.next_link.filter(|next| !next.is_empty()) {
                Some(next) => answer = session.next(&next, &path).await?,
                None => {
                    let (_, version) = match oldest {
                        Some(oldest) => oldest,
                        // A key that is missing has a list without versions.
                        None => {
                            let missing = not_found(format!("keys/{name}: there is no such key"));
                            return Err(session.refine(missing, name).await);
                        }
                    };
                    return Ok(version);
                }
            }
        }
        Err(unsupported(&format!("keys/{name}: it has too many versions to look for the oldest: name one")))
    }
}

/// Makes a key that is not there yet and cannot be exported.
pub(super) async fn create(
    session: &Arc<Session>,
    name: &str,
    spec: KeySpec,
    hsm: bool,
) -> Result<AzureKey, KmsError> {
    check_name(name)?;
    // The service makes one more version of a key that exists.
    match session.get(&format!("keys/{name}")).await {
        Err(KmsError::NotFound { .. }) => {}
        Ok(_) => return Err(invalid(&format!("keys/{name}: there is a key of this name already"))),
        Err(error) => return Err(error),
    }
    let hsm = hsm || session.is_hsm();
    let (kty, crv, key_size) = match spec {
        KeySpec::EcP256 => (if hsm { "EC-HSM" } else { "EC" }, Some("P-256"), None),
        KeySpec::EcP384 => (if hsm { "EC-HSM" } else { "EC" }, Some("P-384"), None),
        KeySpec::Rsa2048 => (if hsm { "RSA-HSM" } else { "RSA" }, None, Some(2048)),
        KeySpec::Rsa3072 => (if hsm { "RSA-HSM" } else { "RSA" }, None, Some(3072)),
        KeySpec::Rsa4096 => (if hsm { "RSA-HSM" } else { "RSA" }, None, Some(4096)),
        other => return Err(unsupported(&format!("keys of kind {}", other.as_str()))),
    };
    let request = NewKey { kty, key_size, crv, key_ops: &["sign", "verify"] };
    let answer = session.post(&format!("keys/{name}/create"), &request).await?;
    let bundle: Bundle = parse(&answer)?;
    let (_, version) = bundle.key.kid.rsplit_once('/').ok_or_else(|| unexpected("a version"))?;
    AzureKey::find(session, name, version).await
}

#[async_trait]
impl SigningKey for AzureKey {
    fn spec(&self) -> KeySpec {
        self.spec
    }

    fn public_key_der(&self) -> &[u8] {
        &self.public
    }

    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        spki::check_scheme(PROVIDER, self.spec, scheme)?;
        let alg = match scheme {
            SignatureScheme::EcdsaSha256 => "ES256",
            SignatureScheme::EcdsaSha384 => "ES384",
            SignatureScheme::RsaPkcs1Sha256 => "RS256",
            SignatureScheme::RsaPkcs1Sha384 => "RS384",
            SignatureScheme::RsaPssSha256 => "PS256",
            other => return Err(unsupported(&format!("{other:?}"))),
        };
        let digest = spki::prehash(scheme, message).ok_or_else(|| unsupported(alg))?;
        let request = Operate { alg, value: &BASE64.encode(digest.as_ref()) };
        let answer = self.session.post(&format!("{}/sign", self.path), &request).await?;
        let told: Operated<'_> = parse(&answer)?;
        let signature = BASE64.decode(told.value).map_err(|_| unexpected("a signature"))?;
        let signature = match scheme {
            SignatureScheme::EcdsaSha256 | SignatureScheme::EcdsaSha384 => {
                der::ecdsa_signature(&signature).ok_or_else(|| unexpected("a signature"))?
            }
            _ => signature,
        };
        spki::check_signature(PROVIDER, scheme, &self.public, message, signature)
    }
}

/// Each has up to 25 versions.
const MOST_PAGES: u32 = 40;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    value: Vec<Listed>,
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    kid: String,
    #[serde(default)]
    attributes: Attributes,
}

/// The public part of a key (RFC 7517), as the service shows it.
#[derive(Deserialize)]
pub(super) struct Jwk {
    pub(super) kid: String,
    pub(super) kty: String,
    #[serde(default)]
    pub(super) key_ops: Vec<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Jwk {
    pub(super) fn spec(&self) -> Option<KeySpec> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC" | "EC-HSM", Some("P-256")) => Some(KeySpec::EcP256),
            ("EC" | "EC-HSM", Some("P-384")) => Some(KeySpec::EcP384),
            ("RSA" | "RSA-HSM", _) => match decode(&self.n)?.len() {
                256 => Some(KeySpec::Rsa2048),
                384 => Some(KeySpec::Rsa3072),
                512 => Some(KeySpec::Rsa4096),
                _ => None,
            },
            _ => None,
        }
    }

    /// As `SubjectPublicKeyInfo`; `None` for a key that has none, or of a kind that is not used here.
    pub(super) fn public(&self) -> Option<Vec<u8>> {
        match self.spec()? {
            KeySpec::EcP256 => self.point(der::P256, 32),
            KeySpec::EcP384 => self.point(der::P384, 48),
            _ => Some(der::rsa_public_key(&decode(&self.n)?, &decode(&self.e)?)),
        }
    }

    fn point(&self, curve: &[u8], len: usize) -> Option<Vec<u8>> {
        let (x, y) = (decode(&self.x)?, decode(&self.y)?);
        let fits = x.len() == len && y.len() == len;
        fits.then(|| der::ec_public_key(curve, &[&[4], &x[..], &y].concat()))
    }
}

fn decode(text: &Option<String>) -> Option<Vec<u8>> {
    BASE64.decode(text.as_deref()?).ok()
}
