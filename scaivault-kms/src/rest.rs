//! What the adapters of services with a JSON API share: one client, bounded answers, and what it means when there
//! is no answer.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    Certificate, Method, StatusCode, Url,
    header::{self, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{Cause, KmsError, net::of_tls};

/// Requests to one service. It knows no credential; every request is given one.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    provider: &'static str,
    http: reqwest::Client,
}

/// An answer, whatever it says. The body may hold a key: it is zeroized.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// As the header has it, in seconds; at most an hour.
    pub(crate) retry_after: Option<Duration>,
    /// `WWW-Authenticate`.
    #[cfg(feature = "azure")]
    pub(crate) challenge: Option<String>,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// Whatever the service asks for, in an hour it may have changed its mind.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// No answer that we ask for is longer.
const MAX_BODY: usize = 1 << 20;

impl Rest {
    /// A client that trusts the certificates `ca_pem`, or the system's without, and gives each request `timeout`.
    pub(crate) fn new(
        provider: &'static str,
        timeout: Duration,
        ca_pem: Option<&[u8]>,
        headers: HeaderMap,
    ) -> Result<Self, KmsError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this crate is below the server; its own CA and no HTTP/2"
        )]
        let mut builder = reqwest::Client::builder();
        if let Some(pem) = ca_pem {
            let roots =
                Certificate::from_pem_bundle(pem).map_err(|_| invalid(provider, "the CA file is not PEM"))?;
            if roots.is_empty() {
                return Err(invalid(provider, "the CA file holds no certificate"));
            }
            builder = builder.tls_certs_only(roots);
        }
        let http = builder
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            // A connection that went silent takes down its own request, not all that share it.
            .http1_only()
            .pool_idle_timeout(Duration::from_secs(30))
            .connect_timeout(timeout)
            .timeout(timeout)
            .user_agent(concat!("scaivault/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| KmsError::Device {
                provider,
                message: "TLS cannot be set up".into(),
                source: Some(error.into()),
            })?;
        Ok(Self { provider, http })
    }

    /// The client itself, for a library that brings its own requests.
    #[cfg(feature = "azure")]
    pub(crate) fn http(&self) -> reqwest::Client {
        self.http.clone()
    }

    /// One round trip. Fails only if there is no answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        credential: Option<(HeaderName, &HeaderValue)>,
        body: Option<Bytes>,
    ) -> Result<Answer, KmsError> {
        let failed = |error| transport(self.provider, error);
        let mut request = self.http.request(method, url);
        if let Some((name, value)) = credential {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let mut response = request.send().await.map_err(failed)?;
        let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let seconds = text(header::RETRY_AFTER).and_then(|value| value.parse().ok());
        let mut answer = Answer {
            status: response.status(),
            retry_after: seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT)),
            #[cfg(feature = "azure")]
            challenge: text(header::WWW_AUTHENTICATE).map(str::to_owned),
            body: Zeroizing::new(Vec::with_capacity(4096)),
        };
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if answer.body.len() + chunk.len() > MAX_BODY {
                let message = "an answer without an end".to_owned();
                return Err(KmsError::Device { provider: self.provider, message, source: None });
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }
}

/// A request body that is zeroized when the last who holds it lets go.
pub(crate) fn body(provider: &'static str, value: &impl Serialize) -> Result<Bytes, KmsError> {
    let mut out = Zeroizing::new(Vec::with_capacity(4096));
    serde_json::to_writer(&mut *out, value)
        .map_err(|_| invalid(provider, "the request cannot be encoded"))?;
    Ok(Bytes::from_owner(out))
}

/// A service's address: a scheme, a host, perhaps a port and a path, and nothing else. Plain HTTP to a loopback
/// address only.
pub(crate) fn address(provider: &'static str, what: &str, address: &str) -> Result<Url, KmsError> {
    let wrong = |why: &str| invalid(provider, &format!("{what} {why}"));
    let url = Url::parse(address).map_err(|_| wrong("is not a URL"))?;
    let bare = url.username().is_empty() && url.password().is_none();
    if !bare || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has more than a scheme, a host, a port and a path"));
    }
    let loopback = match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
        None => return Err(wrong("names no host")),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        "http" => Err(wrong("must begin with https: tokens are sent to it")),
        _ => Err(wrong("must begin with https")),
    }
}

/// No answer at all.
pub(crate) fn transport(provider: &'static str, error: reqwest::Error) -> KmsError {
    let error = error.without_url();
    let (cause, message) = if of_tls(&error) {
        (Cause::Tls, "TLS failed")
    } else if error.is_timeout() {
        (Cause::Deadline, "no answer in time")
    } else {
        (Cause::Unreachable, "no connection")
    };
    KmsError::unavailable(provider, cause, message, None, Some(error.into()))
}

/// What a service said, cut short, and without anything that could be a key or a token.
pub(crate) fn redact(told: &str) -> String {
    let part = |c: char| c.is_ascii_alphanumeric() || "+/=-_.".contains(c);
    let words = told.split_inclusive(|c| !part(c));
    let shown: String =
        words.map(|word| if word.trim_end_matches(|c| !part(c)).len() >= 20 { "… " } else { word }).collect();
    shown.chars().take(200).collect()
}

fn invalid(provider: &'static str, message: &str) -> KmsError {
    KmsError::Invalid { provider, message: message.to_owned() }
}
