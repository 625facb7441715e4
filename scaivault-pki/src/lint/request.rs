use x509_parser::{
    certification_request::X509CertificationRequestInfo, cri_attributes::ParsedCriAttribute,
    extensions::ParsedExtension, prelude::FromDer as _,
};

use super::Findings;
use crate::request::RequestDraft;

/// Reads `bytes` as a `CertificationRequestInfo` and compares every field with `draft`.
pub(super) fn check(bytes: &[u8], draft: &RequestDraft<'_>, findings: &mut Findings) {
    let Ok((rest, info)) = X509CertificationRequestInfo::from_der(bytes) else {
        findings.require(false, "syntax", "cannot be read as a certificate request");
        return;
    };
    findings.require(rest.is_empty(), "syntax", "has octets after its end");
    findings.same("version", info.version.0, 0);
    findings.same("subject", info.subject.as_raw(), draft.subject);
    findings.same("public_key", info.subject_pki.raw, draft.spki);
    let attributes: Vec<_> = info.iter_attributes().map(|attribute| attribute.parsed_attribute()).collect();
    let [ParsedCriAttribute::ExtensionRequest(asked)] = attributes.as_slice() else {
        findings.require(false, "attributes", "must be one request for extensions");
        return;
    };
    let read: Vec<_> = asked.extensions.iter().map(|extension| extension.parsed_extension()).collect();
    let [ParsedExtension::BasicConstraints(basic), ParsedExtension::KeyUsage(usage)] = read.as_slice() else {
        findings.require(false, "extensions", "must be basic constraints and key usage");
        return;
    };
    let planned = (true, draft.max_path_length.map(u32::from));
    findings.same("basic_constraints", (basic.ca, basic.path_len_constraint), planned);
    findings.same("key_usage", usage.flags, 1 | 1 << 5 | 1 << 6);
}
