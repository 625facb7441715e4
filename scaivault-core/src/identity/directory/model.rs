use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::registers::{Registers, Version};
use crate::{Error, IdentityType, Result, Role, TenantId, limits, wire};

/// The one status that opens anything. Whatever else the provider says of somebody closes.
pub(super) const ACTIVE: &str = "ACTIVE";
/// Closed until told otherwise.
pub(super) const SUSPENDED: &str = "SUSPENDED";
/// A tombstone.
pub(super) const DELETED: &str = "DELETED";

/// What a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Partner(String),
    Tenant(TenantId),
    User(TenantId, String),
    Group(TenantId, String),
    /// Group, then user.
    Member(TenantId, String, String),
}

impl Key {
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Partner(_) => None,
            Self::Tenant(tenant)
            | Self::User(tenant, _)
            | Self::Group(tenant, _)
            | Self::Member(tenant, ..) => Some(tenant),
        }
    }

    /// As the audit trail names it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Partner(id) | Self::User(_, id) | Self::Group(_, id) => id.clone(),
            Self::Tenant(tenant) => tenant.as_str().to_owned(),
            Self::Member(_, group, user) => format!("{group} {user}"),
        }
    }
}

/// Fields of one record that were so at some time.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) key: Key,
    pub(super) version: Version,
    pub(super) fields: Map<String, Value>,
}

impl Fact {
    /// Merges it into what is known; whether anything is different now.
    pub(super) fn merge(&self, into: &mut Registers) -> bool {
        let set = |changed, (field, value): (&String, &Value)| {
            into.set(field, &self.version, value.clone()) | changed
        };
        self.fields.iter().fold(false, set)
    }

    /// The same for what a sync saw.
    pub(super) fn sync(&self, into: &mut Registers) -> bool {
        let set = |changed, (field, value): (&String, &Value)| {
            into.sync(field, &self.version, value.clone()) | changed
        };
        self.fields.iter().fold(false, set)
    }
}

/// The status that registers say, and since when. A record that is known by less is active.
pub(super) fn status(state: &Registers) -> (&str, OffsetDateTime) {
    let at = state.set_at("status").unwrap_or(OffsetDateTime::UNIX_EPOCH);
    (state.text("status").unwrap_or(ACTIVE), at)
}

/// Every name that a token may have for a user: his id, `user:` and his address, and the name that the provider gives
/// to others. Byte for byte: no case or form is folded.
pub(super) fn names_of(user_id: &str, email: Option<&str>, external_id: Option<&str>) -> Vec<String> {
    let mut names = vec![user_id.to_owned()];
    names.extend(email.map(|email| format!("user:{email}")));
    names.extend(external_id.map(str::to_owned));
    names.retain(|name| super::super::caller::is_outside_identity(name));
    names
}

/// Every name that a token may have for a group: `group:` and its slug, and its id.
pub(super) fn group_names(group_id: &str, slug: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = slug.map(|slug| format!("group:{slug}")).into_iter().collect();
    names.push(group_id.to_owned());
    names.retain(|name| super::super::caller::is_principal_name(name));
    names
}

/// A text of up to [`limits::DIRECTORY_TEXT`] characters without control characters.
pub(super) fn text_value(field: &str, value: &Value) -> Result<Value> {
    let good =
        |text: &&str| text.chars().count() <= limits::DIRECTORY_TEXT && !text.chars().any(char::is_control);
    match value.as_str().filter(good) {
        Some(text) => Ok(text.into()),
        None => {
            let reason =
                format!("must be at most {} characters without control characters", limits::DIRECTORY_TEXT);
            Err(Error::field(field, reason))
        }
    }
}

/// A status as it is kept: in upper case.
pub(super) fn status_value(value: &Value) -> Result<Value> {
    let good = |text: &&str| {
        (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
    };
    let text = value
        .as_str()
        .filter(good)
        .ok_or_else(|| Error::field("data.status", "must be a word such as ACTIVE"))?;
    Ok(text.to_ascii_uppercase().into())
}

/// Roles that we know, sorted; others are for others.
pub(super) fn roles_value(value: &Value) -> Result<Value> {
    let wrong = || Error::field("data.roles", "must be an array of strings");
    let given = value.as_array().filter(|roles| roles.len() <= limits::CLAIM_ENTRIES).ok_or_else(wrong)?;
    let given: Vec<&str> = given.iter().map(|role| role.as_str().ok_or_else(wrong)).collect::<Result<_>>()?;
    Ok(roles_of(given).into_iter().map(Role::as_str).collect())
}

/// Roles by their names, sorted, without those that we do not know.
pub(super) fn roles_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Role> {
    let mut roles: Vec<Role> = names.into_iter().filter_map(Role::parse).collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

/// A partner, as `GET /v1/identity/partners` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct DirectoryPartner {
    pub id: String,
    pub name: Option<String>,
    pub slug: Option<String>,
    pub region: Option<String>,
    pub status: String,
    #[serde(serialize_with = "wire::seconds")]
    pub last_synced_at: OffsetDateTime,
}

/// A tenant, as `GET /v1/identity/tenants` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct DirectoryTenant {
    pub id: String,
    pub partner_id: Option<String>,
    pub name: Option<String>,
    pub slug: Option<String>,
    pub region: Option<String>,
    pub status: String,
    #[serde(serialize_with = "wire::seconds")]
    pub last_synced_at: OffsetDateTime,
}

/// A user; `groups` are the names that tokens and bindings have for them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct DirectoryUser {
    pub id: String,
    pub tenant_id: String,
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub status: String,
    pub mfa_enabled: bool,
    pub groups: Vec<String>,
    pub roles: Vec<Role>,
    #[serde(serialize_with = "wire::seconds")]
    pub last_synced_at: OffsetDateTime,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct DirectoryGroup {
    pub id: String,
    pub tenant_id: String,
    pub name: Option<String>,
    pub slug: Option<String>,
    pub status: String,
    pub member_count: i64,
    #[serde(serialize_with = "wire::seconds")]
    pub last_synced_at: OffsetDateTime,
}

/// Somebody in a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct DirectoryMember {
    pub user_id: String,
    pub email: Option<String>,
    pub membership_type: String,
    #[serde(serialize_with = "wire::seconds_opt")]
    pub added_at: Option<OffsetDateTime>,
}

/// Whom a name stands for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct ResolvedIdentity {
    pub id: String,
    #[serde(rename = "type")]
    pub identity_type: IdentityType,
    pub tenant_id: String,
    pub display_name: Option<String>,
    pub status: String,
    pub groups: Vec<String>,
    pub roles: Vec<Role>,
}

/// A sync that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct SyncStarted {
    pub sync_id: String,
    pub status: String,
    #[serde(serialize_with = "wire::seconds")]
    pub started_at: OffsetDateTime,
}

/// A sync, wanted, running or past. `scope` is `full`, or the partner or tenant that it is of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct SyncReport {
    pub sync_id: String,
    pub status: String,
    pub scope: String,
    #[serde(serialize_with = "wire::seconds")]
    pub started_at: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds_opt")]
    pub completed_at: Option<OffsetDateTime>,
    pub users_synced: i64,
    pub groups_synced: i64,
    pub errors: Vec<String>,
}

/// A role that can be given, and whether the one who asks could.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "names and a sentence")]
pub struct AssignableRole {
    pub name: Role,
    pub description: &'static str,
    pub assignable: bool,
}

/// The roles of a user: all of them, and those among them that the identity provider gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct UserRoles {
    pub user_id: String,
    pub tenant_id: String,
    pub roles: Vec<Role>,
    pub from_identity_provider: Vec<Role>,
}
