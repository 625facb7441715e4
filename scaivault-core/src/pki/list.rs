//! What stands on a revocation list, and whether it may take the place of the one before.

use std::{collections::HashMap, sync::Arc};

use scaivault_pki::{CrlEntry, CrlScope, PublishedCrl, RevocationReason, Serial, build_crl_of};
use time::OffsetDateTime;

use super::{
    issuer::CaIssuer,
    key::{CaKey, unsigned},
    numbering::{Lists, OCTETS},
    store::{self, sql},
};
use crate::{
    Code, Error, Result, limits,
    pipeline::Permit,
    storage::{Ts, query},
};

/// The complete list, among those of a CA.
pub(super) const COMPLETE: i64 = -1;

/// A list as it is published.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct ListRow {
    pub(super) shard: i64,
    pub(super) number: i64,
    base_number: i64,
    crl: Option<Vec<u8>>,
    this_update: Ts,
    delta: Option<Vec<u8>>,
    delta_this_update: Option<Ts>,
    /// How often it was marked.
    pub(super) marks: i64,
    pub(super) due_at: Ts,
    delta_due_at: Option<Ts>,
}

/// A list that takes the place of [`ListRow`].
#[derive(Debug)]
pub(super) struct Built {
    pub(super) number: i64,
    /// None for a delta alone; in it none if there is too much for a complete list.
    pub(super) crl: Option<Option<Vec<u8>>>,
    pub(super) delta: Option<Vec<u8>>,
    pub(super) entries: usize,
}

#[derive(sqlx::FromRow)]
struct RevokedRow {
    serial: Vec<u8>,
    revoked_at: Ts,
    revocation_reason: String,
}

impl RevokedRow {
    fn into_entry(self) -> Result<CrlEntry> {
        let reason = RevocationReason::parse(&self.revocation_reason);
        Ok(CrlEntry {
            serial: Serial::from_bytes(&self.serial)?,
            revoked_at: self.revoked_at.get(),
            reason: reason.ok_or_else(|| Error::internal("a stored revocation has an unknown reason"))?,
        })
    }
}

/// A CA with its key, that makes lists.
pub(super) struct Maker<'m> {
    pub(super) permit: &'m Permit<'m>,
    pub(super) ca: Arc<CaIssuer>,
    pub(super) key: CaKey,
    pub(super) lists: Lists,
    /// When the lists are from.
    pub(super) now: OffsetDateTime,
}

impl ListRow {
    /// Whether it is the list itself that is due, and not its delta alone.
    pub(super) fn wants_all(&self, now: OffsetDateTime) -> bool {
        self.crl.is_none() || self.delta_due_at.is_none() || self.due_at.get() <= now
    }

    /// The time of the newest of it and its delta.
    pub(super) fn latest(&self) -> OffsetDateTime {
        self.delta_this_update.map_or(self.this_update.get(), |delta| delta.get().max(self.this_update.get()))
    }

    /// What a delta of this very list had on hold, or had released, and what is on the list neither before nor now: whoever
    /// has read that delta has to be told (RFC 5280, 5.2.4).
    fn released_since(&self, entries: &[CrlEntry], known: &[Serial]) -> Result<Vec<Serial>> {
        let of_this_list = self.number > self.base_number;
        let (Some(delta), true) = (&self.delta, of_this_list) else { return Ok(Vec::new()) };
        let mut told = PublishedCrl::parse(delta)?.entries;
        told.retain(|(serial, reason)| {
            [RevocationReason::CertificateHold.code(), REMOVE_FROM_CRL].contains(reason)
                && !known.contains(serial)
                && !is_listed(entries, serial)
        });
        Ok(told.into_iter().map(|(serial, _)| serial).collect())
    }
}

