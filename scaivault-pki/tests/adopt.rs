//! CAs that others signed: OpenSSL is the CA outside.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Bench, Ca, DAY, now, request, serial, subject};
use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    Adopted, Csr, Issuer, IssuerUrls, PkiError, adopt, issue_leaf, pem, private_key, request_ca,
    request_ca_named,
};

/// A root of OpenSSL's in the files `outside.key` and `outside.pem`.
fn outside(bench: &Bench) {
    bench.ok("ecparam -name prime256v1 -genkey -noout -out outside.key");
    bench.write("root.cnf", "[req]\nprompt=no\ndistinguished_name=dn\nx509_extensions=ca\n[dn]\nCN=Outside\n[ca]\nbasicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n");
    bench.ok("req -new -x509 -key outside.key -config root.cnf -days 100 -out outside.pem");
}

/// Has OpenSSL sign `request.pem` with these extensions.
fn signed(bench: &Bench, extensions: &str, days: u32) -> Vec<u8> {
    bench
        .write("ext.cnf", format!("{extensions}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"));
    bench.ok(&format!(
        "x509 -req -in request.pem -CA outside.pem -CAkey outside.key -CAcreateserial -days {days} -extfile ext.cnf -out mid.pem"
    ));
    pem::parse_certificates(bench.read("mid.pem")).unwrap().remove(0)
}

const CA: &str = "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign";

