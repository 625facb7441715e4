use std::collections::HashSet;

use x509_parser::{
    extensions::ParsedExtension,
    prelude::FromDer as _,
    revocation_list::{RevokedCertificate, TbsCertList},
    x509::{ReasonCode, X509Version},
};

use super::{Findings, ListDraft, strict};
use crate::{
    crl::CrlEntry,
    time::{from_x509, whole_second},
};

/// Reads `bytes` as a `TBSCertList` and compares every field with `list` (RFC 5280, 5.1 and 5.2).
pub(super) fn check(bytes: &[u8], list: &ListDraft<'_>, findings: &mut Findings) {
    let Ok((rest, tbs)) = TbsCertList::from_der(bytes) else {
        findings.require(false, "syntax", "cannot be read as a revocation list");
        return;
    };
    findings.require(rest.is_empty(), "syntax", "has octets after its end");
    findings.require(strict::is_list(bytes), "syntax", "is not in DER");
    findings.same("version", tbs.version, Some(X509Version::V2));
    findings.same("issuer", tbs.issuer.as_raw(), list.issuer.name_der());
    findings.same("this_update", from_x509(tbs.this_update), list.this_update);
    findings.same("next_update", tbs.next_update.map(from_x509), Some(list.next_update));
    findings.require(list.this_update < list.next_update, "next_update", "must be later than this_update");
    super::check_algorithm(&tbs.signature, list.issuer.public_key(), findings);
    check_extensions(&tbs, list, findings);
    findings.same("entries", tbs.revoked_certificates.len(), list.entries.len());
    let mut seen = HashSet::with_capacity(list.entries.len());
    for (read, entry) in tbs.revoked_certificates.iter().zip(&list.entries) {
        if !seen.insert(read.raw_serial()) {
            findings.require(false, "entries", format!("{} is there twice", entry.serial));
        }
        check_entry(read, entry, findings);
    }
}

fn check_extensions(tbs: &TbsCertList<'_>, list: &ListDraft<'_>, findings: &mut Findings) {
    let mut read: Vec<_> = tbs.extensions().iter().map(|e| (e.oid.to_id_string(), e.critical)).collect();
    read.sort();
    let expected = [("2.5.29.20".to_owned(), false), ("2.5.29.35".to_owned(), false)];
    findings.same("extensions", read, expected.to_vec());
    for extension in tbs.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                let id = id.key_identifier.as_ref().map(|id| id.0);
                findings.same("authority_key_identifier", id, Some(list.issuer.key_id()));
            }
            ParsedExtension::CRLNumber(number) => {
                findings.same("crl_number", number.to_string(), list.number.to_string());
            }
            _ => findings.require(false, "extensions", format!("{} is unknown or malformed", extension.oid)),
        }
    }
}

fn check_entry(read: &RevokedCertificate<'_>, entry: &CrlEntry, findings: &mut Findings) {
    findings.same("serial", read.raw_serial(), entry.serial.as_bytes());
    findings.same("revoked_at", from_x509(read.revocation_date), whole_second(entry.revoked_at));
    let reason = entry.reason.encoded().map(|code| (false, ReasonCode(code)));
    findings.same("reason", read.reason_code(), reason);
    findings.same("entry_extensions", read.extensions().len(), usize::from(reason.is_some()));
}
