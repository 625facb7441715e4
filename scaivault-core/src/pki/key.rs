//! The key of a CA: sealed in its row and open in this process while it signs, or inside of a key provider.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use scaivault_kms::{
    Description, KeyProvider, KeyRef, KeySpec, KmsError, Secret, SignatureScheme, SigningKey,
    local::SoftwareKey,
};
use scaivault_pki::PkiError;
use tokio::sync::OnceCell;

use super::{ca::generate_key, types::CaCreate};
use crate::{Code, Error, Random, Result, TenantId, envelope::Roots};

/// A CA's key, ready to sign.
#[derive(Clone, Debug)]
pub(super) enum CaKey {
    /// In this process. RSA, P-521 and ML-DSA take up to milliseconds to sign, which is too long for a thread that serves others: it is
    /// done where it holds nobody up.
    Software(Arc<SoftwareKey>),
    /// Inside of a provider.
    Provided(Arc<dyn SigningKey>),
}

#[async_trait]
impl SigningKey for CaKey {
    fn spec(&self) -> KeySpec {
        match self {
            Self::Software(key) => key.spec(),
            Self::Provided(key) => key.spec(),
        }
    }

    fn public_key_der(&self) -> &[u8] {
        match self {
            Self::Software(key) => key.public_key_der(),
            Self::Provided(key) => key.public_key_der(),
        }
    }

    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        let key = match self {
            Self::Provided(key) => return key.sign(scheme, message).await,
            Self::Software(key)
                if matches!(key.spec(), KeySpec::EcP256 | KeySpec::EcP384 | KeySpec::Ed25519) =>
            {
                return key.sign(scheme, message).await;
            }
            Self::Software(key) => Arc::clone(key),
        };
        let message = message.to_vec();
        let runtime = tokio::runtime::Handle::current();
        let signing = tokio::task::spawn_blocking(move || runtime.block_on(key.sign(scheme, &message)));
        signing.await.unwrap_or_else(|_| {
            Err(KmsError::Device {
                provider: "local",
                message: "signing was interrupted".into(),
                source: None,
            })
        })
    }
}

/// A key inside of a provider, as a CA's row names it.
#[derive(Debug)]
pub(super) struct Provided {
    provider: String,
    key_ref: String,
    /// What the provider said of it: a round trip that is not made for each signature.
    known: OnceCell<Arc<dyn SigningKey>>,
}

impl Provided {
    pub(super) fn new(provider: String, key_ref: String) -> Self {
        Self { provider, key_ref, known: OnceCell::new() }
    }

    /// The key. Whether it is the one that the CA's certificate names is seen when it signs.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`] if the provider is none of the configured ones or does not answer;
    /// [`Code::InvalidState`] if it has no such key any more, or the key is disabled.
    pub(super) async fn open(&self, roots: &Roots) -> Result<CaKey> {
        let provider = roots.by_name(&self.provider).ok_or_else(|| {
            let source = format!("no key provider is called {}, which has the CA's key", self.provider);
            Error::unavailable("The provider of the CA's key is not configured.", OPERATOR, source)
        })?;
        let find = || async { provider.signing_key(&KeyRef(self.key_ref.clone())).await };
        self.known.get_or_try_init(find).await.cloned().map(CaKey::Provided).map_err(unusable)
    }
}

/// A key for a CA that is about to be made.
#[derive(Debug)]
pub(super) struct NewKey {
    pub(super) key: CaKey,
    pub(super) at: Place,
}

/// Where it is.
#[derive(Debug)]
pub(super) enum Place {
    /// Here, to be sealed: PKCS #8.
    Here(Secret),
    /// In the provider of that name.
    Provider { name: String, key_ref: String },
}

/// What [`CaCreate`] says about the key, with the provider found.
pub(super) enum Wanted<'a> {
    /// To be made here.
    Here(KeySpec),
    /// To be made inside of a provider.
    Made { name: &'a str, provider: &'a Arc<dyn KeyProvider>, spec: KeySpec },
    /// There already.
    There(NewKey),
}

impl<'a> Wanted<'a> {
    /// Looks up the provider, and the key if one is named. `spec` is the kind that was asked for, if one was.
    ///
    /// # Errors
    /// [`Code::ValidationError`] naming `key_provider`, `key_ref` or `key_type`; [`Code::ServiceUnavailable`] if the
    /// provider does not answer.
    pub(super) async fn find(roots: &'a Roots, write: &'a CaCreate, spec: Option<KeySpec>) -> Result<Self> {
        let Some(name) = &write.key_provider else {
            let spec = spec.ok_or_else(|| Error::field("key_ref", "needs key_provider"))?;
            return Ok(Self::Here(spec));
        };
        let unknown = || Error::field("key_provider", "is none of the configured key providers");
        let provider = roots.by_name(name).ok_or_else(unknown)?;
        let about = describe(provider).await?;
        if about.signature_schemes.is_empty() {
            return Err(Error::field("key_provider", "has no signing keys"));
        }
        let Some(key_ref) = &write.key_ref else {
            let spec = spec.ok_or_else(|| Error::field("key_type", "is required"))?;
            if !about.signature_schemes.contains(&spec.default_scheme()) {
                let message = format!("the key provider has no {} keys", spec.as_str());
                return Err(Error::field("key_type", message));
            }
            return Ok(Self::Made { name, provider, spec });
        };
        if roots.iter().any(|root| names_root(&root.describe(), key_ref)) {
            return Err(Error::field("key_ref", "names a root key, which signs nothing"));
        }
        let key = provider.signing_key(&KeyRef(key_ref.clone())).await.map_err(refused)?;
        if spec.is_some_and(|spec| spec != key.spec()) {
            return Err(Error::field("key_type", format!("the key is of kind {}", key.spec().as_str())));
        }
        let at = Place::Provider { name: name.clone(), key_ref: key_ref.clone() };
        Ok(Self::There(NewKey { key: CaKey::Provided(key), at }))
    }

