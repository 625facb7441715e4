//! Which tenant a request is about, and what a partner gives to all of his.

use scaivault_server::dev::{PARTNER, TENANT};
use serde_json::{Value, json};

use crate::support::{Answer, Api, Who, keys};

const SIBLING: &str = "tnt_sibling";
const ABROAD: &str = "tnt_abroad";

/// The usual tenant, a sibling of it, and one of another partner, with a secret each; and tokens.
struct Neighbours {
    api: Api,
    partner: String,
    above: String,
    sibling: String,
    abroad: String,
}

impl Neighbours {
    async fn start() -> Self {
        let api = Api::start().await;
        let who = |tenant, partner, role: &'static [&'static str]| Who {
            tenant,
            partner,
            roles: role,
            ..Who::new("user:boss@dev.example", "admin")
        };
        let partner = api.token_of(&who(TENANT, PARTNER, &["partner_admin"]));
        let above = api.token_of(&who("tnt_root-of-all", "ptn_ours", &["super_admin"]));
        let sibling = api.token_of(&who(SIBLING, PARTNER, &["tenant_admin"]));
        let abroad = api.token_of(&who(ABROAD, "ptn_abroad", &["tenant_admin"]));
        for (token, of) in [(&api.admin, TENANT), (&sibling, SIBLING), (&abroad, ABROAD)] {
            let body = json!({ "data": { "of": of } });
            api.call(token, "PUT", "/v1/secrets/app/db").json(&body).send().await.expect(201);
        }
        Self { api, partner, above, sibling, abroad }
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.api.call(token, "GET", path).send().await
    }

    async fn put(&self, token: &str, path: &str, value: &str) -> Answer {
        let body = json!({ "data": { "k": value } });
        self.api.call(token, "PUT", path).json(&body).send().await
    }
}

#[tokio::test]
async fn the_tenant_is_that_of_the_path_then_of_the_header_then_of_the_token() {
    let n = Neighbours::start().await;
    let ask = |path: &'static str, header: Option<&'static str>| {
        let call = n.api.call(&n.partner, "GET", path);
        let call = header.into_iter().fold(call, |call, tenant| call.header("X-Tenant-ID", tenant));
        call.send()
    };
    for (path, header, of) in [
        ("/v1/secrets/app/db", None, TENANT),
        ("/v1/secrets/app/db", Some(SIBLING), SIBLING),
        ("/v1/secrets/app/db", Some(TENANT), TENANT),
        ("/v1/t/tnt_sibling/secrets/app/db", None, SIBLING),
        ("/v1/t/tnt_sibling/secrets/app/db", Some(SIBLING), SIBLING),
        ("/v1/t/tnt_dev/secrets/app/db", None, TENANT),
    ] {
        assert_eq!(ask(path, header).await.expect(200).json()["data"]["of"], of, "{path} {header:?}");
    }
    for (path, header) in [
        ("/v1/t/tnt_sibling/secrets/app/db", TENANT),
        ("/v1/t/tnt_dev/secrets/app/db", SIBLING),
        ("/v1/t/tnt_dev/secrets/app/db", "TNT_DEV"),
        ("/v1/t/tnt_dev/secrets/app/db", "a b"),
    ] {
        ask(path, Some(header)).await.refusal(400, "invalid_request");
    }
    // It is the row that is logged and recorded, not what was sent.
    let trail = n.api.audit("identity_id=user:boss@dev.example&success=false").await;
    assert_eq!(trail.len(), 4);
    assert!(trail.iter().all(|log| log["action"] == "read" && log["tenant_id"] == TENANT), "{trail:?}");
    assert!(trail.iter().all(|log| log["secret_path"] == "app/db"), "{trail:?}");
    let logs = n.get(&n.sibling, "/v1/audit/logs?identity_id=user:boss@dev.example&action=read").await;
    let logs = logs.expect(200).json()["logs"].as_array().unwrap().clone();
    assert_eq!(logs.len(), 3);
    for log in &logs {
        assert_eq!((&log["tenant_id"], &log["acting_tenant_id"]), (&json!(SIBLING), &json!(TENANT)));
        assert_eq!(log["extra_data"]["granted_by"], "role:partner_admin");
    }
}

