use std::{fmt, time::Duration};

use scaivault_kms::Secret;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::SecretPath;
use crate::{Code, DurationText, Error, FieldErrors, Result, limits, storage::has_nul, wire};

/// A secret's value: a JSON object. Zeroized on drop, redacted in `Debug`, shown only by name.
pub struct SecretData(Secret);

impl SecretData {
    /// Takes the bytes of a JSON object over.
    ///
    /// # Errors
    /// [`Code::ValidationError`] on field `data` if they are not one, or more than 1 MiB. The message
    /// holds nothing of them.
    pub fn from_json(bytes: Secret) -> Result<Self> {
        if bytes.len() > limits::SECRET_DATA_BYTES {
            return Err(Error::field(
                "data",
                format!("must be at most {} bytes of JSON", limits::SECRET_DATA_BYTES),
            ));
        }
        match serde_json::from_slice::<Object>(bytes.expose()) {
            Ok(Object) => Ok(Self(bytes)),
            Err(_) => Err(Error::field("data", "must be a JSON object")),
        }
    }

    /// Encodes any value that becomes a JSON object.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_value(value: &impl Serialize) -> Result<Self> {
        let bytes =
            serde_json::to_vec(value).map_err(|_| Error::field("data", "cannot be written as JSON"))?;
        Self::from_json(Secret::new(bytes))
    }

    /// The JSON text. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose_json(&self) -> &[u8] {
        self.0.expose()
    }

    /// Decodes the value.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if it does not have the shape of `T`; the message holds nothing of it.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.0.expose()).map_err(|_| {
            Error::new(Code::InvalidRequest, "the secret's value does not have the expected shape")
        })
    }

    pub(super) fn from_sealed(bytes: Secret) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretData(..)")
    }
}

/// Any JSON object, looked at and not kept.
struct Object;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Object)
            }
        }
        from.deserialize_map(Look)
    }
}

/// What a secret is for. A hint: it changes nothing about how the value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum SecretType {
    Kv,
    Json,
    Certificate,
    SshKey,
    ApiKey,
}

impl SecretType {
    const ALL: &[Self] = &[Self::Kv, Self::Json, Self::Certificate, Self::SshKey, Self::ApiKey];

