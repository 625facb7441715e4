//! A small HTTP server for the fakes of services that cannot be had, with or without TLS.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Instant};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{Context, KeyProvider, KeySpec, SecretKey, SignatureScheme};

/// A request, as the fake sees it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) bearer: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// One pair of a query or form, percent-decoded.
    pub(crate) fn pair(text: &str, name: &str) -> Option<String> {
        let url = reqwest::Url::parse(&format!("http://x/?{text}")).ok()?;
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

/// What the fake answers.
pub(crate) enum Reply {
    Json(u16, Value),
    /// With these headers.
    With(u16, Vec<(&'static str, String)>, Value),
    /// Not an answer of the service's API.
    Page(u16, &'static str),
    /// Never anything.
    Hang,
}

/// A certificate for 127.0.0.1 that nobody else signed: the server's side, and the PEM to trust.
pub(crate) fn tls() -> (Arc<ServerConfig>, Vec<u8>) {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "fake");
    let pair = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&pair).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (Arc::new(config), certificate.pem().into_bytes())
}

/// Serves on a free port of 127.0.0.1 until the runtime of the test ends.
pub(crate) async fn serve(
    tls: Option<Arc<ServerConfig>>,
    answer: impl Fn(Asked) -> Reply + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, acceptor) = (Arc::new(answer), tls.map(TlsAcceptor::from));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, acceptor) = (answer.clone(), acceptor.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => converse(stream, &*answer).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            converse(stream, &*answer).await;
                        }
                    }
                }
            });
        }
    });
    address
}

/// Prints a row of the table of latencies: milliseconds, 100 calls one after the other.
#[expect(clippy::print_stdout, reason = "for whoever fills in the table")]
pub(crate) async fn timings(label: &str, provider: &dyn KeyProvider) {
    let context = Context::new().with("partner", "ptn_latency");
    let (mut wraps, mut unwraps, mut signs) = (Vec::new(), Vec::new(), Vec::new());
    let signer = provider.create_signing_key("latency", KeySpec::EcP256).await.unwrap();
    for _ in 0..100 {
        let (key, start) = (SecretKey::generate().unwrap(), Instant::now());
        let wrapped = provider.wrap(&key, &context).await.unwrap();
        wraps.push(start.elapsed());
        let start = Instant::now();
        assert!(provider.unwrap(&wrapped, &context).await.unwrap().ct_eq(&key));
        unwraps.push(start.elapsed());
        let start = Instant::now();
        signer.sign(SignatureScheme::EcdsaSha256, &[7; 1000]).await.unwrap();
        signs.push(start.elapsed());
    }
    let columns = [wraps, unwraps, signs].map(|mut samples| {
        samples.sort_unstable();
        let at = |percent: usize| samples[samples.len() * percent / 100].as_secs_f64() * 1000.0;
        format!("{:.2} | {:.2}", at(50), at(99))
    });
    println!("| {label} | {} |", columns.join(" | "));
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &(impl Fn(Asked) -> Reply + Sync),
) {
    let mut held = Vec::new();
    while let Some(asked) = read(&mut stream, &mut held).await {
        let (status, headers, body) = match answer(asked) {
            Reply::Json(status, body) => (status, Vec::new(), body.to_string()),
            Reply::With(status, headers, body) => (status, headers, body.to_string()),
            Reply::Page(status, body) => (status, Vec::new(), body.to_owned()),
            Reply::Hang => pending().await,
        };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
    // What was no request is told so, as servers do.
    let _ = stream.write_all(b"HTTP/1.1 400 X\r\nconnection: close\r\n\r\n").await;
}

async fn read(stream: &mut (impl AsyncRead + Unpin), held: &mut Vec<u8>) -> Option<Asked> {
    let head = loop {
        if let Some(at) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(held).await.ok()? == 0 {
            return None;
        }
        if !held[0].is_ascii_alphabetic() {
            return None;
        }
    };
    let text = String::from_utf8(held.drain(..head).collect()).ok()?;
    let header = |name: &str| {
        text.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let length = header("content-length").map_or(0, |length| length.parse().unwrap());
    while held.len() < length {
        if stream.read_buf(held).await.ok()? == 0 {
            return None;
        }
    }
    let mut line = text.lines().next()?.split(' ');
    let (method, target) = (line.next()?.to_owned(), line.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
    let (path, query) = (path.to_owned(), query.to_owned());
    Some(Asked { method, path, query, bearer, body: held.drain(..length).collect() })
}
