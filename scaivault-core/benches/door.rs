//! What the door costs a request — who asks, whether he may, whether he asks too often — beside the whole read of a
//! secret that it stands before. 1,000 rules are bound to the caller.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::{hint::black_box, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scaivault_core::{
    Caller, Clock as _, Database, IdentityType, RateLimits, Scope, StaticJwks, SystemClock, TenantId,
    TokenSettings, TokenVerifier, Vault,
    policy::{BindingWrite, PolicyDocument, PolicyWrite, RuleWrite},
    secrets::{SecretData, SecretPath, SecretWrite},
};
use scaivault_kms::local::{KeyFile, LocalProvider};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const ISSUER: &str = "https://id.example";

/// An issuer of one key.
struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwks(&self) -> String {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (B64.encode(x), B64.encode(y));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k", "x": x, "y": y}]})
            .to_string()
    }

    fn token(&self, id: usize) -> String {
        let now = SystemClock.now().unix_timestamp();
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": "k"});
        let claims = json!({
            "iss": ISSUER, "aud": "scaivault", "sub": "user:alice", "tenant_id": "tnt_acme", "jti": id.to_string(),
            "scope": "secrets:read", "iat": now, "exp": now + 3600,
        });
        let part = |value: &Value| B64.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", B64.encode(signature))
    }
}

/// A vault with one secret, which one of a thousand rules lets alice read.
async fn vault(limits: RateLimits) -> Vault {
    let root = Arc::new(LocalProvider::new(KeyFile::generate().unwrap()));
    let vault = Vault::builder(Database::in_memory(), root).rate_limits(limits).open().await.unwrap();
    let admin = Caller::service_account("sa:admin", TenantId::parse("tnt_acme").unwrap()).unwrap();
    let admin = admin.with_scopes([Scope::Admin]).with_roles([scaivault_core::Role::TenantAdmin]);
    let ctx = vault.ctx(admin).unwrap();
    let rule = |n: usize| RuleWrite {
        path_pattern: format!("app/service-{n}/*"),
        permissions: vec!["read".into()],
        conditions: None,
    };
    let write = PolicyWrite { name: "many".into(), description: None, rules: (0..1000).map(rule).collect() };
    let policy = vault.policies(&ctx).create(PolicyDocument::parse(write).unwrap()).await.unwrap();
    let binding = BindingWrite {
        tenant_id: None,
        identity_type: IdentityType::User,
        identity_id: "user:alice".into(),
        expires_at: None,
    };
    vault.policies(&ctx).bind(&policy.id, binding).await.unwrap();
    let data = SecretData::from_value(&json!({"password": "correct horse"})).unwrap();
    vault.secrets(&ctx).put(&path(), SecretWrite::new(data)).await.unwrap();
    vault
}

fn path() -> SecretPath {
    SecretPath::parse("app/service-7/db").unwrap()
}

fn door(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let issuer = Issuer::new();
    let settings = TokenSettings {
        issuers: vec![ISSUER.into()],
        audiences: vec!["scaivault".into()],
        default_partner: None,
    };
    let keys = Arc::new(StaticJwks::new(issuer.jwks()));
    let verifier = TokenVerifier::new(keys, settings, Arc::new(SystemClock)).unwrap();
    let known = issuer.token(0);
    let caller = runtime.block_on(verifier.verify(&known)).unwrap();

    let mut next = 0;
    c.bench_function("a token, the first time", |b| {
        let fresh = || {
            next += 1;
            issuer.token(next)
        };
        b.iter_batched(
            fresh,
            |token| runtime.block_on(verifier.verify(&token)).unwrap(),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("a token, again", |b| {
        b.iter(|| runtime.block_on(verifier.verify(black_box(&known))).unwrap());
    });
    // More than anybody asks in a minute, so that nobody is refused.
    let generous = RateLimits::documented().with(scaivault_core::Category::SecretsRead, Some(u32::MAX));
    for (name, limits) in [("a read without limits", RateLimits::none()), ("a read with limits", generous)] {
        let vault = runtime.block_on(vault(limits));
        let path = path();
        c.bench_function(name, |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let ctx = vault.ctx(caller.clone()).unwrap();
                    vault.secrets(&ctx).get(&path, None).await.unwrap()
                })
            });
        });
    }
}

criterion_group!(benches, door);
criterion_main!(benches);
