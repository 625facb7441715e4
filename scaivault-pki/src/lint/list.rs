use time::OffsetDateTime;
use x509_parser::{
    asn1_rs::{Any, Class, GeneralizedTime, Header, Length, Tag, ToDer as _},
    extensions::{CRLDistributionPoints, DistributionPointName, ParsedExtension},
    prelude::FromDer,
    revocation_list::{RevokedCertificate, TbsCertList},
    x509::{ReasonCode, X509Version},
};

use super::{Findings, ListDraft, certificate::single_url, strict};
use crate::{
    Serial,
    crl::REMOVE_FROM_CRL,
    time::{from_x509, whole_second},
};

/// Reads `bytes` as a `TBSCertList` and compares every field with `list` (RFC 5280, 5.1 and 5.2).
pub(super) fn check(bytes: &[u8], list: &ListDraft<'_>, findings: &mut Findings) {
    let unread = |findings: &mut Findings| {
        findings.require(false, "syntax", "cannot be read as a revocation list");
    };
    let Some((frame, entries)) = split(bytes) else { return unread(findings) };
    let Ok((rest, tbs)) = TbsCertList::from_der(&frame) else { return unread(findings) };
    findings.require(rest.is_empty(), "syntax", "has octets after its end");
    findings.require(strict::is_sequence(bytes) && strict::is_list(&frame), "syntax", "is not in DER");
    findings.same("version", tbs.version, Some(X509Version::V2));
    findings.same("issuer", tbs.issuer.as_raw(), list.issuer.name_der());
    findings.same("this_update", from_x509(tbs.this_update), list.this_update);
    findings.same("next_update", tbs.next_update.map(from_x509), Some(list.next_update));
    findings.require(list.this_update < list.next_update, "next_update", "must be later than this_update");
    super::check_algorithm(&tbs.signature, list.issuer.public_key(), findings);
    check_extensions(&tbs, list, findings);
    let released = list.scope.released.iter().map(|(serial, at)| (serial, *at, Some(REMOVE_FROM_CRL)));
    let planned = list.entries.iter().map(|entry| (&entry.serial, entry.revoked_at, entry.reason.encoded()));
    check_entries(entries, planned.chain(released), findings);
    let released = list.scope.released.iter().map(|(serial, _)| serial);
    let mut serials: Vec<&Serial> = list.entries.iter().map(|entry| &entry.serial).chain(released).collect();
    serials.sort_unstable();
    for pair in serials.windows(2) {
        if let &[one, other] = pair {
            findings.require(one != other, "entries", format!("{one} is there twice"));
        }
    }
}

/// The list without its entries, and these as one element if there are some: of millions nothing is copied.
fn split(bytes: &[u8]) -> Option<(Vec<u8>, Option<&[u8]>)> {
    let (rest, whole) = Any::from_der(bytes).ok()?;
    if !rest.is_empty() || !is_sequence(&whole) {
        return None;
    }
    let (mut content, mut kept, mut entries) = (whole.data, Vec::new(), None);
    for at in 0.. {
        if content.is_empty() {
            break;
        }
        let (after, element) = Any::from_der(content).ok()?;
        let raw = content.get(..content.len() - after.len())?;
        match at == ENTRIES && is_sequence(&element) {
            true => entries = Some(raw),
            false => kept.extend_from_slice(raw),
        }
        content = after;
    }
    let length = Length::Definite(kept.len());
    let mut frame = Header::new(Class::Universal, true, Tag::Sequence, length).to_der_vec().ok()?;
    frame.append(&mut kept);
    Some((frame, entries))
}

/// Where the entries are among the elements of a list of ours.
const ENTRIES: usize = 5;

fn is_sequence(element: &Any<'_>) -> bool {
    element.class() == Class::Universal && element.tag() == Tag::Sequence && element.header.constructed()
}

fn check_entries<'e>(
    entries: Option<&[u8]>,
    mut planned: impl Iterator<Item = (&'e Serial, OffsetDateTime, Option<u8>)>,
    findings: &mut Findings,
) {
    if let Some(entries) = entries {
        findings.require(strict::is_sequence(entries), "syntax", "is not in DER");
        let Ok((_, Any { data: mut rest, .. })) = Any::from_der(entries) else {
            return findings.require(false, "syntax", "has entries that cannot be read");
        };
        findings.require(!rest.is_empty(), "entries", "are none, and there");
        while !rest.is_empty() {
            let Ok((after, read)) = RevokedCertificate::from_der(rest) else {
                return findings.require(false, "syntax", "has an entry that cannot be read");
            };
            let raw = rest.get(..rest.len() - after.len()).unwrap_or_default();
            findings.require(strict::is_entry(raw), "syntax", "has an entry that is not in DER");
            match planned.next() {
                Some(planned) => check_entry(&read, planned, findings),
                None => return findings.require(false, "entries", "are more than planned"),
            }
            rest = after;
        }
    }
    findings.require(planned.next().is_none(), "entries", "are fewer than planned");
}

