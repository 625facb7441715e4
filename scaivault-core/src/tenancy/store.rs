use time::OffsetDateTime;

use crate::{
    PartnerId, TenantId,
    storage::{Query, query},
};

pub(crate) mod sql {
    pub(crate) const PARTNER: &str = "SELECT partner_id, partner_named FROM tenant WHERE tenant_id = $1";
    /// Nothing happens where the name is taken, be it in another case.
    pub(crate) const INSERT: &str = "\
        INSERT INTO tenant (tenant_id, partner_id, partner_named, policy_epoch, created_at, name_key) \
        VALUES ($1, $2, $3, 0, $4, $5) ON CONFLICT DO NOTHING";
    pub(crate) const PARTNER_OF_DIRECTORY: &str = "SELECT partner_id FROM idp_tenant WHERE tenant_id = $1";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[PARTNER, INSERT, PARTNER_OF_DIRECTORY];
}

pub(super) fn partner(tenant: &TenantId) -> Query<'_> {
    query(sql::PARTNER).bind(tenant)
}

pub(super) fn partner_of_directory(tenant: &TenantId) -> Query<'_> {
    query(sql::PARTNER_OF_DIRECTORY).bind(tenant)
}

pub(super) fn insert<'a>(
    tenant: &'a TenantId,
    partner: &'a PartnerId,
    named: bool,
    now: OffsetDateTime,
) -> Query<'a> {
    let key = tenant.as_str().to_ascii_lowercase();
    query(sql::INSERT).bind(tenant).bind(partner).bind(named).bind(now).bind(key)
}
