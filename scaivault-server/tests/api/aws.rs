//! Signed requests to AWS for tokens of ours, against a *fake* of its Security Token Service.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use scaivault_core::{Clock as _, RateLimits, SystemClock, trust::Posted};
use scaivault_server::dev::TENANT;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, macros::format_description};

use crate::{
    platforms::{ARN, KEY_ID, Platforms, identity, signature},
    support::{Answer, Api, BASE},
};

const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const HOST: &str = "sts.eu-central-1.amazonaws.com";

async fn start() -> (Api, Arc<Platforms>) {
    let platforms = Arc::new(Platforms::default());
    let api = Api::exchanging(platforms.clone(), RateLimits::none()).await;
    (api, platforms)
}

async fn trust(api: &Api, name: &str, fields: Value) -> String {
    let mut body = json!({
        "name": name, "type": "aws", "accounts": ["123456789012"], "arns": ["arn:aws:sts::123456789012:assumed-role/ci/*"],
        "service_account": "sa:ci", "scopes": ["secrets:read"], "allowed_paths": ["ci/**"],
    });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    api.write("POST", "/v1/auth/trust", &body, 201).await["id"].as_str().unwrap().to_owned()
}

/// A request that is being signed.
struct Signing {
    host: &'static str,
    region: &'static str,
    at: OffsetDateTime,
    server: String,
    /// Headers besides, signed.
    more: Vec<(&'static str, &'static str)>,
    /// Names that are left out of what is signed.
    unsigned: &'static [&'static str],
}

impl Default for Signing {
    fn default() -> Self {
        let server = format!("{BASE}/{TENANT}");
        let at = SystemClock.now();
        Self { host: HOST, region: "eu-central-1", at, server, more: Vec::new(), unsigned: &[] }
    }
}

impl Signing {
    fn date(&self) -> String {
        self.at.format(format_description!("[year][month][day]T[hour][minute][second]Z")).unwrap()
    }

    /// What is shown, before it is encoded.
    fn request(&self) -> Value {
        let date = self.date();
        let mut headers = vec![
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", self.host),
            ("x-amz-date", date.as_str()),
            ("x-amz-security-token", "FwoGZXIvYXdzEXAMPLE"),
            ("x-scaivault-server-id", self.server.as_str()),
        ];
        headers.extend(self.more.iter().copied());
        headers.sort_unstable();
        let signed: Vec<_> =
            headers.iter().copied().filter(|(name, _)| !self.unsigned.contains(name)).collect();
        let scope = format!("{}/{}/sts/aws4_request", &date[..8], self.region);
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={names}, Signature={}",
            signature(&signed, BODY, &date, &scope)
        );
        let mut all: serde_json::Map<String, Value> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        all.insert("Authorization".to_owned(), json!(authorization));
        json!({ "method": "POST", "url": format!("https://{}/", self.host), "headers": all, "body": BODY })
    }

    fn token(&self) -> String {
        encoded(&self.request())
    }
}

fn encoded(request: &Value) -> String {
    URL_SAFE_NO_PAD.encode(request.to_string())
}

async fn ask(api: &Api, token: &str) -> Answer {
    let body = json!({
        "tenant_id": TENANT, "subject_token": token,
        "subject_token_type": "urn:scaivault:params:oauth:token-type:aws-sts-request",
    });
    api.anonymous("POST", "/v1/auth/exchange").json(&body).send().await
}

