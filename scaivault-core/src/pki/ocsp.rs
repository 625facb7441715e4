use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::digest::{SHA256, digest};
use moka::future::Cache;
use scaivault_pki::{
    Serial, SerialKey,
    ocsp::{self, CertId, CertStatus, OcspError, OcspRequest},
};
use time::OffsetDateTime;

use super::{
    issuer::{self, CaIssuer},
    key::unsigned,
    numbering::is_unkept,
    store::{self, ChainRow, StatusRow, sql},
    types::PublicCrl,
};
use crate::{Error, Result, TenantId, limits, pipeline::PublicPermit, storage::query, vault::Inner};

/// What relying parties may fetch without a token. From [`Vault::public_pki`](crate::Vault::public_pki).
#[derive(Clone, Copy, Debug)]
pub struct PublicPki<'a> {
    vault: &'a Inner,
}

impl<'a> PublicPki<'a> {
    pub(crate) fn new(vault: &'a Inner) -> Self {
        Self { vault }
    }

    /// The complete revocation list of a CA.
    ///
    /// # Errors
    /// [`Code::CaNotFound`](crate::Code::CaNotFound), also if too much was revoked for one list;
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable) as for [`crl_of_shard`](Self::crl_of_shard).
    pub async fn crl(&self, ca_id: &str) -> Result<PublicCrl> {
        super::crl::current(self.vault, ca_id, None, false).await
    }

    /// The revocation list of one of a CA's shards. The first one is built for the first who asks.
    ///
    /// # Errors
    /// [`Code::CaNotFound`](crate::Code::CaNotFound) if there is no such CA or shard;
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable) if the first list is being built by somebody else, or
    /// cannot be built now.
    pub async fn crl_of_shard(&self, ca_id: &str, shard: u8) -> Result<PublicCrl> {
        super::crl::current(self.vault, ca_id, Some(shard), false).await
    }

    /// What changed since the complete list of a CA, or that of a shard.
    ///
    /// # Errors
    /// [`Code::CaNotFound`](crate::Code::CaNotFound) if there is no such CA or shard, or it has no delta;
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable) as for [`crl_of_shard`](Self::crl_of_shard).
    pub async fn delta_crl(&self, ca_id: &str, shard: Option<u8>) -> Result<PublicCrl> {
        super::crl::current(self.vault, ca_id, shard, true).await
    }

    /// The same for a request that came as the rest of a path: base64, as it was sent (RFC 6960, A.1).
    ///
    /// # Errors
    /// As [`ocsp`](Self::ocsp).
    pub async fn ocsp_get(&self, ca_id: &str, path: &str) -> Result<OcspReply> {
        match ocsp::decode_get_path(path) {
            Ok(request) => self.ocsp(ca_id, &request).await,
            Err(_) => Ok(self.refuse(OcspError::MalformedRequest)),
        }
    }

    /// Answers an OCSP request (RFC 6960) in DER, signed by a responder that the CA has delegated that to, or by the CA
    /// itself while it cannot. A request that cannot be read, or that asks about another CA's certificates or about more
    /// than [`limits::OCSP_CERTIFICATES`], gets the error answer that the RFC has for it.
    ///
    /// # Errors
    /// [`Code::CaNotFound`](crate::Code::CaNotFound);
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable).
    pub async fn ocsp(&self, ca_id: &str, request: &[u8]) -> Result<OcspReply> {
        let permit = self.vault.door.public();
        let owner: Option<(String,)> = permit.fetch_optional(query(sql::CA_OWNER).bind(ca_id)).await?;
        let tenant = TenantId::parse(owner.ok_or_else(issuer::not_found)?.0)?;
        let Ok(request) = OcspRequest::parse(request) else {
            return Ok(self.refuse(OcspError::MalformedRequest));
        };
        let load = permit.fetch_all_of::<ChainRow>(&tenant, issuer::chain(&tenant, ca_id));
        let base_url = self.vault.settings.base_url.as_deref();
        let ca: Arc<CaIssuer> = self.vault.issuers.get((&tenant, ca_id), base_url, load).await?;
        if request.cert_ids().iter().any(|id| !id.matches(&ca.issuer)) {
            return Ok(self.refuse(OcspError::Unauthorized));
        }
        if request.cert_ids().len() > limits::OCSP_CERTIFICATES {
            return Ok(self.refuse(OcspError::MalformedRequest));
        }
        let statuses = statuses(&permit, &tenant, &ca, &request).await?;
        permit.check_signing()?;
        let reply = match request.nonce() {
            // Boxed: making a responder is a long way, and would lie on the stack of everybody who asks.
            Some(_) => Box::pin(self.sign(&permit, &tenant, &ca, &request, &statuses)).await?,
            None => Box::pin(self.known(&permit, &tenant, &ca, &request, statuses.clone())).await?,
        };
        // An error that is not signed says nothing of certificates.
        if reply.der.len() > ERROR_LENGTH {
            self.vault.ocsp_counts.statuses(&statuses);
        }
        Ok(reply)
    }

    fn refuse(&self, error: OcspError) -> OcspReply {
        self.vault.ocsp_counts.add(match error {
            OcspError::MalformedRequest => Cause::Malformed,
            OcspError::Unauthorized => Cause::Unauthorized,
            OcspError::InternalError | OcspError::TryLater => Cause::TryLater,
        });
        OcspReply { der: ocsp::error_response(error), fresh: None }
    }

    /// An answer without a nonce. What was answered lately is answered again, while it would say the same: the states
    /// are read for each request, so that a revocation on any replica shows at once.
    async fn known(
        &self,
        permit: &PublicPermit<'_>,
        tenant: &TenantId,
        ca: &CaIssuer,
        request: &OcspRequest,
        statuses: Vec<CertStatus>,
    ) -> Result<OcspReply> {
        // Of numbers that were never issued there are too many to keep.
        if statuses.contains(&CertStatus::Unknown) {
            return Box::pin(self.sign(permit, tenant, ca, request, &statuses)).await;
        }
        let asked = Asked { ca_id: ca.id.clone(), certificates: request.cert_ids().to_vec() };
        let (answers, now) = (&self.vault.ocsp_answers.0, permit.now());
        if let Some(known) = answers.get(&asked).await {
            if known.statuses == statuses && (known.at..known.at + limits::OCSP_KEPT).contains(&now) {
                self.vault.ocsp_counts.add(Cause::Cached);
                return Ok(known.reply.clone());
            }
            if known.at > now {
                // Somebody who asked later was faster.
                return Box::pin(self.sign(permit, tenant, ca, request, &statuses)).await;
            }
            answers.invalidate(&asked).await;
        }
        let sign = async {
            let reply = Box::pin(self.sign(permit, tenant, ca, request, &statuses)).await?;
            // Only what is signed is kept.
            match reply.fresh {
                Some((at, _)) => Ok(Arc::new(Answered { statuses: statuses.clone(), at, reply })),
                None => Err(Kept::Not(reply)),
            }
        };
        match answers.try_get_with_by_ref(&asked, sign).await {
            Ok(known) if known.statuses == statuses => Ok(known.reply.clone()),
            // Signed for somebody else, before or after it was revoked.
            Ok(_) => {
                answers.invalidate(&asked).await;
                Box::pin(self.sign(permit, tenant, ca, request, &statuses)).await
            }
            Err(error) => match Arc::unwrap_or_clone(error) {
                Kept::Not(reply) => Ok(reply),
                Kept::Failed(error) => Err(Error::shared(error)),
            },
        }
    }

    async fn sign(
        &self,
        permit: &PublicPermit<'_>,
        tenant: &TenantId,
        ca: &CaIssuer,
        request: &OcspRequest,
        statuses: &[CertStatus],
    ) -> Result<OcspReply> {
        let now = permit.now();
        let next = now + limits::OCSP_VALIDITY;
        let der = match Box::pin(super::responder::delegate(self.vault, tenant, ca)).await {
            Some(by) => {
                ocsp::respond_by(request, statuses, &ca.issuer, &by.responder, &by.key, [now, next, now])
                    .await
            }
            None => {
                // Anybody may ask, and a provider may ask for money: so many a minute, and none about nothing.
                if ca.key_id().is_none() {
                    if statuses.contains(&CertStatus::Unknown) {
                        return Ok(self.refuse(OcspError::Unauthorized));
                    }
                    if !self.vault.door.may_sign_for_anybody(&ca.id) {
                        return Ok(self.refuse(OcspError::TryLater));
                    }
                }
                let keys = async |key_id: &str| permit.keys_for(tenant, key_id).await;
                let key = ca.open_key((tenant, self.vault.door.roots()), keys).await?;
                ocsp::respond(request, statuses, &ca.issuer, &key, now, next, now).await
            }
        };
        self.vault.ocsp_counts.add(Cause::Signed);
        let fresh = request.nonce().is_none().then_some((now, next));
        Ok(OcspReply { der: der.map_err(unsigned)?, fresh })
    }
}

