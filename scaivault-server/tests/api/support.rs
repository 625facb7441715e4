//! A server and a client that sends exactly what it is told to.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use scaivault_core::{
    ClientIdentities, Clock as _, Database, Error, Introspect, PartnerId, RateLimits, Result, RolePasswords,
    StaticJwks, SystemClock, TokenSettings, TokenVerifier, Vault,
    identities::WebhookSecrets,
    trust::{ExchangeSettings, Outside, Posted},
};
use scaivault_kms::local::{KeyFile, LocalProvider};
use scaivault_server::metrics::Metrics;
use scaivault_server::{
    app::Service,
    dev::{Claims, DevIssuer, PARTNER, TENANT},
    http::{
        origin::TrustedProxies,
        serve::{Limits, Server},
        stop::{Stopper, pair},
    },
    routes,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _};
use tempfile::TempDir;
use time::format_description::well_known::Rfc3339;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use crate::contract;

/// What the events of the tests are signed with.
pub(crate) const WEBHOOK_SECRET: &[u8] = b"a secret of the identity provider";

/// How the vault of the tests is reached, as far as it knows.
pub(crate) const BASE: &str = "https://vault.example";

/// What differs between the servers of the tests.
struct Setup {
    limits: RateLimits,
    proxies: TrustedProxies,
    tls: Option<TlsAcceptor>,
    identities: ClientIdentities,
    outside: Arc<dyn Outside>,
    source: Option<Arc<dyn Introspect>>,
}

/// Nothing can be reached.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Outside for Nowhere {
    async fn get(&self, _: &str, _: usize) -> Result<String> {
        Err(Error::internal("nothing is reached in this test"))
    }

    async fn post(&self, _: &str, _: &[(&str, &str)], _: &str, _: usize) -> Result<Posted> {
        Err(Error::internal("nothing is reached in this test"))
    }
}

impl Default for Setup {
    fn default() -> Self {
        let (proxies, identities) = (TrustedProxies::default(), ClientIdentities::default());
        let outside = Arc::new(Nowhere);
        Self { limits: RateLimits::none(), proxies, tls: None, identities, outside, source: None }
    }
}

/// A running server and the issuer that it believes.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    /// The listener of `PKI_HTTP_BIND`.
    pub(crate) plain: SocketAddr,
    pub(crate) vault: Vault,
    pub(crate) issuer: DevIssuer,
    pub(crate) dir: TempDir,
    pub(crate) admin: String,
    auditor: String,
    /// What the handlers are told of a stop; the listener goes on.
    pub(crate) stopper: Stopper,
    /// Ends the listener when dropped at the end of the runtime.
    _server: Stopper,
}

impl Api {
    /// On a database in memory.
    pub(crate) async fn start() -> Self {
        Self::on(Database::in_memory(), tempfile::tempdir().unwrap()).await
    }

