//! What policies would say: of somebody who is imagined, and of everybody on one path.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;

use super::{
    BindingInput, Circumstances, CompiledPolicies, Condition, Conditions, Decision, Permission, Permissions,
    PolicyInput, Rule,
};
use crate::{
    Caller, Code, Error, FieldErrors, IdentityType, Result, Role, TenantId, limits,
    pipeline::{DoorSettings, Outcome, Permit, Standing, is_shared},
    secrets::SecretPath,
    tenancy::highest_role,
    wire::{self, Page},
};

/// Somebody who is imagined to ask for something. His groups and roles are those that are named here: the vault
/// does not look up whose they are.
#[derive(Clone, Debug)]
pub struct Question {
    /// A user, a service account, or a part of the vault itself.
    pub identity_type: IdentityType,
    /// Who, as tokens name him.
    pub identity_id: String,
    /// Whose identity that is: needed where it is asked about what a partner shares, and otherwise the tenant that is
    /// asked about.
    pub tenant_id: Option<TenantId>,
    /// The groups that his token would name.
    pub groups: Vec<String>,
    /// The roles that his token would name.
    pub roles: Vec<Role>,
    /// A path of a secret, or one that stands for something else, such as `pki/issue/web`.
    pub path: String,
    /// What he would do there.
    pub permission: Permission,
    /// From where; conditions on the address fail without it.
    pub source_ip: Option<IpAddr>,
    /// Whether he has just shown a second factor.
    pub mfa_verified: bool,
    /// When; now unless given.
    pub timestamp: Option<OffsetDateTime>,
}

impl Question {
    /// A question without circumstances, about somebody in no group.
    #[must_use]
    pub fn new(
        identity_type: IdentityType,
        id: impl Into<String>,
        path: &str,
        permission: Permission,
    ) -> Self {
        Self {
            identity_type,
            identity_id: id.into(),
            tenant_id: None,
            groups: Vec::new(),
            roles: Vec::new(),
            path: path.to_owned(),
            permission,
            source_ip: None,
            mfa_verified: false,
            timestamp: None,
        }
    }

    fn caller(&self, tenant: &TenantId) -> Result<Caller> {
        let mut wrong = FieldErrors::default();
        if self.identity_type == IdentityType::Group {
            wrong.push("identity_type", "must be user, service_account or system: a group asks for nothing");
        }
        if self.groups.len() > limits::ASKED_GROUPS {
            wrong.push("groups", format!("must have at most {} groups", limits::ASKED_GROUPS));
        }
        let caller = Caller::imagined(self.identity_type, &self.identity_id, tenant.clone());
        if caller.is_err() {
            wrong.push("identity_id", "must be 1 to 128 visible ASCII characters without * ? { }");
        }
        let named = caller.ok().map(|caller| caller.with_groups(self.groups.iter().map(String::as_str)));
        if matches!(named, Some(Err(_))) {
            wrong.push("groups", "must each be 1 to 128 visible ASCII characters without * ? { }");
        }
        wrong.finish()?;
        let caller = named.ok_or_else(|| Error::internal("nobody, and nothing wrong with him"))??;
        Ok(caller.with_roles(self.roles.iter().copied()))
    }

    fn circumstances(&self, now: OffsetDateTime, settings: &DoorSettings) -> Circumstances {
        let now = self.timestamp.unwrap_or(now);
        Circumstances {
            now,
            source_ip: self.source_ip,
            mfa_verified_at: self.mfa_verified.then_some(now),
            mfa_window: settings.mfa_window,
        }
    }
}

/// A path as policies are asked about it: of a secret, or one that stands for something else.
///
/// # Errors
/// [`Code::InvalidPath`] for what no request could be about.
pub(super) fn check_path(path: &str) -> Result<()> {
    let parsed = SecretPath::parse(path).map(drop);
    if !SecretPath::is_virtual(path) {
        return parsed;
    }
    let segment = |text: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !matches!(text, "" | "." | "..") && text.bytes().all(good)
    };
    let segments = path.split('/');
    let bounded = path.len() <= limits::PATH_CHARS && segments.clone().count() <= limits::PATH_SEGMENTS;
    if bounded && segments.clone().all(segment) {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidPath,
        "path: its parts must be of A-Z, a-z, 0-9, '-', '_' and '.', at most 10 of them",
    ))
}

