use super::*;
use crate::{Code, PartnerId, limits};

/// A good token with these claims is refused; the message names `part`, and holds nothing of the token.
async fn refused(changes: Value, part: &str) {
    let token = RSA.token(changes.clone());
    let error = Fixture::ready().verify(&token).await.expect_err(&changes.to_string());
    assert_eq!(error.code(), Code::TokenInvalid, "{changes}");
    assert!(error.message().contains(part), "{changes}: {}", error.message());
    for value in changes.as_object().unwrap().values().filter_map(Value::as_str).filter(|v| v.len() > 2) {
        assert!(!error.message().contains(value), "{}", error.message());
    }
}

async fn accepted(changes: Value) -> Caller {
    let token = RSA.token(changes.clone());
    Fixture::ready().verify(&token).await.unwrap_or_else(|error| panic!("{changes}: {error}"))
}

async fn refused_token(token: &str, why: &str) {
    let error = Fixture::ready().verify(token).await.expect_err(why);
    assert_eq!(error.code(), Code::TokenInvalid, "{why}: {error}");
    assert!(error.message().len() < 200 && !error.message().contains("eyJ"), "{error}");
}

#[tokio::test]
async fn a_good_token_becomes_its_caller() {
    let fixture = Fixture::ready();
    let changes = json!({
        "partner_id": "ptn_acme", "groups": ["group:sre", "group:dev", "Domain Admins", "*"], "name": "Alice",
        "role": "tenant_admin", "mfa_verified_at": "2026-04-23T19:55:00+02:00", "unknown": {"a": [1]},
    });
    for key in [&*RSA, &*EC] {
        for prefix in ["", "skt_"] {
            let token = format!("{prefix}{}", key.token(changes.clone()));
            let caller = fixture.verify(&token).await.unwrap();
            assert_eq!(caller.identity_id(), "user:alice@acme.example");
            assert_eq!(caller.identity_type(), IdentityType::User);
            assert_eq!(caller.tenant_id().as_str(), "tnt_acme");
            assert_eq!(caller.partner_id().unwrap().as_str(), "ptn_acme");
            assert_eq!(caller.display_name(), Some("Alice"));
            assert_eq!(caller.groups(), ["group:dev", "group:sre"]);
            assert_eq!(caller.roles(), [Role::TenantAdmin]);
            assert_eq!(caller.scopes().iter().collect::<Vec<_>>(), [Scope::SecretsRead]);
            assert_eq!(caller.mfa_verified_at(), Some(START - Duration::minutes(5)));
            assert_eq!(caller.token_issued_at(), Some(START));
            assert_eq!(caller.token_expires_at(), Some(START + Duration::HOUR));
        }
    }
    assert_eq!(fixture.source.calls(), 1);
}

#[tokio::test]
async fn claims_map_to_type_scopes_roles_and_partner() {
    for machine in [
        json!({"token_type": "client_credentials"}),
        json!({"client_id": "user:alice@acme.example"}),
        json!({"sub": "sa:ci"}),
    ] {
        assert_eq!(accepted(machine).await.identity_type(), IdentityType::ServiceAccount);
    }
    for person in [json!({"token_type": "Bearer"}), json!({"client_id": "console"})] {
        assert_eq!(accepted(person).await.identity_type(), IdentityType::User);
    }
    let listed = accepted(json!({"scope": null, "scopes": ["pki:issue", "nonsense", "ADMIN"]})).await;
    assert!(listed.has_scope(Scope::PkiIssue) && !listed.has_scope(Scope::PkiAdmin));
    let none = accepted(json!({"scope": null})).await;
    assert_eq!(none.scopes().iter().count(), 0);
    let roles = accepted(json!({"roles": ["super_admin", "user"], "role": "tenant_admin"})).await;
    assert_eq!(roles.roles(), [Role::SuperAdmin]);
    assert!(accepted(json!({"role": "viewer"})).await.roles().is_empty());
    assert!(accepted(json!({"name": "a\u{1b}b"})).await.display_name().is_none());

    let mut settings = settings();
    settings.default_partner = Some(PartnerId::parse("ptn_default").unwrap());
    let clock = Arc::new(TestClock(Mutex::new(START)));
    let verifier = TokenVerifier::new(Arc::new(StaticJwks::new(set(&[&EC]))), settings, clock).unwrap();
    let partner = |caller: Caller| caller.partner_id().unwrap().to_string();
    assert_eq!(partner(verifier.verify(&EC.token(json!({}))).await.unwrap()), "ptn_default");
    let named = EC.token(json!({"partner_id": "ptn_x"}));
    assert_eq!(partner(verifier.verify(&named).await.unwrap()), "ptn_x");
}

