use std::sync::Arc;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use moka::sync::Cache;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    certificate::ClientCertificate,
    claims::Claims,
    introspection::{Introspect, Opaque},
    json,
    jwks::{Algorithm, JwksSource, KeyCache, Loaded},
};
use crate::{Caller, Clock, Code, Error, FieldErrors, PartnerId, Result, limits};

/// Whom a [`TokenVerifier`] believes.
#[derive(Clone, Debug, Default)]
pub struct TokenSettings {
    /// Issuers. A token's `iss` has to equal one, or to continue one by a path of plain segments, as in
    /// `https://id.example/tenants/tnt_a` for `https://id.example`. All of them are one authority: they
    /// share one key set, and a subject is the same principal whichever of them vouches for it.
    pub issuers: Vec<String>,
    /// Audiences, one of which `aud` has to name.
    pub audiences: Vec<String>,
    /// The partner of callers whose token names none.
    pub default_partner: Option<PartnerId>,
}

/// Turns bearer tokens into callers.
///
/// A token is a JWT (RFC 7519) signed with RS256 or ES256, as it is or after the prefix `skt_`. The key
/// decides the algorithm: the header has to name both and they have to fit. What a header says about
/// where keys are (`jku`, `x5u`, `jwk`, `x5c`) is never read.
///
/// Other tokens with that prefix are opaque: whoever issued them is asked ([`Introspect`]), and what he says is held to
/// the rules for the claims of a JWT. It is believed for up to [`limits::TOKEN_KNOWN`] and never beyond the token's end,
/// that he does not vouch for it for [`limits::TOKEN_UNKNOWN`].
///
/// A JWT that was good is known by its hash for up to [`limits::TOKEN_KNOWN`], while it lasts and while the keys
/// are those that it was judged by: a caller who comes again costs no signature check, and a key that the issuer takes
/// back is looked for in the very next set.
#[derive(Debug)]
pub struct TokenVerifier {
    keys: KeyCache,
    settings: TokenSettings,
    clock: Arc<dyn Clock>,
    known: Cache<[u8; 32], Arc<Known>>,
    opaque: Option<Opaque>,
}

/// A token that was good.
#[derive(Debug)]
struct Known {
    caller: Caller,
    keys: Arc<Loaded>,
    at: OffsetDateTime,
}

impl TokenVerifier {
    /// A verifier that has not fetched keys yet; the source need not answer before the first token.
    ///
    /// # Errors
    /// [`Code::ValidationError`] if there is no issuer or no audience, or one is empty: such a verifier
    /// would believe nobody, or anybody.
    pub fn new(source: Arc<dyn JwksSource>, settings: TokenSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut fields = FieldErrors::default();
        for (field, values) in [("issuers", &settings.issuers), ("audiences", &settings.audiences)] {
            if values.is_empty() || values.iter().any(String::is_empty) {
                fields.push(field, "at least one, and none empty");
            }
        }
        fields.finish()?;
        let keys = KeyCache::new(source, Arc::clone(&clock), limits::JWKS_FETCH);
        let known = Cache::builder().max_capacity(KNOWN).time_to_live(limits::TOKEN_KNOWN).build();
        Ok(Self { keys, settings, clock, known, opaque: None })
    }

    /// Takes opaque tokens as well, and looks them up there: those that begin with `skt_` and are no JWT. Without
    /// this they are refused.
    #[must_use]
    pub fn with_introspection(mut self, source: Arc<dyn Introspect>) -> Self {
        self.opaque = Some(Opaque::new(source, Arc::clone(&self.clock)));
        self
    }

    /// The caller that `token` speaks for, over a connection without a client certificate.
    ///
    /// # Errors
    /// As [`verify_over`](Self::verify_over).
    pub async fn verify(&self, token: &str) -> Result<Caller> {
        self.verify_over(token, None).await
    }

    /// The caller that `token` speaks for, over a connection whose other end showed `certificate`.
    ///
    /// A token that is bound to a certificate (`cnf` with `x5t#S256`, RFC 8705 section 3) is good with exactly that one;
    /// one that is bound to something else is not good at all.
    ///
    /// # Errors
    /// - [`Code::TokenExpired`] if nothing but its age is wrong with it.
    /// - [`Code::TokenInvalid`] if it cannot be believed, naming the part or claim at fault.
    /// - [`Code::ServiceUnavailable`] if there is no key set to judge it by, or its issuer cannot be asked.
    pub async fn verify_over(&self, token: &str, certificate: Option<&ClientCertificate>) -> Result<Caller> {
        let caller = self.believe(token).await?;
        match (caller.certificate(), certificate) {
            (None, _) => Ok(caller),
            (Some(bound), Some(shown)) if shown.is(bound) => Ok(caller),
            (Some(_), _) => Err(refuse("it is bound to a client certificate that this connection has not")),
        }
    }

    /// The caller that `token` speaks for, if whoever sent it proves what it asks for.
    async fn believe(&self, token: &str) -> Result<Caller> {
        if Opaque::is_one(token) {
            let opaque = self.opaque.as_ref().ok_or_else(|| refuse("opaque tokens are not taken here"))?;
            return opaque.look_up(token, &self.settings).await;
        }
        let token = token.strip_prefix("skt_").unwrap_or(token);
        let hash = hash(token);
        if let Some(known) = self.known.get(&hash).filter(|known| self.holds(known)) {
            return Ok(known.caller.clone());
        }
        let (members, keys) = Signed::read(token)?.verified(&self.keys).await?;
        let at = self.clock.now();
        let caller = Claims::new(members, at).into_caller(&self.settings)?;
        self.known.insert(hash, Arc::new(Known { caller: caller.clone(), keys, at }));
        Ok(caller)
    }

