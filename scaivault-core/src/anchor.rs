//! Rollback shows: what the database is to have at least, signed, in a file outside of it.
//!
//! At checkpoints the vault writes down where every audit chain ends, the highest numbers of revocation lists and the
//! newest versions of keys. A database that is older than that was put back, and would give out what it gave out
//! before under other names: revoked certificates as good, numbers twice. Such a vault is in *quarantine*: reads work,
//! nothing is written or issued, no status of a certificate is signed and no job runs, until somebody accepts it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use serde::{Deserialize, Serialize};

use crate::{
    Action, AuditKey, Caller, ChainHash, Code, Error, Result, Scope, TenantId, Vault,
    audit::{Checkpoints, store},
    pipeline::{Act, Permit},
    storage::query,
    vault::Inner,
};

/// What the database has at least.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Epoch {
    /// Tenant → where its audit chain ends.
    heads: BTreeMap<String, (i64, ChainHash)>,
    /// CA → the number of its revocation list.
    lists: BTreeMap<String, i64>,
    /// Whose keys → their newest version.
    keys: BTreeMap<String, i64>,
}

/// The file: an epoch, as the text that was signed.
#[derive(Serialize, Deserialize)]
struct Anchor {
    epoch: String,
    key_id: String,
    signature: String,
}

/// Put before what is signed, so that it is taken for nothing else.
const DOMAIN: &[u8] = b"scaivault-anchor-v1\n";

/// Compares the database with its anchor; gives the reason for a quarantine if it is older.
pub(crate) async fn check(vault: &Inner) -> Result<Option<String>> {
    let Some(path) = &vault.settings.anchor else { return Ok(None) };
    let Some(anchor) = read(path).await? else { return Ok(None) };
    let Some(key) = crate::audit::existing_key(vault).await? else {
        return Ok(Some("it has no audit key, but an anchor".to_owned()));
    };
    match anchor.open(&key) {
        None => Ok(Some("its anchor is not signed by its audit key".to_owned())),
        Some(epoch) => older(vault, &epoch).await.map(|found| found.map(|(reason, _)| reason)),
    }
}

/// Writes down what the database has now, unless it is older than what was written down before: then the vault goes
/// into quarantine.
pub(crate) async fn update(vault: &Inner) -> Result<()> {
    let Some(path) = &vault.settings.anchor else { return Ok(()) };
    if let Some(reason) = check(vault).await? {
        vault.door.quarantine(Some(reason));
        return Ok(());
    }
    if current(vault).await?.heads.is_empty() {
        return Ok(());
    }
    write(vault, path).await?;
    vault.anchored.store(true, Ordering::Relaxed);
    Ok(())
}

/// Why the database is older than an epoch, and the tenants whose chains show it.
async fn older(vault: &Inner, epoch: &Epoch) -> Result<Option<(String, BTreeSet<String>)>> {
    let now = current(vault).await?;
    let (mut reason, mut tenants) = (None, BTreeSet::new());
    for (tenant, (seq, hash)) in &epoch.heads {
        if now.heads.get(tenant) != Some(&(*seq, *hash)) && !has(vault, tenant, (*seq, *hash)).await? {
            reason.get_or_insert(format!("it lacks record {seq} of the audit trail of {tenant}"));
            tenants.insert(tenant.clone());
        }
    }
    for (ca, number) in &epoch.lists {
        if now.lists.get(ca).is_none_or(|found| found < number) {
            reason.get_or_insert(format!("it lacks revocation list {number} of {ca}"));
        }
    }
    for (owner, version) in &epoch.keys {
        if now.keys.get(owner).is_none_or(|found| found < version) {
            reason.get_or_insert(format!("it lacks key version {version} of {owner}"));
        }
    }
    Ok(reason.map(|reason| (reason, tenants)))
}

/// Whether a chain has this record, or had it until its retention was over.
async fn has(vault: &Inner, tenant: &str, (seq, hash): (i64, ChainHash)) -> Result<bool> {
    let db = vault.door.audit_db();
    let place = query(store::sql::HASH_AT).bind(tenant).bind(seq);
    if let Some((found,)) = db.fetch_optional::<(Vec<u8>,)>(place).await? {
        return Ok(ChainHash::from_column(&found) == hash);
    }
    let retired = db.fetch_optional::<(Option<i64>,)>(query(store::sql::RETIRED_UNTIL).bind(tenant)).await?;
    Ok(retired.and_then(|(until,)| until).is_some_and(|until| until >= seq))
}