fn check_extensions(tbs: &TbsCertList<'_>, list: &ListDraft<'_>, findings: &mut Findings) {
    let mut read: Vec<_> = tbs.extensions().iter().map(|e| (e.oid.to_id_string(), e.critical)).collect();
    read.sort();
    let scope = list.scope;
    let mut expected = vec![("2.5.29.20".to_owned(), false), ("2.5.29.35".to_owned(), false)];
    for (there, oid, critical) in [
        (scope.delta_base.is_some(), DELTA_BASE, true),
        (scope.distribution_point.is_some(), "2.5.29.28", true),
        (scope.freshest.is_some(), FRESHEST, false),
        (scope.expired_since.is_some(), EXPIRED_SINCE, false),
    ] {
        if there {
            expected.push((oid.to_owned(), critical));
        }
    }
    expected.sort();
    findings.same("extensions", read, expected);
    for extension in tbs.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                let id = id.key_identifier.as_ref().map(|id| id.0);
                findings.same("authority_key_identifier", id, Some(list.issuer.key_id()));
            }
            ParsedExtension::CRLNumber(number) => {
                findings.same("crl_number", number.to_string(), list.number.to_string());
            }
            ParsedExtension::IssuingDistributionPoint(read) => {
                let others = read.only_contains_user_certs
                    || read.only_contains_ca_certs
                    || read.only_some_reasons.is_some()
                    || read.indirect_crl
                    || read.only_contains_attribute_certs;
                findings.require(!others, "issuing_distribution_point", "is more than a URL");
                let url = match &read.distribution_point {
                    Some(DistributionPointName::FullName(names)) => single_url(names),
                    _ => None,
                };
                findings.same("issuing_distribution_point", url, scope.distribution_point.as_deref());
            }
            _ if extension.oid.to_id_string() == DELTA_BASE => {
                let base = <u64 as FromDer<'_, _>>::from_der(extension.value).ok();
                let base = base.filter(|(rest, _)| rest.is_empty()).map(|(_, base)| base);
                findings.same("delta_base", base, scope.delta_base);
            }
            _ if extension.oid.to_id_string() == FRESHEST => {
                let url = CRLDistributionPoints::from_der(extension.value).ok();
                let url = url.filter(|(rest, _)| rest.is_empty()).and_then(|(_, read)| {
                    let [point] = &read.points[..] else { return None };
                    let alone = point.reasons.is_none() && point.crl_issuer.is_none();
                    match point.distribution_point.as_ref().filter(|_| alone)? {
                        DistributionPointName::FullName(names) => single_url(names).map(str::to_owned),
                        DistributionPointName::NameRelativeToCRLIssuer(_) => None,
                    }
                });
                findings.same("freshest", url, scope.freshest.clone());
            }
            _ if extension.oid.to_id_string() == EXPIRED_SINCE => {
                let time = GeneralizedTime::from_der(extension.value).ok();
                let time =
                    time.filter(|(rest, _)| rest.is_empty()).and_then(|(_, at)| at.utc_datetime().ok());
                findings.same("expired_since", time, scope.expired_since.map(whole_second));
            }
            _ => findings.require(false, "extensions", format!("{} is unknown or malformed", extension.oid)),
        }
    }
}

const DELTA_BASE: &str = "2.5.29.27";
const FRESHEST: &str = "2.5.29.46";
const EXPIRED_SINCE: &str = "2.5.29.60";

fn check_entry(
    read: &RevokedCertificate<'_>,
    (serial, at, reason): (&Serial, OffsetDateTime, Option<u8>),
    findings: &mut Findings,
) {
    findings.same("serial", read.raw_serial(), serial.as_bytes());
    findings.same("revoked_at", from_x509(read.revocation_date), whole_second(at));
    let reason = reason.map(|code| (false, ReasonCode(code)));
    findings.same("reason", read.reason_code(), reason);
    findings.same("entry_extensions", read.extensions().len(), usize::from(reason.is_some()));
}
