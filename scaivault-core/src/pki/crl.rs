use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use scaivault_pki::{ocsp::CertStatus, pem};

use super::{
    Pki,
    ca::issuer,
    issuer::not_found,
    list::{self, Built, COMPLETE, Ended, ListRow, Maker},
    numbering::{Lists, Numbering},
    store::{StatusRow, sql},
    types::{Crl, PublicCrl},
};
use crate::{
    Caller, Code, Ctx, Error, Result, Scope, TenantId, Vault,
    audit::Action,
    id, limits,
    pipeline::{Act, Outcome, Permit, Write},
    storage::{Arg, Ts, query},
    vault::Inner,
};

impl Pki<'_> {
    /// Builds a CA's revocation lists now and publishes them: the complete one and those of shards, with their deltas.
    /// Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CaNotFound`]; [`Code::InternalError`] if a list would be older than the one before or lack something that
    /// is still revoked: then nothing is published.
    pub async fn build_crl(&self, ca_id: &str) -> Result<Crl> {
        self.build(ca_id, None).await
    }

    async fn build(&self, ca_id: &str, shard: Option<i64>) -> Result<Crl> {
        let act = Act::object(Action::PkiCrlBuild, &[Scope::PkiAdmin], "pki_ca", Some(ca_id));
        let vault = self.vault;
        let work = |permit| async move { Box::pin(build(vault, permit, ca_id, shard)).await };
        // Another replica may publish first: then its list may lack what was revoked since, so it is built anew.
        for _ in 0..ATTEMPTS {
            match vault.door.perform(self.ctx, act.clone(), work).await {
                Err(error) if error.code() == Code::VersionConflict => {}
                Err(error) => {
                    if error.code() == Code::InternalError {
                        vault.crls_refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    return Err(error);
                }
                Ok(done) => return Ok(done),
            }
        }
        Err(Error::new(Code::VersionConflict, "The list is being built by others all the time; try again."))
    }
}

/// How often a list is built anew because another was published in between.
const ATTEMPTS: usize = 5;

/// The list that is published now: the complete one, or that of a shard; or its delta. What is not there yet is built for
/// the first who asks, so that whatever a certificate or a list names is there.
pub(super) async fn current(vault: &Inner, ca_id: &str, shard: Option<u8>, delta: bool) -> Result<PublicCrl> {
    if let Some(list) = published(vault, ca_id, shard, delta).await? {
        return Ok(list);
    }
    let permit = vault.door.public();
    let owner: Option<(String,)> = permit.fetch_optional(query(sql::CA_OWNER).bind(ca_id)).await?;
    let owner = TenantId::parse(owner.ok_or_else(not_found)?.0)?;
    let number = shard.map_or(COMPLETE, i64::from);
    let awaited = query(sql::AWAITED).bind(&owner).bind(ca_id).bind(number);
    let awaited: Vec<(i64, bool, Option<Ts>)> = permit.fetch_all_of(&owner, awaited).await?;
    match awaited.first() {
        None => return Err(Error::new(Code::CaNotFound, "The CA has no such list.")),
        Some((_, _, None)) if delta => {
            return Err(Error::new(Code::CaNotFound, "There is no delta of this list."));
        }
        Some((1.., false, _)) => {
            return Err(Error::new(
                Code::CaNotFound,
                "There is no complete list: too much was revoked for one. Every certificate names the list that it is on.",
            ));
        }
        Some(_) => {}
    }
    // The list first, then its delta. Boxed: it walks through the pipeline, in the middle of a request that does so seldom.
    for _ in 0..=usize::from(delta) {
        let now = vault.clock.now();
        if let Err(error) = Box::pin(build_claimed(vault, owner.as_str(), ca_id, number, now)).await {
            tracing::error!(ca_id, shard = number, error = %error, causes = error.causes(), "a revocation list could not be built");
            give_back(vault, owner.as_str(), ca_id, number, now).await?;
            break;
        }
        if let Some(list) = published(vault, ca_id, shard, delta).await? {
            return Ok(list);
        }
    }
    let wait = Duration::from_secs(2);
    Err(Error::unavailable("The list is being built for the first time.", wait, "there is no list yet"))
}

/// `None` if there is none.
async fn published(vault: &Inner, ca_id: &str, shard: Option<u8>, delta: bool) -> Result<Option<PublicCrl>> {
    let sql = if delta { sql::PUBLIC_DELTA } else { sql::PUBLIC_CRL };
    let list = query(sql).bind(ca_id).bind(shard.map_or(COMPLETE, i64::from));
    let row = vault.door.public().fetch_optional::<(Option<Vec<u8>>, Option<Ts>, Option<Ts>)>(list).await?;
    Ok(match row {
        Some((Some(der), Some(this_update), Some(next_update))) => {
            Some(PublicCrl { der, this_update: this_update.get(), next_update: next_update.get() })
        }
        _ => None,
    })
}

/// The lists to bring forward: CAs, with the octets of serial numbers.
pub(super) type Marks = BTreeSet<(String, i64)>;