/// The length of an answer that is an error.
const ERROR_LENGTH: usize = 5;

/// An answer to an OCSP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspReply {
    /// In DER.
    pub der: Vec<u8>,
    /// For an answer that may be given to others who ask the same: from when until when it holds.
    pub fresh: Option<(OffsetDateTime, OffsetDateTime)>,
}

impl OcspReply {
    /// SHA-256 in hexadecimal digits, to tell answers apart by.
    #[must_use]
    pub fn digest(&self) -> String {
        hex::encode(digest(&SHA256, &self.der))
    }
}

/// Why an answer was not kept.
#[derive(Clone, Debug)]
enum Kept {
    /// It is an error that the protocol knows.
    Not(OcspReply),
    Failed(Arc<Error>),
}

impl From<Error> for Kept {
    fn from(error: Error) -> Self {
        Self::Failed(Arc::new(error))
    }
}

/// The answers that were signed last. One that says something else takes the place of the one before, which is never
/// given again: whoever asks again must not get one that is older than what he has.
#[derive(Debug)]
pub(crate) struct OcspAnswers(Cache<Asked, Arc<Answered>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    ca_id: String,
    certificates: Vec<CertId>,
}

#[derive(Debug)]
struct Answered {
    statuses: Vec<CertStatus>,
    /// Its `thisUpdate`.
    at: OffsetDateTime,
    reply: OcspReply,
}

