use scaivault_core::{
    Error, FieldErrors, Result,
    pki::{KeyType, RolePatch, RoleWrite},
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
