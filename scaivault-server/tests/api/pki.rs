use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use x509_parser::{
    pem::Pem,
    prelude::{CertificateRevocationList, FromDer as _},
};

use crate::{
    support::{Answer, Api, BASE, is_seconds, keys},
    world::{World, text},
};

const CA: [&str; 28] = [
    "ca_type",
    "certificates_issued",
    "common_name",
    "created_at",
    "crl_shards",
    "crl_url",
    "delta_crls",
    "generation",
    "id",
    "is_active",
    "keep_expired_on_crl",
    "key_provider",
    "key_ref",
    "key_size",
    "key_type",
    "max_path_length",
    "name",
    "name_constraints",
    "ocsp_url",
    "parent_ca_id",
    "policies",
    "replaces",
    "revocation_reason",
    "revoked_at",
    "serial_number",
    "state",
    "valid_from",
    "valid_until",
];

const CERTIFICATE: [&str; 19] = [
    "alt_names",
    "ca_id",
    "common_name",
    "created_at",
    "fingerprint_sha256",
    "id",
    "ip_sans",
    "issued_to",
    "key_hash",
    "not_after",
    "not_before",
    "revocation_reason",
    "revoked_at",
    "role",
    "serial_number",
    "source",
    "status",
    "tags",
    "weak",
];

#[tokio::test]
async fn an_authority_is_made_and_its_certificates_are_given_out() {
    let api = Api::start().await;
    let root = json!({
        "name": "acme", "common_name": "Acme Root", "ca_type": "root", "key_type": "ec", "key_size": 384,
        "validity_days": 100, "subject": { "organization": "Acme", "country": "NL" }, "max_path_length": 1,
    });
    let root = api.write("POST", "/v1/pki/ca", &root, 201).await;
    assert_eq!(keys(&root), CA);
    let id = text(&root["id"]);
    assert!(id.starts_with("ca_root_"), "{id}");
    assert_eq!(root["crl_url"], format!("{BASE}/v1/pki/ca/{id}/crl"));
    assert_eq!(root["ocsp_url"], format!("{BASE}/v1/pki/ocsp/{id}"));
    assert_eq!((&root["key_type"], &root["key_size"]), (&json!("ec"), &json!(384)));
    assert_eq!((&root["key_provider"], &root["key_ref"]), (&Value::Null, &Value::Null));
    assert_eq!((&root["is_active"], &root["parent_ca_id"]), (&json!(true), &json!(null)));
    assert!(is_seconds(&root["valid_from"]) && is_seconds(&root["valid_until"]), "{root}");
    let below = json!({
        "name": "mesh", "common_name": "Acme Mesh", "ca_type": "intermediate", "parent_ca_id": id,
        "key_type": "ec",
    });
    let below = api.write("POST", "/v1/pki/ca", &below, 201).await;
    assert_eq!((&below["parent_ca_id"], &below["key_size"]), (&json!(id), &json!(256)));
    // A child ends with its parent.
    assert!(text(&below["valid_until"]) <= text(&root["valid_until"]), "{below}");
    let mesh = text(&below["id"]);
    let same = json!({ "name": "Mesh", "common_name": "x", "ca_type": "root", "key_type": "ec" });
    api.admin("POST", "/v1/pki/ca").json(&same).send().await.refusal(409, "name_conflict");
    // The bench has one key provider, a key file, which signs nothing.
    for (provider, key_ref, status, code, field) in [
        ("local", Value::Null, 422, "validation_error", "key_provider"),
        ("hsm", Value::Null, 422, "validation_error", "key_provider"),
        ("local", json!("label:root"), 403, "access_denied", ""),
    ] {
        let other = json!({
            "name": "hsm", "common_name": "x", "ca_type": "root", "key_type": "ec", "key_provider": provider,
            "key_ref": key_ref,
        });
        let refused = api.admin("POST", "/v1/pki/ca").json(&other).send().await.refusal(status, code);
        assert_eq!(refused["details"]["fields"].get(field).is_some(), !field.is_empty(), "{refused}");
    }

    assert_eq!(api.get(&format!("/v1/pki/ca/{mesh}")).await, below);
    let list = api.get("/v1/pki/ca").await;
    assert_eq!(keys(&list), ["cas", "cursor", "has_more"]);
    let ids: Vec<&str> =
        list["cas"].as_array().unwrap().iter().map(|ca| ca["id"].as_str().unwrap()).collect();
    assert!(ids.len() == 2 && ids.contains(&id.as_str()) && ids.contains(&mesh.as_str()), "{ids:?}");
    let page = api.get("/v1/pki/ca?limit=1").await;
    let rest = api.get(&format!("/v1/pki/ca?limit=1&cursor={}", text(&page["cursor"]))).await;
    assert_ne!(page["cas"][0]["id"], rest["cas"][0]["id"]);
    assert_eq!((&rest["cursor"], &rest["has_more"]), (&json!(null), &json!(false)));

    // As JSON for programs and as PEM for those who ask, to anyone with a token.
    let path = format!("/v1/pki/ca/{mesh}/certificate");
    let nobody = api.token("user:nobody", "");
    let certificate = api.call(&nobody, "GET", &path).send().await.expect(200).json();
    assert_eq!(keys(&certificate), ["certificate_pem", "chain_pem", "cross_certificates"]);
    let pem =
        api.call(&nobody, "GET", &path).header("Accept", "application/x-pem-file").send().await.expect(200);
    assert_eq!(pem.header("content-type"), Some("application/x-pem-file"));
    assert_eq!(pem.text(), text(&certificate["certificate_pem"]) + &text(&certificate["chain_pem"]));
    assert!(!pem.text().contains("PRIVATE"));
    let subjects = names(&pem.text());
    assert_eq!(subjects, ["CN=Acme Mesh", "C=NL, O=Acme, CN=Acme Root"]);
    api.anonymous("GET", &path).send().await.refusal(401, "authentication_required");
}

