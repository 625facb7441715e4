//! Revocation lists: a list that the issuer did not sign says nothing, one that it signed says what stands in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaivault_fuzz::{judge_leaf, leaf_serial, own_list};
use scaivault_pki::validate::{Evidence, Verdict};

fuzz_target!(|data: &[u8]| {
    let judge = |lists: Vec<Vec<u8>>| judge_leaf(&Evidence { crls: lists, ..Evidence::default() });
    assert_eq!(judge(vec![data.to_vec()]), (false, Verdict::Unknown));
    let Some(signed) = own_list(data) else { return };
    let (valid, verdict) = judge(vec![signed.clone()]);
    let serial = leaf_serial();
    let named = data.windows(serial.as_bytes().len()).any(|window| window == serial.as_bytes());
    assert!(named || !matches!(verdict, Verdict::Revoked { .. }), "a revocation out of nowhere");
    // What others say beside it changes nothing, and neither does its being there twice.
    assert_eq!(judge(vec![data.to_vec(), signed.clone(), signed]), (valid, verdict));
});
