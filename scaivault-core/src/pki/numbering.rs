//! How a CA numbers what it issues: so that a serial number tells by itself that the CA gave it out, on which list it is if
//! it is revoked, and whether the certificate was kept.

use std::{borrow::Cow, sync::Arc};

use scaivault_pki::{Issuer, Serial, SerialKey};
use zeroize::Zeroizing;

use super::{
    ca::{self, new_serial},
    issuer::CaIssuer,
    store::{SerialRow, sql},
    types::CaCreate,
};
use crate::{
    Code, Error, Result, TenantId,
    envelope::{Sealed, Slot, TenantKeys},
    limits,
    pipeline::{Permit, Write},
    storage::{Query, query},
    vault::Inner,
};

/// A CA's key for serial numbers, and its lists.
#[derive(Clone, Debug)]
pub(super) struct Numbering {
    pub(super) key: Sealed,
    pub(super) lists: Lists,
}

/// On which lists stands what a CA revoked. Never changed, since its certificates name them.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    /// A power of two up to 128; with 1 there is the complete list alone.
    pub(super) shards: i64,
    pub(super) delta_crls: bool,
    /// Whether entries stay when their certificates have expired.
    pub(super) keep_expired: bool,
    /// Where the complete list is, if any other list is below it.
    pub(super) crl_url: Option<String>,
}

impl Lists {
    /// Those of a CA that is about to be made.
    ///
    /// # Errors
    /// [`Code::ValidationError`] naming `crl_shards` or `delta_crls`.
    pub(super) fn of(write: &CaCreate, base_url: Option<&str>, ca_id: &str) -> Result<Self> {
        let shards = write.crl_shards.unwrap_or(1);
        if !shards.is_power_of_two() || i64::from(shards) > OCTETS {
            return Err(Error::field("crl_shards", "must be a power of two from 1 to 128"));
        }
        let elsewhere = shards > 1 || write.delta_crls;
        let crl_url = super::issuer::urls(base_url, ca_id).crl_url.filter(|_| elsewhere);
        if elsewhere && crl_url.is_none() {
            let field = if shards > 1 { "crl_shards" } else { "delta_crls" };
            return Err(Error::field(field, "needs a vault that knows its own address"));
        }
        Ok(Self {
            shards: shards.into(),
            delta_crls: write.delta_crls,
            keep_expired: write.keep_expired_on_crl,
            crl_url,
        })
    }

    /// Makes room for the lists besides the complete one; the background work builds them within half a minute.
    pub(super) async fn insert(&self, tx: &mut Write<'_>, ca_id: &str) -> Result<()> {
        let now = tx.ctx().now();
        let delta_due = self.delta_crls.then(|| now + limits::DELTA_EVERY);
        let shards = if self.shards > 1 { self.shards } else { 0 };
        for shard in 0..shards {
            let insert =
                query(sql::INSERT_SHARD).bind(tx.tenant()).bind(ca_id).bind(shard).bind(now).bind(delta_due);
            tx.execute(insert).await?;
        }
        if delta_due.is_some() {
            let with_delta = query(sql::WITH_DELTA).bind(tx.tenant()).bind(ca_id).bind(now).bind(delta_due);
            tx.execute(with_delta).await?;
        }
        Ok(())
    }
}

impl Default for Lists {
    fn default() -> Self {
        Self { shards: 1, delta_crls: false, keep_expired: false, crl_url: None }
    }
}

/// Values of the octet that chooses the list.
pub(super) const OCTETS: i64 = 128;
/// The bit of a serial number's second octet that says that there is no row of the certificate.
const UNKEPT: u8 = 0x80;

/// The octet that chooses the list, if the number has one; otherwise 0.
pub(super) fn shard_octet(serial: &Serial) -> i64 {
    octet(serial).map_or(0, |octet| i64::from(octet & !UNKEPT))
}

/// Whether the number says, if it is one of ours, that the certificate was not kept.
pub(super) fn is_unkept(serial: &Serial) -> bool {
    octet(serial).is_some_and(|octet| octet & UNKEPT != 0)
}

fn octet(serial: &Serial) -> Option<u8> {
    match serial.as_bytes() {
        bytes if bytes.len() == Serial::MAX_LEN => bytes.get(1).copied(),
        _ => None,
    }
}

impl Numbering {
    /// With a new key.
    pub(super) fn new(permit: &Permit<'_>, keys: &TenantKeys, ca_id: &str, lists: Lists) -> Result<Self> {
        let mut secret = Zeroizing::new([0; 32]);
        permit.random(secret.as_mut_slice())?;
        let key = keys.seal(&slot(permit.tenant(), &[ca_id]), secret.as_slice())?;
        Ok(Self { key, lists })
    }

    /// Keeps it, unless the CA has one.
    pub(super) async fn insert(&self, tx: &mut Write<'_>, ca_id: &str) -> Result<()> {
        let insert = query(sql::INSERT_NUMBERING)
            .bind(tx.tenant())
            .bind(ca_id)
            .bind(&self.key.ciphertext)
            .bind(&self.key.wrapped_key)
            .bind(&self.key.key_id)
            .bind(self.lists.shards)
            .bind(self.lists.delta_crls)
            .bind(self.lists.keep_expired)
            .bind(self.lists.crl_url.as_deref());
        tx.execute(insert).await.map(drop)
    }
}

