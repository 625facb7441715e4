//! The audit trail: complete, exact, without anything secret.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use scaivault_core::{
    Action, AuditFilter, AuditLog, Code, Ctx, Error, Scope,
    pki::{CaCrossSign, CaInstall, IssueWrite, RolePatch},
    policy::PolicyPatch,
    secrets::{Expectation, ListFilter, SecretPatch, SecretWrite, WriteOptions},
};
use serde_json::json;

use crate::{
    bench::{ACME, Bench, HOUR, OTHER, Raw, any, bind_user, code, contract, path, policy, refusal, write},
    pki,
};

/// What the trail has of each request, as action and outcome.
async fn outcomes(t: &Bench, ctx: &Ctx) -> Vec<(String, String)> {
    t.trail(ctx).await.into_iter().map(|record| (record.action, record.outcome)).collect()
}

/// Runs a verb as a request of its own and checks that it left exactly this record.
macro_rules! leaves {
    ($t:expr, $ctx:expr, $action:literal, $outcome:literal, |$c:ident| $verb:expr) => {{
        let $c = $ctx;
        let result = $verb.await;
        let told = result.as_ref().map_or_else(|error| error.code().as_str(), |_| "ok");
        assert_eq!(told, $outcome, "{}", $action);
        let expected = [($action.to_owned(), $outcome.to_owned())];
        assert_eq!(outcomes($t, &$c).await, expected, "{}", stringify!($verb));
        result
    }};
}

async fn query(t: &Bench, filter: AuditFilter) -> Vec<AuditLog> {
    t.vault.audit(&t.admin()).query(filter).await.unwrap().items
}

/// Every way in which a text may stand in a dump: as it is, in hexadecimal, in base64 at any offset.
fn traces(canary: &[u8]) -> Vec<String> {
    let mut all =
        vec![String::from_utf8_lossy(canary).into_owned(), hex::encode(canary), hex::encode_upper(canary)];
    for skip in 0..3 {
        // The characters of base64 that depend on nothing before or after.
        let part = &canary[skip..];
        let whole = &part[..part.len() / 3 * 3];
        all.push(STANDARD_NO_PAD.encode(whole));
        all.push(STANDARD_NO_PAD.encode(whole).replace('+', "-").replace('/', "_"));
    }
    all
}

#[track_caller]
fn assert_hidden(dump: &str, canary: &[u8], what: &str) {
    for trace in traces(canary) {
        assert!(!dump.contains(&trace), "{what} is in the database as {trace:?}");
    }
}

