//! Looking through policies: every answer is what a request would meet.

use scaivault_core::{
    Code, IdentityType, Role, Scope,
    policy::{BindingWrite, Draft, Explanation, Permission, PolicyPatch, Question, Rule, Verdict},
};
use serde_json::{Value, json};
use time::ext::NumericalDuration as _;

use crate::bench::{Bench, HOUR, bind_user, code, contract, path, policy, refusal, rule, user};

fn ask(id: &str, at: &str, permission: Permission) -> Question {
    Question::new(IdentityType::User, id, at, permission)
}

fn group(id: &str) -> BindingWrite {
    BindingWrite {
        tenant_id: None,
        identity_type: IdentityType::Group,
        identity_id: id.to_owned(),
        expires_at: None,
    }
}

fn rules(rules: &[(&str, &[&str])]) -> Vec<Rule> {
    policy("x", rules).rules().to_vec()
}

impl Bench {
    async fn test(&self, question: &Question) -> Value {
        let verdict: Verdict = self.vault.policies(&self.admin()).test(question).await.unwrap();
        serde_json::to_value(verdict).unwrap()
    }

    async fn explain(&self, question: &Question) -> Explanation {
        let found = self.vault.policies(&self.admin()).explain(question).await.unwrap();
        let verdict = self.test(question).await;
        assert_eq!(serde_json::to_value(&found.verdict).unwrap(), verdict, "one evaluator");
        assert_eq!(found.considered.iter().any(|rule| rule.allows), !verdict["matched_rule"].is_null());
        found
    }

    async fn who_can(&self, at: &str, permission: Permission) -> Vec<String> {
        let found = self.vault.policies(&self.admin()).who_can(at, permission, None, None).await.unwrap();
        found.identities.items.into_iter().map(|row| row.identity_id).collect()
    }
}

fn draft(policy_id: Option<&str>, rules: Vec<Rule>, bindings: Option<Vec<BindingWrite>>) -> Draft {
    Draft { policy_id: policy_id.map(str::to_owned), rules, bindings, days: None, limit: None, cursor: None }
}

