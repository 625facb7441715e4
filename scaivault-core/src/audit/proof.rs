//! Verifying the chain of a tenant where it lies, and giving it out with its proof.

use serde_json::json;
use time::OffsetDateTime;

use super::{
    Action, Audit, ChainHash, ChainedRecord, Checkpoint, End, Fault, FaultKind, Line, Verdict, Verifier,
    signing::Checkpoints,
    store::{ChainRow, CheckpointRow, sql},
};
use crate::{
    Code, Error, Result, Scope, limits,
    pipeline::{Act, Permit},
    storage::query,
    vault::Inner,
};

/// Which part of a chain to verify: all of it, or what was recorded in a time, together with the rest up to the
/// checkpoints around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProofRange {
    /// Not before this time.
    pub from: Option<OffsetDateTime>,
    /// Not at or after this time.
    pub to: Option<OffsetDateTime>,
}

/// Where the chain of a tenant ends, and what is above its end.
struct Extent {
    head: (i64, ChainHash),
    highest: i64,
}

impl<'a> Audit<'a> {
    /// Verifies the chain of the tenant, or a part of it. A whole chain that is good is signed for afterwards. Needs
    /// `audit:read`.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`]. That something is wrong with the chain is no error but a verdict.
    pub async fn verify(&self, range: ProofRange) -> Result<Verdict> {
        let act = Act::object(Action::AuditVerify, &[Scope::AuditRead], "audit_log", None);
        let vault = self.vault;
        let work = |mut permit: Permit<'a>| async move {
            vault.door.audit_linked(permit.tenant().as_str()).await?;
            let checkpoints = Checkpoints::open(vault).await?;
            let verdict = verify(&permit, &checkpoints, range).await?;
            if verdict.is_good() && range == ProofRange::default() {
                checkpoints.head(permit.tenant().as_str()).await?;
            }
            permit.note("good", verdict.is_good());
            permit.note("last_seq", verdict.last_seq);
            if let Some(fault) = &verdict.fault {
                permit.note("fault", json!({"kind": fault.kind, "seq": fault.seq}));
                tracing::error!(tenant = permit.tenant().as_str(), %fault, "the audit trail was tampered with");
            }
            permit.answer(verdict)
        };
        vault.door.perform(self.ctx, act, work).await
    }

    /// Gives every record of the tenant, with the checkpoints that prove them, line by line to `write`. Needs
    /// `audit:export`. What is given is not verified here but by whoever reads it.
    ///
    /// # Errors
    /// [`Code::InvalidState`] if there is nothing yet, or nothing that can be signed for. What `write` says.
    pub async fn export(&self, mut write: impl FnMut(&Line) -> Result<()> + Send) -> Result<u64> {
        let act = Act::object(Action::ExportCreated, &[Scope::AuditExport], "audit_log", None);
        let vault = self.vault;
        let work = |mut permit: Permit<'a>| async move {
            vault.door.audit_linked(permit.tenant().as_str()).await?;
            let checkpoints = Checkpoints::open(vault).await?;
            let ends_with = checkpoints.head(permit.tenant().as_str()).await?;
            let ends_with =
                ends_with.ok_or_else(|| Error::new(Code::InvalidState, "There is no audit trail yet."))?;
            let begins_after = retired(&permit).await?;
            let (first, last) = (begins_after.as_ref().map_or(1, |base| base.seq + 1), ends_with.seq);
            let tenant_id = permit.tenant().as_str().to_owned();
            write(&Line::Header { tenant_id, begins_after, ends_with })?;
            let mut pages = Pages::new(&permit, first, last);
            let mut count = 0;
            while let Some((checkpoints, records)) = pages.next().await? {
                checkpoints.into_iter().try_for_each(|checkpoint| write(&Line::Checkpoint(checkpoint)))?;
                count += records.len() as u64;
                records.into_iter().try_for_each(|record| write(&Line::Record(Box::new(record))))?;
            }
            permit.note("records", count);
            permit.answer(count)
        };
        vault.door.perform(self.ctx, act, work).await
    }
}

/// The public half of the key that signs checkpoints.
pub(crate) async fn public_key(vault: &Inner) -> Result<super::AuditKey> {
    Ok(Checkpoints::open(vault).await?.into_public())
}

/// The same, if there is one.
pub(crate) async fn existing_key(vault: &Inner) -> Result<Option<super::AuditKey>> {
    let found: Option<(String,)> = vault.door.audit_db().fetch_optional(query(sql::KEY_ID)).await?;
    match found {
        Some(_) => public_key(vault).await.map(Some),
        None => Ok(None),
    }
}

