//! Trust anchors, the judgement of certificates, and the inventory.

use serde_json::json;

use crate::{
    support::Api,
    world::{ANCHOR, World, text},
};

#[tokio::test]
async fn trust_anchors_are_added_listed_bundled_and_deleted() {
    let api = Api::start().await;
    let one = json!({ "name": "partner", "certificate_pem": ANCHOR, "description": "of a partner" });
    let added = api.write("POST", "/v1/pki/trust-anchors", &one, 201).await;
    assert_eq!((&added["subject"], &added["purpose"]), (&json!("CN=Partner Root"), &json!("any")));
    assert_eq!(
        (&added["not_after"], &added["expires_soon"]),
        (&json!("2099-01-01T00:00:00Z"), &json!(false))
    );
    let many = json!({ "name": "partner tls", "bundle": ANCHOR, "purpose": "tls_server" });
    let many = api.write("POST", "/v1/pki/trust-anchors", &many, 201).await;
    assert_eq!(many["trust_anchors"][0]["name"], "partner tls");
    api.call(&api.admin, "POST", "/v1/pki/trust-anchors")
        .json(&one)
        .send()
        .await
        .refusal(409, "name_conflict");

    let id = text(&added["id"]);
    assert_eq!(api.get(&format!("/v1/pki/trust-anchors/{id}")).await, added);
    let list = api.get("/v1/pki/trust-anchors?purpose=tls_server").await;
    assert_eq!((&list["trust_anchors"], &list["has_more"]), (&many["trust_anchors"], &json!(false)));
    let bundle = api.call(&api.admin, "GET", "/v1/pki/trust-anchors/bundle?purpose=tls_server").send().await;
    assert_eq!(bundle.expect(200).text(), ANCHOR.repeat(2));
    let bad = api.call(&api.admin, "GET", "/v1/pki/trust-anchors?purpose=x").send().await;
    assert!(bad.refusal(422, "validation_error")["details"]["fields"]["purpose"].is_array());
    let bad = json!({ "name": "x", "certificate_pem": ANCHOR, "kind": "root" });
    api.call(&api.admin, "POST", "/v1/pki/trust-anchors")
        .json(&bad)
        .send()
        .await
        .refusal(422, "validation_error");

    api.call(&api.admin, "DELETE", &format!("/v1/pki/trust-anchors/{id}")).send().await.expect(204);
    let gone = api.call(&api.admin, "GET", &format!("/v1/pki/trust-anchors/{id}")).send().await;
    gone.refusal(404, "trust_anchor_not_found");
}

#[tokio::test]
async fn a_certificate_is_judged() {
    let api = Api::start().await;
    let root = json!({ "name": "mesh", "common_name": "Mesh Root", "ca_type": "root", "key_type": "ec" });
    let ca = text(&api.write("POST", "/v1/pki/ca", &root, 201).await["id"]);
    let role = json!({ "name": "svc", "ca_id": ca, "allowed_domains": ["*.svc.example"] });
    api.write("POST", "/v1/pki/roles", &role, 201).await;
    let name = json!({ "common_name": "a.svc.example" });
    let leaf = api.write("POST", "/v1/pki/issue/svc", &name, 201).await;
    let relying = api.token("sa:relying", "");
    let ask = async |question: serde_json::Value| {
        let call = api.call(&relying, "POST", "/v1/pki/certificates/validate");
        call.json(&question).send().await
    };
    let question = json!({
        "certificate_pem": leaf["certificate"], "chain_pem": leaf["ca_chain"], "hostname": "a.svc.example",
        "purpose": "tls_server", "revocation": "require",
    });
    let good = ask(question).await.expect(200).json();
    assert_eq!((&good["valid"], &good["trust_anchor_id"]), (&json!(true), &json!(ca)), "{good}");
    assert_eq!((&good["revocation_status"], &good["errors"]), (&json!("good"), &json!([])));
    assert_eq!(good["chain"][0]["revocation"]["source"], "register");
    assert_eq!(good["chain"].as_array().unwrap().len(), 2);

    let revoke = json!({ "serial_number": leaf["serial_number"], "reason": "superseded" });
    api.write("POST", "/v1/pki/revoke", &revoke, 200).await;
    let revoked = ask(json!({ "certificate_pem": leaf["certificate"] })).await.expect(200).json();
    assert_eq!(
        (&revoked["valid"], &revoked["errors"][0]["code"]),
        (&json!(false), &json!("revoked")),
        "{revoked}"
    );
    assert_eq!(revoked["candidates"][0]["errors"][0]["code"], "revoked");
    let unlooked = json!({ "certificate_pem": leaf["certificate"], "check_revocation": false });
    assert_eq!(ask(unlooked).await.expect(200).json()["valid"], true);

    let stranger = ask(json!({ "certificate_pem": ANCHOR })).await.expect(200).json();
    assert_eq!(
        (&stranger["errors"][0]["code"], &stranger["trust_anchor_id"]),
        (&json!("unknown_issuer"), &json!(null))
    );
    for (field, question) in [
        ("certificate_pem", json!({ "certificate_pem": "x" })),
        ("at", json!({ "certificate_pem": ANCHOR, "at": "yesterday" })),
        ("purpose", json!({ "certificate_pem": ANCHOR, "purpose": "all" })),
        ("revocation", json!({ "certificate_pem": ANCHOR, "revocation": "maybe" })),
        (
            "revocation",
            json!({ "certificate_pem": ANCHOR, "revocation": "require", "check_revocation": false }),
        ),
        ("hostname", json!({ "certificate_pem": ANCHOR, "hostname": "*.x" })),
    ] {
        let error = ask(question).await.refusal(422, "validation_error");
        assert!(error["details"]["fields"][field].is_array(), "{field}: {error}");
    }
    ask(json!({ "certificate_pem": ANCHOR, "host": "x" })).await.refusal(422, "validation_error");
    ask(json!({})).await.refusal(422, "validation_error");
}

