//! Against [`FakeGcpKms`]: there is no emulator of Cloud KMS.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    fake::{FakeGcpKms, Fault, RING},
    *,
};
use crate::{
    Cause, Context, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey, SignatureScheme, WrappedKey,
    conformance, testing,
};

/// A fake and the key file of the account that may use it.
struct Ground {
    fake: FakeGcpKms,
    file: PathBuf,
    _folder: TempDir,
}

impl Ground {
    async fn new() -> Self {
        let fake = FakeGcpKms::start().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("account.json");
        std::fs::write(&file, fake.account().to_string()).unwrap();
        Self { fake, file, _folder: folder }
    }

    fn config(&self, key: &str) -> GcpConfig {
        let mut config = GcpConfig::new(key);
        config.endpoint = self.fake.url.clone();
        config.auth = GcpAuth::ServiceAccount(self.file.clone());
        config.timeout = Duration::from_secs(5);
        config
    }

    fn provider(&self, key: &str) -> GcpProvider {
        GcpProvider::new(self.config(key)).unwrap()
    }

    fn root(&self, name: &str) -> GcpProvider {
        self.provider(&self.fake.root(name))
    }
}

fn context() -> Context {
    Context::new().with("partner", "ptn_1").with("version", "1")
}

fn key() -> SecretKey {
    SecretKey::generate().unwrap()
}

async fn wrap(provider: &GcpProvider) -> WrappedKey {
    provider.wrap(&key(), &context()).await.unwrap()
}

#[tokio::test]
async fn keeps_every_promise() {
    let ground = Ground::new().await;
    let (one, other) = (ground.root("one"), ground.root("other"));
    conformance::all(&one, &other).await.unwrap();
    conformance::survives_rotation(&one).await.unwrap();
    assert_eq!(one.describe().key_version.as_deref(), Some("2"));
    conformance::all(&one, &other).await.unwrap();
    conformance::creates_its_root_key_once(&ground.provider(&format!("{RING}/cryptoKeys/new")))
        .await
        .unwrap();
}

#[tokio::test]
async fn one_wrap_is_one_round_trip_and_many_callers_ask_for_one_token() {
    let ground = Ground::new().await;
    let root = Arc::new(ground.root("root"));
    conformance::serves_many_at_once(&*root).await.unwrap();
    assert_eq!(ground.fake.counts(), (64, 1));
    wrap(&root).await;
    assert_eq!(ground.fake.counts(), (65, 1));
    root.health().await.unwrap();
    root.health().await.unwrap();
    assert_eq!(ground.fake.counts(), (68, 1), "the first health check wraps as well");
}

#[tokio::test]
async fn signing_keys_of_each_kind_are_made_once_and_sign() {
    let ground = Ground::new().await;
    let root = ground.root("root");
    for spec in [KeySpec::EcP256, KeySpec::EcP384, KeySpec::Rsa2048, KeySpec::Rsa3072, KeySpec::Ed25519] {
        let name = format!("ca-{}", spec.as_str());
        conformance::creates_a_signing_key_once(&root, &name, &KeyRef(name.clone()), spec).await.unwrap();
        let full = KeyRef(format!("{RING}/cryptoKeys/{name}/cryptoKeyVersions/1"));
        conformance::signs_under_its_public_key(&*root.signing_key(&full).await.unwrap()).await.unwrap();
    }
    let error = root.signing_key(&KeyRef("ca-ec-p256@2".into())).await.unwrap_err();
    assert!(matches!(error, KmsError::NotFound { .. }), "{error:?}");
    let error = root.signing_key(&KeyRef("root".into())).await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "a root key signs nothing: {error:?}");
    for odd in ["", "a/b", "a b", "a@1", "a?x"] {
        let error = root.create_signing_key(odd, KeySpec::EcP256).await.unwrap_err();
        assert!(matches!(error, KmsError::Invalid { .. }), "{odd}: {error:?}");
    }
}

#[tokio::test]
async fn a_key_made_for_pss_signs_by_pss_alone() {
    let ground = Ground::new().await;
    let root = ground.root("root");
    ground.fake.sign_key("pss", "RSA_SIGN_PSS_2048_SHA256");
    let found = root.signing_key(&KeyRef("pss".into())).await.unwrap();
    assert_eq!(found.spec(), KeySpec::Rsa2048);
    found.sign(SignatureScheme::RsaPssSha256, b"m").await.unwrap();
    let error = found.sign(SignatureScheme::RsaPkcs1Sha256, b"m").await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}");
    ground.fake.sign_key("odd", "RSA_SIGN_PKCS1_4096_SHA512");
    let error = root.signing_key(&KeyRef("odd".into())).await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}");
}