#[tokio::test]
async fn sec_g1_claims_of_the_wrong_type_are_refused_by_name() {
    for name in ["iss", "sub", "tenant_id", "partner_id", "scope", "role", "token_type", "client_id", "name"]
    {
        refused(edited(json!({}), json!({name: 7})), name).await;
        refused(edited(json!({}), json!({name: ["x"]})), name).await;
    }
    for name in ["scopes", "roles", "groups"] {
        for bad in [json!("admin"), json!([1]), json!([["admin"]]), json!({"0": "admin"}), json!(true)] {
            let mut changes = json!({"scope": null});
            changes[name] = bad;
            refused(changes, name).await;
        }
        let mut many = json!({"scope": null});
        many[name] = json!(vec!["x"; limits::CLAIM_ENTRIES + 1]);
        refused(many, name).await;
    }
    for bad in [
        json!("1777000000"),
        json!(true),
        json!([]),
        json!({}),
        json!(-1),
        json!(1e300),
        json!(253402300800_i64),
    ] {
        for name in ["exp", "nbf", "iat"] {
            refused(json!({name: bad}), name).await;
        }
    }
    for name in ["iss", "aud", "sub", "tenant_id", "exp"] {
        refused(json!({name: null}), &format!("{name} is missing")).await;
        let explicit = edited(claims(), json!({name: null}));
        let text = explicit.to_string().replacen('{', &format!("{{\"{name}\":null,"), 1);
        refused_token(&RSA.sign(&RSA.header().to_string(), &text), "null is absent").await;
    }
    refused(json!({"tenant_id": "tnt acme"}), "tenant_id").await;
    refused(json!({"tenant_id": ""}), "tenant_id").await;
    refused(json!({"partner_id": "ptn\n"}), "partner_id").await;
}

#[tokio::test]
async fn sec_g1_issuer_must_be_ours_to_the_last_character() {
    for good in
        [ISSUER, "https://other.example", "https://id.example/tenants/tnt_b", "https://id.example/a.b~c"]
    {
        accepted(json!({"iss": good})).await;
    }
    for bad in [
        "",
        "https://id.example/",
        "https://id.example//",
        "https://id.example/tenants/",
        "https://id.example//evil",
        "https://id.example/../evil",
        "https://id.example/./x",
        "https://id.example.evil.example",
        "https://id.example.evil.example/tenants/tnt_acme",
        "https://id.example@evil.example",
        "https://id.example:8443/tenants/t",
        "https://id.example/t?x=1",
        "https://id.example/t#x",
        "https://id.example/%2e%2e",
        "https://id.exampl",
        "http://id.example",
        "HTTPS://ID.EXAMPLE",
        "https://evil.example/https://id.example",
        " https://id.example",
        "https://id.example/tenants/t ",
        "https://id.example\\tenants",
    ] {
        refused(json!({"iss": bad}), "iss").await;
    }
}

#[tokio::test]
async fn sec_g1_audience_must_name_us() {
    for good in [json!("scaivault"), json!(["scaivault"]), json!(["x", "other"])] {
        accepted(json!({"aud": good})).await;
    }
    for bad in [
        json!(""),
        json!("ScaiVault"),
        json!("scaivault/"),
        json!("scaivault other"),
        json!([]),
        json!(["x"]),
        json!([["scaivault"]]),
        json!(["scaivault", 1]),
        json!({"scaivault": true}),
        json!(7),
    ] {
        refused(json!({"aud": bad}), "aud").await;
    }
}

