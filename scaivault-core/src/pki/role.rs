use super::{
    Pki,
    certificate::{COMPROMISED, is_blocked},
    issue::{Ready, asked},
    issuer::not_found as ca_not_found,
    store::{RoleRow, sql},
    types::{Role, RolePatch, RoleQuestion, RoleVerdict, RoleWrite, SignNames},
};
use crate::{
    Code, Error, Result, Scope,
    audit::Action,
    limits, name,
    pipeline::{Act, Outcome, Permit, Write},
    storage::{json, query},
    wire::{self, Page},
};

const ADMIN: &[Scope] = &[Scope::PkiAdmin];

impl<'a> Pki<'a> {
    /// The tenant's roles by name. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`].
    pub async fn roles(&self, limit: Option<u32>, cursor: Option<String>) -> Result<Page<Role>> {
        let act = Act::object(Action::PkiRoleRead, ADMIN, "pki_role", None);
        self.vault
            .door
            .perform(self.ctx, act, |permit| async move { list(permit, limit, cursor).await })
            .await
    }

    /// One role. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::RoleNotFound`].
    pub async fn role(&self, name: &str) -> Result<Role> {
        let act = Act::object(Action::PkiRoleRead, ADMIN, "pki_role", Some(name));
        let work = |permit: Permit<'a>| async move {
            let row: Option<RoleRow> =
                permit.fetch_optional(query(sql::ROLE).bind(permit.tenant()).bind(name)).await?;
            permit.answer(row.ok_or_else(not_found)?.into_role())
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Stores a new role. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::InvalidRole`] naming every field, and for the names `root`, `system` and `default` in any case, since
    /// the name is part of a path; [`Code::CaNotFound`]; [`Code::NameConflict`] if the tenant has a role of that name
    /// in whatever case.
    pub async fn create_role(&self, write: RoleWrite) -> Result<Role> {
        let act = Act::object(Action::PkiRoleCreate, ADMIN, "pki_role", Some(&write.name));
        self.vault
            .door
            .perform(self.ctx, act, |permit| async move { create(permit, write.complete()).await })
            .await
    }

    /// Changes what is given. Certificates that were issued before stay as they are. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::RoleNotFound`], [`Code::InvalidRole`], [`Code::CaNotFound`].
    pub async fn patch_role(&self, name: &str, patch: RolePatch) -> Result<Role> {
        let act = Act::object(Action::PkiRoleUpdate, ADMIN, "pki_role", Some(name));
        let work = |permit: Permit<'a>| async move {
            let mut tx = permit.begin().await?;
            // Whoever else changes the role waits here.
            tx.execute(query(sql::LOCK_ROLE).bind(tx.tenant()).bind(name)).await?;
            let row: Option<RoleRow> =
                tx.fetch_optional(query(sql::ROLE).bind(tx.tenant()).bind(name)).await?;
            let config = patch.apply(&row.ok_or_else(not_found)?.config.0);
            config.compile()?;
            check_ca(&mut tx, &config.ca_id).await?;
            let update =
                query(sql::UPDATE_ROLE).bind(tx.tenant()).bind(name).bind(&config.ca_id).bind(json(&config)?);
            tx.execute(update.bind(tx.ctx().now())).await?;
            finish(tx, name).await
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Deletes a role; what it issued stays. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::RoleNotFound`].
    pub async fn delete_role(&self, name: &str) -> Result<()> {
        let act = Act::object(Action::PkiRoleDelete, ADMIN, "pki_role", Some(name));
        let work = |permit: Permit<'a>| async move {
            let mut tx = permit.begin().await?;
            if tx.execute(query(sql::DELETE_ROLE).bind(tx.tenant()).bind(name)).await? == 0 {
                return Err(not_found());
            }
            tx.commit(()).await
        };
        self.vault.door.perform(self.ctx, act, work).await
    }
}

impl<'a> Pki<'a> {
    /// Holds a request against a role, by the check that issues, and issues nothing: every rule that was broken and
    /// every rule that admitted something. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::RoleNotFound`]; [`Code::InvalidState`] if the CA no longer issues; [`Code::ValidationError`] for a
    /// certificate request that cannot be read.
    pub async fn test_role(&self, name: &str, question: RoleQuestion) -> Result<RoleVerdict> {
        let act = Act::object(Action::PkiRoleRead, ADMIN, "pki_role", Some(name));
        let vault = self.vault;
        let work = |mut permit: Permit<'a>| async move {
            let ready = Ready::find(vault, &permit, name).await?;
            let now = permit.ctx().now();
            let verdict = match question {
                RoleQuestion::Issue(write) => {
                    RoleVerdict::from(ready.role.test(&asked(write), &ready.ca.issuer, now))
                }
                RoleQuestion::Sign(write) => {
                    let csr = scaivault_pki::Csr::parse(write.csr_pem.as_bytes())?;
                    let (names, ttl) = (write.names.map(SignNames::into_override), write.ttl);
                    let ttl = ttl.map(|ttl| ttl.get());
                    let verdict = ready.role.test_csr(&csr, names, ttl, &ready.ca.issuer, now);
                    let mut verdict = RoleVerdict::from(verdict);
                    if is_blocked(&permit, csr.public_key_spki()).await? {
                        verdict.refuse("csr_pem", "blocked_key", COMPROMISED);
                    }
                    verdict
                }
            };
            permit.note("dry_run", true);
            permit.answer(verdict)
        };
        vault.door.perform(self.ctx, act, work).await
    }
}

