//! More of the zoo: names in odd alphabets and of odd lengths, keys of other kinds, and octets that are no DER.

use crate::{Request, asking, attribute, common_name, extension, name, oid, san, seq, tlv};

const CN: &str = "2.5.4.3";

/// What is wrong with each, and words that its refusal must have.
pub(crate) fn beasts() -> Vec<(&'static str, Request, &'static str)> {
    let named = |tag, value: &[u8]| Request::with(&[san(&[(0x82, b"a.svc.test"), (tag, value)])]);
    let subject = |subject: Vec<u8>| Request { subject, ..Request::default() };
    let keyed = |spki: Vec<u8>| Request { spki: Some(spki), ..Request::default() };
    let attributed = |attributes: Vec<Vec<u8>>| Request { attributes, ..Request::default() };
    let by = |kind: &str| Request { algorithm: seq(&[oid(kind)]), ..Request::default() };
    let modern = |kind: &str, parameters: &[u8], length: usize| {
        let algorithm = tlv(0x30, &[oid(kind), parameters.to_vec()].concat());
        seq(&[algorithm, tlv(3, &[vec![0], vec![7; length]].concat())])
    };
    let two_in_one = |first: &[u8], second: &[u8]| {
        let part = |value: &[u8]| seq(&[oid(CN), tlv(0x0c, value)]);
        seq(&[tlv(0x31, &[part(first), part(second)].concat())])
    };
    let long = format!("{}.svc.test", "a".repeat(64));
    let longest = format!("{}svc.test", "abcdefg.".repeat(31));
    let deep = (0..200).fold(vec![5, 0], |inner, _| tlv(0x30, &inner));
    let huge = [vec![6, 0x82, 0x03, 0xe8], vec![0x81; 999], vec![1]].concat();
    let padded = vec![6, 4, 0x2a, 0x80, 0x80, 1];
    let odd_attribute = |oid: Vec<u8>| seq(&[oid, tlv(0x31, &tlv(0x0c, b"x"))]);
    vec![
        ("CN in T61String", subject(name(&[(CN, 0x14, b"a.svc.test")])), "UTF8String"),
        ("CN in UniversalString", subject(name(&[(CN, 0x1c, b"\0\0\0a")])), "UniversalString"),
        ("CN in NumericString", subject(name(&[(CN, 0x12, b"10")])), "UTF8String"),
        ("CN in OCTET STRING", subject(name(&[(CN, 4, b"a.svc.test")])), "UTF8String"),
        ("CN that is no UTF-8", subject(name(&[(CN, 0x0c, b"a\xff.svc.test")])), "UTF8String"),
        ("CN with a Cyrillic a", subject(common_name("\u{430}.svc.test")), "common_name"),
        ("CN with full-width letters", subject(common_name("\u{ff41}.svc.test")), "common_name"),
        ("CN with a zero-width joiner", subject(common_name("a\u{200d}.svc.test")), "common_name"),
        ("CN that turns its direction", subject(common_name("a\u{202e}.svc.test")), "common_name"),
        ("CN with a space before it", subject(common_name(" a.svc.test")), "common_name"),
        ("CN that is empty", subject(name(&[(CN, 0x0c, b"")])), "common_name"),
        ("two CNs in one part", subject(two_in_one(b"a.svc.test", b"b.svc.test")), "once only"),
        ("no name at all", subject(seq(&[])), "name"),
        ("an RDN without a part", subject(seq(&[tlv(0x31, &[])])), "name"),
        ("a subject that is a set", subject(tlv(0x31, &[])), "DER"),
        ("SAN of 64 letters in a label", named(0x82, long.as_bytes()), "63"),
        ("SAN of 256 letters", named(0x82, longest.as_bytes()), "253"),
        ("SAN with a label that is no A-label", named(0x82, b"xn--a.svc.test"), "no A-label"),
        ("SAN with a reserved label", named(0x82, b"ab--c.svc.test"), "third and fourth"),
        ("SAN with an empty label", named(0x82, b"a..svc.test"), "empty"),
        ("SAN with a hyphen first", named(0x82, b"-a.svc.test"), "hyphen"),
        ("SAN that is a wildcard's child", named(0x82, b"*a.svc.test"), "wildcard"),
        ("SAN with a percent sign", named(0x82, b"a%2esvc.test"), "hyphens and dots"),
        ("SAN with a zone", named(0x82, b"fe80::1%eth0"), "hyphens and dots"),
        ("SAN with a port", named(0x82, b"a.svc.test:443"), "hyphens and dots"),
        ("SAN of hexadecimal numbers", named(0x82, b"0x0a000001"), "could be read as an IPv4"),
        ("IPv4 of five octets", named(0x87, &[10, 0, 0, 0, 1]), "odd length"),
        ("IPv6 of fifteen octets", named(0x87, &[0x20; 15]), "odd length"),
        ("no address", named(0x87, &[]), "odd length"),
        ("x400Address", named(0xa3, &[]), "malformed"),
        ("ediPartyName", named(0xa5, &tlv(0xa1, &tlv(0x0c, b"x"))), "EDI party"),
        ("e-mail with a NUL", named(0x81, b"a@svc.test\0.evil.test"), "e-mail"),
        ("e-mail outside of ASCII", named(0x81, "\u{e4}@svc.test".as_bytes()), "malformed"),
        ("URI without a scheme", named(0x86, b"//svc.test/a"), "URI"),
        ("URI with a user", named(0x86, b"https://a@svc.test/"), "URI"),
        ("a list of no names", Request::with(&[san(&[])]), "without a name"),
        ("Ed25519's signature of a P-256 key", by("1.3.101.112"), "not supported for its key"),
        ("RSA's signature of a P-256 key", by("1.2.840.113549.1.1.11"), "not supported for its key"),
        ("RSA-PSS", by("1.2.840.113549.1.1.10"), "RSA-PSS"),
        ("MD5", by("1.2.840.113549.1.1.4"), "not supported"),
        ("a signature that is none", by("1.3.101.113"), "not supported"),
        ("Ed25519 with parameters", keyed(modern("1.3.101.112", &[5, 0], 32)), "no parameters"),
        ("Ed25519 of 31 octets", keyed(modern("1.3.101.112", &[], 31)), "not a valid"),
        ("Ed448", keyed(modern("1.3.101.113", &[], 57)), "must be RSA"),
        ("X25519", keyed(modern("1.3.101.110", &[], 32)), "must be RSA"),
        ("DSA", keyed(modern("1.2.840.10040.4.1", &[], 128)), "must be RSA"),
        ("unknown kind of key", keyed(modern("1.3.6.1.4.1.99999.1", &[5, 0], 32)), "must be RSA"),
        ("octets after a key", keyed(seq(&[modern("1.3.101.112", &[], 32), vec![5, 0]])), "DER"),
        (
            "BER in what is critical",
            Request::with(&[seq(&[oid("2.5.29.17"), tlv(1, &[1]), tlv(4, &seq(&[]))])]),
            "cannot be read",
        ),
        (
            "a default that is written",
            Request::with(&[seq(&[oid("1.3.6.1.4.1.99999.1"), tlv(1, &[0]), tlv(4, &[5, 0])])]),
            "not in DER",
        ),
        (
            "octets behind an extension's value",
            Request::with(&[extension("2.5.29.19", false, &[0x30, 0, 0])]),
            "malformed",
        ),
        ("an attribute of a thousand octets of identifier", attributed(vec![odd_attribute(huge)]), "DER"),
        ("an identifier with zeros before its arc", attributed(vec![odd_attribute(padded)]), "DER"),
        (
            "an attribute without values",
            attributed(vec![attribute("1.2.840.113549.1.9.7", &[])]),
            "without values",
        ),
        (
            "an extension two hundred levels deep",
            Request::with(&[extension("2.5.29.17", false, &deep)]),
            "malformed",
        ),
        (
            "extensions two hundred levels deep",
            attributed(vec![attribute("1.2.840.113549.1.9.14", std::slice::from_ref(&deep))]),
            "cannot be read",
        ),
        ("extensions of which one is nothing", attributed(vec![asking(&[seq(&[])])]), "cannot be read"),
    ]
}