/// Brings lists forward, in an order that is the same for all who do. The last thing in a transaction: whoever else
/// revokes something on the same list waits for its end.
pub(super) async fn mark(tx: &mut Write<'_>, marks: &Marks) -> Result<()> {
    let now = tx.ctx().now();
    let mut cas: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for (ca_id, octet) in marks {
        cas.entry(ca_id).or_default().insert(*octet);
    }
    for (ca_id, octets) in &mut cas {
        if octets.len() > 1 {
            let shards = query(sql::SHARDS).bind(tx.tenant()).bind(*ca_id);
            let shards = tx.fetch_optional::<(i64,)>(shards).await?.map_or(1, |(shards,)| shards.max(1));
            *octets = octets.iter().map(|octet| octet % shards).collect();
        }
        for octet in octets.iter() {
            tx.execute(query(sql::MARK_SHARD).bind(tx.tenant()).bind(*ca_id).bind(now).bind(*octet)).await?;
        }
    }
    for ca_id in cas.keys() {
        tx.execute(query(sql::MARK_COMPLETE).bind(tx.tenant()).bind(*ca_id).bind(now)).await?;
    }
    Ok(())
}

/// Builds every list that is due and that no other replica is building.
pub(crate) async fn build_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let now = inner.clock.now();
    let mut tried: BTreeSet<(String, i64)> = BTreeSet::new();
    let mut result = Ok(());
    loop {
        let due: Vec<(String, String, i64)> =
            inner.door.job_db().fetch_all(query(sql::DUE_CRLS).bind(now)).await?;
        let before = tried.len();
        for (tenant, ca_id, shard) in due {
            // What stays due is for the next round: it failed, or was marked anew.
            if !tried.insert((ca_id.clone(), shard)) {
                continue;
            }
            // One that cannot be built does not keep the others.
            if let Err(error) = build_claimed(inner, &tenant, &ca_id, shard, now).await {
                give_back(inner, &tenant, &ca_id, shard, now).await?;
                tracing::error!(ca_id, shard, error = %error, causes = error.causes(), "a revocation list could not be built");
                result = Err(error);
            }
        }
        if tried.len() == before {
            return result;
        }
    }
}

async fn build_claimed(
    vault: &Inner,
    tenant: &str,
    ca_id: &str,
    shard: i64,
    now: time::OffsetDateTime,
) -> Result<()> {
    let owner = TenantId::parse(tenant)?;
    let claim = query(sql::CLAIM_CRL).bind(tenant).bind(ca_id).bind(shard).bind(now).bind(now + CLAIM);
    if vault.door.job_db_of(&owner).execute(claim).await? == 0 {
        return Ok(());
    }
    let (request, at) = (vault.door.new_id("req_")?, vault.clock.now());
    let ctx = Ctx::new(Caller::system("crl-builder", owner)?, request, at);
    Pki::new(vault, &ctx).build(ca_id, Some(shard)).await.map(drop)
}

async fn give_back(
    vault: &Inner,
    tenant: &str,
    ca_id: &str,
    shard: i64,
    now: time::OffsetDateTime,
) -> Result<()> {
    let owner = TenantId::parse(tenant)?;
    let again = query(sql::UNCLAIM_CRL).bind(tenant).bind(ca_id).bind(shard).bind(now + AGAIN);
    vault.door.job_db_of(&owner).execute(again).await.map(drop)
}

/// How lists are doing, over all tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListHealth {
    /// For how long a list, or a delta, has been due that was not published; zero if none is.
    pub(crate) overdue: Duration,
    /// Entries of the longest list.
    pub(crate) longest: u64,
}

/// Looks whether every list comes in time.
pub(crate) async fn health(vault: &Inner) -> Result<ListHealth> {
    let (db, now) = (vault.door.job_db(), vault.clock.now());
    let mut since = now;
    for sql in [sql::OVERDUE_CRL, sql::OVERDUE_DELTA] {
        if let Some((due,)) = db.fetch_optional::<(Ts,)>(query(sql).bind(now)).await? {
            since = since.min(due.get());
        }
    }
    let longest: Option<(Option<i64>,)> = db.fetch_optional(query(sql::LONGEST_CRL)).await?;
    let longest = longest.and_then(|(entries,)| entries).unwrap_or_default();
    Ok(ListHealth { overdue: (now - since).try_into().unwrap_or_default(), longest: longest.unsigned_abs() })
}

/// How long a replica that took a list may work on it before another may.
const CLAIM: time::Duration = time::Duration::minutes(5);
/// How long after a list could not be built it is tried again.
const AGAIN: time::Duration = time::Duration::seconds(30);
/// By how much the clock of the replica that published a list before may be ahead of ours.
const SKEW: time::Duration = time::Duration::minutes(1);

/// How long after its identifier was made a certificate may come to be written.
const SETTLED: time::Duration = time::Duration::minutes(10);

