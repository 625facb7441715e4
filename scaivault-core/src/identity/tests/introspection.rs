use futures_util::future::join_all;
use zeroize::Zeroizing;

use super::{
    discovery::{Stub, ok, open_ended, status},
    *,
};
use crate::{
    Code,
    egress::{Egress, ServiceUrl},
    limits,
};

/// An issuer that answers as told, counts, and can be held back.
#[derive(Debug)]
struct FakeIssuer {
    answer: Mutex<Option<String>>,
    asked: Mutex<Vec<String>>,
    gate: Semaphore,
}

#[async_trait]
impl Introspect for FakeIssuer {
    async fn introspect(&self, token: &str) -> Result<String> {
        self.asked.lock().unwrap().push(token.to_owned());
        _ = self.gate.acquire().await.unwrap();
        self.answer.lock().unwrap().clone().ok_or_else(|| Error::internal("connection refused"))
    }
}

struct Desk {
    clock: Arc<TestClock>,
    issuer: Arc<FakeIssuer>,
    keys: Arc<TestSource>,
    verifier: TokenVerifier,
}

impl Desk {
    fn new(answer: Option<Value>) -> Self {
        let Fixture { clock, source, verifier } = Fixture::ready();
        let issuer = Arc::new(FakeIssuer {
            answer: Mutex::new(answer.map(|answer| answer.to_string())),
            asked: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let verifier = verifier.with_introspection(issuer.clone());
        Self { clock, issuer, keys: source, verifier }
    }

    fn answer(&self, answer: Option<Value>) {
        *self.issuer.answer.lock().unwrap() = answer.map(|answer| answer.to_string());
    }

    fn calls(&self) -> usize {
        self.issuer.asked.lock().unwrap().len()
    }

    async fn code(&self, token: &str) -> Option<Code> {
        self.verifier.verify(token).await.err().map(|error| error.code())
    }
}

const PAT: &str = "skt_Zm9vYmFyYmF6";

/// What the issuer says of a good token, but for these members; `null` removes one.
fn active(changes: Value) -> Option<Value> {
    Some(edited(edited(claims(), json!({"active": true, "token_type": "Bearer"})), changes))
}

fn inactive() -> Option<Value> {
    Some(json!({"active": false}))
}

fn whole(duration: std::time::Duration) -> Duration {
    Duration::try_from(duration).unwrap()
}

#[tokio::test]
async fn a_personal_token_becomes_its_caller() {
    let desk = Desk::new(active(json!({"groups": ["group:sre"], "role": "tenant_admin"})));
    let caller = desk.verifier.verify(PAT).await.unwrap();
    assert_eq!(caller.identity_id(), "user:alice@acme.example");
    assert_eq!(caller.tenant_id().as_str(), "tnt_acme");
    assert_eq!((caller.groups(), caller.roles()), (&["group:sre".to_owned()][..], &[Role::TenantAdmin][..]));
    assert_eq!(caller.scopes().iter().collect::<Vec<_>>(), [Scope::SecretsRead]);
    assert_eq!(*desk.issuer.asked.lock().unwrap(), [PAT], "the issuer is told the whole token");
    assert_eq!(desk.keys.calls(), 0);
    // What is a JWT behind the prefix is judged as one, and nothing else is looked up.
    for token in [format!("skt_{}", RSA.token(json!({}))), RSA.token(json!({}))] {
        desk.verifier.verify(&token).await.unwrap();
    }
    for bad in ["opaque-without-prefix", "scai_live_Zm9vYmFy", "skt_a.b.c", "SKT_Zm9vYmFyYmF6"] {
        assert_eq!(desk.code(bad).await, Some(Code::TokenInvalid), "{bad}");
    }
    assert_eq!(desk.calls(), 1);
}

#[tokio::test]
async fn without_an_issuer_to_ask_opaque_tokens_are_refused() {
    let error = Fixture::ready().verify(PAT).await.unwrap_err();
    assert_eq!(error.code(), Code::TokenInvalid);
    assert!(!error.message().contains(PAT));
}

#[tokio::test]
async fn what_cannot_be_a_token_is_not_looked_up() {
    let desk = Desk::new(active(json!({})));
    let (short, long) = ("skt_1234567".to_owned(), format!("skt_{}", "x".repeat(509)));
    for bad in [short, long, "skt_".into(), "skt_with space".into(), "skt_é1234567".into()] {
        assert_eq!(desk.code(&bad).await, Some(Code::TokenInvalid), "{bad}");
    }
    assert_eq!(desk.calls(), 0);
    assert_eq!(desk.code(&format!("skt_{}", "x".repeat(508))).await, None);
    assert_eq!(desk.code("skt_12345678").await, None);
}

#[tokio::test]
async fn sec_g1_an_active_answer_is_held_to_the_rules_of_a_token() {
    let now = START.unix_timestamp();
    for (changes, code) in [
        (json!({"iss": "https://evil.example"}), Code::TokenInvalid),
        (json!({"iss": null}), Code::TokenInvalid),
        (json!({"aud": "another"}), Code::TokenInvalid),
        (json!({"aud": null}), Code::TokenInvalid),
        (json!({"tenant_id": null}), Code::TokenInvalid),
        (json!({"tenant_id": "a b"}), Code::TokenInvalid),
        (json!({"sub": "system:crl"}), Code::TokenInvalid),
        (json!({"sub": null}), Code::TokenInvalid),
        (json!({"exp": null}), Code::TokenInvalid),
        (json!({"exp": now - 30}), Code::TokenExpired),
        (json!({"nbf": now + 31}), Code::TokenInvalid),
        (json!({"token_type": "DPoP"}), Code::TokenInvalid),
        (json!({"token_type": 7}), Code::TokenInvalid),
        (json!({"cnf": {"jkt": "x"}}), Code::TokenInvalid),
        (json!({"active": "true"}), Code::ServiceUnavailable),
        (json!({"active": 1}), Code::ServiceUnavailable),
        (json!({"active": null}), Code::ServiceUnavailable),
    ] {
        let desk = Desk::new(active(changes.clone()));
        assert_eq!(desk.code(PAT).await, Some(code), "{changes}");
        desk.answer(active(json!({})));
        desk.clock.advance(whole(limits::TOKEN_UNKNOWN));
        assert_eq!(desk.code(PAT).await, None, "{changes}: a refusal is not kept for longer");
    }
    for broken in ["", "[]", "true", r#"{"active":true"#, r#"{"active":false,"active":true}"#] {
        let desk = Desk::new(None);
        *desk.issuer.answer.lock().unwrap() = Some(broken.to_owned());
        assert_eq!(desk.code(PAT).await, Some(Code::ServiceUnavailable), "{broken}");
    }
}

#[tokio::test]
async fn sec_g1_an_answer_is_kept_for_a_minute_and_never_beyond_the_end_of_the_token() {
    let desk = Desk::new(active(json!({})));
    assert_eq!(desk.code(PAT).await, None);
    desk.answer(inactive());
    desk.clock.advance(whole(limits::TOKEN_KNOWN) - Duration::SECOND);
    assert_eq!((desk.code(PAT).await, desk.calls()), (None, 1));
    desk.clock.advance(Duration::SECOND);
    assert_eq!((desk.code(PAT).await, desk.calls()), (Some(Code::TokenInvalid), 2));

    let soon = Desk::new(active(json!({"exp": START.unix_timestamp() + 10})));
    assert_eq!(soon.code(PAT).await, None);
    soon.answer(inactive());
    soon.clock.advance(Duration::seconds(9));
    assert_eq!((soon.code(PAT).await, soon.calls()), (None, 1));
    soon.clock.advance(Duration::SECOND);
    assert_eq!((soon.code(PAT).await, soon.calls()), (Some(Code::TokenInvalid), 2));

    // After the clock was set back nothing is known.
    let back = Desk::new(active(json!({"iat": null})));
    assert_eq!(back.code(PAT).await, None);
    back.clock.advance(-Duration::SECOND);
    assert_eq!((back.code(PAT).await, back.calls()), (None, 2));
}

#[tokio::test]
async fn a_token_that_nobody_vouches_for_costs_one_call_in_ten_seconds() {
    let desk = Desk::new(inactive());
    for _ in 0..20 {
        assert_eq!(desk.code(PAT).await, Some(Code::TokenInvalid));
    }
    assert_eq!(desk.calls(), 1);
    desk.answer(active(json!({})));
    desk.clock.advance(whole(limits::TOKEN_UNKNOWN) - Duration::SECOND);
    assert_eq!((desk.code(PAT).await, desk.calls()), (Some(Code::TokenInvalid), 1));
    desk.clock.advance(Duration::SECOND);
    assert_eq!((desk.code(PAT).await, desk.calls()), (None, 2));
}

#[tokio::test]
async fn those_who_come_at_once_with_one_token_wait_for_one_answer() {
    for answer in [active(json!({})), inactive(), None] {
        let desk = Desk::new(answer.clone());
        desk.issuer.gate.forget_permits(usize::MAX);
        let mut all = Box::pin(join_all((0..50).map(|_| desk.code(PAT))));
        assert!(futures_util::poll!(&mut all).is_pending());
        desk.issuer.gate.add_permits(1000);
        let codes = all.await;
        assert!(codes.windows(2).all(|two| two[0] == two[1]), "{codes:?}");
        assert_eq!((codes[0].is_none(), desk.calls()), (answer == active(json!({})), 1), "{answer:?}");
    }
}

#[tokio::test]
async fn sec_g3_an_issuer_that_is_down_is_503_and_nothing_is_kept_of_it() {
    let desk = Desk::new(None);
    let error = desk.verifier.verify(PAT).await.unwrap_err();
    assert_eq!(error.code(), Code::ServiceUnavailable);
    assert_eq!(error.details().retry_after, Some(limits::INTROSPECTION_RETRY));
    // Left alone for a moment, whoever asks.
    for token in [PAT, "skt_another-token"] {
        assert_eq!((desk.code(token).await, desk.calls()), (Some(Code::ServiceUnavailable), 1));
    }
    desk.answer(active(json!({})));
    desk.clock.advance(whole(limits::INTROSPECTION_RETRY));
    assert_eq!((desk.code(PAT).await, desk.calls()), (None, 2));
    // What is known goes on for its minute, and no longer.
    desk.answer(None);
    desk.clock.advance(whole(limits::TOKEN_KNOWN) - Duration::SECOND);
    assert_eq!(desk.code(PAT).await, None);
    desk.clock.advance(Duration::SECOND);
    assert_eq!(desk.code(PAT).await, Some(Code::ServiceUnavailable));
    // JWTs need nobody.
    assert_eq!(desk.code(&RSA.token(json!({}))).await, None);
}

#[tokio::test]
async fn a_caller_who_hangs_up_leaves_the_look_to_the_others() {
    let desk = Desk::new(active(json!({})));
    desk.issuer.gate.forget_permits(usize::MAX);
    let mut first = Box::pin(desk.code(PAT));
    assert!(futures_util::poll!(&mut first).is_pending());
    let mut second = Box::pin(desk.code(PAT));
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    desk.issuer.gate.add_permits(1000);
    assert_eq!(second.await, None);
}

/// A verifier of opaque tokens over HTTP, with `path` for the endpoint unless it is to be discovered.
fn over_http(stub: &Stub, path: Option<&str>) -> HttpIntrospection {
    let url = |path: &str| ServiceUrl::parse(&format!("http://{}{path}", stub.address)).unwrap();
    let egress = Egress::builder().build().unwrap();
    let secret = Zeroizing::new("s3:cr%t canary".to_owned());
    HttpIntrospection::new(egress, url(""), path.map(url), "vault:1", secret)
}

#[tokio::test]
async fn the_issuer_is_asked_as_a_client_that_it_knows() {
    let stub = Stub::start(&[("/introspect", ok(r#"{"active":false}"#))]).await;
    let source = over_http(&stub, Some("/introspect"));
    assert_eq!(source.introspect("skt_a+b/c==").await.unwrap(), r#"{"active":false}"#);
    let request = stub.requests().remove(0);
    let pair = base64::engine::general_purpose::STANDARD.encode("vault%3A1:s3%3Acr%25t%20canary");
    assert!(request.starts_with("POST /introspect HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("authorization: Basic {pair}\r\n")), "{request}");
    assert!(request.ends_with("\r\n\r\ntoken=skt_a%2Bb%2Fc%3D%3D&token_type_hint=access_token"), "{request}");
    assert!(!format!("{source:?}").contains("canary"), "{source:?}");
}

#[tokio::test]
async fn the_endpoint_is_discovered_once() {
    let document = open_ended(r#"{"jwks_uri":"BASE/keys","introspection_endpoint":"BASE/token/introspect"}"#);
    let answers =
        [("/.well-known/openid-configuration", document), ("/token/introspect", ok(r#"{"active":false}"#))];
    let stub = Stub::start(&answers).await;
    let source = over_http(&stub, None);
    for _ in 0..3 {
        source.introspect(PAT).await.unwrap();
    }
    assert_eq!(
        stub.asked().iter().filter(|path| path.contains("well-known")).count(),
        2,
        "{:?}",
        stub.asked()
    );
    let none = Stub::start(&[("/.well-known/openid-configuration", ok(r#"{"jwks_uri":"x"}"#))]).await;
    let error = over_http(&none, None).introspect(PAT).await.unwrap_err();
    assert!(error.causes().contains("has no introspection_endpoint"), "{}", error.causes());
}

#[tokio::test]
async fn only_a_200_of_bounded_size_is_an_answer_and_errors_hold_no_token() {
    let big = " ".repeat(limits::INTROSPECTION_BYTES + 1);
    let answers = [
        ("/401", status("401 Unauthorized", "")),
        ("/302", status("302 Found", "Location: /good\r\n")),
        ("/big", ok(&big)),
        ("/good", ok(r#"{"active":true}"#)),
    ];
    let stub = Stub::start(&answers).await;
    for path in ["/401", "/302", "/big", "/500"] {
        let error = over_http(&stub, Some(path)).introspect(PAT).await.unwrap_err();
        let told = format!("{error} {error:?} {}", error.causes());
        assert!(told.contains(path) && !told.contains(PAT) && !told.contains("canary"), "{told}");
    }
    assert!(!stub.asked().contains(&"/good".to_owned()));
}
