use time::OffsetDateTime;

use super::types::RowCounts;
use crate::{
    Error, PartnerId, TenantId, limits,
    secrets::version_slot,
    storage::{Query, QueryBuilder, Ts, query},
};

pub(crate) mod sql {
    pub(crate) const TENANT_KEYS: &str = "\
        SELECT t.id, t.version, t.wrapped, t.created_at, t.partner_key_id, p.version AS partner_version, \
        p.wrapped AS partner_wrapped FROM tenant_key t JOIN partner_key p ON p.id = t.partner_key_id \
        WHERE t.tenant_id = $1 ORDER BY t.version";
    pub(crate) const INSERT_TENANT_KEY: &str = "\
        INSERT INTO tenant_key (id, tenant_id, version, partner_key_id, wrapped, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, version) DO NOTHING";
    pub(crate) const NEWEST_PARTNER_KEY: &str = "\
        SELECT id, version, wrapped FROM partner_key WHERE partner_id = $1 ORDER BY version DESC LIMIT 1";
    pub(crate) const INSERT_PARTNER_KEY: &str = "\
        INSERT INTO partner_key (id, partner_id, version, wrapped, created_at) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (partner_id, version) DO NOTHING";

    pub(crate) const EVERY_PARTNER_KEY: &str = "\
        SELECT p.id, p.partner_id, p.version, p.wrapped, p.created_at, p.retired_at, \
        (SELECT count(*) FROM tenant_key t WHERE t.partner_key_id = p.id) AS tenant_keys \
        FROM partner_key p WHERE p.id > $1 ORDER BY p.id LIMIT $2";
    pub(crate) const RETIRE_PARTNER_KEYS: &str = "\
        UPDATE partner_key SET retired_at = $3, retired_under = $4 \
        WHERE partner_id = $1 AND version < $2 AND retired_at IS NULL";
    pub(crate) const RETIRED_PARTNER_KEYS: &str = "\
        SELECT id, partner_id, version, wrapped, retired_under FROM partner_key \
        WHERE retired_at IS NOT NULL AND id > $1 ORDER BY id LIMIT 100";
    pub(crate) const RETIRED_OF_PARTNER: &str =
        "SELECT count(*) FROM partner_key WHERE partner_id = $1 AND retired_at IS NOT NULL";
    pub(crate) const UNDER_PARTNER_KEY: &str = "SELECT count(*) FROM tenant_key WHERE partner_key_id = $1";
    /// Tenant keys under a partner key; the end of the statement takes them.
    pub(crate) const TAKE_TENANT_KEYS: &str = "\
        SELECT v.id, v.tenant_id, v.version, v.wrapped, v.partner_key_id FROM tenant_key v \
        WHERE v.partner_key_id = $1 AND v.id > $2 ORDER BY v.id LIMIT $3";
    pub(crate) const REWRAP_TENANT_KEY: &str = "\
        UPDATE tenant_key SET partner_key_id = $4, wrapped = $5 \
        WHERE id = $1 AND partner_key_id = $2 AND wrapped = $3";
    pub(crate) const DESTROY_PARTNER_KEY: &str = "\
        DELETE FROM partner_key WHERE id = $1 AND retired_at IS NOT NULL \
        AND NOT EXISTS (SELECT 1 FROM tenant_key WHERE partner_key_id = $1)";

