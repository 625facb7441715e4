//! What other tenants learn: nothing, on every row of the routing table.

use std::time::{Duration, Instant};

use http::Method;
use scaivault_core::{Caller, Scope, TenantId};
use scaivault_server::{
    app::Service,
    dev::{PARTNER, TENANT},
    http::router::{Access, Route},
    routes,
};
use serde_json::{Value, json};

use crate::{
    refusals::{body, path},
    support::{Answer, Api, Who},
    world::World,
};

/// Identifiers in the shape of those in the world, of nothing.
fn nothing(world: &World) -> [(String, String); 12] {
    let twin = |id: &str| {
        let (head, tail) = id.split_at(id.len() - 4);
        let tail: String = tail
            .chars()
            .map(|c| {
                if c == ':' {
                    c
                } else if c == '0' {
                    '1'
                } else {
                    '0'
                }
            })
            .collect();
        (id.to_owned(), format!("{head}{tail}"))
    };
    [
        twin(&world.ca),
        twin(&world.policy),
        twin(&world.binding),
        twin(&world.certificate),
        twin(&world.serial),
        twin(&world.trust),
        twin(&world.csr),
        twin(&world.anchor),
        ("app/db".to_owned(), "app/dc".to_owned()),
        ("usr_worker".to_owned(), "usr_workes".to_owned()),
        ("grp_crew".to_owned(), "grp_crex".to_owned()),
        (format!("/tenants/{TENANT}/"), "/tenants/tnt_dew/".to_owned()),
    ]
}

fn renamed(text: &str, names: &[(String, String)]) -> String {
    names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Roles are named, not numbered.
fn role_renamed(row: &Route<Service>, path: &str) -> String {
    match row.template() {
        "/v1/pki/roles/{name}" | "/v1/pki/roles/{name}/test" => path.replace("/svc", "/svd"),
        "/v1/pki/issue/{role}" | "/v1/pki/sign/{role}" => path.replace("/other", "/othes"),
        _ => path.to_owned(),
    }
}

async fn send(
    api: &Api,
    token: &str,
    row: &Route<Service>,
    (path, body): (&str, Option<&Value>),
    tenant: Option<&str>,
) -> Answer {
    let mut call = api.call(token, row.method().as_str(), path);
    if let Some(tenant) = tenant {
        call = call.header("X-Tenant-ID", tenant);
    }
    match body {
        Some(body) => call.json(body).send().await,
        None => call.send().await,
    }
}

/// The answer without what has to differ: the request's own name, and what the caller himself sent.
fn shape(answer: &Answer, sent: &[(String, String)]) -> (u16, String) {
    let mut text = answer.text();
    if let Some(id) = answer.header("x-request-id") {
        text = text.replace(id, "{request}");
    }
    (answer.status, renamed(&text, sent).replace("/svd", "/svc").replace("/othes", "/other"))
}

/// Whether a row names something that is there or not: all but lists, and what makes something new.
fn names_something(row: &Route<Service>) -> bool {
    let by_body = ["/v1/pki/revoke", "/v1/pki/release", "/v1/pki/roles", "/v1/policies/diff"]
        .contains(&row.template())
        && row.method() == Method::POST;
    let makes = row.template() == "/v1/secrets/{*path}" && row.method() == Method::PUT;
    // A trail is the caller's own, whosever name he asks for.
    let trail = row.template().starts_with("/v1/audit/");
    (row.template().contains('{') || by_body) && !makes && !trail
}

/// How much later one answer may come than the other, and still be in the same bucket.
const BUCKET: Duration = Duration::from_millis(10);

/// What an answer costs at the least: round trips to the database, and time.
async fn cost(
    api: &Api,
    token: &str,
    row: &Route<Service>,
    request: (&str, Option<&Value>),
    least: (u64, Duration),
) -> (u64, Duration) {
    let operator = || {
        let caller = Caller::user("user:operator", TenantId::parse("tnt_operator").unwrap()).unwrap();
        api.vault.ctx(caller.with_scopes([Scope::Admin])).unwrap()
    };
    let before = api.vault.statistics(&operator()).await.unwrap().database_round_trips;
    let began = Instant::now();
    send(api, token, row, request, None).await;
    let took = began.elapsed();
    let after = api.vault.statistics(&operator()).await.unwrap().database_round_trips;
    (least.0.min(after - before), least.1.min(took))
}

/// Whether something that another tenant has costs as much as nothing at all. Noise only ever adds, so the smallest
/// of some tries is compared.
async fn costs_the_same(
    api: &Api,
    token: &str,
    row: &Route<Service>,
    there: (&str, Option<&Value>),
    not: (&str, Option<&Value>),
) {
    let mut least = [(u64::MAX, Duration::MAX); 2];
    for tries in 1..=20 {
        least[0] = cost(api, token, row, there, least[0]).await;
        least[1] = cost(api, token, row, not, least[1]).await;
        let same = least[0].0 == least[1].0 && least[0].1.abs_diff(least[1].1) < BUCKET;
        if tries >= 3 && same {
            return;
        }
    }
    panic!("{row:?} there and not there: {least:?}");
}

/// A snapshot without when its owner last read something.
fn untouched(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = untouched(item.take())),
        Value::Object(members) => {
            members.remove("last_accessed_at");
            members.values_mut().for_each(|member| *member = untouched(member.take()));
        }
        _ => {}
    }
    value
}

