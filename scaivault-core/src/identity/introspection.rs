use std::{
    fmt::{self, Debug},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use moka::future::Cache;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{
    claims::Claims,
    discovery::Discovery,
    json,
    token::{TokenSettings, hash, refuse},
};
use crate::{
    Caller, Clock, Code, Error, Result,
    egress::{Answer, Egress, EgressError, Reach, ServiceUrl, encode},
    limits,
};

/// Where opaque tokens are looked up: at whoever issued them (RFC 7662).
///
/// Whoever implements it makes one attempt per call, over a channel that he trusts. Caching and rate are the
/// verifier's; an attempt that takes longer than [`limits::JWKS_FETCH`] is dropped.
#[async_trait]
pub trait Introspect: Debug + Send + Sync {
    /// What the issuer says of `token`, as JSON text (RFC 7662 section 2.2).
    ///
    /// # Errors
    /// Whatever went wrong; it is logged, and shown to nobody.
    async fn introspect(&self, token: &str) -> Result<String>;
}

/// Looks tokens up over HTTP, as a client that the issuer knows.
pub struct HttpIntrospection {
    egress: Egress,
    discovery: Discovery,
    configured: Option<ServiceUrl>,
    client_id: String,
    client_secret: Zeroizing<String>,
    /// Where discovery said, and when.
    discovered: Mutex<Option<(ServiceUrl, Instant)>>,
}

impl HttpIntrospection {
    /// At `url`, or where the issuer's discovery document says; authenticated by HTTP Basic (RFC 6749 section 2.3.1).
    #[must_use]
    pub fn new(
        egress: Egress,
        issuer: ServiceUrl,
        url: Option<ServiceUrl>,
        client_id: impl Into<String>,
        client_secret: Zeroizing<String>,
    ) -> Self {
        let discovery = Discovery::new(egress.clone(), issuer);
        Self {
            egress,
            discovery,
            configured: url,
            client_id: client_id.into(),
            client_secret,
            discovered: Mutex::default(),
        }
    }

    async fn ask(&self, token: &str) -> Result<String, EgressError> {
        let url = self.address().await?;
        let request = self
            .egress
            .post(Reach::Operator, url.as_str())
            .header("Accept", "application/json")
            .basic(&encode(&self.client_id), &encode(&self.client_secret))
            .form(&[("token", token), ("token_type_hint", "access_token")])
            .max_bytes(limits::INTROSPECTION_BYTES);
        let answer = request.send().await.and_then(Answer::ok);
        if answer.is_err() {
            *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer?.text()
    }

    async fn address(&self) -> Result<ServiceUrl, EgressError> {
        if let Some(url) = &self.configured {
            return Ok(url.clone());
        }
        let known = self.discovered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((url, _)) = known.filter(|(_, at)| at.elapsed() < limits::JWKS_TTL) {
            return Ok(url);
        }
        let name = "introspection_endpoint";
        let url = self.discovery.find(|document| document.introspection_endpoint, name).await?;
        *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = Some((url.clone(), Instant::now()));
        Ok(url)
    }
}

#[async_trait]
impl Introspect for HttpIntrospection {
    async fn introspect(&self, token: &str) -> Result<String> {
        self.ask(token).await.map_err(Error::internal)
    }
}

impl Debug for HttpIntrospection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.configured.as_ref().map(ServiceUrl::as_str);
        f.debug_struct("HttpIntrospection").field("url", &url).finish_non_exhaustive()
    }
}

/// What is known of opaque tokens, by their hash. Those who ask about one at the same time wait for one answer.
#[derive(Debug)]
pub(super) struct Opaque {
    source: Arc<dyn Introspect>,
    clock: Arc<dyn Clock>,
    known: Cache<[u8; 32], Arc<Looked>>,
    calls: Semaphore,
    failed: Mutex<Option<OffsetDateTime>>,
}

/// What a look brought, and while it holds.
#[derive(Debug)]
struct Looked {
    found: Result<Caller, Arc<Error>>,
    at: OffsetDateTime,
    until: OffsetDateTime,
}

impl Opaque {
    pub(super) fn new(source: Arc<dyn Introspect>, clock: Arc<dyn Clock>) -> Self {
        let known = Cache::builder().max_capacity(KNOWN).time_to_live(limits::TOKEN_KNOWN).build();
        Self { source, clock, known, calls: Semaphore::new(limits::INTROSPECTIONS), failed: Mutex::default() }
    }

