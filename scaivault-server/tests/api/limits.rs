use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use scaivault_core::{Category, Clock as _, Introspect, RateLimits, Result, SystemClock};
use scaivault_server::dev::{DevIssuer, TENANT};
use serde_json::json;

use crate::support::{Answer, Api, is_seconds};

fn limits() -> RateLimits {
    RateLimits::none()
        .with(Category::SecretsRead, Some(6))
        .with(Category::SecretsWrite, Some(3))
        .with(Category::Auth, Some(2))
        .with(Category::AuthFailed, Some(4))
}

/// Limit, what is left, and the seconds until the bucket is full, counted from now.
fn told(answer: &Answer) -> (u64, u64, i64) {
    let number =
        |name: &str| answer.header(name).unwrap_or_else(|| panic!("no {name}: {answer:?}")).to_owned();
    let reset: i64 = number("x-ratelimit-reset").parse().unwrap();
    let now = SystemClock.now().unix_timestamp();
    (
        number("x-ratelimit-limit").parse().unwrap(),
        number("x-ratelimit-remaining").parse().unwrap(),
        reset - now,
    )
}

#[tokio::test]
async fn each_identity_has_a_bucket_of_each_category() {
    let api = Api::limited(limits()).await;
    let put = async |token: String| {
        api.call(&token, "PUT", "/v1/secrets/app/db").json(&json!({"data": {"k": "v"}})).send().await
    };
    let get = async |token: String| api.call(&token, "GET", "/v1/secrets/app/db").send().await;
    let admin = || api.admin.clone();
    for left in [2, 1, 0] {
        let answer = put(admin()).await;
        let (limit, remaining, reset) = told(&answer);
        assert_eq!((limit, remaining), (3, left), "{answer:?}");
        // A token comes back in twenty seconds.
        assert!((1..=20 * (3 - left as i64) + 2).contains(&reset), "{answer:?}");
    }
    let refused = put(admin()).await;
    assert_eq!(told(&refused).1, 0);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    let error = refused.refusal(429, "rate_limited");
    assert_eq!(error["details"]["retry_after"], json!(wait));
    assert!(error["message"].as_str().unwrap().contains("secrets:write"));
    // Reading is another bucket, and another identity has its own.
    assert_eq!(told(&get(admin()).await.expect(200)).1, 5);
    let other = api.token("user:other@dev.example", "secrets:write");
    let denied = put(other.clone()).await;
    assert_eq!(told(&denied).1, 2);
    denied.refusal(403, "access_denied");
    // What was refused is charged as well: nobody asks in vain for ever.
    for _ in 0..2 {
        put(other.clone()).await.refusal(403, "access_denied");
    }
    put(other.clone()).await.refusal(429, "rate_limited");
    // A body that cannot be read is a request.
    api.call(&other, "PUT", "/v1/secrets/app/db")
        .body("application/json", "{")
        .send()
        .await
        .refusal(429, "rate_limited");
    // What has no limit says nothing of one.
    let list = api.admin("GET", "/v1/secrets").send().await.expect(200);
    assert_eq!(list.header("x-ratelimit-limit"), None);
}

#[tokio::test]
async fn of_what_is_one_too_many_the_trail_gets_one_a_minute() {
    let api = Api::limited(limits()).await;
    api.write("PUT", "/v1/secrets/app/db", &json!({"data": {"k": "v"}}), 201).await;
    for n in 0..20 {
        let answer = api.admin("GET", "/v1/secrets/app/db").send().await;
        assert_eq!(answer.status, if n < 6 { 200 } else { 429 }, "{n}");
    }
    assert_eq!(api.audit("action=read&success=true").await.len(), 6);
    let refused = api.audit("action=read&success=false").await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0]["error_code"], "rate_limited");
    assert_eq!(refused[0]["secret_path"], "app/db");
}

#[tokio::test]
async fn whoami_and_what_no_route_answers_are_charged() {
    let api = Api::limited(limits()).await;
    api.admin("GET", "/v1/auth/whoami").send().await.expect(200);
    api.admin("GET", "/v1/nowhere").send().await.refusal(404, "not_found");
    api.admin("GET", "/v1/auth/whoami").send().await.refusal(429, "rate_limited");
    api.admin("GET", "/v1/nowhere").send().await.refusal(429, "rate_limited");
    let told = api.audit("success=false").await;
    assert_eq!(told.iter().filter(|log| log["error_code"] == "rate_limited").count(), 1, "{told:?}");
    let answer = api.admin("GET", "/v1/health").send().await.expect(200);
    assert!(is_seconds(&answer.json()["timestamp"]));
}

#[tokio::test]
async fn sec_k1_tokens_that_are_not_believed_are_counted_by_where_they_come_from() {
    let api = Api::limited(limits()).await;
    let bad = async |token: &str| api.call(token, "GET", "/v1/auth/whoami").send().await;
    bad("eyJhbGciOiJub25lIn0.e30.").await.refusal(401, "token_invalid");
    bad("x").await.refusal(401, "token_invalid");
    api.anonymous("GET", "/v1/auth/whoami").send().await.refusal(401, "authentication_required");
    bad("x.y.z").await.refusal(401, "token_invalid");
    let refused = bad("x").await;
    assert!(refused.header("retry-after").is_some());
    refused.refusal(429, "rate_limited");
    // Whoever shows a good one from there is let in all the same.
    api.admin("GET", "/v1/auth/whoami").send().await.expect(200);
}

/// An issuer that vouches for one token, and counts how often it is asked.
#[derive(Debug, Default)]
struct FakeIssuer(Mutex<Vec<String>>);

const GOOD: &str = "skt_the-good-one";

#[async_trait]
impl Introspect for FakeIssuer {
    async fn introspect(&self, token: &str) -> Result<String> {
        self.0.lock().unwrap().push(token.to_owned());
        let now = SystemClock.now().unix_timestamp();
        let good = json!({
            "active": true, "iss": DevIssuer::ISSUER, "aud": DevIssuer::AUDIENCE, "sub": "user:alice",
            "tenant_id": TENANT, "partner_id": "ptn_dev", "exp": now + 600,
        });
        Ok(if token == GOOD { good } else { json!({ "active": false }) }.to_string())
    }
}

#[tokio::test]
async fn sec_k1_guessing_opaque_tokens_is_no_load_on_the_issuer() {
    let issuer = Arc::new(FakeIssuer::default());
    let limits = RateLimits::none().with(Category::AuthFailed, Some(1));
    let api = Api::asking(limits, issuer.clone()).await;
    let whoami = async |token: &str| api.call(token, "GET", "/v1/auth/whoami").send().await;
    assert_eq!(whoami(GOOD).await.expect(200).json()["identity_id"], "user:alice");
    for n in 0..20 {
        let answer = whoami(&format!("skt_a-guess-{n}")).await;
        match n {
            0 => answer.refusal(401, "token_invalid"),
            _ => answer.refusal(429, "rate_limited"),
        };
    }
    // The second was looked up before it was one too many.
    assert_eq!(issuer.0.lock().unwrap().len(), 3);
    // Who is known is let in from there all the same, and so is who needs not be looked up.
    whoami(GOOD).await.expect(200);
    api.admin("GET", "/v1/auth/whoami").send().await.expect(200);
    assert_eq!(issuer.0.lock().unwrap().len(), 3);
}