impl Maker<'_> {
    /// Builds what follows `last`: the list with its delta, or the delta alone.
    ///
    /// # Errors
    /// [`Code::InternalError`] if the clock went back or something is missing that was on the list before: then it must not
    /// be published. [`Code::VersionConflict`] if rows changed while they were read.
    pub(super) async fn build(&self, last: &ListRow, all: bool) -> Result<Built> {
        if self.now < last.this_update.get() {
            return Err(Error::internal("a revocation list would be older than the one before"));
        }
        let before = match &last.crl {
            Some(der) => Some(PublishedCrl::parse(der)?),
            None => None,
        };
        let number = last.number + 1;
        if before.as_ref().is_some_and(|before| i64::try_from(before.number).is_ok_and(|n| n >= number)) {
            return Err(Error::internal(
                "a revocation list would not have a higher number than the one before",
            ));
        }
        let Some(entries) = self.entries(last.shard).await? else {
            return Ok(Built { number, crl: Some(None), delta: None, entries: 0 });
        };
        let mut released = Vec::new();
        if let Some(before) = &before {
            released = self.explain(before, last, &entries).await?;
            released.extend(last.released_since(&entries, &released)?);
        }
        let count = entries.len();
        let delta = match &before {
            Some(before) if self.lists.delta_crls => {
                Some(self.delta(last, before, &entries, released, number).await?)
            }
            _ => None,
        };
        let crl = match all {
            true => {
                let scope = CrlScope {
                    distribution_point: self.url(last.shard, false),
                    freshest: if self.lists.delta_crls { self.url_of_delta(last.shard) } else { None },
                    expired_since: self.lists.keep_expired.then(|| self.ca.issuer.not_before()),
                    ..CrlScope::default()
                };
                Some(Some(self.sign(scope, number, limits::CRL_VALIDITY, entries).await?))
            }
            false => None,
        };
        Ok(Built { number, crl, delta, entries: count })
    }

    /// What changed since the list before.
    async fn delta(
        &self,
        last: &ListRow,
        before: &PublishedCrl,
        entries: &[CrlEntry],
        released: Vec<Serial>,
        number: i64,
    ) -> Result<Vec<u8>> {
        let mut known: Vec<(&Serial, u8)> =
            before.entries.iter().map(|(serial, reason)| (serial, *reason)).collect();
        known.sort_unstable();
        let is_known = |entry: &CrlEntry| known.binary_search(&(&entry.serial, entry.reason.code())).is_ok();
        let changed = entries.iter().filter(|entry| !is_known(entry)).cloned().collect();
        let now = self.now;
        let scope = CrlScope {
            distribution_point: self.url(last.shard, false),
            delta_base: Some(last.base_number.unsigned_abs()),
            released: released.into_iter().map(|serial| (serial, now)).collect(),
            ..CrlScope::default()
        };
        self.sign(scope, number, limits::DELTA_VALIDITY, changed).await
    }

    /// Where the list of a shard is; the complete one is about everything, wherever it lies.
    fn url(&self, shard: i64, delta: bool) -> Option<String> {
        let url = self.lists.crl_url.as_deref().filter(|_| shard != COMPLETE)?;
        Some(format!("{url}/{shard}{}", if delta { "/delta" } else { "" }))
    }

    fn url_of_delta(&self, shard: i64) -> Option<String> {
        match shard {
            COMPLETE => self.lists.crl_url.as_deref().map(|url| format!("{url}/delta")),
            _ => self.url(shard, true),
        }
    }

    /// Everything that stands on the list, in the order of the numbers, read in pages; `None` if it is more than a complete list bears beside others.
    async fn entries(&self, shard: i64) -> Result<Option<Vec<CrlEntry>>> {
        let mut entries = Vec::new();
        let parts: Vec<Option<i64>> = match shard {
            COMPLETE => vec![None],
            _ => (shard..OCTETS).step_by(usize::try_from(self.lists.shards).unwrap_or(1)).map(Some).collect(),
        };
        for part in parts {
            let mut after = Vec::new();
            loop {
                let page = store::revoked(self.permit.tenant(), &self.ca.id, self.cutoff(), part, &after);
                let rows: Vec<RevokedRow> = self.permit.fetch_all(page).await?;
                let full = rows.len() == store::REVOKED_PAGE;
                if let Some(last) = rows.last() {
                    after.clone_from(&last.serial);
                }
                for row in rows {
                    entries.push(row.into_entry()?);
                }
                if shard == COMPLETE && self.lists.shards > 1 && entries.len() > limits::COMPLETE_CRL {
                    return Ok(None);
                }
                if !full {
                    break;
                }
            }
        }
        entries.sort_unstable_by(|one, other| one.serial.cmp(&other.serial));
        Ok(Some(entries))
    }

    /// Certificates that expired before are not on a list: an entry stays for one more after that (RFC 5280, 3.3), and
    /// for as long as a list lives.
    fn cutoff(&self) -> OffsetDateTime {
        match self.lists.keep_expired {
            true => OffsetDateTime::UNIX_EPOCH,
            false => self.now - limits::CRL_VALIDITY,
        }
    }

    /// Sees to it that whatever is missing was released or has expired; gives what was released.
    async fn explain(
        &self,
        before: &PublishedCrl,
        last: &ListRow,
        entries: &[CrlEntry],
    ) -> Result<Vec<Serial>> {
        let missing: Vec<_> =
            before.entries.iter().filter(|(serial, _)| !is_listed(entries, serial)).collect();
        let mut released = Vec::new();
        for some in missing.chunks(EXPLAINED) {
            let serials = some.iter().map(|(serial, _)| serial.as_bytes());
            let asked = store::ends(self.permit.tenant(), &self.ca.id, serials);
            let rows: Vec<(Vec<u8>, Ts, Option<Ts>)> = self.permit.fetch_all(asked).await?;
            let rows: HashMap<Vec<u8>, (Ts, Option<Ts>)> =
                rows.into_iter().map(|(serial, end, revoked)| (serial, (end, revoked))).collect();
            for (serial, reason) in some {
                let held = *reason == RevocationReason::CertificateHold.code();
                match rows.get(serial.as_bytes()) {
                    Some((end, _)) if end.get() <= self.cutoff() => {}
                    Some((_, None)) if held => released.push(serial.clone()),
                    Some((_, Some(_))) => return Err(changed()),
                    // Records of what expired are kept for longer than this.
                    None if last.this_update.get()
                        <= self.now - (limits::AUDIT_RETENTION_MIN - limits::CRL_VALIDITY) => {}
                    _ => {
                        tracing::error!(ca_id = self.ca.id, shard = last.shard, serial = %serial, "is not revoked any more");
                        return Err(Error::internal("a revoked certificate would be missing from its list"));
                    }
                }
            }
        }
        Ok(released)
    }

    /// Long lists are encoded where that holds nobody up.
    async fn sign(
        &self,
        scope: CrlScope,
        number: i64,
        validity: std::time::Duration,
        entries: Vec<CrlEntry>,
    ) -> Result<Vec<u8>> {
        let (ca, key, now) = (Arc::clone(&self.ca), self.key.clone(), self.now);
        let long = entries.len() > LONG;
        let work = async move {
            let times = [now, now + validity];
            build_crl_of(&ca.issuer, &key, &scope, number.unsigned_abs(), times, entries.into_iter()).await
        };
        let der = if long {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(work)).await.map_err(Error::internal)?
        } else {
            work.await
        };
        der.map_err(unsigned)
    }
}

/// The lists of a CA, or one of them.
pub(super) async fn rows(permit: &Permit<'_>, ca_id: &str, shard: Option<i64>) -> Result<Vec<ListRow>> {
    match shard {
        Some(shard) => permit.fetch_all(query(sql::LIST).bind(permit.tenant()).bind(ca_id).bind(shard)).await,
        None => permit.fetch_all(query(sql::LISTS).bind(permit.tenant()).bind(ca_id)).await,
    }
}

/// Whether it is among entries in the order of the numbers.
fn is_listed(entries: &[CrlEntry], serial: &Serial) -> bool {
    entries.binary_search_by(|entry| entry.serial.cmp(serial)).is_ok()
}

pub(super) fn changed() -> Error {
    Error::new(Code::VersionConflict, "Another list was published in between.")
}

/// The reason of an entry of a delta that ends a hold (RFC 5280, 5.3.1).
const REMOVE_FROM_CRL: u8 = 8;
/// Serial numbers that are looked up at once.
const EXPLAINED: usize = 500;
/// Entries of a list that takes long to encode.
const LONG: usize = 1000;
