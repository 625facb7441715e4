use std::fmt;

use http::{HeaderValue, StatusCode, header};
use scaivault_core::{
    Code, Error, Result,
    pki::{CaImport, PrivateKeyPem, PublicCrl},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::super::{Caller, Request, wire};
use crate::http::{Reply, query::Limit};

/// `GET /v1/pki/ca`.
pub(in crate::routes) async fn list(request: Request, ctx: Caller) -> Result<Reply> {
    let query: wire::PageQuery = request.query()?;
    let page = request.app().vault.pki(&ctx).cas(query.limit.map(Limit::get), query.cursor).await?;
    Reply::ok(&wire::envelope("cas", page)?)
}

/// `POST /v1/pki/ca`.
pub(in crate::routes) async fn create(mut request: Request, ctx: Caller) -> Result<Reply> {
    let write = request.json().await?;
    Reply::created(&request.app().vault.pki(&ctx).create_ca(write).await?)
}

/// A CA that was made elsewhere.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    name: String,
    certificate_pem: String,
    #[serde(default)]
    private_key_pem: Option<KeyText>,
    #[serde(default)]
    key_provider: Option<String>,
    #[serde(default)]
    key_ref: Option<String>,
    #[serde(default)]
    chain_pem: Vec<String>,
    #[serde(default)]
    crl_number: Option<u64>,
    #[serde(default)]
    crl_shards: Option<u32>,
    #[serde(default)]
    delta_crls: bool,
    #[serde(default)]
    keep_expired_on_crl: bool,
    crl_pem: Option<String>,
}

/// A JSON string as it was sent, in memory that is wiped: a parser of strings would leave pieces behind.
struct KeyText(Zeroizing<String>);

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw: Box<str> = Box::<RawValue>::deserialize(from)?.into();
        Ok(Self(Zeroizing::new(String::from(raw))))
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(..)")
    }
}

impl KeyText {
    /// The text that the string stands for; PEM needs no character beyond ASCII.
    fn read(&self) -> Result<PrivateKeyPem> {
        let bad = || Error::field("private_key_pem", "must be a string of PEM text");
        let quoted = self.0.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(bad)?;
        let mut text = Zeroizing::new(String::with_capacity(quoted.len()));
        let mut characters = quoted.chars();
        while let Some(c) = characters.next() {
            text.push(match (c, if c == '\\' { characters.next() } else { None }) {
                ('\\', Some('n')) => '\n',
                ('\\', Some('r')) => '\r',
                ('\\', Some('t')) => '\t',
                ('\\', Some('/')) => '/',
                ('\\', Some('u')) => escaped(&mut characters).ok_or_else(bad)?,
                ('\\', _) => return Err(bad()),
                (c, _) if c.is_ascii() => c,
                _ => return Err(bad()),
            });
        }
        Ok(PrivateKeyPem::new(text))
    }
}

/// The ASCII character that four hexadecimal digits name.
fn escaped(characters: &mut std::str::Chars<'_>) -> Option<char> {
    let mut number = 0;
    for _ in 0..4 {
        number = number * 16 + characters.next()?.to_digit(16)?;
    }
    char::from_u32(number).filter(char::is_ascii)
}

/// `POST /v1/pki/ca/import`.
pub(in crate::routes) async fn import(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: ImportBody = request.json().await?;
    let write = CaImport {
        name: body.name,
        certificate_pem: body.certificate_pem,
        private_key_pem: body.private_key_pem.as_ref().map(KeyText::read).transpose()?,
        key_provider: body.key_provider,
        key_ref: body.key_ref,
        chain_pem: body.chain_pem,
        crl_number: body.crl_number.unwrap_or_default(),
        crl_shards: body.crl_shards,
        delta_crls: body.delta_crls,
        keep_expired_on_crl: body.keep_expired_on_crl,
        crl_pem: body.crl_pem,
    };
    Reply::created(&request.app().vault.pki(&ctx).import_ca(write).await?)
}

/// `POST /v1/pki/ca/{id}/certificates`: what an imported CA had issued before.
pub(in crate::routes) async fn register(mut request: Request, ctx: Caller) -> Result<Reply> {
    let write = request.json().await?;
    Reply::ok(&request.app().vault.pki(&ctx).register_certificates(request.param("id")?, write).await?)
}

/// `GET /v1/pki/ca/{id}/csr`: JSON, or the request as PEM if there is one.
pub(in crate::routes) async fn csr(request: Request, ctx: Caller) -> Result<Reply> {
    let csr = request.app().vault.pki(&ctx).ca_csr(request.param("id")?).await?;
    match csr.csr_pem {
        Some(pem) if wire::wants_pem(request.head().headers()) => {
            Ok(Reply::raw(StatusCode::OK, wire::PEM, pem.into_bytes()))
        }
        _ => Reply::ok(&csr),
    }
}

/// `POST /v1/pki/ca/{id}/certificate`: the certificate that somebody outside has signed.
pub(in crate::routes) async fn install(mut request: Request, ctx: Caller) -> Result<Reply> {
    let write = request.json().await?;
    Reply::ok(&request.app().vault.pki(&ctx).install_ca(request.param("id")?, write).await?)
}

