//! Names: a directory name, general names and name constraints, in a certificate, in a request and as text. The input
//! is these three, one after the other; text is what stands before the first octet of 0x30.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scaivault_fuzz::{ISSUER, NOW, certificate, elements, extension, no_defect, request, role, sequence};
use scaivault_kms::KeySpec;
use scaivault_pki::{
    Certificate, Csr, Role, TrustAnchor, validate,
    validate::{Evidence, ReferenceName, Rules},
};

static ROLE: LazyLock<Role> = LazyLock::new(|| role(KeySpec::EcP256));

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|octet| *octet == 0x30).unwrap_or(data.len());
    let (text, der) = data.split_at(at);
    let text = String::from_utf8_lossy(text);
    let wanted = ReferenceName::dns(&text).ok();
    let parts = elements(der, 3);
    let part = |at: usize| parts.get(at).copied().unwrap_or(&[0x30, 0]);
    check_request(part(0), part(1));
    let validity = sequence(&[b"\x17\x0d260101000000Z", b"\x17\x0d350101000000Z"]);
    let leaf = certificate(part(0), &validity, part(0), &extension(17, false, part(1)));
    let constraints = [extension(19, true, &[0x30, 3, 1, 1, 0xff]), extension(30, true, part(2))].concat();
    let ca = certificate(ISSUER.name_der(), &validity, part(0), &constraints);
    let (Ok(leaf), Ok(ca)) = (Certificate::from_der(&leaf), Certificate::from_der(&ca)) else { return };
    assert!(leaf.is_self_issued() || leaf.subject() == leaf.issuer());
    let anchor = Certificate::from_der(ISSUER.certificate_der()).expect("its own certificate");
    let anchors = [TrustAnchor { certificate: anchor, enforce: true }];
    let mut rules = Rules::at(NOW);
    let verdict = validate(&leaf, std::slice::from_ref(&ca), &anchors, &Evidence::default(), &rules);
    rules.names.extend(wanted);
    let harder = validate(&leaf, &[ca], &anchors, &Evidence::default(), &rules);
    assert!(verdict.valid || !harder.valid, "a name that is asked for makes nothing good");
});

/// What is admitted of a request is below what the role allows.
fn check_request(subject: &[u8], names: &[u8]) {
    let Some(csr) = no_defect(Csr::parse(&request(subject, names))) else { return };
    let Ok(plan) = ROLE.admit_csr(&csr, None, None, &ISSUER, NOW) else { return };
    for name in plan.dns_names() {
        let name = name.as_str();
        let below = |domain: &str| name == domain || name.ends_with(&format!(".{domain}"));
        assert!(scaivault_fuzz::DOMAINS.iter().any(|domain| below(domain)), "{name}");
    }
    assert!(plan.emails().is_empty() && plan.uris().is_empty());
}