/// The one place of a CA's key for serial numbers.
pub(crate) fn slot<'s>(tenant: &'s TenantId, row: &'s [&'s str; 1]) -> Slot<'s> {
    Slot { tenant, table: "pki_numbering", row, column: "key", version: 1 }
}

impl CaIssuer {
    /// The keys that open what the CA has sealed: those that are known, if they do. None if it has nothing.
    pub(super) async fn tenant_keys(
        &self,
        permit: &Permit<'_>,
        known: Option<&Arc<TenantKeys>>,
    ) -> Result<Option<Arc<TenantKeys>>> {
        let sealed_under = self.numbering.as_ref().map(|numbering| numbering.key.key_id.as_str());
        match (known, sealed_under.or(self.key_id())) {
            (known, None) => Ok(known.map(Arc::clone)),
            (Some(known), Some(key_id)) if known.has(key_id) => Ok(Some(Arc::clone(known))),
            (_, Some(key_id)) => permit.keys_for(key_id).await.map(Some),
        }
    }

    /// A serial number for a certificate; `kept` if it gets a row.
    pub(super) fn new_serial(
        &self,
        permit: &Permit<'_>,
        keys: Option<&TenantKeys>,
        kept: bool,
    ) -> Result<Serial> {
        let key = match keys {
            Some(keys) => self.serial_key(permit.tenant(), keys)?,
            None => None,
        };
        let Some(key) = key else { return new_serial(permit) };
        let (mut shard, mut random) = ([0], [0; SerialKey::RANDOM]);
        permit.random(&mut shard)?;
        permit.random(&mut random)?;
        Ok(key.serial(shard[0] & !UNKEPT | if kept { 0 } else { UNKEPT }, random))
    }

    /// The CA as the issuer of a certificate with that serial number: with the list that it would be on.
    pub(super) fn issuer_of(&self, serial: &Serial) -> Result<Cow<'_, Issuer>> {
        let lists = self.numbering.as_ref().map(|numbering| &numbering.lists);
        match lists.and_then(|lists| Some((lists.shards, lists.crl_url.as_deref()?))) {
            Some((shards, url)) if shards > 1 => {
                Ok(Cow::Owned(self.issuer.with_crl_url(format!("{url}/{}", shard_octet(serial) % shards))?))
            }
            _ => Ok(Cow::Borrowed(&self.issuer)),
        }
    }

    /// Whether it gave out the serial number, by its tag.
    pub(super) async fn gave_out(&self, permit: &Permit<'_>, serial: &Serial) -> Result<bool> {
        let Some(keys) = self.tenant_keys(permit, None).await? else { return Ok(false) };
        let key = self.serial_key(permit.tenant(), &keys)?;
        Ok(key.is_some_and(|key| key.shard(serial).is_some()))
    }

    /// The key for serial numbers, if it has one.
    pub(super) fn serial_key(&self, tenant: &TenantId, keys: &TenantKeys) -> Result<Option<SerialKey>> {
        let Some(numbering) = &self.numbering else { return Ok(None) };
        let secret = self.open(keys, &slot(tenant, &[&self.id]), &numbering.key)?;
        let secret = secret.expose().try_into();
        Ok(Some(SerialKey::new(secret.map_err(|_| Error::internal("a serial key is not of 32 octets"))?)))
    }
}

/// The CA that gave out the serial number of a certificate that was not kept and that has no row yet, if it is such a one.
pub(super) async fn issuer_of_unkept(
    vault: &Inner,
    permit: &Permit<'_>,
    serial: &Serial,
    ca_id: Option<&str>,
) -> Result<Option<Arc<CaIssuer>>> {
    if !is_unkept(serial) {
        return Ok(None);
    }
    let known = query(sql::BY_SERIAL).bind(permit.tenant()).bind(serial.as_bytes());
    if permit.fetch_all::<SerialRow>(known).await?.iter().any(|row| row.ca_id.is_some()) {
        return Ok(None);
    }
    let cas: Vec<(String,)> = permit.fetch_all(query(sql::NUMBERED).bind(permit.tenant())).await?;
    for (id,) in cas.iter().filter(|(id,)| ca_id.is_none_or(|ca_id| ca_id == id)) {
        let ca = match ca::issuer(vault, permit, id).await {
            Err(error) if error.code() == Code::CaNotFound => continue,
            found => found?,
        };
        if ca.gave_out(permit, serial).await? {
            return Ok(Some(ca));
        }
    }
    Ok(None)
}

/// The row of a certificate that was not kept: until the CA's own end, since nobody knows its own.
pub(super) fn row_of_unkept<'q>(
    tenant: &'q TenantId,
    ca: &'q CaIssuer,
    serial: &'q Serial,
    id: &'q str,
) -> Query<'q> {
    query(sql::INSERT_UNKEPT)
        .bind(tenant)
        .bind(&ca.id)
        .bind(serial.as_bytes())
        .bind(id)
        .bind(ca.issuer.not_after())
        .bind(shard_octet(serial))
}
