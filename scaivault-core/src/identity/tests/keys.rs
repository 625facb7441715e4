use futures_util::future::join_all;

use super::{
    super::jwks::{Algorithm, KeyCache, KeySet},
    *,
};
use crate::{Code, limits};

fn whole(duration: std::time::Duration) -> Duration {
    Duration::try_from(duration).unwrap()
}

/// Long-lived, so that the clock can be moved far.
fn long(key: &Key) -> String {
    key.token(json!({"exp": START.unix_timestamp() + 30 * 24 * 3600}))
}

#[tokio::test]
async fn a_set_is_fetched_once_and_again_when_its_time_is_over() {
    let fixture = Fixture::ready();
    assert_eq!(fixture.source.calls(), 0);
    for _ in 0..5 {
        fixture.verify(&long(&RSA)).await.unwrap();
    }
    fixture.clock.advance(whole(limits::JWKS_TTL) - Duration::SECOND);
    fixture.verify(&long(&EC)).await.unwrap();
    assert_eq!(fixture.source.calls(), 1);
    fixture.clock.advance(Duration::SECOND);
    fixture.verify(&long(&RSA)).await.unwrap();
    assert_eq!(fixture.source.calls(), 2);
}

#[tokio::test]
async fn sec_g3_a_removed_key_stops_working_when_the_time_is_over() {
    let fixture = Fixture::ready();
    fixture.verify(&long(&RSA)).await.unwrap();
    fixture.source.answer(Some(set(&[&EC])));
    fixture.clock.advance(whole(limits::JWKS_TTL));
    assert_eq!(fixture.verify(&long(&RSA)).await.unwrap_err().code(), Code::TokenInvalid);
    fixture.verify(&long(&EC)).await.unwrap();
    // An empty set is an answer, too.
    fixture.source.answer(Some(set(&[])));
    fixture.clock.advance(whole(limits::JWKS_TTL));
    assert_eq!(fixture.verify(&long(&EC)).await.unwrap_err().code(), Code::TokenInvalid);
}

#[tokio::test]
async fn a_token_that_was_good_is_known_for_a_while() {
    let fixture = Fixture::ready();
    let (good, known) = (long(&RSA), |token: &str| fixture.verifier.knows(token));
    assert!(!known(&good));
    let first = fixture.verify(&good).await.unwrap();
    assert!(known(&good));
    let again = fixture.verify(&format!("skt_{good}")).await.unwrap();
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    fixture.clock.advance(whole(limits::TOKEN_KNOWN) - Duration::SECOND);
    assert!(known(&good));
    fixture.clock.advance(Duration::SECOND);
    assert!(!known(&good));
    fixture.verify(&good).await.unwrap();
    assert!(known(&good));
    // What the clock says now was before it was seen.
    fixture.clock.advance(-Duration::SECOND);
    assert!(!known(&good));
    // No bad one ever is.
    let (head, _) = good.rsplit_once('.').unwrap();
    for bad in [format!("{head}.AAAA"), long(&RSA_2), RSA.token(json!({"aud": "x"}))] {
        assert!(fixture.verify(&bad).await.is_err());
        assert!(!known(&bad));
    }
}

#[tokio::test]
async fn sec_g1_a_known_token_ends_when_it_expires() {
    let fixture = Fixture::ready();
    let token = RSA.token(json!({"exp": START.unix_timestamp() + 10}));
    fixture.verify(&token).await.unwrap();
    fixture.clock.advance(Duration::seconds(10) + limits::TOKEN_LEEWAY - Duration::SECOND);
    assert!(fixture.verifier.knows(&token));
    fixture.clock.advance(Duration::SECOND);
    assert_eq!(fixture.verify(&token).await.unwrap_err().code(), Code::TokenExpired);
}

#[tokio::test]
async fn sec_g3_a_known_token_ends_with_the_key_that_signed_it() {
    let fixture = Fixture::ready();
    fixture.verify(&long(&RSA)).await.unwrap();
    // Somebody with a new key makes us look at the issuer's keys, and the other is gone.
    fixture.source.answer(Some(set(&[&RSA_2])));
    fixture.clock.advance(Duration::SECOND);
    fixture.verify(&long(&RSA_2)).await.unwrap();
    assert_eq!(fixture.verify(&long(&RSA)).await.unwrap_err().code(), Code::TokenInvalid);
}

