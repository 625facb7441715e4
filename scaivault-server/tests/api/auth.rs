use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use scaivault_core::{Clock as _, SystemClock};
use scaivault_server::dev::{DevIssuer, TENANT};
use serde_json::{Value, json};

use crate::support::{Api, Who, is_seconds, keys};

#[tokio::test]
async fn whoami_says_what_the_token_says() {
    let api = Api::start().await;
    let who = Who {
        groups: &["group:sre", "group:dev"],
        roles: &["tenant_admin"],
        ..Who::new("sa:billing", "secrets:read pki:issue no:such")
    };
    let body = api.call(&api.token_of(&who), "GET", "/v1/auth/whoami").send().await.expect(200).json();
    let expires = body["token_expires_at"].clone();
    assert!(is_seconds(&expires), "{body}");
    assert_eq!(
        body,
        json!({
            "identity_id": "sa:billing",
            "identity_type": "service_account",
            "display_name": null,
            "tenant_id": TENANT,
            "partner_id": "ptn_dev",
            "scopes": ["secrets:read", "pki:issue"],
            "groups": ["group:dev", "group:sre"],
            "roles": ["tenant_admin"],
            "mfa_verified_at": null,
            "token_expires_at": expires,
        })
    );
    let user = api.token("user:alice@dev.example", "");
    let body = api.call(&user, "GET", "/v1/auth/whoami").send().await.expect(200).json();
    assert_eq!((&body["identity_type"], &body["scopes"]), (&json!("user"), &json!([])));
    assert!(api.audit("action=whoami").await.is_empty());
}

/// Tokens made by hand, signed with the issuer's own key or not.
pub(crate) struct Forge {
    key: EncodingKey,
    kid: String,
}

impl Forge {
    pub(crate) fn of(api: &Api) -> Self {
        let pem = std::fs::read(api.key_file()).unwrap();
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).unwrap();
        let jwks: Value = serde_json::from_str(api.issuer.jwks()).unwrap();
        let kid = jwks["keys"][0]["kid"].as_str().unwrap().to_owned();
        Self { key: EncodingKey::from_ec_der(der.secret_pkcs8_der()), kid }
    }

    /// Claims that are fine, changed by `change`.
    fn claims(change: impl FnOnce(&mut Value)) -> Value {
        let now = SystemClock.now().unix_timestamp();
        let mut claims = json!({
            "iss": DevIssuer::ISSUER, "aud": DevIssuer::AUDIENCE, "sub": "user:mallory", "tenant_id": TENANT,
            "partner_id": "ptn_dev", "scope": "admin", "roles": ["tenant_admin"],
            "iat": now, "nbf": now, "exp": now + 600,
        });
        change(&mut claims);
        claims
    }

    pub(crate) fn sign(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, &Self::claims(change), &self.key).unwrap()
    }

    fn hmac(&self, secret: &[u8]) -> String {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, &Self::claims(|_| {}), &EncodingKey::from_secret(secret)).unwrap()
    }

    /// A token with this header, and the signature of a good one.
    fn with_header(&self, header: &Value) -> String {
        let good = self.sign(|_| {});
        let mut parts = good.split('.').skip(1);
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        format!("{header}.{}.{}", parts.next().unwrap(), parts.next().unwrap())
    }
}