async fn build(vault: &Inner, permit: Permit<'_>, ca_id: &str, shard: Option<i64>) -> Result<Outcome<Crl>> {
    let ca = issuer(vault, &permit, ca_id).await?;
    let keys = async |key_id: &str| permit.keys_for(key_id).await;
    let key = ca.open_key((permit.tenant(), vault.door.roots()), keys).await?;
    let lists = ca.numbering.as_ref().map(|numbering| numbering.lists.clone()).unwrap_or_default();
    let last = list::rows(&permit, ca_id, shard).await?;
    if last.is_empty() {
        return Err(not_found());
    }
    let now = permit.ctx().now();
    let latest = last.iter().map(ListRow::latest).max().unwrap_or(now);
    let now = if latest <= now + SKEW { now.max(latest) } else { now };
    let ended = ended(&permit, ca_id).await?;
    let maker = Maker { permit: &permit, ca: ca.clone(), key, lists, ended, now };
    let mut built = Vec::with_capacity(last.len());
    for row in &last {
        built.push(maker.build(row, shard.is_none() || row.wants_all(now)).await?);
    }
    for (row, built) in last.iter().zip(&built).filter(|(_, built)| built.entries > limits::LONG_CRL) {
        let (shard, entries) = (row.shard, built.entries);
        tracing::warn!(
            ca_id,
            shard,
            entries,
            "a revocation list is long: a CA with crl_shards spreads what it revokes"
        );
    }
    let deltas = maker.lists.delta_crls;
    // A CA of an older release gets a key for its serial numbers by the way.
    let numbering = match ca.numbering {
        Some(_) => None,
        None => {
            let keys = permit.keys_to_seal(ca.key_id()).await?;
            Some(Numbering::new(&permit, &keys, ca_id, Lists::default())?)
        }
    };
    let mut tx = permit.begin().await?;
    // Also a good moment to keep the count of what was issued cheap. What is younger may still be on its way.
    let settled = id::first("cert_", now - SETTLED);
    tx.execute(query(sql::COUNT_ISSUED).bind(tx.tenant()).bind(ca_id).bind(settled)).await?;
    // In the order in which lists are marked, after the CA: the complete one, which is the first here, last.
    let lists: Vec<_> = last.iter().zip(&built).collect();
    for (row, built) in lists.iter().skip(1).chain(lists.first()) {
        publish(&mut tx, (ca_id, now), row, built, deltas).await?;
    }
    if let Some(numbering) = &numbering {
        numbering.insert(&mut tx, ca_id).await?;
        ca.forget();
    }
    let first = built.first().ok_or_else(not_found)?;
    tx.note("crl_number", first.number);
    if let Some(shard) = shard.filter(|shard| *shard != COMPLETE) {
        tx.note("shard", shard);
    }
    if first.crl.is_none() {
        tx.note("delta", true);
    }
    tx.note("revoked_certificates", first.entries);
    // Nobody looks at what the background work builds, and it may be long.
    let shown = first.crl.iter().flatten().filter(|_| shard.is_none());
    let crl_pem = shown.map(|der| pem::encode("X509 CRL", der)).collect();
    let (crl_number, next_update) = (first.number, now + limits::CRL_VALIDITY);
    tx.commit(Crl { crl_pem, crl_number, this_update: now, next_update }).await
}

/// Read after the lists are: whoever ends the CA later marks them.
async fn ended(permit: &Permit<'_>, ca_id: &str) -> Result<Option<Ended>> {
    let row = query(sql::CA_STATUS).bind(permit.tenant()).bind(ca_id);
    let row: Option<StatusRow> = permit.fetch_optional(row).await?;
    Ok(match row.as_ref().map(StatusRow::status).transpose()? {
        Some(CertStatus::Revoked { at, reason }) => Some((at, reason)),
        _ => None,
    })
}

async fn publish(
    tx: &mut Write<'_>,
    (ca_id, now): (&str, time::OffsetDateTime),
    row: &ListRow,
    built: &Built,
    deltas: bool,
) -> Result<()> {
    let delta_ends = built.delta.as_ref().map(|_| now + limits::DELTA_VALIDITY);
    // The first list names a delta that there is not yet.
    let first = built.delta.is_none() && matches!(built.crl, Some(Some(_)));
    let next_delta = if first { now } else { now + limits::DELTA_EVERY };
    let published = match &built.crl {
        Some(crl) => query(sql::UPDATE_CRL)
            .bind(tx.tenant())
            .bind(ca_id)
            .bind(row.shard)
            .bind(row.number)
            .bind(built.number)
            .bind(row.marks)
            .bind(Arg::Bytes(crl.as_deref()))
            .bind(now)
            .bind(now + limits::CRL_VALIDITY)
            .bind(now + limits::CRL_EVERY)
            .bind(Arg::Bytes(built.delta.as_deref()))
            .bind(built.delta.as_ref().map(|_| now))
            .bind(delta_ends)
            .bind(deltas.then_some(next_delta))
            .bind(i64::try_from(built.entries).unwrap_or(i64::MAX)),
        None => query(sql::UPDATE_DELTA)
            .bind(tx.tenant())
            .bind(ca_id)
            .bind(row.shard)
            .bind(row.number)
            .bind(built.number)
            .bind(row.marks)
            .bind(Arg::Bytes(built.delta.as_deref()))
            .bind(now)
            .bind(delta_ends)
            .bind(now + limits::DELTA_EVERY),
    };
    match tx.execute(published).await? {
        0 => Err(list::changed()),
        _ => Ok(()),
    }
}
