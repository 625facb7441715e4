//! What the routes share: the vault, who verifies tokens, and whether the server is on its way out.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use scaivault_core::{Action, ClientIdentities, Code, Ctx, Error, Result, TenantId, TokenVerifier, Vault};

use crate::http::{
    Head,
    origin::TrustedProxies,
    router::{App, Refusal},
    stop::Stop,
};
use crate::metrics::Metrics;

/// The application behind the routing table.
#[derive(Debug)]
pub struct Service {
    /// The vault.
    pub vault: Vault,
    /// Turns bearer tokens into callers.
    pub verifier: Arc<TokenVerifier>,
    /// Readiness fails once this says so.
    pub stop: Stop,
    /// What is counted while it runs.
    pub metrics: Metrics,
    /// Whose word is taken for where a request comes from.
    pub proxies: TrustedProxies,
    /// Whom client certificates stand for.
    pub identities: ClientIdentities,
}

impl App for Service {
    type Caller = Arc<Ctx>;

    async fn identify(&self, head: &Head) -> Result<Arc<Ctx>> {
        let origin = self.proxies.origin(head.peer().ip(), head.headers());
        let from = *origin.as_ref().unwrap_or(&head.peer().ip());
        let caller = match bearer(head) {
            Ok(token) => {
                if self.verifier.has_to_ask(token).await {
                    self.vault.may_look_up(from)?;
                }
                self.verifier.verify_over(token, head.certificate()).await
            }
            Err(error) => Err(error),
        };
        let caller = caller.and_then(|caller| {
            self.identities.check(head.certificate(), &caller)?;
            Ok(caller)
        });
        let caller = match caller {
            Ok(caller) => caller,
            // Whose token has expired is told so, and gets another.
            Err(error) if matches!(error.code(), Code::ServiceUnavailable | Code::TokenExpired) => {
                return Err(error);
            }
            Err(error) => {
                self.vault.failed_login(from).await?;
                return Err(error);
            }
        };
        let mut ctx = self.vault.ctx(caller)?.with_request_id(head.id().as_str()).with_source_ip(from);
        if let Some(agent) = head.headers().get(header::USER_AGENT) {
            ctx = ctx.with_user_agent(&String::from_utf8_lossy(agent.as_bytes()));
        }
        match origin.and_then(|_| tenant(head)) {
            Ok(None) => Ok(Arc::new(ctx)),
            Ok(Some(tenant)) => Ok(Arc::new(ctx.for_tenant(tenant))),
            // Who calls is known by now, so that he was refused is recorded.
            Err(error) => {
                let refusal = Refusal { scopes: &[], ..head.refusal() };
                Err(self.refused(&Arc::new(ctx), refusal, error).await)
            }
        }
    }

    fn fields(&self, ctx: &Arc<Ctx>) -> Vec<(HeaderName, HeaderValue)> {
        let Some(charged) = ctx.charged() else { return Vec::new() };
        let reset = (ctx.now() + charged.reset).unix_timestamp_nanos().div_euclid(1_000_000_000) + 1;
        vec![
            (X_RATELIMIT_LIMIT.clone(), HeaderValue::from(charged.limit)),
            (X_RATELIMIT_REMAINING.clone(), HeaderValue::from(charged.remaining)),
            (X_RATELIMIT_RESET.clone(), HeaderValue::from(i64::try_from(reset).unwrap_or(i64::MAX))),
        ]
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn refused(&self, ctx: &Arc<Ctx>, refusal: Refusal, error: Error) -> Error {
        let action = Action::parse(refusal.action).unwrap_or(Action::Unrouted);
        let about = refusal.about.as_deref();
        self.vault.audit(ctx).refused(action, refusal.scopes, about, error, refusal.started.elapsed()).await
    }
}

fn bearer(head: &Head) -> Result<&str> {
    let required = |message| Error::new(Code::AuthenticationRequired, message);
    let value = head.header(&header::AUTHORIZATION).ok().flatten();
    let value = value.ok_or_else(|| required("The header Authorization: Bearer <token> is needed, once."))?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(token.trim())
        }
        _ => Err(required("The header Authorization must have the form: Bearer <token>.")),
    }
}

/// The tenant that the request names, if it names one.
fn tenant(head: &Head) -> Result<Option<TenantId>> {
    let named = head.header(&X_TENANT_ID)?;
    let parse = |text: &str| {
        let message = "The header X-Tenant-ID is not a tenant: 1 to 128 visible ASCII characters.";
        TenantId::parse(text).map_err(|_| Error::new(Code::InvalidRequest, message))
    };
    named.map(parse).transpose()
}

/// Requests of the category that was charged: a minute's, those that could be made at once, and from when on (Unix
/// seconds) all of them could.
static X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
static X_TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");
