use std::{error::Error as StdError, fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{
    Method, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION},
};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{
    Egress, EgressError, Reach,
    resolve::OutOfReach,
    url::{is_protected, literal, web},
};
use crate::limits;

/// A request that is being put together. From [`Egress::get`] and [`Egress::post`].
pub struct Request {
    egress: Egress,
    method: Method,
    reach: Reach,
    url: String,
    headers: HeaderMap,
    body: Option<Zeroizing<Vec<u8>>>,
    protected: bool,
    max_bytes: usize,
    time: Duration,
    redirects: u32,
    /// What is wrong with what it was made of.
    unfit: Option<String>,
}

/// What came back: a status, a header and a whole body.
pub struct Answer {
    url: String,
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    pub(super) fn new(egress: Egress, method: Method, reach: Reach, url: &str) -> Self {
        Self {
            egress,
            method,
            reach,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: None,
            protected: reach == Reach::Operator,
            max_bytes: limits::EGRESS_BODY_BYTES,
            time: limits::EGRESS_TIME,
            redirects: 0,
            unfit: None,
        }
    }

    /// Sets a header field; `value` is shown nowhere. What is no field is told by [`send`](Self::send).
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                self.headers.insert(name, value);
            }
            _ => self.unfit = Some(format!("the field {name:?} is no header field")),
        }
        self
    }

    /// Authenticates with a name and a password (RFC 7617).
    #[must_use]
    pub fn basic(self, name: &str, password: &str) -> Self {
        let pair = Zeroizing::new(format!("{name}:{password}"));
        let value = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(pair.as_bytes()))));
        self.header(AUTHORIZATION.as_str(), &value)
    }

    /// Sends a body of this media type.
    #[must_use]
    pub fn body(mut self, media: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(Zeroizing::new(body.into()));
        self.header(CONTENT_TYPE.as_str(), media)
    }

    /// Sends a form, `application/x-www-form-urlencoded`.
    #[must_use]
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let mut body = Zeroizing::new(Vec::new());
        for (name, value) in fields {
            if !body.is_empty() {
                body.push(b'&');
            }
            body.extend_from_slice(encode(name).as_bytes());
            body.push(b'=');
            body.extend_from_slice(encode(value).as_bytes());
        }
        self.body("application/x-www-form-urlencoded", body.to_vec())
    }

    /// Sends JSON.
    #[must_use]
    pub fn json(mut self, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => self.body("application/json", body),
            Err(_) => {
                self.unfit = Some("the body cannot be written as JSON".into());
                self
            }
        }
    }

    /// Refuses plain HTTP, but on this machine. So it is anyway for what an operator configured.
    #[must_use]
    pub fn protected(mut self) -> Self {
        self.protected = true;
        self
    }

    /// Bytes of the body that are read, [`limits::EGRESS_BODY_BYTES`] unless given; more of them are an error.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Time for everything, redirects and body included, [`limits::EGRESS_TIME`] unless given.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Follows so many redirects of a GET; none unless given. Each is judged as if it had been asked for, none leads
    /// from https to http, and to another origin the header fields of this request do not go along.
    #[must_use]
    pub fn redirects(mut self, most: u32) -> Self {
        self.redirects = most;
        self
    }

    /// Sends it, and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// [`EgressError`].
    pub async fn send(self) -> Result<Answer, EgressError> {
        let (time, url) = (self.time, self.named(&self.url));
        match tokio::time::timeout(time, self.walk()).await {
            Ok(answer) => answer,
            Err(_) => Err(EgressError::Late { url, after: time }),
        }
    }

    async fn walk(mut self) -> Result<Answer, EgressError> {
        let mut url = self.judge(&self.url)?;
        if let Some(reason) = self.unfit.take() {
            return Err(EgressError::Refused { url: self.named(url.as_str()), reason });
        }
        loop {
            let answer = self.once(&url).await?;
            let moved = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !moved || self.method != Method::GET || self.redirects == 0 {
                return self.read(&url, answer).await;
            }
            self.redirects -= 1;
            url = self.next(&url, answer.headers())?;
        }
    }

    /// Where a redirect leads to, if it may.
    pub(super) fn next(&mut self, from: &Url, headers: &HeaderMap) -> Result<Url, EgressError> {
        let refused = |reason: &str| EgressError::Refused {
            url: self.named(from.as_str()),
            reason: format!("its redirect {reason}"),
        };
        let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| from.join(to).ok());
        let to = to.ok_or_else(|| refused("leads nowhere"))?;
        if from.scheme() == "https" && to.scheme() != "https" {
            return Err(refused("leads from https to http"));
        }
        let to = self.judge(to.as_str())?;
        if to.origin() != from.origin() {
            self.headers.clear();
        }
        Ok(to)
    }

    /// The URL, if it may be asked; of a name, where it leads to is seen when it is resolved.
    fn judge(&self, text: &str) -> Result<Url, EgressError> {
        let refused = |reason| EgressError::Refused { url: self.named(text), reason };
        let url = web(text).map_err(|reason| refused(format!("it {reason}")))?;
        if self.protected && !is_protected(&url) {
            return Err(refused("it must be https (http is for loopback only)".into()));
        }
        if let (Reach::Outside, Some(address)) = (self.reach, literal(&url)) {
            let reachable = self.egress.inner.reachable.check(address);
            reachable.map_err(|kind| refused(format!("the address is {kind}")))?;
        }
        Ok(url)
    }

    async fn once(&self, url: &Url) -> Result<Response, EgressError> {
        let client = self.egress.client(self.reach);
        let mut request = client.request(self.method.clone(), url.clone()).headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.to_vec());
        }
        let answer = request.send().await.map_err(|error| self.transport(url, error))?;
        let header = answer.headers();
        let bytes: usize = header.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if bytes > limits::EGRESS_HEADER_BYTES || header.len() > limits::EGRESS_HEADERS {
            let url = self.named(url.as_str());
            return Err(EgressError::TooLarge { url, max: limits::EGRESS_HEADER_BYTES });
        }
        Ok(answer)
    }

    async fn read(&self, url: &Url, mut answer: Response) -> Result<Answer, EgressError> {
        let named = self.named(url.as_str());
        let too_large = || EgressError::TooLarge { url: named.clone(), max: self.max_bytes };
        if answer.content_length().is_some_and(|length| length > self.max_bytes as u64) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.transport(url, error))? {
            if body.len() + chunk.len() > self.max_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer { url: named, status, headers, body })
    }

    fn transport(&self, url: &Url, error: reqwest::Error) -> EgressError {
        let (error, url) = (error.without_url(), self.named(url.as_str()));
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(source) = cause {
            if let Some(out) = source.downcast_ref::<OutOfReach>() {
                return EgressError::Refused { url, reason: out.to_string() };
            }
            cause = source.source();
        }
        EgressError::Transport { url, source: error.into() }
    }

    /// As much of a URL as may be shown.
    fn named(&self, url: &str) -> String {
        let url = Url::parse(url).ok().filter(|url| url.has_host() && url.origin().is_tuple());
        let Some(url) = url else { return "what is no web address".into() };
        let path = if self.reach == Reach::Operator { url.path() } else { "" };
        format!("{}{path}", url.origin().ascii_serialization())
    }
}

