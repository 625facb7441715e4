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
    in_partner: bool,
    /// Whose rows are acted on, once it is known that the caller may.
    entered: OnceLock<TenantId>,
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
        Self {
            caller,
            tenant,
            in_partner: false,
            entered: OnceLock::new(),
            request_id,
            source_ip: None,
            user_agent: None,
            now,
            charged: Arc::default(),
            known: OnceLock::new(),
        }
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

    /// Acts on another tenant than the caller's own: for partner admins one of their partner, for super admins any.
    #[must_use]
    pub fn for_tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = tenant;
        self.entered = OnceLock::new();
        self
    }

    /// Acts on what the partner of the tenant shares with all of his tenants: his secrets, the policies that he gives
    /// to all of them, and his audit trail. Nothing else can be done there.
    #[must_use]
    pub fn in_partner(mut self) -> Self {
        self.in_partner = true;
        self.entered = OnceLock::new();
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

    /// The tenant that is acted on; for what a partner shares, once it is known that the caller may, what stands for
    /// the partner.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        self.entered.get().unwrap_or(&self.tenant)
    }

    /// The tenant that the request names.
    pub(crate) fn named(&self) -> &TenantId {
        &self.tenant
    }

    pub(crate) fn is_in_partner(&self) -> bool {
        self.in_partner
    }

    /// Whether the caller may act on what is not his own tenant's.
    pub(crate) fn has_entered(&self) -> bool {
        self.entered.get().is_some()
    }

    /// Says that he may. Whoever asks again gets the same answer: neither roles nor partners change in a request.
    pub(crate) fn enter(&self, store: &TenantId) {
        self.entered.get_or_init(|| store.clone());
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
