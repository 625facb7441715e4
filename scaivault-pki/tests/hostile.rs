//! A zoo of hostile certificate requests, written by hand and signed properly unless that is their point (attack tests
//! E1, E2, E5, E8). Each is refused for its reason, by the parser or by the role.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod zoo;

use std::time::{Duration, Instant};

use common::{Ca, config, now};
use scaivault_kms::{KeySpec, SignatureScheme, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{Csr, PkiError, RoleConfig, issue_leaf};

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = &bytes[bytes.iter().position(|&b| b != 0).unwrap()..];
            out.push(0x80 | u8::try_from(bytes.len()).unwrap());
            out.extend(bytes);
        }
    }
    out.extend(content);
    out
}

fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// An object identifier below 2.5 and 1.3, which is all that is needed here.
fn oid(text: &str) -> Vec<u8> {
    let arcs: Vec<u32> = text.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut content = vec![u8::try_from(arcs[0] * 40 + arcs[1]).unwrap()];
    for &arc in &arcs[2..] {
        let mut septets = vec![u8::try_from(arc & 0x7f).unwrap()];
        let mut rest = arc >> 7;
        while rest > 0 {
            septets.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        content.extend(septets.iter().rev());
    }
    tlv(6, &content)
}

fn name(attributes: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let rdns = attributes.iter().map(|(kind, tag, value)| tlv(0x31, &seq(&[oid(kind), tlv(*tag, value)])));
    seq(&rdns.collect::<Vec<_>>())
}

fn common_name(text: &str) -> Vec<u8> {
    name(&[("2.5.4.3", 0x0c, text.as_bytes())])
}

fn extension(kind: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(kind)];
    if critical {
        parts.push(tlv(1, &[0xff]));
    }
    parts.push(tlv(4, value));
    seq(&parts)
}

const REQUESTED: &str = "1.2.840.113549.1.9.14";
const SAN: &str = "2.5.29.17";

fn attribute(kind: &str, values: &[Vec<u8>]) -> Vec<u8> {
    seq(&[oid(kind), tlv(0x31, &values.concat())])
}

fn asking(extensions: &[Vec<u8>]) -> Vec<u8> {
    attribute(REQUESTED, &[seq(extensions)])
}

fn san(names: &[(u8, &[u8])]) -> Vec<u8> {
    extension(SAN, false, &seq(&names.iter().map(|(tag, value)| tlv(*tag, value)).collect::<Vec<_>>()))
}

/// What a request is made of; the defaults make a good one.
struct Request {
    version: Vec<u8>,
    subject: Vec<u8>,
    spki: Option<Vec<u8>>,
    attributes: Vec<Vec<u8>>,
    algorithm: Vec<u8>,
    forged: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            version: tlv(2, &[0]),
            subject: common_name("a.svc.test"),
            spki: None,
            attributes: Vec::new(),
            algorithm: seq(&[oid("1.2.840.10045.4.3.2")]),
            forged: false,
        }
    }
}

impl Request {
    fn with(extensions: &[Vec<u8>]) -> Self {
        Self { attributes: vec![asking(extensions)], ..Self::default() }
    }

    async fn signed(self, key: &SoftwareKey) -> Vec<u8> {
        let spki = self.spki.unwrap_or_else(|| key.public_key_der().to_vec());
        let mut attributes = self.attributes;
        attributes.sort();
        let info = seq(&[self.version, self.subject, spki, tlv(0xa0, &attributes.concat())]);
        let signed = if self.forged { b"something else".to_vec() } else { info.clone() };
        let signature = key.sign(SignatureScheme::EcdsaSha256, &signed).await.unwrap();
        seq(&[info, self.algorithm, tlv(3, &[vec![0], signature].concat())])
    }
}

