//! OCSP answers: one that the issuer did not sign says nothing, one that it signed says what stands in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaivault_fuzz::{judge_leaf, leaf_serial, own_answer};
use scaivault_pki::validate::{Evidence, OcspEvidence, Verdict};

fuzz_target!(|data: &[u8]| {
    let judge = |der: &[u8], nonce: Option<&[u8]>| {
        let answer = OcspEvidence { der: der.to_vec(), nonce: nonce.map(<[u8]>::to_vec) };
        judge_leaf(&Evidence { ocsp: vec![answer], ..Evidence::default() })
    };
    assert_eq!(judge(data, None), (false, Verdict::Unknown));
    let Some(signed) = own_answer(data) else { return };
    let (_, verdict) = judge(&signed, None);
    let serial = leaf_serial();
    let named = data.windows(serial.as_bytes().len()).any(|window| window == serial.as_bytes());
    assert!(named || verdict == Verdict::Unknown, "a word about a certificate that is not named");
    // A nonce that is not in it is not answered.
    let nonce = [0x5a; 33];
    if !data.windows(nonce.len()).any(|window| window == nonce) {
        assert_eq!(judge(&signed, Some(&nonce)), (false, Verdict::Unknown));
    }
});
