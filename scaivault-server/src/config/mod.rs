//! Settings: environment variables, all problems told at once, nothing unknown accepted.
//!
//! `Config::from_vars` is pure; [`Config::from_env`] is the one place that reads the environment.

mod kms;
mod names;
mod place;
mod read;
mod table;
mod value;

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
pub use place::{
    Aws, Azure, AzureLogin, Gcp, Kind, Kms, Local, Pkcs11, Place, Root, Tpm, Transit, VaultLogin,
};
use read::Reader;
use scaivault_core::{
    Category, ClientIdentities, RateLimits, RedisUrl, RolePasswords, egress::ServiceUrl,
    identities::WebhookSecrets, limits,
};
pub(crate) use table::document;
pub use value::{Base, DatabaseKind, DatabaseUrl, Format, Hidden, Level};

use crate::http::origin::{TrustedProxies, networks};

/// Everything `serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the state is.
    pub database: Database,
    /// Where to listen and what to say about it.
    pub http: Http,
    /// Whose tokens to believe.
    pub identity: Identity,
    /// What holds the root keys.
    pub kms: Kms,
    /// `RATE_LIMIT_…`: how often an identity may ask.
    pub rate_limits: RateLimits,
    /// `REDIS_URL`, or the content of `REDIS_URL_FILE`: what replicas share their counts through.
    pub redis: Option<RedisUrl>,
    /// `EGRESS_ALLOWED_CIDRS`: networks besides the public internet that may be reached on a user's word.
    pub egress_allowed: Vec<IpNet>,
    /// How to log.
    pub log: Log,
    /// `MIGRATE_ON_START`: whether `serve` brings the schema up to date itself.
    pub migrate_on_start: bool,
    /// `SOFT_DELETE_RETENTION`: how long a deleted secret can be restored.
    pub soft_delete_retention: Duration,
    /// `AUDIT_RETENTION`: how long audit records are kept, at least 90 days.
    pub audit_retention: Duration,
    /// `MFA_WINDOW`: how long ago a second factor may have been shown where a policy does not say it.
    pub mfa_window: Duration,
    /// `PKI_RSA_POOL`: how many RSA keys are made ahead, 0 to 64.
    pub rsa_pool: u32,
    /// `TENANT_ADMIN_BYPASS`: whether admins are allowed every path of what they administer.
    pub tenant_admin_bypass: bool,
}

/// Where the state is.
#[derive(Clone, Debug)]
pub struct Database {
    /// `DATABASE_URL`, or the content of `DATABASE_URL_FILE`.
    pub url: DatabaseUrl,
    /// `DATABASE_URL_READ`, or the content of `DATABASE_URL_READ_FILE`: a replica for lists.
    pub url_read: Option<DatabaseUrl>,
    /// `DB_POOL_SIZE`: connections, 1 to 100.
    pub pool_size: u32,
}

/// Where to listen and what to say about it.
#[derive(Clone, Debug)]
pub struct Http {
    /// `BIND_ADDRESS`.
    pub bind: SocketAddr,
    /// `PKI_HTTP_BIND`: where revocation lists and OCSP are served without TLS, and nothing else.
    pub pki_bind: Option<SocketAddr>,
    /// `BASE_URL`: how the world reaches us, without a trailing slash.
    pub base_url: Base,
    /// `TLS_CERT_FILE` and `TLS_KEY_FILE`; plain HTTP without them.
    pub tls: Option<TlsFiles>,
    /// The content of `TLS_CLIENT_IDENTITIES_FILE`: whom client certificates stand for.
    pub client_identities: ClientIdentities,
    /// `TRUSTED_PROXIES`: whose word is taken for where a request comes from.
    pub trusted_proxies: TrustedProxies,
    /// `DRAIN_TIMEOUT`: how long a stop waits for what has begun.
    pub drain: Duration,
}

/// The two files of a server certificate, and what clients have to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first, PEM.
    pub certificates: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// `TLS_CLIENT_CA_FILE`: what clients' certificates are signed by, PEM; none are asked for without it.
    pub clients: Option<PathBuf>,
}