#[tokio::test]
async fn sec_g1_a_token_that_cannot_be_believed_is_a_401_without_an_audit_record() {
    let (api, other) = (Api::start().await, Api::start().await);
    let (forge, stranger) = (Forge::of(&api), Forge::of(&other));
    let now = SystemClock.now().unix_timestamp();
    let good = forge.sign(|_| {});
    api.call(&good, "GET", "/v1/secrets").send().await.expect(200);

    let flipped = {
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[40] ^= 1;
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
    };
    let swapped = {
        let foreign = forge.sign(|claims| claims["sub"] = json!("user:root"));
        let (header, rest) = good.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        format!("{header}.{}.{signature}", foreign.split('.').nth(1).unwrap())
    };
    let none = {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = encode(&json!({ "alg": "none", "typ": "JWT", "kid": forge.kid }));
        format!("{header}.{}.", encode(&Forge::claims(|_| {})))
    };
    let jwks: Value = serde_json::from_str(api.issuer.jwks()).unwrap();
    let x = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["x"].as_str().unwrap()).unwrap();
    let as_ours = Forge { key: stranger.key, kid: forge.kid.clone() };
    let invalid = [
        ("garbage", "garbage".to_owned()),
        ("three parts of garbage", "a.b.c".to_owned()),
        ("a personal token without a token", "skt_abcdef".to_owned()),
        ("a flipped bit", flipped),
        ("the signature of other claims", swapped),
        ("alg none", none),
        ("alg None with a signature", forge.with_header(&json!({ "alg": "None", "kid": forge.kid }))),
        ("HS256 with the key set", forge.hmac(api.issuer.jwks().as_bytes())),
        ("HS256 with the public key", forge.hmac(&x)),
        ("HS256 with nothing", forge.hmac(b"")),
        ("another key under our kid", as_ours.sign(|_| {})),
        ("another issuer's key", other.token("user:mallory", "admin")),
        ("no kid", forge.with_header(&json!({ "alg": "ES256" }))),
        ("a kid that is a path", forge.with_header(&json!({ "alg": "ES256", "kid": "../../issuer.key" }))),
        (
            "a jwk of its own",
            forge.with_header(&json!({ "alg": "ES256", "kid": "x", "jwk": jwks["keys"][0] })),
        ),
        ("crit", forge.with_header(&json!({ "alg": "ES256", "kid": forge.kid, "crit": ["b64"] }))),
        ("another issuer", forge.sign(|claims| claims["iss"] = json!("https://evil.example"))),
        ("an issuer that begins alike", forge.sign(|claims| claims["iss"] = json!("urn:scaivault:dev2"))),
        ("no issuer", forge.sign(|claims| drop(claims.as_object_mut().unwrap().remove("iss")))),
        ("another audience", forge.sign(|claims| claims["aud"] = json!("scaivault2"))),
        ("other audiences", forge.sign(|claims| claims["aud"] = json!(["a", "b"]))),
        ("no audience", forge.sign(|claims| drop(claims.as_object_mut().unwrap().remove("aud")))),
        ("no end", forge.sign(|claims| drop(claims.as_object_mut().unwrap().remove("exp")))),
        ("not yet", forge.sign(|claims| claims["nbf"] = json!(now + 120))),
        ("no tenant", forge.sign(|claims| drop(claims.as_object_mut().unwrap().remove("tenant_id")))),
        ("a name of ours", forge.sign(|claims| claims["sub"] = json!("system:crl-builder"))),
        ("a glob for a name", forge.sign(|claims| claims["sub"] = json!("user:*"))),
    ];
    let expired = [
        ("expired", forge.sign(|claims| claims["exp"] = json!(now - 31))),
        ("expired long ago", forge.sign(|claims| claims["exp"] = json!(1))),
    ];
    let cases = invalid
        .iter()
        .map(|(why, token)| (why, token, "token_invalid"))
        .chain(expired.iter().map(|(why, token)| (why, token, "token_expired")));
    for (why, token, code) in cases {
        for (method, path) in [("GET", "/v1/secrets"), ("PUT", "/v1/secrets/a"), ("GET", "/v1/auth/whoami")] {
            let answer = api.call(token, method, path).send().await;
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{why}: {answer:?}");
            assert!(!answer.text().contains(token.as_str()), "{why}: {answer:?}");
            answer.refusal(401, code);
        }
        let lost = api.call(token, "GET", "/v1/no/such").send().await;
        assert_eq!(lost.status, 404, "{why}: a route that is not there is not there for strangers either");
    }
    let seen: Vec<Value> = api.audit("").await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((&seen[0]["action"], &seen[0]["identity_id"]), (&json!("list"), &json!("user:mallory")));
    // Within the leeway for clocks that differ.
    let late = forge.sign(|claims| claims["exp"] = json!(now - 5));
    api.call(&late, "GET", "/v1/secrets").send().await.expect(200);
}

#[tokio::test]
async fn a_header_that_is_no_bearer_token_is_a_401() {
    let api = Api::start().await;
    let token = &api.admin;
    for header in [
        None,
        Some("Bearer".to_owned()),
        Some("Bearer  ".to_owned()),
        Some(token.clone()),
        Some(format!("Basic {token}")),
        Some(format!("Token {token}")),
    ] {
        let call = api.anonymous("GET", "/v1/secrets");
        let call = match &header {
            Some(value) => call.header("Authorization", value),
            None => call,
        };
        let answer = call.send().await;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{header:?}");
        answer.refusal(401, "authentication_required");
    }
    let twice = api.admin("GET", "/v1/secrets").token(token).send().await;
    twice.refusal(401, "authentication_required");
    assert!(api.audit("").await.is_empty());
    // The scheme is a word in any case (RFC 9110, 11.1).
    let call = api.anonymous("GET", "/v1/secrets").header("Authorization", &format!("bearer {token}"));
    call.send().await.expect(200);
}