    /// On a SQLite file.
    pub(crate) async fn on_file() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(Database::sqlite(dir.path().join("vault.db")), dir).await
    }

    /// On a PostgreSQL database of its own, as the role that serves; `None` where there is no server for tests.
    pub(crate) async fn on_postgres() -> Option<(Self, Scratch)> {
        let scratch = Scratch::create().await?;
        let database = Database::postgres(&scratch.app_url, 4).unwrap();
        Some((Self::on(database, tempfile::tempdir().unwrap()).await, scratch))
    }

    /// On a database in memory, where nobody may ask as often as he likes.
    pub(crate) async fn limited(limits: RateLimits) -> Self {
        let proxies = TrustedProxies::default();
        Self::with(Database::in_memory(), tempfile::tempdir().unwrap(), limits, proxies).await
    }

    /// The same with somebody who is asked about opaque tokens.
    pub(crate) async fn asking(limits: RateLimits, source: Arc<dyn Introspect>) -> Self {
        let setup = Setup { limits, source: Some(source), ..Setup::default() };
        Self::set_up(Database::in_memory(), tempfile::tempdir().unwrap(), setup).await
    }

    /// On a database in memory, behind proxies.
    pub(crate) async fn behind(proxies: &str) -> Self {
        let (limits, proxies) = (RateLimits::none(), TrustedProxies::parse(proxies).unwrap());
        Self::with(Database::in_memory(), tempfile::tempdir().unwrap(), limits, proxies).await
    }

    async fn on(database: Database, dir: TempDir) -> Self {
        Self::with(database, dir, RateLimits::none(), TrustedProxies::default()).await
    }

    /// On a database in memory, behind TLS that asks for client certificates, some of which stand for somebody.
    pub(crate) async fn over_tls(tls: TlsAcceptor, identities: ClientIdentities) -> Self {
        let setup = Setup { tls: Some(tls), identities, ..Setup::default() };
        Self::set_up(Database::in_memory(), tempfile::tempdir().unwrap(), setup).await
    }

    /// On a database in memory, where exchanges reach these platforms.
    pub(crate) async fn exchanging(outside: Arc<dyn Outside>, limits: RateLimits) -> Self {
        let setup = Setup { outside, limits, ..Setup::default() };
        Self::set_up(Database::in_memory(), tempfile::tempdir().unwrap(), setup).await
    }

    async fn with(database: Database, dir: TempDir, limits: RateLimits, proxies: TrustedProxies) -> Self {
        Self::set_up(database, dir, Setup { limits, proxies, ..Setup::default() }).await
    }

    async fn set_up(database: Database, dir: TempDir, setup: Setup) -> Self {
        let Setup { limits, proxies, tls, identities, outside, source } = setup;
        let issuer = DevIssuer::open(dir.path()).unwrap();
        let root_key = Arc::new(LocalProvider::new(KeyFile::generate().unwrap()));
        let vault = Vault::builder(database, root_key)
            .base_url(BASE)
            .rate_limits(limits)
            .exchange(ExchangeSettings { minter: Arc::new(DevIssuer::open(dir.path()).unwrap()), outside })
            .webhook_secrets(Arc::new(WebhookSecrets::new([WEBHOOK_SECRET]).unwrap()))
            .bootstrap_super_admin("root@dev.example")
            .default_partner(PartnerId::parse(PARTNER).unwrap())
            .open()
            .await
            .unwrap();
        let settings = TokenSettings {
            issuers: vec![DevIssuer::ISSUER.to_owned()],
            audiences: vec![DevIssuer::AUDIENCE.to_owned()],
            default_partner: None,
        };
        let keys = Arc::new(StaticJwks::new(issuer.jwks()));
        let verifier = TokenVerifier::new(keys, settings, Arc::new(SystemClock)).unwrap();
        let verifier = Arc::new(match source {
            Some(source) => verifier.with_introspection(source),
            None => verifier,
        });
        let (stopper, stop) = pair();
        let (served, metrics) = (vault.clone(), Metrics::default());
        let app = Arc::new(Service { vault: served, verifier, stop, metrics, proxies, identities });
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let beside_app = Arc::clone(&app);
        let server =
            Server::bind(local, app, routes::router().unwrap(), tls, Limits::default()).await.unwrap();
        let address = server.address().unwrap();
        let beside = routes::revocation_router().unwrap();
        let beside = Server::bind(local, beside_app, beside, None, Limits::default()).await.unwrap();
        let plain = beside.address().unwrap();
        let (ends, until) = pair();
        tokio::spawn(server.run(until.clone()));
        tokio::spawn(beside.run(until));
        let mut api = Self {
            address,
            plain,
            vault,
            issuer,
            dir,
            admin: String::new(),
            auditor: String::new(),
            stopper,
            _server: ends,
        };
        api.admin =
            api.token_of(&Who { roles: &["tenant_admin"], ..Who::new("user:admin@dev.example", "admin") });
        api.auditor = api.token("user:auditor@dev.example", "audit:read");
        api
    }

    /// A token of the usual tenant without groups and roles.
    pub(crate) fn token(&self, identity: &str, scopes: &str) -> String {
        self.token_of(&Who::new(identity, scopes))
    }

    pub(crate) fn token_of(&self, who: &Who<'_>) -> String {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let claims = Claims {
            identity: who.identity.to_owned(),
            tenant: who.tenant.to_owned(),
            partner: who.partner.to_owned(),
            scopes: who.scopes.to_owned(),
            groups: owned(who.groups),
            roles: owned(who.roles),
            ttl: Duration::from_secs(600),
        };
        self.issuer.token(&claims).unwrap()
    }

    pub(crate) fn key_file(&self) -> std::path::PathBuf {
        Path::join(self.dir.path(), "issuer.key")
    }

    /// A request without a token.
    pub(crate) fn anonymous<'a>(&'a self, method: &str, path: &str) -> Call<'a> {
        Call {
            api: self,
            line: format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"),
            body: Vec::new(),
        }
    }

    pub(crate) fn call<'a>(&'a self, token: &str, method: &str, path: &str) -> Call<'a> {
        self.anonymous(method, path).token(token)
    }

    /// As the administrator of the tenant.
    pub(crate) fn admin<'a>(&'a self, method: &str, path: &str) -> Call<'a> {
        self.call(&self.admin, method, path)
    }

    /// As the administrator, what has to be answered with 200.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.admin("GET", path).send().await.expect(200).json()
    }

    /// As the administrator, what has to be answered with `status`.
    pub(crate) async fn write(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        self.admin(method, path).json(body).send().await.expect(status).json()
    }

    /// The audit records that a query finds, newest first, without those of such queries.
    pub(crate) async fn audit(&self, query: &str) -> Vec<Value> {
        let path = format!("/v1/audit/logs?limit=1000&{query}");
        let answer = self.call(&self.auditor, "GET", &path).send().await.expect(200);
        let logs = answer.json()["logs"].as_array().unwrap().clone();
        logs.into_iter().filter(|log| log["identity_id"] != "user:auditor@dev.example").collect()
    }

    /// Sends an event as the identity provider does.
    pub(crate) fn event<'a>(&'a self, event: &Value) -> Call<'a> {
        let body = event.to_string();
        let time = SystemClock.now().unix_timestamp().to_string();
        let signature = format!("t={time},v1={}", signature(&time, body.as_bytes()));
        let call = self.anonymous("POST", WEBHOOK).header("X-ScaiKey-Signature", &signature);
        call.header("X-ScaiKey-Timestamp", &time).body("application/json", body)
    }

    /// Sends an event of now about something of the usual tenant, which has to be taken over.
    pub(crate) async fn tell(&self, id: &str, kind: &str, about: (&str, &str), data: Value) {
        let answer = self.event(&event(id, kind, about, data)).send().await.expect(200).json();
        assert_eq!(
            answer,
            serde_json::json!({ "success": true, "handled": true, "duplicate": false }),
            "{kind}"
        );
    }

    /// Sends bytes as they are and reads to the end of the connection.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        Self::raw_to(self.address, bytes).await
    }

    async fn raw_to(address: SocketAddr, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // What is refused early may be refused before all of it was sent.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(30), read)
            .await
            .expect("the connection stayed open")
            .unwrap();
        Answer::parse(&answer)
    }
}