/// The words of the refusal; `None` if the request was admitted.
fn refusal(der: &[u8], role: &RoleConfig, ca: &Ca) -> Option<String> {
    let csr = match Csr::parse(der) {
        Ok(csr) => csr,
        Err(error @ PkiError::Invalid { .. }) => return Some(error.to_string()),
        Err(defect) => panic!("{defect:?}"),
    };
    let role = role.clone().compile().unwrap();
    let refused = role.admit_csr(&csr, None, None, &ca.issuer, now()).err()?;
    let words = refused.violations.iter().map(|v| format!("{} {} {}", v.field, v.rule, v.message));
    Some(words.collect::<Vec<_>>().join("; "))
}

fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = seq(&[tlv(2, modulus), tlv(2, exponent)]);
    let bits = tlv(3, &[vec![0], key].concat());
    seq(&[seq(&[oid("1.2.840.113549.1.1.1"), tlv(5, &[])]), bits])
}

fn ec_spki(curve: &str, point: &[u8]) -> Vec<u8> {
    let algorithm = seq(&[oid("1.2.840.10045.2.1"), oid(curve)]);
    seq(&[algorithm, tlv(3, &[&[0], point].concat())])
}

/// What is wrong with each, and words that its refusal must have.
#[expect(clippy::too_many_lines, reason = "a table")]
fn beasts(key: &SoftwareKey) -> Vec<(&'static str, Request, &'static str)> {
    let with = |extensions: &[Vec<u8>]| Request::with(extensions);
    let one = |kind: &str, critical, value: &[u8]| Request::with(&[extension(kind, critical, value)]);
    let named = |tag, value: &[u8]| Request::with(&[san(&[(0x82, b"a.svc.test"), (tag, value)])]);
    let subject = |subject: Vec<u8>| Request { subject, ..Request::default() };
    let keyed = |spki: Vec<u8>| Request { spki: Some(spki), ..Request::default() };
    let attributed = |attributes: Vec<Vec<u8>>| Request { attributes, ..Request::default() };
    let versioned = |version: &[u8]| Request { version: tlv(2, version), ..Request::default() };
    let purposes =
        |all: &[&str]| one("2.5.29.37", false, &seq(&all.iter().map(|p| oid(p)).collect::<Vec<_>>()));
    let good = || san(&[(0x82, b"a.svc.test")]);
    let other_name = [oid("1.3.6.1.4.1.311.20.2.3"), tlv(0xa0, &tlv(0x0c, b"admin@svc.test"))].concat();
    let modulus = [vec![0], vec![0xc5; 255], vec![0xc5]].concat();
    let even = [vec![0], vec![0xc4; 256]].concat();
    let f4 = [1, 0, 1];
    let spki = key.public_key_der();
    let mut off_curve = spki[spki.len() - 65..].to_vec();
    off_curve[64] ^= 1;
    let mut infinity = vec![4];
    infinity.resize(65, 0);
    let p256 = "1.2.840.10045.3.1.7";
    let many: Vec<Vec<u8>> =
        (0..70).map(|n| extension(&format!("1.3.6.1.4.1.99999.{n}"), false, &[5, 0])).collect();
    let many_purposes: Vec<String> = (0..70).map(|n| format!("1.3.6.1.4.1.99999.{n}")).collect();
    let hundreds: Vec<String> = (0..200).map(|n| format!("n{n}.svc.test")).collect();
    let hundreds: Vec<(u8, &[u8])> = hundreds.iter().map(|n| (0x82, n.as_bytes())).collect();
    let thousands: Vec<String> = (0..10_000).map(|n| format!("n{n}.svc.test")).collect();
    let thousands: Vec<(u8, &[u8])> = thousands.iter().map(|n| (0x82, n.as_bytes())).collect();
    let megabyte = vec![b'a'; 1 << 20];
    vec![
        ("CA:TRUE", one("2.5.29.19", true, &seq(&[tlv(1, &[0xff])])), "asks for a CA"),
        ("CA:TRUE, not critical", one("2.5.29.19", false, &seq(&[tlv(1, &[0xff])])), "asks for a CA"),
        ("a path length alone", one("2.5.29.19", true, &seq(&[tlv(2, &[0])])), "basic"),
        ("CA:TRUE in BER", one("2.5.29.19", true, &seq(&[tlv(1, &[1])])), "malformed"),
        ("keyCertSign", one("2.5.29.15", true, &[3, 2, 2, 4]), "sign certificates"),
        ("cRLSign", one("2.5.29.15", true, &[3, 2, 1, 2]), "sign certificates"),
        ("key usage of no bits", one("2.5.29.15", true, &[4, 0]), "malformed"),
        ("anyExtendedKeyUsage", purposes(&["2.5.29.37.0"]), "2.5.29.37.0"),
        ("OCSPSigning", purposes(&["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.9"]), "1.3.6.1.5.5.7.3.9"),
        ("timeStamping", purposes(&["1.3.6.1.5.5.7.3.8"]), "1.3.6.1.5.5.7.3.8"),
        ("codeSigning", purposes(&["1.3.6.1.5.5.7.3.3"]), "1.3.6.1.5.5.7.3.3"),
        ("smart card logon", purposes(&["1.3.6.1.4.1.311.20.2.2"]), "does not give"),
        ("no purpose", purposes(&[]), "no purpose"),
        (
            "seventy purposes",
            purposes(&many_purposes.iter().map(String::as_str).collect::<Vec<_>>()),
            "more than 64",
        ),
        ("name constraints", one("2.5.29.30", true, &seq(&[])), "only a CA"),
        ("policy constraints", one("2.5.29.36", true, &seq(&[])), "only a CA"),
        ("policy mappings", one("2.5.29.33", true, &seq(&[])), "only a CA"),
        ("inhibitAnyPolicy", one("2.5.29.54", true, &[2, 1, 0]), "only a CA"),
        ("unknown critical", one("1.3.6.1.4.1.99999.1", true, &[5, 0]), "critical"),
        ("CT poison", one("1.3.6.1.4.1.11129.2.4.3", true, &[5, 0]), "critical"),
        ("critical must-staple", one("1.3.6.1.5.5.7.1.24", true, &seq(&[tlv(2, &[5])])), "critical"),
        ("two SAN extensions", with(&[good(), san(&[(0x82, b"evil.test")])]), "one extension twice"),
        (
            "two basic constraints",
            with(&[
                extension("2.5.29.19", true, &seq(&[])),
                extension("2.5.29.19", true, &seq(&[tlv(1, &[0xff])])),
            ]),
            "one extension twice",
        ),
        (
            "second extensionRequest",
            attributed(vec![asking(&[good()]), asking(&[san(&[(0x82, b"evil.test")])])]),
            "twice",
        ),
        (
            "second value of extensionRequest",
            attributed(vec![attribute(REQUESTED, &[seq(&[good()]), seq(&[san(&[(0x82, b"f.svc.test")])])])]),
            "twice",
        ),
        (
            "Microsoft's extension attribute",
            attributed(vec![attribute("1.3.6.1.4.1.311.2.1.14", &[seq(&[good()])])]),
            "other than extensionRequest",
        ),
        (
            "two challenge passwords",
            attributed(vec![
                attribute("1.2.840.113549.1.9.7", &[tlv(0x13, b"a")]),
                attribute("1.2.840.113549.1.9.7", &[tlv(0x13, b"b")]),
            ]),
            "twice",
        ),
        (
            "extensionRequest of no sequence",
            attributed(vec![attribute(REQUESTED, &[tlv(4, b"x")])]),
            "cannot be read",
        ),
        ("seventy extensions", with(&many), "more than 64"),
        ("forbidden SAN", named(0x82, b"evil.test"), "not under the allowed domains"),
        ("forbidden SAN with a NUL", named(0x82, b"a.svc.test\0.evil.test"), "hyphens and dots"),
        ("NUL after an allowed SAN", named(0x82, b"evil.test\0.svc.test"), "hyphens and dots"),
        ("SAN with a line feed", named(0x82, b"a.svc.test\n"), "hyphens and dots"),
        ("SAN with a dot at its end", named(0x82, b"a.svc.test."), "dot"),
        ("SAN with an underscore", named(0x82, b"_a.svc.test"), "hyphens and dots"),
        ("SAN that is empty", named(0x82, b""), "empty"),
        ("SAN outside of ASCII", named(0x82, "bücher.svc.test".as_bytes()), "malformed"),
        ("SAN that is a URI", named(0x82, b"https://a.svc.test"), "URI"),
        ("SAN that is an address", named(0x82, b"10.0.0.1"), "ip_sans"),
        ("wildcard in the middle", named(0x82, b"a.*.svc.test"), "wildcard"),
        ("partial wildcard", named(0x82, b"a*.svc.test"), "wildcard"),
        ("two wildcards", named(0x82, b"*.*.svc.test"), "wildcard"),
        ("wildcard of everything", named(0x82, b"*"), "wildcard"),
        ("wildcard elsewhere", named(0x82, b"*.test"), "not under the allowed domains"),
        ("otherName", named(0xa0, &other_name), "otherName"),
        ("rfc822Name", named(0x81, b"a@svc.test"), "e-mail"),
        ("URI", named(0x86, b"https://a.svc.test"), "URI"),
        ("dirName", named(0xa4, &common_name("a.svc.test")), "directory name"),
        ("registeredID", named(0x88, &[0x2a, 3]), "registered ID"),
        ("IPv4 of three octets", named(0x87, &[10, 0, 0]), "odd length"),
        ("IPv4 with a mask", named(0x87, &[10, 0, 0, 0, 255, 0, 0, 0]), "odd length"),
        ("IPv6 with a mask", named(0x87, &[0; 32]), "odd length"),
        (
            "IPv4 in IPv6",
            named(0x87, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]),
            "hides an IPv4",
        ),
        (
            "IPv4-compatible IPv6",
            named(0x87, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]),
            "hides an IPv4",
        ),
        ("address out of range", named(0x87, &[11, 0, 0, 1]), "none of the allowed networks"),
        ("names of an unknown type", named(0x89, b"x"), "malformed"),
        ("SAN that is no sequence", one(SAN, false, &tlv(4, b"x")), "malformed"),
        ("two hundred names", with(&[san(&hundreds)]), "at most 100 names"),
        ("ten thousand names", with(&[san(&thousands)]), "64 KiB"),
        (
            "a megabyte of an attribute",
            attributed(vec![attribute("1.2.840.113549.1.9.7", &[tlv(0x13, &megabyte)])]),
            "64 KiB",
        ),
        (
            "a megabyte of a subject",
            subject(name(&[("2.5.4.10", 0x0c, &megabyte), ("2.5.4.3", 0x0c, b"a.svc.test")])),
            "64 KiB",
        ),
        ("forbidden CN", subject(common_name("evil.test")), "common_name allowed_domains"),
        (
            "two CNs",
            subject(name(&[("2.5.4.3", 0x0c, b"a.svc.test"), ("2.5.4.3", 0x0c, b"evil.test")])),
            "once only",
        ),
        ("CN with a NUL", subject(common_name("a.svc.test\0.evil.test")), "hyphens and dots"),
        ("CN that is a SAN list", subject(common_name("a.svc.test,DNS:evil.test")), "hyphens and dots"),
        ("CN that is a mailbox", subject(common_name("admin@svc.test")), "e-mail"),
        ("CN in BMPString", subject(name(&[("2.5.4.3", 0x1e, b"\0a")])), "UTF8String"),
        ("CN of 65 characters", subject(common_name(&format!("{}.svc.test", "a".repeat(56)))), "at most 64"),
        ("CN that is a network", subject(common_name("10.0.0.0/8")), "common_name"),
        (
            "a key usage without a bit",
            Request::with(&[extension("2.5.29.15", true, &[3, 1, 0])]),
            "csr_pem.key_usage empty",
        ),
        ("version 1", versioned(&[1]), "unknown version"),
        ("version 2^32", versioned(&[1, 0, 0, 0, 0]), "unknown version"),
        ("negative version", versioned(&[0xff]), "unknown version"),
        ("version with a leading zero", versioned(&[0, 0]), "DER"),
        (
            "another's signature",
            Request { forged: true, ..Request::default() },
            "not signed with its own key",
        ),
        (
            "SHA-1",
            Request { algorithm: seq(&[oid("1.2.840.10045.4.1")]), ..Request::default() },
            "not supported",
        ),
        (
            "parameters that ECDSA has not",
            Request { algorithm: seq(&[oid("1.2.840.10045.4.3.2"), tlv(4, b"x")]), ..Request::default() },
            "has parameters",
        ),
        (
            "NULL parameters of ECDSA",
            Request { algorithm: seq(&[oid("1.2.840.10045.4.3.2"), tlv(5, &[])]), ..Request::default() },
            "has parameters",
        ),
        ("RSA with e = 1", keyed(rsa_spki(&modulus, &[1])), "exponent"),
        ("RSA with e = 3", keyed(rsa_spki(&modulus, &[3])), "exponent"),
        ("RSA with an even e", keyed(rsa_spki(&modulus, &[1, 0, 0])), "exponent"),
        ("RSA with an even modulus", keyed(rsa_spki(&even, &f4)), "odd modulus"),
        ("RSA of 1024 bits", keyed(rsa_spki(&modulus[..129], &f4)), "2048"),
        ("RSA with a negative modulus", keyed(rsa_spki(&modulus[1..], &f4)), "not in DER"),
        ("a point off the curve", keyed(ec_spki(p256, &off_curve)), "not a valid"),
        ("the point (0, 0)", keyed(ec_spki(p256, &infinity)), "not a valid"),
        ("the point at infinity", keyed(ec_spki(p256, &[0])), "uncompressed"),
        ("a compressed point", keyed(ec_spki(p256, &[&[2], &off_curve[1..33]].concat())), "uncompressed"),
        ("secp256k1", keyed(ec_spki("1.3.132.0.10", &off_curve)), "by its name"),
        ("a key of nothing", keyed(seq(&[])), "DER"),
        ("RSA of 24,000 bits", keyed(rsa_spki(&[0x7f; 3000], &f4)), "2048 to 8192 bits, not 23999"),
        ("a key of 4 KiB", keyed(rsa_spki(&[1; 4000], &f4)), "too long"),
    ]
}

