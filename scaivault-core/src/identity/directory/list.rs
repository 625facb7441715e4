use serde::Serialize;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{
    look,
    model::{
        DirectoryGroup, DirectoryMember, DirectoryPartner, DirectoryTenant, DirectoryUser, ResolvedIdentity,
        SyncReport, SyncStarted, group_names, names_of, roles_of,
    },
    store::sql,
    sync::{self, Scope as SyncScope},
};
use crate::{
    Code, Ctx, Error, IdentityType, PartnerId, Result, Role, Scope, TenantId,
    audit::Action,
    limits,
    pipeline::{Act, Outcome, Permit},
    storage::{QueryBuilder, Ts, query},
    vault::Inner,
};

/// The verbs on the directory, for one caller. From [`Vault::identities`](crate::Vault::identities).
///
/// A super admin sees everybody, a partner admin his partner, anybody else his own tenant.
#[derive(Clone, Copy, Debug)]
pub struct Identities<'a> {
    pub(super) vault: &'a Inner,
    pub(super) ctx: &'a Ctx,
}

/// Which page of a list: from 1, with 1 to [`limits::IDENTITY_PAGE_MAX`] rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageOf {
    page: u32,
    size: u32,
}

impl PageOf {
    /// The first page unless given; 50 rows unless given, and the most there are for anything out of range.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for page 0, and one that is too far to be there.
    pub fn new(page: Option<u32>, size: Option<u32>) -> Result<Self> {
        let page = page.unwrap_or(1);
        if !(1..=1_000_000).contains(&page) {
            return Err(Error::new(Code::InvalidRequest, "Query parameter page: must be from 1 to 1000000."));
        }
        let size = size.unwrap_or(limits::IDENTITY_PAGE_DEFAULT);
        let size = if size == 0 { limits::IDENTITY_PAGE_MAX } else { size.min(limits::IDENTITY_PAGE_MAX) };
        Ok(Self { page, size })
    }

    pub(super) fn cut(self, q: &mut QueryBuilder<'_>) {
        let offset = i64::from(self.page - 1) * i64::from(self.size);
        q.text(" LIMIT ").arg(i64::from(self.size)).text(" OFFSET ").arg(offset);
    }
}

/// A page of a list that is counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The page, from 1.
    pub page: u32,
    /// Rows a page.
    pub page_size: u32,
    /// Rows of all pages.
    pub total: i64,
}

/// Whom a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    All,
    Partner(PartnerId),
    Tenant(TenantId, PartnerId),
}

impl Reach {
    pub(super) fn of(permit: &Permit<'_>) -> Self {
        let caller = permit.ctx().caller();
        if caller.has_role(Role::SuperAdmin) || caller.identity_type() == IdentityType::System {
            Self::All
        } else if caller.has_role(Role::PartnerAdmin) {
            Self::Partner(permit.partner().clone())
        } else {
            Self::Tenant(permit.tenant().clone(), permit.partner().clone())
        }
    }

    /// Whether it holds a tenant of that partner.
    pub(super) fn holds(&self, tenant: &str, partner: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Partner(own) => partner == Some(own.as_str()),
            Self::Tenant(own, _) => own.as_str() == tenant,
        }
    }

    fn partner(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Partner(own) | Self::Tenant(_, own) => Some(own.as_str()),
        }
    }

    pub(super) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Tenant(own, _) => Some(own.as_str()),
            _ => None,
        }
    }
}

const READ: &[Scope] = &[Scope::IdentityRead];
const ADMIN: &[Scope] = &[Scope::IdentityAdmin];

impl<'a> Identities<'a> {
    pub(crate) fn new(vault: &'a Inner, ctx: &'a Ctx) -> Self {
        Self { vault, ctx }
    }

