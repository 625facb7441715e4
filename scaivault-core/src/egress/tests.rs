//! Peers that answer whatever a test says, byte for byte.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

/// What a peer does with a connection once the request is read; the text is the request.
type Answers = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

enum Reply {
    Bytes(String),
    /// These bytes, and then the others for ever, so many milliseconds apart.
    Forever(String, Vec<u8>, u64),
}

struct Peer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    async fn start(answers: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(answers))
    }

    fn on(listener: TcpListener, answers: Answers) -> Self {
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&answers)));
            }
        });
        Self { address, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Vec<String>>>, answers: Answers) {
    let mut request = Vec::new();
    let (mut head, mut length) = (0, 0);
    while head == 0 || request.len() < head + length {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        request.extend_from_slice(&bytes[..read]);
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            head = end + 4;
            let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
            let field = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            length = field.map_or(0, |value| value.trim().parse().unwrap());
        }
    }
    let request = String::from_utf8(request).unwrap();
    log.lock().unwrap().push(request.clone());
    match answers(&request) {
        Reply::Bytes(answer) => _ = stream.write_all(answer.as_bytes()).await,
        Reply::Forever(head, piece, pause) => {
            let mut failed = stream.write_all(head.as_bytes()).await.is_err();
            while !failed {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                failed = stream.write_all(&piece).await.is_err();
            }
        }
    }
}

fn ok(body: &str) -> Reply {
    Reply::Bytes(format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn moved(to: &str) -> Reply {
    Reply::Bytes(format!(
        "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {to}\r\n\r\n"
    ))
}

/// Answers the next of its lists each time it is asked, and the last for ever.
#[derive(Debug)]
struct FakeResolver {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl FakeResolver {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Resolve for FakeResolver {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let at = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers[at.min(self.answers.len() - 1)].clone())
    }
}

fn allowing(networks: &[&str]) -> EgressBuilder {
    Egress::builder().allow(networks.iter().map(|net| net.parse().unwrap()))
}

fn on_this_machine() -> Egress {
    allowing(&["127.0.0.0/8"]).build().unwrap()
}

async fn refusal(request: Request) -> String {
    let error = request.send().await.unwrap_err();
    assert!(error.is_refused(), "{error:?}");
    error.to_string()
}

/// Two listeners on one port of two addresses.
async fn neighbours() -> (TcpListener, TcpListener) {
    loop {
        let one = TcpListener::bind("127.0.0.2:0").await.unwrap();
        if let Ok(other) = TcpListener::bind(("127.0.0.1", one.local_addr().unwrap().port())).await {
            return (one, other);
        }
    }
}

#[tokio::test]
async fn sec_h1_a_name_that_resolves_elsewhere_the_second_time_gets_no_connection_there() {
    let (good, victim) = neighbours().await;
    let port = good.local_addr().unwrap().port();
    let (good, victim) =
        (Peer::on(good, Arc::new(|_| ok("good"))), Peer::on(victim, Arc::new(|_| ok("secret"))));
    let resolver = FakeResolver::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let egress = allowing(&["127.0.0.2/32"]).resolver(resolver.clone()).build().unwrap();
    let get = || egress.get(Reach::Outside, &format!("http://rebind.example:{port}/x"));
    assert_eq!(get().send().await.unwrap().text().unwrap(), "good");
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1, "resolved once, and connected to that");
    let refused = refusal(get()).await;
    assert!(refused.contains("127.0.0.1") && refused.contains("loopback"), "{refused}");
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 2);
    assert_eq!((good.asked().len(), victim.asked().len()), (1, 0));
}

#[tokio::test]
async fn sec_h1_one_address_out_of_reach_refuses_all_of_them() {
    let peer = Peer::start(|_| ok("x")).await;
    let port = peer.address.port();
    for mixed in [["127.0.0.1", "169.254.169.254"], ["169.254.169.254", "127.0.0.1"], ["127.0.0.1", "::1"]] {
        let resolver = FakeResolver::new(&[&mixed]);
        let egress = allowing(&["127.0.0.0/8"]).resolver(resolver).build().unwrap();
        refusal(egress.get(Reach::Outside, &format!("http://mixed.example:{port}/"))).await;
    }
    assert!(peer.asked().is_empty());
}

#[tokio::test]
async fn sec_h1_addresses_in_every_spelling_are_looked_at() {
    let egress = Egress::builder().build().unwrap();
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "localhost",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "10.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
    ] {
        for scheme in ["http", "https"] {
            let reason = refusal(egress.get(Reach::Outside, &format!("{scheme}://{host}:9/"))).await;
            assert!(reason.contains("is not asked"), "{host}: {reason}");
        }
    }
    for bad in [
        "",
        "x",
        "//127.0.0.1/",
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "unix:/run/docker.sock",
        "http://",
        "http://[::1%25lo]/",
        "http://1.2.3.4.5/",
        "http://256.1.1.1/",
        "https://alice:canary@example.com/",
    ] {
        let reason = refusal(egress.get(Reach::Outside, bad)).await;
        assert!(!reason.contains("canary") && !reason.contains("passwd"), "{reason}");
    }
}

