use std::{fs, path::PathBuf, time::Duration};

use scaivault_server::http::{serve::Limits, tls};
use tokio::io::AsyncWriteExt as _;

use crate::support::{Running, read_all, start_with};

struct Files {
    _folder: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
    pem: String,
}

fn files() -> Files {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Files { _folder: folder, certificate, key, pem: made.cert.pem() }
}

async fn serving(files: &Files, limits: Limits) -> Running {
    start_with(limits, Some(tls::acceptor(&files.certificate, &files.key, None).unwrap())).await
}

#[expect(clippy::disallowed_methods, reason = "a client of the server under test")]
fn client(files: &Files) -> reqwest::ClientBuilder {
    let root = reqwest::Certificate::from_pem(files.pem.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([root]).no_proxy()
}

#[tokio::test]
async fn both_protocols_are_served_over_tls_with_hsts() {
    let files = files();
    let server = serving(&files, Limits::default()).await;
    let url = format!("https://localhost:{}/v1/secrets/a", server.address.port());
    for (client, version) in [
        (client(&files), http::Version::HTTP_2),
        (client(&files).http1_only(), http::Version::HTTP_11),
        (client(&files).tls_version_max(reqwest::tls::Version::TLS_1_2), http::Version::HTTP_2),
    ] {
        let client = client.resolve("localhost", server.address).build().unwrap();
        let answer = client.get(&url).bearer_auth("good").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
        let answer = client.head(&url).bearer_auth("good").send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        assert!(answer.headers()["content-length"].to_str().unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
        let large =
            client.put(&url).bearer_auth("good").body(vec![b' '; (1 << 20) + 1]).send().await.unwrap();
        assert_eq!(large.status().as_u16(), 413);
    }
}

#[tokio::test]
async fn sec_j1_a_silent_or_plain_peer_is_closed() {
    let files = files();
    let limits = Limits { handshake_time: Duration::from_millis(200), ..Limits::default() };
    let server = serving(&files, limits).await;
    let mut silent = server.connect().await;
    assert_eq!(read_all(&mut silent).await, "");
    let mut plain = server.connect().await;
    plain.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut plain, &mut bytes).await;
    assert!(!bytes.starts_with(b"HTTP"));
}

#[test]
fn files_that_make_no_certificate_are_named_without_their_content() {
    let (one, other) = (files(), files());
    let refusal = |certificate: &PathBuf, key: &PathBuf| {
        tls::acceptor(certificate, key, None).err().map(|error| error.to_string()).unwrap()
    };
    assert!(refusal(&one.certificate, &other.key).contains("do not make a server certificate"));
    assert!(refusal(&one.key, &one.key).contains("tls.key"));
    assert!(refusal(&one.certificate, &one.certificate).contains("tls.crt"));
    let missing = PathBuf::from("/nonexistent/tls.crt");
    assert!(refusal(&missing, &one.key).contains("/nonexistent/tls.crt"));
}
