use time::OffsetDateTime;
use x509_parser::asn1_rs::{Any, Class, FromDer as _, GeneralizedTime, Tag};

use super::Findings;
use crate::{
    ocsp::{Answer, CertId, CertStatus},
    time::whole_second,
};

/// Reads `bytes` as a `ResponseData` (RFC 6960, 4.2.1) and compares every field with `answer`.
pub(super) fn check(bytes: &[u8], answer: &Answer<'_>, findings: &mut Findings) {
    for (id, status) in answer.request.cert_ids().iter().zip(answer.statuses) {
        let ours = *status == CertStatus::Unknown || id.matches(answer.issuer);
        findings.require(ours, "cert_id", of_another(id));
    }
    if read(bytes, answer, findings).is_none() {
        findings.require(false, "syntax", "cannot be read as an OCSP answer");
    }
}

fn of_another(id: &CertId) -> String {
    match id.serial() {
        Some(serial) => format!("{serial} is of another issuer"),
        None => "a certificate that cannot be is of another issuer".to_owned(),
    }
}

/// `None` if the structure is not the expected one.
fn read(bytes: &[u8], answer: &Answer<'_>, findings: &mut Findings) -> Option<()> {
    let data = Node::one(bytes)?.children()?;
    let (head, extensions) = data.split_at_checked(3)?;
    let [responder, produced_at, responses] = head else { return None };
    // [2] EXPLICIT KeyHash
    let key_hash = answer.signer.sha1();
    findings.same("responder", responder.explicit(2)?.value(Tag::OctetString)?, key_hash.as_slice());
    findings.same("produced_at", produced_at.time()?, answer.produced_at);
    let responses = responses.children()?;
    findings.same("responses", responses.len(), answer.statuses.len());
    let planned = answer.request.cert_ids().iter().zip(answer.statuses);
    for (response, (id, status)) in responses.iter().zip(planned) {
        read_single(response, id, *status, answer, findings)?;
    }
    let nonce = match extensions {
        [] => None,
        [one] => Some(read_nonce(one)?),
        _ => return None,
    };
    findings.same("nonce", nonce.as_deref(), answer.request.nonce());
    Some(())
}

fn read_single(
    response: &Node<'_>,
    id: &CertId,
    status: CertStatus,
    answer: &Answer<'_>,
    findings: &mut Findings,
) -> Option<()> {
    let [read_id, read_status, this_update, next_update] = &response.children()?[..] else { return None };
    findings.same("cert_id", read_id.raw, id.der());
    let (read_tag, revoked) = (read_status.context()?, read_status.content());
    match status {
        CertStatus::Good => findings.same("status", (read_tag, revoked), ((0, false), &[][..])),
        CertStatus::Unknown => findings.same("status", (read_tag, revoked), ((2, false), &[][..])),
        CertStatus::Revoked { at, reason } => {
            findings.same("status", read_tag, (1, true));
            let fields = Node::all(revoked)?;
            let (read_at, read_reason) = fields.split_first()?;
            findings.same("revoked_at", read_at.time()?, whole_second(at));
            let read_reason = match read_reason {
                [] => None,
                [one] => Some(one.explicit(0)?.value(Tag::Enumerated)?.to_vec()),
                _ => return None,
            };
            findings.same("reason", read_reason, reason.encoded().map(|code| vec![code]));
        }
    }
    findings.same("this_update", this_update.time()?, answer.this_update);
    findings.same("next_update", next_update.explicit(0)?.time()?, answer.next_update);
    Some(())
}

fn read_nonce(extensions: &Node<'_>) -> Option<Vec<u8>> {
    let [extension] = &extensions.explicit(1)?.children()?[..] else { return None };
    let [oid, value] = &extension.children()?[..] else { return None };
    // id-pkix-ocsp-nonce, 1.3.6.1.5.5.7.48.1.2
    let is_nonce = oid.value(Tag::Oid)? == [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
    let nonce = Node::one(value.value(Tag::OctetString)?)?;
    is_nonce.then_some(nonce.value(Tag::OctetString)?.to_vec())
}

/// One DER value, with and without its header.
struct Node<'a> {
    raw: &'a [u8],
    any: Any<'a>,
}

impl<'a> Node<'a> {
    /// Every value of a concatenation.
    fn all(mut bytes: &'a [u8]) -> Option<Vec<Self>> {
        let mut nodes = Vec::new();
        while !bytes.is_empty() {
            let (rest, any) = Any::from_der(bytes).ok()?;
            nodes.push(Self { raw: bytes.get(..bytes.len() - rest.len())?, any });
            bytes = rest;
        }
        Some(nodes)
    }

    fn one(bytes: &'a [u8]) -> Option<Self> {
        let mut nodes = Self::all(bytes)?;
        nodes.pop().filter(|_| nodes.is_empty())
    }

    fn content(&self) -> &'a [u8] {
        self.any.data
    }

    /// The content of a value of the universal tag `tag`. In DER nothing but SEQUENCE and SET is constructed.
    fn value(&self, tag: Tag) -> Option<&'a [u8]> {
        let header = &self.any.header;
        let due = header.class() == Class::Universal
            && header.tag() == tag
            && header.is_constructed() == (tag == Tag::Sequence);
        due.then_some(self.content())
    }

    /// The members of a SEQUENCE.
    fn children(&self) -> Option<Vec<Self>> {
        Self::all(self.value(Tag::Sequence)?)
    }

    /// The number of a context-specific tag, and whether it is constructed.
    fn context(&self) -> Option<(u32, bool)> {
        let header = &self.any.header;
        (header.class() == Class::ContextSpecific).then_some((header.tag().0, header.is_constructed()))
    }

    /// What is in an explicit tag.
    fn explicit(&self, number: u32) -> Option<Self> {
        if self.context() == Some((number, true)) { Self::one(self.content()) } else { None }
    }

    fn time(&self) -> Option<OffsetDateTime> {
        self.value(Tag::GeneralizedTime)?;
        let (rest, time) = GeneralizedTime::from_der(self.raw).ok()?;
        time.utc_datetime().ok().filter(|_| rest.is_empty())
    }
}
