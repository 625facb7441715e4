//! Root keys, as the settings describe them.

use std::{fmt, path::PathBuf, time::Duration};

use super::Hidden;

/// What holds the root keys.
#[derive(Clone, Debug)]
pub struct Kms {
    /// In order of preference; at least one, with names of their own.
    pub roots: Vec<Root>,
    /// `ANCHOR_FILE`: where it is written down what the database has at least; beside the first root key's file
    /// unless set.
    pub anchor_file: Option<PathBuf>,
    /// `KEY_CACHE_TTL`: how long unwrapped keys stay in memory; zero is one KMS call a request.
    pub cache_ttl: Duration,
}

/// A root key, and how it is asked.
#[derive(Clone, Debug)]
pub struct Root {
    /// `KMS_NAME`: what the operator calls it.
    pub name: String,
    /// What is behind the variables that describe it: nothing, `_2`, `_3` or `_4`.
    pub suffix: &'static str,
    /// `KMS_TIMEOUT`: for an operation, retries included.
    pub timeout: Duration,
    /// `KMS_ATTEMPT_TIMEOUT`: for one attempt, where a service is asked over a network.
    pub attempt: Duration,
    /// `KMS_CONCURRENCY`: operations at one time.
    pub concurrency: usize,
    /// Where it is.
    pub place: Place,
}

/// The kinds of provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// AWS KMS.
    Aws,
    /// Google Cloud KMS.
    Gcp,
    /// Azure Key Vault or Managed HSM.
    Azure,
    /// Vault or OpenBao, engine Transit.
    Transit,
    /// An HSM.
    Pkcs11,
    /// A TPM 2.0.
    Tpm,
    /// A key file.
    Local,
}

/// Where a root key is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// AWS KMS.
    Aws(Aws),
    /// Google Cloud KMS.
    Gcp(Gcp),
    /// Azure Key Vault or Managed HSM.
    Azure(Azure),
    /// Vault or OpenBao, engine Transit.
    Transit(Transit),
    /// An HSM.
    Pkcs11(Pkcs11),
    /// A TPM 2.0.
    Tpm(Tpm),
    /// A key file.
    Local(Local),
}

/// A root key in AWS KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// `KMS_KEY_ID`: an ARN, an id or an alias.
    pub key_id: String,
    /// `KMS_REGION`.
    pub region: Option<String>,
    /// `KMS_ENDPOINT`.
    pub endpoint: Option<String>,
    /// `KMS_PROFILE`.
    pub profile: Option<String>,
}

/// A root key in Google Cloud KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gcp {
    /// `KMS_KEY_NAME`: a resource name.
    pub key_name: String,
    /// `KMS_CREDENTIALS_FILE`.
    pub credentials_file: Option<PathBuf>,
    /// `KMS_ENDPOINT`.
    pub endpoint: Option<String>,
    /// `KMS_HSM`: whether keys that are made there live in an HSM.
    pub hsm: bool,
}

/// A root key in Azure Key Vault or Managed HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// `KMS_KEY_URL`.
    pub key_url: String,
    /// `KMS_RESOURCE`: whom tokens are for, if the host of the URL does not say.
    pub resource: Option<String>,
    /// `AZURE_AUTHORITY_HOST`.
    pub authority: Option<String>,
    /// `KMS_HSM`: whether keys that are made there live in an HSM.
    pub hsm: bool,
    /// How to log in.
    pub login: AzureLogin,
}

/// A root key in Vault or OpenBao, engine Transit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transit {
    /// `VAULT_ADDR`.
    pub address: String,
    /// `VAULT_TRANSIT_MOUNT`.
    pub mount: String,
    /// `VAULT_TRANSIT_KEY`.
    pub key: String,
    /// `VAULT_NAMESPACE`.
    pub namespace: Option<String>,
    /// `VAULT_CACERT`.
    pub ca_file: Option<PathBuf>,
    /// How to log in.
    pub login: VaultLogin,
}

/// A root key in an HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11 {
    /// `PKCS11_LIBRARY`.
    pub library: PathBuf,
    /// `PKCS11_SLOT`.
    pub slot: String,
    /// `PKCS11_PIN`.
    pub pin: Hidden,
    /// `PKCS11_KEY_LABEL`.
    pub key_label: String,
    /// `PKCS11_KEY_ID`.
    pub key_id: Option<Vec<u8>>,
    /// `PKCS11_SESSIONS`.
    pub sessions: usize,
}

