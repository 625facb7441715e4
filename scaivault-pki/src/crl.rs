//! Certificate revocation lists (RFC 5280, 5).

use const_oid::AssociatedOid as _;
use der::{Any, Encode as _, Sequence, Tag, asn1::OctetString};
use scaivault_kms::SigningKey;
use time::OffsetDateTime;
use x509_cert::{
    ext::{
        Extension,
        pkix::{CrlNumber, CrlReason},
    },
    time::Time,
};

use crate::{
    Issuer, PkiError, RevocationReason, Serial,
    key::algorithm,
    lint::{LintedTbs, ListDraft},
    sign::sign,
    tbs::{authority_key_id, extension, integer, verbatim},
    time::{whole_second, x509_time},
};

/// The most entries of one list: about 40 MB of DER.
const MAX_ENTRIES: usize = 1_000_000;

/// One revoked certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlEntry {
    /// Its serial number.
    pub serial: Serial,
    /// Since when; the fraction of the second is cut off.
    pub revoked_at: OffsetDateTime,
    /// Why; `unspecified` is not written.
    pub reason: RevocationReason,
}

/// Makes a full list of version 2 in DER, signed by the CA that issued what is on it. `number` must grow from list
/// to list (RFC 5280, 5.2.3). Times are cut to whole seconds; entries keep their order. A long list keeps the
/// thread busy: give it one where that does no harm.
///
/// # Errors
/// [`PkiError::Invalid`] if there are more than a million entries, `next_update` is not after `this_update`,
/// the issuer's certificate is not for signing lists, or `issuer_key` is not its key; [`PkiError::Lint`] if a
/// serial is there twice; [`PkiError::Kms`] if the key cannot sign.
pub async fn build_crl(
    issuer: &Issuer,
    issuer_key: &dyn SigningKey,
    number: u64,
    this_update: OffsetDateTime,
    next_update: OffsetDateTime,
    entries: impl Iterator<Item = CrlEntry> + Send,
) -> Result<Vec<u8>, PkiError> {
    let entries: Vec<CrlEntry> = entries.take(MAX_ENTRIES + 1).collect();
    if entries.len() > MAX_ENTRIES {
        return Err(PkiError::invalid("entries", "must be at most a million"));
    }
    let (this_update, next_update) = (whole_second(this_update), whole_second(next_update));
    if next_update <= this_update {
        return Err(PkiError::invalid("next_update", "must be later than this_update"));
    }
    if !issuer.signs_crls() {
        return Err(PkiError::invalid(
            "issuer",
            "has a certificate that is not for signing revocation lists",
        ));
    }
    let list = ListDraft { issuer, number, this_update, next_update, entries };
    sign(LintedTbs::crl(encode(&list)?, &list)?, issuer_key).await
}

/// `TBSCertList` (RFC 5280, 5.1.2).
#[derive(Sequence)]
struct TbsList {
    version: u8,
    algorithm: Any,
    issuer: Any,
    this_update: Time,
    next_update: Time,
    #[asn1(optional = "true")]
    revoked: Option<Vec<Revoked>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

#[derive(Sequence)]
struct Revoked {
    serial: Any,
    date: Time,
    #[asn1(optional = "true")]
    extensions: Option<Vec<Extension>>,
}

pub(crate) fn encode(list: &ListDraft<'_>) -> Result<Vec<u8>, PkiError> {
    let (_, _, algorithm) = algorithm(list.issuer.spec())?;
    let revoked = list.entries.iter().map(revoked).collect::<Result<Vec<_>, _>>()?;
    let tbs = TbsList {
        version: 1,
        algorithm,
        issuer: verbatim("the issuer", list.issuer.name_der())?,
        this_update: x509_time(list.this_update)?,
        next_update: x509_time(list.next_update)?,
        // RFC 5280, 5.1.2.6: absent, not empty, where nothing is revoked.
        revoked: (!revoked.is_empty()).then_some(revoked),
        extensions: extensions(list).map_err(PkiError::encoding("an extension"))?,
    };
    tbs.to_der().map_err(PkiError::encoding("the revocation list"))
}

fn extensions(list: &ListDraft<'_>) -> der::Result<Vec<Extension>> {
    Ok(vec![
        extension(false, &authority_key_id(list.issuer)?)?,
        extension(false, &CrlNumber::try_from(list.number)?)?,
    ])
}

fn revoked(entry: &CrlEntry) -> Result<Revoked, PkiError> {
    let extensions = entry.reason.encoded().map(|code| Ok(vec![reason_extension(code)?])).transpose();
    Ok(Revoked {
        serial: integer(&entry.serial)?,
        date: x509_time(entry.revoked_at)?,
        extensions: extensions.map_err(PkiError::encoding("a revocation reason"))?,
    })
}

fn reason_extension(code: u8) -> der::Result<Extension> {
    let value = Any::new(Tag::Enumerated, [code])?.to_der()?;
    Ok(Extension { extn_id: CrlReason::OID, critical: false, extn_value: OctetString::new(value)? })
}
