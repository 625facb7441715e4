use serde::Serialize;

use super::{
    SecretItem, Secrets,
    path::check_characters,
    store::{self, Scan, SecretRow},
    types::ListFilter,
};
use crate::{
    Result,
    audit::Action,
    identity::Scope,
    limits,
    pipeline::{Act, On, Outcome, Permit},
    policy::Permission,
    wire::{self, Page},
};

/// What a cursor is bound to besides its tenant.
#[derive(Serialize)]
struct Bound<'f> {
    caller: &'f str,
    prefix: &'f Option<String>,
    tag: &'f Option<String>,
    secret_type: Option<&'static str>,
    include_deleted: bool,
    expiring_within: Option<u64>,
}

pub(super) async fn list(secrets: &Secrets<'_>, filter: ListFilter) -> Result<Page<SecretItem>> {
    let on = On::Listing { prefix: filter.prefix.clone() };
    let act = Act { action: Action::List, scopes: &[Scope::SecretsList], on };
    let retention = secrets.vault.settings.soft_delete_retention;
    let deleted_after = filter.include_deleted.then(|| secrets.ctx.now() - retention);
    let work = |permit| async move { page(permit, &filter, deleted_after).await };
    secrets.vault.door.perform(secrets.ctx, act, work).await
}

async fn page(
    permit: Permit<'_>,
    filter: &ListFilter,
    deleted_after: Option<time::OffsetDateTime>,
) -> Result<Outcome<Page<SecretItem>>> {
    check_characters(filter.prefix.as_deref().unwrap_or_default())?;
    let bound = Bound {
        caller: permit.ctx().caller().identity_id(),
        prefix: &filter.prefix,
        tag: &filter.tag,
        secret_type: filter.secret_type.map(super::SecretType::as_str),
        include_deleted: filter.include_deleted,
        expiring_within: filter.expiring_within.map(|d| d.as_secs()),
    };
    let now = permit.ctx().now();
    let expiring = filter.expiring_within.map(|window| (now, now + window.min(limits::RETENTION_MAX)));
    let keys = permit.keys().await?;
    let mut after: Option<String> = match &filter.cursor {
        Some(cursor) => Some(wire::open_cursor(&keys, "secrets", &bound, cursor)?),
        None => None,
    };
    let wanted = wire::page_size(filter.limit);
    let mut paths: Vec<String> = Vec::new();
    let mut looked_at = 0;
    let more = loop {
        // One row more than wanted tells whether there is another page. Where rows were passed over, more
        // are fetched at once.
        let limit = (wanted + 1 - paths.len()).max(if looked_at == 0 { 0 } else { STEP });
        let scan = Scan {
            tenant: permit.tenant(),
            prefix: filter.prefix.as_deref(),
            tag: filter.tag.as_deref(),
            secret_type: bound.secret_type,
            deleted_after,
            expiring,
            after: after.as_deref(),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        };
        let rows: Vec<(String,)> = permit.fetch_all_lagging(scan.query()).await?;
        let (count, mut another) = (rows.len(), false);
        looked_at += count;
        for (path,) in rows {
            let allowed = permit.may(&path, Permission::List);
            // Only a row that the caller may see is a reason for another page: one that he may not see
            // must not show by it.
            another = allowed && paths.len() == wanted;
            if another {
                break;
            }
            after = Some(path.clone());
            if allowed {
                paths.push(path);
            }
        }
        if another {
            break true;
        }
        if count < limit {
            break false;
        }
        if looked_at >= limits::LIST_SCAN {
            break true;
        }
    };
    // Paths are short; the rows that hold metadata are read only where the caller may see them.
    let rows: Vec<SecretRow> = match paths.is_empty() {
        true => Vec::new(),
        false => permit.fetch_all_lagging(store::secrets(permit.tenant(), &paths)).await?,
    };
    let items = rows.into_iter().map(SecretRow::into_item).collect::<Result<_>>()?;
    let cursor = match (more, after) {
        (true, Some(after)) => Some(wire::seal_cursor(&keys, "secrets", &bound, &after)?),
        _ => None,
    };
    permit.answer(Page { items, cursor })
}

/// Rows fetched at once after a first step that had some the caller may not see.
const STEP: usize = 256;
