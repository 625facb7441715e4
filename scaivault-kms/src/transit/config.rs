use std::{path::PathBuf, time::Duration};

use reqwest::{
    Url,
    header::{HeaderName, HeaderValue},
};

use super::{PROVIDER, error::invalid};
use crate::{KmsError, Secret, rest};

/// Where the root key is and who we are there.
#[derive(Debug)]
pub struct TransitConfig {
    /// The server, such as `https://vault.example:8200`. Plain HTTP is accepted from a loopback address
    /// only (an agent beside us): a token is sent with every request.
    pub address: String,
    /// Where Transit is mounted; `transit` by default.
    pub mount: String,
    /// The name of the root key.
    pub key: String,
    /// The namespace that everything is in, login included.
    pub namespace: Option<String>,
    /// How to log in.
    pub auth: Auth,
    /// The certificates (PEM) that may have signed the server's; without them the system's roots.
    pub ca_pem: Option<Vec<u8>>,
    /// For each request. 5 s by default.
    pub timeout: Duration,
}

/// How to log in.
#[derive(Debug)]
#[non_exhaustive]
pub enum Auth {
    /// A token that somebody else made. It is renewed while it may be; when it is over, so are we.
    Token(Secret),
    /// Method AppRole. We log in again when the token is over.
    AppRole {
        /// Where the method is mounted; `approle` by default.
        mount: String,
        /// The role's public half.
        role_id: String,
        /// Its secret half; `None` for a role with `bind_secret_id=false`.
        secret_id: Option<Secret>,
    },
    /// Methods Kubernetes and JWT. The token of the service account is read anew for every login.
    Kubernetes {
        /// Where the method is mounted; `kubernetes` by default.
        mount: String,
        /// The role at the server.
        role: String,
        /// Usually `/var/run/secrets/kubernetes.io/serviceaccount/token`.
        jwt_file: PathBuf,
    },
}

impl TransitConfig {
    /// The root key `key` of the Transit that is mounted at its usual place.
    #[must_use]
    pub fn new(address: impl Into<String>, key: impl Into<String>, auth: Auth) -> Self {
        Self {
            address: address.into(),
            mount: "transit".into(),
            key: key.into(),
            namespace: None,
            auth,
            ca_pem: None,
            timeout: Duration::from_secs(5),
        }
    }

    /// How the root key is named in wraps: namespace, mount and key. Not the address, which may change.
    pub(super) fn key_id(&self) -> String {
        let namespace = self.namespace.iter().map(|n| n.trim_matches('/'));
        namespace.chain([self.mount.as_str(), &self.key]).collect::<Vec<_>>().join("/")
    }

    /// The server's address with the version of the API, or why it is none.
    pub(super) fn base(&self) -> Result<Url, KmsError> {
        let mut url = rest::address(PROVIDER, "the address", &self.address)?;
        let path = format!("{}/v1/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }

    /// Refuses names that would change the path of a request.
    pub(super) fn check(&self) -> Result<(), KmsError> {
        check_path("mount", &self.mount)?;
        check_name(&self.key)?;
        match &self.auth {
            Auth::Token(_) => Ok(()),
            Auth::AppRole { mount, .. } | Auth::Kubernetes { mount, .. } => check_path("login mount", mount),
        }
    }

    /// The header that names the namespace.
    pub(super) fn namespace_header(&self) -> Result<Option<(HeaderName, HeaderValue)>, KmsError> {
        let Some(namespace) = &self.namespace else { return Ok(None) };
        check_path("namespace", namespace.trim_matches('/'))?;
        let value =
            HeaderValue::from_str(namespace).map_err(|_| invalid("the namespace is no header value"))?;
        Ok(Some((HeaderName::from_static("x-vault-namespace"), value)))
    }
}

/// A key's name: letters, digits, `_`, `-` and `.`, as the service has it.
pub(super) fn check_name(name: &str) -> Result<(), KmsError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 128 || !name.chars().all(plain) || name.starts_with('.') {
        return Err(invalid("a key name is up to 128 letters, digits, '_', '-' and '.'"));
    }
    Ok(())
}

fn check_path(what: &str, path: &str) -> Result<(), KmsError> {
    if path.split('/').all(|segment| check_name(segment).is_ok()) {
        return Ok(());
    }
    Err(invalid(&format!("the {what} is a path of names between single slashes")))
}