#[tokio::test]
async fn sec_h1_redirects_are_followed_when_asked_for_and_judged_like_the_first() {
    let end = Peer::start(|_| ok("end")).await;
    let there = end.url("/end");
    let first = Peer::start(move |request| match request.split(' ').nth(1).unwrap() {
        "/metadata" => moved("http://169.254.169.254/latest/meta-data/"),
        "/spelt" => moved("http://0xa9fea9fe/"),
        "/file" => moved("file:///etc/passwd"),
        "/nowhere" => moved(""),
        "/loop" => moved("/loop"),
        "/near" => moved("/metadata"),
        "/good" => moved(&there),
        _ => ok("first"),
    })
    .await;
    let egress = on_this_machine();
    let get = |path: &str| egress.get(Reach::Outside, &first.url(path)).header("X-Key", "canary");
    assert_eq!(get("/good").send().await.unwrap().status(), 302);
    assert_eq!(get("/good").redirects(1).send().await.unwrap().text().unwrap(), "end");
    assert!(!end.asked().concat().contains("canary"), "a field went along to another origin");
    for path in ["/metadata", "/spelt", "/near"] {
        let reason = refusal(get(path).redirects(5)).await;
        assert!(reason.contains("metadata"), "{path}: {reason}");
    }
    assert!(refusal(get("/file").redirects(5)).await.contains("http"));
    assert_eq!(get("/loop").redirects(5).send().await.unwrap().status(), 302);
    assert_eq!(first.asked().iter().filter(|request| request.starts_with("GET /loop")).count(), 6);
    // What was sent goes nowhere else.
    let post = egress.post(Reach::Outside, &first.url("/good")).form(&[("a", "b")]).redirects(5);
    assert_eq!(post.send().await.unwrap().status(), 302);
    assert_eq!(end.asked().len(), 1);
}

#[test]
fn sec_h1_no_redirect_leads_from_https_to_http() {
    let mut request = on_this_machine().get(Reach::Outside, "https://127.0.0.1/").redirects(1);
    let from = ::reqwest::Url::parse("https://127.0.0.1/").unwrap();
    let mut next = |to: &str| {
        let headers = std::iter::once((::reqwest::header::LOCATION, to.parse().unwrap())).collect();
        request.next(&from, &headers).map(|url| url.to_string())
    };
    assert_eq!(next("/a").unwrap(), "https://127.0.0.1/a");
    assert_eq!(next("https://127.0.0.2/b").unwrap(), "https://127.0.0.2/b");
    assert!(next("http://127.0.0.1/").unwrap_err().to_string().contains("from https to http"));
    assert!(next("https://127.0.0.1@10.0.0.1/").is_err());
}

