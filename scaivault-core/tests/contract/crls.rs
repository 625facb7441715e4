//! Revocation lists of shards, their deltas, and what is never published.

use std::time::Duration;

use scaivault_core::{
    Code,
    pki::{
        Ca, CaCreate, CaImport, CaInstall, CaRekey, IssuedCertificate, ReleaseWrite, RevocationReason,
        RolePatch,
    },
};
use time::OffsetDateTime;

use crate::{
    bench::{Bench, DAY, HOUR, code, contract, refusal},
    ca_origins::{Outside, external},
    pki::{
        Files, below, crl_text, import, issue, read_crl, rekey, revocation, revoke, role, root, root_write,
        wanted,
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// A root, and a CA below it with these lists and the role `web`.
async fn with_lists(t: &Bench, change: fn(&mut CaCreate)) -> (Ca, Ca) {
    let admin = t.admin();
    let top = root(&t.vault, &admin, "Top").await;
    let mut write = below(&top, "Mid");
    change(&mut write);
    let mid = t.vault.pki(&admin).create_ca(write).await.unwrap();
    role(&t.vault, &admin, "web", &mid.id).await;
    (top, mid)
}

/// The shard that a serial number is on, of so many.
fn shard(serial: &str, of: u8) -> u8 {
    let hex = serial.replace(':', "");
    assert_eq!(hex.len(), 40, "{serial}");
    u8::from_str_radix(&hex[2..4], 16).unwrap() % of
}

fn serial(of: &IssuedCertificate) -> String {
    of.serial_number.replace(':', "")
}

fn number(text: &str) -> u64 {
    let text = text.replace(char::is_whitespace, "");
    let digits = text.split("X509v3CRLNumber:").nth(1).unwrap();
    digits.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

async fn text_of(t: &Bench, ca: &Ca, shard: u8) -> String {
    read_crl(&Files::new(), &t.vault.public_pki().crl_of_shard(&ca.id, shard).await.unwrap().der)
}

async fn delta_of(t: &Bench, ca: &Ca, shard: Option<u8>) -> String {
    read_crl(&Files::new(), &t.vault.public_pki().delta_crl(&ca.id, shard).await.unwrap().der)
}

/// What `openssl` says of a leaf with these lists, all of which it checks.
async fn verdict(
    t: &Bench,
    (top, mid): (&Ca, &Ca),
    leaf: &str,
    lists: &[Vec<u8>],
    more: &str,
) -> (bool, String) {
    let (files, admin) = (Files::new(), t.admin());
    for (name, ca) in [("top.pem", top), ("mid.pem", mid)] {
        files.add(name, t.vault.pki(&admin).ca_certificate(&ca.id).await.unwrap().certificate_pem);
    }
    files.add("leaf.pem", leaf);
    let mut all = t.vault.public_pki().crl(&top.id).await.unwrap().pem();
    for (at, list) in lists.iter().enumerate() {
        files.add(&format!("{at}.der"), list);
        all += &files.agrees(&format!("crl -inform DER -in {at}.der"));
    }
    files.add("lists.pem", all);
    let at: OffsetDateTime = t.now();
    let at = at.unix_timestamp();
    files.openssl(&format!(
        "verify -x509_strict -crl_check_all -extended_crl{more} -CRLfile lists.pem -CAfile top.pem -untrusted mid.pem \
         -attime {at} leaf.pem"
    ))
}

/// The CA has its four lists, with deltas and a complete one; what it revokes comes on the right one of them.
async fn publishes_its_shards(t: &Bench, ca: &Ca, web: &str) {
    assert_eq!((ca.crl_shards, ca.delta_crls), (4, true));
    t.vault.run_due_jobs().await.unwrap();
    for of in 0..4 {
        let text = text_of(t, ca, of).await;
        assert!(text.contains(&format!("URI:https://vault.test/v1/pki/ca/{}/crl/{of}\n", ca.id)), "{text}");
        assert!(text.contains(&format!("/v1/pki/ca/{}/crl/{of}/delta\n", ca.id)), "{text}");
        assert_eq!(number(&text), 1);
    }
    let complete = crl_text(t, ca).await;
    assert!(complete.contains(&format!("/v1/pki/ca/{}/crl/delta\n", ca.id)), "{complete}");
    assert_eq!((number(&complete), number(&delta_of(t, ca, None).await)), (2, 2));
    // What the lists name exists with the next round, though there is nothing on it.
    t.vault.run_due_jobs().await.unwrap();
    for of in 0..4 {
        let delta = delta_of(t, ca, Some(of)).await;
        assert!(number(&delta) == 2 && delta.contains("No Revoked Certificates"), "{delta}");
    }
    role(&t.vault, &t.admin(), web, &ca.id).await;
    let leaf = t.vault.pki(&t.admin()).issue(web, wanted("a.svc.test")).await.unwrap();
    let of = shard(&leaf.serial_number, 4);
    let files = Files::new();
    files.add("leaf.pem", &leaf.certificate);
    files.add("above.pem", leaf.ca_chain.concat());
    files.add("anchor.pem", leaf.ca_chain.last().unwrap());
    let said = files.agrees("x509 -in leaf.pem -noout -ext crlDistributionPoints");
    assert!(said.contains(&format!("URI:https://vault.test/v1/pki/ca/{}/crl/{of}\n", ca.id)), "{said}");
    let verdict = async || {
        files.add("list.der", t.vault.public_pki().crl_of_shard(&ca.id, of).await.unwrap().der);
        files.agrees("crl -inform DER -in list.der -out list.pem");
        let at = t.now().unix_timestamp();
        files.openssl(&format!(
            "verify -x509_strict -crl_check -extended_crl -CRLfile list.pem -CAfile anchor.pem -untrusted above.pem \
             -attime {at} leaf.pem"
        ))
    };
    let (good, said) = verdict().await;
    assert!(good, "{said}");
    t.clock.advance(MINUTE);
    revoke(t, &leaf.serial_number, RevocationReason::Superseded).await;
    t.vault.run_due_jobs().await.unwrap();
    assert!(delta_of(t, ca, Some(of)).await.contains(&serial(&leaf)));
    t.vault.pki(&t.admin()).build_crl(&ca.id).await.unwrap();
    let (good, said) = verdict().await;
    assert!(!good && said.contains("certificate revoked"), "{said}");
    for other in (0..4).filter(|other| *other != of) {
        assert!(!text_of(t, ca, other).await.contains(&serial(&leaf)));
    }
}

contract! {
    async fn each_certificate_names_its_list_and_is_on_that_alone(t: Bench) {
        let (top, mid) = with_lists(&t, |write| write.crl_shards = Some(4)).await;
        assert_eq!((mid.crl_shards, mid.delta_crls, top.crl_shards), (4, false, 1));
        let public = t.vault.public_pki();
        assert_eq!(code(public.crl_of_shard(&mid.id, 0).await), Code::CaNotFound, "not built yet");
        t.vault.run_due_jobs().await.unwrap();
        let mut leaves = Vec::new();
        while leaves.len() < 4 {
            let leaf = issue(&t, "a.svc.test").await;
            if shard(&leaf.serial_number, 4) == leaves.len() as u8 {
                leaves.push(leaf);
            }
        }
        let list = async |of: u8| public.crl_of_shard(&mid.id, of).await.unwrap().der;
        for (at, leaf) in leaves.iter().enumerate() {
            let files = Files::new();
            files.add("leaf.pem", &leaf.certificate);
            let said = files.agrees("x509 -in leaf.pem -noout -ext crlDistributionPoints");
            assert!(said.contains(&format!("URI:https://vault.test/v1/pki/ca/{}/crl/{at}\n", mid.id)), "{said}");
            let (good, said) = verdict(&t, (&top, &mid), &leaf.certificate, &[list(at as u8).await], "").await;
            assert!(good, "{said}");
        }
        let (good, said) = verdict(&t, (&top, &mid), &leaves[1].certificate, &[list(0).await], "").await;
        assert!(!good && said.contains("different CRL scope"), "another shard's list says nothing: {said}");

        // A revocation brings the list forward, and no other one but the complete one.
        t.clock.advance(MINUTE);
        revoke(&t, &leaves[1].serial_number, RevocationReason::Superseded).await;
        t.vault.run_due_jobs().await.unwrap();
        for at in 0..4 {
            let text = text_of(&t, &mid, at).await;
            assert!(text.contains("Issuing Distribution Point: critical"), "{text}");
            assert!(text.contains(&format!("URI:https://vault.test/v1/pki/ca/{}/crl/{at}\n", mid.id)), "{text}");
            assert_eq!((text.contains(&serial(&leaves[1])), number(&text)), (at == 1, if at == 1 { 2 } else { 1 }));
        }
        let (good, said) = verdict(&t, (&top, &mid), &leaves[1].certificate, &[list(1).await], "").await;
        assert!(!good && said.contains("certificate revoked"), "{said}");
        assert!(crl_text(&t, &mid).await.contains(&serial(&leaves[1])), "the complete list goes on");
        assert_eq!(code(public.crl_of_shard(&mid.id, 4).await), Code::CaNotFound);
        assert_eq!(code(public.crl_of_shard(&top.id, 0).await), Code::CaNotFound);
        assert_eq!(code(public.delta_crl(&mid.id, Some(1)).await), Code::CaNotFound);

        // All of them at once, for whoever asks.
        let admin = t.admin();
        let built = t.vault.pki(&admin).build_crl(&mid.id).await.unwrap();
        assert!(built.crl_pem.starts_with("-----BEGIN X509 CRL-----"));
        let mut numbers = Vec::new();
        for at in 0..4 {
            numbers.push(number(&text_of(&t, &mid, at).await));
        }
        assert_eq!(numbers, [2, 3, 2, 2]);
        let what_is_kept_of_none = RolePatch { no_store: Some(true), ..RolePatch::default() };
        t.vault.pki(&admin).patch_role("web", what_is_kept_of_none).await.unwrap();
        let leaf = issue(&t, "b.svc.test").await;
        revoke(&t, &leaf.serial_number, RevocationReason::Superseded).await;
        t.vault.run_due_jobs().await.unwrap();
        assert!(text_of(&t, &mid, shard(&leaf.serial_number, 4)).await.contains(&serial(&leaf)));
    }

    async fn lists_that_cannot_be_are_refused_by_their_field(t: Bench) {
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        for shards in [0, 3, 129, 256, u32::MAX] {
            let error = refusal(pki.create_ca(CaCreate { crl_shards: Some(shards), ..root_write("Top") }).await);
            assert!(error.details().fields.contains_key("crl_shards"), "{shards}: {error}");
        }
        let most = CaCreate { crl_shards: Some(128), ..root_write("Top") };
        let top = pki.create_ca(most).await.unwrap();
        assert_eq!(t.raw.count("pki_crl").await, 129);
        // More lists are due than one look finds.
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count("pki_crl WHERE crl IS NOT NULL AND number = 1").await, 129);
        assert_eq!(number(&text_of(&t, &top, 127).await), 1);
    }

    async fn a_delta_says_what_changed_since_the_list(t: Bench) {
        let (top, mid) = with_lists(&t, |write| write.delta_crls = true).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let (held, old) = (issue(&t, "a.svc.test").await, issue(&t, "b.svc.test").await);
        revoke(&t, &held.serial_number, RevocationReason::CertificateHold).await;
        revoke(&t, &old.serial_number, RevocationReason::Superseded).await;
        pki.build_crl(&mid.id).await.unwrap();
        let base = crl_text(&t, &mid).await;
        assert!(base.contains("Freshest CRL") && base.contains(&format!("/v1/pki/ca/{}/crl/delta\n", mid.id)), "{base}");
        assert!(base.contains(&serial(&held)) && base.contains(&serial(&old)) && number(&base) == 2);

        // A revocation makes a delta at once, and no new list.
        t.clock.advance(MINUTE);
        let new = issue(&t, "c.svc.test").await;
        revoke(&t, &new.serial_number, RevocationReason::KeyCompromise).await;
        pki.release(ReleaseWrite { serial_number: held.serial_number.clone(), ca_id: None }).await.unwrap();
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(crl_text(&t, &mid).await, base);
        let delta = delta_of(&t, &mid, None).await;
        assert!(delta.contains("Delta CRL Indicator: critical"), "{delta}");
        assert!(delta.contains(&serial(&new)) && !delta.contains(&serial(&old)) && number(&delta) == 3, "{delta}");
        let entry = delta.split("Serial Number: ").find(|entry| entry.starts_with(&serial(&held))).unwrap();
        assert!(entry.contains("Remove From CRL"), "{entry}");
        let public = t.vault.public_pki();
        let lists = [public.crl(&mid.id).await.unwrap().der, public.delta_crl(&mid.id, None).await.unwrap().der];
        let say = async |leaf: &IssuedCertificate, more| verdict(&t, (&top, &mid), &leaf.certificate, &lists, more).await;
        assert!(say(&new, "").await.0, "the list alone does not know of it");
        let (good, said) = say(&new, " -use_deltas").await;
        assert!(!good && said.contains("certificate revoked"), "{said}");
        assert!(say(&held, " -use_deltas").await.0, "it was released");
        assert!(!say(&old, " -use_deltas").await.0);

        // Nothing happens for ten minutes, then another delta of the same; after the hour a list, and a delta up to it.
        t.clock.advance(MINUTE * 9);
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(number(&delta_of(&t, &mid, None).await), 3);
        t.clock.advance(MINUTE * 2);
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(number(&delta_of(&t, &mid, None).await), 4);
        t.clock.advance(HOUR);
        t.vault.run_due_jobs().await.unwrap();
        let (base, delta) = (crl_text(&t, &mid).await, delta_of(&t, &mid, None).await);
        assert_eq!((number(&base), number(&delta)), (5, 5));
        assert!(base.contains(&serial(&new)) && !base.contains(&serial(&held)) && delta.contains(&serial(&new)), "{delta}");
        t.clock.advance(MINUTE * 11);
        t.vault.run_due_jobs().await.unwrap();
        assert!(!delta_of(&t, &mid, None).await.contains(&serial(&new)), "it is on the list by now");
    }

    async fn a_hold_that_one_delta_told_of_is_taken_back_by_the_next(t: Bench) {
        let (_, mid) = with_lists(&t, |write| write.delta_crls = true).await;
        t.vault.run_due_jobs().await.unwrap();
        let held = issue(&t, "a.svc.test").await;
        let next = async || {
            t.clock.advance(MINUTE);
            t.vault.run_due_jobs().await.unwrap();
            delta_of(&t, &mid, None).await
        };
        next().await;
        revoke(&t, &held.serial_number, RevocationReason::CertificateHold).await;
        let told = next().await;
        assert!(told.contains(&serial(&held)) && told.contains("Certificate Hold"), "{told}");
        let release = ReleaseWrite { serial_number: held.serial_number.clone(), ca_id: None };
        t.vault.pki(&t.admin()).release(release).await.unwrap();
        let taken = next().await;
        assert!(taken.contains(&serial(&held)) && taken.contains("Remove From CRL"), "{taken}");
        // For as long as somebody may have the delta with the hold: until there is another list.
        let leaf = issue(&t, "b.svc.test").await;
        revoke(&t, &leaf.serial_number, RevocationReason::Superseded).await;
        let still = next().await;
        assert!(still.contains(&serial(&held)) && still.contains(&serial(&leaf)), "{still}");
        t.vault.pki(&t.admin()).build_crl(&mid.id).await.unwrap();
        t.clock.advance(MINUTE * 11);
        assert!(!next().await.contains(&serial(&held)));
    }

    async fn shards_have_deltas_of_their_own(t: Bench) {
        let (top, mid) = with_lists(&t, |write| {
            write.delta_crls = true;
            write.crl_shards = Some(2);
        }).await;
        t.vault.run_due_jobs().await.unwrap();
        let leaf = issue(&t, "a.svc.test").await;
        let of = shard(&leaf.serial_number, 2);
        t.clock.advance(MINUTE);
        revoke(&t, &leaf.serial_number, RevocationReason::Superseded).await;
        t.vault.run_due_jobs().await.unwrap();
        assert!(!text_of(&t, &mid, of).await.contains(&serial(&leaf)));
        let public = t.vault.public_pki();
        let lists = [
            public.crl_of_shard(&mid.id, of).await.unwrap().der,
            public.delta_crl(&mid.id, Some(of)).await.unwrap().der,
        ];
        assert!(read_crl(&Files::new(), &lists[1]).contains("Issuing Distribution Point: critical"));
        assert!(verdict(&t, (&top, &mid), &leaf.certificate, &lists, "").await.0);
        assert!(!verdict(&t, (&top, &mid), &leaf.certificate, &lists, " -use_deltas").await.0);
    }

    async fn what_has_expired_stays_where_the_ca_says_so(t: Bench) {
        let (_, mid) = with_lists(&t, |write| write.keep_expired_on_crl = true).await;
        let leaf = issue(&t, "a.svc.test").await;
        revoke(&t, &leaf.serial_number, RevocationReason::Superseded).await;
        t.clock.advance(DAY * 1200);
        t.vault.pki(&t.admin()).build_crl(&mid.id).await.unwrap();
        let text = crl_text(&t, &mid).await;
        assert!(text.contains(&serial(&leaf)) && text.contains("2.5.29.60") | text.contains("expiredCertsOnCRL"), "{text}");
        // Longer than records are kept otherwise; the CA itself ends before that.
        t.clock.advance(DAY * 1400);
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count(&format!("pki_serial WHERE certificate_id = '{}'", leaf.id)).await, 1);
    }

    async fn sec_f3_a_list_that_lost_something_or_went_back_is_not_published(t: Bench) {
        let (_, mid) = with_lists(&t, |_| ()).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let (one, two) = (issue(&t, "a.svc.test").await, issue(&t, "b.svc.test").await);
        for leaf in [&one, &two] {
            pki.revoke(revocation(&leaf.serial_number)).await.unwrap();
        }
        pki.build_crl(&mid.id).await.unwrap();
        let before = t.vault.public_pki().crl(&mid.id).await.unwrap();
        let refused = async || t.vault.statistics(&t.admin()).await.unwrap().crls_refused;
        let lose = |change: &str| format!("UPDATE pki_serial SET {change} WHERE certificate_id = '{}'", one.id);
        let row = t.raw.texts(&format!("SELECT revocation_reason FROM pki_serial WHERE certificate_id = '{}'", one.id)).await;
        t.raw.execute(&format!("CREATE TABLE held AS SELECT revoked_at FROM pki_serial WHERE certificate_id = '{}'", one.id)).await;
        t.raw.execute(&lose("revoked_at = NULL, revocation_reason = NULL")).await;
        assert_eq!(code(pki.build_crl(&mid.id).await), Code::InternalError, "nobody released it");
        assert_eq!(refused().await, 1);
        t.clock.advance(HOUR);
        assert_eq!(code(t.vault.run_due_jobs().await), Code::InternalError);
        assert_eq!(t.vault.public_pki().crl(&mid.id).await.unwrap(), before, "the last good one");
        assert_eq!(refused().await, 2);
        let back = format!("revoked_at = (SELECT held.revoked_at FROM held), revocation_reason = '{}'", row[0]);
        t.raw.execute(&lose(&back)).await;
        assert_eq!(t.vault.pki(&t.admin()).build_crl(&mid.id).await.unwrap().crl_number, 3);
        // The clock goes back by more than the last list is old.
        t.clock.set(t.now() - HOUR);
        assert_eq!(code(t.vault.pki(&t.admin()).build_crl(&mid.id).await), Code::InternalError);
        t.clock.advance(HOUR);
        // A number that was published is never used again.
        t.raw.execute(&format!("UPDATE pki_crl SET number = 1 WHERE ca_id = '{}'", mid.id)).await;
        assert_eq!(code(t.vault.pki(&t.admin()).build_crl(&mid.id).await), Code::InternalError);
        assert_eq!(refused().await, 4);
        t.raw.execute("DROP TABLE held").await;
    }

    async fn a_revocation_while_a_list_is_built_makes_another(t: Bench) {
        let (_, mid) = with_lists(&t, |_| ()).await;
        let serials: Vec<String> = {
            let mut serials = Vec::new();
            for _ in 0..6 {
                serials.push(issue(&t, "a.svc.test").await.serial_number);
            }
            serials
        };
        let tasks: Vec<_> = serials.iter().cloned().map(|serial| {
            let t = t.clone();
            tokio::spawn(async move {
                revoke(&t, &serial, RevocationReason::Superseded).await;
                t.vault.run_due_jobs().await.unwrap();
            })
        }).collect();
        for task in tasks {
            task.await.unwrap();
        }
        // Whoever found a list taken left it to who had taken it; what came too late for that is due.
        t.clock.advance(MINUTE);
        t.vault.run_due_jobs().await.unwrap();
        let text = crl_text(&t, &mid).await;
        assert!(serials.iter().all(|serial| text.contains(&serial.replace(':', ""))), "{text}");
        assert_eq!(t.vault.pki(&t.admin()).issue("web", wanted("z.svc.test")).await.unwrap().ca_chain.len(), 2);
    }

    async fn a_ca_that_waited_has_its_lists_when_it_issues(t: Bench) {
        let outside = Outside::new(&t);
        let write = CaCreate { crl_shards: Some(4), delta_crls: true, ..external("Mid") };
        let waiting = t.vault.pki(&t.admin()).create_ca(write).await.unwrap();
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count("pki_crl").await, 0, "nobody has certified it");
        assert_eq!(code(t.vault.public_pki().crl_of_shard(&waiting.id, 0).await), Code::CaNotFound);
        let request = t.vault.pki(&t.admin()).ca_csr(&waiting.id).await.unwrap().csr_pem.unwrap();
        let certificate_pem = outside.sign(&request, "mid");
        let install = CaInstall { certificate_pem, chain_pem: vec![outside.text("outside.pem")] };
        let ca = t.vault.pki(&t.admin()).install_ca(&waiting.id, install).await.unwrap();
        assert_eq!(t.raw.count("pki_crl").await, 5);
        publishes_its_shards(&t, &ca, "web").await;
    }

    async fn a_new_key_has_lists_like_those_of_the_one_before(t: Bench) {
        let write = CaCreate { crl_shards: Some(4), delta_crls: true, ..root_write("Top") };
        let old = t.vault.pki(&t.admin()).create_ca(write).await.unwrap();
        publishes_its_shards(&t, &old, "old").await;
        let before = text_of(&t, &old, 1).await;
        let new = t.vault.pki(&t.admin()).rekey_ca(&old.id, rekey("Top 2")).await.unwrap();
        publishes_its_shards(&t, &new, "new").await;
        assert_eq!(text_of(&t, &old, 1).await, before, "not those of the one before");
    }

    async fn lists_are_chosen_anew_with_a_new_key(t: Bench) {
        let old = root(&t.vault, &t.admin(), "Top").await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let write = |shards| CaRekey { crl_shards: Some(shards), delta_crls: Some(true), ..rekey("Top 2") };
        for bad in [0, 3, 256] {
            let error = refusal(pki.rekey_ca(&old.id, write(bad)).await);
            assert!(error.details().fields.contains_key("crl_shards"), "{error:?}");
        }
        let new = pki.rekey_ca(&old.id, write(4)).await.unwrap();
        publishes_its_shards(&t, &new, "new").await;
        let last = CaRekey { crl_shards: Some(1), delta_crls: Some(false), keep_expired_on_crl: Some(true), ..rekey("Top 3") };
        let last = pki.rekey_ca(&new.id, last).await.unwrap();
        assert_eq!((last.crl_shards, last.delta_crls, last.keep_expired_on_crl), (1, false, true));
    }

    async fn a_ca_from_elsewhere_publishes_in_shards(t: Bench) {
        let outside = Outside::new(&t);
        outside.files.agrees("ecparam -name prime256v1 -genkey -noout -out ec.key");
        let own = outside.own("ec.key", "Elsewhere");
        let write = |shards| CaImport {
            crl_shards: Some(shards),
            delta_crls: true,
            ..import("Moved", &own, &outside.text("ec.key"))
        };
        let admin = t.admin();
        let error = refusal(t.vault.pki(&admin).import_ca(write(5)).await);
        assert!(error.details().fields.contains_key("crl_shards"), "{error:?}");
        let ca = t.vault.pki(&admin).import_ca(write(4)).await.unwrap();
        assert!(!ca.keep_expired_on_crl);
        publishes_its_shards(&t, &ca, "web").await;
    }

    async fn a_ca_from_elsewhere_counts_its_lists_on(t: Bench) {
        let outside = Outside::new(&t);
        outside.files.agrees("ecparam -name prime256v1 -genkey -noout -out ec.key");
        let own = outside.own("ec.key", "Elsewhere");
        let write = CaImport { crl_number: 41, ..import("Moved", &own, &outside.text("ec.key")) };
        let ca = t.vault.pki(&t.admin()).import_ca(write).await.unwrap();
        assert_eq!((ca.crl_shards, ca.delta_crls), (1, false));
        role(&t.vault, &t.admin(), "web", &ca.id).await;
        let leaf = issue(&t, "a.svc.test").await;
        revoke(&t, &leaf.serial_number, RevocationReason::Superseded).await;
        t.vault.run_due_jobs().await.unwrap();
        let text = crl_text(&t, &ca).await;
        assert!(number(&text) == 43 && text.contains(&serial(&leaf)), "{text}");
        t.clock.advance(HOUR);
        t.vault.run_due_jobs().await.unwrap();
        let text = crl_text(&t, &ca).await;
        assert!(number(&text) == 44 && text.contains(&serial(&leaf)), "{text}");
        assert_eq!(code(t.vault.public_pki().crl_of_shard(&ca.id, 0).await), Code::CaNotFound);
        assert_eq!(code(t.vault.public_pki().delta_crl(&ca.id, None).await), Code::CaNotFound);
    }
}