#[tokio::test]
async fn admins_of_partners_reach_theirs_and_super_admins_all() {
    let n = Neighbours::start().await;
    let of = |tenant: &str| format!("/v1/t/{tenant}/secrets/app/db");
    n.get(&n.partner, &of(ABROAD)).await.refusal(403, "tenant_access_denied");
    n.get(&n.partner, &of("tnt_nothing")).await.refusal(404, "tenant_not_found");
    n.get(&n.above, &of("tnt_nothing")).await.refusal(404, "tenant_not_found");
    for tenant in [TENANT, SIBLING, ABROAD] {
        assert_eq!(n.get(&n.above, &of(tenant)).await.expect(200).json()["data"]["of"], tenant);
    }
    for token in [&n.sibling, &n.abroad] {
        for tenant in [TENANT, "tnt_nothing"] {
            n.get(token, &of(tenant)).await.refusal(403, "tenant_access_denied");
        }
    }
    // Who he is, he learns anywhere that he may go.
    let me = n.get(&n.partner, "/v1/t/tnt_sibling/auth/whoami").await.expect(200).json();
    assert_eq!((&me["tenant_id"], &me["roles"]), (&json!(TENANT), &json!(["partner_admin"])));
    n.get(&n.partner, "/v1/t/tnt_abroad/auth/whoami").await.refusal(403, "tenant_access_denied");
    // Scopes count there as at home, and what he makes there belongs there.
    let who = Who { roles: &["partner_admin"], ..Who::new("user:r@dev.example", "secrets:list") };
    n.get(&n.api.token_of(&who), &of(SIBLING)).await.refusal(403, "insufficient_scope");
    n.put(&n.partner, "/v1/t/tnt_sibling/secrets/made", "v").await.expect(201);
    n.get(&n.sibling, "/v1/secrets/made").await.expect(200);
    n.get(&n.api.admin, "/v1/secrets/made").await.refusal(404, "secret_not_found");
}

#[tokio::test]
async fn sec_c3_identifiers_of_one_tenant_mean_nothing_where_an_admin_of_both_names_another() {
    let n = Neighbours::start().await;
    let rules = json!([{ "path_pattern": "app/**", "permissions": ["read"] }]);
    let policy = n.api.write("POST", "/v1/policies", &json!({ "name": "p", "rules": rules }), 201).await;
    let root = json!({ "name": "ca", "common_name": "CA", "ca_type": "root", "key_type": "ec" });
    let ca = n.api.write("POST", "/v1/pki/ca", &root, 201).await;
    let (policy, ca) = (policy["id"].as_str().unwrap(), ca["id"].as_str().unwrap());
    for (path, code) in [
        (format!("policies/{policy}"), "policy_not_found"),
        (format!("policies/{policy}?scope=partner"), "policy_not_found"),
        (format!("pki/ca/{ca}"), "ca_not_found"),
    ] {
        n.get(&n.partner, &format!("/v1/t/{SIBLING}/{path}")).await.refusal(404, code);
    }
    for at in ["a", "b", "c"] {
        n.put(&n.partner, &format!("/v1/secrets/{at}"), "v").await.expect(201);
    }
    let page = n.get(&n.partner, "/v1/secrets?limit=1").await.expect(200).json();
    let cursor = page["cursor"].as_str().unwrap();
    for path in [format!("/v1/t/{SIBLING}/secrets?limit=1"), "/v1/partner/secrets?limit=1".to_owned()] {
        n.get(&n.partner, &format!("{path}&cursor={cursor}")).await.refusal(400, "invalid_cursor");
    }
    n.get(&n.partner, &format!("/v1/secrets?limit=1&cursor={cursor}")).await.expect(200);
}

