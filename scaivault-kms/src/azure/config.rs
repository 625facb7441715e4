use std::{path::PathBuf, time::Duration};

use reqwest::Url;

use super::{PROVIDER, error::invalid};
use crate::{KmsError, Secret, rest};

/// Where the root key is and who we are there.
#[derive(Debug)]
pub struct AzureConfig {
    /// `https://VAULT.vault.azure.net/keys/NAME`, or of a Managed HSM. With `/VERSION` behind it that version wraps;
    /// without, the newest. Every version opens what it wrapped.
    pub key_url: String,
    /// How to log in.
    pub auth: AzureAuth,
    /// Whom tokens are for, such as `https://vault.azure.net`. By default what the host of the key says; a host of
    /// another form needs it.
    pub resource: Option<String>,
    /// Who gives out tokens; by default `AZURE_AUTHORITY_HOST`, or else `https://login.microsoftonline.com`. HTTPS.
    pub authority: Option<String>,
    /// Whether keys that are made here live in an HSM, which a premium vault has. In a Managed HSM they always do.
    pub hsm: bool,
    /// The certificates (PEM) that may have signed the vault's and the authority's; without them the system's roots.
    pub ca_pem: Option<Vec<u8>>,
    /// For each request, and for a new token. 5 s by default.
    pub timeout: Duration,
}

/// How to log in.
#[derive(Debug)]
#[non_exhaustive]
pub enum AzureAuth {
    /// An application and its secret.
    ClientSecret {
        /// The tenant (directory).
        tenant_id: String,
        /// The application.
        client_id: String,
        /// Its secret.
        secret: Secret,
    },
    /// The workload identity of a pod. What is not given comes from `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and
    /// `AZURE_FEDERATED_TOKEN_FILE`.
    WorkloadIdentity {
        /// The tenant (directory).
        tenant_id: Option<String>,
        /// The application, or the identity that was assigned.
        client_id: Option<String>,
        /// The pod's token; read anew for every login.
        token_file: Option<PathBuf>,
    },
    /// The identity of the machine or service that we run in: the system's, or the one with this client id.
    ManagedIdentity {
        /// Of an identity that was assigned by a user.
        client_id: Option<String>,
    },
}

impl AzureConfig {
    /// The root key at `key_url`, everything else by default.
    #[must_use]
    pub fn new(key_url: impl Into<String>, auth: AzureAuth) -> Self {
        Self {
            key_url: key_url.into(),
            auth,
            resource: None,
            authority: None,
            hsm: false,
            ca_pem: None,
            timeout: Duration::from_secs(5),
        }
    }

    /// The scope of tokens.
    pub(super) fn scope(&self, vault: &Url) -> Result<String, KmsError> {
        let resource = match &self.resource {
            Some(resource) => rest::address(PROVIDER, "the resource", resource)?.to_string(),
            None => {
                let host = vault.host_str().unwrap_or_default();
                let service = host.split_once('.').map(|(_, service)| service);
                let service = service.filter(|service| SERVICES.contains(service));
                format!(
                    "https://{}",
                    service.ok_or_else(|| invalid(
                        "the host of the key's URL is of no Azure cloud: the resource has to be named"
                    ))?
                )
            }
        };
        Ok(format!("{}/.default", resource.trim_end_matches('/')))
    }
}

/// Key Vault and Managed HSM in the public cloud, that of the US government, and that of China.
const SERVICES: &[&str] = &[
    "vault.azure.net",
    "managedhsm.azure.net",
    "vault.usgovcloudapi.net",
    "managedhsm.usgovcloudapi.net",
    "vault.azure.cn",
    "managedhsm.azure.cn",
];

/// A key's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyUrl {
    /// The vault, with nothing behind the host.
    pub(super) vault: Url,
    pub(super) name: String,
    pub(super) version: Option<String>,
}

impl KeyUrl {
    pub(super) fn parse(text: &str) -> Result<Self, KmsError> {
        let wrong = || invalid("the key's URL is not https://HOST/keys/NAME, perhaps with /VERSION");
        let mut vault = rest::address(PROVIDER, "the key's URL", text)?;
        if vault.scheme() != "https" {
            return Err(invalid("the key's URL must begin with https: tokens are sent to it"));
        }
        let path = vault.path().to_owned();
        let mut parts = path.trim_start_matches('/').split('/');
        let (keys, name) = (parts.next(), parts.next().ok_or_else(wrong)?);
        let version = parts.next().filter(|version| !version.is_empty()).map(str::to_owned);
        if keys != Some("keys") || parts.next().is_some() {
            return Err(wrong());
        }
        check_name(name)?;
        version.as_deref().map(check_version).transpose()?;
        vault.set_path("");
        Ok(Self { vault, name: name.to_owned(), version })
    }

