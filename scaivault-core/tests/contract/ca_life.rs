//! CAs that are given up, that get a new key from outside, and whose certificate somebody else numbered.

use scaivault_core::{
    Code,
    pki::{
        Ca, CaImport, CaInstall, CaRekey, CaState, CaType, CertificateSearch, RevocationReason, RevokeWrite,
        StatusFilter,
    },
};
use scaivault_pki::pem;

use crate::{
    bench::{Bench, OTHER, code, contract, refusal},
    ca_origins::{Outside, external},
    pki::{
        Files, crl_text, import, issue, ocsp, ocsp_of_serial, rekey, revocation, revoke, role, role_write,
        root, wanted,
    },
};

/// Gives a pending CA the certificate that OpenSSL makes of its request.
async fn install(t: &Bench, outside: &Outside, ca: &Ca) -> Ca {
    let admin = t.admin();
    let pki = t.vault.pki(&admin);
    let request = pki.ca_csr(&ca.id).await.unwrap().csr_pem.unwrap();
    pki.install_ca(&ca.id, signed(outside, &request)).await.unwrap()
}

fn signed(outside: &Outside, request: &str) -> CaInstall {
    let certificate_pem = outside.sign(request, "mid");
    CaInstall { certificate_pem, chain_pem: vec![outside.text("outside.pem")] }
}

async fn signed_outside(t: &Bench, outside: &Outside, name: &str) -> Ca {
    let ca = t.vault.pki(&t.admin()).create_ca(external(name)).await.unwrap();
    install(t, outside, &ca).await
}

/// The certificates that a search finds, by their identifiers.
async fn found(t: &Bench, search: CertificateSearch) -> Vec<String> {
    let page = t.vault.pki(&t.admin()).search_certificates(search).await.unwrap().page;
    page.items.into_iter().map(|item| item.certificate.id).collect()
}

fn by_serial(serial: &str) -> CertificateSearch {
    CertificateSearch { serial_number: Some(serial.to_owned()), ..CertificateSearch::default() }
}

#[track_caller]
fn fields<T>(result: scaivault_core::Result<T>) -> Vec<String> {
    let error = refusal(result);
    assert_eq!(error.code(), Code::ValidationError, "{error:?}");
    error.details().fields.keys().cloned().collect()
}

