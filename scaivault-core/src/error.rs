use std::{borrow::Cow, collections::BTreeMap, error::Error as StdError, sync::Arc, time::Duration};

use scaivault_kms::KmsError;
use scaivault_pki::{PkiError, Refused};
use serde::Serialize;

use crate::storage::NulInText;

/// The result of every verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb did not do what was asked: a stable [`Code`] to act on, a message for people, and details.
///
/// The message and the details are safe to show to the caller: they never hold a secret, a token or SQL.
/// What the database or the KMS said is in [`std::error::Error::source`], for logs only.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: Code,
    message: Cow<'static, str>,
    details: Box<Details>,
    /// Whether the audit trail has it.
    recorded: bool,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Particulars that a program can use; what does not apply is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Details {
    /// Field → what is wrong with it, every field and every rule.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Vec<String>>,
    /// The path that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The condition of a rule that did not hold, as policies name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_condition: Option<&'static str>,
    /// The scope that the token lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_scope: Option<&'static str>,
    /// The version that the caller's expectation collided with; 0 if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<i64>,
    /// Set when the secret exists but has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired: Option<bool>,
    /// When to try again, in whole seconds.
    #[serde(rename = "retry_after", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub retry_after: Option<Duration>,
}

fn seconds<S: serde::Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    value.map(|d| d.as_secs()).serialize(to)
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Everything a caller can act on. The text of a code is the product's contract: it is what the
        /// HTTP API answers and what the audit trail records.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    /// The request cannot be read: malformed JSON, wrong shape, contradictory parts.
    InvalidRequest = "invalid_request",
    /// A secret path breaks the path rules.
    InvalidPath = "invalid_path",
    /// Not one of the secret types.
    InvalidSecretType = "invalid_secret_type",
    /// Not an integer with one unit.
    InvalidDuration = "invalid_duration",
    /// A cursor that we did not make, for another query, or too old.
    InvalidCursor = "invalid_cursor",
    /// A policy document that means nothing.
    InvalidPolicy = "invalid_policy",
    /// A path pattern that breaks the glob rules.
    InvalidGlob = "invalid_glob",
    /// A PKI role that means nothing.
    InvalidRole = "invalid_role",
    /// No credentials, or not in the form `Bearer <token>`.
    AuthenticationRequired = "authentication_required",
    /// The token was good once.
    TokenExpired = "token_expired",
    /// The token cannot be believed.
    TokenInvalid = "token_invalid",
    /// Whom the token speaks for was suspended or deleted.
    TokenRevoked = "token_revoked",
    /// A message that is not signed as it has to be.
    InvalidSignature = "invalid_signature",
    /// No rule allows this.
    AccessDenied = "access_denied",
    /// A rule allows this only to those who showed a second factor recently.
    MfaRequired = "mfa_required",
    /// A rule allows this only from other addresses.
    IpNotAllowed = "ip_not_allowed",
    /// A rule allows this only at other times.
    TimeWindowViolation = "time_window_violation",
    /// The token lacks a scope.
    InsufficientScope = "insufficient_scope",
    /// The caller may not act on that tenant.
    TenantAccessDenied = "tenant_access_denied",
    /// Nobody with the caller's roles may do this.
    Forbidden = "forbidden",
    /// No such tenant.
    TenantNotFound = "tenant_not_found",
    /// No such user or group.
    IdentityNotFound = "identity_not_found",
    /// No such secret.
    SecretNotFound = "secret_not_found",
    /// No such version, or it has aged out.
    VersionNotFound = "version_not_found",
    /// No such policy.
    PolicyNotFound = "policy_not_found",
    /// No such binding.
    BindingNotFound = "binding_not_found",
    /// No such certificate authority.
    CaNotFound = "ca_not_found",
    /// No such certificate.
    CertificateNotFound = "certificate_not_found",
    /// No such PKI role.
    RoleNotFound = "role_not_found",
    /// No such trust configuration.
    TrustNotFound = "trust_not_found",
    /// No such trust anchor.
    TrustAnchorNotFound = "trust_anchor_not_found",
    /// No such certificate request.
    CsrNotFound = "csr_not_found",
    /// No such route.
    NotFound = "not_found",
    /// The route exists, not for this method.
    MethodNotAllowed = "method_not_allowed",
    /// The path holds a deleted secret that can still be restored.
    SecretExists = "secret_exists",
    /// Somebody else wrote in between.
    VersionConflict = "version_conflict",
    /// The policy is bound.
    PolicyInUse = "policy_in_use",
    /// The name is taken.
    NameConflict = "name_conflict",
    /// The object is not in a state that allows this.
    InvalidState = "invalid_state",
    /// The idempotency key was used for another request.
    IdempotencyConflict = "idempotency_conflict",
    /// The body is larger than allowed.
    PayloadTooLarge = "payload_too_large",
    /// The body is not of a type that we read.
    UnsupportedMediaType = "unsupported_media_type",
    /// The request was read, but fields are wrong; see `details.fields`.
    ValidationError = "validation_error",
    /// More requests of one category than an identity may make in a minute.
    RateLimited = "rate_limited",
    /// A defect of ours.
    InternalError = "internal_error",
    /// The database or the key service is out; try again.
    ServiceUnavailable = "service_unavailable",
    /// The database is older than its anchor: nothing is written until an operator has looked.
    Quarantined = "quarantined",
}

