use serde::Serialize;
use time::OffsetDateTime;

use super::{Caller, IdentityType, Role, Scope, Scopes, TokenVerifier, caller::whole_seconds};
use crate::{
    Action, Code, Ctx, Result, TenantId,
    pipeline::{Act, Door, Permit},
};

/// What is told of a token that somebody asks about: whom it speaks for if it is good, and nothing if it is not.
/// Times are RFC 3339 in UTC with whole seconds.
#[derive(Debug, Serialize)]
pub struct Introspection {
    /// Whether the token would be believed now, as far as the caller may know.
    pub active: bool,
    /// Whom it speaks for, if it is active.
    #[serde(flatten)]
    pub subject: Option<TokenSubject>,
}

/// Whom a token speaks for.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the members of the answer, as the API contract names them")]
pub struct TokenSubject {
    pub identity_id: String,
    pub identity_type: IdentityType,
    pub tenant_id: TenantId,
    pub scopes: Scopes,
    #[serde(serialize_with = "whole_seconds")]
    pub expires_at: Option<OffsetDateTime>,
    #[serde(serialize_with = "whole_seconds")]
    pub issued_at: Option<OffsetDateTime>,
}

/// See [`Vault::introspect`](crate::Vault::introspect).
pub(crate) async fn introspect(
    door: &Door,
    ctx: &Ctx,
    verifier: &TokenVerifier,
    token: &str,
) -> Result<Introspection> {
    let act = Act::object(Action::AuthIntrospect, &[Scope::Admin], "token", None);
    door.perform(ctx, act, |mut permit| async move {
        let found = match verifier.verify(token).await {
            Ok(found) if may_know(&permit, &found).await? => Some(found),
            Ok(_) => None,
            Err(error) if matches!(error.code(), Code::TokenInvalid | Code::TokenExpired) => None,
            Err(error) => return Err(error),
        };
        permit.note("active", found.is_some());
        if let Some(found) = &found {
            permit.note("token_identity_id", found.identity_id());
            permit.note("token_tenant_id", found.tenant_id().as_str());
        }
        permit.answer(Introspection { active: found.is_some(), subject: found.as_ref().map(subject) })
    })
    .await
}

/// Whether the caller may know that somebody else has a good token: of his own tenant, or as an administrator of the
/// partner that the other tenant belongs to.
async fn may_know(permit: &Permit<'_>, found: &Caller) -> Result<bool> {
    let asks = permit.ctx().caller();
    if found.tenant_id() == asks.tenant_id() {
        return Ok(true);
    }
    let (everything, partner) = (asks.has_role(Role::SuperAdmin), asks.has_role(Role::PartnerAdmin));
    if !everything && !partner {
        return Ok(false);
    }
    let home = permit.partner_of(found.tenant_id()).await?;
    let claimed = found.partner_id().cloned();
    // A token that names another partner than its tenant's opens nothing.
    let agreed = home.is_none() || claimed.is_none() || home == claimed;
    Ok(agreed && (everything || home.or(claimed).as_ref() == Some(permit.partner())))
}

fn subject(found: &Caller) -> TokenSubject {
    TokenSubject {
        identity_id: found.identity_id().to_owned(),
        identity_type: found.identity_type(),
        tenant_id: found.tenant_id().clone(),
        scopes: found.scopes(),
        expires_at: found.token_expires_at(),
        issued_at: found.token_issued_at(),
    }
}