contract! {
    async fn a_dry_run_says_what_a_request_would_meet_and_leaves_no_record(t: Bench) {
        let (made, _) = t.grant("user:u", "app/*", &["read"]).await;
        let before = t.raw.count("audit_trail").await;
        assert_eq!(t.test(&ask("user:u", "app/db", Permission::Read)).await, json!({
            "allowed": true, "matched_policy": {"id": made.id, "name": made.name},
            "matched_rule": {"index": 0, "path_pattern": "app/*"}}));
        assert_eq!(t.test(&ask("user:u", "app/db", Permission::Write)).await, json!({
            "allowed": false, "reason": "access_denied", "failed_condition": null,
            "evaluated_policies": [{"id": made.id, "name": made.name}]}));
        assert_eq!(t.test(&ask("user:nobody", "app/db", Permission::Read)).await["evaluated_policies"], json!([]));
        assert_eq!(t.raw.count("audit_trail").await, before, "nothing was done");
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'policy.violation'").await, 0);
        let none = t.scoped("user:u", &[Scope::SecretsRead]);
        let question = ask("user:u", "app/db", Permission::Read);
        assert_eq!(code(t.vault.policies(&none).test(&question).await), Code::InsufficientScope);
        assert_eq!(t.trail(&none).await[0].action, "policy_test", "that it was refused is recorded");
    }

    async fn a_dry_run_takes_groups_roles_and_circumstances(t: Bench) {
        let office = json!({"ip_ranges": ["10.0.0.0/8"], "require_mfa": true,
            "time_window": {"start": "09:00", "end": "17:00", "timezone": "Europe/Amsterdam"}});
        let made = t.grant_if("user:u", "a", &["read"], office).await;
        t.vault.policies(&t.admin()).bind(&made.id, group("group:sre")).await.unwrap();
        let noon = time::macros::datetime!(2026-04-24 10:00 UTC);
        let good = Question {
            source_ip: Some([10, 1, 1, 1].into()), mfa_verified: true, timestamp: Some(noon), ..ask("user:u", "a", Permission::Read)
        };
        assert_eq!(t.test(&good).await["allowed"], true);
        for (failed, reason, question) in [
            ("ip_ranges", "ip_not_allowed", Question { source_ip: None, ..good.clone() }),
            ("time_window", "time_window_violation", Question { timestamp: None, ..good.clone() }),
            ("require_mfa", "mfa_required", Question { mfa_verified: false, ..good.clone() }),
        ] {
            let verdict = t.test(&question).await;
            assert_eq!((&verdict["failed_condition"], &verdict["reason"]), (&json!(failed), &json!(reason)));
        }
        let other = Question { identity_id: "user:v".to_owned(), ..good.clone() };
        assert_eq!(t.test(&other).await["reason"], "access_denied");
        assert_eq!(t.test(&Question { groups: vec!["group:sre".to_owned()], ..other.clone() }).await["allowed"], true);
        let admin = Question { roles: vec![Role::TenantAdmin], ..ask("user:v", "x", Permission::Delete) };
        assert_eq!(t.test(&admin).await, json!({
            "allowed": true, "matched_policy": null, "matched_rule": null, "granted_by": "role:tenant_admin"}));
        let system = Question { identity_type: IdentityType::System, ..ask("system:rotation", "x", Permission::Rotate) };
        assert_eq!(t.test(&system).await["granted_by"], "system");
        let role = ask("user:u", "pki/issue/Web.1", Permission::Read);
        assert_eq!(t.test(&role).await["reason"], "access_denied");
    }

    async fn a_question_that_cannot_be_asked_names_its_fields(t: Bench) {
        let test = async |question: Question| refusal(t.vault.policies(&t.admin()).test(&question).await);
        let good = ask("user:u", "a", Permission::Read);
        for (field, bad) in [
            ("identity_id", Question { identity_id: "a b".to_owned(), ..good.clone() }),
            ("identity_id", Question { identity_id: "user:*".to_owned(), ..good.clone() }),
            ("identity_type", Question { identity_type: IdentityType::Group, ..good.clone() }),
            ("groups", Question { groups: vec!["ok".to_owned(), "no good".to_owned()], ..good.clone() }),
            ("groups", Question { groups: vec!["g".to_owned(); 1025], ..good.clone() }),
        ] {
            let error = test(bad).await;
            assert_eq!(error.code(), Code::ValidationError, "{field}");
            assert!(error.details().fields.contains_key(field), "{field}: {error}");
        }
        for bad in ["", "/a", "A", "a//b", "a/%2e", "pki/issue/", "pki/issue/a b", "pki/issue/..", "dynamic/*/x"] {
            assert_eq!(test(Question { path: bad.to_owned(), ..good.clone() }).await.code(), Code::InvalidPath, "{bad}");
            assert_eq!(code(t.vault.policies(&t.admin()).who_can(bad, Permission::Read, None, None).await), Code::InvalidPath);
        }
    }

    async fn an_explanation_says_of_every_rule_what_would_have_to_change(t: Bench) {
        let question = ask("user:u", "app/db", Permission::Read);
        let (allows, _) = t.grant("user:u", "app/**", &["read"]).await;
        t.grant_if("user:u", "app/db", &["read"], json!({"ip_ranges": ["10.0.0.0/8"]})).await;
        t.grant("user:u", "ops/**", &["read"]).await;
        t.grant("user:u", "app/db", &["write"]).await;
        t.grant("user:v", "app/db", &["read"]).await;
        let (inactive, _) = t.grant("user:u", "app/db", &["admin"]).await;
        let off = PolicyPatch { is_active: Some(false), ..PolicyPatch::default() };
        t.vault.policies(&t.admin()).patch(&inactive.id, off).await.unwrap();
        let admin = t.admin();
        let lapsed = t.vault.policies(&admin).create(policy("lapsed", &[("*/db", &["read"])])).await.unwrap();
        let until = BindingWrite { expires_at: Some(t.now() + 1.hours()), ..bind_user("user:u") };
        t.vault.policies(&admin).bind(&lapsed.id, until).await.unwrap();
        t.clock.advance(HOUR);

        let found = t.explain(&question).await;
        assert!(found.verdict.is_allowed());
        assert_eq!((found.considered.len(), found.omitted), (7, 0));
        assert_eq!((&found.considered[0].policy.id, found.considered[0].allows), (&allows.id, true));
        let mut needed: Vec<_> = found.considered[1..].iter().map(|rule| rule.would_allow_if.join("; ")).collect();
        needed.sort();
        assert_eq!(needed, [
            "the binding has not lapsed",
            "the pattern matches the path",
            "the policy is active",
            "the policy is bound to the identity or to one of its groups",
            "the rule grants the permission",
            "the source address is in 10.0.0.0/8",
        ]);
        let conditional = found.considered.iter().find(|rule| !rule.conditions.is_empty()).unwrap();
        assert_eq!((&conditional.failed_conditions[..], conditional.path_matches, conditional.permission_matches),
            (&["ip_ranges"][..], true, true));
        assert_eq!(conditional.bindings[0].identity_id, "user:u");
        // What it says has to change is what helps.
        t.vault.policies(&t.admin()).delete(&allows.id, true).await.unwrap();
        assert!(!t.explain(&question).await.verdict.is_allowed());
        assert!(t.explain(&Question { source_ip: Some([10, 0, 0, 1].into()), ..question }).await.verdict.is_allowed());
    }

    async fn who_can_names_whoever_a_rule_lets_and_nobody_else(t: Bench) {
        let (made, _) = t.grant("user:u", "app/**", &["read"]).await;
        let admin = t.admin();
        t.vault.policies(&admin).bind(&made.id, group("group:sre")).await.unwrap();
        let until = BindingWrite { expires_at: Some(t.now() + 1.hours()), ..bind_user("user:soon") };
        t.vault.policies(&admin).bind(&made.id, until).await.unwrap();
        t.grant_if("user:office", "app/db", &["admin"], json!({"ip_ranges": ["10.0.0.0/8"]})).await;
        t.grant("user:writer", "app/db", &["write"]).await;
        t.grant("user:elsewhere", "ops/db", &["read"]).await;
        let found = t.vault.policies(&t.admin()).who_can("app/db", Permission::Read, None, None).await.unwrap();
        assert_eq!(found.built_in, ["system", "role:tenant_admin", "role:partner_admin", "role:super_admin"]);
        let rows = serde_json::to_value(&found.identities.items).unwrap();
        assert_eq!(rows[0], json!({"identity_type": "group", "identity_id": "group:sre", "policy": {"id": made.id, "name": made.name},
            "rule_index": 0, "path_pattern": "app/**", "permissions": ["read"], "conditions": {}, "expires_at": null}));
        assert_eq!(rows[1]["conditions"], json!({"ip_ranges": ["10.0.0.0/8"]}));
        assert_eq!(rows[2]["expires_at"], "2026-04-23T19:00:00Z");
        assert_eq!(t.who_can("app/db", Permission::Read).await, ["group:sre", "user:office", "user:soon", "user:u"]);
        assert_eq!(t.who_can("app/db", Permission::Write).await, ["user:office", "user:writer"]);
        assert_eq!(t.who_can("x", Permission::Read).await, [""; 0]);
        t.clock.advance(HOUR);
        assert_eq!(t.who_can("app/db", Permission::Read).await, ["group:sre", "user:office", "user:u"]);

        let mut seen = Vec::new();
        let mut cursor = None;
        loop {
            let page = t.vault.policies(&t.admin()).who_can("app/db", Permission::Read, Some(1), cursor).await.unwrap().identities;
            seen.extend(page.items.into_iter().map(|row| row.identity_id));
            cursor = page.cursor;
            if cursor.is_none() { break }
            let other = t.vault.policies(&t.admin()).who_can("app/x", Permission::Read, Some(1), cursor.clone()).await;
            assert_eq!(code(other), Code::InvalidCursor, "a cursor is for its question");
        }
        assert_eq!(seen, ["group:sre", "user:office", "user:u"]);
        let strict = t.builder(crate::bench::root_key(7)).tenant_admin_bypass(false).open().await.unwrap();
        let found = strict.policies(&strict.ctx(t.admin().caller().clone()).unwrap()).who_can("x", Permission::Read, None, None).await;
        assert_eq!(found.unwrap().built_in, ["system"]);
        strict.close().await;
    }

    async fn a_draft_shows_which_requests_of_the_past_would_flip(t: Bench) {
        t.put("app/db", json!({})).await;
        t.put("ops/db", json!({})).await;
        let (made, _) = t.grant("user:u", "app/**", &["read"]).await;
        t.vault.policies(&t.admin()).bind(&made.id, group("group:sre")).await.unwrap();
        let get = async |ctx: scaivault_core::Ctx, at: &str| {
            let _ = t.vault.secrets(&ctx).get(&path(at), None).await;
            ctx.request_id().to_owned()
        };
        let allowed = get(t.user("user:u"), "app/db").await;
        let denied = get(t.user("user:u"), "ops/db").await;
        let sre = t.ctx(user("user:s").with_scopes([Scope::Admin]).with_groups(["group:dev", "group:sre"]).unwrap());
        let by_group = get(sre, "app/db").await;
        let away = get(t.user("user:u").with_source_ip([192, 0, 2, 1].into()), "app/db").await;
        get(t.admin(), "app/db").await;
        get(t.scoped("user:u", &[]), "app/db").await;
        get(t.user("user:u"), "app/none").await;
        let many: Vec<String> = (0..33).map(|n| format!("group:{n}")).chain(["group:sre".to_owned()]).collect();
        get(t.ctx(user("user:m").with_scopes([Scope::Admin]).with_groups(many).unwrap()), "app/db").await;
        t.vault.secrets(&t.user("user:u")).list(Default::default()).await.unwrap();

        let diff = async |draft: &Draft| t.vault.policies(&t.admin()).diff(draft).await.unwrap();
        let flips = async |draft: &Draft| {
            let mut flips: Vec<_> = diff(draft).await.flips.into_iter()
                .map(|flip| (flip.request_id, flip.was.allowed, flip.would.allowed)).collect();
            flips.sort();
            flips
        };
        let sorted = |mut flips: Vec<(String, bool, bool)>| { flips.sort(); flips };

        let same = diff(&draft(Some(&made.id), made.rules.clone(), None)).await;
        assert_eq!(same.flips, []);
        assert_eq!(same.unchanged, 4);
        let undecided: Vec<_> = same.undecided.iter().map(|u| (u.reason, u.count)).collect();
        assert_eq!(undecided, [("failed_otherwise", 1), ("groups_cut", 1), ("listing", 1)]);
        assert_eq!(same.examined, same.unchanged + same.not_by_policy + 3);

        let narrowed = draft(Some(&made.id), rules(&[("ops/**", &["read"])]), None);
        assert_eq!(flips(&narrowed).await, sorted(vec![
            (allowed.clone(), true, false), (denied.clone(), false, true), (by_group.clone(), true, false), (away.clone(), true, false)]));
        let office = {
            let write = scaivault_core::policy::RuleWrite { conditions: Some(json!({"ip_ranges": ["192.0.2.0/24"]})), ..rule("app/**", &["read"]) };
            Rule::parse_all(vec![write]).unwrap()
        };
        let found = diff(&draft(Some(&made.id), office, None)).await;
        let reasons: Vec<_> = found.flips.iter().map(|flip| (flip.would.reason.as_deref(), flip.today.allowed)).collect();
        assert_eq!(reasons, [(Some("ip_not_allowed"), true), (Some("ip_not_allowed"), true)], "where nobody said the address");
        let only_group = draft(Some(&made.id), made.rules.clone(), Some(vec![group("group:sre")]));
        assert_eq!(flips(&only_group).await, sorted(vec![(allowed.clone(), true, false), (away.clone(), true, false)]));
        let new = draft(None, rules(&[("**", &["admin"])]), Some(vec![bind_user("user:u")]));
        assert_eq!(flips(&new).await, [(denied.clone(), false, true)]);

        // A page at a time, and the days that were asked for.
        let mut paged = Vec::new();
        let mut page = Draft { limit: Some(2), ..narrowed.clone() };
        loop {
            let found = diff(&page).await;
            assert!(found.examined <= 2);
            paged.extend(found.flips.into_iter().map(|flip| flip.request_id));
            let Some(cursor) = found.cursor else { break };
            let other = Draft { cursor: Some(cursor.clone()), ..new.clone() };
            assert_eq!(code(t.vault.policies(&t.admin()).diff(&other).await), Code::InvalidCursor, "of another draft");
            page.cursor = Some(cursor);
        }
        assert_eq!(paged.len(), 4);
        t.clock.advance(crate::bench::DAY * 2);
        assert_eq!(diff(&Draft { days: Some(1), ..narrowed.clone() }).await.examined, 0);
        assert_eq!(diff(&Draft { days: Some(3), ..narrowed.clone() }).await.flips.len(), 4);
    }

    async fn a_draft_that_means_nothing_is_refused(t: Bench) {
        let (made, _) = t.grant("user:u", "a", &["read"]).await;
        let refused = async |draft: Draft| refusal(t.vault.policies(&t.admin()).diff(&draft).await);
        assert_eq!(refused(draft(Some("pol_x"), made.rules.clone(), None)).await.code(), Code::PolicyNotFound);
        for (field, bad) in [
            ("bindings", draft(None, made.rules.clone(), None)),
            ("bindings", draft(None, made.rules.clone(), Some(vec![]))),
            ("bindings[1].identity_id", draft(None, made.rules.clone(), Some(vec![bind_user("ok"), bind_user("a b")]))),
            ("days", Draft { days: Some(0), ..draft(Some(&made.id), made.rules.clone(), None) }),
            ("days", Draft { days: Some(31), ..draft(Some(&made.id), made.rules.clone(), None) }),
        ] {
            let error = refused(bad).await;
            assert_eq!(error.code(), Code::ValidationError, "{field}");
            assert!(error.details().fields.contains_key(field), "{field}: {error}");
        }
        let good = draft(Some(&made.id), made.rules.clone(), None);
        let only = t.scoped("user:u", &[Scope::PoliciesRead]);
        let error = refusal(t.vault.policies(&only).diff(&good).await);
        assert_eq!((error.code(), error.details().required_scope), (Code::InsufficientScope, Some("audit:read")));
    }
}
