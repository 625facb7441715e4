//! The ASN.1 of RFC 6960, 4: no crate of this generation of `der` has it. Field names are those of use, not of the RFC.

use const_oid::ObjectIdentifier;
use der::{
    Any, Choice, Enumerated, Sequence,
    asn1::{BitString, GeneralizedTime, Int, Null, OctetString},
};
use x509_cert::ext::Extension;

use crate::key::Algorithm;

#[derive(Clone, Copy, Debug, Default, Enumerated, Eq, PartialEq)]
#[asn1(type = "INTEGER")]
#[repr(u8)]
pub(super) enum Version {
    #[default]
    V1 = 0,
}

#[derive(Sequence)]
pub(super) struct Request {
    pub(super) tbs: TbsRequest,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub(super) signature: Option<Signature>,
}

#[derive(Sequence)]
pub(super) struct TbsRequest {
    #[asn1(context_specific = "0", default = "Default::default", tag_mode = "EXPLICIT")]
    pub(super) version: Version,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub(super) requestor: Option<Any>,
    pub(super) requests: Vec<SingleRequest>,
    #[asn1(context_specific = "2", optional = "true", tag_mode = "EXPLICIT")]
    pub(super) extensions: Option<Vec<Extension>>,
}

#[derive(Sequence)]
pub(super) struct SingleRequest {
    /// A [`CertId`], kept as it came, since the answer repeats it.
    pub(super) cert_id: Any,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub(super) extensions: Option<Vec<Extension>>,
}

#[derive(Sequence)]
pub(super) struct CertId {
    pub(super) algorithm: Algorithm,
    pub(super) name_hash: OctetString,
    pub(super) key_hash: OctetString,
    pub(super) serial: Int,
}

#[derive(Sequence)]
pub(super) struct Signature {
    pub(super) algorithm: Algorithm,
    pub(super) signature: BitString,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub(super) certificates: Option<Vec<Any>>,
}

#[derive(Sequence)]
pub(super) struct Response {
    pub(super) status: Status,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub(super) body: Option<ResponseBytes>,
}

#[derive(Clone, Copy, Debug, Enumerated, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Status {
    Successful = 0,
    MalformedRequest = 1,
    InternalError = 2,
    TryLater = 3,
    Unauthorized = 6,
}

#[derive(Sequence)]
pub(super) struct ResponseBytes {
    pub(super) kind: ObjectIdentifier,
    pub(super) response: OctetString,
}

#[derive(Sequence)]
pub(super) struct ResponseData {
    #[asn1(context_specific = "0", default = "Default::default", tag_mode = "EXPLICIT")]
    pub(super) version: Version,
    pub(super) responder: ResponderId,
    pub(super) produced_at: GeneralizedTime,
    pub(super) responses: Vec<SingleResponse>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub(super) extensions: Option<Vec<Extension>>,
}

#[derive(Choice)]
pub(super) enum ResponderId {
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", constructed = "true")]
    ByKey(OctetString),
}

#[derive(Sequence)]
pub(super) struct SingleResponse {
    /// A [`CertId`], as it came.
    pub(super) cert_id: Any,
    pub(super) status: CertStatus,
    pub(super) this_update: GeneralizedTime,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub(super) next_update: Option<GeneralizedTime>,
}

#[derive(Choice)]
pub(super) enum CertStatus {
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    Good(Null),
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true")]
    Revoked(RevokedInfo),
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT")]
    Unknown(Null),
}

#[derive(Sequence)]
pub(super) struct RevokedInfo {
    pub(super) at: GeneralizedTime,
    /// An ENUMERATED `CRLReason`.
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub(super) reason: Option<Any>,
}
