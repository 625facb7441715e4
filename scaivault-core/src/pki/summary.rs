//! The inventory in figures.

use std::collections::BTreeMap;

use serde::Serialize;
use time::Duration;

use super::{
    Pki,
    certificate::READ,
    inventory::{self, Count, StatusFilter},
    store::{self, RevokedCa},
};
use crate::{
    Result,
    audit::Action,
    limits,
    pipeline::{Act, Outcome, Permit},
    storage::query,
};

pub(crate) mod sql {
    /// What is valid and kept, by CA and role; of more than $3 those that end first. `day`, `week` and `month` count what ends
    /// before $4, $5 and $6. The role is looked up for each, so that the database is not tempted to read those of all.
    pub(crate) const GROUPS: &str = "\
        SELECT named.ca_id, named.role, count(*) AS active, count(CASE WHEN named.not_after < $4 THEN 1 END) AS day, \
        count(CASE WHEN named.not_after < $5 THEN 1 END) AS week, \
        count(CASE WHEN named.not_after < $6 THEN 1 END) AS month \
        FROM (SELECT live.ca_id, live.not_after, (SELECT t.value FROM pki_term t WHERE t.tenant_id = $1 \
        AND t.certificate_id = live.certificate_id AND t.field = 'role' LIMIT 1) AS role \
        FROM (SELECT s.ca_id, s.certificate_id, s.not_after FROM pki_serial s \
        WHERE s.tenant_id = $1 AND s.not_after >= $2 AND s.revoked_at IS NULL AND s.source <> 'ocsp' \
        AND (s.ca_id IS NULL OR s.ca_id NOT IN (SELECT c.id FROM pki_ca c WHERE c.tenant_id = $1 AND NOT c.is_active)) \
        ORDER BY s.not_after, s.certificate_id LIMIT $3) AS live) AS named GROUP BY named.ca_id, named.role";
    /// The keys that more than one of those have, the most first.
    pub(crate) const SHARED_KEYS: &str = "\
        SELECT live.key_hash, count(*) AS certificates FROM (SELECT s.key_hash FROM pki_serial s \
        WHERE s.tenant_id = $1 AND s.not_after >= $2 AND s.revoked_at IS NULL AND s.source <> 'ocsp' \
        AND (s.ca_id IS NULL OR s.ca_id NOT IN (SELECT c.id FROM pki_ca c WHERE c.tenant_id = $1 AND NOT c.is_active)) \
        ORDER BY s.not_after, s.certificate_id LIMIT $3) AS live WHERE live.key_hash IS NOT NULL \
        GROUP BY live.key_hash HAVING count(*) > 1 ORDER BY certificates DESC, live.key_hash LIMIT $4";
    /// Those that nobody should rely on, by the reasons.
    pub(crate) const WEAK: &str = "\
        SELECT live.weak, count(*) AS active FROM (SELECT s.weak FROM pki_serial s \
        JOIN pki_certificate k ON k.tenant_id = s.tenant_id AND k.id = s.certificate_id AND k.not_after = s.not_after \
        JOIN pki_ca c ON c.tenant_id = s.tenant_id AND c.id = s.ca_id WHERE s.tenant_id = $1 AND s.weak IS NOT NULL \
        AND s.not_after >= $2 AND s.revoked_at IS NULL AND c.is_active LIMIT $3) AS live GROUP BY live.weak";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[GROUPS, SHARED_KEYS, WEAK];
}

/// The inventory in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CertificateSummary {
    /// By state.
    pub by_status: StatusCounts,
    /// Active, and ending within a day; the figures from here on are of the first
    /// [`limits::SUMMARIZED_CERTIFICATES`] active certificates to end.
    pub expiring_within_1d: i64,
    /// Within seven days, those within a day included.
    pub expiring_within_7d: i64,
    /// Within thirty days, those within seven included.
    pub expiring_within_30d: i64,
    /// Active ones by the CA that issued them, by its identifier; those of CAs that were signed outside are in none.
    pub by_issuer: Vec<IssuerCount>,
    /// Active ones by role, by name; those of no role are in none.
    pub by_role: Vec<RoleCount>,
    /// Keys that more than one active certificate has, at most [`limits::SHARED_KEYS`], those of the most certificates first.
    pub shared_keys: Vec<SharedKey>,
    /// Active ones that nobody should rely on, by [`Certificate::weak`](super::Certificate::weak); one with two reasons is
    /// in both.
    pub by_weakness: Vec<WeaknessCount>,
}

