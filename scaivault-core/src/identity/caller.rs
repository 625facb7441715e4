use std::sync::Arc;

use serde::{Serialize, Serializer};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use crate::{
    Code, Error, IdentityType, PartnerId, Result, Role, Scope, Scopes, TenantId, limits, policy::PathPattern,
};

/// Somebody who has been authenticated, and what the authenticator said of him.
///
/// Holding one is the proof that the caller is known; whether he may do a thing is decided elsewhere.
#[derive(Clone, Debug)]
pub struct Caller {
    identity_id: String,
    identity_type: IdentityType,
    display_name: Option<String>,
    email: Option<String>,
    tenant_id: TenantId,
    partner_id: Option<PartnerId>,
    scopes: Scopes,
    groups: Vec<String>,
    roles: Vec<Role>,
    mfa_verified_at: Option<OffsetDateTime>,
    token_issued_at: Option<OffsetDateTime>,
    token_expires_at: Option<OffsetDateTime>,
    allowed_paths: Option<Arc<[PathPattern]>>,
    certificate: Option<[u8; 32]>,
}

impl Caller {
    /// A person, authenticated by whoever embeds the vault. He has no scopes, groups or roles yet.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] unless `id` is 1 to 128 visible ASCII characters without `* ? { }` that
    /// do not begin with `system:`, `dynamic:` or `group:`.
    pub fn user(id: impl Into<String>, tenant: TenantId) -> Result<Self> {
        Self::outsider(id.into(), IdentityType::User, tenant)
    }

    /// A program, authenticated by whoever embeds the vault.
    ///
    /// # Errors
    /// As [`Caller::user`].
    pub fn service_account(id: impl Into<String>, tenant: TenantId) -> Result<Self> {
        Self::outsider(id.into(), IdentityType::ServiceAccount, tenant)
    }

    /// A background job of the program itself, which appears as `system:<job>`. It stands above scopes and
    /// policies: never make one from what a request says.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] unless `system:<job>` is 8 to 128 visible ASCII characters without
    /// `* ? { }`.
    pub fn system(job: &str, tenant: TenantId) -> Result<Self> {
        let id = format!("system:{job}");
        if job.is_empty() || !is_principal_name(&id) {
            return Err(Error::new(Code::InvalidRequest, "not a valid job name"));
        }
        Ok(Self::bare(id, IdentityType::System, tenant))
    }

    /// Sets the scopes.
    #[must_use]
    pub fn with_scopes(mut self, scopes: impl IntoIterator<Item = Scope>) -> Self {
        self.scopes = scopes.into_iter().collect();
        self
    }

    /// Sets the groups, duplicates removed.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] unless each is 1 to 128 visible ASCII characters without `* ? { }`.
    pub fn with_groups<S: Into<String>>(mut self, groups: impl IntoIterator<Item = S>) -> Result<Self> {
        self.groups = groups.into_iter().map(Into::into).collect();
        if !self.groups.iter().all(|group| is_principal_name(group)) {
            return Err(Error::new(Code::InvalidRequest, "not a valid group name"));
        }
        self.groups.sort_unstable();
        self.groups.dedup();
        Ok(self)
    }

    /// Sets the roles, duplicates removed.
    #[must_use]
    pub fn with_roles(mut self, roles: impl IntoIterator<Item = Role>) -> Self {
        self.roles = roles.into_iter().collect();
        self.roles.sort_unstable();
        self.roles.dedup();
        self
    }

    /// Sets the partner.
    #[must_use]
    pub fn with_partner(mut self, partner: impl Into<Option<PartnerId>>) -> Self {
        self.partner_id = partner.into();
        self
    }