/// `POST /v1/pki/ca/{id}/cross-sign`.
pub(in crate::routes) async fn cross_sign(mut request: Request, ctx: Caller) -> Result<Reply> {
    let write = request.json().await?;
    Reply::created(&request.app().vault.pki(&ctx).cross_sign(request.param("id")?, write).await?)
}

/// `POST /v1/pki/ca/{id}/rekey`.
pub(in crate::routes) async fn rekey(mut request: Request, ctx: Caller) -> Result<Reply> {
    let write = request.json().await?;
    Reply::created(&request.app().vault.pki(&ctx).rekey_ca(request.param("id")?, write).await?)
}

/// `POST /v1/pki/ca/{id}/default`.
pub(in crate::routes) async fn make_default(mut request: Request, ctx: Caller) -> Result<Reply> {
    let wire::Nothing {} = request.json_or_default().await?;
    Reply::ok(&request.app().vault.pki(&ctx).make_default(request.param("id")?).await?)
}

/// `GET /v1/pki/ca/{id}`.
pub(in crate::routes) async fn read(request: Request, ctx: Caller) -> Result<Reply> {
    Reply::ok(&request.app().vault.pki(&ctx).ca(request.param("id")?).await?)
}

/// `DELETE /v1/pki/ca/{id}`: gives up a CA that waits for its certificate.
pub(in crate::routes) async fn delete(request: Request, ctx: Caller) -> Result<Reply> {
    request.app().vault.pki(&ctx).delete_ca(request.param("id")?).await?;
    Ok(Reply::no_content())
}

/// `GET /v1/pki/ca/{id}/certificate`: JSON, or the certificate and its chain as PEM.
pub(in crate::routes) async fn certificate(request: Request, ctx: Caller) -> Result<Reply> {
    let certificate = request.app().vault.pki(&ctx).ca_certificate(request.param("id")?).await?;
    if wire::wants_pem(request.head().headers()) {
        let pem = certificate.certificate_pem + &certificate.chain_pem;
        return Ok(Reply::raw(StatusCode::OK, wire::PEM, pem.into_bytes()));
    }
    Reply::ok(&certificate)
}

/// `GET /v1/pki/ca/{id}/crl`: DER, or PEM. Needs no token.
pub(in crate::routes) async fn crl(request: Request) -> Result<Reply> {
    let crl = request.app().vault.public_pki().crl(request.param("id")?).await?;
    published(&request, crl)
}

/// `GET /v1/pki/ca/{id}/crl/{shard}`: the same for one shard, or as `…/crl/delta` what changed since the complete list.
pub(in crate::routes) async fn crl_of_shard(request: Request) -> Result<Reply> {
    let (pki, id) = (request.app().vault.public_pki(), request.param("id")?);
    let crl = match request.param("shard")? {
        "delta" => pki.delta_crl(id, None).await?,
        shard => pki.crl_of_shard(id, number(shard)?).await?,
    };
    published(&request, crl)
}

/// `GET /v1/pki/ca/{id}/crl/{shard}/delta`.
pub(in crate::routes) async fn delta_of_shard(request: Request) -> Result<Reply> {
    let shard = number(request.param("shard")?)?;
    let crl = request.app().vault.public_pki().delta_crl(request.param("id")?, Some(shard)).await?;
    published(&request, crl)
}

/// A shard as its list's URL spells it, and not otherwise.
fn number(shard: &str) -> Result<u8> {
    let number = shard.parse().ok().filter(|number: &u8| number.to_string() == shard);
    number.ok_or_else(|| Error::new(Code::CaNotFound, "There is no such list."))
}

fn published(request: &Request, crl: PublicCrl) -> Result<Reply> {
    let reply = if wire::wants_pem(request.head().headers()) {
        Reply::raw(StatusCode::OK, wire::PEM, crl.pem().into_bytes())
    } else {
        Reply::raw(StatusCode::OK, "application/pkix-crl", crl.der)
    };
    // Short, so that a list that was built out of turn is soon everywhere.
    Ok(reply
        .header(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"))
        .header(header::VARY, HeaderValue::from_static("accept")))
}

/// `POST /v1/pki/ca/{id}/crl`: builds the list now.
pub(in crate::routes) async fn build_crl(mut request: Request, ctx: Caller) -> Result<Reply> {
    let wire::Nothing {} = request.json_or_default().await?;
    Reply::ok(&request.app().vault.pki(&ctx).build_crl(request.param("id")?).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<String> {
        let text: KeyText = serde_json::from_str(json).unwrap();
        assert_eq!(format!("{text:?}"), "KeyText(..)");
        text.read().map(|key| key.expose().to_owned())
    }

    #[test]
    fn the_text_of_a_key_is_what_its_string_stands_for() {
        for json in [r#""-----BEGIN X-----\nA+/=\r\n""#, r#""-----BEGIN X-----\u000aA+\/=\u000D\u000A""#] {
            assert_eq!(read(json).unwrap(), "-----BEGIN X-----\nA+/=\r\n", "{json}");
        }
        for json in [r#""\u00e9""#, r#""\b""#, r#""é""#, "1", "null", "{}", r#"["a"]"#] {
            let error = read(json).unwrap_err();
            assert!(error.details().fields.contains_key("private_key_pem"), "{json}");
        }
    }
}
