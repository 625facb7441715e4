use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    caller::{is_outside_identity, is_principal_name},
    token::{TokenSettings, refuse},
};
use crate::{Caller, Code, Error, PartnerId, Result, Role, Scope, TenantId, limits, policy::PathPattern};

/// The claims of a token whose signature holds. `null` is as good as absent.
pub(crate) struct Claims {
    members: Map<String, Value>,
    now: OffsetDateTime,
}

impl Claims {
    pub(crate) fn new(members: Map<String, Value>, now: OffsetDateTime) -> Self {
        Self { members, now }
    }

    /// The caller, if these claims are from whom and for whom `settings` say, and hold now.
    pub(super) fn into_caller(self, settings: &TokenSettings) -> Result<Caller> {
        self.check_issuer(&settings.issuers)?;
        self.check_audience(&settings.audiences)?;
        let caller = self.subject()?;
        let partner = match self.text("partner_id")? {
            Some(id) => Some(PartnerId::parse(id).map_err(|_| unusable("partner_id"))?),
            None => settings.default_partner.clone(),
        };
        let caller = caller
            .with_partner(partner)
            .with_name(self.name()?)
            .with_email(self.email()?)
            .with_scopes(self.scopes()?)
            .with_groups(self.groups()?)?
            .with_roles(self.roles()?)
            .with_mfa(self.mfa()?)
            .with_allowed_paths(self.allowed_paths()?)
            .with_certificate(self.certificate()?);
        let (issued, expires) = self.check_times()?;
        Ok(caller.with_validity(issued, expires))
    }

    /// Who a token of another issuer speaks of, byte for byte, and until when, if these claims are from exactly that
    /// issuer, for one of these audiences, and hold now. It has to say when it was issued, no longer ago than
    /// [`limits::SUBJECT_LIFE`], and not to last longer than that in all.
    pub(crate) fn into_foreign(self, issuer: &str, audiences: &[String]) -> Result<(String, OffsetDateTime)> {
        if self.text("iss")? != Some(issuer) {
            return Err(refuse("claim iss is not the trusted issuer"));
        }
        self.check_audience(audiences)?;
        let (issued, expires) = self.check_times()?;
        let issued = issued.ok_or_else(|| missing("iat"))?;
        let oldest = self.now - limits::SUBJECT_LIFE - limits::TOKEN_LEEWAY;
        if issued < oldest || expires > issued + limits::SUBJECT_LIFE {
            return Err(refuse("it was issued too long ago, or lasts too long"));
        }
        let sub = self.text("sub")?.ok_or_else(|| missing("sub"))?;
        if !(1..=limits::BOUND_VALUE).contains(&sub.len()) || sub.chars().any(char::is_control) {
            return Err(unusable("sub"));
        }
        Ok((sub.to_owned(), expires))
    }

    fn check_issuer(&self, issuers: &[String]) -> Result<()> {
        let iss = self.text("iss")?.ok_or_else(|| missing("iss"))?;
        if issuers.iter().any(|issuer| is_of_issuer(iss, issuer)) {
            Ok(())
        } else {
            Err(refuse("claim iss is not a configured issuer"))
        }
    }

    fn check_audience(&self, audiences: &[String]) -> Result<()> {
        let named = match self.get("aud") {
            None => return Err(missing("aud")),
            Some(Value::String(one)) => vec![one.as_str()],
            Some(_) => self.texts("aud")?,
        };
        if named.iter().any(|aud| audiences.iter().any(|ours| ours == aud)) {
            Ok(())
        } else {
            Err(refuse("claim aud names no configured audience"))
        }
    }

    /// Who it is: `sub` byte for byte, in the tenant that the token names.
    fn subject(&self) -> Result<Caller> {
        let sub = self.text("sub")?.ok_or_else(|| missing("sub"))?;
        if !is_outside_identity(sub) {
            return Err(unusable("sub"));
        }
        let tenant = self.text("tenant_id")?.ok_or_else(|| missing("tenant_id"))?;
        let tenant = TenantId::parse(tenant).map_err(|_| unusable("tenant_id"))?;
        let machine = self.text("token_type")? == Some("client_credentials")
            || self.text("client_id")? == Some(sub)
            || sub.starts_with("sa:");
        if machine { Caller::service_account(sub, tenant) } else { Caller::user(sub, tenant) }
    }

    /// `name`, unless it could not be shown.
    fn name(&self) -> Result<Option<String>> {
        let shown = |name: &&str| {
            (1..=limits::NAME_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control)
        };
        Ok(self.text("name")?.filter(shown).map(str::to_owned))
    }

    /// `email`, unless the issuer says that it has not verified it (OpenID Connect Core 1.0 section 5.1).
    fn email(&self) -> Result<Option<String>> {
        let verified = self.get("email_verified").is_none_or(|verified| verified == &Value::Bool(true));
        Ok(self.text("email")?.filter(|_| verified).map(str::to_owned))
    }

    /// `scope`, space-separated (RFC 8693 section 4.2), or else `scopes`. What we do not know is for
    /// another service.
    fn scopes(&self) -> Result<Vec<Scope>> {
        let given = match self.text("scope")? {
            Some(scope) => scope.split(' ').collect(),
            None => self.texts("scopes")?,
        };
        Ok(given.into_iter().filter_map(Scope::parse).collect())
    }

    /// `roles`, or else `role`. What we do not know is for another service.
    fn roles(&self) -> Result<Vec<Role>> {
        let given = match self.get("roles") {
            Some(_) => self.texts("roles")?,
            None => self.text("role")?.into_iter().collect(),
        };
        Ok(given.into_iter().filter_map(Role::parse).collect())
    }

