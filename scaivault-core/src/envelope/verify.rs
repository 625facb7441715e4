use std::collections::HashMap;

use scaivault_kms::{KmsError, SecretKey};

use super::{
    keyring::open_tenant_key,
    rewrap::Watch,
    rooted::{Rooted, RootedTable},
    roots::{Closed, Roots, is_out},
    seal::{self, Aead},
    store::{self, SealedTable, TenantKeyAndPartner, WrapRow, sql},
    types::{Broken, KeyReport, Progress, RootReport, Verify},
    wraps::RootId,
};
use crate::{
    Result, TenantId, limits,
    pipeline::{Outcome, Permit},
    storage::query,
};

/// Opens the keys from the root down, past every cache.
pub(super) async fn verify(permit: Permit<'_>, how: Verify, watch: Watch<'_>) -> Result<Outcome<KeyReport>> {
    let mut permit = permit.over_keys()?;
    let mut report = KeyReport::default();
    let partner_keys = rooted_keys(&permit, &mut report).await?;
    let mut after = String::new();
    loop {
        let page: Vec<(String, String)> =
            permit.fetch_all(query(sql::TENANTS_WITH_KEYS).bind(&after)).await?;
        let Some((last, _)) = page.last() else { break };
        after.clone_from(last);
        for (tenant, _) in page {
            let tenant = TenantId::stored(tenant)?;
            let keys = tenant_keys(&permit, &tenant, &partner_keys, &mut report).await?;
            for table in SealedTable::ALL {
                data_keys(&permit, (&tenant, &keys), table, how, &mut report).await?;
                if let Some(watch) = watch {
                    let done = report.checked.data_keys;
                    watch(Progress { table: table.name(), done, total: done });
                }
            }
        }
    }
    permit.note("partner_keys", report.checked.partner_keys);
    permit.note("tenant_keys", report.checked.tenant_keys);
    permit.note("data_keys", report.checked.data_keys);
    permit.note("broken", report.broken_total);
    permit.answer(report)
}

/// Open keys by their names.
type Opened = HashMap<String, Aead>;

async fn rooted_keys(permit: &Permit<'_>, report: &mut KeyReport) -> Result<Opened> {
    let keyring = permit.keyring();
    report.roots = keyring
        .roots()
        .iter()
        .map(|root| RootReport { name: root.name().to_owned(), opened: 0, broken: 0, unchecked: 0 })
        .collect();
    let mut opened = Opened::new();
    for table in RootedTable::ALL {
        let mut after = String::new();
        loop {
            let page = table.page(&keyring.key_db(), &after).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            for key in page {
                match table {
                    RootedTable::Partner => report.checked.partner_keys += 1,
                    RootedTable::Audit | RootedTable::Recovery => report.checked.instance_keys += 1,
                }
                if let Some(open) = rooted_key(keyring.roots(), &key, report).await? {
                    opened.insert(key.id, Aead::new(open)?);
                }
            }
        }
    }
    Ok(opened)
}

