//! Certificate requests that OpenSSL wrote, good and evil (attack tests E1 and E5).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Bench, Ca, HOUR, config, now, role, serial};
use scaivault_kms::KeySpec;
use scaivault_pki::{Csr, CsrName, CsrOverride, KeyKind, PkiError, Refused, issue_leaf, pem};

const P256: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";

/// A request for `subject` with the lines of an extension section.
fn request(bench: &Bench, key: &str, subject: &str, extensions: &str) -> Vec<u8> {
    let config = format!(
        "[req]\ndistinguished_name=dn\nprompt=no\nutf8=yes\nreq_extensions=ext\n[dn]\n{subject}\n[ext]\n{extensions}\n"
    );
    let config = if extensions.is_empty() { config.replace("req_extensions=ext\n", "") } else { config };
    bench.write("req.cnf", config);
    bench.ok(&format!("req -new -nodes -keyout req.key -config req.cnf -outform DER -out req.der {key}"));
    bench.read("req.der")
}

fn refusal(csr: &Csr, ca: &Ca) -> Refused {
    role(KeySpec::EcP256).admit_csr(csr, None, None, &ca.issuer, now()).unwrap_err()
}

fn rules(refused: &Refused) -> Vec<(&str, &str)> {
    refused.violations.iter().map(|violation| (violation.field.as_str(), violation.rule)).collect()
}

#[tokio::test]
async fn a_request_becomes_a_certificate_of_its_key_and_of_nothing_else() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let bench = Bench::new();
    let extensions = "subjectAltName=DNS:a.svc.test,DNS:B.svc.test,IP:10.0.0.1\nbasicConstraints=critical,CA:FALSE\n\
        keyUsage=nonRepudiation,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth\n\
        subjectKeyIdentifier=hash\ntlsfeature=status_request";
    let der = request(&bench, P256, "O=Evil Inc\nCN=a.svc.test\nemailAddress=x@y.z", extensions);
    let csr = Csr::parse(&der).unwrap();
    assert_eq!(Csr::parse(pem::encode("CERTIFICATE REQUEST", &der).as_bytes()).unwrap().names(), csr.names());
    assert_eq!((csr.common_name(), csr.key_kind()), (Some("a.svc.test"), KeyKind::EcP256));
    let names = ["a.svc.test", "B.svc.test"].map(|name| CsrName::Dns(name.to_owned()));
    assert_eq!(csr.names()[..2], names);

    let plan = role(KeySpec::EcP256).admit_csr(&csr, None, Some(HOUR), &ca.issuer, now()).unwrap();
    let issued = issue_leaf(plan, serial(), csr.public_key_spki(), &ca.issuer, &ca.key).await.unwrap();
    bench.write("ca.pem", ca.issued.pem());
    bench.write("leaf.pem", issued.pem());
    bench.ok("verify -x509_strict -CAfile ca.pem -purpose sslserver -verify_hostname b.svc.test leaf.pem");
    assert_eq!(
        bench.ok("x509 -in leaf.pem -noout -pubkey"),
        bench.ok("req -inform DER -in req.der -noout -pubkey")
    );
    let text = bench.ok("x509 -in leaf.pem -noout -text");
    assert!(!text.contains("Evil") && !text.contains("Non Repudiation") && !text.contains("x@y.z"), "{text}");

    let names = CsrOverride { alt_names: vec!["c.svc.test".to_owned()], ..CsrOverride::default() };
    let plan = role(KeySpec::EcP256).admit_csr(&csr, Some(names), None, &ca.issuer, now()).unwrap();
    let names: Vec<_> = plan.dns_names().iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["a.svc.test", "c.svc.test"]);
    assert!(plan.ip_addresses().is_empty());
}

#[test]
fn every_kind_of_key_proves_its_possession() {
    let bench = Bench::new();
    let keys = [
        (P256, KeyKind::EcP256),
        ("-newkey ec -pkeyopt ec_paramgen_curve:P-384", KeyKind::EcP384),
        ("-newkey ec -pkeyopt ec_paramgen_curve:P-521", KeyKind::EcP521),
        ("-newkey rsa:2048", KeyKind::Rsa(2048)),
        ("-newkey rsa:3072", KeyKind::Rsa(3072)),
    ];
    for (key, kind) in keys {
        for hash in ["-sha256", "-sha384", "-sha512"] {
            let der = request(&bench, &format!("{key} {hash}"), "CN=a.svc.test", "");
            assert_eq!(Csr::parse(&der).unwrap().key_kind(), kind, "{key} {hash}");
            // The byte before the last is within the signature for all of them.
            let mut forged = der.clone();
            *forged.iter_mut().rev().nth(1).unwrap() ^= 1;
            assert!(Csr::parse(&forged).is_err(), "{key} {hash}");
        }
    }
    let der = request(&bench, "-newkey ed25519", "CN=a.svc.test", "");
    assert_eq!(Csr::parse(&der).unwrap().key_kind(), KeyKind::Ed25519);
}

