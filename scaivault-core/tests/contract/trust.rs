//! Trust configurations, and that a proof is exchanged as often as they say.

use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use scaivault_core::{
    AuditFilter, Caller, Code, Error, Result, Scope, Vault,
    policy::PathPattern,
    trust::{
        ExchangeRequest, ExchangeSettings, ExchangeWrite, Exchanged, MintRequest, Minted, Origin, Outside,
        Posted, TokenMinter, Trust, TrustDocument, TrustWrite,
    },
};
use serde_json::{Value, json};

use crate::bench::{ACME, Bench, DAY, HOUR, OTHER, code, contract, root_key, tenant};

const ISSUER: &str = "https://cluster.example";

static KEY: LazyLock<(EncodingKey, Value)> = LazyLock::new(|| {
    let pkcs8 = rcgen::KeyPair::generate().unwrap().serialize_der();
    let key = EncodingKey::from_ec_der(&pkcs8);
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
    jwk["kid"] = json!("k1");
    (key, json!({ "keys": [jwk] }))
});

fn document(fields: Value) -> Result<TrustDocument> {
    let mut all = json!({
        "name": "cluster", "type": "kubernetes", "issuer": ISSUER, "jwks": KEY.1, "audiences": ["vault"],
        "bound_claims": { "/kubernetes.io/namespace": "prod" }, "service_account": "sa:billing",
        "scopes": ["secrets:read"], "allowed_paths": ["app/**"],
    });
    for (name, value) in fields.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    TrustDocument::parse(serde_json::from_value::<TrustWrite>(all).unwrap())
}

fn named(name: &str) -> TrustDocument {
    document(json!({ "name": name })).unwrap()
}

/// Gives out what it was asked for in place of a token, and reaches nothing.
#[derive(Debug, Default)]
struct FakeMinter {
    asked: Mutex<Vec<String>>,
    down: Mutex<bool>,
}

#[async_trait]
impl TokenMinter for FakeMinter {
    async fn mint(&self, wanted: &MintRequest<'_>) -> Result<Minted> {
        if *self.down.lock().unwrap() {
            return Err(Error::new(Code::ServiceUnavailable, "down"));
        }
        let paths: Vec<_> = wanted.allowed_paths.iter().map(PathPattern::as_str).collect();
        let said =
            format!("{} {} {:?} {paths:?}", wanted.tenant.as_str(), wanted.service_account, wanted.scopes);
        self.asked.lock().unwrap().push(said.clone());
        Ok(Minted { token: said.into(), ttl: wanted.ttl })
    }
}

#[async_trait]
impl Outside for FakeMinter {
    async fn get(&self, _: &str, _: usize) -> Result<String> {
        Err(Error::internal("nothing is reached"))
    }

    async fn post(&self, _: &str, _: &[(&str, &str)], _: &str, _: usize) -> Result<Posted> {
        Err(Error::internal("nothing is reached"))
    }
}

/// A vault over the same database that exchanges.
async fn exchanging(t: &Bench) -> (Vault, Arc<FakeMinter>) {
    let fake = Arc::new(FakeMinter::default());
    let settings = ExchangeSettings { minter: fake.clone(), outside: fake.clone() };
    (t.builder(root_key(7)).exchange(settings).open().await.unwrap(), fake)
}

fn token(t: &Bench, id: &str) -> String {
    let now = t.now().unix_timestamp();
    let claims = json!({
        "iss": ISSUER, "aud": "vault", "sub": "system:serviceaccount:prod:x", "jti": id, "iat": now, "exp": now + 3600,
        "kubernetes.io": { "namespace": "prod" },
    });
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("k1".to_owned());
    jsonwebtoken::encode(&header, &claims, &KEY.0).unwrap()
}

async fn exchange(vault: &Vault, tenant: &str, token: &str) -> Result<Exchanged> {
    let write: ExchangeWrite =
        serde_json::from_value(json!({ "tenant_id": tenant, "subject_token": token })).unwrap();
    let origin =
        Origin { source_ip: [203, 0, 113, 7].into(), request_id: "req_1", user_agent: Some("workload/1") };
    vault.exchange(&ExchangeRequest::parse(write).unwrap(), origin).await
}