#[tokio::test]
async fn sec_g3_a_new_key_is_found_at_once_but_strangers_cost_one_fetch_at_most() {
    let fixture = Fixture::new(Some(set(&[&RSA])));
    fixture.verify(&long(&RSA)).await.unwrap();
    fixture.source.answer(Some(set(&[&RSA, &EC])));
    fixture.clock.advance(Duration::SECOND);
    fixture.verify(&long(&EC)).await.unwrap();
    assert_eq!(fixture.source.calls(), 2);

    let refused = || async { fixture.verify(&long(&RSA_2)).await.unwrap_err().code() };
    for _ in 0..20 {
        assert_eq!(refused().await, Code::TokenInvalid);
    }
    fixture.clock.advance(whole(limits::JWKS_FORCED_REFRESH) - Duration::SECOND);
    assert_eq!(refused().await, Code::TokenInvalid);
    assert_eq!(fixture.source.calls(), 2);
    fixture.clock.advance(Duration::SECOND);
    for _ in 0..20 {
        assert_eq!(refused().await, Code::TokenInvalid);
    }
    assert_eq!(fixture.source.calls(), 3);
    // A fetch within the call is not repeated for the same token.
    fixture.clock.advance(whole(limits::JWKS_TTL));
    assert_eq!(refused().await, Code::TokenInvalid);
    assert_eq!(fixture.source.calls(), 4);
}

#[tokio::test]
async fn sec_g3_a_caller_who_hangs_up_does_not_get_another_fetch() {
    let fixture = Fixture::new(Some(set(&[&RSA])));
    fixture.verify(&long(&RSA)).await.unwrap();
    fixture.source.gate.forget_permits(usize::MAX);
    let token = long(&RSA_2);
    let mut call = Box::pin(fixture.verify(&token));
    assert!(futures_util::poll!(&mut call).is_pending());
    drop(call);
    assert_eq!(fixture.verify(&token).await.unwrap_err().code(), Code::TokenInvalid);
    assert_eq!(fixture.source.calls(), 2);
    // Known keys are not held up meanwhile.
    fixture.verify(&long(&RSA)).await.unwrap();
}

