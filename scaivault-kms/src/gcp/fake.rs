//! A fake of Cloud KMS and of the server that gives out tokens, after the public description of their APIs. It
//! checks what the real ones check: who signed a request for a token, bearers and when they end, rights, resource
//! names, checksums, additional data, states of keys, quotas. The cryptography is real.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    digest::{Digest, SHA256, SHA384},
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
        RsaKeyPair,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde_json::{Value, json};

use super::wrap::crc32c;
use crate::{
    SecretKey,
    testing::{Asked, Reply, serve},
};

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    /// What we send is changed before the service sees it.
    RequestChanged,
    /// The service says that it saw no checksums.
    ChecksumsLost,
    /// What the service sends is changed before we see it.
    AnswerChanged,
    /// The next so many requests are over the quota; seconds until they would not be.
    Quota(u32, u32),
    Unavailable,
    /// Somebody else answers.
    Stranger,
    Hang,
}

pub(super) struct FakeGcpKms {
    pub(super) url: String,
    state: Arc<Mutex<State>>,
    /// PKCS #8 of the service account.
    account: String,
}

#[derive(Default)]
struct State {
    url: String,
    account: Vec<u8>,
    tokens: BTreeMap<String, Instant>,
    /// How long new tokens last, in seconds.
    term: u64,
    refuse_tokens: bool,
    token_requests: usize,
    requests: usize,
    rings: HashSet<String>,
    keys: BTreeMap<String, Key>,
    denied: HashSet<String>,
    fault: Fault,
}

struct Key {
    purpose: String,
    algorithm: String,
    versions: Vec<Version>,
    primary: usize,
}

struct Version {
    state: &'static str,
    /// How often it is looked at before it is there.
    pending: u32,
    material: Material,
}

