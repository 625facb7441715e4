//! Against moto, which has the API of KMS: `SCAIVAULT_TEST_AWS` is its address. `scripts/kms-test` starts one.
//! What moto does not do (states, throttling, refusals) is answered by a fake that says what KMS says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_credential_types::provider::{error::CredentialsError, future};
use aws_sdk_kms::{
    Client,
    config::{Credentials, ProvideCredentials, SharedCredentialsProvider},
    types::{KeySpec as AwsKeySpec, KeyUsageType},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    Cause, Context, Description, Health, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey, SignatureScheme,
    SigningKey, WrappedKey, conformance,
};

#[expect(clippy::disallowed_methods, reason = "which peers there are is told by the environment")]
fn server() -> Option<String> {
    std::env::var("SCAIVAULT_TEST_AWS").ok().filter(|value| !value.is_empty())
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn find() -> Option<String> {
    let found = server();
    if found.is_none() {
        eprintln!("skipped: SCAIVAULT_TEST_AWS is not set");
    }
    found
}

fn config(endpoint: &str, key_id: &str) -> AwsConfig {
    let mut config = AwsConfig::new(key_id);
    config.endpoint = Some(endpoint.to_owned());
    config.region = Some("eu-west-1".into());
    config
}

fn someone() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("AKIATEST", "canary-secret", None, None, "test"))
}

async fn provider(endpoint: &str, key_id: &str) -> AwsProvider {
    AwsProvider::with_credentials(config(endpoint, key_id), Some(someone())).await.unwrap()
}

async fn admin(endpoint: &str) -> Client {
    config(endpoint, "none").client(Some(someone())).await.unwrap()
}

async fn new_key(endpoint: &str) -> String {
    let request = admin(endpoint).await.create_key().key_usage(KeyUsageType::EncryptDecrypt);
    let made = request.send().await.unwrap();
    made.key_metadata().unwrap().arn().unwrap().to_owned()
}

fn context() -> Context {
    Context::new().with("partner", "ptn_1").with("version", "1")
}

fn key() -> SecretKey {
    SecretKey::generate().unwrap()
}

fn fresh() -> String {
    hex::encode(&key().expose()[..6])
}

/// The id in an ARN, where moto takes nothing else.
fn bare(arn: &str) -> &str {
    arn.rsplit_once('/').unwrap().1
}

/// KMS says `IncorrectKeyException` or `InvalidCiphertextException` of a blob that is not under the key that
/// was named; moto says `AccessDeniedException`, in which KMS would give a reason and moto gives none.
#[derive(Debug)]
struct OverMoto(AwsProvider);

fn over_moto<T>(result: Result<T, KmsError>) -> Result<T, KmsError> {
    match result {
        Err(KmsError::Denied { message, .. }) if message.ends_with("AccessDeniedException: ") => {
            Err(KmsError::Invalid { provider: PROVIDER, message })
        }
        result => result,
    }
}

#[async_trait::async_trait]
impl KeyProvider for OverMoto {
    fn describe(&self) -> Description {
        self.0.describe()
    }
    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        self.0.wrap(key, context).await
    }
    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        over_moto(self.0.unwrap(wrapped, context).await)
    }
    async fn rewrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<WrappedKey, KmsError> {
        over_moto(self.0.rewrap(wrapped, context).await)
    }
    async fn health(&self) -> Result<Health, KmsError> {
        self.0.health().await
    }
    async fn rotate(&self) -> Result<Description, KmsError> {
        self.0.rotate().await
    }
    async fn signing_key(&self, key: &KeyRef) -> Result<Arc<dyn SigningKey>, KmsError> {
        self.0.signing_key(key).await
    }
}

#[tokio::test]
async fn keeps_every_promise() {
    let Some(server) = find() else { return };
    let (one, other) = (new_key(&server).await, new_key(&server).await);
    let one = OverMoto(provider(&server, &one).await);
    let other = provider(&server, &other).await;
    conformance::all(&one, &other).await.unwrap();
    conformance::survives_rotation(&one).await.unwrap();
}