#[tokio::test]
async fn a_key_that_is_missing_unfit_disabled_or_going_is_told_apart() {
    let ground = Ground::new().await;
    let missing = ground.provider(&format!("{RING}/cryptoKeys/missing"));
    let elsewhere =
        ground.provider(&RING.replace("europe-west4", "us-east1").replace("scai", "scai/cryptoKeys/k"));
    for provider in [missing, elsewhere] {
        for result in [
            provider.wrap(&key(), &context()).await.map(drop),
            provider.health().await.map(drop),
            provider.rotate().await.map(drop),
        ] {
            assert!(matches!(result, Err(KmsError::NotFound { .. })), "{result:?}");
        }
    }
    // Of another project nobody learns whether it is there.
    let foreign = ground.provider("projects/p-2/locations/global/keyRings/r/cryptoKeys/k");
    let error = foreign.health().await.unwrap_err();
    assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");

    let name = ground.fake.root("going");
    let root = ground.provider(&name);
    let wrapped = wrap(&root).await;
    for state in ["DISABLED", "DESTROY_SCHEDULED", "DESTROYED"] {
        ground.fake.set_state(&name, 1, state);
        for result in [
            root.wrap(&key(), &context()).await.map(drop),
            root.unwrap(&wrapped, &context()).await.map(drop),
            root.health().await.map(drop),
            GcpProvider::connect(ground.config(&name)).await.map(drop),
        ] {
            assert!(matches!(result, Err(KmsError::Disabled { .. })), "{state}: {result:?}");
        }
    }
    ground.fake.set_state(&name, 1, "ENABLED");
    root.unwrap(&wrapped, &context()).await.unwrap();

    ground.fake.sign_key("signs", "EC_SIGN_P256_SHA256");
    let error = GcpProvider::connect(ground.config(&format!("{RING}/cryptoKeys/signs"))).await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}");
}

#[tokio::test]
async fn what_may_not_is_denied_and_what_is_too_much_waits_as_told() {
    let ground = Ground::new().await;
    let root = ground.root("root");
    ground.fake.deny("encrypt");
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");
    ground.fake.fail(Fault::Quota(1, 7));
    let error = root.health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Throttled), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    ground.fake.fail(Fault::Unavailable);
    let error = root.health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Service), "{error:?}");
    // No key is missing because somebody else says that nothing is there.
    ground.fake.fail(Fault::Stranger);
    let error = root.health().await.unwrap_err();
    assert!(matches!(error, KmsError::Device { .. }), "{error:?}");
}