    /// `groups`, without those whose name nothing could be bound to: membership only ever grants, so
    /// that leaving one out is safe, and one odd group locks nobody out.
    fn groups(&self) -> Result<Vec<&str>> {
        Ok(self.texts("groups")?.into_iter().filter(|group| is_principal_name(group)).collect())
    }

    /// `mfa_verified_at` as RFC 3339 or seconds since 1970. One that is in the future, before 1970 or
    /// unreadable proves nothing: not verified.
    fn mfa(&self) -> Result<Option<OffsetDateTime>> {
        let at = match self.get("mfa_verified_at") {
            None => None,
            Some(Value::String(text)) => OffsetDateTime::parse(text, &Rfc3339).ok(),
            Some(Value::Number(number)) => number.as_f64().and_then(from_seconds),
            Some(_) => return Err(wrong_type("mfa_verified_at")),
        };
        Ok(at.filter(|at| at.unix_timestamp() >= 0 && *at <= self.now + limits::TOKEN_LEEWAY))
    }

    /// `allowed_paths`, patterns as in policies, that nothing is granted outside of. A claim that narrows is understood
    /// or the token is refused; `null` is no list.
    fn allowed_paths(&self) -> Result<Option<Vec<PathPattern>>> {
        let Some(value) = self.members.get("allowed_paths") else { return Ok(None) };
        let patterns = value.as_array().ok_or_else(|| wrong_type("allowed_paths"))?;
        if patterns.len() > limits::ALLOWED_PATHS {
            return Err(refuse("claim allowed_paths has too many entries"));
        }
        let read = |pattern: &Value| {
            let text = pattern.as_str().ok_or_else(|| wrong_type("allowed_paths"))?;
            PathPattern::parse(text).map_err(|_| unusable("allowed_paths"))
        };
        patterns.iter().map(read).collect::<Result<_>>().map(Some)
    }

    /// `cnf` (RFC 7800) with `x5t#S256` (RFC 8705 section 3.1): the certificate that the token is bound to. Any other
    /// proof is one that we cannot check.
    fn certificate(&self) -> Result<Option<[u8; 32]>> {
        let Some(value) = self.members.get("cnf") else { return Ok(None) };
        let members = value.as_object().ok_or_else(|| wrong_type("cnf"))?;
        let Some(thumbprint) = members.get("x5t#S256").filter(|_| members.len() == 1) else {
            return Err(refuse("claim cnf asks for another proof than a client certificate"));
        };
        let text = thumbprint.as_str().ok_or_else(|| wrong_type("cnf"))?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| unusable("cnf"))?;
        bytes.try_into().map(Some).map_err(|_| unusable("cnf"))
    }

    /// `iat` and `exp`, if the token holds now. Clocks may differ by [`limits::TOKEN_LEEWAY`].
    fn check_times(&self) -> Result<(Option<OffsetDateTime>, OffsetDateTime)> {
        let expires = self.time("exp")?.ok_or_else(|| missing("exp"))?;
        let (not_before, issued) = (self.time("nbf")?, self.time("iat")?);
        let latest = self.now + limits::TOKEN_LEEWAY;
        for (name, from) in [("nbf", not_before), ("iat", issued)] {
            if from.is_some_and(|from| from > latest) {
                return Err(refuse(&format!("claim {name} is in the future")));
            }
        }
        if self.now - expires >= limits::TOKEN_LEEWAY {
            return Err(Error::new(Code::TokenExpired, "The token has expired."));
        }
        Ok((issued, expires))
    }

    /// A NumericDate (RFC 7519 section 2) from 1970 to 9999; fractions of a second are cut off.
    fn time(&self, name: &str) -> Result<Option<OffsetDateTime>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let seconds = value.as_f64().ok_or_else(|| wrong_type(name))?;
        from_seconds(seconds).map(Some).ok_or_else(|| unusable(name))
    }

    fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| wrong_type(name))
    }

    fn texts(&self, name: &str) -> Result<Vec<&str>> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(|| wrong_type(name))?;
        if items.len() > limits::CLAIM_ENTRIES {
            return Err(refuse(&format!("claim {name} has too many entries")));
        }
        items.iter().map(|item| item.as_str().ok_or_else(|| wrong_type(name))).collect()
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }
}

/// Whether `iss` is `issuer`, or continues it by `/` and plain path segments. Nothing that could change
/// what host or path it is survives: no empty, `.` or `..` segment, query, fragment, port or escape.
fn is_of_issuer(iss: &str, issuer: &str) -> bool {
    let Some(rest) = iss.strip_prefix(issuer) else { return false };
    let path = if issuer.ends_with('/') { Some(rest) } else { rest.strip_prefix('/') };
    rest.is_empty() || path.is_some_and(|path| path.split('/').all(is_plain_segment))
}

fn is_plain_segment(segment: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
}

fn from_seconds(seconds: f64) -> Option<OffsetDateTime> {
    let whole = (0.0..=LAST_SECOND).contains(&seconds).then(|| seconds.floor() as i64)?;
    OffsetDateTime::from_unix_timestamp(whole).ok()
}

fn missing(name: &str) -> Error {
    refuse(&format!("claim {name} is missing"))
}

fn wrong_type(name: &str) -> Error {
    refuse(&format!("claim {name} is of the wrong type"))
}

fn unusable(name: &str) -> Error {
    refuse(&format!("claim {name} is not usable"))
}

/// 9999-12-31T23:59:59Z, the last that RFC 3339 can write.
const LAST_SECOND: f64 = 253_402_300_799.0;
