//! A *fake* identity provider that checks what it is sent, and mints what it is told to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{MintRequest, ScaiKeyMinter, TokenMinter};
use crate::{
    Clock as _, Code, PartnerId, Scope, StaticJwks, SystemClock, TenantId, TokenSettings, TokenVerifier,
    egress::{Egress, ServiceUrl},
    policy::PathPattern,
};

type Change = Box<dyn Fn(&mut Value) + Send>;

struct FakeScaiKey {
    base: String,
    key: EncodingKey,
    jwks: String,
    /// The forms that were sent, decoded.
    forms: Mutex<Vec<BTreeMap<String, String>>>,
    /// What it does to the claims before it signs them, and to its answer.
    change: Mutex<(Change, Change)>,
}

impl FakeScaiKey {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pkcs8 = rcgen::KeyPair::generate().unwrap().serialize_der();
        let key = EncodingKey::from_ec_der(&pkcs8);
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = json!("k1");
        let fake = Arc::new(Self {
            base: format!("http://{}", listener.local_addr().unwrap()),
            key,
            jwks: json!({ "keys": [jwk] }).to_string(),
            forms: Mutex::default(),
            change: Mutex::new((Box::new(|_| {}), Box::new(|_| {}))),
        });
        let serving = Arc::clone(&fake);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.serve(stream).await;
            }
        });
        fake
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let (head, body) = loop {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            bytes.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_ascii_lowercase() + "\r\n" + head;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                break (head.clone(), body.to_owned());
            }
        };
        let (status, answer) = self.answer(&head, &body);
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    fn answer(&self, head: &str, body: &str) -> (u16, String) {
        if head.contains("get /api/v1/platform/oauth/.well-known/openid-configuration ") {
            let token = format!("{}/token", self.base);
            return (200, json!({ "issuer": self.base, "token_endpoint": token }).to_string());
        }
        let basic =
            format!("Authorization: Basic {}", STANDARD.encode("vault%2Fone:s%3Acret")).to_ascii_lowercase();
        if !head.contains("post /token ") || !head.to_ascii_lowercase().contains(&basic) {
            return (401, json!({ "error": "invalid_client" }).to_string());
        }
        let form: BTreeMap<String, String> = body
            .split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        let now = SystemClock.now().unix_timestamp();
        let paths: Vec<_> = form["allowed_paths"].split(' ').collect();
        let mut claims = json!({
            "iss": self.base, "aud": form["audience"], "sub": form["requested_subject"], "tenant_id": form["tenant_id"],
            "partner_id": form["partner_id"], "scope": form["scope"], "allowed_paths": paths, "iat": now,
            "exp": now + form["requested_lifetime"].parse::<i64>().unwrap(),
        });
        self.forms.lock().unwrap().push(form);
        let change = self.change.lock().unwrap();
        (change.0)(&mut claims);
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("k1".to_owned());
        let mut answer = json!({
            "access_token": jsonwebtoken::encode(&header, &claims, &self.key).unwrap(), "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "expires_in": 3600,
        });
        (change.1)(&mut answer);
        (200, answer.to_string())
    }

    fn minter(&self, client: &str) -> ScaiKeyMinter {
        let settings = TokenSettings {
            issuers: vec![self.base.clone()],
            audiences: vec!["scaivault".to_owned()],
            default_partner: None,
        };
        let keys = Arc::new(StaticJwks::new(self.jwks.clone()));
        let clock = Arc::new(SystemClock);
        let verifier = Arc::new(TokenVerifier::new(keys, settings, clock.clone()).unwrap());
        let issuer = ServiceUrl::parse(&self.base).unwrap();
        let client = (client.to_owned(), "s:cret".to_owned().into());
        ScaiKeyMinter::new(Egress::builder().build().unwrap(), issuer, client, "scaivault", verifier, clock)
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

async fn mint(minter: &ScaiKeyMinter) -> crate::Result<super::Minted> {
    let (tenant, partner) = (TenantId::parse("tnt_acme").unwrap(), PartnerId::parse("ptn_acme").unwrap());
    let paths = ["app/**", "x/*"].map(|text| PathPattern::parse(text).unwrap());
    let wanted = MintRequest {
        tenant: &tenant,
        partner: &partner,
        service_account: "sa:billing",
        scopes: &[Scope::SecretsRead, Scope::SecretsList],
        allowed_paths: &paths,
        ttl: Duration::from_secs(900),
        subject_token: "foreign.to+ken/1",
        subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
    };
    minter.mint(&wanted).await
}

#[tokio::test]
async fn the_identity_provider_is_asked_for_exactly_what_is_given_out() {
    let fake = FakeScaiKey::start().await;
    let minted = mint(&fake.minter("vault/one")).await.unwrap();
    assert!((895..=900).contains(&minted.ttl.as_secs()), "{minted:?}");
    assert!(!format!("{minted:?}").contains(&minted.token[..20]));
    let forms = fake.forms.lock().unwrap();
    let expected = [
        ("allowed_paths", "app/** x/*"),
        ("audience", "scaivault"),
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("partner_id", "ptn_acme"),
        ("requested_lifetime", "900"),
        ("requested_subject", "sa:billing"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("scope", "secrets:read secrets:list"),
        ("subject_token", "foreign.to+ken/1"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("tenant_id", "tnt_acme"),
    ];
    assert_eq!(forms.len(), 1);
    assert_eq!(forms[0].iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn sec_g2_a_token_that_says_more_or_else_than_was_asked_for_is_given_to_nobody() {
    let fake = FakeScaiKey::start().await;
    let minter = fake.minter("vault/one");
    let now = SystemClock.now().unix_timestamp();
    let claim = |name: &'static str, value: Value| -> (Change, Change) {
        (Box::new(move |claims: &mut Value| claims[name] = value.clone()), Box::new(|_| {}))
    };
    let answer = |name: &'static str, value: Value| -> (Change, Change) {
        (Box::new(|_| {}), Box::new(move |answer: &mut Value| answer[name] = value.clone()))
    };
    let cases = vec![
        claim("sub", json!("sa:admin")),
        claim("sub", json!("user:billing")),
        claim("tenant_id", json!("tnt_other")),
        claim("role", json!("tenant_admin")),
        claim("roles", json!(["super_admin"])),
        claim("scope", json!("secrets:read secrets:list admin")),
        claim("scope", json!("secrets:read")),
        claim("allowed_paths", json!(["**"])),
        claim("allowed_paths", json!(["app/**"])),
        claim("allowed_paths", json!("app/**")),
        claim("exp", json!(now + 3600)),
        claim("exp", json!(now - 60)),
        claim("iss", json!("https://evil.example")),
        claim("aud", json!("other")),
        claim("cnf", json!({ "jkt": "x" })),
        answer("token_type", json!("N_A")),
        answer("issued_token_type", json!("urn:ietf:params:oauth:token-type:refresh_token")),
        answer("access_token", json!("opaque")),
        answer("access_token", json!(null)),
    ];
    for (at, change) in cases.into_iter().enumerate() {
        *fake.change.lock().unwrap() = change;
        let error = mint(&minter).await.expect_err(&format!("case {at}"));
        assert_eq!(error.code(), Code::ServiceUnavailable, "case {at}");
    }
    *fake.change.lock().unwrap() = claim("name", json!("Billing"));
    mint(&minter).await.unwrap();
    let error = mint(&fake.minter("somebody")).await.unwrap_err();
    assert_eq!(error.code(), Code::ServiceUnavailable);
    assert!(error.causes().contains("401") && !error.causes().contains("s:cret"), "{}", error.causes());
}
