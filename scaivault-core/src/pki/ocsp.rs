use std::sync::Arc;

use scaivault_pki::{
    RevocationReason,
    ocsp::{self, CertStatus, OcspError, OcspRequest},
};

use super::{
    issuer::{self, CaIssuer},
    store::{ChainRow, sql},
    types::PublicCrl,
};
use crate::{
    Error, Result, TenantId, limits,
    pipeline::PublicPermit,
    storage::{Ts, query},
    vault::Inner,
};

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
        let load = permit.fetch_all::<ChainRow>(issuer::chain(&tenant, ca_id));
        let base_url = self.vault.settings.base_url.as_deref();
        let ca: Arc<CaIssuer> = self.vault.issuers.get((&tenant, ca_id), base_url, load).await?;
        if request.cert_ids().iter().any(|id| !id.matches(&ca.issuer)) {
            return Ok(ocsp::error_response(OcspError::Unauthorized));
        }
        let mut statuses = Vec::with_capacity(request.cert_ids().len());
        for id in request.cert_ids() {
            statuses.push(status(&permit, &tenant, ca_id, id.serial().as_bytes()).await?);
        }
        let key = ca.open_key(&tenant, &*permit.keys_for(&tenant, ca.key_id()).await?)?;
        let now = permit.now();
        let next = now + limits::OCSP_VALIDITY;
        Ok(ocsp::respond(&request, &statuses, &ca.issuer, &key, now, next, now).await?)
    }
}

async fn status(
    permit: &PublicPermit<'_>,
    tenant: &TenantId,
    ca_id: &str,
    serial: &[u8],
) -> Result<CertStatus> {
    let find = query(sql::STATUS).bind(tenant).bind(ca_id).bind(serial);
    let row: Option<(Option<Ts>, Option<String>)> = permit.fetch_optional(find).await?;
    match row {
        None => Ok(CertStatus::Unknown),
        Some((None, _)) => Ok(CertStatus::Good),
        Some((Some(at), reason)) => {
            let reason = reason.as_deref().and_then(RevocationReason::parse);
            let reason =
                reason.ok_or_else(|| Error::internal("a stored revocation has an unknown reason"))?;
            Ok(CertStatus::Revoked { at: at.get(), reason })
        }
    }
}
