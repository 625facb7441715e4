//! A fake of Key Vault, of Managed HSM and of the authority that gives out tokens, after the public description of
//! their APIs, over TLS. It checks what the real ones check: credentials, bearers, when they end and whom they are
//! for, rights, versions, states of keys, what a key may do, throttling. The cryptography is real.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aws_lc_rs::{
    digest::{Digest, SHA256, SHA384},
    encoding::{AsBigEndian as _, EcPublicKeyUncompressedBin},
    key_wrap::{AES_256, AesKek, KeyWrap as _},
    rsa::{
        KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
        PrivateDecryptingKey,
    },
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    SecretKey,
    testing::{self, Asked, Reply, serve},
};

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    /// The next so many requests are too many; seconds until they would not be.
    Throttle(u32, u32),
    Unavailable,
    /// Somebody else answers.
    Stranger,
    /// Another key signs than the one that is shown.
    AnotherSigns,
    Hang,
}

pub(super) struct FakeAzureKeyVault {
    /// `https://127.0.0.1:PORT`: the vault, and also the authority.
    pub(super) url: String,
    pub(super) ca_pem: Vec<u8>,
    state: Arc<Mutex<State>>,
}

struct State {
    url: String,
    resource: &'static str,
    tokens: HashMap<String, Instant>,
    term: u64,
    refuse_tokens: u16,
    token_requests: usize,
    requests: usize,
    keys: BTreeMap<String, Vec<Version>>,
    deleted: HashSet<String>,
    denied: HashSet<String>,
    clock: i64,
    fault: Fault,
}

struct Version {
    id: String,
    created: i64,
    enabled: bool,
    expired: bool,
    operations: Vec<String>,
    kty: String,
    material: Material,
}

enum Material {
    Aes(SecretKey),
    Ec(EcdsaKeyPair, &'static str),
    Rsa(Box<(PrivateDecryptingKey, RsaKeyPair)>),
}

type Answer = Result<Value, Reply>;

pub(super) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(super) const CLIENT: &str = "99999999-8888-7777-6666-555555555555";
pub(super) const SECRET: &str = "canary-client-secret";
pub(super) const ASSERTION: &str = "canary.pod.token";
/// Versions on a page of a list.
const PAGE: usize = 2;

impl FakeAzureKeyVault {
    /// A vault, or a Managed HSM.
    pub(super) async fn start(managed: bool) -> Self {
        let (tls, ca_pem) = testing::tls();
        let state = State {
            url: String::new(),
            resource: if managed { "https://managedhsm.azure.net" } else { "https://vault.azure.net" },
            tokens: HashMap::new(),
            term: 3600,
            refuse_tokens: 0,
            token_requests: 0,
            requests: 0,
            keys: BTreeMap::new(),
            deleted: HashSet::new(),
            denied: HashSet::new(),
            clock: 1_700_000_000,
            fault: Fault::None,
        };
        let state = Arc::new(Mutex::new(state));
        let for_server = state.clone();
        let address = serve(Some(tls), move |asked| for_server.lock().unwrap().answer(&asked)).await;
        let url = format!("https://{address}");
        state.lock().unwrap().url = url.clone();
        Self { url, ca_pem, state }
    }

    pub(super) fn resource(&self) -> &'static str {
        self.state.lock().unwrap().resource
    }

    /// Makes a key, or one more version of it; gives the key's URL.
    pub(super) fn make(&self, name: &str, request: &Value) -> String {
        self.state.lock().unwrap().create(name, request).unwrap_or(Value::Null);
        format!("{}/keys/{name}", self.url)
    }

    /// An RSA key that may do what a root key does.
    pub(super) fn root(&self, name: &str) -> String {
        let operations = ["wrapKey", "unwrapKey", "sign", "verify"];
        self.make(name, &json!({ "kty": "RSA", "key_size": 2048, "key_ops": operations }))
    }

