//! Foreign tokens for tokens of ours: who gets one, what it may do, and what those learn who get none.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use scaivault_core::{Category, Clock as _, RateLimits, SystemClock};
use scaivault_server::dev::TENANT;
use serde_json::{Value, json};

use crate::{
    platforms::{EC, Key, Platforms, RSA, STRANGER, set},
    support::{Answer, Api},
};

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const GOOGLE: &str = "https://accounts.google.com";
const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
const OTHER: &str = "https://id.example/realms/main";

async fn start() -> (Api, Arc<Platforms>) {
    start_limited(RateLimits::none()).await
}

async fn start_limited(limits: RateLimits) -> (Api, Arc<Platforms>) {
    let keys = set(&[&RSA, &EC]);
    let platforms = Platforms::default().issuer(GITHUB, &keys).issuer(GOOGLE, &keys).issuer(OTHER, &keys);
    let platforms = Arc::new(platforms);
    let api = Api::exchanging(platforms.clone(), limits).await;
    (api, platforms)
}

/// A trust configuration with these fields besides those that each has.
async fn trust(api: &Api, fields: Value) -> String {
    let mut body = json!({
        "service_account": "sa:ci", "scopes": ["secrets:read", "secrets:list"], "allowed_paths": ["ci/**"],
    });
    if fields["type"] != "aws" {
        body["audiences"] = json!(["https://vault.example"]);
    }
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    api.write("POST", "/v1/auth/trust", &body, 201).await["id"].as_str().unwrap().to_owned()
}

fn now() -> i64 {
    SystemClock.now().unix_timestamp()
}

/// What a job of GitHub Actions is given, as far as it matters.
fn github() -> Value {
    json!({
        "iss": GITHUB, "aud": "https://vault.example", "sub": "repo:acme/app:ref:refs/heads/main",
        "repository": "acme/app", "repository_owner": "acme", "repository_id": "74", "ref": "refs/heads/main",
        "ref_protected": "true", "environment": "prod", "jti": "6f4762ed-0758-4ccb-808d-ee3af5d723a8",
        "iat": now(), "nbf": now() - 5, "exp": now() + 300,
    })
}

fn google() -> Value {
    json!({
        "iss": GOOGLE, "aud": "https://vault.example", "azp": "107517467455664443766",
        "sub": "107517467455664443766", "email": "ci@acme.iam.gserviceaccount.com", "email_verified": true,
        "google": { "compute_engine": { "project_id": "acme", "project_number": 739_419_398_126_u64, "zone": "z" } },
        "iat": now(), "exp": now() + 3600,
    })
}

fn kubernetes() -> Value {
    json!({
        "iss": CLUSTER, "aud": ["https://vault.example"], "sub": "system:serviceaccount:prod:billing",
        "kubernetes.io": {
            "namespace": "prod", "node": { "name": "n1", "uid": "u1" }, "pod": { "name": "billing-0", "uid": "u2" },
            "serviceaccount": { "name": "billing", "uid": "u3" }, "warnafter": now() + 3607,
        },
        "jti": "ea28ed49-2e11-4280-9ec5-bc3d1d84661a", "iat": now(), "nbf": now(), "exp": now() + 3600,
    })
}

