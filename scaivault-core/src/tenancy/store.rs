use time::OffsetDateTime;

use crate::{
    PartnerId, TenantId,
    storage::{Query, query},
};

pub(crate) mod sql {
    pub(crate) const PARTNER: &str = "SELECT partner_id FROM tenant WHERE tenant_id = $1";
    pub(crate) const INSERT: &str = "\
        INSERT INTO tenant (tenant_id, partner_id, policy_epoch, created_at) VALUES ($1, $2, 0, $3) \
        ON CONFLICT (tenant_id) DO NOTHING";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[PARTNER, INSERT];
}

pub(super) fn partner(tenant: &TenantId) -> Query<'_> {
    query(sql::PARTNER).bind(tenant)
}

pub(super) fn insert<'a>(tenant: &'a TenantId, partner: &'a PartnerId, now: OffsetDateTime) -> Query<'a> {
    query(sql::INSERT).bind(tenant).bind(partner).bind(now)
}
