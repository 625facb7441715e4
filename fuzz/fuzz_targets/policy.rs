//! Policies: JSON to a decision, against a second way to decide. What is no policy is tried as a pattern on the first
//! line and a path on each of the others.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scaivault_core::{
    Caller, IdentityType, TenantId,
    policy::{
        BindingInput, Circumstances, CompiledPolicies, Decision, PathPattern, Permission, PolicyDocument, PolicyInput,
        PolicyWrite, Rule,
    },
};
use scaivault_fuzz::NOW;
use time::Duration;

static ALICE: LazyLock<Caller> = LazyLock::new(|| caller("alice"));
static BOB: LazyLock<Caller> = LazyLock::new(|| caller("bob"));

fn caller(id: &str) -> Caller {
    Caller::user(id, TenantId::parse("tnt_fuzz").expect("a tenant")).expect("a caller")
}

fn at() -> Circumstances {
    Circumstances { source_ip: Some([10, 0, 0, 1].into()), mfa_verified_at: Some(NOW), ..Circumstances::at(NOW) }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(write) = serde_json::from_slice::<PolicyWrite>(data) {
        if let Ok(document) = PolicyDocument::parse(write) {
            check_document(&document);
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let Ok(pattern) = PathPattern::parse(lines.next().unwrap_or_default()) else { return };
    let again = PathPattern::parse(pattern.as_str()).expect("it was read before");
    assert_eq!(again, pattern);
    lines.for_each(|path| check_match(&pattern, path));
});

fn check_document(document: &PolicyDocument) {
    let json = serde_json::to_string(document).expect("a document can be written");
    let write: PolicyWrite = serde_json::from_str(&json).expect("as it is read");
    assert_eq!(PolicyDocument::parse(write).expect("it was accepted before"), *document);

    let rules = document.rules();
    let mut paths = vec![String::new(), "app/db".into(), "pki/issue/web".into(), "a/b/c/d".into()];
    for rule in rules.iter().take(8) {
        let pattern = rule.path_pattern().as_str();
        paths.push(pattern.replace("**", "x/y").replace('*', "z").replace('?', "q"));
        paths.push(pattern.replace("**/", "").replace(['*', '?'], ""));
    }
    let bound = |expires_at| BindingInput {
        tenant_id: ALICE.tenant_id().clone(),
        identity_type: IdentityType::User,
        identity_id: "alice".into(),
        expires_at,
    };
    let compile = |is_active, expires_at| {
        CompiledPolicies::compile(vec![PolicyInput {
            id: "pol_fuzz".into(),
            name: document.name().to_string(),
            is_active,
            rules: rules.to_vec(),
            bindings: vec![bound(expires_at)],
        }])
    };
    let policies = compile(true, Some(NOW + Duration::SECOND));
    let (expired, inactive) = (compile(true, Some(NOW)), compile(false, None));
    for path in &paths {
        rules.iter().take(64).for_each(|rule| check_match(rule.path_pattern(), path));
        for &permission in Permission::ALL {
            check_decision(&policies, rules, path, permission);
            for others in [&expired, &inactive] {
                assert!(!others.decide(&ALICE, path, permission, &at()).is_allowed());
            }
        }
    }
}

fn check_decision(policies: &CompiledPolicies, rules: &[Rule], path: &str, permission: Permission) {
    let allows = |rule: &&Rule| {
        let mut given = rule.permissions().iter();
        given.any(|given| given == permission || given == Permission::Admin)
            && rule.path_pattern().matches(path)
            && rule.conditions().unmet(&at()).is_empty()
    };
    let decision = policies.decide(&ALICE, path, permission, &at());
    let first = rules.iter().find(allows);
    match decision {
        Decision::Allow(by) => assert_eq!(Some(by.rule), first),
        Decision::Deny(_) => assert_eq!(None, first),
    }
    let all = policies.explain(&ALICE, path, permission, &at());
    assert_eq!(all.len(), rules.iter().filter(allows).count());
    assert_eq!(all.first().copied(), match decision {
        Decision::Allow(by) => Some(by),
        Decision::Deny(_) => None,
    });
    assert!(!policies.decide(&BOB, path, permission, &at()).is_allowed());
}

/// The steps that the second way may take, which tries everything and so may take very many.
const STEPS: usize = 20_000;

fn check_match(pattern: &PathPattern, path: &str) {
    let matches = pattern.matches(path);
    let segments: Vec<&str> = if path.is_empty() { vec![] } else { path.split('/').collect() };
    let expected = if segments.contains(&"") {
        Some(false)
    } else {
        let pattern: Vec<&str> = pattern.as_str().split('/').collect();
        let mut steps = STEPS;
        match pattern.as_slice() {
            // A leading ** needs a segment.
            ["**", rest @ ..] if !rest.is_empty() => {
                any((1..=segments.len()).map(|n| is_match(rest, &segments[n..], &mut steps)))
            }
            all => is_match(all, &segments, &mut steps),
        }
    };
    if let Some(expected) = expected {
        assert_eq!(matches, expected, "{pattern} on {path:?}");
    }
}

/// Whether one of them holds; `None` if the steps ran out before one did.
fn any(mut tries: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    tries.find(|found| *found != Some(false)).unwrap_or(Some(false))
}

fn is_match(pattern: &[&str], path: &[&str], steps: &mut usize) -> Option<bool> {
    *steps = steps.checked_sub(1)?;
    match (pattern, path) {
        ([], _) => Some(path.is_empty()),
        (["**", rest @ ..], _) => any((0..=path.len()).map(|n| is_match(rest, &path[n..], steps))),
        (_, []) => Some(false),
        ([segment, pattern @ ..], [first, path @ ..]) => {
            let pattern_of_segment: Vec<char> = segment.chars().collect();
            let text: Vec<char> = first.chars().collect();
            match is_like(&pattern_of_segment, &text, steps)? {
                true => is_match(pattern, path, steps),
                false => Some(false),
            }
        }
    }
}

fn is_like(pattern: &[char], text: &[char], steps: &mut usize) -> Option<bool> {
    *steps = steps.checked_sub(1)?;
    match (pattern, text) {
        ([], _) => Some(text.is_empty()),
        (['*', rest @ ..], _) => any((0..=text.len()).map(|n| is_like(rest, &text[n..], steps))),
        (['?', pattern @ ..], [_, text @ ..]) => is_like(pattern, text, steps),
        ([wanted, pattern @ ..], [c, text @ ..]) if wanted == c => is_like(pattern, text, steps),
        _ => Some(false),
    }
}
