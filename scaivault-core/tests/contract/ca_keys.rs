//! CAs whose keys stay inside of a key provider.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use scaivault_core::{
    AuditFilter, Caller, Code, Ctx, Role, Scope, Vault,
    keys::Verify,
    pki::{Ca, CaCreate, IssueWrite, KeyType, RevocationReason, RolePatch},
};
use scaivault_kms::{
    Context, Description, Health, KeyProvider, KeyRef, KeySpec, KmsError, SecretKey, SignatureScheme,
    SigningKey, WrappedKey,
    local::{KeyFile, LocalProvider, SoftwareKey},
};

use crate::{
    bench::{ACME, Bench, DAY, OTHER, Raw, code, contract, refusal, root_key, tenant},
    pki::{below, revocation, role, role_write, root_write},
};

/// A provider whose signing keys lie in this process, with the refusals of a real one.
#[derive(Debug)]
struct FakeHsm {
    root: LocalProvider,
    keys: Mutex<HashMap<String, Arc<SoftwareKey>>>,
    state: Mutex<State>,
    signed: AtomicUsize,
    /// Looked at while it signs: no transaction may be open then.
    database: Mutex<Option<Watched>>,
}

#[derive(Clone)]
struct Watched(Raw);

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Works,
    /// Nobody answers.
    Away,
    /// Its keys are disabled.
    Disabled,
    /// It does not know us.
    Stranger,
    /// It signs something else.
    Garbles,
}

const KIND: &str = "fake-hsm";

impl FakeHsm {
    fn new(byte: u8) -> Arc<Self> {
        let key = KeyFile::from_key(SecretKey::from_slice(&[byte; 32]).unwrap());
        Arc::new(Self {
            root: LocalProvider::new(key),
            keys: Mutex::default(),
            state: Mutex::new(State::Works),
            signed: AtomicUsize::new(0),
            database: Mutex::default(),
        })
    }

    fn turns(&self, state: State) {
        *self.state.lock().unwrap() = state;
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.keys.lock().unwrap().keys().cloned().collect();
        names.sort();
        names
    }

    /// A key that an operator made by hand.
    fn by_hand(&self, name: &str, spec: KeySpec) {
        let (key, _) = SoftwareKey::generate(spec).unwrap();
        self.keys.lock().unwrap().insert(name.to_owned(), Arc::new(key));
    }

    fn answers(&self) -> Result<(), KmsError> {
        let message = "fake".to_owned();
        match *self.state.lock().unwrap() {
            State::Works | State::Garbles => Ok(()),
            State::Away => Err(KmsError::Unavailable {
                provider: KIND,
                message,
                retry_after: Some(Duration::from_secs(7)),
                source: None,
            }),
            State::Disabled => Err(KmsError::Disabled { provider: KIND, message }),
            State::Stranger => Err(KmsError::Unauthenticated { provider: KIND, message }),
        }
    }

    fn find(self: &Arc<Self>, name: &str) -> Result<Arc<dyn SigningKey>, KmsError> {
        self.answers()?;
        let key = self.keys.lock().unwrap().get(name).cloned();
        let missing = || KmsError::NotFound { provider: KIND, message: name.to_owned() };
        Ok(Arc::new(FakeKey { hsm: self.clone(), key: key.ok_or_else(missing)? }))
    }
}

/// The provider that the vault is given: keys refer back to it.
#[derive(Debug)]
struct Handle(Arc<FakeHsm>);

#[async_trait]
impl KeyProvider for Handle {
    fn describe(&self) -> Description {
        let signature_schemes = vec![SignatureScheme::EcdsaSha256, SignatureScheme::RsaPkcs1Sha256];
        Description { provider: KIND, signature_schemes, extractable: false, ..self.0.root.describe() }
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        self.0.answers()?;
        Ok(WrappedKey { provider: KIND.to_owned(), ..self.0.root.wrap(key, context).await? })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        self.0.answers()?;
        let wrapped = WrappedKey { provider: "local".to_owned(), ..wrapped.clone() };
        self.0.root.unwrap(&wrapped, context).await
    }