#[tokio::test]
async fn sec_e5_every_beast_of_the_zoo_is_refused_for_its_reason_and_soon() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let role = RoleConfig { allowed_ip_ranges: vec!["10.0.0.0/8".to_owned()], ..config(KeySpec::EcP256) };
    let tame = Request::with(&[san(&[(0x82, b"a.svc.test"), (0x87, &[10, 0, 0, 1])])]).signed(&key).await;
    assert_eq!(refusal(&tame, &role, &ca), None, "what all of them are made from");
    for (what, request) in zoo::tame() {
        assert_eq!(refusal(&request.signed(&key).await, &role, &ca), None, "{what}");
    }
    let beasts: Vec<_> = beasts(&key).into_iter().chain(zoo::beasts()).collect();
    let octets = zoo::octets(&tame);
    assert!(beasts.len() + octets.len() >= 150, "{}", beasts.len() + octets.len());
    for (what, request, words) in beasts {
        let der = request.signed(&key).await;
        let began = Instant::now();
        let Some(said) = refusal(&der, &role, &ca) else { panic!("{what} was admitted") };
        assert!(said.contains(words), "{what}: {said}");
        assert!(said.len() < 40_000, "{what}: {} characters", said.len());
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
    }
    for (what, der, words) in octets {
        let Some(said) = refusal(&der, &role, &ca) else { panic!("{what} was admitted") };
        assert!(said.contains(words), "{what}: {said}");
    }
}