#[tokio::test]
async fn a_checksum_that_does_not_hold_is_an_error_of_its_own_in_each_direction() {
    let ground = Ground::new().await;
    let root = ground.root("root");
    let wrapped = wrap(&root).await;
    ground.fake.sign_key("ca", "EC_SIGN_P256_SHA256");
    let ca = root.signing_key(&KeyRef("ca".into())).await.unwrap();
    for fault in [Fault::RequestChanged, Fault::ChecksumsLost, Fault::AnswerChanged] {
        ground.fake.fail(fault);
        let mut results = vec![
            root.wrap(&key(), &context()).await.map(drop),
            root.unwrap(&wrapped, &context()).await.map(drop),
        ];
        if fault != Fault::RequestChanged {
            results.push(ca.sign(SignatureScheme::EcdsaSha256, b"m").await.map(drop));
        }
        if fault == Fault::AnswerChanged {
            results.push(root.signing_key(&KeyRef("ca".into())).await.map(drop));
        }
        for result in results {
            let error = result.unwrap_err();
            assert_eq!(error.cause(), Some(Cause::Checksum), "{fault:?}: {error:?}");
            assert!(error.is_transient());
        }
    }
    ground.fake.fail(Fault::None);
    root.unwrap(&wrapped, &context()).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_is_not_ours_is_refused_without_asking() {
    let ground = Ground::new().await;
    let root = ground.root("root");
    let wrapped = wrap(&root).await;
    let before = ground.fake.counts();
    for (odd, missing) in [
        (WrappedKey { provider: "aws".into(), ..wrapped.clone() }, false),
        (WrappedKey { key_id: format!("{RING}/cryptoKeys/else"), ..wrapped.clone() }, true),
        (WrappedKey { algorithm: "AES".into(), ..wrapped.clone() }, false),
        (WrappedKey { blob: Vec::new(), ..wrapped.clone() }, false),
        (WrappedKey { blob: vec![0; 5000], ..wrapped.clone() }, false),
    ] {
        let error = root.unwrap(&odd, &context()).await.unwrap_err();
        let told = if missing {
            matches!(error, KmsError::NotFound { .. })
        } else {
            matches!(error, KmsError::Invalid { .. })
        };
        assert!(told, "{error:?}");
    }
    assert_eq!(ground.fake.counts(), before);
}

#[tokio::test]
async fn a_token_is_replaced_before_it_ends_and_after_it_was_taken() {
    let ground = Ground::new().await;
    let root = ground.root("root");
    wrap(&root).await;
    ground.fake.revoke();
    wrap(&root).await;
    assert_eq!(ground.fake.counts(), (3, 2));
    ground.fake.revoke();
    // Shorter than the margin that is kept: each request has a token of its own.
    ground.fake.set_term(10);
    wrap(&root).await;
    wrap(&root).await;
    assert_eq!(ground.fake.counts(), (6, 4));
    ground.fake.refuse_tokens(true);
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    ground.fake.refuse_tokens(false);
    wrap(&root).await;
}

#[tokio::test]
async fn credentials_that_are_none_are_refused_without_showing_them() {
    let ground = Ground::new().await;
    let name = ground.fake.root("root");
    let mut strange = FakeGcpKms::start().await.account();
    strange["token_uri"] = ground.fake.account()["token_uri"].clone();
    let mut broken = ground.fake.account();
    broken["private_key"] = "canary".into();
    let mut away = ground.fake.account();
    away["token_uri"] = "http://127.0.0.1:1/token".into();
    for (text, transient) in [
        (strange.to_string(), false),
        (broken.to_string(), false),
        ("{\"private_key\": 5, \"canary\": 1}".to_owned(), false),
        ("canary".to_owned(), false),
        (away.to_string(), true),
    ] {
        std::fs::write(&ground.file, &text).unwrap();
        let error = ground.provider(&name).wrap(&key(), &context()).await.unwrap_err();
        let told = if transient {
            error.cause() == Some(Cause::Unreachable)
        } else {
            matches!(error, KmsError::Unauthenticated { .. })
        };
        assert!(told, "{text}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
    }
    std::fs::remove_file(&ground.file).unwrap();
    let provider = ground.provider(&name);
    let error = provider.wrap(&key(), &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    std::fs::write(&ground.file, ground.fake.account().to_string()).unwrap();
    wrap(&provider).await;
}

#[tokio::test]
async fn a_server_that_hangs_or_is_not_the_one_that_we_trust_is_told_apart_in_time() {
    let ground = Ground::new().await;
    let name = ground.fake.root("root");
    let mut config = ground.config(&name);
    config.timeout = Duration::from_millis(1500);
    let root = GcpProvider::new(config.clone()).unwrap();
    wrap(&root).await;
    ground.fake.fail(Fault::Hang);
    let start = Instant::now();
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Deadline), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());

    let (server, _) = testing::tls();
    let address = testing::serve(Some(server), |_| testing::Reply::Hang).await;
    config.endpoint = format!("https://{address}");
    let error = GcpProvider::new(config.clone()).unwrap().health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Tls), "a certificate that nobody signed: {error:?}");
    config.endpoint = ground.fake.url.replace("http:", "https:");
    let error = GcpProvider::new(config.clone()).unwrap().health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Tls), "no TLS: {error:?}");
    config.endpoint = "http://127.0.0.1:1".into();
    let error = GcpProvider::new(config).unwrap().health().await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Unreachable), "{error:?}");
}

#[cfg(feature = "guard")]
#[tokio::test]
async fn the_guard_repeats_what_was_changed_on_its_way_and_waits_out_the_quota() {
    use crate::guard::{Guarded, Limits};
    let ground = Ground::new().await;
    let limits = Limits { attempt: Duration::from_millis(1500), attempts: 2, ..Limits::default() };
    let root = Guarded::new(Arc::new(ground.root("root")), limits);
    root.wrap(&key(), &context()).await.unwrap();
    let (before, _) = ground.fake.counts();
    ground.fake.fail(Fault::AnswerChanged);
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Checksum), "{error:?}");
    assert_eq!(ground.fake.counts().0 - before, 2);
    ground.fake.fail(Fault::Quota(1, 1));
    let start = Instant::now();
    root.wrap(&key(), &context()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    ground.fake.fail(Fault::Hang);
    let start = Instant::now();
    let error = root.wrap(&key(), &context()).await.unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Deadline), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[test]
fn debug_shows_no_certificate_and_no_credential() {
    let mut config = GcpConfig::new(format!("{RING}/cryptoKeys/k"));
    config.auth = GcpAuth::MetadataServer;
    let shown = format!("{config:?} {:?}", GcpProvider::new(config.clone()).unwrap());
    assert!(shown.contains("cryptoKeys/k") && !shown.contains("Bearer"), "{shown}");
}

#[tokio::test]
async fn timings() {
    let ground = Ground::new().await;
    testing::timings("gcp (fake)", &ground.root("root")).await;
    assert!(ground.fake.counts().0 > 300, "a call is a request");
}
