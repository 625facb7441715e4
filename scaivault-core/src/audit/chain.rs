//! What a record's hash is made of, and what a checkpoint signs. `docs/AUDIT.md` says it in words; a verifier that
//! knows nothing of this crate is in `scripts/`.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use time::OffsetDateTime;

use super::AuditLog;
use crate::{Code, Error, Result, storage::Ts};

/// The version of the encodings below; the first part of all that is hashed or signed.
pub(super) const VERSION: &str = "scaivault-audit-v1";

/// The one way in which checkpoints are signed: ECDSA on P-256 with SHA-256, DER.
pub(super) const ALGORITHM: &str = "ecdsa-p256-sha256";

/// A SHA-256 hash in a chain; before the first record it is all zeros.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ChainHash(pub(crate) [u8; 32]);

impl ChainHash {
    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(hash)
    }

    /// From a column. What is not a hash is another hash than any record has.
    pub(crate) fn from_column(bytes: &[u8]) -> Self {
        bytes.try_into().map_or_else(|_| Self::of(bytes), Self)
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ChainHash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainHash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let byte = |i: usize| text.get(2 * i..2 * i + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
        let bytes = bytes.filter(|_| text.len() == 64).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom("not a hash of 64 hexadecimal digits"))
    }
}

/// A record in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainedRecord {
    /// The place in the chain of its tenant, from 1, without gaps.
    pub seq: i64,
    /// The hash of the record before it.
    pub prev_hash: ChainHash,
    /// The hash of this one.
    pub hash: ChainHash,
    /// The record.
    #[serde(flatten)]
    pub log: AuditLog,
}

impl ChainedRecord {
    /// Puts a record behind the last one.
    pub(crate) fn link(log: AuditLog, seq: i64, prev_hash: ChainHash) -> Self {
        let mut record = Self { seq, prev_hash, hash: ChainHash::default(), log };
        record.hash = record.digest();
        record
    }

    /// The hash that this record has to have.
    #[must_use]
    pub fn digest(&self) -> ChainHash {
        let log = &self.log;
        let mut to = Fields::new("record");
        to.text(&log.tenant_id).int(self.seq).bytes(&self.prev_hash.0).text(&log.id);
        to.int(micros(log.timestamp)).text(&log.action).text(&log.identity_type).text(&log.identity_id);
        to.text(&log.acting_tenant_id).maybe(log.resource_type.as_ref()).maybe(log.resource_id.as_ref());
        to.maybe(log.secret_path.as_ref()).maybe(log.source_ip.as_ref()).maybe(log.user_agent.as_ref());
        to.bytes(&[u8::from(log.success)]).maybe(log.error_code.as_ref()).int(log.duration_ms);
        to.text(&log.request_id).text(&canonical_json(&log.extra_data));
        ChainHash::of(&to.0)
    }
}

/// Why a checkpoint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The chain was this long.
    Head,
    /// Records up to this place have outlived their retention and may be gone.
    Retention,
}

impl Purpose {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Retention => "retention",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let found = [Self::Head, Self::Retention].into_iter().find(|purpose| purpose.as_str() == text);
        found.ok_or_else(|| Error::internal("a checkpoint of no known purpose"))
    }
}

/// A signed statement about a place of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the checkpoint, as docs/AUDIT.md names them")]
pub struct Checkpoint {
    pub tenant_id: String,
    pub seq: i64,
    pub hash: ChainHash,
    #[serde(serialize_with = "crate::wire::micros", deserialize_with = "time::serde::rfc3339::deserialize")]
    pub timestamp: OffsetDateTime,
    pub purpose: Purpose,
    pub algorithm: String,
    pub key_id: String,
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
}

impl Checkpoint {
    /// What is signed: everything but the signature.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut to = Fields::new("checkpoint");
        to.text(&self.tenant_id).int(self.seq).bytes(&self.hash.0).int(micros(self.timestamp));
        to.text(self.purpose.as_str()).text(&self.algorithm).text(&self.key_id);
        to.0
    }
}

/// The public half of the key that signs checkpoints.
#[derive(Debug)]
pub struct AuditKey {
    der: Vec<u8>,
    id: String,
    key: ParsedPublicKey,
}

impl AuditKey {
    /// From a DER `SubjectPublicKeyInfo` (RFC 5280) of a key on P-256.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if it is none.
    pub fn from_der(der: &[u8]) -> Result<Self> {
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der)
            .map_err(|_| Error::new(Code::InvalidRequest, "not a public key on P-256"))?;
        Ok(Self { der: der.to_vec(), id: ChainHash::of(der).to_string(), key })
    }

    /// From a PEM block `PUBLIC KEY` (RFC 7468).
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if it is none.
    pub fn from_pem(text: &str) -> Result<Self> {
        let body: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(body).ok().filter(|_| text.contains("-----BEGIN PUBLIC KEY-----"));
        Self::from_der(&der.ok_or_else(|| Error::new(Code::InvalidRequest, "not a PEM block PUBLIC KEY"))?)
    }

    /// As a PEM block `PUBLIC KEY`.
    #[must_use]
    pub fn to_pem(&self) -> String {
        scaivault_pki::pem::encode("PUBLIC KEY", &self.der)
    }

    /// SHA-256 over the DER, in hexadecimal.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }

    /// What is wrong with a checkpoint's signature, if something is.
    pub(crate) fn objection(&self, checkpoint: &Checkpoint) -> Option<&'static str> {
        if checkpoint.algorithm != ALGORITHM {
            return Some("names an algorithm that is not in use");
        }
        if checkpoint.key_id != self.id {
            return Some("names another key");
        }
        let signed = self.verifies(&checkpoint.message(), &checkpoint.signature);
        (!signed).then_some("has a signature that is not the key's")
    }
}