    /// Whether [`verify`](Self::verify) would have to ask the issuer about this very token.
    pub async fn has_to_ask(&self, token: &str) -> bool {
        match self.opaque.as_ref().filter(|_| Opaque::is_one(token)) {
            Some(opaque) => !opaque.knows(token).await,
            None => false,
        }
    }

    /// Whether a token that was good is so still. It began before it was seen, so only its end has to be looked at;
    /// after the clock was set back everything has.
    fn holds(&self, known: &Known) -> bool {
        let now = self.clock.now();
        let expired = known.caller.token_expires_at().is_none_or(|end| now - end >= limits::TOKEN_LEEWAY);
        (known.at..known.at + limits::TOKEN_KNOWN).contains(&now)
            && !expired
            && self.keys.is_current(&known.keys)
    }
}

#[cfg(test)]
impl TokenVerifier {
    /// Whether the token would be believed without a look at its signature.
    pub(super) fn knows(&self, token: &str) -> bool {
        self.known.get(&hash(token)).is_some_and(|known| self.holds(&known))
    }
}

pub(super) fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

/// Tokens that are known at once.
const KNOWN: u64 = 10_000;

/// The refusal of a token. `reason` comes from us alone.
pub(super) fn refuse(reason: &str) -> Error {
    Error::new(Code::TokenInvalid, format!("The token is not valid: {reason}."))
}

/// A token that can be read, and is not believed yet.
pub(crate) struct Signed<'a> {
    parts: Parts<'a>,
    header: Header,
}

impl<'a> Signed<'a> {
    /// Reads all of a token but its claims.
    ///
    /// # Errors
    /// [`Code::TokenInvalid`].
    pub(crate) fn read(token: &'a str) -> Result<Self> {
        if token.len() > limits::TOKEN_BYTES {
            return Err(refuse("it is too long"));
        }
        let parts = Parts::split(token)?;
        let header = Header::read(&parts.header)?;
        Ok(Self { parts, header })
    }

    /// Who it says has issued it: good for finding whose keys to ask, and for nothing else.
    ///
    /// # Errors
    /// [`Code::TokenInvalid`].
    pub(crate) fn claimed_issuer(&self) -> Result<String> {
        let members = self.members()?;
        let issuer = members.get("iss").and_then(Value::as_str);
        issuer.map(str::to_owned).ok_or_else(|| refuse("claim iss is missing or no text"))
    }

    /// The claims, if one of those keys has signed them.
    ///
    /// # Errors
    /// [`Code::TokenInvalid`]; [`Code::ServiceUnavailable`] if there is no key set to judge it by.
    pub(crate) async fn open(&self, keys: &KeyCache) -> Result<Map<String, Value>> {
        self.verified(keys).await.map(|(members, _)| members)
    }

    /// What tells it from other tokens: the hash of what is signed. A signature can be written in more ways than one.
    pub(crate) fn hash(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, self.parts.signed))
    }

    async fn verified(&self, keys: &KeyCache) -> Result<(Map<String, Value>, Arc<Loaded>)> {
        let Self { parts, header } = self;
        let keys = keys.verify(&header.kid, header.algorithm, parts.signed, &parts.signature).await?;
        let keys = keys.ok_or_else(|| refuse("the signature is not one of the issuer's keys"))?;
        Ok((self.members()?, keys))
    }

    fn members(&self) -> Result<Map<String, Value>> {
        json::object(&self.parts.payload)
            .ok_or_else(|| refuse("the payload is not a JSON object without duplicate members"))
    }
}

/// A compact serialization taken apart (RFC 7515 section 7.1).
struct Parts<'a> {
    header: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
    signed: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse("it has not three parts"));
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| refuse("a part is not base64url"));
        Ok(Self {
            header: decode(header)?,
            payload: decode(payload)?,
            signature: decode(signature)?,
            signed: &token.as_bytes()[..header.len() + 1 + payload.len()],
        })
    }
}

struct Header {
    algorithm: Algorithm,
    kid: String,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self> {
        let members = json::object(bytes)
            .ok_or_else(|| refuse("the header is not a JSON object without duplicate members"))?;
        for name in CHANGES_MEANING {
            if members.contains_key(name) {
                return Err(refuse(&format!("header {name} is not supported")));
            }
        }
        let algorithm = text(&members, "alg")?.and_then(Algorithm::parse);
        let algorithm = algorithm.ok_or_else(|| refuse("header alg is neither RS256 nor ES256"))?;
        let typ = text(&members, "typ")?.unwrap_or("JWT");
        if !ACCESS_TOKEN_TYPES.iter().any(|good| typ.eq_ignore_ascii_case(good)) {
            return Err(refuse("header typ is not that of an access token"));
        }
        let kid = text(&members, "kid")?.filter(|kid| (1..=limits::ID_BYTES).contains(&kid.len()));
        let kid = kid.ok_or_else(|| refuse("header kid is missing, empty or too long"))?.to_owned();
        Ok(Self { algorithm, kid })
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>> {
    let Some(value) = members.get(name) else { return Ok(None) };
    value.as_str().map(Some).ok_or_else(|| refuse(&format!("header {name} is not a string")))
}

/// Header members that change how the rest is to be read (RFC 7515 section 4.1.11, RFC 7797, RFC 7516):
/// we read it one way only.
const CHANGES_MEANING: [&str; 3] = ["crit", "b64", "zip"];

/// RFC 7519 section 5.1 and RFC 9068 section 2.1. A typed token of another kind (a logout token, a
/// security event, a proof of possession) is not a credential, whoever signed it (RFC 8725 section 3.11).
const ACCESS_TOKEN_TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];