fn with(mut claims: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

async fn ask(api: &Api, token: &str, fields: Value) -> Answer {
    let body = with(json!({ "tenant_id": TENANT, "subject_token": token }), fields);
    api.anonymous("POST", "/v1/auth/exchange").json(&body).send().await
}

/// What everybody learns who gets none.
#[track_caller]
fn refused(answer: Answer, why: &str) {
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{why}: {answer:?}");
    assert_eq!(answer.status, 401, "{why}: {answer:?}");
    let error = answer.refusal(401, "token_invalid");
    assert_eq!(error["message"], "The subject token is not accepted.", "{why}");
    assert_eq!(error["details"], json!({}), "{why}");
}

#[tokio::test]
async fn tokens_of_each_platform_become_the_account_that_the_trust_names() {
    let (api, platforms) = start().await;
    let clusters = trust(
        &api,
        json!({
            "name": "cluster", "type": "kubernetes", "issuer": CLUSTER, "jwks": set(&[&RSA]),
            "bound_claims": { "/kubernetes.io/namespace": ["prod", "staging"], "/kubernetes.io/serviceaccount/name": "billing" },
            "service_account": "sa:billing",
        }),
    );
    let clusters = clusters.await;
    let jobs = trust(
        &api,
        json!({
            "name": "jobs", "type": "github", "bound_subject": "repo:acme/*:ref:refs/heads/main",
            "bound_claims": { "repository_owner": "acme", "environment": ["prod"] }, "max_ttl": "5m",
        }),
    )
    .await;
    let hosts = trust(&api, json!({
        "name": "hosts", "type": "gcp", "service_account": "sa:hosts",
        "bound_claims": { "email": "ci@acme.iam.gserviceaccount.com", "/google/compute_engine/project_number": 739_419_398_126_u64 },
    }))
    .await;
    let others = trust(
        &api,
        json!({
            "name": "others", "type": "oidc", "issuer": OTHER, "service_account": "sa:other",
            "bound_claims": { "groups": "ops-*", "employee": true },
        }),
    )
    .await;
    let other = json!({
        "iss": OTHER, "aud": ["x", "https://vault.example"], "sub": "x|1", "groups": ["dev", "ops-emea"], "employee": true,
        "iat": now(), "exp": now() + 60,
    });
    for (id, key, claims, account, ttl) in [
        (&clusters, &*RSA, kubernetes(), "sa:billing", 3600),
        (&jobs, &*RSA, github(), "sa:ci", 300),
        (&hosts, &*EC, google(), "sa:hosts", 3600),
        (&others, &*EC, other, "sa:other", 3600),
    ] {
        let subject = claims["sub"].clone();
        let answer = ask(&api, &key.token(&claims), json!({})).await.expect(200).json();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        let expected = json!({
            "access_token": token, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer", "expires_in": ttl, "scope": "secrets:read secrets:list",
        });
        assert_eq!(answer, expected);
        let who = api.call(&token, "GET", "/v1/auth/whoami").send().await.expect(200).json();
        assert_eq!(
            (&who["identity_id"], &who["identity_type"]),
            (&json!(account), &json!("service_account"))
        );
        assert_eq!(
            (&who["tenant_id"], &who["roles"], &who["groups"]),
            (&json!(TENANT), &json!([]), &json!([]))
        );
        assert_eq!(who["scopes"], json!(["secrets:read", "secrets:list"]));
        assert_eq!(who["allowed_paths"], json!(["ci/**"]));
        let trail = api.audit("action=auth_exchange").await;
        let log = &trail[0];
        assert_eq!(
            (&log["success"], &log["resource_type"], &log["resource_id"]),
            (&json!(true), &json!("trust"), &json!(id))
        );
        assert_eq!(log["identity_id"], "system:token-exchange");
        let extra = &log["extra_data"];
        assert_eq!(
            (&extra["trust_id"], &extra["subject"], &extra["service_account"]),
            (&json!(id), &subject, &json!(account))
        );
        assert_eq!((&extra["scope"], &extra["expires_in"]), (&answer["scope"], &json!(ttl)));
        assert!(!trail.iter().any(|log| log.to_string().contains(&token[..40])));
    }
    // The keys of the cluster were brought; the others' were fetched once.
    let mut asked = platforms.asked();
    asked.sort();
    let expected = [GOOGLE, OTHER, GITHUB]
        .iter()
        .flat_map(|issuer| [format!("{issuer}/.well-known/openid-configuration"), format!("{issuer}/keys")]);
    assert_eq!(asked, expected.collect::<Vec<_>>());
}

/// Tokens that are not quite what a trust configuration of GitHub wants.
fn hostile() -> Vec<(&'static str, String)> {
    let sign = |changes: Value| EC.token(&with(github(), changes));
    let header = |changes: Value| EC.sign(&with(EC.header(), changes), &github().to_string());
    let raw = |payload: &str| EC.sign(&EC.header(), payload);
    let good = EC.token(&github());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let flipped = {
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[40] ^= 1;
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
    };
    let swapped = {
        let other = sign(json!({ "sub": "repo:acme/other:ref:refs/heads/main" }));
        format!("{}.{signature}", other.rsplit_once('.').unwrap().0)
    };
    let none = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"ec-1"}"#),
        URL_SAFE_NO_PAD.encode(github().to_string())
    );
    let twice = github().to_string().replacen('{', r#"{"repository":"acme/app","#, 1);
    let sub_twice = github().to_string().replacen('{', r#"{"sub":"repo:evil/app:ref:refs/heads/main","#, 1);
    vec![
        ("garbage", "garbage".to_owned()),
        ("empty parts", "..".to_owned()),
        ("three parts of garbage", "a.b.c".to_owned()),
        ("four parts", format!("{good}.x")),
        ("a flipped bit", flipped),
        ("the signature of other claims", swapped),
        ("no signature", format!("{signed}.")),
        ("alg none", none),
        ("alg None", header(json!({ "alg": "None" }))),
        ("alg HS256", header(json!({ "alg": "HS256" }))),
        ("alg of another key", header(json!({ "alg": "RS256" }))),
        ("crit", header(json!({ "crit": ["exp"] }))),
        ("b64", header(json!({ "b64": false }))),
        ("no kid", header(json!({ "kid": null }))),
        ("an unknown kid", header(json!({ "kid": "ec-2" }))),
        (
            "a key of its own",
            STRANGER.sign(&with(EC.header(), json!({ "jwk": STRANGER.jwk })), &github().to_string()),
        ),
        (
            "a place of its own",
            STRANGER.sign(
                &with(EC.header(), json!({ "jku": "https://evil.example/keys" })),
                &github().to_string(),
            ),
        ),
        ("another's key of the same name", STRANGER.token(&github())),
        ("a logout token", header(json!({ "typ": "logout+jwt" }))),
        ("no issuer", sign(json!({ "iss": null }))),
        ("another issuer that has the same keys", sign(json!({ "iss": GOOGLE }))),
        ("an issuer with a slash", sign(json!({ "iss": format!("{GITHUB}/") }))),
        ("an issuer below", sign(json!({ "iss": format!("{GITHUB}/acme") }))),
        ("an issuer in another case", sign(json!({ "iss": GITHUB.to_uppercase() }))),
        ("an issuer list", sign(json!({ "iss": [GITHUB] }))),
        ("no audience", sign(json!({ "aud": null }))),
        ("another audience", sign(json!({ "aud": "https://github.com/acme" }))),
        ("an audience that begins alike", sign(json!({ "aud": "https://vault.example.evil" }))),
        ("an audience of numbers", sign(json!({ "aud": [1] }))),
        ("no subject", sign(json!({ "sub": null }))),
        ("a subject of another type", sign(json!({ "sub": ["repo:acme/app:ref:refs/heads/main"] }))),
        ("another owner", sign(json!({ "sub": "repo:acme2/app:ref:refs/heads/main" }))),
        ("another ref", sign(json!({ "sub": "repo:acme/app:ref:refs/heads/main2" }))),
        ("a ref that goes on", sign(json!({ "sub": "repo:acme/app:ref:refs/heads/main:x" }))),
        ("a repository with another part", sign(json!({ "sub": "repo:acme/app/x:ref:refs/heads/main" }))),
        ("a pull request", sign(json!({ "sub": "repo:acme/app:pull_request" }))),
        ("no repository", sign(json!({ "repository": null }))),
        ("another repository", sign(json!({ "repository": "evil/app" }))),
        ("a repository in another case", sign(json!({ "repository": "Acme/app" }))),
        ("a repository in an object", sign(json!({ "repository": { "name": "acme/app" } }))),
        ("a repository in a deeper list", sign(json!({ "repository": [["acme/app"]] }))),
        ("a claim under the pointer's name", sign(json!({ "ref_protected": true }))),
        ("a member twice", raw(&twice)),
        ("a subject twice", raw(&sub_twice)),
        ("no object", raw("[]")),
        ("no end", sign(json!({ "exp": null }))),
        ("an end that is a text", sign(json!({ "exp": (now() + 300).to_string() }))),
        ("expired", sign(json!({ "exp": now() - 31 }))),
        ("not yet", sign(json!({ "nbf": now() + 120 }))),
        ("from the future", sign(json!({ "iat": now() + 120 }))),
        ("no beginning", sign(json!({ "iat": null }))),
        ("issued long ago", sign(json!({ "iat": now() - 86_500 }))),
        ("lasting for ever", sign(json!({ "exp": now() + 90_000 }))),
        ("an end beyond time", sign(json!({ "exp": 1e30 }))),
    ]
}

#[tokio::test]
async fn sec_g1_a_token_that_is_not_quite_right_gets_one_answer_and_a_record() {
    let (api, _) = start().await;
    let id = trust(
        &api,
        json!({
            "name": "jobs", "type": "github", "bound_subject": "repo:acme/*:ref:refs/heads/main",
            "bound_claims": { "repository": ["acme/app"], "ref_protected": "true" }, "single_use": false,
        }),
    )
    .await;
    trust(&api, json!({ "name": "hosts", "type": "gcp", "bound_subject": "107517467455664443766" })).await;
    let hostile = hostile();
    assert!(hostile.len() >= 50, "{}", hostile.len());
    for (why, token) in &hostile {
        refused(ask(&api, token, json!({})).await, why);
    }
    let trail = api.audit("action=auth_exchange").await;
    assert_eq!(trail.len(), hostile.len());
    for (log, (why, token)) in trail.iter().rev().zip(&hostile) {
        assert_eq!(log["success"], false, "{why}");
        assert!(
            ["token_invalid", "token_expired"].contains(&log["error_code"].as_str().unwrap()),
            "{why} {log}"
        );
        let reason = log["extra_data"]["reason"].as_str().unwrap();
        assert!(reason.len() > 20, "{why} {reason}");
        let payload = token.split('.').nth(1).unwrap_or(token);
        assert!(!log.to_string().contains(token.as_str()) || token.len() < 10, "{why}");
        assert!(payload.len() < 10 || !log.to_string().contains(payload), "{why}");
    }
    let reasons: Vec<_> = trail.iter().map(|log| log["extra_data"]["reason"].as_str().unwrap()).collect();
    for part in [
        &*format!("{id}: "),
        "claim repository is not a bound one",
        "claim sub is not a bound one",
        "claim aud",
        "expired",
    ] {
        assert!(reasons.iter().any(|reason| reason.contains(part)), "{part}");
    }
    ask(&api, &EC.token(&github()), json!({})).await.expect(200);
}

#[tokio::test]
async fn sec_c1_who_names_another_tenant_or_none_learns_nothing_and_makes_nothing() {
    let (api, _) = start().await;
    trust(&api, json!({ "name": "jobs", "type": "github", "bound_claims": { "repository": "acme/app" } }))
        .await;
    let token = EC.token(&github());
    for tenant in ["tnt_nothing", "tnt_dev2", "TNT_DEV"] {
        refused(ask(&api, &token, json!({ "tenant_id": tenant })).await, tenant);
    }
    let tenants: Vec<_> = api.vault.audited_tenants().await.unwrap();
    assert!(tenants.iter().all(|tenant| tenant.as_str() == TENANT), "{tenants:?}");
    // Another tenant that trusts nobody gets a record, and ours gets none.
    let other = api.token_of(&crate::support::Who {
        tenant: "tnt_other",
        ..crate::support::Who::new("user:x", "admin")
    });
    api.call(&other, "GET", "/v1/auth/trust").send().await.expect(200);
    refused(ask(&api, &token, json!({ "tenant_id": "tnt_other" })).await, "another tenant");
    assert!(api.audit("action=auth_exchange").await.is_empty());
    let theirs =
        api.call(&other, "GET", "/v1/audit/logs?action=auth_exchange").send().await.expect(200).json();
    assert_eq!(theirs["logs"].as_array().unwrap().len(), 1);
    ask(&api, &token, json!({})).await.expect(200);
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_told_why() {
    let (api, _) = start().await;
    for (change, field) in [
        (json!({ "tenant_id": null }), "tenant_id"),
        (json!({ "tenant_id": "" }), "tenant_id"),
        (json!({ "tenant_id": "tnt é" }), "tenant_id"),
        (json!({ "subject_token": null }), "subject_token"),
        (json!({ "subject_token": "" }), "subject_token"),
        (json!({ "subject_token": "x".repeat(16_385) }), "subject_token"),
        (json!({ "grant_type": "password" }), "grant_type"),
        (json!({ "subject_token_type": "urn:ietf:params:oauth:token-type:saml2" }), "subject_token_type"),
        (
            json!({ "requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token" }),
            "requested_token_type",
        ),
        (json!({ "audience": "somebody" }), "audience"),
        (json!({ "scope": "" }), "scope"),
        (json!({ "scope": "secrets:read  secrets:list" }), "scope"),
        (json!({ "allowed_paths": [] }), "allowed_paths"),
        (json!({ "allowed_paths": ["a", "/b"] }), "allowed_paths[1]"),
        (json!({ "actor_token": "x" }), "actor_token"),
    ] {
        let error = ask(&api, "a.b.c", change.clone()).await.refusal(422, "validation_error");
        assert!(error["details"]["fields"].get(field).is_some(), "{change} {error}");
    }
    let form = api.anonymous("POST", "/v1/auth/exchange");
    let form =
        form.body("application/x-www-form-urlencoded", "subject_token=x&tenant_id=tnt_dev").send().await;
    form.refusal(415, "unsupported_media_type");
    assert!(api.audit("action=auth_exchange").await.is_empty());
}

#[tokio::test]
async fn sec_b1_what_is_asked_for_only_narrows() {
    let (api, _) = start().await;
    trust(&api, json!({
        "name": "jobs", "type": "github", "bound_claims": { "repository": "acme/app" }, "single_use": false,
        "scopes": ["secrets:read", "secrets:list", "secrets:write"], "allowed_paths": ["ci/**", "shared/*"],
    }))
    .await;
    let token = EC.token(&github());
    for (fields, field) in [
        (json!({ "scope": "admin" }), "scope"),
        (json!({ "scope": "secrets:read secrets:delete" }), "scope"),
        (json!({ "scope": "no:such" }), "scope"),
        (json!({ "allowed_paths": ["**"] }), "allowed_paths[0]"),
        (json!({ "allowed_paths": ["ci/x", "shared/**"] }), "allowed_paths[1]"),
        (json!({ "allowed_paths": ["c*/x"] }), "allowed_paths[0]"),
        (json!({ "allowed_paths": ["*/x"] }), "allowed_paths[0]"),
    ] {
        let error = ask(&api, &token, fields.clone()).await.refusal(400, "invalid_request");
        assert!(error["message"].as_str().unwrap().starts_with(&format!("{field}: ")), "{fields} {error}");
    }
    // Only who is believed is told so much.
    let stranger = STRANGER.token(&github());
    refused(ask(&api, &stranger, json!({ "scope": "admin" })).await, "a stranger asks for more");
    let asked = json!({
        "scope": "secrets:list secrets:read", "allowed_paths": ["ci/app/*", "shared/x"], "role": "sa:ci",
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "audience": "scaivault",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    });
    let answer = ask(&api, &token, asked).await.expect(200).json();
    assert_eq!(answer["scope"], "secrets:list secrets:read");
    let whoami =
        api.call(answer["access_token"].as_str().unwrap(), "GET", "/v1/auth/whoami").send().await.json();
    assert_eq!(whoami["allowed_paths"], json!(["ci/app/*", "shared/x"]));
    assert_eq!(whoami["scopes"], json!(["secrets:read", "secrets:list"]));
}

/// Every path is granted to everybody who may be asked about here.
async fn grant_everything(api: &Api, to: &str) {
    let rules = json!([{ "path_pattern": "**", "permissions": ["admin"] }]);
    let policy = api.write("POST", "/v1/policies", &json!({ "name": "all", "rules": rules }), 201).await;
    let path = format!("/v1/policies/{}/bindings", policy["id"].as_str().unwrap());
    api.write("POST", &path, &json!({ "identity_type": "service_account", "identity_id": to }), 201).await;
}

#[tokio::test]
async fn sec_a2_outside_of_its_paths_a_token_sees_and_does_nothing_whatever_grants_it() {
    let (api, _) = start().await;
    trust(
        &api,
        json!({
            "name": "jobs", "type": "github", "bound_claims": { "repository": "acme/app" },
            "scopes": ["secrets:read", "secrets:list", "secrets:write", "secrets:delete", "pki:issue"],
        }),
    )
    .await;
    grant_everything(&api, "sa:ci").await;
    for path in ["ci/db", "ci/web/x", "app/db", "cix", "zz"] {
        api.write("PUT", &format!("/v1/secrets/{path}"), &json!({ "data": { "k": path } }), 201).await;
    }
    let answer = ask(&api, &EC.token(&github()), json!({})).await.expect(200).json();
    let exchanged = answer["access_token"].as_str().unwrap().to_owned();
    // An administrator's own token, narrowed in the same way.
    let forge = crate::auth::Forge::of(&api);
    let admin = forge.sign(|claims| claims["allowed_paths"] = json!(["ci/**"]));
    for token in [&exchanged, &admin] {
        let call = |method: &'static str, path: &str| api.call(token, method, &format!("/v1/secrets{path}"));
        assert_eq!(call("GET", "/ci/db").send().await.expect(200).json()["data"]["k"], "ci/db");
        for path in ["/app/db", "/cix", "/zz", "/no/such"] {
            for (method, path) in [
                ("GET", path.to_owned()),
                ("DELETE", path.to_owned()),
                ("GET", format!("{path}/metadata")),
                ("GET", format!("{path}/versions")),
            ] {
                let error = call(method, &path).send().await.refusal(403, "access_denied");
                assert_eq!(error["message"], "No policy allows this.", "{path}");
            }
            let body = json!({ "data": { "k": "mine" } });
            call("PUT", path).json(&body).send().await.refusal(403, "access_denied");
        }
        for query in ["", "?prefix=ci", "?prefix=c", "?include_deleted=true", "?limit=1000"] {
            let list = call("GET", query).send().await.expect(200).json();
            let paths: Vec<_> =
                list["secrets"].as_array().unwrap().iter().map(|s| s["path"].as_str().unwrap()).collect();
            assert_eq!(paths, ["ci/db", "ci/web/x"], "{query}");
        }
        let outside = call("GET", "?prefix=app").send().await.expect(200).json();
        assert_eq!(outside["secrets"], json!([]));
    }
    let issue = json!({ "common_name": "x.example" });
    api.call(&exchanged, "POST", "/v1/pki/issue/svc").json(&issue).send().await.refusal(403, "access_denied");
    let denied = api.audit("identity_id=sa:ci&success=false&action=read").await;
    assert!(
        !denied.is_empty() && denied.iter().all(|log| log["extra_data"]["outside_allowed_paths"] == true),
        "{denied:?}"
    );
}

#[tokio::test]
async fn sec_g1_a_token_whose_narrowing_cannot_be_read_is_no_token() {
    let (api, _) = start().await;
    let forge = crate::auth::Forge::of(&api);
    for bad in [
        json!(null),
        json!("ci/**"),
        json!({}),
        json!([1]),
        json!([null]),
        json!([["ci/**"]]),
        json!([""]),
        json!(["/ci"]),
        json!(["ci/**", "a**"]),
        json!(vec!["a"; 65]),
    ] {
        let token = forge.sign(|claims| claims["allowed_paths"] = bad.clone());
        api.call(&token, "GET", "/v1/secrets").send().await.refusal(401, "token_invalid");
    }
    // No pattern is no path, not every path.
    let none = forge.sign(|claims| claims["allowed_paths"] = json!([]));
    api.write("PUT", "/v1/secrets/app/db", &json!({ "data": { "k": "v" } }), 201).await;
    api.call(&none, "GET", "/v1/secrets/app/db").send().await.refusal(403, "access_denied");
    assert_eq!(api.call(&none, "GET", "/v1/secrets").send().await.expect(200).json()["secrets"], json!([]));
}

#[tokio::test]
async fn sec_k2_a_token_of_a_job_is_exchanged_once_however_it_is_written() {
    let (api, _) = start().await;
    let jobs = json!({ "name": "jobs", "type": "github", "bound_claims": { "repository": "acme/app" } });
    let id = trust(&api, jobs).await;
    let token = EC.token(&github());
    let all = at_once(&api, &token).await;
    assert_eq!(all.iter().filter(|status| **status == 200).count(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|status| **status == 401).count(), all.len() - 1, "{all:?}");
    // The other form of an ECDSA signature says the same, and so does another signature.
    let again = EC.token(
        &serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap(),
    );
    assert_eq!(again.rsplit_once('.').unwrap().0, token.rsplit_once('.').unwrap().0);
    refused(ask(&api, &again, json!({})).await, "signed again");
    let trail = api.audit("action=auth_exchange&success=false").await;
    let reason = format!("The subject token is not accepted: {id}: it was exchanged before.");
    assert!(trail.iter().all(|log| log["extra_data"]["reason"] == json!(reason)), "{trail:?}");
    ask(&api, &EC.token(&with(github(), json!({ "jti": "another" }))), json!({})).await.expect(200);
}

/// The statuses of several exchanges of one token at one time.
async fn at_once(api: &Api, token: &str) -> Vec<u16> {
    let (a, b, c, d) = tokio::join!(
        ask(api, token, json!({})),
        ask(api, token, json!({})),
        ask(api, token, json!({})),
        ask(api, token, json!({})),
    );
    [a, b, c, d].iter().map(|answer| answer.status).collect()
}

#[tokio::test]
async fn several_configurations_for_one_token_have_to_agree_or_be_told_apart() {
    let (api, _) = start().await;
    let named = |name: &str, account: &str| {
        json!({
            "name": name, "type": "github", "bound_claims": { "repository": "acme/app" }, "service_account": account,
            "single_use": false,
        })
    };
    let first = trust(&api, named("one", "sa:one")).await;
    trust(&api, with(named("one again", "sa:one"), json!({ "scopes": ["secrets:write"] }))).await;
    let token = EC.token(&github());
    let answer = ask(&api, &token, json!({})).await.expect(200).json();
    assert_eq!(answer["scope"], "secrets:read secrets:list", "the oldest: {first}");
    let second = trust(&api, named("two", "sa:two")).await;
    refused(ask(&api, &token, json!({})).await, "two accounts");
    refused(ask(&api, &token, json!({ "role": "sa:three" })).await, "an account of nobody");
    let answer = ask(&api, &token, json!({ "role": "sa:two" })).await.expect(200).json();
    let whoami =
        api.call(answer["access_token"].as_str().unwrap(), "GET", "/v1/auth/whoami").send().await.json();
    assert_eq!(whoami["identity_id"], "sa:two");
    // What is deleted is believed no longer.
    api.admin("DELETE", &format!("/v1/auth/trust/{second}")).send().await.expect(204);
    refused(ask(&api, &token, json!({ "role": "sa:two" })).await, "deleted");
    ask(&api, &token, json!({})).await.expect(200);
}

#[tokio::test]
async fn sec_d1_an_address_that_its_issuer_did_not_verify_is_nobodys() {
    let (api, _) = start().await;
    let email = json!({ "email": "ci@acme.iam.gserviceaccount.com" });
    trust(&api, json!({ "name": "hosts", "type": "gcp", "bound_claims": email })).await;
    for verified in [json!(null), json!(false), json!("true"), json!(1)] {
        let token = EC.token(&with(google(), json!({ "email_verified": verified })));
        refused(ask(&api, &token, json!({})).await, &verified.to_string());
    }
    ask(&api, &EC.token(&google()), json!({})).await.expect(200);
}

#[tokio::test]
async fn sec_g3_an_issuer_whose_keys_cannot_be_had_lets_nobody_in() {
    let (api, platforms) = start().await;
    let oidc = |name: &str, issuer: &str, fields: Value| {
        with(json!({ "name": name, "type": "oidc", "issuer": issuer, "bound_subject": "x" }), fields)
    };
    let claims = |issuer: &str| {
        json!({
            "iss": issuer, "aud": "https://vault.example", "sub": "x", "iat": now(), "exp": now() + 60,
        })
    };
    let pages = [
        ("https://down.example", None),
        (
            "https://other.example",
            Some(json!({ "issuer": "https://down.example", "jwks_uri": format!("{OTHER}/keys") })),
        ),
        (
            "https://plain.example",
            Some(json!({ "issuer": "https://plain.example", "jwks_uri": "http://plain.example/keys" })),
        ),
        (
            "https://inside.example",
            Some(
                json!({ "issuer": "https://inside.example", "jwks_uri": "https://u:p@inside.example/keys" }),
            ),
        ),
        ("https://nothing.example", Some(json!({ "issuer": "https://nothing.example" }))),
        (
            "https://large.example",
            Some(
                json!({ "issuer": "https://large.example", "jwks_uri": format!("{OTHER}/keys"), "x": "x".repeat(70_000) }),
            ),
        ),
    ];
    for (at, (issuer, page)) in pages.iter().enumerate() {
        if let Some(page) = page {
            let url = format!("{issuer}/.well-known/openid-configuration");
            platforms.pages.lock().unwrap().insert(url, page.to_string());
        }
        trust(&api, oidc(&format!("t{at}"), issuer, json!({}))).await;
        platforms.asked();
        refused(ask(&api, &EC.token(&claims(issuer)), json!({})).await, issuer);
        assert_eq!(platforms.asked().len(), 1, "{issuer}: nothing but its own document was asked for");
    }
    // Keys at a place of their own need no document.
    trust(&api, oidc("place", "https://placed.example", json!({ "jwks_url": format!("{OTHER}/keys") })))
        .await;
    ask(&api, &EC.token(&claims("https://placed.example")), json!({})).await.expect(200);
    assert_eq!(platforms.asked(), [format!("{OTHER}/keys")]);
}

#[tokio::test]
async fn sec_j2_an_address_that_asks_too_often_is_told_to_wait() {
    let limits = RateLimits::none().with(Category::AuthExchange, Some(1));
    let (api, _) = start_limited(limits).await;
    refused(ask(&api, "a.b.c", json!({})).await, "within the limit");
    let answer = ask(&api, "a.b.c", json!({})).await;
    assert!(answer.header("retry-after").is_some());
    answer.refusal(429, "rate_limited");
    api.admin("GET", "/v1/auth/trust").send().await.expect(200);
}

/// The key is used, so that a test that asks for an issuer knows who signs for it.
#[test]
fn the_stranger_has_a_key_of_his_own() {
    let same = |one: &Key, other: &Key| one.jwk["x"] == other.jwk["x"];
    assert!(!same(&EC, &STRANGER) && EC.jwk["kid"] == STRANGER.jwk["kid"]);
}
