//! How values look on the wire: times in RFC 3339 with `Z`, names in snake case, cursors sealed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer, de::DeserializeOwned};
use time::{OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description};

use crate::{Code, Error, Result, envelope::TenantKeys};

const SECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const MICROS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// A time in whole seconds, such as `2026-11-22T02:29:00Z`.
#[must_use]
pub fn rfc3339(time: OffsetDateTime) -> String {
    time.to_offset(UtcOffset::UTC).format(SECONDS).unwrap_or_default()
}

pub(crate) fn seconds<S: Serializer>(time: &OffsetDateTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&rfc3339(*time))
}

pub(crate) fn seconds_opt<S: Serializer>(time: &Option<OffsetDateTime>, to: S) -> Result<S::Ok, S::Error> {
    time.map(rfc3339).serialize(to)
}

pub(crate) fn micros<S: Serializer>(time: &OffsetDateTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time.to_offset(UtcOffset::UTC).format(MICROS).unwrap_or_default())
}

/// Where a page ended, sealed under a key of the tenant: it cannot be read (the last row looked at may be
/// one that the caller must not know of), made up, or used for another list or other filters.
pub(crate) fn seal_cursor(
    keys: &TenantKeys,
    list: &str,
    filter: &impl Serialize,
    last: &impl Serialize,
) -> Result<String> {
    let last = serde_json::to_vec(last).map_err(Error::internal)?;
    Ok(URL_SAFE_NO_PAD.encode(keys.seal_token("cursor", &cursor_aad(list, filter)?, &last)?))
}

/// Opens what [`seal_cursor`] made for the same list and filters.
///
/// # Errors
/// [`Code::InvalidCursor`] for anything else.
pub(crate) fn open_cursor<T: DeserializeOwned>(
    keys: &TenantKeys,
    list: &str,
    filter: &impl Serialize,
    cursor: &str,
) -> Result<T> {
    let invalid =
        || Error::new(Code::InvalidCursor, "cursor: not one of ours for this list and these filters");
    let sealed = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
    let last = keys.open_token("cursor", &cursor_aad(list, filter)?, &sealed)?.ok_or_else(invalid)?;
    serde_json::from_slice(last.expose()).map_err(|_| invalid())
}

fn cursor_aad(list: &str, filter: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(&(list, filter)).map_err(Error::internal)
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<String>,
}

impl<T> Page<T> {
    /// Whether there is more.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.cursor.is_some()
    }

    pub(crate) fn try_map<U>(self, into: impl FnMut(T) -> Result<U>) -> Result<Page<U>> {
        Ok(Page { items: self.items.into_iter().map(into).collect::<Result<_>>()?, cursor: self.cursor })
    }
}

/// Cuts what a query gave for `wanted + 1` rows to a page: the row more says whether there is another, and the
/// last row that is kept where that one begins.
pub(crate) fn cut<R, L: Serialize>(
    mut rows: Vec<R>,
    wanted: usize,
    (keys, list, filter): (&TenantKeys, &str, &impl Serialize),
    place: impl Fn(&R) -> L,
) -> Result<Page<R>> {
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    let cursor = match rows.last().filter(|_| more) {
        Some(last) => Some(seal_cursor(keys, list, filter, &place(last))?),
        None => None,
    };
    Ok(Page { items: rows, cursor })
}

/// A page size: 100 unless given, between 1 and 1000.
pub(crate) fn page_size(limit: Option<u32>) -> usize {
    let limit = limit.filter(|l| *l > 0).unwrap_or(crate::limits::PAGE_DEFAULT);
    limit.min(crate::limits::PAGE_MAX) as usize
}