#[tokio::test]
async fn sec_c1_another_tenant_is_refused_and_the_refusal_stays_at_home() {
    let api = Api::start().await;
    api.write("PUT", "/v1/secrets/app/db", &json!({ "data": { "k": "v" } }), 201).await;
    let neighbour = api.token_of(&Who {
        tenant: "tnt_other",
        roles: &["tenant_admin"],
        ..Who::new("user:admin@other.example", "admin")
    });
    let own = api.admin("GET", "/v1/secrets/app/db").header("X-Tenant-ID", TENANT);
    assert_eq!(own.send().await.expect(200).json()["data"]["k"], "v");

    // By his own token the neighbour sees his own tenant, where there is nothing.
    api.call(&neighbour, "GET", "/v1/secrets/app/db").send().await.refusal(404, "secret_not_found");
    // Neither he nor we reach across.
    for (token, target) in [(&neighbour, TENANT), (&api.admin, "tnt_other"), (&api.admin, "tnt_nowhere")] {
        for (method, path) in
            [("GET", "/v1/secrets/app/db"), ("GET", "/v1/secrets"), ("DELETE", "/v1/secrets/app/db")]
        {
            let answer = api.call(token, method, path).header("X-Tenant-ID", target).send().await;
            answer.refusal(403, "tenant_access_denied");
        }
    }
    // Each refusal is in the trail of him who tried, and names where to.
    let ours = api.audit("success=false").await;
    assert_eq!(ours.len(), 6, "{ours:?}");
    for log in &ours {
        assert_eq!(log["error_code"], "tenant_access_denied");
        assert_eq!(log["identity_id"], "user:admin@dev.example");
        assert_eq!(log["tenant_id"], TENANT);
        let target = log["extra_data"]["target_tenant_id"].as_str().unwrap();
        assert!(["tnt_other", "tnt_nowhere"].contains(&target), "{log}");
    }
    api.admin("GET", "/v1/secrets/app/db").send().await.expect(200);
}

#[tokio::test]
async fn a_tenant_that_is_none_is_refused_and_recorded() {
    let api = Api::start().await;
    let long = "x".repeat(129);
    for (id, bad) in ["", "a b", "tnt_é", long.as_str()].iter().enumerate() {
        let call = api.admin("GET", "/v1/secrets/app/db").header("X-Request-ID", &format!("bad-{id}"));
        let error = call.header("X-Tenant-ID", bad).send().await.refusal(400, "invalid_request");
        assert!(error["message"].as_str().unwrap().to_lowercase().contains("x-tenant-id"), "{error}");
        let trail = api.audit(&format!("request_id=bad-{id}")).await;
        assert_eq!(trail.len(), 1, "{bad}: {trail:?}");
        let expected = (&json!("read"), &json!("invalid_request"), &json!(TENANT));
        assert_eq!((&trail[0]["action"], &trail[0]["error_code"], &trail[0]["tenant_id"]), expected);
    }
    let twice = api.admin("GET", "/v1/secrets").header("X-Tenant-ID", TENANT).header("X-Tenant-ID", TENANT);
    twice.send().await.refusal(400, "invalid_request");
    // A stranger with such a header is a stranger.
    let stranger = api.call("garbage", "GET", "/v1/secrets").header("X-Tenant-ID", "a b").send().await;
    stranger.refusal(401, "token_invalid");
    assert_eq!(api.audit("").await.len(), 5);
}

#[tokio::test]
async fn a_partner_that_is_not_the_tenants_is_refused() {
    let api = Api::start().await;
    api.admin("GET", "/v1/secrets").send().await.expect(200);
    let token = Forge::of(&api).sign(|claims| claims["partner_id"] = json!("ptn_other"));
    api.call(&token, "GET", "/v1/secrets").send().await.refusal(403, "tenant_access_denied");
}

#[tokio::test]
async fn whoami_has_no_other_fields_than_the_contract() {
    let api = Api::start().await;
    let body = api.get("/v1/auth/whoami").await;
    let expected = [
        "display_name",
        "groups",
        "identity_id",
        "identity_type",
        "mfa_verified_at",
        "partner_id",
        "roles",
        "scopes",
        "tenant_id",
        "token_expires_at",
    ];
    assert_eq!(keys(&body), expected);
}

async fn introspect(api: &Api, caller: &str, token: &str) -> Value {
    let body = json!({ "token": token });
    api.call(caller, "POST", "/v1/auth/introspect").json(&body).send().await.expect(200).json()
}

