use scaivault_core::{Category, Clock as _, RateLimits, SystemClock};
use scaivault_server::dev::{PARTNER, TENANT};
use serde_json::{Value, json};

use crate::support::{Answer, Api, WEBHOOK, Who, event, is_seconds, keys, signature};

async fn told() -> Api {
    let api = Api::start().await;
    // The vault knows the tenant from then on, so that its trail has the events.
    api.get("/v1/secrets").await;
    api.tell(
        "evt_1",
        "partner.created",
        ("partner", PARTNER),
        json!({ "name": "Dev", "slug": "dev", "region": "eu" }),
    )
    .await;
    api.tell("evt_2", "tenant.created", ("tenant", TENANT), json!({ "name": "Dev", "slug": "dev" })).await;
    let alice = json!({ "email": "alice@dev.example", "display_name": "Alice", "mfa_enabled": true });
    api.tell("evt_3", "user.created", ("user", "usr_alice"), alice).await;
    api.tell(
        "evt_4",
        "user.created",
        ("user", "usr_bob"),
        json!({ "email": "bob@dev.example", "name": "Bob" }),
    )
    .await;
    api.tell("evt_5", "group.created", ("group", "grp_sre"), json!({ "name": "SRE", "slug": "sre" })).await;
    api.tell("evt_6", "group.member.added", ("group", "grp_sre"), json!({ "user_id": "usr_alice" })).await;
    api
}

/// Sends a body under a signature header.
async fn send(api: &Api, signature: Option<&str>, body: &[u8]) -> Answer {
    let call = api.anonymous("POST", WEBHOOK);
    let call = match signature {
        Some(signature) => call.header("X-ScaiKey-Signature", signature),
        None => call,
    };
    call.body("application/json", body).send().await
}

#[tokio::test]
async fn sec_d2_a_forged_or_replayed_event_is_refused_and_changes_nothing() {
    let api = told().await;
    let body = event("evt_9", "user.deleted", ("user", "usr_alice"), json!({})).to_string();
    let body = body.as_bytes();
    let now = SystemClock.now().unix_timestamp();
    let time = now.to_string();
    let good = signature(&time, body);
    let at = |time: i64| format!("t={time},v1={}", signature(&time.to_string(), body));
    let flipped: String = good.chars().map(|c| if c == '0' { '1' } else { '0' }).collect();
    let bad = [
        String::new(),
        good.clone(),
        "t".to_owned(),
        "=".to_owned(),
        format!("t={time}"),
        format!("v1={good}"),
        format!("t=,v1={good}"),
        format!("t={time},v1="),
        format!("t={time},v1={flipped}"),
        format!("t={time},v1={}", &good[..62]),
        format!("t={time},v1={good}00"),
        format!("t={time},v1=zz{}", &good[2..]),
        format!("t={time},v0={good}"),
        format!("t={time},V1={good}"),
        format!("T={time},v1={good}"),
        format!("t={time} v1={good}"),
        format!("t={time};v1={good}"),
        format!("t={time},t={time},v1={good}"),
        format!("t={time}.0,v1={}", signature(&format!("{time}.0"), body)),
        format!("t=-{time},v1={}", signature(&format!("-{time}"), body)),
        format!("t={},v1={good}", now - 1),
        format!("t={time},v1={}", signature(&time, b"")),
        format!("t={time},v1={}", signature("", body)),
        format!("t={time},v1={}", signature(&time, &body[1..])),
        format!("sha256={good}"),
        at(now - 320),
        at(now + 320),
        at(now - 86_400),
        at(0),
        at(i64::from(u32::MAX)),
        format!("t=99999999999999999999,v1={good}"),
    ];
    assert!(bad.len() >= 25);
    for signature in &bad {
        send(&api, Some(signature), body).await.refusal(401, "invalid_signature");
    }
    send(&api, None, body).await.refusal(401, "invalid_signature");
    let right = format!("t={time},v1={good}");
    let twice = api
        .anonymous("POST", WEBHOOK)
        .header("X-ScaiKey-Signature", &right)
        .header("X-ScaiKey-Signature", &right);
    twice.body("application/json", body).send().await.refusal(401, "invalid_signature");
    let other = api
        .anonymous("POST", WEBHOOK)
        .header("X-ScaiKey-Signature", &right)
        .header("X-ScaiKey-Timestamp", "1");
    other.body("application/json", body).send().await.refusal(401, "invalid_signature");
    let plain = api.anonymous("POST", WEBHOOK).header("X-ScaiKey-Signature", &right).body("text/plain", body);
    plain.send().await.refusal(415, "unsupported_media_type");
    let huge = vec![b' '; (256 << 10) + 1];
    send(&api, Some(&right), &huge).await.refusal(413, "payload_too_large");
    let alice = api.get("/v1/identity/resolve/user/usr_alice").await;
    assert_eq!(alice["status"], "ACTIVE");
    // What was refused is what would have been taken.
    assert_eq!(send(&api, Some(&right), body).await.expect(200).json()["success"], true);
    let alice = api.get("/v1/identity/resolve/user/usr_alice").await;
    assert_eq!(alice["status"], "DELETED");
}

