//! What the two databases do not share.

use sqlx::error::DatabaseError;

/// Whether the database says that the same statement may succeed later.
pub(crate) fn is_transient(error: &dyn DatabaseError) -> bool {
    match error.code().as_deref() {
        // PostgreSQL: serialization failure, deadlock, out of connections or memory or disk, shutting down,
        // starting up, read-only. SQLite: busy, locked, read-only, I/O error, full.
        Some(code) => {
            ["40001", "40P01", "25006", "5", "6", "8", "10", "13"].contains(&code)
                || ["53", "57P", "58", "08"].iter().any(|class| code.len() == 5 && code.starts_with(class))
        }
        None => false,
    }
}
