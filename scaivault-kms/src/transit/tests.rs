//! Against a real server: `SCAIVAULT_TEST_TRANSIT` is the address of one with Transit at `transit/`, for
//! scratch, whose root token is `SCAIVAULT_TEST_TRANSIT_TOKEN`. `scripts/kms-test` starts one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    client::{Client, body, success},
    session::Session,
    *,
};
use crate::{
    Cause, Context, KeyProvider, KeyRef, KeySpec, KmsError, Secret, SecretKey, SignatureScheme, WrappedKey,
    conformance,
};

/// A server for the tests, and an administrator there.
struct Ground {
    address: String,
    token: String,
    ca_pem: Option<Vec<u8>>,
    admin: Arc<Session>,
}

#[expect(clippy::disallowed_methods, reason = "which peers there are is told by the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Ground {
    /// `None`, having said so, where there is no server.
    fn find(kind: &str) -> Option<Self> {
        let Some(address) = variable(kind) else {
            skipped(kind);
            return None;
        };
        let token = variable("SCAIVAULT_TEST_TRANSIT_TOKEN").unwrap_or_else(|| "root".into());
        let ca_pem = variable(&format!("{kind}_CA")).map(|path| std::fs::read(path).unwrap());
        let mut config = TransitConfig::new(&address, "none", Auth::Token(secret(&token)));
        config.ca_pem = ca_pem.clone();
        let client = Client::new(&config).unwrap();
        let admin = Arc::new(Session::new(client, config.auth));
        Some(Self { address, token, ca_pem, admin })
    }

    fn config(&self, key: &str) -> TransitConfig {
        let mut config = TransitConfig::new(&self.address, key, Auth::Token(secret(&self.token)));
        config.ca_pem = self.ca_pem.clone();
        config
    }

    async fn admin(&self, method: Method, path: &str, with: Value) -> Value {
        let answer = self.admin.call(method, path, Some(body(&with).unwrap()), path).await.unwrap();
        if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer).unwrap() }
    }

    async fn post(&self, path: &str, with: Value) -> Value {
        self.admin(Method::POST, path, with).await
    }

    /// A new key, and its name.
    async fn key(&self, with: Value) -> String {
        let name = fresh("root");
        self.post(&format!("transit/keys/{name}"), with).await;
        name
    }

    async fn root(&self, with: Value) -> TransitProvider {
        let name = self.key(with).await;
        TransitProvider::connect(self.config(&name)).await.unwrap()
    }

    /// A token with a policy of these rules alone.
    async fn token(&self, rules: &str, ttl: &str) -> String {
        let policy = fresh("policy");
        self.post(&format!("sys/policies/acl/{policy}"), json!({ "policy": rules })).await;
        let made = self.post("auth/token/create", json!({ "policies": [policy], "ttl": ttl })).await;
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    fn as_token(&self, key: &str, token: &str) -> TransitProvider {
        let mut config = self.config(key);
        config.auth = Auth::Token(secret(token));
        TransitProvider::new(config).unwrap()
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped(kind: &str) {
    eprintln!("skipped: {kind} is not set");
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn fresh(what: &str) -> String {
    format!("{what}-{}", hex::encode(&SecretKey::generate().unwrap().expose()[..6]))
}

fn context() -> Context {
    Context::new().with("partner", "ptn_1").with("version", "1")
}

fn key() -> SecretKey {
    SecretKey::generate().unwrap()
}

/// Rules for everything that a provider does with its root key.
fn rules(key: &str) -> String {
    let may =
        |path: &str, what: &str| format!("path \"transit/{path}/{key}\" {{ capabilities = [\"{what}\"] }}\n");
    [("keys", "read"), ("encrypt", "update"), ("decrypt", "update"), ("rewrap", "update")]
        .map(|(path, what)| may(path, what))
        .concat()
}

const SERVER: &str = "SCAIVAULT_TEST_TRANSIT";
const TLS_SERVER: &str = "SCAIVAULT_TEST_TRANSIT_TLS";

#[tokio::test]
async fn keeps_every_promise_under_each_kind_of_key() {
    let Some(ground) = Ground::find(SERVER) else { return };
    for with in [
        json!({ "type": "aes256-gcm96" }),
        json!({ "type": "aes256-gcm96", "derived": true }),
        json!({ "type": "chacha20-poly1305" }),
        json!({ "type": "xchacha20-poly1305" }),
    ] {
        let (one, other) = (ground.root(with.clone()).await, ground.root(with.clone()).await);
        conformance::all(&one, &other).await.unwrap_or_else(|broken| panic!("{with}: {broken}"));
        conformance::survives_rotation(&one).await.unwrap();
    }
}

#[tokio::test]
async fn a_rotation_is_told_and_a_version_that_may_not_be_used_is_disabled() {
    let Some(ground) = Ground::find(SERVER) else { return };
    for derived in [false, true] {
        let root = ground.root(json!({ "derived": derived })).await;
        let key = key();
        let first = root.wrap(&key, &context()).await.unwrap();
        root.health().await.unwrap();
        assert_eq!(first.key_version.as_deref(), Some("1"));
        assert_eq!(root.rotate().await.unwrap().key_version.as_deref(), Some("2"));
        let second = root.rewrap(&first, &context()).await.unwrap();
        assert_eq!(second.key_version.as_deref(), Some("2"));
        assert!(root.rewrap(&first, &Context::new()).await.is_err());

        let path = format!("{}/config", root_path(&root));
        ground.post(&path, json!({ "min_decryption_version": 2 })).await;
        let error = root.unwrap(&first, &context()).await.unwrap_err();
        assert!(matches!(error, KmsError::Disabled { .. }), "{error:?}");
        assert!(root.unwrap(&second, &context()).await.unwrap().ct_eq(&key));
        root.health().await.unwrap();

        // Versions that the service would read in its own way, or has not made yet.
        for (version, missing) in [("0", false), ("-1", false), ("", false), ("9", true)] {
            let odd = WrappedKey { key_version: Some(version.into()), ..second.clone() };
            let error = root.unwrap(&odd, &context()).await.unwrap_err();
            assert_eq!(matches!(error, KmsError::NotFound { .. }), missing, "{version}: {error:?}");
        }
    }
}

fn root_path(root: &TransitProvider) -> String {
    let id = root.describe().key_id;
    let (mount, name) = id.rsplit_once('/').unwrap();
    format!("{mount}/keys/{name}")
}

#[tokio::test]
async fn a_root_key_is_made_by_name_alone_and_once() {
    let Some(ground) = Ground::find(SERVER) else { return };
    let name = fresh("made");
    let provider = TransitProvider::new(ground.config(&name)).unwrap();
    conformance::creates_its_root_key_once(&provider).await.unwrap();
    assert!(!provider.describe().extractable);
    let policy = format!("path \"transit/keys/{name}-2\" {{ capabilities = [\"read\"] }}");
    let weak = ground.as_token(&format!("{name}-2"), &ground.token(&policy, "1h").await);
    let error = weak.create_root().await.unwrap_err();
    assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");
}

#[tokio::test]
async fn nothing_is_made_because_it_is_missing() {
    let Some(ground) = Ground::find(SERVER) else { return };
    let missing = fresh("missing");
    let error = TransitProvider::connect(ground.config(&missing)).await.unwrap_err();
    assert!(matches!(error, KmsError::NotFound { .. }), "{error:?}");

    // A key that goes away while we run, under the token of an administrator, who may create.
    let root = ground.root(json!({})).await;
    let wrapped = root.wrap(&key(), &context()).await.unwrap();
    let path = root_path(&root);
    ground.post(&format!("{path}/config"), json!({ "deletion_allowed": true })).await;
    ground.admin(Method::DELETE, &path, json!({})).await;
    for result in
        [root.wrap(&key(), &context()).await.map(drop), root.unwrap(&wrapped, &context()).await.map(drop)]
    {
        assert!(matches!(result, Err(KmsError::NotFound { .. })), "{result:?}");
    }
    let again = ground.admin.call(Method::GET, &path, None, "").await;
    assert!(matches!(again, Err(KmsError::NotFound { .. })), "it was not made again");

    let mut config = ground.config("k");
    config.mount = "nothing-here".into();
    let error = TransitProvider::connect(config).await.unwrap_err();
    assert!(error.to_string().contains("nothing is mounted"), "{error}");
    let mut config = ground.config("k");
    config.namespace = Some("no-such".into());
    let error = TransitProvider::connect(config).await.unwrap_err();
    assert!(matches!(error, KmsError::NotFound { .. }) && error.to_string().contains("namespace"), "{error}");
}

#[tokio::test]
async fn a_namespace_has_its_own_keys() {
    let Some(ground) = Ground::find(SERVER) else { return };
    let namespace = fresh("ns");
    ground.post(&format!("sys/namespaces/{namespace}"), json!({})).await;
    ground.post(&format!("{namespace}/sys/mounts/transit"), json!({ "type": "transit" })).await;
    ground.post(&format!("{namespace}/transit/keys/k"), json!({})).await;
    let mut config = ground.config("k");
    config.namespace = Some(namespace.clone());
    let root = TransitProvider::connect(config).await.unwrap();
    conformance::opens_what_it_wrapped(&root).await.unwrap();
    assert_eq!(root.describe().key_id, format!("{namespace}/transit/k"));
}

#[tokio::test]
async fn a_key_that_is_unfit_or_deleted_is_told_apart() {
    let Some(ground) = Ground::find(SERVER) else { return };
    for with in [
        json!({ "type": "rsa-2048" }),
        json!({ "type": "ecdsa-p256" }),
        json!({ "type": "aes128-gcm96" }),
        json!({ "type": "aes256-gcm96", "derived": true, "convergent_encryption": true }),
    ] {
        let name = ground.key(with.clone()).await;
        let error = TransitProvider::connect(ground.config(&name)).await.unwrap_err();
        assert!(matches!(error, KmsError::Unsupported { .. }), "{with}: {error:?}");
    }
    let root = ground.root(json!({})).await;
    let wrapped = root.wrap(&key(), &context()).await.unwrap();
    ground.admin(Method::DELETE, &format!("{}/soft-delete", root_path(&root)), json!({})).await;
    for result in [
        root.wrap(&key(), &context()).await.map(drop),
        root.unwrap(&wrapped, &context()).await.map(drop),
        root.health().await.map(drop),
        TransitProvider::connect(ground.config(&root.describe().key_id[8..])).await.map(drop),
    ] {
        assert!(matches!(result, Err(KmsError::Disabled { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn the_fewest_rights_are_enough_and_one_less_is_denied() {
    let Some(ground) = Ground::find(SERVER) else { return };
    let name = ground.key(json!({})).await;
    let root = ground.as_token(&name, &ground.token(&rules(&name), "10m").await);
    conformance::opens_what_it_wrapped(&root).await.unwrap();
    let wrapped = root.wrap(&key(), &context()).await.unwrap();
    let error = root.rotate().await.unwrap_err();
    assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");

    let fewer = rules(&name).replace("transit/decrypt", "transit/nothing");
    let fewer = ground.as_token(&name, &ground.token(&fewer, "10m").await);
    fewer.wrap(&key(), &context()).await.unwrap();
    let error = fewer.unwrap(&wrapped, &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");
    assert!(matches!(fewer.health().await, Err(KmsError::Denied { .. })));
}

#[tokio::test]
async fn a_token_that_is_wrong_over_or_revoked_is_told_and_not_shown() {
    let Some(ground) = Ground::find(SERVER) else { return };
    let name = ground.key(json!({})).await;
    let canary = "s.canarycanarycanarycanary";
    let wrong = ground.as_token(&name, canary);
    let error = wrong.wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    assert!(!format!("{error} {error:?} {wrong:?} {:?}", ground.config("k")).contains("canary"));

    let token = ground.token(&rules(&name), "10m").await;
    let root = ground.as_token(&name, &token);
    root.wrap(&key(), &context()).await.unwrap();
    ground.post("auth/token/revoke", json!({ "token": token })).await;
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");

    let made = json!({ "policies": ["root"], "ttl": "1s", "renewable": false });
    let made = ground.post("auth/token/create", made).await;
    let over = ground.as_token(&name, made["auth"]["client_token"].as_str().unwrap());
    over.wrap(&key(), &context()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let error = over.wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
}

#[tokio::test]
async fn a_token_is_renewed_while_nobody_asks() {
    let Some(ground) = Ground::find(SERVER) else { return };
    let name = ground.key(json!({})).await;
    let root = ground.as_token(&name, &ground.token(&rules(&name), "3s").await);
    root.wrap(&key(), &context()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    root.wrap(&key(), &context()).await.unwrap();
}

#[tokio::test]
async fn an_app_role_logs_in_again_when_its_token_is_over_or_taken() {
    let Some(ground) = Ground::find(SERVER) else { return };
    let name = ground.key(json!({})).await;
    let (mount, policy) = (fresh("approle"), fresh("policy"));
    ground.post(&format!("sys/auth/{mount}"), json!({ "type": "approle" })).await;
    ground.post(&format!("sys/policies/acl/{policy}"), json!({ "policy": rules(&name) })).await;
    let role = format!("auth/{mount}/role/scai");
    let terms = json!({ "token_ttl": "2s", "token_max_ttl": "3s", "token_policies": [policy] });
    ground.post(&role, terms).await;
    let told = ground.admin(Method::GET, &format!("{role}/role-id"), json!({})).await;
    let role_id = told["data"]["role_id"].as_str().unwrap().to_owned();
    let told = ground.post(&format!("{role}/secret-id"), json!({})).await;
    let secret_id = told["data"]["secret_id"].as_str().unwrap().to_owned();
    let with = |mount: &str, secret_id: &str| {
        let mut config = ground.config(&name);
        config.auth = Auth::AppRole {
            mount: mount.to_owned(),
            role_id: role_id.clone(),
            secret_id: Some(secret(secret_id)),
        };
        TransitProvider::new(config).unwrap()
    };

    let root = Arc::new(with(&mount, &secret_id));
    // Twenty at once need one login; how many there were, the accessors tell.
    let before = accessors(&ground).await;
    let calls = (0..20).map(|_| {
        tokio::spawn({
            let root = root.clone();
            async move { root.wrap(&key(), &context()).await }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert!(accessors(&ground).await < before + 15, "other tests make a few at the same time");

    // Past the end of what renewal gives, without an error in between.
    for _ in 0..8 {
        root.wrap(&key(), &context()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    // Every token of the role taken away.
    ground.post(&format!("sys/leases/revoke-prefix/auth/{mount}/login"), json!({})).await;
    root.wrap(&key(), &context()).await.unwrap();

    let error = with(&mount, "canary-wrong").wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("canary"));
    // To somebody without a token the server does not say what is mounted where.
    let error = with("nothing-here", &secret_id).wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
}

async fn accessors(ground: &Ground) -> usize {
    let method = Method::from_bytes(b"LIST").unwrap();
    let told = ground.admin(method, "auth/token/accessors", json!({})).await;
    told["data"]["keys"].as_array().unwrap().len()
}

/// The server's method JWT takes the same request as its method Kubernetes, which needs a cluster.
#[tokio::test]
async fn a_service_account_logs_in_with_the_token_in_its_file() {
    let Some(ground) = Ground::find(SERVER) else { return };
    let name = ground.key(json!({})).await;
    let (mount, policy) = (fresh("kubernetes"), fresh("policy"));
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let public = STANDARD.encode(pair.public_key().as_der().unwrap().as_ref());
    let public = format!("-----BEGIN PUBLIC KEY-----\n{public}\n-----END PUBLIC KEY-----\n");
    ground.post(&format!("sys/auth/{mount}"), json!({ "type": "jwt" })).await;
    ground.post(&format!("auth/{mount}/config"), json!({ "jwt_validation_pubkeys": [public] })).await;
    ground.post(&format!("sys/policies/acl/{policy}"), json!({ "policy": rules(&name) })).await;
    let role = json!({ "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"],
        "token_policies": [policy], "token_ttl": "5m" });
    ground.post(&format!("auth/{mount}/role/scai"), role).await;

    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "sub": "scai", "aud": "vault", "iat": 1_700_000_000, "exp": 4_000_000_000_u64 });
    let signed = format!("{}.{}", part(json!({ "alg": "ES256", "typ": "JWT" })), part(claims));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let jwt_file = dir.path().join("token");
    let config = |jwt_file: &std::path::Path| {
        let mut config = ground.config(&name);
        config.auth =
            Auth::Kubernetes { mount: mount.clone(), role: "scai".into(), jwt_file: jwt_file.to_owned() };
        TransitProvider::new(config).unwrap()
    };
    let root = config(&jwt_file);
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    std::fs::write(&jwt_file, format!("{signed}.{}\n", URL_SAFE_NO_PAD.encode(signature.as_ref()))).unwrap();
    root.wrap(&key(), &context()).await.unwrap();
    std::fs::write(&jwt_file, "canary.canary.canary").unwrap();
    let error = config(&jwt_file).wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn a_signing_key_of_each_kind_signs_by_each_of_its_schemes() {
    let Some(ground) = Ground::find(SERVER) else { return };
    let root = ground.root(json!({})).await;
    for spec in &crate::spki::SPECS {
        let name = fresh("ca");
        let key_ref = KeyRef(name.clone());
        conformance::creates_a_signing_key_once(&root, &name, &key_ref, *spec).await.unwrap();
        let name = fresh("ca");
        let made = root.create_signing_key(&name, *spec).await.unwrap();
        assert_eq!(made.spec(), *spec);
        let mut schemes = 0;
        for scheme in root.describe().signature_schemes {
            // Every signature was checked under the public key before it got here.
            match made.sign(scheme, b"to be signed").await {
                Ok(_) => schemes += 1,
                Err(error) => assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}"),
            }
        }
        assert_eq!(schemes, if spec.as_str().starts_with("rsa") { 3 } else { 1 }, "{spec:?}");

        let error = root.create_signing_key(&name, *spec).await.unwrap_err();
        assert!(matches!(error, KmsError::Invalid { .. }), "made once: {error:?}");
        // A rotation by somebody else does not change the key of a CA.
        ground.post(&format!("transit/keys/{name}/rotate"), json!({})).await;
        let found = root.signing_key(&KeyRef(name.clone())).await.unwrap();
        assert_eq!(found.public_key_der(), made.public_key_der());
        found.sign(spec.default_scheme(), &[7; 100_000]).await.unwrap();
        made.sign(spec.default_scheme(), b"to be signed").await.unwrap();
        let second = root.signing_key(&KeyRef(format!("{name}@2"))).await.unwrap();
        assert_ne!(second.public_key_der(), made.public_key_der());
        second.sign(spec.default_scheme(), b"to be signed").await.unwrap();
        let error = root.signing_key(&KeyRef(format!("{name}@3"))).await.unwrap_err();
        assert!(matches!(error, KmsError::NotFound { .. }), "{error:?}");
    }
    let error = root.signing_key(&KeyRef(fresh("missing"))).await.unwrap_err();
    assert!(matches!(error, KmsError::NotFound { .. }), "{error:?}");
    for odd in ["", "../sys/seal", "a/b", "a@x", "a?b", ".."] {
        let error = root.signing_key(&KeyRef(odd.into())).await.unwrap_err();
        assert!(matches!(error, KmsError::Invalid { .. }), "{odd}: {error:?}");
    }
    let error = root.signing_key(&KeyRef(root.describe().key_id[8..].into())).await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "a root key signs nothing: {error:?}");
    let ca = root.create_signing_key(&fresh("ca"), KeySpec::EcP256).await.unwrap();
    let refused = ca.sign(SignatureScheme::RsaPssSha256, b"m").await.unwrap_err();
    assert!(matches!(refused, KmsError::Unsupported { .. }));
}

#[tokio::test]
async fn a_quota_is_throttling() {
    let Some(ground) = Ground::find(SERVER) else { return };
    let root = ground.root(json!({})).await;
    let quota = format!("sys/quotas/rate-limit/{}", fresh("q"));
    let path = root_path(&root).replace("/keys/", "/encrypt/");
    ground.post(&quota, json!({ "path": path, "rate": 0.1, "interval": "60s" })).await;
    let mut last = None;
    for _ in 0..3 {
        last = root.wrap(&key(), &context()).await.err();
    }
    let error = last.unwrap();
    assert_eq!(error.cause(), Some(Cause::Throttled), "{error:?}");
    ground.admin(Method::DELETE, &quota, json!({})).await;
}

#[tokio::test]
async fn tls_trusts_what_it_is_told_and_a_sealed_server_is_sealed() {
    let Some(ground) = Ground::find(TLS_SERVER) else { return };
    let root = ground.root(json!({})).await;
    conformance::opens_what_it_wrapped(&root).await.unwrap();

    let mut config = ground.config("k");
    config.ca_pem = None;
    let error = TransitProvider::connect(config).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Tls), "the system does not know this CA: {error:?}");

    ground.admin(Method::PUT, "sys/seal", json!({})).await;
    let sealed = root.wrap(&key(), &context()).await.unwrap_err();
    let unseal = variable("SCAIVAULT_TEST_TRANSIT_TLS_UNSEAL").unwrap();
    let client = Client::new(&ground.config("k")).unwrap();
    let request = body(&json!({ "key": unseal })).unwrap();
    let answer = client.send(Method::POST, "sys/unseal", None, Some(request)).await.unwrap();
    success(answer, "unseal").unwrap();
    assert_eq!(sealed.cause(), Some(Cause::Sealed), "{sealed:?}");
}

/// A way to a server that can be closed: connections are cut and new ones dropped.
#[cfg(feature = "guard")]
async fn way_to(server: &str) -> (String, tokio::sync::watch::Sender<bool>) {
    let (open, watch) = tokio::sync::watch::channel(true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = server.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (mut watch, server) = (watch.clone(), server.clone());
            tokio::spawn(async move {
                if *watch.borrow() {
                    let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = watch.wait_for(|open| !open) => {}
                    }
                }
            });
        }
    });
    (address, open)
}

#[cfg(feature = "guard")]
#[tokio::test]
async fn behind_the_guard_an_outage_is_answered_at_once_and_over_when_it_is_over() {
    use crate::guard::{Guarded, Latencies, Limits};

    let Some(ground) = Ground::find(SERVER) else { return };
    let name = ground.key(json!({})).await;
    let (address, open) = way_to(&ground.address).await;
    let mut config = ground.config(&name);
    config.address = address;
    let inner = Arc::new(TransitProvider::connect(config).await.unwrap());
    let limits = Limits { open_for: Duration::from_millis(300), ..Limits::default() };
    let seen = Arc::new(Latencies::new());
    let root = Guarded::new(inner, limits).observed_by(seen.clone());
    let key = key();
    let wrapped = root.wrap(&key, &context()).await.unwrap();

    open.send(false).unwrap();
    for _ in 0..2 {
        let error = root.unwrap(&wrapped, &context()).await.unwrap_err();
        assert!(matches!(error.cause(), Some(Cause::Unreachable | Cause::CircuitOpen)), "{error:?}");
    }
    assert!(root.is_open());
    let start = Instant::now();
    let error = root.unwrap(&wrapped, &context()).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::CircuitOpen), "{error:?}");
    assert!(error.retry_after().unwrap() <= Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());

    open.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert!(root.unwrap(&wrapped, &context()).await.unwrap().ct_eq(&key));
    assert!(!root.is_open() && seen.opened() == 1);

    // A connection cut in the middle costs an attempt and not the request.
    for _ in 0..5 {
        open.send(false).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        open.send(true).unwrap();
        root.unwrap(&wrapped, &context()).await.unwrap();
    }
}

/// Servers that are none.
#[tokio::test]
async fn a_server_that_hangs_lies_or_is_not_there_is_told_apart_in_time() {
    let listen = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
    let config = |scheme: &str, port: u16| {
        let address = format!("{scheme}://127.0.0.1:{port}");
        let mut config = TransitConfig::new(address, "k", Auth::Token(secret("s.canarycanarycanary")));
        config.timeout = Duration::from_millis(300);
        config
    };
    // Takes connections and says nothing; then a body that stops half-way.
    let silent = listen().await;
    let port = silent.local_addr().unwrap().port();
    for scheme in ["http", "https"] {
        let start = Instant::now();
        let error = TransitProvider::connect(config(scheme, port)).await.unwrap_err();
        assert_eq!(error.cause(), Some(Cause::Deadline), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    drop(silent);
    let error = TransitProvider::connect(config("http", port)).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Unreachable), "{error:?}");

    let answer = |text: &'static str| async move {
        let listener = listen().await;
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(text.as_bytes()).await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                });
            }
        });
        port
    };
    let half = answer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"data\":").await;
    let error = TransitProvider::connect(config("http", half)).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Deadline), "{error:?}");
    let error = TransitProvider::connect(config("https", half)).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Tls), "no TLS at all: {error:?}");
    let page = answer("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\n<p/>").await;
    let error = TransitProvider::connect(config("http", page)).await.unwrap_err();
    assert!(matches!(error, KmsError::Device { .. }), "{error:?}");
    let moved = answer("HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
    let error = TransitProvider::connect(config("http", moved)).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Sealed), "not followed: {error:?}");
    assert!(!format!("{error:?}").contains("canary"));
}

