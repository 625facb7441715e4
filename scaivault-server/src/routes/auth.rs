use scaivault_core::Result;

use super::{Caller, Request};
use crate::http::Reply;

/// `GET /v1/auth/whoami`.
pub(super) async fn whoami(_: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&ctx.caller().whoami())
}