fn message(result: Result<Adopted, PkiError>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn a_ca_that_was_signed_outside_issues() {
    for spec in [KeySpec::EcP256, KeySpec::Rsa2048] {
        let bench = Bench::new();
        outside(&bench);
        let (key, _) = SoftwareKey::generate(spec).unwrap();
        let asked = request_ca(&subject("Inside"), Some(0), &key).await.unwrap();
        bench.write("request.pem", pem::encode("CERTIFICATE REQUEST", &asked));
        let text = bench.ok("req -in request.pem -verify -noout -text");
        assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("Certificate Sign, CRL Sign"), "{text}");
        let der = signed(&bench, CA, 50);
        let above = pem::parse_certificates(bench.read("outside.pem")).unwrap();
        let adopted = adopt(&der, &above, key.public_key_der(), IssuerUrls::default(), now()).unwrap();
        assert_eq!((adopted.common_name.as_str(), adopted.is_root), ("Inside", false));
        assert_eq!(adopted.issuer.max_path_length(), Some(0));
        let (leaf_key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
        let plan =
            common::role(KeySpec::EcP256).admit(&request("a.svc.test"), &adopted.issuer, now()).unwrap();
        let leaf =
            issue_leaf(plan, serial(), leaf_key.public_key_der(), &adopted.issuer, &key).await.unwrap();
        bench.write("leaf.pem", leaf.pem());
        bench.ok("verify -x509_strict -CAfile outside.pem -untrusted mid.pem leaf.pem");
    }
}

#[tokio::test]
async fn a_ca_that_is_for_some_purposes_issues_for_no_others() {
    let bench = Bench::new();
    outside(&bench);
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let asked = request_ca(&subject("Inside"), Some(0), &key).await.unwrap();
    bench.write("request.pem", pem::encode("CERTIFICATE REQUEST", &asked));
    let server_only = {
        let mut config = common::config(KeySpec::EcP256);
        config.client_flag = false;
        config.compile().unwrap()
    };
    let asked = request("a.svc.test");
    for (usage, refused) in [
        ("clientAuth", 1),
        ("clientAuth,codeSigning", 1),
        ("serverAuth", 0),
        ("clientAuth,serverAuth", 0),
        ("clientAuth,anyExtendedKeyUsage", 0),
    ] {
        let der = signed(&bench, &format!("{CA}\nextendedKeyUsage={usage}"), 50);
        let adopted = adopt(&der, &[], key.public_key_der(), IssuerUrls::default(), now()).unwrap();
        let verdict = server_only.test(&asked, &adopted.issuer, now());
        let rules: Vec<_> = verdict.violations.iter().map(|v| (v.field.as_str(), v.rule)).collect();
        assert_eq!(rules, vec![("extended_key_usage", "issuer_purpose"); refused], "{usage}");
        if let Some(plan) = verdict.plan {
            let (leaf, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
            let leaf = issue_leaf(plan, serial(), leaf.public_key_der(), &adopted.issuer, &key).await;
            bench.write("leaf.pem", leaf.unwrap().pem());
            // OpenSSL does not take any purpose for this one.
            let purpose = if usage.contains("any") { "any" } else { "sslserver" };
            bench.ok(&format!("verify -purpose {purpose} -CAfile outside.pem -untrusted mid.pem leaf.pem"));
        }
    }
    // Also where it is a CA above that says so; and a plan from before that was known is not signed.
    let der = signed(&bench, &format!("{CA}\nextendedKeyUsage=clientAuth,serverAuth"), 50);
    let wide = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign";
    let above = signed(&bench, &format!("{wide}\nextendedKeyUsage=clientAuth"), 50);
    let alone = Issuer::from_certificate(&der, IssuerUrls::default()).unwrap();
    let issuer = alone.clone().below([above.as_slice()]).unwrap();
    let said = server_only.admit(&asked, &issuer, now()).unwrap_err().to_string();
    assert!(said.contains("1.3.6.1.5.5.7.3.1"), "{said}");
    let plan = server_only.admit(&asked, &alone, now()).unwrap();
    let (leaf, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let unsigned = issue_leaf(plan, serial(), leaf.public_key_der(), &issuer, &key).await.unwrap_err();
    assert!(unsigned.to_string().contains("is beyond the issuer's"), "{unsigned}");
}

#[tokio::test]
async fn a_name_that_is_there_is_asked_for_as_it_is() {
    let ca = Ca::root(KeySpec::EcP256, None).await;
    // CN=Ab as a PrintableString, of which this engine makes a UTF8String.
    let foreign = b"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x13\x02Ab";
    for name in [ca.issuer.name_der(), &foreign[..]] {
        let asked = request_ca_named(name, None, &ca.key).await.unwrap();
        assert_eq!(Csr::parse(&asked).unwrap().subject_der().unwrap(), name);
    }
    for none in [&b""[..], b"x", &foreign[..9]] {
        assert!(request_ca_named(none, None, &ca.key).await.is_err());
    }
}

#[tokio::test]
async fn what_is_no_certificate_of_this_ca_is_refused_with_its_reason() {
    let bench = Bench::new();
    outside(&bench);
    let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
    let asked = request_ca(&subject("Inside"), None, &key).await.unwrap();
    bench.write("request.pem", pem::encode("CERTIFICATE REQUEST", &asked));
    let above = pem::parse_certificates(bench.read("outside.pem")).unwrap();
    let take = |der: &[u8], above: &[Vec<u8>], at| {
        adopt(der, above, key.public_key_der(), IssuerUrls::default(), at)
    };
    for (extensions, reason) in [
        ("basicConstraints=CA:false\nkeyUsage=digitalSignature", "certificate_pem: is not that of a CA"),
        ("basicConstraints=CA:true\nkeyUsage=cRLSign", "certificate_pem: is not for signing certificates"),
        ("basicConstraints=CA:true\nkeyUsage=keyCertSign", "is not for signing revocation lists"),
    ] {
        let der = signed(&bench, extensions, 50);
        let said = message(take(&der, &above, now()));
        assert!(said.contains(reason), "{said}");
    }
    let good = signed(&bench, CA, 50);
    assert!(take(&good, &[], now()).is_ok(), "nothing above has to be given");
    let late = message(take(&good, &above, now() + 60 * DAY));
    assert!(late.contains("certificate_pem: was valid until"), "{late}");
    let stranger = Ca::root(KeySpec::EcP256, None).await;
    let said = message(take(&good, std::slice::from_ref(&stranger.issued.der), now()));
    assert!(said.starts_with("chain_pem: is no chain above"), "{said}");
    let said = message(take(&good, &[above[0].clone(), above[0].clone()], now()));
    assert!(said.starts_with("chain_pem: "), "{said}");
    let said = message(take(&stranger.issued.der, &[], now()));
    assert!(said.contains("is not for the key of this CA"), "{said}");
    for rubbish in [&b""[..], b"x", &[0x30; 100]] {
        assert!(message(take(rubbish, &[], now())).starts_with("certificate_pem: "));
    }
    // Below one that allows no CA.
    let narrow = Ca::root(KeySpec::EcP256, Some(0)).await;
    let key = &narrow.key;
    let root = adopt(&narrow.issued.der, &[], key.public_key_der(), IssuerUrls::default(), now()).unwrap();
    assert!(root.is_root && root.above.is_empty());
    assert!(root.issuer.below([narrow.issued.der.as_slice()]).is_err());
}

#[tokio::test]
async fn keys_come_in_three_forms() {
    let bench = Bench::new();
    for (make, spec) in [
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", KeySpec::EcP256),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384", KeySpec::EcP384),
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", KeySpec::Rsa2048),
    ] {
        bench.ok(&format!("{make} -out a.pem"));
        bench.ok("pkey -in a.pem -traditional -out b.pem");
        bench.ok("pkey -in a.pem -pubout -outform DER -out public.der");
        bench.ok("pkcs8 -topk8 -in a.pem -passout pass:x -out locked.pem");
        let public = bench.read("public.der");
        for file in ["a.pem", "b.pem"] {
            let text = String::from_utf8(bench.read(file)).unwrap();
            let pkcs8 = private_key(&text, &public).unwrap();
            let key = SoftwareKey::from_pkcs8(spec, &pkcs8).unwrap();
            assert_eq!(key.public_key_der(), public, "{make} {file}");
        }
        let locked = String::from_utf8(bench.read("locked.pem")).unwrap();
        assert!(private_key(&locked, &public).unwrap_err().to_string().contains("is encrypted"));
    }
    for text in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error = private_key(text, b"").unwrap_err().to_string();
        assert!(error.starts_with("private_key_pem: "), "{error}");
    }
}
