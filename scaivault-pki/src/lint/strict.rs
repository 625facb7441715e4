//! Whether bytes are DER of the very types of RFC 5280: every tag, every length, every default left out.

use const_oid::{
    AssociatedOid as _,
    db::{rfc5280::ID_CE_ISSUING_DISTRIBUTION_POINT, rfc6960::ID_PKIX_OCSP_NOCHECK},
};
use der::{
    Decode, Encode, Tag, Tagged as _,
    asn1::{AnyRef, GeneralizedTime, Null},
};
use x509_cert::{
    certificate::TbsCertificate,
    crl::{RevokedCert, TbsCertList},
    ext::{
        Extension,
        pkix::{
            AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies,
            CrlDistributionPoints, CrlNumber, CrlReason, ExtendedKeyUsage, KeyUsage, NameConstraints,
            SubjectAltName, SubjectKeyIdentifier,
            crl::{BaseCrlNumber, FreshestCrl, dp::IssuingDistributionPoint},
        },
    },
};

use crate::crl::EXPIRED_CERTS_ON_CRL;

pub(super) fn is_certificate(bytes: &[u8]) -> bool {
    round_trips::<TbsCertificate>(bytes)
        .is_some_and(|tbs| tbs.extensions().is_some_and(|all| all.iter().all(is_extension)))
}

/// Whether it is a list without entries.
pub(super) fn is_list(bytes: &[u8]) -> bool {
    round_trips::<TbsCertList>(bytes).is_some_and(|tbs| {
        tbs.revoked_certificates.is_none() && tbs.crl_extensions.iter().flatten().all(is_extension)
    })
}

/// Whether it is an entry of a list.
pub(super) fn is_entry(bytes: &[u8]) -> bool {
    round_trips::<RevokedCert>(bytes)
        .is_some_and(|entry| entry.crl_entry_extensions.iter().flatten().all(is_extension))
}

/// Whether it is a SEQUENCE, of whatever.
pub(super) fn is_sequence(bytes: &[u8]) -> bool {
    AnyRef::from_der(bytes).is_ok_and(|any| any.tag() == Tag::Sequence)
}

fn is_extension(extension: &Extension) -> bool {
    let value = extension.extn_value.as_bytes();
    match extension.extn_id {
        AuthorityInfoAccessSyntax::OID => round_trips::<AuthorityInfoAccessSyntax>(value).is_some(),
        AuthorityKeyIdentifier::OID => round_trips::<AuthorityKeyIdentifier>(value).is_some(),
        BasicConstraints::OID => round_trips::<BasicConstraints>(value).is_some(),
        CertificatePolicies::OID => round_trips::<CertificatePolicies>(value).is_some(),
        NameConstraints::OID => round_trips::<NameConstraints>(value).is_some(),
        CrlDistributionPoints::OID => round_trips::<CrlDistributionPoints>(value).is_some(),
        CrlNumber::OID => round_trips::<CrlNumber>(value).is_some(),
        CrlReason::OID => round_trips::<CrlReason>(value).is_some(),
        ExtendedKeyUsage::OID => round_trips::<ExtendedKeyUsage>(value).is_some(),
        KeyUsage::OID => round_trips::<KeyUsage>(value).is_some(),
        SubjectAltName::OID => round_trips::<SubjectAltName>(value).is_some(),
        SubjectKeyIdentifier::OID => round_trips::<SubjectKeyIdentifier>(value).is_some(),
        BaseCrlNumber::OID => round_trips::<BaseCrlNumber>(value).is_some(),
        FreshestCrl::OID => round_trips::<FreshestCrl>(value).is_some(),
        ID_CE_ISSUING_DISTRIBUTION_POINT => round_trips::<IssuingDistributionPoint>(value).is_some(),
        EXPIRED_CERTS_ON_CRL => round_trips::<GeneralizedTime>(value).is_some(),
        ID_PKIX_OCSP_NOCHECK => round_trips::<Null>(value).is_some(),
        _ => false,
    }
}

/// What is read must be written again as it was.
fn round_trips<T: for<'a> Decode<'a> + Encode>(bytes: &[u8]) -> Option<T> {
    let value = T::from_der(bytes).ok()?;
    (value.to_der().ok()? == bytes).then_some(value)
}