fn names(pem: &str) -> Vec<String> {
    Pem::iter_from_buffer(pem.as_bytes())
        .map(|block| block.unwrap().parse_x509().unwrap().subject().to_string())
        .collect()
}

#[tokio::test]
async fn a_role_lives_and_changes_what_is_issued() {
    let world = World::start().await;
    let api = &world.api;
    let role = json!({ "name": "db", "ca_id": world.ca, "allowed_domains": ["db.example"] });
    let role = api.write("POST", "/v1/pki/roles", &role, 201).await;
    let defaults = json!({
        "name": "db", "ca_id": world.ca, "allowed_domains": ["db.example"], "allow_subdomains": false,
        "allow_ip_sans": false, "max_ttl": "720h", "default_ttl": "168h", "key_type": "ec", "key_bits": 256,
        "require_cn": true, "client_flag": true, "server_flag": true, "store_private_keys": false,
        "allow_wildcards": true, "allowed_dns_globs": [], "allowed_ip_ranges": [], "allowed_emails": [],
        "allowed_uris": [], "extended_key_usages": [], "subject": {}, "allowed_subject_fields": [],
        "backdate": "5m", "past_issuer_end": "error", "no_store": false,
        "created_at": role["created_at"], "updated_at": role["updated_at"],
    });
    assert_eq!(role, defaults);
    assert_eq!(api.get("/v1/pki/roles/db").await, role);
    let list = api.get("/v1/pki/roles").await;
    assert_eq!(keys(&list), ["cursor", "has_more", "roles"]);
    let names: Vec<&str> =
        list["roles"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["db", "other", "svc"]);
    let again = json!({ "name": "db", "ca_id": world.ca, "allowed_domains": ["db.example"] });
    api.admin("POST", "/v1/pki/roles").json(&again).send().await.refusal(409, "name_conflict");

    let issue = json!({ "common_name": "a.db.example" });
    api.admin("POST", "/v1/pki/issue/db").json(&issue).send().await.refusal(422, "validation_error");
    let patched = api.write("PATCH", "/v1/pki/roles/db", &json!({ "allow_subdomains": true }), 200).await;
    assert_eq!((&patched["allow_subdomains"], &patched["max_ttl"]), (&json!(true), &json!("720h")));
    api.write("POST", "/v1/pki/issue/db", &issue, 201).await;
    api.admin("DELETE", "/v1/pki/roles/db").send().await.expect(204);
    api.admin("GET", "/v1/pki/roles/db").send().await.refusal(404, "role_not_found");
    api.admin("POST", "/v1/pki/issue/db").json(&issue).send().await.refusal(404, "role_not_found");
}