enum Material {
    Symmetric(RandomizedNonceKey),
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

type Answer = Result<Value, Reply>;

pub(super) const RING: &str = "projects/p-1/locations/europe-west4/keyRings/scai";
const EMAIL: &str = "vault@p-1.iam.gserviceaccount.com";

impl FakeGcpKms {
    pub(super) async fn start() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let body = STANDARD.encode(der.as_ref());
        let account = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let public = pair.public_key().as_der().unwrap().as_ref().to_vec();
        let state =
            State { account: public, term: 3600, rings: [RING.to_owned()].into(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let for_server = state.clone();
        let address = serve(None, move |asked| for_server.lock().unwrap().answer(&asked)).await;
        let url = format!("http://{address}");
        state.lock().unwrap().url = url.clone();
        Self { url, state, account }
    }

    /// The key file of the account that may.
    pub(super) fn account(&self) -> Value {
        json!({
            "type": "service_account",
            "project_id": "p-1",
            "private_key": self.account,
            "client_email": EMAIL,
            "token_uri": format!("{}/token", self.url),
        })
    }

    /// Makes a root key, and gives its name.
    pub(super) fn root(&self, name: &str) -> String {
        let full = format!("{RING}/cryptoKeys/{name}");
        let key = Key::new("ENCRYPT_DECRYPT", "GOOGLE_SYMMETRIC_ENCRYPTION").unwrap();
        self.state.lock().unwrap().keys.insert(full.clone(), key);
        full
    }

    /// Makes a signing key whose version is there.
    pub(super) fn sign_key(&self, name: &str, algorithm: &str) {
        let mut key = Key::new("ASYMMETRIC_SIGN", algorithm).unwrap();
        key.versions[0].state = "ENABLED";
        self.state.lock().unwrap().keys.insert(format!("{RING}/cryptoKeys/{name}"), key);
    }

    pub(super) fn set_state(&self, key: &str, version: usize, state: &'static str) {
        self.state.lock().unwrap().keys.get_mut(key).unwrap().versions[version - 1].state = state;
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.state.lock().unwrap().fault = fault;
    }

    pub(super) fn deny(&self, verb: &str) {
        self.state.lock().unwrap().denied.insert(verb.to_owned());
    }

    pub(super) fn refuse_tokens(&self, refuse: bool) {
        self.state.lock().unwrap().refuse_tokens = refuse;
    }

    pub(super) fn set_term(&self, seconds: u64) {
        self.state.lock().unwrap().term = seconds;
    }

    /// Takes away every token that was given out.
    pub(super) fn revoke(&self) {
        self.state.lock().unwrap().tokens.clear();
    }

    /// Requests to the service, and requests for tokens, so far.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.requests, state.token_requests)
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Reply {
        if asked.path == "/token" {
            self.token_requests += 1;
            return self.token(asked);
        }
        self.requests += 1;
        match self.fault {
            Fault::Hang => return Reply::Hang,
            Fault::Stranger => return Reply::Page(404, "<p>nothing here</p>"),
            Fault::Unavailable => return refuse(503, "UNAVAILABLE", "The service is currently unavailable."),
            Fault::Quota(left, seconds) if left > 0 => {
                self.fault = Fault::Quota(left - 1, seconds);
                let info = "type.googleapis.com/google.rpc.RetryInfo";
                let details = json!([{ "@type": info, "retryDelay": format!("{seconds}s") }]);
                let error = json!({ "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded", "details": details });
                let sooner = vec![("retry-after", "1".to_owned())];
                return Reply::With(429, sooner, json!({ "error": error }));
            }
            _ => {}
        }
        let known = asked.bearer.as_ref().and_then(|bearer| self.tokens.get(bearer));
        if known.is_none_or(|ends| *ends <= Instant::now()) {
            return refuse(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.");
        }
        match self.serve(asked) {
            Ok(value) => Reply::Json(200, value),
            Err(reply) => reply,
        }
    }

    /// Checks the assertion as RFC 7523 wants it: signature, issuer, audience, scope, times.
    fn token(&mut self, asked: &Asked) -> Reply {
        let form = String::from_utf8_lossy(&asked.body);
        let grant = Asked::pair(&form, "grant_type");
        let assertion = Asked::pair(&form, "assertion").unwrap_or_default();
        let (signed, signature) = assertion.rsplit_once('.').unwrap_or_default();
        let claims =
            signed.split('.').nth(1).and_then(|claims| URL_SAFE.decode(claims).ok()).unwrap_or_default();
        let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
        let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.account).unwrap();
        let signature = URL_SAFE.decode(signature).unwrap_or_default();
        let good = grant.as_deref() == Some("urn:ietf:params:oauth:grant-type:jwt-bearer")
            && public.verify_sig(signed.as_bytes(), &signature).is_ok()
            && claims["iss"] == EMAIL
            && claims["aud"] == format!("{}/token", self.url)
            && claims["scope"] == "https://www.googleapis.com/auth/cloudkms"
            && claims["exp"]
                .as_i64()
                .zip(claims["iat"].as_i64())
                .is_some_and(|(e, i)| e > i && e - i <= 3600);
        if self.refuse_tokens || !good {
            return Reply::Json(400, json!({ "error": "invalid_grant" }));
        }
        let token = hex::encode(SecretKey::generate().unwrap().expose());
        self.tokens.insert(token.clone(), Instant::now() + Duration::from_secs(self.term));
        Reply::Json(200, json!({ "access_token": token, "expires_in": self.term, "token_type": "Bearer" }))
    }

    fn serve(&mut self, asked: &Asked) -> Answer {
        let path = asked.path.strip_prefix("/v1/").ok_or(Reply::Page(404, "not this API"))?;
        let (resource, verb) = path.split_once(':').unwrap_or((path, ""));
        let body = asked.json();
        let (parent, last) = resource.rsplit_once('/').unwrap_or_default();
        match (asked.method.as_str(), verb) {
            ("GET", "") if last == "publicKey" => self.public_key(parent),
            ("GET", "") if resource.contains("/cryptoKeyVersions/") => self.get_version(resource),
            ("GET", "") => self.get_key(resource),
            ("POST", "") if last == "cryptoKeys" => {
                let id = Asked::pair(&asked.query, "cryptoKeyId").unwrap_or_default();
                self.create_key(parent, &id, &body)
            }
            ("POST", "") if last == "cryptoKeyVersions" => self.create_version(parent),
            ("POST", "updatePrimaryVersion") => self.update_primary(resource, &body),
            ("POST", "encrypt") => self.encrypt(resource, &body),
            ("POST", "decrypt") => self.decrypt(resource, &body),
            ("POST", "asymmetricSign") => self.sign(resource, &body),
            _ => Err(Reply::Page(404, "not this API")),
        }
    }

    fn key(&mut self, name: &str, verb: &str) -> Result<&mut Key, Reply> {
        if self.denied.contains(verb) || !name.starts_with("projects/p-1/") {
            let told =
                format!("Permission 'cloudkms.{verb}' denied on resource '{name}' (or it may not exist).");
            return Err(refuse(403, "PERMISSION_DENIED", &told));
        }
        let missing = || refuse(404, "NOT_FOUND", &format!("CryptoKey {name} not found."));
        self.keys.get_mut(name).ok_or_else(missing)
    }

    fn version(&mut self, name: &str, verb: &str) -> Result<&mut Version, Reply> {
        let missing = || refuse(404, "NOT_FOUND", &format!("CryptoKeyVersion {name} not found."));
        let (key, number) = name.split_once("/cryptoKeyVersions/").ok_or_else(missing)?;
        let number: usize = number.parse().map_err(|_| missing())?;
        let key = self.key(key, verb)?;
        key.versions.get_mut(number.wrapping_sub(1)).ok_or_else(missing)
    }

    fn get_key(&mut self, name: &str) -> Answer {
        let key = self.key(name, "get")?;
        let mut told = json!({ "name": name, "purpose": key.purpose });
        if key.purpose == "ENCRYPT_DECRYPT" && key.versions[key.primary].state != "DESTROYED" {
            let primary = format!("{name}/cryptoKeyVersions/{}", key.primary + 1);
            let state = key.versions[key.primary].state;
            told["primary"] = json!({ "name": primary, "state": state, "algorithm": key.algorithm });
        }
        Ok(told)
    }

    fn get_version(&mut self, name: &str) -> Answer {
        let version = self.version(name, "get")?;
        version.pending = version.pending.saturating_sub(1);
        if version.pending == 0 && version.state == "PENDING_GENERATION" {
            version.state = "ENABLED";
        }
        Ok(json!({ "name": name, "state": version.state }))
    }

    fn create_key(&mut self, ring: &str, id: &str, body: &Value) -> Answer {
        if self.denied.contains("create") {
            return Err(refuse(403, "PERMISSION_DENIED", "Permission 'cloudkms.cryptoKeys.create' denied."));
        }
        if !self.rings.contains(ring) {
            return Err(refuse(404, "NOT_FOUND", &format!("KeyRing {ring} not found.")));
        }
        let name = format!("{ring}/cryptoKeys/{id}");
        if self.keys.contains_key(&name) {
            return Err(refuse(409, "ALREADY_EXISTS", &format!("CryptoKey {name} already exists.")));
        }
        let template = &body["versionTemplate"];
        let known = ["SOFTWARE", "HSM"].iter().any(|level| template["protectionLevel"] == *level);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = Key::new(&text(&body["purpose"]), &text(&template["algorithm"]));
        let Some(key) = key.filter(|_| known) else {
            return Err(refuse(400, "INVALID_ARGUMENT", "The algorithm does not fit the purpose."));
        };
        self.keys.insert(name.clone(), key);
        self.get_key(&name)
    }

    fn create_version(&mut self, name: &str) -> Answer {
        let key = self.key(name, "create")?;
        let version =
            Version { state: "PENDING_GENERATION", pending: 2, ..Key::version(&key.algorithm).unwrap() };
        key.versions.push(version);
        let made = format!("{name}/cryptoKeyVersions/{}", key.versions.len());
        Ok(json!({ "name": made, "state": "PENDING_GENERATION" }))
    }

    fn update_primary(&mut self, name: &str, body: &Value) -> Answer {
        let key = self.key(name, "update")?;
        let number = body["cryptoKeyVersionId"].as_str().and_then(|number| number.parse::<usize>().ok());
        let at = number.and_then(|number| number.checked_sub(1)).filter(|at| *at < key.versions.len());
        let at = at.ok_or_else(|| refuse(404, "NOT_FOUND", "CryptoKeyVersion not found."))?;
        enabled(name, at + 1, &key.versions[at])?;
        key.primary = at;
        self.get_key(name)
    }

    fn encrypt(&mut self, name: &str, body: &Value) -> Answer {
        let fault = self.fault;
        let mut plaintext = bytes(body, "plaintext")?;
        let aad = bytes(body, "additionalAuthenticatedData")?;
        if fault == Fault::RequestChanged {
            plaintext[0] ^= 1;
        }
        let key = self.key(name, "encrypt")?;
        let number = key.primary + 1;
        let version = &key.versions[key.primary];
        let Material::Symmetric(material) = &version.material else {
            return Err(refuse(400, "FAILED_PRECONDITION", "The key's purpose does not permit this."));
        };
        enabled(name, number, version)?;
        verify(body, "plaintext", &plaintext)?;
        verify(body, "additionalAuthenticatedData", &aad)?;
        let bound = bound(name, number, &aad);
        let nonce = material.seal_in_place_append_tag(Aad::from(bound), &mut plaintext).unwrap();
        let blob = [&[u8::try_from(number).unwrap()][..], nonce.as_ref(), &plaintext].concat();
        let verified = fault != Fault::ChecksumsLost;
        Ok(json!({
            "name": format!("{name}/cryptoKeyVersions/{number}"),
            "ciphertext": STANDARD.encode(changed(fault, &blob)),
            "ciphertextCrc32c": crc32c(&blob).to_string(),
            "verifiedPlaintextCrc32c": verified,
            "verifiedAdditionalAuthenticatedDataCrc32c": verified,
            "protectionLevel": "SOFTWARE",
        }))
    }

    fn decrypt(&mut self, name: &str, body: &Value) -> Answer {
        let fault = self.fault;
        let mut blob = bytes(body, "ciphertext")?;
        let aad = bytes(body, "additionalAuthenticatedData")?;
        if fault == Fault::RequestChanged {
            blob[0] ^= 1;
        }
        let key = self.key(name, "decrypt")?;
        verify(body, "ciphertext", &blob)?;
        verify(body, "additionalAuthenticatedData", &aad)?;
        let invalid = || refuse(400, "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.");
        let (number, rest) = blob.split_first().ok_or_else(invalid)?;
        let (nonce, sealed) = rest.split_first_chunk::<12>().ok_or_else(invalid)?;
        let number = usize::from(*number);
        let version = key.versions.get(number.wrapping_sub(1)).ok_or_else(invalid)?;
        let Material::Symmetric(material) = &version.material else {
            return Err(refuse(400, "FAILED_PRECONDITION", "The key's purpose does not permit this."));
        };
        enabled(name, number, version)?;
        let mut opened = sealed.to_vec();
        let aad = Aad::from(bound(name, number, &aad));
        let opened = material.open_in_place(Nonce::from(nonce), aad, &mut opened).map_err(|_| invalid())?;
        let told = if fault == Fault::ChecksumsLost { String::new() } else { crc32c(opened).to_string() };
        Ok(json!({
            "plaintext": STANDARD.encode(changed(fault, opened)),
            "plaintextCrc32c": told,
            "usedPrimary": number == key.primary + 1,
            "protectionLevel": "SOFTWARE",
        }))
    }

    fn public_key(&mut self, name: &str) -> Answer {
        let fault = self.fault;
        let (key, number) = name.split_once("/cryptoKeyVersions/").unwrap_or_default();
        let number = number.parse().unwrap_or(0);
        let algorithm = self.key(key, "publicKey")?.algorithm.clone();
        let version = self.version(name, "publicKey")?;
        enabled(key, number, version)?;
        let der = match &version.material {
            Material::Symmetric(_) => {
                return Err(refuse(400, "FAILED_PRECONDITION", "The key's purpose does not permit this."));
            }
            Material::Ec(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Material::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Material::Ed25519(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        };
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
        let told = crc32c(pem.as_bytes()).wrapping_add(u32::from(fault == Fault::AnswerChanged));
        Ok(json!({ "pem": pem, "algorithm": algorithm, "pemCrc32c": told.to_string(), "name": name }))
    }

    fn sign(&mut self, name: &str, body: &Value) -> Answer {
        let fault = self.fault;
        let (key, number) = name.split_once("/cryptoKeyVersions/").unwrap_or_default();
        let number = number.parse().unwrap_or(0);
        let algorithm = self.key(key, "sign")?.algorithm.clone();
        let version = self.version(name, "sign")?;
        enabled(key, number, version)?;
        let wrong = || refuse(400, "INVALID_ARGUMENT", "The digest does not fit the algorithm.");
        let (field, hash) = if algorithm.contains("384") { ("sha384", &SHA384) } else { ("sha256", &SHA256) };
        let digest = || -> Result<Digest, Reply> {
            let digest = bytes(&body["digest"], field)?;
            verify_as(body, "digestCrc32c", &digest)?;
            Digest::import_less_safe(&digest, hash).map_err(|_| wrong())
        };
        let signature = match &version.material {
            Material::Symmetric(_) => return Err(wrong()),
            Material::Ec(pair) => pair.sign_digest(&digest()?).map_err(|_| wrong())?.as_ref().to_vec(),
            Material::Rsa(pair) => {
                let padding: &dyn aws_lc_rs::signature::RsaEncoding =
                    if algorithm.contains("PSS") { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign_digest(padding, &digest()?, &mut out).map_err(|_| wrong())?;
                out
            }
            Material::Ed25519(pair) => {
                let data = bytes(body, "data")?;
                verify(body, "data", &data)?;
                pair.sign(&data).as_ref().to_vec()
            }
        };
        let verified = fault != Fault::ChecksumsLost;
        Ok(json!({
            "name": name,
            "signature": STANDARD.encode(changed(fault, &signature)),
            "signatureCrc32c": crc32c(&signature).to_string(),
            "verifiedDigestCrc32c": verified && !body["digest"].is_null(),
            "verifiedDataCrc32c": verified && !body["data"].is_null(),
        }))
    }
}

impl Key {
    fn new(purpose: &str, algorithm: &str) -> Option<Self> {
        let fits = match purpose {
            "ENCRYPT_DECRYPT" => algorithm == "GOOGLE_SYMMETRIC_ENCRYPTION",
            "ASYMMETRIC_SIGN" => algorithm.contains("_SIGN_"),
            _ => false,
        };
        let mut first = Self::version(algorithm).filter(|_| fits)?;
        if purpose == "ASYMMETRIC_SIGN" {
            (first.state, first.pending) = ("PENDING_GENERATION", 2);
        }
        let (purpose, algorithm) = (purpose.to_owned(), algorithm.to_owned());
        Some(Self { purpose, algorithm, versions: vec![first], primary: 0 })
    }

    fn version(algorithm: &str) -> Option<Version> {
        let rsa = |size| Material::Rsa(RsaKeyPair::generate(size).unwrap());
        let material = match algorithm {
            "GOOGLE_SYMMETRIC_ENCRYPTION" => {
                let key = SecretKey::generate().unwrap();
                Material::Symmetric(RandomizedNonceKey::new(&AES_256_GCM, key.expose()).unwrap())
            }
            "EC_SIGN_P256_SHA256" => {
                Material::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
            }
            "EC_SIGN_P384_SHA384" => {
                Material::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap())
            }
            "EC_SIGN_ED25519" => Material::Ed25519(Ed25519KeyPair::generate().unwrap()),
            name if name.contains("_2048_SHA256") => rsa(KeySize::Rsa2048),
            name if name.contains("_3072_SHA256") => rsa(KeySize::Rsa3072),
            // Other hashes are not signed with here, only told of.
            name if name.contains("_4096_SHA") => rsa(KeySize::Rsa4096),
            _ => return None,
        };
        Some(Version { state: "ENABLED", pending: 0, material })
    }
}

fn refuse(code: u16, status: &str, message: &str) -> Reply {
    Reply::Json(code, json!({ "error": { "code": code, "status": status, "message": message } }))
}

fn enabled(key: &str, number: usize, version: &Version) -> Result<(), Reply> {
    if version.state == "ENABLED" {
        return Ok(());
    }
    let told =
        format!("{key}/cryptoKeyVersions/{number} is not enabled, current state is: {}.", version.state);
    Err(refuse(400, "FAILED_PRECONDITION", &told))
}

fn bytes(body: &Value, field: &str) -> Result<Vec<u8>, Reply> {
    let decoded = body[field].as_str().and_then(|text| STANDARD.decode(text).ok());
    decoded.ok_or_else(|| refuse(400, "INVALID_ARGUMENT", &format!("Invalid value at '{field}'.")))
}

fn verify(body: &Value, field: &str, bytes: &[u8]) -> Result<(), Reply> {
    verify_as(body, &format!("{field}Crc32c"), bytes)
}

/// The checksum is optional in the API; here it has to be there.
fn verify_as(body: &Value, field: &str, bytes: &[u8]) -> Result<(), Reply> {
    if body[field].as_str().and_then(|told| told.parse().ok()) == Some(crc32c(bytes)) {
        return Ok(());
    }
    let told = format!("The checksum in field {field} did not match the data.");
    Err(refuse(400, "INVALID_ARGUMENT", &told))
}

fn bound(name: &str, number: usize, aad: &[u8]) -> Vec<u8> {
    [name.as_bytes(), &number.to_be_bytes(), aad].concat()
}

fn changed(fault: Fault, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if fault == Fault::AnswerChanged {
        bytes[0] ^= 1;
    }
    bytes
}