    async fn health(&self) -> Result<Health, KmsError> {
        self.0.answers()?;
        self.0.root.health().await
    }

    async fn create_signing_key(&self, name: &str, spec: KeySpec) -> Result<Arc<dyn SigningKey>, KmsError> {
        self.0.answers()?;
        self.0.by_hand(name, spec);
        self.0.find(name)
    }

    async fn signing_key(&self, key: &KeyRef) -> Result<Arc<dyn SigningKey>, KmsError> {
        self.0.find(&key.0)
    }
}

#[derive(Debug)]
struct FakeKey {
    hsm: Arc<FakeHsm>,
    key: Arc<SoftwareKey>,
}

#[async_trait]
impl SigningKey for FakeKey {
    fn spec(&self) -> KeySpec {
        self.key.spec()
    }

    fn public_key_der(&self) -> &[u8] {
        self.key.public_key_der()
    }

    async fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KmsError> {
        self.hsm.answers()?;
        self.hsm.signed.fetch_add(1, Ordering::Relaxed);
        let database = self.hsm.database.lock().unwrap().clone();
        match database {
            // Whoever writes keeps every other writer out.
            Some(Watched(raw @ Raw::Lite(_))) => {
                raw.try_execute("UPDATE tenant SET partner_id = partner_id WHERE tenant_id = ''")
                    .await
                    .unwrap();
            }
            Some(Watched(raw)) => {
                let open = "pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND query LIKE '%pki_%'";
                assert_eq!(raw.count(open).await, 0, "a transaction is open while a provider signs");
            }
            None => {}
        }
        let garbled = [message, b"!"].concat();
        let garbles = *self.hsm.state.lock().unwrap() == State::Garbles;
        self.key.sign(scheme, if garbles { &garbled } else { message }).await
    }
}

/// The bench's vault, with two root keys: its own, and an HSM called `hsm`.
async fn with_hsm(t: &Bench) -> (Vault, Arc<FakeHsm>) {
    let hsm = FakeHsm::new(9);
    let builder = t.builder(root_key(7)).add_root("hsm", Arc::new(Handle(hsm.clone())));
    let vault = builder.open().await.unwrap();
    *hsm.database.lock().unwrap() = Some(Watched(t.raw.clone()));
    (vault, hsm)
}

fn in_hsm(write: CaCreate) -> CaCreate {
    CaCreate { key_provider: Some("hsm".to_owned()), ..write }
}

fn with_key(write: CaCreate, key_ref: &str) -> CaCreate {
    CaCreate { key_ref: Some(key_ref.to_owned()), key_type: None, ..in_hsm(write) }
}

/// An operator in a tenant.
fn operator(vault: &Vault, id: &str) -> Ctx {
    let caller = Caller::user("user:operator", tenant(id)).unwrap();
    vault.ctx(caller.with_scopes([Scope::Admin]).with_roles([Role::SuperAdmin])).unwrap()
}

async fn make(vault: &Vault, ctx: &Ctx, write: CaCreate) -> Ca {
    vault.pki(ctx).create_ca(write).await.unwrap()
}

fn leaf(name: &str) -> IssueWrite {
    IssueWrite { common_name: Some(name.to_owned()), ..IssueWrite::default() }
}

