//! What a CA did before it came here: what it had revoked and issued. OpenSSL is the CA.

use std::time::Duration;

use scaivault_core::{
    Code,
    pki::{
        Ca, CaImport, CertificateRegistration, CertificateSearch, RegisteredCertificates, ReleaseWrite,
        RevocationCheck, RevocationReason, SignWrite, StatusFilter, ValidateWrite,
    },
};
use time::macros::datetime;

use crate::{
    anchors::{findings, judge, to_judge},
    bench::{Bench, DAY, OTHER, code, contract, refusal},
    ca_origins::Outside,
    pki::{crl_text, import, issue, ocsp, revoke, role, root, wanted},
};

/// What was revoked in the year before.
const LONG_AGO: &str = "R\t270101000000Z\t250301120000Z,superseded\t0BAD\tunknown\t/CN=long.ago.test\n";

/// A CA of OpenSSL's with its list.
struct Before {
    outside: Outside,
}

impl Before {
    fn new(t: &Bench) -> Self {
        let outside = Outside::new(t);
        let numbered =
            outside.text("outside.cnf").replace("serial=serial", "serial=serial\ncrlnumber=crlnumber");
        outside.files.add("outside.cnf", numbered);
        outside.files.add("crlnumber", "29\n");
        let index = outside.text("index.txt") + LONG_AGO;
        outside.files.add("index.txt", index);
        Self { outside }
    }

    /// A certificate, whose key is `key.pem` from then on.
    fn leaf(&self, name: &str, key: &str, md: &str) -> String {
        let files = &self.outside.files;
        files.agrees(key);
        self.outside.request("key.pem", &format!("/CN={name}"));
        let config = self.outside.text("outside.cnf");
        files.add("outside.cnf", config.replace("default_md=sha256", &format!("default_md={md}")));
        let leaf = self.outside.sign(&self.outside.text("request.pem"), "leaf");
        files.add("outside.cnf", config);
        leaf
    }

    fn plain(&self, name: &str) -> String {
        self.leaf(name, "ecparam -name prime256v1 -genkey -noout -out key.pem", "sha256")
    }

    fn revoke(&self, leaf: &str, reason: &str) {
        self.outside.files.add("leaf.pem", leaf);
        self.outside.files.agrees(&format!(
            "ca -config outside.cnf -cert outside.pem -keyfile outside.key -revoke leaf.pem -crl_reason {reason}"
        ));
    }

    fn list(&self) -> String {
        self.outside.files.agrees(
            "ca -config outside.cnf -cert outside.pem -keyfile outside.key -gencrl -crldays 30 -out list.pem",
        );
        self.outside.text("list.pem")
    }

    fn import(&self) -> CaImport {
        import("Moved", &self.outside.text("outside.pem"), &self.outside.text("outside.key"))
    }
}

fn registration(certificates: &[&String]) -> CertificateRegistration {
    CertificateRegistration { certificates_pem: certificates.iter().map(|&pem| pem.clone()).collect() }
}

async fn register(t: &Bench, ca: &Ca, certificates: &[&String]) -> (usize, usize, usize) {
    let done = t.vault.pki(&t.admin()).register_certificates(&ca.id, registration(certificates)).await;
    let RegisteredCertificates { registered, known, expired } = done.unwrap();
    (registered, known, expired)
}

async fn refused(t: &Bench, ca: &Ca, certificates: &[&String]) -> Vec<String> {
    let pki = t.admin();
    let error = refusal(t.vault.pki(&pki).register_certificates(&ca.id, registration(certificates)).await);
    assert_eq!(error.code(), Code::ValidationError);
    error.details().fields.keys().cloned().collect()
}

/// What OCSP says: the line of the certificate, and the reason if there is one.
async fn says(t: &Bench, ca: &Ca, leaf: &str) -> &'static str {
    let said = ocsp(t, ca, ca, leaf).await;
    ["leaf.pem: good", "leaf.pem: revoked", "leaf.pem: unknown"]
        .into_iter()
        .find(|status| said.contains(status))
        .and_then(|status| status.split(' ').nth(1))
        .unwrap()
}

/// What the vault's own judgement says.
async fn verdict(t: &Bench, leaf: &str) -> (&'static str, &'static str) {
    let write = ValidateWrite { revocation: RevocationCheck::Require, ..to_judge(leaf) };
    findings(&judge(t, write).await)[0]
}

