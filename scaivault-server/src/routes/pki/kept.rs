//! What others may keep: revocation lists and OCSP answers, with what they are told apart by (RFC 9110, 8.8 and 13).

use http::{HeaderMap, HeaderValue, StatusCode, header};
use scaivault_core::{Error, Result};
use time::{
    OffsetDateTime, PrimitiveDateTime, UtcOffset, format_description::BorrowedFormatItem,
    macros::format_description,
};

use crate::http::Reply;

/// A representation, and for how long it holds.
pub(super) struct Kept {
    pub(super) media: &'static str,
    pub(super) body: Vec<u8>,
    /// Tells it apart from every other one of the same address.
    pub(super) tag: String,
    pub(super) this_update: OffsetDateTime,
    pub(super) next_update: OffsetDateTime,
    /// For `Cache-Control`.
    pub(super) cache: &'static str,
}

impl Kept {
    /// 304 to who has it already, by `If-None-Match` or else by `If-Modified-Since`; otherwise 200.
    pub(super) fn reply(self, asked: &HeaderMap) -> Result<Reply> {
        let tag = format!("\"{}\"", self.tag);
        let reply = match has(asked, &tag, self.this_update) {
            true => Reply::not_modified(),
            false => Reply::raw(StatusCode::OK, self.media, self.body),
        };
        Ok(reply
            .header(header::CACHE_CONTROL, HeaderValue::from_static(self.cache))
            .header(header::ETAG, HeaderValue::from_str(&tag).map_err(Error::internal)?)
            .header(header::LAST_MODIFIED, date(self.this_update)?)
            .header(header::EXPIRES, date(self.next_update)?))
    }
}

fn has(asked: &HeaderMap, tag: &str, since: OffsetDateTime) -> bool {
    let mut tags = asked.get_all(header::IF_NONE_MATCH).iter().peekable();
    if tags.peek().is_some() {
        let tags = tags.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let mut tags = tags.map(str::trim);
        return tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag);
    }
    let known = asked.get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok()).and_then(read);
    known.is_some_and(|known| since.unix_timestamp() <= known.unix_timestamp())
}

/// RFC 9110, 5.6.7; the obsolete forms are not read.
const DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

fn date(at: OffsetDateTime) -> Result<HeaderValue> {
    let text = at.to_offset(UtcOffset::UTC).format(DATE).map_err(Error::internal)?;
    HeaderValue::from_str(&text).map_err(Error::internal)
}

fn read(text: &str) -> Option<OffsetDateTime> {
    PrimitiveDateTime::parse(text.trim(), DATE).ok().map(PrimitiveDateTime::assume_utc)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        let at = datetime!(2026-11-02 04:05:06 +02:00);
        assert_eq!(date(at).unwrap(), "Mon, 02 Nov 2026 02:05:06 GMT");
        assert_eq!(read("Mon, 02 Nov 2026 02:05:06 GMT"), Some(at));
        for bad in ["", "2026-11-02T02:05:06Z", "Mon, 02 Nov 2026 02:05:06", "Mon, 32 Nov 2026 02:05:06 GMT"]
        {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn who_names_it_has_it() {
        let since = datetime!(2026-11-02 02:05:06.7 UTC);
        let (none, modified) = (header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE);
        for (fields, expected) in [
            (vec![], false),
            (vec![(&none, "\"a\"")], true),
            (vec![(&none, "\"b\", W/\"a\"")], true),
            (vec![(&none, "*")], true),
            (vec![(&none, "a")], false),
            (vec![(&none, "\"b\"")], false),
            (vec![(&none, "\"b\""), (&none, "\"a\"")], true),
            (vec![(&modified, "Mon, 02 Nov 2026 02:05:06 GMT")], true),
            (vec![(&modified, "Mon, 02 Nov 2026 02:05:05 GMT")], false),
            (vec![(&modified, "yesterday")], false),
            (vec![(&none, "\"b\""), (&modified, "Mon, 02 Nov 2026 02:05:06 GMT")], false),
        ] {
            let mut asked = HeaderMap::new();
            for (name, value) in &fields {
                asked.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(has(&asked, "\"a\"", since), expected, "{fields:?}");
        }
    }
}
