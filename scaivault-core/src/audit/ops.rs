use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    Action, AuditFilter, AuditLog,
    store::{self, Row},
};
use crate::{
    Ctx, Error, Result, Scope,
    pipeline::{Act, On, Outcome, Permit},
    policy::Permission,
    secrets::SecretPath,
    storage::{Query, QueryBuilder, Ts, prefix_end},
    vault::Inner,
    wire::{self, Page},
};

/// The verbs on the audit trail, for one caller. From [`Vault::audit`](crate::Vault::audit).
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a> {
    pub(super) vault: &'a Inner,
    pub(super) ctx: &'a Ctx,
}

impl<'a> Audit<'a> {
    pub(crate) fn new(vault: &'a Inner, ctx: &'a Ctx) -> Self {
        Self { vault, ctx }
    }

    /// The records of the tenant that match, newest first. Needs `audit:read`. The query is itself recorded.
    ///
    /// # Errors
    /// [`crate::Code::InvalidCursor`].
    pub async fn query(&self, filter: AuditFilter) -> Result<Page<AuditLog>> {
        let act = Act::object(Action::AuditQuery, &[Scope::AuditRead], "audit_log", None);
        let vault = self.vault;
        vault.door.perform(self.ctx, act, |permit| async move { page(vault, permit, &filter).await }).await
    }

    /// Records that a request of this caller was refused before it reached a verb (a body or a path that
    /// cannot be read, say), unless a verb recorded the error already. `about` is the path or identifier
    /// as far as it is known. Gives back the error to answer with: a caller who has none of `any_of`, or whom
    /// no policy lets do it, is told that instead. Nothing of this is asked if `any_of` is empty.
    pub async fn refused(
        &self,
        action: Action,
        any_of: &'static [Scope],
        about: Option<&str>,
        error: Error,
        took: std::time::Duration,
    ) -> Error {
        let on = match (about, permission(action)) {
            (Some(about), Some(permission)) if SecretPath::parse(about).is_ok() => {
                On::Path { path: about.to_owned(), permission }
            }
            (Some(role), _) if of_role(action, any_of) => {
                let verb = if action == Action::PkiIssue { "issue" } else { "sign" };
                let path = format!("pki/{verb}/{role}");
                On::Virtual { kind: "pki_role", path, permission: Permission::Read }
            }
            (Some(about), _) => On::Object { kind: "request", id: Some(about.to_owned()) },
            (None, _) => On::Nothing,
        };
        self.vault.door.refuse_unread(self.ctx, Act { action, scopes: any_of, on }, error, took).await
    }
}

/// Whether a request names a role, by which policies decide. The signature on a request that was approved does not.
fn of_role(action: Action, any_of: &[Scope]) -> bool {
    action == Action::PkiIssue || action == Action::PkiSign && any_of == [Scope::PkiIssue]
}

/// What an act on a secret's path takes.
pub(crate) fn permission(action: Action) -> Option<Permission> {
    match action {
        Action::Read => Some(Permission::Read),
        Action::Write | Action::Restore => Some(Permission::Write),
        Action::Delete => Some(Permission::Delete),
        Action::List => Some(Permission::List),
        _ => None,
    }
}

/// The place of the last record of a page.
#[derive(Serialize, Deserialize)]
struct Last {
    /// Microseconds since 1970.
    at: i128,
    id: String,
}

impl Last {
    fn time(&self) -> Result<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp_nanos(self.at * 1000).map_err(Error::internal)
    }
}

async fn page(vault: &Inner, permit: Permit<'_>, filter: &AuditFilter) -> Result<Outcome<Page<AuditLog>>> {
    let logs = read_page(vault, &permit, filter).await?;
    permit.answer(logs)
}

