//! Policies: what is stored, what a binding does and when it stops doing it.

use scaivault_core::{
    Code, IdentityType, Name,
    policy::{BindingWrite, PolicyPatch},
};
use serde_json::json;
use time::ext::NumericalDuration as _;

use crate::bench::{Bench, HOUR, bind_user, code, contract, path, policy, refusal, user};

fn name(name: &str) -> Option<Name> {
    Some(Name::parse(name).unwrap())
}

async fn can_read(t: &Bench, id: &str) -> bool {
    match t.vault.secrets(&t.user(id)).get(&path("a"), None).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code(), Code::AccessDenied);
            false
        }
    }
}

contract! {
    async fn a_policy_is_stored_read_replaced_patched_and_deleted(t: Bench) {
        let admin = t.admin();
        let policies = t.vault.policies(&admin);
        let made = policies.create(policy("Payments", &[("app/**", &["read", "list"]), ("x", &["admin"])])).await.unwrap();
        assert!(made.id.starts_with("pol_"));
        assert_eq!((made.name.as_str(), made.description.as_str(), made.scope, made.is_active), ("Payments", "", "tenant", true));
        assert_eq!((made.rules.len(), made.bindings.len(), made.created_at), (2, 0, t.now()));
        assert_eq!(policies.read(&made.id).await.unwrap(), made);
        let (binding, created) = policies.bind(&made.id, bind_user("user:u")).await.unwrap();
        assert!(created);

        t.clock.advance(HOUR);
        let later = t.admin();
        let policies = t.vault.policies(&later);
        let replaced = policies.replace(&made.id, policy("Payments 2", &[("b", &["write"])])).await.unwrap();
        assert_eq!((replaced.name.as_str(), replaced.rules.len()), ("Payments 2", 1));
        assert_eq!(replaced.bindings, [binding], "bindings stay");
        assert_eq!((replaced.created_at, replaced.updated_at), (made.created_at, t.now()));

        let patch = PolicyPatch { description: Some("why".to_owned()), is_active: Some(false), ..PolicyPatch::default() };
        let patched = policies.patch(&made.id, patch).await.unwrap();
        assert_eq!((patched.description.as_str(), patched.is_active, patched.name.as_str()), ("why", false, "Payments 2"));
        assert_eq!(patched.rules, replaced.rules);
        assert_eq!(policies.list(false, None, None).await.unwrap().items.len(), 0);
        assert_eq!(policies.list(true, None, None).await.unwrap().items[0].binding_count, 1);

        policies.delete(&made.id, true).await.unwrap();
        assert_eq!(code(policies.read(&made.id).await), Code::PolicyNotFound);
        assert_eq!(t.raw.count("policy_binding").await, 0);
    }

    async fn what_is_not_there_is_not_found(t: Bench) {
        let admin = t.admin();
        let policies = t.vault.policies(&admin);
        assert_eq!(code(policies.read("pol_x").await), Code::PolicyNotFound);
        assert_eq!(code(policies.bindings("pol_x").await), Code::PolicyNotFound);
        assert_eq!(code(policies.replace("pol_x", policy("p", &[("a", &["read"])])).await), Code::PolicyNotFound);
        assert_eq!(code(policies.patch("pol_x", PolicyPatch::default()).await), Code::PolicyNotFound);
        assert_eq!(code(policies.delete("pol_x", true).await), Code::PolicyNotFound);
        assert_eq!(code(policies.bind("pol_x", bind_user("user:u")).await), Code::PolicyNotFound);
        let (one, binding) = t.grant("user:u", "a", &["read"]).await;
        let (two, _) = t.grant("user:u", "a", &["read"]).await;
        assert_eq!(code(policies.unbind(&one.id, "bind_x").await), Code::BindingNotFound);
        assert_eq!(code(policies.unbind(&two.id, &binding.id).await), Code::BindingNotFound, "the binding of another policy");
        assert_eq!(policies.bindings(&one.id).await.unwrap(), [binding]);
    }

    async fn names_collide_in_whatever_case(t: Bench) {
        let admin = t.admin();
        let policies = t.vault.policies(&admin);
        let one = policies.create(policy("Payments", &[("a", &["read"])])).await.unwrap();
        let two = policies.create(policy("other", &[("a", &["read"])])).await.unwrap();
        for same in ["Payments", "payments", "PAYMENTS"] {
            assert_eq!(code(policies.create(policy(same, &[("a", &["read"])])).await), Code::NameConflict);
            assert_eq!(code(policies.replace(&two.id, policy(same, &[("a", &["read"])])).await), Code::NameConflict);
            let rename = PolicyPatch { name: name(same), ..PolicyPatch::default() };
            assert_eq!(code(policies.patch(&two.id, rename).await), Code::NameConflict);
        }
        assert_eq!(policies.read(&two.id).await.unwrap(), two, "nothing of it happened");
        let rename = PolicyPatch { name: name("PayMents"), ..PolicyPatch::default() };
        assert_eq!(policies.patch(&one.id, rename).await.unwrap().name, "PayMents", "it may change its own spelling");
        policies.delete(&one.id, false).await.unwrap();
        policies.create(policy("payments", &[("a", &["read"])])).await.unwrap();
    }

    async fn of_many_who_create_one_name_exactly_one_does(t: Bench) {
        let tasks: Vec<_> = (0..8).map(|n| {
            let t = t.clone();
            tokio::spawn(async move {
                let ctx = t.admin();
                let name = if n % 2 == 0 { "same" } else { "SAME" };
                t.vault.policies(&ctx).create(policy(name, &[("a", &["read"])])).await.map_err(|e| e.code())
            })
        }).collect();
        let mut made = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => made += 1,
                Err(code) => assert_eq!(code, Code::NameConflict),
            }
        }
        assert_eq!((made, t.raw.count("policy").await), (1, 1));
    }

    async fn a_bound_policy_is_deleted_only_by_force(t: Bench) {
        t.put("a", json!({})).await;
        let (policy, _) = t.grant("user:u", "a", &["read"]).await;
        let admin = t.admin();
        assert_eq!(code(t.vault.policies(&admin).delete(&policy.id, false).await), Code::PolicyInUse);
        assert!(can_read(&t, "user:u").await);
        t.vault.policies(&admin).delete(&policy.id, true).await.unwrap();
        assert!(!can_read(&t, "user:u").await);
    }

    async fn a_patch_that_means_nothing_changes_nothing(t: Bench) {
        let (policy, _) = t.grant("user:u", "a", &["read"]).await;
        let admin = t.admin();
        for bad in ["x".repeat(2049), "a\0b".to_owned(), "\u{1b}[31m".to_owned()] {
            let patch = PolicyPatch { description: Some(bad), name: name("changed"), ..PolicyPatch::default() };
            let error = refusal(t.vault.policies(&admin).patch(&policy.id, patch).await);
            assert_eq!(error.code(), Code::ValidationError);
            assert!(error.details().fields.contains_key("description"));
        }
        assert_eq!(t.vault.policies(&admin).read(&policy.id).await.unwrap().name, policy.name);
    }

    async fn binding_again_changes_nothing(t: Bench) {
        t.put("a", json!({})).await;
        let (policy, first) = t.grant("user:u", "a", &["read"]).await;
        let admin = t.admin();
        let policies = t.vault.policies(&admin);
        let until = BindingWrite { expires_at: Some(t.now() + 1.hours()), ..bind_user("user:u") };
        let (again, created) = policies.bind(&policy.id, until).await.unwrap();
        assert_eq!((&again.id, created, again.expires_at), (&first.id, false, None));
        assert_eq!(policies.bindings(&policy.id).await.unwrap(), [again]);
        assert_eq!(t.raw.count("event_outbox WHERE event_type = 'policy.binding.created'").await, 1);
        t.clock.advance(HOUR);
        assert!(can_read(&t, "user:u").await, "the grant is as it was");
    }

    async fn a_binding_counts_until_its_expiry_exclusive(t: Bench) {
        t.put("a", json!({})).await;
        let admin = t.admin();
        let made = t.vault.policies(&admin).create(policy("p", &[("a", &["read"])])).await.unwrap();
        let until = BindingWrite { expires_at: Some(t.now() + 1.hours()), ..bind_user("user:u") };
        t.vault.policies(&admin).bind(&made.id, until).await.unwrap();
        t.clock.advance(std::time::Duration::from_micros(3_599_999_999));
        assert!(can_read(&t, "user:u").await);
        t.clock.advance(std::time::Duration::from_micros(1));
        assert!(!can_read(&t, "user:u").await);
    }

    async fn a_bad_binding_names_its_fields(t: Bench) {
        let (policy, _) = t.grant("user:u", "a", &["read"]).await;
        let admin = t.admin();
        let bad = BindingWrite { expires_at: Some(t.now()), ..bind_user("a b") };
        let error = refusal(t.vault.policies(&admin).bind(&policy.id, bad).await);
        assert_eq!(error.code(), Code::ValidationError);
        assert_eq!(error.details().fields.keys().collect::<Vec<_>>(), ["expires_at", "identity_id"]);
        for bad in ["", "a\0", "a\n", &"x".repeat(129)] {
            assert_eq!(code(t.vault.policies(&admin).bind(&policy.id, bind_user(bad)).await), Code::ValidationError);
        }
        assert_eq!(t.raw.count("policy_binding").await, 1);
    }

    async fn an_inactive_policy_grants_nothing_until_it_is_active_again(t: Bench) {
        t.put("a", json!({})).await;
        let (policy, _) = t.grant("user:u", "a", &["read"]).await;
        for (active, reads) in [(false, false), (true, true)] {
            let admin = t.admin();
            let patch = PolicyPatch { is_active: Some(active), ..PolicyPatch::default() };
            t.vault.policies(&admin).patch(&policy.id, patch).await.unwrap();
            assert_eq!(can_read(&t, "user:u").await, reads);
        }
    }

    async fn a_group_binding_reaches_the_members_and_nobody_else(t: Bench) {
        t.put("a", json!({})).await;
        let admin = t.admin();
        let made = t.vault.policies(&admin).create(policy("p", &[("a", &["read"])])).await.unwrap();
        let group = BindingWrite { tenant_id: None, identity_type: IdentityType::Group, identity_id: "group:sre".to_owned(), expires_at: None };
        t.vault.policies(&admin).bind(&made.id, group).await.unwrap();
        let read = async |groups: &[&str]| {
            let caller = user("user:u").with_scopes([scaivault_core::Scope::SecretsRead]);
            let ctx = t.ctx(caller.with_groups(groups.iter().copied()).unwrap());
            t.vault.secrets(&ctx).get(&path("a"), None).await.is_ok()
        };
        assert!(read(&["group:dev", "group:sre"]).await);
        assert!(!read(&["group:dev", "group:SRE", "sre"]).await);
        assert!(!read(&[]).await);
    }

    async fn a_removed_grant_denies_the_very_next_request(t: Bench) {
        t.put("a", json!({})).await;
        for way in ["unbind", "delete", "deactivate", "narrow", "replace"] {
            let (made, binding) = t.grant("user:u", "a", &["read"]).await;
            assert!(can_read(&t, "user:u").await, "{way}");
            let admin = t.admin();
            let policies = t.vault.policies(&admin);
            match way {
                "unbind" => policies.unbind(&made.id, &binding.id).await.unwrap(),
                "delete" => policies.delete(&made.id, true).await.unwrap(),
                "deactivate" => drop(policies.patch(&made.id, PolicyPatch { is_active: Some(false), ..PolicyPatch::default() }).await.unwrap()),
                "narrow" => {
                    let rules = policy("x", &[("a", &["list"])]).rules().to_vec();
                    drop(policies.patch(&made.id, PolicyPatch { rules: Some(rules), ..PolicyPatch::default() }).await.unwrap());
                }
                _ => drop(policies.replace(&made.id, policy("other", &[("b", &["read"])])).await.unwrap()),
            }
            assert!(!can_read(&t, "user:u").await, "{way}");
        }
    }

    async fn another_replica_sees_a_change_within_its_bound(t: Bench) {
        t.put("a", json!({})).await;
        let second = t.replica().await;
        let (policy, binding) = t.grant("user:u", "a", &["read"]).await;
        let ctx = || second.ctx(user("user:u").with_scopes([scaivault_core::Scope::Admin])).unwrap();
        second.secrets(&ctx()).get(&path("a"), None).await.unwrap();
        let admin = t.admin();
        t.vault.policies(&admin).unbind(&policy.id, &binding.id).await.unwrap();
        assert!(!can_read(&t, "user:u").await);
        t.clock.advance(scaivault_core::limits::EPOCH_CHECK);
        assert_eq!(code(second.secrets(&ctx()).get(&path("a"), None).await), Code::AccessDenied);
        // And a grant comes through the same way.
        t.vault.policies(&t.admin()).bind(&policy.id, bind_user("user:u")).await.unwrap();
        t.clock.advance(scaivault_core::limits::EPOCH_CHECK);
        second.secrets(&ctx()).get(&path("a"), None).await.unwrap();
        second.close().await;
    }

    async fn each_change_is_told_once(t: Bench) {
        let (made, binding) = t.grant("user:u", "a", &["read"]).await;
        let admin = t.admin();
        let policies = t.vault.policies(&admin);
        policies.patch(&made.id, PolicyPatch::default()).await.unwrap();
        policies.unbind(&made.id, &binding.id).await.unwrap();
        policies.delete(&made.id, false).await.unwrap();
        let mut told = t.raw.texts("SELECT event_type FROM event_outbox").await;
        told.sort_unstable();
        assert_eq!(told, ["policy.binding.created", "policy.binding.deleted", "policy.created", "policy.deleted", "policy.updated"]);
        let actions: Vec<_> = t.trail(&admin).await.into_iter().map(|r| (r.action, r.outcome, r.resource)).collect();
        for action in ["policy_update", "policy_unbind", "policy_delete"] {
            let expected = (action.to_owned(), "ok".to_owned(), Some(made.id.clone()));
            assert_eq!(actions.iter().filter(|a| **a == expected).count(), 1, "{actions:?}");
        }
    }
}
