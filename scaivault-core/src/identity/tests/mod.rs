//! Tokens are signed, and key sets written, by `jsonwebtoken`: an implementation that the room under
//! test does not use.

mod discovery;
mod forged;
mod introspection;
mod keys;
mod token;

use std::sync::{
    Arc, LazyLock, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, KeyPair as _,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, macros::datetime};
use tokio::sync::Semaphore;

use super::*;
use crate::{Clock, Error, Result};

const START: OffsetDateTime = datetime!(2026-04-23 18:00 UTC);
const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "scaivault";

static RSA: LazyLock<Key> = LazyLock::new(|| Key::rsa("rsa-1", KeySize::Rsa2048));
static RSA_2: LazyLock<Key> = LazyLock::new(|| Key::rsa("rsa-2", KeySize::Rsa2048));
static EC: LazyLock<Key> =
    LazyLock::new(|| Key::ec("ec-1", &ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::ES256));
static P384: LazyLock<Key> =
    LazyLock::new(|| Key::ec("p384-1", &ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::ES384));

/// A signature key of an issuer.
struct Key {
    private: EncodingKey,
    algorithm: Algorithm,
    kid: &'static str,
    jwk: Value,
    /// The public key in its own structure: PKCS #1, or the point.
    public: Vec<u8>,
}

impl Key {
    fn rsa(kid: &'static str, size: KeySize) -> Self {
        let pair = KeyPair::generate(size).unwrap();
        let pkcs8 = pair.as_der().unwrap();
        // `jsonwebtoken` reads the PKCS #1 structure inside.
        let private = EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]);
        Self::new(kid, private, Algorithm::RS256, pair.public_key().as_ref())
    }

    fn ec(kid: &'static str, curve: &'static EcdsaSigningAlgorithm, algorithm: Algorithm) -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(curve, pkcs8.as_ref()).unwrap();
        Self::new(kid, EncodingKey::from_ec_der(pkcs8.as_ref()), algorithm, pair.public_key().as_ref())
    }

    fn new(kid: &'static str, private: EncodingKey, algorithm: Algorithm, public: &[u8]) -> Self {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&private, algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        Self { private, algorithm, kid, jwk, public: public.to_vec() }
    }

    /// The public key with members changed; `null` removes one.
    fn jwk_with(&self, changes: Value) -> Value {
        edited(self.jwk.clone(), changes)
    }

    fn header(&self) -> Value {
        json!({"alg": format!("{:?}", self.algorithm), "kid": self.kid, "typ": "JWT"})
    }

    /// A token of exactly these texts, whatever they say.
    fn sign(&self, header: &str, payload: &str) -> String {
        self.sign_as(self.algorithm, header.as_bytes(), payload.as_bytes())
    }

    /// The same with another algorithm that the key could serve for, and of any bytes.
    fn sign_as(&self, algorithm: Algorithm, header: &[u8], payload: &[u8]) -> String {
        signed(&self.private, algorithm, header, payload)
    }

    /// A good token, but for these claims; `null` removes one.
    fn token(&self, changes: Value) -> String {
        self.sign(&self.header().to_string(), &edited(claims(), changes).to_string())
    }
}

fn signed(key: &EncodingKey, algorithm: Algorithm, header: &[u8], payload: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn claims() -> Value {
    let now = START.unix_timestamp();
    json!({
        "iss": format!("{ISSUER}/tenants/tnt_acme"), "aud": AUDIENCE, "sub": "user:alice@acme.example",
        "tenant_id": "tnt_acme", "iat": now, "exp": now + 3600, "scope": "secrets:read other:thing",
    })
}

fn edited(mut object: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => _ = object.as_object_mut().unwrap().remove(name),
            value => object[name] = value.clone(),
        }
    }
    object
}

fn set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| &key.jwk).collect::<Vec<_>>()}).to_string()
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct TestClock(Mutex<OffsetDateTime>);

impl TestClock {
    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

/// An issuer that answers as told, counts, and can be held back.
#[derive(Debug)]
struct TestSource {
    body: Mutex<Option<String>>,
    calls: AtomicUsize,
    gate: Semaphore,
}

impl TestSource {
    /// `None` is an issuer that is down.
    fn answer(&self, body: Option<String>) {
        *self.body.lock().unwrap() = body;
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl JwksSource for TestSource {
    async fn fetch(&self) -> Result<String> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        _ = self.gate.acquire().await.unwrap();
        self.body.lock().unwrap().clone().ok_or_else(|| Error::internal("connection refused"))
    }
}

struct Fixture {
    clock: Arc<TestClock>,
    source: Arc<TestSource>,
    verifier: TokenVerifier,
}

impl Fixture {
    fn new(body: Option<String>) -> Self {
        let clock = Arc::new(TestClock(Mutex::new(START)));
        let source = Arc::new(TestSource {
            body: Mutex::new(body),
            calls: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let (keys, time): (Arc<dyn JwksSource>, Arc<dyn Clock>) = (source.clone(), clock.clone());
        let verifier = TokenVerifier::new(keys, settings(), time).unwrap();
        Self { clock, source, verifier }
    }

    /// With every key that the tests sign with.
    fn ready() -> Self {
        Self::new(Some(set(&[&RSA, &EC, &P384])))
    }

    async fn verify(&self, token: &str) -> Result<Caller> {
        self.verifier.verify(token).await
    }
}

fn settings() -> TokenSettings {
    TokenSettings {
        issuers: vec!["https://other.example".into(), ISSUER.into()],
        audiences: vec!["other".into(), AUDIENCE.into()],
        default_partner: None,
    }
}