    pub(crate) const EVERY_TENANT_KEY: &str = "\
        SELECT id, tenant_id, version, partner_key_id, created_at, retired_at, drained_at FROM tenant_key \
        WHERE (tenant_id, version) > ($1, $2) ORDER BY tenant_id, version LIMIT $3";
    pub(crate) const RETIRE_TENANT_KEYS: &str = "\
        UPDATE tenant_key SET retired_at = $3 WHERE tenant_id = $1 AND version < $2 AND retired_at IS NULL";
    /// Retired keys of all tenants, or of one; with the key that seals now.
    pub(crate) const RETIRED_TENANT_KEYS: &str = "\
        SELECT t.id, t.tenant_id, t.retired_at, t.drained_at, \
        (SELECT n.id FROM tenant_key n WHERE n.tenant_id = t.tenant_id ORDER BY n.version DESC LIMIT 1) AS newest \
        FROM tenant_key t WHERE t.retired_at IS NOT NULL AND t.id > $1 AND ($2 = '' OR t.tenant_id = $2) \
        ORDER BY t.id LIMIT 100";
    /// Takes from what a key may still seal.
    pub(crate) const RESERVE_WRAPS: &str =
        "UPDATE tenant_key SET wraps = wraps + $2 WHERE id = $1 AND wraps + $2 <= $3";
    pub(crate) const WORN: &str = "\
        SELECT tenant_id FROM tenant_key WHERE retired_at IS NULL AND wraps >= $1 AND tenant_id > $2 \
        ORDER BY tenant_id LIMIT 100";
    pub(crate) const IS_WORN: &str = "SELECT count(*) FROM tenant_key WHERE id = $1 AND wraps >= $2";
    /// What was found under a drained key starts its time anew.
    pub(crate) const STILL_IN_USE: &str =
        "UPDATE tenant_key SET drained_at = $2 WHERE id = $1 AND drained_at < $2";
    pub(crate) const UNDRAINED: &str = "\
        SELECT count(*) FROM tenant_key WHERE tenant_id = $1 AND retired_at IS NOT NULL AND drained_at IS NULL";
    pub(crate) const DRAINED: &str =
        "UPDATE tenant_key SET drained_at = $2 WHERE id = $1 AND retired_at IS NOT NULL";
    /// Only if nothing was found under it since $2; and were a row to come in between, its reference would
    /// refuse this.
    pub(crate) const DESTROY_TENANT_KEY: &str = "\
        DELETE FROM tenant_key WHERE id = $1 AND retired_at <= $2 AND drained_at <= $2 \
        AND NOT EXISTS (SELECT 1 FROM secret_version WHERE key_id = $1) \
        AND NOT EXISTS (SELECT 1 FROM pki_ca WHERE key_id = $1) \
        AND NOT EXISTS (SELECT 1 FROM pki_certificate WHERE key_id = $1) \
        AND NOT EXISTS (SELECT 1 FROM pki_numbering WHERE key_id = $1)";
    pub(crate) const UNDER_TENANT_KEY: &str = "\
        SELECT (SELECT count(*) FROM secret_version WHERE key_id = $1), \
        (SELECT count(*) FROM pki_ca WHERE key_id = $1), (SELECT count(*) FROM pki_certificate WHERE key_id = $1), \
        (SELECT count(*) FROM pki_numbering WHERE key_id = $1)";
    pub(crate) const TENANTS_WITH_KEYS: &str = "\
        SELECT t.tenant_id, t.partner_id FROM tenant t WHERE t.tenant_id > $1 \
        AND EXISTS (SELECT 1 FROM tenant_key k WHERE k.tenant_id = t.tenant_id) ORDER BY t.tenant_id LIMIT 100";
    pub(crate) const HOLD_ROOT: &str = "SELECT id FROM root_key WHERE id = $1 AND state = 'active'";

    pub(crate) const COUNT_PARTNER_KEYS: &str = "SELECT count(*) FROM partner_key";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[
        COUNT_PARTNER_KEYS,
        TENANT_KEYS,
        INSERT_TENANT_KEY,
        NEWEST_PARTNER_KEY,
        INSERT_PARTNER_KEY,
        EVERY_PARTNER_KEY,
        RETIRE_PARTNER_KEYS,
        RETIRED_PARTNER_KEYS,
        RETIRED_OF_PARTNER,
        UNDER_PARTNER_KEY,
        TAKE_TENANT_KEYS,
        REWRAP_TENANT_KEY,
        DESTROY_PARTNER_KEY,
        EVERY_TENANT_KEY,
        RETIRE_TENANT_KEYS,
        RETIRED_TENANT_KEYS,
        RESERVE_WRAPS,
        WORN,
        IS_WORN,
        STILL_IN_USE,
        UNDRAINED,
        DRAINED,
        DESTROY_TENANT_KEY,
        UNDER_TENANT_KEY,
        TENANTS_WITH_KEYS,
        HOLD_ROOT,
    ];
}

