//! Pieces that several handlers decode or encode alike.

use http::HeaderMap;
use scaivault_core::{Code, Ctx, DurationText, Error, Page, Result};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Caller;
use crate::http::query::Limit;

/// The query of a list without filters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PageQuery {
    pub(super) limit: Option<Limit>,
    pub(super) cursor: Option<String>,
}

/// The body of a request that says all by its path.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Nothing {}

/// A field that may be absent or null, which is the same.
pub(super) fn or_default<'de, D, T>(from: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// A page under its resource's name: `{"policies": [...], "cursor": null, "has_more": false}`.
pub(super) fn envelope<T: Serialize>(name: &str, page: Page<T>) -> Result<serde_json::Value> {
    let has_more = page.has_more();
    let items = serde_json::to_value(page.items).map_err(Error::internal)?;
    Ok(serde_json::json!({ name: items, "cursor": page.cursor, "has_more": has_more }))
}

/// Whether the tenant itself is meant, or what its partner gives to all of his tenants.
pub(super) fn scoped(ctx: &Caller, scope: Option<&str>) -> Result<Caller> {
    match scope {
        None | Some("tenant") => Ok(Caller::clone(ctx)),
        Some("partner") => Ok(Caller::new(Ctx::clone(ctx).in_partner())),
        Some(_) => Err(Error::field("scope", "must be tenant or partner")),
    }
}

/// A duration in a field of a body or a query.
pub(super) fn duration(field: &str, text: &str) -> Result<DurationText> {
    text.parse()
        .map_err(|error: Error| Error::new(Code::InvalidDuration, format!("{field}: {}", error.message())))
}

/// A time in a field of a body: RFC 3339 with an offset.
pub(super) fn time_field(field: &str, text: &str) -> Result<OffsetDateTime> {
    parse_time(text).ok_or_else(|| Error::field(field, "must be a time such as 2026-11-22T02:29:00Z"))
}

/// A time in a query parameter.
pub(super) fn time_parameter(name: &str, text: &str) -> Result<OffsetDateTime> {
    let message = || format!("Query parameter {name}: must be a time such as 2026-11-22T02:29:00Z.");
    parse_time(text).ok_or_else(|| Error::new(Code::InvalidRequest, message()))
}

fn parse_time(text: &str) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(time::UtcOffset::UTC)?;
    (1970..=9999).contains(&time.year()).then_some(time)
}

/// Whether the caller would rather have PEM than what the route gives without being asked.
pub(super) fn wants_pem(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(http::header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|media| {
        let media = media.split(';').next().unwrap_or_default().trim();
        PEM_MEDIA.iter().any(|pem| media.eq_ignore_ascii_case(pem))
    })
}

/// The media type of PEM answers.
pub(super) const PEM: &str = "application/x-pem-file";
const PEM_MEDIA: &[&str] = &[PEM, "application/pem-certificate-chain", "text/plain"];

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::ACCEPT};

    use super::*;

    #[test]
    fn pem_is_given_to_those_who_name_it() {
        for (accept, pem) in [
            ("application/x-pem-file", true),
            ("application/json, application/X-PEM-File;q=0.5", true),
            ("text/plain", true),
            ("*/*", false),
            ("application/pkix-crl", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(wants_pem(&headers), pem, "{accept:?}");
        }
        assert!(!wants_pem(&HeaderMap::new()));
    }

    #[test]
    fn times_are_rfc_3339_with_an_offset() {
        assert_eq!(parse_time("2026-11-22T02:29:00Z"), parse_time("2026-11-22T03:29:00+01:00"));
        for bad in [
            "",
            "2026-11-22",
            "2026-11-22T02:29:00",
            "now",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(parse_time(bad), None, "{bad:?}");
        }
    }
}
