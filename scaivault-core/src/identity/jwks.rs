use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::json;
use crate::{Clock, Error, Result, limits};

/// Where the public keys of the identity provider come from (RFC 7517).
///
/// Whoever implements it makes one attempt per call, over a channel that he trusts, follows no redirect
/// to elsewhere and reads at most [`limits::JWKS_BYTES`]. Caching, rate, staleness and retries are the
/// verifier's; an attempt that takes longer than [`limits::JWKS_FETCH`] is dropped.
#[async_trait]
pub trait JwksSource: Debug + Send + Sync {
    /// The key set as the issuer serves it now.
    ///
    /// # Errors
    /// Whatever went wrong; it is logged, and shown to nobody.
    async fn fetch(&self) -> Result<String>;
}

/// A key set that never changes: for tests, development, and embedders who pin their keys.
#[derive(Clone, Debug)]
pub struct StaticJwks(String);

impl StaticJwks {
    /// Serves `body`, a JSON Web Key Set.
    pub fn new(body: impl Into<String>) -> Self {
        Self(body.into())
    }
}

#[async_trait]
impl JwksSource for StaticJwks {
    async fn fetch(&self) -> Result<String> {
        Ok(self.0.clone())
    }
}

/// The signature algorithms that we verify (RFC 7518 sections 3.3 and 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// The keys of an issuer, parsed once; each is for one algorithm.
#[derive(Debug, Default)]
pub(crate) struct KeySet(HashMap<String, Vec<(Algorithm, ParsedPublicKey)>>);

impl KeySet {
    /// Reads a set, passing over every key that is not a signature key of ours: another type, another
    /// use, too small, malformed, or without an id. An id that two keys of one algorithm share names
    /// neither. `None` if this is no key set at all.
    pub(crate) fn parse(body: &str) -> Option<Self> {
        if body.len() > limits::JWKS_BYTES {
            return None;
        }
        let set = json::object(body.as_bytes())?;
        let mut keys = HashMap::new();
        for (kid, algorithm, key) in set.get("keys")?.as_array()?.iter().filter_map(read_key) {
            match keys.entry((kid, algorithm)) {
                Entry::Vacant(free) => _ = free.insert(Some(key)),
                Entry::Occupied(mut taken) => _ = taken.insert(None),
            }
        }
        let mut all: HashMap<_, Vec<_>> = HashMap::new();
        for ((kid, algorithm), key) in keys {
            if let Some(key) = key {
                all.entry(kid).or_default().push((algorithm, key));
            }
        }
        Some(Self(all))
    }

    /// Whether there is no key of ours in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn find(&self, kid: &str, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        self.0.get(kid)?.iter().find(|(for_, _)| *for_ == algorithm).map(|(_, key)| key)
    }
}

fn read_key(jwk: &Value) -> Option<(String, Algorithm, ParsedPublicKey)> {
    let jwk = jwk.as_object()?;
    let kid = jwk.get("kid")?.as_str()?;
    let for_signatures = jwk.get("use").is_none_or(|value| value.as_str() == Some("sig"));
    let verifies = jwk.get("key_ops").is_none_or(|ops| {
        ops.as_array().is_some_and(|ops| ops.iter().any(|op| op.as_str() == Some("verify")))
    });
    if !for_signatures || !verifies {
        return None;
    }
    let (algorithm, name, key) = match jwk.get("kty")?.as_str()? {
        "RSA" => (Algorithm::Rs256, "RS256", read_rsa(jwk)?),
        "EC" => (Algorithm::Es256, "ES256", read_p256(jwk)?),
        _ => return None,
    };
    jwk.get("alg").is_none_or(|alg| alg.as_str() == Some(name)).then(|| (kid.to_owned(), algorithm, key))
}

/// 2048 to 8192 bits and an odd public exponent from 65537 to 2³² (FIPS 186-5 section 5.1 and a bound on
/// what one signature may cost us).
fn read_rsa(jwk: &Map<String, Value>) -> Option<ParsedPublicKey> {
    let (n, e) = (number(jwk, "n")?, number(jwk, "e")?);
    let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
    let exponent = e.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let good = (2048..=8192).contains(&bits)
        && e.len() <= 4
        && exponent >= 65_537
        && exponent % 2 == 1
        && n.last()? % 2 == 1;
    let parts = RsaPublicKeyComponents { n, e };
    if good { parts.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok() } else { None }
}

/// A point of P-256, which is on the curve or it does not parse.
fn read_p256(jwk: &Map<String, Value>) -> Option<ParsedPublicKey> {
    if jwk.get("crv")?.as_str()? != "P-256" {
        return None;
    }
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != 32 || y.len() != 32 {
        return None;
    }
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4], &*x, &*y].concat()).ok()
}

/// A big-endian number, without the leading zeros that some issuers write.
fn number(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    let bytes = bytes(jwk, name)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Some(bytes[zeros..].to_vec())
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok()
}

/// The key set of one source, kept fresh.
///
/// Fetches are single-flight. A set is used for [`limits::JWKS_TTL`], then fetched again; while that
/// fails, the last good one serves up to [`limits::JWKS_STALE`]. An unknown key id causes one fetch per
/// [`limits::JWKS_FORCED_REFRESH`] at most, and a source that failed is left alone for
/// [`limits::JWKS_RETRY`].
#[derive(Debug)]
pub(crate) struct KeyCache {
    source: Arc<dyn JwksSource>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    current: ArcSwapOption<Loaded>,
    attempts: Mutex<Attempts>,
}

