use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use reqwest::dns;

use super::address::Reachable;

/// Finds the addresses of a name.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync {
    /// All addresses of `host`, which is a name and no address.
    ///
    /// # Errors
    /// If it has none, or nobody knows.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect())
    }
}

/// Hands the connector what a name resolves to, if every address of it may be reached: the connector goes there and
/// asks nobody again.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) resolver: Arc<dyn Resolve>,
    /// `None`: any address.
    pub(super) reachable: Option<Reachable>,
}

/// An address that may not be reached; somewhere in the sources of what the client says.
#[derive(Debug, thiserror::Error)]
#[error("it resolves to {address}, which is {kind}")]
pub(super) struct OutOfReach {
    address: IpAddr,
    kind: &'static str,
}

impl Checked {
    async fn addresses(
        &self,
        host: &str,
    ) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found = self.resolver.resolve(host).await?;
        if let Some(reachable) = &self.reachable {
            for address in &found {
                reachable.check(*address).map_err(|kind| OutOfReach { address: *address, kind })?;
            }
        }
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
        }
        // The port is the URL's.
        Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
    }
}

impl dns::Resolve for Checked {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found = this.addresses(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as dns::Addrs)
        })
    }
}
