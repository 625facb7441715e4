//! Acting on other tenants, and what a partner gives to all of his.

use scaivault_core::{
    AuditFilter, Caller, Code, Ctx, IdentityType, PartnerId, ProofRange, Role, Scope, Vault,
    policy::{BindingWrite, Permission, PolicyDocument, Question},
    secrets::{Expires, ListFilter, Metadata, SecretPatch, SecretWrite},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use time::ext::NumericalDuration as _;

use crate::bench::{Bench, any, code, contract, on_postgres, path, policy, refusal, root_key, tenant, write};

/// Two tenants of one partner, one of another, and one whose tokens name no partner.
const ONE: &str = "tnt_one";
const TWO: &str = "tnt_two";
const FAR: &str = "tnt_far";
const BARE: &str = "tnt_bare";
const PARTNER: &str = "ptn_one";

fn home(tenant: &str) -> Option<&'static str> {
    match tenant {
        ONE | TWO => Some(PARTNER),
        FAR => Some("ptn_far"),
        _ => None,
    }
}

fn somebody(id: &str, of: &str, roles: &[Role]) -> Caller {
    let partner = home(of).map(|id| PartnerId::parse(id).unwrap());
    Caller::user(id, tenant(of)).unwrap().with_roles(roles.iter().copied()).with_partner(partner)
}

impl Bench {
    /// Somebody with every scope.
    fn as_user(&self, id: &str, of: &str, roles: &[Role]) -> Ctx {
        self.ctx(somebody(id, of, roles).with_scopes([Scope::Admin]))
    }

    fn partner_admin(&self) -> Ctx {
        self.as_user("user:partner-admin", ONE, &[Role::PartnerAdmin])
    }

    /// A secret in each tenant.
    async fn live_in(&self) {
        for of in [ONE, TWO, FAR, BARE] {
            let admin = self.as_user("user:admin", of, &[Role::TenantAdmin]);
            self.vault.secrets(&admin).put(&path("app/db"), write(json!({"of": of}))).await.unwrap();
        }
    }

    async fn share(&self, at: &str, data: serde_json::Value) {
        let ctx = self.partner_admin().in_partner();
        self.vault.secrets(&ctx).put(&path(at), write(data)).await.unwrap();
    }

    async fn share_policy(&self, name: &str, rules: &[(&str, &[&str])]) -> String {
        let ctx = self.partner_admin().in_partner();
        self.vault.policies(&ctx).create(policy(name, rules)).await.unwrap().id
    }

    async fn bind_shared(&self, policy: &str, of: &str, id: &str) -> String {
        let ctx = self.partner_admin().in_partner();
        self.vault.policies(&ctx).bind(policy, binding(Some(of), id)).await.unwrap().0.id
    }
}

fn binding(of: Option<&str>, id: &str) -> BindingWrite {
    BindingWrite {
        tenant_id: of.map(tenant),
        identity_type: IdentityType::User,
        identity_id: id.to_owned(),
        expires_at: None,
    }
}

async fn read(vault: &Vault, ctx: &Ctx, at: &str) -> Result<serde_json::Value, Code> {
    let secret = vault.secrets(ctx).get(&path(at), None).await.map_err(|error| error.code())?;
    Ok(secret.data.decode().unwrap())
}

