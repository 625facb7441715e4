use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn numbers_are_for_admins_and_name_no_path() {
    let api = Api::start().await;
    api.admin("PUT", "/v1/secrets/app/db").json(&json!({ "data": {} })).send().await.expect(201);
    api.admin("GET", "/v1/secrets/app/no").send().await.refusal(404, "secret_not_found");
    let answer = api.admin("GET", "/v1/metrics").send().await.expect(200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = answer.text();
    for line in [
        r#"scaivault_requests_total{method="PUT",path_category="secrets",status="201"} 1"#,
        r#"scaivault_requests_total{method="GET",path_category="secrets",status="404"} 1"#,
        r#"scaivault_active_requests{path_category="metrics"} 1"#,
        "scaivault_audit_queue_depth 0",
        "scaivault_key_rewrap_remaining 0",
        "scaivault_kms_calls_total 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("app/") && !text.contains("tnt_"), "{text}");
    let token = api.token("user:u", "audit:read secrets:read");
    api.call(&token, "GET", "/v1/metrics").send().await.refusal(403, "insufficient_scope");
    assert_eq!(api.audit("action=metrics_read").await.len(), 2);
}
