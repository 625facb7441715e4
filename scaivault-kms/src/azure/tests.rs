//! Against [`FakeAzureKeyVault`]: there is no emulator of Key Vault's keys.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    fake::{ASSERTION, CLIENT, FakeAzureKeyVault, Fault, SECRET, TENANT},
    *,
};
use crate::{
    Cause, Context, KeyProvider, KeyRef, KeySpec, KmsError, Secret, SecretKey, SignatureScheme, WrappedKey,
    conformance, testing,
};

fn with_secret(secret: &str) -> AzureAuth {
    AzureAuth::ClientSecret {
        tenant_id: TENANT.into(),
        client_id: CLIENT.into(),
        secret: Secret::new(secret.as_bytes().to_vec()),
    }
}

fn config(fake: &FakeAzureKeyVault, url: &str) -> AzureConfig {
    let mut config = AzureConfig::new(url, with_secret(SECRET));
    config.resource = Some(fake.resource().to_owned());
    config.authority = Some(fake.url.clone());
    config.ca_pem = Some(fake.ca_pem.clone());
    config
}

fn provider(fake: &FakeAzureKeyVault, url: &str) -> AzureProvider {
    AzureProvider::new(config(fake, url)).unwrap()
}

fn root(fake: &FakeAzureKeyVault, name: &str) -> AzureProvider {
    provider(fake, &fake.root(name))
}

/// A key that is not there.
fn missing(fake: &FakeAzureKeyVault) -> AzureProvider {
    provider(fake, &format!("{}/keys/missing", fake.url))
}

fn context() -> Context {
    Context::new().with("partner", "ptn_1").with("version", "1")
}

fn key() -> SecretKey {
    SecretKey::generate().unwrap()
}

async fn wrap(provider: &AzureProvider) -> WrappedKey {
    provider.wrap(&key(), &context()).await.unwrap()
}

const AES: fn() -> serde_json::Value =
    || json!({ "kty": "oct-HSM", "key_size": 256, "key_ops": ["wrapKey", "unwrapKey"] });

#[tokio::test]
async fn keeps_every_promise_under_an_rsa_key() {
    let fake = FakeAzureKeyVault::start(false).await;
    let (one, other) = (root(&fake, "one"), root(&fake, "other"));
    conformance::all(&one, &other).await.unwrap();
    conformance::survives_rotation(&one).await.unwrap();
    assert_eq!(one.describe().key_version, fake.versions("one").pop());
    conformance::creates_its_root_key_once(&missing(&fake)).await.unwrap();
}

#[tokio::test]
async fn keeps_every_promise_in_a_managed_hsm() {
    let fake = FakeAzureKeyVault::start(true).await;
    let (one, other) = (fake.make("one", &AES()), fake.make("other", &AES()));
    let (one, other) = (provider(&fake, &one), provider(&fake, &other));
    conformance::all(&one, &other).await.unwrap();
    conformance::survives_rotation(&one).await.unwrap();
    assert_eq!(one.describe().algorithm, "A256KW+A256GCM");
    conformance::creates_its_root_key_once(&missing(&fake)).await.unwrap();
}

#[tokio::test]
async fn round_trips_are_as_few_as_is_said_and_many_callers_ask_for_one_token() {
    let fake = FakeAzureKeyVault::start(false).await;
    let root = root(&fake, "root");
    let wrapped = wrap(&root).await;
    assert_eq!(fake.counts(), (3, 1), "what the key is; wrap and sign");
    root.unwrap(&wrapped, &context()).await.unwrap();
    assert_eq!(fake.counts(), (4, 1));
    conformance::serves_many_at_once(&root).await.unwrap();
    assert_eq!(fake.counts(), (4 + 32 * 3, 1));
    let managed = FakeAzureKeyVault::start(true).await;
    let root = provider(&managed, &managed.make("root", &AES()));
    let wrapped = wrap(&root).await;
    root.unwrap(&wrapped, &context()).await.unwrap();
    assert_eq!(managed.counts(), (3, 1));
    let fresh = provider(&fake, &format!("{}/keys/root", fake.url));
    conformance::serves_many_at_once(&fresh).await.unwrap();
    assert_eq!(fake.counts().1, 2, "another provider, another token");
}

