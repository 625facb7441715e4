use std::sync::LazyLock;

use http::StatusCode;
use scaivault_core::{Error, Result};

use super::Request;
use crate::{http::Reply, openapi};

/// `GET /v1/openapi.json`: every row of the routing table. Needs no token.
pub(super) async fn document(_: Request) -> Result<Reply> {
    let text = DOCUMENT.as_ref().map_err(|_| Error::internal("the API description cannot be made"))?;
    Ok(Reply::raw(StatusCode::OK, "application/json", text.clone()))
}

static DOCUMENT: LazyLock<Result<Vec<u8>>> = LazyLock::new(|| {
    let table = super::router().map_err(Error::internal)?;
    serde_json::to_vec(&openapi::document(&table)?).map_err(Error::internal)
});
