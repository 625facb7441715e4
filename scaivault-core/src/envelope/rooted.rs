use scaivault_kms::Context;
use time::OffsetDateTime;

use super::{
    instance,
    keyring::partner_context,
    recovery::PROVIDER,
    wraps::{RootId, Wraps},
};
use crate::{
    PartnerId, Result,
    storage::{On, Query, Ts, query},
};

pub(crate) mod sql {
    pub(crate) const ROOTS: &str = "\
        SELECT id, provider, key_id, state, ciphertext, wrapped, threshold, shares, added_at, removed_at \
        FROM root_key ORDER BY id";
    /// Those that a transaction decides about; whoever else decides waits.
    pub(crate) const ROOTS_TO_LOCK: &str = "SELECT id, provider, key_id, state FROM root_key ORDER BY id";
    pub(crate) const INSERT_ROOT: &str = "\
        INSERT INTO root_key (id, provider, key_id, state, added_at) VALUES ($1, $2, $3, 'active', $4) \
        ON CONFLICT (provider, key_id) DO NOTHING";
    pub(crate) const INSERT_RECOVERY: &str = "\
        INSERT INTO root_key (id, provider, key_id, state, ciphertext, wrapped, threshold, shares, added_at) \
        VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7, $8)";
    pub(crate) const ACTIVATE_ROOT: &str = "\
        UPDATE root_key SET state = 'active', added_at = $2, removed_at = NULL WHERE id = $1 AND state <> 'active'";
    pub(crate) const REMOVING_ROOT: &str = "UPDATE root_key SET state = 'removing' WHERE id = $1";
    pub(crate) const REMOVED_ROOT: &str =
        "UPDATE root_key SET state = 'removed', removed_at = $2 WHERE id = $1 AND state = 'removing'";

    /// One that was removed, or is about to be, wraps again.
    pub(crate) const REVIVE_ROOT: &str = "\
        UPDATE root_key SET state = 'active', added_at = $3, removed_at = NULL \
        WHERE provider = $1 AND key_id = $2 AND state <> 'active'";
    pub(crate) const CAS_IN_PROVIDER: &str = "SELECT count(*) FROM pki_ca WHERE key_provider = $1";

    pub(crate) const PARTNER_KEYS: &str = "\
        SELECT id, partner_id AS owner, version, wrapped FROM partner_key WHERE id > $1 ORDER BY id LIMIT 100";
    pub(crate) const AUDIT_KEYS: &str = "\
        SELECT id, '' AS owner, version, wrapped FROM audit_key WHERE id > $1 ORDER BY id LIMIT 100";
    pub(crate) const RECOVERY_KEYS: &str = "\
        SELECT id, '' AS owner, CAST(1 AS BIGINT) AS version, wrapped FROM root_key \
        WHERE id > $1 AND wrapped IS NOT NULL AND state IN ('active', 'pending') ORDER BY id LIMIT 100";
    pub(crate) const PARTNER_KEY: &str =
        "SELECT id, partner_id AS owner, version, wrapped FROM partner_key WHERE id = $1";
    pub(crate) const AUDIT_KEY: &str =
        "SELECT id, '' AS owner, version, wrapped FROM audit_key WHERE id = $1";
    pub(crate) const RECOVERY_KEY: &str = "\
        SELECT id, '' AS owner, CAST(1 AS BIGINT) AS version, wrapped FROM root_key \
        WHERE id = $1 AND wrapped IS NOT NULL AND state IN ('active', 'pending')";
    pub(crate) const REPLACE_IN_PARTNER_KEY: &str =
        "UPDATE partner_key SET wrapped = $3 WHERE id = $1 AND wrapped = $2";
    pub(crate) const REPLACE_IN_AUDIT_KEY: &str =
        "UPDATE audit_key SET wrapped = $3 WHERE id = $1 AND wrapped = $2";
    pub(crate) const REPLACE_IN_RECOVERY_KEY: &str =
        "UPDATE root_key SET wrapped = $3 WHERE id = $1 AND wrapped = $2";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[
        ROOTS,
        ROOTS_TO_LOCK,
        INSERT_ROOT,
        INSERT_RECOVERY,
        ACTIVATE_ROOT,
        REMOVING_ROOT,
        REMOVED_ROOT,
        REVIVE_ROOT,
        CAS_IN_PROVIDER,
        PARTNER_KEYS,
        AUDIT_KEYS,
        RECOVERY_KEYS,
        PARTNER_KEY,
        AUDIT_KEY,
        RECOVERY_KEY,
        REPLACE_IN_PARTNER_KEY,
        REPLACE_IN_AUDIT_KEY,
        REPLACE_IN_RECOVERY_KEY,
    ];
}

