use http::header;
use scaivault_core::{
    Result,
    trust::{ExchangeRequest, ExchangeWrite, Origin},
};

use super::Request;
use crate::http::Reply;

/// `POST /v1/auth/exchange`.
pub(in crate::routes) async fn exchange(mut request: Request) -> Result<Reply> {
    let write: ExchangeWrite = request.json().await?;
    let wanted = ExchangeRequest::parse(write)?;
    let (app, head) = (request.app(), request.head());
    let source_ip = app.proxies.origin(head.peer().ip(), head.headers())?;
    let agent = head.headers().get(header::USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    let origin = Origin { source_ip, request_id: head.id().as_str(), user_agent: agent.as_deref() };
    Reply::ok(&app.vault.exchange(&wanted, origin).await?)
}