    /// The stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Json => "json",
            Self::Certificate => "certificate",
            Self::SshKey => "ssh_key",
            Self::ApiKey => "api_key",
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Code::InvalidSecretType`] if it is none of them.
    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|t| t.as_str() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|t| t.as_str()).collect();
            Error::new(Code::InvalidSecretType, format!("secret_type: must be one of {}", names.join(", ")))
        })
    }
}

/// What is known of a secret besides its value: `description`, `tags`, `owner` and free keys. Not secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// Takes an object over.
    ///
    /// # Errors
    /// [`Code::ValidationError`] naming each field under `metadata` that breaks a bound.
    pub fn new(map: Map<String, Value>) -> Result<Self> {
        let mut wrong = FieldErrors::default();
        let text = |key: &str, wrong: &mut FieldErrors| match map.get(key) {
            None => {}
            Some(Value::String(s)) if s.chars().count() <= limits::DESCRIPTION_CHARS => {}
            Some(_) => wrong.push(
                format!("metadata.{key}"),
                format!("must be text of at most {} characters", limits::DESCRIPTION_CHARS),
            ),
        };
        text("description", &mut wrong);
        text("owner", &mut wrong);
        if map.get("tags").is_some_and(|tags| !good_tags(tags)) {
            let rule =
                format!("must be at most {} texts of 1 to {} characters", limits::TAGS, limits::TAG_CHARS);
            wrong.push("metadata.tags", rule);
        }
        if serde_json::to_vec(&map).map_err(Error::internal)?.len() > limits::SECRET_METADATA_BYTES {
            wrong
                .push("metadata", format!("must be at most {} bytes of JSON", limits::SECRET_METADATA_BYTES));
        }
        for (key, value) in &map {
            if key.contains('\0') || has_nul(value) {
                wrong.push(format!("metadata.{}", key.replace('\0', "")), "must not hold the character NUL");
            }
        }
        wrong.finish()?;
        Ok(Self(map))
    }

    /// The tags, each once, sorted.
    #[must_use]
    pub fn tags(&self) -> Vec<&str> {
        let tags = self.0.get("tags").and_then(Value::as_array);
        let mut tags: Vec<&str> = tags.into_iter().flatten().filter_map(Value::as_str).collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// The whole object.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A merge patch (RFC 7396): `null` removes, objects are merged, anything else replaces.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn merged(&self, patch: Map<String, Value>) -> Result<Self> {
        let mut target = Value::Object(self.0.clone());
        merge(&mut target, Value::Object(patch), 0);
        match target {
            Value::Object(map) => Self::new(map),
            _ => Err(Error::internal("a patched object is an object")),
        }
    }
}

fn good_tags(tags: &Value) -> bool {
    let good = |t: &Value| t.as_str().is_some_and(|t| (1..=limits::TAG_CHARS).contains(&t.chars().count()));
    tags.as_array().is_some_and(|tags| tags.len() <= limits::TAGS && tags.iter().all(good))
}

fn merge(target: &mut Value, patch: Value, depth: usize) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else if depth < 64 {
            merge(target.entry(key).or_insert(Value::Null), value, depth + 1);
        }
    }
}

/// What a put expects to find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expectation {
    /// Anything.
    #[default]
    Anything,
    /// No secret on the path.
    Absent,
    /// This current version.
    Version(i64),
}

/// A new version of a secret.
#[derive(Debug)]
pub struct SecretWrite {
    /// The value.
    pub data: SecretData,
    /// What it is for; `json` for a new secret, unchanged for one that is there.
    pub secret_type: Option<SecretType>,
    /// Replaces the metadata; unchanged if `None`.
    pub metadata: Option<Metadata>,
    /// The rest.
    pub options: WriteOptions,
    /// What must be there for the write to happen.
    pub expect: Expectation,
}

impl SecretWrite {
    /// A version with this value and nothing else said.
    #[must_use]
    pub fn new(data: SecretData) -> Self {
        Self {
            data,
            secret_type: None,
            metadata: None,
            options: WriteOptions::default(),
            expect: Expectation::default(),
        }
    }
}

/// What a write may set beside the value; what is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// How many versions are kept, 1 to 100. New secrets keep 10.
    pub max_versions: Option<i64>,
    /// When the secret expires, from now. `Some(None)` says never.
    pub expires: Option<Option<Expires>>,
    /// How long before the expiry to say so: `30d,7d,1d` unless given.
    pub notify_before: Option<Vec<DurationText>>,
}

/// When a secret expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expires {
    /// So long after the write.
    In(DurationText),
    /// At this time.
    At(OffsetDateTime),
}

impl WriteOptions {
    pub(super) fn check(&self, now: OffsetDateTime) -> Result<()> {
        let mut wrong = FieldErrors::default();
        if self.max_versions.is_some_and(|n| !(1..=limits::MAX_VERSIONS).contains(&n)) {
            wrong.push("options.max_versions", format!("must be between 1 and {}", limits::MAX_VERSIONS));
        }
        if self.notify_before.as_ref().is_some_and(|list| list.is_empty() || list.len() > 10) {
            wrong.push("options.notify_before", "must be 1 to 10 durations");
        }
        if matches!(self.expires, Some(Some(Expires::At(at))) if at <= now) {
            wrong.push("options.expires_at", "must be in the future");
        }
        wrong.finish()
    }

    /// The expiry after a write, given the one before.
    pub(super) fn expiry(
        &self,
        before: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> Option<OffsetDateTime> {
        match &self.expires {
            None => before,
            Some(None) => None,
            Some(Some(Expires::At(at))) => Some(*at),
            Some(Some(Expires::In(duration))) => Some(now + duration.get()),
        }
    }
}

/// A change of what is not the value.
#[derive(Clone, Debug, Default)]
pub struct SecretPatch {
    /// A merge patch of the metadata.
    pub metadata: Option<Map<String, Value>>,
    /// The rest.
    pub options: WriteOptions,
}

/// Everything about a secret but its value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct SecretItem {
    pub path: String,
    /// `partner` if it is one that a partner shares with all of his tenants; otherwise not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'static str>,
    pub secret_type: String,
    pub version: i64,
    pub metadata: Metadata,
    pub max_versions: i64,
    pub notify_before: String,
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub updated_at: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds_opt")]
    pub expires_at: Option<OffsetDateTime>,
    #[serde(serialize_with = "wire::seconds_opt")]
    pub last_accessed_at: Option<OffsetDateTime>,
    #[serde(serialize_with = "wire::seconds_opt", skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<OffsetDateTime>,
    /// No policy rotates secrets yet.
    pub rotation_policy_id: Option<String>,
    /// No policy makes values yet.
    pub secret_policy_id: Option<String>,
    /// How many versions can be read; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_count: Option<i64>,
}

/// A secret with its value.
#[derive(Debug)]
pub struct SecretValue {
    /// Everything else; `item.version` is the version that was read.
    pub item: SecretItem,
    /// The value.
    pub data: SecretData,
}

/// What a put did.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The secret as it is now.
    pub item: SecretItem,
    /// Whether the path held nothing before.
    pub created: bool,
}

/// What a delete did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// The path.
    pub path: SecretPath,
    /// Whether it is gone for good.
    pub permanent: bool,
    /// How many versions it had.
    pub version_count: i64,
    /// Until when it can be restored; not there if it cannot.
    #[serde(serialize_with = "wire::seconds_opt", skip_serializing_if = "Option::is_none")]
    pub recoverable_until: Option<OffsetDateTime>,
}

/// One version, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct SecretVersion {
    pub version: i64,
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
    pub created_by: String,
    pub state: VersionState,
    /// Whether a rotation made it; none does yet.
    pub is_rotation: bool,
    /// Until when a version that was rotated out can be read.
    #[serde(serialize_with = "wire::seconds_opt")]
    pub grace_period_ends: Option<OffsetDateTime>,
}

/// What a version is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// The one that a read without a version gives.
    Current,
    /// Older, and still readable.
    Superseded,
}

/// Which secrets to list; what is `None` does not filter.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Paths that begin with this text.
    pub prefix: Option<String>,
    /// Secrets with this tag.
    pub tag: Option<String>,
    /// Secrets of this type.
    pub secret_type: Option<SecretType>,
    /// Also those that were deleted and can be restored.
    pub include_deleted: bool,
    /// Also those that the partner shares, in the order of their paths, behind the tenant's own of the same path.
    pub include_partner: bool,
    /// Only those that have not expired and will within this time.
    pub expiring_within: Option<Duration>,
    /// Items a page: 100 unless given, 1000 at most.
    pub limit: Option<u32>,
    /// Where the previous page ended.
    pub cursor: Option<String>,
}

/// Parses a list of durations such as `30d,7d,1d`.
impl WriteOptions {
    /// Reads `notify_before`.
    ///
    /// # Errors
    /// [`Code::InvalidDuration`] naming the field.
    pub fn parse_notify_before(text: &str) -> Result<Vec<DurationText>> {
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_>>().map_err(|error: Error| {
            Error::new(Code::InvalidDuration, format!("options.notify_before: {}", error.message()))
        })
    }
}

/// The default of `notify_before`.
pub(super) const NOTIFY_BEFORE: &str = "30d,7d,1d";

/// When a secret that is deleted now can no longer be restored.
pub(super) fn recoverable_until(deleted_at: OffsetDateTime, retention: Duration) -> OffsetDateTime {
    deleted_at + retention
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_objects_are_values_and_errors_show_nothing_of_them() {
        for bad in ["[]", "\"canary\"", "1", "null", "{", "{\"a\":1} x", ""] {
            let error = SecretData::from_json(Secret::new(bad.as_bytes().to_vec())).unwrap_err();
            assert_eq!(error.code(), Code::ValidationError, "{bad}");
            assert!(!format!("{error:?}").contains("canary"));
        }
        let data = SecretData::from_json(Secret::new(br#"{"password":"canary"}"#.to_vec())).unwrap();
        assert!(!format!("{data:?}").contains("canary"));
        assert_eq!(data.decode::<Value>().unwrap(), json!({"password": "canary"}));
    }

    #[test]
    fn metadata_merges_as_rfc_7396_and_stays_in_bounds() {
        let map = |v: Value| v.as_object().unwrap().clone();
        let before =
            Metadata::new(map(json!({"owner": "a", "tags": ["b", "a", "b"], "x": {"y": 1, "z": 2}})))
                .unwrap();
        assert_eq!(before.tags(), ["a", "b"]);
        let after = before.merged(map(json!({"owner": null, "x": {"y": null, "w": 3}, "d": [1]}))).unwrap();
        assert_eq!(*after.as_map(), map(json!({"tags": ["b", "a", "b"], "x": {"z": 2, "w": 3}, "d": [1]})));
        for bad in [
            json!({"tags": "a"}),
            json!({"tags": [""]}),
            json!({"tags": [1]}),
            json!({"owner": 1}),
            json!({"x": "y".repeat(70_000)}),
        ] {
            assert_eq!(Metadata::new(map(bad)).unwrap_err().code(), Code::ValidationError);
        }
    }
}