/// Runs `openssl` on these files in a folder.
fn openssl(files: &[(&str, &[u8])], arguments: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let done = std::process::Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir.path())
        .output()
        .unwrap();
    (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

#[track_caller]
fn field(error: &scaivault_core::Error, name: &str, reason: &str) {
    assert_eq!(error.code(), Code::ValidationError, "{error}");
    let told = error.details().fields.get(name).unwrap_or_else(|| panic!("{error:?}"));
    assert!(told.len() == 1 && told[0].contains(reason), "{told:?}");
}

contract! {
    async fn a_chain_below_a_key_in_a_provider_verifies_and_the_database_has_no_key(t: Bench) {
        let (vault, hsm) = with_hsm(&t).await;
        let admin = t.admin();
        let rsa = CaCreate { key_type: Some(KeyType::Rsa), key_size: Some(2048), ..root_write("Top") };
        let top = make(&vault, &admin, in_hsm(rsa)).await;
        let mid_ctx = t.admin();
        let mid = make(&vault, &mid_ctx, in_hsm(below(&top, "Mid"))).await;
        assert_eq!((top.key_provider.as_deref(), top.key_type, top.key_size), (Some("hsm"), KeyType::Rsa, Some(2048)));
        // Named after the tenant and the CA.
        let names: Vec<_> = [&mid, &top].map(|ca| format!("tnt-acme-{}", ca.id.replace('_', "-"))).into();
        assert_eq!(hsm.names(), names);
        assert_eq!(mid.key_ref.as_ref(), Some(&names[0]));
        assert_eq!(vault.pki(&admin).ca(&mid.id).await.unwrap(), mid);
        let record = &t.trail(&mid_ctx).await[0];
        assert_eq!((record.action.as_str(), record.outcome.as_str()), ("pki_ca_create", "ok"));
        assert_eq!((&record.extra["key_provider"], &record.extra["key_ref"]), (&"hsm".into(), &names[0].as_str().into()));

        role(&vault, &admin, "web", &mid.id).await;
        let issued = vault.pki(&admin).issue("web", leaf("a.svc.test")).await.unwrap();
        let other = vault.pki(&admin).issue("web", leaf("b.svc.test")).await.unwrap();
        vault.pki(&admin).revoke(revocation(&other.serial_number)).await.unwrap();
        vault.pki(&admin).build_crl(&top.id).await.unwrap();
        vault.pki(&admin).build_crl(&mid.id).await.unwrap();
        let (top_crl, mid_crl) =
            (vault.public_pki().crl(&top.id).await.unwrap(), vault.public_pki().crl(&mid.id).await.unwrap());
        let (top_crl, mid_crl) = (top_crl.pem(), mid_crl.pem());
        let ask_with = |leaf: &str, nonce: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("mid.pem"), &issued.ca_chain[0]).unwrap();
            std::fs::write(dir.path().join("leaf.pem"), leaf).unwrap();
            let words = format!("ocsp -issuer mid.pem -cert leaf.pem {nonce} -reqout ask.der");
            let words = words.split(' ');
            let done = std::process::Command::new("openssl").args(words).current_dir(dir.path()).output().unwrap();
            assert!(done.status.success());
            std::fs::read(dir.path().join("ask.der")).unwrap()
        };
        let ask = |leaf: &str| ask_with(leaf, "-no_nonce");
        let at = t.now().unix_timestamp();
        for (leaf, good) in [(&issued.certificate, true), (&other.certificate, false)] {
            let files = [
                ("top.pem", issued.ca_chain[1].as_bytes()),
                ("mid.pem", issued.ca_chain[0].as_bytes()),
                ("leaf.pem", leaf.as_bytes()),
                ("crls.pem", &[top_crl.as_bytes(), mid_crl.as_bytes()].concat()),
            ];
            let (agreed, said) = openssl(&files, &format!(
                "verify -x509_strict -crl_check_all -CRLfile crls.pem -attime {at} -CAfile top.pem -untrusted mid.pem leaf.pem"
            ));
            assert_eq!((agreed, said.contains("certificate revoked")), (good, !good), "{said}");
            let answer = vault.public_pki().ocsp(&mid.id, &ask(leaf)).await.unwrap();
            let (agreed, said) = openssl(&[&files[..], &[("answer.der", &answer.der)]].concat(), &format!(
                "ocsp -resp_text -respin answer.der -issuer mid.pem -cert leaf.pem -no_nonce -CAfile top.pem \
                 -verify_other mid.pem -attime {at} -validity_period 1000000000"
            ));
            assert!(agreed && said.contains(if good { "Cert Status: good" } else { "Cert Status: revoked" }), "{said}");
        }
        assert_eq!(t.raw.count("pki_ca WHERE key_ciphertext IS NULL AND key_id IS NULL AND key_ref IS NOT NULL").await, 2);
        // Root: certificate, two lists, the intermediate. Intermediate: two leaves, two lists, its OCSP responder.
        let signed = || hsm.signed.load(Ordering::Relaxed);
        assert_eq!(signed(), 9);
        assert_eq!(t.raw.count("pki_serial WHERE source = 'ocsp'").await, 1);

        // Anybody may ask: that costs no signature of the provider, and the same again none at all.
        let first = vault.public_pki().ocsp(&mid.id, &ask(&issued.certificate)).await.unwrap();
        for _ in 0..3 {
            assert_eq!(vault.public_pki().ocsp(&mid.id, &ask(&issued.certificate)).await.unwrap(), first);
        }
        let stranger = vault.public_pki().ocsp(&mid.id, &ask(&issued.ca_chain[1])).await.unwrap();
        assert_eq!(stranger.der, [0x30, 0x03, 0x0a, 0x01, 0x06], "unauthorized: of another issuer");
        let nonce = ask_with(&issued.certificate, "-nonce");
        let (once, twice) =
            (vault.public_pki().ocsp(&mid.id, &nonce).await.unwrap(), vault.public_pki().ocsp(&mid.id, &nonce).await.unwrap());
        assert!(once.fresh.is_none() && once.der != twice.der, "signed afresh with a nonce");
        let counted = vault.statistics(&admin).await.unwrap().ocsp;
        for expected in [("good", 7), ("revoked", 1), ("unauthorized", 1), ("cached", 4), ("signed", 4)] {
            assert!(counted.contains(&expected), "{expected:?}: {counted:?}");
        }
        assert_eq!(signed(), 9);
        t.clock.advance(Duration::from_secs(600));
        assert_ne!(vault.public_pki().ocsp(&mid.id, &ask(&issued.certificate)).await.unwrap(), first);
        assert_eq!(signed(), 9);
        // What is revoked is so at once.
        vault.pki(&t.admin()).revoke(revocation(&issued.serial_number)).await.unwrap();
        let revoked = vault.public_pki().ocsp(&mid.id, &ask(&issued.certificate)).await.unwrap();
        assert_ne!(revoked.der, first.der);
        assert_eq!(signed(), 9);
        // The responder is replaced in the middle of its life, by itself.
        t.clock.advance(DAY * 4);
        vault.public_pki().ocsp(&mid.id, &ask(&issued.certificate)).await.unwrap();
        vault.public_pki().ocsp(&mid.id, &nonce).await.unwrap();
        assert_eq!(signed(), 10);
        assert_eq!(t.raw.count("pki_serial WHERE source = 'ocsp'").await, 2);
    }

    async fn a_root_key_whose_provider_has_keys_of_cas_is_removed_with_a_word_about_them(t: Bench) {
        let (vault, hsm) = with_hsm(&t).await;
        let admin = t.admin();
        let top = make(&vault, &admin, in_hsm(root_write("Top"))).await;
        make(&vault, &admin, in_hsm(below(&top, "Mid"))).await;
        make(&vault, &admin, root_write("Here")).await;
        *hsm.database.lock().unwrap() = None;
        let ops = operator(&vault, ACME);
        let removed = vault.keys(&ops).remove_root("hsm").await.unwrap();
        assert_eq!((removed.cas, removed.name.as_deref()), (2, Some("hsm")));
        role(&vault, &admin, "web", &top.id).await;
        vault.pki(&admin).issue("web", leaf("a.svc.test")).await.unwrap();
    }

    async fn sealed_keys_and_provided_ones_live_side_by_side(t: Bench) {
        let (vault, _) = with_hsm(&t).await;
        let admin = t.admin();
        let here = make(&vault, &admin, root_write("Here")).await;
        assert_eq!((&here.key_provider, &here.key_ref), (&None, &None));
        let there = make(&vault, &admin, in_hsm(below(&here, "There"))).await;
        let again = make(&vault, &admin, below(&there, "Again")).await;
        for (ca, name) in [(&here, "here"), (&there, "there"), (&again, "again")] {
            let kept = RolePatch { store_private_keys: Some(true), ..RolePatch::default() };
            vault.pki(&admin).create_role(role_write(name, &ca.id)).await.unwrap();
            vault.pki(&admin).patch_role(name, kept).await.unwrap();
            let issued = vault.pki(&admin).issue(name, leaf("a.svc.test")).await.unwrap();
            let (_, key) = vault.pki(&admin).certificate_with_key(&issued.id).await.unwrap();
            assert!(key.is_some());
        }
        for ca in vault.pki(&admin).cas(None, None).await.unwrap().items {
            let provider = (ca.name == "There").then_some("hsm");
            assert_eq!(ca.key_provider.as_deref(), provider, "{}", ca.name);
        }

        // What looks after sealed keys passes the other by.
        let ops = operator(&vault, ACME);
        assert_eq!(vault.keys(&ops).verify(Verify::All).await.unwrap().broken_total, 0);
        assert_eq!(vault.keys(&ops).verify(Verify::Sample(5)).await.unwrap().broken_total, 0);
        let rotation = vault.keys(&ops).rotate_tenant(&tenant(ACME)).await.unwrap();
        assert_eq!((rotation.rewrapped, rotation.broken), (8, 0), "two CAs, three leaves, and of three CAs the keys for serial numbers");
        vault.pki(&admin).issue("there", leaf("b.svc.test")).await.unwrap();
        vault.pki(&admin).issue("again", leaf("b.svc.test")).await.unwrap();
        vault.run_due_jobs().await.unwrap();
    }

    async fn nothing_is_issued_for_a_key_that_was_compromised(t: Bench) {
        let (vault, _hsm) = with_hsm(&t).await;
        let admin = t.admin();
        let top = make(&vault, &admin, root_write("Top")).await;
        let mid = make(&vault, &admin, in_hsm(below(&top, "Mid"))).await;
        let key_ref = mid.key_ref.clone().unwrap();
        vault.pki(&admin).revoke_ca(&mid.id, RevocationReason::KeyCompromise).await.unwrap();
        // As if the CA were not there any more, which would keep its key to itself.
        t.raw.execute("UPDATE pki_ca SET key_fingerprint = serial WHERE key_fingerprint IS NOT NULL").await;
        let ops = operator(&vault, ACME);
        let error = refusal(vault.pki(&ops).create_ca(with_key(below(&top, "Again"), &key_ref)).await);
        field(&error, "key_ref", "compromised");
        assert_eq!(t.raw.count("pki_ca").await, 2);
    }

    async fn what_cannot_be_is_refused_by_its_field_and_makes_no_key(t: Bench) {
        let (vault, hsm) = with_hsm(&t).await;
        let admin = t.admin();
        let create = async |write: CaCreate| refusal(vault.pki(&admin).create_ca(write).await);
        let provider = |name: &str| CaCreate { key_provider: Some(name.to_owned()), ..root_write("Top") };
        field(&create(provider("hms")).await, "key_provider", "none of the configured");
        field(&create(provider("local")).await, "key_provider", "has no signing keys");
        let bits = |size| CaCreate { key_size: Some(size), ..in_hsm(root_write("Top")) };
        field(&create(bits(384)).await, "key_type", "has no ec-p384 keys");
        field(&create(bits(512)).await, "key_size", "256, 384 or 521");
        let ml_dsa = CaCreate { key_type: Some(KeyType::MlDsa65), key_size: None, ..in_hsm(root_write("Top")) };
        field(&create(ml_dsa).await, "key_type", "has no ml-dsa-65 keys");
        let no_provider = CaCreate { key_ref: Some("k".to_owned()), ..root_write("Top") };
        field(&create(no_provider).await, "key_ref", "needs key_provider");
        let long = CaCreate { validity_days: Some(0), ..in_hsm(root_write("Top")) };
        assert_eq!(create(long).await.code(), Code::ValidationError);
        let below_nothing = CaCreate { parent_ca_id: Some("ca_root_x".to_owned()), ..in_hsm(below(&make(&vault, &admin, root_write("Here")).await, "Mid")) };
        assert_eq!(create(below_nothing).await.code(), Code::CaNotFound);
        assert_eq!(create(in_hsm(root_write("HERE"))).await.code(), Code::NameConflict);
        let scopeless = t.scoped("user:issuer", &[Scope::PkiIssue]);
        assert_eq!(code(vault.pki(&scopeless).create_ca(in_hsm(root_write("Top"))).await), Code::InsufficientScope);
        assert_eq!(hsm.names(), Vec::<String>::new());
        assert_eq!(t.raw.count("pki_ca").await, 1);
    }

    async fn a_key_that_exists_is_for_operators_and_for_one_ca_alone(t: Bench) {
        let (vault, hsm) = with_hsm(&t).await;
        hsm.by_hand("ec", KeySpec::EcP256);
        hsm.by_hand("rsa", KeySpec::Rsa2048);
        let ops = operator(&vault, ACME);
        let by = async |ctx: &Ctx, write: CaCreate| vault.pki(ctx).create_ca(write).await;
        // A tenant's admin may not: the provider is everybody's.
        assert_eq!(code(by(&t.admin(), with_key(root_write("Top"), "ec")).await), Code::AccessDenied);
        let refused = async |write: CaCreate| refusal(by(&ops, write).await);
        field(&refused(with_key(root_write("Top"), "none")).await, "key_ref", "no such key");
        let typed = |key_type, key_size| CaCreate { key_type, key_size, ..with_key(root_write("Top"), "rsa") };
        field(&refused(typed(Some(KeyType::Ec), None)).await, "key_type", "the key is of kind rsa-2048");
        field(&refused(typed(Some(KeyType::Rsa), Some(4096))).await, "key_type", "the key is of kind rsa-2048");
        field(&refused(with_key(root_write("Top"), "")).await, "key_ref", "1 to 2048 bytes");
        field(&refused(with_key(root_write("Top"), "a\nb")).await, "key_ref", "control characters");
        let root = hsm.root.describe().key_id;
        field(&refused(with_key(root_write("Top"), &root)).await, "key_ref", "names a root key");
        field(&refused(with_key(root_write("Top"), &format!("label:{root}/mac"))).await, "key_ref", "names a root key");
        assert_eq!(hsm.signed.load(Ordering::Relaxed), 0);

        let made = by(&ops, with_key(root_write("Top"), "rsa")).await.unwrap();
        assert_eq!((made.key_type, made.key_size, made.key_ref.as_deref()), (KeyType::Rsa, Some(2048), Some("rsa")));
        // No other CA, of no other tenant, by no other reference.
        let same = hsm.keys.lock().unwrap()["rsa"].clone();
        hsm.keys.lock().unwrap().insert("alias".to_owned(), same);
        for (tenant, key) in [(ACME, "rsa"), (OTHER, "rsa"), (OTHER, "alias")] {
            let ctx = operator(&vault, tenant);
            field(&refusal(by(&ctx, with_key(root_write("Other"), key)).await), "key_ref", "another CA has this key");
        }
        assert_eq!(t.raw.count("pki_ca").await, 1);
        assert_eq!(hsm.names().len(), 3, "nothing was made");
    }

    async fn the_key_of_a_ca_that_was_given_up_stays_and_is_on_record(t: Bench) {
        let (vault, hsm) = with_hsm(&t).await;
        let ca = make(&vault, &t.admin(), in_hsm(crate::ca_origins::external("Mid"))).await;
        let by = t.admin();
        vault.pki(&by).delete_ca(&ca.id).await.unwrap();
        let key = ca.key_ref.unwrap();
        assert_eq!(hsm.names(), std::slice::from_ref(&key));
        let record = &t.trail(&by).await[0];
        assert_eq!((record.action.as_str(), &record.extra["key_provider"]), ("pki_ca_delete", &"hsm".into()));
        assert_eq!(record.extra["key_ref"], key);
        // An operator may give it to another.
        let again = make(&vault, &operator(&vault, ACME), with_key(root_write("Top"), &key)).await;
        assert_eq!(again.key_ref, Some(key));
    }

    async fn a_provider_that_does_not_sign_leaves_nothing_half_done(t: Bench) {
        let (vault, hsm) = with_hsm(&t).await;
        let admin = t.admin();
        let top = make(&vault, &admin, in_hsm(root_write("Top"))).await;
        role(&vault, &admin, "web", &top.id).await;
        vault.pki(&admin).issue("web", leaf("a.svc.test")).await.unwrap();
        let rows = async || {
            let tables = ["pki_ca", "pki_certificate", "pki_serial", "event_outbox"];
            let mut counts = Vec::new();
            for table in tables {
                counts.push(t.raw.count(table).await);
            }
            counts.push(t.raw.texts("SELECT CAST(number AS TEXT) FROM pki_crl").await[0].parse().unwrap());
            counts
        };
        let before = rows().await;
        for (state, expected, wait) in [
            (State::Away, Code::ServiceUnavailable, Some(7)),
            (State::Stranger, Code::ServiceUnavailable, Some(60)),
            (State::Disabled, Code::InvalidState, None),
            (State::Garbles, Code::InternalError, None),
        ] {
            hsm.turns(state);
            let issued = refusal(vault.pki(&admin).issue("web", leaf("b.svc.test")).await);
            let listed = refusal(vault.pki(&admin).build_crl(&top.id).await);
            let made = refusal(vault.pki(&admin).create_ca(in_hsm(below(&top, "Mid"))).await);
            let here = refusal(vault.pki(&admin).create_ca(below(&top, "Mid")).await);
            for error in [issued, listed, made, here] {
                assert_eq!(error.code(), expected, "{state:?}: {error} {}", error.causes());
                assert_eq!(error.details().retry_after.map(|wait| wait.as_secs()), wait, "{state:?}");
            }
            assert_eq!(rows().await, before, "{state:?}");
        }
        // It is back, and nothing has to be done for that.
        hsm.turns(State::Works);
        vault.pki(&admin).issue("web", leaf("b.svc.test")).await.unwrap();
        let failures = AuditFilter { success: Some(false), ..AuditFilter::default() };
        assert_eq!(vault.audit(&admin).query(failures).await.unwrap().items.len(), 16, "every refusal is recorded");
        // The keys that were made for CAs that were not: each for a garbled signature.
        assert_eq!(hsm.names().len(), 2);
    }

    async fn a_key_that_was_exchanged_or_a_provider_that_is_gone_signs_nothing(t: Bench) {
        let (vault, hsm) = with_hsm(&t).await;
        let admin = t.admin();
        let top = make(&vault, &admin, in_hsm(root_write("Top"))).await;
        role(&vault, &admin, "web", &top.id).await;
        let key_ref = top.key_ref.clone().unwrap();
        // Another key under its name, as of now: a vault that has not seen the former.
        hsm.by_hand(&key_ref, KeySpec::EcP256);
        let builder = t.builder(root_key(7)).add_root("hsm", Arc::new(Handle(hsm.clone())));
        let other = builder.open().await.unwrap();
        assert_eq!(code(other.pki(&admin).issue("web", leaf("a.svc.test")).await), Code::InternalError);
        assert_eq!(t.raw.count("pki_certificate").await, 1, "the CA's own");
        hsm.keys.lock().unwrap().remove(&key_ref);
        let third = t.builder(root_key(7)).add_root("hsm", Arc::new(Handle(hsm.clone()))).open().await.unwrap();
        assert_eq!(code(third.pki(&admin).issue("web", leaf("a.svc.test")).await), Code::InvalidState);
        // Its provider is not configured here.
        let without = t.replica().await;
        let error = refusal(without.pki(&admin).issue("web", leaf("a.svc.test")).await);
        assert_eq!((error.code(), error.details().retry_after), (Code::ServiceUnavailable, Some(Duration::from_secs(60))));
        assert!(error.causes().contains("no key provider is called hsm"), "{}", error.causes());
        let shown = without.pki(&admin).ca(&top.id).await.unwrap();
        assert_eq!(shown, top, "it can still be looked at");
    }
}
