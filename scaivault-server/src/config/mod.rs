//! Settings: environment variables, all problems told at once, nothing unknown accepted.
//!
//! `Config::from_vars` is pure; [`Config::from_env`] is the one place that reads the environment.

mod kms;
mod names;
mod place;
mod read;
mod table;
mod value;

use std::{fmt, io, net::SocketAddr, path::PathBuf, time::Duration};

pub use place::{
    Aws, Azure, AzureLogin, Gcp, Kind, Kms, Local, Pkcs11, Place, Root, Tpm, Transit, VaultLogin,
};
use read::Reader;
use scaivault_core::{Category, RateLimits, RedisUrl, RolePasswords, limits};
pub(crate) use table::document;
pub use value::{Base, DatabaseKind, DatabaseUrl, Format, Hidden, Issuer, Level};

use crate::http::origin::TrustedProxies;

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
    /// `TENANT_ADMIN_BYPASS`: whether tenant administrators are allowed every path of their tenant.
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
    /// `TRUSTED_PROXIES`: whose word is taken for where a request comes from.
    pub trusted_proxies: TrustedProxies,
    /// `DRAIN_TIMEOUT`: how long a stop waits for what has begun.
    pub drain: Duration,
}

/// The two files of a server certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first, PEM.
    pub certificates: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// Whose tokens to believe.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `SCAIKEY_URL`: the issuer.
    pub issuer: Issuer,
    /// `SCAIKEY_JWKS_URL`: its keys; discovered if absent.
    pub jwks: Option<Issuer>,
    /// `JWT_AUDIENCE`: a token must name one of these.
    pub audiences: Vec<String>,
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
        let migrate_on_start = from.flag("MIGRATE_ON_START", true);
        let soft_delete_retention = from.duration("SOFT_DELETE_RETENTION", limits::SOFT_DELETE_RETENTION);
        let audit_retention = from.duration("AUDIT_RETENTION", limits::AUDIT_RETENTION);
        if audit_retention < limits::AUDIT_RETENTION_MIN {
            from.problem("AUDIT_RETENTION must be at least 90d.");
        }
        let mfa_window = from.duration("MFA_WINDOW", limits::MFA_WINDOW);
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
                log,
                migrate_on_start,
                soft_delete_retention,
                audit_retention,
                mfa_window,
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
            Some(TlsFiles { certificates: certificates.into(), key: key.into() })
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
    let trusted_proxies = from.text("TRUSTED_PROXIES");
    let trusted_proxies = from.parsed("TRUSTED_PROXIES", trusted_proxies, TrustedProxies::parse);
    let trusted_proxies = trusted_proxies.unwrap_or_default();
    let drain = from.duration("DRAIN_TIMEOUT", Duration::from_secs(30));
    Some(Http { bind: bind?, pki_bind, base_url: base_url?, tls, trusted_proxies, drain })
}

fn identity(from: &mut Reader<'_>) -> Option<Identity> {
    let issuer = from.required("SCAIKEY_URL");
    let issuer = from.parsed("SCAIKEY_URL", issuer, Issuer::parse);
    let jwks = from.text("SCAIKEY_JWKS_URL");
    let jwks = from.parsed("SCAIKEY_JWKS_URL", jwks, Issuer::parse);
    let audiences = from.text("JWT_AUDIENCE").unwrap_or_else(|| "scaivault".to_owned());
    let audiences = from.parsed("JWT_AUDIENCE", Some(audiences), value::list);
    Some(Identity { issuer: issuer?, jwks, audiences: audiences? })
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
