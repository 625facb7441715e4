//! The TPM adapter against a TPM 2.0. `SCAIVAULT_TEST_TPM` is the TCTI of one, and `SCAIVAULT_TEST_TPM_OTHER` that of
//! another (`scripts/tpm-test` starts two swtpm). A TPM without resource manager serves one connection: tests take turns.
#![cfg(feature = "tpm")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256, VerificationAlgorithm,
};
use scaivault_kms::{
    Context, KeyProvider, KeyRef, KeySpec, KmsError, Secret, SecretKey, SignatureScheme, WrappedKey,
    conformance,
    tpm::{RootKey, TpmConfig, TpmProvider},
};

use tss_esapi::{
    attributes::ObjectAttributesBuilder,
    handles::{AuthHandle, PcrHandle, PersistentTpmHandle},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        dynamic_handles::Persistent,
        ecc::EccCurve,
        resource_handles::{Hierarchy, Provision},
        session_handles::AuthSession,
    },
    structures::{
        Auth, Digest, DigestValues, EccPoint, EccScheme, HashScheme, PublicBuilder,
        PublicEccParametersBuilder,
    },
};

static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Tpm {
    tcti: String,
    other: String,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Tpm {
    async fn new() -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the TPM is")]
        let (tcti, other) = (std::env::var("SCAIVAULT_TEST_TPM"), std::env::var("SCAIVAULT_TEST_TPM_OTHER"));
        let (Ok(tcti), Ok(other)) = (tcti, other) else {
            #[expect(clippy::print_stderr, reason = "a skipped test must say so")]
            {
                eprintln!("skipped: SCAIVAULT_TEST_TPM and SCAIVAULT_TEST_TPM_OTHER are not set");
            }
            return None;
        };
        Some(Self { tcti, other, _turn: TURN.lock().await })
    }

    fn provider(&self, label: &str) -> TpmProvider {
        TpmProvider::new(TpmConfig::new(&self.tcti, label)).unwrap()
    }
}

fn partner() -> Context {
    Context::new().with("partner", "ptn_acme").with("version", "3")
}

async fn wrap(provider: &TpmProvider) -> (SecretKey, WrappedKey) {
    let key = SecretKey::generate().unwrap();
    let wrapped = provider.wrap(&key, &partner()).await.unwrap();
    (key, wrapped)
}

async fn opens(provider: &TpmProvider, (key, wrapped): &(SecretKey, WrappedKey)) {
    assert!(provider.unwrap(wrapped, &partner()).await.unwrap().ct_eq(key));
}

#[tokio::test]
async fn keeps_every_promise() {
    let Some(tpm) = Tpm::new().await else { return };
    let other = TpmProvider::new(TpmConfig::new(&tpm.other, "root")).unwrap();
    conformance::all(&tpm.provider("root"), &other).await.unwrap();
}

#[tokio::test]
async fn fifty_in_a_row_fit_into_three_slots_and_another_process_opens_them() {
    let Some(tpm) = Tpm::new().await else { return };
    let first = tpm.provider("root");
    let mut wraps = Vec::new();
    for _ in 0..50 {
        wraps.push(wrap(&first).await);
    }
    drop(first);
    let second = tpm.provider("root");
    for wrapped in &wraps {
        opens(&second, wrapped).await;
        // One that does not open leaves nothing loaded either.
        let error = second.unwrap(&wrapped.1, &Context::new()).await.unwrap_err();
        assert!(matches!(error, KmsError::Invalid { .. }), "{error:?}");
    }
    drop(second);
    let elsewhere = tpm.provider("another label");
    let error = elsewhere
        .unwrap(&WrappedKey { key_id: "another label".into(), ..wraps[0].1.clone() }, &partner())
        .await;
    assert!(matches!(error, Err(KmsError::NotFound { .. })), "{error:?}");
}

#[tokio::test]
async fn a_root_key_at_a_handle_is_made_by_hand_alone() {
    let Some(tpm) = Tpm::new().await else { return };
    let config = |handle| TpmConfig::new(&tpm.tcti, "kept").root(RootKey::Persistent(handle));
    let error = TpmProvider::connect(config(0x8100_0042)).await.unwrap_err();
    assert!(matches!(error, KmsError::NotFound { .. }), "{error:?}");
    let provider = TpmProvider::new(config(0x8100_0042)).unwrap();
    conformance::creates_its_root_key_once(&provider).await.unwrap();
    let wrapped = wrap(&provider).await;
    drop(provider);
    opens(&TpmProvider::connect(config(0x8100_0042)).await.unwrap(), &wrapped).await;
    let error = TpmProvider::connect(config(0x4000_0001)).await.unwrap_err();
    assert!(matches!(error, KmsError::Invalid { .. }), "{error:?}");
}

/// A connection beside the adapter's, which has to be closed.
fn beside(tpm: &Tpm) -> tss_esapi::Context {
    tss_esapi::Context::new(tpm.tcti.parse().unwrap()).unwrap()
}

