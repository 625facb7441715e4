//! What an event of the identity provider says, as facts.

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    model::{ACTIVE, DELETED, Fact, Key, SUSPENDED, text_value},
    registers::Version,
};
use crate::{Code, Error, PartnerId, Result, TenantId, identity::json, limits};

/// An event whose signature holds.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) event_type: String,
    pub(super) tenant: Option<TenantId>,
    pub(super) partner: Option<PartnerId>,
    resource_type: String,
    resource_id: String,
    at: OffsetDateTime,
    data: Map<String, Value>,
}

impl Event {
    /// Reads the envelope.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] naming the member that is missing or not usable.
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        let mut members = json::object(body)
            .ok_or_else(|| invalid("the body is not a JSON object without duplicate members"))?;
        let data = match members.remove("data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(data)) => data,
            Some(_) => return Err(invalid("data is not an object")),
        };
        let resource = match members.remove("resource") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(resource)) => resource,
            Some(_) => return Err(invalid("resource is not an object")),
        };
        let at = match members.get("timestamp") {
            Some(Value::String(text)) => OffsetDateTime::parse(text, &Rfc3339).ok(),
            Some(Value::Number(number)) => {
                number.as_i64().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            }
            _ => None,
        };
        let at = at.filter(|at| (1970..=9999).contains(&at.year()));
        let tenant = text(&members, "tenant_id")?.map(TenantId::parse).transpose();
        let partner = text(&members, "partner_id")?.map(PartnerId::parse).transpose();
        Ok(Self {
            id: id(&members, "event_id")?,
            event_type: id(&members, "event_type")?,
            tenant: tenant.map_err(|_| invalid("tenant_id is not usable"))?,
            partner: partner.map_err(|_| invalid("partner_id is not usable"))?,
            resource_type: text(&resource, "type")?.unwrap_or_default().to_owned(),
            resource_id: text(&resource, "id")?.unwrap_or_default().to_owned(),
            at: at.ok_or_else(|| invalid("timestamp is not a time such as 2026-11-22T02:29:00Z"))?,
            data,
        })
    }

    /// What it says; `None` if it is of a type that says nothing to us.
    ///
    /// # Errors
    /// [`Code::ValidationError`] for one that cannot be taken over.
    pub(super) fn fact(&self, now: OffsetDateTime) -> Result<Option<Fact>> {
        let Some((resource, what)) = kind(&self.event_type) else { return Ok(None) };
        // One from far ahead would silence all that comes before its time.
        if self.at > now + limits::WEBHOOK_AGE {
            return Err(Error::field("timestamp", "is in the future"));
        }
        let mut fields = Map::new();
        let key = match resource {
            Resource::Partner => {
                self.take(&mut fields, &["name", "slug", "region"])?;
                Key::Partner(self.subject("partner", self.partner.as_ref().map(PartnerId::as_str))?)
            }
            Resource::Tenant => {
                self.take(&mut fields, &["name", "slug", "region", "partner_id"])?;
                if let (Some(partner), None) = (&self.partner, fields.get("partner_id")) {
                    fields.insert("partner_id".to_owned(), partner.as_str().into());
                }
                if let Some(partner) = fields.get("partner_id").and_then(Value::as_str) {
                    PartnerId::parse(partner)?;
                }
                let id = self.subject("tenant", self.tenant.as_ref().map(TenantId::as_str))?;
                Key::Tenant(TenantId::parse(id)?)
            }
            Resource::User => {
                self.take(&mut fields, &["email", "display_name", "external_id"])?;
                if let (Some(name), None) = (self.data.get("name"), fields.get("display_name")) {
                    fields.insert("display_name".to_owned(), text_value("data.name", name)?);
                }
                if let Some(mfa) = self.data.get("mfa_enabled").filter(|mfa| !mfa.is_null()) {
                    let mfa = mfa
                        .as_bool()
                        .ok_or_else(|| Error::field("data.mfa_enabled", "must be true or false"))?;
                    fields.insert("mfa_enabled".to_owned(), mfa.into());
                }
                if let Some(roles) = self.data.get("roles").filter(|roles| !roles.is_null()) {
                    fields.insert("roles".to_owned(), super::model::roles_value(roles)?);
                }
                Key::User(self.tenant()?, self.subject("user", None)?)
            }
            Resource::Group => {
                self.take(&mut fields, &["name", "slug"])?;
                Key::Group(self.tenant()?, self.subject("group", None)?)
            }
            Resource::Member => {
                let group = match text(&self.data, "group_id")? {
                    Some(group) => checked("data.group_id", group)?,
                    None if self.resource_type == "group" => self.subject("group", None)?,
                    None => return Err(Error::field("data.group_id", "is required")),
                };
                let user = text(&self.data, "user_id")?
                    .ok_or_else(|| Error::field("data.user_id", "is required"))?;
                let kind = text(&self.data, "membership_type")?.unwrap_or("DIRECT").to_ascii_uppercase();
                if !["DIRECT", "NESTED"].contains(&kind.as_str()) {
                    return Err(Error::field("data.membership_type", "must be DIRECT or NESTED"));
                }
                if what == What::Created {
                    fields.insert("membership_type".to_owned(), kind.into());
                }
                Key::Member(self.tenant()?, group, checked("data.user_id", user)?)
            }
        };
        match what {
            What::Created | What::Updated => {
                let status = self.data.get("status").filter(|status| !status.is_null());
                let status = status.map(super::model::status_value).transpose()?;
                if let Some(status) = status.or_else(|| (what == What::Created).then(|| ACTIVE.into())) {
                    fields.insert("status".to_owned(), status);
                }
            }
            What::Status(status) => drop(fields.insert("status".to_owned(), status.into())),
            What::Mfa(enabled) => drop(fields.insert("mfa_enabled".to_owned(), enabled.into())),
            What::Nothing => {}
        }
        let closes = fields.get("status").is_some_and(|status| status != ACTIVE);
        Ok(Some(Fact { key, version: Version::of_event(self.at, &self.id, closes), fields }))
    }

    fn tenant(&self) -> Result<TenantId> {
        self.tenant.clone().ok_or_else(|| Error::field("tenant_id", "is required"))
    }

    /// What the event is about: its resource, or else what its envelope belongs to.
    fn subject(&self, resource: &str, otherwise: Option<&str>) -> Result<String> {
        if !self.resource_type.is_empty() && self.resource_type != resource {
            return Err(Error::field("resource.type", format!("must be {resource} for this event")));
        }
        let id = if self.resource_id.is_empty() { otherwise.unwrap_or_default() } else { &self.resource_id };
        checked("resource.id", id)
    }

    /// Texts of `data`; one that is `null` is as good as absent.
    fn take(&self, fields: &mut Map<String, Value>, names: &[&str]) -> Result<()> {
        for name in names {
            if let Some(value) = self.data.get(*name).filter(|value| !value.is_null()) {
                fields.insert((*name).to_owned(), text_value(&format!("data.{name}"), value)?);
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Resource {
    Partner,
    Tenant,
    User,
    Group,
    Member,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Created,
    Updated,
    Status(&'static str),
    Mfa(bool),
    Nothing,
}

/// Every type that says something, in every spelling that is seen.
fn kind(event_type: &str) -> Option<(Resource, What)> {
    let deleted = What::Status(DELETED);
    Some(match event_type {
        "partner.created" => (Resource::Partner, What::Created),
        "partner.updated" => (Resource::Partner, What::Updated),
        "partner.deleted" => (Resource::Partner, deleted),
        "tenant.created" => (Resource::Tenant, What::Created),
        "tenant.updated" => (Resource::Tenant, What::Updated),
        "tenant.deleted" => (Resource::Tenant, deleted),
        "user.created" => (Resource::User, What::Created),
        "user.updated" => (Resource::User, What::Updated),
        "user.deleted" => (Resource::User, deleted),
        "user.suspended" => (Resource::User, What::Status(SUSPENDED)),
        "user.activated" => (Resource::User, What::Status(ACTIVE)),
        "user.password_changed" => (Resource::User, What::Nothing),
        "user.mfa_enabled" => (Resource::User, What::Mfa(true)),
        "user.mfa_disabled" => (Resource::User, What::Mfa(false)),
        "group.created" => (Resource::Group, What::Created),
        "group.updated" => (Resource::Group, What::Updated),
        "group.deleted" => (Resource::Group, deleted),
        "group.member_added" | "group.member.added" | "group_membership.added" => {
            (Resource::Member, What::Created)
        }
        "group.member_removed" | "group.member.removed" | "group_membership.removed" => {
            (Resource::Member, deleted)
        }
        _ => return None,
    })
}

fn invalid(reason: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("The event cannot be read: {reason}."))
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(&format!("{name} is not a string"))),
    }
}

fn id(members: &Map<String, Value>, name: &str) -> Result<String> {
    let text = text(members, name)?.filter(|text| is_id(text));
    text.map(str::to_owned)
        .ok_or_else(|| invalid(&format!("{name} is not 1 to 128 visible ASCII characters")))
}

fn checked(field: &str, id: &str) -> Result<String> {
    if is_id(id) {
        Ok(id.to_owned())
    } else {
        Err(Error::field(field, "must be 1 to 128 visible ASCII characters"))
    }
}

fn is_id(text: &str) -> bool {
    (1..=limits::ID_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}
