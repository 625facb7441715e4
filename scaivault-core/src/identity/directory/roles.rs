//! Roles that are given here, and the first of them.

use std::collections::BTreeSet;

use sqlx::types::Json;

use super::{
    apply,
    list::{Identities, Reach, all_roles, no_identity},
    model::{ACTIVE, AssignableRole, UserRoles, names_of, roles_of},
    store::sql,
    sync::ctx_in,
};
use crate::{
    Caller, Code, Ctx, Error, IdentityType, Result, Role, Scope, TenantId, Vault,
    audit::Action,
    pipeline::{Act, Outcome, Permit},
    storage::{Ts, query},
};

impl<'a> Identities<'a> {
    /// The roles that can be given, and which of them the caller could give.
    ///
    /// # Errors
    /// Those of every verb.
    pub async fn roles(&self) -> Result<Vec<AssignableRole>> {
        let act = Act::object(Action::IdentityRead, &[], "role", None);
        let work = |permit: Permit<'a>| async move {
            let caller = permit.ctx().caller();
            let could = |role| match role {
                Role::SuperAdmin => caller.has_role(Role::SuperAdmin),
                Role::PartnerAdmin | Role::TenantAdmin => {
                    caller.has_role(Role::SuperAdmin) || caller.has_role(Role::PartnerAdmin)
                }
            };
            let role = |role: &Role| AssignableRole {
                name: *role,
                description: meaning(*role),
                assignable: could(*role),
            };
            permit.answer(Role::ALL.iter().map(role).collect())
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// The roles of a user. Needs `identity:read`.
    ///
    /// # Errors
    /// [`Code::IdentityNotFound`], also for one whom the caller may not see.
    pub async fn roles_of(&self, user: &str) -> Result<UserRoles> {
        let act = Act::object(Action::IdentityRead, &[Scope::IdentityRead], "user", Some(user));
        let work = |permit: Permit<'a>| async move {
            let permit = permit.over_directory()?;
            let target = find(&permit, user).await?;
            let roles = all_roles(&permit, &target.tenant, &target.names, &target.from_provider).await?;
            permit.answer(target.with(user, roles))
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Gives a user exactly these roles, in force at once. Needs `identity:admin`, and the role of a super admin or a
    /// partner admin. Nobody raises himself; a partner admin gives at most his own role, within his partner, and takes
    /// nothing from a super admin. What the identity provider gives is taken away there.
    ///
    /// # Errors
    /// [`Code::IdentityNotFound`], [`Code::AccessDenied`]; [`Code::ValidationError`] on `roles` if one is missing that
    /// the provider gives; [`Code::InvalidState`] for a user who is not active.
    pub async fn set_roles(&self, user: &str, roles: &[Role]) -> Result<UserRoles> {
        let act = Act::object(Action::RoleAssign, &[Scope::IdentityAdmin], "user", Some(user));
        let work = |permit: Permit<'a>| async move { set_roles(permit, user, roles).await };
        self.vault.door.perform(self.ctx, act, work).await
    }
}

fn meaning(role: Role) -> &'static str {
    match role {
        Role::SuperAdmin => "Everything, everywhere",
        Role::PartnerAdmin => "The tenants of one partner",
        Role::TenantAdmin => "One tenant",
    }
}

/// The user whose roles are asked for.
struct Target {
    tenant: TenantId,
    status: String,
    names: Vec<String>,
    from_provider: Vec<String>,
}

impl Target {
    fn provided(&self) -> Vec<Role> {
        roles_of(self.from_provider.iter().map(String::as_str))
    }