#[tokio::test]
async fn a_certificate_is_issued_listed_revoked_and_known_to_be() {
    let world = World::start().await;
    let (api, ca) = (&world.api, &world.ca);
    let body = json!({
        "common_name": "Billing.svc.cluster.local", "alt_names": ["api.svc.cluster.local"], "ttl": "2h",
    });
    let issued = api.admin("POST", "/v1/pki/issue/svc").json(&body).send().await.expect(201);
    assert_eq!(issued.header("cache-control"), Some("no-store"));
    let issued = issued.json();
    let fields = [
        "ca_chain",
        "certificate",
        "id",
        "next_renewal_after",
        "not_after",
        "not_before",
        "private_key",
        "serial_number",
    ];
    assert_eq!(keys(&issued), fields);
    assert!(text(&issued["private_key"]).starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(names(&text(&issued["certificate"])).len(), 1);
    let chain: Vec<String> = issued["ca_chain"].as_array().unwrap().iter().map(text).collect();
    assert_eq!((chain.len(), names(&chain[0])), (1, vec!["CN=Mesh Root".to_owned()]));
    let pem =
        Pem::iter_from_buffer(issued["certificate"].as_str().unwrap().as_bytes()).next().unwrap().unwrap();
    let leaf = pem.parse_x509().unwrap();
    assert_eq!(
        leaf.raw_serial_as_string().to_ascii_uppercase(),
        text(&issued["serial_number"]).to_ascii_uppercase()
    );
    let issuer = Pem::iter_from_buffer(chain[0].as_bytes()).next().unwrap().unwrap();
    leaf.verify_signature(Some(issuer.parse_x509().unwrap().public_key())).unwrap();

    let id = text(&issued["id"]);
    let read = api.get(&format!("/v1/pki/certificates/{id}")).await;
    let mut fields: Vec<&str> = CERTIFICATE.into_iter().chain(["certificate_pem"]).collect();
    fields.sort_unstable();
    assert_eq!(keys(&read), fields);
    assert_eq!(
        (&read["status"], &read["role"], &read["ca_id"]),
        (&json!("active"), &json!("svc"), &json!(ca))
    );
    assert_eq!(read["alt_names"], json!(["billing.svc.cluster.local", "api.svc.cluster.local"]));
    assert_eq!(
        (&read["serial_number"], &read["not_after"]),
        (&issued["serial_number"], &issued["not_after"])
    );
    assert_eq!((&read["source"], &read["issued_to"]), (&json!("internal"), &json!("user:admin@dev.example")));
    let keyed = api.get(&format!("/v1/pki/certificates/{id}?include_private_key=true")).await;
    assert_eq!(keyed["private_key"], json!(null), "the role keeps none");
    let raw = api.admin("GET", &format!("/v1/pki/certificates/{id}/pem")).send().await.expect(200);
    assert_eq!(raw.header("content-type"), Some("application/x-pem-file"));
    assert_eq!(raw.text(), text(&issued["certificate"]));

    let serial = text(&issued["serial_number"]);
    assert_eq!(ocsp(&world, &serial).await, Status::Good);
    assert!(!revoked(&world).await.contains(&serial));
    // Serial numbers come in any case, with or without colons; the first reason stays.
    let revoke =
        json!({ "serial_number": serial.replace(':', "").to_lowercase(), "reason": "key_compromise" });
    let revocation = api.write("POST", "/v1/pki/revoke", &revoke, 200).await;
    assert_eq!(keys(&revocation), ["ca_id", "id", "revocation_reason", "revoked_at", "serial_number"]);
    assert_eq!((&revocation["id"], &revocation["serial_number"]), (&issued["id"], &issued["serial_number"]));
    let other = json!({ "serial_number": serial, "reason": "superseded" });
    assert_eq!(api.write("POST", "/v1/pki/revoke", &other, 200).await, revocation);

    let read = api.get(&format!("/v1/pki/certificates/{id}")).await;
    assert_eq!((&read["status"], &read["revocation_reason"]), (&json!("revoked"), &json!("key_compromise")));
    assert_eq!(read["revoked_at"], revocation["revoked_at"]);
    assert_eq!(ocsp(&world, &serial).await, Status::Revoked);
    let crl = api.admin("POST", &format!("/v1/pki/ca/{ca}/crl")).send().await.expect(200).json();
    assert_eq!(keys(&crl), ["crl_number", "crl_pem", "next_update", "this_update"]);
    assert_eq!(crl["crl_number"], 2);
    assert_eq!(revoked(&world).await, [serial]);

    let ids = |list: Value| -> Vec<String> {
        assert_eq!(keys(&list), ["certificates", "cursor", "has_more"]);
        list["certificates"].as_array().unwrap().iter().map(|c| text(&c["id"])).collect()
    };
    let list = api.get("/v1/pki/certificates").await;
    assert_eq!(keys(&list["certificates"][0]), CERTIFICATE);
    let active = ids(list);
    assert!(active.contains(&world.certificate) && !active.contains(&id), "{active:?}");
    assert!(ids(api.get("/v1/pki/certificates?include_revoked=true").await).contains(&id));
    assert_eq!(ids(api.get("/v1/pki/certificates?ca_id=ca_none").await).len(), 0);
    // The certificate of the role's day, not the root's ten years.
    let soon = ids(api.get(&format!("/v1/pki/certificates?ca_id={ca}&expiring_within=25h")).await);
    assert_eq!(soon, std::slice::from_ref(&world.certificate));
    assert_eq!(ids(api.get(&format!("/v1/pki/certificates?ca_id={ca}&expiring_within=1h")).await).len(), 0);
}

#[tokio::test]
async fn a_key_that_a_role_keeps_is_given_to_administrators_and_the_reading_is_recorded() {
    let world = World::start().await;
    let api = &world.api;
    api.write("PATCH", "/v1/pki/roles/svc", &json!({ "store_private_keys": true }), 200).await;
    let issued =
        api.write("POST", "/v1/pki/issue/svc", &json!({ "common_name": "a.svc.cluster.local" }), 201).await;
    let path = format!("/v1/pki/certificates/{}", text(&issued["id"]));
    let with_key = format!("{path}?include_private_key=true");
    assert_eq!(api.get(&with_key).await["private_key"], issued["private_key"]);
    assert!(api.get(&path).await.get("private_key").is_none());
    let issuer = api.token("sa:narrow", "pki:issue");
    api.call(&issuer, "GET", &path).send().await.expect(200);
    let answer = api.call(&issuer, "GET", &with_key).send().await;
    assert!(!answer.text().contains("PRIVATE KEY"));
    answer.refusal(403, "insufficient_scope");
    let reads = api.audit("action=pki_certificate_read&success=true").await;
    let notes: Vec<&Value> = reads.iter().map(|log| &log["extra_data"]["private_key_read"]).collect();
    assert_eq!(notes, [&json!(null), &json!(null), &json!(true)]);
}

#[tokio::test]
async fn what_a_role_forbids_is_refused_with_every_violation_named() {
    let world = World::start().await;
    let body = json!({
        "common_name": "evil.example", "alt_names": ["ok.svc.cluster.local", "*.svc.cluster.local", "a b"],
        "ip_sans": ["10.0.0.1", "999.0.0.1"], "ttl": "25h",
    });
    let before = world.snapshot().await;
    let error = world.api.admin("POST", "/v1/pki/issue/svc").json(&body).send().await;
    let error = error.refusal(422, "validation_error");
    let fields = &error["details"]["fields"];
    for field in ["common_name", "alt_names[2]", "ip_sans[0]", "ip_sans[1]", "ttl"] {
        assert!(fields[field][0].is_string(), "{field}: {error}");
    }
    assert!(fields.get("alt_names[0]").is_none(), "{error}");
    assert_eq!(world.snapshot().await, before);
}

#[tokio::test]
async fn a_revoked_authority_no_longer_issues_and_a_root_cannot_be_revoked() {
    let world = World::start().await;
    let (api, ca) = (&world.api, &world.ca);
    let below = json!({
        "name": "below", "common_name": "Below", "ca_type": "intermediate", "parent_ca_id": ca, "key_type": "ec",
    });
    let below = api.write("POST", "/v1/pki/ca", &below, 201).await;
    let role = json!({ "name": "low", "ca_id": below["id"], "allowed_domains": ["low.example"] });
    api.write("POST", "/v1/pki/roles", &role, 201).await;
    let issue = json!({ "common_name": "low.example" });
    let issued = api.write("POST", "/v1/pki/issue/low", &issue, 201).await;
    assert_eq!(issued["ca_chain"].as_array().unwrap().len(), 2);
    let revoke = json!({ "serial_number": below["serial_number"], "reason": "ca_compromise" });
    api.write("POST", "/v1/pki/revoke", &revoke, 200).await;
    api.admin("POST", "/v1/pki/issue/low").json(&issue).send().await.refusal(409, "invalid_state");
    let after = api.get(&format!("/v1/pki/ca/{}", text(&below["id"]))).await;
    assert_eq!((&after["is_active"], &after["revocation_reason"]), (&json!(false), &json!("ca_compromise")));
    assert!(is_seconds(&after["revoked_at"]));
    let root = api.get(&format!("/v1/pki/ca/{ca}")).await;
    let revoke = json!({ "serial_number": root["serial_number"] });
    api.admin("POST", "/v1/pki/revoke").json(&revoke).send().await.refusal(409, "invalid_state");
    assert_eq!(api.get(&format!("/v1/pki/ca/{ca}")).await["is_active"], true);
}

#[tokio::test]
async fn holds_are_released_many_are_revoked_and_a_root_ends() {
    let world = World::start().await;
    let (api, serial) = (&world.api, &world.serial);
    let hold = json!({ "serial_number": serial, "reason": "certificate_hold" });
    api.write("POST", "/v1/pki/revoke", &hold, 200).await;
    assert_eq!(ocsp(&world, serial).await, Status::Revoked);
    let released = api.write("POST", "/v1/pki/release", &json!({ "serial_number": serial }), 200).await;
    assert_eq!(keys(&released), ["ca_id", "id", "released_at", "serial_number"]);
    assert_eq!(ocsp(&world, serial).await, Status::Good);
    let again = api.admin("POST", "/v1/pki/release").json(&json!({ "serial_number": serial }));
    again.send().await.refusal(409, "invalid_state");

    let preview = json!({ "role": "svc", "dry_run": true });
    let preview = api.write("POST", "/v1/pki/revoke/bulk", &preview, 200).await;
    assert_eq!((&preview["matched"], &preview["serial_numbers"]), (&json!(1), &json!([serial])));
    assert_eq!(ocsp(&world, serial).await, Status::Good);
    for bad in
        [json!({}), json!({ "role": "svc", "reason": "certificate_hold" }), json!({ "key_sha256": "00" })]
    {
        api.admin("POST", "/v1/pki/revoke/bulk").json(&bad).send().await.refusal(422, "validation_error");
    }
    let done = json!({ "role": "svc", "reason": "superseded" });
    assert_eq!(api.write("POST", "/v1/pki/revoke/bulk", &done, 200).await["revoked"], 1);
    assert_eq!(ocsp(&world, serial).await, Status::Revoked);

    let path = format!("/v1/pki/ca/{}/revoke", world.ca);
    let bad = api.admin("POST", &path).json(&json!({ "reason": "remove_from_crl" })).send().await;
    bad.refusal(422, "validation_error");
    let ended = api.write("POST", &path, &json!({ "reason": "superseded" }), 200).await;
    assert_eq!((&ended["is_active"], &ended["revocation_reason"]), (&json!(false), &json!("superseded")));
    let issue = json!({ "common_name": "a.svc.cluster.local" });
    api.admin("POST", "/v1/pki/issue/svc").json(&issue).send().await.refusal(409, "invalid_state");
}

#[tokio::test]
async fn the_revocation_list_needs_no_token_and_comes_as_asked_for() {
    let world = World::start().await;
    let (api, path) = (&world.api, format!("/v1/pki/ca/{}/crl", world.ca));
    let der = api.anonymous("GET", &path).send().await;
    assert_eq!((der.status, der.header("content-type")), (200, Some("application/pkix-crl")));
    assert_eq!(
        (der.header("cache-control"), der.header("vary")),
        (Some("public, max-age=60"), Some("accept"))
    );
    let pem_first = "application/x-pem-file, application/pkix-crl";
    for accept in ["application/x-pem-file", "application/json, application/X-Pem-File;q=0.1", pem_first] {
        let pem = api.anonymous("GET", &path).header("Accept", accept).send().await;
        assert_eq!((pem.status, pem.header("content-type")), (200, Some("application/x-pem-file")));
        let block = Pem::iter_from_buffer(&pem.body).next().unwrap().unwrap();
        assert_eq!((block.label.as_str(), &block.contents), ("X509 CRL", &der.body), "{accept}");
    }
    let der_first = "application/pkix-crl, application/x-pem-file";
    let no_pem = "application/x-pem-file;q=0, application/pkix-crl";
    for accept in ["*/*", "application/pkix-crl", "", der_first, no_pem] {
        assert_eq!(api.anonymous("GET", &path).header("Accept", accept).send().await.body, der.body);
    }
    let issuer = certificate(&world, &world.ca).await;
    let (_, crl) = CertificateRevocationList::from_der(&der.body).unwrap();
    crl.verify_signature(issuer.parse_x509().unwrap().public_key()).unwrap();
    for unknown in ["ca_none", "x"] {
        let answer = api.anonymous("GET", &format!("/v1/pki/ca/{unknown}/crl")).send().await;
        answer.refusal(404, "ca_not_found");
    }
    // A token is neither needed nor looked at.
    let bad = api.call("garbage", "GET", &path).send().await;
    assert_eq!((bad.status, bad.body), (200, der.body));
    assert!(api.audit("action=pki_crl").await.is_empty());
}

#[tokio::test]
async fn who_has_a_list_or_an_answer_is_told_so_and_no_more() {
    let world = World::start().await;
    let (api, path) = (&world.api, format!("/v1/pki/ca/{}/crl", world.ca));
    let request = ocsp_request(&certificate(&world, &world.ca).await, &world.serial, &[]);
    let ocsp = format!("/v1/pki/ocsp/{}/{}", world.ca, STANDARD.encode(request));
    for path in [&path, &ocsp] {
        let first = api.anonymous("GET", path).send().await;
        let field = |name: &str| first.header(name).unwrap().to_owned();
        let (tag, since) = (field("etag"), field("last-modified"));
        for (name, value) in [("If-None-Match", tag.as_str()), ("If-Modified-Since", &since)] {
            let again = api.anonymous("GET", path).header(name, value).send().await;
            assert_eq!((again.status, again.body.len()), (304, 0), "{path} {name}");
            for name in ["etag", "last-modified", "expires", "cache-control"] {
                assert_eq!(again.header(name), first.header(name), "{path} {name}");
            }
        }
        let old = "Mon, 02 Nov 2020 02:05:06 GMT";
        for (name, value) in [("If-None-Match", "\"x\""), ("If-Modified-Since", old)] {
            let answer = api.anonymous("GET", path).header(name, value).send().await;
            assert_eq!((answer.status, &answer.body), (200, &first.body), "{path} {name}");
        }
    }
    // PEM is another representation, and another list another one.
    let der = api.anonymous("GET", &path).send().await.header("etag").unwrap().to_owned();
    let ask = |accept: &'static str| {
        api.anonymous("GET", &path).header("Accept", accept).header("If-None-Match", &der).send()
    };
    assert_eq!(ask("application/x-pem-file").await.status, 200);
    api.admin("POST", &path).send().await.expect(200);
    assert_eq!(ask("application/pkix-crl").await.status, 200);
}

