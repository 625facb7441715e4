use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::Value;

use super::types::TokenProof;
use crate::{
    Clock, Error, JwksSource, Result, StaticJwks,
    egress::{Answer, Egress, Reach},
    identity::{KeyCache, KeySet},
    limits,
};

/// Requests to addresses that a tenant named.
///
/// Whoever implements it makes one attempt per call, follows no redirect, keeps to public addresses unless an operator
/// allows others, and bounds time and size: see H1 of the tests that attack.
#[async_trait]
pub trait Outside: Debug + Send + Sync {
    /// The text at `url`, at most `max` bytes of it; anything but a 200 is an error.
    ///
    /// # Errors
    /// Whatever went wrong; it is logged, and shown to nobody.
    async fn get(&self, url: &str, max: usize) -> Result<String>;

    /// The answer to a POST, at most `max` bytes of it.
    ///
    /// # Errors
    /// As [`get`](Self::get), for what is no answer.
    async fn post(&self, url: &str, headers: &[(&str, &str)], body: &str, max: usize) -> Result<Posted>;
}

#[async_trait]
impl Outside for Egress {
    async fn get(&self, url: &str, max: usize) -> Result<String> {
        let answer = Self::get(self, Reach::Outside, url).protected().max_bytes(max).send().await;
        answer.and_then(Answer::ok).and_then(Answer::text).map_err(Error::internal)
    }

    async fn post(&self, url: &str, headers: &[(&str, &str)], body: &str, max: usize) -> Result<Posted> {
        let request = Self::post(self, Reach::Outside, url).protected().max_bytes(max);
        let request = request.body("application/x-www-form-urlencoded; charset=utf-8", body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.send().await.map_err(Error::internal)?;
        Ok(Posted { status: answer.status(), body: answer.text().map_err(Error::internal)? })
    }
}

/// The answer to a POST.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// The key sets of the issuers that tenants trust.
#[derive(Debug)]
pub(super) struct Keys {
    outside: Arc<dyn Outside>,
    clock: Arc<dyn Clock>,
    sets: Cache<String, Arc<KeyCache>>,
}

impl Keys {
    pub(super) fn new(outside: Arc<dyn Outside>, clock: Arc<dyn Clock>) -> Self {
        let sets = Cache::builder().max_capacity(SETS).time_to_idle(IDLE).build();
        Self { outside, clock, sets }
    }

    /// The keys that tokens are judged by. Keys are public: tenants that name the same place share what was fetched there.
    pub(super) fn of(&self, proof: &TokenProof) -> Arc<KeyCache> {
        let name = match (&proof.jwks, &proof.jwks_url) {
            (Some(set), _) => format!("set {set}"),
            (None, Some(url)) => format!("url {url}"),
            (None, None) => format!("issuer {}", proof.issuer),
        };
        self.sets.get_with(name, || {
            let source: Arc<dyn JwksSource> = match &proof.jwks {
                Some(set) => Arc::new(StaticJwks::new(set.to_string())),
                None => Arc::new(Fetched {
                    outside: Arc::clone(&self.outside),
                    issuer: proof.issuer.clone(),
                    jwks_url: proof.jwks_url.clone(),
                }),
            };
            Arc::new(KeyCache::new(source, Arc::clone(&self.clock), limits::JWKS_FETCH))
        })
    }
}

/// Key sets that are kept at once, and for how long after nobody asked.
const SETS: u64 = 1000;
const IDLE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Fetched {
    outside: Arc<dyn Outside>,
    issuer: String,
    jwks_url: Option<String>,
}

#[async_trait]
impl JwksSource for Fetched {
    async fn fetch(&self) -> Result<String> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        self.outside.get(&url, limits::JWKS_BYTES).await
    }
}

impl Fetched {
    /// Where the keys are, by OpenID Connect Discovery 1.0 section 4: the document has to be this issuer's own.
    async fn discover(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let url = format!("{}{DISCOVERY}", self.issuer.trim_end_matches('/'));
        let text = self.outside.get(&url, limits::DISCOVERY_BYTES).await?;
        let document: Document = serde_json::from_str(&text)
            .map_err(|_| Error::internal("it is no discovery document with issuer and jwks_uri"))?;
        if document.issuer != self.issuer {
            return Err(Error::internal("the discovery document is another issuer's"));
        }
        check_url(&document.jwks_uri)
            .map_err(|reason| Error::internal(format!("the jwks_uri of the discovery document {reason}")))?;
        Ok(document.jwks_uri)
    }
}

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Whether it is an https address that all readers read alike: a host name or address, perhaps a port, and a plain path.
pub(super) fn check_url(text: &str) -> Result<(), String> {
    let wrong = || Err("must be an https address without credentials, query and fragment".to_owned());
    if text.len() > limits::BOUND_VALUE {
        return Err(format!("must have at most {} bytes", limits::BOUND_VALUE));
    }
    let Some(rest) = text.strip_prefix("https://") else { return wrong() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let named = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && host.split('.').all(|label| !label.is_empty());
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let v6 = v6.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|n| n > 0 && n.to_string() == port));
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b':' | b'/');
    let path = path.bytes().all(plain) && !path.split('/').any(|segment| matches!(segment, "." | ".."));
    if (named || v6) && port && path { Ok(()) } else { wrong() }
}

/// Whether it is a key set with a key that tokens can be signed by, and without any private key.
pub(super) fn check_set(set: &Value) -> Result<(), String> {
    let text = set.to_string();
    if text.len() > limits::TRUST_JWKS_BYTES {
        return Err(format!("must have at most {} bytes", limits::TRUST_JWKS_BYTES));
    }
    let keys = set.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if keys.iter().any(|key| PRIVATE.iter().any(|member| key.get(member).is_some())) {
        return Err("holds a private or secret key, which is nobody's business but the issuer's".into());
    }
    match KeySet::parse(&text) {
        Some(set) if !set.is_empty() => Ok(()),
        _ => Err("must be a JSON Web Key Set with an RSA or P-256 key for signatures that has a kid".into()),
    }
}

/// Members of private keys (RFC 7518 sections 6.2.2, 6.3.2 and 6.4).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "k"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_h1_an_address_is_read_by_everybody_alike_or_refused() {
        for good in [
            "https://id.example",
            "https://id.example/",
            "https://id.example:8443/realms/a-b_c.d~e",
            "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE",
            "https://kubernetes.default.svc.cluster.local",
            "https://[2001:db8::1]:6443/openid/v1/jwks",
            "https://10.0.0.1",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "https://",
            "http://id.example",
            "HTTPS://id.example",
            "https:/id.example",
            "https:///id.example",
            "https://id.example?x=1",
            "https://id.example/#f",
            "https://user@id.example",
            "https://id.example\\@evil.example",
            "https://id.example/%2e%2e/x",
            "https://id.example/../x",
            "https://id.example/./x",
            "https://id..example",
            "https://id.example.",
            "https://id.example:",
            "https://id.example:0",
            "https://id.example:080",
            "https://id.example:65536",
            "https://[::1",
            "https://[fe80::1%25eth0]",
            "https://id.example/a b",
            "https://id.ex\u{e4}mple",
            " https://id.example",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