    fn with(&self, user: &str, roles: Vec<Role>) -> UserRoles {
        UserRoles {
            user_id: user.to_owned(),
            tenant_id: self.tenant.as_str().to_owned(),
            roles,
            from_identity_provider: self.provided(),
        }
    }
}

/// The user of that id whom the caller may see, first of all in the tenant that is acted on.
async fn find(permit: &Permit<'_>, user: &str) -> Result<Target> {
    type Found = (String, Option<String>, String, Option<String>, Option<String>, Json<Vec<String>>);
    let found: Vec<Found> = permit.fetch_all(query(sql::USERS_OF_ID).bind(user)).await?;
    let reach = Reach::of(permit);
    let mut seen: Vec<Found> =
        found.into_iter().filter(|(tenant, partner, ..)| reach.holds(tenant, partner.as_deref())).collect();
    seen.sort_by_key(|(tenant, ..)| tenant != permit.tenant().as_str());
    let (tenant, _, status, email, external, Json(from_provider)) =
        seen.into_iter().next().ok_or_else(no_identity)?;
    let names = names_of(user, email.as_deref(), external.as_deref());
    Ok(Target { tenant: TenantId::parse(tenant)?, status, names, from_provider })
}

async fn set_roles(permit: Permit<'_>, user: &str, wanted: &[Role]) -> Result<Outcome<UserRoles>> {
    let mut permit = permit.over_directory()?;
    let caller = permit.ctx().caller();
    let most = if caller.has_role(Role::SuperAdmin) {
        Role::SuperAdmin
    } else if caller.has_role(Role::PartnerAdmin) {
        Role::PartnerAdmin
    } else {
        return Err(denied("Only a super admin or a partner admin gives roles."));
    };
    let target = find(&permit, user).await?;
    let held: BTreeSet<Role> =
        all_roles(&permit, &target.tenant, &target.names, &target.from_provider).await?.into_iter().collect();
    let wanted: BTreeSet<Role> = wanted.iter().copied().collect();
    let himself =
        target.tenant == *caller.tenant_id() && target.names.iter().any(|name| name == caller.identity_id());
    if himself && !wanted.is_subset(&held) {
        return Err(denied("Nobody gives a role to himself."));
    }
    let touches = |role| held.contains(&role) || wanted.contains(&role);
    if most != Role::SuperAdmin && touches(Role::SuperAdmin) {
        return Err(denied("Only a super admin gives that role, and changes who has it."));
    }
    let provided: BTreeSet<Role> = target.provided().into_iter().collect();
    if let Some(role) = provided.difference(&wanted).next() {
        let reason = format!("must name {role}, which the identity provider gives: it is taken away there");
        return Err(Error::field("roles", reason));
    }
    if target.status != ACTIVE {
        return Err(Error::new(Code::InvalidState, "The user is not active."));
    }
    let shown = |roles: &BTreeSet<Role>| roles.iter().map(|role| role.as_str()).collect::<Vec<_>>();
    permit.note("tenant", target.tenant.as_str());
    permit.note("roles_before", shown(&held));
    permit.note("roles", shown(&wanted));
    let mut tx = permit.begin().await?;
    apply::lock(&mut tx).await?;
    let (now, by) = (tx.ctx().now(), tx.ctx().caller().identity_id());
    for role in Role::ALL {
        if wanted.contains(role) && !provided.contains(role) {
            let grant = query(sql::GRANT).bind(&target.tenant).bind(user).bind(role.as_str());
            tx.execute(grant.bind(by).bind(now)).await?;
        } else if !wanted.contains(role) {
            // Also what was given to him by a name.
            for name in &target.names {
                tx.execute(query(sql::REVOKE).bind(&target.tenant).bind(name).bind(role.as_str())).await?;
            }
        }
    }
    apply::raise(&mut tx, Some(&target.tenant)).await?;
    let roles = target.with(user, wanted.into_iter().collect());
    tx.commit(roles).await
}

fn denied(message: &'static str) -> Error {
    Error::new(Code::AccessDenied, message)
}

impl Vault {
    /// Looks at who asks before anything else is done for him: refuses him whom the directory has closed, and gives his
    /// roles and groups to `ctx`. Every verb does the same; a server does it first, so that everybody else is told of it
    /// in one way. Makes him a super admin whom the vault was told to begin with, once.
    ///
    /// # Errors
    /// [`Code::TokenRevoked`].
    pub async fn admit(&self, ctx: &Ctx) -> Result<()> {
        if self.inner().bootstrap.as_deref().is_some_and(|email| is_him(ctx.caller(), email)) {
            // Who is closed is not raised.
            self.inner().door.directory().standing(ctx.caller()).await?;
            self.bootstrap(ctx.caller()).await?;
        }
        self.inner().door.admit(ctx).await
    }

    /// Promotes the first super admin if there never was one.
    async fn bootstrap(&self, caller: &Caller) -> Result<()> {
        let directory = self.inner().door.directory();
        let done: Option<(Option<Ts>,)> = directory.db().fetch_optional(query(sql::BOOTSTRAPPED)).await?;
        if done.is_some_and(|(at,)| at.is_some()) {
            return Ok(());
        }
        let ctx = ctx_in(self, Some(caller.tenant_id()), "bootstrap").await?;
        let identity = caller.identity_id();
        let act = Act::object(Action::RoleAssign, &[], "user", Some(identity));
        let tenant = caller.tenant_id();
        let door = &self.inner().door;
        door.perform(&ctx, act, |permit| async move { promote(permit, tenant, identity).await }).await
    }
}

async fn promote(permit: Permit<'_>, tenant: &TenantId, identity: &str) -> Result<Outcome<()>> {
    let mut tx = permit.over_directory()?.begin().await?;
    apply::lock(&mut tx).await?;
    let there: Option<(i64,)> = tx.fetch_optional(query(sql::SUPER_ADMINS)).await?;
    let now = tx.ctx().now();
    let once = tx.execute(query(sql::BOOTSTRAP).bind(now).bind(identity)).await? == 1;
    let first = once && there.is_none_or(|(admins,)| admins == 0);
    if first {
        let grant = query(sql::GRANT).bind(tenant).bind(identity).bind(Role::SuperAdmin.as_str());
        tx.execute(grant.bind("system:bootstrap").bind(now)).await?;
        apply::raise(&mut tx, Some(tenant)).await?;
    }
    tx.note("tenant", tenant.as_str());
    tx.note("roles", if first { vec![Role::SuperAdmin.as_str()] } else { Vec::new() });
    tx.commit(()).await
}

/// Whether a token speaks for the person of that address: by its name, or by the address that its issuer has verified.
fn is_him(caller: &Caller, email: &str) -> bool {
    let name = caller.identity_id();
    let by_name = name == email || name.strip_prefix("user:") == Some(email);
    caller.identity_type() == IdentityType::User && (by_name || caller.email() == Some(email))
}