/// Whose tokens to believe.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `SCAIKEY_URL`: the issuer.
    pub issuer: ServiceUrl,
    /// `SCAIKEY_JWKS_URL`: its keys; discovered if absent.
    pub jwks: Option<ServiceUrl>,
    /// `SCAIKEY_CLIENT_ID` and `SCAIKEY_CLIENT_SECRET`, or the content of `SCAIKEY_CLIENT_SECRET_FILE`: as whom the vault
    /// speaks to the issuer: without them no opaque token is taken, and the directory is not synced.
    pub client: Option<Client>,
    /// `SCAIKEY_INTROSPECTION_URL`: where; discovered if absent.
    pub introspection: Option<ServiceUrl>,
    /// `JWT_AUDIENCE`: a token must name one of these.
    pub audiences: Vec<String>,
    /// `SCAIKEY_WEBHOOK_SECRET`: what the issuer signs its events with.
    pub webhook_secrets: Option<Arc<WebhookSecrets>>,
    /// `IDENTITY_SYNC_INTERVAL`: how often the directory is synced.
    pub sync_interval: Duration,
    /// `BOOTSTRAP_SUPER_ADMIN`: who becomes super admin when he first signs in.
    pub bootstrap_super_admin: Option<String>,
}

/// A client of the issuer.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its name.
    pub id: String,
    /// Its password.
    pub secret: Hidden,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// `LOG_LEVEL`.
    pub level: Level,
    /// `LOG_FORMAT`.
    pub format: Format,
}

/// What `migrate` needs to know: any other setting may be absent, but not wrong.
#[derive(Clone, Debug)]
pub struct MigrateConfig {
    /// Where the state is.
    pub database: Database,
    /// How to log.
    pub log: Log,
    /// `DATABASE_OWNER_PASSWORD` and `DATABASE_APP_PASSWORD`, or the files that they name: for `--create-roles`.
    pub passwords: RolePasswords,
}

/// What a command needs to know that opens the vault and serves nothing: any other setting may be absent, but not
/// wrong.
#[derive(Clone, Debug)]
pub struct KeyedConfig {
    /// Where the state is.
    pub database: Database,
    /// What holds the root keys.
    pub kms: Kms,
    /// How to log.
    pub log: Log,
}

/// What is wrong with the settings: one sentence each, none with a secret in it.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<String>);

impl Config {
    /// The settings of this process.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(environment()?, &read_file)
    }

    /// The settings in `vars`; `file` reads the files that `*_FILE` variables name.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
        file: &dyn Fn(&std::path::Path) -> io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let mut from = Reader::new(vars, file);
        let (database, log) = (database(&mut from), log(&mut from));
        let http = http(&mut from);
        let identity = identity(&mut from);
        let kms = kms::kms(&mut from);
        let rate_limits = rate_limits(&mut from);
        let redis = from.optional_secret("REDIS_URL", "REDIS_URL_FILE");
        let redis = redis.and_then(|url| {
            let parse = |text: &str| RedisUrl::parse(text).map_err(|error| error.message().to_owned());
            from.parsed("REDIS_URL", Some(url.to_string()), parse)
        });
        let egress_allowed = from.text("EGRESS_ALLOWED_CIDRS");
        let egress_allowed =
            from.parsed("EGRESS_ALLOWED_CIDRS", egress_allowed, networks).unwrap_or_default();
        let migrate_on_start = from.flag("MIGRATE_ON_START", true);
        let soft_delete_retention = from.duration("SOFT_DELETE_RETENTION", limits::SOFT_DELETE_RETENTION);
        let audit_retention = from.duration("AUDIT_RETENTION", limits::AUDIT_RETENTION);
        if audit_retention < limits::AUDIT_RETENTION_MIN {
            from.problem("AUDIT_RETENTION must be at least 90d.");
        }
        let mfa_window = from.duration("MFA_WINDOW", limits::MFA_WINDOW);
        let rsa_pool = from.number("PKI_RSA_POOL", limits::RSA_POOL, 0..=limits::RSA_POOL_MAX);
        let tenant_admin_bypass = from.flag("TENANT_ADMIN_BYPASS", true);
        let problems = from.finish();
        match (database, http, identity, kms) {
            (Some(database), Some(http), Some(identity), Some(kms)) if problems.is_empty() => Ok(Self {
                database,
                http,
                identity,
                kms,
                rate_limits,
                redis,
                egress_allowed,
                log,
                migrate_on_start,
                soft_delete_retention,
                audit_retention,
                mfa_window,
                rsa_pool,
                tenant_admin_bypass,
            }),
            _ => Err(ConfigError(problems)),
        }
    }
}

impl MigrateConfig {
    /// The settings of this process.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(environment()?, &read_file)
    }

    /// The settings in `vars`, as [`Config::from_vars`].
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
        file: &dyn Fn(&std::path::Path) -> io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let mut from = Reader::new(vars, file);
        let (database, log) = (database(&mut from), log(&mut from));
        let passwords = RolePasswords {
            owner: from.optional_secret("DATABASE_OWNER_PASSWORD", "DATABASE_OWNER_PASSWORD_FILE"),
            app: from.optional_secret("DATABASE_APP_PASSWORD", "DATABASE_APP_PASSWORD_FILE"),
        };
        let problems = from.finish();
        match database {
            Some(database) if problems.is_empty() => Ok(Self { database, log, passwords }),
            _ => Err(ConfigError(problems)),
        }
    }
}