/// A page of the trail in which everything that was durable before is found.
pub(crate) async fn read_page(
    vault: &Inner,
    permit: &Permit<'_>,
    filter: &AuditFilter,
) -> Result<Page<AuditLog>> {
    vault.door.audit_linked(permit.tenant().as_str()).await?;
    let keys = permit.keys().await?;
    let bound = Bound::of(filter);
    let open = |cursor: &String| wire::open_cursor::<Last>(&keys, "audit", &bound, cursor);
    let last = filter.cursor.as_ref().map(open).transpose()?;
    let wanted = wire::page_size(filter.limit);
    // The newest records first: most pages are full with them, and PostgreSQL looks into few of its partitions.
    let near = near(vault, filter, last.as_ref())?;
    let windows = match near {
        Some(near) => vec![(Some(near), filter.to), (filter.from, Some(near))],
        None => vec![(filter.from, filter.to)],
    };
    let mut rows: Vec<Row> = Vec::new();
    for window in windows {
        let missing = wanted + 1 - rows.len();
        if missing > 0 {
            let select = select(permit.tenant(), filter, (window, last.as_ref()), missing as i64)?;
            rows.extend(permit.fetch_all_lagging::<Row>(select).await?);
        }
    }
    let logs = rows.into_iter().map(AuditLog::from).collect();
    let place =
        |last: &AuditLog| Last { at: last.timestamp.unix_timestamp_nanos() / 1000, id: last.id.clone() };
    wire::cut(logs, wanted, (&keys, "audit", &bound), place)
}

/// Where the newest records begin that a page is looked for in first, where that is worth two statements.
fn near(vault: &Inner, filter: &AuditFilter, last: Option<&Last>) -> Result<Option<OffsetDateTime>> {
    let end = match last {
        Some(last) => last.time()?,
        None => filter.to.unwrap_or_else(|| vault.clock.now()),
    };
    let near = end.checked_sub(NEAR).filter(|near| filter.from.is_none_or(|from| from < *near));
    Ok(near.filter(|_| vault.door.has_partitions()))
}

/// How long ago what is looked for first may have been.
const NEAR: time::Duration = time::Duration::days(30);

/// From, and before.
type Window = (Option<OffsetDateTime>, Option<OffsetDateTime>);

fn select<'a>(
    tenant: &'a crate::TenantId,
    filter: &'a AuditFilter,
    (window, last): (Window, Option<&'a Last>),
    limit: i64,
) -> Result<Query<'a>> {
    let mut q = QueryBuilder::new(store::SELECT);
    q.arg(tenant);
    q.and("timestamp >= ", window.0).and("timestamp < ", window.1);
    q.and_in("action", filter.actions.iter().map(String::as_str));
    q.and("identity_id = ", filter.identity_id.as_deref())
        .and("identity_type = ", filter.identity_type.as_deref());
    q.and("secret_path = ", filter.path.as_deref());
    if let Some(prefix) = filter.path_prefix.as_deref() {
        q.and("secret_path >= ", Some(prefix)).and("secret_path < ", prefix_end(prefix));
    }
    // As text: the index of what failed is of use only to a statement that says so itself.
    match filter.success {
        Some(true) => drop(q.text(" AND success")),
        Some(false) => drop(q.text(" AND NOT success")),
        None => {}
    }
    q.and("source_ip = ", filter.source_ip.as_deref());
    q.and("request_id = ", filter.request_id.as_deref());
    if let Some(last) = last {
        let at = last.time()?;
        // Said twice: a comparison of pairs shows PostgreSQL no partition that it need not look into.
        q.and("timestamp <= ", Some(at));
        q.text(" AND (timestamp, id) < (").arg(at).text(", ").arg(&last.id).text(")");
    }
    q.text(" ORDER BY timestamp DESC, id DESC LIMIT ").arg(limit);
    Ok(q.build())
}

/// What a cursor is bound to besides its tenant.
#[derive(Serialize)]
struct Bound<'f> {
    from: Option<i128>,
    to: Option<i128>,
    actions: &'f [String],
    text: [&'f Option<String>; 6],
    success: Option<bool>,
}

impl<'f> Bound<'f> {
    fn of(filter: &'f AuditFilter) -> Self {
        let AuditFilter {
            from,
            to,
            actions,
            identity_id,
            identity_type,
            path,
            path_prefix,
            success,
            source_ip,
            request_id,
            ..
        } = filter;
        Self {
            from: from.map(|t| Ts::from(t).get().unix_timestamp_nanos()),
            to: to.map(|t| Ts::from(t).get().unix_timestamp_nanos()),
            actions,
            text: [identity_id, identity_type, path, path_prefix, source_ip, request_id],
            success: *success,
        }
    }
}