#[tokio::test]
async fn who_signed_a_request_becomes_the_account_that_the_trust_names() {
    let (api, platforms) = start().await;
    let id = trust(&api, "ci", json!({ "max_ttl": "15m" })).await;
    let token = Signing::default().token();
    let answer = ask(&api, &token).await.expect(200).json();
    assert_eq!((&answer["expires_in"], &answer["scope"]), (&json!(900), &json!("secrets:read")));
    assert_eq!(platforms.asked(), [format!("https://{HOST}/")]);
    let whoami =
        api.call(answer["access_token"].as_str().unwrap(), "GET", "/v1/auth/whoami").send().await.json();
    assert_eq!((&whoami["identity_id"], &whoami["allowed_paths"]), (&json!("sa:ci"), &json!(["ci/**"])));
    let log = api.audit("action=auth_exchange").await.remove(0);
    assert_eq!((&log["extra_data"]["trust_id"], &log["extra_data"]["subject"]), (&json!(id), &json!(ARN)));
    // A request is exchanged once, in whatever way it is written down.
    let mut again = Signing::default().request();
    ask(&api, &token).await.refusal(401, "token_invalid");
    again["headers"] =
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(&token).unwrap()).unwrap()["headers"].take();
    again["url"] = json!(format!("https://{HOST}"));
    ask(&api, &encoded(&again)).await.refusal(401, "token_invalid");
    let reason = api.audit("action=auth_exchange").await.remove(0)["extra_data"]["reason"].clone();
    assert!(reason.as_str().unwrap().ends_with("it was exchanged before."), "{reason}");
    // Of the global host, which is in one region.
    let other = Signing { host: "sts.amazonaws.com", region: "us-east-1", ..Signing::default() };
    ask(&api, &other.token()).await.expect(200);
}