#[test]
fn other_keys_and_signatures_are_refused_in_clear_words() {
    let bench = Bench::new();
    let cases = [
        ("-newkey rsa:2048 -sigopt rsa_padding_mode:pss", "RSA-PSS"),
        ("-newkey rsa-pss -pkeyopt rsa_keygen_bits:2048", "RSA-PSS"),
        ("-newkey rsa:1024", "2048 to 8192 bits"),
        ("-newkey rsa:2048 -pkeyopt rsa_keygen_pubexp:3", "exponent"),
        ("-newkey ec -pkeyopt ec_paramgen_curve:secp256k1", "P-256, P-384 or P-521"),
        ("-newkey ec -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit", "by its name"),
        ("-newkey ed448", "Ed25519"),
        ("-newkey rsa:2048 -sha1", "not supported"),
    ];
    for (key, message) in cases {
        let error = Csr::parse(&request(&bench, key, "CN=a.svc.test", "")).unwrap_err().to_string();
        assert!(error.contains(message), "{key}: {error}");
    }
}

#[tokio::test]
async fn sec_e1_forbidden_names_are_refused_wherever_they_stand_and_all_are_listed() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let bench = Bench::new();
    let csr = |subject: &str, extensions: &str| Csr::parse(&request(&bench, P256, subject, extensions));

    let all = csr(
        "CN=evil.test",
        "subjectAltName=DNS:a.svc.test,DNS:evil.test,email:a@svc.test,URI:https://a.svc.test,RID:1.2.3.4,\
         otherName:1.3.6.1.4.1.311.20.2.3;UTF8:admin@svc.test,dirName:dir,IP:10.0.0.1,DNS:*.evil.test\n[dir]\nCN=x",
    );
    let refused = refusal(&all.unwrap(), &ca);
    let expected = [
        ("csr_pem.names[2]", "name_type"),
        ("csr_pem.names[3]", "name_type"),
        ("csr_pem.names[4]", "name_type"),
        ("csr_pem.names[5]", "name_type"),
        ("csr_pem.names[6]", "name_type"),
        ("common_name", "allowed_domains"),
        ("csr_pem.alt_names[1]", "allowed_domains"),
        ("csr_pem.alt_names[2]", "allowed_domains"),
    ];
    assert_eq!(rules(&refused), expected);

    let mapped = csr("CN=a.svc.test", "subjectAltName=IP:::ffff:10.0.0.1").unwrap();
    assert_eq!(rules(&refusal(&mapped, &ca)), [("csr_pem.ip_sans[0]", "ip_address")]);
    let masked = csr("CN=a.svc.test", "subjectAltName=DER:30:0a:87:08:0a:00:00:01:ff:ff:ff:ff").unwrap();
    assert_eq!(rules(&refusal(&masked, &ca)), [("csr_pem.names[0]", "name_type")]);

    let mut no_ips = config(KeySpec::EcP256);
    no_ips.allow_ip_sans = false;
    let with_ip = csr("CN=a.svc.test", "subjectAltName=IP:10.0.0.1").unwrap();
    let refused = no_ips.compile().unwrap().admit_csr(&with_ip, None, None, &ca.issuer, now()).unwrap_err();
    assert_eq!(rules(&refused), [("csr_pem.ip_sans[0]", "allow_ip_sans")]);

    let twice = csr(
        "CN=a.svc.test",
        "subjectAltName=DNS:a.svc.test\n2.5.29.17=DER:30:0b:82:09:65:76:69:6c:2e:74:65:73:74",
    );
    assert!(twice.unwrap_err().to_string().contains("one extension twice"));
    let two_names = csr("0.CN=a.svc.test\n1.CN=evil.test", "").unwrap();
    assert!(rules(&refusal(&two_names, &ca)).contains(&("csr_pem.common_name", "single")));
}

