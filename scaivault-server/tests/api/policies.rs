use serde_json::{Value, json};

use crate::support::{Api, Who, is_seconds, keys};

fn rules(pattern: &str, permissions: &[&str]) -> Value {
    json!([{ "path_pattern": pattern, "permissions": permissions }])
}

#[tokio::test]
async fn a_policy_lives_from_creation_to_deletion() {
    let api = Api::start().await;
    let body = json!({ "name": "Readers", "description": "who reads", "rules": rules("app/**", &["read"]) });
    let policy = api.write("POST", "/v1/policies", &body, 201).await;
    let fields =
        ["bindings", "created_at", "description", "id", "is_active", "name", "rules", "scope", "updated_at"];
    assert_eq!(keys(&policy), fields);
    assert_eq!(
        policy["rules"],
        json!([{ "path_pattern": "app/**", "permissions": ["read"], "conditions": {} }])
    );
    assert_eq!(
        (&policy["scope"], &policy["is_active"], &policy["bindings"]),
        (&json!("tenant"), &json!(true), &json!([]))
    );
    assert!(is_seconds(&policy["created_at"]));
    let path = format!("/v1/policies/{}", policy["id"].as_str().unwrap());
    assert!(path.starts_with("/v1/policies/pol_"), "{path}");
    assert_eq!(api.get(&path).await, policy);

    // Alike names collide, in whatever case.
    let alike = json!({ "name": "readers", "rules": rules("x", &["read"]) });
    api.admin("POST", "/v1/policies").json(&alike).send().await.refusal(409, "name_conflict");

    let bind = json!({ "identity_type": "group", "identity_id": "group:sre", "expires_at": "2999-01-01T00:00:00+01:00" });
    let binding = api.write("POST", &format!("{path}/bindings"), &bind, 201).await;
    let fields =
        ["created_at", "created_by", "expires_at", "id", "identity_id", "identity_type", "policy_id"];
    assert_eq!(keys(&binding), fields);
    assert_eq!(binding["expires_at"], "2998-12-31T23:00:00Z");
    assert_eq!(
        (&binding["policy_id"], &binding["created_by"]),
        (&policy["id"], &json!("user:admin@dev.example"))
    );
    // The same again is the same binding.
    let again = api.write("POST", &format!("{path}/bindings"), &bind, 200).await;
    assert_eq!(again, binding);
    assert_eq!(api.get(&format!("{path}/bindings")).await, json!({ "bindings": [binding] }));

    let list = api.get("/v1/policies").await;
    assert_eq!(keys(&list), ["cursor", "has_more", "policies"]);
    let row = &list["policies"][0];
    let fields =
        ["binding_count", "created_at", "id", "is_active", "name", "rule_count", "scope", "updated_at"];
    assert_eq!(keys(row), fields);
    assert_eq!((&row["rule_count"], &row["binding_count"]), (&json!(1), &json!(1)));

    // A replacement keeps the bindings, a patch what it does not name.
    let body = json!({ "name": "Writers", "rules": rules("app/*", &["write", "read"]) });
    let replaced = api.write("PUT", &path, &body, 200).await;
    assert_eq!((&replaced["name"], &replaced["description"]), (&json!("Writers"), &json!("")));
    assert_eq!(replaced["bindings"], json!([binding]));
    let patched = api.write("PATCH", &path, &json!({ "is_active": false }), 200).await;
    assert_eq!((&patched["name"], &patched["is_active"]), (&json!("Writers"), &json!(false)));
    assert_eq!(patched["rules"], replaced["rules"]);
    assert_eq!(api.get("/v1/policies").await["policies"], json!([]));
    assert_eq!(api.get("/v1/policies?include_inactive=true").await["policies"].as_array().unwrap().len(), 1);

    api.admin("DELETE", &path).send().await.refusal(409, "policy_in_use");
    let unbind = format!("{path}/bindings/{}", binding["id"].as_str().unwrap());
    let gone = api.admin("DELETE", &unbind).send().await.expect(204);
    assert!(gone.body.is_empty() && gone.header("content-type").is_none(), "{gone:?}");
    api.admin("DELETE", &unbind).send().await.refusal(404, "binding_not_found");
    api.admin("DELETE", &path).send().await.expect(204);
    api.admin("GET", &path).send().await.refusal(404, "policy_not_found");

    let other = api.write("POST", "/v1/policies", &body, 201).await;
    let path = format!("/v1/policies/{}", other["id"].as_str().unwrap());
    api.write("POST", &format!("{path}/bindings"), &bind, 201).await;
    api.admin("DELETE", &format!("{path}?force=true")).send().await.expect(204);
    assert_eq!(api.get("/v1/policies?include_inactive=true").await["policies"], json!([]));
}

