//! What a certificate is going to say, and its encoding (RFC 5280, 4.1).

use std::net::IpAddr;

use const_oid::{
    AssociatedOid, ObjectIdentifier,
    db::{rfc5280, rfc5912, rfc6960},
};
use der::{
    Any, Decode as _, Encode, Sequence, Tag,
    asn1::{Ia5String, Null, OctetString},
};
use scaivault_kms::KeySpec;
use time::OffsetDateTime;
use x509_cert::{
    ext::{
        Extension,
        pkix::{
            AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies,
            CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
            SubjectKeyIdentifier,
            certpolicy::PolicyInformation,
            crl::dp::DistributionPoint,
            name::{DistributionPointName, GeneralName},
        },
    },
    time::Validity,
};

use crate::{
    Issuer, PkiError, Serial,
    constraints::Limits,
    key::{KeyKind, PublicKey, algorithm},
    name::DnsName,
    time::x509_time,
};

/// Everything that a certificate is going to say. The encoder below writes it, and the lint reads it again
/// from what was written.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) serial: &'a Serial,
    /// A DER `Name`.
    pub(crate) subject: &'a [u8],
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    /// The subject's key, byte for byte, and read.
    pub(crate) spki: &'a [u8],
    pub(crate) public_key: &'a PublicKey,
    pub(crate) usage: Usage<'a>,
    /// Who signs; `None` if the subject does.
    pub(crate) authority: Option<&'a Issuer>,
}

/// What the certificate is for.
#[derive(Debug)]
pub(crate) enum Usage<'a> {
    Ca {
        max_path_length: Option<u8>,
        limits: Option<&'a Limits>,
        policies: &'a [ObjectIdentifier],
    },
    Leaf {
        dns_names: &'a [DnsName],
        ip_addresses: &'a [IpAddr],
        emails: &'a [String],
        uris: &'a [String],
        purposes: &'a [ObjectIdentifier],
    },
    /// Signing OCSP answers for the issuer (RFC 6960, 4.2.2.2), and nothing else.
    Responder,
}

impl Draft<'_> {
    /// The issuer's DER `Name`.
    pub(crate) fn issuer(&self) -> &[u8] {
        self.authority.map_or(self.subject, Issuer::name_der)
    }

    /// The key that signs.
    pub(crate) fn signer(&self) -> &PublicKey {
        self.authority.map_or(self.public_key, Issuer::public_key)
    }

    pub(crate) fn signer_spec(&self) -> Result<KeySpec, PkiError> {
        self.signer().kind.spec().ok_or_else(|| PkiError::invalid("key", "does not sign certificates here"))
    }

    /// The DER `TBSCertificate`.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, PkiError> {
        let (_, _, algorithm) = algorithm(self.signer_spec()?)?;
        let tbs = Tbs {
            version: 2,
            serial: integer(self.serial)?,
            algorithm,
            issuer: verbatim("the issuer", self.issuer())?,
            validity: Validity::new(x509_time(self.not_before)?, x509_time(self.not_after)?),
            subject: verbatim("the subject", self.subject)?,
            public_key: verbatim("the public key", self.spki)?,
            extensions: self.extensions().map_err(PkiError::encoding("an extension"))?,
        };
        tbs.to_der().map_err(PkiError::encoding("the certificate"))
    }

    fn extensions(&self) -> der::Result<Vec<Extension>> {
        let mut all = Vec::with_capacity(8);
        all.push(extension(true, &self.basic_constraints())?);
        all.push(extension(true, &KeyUsage(self.key_usages()))?);
        if let Usage::Ca { limits, policies, .. } = self.usage {
            if let Some(limits) = limits {
                all.push(extension(true, &limits.encode()?)?);
            }
            if !policies.is_empty() {
                all.push(extension(false, &certificate_policies(policies))?);
            }
        }
        if let Usage::Leaf { dns_names, ip_addresses, emails, uris, purposes } = self.usage {
            all.push(extension(false, &ExtendedKeyUsage(purposes.to_vec()))?);
            // RFC 5280, 4.2.1.6: critical where the subject says nothing.
            let empty_subject = self.subject == EMPTY_NAME;
            all.push(extension(empty_subject, &subject_alt_name(dns_names, ip_addresses, emails, uris)?)?);
        }
        if matches!(self.usage, Usage::Responder) {
            all.push(extension(false, &ExtendedKeyUsage(vec![rfc5280::ID_KP_OCSP_SIGNING]))?);
            all.push(no_check()?);
        }
        all.push(extension(false, &SubjectKeyIdentifier(OctetString::new(self.public_key.key_id())?))?);
        if let Some(authority) = self.authority {
            all.push(extension(false, &authority_key_id(authority)?)?);
            if matches!(self.usage, Usage::Responder) {
                // It lives so short that nobody need ask about it: it says so itself.
                return Ok(all);
            }
            if let Some(url) = &authority.urls().crl_url {
                all.push(extension(false, &crl_distribution_point(url)?)?);
            }
            if let Some(url) = &authority.urls().ocsp_url {
                all.push(extension(false, &ocsp_access(url)?)?);
            }
        }
        Ok(all)
    }

    fn basic_constraints(&self) -> BasicConstraints {
        match self.usage {
            Usage::Ca { max_path_length, .. } => {
                BasicConstraints { ca: true, path_len_constraint: max_path_length }
            }
            Usage::Leaf { .. } | Usage::Responder => {
                BasicConstraints { ca: false, path_len_constraint: None }
            }
        }
    }

    fn key_usages(&self) -> der::flagset::FlagSet<KeyUsages> {
        match (&self.usage, self.public_key.kind) {
            (Usage::Ca { .. }, _) => {
                KeyUsages::DigitalSignature | KeyUsages::KeyCertSign | KeyUsages::CRLSign
            }
            (Usage::Leaf { .. }, KeyKind::Rsa(_)) => KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment,
            (Usage::Leaf { .. } | Usage::Responder, _) => KeyUsages::DigitalSignature.into(),
        }
    }
}