/// The serial numbers on the list that is published.
async fn revoked(world: &World) -> Vec<String> {
    let der = world.api.anonymous("GET", &format!("/v1/pki/ca/{}/crl", world.ca)).send().await.body;
    let (_, crl) = CertificateRevocationList::from_der(&der).unwrap();
    crl.iter_revoked_certificates().map(|entry| entry.raw_serial_as_string().to_ascii_uppercase()).collect()
}

async fn certificate(world: &World, ca: &str) -> Pem {
    let pem = text(&world.api.get(&format!("/v1/pki/ca/{ca}/certificate")).await["certificate_pem"]);
    Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap()
}

#[derive(Debug, PartialEq)]
enum Status {
    Good,
    Revoked,
    Unknown,
}

/// One element of DER.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match u8::try_from(content.len()) {
        Ok(n) if n < 0x80 => vec![n],
        Ok(n) => vec![0x81, n],
        Err(_) => [&[0x82][..], &u16::try_from(content.len()).unwrap().to_be_bytes()].concat(),
    };
    [&[tag][..], &length, &content].concat()
}

fn serial_bytes(serial: &str) -> Vec<u8> {
    serial.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect()
}

/// A request about one serial number of `issuer` (RFC 6960, 4.1.1), with a nonce if it is not empty.
fn ocsp_request(issuer: &Pem, serial: &str, nonce: &[u8]) -> Vec<u8> {
    let issuer = issuer.parse_x509().unwrap();
    let hash = |bytes: &[u8]| der(0x04, &[digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref()]);
    let sha1 = der(0x30, &[&[0x06, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0]]);
    let (name, key) = (hash(issuer.subject().as_raw()), hash(&issuer.public_key().subject_public_key.data));
    let id = der(0x30, &[&sha1, &name, &key, &der(0x02, &[&serial_bytes(serial)])]);
    let list = der(0x30, &[&der(0x30, &[&id])]);
    let extensions = if nonce.is_empty() {
        Vec::new()
    } else {
        let oid = [0x06, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
        let nonce = der(0x30, &[&oid, &der(0x04, &[&der(0x04, &[nonce])])]);
        der(0xa2, &[&der(0x30, &[&nonce])])
    };
    der(0x30, &[&der(0x30, &[&list, &extensions])])
}

/// What a successful answer says of the serial number: the status follows it (RFC 6960, 4.2.1).
fn status_in(answer: &Answer, serial: &str) -> Status {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/ocsp-response")),
        "{answer:?}"
    );
    assert!(answer.body.windows(4).any(|four| four == [0x0a, 1, 0, 0xa0]), "not successful");
    let number = der(0x02, &[&serial_bytes(serial)]);
    let at =
        answer.body.windows(number.len()).position(|part| part == number).expect("another serial number");
    match answer.body[at + number.len()] {
        0x80 => Status::Good,
        0xa1 => Status::Revoked,
        0x82 => Status::Unknown,
        tag => panic!("status {tag:#x}"),
    }
}