#[tokio::test]
async fn sec_h2_a_request_that_leads_elsewhere_or_was_made_for_another_is_never_sent() {
    let (api, platforms) = start().await;
    trust(&api, "ci", json!({})).await;
    let good = Signing::default().request();
    let with = |place: &str, value: Value| {
        let mut request = good.clone();
        *request.pointer_mut(place).unwrap() = value;
        encoded(&request)
    };
    let header = |name: &str, value: Value| {
        let mut request = good.clone();
        request["headers"][name] = value;
        encoded(&request)
    };
    let replaced = |from: &str, to: &str| {
        let authorization = good["headers"]["Authorization"].as_str().unwrap().replace(from, to);
        header("Authorization", json!(authorization))
    };
    let without = |name: &str| {
        let mut request = good.clone();
        request["headers"].as_object_mut().unwrap().remove(name).unwrap();
        encoded(&request)
    };
    let signing = |change: &dyn Fn(&mut Signing)| {
        let mut signing = Signing::default();
        change(&mut signing);
        signing.token()
    };
    let mut more = good.clone();
    more["endpoint"] = json!("https://evil.example");
    let late = SystemClock.now() - Duration::minutes(16);
    let early = SystemClock.now() + Duration::minutes(16);
    let cases = [
        ("another host", with("/url", json!("https://evil.example/"))),
        ("a host that goes on", with("/url", json!("https://sts.amazonaws.com.evil.example/"))),
        ("a user in the url", with("/url", json!("https://sts.amazonaws.com@evil.example/"))),
        ("a path", with("/url", json!(format!("https://{HOST}/x")))),
        ("a query", with("/url", json!(format!("https://{HOST}/?Action=GetCallerIdentity")))),
        ("plain http", with("/url", json!(format!("http://{HOST}/")))),
        ("a port", with("/url", json!(format!("https://{HOST}:8443/")))),
        ("a region of nobody", with("/url", json!("https://sts.moon-1.amazonaws.com/"))),
        ("another region than it is signed for", with("/url", json!("https://sts.eu-west-1.amazonaws.com/"))),
        ("the metadata service", with("/url", json!("http://169.254.169.254/"))),
        ("another host in the header", header("host", json!("evil.example"))),
        ("the host twice", header("Host", json!(HOST))),
        ("a GET", with("/method", json!("GET"))),
        ("another action", with("/body", json!("Action=GetSessionToken&Version=2011-06-15"))),
        ("an action more", with("/body", json!(format!("{BODY}&Action=AssumeRole")))),
        ("another member", encoded(&more)),
        ("a header that is a list", header("x-amz-date", json!(["x"]))),
        ("a header that ends the line", header("x-amz-security-token", json!("a\r\nHost: evil.example"))),
        ("no server id", without("x-scaivault-server-id")),
        ("no date", without("x-amz-date")),
        ("no signature", without("Authorization")),
        ("another tenant", signing(&|s| s.server = format!("{BASE}/tnt_other"))),
        ("another vault", signing(&|s| s.server = format!("https://evil.example/{TENANT}"))),
        ("a server id that goes on", signing(&|s| s.server.push('2'))),
        ("a server id that is not signed", signing(&|s| s.unsigned = &["x-scaivault-server-id"])),
        ("a host that is not signed", signing(&|s| s.unsigned = &["host"])),
        ("a date that is not signed", signing(&|s| s.unsigned = &["x-amz-date"])),
        (
            "a signed header that is not sent on",
            signing(&|s| s.more = vec![("x-forwarded-host", "evil.example")]),
        ),
        ("signed long ago", signing(&|s| s.at = late)),
        ("signed in the future", signing(&|s| s.at = early)),
        ("another service", replaced("/sts/", "/iam/")),
        ("another day", replaced(&good["headers"]["x-amz-date"].as_str().unwrap()[..8], "20200101")),
        ("another algorithm", replaced("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")),
        ("a signature twice", replaced("Signature=", "Signature=00, Signature=")),
        ("a short signature", replaced("Signature=", "Signature=0")),
        ("padding", format!("{}=", encoded(&good))),
        ("no JSON", URL_SAFE_NO_PAD.encode("method=POST")),
        ("a member twice", URL_SAFE_NO_PAD.encode(good.to_string().replacen('{', r#"{"method":"POST","#, 1))),
    ];
    for (why, token) in &cases {
        let error = ask(&api, token).await.refusal(401, "token_invalid");
        assert_eq!(error["message"], "The subject token is not accepted.", "{why}");
        assert!(platforms.asked().is_empty(), "{why} was sent");
    }
    let trail = api.audit("action=auth_exchange&success=false").await;
    assert_eq!(trail.len(), cases.len());
    assert!(
        trail.iter().all(|log| !log.to_string().contains("FwoGZXIvYXdz")),
        "a session token is in the trail"
    );
    ask(&api, &encoded(&good)).await.expect(200);
}

#[tokio::test]
async fn what_aws_does_not_vouch_for_or_is_not_bound_is_refused() {
    let (api, platforms) = start().await;
    trust(&api, "ci", json!({ "single_use": false })).await;
    let token = Signing::default().token();
    ask(&api, &token).await.expect(200);
    // A signature that is not one.
    let mut forged = Signing::default().request();
    let authorization = forged["headers"]["Authorization"].as_str().unwrap();
    let (head, signature) = authorization.split_once("Signature=").unwrap();
    let flipped: String = signature.chars().map(|c| if c == '0' { '1' } else { '0' }).collect();
    forged["headers"]["Authorization"] = json!(format!("{head}Signature={flipped}"));
    ask(&api, &encoded(&forged)).await.refusal(401, "token_invalid");
    let account = "123456789012";
    let ok = |body: String| Posted { status: 200, body };
    for (why, answer) in [
        ("an error", Posted { status: 500, body: identity(ARN, account) }),
        ("a redirect", Posted { status: 302, body: identity(ARN, account) }),
        ("no XML", ok("{}".to_owned())),
        ("another account", ok(identity("arn:aws:sts::999999999999:assumed-role/ci/job-1", "999999999999"))),
        (
            "another account in the ARN",
            ok(identity("arn:aws:sts::999999999999:assumed-role/ci/job-1", account)),
        ),
        ("another role", ok(identity("arn:aws:sts::123456789012:assumed-role/web/job-1", account))),
        ("a role that goes on", ok(identity("arn:aws:sts::123456789012:assumed-role/ci/a/b", account))),
        ("a user", ok(identity("arn:aws:iam::123456789012:user/ci", account))),
        ("another partition", ok(identity("arn:aws-cn:sts::123456789012:assumed-role/ci/job-1", account))),
        ("another service", ok(identity("arn:aws:s3::123456789012:assumed-role/ci/job-1", account))),
        ("no ARN", ok(identity("123456789012", account))),
    ] {
        *platforms.sts.instead.lock().unwrap() = Some(answer);
        ask(&api, &token).await.refusal(401, "token_invalid");
        assert!(!platforms.asked().is_empty(), "{why}");
    }
    *platforms.sts.instead.lock().unwrap() = None;
    ask(&api, &token).await.expect(200);
}