#[tokio::test]
async fn a_version_in_the_url_wraps_and_every_version_opens() {
    let fake = FakeAzureKeyVault::start(false).await;
    let url = fake.root("root");
    let newest = provider(&fake, &url);
    let before = wrap(&newest).await;
    newest.rotate().await.unwrap();
    let [first, second] = fake.versions("root").try_into().unwrap();
    let pinned = provider(&fake, &format!("{url}/{first}"));
    assert_eq!(wrap(&pinned).await.key_version.as_deref(), Some(first.as_str()));
    let after = wrap(&newest).await;
    assert_eq!(after.key_version.as_deref(), Some(second.as_str()));
    for provider in [&newest, &pinned] {
        provider.unwrap(&before, &context()).await.unwrap();
        provider.unwrap(&after, &context()).await.unwrap();
    }
    let error = pinned.rotate().await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}");
    let gone = WrappedKey { key_version: Some("0a".into()), ..before.clone() };
    let error = newest.unwrap(&gone, &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::NotFound { .. }), "{error:?}");
    let other = WrappedKey { key_version: Some(second), ..before };
    let error = newest.unwrap(&other, &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Invalid { .. }), "another version made it: {error:?}");
}

#[tokio::test]
async fn who_knows_the_public_key_alone_makes_no_wraps() {
    let fake = FakeAzureKeyVault::start(false).await;
    let root = root(&fake, "root");
    let (ours, theirs) = (wrap(&root).await, wrap(&root).await);
    let half = ours.blob.len() / 2;
    // A ciphertext that anybody could have made, with a signature of another wrap.
    let blob = [&theirs.blob[..half], &ours.blob[half..]].concat();
    let before = fake.counts().0;
    let error = root.unwrap(&WrappedKey { blob, ..ours }, &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Invalid { .. }), "{error:?}");
    assert_eq!(fake.counts().0, before, "nothing was opened");
}

#[tokio::test]
async fn signing_keys_of_each_kind_are_made_once_and_sign() {
    let fake = FakeAzureKeyVault::start(false).await;
    let root = root(&fake, "root");
    for spec in [KeySpec::EcP256, KeySpec::EcP384, KeySpec::Rsa2048, KeySpec::Rsa3072] {
        let name = format!("ca-{}", spec.as_str());
        conformance::creates_a_signing_key_once(&root, &name, &KeyRef(name.clone()), spec).await.unwrap();
        if spec.as_str().starts_with("rsa") {
            let found = root.signing_key(&KeyRef(name)).await.unwrap();
            for scheme in [SignatureScheme::RsaPkcs1Sha384, SignatureScheme::RsaPssSha256] {
                found.sign(scheme, b"m").await.unwrap();
            }
        }
    }
    let error = root.create_signing_key("ed", KeySpec::Ed25519).await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}");
    for odd in ["", "a/b", "a b", "a_b", "a?x"] {
        let error = root.create_signing_key(odd, KeySpec::EcP256).await.unwrap_err();
        assert!(matches!(error, KmsError::Invalid { .. }), "{odd}: {error:?}");
    }
    fake.fail(Fault::AnotherSigns);
    let found = root.signing_key(&KeyRef("ca-ec-p256".into())).await.unwrap();
    let error = found.sign(SignatureScheme::EcdsaSha256, b"m").await.unwrap_err();
    assert!(matches!(error, KmsError::Device { .. }), "{error:?}");
}

#[tokio::test]
async fn a_name_alone_is_the_oldest_version_of_a_signing_key() {
    let fake = FakeAzureKeyVault::start(false).await;
    let root = root(&fake, "root");
    let made = root.create_signing_key("ca", KeySpec::EcP256).await.unwrap();
    let request = json!({ "kty": "EC", "crv": "P-256", "key_ops": ["sign"] });
    for _ in 0..4 {
        fake.make("ca", &request);
    }
    let found = root.signing_key(&KeyRef("ca".into())).await.unwrap();
    assert_eq!(found.public_key_der(), made.public_key_der());
    let third = fake.versions("ca")[2].clone();
    let found = root.signing_key(&KeyRef(format!("ca/{third}"))).await.unwrap();
    assert_ne!(found.public_key_der(), made.public_key_der());
    let full = KeyRef(format!("{}/keys/ca/{third}", fake.url));
    assert_eq!(root.signing_key(&full).await.unwrap().public_key_der(), found.public_key_der());
    fake.make("weak", &json!({ "kty": "EC", "crv": "P-256", "key_ops": ["verify"] }));
    let error = root.signing_key(&KeyRef("weak".into())).await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}");
}

