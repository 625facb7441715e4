//! Writes one of everything that this crate makes into a folder, for linters and other verifiers:
//! `cargo run -p scaivault-pki --example zoo -- DIR`.

use std::{error::Error, fs, path::Path, time::Duration};

use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    CaPlan, CrlEntry, IssueRequest, Issued, Issuer, IssuerUrls, KeyKind, KeyRule, RevocationReason,
    RoleConfig, Serial, Subject, build_crl, issue_intermediate, issue_leaf, issue_root,
    ocsp::{CertStatus, OcspRequest, respond},
    pem,
};
use time::{OffsetDateTime, ext::NumericalDuration as _};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Ca {
    key: SoftwareKey,
    issuer: Issuer,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let dir = std::env::args().nth(1).ok_or("usage: zoo DIR")?;
    #[expect(clippy::disallowed_methods, reason = "other verifiers read the system's clock")]
    let now = OffsetDateTime::now_utc();
    for &spec in KeySpec::ALL.iter().filter(|spec| !matches!(spec, KeySpec::Rsa3072 | KeySpec::Rsa4096)) {
        let dir = Path::new(&dir).join(spec.as_str());
        fs::create_dir_all(&dir)?;
        hierarchy(&dir, spec, now).await?;
    }
    Ok(())
}

async fn hierarchy(dir: &Path, spec: KeySpec, now: OffsetDateTime) -> Result<()> {
    let (key, _) = SoftwareKey::generate(spec)?;
    let plan = CaPlan::root(subject("Zoo Root"), spec, 3650, None, now)?;
    let root = keep(dir, "root", issue_root(plan, serial(1), &key).await?, key)?;
    let (key, _) = SoftwareKey::generate(spec)?;
    let plan = CaPlan::intermediate(subject("Zoo Intermediate"), spec, 1825, Some(0), &root.issuer, now)?;
    let issued = issue_intermediate(plan, serial(2), key.public_key_der(), &root.issuer, &root.key).await?;
    let sub = keep(dir, "sub", issued, key)?;

    // The wildcard is apart: RFC 5280 leaves wildcards undefined, and linters that follow it alone refuse them.
    let leaves = [("leaf", Some("api.zoo.example")), ("nameless", None), ("wildcard", Some("*.zoo.example"))];
    for (n, (file, common_name)) in leaves.into_iter().enumerate() {
        let request = IssueRequest {
            common_name: common_name.map(str::to_owned),
            alt_names: vec!["zoo.example".into()],
            ip_sans: vec!["192.0.2.1".into(), "2001:db8::1".into()],
            ..IssueRequest::default()
        };
        let (key, pkcs8) = SoftwareKey::generate(spec)?;
        let plan = role(spec).compile()?.admit(&request, &sub.issuer, now)?;
        let serial = serial(3 + u8::try_from(n)?);
        let leaf = issue_leaf(plan, serial, key.public_key_der(), &sub.issuer, &sub.key).await?;
        fs::write(dir.join(format!("{file}.pem")), leaf.pem())?;
        fs::write(dir.join(format!("{file}.key")), pem::encode_private_key(&pkcs8).as_bytes())?;
    }
    let reasons = RevocationReason::ALL.iter().zip(10..);
    let entries = reasons.map(|(&reason, n)| CrlEntry { serial: serial(n), revoked_at: now, reason });
    let next = now + 7.days();
    fs::write(dir.join("root.crl"), build_crl(&root.issuer, &root.key, 1, now, next, [].into_iter()).await?)?;
    fs::write(dir.join("sub.crl"), build_crl(&sub.issuer, &sub.key, 2, now, next, entries).await?)?;
    answers(dir, &sub, now).await
}

/// Answers the request `DIR/req.der`, where OpenSSL has written one from `sub.pem` and `leaf.pem`.
async fn answers(dir: &Path, sub: &Ca, now: OffsetDateTime) -> Result<()> {
    let files = [dir.join("sub.pem"), dir.join("leaf.pem"), dir.join("req.der")];
    let [issuer, leaf, request] = &files;
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["ocsp", "-issuer"]).arg(issuer).arg("-cert").arg(leaf).arg("-reqout").arg(request);
    if !openssl.status()?.success() {
        return Err("openssl ocsp -reqout failed".into());
    }
    let request = OcspRequest::parse(&fs::read(request)?)?;
    let reason = RevocationReason::KeyCompromise;
    let statuses = [
        ("good", CertStatus::Good),
        ("revoked", CertStatus::Revoked { at: now, reason }),
        ("unknown", CertStatus::Unknown),
    ];
    for (name, status) in statuses {
        let answer = respond(&request, &[status], &sub.issuer, &sub.key, now, now + 1.days(), now).await?;
        fs::write(dir.join(format!("{name}.ocsp")), answer)?;
    }
    Ok(())
}

fn keep(dir: &Path, name: &str, issued: Issued, key: SoftwareKey) -> Result<Ca> {
    fs::write(dir.join(format!("{name}.pem")), issued.pem())?;
    let urls = IssuerUrls {
        crl_url: Some(format!("http://pki.zoo.example/{name}/crl")),
        ocsp_url: Some(format!("http://pki.zoo.example/{name}/ocsp")),
    };
    Ok(Ca { issuer: Issuer::from_certificate(&issued.der, urls)?, key })
}

fn role(key: KeySpec) -> RoleConfig {
    RoleConfig {
        name: "zoo".into(),
        allowed_domains: vec!["zoo.example".into(), "*.zoo.example".into()],
        allow_subdomains: false,
        allow_ip_sans: true,
        max_ttl: Duration::from_secs(90 * 86_400),
        default_ttl: Duration::from_secs(30 * 86_400),
        key: KeyRule::Kind(KeyKind::of(key).unwrap_or(KeyKind::EcP256)),
        require_cn: false,
        ..RoleConfig::default()
    }
}

fn subject(common_name: &str) -> Subject {
    Subject {
        common_name: common_name.into(),
        organization: Some("ScaiVault Zoo".into()),
        country: Some("NL".into()),
        ..Subject::default()
    }
}

/// Not random, so that the zoo is the same each time but for its keys.
fn serial(n: u8) -> Serial {
    Serial::from_random([n.wrapping_mul(37); 16])
}
