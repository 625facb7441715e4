//! A hierarchy to test on, and a folder to show it to `openssl` in.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses its part"
)]

use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use scaivault_kms::{KeySpec, Secret, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    CaPlan, IssueRequest, Issued, Issuer, IssuerUrls, KeyKind, KeyRule, Role, RoleConfig, Serial, Subject,
    issue_intermediate, issue_leaf, issue_root,
};
use time::OffsetDateTime;

pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(86_400);
/// The kinds that the tools know, which have no ML-DSA yet.
pub const SPECS: [KeySpec; 5] =
    [KeySpec::EcP256, KeySpec::EcP384, KeySpec::EcP521, KeySpec::Rsa2048, KeySpec::Ed25519];

/// The tools look at the clock, so what they are shown must be valid now.
#[expect(clippy::disallowed_methods, reason = "the verifiers under test read the system's clock")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Serials of which none comes twice in a process.
pub fn serial() -> Serial {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    Serial::from_random([NEXT.fetch_add(1, Ordering::Relaxed); 16])
}

pub struct Ca {
    pub issued: Issued,
    pub issuer: Issuer,
    pub key: SoftwareKey,
}

impl Ca {
    fn new(issued: Issued, key: SoftwareKey, name: &str) -> Self {
        let urls = IssuerUrls {
            crl_url: Some(format!("http://pki.test/{name}/crl")),
            ocsp_url: Some(format!("http://pki.test/{name}/ocsp")),
        };
        Self { issuer: Issuer::from_certificate(&issued.der, urls).unwrap(), issued, key }
    }

    pub async fn root(spec: KeySpec, max_path_length: Option<u8>) -> Self {
        let (key, _) = SoftwareKey::generate(spec).unwrap();
        let plan = CaPlan::root(subject("Test Root"), spec, 3650, max_path_length, now()).unwrap();
        Self::new(issue_root(plan, serial(), &key).await.unwrap(), key, "root")
    }

    pub async fn below(&self, name: &str, spec: KeySpec) -> Self {
        let (key, _) = SoftwareKey::generate(spec).unwrap();
        let plan = CaPlan::intermediate(subject(name), spec, 1825, None, &self.issuer, now()).unwrap();
        let issued = issue_intermediate(plan, serial(), key.public_key_der(), &self.issuer, &self.key).await;
        Self::new(issued.unwrap(), key, "intermediate")
    }

    pub async fn leaf(&self, spec: KeySpec, request: &IssueRequest) -> (Issued, Secret) {
        let (key, pkcs8) = SoftwareKey::generate(spec).unwrap();
        let plan = role(spec).admit(request, &self.issuer, now()).unwrap();
        let issued = issue_leaf(plan, serial(), key.public_key_der(), &self.issuer, &self.key).await;
        (issued.unwrap(), pkcs8)
    }
}

pub fn subject(common_name: &str) -> Subject {
    Subject {
        common_name: common_name.to_owned(),
        organization: Some("Zoë & Söhne".to_owned()),
        organizational_unit: Some("Vault".to_owned()),
        country: Some("NL".to_owned()),
        state: None,
        locality: Some("Utrecht".to_owned()),
    }
}

pub fn config(key: KeySpec) -> RoleConfig {
    RoleConfig {
        name: "svc".to_owned(),
        allowed_domains: vec!["*.svc.test".to_owned(), "svc.test".to_owned()],
        allow_subdomains: false,
        allow_ip_sans: true,
        max_ttl: 30 * DAY,
        default_ttl: 7 * DAY,
        key: KeyRule::Kind(KeyKind::of(key).unwrap()),
        require_cn: false,
        ..RoleConfig::default()
    }
}

pub fn role(key: KeySpec) -> Role {
    config(key).compile().unwrap()
}

pub fn request(common_name: &str) -> IssueRequest {
    IssueRequest { common_name: Some(common_name.to_owned()), ..IssueRequest::default() }
}

/// A folder of files to run `openssl` in.
pub struct Bench(tempfile::TempDir);

impl Bench {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs `openssl` with arguments set apart by spaces; whether it was content, and all it said.
    pub fn openssl(&self, arguments: &str) -> (bool, String) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("these tests need the `openssl` command, 3.0 or later");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Runs `openssl`, which must be content.
    pub fn ok(&self, arguments: &str) -> String {
        let (content, said) = self.openssl(arguments);
        assert!(content, "openssl {arguments}\n{said}");
        said
    }
}
