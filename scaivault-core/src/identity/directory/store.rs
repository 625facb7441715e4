use serde_json::Value;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{
    model::{Key, status},
    registers::Registers,
};
use crate::{
    Result,
    storage::{Query, Ts, json, query},
};

pub(crate) mod sql {
    pub(crate) const STATE: &str = "SELECT epoch, synced_at FROM idp_state WHERE id = 1";
    pub(crate) const RAISE_EPOCH: &str = "UPDATE idp_state SET epoch = epoch + 1 WHERE id = 1";
    pub(crate) const SYNCED: &str = "UPDATE idp_state SET synced_at = $1 WHERE id = 1";
    pub(crate) const TAKE_TURN: &str = "UPDATE idp_state SET next_sync_at = $1 WHERE id = 1 AND (next_sync_at IS NULL OR next_sync_at <= $2)";
    pub(crate) const BOOTSTRAPPED: &str = "SELECT bootstrapped_at FROM idp_state WHERE id = 1";
    pub(crate) const BOOTSTRAP: &str = "UPDATE idp_state SET bootstrapped_at = $1, bootstrapped = $2 WHERE id = 1 AND bootstrapped_at IS NULL";

    /// `tenant_id`, the partner that the token names.
    pub(crate) const TENANT_VIEW: &str = "\
        SELECT t.epoch, t.status, t.partner_id, p.status FROM idp_state s \
        LEFT JOIN idp_tenant t ON t.tenant_id = $1 \
        LEFT JOIN idp_partner p ON p.partner_id = COALESCE(t.partner_id, $2) WHERE s.id = 1";
    pub(crate) const ENDED_GROUPS: &str = "\
        SELECT group_id, slug, status_at, updated_at FROM idp_group WHERE tenant_id = $1 AND status <> 'ACTIVE' \
        ORDER BY status_at DESC LIMIT 10000";
    pub(crate) const CLAIMANTS: &str = "\
        SELECT u.user_id, u.status, u.status_at, u.updated_at, u.email, u.external_id, u.display_name, u.roles \
        FROM idp_user_name n \
        JOIN idp_user u ON u.tenant_id = n.tenant_id AND u.user_id = n.user_id WHERE n.tenant_id = $1 AND n.name = $2";
    pub(crate) const MEMBERSHIPS: &str = "\
        SELECT m.group_id, g.slug, g.status, m.status, m.status_at, m.updated_at FROM idp_membership m \
        LEFT JOIN idp_group g ON g.tenant_id = m.tenant_id AND g.group_id = m.group_id \
        WHERE m.tenant_id = $1 AND m.user_id = $2";
    pub(crate) const ROLES: &str =
        "SELECT role FROM idp_role WHERE tenant_id = $1 AND identity_id IN ($2, $3)";
    pub(crate) const ROLES_OF: &str =
        "SELECT role FROM idp_role WHERE tenant_id = $1 AND identity_id = $2 ORDER BY role";
    pub(crate) const GRANT: &str = "\
        INSERT INTO idp_role (tenant_id, identity_id, role, granted_by, granted_at) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (tenant_id, identity_id, role) DO NOTHING";
    pub(crate) const REVOKE: &str =
        "DELETE FROM idp_role WHERE tenant_id = $1 AND identity_id = $2 AND role = $3";
    pub(crate) const SUPER_ADMINS: &str = "\
        SELECT (SELECT count(*) FROM idp_role WHERE role = 'super_admin') + (SELECT count(*) FROM idp_user \
        WHERE status = 'ACTIVE' AND CAST(roles AS TEXT) LIKE '%\"super_admin\"%')";

