//! Looking for one thing in the directory: a group's members, whom a name means, past syncs.

use sqlx::types::Json;

use super::{
    list::{Listed, PageOf, Reach, all_roles, check_tenant, count, groups_of, listed, no_identity},
    model::{ACTIVE, DirectoryMember, ResolvedIdentity, SyncReport, names_of},
    store::{ClaimantRow, sql},
};
use crate::{
    IdentityType, Result, TenantId,
    pipeline::{Outcome, Permit},
    storage::{QueryBuilder, Ts, query},
};

pub(super) async fn members(
    permit: Permit<'_>,
    group: &str,
    page: PageOf,
) -> Result<Outcome<Listed<DirectoryMember>>> {
    let permit = permit.over_directory()?;
    let reach = Reach::of(&permit);
    let of: Vec<(String, Option<String>)> = permit.fetch_all(query(sql::GROUPS_OF_ID).bind(group)).await?;
    // His own tenant's first: the id may be another tenant's, too.
    let own = |tenant: &str| permit.tenant().as_str() == tenant;
    let mut seen = of.iter().filter(|(tenant, partner)| reach.holds(tenant, partner.as_deref()));
    let tenant = of.iter().find(|(tenant, _)| own(tenant)).or_else(|| seen.next());
    let tenant = tenant.map(|(tenant, _)| tenant.as_str()).ok_or_else(no_identity)?;
    let mut q = QueryBuilder::new(
        "SELECT m.user_id, u.email, m.membership_type, m.added_at FROM idp_membership m \
         LEFT JOIN idp_user u ON u.tenant_id = m.tenant_id AND u.user_id = m.user_id \
         WHERE m.status = 'ACTIVE' AND COALESCE(u.status, 'ACTIVE') <> 'DELETED' AND m.tenant_id = ",
    );
    q.arg(tenant).and("m.group_id = ", Some(group)).text(" ORDER BY m.user_id");
    page.cut(&mut q);
    type MemberRow = (String, Option<String>, String, Option<Ts>);
    let rows: Vec<MemberRow> = permit.fetch_all_lagging(q.build()).await?;
    let mut all = QueryBuilder::new(
        "SELECT count(*) FROM idp_membership m LEFT JOIN idp_user u ON u.tenant_id = m.tenant_id AND u.user_id = m.user_id \
         WHERE m.status = 'ACTIVE' AND COALESCE(u.status, 'ACTIVE') <> 'DELETED' AND m.tenant_id = ",
    );
    all.arg(tenant).and("m.group_id = ", Some(group));
    let total = count(&permit, all).await?;
    let member = |(user_id, email, membership_type, added_at): MemberRow| DirectoryMember {
        user_id,
        email,
        membership_type,
        added_at: added_at.map(Ts::get),
    };
    permit.answer(listed(rows.into_iter().map(member).collect(), page, total))
}

pub(super) async fn resolve(
    permit: Permit<'_>,
    identity_type: IdentityType,
    id: &str,
    tenant: Option<&TenantId>,
) -> Result<Outcome<ResolvedIdentity>> {
    let permit = permit.over_directory()?;
    let tenant = match tenant {
        Some(tenant) => {
            check_tenant(&permit, &Reach::of(&permit), tenant).await?;
            tenant
        }
        None => permit.tenant(),
    };
    let found = match identity_type {
        IdentityType::User => resolve_user(&permit, tenant, id).await?,
        IdentityType::Group => resolve_group(&permit, tenant, id).await?,
        // The directory tells of people and groups.
        IdentityType::ServiceAccount | IdentityType::System => None,
    };
    permit.answer(found.ok_or_else(no_identity)?)
}

