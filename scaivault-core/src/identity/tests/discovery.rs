use std::{
    collections::BTreeMap,
    error::Error as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    super::discovery::{Discovery, PLATFORM_DISCOVERY, STANDARD_DISCOVERY},
    *,
};
use crate::{
    Code,
    egress::{Egress, ServiceUrl},
    limits,
};

const KEYS: &str = r#"{"keys":[]}"#;

/// Answers each path with the bytes it is given, and remembers which were asked.
pub(super) struct Stub {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// `BASE` in an answer stands for the stub's own URL.
    pub(super) async fn start(answers: &[(&str, String)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: BTreeMap<String, String> = answers
            .iter()
            .map(|(path, answer)| ((*path).to_owned(), answer.replace("BASE", &format!("http://{address}"))))
            .collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !is_whole(&request) {
                    let mut bytes = [0; 4096];
                    match stream.read(&mut bytes).await {
                        Ok(read @ 1..) => request.extend_from_slice(&bytes[..read]),
                        _ => break,
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let missing = status("404 Not Found", "");
                let answer = answers.get(&path).unwrap_or(&missing).clone();
                log.lock().unwrap().push(request);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, requests }
    }

    fn jwks(&self, path: Option<&str>) -> HttpJwks {
        let url = |path: &str| ServiceUrl::parse(&format!("http://{}{path}", self.address)).unwrap();
        HttpJwks::new(Egress::builder().build().unwrap(), url(""), path.map(url))
    }

    /// The paths that were asked for.
    pub(super) fn asked(&self) -> Vec<String> {
        let path = |request: &String| request.split(' ').nth(1).unwrap_or_default().to_owned();
        self.requests.lock().unwrap().iter().map(path).collect()
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

pub(super) fn status(line: &str, extra: &str) -> String {
    format!("HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: 0\r\n{extra}\r\n")
}

pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Whether a request is there with the body that its header announces.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse::<usize>().unwrap())
}

/// A 200 whose length is told by the end of the connection, so that it may hold `BASE`.
pub(super) fn open_ended(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}")
}

/// Why a fetch failed, as the log would say.
async fn refusal(jwks: HttpJwks) -> String {
    let error = jwks.fetch().await.unwrap_err();
    assert_eq!(error.code(), Code::ServiceUnavailable);
    assert!(!error.message().contains("127.0.0.1"), "{error}");
    error.source().unwrap().to_string()
}

#[tokio::test]
async fn a_configured_address_is_asked_alone() {
    let stub = Stub::start(&[("/keys", ok(KEYS))]).await;
    assert_eq!(stub.jwks(Some("/keys")).fetch().await.unwrap(), KEYS);
    assert_eq!(stub.asked(), ["/keys"]);
}

#[tokio::test]
async fn the_platform_document_comes_first_and_the_standard_one_on_a_404() {
    let document = open_ended(r#"{"issuer":"BASE","jwks_uri":"BASE/keys"}"#);
    let stub = Stub::start(&[(PLATFORM_DISCOVERY, document.clone()), ("/keys", ok(KEYS))]).await;
    assert_eq!(stub.jwks(None).fetch().await.unwrap(), KEYS);
    assert_eq!(stub.asked(), [PLATFORM_DISCOVERY, "/keys"]);
    let stub = Stub::start(&[(STANDARD_DISCOVERY, document.clone()), ("/keys", ok(KEYS))]).await;
    assert_eq!(stub.jwks(None).fetch().await.unwrap(), KEYS);
    assert_eq!(stub.asked(), [PLATFORM_DISCOVERY, STANDARD_DISCOVERY, "/keys"]);
    let broken = [(PLATFORM_DISCOVERY, status("500 No", "")), (STANDARD_DISCOVERY, document)];
    let stub = Stub::start(&broken).await;
    assert!(refusal(stub.jwks(None)).await.contains("500"));
    assert_eq!(stub.asked(), [PLATFORM_DISCOVERY]);
}

#[tokio::test]
async fn redirects_are_not_followed_and_only_a_200_counts() {
    let elsewhere = status("302 Found", "Location: /other\r\n");
    let stub =
        Stub::start(&[("/keys", elsewhere), ("/other", ok(KEYS)), ("/none", status("204 No", ""))]).await;
    assert!(refusal(stub.jwks(Some("/keys"))).await.contains("302"));
    assert!(refusal(stub.jwks(Some("/none"))).await.contains("204"));
    assert_eq!(stub.asked(), ["/keys", "/none"]);
}

#[tokio::test]
async fn answers_are_bounded_announced_or_not() {
    let big = " ".repeat(limits::JWKS_BYTES + 1);
    let stub = Stub::start(&[("/a", ok(&big)), ("/b", open_ended(&big))]).await;
    for path in ["/a", "/b"] {
        assert!(refusal(stub.jwks(Some(path))).await.contains("more than"), "{path}");
    }
}

#[tokio::test]
async fn sec_g3_a_discovery_document_cannot_point_anywhere() {
    for document in [
        "not json",
        "{}",
        r#"{"jwks_uri":"http://keys.example/jwks"}"#,
        r#"{"jwks_uri":"file:///etc/passwd"}"#,
        r#"{"jwks_uri":"https://alice:canary@keys.example/"}"#,
    ] {
        let stub = Stub::start(&[(PLATFORM_DISCOVERY, ok(document))]).await;
        let reason = refusal(stub.jwks(None)).await;
        assert!(!reason.contains("canary") && !reason.contains("passwd"), "{reason}");
        assert_eq!(stub.asked(), [PLATFORM_DISCOVERY], "{document}");
    }
}

#[test]
fn an_https_issuer_keeps_its_keys_on_https() {
    let issuer = ServiceUrl::parse("https://scaikey.example").unwrap();
    let discovery = Discovery::new(Egress::builder().build().unwrap(), issuer);
    let address = |uri: &str| discovery.address("x".into(), Some(uri.into()), "jwks_uri");
    assert_eq!(address("https://keys.example/jwks").unwrap().as_str(), "https://keys.example/jwks");
    assert!(address("http://127.0.0.1:4000/jwks").is_err());
    assert!(discovery.address("x".into(), None, "jwks_uri").is_err());
}

#[tokio::test]
async fn sec_h1_an_issuer_that_a_user_named_is_asked_only_where_it_may_be() {
    let document = |issuer: &str| open_ended(&format!(r#"{{"issuer":"{issuer}","jwks_uri":"BASE/keys"}}"#));
    let stub = Stub::start(&[(STANDARD_DISCOVERY, document("BASE")), ("/keys", ok(KEYS))]).await;
    let outside = |egress: &Egress, stub: &Stub| {
        let issuer = ServiceUrl::parse(&format!("http://{}", stub.address)).unwrap();
        HttpJwks::outside(egress.clone(), issuer, None)
    };
    let nowhere = Egress::builder().build().unwrap();
    assert!(refusal(outside(&nowhere, &stub)).await.contains("loopback"));
    assert!(stub.asked().is_empty());
    let here = Egress::builder().allow(["127.0.0.0/8".parse().unwrap()]).build().unwrap();
    assert_eq!(outside(&here, &stub).fetch().await.unwrap(), KEYS);
    assert_eq!(stub.asked(), [STANDARD_DISCOVERY, "/keys"]);
    let other = Stub::start(&[(STANDARD_DISCOVERY, document("https://other.example"))]).await;
    assert!(refusal(outside(&here, &other)).await.contains("unexpected issuer"));
}

#[tokio::test]
async fn nobody_there_is_an_outage() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let stub = Stub { address, requests: Arc::default() };
    assert!(refusal(stub.jwks(Some("/keys"))).await.contains("/keys"));
}
