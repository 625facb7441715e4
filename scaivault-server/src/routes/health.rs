use http::StatusCode;
use scaivault_core::{Clock as _, Result, SystemClock, rfc3339};
use serde_json::json;

use super::Request;
use crate::http::Reply;

/// `GET /v1/health`: the process runs.
pub(super) async fn live(_: Request) -> Result<Reply> {
    Reply::ok(&json!({ "status": "healthy", "timestamp": rfc3339(SystemClock.now()) }))
}

/// `GET /v1/health/ready`: requests can be served now. One root key that works is enough; each is named with `ok`, or why
/// it cannot be used in one word.
pub(super) async fn ready(request: Request) -> Result<Reply> {
    let app = request.app();
    let roots = app.vault.check_roots().await.into_iter();
    let roots: serde_json::Map<_, _> =
        roots.map(|root| (root.name, json!(root.failure.unwrap_or("ok")))).collect();
    let checks = [
        ("database", app.vault.check_database().await.err()),
        ("encryption", app.vault.check_encryption().await.err()),
    ];
    let draining = app.stop.is_draining();
    let mut states = serde_json::Map::new();
    let mut errors = serde_json::Map::new();
    for (name, error) in checks {
        states.insert(name.to_owned(), json!(if error.is_none() { "ok" } else { "error" }));
        if let Some(error) = error {
            // The cause may name hosts and users: it is in the log, not in an answer that needs no token.
            tracing::warn!(check = name, error = %error, causes = error.causes(), "not ready");
            errors.insert(name.to_owned(), json!(error.message()));
        }
    }
    // No reason to take requests away: limits hold all the same, in each process by itself.
    if let Some(shared) = app.vault.limits_are_shared().await {
        states.insert("rate_limits".to_owned(), json!(if shared { "shared" } else { "per process" }));
    }
    if app.vault.quarantine().is_some() {
        errors.insert(
            "database".to_owned(),
            json!("The database was put back to an older state; an operator has to look."),
        );
    }
    if draining {
        errors.insert("server".to_owned(), json!("The server is stopping."));
    }
    if errors.is_empty() {
        return Reply::ok(&json!({ "status": "ready", "checks": states, "root_keys": roots }));
    }
    let body = json!({ "status": "not_ready", "checks": states, "root_keys": roots, "errors": errors });
    Reply::json(StatusCode::SERVICE_UNAVAILABLE, &body)
}