    async fn read<T, W>(
        &self,
        kind: &'static str,
        id: Option<&str>,
        work: impl FnOnce(Permit<'a>) -> W + Send,
    ) -> Result<T>
    where
        T: Send,
        W: Future<Output = Result<Outcome<T>>> + Send,
    {
        let act = Act::object(Action::IdentityRead, READ, kind, id);
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Partners. Needs `identity:read`.
    ///
    /// # Errors
    /// Those of every verb.
    pub async fn partners(&self, status: Option<&str>, page: PageOf) -> Result<Listed<DirectoryPartner>> {
        self.read("partner", None, |permit| async move { partners(permit, status, page).await }).await
    }

    /// Tenants, those of one partner if it is given. Needs `identity:read`.
    ///
    /// # Errors
    /// Those of every verb.
    pub async fn tenants(
        &self,
        partner: Option<&str>,
        status: Option<&str>,
        page: PageOf,
    ) -> Result<Listed<DirectoryTenant>> {
        self.read("tenant", None, |permit| async move { tenants(permit, partner, status, page).await }).await
    }

    /// Users of a tenant, whose address or name holds `q` if it is given. Needs `identity:read`.
    ///
    /// # Errors
    /// [`Code::TenantAccessDenied`] for one that the caller may not see, there or not; [`Code::TenantNotFound`].
    pub async fn users(
        &self,
        tenant: &TenantId,
        status: Option<&str>,
        q: Option<&str>,
        page: PageOf,
    ) -> Result<Listed<DirectoryUser>> {
        let work = |permit| async move { users(permit, tenant, (status, q), page).await };
        self.read("tenant", Some(tenant.as_str()), work).await
    }

    /// Groups of a tenant. Needs `identity:read`.
    ///
    /// # Errors
    /// As [`users`](Self::users).
    pub async fn groups(&self, tenant: &TenantId, page: PageOf) -> Result<Listed<DirectoryGroup>> {
        let work = |permit| async move { groups(permit, tenant, page).await };
        self.read("tenant", Some(tenant.as_str()), work).await
    }

    /// Who is in a group. Needs `identity:read`.
    ///
    /// # Errors
    /// [`Code::IdentityNotFound`], also for one that the caller may not see.
    pub async fn members(&self, group: &str, page: PageOf) -> Result<Listed<DirectoryMember>> {
        let work = |permit| async move { look::members(permit, group, page).await };
        self.read("group", Some(group), work).await
    }

    /// Whom a name stands for in the caller's tenant, or another one that he may see: an id of the directory, or the
    /// name in tokens and bindings (`user:<address>`, `group:<slug>`), byte for byte. Needs `identity:read`.
    ///
    /// # Errors
    /// [`Code::IdentityNotFound`]; as [`users`](Self::users) for the tenant.
    pub async fn resolve(
        &self,
        identity_type: IdentityType,
        id: &str,
        tenant: Option<&TenantId>,
    ) -> Result<ResolvedIdentity> {
        let work = |permit| async move { look::resolve(permit, identity_type, id, tenant).await };
        self.read("identity", Some(id), work).await
    }

    /// Has the identity provider asked anew: about everything that the caller may see, or about a partner or tenant of
    /// it. Needs `identity:admin`.
    ///
    /// # Errors
    /// [`Code::InvalidState`] if there is no identity provider to ask; [`Code::TenantAccessDenied`].
    pub async fn sync(&self, partner: Option<&PartnerId>, tenant: Option<&TenantId>) -> Result<SyncStarted> {
        let vault = self.vault;
        let act = Act::object(Action::IdentitySync, ADMIN, "identity_sync", None);
        let work = |permit: Permit<'a>| async move {
            let permit = permit.over_directory()?;
            if vault.identity_source.is_none() {
                let message = "No identity provider is configured to be asked.";
                return Err(Error::new(Code::InvalidState, message));
            }
            let scope = sync_scope(&permit, partner, tenant).await?;
            sync::start(permit, &scope).await
        };
        let started = vault.door.perform(self.ctx, act, work).await?;
        vault.sync_wanted.notify_one();
        Ok(started)
    }

    /// Syncs, the newest first. Needs `identity:read`.
    ///
    /// # Errors
    /// Those of every verb.
    pub async fn syncs(&self, page: PageOf) -> Result<Listed<SyncReport>> {
        self.read("identity_sync", None, |permit| async move { look::syncs(permit, page).await }).await
    }
}

async fn sync_scope(
    permit: &Permit<'_>,
    partner: Option<&PartnerId>,
    tenant: Option<&TenantId>,
) -> Result<SyncScope> {
    let reach = Reach::of(permit);
    if let Some(tenant) = tenant {
        let of = check_tenant(permit, &reach, tenant).await?;
        if partner.is_some_and(|partner| of.as_deref() != Some(partner.as_str())) {
            return Err(Error::new(Code::InvalidRequest, "The tenant is not of that partner."));
        }
        return Ok(SyncScope { partner: None, tenant: Some(tenant.clone()) });
    }
    match (&reach, partner) {
        (Reach::All, partner) => Ok(SyncScope { partner: partner.cloned(), tenant: None }),
        (Reach::Partner(own), None) => Ok(SyncScope { partner: Some(own.clone()), tenant: None }),
        (Reach::Partner(own), Some(partner)) if own == partner => {
            Ok(SyncScope { partner: Some(own.clone()), tenant: None })
        }
        (Reach::Tenant(own, _), None) => Ok(SyncScope { partner: None, tenant: Some(own.clone()) }),
        _ => Err(foreign()),
    }
}

fn foreign() -> Error {
    Error::new(Code::TenantAccessDenied, "That is not within what the caller administers.")
}

pub(super) fn no_identity() -> Error {
    Error::new(Code::IdentityNotFound, "There is no such identity.")
}

/// The partner of a tenant that may be seen.
pub(super) async fn check_tenant(
    permit: &Permit<'_>,
    reach: &Reach,
    tenant: &TenantId,
) -> Result<Option<String>> {
    let row: Option<(Option<String>,)> = permit.fetch_optional(query(sql::PARTNER_OF).bind(tenant)).await?;
    let known = row.is_some();
    let partner = row.and_then(|(partner,)| partner);
    if !reach.holds(tenant.as_str(), partner.as_deref()) {
        return Err(foreign());
    }
    let own = permit.tenant() == tenant;
    if known || own { Ok(partner) } else { Err(Error::new(Code::TenantNotFound, "There is no such tenant.")) }
}

/// The latest of when a row was written and when a sync vouched for it.
fn synced(row: Ts, syncs: [Option<Ts>; 2]) -> OffsetDateTime {
    syncs.into_iter().flatten().fold(row, Ord::max).get()
}

pub(super) async fn count(permit: &Permit<'_>, q: QueryBuilder<'_>) -> Result<i64> {
    Ok(permit.fetch_optional::<(i64,)>(q.build()).await?.map_or(0, |(total,)| total))
}

pub(super) fn listed<T>(items: Vec<T>, page: PageOf, total: i64) -> Listed<T> {
    Listed { items, page: page.page, page_size: page.size, total }
}

type PlaceRow =
    (String, Option<String>, Option<String>, Option<String>, Option<String>, String, Ts, Option<Ts>);

async fn partners(
    permit: Permit<'_>,
    status: Option<&str>,
    page: PageOf,
) -> Result<Outcome<Listed<DirectoryPartner>>> {
    let permit = permit.over_directory()?;
    let reach = Reach::of(&permit);
    let filter = |q: &mut QueryBuilder<'_>| {
        q.and("p.status = ", status.map(str::to_ascii_uppercase))
            .and("p.partner_id = ", reach.partner().map(str::to_owned));
    };
    let mut q = QueryBuilder::new(
        "SELECT p.partner_id, CAST(NULL AS TEXT), p.name, p.slug, p.region, p.status, p.updated_at, s.synced_at \
         FROM idp_partner p JOIN idp_state s ON s.id = 1 WHERE 1 = 1",
    );
    filter(&mut q);
    q.text(" ORDER BY p.partner_id");
    page.cut(&mut q);
    let rows: Vec<PlaceRow> = permit.fetch_all_lagging(q.build()).await?;
    let mut all = QueryBuilder::new("SELECT count(*) FROM idp_partner p WHERE 1 = 1");
    filter(&mut all);
    let total = count(&permit, all).await?;
    let partner = |(id, _, name, slug, region, status, at, full): PlaceRow| DirectoryPartner {
        id,
        name,
        slug,
        region,
        status,
        last_synced_at: synced(at, [full, None]),
    };
    permit.answer(listed(rows.into_iter().map(partner).collect(), page, total))
}