    /// Sets the name to show to people. It takes part in no decision.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Option<String>>) -> Self {
        self.display_name = name.into();
        self
    }

    /// Sets the address that the authenticator has verified. It takes part in one decision: whether this is the person
    /// of [`VaultBuilder::bootstrap_super_admin`](crate::VaultBuilder::bootstrap_super_admin).
    #[must_use]
    pub fn with_email(mut self, email: impl Into<Option<String>>) -> Self {
        self.email = email.into();
        self
    }

    /// Sets when a second factor was last seen. Who sets it answers for it not being in the future.
    #[must_use]
    pub fn with_mfa(mut self, at: impl Into<Option<OffsetDateTime>>) -> Self {
        self.mfa_verified_at = at.into();
        self
    }

    /// Sets when the credentials were issued and when they expire.
    #[must_use]
    pub fn with_validity(
        mut self,
        from: impl Into<Option<OffsetDateTime>>,
        until: impl Into<Option<OffsetDateTime>>,
    ) -> Self {
        (self.token_issued_at, self.token_expires_at) = (from.into(), until.into());
        self
    }

    /// Narrows him to paths that match one of these, whatever policies and roles grant; no pattern is no path, and
    /// `None` narrows nothing.
    #[must_use]
    pub fn with_allowed_paths(mut self, patterns: impl Into<Option<Vec<PathPattern>>>) -> Self {
        self.allowed_paths = patterns.into().map(Into::into);
        self
    }

    /// Says that the credentials are good only with the certificate of this SHA-256 (RFC 8705 section 3.1). Whoever
    /// authenticates him sees to it that it is there; see [`TokenVerifier::verify_over`](crate::TokenVerifier::verify_over).
    #[must_use]
    pub fn with_certificate(mut self, thumbprint: impl Into<Option<[u8; 32]>>) -> Self {
        self.certificate = thumbprint.into();
        self
    }

    /// The identifier; with [`Caller::identity_type`] and the tenant it names one principal, byte for byte.
    #[must_use]
    pub fn identity_id(&self) -> &str {
        &self.identity_id
    }

    /// What kind of principal this is.
    #[must_use]
    pub fn identity_type(&self) -> IdentityType {
        self.identity_type
    }

    /// The name to show to people.
    #[must_use]
    pub fn display_name(&self) -> Option<&str> {
        self.display_name.as_deref()
    }

    /// The address that the authenticator has verified.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }

    /// The tenant that the caller belongs to.
    #[must_use]
    pub fn tenant_id(&self) -> &TenantId {
        &self.tenant_id
    }

    /// The partner that the caller belongs to.
    #[must_use]
    pub fn partner_id(&self) -> Option<&PartnerId> {
        self.partner_id.as_ref()
    }

    /// Whether the scopes cover `wanted`; see [`Scopes::contains`].
    #[must_use]
    pub fn has_scope(&self, wanted: Scope) -> bool {
        self.scopes.contains(wanted)
    }

    /// The scopes as they were given.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// The groups, sorted.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Whether the caller has exactly this role; one role implies no other.
    #[must_use]
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The roles, sorted.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// When a second factor was last seen; `None` means not verified.
    #[must_use]
    pub fn mfa_verified_at(&self) -> Option<OffsetDateTime> {
        self.mfa_verified_at
    }

    /// When the token was issued, if it said so.
    #[must_use]
    pub fn token_issued_at(&self) -> Option<OffsetDateTime> {
        self.token_issued_at
    }

    /// When the token expires.
    #[must_use]
    pub fn token_expires_at(&self) -> Option<OffsetDateTime> {
        self.token_expires_at
    }

    /// The patterns of the paths that the credentials are narrowed to, if they are.
    #[must_use]
    pub fn allowed_paths(&self) -> Option<&[PathPattern]> {
        self.allowed_paths.as_deref()
    }

    /// Whether the credentials are not narrowed to other paths than this one. It grants nothing.
    #[must_use]
    pub fn may_reach(&self, path: &str) -> bool {
        self.allowed_paths().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(path)))
    }

    /// The SHA-256 of the certificate that the credentials are bound to, if they are bound to one.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8; 32]> {
        self.certificate.as_ref()
    }

    /// What the caller may be told of himself.
    #[must_use]
    pub fn whoami(&self) -> Whoami<'_> {
        Whoami {
            identity_id: &self.identity_id,
            identity_type: self.identity_type,
            display_name: self.display_name(),
            tenant_id: &self.tenant_id,
            partner_id: self.partner_id(),
            scopes: self.scopes,
            groups: &self.groups,
            roles: &self.roles,
            mfa_verified_at: self.mfa_verified_at,
            token_expires_at: self.token_expires_at,
            allowed_paths: self.allowed_paths(),
        }
    }

    /// Somebody of whom it is only asked what he could do; he may be a part of the vault itself.
    pub(crate) fn imagined(identity_type: IdentityType, id: &str, tenant: TenantId) -> Result<Self> {
        if !is_principal_name(id) {
            return Err(Error::new(Code::InvalidRequest, "not a valid identity id"));
        }
        Ok(Self::bare(id.to_owned(), identity_type, tenant))
    }

    fn outsider(id: String, identity_type: IdentityType, tenant: TenantId) -> Result<Self> {
        if !is_outside_identity(&id) {
            return Err(Error::new(Code::InvalidRequest, "not a valid identity id"));
        }
        Ok(Self::bare(id, identity_type, tenant))
    }

    fn bare(identity_id: String, identity_type: IdentityType, tenant_id: TenantId) -> Self {
        Self {
            identity_id,
            identity_type,
            display_name: None,
            email: None,
            tenant_id,
            partner_id: None,
            scopes: Scopes::default(),
            groups: Vec::new(),
            roles: Vec::new(),
            mfa_verified_at: None,
            token_issued_at: None,
            token_expires_at: None,
            allowed_paths: None,
            certificate: None,
        }
    }
}