async fn ocsp(world: &World, serial: &str) -> Status {
    let request = ocsp_request(&certificate(world, &world.ca).await, serial, &[]);
    let call = world.api.anonymous("POST", &format!("/v1/pki/ocsp/{}", world.ca));
    status_in(&call.body("application/ocsp-request", request).send().await, serial)
}

/// What RFC 5019 has for an answer that others may have.
const CACHED: &str = "max-age=60, public, no-transform, must-revalidate";

/// `OCSPResponse { malformedRequest }` and `{ unauthorized }`, whole.
const MALFORMED: [u8; 5] = [0x30, 3, 0x0a, 1, 1];
const UNAUTHORIZED: [u8; 5] = [0x30, 3, 0x0a, 1, 6];

#[tokio::test]
async fn ocsp_answers_post_and_every_spelling_of_get() {
    let world = World::start().await;
    let (api, path, serial) = (&world.api, format!("/v1/pki/ocsp/{}", world.ca), &world.serial);
    let issuer = certificate(&world, &world.ca).await;
    assert_eq!(ocsp(&world, serial).await, Status::Good);
    assert_eq!(ocsp(&world, "01:02:03").await, Status::Unknown);

    let mut seen = [false; 4];
    for nonce in [
        &[0xff_u8; 9][..],
        &[0xff; 10],
        &[0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe, 0xfb],
        &[0; 8],
    ] {
        let request = ocsp_request(&issuer, serial, nonce);
        let base64 = STANDARD.encode(&request);
        for (seen, part) in seen.iter_mut().zip(["//", "/", "+", "="]) {
            *seen |= base64.contains(part);
        }
        let encoded = base64.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let lower = encoded.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d");
        for tail in [
            base64.clone(),
            encoded,
            lower,
            base64.replace('=', ""),
            base64.replace('+', "-").replace('/', "_"),
        ] {
            let answer = api.anonymous("GET", &format!("{path}/{tail}")).send().await;
            assert_eq!(status_in(&answer, serial), Status::Good, "{tail}");
            assert_ne!(answer.header("cache-control"), Some(CACHED), "not for others");
            let echoed = answer.body.windows(nonce.len()).any(|part| part == nonce);
            assert!(echoed, "the nonce comes back");
        }
    }
    let tail = STANDARD.encode(ocsp_request(&issuer, serial, &[]));
    let first = api.anonymous("GET", &format!("{path}/{tail}")).send().await;
    assert_eq!(status_in(&first, serial), Status::Good);
    assert_eq!(first.header("cache-control"), Some(CACHED));
    for date in ["last-modified", "expires"] {
        assert!(first.header(date).is_some_and(|date| date.ends_with(" GMT")), "{date}");
    }
    let again = api.anonymous("GET", &format!("{path}/{tail}")).send().await;
    assert_eq!((again.header("etag"), &again.body), (first.header("etag"), &first.body), "signed once");
    assert_eq!(seen, [true; 4], "the requests have every character that is special in a path");
}

