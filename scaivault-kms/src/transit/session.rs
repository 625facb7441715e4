use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Method, StatusCode, header::HeaderValue};
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    task::AbortHandle,
    time::{Instant, sleep},
};
use zeroize::Zeroizing;

use super::{
    Auth, PROVIDER,
    client::{Client, body, success},
    error::{denied, invalid, unexpected},
};
use crate::{KmsError, rest::Answer};

/// Requests in our name: logs in when it is first needed, renews the token before it is over, and logs in
/// again when it was taken away. However many requests wait for a login, there is one.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    auth: Auth,
    lease: Mutex<Lease>,
    keeper: OnceLock<AbortHandle>,
}

#[derive(Debug, Default)]
struct Lease {
    token: Option<Token>,
    /// How many logins there were.
    number: u64,
}

#[derive(Clone, Debug)]
struct Token {
    /// Marked as sensitive: `Debug` does not show it.
    header: HeaderValue,
    number: u64,
    renewable: bool,
    /// How long it was good for when we logged in; `None` is for ever, or not known.
    full: Option<Duration>,
    ends: Option<Instant>,
    renew: Option<Instant>,
}

impl Session {
    pub(super) fn new(client: Client, auth: Auth) -> Self {
        Self { client, auth, lease: Mutex::default(), keeper: OnceLock::new() }
    }

    /// One request about `what`, and its answer if it was a success.
    pub(super) async fn call(
        self: &Arc<Self>,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        what: &str,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let mut again = true;
        loop {
            let token = self.token().await?;
            let answer = self.client.send(method.clone(), path, Some(&token.header), body.clone()).await?;
            if answer.status != StatusCode::FORBIDDEN {
                return success(answer, what);
            }
            // The service says the same of a token that is over and of one that may not.
            if !std::mem::take(&mut again) || !self.lost(&token).await? {
                return Err(denied(what));
            }
        }
    }

    async fn token(self: &Arc<Self>) -> Result<Token, KmsError> {
        let mut lease = self.lease.lock().await;
        let now = Instant::now();
        let current = lease.token.take_if(|token| token.ends.is_none_or(|ends| now < ends));
        let token = match current {
            Some(token) if token.renew.is_none_or(|at| now < at) => token,
            Some(token) => self.renewed(&mut lease, token).await?,
            None => self.login(&mut lease).await?,
        };
        lease.token = Some(token.clone());
        drop(lease);
        self.keep_alive();
        Ok(token)
    }

    /// A token that is to be renewed: with a new term, or a new one, or as it is while it still lasts.
    async fn renewed(&self, lease: &mut Lease, token: Token) -> Result<Token, KmsError> {
        let renewed = self.renew(&token).await;
        if let Ok(Some(fresh)) = renewed {
            return Ok(fresh);
        }
        let fallback = match &self.auth {
            // It cannot be replaced. What is left of it is used; whether it was refused shows in use.
            Auth::Token(_) => None,
            Auth::AppRole { .. } | Auth::Kubernetes { .. } => self.login(lease).await.ok(),
        };
        // Not asked again at once, should the service be down; nor at all for what cannot be had.
        let hopeless = matches!(self.auth, Auth::Token(_)) && !token.renewable;
        let later = (!hopeless).then(|| Instant::now() + RENEW_PAUSE);
        Ok(fallback.unwrap_or(Token { renew: later, ..token }))
    }

    /// `None` if the service gives no more than a fraction of the term: the end of its life is near.
    async fn renew(&self, token: &Token) -> Result<Option<Token>, KmsError> {
        if !token.renewable {
            return Ok(None);
        }
        let path = "auth/token/renew-self";
        let answer = self.client.send(Method::POST, path, Some(&token.header), None).await?;
        let body = success(answer, path)?;
        let granted = parse::<Login<'_>>(&body)?.auth;
        let term = Duration::from_secs(granted.lease_duration);
        let short = token.full.is_some_and(|full| term < full / 2);
        if short && !matches!(self.auth, Auth::Token(_)) {
            return Ok(None);
        }
        Ok(Some(Token::new(token.header.clone(), token.number, granted.renewable, term, token.full)))
    }

