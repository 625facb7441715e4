use scaivault_server::http::serve::Limits;

use crate::support::start;

#[tokio::test]
async fn unknown_routes_and_methods_are_answered_in_the_envelope() {
    let server = start(Limits::default()).await;
    let answer = server.send("GET /v1/nothing", b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = server.send("DELETE /v1/secrets/a", b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.header("allow"), Some("GET, HEAD, PUT"));
    let answer = server.send("OPTIONS *", b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
    let answer = server.send("BREW /v1/slow", b"").await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn a_guarded_row_is_reached_by_a_known_caller_only() {
    let server = start(Limits::default()).await;
    let answer = server.send("GET /v1/secrets/app/db\nAuthorization: Bearer good", b"").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), serde_json::json!({ "path": "app/db", "caller": "user:alice" }));
    for (head, code) in [
        ("GET /v1/secrets/a", "authentication_required"),
        ("GET /v1/secrets/a\nAuthorization: Bearer bad", "token_invalid"),
    ] {
        let answer = server.send(head, b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (401, code));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let twice = "GET /v1/secrets/a\nAuthorization: Bearer good\nAuthorization: Bearer good";
    assert_eq!(server.send(twice, b"").await.status, 400);
}

#[tokio::test]
async fn every_answer_carries_its_id_and_is_not_stored() {
    let server = start(Limits::default()).await;
    let answer = server.send("GET /v1/nothing\nX-Request-ID: trace-1_A", b"").await;
    assert_eq!(answer.header("x-request-id"), Some("trace-1_A"));
    assert_eq!(answer.json()["error"]["request_id"], "trace-1_A");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("strict-transport-security"), None);
    let long = "x".repeat(65);
    for bad in ["a b", "a.b", "<x>", long.as_str(), "trace\nX-Request-ID: other"] {
        let answer = server.send(&format!("GET /v1/nothing\nX-Request-ID: {bad}"), b"").await;
        let minted = answer.header("x-request-id").unwrap();
        assert!(minted.starts_with("req_") && minted.len() == 30, "{bad}: {minted}");
        assert_eq!(answer.json()["error"]["request_id"], minted);
    }
    let answer = server.send("GET /v1/secrets\nAuthorization: Bearer good", b"").await;
    assert_eq!(answer.header("cache-control"), Some("max-age=60"));
}

#[tokio::test]
async fn a_head_request_has_the_header_of_its_get_and_no_body() {
    let server = start(Limits::default()).await;
    let get = server.send("GET /v1/secrets/a\nAuthorization: Bearer good", b"").await;
    let head = server.send("HEAD /v1/secrets/a\nAuthorization: Bearer good", b"").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    assert_eq!(get.header("content-length").unwrap(), get.body.len().to_string());
}

#[tokio::test]
async fn sec_a1_a_spelling_is_refused_on_the_wire_as_well() {
    let server = start(Limits::default()).await;
    for spelling in
        ["a/../b", "a//b", "a/", "a%2Fb", "a%2e%2e", "%61", "a/%00", "a\\b", "a/./b", "a%252Fb", "é"]
    {
        let head = format!("GET /v1/secrets/{spelling}\nAuthorization: Bearer good");
        let answer = server.send(&head, b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_path"), "{spelling}");
    }
    let absolute = server.send("GET http://x/v1/secrets/a/../b\nAuthorization: Bearer good", b"").await;
    assert_eq!(absolute.code(), "invalid_path");
}

#[tokio::test]
async fn a_raw_tail_arrives_as_sent() {
    let server = start(Limits::default()).await;
    for tail in ["MEUwQw==", "a/b+c==", "a%2Fb%3D", "a//b", "/x/"] {
        let answer = server.send(&format!("GET /v1/ocsp/{tail}"), b"").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, tail));
    }
}

#[tokio::test]
async fn query_parameters_are_strict() {
    let server = start(Limits::default()).await;
    let get = |query: &'static str| {
        let server = &server;
        async move { server.send(&format!("GET /v1/secrets?{query}\nAuthorization: Bearer good"), b"").await }
    };
    assert_eq!(get("prefix=a%2Fb").await.json()["prefix"], "a/b");
    for (query, name) in [("prefix=a&prefix=b", "prefix"), ("nope=1", "nope")] {
        let answer = get(query).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(name));
    }
}

#[tokio::test]
async fn a_panic_and_a_defect_are_a_500_that_tells_nothing() {
    let server = start(Limits::default()).await;
    for path in ["/v1/panics", "/v1/fails"] {
        let answer = server.send(&format!("GET {path}"), b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (500, "internal_error"));
        assert!(!answer.body.contains("canary"));
    }
    assert_eq!(server.send("GET /v1/nothing", b"").await.status, 404);
}
