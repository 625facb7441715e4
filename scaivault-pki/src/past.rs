//! What a CA did before it came here: the last list that it published, and certificates that it issued.

use std::{collections::HashSet, net::IpAddr};

use time::OffsetDateTime;

use crate::{
    Certificate, CrlEntry, Issued, PkiError, RevocationReason, Serial,
    adopt::common_name,
    issue::issued,
    read::{
        asn1::Malformed,
        crl::{Crl, NO_NUMBER, NOT_V2},
        general::GeneralName,
        signature::SignatureFault,
        weak::Weakness,
    },
};

/// The field of the list.
const LIST: &str = "crl_pem";
/// The field of the certificates.
const CERTIFICATES: &str = "certificates_pem";

/// The last list that a CA published elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastList {
    /// Its number, if it has one.
    pub number: Option<u64>,
    /// What was revoked, in its order.
    pub entries: Vec<CrlEntry>,
}

impl PastList {
    /// Reads a list in DER that has to be by the key and name of `ca`, and about everything that this CA revoked. Lists of
    /// version 1, without a number, past their end or signed with SHA-1 are taken. A date that is after `now` becomes `now`.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] naming `crl_pem`: for what is no list, or one of another CA; for a delta, an indirect list and
    /// one of several (RFC 5280, 5.2.4 and 5.2.5); for an unknown critical extension; for a serial number that is there
    /// twice, is not positive or longer than 20 octets; for a reason that there is not.
    pub fn read(der: &[u8], ca: &Certificate, now: OffsetDateTime) -> Result<Self, PkiError> {
        let bad = |message: String| PkiError::Invalid { field: LIST, message };
        let malformed = |Malformed(why): Malformed| bad(format!("is not a revocation list in DER: {why}"));
        let list = Crl::parse(der).map_err(malformed)?;
        if list.issuer != ca.parts().subject {
            return Err(bad("is a list of another CA".to_owned()));
        }
        if list.base.is_some() {
            return Err(bad("is a delta; the complete list is wanted".to_owned()));
        }
        if !list.scope.raw.is_empty() {
            let message =
                "is about a part of what was revoked (issuingDistributionPoint); the complete list is wanted";
            return Err(bad(message.to_owned()));
        }
        if let Some(fault) = list.faults.iter().find(|fault| ![NOT_V2, NO_NUMBER].contains(&fault.as_str())) {
            return Err(bad(fault.clone()));
        }
        let by_ca = ca.key().is_ok_and(|key| list.signed.verify_old(key).is_ok());
        if !by_ca {
            return Err(bad("is not signed by the key of the CA".to_owned()));
        }
        let number = match list.number.as_deref() {
            Some(digits) if digits.len() > 8 => {
                return Err(bad("has a number of more than 64 bits".to_owned()));
            }
            digits => digits.map(|digits| digits.iter().fold(0, |all, digit| all << 8 | u64::from(*digit))),
        };
        let (mut seen, mut entries) = (HashSet::new(), Vec::new());
        for entry in list.own_entries() {
            let (octets, entry) = entry.map_err(malformed)?;
            let serial = positive(octets).ok_or_else(|| {
                bad("has an entry whose serial number is not positive, or longer than 20 octets".to_owned())
            })?;
            let reason = RevocationReason::of_code(entry.reason)
                .ok_or_else(|| bad(format!("has the unknown reason {} for {serial}", entry.reason)))?;
            if !seen.insert(octets) {
                return Err(bad(format!("has {serial} twice")));
            }
            let revoked_at = entry.at.min(now).max(OffsetDateTime::UNIX_EPOCH);
            entries.push(CrlEntry { serial, revoked_at, reason });
        }
        Ok(Self { number, entries })
    }
}