#[tokio::test]
async fn what_a_partner_shares_is_under_its_own_address() {
    let n = Neighbours::start().await;
    let path = "/v1/partner/secrets/app/db";
    let made = n.put(&n.partner, path, "one").await.expect(201).json();
    assert_eq!(
        (&made["scope"], &made["path"], &made["version"]),
        (&json!("partner"), &json!("app/db"), &json!(1))
    );
    n.put(&n.sibling, path, "two").await.refusal(403, "access_denied");
    n.put(&n.partner, path, "two").await.expect(200);
    let plain = Who { tenant: SIBLING, ..Who::new("user:plain@dev.example", "secrets:read secrets:list") };
    let plain = n.api.token_of(&plain);
    let read = n.get(&plain, path).await.expect(200);
    assert_eq!((&read.json()["data"]["k"], &read.json()["scope"]), (&json!("two"), &json!("partner")));
    assert_eq!(read.header("etag"), Some("\"v2\""));
    assert_eq!(n.get(&plain, &format!("{path}?version=1")).await.expect(200).json()["data"]["k"], "one");
    let metadata = n.get(&plain, &format!("{path}/metadata")).await.expect(200).json();
    assert_eq!((&metadata["version_count"], &metadata["scope"]), (&json!(2), &json!("partner")));
    let versions = n.get(&plain, &format!("{path}/versions")).await.expect(200).json();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
    let list = n.get(&plain, "/v1/partner/secrets").await.expect(200).json();
    assert_eq!(list["secrets"], list["data"]);
    assert_eq!(list["secrets"][0]["path"], "app/db");
    n.get(&plain, "/v1/partner/secrets/expiring").await.expect(200);
    // To others it is not there, and to a tenant it is none of its own.
    n.get(&n.abroad, path).await.refusal(404, "secret_not_found");
    assert_eq!(n.get(&n.abroad, "/v1/partner/secrets").await.expect(200).json()["secrets"], json!([]));
    n.get(&plain, "/v1/secrets/app/db").await.refusal(403, "access_denied");
    // Through a tenant that is named: of its partner, for whom his role lets in.
    let through = |tenant: &str| format!("/v1/t/{tenant}/partner/secrets/app/db");
    n.get(&n.above, &through(SIBLING)).await.expect(200);
    n.get(&n.above, &through(ABROAD)).await.refusal(404, "secret_not_found");
    n.get(&plain, &through(TENANT)).await.refusal(403, "tenant_access_denied");
    n.get(&plain, &through(SIBLING)).await.expect(200);
    // Bodies are read as for secrets, and who may not write learns that first.
    let broken = json!({ "no such field": 1 });
    let call = |token| n.api.call(token, "PUT", path).json(&broken).send();
    call(&n.partner).await.refusal(422, "validation_error");
    call(&n.sibling).await.refusal(403, "access_denied");
    n.get(&n.partner, "/v1/partner/secrets/A").await.refusal(400, "invalid_path");
    // A trail of its own, for the admins of the partner.
    let trail = n.get(&n.partner, "/v1/audit/logs?scope=partner&limit=1000").await.expect(200).json();
    let trail = trail["logs"].as_array().unwrap().clone();
    assert!(trail.iter().all(|log| log["tenant_id"] == format!("partner {PARTNER}")), "{trail:?}");
    let read = trail.iter().find(|log| log["identity_id"] == "user:plain@dev.example").unwrap();
    assert_eq!(read["acting_tenant_id"], SIBLING);
    let denied = |log: &&Value| log["error_code"] == "access_denied";
    assert_eq!(trail.iter().filter(denied).count(), 2);
    n.get(&n.sibling, "/v1/audit/logs?scope=partner").await.refusal(403, "forbidden");
    // Its end.
    n.api.call(&n.sibling, "DELETE", path).send().await.refusal(403, "access_denied");
    n.api.call(&n.partner, "DELETE", path).send().await.expect(200);
    n.get(&plain, path).await.refusal(404, "secret_not_found");
    n.api.call(&n.partner, "POST", &format!("{path}/restore")).send().await.expect(200);
    n.get(&plain, path).await.expect(200);
}