    pub(super) fn spec(&self) -> KeySpec {
        match self {
            Self::Here(spec) | Self::Made { spec, .. } => *spec,
            Self::There(there) => there.key.spec(),
        }
    }

    /// The key; made now unless it is there. One in a provider is named after the tenant and the CA, and looked up
    /// again by its reference, so that what is kept is known to lead to it.
    ///
    /// # Errors
    /// [`Code::ValidationError`] if the provider has no such keys; otherwise what it ran into.
    pub(super) async fn make(self, tenant: &TenantId, ca_id: &str, random: &dyn Random) -> Result<NewKey> {
        let (provider_name, provider, spec) = match self {
            Self::There(there) => return Ok(there),
            Self::Here(spec) => {
                let (key, pkcs8) = generate_key(spec).await?;
                return Ok(NewKey { key: CaKey::Software(Arc::new(key)), at: Place::Here(pkcs8) });
            }
            Self::Made { name, provider, spec } => (name, provider, spec),
        };
        let (name, key_ref) = names(provider.describe().provider, tenant, ca_id, random)?;
        let made = provider.create_signing_key(&name, spec).await.map_err(|error| match error {
            KmsError::Unsupported { message, .. } => Error::field("key_type", message),
            other => unusable(other),
        })?;
        let found = provider.signing_key(&KeyRef(key_ref.clone())).await.map_err(unusable)?;
        if found.public_key_der() != made.public_key_der() || found.spec() != spec {
            return Err(Error::internal(format!(
                "{key_ref} is another key than {name}, which was just made"
            )));
        }
        let at = Place::Provider { name: provider_name.to_owned(), key_ref };
        Ok(NewKey { key: CaKey::Provided(found), at })
    }
}

/// What the provider says of itself; some can say what they sign with only once they were asked something.
async fn describe(provider: &Arc<dyn KeyProvider>) -> Result<Description> {
    let about = provider.describe();
    if about.signature_schemes.is_empty() && about.provider != "local" {
        provider.health().await.map_err(unusable)?;
        return Ok(provider.describe());
    }
    Ok(about)
}

/// The name of a new key, and how it is referred to afterwards, in the words of the kind of provider. All of them take
/// letters, digits and hyphens, up to 63; a TPM knows numbers alone.
fn names(kind: &str, tenant: &TenantId, ca_id: &str, random: &dyn Random) -> Result<(String, String)> {
    let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let id = plain(ca_id);
    let mut owner = plain(tenant.as_str());
    owner.truncate(NAME.saturating_sub(id.len() + 1));
    let name = format!("{owner}-{id}");
    Ok(match kind {
        "aws" => (name.clone(), format!("alias/{name}")),
        "pkcs11" => (name.clone(), format!("label:{name}")),
        "gcp" | "transit" => (name.clone(), format!("{name}@1")),
        "tpm" => {
            let mut place = [0; 2];
            random.fill(&mut place)?;
            let handle = format!("{:#010x}", 0x8110_0000 + u32::from(u16::from_be_bytes(place)));
            (handle.clone(), handle)
        }
        _ => (name.clone(), name),
    })
}

/// Characters of a name that every provider takes.
const NAME: usize = 63;

/// Whether a reference to a signing key names a root key, or what belongs to one: in full, by the name alone, by its
/// version's id, or by a label below its own.
fn names_root(root: &Description, key_ref: &str) -> bool {
    let bare = key_ref.split_once(':').map_or(key_ref, |(word, rest)| match word {
        "label" | "id" | "handle" => rest,
        _ => key_ref,
    });
    let bare = bare.split_once('@').map_or(bare, |(name, _)| name);
    let named = [bare, name_in(bare), bare.split('/').next().unwrap_or_default()];
    let ids = [Some(root.key_id.as_str()), Some(name_in(&root.key_id)), root.key_version.as_deref()];
    let mut ids = ids.into_iter().flatten().filter(|id| !id.is_empty());
    ids.any(|id| named.iter().any(|name| name.eq_ignore_ascii_case(id)))
}

