//! A draft of a policy, held against what was asked in the past.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    BindingInput, BindingWrite, Circumstances, CompiledPolicies, Condition, Decision, Permission,
    PolicyInput, Rule,
};
use crate::{
    Action, AuditFilter, AuditLog, Caller, Code, Error, IdentityType, Result, Scope, TenantId, audit, limits,
    pipeline::{Outcome, Permit},
    storage::Ts,
    vault::Inner,
    wire,
};

/// A policy that is not stored, and how far to look back.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The policy whose place it takes; `None` is a new one, which would be active.
    pub policy_id: Option<String>,
    /// What it grants.
    pub rules: Vec<Rule>,
    /// To whom. `None` leaves the bindings of the policy whose place it takes.
    pub bindings: Option<Vec<BindingWrite>>,
    /// How many days back: [`limits::DIFF_DAYS_DEFAULT`] unless given, [`limits::DIFF_DAYS`] at most.
    pub days: Option<u32>,
    /// How many records to look at: 100 unless given, 1000 at most.
    pub limit: Option<u32>,
    /// Where the previous page ended.
    pub cursor: Option<String>,
}

/// Which of the requests in one page of the audit trail would end otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// Those, newest first.
    pub flips: Vec<Flip>,
    /// How many records were looked at.
    pub examined: usize,
    /// How many of them would end as they did.
    pub unchanged: usize,
    /// How many of them no policy decides about: whoever stands above policies, and requests that were refused before.
    pub not_by_policy: usize,
    /// Those about which it cannot be said, by the reason.
    pub undecided: Vec<Undecided>,
    /// From when on the trail is looked at.
    #[serde(serialize_with = "wire::seconds")]
    pub from: OffsetDateTime,
    /// Where to go on.
    pub cursor: Option<String>,
    /// Whether there is more.
    pub has_more: bool,
}

/// A request that would end otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns of the audit row, and three outcomes")]
pub struct Flip {
    pub id: String,
    #[serde(serialize_with = "wire::micros")]
    pub timestamp: OffsetDateTime,
    pub request_id: String,
    pub action: String,
    pub path: String,
    pub permission: Permission,
    pub identity_type: String,
    pub identity_id: String,
    /// As it ended.
    pub was: Ending,
    /// As it would by the policies that are stored now.
    pub today: Ending,
    /// As it would with the draft.
    pub would: Ending,
}

/// How a request ends, as far as policies go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The code of the refusal.
    pub reason: Option<String>,
}

/// Records about which it cannot be said how they would end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Undecided {
    /// `groups_not_recorded` (records of earlier builds), `groups_cut` (more than [`limits::AUDIT_GROUPS`]),
    /// `listing` (each item was decided by itself), `failed_otherwise` (allowed or not, something else was wrong) or
    /// `unreadable`.
    pub reason: &'static str,
    /// How many.
    pub count: usize,
    /// One of them.
    pub example: String,
}

/// What a policy decides about.
const ACTIONS: [Action; 6] =
    [Action::Read, Action::Write, Action::Restore, Action::Delete, Action::List, Action::PkiIssue];

/// The name of a new policy among those that are stored.
const NEW: &str = "draft";

#[derive(Serialize, Deserialize)]
struct Last {
    /// Microseconds since 1970.
    from: i128,
    trail: String,
}