contract! {
    async fn what_is_written_is_read_and_lives_in_its_tenant(t: Bench) {
        let (admin, other) = (t.admin(), t.admin_of(OTHER));
        let trusts = t.vault.trusts(&admin);
        let one = trusts.create(named("Cluster One")).await.unwrap();
        assert!(one.id.starts_with("trust_") && one.created_by == "user:admin");
        let wire = |trust: &Trust| serde_json::to_value(trust).unwrap();
        assert_eq!(wire(&trusts.read(&one.id).await.unwrap()), wire(&one));
        assert_eq!(wire(&one), json!({
            "id": one.id, "name": "Cluster One", "description": "", "type": "kubernetes", "issuer": ISSUER,
            "jwks_url": null, "jwks": KEY.1, "audiences": ["vault"], "bound_subject": null,
            "bound_claims": { "/kubernetes.io/namespace": ["prod"] }, "service_account": "sa:billing",
            "scopes": ["secrets:read"], "allowed_paths": ["app/**"], "max_ttl": "1h", "single_use": false,
            "created_at": "2026-04-23T18:00:00Z", "created_by": "user:admin",
        }));
        assert_eq!(code(trusts.create(named("cluster ONE")).await), Code::NameConflict);
        let theirs = t.vault.trusts(&other);
        theirs.create(named("Cluster One")).await.unwrap();
        assert_eq!(code(theirs.read(&one.id).await), Code::TrustNotFound);
        assert_eq!(code(theirs.delete(&one.id).await), Code::TrustNotFound);
        for at in 2..=5 {
            trusts.create(named(&format!("c{at}"))).await.unwrap();
        }
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let page = trusts.list(Some(2), cursor).await.unwrap();
            names.extend(page.items.iter().map(|trust| trust.document.name().as_str().to_owned()));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        names.sort();
        assert_eq!(names, ["Cluster One", "c2", "c3", "c4", "c5"]);
        trusts.delete(&one.id).await.unwrap();
        assert_eq!(code(trusts.delete(&one.id).await), Code::TrustNotFound);
        trusts.create(named("cluster one")).await.unwrap();
        let filter = AuditFilter { actions: vec!["trust_create".into(), "trust_delete".into()], ..AuditFilter::default() };
        let trail = t.vault.audit(&admin).query(filter).await.unwrap().items;
        assert_eq!(trail.iter().filter(|log| log.success).count(), 7);
        assert_eq!(trail[0].extra_data["service_account"], "sa:billing");
    }

    async fn nobody_lets_others_do_more_than_he_may(t: Bench) {
        let admin = Caller::user("user:narrow", tenant(ACME)).unwrap().with_scopes([Scope::Admin]);
        let patterns = |texts: &[&str]| texts.iter().map(|text| PathPattern::parse(text).unwrap()).collect::<Vec<_>>();
        let ctx = t.ctx(admin.with_allowed_paths(patterns(&["app/**"])));
        let trusts = t.vault.trusts(&ctx);
        let paths = |name: &str, paths: Value| document(json!({ "name": name, "allowed_paths": paths })).unwrap();
        for (at, wide) in [json!(["**"]), json!(["app/x", "ops/x"]), json!(["ap*/x"])].into_iter().enumerate() {
            assert_eq!(code(trusts.create(paths(&format!("w{at}"), wide)).await), Code::ValidationError);
        }
        trusts.create(paths("narrow", json!(["app/ci/*"]))).await.unwrap();
        let all: Vec<_> = Scope::ALL.iter().copied().filter(|scope| *scope != Scope::Admin).collect();
        let without = t.ctx(Caller::user("user:most", tenant(ACME)).unwrap().with_scopes(all));
        assert_eq!(code(t.vault.trusts(&without).create(named("x")).await), Code::InsufficientScope);
        assert_eq!(code(t.vault.trusts(&without).list(None, None).await), Code::InsufficientScope);
    }

    async fn a_proof_is_used_once_on_all_replicas_and_remembered_no_longer_than_it_lasts(t: Bench) {
        let ((one, minter), (two, _)) = (exchanging(&t).await, exchanging(&t).await);
        let admin = t.admin();
        let once = document(json!({ "single_use": true })).unwrap();
        let trust = one.trusts(&admin).create(once).await.unwrap();
        let first = token(&t, "a");
        // Nothing is used up by an exchange that fails.
        *minter.down.lock().unwrap() = true;
        assert_eq!(code(exchange(&one, ACME, &first).await), Code::ServiceUnavailable);
        *minter.down.lock().unwrap() = false;
        let (a, b) = tokio::join!(exchange(&one, ACME, &first), exchange(&two, ACME, &first));
        assert_eq!([&a, &b].iter().filter(|answer| answer.is_ok()).count(), 1, "{a:?} {b:?}");
        for vault in [&one, &two] {
            assert_eq!(code(exchange(vault, ACME, &first).await), Code::TokenInvalid);
        }
        exchange(&two, ACME, &token(&t, "b")).await.unwrap();
        assert_eq!(t.raw.count("trust_use").await, 2);
        // After it has expired it is not believed anyway; an exchange much later forgets it.
        t.clock.advance(HOUR * 3);
        assert_eq!(code(exchange(&one, ACME, &first).await), Code::TokenInvalid);
        exchange(&one, ACME, &token(&t, "c")).await.unwrap();
        assert_eq!(t.raw.count("trust_use").await, 1);
        t.vault.trusts(&admin).delete(&trust.id).await.unwrap();
        assert_eq!(t.raw.count("trust_use").await, 0);
        assert_eq!(code(exchange(&one, ACME, &token(&t, "d")).await), Code::TokenInvalid);
        one.close().await;
        two.close().await;
    }

    async fn an_exchange_asks_for_what_the_trust_gives_and_is_on_record(t: Bench) {
        let (vault, minter) = exchanging(&t).await;
        let admin = t.admin();
        vault.trusts(&admin).create(named("cluster")).await.unwrap();
        let shown = token(&t, "a");
        for _ in 0..2 {
            let answer = serde_json::to_value(exchange(&vault, ACME, &shown).await.unwrap()).unwrap();
            assert_eq!((&answer["expires_in"], &answer["scope"]), (&json!(3600), &json!("secrets:read")));
        }
        let expected = r#"tnt_acme sa:billing [SecretsRead] ["app/**"]"#;
        assert_eq!(*minter.asked.lock().unwrap(), [expected, expected]);
        assert_eq!(code(exchange(&vault, OTHER, &shown).await), Code::TokenInvalid);
        t.clock.advance(DAY);
        assert_eq!(code(exchange(&vault, ACME, &shown).await), Code::TokenInvalid);
        let filter = AuditFilter { actions: vec!["auth_exchange".into()], ..AuditFilter::default() };
        let trail = vault.audit(&t.admin()).query(filter).await.unwrap().items;
        let codes: Vec<_> = trail.iter().map(|log| log.error_code.as_deref()).collect();
        assert_eq!(codes, [Some("token_expired"), None, None]);
        assert!(trail.iter().all(|log| log.source_ip.as_deref() == Some("203.0.113.7") && log.request_id == "req_1"));
        assert_eq!(trail[1].extra_data["subject"], "system:serviceaccount:prod:x");
        // Without anything that mints there are no exchanges.
        assert_eq!(code(exchange(&t.vault, ACME, &shown).await), Code::NotFound);
        vault.close().await;
    }
}

