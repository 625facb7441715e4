//! Who people are: partners, tenants, users, groups and roles, as the identity provider tells.
//!
//! News comes as signed events ([`Vault::receive_identity_event`](crate::Vault::receive_identity_event)) and by syncs
//! from an [`IdentitySource`]. Every field of a record carries the time and event that it comes from, and the newest
//! wins: late, repeated and reordered news end alike. What was deleted stays as a tombstone.
//!
//! The directory takes away at once (who is suspended or deleted, or whose tenant or partner is, is refused whatever his
//! token says) and gives while it is fresh: roles and groups besides those in the token.

mod apply;
mod cache;
mod event;
mod http;
mod list;
mod look;
mod model;
mod registers;
mod roles;
mod signature;
mod source;
pub(crate) mod store;
mod sync;
mod webhook;

pub(crate) use self::{
    cache::{Directory, DirectorySettings},
    sync::run_due as run_due_syncs,
};
pub use self::{
    http::HttpDirectory,
    list::{Identities, Listed, PageOf},
    model::{
        AssignableRole, DirectoryGroup, DirectoryMember, DirectoryPartner, DirectoryTenant, DirectoryUser,
        ResolvedIdentity, SyncReport, SyncStarted, UserRoles,
    },
    signature::WebhookSecrets,
    source::{
        IdentityPage, IdentitySource, SourceGroup, SourceMember, SourcePartner, SourceTenant, SourceUser,
    },
    webhook::{Delivery, Received},
};