#[tokio::test]
async fn sec_e1_all_that_is_wrong_is_listed_among_what_is_right() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let role = RoleConfig {
        allowed_ip_ranges: vec!["10.0.0.0/8".to_owned()],
        allowed_emails: vec!["*@svc.test".to_owned()],
        allowed_uris: vec!["spiffe://svc.test/ns/*".to_owned()],
        ..config(KeySpec::EcP256)
    };
    let names: &[(u8, &[u8])] = &[
        (0x82, b"a.svc.test"),
        (0x82, b"evil.test"),
        (0x87, &[10, 0, 0, 1]),
        (0x87, &[11, 0, 0, 1]),
        (0x81, b"a@svc.test"),
        (0x81, b"a@evil.test"),
        (0x86, b"spiffe://svc.test/ns/a"),
        (0x86, b"spiffe://svc.test/ns/a/b"),
        (0x88, &[0x2a, 3]),
    ];
    let purposes = extension("2.5.29.37", false, &seq(&[oid("1.3.6.1.5.5.7.3.1"), oid("2.5.29.37.0")]));
    let ca_true = extension("2.5.29.19", true, &seq(&[tlv(1, &[0xff])]));
    let subject = common_name("evil.test");
    let request = Request { subject, ..Request::with(&[san(names), purposes, ca_true]) };
    let csr = Csr::parse(&request.signed(&key).await).unwrap();
    let role = role.compile().unwrap();
    let verdict = role.test_csr(&csr, None, None, &ca.issuer, now());
    let broken: Vec<_> = verdict.violations.iter().map(|v| (v.field.as_str(), v.rule)).collect();
    let expected = [
        ("csr_pem.basic_constraints", "ca"),
        ("csr_pem.extended_key_usage", "purpose"),
        ("csr_pem.names[8]", "name_type"),
        ("common_name", "allowed_domains"),
        ("csr_pem.alt_names[1]", "allowed_domains"),
        ("csr_pem.ip_sans[1]", "allowed_ip_ranges"),
        ("csr_pem.email_sans[1]", "allowed_emails"),
        ("csr_pem.uri_sans[1]", "allowed_uris"),
    ];
    assert_eq!(broken, expected);
    let matched: Vec<_> = verdict.matched.iter().map(|m| (m.rule, m.by.as_str())).collect();
    for wanted in [
        ("key_type", "ec-p256"),
        ("allowed_domains", "*.svc.test"),
        ("allowed_ip_ranges", "10.0.0.0/8"),
        ("allowed_emails", "*@svc.test"),
        ("allowed_uris", "spiffe://svc.test/ns/*"),
        ("purpose", "1.3.6.1.5.5.7.3.1"),
    ] {
        assert!(matched.contains(&wanted), "{wanted:?} in {matched:?}");
    }
    assert!(verdict.plan.is_none());
    let refused = role.admit_csr(&csr, None, None, &ca.issuer, now()).unwrap_err();
    assert_eq!(refused.violations, verdict.violations, "the dry run is the check itself");
}