/// The names of those that were issued elsewhere.
async fn found(t: &Bench, change: fn(&mut CertificateSearch)) -> Vec<String> {
    let mut search = CertificateSearch { include_revoked: true, ..CertificateSearch::default() };
    change(&mut search);
    let page = t.vault.pki(&t.admin()).search_certificates(search).await.unwrap().page;
    let items = page.items.into_iter().map(|item| item.certificate);
    let mut names: Vec<String> =
        items.filter(|item| item.source == "imported").filter_map(|item| item.common_name).collect();
    names.sort();
    names
}

contract! {
    async fn what_a_ca_had_revoked_stays_revoked(t: Bench) {
        let before = Before::new(&t);
        let gone = before.plain("gone.svc.test");
        let never = before.plain("never.svc.test");
        before.revoke(&gone, "keyCompromise");
        let list = before.list();
        let ca = CaImport { crl_number: 5, crl_pem: Some(list.clone()), ..before.import() };
        let ca = t.vault.pki(&t.admin()).import_ca(ca).await.unwrap();
        // The first list of ours has it already, with its date and reason; its number is above the last one.
        for _ in 0..2 {
            let text = crl_text(&t, &ca).await;
            let entry = text.split("Serial Number: 0BAD").nth(1).unwrap();
            assert!(entry.contains("Revocation Date: Mar  1 12:00:00 2025 GMT"), "{text}");
            assert!(text.contains("Superseded") && text.contains("Key Compromise"), "{text}");
            assert_eq!(text.matches("Serial Number: ").count(), 2);
            t.vault.pki(&t.admin()).build_crl(&ca.id).await.unwrap();
        }
        assert!(crl_text(&t, &ca).await.contains("X509v3 CRL Number: \n                44"));
        assert_eq!((says(&t, &ca, &gone).await, says(&t, &ca, &never).await), ("revoked", "unknown"));
        assert_eq!(verdict(&t, &gone).await, ("revoked", "register"));
        assert_eq!(verdict(&t, &never).await, ("unknown", "register"));
        let trail = t.raw.trail("action = 'pki_ca_import'").await;
        assert_eq!((&trail[0].extra["crl_number"], &trail[0].extra["revoked_certificates"]), (&42.into(), &2.into()));
        // Until the CA ends, since nobody knows when they do.
        let ends = t.raw.texts("SELECT DISTINCT CAST(s.not_after = c.not_after AS TEXT) FROM pki_serial s JOIN pki_ca c ON c.id = s.ca_id WHERE s.source = 'imported'").await;
        assert!(ends == ["1"] || ends == ["true"], "{ends:?}");
    }

    async fn the_higher_number_counts_and_other_lists_are_refused(t: Bench) {
        let before = Before::new(&t);
        let list = before.list();
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let files = &before.outside.files;
        files.agrees("ecparam -name prime256v1 -genkey -noout -out other.key");
        before.outside.own("other.key", "Outside");
        files.agrees("ca -config outside.cnf -cert own.pem -keyfile other.key -gencrl -crldays 30 -out other.pem");
        for bad in [before.outside.text("other.pem"), before.outside.text("outside.pem"), list.clone() + &list, "x".to_owned()] {
            let write = CaImport { crl_pem: Some(bad), ..before.import() };
            let error = refusal(pki.import_ca(write).await);
            assert_eq!(error.details().fields.keys().collect::<Vec<_>>(), ["crl_pem"]);
        }
        assert_eq!(t.raw.count("pki_ca").await, 0);
        let write = CaImport { crl_number: 1000, crl_pem: Some(list), ..before.import() };
        let ca = pki.import_ca(write).await.unwrap();
        assert!(crl_text(&t, &ca).await.contains("X509v3 CRL Number: \n                1001"));
    }

    async fn what_a_ca_had_issued_is_found_good_and_can_be_revoked(t: Bench) {
        let before = Before::new(&t);
        let gone = before.plain("gone.svc.test");
        let gone_csr = before.outside.text("request.pem");
        let held = before.plain("held.svc.test");
        let kept = before.plain("kept.svc.test");
        let never = before.plain("never.svc.test");
        before.revoke(&gone, "keyCompromise");
        before.revoke(&held, "certificateHold");
        let ca = CaImport { crl_pem: Some(before.list()), ..before.import() };
        let ca = t.vault.pki(&t.admin()).import_ca(ca).await.unwrap();
        assert_eq!(register(&t, &ca, &[&kept, &gone, &held, &kept]).await, (3, 1, 0));
        assert_eq!(register(&t, &ca, &[&kept, &gone, &held]).await, (0, 3, 0));
        for (leaf, expected) in [(&kept, "good"), (&gone, "revoked"), (&held, "revoked"), (&never, "unknown")] {
            assert_eq!(says(&t, &ca, leaf).await, expected);
            assert_eq!(verdict(&t, leaf).await, (expected, "register"));
        }
        assert_eq!(found(&t, |s| s.status = Some(StatusFilter::Active)).await, ["kept.svc.test"]);
        assert_eq!(found(&t, |s| s.status = Some(StatusFilter::Revoked)).await, ["gone.svc.test", "held.svc.test"]);
        assert_eq!(found(&t, |s| s.status = Some(StatusFilter::OnHold)).await, ["held.svc.test"]);
        assert_eq!(found(&t, |s| s.requested_by = Some("user:admin".to_owned())).await.len(), 3);

        // Byte for byte, and who put it there.
        let search = CertificateSearch { common_name: Some("kept.svc.test".to_owned()), ..CertificateSearch::default() };
        let page = t.vault.pki(&t.admin()).search_certificates(search).await.unwrap().page;
        let listed = t.vault.pki(&t.admin()).certificate(&page.items[0].certificate.id).await.unwrap();
        assert_eq!((listed.certificate_pem.as_ref(), listed.source.as_str()), (Some(&kept), "imported"));
        assert_eq!((listed.role, listed.issued_to.as_str(), listed.weak.len()), (None, "user:admin", 0));
        let trail = t.raw.trail("action = 'pki_certificate_register'").await;
        assert_eq!((&trail[0].extra["registered"], &trail[0].extra["known"]), (&3.into(), &1.into()));
        assert_eq!(trail[0].resource.as_deref(), Some(ca.id.as_str()));

        // Like any other from then on.
        revoke(&t, &listed.serial_number, RevocationReason::Superseded).await;
        let serial = before.outside.files.agrees("x509 -in leaf.pem -noout -serial").replace("serial=", "");
        let release = ReleaseWrite { serial_number: serial.trim().to_owned(), ca_id: None };
        t.vault.pki(&t.admin()).release(release).await.unwrap();
        assert_eq!((says(&t, &ca, &kept).await, says(&t, &ca, &held).await), ("revoked", "good"));
        t.vault.pki(&t.admin()).build_crl(&ca.id).await.unwrap();
        let text = crl_text(&t, &ca).await;
        assert!(text.contains(&listed.serial_number.replace(':', "")) && !text.contains(serial.trim()), "{text}");
        // The key that was compromised before is refused now that it is known.
        role(&t.vault, &t.admin(), "web", &ca.id).await;
        let sign = SignWrite { csr_pem: gone_csr, ..SignWrite::default() };
        let error = refusal(t.vault.pki(&t.admin()).sign("web", sign).await);
        assert!(error.details().fields.contains_key("csr_pem"), "{error:?}");
        assert!(issue(&t, "new.svc.test").await.certificate.starts_with("-----BEGIN"));
    }

    async fn a_certificate_may_end_far_from_now(t: Bench) {
        let before = Before::new(&t);
        before.plain("device.svc.test");
        let sign = |end: &str| {
            before.outside.files.agrees(&format!(
                "ca -config outside.cnf -batch -notext -cert outside.pem -keyfile outside.key -in request.pem \
                 -out long.pem -extensions leaf -startdate 20260101000000Z -enddate {end}1231235959Z"
            ));
            before.outside.text("long.pem")
        };
        let (last, without_end) = (sign("9998"), sign("9999"));
        before.outside.request("outside.key", "/CN=Forever");
        before.outside.files.agrees(
            "ca -config outside.cnf -batch -notext -selfsign -keyfile outside.key -in request.pem -out forever.pem \
             -extensions root -startdate 20260101000000Z -enddate 99991231235959Z",
        );
        let forever = import("Forever", &before.outside.text("forever.pem"), &before.outside.text("outside.key"));
        let error = refusal(t.vault.pki(&t.admin()).import_ca(forever).await);
        assert_eq!(error.details().fields["certificate_pem"], ["ends after the year 9998"]);
        let ca = t.vault.pki(&t.admin()).import_ca(before.import()).await.unwrap();
        assert_eq!(refused(&t, &ca, &[&last, &without_end]).await, ["certificates_pem[1]"]);
        assert_eq!(register(&t, &ca, &[&last]).await, (1, 0, 0));
        assert_eq!(says(&t, &ca, &last).await, "good");
        let search = CertificateSearch { common_name: Some("device.svc.test".to_owned()), ..CertificateSearch::default() };
        let page = t.vault.pki(&t.admin()).search_certificates(search).await.unwrap().page;
        assert_eq!(page.items[0].certificate.not_after, datetime!(9998-12-31 23:59:59 UTC));
        t.vault.run_due_jobs().await.unwrap();
    }

    async fn weak_certificates_are_registered_found_and_counted(t: Bench) {
        let before = Before::new(&t);
        let short = before.leaf("short.svc.test", "genrsa -out key.pem 1024", "sha256");
        let forgeable = before.leaf("forgeable.svc.test", "genrsa -out key.pem 2048", "sha1");
        let both = before.leaf("both.svc.test", "genrsa -out key.pem 1024", "sha1");
        let strange = before.leaf("strange.svc.test", "ecparam -name secp256k1 -genkey -noout -out key.pem", "sha256");
        let fine = before.plain("fine.svc.test");
        let ca = t.vault.pki(&t.admin()).import_ca(before.import()).await.unwrap();
        assert_eq!(register(&t, &ca, &[&short, &forgeable, &both, &strange, &fine]).await, (5, 0, 0));
        assert_eq!(
            found(&t, |s| s.weak = Some(true)).await,
            ["both.svc.test", "forgeable.svc.test", "short.svc.test", "strange.svc.test"]
        );
        assert_eq!(found(&t, |s| s.weak = Some(false)).await, ["fine.svc.test"]);
        let weak = async |name: &str| {
            let search = CertificateSearch { common_name: Some(name.to_owned()), ..CertificateSearch::default() };
            let page = t.vault.pki(&t.admin()).search_certificates(search).await.unwrap().page;
            let item = page.items.into_iter().next().unwrap().certificate;
            assert_eq!(t.vault.pki(&t.admin()).certificate(&item.id).await.unwrap().weak, item.weak);
            item.weak
        };
        assert_eq!(weak("both.svc.test").await, ["weak_key", "sha1_signature"]);
        assert_eq!(weak("strange.svc.test").await, ["unjudged_key"]);
        let summary = t.vault.pki(&t.admin()).certificate_summary().await.unwrap();
        let counted: Vec<_> = summary.by_weakness.iter().map(|count| (count.weak.as_str(), count.active)).collect();
        assert_eq!(counted, [("sha1_signature", 2), ("unjudged_key", 1), ("weak_key", 2)]);
        assert_eq!(says(&t, &ca, &both).await, "good", "as far as the CA says");
    }

    async fn what_a_ca_did_not_issue_is_not_registered(t: Bench) {
        let before = Before::new(&t);
        let (one, two) = (before.plain("one.svc.test"), before.plain("two.svc.test"));
        let ca = t.vault.pki(&t.admin()).import_ca(before.import()).await.unwrap();
        let own = before.outside.text("outside.pem");
        let other = Before::new(&t);
        // The same name and serial numbers, another key.
        let (foreign, stranger) = (other.plain("one.svc.test"), "x".to_owned());
        let made = root(&t.vault, &t.admin(), "Made").await;
        role(&t.vault, &t.admin(), "web", &made.id).await;
        let ours = t.vault.pki(&t.admin()).issue("web", wanted("a.svc.test")).await.unwrap().certificate;
        let pair = one.clone() + &two;
        let first = "certificates_pem[0]";
        for bad in [&foreign, &stranger, &ours, &pair] {
            assert_eq!(refused(&t, &ca, &[bad]).await, [first], "{bad}");
            assert_eq!(refused(&t, &ca, &[&one, bad, bad]).await, ["certificates_pem[1]", "certificates_pem[2]"]);
        }
        assert_eq!(refused(&t, &ca, &[]).await, ["certificates_pem"]);
        assert_eq!(refused(&t, &ca, &[&one; 501]).await, ["certificates_pem"]);
        assert_eq!(t.raw.count("pki_serial WHERE source = 'imported'").await, 0, "all or nothing");
        // Its own is there.
        assert_eq!(register(&t, &ca, &[&own, &one]).await, (1, 1, 0));
        // The CA signs another one with a serial number that is taken.
        before.outside.files.add("serial", "1001\n");
        let index = before.outside.text("index.txt");
        let kept: Vec<&str> = index.lines().filter(|line| !line.contains("\t1001\t")).collect();
        before.outside.files.add("index.txt", kept.join("\n") + "\n");
        let again = before.plain("again.svc.test");
        assert_eq!(refused(&t, &ca, &[&again, &two]).await, [first]);
        assert_eq!(refused(&t, &ca, &[&two, &one, &again]).await, ["certificates_pem[2]"]);
        assert_eq!(t.raw.count("pki_serial WHERE source = 'imported'").await, 1);

        let pki = t.admin();
        let pki = t.vault.pki(&pki);
        assert_eq!(code(pki.register_certificates(&made.id, registration(&[&one])).await), Code::InvalidState);
        assert_eq!(code(pki.register_certificates("ca_x", registration(&[&one])).await), Code::CaNotFound);
        let elsewhere = t.admin_of(OTHER);
        let elsewhere = t.vault.pki(&elsewhere).register_certificates(&ca.id, registration(&[&two])).await;
        assert_eq!(code(elsewhere), Code::CaNotFound);
        // What has expired is left out; the CA itself has ended as well by then, and OCSP has nothing more to say.
        t.clock.advance(DAY * 101);
        assert_eq!(register(&t, &ca, &[&two, &one]).await, (0, 0, 2));
    }

    async fn certificates_that_are_registered_at_the_same_time_are_registered_once(t: Bench) {
        let before = Before::new(&t);
        let leaves: Vec<String> = ["one", "two", "three"].iter().map(|name| before.plain(&format!("{name}.svc.test"))).collect();
        let ca = t.vault.pki(&t.admin()).import_ca(before.import()).await.unwrap();
        let leaves: Vec<&String> = leaves.iter().collect();
        let calls = (0..4).map(|_| register(&t, &ca, &leaves));
        let done = futures_util::future::join_all(calls).await;
        assert_eq!(done.iter().map(|(registered, ..)| registered).sum::<usize>(), 3);
        assert!(done.iter().all(|(registered, known, _)| registered + known == 3), "{done:?}");
        assert_eq!(t.raw.count("pki_certificate WHERE source = 'imported'").await, 3);
    }

    async fn a_list_that_does_not_come_is_told_of(t: Bench) {
        let ca = root(&t.vault, &t.admin(), "Top").await;
        role(&t.vault, &t.admin(), "web", &ca.id).await;
        let health = async || {
            let numbers = t.vault.statistics(&t.admin()).await.unwrap();
            (numbers.crl_overdue.unwrap(), numbers.crl_longest.unwrap())
        };
        assert_eq!(health().await, (Duration::ZERO, 0));
        for name in ["a.svc.test", "b.svc.test"] {
            let leaf = issue(&t, name).await;
            revoke(&t, &leaf.serial_number, RevocationReason::Superseded).await;
        }
        let minute = Duration::from_secs(60);
        t.clock.advance(minute * 7);
        assert_eq!(health().await, (minute * 7, 0));
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(health().await, (Duration::ZERO, 2));
        // The hourly list of a CA that cannot sign it.
        t.clock.advance(minute * 60);
        assert_eq!(health().await, (Duration::ZERO, 2));
        t.raw.execute("UPDATE pki_crl SET number = 1").await;
        t.clock.advance(minute);
        assert_eq!(code(t.vault.run_due_jobs().await), Code::InternalError);
        assert_eq!(health().await, (minute, 2));
        // A CA that has ended has no lists any more.
        t.clock.set(datetime!(2036-06-01 00:00 UTC));
        assert_eq!(health().await, (Duration::ZERO, 2));
    }
}
