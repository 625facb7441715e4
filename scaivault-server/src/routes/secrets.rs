use std::time::Duration;

use http::{HeaderValue, header};
use scaivault_core::{
    Code, Error, Result,
    secrets::{
        Expectation, Expires, ListFilter, Metadata, SecretData, SecretItem, SecretPatch, SecretPath,
        SecretType, SecretWrite, WriteOptions,
    },
};
use scaivault_kms::Secret;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json, value::RawValue};

use super::{Caller, Request, wire};
use crate::http::{Head, Reply, query::Limit};

fn path(request: &Request) -> Result<SecretPath> {
    SecretPath::parse(request.param("path")?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReadQuery {
    version: Option<i64>,
}

/// A secret with its value, which is spliced in as it was stored.
#[derive(Serialize)]
struct ReadReply<'a> {
    #[serde(flatten)]
    item: &'a SecretItem,
    data: &'a RawValue,
}

/// `GET /v1/secrets/{path}`.
pub(super) async fn read(request: Request, ctx: Caller) -> Result<Reply> {
    let query: ReadQuery = request.query()?;
    let secret = request.app().vault.secrets(&ctx).get(&path(&request)?, query.version).await?;
    let data = serde_json::from_slice(secret.data.expose_json());
    // What the parser says of a value that it cannot read is not for the log.
    let data: &RawValue = data.map_err(|_| Error::internal("a stored value is not JSON"))?;
    Ok(etag(Reply::ok(&ReadReply { item: &secret.item, data })?, secret.item.version))
}

#[derive(Deserialize)]
struct PutBody {
    data: Box<RawValue>,
    #[serde(default)]
    secret_type: Option<String>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
    #[serde(default)]
    options: PutOptions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PutOptions {
    max_versions: Option<i64>,
    #[serde(deserialize_with = "given")]
    expires_in: Option<Option<String>>,
    #[serde(deserialize_with = "given")]
    expires_at: Option<Option<String>>,
    notify_before: Option<String>,
    cas: Option<i64>,
}

/// Tells a member that is `null` from one that is not there.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl PutOptions {
    fn parse(self) -> Result<(WriteOptions, Option<i64>)> {
        let expires = match (self.expires_in, self.expires_at) {
            (Some(Some(_)), Some(Some(_))) => {
                return Err(Error::field("options.expires_in", "stands beside options.expires_at"));
            }
            (Some(Some(text)), _) => Some(Some(Expires::In(wire::duration("options.expires_in", &text)?))),
            (_, Some(Some(text))) => Some(Some(Expires::At(wire::time_field("options.expires_at", &text)?))),
            (None, None) => None,
            // `null` says that it never expires.
            _ => Some(None),
        };
        let notify_before =
            self.notify_before.as_deref().map(WriteOptions::parse_notify_before).transpose()?;
        Ok((WriteOptions { max_versions: self.max_versions, expires, notify_before }, self.cas))
    }
}

/// `PUT /v1/secrets/{path}`.
pub(super) async fn put(mut request: Request, ctx: Caller) -> Result<Reply> {
    let path = path(&request)?;
    let body: PutBody = request.json().await?;
    // Moved, not copied: the bytes are zeroized where they are.
    let data = SecretData::from_json(Secret::new(Box::<str>::from(body.data).into_string().into_bytes()))?;
    let (options, cas) = body.options.parse()?;
    let write = SecretWrite {
        data,
        secret_type: body.secret_type.as_deref().map(SecretType::parse).transpose()?,
        metadata: body.metadata.map(Metadata::new).transpose()?,
        options,
        expect: expectation(request.head(), cas)?,
    };
    let written = request.app().vault.secrets(&ctx).put(&path, write).await?;
    let reply = if written.created { Reply::created(&written.item) } else { Reply::ok(&written.item) };
    Ok(etag(reply?, written.item.version))
}

/// Refuses a condition on a request that none is evaluated for: whoever sends one counts on it.
fn unconditional(head: &Head) -> Result<()> {
    for name in [&header::IF_MATCH, &header::IF_NONE_MATCH] {
        if head.headers().contains_key(name) {
            return Err(Error::new(
                Code::InvalidRequest,
                format!("The header {name} is understood by PUT alone."),
            ));
        }
    }
    Ok(())
}

/// What the caller expects to find, said once: by `options.cas`, by `If-Match` or by `If-None-Match`.
fn expectation(head: &Head, cas: Option<i64>) -> Result<Expectation> {
    let invalid = |message| Err(Error::new(Code::InvalidRequest, message));
    let if_match = head.header(&header::IF_MATCH)?;
    let if_none_match = head.header(&header::IF_NONE_MATCH)?;
    match (cas, if_match, if_none_match) {
        (None, None, None) => Ok(Expectation::Anything),
        (Some(0), None, None) | (None, None, Some("*")) => Ok(Expectation::Absent),
        (Some(version), None, None) if version > 0 => Ok(Expectation::Version(version)),
        (Some(_), None, None) => Err(Error::field("options.cas", "must be 0 or a version")),
        (None, Some(tag), None) => match parse_etag(tag) {
            Some(version) => Ok(Expectation::Version(version)),
            None => invalid("If-Match: must be one entity tag of a secret, such as \"v3\"."),
        },
        (None, None, Some(_)) => invalid("If-None-Match: only * is understood."),
        _ => invalid("Only one of options.cas, If-Match and If-None-Match may be given."),
    }
}

fn parse_etag(tag: &str) -> Option<i64> {
    let digits = tag.strip_prefix("\"v")?.strip_suffix('"')?;
    digits.parse().ok().filter(|version| *version > 0 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn etag(reply: Reply, version: i64) -> Reply {
    match HeaderValue::from_str(&format!("\"v{version}\"")) {
        Ok(value) => reply.header(header::ETAG, value),
        Err(_) => reply,
    }
}

#[derive(Debug, Deserialize)]
struct PatchBody {
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
    #[serde(default)]
    options: PutOptions,
}

/// `PATCH /v1/secrets/{path}`.
pub(super) async fn patch(mut request: Request, ctx: Caller) -> Result<Reply> {
    let path = path(&request)?;
    unconditional(request.head())?;
    let body: PatchBody = request.json().await?;
    let (options, cas) = body.options.parse()?;
    if cas.is_some() {
        return Err(Error::field("options.cas", "is for writing a version, which a patch does not"));
    }
    let patch = SecretPatch { metadata: body.metadata, options };
    Reply::ok(&request.app().vault.secrets(&ctx).patch(&path, patch).await?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeleteQuery {
    permanent: Option<bool>,
}

/// `DELETE /v1/secrets/{path}`.
pub(super) async fn delete(request: Request, ctx: Caller) -> Result<Reply> {
    unconditional(request.head())?;
    let query: DeleteQuery = request.query()?;
    let permanent = query.permanent.unwrap_or(false);
    Reply::ok(&request.app().vault.secrets(&ctx).delete(&path(&request)?, permanent).await?)
}

/// `POST /v1/secrets/{path}/restore`.
pub(super) async fn restore(request: Request, ctx: Caller) -> Result<Reply> {
    unconditional(request.head())?;
    Reply::ok(&request.app().vault.secrets(&ctx).restore(&path(&request)?).await?)
}

/// `GET /v1/secrets/{path}/metadata`.
pub(super) async fn metadata(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.secrets(&ctx).metadata(&path(&request)?).await?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ExpiringQuery {
    days: Option<u32>,
    prefix: Option<String>,
    limit: Option<Limit>,
    cursor: Option<String>,
}

/// `GET /v1/secrets/expiring`: what expires within so many days, 30 unless given.
pub(super) async fn expiring(request: Request, ctx: Caller) -> Result<Reply> {
    let query: ExpiringQuery = request.query()?;
    let days = query.days.unwrap_or(30);
    if !(1..=MAX_DAYS).contains(&days) {
        let message = format!("Query parameter days: must be 1 to {MAX_DAYS}.");
        return Err(Error::new(Code::InvalidRequest, message));
    }
    let filter = ListFilter {
        prefix: query.prefix,
        expiring_within: Some(Duration::from_secs(u64::from(days) * 86_400)),
        limit: query.limit.map(Limit::get),
        cursor: query.cursor,
        ..ListFilter::default()
    };
    let page = request.app().vault.secrets(&ctx).list(filter).await?;
    let has_more = page.has_more();
    Reply::ok(&ListReply { secrets: &page.items, data: &page.items, cursor: page.cursor, has_more })
}

/// Ten years.
const MAX_DAYS: u32 = 3653;

/// `GET /v1/secrets/{path}/versions`.
pub(super) async fn versions(request: Request, ctx: Caller) -> Result<Reply> {
    let versions = request.app().vault.secrets(&ctx).versions(&path(&request)?).await?;
    Reply::ok(&json!({ "versions": versions }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListQuery {
    prefix: Option<String>,
    tag: Option<String>,
    secret_type: Option<String>,
    include_deleted: Option<bool>,
    include_partner: Option<bool>,
    limit: Option<Limit>,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct ListReply<'a> {
    secrets: &'a [SecretItem],
    data: &'a [SecretItem],
    cursor: Option<String>,
    has_more: bool,
}

/// `GET /v1/secrets`. The same array stands under `secrets` and `data`: clients of both habits exist.
pub(super) async fn list(request: Request, ctx: Caller) -> Result<Reply> {
    let query: ListQuery = request.query()?;
    let filter = ListFilter {
        prefix: query.prefix,
        tag: query.tag,
        secret_type: query.secret_type.as_deref().map(SecretType::parse).transpose()?,
        include_deleted: query.include_deleted.unwrap_or(false),
        include_partner: query.include_partner.unwrap_or(false),
        expiring_within: None,
        limit: query.limit.map(Limit::get),
        cursor: query.cursor,
    };
    let page = request.app().vault.secrets(&ctx).list(filter).await?;
    let has_more = page.has_more();
    Reply::ok(&ListReply { secrets: &page.items, data: &page.items, cursor: page.cursor, has_more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_is_the_version() {
        assert_eq!(parse_etag("\"v3\""), Some(3));
        for bad in ["v3", "\"3\"", "W/\"v3\"", "\"v0\"", "\"v-1\"", "\"v+1\"", "\"v\"", "*", ""] {
            assert_eq!(parse_etag(bad), None, "{bad}");
        }
    }
}