/// Puts the debug PCR back to its beginning, or goes on from there.
fn set_pcr_16(tpm: &Tpm, extended: bool) {
    let mut context = beside(tpm);
    context.execute_with_session(Some(AuthSession::Password), |context| {
        context.pcr_reset(PcrHandle::Pcr16).unwrap();
        if extended {
            let mut digests = DigestValues::new();
            digests.set(HashingAlgorithm::Sha256, Digest::try_from(vec![7; 32]).unwrap());
            context.pcr_extend(PcrHandle::Pcr16, digests).unwrap();
        }
    });
}

#[tokio::test]
async fn what_is_bound_to_pcrs_opens_while_they_hold_the_same() {
    let Some(tpm) = Tpm::new().await else { return };
    let bound = || TpmProvider::new(TpmConfig::new(&tpm.tcti, "root").pcrs([23, 16]).unwrap()).unwrap();
    set_pcr_16(&tpm, false);
    let (one, other) = (bound(), TpmProvider::new(TpmConfig::new(&tpm.other, "root")).unwrap());
    conformance::all(&one, &other).await.unwrap();
    let wrapped = wrap(&one).await;
    assert_eq!(wrapped.1.algorithm, "TPM2-SEAL/PCR-SHA256:16,23");
    // Whoever strikes out the PCRs has not got around them.
    let plain = WrappedKey { algorithm: "TPM2-SEAL".into(), ..wrapped.1.clone() };
    let error = one.unwrap(&plain, &partner()).await.unwrap_err();
    assert!(matches!(error, KmsError::Invalid { .. }), "{error:?}");
    drop(one);
    set_pcr_16(&tpm, true);
    let now = bound();
    let error = now.unwrap(&wrapped.1, &partner()).await.unwrap_err();
    assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("PCRs"), "{error}");
    opens(&now, &wrap(&now).await).await;
    drop(now);
    set_pcr_16(&tpm, false);
    // Also by a provider that binds to nothing itself.
    opens(&tpm.provider("root"), &wrapped).await;
    for odd in [vec![], vec![24], vec![0, 255]] {
        assert!(matches!(TpmConfig::new(&tpm.tcti, "root").pcrs(odd), Err(KmsError::Invalid { .. })));
    }
}

#[tokio::test]
async fn a_wrong_authorisation_is_denied_until_the_tpm_locks_itself_and_the_root_key_works_on() {
    let Some(tpm) = Tpm::new().await else { return };
    // A key of somebody else: it has an authorisation, and counts wrong ones.
    let mut context = beside(&tpm);
    let template = {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_sign_encrypt(true);
        let scheme = EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256));
        let parameters = PublicEccParametersBuilder::new_unrestricted_signing_key(scheme, EccCurve::NistP256);
        PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::Ecc)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes.build().unwrap())
            .with_ecc_parameters(parameters.build().unwrap())
            .with_ecc_unique_identifier(EccPoint::default())
            .build()
            .unwrap()
    };
    let auth = Auth::try_from(b"canary-auth".to_vec()).unwrap();
    context.execute_with_session(Some(AuthSession::Password), |context| {
        let made = context.create_primary(Hierarchy::Owner, template, Some(auth), None, None, None).unwrap();
        let at = Persistent::Persistent(PersistentTpmHandle::new(0x8101_0077).unwrap());
        context.evict_control(Provision::Owner, made.key_handle.into(), at).unwrap();
        context.flush_context(made.key_handle.into()).unwrap();
    });
    drop(context);
    let provider = tpm.provider("root");
    let theirs = provider.signing_key(&KeyRef("0x81010077".into())).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..40 {
        let error = theirs.sign(SignatureScheme::EcdsaSha256, b"m").await.unwrap_err();
        assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");
        told.push(error.to_string());
        if told[told.len() - 1].contains("locked") {
            break;
        }
    }
    assert!(told[0].contains("AuthFail"), "{told:?}");
    assert!(told[told.len() - 1].contains("locked after wrong authorisations"), "{told:?}");
    // What we make is not guarded by anything that could be guessed, and so is not locked.
    opens(&provider, &wrap(&provider).await).await;
    drop((theirs, provider));
    beside(&tpm).execute_with_session(Some(AuthSession::Password), |context| {
        context.clear(AuthHandle::Lockout).unwrap();
    });
}