async fn create(permit: Permit<'_>, config: RoleWrite) -> Result<Outcome<Role>> {
    config.compile()?;
    if name::is_reserved(&config.name) {
        return Err(Error::field("name", name::RESERVED_REASON).with_code(Code::InvalidRole));
    }
    let mut tx = permit.begin().await?;
    check_ca(&mut tx, &config.ca_id).await?;
    let count = query(sql::COUNT_ROLES).bind(tx.tenant());
    if tx.fetch_optional::<(i64,)>(count).await?.is_some_and(|(n,)| n >= limits::ROLES) {
        let message = format!("The tenant has {} roles, which is as many as there may be.", limits::ROLES);
        return Err(Error::new(Code::InvalidState, message));
    }
    let insert = query(sql::INSERT_ROLE)
        .bind(tx.tenant())
        .bind(&config.name)
        .bind(&config.ca_id)
        .bind(json(&config)?)
        .bind(tx.ctx().now())
        .bind(config.name.to_ascii_lowercase());
    if tx.execute(insert).await? == 0 {
        return Err(Error::new(Code::NameConflict, "name: another role of the tenant has this name"));
    }
    finish(tx, &config.name).await
}

async fn check_ca(tx: &mut Write<'_>, ca_id: &str) -> Result<()> {
    let state = query(sql::CA_STATE).bind(tx.tenant()).bind(ca_id);
    match tx.fetch_optional::<(bool, bool)>(state).await? {
        None => Err(ca_not_found()),
        Some((_, true)) => Err(super::issuer::pending()),
        Some((false, _)) => Err(super::ca::inactive()),
        Some((true, _)) => Ok(()),
    }
}

async fn finish(mut tx: Write<'_>, name: &str) -> Result<Outcome<Role>> {
    let row: Option<RoleRow> = tx.fetch_optional(query(sql::ROLE).bind(tx.tenant()).bind(name)).await?;
    let role = row.ok_or_else(|| Error::internal("a role vanished"))?.into_role();
    tx.note("ca_id", role.config.ca_id.clone());
    tx.commit(role).await
}

async fn list(permit: Permit<'_>, limit: Option<u32>, cursor: Option<String>) -> Result<Outcome<Page<Role>>> {
    let keys = permit.keys().await?;
    let open = |cursor: String| wire::open_cursor::<String>(&keys, "roles", &(), &cursor);
    let after = cursor.map(open).transpose()?.unwrap_or_default();
    let wanted = wire::page_size(limit);
    let page = query(sql::ROLES).bind(permit.tenant()).bind(&after).bind(wanted as i64 + 1);
    let rows: Vec<RoleRow> = permit.fetch_all_lagging(page).await?;
    let page = wire::cut(rows, wanted, (&keys, "roles", &()), |last| last.config.0.name.clone())?;
    permit.answer(page.try_map(|row| Ok(row.into_role()))?)
}

pub(super) fn not_found() -> Error {
    Error::new(Code::RoleNotFound, "There is no such role.")
}