/// A policy by its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names of a policy")]
pub struct PolicyRef {
    pub id: String,
    pub name: String,
}

/// A rule by its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleRef {
    /// Its place in the policy, from 0.
    pub index: usize,
    /// Its pattern.
    pub path_pattern: String,
}

/// What was decided about a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Verdict {
    /// It would be allowed.
    Allowed {
        /// `true`.
        allowed: bool,
        /// By this policy; `None` if he stands above policies.
        matched_policy: Option<PolicyRef>,
        /// By this rule of it.
        matched_rule: Option<RuleRef>,
        /// Why no policy is asked: `system`, a role such as `role:tenant_admin`, or `partner` for what he shares.
        #[serde(skip_serializing_if = "Option::is_none")]
        granted_by: Option<&'static str>,
    },
    /// It would be refused.
    Denied {
        /// `false`.
        allowed: bool,
        /// The code of the refusal.
        #[serde(serialize_with = "code")]
        reason: Code,
        /// The condition that stands in the way of a rule.
        failed_condition: Option<&'static str>,
        /// The policies that are in force for him.
        evaluated_policies: Vec<PolicyRef>,
    },
}

fn code<S: Serializer>(code: &Code, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(code.as_str())
}

impl Verdict {
    /// Whether it would be allowed.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

/// A verdict, and every rule that was considered for it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What was decided, by the evaluator that serves requests.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Every rule of the tenant, those that allow it first, then those for which the least would have to change.
    pub considered: Vec<ConsideredRule>,
    /// How many more there are than [`limits::EXPLAINED_RULES`].
    pub omitted: usize,
}

/// A rule held against a [`Question`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConsideredRule {
    /// The policy that it is of.
    pub policy: PolicyRef,
    /// Whether that counts at all.
    pub is_active: bool,
    /// The rule's place, from 0.
    pub rule_index: usize,
    /// Its pattern.
    pub path_pattern: String,
    /// What it grants.
    pub permissions: Permissions,
    /// What else must hold.
    pub conditions: Conditions,
    /// The bindings of the policy that name him or a group of his, also those that have lapsed.
    pub bindings: Vec<BindingRef>,
    /// Whether the pattern matches the path.
    pub path_matches: bool,
    /// Whether it grants the permission.
    pub permission_matches: bool,
    /// The conditions that do not hold.
    pub failed_conditions: Vec<&'static str>,
    /// Whether it allows it.
    pub allows: bool,
    /// What would have to be different for it to do so.
    pub would_allow_if: Vec<String>,
}

/// To whom a policy is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of a binding")]
pub struct BindingRef {
    pub identity_type: IdentityType,
    pub identity_id: String,
    #[serde(serialize_with = "wire::seconds_opt")]
    pub expires_at: Option<OffsetDateTime>,
}

/// Somebody whom a rule allows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grantee {
    /// Whose identity it is, where it is asked about what a partner shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// What `identity_id` names.
    pub identity_type: IdentityType,
    /// Whom.
    pub identity_id: String,
    /// By which policy.
    pub policy: PolicyRef,
    /// By which of its rules, from 0.
    pub rule_index: usize,
    /// The rule's pattern.
    pub path_pattern: String,
    /// What it grants.
    pub permissions: Permissions,
    /// What else must hold.
    pub conditions: Conditions,
    /// Until when he is bound.
    #[serde(serialize_with = "wire::seconds_opt")]
    pub expires_at: Option<OffsetDateTime>,
}

/// Who may do something.
#[derive(Clone, Debug)]
pub struct WhoCan {
    /// By policies: type, identifier, policy, rule, in this order.
    pub identities: Page<Grantee>,
    /// Whoever stands above policies: `system`, the roles of admins unless that is switched off, and `partner` if all
    /// tenants of the partner may.
    pub built_in: Vec<&'static str>,
}

