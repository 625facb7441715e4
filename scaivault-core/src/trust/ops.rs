use super::{
    Trust, TrustDocument,
    store::{self, TrustRow, sql},
};
use crate::{
    Action, Code, Ctx, Error, FieldErrors, Result, Scope, limits,
    pipeline::{Act, Outcome, Permit},
    storage::{json as json_arg, query},
    vault::Inner,
    wire::{self, Page},
};

/// The verbs on trust configurations, for one caller. From [`Vault::trusts`](crate::Vault::trusts).
#[derive(Clone, Copy, Debug)]
pub struct Trusts<'a> {
    vault: &'a Inner,
    ctx: &'a Ctx,
}

const ADMIN: &[Scope] = &[Scope::Admin];

impl<'a> Trusts<'a> {
    pub(crate) fn new(vault: &'a Inner, ctx: &'a Ctx) -> Self {
        Self { vault, ctx }
    }

    /// The tenant's trust configurations in the order they were made. Needs `admin`.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`].
    pub async fn list(&self, limit: Option<u32>, cursor: Option<String>) -> Result<Page<Trust>> {
        let act = Act::object(Action::TrustRead, ADMIN, "trust", None);
        let work = |permit| async move { list(permit, limit, cursor).await };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// One trust configuration. Needs `admin`.
    ///
    /// # Errors
    /// [`Code::TrustNotFound`].
    pub async fn read(&self, id: &str) -> Result<Trust> {
        let act = Act::object(Action::TrustRead, ADMIN, "trust", Some(id));
        let work = |permit: Permit<'a>| async move {
            let row: Option<TrustRow> =
                permit.fetch_optional(query(sql::TRUST).bind(permit.tenant()).bind(id)).await?;
            permit.answer(row.ok_or_else(not_found)?.into_trust()?)
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Stores a new trust configuration; from here on it is exchanged by. Needs `admin`. Nobody lets others do what he
    /// may not: the scopes and paths are within those of the caller's own token.
    ///
    /// # Errors
    /// [`Code::NameConflict`] if the tenant has one of that name, in whatever case; [`Code::ValidationError`] for scopes
    /// or paths that the caller has not; [`Code::InvalidState`] if there are [`limits::TRUSTS`].
    pub async fn create(&self, document: TrustDocument) -> Result<Trust> {
        let act = Act::object(Action::TrustCreate, ADMIN, "trust", None);
        self.vault.door.perform(self.ctx, act, |permit| async move { create(permit, document).await }).await
    }

    /// Deletes a trust configuration. Tokens that were given out by it last until they expire. Needs `admin`.
    ///
    /// # Errors
    /// [`Code::TrustNotFound`].
    pub async fn delete(&self, id: &str) -> Result<()> {
        let act = Act::object(Action::TrustDelete, ADMIN, "trust", Some(id));
        let work = |permit: Permit<'a>| async move {
            let mut tx = permit.begin().await?;
            if tx.execute(query(sql::DELETE).bind(tx.tenant()).bind(id)).await? == 0 {
                return Err(not_found());
            }
            tx.commit(()).await
        };
        self.vault.door.perform(self.ctx, act, work).await
    }
}

async fn list(
    permit: Permit<'_>,
    limit: Option<u32>,
    cursor: Option<String>,
) -> Result<Outcome<Page<Trust>>> {
    let keys = permit.keys().await?;
    let open = |cursor: String| wire::open_cursor::<String>(&keys, "trusts", &(), &cursor);
    let after = cursor.map(open).transpose()?;
    let wanted = wire::page_size(limit);
    let page = store::page(permit.tenant(), after.as_deref(), wanted as i64 + 1);
    let rows: Vec<TrustRow> = permit.fetch_all_lagging(page).await?;
    let page = wire::cut(rows, wanted, (&keys, "trusts", &()), |last| last.id.clone())?;
    permit.answer(page.try_map(TrustRow::into_trust)?)
}

async fn create(permit: Permit<'_>, document: TrustDocument) -> Result<Outcome<Trust>> {
    check_grantor(permit.ctx(), &document)?;
    let id = permit.new_id("trust_")?;
    let mut tx = permit.begin().await?;
    let count = query(sql::COUNT).bind(tx.tenant());
    if tx.fetch_optional::<(i64,)>(count).await?.is_some_and(|(n,)| n >= limits::TRUSTS) {
        let message = format!(
            "The tenant has {} trust configurations, which is as many as there may be.",
            limits::TRUSTS
        );
        return Err(Error::new(Code::InvalidState, message));
    }
    let (created_at, created_by) = (tx.ctx().now(), tx.ctx().caller().identity_id().to_owned());
    let insert = query(sql::INSERT)
        .bind(tx.tenant())
        .bind(&id)
        .bind(document.name().as_str())
        .bind(document.name().key())
        .bind(document.issuer())
        .bind(json_arg(&document)?)
        .bind(created_at)
        .bind(&created_by);
    if tx.execute(insert).await? == 0 {
        return Err(Error::new(
            Code::NameConflict,
            "name: another trust configuration of the tenant has this name",
        ));
    }
    tx.resource(&id);
    tx.note("name", document.name().as_str());
    tx.note("type", document.kind.as_str());
    tx.note("service_account", document.service_account.as_str());
    tx.commit(Trust { id, document, created_at, created_by }).await
}

fn check_grantor(ctx: &Ctx, document: &TrustDocument) -> Result<()> {
    let mut wrong = FieldErrors::default();
    for (at, scope) in document.scopes.iter().enumerate() {
        if !ctx.caller().has_scope(*scope) {
            wrong.push(format!("scopes[{at}]"), "is a scope that your token has not");
        }
    }
    if let Some(own) = ctx.caller().allowed_paths() {
        for (at, pattern) in document.allowed_paths.iter().enumerate() {
            if !own.iter().any(|own| own.covers(pattern)) {
                wrong.push(format!("allowed_paths[{at}]"), "reaches further than your token");
            }
        }
    }
    wrong.finish()
}

fn not_found() -> Error {
    Error::new(Code::TrustNotFound, "There is no such trust configuration.")
}
