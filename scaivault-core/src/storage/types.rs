use serde::Serialize;
#[cfg(feature = "postgres")]
use sqlx::Postgres;
use sqlx::{Decode, Encode, Sqlite, Type, encode::IsNull, error::BoxDynError};
use time::OffsetDateTime;

/// A point in time as both databases keep it: whole microseconds, UTC. `TIMESTAMPTZ` on PostgreSQL,
/// an integer on SQLite, whose text form of a time does not sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ts(OffsetDateTime);

impl Ts {
    pub(crate) fn get(self) -> OffsetDateTime {
        self.0
    }

    /// Since 1970.
    pub(crate) fn micros(self) -> i64 {
        // Years up to 9999 fit an i64 of microseconds.
        i64::try_from(self.0.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
    }
}

impl From<OffsetDateTime> for Ts {
    /// Drops what is below a microsecond, so that what is read equals what was written.
    fn from(time: OffsetDateTime) -> Self {
        let whole = time.microsecond() * 1000;
        Self(time.replace_nanosecond(whole).unwrap_or(time))
    }
}

impl Type<Sqlite> for Ts {
    fn type_info() -> sqlx::sqlite::SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }

    fn compatible(ty: &sqlx::sqlite::SqliteTypeInfo) -> bool {
        <i64 as Type<Sqlite>>::compatible(ty)
    }
}

impl Encode<'_, Sqlite> for Ts {
    fn encode_by_ref(&self, buffer: &mut sqlx::sqlite::SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<'_, Sqlite>>::encode(self.micros(), buffer)
    }
}

impl<'r> Decode<'r, Sqlite> for Ts {
    fn decode(value: sqlx::sqlite::SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<'r, Sqlite>>::decode(value)?;
        Ok(Self(OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)?))
    }
}

#[cfg(feature = "postgres")]
impl Type<Postgres> for Ts {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <OffsetDateTime as Type<Postgres>>::type_info()
    }
}

#[cfg(feature = "postgres")]
impl Encode<'_, Postgres> for Ts {
    fn encode_by_ref(&self, buffer: &mut sqlx::postgres::PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <OffsetDateTime as Encode<'_, Postgres>>::encode_by_ref(&self.0, buffer)
    }
}

#[cfg(feature = "postgres")]
impl<'r> Decode<'r, Postgres> for Ts {
    fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(<OffsetDateTime as Decode<'r, Postgres>>::decode(value)?))
    }
}

/// One parameter of a statement. `None` is SQL's NULL of that type.
#[derive(Clone, Debug)]
pub(crate) enum Arg<'a> {
    Text(Option<&'a str>),
    Owned(String),
    Int(Option<i64>),
    Bool(bool),
    Time(Option<Ts>),
    Bytes(Option<&'a [u8]>),
    Json(serde_json::Value),
}

impl Arg<'_> {
    /// Whether there is a NUL in any text of it.
    pub(super) fn has_nul(&self) -> bool {
        match self {
            Self::Text(Some(text)) => text.contains('\0'),
            Self::Owned(text) => text.contains('\0'),
            Self::Json(value) => has_nul(value),
            Self::Text(None) | Self::Int(_) | Self::Bool(_) | Self::Time(_) | Self::Bytes(_) => false,
        }
    }
}

/// Whether there is a NUL in any text or key of a JSON value.
pub(crate) fn has_nul(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<&'a String> for Arg<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<Option<&'a str>> for Arg<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Arg<'_> {
    fn from(text: String) -> Self {
        Self::Owned(text)
    }
}

impl From<i64> for Arg<'_> {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<bool> for Arg<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<OffsetDateTime> for Arg<'_> {
    fn from(time: OffsetDateTime) -> Self {
        Self::Time(Some(time.into()))
    }
}

impl From<Option<OffsetDateTime>> for Arg<'_> {
    fn from(time: Option<OffsetDateTime>) -> Self {
        Self::Time(time.map(Ts::from))
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl<'a> From<&'a Vec<u8>> for Arg<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl<'a> From<Option<&'a [u8]>> for Arg<'a> {
    fn from(bytes: Option<&'a [u8]>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<serde_json::Value> for Arg<'_> {
    fn from(value: serde_json::Value) -> Self {
        Self::Json(value)
    }
}

impl<'a> From<&'a crate::TenantId> for Arg<'a> {
    fn from(id: &'a crate::TenantId) -> Self {
        Self::Text(Some(id.as_str()))
    }
}

impl<'a> From<&'a crate::PartnerId> for Arg<'a> {
    fn from(id: &'a crate::PartnerId) -> Self {
        Self::Text(Some(id.as_str()))
    }
}

/// A JSON document for a `JSONB` column.
pub(crate) fn json<T: Serialize>(value: &T) -> crate::Result<Arg<'static>> {
    serde_json::to_value(value).map(Arg::Json).map_err(crate::Error::internal)
}
