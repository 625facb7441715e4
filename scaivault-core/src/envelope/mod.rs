//! How things are sealed: root key → partner key → tenant key → one data key a row.
//!
//! The root key stays in its provider. Partner and tenant keys are rows, each wrapped by the one above.
//! A row's own data key seals the value; it is stored beside it, wrapped by the tenant key. Ciphertext and
//! wraps are bound to the [`Slot`] that they are in, so that one moved elsewhere does not open. The newest
//! key seals, every key opens: rotating a key never rewrites a ciphertext.
//!
//! The life of a key ([`rewrap`]): the newest of its owner *seals*; one that a newer has replaced is
//! *retired*, still opens, and what is under it is wrapped anew; when nothing has needed it for
//! [`Keyring::grace`], it is *destroyed*. References in the database keep a key that anything is under,
//! whatever the clocks of the replicas say.

mod active;
mod instance;
pub(crate) mod keyring;
mod locked;
mod ops;
mod recovery;
mod recovery_ops;
pub(crate) mod rewrap;
mod root_ops;
pub(crate) mod rooted;
mod roots;
mod seal;
pub(crate) mod store;
mod types;
mod verify;
mod wear;
mod wraps;

pub(crate) use self::{
    instance::{AUDIT as INSTANCE_AUDIT, InstanceKey},
    keyring::{Keyring, TenantKeys, holds_keys, never_held},
    root_ops::{OPERATOR, run_due as complete_roots},
    roots::Roots,
    seal::{Sealed, Slot},
    store::{hold_root, is_reference as refers_to_nothing},
};
pub use self::{
    ops::Keys,
    recovery::RecoveryShare,
    recovery_ops::{RecoveryDrill, RecoveryMade},
    roots::RootHealth,
    types::{
        Broken, Checked, KeyReport, KeyStatus, OldKey, PartnerKeyStatus, Progress, RootAdded, RootKeyStatus,
        RootMade, RootRemoved, RootReport, RootRotation, RootStatus, Rotation, RowCounts, TenantKeyStatus,
        Verify,
    },
};

#[cfg(test)]
mod tests;