/// Opens a key by every root key that it is under and that is configured.
async fn rooted_key(roots: &Roots, key: &Rooted, report: &mut KeyReport) -> Result<Option<SecretKey>> {
    let owner = if key.owner.is_empty() { "the vault" } else { &key.owner };
    let (table, id) = (key.table.name(), key.id.as_str());
    let wraps = match key.wraps() {
        Ok(wraps) => wraps,
        Err(error) => {
            report.broken(table, id, owner, error.to_string());
            return Ok(None);
        }
    };
    let (mut open, mut outages, mut held) = (None::<SecretKey>, Vec::new(), false);
    // Wraps of a root key that is no longer configured, and those of its kind that do not know it.
    let mut strangers = Vec::new();
    for wrap in wraps.iter() {
        for root in roots.holders(&RootId::of(wrap)) {
            held = true;
            let result = roots.unwrap(root, wrap, &key.context).await;
            let Some(seen) = report.roots.iter_mut().find(|seen| seen.name == root.name()) else { continue };
            let reason = match result {
                Ok(key) if open.as_ref().is_none_or(|known| known.ct_eq(&key)) => {
                    seen.opened += 1;
                    open = Some(key);
                    continue;
                }
                Ok(_) => "it opens to another key than the others".to_owned(),
                // Nothing is known about the wrap then.
                Err(error) if is_out(&error) || matches!(error, KmsError::Device { .. }) => {
                    seen.unchecked += 1;
                    outages.push((root.name().to_owned(), error));
                    continue;
                }
                Err(error @ KmsError::NotFound { .. }) if root.id() != RootId::of(wrap) => {
                    strangers.push((root.name(), error));
                    continue;
                }
                Err(error) => error.to_string(),
            };
            seen.broken += 1;
            report.broken(table, id, owner, format!("under root key {}: {reason}", root.name()));
        }
    }
    if open.is_none() && !outages.is_empty() {
        return Err(Closed(outages).into());
    }
    for (name, error) in strangers.into_iter().filter(|_| open.is_none()) {
        report.broken(table, id, owner, format!("under root key {name}: {error}"));
    }
    if !held {
        let names: Vec<String> = wraps.iter().map(|wrap| RootId::of(wrap).to_string()).collect();
        report.broken(table, id, owner, format!("it is under {}, not configured", names.join(", ")));
    }
    Ok(open)
}

async fn tenant_keys(
    permit: &Permit<'_>,
    tenant: &TenantId,
    partner_keys: &Opened,
    report: &mut KeyReport,
) -> Result<Opened> {
    let rows: Vec<TenantKeyAndPartner> = permit.fetch_all_of(tenant, store::tenant_keys(tenant)).await?;
    let mut opened = Opened::new();
    for (row, _) in rows.iter().map(TenantKeyAndPartner::parts) {
        report.checked.tenant_keys += 1;
        let above = partner_keys.get(&row.partner_key_id);
        match above.map(|above| open_tenant_key(tenant, &row, above)) {
            Some(Ok(key)) => drop(opened.insert(row.id, Aead::new(key)?)),
            Some(Err(_)) => {
                let reason = format!("does not open under partner key {}", row.partner_key_id);
                report.broken("tenant_key", row.id, tenant.as_str(), reason);
            }
            None => {
                let reason = format!("its partner key {} does not open", row.partner_key_id);
                report.broken("tenant_key", row.id, tenant.as_str(), reason);
            }
        }
    }
    Ok(opened)
}

async fn data_keys(
    permit: &Permit<'_>,
    (tenant, keys): (&TenantId, &Opened),
    table: SealedTable,
    how: Verify,
    report: &mut KeyReport,
) -> Result<()> {
    let mut check = |row: &WrapRow| {
        report.checked.data_keys += 1;
        let reason = match keys.get(&row.key_id) {
            None => format!("its tenant key {} does not open", row.key_id),
            Some(key) => {
                let opened = table.in_slot(tenant, row, |slot| {
                    seal::open_wrap(slot, (&row.key_id, key), &row.wrapped_key).is_some()
                });
                if opened {
                    return;
                }
                format!("does not open under tenant key {}: it was changed or moved", row.key_id)
            }
        };
        report.broken(table.name(), row.name(table), tenant.as_str(), reason);
    };
    if let Verify::Sample(count) = how {
        let rows: Vec<WrapRow> = permit.fetch_all_of(tenant, table.some(tenant, count)).await?;
        rows.iter().for_each(check);
        return Ok(());
    }
    let mut last: Option<WrapRow> = None;
    loop {
        let mut rows: Vec<WrapRow> =
            permit.fetch_all_of(tenant, table.page(tenant, last.as_ref(), CHUNK)).await?;
        rows.iter().for_each(&mut check);
        last = rows.pop();
        if last.is_none() {
            return Ok(());
        }
    }
}

/// Wraps read at once.
const CHUNK: usize = 500;

impl KeyReport {
    fn broken(
        &mut self,
        table: &'static str,
        row: impl Into<String>,
        owner: impl Into<String>,
        reason: String,
    ) {
        self.broken_total += 1;
        if self.broken.len() < limits::BROKEN_NAMED {
            self.broken.push(Broken { table, row: row.into(), owner: owner.into(), reason });
        }
    }
}