/// The DER `Name` without attributes.
pub(crate) const EMPTY_NAME: &[u8] = &[0x30, 0];

/// `TBSCertificate` with the parts that are copied kept as they are.
#[derive(Sequence)]
struct Tbs {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    serial: Any,
    algorithm: Any,
    issuer: Any,
    validity: Validity,
    subject: Any,
    public_key: Any,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// One DER value that is copied, not written anew.
pub(crate) fn verbatim(what: &'static str, der: &[u8]) -> Result<Any, PkiError> {
    Any::from_der(der).map_err(PkiError::encoding(what))
}

/// A serial number as a DER INTEGER.
pub(crate) fn integer(serial: &Serial) -> Result<Any, PkiError> {
    Any::new(Tag::Integer, serial.as_bytes()).map_err(PkiError::encoding("the serial number"))
}

pub(crate) fn extension<T: AssociatedOid + Encode>(critical: bool, value: &T) -> der::Result<Extension> {
    Ok(Extension { extn_id: T::OID, critical, extn_value: OctetString::new(value.to_der()?)? })
}

/// The key identifier alone (RFC 5280, 4.2.1.1).
pub(crate) fn authority_key_id(issuer: &Issuer) -> der::Result<AuthorityKeyIdentifier> {
    let key_identifier = Some(OctetString::new(issuer.key_id())?);
    Ok(AuthorityKeyIdentifier {
        key_identifier,
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    })
}

/// `id-pkix-ocsp-nocheck` (RFC 6960, 4.2.2.2.1).
fn no_check() -> der::Result<Extension> {
    let extn_value = OctetString::new(Null.to_der()?)?;
    Ok(Extension { extn_id: rfc6960::ID_PKIX_OCSP_NOCHECK, critical: false, extn_value })
}

fn subject_alt_name(
    dns_names: &[DnsName],
    ip_addresses: &[IpAddr],
    emails: &[String],
    uris: &[String],
) -> der::Result<SubjectAltName> {
    let dns = dns_names.iter().map(|name| Ok(GeneralName::DnsName(Ia5String::new(name.as_str())?)));
    let ips = ip_addresses.iter().map(|address| {
        let octets = match address {
            IpAddr::V4(v4) => OctetString::new(v4.octets()),
            IpAddr::V6(v6) => OctetString::new(v6.octets()),
        };
        Ok(GeneralName::IpAddress(octets?))
    });
    let emails = emails.iter().map(|email| Ok(GeneralName::Rfc822Name(Ia5String::new(email)?)));
    let uris = uris.iter().map(|uri| Ok(GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?)));
    Ok(SubjectAltName(dns.chain(ips).chain(emails).chain(uris).collect::<der::Result<_>>()?))
}

fn certificate_policies(policies: &[ObjectIdentifier]) -> CertificatePolicies {
    let information = |&policy_identifier| PolicyInformation { policy_identifier, policy_qualifiers: None };
    CertificatePolicies(policies.iter().map(information).collect())
}

fn crl_distribution_point(url: &str) -> der::Result<CrlDistributionPoints> {
    let names = vec![GeneralName::UniformResourceIdentifier(Ia5String::new(url)?)];
    let distribution_point = Some(DistributionPointName::FullName(names));
    Ok(CrlDistributionPoints(vec![DistributionPoint { distribution_point, reasons: None, crl_issuer: None }]))
}

fn ocsp_access(url: &str) -> der::Result<AuthorityInfoAccessSyntax> {
    Ok(AuthorityInfoAccessSyntax(vec![x509_cert::ext::pkix::AccessDescription {
        access_method: rfc5912::ID_AD_OCSP,
        access_location: GeneralName::UniformResourceIdentifier(Ia5String::new(url)?),
    }]))
}