/// Decides about a question by these policies, as a request is decided.
fn decide(
    permit: &Permit<'_>,
    policies: &CompiledPolicies,
    caller: &Caller,
    (path, permission): (&str, Permission),
    at: &Circumstances,
) -> Verdict {
    let role = highest_role(caller, permit.tenant());
    let standing = permit.settings().standing(caller, role).map(Standing::as_str);
    let shared = (permit.tenant().is_partner() && is_shared(permission)).then_some("partner");
    if let granted_by @ Some(_) = standing.or(shared) {
        return Verdict::Allowed { allowed: true, matched_policy: None, matched_rule: None, granted_by };
    }
    match policies.decide(caller, path, permission, at) {
        Decision::Allow(by) => Verdict::Allowed {
            allowed: true,
            matched_policy: Some(PolicyRef { id: by.policy_id.to_owned(), name: by.policy_name.to_owned() }),
            matched_rule: Some(RuleRef {
                index: by.rule_index,
                path_pattern: by.rule.path_pattern().to_string(),
            }),
            granted_by: None,
        },
        Decision::Deny(failed) => {
            let named = |(id, name): (&str, &str)| PolicyRef { id: id.to_owned(), name: name.to_owned() };
            Verdict::Denied {
                allowed: false,
                reason: failed.map_or(Code::AccessDenied, Condition::code),
                failed_condition: failed.map(Condition::as_str),
                evaluated_policies: policies.in_force(caller, at.now).map(named).collect(),
            }
        }
    }
}

pub(super) async fn test(
    permit: Permit<'_>,
    policies: Arc<CompiledPolicies>,
    question: &Question,
) -> Result<Outcome<Verdict>> {
    let tenant = super::ops::whose(&permit, "tenant_id", question.tenant_id.as_ref()).await?;
    let caller = question.caller(&tenant)?;
    check_path(&question.path)?;
    let at = question.circumstances(permit.ctx().now(), permit.settings());
    let asked = (question.path.as_str(), question.permission);
    let verdict = decide(&permit, &policies, &caller, asked, &at);
    permit.answer_unrecorded(verdict)
}

pub(super) async fn explain(permit: Permit<'_>, question: &Question) -> Result<Outcome<Explanation>> {
    let tenant = super::ops::whose(&permit, "tenant_id", question.tenant_id.as_ref()).await?;
    let caller = question.caller(&tenant)?;
    check_path(&question.path)?;
    let at = question.circumstances(permit.ctx().now(), permit.settings());
    let policies = super::store::everything(&permit).await?;
    let mut considered = Vec::new();
    let mut omitted = 0;
    for policy in &policies {
        considered.extend(consider(policy, &caller, question, &at));
        // After each policy, so that never more are kept than are told, and those of one policy.
        considered.sort_by_key(|rule: &ConsideredRule| rule.would_allow_if.len());
        omitted += considered.len().saturating_sub(limits::EXPLAINED_RULES);
        considered.truncate(limits::EXPLAINED_RULES);
    }
    let asked = (question.path.as_str(), question.permission);
    let verdict = decide(&permit, &CompiledPolicies::compile(policies), &caller, asked, &at);
    permit.answer(Explanation { verdict, considered, omitted })
}

fn consider<'a>(
    policy: &'a PolicyInput,
    caller: &'a Caller,
    question: &'a Question,
    at: &'a Circumstances,
) -> impl Iterator<Item = ConsideredRule> {
    let names = |bound: &&BindingInput| {
        bound.tenant_id == *caller.tenant_id()
            && match bound.identity_type {
                IdentityType::Group => caller.groups().contains(&bound.identity_id),
                kind => kind == caller.identity_type() && bound.identity_id == caller.identity_id(),
            }
    };
    let bindings: Vec<_> = policy.bindings.iter().filter(names).map(BindingRef::of).collect();
    let bound = bindings.iter().any(|bound| bound.expires_at.is_none_or(|end| at.now < end));
    policy.rules.iter().enumerate().map(move |(rule_index, rule)| {
        let path_matches = rule.path_pattern().matches(&question.path);
        let permission_matches = rule.permissions().allow(question.permission);
        let failed: Vec<Condition> = rule.conditions().unmet(at).iter().collect();
        let mut needed = Vec::new();
        let mut need = |missing: bool, what: &str| {
            if missing {
                needed.push(what.to_owned());
            }
        };
        need(!policy.is_active, "the policy is active");
        need(!bound && bindings.is_empty(), "the policy is bound to the identity or to one of its groups");
        need(!bound && !bindings.is_empty(), "the binding has not lapsed");
        need(!path_matches, "the pattern matches the path");
        need(!permission_matches, "the rule grants the permission");
        needed.extend(failed.iter().map(|condition| rule.conditions().demand(*condition, at)));
        ConsideredRule {
            policy: PolicyRef { id: policy.id.clone(), name: policy.name.clone() },
            is_active: policy.is_active,
            rule_index,
            path_pattern: rule.path_pattern().to_string(),
            permissions: rule.permissions(),
            conditions: rule.conditions().clone(),
            bindings: bindings.clone(),
            path_matches,
            permission_matches,
            failed_conditions: failed.iter().map(|condition| condition.as_str()).collect(),
            allows: needed.is_empty(),
            would_allow_if: needed,
        }
    })
}

