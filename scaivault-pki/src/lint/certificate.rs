use std::{collections::HashSet, net::IpAddr};

use x509_parser::{
    certificate::TbsCertificate,
    extensions::{
        DistributionPointName, ExtendedKeyUsage, GeneralName, NameConstraints, ParsedExtension, X509Extension,
    },
    prelude::FromDer as _,
    time::ASN1Time,
    x509::X509Version,
};

use super::{Findings, strict};
use crate::{
    Issuer,
    key::KeyKind,
    name::DnsName,
    read::general::{GeneralName as Planned, NameConstraints as Constraints},
    sans::{Email, Uri},
    tbs::{Draft, EMPTY_NAME, Usage},
    time::from_x509,
};

/// Reads `bytes` as a `TBSCertificate` and compares every field with `draft`.
pub(super) fn check(bytes: &[u8], draft: &Draft<'_>, findings: &mut Findings) {
    let Ok((rest, tbs)) = TbsCertificate::from_der(bytes) else {
        findings.require(false, "syntax", "cannot be read as a certificate");
        return;
    };
    findings.require(rest.is_empty(), "syntax", "has octets after its end");
    findings.require(strict::is_certificate(bytes), "syntax", "is not in DER");
    check_head(&tbs, draft, findings);
    check_validity(&tbs, draft, findings);
    check_plan(draft, findings);
    check_extension_set(&tbs, draft, findings);
    for extension in tbs.iter_extensions() {
        check_extension(extension, draft, findings);
    }
}

fn check_head(tbs: &TbsCertificate<'_>, draft: &Draft<'_>, findings: &mut Findings) {
    findings.same("version", tbs.version, X509Version::V3);
    findings.same("serial", tbs.raw_serial(), draft.serial.as_bytes());
    // RFC 5280, 4.1.2.2: positive, 20 octets at most. 64 random bits are the least that public CAs may use.
    let serial = tbs.raw_serial();
    let positive =
        serial.first().is_some_and(|&byte| byte & 0x80 == 0) && serial.iter().any(|&byte| byte != 0);
    findings.require(positive && serial.len() <= 20, "serial", "must be positive and of at most 20 octets");
    findings.require(serial.len() >= 8, "serial", "must have at least 64 bits");
    findings.same("issuer", tbs.issuer.as_raw(), draft.issuer());
    findings.same("subject", tbs.subject.as_raw(), draft.subject);
    findings.same("public_key", tbs.subject_pki.raw, draft.spki);
    findings.require(tbs.issuer_uid.is_none() && tbs.subject_uid.is_none(), "unique_id", "must be absent");
    super::check_algorithm(&tbs.signature, draft.signer(), findings);
}

fn check_validity(tbs: &TbsCertificate<'_>, draft: &Draft<'_>, findings: &mut Findings) {
    let (begin, end) = (tbs.validity.not_before, tbs.validity.not_after);
    findings.same("not_before", from_x509(begin), draft.not_before);
    findings.same("not_after", from_x509(end), draft.not_after);
    findings.require(begin <= end, "validity", "ends before it begins");
    for time in [begin, end] {
        findings.require(has_due_form(time), "validity", "UTCTime through 2049, GeneralizedTime from 2050");
    }
    if let Some(issuer) = draft.authority {
        let within = issuer.not_before() <= from_x509(begin) && from_x509(end) <= issuer.not_after();
        findings.require(within, "validity", "is not within the issuer's");
    }
}

fn has_due_form(time: ASN1Time) -> bool {
    time.is_utctime() == (from_x509(time).year() < 2050)
}

