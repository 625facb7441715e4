use scaivault_server::dev::TENANT;
use serde_json::{Value, json};

use crate::support::{Api, keys};

#[tokio::test]
async fn a_record_says_who_did_what_from_where_and_how_it_ended() {
    let api = Api::start().await;
    let put = api
        .admin("PUT", "/v1/secrets/app/db")
        .header("X-Request-ID", "req-one")
        .header("User-Agent", "curl/8");
    put.json(&json!({ "data": {} })).send().await.expect(201);
    let gone = api.admin("GET", "/v1/secrets/app/no").header("X-Request-ID", "req-two").send().await;
    gone.refusal(404, "secret_not_found");

    let found = api.audit("request_id=req-one").await;
    assert_eq!(found.len(), 1);
    let log = &found[0];
    let fields = [
        "acting_tenant_id",
        "action",
        "duration_ms",
        "error_code",
        "extra_data",
        "id",
        "identity_id",
        "identity_type",
        "request_id",
        "resource_id",
        "resource_type",
        "secret_path",
        "source_ip",
        "success",
        "tenant_id",
        "timestamp",
        "user_agent",
    ];
    assert_eq!(keys(log), fields);
    let timestamp = log["timestamp"].as_str().unwrap();
    assert_eq!(timestamp.len(), "2026-04-23T18:00:00.123456Z".len());
    assert!(log["id"].as_str().unwrap().starts_with("log_") && log["duration_ms"].is_u64(), "{log}");
    let expected = json!({
        "id": log["id"], "timestamp": timestamp, "duration_ms": log["duration_ms"], "extra_data": log["extra_data"],
        "action": "write", "identity_type": "user", "identity_id": "user:admin@dev.example",
        "tenant_id": TENANT, "acting_tenant_id": TENANT, "resource_type": "secret", "resource_id": null,
        "secret_path": "app/db", "source_ip": "127.0.0.1", "user_agent": "curl/8", "success": true,
        "error_code": null, "request_id": "req-one",
    });
    assert_eq!(*log, expected);
    assert_eq!(log["extra_data"], json!({ "version": 1, "granted_by": "role:tenant_admin" }));

    let failed = &api.audit("request_id=req-two").await[0];
    assert_eq!((&failed["success"], &failed["error_code"]), (&json!(false), &json!("secret_not_found")));
    assert_eq!((&failed["action"], &failed["secret_path"]), (&json!("read"), &json!("app/no")));
}

#[tokio::test]
async fn every_filter_selects_and_the_query_is_in_the_trail_itself() {
    let api = Api::start().await;
    let bob = api.token("sa:bob", "secrets:read");
    for path in ["a/1", "a/2", "b/1"] {
        api.write("PUT", &format!("/v1/secrets/{path}"), &json!({ "data": {} }), 201).await;
    }
    api.get("/v1/secrets/a/1").await;
    api.call(&bob, "GET", "/v1/secrets/b/1").send().await.refusal(403, "access_denied");
    for (query, count) in [
        ("action=write", 3),
        ("action=write,read", 5),
        ("action=read", 2),
        ("action=no_such", 0),
        ("identity_id=sa:bob", 1),
        ("identity_type=service_account", 1),
        ("identity_type=user", 4),
        ("path_prefix=a/", 3),
        ("path_prefix=b", 2),
        ("success=false", 1),
        ("success=true", 4),
        ("source_ip=127.0.0.1", 5),
        ("source_ip=10.0.0.1", 0),
        ("from=2999-01-01T00:00:00Z", 0),
        ("to=2000-01-01T00:00:00Z", 0),
        ("from=2000-01-01T00:00:00Z&to=2999-01-01T00:00:00%2B01:00", 5),
        ("action=read&success=false&identity_id=sa:bob&path_prefix=b/1", 1),
    ] {
        let found = api.audit(query).await;
        assert_eq!(found.len(), count, "{query}: {found:?}");
    }
    let queries =
        api.call(&api.admin, "GET", "/v1/audit/logs?action=audit_query").send().await.expect(200).json();
    assert_eq!(keys(&queries), ["cursor", "has_more", "logs"]);
    let queries = queries["logs"].as_array().unwrap();
    assert_eq!(queries.len(), 17);
    assert!(queries.iter().all(|log| log["identity_id"] == "user:auditor@dev.example"));
}