#[tokio::test]
async fn sec_g3_the_last_good_set_serves_through_an_outage_for_a_while() {
    let fixture = Fixture::ready();
    fixture.verify(&long(&RSA)).await.unwrap();
    let oversized = json!({"keys": [RSA_2.jwk], "pad": "x".repeat(limits::JWKS_BYTES)}).to_string();
    let bad =
        [None, Some("<html>".into()), Some("{}".into()), Some(r#"{"keys":{}}"#.into()), Some(oversized)];
    fixture.clock.advance(whole(limits::JWKS_TTL));
    for body in bad {
        fixture.source.answer(body);
        let before = fixture.source.calls();
        for _ in 0..5 {
            fixture.verify(&long(&RSA)).await.unwrap();
            assert_eq!(fixture.verify(&long(&RSA_2)).await.unwrap_err().code(), Code::TokenInvalid);
        }
        assert_eq!(fixture.source.calls(), before + 1, "a source that is down is left alone");
        fixture.clock.advance(whole(limits::JWKS_RETRY));
    }
    fixture.clock.advance(START + whole(limits::JWKS_STALE) - fixture.clock.now() - Duration::SECOND);
    fixture.verify(&long(&RSA)).await.unwrap();
    fixture.clock.advance(Duration::SECOND);
    let error = fixture.verify(&long(&RSA)).await.unwrap_err();
    assert_eq!(error.code(), Code::ServiceUnavailable);
    assert_eq!(error.details().retry_after, Some(limits::JWKS_RETRY));

    fixture.source.answer(Some(set(&[&RSA])));
    fixture.clock.advance(whole(limits::JWKS_RETRY));
    fixture.verify(&long(&RSA)).await.unwrap();
}

#[tokio::test]
async fn sec_g3_without_any_set_nobody_is_believed_and_starting_is_possible() {
    let fixture = Fixture::new(None);
    for _ in 0..5 {
        let error = fixture.verify(&long(&RSA)).await.unwrap_err();
        assert_eq!(error.code(), Code::ServiceUnavailable);
        assert!(!error.message().contains("refused"), "{error}");
    }
    assert_eq!(fixture.source.calls(), 1);
    // What cannot be a token is refused without keys.
    assert_eq!(fixture.verify("x").await.unwrap_err().code(), Code::TokenInvalid);
    fixture.source.answer(Some(set(&[&RSA])));
    fixture.clock.advance(whole(limits::JWKS_RETRY));
    fixture.verify(&long(&RSA)).await.unwrap();
}

#[tokio::test]
async fn many_callers_share_one_fetch() {
    let fixture = Fixture::ready();
    let (rsa, ec) = (long(&RSA), long(&EC));
    fixture.source.gate.forget_permits(usize::MAX);
    let calls = join_all((0..50).map(|i| fixture.verify(if i % 2 == 0 { &rsa } else { &ec })));
    let open = async {
        tokio::task::yield_now().await;
        fixture.source.gate.add_permits(1000);
    };
    let (callers, ()) = tokio::join!(calls, open);
    assert!(callers.iter().all(Result::is_ok));
    assert_eq!(fixture.source.calls(), 1);

    // When the time is over one of them fetches, and the others do not wait for it.
    fixture.clock.advance(whole(limits::JWKS_TTL));
    fixture.source.gate.forget_permits(usize::MAX);
    let mut slow = Box::pin(fixture.verify(&rsa));
    assert!(futures_util::poll!(&mut slow).is_pending());
    fixture.verify(&ec).await.unwrap();
    fixture.source.gate.add_permits(1000);
    slow.await.unwrap();
    assert_eq!(fixture.source.calls(), 2);
}

#[tokio::test]
async fn everybody_who_waited_for_a_new_key_gets_it() {
    let fixture = Fixture::new(Some(set(&[&RSA])));
    fixture.verify(&long(&RSA)).await.unwrap();
    fixture.source.answer(Some(set(&[&RSA, &EC])));
    fixture.source.gate.forget_permits(usize::MAX);
    let token = long(&EC);
    let calls = join_all((0..10).map(|_| fixture.verify(&token)));
    let open = async {
        tokio::task::yield_now().await;
        fixture.source.gate.add_permits(1);
    };
    let (callers, ()) = tokio::join!(calls, open);
    assert!(callers.iter().all(Result::is_ok));
    assert_eq!(fixture.source.calls(), 2);
}

#[tokio::test]
async fn a_source_that_never_answers_is_given_up() {
    let fixture = Fixture::ready();
    fixture.source.gate.forget_permits(usize::MAX);
    let (source, clock): (Arc<dyn JwksSource>, Arc<dyn Clock>) =
        (fixture.source.clone(), fixture.clock.clone());
    let cache = KeyCache::new(source, clock, std::time::Duration::from_millis(1));
    let error = cache.verify("rsa-1", Algorithm::Rs256, b"", b"").await.unwrap_err();
    assert_eq!(error.code(), Code::ServiceUnavailable);
}

#[tokio::test]
async fn a_clock_set_back_makes_a_set_old() {
    let fixture = Fixture::ready();
    fixture.verify(&long(&RSA)).await.unwrap();
    fixture.clock.advance(-Duration::seconds(5));
    fixture.verify(&long(&RSA)).await.unwrap();
    fixture.verify(&long(&RSA)).await.unwrap();
    assert_eq!(fixture.source.calls(), 2);
}

/// Whether a set of just these keys verifies a token of `key`.
async fn serves(key: &Key, jwks: &[Value]) -> bool {
    let fixture = Fixture::new(Some(json!({"keys": jwks}).to_string()));
    fixture.verify(&key.token(json!({}))).await.is_ok()
}

#[tokio::test]
async fn sec_g1_a_key_serves_only_for_what_it_is_published_for() {
    for good in [
        json!({"alg": null}),
        json!({"use": "sig"}),
        json!({"key_ops": ["verify"]}),
        json!({"key_ops": ["sign", "verify"], "x5c": ["AA=="], "x": 1}),
    ] {
        assert!(serves(&RSA, &[RSA.jwk_with(good.clone())]).await, "{good}");
        let ec = edited(good, json!({"x": EC.jwk["x"]}));
        assert!(serves(&EC, &[EC.jwk_with(ec.clone())]).await, "{ec}");
    }
    for bad in [
        json!({"use": "enc"}),
        json!({"use": 1}),
        json!({"key_ops": []}),
        json!({"key_ops": ["encrypt"]}),
        json!({"key_ops": "verify"}),
        json!({"alg": "RS384"}),
        json!({"alg": "RSA-OAEP"}),
        json!({"alg": "HS256"}),
        json!({"kid": null}),
        json!({"kid": 7}),
        json!({"kty": "oct"}),
        json!({"kty": null}),
    ] {
        assert!(!serves(&RSA, &[RSA.jwk_with(bad.clone())]).await, "{bad}");
        assert!(!serves(&EC, &[EC.jwk_with(bad.clone())]).await, "{bad}");
    }
    assert!(!serves(&EC, &[EC.jwk_with(json!({"crv": "P-384"}))]).await);
    assert!(!serves(&EC, &[EC.jwk_with(json!({"x": EC.jwk["y"], "y": EC.jwk["x"]}))]).await, "off the curve");
    assert!(!serves(&EC, &[EC.jwk_with(json!({"y": "AAAA"}))]).await);
    assert!(!serves(&RSA, &[RSA.jwk_with(json!({"e": "AQ"}))]).await, "e = 1");
    assert!(!serves(&RSA, &[RSA.jwk_with(json!({"e": "Aw"}))]).await, "e = 3");
    assert!(!serves(&RSA, &[RSA.jwk_with(json!({"n": "AQAB"}))]).await);
    let padded = URL_SAFE_NO_PAD.decode(RSA.jwk["n"].as_str().unwrap()).unwrap();
    let padded = URL_SAFE_NO_PAD.encode([&[0], &*padded].concat());
    assert!(serves(&RSA, &[RSA.jwk_with(json!({"n": padded}))]).await, "leading zero");
}

#[test]
fn sec_g1_only_rsa_keys_of_sane_size_are_read() {
    let read = |n: &[u8], e: &[u8]| {
        let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
        let body = json!({"keys": [{"kty": "RSA", "kid": "k", "n": n, "e": e}]}).to_string();
        KeySet::parse(&body).unwrap().find("k", Algorithm::Rs256).is_some()
    };
    let f4 = &[1, 0, 1];
    assert!(read(&[0xff; 256], f4) && read(&[0xff; 1024], f4) && read(&[0xff; 256], &[0xff; 4]));
    assert!(!read(&[0xff; 128], f4), "1024 bits");
    assert!(!read(&[0x7f; 256], f4), "2047 bits");
    assert!(!read(&[&[1], &[0xff; 1024][..]].concat(), f4), "8193 bits");
    assert!(!read(&[0xfe; 256], f4), "even modulus");
    for e in [&[][..], &[0], &[1], &[3], &[0xff, 0xff], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
        assert!(!read(&[0xff; 256], e), "exponent {e:?}");
    }
    assert!(!read(&[], f4) && !read(&[0; 256], f4));
}

#[tokio::test]
async fn sec_g1_odd_keys_are_passed_over_and_ambiguous_ones_are_not_guessed() {
    let odd = [
        json!({"kty": "AKP", "kid": "x", "alg": "ML-DSA-44", "pub": "AA"}),
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        json!({"kty": "oct", "kid": "rsa-1", "k": "AAAA"}),
        json!("not a key"),
        json!(null),
        json!({}),
        RSA.jwk.clone(),
    ];
    assert!(serves(&RSA, &odd).await);
    assert!(!serves(&RSA, &[RSA.jwk.clone(), RSA_2.jwk_with(json!({"kid": "rsa-1"}))]).await);
    assert!(
        !serves(&RSA, &[RSA_2.jwk_with(json!({"kid": "rsa-1"})), RSA.jwk.clone(), RSA.jwk.clone()]).await
    );
    // One id for two algorithms is no ambiguity.
    let both = [RSA.jwk.clone(), EC.jwk_with(json!({"kid": "rsa-1"}))];
    assert!(serves(&RSA, &both).await);
}
