//! Certificates that are judged by what the vault knows of its own CAs.

use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use scaivault_core::pki::{
    CaCreate, CaCrossSign, CaImport, CaState, CaType, RevocationCheck, RevocationReason, RolePatch,
    ValidateWrite,
};

use crate::{
    anchors::{Outside, add, anchor, codes, findings, judge, outside, params, to_judge},
    bench::contract,
    pki::{below, import, issue, rekey, revoke, role, role_write, root_write, walk, wanted},
};

fn strictly(pem: &str) -> ValidateWrite {
    ValidateWrite { revocation: RevocationCheck::Require, ..to_judge(pem) }
}

/// A certificate with that serial number, signed behind the vault's back.
fn forged(ca: &Outside, serial: &[u8]) -> String {
    let mut params = params("a.svc.test", 2026..2027);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.signed_by(&KeyPair::generate().unwrap(), &ca.issuer).unwrap().pem()
}

fn below_outside(name: &str, above: &Outside) -> Outside {
    let mut params = params(name, 2021..2039);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &above.issuer).unwrap();
    Outside { certificate, issuer: Issuer::new(params, key) }
}

fn imported(name: &str, ca: &Outside) -> CaImport {
    import(name, &ca.certificate.pem(), &ca.issuer.key().serialize_pem())
}

