//! Certificates, found by what they say and whose they are.

use std::collections::BTreeMap;

use scaivault_core::{
    Code, Scope,
    pki::{
        CertificateSearch, IssueWrite, IssuedCertificate, ReleaseWrite, RevocationReason, RolePatch, Sort,
        StatusFilter,
    },
};

use crate::{
    bench::{Bench, DAY, OTHER, code, contract, refusal},
    pki::{issue, revoke, role_write, walk},
};

type Change = fn(&mut CertificateSearch);

/// The common names that a search gives, in its order, page by page.
async fn named(t: &Bench, search: CertificateSearch, limit: u32) -> Vec<String> {
    let mut names = Vec::new();
    let mut cursor = None;
    loop {
        let search = CertificateSearch { limit: Some(limit), cursor, ..search.clone() };
        let found = t.vault.pki(&t.admin()).search_certificates(search).await.unwrap();
        names.extend(
            found.page.items.into_iter().map(|item| item.certificate.common_name.unwrap_or_default()),
        );
        match found.page.cursor {
            Some(next) => cursor = Some(next),
            None => return names,
        }
    }
}

fn by(change: Change) -> CertificateSearch {
    let mut search = CertificateSearch { include_revoked: true, ..CertificateSearch::default() };
    change(&mut search);
    search
}

async fn found(t: &Bench, change: Change) -> Vec<String> {
    let all = named(t, by(change), 1000).await;
    assert_eq!(named(t, by(change), 2).await, all, "page by page");
    all
}

async fn issue_with(t: &Bench, role: &str, write: IssueWrite) -> IssuedCertificate {
    t.vault.pki(&t.admin()).issue(role, write).await.unwrap()
}

fn write(name: &str, alt_names: &[&str], ttl: &str) -> IssueWrite {
    IssueWrite {
        common_name: Some(name.to_owned()),
        alt_names: alt_names.iter().map(|&name| name.to_owned()).collect(),
        ttl: Some(ttl.parse().unwrap()),
        ..IssueWrite::default()
    }
}

/// `web` and `mail` below one CA; a, b and c by `web`, d by `mail`.
async fn filled(t: &Bench) -> (String, Vec<IssuedCertificate>) {
    let (_, mid) = walk(t).await;
    t.vault.pki(&t.admin()).create_role(role_write("mail", &mid.id)).await.unwrap();
    let below = RolePatch { allow_subdomains: Some(true), ..RolePatch::default() };
    t.vault.pki(&t.admin()).patch_role("web", below).await.unwrap();
    let leaves = vec![
        issue_with(t, "web", write("a.svc.test", &["billing.eu.svc.test"], "3d")).await,
        issue_with(t, "web", write("b.svc.test", &[], "1d")).await,
        issue_with(t, "web", write("c.svc.test", &[], "2d")).await,
        issue_with(t, "mail", write("d.svc.test", &["bill.svc.test"], "4d")).await,
    ];
    (mid.id, leaves)
}