contract! {
    async fn the_tenant_acted_on_is_the_callers_own_or_one_that_his_role_covers(t: Bench) {
        t.live_in().await;
        let before = t.raw.texts("SELECT tenant_id FROM tenant ORDER BY 1").await;
        let roles: [&[Role]; 5] = [&[], &[Role::TenantAdmin], &[Role::PartnerAdmin], &[Role::SuperAdmin],
            &[Role::TenantAdmin, Role::PartnerAdmin]];
        let mut entered = 0;
        for of in [ONE, TWO, FAR, BARE] {
            for roles in roles {
                for claimed in [home(of), None] {
                    for named in [ONE, TWO, FAR, BARE, "tnt_nothing", "TNT_ONE", "tnt_one.", "partner", "all"] {
                        let caller = somebody("user:x", of, roles).with_scopes([Scope::Admin]);
                        let caller = caller.with_partner(claimed.map(|id| PartnerId::parse(id).unwrap()));
                        let ctx = t.ctx(caller).for_tenant(tenant(named));
                        let found = t.vault.secrets(&ctx).list(ListFilter::default()).await;
                        let exists = before.iter().any(|known| known == named);
                        let admin = roles.contains(&Role::PartnerAdmin);
                        let expected = match () {
                            () if named == of => Ok(()),
                            () if roles.contains(&Role::SuperAdmin) && exists => Ok(()),
                            () if admin && exists && home(named) == home(of) => Ok(()),
                            () if !exists && (admin || roles.contains(&Role::SuperAdmin)) => Err(Code::TenantNotFound),
                            () => Err(Code::TenantAccessDenied),
                        };
                        let case = format!("{of} {roles:?} {claimed:?} {named}");
                        assert_eq!(found.as_ref().map(drop).map_err(|e| e.code()), expected, "{case}");
                        let trail = t.trail(&ctx).await;
                        assert_eq!(trail.len(), 1, "{case}");
                        let at = if expected.is_ok() { named } else { of };
                        assert_eq!((trail[0].tenant.as_str(), trail[0].acting_tenant.as_str()), (at, of), "{case}");
                        if expected.is_err() {
                            assert_eq!(trail[0].extra["target_tenant_id"], json!(named), "{case}");
                        } else if named != of {
                            entered += 1;
                        }
                    }
                }
            }
        }
        assert!(entered > 20, "{entered}");
        assert_eq!(t.raw.texts("SELECT tenant_id FROM tenant ORDER BY 1").await, before, "naming makes none");
    }

    async fn who_acts_on_another_tenant_is_on_record_there(t: Bench) {
        t.live_in().await;
        let ctx = t.partner_admin().for_tenant(tenant(TWO));
        assert_eq!(read(&t.vault, &ctx, "app/db").await, Ok(json!({"of": TWO})));
        t.vault.secrets(&ctx).put(&path("made"), any()).await.unwrap();
        assert_eq!(read(&t.vault, &ctx, "nothing").await, Err(Code::SecretNotFound));
        let trail = t.trail(&ctx).await;
        assert_eq!(trail.len(), 3);
        for record in &trail {
            assert_eq!((record.tenant.as_str(), record.acting_tenant.as_str()), (TWO, ONE));
            assert_eq!(record.identity, "user:partner-admin");
        }
        assert_eq!(trail[0].extra["granted_by"], json!("role:partner_admin"));
        // The trail of that tenant shows it to its own.
        let own = t.as_user("user:admin", TWO, &[Role::TenantAdmin]);
        let page = t.vault.audit(&own).query(AuditFilter::default()).await.unwrap();
        let acted = page.items.iter().filter(|log| log.acting_tenant_id == ONE).count();
        assert_eq!(acted, 3);
        assert!(page.items.iter().all(|log| log.tenant_id == TWO));
        assert_eq!(read(&t.vault, &own, "made").await, Ok(json!({"k": "v"})));
        // Scopes count there as at home.
        let narrow = t.ctx(somebody("user:n", ONE, &[Role::PartnerAdmin]).with_scopes([Scope::SecretsList]));
        let narrow = narrow.for_tenant(tenant(TWO));
        assert_eq!(read(&t.vault, &narrow, "app/db").await, Err(Code::InsufficientScope));
        assert_eq!(t.trail(&narrow).await[0].tenant, TWO);
        // Keys are made by who acts there first.
        let fresh = t.as_user("user:admin", BARE, &[Role::SuperAdmin]).for_tenant(tenant(FAR));
        assert_eq!(read(&t.vault, &fresh, "app/db").await, Ok(json!({"of": FAR})));
        assert_eq!(t.trail(&fresh).await[0].extra["granted_by"], json!("role:super_admin"));
    }

    async fn whose_token_and_tenant_disagree_about_the_partner_administers_none(t: Bench) {
        t.live_in().await;
        // His tenant belongs to the default partner; his token says otherwise.
        let caller = somebody("user:x", BARE, &[Role::PartnerAdmin]).with_scopes([Scope::Admin]);
        for partner in [PARTNER, "ptn_far"] {
            let caller = caller.clone().with_partner(PartnerId::parse(partner).unwrap());
            for named in [ONE, FAR] {
                let ctx = t.ctx(caller.clone()).for_tenant(tenant(named));
                assert_eq!(read(&t.vault, &ctx, "app/db").await, Err(Code::TenantAccessDenied));
            }
            assert_eq!(read(&t.vault, &t.ctx(caller.clone()), "app/db").await, Err(Code::AccessDenied));
        }
        let far = caller.with_partner(None);
        assert_eq!(read(&t.vault, &t.ctx(far), "app/db").await, Ok(json!({"of": BARE})));
    }

    async fn sec_c4_a_name_in_one_tenant_never_matches_the_same_in_another(t: Bench) {
        t.live_in().await;
        let builder = t.builder(root_key(7)).tenant_admin_bypass(false);
        let vault = builder.open().await.unwrap();
        let admin = t.as_user("user:admin", TWO, &[]);
        let made = vault.policies(&admin).create(policy("all", &[("**", &["admin"])])).await.unwrap();
        vault.policies(&admin).bind(&made.id, binding(None, "user:alice")).await.unwrap();
        let theirs = t.as_user("user:alice", TWO, &[]);
        let ours = t.as_user("user:alice", ONE, &[Role::PartnerAdmin]);
        for _ in 0..2 {
            assert_eq!(read(&vault, &theirs, "app/db").await, Ok(json!({"of": TWO})));
            for (named, denied) in [(TWO, Code::AccessDenied), (ONE, Code::AccessDenied), (FAR, Code::TenantAccessDenied)] {
                assert_eq!(read(&vault, &ours.clone().for_tenant(tenant(named)), "app/db").await, Err(denied));
            }
        }
        // What the partner gives to an identity of one tenant counts for that one, wherever it may act.
        let given = t.share_policy("given", &[("app/**", &["read"])]).await;
        t.bind_shared(&given, ONE, "user:alice").await;
        t.clock.advance(std::time::Duration::from_secs(1));
        for named in [ONE, TWO] {
            assert_eq!(read(&vault, &ours.clone().for_tenant(tenant(named)), "app/db").await, Ok(json!({"of": named})));
        }
        let third = t.as_user("user:alice", FAR, &[]);
        assert_eq!(read(&vault, &third, "app/db").await, Err(Code::AccessDenied));
        vault.policies(&admin).delete(&made.id, true).await.unwrap();
        assert_eq!(read(&vault, &theirs, "app/db").await, Err(Code::AccessDenied));
        assert_eq!(read(&vault, &ours.clone().for_tenant(tenant(TWO)), "app/db").await, Ok(json!({"of": TWO})));
        vault.close().await;
    }

    async fn what_a_partner_shares_is_read_by_his_tenants_and_by_nobody_else(t: Bench) {
        t.live_in().await;
        t.share("ca/root", json!({"pem": "x"})).await;
        for of in [ONE, TWO] {
            let ctx = t.ctx(somebody("user:plain", of, &[]).with_scopes([Scope::SecretsRead])).in_partner();
            let found = t.vault.secrets(&ctx).get(&path("ca/root"), None).await.unwrap();
            assert_eq!((found.item.scope, found.item.version), (Some("partner"), 1));
            let record = &t.trail(&ctx).await[0];
            assert_eq!((record.tenant.as_str(), record.acting_tenant.as_str()), ("partner ptn_one", of));
            assert_eq!(record.extra["granted_by"], json!("partner"));
            assert_eq!(read(&t.vault, &ctx, "nothing").await, Err(Code::SecretNotFound));
            let none = t.ctx(somebody("user:plain", of, &[]).with_scopes([Scope::SecretsList])).in_partner();
            assert_eq!(read(&t.vault, &none, "ca/root").await, Err(Code::InsufficientScope));
        }
        for of in [FAR, BARE] {
            for roles in [&[][..], &[Role::TenantAdmin], &[Role::PartnerAdmin]] {
                let ctx = t.as_user("user:x", of, roles).in_partner();
                let there = refusal(t.vault.secrets(&ctx).get(&path("ca/root"), None).await);
                let not = refusal(t.vault.secrets(&ctx).get(&path("ca/boot"), None).await);
                assert_eq!(there.code(), Code::SecretNotFound);
                assert_eq!((there.message(), there.details()), (not.message(), not.details()));
                assert!(t.vault.secrets(&ctx).list(ListFilter::default()).await.unwrap().items.is_empty());
            }
        }
        // Not even by its name.
        assert_eq!(read(&t.vault, &t.as_user("user:x", ONE, &[Role::TenantAdmin]), "ca/root").await, Err(Code::SecretNotFound));
        let foreign = t.as_user("user:x", ONE, &[]).for_tenant(tenant(TWO)).in_partner();
        assert_eq!(read(&t.vault, &foreign, "ca/root").await, Err(Code::TenantAccessDenied));
        let above = t.as_user("user:x", FAR, &[Role::SuperAdmin]).for_tenant(tenant(TWO)).in_partner();
        assert_eq!(read(&t.vault, &above, "ca/root").await, Ok(json!({"pem": "x"})));
    }

    async fn what_a_partner_shares_is_changed_by_his_admins_and_whom_his_policies_name(t: Bench) {
        t.live_in().await;
        t.share("ca/root", json!({"n": 1})).await;
        for roles in [&[][..], &[Role::TenantAdmin]] {
            let ctx = t.as_user("user:u", TWO, roles).in_partner();
            let secrets = t.vault.secrets(&ctx);
            for refused in [
                code(secrets.put(&path("ca/root"), any()).await),
                code(secrets.put(&path("new"), any()).await),
                code(secrets.patch(&path("ca/root"), SecretPatch::default()).await),
                code(secrets.delete(&path("ca/root"), true).await),
                code(secrets.restore(&path("ca/root")).await),
            ] {
                assert_eq!(refused, Code::AccessDenied);
            }
            assert_eq!(t.trail(&ctx).await[0].tenant, "partner ptn_one");
        }
        let given = t.share_policy("writers", &[("ca/*", &["write"])]).await;
        t.bind_shared(&given, TWO, "user:u").await;
        let ctx = t.as_user("user:u", TWO, &[]).in_partner();
        let written = t.vault.secrets(&ctx).put(&path("ca/root"), write(json!({"n": 2}))).await.unwrap();
        assert_eq!((written.created, written.item.version, written.item.scope), (false, 2, Some("partner")));
        assert_eq!(code(t.vault.secrets(&ctx).put(&path("other"), any()).await), Code::AccessDenied);
        assert_eq!(code(t.vault.secrets(&ctx).delete(&path("ca/root"), false).await), Code::AccessDenied);
        let namesake = t.as_user("user:u", ONE, &[]).in_partner();
        assert_eq!(code(t.vault.secrets(&namesake).put(&path("ca/root"), any()).await), Code::AccessDenied);
        // A policy of a tenant grants nothing there.
        let admin = t.as_user("user:admin", ONE, &[Role::TenantAdmin]);
        let own = t.vault.policies(&admin).create(policy("own", &[("**", &["admin"])])).await.unwrap();
        t.vault.policies(&admin).bind(&own.id, binding(None, "user:u")).await.unwrap();
        assert_eq!(code(t.vault.secrets(&namesake).put(&path("ca/root"), any()).await), Code::AccessDenied);

        // Its whole life, by an admin.
        let ctx = t.partner_admin().in_partner();
        let secrets = t.vault.secrets(&ctx);
        assert_eq!(secrets.metadata(&path("ca/root")).await.unwrap().version_count, Some(2));
        assert_eq!(secrets.versions(&path("ca/root")).await.unwrap().len(), 2);
        secrets.delete(&path("ca/root"), false).await.unwrap();
        let reader = t.as_user("user:r", TWO, &[]).in_partner();
        assert_eq!(read(&t.vault, &reader, "ca/root").await, Err(Code::SecretNotFound));
        secrets.restore(&path("ca/root")).await.unwrap();
        assert_eq!(read(&t.vault, &reader, "ca/root").await, Ok(json!({"n": 2})));
        // Nothing else is in there.
        for refused in [
            code(t.vault.pki(&ctx).cas(None, None).await),
            code(t.vault.statistics(&ctx).await),
            code(t.vault.keys(&ctx).status().await),
        ] {
            assert_eq!(refused, Code::Forbidden);
        }
    }

    async fn jobs_come_to_what_a_partner_shares(t: Bench) {
        t.live_in().await;
        let ctx = t.partner_admin().in_partner();
        let ends = SecretWrite {
            options: scaivault_core::secrets::WriteOptions {
                expires: Some(Some(Expires::At(t.now() + 1.hours()))),
                ..Default::default()
            },
            ..any()
        };
        t.vault.secrets(&ctx).put(&path("ends"), ends).await.unwrap();
        t.vault.secrets(&ctx).put(&path("gone"), any()).await.unwrap();
        t.vault.secrets(&ctx).delete(&path("gone"), false).await.unwrap();
        t.clock.advance(std::time::Duration::from_secs(40 * 86_400));
        t.vault.run_due_jobs().await.unwrap();
        let store = "tenant_id = 'partner ptn_one'";
        assert_eq!(t.raw.texts(&format!("SELECT path FROM secret WHERE {store}")).await, ["ends"]);
        assert_eq!(t.raw.count(&format!("event_outbox WHERE {store} AND event_type = 'secret.expired'")).await, 1);
        // Who may read it may not read what has expired; an admin may.
        let reader = t.as_user("user:r", TWO, &[]).in_partner();
        assert_eq!(read(&t.vault, &reader, "ends").await, Err(Code::SecretNotFound));
        assert_eq!(read(&t.vault, &t.partner_admin().in_partner(), "ends").await, Ok(json!({"k": "v"})));
        // Its keys are rotated like those of tenants, and everything opens.
        let operator = t.ctx(Caller::system("key-rotation", tenant("tnt_operator")).unwrap());
        t.vault.keys(&operator).rotate_partner(&PartnerId::parse(PARTNER).unwrap()).await.unwrap();
        let report = t.vault.keys(&operator).verify(scaivault_core::keys::Verify::All).await.unwrap();
        assert!(report.broken_total == 0 && report.checked.data_keys >= 5, "{report:?}");
        assert_eq!(read(&t.vault, &t.partner_admin().in_partner(), "ends").await, Ok(json!({"k": "v"})));
        let trail = t.vault.audit(&t.partner_admin().in_partner()).query(AuditFilter::default()).await.unwrap();
        assert!(trail.items.iter().any(|log| log.action == "secret_purge" && log.identity_id == "system:secret-purge"));
        assert!(trail.items.iter().all(|log| log.tenant_id == "partner ptn_one"));
    }

    async fn a_list_with_what_the_partner_shares_is_one_list(t: Bench) {
        t.live_in().await;
        for at in ["app/db", "app/z", "b", "c/x"] {
            t.share(at, json!({})).await;
        }
        let admin = t.as_user("user:admin", TWO, &[Role::TenantAdmin]);
        for at in ["a", "app/y", "b", "d", "hidden/a", "hidden/b"] {
            t.vault.secrets(&admin).put(&path(at), any()).await.unwrap();
        }
        let some = t.vault.policies(&admin).create(policy("some", &[("?", &["list"]), ("app/*", &["list"])])).await.unwrap();
        t.vault.policies(&admin).bind(&some.id, binding(None, "user:u")).await.unwrap();
        let expected = [("a", None), ("app/db", None), ("app/db", Some("partner")), ("app/y", None),
            ("app/z", Some("partner")), ("b", None), ("b", Some("partner")), ("c/x", Some("partner")), ("d", None)];
        let expected: Vec<_> = expected.map(|(at, scope)| (at.to_owned(), scope)).into();
        for limit in [1, 2, 3, 4, 100] {
            let (mut found, mut cursor) = (Vec::new(), None);
            loop {
                let filter = ListFilter { include_partner: true, limit: Some(limit), cursor, ..ListFilter::default() };
                let ctx = t.as_user("user:u", TWO, &[]);
                let page = t.vault.secrets(&ctx).list(filter).await.unwrap();
                assert!(page.items.len() <= limit as usize);
                found.extend(page.items.into_iter().map(|item| (item.path, item.scope)));
                let Some(next) = page.cursor else { break };
                cursor = Some(next);
            }
            assert_eq!(found, expected, "{limit}");
        }
        let filter = |prefix: &str| ListFilter { prefix: Some(prefix.to_owned()), include_partner: true, ..ListFilter::default() };
        let ctx = t.as_user("user:u", TWO, &[]);
        let some = t.vault.secrets(&ctx).list(filter("c/")).await.unwrap();
        assert_eq!(some.items.iter().map(|item| item.path.as_str()).collect::<Vec<_>>(), ["c/x"]);
        let own = t.vault.secrets(&ctx).list(ListFilter::default()).await.unwrap();
        assert!(own.items.iter().all(|item| item.scope.is_none()));
        // A cursor of the one list is none of the other.
        let first = t.vault.secrets(&ctx).list(ListFilter { limit: Some(1), ..ListFilter::default() }).await.unwrap();
        let mixed = ListFilter { cursor: first.cursor, ..filter("") };
        let mixed = ListFilter { prefix: None, ..mixed };
        assert_eq!(code(t.vault.secrets(&ctx).list(mixed).await), Code::InvalidCursor);
        // Another partner's tenant sees its own alone.
        let far = t.as_user("user:admin", FAR, &[Role::TenantAdmin]);
        let far = t.vault.secrets(&far).list(filter("")).await.unwrap();
        assert_eq!(far.items.iter().map(|item| (item.path.as_str(), item.scope)).collect::<Vec<_>>(), [("app/db", None)]);
    }

    async fn sec_c5_a_row_that_is_moved_between_a_partner_and_his_tenant_does_not_open(t: Bench) {
        t.live_in().await;
        t.share("app/db", json!({"of": "all"})).await;
        let columns = ["ciphertext", "wrapped_key", "key_id"];
        for (from, to) in [("partner ptn_one", ONE), (ONE, "partner ptn_one")] {
            t.raw.execute("CREATE TABLE held AS SELECT * FROM secret_version").await;
            let sets = columns.map(|c| format!("{c} = (SELECT h.{c} FROM held h WHERE h.tenant_id = '{from}')"));
            let moved = format!("UPDATE secret_version SET {} WHERE tenant_id = '{to}'", sets.join(", "));
            assert_eq!(t.raw.execute(&moved).await, 1);
            let ctx = t.as_user("user:x", ONE, &[Role::SuperAdmin]);
            let ctx = if to == ONE { ctx } else { ctx.in_partner() };
            assert_eq!(read(&t.vault, &ctx, "app/db").await, Err(Code::InternalError), "{from} to {to}");
            let sets = columns.map(|c| format!("{c} = (SELECT h.{c} FROM held h WHERE h.tenant_id = '{to}')"));
            t.raw.execute(&format!("UPDATE secret_version SET {} WHERE tenant_id = '{to}'", sets.join(", "))).await;
            t.raw.execute("DROP TABLE held").await;
            read(&t.vault, &ctx, "app/db").await.unwrap();
        }
    }

    async fn what_a_partner_takes_back_is_allowed_nowhere_a_second_later(t: Bench) {
        t.live_in().await;
        let replica = t.replica().await;
        let given = t.share_policy("given", &[("app/**", &["read"])]).await;
        let users = [ONE, TWO].map(|of| (of, t.as_user("user:u", of, &[])));
        let new = |ctx: &Ctx| t.ctx(ctx.caller().clone());
        for (_, user) in &users {
            assert_eq!(read(&replica, user, "app/db").await, Err(Code::AccessDenied));
        }
        let mut bound = Vec::new();
        for (of, _) in &users {
            bound.push(t.bind_shared(&given, of, "user:u").await);
        }
        for (of, user) in &users {
            assert_eq!(read(&t.vault, &new(user), "app/db").await, Ok(json!({"of": of})), "at once where it was given");
        }
        t.clock.advance(std::time::Duration::from_secs(1));
        for (of, user) in &users {
            assert_eq!(read(&replica, &new(user), "app/db").await, Ok(json!({"of": of})));
        }
        let ctx = t.partner_admin().in_partner();
        t.vault.policies(&ctx).unbind(&given, &bound[1]).await.unwrap();
        assert_eq!(read(&t.vault, &new(&users[1].1), "app/db").await, Err(Code::AccessDenied));
        t.clock.advance(std::time::Duration::from_secs(1));
        assert_eq!(read(&replica, &new(&users[1].1), "app/db").await, Err(Code::AccessDenied));
        assert_eq!(read(&replica, &new(&users[0].1), "app/db").await, Ok(json!({"of": ONE})));
        replica.close().await;
    }

    async fn policies_of_a_partner_are_his_admins_matter(t: Bench) {
        t.live_in().await;
        let given = t.share_policy("Given", &[("app/**", &["read"])]).await;
        for (of, roles) in [(ONE, &[][..]), (TWO, &[Role::TenantAdmin])] {
            let ctx = t.as_user("user:x", of, roles).in_partner();
            let policies = t.vault.policies(&ctx);
            for refused in [
                code(policies.list(true, None, None).await),
                code(policies.read(&given).await),
                code(policies.create(policy("mine", &[("**", &["admin"])])).await),
                code(policies.bind(&given, binding(Some(of), "user:x")).await),
                code(policies.delete(&given, true).await),
                code(t.vault.audit(&ctx).query(AuditFilter::default()).await),
            ] {
                assert_eq!(refused, Code::Forbidden);
            }
        }
        // By its identifier it is none of a tenant's.
        let admin = t.partner_admin();
        assert_eq!(code(t.vault.policies(&admin).read(&given).await), Code::PolicyNotFound);
        assert_eq!(code(t.vault.policies(&admin).delete(&given, true).await), Code::PolicyNotFound);
        // Names are apart as well, and only identities of the partner's tenants are bound.
        t.vault.policies(&admin).create(policy("given", &[("x", &["read"])])).await.unwrap();
        let ctx = t.partner_admin().in_partner();
        let policies = t.vault.policies(&ctx);
        assert_eq!(code(policies.create(policy("given", &[("x", &["read"])])).await), Code::NameConflict);
        for of in [None, Some(FAR), Some(BARE), Some("tnt_nothing")] {
            let error = refusal(policies.bind(&given, binding(of, "user:u")).await);
            assert_eq!(error.code(), Code::ValidationError, "{of:?}");
            assert!(error.details().fields.contains_key("tenant_id"));
        }
        let wrong = refusal(t.vault.policies(&admin).bind(&given, binding(Some(TWO), "user:u")).await);
        assert!(wrong.details().fields.contains_key("tenant_id"));
        for of in [ONE, TWO] {
            let (bound, new) = policies.bind(&given, binding(Some(of), "user:u")).await.unwrap();
            assert!(new && bound.tenant_id.as_deref() == Some(of));
        }
        assert!(!policies.bind(&given, binding(Some(TWO), "user:u")).await.unwrap().1);
        let stored = policies.read(&given).await.unwrap();
        assert_eq!((stored.scope, stored.bindings.len()), ("partner", 2));
        let listed = policies.list(false, None, None).await.unwrap();
        assert_eq!((listed.items.len(), listed.items[0].scope, listed.items[0].binding_count), (1, "partner", 2));
        assert_eq!(t.trail(&ctx).await.last().unwrap().tenant, "partner ptn_one");
    }

    async fn looking_through_the_policies_of_a_tenant_shows_what_its_partner_gives_to_it(t: Bench) {
        t.live_in().await;
        let given = t.share_policy("given", &[("app/**", &["read"])]).await;
        t.bind_shared(&given, TWO, "user:u").await;
        t.bind_shared(&given, ONE, "user:other").await;
        let admin = t.as_user("user:admin", TWO, &[Role::TenantAdmin]);
        let question = |id: &str| Question::new(IdentityType::User, id, "app/db", Permission::Read);
        let policies = t.vault.policies(&admin);
        assert!(policies.test(&question("user:u")).await.unwrap().is_allowed());
        assert!(!policies.test(&question("user:other")).await.unwrap().is_allowed());
        let explained = policies.explain(&question("user:u")).await.unwrap();
        let rule = explained.considered.iter().find(|rule| rule.policy.id == given).unwrap();
        assert!(rule.allows && rule.bindings.len() == 1);
        let other = policies.explain(&question("user:other")).await.unwrap();
        let rule = other.considered.iter().find(|rule| rule.policy.id == given).unwrap();
        assert!(!rule.allows && rule.bindings.is_empty());
        let who = policies.who_can("app/db", Permission::Read, None, None).await.unwrap();
        let named: Vec<_> = who.identities.items.iter().map(|row| row.identity_id.as_str()).collect();
        assert_eq!(named, ["user:u"], "whom it names in other tenants is nobody's business here");
        assert_eq!(who.built_in, ["system", "role:tenant_admin", "role:partner_admin", "role:super_admin"]);

        // Of what is shared, too.
        let ctx = t.partner_admin().in_partner();
        let policies = t.vault.policies(&ctx);
        let of = |of: &str, permission| Question {
            tenant_id: Some(tenant(of)),
            permission,
            ..question("user:u")
        };
        let verdict = policies.test(&of(ONE, Permission::Read)).await.unwrap();
        assert_eq!(serde_json::to_value(verdict).unwrap()["granted_by"], json!("partner"));
        assert!(!policies.test(&of(ONE, Permission::Write)).await.unwrap().is_allowed());
        assert!(!policies.test(&of(TWO, Permission::Write)).await.unwrap().is_allowed());
        assert_eq!(code(policies.test(&question("user:u")).await), Code::ValidationError);
        let writers = t.share_policy("writers", &[("app/*", &["write"])]).await;
        t.bind_shared(&writers, TWO, "user:u").await;
        assert!(policies.test(&of(TWO, Permission::Write)).await.unwrap().is_allowed());
        assert!(!policies.test(&of(ONE, Permission::Write)).await.unwrap().is_allowed());
        let who = policies.who_can("app/db", Permission::Write, None, None).await.unwrap();
        let named: Vec<_> = who.identities.items.iter().map(|row| row.tenant_id.clone().unwrap()).collect();
        assert_eq!(named, [tenant(TWO)]);
        let who = policies.who_can("app/db", Permission::Read, None, None).await.unwrap();
        assert_eq!(who.built_in, ["system", "role:partner_admin", "role:super_admin", "partner"]);
    }

    async fn a_draft_is_held_against_what_a_partner_gave(t: Bench) {
        t.live_in().await;
        let given = t.share_policy("given", &[("app/**", &["read"])]).await;
        t.bind_shared(&given, TWO, "user:u").await;
        let user = t.as_user("user:u", TWO, &[]);
        read(&t.vault, &user, "app/db").await.unwrap();
        let admin = t.as_user("user:admin", TWO, &[Role::TenantAdmin]);
        let draft = scaivault_core::policy::Draft {
            policy_id: Some(given),
            rules: narrowed().rules().to_vec(),
            bindings: None,
            days: None,
            limit: None,
            cursor: None,
        };
        let diff = t.vault.policies(&admin).diff(&draft).await.unwrap();
        assert_eq!(diff.flips.len(), 1, "{diff:?}");
        assert_eq!((diff.flips[0].path.as_str(), diff.flips[0].today.allowed), ("app/db", true));
    }

    async fn sec_a4_tenants_whose_names_look_alike_are_refused_when_they_are_first_made(t: Bench) {
        t.live_in().await;
        let before = t.raw.texts("SELECT tenant_id FROM tenant ORDER BY 1").await;
        for bad in ["TNT_ONE", "Tnt_One", "tnt_ONE", "root", "ROOT", "system", "sYstem", "default", "Default", ".", ".."] {
            for _ in 0..2 {
                let caller = Caller::user("user:admin", tenant(bad)).unwrap();
                let caller = caller.with_scopes([Scope::Admin]).with_roles([Role::TenantAdmin]);
                let ctx = t.ctx(caller.with_partner(PartnerId::parse(PARTNER).unwrap()));
                let error = refusal(t.vault.secrets(&ctx).put(&path("a"), any()).await);
                assert_eq!(error.code(), Code::TenantAccessDenied, "{bad}");
                assert_eq!(code(t.vault.secrets(&ctx.in_partner()).list(ListFilter::default()).await), Code::TenantAccessDenied);
            }
        }
        for good in ["tnt_one2", "tnt-one", "rooted"] {
            let caller = Caller::user("user:admin", tenant(good)).unwrap();
            let ctx = t.ctx(caller.with_scopes([Scope::Admin]).with_roles([Role::TenantAdmin]));
            t.vault.secrets(&ctx).put(&path("a"), any()).await.unwrap();
        }
        // What was refused is on record, and who looks after the trail gets to it.
        let job = t.ctx(Caller::system("audit-verify", tenant("root")).unwrap());
        t.vault.audit(&job).verify(ProofRange { from: None, to: None }).await.unwrap();
        assert_eq!(t.raw.count("audit_trail WHERE tenant_id = 'root' AND NOT success").await, 4);
        assert_eq!(t.raw.count("tenant").await, before.len() + 3);
        // Those of before go on: here one that differs by case alone, as an earlier build let it.
        let columns = "tenant_id, partner_id, partner_named, policy_epoch, created_at";
        t.raw.execute(&format!("INSERT INTO tenant ({columns}, name_key) SELECT 'TNT_ONE', partner_id, partner_named, 0, \
            created_at, 'tnt_one TNT_ONE' FROM tenant WHERE tenant_id = '{ONE}'")).await;
        let caller = somebody("user:admin", "TNT_ONE", &[Role::TenantAdmin]).with_scopes([Scope::Admin]);
        t.vault.secrets(&t.ctx(caller)).put(&path("a"), any()).await.unwrap();
        assert_eq!(read(&t.vault, &t.as_user("user:admin", ONE, &[Role::TenantAdmin]), "a").await, Err(Code::SecretNotFound));
    }
}