    /// Whether `token`, which begins with `skt_`, is one to look up: all that is no JWT in shape.
    pub(super) fn is_one(token: &str) -> bool {
        token.strip_prefix("skt_").is_some_and(|rest| rest.split('.').count() != 3)
    }

    /// The caller that `token` speaks for, if its issuer says so and `settings` take what it says.
    pub(super) async fn look_up(&self, token: &str, settings: &TokenSettings) -> Result<Caller> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        if !limits::OPAQUE_TOKEN_BYTES.contains(&token.len()) || !token.bytes().all(plain) {
            return Err(refuse("it is neither a JWT nor an opaque token"));
        }
        let look = Box::pin(self.look(token, settings));
        let stale = |looked: &Arc<Looked>| !self.holds(looked);
        let looked = self.known.entry(hash(token)).or_insert_with_if(look, stale).await.into_value();
        match &looked.found {
            Ok(caller) => Ok(caller.clone()),
            Err(error) => Err(Error::shared(Arc::clone(error))),
        }
    }

    /// Whether what was found about `token` still holds.
    pub(super) async fn knows(&self, token: &str) -> bool {
        self.known.get(&hash(token)).await.is_some_and(|looked| self.holds(&looked))
    }

    fn holds(&self, looked: &Looked) -> bool {
        (looked.at..looked.until).contains(&self.clock.now())
    }

    async fn look(&self, token: &str, settings: &TokenSettings) -> Arc<Looked> {
        let answer = self.ask(token).await;
        let at = self.clock.now();
        let found = answer.and_then(|text| read(&text, at, settings));
        let held = match &found {
            Ok(caller) => {
                let end = caller.token_expires_at().unwrap_or(at);
                (at + limits::TOKEN_KNOWN).min(end)
            }
            Err(error) if error.code() == Code::ServiceUnavailable => at,
            Err(_) => at + limits::TOKEN_UNKNOWN,
        };
        Arc::new(Looked { found: found.map_err(Arc::new), at, until: held })
    }

    async fn ask(&self, token: &str) -> Result<String> {
        let out = |source: Box<dyn std::error::Error + Send + Sync>| {
            Error::unavailable(
                "The issuer of the token cannot be asked.",
                limits::INTROSPECTION_RETRY,
                source,
            )
        };
        let _place = self.calls.acquire().await.map_err(|closed| out(closed.into()))?;
        if self.has_failed_just_now() {
            return Err(out("the last attempt failed a moment ago".into()));
        }
        let answer = match tokio::time::timeout(limits::JWKS_FETCH, self.source.introspect(token)).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(Error::internal(elapsed)),
        };
        let failed = answer.is_err().then(|| self.clock.now());
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        answer.map_err(|error| {
            tracing::warn!(error = %error, causes = error.causes(), "a token could not be looked up");
            out(error.into())
        })
    }

    fn has_failed_just_now(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        failed.is_some_and(|at| (at..at + limits::INTROSPECTION_RETRY).contains(&now))
    }
}

/// What an answer says. One that cannot be understood is as good as none.
fn read(text: &str, now: OffsetDateTime, settings: &TokenSettings) -> Result<Caller> {
    let broken = || {
        let source = "the answer is no introspection response (RFC 7662 section 2.2)";
        Error::unavailable("The issuer of the token cannot be asked.", limits::INTROSPECTION_RETRY, source)
    };
    let mut members = json::object(text.as_bytes()).ok_or_else(broken)?;
    match members.remove("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(refuse("its issuer does not know it, or took it back")),
        _ => return Err(broken()),
    }
    // What a proof of possession belongs to is no bearer token (RFC 9449 section 7.2).
    if members.get("cnf").is_some_and(|cnf| !cnf.is_null()) {
        return Err(refuse("it is bound to a key"));
    }
    let kind = members.get("token_type").map(|kind| kind.as_str().unwrap_or_default());
    if kind.is_some_and(|kind| !KINDS.iter().any(|good| good.eq_ignore_ascii_case(kind))) {
        return Err(refuse("it is of a type that is no bearer token"));
    }
    Claims::new(members, now).into_caller(settings)
}

/// What `token_type` may be in an answer: RFC 6749 section 7.1, and the claim of the same name.
const KINDS: [&str; 3] = ["Bearer", "client_credentials", "personal_access_token"];

/// Tokens that are known at once.
const KNOWN: u64 = 10_000;
