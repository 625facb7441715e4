use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    MintRequest, Minted, TokenMinter,
    exchange::{ACCESS_TOKEN, GRANT_TYPE},
};
use crate::{
    Caller, Clock, Error, IdentityType, Result, TokenVerifier,
    egress::{Answer, Egress, EgressError, Reach, ServiceUrl, encode},
    identity::Discovery,
    limits,
    policy::PathPattern,
};

/// Has tokens minted by the identity provider: a token exchange (RFC 8693) at the `token_endpoint` of its discovery
/// document, as a client that it knows.
///
/// What comes back is verified like any other token, and is given out only if it says exactly what was asked for: it may
/// carry no role, no scope and no path more, last no longer, and be of no other account or tenant.
pub struct ScaiKeyMinter {
    egress: Egress,
    discovery: Discovery,
    client_id: String,
    client_secret: Zeroizing<String>,
    audience: String,
    verifier: Arc<TokenVerifier>,
    clock: Arc<dyn Clock>,
    /// Where discovery said, and when.
    discovered: Mutex<Option<(ServiceUrl, Instant)>>,
}

#[derive(Deserialize)]
struct Answered {
    access_token: String,
    issued_token_type: String,
    token_type: String,
}

impl ScaiKeyMinter {
    /// As the client `client_id` of `issuer`, authenticated by HTTP Basic (RFC 6749 section 2.3.1); tokens are for
    /// `audience`, and have to be good for `verifier`.
    #[must_use]
    pub fn new(
        egress: Egress,
        issuer: ServiceUrl,
        (client_id, client_secret): (String, Zeroizing<String>),
        audience: impl Into<String>,
        verifier: Arc<TokenVerifier>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let discovery = Discovery::new(egress.clone(), issuer);
        let (audience, discovered) = (audience.into(), Mutex::default());
        Self { egress, discovery, client_id, client_secret, audience, verifier, clock, discovered }
    }

    async fn ask(&self, wanted: &MintRequest<'_>) -> Result<Answered, EgressError> {
        let url = self.address().await?;
        let scope = wanted.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ");
        let paths = wanted.allowed_paths.iter().map(PathPattern::as_str).collect::<Vec<_>>().join(" ");
        let lifetime = wanted.ttl.as_secs().to_string();
        let fields = [
            ("grant_type", GRANT_TYPE),
            ("subject_token", wanted.subject_token),
            ("subject_token_type", wanted.subject_token_type),
            ("requested_token_type", ACCESS_TOKEN),
            ("audience", &self.audience),
            ("scope", &scope),
            ("requested_subject", wanted.service_account),
            ("tenant_id", wanted.tenant.as_str()),
            ("partner_id", wanted.partner.as_str()),
            ("allowed_paths", &paths),
            ("requested_lifetime", &lifetime),
        ];
        let request = self
            .egress
            .post(Reach::Operator, url.as_str())
            .header("Accept", "application/json")
            .basic(&encode(&self.client_id), &encode(&self.client_secret))
            .form(&fields)
            .max_bytes(limits::INTROSPECTION_BYTES);
        let answer = request.send().await.and_then(Answer::ok);
        if answer.is_err() {
            *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer?.json()
    }

    async fn address(&self) -> Result<ServiceUrl, EgressError> {
        let known = self.discovered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((url, _)) = known.filter(|(_, at)| at.elapsed() < limits::JWKS_TTL) {
            return Ok(url);
        }
        let url = self.discovery.find(|document| document.token_endpoint, "token_endpoint").await?;
        *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = Some((url.clone(), Instant::now()));
        Ok(url)
    }
}

#[async_trait]
impl TokenMinter for ScaiKeyMinter {
    async fn mint(&self, wanted: &MintRequest<'_>) -> Result<Minted> {
        let answer = self.ask(wanted).await.map_err(|error| unavailable("It cannot be had", error))?;
        let token = Zeroizing::new(answer.access_token);
        if answer.issued_token_type != ACCESS_TOKEN || !answer.token_type.eq_ignore_ascii_case("bearer") {
            return Err(unavailable("It is none", "not a bearer token of the type that was asked for"));
        }
        let caller =
            self.verifier.verify(&token).await.map_err(|error| unavailable("It is not good", error))?;
        let ttl = self.lifetime(&caller, wanted).map_err(|reason| unavailable("It says too much", reason))?;
        Ok(Minted { token, ttl })
    }
}

impl ScaiKeyMinter {
    /// How long the token lasts, if it lets its bearer be and do what was asked for and nothing else.
    fn lifetime(&self, caller: &Caller, wanted: &MintRequest<'_>) -> Result<Duration, &'static str> {
        let is_he = caller.identity_id() == wanted.service_account
            && caller.identity_type() == IdentityType::ServiceAccount
            && caller.tenant_id() == wanted.tenant;
        if !is_he {
            return Err("it is somebody else's");
        }
        if !caller.roles().is_empty() {
            return Err("it carries a role");
        }
        if caller.scopes() != wanted.scopes.iter().copied().collect() {
            return Err("its scopes are not those that were asked for");
        }
        if caller.allowed_paths() != Some(wanted.allowed_paths) {
            return Err("it is not narrowed to the paths that were asked for");
        }
        let lasts = caller.token_expires_at().map(|end| end - self.clock.now());
        let lasts = lasts.and_then(|lasts| Duration::try_from(lasts).ok()).unwrap_or_default();
        if lasts.is_zero() || lasts > wanted.ttl + limits::TOKEN_LEEWAY {
            return Err("it lasts too long, or has expired");
        }
        Ok(lasts)
    }
}

fn unavailable(what: &str, why: impl fmt::Display) -> Error {
    let message = "No token is to be had from the identity provider.";
    Error::unavailable(message, limits::JWKS_RETRY, format!("{what}: {why}"))
}

impl fmt::Debug for ScaiKeyMinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScaiKeyMinter").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}
