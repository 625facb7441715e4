//! Client certificates: who gets past the handshake, and whose token is good over which connection.

use std::{fs, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use scaivault_core::{Category, ClientIdentities, RateLimits};
use scaivault_server::http::tls;
use serde_json::{Value, json};

use crate::{
    auth::Forge,
    support::{Api, Who},
};

/// An authority for both ends of the connections.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
struct Identity {
    pem: String,
    key: String,
    der: Vec<u8>,
}

impl Identity {
    /// As `cnf` names it (RFC 8705 section 3.1).
    fn thumbprint(&self) -> String {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der);
        URL_SAFE_NO_PAD.encode(hash)
    }
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, names: &[SanType], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { pem: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }

    fn client(&self, uris: &[&str], dns: &[&str]) -> Identity {
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let dns = dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        self.issue(&uris.chain(dns).collect::<Vec<_>>(), |_| {})
    }
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("clients and servers"));

async fn start(lines: &str) -> Api {
    let name = SanType::DnsName("localhost".try_into().unwrap());
    let server = AUTHORITY.issue(&[name], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = (file("tls.crt", &server.pem), file("tls.key", &server.key));
    let clients = file("clients.crt", &AUTHORITY.pem);
    let acceptor = tls::acceptor(&certificate, &key, Some(&clients)).unwrap();
    Api::over_tls(acceptor, ClientIdentities::parse(lines).unwrap()).await
}

#[expect(clippy::disallowed_methods, reason = "a client of the server under test")]
fn client(api: &Api, identity: Option<&Identity>) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(AUTHORITY.pem.as_bytes()).unwrap();
    let client =
        reqwest::Client::builder().tls_certs_only([root]).no_proxy().resolve("localhost", api.address);
    let client = match identity {
        Some(Identity { pem, key, .. }) => {
            client.identity(reqwest::Identity::from_pem(format!("{pem}{key}").as_bytes()).unwrap())
        }
        None => client,
    };
    client.build().unwrap()
}

/// The status and the error's code, if a request gets an answer at all.
async fn ask(
    api: &Api,
    identity: Option<&Identity>,
    path: &str,
    token: Option<&str>,
) -> Option<(u16, String)> {
    let request = client(api, identity).get(format!("https://localhost:{}{path}", api.address.port()));
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    Some((status, body["error"]["code"].as_str().unwrap_or_default().to_owned()))
}

fn invalid() -> Option<(u16, String)> {
    Some((401, "token_invalid".to_owned()))
}

fn good() -> Option<(u16, String)> {
    Some((200, String::new()))
}

