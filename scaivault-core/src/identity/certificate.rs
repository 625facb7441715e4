use std::{collections::HashMap, fmt};

use aws_lc_rs::digest;
use scaivault_pki::PeerNames;
use subtle::ConstantTimeEq as _;

use super::token::refuse;
use crate::{Caller, IdentityType, Result, TenantId, limits};

/// The certificate that the other end of a connection showed, and whose key it has.
///
/// Whoever makes one answers for that: the chain was verified, and the handshake proved possession of the key.
#[derive(Clone)]
pub struct ClientCertificate {
    thumbprint: [u8; 32],
    /// `None` if they cannot be read.
    names: Option<PeerNames>,
}

impl ClientCertificate {
    /// Takes the certificate in DER.
    #[must_use]
    pub fn new(der: &[u8]) -> Self {
        Self { thumbprint: sha256(der), names: PeerNames::read(der) }
    }

    /// Whether a token that is bound to `thumbprint` (the SHA-256 of a certificate's DER, RFC 8705 section 3.1) may be
    /// used with this one. Takes the same time whatever differs.
    pub(super) fn is(&self, thumbprint: &[u8; 32]) -> bool {
        self.thumbprint.ct_eq(thumbprint).into()
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({})", hex::encode(self.thumbprint))
    }
}

fn sha256(der: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    hash
}

/// Which service account a client certificate stands for, by its alternative names.
///
/// One line each: `uri:spiffe://acme.example/billing tnt_acme sa:billing` or `dns:billing.acme.example tnt_acme
/// sa:billing`; lines that are empty or begin with `#` say nothing. A URI has to be the same byte for byte, a DNS name in
/// whatever case; neither has wildcards, here or in the certificate.
#[derive(Clone, Default)]
pub struct ClientIdentities(HashMap<San, Account>);

#[derive(Clone, PartialEq, Eq, Hash)]
enum San {
    Uri(String),
    Dns(String),
}

#[derive(Clone, PartialEq, Eq)]
struct Account {
    tenant: TenantId,
    id: String,
}

impl ClientIdentities {
    /// Reads the lines, at most [`limits::CLIENT_IDENTITIES`] of them that say something.
    ///
    /// # Errors
    /// Which line is wrong and why, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut all = HashMap::new();
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (san, account) = read(line).map_err(|reason| format!("line {number} {reason}"))?;
            if all.insert(san, account).is_some() {
                return Err(format!("line {number} names what an earlier line names"));
            }
            if all.len() > limits::CLIENT_IDENTITIES {
                return Err(format!("has more than {} lines", limits::CLIENT_IDENTITIES));
            }
        }
        Ok(Self(all))
    }

    /// Refuses a caller who is not the one that the certificate of his connection stands for. Nothing is asked of one
    /// that stands for nobody.
    ///
    /// # Errors
    /// [`Code::TokenInvalid`](crate::Code::TokenInvalid) if the certificate stands for another account or for several, or cannot be read, or
    /// if the token is not bound to it.
    pub fn check(&self, certificate: Option<&ClientCertificate>, caller: &Caller) -> Result<()> {
        let Some(certificate) = certificate.filter(|_| !self.0.is_empty()) else { return Ok(()) };
        let names = certificate.names.as_ref();
        let names = names.ok_or_else(|| refuse("the names in the client certificate cannot be read"))?;
        let dns = names.dns.iter().map(|name| San::Dns(name.to_ascii_lowercase()));
        let uris = names.uris.iter().map(|name| San::Uri(name.clone()));
        let mut stands_for: Option<&Account> = None;
        for account in dns.chain(uris).filter_map(|san| self.0.get(&san)) {
            if stands_for.is_some_and(|other| other != account) {
                return Err(refuse("the client certificate stands for several accounts"));
            }
            stands_for = Some(account);
        }
        let Some(account) = stands_for else { return Ok(()) };
        let is_he = caller.identity_type() == IdentityType::ServiceAccount
            && caller.identity_id() == account.id
            && *caller.tenant_id() == account.tenant;
        if !is_he {
            return Err(refuse("the client certificate stands for somebody else"));
        }
        match caller.certificate() {
            Some(thumbprint) if certificate.is(thumbprint) => Ok(()),
            _ => Err(refuse("it is not bound to the client certificate")),
        }
    }
}

impl fmt::Debug for ClientIdentities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientIdentities({})", self.0.len())
    }
}

