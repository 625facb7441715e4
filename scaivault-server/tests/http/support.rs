use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use scaivault_core::{Code, Error, Result};
use scaivault_server::http::{
    Head, Reply, Request,
    router::{App, Refusal, Router, public, route},
    serve::{Ended, Limits, Server},
    stop::{Stop, Stopper, pair},
};
use scaivault_server::metrics::Metrics;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What a handler of the tests can be made to wait for, and what it did.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) begun: Notify,
    pub(crate) go_on: Notify,
    pub(crate) finished: AtomicUsize,
    pub(crate) refusals: Mutex<Vec<String>>,
    pub(crate) metrics: Metrics,
}

impl App for State {
    type Caller = String;

    async fn identify(&self, head: &Head) -> Result<String> {
        match head.header(&header::AUTHORIZATION)?.and_then(|value| value.strip_prefix("Bearer ")) {
            Some("good") => Ok("user:alice".to_owned()),
            Some(_) => Err(Error::new(Code::TokenInvalid, "The token cannot be believed.")),
            None => Err(Error::new(Code::AuthenticationRequired, "A bearer token is needed.")),
        }
    }

    fn fields(&self, _: &Self::Caller) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn refused(&self, _: &String, refusal: Refusal, error: Error) -> Error {
        let line =
            format!("{} {} {}", refusal.action, refusal.about.unwrap_or_default(), error.code().as_str());
        self.refusals.lock().unwrap().push(line);
        error
    }
}

#[derive(Deserialize)]
struct Write {
    data: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    version: Option<u32>,
}

#[derive(Default, Deserialize)]
struct Filter {
    prefix: Option<String>,
}

async fn read(request: Request<State>, caller: String) -> Result<Reply> {
    Reply::ok(&json!({ "path": request.param("path")?, "caller": caller }))
}

async fn write(mut request: Request<State>, _: String) -> Result<Reply> {
    let write: Write = request.json().await?;
    Reply::created(&json!({ "members": write.data.len(), "version": write.version }))
}

async fn list(request: Request<State>, _: String) -> Result<Reply> {
    let filter: Filter = request.query()?;
    Ok(Reply::ok(&json!({ "prefix": filter.prefix }))?
        .header(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60")))
}

async fn slow(request: Request<State>) -> Result<Reply> {
    let state = Arc::clone(request.app());
    state.begun.notify_one();
    state.go_on.notified().await;
    state.finished.fetch_add(1, Ordering::SeqCst);
    Reply::ok(&json!({ "slow": "done" }))
}

async fn panics(_: Request<State>) -> Result<Reply> {
    panic!("canary");
}

async fn fails(_: Request<State>) -> Result<Reply> {
    Err(Error::internal("canary"))
}

async fn ocsp_get(request: Request<State>) -> Result<Reply> {
    Ok(Reply::raw(StatusCode::OK, "text/plain", request.param("request")?.as_bytes().to_vec()))
}

async fn ocsp_post(mut request: Request<State>) -> Result<Reply> {
    let bytes = request.bytes("application/ocsp-request", 16).await?;
    Ok(Reply::raw(StatusCode::OK, "application/ocsp-response", bytes))
}

fn table() -> Router<State> {
    Router::new(vec![
        route(Method::GET, "/v1/secrets", list).action("list"),
        route(Method::GET, "/v1/secrets/{*path}", read).action("read"),
        route(Method::PUT, "/v1/secrets/{*path}", write).action("write"),
        public(Method::GET, "/v1/slow", slow).action("slow"),
        public(Method::GET, "/v1/panics", panics).action("panics"),
        public(Method::GET, "/v1/fails", fails).action("fails"),
        public(Method::GET, "/v1/ocsp/{*request}", ocsp_get).action("ocsp").raw_tail(),
        public(Method::POST, "/v1/ocsp", ocsp_post).action("ocsp"),
    ])
    .unwrap()
}

/// A running server.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    pub(crate) stopper: Stopper,
    pub(crate) stop: Stop,
    pub(crate) ended: JoinHandle<Ended>,
}

pub(crate) async fn start(limits: Limits) -> Running {
    start_with(limits, None).await
}

pub(crate) async fn start_with(limits: Limits, tls: Option<TlsAcceptor>) -> Running {
    let state = Arc::new(State::default());
    let (stopper, stop) = pair();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(local, Arc::clone(&state), table(), tls, limits).await.unwrap();
    let address = server.address().unwrap();
    let ended = tokio::spawn(server.run(stop.clone()));
    Running { address, state, stopper, stop, ended }
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Running {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes as they are and reads to the end of the connection.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        let _ = stream.write_all(bytes).await;
        read_all(&mut stream).await
    }

    /// One request on a connection of its own; `head` is the request line and header lines.
    pub(crate) async fn send(&self, head: &str, body: &[u8]) -> Answer {
        let mut lines: Vec<&str> = head.lines().map(str::trim).collect();
        let first = format!("{} HTTP/1.1", lines.remove(0));
        let rest: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let head = format!("{first}\r\nHost: x\r\nConnection: close\r\n{rest}\r\n");
        Answer::parse(&self.raw(&[head.as_bytes(), body].concat()).await)
    }

    /// An authenticated JSON write.
    pub(crate) async fn put(&self, body: &str) -> Answer {
        let head = format!(
            "PUT /v1/secrets/a\nAuthorization: Bearer good\nContent-Type: application/json\nContent-Length: {}",
            body.len()
        );
        self.send(&head, body.as_bytes()).await
    }
}

pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("the connection stayed open");
    String::from_utf8(bytes).unwrap()
}
