//! Bad input: the documented code, a message that names the field, nothing written, one audit record.

use std::fmt;

use serde_json::json;

use crate::{support::Answer, world::World};

/// What is sent, and what has to come back.
struct Row {
    method: &'static str,
    path: &'static str,
    body: Body,
    header: Option<(&'static str, &'static str)>,
    status: u16,
    code: &'static str,
    /// What the message has to name.
    names: &'static str,
}

enum Body {
    None,
    Json(String),
    Other(&'static str, &'static str),
}

fn row(
    method: &'static str,
    path: &'static str,
    status: u16,
    code: &'static str,
    names: &'static str,
) -> Row {
    Row { method, path, body: Body::None, header: None, status, code, names }
}

impl Row {
    fn json(self, body: impl Into<String>) -> Self {
        Self { body: Body::Json(body.into()), ..self }
    }

    fn media(self, media: &'static str, body: &'static str) -> Self {
        Self { body: Body::Other(media, body), ..self }
    }

    fn header(self, name: &'static str, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }
}

/// Sends every row and sees what it did.
async fn check(rows: Vec<Row>) {
    let world = World::start().await;
    let before = world.snapshot().await;
    let mut wrong = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let id = format!("row-{n}");
        let answer = row.send(&world, &id).await;
        wrong.extend(row.objection(&answer, &id).map(|why| format!("{row}: {why}: {answer:?}")));
        let trail = world.api.audit(&format!("request_id={id}")).await;
        let recorded = trail.iter().map(|log| [&log["success"], &log["error_code"], &log["identity_id"]]);
        let expected = [[&json!(false), &json!(row.code), &json!("user:admin@dev.example")]];
        if !recorded.eq(expected) {
            wrong.push(format!("{row}: in the trail: {trail:?}"));
        }
        if world.snapshot().await != before {
            panic!("{row}: something was written; {wrong:#?}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

impl Row {
    async fn send(&self, world: &World, id: &str) -> Answer {
        let mut call = world.api.admin(self.method, &world.fill(self.path)).header("X-Request-ID", id);
        if let Some((name, value)) = self.header {
            call = call.header(name, value);
        }
        let call = match &self.body {
            Body::None => call,
            Body::Json(body) => call.body("application/json", world.fill(body)),
            Body::Other(media, body) => call.body(media, *body),
        };
        call.send().await
    }

    /// What is wrong with an answer.
    fn objection(&self, answer: &Answer, id: &str) -> Option<String> {
        if answer.status != self.status {
            return Some(format!("not a {}", self.status));
        }
        let error = &answer.json()["error"];
        if error["code"] != self.code || error["request_id"] != id {
            return Some(format!("not {} with the id {id}", self.code));
        }
        if !error["message"].as_str().is_some_and(|message| message.contains(self.names)) {
            return Some(format!("its message does not name {}", self.names));
        }
        let fields = error["details"]["fields"].as_object();
        if self.status == 422 && fields.is_none_or(|fields| !fields.contains_key(self.names)) {
            return Some(format!("its details do not name {}", self.names));
        }
        None
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = match &self.body {
            Body::None => "",
            Body::Json(body) => body.get(..200).unwrap_or(body),
            Body::Other(_, body) => body,
        };
        write!(f, "{} {} {body}", self.method, self.path)
    }
}

const SECRET: &str = "/v1/secrets/app/db";

#[tokio::test]
async fn bodies_of_secrets() {
    let data = |options: &str| format!(r#"{{"data":{{}},"options":{options}}}"#);
    check(vec![
        row("PUT", SECRET, 400, "invalid_request", "JSON object").json(""),
        row("PUT", SECRET, 400, "invalid_request", "line 1, column 9").json(r#"{"data":}"#),
        row("PUT", SECRET, 400, "invalid_request", "line 1").json(r#"{"data":{}"#),
        row("PUT", SECRET, 400, "invalid_request", "line 1").json(r#"{"data":{}} x"#),
        row("PUT", SECRET, 400, "invalid_request", "must be a JSON object").json("[]"),
        row("PUT", SECRET, 400, "invalid_request", "must be a JSON object").json("null"),
        row("PUT", SECRET, 400, "invalid_request", "must be a JSON object").json("\"data\""),
        row("PUT", SECRET, 400, "invalid_request", "`data` twice").json(r#"{"data":{},"data":{}}"#),
        row("PUT", SECRET, 400, "invalid_request", "`data` twice").json(r#"{"data":{},"d\u0061ta":{}}"#),
        row("PUT", SECRET, 400, "invalid_request", "`k` twice").json(r#"{"data":{"k":1,"k":2}}"#),
        row("PUT", SECRET, 400, "invalid_request", "`x` twice")
            .json(r#"{"data":{},"metadata":{"a":[{"x":1,"x":1}]}}"#),
        row("PUT", SECRET, 400, "invalid_request", "32 levels").json(deep(33)),
        row("PUT", SECRET, 400, "invalid_request", "32 levels").json(deep(100_000)),
        row("PUT", SECRET, 422, "validation_error", "data").json("{}"),
        row("PUT", SECRET, 422, "validation_error", "data").json(r#"{"data":null}"#),
        row("PUT", SECRET, 422, "validation_error", "data").json(r#"{"data":[]}"#),
        row("PUT", SECRET, 422, "validation_error", "data").json(r#"{"data":"text"}"#),
        row("PUT", SECRET, 422, "validation_error", "value").json(r#"{"data":{},"value":{}}"#),
        row("PUT", SECRET, 422, "validation_error", "Data").json(r#"{"data":{},"Data":{}}"#),
        row("PUT", SECRET, 422, "validation_error", "options.ttl").json(data(r#"{"ttl":"1h"}"#)),
        row("PUT", SECRET, 422, "validation_error", "options").json(r#"{"data":{},"options":[]}"#),
        row("PUT", SECRET, 422, "validation_error", "metadata").json(r#"{"data":{},"metadata":"x"}"#),
        row("PUT", SECRET, 422, "validation_error", "metadata.tags")
            .json(r#"{"data":{},"metadata":{"tags":"x"}}"#),
        row("PUT", SECRET, 422, "validation_error", "metadata.owner")
            .json(r#"{"data":{},"metadata":{"owner":7}}"#),
        row("PUT", SECRET, 422, "validation_error", "secret_type").json(r#"{"data":{},"secret_type":7}"#),
        row("PUT", SECRET, 400, "invalid_secret_type", "secret_type")
            .json(r#"{"data":{},"secret_type":"KV"}"#),
        row("PUT", SECRET, 400, "invalid_secret_type", "secret_type").json(r#"{"data":{},"secret_type":""}"#),
        row("PUT", SECRET, 422, "validation_error", "options.max_versions")
            .json(data(r#"{"max_versions":0}"#)),
        row("PUT", SECRET, 422, "validation_error", "options.max_versions")
            .json(data(r#"{"max_versions":101}"#)),
        row("PUT", SECRET, 422, "validation_error", "options.max_versions")
            .json(data(r#"{"max_versions":"5"}"#)),
        row("PUT", SECRET, 422, "validation_error", "options.max_versions")
            .json(data(r#"{"max_versions":1.5}"#)),
        row("PUT", SECRET, 422, "validation_error", "options.max_versions")
            .json(data(r#"{"max_versions":99999999999999999999}"#)),
        row("PUT", SECRET, 400, "invalid_duration", "options.expires_in")
            .json(data(r#"{"expires_in":"1y"}"#)),
        row("PUT", SECRET, 400, "invalid_duration", "options.expires_in")
            .json(data(r#"{"expires_in":"0s"}"#)),
        row("PUT", SECRET, 400, "invalid_duration", "options.expires_in")
            .json(data(r#"{"expires_in":"1h30m"}"#)),
        row("PUT", SECRET, 400, "invalid_duration", "options.expires_in")
            .json(data(r#"{"expires_in":"-1h"}"#)),
        row("PUT", SECRET, 400, "invalid_duration", "options.expires_in")
            .json(data(r#"{"expires_in":"99999999999999999999w"}"#)),
        row("PUT", SECRET, 400, "invalid_duration", "options.notify_before")
            .json(data(r#"{"notify_before":"7d,"}"#)),
        row("PUT", SECRET, 422, "validation_error", "options.expires_at")
            .json(data(r#"{"expires_at":"tomorrow"}"#)),
        row("PUT", SECRET, 422, "validation_error", "options.expires_at")
            .json(data(r#"{"expires_at":"2001-01-01T00:00:00Z"}"#)),
        row("PUT", SECRET, 422, "validation_error", "options.expires_in")
            .json(data(r#"{"expires_in":"1h","expires_at":"2999-01-01T00:00:00Z"}"#)),
        row("PUT", SECRET, 422, "validation_error", "options.cas").json(data(r#"{"cas":-1}"#)),
        row("PUT", SECRET, 422, "validation_error", "options.cas").json(data(r#"{"cas":"1"}"#)),
        row("PUT", SECRET, 409, "version_conflict", "2").json(data(r#"{"cas":1}"#)),
        row("PUT", SECRET, 409, "version_conflict", "2").json(data(r#"{"cas":0}"#)),
        row("PUT", SECRET, 400, "invalid_request", "options.cas")
            .json(data(r#"{"cas":2}"#))
            .header("If-Match", "\"v2\""),
        row("PUT", SECRET, 400, "invalid_request", "If-Match").json(data("{}")).header("If-Match", "2"),
        row("PUT", SECRET, 400, "invalid_request", "If-Match").json(data("{}")).header("If-Match", "*"),
        row("PUT", SECRET, 400, "invalid_request", "If-Match")
            .json(data("{}"))
            .header("If-Match", "W/\"v2\""),
        row("PUT", SECRET, 400, "invalid_request", "If-Match")
            .json(data("{}"))
            .header("If-Match", "\"v2\", \"v3\""),
        row("PUT", SECRET, 400, "invalid_request", "If-None-Match")
            .json(data("{}"))
            .header("If-None-Match", "\"v2\""),
        row("PUT", SECRET, 415, "unsupported_media_type", "application/json")
            .media("text/plain", r#"{"data":{}}"#),
        row("PUT", SECRET, 415, "unsupported_media_type", "application/json")
            .media("application/x-www-form-urlencoded", "data=x"),
        row("PUT", SECRET, 415, "unsupported_media_type", "Content-Encoding")
            .json(data("{}"))
            .header("Content-Encoding", "gzip"),
        row("PATCH", SECRET, 422, "validation_error", "data").json(r#"{"data":{}}"#),
        row("PATCH", SECRET, 422, "validation_error", "secret_type").json(r#"{"secret_type":"kv"}"#),
        row("PATCH", SECRET, 422, "validation_error", "options.cas").json(r#"{"options":{"cas":2}}"#),
        row("PATCH", SECRET, 422, "validation_error", "metadata.tags").json(r#"{"metadata":{"tags":[""]}}"#),
        row("PATCH", SECRET, 422, "validation_error", "metadata").json(r#"{"metadata":[]}"#),
        row("PATCH", "/v1/secrets/app/none", 404, "secret_not_found", "no secret").json("{}"),
    ])
    .await;
}

fn deep(levels: usize) -> String {
    format!(r#"{{"data":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn paths_and_queries() {
    const LONG: &str = "/v1/secrets/a/b/c/d/e/f/g/h/i/j/k";
    check(vec![
        row("GET", "/v1/secrets/App", 400, "invalid_path", "path"),
        row("GET", "/v1/secrets/a.b", 400, "invalid_path", "path"),
        row("GET", "/v1/secrets/a%20b", 400, "invalid_path", "path"),
        row("GET", "/v1/secrets/a//b", 400, "invalid_path", "path"),
        row("GET", "/v1/secrets/app/db/", 400, "invalid_path", "slash"),
        row("GET", "/v1/secrets/", 400, "invalid_request", "slash"),
        row("GET", "/v1/secrets/a/../db", 400, "invalid_path", "dot segment"),
        row("GET", "/v1/secrets/a/./db", 400, "invalid_path", "dot segment"),
        row("GET", "/v1/secrets/app%2Fdb", 400, "invalid_path", "encoded slash"),
        row("GET", "/v1/secrets/app/%64b", 400, "invalid_path", "encodes"),
        row("GET", "/v1/secrets/app%252Fdb", 400, "invalid_path", "twice"),
        row("GET", "/v1/secrets/app/db%00", 400, "invalid_path", "control"),
        row("GET", "/v1/secrets/app\\db", 400, "invalid_path", "backslash"),
        row("GET", "/v1/secrets/app%", 400, "invalid_path", "percent"),
        row("GET", LONG, 400, "invalid_path", "at most 10"),
        row("PUT", "/v1/secrets/batch/x", 400, "invalid_path", "reserved").json(r#"{"data":{}}"#),
        row("PUT", "/v1/secrets/a/rotate", 400, "invalid_path", "reserved").json(r#"{"data":{}}"#),
        row("PUT", "/v1/secrets/metadata", 400, "invalid_path", "reserved").json(r#"{"data":{}}"#),
        row("PUT", "/v1/secrets/pki/issue/svc", 400, "invalid_path", "pki/issue/").json(r#"{"data":{}}"#),
        row("GET", "/v1/secrets/dynamic/db", 400, "invalid_path", "dynamic/"),
        row("GET", "/v1/secrets/app/db?version=x", 400, "invalid_request", "version"),
        row("GET", "/v1/secrets/app/db?version=", 400, "invalid_request", "version"),
        row("GET", "/v1/secrets/app/db?version=1&version=2", 400, "invalid_request", "version"),
        row("GET", "/v1/secrets/app/db?versoin=1", 400, "invalid_request", "versoin"),
        row("GET", "/v1/secrets/app/db?version=0", 404, "version_not_found", "from 1"),
        row("GET", "/v1/secrets/app/db?version=-1", 404, "version_not_found", "from 1"),
        row("GET", "/v1/secrets/app/db?version=3", 404, "version_not_found", "version"),
        row("GET", "/v1/secrets/app/none", 404, "secret_not_found", "no secret"),
        row("GET", "/v1/secrets/app/none/versions", 404, "secret_not_found", "no secret"),
        row("DELETE", "/v1/secrets/app/none", 404, "secret_not_found", "no secret"),
        row("DELETE", "/v1/secrets/app/db?permanent=yes", 400, "invalid_request", "permanent"),
        row("DELETE", "/v1/secrets/app/db?permanent", 400, "invalid_request", "permanent"),
        row("POST", "/v1/secrets/app/db/restore", 404, "secret_not_found", "no secret"),
        row("GET", "/v1/secrets?limit=many", 400, "invalid_request", "limit"),
        row("GET", "/v1/secrets?cursor=x", 400, "invalid_cursor", "cursor"),
        row("GET", "/v1/secrets?cursor=eyJpZCI6MTc4fQ", 400, "invalid_cursor", "cursor"),
        row("GET", "/v1/secrets?prefix=A", 400, "invalid_path", "path"),
        row("GET", "/v1/secrets?secret_type=pdf", 400, "invalid_secret_type", "secret_type"),
        row("GET", "/v1/secrets?include_deleted=1", 400, "invalid_request", "include_deleted"),
        row("GET", "/v1/secrets?tag=%ff", 400, "invalid_request", "UTF-8"),
        row("GET", "/v1/secrets?%", 400, "invalid_request", "percent-encoded"),
        row("GET", "/v1/policies?cursor=%2e%2e", 400, "invalid_cursor", "cursor"),
        row("GET", "/v1/policies?scope=all", 422, "validation_error", "scope"),
        row("GET", "/v1/policies/{policy}?scope=all", 422, "validation_error", "scope"),
        row("GET", "/v1/audit/logs?scope=all", 422, "validation_error", "scope"),
        row("GET", "/v1/secrets?include_partner=1", 400, "invalid_request", "include_partner"),
        row("GET", "/v1/pki/ca?cursor=AAAA", 400, "invalid_cursor", "cursor"),
        row("GET", "/v1/pki/roles?cursor=AAAA", 400, "invalid_cursor", "cursor"),
        row("GET", "/v1/pki/certificates?cursor=AAAA", 400, "invalid_cursor", "cursor"),
        row("GET", "/v1/pki/certificates?expiring_within=soon", 400, "invalid_duration", "expiring_within"),
        row(
            "GET",
            "/v1/pki/certificates/{cert}?include_private_key=please",
            400,
            "invalid_request",
            "include_private_key",
        ),
        row("GET", "/v1/audit/logs?from=yesterday", 400, "invalid_request", "from"),
        row("GET", "/v1/audit/logs?to=2026-01-01", 400, "invalid_request", "to"),
        row("GET", "/v1/audit/logs?success=maybe", 400, "invalid_request", "success"),
        row("GET", "/v1/audit/logs?cursor=AAAA", 400, "invalid_cursor", "cursor"),
        row("GET", "/v1/audit/logs?limit=1.5", 400, "invalid_request", "limit"),
        row("GET", "/v1/audit/secrets/A", 400, "invalid_path", "path"),
        row("GET", "/v1/audit/secrets/a?cursor=AAAA", 400, "invalid_cursor", "cursor"),
        row("GET", "/v1/audit/identities/user:a?limit=x", 400, "invalid_request", "limit"),
        row("GET", "/v1/audit/identities/user:a?cursor=AAAA", 400, "invalid_cursor", "cursor"),
        row("GET", "/v1/audit/summary?from=yesterday", 400, "invalid_request", "from"),
        row(
            "GET",
            "/v1/audit/summary?from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z",
            400,
            "invalid_request",
            "31 days",
        ),
        row(
            "GET",
            "/v1/audit/summary?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
            400,
            "invalid_request",
            "from",
        ),
        row("GET", "/v1/nothing", 404, "not_found", "route"),
        row("GET", "/v1", 404, "not_found", "route"),
        row("GET", "/", 404, "not_found", "route"),
        row("GET", "/V1/secrets", 404, "not_found", "route"),
        row("GET", "/v1/secrets;x=1", 404, "not_found", "route"),
        row("GET", "/v1/policies/", 400, "invalid_request", "slash"),
        row("GET", "/v1/policies/a%2Fb", 400, "invalid_request", "slash"),
        row("POST", "/v1/secrets", 405, "method_not_allowed", "GET, HEAD"),
        row("PUT", "/v1/secrets/a/metadata", 405, "method_not_allowed", "GET, HEAD"),
        row("DELETE", "/v1/secrets/a/restore", 405, "method_not_allowed", "POST"),
        row("PATCH", "/v1/pki/issue/svc", 405, "method_not_allowed", "POST"),
        row("TRACE", "/v1/auth/whoami", 405, "method_not_allowed", "GET, HEAD"),
        row("BREW", "/v1/health", 405, "method_not_allowed", "GET, HEAD"),
    ])
    .await;
}

#[tokio::test]
async fn bodies_of_policies() {
    let policy = |rules: &str| format!(r#"{{"name":"p","rules":{rules}}}"#);
    let rule = |pattern: &str| {
        format!(r#"{{"name":"p","rules":[{{"path_pattern":"{pattern}","permissions":["read"]}}]}}"#)
    };
    let bindings = "/v1/policies/{policy}/bindings";
    let bind = |kind: &str, id: &str| format!(r#"{{"identity_type":"{kind}","identity_id":"{id}"}}"#);
    check(vec![
        row("POST", "/v1/policies", 422, "validation_error", "name").json(r#"{"rules":[]}"#),
        row("POST", "/v1/policies", 422, "validation_error", "rules").json(r#"{"name":"p"}"#),
        row("POST", "/v1/policies", 422, "validation_error", "rules").json(policy("{}")),
        row("POST", "/v1/policies", 422, "validation_error", "rules[0]").json(policy("[7]")),
        row("POST", "/v1/policies", 422, "validation_error", "rules[0].permissions")
            .json(policy(r#"[{"path_pattern":"a"}]"#)),
        row("POST", "/v1/policies", 422, "validation_error", "rules[0].deny")
            .json(policy(r#"[{"path_pattern":"a","permissions":["read"],"deny":true}]"#)),
        row("POST", "/v1/policies", 400, "invalid_policy", "rules").json(policy("[]")),
        row("POST", "/v1/policies", 400, "invalid_policy", "rules[0].permissions")
            .json(policy(r#"[{"path_pattern":"a","permissions":[]}]"#)),
        row("POST", "/v1/policies", 400, "invalid_policy", "rules[0].permissions[1]")
            .json(policy(r#"[{"path_pattern":"a","permissions":["read","sudo"]}]"#)),
        row("POST", "/v1/policies", 400, "invalid_policy", "rules[0].conditions").json(policy(
            r#"[{"path_pattern":"a","permissions":["read"],"conditions":{"ip_ranges":["10.0.0.0/33"]}}]"#,
        )),
        row("POST", "/v1/policies", 400, "invalid_policy", "rules[0].conditions")
            .json(policy(r#"[{"path_pattern":"a","permissions":["read"],"conditions":[]}]"#)),
        row("POST", "/v1/policies", 400, "invalid_glob", "rules[0].path_pattern").json(rule("/a")),
        row("POST", "/v1/policies", 400, "invalid_glob", "rules[0].path_pattern").json(rule("")),
        row("POST", "/v1/policies", 400, "invalid_glob", "rules[0].path_pattern").json(rule("a**")),
        row("POST", "/v1/policies", 400, "invalid_glob", "rules[0].path_pattern").json(rule("a//b")),
        row("POST", "/v1/policies", 400, "invalid_glob", "rules[0].path_pattern").json(rule("a/[b]")),
        row("POST", "/v1/policies", 400, "invalid_glob", "rules[0].path_pattern")
            .json(rule("**/a/**/b/**/c/**/d/**")),
        row("POST", "/v1/policies", 422, "validation_error", "name")
            .json(rule("a").replace("\"p\"", "\"root\"")),
        row("POST", "/v1/policies", 422, "validation_error", "name")
            .json(rule("a").replace("\"p\"", "\"a/b\"")),
        row("POST", "/v1/policies", 422, "validation_error", "name").json(rule("a").replace("\"p\"", "7")),
        row("POST", "/v1/policies", 422, "validation_error", "scope")
            .json(rule("a").replace("\"rules\"", "\"scope\":\"all\",\"rules\"")),
        row("POST", "/v1/policies", 422, "validation_error", "description")
            .json(rule("a").replace("\"rules\"", r#""description":"a\u0007","rules""#)),
        row("POST", "/v1/policies", 409, "name_conflict", "name")
            .json(rule("a").replace("\"p\"", "\"NARROW\"")),
        row("GET", "/v1/policies/pol_none", 404, "policy_not_found", "policy"),
        row("PUT", "/v1/policies/pol_none", 404, "policy_not_found", "policy").json(rule("a")),
        row("PUT", "/v1/policies/{policy}", 422, "validation_error", "is_active")
            .json(rule("a").replace("\"rules\"", "\"is_active\":false,\"rules\"")),
        row("PATCH", "/v1/policies/{policy}", 422, "validation_error", "is_active")
            .json(r#"{"is_active":"no"}"#),
        row("PATCH", "/v1/policies/{policy}", 422, "validation_error", "bindings").json(r#"{"bindings":[]}"#),
        row("PATCH", "/v1/policies/{policy}", 400, "invalid_policy", "rules").json(r#"{"rules":[]}"#),
        row("DELETE", "/v1/policies/pol_none", 404, "policy_not_found", "policy"),
        row("DELETE", "/v1/policies/{policy}", 409, "policy_in_use", "1 bindings"),
        row("DELETE", "/v1/policies/{policy}?force=1", 400, "invalid_request", "force"),
        row("GET", "/v1/policies/pol_none/bindings", 404, "policy_not_found", "policy"),
        row("POST", "/v1/policies/pol_none/bindings", 404, "policy_not_found", "policy")
            .json(bind("user", "user:x")),
        row("POST", bindings, 422, "validation_error", "identity_type").json(bind("robot", "r2")),
        row("POST", bindings, 422, "validation_error", "identity_id").json(r#"{"identity_type":"user"}"#),
        row("POST", bindings, 422, "validation_error", "identity_id").json(bind("user", "")),
        row("POST", bindings, 422, "validation_error", "identity_id").json(bind("user", "a b")),
        row("POST", bindings, 422, "validation_error", "identity_id").json(bind("user", "a\\u0000")),
        row("POST", bindings, 422, "validation_error", "expires_at")
            .json(r#"{"identity_type":"user","identity_id":"u","expires_at":"2001-01-01T00:00:00Z"}"#),
        row("POST", bindings, 422, "validation_error", "expires_at")
            .json(r#"{"identity_type":"user","identity_id":"u","expires_at":"1h"}"#),
        row("DELETE", "/v1/policies/{policy}/bindings/bind_none", 404, "binding_not_found", "binding"),
        row("DELETE", "/v1/policies/pol_none/bindings/{binding}", 404, "binding_not_found", "binding"),
    ])
    .await;
}

#[tokio::test]
async fn bodies_of_the_pki() {
    let ca = |more: &str| format!(r#"{{"name":"x","common_name":"X","key_type":"ec"{more}}}"#);
    let role =
        |more: &str| format!(r#"{{"name":"x","ca_id":"{{ca}}","allowed_domains":["x.example"]{more}}}"#);
    let issue = "/v1/pki/issue/svc";
    let name = |more: &str| format!(r#"{{"common_name":"a.svc.cluster.local"{more}}}"#);
    check(vec![
        row("POST", "/v1/pki/ca", 422, "validation_error", "ca_type").json(ca("")),
        row("POST", "/v1/pki/ca", 422, "validation_error", "ca_type").json(ca(r#","ca_type":"leaf""#)),
        row("POST", "/v1/pki/ca", 422, "validation_error", "name")
            .json(r#"{"common_name":"X","ca_type":"root"}"#),
        row("POST", "/v1/pki/ca", 422, "validation_error", "parent_ca_id")
            .json(ca(r#","ca_type":"intermediate""#)),
        row("POST", "/v1/pki/ca", 422, "validation_error", "parent_ca_id")
            .json(ca(r#","ca_type":"root","parent_ca_id":"{ca}""#)),
        row("POST", "/v1/pki/ca", 404, "ca_not_found", "CA")
            .json(ca(r#","ca_type":"intermediate","parent_ca_id":"ca_none""#)),
        row("POST", "/v1/pki/ca", 422, "validation_error", "key_size")
            .json(ca(r#","ca_type":"root","key_size":192"#)),
        row("POST", "/v1/pki/ca", 422, "validation_error", "key_size")
            .json(ca(r#","ca_type":"root","key_size":-1"#)),
        row("POST", "/v1/pki/ca", 422, "validation_error", "key_type")
            .json(r#"{"name":"x","common_name":"X","ca_type":"root","key_type":"dsa"}"#),
        row("POST", "/v1/pki/ca", 422, "validation_error", "validity_days")
            .json(ca(r#","ca_type":"root","validity_days":0"#)),
        row("POST", "/v1/pki/ca", 422, "validation_error", "validity_days")
            .json(ca(r#","ca_type":"root","validity_days":4294967295"#)),
        row("POST", "/v1/pki/ca", 422, "validation_error", "max_path_length")
            .json(ca(r#","ca_type":"root","max_path_length":256"#)),
        row("POST", "/v1/pki/ca", 422, "validation_error", "subject.email")
            .json(ca(r#","ca_type":"root","subject":{"email":"x"}"#)),
        row("POST", "/v1/pki/ca", 422, "validation_error", "name")
            .json(ca(r#","ca_type":"root""#).replace("\"x\"", "\"\"")),
        row("POST", "/v1/pki/ca", 409, "name_conflict", "name")
            .json(ca(r#","ca_type":"root""#).replace("\"x\"", "\"Mesh\"")),
        row("POST", "/v1/pki/ca/import", 422, "validation_error", "extra")
            .json(r#"{"name":"x","certificate_pem":"x","private_key_pem":"x","extra":1}"#),
        row("POST", "/v1/pki/ca/import", 422, "validation_error", "crl_shards")
            .json(r#"{"name":"x","certificate_pem":"x","private_key_pem":"x","crl_shards":-1}"#),
        row("POST", "/v1/pki/ca/{ca}/rekey", 422, "validation_error", "crl_shards")
            .json(r#"{"name":"y","crl_shards":3}"#),
        row("DELETE", "/v1/pki/ca/{ca}", 409, "invalid_state", "Revoke it"),
        row("DELETE", "/v1/pki/ca/ca_none", 404, "ca_not_found", "CA"),
        row("GET", "/v1/pki/ca/ca_none", 404, "ca_not_found", "CA"),
        row("GET", "/v1/pki/ca/ca_none/certificate", 404, "ca_not_found", "CA"),
        row("POST", "/v1/pki/ca/ca_none/crl", 404, "ca_not_found", "CA"),
        row("POST", "/v1/pki/roles", 422, "validation_error", "name").json(r#"{"ca_id":"{ca}"}"#),
        row("POST", "/v1/pki/roles", 422, "validation_error", "ca_id").json(r#"{"name":"x"}"#),
        row("POST", "/v1/pki/roles", 404, "ca_not_found", "CA").json(role("").replace("{ca}", "ca_none")),
        row("POST", "/v1/pki/roles", 400, "invalid_role", "name").json(role("").replace("\"x\"", "\"a/b\"")),
        row("POST", "/v1/pki/roles", 400, "invalid_role", "key_bits").json(role(r#","key_bits":512"#)),
        row("POST", "/v1/pki/roles", 400, "invalid_role", "allowed_domains[1]")
            .json(role("").replace("[", "[\"ok.example\",").replace("x.example", "a b")),
        row("POST", "/v1/pki/roles", 400, "invalid_role", "default_ttl")
            .json(role(r#","max_ttl":"1h","default_ttl":"2h""#)),
        row("POST", "/v1/pki/roles", 400, "invalid_duration", "max_ttl")
            .json(role(r#","max_ttl":"forever""#)),
        row("POST", "/v1/pki/roles", 422, "validation_error", "require_cn").json(role(r#","require_cn":1"#)),
        row("POST", "/v1/pki/roles", 422, "validation_error", "allow_any").json(role(r#","allow_any":true"#)),
        row("POST", "/v1/pki/roles", 409, "name_conflict", "name").json(role("").replace("\"x\"", "\"svc\"")),
        row("GET", "/v1/pki/roles/none", 404, "role_not_found", "role"),
        row("PATCH", "/v1/pki/roles/none", 404, "role_not_found", "role").json("{}"),
        row("PATCH", "/v1/pki/roles/svc", 422, "validation_error", "name").json(r#"{"name":"new"}"#),
        row("PATCH", "/v1/pki/roles/svc", 404, "ca_not_found", "CA").json(r#"{"ca_id":"ca_none"}"#),
        row("PATCH", "/v1/pki/roles/svc", 400, "invalid_role", "key_bits").json(r#"{"key_bits":1}"#),
        row("DELETE", "/v1/pki/roles/none", 404, "role_not_found", "role"),
        row("POST", "/v1/pki/issue/none", 404, "role_not_found", "role").json(name("")),
        row("POST", issue, 422, "validation_error", "common_name").json("{}"),
        row("POST", issue, 422, "validation_error", "common_name").json(r#"{"common_name":"evil.example"}"#),
        row("POST", issue, 422, "validation_error", "common_name")
            .json(r#"{"common_name":"a.svc.cluster.local\u0000"}"#),
        row("POST", issue, 422, "validation_error", "alt_names[0]")
            .json(name(r#","alt_names":["evil.example"]"#)),
        row("POST", issue, 422, "validation_error", "alt_names")
            .json(name(r#","alt_names":"a.svc.cluster.local""#)),
        row("POST", issue, 422, "validation_error", "ip_sans[0]").json(name(r#","ip_sans":["127.0.0.1"]"#)),
        row("POST", issue, 422, "validation_error", "ttl").json(name(r#","ttl":"25h""#)),
        row("POST", issue, 400, "invalid_duration", "ttl").json(name(r#","ttl":"24""#)),
        row("POST", issue, 422, "validation_error", "csr_pem").json(name(r#","csr_pem":"x""#)),
        row("GET", "/v1/pki/certificates/cert_none", 404, "certificate_not_found", "certificate"),
        row("GET", "/v1/pki/certificates/cert_none/pem", 404, "certificate_not_found", "certificate"),
        row("POST", "/v1/pki/revoke", 422, "validation_error", "serial_number").json("{}"),
        row("POST", "/v1/pki/revoke", 422, "validation_error", "serial_number")
            .json(r#"{"serial_number":"xyz"}"#),
        row("POST", "/v1/pki/revoke", 422, "validation_error", "reason")
            .json(r#"{"serial_number":"{serial}","reason":"keyCompromise"}"#),
        row("POST", "/v1/pki/revoke", 404, "certificate_not_found", "certificate")
            .json(r#"{"serial_number":"01:02"}"#),
        row("POST", "/v1/pki/revoke", 404, "certificate_not_found", "certificate")
            .json(r#"{"serial_number":"{serial}","ca_id":"ca_none"}"#),
    ])
    .await;
}

#[tokio::test]
async fn a_405_says_what_is_served() {
    let world = World::start().await;
    for (method, path, allow) in [
        ("POST", "/v1/secrets", "GET, HEAD"),
        ("POST", "/v1/secrets/a", "DELETE, GET, HEAD, PATCH, PUT"),
        ("GET", "/v1/secrets/a/restore", "POST"),
        ("DELETE", "/v1/policies", "GET, HEAD, POST"),
        ("POST", "/v1/policies/{policy}", "DELETE, GET, HEAD, PATCH, PUT"),
        ("PUT", "/v1/pki/ca/{ca}/crl", "GET, HEAD, POST"),
        ("GET", "/v1/pki/ocsp/{ca}", "POST"),
    ] {
        for token in [Some(&world.api.admin), None] {
            let call = world.api.anonymous(method, &world.fill(path));
            let call = match token {
                Some(token) => call.token(token),
                None => call,
            };
            let answer = call.send().await;
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
            answer.refusal(405, "method_not_allowed");
        }
    }
}

#[tokio::test]
async fn sec_j1_a_body_that_is_too_large_is_refused_however_it_is_sent() {
    let world = World::start().await;
    let before = world.snapshot().await;
    let body = format!(r#"{{"data":{{"k":"{}"}}}}"#, "x".repeat(1 << 20)).into_bytes();
    let announced = world.api.admin("PUT", SECRET).header("X-Request-ID", "announced");
    announced.body("application/json", body.clone()).send().await.refusal(413, "payload_too_large");
    let chunked = world.api.admin("PUT", SECRET).header("X-Request-ID", "chunked");
    chunked.chunked(&body).send().await.refusal(413, "payload_too_large");
    for id in ["announced", "chunked"] {
        let trail = world.api.audit(&format!("request_id={id}")).await;
        assert_eq!((trail.len(), &trail[0]["error_code"]), (1, &json!("payload_too_large")), "{id}");
    }
    assert_eq!(world.snapshot().await, before);
    // What fits, fits to the byte.
    let room = (1 << 20) - r#"{"data":{"k":""}}"#.len();
    let fits = format!(r#"{{"data":{{"k":"{}"}}}}"#, "x".repeat(room)).into_bytes();
    assert_eq!(fits.len(), 1 << 20);
    world.api.admin("PUT", "/v1/secrets/big").chunked(&fits).send().await.expect(201);
    assert_eq!(world.api.get("/v1/secrets/big").await["data"]["k"].as_str().unwrap().len(), room);
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own_or_the_callers() {
    let world = World::start().await;
    let first = world.api.admin("GET", SECRET).send().await.expect(200);
    let second = world.api.admin("GET", SECRET).send().await.expect(200);
    let (first, second) = (first.header("x-request-id").unwrap(), second.header("x-request-id").unwrap());
    assert!(first.starts_with("req_") && first.len() == 30 && first != second, "{first} {second}");
    for id in [first, second] {
        assert_eq!(world.api.audit(&format!("request_id={id}")).await.len(), 1);
    }
    let odd = world.api.admin("GET", SECRET).header("X-Request-ID", "a'b--").send().await.expect(200);
    assert!(odd.header("x-request-id").unwrap().starts_with("req_"));
}
