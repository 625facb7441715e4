use serde_json::json;

use crate::support::{Api, is_seconds, keys};

#[tokio::test]
async fn it_lives_and_is_ready_and_says_its_version_to_anybody() {
    let api = Api::start().await;
    let live = api.anonymous("GET", "/v1/health").send().await.expect(200).json();
    assert_eq!(keys(&live), ["status", "timestamp"]);
    assert!(live["status"] == "healthy" && is_seconds(&live["timestamp"]), "{live}");
    let ready = api.anonymous("GET", "/v1/health/ready").send().await.expect(200).json();
    let checks = json!({ "database": "ok", "encryption": "ok" });
    assert_eq!(ready, json!({ "status": "ready", "checks": checks, "root_keys": { "local": "ok" } }));
    let version = api.anonymous("GET", "/v1/version").send().await.expect(200).json();
    assert_eq!(version, json!({ "version": env!("CARGO_PKG_VERSION"), "api_version": "v1" }));
}

#[tokio::test]
async fn without_its_database_it_lives_but_is_not_ready_and_refuses_with_503() {
    let api = Api::on_file().await;
    api.write("PUT", "/v1/secrets/a", &json!({ "data": {} }), 201).await;
    api.vault.close().await;
    let answer = api.anonymous("GET", "/v1/health/ready").send().await.expect(503);
    let body = answer.json();
    assert_eq!(body["status"], "not_ready");
    assert_eq!(body["checks"]["database"], "error");
    assert_eq!(body["errors"], json!({ "database": "The database is not available." }));
    api.anonymous("GET", "/v1/health").send().await.expect(200);
    for (method, path) in [("GET", "/v1/secrets/a"), ("GET", "/v1/secrets"), ("DELETE", "/v1/secrets/a")] {
        let answer = api.admin(method, path).send().await;
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        answer.refusal(503, "service_unavailable");
    }
}

#[tokio::test]
async fn a_server_that_drains_is_not_ready() {
    let api = Api::start().await;
    api.stopper.stop();
    let body = api.anonymous("GET", "/v1/health/ready").send().await.expect(503).json();
    assert_eq!(body["status"], "not_ready");
    assert_eq!(body["checks"], json!({ "database": "ok", "encryption": "ok" }));
    assert_eq!(body["errors"], json!({ "server": "The server is stopping." }));
}

#[tokio::test]
async fn head_is_served_where_get_is() {
    let api = Api::start().await;
    api.write("PUT", "/v1/secrets/a", &json!({ "data": { "k": "v" } }), 201).await;
    for path in ["/v1/health", "/v1/version", "/v1/secrets/a", "/v1/secrets", "/v1/auth/whoami"] {
        // The first read of a secret is remembered in what the second says.
        api.get(path).await;
        let get = api.admin("GET", path).send().await.expect(200);
        let head = api.admin("HEAD", path).send().await.expect(200);
        assert_eq!(head.body, b"", "{path}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
        assert_eq!(head.header("etag"), get.header("etag"), "{path}");
    }
    assert_eq!(api.anonymous("HEAD", "/v1/secrets/a").send().await.status, 401);
}