#[tokio::test]
async fn a_common_name_that_cannot_be_read_is_not_missing() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let subject = name(&[("2.5.4.3", 0x1e, b"\0a")]);
    let csr = Csr::parse(&Request { subject, ..Request::default() }.signed(&key).await).unwrap();
    for require_cn in [true, false] {
        let role = RoleConfig { require_cn, ..config(KeySpec::EcP256) }.compile().unwrap();
        let refused = role.admit_csr(&csr, None, None, &ca.issuer, now()).unwrap_err();
        let rules: Vec<_> = refused.violations.iter().map(|v| (v.field.as_str(), v.rule)).collect();
        assert_eq!(rules, [("csr_pem.common_name", "encoding")], "{require_cn}");
    }
}

#[tokio::test]
async fn a_plan_is_for_the_key_that_was_admitted_and_no_other() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let (other, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let csr = Csr::parse(&Request::default().signed(&key).await).unwrap();
    let role = config(KeySpec::EcP256).compile().unwrap();
    let plan = role.admit_csr(&csr, None, None, &ca.issuer, now()).unwrap();
    let serial = common::serial();
    let error = issue_leaf(plan, serial, other.public_key_der(), &ca.issuer, &ca.key).await.unwrap_err();
    assert!(matches!(error, PkiError::Invalid { field: "public_key", .. }), "{error}");
    let own = Csr::parse(&Request::default().signed(&ca.key).await).unwrap();
    let refused = role.admit_csr(&own, None, None, &ca.issuer, now()).unwrap_err();
    assert_eq!(refused.violations[0].rule, "distinct_from_issuer");
}