#[tokio::test]
async fn every_kind_of_key_signs_so_that_another_library_agrees() {
    let Some(tpm) = Tpm::new().await else { return };
    let provider = tpm.provider("root");
    let rsa: Schemes = &[
        (SignatureScheme::RsaPkcs1Sha256, &RSA_PKCS1_2048_8192_SHA256),
        (SignatureScheme::RsaPkcs1Sha384, &RSA_PKCS1_2048_8192_SHA384),
        (SignatureScheme::RsaPssSha256, &RSA_PSS_2048_8192_SHA256),
    ];
    let kinds: &[(KeySpec, &str, Schemes)] = &[
        (KeySpec::EcP256, "0x81010001", &[(SignatureScheme::EcdsaSha256, &ECDSA_P256_SHA256_ASN1)]),
        (KeySpec::EcP384, "0x81010002", &[(SignatureScheme::EcdsaSha384, &ECDSA_P384_SHA384_ASN1)]),
        (KeySpec::Rsa2048, "0x81010003", rsa),
    ];
    for (spec, handle, schemes) in kinds {
        let missing = provider.signing_key(&KeyRef((*handle).into())).await.unwrap_err();
        assert!(matches!(missing, KmsError::NotFound { .. }), "{missing:?}");
        let made = provider.create_signing_key(handle, *spec).await.unwrap();
        let found = provider.signing_key(&KeyRef((*handle).into())).await.unwrap();
        assert_eq!((made.spec(), made.public_key_der()), (found.spec(), found.public_key_der()));
        for (scheme, verifier) in *schemes {
            let public = ParsedPublicKey::new(*verifier, made.public_key_der()).unwrap();
            for n in 0..40 {
                let message = format!("message {n}");
                let signature = found.sign(*scheme, message.as_bytes()).await.unwrap();
                public.verify_sig(message.as_bytes(), &signature).unwrap();
            }
        }
        let again = provider.create_signing_key(handle, *spec).await.unwrap_err();
        assert!(matches!(again, KmsError::Invalid { .. }), "{again:?}");
    }
    for (name, spec) in [("ca", KeySpec::EcP256), ("0x40000001", KeySpec::EcP256)] {
        let error = provider.create_signing_key(name, spec).await.unwrap_err();
        assert!(matches!(error, KmsError::Invalid { .. }), "{error:?}");
    }
    let error = provider.create_signing_key("0x81010009", KeySpec::Ed25519).await.unwrap_err();
    assert!(matches!(error, KmsError::Unsupported { .. }), "{error:?}");
}

type Schemes = &'static [(SignatureScheme, &'static dyn VerificationAlgorithm)];

#[tokio::test]
async fn what_fails_says_why() {
    let Some(tpm) = Tpm::new().await else { return };
    // Nobody listens there.
    let error =
        TpmProvider::connect(TpmConfig::new("swtpm:host=127.0.0.1,port=1", "root")).await.unwrap_err();
    assert!(matches!(error, KmsError::Unavailable { .. }), "{error:?}");
    let config = TpmConfig::new(&tpm.tcti, "root").owner_auth(Secret::new(b"canary-wrong".to_vec()));
    assert!(!format!("{config:?}").contains("canary"));
    let error = TpmProvider::connect(config).await.unwrap_err();
    assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("canary"));
    let provider = tpm.provider("root");
    let (_, wrapped) = wrap(&provider).await;
    let provider = &provider;
    let refused =
        |wrapped: WrappedKey| async move { provider.unwrap(&wrapped, &partner()).await.unwrap_err() };
    let foreign = WrappedKey { provider: "aws".into(), ..wrapped.clone() };
    assert!(matches!(refused(foreign).await, KmsError::Invalid { .. }));
    let other = WrappedKey { key_version: Some("00".into()), ..wrapped.clone() };
    assert!(matches!(refused(other).await, KmsError::NotFound { .. }));
    // Every byte, and not the spread that conformance tries.
    for at in 0..wrapped.blob.len() {
        let mut changed = wrapped.clone();
        changed.blob[at] ^= 0x80;
        let error = refused(changed).await;
        assert!(matches!(error, KmsError::Invalid { .. }), "byte {at}: {error:?}");
    }
}

/// How long the operations take; `scripts/tpm-test` shows it. Asserts nothing.
#[tokio::test]
async fn timings() {
    let Some(tpm) = Tpm::new().await else { return };
    let provider = tpm.provider("root");
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_micros()
    };
    let (mut wraps, mut unwraps) = (Vec::new(), Vec::new());
    for _ in 0..31 {
        let start = Instant::now();
        let wrapped = wrap(&provider).await;
        wraps.push(start.elapsed());
        let start = Instant::now();
        opens(&provider, &wrapped).await;
        unwraps.push(start.elapsed());
    }
    report(&format!(
        "p50 us  {:12} wrap {:5}  unwrap {:5}",
        "TPM2-SEAL",
        median(&mut wraps),
        median(&mut unwraps)
    ));
    for (spec, handle) in [(KeySpec::EcP256, "0x81010101"), (KeySpec::Rsa2048, "0x81010102")] {
        let key = provider.create_signing_key(handle, spec).await.unwrap();
        let mut times = Vec::new();
        for _ in 0..31 {
            let start = Instant::now();
            key.sign(spec.default_scheme(), b"message").await.unwrap();
            times.push(start.elapsed());
        }
        report(&format!("p50 us  {:12} sign {:5}", spec.as_str(), median(&mut times)));
    }
}

#[expect(clippy::print_stdout, reason = "the timings are what this test is for")]
fn report(line: &str) {
    println!("{line}");
}
