use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::{HeaderMap, HeaderName, Method};
use scaivault_core::{ClientCertificate, Code, Error, Random, Result, Scope};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::{body::Body, json, query, router::Refusal};

/// One request on its way to a handler: the row of the table is found, the body is not read yet.
pub struct Request<A> {
    app: Arc<A>,
    head: Head,
    body: Body,
}

/// All of a request but its body.
pub struct Head {
    pub(crate) method: Method,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) params: Params,
    pub(crate) tenant: Option<String>,
    pub(crate) template: &'static str,
    pub(crate) id: RequestId,
    pub(crate) peer: SocketAddr,
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    pub(crate) action: &'static str,
    pub(crate) scopes: &'static [Scope],
    pub(crate) started: Instant,
}

/// The parameters that a template captured, decoded once (a raw tail is not decoded).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params(pub(crate) Vec<(String, String)>);

/// What ties an answer, its log lines, its audit record and its events together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl<A: Send + Sync> Request<A> {
    pub(crate) fn new(app: Arc<A>, head: Head, body: Body) -> Self {
        Self { app, head, body }
    }

    /// What the server was started with.
    #[must_use]
    pub fn app(&self) -> &Arc<A> {
        &self.app
    }

    /// All but the body.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// A parameter of the row's template, by name.
    ///
    /// # Errors
    /// [`Code::InternalError`] if the template has no such parameter.
    pub fn param(&self, name: &str) -> Result<&str> {
        self.head.param(name)
    }

    /// The query string as a struct whose fields are the known parameters; see [`query::decode`].
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] naming the parameter that is unknown, repeated, missing or malformed.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T> {
        query::decode(self.head.query.as_deref())
    }

    /// The body as a JSON object; see [`json::decode`]. A body can be taken once.
    ///
    /// # Errors
    /// [`Code::UnsupportedMediaType`], [`Code::PayloadTooLarge`], [`Code::InvalidRequest`] for what is not
    /// strict JSON, [`Code::ValidationError`] with the fields that do not fit.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        json::check_media_type(&self.head.headers)?;
        let bytes = self.body.read().await?;
        json::decode(&bytes)
    }

    /// The body as JSON, or the default where there is none.
    ///
    /// # Errors
    /// As [`json`](Self::json), but for a body that is empty.
    pub async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        let bytes = self.body.read().await?;
        if bytes.trim_ascii().is_empty() {
            return Ok(T::default());
        }
        json::check_media_type(&self.head.headers)?;
        json::decode(&bytes)
    }

    /// The body as bytes of media type `media`, at most `max` of them; zeroized when dropped.
    ///
    /// # Errors
    /// [`Code::UnsupportedMediaType`], [`Code::PayloadTooLarge`], or [`Code::InvalidRequest`] for a body
    /// that does not arrive in time.
    pub async fn bytes(&mut self, media: &str, max: usize) -> Result<Zeroizing<Vec<u8>>> {
        json::check_media(&self.head.headers, media)?;
        self.body.read_at_most(max).await
    }
}

impl Head {
    /// The method as sent; `HEAD` is served by the `GET` row.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The header fields. They hold the bearer token: not for logs.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The only value of a header field; `None` if it is absent.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if the field is repeated or not visible ASCII.
    pub fn header(&self, name: &HeaderName) -> Result<Option<&str>> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(text)),
            _ => Err(Error::new(
                Code::InvalidRequest,
                format!("The header {name} is repeated or not visible ASCII."),
            )),
        }
    }

    /// The id of this request.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// The other end of the connection, which may be a proxy.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The certificate that the other end showed, where TLS ends here and asks for one; a proxy's word is not taken.
    #[must_use]
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_deref()
    }

    /// The row's action, as the audit trail names it.
    #[must_use]
    pub fn action(&self) -> &'static str {
        self.action
    }

    /// The tenant that stood before the path, if one did; not checked yet.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The row's template; empty if no row serves the request.
    #[must_use]
    pub fn template(&self) -> &'static str {
        self.template
    }

    /// What the audit trail is told if this request ends in an error.
    pub(crate) fn refusal(&self) -> Refusal {
        let values: Vec<&str> = self.params.0.iter().map(|(_, value)| value.as_str()).collect();
        let about = (!values.is_empty()).then(|| values.join(" "));
        Refusal { action: self.action, about, scopes: self.scopes, started: self.started }
    }

    /// A parameter of the row's template, by name.
    ///
    /// # Errors
    /// [`Code::InternalError`] if the template has no such parameter.
    pub fn param(&self, name: &str) -> Result<&str> {
        let found = self.params.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| Error::internal(format!("the template of {} has no {name}", self.action)))
    }
}

impl RequestId {
    /// Takes the caller's `X-Request-ID` if it is one value of 1 to 64 letters, digits, `_` and `-`, and
    /// mints an id otherwise.
    pub(crate) fn of(headers: &HeaderMap, random: &dyn Random) -> Self {
        let mut values = headers.get_all(&X_REQUEST_ID).iter();
        match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
            (Some(text), None) if is_request_id(text) => Self(text.to_owned()),
            _ => Self::mint(random),
        }
    }

    /// `req_` and 26 characters of 5 random bits each. All zeros if the generator fails: then no verb works
    /// either, and the answer that says so still needs an id.
    pub(crate) fn mint(random: &dyn Random) -> Self {
        let mut bytes = [0; 26];
        if random.fill(&mut bytes).is_err() {
            bytes = [0; 26];
        }
        let tail = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
        Self("req_".chars().chain(tail).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_request_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

pub(crate) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Crockford's alphabet, as the other identifiers use it.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use scaivault_core::SystemRandom;

    use super::*;

    fn id(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_REQUEST_ID.clone(), HeaderValue::from_str(value).unwrap());
        }
        RequestId::of(&headers, &SystemRandom).0
    }

    #[test]
    fn a_callers_id_is_kept_only_if_it_is_one_plain_word() {
        assert_eq!(id(&["abc_DEF-123"]), "abc_DEF-123");
        assert_eq!(id(&[&"x".repeat(64)]), "x".repeat(64));
        let long = "x".repeat(65);
        for bad in [&[][..], &[""], &["a b"], &["a.b"], &["<script>"], &["a\tb"], &[&long], &["one", "two"]] {
            let minted = id(bad);
            assert!(minted.starts_with("req_") && minted.len() == 30, "{bad:?} {minted}");
        }
    }

    #[test]
    fn minted_ids_differ() {
        assert_ne!(RequestId::mint(&SystemRandom), RequestId::mint(&SystemRandom));
    }

    #[test]
    fn a_failing_generator_still_gives_an_id() {
        #[derive(Debug)]
        struct Broken;
        impl Random for Broken {
            fn fill(&self, _: &mut [u8]) -> Result<()> {
                Err(Error::internal("no entropy"))
            }
        }
        assert_eq!(RequestId::mint(&Broken).as_str(), format!("req_{}", "0".repeat(26)));
    }
}
