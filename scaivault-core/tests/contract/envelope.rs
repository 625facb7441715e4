//! Keys between the root key and the rows, seen from outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use scaivault_core::{Code, Error, Vault};
use scaivault_kms::{Context, Description, Health, KeyProvider, KmsError, SecretKey, WrappedKey};
use serde_json::json;

use crate::bench::{Bench, OTHER, any, code, contract, path, refusal, root_key, write};

/// Counts calls, and fails as often as it is told to.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn KeyProvider>,
    wraps: AtomicUsize,
    unwraps: AtomicUsize,
    failures: AtomicUsize,
}

impl Watched {
    fn failing(failures: usize) -> Arc<Self> {
        let count = AtomicUsize::new;
        Arc::new(Self { inner: root_key(7), wraps: count(0), unwraps: count(0), failures: count(failures) })
    }

    fn calls(&self) -> (usize, usize) {
        (self.wraps.load(Ordering::SeqCst), self.unwraps.load(Ordering::SeqCst))
    }

    fn answer(&self) -> Result<(), KmsError> {
        let fail = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match fail {
            Err(_) => Ok(()),
            Ok(_) => Err(KmsError::Unavailable {
                provider: "watched",
                message: "https://kms.internal?token=hidden".to_owned(),
                retry_after: Some(Duration::from_secs(9)),
                source: None,
            }),
        }
    }
}

#[async_trait]
impl KeyProvider for Watched {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        self.wraps.fetch_add(1, Ordering::SeqCst);
        self.answer()?;
        self.inner.wrap(key, context).await
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        self.unwraps.fetch_add(1, Ordering::SeqCst);
        self.answer()?;
        self.inner.unwrap(wrapped, context).await
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.answer()?;
        self.inner.health().await
    }
}

async fn watched(t: &Bench, provider: &Arc<Watched>) -> Vault {
    t.builder(provider.clone()).open().await.unwrap()
}

async fn keys(t: &Bench) -> (usize, usize) {
    (t.raw.count("partner_key").await, t.raw.count("tenant_key").await)
}

