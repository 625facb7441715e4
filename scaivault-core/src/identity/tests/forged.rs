//! Tokens that somebody might make (RFC 8725), beside those that the tests of each rule make: all are refused, each with
//! its code, and none is ever taken for one that was good.

use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::{Code, limits};

type Forged = Vec<(String, String)>;

/// The order of the group of P-256 (FIPS 186-5), big-endian.
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

fn payload() -> String {
    claims().to_string()
}

/// A good token of `key`, but for these members of its header; `null` removes one.
fn header(key: &Key, changes: Value) -> String {
    key.sign(&edited(key.header(), changes).to_string(), &payload())
}

/// A good token of `key` with another text for its payload.
fn body(key: &Key, text: &str) -> String {
    key.sign(&key.header().to_string(), text)
}

/// A good token of `key` with other bytes for its signature.
fn signature(key: &Key, bytes: &[u8]) -> String {
    let good = key.token(json!({}));
    format!("{}.{}", good.rsplit_once('.').unwrap().0, URL_SAFE_NO_PAD.encode(bytes))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The public keys as secrets of HMAC, in the forms that an attacker finds them in, and a key that is published for it.
fn by_hmac() -> Forged {
    let mut forged = Forged::new();
    for (key, label) in [(&*RSA, "RSA PUBLIC KEY"), (&*EC, "PUBLIC KEY")] {
        let text = pem(label, &key.public);
        for (form, secret) in [
            ("DER", key.public.clone()),
            ("PEM", text.clone().into_bytes()),
            ("PEM without its last line end", text.trim_end().as_bytes().to_vec()),
            ("JWK", key.jwk.to_string().into_bytes()),
            ("nothing", Vec::new()),
        ] {
            for (alg, by) in
                [("HS256", Algorithm::HS256), ("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)]
            {
                let named = json!({"alg": alg, "kid": key.kid}).to_string();
                let secret = EncodingKey::from_secret(&secret);
                let token = signed(&secret, by, named.as_bytes(), payload().as_bytes());
                forged.push((format!("{alg} with the {form} of {}", key.kid), token));
            }
        }
    }
    let oct = EncodingKey::from_secret(b"published");
    for alg in ["HS256", "RS256", "ES256"] {
        let named = json!({"alg": alg, "kid": "oct-1"}).to_string();
        let token = signed(&oct, Algorithm::HS256, named.as_bytes(), payload().as_bytes());
        forged.push((format!("{alg} with a published oct key"), token));
    }
    forged
}

/// What stands for no signature, or for a signature of another kind.
fn by_algorithm() -> Forged {
    let mut forged = Forged::new();
    for alg in ["none", "None", "NONE", "nOnE", "none ", " none", "no\u{0}ne", "n\u{f6}ne"] {
        let (head, end) = (json!({"alg": alg, "kid": "rsa-1"}).to_string(), URL_SAFE_NO_PAD.encode("x"));
        let message = format!("{}.{}.", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(payload()));
        forged.push((format!("{alg:?} without a signature"), message.clone()));
        forged.push((format!("{alg:?} with any"), format!("{message}{end}")));
    }
    for (by, alg) in [
        (Algorithm::PS256, "PS256"),
        (Algorithm::PS256, "RS256"),
        (Algorithm::RS384, "RS384"),
        (Algorithm::RS384, "RS256"),
        (Algorithm::RS512, "RS256"),
        (Algorithm::PS512, "PS512"),
    ] {
        let named = edited(RSA.header(), json!({"alg": alg})).to_string();
        let token = RSA.sign_as(by, named.as_bytes(), payload().as_bytes());
        forged.push((format!("{by:?} under the name of {alg}"), token));
    }
    for alg in
        ["ES256K", "ES512", "EdDSA", "Ed25519", "ML-DSA-44", "HS256", "RSA-OAEP", "dir", "RS256 ", "rs256"]
    {
        forged.push((format!("the name {alg}"), header(&RSA, json!({"alg": alg}))));
    }
    for (why, changes) in [
        ("alg in another case", json!({"alg": null, "Alg": "RS256"})),
        ("alg as a number", json!({"alg": 256})),
        ("alg as an object", json!({"alg": {"RS256": true}})),
        ("alg as true", json!({"alg": true})),
        ("the EC key for RS256", json!({"kid": "ec-1"})),
        ("a key for encryption", json!({"kid": "enc-1"})),
        ("a key whose operation is encrypt", json!({"kid": "ops-1"})),
        ("a key for another algorithm", json!({"kid": "alg-1"})),
        ("a key that is in the set twice", json!({"kid": "twice"})),
        ("a key of 1024 bits", json!({"kid": "small"})),
    ] {
        forged.push((why.to_owned(), header(&RSA, changes)));
    }
    forged
}

/// r‖s that are no signature, in every way to write them (RFC 7518 section 3.4).
fn by_ecdsa() -> Forged {
    let good = EC.token(json!({}));
    let (_, text) = good.rsplit_once('.').unwrap();
    let rs = URL_SAFE_NO_PAD.decode(text).unwrap();
    let (r, s) = rs.split_at(32);
    let integer = |bytes: &[u8]| {
        let bytes: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        let zero: &[u8] = if bytes[0] >= 0x80 { &[0] } else { &[] };
        [&[2, (bytes.len() + zero.len()) as u8], zero, &bytes].concat()
    };
    let inner = [integer(r), integer(s)].concat();
    let der = [&[0x30, inner.len() as u8][..], &inner].concat();
    let (zero, one, order) = ([0; 32], [&[0; 31][..], &[1]].concat(), hex::decode(ORDER).unwrap());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("DER", der.clone()),
        ("DER, cut to 64 bytes", der[..64].to_vec()),
        ("nothing", vec![]),
        ("zero and zero", [zero, zero].concat()),
        ("zero and s", [&zero, s].concat()),
        ("r and zero", [r, &zero].concat()),
        ("one and one", [&*one, &*one].concat()),
        ("the order and s", [&*order, s].concat()),
        ("r and the order", [r, &*order].concat()),
        ("the order twice", [&*order, &*order].concat()),
        ("all ones", vec![0xff; 64]),
        ("s before r", [s, r].concat()),
        ("r alone", r.to_vec()),
        ("a byte less", rs[..63].to_vec()),
        ("a byte more", [&*rs, &[0]].concat()),
        ("a byte before", [&[0], &*rs].concat()),
        ("widened to 48 bytes each", [&[0; 16], r, &[0; 16], s].concat()),
        ("twice", [&*rs, &*rs].concat()),
    ];
    // That the good one is good is what makes the others forgeries.
    assert_eq!(rs.len(), 64);
    let head = good.rsplit_once('.').unwrap().0;
    let mut forged: Forged = cases
        .into_iter()
        .map(|(why, bytes)| (format!("ES256: {why}"), format!("{head}.{}", URL_SAFE_NO_PAD.encode(bytes))))
        .collect();
    forged.push((
        "P-384 under the name of ES256".into(),
        header(&P384, json!({"alg": "ES256", "kid": "ec-1"})),
    ));
    forged.push(("ES384 with its own key".into(), P384.token(json!({}))));
    forged
        .push(("RS256 under the name of ES256".into(), header(&RSA, json!({"alg": "ES256", "kid": "ec-1"}))));
    forged
}

/// Numbers that are no RSA signature.
fn by_rsa() -> Forged {
    let good = RSA.token(json!({}));
    let whole = URL_SAFE_NO_PAD.decode(good.rsplit_once('.').unwrap().1).unwrap();
    let n = URL_SAFE_NO_PAD.decode(RSA.jwk["n"].as_str().unwrap()).unwrap();
    let one = [&[0; 255][..], &[1]].concat();
    let mut before = n.clone();
    *before.last_mut().unwrap() -= 1;
    [
        ("zero", vec![0; 256]),
        ("one", one),
        ("the modulus", n),
        ("the modulus less one", before),
        ("a zero before", [&[0], &*whole].concat()),
        ("a byte less", whole[..255].to_vec()),
        ("a byte more", [&*whole, &[0]].concat()),
        ("nothing", vec![]),
        ("the digest alone", vec![0x42; 32]),
    ]
    .into_iter()
    .map(|(why, bytes)| (format!("RS256: {why}"), signature(&RSA, &bytes)))
    .collect()
}

/// Headers that lead to a key of the attacker, and ids that lead elsewhere.
fn by_key() -> Forged {
    let mut forged = Forged::new();
    for kid in [
        json!("../../../../../../dev/null"),
        json!("/dev/null"),
        json!("C:\\nul"),
        json!("file:///proc/self/environ"),
        json!("https://evil.example/keys"),
        json!("' OR '1'='1"),
        json!("rsa-1'; DROP TABLE tenant; --"),
        json!("rsa-1' UNION SELECT 'k"),
        json!("$(id)"),
        json!("{{7*7}}"),
        json!("*"),
        json!("rsa-?"),
        json!("rsa-1 "),
        json!(" rsa-1"),
        json!("rsa-1\n"),
        json!("rsa\u{2010}1"),
        json!("\u{202e}1-asr"),
        json!("x".repeat(4096)),
        json!(["rsa-1"]),
        json!({"rsa-1": 1}),
        json!(1),
        json!(true),
        json!([]),
        json!(0),
    ] {
        forged.push((
            format!("kid {}", kid.to_string().chars().take(40).collect::<String>()),
            header(&RSA, json!({"kid": kid})),
        ));
    }
    let own = RSA_2.jwk_with(json!({"kid": "rsa-1"}));
    for kid in ["rsa-1", "rsa-2"] {
        for (name, value) in [
            ("jwk", own.clone()),
            ("jwk", json!({"keys": [own.clone()]})),
            ("jku", json!("https://evil.example/keys")),
            ("jku", json!("https://id.example@evil.example/keys")),
            ("jku", json!("https://id.example/redirect?to=https://evil.example")),
            ("jku", json!("file:///tmp/keys")),
            ("x5u", json!("https://evil.example/chain.pem")),
            ("x5c", json!([STANDARD.encode(&RSA_2.public)])),
            ("x5t", json!("AAAA")),
            ("x5t#S256", json!("AAAA")),
            ("iss", json!(ISSUER)),
        ] {
            forged.push((format!("{name} with kid {kid}"), header(&RSA_2, json!({"kid": kid, name: value}))));
        }
    }
    forged
}

/// Headers that change what the rest means.
fn by_header() -> Forged {
    let mut forged = Forged::new();
    for (why, changes) in [
        ("crit names what is not there", json!({"crit": ["x"]})),
        ("crit names what is known", json!({"crit": ["alg"]})),
        ("crit is null", json!({"crit": "null"})),
        ("crit is an object", json!({"crit": {}})),
        ("b64 and crit", json!({"b64": false, "crit": ["b64"]})),
        ("b64 alone", json!({"b64": false})),
        ("b64 as usual", json!({"b64": true})),
        ("zip", json!({"zip": "DEF"})),
        ("typ of a logout token", json!({"typ": "logout+jwt"})),
        ("typ of a security event", json!({"typ": "secevent+jwt"})),
        ("typ of an introspection answer", json!({"typ": "token-introspection+jwt"})),
        ("typ of a proof", json!({"typ": "dpop+jwt"})),
        ("typ of a client assertion", json!({"typ": "client-authentication+jwt"})),
        ("typ of an authorization request", json!({"typ": "oauth-authz-req+jwt"})),
        ("typ as an array", json!({"typ": ["JWT"]})),
        ("typ with a parameter", json!({"typ": "JWT; x=1"})),
        ("typ with a space", json!({"typ": "JWT "})),
    ] {
        forged.push((why.to_owned(), header(&RSA, changes)));
    }
    let text = RSA.header().to_string();
    let nested = |open: &str, close: &str| {
        let deep = format!("{}1{}", open.repeat(300), close.repeat(300));
        text.replacen('{', &format!(r#"{{"x":{deep},"#), 1)
    };
    for (why, head) in [
        ("two objects", format!("{text}{{}}")),
        ("text behind it", format!("{text} x")),
        ("a comma too many", text.replacen('}', ",}", 1)),
        ("single quotes", text.replace('"', "'")),
        ("a comment", text.replacen('{', "{/**/", 1)),
        ("a byte order mark", format!("\u{feff}{text}")),
        ("a NUL behind it", format!("{text}\0")),
        ("arrays in arrays", nested("[", "]")),
        ("objects in objects", nested(r#"{"a":"#, "}")),
        ("crit with an escape in its name", text.replacen('{', r#"{"cr\u0069t":["x"],"#, 1)),
        ("alg twice, one in the other's case", text.replacen('{', r#"{"alg":"none","ALG":"RS256","#, 1)),
        ("alg twice, none last", text.replacen('}', r#","alg":"none"}"#, 1)),
        ("a member twice, deep inside", text.replacen('{', r#"{"x":[{"y":{"a":1,"\u0061":1}}],"#, 1)),
        ("nothing", String::new()),
        ("null", "null".into()),
        ("a string", r#""RS256""#.into()),
    ] {
        forged.push((format!("header: {why}"), RSA.sign(&head, &payload())));
    }
    let bytes = |header: &[u8]| RSA.sign_as(Algorithm::RS256, header, payload().as_bytes());
    forged.push(("header: not UTF-8".into(), bytes(&[text.as_bytes(), b"\xff"].concat())));
    forged.push((
        "header: a NUL written in two bytes".into(),
        bytes(&[b"{\"x\":\"\xc0\x80\",", &text.as_bytes()[1..]].concat()),
    ));
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    forged.push(("header: UTF-16".into(), bytes(&wide)));
    forged
}

/// Payloads that are no set of claims, or are one for one reader and another for the next.
fn by_payload() -> Forged {
    let text = payload();
    let with = |member: &str| text.replacen('{', &format!("{{{member},"), 1);
    let without = |name: &str| {
        let mut all = claims();
        all.as_object_mut().unwrap().remove(name);
        all.to_string()
    };
    let now = START.unix_timestamp();
    let raw = |name: &str, value: &str| without(name).replacen('{', &format!(r#"{{"{name}":{value},"#), 1);
    let mut forged: Forged = [
        ("a token inside", RSA.token(json!({}))),
        ("a token inside, as a string", json!(RSA.token(json!({}))).to_string()),
        ("an array of claims", format!("[{text}]")),
        ("two objects", format!("{text}{text}")),
        ("a byte order mark", format!("\u{feff}{text}")),
        ("half an object", text[..text.len() - 1].to_owned()),
        ("sub twice", with(r#""sub":"user:root""#)),
        ("sub twice by an escape", with(r#""s\u0075b":"user:root""#)),
        ("tenant twice", with(r#""tenant_id":"tnt_other""#)),
        ("roles twice", with(r#""roles":[],"roles":["super_admin"]"#)),
        ("exp twice", with(r#""exp":99999999999"#)),
        ("a member twice in an object in an array", with(r#""x":[[{"a":1,"a":2}]]"#)),
        ("arrays in arrays", with(&format!(r#""x":{}{}"#, "[".repeat(500), "]".repeat(500)))),
        ("a lone surrogate", with(r#""name":"\ud800""#)),
        ("a control character", with("\"name\":\"a\u{1}\"")),
        ("exp is NaN", raw("exp", "NaN")),
        ("exp is infinite", raw("exp", "1e999")),
        ("exp is beyond 64 bits", raw("exp", "18446744073709551616000")),
        ("exp has a leading zero", raw("exp", &format!("0{}", now + 600))),
        ("exp is hexadecimal", raw("exp", "0x7fffffff")),
        ("exp is -0.5", raw("exp", "-0.5")),
        ("exp is a string", raw("exp", &format!("\"{}\"", now + 600))),
        ("exp is in an array", raw("exp", &format!("[{}]", now + 600))),
        ("exp in milliseconds", raw("exp", &format!("{}", (now + 600) * 1000))),
        ("no exp", without("exp")),
        ("exp in another case", raw("exp", "null").replacen('{', &format!(r#"{{"EXP":{},"#, now + 600), 1)),
        ("nbf in milliseconds", with(&format!(r#""nbf":{}"#, now * 1000))),
        ("nbf beyond the leeway", with(&format!(r#""nbf":{}"#, now + 31))),
        ("iat beyond the leeway", raw("iat", &format!("{}", now + 31))),
        ("iss is an array", raw("iss", &format!("[\"{ISSUER}\"]"))),
        ("iss with a NUL", raw("iss", &format!("\"{ISSUER}\\u0000\""))),
        ("iss with a line end", raw("iss", &format!("\"{ISSUER}\\n\""))),
        ("iss with a tab inside", raw("iss", "\"https://id.exa\\tmple\"")),
        ("iss with a letter that looks alike", raw("iss", "\"https://id.ex\u{430}mple\"")),
        ("iss that climbs", raw("iss", &format!("\"{ISSUER}/tenants/../../x\""))),
        ("iss with a backslash", raw("iss", &format!("\"{ISSUER}/\\\\evil.example\""))),
        ("iss with a host behind", raw("iss", "\"https://id.example:443@evil.example/\"")),
        ("iss by http", raw("iss", "\"http://id.example/tenants/tnt_acme\"")),
        ("aud is an empty string", raw("aud", "\"\"")),
        ("aud with a NUL", raw("aud", "\"scaivault\\u0000\"")),
        ("aud with a space behind", raw("aud", "\"scaivault \"")),
        ("aud is a list in a string", raw("aud", "\"[\\\"scaivault\\\"]\"")),
        ("aud with null", raw("aud", "[null,\"scaivault\"]")),
        ("aud is true", raw("aud", "true")),
        ("sub is an array", raw("sub", "[\"user:alice\"]")),
        ("sub is a number", raw("sub", "0")),
        ("sub with a control character", raw("sub", "\"alice\\u0007\"")),
        ("sub with a delete", raw("sub", "\"alice\\u007f\"")),
        ("sub with a pattern", raw("sub", "\"user:*\"")),
        ("sub with a template", raw("sub", "\"{{identity.id}}\"")),
        ("sub of a job", raw("sub", "\"system:rotation\"")),
        ("mfa_verified_at is an object", with(&format!(r#""mfa_verified_at":{{"at":{now}}}"#))),
        ("mfa_verified_at is true", with(r#""mfa_verified_at":true"#)),
    ]
    .into_iter()
    .map(|(why, text)| (format!("payload: {why}"), body(&RSA, &text)))
    .collect();
    let bytes = |payload: &[u8]| RSA.sign_as(Algorithm::RS256, RSA.header().to_string().as_bytes(), payload);
    let latin = with("\"name\":\"~\"").into_bytes();
    let latin: Vec<u8> = latin.into_iter().map(|byte| if byte == b'~' { 0xfc } else { byte }).collect();
    forged.push(("payload: Latin-1".into(), bytes(&latin)));
    forged.push(("payload: nothing".into(), bytes(b"")));
    forged
}

/// Other serializations, and other spellings of the compact one (RFC 7515 section 7).
fn by_serialization() -> Forged {
    let good = RSA.token(json!({}));
    let [head, body, end] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let flattened = json!({"payload": body, "protected": head, "signature": end}).to_string();
    let general = json!({"payload": body, "signatures": [{"protected": head, "signature": end}]}).to_string();
    let unprotected = json!({"payload": body, "header": RSA.header(), "signature": end}).to_string();
    let mid = head.len() / 2;
    let jwe = URL_SAFE_NO_PAD.encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM","kid":"rsa-1"}"#);
    [
        ("flattened JSON", flattened.clone()),
        ("general JSON", general),
        ("JSON with an unprotected header", unprotected),
        ("flattened JSON in base64url", URL_SAFE_NO_PAD.encode(flattened)),
        ("four parts", format!("{good}.")),
        ("four parts, the first empty", format!(".{good}")),
        ("five parts", format!("{good}.{body}.{end}")),
        ("an encrypted token", format!("{jwe}.AAAA.AAAA.AAAA.AAAA")),
        ("an encrypted token of three parts", format!("{jwe}.{body}.{end}")),
        ("a payload that is elsewhere", format!("{head}..{end}")),
        ("padding", format!("{good}==")),
        ("padding inside", format!("{head}=.{body}.{end}")),
        ("a space inside", format!("{} {}.{body}.{end}", &head[..mid], &head[mid..])),
        ("a line end inside", format!("{head}.{body}\r\n.{end}")),
        ("a tab before", format!("\t{good}")),
        ("a NUL behind", format!("{good}\0")),
        ("dots that are escaped", good.replace('.', "%2E")),
        ("dots of another script", good.replace('.', "\u{3002}")),
        ("a comma for a dot", good.replacen('.', ",", 1)),
        ("the scheme twice", format!("Bearer {good}")),
        ("quotes", format!("\"{good}\"")),
        (
            "another header, the same signature",
            format!(
                "{}.{body}.{end}",
                URL_SAFE_NO_PAD.encode(edited(RSA.header(), json!({"x": 1})).to_string())
            ),
        ),
        ("the parts in another order", format!("{body}.{head}.{end}")),
        ("the signature of another token", {
            let other = RSA.token(json!({"sub": "user:bob"}));
            format!("{head}.{body}.{}", other.rsplit_once('.').unwrap().1)
        }),
    ]
    .into_iter()
    .map(|(why, token)| (why.to_owned(), token))
    .collect()
}

#[tokio::test]
async fn sec_g1_forged_tokens_are_refused_and_never_taken_for_good_ones() {
    let small = Key::rsa("small", KeySize::Rsa2048);
    let tiny = json!({"kty": "RSA", "kid": "small", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xff; 128])});
    let keys = json!({"keys": [
        RSA.jwk, EC.jwk, P384.jwk, tiny,
        RSA.jwk_with(json!({"kid": "enc-1", "use": "enc"})),
        RSA.jwk_with(json!({"kid": "ops-1", "key_ops": ["encrypt"]})),
        RSA.jwk_with(json!({"kid": "alg-1", "alg": "PS256"})),
        RSA.jwk_with(json!({"kid": "twice"})),
        small.jwk_with(json!({"kid": "twice"})),
        {"kty": "oct", "kid": "oct-1", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode("published")},
    ]});
    let fixture = Fixture::new(Some(keys.to_string()));
    let all = [
        by_hmac(),
        by_algorithm(),
        by_ecdsa(),
        by_rsa(),
        by_key(),
        by_header(),
        by_payload(),
        by_serialization(),
    ]
    .concat();
    for (why, token) in &all {
        for token in [token.clone(), format!("skt_{token}")] {
            let error = fixture.verify(&token).await.expect_err(why);
            assert_eq!(error.code(), Code::TokenInvalid, "{why}: {error}");
            assert!(error.message().len() < 200 && !error.message().contains("eyJ"), "{why}: {error}");
            assert!(!fixture.verifier.knows(&token), "{why}");
            // Nor the second time.
            assert_eq!(fixture.verify(&token).await.unwrap_err().code(), Code::TokenInvalid, "{why}");
        }
    }
    assert!(all.len() >= 200, "{}", all.len());
    assert!(fixture.source.calls() <= 2, "forged tokens make {} calls", fixture.source.calls());
    for key in [&*RSA, &*EC] {
        assert!(fixture.verify(&key.token(json!({}))).await.is_ok(), "what they were made of is good");
    }
}

#[tokio::test]
async fn sec_g1_expired_forgeries_are_not_told_apart_from_others() {
    let fixture = Fixture::ready();
    let old = START.unix_timestamp() - limits::TOKEN_LEEWAY.as_secs() as i64 - 1;
    let expired = RSA.token(json!({"exp": old}));
    assert_eq!(fixture.verify(&expired).await.unwrap_err().code(), Code::TokenExpired);
    let forged = RSA_2.sign(&RSA.header().to_string(), &edited(claims(), json!({"exp": old})).to_string());
    assert_eq!(fixture.verify(&forged).await.unwrap_err().code(), Code::TokenInvalid);
    assert!(!fixture.verifier.knows(&expired) && !fixture.verifier.knows(&forged));
}