/// A partner key, under the root key.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct PartnerKeyRow {
    pub(super) id: String,
    pub(super) version: i64,
    pub(super) wrapped: Vec<u8>,
}

/// A tenant key, under a partner key.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct TenantKeyRow {
    pub(super) id: String,
    pub(super) version: i64,
    pub(super) wrapped: Vec<u8>,
    pub(super) partner_key_id: String,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct TenantKeyAndPartner {
    pub(super) id: String,
    version: i64,
    wrapped: Vec<u8>,
    pub(super) created_at: Ts,
    partner_key_id: String,
    partner_version: i64,
    partner_wrapped: Vec<u8>,
}

impl TenantKeyAndPartner {
    pub(super) fn parts(&self) -> (TenantKeyRow, PartnerKeyRow) {
        let key = TenantKeyRow {
            id: self.id.clone(),
            version: self.version,
            wrapped: self.wrapped.clone(),
            partner_key_id: self.partner_key_id.clone(),
        };
        let above = PartnerKeyRow {
            id: self.partner_key_id.clone(),
            version: self.partner_version,
            wrapped: self.partner_wrapped.clone(),
        };
        (key, above)
    }
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct EveryPartnerKey {
    #[sqlx(flatten)]
    pub(super) key: PartnerKeyRow,
    pub(super) partner_id: String,
    pub(super) created_at: Ts,
    pub(super) retired_at: Option<Ts>,
    pub(super) tenant_keys: i64,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct RetiredPartnerKey {
    #[sqlx(flatten)]
    pub(super) key: PartnerKeyRow,
    pub(super) partner_id: String,
    pub(super) retired_under: String,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct EveryTenantKey {
    pub(super) id: String,
    pub(super) tenant_id: String,
    pub(super) version: i64,
    pub(super) partner_key_id: String,
    pub(super) created_at: Ts,
    pub(super) retired_at: Option<Ts>,
    pub(super) drained_at: Option<Ts>,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct RetiredTenantKey {
    pub(super) id: String,
    pub(super) tenant_id: String,
    pub(super) retired_at: Ts,
    pub(super) drained_at: Option<Ts>,
    pub(super) newest: String,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct TakenTenantKey {
    #[sqlx(flatten)]
    pub(super) key: TenantKeyRow,
    pub(super) tenant_id: String,
}

/// A table whose rows have a data key of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealedTable {
    SecretVersion,
    Ca,
    Certificate,
    Numbering,
}

/// The wrap of one row, and what names the row in its slot.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct WrapRow {
    pub(super) row_id: String,
    pub(super) version: i64,
    path: String,
    pub(super) wrapped_key: Vec<u8>,
    pub(super) key_id: String,
}

impl WrapRow {
    /// The row's place in the order of its table, without its wrap.
    pub(super) fn place(&self) -> Self {
        Self {
            row_id: self.row_id.clone(),
            version: self.version,
            path: String::new(),
            wrapped_key: Vec::new(),
            key_id: String::new(),
        }
    }

    /// What names the row for people.
    pub(super) fn name(&self, table: SealedTable) -> String {
        match table {
            SealedTable::SecretVersion => format!("{}/{}", self.row_id, self.version),
            SealedTable::Ca | SealedTable::Certificate | SealedTable::Numbering => self.row_id.clone(),
        }
    }
}

impl RowCounts {
    pub(super) fn of(self, table: SealedTable) -> i64 {
        match table {
            SealedTable::SecretVersion => self.secret_version,
            SealedTable::Ca => self.pki_ca,
            SealedTable::Certificate => self.pki_certificate,
            SealedTable::Numbering => self.pki_numbering,
        }
    }
}

impl SealedTable {
    pub(crate) const ALL: [Self; 4] = [Self::SecretVersion, Self::Ca, Self::Certificate, Self::Numbering];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SecretVersion => "secret_version",
            Self::Ca => "pki_ca",
            Self::Certificate => "pki_certificate",
            Self::Numbering => "pki_numbering",
        }
    }

    /// Calls `work` with the place of the row's ciphertext.
    pub(super) fn in_slot<T>(
        self,
        tenant: &TenantId,
        row: &WrapRow,
        work: impl FnOnce(&super::Slot<'_>) -> T,
    ) -> T {
        match self {
            Self::SecretVersion => work(&version_slot(tenant, &[&row.row_id, &row.path], row.version)),
            Self::Ca => work(&crate::pki::ca_key_slot(tenant, &[&row.row_id])),
            Self::Certificate => work(&crate::pki::certificate_key_slot(tenant, &[&row.row_id])),
            Self::Numbering => work(&crate::pki::numbering_slot(tenant, &[&row.row_id])),
        }
    }

    fn wraps(self) -> &'static str {
        match self {
            Self::SecretVersion => {
                "SELECT v.secret_id AS row_id, v.version, s.path, v.wrapped_key, v.key_id FROM secret_version v \
                 JOIN secret s ON s.tenant_id = v.tenant_id AND s.id = v.secret_id WHERE v.tenant_id = "
            }
            Self::Ca => {
                "SELECT v.id AS row_id, CAST(1 AS BIGINT) AS version, '' AS path, v.key_wrapped_key AS wrapped_key, \
                 v.key_id FROM pki_ca v WHERE v.key_id IS NOT NULL AND v.tenant_id = "
            }
            Self::Certificate => {
                "SELECT v.id AS row_id, CAST(1 AS BIGINT) AS version, '' AS path, v.key_wrapped_key AS wrapped_key, \
                 v.key_id FROM pki_certificate v WHERE v.key_id IS NOT NULL AND v.tenant_id = "
            }
            Self::Numbering => {
                "SELECT v.id AS row_id, CAST(1 AS BIGINT) AS version, '' AS path, v.key_wrapped_key AS wrapped_key, \
                 v.key_id FROM pki_numbering v WHERE v.tenant_id = "
            }
        }
    }

    /// Rows under a key after one of them; `take` is the end of the statement, which takes them.
    pub(super) fn take<'q>(
        self,
        tenant: &'q TenantId,
        key_id: &'q str,
        after: Option<&'q WrapRow>,
        take: &'static str,
    ) -> Query<'q> {
        let mut q = QueryBuilder::new(self.wraps());
        q.arg(tenant).text(" AND v.key_id = ").arg(key_id);
        self.after(&mut q, after, limits::REWRAP_BATCH);
        q.text(take);
        q.build()
    }

    /// The rows after one, in the order of their keys.
    pub(super) fn page<'q>(
        self,
        tenant: &'q TenantId,
        after: Option<&'q WrapRow>,
        limit: usize,
    ) -> Query<'q> {
        let mut q = QueryBuilder::new(self.wraps());
        q.arg(tenant);
        self.after(&mut q, after, limit);
        q.build()
    }

    fn after<'q>(self, q: &mut QueryBuilder<'q>, after: Option<&'q WrapRow>, limit: usize) {
        let place = match self {
            Self::SecretVersion => "(v.secret_id, v.version)",
            Self::Ca | Self::Certificate | Self::Numbering => "(v.id)",
        };
        if let Some(after) = after {
            q.text(" AND ").text(place).text(" > (").arg(&after.row_id);
            if self == Self::SecretVersion {
                q.text(", ").arg(after.version);
            }
            q.text(")");
        }
        q.text(match self {
            Self::SecretVersion => " ORDER BY v.secret_id, v.version LIMIT ",
            Self::Ca | Self::Certificate | Self::Numbering => " ORDER BY v.id LIMIT ",
        });
        q.arg(limit as i64);
    }

    /// Some rows, whichever.
    pub(super) fn some(self, tenant: &TenantId, count: usize) -> Query<'_> {
        let mut q = QueryBuilder::new(self.wraps());
        q.arg(tenant).text(" ORDER BY random() LIMIT ").arg(count as i64);
        q.build()
    }

    /// Puts new wraps where the old ones still are: `was` and `now` are those of one row each.
    pub(super) fn replace<'q>(
        self,
        tenant: &'q TenantId,
        (old, new): (&'q str, &'q str),
        rows: &'q [(WrapRow, Vec<u8>)],
    ) -> Query<'q> {
        let mut q = QueryBuilder::new("WITH n (row_id, version, was, anew) AS (VALUES ");
        for (at, (row, anew)) in rows.iter().enumerate() {
            q.text(if at == 0 { "(" } else { ", (" }).arg(&row.row_id).text(", ").arg(row.version);
            q.text(", ").arg(&row.wrapped_key).text(", ").arg(anew).text(")");
        }
        q.text(match self {
            Self::SecretVersion => ") UPDATE secret_version SET wrapped_key = n.anew, key_id = ",
            Self::Ca => ") UPDATE pki_ca SET key_wrapped_key = n.anew, key_id = ",
            Self::Certificate => ") UPDATE pki_certificate SET key_wrapped_key = n.anew, key_id = ",
            Self::Numbering => ") UPDATE pki_numbering SET key_wrapped_key = n.anew, key_id = ",
        });
        q.arg(new).text(" FROM n WHERE tenant_id = ").arg(tenant).text(" AND key_id = ").arg(old);
        q.text(match self {
            Self::SecretVersion => {
                " AND secret_id = n.row_id AND secret_version.version = n.version AND wrapped_key = n.was"
            }
            Self::Ca | Self::Certificate | Self::Numbering => {
                " AND id = n.row_id AND key_wrapped_key = n.was"
            }
        });
        q.build()
    }
}

