//! Certificate revocation lists (RFC 5280, 5).

use const_oid::{
    AssociatedOid as _, ObjectIdentifier,
    db::rfc5280::ID_CE_ISSUING_DISTRIBUTION_POINT as ISSUING_DISTRIBUTION_POINT,
};
use der::{
    Any, Encode as _, ErrorKind, Header, Length, Sequence, Tag, TagMode, TagNumber,
    asn1::{ContextSpecific, Ia5String, OctetString, Uint},
};
use scaivault_kms::SigningKey;
use time::OffsetDateTime;
use x509_cert::{
    ext::{
        Extension,
        pkix::{
            CrlNumber, CrlReason,
            crl::{
                BaseCrlNumber, FreshestCrl,
                dp::{DistributionPoint, IssuingDistributionPoint},
            },
            name::{DistributionPointName, GeneralName},
        },
    },
    time::Time,
};

use crate::{
    Issuer, PkiError, RevocationReason, Serial,
    ca::check_url,
    key::algorithm,
    lint::{LintedTbs, ListDraft},
    read::crl::Crl,
    sign::{sequence, sign},
    tbs::{authority_key_id, extension, integer},
    time::{generalized_time, whole_second, x509_time},
};

/// The most entries of one list: the encoder knows no lengths above 256 MiB, and an entry has up to 53 octets.
const MAX_ENTRIES: usize = 5_000_000;

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

/// What a list is about, if not about all that its issuer revoked, for all who ask. By default it is that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrlScope {
    /// The list is one of several: it has the certificates alone that name this URL as their distribution point, byte for
    /// byte (RFC 5280, 5.2.5; critical).
    pub distribution_point: Option<String>,
    /// The list has what changed since the complete list of that number and the same distribution point (RFC 5280,
    /// 5.2.4; critical).
    pub delta_base: Option<u64>,
    /// Certificates that were on hold on that complete list and are not any more, and since when: `removeFromCRL`. For a
    /// delta alone.
    pub released: Vec<(Serial, OffsetDateTime)>,
    /// Where deltas of this complete list are (RFC 5280, 5.2.6).
    pub freshest: Option<String>,
    /// Certificates that expired after this time stay on the list (X.509, `expiredCertsOnCRL`).
    pub expired_since: Option<OffsetDateTime>,
}

/// What stood on a list of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedCrl {
    /// Its number.
    pub number: u64,
    /// Each serial number with its `CRLReason`; 0 if none is given.
    pub entries: Vec<(Serial, u8)>,
}

impl PublishedCrl {
    /// Reads a list in DER. Its signature is not looked at.
    ///
    /// # Errors
    /// [`PkiError::Invalid`] if it is no list with a number of at most 64 bits, or about other issuers' certificates.
    pub fn parse(der: &[u8]) -> Result<Self, PkiError> {
        let bad = || PkiError::invalid("crl", "is not a revocation list");
        let list = Crl::parse(der).map_err(|_| bad())?;
        let digits = list.number.as_deref().ok_or_else(bad)?;
        if digits.len() > 8 || list.scope.indirect {
            return Err(bad());
        }
        let number = digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit));
        let entries = list.own_entries().map(|entry| {
            let (serial, entry) = entry.map_err(|_| bad())?;
            Ok((Serial::from_bytes(serial)?, entry.reason))
        });
        Ok(Self { number, entries: entries.collect::<Result<_, PkiError>>()? })
    }
}

/// Makes a list of version 2 in DER of what is in `scope`; otherwise as [`build_crl`].
///
/// # Errors
/// As [`build_crl`]; [`PkiError::Invalid`] also if a URL is not plain `http://` or `https://` in ASCII, the base of a delta
/// is not before `number`, a list that is no delta releases something, or a delta names deltas of its own.
pub async fn build_crl_of(
    issuer: &Issuer,
    issuer_key: &dyn SigningKey,
    scope: &CrlScope,
    number: u64,
    [this_update, next_update]: [OffsetDateTime; 2],
    entries: impl Iterator<Item = CrlEntry> + Send,
) -> Result<Vec<u8>, PkiError> {
    check_url("distribution_point", scope.distribution_point.as_deref())?;
    check_url("freshest", scope.freshest.as_deref())?;
    match scope.delta_base {
        Some(base) if base >= number => {
            return Err(PkiError::invalid("delta_base", "must be less than the number of the list"));
        }
        Some(_) if scope.freshest.is_some() => {
            return Err(PkiError::invalid("freshest", "is for a list that is no delta"));
        }
        None if !scope.released.is_empty() => {
            return Err(PkiError::invalid("released", "is for a delta alone"));
        }
        _ => {}
    }
    let entries: Vec<CrlEntry> = entries.take(MAX_ENTRIES + 1).collect();
    if entries.len() + scope.released.len() > MAX_ENTRIES {
        return Err(PkiError::invalid("entries", "must be at most five million"));
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
    let list = ListDraft { issuer, scope, number, this_update, next_update, entries };
    sign(LintedTbs::crl(encode(&list)?, &list)?, issuer_key).await
}

/// Makes a full list of version 2 in DER, signed by the CA that issued what is on it. `number` must grow from list
/// to list (RFC 5280, 5.2.3). Times are cut to whole seconds; entries keep their order. A long list keeps the
/// thread busy: give it one where that does no harm.
///
/// # Errors
/// [`PkiError::Invalid`] if there are more than five million entries, `next_update` is not after `this_update`,
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
    let times = [this_update, next_update];
    build_crl_of(issuer, issuer_key, &CrlScope::default(), number, times, entries).await
}

