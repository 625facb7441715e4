//! The directory: what the identity provider tells takes effect at once, whatever the order in which it arrives.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use scaivault_core::{
    Caller, Code, Ctx, Error, IdentityType, PartnerId, Result, Role, Scope, TenantId, Vault,
    identities::{
        Delivery, IdentityPage, IdentitySource, PageOf, Received, SourceGroup, SourceMember, SourcePartner,
        SourceTenant, SourceUser, WebhookSecrets,
    },
    rfc3339,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::bench::{ACME, Bench, OTHER, bind_user, code, contract, path, policy, refusal, root_key, tenant};

const SECRET: &[u8] = b"a secret of the identity provider";
const SECOND: Duration = Duration::from_secs(1);
const SYNC: Duration = Duration::from_secs(900);

fn secrets() -> Arc<WebhookSecrets> {
    Arc::new(WebhookSecrets::new([SECRET]).unwrap())
}

/// A vault that takes events, and syncs from `source` if there is one.
async fn fed(t: &Bench, source: Option<&FakeScaiKey>) -> Vault {
    let builder = t.builder(root_key(7)).webhook_secrets(secrets());
    let builder = match source {
        Some(source) => builder.identity_source(Arc::new(source.clone()), SYNC),
        None => builder,
    };
    builder.open().await.unwrap()
}

/// Sends an event as the provider does.
async fn deliver(t: &Bench, vault: &Vault, event: &Value) -> Result<Received> {
    let body = event.to_string();
    let time = t.now().unix_timestamp();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let tag = hex::encode(hmac::sign(&key, format!("{time}.{body}").as_bytes()));
    let signature = format!("t={time},v1={tag}");
    let delivery = Delivery {
        signature: Some(&signature),
        sent_at: None,
        body: body.as_bytes(),
        from: [192, 0, 2, 1].into(),
        request_id: "req_event",
    };
    vault.receive_identity_event(delivery).await
}

fn event(id: &str, kind: &str, at: OffsetDateTime, about: (&str, &str), data: Value) -> Value {
    json!({
        "event_id": id, "event_type": kind, "timestamp": rfc3339(at), "tenant_id": ACME, "partner_id": "ptn_acme",
        "resource": { "type": about.0, "id": about.1 }, "actor": { "id": "usr_root", "type": "user" }, "data": data,
    })
}

/// Sends an event of this moment, which has to be taken over.
async fn tell(t: &Bench, vault: &Vault, kind: &str, about: (&str, &str), data: Value) {
    let id = format!("evt_{}", t.admin().request_id());
    let received = deliver(t, vault, &event(&id, kind, t.now(), about, data)).await.unwrap();
    assert_eq!(received, Received { success: true, handled: true, duplicate: false }, "{kind}");
}

/// A token of somebody, issued at a time.
fn token(t: &Bench, vault: &Vault, id: &str, issued: OffsetDateTime) -> Ctx {
    vault.ctx(caller(id).with_validity(issued, t.now() + Duration::from_secs(3600))).unwrap()
}

fn caller(id: &str) -> Caller {
    Caller::user(id, tenant(ACME)).unwrap().with_scopes([Scope::Admin])
}

async fn enters(vault: &Vault, ctx: &Ctx) -> Result<()> {
    vault.secrets(ctx).list(Default::default()).await.map(drop)
}

async fn alice(t: &Bench, vault: &Vault) {
    tell(t, vault, "tenant.created", ("tenant", ACME), json!({ "name": "Acme", "partner_id": "ptn_acme" }))
        .await;
    let data = json!({ "email": "alice@acme.example", "display_name": "Alice", "external_id": "okta|alice" });
    tell(t, vault, "user.created", ("user", "usr_alice"), data).await;
}