    pub(crate) const PARTNER: &str = "SELECT state FROM idp_partner WHERE partner_id = $1";
    pub(crate) const TENANT: &str = "SELECT state FROM idp_tenant WHERE tenant_id = $1";
    pub(crate) const USER: &str = "SELECT state FROM idp_user WHERE tenant_id = $1 AND user_id = $2";
    pub(crate) const GROUP: &str = "SELECT state FROM idp_group WHERE tenant_id = $1 AND group_id = $2";
    pub(crate) const MEMBER: &str =
        "SELECT state FROM idp_membership WHERE tenant_id = $1 AND group_id = $2 AND user_id = $3";
    pub(crate) const SET_PARTNER: &str = "\
        INSERT INTO idp_partner (partner_id, status, status_at, name, slug, region, state, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (partner_id) DO UPDATE SET status = excluded.status, \
        status_at = excluded.status_at, name = excluded.name, slug = excluded.slug, region = excluded.region, \
        state = excluded.state, updated_at = excluded.updated_at";
    pub(crate) const SET_TENANT: &str = "\
        INSERT INTO idp_tenant (tenant_id, status, status_at, name, slug, region, partner_id, state, updated_at, epoch) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1) ON CONFLICT (tenant_id) DO UPDATE SET status = excluded.status, \
        status_at = excluded.status_at, name = excluded.name, slug = excluded.slug, region = excluded.region, \
        partner_id = excluded.partner_id, state = excluded.state, updated_at = excluded.updated_at";
    pub(crate) const SET_USER: &str = "\
        INSERT INTO idp_user (tenant_id, user_id, status, status_at, email, external_id, display_name, mfa_enabled, roles, \
        state, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
        ON CONFLICT (tenant_id, user_id) DO UPDATE SET status = excluded.status, status_at = excluded.status_at, \
        email = excluded.email, external_id = excluded.external_id, display_name = excluded.display_name, \
        mfa_enabled = excluded.mfa_enabled, roles = excluded.roles, state = excluded.state, updated_at = excluded.updated_at";
    pub(crate) const ADD_NAME: &str = "\
        INSERT INTO idp_user_name (tenant_id, name, user_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    pub(crate) const SET_GROUP: &str = "\
        INSERT INTO idp_group (tenant_id, group_id, status, status_at, name, slug, state, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id, group_id) DO UPDATE SET status = excluded.status, \
        status_at = excluded.status_at, name = excluded.name, slug = excluded.slug, state = excluded.state, \
        updated_at = excluded.updated_at";
    pub(crate) const SET_MEMBER: &str = "\
        INSERT INTO idp_membership (tenant_id, group_id, user_id, status, status_at, membership_type, added_at, state, \
        updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (tenant_id, group_id, user_id) DO UPDATE SET \
        status = excluded.status, status_at = excluded.status_at, membership_type = excluded.membership_type, \
        added_at = excluded.added_at, state = excluded.state, updated_at = excluded.updated_at";
    /// A tenant that is known by what is in it.
    pub(crate) const MAKE_TENANT: &str = "\
        INSERT INTO idp_tenant (tenant_id, status, status_at, state, updated_at, epoch) VALUES ($1, 'ACTIVE', $2, $3, $2, 0) \
        ON CONFLICT (tenant_id) DO NOTHING";
    pub(crate) const RAISE_TENANT: &str = "UPDATE idp_tenant SET epoch = epoch + 1 WHERE tenant_id = $1";
    pub(crate) const TENANT_SYNCED: &str = "\
        UPDATE idp_tenant SET synced_at = $2 WHERE tenant_id = $1 AND (synced_at IS NULL OR synced_at < $2)";
    pub(crate) const FLOOR: &str = "\
        SELECT s.synced_at, t.synced_at FROM idp_state s LEFT JOIN idp_tenant t ON t.tenant_id = $1 WHERE s.id = 1";

    pub(crate) const REMEMBER_EVENT: &str =
        "INSERT INTO idp_event (event_id, received_at) VALUES ($1, $2) ON CONFLICT (event_id) DO NOTHING";
    pub(crate) const FORGET_EVENTS: &str = "DELETE FROM idp_event WHERE received_at < $1";