/// What must hold of the plan itself, whatever was written.
fn check_plan(draft: &Draft<'_>, findings: &mut Findings) {
    let strong = !matches!(draft.public_key.kind, KeyKind::Rsa(bits) if bits < 2048);
    findings.require(strong, "public_key", "RSA key is too short");
    match draft.usage {
        Usage::Ca { max_path_length, .. } => {
            findings.require(draft.subject != EMPTY_NAME, "subject", "a CA must have a name");
            let limit = draft.authority.and_then(|issuer| issuer.max_path_length());
            let within = limit.is_none_or(|limit| max_path_length.is_some_and(|own| u32::from(own) < limit));
            findings.require(within, "basic_constraints", "path length must be less than the issuer's");
        }
        Usage::Leaf { dns_names, ip_addresses, emails, uris, purposes } => {
            findings.require(!purposes.is_empty(), "extended_key_usage", "must have a purpose");
            let covered = |issuer: &Issuer| purposes.iter().all(|purpose| issuer.is_for(*purpose));
            findings.require(
                draft.authority.is_none_or(covered),
                "extended_key_usage",
                "is beyond the issuer's",
            );
            let named =
                !dns_names.is_empty() || !ip_addresses.is_empty() || !emails.is_empty() || !uris.is_empty();
            findings.require(named, "subject_alt_name", "must not be empty");
            findings.require(draft.authority.is_some(), "issuer", "a leaf must not sign itself");
        }
        Usage::Responder => {
            findings.require(draft.authority.is_some(), "issuer", "a responder must not sign itself");
            findings.require(draft.subject != EMPTY_NAME, "subject", "a responder must have a name");
        }
    }
}

/// The extensions that there must be, each once and with its criticality, in any order.
fn check_extension_set(tbs: &TbsCertificate<'_>, draft: &Draft<'_>, findings: &mut Findings) {
    let mut expected = vec![("2.5.29.19", true), ("2.5.29.15", true), ("2.5.29.14", false)];
    if matches!(draft.usage, Usage::Leaf { .. }) {
        expected.extend([("2.5.29.37", false), ("2.5.29.17", draft.subject == EMPTY_NAME)]);
    }
    if matches!(draft.usage, Usage::Responder) {
        expected.extend([("2.5.29.37", false), (NO_CHECK, false)]);
    }
    if let Usage::Ca { limits, policies, .. } = draft.usage {
        expected.extend(limits.map(|_| ("2.5.29.30", true)));
        expected.extend((!policies.is_empty()).then_some(("2.5.29.32", false)));
    }
    if draft.authority.is_some() {
        expected.push(("2.5.29.35", false));
    }
    if let Some(issuer) = draft.authority.filter(|_| !matches!(draft.usage, Usage::Responder)) {
        expected.extend(issuer.urls().crl_url.as_ref().map(|_| ("2.5.29.31", false)));
        expected.extend(issuer.urls().ocsp_url.as_ref().map(|_| ("1.3.6.1.5.5.7.1.1", false)));
    }
    let mut expected: Vec<_> =
        expected.into_iter().map(|(oid, critical)| (oid.to_owned(), critical)).collect();
    let mut read: Vec<_> = tbs.iter_extensions().map(|e| (e.oid.to_id_string(), e.critical)).collect();
    expected.sort();
    read.sort();
    findings.same("extensions", read, expected);
}

