//! One of everything, to work with and to see what a refused request left alone.

use serde_json::{Value, json};

use scaivault_server::dev::TENANT;

use crate::support::{Api, Who};

/// A server whose tenant holds one of everything.
pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) ca: String,
    pub(crate) policy: String,
    pub(crate) binding: String,
    pub(crate) certificate: String,
    pub(crate) serial: String,
    pub(crate) trust: String,
    pub(crate) csr: String,
    pub(crate) anchor: String,
}

/// A certificate request for `x.svc.cluster.local` on P-256, whose key nobody has.
pub(crate) const CSR: &str = "\
-----BEGIN CERTIFICATE REQUEST-----\n\
MIHZMIGAAgEAMB4xHDAaBgNVBAMME3guc3ZjLmNsdXN0ZXIubG9jYWwwWTATBgcq\n\
hkjOPQIBBggqhkjOPQMBBwNCAATiZG2D9mqQIgI5vMroaEZSO73HptTxR1HS/k4x\n\
qcOvxxarEdxsBSRXX9LRNc5ySBTaPnYSOWMWnxMDdKr6XDs+oAAwCgYIKoZIzj0E\n\
AwIDSAAwRQIhAML4Ph+0npH6RHhdLTJq1bVeakYpVXnANOscIs4bW7Z9AiArPDF3\n\
2rcvf5aypuuX5xMaiIiN1H4EitT1uHutrDrVzg==\n\
-----END CERTIFICATE REQUEST-----\n\
";

/// A root in the hands of nobody, from 2020 to 2099.
pub(crate) const ANCHOR: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBYTCCAQegAwIBAgIBATAKBggqhkjOPQQDAjAXMRUwEwYDVQQDDAxQYXJ0bmVy\n\
IFJvb3QwIBcNMjAwMTAxMDAwMDAwWhgPMjA5OTAxMDEwMDAwMDBaMBcxFTATBgNV\n\
BAMMDFBhcnRuZXIgUm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPeyBClN\n\
5JBzkJ3zGIX8sqB7ilQfyfQ89voRSjKr5jVmJdN53pCqb9bk8nmkDgUCwPqJMB0H\n\
5QdRc9WM/unJ/KujQjBAMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEG\n\
MB0GA1UdDgQWBBS5Ve8khpm/6cmysha9BGqouwrXdDAKBggqhkjOPQQDAgNIADBF\n\
AiBTYl3LGNeY2N3RAGPebqzahH9W+8zTg2X5qawnblXihQIhAKMiNUmTQcWAckbz\n\
yWIR8NKtlOngbozYZ4EFEoTg4aPK\n\
-----END CERTIFICATE-----\n\
";

impl World {
    /// A root `mesh`, its roles `svc` and `other`, a certificate, a certificate request, the policy `narrow` that lets `sa:narrow`
    /// issue from `svc`, the trust configuration `actions`, the trust anchor `partner`, and `app/db` with two versions, once of its own and once
    /// shared by its partner.
    pub(crate) async fn start() -> Self {
        Self::on(Api::start().await).await
    }

