//! Certificate requests: what is read is stable, and a role admits nothing but names that were asked for.
#![no_main]

use std::{collections::BTreeSet, net::IpAddr, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use scaivault_fuzz::{DOMAINS, ISSUER, ISSUER_KEY, NOW, no_defect, resign_request, role, run, serial};
use scaivault_kms::KeySpec;
use scaivault_pki::{Csr, CsrName, CsrOverride, Plan, Role, issue_leaf, pem};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

static ROLES: LazyLock<Vec<Role>> = LazyLock::new(|| KeySpec::ALL.iter().map(|spec| role(*spec)).collect());

fuzz_target!(|data: &[u8]| {
    check(data);
    if let Some(resigned) = resign_request(data) {
        check(&resigned);
    }
});

fn check(data: &[u8]) {
    let Ok(csr) = Csr::parse(data) else { return };
    let read = format!("{csr:?}");
    assert_eq!(format!("{:?}", Csr::parse(data).expect("it was read before")), read);
    if data[0] == 0x30 {
        let text = pem::encode("CERTIFICATE REQUEST", data);
        assert_eq!(format!("{:?}", Csr::parse(text.as_bytes()).expect("the same in PEM")), read);
    }
    assert!(!csr.public_key_spki().is_empty());
    assert!(data[0] != 0x30 || data.windows(csr.public_key_spki().len()).any(|w| w == csr.public_key_spki()));

    for role in &*ROLES {
        let right = role.config().key.admits(csr.key_kind());
        match role.admit_csr(&csr, None, None, &ISSUER, NOW) {
            Ok(plan) => {
                assert!(right, "a key of another kind");
                check_plan(&csr, &Asked::of(csr.names(), csr.common_name()), plan);
            }
            Err(refused) => {
                assert!(!refused.violations.is_empty());
                assert!(right || refused.violations.iter().any(|violation| violation.rule == "key_type"));
            }
        }
        let names = CsrOverride {
            alt_names: vec!["instead.test".into()],
            ip_sans: vec!["192.0.2.1".into()],
            ..CsrOverride::default()
        };
        if let Ok(plan) = role.admit_csr(&csr, Some(names), None, &ISSUER, NOW) {
            let asked = [CsrName::Dns("instead.test".into()), CsrName::Ip([192, 0, 2, 1].into())];
            check_plan(&csr, &Asked::of(&asked, csr.common_name()), plan);
        }
    }
}

/// Every name that a certificate may have.
struct Asked {
    dns: BTreeSet<String>,
    ips: BTreeSet<IpAddr>,
    common_name: Option<String>,
}

impl Asked {
    fn of(names: &[CsrName], common_name: Option<&str>) -> Self {
        let mut asked = Self {
            dns: BTreeSet::new(),
            ips: BTreeSet::new(),
            common_name: common_name.map(str::to_ascii_lowercase),
        };
        for name in names {
            match name {
                CsrName::Dns(text) => {
                    asked.dns.insert(text.to_ascii_lowercase());
                }
                CsrName::Ip(address) => {
                    asked.ips.insert(*address);
                }
                other => panic!("admitted although it asks for {other:?}"),
            }
        }
        if let Some(name) = &asked.common_name {
            asked.dns.insert(name.clone());
            asked.ips.extend(name.parse::<IpAddr>());
        }
        asked
    }
}

fn check_plan(csr: &Csr, asked: &Asked, plan: Plan) {
    for name in plan.dns_names() {
        assert!(asked.dns.contains(name.as_str()), "{name} was not asked for");
        let under = |domain: &&str| {
            name.as_str().strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        assert!(DOMAINS.iter().any(under), "{name} is not allowed");
    }
    assert!(plan.ip_addresses().iter().all(|address| asked.ips.contains(address)));
    // Nothing that was asked for is lost either, but for a common name that is an address.
    let names = plan.dns_names().len() + plan.ip_addresses().len();
    let twice = asked.common_name.as_ref().is_some_and(|name| name.parse::<IpAddr>().is_ok());
    assert_eq!(names, asked.dns.len() + asked.ips.len() - usize::from(twice));
    assert!(plan.not_before() <= NOW && NOW <= plan.not_after());
    assert!(ISSUER.not_before() <= plan.not_before() && plan.not_after() <= ISSUER.not_after());
    let common_name = plan.common_name().map(str::to_owned);
    match (&common_name, &asked.common_name) {
        (Some(written), Some(name)) if name.parse::<IpAddr>().is_ok() => {
            assert_eq!(written.parse::<IpAddr>(), name.parse());
        }
        (written, name) => assert_eq!(written, name),
    }
    let (dns_names, addresses) = (plan.dns_names().to_vec(), plan.ip_addresses().to_vec());
    let issued = run(issue_leaf(plan, serial(), csr.public_key_spki(), &ISSUER, &*ISSUER_KEY));
    // The key of the issuer itself is refused here.
    let Some(issued) = no_defect(issued) else { return };

    let (rest, certificate) = X509Certificate::from_der(&issued.der).expect("a certificate");
    assert!(rest.is_empty() && !certificate.is_ca());
    assert_eq!(certificate.public_key().raw, csr.public_key_spki());
    let names = certificate.subject_alternative_name().expect("names that can be read").expect("names");
    let mut dns = dns_names.iter();
    let mut ips = addresses.iter();
    for name in &names.value.general_names {
        match name {
            GeneralName::DNSName(text) => assert_eq!(Some(*text), dns.next().map(|name| name.as_str())),
            GeneralName::IPAddress(octets) => {
                let octets = octets.to_vec();
                let planned = ips.next().map(|address| match address {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                });
                assert_eq!(Some(octets), planned);
            }
            other => panic!("{other:?} in a certificate"),
        }
    }
    assert!(dns.next().is_none() && ips.next().is_none());
}