/// Parts, each behind its length: no two lists of parts encode alike.
struct Fields(Vec<u8>);

impl Fields {
    fn new(kind: &str) -> Self {
        let mut to = Self(Vec::with_capacity(512));
        to.text(VERSION).text(kind);
        to
    }

    /// `01`, the length as four big-endian bytes, the bytes.
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.push(1);
        // A column has a few kilobytes.
        self.0.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Eight big-endian bytes, two's complement.
    fn int(&mut self, number: i64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    /// `00` where there is nothing.
    fn maybe(&mut self, text: Option<&String>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => {
                self.0.push(0);
                self
            }
        }
    }
}

fn micros(time: OffsetDateTime) -> i64 {
    Ts::from(time).micros()
}

/// JSON in one spelling: keys in bytewise order, no white space, only what must be escaped is. Numbers are
/// integers; see [`plain`].
fn canonical_json(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| name.as_bytes());
            let member = |(name, value): (&String, &Value)| {
                format!("{}:{}", Value::String(name.clone()), canonical_json(value))
            };
            format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical_json).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// A JSON value without fractions, which databases spell in their own way: they become texts.
pub(crate) fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::String(number.to_string()),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, plain(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}

mod base64_bytes {
    use base64::Engine as _;

    use super::{Deserialize, Deserializer, STANDARD, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn log() -> AuditLog {
        serde_json::from_value(json!({
            "id": "log_1", "timestamp": "2026-04-23T18:00:00.123456Z", "action": "read", "identity_type": "user",
            "identity_id": "user:ä", "tenant_id": "tnt_a", "acting_tenant_id": "tnt_a", "resource_type": "secret",
            "resource_id": null, "secret_path": "app/db", "source_ip": null, "user_agent": "", "success": true,
            "error_code": null, "duration_ms": 3, "request_id": "req_1", "extra_data": {"b": 1, "a": [true, "\u{1f}é\"\n"]},
        }))
        .unwrap()
    }

    /// The example of docs/AUDIT.md: this encoding never changes under this version.
    #[test]
    fn the_hash_of_a_known_record_is_known() {
        let record = ChainedRecord::link(log(), 1, ChainHash::default());
        assert_eq!(canonical_json(&record.log.extra_data), "{\"a\":[true,\"\\u001fé\\\"\\n\"],\"b\":1}");
        assert_eq!(
            record.hash.to_string(),
            "873e7bcb8e88c2d69b126f4e390d3ea000e45389d2079323aed7c77c248f7a9f"
        );
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<ChainedRecord>(&text).unwrap(), record, "{text}");
    }

    #[test]
    fn every_column_is_in_the_hash() {
        let record = ChainedRecord::link(log(), 7, ChainHash::of(b"before"));
        let whole = serde_json::to_value(&record).unwrap();
        for (name, value) in whole.as_object().unwrap() {
            if name == "hash" {
                continue;
            }
            let other = match value {
                Value::Null => json!(""),
                Value::Bool(value) => json!(!value),
                Value::Number(value) => json!(value.as_i64().unwrap() + 1),
                Value::Object(_) => json!({"a": 1}),
                Value::String(_) if name == "prev_hash" => json!(ChainHash::of(b"other")),
                Value::String(_) if name == "timestamp" => json!("2026-04-23T18:00:00.123457Z"),
                Value::String(text) => json!(format!("{text}x")),
                Value::Array(_) => unreachable!("no column is one"),
            };
            let mut changed = whole.clone();
            changed[name] = other;
            let changed: ChainedRecord = serde_json::from_value(changed).unwrap();
            assert_ne!(changed.digest(), record.hash, "{name}");
        }
    }

    #[test]
    fn a_text_does_not_move_into_its_neighbour() {
        let (mut a, mut b) = (log(), log());
        (a.resource_type, a.resource_id) = (Some("ab".into()), Some("c".into()));
        (b.resource_type, b.resource_id) = (Some("a".into()), Some("bc".into()));
        let hash = |log| ChainedRecord::link(log, 1, ChainHash::default()).hash;
        assert_ne!(hash(a), hash(b));
    }

    #[test]
    fn fractions_become_texts() {
        assert_eq!(plain(json!({"a": [1.5, 2, -3, "x", null]})), json!({"a": ["1.5", 2, -3, "x", null]}));
    }
}
