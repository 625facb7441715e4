//! Every setting, once: what reads the environment, what refuses a misspelt name and `docs/SETTINGS.md` come from here.

use super::Kind;

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    /// The variable.
    pub(super) name: &'static str,
    /// Its chapter in the document.
    pub(super) part: Part,
    /// Whether it may also come from the file that `NAME_FILE` names; it is shown nowhere.
    pub(super) secret: bool,
    /// What holds without it.
    default: &'static str,
    /// What it means, with its bounds.
    meaning: &'static str,
}

/// What a setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The state.
    Database,
    /// The network.
    Http,
    /// Tokens.
    Identity,
    /// How often somebody may ask.
    Limits,
    /// How the vault behaves.
    Vault,
    /// Logs.
    Log,
    /// The keys between the root key and the rows.
    Keys,
    /// Of every root key, whatever its provider.
    Root,
    /// Of a root key at that provider.
    Provider(Kind),
    /// Of a root key at one of these providers.
    Shared(&'static [Kind]),
}

impl Part {
    /// Whether it describes a root key, so that it may have the number of one behind it.
    pub(super) fn is_root(self) -> bool {
        matches!(self, Self::Root | Self::Provider(_) | Self::Shared(_))
    }

    /// Whether a root key at `kind` has it.
    pub(super) fn belongs_to(self, kind: Kind) -> bool {
        match self {
            Self::Provider(own) => own == kind,
            Self::Shared(own) => own.contains(&kind),
            _ => true,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Database => "Database",
            Self::Http => "Network",
            Self::Identity => "Tokens",
            Self::Limits => "Rate limits",
            Self::Vault => "Behaviour",
            Self::Log => "Logs",
            Self::Keys => "Keys",
            Self::Root => "Root keys",
            Self::Shared(_) => "Root keys at several providers",
            Self::Provider(Kind::Local) => "Root key in a file (`local`)",
            Self::Provider(Kind::Aws) => "Root key in AWS KMS (`aws`)",
            Self::Provider(Kind::Gcp) => "Root key in Google Cloud KMS (`gcp`)",
            Self::Provider(Kind::Azure) => "Root key in Azure Key Vault or Managed HSM (`azure`)",
            Self::Provider(Kind::Transit) => "Root key in Vault or OpenBao, engine Transit (`vault`)",
            Self::Provider(Kind::Pkcs11) => "Root key in an HSM, PKCS #11 (`pkcs11`)",
            Self::Provider(Kind::Tpm) => "Root key in a TPM 2.0 (`tpm`)",
        }
    }
}

/// The number behind a variable of the first root key is none.
pub(super) const SUFFIXES: [&str; 4] = ["", "_2", "_3", "_4"];

/// The setting that a variable sets, and the number behind it.
pub(super) fn find(variable: &str) -> Option<(&'static Setting, &'static str)> {
    let plain = |name: &str| {
        let of = |name: &str| SETTINGS.iter().find(|setting| setting.name == name);
        of(name).or_else(|| of(name.strip_suffix("_FILE")?).filter(|setting| setting.secret))
    };
    if let Some(setting) = plain(variable) {
        return Some((setting, ""));
    }
    let suffix = SUFFIXES.iter().skip(1).find(|suffix| variable.ends_with(**suffix))?;
    let setting = plain(variable.strip_suffix(suffix)?)?;
    let numbered = setting.part.is_root() && setting.name != SECONDARY;
    numbered.then_some((setting, suffix))
}

/// It is a second root key already.
const SECONDARY: &str = "KMS_KEY_ID_SECONDARY";

/// `docs/SETTINGS.md`.
pub(crate) fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut title = "";
    for setting in SETTINGS {
        if setting.part.title() != title {
            title = setting.part.title();
            text.push_str(&format!("\n## {title}\n\n"));
            text.push_str("| variable | default | meaning |\n|---|---|---|\n");
        }
        let file = if setting.secret { format!(", `{}_FILE`", setting.name) } else { String::new() };
        text.push_str(&format!("| `{}`{file} | {} | {} |\n", setting.name, setting.default, setting.meaning));
    }
    text
}

