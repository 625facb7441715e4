//! Conditions of rules, through the whole walk: when a rule counts, what a refusal says, and who is told.

use std::net::IpAddr;

use scaivault_core::{
    Caller, Code, Ctx, Scope,
    pki::IssueWrite,
    secrets::{ListFilter, SecretPatch},
};
use serde_json::{Value, json};
use time::ext::NumericalDuration as _;

use crate::bench::{Bench, HOUR, code, contract, path, refusal, tenant, user};

fn office() -> Value {
    json!({"ip_ranges": ["10.1.0.0/16", "2001:db8::/32"]})
}

fn mfa() -> Value {
    json!({"require_mfa": true})
}

/// The clock of the bench stands at 18:00 UTC on a Thursday.
fn evening() -> Value {
    json!({"time_window": {"days": ["thu"], "start": "18:00", "end": "19:00", "timezone": "UTC"}})
}

impl Bench {
    fn from(&self, id: &str, ip: &str) -> Ctx {
        self.user(id).with_source_ip(ip.parse::<IpAddr>().unwrap())
    }

    /// A request of somebody who showed a second factor so long ago.
    fn verified(&self, id: &str, ago: time::Duration) -> Ctx {
        self.ctx(user(id).with_scopes([Scope::Admin]).with_mfa(self.now() - ago))
    }

    async fn read(&self, ctx: &Ctx) -> Option<Code> {
        self.vault.secrets(ctx).get(&path("a"), None).await.err().map(|error| error.code())
    }
}

