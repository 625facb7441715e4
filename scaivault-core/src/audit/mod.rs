//! Who did what: one record for every request that has an identity, written before its answer leaves.
//!
//! The record of a change is written by the transaction of that change. Reads and refusals are written by the
//! [`Recorder`], which commits the records of concurrent requests together. The records of a tenant make up a
//! chain of hashes (`chain`), in which the `sequencer` gives each its place; at an interval its end is signed
//! (`signing`); and [`Verifier`] finds what was done to it since. Nothing here updates a record, nothing but
//! retention deletes one, and no record holds a value of a secret.

mod chain;
mod ops;
mod proof;
mod record;
pub(crate) mod recorder;
pub(crate) mod sequencer;
mod signing;
pub(crate) mod store;
pub(crate) mod summary;
mod types;
mod verify;

pub use self::{
    chain::{AuditKey, ChainHash, ChainedRecord, Checkpoint, Purpose},
    ops::Audit,
    proof::ProofRange,
    summary::{AuditSummary, Count, IdentitySummary, IdentityTrail, SecretSummary, SecretTrail},
    types::{Action, AuditFilter, AuditLog},
    verify::{End, Fault, FaultKind, Line, Verdict, Verifier, verify_export},
};
pub(crate) use self::{
    ops::{permission, read_page},
    proof::{existing_key, public_key},
    record::{Record, shown},
    recorder::{Note, Recorder, Touch},
    sequencer::{Sequencer, append},
    signing::{Checkpoints, checkpoint_all},
};
