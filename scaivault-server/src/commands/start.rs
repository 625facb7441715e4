//! What `serve` and `dev` share: a vault behind a listener, until somebody says stop.

use std::{sync::Arc, time::Duration};

use scaivault_core::{ClientIdentities, TokenVerifier, Vault};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Failure;
use crate::metrics::Metrics;
use crate::{
    app::Service,
    http::{
        origin::TrustedProxies,
        serve::{Limits, Server},
        stop::Stop,
    },
    routes,
};

/// What is served.
#[derive(Debug)]
pub(super) struct App {
    pub(super) vault: Vault,
    pub(super) verifier: Arc<TokenVerifier>,
    pub(super) metrics: Metrics,
    pub(super) proxies: TrustedProxies,
    pub(super) identities: ClientIdentities,
    /// A listener besides, for revocation lists and OCSP alone, without TLS.
    pub(super) revocation: Option<TcpListener>,
}

/// Serves until told to stop, finishes what has begun, then closes the vault.
pub(super) async fn serve(
    listener: TcpListener,
    App { vault, verifier, metrics, proxies, identities, revocation }: App,
    tls: Option<TlsAcceptor>,
    drain: Duration,
    stop: Stop,
) -> Result<(), Failure> {
    let (serving, stopping) = (vault.clone(), stop.clone());
    let app = Arc::new(Service { vault: serving, verifier, stop: stopping, metrics, proxies, identities });
    let router = routes::router().map_err(Failure::general)?;
    let limits = Limits { drain_time: drain, ..Limits::default() };
    let jobs = vault.spawn_jobs();
    let beside = match revocation {
        Some(listener) => {
            let router = routes::revocation_router().map_err(Failure::general)?;
            Some(Server::on(listener, Arc::clone(&app), router, None, limits))
        }
        None => None,
    };
    let beside = async {
        match beside {
            Some(server) => Some(server.run(stop.clone()).await),
            None => None,
        }
    };
    let (ended, _) = tokio::join!(Server::on(listener, app, router, tls, limits).run(stop.clone()), beside);
    jobs.abort();
    // A job that was aborted has ended when this returns, and its transaction with it.
    let _ = jobs.await;
    vault.close().await;
    tracing::info!(?ended, "stopped");
    Ok(())
}