#[test]
fn a_document_that_lets_in_more_than_was_meant_or_means_nothing_is_refused() {
    let github =
        |claims: Value| json!({ "type": "github", "issuer": null, "jwks": null, "bound_claims": claims });
    let gcp = |claims: Value| json!({ "type": "gcp", "issuer": null, "jwks": null, "bound_claims": claims });
    let aws = |accounts: Value, arns: Value| {
        json!({
            "type": "aws", "issuer": null, "jwks": null, "audiences": null, "bound_claims": null, "accounts": accounts,
            "arns": arns,
        })
    };
    let with = |mut fields: Value, name: &str, value: Value| {
        fields[name] = value;
        fields
    };
    let arn = json!(["arn:aws:sts::123456789012:assumed-role/ci/*"]);
    for good in [
        json!({}),
        json!({ "type": "oidc", "jwks": null, "bound_subject": "x" }),
        json!({ "bound_claims": null, "bound_subject": "system:serviceaccount:prod:*" }),
        github(json!({ "repository": "acme/*" })),
        github(json!({ "repository_id": ["74"] })),
        with(github(json!({})), "bound_subject", json!("repo:acme/*:environment:prod")),
        gcp(json!({ "/google/compute_engine/project_id": "acme" })),
        aws(json!(["123456789012"]), arn.clone()),
        json!({ "max_ttl": "60s", "single_use": true, "scopes": ["admin"], "allowed_paths": ["**"] }),
    ] {
        assert!(document(good.clone()).is_ok(), "{good} {:?}", document(good.clone()).err());
    }
    let private = json!({ "keys": [{ "kty": "EC", "kid": "x", "d": "AA" }] });
    for (bad, field) in [
        (json!({ "name": "root" }), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "description": "x".repeat(2049) }), "description"),
        (json!({ "type": "saml" }), "type"),
        (json!({ "type": "Kubernetes" }), "type"),
        (json!({ "service_account": "user:alice" }), "service_account"),
        (json!({ "service_account": "sa:" }), "service_account"),
        (json!({ "service_account": "sa:*" }), "service_account"),
        (json!({ "service_account": "sa:a b" }), "service_account"),
        (json!({ "scopes": [] }), "scopes"),
        (json!({ "scopes": ["secrets:read", "secrets:read"] }), "scopes[1]"),
        (json!({ "scopes": ["secrets:*"] }), "scopes[0]"),
        (json!({ "allowed_paths": [] }), "allowed_paths"),
        (json!({ "allowed_paths": ["/x"] }), "allowed_paths[0]"),
        (json!({ "max_ttl": "2h" }), "max_ttl"),
        (json!({ "max_ttl": "59s" }), "max_ttl"),
        (json!({ "max_ttl": "soon" }), "max_ttl"),
        (json!({ "issuer": null }), "issuer"),
        (json!({ "issuer": "http://cluster.example" }), "issuer"),
        (json!({ "issuer": "https://u:p@cluster.example" }), "issuer"),
        (json!({ "jwks": null, "jwks_url": "http://cluster.example/keys" }), "jwks_url"),
        (json!({ "jwks_url": "https://cluster.example/keys" }), "jwks"),
        (json!({ "jwks": {} }), "jwks"),
        (json!({ "jwks": { "keys": [] } }), "jwks"),
        (json!({ "jwks": private }), "jwks"),
        (json!({ "audiences": null }), "audiences"),
        (json!({ "audiences": [] }), "audiences"),
        (json!({ "audiences": [""] }), "audiences"),
        (json!({ "bound_claims": null }), "bound_claims"),
        (json!({ "bound_claims": {} }), "bound_claims"),
        (json!({ "bound_claims": { "/kubernetes.io/namespace": [] } }), "bound_claims"),
        (json!({ "bound_claims": { "/kubernetes.io/namespace": "*" } }), "bound_claims"),
        (json!({ "bound_claims": { "/kubernetes.io/namespace": "prod-*" } }), "bound_claims"),
        (json!({ "bound_claims": { "/kubernetes.io/pod/name": "x" } }), "bound_claims"),
        (json!({ "bound_claims": { "/kubernetes.io/namespace": ["prod", 1.5] } }), "bound_claims"),
        (json!({ "bound_claims": { "/kubernetes.io/namespace": "prod", "aud": "x" } }), "bound_claims"),
        (json!({ "bound_claims": null, "bound_subject": "system:serviceaccount:*:x" }), "bound_claims"),
        (json!({ "bound_subject": "**" }), "bound_subject"),
        (json!({ "accounts": ["123456789012"] }), "accounts"),
        (github(json!({ "repository_owner": "acme" })), "bound_claims"),
        (github(json!({ "repository": "*/app" })), "bound_claims"),
        (github(json!({ "repository": ["acme/app", "ac*/x"] })), "bound_claims"),
        (github(json!({ "repository": true })), "bound_claims"),
        (github(json!({ "ref": "refs/heads/main" })), "bound_claims"),
        (with(github(json!({})), "bound_subject", json!("repo:*/app:x")), "bound_claims"),
        (
            with(github(json!({ "repository": "acme/app" })), "issuer", json!("https://evil.example")),
            "issuer",
        ),
        (
            with(github(json!({ "repository": "acme/app" })), "jwks_url", json!("https://evil.example")),
            "jwks_url",
        ),
        (gcp(json!({ "email_verified": true })), "bound_claims"),
        (gcp(json!({ "email": "*@acme.example" })), "bound_claims"),
        (aws(json!(["12345678901"]), arn.clone()), "accounts"),
        (aws(json!([]), arn.clone()), "accounts"),
        (aws(json!(["123456789012"]), json!(null)), "arns"),
        (aws(json!(["123456789012"]), json!(["*"])), "arns[0]"),
        (aws(json!(["123456789012"]), json!(["role/ci"])), "arns[0]"),
        (with(aws(json!(["123456789012"]), arn.clone()), "partitions", json!(["aws-iso"])), "partitions"),
        (with(aws(json!(["123456789012"]), arn.clone()), "audiences", json!(["x"])), "audiences"),
    ] {
        let error = document(bad.clone()).err().unwrap_or_else(|| panic!("{bad} is accepted"));
        assert_eq!(error.code(), Code::ValidationError, "{bad}");
        assert!(error.details().fields.contains_key(field), "{bad}: {:?}", error.details().fields);
    }
}
