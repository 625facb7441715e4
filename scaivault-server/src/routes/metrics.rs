use http::StatusCode;
use scaivault_core::Result;

use super::{Caller, Request};
use crate::{http::Reply, metrics};

/// `GET /v1/metrics`.
pub(super) async fn metrics(request: Request, ctx: Caller) -> Result<Reply> {
    let app = request.app();
    let statistics = app.vault.statistics(&ctx).await?;
    let text = app.metrics.encode(&statistics)?;
    Ok(Reply::raw(StatusCode::OK, metrics::MEDIA_TYPE, text.into_bytes()))
}