#[tokio::test]
async fn without_a_certificate_that_holds_nobody_gets_past_the_handshake() {
    let api = start("").await;
    let stranger = Authority::new("clients and servers");
    let expired = AUTHORITY.issue(&[], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let future = AUTHORITY.issue(&[], |params| params.not_before = rcgen::date_time_ymd(2999, 1, 1));
    let server = AUTHORITY.issue(&[], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::default().self_signed(&key).unwrap();
        Identity { pem: made.pem(), key: key.serialize_pem(), der: made.der().to_vec() }
    };
    let foreign = stranger.client(&[], &["localhost"]);
    for path in ["/v1/health", "/v1/auth/whoami"] {
        for refused in
            [None, Some(&foreign), Some(&expired), Some(&future), Some(&server), Some(&self_signed)]
        {
            assert_eq!(ask(&api, refused, path, Some(&api.admin)).await, None);
        }
        assert_eq!(ask(&api, Some(&AUTHORITY.client(&[], &[])), path, Some(&api.admin)).await, good());
    }
    // It is asked for besides tokens, not instead of them.
    let client = AUTHORITY.client(&[], &[]);
    let without = ask(&api, Some(&client), "/v1/auth/whoami", None).await;
    assert_eq!(without, Some((401, "authentication_required".to_owned())));
}

#[tokio::test]
async fn sec_g1_a_bound_token_is_good_with_its_certificate_alone() {
    let api = start("").await;
    let (mine, other) = (AUTHORITY.client(&[], &[]), AUTHORITY.client(&[], &[]));
    let forge = Forge::of(&api);
    let bound = forge.sign(|claims| claims["cnf"] = json!({ "x5t#S256": mine.thumbprint() }));
    // Every way twice, and mixed: a token that was good once is known, and its binding with it.
    for _ in 0..2 {
        assert_eq!(ask(&api, Some(&mine), "/v1/auth/whoami", Some(&bound)).await, good());
        assert_eq!(ask(&api, Some(&other), "/v1/auth/whoami", Some(&bound)).await, invalid());
    }
    // One that is bound to nothing is good with any.
    assert_eq!(ask(&api, Some(&other), "/v1/auth/whoami", Some(&api.admin)).await, good());
    let hex = hex::encode(URL_SAFE_NO_PAD.decode(mine.thumbprint()).unwrap());
    for cnf in [
        Value::Null,
        json!({}),
        json!([]),
        json!("x5t#S256"),
        json!({ "x5t#S256": null }),
        json!({ "x5t#S256": [mine.thumbprint()] }),
        json!({ "x5t#S256": "" }),
        json!({ "x5t#S256": format!("{}=", mine.thumbprint()) }),
        json!({ "x5t#S256": hex }),
        json!({ "x5t#S256": other.thumbprint() }),
        json!({ "x5t#S256": &mine.thumbprint()[..40] }),
        json!({ "x5t#s256": mine.thumbprint() }),
        json!({ "x5t": mine.thumbprint() }),
        json!({ "jkt": mine.thumbprint() }),
        json!({ "x5t#S256": mine.thumbprint(), "jkt": mine.thumbprint() }),
        json!({ "x5t#S256": mine.thumbprint(), "jwk": {} }),
    ] {
        let token = forge.sign(|claims| claims["cnf"] = cnf.clone());
        assert_eq!(ask(&api, Some(&mine), "/v1/auth/whoami", Some(&token)).await, invalid(), "{cnf}");
    }
}

#[tokio::test]
async fn sec_g1_a_bound_token_is_worth_nothing_where_no_certificates_are_asked_for() {
    let api = Api::start().await;
    let mine = AUTHORITY.client(&[], &[]);
    let bound = Forge::of(&api).sign(|claims| claims["cnf"] = json!({ "x5t#S256": mine.thumbprint() }));
    let pem = URL_SAFE_NO_PAD.encode(&mine.der);
    // No header is believed.
    for header in
        ["X-Client-Cert", "X-SSL-Client-Cert", "Client-Cert", "X-Forwarded-Client-Cert", "ssl-client-cert"]
    {
        for value in [pem.as_str(), &format!(":{pem}:"), &mine.thumbprint()] {
            let call = api.call(&bound, "GET", "/v1/auth/whoami").header(header, value);
            call.send().await.refusal(401, "token_invalid");
        }
    }
    // It counts as a login that failed.
    let api = Api::limited(RateLimits::none().with(Category::AuthFailed, Some(1))).await;
    let bound = Forge::of(&api).sign(|claims| claims["cnf"] = json!({ "x5t#S256": mine.thumbprint() }));
    api.call(&bound, "GET", "/v1/auth/whoami").send().await.refusal(401, "token_invalid");
    api.call(&bound, "GET", "/v1/auth/whoami").send().await.refusal(429, "rate_limited");
}

#[tokio::test]
async fn sec_d1_a_certificate_that_stands_for_somebody_lets_nobody_else_in() {
    let api = start(
        "uri:spiffe://acme.example/billing tnt_dev sa:billing\n\
         dns:billing.acme.example tnt_dev sa:billing\n\
         dns:web.acme.example tnt_dev sa:web\n\
         dns:abroad.acme.example tnt_abroad sa:billing",
    )
    .await;
    let forge = Forge::of(&api);
    let token = |who: &str, to: Option<&Identity>| {
        forge.sign(|claims| {
            claims["sub"] = json!(who);
            if let Some(identity) = to {
                claims["cnf"] = json!({ "x5t#S256": identity.thumbprint() });
            }
        })
    };
    let billing = AUTHORITY.client(&["spiffe://acme.example/billing"], &["billing.acme.example"]);
    let web = AUTHORITY.client(&[], &["web.acme.example"]);
    let both = AUTHORITY.client(&["spiffe://acme.example/billing"], &["web.acme.example"]);
    let abroad = AUTHORITY.client(&[], &["abroad.acme.example"]);
    let nobody = AUTHORITY.client(&["spiffe://acme.example/billing/x"], &["*.acme.example"]);
    for (identity, who, bound, expected) in [
        (&billing, "sa:billing", Some(&billing), good()),
        (&billing, "sa:billing", None, invalid()),
        (&billing, "sa:billing", Some(&web), invalid()),
        (&billing, "sa:web", Some(&billing), invalid()),
        (&billing, "user:mallory", Some(&billing), invalid()),
        (&web, "sa:web", Some(&web), good()),
        (&web, "sa:billing", Some(&web), invalid()),
        (&both, "sa:billing", Some(&both), invalid()),
        (&both, "sa:web", Some(&both), invalid()),
        (&abroad, "sa:billing", Some(&abroad), invalid()),
        (&nobody, "sa:billing", Some(&nobody), good()),
        (&nobody, "user:mallory", None, good()),
    ] {
        let answer = ask(&api, Some(identity), "/v1/auth/whoami", Some(&token(who, bound))).await;
        assert_eq!(answer, expected, "{who}");
    }
    let admin = api.token_of(&Who { roles: &["super_admin"], ..Who::new("user:root", "admin") });
    assert_eq!(ask(&api, Some(&billing), "/v1/secrets", Some(&admin)).await, invalid());
}
