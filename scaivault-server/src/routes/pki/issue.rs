use std::collections::BTreeMap;

use http::HeaderName;
use scaivault_core::{
    IdempotencyKey, Result,
    pki::{IssueWrite, IssuedCertificate, PrivateKeyPem, SignNames, SignWrite, SubjectFields},
    rfc3339,
};
use serde::{Deserialize, Serialize};

use super::super::{Caller, Request, wire};
use crate::http::Reply;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IssueBody {
    common_name: Option<String>,
    #[serde(deserialize_with = "wire::or_default")]
    alt_names: Vec<String>,
    #[serde(deserialize_with = "wire::or_default")]
    ip_sans: Vec<String>,
    #[serde(deserialize_with = "wire::or_default")]
    email_sans: Vec<String>,
    #[serde(deserialize_with = "wire::or_default")]
    uri_sans: Vec<String>,
    #[serde(deserialize_with = "wire::or_default")]
    subject: SubjectFields,
    ttl: Option<String>,
    #[serde(deserialize_with = "wire::or_default")]
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct SignBody {
    csr_pem: String,
    alt_names: Option<Vec<String>>,
    ip_sans: Option<Vec<String>>,
    email_sans: Option<Vec<String>>,
    uri_sans: Option<Vec<String>>,
    ttl: Option<String>,
    #[serde(default, deserialize_with = "wire::or_default")]
    tags: BTreeMap<String, String>,
}

impl SignBody {
    /// Any list that is given takes the place of all names of the certificate request.
    fn parse(self) -> Result<SignWrite> {
        let lists = [&self.alt_names, &self.ip_sans, &self.email_sans, &self.uri_sans];
        let names = lists.iter().any(|list| list.is_some()).then(|| SignNames {
            alt_names: self.alt_names.unwrap_or_default(),
            ip_sans: self.ip_sans.unwrap_or_default(),
            email_sans: self.email_sans.unwrap_or_default(),
            uri_sans: self.uri_sans.unwrap_or_default(),
        });
        let ttl = self.ttl.map(|text| wire::duration("ttl", &text)).transpose()?;
        Ok(SignWrite { csr_pem: self.csr_pem, names, ttl, tags: self.tags, idempotency_key: None })
    }
}

#[derive(Serialize)]
struct IssueReply<'a> {
    id: &'a str,
    certificate: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key_withheld: Option<bool>,
    ca_chain: &'a [String],
    serial_number: &'a str,
    not_before: String,
    not_after: String,
    next_renewal_after: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

/// `POST /v1/pki/issue/{role}`.
pub(in crate::routes) async fn issue(mut request: Request, ctx: Caller) -> Result<Reply> {
    let idempotency_key = idempotency_key(&request)?;
    let body: IssueBody = request.json().await?;
    let write = IssueWrite {
        common_name: body.common_name,
        alt_names: body.alt_names,
        ip_sans: body.ip_sans,
        email_sans: body.email_sans,
        uri_sans: body.uri_sans,
        subject: body.subject,
        ttl: body.ttl.map(|text| wire::duration("ttl", &text)).transpose()?,
        tags: body.tags,
        idempotency_key,
    };
    reply(&request.app().vault.pki(&ctx).issue(request.param("role")?, write).await?)
}

/// `POST /v1/pki/sign/{role}`.
pub(in crate::routes) async fn sign(mut request: Request, ctx: Caller) -> Result<Reply> {
    let idempotency_key = idempotency_key(&request)?;
    let body: SignBody = request.json().await?;
    let write = SignWrite { idempotency_key, ..body.parse()? };
    reply(&request.app().vault.pki(&ctx).sign(request.param("role")?, write).await?)
}

/// A certificate that was just made.
pub(super) fn reply(issued: &IssuedCertificate) -> Result<Reply> {
    Reply::created(&IssueReply {
        id: &issued.id,
        certificate: &issued.certificate,
        private_key: issued.private_key.as_ref().map(PrivateKeyPem::expose),
        private_key_withheld: issued.private_key_withheld.then_some(true),
        ca_chain: &issued.ca_chain,
        serial_number: &issued.serial_number,
        not_before: rfc3339(issued.not_before),
        not_after: rfc3339(issued.not_after),
        next_renewal_after: rfc3339(issued.next_renewal_after),
        warnings: &issued.warnings,
    })
}

/// What the caller names his request by.
///
/// # Errors
/// [`Code::InvalidRequest`](scaivault_core::Code::InvalidRequest) if it is repeated, empty, too long or not visible
/// ASCII.
pub(super) fn idempotency_key(request: &Request) -> Result<Option<IdempotencyKey>> {
    let name = HeaderName::from_static("idempotency-key");
    request.head().header(&name)?.map(IdempotencyKey::parse).transpose()
}