async fn verify(permit: &Permit<'_>, checkpoints: &Checkpoints<'_>, range: ProofRange) -> Result<Verdict> {
    let tenant = permit.tenant().as_str();
    let extent = extent(permit).await?;
    let mut verifier = Verifier::new(checkpoints.public(), tenant);
    let retired = retired(permit).await?;
    let mut base = retired.clone();
    if let Some(from) = range.from {
        let first = query(sql::FIRST_SINCE).bind(tenant).bind(from);
        let first = permit.fetch_optional::<(Option<i64>,)>(first).await?.and_then(|(first,)| first);
        let before = checkpoints.last(tenant, first.unwrap_or(extent.head.0 + 1) - 1).await?;
        base = before.filter(|b| retired.as_ref().is_none_or(|r| r.seq < b.seq)).or(base);
    }
    let mut end = extent.head;
    if let Some(to) = range.to {
        let last = query(sql::LAST_BEFORE).bind(tenant).bind(to);
        let last = permit.fetch_optional::<(Option<i64>,)>(last).await?.and_then(|(last,)| last).unwrap_or(0);
        let after =
            query(sql::FIRST_CHECKPOINT).bind(tenant).bind(last.max(base.as_ref().map_or(1, |b| b.seq)));
        let after: Option<CheckpointRow> = permit.fetch_optional(after).await?;
        if let Some(after) = after.map(CheckpointRow::into_checkpoint).transpose()? {
            end = (after.seq, after.hash);
        }
    }
    if let Some(base) = &base {
        verifier.begin_after(base);
    }
    let first = base.as_ref().map_or(1, |base| base.seq + 1);
    let mut pages = Pages::new(permit, first, end.0);
    while !verifier.has_fault()
        && let Some((signed, records)) = pages.next().await?
    {
        signed.iter().for_each(|checkpoint| verifier.checkpoint(checkpoint));
        records.iter().for_each(|record| verifier.push(record));
    }
    if range.to.is_none() && !verifier.has_fault() {
        // Signed places above the head: the records are gone, and the head was set back.
        let above = query(sql::FIRST_CHECKPOINT).bind(tenant).bind(end.0 + 1);
        let above: Option<CheckpointRow> = permit.fetch_optional(above).await?;
        if let Some(above) = above.map(CheckpointRow::into_checkpoint).transpose()? {
            verifier.checkpoint(&above);
        }
    }
    let mut verdict = verifier.finish(End::At(end.0, end.1));
    if verdict.is_good() && range.to.is_none() && extent.highest > extent.head.0 {
        let message = "lies above the head of the chain".to_owned();
        let fault = Fault { kind: FaultKind::Unsigned, seq: extent.head.0 + 1, id: None, message };
        verdict.fault = Some(fault);
    }
    Ok(verdict)
}

async fn extent(permit: &Permit<'_>) -> Result<Extent> {
    let select = query(sql::EXTENT).bind(permit.tenant());
    let row: Option<(i64, Option<Vec<u8>>, i64)> = permit.fetch_optional(select).await?;
    let (seq, hash, highest) = row.unwrap_or_default();
    let hash = hash.map_or_else(ChainHash::default, |hash| ChainHash::from_column(&hash));
    Ok(Extent { head: (seq, hash), highest })
}

/// The last statement of retention, behind which the chain begins.
async fn retired(permit: &Permit<'_>) -> Result<Option<Checkpoint>> {
    let row: Option<CheckpointRow> = permit.fetch_optional(query(sql::RETIRED).bind(permit.tenant())).await?;
    row.map(CheckpointRow::into_checkpoint).transpose()
}

/// A stretch of a chain, a page at a time: the checkpoints about the places of a page, and its records.
struct Pages<'a, 'p> {
    permit: &'a Permit<'p>,
    at: (i64, String),
    /// Checkpoints were given up to this place.
    signed: i64,
    last: i64,
    done: bool,
}

impl<'a, 'p> Pages<'a, 'p> {
    fn new(permit: &'a Permit<'p>, first: i64, last: i64) -> Self {
        Self { permit, at: (first, String::new()), signed: first - 1, last, done: false }
    }

    async fn next(&mut self) -> Result<Option<(Vec<Checkpoint>, Vec<ChainedRecord>)>> {
        if self.done {
            return Ok(None);
        }
        let tenant = self.permit.tenant();
        let limit = i64::from(limits::PAGE_MAX);
        let select =
            query(sql::CHAIN).bind(tenant).bind(self.at.0).bind(&self.at.1).bind(self.last).bind(limit);
        let rows: Vec<ChainRow> = self.permit.fetch_all(select).await?;
        let records: Vec<ChainedRecord> = rows.into_iter().map(Into::into).collect();
        self.done = (records.len() as i64) < limit;
        let until = if self.done { self.last } else { records.last().map_or(self.last, |record| record.seq) };
        let mut checkpoints: Vec<Checkpoint> = Vec::new();
        loop {
            let select = query(sql::CHECKPOINTS).bind(tenant).bind(self.signed).bind(until).bind(limit);
            let rows: Vec<CheckpointRow> = self.permit.fetch_all(select).await?;
            let full = rows.len() as i64 == limit;
            for row in rows {
                checkpoints.push(row.into_checkpoint()?);
            }
            match checkpoints.last() {
                Some(last) if full => self.signed = last.seq,
                _ => break,
            }
        }
        self.signed = until;
        if let Some(record) = records.last() {
            self.at = (record.seq, record.log.id.clone());
        }
        Ok(Some((checkpoints, records)))
    }
}
