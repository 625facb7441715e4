use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::digest::{SHA256, digest};
use time::OffsetDateTime;

use super::{
    asn1::{INTEGER, Malformed, Reader, Result, SEQUENCE, constructed, context, count, named_bits},
    dn::Dn,
    extensions::Extensions,
    signature::{self, Signed},
    weak::Weakness,
};
use crate::PkiError;

/// The longest certificate that is read, in octets of DER.
const MAX_CERTIFICATE: usize = 1 << 20;

/// A certificate that was read: of any shape that is X.509, good or bad. [`validate`](crate::validate()) says which.
/// Clones share one copy.
#[derive(Clone)]
pub struct Certificate(Arc<Parsed>);

pub(crate) struct Parsed {
    pub(crate) der: Vec<u8>,
    pub(crate) version: u32,
    pub(crate) serial: Vec<u8>,
    pub(crate) issuer: Dn,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) subject: Dn,
    /// The whole `SubjectPublicKeyInfo`.
    pub(crate) spki: Vec<u8>,
    pub(crate) signed: Signed<'static>,
    pub(crate) extensions: Extensions,
    /// Rules of its own syntax that it breaks; a path with it is refused.
    pub(crate) faults: Vec<String>,
    key: OnceLock<std::result::Result<signature::Key, Weakness>>,
}

impl Certificate {
    /// Reads one certificate in DER. What is in it may break rules; what is not a certificate at all is refused.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] naming `certificate` if it is longer than 1 MiB, or not a certificate.
    pub fn from_der(der: &[u8]) -> std::result::Result<Self, PkiError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(PkiError::invalid("certificate", "must have at most 1 MiB"));
        }
        match parse(der) {
            Ok(parsed) => Ok(Self(Arc::new(parsed))),
            Err(Malformed(why)) => {
                Err(PkiError::invalid("certificate", format!("is not a certificate in DER: {why}")))
            }
        }
    }

    /// Its DER, as it came.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// Its subject, for people (RFC 4514); empty if it has none.
    #[must_use]
    pub fn subject(&self) -> String {
        self.0.subject.to_text()
    }

    /// Its issuer, for people.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.0.issuer.to_text()
    }

    /// Its serial number as `1A:2B`. Others issue negative and overlong ones: these are the octets of the INTEGER.
    #[must_use]
    pub fn serial_number(&self) -> String {
        let octets: Vec<_> = self.serial_magnitude().iter().map(|byte| format!("{byte:02X}")).collect();
        octets.join(":")
    }

    fn serial_magnitude(&self) -> &[u8] {
        match self.0.serial.as_slice() {
            [0, rest @ ..] if !rest.is_empty() => rest,
            octets => octets,
        }
    }

    /// The first second of its life.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.0.not_before
    }

    /// The last second of its life.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.0.not_after
    }

    /// SHA-256 of its DER.
    #[must_use]
    pub fn fingerprint_sha256(&self) -> [u8; 32] {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, self.der()).as_ref());
        fingerprint
    }

    /// Its public key, a DER `SubjectPublicKeyInfo`, as it came.
    #[must_use]
    pub fn public_key_spki(&self) -> &[u8] {
        &self.0.spki
    }

    /// Whether its basic constraints say that it is a CA.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.0.extensions.basic.is_some_and(|basic| basic.ca)
    }

    /// Whether subject and issuer are the same name (RFC 5280, 6.1); its key may be another one.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.0.subject == self.0.issuer
    }

    pub(crate) fn parts(&self) -> &Parsed {
        &self.0
    }

    /// Its public key, if it is one that signatures are accepted from.
    pub(crate) fn key(&self) -> std::result::Result<&signature::Key, &Weakness> {
        self.0.key.get_or_init(|| signature::Key::parse(&self.0.spki)).as_ref()
    }

    pub(crate) fn key_usage_allows(&self, bit: u16) -> bool {
        self.0.extensions.key_usage.is_none_or(|usage| usage & bit != 0)
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} by {})", self.subject(), self.issuer())
    }
}

fn parse(der: &[u8]) -> Result<Parsed> {
    let mut faults = Vec::new();
    let (tbs, signed) = Signed::parse(der)?;
    let mut tbs = Reader::new(Reader::only(tbs, SEQUENCE)?);
    let version = match tbs.optional(constructed(0))? {
        Some(content) => count(Reader::only(content, INTEGER)?)?,
        None => 0,
    };
    if version > 2 {
        return Err(Malformed("a version above 3"));
    }
    let serial = tbs.integer()?.to_vec();
    let inner = tbs.next()?;
    if inner.raw != &*signed.algorithm {
        faults.push("names two signature algorithms that differ".to_owned());
    }
    let issuer = Dn::parse(tbs.next()?.raw)?;
    let mut validity = tbs.sequence()?;
    let (not_before, not_after) = (validity.time()?, validity.time()?);
    validity.end()?;
    let subject = Dn::parse(tbs.next()?.raw)?;
    let spki = tbs.next()?.raw.to_vec();
    Reader::only(&spki, SEQUENCE)?;
    for number in [1, 2] {
        if let Some(content) = tbs.optional(context(number))? {
            unique_id(content)?;
            if version == 0 {
                faults.push("is of version 1 and has a unique identifier".to_owned());
            }
        }
    }
    let extensions = match tbs.optional(constructed(3))? {
        Some(content) => {
            let list = Reader::only(content, SEQUENCE)?;
            if version != 2 {
                faults.push("has extensions and is not of version 3".to_owned());
            }
            if list.is_empty() {
                faults.push("has an empty list of extensions".to_owned());
            }
            Extensions::parse(list)?
        }
        None => Extensions::default(),
    };
    tbs.end()?;
    if issuer.is_empty() {
        faults.push("has no issuer name".to_owned());
    }
    faults.extend(extensions.faults.iter().cloned());
    Ok(Parsed {
        der: der.to_vec(),
        version,
        serial,
        issuer,
        not_before,
        not_after,
        subject,
        spki,
        signed: signed.into_owned(),
        extensions,
        faults,
        key: OnceLock::new(),
    })
}

/// A BIT STRING of any length; what it says has no use any more.
fn unique_id(content: &[u8]) -> Result<()> {
    let tail = content.get(content.len().saturating_sub(2)..).unwrap_or_default();
    match (content, tail) {
        ([unused], _) => named_bits(&[*unused]).map(drop),
        ([unused, _, ..], [.., last]) => named_bits(&[*unused, *last]).map(drop),
        _ => Err(Malformed("a malformed unique identifier")),
    }
}
