//! More than one root key: what one of them being out, added, removed or lost for good means.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use scaivault_core::{
    Caller, Code, Ctx, PartnerId, Role, Scope, Vault, VaultBuilder,
    keys::{KeyStatus, RecoveryShare, RootStatus, Verify},
};
use scaivault_kms::{
    Context, Description, Health, KeyProvider, KmsError, SecretKey, WrappedKey,
    local::{KeyFile, LocalProvider},
};
use serde_json::{Value, json};

use crate::bench::{Bench, any, code, contract, path, refusal, tenant, write};

/// A fake of a key service: a root key in memory behind a switch, which counts what it is asked.
#[derive(Debug)]
struct FakeService {
    inner: LocalProvider,
    mode: AtomicU8,
    unwraps: AtomicU64,
    rotations: AtomicU64,
    /// How many keys it is still to refuse to wrap.
    refuses: AtomicU64,
    delay: Duration,
    /// What its key is called, instead of what its value says: so a device names keys.
    label: Option<&'static str>,
}

fn key_file(byte: u8) -> KeyFile {
    KeyFile::from_key(SecretKey::from_slice(&[byte; 32]).unwrap())
}

const UP: u8 = 0;
const DOWN: u8 = 1;
const HANGS: u8 = 2;
const LOST: u8 = 3;
const CORRUPT: u8 = 4;
const DENIED: u8 = 5;
/// Opens every wrap to a key of its own choice.
const LIES: u8 = 6;
/// Has no rotation in place.
const PLAIN: u8 = 7;

impl FakeService {
    fn new(byte: u8) -> Arc<Self> {
        Self::slow(byte, Duration::ZERO)
    }

    fn slow(byte: u8, delay: Duration) -> Arc<Self> {
        Self::of(LocalProvider::new(key_file(byte)), delay)
    }

    /// The service after its root key was replaced by another one, with the former ones still at hand.
    fn after(byte: u8, former: u8) -> Arc<Self> {
        Self::of(LocalProvider::with_older(key_file(byte), vec![key_file(former)]), Duration::ZERO)
    }

    fn of(inner: LocalProvider, delay: Duration) -> Arc<Self> {
        let count = || AtomicU64::new(0);
        let (mode, label) = (AtomicU8::new(UP), None);
        Arc::new(Self { inner, mode, unwraps: count(), rotations: count(), refuses: count(), delay, label })
    }

    /// A device that calls its key so, whichever key it is.
    fn labelled(byte: u8, label: &'static str) -> Arc<Self> {
        let device = Self::new(byte);
        let device = Arc::into_inner(device).unwrap();
        Arc::new(Self { label: Some(label), ..device })
    }

    fn turn(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    /// How many since it was asked last.
    fn unwraps(&self) -> u64 {
        self.unwraps.swap(0, Ordering::SeqCst)
    }

    fn key_id(&self) -> String {
        self.describe().key_id
    }

    async fn pass(&self) -> Result<(), KmsError> {
        let message = "switched by the test".to_owned();
        tokio::time::sleep(self.delay).await;
        match self.mode.load(Ordering::SeqCst) {
            UP | LIES | PLAIN => Ok(()),
            DENIED => Err(KmsError::Denied { provider: "fake", message }),
            DOWN => Err(KmsError::Unavailable { provider: "fake", message, retry_after: None, source: None }),
            HANGS => std::future::pending().await,
            LOST => Err(KmsError::NotFound { provider: "fake", message }),
            _ => Err(KmsError::Invalid { provider: "fake", message }),
        }
    }
}

#[async_trait]
impl KeyProvider for FakeService {
    fn describe(&self) -> Description {
        let about = self.inner.describe();
        let key_id = self.label.map_or(about.key_id, str::to_owned);
        Description { key_id, ..about }
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        self.pass().await?;
        if self.refuses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(KmsError::Invalid { provider: "fake", message: "not this one".to_owned() });
        }
        Ok(WrappedKey { key_id: self.key_id(), ..self.inner.wrap(key, context).await? })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        self.unwraps.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        if self.mode.load(Ordering::SeqCst) == LIES {
            return Ok(SecretKey::from_slice(&[9; 32]).unwrap());
        }
        let key_id = match self.label {
            Some(_) => self.inner.describe().key_id,
            None => wrapped.key_id.clone(),
        };
        self.inner.unwrap(&WrappedKey { key_id, ..wrapped.clone() }, context).await
    }

    async fn rotate(&self) -> Result<Description, KmsError> {
        self.pass().await?;
        if self.mode.load(Ordering::SeqCst) == PLAIN {
            return Err(KmsError::Unsupported { provider: "fake", message: "rotating in place".to_owned() });
        }
        self.rotations.fetch_add(1, Ordering::SeqCst);
        Ok(self.describe())
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.pass().await?;
        self.inner.health().await
    }

