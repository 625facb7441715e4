//! Secrets: versioned JSON objects under a path, each version sealed under a data key of its own.
//!
//! Metadata (description, tags, owner, free keys) is not secret and can be searched. A value exists in
//! the clear only in [`SecretData`], while a request is served.

mod expiry;
mod list;
mod ops;
mod path;
pub(crate) mod store;
mod types;

pub(crate) use self::{
    expiry::{Due, Schedule},
    ops::slot as version_slot,
};
pub use self::{
    ops::Secrets,
    path::SecretPath,
    types::{
        Deleted, Expectation, Expires, ListFilter, Metadata, SecretData, SecretItem, SecretPatch, SecretType,
        SecretValue, SecretVersion, SecretWrite, VersionState, WriteOptions, Written,
    },
};
