//! Certificates for the keys of others, approval, dry runs of roles, and requests that are sent twice.

use serde_json::{Value, json};

use crate::{
    support::{Api, is_seconds, keys},
    world::{CSR, World, text},
};

const KEY: &str = "Idempotency-Key";

#[tokio::test]
async fn a_request_is_signed_and_its_answer_has_no_key() {
    let world = World::start().await;
    let api = &world.api;
    let signed = api.write("POST", "/v1/pki/sign/svc", &json!({ "csr_pem": CSR, "ttl": "1h" }), 201).await;
    assert_eq!(
        keys(&signed),
        ["ca_chain", "certificate", "id", "next_renewal_after", "not_after", "not_before", "serial_number"]
    );
    assert!(is_seconds(&signed["not_after"]));
    let id = text(&signed["id"]);
    let kept = api.get(&format!("/v1/pki/certificates/{id}")).await;
    assert_eq!((&kept["source"], &kept["common_name"]), (&json!("csr"), &json!("x.svc.cluster.local")));
    let other = json!({ "csr_pem": CSR, "alt_names": ["y.svc.cluster.local"], "ip_sans": [] });
    let id = text(&api.write("POST", "/v1/pki/sign/svc", &other, 201).await["id"]);
    let kept = api.get(&format!("/v1/pki/certificates/{id}")).await;
    assert_eq!(kept["alt_names"], json!(["x.svc.cluster.local", "y.svc.cluster.local"]));
    for (body, status, code, field) in [
        (json!({}), 422, "validation_error", "csr_pem"),
        (json!({ "csr_pem": "x" }), 422, "validation_error", "csr_pem"),
        (json!({ "csr_pem": CSR, "alt_names": ["evil.example"] }), 422, "validation_error", "alt_names[0]"),
        (json!({ "csr_pem": CSR, "ttl": "25h" }), 422, "validation_error", "ttl"),
        (json!({ "csr_pem": CSR, "private_key": "x" }), 422, "validation_error", "private_key"),
    ] {
        let error = api.admin("POST", "/v1/pki/sign/svc").json(&body).send().await.refusal(status, code);
        assert!(error["details"]["fields"].get(field).is_some(), "{field}: {error}");
    }
    let trail = api.audit("action=pki_sign&success=true").await;
    assert_eq!(trail.len(), 2);
    assert_eq!(trail[0]["secret_path"], "pki/sign/svc");
}

#[tokio::test]
async fn a_request_that_is_sent_twice_is_carried_out_once() {
    let world = World::start().await;
    let api = &world.api;
    let body = json!({ "common_name": "x.svc.cluster.local" });
    let send = async |key: &str, body: &Value| {
        api.admin("POST", "/v1/pki/issue/svc").header(KEY, key).json(body).send().await
    };
    let first = send("once", &body).await.expect(201).json();
    assert!(first["private_key"].is_string() && first.get("private_key_withheld").is_none());
    let again = send("once", &body).await.expect(201).json();
    let mut expected = first.clone();
    expected.as_object_mut().unwrap().remove("private_key");
    expected["private_key_withheld"] = json!(true);
    assert_eq!(again, expected, "the same, without the key");
    send("once", &json!({ "common_name": "y.svc.cluster.local" })).await.refusal(409, "idempotency_conflict");
    for bad in ["", "a b", &"k".repeat(256)] {
        send(bad, &body).await.refusal(400, "invalid_request");
    }
    let twice = api.admin("POST", "/v1/pki/issue/svc").header(KEY, "a").header(KEY, "b");
    twice.json(&body).send().await.refusal(400, "invalid_request");
    let sign = json!({ "csr_pem": CSR });
    let signed = api.admin("POST", "/v1/pki/sign/svc").header(KEY, "once").json(&sign).send().await;
    let again = api.admin("POST", "/v1/pki/sign/svc").header(KEY, "once").json(&sign).send().await;
    assert_eq!(signed.expect(201).json(), again.expect(201).json());
    let before = api.get("/v1/pki/csr").await["csrs"].as_array().unwrap().len();
    let submit = json!({ "csr_pem": CSR, "role": "svc", "description": "twice" });
    let one = api.admin("POST", "/v1/pki/csr").header(KEY, "once").json(&submit).send().await;
    let two = api.admin("POST", "/v1/pki/csr").header(KEY, "once").json(&submit).send().await;
    assert_eq!(one.expect(201).json(), two.expect(201).json());
    assert_eq!(api.get("/v1/pki/csr").await["csrs"].as_array().unwrap().len(), before + 1);
}