/// A key set as it was fetched.
#[derive(Debug)]
pub(super) struct Loaded {
    keys: KeySet,
    at: OffsetDateTime,
}

#[derive(Debug, Default)]
struct Attempts {
    failed: Option<OffsetDateTime>,
    forced: Option<OffsetDateTime>,
}

impl KeyCache {
    pub(crate) fn new(source: Arc<dyn JwksSource>, clock: Arc<dyn Clock>, deadline: Duration) -> Self {
        Self { source, clock, deadline, current: ArcSwapOption::empty(), attempts: Mutex::default() }
    }

    /// Whether `set` is still what signatures are judged by: the issuer was not asked again since.
    pub(super) fn is_current(&self, set: &Arc<Loaded>) -> bool {
        self.within(set.at, limits::JWKS_TTL)
            && self.current.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, set))
    }

    /// Checks `signature` over `message` with the key that the issuer publishes under `kid` for
    /// `algorithm`, and gives the set that it is in. `None` if there is no such key or it did not sign this.
    ///
    /// # Errors
    /// [`crate::Code::ServiceUnavailable`] if there is no key set to look in.
    pub(super) async fn verify(
        &self,
        kid: &str,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<Option<Arc<Loaded>>> {
        let good = |key: &ParsedPublicKey| key.verify_sig(message, signature).is_ok();
        let before = self.usable();
        let set = self.fresh().await?;
        if let Some(key) = set.keys.find(kid, algorithm) {
            let good = good(key);
            return Ok(good.then_some(set));
        }
        if before.is_none_or(|before| !Arc::ptr_eq(&before, &set)) {
            // Fetched within this very call: fetching again would bring nothing.
            return Ok(None);
        }
        let set = self.forced(set).await;
        let good = set.keys.find(kid, algorithm).is_some_and(good);
        Ok(good.then_some(set))
    }

    /// A set that is not older than its time, or else the best there is.
    async fn fresh(&self) -> Result<Arc<Loaded>> {
        let old = self.usable();
        if let Some(set) = old.as_ref().filter(|set| self.within(set.at, limits::JWKS_TTL)) {
            return Ok(Arc::clone(set));
        }
        // With a set in hand nobody waits for somebody else's fetch.
        let mut attempts = match &old {
            Some(set) => match self.attempts.try_lock() {
                Ok(attempts) => attempts,
                Err(_) => return Ok(Arc::clone(set)),
            },
            None => self.attempts.lock().await,
        };
        if let Some(set) = self.usable().filter(|set| self.within(set.at, limits::JWKS_TTL)) {
            return Ok(set);
        }
        let fetched = if attempts.failed.is_some_and(|at| self.within(at, limits::JWKS_RETRY)) {
            Err(Error::internal("the last attempt to fetch the key set failed a moment ago"))
        } else {
            self.fetch(&mut attempts).await
        };
        fetched.or_else(|error| {
            old.ok_or_else(|| {
                Error::unavailable(
                    "The keys of the identity provider are not available.",
                    limits::JWKS_RETRY,
                    error,
                )
            })
        })
    }

    /// A set newer than `old` if the source has one and may be asked, else `old`.
    async fn forced(&self, old: Arc<Loaded>) -> Arc<Loaded> {
        let mut attempts = self.attempts.lock().await;
        if let Some(newer) = self.usable().filter(|set| !Arc::ptr_eq(set, &old)) {
            return newer;
        }
        let too_soon = attempts.forced.is_some_and(|at| self.within(at, limits::JWKS_FORCED_REFRESH))
            || attempts.failed.is_some_and(|at| self.within(at, limits::JWKS_RETRY));
        if too_soon {
            return old;
        }
        // Noted before the fetch: a caller who hangs up does not get another one.
        attempts.forced = Some(self.clock.now());
        self.fetch(&mut attempts).await.unwrap_or(old)
    }

    async fn fetch(&self, attempts: &mut Attempts) -> Result<Arc<Loaded>> {
        let body = match tokio::time::timeout(self.deadline, self.source.fetch()).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(Error::internal(elapsed)),
        };
        let keys = body.and_then(|body| {
            KeySet::parse(&body).ok_or_else(|| Error::internal("not a JSON Web Key Set, or too large"))
        });
        let at = self.clock.now();
        match keys {
            Ok(keys) => {
                attempts.failed = None;
                let set = Arc::new(Loaded { keys, at });
                self.current.store(Some(Arc::clone(&set)));
                Ok(set)
            }
            Err(error) => {
                attempts.failed = Some(at);
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(error = %error, cause, "key set not fetched");
                Err(error)
            }
        }
    }

    fn usable(&self) -> Option<Arc<Loaded>> {
        self.current.load_full().filter(|set| self.clock.now() - set.at < limits::JWKS_STALE)
    }

    /// Whether `at` is less than `limit` ago; after the clock was set back nothing is.
    fn within(&self, at: OffsetDateTime, limit: Duration) -> bool {
        let age = self.clock.now() - at;
        !age.is_negative() && age < limit
    }
}