/// A certificate that a CA issued elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastCertificate {
    /// The certificate as it came, and what to remember of it.
    pub issued: Issued,
    /// Its common name, if it has one.
    pub common_name: Option<String>,
    /// Its alternative names but addresses: DNS names, mailboxes and URIs.
    pub alt_names: Vec<String>,
    /// The addresses among its alternative names.
    pub ip_sans: Vec<String>,
    /// Why nobody should rely on it, in stable words; empty for most.
    pub weak: Vec<Weak>,
}

/// Why nobody should rely on a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weak {
    /// Its key gives no security: RSA with fewer than 2048 bits, or a key that anybody can factor or forge with.
    Key,
    /// Its key is of a kind that cannot be judged here, such as DSA or a curve that is not P-256, P-384 or P-521.
    UnjudgedKey,
    /// It is signed with SHA-1.
    Sha1Signature,
}

impl Weak {
    /// Every one.
    pub const ALL: &[Self] = &[Self::Key, Self::UnjudgedKey, Self::Sha1Signature];

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "weak_key",
            Self::UnjudgedKey => "unjudged_key",
            Self::Sha1Signature => "sha1_signature",
        }
    }
}

impl PastCertificate {
    /// Takes a certificate that `ca` has issued: under its name, and by its key, also with SHA-1. What else it says may
    /// break rules.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] naming `certificates_pem` if `ca` has not issued it, or its serial number is not positive or
    /// longer than 20 octets.
    pub fn read(certificate: &Certificate, ca: &Certificate) -> Result<Self, PkiError> {
        let bad = |message: &str| PkiError::invalid(CERTIFICATES, message);
        let parts = certificate.parts();
        if !certificate.names_as_issuer(ca) {
            return Err(bad("names another issuer"));
        }
        let key = ca.key().map_err(|_| bad("cannot be verified: the key of the CA cannot"))?;
        let sha1 = match parts.signed.verify_old(key) {
            Ok(sha1) => sha1,
            Err(SignatureFault::Bad) => return Err(bad("is not signed by the key of the CA")),
            Err(SignatureFault::Weak(name)) => {
                return Err(PkiError::invalid(
                    CERTIFICATES,
                    format!("is signed by {name}, which is not verified"),
                ));
            }
            Err(SignatureFault::Unsupported(why)) => {
                return Err(PkiError::invalid(CERTIFICATES, format!("cannot be verified: {why}")));
            }
        };
        let serial = positive(&parts.serial)
            .ok_or_else(|| bad("has a serial number that is not positive, or longer than 20 octets"))?;
        let life = (certificate.not_before(), certificate.not_after());
        let mut weak = Vec::new();
        weak.extend(certificate.key().err().map(|weakness| match weakness {
            Weakness::Weak(_) => Weak::Key,
            Weakness::Malformed(_) | Weakness::Unsupported(_) => Weak::UnjudgedKey,
        }));
        weak.extend(sha1.then_some(Weak::Sha1Signature));
        let (mut alt_names, mut ip_sans) = (Vec::new(), Vec::new());
        for name in parts.extensions.names.iter().flatten() {
            match name {
                GeneralName::Dns(text) | GeneralName::Email(text) | GeneralName::Uri(text) => {
                    alt_names.extend(printable(text));
                }
                GeneralName::Ip(octets) => ip_sans.extend(address(octets)),
                _ => {}
            }
        }
        Ok(Self {
            common_name: common_name(parts.subject.raw()).as_deref().and_then(printable),
            alt_names,
            ip_sans,
            weak,
            issued: issued(certificate.der().to_vec(), serial, life, &parts.spki),
        })
    }
}

/// A serial number, from the content of its INTEGER.
fn positive(octets: &[u8]) -> Option<Serial> {
    let positive = octets.first().is_some_and(|first| first & 0x80 == 0);
    Serial::from_bytes(octets).ok().filter(|_| positive)
}

/// A name that can be shown and looked for.
fn printable(text: &str) -> Option<String> {
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn address(octets: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
    address.ok().map(|address| address.to_string())
}