#[tokio::test]
async fn sec_g1_times_hold_to_the_leeway_and_no_second_more() {
    let (now, leeway) = (START.unix_timestamp(), limits::TOKEN_LEEWAY.as_secs() as i64);
    let code = |name: &'static str, at: Value| async move {
        let token = RSA.token(json!({name: at}));
        Fixture::ready().verify(&token).await.err().map(|error| error.code())
    };
    for (name, at, expected) in [
        ("exp", now - leeway + 1, None),
        ("exp", now - leeway, Some(Code::TokenExpired)),
        ("exp", now - leeway - 1, Some(Code::TokenExpired)),
        ("exp", 0, Some(Code::TokenExpired)),
        ("nbf", now + leeway, None),
        ("nbf", now + leeway + 1, Some(Code::TokenInvalid)),
        ("iat", now + leeway, None),
        ("iat", now + leeway + 1, Some(Code::TokenInvalid)),
        ("iat", 0, None),
    ] {
        assert_eq!(code(name, json!(at)).await, expected, "{name} {}", at - now);
    }
    // Fractions are cut off.
    assert_eq!(code("exp", json!((now - leeway) as f64 + 0.75)).await, Some(Code::TokenExpired));
    assert_eq!(code("nbf", json!((now + leeway) as f64 + 0.75)).await, None);

    // Expired is said of a token of ours only.
    refused(json!({"exp": 1, "aud": "x"}), "aud").await;
    refused(json!({"exp": 1, "sub": "a b"}), "sub").await;

    let fixture = Fixture::ready();
    let token = EC.token(json!({}));
    assert!(fixture.verify(&token).await.is_ok());
    fixture.clock.advance(Duration::HOUR + limits::TOKEN_LEEWAY);
    assert_eq!(fixture.verify(&token).await.unwrap_err().code(), Code::TokenExpired);
}

#[tokio::test]
async fn sec_g1_the_header_chooses_nothing() {
    let payload = claims().to_string();
    let with = |key: &Key, changes: Value| key.sign(&edited(key.header(), changes).to_string(), &payload);
    for alg in ["none", "None", "", "HS256", "RS384", "PS256", "ES384", "EdDSA", "rs256"] {
        refused_token(&with(&RSA, json!({"alg": alg})), alg).await;
    }
    refused_token(&with(&RSA, json!({"alg": null})), "no alg").await;
    refused_token(&with(&RSA, json!({"alg": ["RS256"]})), "alg list").await;
    // The key decides: neither another algorithm's key nor its name serves.
    refused_token(&with(&RSA, json!({"alg": "ES256"})), "RSA key as EC").await;
    refused_token(&with(&RSA, json!({"kid": "ec-1"})), "kid of the EC key").await;
    refused_token(&with(&EC, json!({"alg": "RS256"})), "EC key as RSA").await;
    refused_token(&with(&P384, json!({})), "ES384").await;
    refused_token(&with(&P384, json!({"alg": "ES256"})), "P-384 key as ES256").await;
    for kid in [
        json!(null),
        json!(""),
        json!(7),
        json!("../rsa-1"),
        json!("RSA-1"),
        json!("rsa-1\0"),
        json!("x".repeat(129)),
    ] {
        refused_token(&with(&RSA, json!({"kid": kid})), "kid").await;
    }
    for name in ["crit", "b64", "zip"] {
        for value in [json!([]), json!(["exp"]), json!(true), json!("DEF")] {
            refused_token(&with(&RSA, json!({name: value})), name).await;
        }
    }
    for typ in ["logout+jwt", "secevent+jwt", "dpop+jwt", "JWE", ""] {
        refused_token(&with(&RSA, json!({"typ": typ})), typ).await;
    }
    // Keys that a token brings along are never used, and do not hurt.
    let brought = json!({
        "jku": "https://evil.example/keys", "x5u": "https://evil.example/chain", "jwk": RSA_2.jwk, "x5c": ["AA=="],
    });
    refused_token(&with(&RSA_2, edited(brought.clone(), json!({"kid": "rsa-1"}))), "own key").await;
    for good in [brought, json!({"typ": null}), json!({"typ": "at+jwt"}), json!({"typ": "jwt"})] {
        Fixture::ready().verify(&with(&RSA, good)).await.unwrap();
    }
}

