use std::time::Duration;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{Action, AuditLog, chain::plain};
use crate::{Code, Ctx, Result, TenantId, id, limits, pipeline::On, storage::Ts};

/// A record on its way into the trail.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) tenant: TenantId,
    pub(crate) timestamp: OffsetDateTime,
    pub(crate) action: Action,
    pub(crate) identity_type: &'static str,
    pub(crate) identity_id: String,
    pub(crate) acting_tenant: TenantId,
    pub(crate) resource_type: Option<&'static str>,
    pub(crate) resource_id: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) source_ip: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) error: Option<Code>,
    pub(crate) duration: Duration,
    pub(crate) request_id: String,
    pub(crate) extra: Map<String, Value>,
}

impl Record {
    /// A record of an act of `ctx` that took `duration` and succeeded; a refusal sets `error`.
    pub(crate) fn new(
        ctx: &Ctx,
        action: Action,
        on: &On,
        (timestamp, duration): (OffsetDateTime, Duration),
        random: &dyn crate::Random,
    ) -> Result<Self> {
        let caller = ctx.caller();
        let (resource_type, resource_id, path) = match on {
            On::Path { path, .. } => (Some("secret"), None, Some(shown(path))),
            On::Virtual { path, kind, .. } => (Some(*kind), None, Some(shown(path))),
            On::Listing { prefix } => (Some("secret"), None, prefix.as_deref().map(shown)),
            On::Object { kind, id } => (Some(*kind), id.as_deref().map(shown), None),
            On::Nothing => (None, None, None),
        };
        Ok(Self {
            id: id::new("log_", timestamp, random)?,
            tenant: ctx.tenant().clone(),
            timestamp,
            action,
            identity_type: caller.identity_type().as_str(),
            identity_id: caller.identity_id().to_owned(),
            acting_tenant: caller.tenant_id().clone(),
            resource_type,
            resource_id,
            path,
            source_ip: ctx.source_ip().map(|ip| ip.to_string()),
            user_agent: ctx.user_agent().map(str::to_owned),
            error: None,
            duration,
            request_id: ctx.request_id().to_owned(),
            extra: Map::new(),
        })
    }

    /// As the trail has it.
    pub(crate) fn into_log(self) -> AuditLog {
        AuditLog {
            id: self.id,
            timestamp: Ts::from(self.timestamp).get(),
            action: self.action.as_str().to_owned(),
            identity_type: self.identity_type.to_owned(),
            identity_id: self.identity_id,
            tenant_id: self.tenant.as_str().to_owned(),
            acting_tenant_id: self.acting_tenant.as_str().to_owned(),
            resource_type: self.resource_type.map(str::to_owned),
            resource_id: self.resource_id,
            secret_path: self.path,
            source_ip: self.source_ip,
            user_agent: self.user_agent,
            success: self.error.is_none(),
            error_code: self.error.map(|code| code.as_str().to_owned()),
            duration_ms: i64::try_from(self.duration.as_millis()).unwrap_or(i64::MAX),
            request_id: self.request_id,
            extra_data: plain(Value::Object(self.extra)),
        }
    }
}

/// What a caller sent as a path or identifier, as far as a record keeps it: bounded, and without control
/// characters, so that no text that he can think of keeps the record from being written.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(limits::PATH_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