async fn resolve_user(permit: &Permit<'_>, tenant: &TenantId, id: &str) -> Result<Option<ResolvedIdentity>> {
    let claimants: Vec<ClaimantRow> = permit.fetch_all(query(sql::CLAIMANTS).bind(tenant).bind(id)).await?;
    let names = |row: &ClaimantRow| names_of(&row.user_id, row.email.as_deref(), row.external_id.as_deref());
    let mut current: Vec<ClaimantRow> =
        claimants.into_iter().filter(|row| names(row).iter().any(|n| n == id)).collect();
    // Of several of one name, one that is active is meant.
    current.sort_by_key(|row| (row.status != ACTIVE, row.user_id.clone()));
    let Some(row) = current.into_iter().next() else { return Ok(None) };
    let roles = all_roles(permit, tenant, &names(&row), &row.roles.0).await?;
    let groups = groups_of(permit, tenant, &row.user_id).await?;
    Ok(Some(ResolvedIdentity {
        display_name: row.display_name,
        status: row.status,
        id: row.user_id,
        identity_type: IdentityType::User,
        tenant_id: tenant.as_str().to_owned(),
        groups,
        roles,
    }))
}

async fn resolve_group(permit: &Permit<'_>, tenant: &TenantId, id: &str) -> Result<Option<ResolvedIdentity>> {
    let slug = id.strip_prefix("group:");
    let find = query(sql::GROUP_BY_NAME).bind(tenant).bind(id).bind(slug);
    type Found = (String, Option<String>, Option<String>, String);
    let found: Option<Found> = permit.fetch_optional(find).await?;
    Ok(found.map(|(id, display_name, _, status)| ResolvedIdentity {
        id,
        identity_type: IdentityType::Group,
        tenant_id: tenant.as_str().to_owned(),
        display_name,
        status,
        groups: Vec::new(),
        roles: Vec::new(),
    }))
}

#[derive(sqlx::FromRow)]
struct SyncRow {
    id: String,
    status: String,
    partner_id: Option<String>,
    of_tenant: Option<String>,
    started_at: Ts,
    completed_at: Option<Ts>,
    users_synced: i64,
    groups_synced: i64,
    errors: Json<Vec<String>>,
}

pub(super) async fn syncs(permit: Permit<'_>, page: PageOf) -> Result<Outcome<Listed<SyncReport>>> {
    let permit = permit.over_directory()?;
    let reach = Reach::of(&permit);
    let filter = |q: &mut QueryBuilder<'_>| match (&reach, reach.tenant()) {
        (_, Some(tenant)) => drop(q.and("s.of_tenant = ", Some(tenant.to_owned()))),
        (Reach::Partner(own), _) => {
            q.text(" AND (s.partner_id = ").arg(own.as_str().to_owned());
            q.text(
                " OR EXISTS (SELECT 1 FROM idp_tenant t WHERE t.tenant_id = s.of_tenant AND t.partner_id = ",
            );
            q.arg(own.as_str().to_owned()).text("))");
        }
        _ => {}
    };
    let mut q = QueryBuilder::new(
        "SELECT s.id, s.status, s.partner_id, s.of_tenant, s.started_at, s.completed_at, s.users_synced, s.groups_synced, \
         s.errors FROM idp_sync s WHERE 1 = 1",
    );
    filter(&mut q);
    q.text(" ORDER BY s.id DESC");
    page.cut(&mut q);
    let rows: Vec<SyncRow> = permit.fetch_all(q.build()).await?;
    let mut all = QueryBuilder::new("SELECT count(*) FROM idp_sync s WHERE 1 = 1");
    filter(&mut all);
    let total = count(&permit, all).await?;
    let report = |row: SyncRow| SyncReport {
        sync_id: row.id,
        status: row.status,
        scope: row.of_tenant.or(row.partner_id).unwrap_or_else(|| "full".to_owned()),
        started_at: row.started_at.get(),
        completed_at: row.completed_at.map(Ts::get),
        users_synced: row.users_synced,
        groups_synced: row.groups_synced,
        errors: row.errors.0,
    };
    permit.answer(listed(rows.into_iter().map(report).collect(), page, total))
}