#[tokio::test]
async fn a_key_that_is_missing_unfit_disabled_expired_or_deleted_is_told_apart() {
    let fake = FakeAzureKeyVault::start(false).await;
    let absent = missing(&fake);
    for result in [
        absent.wrap(&key(), &context()).await.map(drop),
        absent.health().await.map(drop),
        absent.rotate().await.map(drop),
    ] {
        assert!(matches!(result, Err(KmsError::NotFound { .. })), "{result:?}");
    }
    let root = root(&fake, "root");
    let wrapped = wrap(&root).await;
    fake.set_enabled("root", false);
    for result in [
        root.wrap(&key(), &context()).await.map(drop),
        root.unwrap(&wrapped, &context()).await.map(drop),
        AzureProvider::connect(config(&fake, &format!("{}/keys/root", fake.url))).await.map(drop),
    ] {
        assert!(matches!(result, Err(KmsError::Disabled { .. })), "{result:?}");
    }
    fake.set_enabled("root", true);
    fake.set_expired("root", true);
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Disabled { .. }), "{error:?}");
    root.unwrap(&wrapped, &context()).await.unwrap();
    fake.set_expired("root", false);
    fake.set_deleted("root", true);
    for result in [
        root.wrap(&key(), &context()).await.map(drop),
        root.unwrap(&wrapped, &context()).await.map(drop),
        root.create_root().await.map(drop),
        root.signing_key(&KeyRef("root".into())).await.map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, KmsError::Disabled { .. }), "{error:?}");
        assert!(error.to_string().contains("recovered"), "{error}");
    }
    fake.set_deleted("root", false);
    root.unwrap(&wrapped, &context()).await.unwrap();

    let connect = async |url: String| AzureProvider::connect(config(&fake, &url)).await.unwrap_err();
    let curve = fake.make("curve", &json!({ "kty": "EC", "crv": "P-256", "key_ops": ["sign"] }));
    let weak =
        fake.make("weak", &json!({ "kty": "RSA", "key_size": 2048, "key_ops": ["wrapKey", "unwrapKey"] }));
    for (url, told) in [(curve, "is RSA or AES"), (weak, "may not sign")] {
        let error = connect(url).await;
        assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn what_may_not_is_denied_and_what_is_too_much_waits_as_told() {
    let fake = FakeAzureKeyVault::start(false).await;
    let root = root(&fake, "root");
    let wrapped = wrap(&root).await;
    fake.fail(Fault::Throttle(1, 9));
    let error = root.unwrap(&wrapped, &context()).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Throttled), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
    fake.fail(Fault::Unavailable);
    let error = root.health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Service), "{error:?}");
    // No key is missing because somebody else says that nothing is there.
    fake.fail(Fault::Stranger);
    let error = root.health().await.unwrap_err();
    assert!(matches!(error, KmsError::Device { .. }), "{error:?}");
    fake.fail(Fault::AnotherSigns);
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Device { .. }), "what would not open is not passed on: {error:?}");
    fake.fail(Fault::None);
    for verb in ["sign", "wrapKey", "unwrapKey"] {
        fake.deny(verb);
        let result = match verb {
            "unwrapKey" => root.unwrap(&wrapped, &context()).await.map(drop),
            _ => root.wrap(&key(), &context()).await.map(drop),
        };
        assert!(matches!(result, Err(KmsError::Denied { .. })), "{verb}: {result:?}");
    }
}

#[tokio::test]
async fn a_blob_that_is_not_ours_is_refused_without_asking() {
    let fake = FakeAzureKeyVault::start(false).await;
    let root = root(&fake, "root");
    let wrapped = wrap(&root).await;
    let before = fake.counts();
    for (odd, missing) in [
        (WrappedKey { provider: "gcp".into(), ..wrapped.clone() }, false),
        (WrappedKey { key_id: format!("{}/keys/else", fake.url), ..wrapped.clone() }, true),
        (WrappedKey { algorithm: "A256KW".into(), ..wrapped.clone() }, false),
        (WrappedKey { algorithm: "A256KW+A256GCM".into(), ..wrapped.clone() }, false),
        (WrappedKey { key_version: None, ..wrapped.clone() }, false),
        (WrappedKey { key_version: Some("../x".into()), ..wrapped.clone() }, false),
        (WrappedKey { blob: Vec::new(), ..wrapped.clone() }, false),
    ] {
        let error = root.unwrap(&odd, &context()).await.unwrap_err();
        let told = if missing {
            matches!(error, KmsError::NotFound { .. })
        } else {
            matches!(error, KmsError::Invalid { .. })
        };
        assert!(told, "{error:?}");
    }
    assert_eq!(fake.counts(), before);
}

#[tokio::test]
async fn a_token_is_replaced_before_it_ends_and_after_it_was_taken() {
    let fake = FakeAzureKeyVault::start(false).await;
    let root = root(&fake, "root");
    wrap(&root).await;
    fake.revoke();
    wrap(&root).await;
    assert_eq!(fake.counts().1, 2);
    // Ends before it would be replaced: the vault refuses it, and another is asked for.
    fake.revoke();
    fake.set_term(1);
    wrap(&root).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    wrap(&root).await;
    fake.revoke();
    fake.refuse_tokens(401);
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    assert!(error.to_string().contains("AADSTS7000215"), "{error}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    fake.refuse_tokens(503);
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Service), "{error:?}");
    fake.refuse_tokens(0);
    wrap(&root).await;
}