#[tokio::test]
async fn sec_g1_hmac_with_the_public_key_as_secret_is_refused() {
    for secret in [RSA.jwk["n"].as_str().unwrap().as_bytes(), set(&[&RSA]).as_bytes()] {
        let hmac = EncodingKey::from_secret(secret);
        for alg in ["HS256", "RS256"] {
            let header = json!({"alg": alg, "kid": "rsa-1"}).to_string();
            let message = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header),
                URL_SAFE_NO_PAD.encode(claims().to_string())
            );
            let mac = jsonwebtoken::crypto::sign(message.as_bytes(), &hmac, Algorithm::HS256).unwrap();
            refused_token(&format!("{message}.{mac}"), alg).await;
        }
    }
}

#[tokio::test]
async fn sec_g1_members_named_twice_are_refused() {
    let (header, payload) = (RSA.header().to_string(), claims().to_string());
    let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    for member in [r#""alg":"RS256""#, r#""kid":"rsa-1""#, r#""x":1,"x":1"#, r#""\u0061lg":"none""#] {
        refused_token(&RSA.sign(&twice(&header, member), &payload), member).await;
    }
    for member in [r#""sub":"user:root""#, r#""exp":9999999999"#, r#""x":{"a":1,"a":2}"#, r#""\u0073ub":"x""#]
    {
        refused_token(&RSA.sign(&header, &twice(&payload, member)), member).await;
    }
}

#[tokio::test]
async fn sec_g1_a_token_is_three_strict_parts_of_bounded_size() {
    let good = RSA.token(json!({}));
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    for (bad, why) in [
        (String::new(), "empty"),
        ("skt_".into(), "prefix alone"),
        ("..".into(), "three empty parts"),
        ("a".repeat(limits::TOKEN_BYTES + 1), "long"),
        (".".repeat(limits::TOKEN_BYTES), "dots"),
        (format!("{header}.{payload}"), "two parts"),
        (format!("{header}.{payload}."), "no signature"),
        (format!("{good}."), "four parts"),
        (format!("{good}.{signature}"), "five parts of JWE, almost"),
        (format!("{good}="), "padding"),
        (format!(" {good}"), "space before"),
        (format!("{good}\n"), "newline"),
        (format!("skt_skt_{good}"), "prefix twice"),
        (format!("{header}.{payload}.{}", "A".repeat(signature.len())), "zero signature"),
        (format!("{header}.{payload}.{}", &signature[..signature.len() - 4]), "short signature"),
        (format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("{}")), "another payload"),
        (RSA.sign(&RSA.header().to_string(), "[]"), "payload is no object"),
        (RSA.sign(&RSA.header().to_string(), "not json"), "payload is no JSON"),
        (RSA.sign("[]", &claims().to_string()), "header is no object"),
        (RSA.token(json!({"pad": "x".repeat(limits::TOKEN_BYTES)})), "signed, but long"),
        ("é.é.é".into(), "not ASCII"),
    ] {
        refused_token(&bad, why).await;
    }
    // Standard base64 and non-zero trailing bits are other spellings of the same bytes.
    let odd = RSA.token(json!({"name": "\u{3ff}\u{3ff}??>>"}));
    for (from, to) in [('_', "/"), ('-', "+")] {
        if odd.contains(from) {
            refused_token(&odd.replace(from, to), "standard alphabet").await;
        }
    }
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() ^ 1).unwrap();
    refused_token(&format!("{}{next}", &good[..good.len() - 1]), "trailing bits").await;
}

#[tokio::test]
async fn sec_g1_a_signature_by_anyone_else_is_refused() {
    let forged = RSA_2.sign(&RSA.header().to_string(), &claims().to_string());
    refused_token(&forged, "another RSA key").await;
    let other = Key::ec("ec-1", &ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::ES256);
    refused_token(&other.token(json!({})), "another EC key").await;
    refused_token(&RSA_2.token(json!({})), "unpublished key").await;
}