/// A root key as the database knows it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct RootRow {
    pub(super) id: String,
    provider: String,
    key_id: String,
    pub(super) state: String,
    pub(super) ciphertext: Option<Vec<u8>>,
    pub(super) wrapped: Option<Vec<u8>>,
    pub(super) threshold: Option<i64>,
    pub(super) shares: Option<i64>,
    pub(super) added_at: Ts,
    pub(super) removed_at: Option<Ts>,
}

pub(super) const ACTIVE: &str = "active";
pub(super) const REMOVING: &str = "removing";
pub(super) const REMOVED: &str = "removed";

impl RootRow {
    pub(super) fn root(&self) -> RootId {
        RootId::new(&*self.provider, &*self.key_id)
    }

    pub(super) fn is_active(&self) -> bool {
        self.state == ACTIVE
    }

    /// Whether it wraps no more, and may have wraps still.
    pub(super) fn is_going(&self) -> bool {
        self.state == REMOVING
    }

    pub(super) fn is_recovery(&self) -> bool {
        self.provider == PROVIDER
    }
}

/// A table of keys that lie under root keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RootedTable {
    Partner,
    Audit,
    Recovery,
}

/// A key under root keys, where it is stored.
#[derive(Debug, sqlx::FromRow)]
struct Row {
    id: String,
    owner: String,
    version: i64,
    wrapped: Vec<u8>,
}

/// A key under root keys.
#[derive(Debug)]
pub(super) struct Rooted {
    pub(super) table: RootedTable,
    pub(super) id: String,
    /// The partner; empty for the vault's own keys.
    pub(super) owner: String,
    pub(super) wrapped: Vec<u8>,
    /// What its wraps are bound to.
    pub(super) context: Context,
}

impl RootedTable {
    pub(super) const ALL: [Self; 3] = [Self::Partner, Self::Audit, Self::Recovery];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Partner => "partner_key",
            Self::Audit => "audit_key",
            Self::Recovery => "root_key",
        }
    }

    fn rooted(self, row: Row) -> Result<Rooted> {
        let context = match self {
            Self::Partner => partner_context(&PartnerId::parse(&*row.owner)?, &row.id, row.version),
            Self::Audit => instance::context(instance::AUDIT, &row.id),
            Self::Recovery => instance::context(instance::RECOVERY, &row.id),
        };
        Ok(Rooted { table: self, id: row.id, owner: row.owner, wrapped: row.wrapped, context })
    }

    /// Keys after one of them, in the order of their names; none after the last.
    pub(super) async fn page(self, db: &On<'_>, after: &str) -> Result<Vec<Rooted>> {
        let page = query(match self {
            Self::Partner => sql::PARTNER_KEYS,
            Self::Audit => sql::AUDIT_KEYS,
            Self::Recovery => sql::RECOVERY_KEYS,
        });
        let rows: Vec<Row> = db.fetch_all(page.bind(after)).await?;
        rows.into_iter().map(|row| self.rooted(row)).collect()
    }

    /// One key as it is now, unless it is gone.
    pub(super) async fn one(self, db: &On<'_>, id: &str) -> Result<Option<Rooted>> {
        let one = query(match self {
            Self::Partner => sql::PARTNER_KEY,
            Self::Audit => sql::AUDIT_KEY,
            Self::Recovery => sql::RECOVERY_KEY,
        });
        db.fetch_optional(one.bind(id)).await?.map(|row| self.rooted(row)).transpose()
    }
}

impl Rooted {
    pub(super) fn wraps(&self) -> Result<Wraps, scaivault_kms::KmsError> {
        Wraps::from_bytes(&self.wrapped)
    }

    /// Puts other wraps in the place of those that were read, if they are there still.
    pub(super) fn replace<'q>(&'q self, anew: &'q [u8]) -> Query<'q> {
        query(match self.table {
            RootedTable::Partner => sql::REPLACE_IN_PARTNER_KEY,
            RootedTable::Audit => sql::REPLACE_IN_AUDIT_KEY,
            RootedTable::Recovery => sql::REPLACE_IN_RECOVERY_KEY,
        })
        .bind(&self.id)
        .bind(&self.wrapped)
        .bind(anew)
    }
}

pub(super) async fn roots(db: &On<'_>) -> Result<Vec<RootRow>> {
    db.fetch_all(query(sql::ROOTS)).await
}

pub(super) fn insert_root<'q>(id: &'q str, root: &'q RootId, now: OffsetDateTime) -> Query<'q> {
    query(sql::INSERT_ROOT).bind(id).bind(&root.provider).bind(&root.key_id).bind(now)
}
