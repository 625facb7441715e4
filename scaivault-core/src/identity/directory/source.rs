use std::fmt::Debug;

use async_trait::async_trait;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::Result;

/// Where the directory is synced from.
///
/// A list is asked for page by page: first without a cursor, then with that of the page before, until a page has none.
/// Whoever implements it makes one attempt per call and bounds its time and size; how many pages and records there may
/// be is the vault's business. An error ends the sync, which then changes nothing.
#[async_trait]
pub trait IdentitySource: Debug + Send + Sync {
    /// All partners.
    async fn partners(&self, cursor: Option<&str>) -> Result<IdentityPage<SourcePartner>>;
    /// The tenants of a partner, or all.
    async fn tenants(
        &self,
        partner: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<IdentityPage<SourceTenant>>;
    /// The users of a tenant.
    async fn users(&self, tenant: &str, cursor: Option<&str>) -> Result<IdentityPage<SourceUser>>;
    /// The groups of a tenant.
    async fn groups(&self, tenant: &str, cursor: Option<&str>) -> Result<IdentityPage<SourceGroup>>;
    /// The members of a group.
    async fn members(
        &self,
        tenant: &str,
        group: &str,
        cursor: Option<&str>,
    ) -> Result<IdentityPage<SourceMember>>;
}

/// A page of a list of the source.
#[derive(Clone, Debug, Deserialize)]
pub struct IdentityPage<T> {
    /// The records.
    #[serde(
        alias = "data",
        alias = "partners",
        alias = "tenants",
        alias = "users",
        alias = "groups",
        alias = "members"
    )]
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    #[serde(default, alias = "next_cursor")]
    pub cursor: Option<String>,
}

/// A partner as the source has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names of the contract")]
pub struct SourcePartner {
    pub id: String,
    pub name: Option<String>,
    pub slug: Option<String>,
    pub region: Option<String>,
    pub status: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub updated_at: Option<OffsetDateTime>,
}

/// A tenant as the source has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names of the contract")]
pub struct SourceTenant {
    pub id: String,
    pub partner_id: Option<String>,
    pub name: Option<String>,
    pub slug: Option<String>,
    pub region: Option<String>,
    pub status: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub updated_at: Option<OffsetDateTime>,
}

/// A user as the source has it. `roles` that we do not know are left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names of the contract")]
pub struct SourceUser {
    pub id: String,
    pub email: Option<String>,
    pub external_id: Option<String>,
    #[serde(alias = "name")]
    pub display_name: Option<String>,
    pub status: Option<String>,
    pub mfa_enabled: bool,
    pub roles: Vec<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub updated_at: Option<OffsetDateTime>,
}

/// A group as the source has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names of the contract")]
pub struct SourceGroup {
    pub id: String,
    pub name: Option<String>,
    pub slug: Option<String>,
    pub status: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub updated_at: Option<OffsetDateTime>,
}

/// Somebody in a group as the source has it; `membership_type` is `DIRECT` unless it says `NESTED`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names of the contract")]
pub struct SourceMember {
    pub user_id: String,
    pub membership_type: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub added_at: Option<OffsetDateTime>,
}
