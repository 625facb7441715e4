//! Certificates for the keys of others, requests that are approved, and requests that are sent twice.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use scaivault_core::{
    Caller, Code, Ctx, IdempotencyKey, Role as AdminRole, Scope,
    pki::{
        CaCreate, CaType, CsrFilter, CsrRequest, CsrStatus, CsrWrite, IssueWrite, KeyType, RolePatch,
        RoleQuestion, SignNames, SignWrite,
    },
};
use serde_json::json;

use crate::{
    bench::{Bench, DAY, HOUR, OTHER, code, contract, refusal, tenant},
    pki::{revocation, role, root},
};

/// A certificate request for these names by a new key.
fn request(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> String {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(DnType::CommonName, names[0].clone());
    change(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

pub(crate) fn csr(name: &str) -> String {
    request(&[name], |_| {})
}

fn to_sign(csr_pem: String) -> SignWrite {
    SignWrite { csr_pem, ..SignWrite::default() }
}

pub(crate) fn submission(csr_pem: String) -> CsrWrite {
    CsrWrite { csr_pem, role: "web".to_owned(), description: "for tests".to_owned(), ..CsrWrite::default() }
}

fn wanted(name: &str, key: &str) -> IssueWrite {
    let idempotency_key = Some(IdempotencyKey::parse(key).unwrap());
    IssueWrite { common_name: Some(name.to_owned()), idempotency_key, ..IssueWrite::default() }
}

/// A root and the role `web`.
async fn walk(t: &Bench) {
    let admin = t.admin();
    let top = root(&t.vault, &admin, "Top").await;
    role(&t.vault, &admin, "web", &top.id).await;
}

/// Somebody who may submit and sign by `web`.
async fn applicant(t: &Bench) -> impl Fn() -> Ctx {
    t.grant("sa:builder", "pki/sign/web", &["read"]).await;
    move || t.scoped("sa:builder", &[Scope::PkiIssue])
}

async fn submitted(t: &Bench, ctx: &Ctx) -> CsrRequest {
    t.vault.pki(ctx).submit_csr(submission(csr("a.svc.test"))).await.unwrap()
}

/// The DER in a PEM block.
fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

contract! {
    async fn a_certificate_is_made_for_the_key_of_a_request(t: Bench) {
        walk(&t).await;
        t.grant("sa:builder", "pki/sign/web", &["read"]).await;
        let ctx = t.scoped("sa:builder", &[Scope::PkiIssue]);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.svc.test".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let write = SignWrite { ttl: Some("1h".parse().unwrap()), ..to_sign(pem) };
        let patch = RolePatch { require_cn: Some(false), ..RolePatch::default() };
        t.vault.pki(&t.admin()).patch_role("web", patch).await.unwrap();
        let leaf = t.vault.pki(&ctx).sign("web", write).await.unwrap();
        assert!(leaf.private_key.is_none() && !leaf.private_key_withheld);
        assert_eq!(leaf.ca_chain.len(), 1);
        let certificate = der(&leaf.certificate);
        let public = key.public_key_raw();
        assert!(certificate.windows(public.len()).any(|part| part == public), "the key of the request");
        let kept = t.vault.pki(&t.admin()).certificate(&leaf.id).await.unwrap();
        assert_eq!((kept.source.as_str(), kept.issued_to.as_str()), ("csr", "sa:builder"));
        assert_eq!(kept.alt_names, ["a.svc.test"]);
        let trail = t.trail(&ctx).await;
        assert_eq!((trail[0].action.as_str(), trail[0].path.as_deref()), ("pki_sign", Some("pki/sign/web")));
        assert_eq!(trail[0].extra["serial_number"], json!(leaf.serial_number));
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.issued' AND path = 'pki/sign/web'").await, 1);

        let ctx = t.scoped("sa:builder", &[Scope::PkiIssue]);
        let issue = IssueWrite { common_name: Some("a.svc.test".to_owned()), ..IssueWrite::default() };
        assert_eq!(code(t.vault.pki(&ctx).issue("web", issue).await), Code::AccessDenied, "another path");
        let names = SignNames { alt_names: vec!["c.svc.test".to_owned()], ..SignNames::default() };
        let write = SignWrite { names: Some(names), ..to_sign(csr("a.svc.test")) };
        let other = t.vault.pki(&ctx).sign("web", write).await.unwrap();
        let kept = t.vault.pki(&t.admin()).certificate(&other.id).await.unwrap();
        assert_eq!(kept.alt_names, ["a.svc.test", "c.svc.test"]);
    }

    async fn sec_e5_what_a_request_may_not_ask_for_leaves_nothing_behind(t: Bench) {
        walk(&t).await;
        let admin = t.admin();
        let sign = async |pem: String| refusal(t.vault.pki(&admin).sign("web", to_sign(pem)).await);
        let unknown = |params: &mut CertificateParams| {
            let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        };
        let ca = |params: &mut CertificateParams| {
            let constraints = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xff]);
            params.custom_extensions.push(constraints);
        };
        for (pem, field) in [
            (request(&["evil.test", "a.svc.test"], |_| {}), "common_name"),
            (request(&["a.svc.test"], unknown), "csr_pem.extensions"),
            (request(&["a.svc.test"], ca), "csr_pem.basic_constraints"),
            ("nonsense".to_owned(), "csr_pem"),
            (csr("a.svc.test").replace("CERTIFICATE REQUEST", "CERTIFICATE"), "csr_pem"),
        ] {
            let error = sign(pem).await;
            assert_eq!(error.code(), Code::ValidationError, "{field}: {error}");
            assert!(error.details().fields.contains_key(field), "{field}: {:?}", error.details());
        }
        assert_eq!(t.raw.count("pki_certificate WHERE source = 'csr'").await, 0);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.issued'").await, 0);
        assert_eq!(code(t.vault.pki(&admin).sign("none", to_sign(csr("a.svc.test"))).await), Code::RoleNotFound);
    }

    async fn a_life_that_was_cut_to_its_issuers_end_says_so(t: Bench) {
        let admin = || t.admin();
        let write = CaCreate { validity_days: Some(3), ..CaCreate::new("Short", "Short", CaType::Root) };
        let short = t.vault.pki(&admin()).create_ca(write).await.unwrap();
        role(&t.vault, &admin(), "web", &short.id).await;
        let first = t.vault.pki(&admin()).issue("web", wanted("a.svc.test", "k1")).await.unwrap();
        assert_eq!(first.not_after, short.valid_until, "the role's default is a week");
        assert_eq!(first.warnings, ["not_after was cut to the end of the issuer"]);
        assert!(first.not_before < first.next_renewal_after && first.next_renewal_after < first.not_after);
        let again = t.vault.pki(&admin()).issue("web", wanted("a.svc.test", "k1")).await.unwrap();
        assert_eq!((&again.warnings, again.next_renewal_after), (&first.warnings, first.next_renewal_after));
        let signed = t.vault.pki(&admin()).sign("web", to_sign(csr("a.svc.test"))).await.unwrap();
        assert_eq!(signed.warnings, first.warnings);
        let ttl = Some("24h".parse().unwrap());
        let whole = SignWrite { ttl, ..to_sign(csr("a.svc.test")) };
        let whole = t.vault.pki(&admin()).sign("web", whole).await.unwrap();
        assert!(whole.warnings.is_empty());
        assert_eq!(whole.next_renewal_after, whole.not_after - 8 * HOUR);
    }

    async fn a_request_with_a_key_is_carried_out_once(t: Bench) {
        walk(&t).await;
        let admin = || t.admin();
        let first = t.vault.pki(&admin()).issue("web", wanted("a.svc.test", "k1")).await.unwrap();
        assert!(first.private_key.is_some() && !first.private_key_withheld);
        let (ctx, second) = (admin(), t.replica().await);
        let again = second.pki(&ctx).issue("web", wanted("a.svc.test", "k1")).await.unwrap();
        assert!(again.private_key.is_none() && again.private_key_withheld);
        assert_eq!((&again.id, &again.certificate, &again.serial_number), (&first.id, &first.certificate, &first.serial_number));
        assert_eq!((&again.ca_chain, again.not_after), (&first.ca_chain, first.not_after));
        let trail = t.trail(&ctx).await;
        assert_eq!((trail[0].action.as_str(), &trail[0].extra["idempotent_replay"]), ("pki_issue", &json!(true)));
        assert_eq!(trail[0].resource.as_ref(), Some(&first.id));
        assert_eq!(code(t.vault.pki(&admin()).issue("web", wanted("b.svc.test", "k1")).await), Code::IdempotencyConflict);
        assert_eq!(t.raw.count("pki_certificate WHERE source = 'internal'").await, 1);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.issued'").await, 1);
        let kept = t.raw.dump("idempotency").await.concat();
        assert!(kept.contains("BEGIN CERTIFICATE") && !kept.contains("PRIVATE"), "{kept}");

        // Another key, another route and another caller are other requests.
        let other = t.vault.pki(&admin()).issue("web", wanted("a.svc.test", "k2")).await.unwrap();
        assert_ne!(other.id, first.id);
        let idempotency_key = Some(IdempotencyKey::parse("k1").unwrap());
        let write = SignWrite { idempotency_key, ..to_sign(csr("a.svc.test")) };
        let signed = t.vault.pki(&admin()).sign("web", write.clone()).await.unwrap();
        let again = t.vault.pki(&admin()).sign("web", write).await.unwrap();
        assert_eq!((&again.id, again.private_key_withheld), (&signed.id, false), "there was no key to withhold");
        t.grant("sa:builder", "pki/issue/web", &["read"]).await;
        let builder = t.scoped("sa:builder", &[Scope::PkiIssue]);
        let theirs = t.vault.pki(&builder).issue("web", wanted("a.svc.test", "k1")).await.unwrap();
        assert!(theirs.id != first.id && theirs.private_key.is_some());
        // What was refused is not remembered.
        assert_eq!(code(t.vault.pki(&admin()).issue("web", wanted("evil.test", "k3")).await), Code::ValidationError);
        assert!(t.vault.pki(&admin()).issue("web", wanted("a.svc.test", "k3")).await.is_ok());
        // The answer outlives what it was made by; the right to ask does not.
        t.vault.pki(&admin()).delete_role("web").await.unwrap();
        assert_eq!(t.vault.pki(&admin()).issue("web", wanted("a.svc.test", "k1")).await.unwrap().id, first.id);
        let stranger = t.scoped("sa:stranger", &[Scope::PkiIssue]);
        assert_eq!(code(t.vault.pki(&stranger).issue("web", wanted("a.svc.test", "k1")).await), Code::AccessDenied);
    }

    async fn replicas_that_race_with_one_key_make_one_certificate(t: Bench) {
        walk(&t).await;
        let replicas = [t.vault.clone(), t.replica().await];
        for round in 0..5 {
            let key = format!("race-{round}");
            let races = (0..6).map(|n| {
                let (vault, ctx, key) = (replicas[n % 2].clone(), t.admin(), key.clone());
                tokio::spawn(async move { vault.pki(&ctx).issue("web", wanted("a.svc.test", &key)).await.unwrap() })
            });
            let mut answers = Vec::new();
            for race in races.collect::<Vec<_>>() {
                answers.push(race.await.unwrap());
            }
            assert!(answers.iter().all(|answer| answer.certificate == answers[0].certificate));
            assert_eq!(answers.iter().filter(|answer| answer.private_key.is_some()).count(), 1);
            assert_eq!(t.raw.count("pki_certificate WHERE source = 'internal'").await, round + 1);
        }
        assert_eq!(t.raw.count("pki_serial WHERE source = 'internal'").await, 5);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.issued'").await, 5);
    }

    async fn keys_are_forgotten_after_a_day(t: Bench) {
        walk(&t).await;
        let issue = async |key: &str| t.vault.pki(&t.admin()).issue("web", wanted("a.svc.test", key)).await.unwrap();
        let (first, other) = (issue("k").await, issue("l").await);
        t.clock.advance(DAY - HOUR);
        assert_eq!(issue("k").await.id, first.id);
        t.clock.advance(HOUR);
        let second = issue("k").await;
        assert!(second.id != first.id && second.private_key.is_some());
        assert_eq!(t.raw.count("idempotency").await, 2);
        t.vault.run_due_jobs().await.unwrap();
        assert_eq!(t.raw.count("idempotency").await, 1, "the job removes what has ended and nothing else");
        assert_eq!(issue("k").await.id, second.id);
        assert_ne!(issue("l").await.id, other.id);
    }

    async fn a_request_is_signed_after_somebody_else_approved_it(t: Bench) {
        walk(&t).await;
        let builder = applicant(&t).await;
        let ctx = builder();
        let asked = submitted(&t, &ctx).await;
        assert_eq!((asked.status, asked.requested_by.as_str()), (CsrStatus::Pending, "sa:builder"));
        assert_eq!((asked.key_type.as_str(), asked.key_size), ("ec", Some(256)));
        assert_eq!((asked.common_name.as_deref(), &asked.alt_names[..]), (Some("a.svc.test"), &["a.svc.test".to_owned()][..]));
        assert_eq!(t.trail(&ctx).await[0].action, "csr_submit");
        let (pki_of, admin) = (&t.vault, t.admin());
        assert_eq!(code(pki_of.pki(&builder()).sign_csr(&asked.id, None).await), Code::InvalidState);
        assert_eq!(code(pki_of.pki(&builder()).approve_csr(&asked.id).await), Code::InsufficientScope);
        let approved = pki_of.pki(&admin).approve_csr(&asked.id).await.unwrap();
        assert_eq!((approved.status, approved.decided_by.as_deref()), (CsrStatus::Approved, Some("user:admin")));
        assert_eq!(t.trail(&admin).await[0].action, "csr_approve");
        assert_eq!(code(pki_of.pki(&t.admin()).approve_csr(&asked.id).await), Code::InvalidState);
        let ctx = builder();
        let leaf = pki_of.pki(&ctx).sign_csr(&asked.id, Some("1h".parse().unwrap())).await.unwrap();
        assert_eq!(leaf.not_after, t.now() + HOUR - std::time::Duration::from_secs(1));
        let trail = t.trail(&ctx).await;
        assert_eq!((trail[0].action.as_str(), &trail[0].extra["approved_by"]), ("pki_sign", &json!("user:admin")));
        let signed = pki_of.pki(&builder()).csr(&asked.id).await.unwrap();
        assert_eq!((signed.status, signed.certificate_id.as_ref()), (CsrStatus::Signed, Some(&leaf.id)));
        for refused in [
            code(pki_of.pki(&builder()).sign_csr(&asked.id, None).await),
            code(pki_of.pki(&t.admin()).approve_csr(&asked.id).await),
            code(pki_of.pki(&t.admin()).reject_csr(&asked.id, "late").await),
        ] {
            assert_eq!(refused, Code::InvalidState);
        }
        assert_eq!(t.raw.count("pki_certificate WHERE source = 'csr'").await, 1);
    }

    async fn sec_e7_an_approval_is_void_when_the_role_changed(t: Bench) {
        walk(&t).await;
        let builder = applicant(&t).await;
        let asked = submitted(&t, &builder()).await;
        let admin = || t.admin();
        t.vault.pki(&admin()).approve_csr(&asked.id).await.unwrap();
        let wider = RolePatch { max_ttl: Some("721h".parse().unwrap()), ..RolePatch::default() };
        let back = RolePatch { max_ttl: Some("720h".parse().unwrap()), ..RolePatch::default() };
        for change in [wider, back] {
            t.vault.pki(&admin()).patch_role("web", change).await.unwrap();
            let error = refusal(t.vault.pki(&builder()).sign_csr(&asked.id, None).await);
            assert_eq!(error.code(), Code::InvalidState);
            assert!(error.message().contains("void"), "{error}");
        }
        // Nor is it good for a role of the same name and words.
        let (ca_id, restored) = {
            let role = t.vault.pki(&admin()).role("web").await.unwrap();
            t.vault.pki(&admin()).approve_csr(&asked.id).await.unwrap();
            t.vault.pki(&admin()).delete_role("web").await.unwrap();
            assert_eq!(code(t.vault.pki(&builder()).sign_csr(&asked.id, None).await), Code::RoleNotFound);
            t.clock.advance(HOUR);
            (role.config.ca_id.clone(), role.config)
        };
        t.vault.pki(&admin()).create_role(restored).await.unwrap();
        assert_eq!(code(t.vault.pki(&builder()).sign_csr(&asked.id, None).await), Code::InvalidState);
        assert_eq!(t.raw.count("pki_certificate WHERE source = 'csr'").await, 0);
        t.vault.pki(&admin()).approve_csr(&asked.id).await.unwrap();
        let leaf = t.vault.pki(&builder()).sign_csr(&asked.id, None).await.unwrap();
        assert_eq!(t.vault.pki(&admin()).certificate(&leaf.id).await.unwrap().ca_id, ca_id);
    }

    async fn nobody_approves_his_own_request(t: Bench) {
        walk(&t).await;
        let ctx = t.admin();
        let asked = submitted(&t, &ctx).await;
        assert_eq!(code(t.vault.pki(&t.admin()).approve_csr(&asked.id).await), Code::AccessDenied);
        // Neither by another spelling nor by what his groups and roles let him do.
        let cased = Caller::user("User:ADMIN", tenant(crate::bench::ACME)).unwrap();
        let cased = cased.with_scopes([Scope::Admin]).with_roles([AdminRole::TenantAdmin]);
        let cased = cased.with_groups(["group:approvers"]).unwrap();
        assert_eq!(code(t.vault.pki(&t.ctx(cased)).approve_csr(&asked.id).await), Code::AccessDenied);
        assert_eq!(t.vault.pki(&t.admin()).csr(&asked.id).await.unwrap().status, CsrStatus::Pending);
        let colleague = t.scoped("user:colleague", &[Scope::PkiAdmin]);
        let approved = t.vault.pki(&colleague).approve_csr(&asked.id).await.unwrap();
        assert_eq!(approved.decided_by.as_deref(), Some("user:colleague"));
    }

    async fn a_request_is_rejected_for_a_reason(t: Bench) {
        walk(&t).await;
        let builder = applicant(&t).await;
        let asked = submitted(&t, &builder()).await;
        for bad in ["", "  ", &"x".repeat(2049)] {
            assert_eq!(code(t.vault.pki(&t.admin()).reject_csr(&asked.id, bad).await), Code::ValidationError);
        }
        let ctx = t.admin();
        let rejected = t.vault.pki(&ctx).reject_csr(&asked.id, "not today").await.unwrap();
        assert_eq!((rejected.status, rejected.rejection_reason.as_deref()), (CsrStatus::Rejected, Some("not today")));
        assert_eq!(t.trail(&ctx).await[0].action, "csr_reject");
        assert_eq!(code(t.vault.pki(&t.admin()).approve_csr(&asked.id).await), Code::InvalidState);
        assert_eq!(code(t.vault.pki(&builder()).sign_csr(&asked.id, None).await), Code::InvalidState);
        // What was approved can be taken back until it is signed.
        let second = submitted(&t, &builder()).await;
        t.vault.pki(&t.admin()).approve_csr(&second.id).await.unwrap();
        t.vault.pki(&t.admin()).reject_csr(&second.id, "on second thoughts").await.unwrap();
        assert_eq!(code(t.vault.pki(&builder()).sign_csr(&second.id, None).await), Code::InvalidState);
    }

    async fn requests_of_others_are_not_there(t: Bench) {
        walk(&t).await;
        let builder = applicant(&t).await;
        let mine = submitted(&t, &builder()).await;
        t.grant("sa:second", "pki/sign/web", &["read"]).await;
        let second = || t.scoped("sa:second", &[Scope::PkiIssue]);
        let theirs = submitted(&t, &second()).await;
        let ids = async |ctx: Ctx, filter: CsrFilter| -> Vec<String> {
            t.vault.pki(&ctx).csrs(filter).await.unwrap().items.into_iter().map(|csr| csr.id).collect()
        };
        assert_eq!(ids(builder(), CsrFilter::default()).await, std::slice::from_ref(&mine.id));
        assert_eq!(ids(t.admin(), CsrFilter::default()).await.len(), 2);
        let pending = |status| CsrFilter { status: Some(status), ..CsrFilter::default() };
        t.vault.pki(&t.admin()).approve_csr(&theirs.id).await.unwrap();
        assert_eq!(ids(t.admin(), pending(CsrStatus::Approved)).await, std::slice::from_ref(&theirs.id));
        assert_eq!(code(t.vault.pki(&builder()).csr(&theirs.id).await), Code::CsrNotFound);
        assert_eq!(code(t.vault.pki(&builder()).sign_csr(&theirs.id, None).await), Code::CsrNotFound);
        let foreign = || t.admin_of(OTHER);
        for refused in [
            code(t.vault.pki(&foreign()).csr(&mine.id).await),
            code(t.vault.pki(&foreign()).approve_csr(&mine.id).await),
            code(t.vault.pki(&foreign()).reject_csr(&mine.id, "x").await),
            code(t.vault.pki(&foreign()).sign_csr(&mine.id, None).await),
        ] {
            assert_eq!(refused, Code::CsrNotFound);
        }
        assert!(ids(foreign(), CsrFilter::default()).await.is_empty());
        let page = CsrFilter { limit: Some(1), ..CsrFilter::default() };
        let first = t.vault.pki(&t.admin()).csrs(page.clone()).await.unwrap();
        let next = CsrFilter { cursor: first.cursor.clone(), ..page };
        let rest = t.vault.pki(&t.admin()).csrs(next.clone()).await.unwrap();
        assert!(first.items[0].id != rest.items[0].id && !rest.has_more());
        assert_eq!(code(t.vault.pki(&builder()).csrs(next).await), Code::InvalidCursor, "another caller's list");
    }

    async fn submitting_is_judged_and_done_once(t: Bench) {
        walk(&t).await;
        let builder = applicant(&t).await;
        assert_eq!(code(t.vault.pki(&builder()).submit_csr(submission(csr("evil.test"))).await), Code::ValidationError);
        let long = CsrWrite { description: "x".repeat(2049), ..submission(csr("a.svc.test")) };
        assert_eq!(code(t.vault.pki(&builder()).submit_csr(long).await), Code::ValidationError);
        let stranger = t.scoped("sa:stranger", &[Scope::PkiIssue]);
        assert_eq!(code(t.vault.pki(&stranger).submit_csr(submission(csr("a.svc.test"))).await), Code::AccessDenied);
        let idempotency_key = Some(IdempotencyKey::parse("once").unwrap());
        let write = CsrWrite { idempotency_key, ttl: Some("2h".parse().unwrap()), ..submission(csr("a.svc.test")) };
        let first = t.vault.pki(&builder()).submit_csr(write.clone()).await.unwrap();
        t.vault.pki(&t.admin()).approve_csr(&first.id).await.unwrap();
        assert_eq!(t.vault.pki(&builder()).submit_csr(write.clone()).await.unwrap(), first, "as it was answered");
        let other = CsrWrite { csr_pem: csr("a.svc.test"), ..write };
        assert_eq!(code(t.vault.pki(&builder()).submit_csr(other).await), Code::IdempotencyConflict);
        assert_eq!(t.raw.count("pki_csr").await, 1);
        let error = refusal(t.vault.pki(&builder()).sign_csr(&first.id, Some("3h".parse().unwrap())).await);
        assert!(error.details().fields.contains_key("ttl"), "{error}");
        assert!(t.vault.pki(&builder()).sign_csr(&first.id, Some("1h".parse().unwrap())).await.is_ok());
    }

    async fn roles_of_before_are_read_and_complete_ones_are_kept(t: Bench) {
        walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        let before = pki.role("web").await.unwrap();
        let old = json!({
            "name": "web", "ca_id": before.config.ca_id, "allowed_domains": ["*.svc.test"], "allow_subdomains": false,
            "allow_ip_sans": true, "max_ttl": "720h", "default_ttl": "168h", "key_type": "ec", "key_bits": 256,
            "require_cn": true, "client_flag": true, "server_flag": true, "store_private_keys": false,
        });
        t.raw.execute(&format!("UPDATE pki_role SET config = '{old}'")).await;
        assert_eq!(pki.role("web").await.unwrap().config, before.config, "the document of an older release");
        let patch = RolePatch {
            key_type: Some(KeyType::Any),
            allowed_ip_ranges: Some(vec!["10.0.0.0/8".to_owned()]),
            allowed_emails: Some(vec!["*@svc.test".to_owned()]),
            no_store: Some(true),
            ..RolePatch::default()
        };
        let role = pki.patch_role("web", patch).await.unwrap();
        assert_eq!((role.config.key_type, role.config.key_bits), (KeyType::Any, None));
        assert_eq!(pki.role("web").await.unwrap(), role);
        let both = RolePatch { store_private_keys: Some(true), ..RolePatch::default() };
        let error = refusal(pki.patch_role("web", both).await);
        assert!(error.code() == Code::InvalidRole && error.details().fields.contains_key("no_store"), "{error}");
        for (key_type, bits) in [(KeyType::Ec, Some(521)), (KeyType::Ed25519, None), (KeyType::Rsa, Some(3072))] {
            let kind = RolePatch { key_type: Some(key_type), key_bits: bits, ..RolePatch::default() };
            pki.patch_role("web", kind).await.unwrap();
            let write = IssueWrite { common_name: Some("a.svc.test".to_owned()), ..IssueWrite::default() };
            let leaf = pki.issue("web", write).await.unwrap();
            let key = leaf.private_key.unwrap();
            assert!(key.expose().starts_with("-----BEGIN PRIVATE KEY-----"), "{key_type:?}");
        }
    }

    async fn what_a_role_does_not_keep_can_still_be_revoked(t: Bench) {
        walk(&t).await;
        let admin = t.admin();
        let pki = t.vault.pki(&admin);
        pki.patch_role("web", RolePatch { no_store: Some(true), ..RolePatch::default() }).await.unwrap();
        let write = IssueWrite { common_name: Some("a.svc.test".to_owned()), ..IssueWrite::default() };
        let leaf = pki.issue("web", write).await.unwrap();
        assert_eq!(code(pki.certificate(&leaf.id).await), Code::CertificateNotFound);
        assert_eq!(t.raw.count("pki_certificate WHERE source <> 'ca'").await, 0);
        assert_eq!(t.raw.count("pki_serial WHERE source <> 'ca'").await, 0, "its number says that it was issued");
        let revoked = pki.revoke(revocation(&leaf.serial_number)).await.unwrap();
        assert_eq!((revoked.serial_number.as_str(), revoked.revoked_at), (leaf.serial_number.as_str(), t.now()));
        assert_eq!(pki.revoke(revocation(&leaf.serial_number)).await.unwrap(), revoked, "the same row");
        assert_eq!(t.raw.count("pki_serial WHERE revoked_at IS NOT NULL").await, 1);
    }

    async fn a_dry_run_says_every_rule_and_issues_nothing(t: Bench) {
        walk(&t).await;
        let ctx = t.admin();
        let pki = t.vault.pki(&ctx);
        let write = IssueWrite {
            common_name: Some("a.svc.test".to_owned()),
            ip_sans: vec!["10.0.0.1".to_owned()],
            ..IssueWrite::default()
        };
        let good = pki.test_role("web", RoleQuestion::Issue(write.clone())).await.unwrap();
        let rules: Vec<_> = good.matched.iter().map(|m| (m.field.as_str(), m.rule)).collect();
        assert_eq!(rules, [("common_name", "allowed_domains"), ("ip_sans[0]", "allow_ip_sans"), ("ttl", "max_ttl")]);
        let planned = good.certificate.unwrap();
        assert!(good.allowed && planned.ip_sans == ["10.0.0.1"] && planned.alt_names == ["a.svc.test"]);
        let evil = request(&["evil.test", "a.svc.test"], |_| {});
        let bad = pki.test_role("web", RoleQuestion::Sign(to_sign(evil))).await.unwrap();
        assert!(!bad.allowed && bad.certificate.is_none());
        assert!(bad.violations.iter().any(|v| v.field == "common_name" && v.rule == "allowed_domains"), "{bad:?}");
        assert_eq!(t.raw.count("pki_certificate WHERE source <> 'ca'").await, 0);
        assert!(t.trail(&ctx).await.iter().any(|r| r.action == "pki_role_read" && r.extra["dry_run"] == json!(true)));
        let narrow = t.scoped("sa:builder", &[Scope::PkiIssue]);
        assert_eq!(code(t.vault.pki(&narrow).test_role("web", RoleQuestion::Issue(write)).await), Code::InsufficientScope);
    }
}
