//! Events that the identity provider sends.

use std::net::IpAddr;

use serde::Serialize;

use super::{
    apply,
    event::Event,
    store::sql,
    sync::{self, ctx_in},
};
use crate::{
    Code, Ctx, Error, Result, Vault,
    audit::Action,
    pipeline::{Act, Outcome, Permit},
    storage::query,
};

/// An event as it arrived.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// `X-ScaiKey-Signature`.
    pub signature: Option<&'a str>,
    /// `X-ScaiKey-Timestamp`, if it was sent.
    pub sent_at: Option<&'a str>,
    /// The body as it was sent.
    pub body: &'a [u8],
    /// Where it came from.
    pub from: IpAddr,
    /// The request that brought it.
    pub request_id: &'a str,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Received {
    /// `false` if it could not be taken over; a sync is to see to it.
    pub success: bool,
    /// `false` if it is of a type that says nothing to us.
    pub handled: bool,
    /// Whether it was taken over before.
    pub duplicate: bool,
}

impl Received {
    const DONE: Self = Self { success: true, handled: true, duplicate: false };
}

impl Vault {
    /// Takes an event of the identity provider over, if one of the secrets has signed it in the last five minutes. It is
    /// remembered by its id in the transaction of its effect, which holds for the next request here, and on other
    /// replicas within [`limits::EPOCH_CHECK`](crate::limits::EPOCH_CHECK).
    ///
    /// # Errors
    /// - [`Code::NotFound`] if there are no secrets.
    /// - [`Code::InvalidSignature`]; [`Code::RateLimited`] for an address that sends too many of those.
    /// - [`Code::InvalidRequest`] for what is signed, but no event.
    /// - [`Code::ServiceUnavailable`] if the database does not answer: it is to be sent again.
    pub async fn receive_identity_event(&self, delivery: Delivery<'_>) -> Result<Received> {
        let inner = self.inner();
        let secrets = inner.webhook_secrets.as_ref();
        let secrets = secrets.ok_or_else(|| Error::new(Code::NotFound, "There is no such route."))?;
        let now = inner.clock.now();
        if let Err(error) = secrets.verify(delivery.signature, delivery.sent_at, delivery.body, now) {
            inner.door.failed_login(delivery.from).await?;
            return Err(error);
        }
        let event = Event::parse(delivery.body)?;
        let ctx = ctx_in(self, event.tenant.as_ref(), JOB).await?;
        let ctx = ctx.with_request_id(delivery.request_id).with_source_ip(delivery.from);
        match self.take_over(&ctx, &event).await {
            Err(error) if matches!(error.code(), Code::ServiceUnavailable | Code::Quarantined) => Err(error),
            Err(error) => {
                tracing::warn!(
                    code = error.code().as_str(),
                    event = event.id,
                    causes = error.causes(),
                    "an event was not taken over"
                );
                sync::request_for(self, event.tenant.as_ref(), event.partner.as_ref()).await?;
                Ok(Received { success: false, ..Received::DONE })
            }
            done => done,
        }
    }

    async fn take_over(&self, ctx: &Ctx, event: &Event) -> Result<Received> {
        let act = Act::object(Action::IdentityEvent, &[], "identity_event", Some(&event.id));
        self.inner().door.perform(ctx, act, |permit| async move { take_over(permit, event).await }).await
    }
}

async fn take_over(permit: Permit<'_>, event: &Event) -> Result<Outcome<Received>> {
    let mut permit = permit.over_directory()?;
    permit.note("event_type", event.event_type.as_str());
    let now = permit.ctx().now();
    let Some(fact) = event.fact(now)? else {
        permit.note("handled", false);
        return permit.answer(Received { handled: false, ..Received::DONE });
    };
    permit.note("about", fact.key.shown());
    let mut tx = permit.begin().await?;
    apply::lock(&mut tx).await?;
    let first = tx.execute(query(sql::REMEMBER_EVENT).bind(&event.id).bind(now)).await? == 1;
    if first && apply::apply(&mut tx, &fact).await? {
        apply::raise(&mut tx, fact.key.tenant()).await?;
    }
    tx.note("duplicate", !first);
    tx.commit(Received { duplicate: !first, ..Received::DONE }).await
}

/// Who takes events over.
const JOB: &str = "scaikey-webhook";
