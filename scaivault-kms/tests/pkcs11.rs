//! The PKCS #11 adapter against a real module. `SCAIVAULT_TEST_PKCS11` is the path of one that makes a token in any
//! free slot when asked to (SoftHSM2 with its `SOFTHSM2_CONF`; `scripts/hsm-test` sets both); each test makes a token
//! of its own. A module is initialised once per process and some tests end everybody's sessions, so they take turns.
#![cfg(feature = "pkcs11")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::{path::PathBuf, sync::atomic::AtomicU32, sync::atomic::Ordering, time::Duration, time::Instant};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256, VerificationAlgorithm,
};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    object::{Attribute, AttributeType},
    session::UserType,
    types::AuthPin,
};
use scaivault_kms::{
    Context, KeyProvider, KeyRef, KeySpec, KmsError, Secret, SecretKey, SignatureScheme, WrappedKey,
    conformance,
    pkcs11::{Pin, Pkcs11Config, Pkcs11Provider, Token, Wrapping},
};

const PIN: &str = "canary-pin-7301";
const SO_PIN: &str = "canary-so-5678";

/// One test at a time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
static TOKENS: AtomicU32 = AtomicU32::new(0);

struct Hsm {
    module: PathBuf,
    label: String,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Hsm {
    /// A fresh token, or `None` (said aloud) where there is no module to test against.
    async fn new() -> Option<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "tests are told by the environment where the module is"
        )]
        let module = std::env::var_os("SCAIVAULT_TEST_PKCS11");
        let Some(module) = module.filter(|module| !module.is_empty()) else {
            #[expect(clippy::print_stderr, reason = "a skipped test must say so")]
            {
                eprintln!("skipped: SCAIVAULT_TEST_PKCS11 is not set");
            }
            return None;
        };
        let turn = TURN.lock().await;
        let label = format!("t{}-{}", std::process::id(), TOKENS.fetch_add(1, Ordering::Relaxed));
        let hsm = Self { module: module.into(), label, _turn: turn };
        hsm.make_token(&hsm.label);
        Some(hsm)
    }

    fn context(&self) -> Pkcs11 {
        let context = Pkcs11::new(&self.module).unwrap();
        // The adapter may have been first.
        drop(context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)));
        context
    }

    fn make_token(&self, label: &str) {
        let context = self.context();
        let slot = context
            .get_slots_with_token()
            .unwrap()
            .into_iter()
            .find(|slot| !context.get_token_info(*slot).unwrap().token_initialized());
        let slot = slot.expect("a free slot");
        context.init_token(slot, &AuthPin::from(SO_PIN), label).unwrap();
        let session = context.open_rw_session(slot).unwrap();
        session.login(UserType::So, Some(&AuthPin::from(SO_PIN))).unwrap();
        session.init_pin(&AuthPin::from(PIN)).unwrap();
        session.logout().unwrap();
    }

    /// A session beside the adapter's.
    fn session(&self) -> cryptoki::session::Session {
        let context = self.context();
        let slots = context.get_slots_with_initialized_token().unwrap();
        let ours = |slot: &cryptoki::slot::Slot| context.get_token_info(*slot).unwrap().label() == self.label;
        let session = context.open_rw_session(slots.into_iter().find(ours).unwrap()).unwrap();
        drop(session.login(UserType::User, Some(&AuthPin::from(PIN))));
        session
    }

    fn config(&self) -> Pkcs11Config {
        self.config_of("root", PIN)
    }

    fn config_of(&self, key: &str, pin: &str) -> Pkcs11Config {
        let pin = Pin::new(Secret::new(pin.as_bytes().to_vec()));
        let config = Pkcs11Config::new(&self.module, Token::Label(self.label.clone()), pin, key);
        // A spy writes one log: the calls of several threads would run into each other there.
        #[expect(
            clippy::disallowed_methods,
            reason = "tests are told by the environment whether they are watched"
        )]
        let watched = std::env::var_os("PKCS11SPY").is_some();
        if watched { config.sessions(1) } else { config }
    }

    async fn provider(&self, key: &str, forbidden: &[&str]) -> Pkcs11Provider {
        let config = self.config_of(key, PIN).forbid(forbidden.iter().copied()).unwrap();
        let provider = Pkcs11Provider::new(config).unwrap();
        provider.create_root().await.unwrap();
        provider
    }
}

