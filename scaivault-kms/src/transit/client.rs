use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    Certificate, Method, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    PROVIDER, TransitConfig,
    error::{answered, invalid, transport, unexpected},
};
use crate::KmsError;

/// Requests to one server. It knows no token; every request is given one.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
}

/// An answer, whatever it says. The body may hold a key: it is zeroized.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    retry_after: Option<Duration>,
    body: Zeroizing<Vec<u8>>,
}

/// Whatever the service asks for, in an hour it may have changed its mind.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// No answer that we ask for is longer.
const MAX_BODY: usize = 1 << 20;

impl Client {
    pub(super) fn new(config: &TransitConfig) -> Result<Self, KmsError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this crate is below the server; its own CA and no HTTP/2"
        )]
        let mut builder = reqwest::Client::builder();
        if let Some(pem) = &config.ca_pem {
            let roots = Certificate::from_pem_bundle(pem).map_err(|_| invalid("the CA file is not PEM"))?;
            if roots.is_empty() {
                return Err(invalid("the CA file holds no certificate"));
            }
            builder = builder.tls_certs_only(roots);
        }
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
        if let Some((name, value)) = config.namespace_header()? {
            headers.insert(name, value);
        }
        let http = builder
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            // A connection that went silent takes down its own request, not all that share it.
            .http1_only()
            .pool_idle_timeout(Duration::from_secs(30))
            .connect_timeout(config.timeout)
            .timeout(config.timeout)
            .user_agent(concat!("scaivault/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| KmsError::Device {
                provider: PROVIDER,
                message: "TLS cannot be set up".into(),
                source: Some(error.into()),
            })?;
        Ok(Self { http, base: config.base()? })
    }

    /// One round trip. Fails only if there is no answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&HeaderValue>,
        body: Option<Bytes>,
    ) -> Result<Answer, KmsError> {
        let url = self.base.join(path).map_err(|_| invalid("a name is not fit for a path"))?;
        let mut request = self.http.request(method, url);
        if let Some(token) = token {
            request = request.header(HeaderName::from_static("x-vault-token"), token);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let mut response = request.send().await.map_err(transport)?;
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut answer = Answer {
            status: response.status(),
            retry_after: retry_after.map(|seconds: u64| Duration::from_secs(seconds).min(LONGEST_WAIT)),
            body: Zeroizing::new(Vec::with_capacity(4096)),
        };
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if answer.body.len() + chunk.len() > MAX_BODY {
                return Err(unexpected("an end"));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }
}

impl Answer {
    /// The body of a success, or the error for a request about `what`.
    pub(super) fn success(self, what: &str) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        Err(answered(self.status, self.retry_after, &self.body, what))
    }
}

/// A request body that is zeroized when the last who holds it lets go.
pub(super) fn body(value: &impl Serialize) -> Result<Bytes, KmsError> {
    let mut out = Zeroizing::new(Vec::with_capacity(4096));
    serde_json::to_writer(&mut *out, value).map_err(|_| invalid("the request cannot be encoded"))?;
    Ok(Bytes::from_owner(out))
}
