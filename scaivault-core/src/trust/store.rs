use sqlx::types::Json;

use super::{Trust, TrustDocument, TrustWrite};
use crate::{
    Error, Result, TenantId,
    storage::{Query, QueryBuilder, Ts},
};

pub(crate) mod sql {
    pub(crate) const TRUST: &str = "\
        SELECT id, document, created_at, created_by FROM trust WHERE tenant_id = $1 AND id = $2";
    pub(crate) const OF_ISSUER: &str = "\
        SELECT id, document, created_at, created_by FROM trust WHERE tenant_id = $1 AND issuer = $2 ORDER BY id";
    pub(crate) const COUNT: &str = "SELECT count(*) FROM trust WHERE tenant_id = $1";
    pub(crate) const INSERT: &str = "\
        INSERT INTO trust (tenant_id, id, name, name_key, issuer, document, created_at, created_by) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id, name_key) DO NOTHING";
    pub(crate) const DELETE: &str = "DELETE FROM trust WHERE tenant_id = $1 AND id = $2";
    pub(crate) const USED: &str =
        "SELECT count(*) FROM trust_use WHERE tenant_id = $1 AND trust_id = $2 AND proof = $3";
    pub(crate) const USE: &str = "\
        INSERT INTO trust_use (tenant_id, trust_id, proof, expires_at) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (tenant_id, trust_id, proof) DO NOTHING";
    pub(crate) const FORGET_USED: &str = "DELETE FROM trust_use WHERE tenant_id = $1 AND expires_at < $2";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[TRUST, OF_ISSUER, COUNT, INSERT, DELETE, USED, USE, FORGET_USED];
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct TrustRow {
    pub(super) id: String,
    document: Json<TrustWrite>,
    created_at: Ts,
    created_by: String,
}

impl TrustRow {
    /// The record, checked again: what we do not understand must never let anybody in.
    pub(super) fn into_trust(self) -> Result<Trust> {
        let document = TrustDocument::parse(self.document.0)
            .map_err(|error| Error::internal(format!("stored trust {}: {error}", self.id)))?;
        Ok(Trust { id: self.id, document, created_at: self.created_at.get(), created_by: self.created_by })
    }
}

pub(super) fn page<'a>(tenant: &'a TenantId, after: Option<&'a str>, limit: i64) -> Query<'a> {
    let mut q =
        QueryBuilder::new("SELECT id, document, created_at, created_by FROM trust WHERE tenant_id = ");
    q.arg(tenant).and("id > ", after);
    q.text(" ORDER BY id LIMIT ").arg(limit);
    q.build()
}