fn says_nothing(error: &Error) {
    let shown = format!("{error} {}", serde_json::to_string(error.details()).unwrap());
    for hidden in ["hidden", "token", "kms.internal", "local", "fingerprint"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}

contract! {
    async fn two_vaults_with_one_root_key_read_each_others_secrets(t: Bench) {
        let second = t.replica().await;
        t.put("a", json!({"of": "first"})).await;
        let ctx = t.admin();
        second.secrets(&ctx).put(&path("b"), write(json!({"of": "second"}))).await.unwrap();
        let read = second.secrets(&ctx).get(&path("a"), None).await.unwrap().data.decode::<serde_json::Value>();
        assert_eq!(read.unwrap(), json!({"of": "first"}));
        assert_eq!(t.get("b").await.unwrap(), json!({"of": "second"}));
        assert_eq!(keys(&t).await, (1, 1));
        second.close().await;
    }

    async fn two_replicas_that_start_at_once_agree_on_the_keys(t: Bench) {
        let second = t.replica().await;
        let vaults = [t.vault.clone(), second.clone()];
        let tasks: Vec<_> = (0..16).map(|n| {
            let (t, vault) = (t.clone(), vaults[n % 2].clone());
            tokio::spawn(async move {
                let ctx = t.admin();
                vault.secrets(&ctx).put(&path(&format!("s{n}")), write(json!({"n": n}))).await.unwrap();
            })
        }).collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(keys(&t).await, (1, 1));
        let fresh = t.replica().await;
        for n in 0..16 {
            let ctx = t.admin();
            let value = fresh.secrets(&ctx).get(&path(&format!("s{n}")), None).await.unwrap();
            assert_eq!(value.data.decode::<serde_json::Value>().unwrap(), json!({"n": n}));
        }
        second.close().await;
        fresh.close().await;
    }

    async fn sec_c5_a_wrong_root_key_reads_nothing_and_makes_nothing(t: Bench) {
        t.put("a", json!({"k": "v"})).await;
        let before = (keys(&t).await, t.raw.count("secret").await, t.raw.count("secret_version").await);
        let wrong = t.builder(root_key(8)).open().await.unwrap();
        let ctx = t.admin();
        for error in [
            wrong.secrets(&ctx).get(&path("a"), None).await.map(drop),
            wrong.secrets(&ctx).put(&path("a"), any()).await.map(drop),
            wrong.secrets(&ctx).put(&path("b"), any()).await.map(drop),
            wrong.pki(&ctx).create_ca(crate::pki::root_write("Top")).await.map(drop),
        ] {
            let error = refusal(error);
            assert_eq!(error.code(), Code::ServiceUnavailable);
            says_nothing(&error);
        }
        // A new tenant of the same partner: its key would be wrapped by a key that does not open.
        let other = t.admin_of(OTHER);
        assert_eq!(code(wrong.secrets(&other).put(&path("a"), any()).await), Code::ServiceUnavailable);
        assert_eq!((keys(&t).await, t.raw.count("secret").await, t.raw.count("secret_version").await), before);
        wrong.close().await;
        assert_eq!(t.get("a").await.unwrap(), json!({"k": "v"}));
        let outcomes: Vec<_> = t.trail(&ctx).await.into_iter().map(|r| r.outcome).collect();
        assert_eq!(outcomes, ["service_unavailable"; 4]);
    }

    async fn repeated_reads_do_not_call_the_provider(t: Bench) {
        t.put("a", json!({})).await;
        let provider = Watched::failing(0);
        let vault = watched(&t, &provider).await;
        for _ in 0..20 {
            vault.secrets(&t.admin()).get(&path("a"), None).await.unwrap();
        }
        assert_eq!(provider.calls(), (0, 1));
        let tasks: Vec<_> = (0..8).map(|_| {
            let (t, vault) = (t.clone(), vault.clone());
            tokio::spawn(async move { vault.secrets(&t.admin_of(OTHER)).put(&path("a"), any()).await.map(drop) })
        }).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let (wraps, unwraps) = provider.calls();
        assert_eq!(wraps, 0, "the partner has a key");
        assert!(unwraps <= 3, "all who wait for one key share the call: {unwraps}");
        vault.close().await;
    }

    async fn without_a_cache_each_request_calls_the_provider_once(t: Bench) {
        t.put("a", json!({})).await;
        let provider = Watched::failing(0);
        let vault = t.builder(provider.clone()).key_cache_ttl(Duration::ZERO).open().await.unwrap();
        for n in 1..=5 {
            vault.secrets(&t.admin()).get(&path("a"), None).await.unwrap();
            assert_eq!(provider.calls(), (0, n));
        }
        vault.secrets(&t.admin()).put(&path("a"), any()).await.unwrap();
        assert_eq!(provider.calls(), (0, 6));
        vault.close().await;
    }

    async fn a_provider_that_is_out_never_leads_to_a_new_key(t: Bench) {
        t.put("a", json!({"k": "v"})).await;
        assert_eq!(keys(&t).await, (1, 1));
        let provider = Watched::failing(1);
        let vault = watched(&t, &provider).await;
        let error = refusal(vault.secrets(&t.admin()).get(&path("a"), None).await);
        assert_eq!(error.code(), Code::ServiceUnavailable);
        assert_eq!(error.details().retry_after, Some(Duration::from_secs(9)), "as the provider said");
        says_nothing(&error);
        assert_eq!((keys(&t).await, provider.calls().0), ((1, 1), 0));
        // The failure is not remembered, and the old key still opens.
        vault.secrets(&t.admin()).get(&path("a"), None).await.unwrap();
        assert_eq!(keys(&t).await, (1, 1));
        vault.close().await;
    }

    async fn a_provider_that_is_out_at_the_first_write_leaves_no_half_of_a_key(t: Bench) {
        for failures in 1..=2 {
            let provider = Watched::failing(failures);
            let vault = watched(&t, &provider).await;
            for _ in 0..failures {
                assert_eq!(code(vault.secrets(&t.admin()).put(&path("a"), any()).await), Code::ServiceUnavailable);
                assert_eq!((t.raw.count("secret").await, t.raw.count("tenant_key").await), (0, 0));
            }
            vault.close().await;
        }
        t.put("a", json!({"k": "v"})).await;
        assert_eq!(keys(&t).await, (1, 1));
        let fresh = t.replica().await;
        fresh.secrets(&t.admin()).get(&path("a"), None).await.unwrap();
        fresh.close().await;
    }

    async fn readiness_is_the_database_and_the_root_key(t: Bench) {
        let provider = Watched::failing(1);
        let vault = watched(&t, &provider).await;
        vault.check_database().await.unwrap();
        assert_eq!(code(vault.check_encryption().await), Code::ServiceUnavailable);
        // Whoever asks soon after is told the same.
        assert_eq!(code(vault.check_encryption().await), Code::ServiceUnavailable);
        tokio::time::sleep(scaivault_core::limits::ROOT_CHECK_SHARED).await;
        vault.check_encryption().await.unwrap();
        vault.close().await;
        assert_eq!(code(vault.check_database().await), Code::ServiceUnavailable);
    }

    async fn each_version_has_a_data_key_of_its_own(t: Bench) {
        for _ in 0..3 {
            t.put("a", json!({"same": "value"})).await;
        }
        t.put("b", json!({"same": "value"})).await;
        for column in ["ciphertext", "wrapped_key"] {
            assert_eq!(t.raw.count(&format!("(SELECT DISTINCT {column} FROM secret_version) v")).await, 4, "{column}");
        }
    }
}
