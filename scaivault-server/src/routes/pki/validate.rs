use scaivault_core::{
    Error, Result,
    pki::{RevocationCheck, ValidateWrite},
};
use serde::Deserialize;

use super::{
    super::{Caller, Request, wire},
    anchors::purpose,
};
use crate::http::Reply;

#[derive(Debug, Deserialize)]
struct ValidateBody {
    certificate_pem: String,
    #[serde(default)]
    chain_pem: Vec<String>,
    hostname: Option<String>,
    ip: Option<String>,
    email: Option<String>,
    purpose: Option<String>,
    at: Option<String>,
    check_revocation: Option<bool>,
    revocation: Option<String>,
    #[serde(default)]
    crl_pem: Vec<String>,
    #[serde(default)]
    ocsp_base64: Vec<String>,
}

/// `POST /v1/pki/certificates/validate`.
pub(in crate::routes) async fn validate(mut request: Request, ctx: Caller) -> Result<Reply> {
    let body: ValidateBody = request.json().await?;
    let write = ValidateWrite {
        purpose: purpose(body.purpose.as_deref())?.unwrap_or_default(),
        at: body.at.map(|text| wire::time_field("at", &text)).transpose()?,
        revocation: revocation(body.check_revocation, body.revocation.as_deref())?,
        certificate_pem: body.certificate_pem,
        chain_pem: body.chain_pem,
        hostname: body.hostname,
        ip: body.ip,
        email: body.email,
        crl_pem: body.crl_pem,
        ocsp_base64: body.ocsp_base64,
    };
    Reply::ok(&request.app().vault.pki(&ctx).validate_certificate(write).await?)
}

fn revocation(check: Option<bool>, mode: Option<&str>) -> Result<RevocationCheck> {
    let mode = match mode {
        None if check == Some(false) => return Ok(RevocationCheck::None),
        None => return Ok(RevocationCheck::default()),
        Some("none") => RevocationCheck::None,
        Some("prefer") => RevocationCheck::Prefer,
        Some("require") => RevocationCheck::Require,
        Some(_) => return Err(Error::field("revocation", "must be one of require, prefer, none")),
    };
    match check {
        Some(check) if check == (mode == RevocationCheck::None) => {
            Err(Error::field("revocation", "contradicts check_revocation"))
        }
        _ => Ok(mode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_goes_with_the_switch_or_is_refused() {
        for (check, mode, expected) in [
            (None, None, RevocationCheck::Prefer),
            (Some(true), None, RevocationCheck::Prefer),
            (Some(false), None, RevocationCheck::None),
            (Some(false), Some("none"), RevocationCheck::None),
            (Some(true), Some("require"), RevocationCheck::Require),
            (None, Some("prefer"), RevocationCheck::Prefer),
        ] {
            assert_eq!(revocation(check, mode).unwrap(), expected, "{check:?} {mode:?}");
        }
        for (check, mode) in [(Some(true), "none"), (Some(false), "require"), (None, "")] {
            assert!(revocation(check, Some(mode)).is_err(), "{check:?} {mode:?}");
        }
    }
}