contract! {
    async fn every_verb_on_secrets_leaves_exactly_one_record(t: Bench) {
        let v = t.vault.clone();
        let p = path("app/a");
        leaves!(&t, t.admin(), "write", "ok", |c| v.secrets(&c).put(&p, any())).unwrap();
        leaves!(&t, t.admin(), "read", "ok", |c| v.secrets(&c).get(&p, None)).unwrap();
        leaves!(&t, t.admin(), "read", "version_not_found", |c| v.secrets(&c).get(&p, Some(9))).unwrap_err();
        leaves!(&t, t.admin(), "write", "ok", |c| v.secrets(&c).patch(&p, SecretPatch::default())).unwrap();
        leaves!(&t, t.admin(), "list", "ok", |c| v.secrets(&c).metadata(&p)).unwrap();
        leaves!(&t, t.admin(), "list", "ok", |c| v.secrets(&c).versions(&p)).unwrap();
        leaves!(&t, t.admin(), "list", "ok", |c| v.secrets(&c).list(ListFilter::default())).unwrap();
        let stale = SecretWrite { expect: Expectation::Absent, ..any() };
        leaves!(&t, t.admin(), "write", "version_conflict", |c| v.secrets(&c).put(&p, stale)).unwrap_err();
        let bad = SecretWrite { options: WriteOptions { max_versions: Some(0), ..WriteOptions::default() }, ..any() };
        leaves!(&t, t.admin(), "write", "validation_error", |c| v.secrets(&c).put(&p, bad)).unwrap_err();
        let bad = ListFilter { cursor: Some("x".to_owned()), ..ListFilter::default() };
        leaves!(&t, t.admin(), "list", "invalid_cursor", |c| v.secrets(&c).list(bad)).unwrap_err();
        let bad = ListFilter { prefix: Some("A".to_owned()), ..ListFilter::default() };
        leaves!(&t, t.admin(), "list", "invalid_path", |c| v.secrets(&c).list(bad)).unwrap_err();
        leaves!(&t, t.admin(), "delete", "ok", |c| v.secrets(&c).delete(&p, false)).unwrap();
        leaves!(&t, t.admin(), "read", "secret_not_found", |c| v.secrets(&c).get(&p, None)).unwrap_err();
        leaves!(&t, t.admin(), "write", "secret_exists", |c| v.secrets(&c).put(&p, any())).unwrap_err();
        leaves!(&t, t.admin(), "delete", "secret_not_found", |c| v.secrets(&c).delete(&p, false)).unwrap_err();
        leaves!(&t, t.admin(), "restore", "ok", |c| v.secrets(&c).restore(&p)).unwrap();
        leaves!(&t, t.admin(), "restore", "secret_not_found", |c| v.secrets(&c).restore(&p)).unwrap_err();
        leaves!(&t, t.admin(), "delete", "ok", |c| v.secrets(&c).delete(&p, true)).unwrap();
        leaves!(&t, t.admin(), "write", "secret_not_found", |c| v.secrets(&c).patch(&p, SecretPatch::default())).unwrap_err();
        leaves!(&t, t.admin(), "list", "secret_not_found", |c| v.secrets(&c).metadata(&p)).unwrap_err();
        leaves!(&t, t.admin(), "list", "secret_not_found", |c| v.secrets(&c).versions(&p)).unwrap_err();
        leaves!(&t, t.user("user:u"), "read", "access_denied", |c| v.secrets(&c).get(&p, None)).unwrap_err();
        leaves!(&t, t.user("user:u"), "delete", "access_denied", |c| v.secrets(&c).delete(&p, true)).unwrap_err();
        leaves!(&t, t.scoped("user:u", &[]), "list", "insufficient_scope", |c| v.secrets(&c).list(ListFilter::default())).unwrap_err();
        // Of the caller's tenant: that root keys came into use is in the operator's.
        let total = t.raw.count("audit_trail WHERE tenant_id = 'tnt_acme'").await;
        let requests = "(SELECT DISTINCT request_id FROM audit_trail WHERE tenant_id = 'tnt_acme') r";
        assert_eq!((total, t.raw.count(requests).await), (24, 24));
    }

    async fn every_verb_on_policies_and_the_trail_leaves_exactly_one_record(t: Bench) {
        let v = t.vault.clone();
        let document = || policy("p", &[("a", &["read"])]);
        let made = leaves!(&t, t.admin(), "policy_create", "ok", |c| v.policies(&c).create(document())).unwrap();
        let id = made.id.as_str();
        leaves!(&t, t.admin(), "policy_create", "name_conflict", |c| v.policies(&c).create(document())).unwrap_err();
        leaves!(&t, t.admin(), "policy_read", "ok", |c| v.policies(&c).read(id)).unwrap();
        leaves!(&t, t.admin(), "policy_read", "ok", |c| v.policies(&c).bindings(id)).unwrap();
        leaves!(&t, t.admin(), "policy_read", "policy_not_found", |c| v.policies(&c).read("x")).unwrap_err();
        leaves!(&t, t.admin(), "policy_read", "ok", |c| v.policies(&c).list(true, None, None)).unwrap();
        leaves!(&t, t.admin(), "policy_update", "ok", |c| v.policies(&c).replace(id, document())).unwrap();
        leaves!(&t, t.admin(), "policy_update", "ok", |c| v.policies(&c).patch(id, PolicyPatch::default())).unwrap();
        leaves!(&t, t.admin(), "policy_update", "policy_not_found", |c| v.policies(&c).patch("x", PolicyPatch::default())).unwrap_err();
        let (binding, _) = leaves!(&t, t.admin(), "policy_bind", "ok", |c| v.policies(&c).bind(id, bind_user("u"))).unwrap();
        leaves!(&t, t.admin(), "policy_bind", "ok", |c| v.policies(&c).bind(id, bind_user("u"))).unwrap();
        leaves!(&t, t.admin(), "policy_bind", "validation_error", |c| v.policies(&c).bind(id, bind_user(""))).unwrap_err();
        leaves!(&t, t.admin(), "policy_delete", "policy_in_use", |c| v.policies(&c).delete(id, false)).unwrap_err();
        leaves!(&t, t.admin(), "policy_unbind", "ok", |c| v.policies(&c).unbind(id, &binding.id)).unwrap();
        leaves!(&t, t.admin(), "policy_unbind", "binding_not_found", |c| v.policies(&c).unbind(id, &binding.id)).unwrap_err();
        leaves!(&t, t.admin(), "policy_delete", "ok", |c| v.policies(&c).delete(id, false)).unwrap();
        leaves!(&t, t.admin(), "audit_query", "ok", |c| v.audit(&c).query(AuditFilter::default())).unwrap();
        let bad = AuditFilter { cursor: Some("x".to_owned()), ..AuditFilter::default() };
        leaves!(&t, t.admin(), "audit_query", "invalid_cursor", |c| v.audit(&c).query(bad)).unwrap_err();
        leaves!(&t, t.scoped("u", &[]), "audit_query", "insufficient_scope", |c| v.audit(&c).query(AuditFilter::default())).unwrap_err();
    }

    async fn every_verb_on_certificates_leaves_exactly_one_record(t: Bench) {
        let v = t.vault.clone();
        let ca = leaves!(&t, t.admin(), "pki_ca_create", "ok", |c| v.pki(&c).create_ca(pki::root_write("Top"))).unwrap();
        let id = ca.id.as_str();
        leaves!(&t, t.admin(), "pki_ca_create", "name_conflict", |c| v.pki(&c).create_ca(pki::root_write("TOP"))).unwrap_err();
        leaves!(&t, t.admin(), "pki_ca_create", "validation_error", |c| v.pki(&c).create_ca(pki::root_write(""))).unwrap_err();
        leaves!(&t, t.admin(), "pki_ca_read", "ok", |c| v.pki(&c).cas(None, None)).unwrap();
        leaves!(&t, t.admin(), "pki_ca_read", "ok", |c| v.pki(&c).ca(id)).unwrap();
        leaves!(&t, t.admin(), "pki_ca_read", "ok", |c| v.pki(&c).ca_certificate(id)).unwrap();
        leaves!(&t, t.admin(), "pki_ca_read", "ca_not_found", |c| v.pki(&c).ca_certificate("x")).unwrap_err();
        leaves!(&t, t.admin(), "pki_role_create", "ok", |c| v.pki(&c).create_role(pki::role_write("r", id))).unwrap();
        leaves!(&t, t.admin(), "pki_role_create", "ca_not_found", |c| v.pki(&c).create_role(pki::role_write("s", "x"))).unwrap_err();
        leaves!(&t, t.admin(), "pki_role_create", "invalid_role", |c| v.pki(&c).create_role(pki::role_write("", id))).unwrap_err();
        leaves!(&t, t.admin(), "pki_role_update", "ok", |c| v.pki(&c).patch_role("r", RolePatch::default())).unwrap();
        leaves!(&t, t.admin(), "pki_role_update", "role_not_found", |c| v.pki(&c).patch_role("x", RolePatch::default())).unwrap_err();
        leaves!(&t, t.admin(), "pki_role_read", "ok", |c| v.pki(&c).role("r")).unwrap();
        leaves!(&t, t.admin(), "pki_role_read", "ok", |c| v.pki(&c).roles(None, None)).unwrap();
        let wanted = || IssueWrite { common_name: Some("a.svc.test".to_owned()), ..IssueWrite::default() };
        let leaf = leaves!(&t, t.admin(), "pki_issue", "ok", |c| v.pki(&c).issue("r", wanted())).unwrap();
        leaves!(&t, t.admin(), "pki_issue", "role_not_found", |c| v.pki(&c).issue("x", wanted())).unwrap_err();
        leaves!(&t, t.admin(), "pki_issue", "validation_error", |c| v.pki(&c).issue("r", IssueWrite::default())).unwrap_err();
        leaves!(&t, t.user("u"), "pki_issue", "access_denied", |c| v.pki(&c).issue("r", wanted())).unwrap_err();
        leaves!(&t, t.admin(), "pki_certificate_read", "ok", |c| v.pki(&c).certificates(Default::default())).unwrap();
        leaves!(&t, t.admin(), "pki_certificate_read", "ok", |c| v.pki(&c).certificate(&leaf.id)).unwrap();
        leaves!(&t, t.admin(), "pki_certificate_read", "ok", |c| v.pki(&c).certificate_with_key(&leaf.id)).unwrap();
        leaves!(&t, t.admin(), "pki_certificate_read", "certificate_not_found", |c| v.pki(&c).certificate("x")).unwrap_err();
        leaves!(&t, t.admin(), "pki_revoke", "ok", |c| v.pki(&c).revoke(pki::revocation(&leaf.serial_number))).unwrap();
        leaves!(&t, t.admin(), "pki_revoke", "ok", |c| v.pki(&c).revoke(pki::revocation(&leaf.serial_number))).unwrap();
        leaves!(&t, t.admin(), "pki_revoke", "certificate_not_found", |c| v.pki(&c).revoke(pki::revocation("01"))).unwrap_err();
        leaves!(&t, t.admin(), "pki_revoke", "validation_error", |c| v.pki(&c).revoke(pki::revocation("zz"))).unwrap_err();
        leaves!(&t, t.admin(), "pki_revoke", "invalid_state", |c| v.pki(&c).revoke(pki::revocation(&ca.serial_number))).unwrap_err();
        leaves!(&t, t.admin(), "pki_crl_build", "ok", |c| v.pki(&c).build_crl(id)).unwrap();
        leaves!(&t, t.admin(), "pki_crl_build", "ca_not_found", |c| v.pki(&c).build_crl("x")).unwrap_err();
        leaves!(&t, t.admin(), "pki_role_delete", "ok", |c| v.pki(&c).delete_role("r")).unwrap();
        leaves!(&t, t.admin(), "pki_role_delete", "role_not_found", |c| v.pki(&c).delete_role("r")).unwrap_err();
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.issued'").await, 1);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'certificate.revoked'").await, 1, "not once more for a repeat");
    }

    async fn every_verb_on_further_certificates_of_a_ca_leaves_exactly_one_record(t: Bench) {
        let v = t.vault.clone();
        let ca = v.pki(&t.admin()).create_ca(pki::root_write("Top")).await.unwrap();
        let other = v.pki(&t.admin()).create_ca(pki::root_write("Other")).await.unwrap();
        let (id, other) = (ca.id.as_str(), other.id.as_str());
        let install = || CaInstall { certificate_pem: "x".to_owned(), chain_pem: Vec::new() };
        let cross = |ca: &str| CaCrossSign { ca_id: Some(ca.to_owned()), ..CaCrossSign::default() };
        let rekey = || pki::rekey("Top 2");
        leaves!(&t, t.admin(), "pki_ca_read", "ok", |c| v.pki(&c).ca_csr(id)).unwrap();
        leaves!(&t, t.admin(), "pki_ca_install", "invalid_state", |c| v.pki(&c).install_ca(id, install())).unwrap_err();
        leaves!(&t, t.admin(), "pki_ca_install", "ca_not_found", |c| v.pki(&c).install_ca("x", install())).unwrap_err();
        leaves!(&t, t.admin(), "pki_ca_import", "validation_error", |c| v.pki(&c).import_ca(pki::import("X", "x", "x"))).unwrap_err();
        leaves!(&t, t.admin(), "pki_ca_cross_sign", "ok", |c| v.pki(&c).cross_sign(id, cross(other))).unwrap();
        leaves!(&t, t.admin(), "pki_ca_cross_sign", "ca_not_found", |c| v.pki(&c).cross_sign(id, cross("x"))).unwrap_err();
        let new = leaves!(&t, t.admin(), "pki_ca_rekey", "ok", |c| v.pki(&c).rekey_ca(id, rekey())).unwrap();
        leaves!(&t, t.admin(), "pki_ca_rekey", "name_conflict", |c| v.pki(&c).rekey_ca(id, rekey())).unwrap_err();
        leaves!(&t, t.admin(), "pki_ca_default", "ok", |c| v.pki(&c).make_default(&new.id)).unwrap();
        leaves!(&t, t.admin(), "pki_ca_default", "ca_not_found", |c| v.pki(&c).make_default("x")).unwrap_err();
        let waits = v.pki(&t.admin()).create_ca(crate::ca_origins::external("Waits")).await.unwrap();
        leaves!(&t, t.scoped("u", &[Scope::PkiIssue]), "pki_ca_delete", "insufficient_scope", |c| v.pki(&c).delete_ca(&waits.id)).unwrap_err();
        leaves!(&t, t.admin(), "pki_ca_delete", "ok", |c| v.pki(&c).delete_ca(&waits.id)).unwrap();
        leaves!(&t, t.admin(), "pki_ca_delete", "ca_not_found", |c| v.pki(&c).delete_ca(&waits.id)).unwrap_err();
        leaves!(&t, t.admin(), "pki_ca_delete", "invalid_state", |c| v.pki(&c).delete_ca(id)).unwrap_err();
        for scopes in [&[][..], &[Scope::PkiIssue]] {
            leaves!(&t, t.scoped("u", scopes), "pki_ca_import", "insufficient_scope", |c| v.pki(&c).import_ca(pki::import("X", "x", "x"))).unwrap_err();
            leaves!(&t, t.scoped("u", scopes), "pki_ca_rekey", "insufficient_scope", |c| v.pki(&c).rekey_ca(id, rekey())).unwrap_err();
        }
    }

    async fn a_record_has_every_field_of_its_request(t: Bench) {
        let ctx = t.admin().with_request_id("req_mine").with_source_ip("::ffff:10.1.2.3".parse().unwrap()).with_user_agent("curl\n/8\0");
        t.vault.secrets(&ctx).put(&path("app/a"), any()).await.unwrap();
        let log = query(&t, AuditFilter { request_id: Some("req_mine".to_owned()), ..AuditFilter::default() }).await.remove(0);
        assert!(log.id.starts_with("log_") && log.duration_ms >= 0);
        assert_eq!((log.timestamp, log.action.as_str(), log.success, log.error_code), (t.now(), "write", true, None));
        assert_eq!((log.identity_type.as_str(), log.identity_id.as_str()), ("user", "user:admin"));
        assert_eq!((log.tenant_id.as_str(), log.acting_tenant_id.as_str()), (ACME, ACME));
        assert_eq!((log.resource_type.as_deref(), log.secret_path.as_deref()), (Some("secret"), Some("app/a")));
        assert_eq!((log.source_ip.as_deref(), log.user_agent.as_deref()), (Some("10.1.2.3"), Some("curl/8")));
        assert_eq!(log.extra_data["version"], json!(1));
        let told = t.raw.rows("SELECT request_id, identity_id, path, event_type FROM event_outbox").await;
        let expected = ["req_mine", "user:admin", "app/a", "secret.created"].map(|s| Some(s.to_owned()));
        assert_eq!(told, [expected], "the event is of the same request");

        let ctx = t.admin().with_request_id(format!("r\0e q{}", "x".repeat(300))).with_user_agent(&"y".repeat(1000));
        t.vault.secrets(&ctx).get(&path("app/a"), None).await.unwrap();
        assert_eq!(t.trail(&ctx).await.len(), 1);
        assert_eq!((ctx.request_id().len(), ctx.user_agent().map(str::len)), (128, Some(256)));
        assert!(ctx.request_id().starts_with("reqxx"));
    }

    async fn each_filter_chooses_its_records_newest_first(t: Bench) {
        let start = t.now();
        t.grant("user:u", "app/**", &["read"]).await;
        let mut at = Vec::new();
        for (n, name) in ["app/a", "app/b", "other"].into_iter().enumerate() {
            t.clock.advance(HOUR);
            at.push(t.now());
            let ip = format!("10.0.0.{n}").parse().unwrap();
            let write = t.admin().with_request_id(format!("req_w{n}")).with_source_ip(ip);
            t.vault.secrets(&write).put(&path(name), any()).await.unwrap();
            let read = t.user("user:u").with_request_id(format!("req_r{n}")).with_source_ip(ip);
            let _ = t.vault.secrets(&read).get(&path(name), None).await;
        }
        t.clock.advance(HOUR);
        let end = t.now();
        let none = AuditFilter::default;
        let some = |text: &str| Some(text.to_owned());
        // Within an hour both records have one time: their order is not said.
        let cases = [
            (AuditFilter { from: Some(at[0]), to: Some(end), ..none() }, vec!["r0", "r1", "r2", "w0", "w1", "w2"]),
            (AuditFilter { from: Some(at[1]), to: Some(at[2]), ..none() }, vec!["r1", "w1"]),
            (AuditFilter { actions: vec!["read".to_owned()], ..none() }, vec!["r0", "r1", "r2"]),
            (AuditFilter { actions: vec!["write".to_owned(), "read".to_owned()], to: Some(at[1]), ..none() }, vec!["r0", "w0"]),
            (AuditFilter { actions: vec!["nothing".to_owned()], ..none() }, vec![]),
            (AuditFilter { identity_id: some("user:u"), ..none() }, vec!["r0", "r1", "r2"]),
            (AuditFilter { identity_type: some("user"), from: Some(at[2]), to: Some(end), ..none() }, vec!["r2", "w2"]),
            (AuditFilter { identity_type: some("system"), ..none() }, vec![]),
            (AuditFilter { path_prefix: some("app/"), ..none() }, vec!["r0", "r1", "w0", "w1"]),
            (AuditFilter { path_prefix: some("app/b"), ..none() }, vec!["r1", "w1"]),
            (AuditFilter { success: Some(false), ..none() }, vec!["r2"]),
            (AuditFilter { success: Some(true), identity_id: some("user:u"), ..none() }, vec!["r0", "r1"]),
            (AuditFilter { source_ip: some("10.0.0.1"), ..none() }, vec!["r1", "w1"]),
            (AuditFilter { request_id: some("req_w2"), ..none() }, vec!["w2"]),
            (AuditFilter { request_id: some("req_w"), ..none() }, vec![]),
            (AuditFilter { from: Some(end + HOUR), ..none() }, vec![]),
        ];
        for (filter, expected) in cases {
            let logs = query(&t, filter.clone()).await;
            assert!(logs.is_sorted_by(|a, b| a.timestamp >= b.timestamp), "{filter:?}");
            let mut names: Vec<&str> = logs.iter().map(|log| log.request_id.trim_start_matches("req_")).collect();
            names.sort_unstable();
            assert_eq!(names, expected, "{filter:?}");
        }
        let all = query(&t, none()).await;
        assert!(all.iter().any(|log| log.action == "audit_query"), "the queries are in it");
        assert!(all.iter().all(|log| log.timestamp >= start));
    }

    async fn pages_of_the_trail_are_complete_and_their_cursor_is_theirs(t: Bench) {
        for n in 0..9 {
            if n % 3 == 0 {
                t.clock.advance(Duration::from_micros(1));
            }
            t.put(&format!("s{n}"), json!({})).await;
        }
        let filter = || AuditFilter { actions: vec!["write".to_owned()], limit: Some(2), ..AuditFilter::default() };
        let all = query(&t, AuditFilter { limit: None, ..filter() }).await;
        assert_eq!(all.len(), 9);
        let admin = t.admin();
        let audit = t.vault.audit(&admin);
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = audit.query(AuditFilter { cursor, ..filter() }).await.unwrap();
            assert!(page.items.len() <= 2);
            seen.extend(page.items);
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all, "the pages are the list");
        let cursor = audit.query(filter()).await.unwrap().cursor;
        let other = AuditFilter { success: Some(true), cursor: cursor.clone(), ..filter() };
        assert_eq!(code(audit.query(other).await), Code::InvalidCursor);
        let other = t.admin_of(OTHER);
        assert_eq!(code(t.vault.audit(&other).query(AuditFilter { cursor, ..filter() }).await), Code::InvalidCursor);
        for limit in [Some(0), None] {
            assert_eq!(query(&t, AuditFilter { limit, ..filter() }).await.len(), 9);
        }
    }

    async fn sec_i1_no_value_key_or_token_is_anywhere_in_the_database(t: Bench) {
        let canary = b"cANARY7f3Zq0secretVALUE42";
        let text = std::str::from_utf8(canary).unwrap();
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        secrets.put(&path("a"), write(json!({"password": text, text: [text]}))).await.unwrap();
        secrets.put(&path("a"), write(json!({"password": text}))).await.unwrap();
        secrets.get(&path("a"), None).await.unwrap();
        let bad = SecretWrite { options: WriteOptions { max_versions: Some(0), ..WriteOptions::default() }, ..write(json!({"password": text})) };
        assert_eq!(code(secrets.put(&path("a"), bad).await), Code::ValidationError);
        let denied = t.user("user:u");
        assert_eq!(code(t.vault.secrets(&denied).put(&path("a"), write(json!({"password": text}))).await), Code::AccessDenied);
        let cursor = format!("{text}{text}");
        let error = refusal(secrets.list(ListFilter { cursor: Some(cursor), ..ListFilter::default() }).await);
        assert!(!format!("{error:?}").contains(text));

        let ca = pki::root(&t.vault, &admin, "Top").await;
        let keeps = RolePatch { store_private_keys: Some(true), ..RolePatch::default() };
        pki::role(&t.vault, &admin, "r", &ca.id).await;
        t.vault.pki(&admin).patch_role("r", keeps).await.unwrap();
        let wanted = IssueWrite { common_name: Some("a.svc.test".to_owned()), ..IssueWrite::default() };
        let leaf = t.vault.pki(&admin).issue("r", wanted).await.unwrap();
        t.vault.pki(&admin).certificate_with_key(&leaf.id).await.unwrap();

        let dump = t.raw.dump_all().await;
        assert!(dump.contains("a.svc.test") && dump.contains(&leaf.id), "the dump is one");
        assert_hidden(&dump, canary, "a value");
        let pem: String = leaf.private_key.as_ref().unwrap().expose().lines().filter(|line| !line.starts_with('-')).collect();
        let pkcs8 = base64::engine::general_purpose::STANDARD.decode(pem).unwrap();
        // ECPrivateKey: version 1, then the private number.
        let number = pkcs8.windows(5).position(|w| w == [2, 1, 1, 4, 0x20]).unwrap() + 5;
        assert_hidden(&dump, &pkcs8[number..number + 32], "a private key");
        assert!(!format!("{leaf:?}").contains(leaf.private_key.as_ref().unwrap().expose().lines().nth(1).unwrap()));

        t.vault.close().await;
        if let Some(folder) = &t.folder {
            for file in std::fs::read_dir(folder).unwrap() {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                assert!(!bytes.windows(canary.len()).any(|w| w == canary), "not in the files either");
            }
        }
    }

    async fn sec_i1_what_is_deleted_for_good_leaves_no_ciphertext_or_key(t: Bench) {
        t.put("a", json!({"k": "v"})).await;
        let sealed = match &t.folder {
            Some(_) => t.raw.texts("SELECT hex(ciphertext) FROM secret_version UNION SELECT hex(wrapped_key) FROM secret_version").await,
            None => t.raw.texts("SELECT encode(ciphertext, 'hex') FROM secret_version UNION SELECT encode(wrapped_key, 'hex') FROM secret_version").await,
        };
        assert_eq!(sealed.len(), 2);
        let admin = t.admin();
        t.vault.secrets(&admin).delete(&path("a"), true).await.unwrap();
        let dump = t.raw.dump_all().await.to_lowercase();
        for sealed in &sealed {
            assert!(!dump.contains(&sealed.to_lowercase()));
        }
    }

    async fn a_refusal_before_any_verb_is_recorded_once_and_never_twice(t: Bench) {
        let ctx = t.admin();
        let audit = t.vault.audit(&ctx);
        let error = Error::new(Code::InvalidPath, "path: bad");
        let about = format!("A\n{}", "x".repeat(2000));
        let error = audit.refused(Action::Write, &[], Some(&about), error, Duration::from_millis(1500)).await;
        assert_eq!(error.code(), Code::InvalidPath);
        let error = audit.refused(Action::Write, &[], Some("again"), error, Duration::ZERO).await;
        assert_eq!(error.code(), Code::InvalidPath);
        let trail = t.trail(&ctx).await;
        assert_eq!(trail.len(), 1);
        let record = &trail[0];
        assert_eq!((record.action.as_str(), record.outcome.as_str(), record.identity.as_str()), ("write", "invalid_path", "user:admin"));
        let resource = record.resource.as_deref().unwrap();
        assert_eq!((resource.chars().count(), &resource[..4]), (512, "A\u{fffd}"));
        assert_eq!(t.raw.texts("SELECT CAST(duration_ms AS TEXT) FROM audit_trail").await, ["1500"]);

        // What a verb recorded is not recorded again at the edge.
        let ctx = t.user("user:u");
        let error = refusal(t.vault.secrets(&ctx).get(&path("a"), None).await);
        let error = t.vault.audit(&ctx).refused(Action::Read, &[], Some("a"), error, Duration::ZERO).await;
        assert_eq!(error.code(), Code::AccessDenied);
        assert_eq!(t.trail(&ctx).await.len(), 1);
        let ctx = t.admin();
        t.vault.audit(&ctx).refused(Action::Unrouted, &[], None, Error::new(Code::NotFound, "no route"), Duration::ZERO).await;
        assert_eq!(outcomes(&t, &ctx).await, [("unrouted".to_owned(), "not_found".to_owned())]);
    }

    async fn a_write_that_fails_half_way_leaves_neither_change_nor_success(t: Bench) {
        t.put("a", json!({"n": 1})).await;
        let before = t.raw.count("audit_trail").await;
        // The change itself goes through, its audit record does not.
        let (block, unblock) = match &t.folder {
            Some(_) => (
                "CREATE TRIGGER block BEFORE INSERT ON audit_log WHEN NEW.success BEGIN SELECT RAISE(ABORT, 'blocked'); END".to_owned(),
                "DROP TRIGGER block".to_owned(),
            ),
            None => (
                "ALTER TABLE audit_log ADD CONSTRAINT block CHECK (NOT success) NOT VALID".to_owned(),
                "ALTER TABLE audit_log DROP CONSTRAINT block".to_owned(),
            ),
        };
        // Where changes leave their records on PostgreSQL.
        let intake = |sql: &str| sql.replace("audit_log", "audit_intake").replace("block", "block_too");
        if t.folder.is_none() {
            t.vault.audit(&t.admin()).query(AuditFilter::default()).await.unwrap();
            t.raw.execute(&intake(&block)).await;
        }
        let before = before + usize::from(t.folder.is_none());
        t.raw.execute(&block).await;
        let admin = t.admin();
        let secrets = t.vault.secrets(&admin);
        secrets.put(&path("a"), write(json!({"n": 2}))).await.unwrap_err();
        secrets.put(&path("b"), any()).await.unwrap_err();
        secrets.delete(&path("a"), true).await.unwrap_err();
        t.vault.policies(&admin).create(policy("p", &[("a", &["read"])])).await.unwrap_err();
        // A read without its record is not answered.
        assert_eq!(code(secrets.get(&path("a"), None).await), Code::ServiceUnavailable);
        t.raw.execute(&unblock).await;
        if t.folder.is_none() {
            t.raw.execute(&intake(&unblock)).await;
        }
        assert_eq!(t.get("a").await.unwrap(), json!({"n": 1}));
        assert_eq!((t.raw.count("secret_version").await, t.raw.count("policy").await), (1, 0));
        assert_eq!(t.raw.count("event_outbox").await, 1);
        let mut failed = BTreeMap::new();
        for record in t.trail(&admin).await {
            assert_ne!(record.outcome, "ok");
            *failed.entry(record.action).or_insert(0) += 1;
        }
        assert_eq!(failed, BTreeMap::from([("write".to_owned(), 2), ("delete".to_owned(), 1), ("policy_create".to_owned(), 1)]));
        assert_eq!(t.raw.count("audit_trail").await, before + 5, "four failures and the last read");
    }

    async fn a_denial_is_told_as_a_violation_with_its_record(t: Bench) {
        let ctx = t.user("user:u").with_source_ip("10.0.0.9".parse().unwrap());
        assert_eq!(code(t.vault.secrets(&ctx).delete(&path("a/b"), true).await), Code::AccessDenied);
        let rows = t.raw.rows("SELECT event_type, path, identity_id, request_id, tenant_id, CAST(data AS TEXT) FROM event_outbox").await;
        assert_eq!(rows.len(), 1);
        let row: Vec<&str> = rows[0].iter().map(|column| column.as_deref().unwrap()).collect();
        assert_eq!(row[..5], ["policy.violation", "a/b", "user:u", ctx.request_id(), ACME]);
        let data: serde_json::Value = serde_json::from_str(row[5]).unwrap();
        let expected = json!({"permission": "delete", "reason": "access_denied", "failed_condition": null, "source_ip": "10.0.0.9"});
        assert_eq!(data, expected);
        // Not for a missing scope, nor for what is not there.
        assert_eq!(code(t.vault.secrets(&t.scoped("user:u", &[Scope::SecretsList])).get(&path("a"), None).await), Code::InsufficientScope);
        assert_eq!(code(t.vault.secrets(&t.admin()).get(&path("a"), None).await), Code::SecretNotFound);
        assert_eq!(t.raw.count("event_outbox").await, 1);
    }

    async fn many_readers_at_once_each_get_their_record(t: Bench) {
        t.put("a", json!({})).await;
        let tasks: Vec<_> = (0..200).map(|n| {
            let t = t.clone();
            tokio::spawn(async move {
                let ctx = if n % 4 == 0 { t.user("user:nobody") } else { t.admin() };
                let done = t.vault.secrets(&ctx).get(&path("a"), None).await.is_ok();
                (ctx.request_id().to_owned(), done, n % 4 != 0)
            })
        }).collect();
        for task in tasks {
            let (id, done, expected) = task.await.unwrap();
            assert_eq!(done, expected);
            let trail = t.raw.trail(&format!("request_id = '{id}'")).await;
            assert_eq!(trail.len(), 1);
            assert_eq!(trail[0].outcome == "ok", expected);
        }
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'policy.violation'").await, 50);
    }

    async fn sec_i3_while_the_trail_cannot_be_written_nothing_is_answered_and_nothing_is_done(t: Bench) {
        t.put("a", json!({"n": 1})).await;
        t.get("a").await.unwrap();
        let before = t.raw.count("audit_trail").await;
        // Somebody holds the trail for longer than anybody waits.
        match &t.raw {
            Raw::Lite(_) => drop(t.raw.execute("BEGIN IMMEDIATE").await),
            Raw::Pg(_) => {
                t.raw.execute("BEGIN").await;
                t.raw.execute("LOCK TABLE audit_log, audit_head, audit_intake IN ACCESS EXCLUSIVE MODE").await;
            }
        }
        let (admin, at) = (t.admin(), path("a"));
        let secrets = t.vault.secrets(&admin);
        let (read, written) = tokio::join!(secrets.get(&at, None), secrets.put(&at, write(json!({"n": 2}))));
        for error in [refusal(read), refusal(written)] {
            assert_eq!(error.code(), Code::ServiceUnavailable);
            assert!(error.details().retry_after.is_some(), "{error:?}");
        }
        t.raw.execute("ROLLBACK").await;
        assert_eq!(t.get("a").await.unwrap(), json!({"n": 1}));
        assert_eq!(t.put("a", json!({"n": 2})).await.item.version, 2, "the write that was refused left nothing");
        assert_eq!(t.raw.count("audit_trail").await, before + 2, "and no record of what was not done");
    }
}
