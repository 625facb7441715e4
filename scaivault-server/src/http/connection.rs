//! One connection, from the handshake to its end.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use scaivault_core::ClientCertificate;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    exchange::{Peer, Shared, answer},
    router::App,
    serve::Limits,
    stop::Stop,
    tls,
};

/// Serves one connection until its end, the drain or the abort.
pub(crate) async fn serve<A: App>(
    shared: Arc<Shared<A>>,
    stream: TcpStream,
    peer: Peer,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    stop: Stop,
) {
    let _ = stream.set_nodelay(true);
    let address = peer.address;
    let serving = |peer| Serving { shared, peer: Arc::new(peer), limits, stop };
    let Some(acceptor) = tls else {
        // Plain sockets speak HTTP/1 only: guessing the protocol would have no time limit.
        return serving(peer).http1(stream).await;
    };
    let stream = match timeout(limits.handshake_time, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(peer = %address, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(peer = %address, "TLS handshake took too long"),
    };
    let session = stream.get_ref().1;
    // The verifier of the handshake has looked at it, and asks for one or for none at all.
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let peer = peer.with_certificate(certificate.map(|der| ClientCertificate::new(der)));
    match session.alpn_protocol() == Some(tls::H2) {
        true => serving(peer).http2(stream).await,
        false => serving(peer).http1(stream).await,
    }
}

struct Serving<A> {
    shared: Arc<Shared<A>>,
    peer: Arc<Peer>,
    limits: Limits,
    stop: Stop,
}

impl<A: App> Serving<A> {
    async fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_time)
            .max_headers(HEADERS)
            .max_header_size(self.limits.header_bytes)
            .max_buf_size(BUFFER_BYTES.max(self.limits.header_bytes));
        let (shared, peer) = (Arc::clone(&self.shared), Arc::clone(&self.peer));
        let service = service_fn(move |request: http::Request<Incoming>| {
            let answer = answer(Arc::clone(&shared), Arc::clone(&peer), request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        self.drive(builder.serve_connection(TokioIo::new(stream), service)).await;
    }

    async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(self.limits.idle_time)
            .keep_alive_timeout(self.limits.header_time)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX));
        let (shared, peer) = (Arc::clone(&self.shared), Arc::clone(&self.peer));
        let service = service_fn(move |request: http::Request<Incoming>| {
            let answer = answer(Arc::clone(&shared), Arc::clone(&peer), request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        self.drive(builder.serve_connection(TokioIo::new(stream), service)).await;
    }

    /// Polls the connection to its end. The drain lets it finish; when nothing has run on it for one
    /// `idle_time` it is asked to close, for two it is dropped: a peer that neither sends nor reads holds no
    /// place for ever.
    async fn drive<C>(self, connection: C)
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut connection = pin!(connection);
        let mut ticks = interval(self.limits.idle_time.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut draining, mut idle) = (false, 0);
        loop {
            tokio::select! {
                outcome = connection.as_mut() => {
                    if let Err(error) = outcome {
                        tracing::debug!(peer = %self.peer.address, %error, "connection failed");
                    }
                    return;
                }
                () = self.stop.draining(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = ticks.tick() => {
                    idle = if self.peer.is_idle() { idle + 1 } else { 0 };
                    match idle {
                        0 => {}
                        1 => connection.as_mut().graceful_shutdown(),
                        _ => return,
                    }
                }
            }
        }
    }
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, slot: OwnedSemaphorePermit) -> Self {
        let handlers = Arc::new(Semaphore::new(HANDLERS));
        let busy = AtomicBool::new(true);
        Self { address, certificate: None, handlers, slot: Arc::new(slot), busy }
    }

    fn with_certificate(mut self, certificate: Option<ClientCertificate>) -> Self {
        self.certificate = certificate.map(Arc::new);
        self
    }

    /// Whether no handler runs now and none has been started since this was asked last.
    fn is_idle(&self) -> bool {
        !self.busy.swap(false, Ordering::Relaxed) && self.handlers.available_permits() == HANDLERS
    }
}

/// Header fields of one request.
const HEADERS: usize = 64;
/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 64;
/// Bytes that an HTTP/1 connection buffers.
const BUFFER_BYTES: usize = 64 << 10;
/// Handlers that one connection may have running: a stream that was reset may leave one behind.
const HANDLERS: usize = STREAMS as usize;
