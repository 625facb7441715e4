//! What the engine's acts cost: certificates by kind of key, requests, verdicts, lists and answers.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::{hint::black_box, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use criterion::{Criterion, criterion_group, criterion_main};
use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    CaPlan, Certificate, CrlEntry, Csr, IssueRequest, Issued, Issuer, IssuerUrls, KeyRule, RevocationReason,
    Role, RoleConfig, Serial, Subject, TrustAnchor, build_crl, issue_intermediate, issue_leaf, issue_root,
    ocsp::{CertStatus, OcspRequest, respond},
    validate,
    validate::{Evidence, ReferenceName, Rules},
};
use time::{OffsetDateTime, ext::NumericalDuration as _, macros::datetime};
use tokio::runtime::{Builder, Runtime};

const NOW: OffsetDateTime = datetime!(2026-10-05 12:00:00 UTC);
const KINDS: [KeySpec; 8] = [
    KeySpec::EcP256,
    KeySpec::EcP384,
    KeySpec::EcP521,
    KeySpec::Rsa2048,
    KeySpec::Ed25519,
    KeySpec::MlDsa44,
    KeySpec::MlDsa65,
    KeySpec::MlDsa87,
];
const REQUEST: &[u8] = include_bytes!("../tests/known/ml-dsa-44-csr.pem");

struct Ca {
    issued: Issued,
    issuer: Issuer,
    key: SoftwareKey,
}

impl Ca {
    fn new(issued: Issued, key: SoftwareKey) -> Self {
        let url = |what: &str| Some(format!("http://pki.test/{what}"));
        let urls = IssuerUrls { crl_url: url("crl"), ocsp_url: url("ocsp") };
        Self { issuer: Issuer::from_certificate(&issued.der, urls).unwrap(), issued, key }
    }

    fn root(runtime: &Runtime, spec: KeySpec) -> Self {
        let (key, _) = SoftwareKey::generate(spec).unwrap();
        let plan = CaPlan::root(subject("Root"), spec, 3650, None, NOW).unwrap();
        Self::new(runtime.block_on(issue_root(plan, serial(1), &key)).unwrap(), key)
    }

    fn below(&self, runtime: &Runtime, spec: KeySpec) -> Self {
        let (key, _) = SoftwareKey::generate(spec).unwrap();
        let plan = CaPlan::intermediate(subject("CA"), spec, 1825, None, &self.issuer, NOW).unwrap();
        let issued = issue_intermediate(plan, serial(2), key.public_key_der(), &self.issuer, &self.key);
        Self::new(runtime.block_on(issued).unwrap(), key)
    }

    async fn leaf(&self, role: &Role, spki: &[u8]) -> Issued {
        let request = IssueRequest { common_name: Some("a.svc.test".to_owned()), ..IssueRequest::default() };
        let plan = role.admit(&request, &self.issuer, NOW).unwrap();
        issue_leaf(plan, serial(3), spki, &self.issuer, &self.key).await.unwrap()
    }
}

fn subject(common_name: &str) -> Subject {
    Subject { common_name: common_name.to_owned(), ..Subject::default() }
}

fn serial(byte: u8) -> Serial {
    Serial::from_random([byte; 16])
}

fn role() -> Role {
    let config = RoleConfig {
        name: "svc".to_owned(),
        allowed_domains: vec!["*.svc.test".to_owned()],
        max_ttl: Duration::from_secs(30 * 86_400),
        key: KeyRule::Any,
        ..RoleConfig::default()
    };
    config.compile().unwrap()
}

fn by_kind(bench: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let role = role();
    let mut group = bench.benchmark_group("issue");
    for spec in KINDS {
        let ca = Ca::root(&runtime, spec);
        let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
        group.bench_function(spec.as_str(), |bench| {
            bench.iter(|| runtime.block_on(ca.leaf(&role, key.public_key_der())));
        });
    }
    group.finish();
    let mut group = bench.benchmark_group("validate");
    for spec in KINDS {
        let root = Ca::root(&runtime, spec);
        let sub = root.below(&runtime, spec);
        let (key, _) = SoftwareKey::generate(KeySpec::EcP256).unwrap();
        let leaf = runtime.block_on(sub.leaf(&role, key.public_key_der()));
        let read = |of: &Issued| Certificate::from_der(&of.der).unwrap();
        let (leaf, bag) = (read(&leaf), [read(&sub.issued)]);
        let anchors = [TrustAnchor { certificate: read(&root.issued), enforce: true }];
        let rules = Rules { names: vec![ReferenceName::dns("a.svc.test").unwrap()], ..Rules::at(NOW) };
        group.bench_function(spec.as_str(), |bench| {
            bench.iter(|| {
                let verdict = validate(&leaf, &bag, &anchors, &Evidence::default(), &rules);
                assert!(black_box(verdict).valid);
            });
        });
    }
    group.finish();
}

fn requests(bench: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let (ca, role) = (Ca::root(&runtime, KeySpec::EcP256), role());
    bench.bench_function("sign a request (ML-DSA-44 by P-256)", |bench| {
        bench.iter(|| {
            let csr = Csr::parse(REQUEST).unwrap();
            let plan = role.admit_csr(&csr, None, None, &ca.issuer, NOW).unwrap();
            let made = issue_leaf(plan, serial(4), csr.public_key_spki(), &ca.issuer, &ca.key);
            black_box(runtime.block_on(made).unwrap())
        });
    });
}

fn states(bench: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let ca = Ca::root(&runtime, KeySpec::EcP256);
    let mut group = bench.benchmark_group("crl");
    group.sample_size(10);
    for count in [1_000_u32, 100_000] {
        let entries: Vec<_> = (1..=count)
            .map(|n| {
                let mut octets = [7; 16];
                octets[..4].copy_from_slice(&n.to_be_bytes());
                let reason = RevocationReason::Superseded;
                CrlEntry { serial: Serial::from_random(octets), revoked_at: NOW, reason }
            })
            .collect();
        group.bench_function(count.to_string(), |bench| {
            bench.iter(|| {
                let entries = entries.iter().cloned();
                let made = build_crl(&ca.issuer, &ca.key, 1, NOW, NOW + 1.days(), entries);
                black_box(runtime.block_on(made).unwrap())
            });
        });
    }
    group.finish();
    let request = OcspRequest::parse(&ocsp_request(&ca)).unwrap();
    bench.bench_function("ocsp, signed afresh", |bench| {
        bench.iter(|| {
            let status = [CertStatus::Good];
            let made = respond(&request, &status, &ca.issuer, &ca.key, NOW, NOW + 1.hours(), NOW);
            black_box(runtime.block_on(made).unwrap())
        });
    });
}

/// Asks about one serial number of that CA, whose key is on P-256, by SHA-256.
fn ocsp_request(ca: &Ca) -> Vec<u8> {
    let hash = |octets: &[u8]| [&[4, 32], digest(&SHA256, octets).as_ref()].concat();
    let sha256 = [0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    let key = hash(&ca.key.public_key_der()[26..]);
    let id = [&sha256[..], &hash(ca.issuer.name_der()), &key, &[2, 1, 9]].concat();
    (0..5).fold(id, |inner, _| [vec![0x30, u8::try_from(inner.len()).unwrap()], inner].concat())
}

criterion_group!(benches, by_kind, requests, states);
criterion_main!(benches);