#[tokio::test]
async fn ocsp_tells_what_it_cannot_read_in_its_own_words() {
    let world = World::start().await;
    let (api, path) = (&world.api, format!("/v1/pki/ocsp/{}", world.ca));
    let issuer = certificate(&world, &world.ca).await;
    let good = ocsp_request(&issuer, &world.serial, &[]);
    let post = |body: Vec<u8>| api.anonymous("POST", &path).body("application/ocsp-request", body);
    for bad in [
        Vec::new(),
        vec![0],
        b"garbage".to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b"x"].concat(),
    ] {
        let answer = post(bad).send().await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &MALFORMED[..]));
        assert_eq!(answer.header("content-type"), Some("application/ocsp-response"));
    }
    for tail in ["x", "%", "%zz", "!!!!", "AAAA", "..", "a/../b", "%00"] {
        let answer = api.anonymous("GET", &format!("{path}/{tail}")).send().await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &MALFORMED[..]), "{tail}");
    }
    // About a certificate of somebody else.
    let other = json!({ "name": "other", "common_name": "Other", "ca_type": "root", "key_type": "ec" });
    let other = text(&api.write("POST", "/v1/pki/ca", &other, 201).await["id"]);
    let foreign = ocsp_request(&certificate(&world, &other).await, &world.serial, &[]);
    assert_eq!(post(foreign).send().await.body, UNAUTHORIZED);

    let unknown =
        api.anonymous("POST", "/v1/pki/ocsp/ca_none").body("application/ocsp-request", good.clone());
    unknown.send().await.refusal(404, "ca_not_found");
    let unknown = api.anonymous("GET", &format!("/v1/pki/ocsp/ca_none/{}", STANDARD.encode(&good)));
    unknown.send().await.refusal(404, "ca_not_found");
    for media in ["application/json", "text/plain", "application/ocsp-response"] {
        let answer = api.anonymous("POST", &path).body(media, good.clone()).send().await;
        answer.refusal(415, "unsupported_media_type");
    }
    api.anonymous("POST", &path).bare_body(good.clone()).send().await.refusal(415, "unsupported_media_type");
    post(vec![0; (16 << 10) + 1]).send().await.refusal(413, "payload_too_large");
    let labelled = api.anonymous("POST", &path).body("Application/OCSP-Request; x=y", good);
    assert_eq!(status_in(&labelled.send().await, &world.serial), Status::Good);
}