    pub(super) fn versions(&self, name: &str) -> Vec<String> {
        self.state.lock().unwrap().keys[name].iter().map(|version| version.id.clone()).collect()
    }

    pub(super) fn set_enabled(&self, name: &str, enabled: bool) {
        self.all(name, |version| version.enabled = enabled);
    }

    pub(super) fn set_expired(&self, name: &str, expired: bool) {
        self.all(name, |version| version.expired = expired);
    }

    fn all(&self, name: &str, change: impl Fn(&mut Version)) {
        self.state.lock().unwrap().keys.get_mut(name).unwrap().iter_mut().for_each(change);
    }

    /// Deletes a key so that it can be recovered, or recovers it.
    pub(super) fn set_deleted(&self, name: &str, deleted: bool) {
        let mut state = self.state.lock().unwrap();
        if deleted {
            state.deleted.insert(name.to_owned());
        } else {
            state.deleted.remove(name);
        }
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.state.lock().unwrap().fault = fault;
    }

    pub(super) fn deny(&self, verb: &str) {
        self.state.lock().unwrap().denied.insert(verb.to_owned());
    }

    /// What the authority answers instead of a token; 0 for none.
    pub(super) fn refuse_tokens(&self, status: u16) {
        self.state.lock().unwrap().refuse_tokens = status;
    }

    /// Takes away every token that was given out.
    pub(super) fn revoke(&self) {
        self.state.lock().unwrap().tokens.clear();
    }

    /// Gives out tokens for so many seconds.
    pub(super) fn set_term(&self, seconds: u64) {
        self.state.lock().unwrap().term = seconds;
    }

    /// Requests to the vault, and requests for tokens, so far.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.requests, state.token_requests)
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Reply {
        if asked.path == format!("/{TENANT}/oauth2/v2.0/token") {
            self.token_requests += 1;
            return self.token(asked);
        }
        self.requests += 1;
        match self.fault {
            Fault::Hang => return Reply::Hang,
            Fault::Stranger => return Reply::Page(404, "<p>nothing here</p>"),
            Fault::Unavailable => return refuse(503, "ServiceUnavailable", "", "Try again later."),
            Fault::Throttle(left, seconds) if left > 0 => {
                self.fault = Fault::Throttle(left - 1, seconds);
                let body = json!({ "error": { "code": "Throttled", "message": "Too many requests." } });
                return Reply::With(429, vec![("retry-after", seconds.to_string())], body);
            }
            _ => {}
        }
        let known = asked.bearer.as_ref().and_then(|bearer| self.tokens.get(bearer));
        if known.is_none_or(|ends| *ends <= Instant::now()) {
            let challenge = format!(
                "Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", resource=\"{}\"",
                self.resource
            );
            let body = json!({ "error": { "code": "Unauthorized", "message": "AKV10032: Invalid issuer." } });
            return Reply::With(401, vec![("www-authenticate", challenge)], body);
        }
        if Asked::pair(&asked.query, "api-version").as_deref() != Some("7.4") {
            return refuse(400, "BadParameter", "", "The api-version is missing or not supported.");
        }
        match self.serve(asked) {
            Ok(value) => Reply::Json(200, value),
            Err(reply) => reply,
        }
    }

    fn token(&mut self, asked: &Asked) -> Reply {
        let form = String::from_utf8_lossy(&asked.body);
        let pair = |name| Asked::pair(&form, name).unwrap_or_default();
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let proves = pair("client_secret") == SECRET
            || (pair("client_assertion") == ASSERTION && pair("client_assertion_type") == kind);
        if self.refuse_tokens == 503 {
            return Reply::Json(503, json!({ "error": "temporarily_unavailable", "error_codes": [90033] }));
        }
        let good = pair("grant_type") == "client_credentials" && pair("client_id") == CLIENT && proves;
        if !good || self.refuse_tokens != 0 {
            let told = json!({ "error": "invalid_client", "error_codes": [7_000_215], "error_description": "AADSTS7000215: Invalid client secret provided." });
            return Reply::Json(401, told);
        }
        let token = hex::encode(SecretKey::generate().unwrap().expose());
        // A token that is for somebody else is given out, and is of no use here.
        if pair("scope") == format!("{}/.default", self.resource) {
            self.tokens.insert(token.clone(), Instant::now() + Duration::from_secs(self.term));
        }
        Reply::Json(200, json!({ "access_token": token, "expires_in": self.term, "token_type": "Bearer" }))
    }

