pub(super) mod exchange;
pub(super) mod trust;

use scaivault_core::Result;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Caller, Request};
use crate::http::Reply;

/// `GET /v1/auth/whoami`.
pub(super) async fn whoami(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.whoami(&ctx).await?)
}

/// Without `Debug`: a token is in it.
#[derive(Deserialize)]
struct IntrospectBody {
    token: String,
}

/// `POST /v1/auth/introspect`.
pub(super) async fn introspect(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: IntrospectBody = request.json().await?;
    let token = Zeroizing::new(body.token);
    let app = request.app();
    Reply::ok(&app.vault.introspect(&ctx, &app.verifier, &token).await?)
}
