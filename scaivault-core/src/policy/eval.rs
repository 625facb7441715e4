use std::{collections::HashMap, sync::Arc};

use time::OffsetDateTime;

use super::{
    Circumstances, Condition, Permission, Permissions, Rule, conditions::Obstacles, matcher::Matcher,
};
use crate::{Caller, IdentityType, TenantId};

/// A policy as it is stored, with those it is bound to.
#[derive(Clone, Debug)]
pub struct PolicyInput {
    /// The identifier, unique among the policies that are compiled together.
    pub id: String,
    /// The name, for explanations.
    pub name: String,
    /// Whether it counts at all.
    pub is_active: bool,
    /// What it grants.
    pub rules: Vec<Rule>,
    /// To whom.
    pub bindings: Vec<BindingInput>,
}

/// To whom a policy grants, and until when.
#[derive(Clone, Debug)]
pub struct BindingInput {
    /// Whose identity it is: two tenants may have the same identifier for two people.
    pub tenant_id: TenantId,
    /// What `identity_id` names.
    pub identity_type: IdentityType,
    /// Whom, byte for byte.
    pub identity_id: String,
    /// From when on it no longer counts; `None` is for ever.
    pub expires_at: Option<OffsetDateTime>,
}

/// The policies that count in one tenant, ready to decide.
///
/// Their rules are one tree, through which a path is walked once; which policies are bound to whom is indexed.
#[derive(Debug, Default)]
pub struct CompiledPolicies {
    /// Active and bound, sorted by id.
    policies: Vec<Policy>,
    bound: HashMap<IdentityType, HashMap<String, Vec<Bound>>>,
    rules: Matcher<RuleAt>,
}

#[derive(Debug)]
struct Policy {
    id: String,
    name: String,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Bound {
    policy: usize,
    tenant_id: TenantId,
    expires_at: Option<OffsetDateTime>,
}

/// Where a rule stands, in the order of policy ids and places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RuleAt {
    policy: usize,
    rule: usize,
    permissions: Permissions,
}

/// A set of policies, a bit each.
#[derive(Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn holds(&self, policy: usize) -> bool {
        self.0[policy / 64] & (1 << (policy % 64)) != 0
    }

    /// Ascending, and so by id.
    fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 64).filter(|policy| self.holds(*policy))
    }
}

/// The policies in force for one caller in one request.
#[derive(Debug)]
pub(crate) struct InForce {
    policies: Arc<CompiledPolicies>,
    bound: Bits,
    at: Circumstances,
}

impl InForce {
    /// The decision of [`CompiledPolicies::decide`].
    pub(crate) fn decide(&self, path: &str, permission: Permission) -> Decision<'_> {
        self.policies.first(&self.bound, path, permission, &self.at)
    }
}

/// Whether something is allowed, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// By this rule: of those that match and whose conditions hold, the first of the policy with the smallest id.
    Allow(Match<'a>),
    /// No rule allows it. Where rules match whose conditions do not hold, the one that stands in the way:
    /// [`Condition::Mfa`] if nothing else is missing for one of them; otherwise of the first condition of each that
    /// fails, [`Condition::SourceIp`] before [`Condition::TimeWindow`].
    Deny(Option<Condition>),
}

impl Decision<'_> {
    /// Whether it is [`Decision::Allow`].
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// A rule that allows what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    /// The policy's identifier.
    pub policy_id: &'a str,
    /// The policy's name.
    pub policy_name: &'a str,
    /// Which of its rules, from 0.
    pub rule_index: usize,
    /// That rule.
    pub rule: &'a Rule,
}