#[tokio::test]
async fn a_token_for_somebody_else_is_told_by_the_challenge() {
    let fake = FakeAzureKeyVault::start(true).await;
    let url = fake.make("root", &AES());
    let mut config = config(&fake, &url);
    config.resource = Some("https://vault.azure.net".into());
    let error = AzureProvider::connect(config).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("for https://managedhsm.azure.net") && text.contains("are for https://vault"),
        "{text}"
    );
}

#[tokio::test]
async fn a_pod_logs_in_by_its_token_and_a_wrong_secret_is_refused() {
    let fake = FakeAzureKeyVault::start(false).await;
    let url = fake.root("root");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, ASSERTION).unwrap();
    let as_pod = |file: &std::path::Path| {
        let mut config = config(&fake, &url);
        config.auth = AzureAuth::WorkloadIdentity {
            tenant_id: Some(TENANT.into()),
            client_id: Some(CLIENT.into()),
            token_file: Some(file.to_owned()),
        };
        AzureProvider::new(config).unwrap()
    };
    wrap(&as_pod(&file)).await;
    let error = as_pod(&folder.path().join("none")).health().await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    std::fs::write(&file, "canary.of.somebody").unwrap();
    let error = as_pod(&file).health().await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    let mut wrong = config(&fake, &url);
    wrong.auth = with_secret("canary-wrong");
    let wrong = AzureProvider::new(wrong).unwrap();
    let error = wrong.health().await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    assert!(!format!("{error:?} {wrong:?} {:?}", config(&fake, &url)).contains("canary"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_hangs_or_is_not_the_one_that_we_trust_is_told_apart_in_time() {
    let fake = FakeAzureKeyVault::start(false).await;
    let url = fake.root("root");
    let mut short = config(&fake, &url);
    short.timeout = Duration::from_millis(1500);
    let root = AzureProvider::new(short).unwrap();
    wrap(&root).await;
    fake.fail(Fault::Hang);
    let start = Instant::now();
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Deadline), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    fake.fail(Fault::None);
    let other = FakeAzureKeyVault::start(false).await;
    let mut strange = config(&fake, &url);
    strange.ca_pem = Some(other.ca_pem.clone());
    let error = AzureProvider::new(strange).unwrap().health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Tls), "the authority's certificate: {error:?}");
    let mut strange = config(&fake, &url.replace(&fake.url, &other.url));
    strange.ca_pem = Some(fake.ca_pem.clone());
    let error = AzureProvider::new(strange).unwrap().health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Tls), "the vault's certificate: {error:?}");
    let mut away = config(&fake, "https://127.0.0.1:1/keys/root");
    away.timeout = Duration::from_secs(1);
    let error = AzureProvider::new(away).unwrap().health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Unreachable), "{error:?}");
    let mut away = config(&fake, &url);
    away.authority = Some("https://127.0.0.1:1".into());
    let error = AzureProvider::new(away).unwrap().health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Unreachable), "{error:?}");
}

#[cfg(feature = "guard")]
#[tokio::test]
async fn the_guard_keeps_the_deadline_and_waits_out_the_throttling() {
    use crate::guard::{Guarded, Limits};
    let fake = FakeAzureKeyVault::start(false).await;
    let limits = Limits { attempt: Duration::from_millis(1500), attempts: 2, ..Limits::default() };
    let root = Guarded::new(std::sync::Arc::new(root(&fake, "root")), limits);
    let wrapped = root.wrap(&key(), &context()).await.unwrap();
    fake.fail(Fault::Throttle(1, 1));
    let start = Instant::now();
    root.unwrap(&wrapped, &context()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    fake.fail(Fault::Hang);
    let start = Instant::now();
    let error = root.unwrap(&wrapped, &context()).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Deadline), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[tokio::test]
async fn timings() {
    let fake = FakeAzureKeyVault::start(false).await;
    testing::timings("azure, RSA 2048 (fake, TLS)", &root(&fake, "root")).await;
    let managed = FakeAzureKeyVault::start(true).await;
    let aes = provider(&managed, &managed.make("root", &AES()));
    testing::timings("azure, AES in a Managed HSM (fake, TLS)", &aes).await;
    assert!(fake.counts().0 > 400 && managed.counts().0 > 300, "a call is a request");
}