async fn tenants(
    permit: Permit<'_>,
    partner: Option<&str>,
    status: Option<&str>,
    page: PageOf,
) -> Result<Outcome<Listed<DirectoryTenant>>> {
    let permit = permit.over_directory()?;
    let reach = Reach::of(&permit);
    let filter = |q: &mut QueryBuilder<'_>| {
        q.and("t.status = ", status.map(str::to_ascii_uppercase))
            .and("t.partner_id = ", partner.map(str::to_owned));
        match &reach {
            Reach::All => {}
            Reach::Partner(own) => drop(q.and("t.partner_id = ", Some(own.as_str().to_owned()))),
            Reach::Tenant(own, _) => drop(q.and("t.tenant_id = ", Some(own.as_str().to_owned()))),
        }
    };
    let mut q = QueryBuilder::new(
        "SELECT t.tenant_id, t.partner_id, t.name, t.slug, t.region, t.status, t.updated_at, s.synced_at \
         FROM idp_tenant t JOIN idp_state s ON s.id = 1 WHERE 1 = 1",
    );
    filter(&mut q);
    q.text(" ORDER BY t.tenant_id");
    page.cut(&mut q);
    let rows: Vec<PlaceRow> = permit.fetch_all_lagging(q.build()).await?;
    let mut all = QueryBuilder::new("SELECT count(*) FROM idp_tenant t WHERE 1 = 1");
    filter(&mut all);
    let total = count(&permit, all).await?;
    let tenant = |(id, partner_id, name, slug, region, status, at, full): PlaceRow| DirectoryTenant {
        id,
        partner_id,
        name,
        slug,
        region,
        status,
        last_synced_at: synced(at, [full, None]),
    };
    permit.answer(listed(rows.into_iter().map(tenant).collect(), page, total))
}