#[tokio::test]
async fn introspection_says_whom_a_token_speaks_for() {
    let api = Api::start().await;
    let token = api.token("sa:billing", "secrets:read pki:issue");
    let body = introspect(&api, &api.admin, &token).await;
    assert!(is_seconds(&body["expires_at"]) && is_seconds(&body["issued_at"]), "{body}");
    assert_eq!(
        body,
        json!({
            "active": true,
            "identity_id": "sa:billing",
            "identity_type": "service_account",
            "tenant_id": TENANT,
            "scopes": ["secrets:read", "pki:issue"],
            "expires_at": body["expires_at"],
            "issued_at": body["issued_at"],
        })
    );
    assert_eq!(introspect(&api, &api.admin, &format!("skt_{token}")).await["active"], true);
    let trail = api.audit("action=auth_introspect").await;
    assert_eq!(trail.len(), 2);
    for record in &trail {
        assert_eq!(
            (&record["identity_id"], &record["success"]),
            (&json!("user:admin@dev.example"), &json!(true))
        );
        assert!(record.to_string().contains("sa:billing"), "{record}");
        assert!(!record.to_string().contains(token.rsplit_once('.').unwrap().1), "{record}");
    }
    // He is told of by others, and does not ask himself.
    let body = json!({ "token": token });
    let refused = api.call(&token, "POST", "/v1/auth/introspect").json(&body).send().await;
    assert_eq!(refused.refusal(403, "insufficient_scope")["details"]["required_scope"], "admin");
    for bad in [json!({}), json!({ "token": 7 }), json!({ "token": token, "token_type_hint": "x" })] {
        let answer = api.admin("POST", "/v1/auth/introspect").json(&bad).send().await;
        assert!([400, 422].contains(&answer.status), "{bad}: {answer:?}");
    }
}

#[tokio::test]
async fn sec_g1_a_bad_token_is_not_active_and_that_is_all_one_learns() {
    let api = Api::start().await;
    let forge = Forge::of(&api);
    let now = SystemClock.now().unix_timestamp();
    for bad in [
        String::new(),
        "garbage".to_owned(),
        "a.b.c".to_owned(),
        "é".to_owned(),
        "skt_0123456789".to_owned(),
        "x".repeat(20_000),
        forge.sign(|claims| claims["exp"] = json!(now - 31)),
        forge.sign(|claims| claims["aud"] = json!("another")),
        forge.sign(|claims| claims["tenant_id"] = json!("a b")),
        forge.with_header(&json!({ "alg": "none" })),
        forge.hmac(b"x"),
        Api::start().await.token("user:mallory", "admin"),
    ] {
        assert_eq!(introspect(&api, &api.admin, &bad).await, json!({ "active": false }), "{bad}");
    }
    let trail = api.audit("action=auth_introspect").await;
    assert_eq!(trail.len(), 12);
    assert!(trail.iter().all(|record| record["success"] == true && !record.to_string().contains("mallory")));
}

#[tokio::test]
async fn sec_c1_a_token_of_another_tenant_is_active_for_who_administers_its_partner() {
    let api = Api::start().await;
    let token = |tenant, partner, roles| {
        api.token_of(&Who { tenant, partner, roles, ..Who::new("user:root@dev.example", "admin") })
    };
    // Whose a tenant is stands in the database once somebody of it has come, and in his token before.
    let seen = token("tnt_sibling", "ptn_dev", &[]);
    api.call(&seen, "GET", "/v1/secrets").send().await.expect(200);
    let unseen = token("tnt_new", "ptn_dev", &[]);
    let abroad = token("tnt_abroad", "ptn_abroad", &[]);
    api.call(&abroad, "GET", "/v1/secrets").send().await.expect(200);
    let liar = token("tnt_abroad", "ptn_dev", &[]);
    let own = token(TENANT, "ptn_dev", &[]);
    for (role, sees) in [
        (&["tenant_admin"][..], [true, false, false, false, false]),
        (&[], [true, false, false, false, false]),
        (&["partner_admin"], [true, true, true, false, false]),
        (&["super_admin"], [true, true, true, true, false]),
    ] {
        let caller = token(TENANT, "ptn_dev", role);
        for (other, sees) in [&own, &seen, &unseen, &abroad, &liar].into_iter().zip(sees) {
            let answer = introspect(&api, &caller, other).await;
            assert_eq!(answer["active"], sees, "{role:?} {answer}");
            assert!(sees || answer == json!({ "active": false }), "{role:?} {answer}");
        }
    }
}