/// What has to be forbidden for SoftHSM2 to be used in each of the four ways.
const WAYS: &[(Wrapping, &[&str])] = &[
    (Wrapping::AesGcm, &[]),
    (Wrapping::AesKeyWrapPad, &["CKM_AES_GCM"]),
    (Wrapping::AesCbcHmac, &["CKM_AES_GCM", "CKM_AES_KEY_WRAP_PAD"]),
    (Wrapping::RsaOaep, &["CKM_AES_KEY_GEN"]),
];

fn partner() -> Context {
    Context::new().with("partner", "ptn_acme").with("version", "3")
}

async fn wrap(provider: &Pkcs11Provider) -> (SecretKey, WrappedKey) {
    let key = SecretKey::generate().unwrap();
    let wrapped = provider.wrap(&key, &partner()).await.unwrap();
    (key, wrapped)
}

async fn opens(provider: &Pkcs11Provider, (key, wrapped): &(SecretKey, WrappedKey)) {
    assert!(provider.unwrap(wrapped, &partner()).await.unwrap().ct_eq(key));
}

#[tokio::test]
async fn every_way_of_wrapping_keeps_every_promise() {
    let Some(hsm) = Hsm::new().await else { return };
    for (wrapping, forbidden) in WAYS {
        let one = hsm.provider(&format!("{}-one", wrapping.as_str()), forbidden).await;
        let two = hsm.provider(&format!("{}-two", wrapping.as_str()), forbidden).await;
        assert_eq!(one.describe().algorithm, wrapping.as_str());
        assert!(!one.describe().extractable);
        conformance::all(&one, &two).await.unwrap_or_else(|broken| panic!("{wrapping:?}: {broken}"));
    }
}

/// `SCAIVAULT_TEST_PKCS11_OTHER` is another module, with a token labelled `..._LABEL` whose PIN is `..._PIN`: one that knows
/// less, or answers otherwise, than the one that everything else runs against.
#[tokio::test]
async fn another_make_of_token_keeps_every_promise_or_is_refused_with_what_it_lacks() {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the module is")]
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let found = (variable("SCAIVAULT_TEST_PKCS11_OTHER"), variable("SCAIVAULT_TEST_PKCS11_OTHER_PIN"));
    let (Some(module), Some(pin)) = found else {
        #[expect(clippy::print_stderr, reason = "a skipped test must say so")]
        {
            eprintln!("skipped: SCAIVAULT_TEST_PKCS11_OTHER is not set");
        }
        return;
    };
    let _turn = TURN.lock().await;
    let label = variable("SCAIVAULT_TEST_PKCS11_OTHER_LABEL").unwrap_or_else(|| "scai".into());
    let run = hex::encode(&SecretKey::generate().unwrap().expose()[..4]);
    let made = async |key: &str| {
        let pin = Pin::new(Secret::new(pin.clone().into_bytes()));
        let config = Pkcs11Config::new(&module, Token::Label(label.clone()), pin, format!("{key}-{run}"));
        let provider = Pkcs11Provider::new(config)?;
        provider.create_root().await?;
        Ok(provider)
    };
    let one = match made("one").await {
        Ok(one) => one,
        Err(KmsError::Unsupported { message, .. }) => {
            assert!(message.contains("lacks"), "{message}");
            return print(&format!("{module}: refused: {message}"));
        }
        Err(error) => panic!("{error:?}"),
    };
    print(&format!("{module}: {}", one.describe().algorithm));
    let other = made("other").await.unwrap();
    conformance::all(&one, &other).await.unwrap();
    conformance::survives_rotation(&one).await.unwrap();
    for spec in [KeySpec::EcP256, KeySpec::EcP384, KeySpec::Rsa2048] {
        let name = format!("{}-{run}", spec.as_str());
        conformance::creates_a_signing_key_once(&one, &name, &KeyRef(name.clone()), spec).await.unwrap();
    }
}