pub(super) fn tenant_keys(tenant: &TenantId) -> Query<'_> {
    query(sql::TENANT_KEYS).bind(tenant)
}

pub(super) fn newest_partner_key(partner: &PartnerId) -> Query<'_> {
    query(sql::NEWEST_PARTNER_KEY).bind(partner)
}

pub(super) fn insert_partner_key<'q>(
    partner: &'q PartnerId,
    row: &'q PartnerKeyRow,
    now: OffsetDateTime,
) -> Query<'q> {
    query(sql::INSERT_PARTNER_KEY).bind(&row.id).bind(partner).bind(row.version).bind(&row.wrapped).bind(now)
}

/// The row of an active root key, held until the transaction ends.
pub(crate) fn hold_root<'q>(id: &'q str, lock: &'static str) -> Query<'q> {
    let mut q = QueryBuilder::with(sql::HOLD_ROOT, [id.into()]);
    q.text(lock);
    q.build()
}

pub(super) fn insert_tenant_key<'q>(
    tenant: &'q TenantId,
    row: &'q TenantKeyRow,
    now: OffsetDateTime,
) -> Query<'q> {
    query(sql::INSERT_TENANT_KEY)
        .bind(&row.id)
        .bind(tenant)
        .bind(row.version)
        .bind(&row.partner_key_id)
        .bind(&row.wrapped)
        .bind(now)
}