    /// How the root key is named in wraps: without a version.
    pub(super) fn key_id(&self) -> String {
        format!("{}keys/{}", self.vault, self.name)
    }
}

/// A reference to a signing key: its name, or name and version. A URL has to be of the same vault.
pub(super) fn reference(vault: &Url, text: &str) -> Result<(String, Option<String>), KmsError> {
    if text.contains("://") {
        let url = KeyUrl::parse(text)?;
        if url.vault != *vault {
            return Err(invalid("the signing key is in another vault than the root key"));
        }
        return Ok((url.name, url.version));
    }
    let (name, version) = match text.split_once('/') {
        None => (text, None),
        Some((name, version)) => (name, Some(version.to_owned())),
    };
    check_name(name)?;
    version.as_deref().map(check_version).transpose()?;
    Ok((name.to_owned(), version))
}

/// The name of a key, as the service has it.
pub(super) fn check_name(name: &str) -> Result<(), KmsError> {
    if name.is_empty() || name.len() > 127 || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err(invalid("a key name is up to 127 letters, digits and '-'"));
    }
    Ok(())
}

pub(super) fn check_version(version: &str) -> Result<(), KmsError> {
    if version.is_empty() || version.len() > 64 || !version.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(invalid("a key version is up to 64 letters and digits"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(key_url: &str) -> AzureConfig {
        AzureConfig::new(key_url, AzureAuth::ManagedIdentity { client_id: None })
    }

    #[test]
    fn urls_of_keys_are_taken_apart_or_refused() {
        let url = KeyUrl::parse("https://v.vault.azure.net/keys/scai/0af1").unwrap();
        assert_eq!((url.name.as_str(), url.version.as_deref()), ("scai", Some("0af1")));
        assert_eq!(url.key_id(), "https://v.vault.azure.net/keys/scai");
        assert_eq!(KeyUrl::parse("https://v.vault.azure.net/keys/scai/").unwrap().version, None);
        for odd in [
            "",
            "v.vault.azure.net/keys/scai",
            "http://v.vault.azure.net/keys/scai",
            "http://127.0.0.1/keys/scai",
            "https://v.vault.azure.net/secrets/scai",
            "https://v.vault.azure.net/keys",
            "https://v.vault.azure.net/keys/",
            "https://v.vault.azure.net/keys/a_b",
            "https://v.vault.azure.net/keys/scai/1/2",
            "https://v.vault.azure.net/keys/scai/..",
            "https://v.vault.azure.net/keys/scai?x=1",
            "https://u@v.vault.azure.net/keys/scai",
        ] {
            assert!(matches!(KeyUrl::parse(odd), Err(KmsError::Invalid { .. })), "{odd}");
        }
    }

    #[test]
    fn the_host_says_whom_a_token_is_for_and_an_odd_one_needs_to_be_told() {
        let scope = |config: &AzureConfig| config.scope(&KeyUrl::parse(&config.key_url)?.vault);
        for (host, expected) in [
            ("v.vault.azure.net", "https://vault.azure.net/.default"),
            ("h.managedhsm.azure.net", "https://managedhsm.azure.net/.default"),
            ("v.vault.azure.cn", "https://vault.azure.cn/.default"),
        ] {
            assert_eq!(scope(&config(&format!("https://{host}/keys/k"))).unwrap(), expected);
        }
        for host in ["vault.azure.net.evil.example", "10.0.0.1", "vault.azure.net", "a.b.vault.azure.net"] {
            let error = scope(&config(&format!("https://{host}/keys/k"))).unwrap_err();
            assert!(error.to_string().contains("has to be named"), "{host}: {error}");
        }
        let mut told = config("https://10.0.0.1/keys/k");
        told.resource = Some("https://vault.azure.net/".into());
        assert_eq!(scope(&told).unwrap(), "https://vault.azure.net/.default");
    }

    #[test]
    fn references_name_a_key_of_this_vault() {
        let vault = KeyUrl::parse("https://v.vault.azure.net/keys/k").unwrap().vault;
        assert_eq!(reference(&vault, "ca").unwrap(), ("ca".into(), None));
        assert_eq!(reference(&vault, "ca/0af1").unwrap(), ("ca".into(), Some("0af1".into())));
        let full = "https://v.vault.azure.net/keys/ca/0af1";
        assert_eq!(reference(&vault, full).unwrap(), ("ca".into(), Some("0af1".into())));
        for odd in ["", "c a", "ca/", "ca/a/b", "ca/../x", "https://w.vault.azure.net/keys/ca"] {
            assert!(matches!(reference(&vault, odd), Err(KmsError::Invalid { .. })), "{odd}");
        }
    }
}