    pub(crate) const QUEUE: &str = "\
        INSERT INTO idp_sync (id, status, partner_id, of_tenant, requested_by, started_at, users_synced, groups_synced, \
        errors) VALUES ($1, 'queued', $2, $3, $4, $5, 0, 0, $6)";
    pub(crate) const QUEUED: &str = "\
        SELECT id, status, started_at FROM idp_sync WHERE status = 'queued' AND COALESCE(partner_id, '') = $1 \
        AND COALESCE(of_tenant, '') = $2 ORDER BY id LIMIT 1";
    pub(crate) const WANTED: &str = "\
        SELECT id, partner_id, of_tenant FROM idp_sync WHERE status = 'queued' OR (status = 'running' AND claimed_until < $1) \
        ORDER BY id LIMIT 16";
    pub(crate) const CLAIM: &str = "\
        UPDATE idp_sync SET status = 'running', started_at = $2, claimed_until = $3 WHERE id = $1 \
        AND (status = 'queued' OR (status = 'running' AND claimed_until < $2))";
    pub(crate) const FINISH: &str = "\
        UPDATE idp_sync SET status = $2, completed_at = $3, users_synced = $4, groups_synced = $5, errors = $6, \
        claimed_until = NULL WHERE id = $1 AND status = 'running'";
    pub(crate) const FORGET_SYNCS: &str =
        "DELETE FROM idp_sync WHERE started_at < $1 AND status <> 'running'";

    pub(crate) const ALL_PARTNERS: &str = "SELECT partner_id, state FROM idp_partner";
    pub(crate) const ALL_TENANTS: &str = "SELECT tenant_id, partner_id, state FROM idp_tenant";
    pub(crate) const ALL_USERS: &str = "SELECT user_id, state FROM idp_user WHERE tenant_id = $1";
    pub(crate) const ALL_GROUPS: &str = "SELECT group_id, state FROM idp_group WHERE tenant_id = $1";
    pub(crate) const ALL_MEMBERS: &str =
        "SELECT group_id, user_id, state FROM idp_membership WHERE tenant_id = $1";

    pub(crate) const USERS_OF_ID: &str = "\
        SELECT u.tenant_id, t.partner_id, u.status, u.email, u.external_id, u.roles FROM idp_user u \
        LEFT JOIN idp_tenant t ON t.tenant_id = u.tenant_id WHERE u.user_id = $1 ORDER BY u.tenant_id";
    pub(crate) const GROUPS_OF_ID: &str = "\
        SELECT g.tenant_id, t.partner_id FROM idp_group g LEFT JOIN idp_tenant t ON t.tenant_id = g.tenant_id \
        WHERE g.group_id = $1 ORDER BY g.tenant_id";
    pub(crate) const PARTNER_OF: &str = "SELECT partner_id FROM idp_tenant WHERE tenant_id = $1";
    pub(crate) const GROUP_BY_NAME: &str = "\
        SELECT group_id, name, slug, status FROM idp_group WHERE tenant_id = $1 AND (group_id = $2 OR slug = $3) \
        ORDER BY CASE WHEN group_id = $2 THEN 0 ELSE 1 END, CASE WHEN status = 'ACTIVE' THEN 0 ELSE 1 END, group_id LIMIT 1";
    pub(crate) const GROUPS_OF_USER: &str = "\
        SELECT m.group_id, g.slug FROM idp_membership m LEFT JOIN idp_group g ON g.tenant_id = m.tenant_id \
        AND g.group_id = m.group_id WHERE m.tenant_id = $1 AND m.user_id = $2 AND m.status = 'ACTIVE' \
        AND COALESCE(g.status, 'ACTIVE') = 'ACTIVE' ORDER BY m.group_id";

    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[
        STATE,
        RAISE_EPOCH,
        SYNCED,
        TAKE_TURN,
        BOOTSTRAPPED,
        BOOTSTRAP,
        TENANT_VIEW,
        ENDED_GROUPS,
        CLAIMANTS,
        MEMBERSHIPS,
        ROLES,
        ROLES_OF,
        GRANT,
        REVOKE,
        SUPER_ADMINS,
        PARTNER,
        TENANT,
        USER,
        GROUP,
        MEMBER,
        SET_PARTNER,
        SET_TENANT,
        SET_USER,
        ADD_NAME,
        SET_GROUP,
        SET_MEMBER,
        MAKE_TENANT,
        RAISE_TENANT,
        TENANT_SYNCED,
        FLOOR,
        REMEMBER_EVENT,
        FORGET_EVENTS,
        QUEUE,
        QUEUED,
        WANTED,
        CLAIM,
        FINISH,
        FORGET_SYNCS,
        ALL_PARTNERS,
        ALL_TENANTS,
        ALL_USERS,
        ALL_GROUPS,
        ALL_MEMBERS,
        USERS_OF_ID,
        GROUPS_OF_ID,
        PARTNER_OF,
        GROUP_BY_NAME,
        GROUPS_OF_USER,
    ];
}

