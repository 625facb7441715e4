//! Strict JSON (RFC 8259): one object, UTF-8, no name twice, bounded depth; then a type that has to fit.

mod node;
mod scan;

use http::{HeaderMap, header};
use scaivault_core::{Code, Error, Result};
use serde::de::DeserializeOwned;

/// Decodes one JSON object.
///
/// Stricter than serde's derive on its own: members that a struct does not have are refused whether or not
/// it says `deny_unknown_fields` (a struct with `flatten` decides for itself), and an array never stands in
/// for a struct. `serde_json::value::RawValue` fields keep their text as it was sent.
///
/// # Errors
/// [`Code::InvalidRequest`] for what is not strict JSON or not an object; [`Code::ValidationError`] with
/// `details.fields` for members that are unknown, missing or of the wrong type. Neither ever repeats a value.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let Ok(text) = std::str::from_utf8(body) else { return Err(invalid("The body is not UTF-8.")) };
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(invalid("The request needs a JSON object as its body."));
    }
    scan::check(text)?;
    if !text.starts_with('{') {
        return Err(invalid("The body must be a JSON object."));
    }
    T::deserialize(node::Node::new(text)).map_err(super::fault::Fault::into_fields)
}

/// Refuses a body that is not labelled as JSON; an absent label is fine.
pub(crate) fn check_media_type(headers: &HeaderMap) -> Result<()> {
    if headers.contains_key(header::CONTENT_TYPE) {
        check_media(headers, "application/json")
    } else {
        plain(headers)
    }
}

/// Refuses a body that is not labelled as `media`, with or without parameters.
pub(crate) fn check_media(headers: &HeaderMap, media: &str) -> Result<()> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let essence = values.next().and_then(|value| value.to_str().ok()).and_then(|text| text.split(';').next());
    match essence {
        Some(text) if values.next().is_none() && text.trim().eq_ignore_ascii_case(media) => plain(headers),
        _ => Err(Error::new(Code::UnsupportedMediaType, format!("The Content-Type must be {media}."))),
    }
}

/// Refuses a compressed body: what it grows to is not bounded by what was sent.
fn plain(headers: &HeaderMap) -> Result<()> {
    let identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(identity) {
        return Ok(());
    }
    Err(Error::new(Code::UnsupportedMediaType, "A body with a Content-Encoding is not read."))
}

fn invalid(message: &'static str) -> Error {
    Error::new(Code::InvalidRequest, message)
}

#[cfg(test)]
mod tests;
