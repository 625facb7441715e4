//! Requests that we make ourselves: one client, no redirects, everything bounded.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, RequestBuilder, StatusCode, Url, header, redirect};
use scaivault_core::{Error, JwksSource, Result, limits};
use serde::Deserialize;

use crate::config::{Identity, Issuer};

/// The one HTTP client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Egress {
    client: Client,
}

/// Fetches the key set of the token issuer: from its configured address, or where its discovery document
/// points.
#[derive(Clone, Debug)]
pub struct HttpJwks {
    egress: Egress,
    issuer: Issuer,
    jwks: Option<Issuer>,
}

/// Why something was not fetched. Its text is for logs: it names the address, never what came back.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No usable answer in time.
    #[error("{url} gives no usable answer")]
    Transport {
        /// Where from.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// An answer other than 200; redirects are not followed.
    #[error("{url} answered {status}")]
    Status {
        /// Where from.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// More than was asked for.
    #[error("{url} answered more than {max} bytes")]
    TooLarge {
        /// Where from.
        url: String,
        /// The bound.
        max: usize,
    },
    /// Not what was asked for.
    #[error("{url}: {reason}")]
    Unfit {
        /// Where from.
        url: String,
        /// Why.
        reason: String,
    },
}

impl Egress {
    /// A client that trusts the roots of the system and uses no proxy, whatever the environment says.
    ///
    /// # Errors
    /// [`scaivault_core::Code::InternalError`] if TLS cannot be set up.
    pub fn new() -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the one client there is")]
        let builder = Client::builder();
        let client = builder
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .user_agent(concat!("scaivault/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Error::internal)?;
        Ok(Self { client })
    }

    /// The text at `url`, at most `max` bytes of it.
    ///
    /// # Errors
    /// [`FetchError`]; anything but a 200 is one.
    pub async fn get(&self, url: &str, max: usize) -> Result<String, FetchError> {
        self.send(self.client.get(url), url, max).await
    }

    /// The same for who shows a bearer token.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_as(&self, token: &str, url: &str, max: usize) -> Result<String, FetchError> {
        self.send(self.client.get(url).bearer_auth(token), url, max).await
    }

    /// What a token endpoint answers to a client with these credentials (RFC 6749 section 4.4).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn client_token(
        &self,
        (id, secret): (&str, &str),
        url: &str,
        max: usize,
    ) -> Result<String, FetchError> {
        let form = header::HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = self.client.post(url).basic_auth(id, Some(secret)).header(header::CONTENT_TYPE, form);
        self.send(request.body("grant_type=client_credentials"), url, max).await
    }

    async fn send(&self, request: RequestBuilder, url: &str, max: usize) -> Result<String, FetchError> {
        let named = || url.to_owned();
        let transport =
            |source: reqwest::Error| FetchError::Transport { url: named(), source: source.without_url() };
        let mut answer = request.send().await.map_err(transport)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status { url: named(), status: answer.status() });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if bytes.len() + chunk.len() > max {
                return Err(FetchError::TooLarge { url: named(), max });
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes)
            .map_err(|_| FetchError::Unfit { url: named(), reason: "it is not UTF-8".into() })
    }
}

impl HttpJwks {
    /// The key set of the issuer in `identity`.
    #[must_use]
    pub fn new(egress: Egress, identity: &Identity) -> Self {
        Self { egress, issuer: identity.issuer.clone(), jwks: identity.jwks.clone() }
    }

    async fn try_fetch(&self) -> Result<String, FetchError> {
        let url = match &self.jwks {
            Some(url) => url.as_str().to_owned(),
            None => self.discover().await?,
        };
        self.egress.get(&url, limits::JWKS_BYTES).await
    }

    /// Asks the discovery document.
    async fn discover(&self) -> Result<String, FetchError> {
        let (from, text) = discover(&self.egress, &self.issuer).await?;
        self.key_address(&from, &text)
    }

    /// Where a discovery document says the keys are. They may be at another host, but under the rules for
    /// the issuer itself: an answer must not talk us down to plain HTTP.
    fn key_address(&self, from: &str, text: &str) -> Result<String, FetchError> {
        #[derive(Deserialize)]
        struct Document {
            jwks_uri: String,
        }
        let unfit = |reason: String| FetchError::Unfit { url: from.to_owned(), reason };
        let Ok(document) = serde_json::from_str::<Document>(text) else {
            return Err(unfit("it is no discovery document with a jwks_uri".into()));
        };
        let address =
            Issuer::parse(&document.jwks_uri).map_err(|reason| unfit(format!("its jwks_uri {reason}")))?;
        let scheme = |url: &str| Url::parse(url).map(|url| url.scheme().to_owned()).ok();
        if scheme(self.issuer.as_str()).as_deref() == Some("https")
            && scheme(address.as_str()).as_deref() != Some("https")
        {
            return Err(unfit("its jwks_uri must be https, as the issuer is".into()));
        }
        Ok(address.as_str().to_owned())
    }
}

#[async_trait]
impl JwksSource for HttpJwks {
    /// The key set as JSON text, at most [`limits::JWKS_BYTES`] of it; parsing it is the verifier's business.
    async fn fetch(&self) -> Result<String> {
        self.try_fetch().await.map_err(|error| {
            Error::unavailable("The keys of the token issuer cannot be fetched.", RETRY_AFTER, error)
        })
    }
}

/// The discovery document of an issuer, and where it was: the platform's, or the standard one (OpenID Connect
/// Discovery 1.0 section 4) if there is none.
pub(crate) async fn discover(egress: &Egress, issuer: &Issuer) -> Result<(String, String), FetchError> {
    let at = |path: &str| format!("{}{path}", issuer.as_str());
    let (platform, standard) = (at(PLATFORM_DISCOVERY), at(STANDARD_DISCOVERY));
    match egress.get(&platform, DISCOVERY_BYTES).await {
        Ok(text) => Ok((platform, text)),
        Err(FetchError::Status { status: StatusCode::NOT_FOUND, .. }) => {
            let text = egress.get(&standard, DISCOVERY_BYTES).await?;
            Ok((standard, text))
        }
        Err(error) => Err(error),
    }
}

/// The discovery document of the platform.
const PLATFORM_DISCOVERY: &str = "/api/v1/platform/oauth/.well-known/openid-configuration";
/// The discovery document of any issuer.
const STANDARD_DISCOVERY: &str = "/.well-known/openid-configuration";
/// Bytes of a discovery document.
const DISCOVERY_BYTES: usize = 64 << 10;
/// Time for one whole exchange.
const TIMEOUT: Duration = Duration::from_secs(5);
/// When a caller should try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
