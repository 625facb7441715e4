use std::sync::Arc;

use moka::future::Cache;
use scaivault_pki::ocsp::{self, CertId, CertStatus, OcspError, OcspRequest};
use time::OffsetDateTime;

use super::{
    issuer::{self, CaIssuer},
    key::unsigned,
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

    /// The revocation list of a CA.
    ///
    /// # Errors
    /// [`Code::CaNotFound`](crate::Code::CaNotFound).
    pub async fn crl(&self, ca_id: &str) -> Result<PublicCrl> {
        super::crl::current(self.vault, ca_id).await
    }

    /// The same for a request that came as the rest of a path: base64, as it was sent (RFC 6960, A.1).
    ///
    /// # Errors
    /// As [`ocsp`](Self::ocsp).
    pub async fn ocsp_get(&self, ca_id: &str, path: &str) -> Result<Vec<u8>> {
        match ocsp::decode_get_path(path) {
            Ok(request) => self.ocsp(ca_id, &request).await,
            Err(_) => Ok(ocsp::error_response(OcspError::MalformedRequest)),
        }
    }

    /// Answers an OCSP request (RFC 6960) in DER, signed by the CA. A request that cannot be read, or that
    /// asks about another CA's certificates, gets the error answer that the RFC has for it.
    ///
    /// # Errors
    /// [`Code::CaNotFound`](crate::Code::CaNotFound);
    /// [`Code::ServiceUnavailable`](crate::Code::ServiceUnavailable).
    pub async fn ocsp(&self, ca_id: &str, request: &[u8]) -> Result<Vec<u8>> {
        let permit = self.vault.door.public();
        let owner: Option<(String,)> = permit.fetch_optional(query(sql::CA_OWNER).bind(ca_id)).await?;
        let tenant = TenantId::parse(owner.ok_or_else(issuer::not_found)?.0)?;
        let Ok(request) = OcspRequest::parse(request) else {
            return Ok(ocsp::error_response(OcspError::MalformedRequest));
        };
        let load = permit.fetch_all_of::<ChainRow>(&tenant, issuer::chain(&tenant, ca_id));
        let base_url = self.vault.settings.base_url.as_deref();
        let ca: Arc<CaIssuer> = self.vault.issuers.get((&tenant, ca_id), base_url, load).await?;
        if request.cert_ids().iter().any(|id| !id.matches(&ca.issuer)) {
            return Ok(ocsp::error_response(OcspError::Unauthorized));
        }
        if request.cert_ids().len() > limits::OCSP_CERTIFICATES {
            return Ok(ocsp::error_response(OcspError::MalformedRequest));
        }
        let statuses = statuses(&permit, &tenant, ca_id, &request).await?;
        permit.check_signing()?;
        if ca.key_id().is_none() {
            return self.by_provider(&permit, &tenant, &ca, request, statuses).await;
        }
        self.sign(&permit, &tenant, &ca, &request, &statuses).await
    }

    /// The same by a key inside of a provider. Anybody may ask, and each signature is a call of it: what was answered is
    /// answered again for a while, without the nonce; what the CA never issued is not signed about; and of signatures
    /// there are so many a minute.
    async fn by_provider(
        &self,
        permit: &PublicPermit<'_>,
        tenant: &TenantId,
        ca: &CaIssuer,
        request: OcspRequest,
        statuses: Vec<CertStatus>,
    ) -> Result<Vec<u8>> {
        if statuses.contains(&CertStatus::Unknown) {
            return Ok(ocsp::error_response(OcspError::Unauthorized));
        }
        let request = request.without_nonce();
        let asked = Asked { ca_id: ca.id.clone(), certificates: request.cert_ids().to_vec(), statuses };
        let answers = &self.vault.ocsp_answers.0;
        let now = permit.now();
        if let Some(known) = answers.get(&asked).await {
            if (known.at..known.at + limits::OCSP_KEPT).contains(&now) {
                return Ok(known.der.clone());
            }
            answers.invalidate(&asked).await;
        }
        if !self.vault.door.may_sign_for_anybody(&ca.id) {
            return Ok(ocsp::error_response(OcspError::TryLater));
        }
        let sign = async {
            let der = self.sign(permit, tenant, ca, &request, &asked.statuses).await?;
            Ok(Arc::new(Answer { der, at: now }))
        };
        let answer = answers.try_get_with_by_ref(&asked, sign).await.map_err(Error::shared)?;
        Ok(answer.der.clone())
    }

    async fn sign(
        &self,
        permit: &PublicPermit<'_>,
        tenant: &TenantId,
        ca: &CaIssuer,
        request: &OcspRequest,
        statuses: &[CertStatus],
    ) -> Result<Vec<u8>> {
        let keys = async |key_id: &str| permit.keys_for(tenant, key_id).await;
        let key = ca.open_key((tenant, self.vault.door.roots()), keys).await?;
        let now = permit.now();
        let next = now + limits::OCSP_VALIDITY;
        ocsp::respond(request, statuses, &ca.issuer, &key, now, next, now).await.map_err(unsigned)
    }
}

/// Answers that keys in providers signed lately. A certificate that is revoked is asked about under another status.
#[derive(Debug)]
pub(crate) struct OcspAnswers(Cache<Asked, Arc<Answer>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    ca_id: String,
    certificates: Vec<CertId>,
    statuses: Vec<CertStatus>,
}

#[derive(Debug)]
struct Answer {
    der: Vec<u8>,
    at: OffsetDateTime,
}

impl OcspAnswers {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(ANSWERS).time_to_live(limits::OCSP_KEPT).build())
    }
}

/// Answers kept at once.
const ANSWERS: u64 = 20_000;

/// One status for each certificate of the request, in order, by one query.
async fn statuses(
    permit: &PublicPermit<'_>,
    tenant: &TenantId,
    ca_id: &str,
    request: &OcspRequest,
) -> Result<Vec<CertStatus>> {
    let serials = request.cert_ids().iter().map(|id| id.serial().as_bytes());
    let rows: Vec<StatusRow> = permit.fetch_all_of(tenant, store::statuses(tenant, ca_id, serials)).await?;
    let status = |id: &CertId| match rows.iter().find(|row| row.serial == id.serial().as_bytes()) {
        Some(row) => row.status(),
        None => Ok(CertStatus::Unknown),
    };
    request.cert_ids().iter().map(status).collect()
}
