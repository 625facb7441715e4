use scaivault_core::Result;
use serde_json::json;

use super::Request;
use crate::http::Reply;

/// `GET /v1/version`.
pub(super) async fn version(_: Request) -> Result<Reply> {
    Reply::ok(&json!({ "version": env!("CARGO_PKG_VERSION"), "api_version": "v1" }))
}
