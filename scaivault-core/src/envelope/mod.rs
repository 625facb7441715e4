//! How things are sealed: root key → partner key → tenant key → one data key a row.
//!
//! The root key stays in its provider. Partner and tenant keys are rows, each wrapped by the one above.
//! A row's own data key seals the value; it is stored beside it, wrapped by the tenant key. Ciphertext and
//! wraps are bound to the [`Slot`] that they are in, so that one moved elsewhere does not open. The newest
//! key seals, every key opens: rotating a key never rewrites a ciphertext.

mod instance;
pub(crate) mod keyring;
mod seal;

pub(crate) use self::{
    instance::InstanceKey,
    keyring::{Keyring, TenantKeys, holds_keys},
    seal::{Sealed, Slot},
};