/// What is known of a record; empty if it is not known.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct StateRow {
    pub(super) state: Json<Registers>,
}

/// The row of one record, to read its state.
pub(super) fn state_of(key: &Key) -> Query<'_> {
    match key {
        Key::Partner(id) => query(sql::PARTNER).bind(id),
        Key::Tenant(tenant) => query(sql::TENANT).bind(tenant),
        Key::User(tenant, id) => query(sql::USER).bind(tenant).bind(id),
        Key::Group(tenant, id) => query(sql::GROUP).bind(tenant).bind(id),
        Key::Member(tenant, group, user) => query(sql::MEMBER).bind(tenant).bind(group).bind(user),
    }
}

/// Writes a record from its registers.
pub(super) fn set<'a>(key: &'a Key, state: &'a Registers, now: OffsetDateTime) -> Result<Query<'a>> {
    let (status, status_at) = status(state);
    let text = |field| state.text(field);
    let kept = json(state)?;
    Ok(match key {
        Key::Partner(id) => {
            let set = query(sql::SET_PARTNER).bind(id).bind(status).bind(status_at).bind(text("name"));
            set.bind(text("slug")).bind(text("region")).bind(kept).bind(now)
        }
        Key::Tenant(tenant) => {
            let set = query(sql::SET_TENANT).bind(tenant).bind(status).bind(status_at).bind(text("name"));
            set.bind(text("slug")).bind(text("region")).bind(text("partner_id")).bind(kept).bind(now)
        }
        Key::User(tenant, id) => {
            let mfa = state.value("mfa_enabled").and_then(Value::as_bool).unwrap_or(false);
            let roles = state.value("roles").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
            let set =
                query(sql::SET_USER).bind(tenant).bind(id).bind(status).bind(status_at).bind(text("email"));
            set.bind(text("external_id"))
                .bind(text("display_name"))
                .bind(mfa)
                .bind(roles)
                .bind(kept)
                .bind(now)
        }
        Key::Group(tenant, id) => {
            let set =
                query(sql::SET_GROUP).bind(tenant).bind(id).bind(status).bind(status_at).bind(text("name"));
            set.bind(text("slug")).bind(kept).bind(now)
        }
        Key::Member(tenant, group, user) => {
            let kind = text("membership_type").unwrap_or("DIRECT");
            let added = state.set_at("membership_type");
            let set = query(sql::SET_MEMBER).bind(tenant).bind(group).bind(user).bind(status).bind(status_at);
            set.bind(kind).bind(added).bind(kept).bind(now)
        }
    })
}

/// Somebody whom a name may mean.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct ClaimantRow {
    pub(super) user_id: String,
    pub(super) status: String,
    status_at: Ts,
    updated_at: Ts,
    pub(super) email: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) display_name: Option<String>,
    pub(super) roles: Json<Vec<String>>,
}

impl ClaimantRow {
    /// When the status changed, or when we learned of it, whichever is later.
    pub(super) fn changed_at(&self) -> OffsetDateTime {
        self.status_at.max(self.updated_at).get()
    }
}
