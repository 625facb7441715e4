//! Root keys as the settings describe them: a provider each, with the guard around it and its latencies counted.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use scaivault_kms::{
    KeyProvider, KmsError,
    guard::{Guarded, Latencies, Limits},
    local::{KeyFile, LocalProvider},
};

use crate::config::{Kind, Place, Root};

/// A root key that is ready to be asked. Nothing was asked yet.
#[derive(Clone, Debug)]
pub struct Ready {
    /// What the operator calls it.
    pub name: String,
    /// The variable that says what it is: `KMS_PROVIDER`, `KMS_PROVIDER_2`, …
    pub variable: String,
    /// The provider, guarded.
    pub provider: Arc<dyn KeyProvider>,
    /// How long it takes.
    pub latencies: Arc<Latencies>,
}

/// Settings of a root key that read well and cannot be used: one sentence that names the variable.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// Makes the provider of each root key, in order. None is asked for anything, so that one which is down is none of the
/// settings' problems.
///
/// # Errors
/// [`Unusable`] if a file cannot be read or a library opened, if a value is none, or if two root keys are the same.
pub async fn ready(roots: &[Root]) -> Result<Vec<Ready>, Unusable> {
    let mut all: Vec<Ready> = Vec::new();
    for root in roots {
        let new = one(root).await?;
        let (named, known) =
            (new.provider.describe(), all.iter().map(|root| (root, root.provider.describe())));
        let same = |known: &scaivault_kms::Description| {
            (known.provider, &known.key_id) == (named.provider, &named.key_id)
        };
        if let Some((first, _)) = known.into_iter().find(|(_, known)| same(known)) {
            return Err(Unusable(format!(
                "{} and {} describe the same root key, {} {}: what one wraps could not be told from what the other does.",
                first.variable, new.variable, named.provider, named.key_id
            )));
        }
        all.push(new);
    }
    Ok(all)
}

/// An error with what caused it, for an operator. Errors of providers carry no secrets.
pub(crate) fn told(error: &KmsError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// Asks every root key whether it works, and logs what it says: whoever gave a wrong PIN or token finds it there, and
/// not an hour later.
pub(crate) async fn watch_start(roots: Vec<Ready>) {
    for Ready { name, variable, provider, .. } in roots {
        match provider.health().await {
            Ok(health) => {
                let root = provider.describe();
                let (kind, key, latency) = (root.provider, root.key_id, health.latency);
                tracing::info!(root = name, kind, key, ?latency, "the root key can be used");
                if root.extractable {
                    tracing::warn!(
                        root = name,
                        kind,
                        "whoever has this host or its key file has the root key"
                    );
                }
            }
            Err(error) => {
                tracing::error!(root = name, variable, error = told(&error), "the root key cannot be used");
            }
        }
    }
}

async fn one(root: &Root) -> Result<Ready, Unusable> {
    let variable = format!("KMS_PROVIDER{}", root.suffix);
    let inner = provider(root).await.map_err(|problem| match problem {
        Problem::Variable(name, reason) => Unusable(format!("{name}{} {reason}.", root.suffix)),
        Problem::Provider(error) => {
            Unusable(format!("{variable} is {}, which cannot be used: {}.", root.place.kind(), told(&error)))
        }
    })?;
    let latencies = Arc::new(Latencies::new());
    let provider = Arc::new(Guarded::new(inner, limits(root)).observed_by(latencies.clone()));
    Ok(Ready { name: root.name.clone(), variable, provider, latencies })
}

/// A device has a queue with a deadline of its own, which is to end before the guard's: it says what it waited for.
fn limits(root: &Root) -> Limits {
    let device = matches!(root.place.kind(), Kind::Pkcs11 | Kind::Tpm);
    let (deadline, attempt) = match device {
        true => (root.timeout + 2 * MARGIN, root.timeout + MARGIN),
        false => (root.timeout, root.attempt),
    };
    Limits { deadline, attempt, concurrency: root.concurrency, ..Limits::default() }
}

const MARGIN: Duration = Duration::from_secs(1);

/// Why there is no provider.
enum Problem {
    /// The variable, without its number, and the end of the sentence.
    Variable(&'static str, String),
    Provider(KmsError),
}

impl From<KmsError> for Problem {
    fn from(error: KmsError) -> Self {
        Self::Provider(error)
    }
}

async fn provider(root: &Root) -> Result<Arc<dyn KeyProvider>, Problem> {
    match &root.place {
        Place::Local(local) => {
            let key = KeyFile::open(&local.key_file)?;
            let older = local.old_key_files.iter().map(|file| KeyFile::open(file));
            Ok(Arc::new(LocalProvider::with_older(key, older.collect::<Result<_, _>>()?)))
        }
        #[cfg(feature = "aws")]
        Place::Aws(aws) => {
            let mut config = scaivault_kms::aws::AwsConfig::new(&aws.key_id);
            config.region.clone_from(&aws.region);
            config.endpoint.clone_from(&aws.endpoint);
            config.profile.clone_from(&aws.profile);
            config.timeout = root.attempt;
            Ok(Arc::new(scaivault_kms::aws::AwsProvider::new(config).await?))
        }
        #[cfg(feature = "gcp")]
        Place::Gcp(gcp) => {
            use scaivault_kms::gcp::{GcpAuth, GcpConfig, GcpProvider, Protection};
            let mut config = GcpConfig::new(&gcp.key_name);
            if let Some(file) = &gcp.credentials_file {
                config.auth = GcpAuth::ServiceAccount(file.clone());
            }
            if let Some(endpoint) = &gcp.endpoint {
                config.endpoint.clone_from(endpoint);
            }
            if gcp.hsm {
                config.protection = Protection::Hsm;
            }
            config.timeout = root.attempt;
            Ok(Arc::new(GcpProvider::new(config)?))
        }
        #[cfg(feature = "azure")]
        Place::Azure(azure) => self::azure(root, azure),
        #[cfg(feature = "transit")]
        Place::Transit(transit) => self::transit(root, transit),
        #[cfg(feature = "pkcs11")]
        Place::Pkcs11(pkcs11) => self::pkcs11(root, pkcs11),
        #[cfg(feature = "tpm")]
        Place::Tpm(tpm) => self::tpm(root, tpm),
        #[cfg(not(all(
            feature = "aws",
            feature = "azure",
            feature = "gcp",
            feature = "pkcs11",
            feature = "tpm",
            feature = "transit"
        )))]
        other => Err(Problem::Variable("KMS_PROVIDER", other.kind().absent())),
    }
}

