use serde_json::{Map, Value};
use sqlx::types::Json;
use time::OffsetDateTime;

use super::types::{Metadata, SecretItem, SecretVersion, VersionState};
use crate::{
    Error, Result, TenantId,
    envelope::Sealed,
    storage::{Query, QueryBuilder, Ts, prefix_end, query},
};

pub(crate) mod sql {
    /// The columns of a secret without its versions.
    pub(crate) const SECRET: &str = "\
        SELECT id, path, secret_type, current_version, max_versions, metadata, notify_before, created_at, updated_at, \
        expires_at, deleted_at, last_accessed_at, notify_at FROM secret WHERE tenant_id = $1 AND path = $2";
    /// A secret and one of its versions; version 0 asks for the current one.
    pub(crate) const SECRET_AND_VERSION: &str = "\
        SELECT s.id, s.path, s.secret_type, s.current_version, s.max_versions, s.metadata, s.notify_before, s.created_at, \
        s.updated_at, s.expires_at, s.deleted_at, s.last_accessed_at, s.notify_at, v.version, v.ciphertext, v.wrapped_key, v.key_id \
        FROM secret s LEFT JOIN secret_version v ON v.tenant_id = s.tenant_id AND v.secret_id = s.id \
        AND v.version = CASE WHEN $3 = 0 THEN s.current_version ELSE $3 END \
        WHERE s.tenant_id = $1 AND s.path = $2";
    pub(crate) const INSERT: &str = "\
        INSERT INTO secret (tenant_id, path, id, secret_type, current_version, max_versions, metadata, notify_before, \
        created_at, updated_at, expires_at, notify_at) VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $8, $9, $10) \
        ON CONFLICT (tenant_id, path) DO NOTHING \
        RETURNING id, path, secret_type, current_version, max_versions, metadata, notify_before, created_at, updated_at, \
        expires_at, deleted_at, last_accessed_at, notify_at";
    pub(crate) const UPDATE: &str = "\
        UPDATE secret SET secret_type = $3, current_version = $4, max_versions = $5, metadata = $6, notify_before = $7, \
        updated_at = $8, expires_at = $9, notify_at = $10 WHERE tenant_id = $1 AND id = $2 \
        RETURNING id, path, secret_type, current_version, max_versions, metadata, notify_before, created_at, updated_at, \
        expires_at, deleted_at, last_accessed_at, notify_at";
    pub(crate) const INSERT_VERSION: &str = "\
        INSERT INTO secret_version (tenant_id, secret_id, version, ciphertext, wrapped_key, key_id, created_at, created_by) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    pub(crate) const PRUNE: &str =
        "DELETE FROM secret_version WHERE tenant_id = $1 AND secret_id = $2 AND version <= $3";
    pub(crate) const DELETE_TAGS: &str = "DELETE FROM secret_tag WHERE tenant_id = $1 AND secret_id = $2";
    pub(crate) const INSERT_TAG: &str =
        "INSERT INTO secret_tag (tenant_id, secret_id, tag, path) VALUES ($1, $2, $3, $4)";
    pub(crate) const COUNT_VERSIONS: &str = "\
        SELECT count(*) FROM secret_version WHERE tenant_id = $1 AND secret_id = $2";
    pub(crate) const VERSIONS: &str = "\
        SELECT version, created_at, created_by FROM secret_version WHERE tenant_id = $1 AND secret_id = $2 \
        ORDER BY version DESC";
    pub(crate) const SET_DELETED: &str = "UPDATE secret SET deleted_at = $3 WHERE tenant_id = $1 AND id = $2";
    pub(crate) const DELETE: &str = "DELETE FROM secret WHERE tenant_id = $1 AND id = $2";
    pub(crate) const PURGEABLE: &str = "\
        SELECT tenant_id, path FROM secret WHERE deleted_at IS NOT NULL AND deleted_at <= $1 \
        ORDER BY deleted_at LIMIT 100";
    pub(crate) const NOTIFIABLE: &str = "\
        SELECT tenant_id, path FROM secret WHERE notify_at IS NOT NULL AND notify_at <= $1 AND deleted_at IS NULL \
        ORDER BY notify_at LIMIT 100";
    pub(crate) const SET_NOTIFY: &str = "UPDATE secret SET notify_at = $3 WHERE tenant_id = $1 AND id = $2";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[
        SECRET,
        SECRET_AND_VERSION,
        INSERT,
        UPDATE,
        INSERT_VERSION,
        PRUNE,
        DELETE_TAGS,
        INSERT_TAG,
        COUNT_VERSIONS,
        VERSIONS,
        SET_DELETED,
        DELETE,
        PURGEABLE,
        NOTIFIABLE,
        SET_NOTIFY,
    ];
}

/// Rows that `NOTIFIABLE` gives at most.
pub(crate) const NOTIFIABLE_BATCH: usize = 100;

#[derive(Debug, sqlx::FromRow)]
pub(super) struct SecretRow {
    pub(super) id: String,
    pub(super) path: String,
    pub(super) secret_type: String,
    pub(super) current_version: i64,
    pub(super) max_versions: i64,
    metadata: Json<Map<String, Value>>,
    pub(super) notify_before: String,
    created_at: Ts,
    updated_at: Ts,
    expires_at: Option<Ts>,
    deleted_at: Option<Ts>,
    last_accessed_at: Option<Ts>,
    notify_at: Option<Ts>,
}

impl SecretRow {
    pub(super) fn metadata(&self) -> Result<Metadata> {
        Metadata::new(self.metadata.0.clone())
            .map_err(|_| Error::internal("stored metadata breaks its own bounds"))
    }

    pub(super) fn expires_at(&self) -> Option<OffsetDateTime> {
        self.expires_at.map(Ts::get)
    }

