//! Holds, the end of CAs, keys that were compromised, and many certificates at once.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use scaivault_core::{
    Code,
    pki::{
        BulkRevoke, CaCrossSign, CertificateFilter, ReleaseWrite, RevocationReason, RevokeWrite, RolePatch,
    },
};
use serde_json::json;

use crate::{
    bench::{HOUR, OTHER, code, contract, refusal},
    pki::{
        Files, below, crl_text, issue, ocsp, ocsp_of_serial, revocation, revoke, role_write, walk, wanted,
    },
};

fn release(serial: &str) -> ReleaseWrite {
    ReleaseWrite { serial_number: serial.to_owned(), ca_id: None }
}

/// The SHA-256 of a certificate's public key, as `openssl` reads it.
fn key_sha256(certificate: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.pem"), certificate).unwrap();
    let run = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        assert!(command.args(arguments.split(' ')).current_dir(folder.path()).status().unwrap().success());
    };
    run("x509 -in c.pem -noout -pubkey -out k.pem");
    run("pkey -pubin -in k.pem -outform DER -out k.der");
    hex::encode(digest(&SHA256, &std::fs::read(folder.path().join("k.der")).unwrap()))
}

contract! {
    async fn a_certificate_on_hold_is_released_or_revoked_for_good(t: Bench) {
        let (top, mid) = walk(&t).await;
        let leaf = issue(&t, "a.svc.test").await;
        let serial = leaf.serial_number.as_str();
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        assert_eq!(code(pki.release(release(serial)).await), Code::InvalidState, "not on hold");
        let held = revoke(&t, serial, RevocationReason::CertificateHold).await;
        assert!(ocsp(&t, &top, &mid, &leaf.certificate).await.contains("Reason: certificateHold"));
        pki.build_crl(&mid.id).await.unwrap();
        assert!(crl_text(&t, &mid).await.contains("Certificate Hold"));
        assert_eq!(code(t.vault.pki(&t.admin_of(OTHER)).release(release(serial)).await), Code::CertificateNotFound);

        let released = pki.release(release(serial)).await.unwrap();
        assert_eq!((released.id.as_str(), released.released_at), (leaf.id.as_str(), t.now()));
        assert!(ocsp(&t, &top, &mid, &leaf.certificate).await.contains("leaf.pem: good"));
        pki.build_crl(&mid.id).await.unwrap();
        assert!(!crl_text(&t, &mid).await.contains("Serial Number:"));
        assert_eq!(code(pki.release(release(serial)).await), Code::InvalidState);

        // On hold again, and then for good: since the hold, and never to be released.
        let held_again = revoke(&t, serial, RevocationReason::CertificateHold).await;
        assert_eq!(held_again, held);
        t.clock.advance(HOUR);
        let good = revoke(&t, serial, RevocationReason::Superseded).await;
        assert_eq!((good.revoked_at, good.revocation_reason.as_str()), (held.revoked_at, "superseded"));
        assert_eq!(revoke(&t, serial, RevocationReason::CertificateHold).await, good);
        assert_eq!(code(t.vault.pki(&t.admin()).release(release(serial)).await), Code::InvalidState);
        assert!(ocsp(&t, &top, &mid, &leaf.certificate).await.contains("Reason: superseded"));
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.released'").await, 1);
        assert_eq!(t.raw.trail("action = 'pki_release'").await.iter().filter(|r| r.outcome == "ok").count(), 1);
    }

    async fn after_a_release_ocsp_answers_are_no_older_than_during_the_hold(t: Bench) {
        let (top, mid) = walk(&t).await;
        let leaf = issue(&t, "a.svc.test").await;
        let files = Files::new();
        files.add("mid.pem", t.vault.pki(&t.admin()).ca_certificate(&mid.id).await.unwrap().certificate_pem);
        files.add("leaf.pem", &leaf.certificate);
        files.agrees("ocsp -issuer mid.pem -cert leaf.pem -no_nonce -reqout ask.der");
        let ask = files.read("ask.der");
        let answer = async || {
            t.clock.advance(Duration::from_secs(10));
            let (public, now) = (t.vault.public_pki(), t.now());
            let answer = public.ocsp(&mid.id, &ask).await.unwrap();
            assert_eq!(public.ocsp(&mid.id, &ask).await.unwrap(), answer, "given again while it holds");
            (answer.fresh.unwrap().0, now)
        };
        let (before, now) = answer().await;
        assert_eq!(before, now);
        assert_eq!(answer().await.0, before, "nothing changed");
        revoke(&t, &leaf.serial_number, RevocationReason::CertificateHold).await;
        let (held, now) = answer().await;
        assert_eq!(held, now);
        t.vault.pki(&t.admin()).release(release(&leaf.serial_number)).await.unwrap();
        let (after, now) = answer().await;
        assert_eq!(after, now, "not the one from before the hold");
        assert!(ocsp(&t, &top, &mid, &leaf.certificate).await.contains("leaf.pem: good"));
    }

    async fn numbers_that_no_certificate_has_do_not_spoil_an_ocsp_request(t: Bench) {
        let (top, mid) = walk(&t).await;
        let leaf = issue(&t, "a.svc.test").await;
        let files = Files::new();
        for (name, ca) in [("top.pem", &top), ("mid.pem", &mid)] {
            files.add(name, t.vault.pki(&t.admin()).ca_certificate(&ca.id).await.unwrap().certificate_pem);
        }
        files.add("leaf.pem", &leaf.certificate);
        let at = t.now().unix_timestamp();
        let odd = format!("-serial 0 -serial -5 -serial 0x{}", "41".repeat(21));
        for (asked, good) in [(format!("-cert leaf.pem {odd}"), true), (odd, false)] {
            files.agrees(&format!("ocsp -issuer mid.pem {asked} -reqout ask.der"));
            let answer = t.vault.public_pki().ocsp(&mid.id, &files.read("ask.der")).await.unwrap();
            files.add("answer.der", &answer.der);
            let said = files.agrees(&format!(
                "ocsp -respin answer.der -issuer mid.pem {asked} -no_nonce -CAfile top.pem -partial_chain \
                 -verify_other mid.pem -attime {at} -validity_period 1000000000"
            ));
            assert_eq!((said.contains("leaf.pem: good"), said.matches(": unknown").count()), (good, 3), "{said}");
        }
    }

    async fn a_serial_number_tells_that_it_was_given_out(t: Bench) {
        let (top, mid) = walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let kept = issue(&t, "a.svc.test").await.serial_number.replace(':', "");
        pki.patch_role("web", RolePatch { no_store: Some(true), ..RolePatch::default() }).await.unwrap();
        let (one, two) = (issue(&t, "b.svc.test").await, issue(&t, "c.svc.test").await);
        assert_eq!(t.raw.count("pki_serial WHERE source = 'internal'").await, 1, "the one that is kept");
        let serial = one.serial_number.replace(':', "");
        assert_eq!((kept.len(), serial.len()), (40, 40));
        assert!(ocsp_of_serial(&t, &top, &mid, &serial).await.contains(": good"));
        let changed = |at: usize, text: &str| {
            let digit = u8::from_str_radix(&text[at..=at], 16).unwrap() ^ 8;
            format!("{}{digit:X}{}", &text[..at], &text[at + 1..])
        };
        // A wrong tag, and one that says of a certificate that is kept that it is not.
        for forged in [changed(39, &serial), changed(10, &serial), changed(2, &kept)] {
            assert!(ocsp_of_serial(&t, &top, &mid, &forged).await.contains(": unknown"), "{forged}");
            assert_eq!(code(pki.revoke(revocation(&forged)).await), Code::CertificateNotFound);
        }
        assert!(ocsp_of_serial(&t, &top, &top, &serial).await.contains(": unknown"), "of another CA");
        let elsewhere = RevokeWrite { ca_id: Some(top.id.clone()), ..revocation(&serial) };
        assert_eq!(code(pki.revoke(elsewhere).await), Code::CertificateNotFound);
        assert_eq!(code(t.vault.pki(&t.admin_of(OTHER)).revoke(revocation(&serial)).await), Code::CertificateNotFound);

        let held = revoke(&t, &serial, RevocationReason::CertificateHold).await;
        assert_eq!((held.ca_id.as_str(), held.revoked_at), (mid.id.as_str(), t.now()));
        assert!(ocsp(&t, &top, &mid, &one.certificate).await.contains("Reason: certificateHold"));
        pki.build_crl(&mid.id).await.unwrap();
        assert!(crl_text(&t, &mid).await.contains(&serial));
        assert_eq!(pki.release(release(&serial)).await.unwrap().id, held.id);
        assert!(ocsp(&t, &top, &mid, &one.certificate).await.contains("leaf.pem: good"));
        assert_eq!(revoke(&t, &serial, RevocationReason::Superseded).await.id, held.id, "the one row");
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.revoked'").await, 2);
        assert!(ocsp_of_serial(&t, &top, &mid, &two.serial_number).await.contains(": good"));
        pki.revoke_ca(&mid.id, RevocationReason::CessationOfOperation).await.unwrap();
        assert!(ocsp_of_serial(&t, &top, &mid, &two.serial_number).await.contains(": revoked"), "with its CA");
    }

    async fn a_ca_of_an_older_release_gets_its_serial_key_with_its_next_list(t: Bench) {
        let (top, mid) = walk(&t).await;
        let ctx = t.admin();
        t.vault.pki(&ctx).patch_role("web", RolePatch { no_store: Some(true), ..RolePatch::default() }).await.unwrap();
        t.raw.execute("DELETE FROM pki_numbering").await;
        let vault = t.replica().await;
        let pki = vault.pki(&ctx);
        let old = pki.issue("web", wanted("a.svc.test")).await.unwrap();
        assert_eq!(old.serial_number.replace(':', "").len(), 32);
        assert_eq!(t.raw.count(&format!("pki_serial WHERE certificate_id = '{}'", old.id)).await, 1, "a row, for want of a tag");
        pki.build_crl(&mid.id).await.unwrap();
        let key = t.raw.texts("SELECT key_id FROM pki_numbering").await;
        assert_eq!(key.len(), 1);
        let new = pki.issue("web", wanted("b.svc.test")).await.unwrap();
        assert_eq!(new.serial_number.replace(':', "").len(), 40);
        pki.build_crl(&mid.id).await.unwrap();
        assert_eq!(t.raw.count("pki_numbering").await, 1, "once");
        for leaf in [&old, &new] {
            assert!(ocsp_of_serial(&t, &top, &mid, &leaf.serial_number).await.contains(": good"));
        }
        vault.close().await;
    }

    async fn a_ca_ends_with_everything_below_it(t: Bench) {
        let (top, mid) = walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let low = pki.create_ca(below(&mid, "Low")).await.unwrap();
        pki.create_role(role_write("low", &low.id)).await.unwrap();
        let leaf = pki.issue("low", wanted("a.svc.test")).await.unwrap();
        let alive = pki.create_ca(below(&top, "Other")).await.unwrap();
        assert_eq!(code(pki.revoke_ca("ca_x", RevocationReason::Superseded).await), Code::CaNotFound);
        assert_eq!(code(t.vault.pki(&t.admin_of(OTHER)).revoke_ca(&mid.id, RevocationReason::Superseded).await), Code::CaNotFound);
        let held = refusal(pki.revoke_ca(&mid.id, RevocationReason::CertificateHold).await);
        assert!(held.details().fields.contains_key("reason"));

        let ended = pki.revoke_ca(&mid.id, RevocationReason::CessationOfOperation).await.unwrap();
        assert_eq!((ended.is_active, ended.revoked_at), (false, Some(t.now())));
        let shown = pki.ca(&low.id).await.unwrap();
        assert_eq!((shown.is_active, shown.revocation_reason.as_deref()), (false, Some("cessation_of_operation")));
        assert_eq!(code(pki.issue("low", wanted("b.svc.test")).await), Code::InvalidState);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.revoked'").await, 2, "one for each CA");
        assert!(pki.ca(&alive.id).await.unwrap().is_active);
        // What it issued is revoked by rule: no row of it was touched.
        assert_eq!(t.raw.count(&format!("pki_serial WHERE certificate_id = '{}' AND revoked_at IS NULL", leaf.id)).await, 1);
        assert!(ocsp(&t, &mid, &low, &leaf.certificate).await.contains("leaf.pem: revoked"));
        let read = pki.certificate(&leaf.id).await.unwrap();
        assert_eq!((read.status, read.revoked_at, read.revocation_reason.as_deref()), ("revoked", Some(t.now()), Some("cessation_of_operation")));
        let listed = pki.certificates(CertificateFilter::default()).await.unwrap();
        assert!(listed.items.iter().all(|c| c.id != leaf.id && c.status == "active"), "{listed:?}");
        let all = CertificateFilter { include_revoked: true, ..CertificateFilter::default() };
        assert!(pki.certificates(all).await.unwrap().items.iter().any(|c| c.id == leaf.id && c.status == "revoked"));
        pki.build_crl(&top.id).await.unwrap();
        let list = crl_text(&t, &top).await;
        assert!(list.contains(&mid.serial_number.replace(':', "")) && !list.contains(&alive.serial_number.replace(':', "")));

        // A root ends too, but is not on its own list; again changes nothing.
        t.clock.advance(HOUR);
        let root = pki.revoke_ca(&top.id, RevocationReason::Superseded).await.unwrap();
        assert!(!root.is_active && root.revoked_at.is_some());
        assert_eq!(pki.ca(&mid.id).await.unwrap().revocation_reason.as_deref(), Some("cessation_of_operation"), "as it was");
        pki.build_crl(&top.id).await.unwrap();
        let list = crl_text(&t, &top).await;
        assert!(list.contains(&alive.serial_number.replace(':', "")) && !list.contains(&top.serial_number.replace(':', "")));
        let again = t.vault.pki(&t.admin()).revoke_ca(&top.id, RevocationReason::CaCompromise).await.unwrap();
        assert_eq!(again, root);
    }

    async fn many_are_revoked_by_what_they_have_in_common(t: Bench) {
        let (top, mid) = walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        pki.create_role(role_write("mail", &mid.id)).await.unwrap();
        let web = [issue(&t, "a.svc.test").await, issue(&t, "b.svc.test").await];
        let mail = pki.issue("mail", wanted("c.svc.test")).await.unwrap();
        let reason = RevocationReason::PrivilegeWithdrawn;
        let by = |change: fn(&mut BulkRevoke)| {
            let mut write = BulkRevoke::new(reason);
            change(&mut write);
            write
        };
        let error = refusal(pki.revoke_many(BulkRevoke::new(reason)).await);
        assert_eq!(error.code(), Code::ValidationError, "nothing said is not everything");

        // A preview changes nothing, and says what would be.
        let preview = async |write: BulkRevoke| {
            pki.revoke_many(BulkRevoke { dry_run: true, ..write }).await.unwrap()
        };
        let seen = preview(by(|w| w.san = Some("*.svc.test".to_owned()))).await;
        assert_eq!((seen.matched, seen.revoked, seen.remaining, seen.serial_numbers.len()), (3, 0, 3, 3));
        assert_eq!(preview(by(|w| w.san = Some("svc.test".to_owned()))).await.matched, 0, "whole names");
        assert_eq!(preview(by(|w| w.san = Some("*.x.svc.test".to_owned()))).await.matched, 0);
        assert_eq!(preview(by(|w| w.san = Some("A.svc.test".to_owned()))).await.serial_numbers, [web[0].serial_number.as_str()]);
        assert_eq!(preview(by(|w| w.issued_to = Some("user:admin".to_owned()))).await.matched, 3, "no CA among them");
        assert_eq!(preview(by(|w| w.issued_to = Some("user:x".to_owned()))).await.matched, 0);
        let key = BulkRevoke { key_sha256: Some(key_sha256(&mail.certificate)), ..BulkRevoke::new(reason) };
        assert_eq!(preview(key.clone()).await.serial_numbers, [mail.serial_number.as_str()]);
        let other = BulkRevoke { ca_id: Some(top.id.clone()), ..key.clone() };
        assert_eq!(preview(other).await.matched, 0, "all that is said must fit");
        assert_eq!(t.raw.count("pki_serial WHERE revoked_at IS NOT NULL").await, 0);
        let elsewhere = t.admin_of(OTHER);
        assert_eq!(t.vault.pki(&elsewhere).revoke_many(key).await.unwrap().matched, 0);

        let done = pki.revoke_many(by(|w| w.role = Some("web".to_owned()))).await.unwrap();
        assert_eq!((done.matched, done.revoked, done.remaining), (2, 2, 0));
        for leaf in &web {
            assert!(ocsp(&t, &top, &mid, &leaf.certificate).await.contains("leaf.pem: revoked"));
        }
        assert!(ocsp(&t, &top, &mid, &mail.certificate).await.contains("leaf.pem: good"));
        let again = pki.revoke_many(by(|w| w.role = Some("web".to_owned()))).await.unwrap();
        assert_eq!((again.matched, again.revoked), (0, 0));
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.revoked'").await, 2);
        let records = t.raw.trail("action = 'pki_revoke'").await;
        let told = records.iter().find(|r| r.extra["revoked"] == json!(2)).unwrap();
        assert_eq!((&told.extra["matched"], &told.extra["chosen_by"]["role"]), (&json!(2), &json!("web")));
    }

    async fn a_key_that_was_compromised_is_remembered_by_its_hash(t: Bench) {
        let (_, _) = walk(&t).await;
        let (leaf, other) = (issue(&t, "a.svc.test").await, issue(&t, "b.svc.test").await);
        revoke(&t, &other.serial_number, RevocationReason::Superseded).await;
        assert_eq!(t.raw.count("pki_blocked_key").await, 0, "for no other reason");
        t.vault.pki(&t.admin()).revoke(revocation(&leaf.serial_number)).await.unwrap();
        let blocked = t.raw.texts("SELECT certificate_id FROM pki_blocked_key").await;
        assert_eq!(blocked, [leaf.id.as_str()]);
        let both = "pki_blocked_key b JOIN pki_serial s ON s.key_hash = b.key_hash AND s.certificate_id = b.certificate_id";
        assert_eq!(t.raw.count(both).await, 1);
    }

    async fn a_compromised_key_comes_back_by_no_door(t: Bench) {
        let (top, mid) = walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let hash = async |id: &str| {
            let of = format!("SELECT certificate_id FROM pki_blocked_key WHERE certificate_id = '{id}'");
            t.raw.texts(&of).await.len()
        };
        // It was revoked for another reason before.
        let late = issue(&t, "a.svc.test").await;
        let first = revoke(&t, &late.serial_number, RevocationReason::Superseded).await;
        assert_eq!(hash(&late.id).await, 0);
        t.vault.run_due_jobs().await.unwrap();
        assert!(crl_text(&t, &mid).await.contains("Superseded"));
        t.clock.advance(HOUR / 2);
        let raised = revoke(&t, &late.serial_number, RevocationReason::KeyCompromise).await;
        assert_eq!((raised.revoked_at, raised.revocation_reason.as_str()), (first.revoked_at, "key_compromise"));
        assert_eq!(hash(&late.id).await, 1);
        assert_eq!(pki.certificate(&late.id).await.unwrap().revocation_reason.as_deref(), Some("key_compromise"));
        assert!(ocsp(&t, &top, &mid, &late.certificate).await.contains("Reason: keyCompromise"));
        t.vault.run_due_jobs().await.unwrap();
        let list = crl_text(&t, &mid).await;
        assert!(list.contains("Key Compromise") && !list.contains("Superseded"), "{list}");
        for later in [RevocationReason::KeyCompromise, RevocationReason::Superseded, RevocationReason::CertificateHold] {
            assert_eq!(revoke(&t, &late.serial_number, later).await, raised);
        }
        // What is on hold is among many, and is not released when its key is known to be lost.
        let held = issue(&t, "b.svc.test").await;
        revoke(&t, &held.serial_number, RevocationReason::CertificateHold).await;
        t.raw.execute(&format!(
            "INSERT INTO pki_blocked_key (tenant_id, key_hash, certificate_id, blocked_at) SELECT tenant_id, key_hash, 'elsewhere', \
             revoked_at FROM pki_serial WHERE certificate_id = '{}'", held.id
        )).await;
        assert_eq!(code(pki.release(release(&held.serial_number)).await), Code::InvalidState);
        let many = BulkRevoke { key_sha256: Some(key_sha256(&held.certificate)), ..BulkRevoke::new(RevocationReason::KeyCompromise) };
        let done = pki.revoke_many(many).await.unwrap();
        assert_eq!((done.matched, done.revoked), (1, 1));
        let listed = pki.certificate(&held.id).await.unwrap();
        assert_eq!(listed.revocation_reason.as_deref(), Some("key_compromise"));
        assert!(pki.ca(&mid.id).await.unwrap().is_active);
    }

    async fn what_is_below_a_compromised_ca_ends_for_that_and_its_keys_are_nobodys_fault(t: Bench) {
        let (top, mid) = walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let other = crate::pki::root(&t.vault, &admin, "Voucher").await;
        let low = pki.create_ca(below(&mid, "Low")).await.unwrap();
        let by_id = |id: &str| CaCrossSign { ca_id: Some(id.to_owned()), ..CaCrossSign::default() };
        let cross = [
            pki.cross_sign(&other.id, by_id(&mid.id)).await.unwrap(),
            pki.cross_sign(&other.id, by_id(&low.id)).await.unwrap(),
        ];
        let hold = RevokeWrite { reason: RevocationReason::CertificateHold, ..revocation(&pki.certificate(&cross[0].id).await.unwrap().serial_number) };
        assert_eq!(code(pki.revoke(hold).await), Code::ValidationError);
        let many = BulkRevoke { issued_to: Some("user:admin".to_owned()), dry_run: true, ..BulkRevoke::new(RevocationReason::Superseded) };
        assert_eq!(pki.revoke_many(many).await.unwrap().matched, 0, "certificates of CAs are not among many");
        pki.revoke_ca(&mid.id, RevocationReason::KeyCompromise).await.unwrap();
        let reason = async |id: &str| t.vault.pki(&t.admin()).ca(id).await.unwrap().revocation_reason;
        assert_eq!(reason(&mid.id).await.as_deref(), Some("key_compromise"));
        assert_eq!(reason(&low.id).await.as_deref(), Some("ca_compromise"));
        assert_eq!((reason(&top.id).await, reason(&other.id).await), (None, None));
        for cross in &cross {
            assert_eq!(pki.certificate(&cross.id).await.unwrap().status, "revoked");
        }
        assert!(pki.ca_certificate(&mid.id).await.unwrap().cross_certificates.is_empty());
        assert_eq!(t.raw.count("pki_blocked_key").await, 1, "the key of the one that was lost");
        pki.build_crl(&other.id).await.unwrap();
        let list = crl_text(&t, &other).await;
        for cross in &cross {
            let serial = pki.certificate(&cross.id).await.unwrap().serial_number;
            assert!(list.contains(&serial.replace(':', "")), "{list}");
        }
    }

    async fn nothing_is_made_below_a_ca_that_ends_meanwhile(t: Bench) {
        let (top, mid) = walk(&t).await;
        // Each way round, many times: either the CA below was refused, or it ended with the one above it.
        for n in 0..4 {
            let parent = t.vault.pki(&t.admin()).create_ca(below(&top, &format!("Parent {n}"))).await.unwrap();
            let (maker, ender) = (t.admin(), t.admin());
            let (makes, ends) = (t.vault.pki(&maker), t.vault.pki(&ender));
            let name = format!("Child {n}");
            let (made, ended) = tokio::join!(
                makes.create_ca(below(&parent, &name)),
                ends.revoke_ca(&parent.id, RevocationReason::Superseded)
            );
            assert!(!ended.unwrap().is_active);
            match made {
                Ok(child) => assert!(!ends.ca(&child.id).await.unwrap().is_active),
                Err(error) => assert_eq!(error.code(), Code::InvalidState),
            }
        }
        assert!(t.vault.pki(&t.admin()).ca(&mid.id).await.unwrap().is_active);
    }
}
