use scaivault_core::Result;

use super::{Caller, Request};
use crate::http::Reply;

/// `GET /v1/auth/whoami`.
pub(super) async fn whoami(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.whoami(&ctx).await?)
}
