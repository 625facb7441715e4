//! What the trail says about one secret, one identity, or a time.

use serde::Serialize;
use time::OffsetDateTime;

use super::{Action, Audit, AuditFilter, AuditLog, ops::read_page};
use crate::{
    Code, Error, Result, Scope, limits,
    pipeline::{Act, Permit},
    secrets::SecretPath,
    storage::{Ts, query},
    wire::Page,
};

/// The trail of one secret.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretTrail {
    /// The secret's path.
    pub secret_path: String,
    /// The records, newest first.
    pub logs: Page<AuditLog>,
    /// The last 30 days in figures.
    pub summary: SecretSummary,
}

/// What happened to one secret in 30 days.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SecretSummary {
    /// How often its value was read.
    pub total_reads: i64,
    /// How often it was written.
    pub total_writes: i64,
    /// How many identities read or wrote it, or tried to.
    pub unique_identities: i64,
    /// When its value was last read.
    #[serde(serialize_with = "crate::wire::seconds_opt")]
    pub last_accessed_at: Option<OffsetDateTime>,
}

/// The trail of one identity.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityTrail {
    /// The identity.
    pub identity_id: String,
    /// The records, newest first.
    pub logs: Page<AuditLog>,
    /// The last 30 days in figures.
    pub summary: IdentitySummary,
}

/// What one identity did in 30 days.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdentitySummary {
    /// Everything.
    pub total_events: i64,
    /// What succeeded.
    pub successful_events: i64,
    /// What did not.
    pub failed_events: i64,
    /// How many secrets were touched, or were to be.
    pub unique_secrets: i64,
    /// When anything was last done.
    #[serde(serialize_with = "crate::wire::seconds_opt")]
    pub last_seen_at: Option<OffsetDateTime>,
}

/// What happened in a tenant in a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditSummary {
    /// Not before this time.
    #[serde(serialize_with = "crate::wire::seconds")]
    pub from: OffsetDateTime,
    /// Not at or after this time.
    #[serde(serialize_with = "crate::wire::seconds")]
    pub to: OffsetDateTime,
    /// Everything.
    pub total_events: i64,
    /// What succeeded.
    pub successful_events: i64,
    /// What did not.
    pub failed_events: i64,
    /// How many identities did something.
    pub unique_identities: i64,
    /// How many secrets something was done to.
    pub unique_secrets: i64,
    /// How often which action.
    pub by_action: std::collections::BTreeMap<String, i64>,
    /// Who did most, most first.
    pub top_identities: Vec<Count>,
    /// To which secrets most was done, most first.
    pub top_secrets: Vec<Count>,
}

/// How often something occurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// What: an identity or a path.
    pub id: String,
    /// How often.
    pub count: i64,
}

impl<'a> Audit<'a> {
    /// The trail of one secret, whether it is there or not, and its last 30 days in figures. Needs `audit:read`.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`].
    pub async fn of_secret(
        &self,
        path: &SecretPath,
        page: (Option<u32>, Option<String>),
    ) -> Result<SecretTrail> {
        let path = path.as_str();
        let act = Act::object(Action::AuditQuery, &[Scope::AuditRead], "secret_trail", Some(path));
        let vault = self.vault;
        let work = |permit: Permit<'a>| async move {
            let (limit, cursor) = page;
            let filter = AuditFilter { path: Some(path.to_owned()), limit, cursor, ..AuditFilter::default() };
            let logs = read_page(vault, &permit, &filter).await?;
            let figures = query(sql::OF_SECRET).bind(permit.tenant()).bind(path).bind(since(&permit));
            let row: Option<(i64, i64, i64, Option<Ts>)> = permit.fetch_optional(figures).await?;
            let (total_reads, total_writes, unique_identities, last) = row.unwrap_or_default();
            let last_accessed_at = last.map(Ts::get);
            let summary = SecretSummary { total_reads, total_writes, unique_identities, last_accessed_at };
            permit.answer(SecretTrail { secret_path: path.to_owned(), logs, summary })
        };
        vault.door.perform(self.ctx, act, work).await
    }

    /// The trail of one identity, and its last 30 days in figures. Needs `audit:read`.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`].
    pub async fn of_identity(&self, id: &str, page: (Option<u32>, Option<String>)) -> Result<IdentityTrail> {
        let act = Act::object(Action::AuditQuery, &[Scope::AuditRead], "identity_trail", Some(id));
        let vault = self.vault;
        let work = |permit: Permit<'a>| async move {
            let (limit, cursor) = page;
            let filter =
                AuditFilter { identity_id: Some(id.to_owned()), limit, cursor, ..AuditFilter::default() };
            let logs = read_page(vault, &permit, &filter).await?;
            let figures = query(sql::OF_IDENTITY).bind(permit.tenant()).bind(id).bind(since(&permit));
            let row: Option<(i64, i64, i64, Option<Ts>)> = permit.fetch_optional(figures).await?;
            let (total_events, successful_events, unique_secrets, last) = row.unwrap_or_default();
            let summary = IdentitySummary {
                total_events,
                successful_events,
                failed_events: total_events - successful_events,
                unique_secrets,
                last_seen_at: last.map(Ts::get),
            };
            permit.answer(IdentityTrail { identity_id: id.to_owned(), logs, summary })
        };
        vault.door.perform(self.ctx, act, work).await
    }

    /// What happened in a time of at most 31 days, in figures; the 31 days before `to`, or now, unless given. It
    /// looks at every record of that time. Needs `audit:read`.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a longer time, or one that ends before it begins.
    pub async fn summary(
        &self,
        from: Option<OffsetDateTime>,
        to: Option<OffsetDateTime>,
    ) -> Result<AuditSummary> {
        let act = Act::object(Action::AuditQuery, &[Scope::AuditRead], "audit_summary", None);
        let vault = self.vault;
        let work = |permit: Permit<'a>| async move {
            vault.door.audit_linked(permit.tenant().as_str()).await?;
            let (from, to) = range(permit.ctx().now(), from, to)?;
            let summary = summarize(&permit, from, to).await?;
            permit.answer(summary)
        };
        vault.door.perform(self.ctx, act, work).await
    }
}

