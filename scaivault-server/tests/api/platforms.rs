//! The platforms that workloads run on, as far as an exchange asks them: issuers of tokens, and a *fake* of AWS's Security
//! Token Service that checks what the real one checks.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex},
};

use async_trait::async_trait;
use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::AsDer as _,
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use scaivault_core::{
    Error, Result,
    trust::{Outside, Posted},
};
use serde_json::{Value, json};

/// A key of an issuer.
pub(crate) struct Key {
    private: EncodingKey,
    pub(crate) algorithm: Algorithm,
    kid: &'static str,
    pub(crate) jwk: Value,
}

pub(crate) static RSA: LazyLock<Key> = LazyLock::new(|| {
    let pkcs8 = KeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
    // `jsonwebtoken` reads the PKCS #1 structure inside.
    Key::new("rsa-1", EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]), Algorithm::RS256)
});
pub(crate) static EC: LazyLock<Key> = LazyLock::new(|| Key::ec("ec-1"));
/// Of nobody that is trusted, under the name of the one above.
pub(crate) static STRANGER: LazyLock<Key> = LazyLock::new(|| Key::ec("ec-1"));

impl Key {
    fn ec(kid: &'static str) -> Self {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Self::new(kid, EncodingKey::from_ec_der(pkcs8.as_ref()), Algorithm::ES256)
    }

    fn new(kid: &'static str, private: EncodingKey, algorithm: Algorithm) -> Self {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&private, algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        Self { private, algorithm, kid, jwk }
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": format!("{:?}", self.algorithm), "kid": self.kid, "typ": "JWT" })
    }

    pub(crate) fn sign(&self, header: &Value, payload: &str) -> String {
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), &claims.to_string())
    }
}

pub(crate) fn set(keys: &[&Key]) -> Value {
    json!({ "keys": keys.iter().map(|key| &key.jwk).collect::<Vec<_>>() })
}

/// What is asked over the network, answered here.
#[derive(Debug, Default)]
pub(crate) struct Platforms {
    pub(crate) pages: Mutex<BTreeMap<String, String>>,
    pub(crate) sts: FakeSts,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Platforms {
    /// An issuer with its discovery document and keys.
    pub(crate) fn issuer(self, issuer: &str, keys: &Value) -> Self {
        let jwks = format!("{issuer}/keys");
        let document = json!({ "issuer": issuer, "jwks_uri": jwks }).to_string();
        self.page(&format!("{issuer}/.well-known/openid-configuration"), &document)
            .page(&jwks, &keys.to_string())
    }

    pub(crate) fn page(self, url: &str, text: &str) -> Self {
        self.pages.lock().unwrap().insert(url.to_owned(), text.to_owned());
        self
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Outside for Platforms {
    async fn get(&self, url: &str, max: usize) -> Result<String> {
        self.asked.lock().unwrap().push(url.to_owned());
        let page = self.pages.lock().unwrap().get(url).cloned();
        page.filter(|page| page.len() <= max).ok_or_else(|| Error::internal("404"))
    }

    async fn post(&self, url: &str, headers: &[(&str, &str)], body: &str, _: usize) -> Result<Posted> {
        self.asked.lock().unwrap().push(url.to_owned());
        Ok(self.sts.answer(url, headers, body))
    }
}

/// Answers `GetCallerIdentity`, if the request is signed (signature version 4) by a key that it knows.
#[derive(Debug)]
pub(crate) struct FakeSts {
    /// What it answers instead, if anything.
    pub(crate) instead: Mutex<Option<Posted>>,
}

impl Default for FakeSts {
    fn default() -> Self {
        Self { instead: Mutex::new(None) }
    }
}

pub(crate) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const ARN: &str = "arn:aws:sts::123456789012:assumed-role/ci/job-1";

impl FakeSts {
    fn answer(&self, url: &str, headers: &[(&str, &str)], body: &str) -> Posted {
        if let Some(instead) = &*self.instead.lock().unwrap() {
            return instead.clone();
        }
        let host = url.strip_prefix("https://").unwrap().strip_suffix('/').unwrap();
        let known = || {
            let all: BTreeMap<_, _> = headers.iter().copied().chain([("host", host)]).collect();
            let parts = all.get("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
            let part =
                |name: &str| parts.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            let (key_id, scope) = part("Credential")?.split_once('/')?;
            let signed = part("SignedHeaders")?;
            let mut wanted = Vec::new();
            for name in signed.split(';') {
                wanted.push((name, *all.get(name)?));
            }
            let good = signature(&wanted, body, all.get("x-amz-date")?, scope);
            (key_id == KEY_ID && part("Signature")? == good).then_some(())
        };
        match known() {
            Some(()) => Posted { status: 200, body: identity(ARN, "123456789012") },
            None => Posted { status: 403, body: "<ErrorResponse/>".to_owned() },
        }
    }
}

/// What the service answers.
pub(crate) fn identity(arn: &str, account: &str) -> String {
    format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
         <GetCallerIdentityResult>\n    <Arn>{arn}</Arn>\n    <UserId>AROAEXAMPLE:job-1</UserId>\n    \
         <Account>{account}</Account>\n  </GetCallerIdentityResult>\n  <ResponseMetadata>\n    \
         <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>\n  </ResponseMetadata>\n\
         </GetCallerIdentityResponse>\n"
    )
}

/// Signature version 4 of a POST to `/`. `headers` are those that are signed, in their order.
pub(crate) fn signature(headers: &[(&str, &str)], body: &str, date: &str, scope: &str) -> String {
    let hash = |text: &str| hex::encode(digest(&SHA256, text.as_bytes()));
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", hash(body));
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(&canonical));
    hex::encode(mac(&signing_key(SECRET, scope), &to_sign))
}

fn signing_key(secret: &str, scope: &str) -> Vec<u8> {
    scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

#[test]
fn the_fake_signs_as_the_documented_example_of_aws() {
    let scope = "20150830/us-east-1/iam/aws4_request";
    let key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", scope);
    assert_eq!(hex::encode(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    let to_sign = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
                   f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
    assert_eq!(
        hex::encode(mac(&key, to_sign)),
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    );
}