    fn serve(&mut self, asked: &Asked) -> Answer {
        let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
        let body = asked.json();
        match (asked.method.as_str(), &parts[..]) {
            ("GET", ["deletedkeys", name]) => {
                self.permit("get")?;
                if self.deleted.contains(*name) {
                    Ok(json!({ "recoveryId": "x" }))
                } else {
                    Err(missing(name))
                }
            }
            ("GET", ["keys", name, "versions"]) => self.list(name, &asked.query),
            ("GET", ["keys", name]) => self.get(name, None),
            ("GET", ["keys", name, version]) => self.get(name, Some(version)),
            ("POST", ["keys", name, "create"]) => {
                self.permit("create")?;
                self.create(name, &body)
            }
            ("POST", ["keys", name, "rotate"]) => self.rotate(name),
            ("POST", ["keys", name, verb]) => self.operate(name, None, verb, &body),
            ("POST", ["keys", name, version, verb]) => self.operate(name, Some(version), verb, &body),
            _ => Err(refuse(404, "ResourceNotFound", "", "not this API")),
        }
    }

    fn permit(&self, verb: &str) -> Result<(), Reply> {
        if !self.denied.contains(verb) {
            return Ok(());
        }
        let told = format!("Caller is not authorized to perform action keys/{verb}.");
        Err(refuse(403, "Forbidden", "ForbiddenByRbac", &told))
    }

    fn version(&self, name: &str, version: Option<&str>) -> Result<&Version, Reply> {
        let there = self.keys.get(name).filter(|_| !self.deleted.contains(name));
        let found = there.and_then(|versions| match version {
            None => versions.last(),
            Some(id) => versions.iter().find(|version| version.id == id),
        });
        found.ok_or_else(|| missing(name))
    }

    fn kid(&self, name: &str, version: &Version) -> String {
        format!("{}/keys/{name}/{}", self.url, version.id)
    }

    fn get(&self, name: &str, version: Option<&str>) -> Answer {
        self.permit("get")?;
        self.version(name, version).map(|version| self.bundle(name, version))
    }

