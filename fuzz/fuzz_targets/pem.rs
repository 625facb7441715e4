//! Texts with certificates: no block is lost, and what was read is written and read again alike.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use scaivault_pki::{
    parse_bundle, parse_crls,
    pem::{encode, parse_certificates},
};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(found) = parse_bundle("bundle", text) {
            assert!((1..=64).contains(&found.len()));
        }
        let _ = parse_crls("crl_pem", text);
    }
    // A PKCS #7 message, as far as the fuzzer gets without writing Base64.
    if let Ok(found) = parse_bundle("bundle", &STANDARD.encode(data)) {
        assert!((1..=64).contains(&found.len()));
    }
    let Ok(certificates) = parse_certificates(data) else { return };
    assert!((1..=64).contains(&certificates.len()));
    let text = std::str::from_utf8(data).expect("PEM is text");
    let begun = text.lines().filter(|line| line.starts_with("-----BEGIN ")).count();
    assert!(certificates.len() >= begun, "a block was skipped");

    // The same by hand.
    let mut rest = text;
    for der in &certificates {
        let (_, block) = rest.split_once("-----BEGIN ").expect("a block for each");
        let (label, block) = block.split_once("-----").expect("a label");
        assert!(label.ends_with("CERTIFICATE"));
        let (body, after) = block.split_once("-----END ").expect("an end");
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        assert_eq!(STANDARD.decode(body).as_ref(), Ok(der));
        rest =
            after.strip_prefix(label).and_then(|after| after.strip_prefix("-----")).expect("the same label");
    }

    let written: Vec<String> = certificates.iter().map(|der| encode("CERTIFICATE", der)).collect();
    for (text, der) in written.iter().zip(&certificates) {
        assert_eq!(parse_certificates(text).expect("one block").as_slice(), std::slice::from_ref(der));
    }
    let all = written.concat();
    assert_eq!(parse_certificates(&all).expect("all blocks"), certificates);
    assert_eq!(parse_certificates(all.replace('\n', "\r\n")).expect("with CR LF"), certificates);
});