#[tokio::test]
async fn what_is_signed_but_no_event_is_told_what_is_wrong() {
    let api = Api::start().await;
    let time = SystemClock.now().unix_timestamp().to_string();
    let event = |change: &dyn Fn(&mut Value)| {
        let mut body = event("evt_1", "user.created", ("user", "usr_a"), json!({}));
        change(&mut body);
        body.to_string()
    };
    let unreadable = [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        r#"{"event_id":"a","event_id":"b"}"#.to_owned(),
        "[".repeat(10_000),
        event(&|body| drop(body.as_object_mut().unwrap().remove("event_id"))),
        event(&|body| body["event_id"] = json!(7)),
        event(&|body| body["event_id"] = json!("")),
        event(&|body| body["event_id"] = json!("x".repeat(129))),
        event(&|body| body["event_id"] = json!("a\u{0}b")),
        event(&|body| drop(body.as_object_mut().unwrap().remove("event_type"))),
        event(&|body| drop(body.as_object_mut().unwrap().remove("timestamp"))),
        event(&|body| body["timestamp"] = json!("yesterday")),
        event(&|body| body["timestamp"] = json!("1969-12-31T23:59:59Z")),
        event(&|body| body["tenant_id"] = json!("two words")),
        event(&|body| body["tenant_id"] = json!(["tnt"])),
        event(&|body| body["data"] = json!("text")),
        event(&|body| body["resource"] = json!(1)),
    ];
    for body in &unreadable {
        let header = format!("t={time},v1={}", signature(&time, body.as_bytes()));
        send(&api, Some(&header), body.as_bytes()).await.refusal(400, "invalid_request");
    }
    let not_taken = [
        event(&|body| body["data"]["email"] = json!(["a"])),
        event(&|body| body["data"]["display_name"] = json!("x".repeat(257))),
        event(&|body| body["data"]["status"] = json!("")),
        event(&|body| body["data"]["roles"] = json!("super_admin")),
        event(&|body| body["data"]["mfa_enabled"] = json!("yes")),
        event(&|body| drop(body.as_object_mut().unwrap().remove("tenant_id"))),
        event(&|body| body["resource"]["id"] = json!("two words")),
        event(&|body| body["resource"]["type"] = json!("group")),
        event(&|body| body["timestamp"] = json!("9999-01-01T00:00:00Z")),
        event(&|body| body["event_type"] = json!("group.member_added")),
    ];
    for body in &not_taken {
        let header = format!("t={time},v1={}", signature(&time, body.as_bytes()));
        let answer = send(&api, Some(&header), body.as_bytes()).await.expect(200).json();
        assert_eq!(answer["success"], false, "{body}");
    }
    let other = event(&|body| body["event_type"] = json!("user.sang"));
    let header = format!("t={time},v1={}", signature(&time, other.as_bytes()));
    let answer = send(&api, Some(&header), other.as_bytes()).await.expect(200).json();
    assert_eq!(answer, json!({ "success": true, "handled": false, "duplicate": false }));
    api.admin("GET", "/v1/identity/resolve/user/usr_a").send().await.refusal(404, "identity_not_found");
}

#[tokio::test]
async fn addresses_that_send_too_many_forged_events_are_stopped() {
    let api = Api::limited(RateLimits::none().with(Category::AuthFailed, Some(3))).await;
    for _ in 0..3 {
        send(&api, Some("t=1,v1=00"), b"{}").await.refusal(401, "invalid_signature");
    }
    send(&api, Some("t=1,v1=00"), b"{}").await.refusal(429, "rate_limited");
    // What is signed is taken from wherever it comes.
    api.tell("evt_1", "user.created", ("user", "usr_a"), json!({})).await;
}

#[tokio::test]
async fn a_suspended_caller_is_refused_on_every_route_although_his_token_was_known() {
    let api = told().await;
    let token = api.token("user:alice@dev.example", "admin");
    let me = || api.call(&token, "GET", "/v1/auth/whoami");
    let body = me().send().await.expect(200).json();
    assert_eq!(body["groups"], json!([]), "no sync vouches for the directory");
    api.tell("evt_7", "user.suspended", ("user", "usr_alice"), json!({})).await;
    let error = me().send().await.refusal(401, "token_revoked");
    for path in ["/v1/secrets", "/v1/secrets/a", "/v1/identity/roles", "/v1/audit/logs", "/v1/metrics"] {
        let refused = api.call(&token, "GET", path).send().await.refusal(401, "token_revoked");
        assert_eq!(refused["message"], error["message"]);
    }
    api.call(&token, "GET", "/v1/nothing").send().await.refusal(404, "not_found");
    let refused = api.audit("identity_id=user:alice@dev.example&success=false").await;
    assert!(
        refused.len() >= 6 && refused.iter().all(|log| log["error_code"] == "token_revoked"),
        "{refused:?}"
    );
    api.tell("evt_8", "user.activated", ("user", "usr_alice"), json!({})).await;
    me().send().await.expect(200);
    let events = api.audit("action=identity_event").await;
    assert!(events.iter().any(|log| log["extra_data"]["event_type"] == "user.suspended"), "{events:?}");
}

