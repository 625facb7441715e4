//! What a decision costs where so many rules are bound to the caller.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use scaivault_core::{
    Caller, IdentityType, TenantId,
    policy::{BindingInput, Circumstances, CompiledPolicies, Permission, PolicyInput, Rule, RuleWrite},
};
use serde_json::json;
use time::macros::datetime;

/// Kinds of patterns as people write them, most of which do not match.
const PATTERNS: [&str; 8] = [
    "teams/{n}/**",
    "teams/{n}/db/*",
    "app/service-{n}/password",
    "app/service-{n}-*/tls",
    "**/shared-{n}/*",
    "pki/issue/svc-{n}",
    "env/*/app-{n}/**",
    "app/*-{n}/key",
];

/// So many rules, of policies that have at most 100 of them, all bound to one caller.
fn policies(rules: usize) -> CompiledPolicies {
    let all: Vec<RuleWrite> = (0..rules)
        .map(|n| {
            let pattern = PATTERNS[n % PATTERNS.len()].replace("{n}", &n.to_string());
            let conditions = if n % 10 == 0 { json!({"ip_ranges": ["10.0.0.0/8"]}) } else { json!({}) };
            let rule = json!({"path_pattern": pattern, "permissions": ["read"], "conditions": conditions});
            serde_json::from_value(rule).unwrap()
        })
        .collect();
    let policy = |(n, rules): (usize, &[RuleWrite])| PolicyInput {
        id: format!("pol_{n}"),
        name: format!("policy {n}"),
        is_active: true,
        rules: Rule::parse_all(rules.to_vec()).unwrap(),
        bindings: vec![BindingInput {
            tenant_id: TenantId::parse("tnt_acme").unwrap(),
            identity_type: IdentityType::User,
            identity_id: "user:alice".into(),
            expires_at: None,
        }],
    };
    CompiledPolicies::compile(all.chunks(100).enumerate().map(policy).collect())
}

fn decide(c: &mut Criterion) {
    let caller = Caller::user("user:alice", TenantId::parse("tnt_acme").unwrap()).unwrap();
    let at = Circumstances::at(datetime!(2026-04-23 18:00 UTC));
    for (name, path) in [
        ("allowed", "app/service-2/password"),
        ("denied", "app/service-x/nothing"),
        ("denied, deep", "env/prod/a/b/c/d/e/f/g/h"),
    ] {
        let mut group = c.benchmark_group(format!("decision, {name}"));
        for rules in [10, 100, 1_000, 10_000] {
            let policies = policies(rules);
            let allowed = policies.decide(&caller, path, Permission::Read, &at).is_allowed();
            assert_eq!(allowed, name == "allowed", "{rules}");
            group.bench_with_input(BenchmarkId::from_parameter(rules), &policies, |b, policies| {
                b.iter(|| policies.decide(&caller, black_box(path), Permission::Read, &at).is_allowed());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
