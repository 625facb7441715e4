//! Requests that may be sent twice and are carried out once: what was answered to the first is remembered for a day, in
//! the transaction of its effect, so that of two replicas that race with one key one waits and answers like the other.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::types::Json;

use crate::{
    Code, Ctx, Error, Result, limits,
    pipeline::{Permit, Write},
    storage::{Query, json, query},
    vault::Inner,
};

pub(crate) mod sql {
    pub(crate) const FIND: &str = "\
        SELECT request_hash, answer FROM idempotency \
        WHERE tenant_id = $1 AND identity = $2 AND route = $3 AND idempotency_key = $4 AND expires_at > $5";
    pub(crate) const FORGET: &str = "\
        DELETE FROM idempotency \
        WHERE tenant_id = $1 AND identity = $2 AND route = $3 AND idempotency_key = $4 AND expires_at <= $5";
    /// Waits for whoever has the same key under way.
    pub(crate) const CLAIM: &str = "\
        INSERT INTO idempotency (tenant_id, identity, route, idempotency_key, request_hash, answer, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    pub(crate) const DELETE_EXPIRED: &str = "\
        DELETE FROM idempotency WHERE (tenant_id, identity, route, idempotency_key) IN ( \
        SELECT tenant_id, identity, route, idempotency_key FROM idempotency WHERE expires_at <= $1 \
        ORDER BY expires_at LIMIT $2)";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[FIND, FORGET, CLAIM, DELETE_EXPIRED];
}

/// What a caller names a request by, so that sending it twice is doing it once.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Takes 1 to 255 bytes of visible ASCII.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let good = (1..=limits::IDEMPOTENCY_KEY_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic());
        match good {
            true => Ok(Self(text.to_owned())),
            false => {
                let message = "Idempotency-Key: must have 1 to 255 visible ASCII characters, without spaces.";
                Err(Error::new(Code::InvalidRequest, message))
            }
        }
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(..)")
    }
}

/// One request that has a key.
pub(crate) struct Once {
    identity: String,
    route: String,
    key: String,
    request: [u8; 32],
}

#[derive(Debug, sqlx::FromRow)]
struct Known {
    request_hash: Vec<u8>,
    answer: Json<serde_json::Value>,
}

impl Known {
    fn answer<T: DeserializeOwned>(self, once: &Once) -> Result<T> {
        if self.request_hash != once.request {
            let message = "The idempotency key was used for another request within the last 24 hours.";
            return Err(Error::new(Code::IdempotencyConflict, message));
        }
        serde_json::from_value(self.answer.0).map_err(Error::internal)
    }
}

impl Once {
    /// `route` names what is asked for, and `request` is all that was asked.
    pub(crate) fn new(
        ctx: &Ctx,
        key: Option<IdempotencyKey>,
        route: String,
        request: &impl Serialize,
    ) -> Result<Option<Self>> {
        let Some(key) = key else { return Ok(None) };
        let caller = ctx.caller();
        let bytes = serde_json::to_vec(request).map_err(Error::internal)?;
        let mut request = [0; 32];
        request.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        let who = (caller.tenant_id().as_str(), caller.identity_type().as_str(), caller.identity_id());
        let identity = serde_json::to_string(&who).map_err(Error::internal)?;
        Ok(Some(Self { identity, route, key: key.0, request }))
    }

    fn place<'q>(&'q self, sql: &'static str, tenant: &'q crate::TenantId) -> Query<'q> {
        query(sql).bind(tenant).bind(&self.identity).bind(&self.route).bind(&self.key)
    }

    /// What was answered before, if anything was.
    ///
    /// # Errors
    /// [`Code::IdempotencyConflict`] if it was to another request.
    pub(crate) async fn find<T: DeserializeOwned>(&self, permit: &Permit<'_>) -> Result<Option<T>> {
        let find = self.place(sql::FIND, permit.tenant()).bind(permit.ctx().now());
        let known: Option<Known> = permit.fetch_optional(find).await?;
        known.map(|known| known.answer(self)).transpose()
    }

    /// Remembers `answer` together with the effect of the transaction. If another has been faster, nothing may be
    /// changed any more: what that one answered is given.
    ///
    /// # Errors
    /// [`Code::IdempotencyConflict`] if that was to another request.
    pub(crate) async fn claim<T: DeserializeOwned>(
        &self,
        tx: &mut Write<'_>,
        answer: &(impl Serialize + Sync),
    ) -> Result<Option<T>> {
        let (tenant, now) = (tx.tenant(), tx.ctx().now());
        tx.execute(self.place(sql::FORGET, tenant).bind(now)).await?;
        let claim = self
            .place(sql::CLAIM, tenant)
            .bind(self.request.as_slice())
            .bind(json(answer)?)
            .bind(now + limits::IDEMPOTENCY_KEPT);
        if tx.execute(claim).await? == 1 {
            return Ok(None);
        }
        let known: Option<Known> = tx.fetch_optional(self.place(sql::FIND, tenant).bind(now)).await?;
        let known = known.ok_or_else(|| Error::internal("an idempotency key is taken and not there"))?;
        known.answer(self).map(Some)
    }
}

/// Removes keys that have expired, a few hundred at a time.
pub(crate) async fn delete_expired(vault: &Inner) -> Result<()> {
    loop {
        let delete = query(sql::DELETE_EXPIRED).bind(vault.clock.now()).bind(limits::IDEMPOTENCY_DELETE);
        let deleted = vault.door.job_db().execute(delete).await?;
        if deleted < limits::IDEMPOTENCY_DELETE.unsigned_abs() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_and_visible() {
        let long = "k".repeat(255);
        for good in ["k", "0f8fad5b-d9cb-469f-a165-70867728950e", "~!@#", &long] {
            assert!(IdempotencyKey::parse(good).is_ok(), "{good}");
        }
        let longer = "k".repeat(256);
        for bad in ["", " ", "a b", "a\t", "a\n", "ä", "\u{7f}", &longer] {
            assert_eq!(IdempotencyKey::parse(bad).unwrap_err().code(), Code::InvalidRequest, "{bad:?}");
        }
        assert!(!format!("{:?}", IdempotencyKey::parse("visible").unwrap()).contains("visible"));
    }
}
