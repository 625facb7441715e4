//! What a caller with little may do: exactly that, on every row of the routing table.

use http::Method;
use scaivault_core::Scope;
use scaivault_server::{
    app::Service,
    dev::TENANT,
    http::router::{Access, Route},
    routes,
};
use serde_json::{Value, json};

use crate::{
    support::Answer,
    world::{ANCHOR, CSR, World, github},
};

/// A body that would be accepted, for rows that take one.
pub(crate) fn body(row: &Route<Service>, world: &World) -> Option<Value> {
    let rules = json!([{ "path_pattern": "**", "permissions": ["admin"] }]);
    let body = match (row.method().as_str(), row.template()) {
        ("PUT", "/v1/secrets/{*path}" | "/v1/partner/secrets/{*path}") => json!({ "data": { "k": "v" } }),
        ("PATCH", "/v1/secrets/{*path}" | "/v1/partner/secrets/{*path}") => {
            json!({ "metadata": { "owner": "me" } })
        }
        ("POST", "/v1/policies") | ("PUT", "/v1/policies/{id}") => json!({ "name": "mine", "rules": rules }),
        ("POST", "/v1/policies/test" | "/v1/policies/explain") => {
            json!({ "identity_id": "sa:narrow", "path": "app/db", "permission": "read" })
        }
        ("POST", "/v1/auth/introspect") => json!({ "token": world.api.admin }),
        ("POST", "/v1/policies/diff") => json!({ "policy_id": world.policy, "rules": rules }),
        ("PATCH", "/v1/policies/{id}") => json!({ "rules": rules }),
        ("POST", "/v1/policies/{id}/bindings") => json!({ "identity_type": "user", "identity_id": "user:x" }),
        ("POST", "/v1/pki/ca") => {
            json!({ "name": "mine", "common_name": "Mine", "ca_type": "root", "key_type": "ec" })
        }
        ("POST", "/v1/pki/ca/import") => {
            json!({ "name": "mine", "certificate_pem": "x", "private_key_pem": "x" })
        }
        ("POST", "/v1/pki/ca/{id}/certificates") => json!({ "certificates_pem": [ANCHOR] }),
        ("POST", "/v1/pki/ca/{id}/cross-sign") => json!({ "csr_pem": CSR }),
        ("POST", "/v1/pki/ca/{id}/rekey") => json!({ "name": "mine again" }),
        ("POST", "/v1/pki/ca/{id}/certificate") => json!({ "certificate_pem": "x" }),
        ("POST", "/v1/pki/roles") => {
            json!({ "name": "mine", "ca_id": world.ca, "allowed_domains": ["x.example"] })
        }
        ("PATCH", "/v1/pki/roles/{name}") => json!({ "allow_subdomains": true }),
        ("POST", "/v1/pki/issue/{role}") => json!({ "common_name": "x.svc.cluster.local" }),
        ("POST", "/v1/pki/roles/{name}/test") => json!({ "common_name": "x.svc.cluster.local" }),
        ("POST", "/v1/pki/sign/{role}") => json!({ "csr_pem": CSR }),
        ("POST", "/v1/pki/csr") => json!({ "csr_pem": CSR, "role": "other" }),
        ("POST", "/v1/pki/csr/{id}/reject") => json!({ "reason": "no" }),
        ("POST", "/v1/pki/csr/{id}/sign") => json!({ "ttl": "1h" }),
        ("POST", "/v1/pki/trust-anchors") => json!({ "name": "mine", "certificate_pem": ANCHOR }),
        ("PATCH", "/v1/pki/certificates/{id}") => json!({ "tags": { "env": "mine" } }),
        ("POST", "/v1/pki/certificates/validate") => json!({ "certificate_pem": ANCHOR }),
        ("POST", "/v1/auth/trust") => github("mine"),
        ("PUT", "/v1/identity/users/{user_id}/roles") => json!({ "roles": ["tenant_admin"] }),
        ("POST", "/v1/pki/revoke" | "/v1/pki/release") => json!({ "serial_number": world.serial }),
        ("POST", "/v1/pki/ca/{id}/revoke") => json!({ "reason": "superseded" }),
        ("POST", "/v1/pki/revoke/bulk") => json!({ "san": "none.example", "dry_run": true }),
        _ => return None,
    };
    Some(body)
}