impl CompiledPolicies {
    /// Indexes the policies of one tenant. Inactive ones, and bindings that have nothing to say, take no
    /// space; expiry and conditions are looked at when deciding.
    #[must_use]
    pub fn compile(mut policies: Vec<PolicyInput>) -> Self {
        policies.retain(|policy| policy.is_active && !policy.bindings.is_empty());
        policies.sort_by(|a, b| a.id.cmp(&b.id));
        let mut compiled = Self::default();
        for PolicyInput { id, name, is_active: _, rules, bindings } in policies {
            let policy = compiled.policies.len();
            for BindingInput { tenant_id, identity_type, identity_id, expires_at } in bindings {
                let of_type = compiled.bound.entry(identity_type).or_default();
                of_type.entry(identity_id).or_default().push(Bound { policy, tenant_id, expires_at });
            }
            for (i, rule) in rules.iter().enumerate() {
                let at = RuleAt { policy, rule: i, permissions: rule.permissions() };
                compiled.rules.add(rule.path_pattern(), at);
            }
            compiled.policies.push(Policy { id, name, rules });
        }
        compiled
    }

    /// Whether the policies let `caller` have `permission` on `path` as the request is.
    ///
    /// Bound to the caller are the policies bound to his type and identifier and to any of his groups, as those of
    /// his own tenant. A binding counts until `expires_at`, exclusive. The answer does not depend on the order of
    /// policies, rules, bindings or groups. Scopes and roles are not looked at: `path` must be canonical
    /// and of the tenant that these policies count in.
    #[must_use]
    pub fn decide(
        &self,
        caller: &Caller,
        path: &str,
        permission: Permission,
        at: &Circumstances,
    ) -> Decision<'_> {
        self.first(&self.bound_to(caller, at.now), path, permission, at)
    }

    /// Every rule that allows it, by policy id and place in the policy: the long form of
    /// [`CompiledPolicies::decide`].
    #[must_use]
    pub fn explain(
        &self,
        caller: &Caller,
        path: &str,
        permission: Permission,
        at: &Circumstances,
    ) -> Vec<Match<'_>> {
        let bound = self.bound_to(caller, at.now);
        let mut rules: Vec<_> = self.matching(&bound, path, permission).collect();
        rules.retain(|rule| self.rule(*rule).conditions().unmet(at).is_empty());
        rules.sort_unstable();
        rules.into_iter().map(|rule| self.describe(rule)).collect()
    }

    /// What is in force for `caller` in one request, to decide about many paths.
    pub(crate) fn for_caller(self: &Arc<Self>, caller: &Caller, at: Circumstances) -> InForce {
        InForce { bound: self.bound_to(caller, at.now), policies: Arc::clone(self), at }
    }

    /// Identifier and name of every policy that is in force for `caller` at `now`, by identifier.
    pub fn in_force(&self, caller: &Caller, now: OffsetDateTime) -> impl Iterator<Item = (&str, &str)> {
        let bound: Vec<_> = self.bound_to(caller, now).iter().collect();
        let named = |policy: usize| (self.policies[policy].id.as_str(), self.policies[policy].name.as_str());
        bound.into_iter().map(named)
    }

    fn first(&self, bound: &Bits, path: &str, permission: Permission, at: &Circumstances) -> Decision<'_> {
        let mut first: Option<RuleAt> = None;
        let mut obstacles = Obstacles::default();
        for rule in self.matching(bound, path, permission) {
            if first.is_some_and(|first| first < rule) {
                continue;
            }
            match self.rule(rule).conditions().unmet(at) {
                unmet if unmet.is_empty() => first = Some(rule),
                unmet => obstacles.add(unmet),
            }
        }
        first.map_or(Decision::Deny(obstacles.named()), |rule| Decision::Allow(self.describe(rule)))
    }

    /// Rules of those policies for the path and the permission, in no particular order.
    fn matching(&self, bound: &Bits, path: &str, permission: Permission) -> impl Iterator<Item = RuleAt> {
        let rules = self.rules.matching(path).copied();
        rules.filter(move |rule| rule.permissions.allow(permission) && bound.holds(rule.policy))
    }

    fn rule(&self, at: RuleAt) -> &Rule {
        &self.policies[at.policy].rules[at.rule]
    }

    fn describe(&self, at: RuleAt) -> Match<'_> {
        let Policy { id, name, rules } = &self.policies[at.policy];
        Match { policy_id: id, policy_name: name, rule_index: at.rule, rule: &rules[at.rule] }
    }

    /// The policies in force for `caller`.
    fn bound_to(&self, caller: &Caller, now: OffsetDateTime) -> Bits {
        let of = |identity_type, id: &str| {
            let bound = self.bound.get(&identity_type).and_then(|ids| ids.get(id));
            bound.into_iter().flatten()
        };
        let direct = of(caller.identity_type(), caller.identity_id());
        let through = caller.groups().iter().flat_map(|group| of(IdentityType::Group, group));
        let mut policies = Bits(vec![0; self.policies.len().div_ceil(64)]);
        for bound in direct.chain(through).filter(|bound| bound.tenant_id == *caller.tenant_id()) {
            if bound.expires_at.is_none_or(|end| now < end) {
                policies.0[bound.policy / 64] |= 1 << (bound.policy % 64);
            }
        }
        policies
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use time::{Duration, macros::datetime};

    use super::*;
    use crate::policy::RuleWrite;

    const NOW: OffsetDateTime = datetime!(2026-04-23 18:00 UTC);
    const AT: Circumstances = Circumstances {
        now: NOW,
        source_ip: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1))),
        mfa_verified_at: None,
        mfa_window: crate::limits::MFA_WINDOW,
    };

    fn rule(pattern: &str, permissions: &[&str]) -> Rule {
        let write: RuleWrite =
            serde_json::from_value(json!({"path_pattern": pattern, "permissions": permissions})).unwrap();
        Rule::parse_all(vec![write]).unwrap().remove(0)
    }

    fn binding(identity_type: IdentityType, id: &str) -> BindingInput {
        BindingInput {
            tenant_id: tenant("tnt_acme"),
            identity_type,
            identity_id: id.into(),
            expires_at: None,
        }
    }

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    fn policy(id: &str, rules: &[Rule], bindings: &[BindingInput]) -> PolicyInput {
        let (rules, bindings) = (rules.to_vec(), bindings.to_vec());
        PolicyInput { id: id.into(), name: format!("name of {id}"), is_active: true, rules, bindings }
    }

    fn user(id: &str) -> Caller {
        Caller::user(id, tenant("tnt_acme")).unwrap()
    }

    fn alice_with_groups(groups: &[&str]) -> Caller {
        user("alice").with_groups(groups.iter().copied()).unwrap()
    }

    fn allowed(policies: &[PolicyInput], caller: &Caller, path: &str, permission: Permission) -> bool {
        CompiledPolicies::compile(policies.to_vec()).decide(caller, path, permission, &AT).is_allowed()
    }

    #[test]
    fn a_binding_reaches_exactly_whom_it_names() {
        let read = [rule("app/**", &["read"])];
        let to = |identity_type, id: &str| [policy("pol_a", &read, &[binding(identity_type, id)])];
        let ask =
            |policies: &[PolicyInput], caller: &Caller| allowed(policies, caller, "app/db", Permission::Read);
        assert!(ask(&to(IdentityType::User, "alice"), &user("alice")));
        assert!(ask(&to(IdentityType::Group, "sre"), &alice_with_groups(&["dev", "sre"])));
        let system = Caller::system("rotation", tenant("tnt_acme")).unwrap();
        assert!(ask(&to(IdentityType::System, "system:rotation"), &system));
        assert!(!ask(&to(IdentityType::System, "rotation"), &system));
        assert!(!ask(&to(IdentityType::ServiceAccount, "alice"), &user("alice")));
        assert!(!ask(&to(IdentityType::Group, "alice"), &user("alice")));
        assert!(!ask(&to(IdentityType::User, "sre"), &alice_with_groups(&["sre"])));
        assert!(!ask(&to(IdentityType::Group, "sre"), &alice_with_groups(&["sre2", "SRE"])));
        assert!(!ask(&[policy("pol_a", &read, &[])], &user("alice")));
        assert!(!ask(&[], &user("alice")));
    }

    #[test]
    fn a_rule_allows_its_permissions_on_its_paths_only() {
        let alice = [binding(IdentityType::User, "alice")];
        let policies = [
            policy("pol_a", &[rule("app/*", &["read", "list"]), rule("app/db", &["write"])], &alice),
            policy("pol_b", &[rule("ops/**", &["admin"])], &alice),
        ];
        let ask = |path: &str, permission| allowed(&policies, &user("alice"), path, permission);
        assert!(ask("app/db", Permission::Read) && ask("app/db", Permission::Write));
        assert!(!ask("app/web", Permission::Write) && !ask("app", Permission::Read));
        assert!(!ask("app/db", Permission::Delete) && !ask("app/db", Permission::Admin));
        assert!(Permission::ALL.iter().all(|permission| ask("ops/x/y", *permission)));
    }

    #[test]
    fn what_is_inactive_or_has_lapsed_does_not_count() {
        let read = [rule("**", &["read"])];
        let until = |end: Option<OffsetDateTime>| {
            let bound = BindingInput { expires_at: end, ..binding(IdentityType::User, "alice") };
            allowed(&[policy("pol_a", &read, &[bound])], &user("alice"), "a", Permission::Read)
        };
        assert!(until(None) && until(Some(NOW + Duration::NANOSECOND)));
        assert!(!until(Some(NOW)) && !until(Some(NOW - Duration::SECOND)));

        let mut inactive = policy("pol_a", &read, &[binding(IdentityType::User, "alice")]);
        inactive.is_active = false;
        assert!(!allowed(&[inactive], &user("alice"), "a", Permission::Read));

        let lapsed = BindingInput { expires_at: Some(NOW), ..binding(IdentityType::User, "alice") };
        let twice = policy("pol_a", &read, &[lapsed, binding(IdentityType::Group, "sre")]);
        assert!(allowed(&[twice], &alice_with_groups(&["sre"]), "a", Permission::Read));
    }

    #[test]
    fn the_explanation_names_every_rule_that_allows() {
        let alice = [binding(IdentityType::User, "alice"), binding(IdentityType::Group, "sre")];
        let compiled = CompiledPolicies::compile(vec![
            policy("pol_b", &[rule("**", &["admin"])], &alice),
            policy("pol_c", &[rule("x", &["read"])], &alice),
            policy("pol_a", &[rule("b", &["read"]), rule("a", &["list"]), rule("*", &["read"])], &alice),
            policy("pol_0", &[rule("a", &["read"])], &[binding(IdentityType::User, "bob")]),
        ]);
        let caller = alice_with_groups(&["sre"]);
        let named: Vec<_> = compiled
            .explain(&caller, "a", Permission::Read, &AT)
            .iter()
            .map(|found| (found.policy_id, found.policy_name, found.rule_index))
            .collect();
        assert_eq!(named, [("pol_a", "name of pol_a", 2), ("pol_b", "name of pol_b", 0)]);
        let Decision::Allow(by) = compiled.decide(&caller, "a", Permission::Read, &AT) else { panic!() };
        assert_eq!((by.policy_id, by.rule_index, by.rule.path_pattern().as_str()), ("pol_a", 2, "*"));
        let in_force: Vec<_> = compiled.in_force(&caller, NOW).map(|(id, _)| id).collect();
        assert_eq!(in_force, ["pol_a", "pol_b", "pol_c"]);
        assert_eq!(compiled.decide(&user("carol"), "a", Permission::Read, &AT), Decision::Deny(None));
    }

    #[test]
    fn sec_b1_nothing_in_an_identity_widens_a_match() {
        let mine = [rule("users/alice/**", &["read"])];
        let policies = [
            policy("pol_a", &mine, &[binding(IdentityType::User, "alice")]),
            policy("pol_b", &[rule("ops/**", &["read"])], &[binding(IdentityType::Group, "sre")]),
        ];
        for odd in
            ["a/lice", "alice/", "al..ice", "alice%2f", "+", ",", "alice,bob", "/", "..", "%", "[a-z]lice"]
        {
            let caller = user(odd).with_groups([odd, "sre/", "s..e", "[s]re", "sre,dev"]).unwrap();
            for path in ["users/alice/key", "ops/key"] {
                assert!(!allowed(&policies, &caller, path, Permission::Read), "{odd} {path}");
            }
        }
        // A binding is no pattern either.
        let star = [policy("pol_a", &[rule("**", &["admin"])], &[binding(IdentityType::User, "*")])];
        assert!(!allowed(&star, &user("alice"), "a", Permission::Read));
    }

    #[test]
    fn sec_d1_identities_are_compared_byte_for_byte() {
        let policies = [policy(
            "pol_a",
            &[rule("**", &["admin"])],
            &[binding(IdentityType::User, "user:alice@acme.example")],
        )];
        assert!(allowed(&policies, &user("user:alice@acme.example"), "a", Permission::Read));
        for other in [
            "user:Alice@acme.example",
            "user:alice@ACME.example",
            "alice@acme.example",
            "user:alice@acme.example.",
        ] {
            assert!(!allowed(&policies, &user(other), "a", Permission::Read), "{other}");
        }
    }

    #[test]
    fn sec_c4_the_same_name_in_another_tenant_is_somebody_else() {
        let read = [rule("**", &["read"])];
        let in_other = |kind, id: &str| BindingInput { tenant_id: tenant("tnt_other"), ..binding(kind, id) };
        let bound = |binding: BindingInput| [policy("pol_a", &read, &[binding])];
        let other = Caller::user("alice", tenant("tnt_other")).unwrap().with_groups(["sre"]).unwrap();
        for (kind, id) in [(IdentityType::User, "alice"), (IdentityType::Group, "sre")] {
            let (here, there) = (bound(binding(kind, id)), bound(in_other(kind, id)));
            assert!(allowed(&here, &alice_with_groups(&["sre"]), "a", Permission::Read));
            assert!(!allowed(&there, &alice_with_groups(&["sre"]), "a", Permission::Read));
            assert!(!allowed(&here, &other, "a", Permission::Read));
            assert!(allowed(&there, &other, "a", Permission::Read));
        }
    }

    fn any_policies() -> impl Strategy<Value = Vec<PolicyInput>> {
        let patterns = prop::sample::select(vec!["**", "*", "a/*", "a/**", "**/b", "a/b", "b", "a?/b"]);
        let conditions = prop::sample::select(vec![
            json!({}),
            json!({"ip_ranges": ["10.0.0.0/8"]}),
            json!({"ip_ranges": ["192.0.2.0/24"]}),
            json!({"require_mfa": true}),
            json!({"time_window": {"start": "18:00", "end": "18:01", "timezone": "UTC"}}),
            json!({"time_window": {"start": "18:01", "end": "18:00", "timezone": "UTC"}, "require_mfa": true}),
        ]);
        let permissions = prop::sample::subsequence(vec!["read", "write", "list", "admin"], 1..=2);
        let rule = (patterns, permissions, conditions).prop_map(|(pattern, permissions, conditions)| {
            let rule = json!({"path_pattern": pattern, "permissions": permissions, "conditions": conditions});
            Rule::parse_all(vec![serde_json::from_value(rule).unwrap()]).unwrap().remove(0)
        });
        let binding = (
            prop::sample::select(vec![IdentityType::User, IdentityType::Group, IdentityType::ServiceAccount]),
            prop::sample::select(vec!["alice", "bob", "sre", "dev"]),
            prop::sample::select(vec![None, Some(NOW), Some(NOW + Duration::HOUR)]),
        )
            .prop_map(|(kind, id, expires_at)| BindingInput { expires_at, ..binding(kind, id) });
        let parts = (
            prop::collection::vec(rule, 1..4),
            prop::collection::vec(binding, 0..4),
            prop::bool::weighted(0.8),
        );
        prop::collection::vec(parts, 0..6).prop_map(|policies| {
            let numbered = policies.into_iter().enumerate();
            numbered
                .map(|(i, (rules, bindings, is_active))| PolicyInput {
                    is_active,
                    ..policy(&format!("pol_{i}"), &rules, &bindings)
                })
                .collect()
        })
    }

    /// The definition, without any index: for each rule that is for the caller, the path and the permission, what
    /// of its conditions does not hold.
    fn reference(
        policies: &[PolicyInput],
        caller: &Caller,
        path: &str,
        permission: Permission,
    ) -> Vec<Vec<Condition>> {
        let bound = |policy: &&PolicyInput| {
            policy.is_active
                && policy.bindings.iter().any(|bound| {
                    let named = match bound.identity_type {
                        IdentityType::Group => caller.groups().contains(&bound.identity_id),
                        kind => kind == caller.identity_type() && bound.identity_id == caller.identity_id(),
                    };
                    named && bound.expires_at.is_none_or(|end| NOW < end)
                })
        };
        let rules = policies.iter().filter(bound).flat_map(|policy| &policy.rules);
        let matching =
            rules.filter(|rule| rule.permissions().allow(permission) && rule.path_pattern().matches(path));
        matching.map(|rule| rule.conditions().unmet(&AT).iter().collect()).collect()
    }

    fn named(unmet: &[Vec<Condition>]) -> Option<Condition> {
        let of = |wanted| unmet.iter().any(|rule: &Vec<_>| rule.first() == Some(&wanted));
        if unmet.iter().any(|rule| *rule == [Condition::Mfa]) {
            return Some(Condition::Mfa);
        }
        [Condition::SourceIp, Condition::TimeWindow].into_iter().find(|condition| of(*condition))
    }

    fn shuffled() -> impl Strategy<Value = (Vec<PolicyInput>, Vec<PolicyInput>)> {
        (any_policies(), any::<u64>()).prop_map(|(policies, seed)| {
            let mut other = policies.clone();
            let mut state = seed;
            shuffle(&mut other, &mut state);
            for policy in &mut other {
                shuffle(&mut policy.rules, &mut state);
                shuffle(&mut policy.bindings, &mut state);
            }
            (policies, other)
        })
    }

    fn shuffle<T>(items: &mut [T], state: &mut u64) {
        for i in (1..items.len()).rev() {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            items.swap(i, (*state >> 33) as usize % (i + 1));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn sec_a3_no_order_changes_the_decision(
            (one, other) in shuffled(),
            groups in prop::sample::subsequence(vec!["sre", "dev"], 0..=2).prop_shuffle(),
            path in prop::sample::select(vec!["a", "a/b", "a/b/c", "b", "ab/b", ""]),
            permission in prop::sample::select(Permission::ALL),
        ) {
            let caller = alice_with_groups(&groups);
            let (a, b) = (CompiledPolicies::compile(one.clone()), CompiledPolicies::compile(other));
            let (first, second) =
                (a.decide(&caller, path, permission, &AT), b.decide(&caller, path, permission, &AT));
            let expected = reference(&one, &caller, path, permission);
            prop_assert_eq!(first.is_allowed(), expected.iter().any(Vec::is_empty));
            match (first, second) {
                (Decision::Allow(first), Decision::Allow(second)) => {
                    prop_assert_eq!(first.policy_id, second.policy_id);
                    let all = a.explain(&caller, path, permission, &AT);
                    prop_assert_eq!(all.first(), Some(&first));
                }
                (Decision::Deny(first), Decision::Deny(second)) => {
                    prop_assert_eq!((first, second), (named(&expected), named(&expected)));
                }
                _ => prop_assert!(false, "{:?} {:?}", first, second),
            }
            let allowing = |compiled: &CompiledPolicies| {
                let all = compiled.explain(&caller, path, permission, &AT);
                let mut all: Vec<_> = all.iter().map(|m| format!("{} {:?}", m.policy_id, m.rule)).collect();
                all.sort();
                all
            };
            prop_assert_eq!(allowing(&a), allowing(&b));
        }
    }
}