impl BindingRef {
    fn of(input: &BindingInput) -> Self {
        let BindingInput { tenant_id: _, identity_type, identity_id, expires_at } = input.clone();
        Self { identity_type, identity_id, expires_at }
    }
}

/// The place of a row of [`WhoCan`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place(String, String, String, usize, String);

impl Place {
    fn of(bound: &BindingInput, policy: &PolicyInput, rule: usize) -> Self {
        let (kind, tenant) = (bound.identity_type.to_string(), bound.tenant_id.as_str().to_owned());
        Self(kind, bound.identity_id.clone(), policy.id.clone(), rule, tenant)
    }
}

impl Grantee {
    fn of(
        bound: &BindingInput,
        policy: &PolicyInput,
        (rule_index, rule): (usize, &Rule),
        of_partner: bool,
    ) -> Self {
        Self {
            tenant_id: of_partner.then(|| bound.tenant_id.clone()),
            identity_type: bound.identity_type,
            identity_id: bound.identity_id.clone(),
            policy: PolicyRef { id: policy.id.clone(), name: policy.name.clone() },
            rule_index,
            path_pattern: rule.path_pattern().to_string(),
            permissions: rule.permissions(),
            conditions: rule.conditions().clone(),
            expires_at: bound.expires_at,
        }
    }
}

pub(super) async fn who_can(
    permit: Permit<'_>,
    (path, permission): (&str, Permission),
    limit: Option<u32>,
    cursor: Option<String>,
) -> Result<Outcome<WhoCan>> {
    check_path(path)?;
    let keys = permit.keys().await?;
    let bound = (path, permission.as_str());
    let open = |cursor: String| wire::open_cursor::<Place>(&keys, "who-can", &bound, &cursor);
    let after = cursor.map(open).transpose()?;
    let wanted = wire::page_size(limit);
    let policies = super::store::everything(&permit).await?;
    let of_partner = permit.tenant().is_partner();
    let now = permit.ctx().now();
    // Never more than a page of them are kept.
    let mut rows: BTreeMap<Place, Grantee> = BTreeMap::new();
    for policy in policies.iter().filter(|policy| policy.is_active) {
        let allows = |rule: &Rule| rule.permissions().allow(permission) && rule.path_pattern().matches(path);
        let rules: Vec<_> = policy.rules.iter().enumerate().filter(|(_, rule)| allows(rule)).collect();
        for bound in policy.bindings.iter().filter(|bound| bound.expires_at.is_none_or(|end| now < end)) {
            for (rule_index, rule) in &rules {
                let place = Place::of(bound, policy, *rule_index);
                if after.as_ref().is_none_or(|after| place > *after) {
                    rows.insert(place, Grantee::of(bound, policy, (*rule_index, rule), of_partner));
                }
                if rows.len() > wanted + 1 {
                    rows.pop_last();
                }
            }
        }
    }
    let first: Vec<(Place, Grantee)> = rows.into_iter().collect();
    let page = wire::cut(first, wanted, (&keys, "who-can", &bound), |(place, _)| place.clone())?;
    let identities = page.try_map(|(_, row)| Ok(row))?;
    let mut built_in = vec![Standing::System.as_str()];
    if permit.settings().tenant_admin_bypass {
        let of_tenant = (!of_partner).then_some(Standing::TenantAdmin);
        let admins = of_tenant.into_iter().chain([Standing::PartnerAdmin, Standing::SuperAdmin]);
        built_in.extend(admins.map(Standing::as_str));
    }
    if of_partner && is_shared(permission) {
        built_in.push("partner");
    }
    permit.answer(WhoCan { identities, built_in })
}