#[tokio::test]
async fn the_directory_is_shown_as_the_contract_says() {
    let api = told().await;
    let shown = api.get("/v1/identity/partners").await;
    assert_eq!(keys(&shown), ["page", "page_size", "partners", "total"]);
    assert_eq!((&shown["page"], &shown["page_size"], &shown["total"]), (&json!(1), &json!(50), &json!(1)));
    let partner = &shown["partners"][0];
    assert_eq!(keys(partner), ["id", "last_synced_at", "name", "region", "slug", "status"]);
    assert!(is_seconds(&partner["last_synced_at"]), "{partner}");
    assert_eq!((&partner["id"], &partner["status"]), (&json!(PARTNER), &json!("ACTIVE")));
    let tenants = api.get(&format!("/v1/identity/tenants?partner_id={PARTNER}&status=active")).await;
    assert_eq!(tenants["tenants"][0]["partner_id"], PARTNER);
    let users = api.get(&format!("/v1/identity/tenants/{TENANT}/users?q=alice")).await;
    let alice = &users["users"][0];
    assert_eq!(
        keys(alice),
        [
            "display_name",
            "email",
            "groups",
            "id",
            "last_synced_at",
            "mfa_enabled",
            "roles",
            "status",
            "tenant_id"
        ]
    );
    assert_eq!(
        (&alice["mfa_enabled"], &alice["groups"], &users["total"]),
        (&json!(true), &json!(["group:sre"]), &json!(1))
    );
    let groups = api.get(&format!("/v1/identity/tenants/{TENANT}/groups")).await;
    assert_eq!(
        (&groups["groups"][0]["id"], &groups["groups"][0]["member_count"]),
        (&json!("grp_sre"), &json!(1))
    );
    let members = api.get("/v1/identity/groups/grp_sre/members").await;
    let member = &members["members"][0];
    assert_eq!(keys(member), ["added_at", "email", "membership_type", "user_id"]);
    assert_eq!(
        (&member["email"], &member["membership_type"]),
        (&json!("alice@dev.example"), &json!("DIRECT"))
    );
    let resolved = api.get("/v1/identity/resolve/user/user:bob@dev.example").await;
    assert_eq!(
        (&resolved["id"], &resolved["display_name"], &resolved["type"]),
        (&json!("usr_bob"), &json!("Bob"), &json!("user"))
    );
    let roles = api.get("/v1/identity/roles").await;
    assert_eq!(roles["roles"].as_array().unwrap().len(), 3);
    let page = api.get(&format!("/v1/identity/tenants/{TENANT}/users?page=2&page_size=1")).await;
    assert_eq!((&page["users"][0]["id"], &page["total"]), (&json!("usr_bob"), &json!(2)));
    let all = api.get(&format!("/v1/identity/tenants/{TENANT}/users?page_size=0")).await;
    assert_eq!(all["page_size"], 200);
    for path in [
        "/v1/identity/partners?page=0",
        "/v1/identity/partners?page=-1",
        "/v1/identity/partners?q=x",
        "/v1/identity/partners?page_size=x",
        "/v1/identity/tenants?cursor=x",
        "/v1/identity/resolve/robot/x",
    ] {
        api.admin("GET", path).send().await.refusal(400, "invalid_request");
    }
    api.admin("POST", "/v1/identity/sync").send().await.refusal(409, "invalid_state");
}

#[tokio::test]
async fn roles_are_given_over_the_api_and_the_first_super_admin_comes_by_his_address() {
    let api = told().await;
    let root = api.token("user:root@dev.example", "identity:read identity:admin");
    let me = api.call(&root, "GET", "/v1/auth/whoami").send().await.expect(200).json();
    assert_eq!(me["roles"], json!(["super_admin"]));
    let path = "/v1/identity/users/usr_bob/roles";
    let put = |token: &str, body: Value| api.call(token, "PUT", path).json(&body).send();
    let given = put(&root, json!({ "roles": ["tenant_admin"] })).await.expect(200).json();
    assert_eq!(given["roles"], json!(["tenant_admin"]));
    let bob = api.token("user:bob@dev.example", "admin");
    let me = api.call(&bob, "GET", "/v1/auth/whoami").send().await.expect(200).json();
    assert_eq!(me["roles"], json!(["tenant_admin"]));
    assert_eq!(api.call(&bob, "GET", path).send().await.expect(200).json(), given);
    put(&bob, json!({ "roles": ["tenant_admin", "super_admin"] })).await.refusal(403, "access_denied");
    put(&root, json!({ "roles": ["cook"] })).await.refusal(422, "validation_error");
    put(&root, json!({ "roles": "super_admin" })).await.refusal(422, "validation_error");
    put(&root, json!({ "roles": [], "more": 1 })).await.refusal(422, "validation_error");
    let weak = api.token_of(&Who { roles: &["super_admin"], ..Who::new("user:x", "identity:read") });
    put(&weak, json!({ "roles": [] })).await.refusal(403, "insufficient_scope");
    assert_eq!(api.audit("action=role_assign&success=true").await.len(), 2);
}