impl KeyedConfig {
    /// The settings of this process.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn from_env() -> Result<Self, ConfigError> {
        let mut from = Reader::new(environment()?, &read_file);
        let (database, kms, log) = (database(&mut from), kms::kms(&mut from), log(&mut from));
        let problems = from.finish();
        match (database, kms) {
            (Some(database), Some(kms)) if problems.is_empty() => Ok(Self { database, kms, log }),
            _ => Err(ConfigError(problems)),
        }
    }
}

impl Log {
    /// `LOG_LEVEL` and `LOG_FORMAT` alone, for `dev`. Variables of other commands are left alone: `dev` brings
    /// what they would configure, and shares a shell with whatever else a developer runs.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn from_env() -> Result<Self, ConfigError> {
        let mut from = Reader::lenient(environment()?, &read_file);
        let log = log(&mut from);
        let problems = from.finish();
        if problems.is_empty() { Ok(log) } else { Err(ConfigError(problems)) }
    }
}

fn database(from: &mut Reader<'_>) -> Option<Database> {
    let url = from.secret("DATABASE_URL", "DATABASE_URL_FILE");
    let url = from.parsed("DATABASE_URL", url, DatabaseUrl::parse);
    let pool_size = from.number("DB_POOL_SIZE", 16, 1..=100);
    let url_read = from.optional_secret("DATABASE_URL_READ", "DATABASE_URL_READ_FILE");
    let url_read = url_read
        .and_then(|url| from.parsed("DATABASE_URL_READ", Some(url.to_string()), DatabaseUrl::parse_postgres));
    let url = url?;
    if url_read.is_some() && url.kind() != DatabaseKind::Postgres {
        from.problem("DATABASE_URL_READ is set, but DATABASE_URL is not PostgreSQL: unset it.");
    }
    Some(Database { url, url_read, pool_size })
}

fn http(from: &mut Reader<'_>) -> Option<Http> {
    let bind = from.text("BIND_ADDRESS").unwrap_or_else(|| "0.0.0.0:8443".to_owned());
    let bind = from.parsed("BIND_ADDRESS", Some(bind), value::address);
    let pki_bind = from.text("PKI_HTTP_BIND");
    let pki_bind = pki_bind.and_then(|text| from.parsed("PKI_HTTP_BIND", Some(text), value::address));
    let base_url = from.required("BASE_URL");
    let base_url = from.parsed("BASE_URL", base_url, Base::parse);
    let tls = match (from.text("TLS_CERT_FILE"), from.text("TLS_KEY_FILE")) {
        (None, None) => None,
        (Some(certificates), Some(key)) => {
            let clients = from.text("TLS_CLIENT_CA_FILE").map(Into::into);
            Some(TlsFiles { certificates: certificates.into(), key: key.into(), clients })
        }
        (Some(_), None) => {
            from.problem("TLS_CERT_FILE is set without TLS_KEY_FILE; TLS needs both, plain HTTP neither.");
            None
        }
        (None, Some(_)) => {
            from.problem("TLS_KEY_FILE is set without TLS_CERT_FILE; TLS needs both, plain HTTP neither.");
            None
        }
    };
    if tls.is_none() && from.text("TLS_CLIENT_CA_FILE").is_some() {
        from.problem("TLS_CLIENT_CA_FILE is set without TLS_CERT_FILE and TLS_KEY_FILE: whoever ends TLS asks for client certificates.");
    }
    let client_identities = client_identities(from);
    let trusted_proxies = from.text("TRUSTED_PROXIES");
    let trusted_proxies = from.parsed("TRUSTED_PROXIES", trusted_proxies, TrustedProxies::parse);
    let trusted_proxies = trusted_proxies.unwrap_or_default();
    let drain = from.duration("DRAIN_TIMEOUT", Duration::from_secs(30));
    Some(Http { bind: bind?, pki_bind, base_url: base_url?, tls, client_identities, trusted_proxies, drain })
}

fn client_identities(from: &mut Reader<'_>) -> ClientIdentities {
    let name = "TLS_CLIENT_IDENTITIES_FILE";
    let Some(lines) = from.file(name) else { return ClientIdentities::default() };
    if from.text("TLS_CLIENT_CA_FILE").is_none() {
        from.problem(format!("{name} is set without TLS_CLIENT_CA_FILE: no certificate is asked for."));
    }
    let parse =
        |text: &str| ClientIdentities::parse(text).map_err(|reason| format!("names a file whose {reason}"));
    from.parsed(name, Some(lines), parse).unwrap_or_default()
}

