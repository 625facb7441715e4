use bytes::Bytes;
use reqwest::{
    Method, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    PROVIDER, TransitConfig,
    error::{answered, invalid},
};
use crate::{
    KmsError,
    rest::{self, Answer, Rest},
};

/// Requests to one server. It knows no token; every request is given one.
#[derive(Debug)]
pub(super) struct Client {
    rest: Rest,
    base: Url,
}

impl Client {
    pub(super) fn new(config: &TransitConfig) -> Result<Self, KmsError> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
        if let Some((name, value)) = config.namespace_header()? {
            headers.insert(name, value);
        }
        let rest = Rest::new(PROVIDER, config.timeout, config.ca_pem.as_deref(), headers)?;
        Ok(Self { rest, base: config.base()? })
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
        let token = token.map(|token| (HeaderName::from_static("x-vault-token"), token));
        self.rest.send(method, url, token, body).await
    }
}

/// The body of a success, or the error for a request about `what`.
pub(super) fn success(answer: Answer, what: &str) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    Err(answered(answer.status, answer.retry_after, &answer.body, what))
}

pub(super) fn body(value: &impl Serialize) -> Result<Bytes, KmsError> {
    rest::body(PROVIDER, value)
}