contract! {
    async fn sec_d2_who_is_suspended_or_deleted_is_refused_at_once_and_elsewhere_within_a_second(t: Bench) {
        let (here, there) = (fed(&t, None).await, fed(&t, None).await);
        alice(&t, &here).await;
        let issued = t.now();
        let ids = ["user:alice@acme.example", "usr_alice", "okta|alice"];
        let steps = [
            ("user.suspended", ("user", "usr_alice"), json!({}), false),
            ("user.activated", ("user", "usr_alice"), json!({}), true),
            ("user.updated", ("user", "usr_alice"), json!({ "status": "SUSPENDED" }), false),
            ("user.updated", ("user", "usr_alice"), json!({ "status": "active" }), true),
            ("tenant.updated", ("tenant", ACME), json!({ "status": "SUSPENDED" }), false),
            ("tenant.updated", ("tenant", ACME), json!({ "status": "ACTIVE" }), true),
            ("partner.updated", ("partner", "ptn_acme"), json!({ "status": "SUSPENDED" }), false),
            ("partner.updated", ("partner", "ptn_acme"), json!({ "status": "ACTIVE" }), true),
            ("user.deleted", ("user", "usr_alice"), json!({}), false),
        ];
        for (kind, about, data, open) in steps {
            for vault in [&here, &there] {
                // Known on both from before.
                let _ = enters(vault, &token(&t, vault, ids[0], issued)).await;
            }
            t.clock.advance(SECOND);
            tell(&t, &here, kind, about, data).await;
            for id in ids {
                let done = enters(&here, &token(&t, &here, id, issued)).await;
                assert_eq!(done.as_ref().err().map(Error::code), (!open).then_some(Code::TokenRevoked), "{kind} {id}");
            }
            t.clock.advance(SECOND);
            let done = enters(&there, &token(&t, &there, ids[0], issued)).await;
            assert_eq!(done.err().map(|error| error.code()), (!open).then_some(Code::TokenRevoked), "{kind}, elsewhere");
        }
        // Nobody whom the directory does not name by every byte.
        for id in ["user:Alice@acme.example", "user:alice@acme.example.", "user:alicе@acme.example", "user:alice"] {
            if let Ok(caller) = Caller::user(id, tenant(ACME)) {
                let caller = caller.with_scopes([Scope::Admin]);
                assert!(enters(&here, &here.ctx(caller).unwrap()).await.is_ok(), "{id}");
            }
        }
        let other = Caller::user(ids[0], tenant(OTHER)).unwrap().with_scopes([Scope::Admin]);
        assert!(enters(&here, &here.ctx(other).unwrap()).await.is_ok(), "the name in another tenant is another's");
        // A refusal is on record; and what was closed stays closed where nothing feeds the directory.
        let refused = t.raw.trail("error_code = 'token_revoked'").await;
        assert!(refused.iter().any(|record| record.identity == "usr_alice"), "{refused:?}");
        let unfed = t.replica().await;
        assert_eq!(code(enters(&unfed, &token(&t, &unfed, ids[0], issued)).await), Code::TokenRevoked);
        for vault in [here, there, unfed] {
            vault.close().await;
        }
    }

    async fn sec_c1_a_tenant_that_was_deleted_is_one_that_is_not_there(t: Bench) {
        let vault = fed(&t, None).await;
        alice(&t, &vault).await;
        // The tenant of the partner's admin is another one of the same partner.
        let admin = || {
            let admin = Caller::user("user:partner", tenant(OTHER)).unwrap().with_scopes([Scope::Admin]);
            vault.ctx(admin.with_roles([Role::PartnerAdmin]).with_partner(PartnerId::parse("ptn_acme").unwrap())).unwrap()
        };
        enters(&vault, &token(&t, &vault, "user:somebody", t.now())).await.unwrap();
        enters(&vault, &admin().for_tenant(tenant(ACME))).await.unwrap();
        tell(&t, &vault, "tenant.deleted", ("tenant", ACME), json!({})).await;
        let gone = refusal(enters(&vault, &admin().for_tenant(tenant(ACME))).await);
        let never = refusal(enters(&vault, &admin().for_tenant(tenant("tnt_never"))).await);
        assert_eq!((gone.code(), gone.message()), (never.code(), never.message()));
        assert_eq!(gone.code(), Code::TenantNotFound);
    }

    async fn sec_d2_events_that_are_late_doubled_or_out_of_order_end_alike(t: Bench) {
        let vault = fed(&t, None).await;
        let at = |minute: u64| t.now() - Duration::from_secs(60) * (20 - minute) as u32;
        let event = |id: &str, kind: &str, minute: u64, about: (&str, &str), data: Value| event(id, kind, at(minute), about, data);
        let (a, g) = (("user", "usr_a"), ("group", "grp_g"));
        let member = json!({ "user_id": "usr_a" });
        let news = [
            event("evt_01", "user.created", 1, a, json!({ "email": "a@acme.example" })),
            event("evt_02", "user.updated", 2, a, json!({ "email": "b@acme.example", "roles": ["tenant_admin", "cook"] })),
            event("evt_03", "user.mfa_enabled", 3, a, json!({})),
            event("evt_04", "user.suspended", 4, a, json!({})),
            // The same moment: the greater event has the last word.
            event("evt_05", "user.activated", 5, a, json!({})),
            event("evt_06", "user.deleted", 5, a, json!({})),
            event("evt_07", "group.created", 1, g, json!({ "name": "G", "slug": "g" })),
            event("evt_08", "group.member_added", 2, g, member.clone()),
            event("evt_09", "group.member.removed", 3, g, member.clone()),
            event("evt_10", "group_membership.added", 4, ("group", "grp_g"), member),
            event("evt_11", "group.deleted", 6, g, json!({})),
            event("evt_12", "tenant.updated", 3, ("tenant", ACME), json!({ "status": "suspended", "name": "Acme" })),
            event("evt_13", "tenant.updated", 4, ("tenant", ACME), json!({ "status": "active" })),
            event("evt_14", "partner.created", 2, ("partner", "ptn_acme"), json!({ "name": "Partner" })),
        ];
        let mut expected: Option<Vec<Vec<Vec<Option<String>>>>> = None;
        for seed in 0..8_u64 {
            let mut order: Vec<&Value> = news.iter().chain(&news).collect();
            let mut dice = seed;
            for last in (1..order.len()).rev() {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                order.swap(last, (dice >> 33) as usize % (last + 1));
            }
            if seed == 0 {
                order = news.iter().collect();
            }
            for table in ["idp_user", "idp_user_name", "idp_group", "idp_membership", "idp_tenant", "idp_partner", "idp_event"] {
                t.raw.execute(&format!("DELETE FROM {table}")).await;
            }
            for news in order {
                assert!(deliver(&t, &vault, news).await.unwrap().success, "{news}");
            }
            let mut found = Vec::new();
            for select in [
                "SELECT user_id, status, email, CAST(mfa_enabled AS TEXT), CAST(roles AS TEXT), CAST(state AS TEXT) FROM idp_user",
                "SELECT name, user_id FROM idp_user_name ORDER BY name",
                "SELECT group_id, status, slug, CAST(state AS TEXT) FROM idp_group",
                "SELECT group_id, user_id, status, membership_type, CAST(state AS TEXT) FROM idp_membership",
                "SELECT tenant_id, partner_id, status, name, CAST(state AS TEXT) FROM idp_tenant",
                "SELECT partner_id, status, name, CAST(state AS TEXT) FROM idp_partner",
            ] {
                found.push(t.raw.rows(select).await);
            }
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(&found, expected, "seed {seed}");
        }
        let found = expected.unwrap();
        assert_eq!(found[0][0][1].as_deref(), Some("DELETED"));
        assert_eq!(found[0][0][2].as_deref(), Some("b@acme.example"));
        assert_eq!(found[1].len(), 3, "both addresses and the id");
        assert_eq!(found[3][0][2].as_deref(), Some("ACTIVE"), "added again after he was removed");
        assert_eq!(found[4][0][2].as_deref(), Some("ACTIVE"));
        // By his former address he is refused as well.
        for id in ["user:a@acme.example", "user:b@acme.example", "usr_a"] {
            assert_eq!(code(enters(&vault, &token(&t, &vault, id, t.now())).await), Code::TokenRevoked, "{id}");
        }
        vault.close().await;
    }

    async fn sec_k6_an_event_counts_once_also_when_two_replicas_get_it_at_once(t: Bench) {
        let (here, there) = (fed(&t, None).await, fed(&t, None).await);
        alice(&t, &here).await;
        let suspended = event("evt_once", "user.suspended", t.now(), ("user", "usr_alice"), json!({}));
        let (a, b) = tokio::join!(deliver(&t, &here, &suspended), deliver(&t, &there, &suspended));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(a.duplicate != b.duplicate, "{a:?} {b:?}");
        // The event of before, replayed within its time, does not open what is closed.
        let activated = event("evt_before", "user.activated", t.now() - SECOND, ("user", "usr_alice"), json!({}));
        assert!(deliver(&t, &here, &activated).await.unwrap().success);
        let issued = t.now();
        assert_eq!(code(enters(&here, &token(&t, &here, "usr_alice", issued)).await), Code::TokenRevoked);
        assert_eq!(t.raw.count("idp_event WHERE event_id = 'evt_once'").await, 1);
        // One from far ahead is not taken over: nothing could undo it.
        let ahead = event("evt_ahead", "user.activated", t.now() + Duration::from_secs(301), ("user", "usr_alice"), json!({}));
        assert!(!deliver(&t, &here, &ahead).await.unwrap().success);
        assert_eq!(t.raw.count("idp_event WHERE event_id = 'evt_ahead'").await, 0, "it may come again");
        for vault in [here, there] {
            vault.close().await;
        }
    }

    async fn groups_and_roles_of_the_directory_count_while_it_is_fresh_and_removals_always(t: Bench) {
        let source = FakeScaiKey::of_acme();
        let vault = fed(&t, Some(&source)).await;
        let admin = t.admin();
        let made = t.vault.policies(&admin).create(policy("sre", &[("ops/**", &["read", "write"])])).await.unwrap();
        let bind = scaivault_core::policy::BindingWrite {
            identity_type: IdentityType::Group,
            ..bind_user("group:sre")
        };
        t.vault.policies(&admin).bind(&made.id, bind).await.unwrap();
        t.put("ops/key", json!({})).await;
        let reads = async |ctx: &Ctx| vault.secrets(ctx).get(&path("ops/key"), None).await.map(drop);
        let before = t.now();
        let plain = || token(&t, &vault, "user:alice@acme.example", before);
        assert_eq!(code(reads(&plain()).await), Code::AccessDenied);
        vault.run_due_jobs().await.unwrap();
        let ctx = plain();
        reads(&ctx).await.unwrap();
        assert_eq!(ctx.caller().groups(), ["group:sre", "grp_sre"]);
        assert_eq!(ctx.caller().roles(), [Role::TenantAdmin]);
        // A service account of that name is somebody else.
        let machine = Caller::service_account("user:alice@acme.example", tenant(ACME)).unwrap();
        assert_eq!(code(reads(&vault.ctx(machine.with_scopes([Scope::Admin])).unwrap()).await), Code::AccessDenied);
        // Taken out of the group: the token of before that names it does not help, one of after does.
        t.clock.advance(SECOND);
        source.change(|world| world.users[0].roles.clear());
        vault.identities(&t.admin()).sync(None, None).await.unwrap();
        vault.run_due_jobs().await.unwrap();
        let (data, about) = (json!({ "user_id": "usr_alice" }), ("group", "grp_sre"));
        let removed = event("evt_out", "group.member_removed", t.now(), about, data);
        assert!(deliver(&t, &vault, &removed).await.unwrap().success);
        let named = |issued| {
            let caller = caller("user:alice@acme.example").with_groups(["group:sre"]).unwrap();
            vault.ctx(caller.with_validity(issued, t.now() + SYNC)).unwrap()
        };
        assert_eq!(code(reads(&named(before)).await), Code::AccessDenied);
        assert_eq!(code(reads(&named(t.now())).await), Code::AccessDenied, "in the same second");
        reads(&named(t.now() + SECOND)).await.unwrap();
        // Back in, and then the provider falls silent: four syncs later the directory gives nothing any more.
        t.clock.advance(SECOND);
        tell(&t, &vault, "group.member_added", about, json!({ "user_id": "usr_alice" })).await;
        tell(&t, &vault, "user.suspended", ("user", "usr_bob"), json!({})).await;
        reads(&plain()).await.unwrap();
        source.change(|world| world.down = true);
        t.clock.advance(SYNC * 4);
        assert!(vault.run_due_jobs().await.is_err());
        assert_eq!(code(reads(&plain()).await), Code::AccessDenied);
        reads(&named(t.now())).await.unwrap();
        assert_eq!(code(enters(&vault, &token(&t, &vault, "usr_bob", t.now())).await), Code::TokenRevoked, "for ever");
        let numbers = vault.statistics(&t.admin()).await.unwrap();
        assert!(numbers.identity_sync_age.unwrap() >= SYNC * 4);
        // And it is back.
        source.change(|world| world.down = false);
        t.clock.advance(SYNC);
        vault.run_due_jobs().await.unwrap();
        reads(&plain()).await.unwrap();
        // A group that is no more is taken from tokens of before.
        source.change(|world| drop(world.groups.remove(0)));
        t.clock.advance(SYNC);
        vault.run_due_jobs().await.unwrap();
        assert_eq!(code(reads(&named(t.now() - SECOND)).await), Code::AccessDenied);
        vault.close().await;
    }

    async fn a_sync_takes_what_is_there_and_closes_to_what_is_not(t: Bench) {
        let source = FakeScaiKey::of_acme();
        let vault = fed(&t, Some(&source)).await;
        vault.run_due_jobs().await.unwrap();
        let rows = |table: &'static str| t.raw.count(table);
        assert_eq!((rows("idp_partner").await, rows("idp_tenant").await, rows("idp_user").await), (1, 2, 5));
        assert_eq!((rows("idp_group").await, rows("idp_membership").await), (2, 3));
        // Once is enough, for the interval and on all replicas; and a second one that sees the same writes nothing.
        let replica = fed(&t, Some(&source)).await;
        let calls = source.calls();
        replica.run_due_jobs().await.unwrap();
        assert_eq!(source.calls(), calls);
        let before = t.raw.dump("idp_user").await;
        t.clock.advance(SYNC);
        let (a, b) = tokio::join!(replica.run_due_jobs(), vault.run_due_jobs());
        a.unwrap();
        b.unwrap();
        assert_eq!(t.raw.dump("idp_user").await, before);
        assert_eq!(rows("idp_sync WHERE status = 'completed'").await, 2);
        // One that fails half-way changes nothing.
        source.change(|world| {
            world.users.remove(0);
            world.fails_at = Some("groups");
        });
        t.clock.advance(SYNC);
        assert!(vault.run_due_jobs().await.is_err());
        assert_eq!(t.raw.dump("idp_user").await, before);
        let history = vault.identities(&operator(&vault)).syncs(PageOf::new(None, None).unwrap()).await.unwrap();
        assert_eq!((history.total, history.items[0].status.as_str()), (3, "failed"));
        assert_eq!(history.items[0].errors, ["the fake is told to fail"]);
        // What is gone is closed, and one who is told to be suspended too; one of whom an event told meanwhile is not.
        source.change(|world| {
            world.fails_at = None;
            world.users[1].status = Some("SUSPENDED".into());
        });
        t.clock.advance(SYNC);
        let fresh = event("evt_new", "user.created", t.now(), ("user", "usr_new"), json!({ "email": "new@acme.example" }));
        assert!(deliver(&t, &vault, &fresh).await.unwrap().success);
        vault.run_due_jobs().await.unwrap();
        let issued = t.now();
        for (id, open) in [("usr_alice", false), ("usr_bob", true), ("usr_carol", false), ("usr_new", true), ("usr_x", true)] {
            let done = enters(&vault, &token(&t, &vault, id, issued)).await;
            assert_eq!(done.err().map(|error| error.code()), (!open).then_some(Code::TokenRevoked), "{id}");
        }
        // News of before the sync about one whom it did not see: he is gone.
        let late = event("evt_late", "user.created", t.now() - SYNC, ("user", "usr_late"), json!({ "email": "late@acme.example" }));
        assert!(deliver(&t, &vault, &late).await.unwrap().success);
        assert_eq!(code(enters(&vault, &token(&t, &vault, "user:late@acme.example", issued)).await), Code::TokenRevoked);
        // A source that names nobody at all is not believed; nor is one whose list never ends.
        source.change(|world| world.tenants.clear());
        t.clock.advance(SYNC);
        assert!(vault.run_due_jobs().await.is_err());
        assert!(enters(&vault, &token(&t, &vault, "usr_bob", t.now())).await.is_ok());
        for vault in [vault, replica] {
            vault.close().await;
        }
    }

    async fn an_event_that_cannot_be_taken_over_has_its_tenant_synced(t: Bench) {
        let source = FakeScaiKey::of_acme();
        let vault = fed(&t, Some(&source)).await;
        vault.run_due_jobs().await.unwrap();
        t.clock.advance(SECOND * 600);
        source.change(|world| world.users[0].status = Some("SUSPENDED".into()));
        let odd = event("evt_odd", "user.updated", t.now(), ("user", "usr_alice"), json!({ "status": 7 }));
        let received = deliver(&t, &vault, &odd).await.unwrap();
        assert_eq!(received, Received { success: false, handled: true, duplicate: false });
        assert_eq!(t.raw.count("idp_sync WHERE of_tenant = 'tnt_acme' AND status = 'queued'").await, 1);
        vault.run_due_jobs().await.unwrap();
        assert_eq!(code(enters(&vault, &token(&t, &vault, "usr_alice", t.now())).await), Code::TokenRevoked);
        let unknown = event("evt_tune", "user.sang", t.now(), ("user", "usr_alice"), json!({}));
        assert!(!deliver(&t, &vault, &unknown).await.unwrap().handled);
        // Without secrets nothing is taken.
        assert_eq!(code(deliver(&t, &t.vault, &odd).await), Code::NotFound);
        vault.close().await;
    }

    async fn nobody_raises_himself_and_nobody_gives_more_than_he_may(t: Bench) {
        let source = FakeScaiKey::of_acme();
        let vault = fed(&t, Some(&source)).await;
        vault.run_due_jobs().await.unwrap();
        let ctx = |id: &str, of: &str, roles: &[Role]| {
            let caller = Caller::user(id, tenant(of)).unwrap().with_scopes([Scope::Admin]);
            vault.ctx(caller.with_roles(roles.iter().copied())).unwrap()
        };
        use Role::{PartnerAdmin as P, SuperAdmin as S, TenantAdmin as T};
        let set = async |who: &Ctx, user: &str, roles: &[Role]| {
            vault.identities(who).set_roles(user, roles).await.map(|set| set.roles)
        };
        // The partner of a tenant comes from the directory.
        let partner = ctx("usr_bob", ACME, &[P]);
        for who in [ctx("usr_x", ACME, &[]), ctx("usr_x", ACME, &[T])] {
            assert_eq!(code(set(&who, "usr_bob", &[T]).await), Code::AccessDenied);
        }
        assert_eq!(code(set(&partner, "usr_bob", &[P, T]).await), Code::AccessDenied, "himself");
        assert_eq!(code(set(&partner, "usr_carol", &[S]).await), Code::AccessDenied, "more than his own");
        assert_eq!(code(set(&partner, "usr_stranger", &[T]).await), Code::IdentityNotFound, "nobody");
        assert_eq!(code(set(&partner, "usr_nobody", &[T]).await), Code::IdentityNotFound);
        assert_eq!(set(&partner, "usr_carol", &[P, T]).await.unwrap(), [P, T]);
        assert_eq!(set(&partner, "usr_sister", &[T]).await.unwrap(), [T], "in another tenant of the partner");
        assert_eq!(set(&partner, "usr_carol", &[]).await.unwrap(), []);
        let root = ctx("user:root", ACME, &[S]);
        assert_eq!(set(&root, "usr_carol", &[S]).await.unwrap(), [S]);
        assert_eq!(code(set(&partner, "usr_carol", &[]).await), Code::AccessDenied, "takes nothing from a super admin");
        // At once, in whatever name; only as the person.
        let carol = token(&t, &vault, "user:carol@acme.example", t.now());
        vault.admit(&carol).await.unwrap();
        assert_eq!(carol.caller().roles(), [S]);
        assert_eq!(set(&carol, "usr_bob", &[T]).await.unwrap(), [T]);
        assert_eq!(set(&carol, "usr_carol", &[]).await.unwrap(), [], "who lowers himself may");
        // What the provider gives is taken away there.
        assert_eq!(code(set(&root, "usr_alice", &[]).await), Code::ValidationError);
        assert_eq!(set(&root, "usr_alice", &[P, T]).await.unwrap(), [P, T]);
        let shown = vault.identities(&root).roles_of("usr_alice").await.unwrap();
        assert_eq!((shown.roles, shown.from_identity_provider), (vec![P, T], vec![T]));
        let given = t.raw.trail("action = 'role_assign' AND success").await;
        let both = json!(["partner_admin", "tenant_admin"]);
        assert!(given.iter().any(|record| record.resource.as_deref() == Some("usr_alice") && record.extra["roles"] == both), "{given:?}");
        let without = vault.ctx(Caller::user("usr_bob", tenant(ACME)).unwrap().with_roles([S])).unwrap();
        assert_eq!(code(set(&without, "usr_carol", &[]).await), Code::InsufficientScope);
        let roles = vault.identities(&partner).roles().await.unwrap();
        assert_eq!(roles.iter().map(|role| role.assignable).collect::<Vec<_>>(), [false, true, true]);
        vault.close().await;
    }

    async fn the_first_super_admin_is_promoted_once(t: Bench) {
        let open = async |email: &str| {
            t.builder(root_key(7)).webhook_secrets(secrets()).bootstrap_super_admin(email).open().await.unwrap()
        };
        let vault = open("root@acme.example").await;
        let signs_in = async |vault: &Vault, caller: Caller| {
            let ctx = vault.ctx(caller).unwrap();
            vault.admit(&ctx).await.unwrap();
            ctx.caller().has_role(Role::SuperAdmin)
        };
        let user = |id: &str| Caller::user(id, tenant(ACME)).unwrap();
        let machine = Caller::service_account("user:root@acme.example", tenant(ACME)).unwrap();
        for no in [user("user:Root@acme.example"), user("root@acme.example.evil"), machine, user("user:x").with_email("r@acme.example".to_owned())] {
            assert!(!signs_in(&vault, no).await);
        }
        assert_eq!(t.raw.count("idp_role").await, 0);
        let (a, b) = tokio::join!(signs_in(&vault, user("user:root@acme.example")), signs_in(&vault, user("user:root@acme.example")));
        assert!(a && b);
        assert!(signs_in(&vault, user("user:root@acme.example")).await);
        assert_eq!(t.raw.count("idp_role").await, 1);
        let records = t.raw.trail("action = 'role_assign'").await;
        let promoted = records.iter().filter(|record| record.extra["roles"] == json!(["super_admin"]));
        assert_eq!(promoted.map(|record| record.identity.as_str()).collect::<Vec<_>>(), ["system:bootstrap"]);
        // Never again, whatever the setting says, also once he is none any more.
        let again = open("other@acme.example").await;
        assert!(!signs_in(&again, user("user:other@acme.example")).await);
        t.raw.execute("DELETE FROM idp_role").await;
        assert!(!signs_in(&again, user("user:other@acme.example")).await);
        for vault in [vault, again] {
            vault.close().await;
        }
    }

    async fn one_sees_ones_own_a_partner_admin_his_partner_and_a_super_admin_all(t: Bench) {
        let source = FakeScaiKey::of_acme();
        let vault = fed(&t, Some(&source)).await;
        vault.run_due_jobs().await.unwrap();
        let stranger = json!({
            "event_id": "evt_s", "event_type": "user.created", "timestamp": rfc3339(t.now()), "tenant_id": "tnt_far",
            "resource": { "type": "user", "id": "usr_far" }, "data": { "email": "far@far.example" },
        });
        assert!(deliver(&t, &vault, &stranger).await.unwrap().success);
        let ctx = |roles: &[Role]| {
            let caller = Caller::user("usr_bob", tenant(ACME)).unwrap().with_scopes([Scope::IdentityRead, Scope::IdentityAdmin]);
            vault.ctx(caller.with_roles(roles.iter().copied())).unwrap()
        };
        let page = || PageOf::new(None, None).unwrap();
        let far = TenantId::parse("tnt_far").unwrap();
        let sister = TenantId::parse("tnt_sister").unwrap();
        let nowhere = TenantId::parse("tnt_nowhere").unwrap();
        // Rows that are seen of three lists, and what becomes of three tenants that are named.
        type Seen<'a> = (&'a [Role], [usize; 3], [Option<Code>; 3]);
        let table: [Seen<'_>; 3] = [
            (&[], [1, 1, 4], [Some(Code::TenantAccessDenied); 3]),
            (&[Role::PartnerAdmin], [1, 2, 4], [None, Some(Code::TenantAccessDenied), Some(Code::TenantAccessDenied)]),
            (&[Role::SuperAdmin], [1, 3, 4], [None, None, Some(Code::TenantNotFound)]),
        ];
        for (roles, [partners, tenants, users], refused) in table {
            let ctx = ctx(roles);
            let identities = vault.identities(&ctx);
            assert_eq!(identities.partners(None, page()).await.unwrap().items.len(), partners, "{roles:?}");
            assert_eq!(identities.tenants(None, None, page()).await.unwrap().total, tenants as i64, "{roles:?}");
            assert_eq!(identities.users(&tenant(ACME), None, None, page()).await.unwrap().items.len(), users);
            for (tenant, refused) in [&sister, &far, &nowhere].into_iter().zip(refused) {
                let users = identities.users(tenant, None, None, page()).await;
                assert_eq!(users.err().map(|error| error.code()), refused, "{roles:?} {tenant}");
                let groups = identities.groups(tenant, page()).await;
                assert_eq!(groups.err().map(|error| error.code()), refused, "{roles:?} {tenant}");
                let resolved = identities.resolve(IdentityType::User, "usr_alice", Some(tenant)).await;
                assert_eq!(resolved.err().map(|error| error.code()), refused.or(Some(Code::IdentityNotFound)));
            }
        }
        let ctx = ctx(&[]);
        let identities = vault.identities(&ctx);
        let users = identities.users(&tenant(ACME), Some("active"), Some("ALICE"), page()).await.unwrap();
        assert_eq!(users.items.len(), 1);
        assert_eq!((users.items[0].groups.clone(), users.items[0].roles.clone()), (vec!["group:sre".to_owned()], vec![Role::TenantAdmin]));
        assert_eq!(identities.users(&tenant(ACME), None, Some("%"), page()).await.unwrap().total, 0);
        let second = identities.users(&tenant(ACME), None, None, PageOf::new(Some(2), Some(3)).unwrap()).await.unwrap();
        assert_eq!((second.items.len(), second.total, second.items[0].id.as_str()), (1, 4, "usr_stays"));
        let members = identities.members("grp_sre", page()).await.unwrap();
        assert_eq!(members.items.iter().map(|m| m.user_id.as_str()).collect::<Vec<_>>(), ["usr_alice", "usr_bob"]);
        assert_eq!(members.items[1].membership_type, "NESTED");
        for name in ["usr_alice", "user:alice@acme.example"] {
            let alice = identities.resolve(IdentityType::User, name, None).await.unwrap();
            assert_eq!((alice.id.as_str(), alice.groups.as_slice()), ("usr_alice", ["group:sre".to_owned()].as_slice()));
        }
        for name in ["grp_sre", "group:sre"] {
            assert_eq!(identities.resolve(IdentityType::Group, name, None).await.unwrap().id, "grp_sre");
        }
        for (kind, name) in [(IdentityType::User, "user:ALICE@acme.example"), (IdentityType::Group, "sre"), (IdentityType::ServiceAccount, "sa:x")] {
            assert_eq!(code(identities.resolve(kind, name, None).await), Code::IdentityNotFound, "{name}");
        }
        assert_eq!(code(identities.members("grp_nothing", page()).await), Code::IdentityNotFound);
        assert_eq!(code(identities.sync(None, Some(&sister)).await), Code::TenantAccessDenied);
        let started = identities.sync(None, None).await.unwrap();
        assert_eq!(identities.sync(None, None).await.unwrap(), started, "it waits already");
        vault.run_due_jobs().await.unwrap();
        let history = identities.syncs(page()).await.unwrap();
        assert_eq!((history.total, history.items[0].scope.as_str(), history.items[0].status.as_str()), (1, ACME, "completed"));
        assert_eq!((history.items[0].users_synced, history.items[0].groups_synced), (4, 2));
        assert_eq!(code(t.vault.identities(&t.admin()).sync(None, None).await), Code::InvalidState, "nobody to ask");
        vault.close().await;
    }

    async fn the_directory_says_whose_a_new_tenant_is(t: Bench) {
        let source = FakeScaiKey::of_acme();
        let vault = fed(&t, Some(&source)).await;
        vault.run_due_jobs().await.unwrap();
        let wrong = caller("usr_bob").with_partner(PartnerId::parse("ptn_evil").unwrap());
        assert_eq!(code(enters(&vault, &vault.ctx(wrong).unwrap()).await), Code::TenantAccessDenied);
        assert!(enters(&vault, &vault.ctx(caller("usr_bob")).unwrap()).await.is_ok());
        assert_eq!(t.raw.texts("SELECT partner_id FROM tenant WHERE tenant_id = 'tnt_acme'").await, ["ptn_acme"]);
        vault.close().await;
    }
}

