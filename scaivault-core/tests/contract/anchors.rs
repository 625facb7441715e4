//! Trust anchors, and what is judged by them.

use std::process::Command;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use scaivault_core::{
    Code,
    pki::{
        AnchorFilter, AnchorPurpose, AnchorWrite, RevocationCheck, RevocationReason, TrustAnchor,
        ValidateWrite, ValidationReport,
    },
};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, DAY, HOUR, OTHER, code, contract, refusal},
    pki::{issue, revoke, walk},
};

/// A CA outside of the vault.
pub(crate) struct Outside {
    pub(crate) certificate: Certificate,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

pub(crate) fn params(name: &str, years: std::ops::Range<i32>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) =
        (date_time_ymd(years.start, 1, 1), date_time_ymd(years.end, 1, 1));
    params
}

pub(crate) fn outside(name: &str, years: std::ops::Range<i32>) -> Outside {
    let mut params = params(name, years);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Outside { certificate, issuer: Issuer::new(params, key) }
}

impl Outside {
    /// A leaf for TLS servers.
    fn leaf(&self, name: &str, serial: u64) -> String {
        let mut params = params(name, 2026..2027);
        params.subject_alt_names = CertificateParams::new(vec![name.to_owned()]).unwrap().subject_alt_names;
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().pem()
    }

    /// A list of some serial numbers.
    fn crl(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 4, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 4, 20),
            next_update: date_time_ymd(2026, 5, 20),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

pub(crate) fn anchor(name: &str, pem: String) -> AnchorWrite {
    AnchorWrite { name: name.to_owned(), certificate_pem: Some(pem), ..AnchorWrite::default() }
}

pub(crate) async fn add(t: &Bench, write: AnchorWrite) -> TrustAnchor {
    let mut added = t.vault.pki(&t.admin()).add_trust_anchors(write).await.unwrap();
    assert_eq!(added.len(), 1);
    added.remove(0)
}

pub(crate) fn to_judge(pem: &str) -> ValidateWrite {
    ValidateWrite { certificate_pem: pem.to_owned(), ..ValidateWrite::default() }
}

pub(crate) async fn judge(t: &Bench, write: ValidateWrite) -> ValidationReport {
    // Whoever has a token of the tenant may ask.
    let ctx = t.scoped("sa:relying", &[]);
    let report = t.vault.pki(&ctx).validate_certificate(write).await.unwrap();
    assert_eq!(report.valid, report.errors.is_empty(), "{report:#?}");
    let trail = t.trail(&ctx).await;
    assert_eq!((trail[0].action.as_str(), &trail[0].extra["valid"]), ("pki_validate", &json!(report.valid)));
    report
}

pub(crate) fn codes(report: &ValidationReport) -> Vec<&'static str> {
    report.errors.iter().map(|error| error.code).collect()
}

/// Status and source of each certificate of the chain that has them.
pub(crate) fn findings(report: &ValidationReport) -> Vec<(&'static str, &'static str)> {
    let known = report.chain.iter().filter_map(|certificate| certificate.revocation.as_ref());
    known.map(|known| (known.status, known.source)).collect()
}

/// Runs `openssl` in a folder and gives a file of it.
fn openssl(commands: &[&str], files: &[(&str, &str)], result: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    for command in commands {
        let mut run = Command::new("openssl");
        let done = run.args(command.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&done.stderr));
    }
    std::fs::read_to_string(folder.path().join(result)).unwrap()
}