#[expect(clippy::print_stdout, reason = "which way was chosen is for whoever runs the tests to see")]
fn print(line: &str) {
    println!("other token: {line}");
}

#[tokio::test]
async fn a_wrap_opens_after_the_choice_changed_and_the_root_was_rotated() {
    let Some(hsm) = Hsm::new().await else { return };
    let first = hsm.provider("root", &[]).await;
    let mut wraps = vec![wrap(&first).await];
    for (wrapping, forbidden) in &WAYS[1..] {
        let config = hsm.config().forbid(forbidden.iter().copied()).unwrap();
        let provider = Pkcs11Provider::new(config).unwrap();
        if *wrapping == Wrapping::AesKeyWrapPad {
            // The key that is there is for AES-GCM alone, which is forbidden now: said, and nothing made.
            let error = provider.health().await.unwrap_err();
            assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}");
            assert!(error.to_string().contains("lacks CKM_AES_GCM (forbidden by configuration)"), "{error}");
        }
        let before = provider.describe().key_version;
        let told = provider.rotate().await.unwrap();
        assert_eq!(told.algorithm, wrapping.as_str());
        assert_ne!(told.key_version, before);
        wraps.push(wrap(&provider).await);
        for wrapped in &wraps {
            opens(&provider, wrapped).await;
        }
    }
    // Another process wraps under the newest from its next look, and opens all of them too.
    first.health().await.unwrap();
    assert_eq!(first.describe().algorithm, Wrapping::RsaOaep.as_str());
    for wrapped in &wraps {
        opens(&first, wrapped).await;
    }
    let names: std::collections::BTreeSet<_> = wraps.iter().map(|(_, w)| w.algorithm.clone()).collect();
    assert_eq!(names.len(), 4, "each recorded its own way");
}

#[tokio::test]
async fn a_token_that_can_none_of_the_four_is_refused_with_what_it_lacks() {
    let Some(hsm) = Hsm::new().await else { return };
    let config = hsm.config().forbid(["CKM_AES_KEY_GEN", "CKM_RSA_PKCS_OAEP"]).unwrap();
    let error = Pkcs11Provider::new(config).unwrap().create_root().await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("this token lacks CKM_AES_KEY_GEN") && text.contains("CKM_RSA_PKCS_OAEP"),
        "{text}"
    );
    assert!(hsm.session().find_objects(&[Attribute::Token(true)]).unwrap().is_empty(), "nothing was made");
}

#[tokio::test]
async fn a_missing_key_is_said_and_never_made() {
    let Some(hsm) = Hsm::new().await else { return };
    let error = Pkcs11Provider::connect(hsm.config()).await.unwrap_err();
    assert!(matches!(error, KmsError::NotFound { .. }), "{error:?}");
    let provider = Pkcs11Provider::new(hsm.config()).unwrap();
    for result in [
        provider.wrap(&SecretKey::generate().unwrap(), &partner()).await.map(drop),
        provider.health().await.map(drop),
        provider.rotate().await.map(drop),
        provider.signing_key(&KeyRef("ca".into())).await.map(drop),
    ] {
        assert!(matches!(result, Err(KmsError::NotFound { .. })), "{result:?}");
    }
    assert!(hsm.session().find_objects(&[Attribute::Token(true)]).unwrap().is_empty(), "nothing was made");
    conformance::creates_its_root_key_once(&provider).await.unwrap();
    assert!(Pkcs11Provider::connect(hsm.config()).await.is_ok());
}

#[tokio::test]
async fn a_wrong_pin_is_given_once() {
    let Some(hsm) = Hsm::new().await else { return };
    let wrong = "canary-wrong-pin";
    for attempt in 0..2 {
        let provider = Pkcs11Provider::new(hsm.config_of("root", wrong).sessions(8)).unwrap();
        let tries = (0..20).map(|_| async {
            let error = provider.health().await.unwrap_err();
            assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");
            let told = format!("{error} {error:?} {provider:?}");
            assert!(!told.contains("canary"), "{told}");
            told
        });
        let told = join_all(tries).await;
        let given = told.iter().filter(|told| told.contains("C_Login answered PinIncorrect")).count();
        assert_eq!(given, usize::from(attempt == 0), "given to the token: {told:?}");
    }
    // The token still takes the right one.
    hsm.provider("root", &[]).await.health().await.unwrap();
}