#[tokio::test]
async fn a_submitted_request_goes_through_its_states() {
    let world = World::start().await;
    let api = &world.api;
    let csr = &world.csr;
    let at = |verb: &str| format!("/v1/pki/csr/{csr}{verb}");
    let pending = api.get(&at("")).await;
    assert_eq!(
        (&pending["status"], &pending["key_type"], &pending["key_size"]),
        (&json!("pending"), &json!("ec"), &json!(256))
    );
    assert_eq!(pending["alt_names"], json!(["x.svc.cluster.local"]));
    assert_eq!(pending["requested_by"], "user:admin@dev.example");
    api.admin("POST", &at("/approve")).send().await.refusal(403, "access_denied");
    api.admin("POST", &at("/sign")).json(&json!({})).send().await.refusal(409, "invalid_state");
    let approver = api.token("user:approver@dev.example", "pki:admin");
    let approved = api.call(&approver, "POST", &at("/approve")).send().await.expect(200).json();
    assert_eq!(
        (&approved["status"], &approved["decided_by"]),
        (&json!("approved"), &json!("user:approver@dev.example"))
    );
    assert_eq!(approved["approval_valid"], true);
    api.write("PATCH", "/v1/pki/roles/svc", &json!({ "max_ttl": "23h" }), 200).await;
    for listed in [api.get(&at("")).await, api.get("/v1/pki/csr?status=approved").await["csrs"][0].clone()] {
        assert_eq!((&listed["status"], &listed["approval_valid"]), (&json!("approved"), &json!(false)));
    }
    let odd = api.call(&approver, "POST", &at("/approve")).json(&json!({ "x": 1 })).send().await;
    assert!(odd.refusal(422, "validation_error")["details"]["fields"].get("x").is_some());
    let void = api.admin("POST", &at("/sign")).json(&json!({})).send().await.refusal(409, "invalid_state");
    assert!(text(&void["message"]).contains("void"), "{void}");
    api.call(&approver, "POST", &at("/approve")).json(&json!({})).send().await.expect(200);
    assert_eq!(api.get(&at("")).await["approval_valid"], true);
    let signed = api.write("POST", &at("/sign"), &json!({ "ttl": "1h" }), 201).await;
    assert!(signed.get("private_key").is_none());
    let done = api.get(&at("")).await;
    assert_eq!((&done["status"], &done["certificate_id"]), (&json!("signed"), &signed["id"]));
    assert_eq!(done["approval_valid"], Value::Null);
    let reject = json!({ "reason": "too late" });
    api.admin("POST", &at("/reject")).json(&reject).send().await.refusal(409, "invalid_state");
    let second = json!({ "csr_pem": CSR, "role": "svc" });
    let second = text(&api.write("POST", "/v1/pki/csr", &second, 201).await["id"]);
    let at = |verb: &str| format!("/v1/pki/csr/{second}{verb}");
    api.admin("POST", &at("/reject"))
        .json(&json!({ "reason": "" }))
        .send()
        .await
        .refusal(422, "validation_error");
    let rejected = api.write("POST", &at("/reject"), &json!({ "reason": "no" }), 200).await;
    assert_eq!((&rejected["status"], &rejected["rejection_reason"]), (&json!("rejected"), &json!("no")));
    assert_eq!(api.get("/v1/pki/csr?status=signed").await["csrs"][0]["id"], json!(csr));
    api.admin("GET", "/v1/pki/csr?status=lost").send().await.refusal(400, "invalid_request");
    api.admin("GET", "/v1/pki/csr/csr_none").send().await.refusal(404, "csr_not_found");
}

#[tokio::test]
async fn what_is_optional_may_be_null_or_not_there_at_all() {
    let world = World::start().await;
    let api = &world.api;
    let nothing = json!({ "common_name": "x.svc.cluster.local", "alt_names": null, "ip_sans": null, "email_sans": null,
        "uri_sans": null, "subject": null, "tags": null, "ttl": null });
    let issued = api.write("POST", "/v1/pki/issue/svc", &nothing, 201).await;
    assert!(text(&issued["private_key"]).contains("PRIVATE KEY"));
    let approver = api.token("user:approver@dev.example", "pki:admin");
    let at = |verb: &str| format!("/v1/pki/csr/{}/{verb}", world.csr);
    api.call(&approver, "POST", &at("approve")).send().await.expect(200);
    let signed = api.admin("POST", &at("sign")).send().await.expect(201).json();
    assert!(text(&signed["certificate"]).contains("CERTIFICATE"));
}

#[tokio::test]
async fn a_key_that_was_compromised_is_refused_before_anybody_approves_it() {
    let world = World::start().await;
    let api = &world.api;
    let sign = json!({ "csr_pem": CSR });
    let before = api.write("POST", "/v1/pki/roles/svc/test", &sign, 200).await;
    assert_eq!((&before["allowed"], &before["violations"]), (&json!(true), &json!([])));
    let signed = api.write("POST", "/v1/pki/sign/svc", &sign, 201).await;
    let revoke = json!({ "serial_number": signed["serial_number"], "reason": "key_compromise" });
    api.write("POST", "/v1/pki/revoke", &revoke, 200).await;
    let after = api.write("POST", "/v1/pki/roles/svc/test", &sign, 200).await;
    assert_eq!((&after["allowed"], &after["certificate"]), (&json!(false), &Value::Null));
    assert_eq!(
        (&after["violations"][0]["field"], &after["violations"][0]["rule"]),
        (&json!("csr_pem"), &json!("blocked_key"))
    );
    let submit = json!({ "csr_pem": CSR, "role": "svc" });
    let refused = api.admin("POST", "/v1/pki/csr").json(&submit).send().await;
    let fields = refused.refusal(422, "validation_error")["details"]["fields"].clone();
    assert!(text(&fields["csr_pem"][0]).contains("compromised"), "{fields}");
    assert_eq!(
        api.get("/v1/pki/csr?status=pending").await["csrs"].as_array().unwrap().len(),
        1,
        "the one of before"
    );
}