fn check_extension(extension: &X509Extension<'_>, draft: &Draft<'_>, findings: &mut Findings) {
    let urls = draft.authority.map(|issuer| issuer.urls());
    match extension.parsed_extension() {
        ParsedExtension::BasicConstraints(read) => {
            let planned = match draft.usage {
                Usage::Ca { max_path_length, .. } => (true, max_path_length.map(u32::from)),
                Usage::Leaf { .. } | Usage::Responder => (false, None),
            };
            findings.same("basic_constraints", (read.ca, read.path_len_constraint), planned);
        }
        ParsedExtension::KeyUsage(read) => findings.same("key_usage", read.flags, planned_key_usage(draft)),
        ParsedExtension::ExtendedKeyUsage(read) => {
            let is_leaf = matches!(draft.usage, Usage::Leaf { .. });
            let others = read.any || read.time_stamping || (is_leaf && read.ocsp_signing);
            findings.require(!others, "extended_key_usage", "has a purpose that is never planned");
            let mut planned: Vec<String> = match draft.usage {
                Usage::Leaf { purposes, .. } => purposes.iter().map(ToString::to_string).collect(),
                Usage::Responder => vec![OCSP_SIGNING.to_owned()],
                Usage::Ca { .. } => Vec::new(),
            };
            planned.sort();
            findings.same("extended_key_usage", purposes_of(read), planned);
        }
        ParsedExtension::SubjectAlternativeName(read) => check_names(&read.general_names, draft, findings),
        ParsedExtension::SubjectKeyIdentifier(read) => {
            findings.same("subject_key_identifier", read.0, draft.public_key.key_id().as_slice());
        }
        ParsedExtension::AuthorityKeyIdentifier(read) => {
            let id = read.key_identifier.as_ref().map(|id| id.0);
            findings.same("authority_key_identifier", id, draft.authority.map(|issuer| issuer.key_id()));
            let alone = read.authority_cert_issuer.is_none() && read.authority_cert_serial.is_none();
            findings.require(alone, "authority_key_identifier", "must have a key identifier alone");
        }
        ParsedExtension::NameConstraints(read) => check_constraints(read, extension.value, draft, findings),
        ParsedExtension::CertificatePolicies(read) => {
            let planned: Vec<String> = match draft.usage {
                Usage::Ca { policies, .. } => policies.iter().map(ToString::to_string).collect(),
                _ => Vec::new(),
            };
            let policies = read.iter().map(|policy| policy.policy_id.to_id_string()).collect();
            findings.same("certificate_policies", policies, planned);
            let plain = read.iter().all(|policy| policy.policy_qualifiers.is_none());
            findings.require(plain, "certificate_policies", "must have no qualifiers");
        }
        ParsedExtension::CRLDistributionPoints(read) => {
            let names: Vec<_> = read.points.iter().map(|point| point.distribution_point.as_ref()).collect();
            let url = match names.as_slice() {
                [Some(DistributionPointName::FullName(names))] => single_url(names),
                _ => None,
            };
            findings.same("crl_distribution_points", url, urls.and_then(|urls| urls.crl_url.as_deref()));
        }
        ParsedExtension::AuthorityInfoAccess(read) => {
            let url = match read.accessdescs.as_slice() {
                [one] if one.access_method.to_id_string() == "1.3.6.1.5.5.7.48.1" => {
                    single_url(std::slice::from_ref(&one.access_location))
                }
                _ => None,
            };
            findings.same("authority_info_access", url, urls.and_then(|urls| urls.ocsp_url.as_deref()));
        }
        _ if extension.oid.to_id_string() == NO_CHECK => {
            findings.same("no_check", extension.value, &[5, 0][..]);
        }
        _ => findings.require(false, "extensions", format!("{} is unknown or malformed", extension.oid)),
    }
}

/// Name constraints have to say what was planned, and to be such as the validator understands.
fn check_constraints(read: &NameConstraints<'_>, value: &[u8], draft: &Draft<'_>, findings: &mut Findings) {
    let rule = "name_constraints";
    let Usage::Ca { limits: Some(limits), .. } = draft.usage else {
        return findings.require(false, rule, "were not planned");
    };
    let lists = [(&read.permitted_subtrees, &limits.permitted), (&read.excluded_subtrees, &limits.excluded)];
    for (read, planned) in lists {
        let read = read.iter().flatten().map(|subtree| subtree_of(&subtree.base)).collect::<Vec<_>>();
        findings.same(rule, read, planned.iter().map(subtree_planned).collect());
    }
    findings.require(Constraints::parse(value).is_ok(), rule, "are such as nobody can apply");
}

/// A number for the kind of name, and its octets.
fn subtree_of<'a>(name: &'a GeneralName<'_>) -> (u8, &'a [u8]) {
    match name {
        GeneralName::RFC822Name(text) => (1, text.as_bytes()),
        GeneralName::DNSName(text) => (2, text.as_bytes()),
        GeneralName::DirectoryName(name) => (4, name.as_raw()),
        GeneralName::URI(text) => (6, text.as_bytes()),
        GeneralName::IPAddress(octets) => (7, octets),
        _ => (u8::MAX, &[]),
    }
}