#[test]
fn a_configuration_that_cannot_be_right_is_refused() {
    let with = |change: &dyn Fn(&mut TransitConfig)| {
        let mut config =
            TransitConfig::new("https://vault.test:8200", "scai", Auth::Token(secret("s.canary")));
        change(&mut config);
        TransitProvider::new(config)
    };
    assert!(with(&|_| ()).is_ok());
    assert!(with(&|c| c.address = "http://127.0.0.1:8200".into()).is_ok());
    assert!(with(&|c| c.address = "https://vault.test/behind/a/proxy/".into()).is_ok());
    let wrong: &[&dyn Fn(&mut TransitConfig)] = &[
        &|c| c.address = "http://vault.test:8200".into(),
        &|c| c.address = "http://127.0.0.1.vault.test:8200".into(),
        &|c| c.address = "vault.test".into(),
        &|c| c.address = "ftp://vault.test".into(),
        &|c| c.address = "https://user:canary@vault.test".into(),
        &|c| c.address = "https://vault.test/?x".into(),
        &|c| c.key = "../../sys/seal".into(),
        &|c| c.key = String::new(),
        &|c| c.mount = "a//b".into(),
        &|c| c.mount = "/transit".into(),
        &|c| c.namespace = Some("a\nb".into()),
        &|c| c.ca_pem = Some(b"canary".to_vec()),
        &|c| {
            c.auth = Auth::AppRole { mount: "..".into(), role_id: String::new(), secret_id: None };
        },
    ];
    for (at, change) in wrong.iter().enumerate() {
        let error = with(change).unwrap_err();
        assert!(matches!(error, KmsError::Invalid { .. }), "{at}: {error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{at}");
    }
    let token = Auth::Token(secret("not a\ntoken"));
    assert!(!format!("{token:?}").contains("token\""));
}