contract! {
    async fn ca_certificates_of_others_are_trusted_for_a_purpose(t: Bench) {
        let (one, two) = (outside("One", 2020..2040), outside("Two", 2020..2040));
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let first = add(&t, anchor("Corporate", one.certificate.pem())).await;
        assert_eq!((first.purpose, first.subject.as_str(), first.expires_soon), (AnchorPurpose::Any, "CN=One", false));
        assert_eq!(pki.trust_anchor(&first.id).await.unwrap(), first);
        // The same again, by name or by certificate.
        assert_eq!(code(pki.add_trust_anchors(anchor("CORPORATE", two.certificate.pem())).await), Code::NameConflict);
        let again = refusal(pki.add_trust_anchors(anchor("again", one.certificate.pem())).await);
        assert!(again.code() == Code::NameConflict && again.message().contains(&first.id), "{again}");
        let server = AnchorWrite { purpose: AnchorPurpose::TlsServer, ..anchor("again", one.certificate.pem()) };
        let second = add(&t, server).await;

        // Two of a PKCS #7 message, as openssl writes it.
        let both = [two.certificate.pem(), outside("Three", 2020..2040).certificate.pem()].concat();
        let p7b = openssl(&["crl2pkcs7 -nocrl -certfile both.pem -out both.p7b"], &[("both.pem", &both)], "both.p7b");
        let write = AnchorWrite {
            name: "more".to_owned(), bundle: Some(p7b), purpose: AnchorPurpose::TlsClient, ..AnchorWrite::default()
        };
        let more = pki.add_trust_anchors(write.clone()).await.unwrap();
        let names: Vec<&str> = more.iter().map(|anchor| anchor.name.as_str()).collect();
        assert_eq!(names, ["more 1", "more 2"]);
        assert_eq!(code(pki.add_trust_anchors(write).await), Code::NameConflict);
        assert_eq!(t.raw.count("pki_anchor").await, 4, "all or none");

        let reader = t.scoped("sa:reader", &[]);
        let list = async |filter| t.vault.pki(&reader).trust_anchors(filter).await.unwrap();
        let page = list(AnchorFilter { limit: Some(3), ..AnchorFilter::default() }).await;
        let rest = list(AnchorFilter { limit: Some(3), cursor: page.cursor.clone(), ..AnchorFilter::default() }).await;
        let ids: Vec<String> = page.items.iter().chain(&rest.items).map(|anchor| anchor.id.clone()).collect();
        assert_eq!(ids, [&first.id, &second.id, &more[0].id, &more[1].id].map(Clone::clone));
        let clients = list(AnchorFilter { purpose: Some(AnchorPurpose::TlsClient), ..AnchorFilter::default() }).await;
        assert_eq!(clients.items, more);
        let other = AnchorFilter { purpose: Some(AnchorPurpose::Any), cursor: page.cursor, ..AnchorFilter::default() };
        assert_eq!(code(t.vault.pki(&reader).trust_anchors(other).await), Code::InvalidCursor);
        let bundle = t.vault.pki(&reader).trust_anchor_bundle(AnchorPurpose::TlsClient).await.unwrap();
        assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 3, "two for clients, one for any");
        assert!(bundle.contains(&two.certificate.pem().replace('\r', "")));

        // Who may not: without the scope, and of another tenant.
        let denied = t.vault.pki(&reader).add_trust_anchors(anchor("x", two.certificate.pem())).await;
        assert_eq!(code(denied), Code::InsufficientScope);
        assert_eq!(code(t.vault.pki(&reader).delete_trust_anchor(&first.id).await), Code::InsufficientScope);
        let foreign = t.admin_of(OTHER);
        assert_eq!(code(t.vault.pki(&foreign).trust_anchor(&first.id).await), Code::TrustAnchorNotFound);
        assert_eq!(code(t.vault.pki(&foreign).delete_trust_anchor(&first.id).await), Code::TrustAnchorNotFound);
        assert_eq!(t.vault.pki(&foreign).trust_anchors(AnchorFilter::default()).await.unwrap().items, []);

        pki.delete_trust_anchor(&first.id).await.unwrap();
        assert_eq!(code(pki.trust_anchor(&first.id).await), Code::TrustAnchorNotFound);
        assert_eq!(code(t.vault.pki(&t.admin()).delete_trust_anchor(&first.id).await), Code::TrustAnchorNotFound);
        assert_eq!(t.raw.trail("action = 'trust_anchor_create'").await.iter().filter(|r| r.outcome == "ok").count(), 3);
        assert_eq!(t.raw.trail("action = 'trust_anchor_delete'").await.iter().filter(|r| r.outcome == "ok").count(), 1);
    }

    async fn what_is_no_sound_ca_is_not_trusted(t: Bench) {
        let good = outside("Good", 2020..2040);
        let weak = openssl(
            &["req -x509 -newkey rsa:1024 -nodes -keyout k.pem -subj /CN=Weak -days 36500 -out c.pem"],
            &[],
            "c.pem",
        );
        let admin = t.admin();
        for (pem, reason) in [
            (good.leaf("a.test", 7), "not_ca"),
            (outside("Old", 2020..2026).certificate.pem(), "expired"),
            (outside("Early", 2027..2040).certificate.pem(), "not_yet_valid"),
            (weak, "weak_key"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "DER"),
            (good.certificate.pem().repeat(2), "more than one"),
            (String::new(), "DER"),
        ] {
            let error = refusal(t.vault.pki(&admin).add_trust_anchors(anchor("x", pem)).await);
            let said = error.details().fields["certificate_pem"].concat();
            assert!(error.code() == Code::ValidationError && said.contains(reason), "{reason}: {said}");
        }
        let twice = AnchorWrite {
            name: "x".to_owned(), bundle: Some(good.certificate.pem().repeat(2)), ..AnchorWrite::default()
        };
        assert!(refusal(t.vault.pki(&admin).add_trust_anchors(twice).await).details().fields["bundle"][0].contains("twice"));
        let neither = AnchorWrite { name: "x".to_owned(), ..AnchorWrite::default() };
        assert_eq!(code(t.vault.pki(&admin).add_trust_anchors(neither).await), Code::ValidationError);
        let both = AnchorWrite { bundle: Some(good.certificate.pem()), ..anchor("x", good.certificate.pem()) };
        assert_eq!(code(t.vault.pki(&admin).add_trust_anchors(both).await), Code::ValidationError);
        let named = anchor("no\u{e9}", good.certificate.pem());
        assert!(refusal(t.vault.pki(&admin).add_trust_anchors(named).await).details().fields.contains_key("name"));
        assert_eq!(t.raw.count("pki_anchor").await, 0);
    }

    async fn it_is_told_that_an_anchor_expires(t: Bench) {
        let kept = add(&t, anchor("soon", outside("Soon", 2020..2027).certificate.pem())).await;
        add(&t, anchor("later", outside("Later", 2020..2040).certificate.pem())).await;
        let told = async || t.raw.texts("SELECT event_type || ' ' || CAST(data AS TEXT) FROM event_outbox \
            WHERE event_type LIKE 'trust_anchor%' ORDER BY created_at, id").await;
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(told().await, Vec::<String>::new());
        t.clock.set(kept.not_after - time::Duration::days(29));
        assert!(t.vault.pki(&t.admin()).trust_anchor(&kept.id).await.unwrap().expires_soon);
        t.vault.run_due_jobs().await.unwrap();
        t.vault.run_due_jobs().await.unwrap();
        t.clock.set(kept.not_after - time::Duration::hours(3));
        t.vault.run_due_jobs().await.unwrap();
        t.clock.advance(DAY);
        t.vault.run_due_jobs().await.unwrap();
        t.vault.run_due_jobs().await.unwrap();
        let told = told().await;
        let parts: Vec<(&str, Value)> = told.iter().map(|line| {
            let (name, data) = line.split_once(' ').unwrap();
            (name, serde_json::from_str(data).unwrap())
        }).collect();
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["trust_anchor.expiring", "trust_anchor.expiring", "trust_anchor.expired"], "{told:?}");
        assert!(parts.iter().all(|(_, data)| data["trust_anchor_id"] == kept.id.as_str()), "{told:?}");
        assert_eq!((&parts[0].1["threshold"], &parts[1].1["threshold"]), (&json!("30d"), &json!("1d")));
        assert_eq!((&parts[0].1["name"], &parts[0].1["days_remaining"]), (&json!("soon"), &json!(29)));
    }

    async fn certificates_of_own_cas_are_judged_by_the_register(t: Bench) {
        let (top, mid) = walk(&t).await;
        let leaf = issue(&t, "a.svc.test").await;
        // Neither the root nor the CA between has to be sent.
        let ask = |change: fn(&mut ValidateWrite)| {
            let mut write = to_judge(&leaf.certificate);
            change(&mut write);
            write
        };
        let good = judge(&t, ask(|w| {
            w.hostname = Some("A.svc.test".to_owned());
            w.purpose = AnchorPurpose::TlsServer;
            w.revocation = RevocationCheck::Require;
        })).await;
        assert!(good.valid, "{good:#?}");
        assert_eq!(good.trust_anchor_id.as_deref(), Some(top.id.as_str()));
        assert_eq!((good.revocation_status, findings(&good)), ("good", vec![("good", "register"); 2]));
        assert_eq!(good.chain.len(), 3);
        assert_eq!(good.chain[0].serial_number, leaf.serial_number);
        assert_eq!(good.chain[1].serial_number, mid.serial_number);
        assert_eq!(good.chain[2].revocation, None);

        let wrong = judge(&t, ask(|w| w.hostname = Some("b.svc.test".to_owned()))).await;
        assert_eq!((codes(&wrong), wrong.errors[0].certificate), (vec!["name_mismatch"], Some(0)));
        assert_eq!(codes(&judge(&t, ask(|w| w.purpose = AnchorPurpose::CodeSigning)).await), ["purpose"]);
        let none = judge(&t, ask(|w| w.revocation = RevocationCheck::None)).await;
        assert_eq!((none.valid, none.revocation_status), (true, "unknown"));
        // Another tenant does not know the root.
        let other = t.vault.pki(&t.admin_of(OTHER)).validate_certificate(to_judge(&leaf.certificate)).await.unwrap();
        assert_eq!((codes(&other), other.trust_anchor_id, other.chain.len()), (vec!["unknown_issuer"], None, 1));

        let revoked_at = t.now();
        revoke(&t, &leaf.serial_number, RevocationReason::KeyCompromise).await;
        t.clock.advance(HOUR);
        let revoked = judge(&t, ask(|_| {})).await;
        assert_eq!((codes(&revoked), revoked.revocation_status), (vec!["revoked"], "revoked"));
        let finding = revoked.chain[0].revocation.as_ref().unwrap();
        assert_eq!((finding.source, finding.revoked_at, finding.reason), ("register", Some(revoked_at), Some("key_compromise")));
        assert!(judge(&t, ask(|w| w.revocation = RevocationCheck::None)).await.valid);
        // At a time before it was revoked it was good; what will be, nobody knows.
        let at = |at| ValidateWrite { at: Some(at), ..to_judge(&leaf.certificate) };
        assert_eq!(judge(&t, at(revoked_at - time::Duration::seconds(1))).await.revocation_status, "good");
        let fine = issue(&t, "b.svc.test").await;
        let ahead = ValidateWrite { at: Some(t.now() + HOUR), ..to_judge(&fine.certificate) };
        let ahead = judge(&t, ahead).await;
        assert_eq!((ahead.valid, ahead.revocation_status), (true, "unknown"));

        // What is not in the register was never issued by this CA, whoever has signed it.
        t.raw.execute(&format!("DELETE FROM pki_serial WHERE certificate_id = '{}'", fine.id)).await;
        let never = judge(&t, to_judge(&fine.certificate)).await;
        assert_eq!((codes(&never), findings(&never)[0]), (vec!["revocation_unknown"], ("unknown", "register")));

        // The end of a CA is the end of what it issued, and of a root the end of its being an anchor.
        let third = issue(&t, "c.svc.test").await;
        let admin = t.admin();
        t.vault.pki(&admin).revoke_ca(&mid.id, RevocationReason::CaCompromise).await.unwrap();
        let ended = judge(&t, to_judge(&third.certificate)).await;
        assert_eq!((ended.valid, findings(&ended)), (false, vec![("revoked", "register"); 2]));
        t.vault.pki(&t.admin()).revoke_ca(&top.id, RevocationReason::CaCompromise).await.unwrap();
        let ended = judge(&t, to_judge(&third.certificate)).await;
        assert_eq!((codes(&ended), ended.trust_anchor_id), (vec!["unknown_issuer"], None));
    }

    async fn certificates_of_others_are_judged_by_trust_anchors_and_evidence(t: Bench) {
        let ca = outside("Outside", 2020..2040);
        let pem = ca.leaf("a.example", 7);
        assert_eq!(codes(&judge(&t, to_judge(&pem)).await), ["unknown_issuer"]);
        let server = AnchorWrite { purpose: AnchorPurpose::TlsServer, ..anchor("outside", ca.certificate.pem()) };
        let trusted = add(&t, server).await;
        // Trusted for servers, and for nothing else.
        assert_eq!(codes(&judge(&t, to_judge(&pem)).await), ["unknown_issuer"]);
        let ask = |crl: Option<String>, revocation| ValidateWrite {
            purpose: AnchorPurpose::TlsServer,
            hostname: Some("a.example".to_owned()),
            crl_pem: crl.into_iter().collect(),
            revocation,
            ..to_judge(&pem)
        };
        let (prefer, require) = (RevocationCheck::Prefer, RevocationCheck::Require);
        let unknown = judge(&t, ask(None, prefer)).await;
        assert_eq!((unknown.valid, unknown.revocation_status), (true, "unknown"));
        assert_eq!((unknown.trust_anchor_id.as_deref(), findings(&unknown)), (Some(trusted.id.as_str()), vec![("unknown", "none")]));
        assert_eq!(codes(&judge(&t, ask(None, require)).await), ["revocation_unknown"]);
        let good = judge(&t, ask(Some(ca.crl(&[8])), require)).await;
        assert_eq!((good.valid, findings(&good)), (true, vec![("good", "crl")]));
        let revoked = judge(&t, ask(Some(ca.crl(&[7, 8])), prefer)).await;
        assert_eq!((codes(&revoked), findings(&revoked)), (vec!["revoked"], vec![("revoked", "crl")]));
        assert_eq!(revoked.candidates[0].errors[0].code, "revoked");
        // A list of somebody else of the same name says nothing, and that is said.
        let forged = judge(&t, ask(Some(outside("Outside", 2020..2040).crl(&[7])), prefer)).await;
        assert_eq!((forged.valid, findings(&forged)), (true, vec![("unknown", "none")]));
        assert!(!forged.chain[0].revocation.as_ref().unwrap().notes.is_empty());
        // An anchor that has expired is none.
        let late = ValidateWrite { at: Some(date_time_ymd(2041, 1, 1)), ..ask(None, prefer) };
        let late = codes(&judge(&t, late).await);
        assert!(late.iter().filter(|code| **code == "expired").count() == 2, "{late:?}");
    }

    async fn a_question_that_means_nothing_names_the_field(t: Bench) {
        let ca = outside("Outside", 2020..2040);
        let pem = ca.certificate.pem();
        let write = |change: fn(&mut ValidateWrite)| {
            let mut write = to_judge(&pem);
            change(&mut write);
            write
        };
        let many = |count: usize| vec![pem.clone(); count];
        for (field, write) in [
            ("certificate_pem", to_judge("x")),
            ("certificate_pem", to_judge(&"-".repeat(1 << 21))),
            ("chain_pem[1]", ValidateWrite { chain_pem: vec![pem.clone(), "x".to_owned()], ..to_judge(&pem) }),
            ("chain_pem", ValidateWrite { chain_pem: many(32), ..to_judge(&pem) }),
            ("chain_pem", ValidateWrite { chain_pem: vec![pem.repeat(32)], ..to_judge(&pem) }),
            ("hostname", write(|w| w.hostname = Some("a b".to_owned()))),
            ("ip", write(|w| w.ip = Some("a".to_owned()))),
            ("email", write(|w| w.email = Some("a".to_owned()))),
            ("crl_pem[0]", write(|w| w.crl_pem = vec!["-----BEGIN X".to_owned()])),
            ("crl_pem", write(|w| w.crl_pem = vec!["AAAA".to_owned(); 17])),
            ("ocsp_base64[0]", write(|w| w.ocsp_base64 = vec!["!".to_owned()])),
            ("ocsp_base64", write(|w| w.ocsp_base64 = vec!["AAAA".to_owned(); 17])),
        ] {
            let error = refusal(t.vault.pki(&t.admin()).validate_certificate(write).await);
            assert!(error.code() == Code::ValidationError && error.details().fields.contains_key(field), "{field}: {error:?}");
        }
        assert!(t.vault.pki(&t.admin()).validate_certificate(ValidateWrite { chain_pem: many(31), ..to_judge(&pem) }).await.is_ok());
        // Nonsense as evidence is noted and nothing more.
        let report = judge(&t, write(|w| {
            w.crl_pem = vec!["AAAA".to_owned()];
            w.ocsp_base64 = vec!["AAAA".to_owned()];
        })).await;
        assert_eq!(codes(&report), ["unknown_issuer"]);
    }
}

#[test]
fn every_purpose_is_read_as_it_is_written() {
    for purpose in AnchorPurpose::ALL {
        assert_eq!(AnchorPurpose::parse(purpose.as_str()).unwrap(), *purpose);
        assert_eq!(serde_json::to_value(purpose).unwrap(), purpose.as_str());
    }
    assert_eq!(code(AnchorPurpose::parse("tls")), Code::ValidationError);
}