/// Where events go.
pub(crate) const WEBHOOK: &str = "/v1/identity/webhooks/scaikey";

/// The signature of a body sent at a time, in hexadecimal digits.
pub(crate) fn signature(time: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK_SECRET);
    hex::encode(hmac::sign(&key, &[time.as_bytes(), b".", body].concat()))
}

/// An event of now about something of the usual tenant.
pub(crate) fn event(id: &str, kind: &str, (resource, of): (&str, &str), data: Value) -> Value {
    serde_json::json!({
        "event_id": id, "event_type": kind, "timestamp": SystemClock.now().format(&Rfc3339).unwrap(),
        "tenant_id": TENANT, "partner_id": PARTNER, "resource": { "type": resource, "id": of }, "data": data,
    })
}

/// A PostgreSQL database that nobody else has, its schema made by the owner.
pub(crate) struct Scratch {
    server: sqlx::PgConnection,
    name: String,
    app_url: String,
}

impl Scratch {
    async fn create() -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "the one setting that the tests themselves have")]
        let server = std::env::var("SCAIVAULT_TEST_POSTGRES").ok()?;
        let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).unwrap();
        let name = format!("scaivault_test_{}", hex::encode(random));
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
        let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        let password = || Some("scaivault-test".to_owned().into());
        let passwords = RolePasswords { owner: password(), app: password() };
        let unused = Arc::new(LocalProvider::new(KeyFile::generate().unwrap()));
        let builder = Vault::builder(Database::postgres(&url, 1).unwrap(), unused);
        builder.create_roles(&passwords).await.unwrap();
        let app_url = format!("postgres://scaivault_app:scaivault-test@{}", url.split_once('@').unwrap().1);
        Some(Self { server: connection, name, app_url })
    }

    pub(crate) async fn drop_database(mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        sqlx::query(AssertSqlSafe(drop)).execute(&mut self.server).await.unwrap();
    }
}

