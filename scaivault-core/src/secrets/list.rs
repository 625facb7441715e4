use serde::{Deserialize, Serialize};

use super::{
    SecretItem, Secrets,
    path::check_characters,
    store::{self, Scan, SecretRow},
    types::ListFilter,
};
use crate::{
    Result, TenantId,
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

/// Where a page ended in the tenant's own secrets, and in those that its partner shares.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Places {
    own: Option<String>,
    shared: Option<String>,
}

/// What one step through the secrets of a tenant, or of what stands for a partner, has found.
struct Found {
    paths: Vec<String>,
    /// The last path that was looked at.
    after: Option<String>,
    more: bool,
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
    let purpose = if filter.include_partner { "secrets-and-partners" } else { "secrets" };
    let places = match (&filter.cursor, filter.include_partner) {
        (None, _) => Places::default(),
        (Some(cursor), true) => wire::open_cursor(&keys, purpose, &bound, cursor)?,
        (Some(cursor), false) => {
            Places { own: Some(wire::open_cursor(&keys, purpose, &bound, cursor)?), shared: None }
        }
    };
    let wanted = wire::page_size(filter.limit);
    let scan = |tenant, after| Scan {
        tenant,
        prefix: filter.prefix.as_deref(),
        tag: filter.tag.as_deref(),
        secret_type: bound.secret_type,
        deleted_after,
        expiring,
        after,
        limit: 0,
    };
    let own = walk(&permit, scan(permit.tenant(), None), places.own.clone(), wanted).await?;
    if !filter.include_partner || permit.tenant().is_partner() {
        let items = items(&permit, permit.tenant(), &own.paths).await?;
        let cursor = match (own.more, own.after) {
            (false, _) | (_, None) => None,
            (true, Some(after)) if !filter.include_partner => {
                Some(wire::seal_cursor(&keys, purpose, &bound, &after)?)
            }
            (true, own) => Some(wire::seal_cursor(&keys, purpose, &bound, &Places { own, shared: None })?),
        };
        return permit.answer(Page { items, cursor });
    }
    let partner = permit.shared();
    let shared = walk(&permit, scan(&partner, None), places.shared.clone(), wanted).await?;
    let (own, shared, places) = merge(own, shared, places, wanted);
    let mut all = items(&permit, permit.tenant(), &own).await?;
    all.extend(items(&permit, &partner, &shared).await?);
    all.sort_by(|a, b| (&a.path, a.scope).cmp(&(&b.path, b.scope)));
    let cursor = places.map(|places| wire::seal_cursor(&keys, purpose, &bound, &places)).transpose()?;
    permit.answer(Page { items: all, cursor })
}