#[tokio::test]
async fn an_alias_is_resolved_once_and_wraps_name_the_key() {
    let Some(server) = find() else { return };
    let arn = new_key(&server).await;
    let alias = format!("alias/root-{}", fresh());
    let admin = admin(&server).await;
    admin.create_alias().alias_name(&alias).target_key_id(&arn).send().await.unwrap();
    let root = provider(&server, &alias).await;
    assert_eq!(root.describe().key_id, alias, "not asked yet");
    let wrapped = root.wrap(&key(), &context()).await.unwrap();
    assert_eq!((&wrapped.key_id, &root.describe().key_id), (&arn, &arn));
    // Another key behind the alias is another root key; this provider goes on with the one it found.
    admin.update_alias().alias_name(&alias).target_key_id(new_key(&server).await).send().await.unwrap();
    root.unwrap(&wrapped, &context()).await.unwrap();
    let later = provider(&server, &alias).await;
    let error = later.unwrap(&wrapped, &context()).await.unwrap_err();
    assert!(matches!(error, KmsError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_key_that_is_missing_unfit_disabled_or_going_is_told_apart() {
    let Some(server) = find() else { return };
    let missing = "11111111-2222-3333-4444-555555555555";
    let missing = provider(&server, missing).await;
    for result in [missing.look().await.map(drop), missing.wrap(&key(), &context()).await.map(drop)] {
        assert!(matches!(result, Err(KmsError::NotFound { .. })), "{result:?}");
    }
    let admin = admin(&server).await;
    let rsa = admin.create_key().key_spec(AwsKeySpec::Rsa2048).key_usage(KeyUsageType::EncryptDecrypt);
    let rsa = rsa.send().await.unwrap().key_metadata().unwrap().key_id().to_owned();
    let result = provider(&server, &rsa).await.look().await;
    assert!(matches!(result, Err(KmsError::Unsupported { .. })), "{result:?}");

    let disabled = new_key(&server).await;
    admin.disable_key().key_id(bare(&disabled)).send().await.unwrap();
    let going = new_key(&server).await;
    admin.schedule_key_deletion().key_id(bare(&going)).send().await.unwrap();
    for (key, state) in [(disabled, "Disabled"), (going, "PendingDeletion")] {
        let error = provider(&server, &key).await.look().await.unwrap_err();
        assert!(matches!(error, KmsError::Disabled { .. }), "{error:?}");
        assert!(error.to_string().contains(state), "{error}");
    }
}

#[tokio::test]
async fn a_key_of_another_region_is_not_found_and_none_is_made() {
    let Some(server) = find() else { return };
    let arn = new_key(&server).await;
    let mut elsewhere = config(&server, bare(&arn));
    elsewhere.region = Some("us-east-1".into());
    let elsewhere = AwsProvider::with_credentials(elsewhere, Some(someone())).await.unwrap();
    let wrapped = provider(&server, &arn).await.wrap(&key(), &context()).await.unwrap();
    for result in [
        elsewhere.look().await.map(drop),
        elsewhere.wrap(&key(), &context()).await.map(drop),
        elsewhere.unwrap(&wrapped, &context()).await.map(drop),
        elsewhere.health().await.map(drop),
    ] {
        assert!(matches!(result, Err(KmsError::NotFound { .. })), "{result:?}");
    }
    let result = elsewhere.create_root().await;
    assert!(matches!(result, Err(KmsError::Unsupported { .. })), "{result:?}");
}

#[cfg(feature = "guard")]
#[derive(Debug, Default)]
struct Retries(std::sync::atomic::AtomicUsize);

#[cfg(feature = "guard")]
impl crate::guard::Observer for Retries {
    fn finished(&self, _: &'static str, _: crate::guard::Operation, _: Duration, _: crate::guard::Outcome) {}
    fn retried(&self, _: &'static str, _: crate::guard::Operation) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(feature = "guard")]
#[tokio::test]
async fn the_guard_repeats_what_is_throttled_and_not_what_is_refused() {
    use crate::guard::{Guarded, Limits};
    for (code, expected) in [
        ("ThrottlingException", 2),
        ("DisabledException", 0),
        ("KMSInvalidStateException", 0),
        ("ExpiredTokenException", 0),
        ("AccessDeniedException", 0),
    ] {
        let body = format!("{{\"__type\":\"{code}\"}}");
        let inner = Arc::new(provider(&fake(http(400, &body)).await, ARN).await);
        let retries = Arc::new(Retries::default());
        let limits = Limits { attempts: 3, backoff: Duration::from_millis(1), ..Limits::default() };
        let root = Guarded::new(inner, limits).observed_by(retries.clone());
        root.wrap(&key(), &context()).await.unwrap_err();
        assert_eq!(retries.0.load(std::sync::atomic::Ordering::SeqCst), expected, "{code}");
    }
}

#[tokio::test]
async fn signing_keys_of_each_kind_are_made_once_and_sign() {
    let Some(server) = find() else { return };
    let root = provider(&server, &new_key(&server).await).await;
    // moto has no Ed25519 keys.
    for spec in crate::spki::SPECS.iter().filter(|spec| **spec != KeySpec::Ed25519) {
        let name = format!("ca/{}", fresh());
        let key_ref = KeyRef(format!("alias/{name}"));
        conformance::creates_a_signing_key_once(&root, &name, &key_ref, *spec).await.unwrap();
        let found = root.signing_key(&key_ref).await.unwrap();
        if spec.as_str().starts_with("rsa") {
            found.sign(SignatureScheme::RsaPkcs1Sha384, b"m").await.unwrap();
            // moto salts PSS at its longest, KMS as long as the hash: what would not verify is not passed on.
            let error = found.sign(SignatureScheme::RsaPssSha256, b"m").await.unwrap_err();
            assert!(matches!(error, KmsError::Device { .. }), "{error:?}");
        }
        // moto takes a digest for a message: the same.
        let error = found.sign(spec.default_scheme(), &[7; 4097]).await.unwrap_err();
        assert!(matches!(error, KmsError::Device { .. }), "{error:?}");
    }
    let error = root.signing_key(&KeyRef(root.describe().key_id)).await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "a root key signs nothing: {error:?}");
    for odd in ["", "aws/x", "a b", "a:b"] {
        let error = root.create_signing_key(odd, KeySpec::EcP256).await.unwrap_err();
        assert!(matches!(error, KmsError::Invalid { .. }), "{odd}: {error:?}");
    }
}

/// Answers every request as it is told to.
async fn fake(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 16384]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

fn http(status: u16, body: &str) -> String {
    let kind = "content-type: application/x-amz-json-1.1\r\nconnection: close";
    format!("HTTP/1.1 {status} X\r\n{kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/k";

#[tokio::test]
async fn every_refusal_of_the_service_is_told_apart() {
    let told = |error: &KmsError| match error {
        KmsError::Denied { .. } => "denied",
        KmsError::Unauthenticated { .. } => "unauthenticated",
        KmsError::NotFound { .. } => "not found",
        KmsError::Disabled { .. } => "disabled",
        KmsError::Unsupported { .. } => "unsupported",
        KmsError::Invalid { .. } => "invalid",
        KmsError::Unavailable { .. } => match error.cause() {
            Some(Cause::Throttled) => "throttled",
            Some(Cause::Deadline) => "deadline",
            Some(Cause::Service) => "service",
            _ => "unavailable",
        },
        _ => "device",
    };
    for (status, code, expected) in [
        (400, "AccessDeniedException", "denied"),
        (400, "UnrecognizedClientException", "unauthenticated"),
        (400, "ExpiredTokenException", "unauthenticated"),
        (403, "InvalidSignatureException", "unauthenticated"),
        (400, "NotFoundException", "not found"),
        (400, "DisabledException", "disabled"),
        (400, "KMSInvalidStateException", "disabled"),
        (400, "InvalidKeyUsageException", "unsupported"),
        (400, "InvalidCiphertextException", "invalid"),
        (400, "IncorrectKeyException", "invalid"),
        (400, "ThrottlingException", "throttled"),
        (429, "Anything", "throttled"),
        (503, "DependencyTimeoutException", "deadline"),
        (500, "KeyUnavailableException", "service"),
        (500, "KMSInternalException", "service"),
        (502, "", "service"),
        (400, "SomethingNew", "device"),
    ] {
        let body = format!("{{\"__type\":\"{code}\",\"message\":\"told x-amz-security-token:canary\"}}");
        let root = provider(&fake(http(status, &body)).await, ARN).await;
        let error = root.wrap(&key(), &context()).await.unwrap_err();
        assert_eq!(told(&error), expected, "{status} {code}: {error:?}");
        if expected == "unauthenticated" {
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn the_sdk_makes_no_attempts_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = provider(&format!("http://{}", listener.local_addr().unwrap()), ARN).await;
    let call = tokio::spawn(async move { root.wrap(&key(), &context()).await });
    let answer = http(400, "{\"__type\":\"ThrottlingException\"}");
    let (mut stream, _) = listener.accept().await.unwrap();
    let _ = stream.read(&mut [0; 16384]).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    drop(stream);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.cause(), Some(Cause::Throttled), "{error:?}");
    let second = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(second.is_err(), "one request is one request");
}

#[derive(Debug)]
struct Nobody(fn() -> CredentialsError);

impl ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err((self.0)()))
    }
}

#[tokio::test]
async fn missing_credentials_are_told_from_a_failing_source_of_them() {
    let with = |nobody| async move {
        let credentials = SharedCredentialsProvider::new(Nobody(nobody));
        let config = config("http://127.0.0.1:1", ARN);
        let root = AwsProvider::with_credentials(config, Some(credentials)).await.unwrap();
        root.wrap(&key(), &context()).await.unwrap_err()
    };
    let error = with(|| CredentialsError::not_loaded("none")).await;
    assert!(matches!(error, KmsError::Unauthenticated { .. }), "{error:?}");
    let error = with(|| CredentialsError::provider_error("503 canary")).await;
    assert_eq!(error.cause(), Some(Cause::Service), "{error:?}");
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn a_server_that_hangs_lies_or_is_not_there_is_told_apart_in_time() {
    let with = |endpoint: String| async move {
        let mut config = config(&endpoint, ARN);
        config.timeout = Duration::from_millis(400);
        let root = AwsProvider::with_credentials(config, Some(someone())).await.unwrap();
        let start = Instant::now();
        let error = root.wrap(&key(), &context()).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert!(!format!("{error:?} {root:?}").contains("canary"));
        error
    };
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    for scheme in ["http", "https"] {
        let error = with(format!("{scheme}://127.0.0.1:{port}")).await;
        assert_eq!(error.cause(), Some(Cause::Deadline), "{error:?}");
    }
    drop(silent);
    let error = with(format!("http://127.0.0.1:{port}")).await;
    assert_eq!(error.cause(), Some(Cause::Unreachable), "{error:?}");
    let page = fake(http(200, "<p>canary</p>")).await;
    let error = with(page.replace("http:", "https:")).await;
    assert_eq!(error.cause(), Some(Cause::Tls), "{error:?}");
    let error = with(page).await;
    assert!(matches!(error, KmsError::Unavailable { .. } | KmsError::Device { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_come_by_the_chain() {
    let Some(server) = find() else { return };
    let arn = new_key(&server).await;
    let root = AwsProvider::connect(config(&server, &arn)).await.unwrap();
    conformance::opens_what_it_wrapped(&root).await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_cannot_be_right_is_refused() {
    for odd in ["", "key with spaces", "key\n"] {
        let result = AwsProvider::with_credentials(config("http://127.0.0.1:1", odd), Some(someone())).await;
        assert!(matches!(result, Err(KmsError::Invalid { .. })), "{odd:?}");
    }
}
