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

/// A secret of ours: a token, a PIN. Zeroized, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    /// Takes it over.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The secret. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(redacted)")
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

/// Where a service is that is sent credentials: `https`, or `http` on this machine. The slash at its end is dropped.
pub(super) fn service(text: &str) -> Result<String, String> {
    let url = web(text)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err("must be https: credentials are sent there (http is for loopback only)".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have no query or fragment".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// `1 to 32 of a-z, 0-9 and -`.
pub(super) fn root_name(text: &str) -> Result<String, String> {
    let fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=32).contains(&text.len()) && text.bytes().all(fit) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 32 of a-z, 0-9 and -".into())
}

/// The id of an AWS KMS key.
pub(super) fn aws_key(text: &str) -> Result<String, String> {
    let fit = |c: char| c.is_ascii_alphanumeric() || ":/_-".contains(c);
    let arn = !text.starts_with("arn:") || region_of(text).is_some();
    if text.len() <= 2048 && text.chars().all(fit) && arn && !text.starts_with("http") {
        return Ok(text.to_owned());
    }
    Err("must be the ARN of a KMS key (arn:aws:kms:REGION:ACCOUNT:key/ID), its id, or alias/NAME".into())
}

/// The region in the ARN of a KMS key or alias.
pub(super) fn region_of(arn: &str) -> Option<&str> {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    match parts[..] {
        ["arn", _, "kms", region, _, _] if !region.is_empty() => Some(region),
        _ => None,
    }
}

/// The resource name of a key in Google Cloud KMS.
pub(super) fn gcp_key(text: &str) -> Result<String, String> {
    let fit = |part: &&str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
    };
    let parts: Vec<_> = text.split('/').collect();
    let words: Vec<_> = parts.iter().step_by(2).copied().collect();
    if words == ["projects", "locations", "keyRings", "cryptoKeys"]
        && parts.len() == 8
        && parts.iter().all(fit)
    {
        return Ok(text.to_owned());
    }
    Err("must be projects/P/locations/L/keyRings/R/cryptoKeys/K".into())
}

/// The URL of a key in Azure, with or without its version.
pub(super) fn azure_key(text: &str) -> Result<String, String> {
    let wanted = || "must be https://NAME.vault.azure.net/keys/KEY, with or without /VERSION".to_owned();
    let url = web(text).map_err(|_| wanted())?;
    let parts: Vec<_> = url.path_segments().map(Iterator::collect).unwrap_or_default();
    let named = matches!(parts[..], ["keys", name] | ["keys", name, _] if !name.is_empty())
        && parts.iter().all(|part| !part.is_empty());
    let bare = url.query().is_none() && url.fragment().is_none();
    if named && bare && (url.scheme() == "https" || is_loopback(&url)) {
        Ok(text.to_owned())
    } else {
        Err(wanted())
    }
}

/// A name at Vault: letters, digits, `_`, `-` and `.`.
pub(super) fn vault_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.is_empty() && text.len() <= 128 && text.chars().all(plain) && !text.starts_with('.') {
        return Ok(text.to_owned());
    }
    Err("must be a name of up to 128 letters, digits, _, - and .".into())
}

/// Names between single slashes; those at the ends are dropped.
pub(super) fn vault_path(text: &str) -> Result<String, String> {
    let text = text.trim_matches('/');
    if text.split('/').all(|name| vault_name(name).is_ok()) {
        return Ok(text.to_owned());
    }
    Err("must be a path of names of letters, digits, _, - and .".into())
}

/// Which token of an HSM.
pub(super) fn slot(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some(("slot", id)) if id.parse::<u64>().is_err() => {
            Err("must have digits behind slot:, the id of a slot".into())
        }
        Some(("label" | "serial", "")) => Err("must have a name behind the colon".into()),
        _ => Ok(text.to_owned()),
    }
}

pub(super) fn hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || "must be hexadecimal digits, two a byte".to_owned();
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    if !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// A persistent handle of a TPM's owner.
pub(super) fn handle(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let fit = number.filter(|handle| (0x8100_0000..=0x817f_ffff).contains(handle));
    fit.ok_or_else(|| "must be a handle from 0x81000000 to 0x817fffff".into())
}

/// Platform configuration registers.
pub(super) fn pcrs(text: &str) -> Result<Vec<u8>, String> {
    let number = |item: &str| item.trim().parse().ok().filter(|pcr: &u8| *pcr <= 23);
    let all = text.split(',').map(number).collect::<Option<_>>();
    all.ok_or_else(|| "must be numbers from 0 to 23, separated by commas".into())
}

/// A deadline: from a second to five minutes.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_secs(1)..=Duration::from_secs(300);
    let given = duration(text).ok().filter(|given| bounds.contains(given));
    given.ok_or_else(|| "must be a duration from 1s to 5m".into())
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