const ELSEWHERE: &str = "\
[req]
prompt=no
distinguished_name=name
x509_extensions=ca
[name]
CN=Elsewhere
[ca]
basicConstraints=critical,CA:true
keyUsage=critical,keyCertSign,cRLSign
";

#[tokio::test]
async fn authorities_of_others_are_taken_over_certified_and_given_new_keys() {
    let api = Api::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.cnf"), ELSEWHERE).unwrap();
    for arguments in [
        "ecparam -name prime256v1 -genkey -noout -out key.pem",
        "req -new -x509 -key key.pem -config ca.cnf -days 30 -out own.pem",
    ] {
        let mut openssl = std::process::Command::new("openssl");
        let done = openssl.args(arguments.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{arguments}: {done:?}");
    }
    let file = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let mut import = json!({
        "name": "elsewhere", "certificate_pem": file("own.pem"), "private_key_pem": "x", "crl_number": 7,
    });
    let refused = api.admin("POST", "/v1/pki/ca/import").json(&import).send().await;
    let refused = refused.refusal(422, "validation_error");
    assert_eq!(keys(&refused["details"]["fields"]), ["private_key_pem"]);
    import["private_key_pem"] = json!(file("key.pem"));
    let answer = api.admin("POST", "/v1/pki/ca/import").json(&import).send().await;
    let key = file("key.pem");
    let secret = key.lines().nth(1).unwrap();
    assert!(!answer.text().contains(secret) && !answer.text().contains("PRIVATE"));
    let ca = answer.expect(201).json();
    assert_eq!(keys(&ca), CA);
    assert_eq!(
        (&ca["state"], &ca["ca_type"], &ca["common_name"]),
        (&json!("active"), &json!("root"), &json!("Elsewhere"))
    );
    let id = text(&ca["id"]);
    assert_eq!(api.get(&format!("/v1/pki/ca/{id}/csr")).await, json!({ "csr_pem": null }));

    // What it had issued.
    for arguments in [
        "req -new -key key.pem -config ca.cnf -out leaf.csr",
        "x509 -req -in leaf.csr -CA own.pem -CAkey key.pem -set_serial 77 -days 5 -out leaf.pem",
    ] {
        let mut openssl = std::process::Command::new("openssl");
        let done = openssl.args(arguments.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{arguments}: {done:?}");
    }
    let path = format!("/v1/pki/ca/{id}/certificates");
    let mut register = json!({ "certificates_pem": [file("leaf.pem"), "x"] });
    let refused = api.admin("POST", &path).json(&register).send().await.refusal(422, "validation_error");
    assert_eq!(keys(&refused["details"]["fields"]), ["certificates_pem[1]"]);
    register["certificates_pem"][1] = json!(file("own.pem"));
    let done = api.write("POST", &path, &register, 200).await;
    assert_eq!(done, json!({ "registered": 1, "known": 1, "expired": 0 }));
    let found = api.get("/v1/pki/certificates?serial_number=4d&weak=false").await;
    assert_eq!(
        (&found["certificates"][0]["source"], &found["certificates"][0]["weak"]),
        (&json!("imported"), &json!([]))
    );
    assert_eq!(api.get("/v1/pki/certificates?weak=true").await["certificates"], json!([]));
    assert_eq!(api.get("/v1/pki/certificates/summary").await["by_weakness"], json!([]));
    register["certificates_pem"] = json!([]);
    api.admin("POST", &path).json(&register).send().await.refusal(422, "validation_error");

    let waiting = json!({
        "name": "inside", "common_name": "Inside", "ca_type": "intermediate", "key_type": "ec", "external": true,
    });
    let waiting = api.write("POST", "/v1/pki/ca", &waiting, 201).await;
    assert_eq!((&waiting["state"], &waiting["serial_number"]), (&json!("pending"), &json!("")));
    let waits = text(&waiting["id"]);
    let csr = api.get(&format!("/v1/pki/ca/{waits}/csr")).await;
    let call =
        api.admin("GET", &format!("/v1/pki/ca/{waits}/csr")).header("Accept", "application/x-pem-file");
    assert_eq!(json!(call.send().await.expect(200).text()), csr["csr_pem"]);
    let path = format!("/v1/pki/ca/{waits}/certificate");
    let foreign = json!({ "certificate_pem": file("own.pem"), "chain_pem": [] });
    let refused = api.admin("POST", &path).json(&foreign).send().await.refusal(422, "validation_error");
    assert_eq!(keys(&refused["details"]["fields"]), ["certificate_pem"]);
    api.admin("GET", &path).send().await.refusal(409, "invalid_state");

    let signed = json!({ "csr_pem": csr["csr_pem"], "max_path_length": 0 });
    let cross = api.write("POST", &format!("/v1/pki/ca/{id}/cross-sign"), &signed, 201).await;
    assert_eq!(keys(&cross), ["ca_id", "certificate_pem", "chain_pem", "id"]);
    let good = json!({ "certificate_pem": cross["certificate_pem"], "chain_pem": [cross["chain_pem"]] });
    let inside = api.write("POST", &path, &good, 200).await;
    assert_eq!((&inside["state"], &inside["max_path_length"]), (&json!("active"), &json!(0)));

    // A new key for it waits as well, and is given up; a CA with a certificate is not.
    let path = format!("/v1/pki/ca/{waits}/rekey");
    let bounded = json!({ "name": "inside 2", "validity_days": 9 });
    let refused = api.admin("POST", &path).json(&bounded).send().await.refusal(422, "validation_error");
    assert_eq!(keys(&refused["details"]["fields"]), ["validity_days"]);
    let next =
        json!({ "name": "inside 2", "crl_shards": 2, "delta_crls": true, "keep_expired_on_crl": null });
    for _ in 0..2 {
        let next = api.write("POST", &path, &next, 201).await;
        assert_eq!(
            (&next["state"], &next["replaces"], &next["crl_shards"]),
            (&json!("pending"), &json!(waits), &json!(2))
        );
        let next = format!("/v1/pki/ca/{}", text(&next["id"]));
        let gone = api.admin("DELETE", &next).send().await.expect(204);
        assert!(gone.body.is_empty());
        api.admin("GET", &next).send().await.refusal(404, "ca_not_found");
        api.admin("DELETE", &next).send().await.refusal(404, "ca_not_found");
    }
    let refused =
        api.admin("DELETE", &format!("/v1/pki/ca/{waits}")).send().await.refusal(409, "invalid_state");
    assert!(refused["message"].as_str().unwrap().contains("Revoke it"), "{refused}");
    let theirs = json!({ "serial_number": inside["serial_number"], "ca_id": waits, "reason": "superseded" });
    api.admin("POST", "/v1/pki/revoke").json(&theirs).send().await.refusal(409, "invalid_state");

    let again = api.write("POST", &format!("/v1/pki/ca/{id}/rekey"), &json!({ "name": "again" }), 201).await;
    assert_eq!((&again["generation"], &again["replaces"]), (&json!(2), &json!(id)));
    let new = text(&again["id"]);
    let switched = api.admin("POST", &format!("/v1/pki/ca/{new}/default")).send().await.expect(200).json();
    assert_eq!(switched["id"], json!(new));
    api.write("POST", &format!("/v1/pki/ca/{id}/cross-sign"), &json!({ "ca_id": new }), 201).await;
    let chains = api.get(&format!("/v1/pki/ca/{new}/certificate")).await;
    assert_eq!(chains["cross_certificates"].as_array().unwrap().len(), 1);
    let trail = api.audit("").await;
    assert!(!serde_json::to_string(&trail).unwrap().contains(secret));
}