/// Whom a token speaks for.
pub(crate) struct Who<'a> {
    pub(crate) identity: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) partner: &'a str,
    pub(crate) scopes: &'a str,
    pub(crate) groups: &'a [&'a str],
    pub(crate) roles: &'a [&'a str],
}

impl<'a> Who<'a> {
    pub(crate) fn new(identity: &'a str, scopes: &'a str) -> Self {
        Self { identity, tenant: TENANT, partner: PARTNER, scopes, groups: &[], roles: &[] }
    }
}

/// A request that is being put together.
pub(crate) struct Call<'a> {
    api: &'a Api,
    line: String,
    body: Vec<u8>,
}

impl Call<'_> {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.line.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(crate) fn body(self, media: &str, body: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", media).bare_body(body)
    }

    /// A body without a Content-Type.
    pub(crate) fn bare_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// The same in chunks, without an announced length.
    pub(crate) fn chunked(mut self, body: &[u8]) -> Self {
        self.body = Vec::new();
        for part in body.chunks(64 << 10) {
            self.body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            self.body.extend_from_slice(part);
            self.body.extend_from_slice(b"\r\n");
        }
        self.body.extend_from_slice(b"0\r\n\r\n");
        self.header("Content-Type", "application/json").header("Transfer-Encoding", "chunked")
    }

    /// Sends it to the listener of `PKI_HTTP_BIND`.
    pub(crate) async fn send_plain(self) -> Answer {
        Api::raw_to(self.api.plain, &[self.line.as_bytes(), b"\r\n", &self.body].concat()).await
    }

    pub(crate) async fn send(self) -> Answer {
        let answer = self.api.raw(&[self.line.as_bytes(), b"\r\n", &self.body].concat()).await;
        contract::check(&self.line, &self.body, &answer);
        answer
    }
}

/// An answer, taken apart.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let answer = Self { status, headers, body: bytes[end + 4..].to_vec() };
        assert!(answer.header("x-request-id").is_some(), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        answer
    }

    /// The value of a header that is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        if self.status >= 400 || self.header("content-type") == Some("application/json") {
            assert_eq!(self.header("cache-control"), Some("no-store"));
        }
        self
    }

    /// The refusal, in the envelope of every error; gives back its inside.
    #[track_caller]
    pub(crate) fn refusal(self, status: u16, code: &str) -> Value {
        let answer = self.expect(status);
        let mut body = answer.json();
        let error = body["error"].take();
        assert_eq!(body.as_object().unwrap().len(), 1, "{answer:?}");
        assert_eq!(keys(&error), ["code", "details", "message", "request_id"], "{answer:?}");
        assert_eq!(error["code"], code, "{answer:?}");
        assert_eq!(error["request_id"].as_str(), answer.header("x-request-id"), "{answer:?}");
        error
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, self.text())
    }
}

/// The names of an object's members, sorted.
#[track_caller]
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// Whether a text is a time of whole seconds in UTC.
pub(crate) fn is_seconds(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let shape = "0000-00-00T00:00:00Z";
    text.len() == shape.len()
        && text.chars().zip(shape.chars()).all(|(c, s)| if s == '0' { c.is_ascii_digit() } else { c == s })
}