const INTRODUCTION: &str = "# Settings

`scaivault-server` is configured by environment variables. This document is made from the table that reads them
(`scaivault-server check-config --settings-table`).

- A variable that is set but empty, unknown (but looks like one of these), contradictory or of another provider is
  refused by its name, all of them at once, with exit code 2. No value is repeated.
- Where `NAME_FILE` is named, it is the path of a file that holds the value (blanks around it are dropped), instead of
  `NAME`. Everything that is secret has one.
- A duration is an integer and one unit of s, m, h, d, w: `30s`, `7d`.
- Up to four root keys, in order of preference: the variables of root keys and of their providers, with `_2`, `_3` or
  `_4` behind them, describe the further ones (`KMS_PROVIDER_2`, `VAULT_ADDR_2`, `VAULT_TOKEN_FILE_2`).
- `scaivault-server check-config` tries all of it: it wraps and unwraps a key under every root key.
";

macro_rules! settings {
    ($($part:expr => { $($name:literal $($secret:ident)?, $default:literal, $meaning:literal;)+ })+) => {
        &[$($(Setting {
            name: $name,
            part: $part,
            secret: settings!(@secret $($secret)?),
            default: $default,
            meaning: $meaning,
        },)+)+]
    };
    (@secret secret) => { true };
    (@secret) => { false };
}