/// A key's name in its URL or resource name: behind `keys/`, else what is behind the last slash.
fn name_in(text: &str) -> &str {
    let behind =
        |word: &str| text.split_once(word).map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    behind("/keys/")
        .or_else(|| behind("/cryptoKeys/"))
        .unwrap_or_else(|| text.rsplit('/').next().unwrap_or_default())
}

/// Why a reference to a key was refused.
fn refused(error: KmsError) -> Error {
    match error {
        KmsError::NotFound { .. } => Error::field("key_ref", "the key provider has no such key"),
        KmsError::Disabled { .. } => Error::field("key_ref", "the key is disabled"),
        KmsError::Denied { .. } => Error::field("key_ref", "the vault may not use that key"),
        KmsError::Unsupported { message, .. } | KmsError::Invalid { message, .. } => {
            Error::field("key_ref", message)
        }
        other => unusable(other),
    }
}

/// Why the provider of a CA's key did nothing.
fn unusable(error: KmsError) -> Error {
    let wait = error.retry_after().unwrap_or(Duration::from_secs(1));
    match error {
        KmsError::Unavailable { .. } | KmsError::Device { .. } => {
            Error::unavailable("The provider of the CA's key is not available.", wait, error)
        }
        KmsError::Denied { .. } | KmsError::Unauthenticated { .. } => {
            let message = "The provider of the CA's key refuses the vault; an operator has to look.";
            Error::unavailable(message, OPERATOR, error)
        }
        KmsError::NotFound { .. } | KmsError::Disabled { .. } => {
            tracing::error!(error = %error, "the key of a CA cannot be used");
            let message = "The CA's key is disabled or missing in its provider; an operator has to look.";
            Error::new(Code::InvalidState, message)
        }
        other => Error::internal(other),
    }
}

/// When to try again where somebody has to do something first.
const OPERATOR: Duration = Duration::from_secs(60);

/// Why something was not signed. That a signature does not verify, or that the provider has another key now, is not the
/// caller's business.
pub(super) fn unsigned(error: PkiError) -> Error {
    match error {
        PkiError::Kms(error) => unusable(error),
        PkiError::Invalid { field: "key", .. } => Error::internal(error),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;

    fn root(provider: &'static str, key_id: &str, key_version: Option<&str>) -> Description {
        Description {
            provider,
            key_id: key_id.to_owned(),
            key_version: key_version.map(str::to_owned),
            algorithm: String::new(),
            native_context: true,
            key_bits: None,
            extractable: false,
            attestation: scaivault_kms::Attestation::Service,
            signature_schemes: Vec::new(),
        }
    }

    #[test]
    fn a_root_key_is_seen_under_each_of_its_names() {
        let azure = "https://v.vault.azure.net/keys/root";
        let gcp = "projects/p/locations/l/keyRings/r/cryptoKeys/root";
        for (root, names) in [
            (
                root("pkcs11", "root", Some("53564B31")),
                &["root", "label:root", "label:root/mac", "id:53564b31"][..],
            ),
            (root("transit", "team/transit/root", Some("3")), &["root", "root@1", "root@7"]),
            (
                root("azure", azure, None),
                &["root", "root/0123", azure, "https://v.vault.azure.net/keys/root/01"],
            ),
            (root("gcp", gcp, None), &["root@1", gcp, &format!("{gcp}/cryptoKeyVersions/1")]),
            (root("aws", "arn:aws:kms:r:1:key/k", None), &["arn:aws:kms:r:1:key/k", "k"]),
        ] {
            for name in names {
                assert!(names_root(&root, name), "{name} of {root:?}");
            }
            for other in ["ca", "label:ca", "ca@1", "roots", "arn:aws:kms:r:1:key/l", "alias/ca", "id:00"] {
                assert!(!names_root(&root, other), "{other} of {root:?}");
            }
        }
    }

    #[test]
    fn names_of_new_keys_are_such_as_every_provider_takes() {
        let tenant = TenantId::parse(format!("tnt_/+{}", "x".repeat(100))).unwrap();
        let id = "ca_intermediate_01kaf0v3c8kq2z9rj4h6p8m1ab";
        for (kind, before, after) in [
            ("aws", "alias/", ""),
            ("gcp", "", "@1"),
            ("pkcs11", "label:", ""),
            ("transit", "", "@1"),
            ("x", "", ""),
        ] {
            let (name, key_ref) = names(kind, &tenant, id, &SystemRandom).unwrap();
            assert!(
                name.len() <= 63 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
                "{name}"
            );
            assert!(name.starts_with("tnt-") && name.ends_with("-01kaf0v3c8kq2z9rj4h6p8m1ab"), "{name}");
            assert_eq!(key_ref, format!("{before}{name}{after}"));
        }
        let (name, key_ref) = names("tpm", &tenant, id, &SystemRandom).unwrap();
        let handle = u32::from_str_radix(name.strip_prefix("0x").unwrap(), 16).unwrap();
        assert!((0x8110_0000..=0x8110_ffff).contains(&handle) && name == key_ref, "{name}");
    }
}
