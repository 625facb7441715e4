//! Attacks on certificates' states: with another's certificate, by waiting, and by a restart.

use scaivault_core::{
    Code, Scope,
    pki::{Ca, IssuedCertificate, RevocationReason, RevokeWrite, RolePatch},
};

use crate::{
    bench::{Bench, DAY, code, contract},
    pki::{crl_text, issue, ocsp, revocation, revoke, root, walk},
};

/// A serial number as `openssl` writes it in a list.
fn serial(of: &IssuedCertificate) -> String {
    of.serial_number.replace(':', "").to_uppercase()
}

/// What list and OCSP say of the leaf: whether each has it as revoked.
async fn revoked(t: &Bench, (top, mid): (&Ca, &Ca), leaf: &IssuedCertificate) -> (bool, bool) {
    let said = ocsp(t, top, mid, &leaf.certificate).await;
    assert!(said.contains("Response verify OK"), "{said}");
    (crl_text(t, mid).await.contains(&serial(leaf)), said.contains("leaf.pem: revoked"))
}

contract! {
    async fn sec_e6_another_certificate_is_no_handle_on_this_one(t: Bench) {
        let (top, mid) = walk(&t).await;
        let mine = issue(&t, "mine.svc.test").await;
        let yours = issue(&t, "yours.svc.test").await;
        let other = root(&t.vault, &t.admin(), "Other").await;
        let by = async |ctx, write: RevokeWrite| code(t.vault.pki(&ctx).revoke(write).await);
        // Another CA's name, another tenant, the rights to have certificates alone.
        let misnamed = RevokeWrite { ca_id: Some(other.id.clone()), ..revocation(&yours.serial_number) };
        assert_eq!(by(t.admin(), misnamed).await, Code::CertificateNotFound);
        let stranger = t.admin_of("tnt_stranger");
        assert_eq!(by(stranger.clone(), revocation(&yours.serial_number)).await, Code::CertificateNotFound);
        assert_eq!(code(t.vault.pki(&stranger).certificate(&yours.id).await), Code::CertificateNotFound);
        let issuer = t.scoped("user:issuer", &[Scope::PkiIssue]);
        assert_ne!(by(issuer, revocation(&yours.serial_number)).await, Code::CertificateNotFound);
        assert_eq!(revoked(&t, (&top, &mid), &yours).await, (false, false));
        // Who revokes his own revokes that one alone.
        revoke(&t, &mine.serial_number, RevocationReason::Superseded).await;
        t.vault.pki(&t.admin()).build_crl(&mid.id).await.unwrap();
        assert_eq!(revoked(&t, (&top, &mid), &mine).await, (true, true));
        assert_eq!(revoked(&t, (&top, &mid), &yours).await, (false, false));
    }

    async fn sec_f6_what_is_revoked_stays_so_until_its_end(t: Bench) {
        let (top, mid) = walk(&t).await;
        let long = RolePatch { default_ttl: "720h".parse().ok(), ..RolePatch::default() };
        t.vault.pki(&t.admin()).patch_role("web", long).await.unwrap();
        let leaf = issue(&t, "a.svc.test").await;
        revoke(&t, &leaf.serial_number, RevocationReason::KeyCompromise).await;
        t.vault.pki(&t.admin()).build_crl(&mid.id).await.unwrap();
        for day in 0..30 {
            t.vault.run_due_jobs().await.unwrap();
            assert!(t.now() < leaf.not_after, "{day}");
            assert_eq!(revoked(&t, (&top, &mid), &leaf).await, (true, true), "day {day}");
            t.clock.advance(DAY);
        }
    }

    async fn sec_f7_a_cold_start_knows_what_was_revoked(t: Bench) {
        let mut t = t;
        let (top, mid) = walk(&t).await;
        let (good, bad) = (issue(&t, "good.svc.test").await, issue(&t, "bad.svc.test").await);
        revoke(&t, &bad.serial_number, RevocationReason::KeyCompromise).await;
        t.vault.pki(&t.admin()).build_crl(&mid.id).await.unwrap();
        let before = t.vault.public_pki().crl(&mid.id).await.unwrap().der;
        t.vault.close().await;
        t.vault = t.replica().await;
        // No job has run, and nobody has asked anything yet.
        assert_eq!(revoked(&t, (&top, &mid), &bad).await, (true, true));
        assert_eq!(revoked(&t, (&top, &mid), &good).await, (false, false));
        assert_eq!(t.vault.public_pki().crl(&mid.id).await.unwrap().der, before);
    }
}
