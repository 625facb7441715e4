//! What the values mean. A parser answers what is wrong as the end of a sentence that begins with the name of
//! the variable, and never repeats the value.

use std::{fmt, net::SocketAddr, time::Duration};

use reqwest::Url;
use scaivault_core::DurationText;
use zeroize::Zeroizing;

/// A connection string, which holds a password.
#[derive(Clone)]
pub struct DatabaseUrl {
    kind: DatabaseKind,
    url: Zeroizing<String>,
}

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// PostgreSQL.
    Postgres,
    /// SQLite, in a file.
    Sqlite,
}

impl DatabaseUrl {
    /// Takes `postgres://…`, `postgresql://…` or `sqlite:PATH`.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let kind = if let Some(path) = text.strip_prefix("sqlite:") {
            if path.trim_start_matches('/').is_empty() {
                return Err("names no SQLite file after sqlite:".into());
            }
            if path.contains(":memory:") || path.contains("mode=memory") {
                return Err("must name a SQLite file: a database in memory is lost with the process".into());
            }
            DatabaseKind::Sqlite
        } else {
            let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "postgres" | "postgresql"));
            let Some(url) = url else {
                return Err("must be postgres://…, postgresql://… or sqlite:PATH".into());
            };
            if url.host_str().is_none_or(str::is_empty) && !url.query_pairs().any(|(name, _)| name == "host")
            {
                return Err("names no host".into());
            }
            DatabaseKind::Postgres
        };
        Ok(Self { kind, url: Zeroizing::new(text.to_owned()) })
    }

    /// The same for PostgreSQL alone.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub fn parse_postgres(text: &str) -> Result<Self, String> {
        let url = Self::parse(text).map_err(|_| "must be postgres://… or postgresql://… with a host")?;
        match url.kind {
            DatabaseKind::Postgres => Ok(url),
            DatabaseKind::Sqlite => Err("must be postgres://… or postgresql://… with a host".into()),
        }
    }

    /// Which database.
    #[must_use]
    pub fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// The string with its password. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.url
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({:?}, redacted)", self.kind)
    }
}

/// An origin: `https://vault.example`, without path, trailing slash or credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base(String);

impl Base {
    /// Takes an origin in its canonical form.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = web(text)?;
        let origin = url.origin().ascii_serialization();
        if origin == text {
            return Ok(Self(origin));
        }
        Err(format!("must be only scheme, host and port, written as {origin}"))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The URL of somebody whose word is believed: `https`, or `http` on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer(String);

impl Issuer {
    /// Takes an absolute URL without credentials, query, fragment or trailing slash.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = web(text)?;
        if url.scheme() == "http" && !is_loopback(&url) {
            return Err(
                "must be https: whoever sits on the way could sign tokens (http is for loopback only)".into(),
            );
        }
        if url.query().is_some() || url.fragment().is_some() || text.ends_with('/') {
            return Err("must have no query, fragment or trailing slash".into());
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn web(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else { return Err("must be an absolute http or https URL".into()) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must have no user name or password in it".into());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// From which severity on to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Everything.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What should not happen.
    Warn,
    /// What an operator has to look at.
    Error,
}

impl Level {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            _ => Err("must be debug, info, warn or error".into()),
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

impl Format {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("must be json or text".into()),
        }
    }
}

pub(super) fn kms_provider(text: &str) -> Result<(), String> {
    match text {
        "local" => Ok(()),
        "aws" | "gcp" | "azure" | "hashicorp" | "hashicorp_vault" | "vault" | "pkcs11" | "tpm" => {
            Err(format!("is {text}, but this build has only local"))
        }
        _ => Err("must be local, the only provider of this build".into()),
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an IP address and a port, such as 0.0.0.0:8443 or [::]:8443".into())
}

pub(super) fn list(text: &str) -> Result<Vec<String>, String> {
    let items: Vec<String> = text.split(',').map(|item| item.trim().to_owned()).collect();
    if items.iter().any(String::is_empty) {
        return Err("must be a list separated by commas, without empty items".into());
    }
    Ok(items)
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".into())
}

/// A duration as the API writes it (`30s`, `7d`), at most a hundred years, or `0s`.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0s" {
        return Ok(Duration::ZERO);
    }
    let parsed = text.parse::<DurationText>().ok().map(|duration| duration.get());
    parsed
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| "must be an integer and one unit of s, m, h, d, w, such as 30s or 7d".into())
}

/// A hundred years: nothing here lasts longer.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
