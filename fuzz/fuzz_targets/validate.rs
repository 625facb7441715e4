//! Bags of certificates, lists and answers: a verdict comes in bounded time, and says nothing that it cannot show. The
//! seeds are chains of NIST's PKITS, which is in the public domain.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaivault_fuzz::{NOW, elements, resign_certificate, resign_list};
use scaivault_pki::{
    Certificate, TrustAnchor, Validation, validate,
    validate::{Evidence, OcspEvidence, ReferenceName, RevocationMode, Rules, Source, Verdict, limits},
};

fuzz_target!(|data: &[u8]| {
    let elements = elements(data, 40);
    // As it came: signatures of seeds hold, and those of anything else do not.
    check(&elements.iter().map(|der| der.to_vec()).collect::<Vec<_>>());
    // And as if all of it were signed by one key.
    let resigned = |der: &&[u8]| match Certificate::from_der(der) {
        Ok(_) => resign_certificate(der),
        Err(_) => resign_list(der),
    };
    check(&elements.iter().filter_map(resigned).collect::<Vec<_>>());
});

/// The first certificate is the leaf, the last one the anchor; what is no certificate is evidence.
fn check(elements: &[Vec<u8>]) {
    let (mut certificates, mut others) = (Vec::new(), Vec::new());
    for der in elements {
        match Certificate::from_der(der) {
            Ok(certificate) => certificates.push(certificate),
            Err(_) => others.push(der.clone()),
        }
    }
    let [leaf, bag @ .., anchor] = certificates.as_slice() else { return };
    let ocsp = others.iter().map(|der| OcspEvidence { der: der.clone(), nonce: None }).collect();
    let evidence = Evidence { crls: others, ocsp, ..Evidence::default() };
    let anchors = [TrustAnchor { certificate: anchor.clone(), enforce: true }];
    for (now, mode) in [
        (leaf.not_after(), RevocationMode::Require),
        (leaf.not_before(), RevocationMode::Prefer),
        (NOW, RevocationMode::None),
    ] {
        let mut rules = Rules::at(now);
        rules.revocation = mode;
        let verdict = validate(leaf, bag, &anchors, &evidence, &rules);
        judge(&verdict, leaf, anchor, mode);
        // More demands make no path good that was not.
        rules.names = vec![ReferenceName::dns("a.test").expect("a host name")];
        rules.policies.require_explicit = true;
        rules.max_intermediates = Some(1);
        let harder = validate(leaf, bag, &anchors, &evidence, &rules);
        judge(&harder, leaf, anchor, mode);
        assert!(verdict.valid || !harder.valid);
    }
}

fn judge(verdict: &Validation, leaf: &Certificate, anchor: &Certificate, mode: RevocationMode) {
    assert_eq!(verdict.valid, verdict.errors.is_empty());
    assert_eq!(verdict.chain.first(), Some(leaf));
    assert!(verdict.chain.len() <= limits::MAX_DEPTH + 3);
    assert!(verdict.rejected.len() <= limits::MAX_REJECTED);
    assert!(verdict.rejected.iter().all(|path| !path.failures.is_empty()));
    for failure in &verdict.errors {
        assert!(failure.certificate.is_none_or(|at| at < verdict.chain.len()), "{failure}");
    }
    for known in &verdict.revocation {
        assert!(known.source != Source::None || known.verdict == Verdict::Unknown);
    }
    if verdict.valid {
        assert_eq!(verdict.chain.last(), Some(anchor));
        assert_eq!(verdict.anchor, Some(0));
        let good = verdict.revocation.iter().all(|known| known.verdict == Verdict::Good);
        assert!(mode != RevocationMode::Require || good || verdict.chain.len() == 1);
    }
}