#[tokio::test]
async fn sec_e5_requests_for_a_ca_or_the_unknown_are_refused() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let bench = Bench::new();
    let cases = [
        ("basicConstraints=critical,CA:TRUE", ("csr_pem.basic_constraints", "ca")),
        ("keyUsage=keyCertSign", ("csr_pem.key_usage", "ca")),
        ("keyUsage=digitalSignature,cRLSign", ("csr_pem.key_usage", "ca")),
        ("nameConstraints=permitted;DNS:test", ("csr_pem.extensions", "ca")),
        ("policyConstraints=requireExplicitPolicy:0", ("csr_pem.extensions", "ca")),
        ("1.2.3.4=critical,DER:05:00", ("csr_pem.extensions", "unknown_critical")),
        ("extendedKeyUsage=DER:30:00", ("csr_pem.extended_key_usage", "purpose")),
        ("extendedKeyUsage=serverAuth,OCSPSigning", ("csr_pem.extended_key_usage", "purpose")),
        ("extendedKeyUsage=anyExtendedKeyUsage", ("csr_pem.extended_key_usage", "purpose")),
        ("subjectAltName=DER:30:01", ("csr_pem.extensions", "syntax")),
        ("basicConstraints=DER:04:00", ("csr_pem.extensions", "syntax")),
    ];
    for (extension, expected) in cases {
        let csr = Csr::parse(&request(&bench, P256, "CN=a.svc.test", extension)).unwrap();
        assert_eq!(rules(&refusal(&csr, &ca)), [expected], "{extension}");
    }
    let harmless = Csr::parse(&request(&bench, P256, "CN=a.svc.test", "1.2.3.4=DER:05:00")).unwrap();
    assert!(role(KeySpec::EcP256).admit_csr(&harmless, None, None, &ca.issuer, now()).is_ok());
}

#[tokio::test]
async fn sec_e5_oversized_requests_are_refused() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let bench = Bench::new();
    let names = |count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("DNS.{n}=n{n}.svc.test")).collect();
        format!("subjectAltName=@names\n[names]\n{}", names.join("\n"))
    };
    let many = Csr::parse(&request(&bench, P256, "CN=a.svc.test", &names(1000))).unwrap();
    assert_eq!(rules(&refusal(&many, &ca)), [("csr_pem.alt_names", "count")]);
    let hundred = Csr::parse(&request(&bench, P256, "CN=n0.svc.test", &names(100))).unwrap();
    assert!(role(KeySpec::EcP256).admit_csr(&hundred, None, None, &ca.issuer, now()).is_ok());
    let huge = Csr::parse(&request(&bench, P256, "CN=a.svc.test", &names(10_000))).unwrap_err();
    assert!(huge.to_string().contains("64 KiB"), "{huge}");
    // OpenSSL bounds what it writes into a subject, so the megabyte comes by hand: SEQUENCE, length, and so on.
    let mut megabyte = vec![0x30, 0x83, 0x10, 0, 0];
    megabyte.resize(5 + 0x10_0000, 0x41);
    assert!(matches!(Csr::parse(&megabyte), Err(PkiError::Invalid { .. })));
    let long = "a".repeat(60);
    let many: String = (0..500).map(|n| format!("{n}.OU={long}\n")).collect();
    assert!(
        Csr::parse(&request(&bench, P256, &format!("{many}CN=a.svc.test"), "")).is_ok(),
        "ignored, not refused"
    );
}

#[test]
fn what_is_not_der_is_refused() {
    let bench = Bench::new();
    let der = request(&bench, P256, "CN=a.svc.test", "subjectAltName=DNS:a.svc.test");
    for cut in 0..der.len() {
        assert!(Csr::parse(&der[..cut]).is_err(), "{cut}");
    }
    assert!(Csr::parse(&[&der[..], &[0]].concat()).is_err(), "octets after the end");
    // The same content with an indefinite length, which is BER only.
    let header = 2 + usize::from(der[1] & 0x7f) * usize::from(der[1] >= 0x80);
    let ber = [&[0x30, 0x80], &der[header..], &[0, 0]].concat();
    assert!(Csr::parse(&ber).is_err());
    assert!(Csr::parse(pem::encode("CERTIFICATE", &der).as_bytes()).is_err());
    assert!(Csr::parse(pem::encode("CERTIFICATE REQUEST", &der).repeat(2).as_bytes()).is_err());
}

#[test]
fn sec_j3_no_flipped_bit_of_a_request_goes_unseen() {
    let bench = Bench::new();
    let der = request(&bench, P256, "CN=a.svc.test", "subjectAltName=DNS:a.svc.test");
    for at in 0..der.len() * 8 {
        let mut flipped = der.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(Csr::parse(&flipped).is_err(), "bit {at}");
    }
}

#[tokio::test]
async fn the_key_must_be_of_the_roles_kind() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    let bench = Bench::new();
    let csr = Csr::parse(&request(&bench, "-newkey rsa:2048", "CN=a.svc.test", "")).unwrap();
    assert_eq!(rules(&refusal(&csr, &ca)), [("csr_pem", "key_type")]);
}