    /// The same on a server that runs.
    pub(crate) async fn on(api: Api) -> Self {
        api.tell("evt_w1", "tenant.created", ("tenant", TENANT), json!({ "name": "Dev" })).await;
        api.tell("evt_w2", "user.created", ("user", "usr_worker"), json!({ "email": "worker@dev.example" }))
            .await;
        api.tell("evt_w3", "group.created", ("group", "grp_crew"), json!({ "slug": "crew" })).await;
        let member = json!({ "user_id": "usr_worker" });
        api.tell("evt_w4", "group.member_added", ("group", "grp_crew"), member).await;
        let root = json!({
            "name": "mesh", "common_name": "Mesh Root", "ca_type": "root", "key_type": "ec", "key_size": 256,
        });
        let ca = text(&api.write("POST", "/v1/pki/ca", &root, 201).await["id"]);
        for name in ["svc", "other"] {
            let role = json!({
                "name": name, "ca_id": ca, "allowed_domains": ["*.svc.cluster.local"], "max_ttl": "24h",
            });
            api.write("POST", "/v1/pki/roles", &role, 201).await;
        }
        let name = json!({ "common_name": "billing.svc.cluster.local" });
        let issued = api.write("POST", "/v1/pki/issue/svc", &name, 201).await;
        let csr = json!({ "csr_pem": CSR, "role": "svc" });
        let csr = text(&api.write("POST", "/v1/pki/csr", &csr, 201).await["id"]);
        let rules = json!([{ "path_pattern": "pki/issue/svc", "permissions": ["read"] }]);
        let policy = json!({ "name": "narrow", "rules": rules });
        let policy = text(&api.write("POST", "/v1/policies", &policy, 201).await["id"]);
        let bind = json!({ "identity_type": "service_account", "identity_id": "sa:narrow" });
        let path = format!("/v1/policies/{policy}/bindings");
        let binding = text(&api.write("POST", &path, &bind, 201).await["id"]);
        for (value, status) in [("one", 201), ("two", 200)] {
            api.write("PUT", "/v1/secrets/app/db", &json!({ "data": { "k": value } }), status).await;
        }
        let trust = text(&api.write("POST", "/v1/auth/trust", &github("actions"), 201).await["id"]);
        let anchor = json!({ "name": "partner", "certificate_pem": ANCHOR, "purpose": "tls_client" });
        let anchor = text(&api.write("POST", "/v1/pki/trust-anchors", &anchor, 201).await["id"]);
        let partner = Who { roles: &["partner_admin"], ..Who::new("user:partner@dev.example", "admin") };
        let partner = api.token_of(&partner);
        for (value, status) in [("three", 201), ("four", 200)] {
            let call = api.call(&partner, "PUT", "/v1/partner/secrets/app/db");
            call.json(&json!({ "data": { "k": value } })).send().await.expect(status);
        }
        let (certificate, serial) = (text(&issued["id"]), text(&issued["serial_number"]));
        Self { api, ca, policy, binding, certificate, serial, trust, csr, anchor }
    }

    /// Everything that a request could have changed.
    pub(crate) async fn snapshot(&self) -> Value {
        let Self { api, ca, policy, .. } = self;
        let crl = api.anonymous("GET", &format!("/v1/pki/ca/{ca}/crl")).header("Accept", "text/plain");
        json!([
            api.get("/v1/secrets?include_deleted=true").await,
            api.get("/v1/secrets/app/db/versions").await,
            api.get("/v1/partner/secrets?include_deleted=true").await,
            api.get("/v1/partner/secrets/app/db/versions").await,
            api.get("/v1/policies?include_inactive=true").await,
            api.get(&format!("/v1/policies/{policy}")).await,
            api.get("/v1/auth/trust").await,
            api.get("/v1/pki/ca").await,
            api.get("/v1/identity/users/usr_worker/roles").await,
            api.get("/v1/identity/sync/history").await,
            api.get("/v1/pki/roles").await,
            api.get("/v1/pki/certificates?include_revoked=true").await,
            api.get("/v1/pki/csr").await,
            api.get("/v1/pki/trust-anchors").await,
            crl.send().await.expect(200).text(),
        ])
    }

    /// Puts the identifiers into a path or a body: `{ca}`, `{policy}`, `{binding}`, `{cert}`, `{serial}`,
    /// `{csr}`, `{anchor}`.
    pub(crate) fn fill(&self, text: &str) -> String {
        [
            ("{ca}", &self.ca),
            ("{policy}", &self.policy),
            ("{binding}", &self.binding),
            ("{cert}", &self.certificate),
            ("{serial}", &self.serial),
            ("{trust}", &self.trust),
            ("{csr}", &self.csr),
            ("{anchor}", &self.anchor),
        ]
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// A trust configuration that means something.
pub(crate) fn github(name: &str) -> Value {
    json!({
        "name": name, "type": "github", "audiences": ["scaivault"], "bound_claims": { "repository": "acme/app" },
        "service_account": "sa:ci", "scopes": ["secrets:read"], "allowed_paths": ["ci/**"],
    })
}

/// A text out of JSON.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
