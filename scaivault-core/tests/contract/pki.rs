//! Certificates.

use std::time::Duration;

use base64::Engine as _;
use scaivault_core::{
    Code, Ctx, Scope, Vault,
    pki::{
        Ca, CaCreate, CaImport, CaRekey, CaType, CertificateFilter, IssueWrite, IssuedCertificate, KeyType,
        PrivateKeyPem, Revocation, RevocationReason, RevokeWrite, RolePatch, RoleWrite, SubjectFields,
    },
};
use scaivault_pki::{
    Certificate, TrustAnchor, pem, validate,
    validate::{Evidence, OcspEvidence, Reason, ReferenceName, RevocationMode, Rules},
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::bench::{Bench, DAY, HOUR, code, contract, refusal, root_key};

pub(crate) fn root_write(name: &str) -> CaCreate {
    CaCreate { key_type: Some(KeyType::Ec), ..CaCreate::new(name, format!("{name} CN"), CaType::Root) }
}

pub(crate) async fn root(vault: &Vault, ctx: &Ctx, name: &str) -> Ca {
    vault.pki(ctx).create_ca(root_write(name)).await.unwrap()
}

pub(crate) fn below(parent: &Ca, name: &str) -> CaCreate {
    CaCreate { ca_type: CaType::Intermediate, parent_ca_id: Some(parent.id.clone()), ..root_write(name) }
}

pub(crate) fn import(name: &str, certificate: &str, key: &str) -> CaImport {
    CaImport {
        crl_shards: None,
        delta_crls: false,
        keep_expired_on_crl: false,
        name: name.to_owned(),
        certificate_pem: certificate.to_owned(),
        private_key_pem: Some(PrivateKeyPem::new(Zeroizing::new(key.to_owned()))),
        key_provider: None,
        key_ref: None,
        chain_pem: Vec::new(),
        crl_number: 0,
        crl_pem: None,
    }
}

pub(crate) fn rekey(name: &str) -> CaRekey {
    CaRekey {
        crl_shards: None,
        delta_crls: None,
        keep_expired_on_crl: None,
        name: name.to_owned(),
        key_type: None,
        key_size: None,
        key_provider: None,
        key_ref: None,
        validity_days: None,
    }
}

pub(crate) fn role_write(name: &str, ca_id: &str) -> RoleWrite {
    let settings = RolePatch {
        allowed_domains: Some(vec!["*.svc.test".to_owned()]),
        allow_ip_sans: Some(true),
        ..RolePatch::default()
    };
    RoleWrite::new(name, ca_id, settings)
}

pub(crate) async fn role(vault: &Vault, ctx: &Ctx, name: &str, ca_id: &str) {
    vault.pki(ctx).create_role(role_write(name, ca_id)).await.unwrap();
}

pub(crate) fn revocation(serial: &str) -> RevokeWrite {
    RevokeWrite { serial_number: serial.to_owned(), ca_id: None, reason: RevocationReason::KeyCompromise }
}

/// A folder of files for `openssl`.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn add(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    /// Runs `openssl` in the folder; gives whether it agreed, and all it said.
    pub(crate) fn openssl(&self, arguments: &str) -> (bool, String) {
        let mut command = std::process::Command::new("openssl");
        let done = command.args(arguments.split(' ')).current_dir(self.0.path()).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    pub(crate) fn agrees(&self, arguments: &str) -> String {
        let (agreed, said) = self.openssl(arguments);
        assert!(agreed, "openssl {arguments}: {said}");
        said
    }
}

pub(crate) fn wanted(name: &str) -> IssueWrite {
    IssueWrite { common_name: Some(name.to_owned()), ..IssueWrite::default() }
}

/// A root, an intermediate below it and a role of that.
pub(crate) async fn walk(t: &Bench) -> (Ca, Ca) {
    let admin = t.admin();
    let top = root(&t.vault, &admin, "Top").await;
    let mid = t.vault.pki(&admin).create_ca(below(&top, "Mid")).await.unwrap();
    role(&t.vault, &admin, "web", &mid.id).await;
    (top, mid)
}

pub(crate) async fn issue(t: &Bench, name: &str) -> IssuedCertificate {
    t.vault.pki(&t.admin()).issue("web", wanted(name)).await.unwrap()
}

pub(crate) async fn revoke(t: &Bench, serial: &str, reason: RevocationReason) -> Revocation {
    let write = RevokeWrite { reason, ..revocation(serial) };
    t.vault.pki(&t.admin()).revoke(write).await.unwrap()
}

/// What stands in a CRL, as `openssl` reads it.
pub(crate) fn read_crl(files: &Files, der: &[u8]) -> String {
    files.add("read.crl", der);
    files.agrees("crl -inform DER -in read.crl -noout -text")
}

pub(crate) async fn crl_text(t: &Bench, ca: &Ca) -> String {
    read_crl(&Files::new(), &t.vault.public_pki().crl(&ca.id).await.unwrap().der)
}

/// What OCSP says of the leaf, as `openssl` reads and verifies it.
pub(crate) async fn ocsp(t: &Bench, top: &Ca, mid: &Ca, leaf: &str) -> String {
    let files = Files::new();
    let pki = t.vault.clone();
    let admin = t.admin();
    let (top, mid_pem) = (
        pki.pki(&admin).ca_certificate(&top.id).await.unwrap(),
        pki.pki(&admin).ca_certificate(&mid.id).await.unwrap(),
    );
    files.add("top.pem", top.certificate_pem);
    files.add("mid.pem", mid_pem.certificate_pem);
    files.add("leaf.pem", leaf);
    files.agrees("ocsp -issuer mid.pem -cert leaf.pem -reqout ask.der");
    let answer = t.vault.public_pki().ocsp(&mid.id, &files.read("ask.der")).await.unwrap();
    read_answer(t, &files, &answer.der)
}

/// What OCSP says of a serial number of `mid`.
pub(crate) async fn ocsp_of_serial(t: &Bench, top: &Ca, mid: &Ca, serial: &str) -> String {
    let (files, admin, hex) = (Files::new(), t.admin(), serial.replace(':', ""));
    for (name, ca) in [("top.pem", top), ("mid.pem", mid)] {
        files.add(name, t.vault.pki(&admin).ca_certificate(&ca.id).await.unwrap().certificate_pem);
    }
    files.agrees(&format!("ocsp -issuer mid.pem -serial 0x{hex} -reqout ask.der"));
    let answer = t.vault.public_pki().ocsp(&mid.id, &files.read("ask.der")).await.unwrap();
    files.add("answer.der", &answer.der);
    let at = t.now().unix_timestamp();
    let trust = format!(
        "-CAfile top.pem -partial_chain -verify_other mid.pem -attime {at} -validity_period 1000000000"
    );
    files.agrees(&format!("ocsp -respin answer.der -issuer mid.pem -serial 0x{hex} -no_nonce {trust}"))
}

fn read_answer(t: &Bench, files: &Files, answer: &[u8]) -> String {
    files.add("answer.der", answer);
    let at = t.now().unix_timestamp();
    // The validity of the answer is measured by the real clock: let it be far off.
    let trust = format!(
        "-CAfile top.pem -partial_chain -verify_other mid.pem -attime {at} -validity_period 1000000000"
    );
    files.agrees(&format!(
        "ocsp -resp_text -respin answer.der -issuer mid.pem -cert leaf.pem -no_nonce {trust}"
    ))
}

/// The octets of a nonce of 16, behind its identifier.
fn nonce_of(request: &[u8]) -> Vec<u8> {
    const NONCE: &[u8] = &[6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2, 4, 0x12, 4, 0x10];
    let at = request.windows(NONCE.len()).position(|window| window == NONCE).unwrap() + NONCE.len();
    request[at..at + 16].to_vec()
}

async fn a_chain_verifies(t: Bench, key_type: KeyType, bits: Option<u32>) {
    let admin = t.admin();
    let pki = t.vault.pki(&admin);
    let with = |write: CaCreate| CaCreate { key_type: Some(key_type), key_size: bits, ..write };
    let top = pki.create_ca(with(root_write("Top"))).await.unwrap();
    let mid = pki.create_ca(with(below(&top, "Mid"))).await.unwrap();
    assert_eq!((mid.key_type, mid.key_size, mid.parent_ca_id.as_ref()), (key_type, bits, Some(&top.id)));
    let keys = RolePatch { key_type: Some(key_type), key_bits: bits, ..RolePatch::default() };
    pki.create_role(role_write("web", &mid.id)).await.unwrap();
    pki.patch_role("web", keys).await.unwrap();
    let request = IssueWrite {
        alt_names: vec!["b.svc.test".to_owned()],
        ip_sans: vec!["10.0.0.1".to_owned(), "2001:db8::1".to_owned()],
        ..wanted("a.svc.test")
    };
    let leaf = pki.issue("web", request).await.unwrap();
    assert_eq!(leaf.ca_chain.len(), 2);
    let certificate = pki.ca_certificate(&mid.id).await.unwrap();
    assert_eq!(certificate.certificate_pem, leaf.ca_chain[0], "the issuer first");
    assert_eq!(certificate.chain_pem, leaf.ca_chain[1], "the root last");

    let files = Files::new();
    files.add("leaf.pem", &leaf.certificate);
    files.add("leaf.key", leaf.private_key.as_ref().unwrap().expose());
    files.add("mid.pem", &leaf.ca_chain[0]);
    files.add("top.pem", &leaf.ca_chain[1]);
    let mut lists = String::new();
    for ca in [&top, &mid] {
        lists += &t.vault.public_pki().crl(&ca.id).await.unwrap().pem();
    }
    files.add("lists.pem", &lists);
    let verify = |at: time::OffsetDateTime| {
        let at = at.unix_timestamp();
        format!(
            "verify -x509_strict -crl_check_all -CRLfile lists.pem -CAfile top.pem -untrusted mid.pem -attime {at} leaf.pem"
        )
    };
    files.agrees(&verify(t.now()));
    let (named, _) =
        files.openssl(&verify(t.now()).replace("verify ", "verify -verify_hostname b.svc.test "));
    let (misnamed, _) =
        files.openssl(&verify(t.now()).replace("verify ", "verify -verify_hostname c.svc.test "));
    assert!(named && !misnamed);
    let public = |of: &str| files.agrees(of);
    assert_eq!(
        public("x509 -in leaf.pem -noout -pubkey"),
        public("pkey -in leaf.key -pubout"),
        "the key fits"
    );
    let text = files.agrees("x509 -in leaf.pem -noout -text");
    for expected in [
        "CN = a.svc.test",
        "DNS:a.svc.test, DNS:b.svc.test, IP Address:10.0.0.1, IP Address:2001:DB8:0:0:0:0:0:1",
        &format!("URI:https://vault.test/v1/pki/ca/{}/crl", mid.id),
        &format!("OCSP - URI:https://vault.test/v1/pki/ocsp/{}", mid.id),
        "CA:FALSE",
        "TLS Web Server Authentication, TLS Web Client Authentication",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // After it was revoked, and the list built, the same command refuses it.
    pki.revoke(revocation(&leaf.serial_number)).await.unwrap();
    let list = pki.build_crl(&mid.id).await.unwrap();
    let top_list = t.vault.public_pki().crl(&top.id).await.unwrap().pem();
    files.add("lists.pem", list.crl_pem + &top_list);
    let (agreed, said) = files.openssl(&verify(t.now()));
    assert!(!agreed && said.contains("certificate revoked"), "{said}");
}

contract! {
    async fn what_expired_longer_ago_than_records_are_kept_is_forgotten(t: Bench) {
        let (_, mid) = walk(&t).await;
        let old = issue(&t, "old.svc.test").await;
        let rows = async |of: &str| {
            let register = t.raw.count(&format!("pki_serial WHERE certificate_id = '{of}'")).await;
            (register, t.raw.count(&format!("pki_certificate WHERE id = '{of}'")).await)
        };
        // Kept for 2,557 days after its end, which is a day or so from now.
        t.clock.advance(DAY * 2500);
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(rows(&old.id).await, (1, 1));
        assert_eq!(t.vault.pki(&t.admin()).certificate(&old.id).await.unwrap().status, "expired");
        t.clock.advance(DAY * 100);
        let role = role_write("late", &root(&t.vault, &t.admin(), "Late").await.id);
        t.vault.pki(&t.admin()).create_role(role).await.unwrap();
        let young = t.vault.pki(&t.admin()).issue("late", wanted("young.svc.test")).await.unwrap();
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(rows(&old.id).await, (0, 0));
        assert_eq!(code(t.vault.pki(&t.admin()).certificate(&old.id).await), Code::CertificateNotFound);
        assert_eq!(rows(&young.id).await, (1, 1));
        assert_eq!(t.vault.pki(&t.admin()).certificate(&young.id).await.unwrap().status, "active");
        // Its issuer is there still, and still knows how many it issued.
        assert!(t.vault.pki(&t.admin()).ca(&mid.id).await.unwrap().valid_until > old.not_after);
    }

    async fn a_chain_of_p256_keys_verifies(t: Bench) {
        a_chain_verifies(t, KeyType::Ec, Some(256)).await;
    }

    async fn a_chain_of_p384_keys_verifies(t: Bench) {
        a_chain_verifies(t, KeyType::Ec, Some(384)).await;
    }

    async fn a_chain_of_p521_keys_verifies(t: Bench) {
        a_chain_verifies(t, KeyType::Ec, Some(521)).await;
    }

    async fn a_chain_of_ed25519_keys_verifies(t: Bench) {
        a_chain_verifies(t, KeyType::Ed25519, None).await;
    }

    async fn a_chain_of_ml_dsa_keys_verifies_and_the_revoked_do_not(t: Bench) {
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let with = |key_type, write| CaCreate { key_type: Some(key_type), key_size: None, ..write };
        let top = pki.create_ca(with(KeyType::MlDsa87, root_write("Top"))).await.unwrap();
        let mid = pki.create_ca(with(KeyType::MlDsa65, below(&top, "Mid"))).await.unwrap();
        assert_eq!((top.key_type, mid.key_type, mid.key_size), (KeyType::MlDsa87, KeyType::MlDsa65, None));
        let key_type = KeyType::MlDsa44;
        pki.create_role(RoleWrite { key_type, key_bits: None, ..role_write("web", &mid.id) }).await.unwrap();
        let leaf = issue(&t, "a.svc.test").await;
        let files = Files::new();
        files.add("leaf.pem", &leaf.certificate);
        files.add("mid.pem", &leaf.ca_chain[0]);
        files.agrees("ocsp -issuer mid.pem -cert leaf.pem -reqout ask.der");
        let public = t.vault.public_pki();
        let judge = async |list: bool| {
            let mut evidence = Evidence::default();
            evidence.crls.push(public.crl(&top.id).await.unwrap().der);
            if list {
                evidence.crls.push(public.crl(&mid.id).await.unwrap().der);
            } else {
                let der = public.ocsp(&mid.id, &files.read("ask.der")).await.unwrap().der;
                // OpenSSL asks with a nonce, which is what the answer is bound to.
                let nonce = nonce_of(&files.read("ask.der"));
                evidence.ocsp.push(OcspEvidence { der, nonce: Some(nonce) });
            }
            let read = |pem: &str| pem::parse_certificates(pem).unwrap().remove(0);
            let certificate = |pem: &str| Certificate::from_der(&read(pem)).unwrap();
            let anchors = [TrustAnchor::from_der(&read(&leaf.ca_chain[1])).unwrap()];
            let rules = Rules {
                names: vec![ReferenceName::dns("a.svc.test").unwrap()],
                revocation: RevocationMode::Require,
                ..Rules::at(t.now())
            };
            let bag = [certificate(&leaf.ca_chain[0])];
            let verdict = validate(&certificate(&leaf.certificate), &bag, &anchors, &evidence, &rules);
            verdict.errors.iter().map(|failure| failure.reason).collect::<Vec<_>>()
        };
        assert_eq!((judge(true).await, judge(false).await), (vec![], vec![]));
        pki.revoke(revocation(&leaf.serial_number)).await.unwrap();
        pki.build_crl(&mid.id).await.unwrap();
        assert_eq!((judge(true).await, judge(false).await), (vec![Reason::Revoked], vec![Reason::Revoked]));
    }

    async fn a_chain_of_rsa_keys_verifies(t: Bench) {
        a_chain_verifies(t, KeyType::Rsa, Some(2048)).await;
    }

    async fn a_ca_says_what_it_is(t: Bench) {
        let (top, mid) = walk(&t).await;
        issue(&t, "a.svc.test").await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        assert!(top.id.starts_with("ca_root_") && mid.id.starts_with("ca_intermediate_"));
        assert_eq!((top.ca_type, top.parent_ca_id.as_deref(), top.is_active), (CaType::Root, None, true));
        assert_eq!((top.name.as_str(), top.common_name.as_str()), ("Top", "Top CN"));
        assert_eq!(top.crl_url, Some(format!("https://vault.test/v1/pki/ca/{}/crl", top.id)));
        assert_eq!(top.ocsp_url, Some(format!("https://vault.test/v1/pki/ocsp/{}", top.id)));
        let issued = async |ca: &Ca| pki.ca(&ca.id).await.unwrap().certificates_issued;
        assert_eq!((issued(&top).await, issued(&mid).await), (1, 1), "its own certificate is not one it issued");
        // What is counted once is not counted again, and what comes later is added.
        t.clock.advance(HOUR);
        t.vault.pki(&t.admin()).build_crl(&mid.id).await.unwrap();
        assert_eq!(t.raw.texts("SELECT CAST(counted AS TEXT) FROM pki_ca ORDER BY counted").await, ["0", "1"]);
        issue(&t, "b.svc.test").await;
        assert_eq!((issued(&top).await, issued(&mid).await), (1, 2));
        let mut all: Vec<_> = pki.cas(None, None).await.unwrap().items.into_iter().map(|ca| ca.name).collect();
        all.sort_unstable();
        assert_eq!(all, ["Mid", "Top"]);
        let first = pki.cas(Some(1), None).await.unwrap();
        let second = pki.cas(Some(1), first.cursor.clone()).await.unwrap();
        assert!(first.has_more() && !second.has_more());
        assert_ne!(first.items[0].id, second.items[0].id);
    }

    async fn a_ca_that_means_nothing_is_refused_with_every_field(t: Bench) {
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let bad = CaCreate { parent_ca_id: Some("ca_x".to_owned()), key_size: Some(512), ..root_write("*") };
        let error = refusal(pki.create_ca(bad).await);
        assert_eq!(error.code(), Code::ValidationError);
        assert_eq!(error.details().fields.keys().collect::<Vec<_>>(), ["key_size", "name", "parent_ca_id"]);
        let orphan = CaCreate { ca_type: CaType::Intermediate, ..root_write("Mid") };
        assert!(refusal(pki.create_ca(orphan).await).details().fields.contains_key("parent_ca_id"));
        for bad in [
            CaCreate { common_name: String::new(), ..root_write("Top") },
            CaCreate { common_name: "a\0b".to_owned(), ..root_write("Top") },
            CaCreate { common_name: "x".repeat(65), ..root_write("Top") },
            CaCreate { validity_days: Some(0), ..root_write("Top") },
            CaCreate { validity_days: Some(u32::MAX), ..root_write("Top") },
            CaCreate { subject: SubjectFields { country: Some("Netherlands".to_owned()), ..SubjectFields::default() }, ..root_write("Top") },
        ] {
            let error = refusal(pki.create_ca(bad.clone()).await);
            assert_eq!(error.code(), Code::ValidationError, "{bad:?}");
            assert!(!error.details().fields.is_empty(), "{bad:?}");
        }
        assert_eq!(t.raw.count("pki_ca").await, 0);
    }

    async fn a_child_ends_with_its_parent_at_the_latest(t: Bench) {
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let top = pki.create_ca(CaCreate { validity_days: Some(10), ..root_write("Top") }).await.unwrap();
        let mid = pki.create_ca(CaCreate { validity_days: Some(5000), ..below(&top, "Mid") }).await.unwrap();
        assert_eq!(mid.valid_until, top.valid_until);
        role(&t.vault, &admin, "web", &mid.id).await;
        t.clock.advance(DAY * 5);
        let later = t.admin();
        let write = IssueWrite { ttl: Some("720h".parse().unwrap()), ..wanted("a.svc.test") };
        let error = refusal(t.vault.pki(&later).issue("web", write).await);
        assert_eq!(error.details().fields.keys().collect::<Vec<_>>(), ["ttl"], "what is asked for is not cut silently");
        let leaf = t.vault.pki(&later).issue("web", wanted("a.svc.test")).await.unwrap();
        assert_eq!(leaf.not_after, mid.valid_until, "the default is");
    }

    async fn no_path_is_longer_than_a_ca_allows(t: Bench) {
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let top = pki.create_ca(CaCreate { max_path_length: Some(1), ..root_write("Top") }).await.unwrap();
        let mid = pki.create_ca(below(&top, "Mid")).await.unwrap();
        assert_eq!(code(pki.create_ca(below(&mid, "Low")).await), Code::ValidationError);
        assert_eq!(t.raw.count("pki_ca").await, 2);
    }

    async fn every_reason_is_in_ocsp_at_once_and_in_the_next_list(t: Bench) {
        let (top, mid) = walk(&t).await;
        let mut revoked = Vec::new();
        for reason in RevocationReason::ALL {
            let leaf = issue(&t, "a.svc.test").await;
            assert!(ocsp(&t, &top, &mid, &leaf.certificate).await.contains("leaf.pem: good"));
            let told = revoke(&t, &leaf.serial_number, *reason).await;
            assert_eq!((told.serial_number.as_str(), told.revocation_reason.as_str()), (leaf.serial_number.as_str(), reason.as_str()));
            let said = ocsp(&t, &top, &mid, &leaf.certificate).await;
            assert!(said.contains("Response verify OK") && said.contains("leaf.pem: revoked"), "{said}");
            revoked.push((*reason, leaf.serial_number, said));
        }
        let alive = issue(&t, "alive.svc.test").await;
        assert!(!crl_text(&t, &mid).await.contains("Serial Number:"), "the published list is as it was");
        let list = t.vault.pki(&t.admin()).build_crl(&mid.id).await.unwrap();
        assert_eq!(list.crl_number, 2);
        let text = crl_text(&t, &mid).await;
        for (reason, serial, said) in revoked {
            let entry = text.split("Serial Number: ").find(|entry| entry.starts_with(&serial.replace(':', ""))).unwrap();
            let name = match reason {
                RevocationReason::Unspecified => None,
                RevocationReason::KeyCompromise => Some(("Key Compromise", "(0x1)")),
                RevocationReason::CaCompromise => Some(("CA Compromise", "(0x2)")),
                RevocationReason::AffiliationChanged => Some(("Affiliation Changed", "(0x3)")),
                RevocationReason::Superseded => Some(("Superseded", "(0x4)")),
                RevocationReason::CessationOfOperation => Some(("Cessation Of Operation", "(0x5)")),
                RevocationReason::CertificateHold => Some(("Certificate Hold", "(0x6)")),
                RevocationReason::PrivilegeWithdrawn => Some(("Privilege Withdrawn", "(0x9)")),
                RevocationReason::AaCompromise => Some(("AA Compromise", "(0xa)")),
            };
            match name {
                None => assert!(!entry.contains("CRL Reason Code") && !said.contains("Reason"), "{entry} {said}"),
                Some((in_list, in_answer)) => {
                    assert!(entry.contains(in_list), "{entry}");
                    assert!(said.contains("Revocation Reason: ") && said.contains(in_answer), "{said}");
                }
            }
        }
        assert!(!text.contains(&alive.serial_number.replace(':', "")));
    }

    async fn a_serial_that_was_never_issued_is_unknown_and_a_strangers_request_is_refused(t: Bench) {
        let (top, mid) = walk(&t).await;
        let leaf = issue(&t, "a.svc.test").await;
        // Past the vault: as if it had never been.
        t.raw.execute(&format!("DELETE FROM pki_serial WHERE certificate_id = '{}'", leaf.id)).await;
        assert!(ocsp(&t, &top, &mid, &leaf.certificate).await.contains("leaf.pem: unknown"));
        let public = t.vault.public_pki();
        for garbage in [&b""[..], b"x", &[0x30; 3000]] {
            assert_eq!(public.ocsp(&mid.id, garbage).await.unwrap().der, [0x30, 3, 0x0a, 1, 1], "malformedRequest");
        }
        assert_eq!(public.ocsp_get(&mid.id, "!").await.unwrap().der, [0x30, 3, 0x0a, 1, 1]);
        assert_eq!(code(public.ocsp("ca_x", b"").await), Code::CaNotFound);
        assert_eq!(code(public.crl("ca_x").await), Code::CaNotFound);
        let files = Files::new();
        files.add("mid.pem", &leaf.ca_chain[0]);
        files.add("leaf.pem", &leaf.certificate);
        files.agrees("ocsp -issuer mid.pem -cert leaf.pem -no_nonce -reqout ask.der");
        let asked = files.read("ask.der");
        assert_eq!(public.ocsp(&top.id, &asked).await.unwrap().der, [0x30, 3, 0x0a, 1, 6], "unauthorized: not its certificate");
        let by_path = public.ocsp_get(&mid.id, &base64::engine::general_purpose::STANDARD.encode(&asked)).await.unwrap();
        files.add("top.pem", &leaf.ca_chain[1]);
        assert!(read_answer(&t, &files, &by_path.der).contains("leaf.pem: unknown"));
    }

    async fn revoking_again_changes_nothing_and_says_what_was(t: Bench) {
        let (top, mid) = walk(&t).await;
        let leaf = issue(&t, "a.svc.test").await;
        let first = revoke(&t, &leaf.serial_number, RevocationReason::Superseded).await;
        t.clock.advance(HOUR);
        for spelling in [leaf.serial_number.clone(), leaf.serial_number.to_lowercase().replace(':', "")] {
            assert_eq!(revoke(&t, &spelling, RevocationReason::KeyCompromise).await, first);
        }
        assert!(ocsp(&t, &top, &mid, &leaf.certificate).await.contains("Reason: superseded"));
        let by_other = RevokeWrite { ca_id: Some(top.id.clone()), ..revocation(&leaf.serial_number) };
        assert_eq!(code(t.vault.pki(&t.admin()).revoke(by_other).await), Code::CertificateNotFound);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.revoked'").await, 1);
    }

    async fn the_number_of_a_list_only_rises(t: Bench) {
        let (top, mid) = walk(&t).await;
        for n in 2..=4 {
            t.clock.advance(Duration::from_secs(1));
            let list = t.vault.pki(&t.admin()).build_crl(&top.id).await.unwrap();
            assert_eq!((list.crl_number, list.this_update), (n, t.now()));
            assert_eq!(list.next_update - list.this_update, scaivault_core::limits::CRL_VALIDITY);
            let public = t.vault.public_pki().crl(&top.id).await.unwrap();
            assert_eq!((public.this_update, public.next_update, public.pem()), (list.this_update, list.next_update, list.crl_pem));
        }
        assert_eq!(t.vault.pki(&t.admin()).build_crl(&mid.id).await.unwrap().crl_number, 2, "each CA counts for itself");
        // Several at once: all succeed, no number twice, and the newest is published.
        let tasks: Vec<_> = (0..4).map(|_| {
            let t = t.clone();
            let id = top.id.clone();
            tokio::spawn(async move { t.vault.pki(&t.admin()).build_crl(&id).await.map(|list| list.crl_number) })
        }).collect();
        let mut numbers = Vec::new();
        for task in tasks {
            numbers.push(task.await.unwrap().unwrap());
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [5, 6, 7, 8]);
        assert!(crl_text(&t, &top).await.replace(char::is_whitespace, "").contains("X509v3CRLNumber:8"));
    }

    async fn every_hour_one_replica_builds_each_list(t: Bench) {
        let (top, mid) = walk(&t).await;
        // A CA outlives the trail that is kept otherwise.
        let second = t.builder(root_key(7)).audit_retention(DAY * 40_000).open().await.unwrap();
        t.clock.advance(HOUR - Duration::from_secs(1));
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count("audit_trail WHERE action = 'pki_crl_build'").await, 0, "not yet");
        t.clock.advance(Duration::from_secs(1));
        let (one, two) = tokio::join!(t.vault.run_due_jobs(), second.run_due_jobs());
        one.and(two).unwrap();
        let built = t.raw.trail("action = 'pki_crl_build'").await;
        assert_eq!(built.len(), 2, "once for each CA: {built:?}");
        assert!(built.iter().all(|r| r.outcome == "ok" && r.identity == "system:crl-builder" && r.extra["crl_number"] == json!(2)));
        assert_eq!(t.vault.public_pki().crl(&top.id).await.unwrap().this_update, t.now());
        assert_eq!(t.vault.public_pki().crl(&mid.id).await.unwrap().this_update, t.now());
        // A run that was missed many times is made up for once; an expired CA has no more lists.
        t.clock.advance(DAY * 2);
        second.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count("audit_trail WHERE action = 'pki_crl_build'").await, 4);
        t.clock.advance(DAY * 4000);
        second.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count("audit_trail WHERE action = 'pki_crl_build'").await, 4);
        second.close().await;
    }

    async fn an_expired_certificate_leaves_the_list_only_after_a_while(t: Bench) {
        let (_, mid) = walk(&t).await;
        let write = IssueWrite { ttl: Some("1h".parse().unwrap()), ..wanted("a.svc.test") };
        let leaf = t.vault.pki(&t.admin()).issue("web", write).await.unwrap();
        revoke(&t, &leaf.serial_number, RevocationReason::KeyCompromise).await;
        let serial = leaf.serial_number.replace(':', "");
        for (hours, listed) in [(2, true), (70, true), (3, false)] {
            t.clock.advance(HOUR * hours);
            t.vault.pki(&t.admin()).build_crl(&mid.id).await.unwrap();
            assert_eq!(crl_text(&t, &mid).await.contains(&serial), listed, "after {hours} hours more");
        }
    }

    async fn revoking_an_intermediate_ends_its_issuing_and_not_its_lists(t: Bench) {
        let (top, mid) = walk(&t).await;
        let leaf = issue(&t, "a.svc.test").await;
        revoke(&t, &mid.serial_number, RevocationReason::CaCompromise).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        assert_eq!(code(pki.issue("web", wanted("b.svc.test")).await), Code::InvalidState);
        assert_eq!(code(pki.create_ca(below(&mid, "Low")).await), Code::InvalidState);
        assert_eq!(code(pki.create_role(role_write("more", &mid.id)).await), Code::InvalidState);
        let shown = pki.ca(&mid.id).await.unwrap();
        assert_eq!((shown.is_active, shown.revoked_at, shown.revocation_reason.as_deref()), (false, Some(t.now()), Some("ca_compromise")));
        let list = pki.build_crl(&top.id).await.unwrap();
        assert_eq!(list.crl_number, 2);
        assert!(crl_text(&t, &top).await.contains(&mid.serial_number.replace(':', "")));
        // What it issued can still be asked for, and is revoked with it.
        pki.build_crl(&mid.id).await.unwrap();
        assert!(ocsp(&t, &top, &mid, &leaf.certificate).await.contains("leaf.pem: revoked"));
        // Another CA takes the role over.
        let next = pki.create_ca(below(&top, "Next")).await.unwrap();
        pki.patch_role("web", RolePatch { ca_id: Some(next.id), ..RolePatch::default() }).await.unwrap();
        issue(&t, "b.svc.test").await;
    }

    async fn a_root_is_not_revoked(t: Bench) {
        let (top, _) = walk(&t).await;
        assert_eq!(code(t.vault.pki(&t.admin()).revoke(revocation(&top.serial_number)).await), Code::InvalidState);
        let shown = t.vault.pki(&t.admin()).ca(&top.id).await.unwrap();
        assert_eq!((shown.is_active, shown.revoked_at), (true, None));
        assert_eq!(t.raw.count("pki_serial WHERE revoked_at IS NOT NULL").await, 0);
    }

    async fn a_role_is_stored_changed_and_deleted(t: Bench) {
        let (_, mid) = walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let made = pki.role("web").await.unwrap();
        let config = serde_json::to_value(&made.config).unwrap();
        assert_eq!(config, json!({
            "name": "web", "ca_id": mid.id, "allowed_domains": ["*.svc.test"], "allow_subdomains": false, "allow_ip_sans": true,
            "max_ttl": "720h", "default_ttl": "168h", "key_type": "ec", "key_bits": 256, "require_cn": true,
            "client_flag": true, "server_flag": true, "store_private_keys": false, "allow_wildcards": true,
            "allowed_dns_globs": [], "allowed_ip_ranges": [], "allowed_emails": [], "allowed_uris": [],
            "extended_key_usages": [], "subject": {}, "allowed_subject_fields": [], "backdate": "5m",
            "past_issuer_end": "error", "no_store": false,
        }));
        assert_eq!(code(pki.create_role(role_write("web", &mid.id)).await), Code::NameConflict);
        t.clock.advance(HOUR);
        let change = RolePatch { key_type: Some(KeyType::Rsa), max_ttl: Some("1d".parse().unwrap()), default_ttl: Some("1h".parse().unwrap()), ..RolePatch::default() };
        let later = t.admin();
        let changed = t.vault.pki(&later).patch_role("web", change).await.unwrap();
        assert_eq!((changed.config.key_bits, changed.config.max_ttl.as_str()), (Some(2048), "1d"));
        assert_eq!((changed.created_at, changed.updated_at), (made.created_at, t.now()));
        assert_eq!(code(pki.patch_role("web", RolePatch { key_bits: Some(1024), ..RolePatch::default() }).await), Code::InvalidRole);
        assert_eq!(code(pki.patch_role("web", RolePatch { ca_id: Some("x".to_owned()), ..RolePatch::default() }).await), Code::CaNotFound);
        assert_eq!(pki.role("web").await.unwrap(), changed);
        role(&t.vault, &admin, "api", &mid.id).await;
        let names: Vec<_> = pki.roles(None, None).await.unwrap().items.into_iter().map(|r| r.config.name).collect();
        assert_eq!(names, ["api", "web"]);
        let first = pki.roles(Some(1), None).await.unwrap();
        assert_eq!(pki.roles(Some(1), first.cursor).await.unwrap().items[0].config.name, "web");
        pki.delete_role("web").await.unwrap();
        assert_eq!(code(pki.role("web").await), Code::RoleNotFound);
        assert_eq!(code(pki.issue("web", wanted("a.svc.test")).await), Code::RoleNotFound);
    }

    async fn a_role_that_means_nothing_names_every_field(t: Bench) {
        let (_, mid) = walk(&t).await;
        let admin = t.admin();
        let bad = RoleWrite {
            allowed_domains: vec!["*".to_owned(), "a b".to_owned()],
            max_ttl: "1h".parse().unwrap(),
            default_ttl: Some("2h".parse().unwrap()),
            key_bits: Some(512),
            client_flag: false,
            server_flag: false,
            ..role_write("no/name", &mid.id)
        };
        let error = refusal(t.vault.pki(&admin).create_role(bad).await);
        assert_eq!(error.code(), Code::InvalidRole);
        let fields: Vec<&str> = error.details().fields.keys().map(String::as_str).collect();
        for field in ["allowed_domains[0]", "allowed_domains[1]", "default_ttl", "key_bits", "name"] {
            assert!(fields.contains(&field), "{field}: {fields:?}");
        }
        assert!(fields.iter().any(|field| field.ends_with("_flag")), "{fields:?}");
        assert_eq!(t.raw.count("pki_role").await, 1);
    }

    async fn a_request_beyond_the_role_is_refused_with_every_rule_it_breaks(t: Bench) {
        walk(&t).await;
        let admin = t.admin();
        let deny_ip = RolePatch { allow_ip_sans: Some(false), ..RolePatch::default() };
        t.vault.pki(&admin).patch_role("web", deny_ip).await.unwrap();
        let write = IssueWrite {
            common_name: Some("evil.test".to_owned()),
            alt_names: vec!["a.svc.test".to_owned(), "svc.test".to_owned(), "a.b.svc.test".to_owned(), "*.svc.other".to_owned()],
            ip_sans: vec!["10.0.0.1".to_owned(), "300.0.0.1".to_owned()],
            ttl: Some("721h".parse().unwrap()),
            ..IssueWrite::default()
        };
        let error = refusal(t.vault.pki(&admin).issue("web", write).await);
        assert_eq!(error.code(), Code::ValidationError);
        let fields: Vec<&str> = error.details().fields.keys().map(String::as_str).collect();
        assert_eq!(fields, ["alt_names[1]", "alt_names[2]", "alt_names[3]", "common_name", "ip_sans[0]", "ip_sans[1]", "ttl"]);
        let error = refusal(t.vault.pki(&admin).issue("web", IssueWrite::default()).await);
        assert!(error.details().fields.contains_key("common_name"));
        assert_eq!(t.raw.count("pki_certificate WHERE source = 'internal'").await, 0);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.issued'").await, 0);
    }

    async fn a_narrow_policy_issues_from_its_role_and_does_nothing_else(t: Bench) {
        let (_, mid) = walk(&t).await;
        role(&t.vault, &t.admin(), "other", &mid.id).await;
        t.grant("sa:billing", "pki/issue/web", &["read"]).await;
        let ctx = || t.scoped("sa:billing", &[Scope::PkiIssue]);
        let leaf = t.vault.pki(&ctx()).issue("web", wanted("a.svc.test")).await.unwrap();
        assert_eq!(code(t.vault.pki(&ctx()).issue("other", wanted("a.svc.test")).await), Code::AccessDenied);
        assert_eq!(code(t.vault.pki(&ctx()).certificate_with_key(&leaf.id).await), Code::InsufficientScope);
        assert_eq!(code(t.vault.pki(&ctx()).revoke(revocation(&leaf.serial_number)).await), Code::InsufficientScope);
        let shown = t.vault.pki(&ctx()).certificate(&leaf.id).await.unwrap();
        assert_eq!((shown.issued_to.as_str(), shown.role.as_deref()), ("sa:billing", Some("web")));
    }

    async fn a_private_key_is_kept_only_if_the_role_says_so_and_read_only_with_admin(t: Bench) {
        walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let gone = issue(&t, "a.svc.test").await;
        assert!(pki.certificate_with_key(&gone.id).await.unwrap().1.is_none());
        pki.patch_role("web", RolePatch { store_private_keys: Some(true), ..RolePatch::default() }).await.unwrap();
        let kept = issue(&t, "b.svc.test").await;
        let (certificate, key) = pki.certificate_with_key(&kept.id).await.unwrap();
        assert_eq!(key.unwrap().expose(), kept.private_key.as_ref().unwrap().expose());
        assert_eq!(certificate.certificate_pem.as_deref(), Some(kept.certificate.as_str()));
        assert_eq!(t.raw.count("pki_certificate WHERE key_ciphertext IS NOT NULL").await, 1);
        let shown = pki.certificate(&kept.id).await.unwrap();
        assert!(!serde_json::to_string(&shown).unwrap().contains("PRIVATE"));
        let issuer = t.scoped("user:u", &[Scope::PkiIssue]);
        assert_eq!(code(t.vault.pki(&issuer).certificate_with_key(&kept.id).await), Code::InsufficientScope);
        let reads: Vec<_> = t.trail(&admin).await.into_iter().map(|r| r.extra["private_key_read"].clone()).collect();
        assert!(reads.contains(&json!(true)) && reads.contains(&json!(false)), "{reads:?}");
    }

    async fn the_inventory_is_filtered_and_paged_newest_first(t: Bench) {
        let (top, mid) = walk(&t).await;
        let mut made = Vec::new();
        for (n, ttl) in ["1h", "2h", "48h", "72h"].into_iter().enumerate() {
            t.clock.advance(Duration::from_millis(1));
            let write = IssueWrite { ttl: Some(ttl.parse().unwrap()), ..wanted(&format!("n{n}.svc.test")) };
            made.push(t.vault.pki(&t.admin()).issue("web", write).await.unwrap());
        }
        revoke(&t, &made[2].serial_number, RevocationReason::Superseded).await;
        t.clock.advance(HOUR + Duration::from_secs(1));
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let names = async |filter: CertificateFilter| -> Vec<String> {
            pki.certificates(filter).await.unwrap().items.into_iter().map(|c| c.common_name.unwrap()).collect()
        };
        let of = |ca: &Ca| CertificateFilter { ca_id: Some(ca.id.clone()), ..CertificateFilter::default() };
        assert_eq!(names(of(&mid)).await, ["n3.svc.test", "n1.svc.test", "n0.svc.test"]);
        let with_revoked = CertificateFilter { include_revoked: true, ..of(&mid) };
        assert_eq!(names(with_revoked.clone()).await, ["n3.svc.test", "n2.svc.test", "n1.svc.test", "n0.svc.test"]);
        let soon = |text: &str| CertificateFilter { expiring_within: Some(text.parse().unwrap()), ..of(&mid) };
        assert_eq!(names(soon("1h")).await, ["n1.svc.test"], "what has ended is not ending");
        assert_eq!(names(soon("5d")).await, ["n3.svc.test", "n1.svc.test"]);
        let mut under_top = names(of(&top)).await;
        under_top.sort_unstable();
        assert_eq!(under_top, ["Mid CN", "Top CN"], "a CA's certificate is listed under who signed it");
        let status = async |n: usize| pki.certificate(&made[n].id).await.unwrap().status;
        assert_eq!([status(0).await, status(1).await, status(2).await], ["expired", "active", "revoked"]);
        let (mut paged, mut cursor) = (Vec::new(), None);
        loop {
            let page = pki.certificates(CertificateFilter { limit: Some(1), cursor, ..with_revoked.clone() }).await.unwrap();
            paged.extend(page.items.into_iter().map(|c| c.common_name.unwrap()));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(paged, names(with_revoked.clone()).await);
        let cursor = pki.certificates(CertificateFilter { limit: Some(1), ..of(&mid) }).await.unwrap().cursor;
        assert_eq!(code(pki.certificates(CertificateFilter { cursor, ..with_revoked }).await), Code::InvalidCursor);
    }

    async fn what_is_shown_of_a_certificate_is_what_it_says(t: Bench) {
        let (_, mid) = walk(&t).await;
        let write = IssueWrite { alt_names: vec!["B.svc.test".to_owned()], ip_sans: vec!["10.0.0.1".to_owned()], ttl: Some("2h".parse().unwrap()), ..wanted("a.svc.test") };
        let leaf = t.vault.pki(&t.admin()).issue("web", write).await.unwrap();
        let shown = t.vault.pki(&t.admin()).certificate(&leaf.id).await.unwrap();
        let files = Files::new();
        files.add("leaf.pem", &leaf.certificate);
        let said = files.agrees("x509 -in leaf.pem -noout -serial -fingerprint -sha256 -startdate -enddate -dateopt iso_8601");
        assert!(said.contains(&format!("serial={}", shown.serial_number.replace(':', ""))), "{said}");
        assert!(said.replace(':', "").to_lowercase().contains(&shown.fingerprint_sha256), "{said}");
        let iso = |at| scaivault_core::rfc3339(at).replace('T', " ");
        assert!(said.contains(&format!("notBefore={}", iso(shown.not_before))), "{said}");
        assert!(said.contains(&format!("notAfter={}", iso(shown.not_after))), "{said}");
        assert_eq!((shown.not_before, shown.not_after), (leaf.not_before, leaf.not_after));
        assert_eq!((shown.ca_id.as_str(), shown.source.as_str(), shown.status), (mid.id.as_str(), "internal", "active"));
        assert_eq!((shown.alt_names, shown.ip_sans), (vec!["a.svc.test".to_owned(), "b.svc.test".to_owned()], vec!["10.0.0.1".to_owned()]));
    }

    async fn serials_of_many_at_once_are_all_different(t: Bench) {
        walk(&t).await;
        let tasks: Vec<_> = (0..32).map(|_| {
            let t = t.clone();
            tokio::spawn(async move { issue(&t, "a.svc.test").await.serial_number })
        }).collect();
        let mut serials = std::collections::BTreeSet::new();
        for task in tasks {
            assert!(serials.insert(task.await.unwrap()));
        }
        assert_eq!(t.raw.count("pki_certificate WHERE source = 'internal'").await, 32);
        assert_eq!(t.raw.count("audit_trail WHERE action = 'pki_issue' AND success").await, 32);
    }

    async fn sec_d1_roles_whose_names_differ_by_case_alone_are_one_role(t: Bench) {
        let ca = root(&t.vault, &t.admin(), "Root").await;
        assert_eq!(ca.name, "Root", "a CA is addressed by its id, and may be called what it is");
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        pki.create_role(role_write("Web.1", &ca.id)).await.unwrap();
        for same in ["Web.1", "web.1", "WEB.1"] {
            assert_eq!(code(pki.create_role(role_write(same, &ca.id)).await), Code::NameConflict, "{same}");
        }
        assert_eq!(code(pki.role("web.1").await), Code::RoleNotFound, "it has one spelling");
        for reserved in ["root", "ROOT", "System", "default", "Default"] {
            let error = refusal(pki.create_role(role_write(reserved, &ca.id)).await);
            assert_eq!(error.code(), Code::InvalidRole, "{reserved}");
            assert!(error.details().fields.contains_key("name"));
        }
        for bad in ["", ".", "..", " ", "web\u{ff0e}1", "\u{212a}ey"] {
            assert_eq!(code(pki.create_role(role_write(bad, &ca.id)).await), Code::InvalidRole, "{bad:?}");
        }
        pki.delete_role("Web.1").await.unwrap();
        pki.create_role(role_write("web.1", &ca.id)).await.unwrap();
        assert_eq!(t.raw.texts("SELECT name FROM pki_role").await, ["web.1"]);
    }

    async fn sec_a4_names_of_cas_collide_in_whatever_case(t: Bench) {
        root(&t.vault, &t.admin(), "Root").await;
        for same in ["root", "ROOT", " Root "] {
            let write = CaCreate { common_name: "Other".to_owned(), ..root_write(same) };
            assert_eq!(code(t.vault.pki(&t.admin()).create_ca(write).await), Code::NameConflict, "{same}");
        }
    }
}