#[tokio::test]
async fn certificates_are_found_counted_and_tagged() {
    let world = World::start().await;
    let api = &world.api;
    let id = &world.certificate;
    let tagged = api
        .write("PATCH", &format!("/v1/pki/certificates/{id}"), &json!({ "tags": { "env": "prod" } }), 200)
        .await;
    assert_eq!((&tagged["id"], &tagged["tags"]), (&json!(id), &json!({ "env": "prod" })));
    assert_eq!(api.get(&format!("/v1/pki/certificates/{id}")).await["tags"], json!({ "env": "prod" }));
    let serial = &world.serial;
    for query in [
        "common_name=billing.svc.cluster.local",
        "common_name=bill*",
        "san=cluster.local",
        "role=svc",
        "tag=env=prod",
        "tag=env",
        "requested_by=user:admin@dev.example&role=svc",
        "status=active&role=svc",
        "sort=expiry&role=svc",
        "expires_before=2999-01-01T00:00:00Z&role=svc",
        "expiring_within=2d",
        &format!("serial_number={serial}"),
        &format!("ca_id={}&role=svc", world.ca),
    ] {
        let found = api.get(&format!("/v1/pki/certificates?count=true&{query}")).await;
        assert_eq!(
            (&found["certificates"][0]["id"], &found["count"]),
            (&json!(id), &json!(1)),
            "{query}: {found}"
        );
        assert_eq!(found["count_is_exact"], true);
    }
    let none = api.get("/v1/pki/certificates?status=on_hold").await;
    assert_eq!((&none["certificates"], none.get("count")), (&json!([]), None));
    for (query, status, code) in [
        ("status=good", 422, "validation_error"),
        ("sort=name", 422, "validation_error"),
        ("san=ab", 422, "validation_error"),
        ("key_hash=x", 422, "validation_error"),
        ("expires_after=today", 400, "invalid_request"),
        ("owner=x", 400, "invalid_request"),
    ] {
        api.call(&api.admin, "GET", &format!("/v1/pki/certificates?{query}"))
            .send()
            .await
            .refusal(status, code);
    }
    let figures = api.get("/v1/pki/certificates/summary").await;
    assert_eq!(figures["by_role"][0]["role"], "svc", "{figures}");
    assert_eq!(figures["by_status"]["expired"], json!({ "count": 0, "count_is_exact": true }));
    let body = json!({ "common_name": "billing.svc.cluster.local", "tags": { "env": "test" } });
    let issued = api.write("POST", "/v1/pki/issue/svc", &body, 201).await;
    let found = api.get("/v1/pki/certificates?tag=env=test").await;
    assert_eq!((&found["certificates"][0]["id"], &found["has_more"]), (&issued["id"], &json!(false)));
    let bad = json!({ "tags": { "a=b": "c" } });
    api.call(&api.admin, "PATCH", &format!("/v1/pki/certificates/{id}"))
        .json(&bad)
        .send()
        .await
        .refusal(422, "validation_error");
}