impl Error {
    /// An error with nothing but a code and a message.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), details: Box::default(), recorded: false, source: None }
    }

    /// One wrong field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut fields = FieldErrors::default();
        fields.push(field, message);
        fields.into_error()
    }

    /// A defect of ours: the source is logged, the caller learns only that.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::new(Code::InternalError, "An internal error occurred.") }
    }

    /// Something we stand on is out; waiting helps.
    pub fn unavailable(
        message: impl Into<Cow<'static, str>>,
        retry_after: Duration,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let mut error = Self { source: Some(source.into()), ..Self::new(Code::ServiceUnavailable, message) };
        error.details.retry_after = Some(retry_after);
        error
    }

    /// The same, as something that may go well when it is tried again.
    pub(crate) fn into_unavailable(self, message: &'static str) -> Self {
        let mut error = Self { source: self.source, ..Self::new(Code::ServiceUnavailable, message) };
        error.details.retry_after = Some(Duration::from_secs(1));
        error
    }

    /// The same error for each of several callers that waited for one result.
    pub(crate) fn shared(error: Arc<Self>) -> Self {
        Self {
            code: error.code,
            message: error.message.clone(),
            details: error.details.clone(),
            recorded: false,
            source: Some(Box::new(error)),
        }
    }

    /// Adds particulars.
    #[must_use]
    pub fn with(mut self, set: impl FnOnce(&mut Details)) -> Self {
        set(&mut self.details);
        self
    }

    /// The same with what is behind it, for logs.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same findings under a code that says more.
    pub(crate) fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn recorded(mut self) -> Self {
        self.recorded = true;
        self
    }

    /// What is behind it, outermost first, for logs: the words of each cause and nothing else, since what a
    /// database shows for debugging may hold whole rows.
    #[must_use]
    pub fn causes(&self) -> String {
        let mut causes = String::new();
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            if !causes.is_empty() {
                causes.push_str(": ");
            }
            causes.push_str(&cause.to_string());
            next = cause.source();
        }
        causes
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// What to act on.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What to tell people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The particulars.
    #[must_use]
    pub fn details(&self) -> &Details {
        &self.details
    }
}

/// Collects what is wrong with a request, so that the caller hears of everything at once.
#[derive(Debug, Default)]
pub struct FieldErrors(BTreeMap<String, Vec<String>>);

impl FieldErrors {
    /// Adds one finding.
    pub fn push(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.entry(field.into()).or_default().push(message.into());
    }

    /// `Ok` if nothing was found.
    ///
    /// # Errors
    /// [`Code::ValidationError`] naming every field.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into_error()) }
    }

    fn into_error(self) -> Error {
        let message = match self.0.iter().next() {
            Some((field, reasons)) if self.0.len() == 1 && reasons.len() == 1 => {
                format!("{field}: {}", reasons[0])
            }
            _ => format!(
                "These fields are not valid: {}.",
                self.0.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        };
        Error::new(Code::ValidationError, message).with(|d| d.fields = self.0)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
                Self::unavailable("The database is not available.", Duration::from_secs(1), error)
            }
            E::Database(ref db) if crate::storage::dialect::is_transient(db.as_ref()) => {
                Self::unavailable("The database is not available.", Duration::from_secs(1), error)
            }
            E::Encode(ref reason) if reason.is::<NulInText>() => {
                Self::new(Code::InvalidRequest, "No text may hold the character NUL.")
            }
            other => Self::internal(other),
        }
    }
}

impl From<KmsError> for Error {
    fn from(error: KmsError) -> Self {
        let wait = error.retry_after().unwrap_or(Duration::from_secs(1));
        match error {
            KmsError::Unavailable { .. } | KmsError::Device { .. } => {
                Self::unavailable("The key service is not available.", wait, error)
            }
            KmsError::Denied { .. }
            | KmsError::Disabled { .. }
            | KmsError::NotFound { .. }
            | KmsError::Unauthenticated { .. } => Self::unavailable(
                "The root key cannot be used; an operator has to look.",
                Duration::from_secs(60),
                error,
            ),
            other => Self::internal(other),
        }
    }
}

impl From<PkiError> for Error {
    fn from(error: PkiError) -> Self {
        match error {
            PkiError::Refused(refused) => refused.into(),
            PkiError::Invalid { field, message } => Self::field(field, message),
            PkiError::Kms(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let mut fields = FieldErrors::default();
        for violation in refused.violations {
            fields.push(violation.field, format!("{} (rule: {})", violation.message, violation.rule));
        }
        fields.into_error()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_snake_case() {
        let texts: std::collections::BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        assert!(texts.iter().all(|t| t.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }

    #[test]
    fn field_errors_name_every_field_and_reason() {
        let mut fields = FieldErrors::default();
        fields.push("ttl", "too long");
        fields.push("alt_names[0]", "not allowed");
        fields.push("ttl", "not a duration");
        let error = fields.finish().unwrap_err();
        assert_eq!(error.code(), Code::ValidationError);
        assert_eq!(error.details().fields["ttl"], ["too long", "not a duration"]);
        assert_eq!(error.message(), "These fields are not valid: alt_names[0], ttl.");
        assert!(FieldErrors::default().finish().is_ok());
    }
}