/// The next `wanted` paths that the caller may list.
async fn walk(
    permit: &Permit<'_>,
    scan: Scan<'_>,
    mut after: Option<String>,
    wanted: usize,
) -> Result<Found> {
    let shared = scan.tenant != permit.tenant();
    let mut paths: Vec<String> = Vec::new();
    let mut looked_at = 0;
    let more = loop {
        // One row more than wanted tells whether there is another page. Where rows were passed over, more
        // are fetched at once.
        let limit = (wanted + 1 - paths.len()).max(if looked_at == 0 { 0 } else { STEP });
        let step = Scan { after: after.as_deref(), limit: i64::try_from(limit).unwrap_or(i64::MAX), ..scan };
        let rows: Vec<(String,)> = permit.fetch_all_lagging(step.query()).await?;
        let (count, mut another) = (rows.len(), false);
        looked_at += count;
        for (path,) in rows {
            let allowed = shared || permit.may(&path, Permission::List);
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
    Ok(Found { paths, after, more })
}

/// The first `wanted` of two lists in one order, a path of the first list before the same of the second; and where to
/// go on, if there is more. What lies behind the end of a list that goes on waits for it.
fn merge(
    own: Found,
    shared: Found,
    before: Places,
    wanted: usize,
) -> (Vec<String>, Vec<String>, Option<Places>) {
    let end = |found: &Found, rank| found.more.then(|| (found.after.clone().unwrap_or_default(), rank));
    let end = [end(&own, 0), end(&shared, 1)].into_iter().flatten().min();
    let mut all: Vec<(String, u8)> = Vec::with_capacity(own.paths.len() + shared.paths.len());
    all.extend(own.paths.iter().map(|path| (path.clone(), 0)));
    all.extend(shared.paths.iter().map(|path| (path.clone(), 1)));
    all.sort_unstable();
    all.retain(|place| end.as_ref().is_none_or(|end| place <= end));
    all.truncate(wanted);
    let (own_kept, shared_kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, rank)| *rank == 0);
    let texts = |kept: Vec<(String, u8)>| kept.into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    let (own_kept, shared_kept) = (texts(own_kept), texts(shared_kept));
    let next = |found: &Found, kept: &[String], before: Option<String>| match kept.len() {
        all if all == found.paths.len() => found.after.clone(),
        0 => before,
        some => Some(kept[some - 1].clone()),
    };
    let cut = own_kept.len() < own.paths.len() || shared_kept.len() < shared.paths.len();
    let places = (cut || own.more || shared.more).then(|| Places {
        own: next(&own, &own_kept, before.own),
        shared: next(&shared, &shared_kept, before.shared),
    });
    (own_kept, shared_kept, places)
}

/// Paths are short; the rows that hold metadata are read only where the caller may see them.
async fn items(permit: &Permit<'_>, of: &TenantId, paths: &[String]) -> Result<Vec<SecretItem>> {
    let rows: Vec<SecretRow> = match paths.is_empty() {
        true => Vec::new(),
        false => permit.fetch_all_lagging(store::secrets(of, paths)).await?,
    };
    rows.into_iter().map(|row| row.into_item(of)).collect()
}

/// Rows fetched at once after a first step that had some the caller may not see.
const STEP: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A step through `paths`, of which those that are hidden are passed over.
    fn step(paths: &[(String, bool)], after: Option<&String>, wanted: usize, scan: usize) -> Found {
        let rest: Vec<_> = paths.iter().filter(|(path, _)| after.is_none_or(|after| path > after)).collect();
        let mut found = Found { paths: Vec::new(), after: after.cloned(), more: false };
        for (looked_at, (path, seen)) in rest.into_iter().enumerate() {
            if looked_at == scan || *seen && found.paths.len() == wanted {
                found.more = true;
                break;
            }
            found.after = Some(path.clone());
            if *seen {
                found.paths.push(path.clone());
            }
        }
        found
    }

    fn paths() -> impl Strategy<Value = Vec<(String, bool)>> {
        prop::collection::btree_map("[ab]{1,3}", any::<bool>(), 0..12)
            .prop_map(|paths| paths.into_iter().collect())
    }

    proptest! {
        #[test]
        fn pages_of_two_lists_hold_each_item_once_and_in_order(
            own in paths(), shared in paths(), wanted in 1..5_usize, scan in 1..6_usize,
        ) {
            let shared: Vec<_> = shared.into_iter().map(|(path, _)| (path, true)).collect();
            let mut expected: Vec<_> = own.iter().filter(|(_, seen)| *seen).map(|(p, _)| (p.clone(), 0)).collect();
            expected.extend(shared.iter().map(|(path, _)| (path.clone(), 1)));
            expected.sort();
            let (mut all, mut places) = (Vec::new(), Some(Places::default()));
            let mut pages = 0;
            while let Some(at) = places {
                let (mine, theirs) =
                    (step(&own, at.own.as_ref(), wanted, scan), step(&shared, at.shared.as_ref(), wanted, scan));
                let (own, shared, next) = merge(mine, theirs, at, wanted);
                prop_assert!(own.len() + shared.len() <= wanted);
                let mut page: Vec<_> = own.into_iter().map(|path| (path, 0)).collect();
                page.extend(shared.into_iter().map(|path| (path, 1)));
                page.sort();
                all.extend(page);
                places = next;
                pages += 1;
                prop_assert!(pages < 100, "no end");
            }
            prop_assert_eq!(all, expected);
        }
    }
}
