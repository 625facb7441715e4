//! Whether a chain is what it was. Pure: records and checkpoints in, a verdict out; no database.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use time::OffsetDateTime;

use super::chain::{AuditKey, ChainHash, ChainedRecord, Checkpoint, Purpose};

/// Reads the chain of one tenant in order and remembers the first thing that is wrong with it.
///
/// Checkpoints come before the record that they are about, or at any time before it.
#[derive(Debug)]
pub struct Verifier<'k> {
    key: &'k AuditKey,
    tenant: String,
    first: i64,
    next: i64,
    last: ChainHash,
    /// Signed, and about places that were not reached yet.
    ahead: BTreeMap<i64, ChainHash>,
    proved: Option<(i64, OffsetDateTime)>,
    times: BTreeMap<i64, OffsetDateTime>,
    fault: Option<Fault>,
}

/// Where a chain has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this record; the database says so.
    At(i64, ChainHash),
    /// With the last record that a checkpoint is about: nothing unsigned follows. So do exported chains.
    Signed,
}

/// What a verifier found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Whose chain it is.
    pub tenant_id: String,
    /// The place of the first record that was looked at.
    pub first_seq: i64,
    /// The place of the last good record; below `first_seq` if there was none.
    pub last_seq: i64,
    /// Its hash.
    pub last_hash: ChainHash,
    /// The place up to which a signature stands for the records.
    pub signed_seq: Option<i64>,
    /// When that was signed.
    #[serde(serialize_with = "time::serde::rfc3339::option::serialize")]
    pub signed_at: Option<OffsetDateTime>,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.fault.is_none()
    }
}

/// The first thing that is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// What it is.
    pub kind: FaultKind,
    /// The place where it shows.
    pub seq: i64,
    /// The record where it shows, if there is one.
    pub id: Option<String>,
    /// In words.
    pub message: String,
}

