//! Who did what: one record for every request that has an identity, written before its answer leaves.
//!
//! The record of a change is written by the transaction of that change. Reads and refusals are written by
//! the [`Recorder`], which commits the records of concurrent requests together. Nothing here updates or
//! deletes a record, and no record holds a value of a secret.

mod ops;
mod record;
pub(crate) mod recorder;
pub(crate) mod store;
mod types;

pub use self::{
    ops::Audit,
    types::{Action, AuditFilter, AuditLog},
};
pub(crate) use self::{
    record::{Record, shown},
    recorder::{Note, Recorder, Touch},
};