    async fn create_root(&self) -> Result<Description, KmsError> {
        let message = "it is there".to_owned();
        match self.mode.compare_exchange(LOST, UP, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Ok(self.inner.describe()),
            Err(_) => Err(KmsError::Invalid { provider: "fake", message }),
        }
    }
}

/// A vault over the bench's database with these root keys, the first of them named `a`, the second `b`.
async fn vault(t: &Bench, ttl: Duration, roots: &[&Arc<FakeService>]) -> Vault {
    builder(t, roots).key_cache_ttl(ttl).open().await.unwrap()
}

fn builder(t: &Bench, roots: &[&Arc<FakeService>]) -> VaultBuilder {
    let mut builder = t.builder(roots[0].clone()).first_root_name("a");
    for (root, name) in roots[1..].iter().zip(["b", "c"]) {
        builder = builder.add_root(name, (*root).clone());
    }
    builder
}

fn operator(vault: &Vault) -> Ctx {
    vault.ctx(Caller::system("key-rotation", tenant("tnt_operator")).unwrap()).unwrap()
}

/// The administrator of a tenant of a partner of its own.
fn admin(vault: &Vault, of: &str) -> Ctx {
    let caller = Caller::user("user:admin", tenant(&format!("tnt_{of}"))).unwrap();
    let caller = caller.with_partner(PartnerId::parse(format!("ptn_{of}")).unwrap());
    vault.ctx(caller.with_scopes([Scope::Admin]).with_roles([Role::TenantAdmin])).unwrap()
}

async fn put(vault: &Vault, of: &str) -> scaivault_core::Result<()> {
    let data = write(json!({"of": of}));
    vault.secrets(&admin(vault, of)).put(&path("app/db"), data).await.map(drop)
}

async fn get(vault: &Vault, of: &str) -> scaivault_core::Result<()> {
    let read = vault.secrets(&admin(vault, of)).get(&path("app/db"), None).await?;
    assert_eq!(read.data.decode::<Value>().unwrap(), json!({"of": of}));
    Ok(())
}

async fn status(vault: &Vault) -> KeyStatus {
    vault.keys(&operator(vault)).status().await.unwrap()
}

async fn root(vault: &Vault, key_id: &str) -> RootStatus {
    status(vault).await.roots.into_iter().find(|root| root.key_id == key_id).unwrap()
}

/// The wraps of all keys, in hexadecimal: the name of a root key shows in them.
async fn wraps(t: &Bench) -> String {
    let mut all = t.raw.dump("partner_key").await;
    all.extend(t.raw.dump("audit_key").await);
    all.join("\n").to_lowercase()
}

fn shows(wraps: &str, service: &FakeService) -> bool {
    wraps.contains(&hex::encode(service.key_id()))
}

const TTL: Duration = Duration::from_secs(60);
const NONE: Duration = Duration::ZERO;