/// Whether `text` can name a user, service account or group. ASCII only, so that no two names look the
/// same; without the characters that mean something in a pattern or template, so that a name that ends
/// up in one cannot widen it.
pub(super) fn is_principal_name(text: &str) -> bool {
    (1..=limits::ID_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'?' | b'{' | b'}'))
}

/// Whether `text` can name a caller from outside: the prefixes of the vault's own principals, and of
/// groups, are not for him, so that no record can be read as if one of those had acted.
pub(super) fn is_outside_identity(text: &str) -> bool {
    is_principal_name(text) && !OURS.iter().any(|prefix| text.starts_with(prefix))
}

const OURS: [&str; 3] = ["system:", "dynamic:", "group:"];

/// What `GET /v1/auth/whoami` answers. Times are RFC 3339 in UTC with whole seconds.
#[derive(Debug, Serialize)]
pub struct Whoami<'a> {
    identity_id: &'a str,
    identity_type: IdentityType,
    display_name: Option<&'a str>,
    tenant_id: &'a TenantId,
    partner_id: Option<&'a PartnerId>,
    scopes: Scopes,
    groups: &'a [String],
    roles: &'a [Role],
    #[serde(serialize_with = "whole_seconds")]
    mfa_verified_at: Option<OffsetDateTime>,
    #[serde(serialize_with = "whole_seconds")]
    token_expires_at: Option<OffsetDateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_paths: Option<&'a [PathPattern]>,
}

pub(super) fn whole_seconds<S: Serializer>(at: &Option<OffsetDateTime>, to: S) -> Result<S::Ok, S::Error> {
    let text = at.map(|at| at.to_offset(UtcOffset::UTC).truncate_to_second().format(&Rfc3339)).transpose();
    text.map_err(serde::ser::Error::custom)?.serialize(to)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    fn tenant() -> TenantId {
        TenantId::parse("tnt_acme").unwrap()
    }

    #[test]
    fn whoami_has_every_field_and_whole_seconds_in_utc() {
        let caller = Caller::service_account("sa:ci", tenant())
            .unwrap()
            .with_scopes([Scope::SecretsWrite, Scope::SecretsRead])
            .with_groups(["group:sre", "group:dev", "group:sre"])
            .unwrap()
            .with_roles([Role::TenantAdmin])
            .with_partner(PartnerId::parse("ptn_acme").unwrap())
            .with_name("CI".to_owned())
            .with_mfa(datetime!(2026-04-23 20:00:00.75 +2))
            .with_validity(None, datetime!(2026-04-23 19:00 UTC));
        assert_eq!(
            serde_json::to_value(caller.whoami()).unwrap(),
            json!({
                "identity_id": "sa:ci",
                "identity_type": "service_account",
                "display_name": "CI",
                "tenant_id": "tnt_acme",
                "partner_id": "ptn_acme",
                "scopes": ["secrets:read", "secrets:write"],
                "groups": ["group:dev", "group:sre"],
                "roles": ["tenant_admin"],
                "mfa_verified_at": "2026-04-23T18:00:00Z",
                "token_expires_at": "2026-04-23T19:00:00Z",
            })
        );
        let bare = serde_json::to_value(Caller::system("expiry", tenant()).unwrap().whoami()).unwrap();
        assert_eq!(bare["identity_id"], "system:expiry");
        assert_eq!(bare["mfa_verified_at"], json!(null));
        assert_eq!(bare["scopes"], json!([]));
    }

    #[test]
    fn sec_b1_an_identity_cannot_hold_pattern_characters() {
        for bad in ["", "a*", "a?", "{a}", "a b", "a\n", "\u{ff0a}", "a\u{200b}", "alicé", &"x".repeat(129)]
        {
            assert!(Caller::user(bad, tenant()).is_err(), "{bad:?}");
            assert!(Caller::service_account(bad, tenant()).is_err(), "{bad:?}");
            assert!(Caller::system(bad, tenant()).is_err(), "{bad:?}");
            assert!(Caller::user("a", tenant()).unwrap().with_groups([bad]).is_err(), "{bad:?}");
        }
        assert!(Caller::user("user:alice+ops@acme.example", tenant()).is_ok());
    }

    #[test]
    fn sec_d1_nobody_outside_is_named_like_one_of_ours() {
        for bad in ["system:rotation-scheduler", "dynamic:support-db", "group:sre"] {
            assert!(Caller::user(bad, tenant()).is_err(), "{bad}");
            assert!(Caller::service_account(bad, tenant()).is_err(), "{bad}");
        }
    }
}
