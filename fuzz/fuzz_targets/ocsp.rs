//! OCSP: requests as they are posted, and as they stand in a path.
#![no_main]

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use libfuzzer_sys::fuzz_target;
use scaivault_fuzz::{ISSUER, ISSUER_KEY, NOW, run};
use scaivault_pki::{
    PkiError, RevocationReason,
    ocsp::{CertStatus, OcspRequest, decode_get_path, respond},
};
use time::Duration;

fuzz_target!(|data: &[u8]| {
    check_request(data);
    for text in [
        STANDARD.encode(data),
        URL_SAFE.encode(data),
        STANDARD_NO_PAD.encode(data),
        URL_SAFE_NO_PAD.encode(data),
    ] {
        check_round_trip(data, &text);
        let escaped = text.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
        check_round_trip(data, &escaped);
    }
    let Ok(path) = std::str::from_utf8(data) else { return };
    let Ok(request) = decode_get_path(path) else { return };
    // A request has one spelling, but for the alphabet, the padding and the percent-encoding.
    let plain = unescape(path).replace('-', "+").replace('_', "/");
    assert_eq!(plain.trim_end_matches('='), STANDARD_NO_PAD.encode(&request));
    check_request(&request);
});

fn check_round_trip(request: &[u8], path: &str) {
    match decode_get_path(path) {
        Ok(decoded) => assert_eq!(decoded, request),
        Err(_) => assert!(path.is_empty() || path.len() > 16 * 1024),
    }
}

fn unescape(path: &str) -> String {
    let mut parts = path.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = u8::from_str_radix(&part[..2], 16).expect("it was decoded before");
        plain.push(char::from(code));
        plain.push_str(&part[2..]);
    }
    plain
}

fn check_request(data: &[u8]) {
    let Ok(request) = OcspRequest::parse(data) else { return };
    let again = OcspRequest::parse(data).expect("it was read before");
    assert_eq!((again.cert_ids(), again.nonce()), (request.cert_ids(), request.nonce()));
    assert!((1..=64).contains(&request.cert_ids().len()));
    assert!(request.nonce().is_none_or(|nonce| (1..=128).contains(&nonce.len())));
    for serial in request.cert_ids().iter().filter_map(|id| id.serial()) {
        assert!(serial.as_bytes().iter().any(|byte| *byte != 0) && serial.as_bytes()[0] < 0x80);
    }

    let revoked =
        CertStatus::Revoked { at: NOW - Duration::days(1), reason: RevocationReason::KeyCompromise };
    let known = |id: &scaivault_pki::ocsp::CertId| match id.serial().and_then(|serial| serial.as_bytes().last()) {
        Some(byte) if byte % 2 == 0 => CertStatus::Good,
        _ => revoked,
    };
    let ids = request.cert_ids().iter();
    let honest: Vec<_> =
        ids.clone().map(|id| if id.matches(&ISSUER) { known(id) } else { CertStatus::Unknown }).collect();
    let answer = answer(&request, &honest).expect("a request that was accepted has an answer");
    let holds = |part: &[u8]| answer.windows(part.len()).any(|window| window == part);
    assert!(request.nonce().is_none_or(holds));
    assert!(request.cert_ids().iter().filter_map(|id| id.serial()).all(|serial| holds(serial.as_bytes())));

    // Nothing is said of the certificates of others.
    if request.cert_ids().iter().any(|id| !id.matches(&ISSUER)) {
        let lies: Vec<_> = ids.map(known).collect();
        assert!(matches!(self::answer(&request, &lies), Err(PkiError::Lint(_))));
    }
}

fn answer(request: &OcspRequest, statuses: &[CertStatus]) -> Result<Vec<u8>, PkiError> {
    run(respond(request, statuses, &ISSUER, &*ISSUER_KEY, NOW, NOW + Duration::hours(1), NOW))
}