fn operator(vault: &Vault) -> Ctx {
    let caller = Caller::user("user:root", tenant("tnt_operator")).unwrap().with_scopes([Scope::Admin]);
    vault.ctx(caller.with_roles([Role::SuperAdmin])).unwrap()
}

/// Stands for the directory of ScaiKey: what it has, in pages of two, and failing when it is told to.
#[derive(Clone, Debug)]
struct FakeScaiKey(Arc<Mutex<World>>);

#[derive(Debug, Default)]
struct World {
    partners: Vec<SourcePartner>,
    tenants: Vec<SourceTenant>,
    users: Vec<SourceUser>,
    sisters: Vec<SourceUser>,
    groups: Vec<SourceGroup>,
    members: BTreeMap<String, Vec<SourceMember>>,
    down: bool,
    fails_at: Option<&'static str>,
    calls: u32,
}

impl FakeScaiKey {
    /// A partner of two tenants, four people in the first and one in the other, two groups.
    fn of_acme() -> Self {
        let user = |name: &str, roles: &[&str]| SourceUser {
            id: format!("usr_{name}"),
            email: Some(format!("{name}@acme.example")),
            display_name: Some(name.to_uppercase()),
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            ..SourceUser::default()
        };
        let place = |id: &str| SourceTenant {
            id: id.to_owned(),
            partner_id: Some("ptn_acme".into()),
            ..SourceTenant::default()
        };
        let group = |id: &str, slug: &str| SourceGroup {
            id: id.to_owned(),
            slug: Some(slug.to_owned()),
            ..SourceGroup::default()
        };
        let member = |user: &str, kind: Option<&str>| SourceMember {
            user_id: user.to_owned(),
            membership_type: kind.map(str::to_owned),
            added_at: None,
        };
        Self(Arc::new(Mutex::new(World {
            partners: vec![SourcePartner { id: "ptn_acme".into(), ..SourcePartner::default() }],
            tenants: vec![place(ACME), place("tnt_sister")],
            users: vec![
                user("alice", &["tenant_admin", "cook"]),
                user("bob", &[]),
                user("carol", &[]),
                user("stays", &[]),
            ],
            sisters: vec![user("sister", &[])],
            groups: vec![group("grp_sre", "sre"), group("grp_dev", "dev")],
            members: BTreeMap::from([
                ("grp_sre".to_owned(), vec![member("usr_alice", None), member("usr_bob", Some("nested"))]),
                ("grp_dev".to_owned(), vec![member("usr_carol", None)]),
            ]),
            ..World::default()
        })))
    }

    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.0.lock().unwrap());
    }

    fn calls(&self) -> u32 {
        self.0.lock().unwrap().calls
    }

    fn page<T: Clone>(
        &self,
        list: &'static str,
        cursor: Option<&str>,
        pick: impl FnOnce(&World) -> Vec<T>,
    ) -> Result<IdentityPage<T>> {
        let mut world = self.0.lock().unwrap();
        world.calls += 1;
        if world.down || world.fails_at == Some(list) {
            return Err(Error::new(Code::ServiceUnavailable, "the fake is told to fail"));
        }
        let all = pick(&world);
        let from: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let to = (from + 2).min(all.len());
        let cursor = (to < all.len()).then(|| to.to_string());
        Ok(IdentityPage { items: all[from..to].to_vec(), cursor })
    }
}

#[async_trait]
impl IdentitySource for FakeScaiKey {
    async fn partners(&self, cursor: Option<&str>) -> Result<IdentityPage<SourcePartner>> {
        self.page("partners", cursor, |world| world.partners.clone())
    }

    async fn tenants(&self, _: Option<&str>, cursor: Option<&str>) -> Result<IdentityPage<SourceTenant>> {
        self.page("tenants", cursor, |world| world.tenants.clone())
    }

    async fn users(&self, tenant: &str, cursor: Option<&str>) -> Result<IdentityPage<SourceUser>> {
        self.page(
            "users",
            cursor,
            |world| if tenant == ACME { world.users.clone() } else { world.sisters.clone() },
        )
    }

    async fn groups(&self, tenant: &str, cursor: Option<&str>) -> Result<IdentityPage<SourceGroup>> {
        self.page("groups", cursor, |world| if tenant == ACME { world.groups.clone() } else { Vec::new() })
    }

    async fn members(
        &self,
        _: &str,
        group: &str,
        cursor: Option<&str>,
    ) -> Result<IdentityPage<SourceMember>> {
        self.page("members", cursor, |world| world.members.get(group).cloned().unwrap_or_default())
    }
}