contract! {
    async fn a_ca_that_waits_in_vain_is_given_up(t: Bench) {
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let top = root(&t.vault, &admin, "Top").await;
        let ca = pki.create_ca(external("Mid")).await.unwrap();
        assert_eq!(code(pki.create_ca(external("MID")).await), Code::NameConflict);
        assert_eq!(code(t.vault.pki(&t.admin_of(OTHER)).delete_ca(&ca.id).await), Code::CaNotFound);
        let active = refusal(pki.delete_ca(&top.id).await);
        assert!(active.code() == Code::InvalidState && active.message().contains("Revoke it"), "{active:?}");
        let by = t.admin();
        t.vault.pki(&by).delete_ca(&ca.id).await.unwrap();
        let record = &t.trail(&by).await[0];
        assert_eq!((record.action.as_str(), record.outcome.as_str()), ("pki_ca_delete", "ok"));
        assert_eq!((record.resource.as_deref(), &record.extra["name"]), (Some(ca.id.as_str()), &"Mid".into()));
        for gone in [pki.ca(&ca.id).await.map(drop), pki.ca_csr(&ca.id).await.map(drop), pki.delete_ca(&ca.id).await] {
            assert_eq!(code(gone), Code::CaNotFound);
        }
        assert_eq!(pki.cas(None, None).await.unwrap().items, [top]);
        // Nothing of its keys is left, and its name is free.
        for table in ["pki_ca", "pki_numbering"] {
            assert_eq!(t.raw.count(&format!("{table} WHERE id = '{}'", ca.id)).await, 0, "{table}");
        }
        let outside = Outside::new(&t);
        let again = signed_outside(&t, &outside, "Mid").await;
        assert_eq!(code(pki.delete_ca(&again.id).await), Code::InvalidState);
        pki.revoke_ca(&again.id, RevocationReason::CessationOfOperation).await.unwrap();
        assert_eq!(code(pki.delete_ca(&again.id).await), Code::InvalidState);
    }

    async fn of_who_installs_and_who_gives_up_one_succeeds(t: Bench) {
        let outside = Outside::new(&t);
        let replica = t.replica().await;
        for name in ["One", "Two", "Three"] {
            let (one, two) = (t.admin(), t.admin());
            let ca = t.vault.pki(&one).create_ca(external(name)).await.unwrap();
            let request = t.vault.pki(&one).ca_csr(&ca.id).await.unwrap().csr_pem.unwrap();
            let (here, there) = (t.vault.pki(&one), replica.pki(&two));
            let (installed, deleted) =
                tokio::join!(here.install_ca(&ca.id, signed(&outside, &request)), there.delete_ca(&ca.id));
            let left = t.vault.pki(&t.admin()).ca(&ca.id).await;
            match (installed, deleted) {
                (Ok(_), Err(error)) => {
                    assert_eq!(error.code(), Code::InvalidState);
                    assert_eq!(left.unwrap().state, CaState::Active);
                }
                (Err(error), Ok(())) => {
                    assert!([Code::InvalidState, Code::CaNotFound].contains(&error.code()), "{error:?}");
                    assert_eq!(code(left), Code::CaNotFound);
                }
                both => panic!("{both:?}"),
            }
        }
        replica.close().await;
    }

    async fn a_ca_that_was_signed_outside_gets_a_new_key_from_there(t: Bench) {
        let outside = Outside::new(&t);
        let anchor = outside.text("outside.pem");
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let old = signed_outside(&t, &outside, "Mid").await;
        role(&t.vault, &admin, "web", &old.id).await;
        let before = issue(&t, "a.svc.test").await;
        let bounded = CaRekey { validity_days: Some(10), ..rekey("Mid 2") };
        assert_eq!(fields(pki.rekey_ca(&old.id, bounded).await), ["validity_days"]);
        let new = pki.rekey_ca(&old.id, rekey("Mid 2")).await.unwrap();
        assert_eq!((new.state, new.generation, new.replaces.as_deref()), (CaState::Pending, 2, Some(old.id.as_str())));
        assert_eq!((&new.common_name, new.ca_type, &new.parent_ca_id), (&old.common_name, CaType::Intermediate, &None));
        // It takes nothing over yet.
        assert_eq!(code(pki.make_default(&new.id).await), Code::InvalidState);
        assert_eq!(pki.role("web").await.unwrap().config.ca_id, old.id);
        let request = pki.ca_csr(&new.id).await.unwrap().csr_pem.unwrap();
        let other = CaInstall {
            certificate_pem: outside.sign_with(&request, "-extensions mid -subj /CN=Other"),
            chain_pem: vec![anchor.clone()],
        };
        let refused = refusal(pki.install_ca(&new.id, other).await);
        assert!(format!("{:?}", refused.details().fields).contains("another name"), "{refused:?}");
        let new = pki.install_ca(&new.id, signed(&outside, &request)).await.unwrap();
        assert_eq!((new.state, new.generation), (CaState::Active, 2));
        pki.make_default(&new.id).await.unwrap();
        assert_eq!(pki.role("web").await.unwrap().config.ca_id, new.id);
        let after = issue(&t, "b.svc.test").await;
        let files = Files::new();
        files.add("anchor.pem", &anchor);
        for (leaf, ca) in [(&before, &old), (&after, &new)] {
            files.add("leaf.pem", &leaf.certificate);
            files.add("chain.pem", leaf.ca_chain.concat());
            files.add("list.pem", pki.build_crl(&ca.id).await.unwrap().crl_pem);
            let at = t.now().unix_timestamp();
            files.agrees(&format!(
                "verify -x509_strict -crl_check -CRLfile list.pem -CAfile anchor.pem -untrusted chain.pem -attime {at} \
                 leaf.pem"
            ));
        }
        // One that is given up leaves its place to the next.
        let third = pki.rekey_ca(&new.id, rekey("Mid 3")).await.unwrap();
        assert_eq!(third.generation, 3);
        pki.delete_ca(&third.id).await.unwrap();
        assert_eq!(pki.rekey_ca(&new.id, rekey("Mid 3")).await.unwrap().generation, 3);
        let ended = pki.revoke_ca(&old.id, RevocationReason::Superseded).await.unwrap();
        assert_eq!(code(pki.rekey_ca(&ended.id, rekey("Mid 4")).await), Code::InvalidState);
    }

    async fn the_name_of_an_imported_ca_is_asked_for_byte_by_byte(t: Bench) {
        let outside = Outside::new(&t);
        outside.files.agrees("ecparam -name prime256v1 -genkey -noout -out ec.key");
        outside.request("ec.key", "/O=Elsewhere/CN=Below");
        let below = outside.sign(&outside.text("request.pem"), "mid");
        let chain_pem = vec![outside.text("outside.pem")];
        let write = CaImport { chain_pem, ..import("Below", &below, &outside.text("ec.key")) };
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let old = pki.import_ca(write).await.unwrap();
        let new = pki.rekey_ca(&old.id, rekey("Below 2")).await.unwrap();
        assert_eq!((new.state, new.replaces.as_deref()), (CaState::Pending, Some(old.id.as_str())));
        let request = pki.ca_csr(&new.id).await.unwrap().csr_pem.unwrap();
        let der = &pem::parse_certificates(&below).unwrap()[0];
        let name = scaivault_pki::Issuer::from_certificate(der, scaivault_pki::IssuerUrls::default()).unwrap();
        let asked = scaivault_pki::Csr::parse(request.as_bytes()).unwrap();
        assert_eq!(asked.subject_der().unwrap(), name.name_der());
        outside.files.add("asked.pem", &request);
        let text = outside.files.agrees("req -in asked.pem -verify -noout -text");
        assert!(text.contains("CA:TRUE, pathlen:0"), "{text}");
        // Signers may write it otherwise.
        let write = CaInstall {
            certificate_pem: outside.sign_with(&request, "-extensions mid -subj /O=ELSEWHERE/CN=below"),
            chain_pem: vec![outside.text("outside.pem")],
        };
        assert_eq!(pki.install_ca(&new.id, write).await.unwrap().state, CaState::Active);
    }

    async fn two_imports_of_one_key_at_once_make_one_ca(t: Bench) {
        let outside = Outside::new(&t);
        let replica = t.replica().await;
        for turn in 0..10 {
            outside.files.agrees("ecparam -name prime256v1 -genkey -noout -out ec.key");
            let own = outside.own("ec.key", "Elsewhere");
            let key = outside.text("ec.key");
            let names = [format!("A{turn}"), format!("B{turn}")];
            let (one, two) = (t.admin(), t.admin());
            let (here, there) = (t.vault.pki(&one), replica.pki(&two));
            let (first, second) = tokio::join!(
                here.import_ca(import(&names[0], &own, &key)),
                there.import_ca(import(&names[1], &own, &key)),
            );
            let (made, refused) = match (first, second) {
                (Ok(made), refused) | (refused, Ok(made)) => (made, refused),
                neither => panic!("{neither:?}"),
            };
            assert_eq!(fields(refused), ["certificate_pem"]);
            assert_eq!(t.raw.count("pki_ca").await, turn + 1);
            assert!(names.contains(&made.name));
        }
        replica.close().await;
    }

    async fn what_somebody_else_numbered_is_in_the_inventory_and_on_no_list(t: Bench) {
        let outside = Outside::new(&t);
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let ca = signed_outside(&t, &outside, "Mid").await;
        role(&t.vault, &admin, "web", &ca.id).await;
        let leaf = issue(&t, "a.svc.test").await;
        assert_eq!(pki.ca(&ca.id).await.unwrap().certificates_issued, 1);
        // It is found, and counted.
        let [own] = found(&t, by_serial(&ca.serial_number)).await.try_into().unwrap();
        let shown = pki.certificate(&own).await.unwrap();
        assert_eq!((shown.ca_id.as_str(), shown.source.as_str(), shown.status), (ca.id.as_str(), "ca", "active"));
        let issued_by = CertificateSearch { ca_id: Some(ca.id.clone()), ..CertificateSearch::default() };
        assert_eq!(found(&t, issued_by).await, std::slice::from_ref(&leaf.id));
        let figures = pki.certificate_summary().await.unwrap();
        assert_eq!(figures.by_status.active.count, 2);
        assert_eq!(figures.by_issuer.iter().map(|of| of.active).collect::<Vec<_>>(), [1]);
        // Nobody here answers for it.
        let said = ocsp_of_serial(&t, &ca, &ca, &ca.serial_number).await;
        assert!(said.contains(": unknown"), "{said}");
        assert!(ocsp(&t, &ca, &ca, &leaf.certificate).await.contains("leaf.pem: good"));
        let named = |ca_id: &str| RevokeWrite { ca_id: Some(ca_id.to_owned()), ..revocation(&ca.serial_number) };
        for write in [revocation(&ca.serial_number), named(&ca.id)] {
            let error = refusal(pki.revoke(write).await);
            assert!(error.code() == Code::InvalidState && error.message().contains("signed outside"), "{error:?}");
        }
        assert_eq!(code(pki.revoke(named("ca_x")).await), Code::CertificateNotFound);
        assert_eq!(pki.ca(&ca.id).await.unwrap().state, CaState::Active);
        // A number of its own that is the same is its own certificate's.
        let issued = pki.ca(&ca.id).await.unwrap().certificates_issued;
        let same = format!(
            "UPDATE pki_serial SET serial = (SELECT c.serial FROM pki_ca c WHERE c.id = '{}') WHERE certificate_id = '{}'",
            ca.id, leaf.id
        );
        t.raw.execute(&same).await;
        assert_eq!(pki.ca(&ca.id).await.unwrap().certificates_issued, issued);
        revoke(&t, &ca.serial_number, RevocationReason::Superseded).await;
        assert!(ocsp_of_serial(&t, &ca, &ca, &ca.serial_number).await.contains(": revoked"));
        pki.build_crl(&ca.id).await.unwrap();
        let listed = format!("Serial Number: {}", ca.serial_number.replace(':', ""));
        assert!(crl_text(&t, &ca).await.contains(&listed));
        assert_eq!(pki.ca(&ca.id).await.unwrap().state, CaState::Active);
    }

    async fn a_ca_that_was_signed_outside_ends_with_what_is_below_it(t: Bench) {
        let outside = Outside::new(&t);
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let other = signed_outside(&t, &outside, "Other").await;
        let ca = signed_outside(&t, &outside, "Mid").await;
        role(&t.vault, &admin, "web", &ca.id).await;
        let leaf = issue(&t, "a.svc.test").await;
        let [own] = found(&t, by_serial(&ca.serial_number)).await.try_into().unwrap();
        let ended = pki.revoke_ca(&ca.id, RevocationReason::CessationOfOperation).await.unwrap();
        assert_eq!((ended.state, ended.revoked_at), (CaState::Revoked, Some(t.now())));
        assert_eq!(ended.revocation_reason.as_deref(), Some("cessation_of_operation"));
        assert_eq!(code(pki.issue("web", wanted("b.svc.test")).await), Code::InvalidState);
        assert_eq!(code(pki.create_role(role_write("more", &ca.id)).await), Code::InvalidState);
        for id in [&own, &leaf.id] {
            assert_eq!(pki.certificate(id).await.unwrap().status, "revoked");
        }
        assert!(ocsp(&t, &ca, &ca, &leaf.certificate).await.contains("leaf.pem: revoked"));
        assert!(ocsp_of_serial(&t, &ca, &ca, &ca.serial_number).await.contains(": unknown"));
        pki.build_crl(&ca.id).await.unwrap();
        let (list, number) = (crl_text(&t, &ca).await, |serial: &str| format!("Serial Number: {}", serial.replace(':', "")));
        assert!(list.contains(&number(&leaf.serial_number)), "{list}");
        assert!(!list.contains(&number(&ca.serial_number)), "{list}");
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.revoked'").await, 1);
        // What was signed outside for another CA is not taken for what ended.
        let [others] = found(&t, by_serial(&other.serial_number)).await.try_into().unwrap();
        let active = CertificateSearch { status: Some(StatusFilter::Active), ..CertificateSearch::default() };
        assert_eq!(found(&t, active).await, [others]);
        assert_eq!(pki.certificate_summary().await.unwrap().by_status.active.count, 1);
    }

    async fn a_root_from_elsewhere_is_listed_under_itself(t: Bench) {
        let outside = Outside::new(&t);
        outside.files.agrees("ecparam -name prime256v1 -genkey -noout -out ec.key");
        let own = outside.own("ec.key", "Elsewhere");
        let admin = t.admin();
        let ca = t.vault.pki(&admin).import_ca(import("Moved", &own, &outside.text("ec.key"))).await.unwrap();
        assert_eq!(t.vault.pki(&admin).ca(&ca.id).await.unwrap().certificates_issued, 0);
        assert!(ocsp_of_serial(&t, &ca, &ca, &ca.serial_number).await.contains(": good"));
        let error = refusal(t.vault.pki(&admin).revoke(revocation(&ca.serial_number)).await);
        assert!(error.code() == Code::InvalidState && error.message().contains("A root cannot"), "{error:?}");
    }
}