#[tokio::test]
async fn a_role_says_what_it_thinks_of_a_request() {
    let world = World::start().await;
    let api = &world.api;
    let ask = async |body: Value| api.write("POST", "/v1/pki/roles/svc/test", &body, 200).await;
    let good = ask(json!({ "common_name": "x.svc.cluster.local" })).await;
    assert_eq!((&good["allowed"], &good["violations"]), (&json!(true), &json!([])));
    let matched = json!({ "field": "common_name", "rule": "allowed_domains", "by": "*.svc.cluster.local" });
    assert_eq!(good["matched"][0], matched);
    assert_eq!(good["certificate"]["extended_key_usages"], json!(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]));
    let bad = ask(json!({ "csr_pem": CSR, "alt_names": ["evil.example"], "ip_sans": ["10.0.0.1"] })).await;
    assert_eq!((&bad["allowed"], &bad["certificate"]), (&json!(false), &Value::Null));
    let broken: Vec<_> = bad["violations"].as_array().unwrap().iter().map(|v| text(&v["rule"])).collect();
    assert_eq!(broken, ["allowed_domains", "allow_ip_sans"]);
    let both = json!({ "csr_pem": CSR, "common_name": "x" });
    api.admin("POST", "/v1/pki/roles/svc/test").json(&both).send().await.refusal(422, "validation_error");
    assert_eq!(api.audit("action=pki_sign").await.len(), 0);
}

#[tokio::test]
async fn a_complete_role_is_made_and_changed() {
    let api = Api::start().await;
    let root = json!({ "name": "mesh", "common_name": "Mesh", "ca_type": "root", "key_type": "ec" });
    let ca = text(&api.write("POST", "/v1/pki/ca", &root, 201).await["id"]);
    let role = json!({
        "name": "all", "ca_id": ca, "allowed_dns_globs": ["web-*.x.example"], "allow_ip_sans": true,
        "allowed_ip_ranges": ["10.0.0.0/8"], "allowed_emails": ["*@x.example"],
        "allowed_uris": ["spiffe://x.example/ns/*"], "extended_key_usages": ["email_protection"],
        "subject": { "organization": "X" }, "allowed_subject_fields": ["country"], "backdate": "1m",
        "past_issuer_end": "truncate", "no_store": false, "allow_wildcards": false, "key_type": "any",
    });
    let made = api.write("POST", "/v1/pki/roles", &role, 201).await;
    for (member, value) in role.as_object().unwrap() {
        assert_eq!(&made[member], value, "{member}");
    }
    assert_eq!(made["key_bits"], Value::Null);
    let asked = json!({
        "common_name": "web-1.x.example", "ip_sans": ["10.1.1.1"], "email_sans": ["a@x.example"],
        "uri_sans": ["spiffe://x.example/ns/a"], "subject": { "country": "NL" },
    });
    let issued = api.write("POST", "/v1/pki/issue/all", &asked, 201).await;
    let id = text(&issued["id"]);
    assert!(issued.get("warnings").is_none());
    let renewal = issued["next_renewal_after"].as_str().unwrap();
    assert!(
        issued["not_before"].as_str().unwrap() < renewal && renewal < issued["not_after"].as_str().unwrap()
    );
    let names = json!(["web-1.x.example", "a@x.example", "spiffe://x.example/ns/a"]);
    assert_eq!(api.get(&format!("/v1/pki/certificates/{id}")).await["alt_names"], names);
    for (bad, field) in [
        (json!({ "allowed_ip_ranges": ["10.0.0.1/8"] }), "allowed_ip_ranges[0]"),
        (json!({ "allowed_uris": ["urn:x"] }), "allowed_uris[0]"),
        (json!({ "extended_key_usages": ["2.5.29.37.0"] }), "extended_key_usages[0]"),
        (json!({ "backdate": "25h" }), "backdate"),
        (json!({ "key_type": "ed25519", "key_bits": 256 }), "key_bits"),
        (json!({ "no_store": true, "store_private_keys": true }), "no_store"),
    ] {
        let error =
            api.admin("PATCH", "/v1/pki/roles/all").json(&bad).send().await.refusal(400, "invalid_role");
        assert!(error["details"]["fields"].get(field).is_some(), "{field}: {error}");
    }
    let patched =
        api.write("PATCH", "/v1/pki/roles/all", &json!({ "key_type": "ec", "key_bits": 521 }), 200).await;
    assert_eq!((&patched["key_bits"], &patched["subject"]), (&json!(521), &role["subject"]));
}