async fn current(vault: &Inner) -> Result<Epoch> {
    let db = vault.door.audit_db();
    let heads: Vec<(String, i64, Vec<u8>)> = db.fetch_all(query(sql::HEADS)).await?;
    let heads = heads.into_iter().map(|(tenant, seq, hash)| (tenant, (seq, ChainHash::from_column(&hash))));
    let lists: Vec<(String, i64)> = db.fetch_all(query(sql::LISTS)).await?;
    let keys: Vec<(String, i64)> = db.fetch_all(query(sql::KEYS)).await?;
    Ok(Epoch { heads: heads.collect(), lists: lists.into_iter().collect(), keys: keys.into_iter().collect() })
}

async fn write(vault: &Inner, path: &Path) -> Result<()> {
    let epoch = serde_json::to_string(&current(vault).await?).map_err(Error::internal)?;
    let checkpoints = Checkpoints::open(vault).await?;
    let signature = hex::encode(checkpoints.sign_text(&[DOMAIN, epoch.as_bytes()].concat()).await?);
    let anchor = Anchor { epoch, key_id: checkpoints.public().id().to_owned(), signature };
    let text = serde_json::to_vec(&anchor).map_err(Error::internal)?;
    let path = path.to_owned();
    let written =
        tokio::task::spawn_blocking(move || replace(&path, &text)).await.map_err(Error::internal)?;
    written.map_err(|error| unavailable("written", error))
}

/// All of it or what was there before, also after a crash.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh: PathBuf = folder.join(name);
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    std::fs::File::open(folder)?.sync_all()
}

async fn read(path: &Path) -> Result<Option<Anchor>> {
    match tokio::fs::read(path).await {
        Ok(bytes) => {
            // What cannot be read is signed by nobody.
            let none = || Anchor { epoch: String::new(), key_id: String::new(), signature: String::new() };
            Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| none())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unavailable("read", error)),
    }
}

fn unavailable(what: &str, error: io::Error) -> Error {
    let wait = std::time::Duration::from_secs(30);
    Error::unavailable(format!("The anchor of the database cannot be {what}."), wait, error)
}

impl Anchor {
    fn open(&self, key: &AuditKey) -> Option<Epoch> {
        let signature = hex::decode(&self.signature).ok()?;
        let message = [DOMAIN, self.epoch.as_bytes()].concat();
        (self.key_id == key.id() && key.verifies(&message, &signature)).then_some(())?;
        serde_json::from_str(&self.epoch).ok()
    }
}

impl Vault {
    /// Why this vault is in quarantine, if it is: its database is older than its anchor.
    #[must_use]
    pub fn quarantine(&self) -> Option<String> {
        self.inner().door.quarantined().map(|reason| reason.to_string())
    }

    /// Takes the database as it is from now on, and ends the quarantine. Recorded in the trail of every tenant whose
    /// chain is shorter than it was, or of all if none shows it. Gives the reason of the quarantine.
    ///
    /// # Errors
    /// [`Code::InvalidState`] if there is no quarantine.
    pub async fn accept_rollback(&self) -> Result<String> {
        let inner = self.inner();
        let (Some(reason), Some(path)) = (self.quarantine(), &inner.settings.anchor) else {
            return Err(Error::new(Code::InvalidState, "The vault is not in quarantine."));
        };
        let mut tenants: BTreeSet<String> = BTreeSet::new();
        if let (Some(anchor), Some(key)) = (read(path).await?, crate::audit::existing_key(inner).await?)
            && let Some(epoch) = anchor.open(&key)
            && let Some((_, found)) = older(inner, &epoch).await?
        {
            tenants = found;
        }
        if tenants.is_empty() {
            tenants = self.audited_tenants().await?.iter().map(|tenant| tenant.as_str().to_owned()).collect();
        }
        for tenant in tenants {
            let ctx = self.ctx(Caller::system("recover", TenantId::stored(tenant)?)?)?;
            let act = Act::object(Action::RollbackAccept, &[Scope::Admin], "database", None);
            let reason = reason.clone();
            let record = |mut permit: Permit<'_>| {
                permit.note("reason", reason);
                std::future::ready(permit.answer(()))
            };
            inner.door.perform(&ctx, act, record).await?;
        }
        write(inner, path).await?;
        inner.door.quarantine(None);
        Ok(reason)
    }
}

pub(crate) mod sql {
    pub(crate) const HEADS: &str = "SELECT tenant_id, seq, hash FROM audit_head WHERE seq > 0";
    pub(crate) const LISTS: &str = "SELECT ca_id, CAST(sum(number) AS BIGINT) FROM pki_crl GROUP BY ca_id";
    pub(crate) const KEYS: &str = "\
        SELECT 'partner ' || partner_id, max(version) FROM partner_key GROUP BY partner_id \
        UNION ALL SELECT 'tenant ' || tenant_id, max(version) FROM tenant_key GROUP BY tenant_id";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[HEADS, LISTS, KEYS];
}