/// A statement whose rows are taken by a transaction.
pub(super) fn take_tenant_keys<'q>(
    partner_key: &'q str,
    after: &'q str,
    limit: usize,
    take: &'static str,
) -> Query<'q> {
    let args = [partner_key.into(), after.into(), (limit as i64).into()];
    let mut q = QueryBuilder::with(sql::TAKE_TENANT_KEYS, args);
    q.text(take);
    q.build()
}

pub(super) fn reserve_wraps(key_id: &str, step: i64, max: i64) -> Query<'_> {
    query(sql::RESERVE_WRAPS).bind(key_id).bind(step).bind(max)
}

pub(super) fn under_tenant_key(key_id: &str) -> Query<'_> {
    query(sql::UNDER_TENANT_KEY).bind(key_id)
}

impl From<(i64, i64, i64, i64)> for RowCounts {
    fn from(counts: (i64, i64, i64, i64)) -> Self {
        let (secret_version, pki_ca, pki_certificate, pki_numbering) = counts;
        Self { secret_version, pki_ca, pki_certificate, pki_numbering }
    }
}

/// Whether the database refused a statement because of a reference: something needs what was to be deleted,
/// or what was to be referred to is gone.
pub(crate) fn is_reference(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<sqlx::Error>());
    source.and_then(sqlx::Error::as_database_error).is_some_and(|e| e.is_foreign_key_violation())
}

/// How many partner keys there are.
pub(super) fn count_partner_keys() -> Query<'static> {
    query(sql::COUNT_PARTNER_KEYS)
}