/// The range of a summary. What happens at this moment is in it, if no end was given.
fn range(
    now: OffsetDateTime,
    from: Option<OffsetDateTime>,
    to: Option<OffsetDateTime>,
) -> Result<(OffsetDateTime, OffsetDateTime)> {
    let bad = |message: &'static str| Error::new(Code::InvalidRequest, message);
    let end = to.unwrap_or_else(|| from.map_or(now, |from| now.min(from + limits::AUDIT_SUMMARY)));
    let end = if to.is_none() { end + time::Duration::microseconds(1) } else { end };
    let begin = from.unwrap_or_else(|| end - limits::AUDIT_SUMMARY);
    if begin > end {
        return Err(bad("from must not be later than to."));
    }
    if end - begin > limits::AUDIT_SUMMARY + time::Duration::microseconds(1) {
        return Err(bad("A summary covers at most 31 days: from and to are further apart."));
    }
    Ok((begin, end))
}

async fn summarize(permit: &Permit<'_>, from: OffsetDateTime, to: OffsetDateTime) -> Result<AuditSummary> {
    let bound = |sql: &'static str| query(sql).bind(permit.tenant()).bind(from).bind(to);
    let row: Option<(i64, i64, i64, i64)> = permit.fetch_optional(bound(sql::TOTALS)).await?;
    let (total_events, successful_events, unique_identities, unique_secrets) = row.unwrap_or_default();
    let by_action: Vec<(String, i64)> = permit.fetch_all(bound(sql::BY_ACTION)).await?;
    let top = |rows: Vec<(String, i64)>| rows.into_iter().map(|(id, count)| Count { id, count }).collect();
    let identities = permit.fetch_all(bound(sql::TOP_IDENTITIES).bind(limits::AUDIT_TOP)).await?;
    let secrets = permit.fetch_all(bound(sql::TOP_SECRETS).bind(limits::AUDIT_TOP)).await?;
    Ok(AuditSummary {
        from,
        to,
        total_events,
        successful_events,
        failed_events: total_events - successful_events,
        unique_identities,
        unique_secrets,
        by_action: by_action.into_iter().collect(),
        top_identities: top(identities),
        top_secrets: top(secrets),
    })
}

/// The beginning of the 30 days that figures about one secret or identity cover.
fn since(permit: &Permit<'_>) -> OffsetDateTime {
    permit.ctx().now() - time::Duration::days(30)
}

pub(crate) mod sql {
    pub(crate) const OF_SECRET: &str = "\
        SELECT count(CASE WHEN action = 'read' AND success THEN 1 END), \
        count(CASE WHEN action = 'write' AND success THEN 1 END), count(DISTINCT identity_id), \
        max(CASE WHEN action = 'read' AND success THEN timestamp END) \
        FROM audit_log WHERE tenant_id = $1 AND secret_path = $2 AND timestamp >= $3";
    pub(crate) const OF_IDENTITY: &str = "\
        SELECT count(*), count(CASE WHEN success THEN 1 END), count(DISTINCT secret_path), max(timestamp) \
        FROM audit_log WHERE tenant_id = $1 AND identity_id = $2 AND timestamp >= $3";
    pub(crate) const TOTALS: &str = "\
        SELECT count(*), count(CASE WHEN success THEN 1 END), count(DISTINCT identity_id), count(DISTINCT secret_path) \
        FROM audit_log WHERE tenant_id = $1 AND timestamp >= $2 AND timestamp < $3";
    pub(crate) const BY_ACTION: &str = "\
        SELECT action, count(*) FROM audit_log WHERE tenant_id = $1 AND timestamp >= $2 AND timestamp < $3 \
        GROUP BY action";
    pub(crate) const TOP_IDENTITIES: &str = "\
        SELECT identity_id, count(*) FROM audit_log WHERE tenant_id = $1 AND timestamp >= $2 AND timestamp < $3 \
        GROUP BY identity_id ORDER BY count(*) DESC, identity_id LIMIT $4";
    pub(crate) const TOP_SECRETS: &str = "\
        SELECT secret_path, count(*) FROM audit_log WHERE tenant_id = $1 AND timestamp >= $2 AND timestamp < $3 \
        AND secret_path IS NOT NULL GROUP BY secret_path ORDER BY count(*) DESC, secret_path LIMIT $4";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[OF_SECRET, OF_IDENTITY, TOTALS, BY_ACTION, TOP_IDENTITIES, TOP_SECRETS];
}