    pub(super) fn deleted_at(&self) -> Option<OffsetDateTime> {
        self.deleted_at.map(Ts::get)
    }

    pub(super) fn last_accessed_at(&self) -> Option<OffsetDateTime> {
        self.last_accessed_at.map(Ts::get)
    }

    pub(super) fn notify_at(&self) -> Option<OffsetDateTime> {
        self.notify_at.map(Ts::get)
    }

    /// The secret of a tenant, or of what stands for a partner.
    pub(super) fn into_item(self, of: &TenantId) -> Result<SecretItem> {
        Ok(SecretItem {
            metadata: self.metadata()?,
            scope: of.is_partner().then_some("partner"),
            path: self.path,
            secret_type: self.secret_type,
            version: self.current_version,
            max_versions: self.max_versions,
            notify_before: self.notify_before,
            created_at: self.created_at.get(),
            updated_at: self.updated_at.get(),
            expires_at: self.expires_at.map(Ts::get),
            last_accessed_at: self.last_accessed_at.map(Ts::get),
            deleted_at: self.deleted_at.map(Ts::get),
            rotation_policy_id: None,
            secret_policy_id: None,
            version_count: None,
        })
    }
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct SecretAndVersion {
    #[sqlx(flatten)]
    pub(super) secret: SecretRow,
    version: Option<i64>,
    ciphertext: Option<Vec<u8>>,
    wrapped_key: Option<Vec<u8>>,
    key_id: Option<String>,
}

impl SecretAndVersion {
    /// The version that was asked for, if it is there.
    pub(super) fn take_version(&mut self) -> Option<(i64, Sealed)> {
        let sealed = Sealed {
            ciphertext: self.ciphertext.take()?,
            wrapped_key: self.wrapped_key.take()?,
            key_id: self.key_id.take()?,
        };
        Some((self.version?, sealed))
    }
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct VersionRow {
    version: i64,
    created_at: Ts,
    created_by: String,
}

impl VersionRow {
    pub(super) fn into_version(self, current: i64) -> SecretVersion {
        SecretVersion {
            version: self.version,
            created_at: self.created_at.get(),
            created_by: self.created_by,
            state: if self.version == current { VersionState::Current } else { VersionState::Superseded },
            is_rotation: false,
            grace_period_ends: None,
        }
    }
}

pub(super) fn secret<'a>(tenant: &'a TenantId, path: &'a str) -> Query<'a> {
    query(sql::SECRET).bind(tenant).bind(path)
}

pub(super) fn secret_locked<'a>(tenant: &'a TenantId, path: &'a str, lock: &'static str) -> Query<'a> {
    let mut builder = QueryBuilder::with(sql::SECRET, [tenant.into(), path.into()]);
    builder.text(lock);
    builder.build()
}

pub(super) fn secret_and_version<'a>(tenant: &'a TenantId, path: &'a str, version: Option<i64>) -> Query<'a> {
    query(sql::SECRET_AND_VERSION).bind(tenant).bind(path).bind(version.unwrap_or(0))
}

/// The secrets on these paths, in the order of their paths.
pub(super) fn secrets<'a>(tenant: &'a TenantId, paths: &'a [String]) -> Query<'a> {
    let mut q = QueryBuilder::new(
        "SELECT id, path, secret_type, current_version, max_versions, metadata, notify_before, created_at, updated_at, \
         expires_at, deleted_at, last_accessed_at, notify_at FROM secret WHERE tenant_id = ",
    );
    q.arg(tenant).and_in("path", paths.iter().map(String::as_str)).text(" ORDER BY path");
    q.build()
}

/// One step of a list: paths after `after`, in the order of their paths.
pub(super) struct Scan<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) prefix: Option<&'a str>,
    pub(super) tag: Option<&'a str>,
    pub(super) secret_type: Option<&'static str>,
    /// Also rows deleted after this time; none of the deleted if `None`.
    pub(super) deleted_after: Option<OffsetDateTime>,
    /// Only rows that expire after the first and not after the second of these times.
    pub(super) expiring: Option<(OffsetDateTime, OffsetDateTime)>,
    pub(super) after: Option<&'a str>,
    pub(super) limit: i64,
}

impl<'a> Scan<'a> {
    pub(super) fn query(&self) -> Query<'a> {
        let (mut q, path, after, from, before) = match self.tag {
            None => {
                let mut q = QueryBuilder::new("SELECT s.path FROM secret s WHERE s.tenant_id = ");
                q.arg(self.tenant);
                (q, " ORDER BY s.path LIMIT ", "s.path > ", "s.path >= ", "s.path < ")
            }
            // In the order of the tag's paths.
            Some(tag) => {
                let mut q = QueryBuilder::new(
                    "SELECT t.path FROM secret_tag t JOIN secret s ON s.tenant_id = t.tenant_id AND s.id = t.secret_id \
                     WHERE t.tenant_id = ",
                );
                q.arg(self.tenant).and("t.tag = ", Some(tag));
                (q, " ORDER BY t.path LIMIT ", "t.path > ", "t.path >= ", "t.path < ")
            }
        };
        q.and(after, self.after);
        if let Some(prefix) = self.prefix {
            q.and(from, Some(prefix)).and(before, prefix_end(prefix));
        }
        q.and("s.secret_type = ", self.secret_type);
        match self.deleted_after {
            None => q.text(" AND s.deleted_at IS NULL"),
            Some(time) => q.text(" AND (s.deleted_at IS NULL OR s.deleted_at > ").arg(time).text(")"),
        };
        if let Some((after, until)) = self.expiring {
            q.and("s.expires_at > ", Some(after)).and("s.expires_at <= ", Some(until));
        }
        q.text(path).arg(self.limit);
        q.build()
    }
}