contract! {
    async fn a_rule_counts_only_where_its_conditions_hold(t: Bench) {
        t.put("a", json!({})).await;
        t.grant_if("user:ip", "a", &["read"], office()).await;
        assert_eq!(t.read(&t.from("user:ip", "10.1.2.3")).await, None);
        assert_eq!(t.read(&t.from("user:ip", "::ffff:10.1.2.3")).await, None);
        assert_eq!(t.read(&t.from("user:ip", "2001:db8::7")).await, None);
        assert_eq!(t.read(&t.from("user:ip", "10.2.2.3")).await, Some(Code::IpNotAllowed));
        assert_eq!(t.read(&t.user("user:ip")).await, Some(Code::IpNotAllowed), "nobody said where he is");

        t.grant_if("user:mfa", "a", &["read"], mfa()).await;
        assert_eq!(t.read(&t.verified("user:mfa", 15.minutes())).await, None);
        assert_eq!(t.read(&t.verified("user:mfa", 901.seconds())).await, Some(Code::MfaRequired));
        assert_eq!(t.read(&t.verified("user:mfa", (-31).seconds())).await, Some(Code::MfaRequired));
        assert_eq!(t.read(&t.user("user:mfa")).await, Some(Code::MfaRequired));

        t.grant_if("user:time", "a", &["read"], evening()).await;
        assert_eq!(t.read(&t.user("user:time")).await, None);
        t.clock.advance(HOUR);
        assert_eq!(t.read(&t.user("user:time")).await, Some(Code::TimeWindowViolation), "nothing was kept of it");
    }

    async fn an_unconditional_rule_is_not_held_up_by_a_conditional_one(t: Bench) {
        t.put("a", json!({})).await;
        t.grant_if("user:u", "a", &["read"], office()).await;
        assert_eq!(t.read(&t.user("user:u")).await, Some(Code::IpNotAllowed));
        t.grant("user:u", "**", &["list"]).await;
        assert_eq!(t.read(&t.user("user:u")).await, Some(Code::IpNotAllowed), "that is another permission");
        t.grant("user:u", "*", &["read"]).await;
        assert_eq!(t.read(&t.user("user:u")).await, None);
    }

    async fn a_second_factor_is_asked_for_only_where_it_alone_would_help(t: Bench) {
        t.put("a", json!({})).await;
        let both = json!({"ip_ranges": ["10.1.0.0/16"], "require_mfa": true});
        t.grant_if("user:u", "a", &["read"], both).await;
        assert_eq!(t.read(&t.from("user:u", "10.9.9.9")).await, Some(Code::IpNotAllowed));
        assert_eq!(t.read(&t.from("user:u", "10.1.0.1")).await, Some(Code::MfaRequired));
        // From the office without, from elsewhere with one.
        t.grant_if("user:v", "a", &["read"], office()).await;
        t.grant_if("user:v", "a", &["read"], mfa()).await;
        assert_eq!(t.read(&t.from("user:v", "10.9.9.9")).await, Some(Code::MfaRequired));
        assert_eq!(t.read(&t.verified("user:v", 1.minutes())).await, None);
        t.clock.advance(HOUR);
        t.grant_if("user:w", "a", &["read"], evening()).await;
        t.grant_if("user:w", "a", &["read"], office()).await;
        assert_eq!(t.read(&t.user("user:w")).await, Some(Code::IpNotAllowed));
    }

    async fn a_refusal_says_which_condition_and_everybody_is_told(t: Bench) {
        t.put("a", json!({})).await;
        t.grant_if("user:u", "a", &["read"], mfa()).await;
        let ctx = t.from("user:u", "192.0.2.9");
        let error = refusal(t.vault.secrets(&ctx).get(&path("a"), None).await);
        assert_eq!((error.code(), error.details().failed_condition, error.details().path.as_deref()),
            (Code::MfaRequired, Some("require_mfa"), Some("a")));
        let trail = t.trail(&ctx).await;
        assert_eq!((trail.len(), trail[0].outcome.as_str(), &trail[0].extra), (1, "mfa_required",
            &json!({"failed_condition": "require_mfa", "groups": [], "permission": "read"})));
        let told = t.raw.rows(&format!(
            "SELECT path, identity_id, CAST(data AS TEXT) FROM event_outbox WHERE event_type = 'policy.violation' AND \
             request_id = '{}'", ctx.request_id())).await;
        assert_eq!(told.len(), 1);
        assert_eq!((told[0][0].as_deref(), told[0][1].as_deref()), (Some("a"), Some("user:u")));
        assert_eq!(serde_json::from_str::<Value>(told[0][2].as_deref().unwrap()).unwrap(), json!({
            "permission": "read", "reason": "mfa_required", "failed_condition": "require_mfa", "source_ip": "192.0.2.9"}));
        // Without a rule for him, nothing of it.
        let error = refusal(t.vault.secrets(&t.user("user:x")).get(&path("a"), None).await);
        assert_eq!((error.code(), error.details().failed_condition), (Code::AccessDenied, None));
    }

    async fn lists_show_what_can_be_listed_from_there_and_then(t: Bench) {
        for at in ["app/a", "ops/b", "x"] {
            t.put(at, json!({})).await;
        }
        t.grant("user:u", "app/**", &["list"]).await;
        t.grant_if("user:u", "ops/**", &["list"], office()).await;
        t.grant_if("user:u", "x", &["list"], evening()).await;
        let seen = async |ctx: Ctx| {
            let page = t.vault.secrets(&ctx).list(ListFilter::default()).await.unwrap();
            page.items.into_iter().map(|item| item.path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(seen(t.from("user:u", "10.1.0.1")).await, ["app/a", "ops/b", "x"]);
        assert_eq!(seen(t.from("user:u", "10.2.0.1")).await, ["app/a", "x"]);
        t.clock.advance(HOUR);
        assert_eq!(seen(t.user("user:u")).await, ["app/a"]);
    }

    async fn conditions_hold_for_every_verb_and_for_certificates(t: Bench) {
        t.put("a", json!({})).await;
        let ca = crate::pki::root(&t.vault, &t.admin(), "Top").await;
        crate::pki::role(&t.vault, &t.admin(), "web", &ca.id).await;
        t.grant_if("user:u", "**", &["admin"], office()).await;
        let away = t.from("user:u", "192.0.2.1");
        let secrets = t.vault.secrets(&away);
        for refused in [
            secrets.get(&path("a"), None).await.err(),
            secrets.metadata(&path("a")).await.err(),
            secrets.versions(&path("a")).await.err(),
            secrets.patch(&path("a"), SecretPatch::default()).await.err(),
            secrets.put(&path("a"), crate::bench::any()).await.err(),
            secrets.delete(&path("a"), false).await.err(),
            secrets.restore(&path("a")).await.err(),
            t.vault.pki(&away).issue("web", IssueWrite::default()).await.err(),
        ] {
            assert_eq!(refused.map(|error| error.code()), Some(Code::IpNotAllowed));
        }
        assert_eq!(t.raw.count("secret_version").await, 1);
        let here = t.from("user:u", "10.1.0.1");
        t.vault.secrets(&here).put(&path("a"), crate::bench::any()).await.unwrap();
    }

    async fn who_stands_above_policies_stands_above_conditions(t: Bench) {
        t.put("a", json!({})).await;
        t.grant_if("user:admin", "**", &["admin"], office()).await;
        assert_eq!(t.read(&t.admin()).await, None);
        assert_eq!(t.read(&t.ctx(Caller::system("rotation", tenant(crate::bench::ACME)).unwrap())).await, None);
    }

    async fn sec_a6_a_stored_condition_that_is_not_understood_is_an_error_and_never_skipped(t: Bench) {
        t.put("a", json!({})).await;
        let (policy, _) = t.grant("user:u", "a", &["read"]).await;
        t.grant("user:u", "**", &["admin"]).await;
        for conditions in [
            json!({"moon": "full"}), json!({"ip_ranges": ["10.0.0.1/8"]}), json!({"ip_ranges": []}),
            json!({"time_window": {"start": "09:00", "end": "17:00", "timezone": "Mars/Olympus"}}), json!(["require_mfa"]),
        ] {
            assert_eq!(t.read(&t.user("user:u")).await, None);
            let rules = json!([{"path_pattern": "a", "permissions": ["read"], "conditions": conditions}]);
            t.raw.execute(&format!("UPDATE policy SET rules = '{rules}' WHERE id = '{}'", policy.id)).await;
            t.raw.execute("UPDATE tenant SET policy_epoch = policy_epoch + 1").await;
            t.clock.advance(scaivault_core::limits::EPOCH_CHECK);
            assert_eq!(t.read(&t.user("user:u")).await, Some(Code::InternalError), "{conditions}");
            assert_eq!(code(t.vault.secrets(&t.user("user:u")).list(ListFilter::default()).await), Code::InternalError);
            assert_eq!(code(t.vault.policies(&t.admin()).read(&policy.id).await), Code::InternalError);
            let good = json!([{"path_pattern": "a", "permissions": ["read"], "conditions": {}}]);
            t.raw.execute(&format!("UPDATE policy SET rules = '{good}' WHERE id = '{}'", policy.id)).await;
            t.raw.execute("UPDATE tenant SET policy_epoch = policy_epoch + 1").await;
            t.clock.advance(scaivault_core::limits::EPOCH_CHECK);
        }
    }

    async fn conditions_are_stored_in_one_form(t: Bench) {
        let policy = t.grant_if("user:u", "a", &["read"], json!({
            "require_mfa": true, "ip_ranges": ["2001:DB8::/32", "10.0.0.0/8", "10.0.0.0/8"],
            "time_window": {"start": "22:00", "end": "06:00", "timezone": "europe/paris", "days": ["sun", "mon"]},
        })).await;
        let stored = t.vault.policies(&t.admin()).read(&policy.id).await.unwrap();
        assert_eq!(serde_json::to_value(&stored.rules[0]).unwrap()["conditions"], json!({
            "ip_ranges": ["10.0.0.0/8", "2001:db8::/32"],
            "time_window": {"days": ["mon", "sun"], "start": "22:00", "end": "06:00", "timezone": "Europe/Paris"},
            "require_mfa": true,
        }));
    }

    async fn the_window_of_the_second_factor_can_be_set(t: Bench) {
        t.put("a", json!({})).await;
        t.grant_if("user:u", "a", &["read"], mfa()).await;
        t.grant_if("user:v", "a", &["read"], json!({"require_mfa": true, "mfa_max_age": "2h"})).await;
        let vault = t.builder(crate::bench::root_key(7)).mfa_window(HOUR).open().await.unwrap();
        let read = async |id: &str, ago: i64| {
            let ctx = t.verified(id, ago.seconds());
            vault.secrets(&ctx).get(&path("a"), None).await.is_ok()
        };
        assert!(read("user:u", 3600).await && !read("user:u", 3601).await);
        assert!(read("user:v", 7200).await && !read("user:v", 7201).await);
        vault.close().await;
    }
}