#[derive(Sequence)]
struct Revoked {
    serial: Any,
    date: Time,
    #[asn1(optional = "true")]
    extensions: Option<Vec<Extension>>,
}

/// The `TBSCertList` (RFC 5280, 5.1.2). Entries are written one by one: of millions, nothing but their octets is kept.
pub(crate) fn encode(list: &ListDraft<'_>) -> Result<Vec<u8>, PkiError> {
    let unwritten = || PkiError::encoding("the revocation list");
    let (_, _, algorithm) = algorithm(list.issuer.spec())?;
    let mut before = 1_u8.to_der().map_err(unwritten())?;
    algorithm.encode_to_vec(&mut before).map_err(unwritten())?;
    before.extend_from_slice(list.issuer.name_der());
    for time in [list.this_update, list.next_update] {
        x509_time(time)?.encode_to_vec(&mut before).map_err(unwritten())?;
    }
    let entries = list.entries.iter().map(|entry| (&entry.serial, entry.revoked_at, entry.reason.encoded()));
    let released = list.scope.released.iter().map(|(serial, since)| (serial, *since, Some(REMOVE_FROM_CRL)));
    let mut revoked = Vec::with_capacity((list.entries.len() + list.scope.released.len()) * ENTRY);
    for (serial, date, reason) in entries.chain(released) {
        entry(serial, date, reason)?.encode_to_vec(&mut revoked).map_err(unwritten())?;
    }
    let value = extensions(list).map_err(PkiError::encoding("an extension"))?;
    let extensions = ContextSpecific { tag_number: TagNumber(0), tag_mode: TagMode::Explicit, value };
    let extensions = extensions.to_der().map_err(unwritten())?;
    // RFC 5280, 5.1.2.6: absent, not empty, where nothing is revoked.
    if revoked.is_empty() {
        return sequence(&[&before, &extensions]).map_err(unwritten());
    }
    let length = Length::try_from(revoked.len()).map_err(unwritten())?;
    let head = Header::new(Tag::Sequence, length).to_der().map_err(unwritten())?;
    sequence(&[&before, &head, &revoked, &extensions]).map_err(unwritten())
}

/// The most octets of an entry.
const ENTRY: usize = 53;

fn extensions(list: &ListDraft<'_>) -> der::Result<Vec<Extension>> {
    let mut all = vec![
        extension(false, &authority_key_id(list.issuer)?)?,
        extension(false, &CrlNumber::try_from(list.number)?)?,
    ];
    if let Some(base) = list.scope.delta_base {
        all.push(extension(true, &BaseCrlNumber(Uint::new(&base.to_be_bytes())?))?);
    }
    if let Some(url) = &list.scope.distribution_point {
        let point = IssuingDistributionPoint {
            distribution_point: Some(full_name(url)?),
            only_contains_user_certs: false,
            only_contains_ca_certs: false,
            only_some_reasons: None,
            indirect_crl: false,
            only_contains_attribute_certs: false,
        };
        // The type brings another OID than that of RFC 5280, 5.2.5.
        let extn_value = OctetString::new(point.to_der()?)?;
        all.push(Extension { extn_id: ISSUING_DISTRIBUTION_POINT, critical: true, extn_value });
    }
    if let Some(url) = &list.scope.freshest {
        let distribution_point = Some(full_name(url)?);
        let point = DistributionPoint { distribution_point, reasons: None, crl_issuer: None };
        all.push(extension(false, &FreshestCrl(vec![point]))?);
    }
    if let Some(since) = list.scope.expired_since {
        let since = generalized_time(since).map_err(|_| ErrorKind::DateTime)?.to_der()?;
        let extn_value = OctetString::new(since)?;
        all.push(Extension { extn_id: EXPIRED_CERTS_ON_CRL, critical: false, extn_value });
    }
    Ok(all)
}

/// `id-ce-expiredCertsOnCRL` (X.509, 9.5.2.9).
pub(crate) const EXPIRED_CERTS_ON_CRL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.60");
/// `CRLReason`: it is not revoked any more.
pub(crate) const REMOVE_FROM_CRL: u8 = 8;

fn full_name(url: &str) -> der::Result<DistributionPointName> {
    let names = vec![GeneralName::UniformResourceIdentifier(Ia5String::new(url)?)];
    Ok(DistributionPointName::FullName(names))
}

fn entry(serial: &Serial, date: OffsetDateTime, reason: Option<u8>) -> Result<Revoked, PkiError> {
    let extensions = reason.map(|code| Ok(vec![reason_extension(code)?])).transpose();
    Ok(Revoked {
        serial: integer(serial)?,
        date: x509_time(date)?,
        extensions: extensions.map_err(PkiError::encoding("a revocation reason"))?,
    })
}

fn reason_extension(code: u8) -> der::Result<Extension> {
    let value = Any::new(Tag::Enumerated, [code])?.to_der()?;
    Ok(Extension { extn_id: CrlReason::OID, critical: false, extn_value: OctetString::new(value)? })
}