    fn bundle(&self, name: &str, version: &Version) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key =
            json!({ "kid": self.kid(name, version), "kty": version.kty, "key_ops": version.operations });
        match &version.material {
            Material::Aes(_) => {}
            Material::Ec(pair, curve) => {
                let point: EcPublicKeyUncompressedBin<'_> = pair.public_key().as_be_bytes().unwrap();
                let (x, y) = point.as_ref()[1..].split_at((point.as_ref().len() - 1) / 2);
                (key["crv"], key["x"], key["y"]) = (json!(curve), text(x).into(), text(y).into());
            }
            Material::Rsa(pair) => {
                let public = pair.1.public_key();
                key["n"] = text(public.modulus().big_endian_without_leading_zero()).into();
                key["e"] = text(public.exponent().big_endian_without_leading_zero()).into();
            }
        }
        json!({ "key": key, "attributes": { "enabled": version.enabled, "created": version.created } })
    }

    fn list(&self, name: &str, query: &str) -> Answer {
        self.permit("list")?;
        let from: usize = Asked::pair(query, "skip").map_or(0, |skip| skip.parse().unwrap());
        let none = Vec::new();
        // Newest first, so that whoever takes the first is wrong.
        let versions: Vec<&Version> = self.keys.get(name).unwrap_or(&none).iter().rev().collect();
        let page = versions.iter().skip(from).take(PAGE);
        let page: Vec<Value> = page
            .map(|version| json!({ "kid": self.kid(name, version), "attributes": { "created": version.created } }))
            .collect();
        let next = (from + PAGE < versions.len())
            .then(|| format!("{}/keys/{name}/versions?api-version=7.4&skip={}", self.url, from + PAGE));
        Ok(json!({ "value": page, "nextLink": next }))
    }

    fn create(&mut self, name: &str, body: &Value) -> Answer {
        if self.deleted.contains(name) {
            let told = format!("Key {name} is currently in a deleted but recoverable state.");
            return Err(refuse(409, "Conflict", "ObjectIsDeletedButRecoverable", &told));
        }
        let kty = body["kty"].as_str().unwrap_or_default();
        let managed = self.resource.contains("managedhsm");
        if managed && !kty.ends_with("-HSM") || kty.starts_with("oct") && !managed {
            return Err(refuse(400, "BadParameter", "", "The key type is not supported here."));
        }
        let operations: Vec<String> = serde_json::from_value(body["key_ops"].clone()).unwrap_or_default();
        let material = match (kty.trim_end_matches("-HSM"), &body["crv"], &body["key_size"]) {
            ("oct", _, size) if *size == 256 => Material::Aes(SecretKey::generate().unwrap()),
            ("EC", curve, _) if *curve == "P-256" => {
                Material::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), "P-256")
            }
            ("EC", curve, _) if *curve == "P-384" => {
                Material::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(), "P-384")
            }
            ("RSA", _, size) if *size == 2048 => Material::rsa(KeySize::Rsa2048),
            ("RSA", _, size) if *size == 3072 => Material::rsa(KeySize::Rsa3072),
            ("RSA", _, size) if *size == 4096 => Material::rsa(KeySize::Rsa4096),
            _ => return Err(refuse(400, "BadParameter", "", "The key type is not supported here.")),
        };
        self.clock += 1;
        let id = hex::encode(&SecretKey::generate().unwrap().expose()[..16]);
        let (created, kty) = (self.clock, kty.to_owned());
        let version = Version { id, created, enabled: true, expired: false, operations, kty, material };
        let told = self.bundle(name, &version);
        self.keys.entry(name.to_owned()).or_default().push(version);
        Ok(told)
    }

    fn rotate(&mut self, name: &str) -> Answer {
        self.permit("rotate")?;
        let last = self.version(name, None)?;
        let size = match &last.material {
            Material::Rsa(pair) => pair.1.public_modulus_len() * 8,
            _ => 256,
        };
        let request = json!({ "kty": last.kty, "key_size": size, "key_ops": last.operations });
        self.create(name, &request)
    }

    fn operate(&self, name: &str, version: Option<&str>, verb: &str, body: &Value) -> Answer {
        let operation = match verb {
            "wrapkey" => "wrapKey",
            "unwrapkey" => "unwrapKey",
            "sign" => "sign",
            _ => return Err(refuse(404, "ResourceNotFound", "", "not this API")),
        };
        self.permit(operation)?;
        let version = self.version(name, version)?;
        if !version.enabled {
            let told = format!("Operation {operation} is not allowed on a disabled key.");
            return Err(refuse(403, "Forbidden", "KeyDisabled", &told));
        }
        if version.expired && operation != "unwrapKey" {
            let told = format!("Operation {operation} is not allowed on an expired key.");
            return Err(refuse(403, "Forbidden", "", &told));
        }
        if !version.operations.iter().any(|may| may == operation) {
            let told = format!("Operation {operation} is not permitted on this key.");
            return Err(refuse(403, "Forbidden", "KeyOperationForbidden", &told));
        }
        let wrong = || refuse(400, "BadParameter", "", "The parameter is incorrect.");
        let value = body["value"].as_str().and_then(|value| URL_SAFE_NO_PAD.decode(value).ok());
        let (value, alg) = (value.ok_or_else(wrong)?, body["alg"].as_str().unwrap_or_default());
        let out = match operation {
            "wrapKey" => version.material.wrap(alg, &value),
            "unwrapKey" => version.material.unwrap(alg, &value),
            _ => version.material.sign(alg, &value),
        };
        let mut out = out.ok_or_else(wrong)?;
        if self.fault == Fault::AnotherSigns && operation == "sign" {
            out[0] ^= 1;
        }
        Ok(json!({ "kid": self.kid(name, version), "value": URL_SAFE_NO_PAD.encode(out) }))
    }
}

