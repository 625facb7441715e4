use std::{
    collections::BTreeMap,
    error::Error as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use scaivault_core::Code;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const KEYS: &str = r#"{"keys":[]}"#;

/// Answers each path with the bytes it is given, and remembers which were asked.
struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// `BASE` in an answer stands for the stub's own URL.
    async fn start(answers: &[(&str, String)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: BTreeMap<String, String> = answers
            .iter()
            .map(|(path, answer)| ((*path).to_owned(), answer.replace("BASE", &format!("http://{address}"))))
            .collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                        break;
                    }
                    request.push(byte[0]);
                }
                let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or_default().to_owned();
                let missing = status("404 Not Found", "");
                let answer = answers.get(&path).unwrap_or(&missing).clone();
                log.lock().unwrap().push(path);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, asked }
    }

    fn jwks(&self, path: Option<&str>) -> HttpJwks {
        let url = |path: &str| Issuer::parse(&format!("http://{}{path}", self.address)).unwrap();
        let identity = Identity {
            issuer: url(""),
            jwks: path.map(url),
            audiences: vec!["scaivault".into()],
            client: None,
            webhook_secrets: None,
            sync_interval: limits::IDENTITY_SYNC_EVERY,
            bootstrap_super_admin: None,
        };
        HttpJwks::new(Egress::new().unwrap(), &identity)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn status(line: &str, extra: &str) -> String {
    format!("HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: 0\r\n{extra}\r\n")
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A 200 whose length is told by the end of the connection, so that it may hold `BASE`.
fn open_ended(body: &str) -> String {
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
async fn a_discovery_document_cannot_point_anywhere() {
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
    let issuer = Issuer::parse("https://scaikey.example").unwrap();
    let jwks = HttpJwks { egress: Egress::new().unwrap(), issuer, jwks: None };
    let address = |uri: &str| jwks.key_address("x", &format!(r#"{{"jwks_uri":"{uri}"}}"#));
    assert_eq!(address("https://keys.example/jwks").unwrap(), "https://keys.example/jwks");
    assert!(address("http://127.0.0.1:4000/jwks").is_err());
}

#[tokio::test]
async fn a_certificate_that_no_root_of_the_system_signed_is_refused() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c"), folder.path().join("k"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let acceptor = crate::http::tls::acceptor(&certificate, &key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/keys", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop)
    });
    let error = Egress::new().unwrap().get(&url, 100).await.unwrap_err();
    assert!(matches!(error, FetchError::Transport { .. }), "{error:?}");
    assert!(server.await.unwrap().is_err());
}

#[tokio::test]
async fn nobody_there_is_an_outage() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let stub = Stub { address, asked: Arc::default() };
    assert!(refusal(stub.jwks(Some("/keys"))).await.contains("/keys"));
}