/// Whether a record can be decided again.
enum Again {
    Yes(Box<Asked>),
    NotByPolicy,
    No(&'static str),
}

struct Asked {
    caller: Caller,
    path: String,
    permission: Permission,
    at: Circumstances,
    was: Ending,
}

pub(super) async fn diff(vault: &Inner, permit: Permit<'_>, draft: &Draft) -> Result<Outcome<Diff>> {
    if !permit.ctx().caller().has_scope(Scope::AuditRead) {
        let error = Error::new(Code::InsufficientScope, "The token needs the scope audit:read as well.");
        return Err(error.with(|details| details.required_scope = Some(Scope::AuditRead.as_str())));
    }
    let days = draft.days.unwrap_or(limits::DIFF_DAYS_DEFAULT);
    if !(1..=limits::DIFF_DAYS).contains(&days) {
        return Err(Error::field("days", format!("must be 1 to {}", limits::DIFF_DAYS)));
    }
    let (today, would) = both(&permit, draft).await?;
    let keys = permit.keys().await?;
    let shape = shape(draft, days)?;
    let open = |cursor: &String| wire::open_cursor::<Last>(&keys, "policy-diff", &shape, cursor);
    let last = draft.cursor.as_ref().map(open).transpose()?;
    let from = match &last {
        Some(last) => OffsetDateTime::from_unix_timestamp_nanos(last.from * 1000).map_err(Error::internal)?,
        None => Ts::from(permit.ctx().now() - time::Duration::days(days.into())).get(),
    };
    let filter = AuditFilter {
        from: Some(from),
        actions: ACTIONS.iter().map(|action| action.as_str().to_owned()).collect(),
        limit: draft.limit,
        cursor: last.map(|last| last.trail),
        ..AuditFilter::default()
    };
    let page = audit::read_page(vault, &permit, &filter).await?;
    let cursor = match page.cursor {
        Some(trail) => {
            let last = Last { from: from.unix_timestamp_nanos() / 1000, trail };
            Some(wire::seal_cursor(&keys, "policy-diff", &shape, &last)?)
        }
        None => None,
    };
    let mut diff = Diff {
        flips: Vec::new(),
        examined: page.items.len(),
        unchanged: 0,
        not_by_policy: 0,
        undecided: Vec::new(),
        from,
        has_more: cursor.is_some(),
        cursor,
    };
    let mut undecided: BTreeMap<&'static str, Undecided> = BTreeMap::new();
    for log in page.items {
        match again(&permit, &log) {
            Again::NotByPolicy => diff.not_by_policy += 1,
            Again::No(reason) => {
                let entry = Undecided { reason, count: 0, example: log.id };
                undecided.entry(reason).or_insert(entry).count += 1;
            }
            Again::Yes(asked) => match flip(log, *asked, &today, &would) {
                Some(flip) => diff.flips.push(flip),
                None => diff.unchanged += 1,
            },
        }
    }
    diff.undecided = undecided.into_values().collect();
    permit.answer(diff)
}

/// What a cursor is bound to besides its tenant: the whole draft.
fn shape(draft: &Draft, days: u32) -> Result<serde_json::Value> {
    let bindings = draft.bindings.iter().flatten();
    let bindings: Vec<_> = bindings
        .map(|b| (&b.tenant_id, b.identity_type.as_str(), &b.identity_id, b.expires_at.map(wire::rfc3339)))
        .collect();
    let bindings = (draft.bindings.is_some(), bindings);
    serde_json::to_value((&draft.policy_id, &draft.rules, bindings, days)).map_err(Error::internal)
}

/// The policies that are stored, and those with the draft.
async fn both(permit: &Permit<'_>, draft: &Draft) -> Result<(CompiledPolicies, CompiledPolicies)> {
    let bindings = match &draft.bindings {
        Some(bindings) => Some(checked(permit, bindings).await?),
        None => None,
    };
    let stored = super::store::everything(permit).await?;
    let mut drafted = stored.clone();
    match &draft.policy_id {
        Some(id) => {
            let place =
                drafted.iter_mut().find(|policy| policy.id == *id).ok_or_else(super::ops::not_found)?;
            place.rules.clone_from(&draft.rules);
            if let Some(bindings) = bindings {
                place.bindings = bindings;
            }
        }
        None => {
            let missing =
                || Error::field("bindings", "are needed for a new policy: without any it changes nothing");
            drafted.push(PolicyInput {
                id: NEW.to_owned(),
                name: NEW.to_owned(),
                is_active: true,
                rules: draft.rules.clone(),
                bindings: bindings.filter(|bindings| !bindings.is_empty()).ok_or_else(missing)?,
            });
        }
    }
    Ok((CompiledPolicies::compile(stored), CompiledPolicies::compile(drafted)))
}

async fn checked(permit: &Permit<'_>, bindings: &[BindingWrite]) -> Result<Vec<BindingInput>> {
    if bindings.len() > limits::BINDINGS as usize {
        return Err(Error::field("bindings", format!("must be at most {}", limits::BINDINGS)));
    }
    let mut wrong = crate::FieldErrors::default();
    for (i, binding) in bindings.iter().enumerate() {
        super::ops::check_identity(&format!("bindings[{i}].identity_id"), &binding.identity_id, &mut wrong);
    }
    wrong.finish()?;
    let mut inputs = Vec::with_capacity(bindings.len());
    for (i, binding) in bindings.iter().enumerate() {
        let BindingWrite { tenant_id, identity_type, identity_id, expires_at } = binding.clone();
        let field = format!("bindings[{i}].tenant_id");
        let tenant_id = super::ops::whose(permit, &field, tenant_id.as_ref()).await?;
        inputs.push(BindingInput { tenant_id, identity_type, identity_id, expires_at });
    }
    Ok(inputs)
}

/// What was asked, out of its record.
fn again(permit: &Permit<'_>, log: &AuditLog) -> Again {
    let extra = &log.extra_data;
    let by_policy = extra.get("policy_id").is_some();
    let denied =
        log.error_code.as_deref().is_some_and(|code| DENIALS.iter().any(|denial| denial.as_str() == code));
    let narrowed = extra.get("outside_allowed_paths").is_some();
    if narrowed || extra.get("granted_by").is_some() || log.identity_type == IdentityType::System.as_str() {
        return Again::NotByPolicy;
    }
    match log.error_code.as_deref() {
        Some(code) if UNASKED.iter().any(|unasked| unasked.as_str() == code) => return Again::NotByPolicy,
        Some(_) if !denied => return Again::No("failed_otherwise"),
        None if !by_policy => return Again::No("listing"),
        _ => {}
    }
    let Some(groups) = extra.get("groups") else { return Again::No("groups_not_recorded") };
    if extra.get("groups_omitted").is_some() {
        return Again::No("groups_cut");
    }
    match asked(permit, log, groups) {
        Some(asked) => Again::Yes(Box::new(asked)),
        None => Again::No("unreadable"),
    }
}

/// A policy refused it.
const DENIALS: [Code; 4] =
    [Code::AccessDenied, Code::IpNotAllowed, Code::TimeWindowViolation, Code::MfaRequired];
/// It was refused before any policy was asked.
const UNASKED: [Code; 3] = [Code::InsufficientScope, Code::TenantAccessDenied, Code::Forbidden];

fn asked(permit: &Permit<'_>, log: &AuditLog, groups: &serde_json::Value) -> Option<Asked> {
    let identity_type = IdentityType::parse(&log.identity_type)?;
    let groups = groups.as_array()?.iter().map(|group| group.as_str()).collect::<Option<Vec<_>>>()?;
    let tenant = TenantId::parse(&*log.acting_tenant_id).ok()?;
    let caller = Caller::imagined(identity_type, &log.identity_id, tenant).ok()?;
    let mfa = log
        .extra_data
        .get("mfa_verified_at")
        .map(|at| at.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()));
    let permission = match Action::parse(&log.action)? {
        Action::PkiIssue => Permission::Read,
        action => audit::permission(action)?,
    };
    Some(Asked {
        caller: caller.with_groups(groups).ok()?,
        path: log.secret_path.clone()?,
        permission,
        at: Circumstances {
            now: log.timestamp,
            source_ip: log.source_ip.as_ref().map(|ip| ip.parse::<IpAddr>()).transpose().ok()?,
            mfa_verified_at: match mfa {
                Some(at) => Some(at?),
                None => None,
            },
            mfa_window: permit.settings().mfa_window,
        },
        was: Ending { allowed: log.success, reason: log.error_code.clone() },
    })
}

fn flip(log: AuditLog, asked: Asked, today: &CompiledPolicies, would: &CompiledPolicies) -> Option<Flip> {
    let Asked { caller, path, permission, at, was } = asked;
    let end = |policies: &CompiledPolicies| match policies.decide(&caller, &path, permission, &at) {
        Decision::Allow(_) => Ending { allowed: true, reason: None },
        Decision::Deny(failed) => {
            let code = failed.map_or(Code::AccessDenied, Condition::code);
            Ending { allowed: false, reason: Some(code.as_str().to_owned()) }
        }
    };
    let would = end(would);
    if would.allowed == was.allowed {
        return None;
    }
    let today = end(today);
    Some(Flip {
        id: log.id,
        timestamp: log.timestamp,
        request_id: log.request_id,
        action: log.action,
        path,
        permission,
        identity_type: log.identity_type,
        identity_id: log.identity_id,
        was,
        today,
        would,
    })
}