#[derive(sqlx::FromRow)]
struct UserRow {
    user_id: String,
    email: Option<String>,
    external_id: Option<String>,
    display_name: Option<String>,
    status: String,
    mfa_enabled: bool,
    roles: Json<Vec<String>>,
    updated_at: Ts,
    full: Option<Ts>,
    own: Option<Ts>,
}

async fn users(
    permit: Permit<'_>,
    tenant: &TenantId,
    (status, text): (Option<&str>, Option<&str>),
    page: PageOf,
) -> Result<Outcome<Listed<DirectoryUser>>> {
    let permit = permit.over_directory()?;
    check_tenant(&permit, &Reach::of(&permit), tenant).await?;
    // Case says nothing when people look for people.
    let like = text.map(|text| format!("%{}%", escape(&text.to_lowercase())));
    let filter = |q: &mut QueryBuilder<'_>| {
        q.arg(tenant.as_str().to_owned()).and("u.status = ", status.map(str::to_ascii_uppercase));
        if let Some(like) = &like {
            q.text(" AND (lower(COALESCE(u.email, '')) LIKE ").arg(like.clone()).text(" ESCAPE '!'");
            q.text(" OR lower(COALESCE(u.display_name, '')) LIKE ").arg(like.clone()).text(" ESCAPE '!')");
        }
    };
    let mut q = QueryBuilder::new(
        "SELECT u.user_id, u.email, u.external_id, u.display_name, u.status, u.mfa_enabled, u.roles, u.updated_at, \
         s.synced_at AS full, t.synced_at AS own FROM idp_user u JOIN idp_state s ON s.id = 1 \
         LEFT JOIN idp_tenant t ON t.tenant_id = u.tenant_id WHERE u.tenant_id = ",
    );
    filter(&mut q);
    q.text(" ORDER BY u.user_id");
    page.cut(&mut q);
    let rows: Vec<UserRow> = permit.fetch_all_lagging(q.build()).await?;
    let mut all = QueryBuilder::new("SELECT count(*) FROM idp_user u WHERE u.tenant_id = ");
    filter(&mut all);
    let total = count(&permit, all).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let names = names_of(&row.user_id, row.email.as_deref(), row.external_id.as_deref());
        items.push(DirectoryUser {
            groups: groups_of(&permit, tenant, &row.user_id).await?,
            roles: all_roles(&permit, tenant, &names, &row.roles.0).await?,
            id: row.user_id,
            tenant_id: tenant.as_str().to_owned(),
            email: row.email,
            display_name: row.display_name,
            status: row.status,
            mfa_enabled: row.mfa_enabled,
            last_synced_at: synced(row.updated_at, [row.full, row.own]),
        });
    }
    permit.answer(listed(items, page, total))
}