#[tokio::test]
async fn sec_g1_no_character_of_a_token_can_change() {
    let (fixture, good) = (Fixture::ready(), EC.token(json!({})));
    for at in 0..good.len() {
        for other in [".", "A", "B"].into_iter().filter(|other| good[at..=at] != **other) {
            let bad = format!("{}{other}{}", &good[..at], &good[at + 1..]);
            assert_eq!(fixture.verify(&bad).await.unwrap_err().code(), Code::TokenInvalid, "{at}");
        }
    }
}

#[tokio::test]
async fn sec_d1_subjects_are_kept_byte_for_byte_or_refused() {
    for sub in ["alice", "Alice", "ALICE", "alice.", "user:alice", "alice@a.example"] {
        assert_eq!(accepted(json!({"sub": sub})).await.identity_id(), sub);
    }
    for bad in [
        "",
        " alice",
        "alice ",
        "al ice",
        "alice\t",
        "alice\0",
        "alic\u{435}",
        "al\u{131}ce",
        "alice\u{200b}",
        "\u{ff41}lice",
        "e\u{301}va",
        "system:rotation-scheduler",
        "dynamic:db",
        "group:sre",
    ] {
        refused(json!({"sub": bad}), "sub").await;
    }
    // The same subject from an issuer that is not ours is nobody.
    refused(json!({"iss": "https://evil.example"}), "iss").await;
}

#[tokio::test]
async fn sec_b1_claims_cannot_bring_in_patterns() {
    for bad in ["*", "user:*", "a?", "{{identity.id}}", "a}"] {
        refused(json!({"sub": bad}), "sub").await;
        let caller = accepted(json!({"groups": [bad, "sre"]})).await;
        assert_eq!(caller.groups(), ["sre"]);
    }
    let long = "x".repeat(limits::ID_BYTES);
    assert_eq!(accepted(json!({"sub": long})).await.identity_id(), long);
    refused(json!({"sub": format!("{long}x")}), "sub").await;
}

#[tokio::test]
async fn sec_d3_only_a_past_second_factor_counts() {
    let (now, leeway) = (START.unix_timestamp(), limits::TOKEN_LEEWAY.as_secs() as i64);
    for good in [
        json!(now - 60),
        json!(now as f64 - 60.0),
        json!("2026-04-23T17:59:00Z"),
        json!("2026-04-23T19:59:00+02:00"),
    ] {
        let at = accepted(json!({"mfa_verified_at": good})).await.mfa_verified_at();
        assert_eq!(at, Some(START - Duration::MINUTE), "{good}");
    }
    assert!(accepted(json!({"mfa_verified_at": now + leeway})).await.mfa_verified_at().is_some());
    for bad in [
        json!(null),
        json!(now + leeway + 1),
        json!(now * 1000),
        json!(-1),
        json!(-1e300),
        json!(1e300),
        json!(u64::MAX),
        json!("2026-04-23T18:00:31Z"),
        json!("9999-12-31T23:59:59Z"),
        json!("1969-12-31T23:59:59Z"),
        json!("2026-04-23T17:59:00"),
        json!("2026-04-23"),
        json!("1776967140"),
        json!("yes"),
        json!(""),
    ] {
        let caller = accepted(json!({"mfa_verified_at": bad})).await;
        assert_eq!(caller.mfa_verified_at(), None, "{bad}");
    }
    for bad in [json!(true), json!([now]), json!({"at": now})] {
        refused(json!({"mfa_verified_at": bad}), "mfa_verified_at").await;
    }
}

#[test]
fn a_verifier_that_would_believe_anybody_is_not_built() {
    let build = |settings| {
        let clock = Arc::new(TestClock(Mutex::new(START)));
        TokenVerifier::new(Arc::new(StaticJwks::new("{}")), settings, clock)
    };
    assert!(build(settings()).is_ok());
    for (field, bad) in [
        ("issuers", TokenSettings { issuers: vec![], ..settings() }),
        ("issuers", TokenSettings { issuers: vec![ISSUER.into(), String::new()], ..settings() }),
        ("audiences", TokenSettings { audiences: vec![], ..settings() }),
        ("audiences", TokenSettings { audiences: vec![String::new()], ..settings() }),
    ] {
        assert!(build(bad).unwrap_err().details().fields.contains_key(field));
    }
}
