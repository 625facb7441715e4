//! Who may, seen from outside: deny by default, and what a refusal gives away.

use scaivault_core::{
    Code, Ctx, Error, IdentityType, Role, Scope, Vault,
    pki::IssueWrite,
    policy::BindingWrite,
    secrets::{ListFilter, SecretPatch, SecretPath},
};
use serde_json::{Value, json};

use crate::bench::{OTHER, any, code, contract, path, refusal, root_key, tenant, user};

/// Every verb on a path, by name.
async fn all_doors(vault: &Vault, ctx: &Ctx, at: &SecretPath) -> Vec<(&'static str, Option<Error>)> {
    let secrets = vault.secrets(ctx);
    vec![
        ("get", secrets.get(at, None).await.err()),
        ("get version", secrets.get(at, Some(1)).await.err()),
        ("metadata", secrets.metadata(at).await.err()),
        ("versions", secrets.versions(at).await.err()),
        ("patch", secrets.patch(at, SecretPatch::default()).await.err()),
        ("put", secrets.put(at, any()).await.err()),
        ("delete", secrets.delete(at, false).await.err()),
        ("restore", secrets.restore(at).await.err()),
        ("delete for good", secrets.delete(at, true).await.err()),
    ]
}

contract! {
    async fn nothing_is_allowed_by_default(t: Bench) {
        t.put("a", json!({})).await;
        for (door, error) in all_doors(&t.vault, &t.user("user:u"), &path("a")).await {
            assert_eq!(error.map(|e| e.code()), Some(Code::AccessDenied), "{door}");
        }
        let listed = t.vault.secrets(&t.user("user:u")).list(ListFilter::default()).await.unwrap();
        assert!(listed.items.is_empty() && listed.cursor.is_none());
        assert_eq!(t.get("a").await.unwrap(), json!({}));
        assert_eq!(t.raw.count("secret_version").await, 1);
    }

    async fn each_permission_opens_its_own_doors(t: Bench) {
        let doors: [(&str, &[&str]); 5] = [
            ("read", &["get", "get version"]),
            ("write", &["put", "patch", "restore"]),
            ("delete", &["delete", "delete for good"]),
            ("list", &["metadata", "versions"]),
            ("rotate", &[]),
        ];
        for (permission, open) in doors {
            let at = format!("p/{permission}/s");
            t.put(&at, json!({})).await;
            let id = format!("user:{permission}");
            t.grant(&id, &at, &[permission]).await;
            for (door, error) in all_doors(&t.vault, &t.user(&id), &path(&at)).await {
                let denied = error.is_some_and(|e| e.code() == Code::AccessDenied);
                assert_eq!(denied, !open.contains(&door), "{permission}: {door}");
            }
            let listed = t.vault.secrets(&t.user(&id)).list(ListFilter { include_deleted: true, ..Default::default() }).await;
            assert_eq!(listed.unwrap().items.len(), usize::from(permission == "list"), "{permission}");
        }
    }

    async fn sec_a2_a_refusal_is_the_same_for_what_is_there_and_what_is_not(t: Bench) {
        t.put("there", json!({"k": "v"})).await;
        t.put("deleted", json!({})).await;
        t.vault.secrets(&t.admin()).delete(&path("deleted"), false).await.unwrap();
        t.vault.secrets(&t.admin_of(OTHER)).put(&path("elsewhere"), any()).await.unwrap();
        // He may do everything somewhere else.
        t.grant("user:u", "mine/**", &["admin"]).await;
        let told = |error: Option<Error>, at: &str| {
            let error = error.unwrap();
            (error.code(), error.to_string().replace(at, "*"), serde_json::to_string(error.details()).unwrap().replace(at, "*"))
        };
        let mut seen = Vec::new();
        for at in ["there", "deleted", "elsewhere", "nowhere"] {
            let doors = all_doors(&t.vault, &t.user("user:u"), &path(at)).await;
            seen.push(doors.into_iter().map(|(door, error)| (door, told(error, at))).collect::<Vec<_>>());
            let filter = ListFilter { prefix: Some(at.to_owned()), include_deleted: true, ..ListFilter::default() };
            assert!(t.vault.secrets(&t.user("user:u")).list(filter).await.unwrap().items.is_empty());
        }
        assert!(seen[0].iter().all(|(_, (code, ..))| *code == Code::AccessDenied));
        for other in &seen[1..] {
            assert_eq!(&seen[0], other);
        }
        assert_eq!(t.get("there").await.unwrap(), json!({"k": "v"}));
        assert_eq!(t.raw.count("secret").await, 3);
    }

    async fn sec_a2_a_role_that_is_not_there_looks_like_one_that_may_not_be_used(t: Bench) {
        let admin = t.admin();
        let ca = crate::pki::root(&t.vault, &admin, "Top").await;
        crate::pki::role(&t.vault, &admin, "web", &ca.id).await;
        let refused = async |role: &str| {
            let error = refusal(t.vault.pki(&t.user("user:u")).issue(role, IssueWrite::default()).await);
            (error.code(), error.message().to_owned())
        };
        assert_eq!(refused("web").await, refused("none").await);
        assert_eq!(refused("web").await.0, Code::AccessDenied);
    }

    async fn the_scope_is_looked_at_before_any_policy(t: Bench) {
        t.grant("user:u", "**", &["admin"]).await;
        let error = refusal(t.vault.secrets(&t.scoped("user:u", &[Scope::SecretsWrite])).get(&path("a"), None).await);
        assert_eq!((error.code(), error.details().required_scope), (Code::InsufficientScope, Some("secrets:read")));
        let error = refusal(t.vault.secrets(&t.scoped("user:nobody", &[])).get(&path("a"), None).await);
        assert_eq!(error.code(), Code::InsufficientScope);
        let admin_without_scope = t.ctx(user("user:x").with_roles([Role::TenantAdmin]));
        assert_eq!(code(t.vault.secrets(&admin_without_scope).get(&path("a"), None).await), Code::InsufficientScope);
    }

    async fn every_other_verb_needs_its_scope(t: Bench) {
        let (policy, binding) = t.grant("user:u", "**", &["admin"]).await;
        let none = t.scoped("user:u", &[Scope::SecretsRead]);
        let (policies, pki) = (t.vault.policies(&none), t.vault.pki(&none));
        let document = || crate::bench::policy("x", &[("a", &["read"])]);
        let refused = [
            ("policies:read", policies.list(true, None, None).await.err()),
            ("policies:read", policies.read(&policy.id).await.err()),
            ("policies:read", policies.bindings(&policy.id).await.err()),
            ("policies:write", policies.create(document()).await.err()),
            ("policies:write", policies.replace(&policy.id, document()).await.err()),
            ("policies:write", policies.patch(&policy.id, Default::default()).await.err()),
            ("policies:write", policies.delete(&policy.id, true).await.err()),
            ("policies:write", policies.bind(&policy.id, crate::bench::bind_user("user:v")).await.err()),
            ("policies:write", policies.unbind(&policy.id, &binding.id).await.err()),
            ("audit:read", t.vault.audit(&none).query(Default::default()).await.err()),
            ("pki:admin", pki.create_ca(crate::pki::root_write("Top")).await.err()),
            ("pki:admin", pki.cas(None, None).await.err()),
            ("pki:admin", pki.ca("ca").await.err()),
            ("pki:admin", pki.roles(None, None).await.err()),
            ("pki:admin", pki.role("r").await.err()),
            ("pki:admin", pki.create_role(crate::pki::role_write("r", "ca")).await.err()),
            ("pki:admin", pki.patch_role("r", Default::default()).await.err()),
            ("pki:admin", pki.delete_role("r").await.err()),
            ("pki:admin", pki.build_crl("ca").await.err()),
            ("pki:admin", pki.revoke(crate::pki::revocation("01")).await.err()),
            ("pki:admin", pki.certificate_with_key("c").await.err()),
            ("pki:issue", pki.certificates(Default::default()).await.err()),
            ("pki:issue", pki.certificate("c").await.err()),
            ("pki:issue", pki.issue("r", IssueWrite::default()).await.err()),
        ];
        let count = refused.len();
        for (i, (scope, error)) in refused.into_iter().enumerate() {
            let error = error.unwrap();
            assert_eq!((error.code(), error.details().required_scope), (Code::InsufficientScope, Some(scope)), "number {i}");
        }
        let trail = t.trail(&none).await;
        assert_eq!(trail.len(), count, "each of them is recorded once");
        assert!(trail.iter().all(|record| record.outcome == "insufficient_scope"));
        assert_eq!(t.raw.count("policy").await, 1);
    }

    async fn a_tenant_admin_needs_no_policy_in_his_own_tenant_unless_that_is_switched_off(t: Bench) {
        let admin = t.admin();
        t.vault.secrets(&admin).put(&path("a"), any()).await.unwrap();
        assert_eq!(t.trail(&admin).await[0].extra["granted_by"], json!("role:tenant_admin"));
        let strict = t.builder(root_key(7)).tenant_admin_bypass(false).open().await.unwrap();
        for (door, error) in all_doors(&strict, &t.admin(), &path("a")).await {
            assert_eq!(error.map(|e| e.code()), Some(Code::AccessDenied), "{door}");
        }
        assert!(strict.secrets(&t.admin()).list(ListFilter::default()).await.unwrap().items.is_empty());
        t.grant("user:admin", "a", &["read"]).await;
        t.clock.advance(scaivault_core::limits::EPOCH_CHECK);
        strict.secrets(&t.admin()).get(&path("a"), None).await.unwrap();
        // So it is with admins of more.
        for role in [Role::SuperAdmin, Role::PartnerAdmin] {
            let boss = || t.ctx(user("user:boss").with_scopes([Scope::Admin]).with_roles([role]));
            assert_eq!(code(strict.secrets(&boss()).get(&path("a"), None).await), Code::AccessDenied, "{role}");
            let ctx = boss();
            t.vault.secrets(&ctx).get(&path("a"), None).await.unwrap();
            assert_eq!(t.trail(&ctx).await[0].extra["granted_by"], json!(format!("role:{role}")));
        }
        strict.close().await;
    }

    async fn a_binding_of_one_kind_of_identity_is_not_one_of_another(t: Bench) {
        t.put("a", json!({})).await;
        let (policy, _) = t.grant("same", "a", &["read"]).await;
        let account = scaivault_core::Caller::service_account("same", tenant(crate::bench::ACME)).unwrap();
        let account = || t.ctx(account.clone().with_scopes([Scope::Admin]));
        assert_eq!(code(t.vault.secrets(&account()).get(&path("a"), None).await), Code::AccessDenied);
        let bind = BindingWrite { tenant_id: None, identity_type: IdentityType::ServiceAccount, identity_id: "same".to_owned(), expires_at: None };
        t.vault.policies(&t.admin()).bind(&policy.id, bind).await.unwrap();
        t.vault.secrets(&account()).get(&path("a"), None).await.unwrap();
    }

    async fn the_record_names_the_policy_and_the_rule_that_allowed(t: Bench) {
        t.put("app/a", json!({})).await;
        let admin = t.admin();
        let document = crate::bench::policy("p", &[("other", &["read"]), ("app/*", &["list"]), ("app/**", &["read"])]);
        let policy = t.vault.policies(&admin).create(document).await.unwrap();
        t.vault.policies(&admin).bind(&policy.id, crate::bench::bind_user("user:u")).await.unwrap();
        let ctx = t.user("user:u");
        t.vault.secrets(&ctx).get(&path("app/a"), None).await.unwrap();
        let extra: &Value = &t.trail(&ctx).await[0].extra;
        assert_eq!((&extra["policy_id"], &extra["rule_index"]), (&json!(policy.id), &json!(2)));
    }
}
