use scaivault_core::{Code, Error, Result};

use super::{Caller, Request};
use crate::http::Reply;

/// `GET /v1/auth/whoami`.
pub(super) async fn whoami(_: Request, ctx: Caller) -> Result<Reply> {
    if ctx.tenant() != ctx.caller().tenant_id() {
        return Err(Error::new(Code::TenantAccessDenied, "The token does not belong to that tenant."));
    }
    Reply::ok(&ctx.caller().whoami())
}
