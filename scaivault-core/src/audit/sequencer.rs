//! Gives records their places in the chain of their tenant.
//!
//! Places are given to a group of records at once, by whoever holds the heads of their tenants: one transaction
//! and one flush for all of them. A change on PostgreSQL does not hold a head: it leaves its record in the intake,
//! in its own transaction, and the next group takes it from there. On SQLite, which has one writer at a time, a
//! change gives its record its place itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AuditLog,
    chain::{ChainHash, ChainedRecord},
    recorder::Note,
    store::{self, Row, sql},
};
use crate::{
    Error, Result, events, limits,
    storage::{
        As, Db, Tx,
        partitions::{Month, Months},
        query,
    },
};

type HeadRow = (String, i64, Vec<u8>);

/// The last place of each of some tenants.
type Heads = BTreeMap<String, (i64, ChainHash)>;

#[derive(Clone, Debug)]
pub(crate) struct Sequencer {
    db: Db,
    months: Months,
}

/// What a group lacks; it is made outside of the group's transaction.
#[derive(Debug)]
enum Lacks {
    Heads(Vec<String>),
    Months(BTreeSet<Month>),
}

/// How a group went.
#[derive(Debug)]
enum Group {
    /// Done; these tenants have more in the intake.
    Done(BTreeSet<String>),
    Again(Lacks),
}

impl Sequencer {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, months: Months::of("audit_log") }
    }

    /// Writes these notes, and what waits in the intake of their tenants and of `woken`. Gives back the tenants
    /// that have still more there.
    pub(super) async fn write(&self, notes: &[Note], woken: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let logs: Vec<AuditLog> = notes.iter().map(|note| note.record.clone().into_log()).collect();
        // Each round makes what the one before lacked.
        for _ in 0..8 {
            match self.group(&logs, notes, woken).await {
                Ok(Group::Done(more)) => return Ok(more),
                Ok(Group::Again(lacks)) => self.make(lacks).await?,
                Err(error) => {
                    // A partition that was there may have been detached.
                    self.months.forget();
                    return Err(error);
                }
            }
        }
        Err(Error::internal("the audit trail lacks a head or a partition that was made"))
    }

    async fn group(&self, logs: &[AuditLog], notes: &[Note], woken: &BTreeSet<String>) -> Result<Group> {
        let mut tenants: BTreeSet<&str> = logs.iter().map(|log| log.tenant_id.as_str()).collect();
        tenants.extend(woken.iter().map(String::as_str));
        if let Some(lacks) = self.lacking(logs) {
            return Ok(Group::Again(lacks));
        }
        let mut tx = self.db.on(As::Recorder).begin().await?;
        let mut heads = lock_heads(&mut tx, &tenants).await?;
        let without: Vec<String> =
            tenants.iter().filter(|t| !heads.contains_key(**t)).map(|t| (*t).to_owned()).collect();
        if !without.is_empty() {
            return Ok(Group::Again(Lacks::Heads(without)));
        }
        let (mut waiting, mut more) = (Vec::new(), BTreeSet::new());
        for tenant in woken {
            let take = query(sql::TAKE_INTAKE).bind(tenant).bind(limits::AUDIT_INTAKE);
            let mut rows: Vec<AuditLog> =
                tx.fetch_all::<Row>(take).await?.into_iter().map(Into::into).collect();
            rows.sort_by(|a, b| (a.timestamp, &a.id).cmp(&(b.timestamp, &b.id)));
            if rows.len() as i64 >= limits::AUDIT_INTAKE {
                more.insert(tenant.clone());
            }
            waiting.extend(rows);
        }
        if let Some(lacks) = self.lacking(&waiting) {
            return Ok(Group::Again(lacks));
        }
        if waiting.is_empty() && logs.is_empty() {
            return Ok(Group::Done(more));
        }
        waiting.extend_from_slice(logs);
        link(&mut tx, &mut heads, waiting).await?;
        for event in notes.iter().filter_map(|note| note.event.as_ref()) {
            tx.execute(events::store::insert(event)).await?;
        }
        tx.commit().await?;
        Ok(Group::Done(more))
    }

    async fn make(&self, lacks: Lacks) -> Result<()> {
        match lacks {
            Lacks::Heads(tenants) => {
                for tenant in &tenants {
                    self.db.on(As::Recorder).execute(make_head(tenant)).await?;
                }
                Ok(())
            }
            Lacks::Months(months) => self.months.make(&self.db, months).await,
        }
    }

    /// Tenants whose records wait for a place.
    pub(crate) async fn waiting(&self) -> Result<BTreeSet<String>> {
        let rows: Vec<(String,)> = self.db.on(As::Recorder).fetch_all(query(sql::WAITING)).await?;
        Ok(rows.into_iter().map(|(tenant,)| tenant).collect())
    }

    fn lacking(&self, logs: &[AuditLog]) -> Option<Lacks> {
        let lacking = self.months.lacking(&self.db, logs.iter().map(|log| log.timestamp));
        (!lacking.is_empty()).then_some(Lacks::Months(lacking))
    }

    /// The partitions of the trail.
    pub(crate) fn months(&self) -> &Months {
        &self.months
    }
}

/// Writes the record of a change within its transaction.
pub(crate) async fn append(tx: &mut Tx, log: AuditLog) -> Result<()> {
    if !tx.writes_alone() {
        return tx.execute(store::insert_intake(&log)).await.map(drop);
    }
    tx.execute(make_head(&log.tenant_id)).await?;
    let mut heads = lock_heads(tx, &BTreeSet::from([log.tenant_id.as_str()])).await?;
    link(tx, &mut heads, vec![log]).await
}

/// Gives records the places behind the heads, which the transaction holds, and moves the heads.
async fn link(tx: &mut Tx, heads: &mut Heads, logs: Vec<AuditLog>) -> Result<()> {
    let mut linked = Vec::with_capacity(logs.len());
    let mut moved = BTreeSet::new();
    for log in logs {
        let head = heads.get_mut(&log.tenant_id).ok_or_else(|| Error::internal("a chain without a head"))?;
        moved.insert(log.tenant_id.clone());
        let record = ChainedRecord::link(log, head.0 + 1, head.1);
        *head = (record.seq, record.hash);
        linked.push(record);
    }
    for insert in store::insert(&linked) {
        tx.execute(insert).await?;
    }
    let moved = heads.iter().filter(|(tenant, _)| moved.contains(*tenant));
    tx.execute(store::move_heads(moved.map(|(tenant, (seq, hash))| (tenant.as_str(), *seq, hash))))
        .await
        .map(drop)
}

async fn lock_heads(tx: &mut Tx, tenants: &BTreeSet<&str>) -> Result<Heads> {
    if tenants.is_empty() {
        return Ok(Heads::new());
    }
    let lock = tx.lock_rows();
    let rows: Vec<HeadRow> = tx.fetch_all(store::lock_heads(tenants.iter().copied(), lock)).await?;
    Ok(rows.into_iter().map(|(tenant, seq, hash)| (tenant, (seq, ChainHash::from_column(&hash)))).collect())
}

fn make_head(tenant: &str) -> crate::storage::Query<'_> {
    query(sql::MAKE_HEAD).bind(tenant).bind(&ZEROS[..])
}

const ZEROS: [u8; 32] = [0; 32];