contract! {
    async fn a_certificate_that_was_not_kept_is_judged_by_its_number(t: Bench) {
        let (_, mid) = walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        pki.patch_role("web", RolePatch { no_store: Some(true), ..RolePatch::default() }).await.unwrap();
        let (one, two) = (issue(&t, "a.svc.test").await, issue(&t, "b.svc.test").await);
        assert_eq!(t.raw.count("pki_serial WHERE source = 'internal'").await, 0);
        let good = judge(&t, strictly(&one.certificate)).await;
        assert_eq!((good.valid, findings(&good)), (true, vec![("good", "register"); 2]));

        revoke(&t, &one.serial_number, RevocationReason::Superseded).await;
        let revoked = judge(&t, strictly(&one.certificate)).await;
        assert_eq!((codes(&revoked), findings(&revoked)[0]), (vec!["revoked"], ("revoked", "register")));
        let finding = revoked.chain[0].revocation.as_ref().unwrap();
        assert_eq!((finding.revoked_at, finding.reason), (Some(t.now()), Some("superseded")));
        assert!(judge(&t, strictly(&two.certificate)).await.valid, "the other one");

        pki.revoke_ca(&mid.id, RevocationReason::CaCompromise).await.unwrap();
        let ended = judge(&t, to_judge(&two.certificate)).await;
        assert_eq!((ended.valid, findings(&ended)), (false, vec![("revoked", "register"); 2]));
    }

    async fn a_serial_number_that_was_not_given_out_is_refused(t: Bench) {
        let ca = outside("Mine", 2020..2040);
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let mine = pki.import_ca(imported("mine", &ca)).await.unwrap();
        role(&t.vault, &admin, "web", &mine.id).await;
        let kept = issue(&t, "a.svc.test").await;
        pki.patch_role("web", RolePatch { no_store: Some(true), ..RolePatch::default() }).await.unwrap();
        let unkept = issue(&t, "b.svc.test").await;
        for leaf in [&kept, &unkept] {
            let good = judge(&t, strictly(&leaf.certificate)).await;
            assert_eq!((good.valid, findings(&good)), (true, vec![("good", "register")]));
        }
        let octets = |serial: &str| hex::decode(serial.replace(':', "")).unwrap();
        let changed = |serial: &str, at: usize, mask: u8| {
            let mut octets = octets(serial);
            octets[at] ^= mask;
            octets
        };
        let genuine = judge(&t, strictly(&forged(&ca, &octets(&unkept.serial_number)))).await;
        assert!(genuine.valid, "whoever signs with the CA's key a number that it gave out: {genuine:#?}");
        for serial in [
            changed(&unkept.serial_number, 19, 1),
            changed(&unkept.serial_number, 5, 1),
            // It says that it is kept; and of one that is, that it is not.
            changed(&unkept.serial_number, 1, 0x80),
            changed(&kept.serial_number, 1, 0x80),
            [0x41, 0x80].into_iter().chain([7; 18]).collect(),
        ] {
            let never = judge(&t, to_judge(&forged(&ca, &serial))).await;
            assert_eq!((codes(&never), findings(&never)), (vec!["revocation_unknown"], vec![("unknown", "register")]));
        }
    }

    async fn the_number_that_others_gave_to_a_ca_is_none_of_its_own(t: Bench) {
        let outer = outside("Outer", 2020..2040);
        let ca = below_outside("Mine", &outer);
        let write = CaImport { chain_pem: vec![outer.certificate.pem()], ..imported("mine", &ca) };
        let mine = t.vault.pki(&t.admin()).import_ca(write).await.unwrap();
        add(&t, anchor("outer", outer.certificate.pem())).await;
        let forged = forged(&ca, &hex::decode(mine.serial_number.replace(':', "")).unwrap());
        let report = judge(&t, to_judge(&forged)).await;
        assert_eq!(findings(&report)[0], ("unknown", "register"), "{report:#?}");
    }

    async fn cas_that_wait_disturb_no_judgement(t: Bench) {
        let (top, _) = walk(&t).await;
        let leaf = issue(&t, "a.svc.test").await;
        let waits = CaCreate { ca_type: CaType::Intermediate, external: true, ..root_write("Waits") };
        let waits = t.vault.pki(&t.admin()).create_ca(waits).await.unwrap();
        assert_eq!(waits.state, CaState::Pending);
        let good = judge(&t, strictly(&leaf.certificate)).await;
        assert_eq!((good.valid, good.trust_anchor_id), (true, Some(top.id)));
    }

    async fn cas_with_new_keys_and_cross_certificates_are_judged_by(t: Bench) {
        let (top, mid) = walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let old = issue(&t, "a.svc.test").await;
        let next = pki.rekey_ca(&mid.id, rekey("Mid 2")).await.unwrap();
        pki.create_role(role_write("next", &next.id)).await.unwrap();
        let new = pki.issue("next", wanted("a.svc.test")).await.unwrap();
        for leaf in [&old, &new] {
            let good = judge(&t, strictly(&leaf.certificate)).await;
            assert_eq!((good.valid, good.trust_anchor_id.as_ref()), (true, Some(&top.id)), "{good:#?}");
        }
        // Below a root that follows the first: by itself, and by what the first says of it once it is gone itself.
        let second = pki.rekey_ca(&top.id, rekey("Top 2")).await.unwrap();
        let link = CaCrossSign { ca_id: Some(second.id.clone()), ..CaCrossSign::default() };
        let link = pki.cross_sign(&top.id, link).await.unwrap();
        let low = pki.create_ca(below(&second, "Low")).await.unwrap();
        pki.create_role(role_write("low", &low.id)).await.unwrap();
        let leaf = pki.issue("low", wanted("a.svc.test")).await.unwrap();
        let linked = ValidateWrite { chain_pem: vec![link.certificate_pem.clone()], ..strictly(&leaf.certificate) };
        for write in [strictly(&leaf.certificate), linked.clone()] {
            let good = judge(&t, write).await;
            assert_eq!((good.valid, good.trust_anchor_id.as_ref()), (true, Some(&second.id)), "{good:#?}");
        }
        t.raw.execute(&format!("UPDATE pki_ca SET ca_type = 'intermediate' WHERE id = '{}'", second.id)).await;
        let good = judge(&t, linked.clone()).await;
        assert_eq!((good.valid, good.trust_anchor_id.as_ref(), good.chain.len()), (true, Some(&top.id), 4), "{good:#?}");
        assert_eq!(findings(&good), [("good", "register"); 3]);
        let certificate = pki.certificate(&link.id).await.unwrap();
        revoke(&t, &certificate.serial_number, RevocationReason::Superseded).await;
        assert_eq!(codes(&judge(&t, linked).await), ["revoked"]);
    }

    async fn what_is_above_a_ca_from_elsewhere_need_not_be_sent(t: Bench) {
        let outer = outside("Outer", 2020..2040);
        let between = below_outside("Between", &outer);
        let ca = below_outside("Mine", &between);
        let admin = t.admin();
        let write = CaImport { chain_pem: vec![between.certificate.pem(), outer.certificate.pem()], ..imported("mine", &ca) };
        let mine = t.vault.pki(&admin).import_ca(write).await.unwrap();
        role(&t.vault, &admin, "web", &mine.id).await;
        let leaf = issue(&t, "a.svc.test").await;
        // Above it there is nobody whom the tenant trusts, until it says so.
        let untrusted = judge(&t, to_judge(&leaf.certificate)).await;
        assert_eq!((codes(&untrusted), untrusted.trust_anchor_id), (vec!["unknown_issuer"], None));
        let trusted = add(&t, anchor("outer", outer.certificate.pem())).await;
        let good = judge(&t, to_judge(&leaf.certificate)).await;
        assert_eq!((good.valid, good.trust_anchor_id.as_ref(), good.chain.len()), (true, Some(&trusted.id), 4));
        assert_eq!(findings(&good), [("good", "register"), ("unknown", "none"), ("unknown", "none")]);
    }
}