impl Material {
    fn rsa(size: KeySize) -> Self {
        use aws_lc_rs::encoding::AsDer as _;
        let key = PrivateDecryptingKey::generate(size).unwrap();
        let pair = RsaKeyPair::from_pkcs8(key.as_der().unwrap().as_ref()).unwrap();
        Self::Rsa(Box::new((key, pair)))
    }

    fn wrap(&self, alg: &str, value: &[u8]) -> Option<Vec<u8>> {
        match (self, alg) {
            (Self::Rsa(pair), "RSA-OAEP-256") => {
                let public = OaepPublicEncryptingKey::new(pair.0.public_key()).ok()?;
                let mut out = vec![0; public.ciphertext_size()];
                let len = public.encrypt(&OAEP_SHA256_MGF1SHA256, value, &mut out, None).ok()?.len();
                out.truncate(len);
                Some(out)
            }
            (Self::Aes(key), "A256KW") => {
                let kek = AesKek::new(&AES_256, key.expose()).ok()?;
                let mut out = vec![0; value.len() + 8];
                Some(kek.wrap(value, &mut out).ok()?.to_vec())
            }
            _ => None,
        }
    }

    fn unwrap(&self, alg: &str, value: &[u8]) -> Option<Vec<u8>> {
        match (self, alg) {
            (Self::Rsa(pair), "RSA-OAEP-256") => {
                let private = OaepPrivateDecryptingKey::new(pair.0.clone()).ok()?;
                let mut out = vec![0; private.min_output_size()];
                let opened = private.decrypt(&OAEP_SHA256_MGF1SHA256, value, &mut out, None).ok()?;
                Some(opened.to_vec())
            }
            (Self::Aes(key), "A256KW") => {
                let kek = AesKek::new(&AES_256, key.expose()).ok()?;
                let mut out = vec![0; value.len()];
                Some(kek.unwrap(value, &mut out).ok()?.to_vec())
            }
            _ => None,
        }
    }

    fn sign(&self, alg: &str, value: &[u8]) -> Option<Vec<u8>> {
        let hash = if alg.ends_with("384") { &SHA384 } else { &SHA256 };
        let digest = Digest::import_less_safe(value, hash).ok()?;
        let padding: &dyn RsaEncoding = match (self, alg) {
            (Self::Ec(pair, "P-256"), "ES256") | (Self::Ec(pair, "P-384"), "ES384") => {
                return Some(pair.sign_digest(&digest).ok()?.as_ref().to_vec());
            }
            (Self::Rsa(_), "RS256") => &RSA_PKCS1_SHA256,
            (Self::Rsa(_), "RS384") => &RSA_PKCS1_SHA384,
            (Self::Rsa(_), "PS256") => &RSA_PSS_SHA256,
            _ => return None,
        };
        let Self::Rsa(pair) = self else { return None };
        let mut out = vec![0; pair.1.public_modulus_len()];
        pair.1.sign_digest(padding, &digest, &mut out).ok()?;
        Some(out)
    }
}

fn refuse(status: u16, code: &str, inner: &str, message: &str) -> Reply {
    let mut error = json!({ "code": code, "message": message });
    if !inner.is_empty() {
        error["innererror"] = json!({ "code": inner });
    }
    Reply::Json(status, json!({ "error": error }))
}

fn missing(name: &str) -> Reply {
    let told = format!("A key with (name/id) {name} was not found in this key vault.");
    refuse(404, "KeyNotFound", "", &told)
}