/// What `LIKE` would take for more than itself.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        if matches!(c, '%' | '_' | '!') {
            escaped.push('!');
        }
        escaped.push(c);
        escaped
    })
}

/// The groups of a user, as bindings name them.
pub(super) async fn groups_of(permit: &Permit<'_>, tenant: &TenantId, user: &str) -> Result<Vec<String>> {
    let rows: Vec<(String, Option<String>)> =
        permit.fetch_all(query(sql::GROUPS_OF_USER).bind(tenant).bind(user)).await?;
    let name = |(id, slug): (String, Option<String>)| group_names(&id, slug.as_deref()).into_iter().next();
    let mut names: Vec<String> = rows.into_iter().filter_map(name).collect();
    names.sort_unstable();
    Ok(names)
}

/// The roles of a user: those of the provider, and those that were given here.
pub(super) async fn all_roles(
    permit: &Permit<'_>,
    tenant: &TenantId,
    names: &[String],
    from_provider: &[String],
) -> Result<Vec<Role>> {
    let mut all: Vec<String> = from_provider.to_vec();
    for name in names {
        let own: Vec<(String,)> = permit.fetch_all(query(sql::ROLES_OF).bind(tenant).bind(name)).await?;
        all.extend(own.into_iter().map(|(role,)| role));
    }
    Ok(roles_of(all.iter().map(String::as_str)))
}

#[derive(sqlx::FromRow)]
struct GroupRow {
    group_id: String,
    name: Option<String>,
    slug: Option<String>,
    status: String,
    updated_at: Ts,
    full: Option<Ts>,
    own: Option<Ts>,
    members: i64,
}

async fn groups(
    permit: Permit<'_>,
    tenant: &TenantId,
    page: PageOf,
) -> Result<Outcome<Listed<DirectoryGroup>>> {
    let permit = permit.over_directory()?;
    check_tenant(&permit, &Reach::of(&permit), tenant).await?;
    let mut q = QueryBuilder::new(
        "SELECT g.group_id, g.name, g.slug, g.status, g.updated_at, s.synced_at AS full, t.synced_at AS own, \
         (SELECT count(*) FROM idp_membership m WHERE m.tenant_id = g.tenant_id AND m.group_id = g.group_id \
         AND m.status = 'ACTIVE') AS members FROM idp_group g JOIN idp_state s ON s.id = 1 \
         LEFT JOIN idp_tenant t ON t.tenant_id = g.tenant_id WHERE g.tenant_id = ",
    );
    q.arg(tenant).text(" ORDER BY g.group_id");
    page.cut(&mut q);
    let rows: Vec<GroupRow> = permit.fetch_all_lagging(q.build()).await?;
    let mut all = QueryBuilder::new("SELECT count(*) FROM idp_group g WHERE g.tenant_id = ");
    all.arg(tenant);
    let total = count(&permit, all).await?;
    let group = |row: GroupRow| DirectoryGroup {
        id: row.group_id,
        tenant_id: tenant.as_str().to_owned(),
        name: row.name,
        slug: row.slug,
        status: row.status,
        member_count: row.members,
        last_synced_at: synced(row.updated_at, [row.full, row.own]),
    };
    permit.answer(listed(rows.into_iter().map(group).collect(), page, total))
}