#[tokio::test]
async fn policies_are_paged() {
    let api = Api::start().await;
    for n in 0..5 {
        let body = json!({ "name": format!("p{n}"), "rules": rules("a", &["read"]) });
        api.write("POST", "/v1/policies", &body, 201).await;
    }
    let mut names = Vec::new();
    let mut query = "limit=2".to_owned();
    loop {
        let page = api.get(&format!("/v1/policies?{query}")).await;
        let list = page["policies"].as_array().unwrap();
        assert!(list.len() <= 2);
        names.extend(list.iter().map(|policy| policy["name"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["cursor"].as_str() else { break };
        query = format!("limit=2&cursor={cursor}");
    }
    names.sort();
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4"]);
}

/// Each change counts for the next request.
#[tokio::test]
async fn what_a_policy_grants_is_exactly_what_can_be_done() {
    let api = Api::start().await;
    for path in ["app/db", "app/deep/db", "ops/db"] {
        api.write("PUT", &format!("/v1/secrets/{path}"), &json!({ "data": { "at": path } }), 201).await;
    }
    let every = "secrets:read secrets:write secrets:delete secrets:list";
    let bob = api.token_of(&Who { groups: &["group:sre"], ..Who::new("user:bob@dev.example", every) });
    let status = |method: &'static str, path: &'static str| {
        let (api, bob) = (&api, &bob);
        async move {
            let call = api.call(bob, method, &format!("/v1/secrets/{path}"));
            let call = if method == "PUT" { call.json(&json!({ "data": {} })) } else { call };
            call.send().await.status
        }
    };
    assert_eq!(status("GET", "app/db").await, 403);
    let body = json!({ "name": "sre", "rules": rules("app/*", &["read"]) });
    let policy = api.write("POST", "/v1/policies", &body, 201).await;
    let path = format!("/v1/policies/{}", policy["id"].as_str().unwrap());
    assert_eq!(status("GET", "app/db").await, 403, "not bound yet");
    let bind = json!({ "identity_type": "group", "identity_id": "group:sre" });
    let binding = api.write("POST", &format!("{path}/bindings"), &bind, 201).await;
    assert_eq!(status("GET", "app/db").await, 200);
    for (method, other) in [
        ("GET", "app/deep/db"),
        ("GET", "ops/db"),
        ("GET", "app/none/x"),
        ("PUT", "app/db"),
        ("DELETE", "app/db"),
        ("GET", "app/db/metadata"),
        ("GET", "app/db/versions"),
        ("PATCH", "app/db"),
    ] {
        let call = api.call(&bob, method, &format!("/v1/secrets/{other}"));
        let call = match method {
            "PUT" => call.json(&json!({ "data": {} })),
            "PATCH" => call.json(&json!({ "metadata": {} })),
            _ => call,
        };
        let error = call.send().await.refusal(403, "access_denied");
        assert_eq!(error["details"]["path"].as_str().unwrap().split('/').next(), other.split('/').next());
    }
    // A path that is there and one that is not are refused alike.
    let there = api.call(&bob, "GET", "/v1/secrets/ops/db").send().await.refusal(403, "access_denied");
    let absent = api.call(&bob, "GET", "/v1/secrets/ops/no").send().await.refusal(403, "access_denied");
    assert_eq!(there["message"], absent["message"]);
    assert_eq!(keys(&there["details"]), keys(&absent["details"]));
    // On a path he may read, what is not there is not there.
    api.call(&bob, "GET", "/v1/secrets/app/none").send().await.refusal(404, "secret_not_found");

    api.write("PATCH", &path, &json!({ "rules": rules("app/**", &["read", "list", "write"]) }), 200).await;
    assert_eq!(status("GET", "app/deep/db").await, 200);
    assert_eq!(status("PUT", "app/new").await, 201);
    assert_eq!(status("DELETE", "app/new").await, 403);
    let list = api.call(&bob, "GET", "/v1/secrets").send().await.expect(200).json();
    let seen: Vec<&str> =
        list["secrets"].as_array().unwrap().iter().map(|s| s["path"].as_str().unwrap()).collect();
    assert_eq!(seen, ["app/db", "app/deep/db", "app/new"]);

    api.write("PATCH", &path, &json!({ "is_active": false }), 200).await;
    assert_eq!(status("GET", "app/db").await, 403);
    api.write("PATCH", &path, &json!({ "is_active": true }), 200).await;
    assert_eq!(status("GET", "app/db").await, 200);
    let unbind = format!("{path}/bindings/{}", binding["id"].as_str().unwrap());
    api.admin("DELETE", &unbind).send().await.expect(204);
    assert_eq!(status("GET", "app/db").await, 403);
    // The audit trail says by which rule he got in.
    let read = &api.audit("action=read&identity_id=user:bob@dev.example&success=true").await[0];
    assert_eq!(
        (&read["extra_data"]["policy_id"], &read["extra_data"]["rule_index"]),
        (&policy["id"], &json!(0))
    );
}

#[tokio::test]
async fn conditions_go_in_and_come_out_and_refuse_with_their_code() {
    let api = Api::start().await;
    api.write("PUT", "/v1/secrets/app/db", &json!({ "data": {} }), 201).await;
    let grant = |conditions: Value| {
        let rules = json!([{ "path_pattern": "app/**", "permissions": ["read"], "conditions": conditions }]);
        json!({ "name": "conditional", "rules": rules })
    };
    for (bad, field) in [
        (json!({ "ip_ranges": ["10.0.0.0/8", "10.0.0.1/8"] }), "rules[0].conditions.ip_ranges[1]"),
        (json!({ "ip_ranges": [] }), "rules[0].conditions.ip_ranges"),
        (json!({ "moon": "full" }), "rules[0].conditions.moon"),
        (
            json!({ "time_window": { "start": "9", "end": "17:00", "timezone": "UTC" } }),
            "rules[0].conditions.time_window.start",
        ),
    ] {
        let error =
            api.admin("POST", "/v1/policies").json(&grant(bad)).send().await.refusal(400, "invalid_policy");
        assert_eq!(keys(&error["details"]["fields"]), [field]);
    }
    let body = grant(json!({ "require_mfa": true, "ip_ranges": ["127.0.0.0/8", "127.0.0.0/8"] }));
    let policy = api.write("POST", "/v1/policies", &body, 201).await;
    assert_eq!(
        policy["rules"][0]["conditions"],
        json!({ "ip_ranges": ["127.0.0.0/8"], "require_mfa": true })
    );
    let path = format!("/v1/policies/{}", policy["id"].as_str().unwrap());
    let bind = json!({ "identity_type": "user", "identity_id": "user:bob@dev.example" });
    api.write("POST", &format!("{path}/bindings"), &bind, 201).await;
    let bob = api.token("user:bob@dev.example", "secrets:read");
    let read = || api.call(&bob, "GET", "/v1/secrets/app/db").send();
    let refused = |error: Value, failed: &str| {
        assert_eq!(error["details"], json!({ "path": "app/db", "failed_condition": failed }));
    };
    refused(read().await.refusal(403, "mfa_required"), "require_mfa");
    // What the caller says of himself is nobody's word.
    let forged = api.call(&bob, "GET", "/v1/secrets/app/db").header("X-Forwarded-For", "10.1.1.1");
    refused(forged.send().await.refusal(403, "mfa_required"), "require_mfa");
    let rules = grant(json!({ "ip_ranges": ["10.0.0.0/8"] }))["rules"].clone();
    api.write("PATCH", &path, &json!({ "rules": rules }), 200).await;
    refused(read().await.refusal(403, "ip_not_allowed"), "ip_ranges");
    let denied = &api.audit("identity_id=user:bob@dev.example&success=false").await[0];
    assert_eq!(
        (&denied["error_code"], &denied["extra_data"]["failed_condition"], &denied["source_ip"]),
        (&json!("ip_not_allowed"), &json!("ip_ranges"), &json!("127.0.0.1"))
    );
}

#[tokio::test]
async fn where_a_request_comes_from_is_seen_past_trusted_proxies_alone() {
    let api = Api::behind("127.0.0.0/8, 10.9.0.0/16").await;
    api.write("PUT", "/v1/secrets/app/db", &json!({ "data": {} }), 201).await;
    let rules = json!([{ "path_pattern": "app/**", "permissions": ["read"], "conditions": { "ip_ranges": ["10.1.0.0/16"] } }]);
    let policy = api.write("POST", "/v1/policies", &json!({ "name": "office", "rules": rules }), 201).await;
    let bind = json!({ "identity_type": "user", "identity_id": "user:bob@dev.example" });
    let path = format!("/v1/policies/{}/bindings", policy["id"].as_str().unwrap());
    api.write("POST", &path, &bind, 201).await;
    let bob = api.token("user:bob@dev.example", "secrets:read");
    for (forwarded, status) in [
        ("10.1.0.7", 200),
        ("10.1.0.7, 10.9.0.1", 200),
        // What the caller himself put there stands further left.
        ("10.1.0.7, 203.0.113.9", 403),
        ("203.0.113.9", 403),
        ("10.9.0.1", 403),
        ("10.1.0.7, nonsense", 400),
    ] {
        let call = api.call(&bob, "GET", "/v1/secrets/app/db").header("X-Forwarded-For", forwarded);
        assert_eq!(call.send().await.status, status, "{forwarded}");
    }
    api.call(&bob, "GET", "/v1/secrets/app/db").send().await.refusal(403, "ip_not_allowed");
    let log = api.audit("identity_id=user:bob@dev.example&success=true").await;
    assert!(log.iter().all(|record| record["source_ip"] == "10.1.0.7"), "{log:?}");
    let malformed = api.audit("identity_id=user:bob@dev.example&success=false").await;
    assert!(malformed.iter().any(|record| record["error_code"] == "invalid_request"));
}

#[tokio::test]
async fn policies_can_be_looked_through() {
    let api = Api::start().await;
    api.write("PUT", "/v1/secrets/app/db", &json!({ "data": {} }), 201).await;
    let office = json!([{ "path_pattern": "app/**", "permissions": ["read"], "conditions": { "ip_ranges": ["10.0.0.0/8"] } }]);
    let policy = api.write("POST", "/v1/policies", &json!({ "name": "office", "rules": office }), 201).await;
    let id = policy["id"].as_str().unwrap();
    let bind = json!({ "identity_type": "service_account", "identity_id": "sa:ci" });
    api.write("POST", &format!("/v1/policies/{id}/bindings"), &bind, 201).await;

    let mut question = json!({ "identity_id": "sa:ci", "path": "app/db", "permission": "read" });
    let verdict = api.write("POST", "/v1/policies/test", &question, 200).await;
    assert_eq!(
        verdict,
        json!({ "allowed": false, "reason": "ip_not_allowed", "failed_condition": "ip_ranges",
            "evaluated_policies": [{ "id": id, "name": "office" }] })
    );
    question["context"] =
        json!({ "source_ip": "10.1.1.1", "mfa_verified": false, "timestamp": "2026-04-23T18:00:00Z" });
    let verdict = api.write("POST", "/v1/policies/test", &question, 200).await;
    assert_eq!(
        verdict,
        json!({ "allowed": true, "matched_policy": { "id": id, "name": "office" },
            "matched_rule": { "index": 0, "path_pattern": "app/**" } })
    );
    let explained = api.write("POST", "/v1/policies/explain", &question, 200).await;
    assert_eq!((&explained["allowed"], &explained["omitted"]), (&json!(true), &json!(0)));
    assert_eq!(explained["considered"][0]["would_allow_if"], json!([]));
    question["context"] = json!(null);
    let explained = api.write("POST", "/v1/policies/explain", &question, 200).await;
    assert_eq!(explained["considered"][0]["would_allow_if"], json!(["the source address is in 10.0.0.0/8"]));

    let who = api.get("/v1/policies/who-can?path=app/db&permission=read").await;
    assert_eq!(keys(&who), ["built_in", "cursor", "has_more", "identities"]);
    let built_in = ["system", "role:tenant_admin", "role:partner_admin", "role:super_admin"];
    assert_eq!(who["built_in"], json!(built_in.map(|by| json!({ "granted_by": by }))));
    assert_eq!(who["identities"][0]["identity_id"], "sa:ci");

    let sa = Who { groups: &["group:ci"], ..Who::new("sa:ci", "secrets:read") };
    let ci = api.token_of(&sa);
    api.call(&ci, "GET", "/v1/secrets/app/db").send().await.refusal(403, "ip_not_allowed");
    let draft = json!({ "rules": [{ "path_pattern": "**", "permissions": ["read"] }],
        "bindings": [{ "identity_type": "group", "identity_id": "group:ci" }], "days": 1 });
    let diff = api.write("POST", "/v1/policies/diff", &draft, 200).await;
    let fields =
        ["cursor", "examined", "flips", "from", "has_more", "not_by_policy", "unchanged", "undecided"];
    assert_eq!(keys(&diff), fields);
    assert_eq!(diff["flips"][0]["was"], json!({ "allowed": false, "reason": "ip_not_allowed" }));
    assert_eq!(diff["flips"][0]["would"], json!({ "allowed": true, "reason": null }));
}

#[tokio::test]
async fn a_question_that_makes_no_sense_names_what_is_wrong() {
    let api = Api::start().await;
    let good = json!({ "identity_id": "user:u", "path": "a", "permission": "read" });
    for (member, value, code, field) in [
        ("permission", json!("sudo"), "validation_error", "permission"),
        ("identity_id", json!("a b"), "validation_error", "identity_id"),
        ("identity_id", json!("group:sre"), "validation_error", "identity_type"),
        ("identity_type", json!("robot"), "validation_error", "identity_type"),
        ("groups", json!(["a b"]), "validation_error", "groups"),
        ("roles", json!(["tenant_admin", "boss"]), "validation_error", "roles[1]"),
        ("context", json!({ "source_ip": "10.0.0" }), "validation_error", "context.source_ip"),
        ("context", json!({ "timestamp": "yesterday" }), "validation_error", "context.timestamp"),
        ("context", json!({ "mfa_verified": "yes" }), "validation_error", "context.mfa_verified"),
        ("sudo", json!(true), "validation_error", "sudo"),
    ] {
        let mut body = good.clone();
        body[member] = value;
        for route in ["test", "explain"] {
            let answer = api.admin("POST", &format!("/v1/policies/{route}")).json(&body).send().await;
            let error = answer.refusal(422, code);
            assert_eq!(keys(&error["details"]["fields"]), [field], "{body}");
        }
    }
    let mut body = good.clone();
    body["path"] = json!("/a");
    api.admin("POST", "/v1/policies/test").json(&body).send().await.refusal(400, "invalid_path");
    for bad in ["", "?path=a", "?permission=read", "?path=a&permission=sudo", "?path=a&permission=read&x=1"] {
        api.admin("GET", &format!("/v1/policies/who-can{bad}")).send().await.refusal(400, "invalid_request");
    }
    let bad = api.admin("GET", "/v1/policies/who-can?path=/a&permission=read").send().await;
    bad.refusal(400, "invalid_path");
    let none = json!({ "rules": [] });
    api.admin("POST", "/v1/policies/diff").json(&none).send().await.refusal(400, "invalid_policy");
}

#[tokio::test]
async fn sec_b2_what_a_user_writes_is_never_a_template() {
    let api = Api::start().await;
    for (n, text) in
        ["{{7*7}}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "{identity.name}", "%s%n"].iter().enumerate()
    {
        let rules = json!([{ "path_pattern": "app/*", "permissions": ["read"] }]);
        let policy = json!({ "name": format!("p{n}"), "description": text, "rules": rules });
        let made = api.write("POST", "/v1/policies", &policy, 201).await;
        assert_eq!(made["description"], *text);
        let secret = json!({ "data": { "k": text }, "metadata": { "owner": text, "description": text } });
        api.write("PUT", &format!("/v1/secrets/app/s{n}"), &secret, 201).await;
        let read = api.get(&format!("/v1/secrets/app/s{n}")).await;
        assert_eq!((&read["data"]["k"], &read["metadata"]["owner"]), (&json!(text), &json!(text)));
        let rules = json!([{ "path_pattern": format!("users/{text}/*"), "permissions": ["read"] }]);
        let policy = json!({ "name": format!("q{n}"), "rules": rules });
        api.admin("POST", "/v1/policies").json(&policy).send().await.refusal(400, "invalid_glob");
    }
}
