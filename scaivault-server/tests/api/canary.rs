//! What must not be seen is put in everywhere and looked for everywhere.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use serde_json::json;
use tracing::Level;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt as _};

use crate::{support::Answer, world::World};

/// Everything that any test of this binary logs, more than the server would.
static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();

struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn capture() -> &'static Mutex<Vec<u8>> {
    LOG.get_or_init(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        // As the server filters, but with everything of ours.
        let filter = Targets::new().with_target("scaivault", Level::TRACE).with_default(Level::WARN);
        let layer = fmt::layer().with_ansi(false).with_writer(move || Lines(Arc::clone(&sink)));
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    })
}

const CANARY: &str = "canary-7f3a9";

#[tokio::test]
async fn sec_i1_no_secret_is_in_an_error_the_trail_or_the_log() {
    let log = capture();
    let world = World::start().await;
    let api = &world.api;
    let value = json!({ "data": { "password": CANARY, CANARY: [CANARY] } });
    api.write("PUT", "/v1/secrets/app/canary", &value, 201).await;
    assert_eq!(api.get("/v1/secrets/app/canary").await["data"], value["data"]);
    let issued =
        api.write("POST", "/v1/pki/issue/svc", &json!({ "common_name": "c.svc.cluster.local" }), 201).await;
    let key = issued["private_key"].as_str().unwrap();
    let key = key.lines().nth(1).unwrap();
    let token = api.token("user:canary", "secrets:read");

    // Where it must not be given back: in whatever is said about a request that holds it.
    let mut told: Vec<Answer> = Vec::new();
    for body in [
        format!(r#"{{"data":"{CANARY}"}}"#),
        format!(r#"{{"data":{{}},"secret_type":"{CANARY}"}}"#),
        format!(r#"{{"data":{{}},"metadata":"{CANARY}"}}"#),
        format!(r#"{{"data":{{}},"metadata":{{"owner":["{CANARY}"]}}}}"#),
        format!(r#"{{"data":{{}},"options":{{"max_versions":"{CANARY}"}}}}"#),
        format!(r#"{{"data":{{}},"options":{{"expires_in":"{CANARY}"}}}}"#),
        format!(r#"{{"data":{{}},"options":{{"expires_at":"{CANARY}"}}}}"#),
        format!(r#"{{"data":{{}},"options":{{"notify_before":"{CANARY}"}}}}"#),
        format!(r#"{{"data":{{"k":"{CANARY}"}}"#),
        format!(r#"{{"data":{{"k":"{CANARY}}}}}"#),
        format!(r#"{{"data":{{"k":"{CANARY}"}},"options":{{"cas":9}}}}"#),
        format!(r#"["{CANARY}"]"#),
        CANARY.to_owned(),
    ] {
        told.push(api.admin("PUT", "/v1/secrets/app/db").body("application/json", body).send().await);
    }
    let issue = |body: &str| api.admin("POST", "/v1/pki/issue/svc").body("application/json", body);
    told.push(issue(&format!(r#"{{"common_name":"a.svc.cluster.local","ttl":"{CANARY}"}}"#)).send().await);
    let rules = json!([{ "path_pattern": "a", "permissions": [CANARY] }]);
    told.push(api.admin("POST", "/v1/policies").json(&json!({ "name": "x", "rules": rules })).send().await);
    told.push(api.admin("POST", "/v1/pki/revoke").json(&json!({ "serial_number": CANARY })).send().await);
    for query in ["version", "limit", "cursor", "from", "include_deleted"] {
        let path = if query == "version" { "/v1/secrets/app/db" } else { "/v1/secrets" };
        let path = if query == "from" { "/v1/audit/logs" } else { path };
        told.push(api.admin("GET", &format!("{path}?{query}={CANARY}")).send().await);
    }
    for header in ["If-Match", "X-Request-ID", "Content-Type", "Content-Encoding", "X-Tenant-ID"] {
        let call = api.admin("PUT", "/v1/secrets/app/canary2").header(header, &format!("{CANARY} é"));
        told.push(call.bare_body(r#"{"data":{}}"#).send().await);
    }
    for bad in
        [CANARY.to_owned(), format!("{token}{CANARY}"), format!("skt_{CANARY}"), format!("{CANARY}.a.b")]
    {
        told.push(api.call(&bad, "GET", "/v1/secrets/app/db").send().await);
        told.push(api.anonymous("GET", "/v1/secrets").header("Authorization", &bad).send().await);
    }
    told.push(api.call(&token, "GET", "/v1/secrets/app/canary").send().await);
    for body in [
        format!(r#"{{"token":["{token}"]}}"#),
        format!(r#"{{"token":"{token}","{token}":1}}"#),
        format!(r#"{{"token":"{token}""#),
    ] {
        told.push(api.admin("POST", "/v1/auth/introspect").body("application/json", body).send().await);
    }
    for asked in [token.clone(), format!("skt_{CANARY}-token"), format!("{token}{CANARY}")] {
        let body = json!({ "token": asked });
        let answer = api.admin("POST", "/v1/auth/introspect").json(&body).send().await.expect(200);
        assert!(!answer.text().contains(CANARY) && !answer.text().contains(&token), "{answer:?}");
    }
    told.push(
        api.admin("PUT", "/v1/secrets/app/canary")
            .json(&json!({ "data": { "k": CANARY }, "options": { "cas": 7 } }))
            .send()
            .await,
    );
    let mut refused = 0;
    for answer in &told {
        // A request id that is none is replaced, and the request goes through.
        if answer.status < 400 {
            assert_eq!(answer.status, 201, "{answer:?}");
            continue;
        }
        refused += 1;
        let text = format!("{answer:?}");
        assert!(!text.contains(CANARY) && !text.contains(&token), "{text}");
    }
    assert!(refused >= 35, "{refused} of {}", told.len());

    let trail = serde_json::to_string(&api.audit("").await).unwrap();
    assert!(trail.contains("app/canary") && trail.contains("c.svc.cluster.local"), "the trail is there");
    let logged = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("request refused") && logged.contains("pki_issue"), "the log is there");
    for (what, text) in [("the trail", &trail), ("the log", &logged)] {
        assert!(!text.contains(CANARY), "a value is in {what}");
        assert!(!text.contains(key) && !text.contains("PRIVATE KEY"), "a private key is in {what}");
        for token in [&token, &api.admin] {
            assert!(!text.contains(token.as_str()), "a token is in {what}");
            assert!(!text.contains(token.rsplit_once('.').unwrap().1), "a signature is in {what}");
        }
    }
}