fn identity(from: &mut Reader<'_>) -> Option<Identity> {
    let issuer = from.required("SCAIKEY_URL");
    let issuer = from.parsed("SCAIKEY_URL", issuer, ServiceUrl::parse);
    let jwks = from.text("SCAIKEY_JWKS_URL");
    let jwks = from.parsed("SCAIKEY_JWKS_URL", jwks, ServiceUrl::parse);
    let id = from.text("SCAIKEY_CLIENT_ID");
    let secret = from.optional_secret("SCAIKEY_CLIENT_SECRET", "SCAIKEY_CLIENT_SECRET_FILE");
    let introspection = from.text("SCAIKEY_INTROSPECTION_URL");
    let introspection = from.parsed("SCAIKEY_INTROSPECTION_URL", introspection, ServiceUrl::parse);
    let has_secret = from.names().any(|name| name.starts_with("SCAIKEY_CLIENT_SECRET"));
    match (id.is_some(), has_secret) {
        (true, false) if !from.is_empty("SCAIKEY_CLIENT_SECRET") => {
            from.problem(
                "SCAIKEY_CLIENT_ID is set without SCAIKEY_CLIENT_SECRET, or SCAIKEY_CLIENT_SECRET_FILE.",
            );
        }
        (false, true) if !from.is_empty("SCAIKEY_CLIENT_ID") => {
            from.problem("SCAIKEY_CLIENT_SECRET is set without SCAIKEY_CLIENT_ID.");
        }
        (false, false) if introspection.is_some() => {
            from.problem(
                "SCAIKEY_INTROSPECTION_URL is set without SCAIKEY_CLIENT_ID and SCAIKEY_CLIENT_SECRET.",
            );
        }
        _ => {}
    }
    let client = id.zip(secret).map(|(id, secret)| Client { id, secret: Hidden::new(secret) });
    let audiences = from.text("JWT_AUDIENCE").unwrap_or_else(|| "scaivault".to_owned());
    let audiences = from.parsed("JWT_AUDIENCE", Some(audiences), value::list);
    let webhook_secrets = from.optional_secret("SCAIKEY_WEBHOOK_SECRET", "SCAIKEY_WEBHOOK_SECRET_FILE");
    let webhook_secrets = webhook_secrets.and_then(|text| {
        let parse = |text: &str| {
            let secrets = WebhookSecrets::new(text.split(',').map(|secret| secret.trim().as_bytes()));
            secrets.map_err(|_| "must be 1 to 4 secrets of 16 to 1024 bytes, separated by commas".to_owned())
        };
        from.parsed("SCAIKEY_WEBHOOK_SECRET", Some(text.to_string()), parse).map(Arc::new)
    });
    let sync_interval = from.duration("IDENTITY_SYNC_INTERVAL", limits::IDENTITY_SYNC_EVERY);
    if sync_interval < Duration::from_secs(10) {
        from.problem("IDENTITY_SYNC_INTERVAL must be at least 10s.");
    }
    let bootstrap_super_admin = from.text("BOOTSTRAP_SUPER_ADMIN");
    Some(Identity {
        issuer: issuer?,
        jwks,
        client,
        introspection,
        audiences: audiences?,
        webhook_secrets,
        sync_interval,
        bootstrap_super_admin,
    })
}

/// `RATE_LIMIT_SECRETS_READ` is the category `secrets:read`, and so on.
fn rate_limits(from: &mut Reader<'_>) -> RateLimits {
    Category::ALL.iter().fold(RateLimits::none(), |limits, category| {
        let name = format!("RATE_LIMIT_{}", category.key().replace(':', "_").to_ascii_uppercase());
        limits.with(*category, Some(from.number(&name, category.per_minute(), 0..=MOST_REQUESTS)))
    })
}

/// Requests a minute that a limit may be set to.
const MOST_REQUESTS: u32 = 10_000_000;

fn log(from: &mut Reader<'_>) -> Log {
    let (level, format) = (from.text("LOG_LEVEL"), from.text("LOG_FORMAT"));
    Log {
        level: from.parsed("LOG_LEVEL", level, Level::parse).unwrap_or_default(),
        format: from.parsed("LOG_FORMAT", format, Format::parse).unwrap_or_default(),
    }
}

fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let vars = std::env::vars_os();
    let mut readable = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in vars {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => readable.push((name, value)),
            (Ok(name), Err(_)) if names::is_ours(&name) => problems.push(format!("{name} is not UTF-8.")),
            _ => {}
        }
    }
    if problems.is_empty() { Ok(readable) } else { Err(ConfigError(problems)) }
}

fn read_file(path: &std::path::Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

impl ConfigError {
    /// The sentences.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings are not usable:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
