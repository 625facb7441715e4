use std::{
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use time::OffsetDateTime;

use crate::{TenantId, identity::Caller, limits, ratelimit::Charged};

/// Who asks, for which tenant, in which request, and when. Made by [`Vault::ctx`](crate::Vault::ctx);
/// every verb takes one.
#[derive(Clone, Debug)]
pub struct Ctx {
    caller: Caller,
    tenant: TenantId,
    request_id: String,
    source_ip: Option<IpAddr>,
    user_agent: Option<String>,
    now: OffsetDateTime,
    charged: Arc<Mutex<Option<Charged>>>,
    /// The caller as the directory knows him, where that is more or less than his token says.
    known: OnceLock<Box<Caller>>,
}

impl Ctx {
    pub(crate) fn new(caller: Caller, request_id: String, now: OffsetDateTime) -> Self {
        let tenant = caller.tenant_id().clone();
        let (source_ip, user_agent) = (None, None);
        let (charged, known) = (Arc::default(), OnceLock::new());
        Self { caller, tenant, request_id, source_ip, user_agent, now, charged, known }
    }

    /// Uses the request id of the protocol that the request came by; it is in the audit record and events.
    /// Cut to 128 characters; what is not visible ASCII is dropped.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = id.into().chars().filter(char::is_ascii_graphic).take(limits::ID_BYTES).collect();
        self
    }

    /// Names the address that the request came from.
    #[must_use]
    pub fn with_source_ip(mut self, ip: IpAddr) -> Self {
        self.source_ip = Some(ip.to_canonical());
        self
    }

    /// Names the program that made the request; cut to 256 characters, control characters dropped.
    #[must_use]
    pub fn with_user_agent(mut self, agent: &str) -> Self {
        self.user_agent =
            Some(agent.chars().filter(|c| !c.is_control()).take(limits::USER_AGENT_CHARS).collect());
        self
    }

    /// Acts on another tenant than the caller's own.
    #[must_use]
    pub fn for_tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = tenant;
        self
    }

    /// Who asks: from the first verb on, or [`Vault::admit`](crate::Vault::admit), with the roles and groups that the
    /// directory gives him.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        self.known.get().map_or(&self.caller, AsRef::as_ref)
    }

    /// Who asks, by his credentials alone.
    pub(crate) fn authenticated(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn set_known(&self, known: Caller) {
        // What was said first holds for the request.
        let _ = self.known.set(Box::new(known));
    }

    /// The tenant that is acted on.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The request's name.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Where the request came from, if it is known.
    #[must_use]
    pub fn source_ip(&self) -> Option<IpAddr> {
        self.source_ip
    }

    /// The program that made the request, if it said so.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref()
    }

    /// What the last verb was charged, if its category has a limit.
    #[must_use]
    pub fn charged(&self) -> Option<Charged> {
        *self.charged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_charged(&self, charged: Charged) {
        *self.charged.lock().unwrap_or_else(PoisonError::into_inner) = Some(charged);
    }

    /// When the request began.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        self.now
    }
}