    async fn login(&self, lease: &mut Lease) -> Result<Token, KmsError> {
        lease.number += 1;
        let number = lease.number;
        let (path, request) = match &self.auth {
            Auth::Token(token) => return self.look_up(header(token.expose())?, number).await,
            Auth::AppRole { mount, role_id, secret_id } => {
                let secret_id = secret_id.as_ref().map(|secret| text(secret.expose())).transpose()?;
                let request = body(&AppRole { role_id, secret_id })?;
                (format!("auth/{mount}/login"), request)
            }
            Auth::Kubernetes { mount, role, jwt_file } => {
                let jwt = Zeroizing::new(tokio::fs::read(jwt_file).await.map_err(|error| {
                    let message =
                        format!("the token file {} cannot be read: {}", jwt_file.display(), error.kind());
                    KmsError::Unauthenticated { provider: PROVIDER, message }
                })?);
                let request = body(&Jwt { role, jwt: text(jwt.trim_ascii())? })?;
                (format!("auth/{mount}/login"), request)
            }
        };
        let answer = self.client.send(Method::POST, &path, None, Some(request)).await?;
        if matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            let message = format!("{path}: the login was refused, or there is no such login");
            return Err(KmsError::Unauthenticated { provider: PROVIDER, message });
        }
        let body = success(answer, &path)?;
        let granted = parse::<Login<'_>>(&body)?.auth;
        let term = Duration::from_secs(granted.lease_duration);
        let token = header(granted.client_token.as_bytes())?;
        tracing::debug!(provider = PROVIDER, path, term = term.as_secs(), "logged in");
        Ok(Token::new(token, number, granted.renewable, term, None))
    }

    /// A token that we were given: how long it lasts, if it may ask.
    async fn look_up(&self, token: HeaderValue, number: u64) -> Result<Token, KmsError> {
        let answer = self.lookup(&token).await?;
        if answer.status == StatusCode::FORBIDDEN {
            return Ok(Token::new(token, number, false, Duration::ZERO, None));
        }
        let body = success(answer, LOOKUP)?;
        let told = parse::<Looked>(&body)?.data;
        Ok(Token::new(token, number, told.renewable, Duration::from_secs(told.ttl), None))
    }

    async fn lookup(&self, token: &HeaderValue) -> Result<Answer, KmsError> {
        self.client.send(Method::GET, LOOKUP, Some(token), None).await
    }

    /// After a 403: whether the token is lost and another can be had.
    async fn lost(&self, token: &Token) -> Result<bool, KmsError> {
        if self.lookup(&token.header).await?.status != StatusCode::FORBIDDEN {
            return Ok(false);
        }
        if let Auth::Token(_) = self.auth {
            let message = "the token is wrong, over or revoked".to_owned();
            return Err(KmsError::Unauthenticated { provider: PROVIDER, message });
        }
        // Somebody else may have logged in meanwhile.
        self.lease.lock().await.token.take_if(|held| held.number == token.number);
        Ok(true)
    }

    /// Renews also while nobody asks for anything: a token that nobody uses runs out as well.
    fn keep_alive(self: &Arc<Self>) {
        self.keeper.get_or_init(|| {
            let session = Arc::downgrade(self);
            let keeper = async move {
                loop {
                    let Some(wait) = session.upgrade() else { return };
                    let due = wait.lease.lock().await.token.as_ref().map(|token| token.renew.or(token.ends));
                    drop(wait);
                    let pause = match due {
                        // For ever.
                        Some(None) => return,
                        Some(Some(at)) => at.saturating_duration_since(Instant::now()),
                        None => LOGIN_PAUSE,
                    };
                    sleep(pause.max(RENEW_PAUSE)).await;
                    let Some(session) = session.upgrade() else { return };
                    if let Err(error) = session.token().await {
                        tracing::warn!(provider = PROVIDER, %error, "the token could not be renewed");
                    }
                }
            };
            tokio::spawn(keeper).abort_handle()
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}

impl Token {
    /// A term of zero is for ever.
    fn new(
        header: HeaderValue,
        number: u64,
        renewable: bool,
        term: Duration,
        full: Option<Duration>,
    ) -> Self {
        let term = (!term.is_zero()).then_some(term.min(LONGEST_TERM));
        let now = Instant::now();
        Self {
            header,
            number,
            renewable,
            full: full.or(term),
            ends: term.map(|term| now + term),
            renew: term.map(|term| now + term * 2 / 3),
        }
    }
}

const LOOKUP: &str = "auth/token/lookup-self";
/// A term that is longer is looked at again after this much of it.
const LONGEST_TERM: Duration = Duration::from_secs(32 * 24 * 60 * 60);
/// Between two logins that nobody waits for.
const LOGIN_PAUSE: Duration = Duration::from_secs(10);
/// The least time between two attempts to renew.
const RENEW_PAUSE: Duration = Duration::from_secs(1);

#[derive(serde::Serialize)]
struct AppRole<'a> {
    role_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_id: Option<&'a str>,
}

#[derive(serde::Serialize)]
struct Jwt<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Deserialize)]
struct Login<'a> {
    #[serde(borrow)]
    auth: Granted<'a>,
}

#[derive(Deserialize)]
struct Granted<'a> {
    client_token: &'a str,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct Looked {
    data: LookedUp,
}

#[derive(Deserialize)]
struct LookedUp {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, KmsError> {
    serde_json::from_slice(body).map_err(|_| unexpected("what a login answers"))
}

fn header(token: &[u8]) -> Result<HeaderValue, KmsError> {
    let mut value = HeaderValue::from_bytes(token.trim_ascii())
        .map_err(|_| invalid("the token has characters of no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn text(bytes: &[u8]) -> Result<&str, KmsError> {
    std::str::from_utf8(bytes).map_err(|_| invalid("a credential is not UTF-8"))
}