/// Octets that are no request, made from those of a good one, and words of their refusal.
pub(crate) fn octets(tame: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let changed = |at: usize, to: u8| {
        let mut der = tame.to_vec();
        der[at] = to;
        der
    };
    let version = tame.windows(3).position(|window| window == [2, 1, 0]).unwrap();
    // The signature is the last element, which ends with the request: BIT STRING, short length, no unused bits.
    let ends = |at: usize, length: u8| length < 0x80 && at + 2 + usize::from(length) == tame.len();
    let bits = (0..tame.len() - 3).find(|&at| tame[at] == 3 && tame[at + 2] == 0 && ends(at, tame[at + 1]));
    let unused = bits.unwrap() + 2;
    let cut = |to: usize| tame[..to].to_vec();
    let deep = [[0x30, 0x80].repeat(15_000), [0, 0].repeat(15_000)].concat();
    let not_der = "not a certificate request in DER";
    vec![
        ("octets after its end", [tame, &[0]].concat(), "octets after its end"),
        ("an indefinite length", [&[0x30, 0x80], &tame[4..], &[0, 0]].concat(), "an indefinite length"),
        ("a length in too many octets", [&[0x30, 0x83, 0], &tame[2..]].concat(), not_der),
        ("a length of 4 GiB", [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &tame[4..]].concat(), not_der),
        ("a set", [&[0x31], &tame[1..]].concat(), "PEM"),
        ("half of it", cut(tame.len() / 2), "is cut off"),
        ("all but its last octet", cut(tame.len() - 1), "is cut off"),
        ("its head", cut(4), "is cut off"),
        ("unused bits in its signature", changed(unused, 7), "signature"),
        ("a version of another tag", changed(version, 4), "DER"),
        ("indefinite lengths, one in another", deep, "an indefinite length"),
        ("nothing", Vec::new(), "PEM"),
        ("zeros", vec![0; 4096], "PEM"),
        (
            "PEM of another label",
            b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_vec(),
            "PEM",
        ),
        ("PEM without an end", b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n".to_vec(), "PEM"),
    ]
}

/// What looks odd and is fine.
pub(crate) fn tame() -> Vec<(&'static str, Request)> {
    let subject = |subject: Vec<u8>| Request { subject, ..Request::default() };
    vec![
        ("names alone", Request { subject: seq(&[]), ..Request::with(&[san(&[(0x82, b"a.svc.test")])]) }),
        ("capitals", Request::with(&[san(&[(0x82, b"A.SVC.test")])])),
        ("a wildcard", Request::with(&[san(&[(0x82, b"*.svc.test")])])),
        ("an address", Request::with(&[san(&[(0x87, &[10, 1, 2, 3])])])),
        ("CN in PrintableString", subject(name(&[(CN, 0x13, b"a.svc.test")]))),
        (
            "an organization that is left out",
            subject(name(&[("2.5.4.10", 0x0c, b"Evil"), (CN, 0x0c, b"a.svc.test")])),
        ),
        ("CA:FALSE", Request::with(&[extension("2.5.29.19", true, &seq(&[]))])),
        ("digitalSignature", Request::with(&[extension("2.5.29.15", true, &[3, 2, 7, 0x80])])),
        (
            "an unknown extension that is not critical",
            Request::with(&[extension("1.3.6.1.4.1.99999.1", false, &[5, 0])]),
        ),
        (
            "a challenge password",
            Request {
                attributes: vec![attribute("1.2.840.113549.1.9.7", &[tlv(0x13, b"secret")])],
                ..Request::default()
            },
        ),
    ]
}
