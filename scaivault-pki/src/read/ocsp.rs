//! OCSP answers of others (RFC 6960, 4.2).

use const_oid::db::{rfc5912, rfc6960};
use time::OffsetDateTime;

use super::{
    asn1::{
        ENUMERATED, GENERALIZED_TIME, INTEGER, Malformed, OCTET_STRING, Reader, Result, SEQUENCE,
        constructed, context, generalized_time,
    },
    certificate::Certificate,
    dn::Dn,
    extensions::distinct_extensions,
    signature::Signed,
};

/// The longest answer that is read, in octets of DER.
const MAX_ANSWER: usize = 1 << 20;
/// The most statuses of one answer, and certificates beside it.
const MAX_STATUSES: usize = 1024;
const MAX_CERTIFICATES: usize = 16;

/// A basic answer.
pub(crate) struct Answer<'a> {
    pub(crate) signed: Signed<'a>,
    pub(crate) responder: Responder,
    pub(crate) produced_at: OffsetDateTime,
    pub(crate) statuses: Vec<Single>,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) certificates: Vec<Certificate>,
}

pub(crate) enum Responder {
    Name(Dn),
    /// SHA-1 of its key.
    KeyHash(Vec<u8>),
}

/// What is said of one certificate.
pub(crate) struct Single {
    pub(crate) hash: Option<CertHash>,
    pub(crate) name_hash: Vec<u8>,
    pub(crate) key_hash: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) status: Status,
    pub(crate) this_update: OffsetDateTime,
    pub(crate) next_update: Option<OffsetDateTime>,
}

/// The hash that a `CertID` is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertHash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Good,
    Revoked { at: OffsetDateTime, reason: u8 },
    Unknown,
}

impl<'a> Answer<'a> {
    /// Reads an `OCSPResponse`; an answer that is an error is one here too.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self> {
        if der.len() > MAX_ANSWER {
            return Err(Malformed("an answer longer than 1 MiB"));
        }
        let mut response = Reader::new(Reader::only(der, SEQUENCE)?);
        match response.expect(ENUMERATED)? {
            [0] => {}
            [1] => return Err(Malformed("the responder says malformedRequest")),
            [2] => return Err(Malformed("the responder says internalError")),
            [3] => return Err(Malformed("the responder says tryLater")),
            [5] => return Err(Malformed("the responder says sigRequired")),
            [6] => return Err(Malformed("the responder says unauthorized")),
            _ => return Err(Malformed("the responder says what nobody knows")),
        }
        let mut body = Reader::new(Reader::only(response.expect(constructed(0))?, SEQUENCE)?);
        response.end()?;
        if !body.oid()?.is(rfc6960::ID_PKIX_OCSP_BASIC) {
            return Err(Malformed("an answer of a type other than basic"));
        }
        let basic = body.expect(OCTET_STRING)?;
        body.end()?;
        let mut basic = Reader::new(Reader::only(basic, SEQUENCE)?);
        let (data, signed) = Signed::read(&mut basic)?;
        let certificates = match basic.optional(constructed(0))? {
            Some(content) => certificates(Reader::only(content, SEQUENCE)?)?,
            None => Vec::new(),
        };
        basic.end()?;
        Self::read_data(Reader::only(data, SEQUENCE)?, signed, certificates)
    }

    fn read_data(data: &[u8], signed: Signed<'a>, certificates: Vec<Certificate>) -> Result<Self> {
        let mut data = Reader::new(data);
        if let Some(version) = data.optional(constructed(0))?
            && Reader::only(version, INTEGER)? != [0]
        {
            return Err(Malformed("an answer of another version"));
        }
        let element = data.next()?;
        let responder = match element.tag {
            tag if tag == constructed(1) => Responder::Name(Dn::parse(element.content)?),
            tag if tag == constructed(2) => {
                Responder::KeyHash(Reader::only(element.content, OCTET_STRING)?.to_vec())
            }
            _ => return Err(Malformed("a responder of no known kind")),
        };
        let produced_at = generalized_time(data.expect(GENERALIZED_TIME)?)?;
        let mut list = data.sequence()?;
        let mut statuses = Vec::new();
        while !list.is_empty() {
            if statuses.len() == MAX_STATUSES {
                return Err(Malformed("more than 1024 statuses"));
            }
            statuses.push(Single::read(list.sequence()?)?);
        }
        let mut nonce = None;
        if let Some(content) = data.optional(constructed(1))? {
            for extension in distinct_extensions(Reader::only(content, SEQUENCE)?)? {
                if extension.oid.is(rfc6960::ID_PKIX_OCSP_NONCE) {
                    if nonce.replace(Reader::only(extension.value, OCTET_STRING)?.to_vec()).is_some() {
                        return Err(Malformed("two nonces"));
                    }
                } else if extension.critical {
                    return Err(Malformed("an unknown critical extension"));
                }
            }
        }
        data.end()?;
        Ok(Self { signed, responder, produced_at, statuses, nonce, certificates })
    }
}

