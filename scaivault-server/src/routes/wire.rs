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

/// Whether the caller would rather have PEM than `otherwise`, which the route gives without being asked: by the weights of
/// the two (RFC 9110, 12.5.1), and if they are the same, by what is named first. A wildcard does not name anything.
pub(super) fn wants_pem(headers: &HeaderMap, otherwise: &str) -> bool {
    let accepts = headers.get_all(http::header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut pem, mut named, mut any) = (0, None, 0);
    for range in accepts.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';');
        let media = parts.next().unwrap_or_default().trim();
        let weight = weight(parts).unwrap_or_default();
        if PEM_MEDIA.iter().any(|pem| media.eq_ignore_ascii_case(pem)) {
            // Later ones of the same weight as the other lose.
            pem = if named.is_some_and(|named| named >= weight) { pem } else { pem.max(weight) };
        } else if media.eq_ignore_ascii_case(otherwise) {
            named = named.max(Some(weight));
        } else if media == "*/*" || media.eq_ignore_ascii_case("application/*") {
            any = any.max(weight);
        }
    }
    match named {
        Some(named) => pem > 0 && pem >= named,
        None => pem > 0 && pem >= any,
    }
}

/// The weight of a media range in thousandths, by its parameters; none if it is malformed.
fn weight<'a>(parameters: impl Iterator<Item = &'a str>) -> Option<u16> {
    let mut parameters = parameters.filter_map(|parameter| parameter.split_once('='));
    let Some((_, value)) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("q")) else {
        return Some(1000);
    };
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// The media type of most answers.
pub(super) const JSON: &str = "application/json";
/// The media type of PEM answers.
pub(super) const PEM: &str = "application/x-pem-file";
const PEM_MEDIA: &[&str] = &[PEM, "application/pem-certificate-chain", "text/plain"];

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::ACCEPT};

    use super::*;

    #[test]
    fn pem_is_given_to_those_who_would_rather_have_it() {
        for (accept, pem) in [
            ("application/x-pem-file", true),
            ("text/html, application/X-PEM-File;q=0.5", true),
            ("text/plain", true),
            ("*/*", false),
            ("*/*;q=0.1, application/x-pem-file", true),
            ("*/*, application/x-pem-file", true),
            ("*/*, application/x-pem-file;q=0.9", false),
            ("application/pkix-crl", false),
            ("application/x-pem-file;q=0, application/pkix-crl", false),
            ("application/x-pem-file; Q=0.000", false),
            ("application/pkix-crl, application/x-pem-file", false),
            ("application/x-pem-file, application/pkix-crl", true),
            ("application/x-pem-file;q=0.4, application/pkix-crl;q=0.5", false),
            ("application/pkix-crl;q=0.4, application/x-pem-file;q=0.5", true),
            ("application/pkix-crl;q=0, application/x-pem-file;q=0.001", true),
            ("application/pkix-crl;q=0.5, text/plain, application/x-pem-file;q=0.1", true),
            ("application/x-pem-file;q=2", false),
            ("application/x-pem-file;q=1.000", true),
            ("application/x-pem-file;q=x, text/plain;q=0.0001", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(wants_pem(&headers, "application/pkix-crl"), pem, "{accept:?}");
        }
        assert!(!wants_pem(&HeaderMap::new(), JSON));
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