/// What can be wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Records between two others, or before the first, are not there.
    Missing,
    /// A record is not what its hash says.
    Edited,
    /// A record does not follow the one before it.
    Unlinked,
    /// A record comes later than its place.
    Reordered,
    /// A place is taken twice.
    Duplicated,
    /// Records that a signature or the head stands for are not there at the end.
    Truncated,
    /// Records follow that nothing stands for.
    Unsigned,
    /// A record or checkpoint of another tenant.
    OtherTenant,
    /// A checkpoint is not signed by the key, or says something else than the chain.
    BadCheckpoint,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}", self.seq)?;
        if let Some(id) = &self.id {
            write!(f, " ({id})")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl<'k> Verifier<'k> {
    /// For the whole chain of a tenant, from its first record.
    pub fn new(key: &'k AuditKey, tenant: impl Into<String>) -> Self {
        Self {
            key,
            tenant: tenant.into(),
            first: 1,
            next: 1,
            last: ChainHash::default(),
            ahead: BTreeMap::new(),
            proved: None,
            times: BTreeMap::new(),
            fault: None,
        }
    }

    /// Begins behind a checkpoint instead. For a chain that claims to be whole it must be one of retention.
    pub fn begin_after(&mut self, checkpoint: &Checkpoint) {
        self.checkpoint(checkpoint);
        if self.fault.is_none() {
            self.ahead.remove(&checkpoint.seq);
            (self.first, self.next, self.last) = (checkpoint.seq + 1, checkpoint.seq + 1, checkpoint.hash);
            self.proved = Some((checkpoint.seq, checkpoint.timestamp));
        }
    }

    /// Takes a signed statement about a place that was not reached yet.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        if self.fault.is_some() || checkpoint.seq < self.next {
            return;
        }
        let about = |message: &str| format!("the checkpoint of this place {message}");
        if checkpoint.tenant_id != self.tenant {
            self.wrong(FaultKind::OtherTenant, checkpoint.seq, None, about("is another tenant's"));
        } else if let Some(objection) = self.key.objection(checkpoint) {
            self.wrong(FaultKind::BadCheckpoint, checkpoint.seq, None, about(objection));
        } else if self
            .ahead
            .insert(checkpoint.seq, checkpoint.hash)
            .is_some_and(|hash| hash != checkpoint.hash)
        {
            let message = about("contradicts another one");
            self.wrong(FaultKind::BadCheckpoint, checkpoint.seq, None, message);
        } else {
            self.times.insert(checkpoint.seq, checkpoint.timestamp);
        }
    }

    /// Takes the next record. Records of places before the beginning are passed over.
    pub fn push(&mut self, record: &ChainedRecord) {
        if let Some(fault) = &mut self.fault {
            // What seemed missing comes later.
            if fault.kind == FaultKind::Missing && record.seq == fault.seq {
                let message = "comes after a later one".to_owned();
                *fault = Fault {
                    kind: FaultKind::Reordered,
                    seq: record.seq,
                    id: Some(record.log.id.clone()),
                    message,
                };
            }
            return;
        }
        if record.seq < self.first && record.log.tenant_id == self.tenant {
            return;
        }
        if let Some((kind, seq, message)) = self.objection(record) {
            let id = (seq == record.seq).then(|| record.log.id.clone());
            return self.wrong(kind, seq, id, message);
        }
        (self.next, self.last) = (record.seq + 1, record.hash);
        if let Some(hash) = self.ahead.remove(&record.seq) {
            if hash != record.hash {
                let message = "is not the record that was signed for".to_owned();
                return self.wrong(FaultKind::Edited, record.seq, Some(record.log.id.clone()), message);
            }
            self.proved = self.times.remove(&record.seq).map(|time| (record.seq, time));
        }
    }

    fn objection(&self, record: &ChainedRecord) -> Option<(FaultKind, i64, String)> {
        let seq = record.seq;
        if record.log.tenant_id != self.tenant {
            let message = format!("belongs to tenant {}", record.log.tenant_id);
            return Some((FaultKind::OtherTenant, seq, message));
        }
        if record.digest() != record.hash {
            return Some((FaultKind::Edited, seq, "is not what its hash says: it was changed".to_owned()));
        }
        if seq < self.next {
            return Some((FaultKind::Duplicated, seq, "is there twice".to_owned()));
        }
        if seq > self.next {
            let message = format!("is missing, the next one there is {seq} ({})", record.log.id);
            return Some((FaultKind::Missing, self.next, message));
        }
        (record.prev_hash != self.last)
            .then(|| (FaultKind::Unlinked, seq, "does not follow the record before it".to_owned()))
    }

    /// Whether something is wrong already.
    #[must_use]
    pub fn has_fault(&self) -> bool {
        self.fault.is_some()
    }

    /// The verdict on what was read.
    #[must_use]
    pub fn finish(mut self, end: End) -> Verdict {
        let last = self.next - 1;
        if self.fault.is_none() {
            let promised = self.ahead.last_key_value().map(|(seq, _)| *seq);
            let promised = match end {
                End::At(seq, _) => promised.max(Some(seq)),
                End::Signed => promised,
            };
            if promised.is_some_and(|seq| seq > last) {
                let message = "is missing, and so is all after it".to_owned();
                self.wrong(FaultKind::Truncated, last + 1, None, message);
            } else if matches!(end, End::At(seq, hash) if seq < last || hash != self.last) {
                let message = "is not the one that the head of the chain names".to_owned();
                self.wrong(FaultKind::Unsigned, last, None, message);
            } else if end == End::Signed && self.proved.map_or(0, |(seq, _)| seq) < last {
                let first = self.proved.map_or(self.first, |(seq, _)| seq + 1);
                let message = "and what follows it are signed for by no checkpoint".to_owned();
                self.wrong(FaultKind::Unsigned, first, None, message);
            }
        }
        Verdict {
            tenant_id: self.tenant,
            first_seq: self.first,
            last_seq: last,
            last_hash: self.last,
            signed_seq: self.proved.map(|(seq, _)| seq),
            signed_at: self.proved.map(|(_, at)| at),
            fault: self.fault,
        }
    }

    fn wrong(&mut self, kind: FaultKind, seq: i64, id: Option<String>, message: String) {
        self.fault = Some(Fault { kind, seq, id, message });
    }
}

/// The verdict on an exported chain: a header, then records, each behind the checkpoints about it.
pub fn verify_export<E>(
    key: &AuditKey,
    lines: impl IntoIterator<Item = Result<Line, E>>,
) -> Result<Verdict, E> {
    let mut verifier = Verifier::new(key, "");
    verifier.wrong(FaultKind::Missing, 0, None, "the first line is no header".to_owned());
    for (number, line) in lines.into_iter().enumerate() {
        match line? {
            Line::Header { tenant_id, begins_after, ends_with } if number == 0 => {
                verifier = Verifier::new(key, tenant_id);
                if let Some(base) = begins_after {
                    if base.purpose != Purpose::Retention {
                        let message =
                            "was not retired by retention, but the export begins after it".to_owned();
                        verifier.wrong(FaultKind::Missing, base.seq, None, message);
                    }
                    verifier.begin_after(&base);
                }
                verifier.checkpoint(&ends_with);
            }
            Line::Header { .. } => {}
            Line::Checkpoint(checkpoint) => verifier.checkpoint(&checkpoint),
            Line::Record(record) => verifier.push(&record),
        }
    }
    Ok(verifier.finish(End::Signed))
}

/// One line of an exported chain.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// The first line.
    Header {
        /// Whose chain it is.
        tenant_id: String,
        /// Where it begins, if records before that were retired.
        begins_after: Option<Checkpoint>,
        /// The last place of it.
        ends_with: Checkpoint,
    },
    /// A signed statement about a record that follows.
    Checkpoint(Checkpoint),
    /// A record.
    Record(Box<ChainedRecord>),
}
