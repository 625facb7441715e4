use std::sync::Arc;

use scaivault_pki::ocsp::{self, CertStatus, OcspError, OcspRequest};

use super::{
    issuer::{self, CaIssuer},
    key::unsigned,
    store::{self, ChainRow, StatusRow, sql},
    types::PublicCrl,
};
use crate::{Result, TenantId, limits, pipeline::PublicPermit, storage::query, vault::Inner};

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
        let keys = async |key_id: &str| permit.keys_for(&tenant, key_id).await;
        let key = ca.open_key((&tenant, self.vault.door.roots()), keys).await?;
        let now = permit.now();
        let next = now + limits::OCSP_VALIDITY;
        ocsp::respond(&request, &statuses, &ca.issuer, &key, now, next, now).await.map_err(unsigned)
    }
}

/// One status for each certificate of the request, in order, by one query.
async fn statuses(
    permit: &PublicPermit<'_>,
    tenant: &TenantId,
    ca_id: &str,
    request: &OcspRequest,
) -> Result<Vec<CertStatus>> {
    let serials = request.cert_ids().iter().map(|id| id.serial().as_bytes());
    let rows: Vec<StatusRow> = permit.fetch_all_of(tenant, store::statuses(tenant, ca_id, serials)).await?;
    let status = |id: &ocsp::CertId| match rows.iter().find(|row| row.serial == id.serial().as_bytes()) {
        Some(row) => row.status(),
        None => Ok(CertStatus::Unknown),
    };
    request.cert_ids().iter().map(status).collect()
}