contract! {
    async fn keys_are_under_every_root_and_whichever_works_serves(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let v = vault(&t, NONE, &[&a, &b]).await;
        put(&v, "x").await.unwrap();
        let seen = status(&v).await;
        assert_eq!(seen.partner_keys[0].roots.len(), 2);
        assert!(seen.partner_keys[0].root_is_current);
        assert!(seen.roots.iter().all(|root| root.state == "active" && (root.wraps, root.missing) == (1, 0)), "{seen:?}");
        a.unwraps();
        b.unwraps();
        get(&v, "x").await.unwrap();
        assert_eq!((a.unwraps(), b.unwraps()), (1, 0), "the first is preferred, and one call is enough");

        for broken in [DOWN, LOST, CORRUPT] {
            a.turn(broken);
            get(&v, "x").await.unwrap();
            put(&v, "x").await.unwrap();
            a.turn(UP);
            // A call that goes well, or a probe, makes it the preferred one again.
            tokio::time::sleep(Duration::from_millis(2100)).await;
            v.run_due_jobs().await.unwrap();
            a.unwraps();
            b.unwraps();
            get(&v, "x").await.unwrap();
            assert_eq!((a.unwraps(), b.unwraps()), (1, 0), "mode {broken}");
        }
        let all = v.check_roots().await;
        assert_eq!(all.iter().map(|root| (&*root.name, root.failure)).collect::<Vec<_>>(), [("a", None), ("b", None)]);
        v.close().await;
    }

    async fn a_root_that_hangs_is_left_and_comes_back_within_seconds(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let v = vault(&t, NONE, &[&a, &b]).await;
        let jobs = v.spawn_jobs();
        put(&v, "x").await.unwrap();
        a.turn(HANGS);
        let start = Instant::now();
        get(&v, "x").await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
        let start = Instant::now();
        get(&v, "x").await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "only once: {:?}", start.elapsed());
        a.turn(UP);
        let start = Instant::now();
        loop {
            a.unwraps();
            b.unwraps();
            get(&v, "x").await.unwrap();
            if (a.unwraps(), b.unwraps()) == (1, 0) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(12), "it is not preferred again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        jobs.abort();
        v.close().await;
    }

    async fn with_all_roots_out_cached_keys_serve_until_their_time_is_over(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let v = vault(&t, TTL, &[&a, &b]).await;
        put(&v, "x").await.unwrap();
        a.turn(DOWN);
        b.turn(DOWN);
        t.clock.advance(Duration::from_secs(59));
        get(&v, "x").await.unwrap();
        put(&v, "x").await.unwrap();
        let new = refusal(put(&v, "y").await);
        assert_eq!(new.code(), Code::ServiceUnavailable);
        t.clock.advance(Duration::from_secs(2));
        let error = refusal(get(&v, "x").await);
        assert_eq!(error.code(), Code::ServiceUnavailable);
        assert!(error.details().retry_after.is_some());
        assert!(error.causes().contains("root key a: ") && error.causes().contains("root key b: "), "{}", error.causes());
        assert_eq!((t.raw.count("partner_key").await, t.raw.count("tenant_key").await), (1, 1), "nothing was made");
        assert_eq!(code(v.check_encryption().await), Code::ServiceUnavailable);
        b.turn(UP);
        get(&v, "x").await.unwrap();
        put(&v, "y").await.unwrap();
        v.close().await;
    }

    async fn the_answer_about_all_roots_is_shared(t: Bench) {
        let a = FakeService::new(1);
        let v = vault(&t, TTL, &[&a]).await;
        let before = v.statistics(&operator(&v)).await.unwrap().provider_calls;
        for _ in 0..50 {
            v.check_encryption().await.unwrap();
        }
        let after = v.statistics(&operator(&v)).await.unwrap().provider_calls;
        assert!(after - before <= 2, "{}", after - before);
        v.close().await;
    }

    async fn what_a_root_missed_while_it_was_out_is_made_up_for(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let v = vault(&t, TTL, &[&a, &b]).await;
        put(&v, "x").await.unwrap();
        b.turn(DOWN);
        put(&v, "y").await.unwrap();
        let missing = root(&v, &b.key_id()).await;
        assert_eq!((missing.wraps, missing.missing), (1, 1));
        assert!(v.run_due_jobs().await.is_err(), "it says that a root key is out");
        // The new partner's, the audit key's and none of the first's.
        let gauge = v.statistics(&operator(&v)).await.unwrap().root_wraps_missing;
        assert!(gauge >= 1, "{gauge}");
        b.turn(UP);
        v.run_due_jobs().await.unwrap();
        assert_eq!(v.statistics(&operator(&v)).await.unwrap().root_wraps_missing, 0);
        assert_eq!(root(&v, &b.key_id()).await.missing, 0);
        a.turn(LOST);
        let fresh = vault(&t, NONE, &[&a, &b]).await;
        get(&fresh, "y").await.unwrap();
        fresh.close().await;
        v.close().await;
    }

    async fn one_moves_from_a_root_to_another_without_a_pause(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let v = vault(&t, TTL, &[&a]).await;
        for of in ["x", "y", "z"] {
            put(&v, of).await.unwrap();
        }
        v.audit_key().await.unwrap();
        v.close().await;

        let v = vault(&t, NONE, &[&a, &b]).await;
        assert_eq!(root(&v, &b.key_id()).await.state, "inactive");
        put(&v, "early").await.unwrap();
        assert!(!shows(&wraps(&t).await, &b), "it does not wrap before it is added");
        let ctx = operator(&v);
        let keys = v.keys(&ctx);
        assert!(refusal(keys.add_root("c").await).message().contains("there are: a, b"));
        assert_eq!(code(keys.remove_root("a").await), Code::InvalidState);
        b.turn(DOWN);
        assert_eq!(code(keys.add_root("b").await), Code::ServiceUnavailable);
        b.turn(UP);
        let added = keys.add_root("b").await.unwrap();
        assert_eq!((added.wrapped, added.current), (5, 0), "four partners and the audit key");
        let again = keys.add_root("b").await.unwrap();
        assert_eq!((again.wrapped, again.current), (0, 5));
        let report = keys.verify(Verify::All).await.unwrap();
        assert_eq!((report.broken_total, report.checked.partner_keys, report.checked.instance_keys), (0, 4, 1));
        assert!(report.roots.iter().all(|root| (root.opened, root.broken, root.unchecked) == (5, 0, 0)));
        a.turn(CORRUPT);
        let report = keys.verify(Verify::All).await.unwrap();
        assert_eq!(report.broken_total, 5);
        assert!(report.broken[0].reason.contains("root key a"), "{report:?}");
        a.turn(DOWN);
        let report = keys.verify(Verify::All).await.unwrap();
        assert_eq!((report.broken_total, report.roots[0].unchecked), (0, 5));
        a.turn(DENIED);
        let report = keys.verify(Verify::All).await.unwrap();
        assert_eq!((report.broken_total, report.roots[0].unchecked), (0, 5), "nothing is known about the wraps");

        a.turn(UP);
        assert_eq!(keys.verify(Verify::All).await.unwrap().roots[0].opened, 5);
        a.turn(LIES);
        let lies = refusal(keys.remove_root("a").await);
        assert!(lies.code() == Code::InvalidState && lies.message().contains("opens to another key"), "{lies}");
        a.turn(DOWN);
        let nobody = refusal(keys.remove_root("aws:nothing").await);
        assert_eq!(nobody.code(), Code::NotFound);
        assert!(nobody.message().contains(&format!("local:{}", a.key_id())), "{nobody}");
        let removed = keys.remove_root("a").await.unwrap();
        assert_eq!((removed.dropped, removed.key_id, removed.cas), (5, a.key_id(), 0));
        assert!(!shows(&wraps(&t).await, &a) && shows(&wraps(&t).await, &b));
        assert_eq!(keys.remove_root("a").await.unwrap().dropped, 0, "a second time changes nothing");
        assert_eq!(code(keys.remove_root("b").await), Code::InvalidState);
        put(&v, "late").await.unwrap();
        v.close().await;

        a.turn(LOST);
        let v = builder(&t, &[&b]).first_root_name("b").open().await.unwrap();
        for of in ["x", "y", "z", "early", "late"] {
            get(&v, of).await.unwrap();
        }
        v.audit_key().await.unwrap();
        assert_eq!(v.keys(&operator(&v)).verify(Verify::All).await.unwrap().broken_total, 0);
        let trail = t.raw.trail("action = 'key_rotate'").await;
        for step in ["register", "add", "wrap", "remove", "unwrap", "removed"] {
            assert!(trail.iter().any(|record| record.extra["step"] == step), "{step}");
        }
        let first = trail.iter().find(|record| record.extra["step"] == "register").unwrap();
        assert_eq!(first.extra["root_key"], format!("local:{}", a.key_id()));
        assert_eq!(first.identity, "system:key-rotation");
        v.close().await;
    }

    async fn a_root_that_something_needs_is_not_removed(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let v = vault(&t, TTL, &[&a, &b]).await;
        put(&v, "x").await.unwrap();
        b.turn(DOWN);
        put(&v, "y").await.unwrap();
        let ctx = operator(&v);
        let keys = v.keys(&ctx);
        let needed = refusal(keys.remove_root("a").await);
        assert_eq!(needed.code(), Code::InvalidState);
        assert!(needed.message().contains("partner_key pk_"), "{needed}");
        b.turn(UP);
        assert!(refusal(keys.remove_root("a").await).message().contains("has to stay"), "y is not under b");
        assert_eq!(root(&v, &a.key_id()).await.state, "active");
        v.run_due_jobs().await.unwrap();
        v.close().await;

        // One that is no longer configured, and gone.
        let v = builder(&t, &[&b]).first_root_name("b").open().await.unwrap();
        let removed = v.keys(&operator(&v)).remove_root(&format!("local:{}", a.key_id())).await.unwrap();
        assert!(removed.dropped >= 2, "{removed:?}");
        assert!(!shows(&wraps(&t).await, &a));
        get(&v, "y").await.unwrap();
        v.close().await;
    }

    async fn keys_that_come_while_a_root_key_goes_are_not_lost_with_it(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let first = vault(&t, TTL, &[&a]).await;
        put(&first, "p0").await.unwrap();
        let (one, two) = (vault(&t, NONE, &[&a, &b]).await, vault(&t, NONE, &[&a, &b]).await);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let newcomers = tokio::spawn({
            let two = two.clone();
            async move {
                let (mut count, mut stopped) = (1, stopped);
                while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                    put(&two, &format!("p{count}")).await.unwrap();
                    get(&two, &format!("p{}", count / 2)).await.unwrap();
                    count += 1;
                }
                count
            }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let ctx = operator(&one);
        one.keys(&ctx).add_root("b").await.unwrap();
        // A key that came in the last moment of the one, before it was known of, is no reason to lose it.
        while let Err(error) = one.keys(&ctx).remove_root("a").await {
            assert_eq!(error.code(), Code::InvalidState, "{error}");
            one.run_due_jobs().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        stop.send(()).unwrap();
        let count = newcomers.await.unwrap();
        assert!(count > 5, "{count}");
        a.turn(LOST);
        let fresh = builder(&t, &[&b]).first_root_name("b").key_cache_ttl(NONE).open().await.unwrap();
        for n in 0..count {
            get(&fresh, &format!("p{n}")).await.unwrap();
        }
        fresh.run_due_jobs().await.unwrap();
        assert!(!shows(&wraps(&t).await, &a), "what came late was taken away");
        for v in [first, one, two, fresh] {
            v.close().await;
        }
    }

    async fn a_root_key_that_takes_the_place_of_another_wraps_after_it_was_rotated_to(t: Bench) {
        let (old, new, b) = (FakeService::new(1), FakeService::after(3, 1), FakeService::new(2));
        let v = vault(&t, TTL, &[&old, &b]).await;
        put(&v, "x").await.unwrap();
        v.close().await;
        let v = vault(&t, NONE, &[&new, &b]).await;
        put(&v, "y").await.unwrap();
        assert_eq!(root(&v, &new.key_id()).await.state, "inactive");
        assert!(shows(&wraps(&t).await, &old));
        let ctx = operator(&v);
        let rotated = v.keys(&ctx).rotate_root().await.unwrap();
        assert_eq!((rotated.rewrapped, rotated.current), (1, 1));
        v.run_due_jobs().await.unwrap();
        assert!(!shows(&wraps(&t).await, &old));
        assert_eq!(root(&v, &old.key_id()).await.state, "removed");
        let seen = root(&v, &new.key_id()).await;
        assert_eq!((seen.state.as_str(), seen.missing), ("active", 0));
        old.turn(LOST);
        b.turn(LOST);
        for of in ["x", "y"] {
            get(&v, of).await.unwrap();
        }
        v.close().await;

        // With one root key alone, new keys come under it at once: it has proven to open what the other has wrapped.
        let alone = builder(&t, &[&FakeService::after(4, 3)]).key_cache_ttl(NONE).open().await.unwrap();
        put(&alone, "z").await.unwrap();
        assert_eq!(alone.keys(&operator(&alone)).rotate_root().await.unwrap().rewrapped, 2);
        alone.close().await;
    }

    async fn replicas_that_do_the_same_at_once_do_not_disturb_each_other(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::slow(2, Duration::from_millis(2)));
        let first = vault(&t, TTL, &[&a]).await;
        for n in 0..12 {
            put(&first, &format!("p{n}")).await.unwrap();
        }
        let (one, two) = (vault(&t, NONE, &[&a, &b]).await, vault(&t, NONE, &[&a, &b]).await);
        let (ctx_one, ctx_two) = (operator(&one), operator(&two));
        let (keys_one, keys_two) = (one.keys(&ctx_one), two.keys(&ctx_two));
        let (x, y) = tokio::join!(keys_one.add_root("b"), keys_two.add_root("b"));
        let (x, y) = (x.unwrap(), y.unwrap());
        assert!(x.wrapped + y.wrapped >= 12, "{x:?} {y:?}");
        let seen = root(&one, &b.key_id()).await;
        assert_eq!((seen.wraps, seen.missing), (12, 0));

        // Each wants to remove the other's: one root key stays.
        let (x, y) = tokio::join!(keys_one.remove_root("a"), keys_two.remove_root("b"));
        assert!(x.is_err() || y.is_err());
        let active: Vec<_> =
            status(&one).await.roots.into_iter().filter(|root| root.state == "active").collect();
        assert_eq!(active.len(), 1, "{active:?}");
        for n in 0..12 {
            get(&one, &format!("p{n}")).await.unwrap();
        }
        for v in [first, one, two] {
            v.close().await;
        }
    }

    async fn what_was_cut_off_goes_on(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::slow(2, Duration::from_millis(20)));
        let v = vault(&t, TTL, &[&a]).await;
        for n in 0..10 {
            put(&v, &format!("p{n}")).await.unwrap();
        }
        v.close().await;
        for verb in ["add", "remove"] {
            let v = vault(&t, NONE, &[&a, &b]).await;
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let task = tokio::spawn({
                let v = v.clone();
                async move {
                    let ctx = operator(&v);
                    let watch = |progress| {
                        let _ = tell.send(progress);
                    };
                    let keys = v.keys(&ctx).watched(&watch);
                    match verb {
                        "add" => keys.add_root("b").await.map(drop),
                        _ => keys.remove_root("a").await.map(drop),
                    }
                }
            });
            told.recv().await.unwrap();
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            for n in 0..10 {
                get(&v, &format!("p{n}")).await.unwrap();
            }
            let ctx = operator(&v);
            match verb {
                "add" => {
                    let added = v.keys(&ctx).add_root("b").await.unwrap();
                    assert!(added.wrapped > 0 && added.wrapped + added.current == 10, "{added:?}");
                }
                _ => {
                    v.keys(&ctx).remove_root("a").await.unwrap();
                    assert!(!shows(&wraps(&t).await, &a));
                }
            }
            v.close().await;
        }
    }

    async fn shares_open_everything_when_every_root_key_is_lost(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let v = vault(&t, TTL, &[&a]).await;
        for of in ["x", "y"] {
            put(&v, of).await.unwrap();
        }
        v.audit_key().await.unwrap();
        let ctx = operator(&v);
        let keys = v.keys(&ctx);
        assert_eq!(code(keys.recovery_create(3, 4).await), Code::InvalidRequest);
        assert_eq!(code(keys.recovery_remove().await), Code::NotFound);
        let made = keys.recovery_create(5, 3).await.unwrap();
        assert_eq!((made.shares.len(), made.wrapped), (5, 4), "two partners, the audit key, and its own");
        put(&v, "z").await.unwrap();
        let texts: Vec<String> =
            made.shares.iter().map(|share| String::from_utf8(share.text().expose().to_vec()).unwrap()).collect();
        let dump = t.raw.dump_all().await.to_lowercase();
        assert!(texts.iter().all(|text| !dump.contains(&text.replace('-', "")[26..90])), "they are nowhere");
        let parse = |which: &[usize]| -> Vec<RecoveryShare> {
            which.iter().map(|n| RecoveryShare::parse(&texts[*n]).unwrap()).collect()
        };
        let drill = keys.recovery_drill(&parse(&[4, 0, 2])).await.unwrap();
        assert_eq!((drill.opened, drill.compared, drill.missing, drill.broken_total), (5, 5, 0, 0));
        assert_eq!(drill.fingerprint, made.fingerprint);
        assert!(refusal(keys.recovery_drill(&parse(&[0, 1])).await).message().contains("it takes 3"));
        assert!(refusal(keys.recovery_drill(&parse(&[0, 1, 1])).await).message().contains("twice"));
        v.close().await;

        // The root key is gone, and what has taken its place opens nothing.
        let v = builder(&t, &[&b]).first_root_name("b").key_cache_ttl(NONE).open().await.unwrap();
        a.turn(LOST);
        assert_eq!(code(get(&v, "x").await), Code::ServiceUnavailable);
        assert_eq!(code(put(&v, "new").await), Code::ServiceUnavailable);
        let ctx = operator(&v);
        let keys = v.keys(&ctx);
        assert!(keys.add_root("b").await.is_err());
        assert_eq!(root(&v, &b.key_id()).await.state, "inactive", "where nothing opens, it does not wrap either");
        let drill = keys.recovery_drill(&parse(&[1, 2, 3])).await.unwrap();
        assert_eq!((drill.opened, drill.compared), (5, 0));
        let added = keys.add_root_by_recovery("b", &parse(&[1, 2, 3])).await.unwrap();
        assert_eq!(added.wrapped, 5);
        for of in ["x", "y", "z"] {
            get(&v, of).await.unwrap();
        }
        v.audit_key().await.unwrap();
        put(&v, "new").await.unwrap();
        keys.remove_root(&format!("local:{}", a.key_id())).await.unwrap();
        assert!(!shows(&wraps(&t).await, &a));

        // Another recovery root takes the place of this one, whose shares open until that is settled.
        let next = keys.recovery_create(2, 2).await.unwrap();
        assert!(next.unfinished.is_none());
        assert_eq!(root(&v, &made.fingerprint).await.state, "removing");
        let six = "four partners, the audit key, and that of the new recovery root";
        assert_eq!(keys.recovery_drill(&parse(&[0, 1, 2])).await.unwrap().opened, 6, "{six}");
        b.turn(DOWN);
        assert!(keys.recovery_settle().await.is_err());
        assert_eq!(code(keys.recovery_remove().await), Code::InvalidState);
        assert_eq!(keys.recovery_drill(&parse(&[0, 1, 2])).await.unwrap().opened, 6, "nothing was taken away");
        assert_eq!(root(&v, &next.fingerprint).await.state, "active");
        b.turn(UP);
        assert_eq!(keys.recovery_settle().await.unwrap(), 6);
        assert_eq!(root(&v, &made.fingerprint).await.state, "removed");
        assert_eq!(keys.recovery_settle().await.unwrap(), 0);
        let old = refusal(keys.recovery_drill(&parse(&[0, 1, 2])).await);
        assert!(old.code() == Code::NotFound && old.message().contains(&next.fingerprint), "{old}");
        let drill = keys.recovery_drill(&next.shares).await.unwrap();
        assert_eq!((drill.opened, drill.missing, drill.broken_total), (6, 0, 0));
        let old = hex::encode(&made.fingerprint);
        assert!(!wraps(&t).await.contains(&old));
        assert!(keys.recovery_remove().await.unwrap() >= 5);
        assert!(!wraps(&t).await.contains(&hex::encode(&next.fingerprint)));
        assert_eq!(code(keys.recovery_drill(&next.shares).await), Code::NotFound);
        assert_eq!(keys.verify(Verify::All).await.unwrap().broken_total, 0);
        v.close().await;
    }

    async fn shares_are_handed_out_whatever_fails_once_their_key_is_in_force(t: Bench) {
        let a = FakeService::new(1);
        let (v, two) = (vault(&t, NONE, &[&a]).await, vault(&t, NONE, &[&a]).await);
        put(&v, "x").await.unwrap();
        let ctx = operator(&v);
        let first = v.keys(&ctx).recovery_create(2, 2).await.unwrap();
        let once = AtomicU64::new(0);
        let watch = |progress: scaivault_core::keys::Progress| {
            if (progress.table, progress.done) == ("root_key", 2) && once.fetch_add(1, Ordering::SeqCst) == 0 {
                let late = async {
                    // Under what it is before everybody knows of the new one; and then the root key is out.
                    put(&two, "late").await.unwrap();
                    a.turn(DOWN);
                };
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(late));
            }
        };
        let made = v.keys(&ctx).watched(&watch).recovery_create(3, 2).await.unwrap();
        assert!(made.unfinished.as_ref().unwrap().code() == Code::ServiceUnavailable, "{:?}", made.unfinished);
        assert_eq!(made.shares.len(), 3);
        let keys = v.keys(&ctx);
        let (new, old) =
            (keys.recovery_drill(&made.shares).await.unwrap(), keys.recovery_drill(&first.shares).await.unwrap());
        assert_eq!((new.broken_total, new.missing, old.broken_total), (0, 1, 0));
        assert!(old.opened >= 2, "{old:?}");
        assert!(keys.recovery_settle().await.is_err());
        a.turn(UP);
        assert!(keys.recovery_settle().await.unwrap() >= 2);
        let new = keys.recovery_drill(&made.shares).await.unwrap();
        assert_eq!((new.broken_total, new.missing), (0, 0));
        assert_eq!(code(keys.recovery_drill(&first.shares).await), Code::NotFound);
        v.close().await;
        two.close().await;
    }

    async fn another_key_under_the_same_name_is_not_taken_for_the_one_before(t: Bench) {
        let (a, before, now) =
            (FakeService::new(1), FakeService::labelled(2, "slot"), FakeService::labelled(3, "slot"));
        let v = vault(&t, TTL, &[&a, &before]).await;
        for of in ["x", "y"] {
            put(&v, of).await.unwrap();
        }
        v.close().await;
        // The device was replaced.
        let v = vault(&t, NONE, &[&a, &now]).await;
        put(&v, "z").await.unwrap();
        let ctx = operator(&v);
        let added = v.keys(&ctx).add_root("b").await.unwrap();
        assert_eq!((added.wrapped, added.current), (2, 1), "z was under the new one already");
        assert_eq!(v.keys(&ctx).verify(Verify::All).await.unwrap().broken_total, 0);
        v.close().await;
        a.turn(LOST);
        let alone = builder(&t, &[&now]).first_root_name("b").key_cache_ttl(NONE).open().await.unwrap();
        for of in ["x", "y", "z"] {
            get(&alone, of).await.unwrap();
        }
        alone.close().await;
    }

    async fn one_wrap_that_is_refused_does_not_put_the_root_key_out(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let v = vault(&t, TTL, &[&a]).await;
        for of in ["x", "y", "z"] {
            put(&v, of).await.unwrap();
        }
        v.close().await;
        let v = vault(&t, NONE, &[&a, &b]).await;
        b.refuses.store(1, Ordering::SeqCst);
        assert!(v.keys(&operator(&v)).add_root("b").await.is_err());
        let seen = root(&v, &b.key_id()).await;
        assert_eq!((seen.wraps, seen.missing), (2, 1));
        v.close().await;
    }

    async fn a_rotation_says_what_it_skipped(t: Bench) {
        let (old, former, b) = (FakeService::new(1), FakeService::new(2), FakeService::new(5));
        let v = vault(&t, TTL, &[&old, &b, &former]).await;
        for of in ["x", "y"] {
            put(&v, of).await.unwrap();
        }
        v.close().await;
        let files = LocalProvider::with_older(key_file(3), vec![key_file(1), key_file(2)]);
        let (new, other) = (FakeService::of(files, Duration::ZERO), FakeService::after(4, 1));
        let v = vault(&t, NONE, &[&new, &other, &b]).await;
        new.turn(DOWN);
        // What only the one that is out opens has to be told of, although another opens the rest.
        let error = refusal(v.keys(&operator(&v)).rotate_root().await);
        assert_eq!(error.code(), Code::ServiceUnavailable);
        assert!(error.causes().contains("root key a: "), "{}", error.causes());
        assert!(shows(&wraps(&t).await, &former));
        new.turn(UP);
        tokio::time::sleep(Duration::from_millis(2100)).await;
        v.run_due_jobs().await.unwrap();
        v.keys(&operator(&v)).rotate_root().await.unwrap();
        assert!(!shows(&wraps(&t).await, &former) && !shows(&wraps(&t).await, &old));
        v.close().await;
    }

    async fn a_root_key_that_was_removed_comes_back_with_its_key_file(t: Bench) {
        let first = FakeService::new(1);
        let v = vault(&t, TTL, &[&first]).await;
        put(&v, "x").await.unwrap();
        v.close().await;
        let v = vault(&t, NONE, &[&FakeService::after(3, 1)]).await;
        v.keys(&operator(&v)).rotate_root().await.unwrap();
        assert_eq!(root(&v, &first.key_id()).await.state, "removed");
        v.close().await;
        let v = vault(&t, NONE, &[&FakeService::after(1, 3)]).await;
        put(&v, "y").await.unwrap();
        assert_eq!(root(&v, &first.key_id()).await.state, "active");
        let trail = t.raw.trail("action = 'key_rotate'").await;
        assert!(trail.iter().any(|record| record.extra["step"] == "succeed"));
        v.close().await;
    }

    async fn a_root_key_is_rotated_in_place_once_and_on_record(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let v = vault(&t, TTL, &[&a, &b]).await;
        put(&v, "x").await.unwrap();
        let ctx = operator(&v);
        let keys = v.keys(&ctx);
        let done = keys.rotate_root_in_place(None).await.unwrap();
        assert_eq!((done.rewrapped, done.current), (0, 1), "it tells no versions apart");
        keys.rotate_root_in_place(Some("b")).await.unwrap();
        let rotations = |root: &FakeService| root.rotations.load(Ordering::SeqCst);
        assert_eq!((rotations(&a), rotations(&b)), (1, 1));
        let trail = t.raw.trail("action = 'key_rotate'").await;
        let of = |root: &FakeService| {
            let root = format!("local:{}", root.key_id());
            trail.iter().filter(|record| record.extra["step"] == "rotate" && record.extra["root_key"] == *root).count()
        };
        assert_eq!((of(&a), of(&b)), (1, 1));
        assert_eq!(code(keys.rotate_root_in_place(Some("c")).await), Code::NotFound);
        a.turn(PLAIN);
        let plain = refusal(keys.rotate_root_in_place(Some("a")).await);
        assert!(plain.code() == Code::InvalidState && plain.message().contains("in place"), "{plain}");
        a.turn(DOWN);
        assert_eq!(code(keys.rotate_root_in_place(Some("a")).await), Code::ServiceUnavailable);
        let admin = admin(&v, "x");
        assert_eq!(code(v.keys(&admin).rotate_root_in_place(None).await), Code::AccessDenied);
        assert_eq!((rotations(&a), rotations(&b)), (1, 1));
        v.close().await;
    }

    async fn sec_nobody_who_writes_to_the_database_makes_himself_the_recovery_root(t: Bench) {
        let a = FakeService::new(1);
        let v = vault(&t, TTL, &[&a]).await;
        put(&v, "x").await.unwrap();
        v.keys(&operator(&v)).recovery_create(3, 2).await.unwrap();
        let forged = "00112233445566778899aabbccddeeff";
        t.raw.execute(&format!("UPDATE root_key SET key_id = '{forged}' WHERE provider = 'recovery'")).await;
        v.close().await;
        let v = vault(&t, TTL, &[&a]).await;
        put(&v, "y").await.unwrap();
        let _ = v.run_due_jobs().await;
        assert!(!wraps(&t).await.contains(&hex::encode(forged)));
        v.close().await;
    }

    async fn roots_are_not_for_the_admin_of_a_tenant(t: Bench) {
        let a = FakeService::new(1);
        let v = vault(&t, TTL, &[&a]).await;
        v.secrets(&t.admin()).put(&path("a"), any()).await.unwrap();
        let admin = t.admin();
        let keys = v.keys(&admin);
        assert_eq!(code(keys.add_root("a").await), Code::AccessDenied);
        assert_eq!(code(keys.remove_root("a").await), Code::AccessDenied);
        assert_eq!(code(keys.bootstrap().await), Code::AccessDenied);
        assert_eq!(code(keys.recovery_create(3, 2).await), Code::AccessDenied);
        assert_eq!(code(keys.recovery_remove().await), Code::AccessDenied);
        assert_eq!(code(keys.recovery_drill(&[]).await), Code::AccessDenied);
        v.close().await;
    }

    async fn a_root_key_is_made_where_there_is_none_and_a_lost_one_is_not_made_anew(t: Bench) {
        let (a, b) = (FakeService::new(1), FakeService::new(2));
        let v = vault(&t, TTL, &[&a, &b]).await;
        b.turn(LOST);
        let found = v.keys(&operator(&v)).bootstrap().await.unwrap();
        assert_eq!(found.iter().map(|root| (&*root.name, root.made)).collect::<Vec<_>>(), [("a", false), ("b", true)]);
        let found = v.keys(&operator(&v)).bootstrap().await.unwrap();
        assert!(found.len() == 2 && found.iter().all(|root| !root.made), "{found:?}");
        put(&v, "x").await.unwrap();
        b.turn(DOWN);
        assert_eq!(code(v.keys(&operator(&v)).bootstrap().await), Code::ServiceUnavailable);
        b.turn(LOST);
        let lost = refusal(v.keys(&operator(&v)).bootstrap().await);
        assert!(lost.code() == Code::InvalidState && lost.message().contains("root key b"), "{lost}");
        v.close().await;

        // Another of the same kind, of another name, holds nothing.
        let c = FakeService::new(3);
        c.turn(LOST);
        let v = vault(&t, TTL, &[&a, &c]).await;
        assert!(v.keys(&operator(&v)).bootstrap().await.unwrap()[1].made);
        v.close().await;
    }
}