#[tokio::test]
async fn a_list_may_show_what_the_partner_shares_beside_the_tenants_own() {
    let n = Neighbours::start().await;
    for at in ["app/a", "app/db", "app/e"] {
        n.put(&n.partner, &format!("/v1/partner/secrets/{at}"), "v").await.expect(201);
    }
    let expected = [
        json!(["app/a", "partner"]),
        json!(["app/db", null]),
        json!(["app/db", "partner"]),
        json!(["app/e", "partner"]),
    ];
    for limit in [1, 2, 3, 100] {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/secrets?include_partner=true&limit={limit}{cursor}");
            let page = n.get(&n.sibling, &path).await.expect(200).json();
            let items = page["secrets"].as_array().unwrap();
            found.extend(items.iter().map(|item| json!([item["path"], item["scope"]])));
            if page["has_more"] == json!(false) {
                break;
            }
            cursor = format!("&cursor={}", page["cursor"].as_str().unwrap());
        }
        assert_eq!(found, expected, "{limit}");
    }
    let own = n.get(&n.sibling, "/v1/secrets?include_partner=false").await.expect(200).json();
    assert_eq!(own["secrets"].as_array().unwrap().len(), 1);
    assert!(own["secrets"][0].get("scope").is_none());
}

#[tokio::test]
async fn a_partner_gives_policies_to_identities_of_his_tenants() {
    let n = Neighbours::start().await;
    let rules = json!([{ "path_pattern": "app/**", "permissions": ["read", "write"] }]);
    let body = json!({ "name": "given", "scope": "partner", "rules": rules });
    n.api.admin("POST", "/v1/policies").json(&body).send().await.refusal(403, "forbidden");
    let as_partner = |method: &'static str, path: &str, body: &Value| {
        n.api.call(&n.partner, method, path).json(body).send()
    };
    let made = as_partner("POST", "/v1/policies", &body).await.expect(201).json();
    assert_eq!(made["scope"], "partner");
    let path = format!("/v1/policies/{}", made["id"].as_str().unwrap());
    let user = Who { tenant: SIBLING, ..Who::new("user:u@dev.example", "secrets:read secrets:write") };
    let (user, namesake) =
        (n.api.token_of(&user), n.api.token("user:u@dev.example", "secrets:read secrets:write"));
    for token in [&user, &namesake] {
        n.get(token, "/v1/secrets/app/db").await.refusal(403, "access_denied");
    }
    let bind =
        |of: Value| json!({ "tenant_id": of, "identity_type": "user", "identity_id": "user:u@dev.example" });
    let bindings = format!("{path}/bindings?scope=partner");
    for bad in [json!(null), json!(ABROAD), json!("tnt_nothing"), json!("a b")] {
        let error = as_partner("POST", &bindings, &bind(bad)).await.refusal(422, "validation_error");
        assert!(error["details"]["fields"]["tenant_id"].is_array(), "{error}");
    }
    let bound = as_partner("POST", &bindings, &bind(json!(SIBLING))).await.expect(201).json();
    let fields = [
        "created_at",
        "created_by",
        "expires_at",
        "id",
        "identity_id",
        "identity_type",
        "policy_id",
        "tenant_id",
    ];
    assert_eq!(keys(&bound), fields);
    assert_eq!(bound["tenant_id"], SIBLING);
    // It grants in the tenant of the identity, and on what is shared; to nobody of that name elsewhere.
    assert_eq!(n.get(&user, "/v1/secrets/app/db").await.expect(200).json()["data"]["of"], SIBLING);
    n.put(&user, "/v1/partner/secrets/app/new", "v").await.expect(201);
    n.get(&namesake, "/v1/secrets/app/db").await.refusal(403, "access_denied");
    n.put(&namesake, "/v1/partner/secrets/app/new", "v").await.refusal(403, "access_denied");
    n.get(&user, "/v1/t/tnt_dev/secrets/app/db").await.refusal(403, "tenant_access_denied");
    // Lists and looks.
    let list = n.get(&n.partner, "/v1/policies?scope=partner").await.expect(200).json();
    assert_eq!(list["policies"].as_array().unwrap().len(), 1);
    assert_eq!(n.get(&n.partner, "/v1/policies").await.expect(200).json()["policies"], json!([]));
    n.get(&n.partner, &path).await.refusal(404, "policy_not_found");
    let stored = n.get(&n.partner, &format!("{path}?scope=partner")).await.expect(200).json();
    assert_eq!(stored["bindings"], json!([bound]));
    let listed = n.get(&n.partner, &bindings).await.expect(200).json();
    assert_eq!(listed["bindings"], json!([bound]));
    let question = json!({ "scope": "partner", "tenant_id": TENANT, "identity_id": "user:x", "path": "app/db",
        "permission": "read" });
    let verdict = as_partner("POST", "/v1/policies/test", &question).await.expect(200).json();
    assert_eq!((&verdict["allowed"], &verdict["granted_by"]), (&json!(true), &json!("partner")));
    let who = n.get(&n.sibling, "/v1/policies/who-can?path=app/db&permission=read").await.expect(200).json();
    assert_eq!(who["identities"][0]["identity_id"], "user:u@dev.example");
    // Taken back, it is gone at once.
    let replaced =
        json!({ "name": "given", "rules": [{ "path_pattern": "app/**", "permissions": ["read"] }] });
    as_partner("PUT", &format!("{path}?scope=partner"), &replaced).await.expect(200);
    n.put(&user, "/v1/partner/secrets/app/new", "w").await.refusal(403, "access_denied");
    let binding = format!("{path}/bindings/{}?scope=partner", bound["id"].as_str().unwrap());
    n.api.call(&n.partner, "DELETE", &binding).send().await.expect(204);
    n.get(&user, "/v1/secrets/app/db").await.refusal(403, "access_denied");
    n.api.call(&n.partner, "DELETE", &format!("{path}?scope=partner")).send().await.expect(204);
}