fn read(line: &str) -> Result<(San, Account), String> {
    let mut words = line.split_whitespace();
    let (Some(san), Some(tenant), Some(id), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("must be NAME TENANT ACCOUNT".into());
    };
    let graphic = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let san = match san.split_once(':') {
        Some(("uri", uri)) if graphic(uri) && uri.contains(':') => San::Uri(uri.to_owned()),
        Some(("dns", name)) if is_host_name(name) => San::Dns(name.to_ascii_lowercase()),
        _ => return Err("must begin with uri: and a URI, or dns: and a host name without wildcards".into()),
    };
    let tenant = TenantId::parse(tenant).map_err(|_| "names no tenant in its second place")?;
    let is_account = id.starts_with("sa:") && Caller::service_account(id, tenant.clone()).is_ok();
    if !is_account {
        return Err("must end with a service account such as sa:billing".into());
    }
    Ok((san, Account { tenant, id: id.to_owned() }))
}

fn is_host_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;
    use crate::Code;

    fn certificate(uris: &[&str], dns: &[&str]) -> ClientCertificate {
        let mut params = CertificateParams::default();
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let dns = dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names = uris.chain(dns).collect();
        ClientCertificate::new(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    fn account(id: &str, tenant: &str) -> Caller {
        Caller::service_account(id, TenantId::parse(tenant).unwrap()).unwrap()
    }

    const LINES: &str = "
        # who may come
        uri:spiffe://acme.example/billing tnt_acme sa:billing
        dns:Billing.acme.example          tnt_acme sa:billing
        dns:web.acme.example              tnt_acme sa:web
    ";

    #[test]
    fn a_certificate_stands_for_the_account_of_its_names_and_for_no_other() {
        let all = ClientIdentities::parse(LINES).unwrap();
        let code = |certificate: &ClientCertificate, caller: Caller, bound: bool| {
            let caller = caller.with_certificate(bound.then_some(certificate.thumbprint));
            all.check(Some(certificate), &caller).map_err(|error| error.code())
        };
        for certificate in [
            certificate(&["spiffe://acme.example/billing"], &[]),
            certificate(&[], &["billing.ACME.example"]),
            certificate(&["spiffe://acme.example/billing"], &["billing.acme.example", "other.example"]),
        ] {
            assert_eq!(code(&certificate, account("sa:billing", "tnt_acme"), true), Ok(()));
            for (caller, bound) in [
                (account("sa:billing", "tnt_acme"), false),
                (account("sa:billing", "tnt_other"), true),
                (account("sa:web", "tnt_acme"), true),
                (Caller::user("sa:billing", TenantId::parse("tnt_acme").unwrap()).unwrap(), true),
            ] {
                assert_eq!(code(&certificate, caller, bound), Err(Code::TokenInvalid));
            }
        }
        let both = certificate(&["spiffe://acme.example/billing"], &["web.acme.example"]);
        assert_eq!(code(&both, account("sa:billing", "tnt_acme"), true), Err(Code::TokenInvalid));
        for nobody in [
            certificate(&["SPIFFE://acme.example/billing", "spiffe://acme.example/billing/"], &[]),
            certificate(&[], &["*.acme.example", "billing.acme.example.", "xbilling.acme.example"]),
            certificate(&["dns:billing.acme.example"], &[]),
        ] {
            assert_eq!(code(&nobody, account("sa:anybody", "tnt_acme"), false), Ok(()));
        }
        let unreadable = ClientCertificate::new(b"not a certificate");
        assert_eq!(code(&unreadable, account("sa:billing", "tnt_acme"), true), Err(Code::TokenInvalid));
        assert_eq!(
            ClientIdentities::default().check(Some(&unreadable), &account("sa:x", "t")).ok(),
            Some(())
        );
        assert!(all.check(None, &account("sa:billing", "tnt_acme")).is_ok());
    }

    #[test]
    fn lines_that_mean_nothing_are_refused_by_their_number() {
        for (bad, why) in [
            ("uri:spiffe://a/b tnt_a", "line 1 must be NAME TENANT ACCOUNT"),
            ("uri:spiffe://a/b tnt_a sa:b more", "line 1 must be NAME TENANT ACCOUNT"),
            ("\nspiffe://a/b tnt_a sa:b", "line 2 must begin with uri:"),
            ("uri:nothing tnt_a sa:b", "line 1 must begin with uri:"),
            ("dns:*.a.example tnt_a sa:b", "line 1 must begin with uri:"),
            ("dns:a..example tnt_a sa:b", "line 1 must begin with uri:"),
            ("dns:a.example tnt_a user:b", "line 1 must end with a service account"),
            ("dns:a.example tnt_a sa:*", "line 1 must end with a service account"),
            ("dns:a.example t\u{e9} sa:b", "line 1 names no tenant"),
            ("dns:a.example tnt_a sa:b\ndns:A.example tnt_a sa:b", "line 2 names what an earlier line names"),
        ] {
            let reason = ClientIdentities::parse(bad).unwrap_err();
            assert!(reason.starts_with(why), "{bad:?}: {reason}");
        }
    }
}