/// A path that names what is there; a role that is not the caller's.
pub(crate) fn path(row: &Route<Service>, world: &World) -> String {
    let id = match row.template() {
        template if template.starts_with("/v1/policies/") => "{policy}",
        template if template.starts_with("/v1/auth/trust/") => "{trust}",
        template if template.starts_with("/v1/pki/certificates/") => "{cert}",
        template if template.starts_with("/v1/pki/csr/") => "{csr}",
        template if template.starts_with("/v1/pki/trust-anchors/") => "{anchor}",
        _ => "{ca}",
    };
    let path = row
        .template()
        .replace("{*path}", "app/db")
        .replace("{binding_id}", "{binding}")
        .replace("{id}", id)
        .replace("{name}", "svc")
        .replace("{shard}", "delta")
        .replace("{role}", "other")
        .replace("/resolve/{identity_type}/{identity_id}", "/resolve/user/usr_worker")
        .replace("{tenant_id}", TENANT)
        .replace("{group_id}", "grp_crew")
        .replace("{user_id}", "usr_worker")
        .replace("{identity_id}", "user:admin@dev.example");
    let mut path = world.fill(&path);
    if path == "/v1/policies/who-can" {
        path.push_str("?path=app/db&permission=read");
    }
    assert!(!path.contains('{'), "{path}: a parameter that this test does not know");
    path
}

/// Whether policies decide by the path of the request.
fn is_on_path(row: &Route<Service>) -> bool {
    row.template().starts_with("/v1/secrets/")
        || ["/v1/pki/issue/{role}", "/v1/pki/sign/{role}"].contains(&row.template())
}

#[tokio::test]
async fn the_plain_listener_serves_revocation_and_nothing_else_whoever_asks() {
    let world = World::start().await;
    let served: Vec<(Method, &str)> = routes::revocation_router()
        .unwrap()
        .rows()
        .map(|row| (row.method().clone(), row.template()))
        .collect();
    assert_eq!(served.len(), 5);
    let before = world.snapshot().await;
    let mut absent = 0;
    for row in routes::router().unwrap().rows() {
        let path = match row.template() {
            ocsp if ocsp.contains("{ca_id}") => {
                world.fill(&ocsp.replace("{ca_id}", "{ca}").replace("{*request}", "MEA="))
            }
            _ => path(row, &world),
        };
        let ask = |token: Option<&str>| {
            let call = world.api.anonymous(row.method().as_str(), &path);
            let call = match token {
                Some(token) => call.token(token),
                None => call,
            };
            match body(row, &world) {
                Some(body) => call.json(&body),
                None => call,
            }
        };
        if served.contains(&(row.method().clone(), row.template())) {
            let (there, here) = (ask(None).send().await, ask(None).send_plain().await);
            assert_eq!(
                (here.status, here.header("content-type")),
                (there.status, there.header("content-type")),
                "{row:?}"
            );
            // A token is neither needed nor looked at.
            assert_eq!(ask(Some("garbage")).send_plain().await.status, here.status, "{row:?}");
            continue;
        }
        // The path of a list that is built by POST elsewhere.
        let known = served.iter().any(|(_, template)| *template == row.template());
        for token in [None, Some(world.api.admin.as_str())] {
            let answer = ask(token).send_plain().await;
            match known {
                true => drop(answer.refusal(405, "method_not_allowed")),
                false => drop(answer.refusal(404, "not_found")),
            }
        }
        absent += 1;
    }
    assert!(absent >= 80, "{absent}");
    assert_eq!(world.snapshot().await, before);
    let crl = format!("/v1/pki/ca/{}/crl", world.ca);
    let list = world.api.anonymous("GET", &crl).send_plain().await;
    assert_eq!((list.status, list.header("content-type")), (200, Some("application/pkix-crl")));
    assert_eq!(list.body, world.api.anonymous("GET", &crl).send().await.body);
}