impl Answer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A header field, the first of its name, if it is visible ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The answer, if its status is 200.
    ///
    /// # Errors
    /// [`EgressError::Status`].
    pub fn ok(self) -> Result<Self, EgressError> {
        match self.status {
            200 => Ok(self),
            status => Err(EgressError::Status { url: self.url, status }),
        }
    }

    /// The body.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        self.body
    }

    /// The body as text.
    ///
    /// # Errors
    /// [`EgressError::Unfit`] unless it is UTF-8.
    pub fn text(self) -> Result<String, EgressError> {
        let Self { url, body, .. } = self;
        String::from_utf8(body).map_err(|_| EgressError::Unfit { url, reason: "it is not UTF-8".into() })
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`EgressError::Unfit`] unless it is JSON of that shape.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, EgressError> {
        let Self { url, body, .. } = self;
        serde_json::from_slice(&body)
            .map_err(|_| EgressError::Unfit { url, reason: "it is not the JSON that was expected".into() })
    }
}

/// `application/x-www-form-urlencoded` of one name or value.
pub(crate) fn encode(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(3 * text.len()));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.named(&self.url);
        f.debug_struct("Request").field("method", &self.method).field("url", &url).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("url", &self.url).field("status", &self.status).finish_non_exhaustive()
    }
}