fn narrowed() -> PolicyDocument {
    policy("given", &[("app/web", &["read"])])
}

/// The first column of every row, or SQLSTATE.
async fn ask(connection: &mut PgConnection, sql: &str) -> Result<Vec<String>, String> {
    match sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await {
        Ok(rows) => Ok(rows),
        Err(sqlx::Error::Database(error)) => Err(error.code().unwrap().into_owned()),
        Err(other) => panic!("{sql}: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_c2_tenants_see_the_secrets_that_their_partner_shares_and_can_do_nothing_else_to_them() {
    on_postgres(|t| async move {
        t.live_in().await;
        let tagged = Metadata::new(json!({"tags": ["a"]}).as_object().unwrap().clone()).unwrap();
        let shared = SecretWrite { metadata: Some(tagged), ..any() };
        let ctx = t.partner_admin().in_partner();
        t.vault.secrets(&ctx).put(&path("ca/root"), shared).await.unwrap();
        let given = t.share_policy("given", &[("app/**", &["read"])]).await;
        t.bind_shared(&given, TWO, "user:u").await;
        let tables = ["secret", "secret_tag", "secret_version"];
        let url = t.scratch.as_ref().unwrap().url_of("scaivault_app");
        let mut app = PgConnection::connect(&url).await.unwrap();
        let as_tenant = "SELECT set_config('scaivault.tenant', $1, false)";
        for (of, sees) in [(ONE, 1), (TWO, 1), (FAR, 0), (BARE, 0), ("", 0), ("tnt_nothing", 0), ("partner ptn_far", 0)] {
            sqlx::query(as_tenant).bind(of).execute(&mut app).await.unwrap();
            for table in tables {
                let rows = format!("SELECT tenant_id FROM {table} WHERE tenant_id LIKE 'partner %'");
                assert_eq!(ask(&mut app, &rows).await.unwrap().len(), sees, "{of} {table}");
                let others = format!("SELECT tenant_id FROM {table} WHERE tenant_id NOT IN ('{of}', 'partner ptn_one')");
                assert_eq!(ask(&mut app, &others).await.unwrap(), [""; 0], "{of} {table}");
                for change in [
                    format!("DELETE FROM {table} WHERE tenant_id LIKE 'partner %' RETURNING tenant_id"),
                    format!("UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id LIKE 'partner %' RETURNING tenant_id"),
                    format!("SELECT tenant_id FROM {table} WHERE tenant_id LIKE 'partner %' FOR UPDATE"),
                ] {
                    assert_eq!(ask(&mut app, &change).await, Ok(Vec::new()), "{of} {change}");
                }
            }
            let insert = "INSERT INTO secret_tag (tenant_id, secret_id, tag, path) \
                SELECT 'partner ptn_one', secret_id, 'b', path FROM secret_tag RETURNING tenant_id";
            let expected = if sees == 1 { Err("42501".to_owned()) } else { Ok(Vec::new()) };
            assert_eq!(ask(&mut app, insert).await, expected, "{of}");
            for table in ["policy", "policy_binding", "tenant_key", "audit_log", "event_outbox", "tenant"] {
                let rows = format!("SELECT tenant_id FROM {table} WHERE tenant_id LIKE 'partner %'");
                assert_eq!(ask(&mut app, &rows).await, Ok(Vec::new()), "{of} {table}");
            }
        }
        app.close().await.unwrap();
    })
    .await;
}