contract! {
    async fn certificates_are_found_by_names_roles_and_people(t: Bench) {
        let (_, leaves) = filled(&t).await;
        assert_eq!(found(&t, |s| s.common_name = Some("B.svc.test".to_owned())).await, ["b.svc.test"]);
        assert_eq!(found(&t, |s| s.common_name = Some("b.svc".to_owned())).await, [""; 0]);
        assert_eq!(found(&t, |s| s.common_name = Some("b.*".to_owned())).await, ["b.svc.test"]);
        assert_eq!(found(&t, |s| s.common_name = Some("*".to_owned())).await.len(), 6, "with the two CAs");
        // From a label on, and nowhere else; a certificate with several such names is there once.
        assert_eq!(found(&t, |s| s.san = Some("bill".to_owned())).await, ["d.svc.test", "a.svc.test"]);
        assert_eq!(found(&t, |s| s.san = Some("billing".to_owned())).await, ["a.svc.test"]);
        assert_eq!(found(&t, |s| s.san = Some("EU.svc".to_owned())).await, ["a.svc.test"]);
        assert_eq!(found(&t, |s| s.san = Some("ing.eu".to_owned())).await, [""; 0]);
        assert_eq!(found(&t, |s| s.san = Some("svc.test".to_owned())).await, ["d.svc.test", "c.svc.test", "b.svc.test", "a.svc.test"]);
        assert_eq!(found(&t, |s| s.role = Some("mail".to_owned())).await, ["d.svc.test"]);
        assert_eq!(found(&t, |s| s.requested_by = Some("user:admin".to_owned())).await.len(), 6);
        assert_eq!(found(&t, |s| s.requested_by = Some("user:x".to_owned())).await, [""; 0]);
        let both = found(&t, |s| { s.role = Some("web".to_owned()); s.san = Some("bill".to_owned()); }).await;
        assert_eq!(both, ["a.svc.test"]);
        let serial = CertificateSearch { serial_number: Some(leaves[2].serial_number.to_lowercase()), ..CertificateSearch::default() };
        assert_eq!(named(&t, serial, 10).await, ["c.svc.test"]);
        let hash = t.raw.texts(&format!("SELECT {} FROM pki_serial WHERE certificate_id = '{}'",
            if matches!(t.raw, crate::bench::Raw::Lite(_)) { "lower(hex(key_hash))" } else { "encode(key_hash, 'hex')" }, leaves[1].id)).await;
        let key = CertificateSearch { key_hash: Some(hash[0].clone()), ..CertificateSearch::default() };
        assert_eq!(named(&t, key, 10).await, ["b.svc.test"]);
        // Another tenant has none of them.
        let other = t.vault.pki(&t.admin_of(OTHER)).search_certificates(by(|s| s.san = Some("svc.test".to_owned()))).await.unwrap();
        assert!(other.page.items.is_empty());
    }

    async fn certificates_are_found_by_state_and_end(t: Bench) {
        let (mid, leaves) = filled(&t).await;
        revoke(&t, &leaves[0].serial_number, RevocationReason::Superseded).await;
        revoke(&t, &leaves[1].serial_number, RevocationReason::CertificateHold).await;
        let of_mid = |status| {
            let ca_id = Some(mid.clone());
            CertificateSearch { ca_id, status: Some(status), ..CertificateSearch::default() }
        };
        assert_eq!(named(&t, of_mid(StatusFilter::Active), 1).await, ["d.svc.test", "c.svc.test"]);
        assert_eq!(named(&t, of_mid(StatusFilter::Revoked), 1).await, ["b.svc.test", "a.svc.test"]);
        assert_eq!(named(&t, of_mid(StatusFilter::OnHold), 1).await, ["b.svc.test"]);
        assert_eq!(named(&t, of_mid(StatusFilter::Expired), 1).await, [""; 0]);
        let serial = leaves[1].serial_number.clone();
        t.vault.pki(&t.admin()).release(ReleaseWrite { serial_number: serial, ca_id: None }).await.unwrap();
        assert_eq!(named(&t, of_mid(StatusFilter::OnHold), 1).await, [""; 0]);
        // By expiry: the first to end first, and the two CAs last.
        let all = found(&t, |s| s.sort = Sort::Expiry).await;
        assert_eq!(all[..4], ["b.svc.test", "c.svc.test", "a.svc.test", "d.svc.test"]);
        assert_eq!(all.len(), 6);
        let soon = |window: &str| CertificateSearch {
            expiring_within: Some(window.parse().unwrap()), sort: Sort::Expiry, ..CertificateSearch::default()
        };
        assert_eq!(named(&t, soon("2d"), 1).await, ["b.svc.test", "c.svc.test"]);
        let end = leaves[2].not_after;
        let between = CertificateSearch {
            expires_after: Some(end), expires_before: Some(leaves[3].not_after), include_revoked: true, ..CertificateSearch::default()
        };
        assert_eq!(named(&t, between, 1).await, ["c.svc.test", "a.svc.test"]);
        t.clock.advance(DAY * 3);
        assert_eq!(named(&t, of_mid(StatusFilter::Expired), 1).await, ["c.svc.test", "b.svc.test"]);
        assert_eq!(named(&t, of_mid(StatusFilter::Active), 1).await, ["d.svc.test"]);
        // With its CA, all of it is revoked.
        t.vault.pki(&t.admin()).revoke_ca(&mid, RevocationReason::Superseded).await.unwrap();
        assert_eq!(named(&t, of_mid(StatusFilter::Active), 10).await, [""; 0]);
        assert_eq!(named(&t, of_mid(StatusFilter::Revoked), 10).await.len(), 4);
    }

    async fn what_is_found_is_counted_and_cursors_fit_their_search(t: Bench) {
        let (_, _) = filled(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let search = CertificateSearch { role: Some("web".to_owned()), count: true, limit: Some(2), ..CertificateSearch::default() };
        let first = pki.search_certificates(search.clone()).await.unwrap();
        let count = first.count.unwrap();
        assert_eq!((count.count, count.count_is_exact, first.page.items.len()), (3, true, 2));
        let uncounted = CertificateSearch { count: false, ..search.clone() };
        assert_eq!(pki.search_certificates(uncounted).await.unwrap().count, None);
        for other in [
            CertificateSearch { role: Some("mail".to_owned()), ..search.clone() },
            CertificateSearch { sort: Sort::Expiry, ..search.clone() },
            CertificateSearch { status: Some(StatusFilter::Active), ..search.clone() },
            CertificateSearch { san: Some("svc.test".to_owned()), ..search.clone() },
        ] {
            let other = CertificateSearch { cursor: first.page.cursor.clone(), ..other };
            assert_eq!(code(pki.search_certificates(other).await), Code::InvalidCursor);
        }
        let reader = t.scoped("sa:reader", &[Scope::PkiIssue]);
        assert_eq!(t.vault.pki(&reader).search_certificates(search.clone()).await.unwrap().page.items.len(), 2);
        let nobody = t.scoped("sa:nobody", &[Scope::SecretsRead]);
        assert_eq!(code(t.vault.pki(&nobody).search_certificates(search).await), Code::InsufficientScope);
        for (field, search) in [
            ("san", by(|s| s.san = Some("ab".to_owned()))),
            ("san", by(|s| s.san = Some("é.test".to_owned()))),
            ("key_hash", by(|s| s.key_hash = Some("abc".to_owned()))),
            ("serial_number", by(|s| s.serial_number = Some("x".to_owned()))),
            ("expiring_within", by(|s| {
                s.expiring_within = Some("1d".parse().unwrap());
                s.expires_after = Some(time::OffsetDateTime::UNIX_EPOCH);
            })),
        ] {
            assert!(refusal(pki.search_certificates(search).await).details().fields.contains_key(field), "{field}");
        }
    }

    async fn tags_are_set_found_and_replaced(t: Bench) {
        let (_, leaves) = filled(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let tags = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let prod = tags(&[("env", "prod"), ("team", "a=b")]);
        let tagged = pki.tag_certificate(&leaves[0].id, prod.clone()).await.unwrap();
        assert_eq!((&tagged.tags, tagged.certificate.id.as_str()), (&prod, leaves[0].id.as_str()));
        pki.tag_certificate(&leaves[1].id, tags(&[("env", "test")])).await.unwrap();
        assert_eq!(pki.tagged_certificate(&leaves[0].id).await.unwrap(), tagged);
        assert_eq!(found(&t, |s| s.tag = Some("env=prod".to_owned())).await, ["a.svc.test"]);
        assert_eq!(found(&t, |s| s.tag = Some("team=a=b".to_owned())).await, ["a.svc.test"]);
        assert_eq!(found(&t, |s| s.tag = Some("env".to_owned())).await, ["b.svc.test", "a.svc.test"]);
        assert_eq!(found(&t, |s| s.tag = Some("en".to_owned())).await, [""; 0]);
        let listed = pki.search_certificates(by(|s| s.tag = Some("env=prod".to_owned()))).await.unwrap();
        assert_eq!(listed.page.items[0].tags, prod);
        // All of them are replaced.
        pki.tag_certificate(&leaves[0].id, tags(&[("env", "test")])).await.unwrap();
        assert_eq!(found(&t, |s| s.tag = Some("env=prod".to_owned())).await, [""; 0]);
        pki.tag_certificate(&leaves[0].id, BTreeMap::new()).await.unwrap();
        assert_eq!(pki.tagged_certificate(&leaves[0].id).await.unwrap().tags, BTreeMap::new());
        assert_eq!(t.raw.trail("action = 'pki_certificate_update' AND success").await.len(), 4);

        let many: Vec<(String, String)> = (0..65).map(|n| (format!("k{n}"), "v".to_owned())).collect();
        let long = "x".repeat(129);
        for bad in [
            many.into_iter().collect(),
            tags(&[("", "v")]),
            tags(&[("k", "")]),
            tags(&[("a=b", "v")]),
            tags(&[("k", "a\nb")]),
            tags(&[("k", " v")]),
            tags(&[("k", &long)]),
        ] {
            let error = refusal(pki.tag_certificate(&leaves[2].id, bad).await);
            assert!(error.details().fields.contains_key("tags"), "{error:?}");
        }
        let foreign = t.admin_of(OTHER);
        let foreign = t.vault.pki(&foreign).tag_certificate(&leaves[2].id, prod.clone()).await;
        assert_eq!(code(foreign), Code::CertificateNotFound);
        let issuer = t.scoped("sa:issuer", &[Scope::PkiIssue]);
        assert_eq!(code(t.vault.pki(&issuer).tag_certificate(&leaves[2].id, prod).await), Code::InsufficientScope);
        assert_eq!(t.raw.count("pki_term WHERE field = 'tag'").await, 1);
    }

    async fn the_inventory_in_figures(t: Bench) {
        let (mid, leaves) = filled(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let figures = pki.certificate_summary().await.unwrap();
        assert_eq!((figures.by_status.active.count, figures.by_status.active.count_is_exact), (6, true));
        // Leaves of one, two, three and four days; the CAs live for years.
        let ending = (figures.expiring_within_1d, figures.expiring_within_7d, figures.expiring_within_30d);
        assert_eq!(ending, (1, 4, 4));
        let roles: Vec<(&str, i64)> = figures.by_role.iter().map(|of| (of.role.as_str(), of.active)).collect();
        assert_eq!(roles, [("mail", 1), ("web", 3)]);
        let of_mid = figures.by_issuer.iter().find(|of| of.ca_id == mid).unwrap();
        assert_eq!((of_mid.active, figures.by_issuer.iter().map(|of| of.active).sum::<i64>()), (4, 6));
        assert!(figures.shared_keys.is_empty());

        // Two with the key of a third.
        let key = "(SELECT k.key_hash FROM pki_serial k WHERE k.certificate_id = ";
        for leaf in [&leaves[1], &leaves[2]] {
            t.raw.execute(&format!("UPDATE pki_serial SET key_hash = {key}'{}') WHERE certificate_id = '{}'", leaves[3].id, leaf.id)).await;
        }
        revoke(&t, &leaves[0].serial_number, RevocationReason::CertificateHold).await;
        let figures = pki.certificate_summary().await.unwrap();
        let shared = &figures.shared_keys;
        assert_eq!((shared.len(), shared[0].certificates), (1, 3));
        let same = CertificateSearch { key_hash: Some(shared[0].key_hash.clone()), ..CertificateSearch::default() };
        assert_eq!(named(&t, same, 10).await.len(), 3);
        let states = &figures.by_status;
        assert_eq!([states.active.count, states.expired.count, states.revoked.count, states.on_hold.count], [5, 0, 1, 1]);
        t.clock.advance(DAY * 3);
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let states = pki.certificate_summary().await.unwrap().by_status;
        assert_eq!([states.active.count, states.expired.count, states.revoked.count, states.on_hold.count], [3, 2, 1, 1]);
        pki.revoke_ca(&mid, RevocationReason::Superseded).await.unwrap();
        let figures = pki.certificate_summary().await.unwrap();
        assert_eq!((figures.by_status.active.count, figures.by_status.revoked.count), (1, 5), "the root is left");
        assert!(figures.by_role.is_empty());
        let other = t.vault.pki(&t.admin_of(OTHER)).certificate_summary().await.unwrap();
        assert_eq!((other.by_status.active.count, other.by_status.revoked.count), (0, 0));
        let nobody = t.scoped("sa:nobody", &[Scope::SecretsRead]);
        assert_eq!(code(t.vault.pki(&nobody).certificate_summary().await), Code::InsufficientScope);
    }

    async fn tags_are_given_at_issue(t: Bench) {
        walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let tags = |key: &str| BTreeMap::from([(key.to_owned(), "prod".to_owned())]);
        let tagged = IssueWrite { tags: tags("env"), ..write("a.svc.test", &[], "1d") };
        let leaf = issue_with(&t, "web", tagged.clone()).await;
        assert_eq!(pki.tagged_certificate(&leaf.id).await.unwrap().tags, tags("env"));
        assert_eq!(found(&t, |s| s.tag = Some("env=prod".to_owned())).await, ["a.svc.test"]);
        let bad = IssueWrite { tags: tags("a=b"), ..write("a.svc.test", &[], "1d") };
        assert!(refusal(pki.issue("web", bad).await).details().fields.contains_key("tags"));
        // Where nothing is kept there is nothing to tag.
        pki.patch_role("web", RolePatch { no_store: Some(true), ..RolePatch::default() }).await.unwrap();
        assert!(refusal(pki.issue("web", tagged).await).details().fields.contains_key("tags"));
        assert_eq!(t.raw.count("pki_term WHERE field = 'tag'").await, 1);
    }

    async fn of_what_is_not_kept_nothing_is_found_or_counted(t: Bench) {
        let (_, mid) = walk(&t).await;
        let mut role = role_write("brief", &mid.id);
        role.no_store = true;
        t.vault.pki(&t.admin()).create_role(role).await.unwrap();
        issue(&t, "a.svc.test").await;
        let brief = issue_with(&t, "brief", write("b.svc.test", &[], "1h")).await;
        let search = CertificateSearch { ca_id: Some(mid.id.clone()), count: true, ..CertificateSearch::default() };
        let found = t.vault.pki(&t.admin()).search_certificates(search).await.unwrap();
        assert_eq!((found.page.items.len(), found.count.unwrap().count), (1, 1));
        assert_eq!(found.page.items[0].certificate.common_name.as_deref(), Some("a.svc.test"));
        assert_eq!(t.raw.count(&format!("pki_term WHERE certificate_id = '{}'", brief.id)).await, 0);
        assert_eq!(code(t.vault.pki(&t.admin()).certificate(&brief.id).await), Code::CertificateNotFound);
        assert_eq!(t.raw.count(&format!("pki_serial WHERE certificate_id = '{}'", brief.id)).await, 0);
        // Revoked, it has a row for its number, which is still no certificate of the inventory.
        revoke(&t, &brief.serial_number, RevocationReason::Superseded).await;
        let search = CertificateSearch { ca_id: Some(mid.id), count: true, include_revoked: true, ..CertificateSearch::default() };
        let found = t.vault.pki(&t.admin()).search_certificates(search).await.unwrap();
        assert_eq!((found.page.items.len(), found.count.unwrap().count), (1, 1));
    }

    async fn a_kept_key_is_for_administrators_of_roles_that_keep_keys(t: Bench) {
        let (_, mid) = walk(&t).await;
        let role = scaivault_core::pki::RoleWrite::new("kept", &mid.id, RolePatch {
            allowed_domains: Some(vec!["*.svc.test".to_owned()]), store_private_keys: Some(true), ..RolePatch::default()
        });
        t.vault.pki(&t.admin()).create_role(role).await.unwrap();
        let kept = issue_with(&t, "kept", write("a.svc.test", &[], "1h")).await;
        let lost = issue(&t, "b.svc.test").await;
        let admin = t.scoped("user:pki", &[Scope::PkiAdmin]);
        let (_, key) = t.vault.pki(&admin).certificate_with_key(&kept.id).await.unwrap();
        assert_eq!(key.unwrap().expose(), kept.private_key.unwrap().expose());
        assert!(t.vault.pki(&admin).certificate_with_key(&lost.id).await.unwrap().1.is_none());
        let issuer = t.scoped("user:x", &[Scope::PkiIssue]);
        assert_eq!(code(t.vault.pki(&issuer).certificate_with_key(&kept.id).await), Code::InsufficientScope);
    }
}
