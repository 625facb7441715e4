//! What the two databases do not share.

use sqlx::error::DatabaseError;

/// Whether the database says that the same statement may succeed later.
pub(crate) fn is_transient(error: &dyn DatabaseError) -> bool {
    match error.code().as_deref() {
        // Serialization failure, deadlock, read-only, lock or statement timeout; out of connections, memory or
        // disk; shutting down or starting up; connection lost.
        Some(code) if code.len() == 5 => {
            ["40001", "40P01", "25006", "55P03", "57014"].contains(&code)
                || ["53", "57P", "58", "08"].iter().any(|class| code.starts_with(class))
        }
        // SQLite's extended codes carry the primary one in their low byte.
        Some(code) => code.parse().is_ok_and(|code: i64| [5, 6, 8, 10, 13].contains(&(code & 0xff))),
        None => false,
    }
}

/// Appended to a `SELECT` in a transaction that goes on to write the row. SQLite has one writer at a time
/// and no such clause.
pub(super) const LITE_LOCK_ROWS: &str = "";
/// See [`LITE_LOCK_ROWS`].
#[cfg(feature = "postgres")]
pub(super) const PG_LOCK_ROWS: &str = " FOR UPDATE";

/// Appended to a `SELECT … v` in a transaction that goes on to change those rows if nobody else is changing
/// them: it never waits, so it holds nobody up in a circle, and does not get in the way of foreign keys.
pub(super) const LITE_TAKE_ROWS: &str = "";
/// See [`LITE_TAKE_ROWS`].
#[cfg(feature = "postgres")]
pub(super) const PG_TAKE_ROWS: &str = " FOR NO KEY UPDATE OF v SKIP LOCKED";

/// The schema in SQLite's words: its names for the types, no collation, since it compares bytewise, and no
/// partitions.
pub(super) fn lite_schema(postgres: &str) -> String {
    let names = [
        ("TEXT COLLATE \"C\"", "TEXT"),
        ("TIMESTAMPTZ", "INTEGER"),
        ("BIGINT", "INTEGER"),
        ("BYTEA", "BLOB"),
        ("JSONB", "TEXT"),
        (" PARTITION BY RANGE (timestamp)", ""),
    ];
    names.iter().fold(postgres.to_owned(), |text, (from, to)| text.replace(from, to))
}