async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut out = Vec::new();
    for future in futures {
        out.push(future.await);
    }
    out
}

#[tokio::test]
async fn an_absent_token_is_unavailable_and_not_a_missing_key() {
    let Some(hsm) = Hsm::new().await else { return };
    let pin = || Pin::new(Secret::new(PIN.as_bytes().to_vec()));
    for token in [Token::Label("nobody".into()), Token::Serial("00".into()), Token::Slot(4_000_000_000)] {
        let error = Pkcs11Provider::connect(Pkcs11Config::new(&hsm.module, token, pin(), "root")).await;
        let error = error.unwrap_err();
        assert!(matches!(error, KmsError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains(&hsm.label), "names what there is: {error}");
    }
    let error = Pkcs11Provider::new(Pkcs11Config::new("/nowhere/module.so", Token::Slot(0), pin(), "root"));
    assert!(matches!(error, Err(KmsError::Device { .. })), "{error:?}");
    // By its serial it is found.
    let context = hsm.context();
    let slots = context.get_slots_with_initialized_token().unwrap();
    let ours =
        slots.iter().find(|slot| context.get_token_info(**slot).unwrap().label() == hsm.label).unwrap();
    let serial = context.get_token_info(*ours).unwrap().serial_number().to_owned();
    for token in [Token::Serial(serial), Token::Slot(ours.id())] {
        let config = Pkcs11Config::new(&hsm.module, token, pin(), "root");
        let error = Pkcs11Provider::connect(config).await.unwrap_err();
        assert!(matches!(error, KmsError::NotFound { .. }), "the token is there, the key is not: {error:?}");
    }
    // Two tokens of one name: none is taken.
    hsm.make_token(&hsm.label);
    let error = Pkcs11Provider::connect(hsm.config()).await.unwrap_err();
    assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");
}

#[tokio::test]
async fn lost_sessions_and_logins_are_made_anew() {
    let Some(hsm) = Hsm::new().await else { return };
    for (wrapping, forbidden) in WAYS {
        let provider = hsm.provider(wrapping.as_str(), forbidden).await;
        let wrapped = wrap(&provider).await;
        let key =
            provider.create_signing_key(&format!("ca-{}", wrapping.as_str()), KeySpec::EcP256).await.unwrap();
        for round in 0..3 {
            // Everybody's login ends.
            hsm.session().logout().unwrap();
            opens(&provider, &wrapped).await;
            hsm.session().logout().unwrap();
            wrap(&provider).await;
            hsm.session().logout().unwrap();
            key.sign(SignatureScheme::EcdsaSha256, b"message").await.unwrap();
            // Everybody's sessions end, and the module is started again by somebody else, or not at all.
            hsm.context().finalize().unwrap();
            if round == 1 {
                hsm.context();
            }
            opens(&provider, &wrapped).await;
            key.sign(SignatureScheme::EcdsaSha256, b"message").await.unwrap();
        }
    }
}

#[tokio::test]
async fn many_callers_share_few_sessions() {
    let Some(hsm) = Hsm::new().await else { return };
    drop(hsm.provider("root", &[]).await);
    let config = hsm.config().sessions(3).queue(300).deadline(Duration::from_secs(60));
    let provider = std::sync::Arc::new(Pkcs11Provider::connect(config).await.unwrap());
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let provider = std::sync::Arc::clone(&provider);
            tokio::spawn(async move {
                let wrapped = wrap(&provider).await;
                opens(&provider, &wrapped).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let Some(hsm) = Hsm::new().await else { return };
    for (wrapping, forbidden) in WAYS {
        let provider = hsm.provider(wrapping.as_str(), forbidden).await;
        let (_, wrapped) = wrap(&provider).await;
        let provider = &provider;
        let refused =
            |wrapped: WrappedKey| async move { provider.unwrap(&wrapped, &partner()).await.unwrap_err() };
        let foreign = WrappedKey { provider: "aws".into(), ..wrapped.clone() };
        assert!(matches!(refused(foreign).await, KmsError::Invalid { .. }));
        let other_key = WrappedKey { key_id: "other".into(), ..wrapped.clone() };
        assert!(matches!(refused(other_key).await, KmsError::NotFound { .. }));
        let other_version = WrappedKey { key_version: Some("53564b31".into()), ..wrapped.clone() };
        assert!(matches!(refused(other_version).await, KmsError::NotFound { .. }));
        for bad in [None, Some("xyz".to_owned())] {
            let bad = WrappedKey { key_version: bad, ..wrapped.clone() };
            assert!(matches!(refused(bad).await, KmsError::Invalid { .. }));
        }
        // Said to be of another way: whatever the answer, nothing opens.
        for other in Wrapping::ALL.iter().filter(|other| *other != wrapping) {
            refused(WrappedKey { algorithm: other.as_str().into(), ..wrapped.clone() }).await;
        }
        let mut long = wrapped.clone();
        long.blob.push(0);
        assert!(matches!(refused(long).await, KmsError::Invalid { .. }));
        let error = provider.unwrap(&wrapped, &Context::new()).await.unwrap_err();
        assert!(matches!(error, KmsError::Invalid { .. }), "{error:?}");
    }
}

type Schemes = &'static [(SignatureScheme, &'static dyn VerificationAlgorithm)];

#[tokio::test]
async fn every_kind_of_key_signs_so_that_another_library_agrees() {
    let Some(hsm) = Hsm::new().await else { return };
    let provider = hsm.provider("root", &[]).await;
    let raw_only = ["CKM_SHA256_RSA_PKCS", "CKM_SHA384_RSA_PKCS", "CKM_SHA256_RSA_PKCS_PSS"];
    let raw = Pkcs11Provider::connect(hsm.config().forbid(raw_only).unwrap()).await.unwrap();
    let rsa: Schemes = &[
        (SignatureScheme::RsaPkcs1Sha256, &RSA_PKCS1_2048_8192_SHA256),
        (SignatureScheme::RsaPkcs1Sha384, &RSA_PKCS1_2048_8192_SHA384),
        (SignatureScheme::RsaPssSha256, &RSA_PSS_2048_8192_SHA256),
    ];
    let kinds: &[(KeySpec, Schemes)] = &[
        (KeySpec::EcP256, &[(SignatureScheme::EcdsaSha256, &ECDSA_P256_SHA256_ASN1)]),
        (KeySpec::EcP384, &[(SignatureScheme::EcdsaSha384, &ECDSA_P384_SHA384_ASN1)]),
        (KeySpec::Ed25519, &[(SignatureScheme::Ed25519, &ED25519)]),
        (KeySpec::Rsa2048, rsa),
        (KeySpec::Rsa3072, rsa),
    ];
    for (spec, schemes) in kinds {
        let made = provider.create_signing_key(spec.as_str(), *spec).await.unwrap();
        let found = raw.signing_key(&KeyRef(spec.as_str().into())).await.unwrap();
        assert_eq!((made.spec(), made.public_key_der()), (found.spec(), found.public_key_der()));
        for (scheme, verifier) in *schemes {
            assert!(provider.describe().signature_schemes.contains(scheme), "{scheme:?}");
            let public = ParsedPublicKey::new(*verifier, made.public_key_der()).unwrap();
            // Two hundred, so that r and s of every length are seen.
            for n in 0..if *spec == KeySpec::EcP256 { 200 } else { 3 } {
                let message = format!("message {n}");
                for key in [&made, &found] {
                    let signature = key.sign(*scheme, message.as_bytes()).await.unwrap();
                    public.verify_sig(message.as_bytes(), &signature).unwrap();
                    assert!(public.verify_sig(b"another", &signature).is_err());
                }
            }
        }
        let wrong = if matches!(spec, KeySpec::EcP256) {
            SignatureScheme::RsaPssSha256
        } else {
            SignatureScheme::EcdsaSha256
        };
        assert!(matches!(made.sign(wrong, b"m").await, Err(KmsError::Unsupported { .. })));
        let again = provider.create_signing_key(spec.as_str(), *spec).await.unwrap_err();
        assert!(matches!(again, KmsError::Invalid { .. }), "{again:?}");
    }
    let missing = raw.signing_key(&KeyRef("id:00ff".into())).await.unwrap_err();
    assert!(matches!(missing, KmsError::NotFound { .. }), "{missing:?}");
    let none = Pkcs11Provider::new(hsm.config().forbid(["CKM_EC_KEY_PAIR_GEN"]).unwrap()).unwrap();
    let error = none.create_signing_key("ec", KeySpec::EcP256).await.unwrap_err();
    assert!(error.to_string().contains("this token lacks CKM_EC_KEY_PAIR_GEN"), "{error}");
}

#[tokio::test]
async fn no_key_in_the_token_can_be_read() {
    let Some(hsm) = Hsm::new().await else { return };
    for (wrapping, forbidden) in WAYS {
        hsm.provider(wrapping.as_str(), forbidden)
            .await
            .create_signing_key(wrapping.as_str(), KeySpec::EcP256)
            .await
            .ok();
    }
    let session = hsm.session();
    let private = session.find_objects(&[Attribute::Token(true), Attribute::Private(true)]).unwrap();
    assert!(private.len() >= 9, "six root and mac keys and three signing keys: {}", private.len());
    for key in private {
        let told = session
            .get_attributes(
                key,
                &[AttributeType::Sensitive, AttributeType::Extractable, AttributeType::Local],
            )
            .unwrap();
        for wanted in [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Local(true)] {
            assert!(told.contains(&wanted), "{told:?}");
        }
        let value =
            session.get_attributes(key, &[AttributeType::Value, AttributeType::PrivateExponent]).unwrap();
        assert!(value.is_empty(), "the token tells a value");
    }
}

#[tokio::test]
async fn a_device_that_does_not_answer_in_time_is_unavailable() {
    let Some(hsm) = Hsm::new().await else { return };
    drop(hsm.provider("root", &[]).await);
    let config = hsm.config().sessions(1).queue(1).deadline(Duration::from_millis(150));
    let provider = Pkcs11Provider::connect(config).await.unwrap();
    let begun = Instant::now();
    // An RSA-4096 key takes a software token seconds.
    let made = provider.create_signing_key("slow", KeySpec::Rsa4096).await;
    if let Err(error) = made {
        assert!(matches!(error, KmsError::Unavailable { .. }), "{error:?}");
        assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    }
}

/// How long the operations take; `scripts/hsm-test` shows it. Asserts nothing.
#[tokio::test]
async fn timings() {
    let Some(hsm) = Hsm::new().await else { return };
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_micros()
    };
    for (wrapping, forbidden) in WAYS {
        let provider = hsm.provider(wrapping.as_str(), forbidden).await;
        let (mut wraps, mut unwraps) = (Vec::new(), Vec::new());
        for _ in 0..101 {
            let start = Instant::now();
            let wrapped = wrap(&provider).await;
            wraps.push(start.elapsed());
            let start = Instant::now();
            opens(&provider, &wrapped).await;
            unwraps.push(start.elapsed());
        }
        report(&format!(
            "p50 us  {:32} wrap {:5}  unwrap {:5}",
            wrapping.as_str(),
            median(wraps),
            median(unwraps)
        ));
    }
    let provider = Pkcs11Provider::new(hsm.config()).unwrap();
    for spec in [KeySpec::EcP256, KeySpec::EcP384, KeySpec::Rsa2048, KeySpec::Ed25519] {
        let key = provider.create_signing_key(&format!("time-{}", spec.as_str()), spec).await.unwrap();
        let mut times = Vec::new();
        for _ in 0..101 {
            let start = Instant::now();
            key.sign(spec.default_scheme(), b"message").await.unwrap();
            times.push(start.elapsed());
        }
        report(&format!("p50 us  {:32} sign {:5}", spec.as_str(), median(times)));
    }
}

#[expect(clippy::print_stdout, reason = "the timings are what this test is for")]
fn report(line: &str) {
    println!("{line}");
}
