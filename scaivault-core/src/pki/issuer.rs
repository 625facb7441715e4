use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use moka::future::Cache;
use scaivault_kms::{KeySpec, Secret, local::SoftwareKey};
use scaivault_pki::{Adopted, Issuer, IssuerUrls, pem};

use super::{
    key::{CaKey, Provided},
    numbering::Numbering,
    store::{ChainRow, sql},
};
use crate::{
    Code, Error, Result, TenantId,
    envelope::{Roots, Sealed, Slot, TenantKeys},
    limits,
    storage::query,
};

/// A CA as an issuer: its certificate as the engine reads it, its chain as callers get it, and where its key is.
#[derive(Debug)]
pub(crate) struct CaIssuer {
    pub(super) id: String,
    pub(super) issuer: Issuer,
    pub(super) spec: KeySpec,
    /// PEM: the CA itself first, the root last.
    pub(super) chain: Vec<String>,
    held: Held,
    /// None if it was made by an older release and has not had a list since.
    pub(super) numbering: Option<Numbering>,
    /// Whether the key it was sealed under was found to be gone: it was wrapped anew since it was read.
    stale: AtomicBool,
}

/// Where the key of a CA is.
#[derive(Debug)]
pub(super) enum Held {
    /// In its row.
    Sealed(Sealed),
    /// Inside of a provider.
    Provided(Provided),
}

/// Issuers that were read lately. A CA's certificate never changes; its sealed key may be wrapped anew,
/// which is why an entry lives only for a while. Nothing here is secret.
#[derive(Debug)]
pub(crate) struct Issuers {
    cache: Cache<(TenantId, String), Arc<CaIssuer>>,
}

/// Issuers kept at once.
const ISSUERS: u64 = 10_000;

impl Issuers {
    pub(crate) fn new() -> Self {
        Self { cache: Cache::builder().max_capacity(ISSUERS).time_to_live(limits::KEY_CACHE_TTL).build() }
    }

    /// The issuer, from `load`'s rows if it is not known: the CA first, then those above it.
    ///
    /// # Errors
    /// [`Code::CaNotFound`] if there are no rows.
    pub(super) async fn get(
        &self,
        (tenant, id): (&TenantId, &str),
        base_url: Option<&str>,
        load: impl Future<Output = Result<Vec<ChainRow>>> + Send,
    ) -> Result<Arc<CaIssuer>> {
        let key = (tenant.clone(), id.to_owned());
        if self.cache.get(&key).await.is_some_and(|known| known.stale.load(Ordering::Relaxed)) {
            self.cache.invalidate(&key).await;
        }
        let read = async { load.await.and_then(|rows| CaIssuer::new(id, base_url, &rows)).map(Arc::new) };
        self.cache.try_get_with(key, read).await.map_err(Error::shared)
    }
}

impl CaIssuer {
    fn new(id: &str, base_url: Option<&str>, rows: &[ChainRow]) -> Result<Self> {
        let own = rows.first().ok_or_else(not_found)?;
        if own.pending {
            return Err(pending());
        }
        let chain = certificates(rows)?;
        let issuer = Issuer::from_certificate(&own.certificate, urls(base_url, id))?;
        Ok(Self {
            id: id.to_owned(),
            issuer: issuer.below(chain.iter().skip(1).map(Vec::as_slice))?,
            spec: own.key_spec.parse()?,
            chain: chain.iter().map(|der| pem::encode("CERTIFICATE", der)).collect(),
            held: own.held()?,
            numbering: own.numbering(),
            stale: AtomicBool::new(false),
        })
    }

    /// One whose certificate is about to be stored, with the key of its row.
    pub(super) fn adopted(id: &str, adopted: &Adopted, row: &ChainRow) -> Result<Self> {
        Ok(Self {
            id: id.to_owned(),
            issuer: adopted.issuer.clone(),
            spec: row.key_spec.parse()?,
            chain: Vec::new(),
            held: row.held()?,
            numbering: row.numbering(),
            stale: AtomicBool::new(false),
        })
    }

    /// Which tenant key the private key is sealed under; none if a provider has it.
    pub(super) fn key_id(&self) -> Option<&str> {
        match &self.held {
            Held::Sealed(sealed) => Some(&sealed.key_id),
            Held::Provided(_) => None,
        }
    }

    /// The private key, open for as long as the value lives. `keys` are needed if it is sealed, and asked for then.
    pub(super) async fn open_key<K: AsRef<TenantKeys>>(
        &self,
        (tenant, roots): (&TenantId, &Roots),
        keys: impl AsyncFnOnce(&str) -> Result<K>,
    ) -> Result<CaKey> {
        let sealed = match &self.held {
            Held::Provided(provided) => return provided.open(roots).await,
            Held::Sealed(sealed) => sealed,
        };
        let keys = keys(&sealed.key_id).await?;
        let pkcs8 = self.open(keys.as_ref(), &key_slot(tenant, &[&self.id]), sealed)?;
        Ok(CaKey::Software(Arc::new(SoftwareKey::from_pkcs8(self.spec, &pkcs8)?)))
    }

    pub(super) fn open(&self, keys: &TenantKeys, slot: &Slot<'_>, sealed: &Sealed) -> Result<Secret> {
        if !keys.has(&sealed.key_id) {
            self.forget();
            let message = "The key of the CA has just been wrapped anew; try again.";
            return Err(Error::unavailable(message, Duration::from_secs(1), "its former tenant key is gone"));
        }
        keys.open(slot, sealed)
    }

    /// Has it read anew the next time.
    pub(super) fn forget(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }
}

/// The one place of a CA's key.
pub(crate) fn key_slot<'s>(tenant: &'s TenantId, row: &'s [&'s str; 1]) -> Slot<'s> {
    Slot { tenant, table: "pki_ca", row, column: "key", version: 1 }
}

/// Where a CA's revocation list and OCSP responder are.
pub(super) fn urls(base_url: Option<&str>, id: &str) -> IssuerUrls {
    IssuerUrls {
        crl_url: base_url.map(|base| format!("{base}/v1/pki/ca/{id}/crl")),
        ocsp_url: base_url.map(|base| format!("{base}/v1/pki/ocsp/{id}")),
    }
}

/// The query for [`Issuers::get`].
pub(super) fn chain<'a>(tenant: &'a TenantId, id: &'a str) -> crate::storage::Query<'a> {
    query(sql::CHAIN).bind(tenant).bind(id)
}

/// The CA's own certificate and all above it that are known, in DER.
pub(super) fn certificates(rows: &[ChainRow]) -> Result<Vec<Vec<u8>>> {
    let mut chain: Vec<_> = rows.iter().map(|row| row.certificate.clone()).collect();
    if let Some(top) = rows.last().filter(|top| !top.above.is_empty()) {
        chain.extend(pem::parse_certificates(&top.above)?);
    }
    Ok(chain)
}

pub(super) fn pending() -> Error {
    Error::new(Code::InvalidState, "The CA waits for its certificate, which is to be signed outside.")
}

pub(super) fn not_found() -> Error {
    Error::new(Code::CaNotFound, "There is no such CA.")
}
