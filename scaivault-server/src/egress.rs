//! The one client for everything that this server fetches.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, StatusCode, Url, redirect::Policy};
use scaivault_core::{Error, JwksSource, Result, limits};
use serde::Deserialize;

use crate::config::Identity;

/// Fetches from addresses that an operator has configured: no redirects, bounded in time and size.
#[derive(Clone, Debug)]
struct Egress(Client);

/// Time for a whole fetch.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Egress {
    fn new() -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the one place that makes a client")]
        let builder = Client::builder();
        let client = builder
            .redirect(Policy::none())
            .timeout(TIMEOUT)
            .user_agent(concat!("ScaiVault/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self(client.map_err(Error::internal)?))
    }

    /// The body, if the answer is a 200 of at most `max` bytes.
    async fn get(&self, url: &str, max: usize) -> Result<Fetched> {
        let mut response = self.0.get(url).send().await.map_err(unreachable)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(Fetched::Missing);
        }
        if response.status() != StatusCode::OK {
            return Err(unreachable(format!("{url} answered {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > max {
                return Err(unreachable(format!("{url} answered more than {max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map(Fetched::Body).map_err(unreachable)
    }
}

enum Fetched {
    Body(String),
    Missing,
}

fn unreachable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::unavailable("The identity provider does not answer.", Duration::from_secs(5), source)
}

/// The key set of an identity provider, at a configured address or at the one that discovery names.
#[derive(Debug)]
pub struct HttpJwks {
    egress: Egress,
    issuer: String,
    address: Option<String>,
}

/// Where discovery documents are, below the issuer's address: ScaiKey's place first.
const DISCOVERY: &[&str] =
    &["/api/v1/platform/oauth/.well-known/openid-configuration", "/.well-known/openid-configuration"];

#[derive(Deserialize)]
struct Discovery {
    jwks_uri: String,
}

impl HttpJwks {
    /// Fetches nothing yet: the provider need not run when this server starts.
    ///
    /// # Errors
    /// [`scaivault_core::Code::InternalError`] if the TLS roots of the system cannot be read.
    pub fn new(identity: &Identity) -> Result<Self> {
        Ok(Self {
            egress: Egress::new()?,
            issuer: identity.issuer.as_str().to_owned(),
            address: identity.jwks.as_ref().map(|url| url.as_str().to_owned()),
        })
    }

    async fn discover(&self) -> Result<String> {
        for path in DISCOVERY {
            if let Fetched::Body(body) =
                self.egress.get(&format!("{}{path}", self.issuer), limits::JWKS_BYTES).await?
            {
                let document: Discovery = serde_json::from_str(&body).map_err(unreachable)?;
                return self.checked(document.jwks_uri);
            }
        }
        Err(unreachable("the issuer has no discovery document"))
    }

    /// Keys come over a channel at least as good as the issuer's own.
    fn checked(&self, jwks_uri: String) -> Result<String> {
        let scheme = |url: &str| Url::parse(url).ok().map(|url| url.scheme().to_owned());
        match (scheme(&self.issuer).as_deref(), scheme(&jwks_uri).as_deref()) {
            (_, Some("https")) | (Some("http"), Some("http")) => Ok(jwks_uri),
            _ => Err(unreachable("the discovery document names a key set that is not on https")),
        }
    }
}

#[async_trait]
impl JwksSource for HttpJwks {
    async fn fetch(&self) -> Result<String> {
        let url = match &self.address {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        match self.egress.get(&url, limits::JWKS_BYTES).await? {
            Fetched::Body(body) => Ok(body),
            Fetched::Missing => Err(unreachable(format!("{url} answered 404"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::config::Issuer;

    /// Answers each path with a fixed response on a loopback port, and gives the address.
    async fn serve(routes: Vec<(&'static str, String)>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let base = address.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let found = routes.iter().find(|(route, _)| *route == path).map(|(_, answer)| answer.clone());
                let answer = found.unwrap_or_else(|| answer(404, "")).replace("BASE", &base);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    fn answer(status: u16, body: &str) -> String {
        format!("HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n{body}")
    }

    async fn fetch(issuer: &str, jwks: Option<String>) -> Result<String> {
        let identity = Identity {
            issuer: Issuer::parse(issuer).unwrap(),
            jwks: jwks.map(|url| Issuer::parse(&url).unwrap()),
            audiences: vec!["scaivault".into()],
        };
        HttpJwks::new(&identity).unwrap().fetch().await
    }

    #[tokio::test]
    async fn keys_are_discovered_where_scaikey_and_where_others_have_them() {
        for place in DISCOVERY {
            let document = answer(200, r#"{"jwks_uri": "BASE/keys"}"#);
            let issuer = serve(vec![(place, document), ("/keys", answer(200, "the keys"))]).await;
            assert_eq!(fetch(&issuer, None).await.unwrap(), "the keys");
        }
    }

    #[tokio::test]
    async fn a_configured_address_needs_no_discovery() {
        let issuer = serve(vec![("/own", answer(200, "own keys"))]).await;
        assert_eq!(fetch(&issuer, Some(format!("{issuer}/own"))).await.unwrap(), "own keys");
    }

    #[tokio::test]
    async fn only_a_small_200_is_taken() {
        let large = answer(200, &"x".repeat(limits::JWKS_BYTES + 1));
        let moved = "HTTP/1.1 302 X\r\nlocation: BASE/good\r\nconnection: close\r\n\r\n".to_owned();
        let routes = vec![
            ("/busy", answer(503, "canary")),
            ("/large", large),
            ("/moved", moved),
            ("/good", answer(200, "good")),
        ];
        let issuer = serve(routes).await;
        for path in ["busy", "large", "moved", "none"] {
            let error = fetch(&issuer, Some(format!("{issuer}/{path}"))).await.unwrap_err();
            assert_eq!(error.code(), scaivault_core::Code::ServiceUnavailable, "{path}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        assert_eq!(
            fetch("http://127.0.0.1:1", None).await.unwrap_err().code(),
            scaivault_core::Code::ServiceUnavailable
        );
    }
}