#[tokio::test]
async fn sec_h1_a_body_is_read_no_further_than_its_bound() {
    let announced = Peer::start(|_| {
        Reply::Forever("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n".into(), vec![b'x'; 1 << 16], 0)
    })
    .await;
    let open =
        Peer::start(|_| Reply::Forever("HTTP/1.1 200 OK\r\n\r\n".into(), vec![b'x'; 1 << 16], 0)).await;
    let pieces = [b"10000\r\n".as_slice(), &[b'x'; 1 << 16], b"\r\n"].concat();
    let chunked = Peer::start(move |_| {
        Reply::Forever("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(), pieces.clone(), 0)
    })
    .await;
    for peer in [announced, open, chunked] {
        let get = on_this_machine().get(Reach::Outside, &peer.url("/")).time(Duration::from_secs(60));
        let error = get.max_bytes(100_000).send().await.unwrap_err();
        assert!(matches!(error, EgressError::TooLarge { max: 100_000, .. }), "{error:?}");
    }
    let exact = Peer::start(|_| ok("12345")).await;
    let get = |max| on_this_machine().get(Reach::Outside, &exact.url("/")).max_bytes(max).send();
    assert_eq!(get(5).await.unwrap().bytes(), b"12345");
    assert!(get(4).await.is_err());
}

#[tokio::test]
async fn sec_h1_whoever_answers_slowly_is_left() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dripping = Peer::start(|_| Reply::Forever("HTTP/1.1 200 OK\r\n\r\n".into(), vec![b'x'], 10)).await;
    let header = Peer::start(|_| Reply::Forever("HTTP/1.1 200 OK\r\nX: ".into(), vec![b'x'], 10)).await;
    let interim =
        Peer::start(|_| Reply::Forever(String::new(), b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), 10))
            .await;
    let silent = format!("http://{}/", silent.local_addr().unwrap());
    for url in [silent, dripping.url("/"), header.url("/"), interim.url("/")] {
        let get = on_this_machine().get(Reach::Outside, &url).time(Duration::from_millis(300));
        let error = get.send().await.unwrap_err();
        assert!(matches!(error, EgressError::Late { .. }), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn sec_h1_a_header_has_bounds() {
    let fields = |count: usize, bytes: usize| {
        let fields: String = (0..count).map(|at| format!("X-{at}: {}\r\n", "x".repeat(bytes))).collect();
        Reply::Bytes(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n{fields}\r\n"))
    };
    for (count, bytes, good) in [(90, 10, true), (10_000, 10, false), (200, 1, false), (40, 1000, false)] {
        let peer = Peer::start(move |_| fields(count, bytes)).await;
        let answer = on_this_machine().get(Reach::Outside, &peer.url("/")).send().await;
        assert_eq!(answer.is_ok(), good, "{count} fields of {bytes}: {answer:?}");
    }
    let endless =
        Peer::start(|_| Reply::Forever("HTTP/1.1 200 OK\r\nX: ".into(), vec![b'x'; 1 << 16], 0)).await;
    let get = on_this_machine().get(Reach::Outside, &endless.url("/")).time(Duration::from_secs(60));
    assert!(matches!(get.send().await.unwrap_err(), EgressError::Transport { .. }));
}

#[tokio::test]
async fn what_an_operator_configured_may_be_anywhere_but_not_in_the_clear() {
    let peer = Peer::start(|_| ok("x")).await;
    let egress = Egress::builder().build().unwrap();
    assert_eq!(egress.get(Reach::Operator, &peer.url("/a")).send().await.unwrap().status(), 200);
    refusal(egress.get(Reach::Outside, &peer.url("/a"))).await;
    let clear = refusal(egress.get(Reach::Operator, "http://10.0.0.1/keys?x=canary")).await;
    assert!(clear.contains("https") && clear.contains("/keys") && !clear.contains("canary"), "{clear}");
    let outside = egress.get(Reach::Outside, "http://example.com/").protected();
    assert!(refusal(outside).await.contains("https"));
}

#[tokio::test]
async fn requests_carry_what_they_are_given_and_show_none_of_it() {
    let peer = Peer::start(|_| ok(r#"{"a":1}"#)).await;
    let egress = on_this_machine();
    let post = || egress.post(Reach::Outside, &peer.url("/hook/canary?key=canary"));
    let form = post().form(&[("token", "a b&c=ü"), ("x", "")]).basic("me", "canary");
    assert!(!format!("{form:?}").contains("canary"), "{form:?}");
    let answer = form.send().await.unwrap().ok().unwrap();
    assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
    assert_eq!(answer.header("content-length"), Some("7"));
    assert_eq!(answer.json::<serde_json::Value>().unwrap()["a"], 1);
    post().json(&serde_json::json!({"b": 2})).header("X-Sign", "s").send().await.unwrap();
    let [form, json] = &peer.asked()[..] else { panic!() };
    assert!(form.starts_with("POST /hook/canary?key=canary HTTP/1.1\r\n"), "{form}");
    assert!(form.ends_with("\r\n\r\ntoken=a%20b%26c%3D%C3%BC&x="), "{form}");
    assert!(form.contains("content-type: application/x-www-form-urlencoded\r\n"), "{form}");
    assert!(form.contains("authorization: Basic bWU6Y2FuYXJ5\r\n"), "{form}");
    assert!(json.contains("x-sign: s\r\n") && json.ends_with(r#"{"b":2}"#), "{json}");
    assert!(!json.to_lowercase().contains("accept-encoding"), "{json}");
    let unfit = refusal(post().header("X-Key", "canary\r\nX-Other: 1")).await;
    assert!(unfit.contains("X-Key") && !unfit.contains("canary"), "{unfit}");
}

#[tokio::test]
async fn failures_name_the_address_and_the_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/canary", listener.local_addr().unwrap());
    drop(listener);
    let error = on_this_machine().get(Reach::Outside, &nobody).send().await.unwrap_err();
    assert!(matches!(error, EgressError::Transport { .. }), "{error:?}");
    let peer =
        Peer::start(|_| Reply::Bytes("HTTP/1.1 503 No\r\nContent-Length: 6\r\n\r\ncanary".into())).await;
    let answer = on_this_machine().get(Reach::Outside, &peer.url("/canary")).send().await.unwrap();
    let status = answer.ok().unwrap_err();
    assert!(status.to_string().contains("503"), "{status}");
    let unknown = FakeResolver::new(&[&[]]);
    let egress = Egress::builder().resolver(unknown).build().unwrap();
    let nameless = egress.get(Reach::Outside, "https://nowhere.example/canary").send().await.unwrap_err();
    for error in [error, status, nameless] {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary") && error.to_string().contains("://"), "{shown}");
    }
}

#[tokio::test]
async fn a_certificate_that_no_root_of_the_system_signed_is_refused() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/keys", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop)
    });
    let resolver = FakeResolver::new(&[&["127.0.0.1"]]);
    let egress = Egress::builder().resolver(resolver).build().unwrap();
    let error = egress.get(Reach::Operator, &url).send().await.unwrap_err();
    assert!(matches!(error, EgressError::Transport { .. }), "{error:?}");
    assert!(server.await.unwrap().is_err());
}