async fn matrix(world: &World) {
    let before = untouched(world.snapshot().await);
    let api = &world.api;
    let router = routes::router().unwrap();
    let rows: Vec<_> = router.rows().filter(|row| row.access() == Access::Authenticated).collect();
    // His own tenant: the requests of this test are good ones.
    for row in rows.iter().filter(|row| row.method() == Method::GET) {
        send(api, &api.admin, row, (&path(row, world), None), None).await.expect(200);
        send(api, &api.admin, row, (&path(row, world), None), Some(TENANT)).await.expect(200);
        let prefixed = path(row, world).replacen("/v1/", &format!("/v1/t/{TENANT}/"), 1);
        send(api, &api.admin, row, (&prefixed, None), None).await.expect(200);
    }
    let names = nothing(world);
    let back: Vec<_> = names.iter().map(|(from, to)| (to.clone(), from.clone())).collect();
    let callers =
        [("tnt_sibling", PARTNER, true), ("tnt_abroad", "ptn_abroad", true), ("tnt_new", "ptn_new", false)];
    for (tenant, partner, lived_in) in callers {
        let who =
            Who { tenant, partner, roles: &["tenant_admin"], ..Who::new("user:admin@dev.example", "admin") };
        let token = api.token_of(&who);
        if lived_in {
            let body = json!({ "data": { "k": "v" } });
            api.call(&token, "PUT", "/v1/secrets/own/x").json(&body).send().await.expect(201);
        }
        for row in &rows {
            let (path, body) = (path(row, world), body(row, world));
            // A tenant of the same partner may read what that shares, and see that it is there.
            let shared = row.template().starts_with("/v1/partner/")
                && partner == PARTNER
                && row.method() == Method::GET;
            // In his own tenant: there or not there is all the same to him.
            if shared {
                send(api, &token, row, (&path, None), None).await.expect(200);
            } else if names_something(row) {
                let absent = (
                    role_renamed(row, &renamed(&path, &names)),
                    body.as_ref().map(|b| serde_json::from_str(&renamed(&b.to_string(), &names)).unwrap()),
                );
                assert!(absent.0 != path || absent.1 != body, "{row:?} names nothing");
                let there = send(api, &token, row, (&path, body.as_ref()), None).await;
                let not = send(api, &token, row, (&absent.0, absent.1.as_ref()), None).await;
                assert!([403, 404].contains(&there.status), "{tenant} {row:?}: {there:?}");
                assert_eq!(shape(&there, &[]), shape(&not, &back), "{tenant} {row:?}");
                if tenant == "tnt_sibling" {
                    let not = (absent.0.as_str(), absent.1.as_ref());
                    costs_the_same(api, &token, row, (&path, body.as_ref()), not).await;
                }
            } else if row.method() == Method::GET {
                let list = send(api, &token, row, (&path, None), None).await.expect(200).text();
                let leaked = names.iter().find(|(id, _)| list.contains(id.as_str()));
                assert!(!list.contains(r#""tenant_id":"tnt_dev""#), "{tenant} {row:?}: {list}");
                // The trail holds what he asked for himself.
                assert!(
                    leaked.is_none() || row.template().starts_with("/v1/audit/"),
                    "{tenant} {row:?}: {list}"
                );
            }
            // In another's: whose it is and whether it is there are all the same.
            let theirs = send(api, &token, row, (&path, body.as_ref()), Some(TENANT)).await;
            let nobodys = send(api, &token, row, (&path, body.as_ref()), Some("tnt_nothing")).await;
            assert_eq!(shape(&theirs, &[]), shape(&nobodys, &[]), "{tenant} {row:?}");
            theirs.refusal(403, "tenant_access_denied");
            let before = |tenant: &str| path.replacen("/v1/", &format!("/v1/t/{tenant}/"), 1);
            let theirs = send(api, &token, row, (&before(TENANT), body.as_ref()), None).await;
            let nobodys = send(api, &token, row, (&before("tnt_nothing"), body.as_ref()), None).await;
            assert_eq!(shape(&theirs, &[]), shape(&nobodys, &[]), "{tenant} {row:?}");
            theirs.refusal(403, "tenant_access_denied");
        }
    }
    assert_eq!(untouched(world.snapshot().await), before);
    let trail = api.audit("").await;
    assert!(trail.iter().all(|log| log["tenant_id"] == TENANT && log["acting_tenant_id"] == TENANT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_c1_other_tenants_cannot_tell_what_is_there_sqlite() {
    matrix(&World::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_c1_other_tenants_cannot_tell_what_is_there_postgres() {
    let Some((api, scratch)) = Api::on_postgres().await else { return };
    let done = tokio::spawn(async move {
        let world = World::on(api).await;
        matrix(&world).await;
        world.api.vault.close().await;
    });
    let done = done.await;
    scratch.drop_database().await;
    done.unwrap();
}