/// The first scope of a row, by its name.
fn scope(row: &Route<Service>) -> Option<&'static str> {
    row.required_scopes().first().map(|scope| scope.as_str())
}

async fn send(world: &World, token: &str, row: &Route<Service>) -> Answer {
    let call = world.api.call(token, row.method().as_str(), &path(row, world));
    match body(row, world) {
        Some(body) => call.json(&body).send().await,
        None => call.send().await,
    }
}

#[tokio::test]
async fn who_may_issue_from_one_role_may_do_nothing_else() {
    let world = World::start().await;
    let token = world.api.token("sa:narrow", "pki:issue");
    let issue = json!({ "common_name": "narrow.svc.cluster.local" });
    world.api.call(&token, "POST", "/v1/pki/issue/svc").json(&issue).send().await.expect(201);
    let before = world.snapshot().await;
    let mut refused = 0;
    for row in routes::router().unwrap().rows().filter(|row| row.access() == Access::Authenticated) {
        let answer = send(&world, &token, row).await;
        // The contract lets him see authorities and certificates, which are no secrets.
        let reads = scope(row) == Some("pki:issue") && row.method() == Method::GET;
        // A request that he did not submit is not there.
        if row.template().starts_with("/v1/pki/csr/") && scope(row) == Some("pki:issue") {
            answer.refusal(404, "csr_not_found");
            refused += 1;
            continue;
        }
        match scope(row) {
            None => drop(answer.expect(200)),
            Some("pki:issue") if reads => drop(answer.expect(200)),
            Some("pki:issue") => {
                let error = answer.refusal(403, "access_denied");
                let issues = row.template().starts_with("/v1/pki/issue/");
                let path = if issues { "pki/issue/other" } else { "pki/sign/other" };
                assert_eq!(error["details"], json!({ "path": path }), "{row:?}");
                refused += 1;
            }
            Some(scope) => {
                let error = answer.refusal(403, "insufficient_scope");
                assert_eq!(error["details"], json!({ "required_scope": scope }), "{row:?}");
                assert!(error["message"].as_str().unwrap().contains(scope), "{row:?}");
                refused += 1;
            }
        }
    }
    assert_eq!(world.snapshot().await, before);
    let trail = world.api.audit("identity_id=sa:narrow&success=false").await;
    assert_eq!(trail.len(), refused);
    assert!(refused >= 25, "{refused}");
    // A role that is not there is refused like one that is.
    let answer = world.api.call(&token, "POST", "/v1/pki/issue/nothing").json(&issue).send().await;
    answer.refusal(403, "access_denied");
}

#[tokio::test]
async fn without_any_scope_every_row_that_wants_one_is_refused() {
    let world = World::start().await;
    let token = world.api.token("sa:narrow", "");
    let before = world.snapshot().await;
    for row in routes::router().unwrap().rows() {
        let Some(scope) = scope(row) else { continue };
        let error = send(&world, &token, row).await.refusal(403, "insufficient_scope");
        assert!(error["message"].as_str().unwrap().contains(scope), "{row:?}: {error}");
    }
    assert_eq!(world.snapshot().await, before);
}

#[tokio::test]
async fn who_may_not_learns_that_and_not_what_is_wrong_with_his_request() {
    let world = World::start().await;
    let none = world.api.token("sa:none", "");
    let all: Vec<&str> =
        Scope::ALL.iter().map(|scope| scope.as_str()).filter(|scope| *scope != "admin").collect();
    let all = world.api.token("sa:all", &all.join(" "));
    let mut sent = 0;
    let wants = |row: &&Route<Service>| body(row, &world).is_some() && scope(row).is_some();
    for row in routes::router().unwrap().rows().filter(wants) {
        let call = |token| world.api.call(token, row.method().as_str(), &path(row, &world));
        let broken = json!({ "no such field": [] });
        call(&none).json(&broken).send().await.refusal(403, "insufficient_scope");
        sent += 1;
        if is_on_path(row) {
            call(&all).json(&broken).send().await.refusal(403, "access_denied");
        }
    }
    assert!(sent >= 10, "{sent}");
    let denied = world.api.audit("identity_id=sa:none&success=false").await;
    assert_eq!(denied.len(), sent, "one record each");
    assert!(denied.iter().all(|record| record["error_code"] == "insufficient_scope"));
    world.api.call(&none, "GET", "/v1/secrets?limit=x").send().await.refusal(403, "insufficient_scope");
    world.api.call(&all, "GET", "/v1/secrets?limit=x").send().await.refusal(400, "invalid_request");
}