fn subtree_planned(name: &Planned) -> (u8, &[u8]) {
    match name {
        Planned::Email(text) => (1, text.as_bytes()),
        Planned::Dns(text) => (2, text.as_bytes()),
        Planned::Directory(name) => (4, name.raw()),
        Planned::Uri(text) => (6, text.as_bytes()),
        Planned::Ip(octets) => (7, octets),
        _ => (u8::MAX - 1, &[]),
    }
}

/// The purposes that were read, by their numbers in RFC 5280, 4.2.1.12, in order.
fn purposes_of(read: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (read.server_auth, "1.3.6.1.5.5.7.3.1"),
        (read.client_auth, "1.3.6.1.5.5.7.3.2"),
        (read.code_signing, "1.3.6.1.5.5.7.3.3"),
        (read.email_protection, "1.3.6.1.5.5.7.3.4"),
        (read.ocsp_signing, OCSP_SIGNING),
    ];
    let known = known.into_iter().filter(|(there, _)| *there).map(|(_, oid)| oid.to_owned());
    let mut all: Vec<_> = known.chain(read.other.iter().map(|oid| oid.to_id_string())).collect();
    all.sort();
    all
}

/// `id-pkix-ocsp-nocheck`, whose value is NULL.
const NO_CHECK: &str = "1.3.6.1.5.5.7.48.1.5";
/// `id-kp-OCSPSigning`.
const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";

/// The bits of RFC 5280, 4.2.1.3, from the least: digitalSignature is bit 0.
fn planned_key_usage(draft: &Draft<'_>) -> u16 {
    match (&draft.usage, draft.public_key.kind) {
        (Usage::Ca { .. }, _) => 1 | 1 << 5 | 1 << 6,
        (Usage::Leaf { .. }, KeyKind::Rsa(_)) => 1 | 1 << 2,
        (Usage::Leaf { .. } | Usage::Responder, _) => 1,
    }
}

pub(super) fn single_url<'a>(names: &[GeneralName<'a>]) -> Option<&'a str> {
    match names {
        [GeneralName::URI(url)] => Some(url),
        _ => None,
    }
}

fn check_names(names: &[GeneralName<'_>], draft: &Draft<'_>, findings: &mut Findings) {
    let Usage::Leaf { dns_names, ip_addresses, emails, uris, .. } = draft.usage else { return };
    let (mut dns, mut ips, mut mail, mut links) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::DNSName(text) => dns.push(*text),
            GeneralName::IPAddress(octets) => ips.push(read_ip(octets)),
            GeneralName::RFC822Name(text) => mail.push(*text),
            GeneralName::URI(text) => links.push(*text),
            other => findings.require(false, "subject_alt_name", format!("has {other:?}")),
        }
    }
    findings.require(
        dns.iter().all(|name| DnsName::parse(name).is_ok()),
        "subject_alt_name",
        "has no host name",
    );
    findings.require(
        mail.iter().all(|email| Email::parse(email).is_ok()),
        "subject_alt_name",
        "has no mailbox",
    );
    findings.require(links.iter().all(|uri| Uri::parse(uri).is_ok()), "subject_alt_name", "has no URI");
    let unique: HashSet<_> = names.iter().map(|name| format!("{name:?}")).collect();
    findings.require(unique.len() == names.len(), "subject_alt_name", "has a name twice");
    findings.same("subject_alt_name", dns, dns_names.iter().map(DnsName::as_str).collect());
    findings.same("subject_alt_name", mail, emails.iter().map(String::as_str).collect());
    findings.same("subject_alt_name", links, uris.iter().map(String::as_str).collect());
    findings.same("subject_alt_name", ips, ip_addresses.iter().copied().map(Some).collect());
}

fn read_ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}
