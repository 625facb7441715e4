use scaivault_core::{
    Error, FieldErrors, Result,
    pki::{
        IssueWrite, IssuerEnd, KeyType, RolePatch, RoleQuestion, RoleWrite, SignNames, SignWrite,
        SubjectFields,
    },
};
use serde::Deserialize;

use super::super::{Caller, Request, wire};
use crate::http::{Reply, query::Limit};

/// `GET /v1/pki/roles`.
pub(in crate::routes) async fn list(request: Request, ctx: Caller) -> Result<Reply> {
    let query: wire::PageQuery = request.query()?;
    let page = request.app().vault.pki(&ctx).roles(query.limit.map(Limit::get), query.cursor).await?;
    Reply::ok(&wire::envelope("roles", page)?)
}

/// What can be set, and, but for the name, changed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RoleBody {
    name: Option<String>,
    ca_id: Option<String>,
    allowed_domains: Option<Vec<String>>,
    allow_subdomains: Option<bool>,
    allow_ip_sans: Option<bool>,
    max_ttl: Option<String>,
    default_ttl: Option<String>,
    key_type: Option<KeyType>,
    key_bits: Option<u32>,
    require_cn: Option<bool>,
    client_flag: Option<bool>,
    server_flag: Option<bool>,
    store_private_keys: Option<bool>,
    allow_wildcards: Option<bool>,
    allowed_dns_globs: Option<Vec<String>>,
    allowed_ip_ranges: Option<Vec<String>>,
    allowed_emails: Option<Vec<String>>,
    allowed_uris: Option<Vec<String>>,
    extended_key_usages: Option<Vec<String>>,
    subject: Option<SubjectFields>,
    allowed_subject_fields: Option<Vec<String>>,
    backdate: Option<String>,
    past_issuer_end: Option<IssuerEnd>,
    no_store: Option<bool>,
}

impl RoleBody {
    fn parse(self) -> Result<RolePatch> {
        let duration =
            |field: &str, text: Option<String>| text.map(|text| wire::duration(field, &text)).transpose();
        Ok(RolePatch {
            ca_id: self.ca_id,
            allowed_domains: self.allowed_domains,
            allow_subdomains: self.allow_subdomains,
            allow_ip_sans: self.allow_ip_sans,
            max_ttl: duration("max_ttl", self.max_ttl)?,
            default_ttl: duration("default_ttl", self.default_ttl)?,
            key_type: self.key_type,
            key_bits: self.key_bits,
            require_cn: self.require_cn,
            client_flag: self.client_flag,
            server_flag: self.server_flag,
            store_private_keys: self.store_private_keys,
            allow_wildcards: self.allow_wildcards,
            allowed_dns_globs: self.allowed_dns_globs,
            allowed_ip_ranges: self.allowed_ip_ranges,
            allowed_emails: self.allowed_emails,
            allowed_uris: self.allowed_uris,
            extended_key_usages: self.extended_key_usages,
            subject: self.subject,
            allowed_subject_fields: self.allowed_subject_fields,
            backdate: duration("backdate", self.backdate)?,
            past_issuer_end: self.past_issuer_end,
            no_store: self.no_store,
        })
    }
}

/// `POST /v1/pki/roles`.
pub(in crate::routes) async fn create(mut request: Request, ctx: Caller) -> Result<Reply> {
    let mut body: RoleBody = request.json().await?;
    let (name, ca_id) = (body.name.take(), body.ca_id.clone());
    let mut missing = FieldErrors::default();
    for (field, given) in [("name", &name), ("ca_id", &ca_id)] {
        if given.is_none() {
            missing.push(field, "is missing");
        }
    }
    missing.finish()?;
    let write = RoleWrite::new(name.unwrap_or_default(), ca_id.unwrap_or_default(), body.parse()?);
    Reply::created(&request.app().vault.pki(&ctx).create_role(write).await?)
}

/// `GET /v1/pki/roles/{name}`.
pub(in crate::routes) async fn read(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.pki(&ctx).role(request.param("name")?).await?)
}

/// `PATCH /v1/pki/roles/{name}`.
pub(in crate::routes) async fn patch(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: RoleBody = request.json().await?;
    if body.name.is_some() {
        return Err(Error::field("name", "cannot be changed: policies grant the role by its name"));
    }
    Reply::ok(&request.app().vault.pki(&ctx).patch_role(request.param("name")?, body.parse()?).await?)
}

/// `DELETE /v1/pki/roles/{name}`.
pub(in crate::routes) async fn delete(request: Request, ctx: Caller) -> Result<Reply> {
    request.app().vault.pki(&ctx).delete_role(request.param("name")?).await?;
    Ok(Reply::no_content())
}

/// Either what would be sent to `/v1/pki/issue/{role}`, or what would be sent to `/v1/pki/sign/{role}`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TestBody {
    csr_pem: Option<String>,
    common_name: Option<String>,
    alt_names: Option<Vec<String>>,
    ip_sans: Option<Vec<String>>,
    email_sans: Option<Vec<String>>,
    uri_sans: Option<Vec<String>>,
    subject: Option<SubjectFields>,
    ttl: Option<String>,
}

impl TestBody {
    fn parse(self) -> Result<RoleQuestion> {
        let ttl = self.ttl.map(|text| wire::duration("ttl", &text)).transpose()?;
        let lists = [&self.alt_names, &self.ip_sans, &self.email_sans, &self.uri_sans];
        let named = lists.iter().any(|list| list.is_some());
        let names = SignNames {
            alt_names: self.alt_names.unwrap_or_default(),
            ip_sans: self.ip_sans.unwrap_or_default(),
            email_sans: self.email_sans.unwrap_or_default(),
            uri_sans: self.uri_sans.unwrap_or_default(),
        };
        let Some(csr_pem) = self.csr_pem else {
            return Ok(RoleQuestion::Issue(IssueWrite {
                common_name: self.common_name,
                alt_names: names.alt_names,
                ip_sans: names.ip_sans,
                email_sans: names.email_sans,
                uri_sans: names.uri_sans,
                subject: self.subject.unwrap_or_default(),
                ttl,
                ..IssueWrite::default()
            }));
        };
        let mut apart = FieldErrors::default();
        for (field, given) in
            [("common_name", self.common_name.is_some()), ("subject", self.subject.is_some())]
        {
            if given {
                apart.push(field, "stands in the certificate request, if there is one");
            }
        }
        apart.finish()?;
        let names = named.then_some(names);
        Ok(RoleQuestion::Sign(SignWrite { csr_pem, names, ttl, ..SignWrite::default() }))
    }
}

/// `POST /v1/pki/roles/{name}/test`.
pub(in crate::routes) async fn test(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: TestBody = request.json().await?;
    Reply::ok(&request.app().vault.pki(&ctx).test_role(request.param("name")?, body.parse()?).await?)
}
