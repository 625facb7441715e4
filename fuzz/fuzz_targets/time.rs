//! Times: the input is the content of a `Validity`. What is read is what stands there, in one of the two spellings of
//! RFC 5280, 4.1.2.5.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scaivault_fuzz::{ISSUER, certificate, elements, extension, sequence, urls};
use scaivault_pki::{Certificate, Issuer};
use time::OffsetDateTime;

fuzz_target!(|data: &[u8]| {
    let ca = extension(19, true, &[0x30, 3, 1, 1, 0xff]);
    let der = certificate(ISSUER.name_der(), &sequence(&[data]), ISSUER.name_der(), &ca);
    let elements = elements(data, 3);
    if let Ok(read) = Certificate::from_der(&der) {
        let [from, to] = elements[..] else { panic!("a validity of {} elements", elements.len()) };
        check(from, read.not_before());
        check(to, read.not_after());
    }
    if let Ok(read) = Issuer::from_certificate(&der, urls()) {
        let [from, to] = elements[..] else { panic!("a validity of {} elements", elements.len()) };
        check(from, read.not_before());
        check(to, read.not_after());
    }
});

fn check(der: &[u8], read: OffsetDateTime) {
    let text = String::from_utf8_lossy(&der[2..]);
    let (date, time) = (read.date(), read.time());
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    let spelt = match der[0] {
        0x17 => format!("{:02}{rest}", date.year() % 100),
        _ => format!("{:04}{rest}", date.year()),
    };
    assert_eq!(text, spelt);
    assert!(der[0] != 0x17 || (1950..2050).contains(&date.year()));
}