#[tokio::test]
async fn pages_are_newest_first_and_neither_lose_nor_repeat_a_record() {
    let api = Api::start().await;
    for n in 0..7 {
        api.write("PUT", &format!("/v1/secrets/s/{n}"), &json!({ "data": {} }), 201).await;
    }
    let mut paths = Vec::new();
    let mut query = "action=write&limit=3".to_owned();
    loop {
        let page = api.get(&format!("/v1/audit/logs?{query}")).await;
        let logs: &Vec<Value> = page["logs"].as_array().unwrap();
        paths.extend(logs.iter().map(|log| log["secret_path"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["cursor"].as_str() else { break };
        let other = api.admin("GET", &format!("/v1/audit/logs?action=read&cursor={cursor}")).send().await;
        other.refusal(400, "invalid_cursor");
        query = format!("action=write&limit=3&cursor={cursor}");
    }
    assert_eq!(paths, ["s/6", "s/5", "s/4", "s/3", "s/2", "s/1", "s/0"]);
}

#[tokio::test]
async fn a_trail_is_its_tenants_alone() {
    let api = Api::start().await;
    api.write("PUT", "/v1/secrets/a", &json!({ "data": {} }), 201).await;
    let neighbour = api.token_of(&crate::support::Who {
        tenant: "tnt_other",
        roles: &["tenant_admin"],
        ..crate::support::Who::new("user:admin@other.example", "admin")
    });
    let logs = api.call(&neighbour, "GET", "/v1/audit/logs").send().await.expect(200).json();
    assert_eq!(logs["logs"], json!([]));
    let without = api.token("user:bob", "secrets:read policies:read pki:admin");
    let error = api.call(&without, "GET", "/v1/audit/logs").send().await.refusal(403, "insufficient_scope");
    assert_eq!(error["details"], json!({ "required_scope": "audit:read" }));
}

#[tokio::test]
async fn a_secret_an_identity_and_a_time_each_have_their_trail_in_figures() {
    let api = Api::start().await;
    let bob = api.token("sa:bob", "secrets:read");
    for path in ["a/1", "a/2"] {
        api.write("PUT", &format!("/v1/secrets/{path}"), &json!({ "data": {} }), 201).await;
    }
    api.get("/v1/secrets/a/1").await;
    api.get("/v1/secrets/a/1").await;
    api.call(&bob, "GET", "/v1/secrets/a/1").send().await.refusal(403, "access_denied");

    let secret = api.get("/v1/audit/secrets/a/1?limit=3").await;
    assert_eq!(keys(&secret), ["cursor", "has_more", "logs", "secret_path", "summary"]);
    let figures = &secret["summary"];
    assert_eq!(keys(figures), ["last_accessed_at", "total_reads", "total_writes", "unique_identities"]);
    let counted = [&figures["total_reads"], &figures["total_writes"], &figures["unique_identities"]];
    assert_eq!(counted, [&json!(2), &json!(1), &json!(2)]);
    assert!(figures["last_accessed_at"].is_string());
    let cursor = secret["cursor"].as_str().unwrap();
    let rest = api.get(&format!("/v1/audit/secrets/a/1?limit=3&cursor={cursor}")).await;
    let logs = secret["logs"].as_array().unwrap().iter().chain(rest["logs"].as_array().unwrap());
    let actions: Vec<_> = logs.map(|log| (log["action"].as_str().unwrap(), log["success"] == true)).collect();
    assert_eq!(
        actions,
        [("read", false), ("read", true), ("read", true), ("write", true)],
        "not the queries"
    );
    let path = format!("/v1/audit/secrets/a/2?limit=3&cursor={cursor}");
    api.admin("GET", &path).send().await.refusal(400, "invalid_cursor");
    let never = api.get("/v1/audit/secrets/never/was").await;
    let nothing =
        json!({ "total_reads": 0, "total_writes": 0, "unique_identities": 0, "last_accessed_at": null });
    assert_eq!((&never["logs"], &never["summary"]), (&json!([]), &nothing));

    let identity = api.get("/v1/audit/identities/sa:bob").await;
    assert_eq!(keys(&identity), ["cursor", "has_more", "identity_id", "logs", "summary"]);
    assert_eq!((&identity["identity_id"], identity["logs"].as_array().unwrap().len()), (&json!("sa:bob"), 1));
    let figures = &identity["summary"];
    let expected = json!({
        "total_events": 1, "successful_events": 0, "failed_events": 1, "unique_secrets": 1,
        "last_seen_at": figures["last_seen_at"],
    });
    assert_eq!(*figures, expected);

    let all = api.get("/v1/audit/summary").await;
    let fields = [
        "by_action",
        "failed_events",
        "from",
        "successful_events",
        "to",
        "top_identities",
        "top_secrets",
        "total_events",
        "unique_identities",
        "unique_secrets",
    ];
    assert_eq!(keys(&all), fields);
    let (total, failed) = (all["total_events"].as_i64().unwrap(), all["failed_events"].as_i64().unwrap());
    assert_eq!(all["successful_events"].as_i64().unwrap(), total - failed);
    assert_eq!((failed, &all["unique_identities"], &all["unique_secrets"]), (2, &json!(2), &json!(2)));
    assert_eq!((&all["by_action"]["read"], &all["by_action"]["write"]), (&json!(3), &json!(2)));
    assert_eq!(all["top_secrets"][0], json!({ "id": "a/1", "count": 4 }));
    assert_eq!(all["top_identities"][0]["id"], "user:admin@dev.example");
    let none = api.get("/v1/audit/summary?from=2020-01-01T00:00:00Z&to=2020-01-31T00:00:00Z").await;
    assert_eq!((&none["total_events"], &none["by_action"]), (&json!(0), &json!({})));
    let queries = api.audit("action=audit_query&identity_id=user:admin@dev.example").await;
    assert_eq!(queries.len(), 7, "each query is in the trail, the refused one too");
    for path in ["secrets/a/1", "identities/sa:bob", "summary"] {
        let answer = api.call(&bob, "GET", &format!("/v1/audit/{path}")).send().await;
        answer.refusal(403, "insufficient_scope");
    }
}