/// Every setting, in the order of the document.
pub(super) const SETTINGS: &[Setting] = settings! {
    Part::Database => {
        "DATABASE_URL" secret, "required", "`postgres://…` (14 or newer) or `sqlite:PATH`";
        "DATABASE_URL_READ" secret, "none", "a streaming replica, for reads that may lag (lists, the audit trail); never needed";
        "DB_POOL_SIZE", "`16`", "connections to PostgreSQL, 1 to 100";
        "DATABASE_OWNER_PASSWORD" secret, "none", "`migrate --create-roles`: the password of the role that owns the schema";
        "DATABASE_APP_PASSWORD" secret, "none", "`migrate --create-roles`: the password of the role that serves";
        "MIGRATE_ON_START", "`true`", "`false` refuses a schema that is behind, as `--no-migrate`";
    }
    Part::Http => {
        "BIND_ADDRESS", "`0.0.0.0:8443`", "address and port to listen on; plain HTTP unless TLS is set";
        "PKI_HTTP_BIND", "none", "address and port of a second listener, plain HTTP, that serves revocation lists and OCSP and nothing else: relying parties need no TLS to check a certificate";
        "BASE_URL", "required", "the public address (scheme, host, port); it is written into certificates (CRL and OCSP)";
        "TLS_CERT_FILE", "none", "the server's certificates, PEM, its own first; TLS 1.2 and 1.3, HTTP/2";
        "TLS_KEY_FILE", "none", "the key of the first of them, PEM";
        "TLS_CLIENT_CA_FILE", "none", "the authorities, PEM, one of which has to have signed the certificate that every client shows in the handshake, health checks included; besides tokens. Needs the two above";
        "TLS_CLIENT_IDENTITIES_FILE", "none", "whom client certificates stand for, a line each: `uri:spiffe://acme.example/billing tnt_acme sa:billing` or `dns:billing.acme.example tnt_acme sa:billing`. Over a connection with such a certificate only that account is let in, with a token that is bound to the certificate";
        "TRUSTED_PROXIES", "none", "networks and addresses, separated by commas, of proxies whose `X-Forwarded-For` is believed: the rightmost address in it that is not among them is where a request comes from";
        "EGRESS_ALLOWED_CIDRS", "none", "networks and addresses, separated by commas, besides the public internet, that the vault may connect to where a user names the address: private ones are refused otherwise. What an operator configures may be anywhere";
        "DRAIN_TIMEOUT", "`30s`", "how long a stop waits for what has begun";
    }
    Part::Identity => {
        "SCAIKEY_URL", "required", "whose tokens are accepted: the issuer, https (http on this machine)";
        "SCAIKEY_JWKS_URL", "discovered", "where the issuer's keys are";
        "SCAIKEY_CLIENT_ID", "none: only JWTs are accepted, and nothing is synced", "as which client of the issuer the vault looks up personal access tokens (`skt_…`) that are no JWTs, and syncs the directory";
        "SCAIKEY_CLIENT_SECRET" secret, "none", "the secret of that client";
        "SCAIKEY_INTROSPECTION_URL", "discovered", "where such tokens are looked up (RFC 7662), https (http on this machine)";
        "JWT_AUDIENCE", "`scaivault`", "the audiences, separated by commas, of which a token must name one";
        "SCAIKEY_WEBHOOK_SECRET" secret, "none: events are not taken", "what the issuer signs its events with, 16 bytes at least; several, separated by commas, while one is replaced";
        "IDENTITY_SYNC_INTERVAL", "`15m`", "how often the directory is synced, 10s at least. Four times that after the last complete sync it gives no roles and groups any more";
        "BOOTSTRAP_SUPER_ADMIN", "none", "the address of the person who becomes super admin when he first signs in, if there never was one; empty is none. A verified token of any tenant with that address is taken for his: unset it when that is done";
    }
    Part::Limits => {
        "REDIS_URL" secret, "none: each process counts by itself", "what replicas share their counts through, and nothing else: `redis://[USER:PASSWORD@]HOST[:PORT]`, `redis+cluster://HOST:PORT,HOST:PORT`, `redis+sentinel://SENTINEL:PORT,SENTINEL:PORT/NAME`; with `rediss` over TLS. It may be out";
        "RATE_LIMIT_SECRETS_READ", "`1000`", "requests a minute that an identity may make, and at once after a minute without any; `0` is no limit: reading values";
        "RATE_LIMIT_SECRETS_WRITE", "`100`", "the same: writing and restoring secrets";
        "RATE_LIMIT_SECRETS_DELETE", "`100`", "the same: deleting secrets";
        "RATE_LIMIT_SECRETS_LIST", "`100`", "the same: lists, metadata and versions of secrets";
        "RATE_LIMIT_AUDIT_QUERY", "`50`", "the same: queries of the audit trail";
        "RATE_LIMIT_AUDIT_EXPORT", "`5`", "the same: exports of the audit trail";
        "RATE_LIMIT_POLICIES", "`50`", "the same: policies and bindings";
        "RATE_LIMIT_POLICIES_TEST", "`200`", "the same: dry runs of policies";
        "RATE_LIMIT_PKI_ISSUE", "`50`", "the same: issuing certificates";
        "RATE_LIMIT_PKI_ADMIN", "`20`", "the same: authorities, roles, certificates, revocation";
        "RATE_LIMIT_IDENTITY_READ", "`100`", "the same: the directory, and giving roles";
        "RATE_LIMIT_IDENTITY_SYNC", "`5`", "the same: syncs that are asked for";
        "RATE_LIMIT_AUTH", "`300`", "the same: who am I, looking at tokens, and requests that no route answers";
        "RATE_LIMIT_AUTH_EXCHANGE", "`60`", "exchanges of foreign proofs for tokens, by source address as those below";
        "RATE_LIMIT_AUTH_FAILED", "`60`", "tokens that were not believed, by source address (a network of 64 bits of IPv6); behind a proxy, which is one address, name it in `TRUSTED_PROXIES`";
    }
    Part::Vault => {
        "SOFT_DELETE_RETENTION", "`30d`", "how long a deleted secret can be restored";
        "AUDIT_RETENTION", "`2557d`", "how long audit records are kept, at least `90d`";
        "PKI_RSA_POOL", "`8`", "how many RSA keys are made ahead for certificates, 0 to 64: none before the first is asked for, then the sizes that were asked for lately, on one thread that rests half of the time; they are in memory alone";
        "MFA_WINDOW", "`15m`", "how long ago a second factor may have been shown where a policy requires one and does not say";
        "TENANT_ADMIN_BYPASS", "`true`", "whether admins may act on every path without a policy: tenant admins in their tenant, partner admins in those of their partner and on what he shares, super admins everywhere";
    }
    Part::Log => {
        "LOG_LEVEL", "`info`", "`debug`, `info`, `warn`, `error`";
        "LOG_FORMAT", "`json`", "`json` or `text`";
    }
    Part::Keys => {
        "KEY_CACHE_TTL", "`60s`", "how long unwrapped keys stay in memory; `0s` is one call to the key provider a request";
        "ANCHOR_FILE", "beside the first `KMS_LOCAL_KEY_FILE`; without one none", "where it is written down, signed, what the database has at least, so that one that was put back to an older state shows; must be writable";
    }
    Part::Root => {
        "KMS_PROVIDER", "required", "where the root key is: `aws`, `gcp`, `azure`, `vault` (also `hashicorp`, `hashicorp_vault`, `transit`), `pkcs11`, `tpm`, `local`";
        "KMS_NAME", "the kind", "what the root key is called: 1 to 32 of `a-z`, `0-9`, `-`. The kind is `aws`, `gcp`, `azure`, `transit`, `pkcs11`, `tpm` or `local`; a second one of a kind has `-2` behind it, and so on. CAs whose keys are inside of the provider refer to it by this name";
        "KMS_TIMEOUT", "`10s`; `tpm`: `30s`", "for an operation of the provider, retries included, 1s to 5m";
        "KMS_CONCURRENCY", "`64`", "operations of the provider at one time, 1 to 1024; more wait";
    }
    Part::Shared(&[Kind::Aws, Kind::Gcp, Kind::Azure, Kind::Transit]) => {
        "KMS_ATTEMPT_TIMEOUT", "`3s`", "`aws`, `gcp`, `azure`, `vault`: for one attempt of an operation that may be tried again, at most `KMS_TIMEOUT`";
    }
    Part::Shared(&[Kind::Aws, Kind::Gcp]) => {
        "KMS_ENDPOINT", "the provider's own", "`aws`, `gcp`: another address of the service: a private endpoint (https), or an emulator on this machine";
    }
    Part::Shared(&[Kind::Azure, Kind::Gcp]) => {
        "KMS_HSM", "`false`", "`azure`, `gcp`: whether keys that are made there (of CAs, or by `keys bootstrap`) live in an HSM of the service";
    }
    Part::Provider(Kind::Aws) => {
        "KMS_KEY_ID", "required", "the key: its ARN, id or `alias/NAME`; symmetric, for encryption. Credentials come by AWS's chain (environment, profile, web identity, container, instance)";
        "KMS_KEY_ID_SECONDARY", "none", "short for a second root key with the settings of the first and this key; the region is that of its ARN";
        "KMS_REGION", "that of the ARN, else AWS's chain", "the region of the key";
        "KMS_PROFILE", "AWS's chain", "a profile of AWS's configuration files";
    }
    Part::Provider(Kind::Gcp) => {
        "KMS_KEY_NAME", "required", "the key: `projects/P/locations/L/keyRings/R/cryptoKeys/K`";
        "KMS_CREDENTIALS_FILE", "Google's default credentials", "the key file of a service account, JSON";
    }
    Part::Provider(Kind::Azure) => {
        "KMS_KEY_URL", "required", "the key: `https://NAME.vault.azure.net/keys/KEY`, or of a Managed HSM; with `/VERSION` that one wraps, else the newest";
        "KMS_RESOURCE", "that of the host's cloud", "whom tokens are for, such as `https://vault.azure.net`, where the host of the key has a name of its own";
        "AZURE_TENANT_ID", "none", "the directory, with a client secret or a token file; a managed identity has none";
        "AZURE_CLIENT_ID", "none", "the application; of a managed identity, which one";
        "AZURE_CLIENT_SECRET" secret, "none", "the application's secret";
        "AZURE_FEDERATED_TOKEN_FILE", "none", "workload identity: the file with the service account's token";
        "AZURE_AUTHORITY_HOST", "the public cloud's", "who issues tokens";
    }
    Part::Provider(Kind::Transit) => {
        "VAULT_ADDR", "required", "the server, https (http on this machine)";
        "VAULT_TRANSIT_KEY", "required", "the name of the key";
        "VAULT_TRANSIT_MOUNT", "`transit`", "where Transit is mounted";
        "VAULT_NAMESPACE", "none", "the namespace that everything is in, login included";
        "VAULT_CACERT", "the system's roots", "a file with the certificates (PEM) that may have signed the server's, and no others";
        "VAULT_TOKEN" secret, "one login of three", "a token; it is renewed while it may be";
        "VAULT_ROLE_ID", "one login of three", "AppRole: the role's id";
        "VAULT_SECRET_ID" secret, "none", "AppRole: its secret id, unless the role has none";
        "VAULT_KUBERNETES_ROLE", "one login of three", "methods Kubernetes and JWT: the role at the server";
        "VAULT_JWT_FILE", "`/var/run/secrets/kubernetes.io/serviceaccount/token`", "methods Kubernetes and JWT: the file with the token, read anew for every login";
        "VAULT_AUTH_MOUNT", "`approle`, `kubernetes`", "where the method of login is mounted";
    }
    Part::Provider(Kind::Pkcs11) => {
        "PKCS11_LIBRARY", "required", "the vendor's module, opened at run time";
        "PKCS11_SLOT", "required", "the token: `label:NAME`, `serial:NUMBER` or `slot:ID`; digits alone are the id of a slot, anything else is a label";
        "PKCS11_PIN" secret, "required", "the PIN of the token's user";
        "PKCS11_KEY_LABEL", "required", "the label of the key; of several versions the newest wraps";
        "PKCS11_KEY_ID", "none", "the `CKA_ID`, in hexadecimal digits, of the version that is to wrap";
        "PKCS11_SESSIONS", "`4`", "sessions, each on a thread of its own, 1 to 64";
    }
    Part::Provider(Kind::Tpm) => {
        "TPM_TCTI", "`device:/dev/tpmrm0`", "the way to the TPM, in the words of libtss2";
        "TPM_KEY_LABEL", "`scaivault-root`", "the label of the key, from which it is derived unless it has a handle";
        "TPM_KEY_HANDLE", "none: derived", "the key's persistent handle, `0x81000000` to `0x817fffff`";
        "TPM_PCRS", "none", "PCRs (0 to 23, of the SHA-256 bank, separated by commas) without whose values of today nothing opens that is wrapped from now on";
        "TPM_OWNER_AUTH" secret, "none", "the authorisation of the owner hierarchy, if it has one";
    }
    Part::Provider(Kind::Local) => {
        "KMS_LOCAL_KEY_FILE", "required", "64 hexadecimal digits or 32 bytes, mode 0600 (`umask 077; openssl rand -hex 32 > root.key`). Whoever reads the file has the root key";
        "KMS_LOCAL_OLD_KEY_FILES", "none", "files of keys that were replaced and still open, separated by commas";
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SETTINGS.md");
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == document(),
            "docs/SETTINGS.md is old: scaivault-server check-config --settings-table >docs/SETTINGS.md"
        );
    }

    #[test]
    fn names_are_unique_and_found_with_their_numbers() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            assert!(SETTINGS[at + 1..].iter().all(|other| other.name != setting.name), "{}", setting.name);
            assert!(SETTINGS.iter().all(|other| other.name != format!("{}_FILE", setting.name)));
            assert!(!setting.meaning.contains('|') && !setting.default.contains('|'), "{}", setting.name);
        }
        let found = |name| find(name).map(|(setting, suffix)| (setting.name, suffix));
        assert_eq!(found("VAULT_TOKEN"), Some(("VAULT_TOKEN", "")));
        assert_eq!(found("VAULT_TOKEN_FILE_2"), Some(("VAULT_TOKEN", "_2")));
        assert_eq!(found("KMS_LOCAL_KEY_FILE_4"), Some(("KMS_LOCAL_KEY_FILE", "_4")));
        for none in [
            "VAULT_TOKEN_5",
            "VAULT_TOKEN_1",
            "VAULT_TOKEN_2_FILE",
            "VAULT_ADDR_FILE",
            "DATABASE_URL_2",
            "KMS_KEY_ID_SECONDARY_2",
            "_2",
            "",
        ] {
            assert_eq!(found(none), None, "{none}");
        }
    }
}
