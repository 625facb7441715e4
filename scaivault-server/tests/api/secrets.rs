use serde_json::{Value, json};

use crate::support::{Api, Call, is_seconds, keys};

const ITEM: [&str; 11] = [
    "created_at",
    "expires_at",
    "last_accessed_at",
    "max_versions",
    "metadata",
    "notify_before",
    "path",
    "rotation_policy_id",
    "secret_policy_id",
    "secret_type",
    "updated_at",
];

/// The members of an item, and these.
fn item_and(more: &[&'static str]) -> Vec<&'static str> {
    let mut names: Vec<&str> = ITEM.iter().chain(&["version"]).chain(more).copied().collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_secret_lives_through_versions_deletion_and_restoration() {
    for api in [Api::start().await, Api::on_file().await] {
        life(&api).await;
    }
}

async fn life(api: &Api) {
    let path = "/v1/secrets/app/db";
    let first = json!({
        "data": { "password": "one", "n": 1.0, "deep": [{ "a": null }] },
        "secret_type": "kv",
        "metadata": { "description": "the database", "tags": ["db", "prod"], "owner": "team", "free": 7 },
        "options": { "max_versions": 2, "expires_in": "30d", "notify_before": "7d,1d", "cas": 0 },
    });
    let answer = api.admin("PUT", path).json(&first).send().await.expect(201);
    assert_eq!(answer.header("etag"), Some("\"v1\""));
    let item = answer.json();
    assert_eq!(keys(&item), item_and(&[]), "a value does not come back");
    assert_eq!((&item["path"], &item["version"]), (&json!("app/db"), &json!(1)));
    assert_eq!((&item["secret_type"], &item["max_versions"]), (&json!("kv"), &json!(2)));
    assert_eq!((&item["metadata"], &item["notify_before"]), (&first["metadata"], &json!("7d,1d")));
    assert!(["created_at", "updated_at", "expires_at"].iter().all(|name| is_seconds(&item[name])), "{item}");

    let answer = api.admin("GET", path).send().await.expect(200);
    assert_eq!(answer.header("etag"), Some("\"v1\""));
    let read = answer.json();
    assert_eq!(keys(&read), item_and(&["data"]));
    assert_eq!(read["data"], first["data"]);

    // A second version: 200, and what is not said stays.
    let put =
        api.admin("PUT", path).json(&json!({ "data": { "password": "two" } })).header("If-Match", "\"v1\"");
    let answer = put.send().await.expect(200);
    assert_eq!(answer.header("etag"), Some("\"v2\""));
    let item = answer.json();
    assert_eq!((&item["version"], &item["metadata"]), (&json!(2), &first["metadata"]));
    assert_eq!((&item["secret_type"], &item["max_versions"]), (&json!("kv"), &json!(2)));
    let old = api.get(&format!("{path}?version=1")).await;
    assert_eq!((&old["version"], &old["data"]["password"]), (&json!(1), &json!("one")));
    assert_eq!(api.get(path).await["data"], json!({ "password": "two" }));

    // A third pushes the first out.
    api.write("PUT", path, &json!({ "data": { "password": "three" }, "options": { "cas": 2 } }), 200).await;
    api.admin("GET", &format!("{path}?version=1")).send().await.refusal(404, "version_not_found");
    let versions = api.get(&format!("{path}/versions")).await;
    assert_eq!(keys(&versions), ["versions"]);
    let list = versions["versions"].as_array().unwrap();
    let states: Vec<_> =
        list.iter().map(|v| (v["version"].as_i64().unwrap(), v["state"].as_str().unwrap())).collect();
    assert_eq!(states, [(3, "current"), (2, "superseded")]);
    assert_eq!(
        keys(&list[0]),
        ["created_at", "created_by", "grace_period_ends", "is_rotation", "state", "version"]
    );
    assert_eq!(list[0]["created_by"], "user:admin@dev.example");

    // A patch changes what is about the value, not the value.
    let patch =
        json!({ "metadata": { "owner": null, "free": { "x": 1 } }, "options": { "expires_at": null } });
    let item = api.write("PATCH", path, &patch, 200).await;
    assert_eq!((&item["version"], &item["expires_at"]), (&json!(3), &json!(null)));
    let merged = json!({ "description": "the database", "tags": ["db", "prod"], "free": { "x": 1 } });
    assert_eq!(item["metadata"], merged);
    let metadata = api.get(&format!("{path}/metadata")).await;
    assert_eq!(keys(&metadata), item_and(&["version_count"]));
    assert_eq!((&metadata["metadata"], &metadata["version_count"]), (&merged, &json!(2)));
    assert!(is_seconds(&metadata["last_accessed_at"]), "{metadata}");

    // Soft, back, and for good.
    let gone = api.admin("DELETE", path).send().await.expect(200).json();
    assert_eq!(keys(&gone), ["path", "permanent", "recoverable_until", "version_count"]);
    assert_eq!((&gone["permanent"], &gone["version_count"]), (&json!(false), &json!(2)));
    for (method, path) in
        [("GET", path.to_owned()), ("DELETE", path.to_owned()), ("GET", format!("{path}/metadata"))]
    {
        api.admin(method, &path).send().await.refusal(404, "secret_not_found");
    }
    api.admin("PUT", path).json(&json!({ "data": {} })).send().await.refusal(409, "secret_exists");
    assert_eq!(api.get("/v1/secrets").await["secrets"], json!([]));
    let deleted = api.get("/v1/secrets?include_deleted=true").await["secrets"][0].clone();
    assert!(is_seconds(&deleted["deleted_at"]), "{deleted}");
    let item = api.admin("POST", &format!("{path}/restore")).send().await.expect(200).json();
    assert_eq!(keys(&item), item_and(&[]));
    assert_eq!(api.get(path).await["data"], json!({ "password": "three" }));
    api.admin("POST", &format!("{path}/restore")).send().await.refusal(404, "secret_not_found");
    let gone = api.admin("DELETE", &format!("{path}?permanent=true")).send().await.expect(200).json();
    assert_eq!(gone, json!({ "path": "app/db", "permanent": true, "version_count": 2 }));
    api.admin("POST", &format!("{path}/restore")).send().await.refusal(404, "secret_not_found");
    assert_eq!(api.get("/v1/secrets?include_deleted=true").await["secrets"], json!([]));
    // The path is free, and its numbers begin anew.
    assert_eq!(api.write("PUT", path, &json!({ "data": {} }), 201).await["version"], 1);
    let actions: Vec<String> = api
        .audit("path_prefix=app/db&success=true")
        .await
        .iter()
        .rev()
        .map(|log| log["action"].as_str().unwrap().to_owned())
        .collect();
    let expected = "write read write read read write list write list delete restore read delete write";
    assert_eq!(actions.join(" "), expected);
}

#[tokio::test]
async fn a_value_comes_back_as_it_was_sent() {
    let api = Api::start().await;
    let data = r#"{"z": 1, "a": 1.50, "big": 123456789012345678901234567890, "e": 1e3, "u": "\u00e9\ud83d\ude00\/"}"#;
    let body = format!(r#"{{"data": {data}}}"#);
    api.admin("PUT", "/v1/secrets/a").body("application/json", body).send().await.expect(201);
    let text = api.admin("GET", "/v1/secrets/a").send().await.expect(200).text();
    assert!(text.contains(data), "{text}");
}

/// The version that a write which lost is told of.
async fn conflict(call: Call<'_>) -> Value {
    let answer = call.json(&json!({ "data": { "k": "lost" } })).send().await;
    answer.refusal(409, "version_conflict")["details"]["current_version"].clone()
}

#[tokio::test]
async fn who_expects_something_else_is_told_the_current_version() {
    let api = Api::start().await;
    let put = |cas: Value| json!({ "data": {}, "options": { "cas": cas } });
    for (body, current) in [(put(json!(1)), 0), (put(json!(7)), 0)] {
        let error =
            api.admin("PUT", "/v1/secrets/a").json(&body).send().await.refusal(409, "version_conflict");
        assert_eq!(error["details"], json!({ "current_version": current }));
    }
    api.write("PUT", "/v1/secrets/a", &put(json!(0)), 201).await;
    assert_eq!(conflict(api.admin("PUT", "/v1/secrets/a").header("If-None-Match", "*")).await, 1);
    assert_eq!(conflict(api.admin("PUT", "/v1/secrets/a").header("If-Match", "\"v2\"")).await, 1);
    assert_eq!(api.get("/v1/secrets/a").await["data"], json!({}));
    let create = api.admin("PUT", "/v1/secrets/b").header("If-None-Match", "*").json(&json!({ "data": {} }));
    create.send().await.expect(201);
}

#[tokio::test]
async fn a_list_is_filtered_and_paged_and_says_no_values() {
    let api = Api::start().await;
    for (path, kind, tag) in
        [("a/1", "kv", "x"), ("a/2", "json", "y"), ("a/3", "kv", "x"), ("b/1", "kv", "x")]
    {
        let body = json!({ "data": { "k": "v-canary" }, "secret_type": kind, "metadata": { "tags": [tag] } });
        api.write("PUT", &format!("/v1/secrets/{path}"), &body, 201).await;
    }
    let paths = |body: &Value| -> Vec<String> {
        body["secrets"].as_array().unwrap().iter().map(|s| s["path"].as_str().unwrap().to_owned()).collect()
    };
    let all = api.admin("GET", "/v1/secrets").send().await.expect(200);
    assert!(!all.text().contains("canary"));
    let all = all.json();
    assert_eq!(keys(&all), ["cursor", "data", "has_more", "secrets"]);
    assert_eq!(
        (&all["data"], &all["cursor"], &all["has_more"]),
        (&all["secrets"], &json!(null), &json!(false))
    );
    assert_eq!(keys(&all["secrets"][0]), item_and(&[]));
    for (query, expected) in [
        ("", "a/1 a/2 a/3 b/1"),
        ("prefix=a/", "a/1 a/2 a/3"),
        ("prefix=a%2F", "a/1 a/2 a/3"),
        ("prefix=c", ""),
        ("tag=y", "a/2"),
        ("tag=x&prefix=a", "a/1 a/3"),
        ("secret_type=json", "a/2"),
        ("limit=0", "a/1 a/2 a/3 b/1"),
        ("limit=-1", "a/1 a/2 a/3 b/1"),
        ("limit=99999999999999999999", "a/1 a/2 a/3 b/1"),
    ] {
        assert_eq!(paths(&api.get(&format!("/v1/secrets?{query}")).await).join(" "), expected, "{query}");
    }
    let mut seen = Vec::new();
    let mut query = "limit=3".to_owned();
    loop {
        let page = api.get(&format!("/v1/secrets?{query}")).await;
        seen.extend(paths(&page));
        assert_eq!(page["has_more"], json!(!page["cursor"].is_null()));
        let Some(cursor) = page["cursor"].as_str() else { break };
        // A cursor is good for the list, the filters and the caller that it was given to.
        for other in ["tag=x&", "prefix=a&", "include_deleted=true&"] {
            let answer = api.admin("GET", &format!("/v1/secrets?{other}cursor={cursor}")).send().await;
            answer.refusal(400, "invalid_cursor");
        }
        let list = api.token("user:bob@dev.example", "secrets:list");
        let stolen = api.call(&list, "GET", &format!("/v1/secrets?cursor={cursor}")).send().await;
        stolen.refusal(400, "invalid_cursor");
        api.admin("GET", &format!("/v1/policies?cursor={cursor}"))
            .send()
            .await
            .refusal(400, "invalid_cursor");
        query = format!("limit=3&cursor={cursor}");
    }
    assert_eq!(seen, ["a/1", "a/2", "a/3", "b/1"]);
}

#[tokio::test]
async fn an_expired_secret_is_there_for_administrators_only() {
    let api = Api::start().await;
    let body = json!({ "data": { "k": "v" }, "options": { "expires_in": "1s" } });
    let expires = api.write("PUT", "/v1/secrets/a", &body, 201).await["expires_at"].clone();
    let rule = json!([{ "path_pattern": "*", "permissions": ["read"] }]);
    let policy = api.write("POST", "/v1/policies", &json!({ "name": "readers", "rules": rule }), 201).await;
    let path = format!("/v1/policies/{}/bindings", policy["id"].as_str().unwrap());
    api.write("POST", &path, &json!({ "identity_type": "user", "identity_id": "user:bob" }), 201).await;
    let bob = api.token("user:bob", "secrets:read");
    assert!(is_seconds(&expires));
    // Until the second is over.
    let error = loop {
        let answer = api.call(&bob, "GET", "/v1/secrets/a").send().await;
        if answer.status != 200 {
            break answer.refusal(404, "secret_not_found");
        }
    };
    assert_eq!(error["details"], json!({ "expired": true }));
    assert_eq!(api.get("/v1/secrets/a").await["data"], json!({ "k": "v" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_readers_at_the_same_time_all_get_what_is_theirs() {
    let api = std::sync::Arc::new(Api::on_file().await);
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let api = std::sync::Arc::clone(&api);
            tokio::spawn(async move {
                let path = format!("/v1/secrets/c/{n}");
                let body = json!({ "data": { "n": n } });
                let answer = api.admin("PUT", &path).header("X-Request-ID", &format!("put-{n}")).json(&body);
                let answer = answer.send().await.expect(201);
                assert_eq!(answer.header("x-request-id"), Some(format!("put-{n}").as_str()));
                assert_eq!(answer.json()["path"], format!("c/{n}"));
                for _ in 0..2 {
                    assert_eq!(api.get(&path).await["data"], json!({ "n": n }));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(api.get("/v1/secrets").await["secrets"].as_array().unwrap().len(), 64);
    assert_eq!(api.audit("action=write").await.len(), 64);
    assert_eq!(api.audit("action=read").await.len(), 128);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_expect_the_same_version_one_wins() {
    let api = std::sync::Arc::new(Api::on_file().await);
    api.write("PUT", "/v1/secrets/a", &json!({ "data": {} }), 201).await;
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let api = std::sync::Arc::clone(&api);
            tokio::spawn(async move {
                let call = api.admin("PUT", "/v1/secrets/a").header("If-Match", "\"v1\"");
                call.json(&json!({ "data": { "n": n } })).send().await.status
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            200 => won += 1,
            status => assert_eq!(status, 409),
        }
    }
    assert_eq!((won, &api.get("/v1/secrets/a").await["version"]), (1, &json!(2)));
}