#[tokio::test]
async fn sec_a1_other_spellings_of_the_prefix_reach_no_tenant() {
    let n = Neighbours::start().await;
    let spellings = [
        ("/v1/t//secrets/app/db", 400, "invalid_request"),
        ("/v1/t/./secrets/app/db", 400, "invalid_request"),
        ("/v1/t/tnt_sibling/../tnt_dev/secrets/app/db", 400, "invalid_request"),
        ("/v1/t/tnt%5Fsibling/secrets/app/db", 400, "invalid_request"),
        ("/v1/t/partner%20ptn_dev/secrets/app/db", 400, "invalid_request"),
        ("/v1/t/tnt_dev/t/tnt_sibling/secrets/app/db", 404, "not_found"),
        ("/v1/t/tnt_dev/v1/secrets/app/db", 404, "not_found"),
        ("/V1/t/tnt_sibling/secrets/app/db", 404, "not_found"),
        ("/v1/T/tnt_sibling/secrets/app/db", 404, "not_found"),
        ("/v1/t/tnt_sibling", 404, "not_found"),
        ("/v1/t/tnt_sibling/health", 404, "not_found"),
        ("/v1/t/TNT_SIBLING/secrets/app/db", 404, "tenant_not_found"),
    ];
    for (path, status, code) in spellings {
        n.get(&n.partner, path).await.refusal(status, code);
    }
    let long = format!("/v1/t/{}/secrets/app/db", "x".repeat(129));
    n.get(&n.partner, &long).await.refusal(400, "invalid_request");
}