#[cfg(feature = "azure")]
fn azure(root: &Root, azure: &crate::config::Azure) -> Result<Arc<dyn KeyProvider>, Problem> {
    use scaivault_kms::azure::{AzureAuth, AzureConfig, AzureProvider};

    use crate::config::AzureLogin;

    let auth = match azure.login.clone() {
        AzureLogin::ClientSecret { tenant_id, client_id, secret } => {
            AzureAuth::ClientSecret { tenant_id, client_id, secret: self::secret(&secret) }
        }
        AzureLogin::Workload { tenant_id, client_id, token_file } => AzureAuth::WorkloadIdentity {
            tenant_id: Some(tenant_id),
            client_id: Some(client_id),
            token_file: Some(token_file),
        },
        AzureLogin::Managed { client_id } => AzureAuth::ManagedIdentity { client_id },
    };
    let mut config = AzureConfig::new(&azure.key_url, auth);
    config.resource.clone_from(&azure.resource);
    config.authority.clone_from(&azure.authority);
    config.hsm = azure.hsm;
    config.timeout = root.attempt;
    Ok(Arc::new(AzureProvider::new(config)?))
}

#[cfg(feature = "transit")]
fn transit(root: &Root, transit: &crate::config::Transit) -> Result<Arc<dyn KeyProvider>, Problem> {
    use scaivault_kms::transit::{Auth, TransitConfig, TransitProvider};

    use crate::config::VaultLogin;

    let auth = match &transit.login {
        VaultLogin::Token(token) => Auth::Token(secret(token)),
        VaultLogin::AppRole { mount, role_id, secret_id } => Auth::AppRole {
            mount: mount.clone(),
            role_id: role_id.clone(),
            secret_id: secret_id.as_ref().map(secret),
        },
        VaultLogin::Kubernetes { mount, role, jwt_file } => {
            Auth::Kubernetes { mount: mount.clone(), role: role.clone(), jwt_file: jwt_file.clone() }
        }
    };
    let mut config = TransitConfig::new(&transit.address, &transit.key, auth);
    config.mount.clone_from(&transit.mount);
    config.namespace.clone_from(&transit.namespace);
    config.timeout = root.attempt;
    if let Some(file) = &transit.ca_file {
        let pem = std::fs::read(file).map_err(|error| {
            Problem::Variable("VAULT_CACERT", format!("names a file that cannot be read: {error}"))
        })?;
        config.ca_pem = Some(pem);
    }
    Ok(Arc::new(TransitProvider::new(config)?))
}

#[cfg(feature = "pkcs11")]
fn pkcs11(root: &Root, pkcs11: &crate::config::Pkcs11) -> Result<Arc<dyn KeyProvider>, Problem> {
    use scaivault_kms::pkcs11::{Pin, Pkcs11Config, Pkcs11Provider};

    let token =
        pkcs11.slot.parse().map_err(|_| Problem::Variable("PKCS11_SLOT", "names no token".to_owned()))?;
    let config = Pkcs11Config::new(&pkcs11.library, token, Pin::new(secret(&pkcs11.pin)), &pkcs11.key_label)
        .sessions(pkcs11.sessions)
        .queue(root.concurrency)
        .deadline(root.timeout);
    let config = match &pkcs11.key_id {
        Some(id) => config.key_id(id.clone()),
        None => config,
    };
    Ok(Arc::new(Pkcs11Provider::new(config)?))
}

#[cfg(feature = "tpm")]
fn tpm(root: &Root, tpm: &crate::config::Tpm) -> Result<Arc<dyn KeyProvider>, Problem> {
    use scaivault_kms::tpm::{RootKey, TpmConfig, TpmProvider};

    let config = TpmConfig::new(&tpm.tcti, &tpm.key_label)
        .root(tpm.handle.map_or(RootKey::Derived, RootKey::Persistent))
        .queue(root.concurrency)
        .deadline(root.timeout);
    let config = match &tpm.owner_auth {
        Some(auth) => config.owner_auth(secret(auth)),
        None => config,
    };
    Ok(Arc::new(TpmProvider::new(config)?))
}

#[cfg(any(feature = "azure", feature = "pkcs11", feature = "tpm", feature = "transit"))]
fn secret(hidden: &crate::config::Hidden) -> scaivault_kms::Secret {
    scaivault_kms::Secret::new(hidden.expose().as_bytes().to_vec())
}
