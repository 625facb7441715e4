//! The listener: accepts, bounds, drains.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    connection,
    exchange::{Peer, Shared},
    router::{App, Router},
    stop::Stop,
};

/// What one peer may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: u32,
    /// Time for a TLS handshake.
    pub handshake_time: Duration,
    /// Time for the header of a request, and for an idle HTTP/1 connection to send the next one.
    pub header_time: Duration,
    /// Bytes of request line and header.
    pub header_bytes: usize,
    /// Bytes of a JSON body.
    pub body_bytes: usize,
    /// Time for a whole body.
    pub body_time: Duration,
    /// After one of these without a request a connection is asked to close, after another it is dropped.
    pub idle_time: Duration,
    /// Time for what has begun to finish after a stop.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            handshake_time: Duration::from_secs(10),
            header_time: Duration::from_secs(10),
            header_bytes: 32 << 10,
            body_bytes: 1 << 20,
            body_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(60),
            drain_time: Duration::from_secs(30),
        }
    }
}

/// A server that is bound and not serving yet.
pub struct Server<A> {
    shared: Arc<Shared<A>>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    limits: Limits,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that had begun was finished.
    Drained,
    /// The drain took too long or was aborted; so many connections were cut.
    Cut {
        /// Connections that were still open or had a handler running.
        connections: usize,
    },
}

impl<A: App> Server<A> {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`BindError`], which names the address.
    pub async fn bind(
        address: SocketAddr,
        app: Arc<A>,
        router: Router<A>,
        tls: Option<TlsAcceptor>,
        limits: Limits,
    ) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await.map_err(|source| BindError { address, source })?;
        Ok(Self::on(listener, app, router, tls, limits))
    }

    /// Serves on a listener that is bound already.
    pub fn on(
        listener: TcpListener,
        app: Arc<A>,
        router: Router<A>,
        tls: Option<TlsAcceptor>,
        limits: Limits,
    ) -> Self {
        let (body_bytes, body_time, tls_on) = (limits.body_bytes, limits.body_time, tls.is_some());
        let shared = Arc::new(Shared { app, router, body_bytes, body_time, tls: tls_on });
        Self { shared, listener, tls, limits }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then finishes what has begun within `drain_time`.
    pub async fn run(self, stop: Stop) -> Ended {
        let slots = Arc::new(Semaphore::new(self.limits.connections as usize));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let (stream, address, slot) = tokio::select! {
                biased;
                () = stop.draining() => break,
                next = accept(&self.listener, &slots) => next,
            };
            let peer = Peer::new(address, slot);
            let (shared, tls) = (Arc::clone(&self.shared), self.tls.clone());
            connections.spawn(connection::serve(shared, stream, peer, tls, self.limits, stop.clone()));
        }
        drop(self.listener);
        drain(connections, &slots, self.limits, &stop).await
    }
}

/// The next connection, with its place. A failure of one connection, or a want of file descriptors, is not
/// the end of the server.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address, slot),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted)
}

/// Waits until every connection has ended and every handler has given its connection's place back.
async fn drain(mut connections: JoinSet<()>, slots: &Semaphore, limits: Limits, stop: &Stop) -> Ended {
    let finished = async {
        while connections.join_next().await.is_some() {}
        slots.acquire_many(limits.connections).await.is_ok()
    };
    let drained = tokio::select! {
        drained = timeout(limits.drain_time, finished) => drained.unwrap_or(false),
        () = stop.aborting() => false,
    };
    if drained {
        return Ended::Drained;
    }
    let cut = (limits.connections as usize).saturating_sub(slots.available_permits());
    connections.shutdown().await;
    tracing::warn!(connections = cut, "stopped with unfinished connections");
    Ended::Cut { connections: cut }
}

/// How long to wait when the system has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