#[tokio::test]
async fn without_a_token_every_row_but_the_public_ones_is_a_401() {
    let world = World::start().await;
    let before = world.snapshot().await;
    let mut public = Vec::new();
    for row in routes::router().unwrap().rows() {
        if row.access() == Access::Public {
            public.push(row.template());
            continue;
        }
        let call = world.api.anonymous(row.method().as_str(), &path(row, &world));
        let answer = match body(row, &world) {
            Some(body) => call.json(&body).send().await,
            None => call.send().await,
        };
        answer.refusal(401, "authentication_required");
    }
    let known = [
        "/v1/health",
        "/v1/health/ready",
        "/v1/version",
        "/v1/openapi.json",
        "/v1/auth/exchange",
        "/v1/identity/webhooks/scaikey",
        "/v1/pki/ca/{id}/crl",
        "/v1/pki/ca/{id}/crl/{shard}",
        "/v1/pki/ca/{id}/crl/{shard}/delta",
        "/v1/pki/ocsp/{ca_id}",
        "/v1/pki/ocsp/{ca_id}/{*request}",
    ];
    assert_eq!(public, known, "whoever opens a row to everybody says so here");
    assert_eq!(world.snapshot().await, before);
}

#[tokio::test]
async fn sec_j2_who_has_no_token_changes_nothing() {
    let world = World::start().await;
    let before = world.snapshot().await;
    let mut asked = 0;
    for row in routes::router().unwrap().rows().filter(|row| row.access() == Access::Public) {
        let path =
            row.template().replace("{id}", "{ca}").replace("{ca_id}", "{ca}").replace("{*request}", "MEA=");
        let path = path.replace("{shard}", "0");
        for (media, sent) in [
            ("application/json", "{}".as_bytes()),
            ("application/json", br#"{"force": true, "reset": true}"#),
            ("application/ocsp-request", b"\x30\x00"),
            ("application/x-www-form-urlencoded", b"a=b"),
            ("application/octet-stream", b"\0\xff"),
        ] {
            let call = world.api.anonymous(row.method().as_str(), &world.fill(&path));
            let answer =
                if *row.method() == Method::GET { call } else { call.body(media, sent) }.send().await;
            assert!(answer.status < 500, "{row:?} {answer:?}");
            asked += 1;
        }
    }
    assert!(asked > 30);
    assert_eq!(world.snapshot().await, before);
}

#[tokio::test]
async fn sec_a2_scopes_without_a_policy_open_no_path() {
    let world = World::start().await;
    let all: Vec<&str> =
        Scope::ALL.iter().map(|scope| scope.as_str()).filter(|scope| *scope != "admin").collect();
    let token = world.api.token("sa:narrow", &all.join(" "));
    let before = world.snapshot().await;
    for row in routes::router().unwrap().rows() {
        if !is_on_path(row) {
            continue;
        }
        if row.template() == "/v1/secrets/expiring" {
            // A list, like the others below: without a grant it is empty.
            continue;
        }
        let there = send(&world, &token, row).await.refusal(403, "access_denied");
        assert!(!there.to_string().contains("version"), "{row:?}: {there}");
    }
    for query in
        ["", "?prefix=app", "?prefix=app/db", "?tag=x", "?include_deleted=true", "?limit=0", "/expiring"]
    {
        let list =
            world.api.call(&token, "GET", &format!("/v1/secrets{query}")).send().await.expect(200).json();
        let nothing = json!({ "secrets": [], "data": [], "cursor": null, "has_more": false });
        assert_eq!(list, nothing, "{query}");
    }
    assert_eq!(world.snapshot().await, before);
}
