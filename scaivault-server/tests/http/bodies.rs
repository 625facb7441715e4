use std::time::{Duration, Instant};

use scaivault_server::http::serve::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Answer, read_all, start};

const PUT: &str = "PUT /v1/secrets/a\nAuthorization: Bearer good";

#[tokio::test]
async fn a_body_is_decoded_and_its_faults_are_named() {
    let server = start(Limits::default()).await;
    let answer = server.put(r#"{"data":{"a":1,"b":2},"version":7}"#).await;
    assert_eq!((answer.status, answer.json()["members"].as_u64()), (201, Some(2)));
    let answer = server.put(r#"{"data":{},"verison":7}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "validation_error"));
    assert_eq!(answer.json()["error"]["details"]["fields"]["verison"][0], "is not a known field");
    let answer = server.put(r#"{"data":{},"version":"hunter2-canary"}"#).await;
    assert_eq!(answer.status, 422);
    assert!(!answer.body.contains("canary"), "{}", answer.body);
    for body in ["", "[]", "{", "\"canary\"", r#"{"data":{"k":1,"k":2}}"#] {
        let answer = server.put(body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{body}");
        assert!(!answer.body.contains("canary"), "{}", answer.body);
    }
}

#[tokio::test]
async fn sec_j1_bodies_are_bounded_however_they_are_sent() {
    let server = start(Limits::default()).await;
    let big = vec![b' '; (1 << 20) + 1];
    let announced = server.send(&format!("{PUT}\nContent-Length: {}", big.len()), &big).await;
    assert_eq!((announced.status, announced.code().as_str()), (413, "payload_too_large"));
    let huge = format!("{PUT}\nExpect: 100-continue\nContent-Length: 1000000000000");
    assert_eq!(server.send(&huge, b"").await.status, 413);
    let mut chunked = Vec::new();
    for part in big.chunks(64 << 10) {
        chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        chunked.extend_from_slice(part);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let sent = server.send(&format!("{PUT}\nTransfer-Encoding: chunked"), &chunked).await;
    assert_eq!((sent.status, sent.code().as_str()), (413, "payload_too_large"));
    let fits = format!("{{\"data\":{{\"k\":\"{}\"}}}}", "x".repeat((1 << 20) - 18));
    assert_eq!(server.put(&fits).await.status, 201);
}

#[tokio::test]
async fn sec_j1_an_endless_chunked_body_is_cut_off() {
    let server = start(Limits::default()).await;
    let mut stream = server.connect().await;
    let head = "PUT /v1/secrets/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let mut sent = 0_u64;
    while sent < 1 << 30 && stream.write_all(&chunk).await.is_ok() {
        sent += chunk.len() as u64;
    }
    assert!(sent < 64 << 20, "the server went on reading: {sent}");
}

#[tokio::test]
async fn sec_j1_deep_wide_and_compressed_bodies_are_refused() {
    let server = start(Limits::default()).await;
    for body in
        ["[".repeat(100_000), "{\"data\":".repeat(100_000), format!("{{\"data\":{}", "[".repeat(100_000))]
    {
        let answer = server.put(&body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
    }
    let wide: Vec<String> = (0..100_000).map(|i| format!("\"{i}\":1")).collect();
    let begun = Instant::now();
    assert_eq!(server.put(&format!("{{\"data\":{{{}}}}}", wide.join(","))).await.status, 201);
    assert!(begun.elapsed() < Duration::from_secs(10), "members cost more than they should");
    for header in [
        "Content-Encoding: gzip",
        "Content-Type: text/plain",
        "Content-Type: application/x-www-form-urlencoded",
    ] {
        let answer = server.send(&format!("{PUT}\n{header}\nContent-Length: 2"), b"{}").await;
        assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"), "{header}");
    }
}

#[tokio::test]
async fn sec_j1_large_and_many_header_fields_are_refused() {
    let server = start(Limits::default()).await;
    let big = format!("GET /v1/nothing HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = server.raw(big.as_bytes()).await;
    assert!(answer.is_empty() || Answer::parse(&answer).status == 431, "{answer}");
    let many: String = (0..1000).map(|i| format!("X-{i}: 1\r\n")).collect();
    let answer = server.raw(format!("GET /v1/nothing HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes()).await;
    assert_eq!(Answer::parse(&answer).status, 431);
}

#[tokio::test]
async fn sec_j1_a_slow_header_is_closed() {
    let server = start(Limits { header_time: Duration::from_millis(200), ..Limits::default() }).await;
    for sent in [&b""[..], b"GET /v1/no", b"PRI * HT", b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n"] {
        let begun = Instant::now();
        let answer = server.raw(sent).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{sent:?}");
        assert!(!answer.contains("200 OK"), "{answer}");
    }
}

#[tokio::test]
async fn sec_j1_a_slow_body_is_refused() {
    let server = start(Limits { body_time: Duration::from_millis(200), ..Limits::default() }).await;
    let answer = server.send(&format!("{PUT}\nContent-Length: 100"), b"{\"data\"").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_request() {
    let server = start(Limits::default()).await;
    let mut stream = server.connect().await;
    let head = "PUT /v1/secrets/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length: 20\r\n\r\n{\"data\":{}";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    assert!(!String::from_utf8_lossy(&bytes).contains("201"));
}

#[tokio::test]
async fn nothing_is_read_of_a_stranger() {
    let server = start(Limits::default()).await;
    let head = "PUT /v1/secrets/a\nExpect: 100-continue\nContent-Length: 1000";
    let answer = server.send(head, b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "authentication_required"));
}

#[tokio::test]
async fn other_media_types_have_bounds_of_their_own() {
    let server = start(Limits::default()).await;
    let post = |head: &'static str, body: &'static [u8]| {
        let server = &server;
        async move { server.send(&format!("POST /v1/ocsp\n{head}\nContent-Length: {}", body.len()), body).await }
    };
    assert_eq!(post("Content-Type: application/ocsp-request", b"0123").await.body, "0123");
    assert_eq!(post("Content-Type: application/ocsp-request", b"0123456789abcdef0").await.status, 413);
    assert_eq!(post("Content-Type: application/json", b"{}").await.status, 415);
    assert_eq!(post("Accept: */*", b"{}").await.status, 415);
}

#[tokio::test]
async fn a_connection_on_which_nothing_runs_is_given_up() {
    let limits = Limits {
        idle_time: Duration::from_millis(100),
        header_time: Duration::from_secs(60),
        ..Limits::default()
    };
    let server = start(limits).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert_eq!(Answer::parse(&answer).status, 404);
}