impl OcspAnswers {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(ANSWERS).time_to_live(limits::OCSP_KEPT).build())
    }
}

/// What requests came to.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Good,
    Revoked,
    Unknown,
    Malformed,
    Unauthorized,
    TryLater,
    Cached,
    Signed,
}

/// See [`Statistics::ocsp`](crate::Statistics::ocsp).
#[derive(Debug, Default)]
pub(crate) struct OcspCounts([AtomicU64; CAUSES.len()]);

const CAUSES: [(Cause, &str); 8] = [
    (Cause::Good, "good"),
    (Cause::Revoked, "revoked"),
    (Cause::Unknown, "unknown"),
    (Cause::Malformed, "malformed"),
    (Cause::Unauthorized, "unauthorized"),
    (Cause::TryLater, "try_later"),
    (Cause::Cached, "cached"),
    (Cause::Signed, "signed"),
];

impl OcspCounts {
    fn add(&self, cause: Cause) {
        if let Some(count) = self.0.get(cause as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn statuses(&self, statuses: &[CertStatus]) {
        for status in statuses {
            self.add(match status {
                CertStatus::Good => Cause::Good,
                CertStatus::Revoked { .. } => Cause::Revoked,
                CertStatus::Unknown => Cause::Unknown,
            });
        }
    }

    pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
        CAUSES.iter().zip(&self.0).map(|((_, name), count)| (*name, count.load(Ordering::Relaxed))).collect()
    }
}

/// Answers kept at once.
const ANSWERS: u64 = 20_000;

/// One status for each certificate of the request, in order, by one query. What has no row was never issued, unless its
/// number says that it was and that the certificate was not kept.
async fn statuses(
    permit: &PublicPermit<'_>,
    tenant: &TenantId,
    ca: &CaIssuer,
    request: &OcspRequest,
) -> Result<Vec<CertStatus>> {
    let serials: Vec<&Serial> = request.cert_ids().iter().filter_map(CertId::serial).collect();
    if serials.is_empty() {
        return Ok(vec![CertStatus::Unknown; request.cert_ids().len()]);
    }
    let bytes = serials.iter().map(|serial| serial.as_bytes());
    let rows: Vec<StatusRow> = permit.fetch_all_of(tenant, store::statuses(tenant, &ca.id, bytes)).await?;
    let row = |serial: &Serial| rows.iter().find(|row| row.serial == serial.as_bytes());
    let unkept = match serials.iter().any(|serial| row(serial).is_none() && is_unkept(serial)) {
        true => unkept(permit, tenant, ca).await?,
        false => None,
    };
    let status = |serial: &Serial| match (row(serial), &unkept) {
        (Some(row), _) => row.status(),
        (None, Some((key, status))) if is_unkept(serial) && key.shard(serial).is_some() => Ok(*status),
        _ => Ok(CertStatus::Unknown),
    };
    request.cert_ids().iter().map(|id| id.serial().map_or(Ok(CertStatus::Unknown), status)).collect()
}

/// What certificates without a row are told from others by, and what is said of them.
async fn unkept(
    permit: &PublicPermit<'_>,
    tenant: &TenantId,
    ca: &CaIssuer,
) -> Result<Option<(SerialKey, CertStatus)>> {
    let Some(numbering) = &ca.numbering else { return Ok(None) };
    let keys = permit.keys_for(tenant, &numbering.key.key_id).await?;
    let Some(key) = ca.serial_key(tenant, &keys)? else { return Ok(None) };
    let query = query(sql::CA_STATUS).bind(tenant).bind(&ca.id);
    let own: Vec<StatusRow> = permit.fetch_all_of(tenant, query).await?;
    // Of a CA whose own record is gone nothing is known.
    let status = own.first().map(StatusRow::status).transpose()?.unwrap_or(CertStatus::Unknown);
    Ok(Some((key, status)))
}