/// Certificates by state, each counted up to a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusCounts {
    /// Up to [`limits::SUMMARIZED_CERTIFICATES`].
    pub active: Count,
    /// Up to [`limits::COUNTED_CERTIFICATES`].
    pub expired: Count,
    /// The same; on hold included.
    pub revoked: Count,
    /// The same.
    pub on_hold: Count,
}

/// Active certificates of a CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct IssuerCount {
    pub ca_id: String,
    pub active: i64,
}

/// Active certificates of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct RoleCount {
    pub role: String,
    pub active: i64,
}

/// Active certificates that nobody should rely on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct WeaknessCount {
    pub weak: String,
    pub active: i64,
}

/// A key of several active certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedKey {
    /// What the list finds them by.
    pub key_hash: String,
    /// How many they are.
    pub certificates: i64,
}

#[derive(Debug, sqlx::FromRow)]
struct GroupRow {
    ca_id: Option<String>,
    role: Option<String>,
    active: i64,
    day: i64,
    week: i64,
    month: i64,
}

impl Pki<'_> {
    /// The tenant's certificates in figures, each from a bounded look. Needs `pki:issue` or `pki:admin`.
    ///
    /// # Errors
    /// Only those of every verb.
    pub async fn certificate_summary(&self) -> Result<CertificateSummary> {
        let act = Act::object(Action::PkiCertificateRead, READ, "pki_certificate", None);
        self.vault.door.perform(self.ctx, act, summarize).await
    }
}

async fn summarize(permit: Permit<'_>) -> Result<Outcome<CertificateSummary>> {
    let now = permit.ctx().now();
    // Ends are whole seconds, and that of the window counts.
    let before = |days| now + Duration::days(days) + Duration::seconds(1);
    let groups = query(sql::GROUPS)
        .bind(permit.tenant())
        .bind(now)
        .bind(limits::SUMMARIZED_CERTIFICATES + 1)
        .bind(before(1))
        .bind(before(7))
        .bind(before(30));
    let groups: Vec<GroupRow> = permit.fetch_all_lagging(groups).await?;
    let keys = query(sql::SHARED_KEYS)
        .bind(permit.tenant())
        .bind(now)
        .bind(limits::SUMMARIZED_CERTIFICATES)
        .bind(limits::SHARED_KEYS);
    let keys: Vec<(Vec<u8>, i64)> = permit.fetch_all_lagging(keys).await?;
    let weak = query(sql::WEAK).bind(permit.tenant()).bind(now).bind(limits::SUMMARIZED_CERTIFICATES);
    let weak: Vec<(String, i64)> = permit.fetch_all_lagging(weak).await?;
    let revoked = query(store::sql::REVOKED_CAS).bind(permit.tenant());
    let cas: Vec<RevokedCa> = permit.fetch_all_lagging(revoked).await?;

    let (mut issuers, mut roles) = (BTreeMap::<String, i64>::new(), BTreeMap::<String, i64>::new());
    let sum = |of: fn(&GroupRow) -> i64| groups.iter().map(of).sum::<i64>();
    let (active, day) = (sum(|group| group.active), sum(|group| group.day));
    let (week, month) = (sum(|group| group.week), sum(|group| group.month));
    for group in groups {
        if let Some(ca_id) = group.ca_id {
            *issuers.entry(ca_id).or_default() += group.active;
        }
        if let Some(role) = group.role {
            *roles.entry(role).or_default() += group.active;
        }
    }
    let mut weaknesses = BTreeMap::<&str, i64>::new();
    for (words, active) in &weak {
        for word in words.split(',') {
            *weaknesses.entry(word).or_default() += active;
        }
    }
    let by_status = StatusCounts {
        active: Count::up_to(limits::SUMMARIZED_CERTIFICATES, active),
        expired: inventory::count(&permit, StatusFilter::Expired, &cas).await?,
        revoked: inventory::count(&permit, StatusFilter::Revoked, &cas).await?,
        on_hold: inventory::count(&permit, StatusFilter::OnHold, &cas).await?,
    };
    permit.answer(CertificateSummary {
        by_status,
        expiring_within_1d: day,
        expiring_within_7d: week,
        expiring_within_30d: month,
        by_issuer: issuers.into_iter().map(|(ca_id, active)| IssuerCount { ca_id, active }).collect(),
        by_role: roles.into_iter().map(|(role, active)| RoleCount { role, active }).collect(),
        shared_keys: keys
            .into_iter()
            .map(|(hash, certificates)| SharedKey { key_hash: hex::encode(hash), certificates })
            .collect(),
        by_weakness: weaknesses
            .into_iter()
            .map(|(weak, active)| WeaknessCount { weak: weak.to_owned(), active })
            .collect(),
    })
}