fn certificates(list: &[u8]) -> Result<Vec<Certificate>> {
    let mut reader = Reader::new(list);
    let mut found = Vec::new();
    while !reader.is_empty() {
        if found.len() == MAX_CERTIFICATES {
            return Err(Malformed("more than 16 certificates"));
        }
        let certificate = Certificate::from_der(reader.next()?.raw);
        found.push(certificate.map_err(|_| Malformed("a certificate that cannot be read"))?);
    }
    Ok(found)
}

impl Single {
    fn read(mut reader: Reader<'_>) -> Result<Self> {
        let mut id = reader.sequence()?;
        let hash = {
            let mut algorithm = id.sequence()?;
            let oid = algorithm.oid()?;
            [
                (rfc5912::ID_SHA_1, CertHash::Sha1),
                (rfc5912::ID_SHA_256, CertHash::Sha256),
                (rfc5912::ID_SHA_384, CertHash::Sha384),
                (rfc5912::ID_SHA_512, CertHash::Sha512),
            ]
            .iter()
            .find(|(known, _)| oid.is(*known))
            .map(|(_, hash)| *hash)
        };
        let (name_hash, key_hash) = (id.expect(OCTET_STRING)?.to_vec(), id.expect(OCTET_STRING)?.to_vec());
        let serial = id.integer()?.to_vec();
        id.end()?;
        let status = status(&mut reader)?;
        let this_update = generalized_time(reader.expect(GENERALIZED_TIME)?)?;
        let next_update = match reader.optional(constructed(0))? {
            Some(content) => Some(generalized_time(Reader::only(content, GENERALIZED_TIME)?)?),
            None => None,
        };
        if let Some(content) = reader.optional(constructed(1))?
            && distinct_extensions(Reader::only(content, SEQUENCE)?)?
                .iter()
                .any(|extension| extension.critical)
        {
            return Err(Malformed("an unknown critical extension"));
        }
        reader.end()?;
        Ok(Self { hash, name_hash, key_hash, serial, status, this_update, next_update })
    }
}

fn status(reader: &mut Reader<'_>) -> Result<Status> {
    let element = reader.next()?;
    match element.tag {
        tag if tag == context(0) => Ok(Status::Good),
        tag if tag == context(2) => Ok(Status::Unknown),
        tag if tag == constructed(1) => {
            let mut info = Reader::new(element.content);
            let at = generalized_time(info.expect(GENERALIZED_TIME)?)?;
            let reason = match info.optional(constructed(0))? {
                Some(content) => match Reader::only(content, ENUMERATED)? {
                    [code] => *code,
                    _ => return Err(Malformed("an unknown reason")),
                },
                None => 0,
            };
            info.end()?;
            Ok(Status::Revoked { at, reason })
        }
        _ => Err(Malformed("a status of no known kind")),
    }
}