/// A root key in a TPM 2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tpm {
    /// `TPM_TCTI`.
    pub tcti: String,
    /// `TPM_KEY_LABEL`.
    pub key_label: String,
    /// `TPM_KEY_HANDLE`; derived without one.
    pub handle: Option<u32>,
    /// `TPM_OWNER_AUTH`.
    pub owner_auth: Option<Hidden>,
}

/// A root key in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// `KMS_LOCAL_KEY_FILE`.
    pub key_file: PathBuf,
    /// `KMS_LOCAL_OLD_KEY_FILES`: root keys that still open and no longer wrap.
    pub old_key_files: Vec<PathBuf>,
}

/// How to log in to Vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultLogin {
    /// `VAULT_TOKEN`.
    Token(Hidden),
    /// Method AppRole.
    AppRole {
        /// `VAULT_AUTH_MOUNT`.
        mount: String,
        /// `VAULT_ROLE_ID`.
        role_id: String,
        /// `VAULT_SECRET_ID`.
        secret_id: Option<Hidden>,
    },
    /// Methods Kubernetes and JWT.
    Kubernetes {
        /// `VAULT_AUTH_MOUNT`.
        mount: String,
        /// `VAULT_KUBERNETES_ROLE`.
        role: String,
        /// `VAULT_JWT_FILE`.
        jwt_file: PathBuf,
    },
}

/// How to log in to Azure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzureLogin {
    /// A secret of an application.
    ClientSecret {
        /// `AZURE_TENANT_ID`.
        tenant_id: String,
        /// `AZURE_CLIENT_ID`.
        client_id: String,
        /// `AZURE_CLIENT_SECRET`.
        secret: Hidden,
    },
    /// Workload identity.
    Workload {
        /// `AZURE_TENANT_ID`.
        tenant_id: String,
        /// `AZURE_CLIENT_ID`.
        client_id: String,
        /// `AZURE_FEDERATED_TOKEN_FILE`.
        token_file: PathBuf,
    },
    /// Managed identity.
    Managed {
        /// `AZURE_CLIENT_ID`, of one that was assigned.
        client_id: Option<String>,
    },
}

impl Kind {
    /// The name, as descriptions of root keys and `KMS_NAME` have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Transit => "transit",
            Self::Pkcs11 => "pkcs11",
            Self::Tpm => "tpm",
            Self::Local => "local",
        }
    }

    /// Reads `KMS_PROVIDER`; what is wrong is the end of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let kind = match text {
            "aws" => Self::Aws,
            "gcp" => Self::Gcp,
            "azure" => Self::Azure,
            "vault" | "hashicorp" | "hashicorp_vault" | "transit" => Self::Transit,
            "pkcs11" => Self::Pkcs11,
            "tpm" => Self::Tpm,
            "local" => Self::Local,
            _ => return Err("must be aws, gcp, azure, vault, pkcs11, tpm or local".into()),
        };
        if kind.is_built() {
            return Ok(kind);
        }
        Err(kind.absent())
    }

    /// That this build does not have it, as the end of a sentence.
    pub(crate) fn absent(self) -> String {
        format!("is {self}, which this build does not have: it was built without the feature {self}")
    }

    fn is_built(self) -> bool {
        match self {
            Self::Aws => cfg!(feature = "aws"),
            Self::Gcp => cfg!(feature = "gcp"),
            Self::Azure => cfg!(feature = "azure"),
            Self::Transit => cfg!(feature = "transit"),
            Self::Pkcs11 => cfg!(feature = "pkcs11"),
            Self::Tpm => cfg!(feature = "tpm"),
            Self::Local => true,
        }
    }

    /// What an operation may take, unless the settings say otherwise.
    pub(super) fn timeout(self) -> Duration {
        Duration::from_secs(if self == Self::Tpm { 30 } else { 10 })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Place {
    /// Which kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Aws(_) => Kind::Aws,
            Self::Gcp(_) => Kind::Gcp,
            Self::Azure(_) => Kind::Azure,
            Self::Transit(_) => Kind::Transit,
            Self::Pkcs11(_) => Kind::Pkcs11,
            Self::Tpm(_) => Kind::Tpm,
            Self::Local(_) => Kind::Local,
        }
    }
}
