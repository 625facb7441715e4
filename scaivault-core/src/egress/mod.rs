//! Requests that the vault makes itself: one client, everything bounded.
//!
//! Whoever asks says how far it may reach. What an operator configured may be anywhere ([`Reach::Operator`]). What a
//! user named ([`Reach::Outside`]) may only be on the public internet, or in a network that an operator allowed: every
//! address that a name resolves to is looked at, one of another kind refuses the whole, and the connection goes to
//! those addresses without asking anybody again. An address written as a number is looked at like the others.
//!
//! No redirect is followed unless the request asks for it, and then each hop is a request of its own that is judged like
//! the first. There is no proxy, no cookie, no decompression, no second try. Time, body and header have bounds.
//!
//! ```no_run
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use scaivault_core::egress::{Egress, Reach};
//!
//! let egress = Egress::builder().allow(["10.20.0.0/16".parse()?]).build()?;
//! let url = "https://issuer.example/.well-known/openid-configuration";
//! let document = egress.get(Reach::Outside, url).max_bytes(64 << 10).send().await?.ok()?.text()?;
//! # Ok(()) }
//! ```

mod address;
mod error;
mod request;
mod resolve;
mod url;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use address::Reachable;
use ipnet::IpNet;
use reqwest::{Client, Method, redirect, retry};

pub(crate) use self::request::encode;
pub use self::{
    error::EgressError,
    request::{Answer, Request},
    resolve::{Resolve, SystemResolver},
    url::ServiceUrl,
};
use crate::{Error, Result, limits};

/// How far a request may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// An address that an operator configured: anywhere, over https, or over http on this machine.
    Operator,
    /// An address that a user named: the public internet and what the operator allowed.
    Outside,
}

/// The one HTTP client. Cheap to clone.
///
/// It trusts the roots of the system and uses no proxy, whatever the environment says.
#[derive(Clone, Debug)]
pub struct Egress {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    operator: Client,
    outside: Client,
    reachable: Reachable,
}

/// Puts an [`Egress`] together. From [`Egress::builder`].
#[derive(Debug)]
pub struct EgressBuilder {
    allowed: Vec<IpNet>,
    resolver: Arc<dyn Resolve>,
}

impl Egress {
    /// Starts with no network allowed beyond the public internet, and the resolver of the system.
    #[must_use]
    pub fn builder() -> EgressBuilder {
        EgressBuilder { allowed: Vec::new(), resolver: Arc::new(SystemResolver) }
    }

    /// Asks for what is at `url`; nothing happens before [`Request::send`].
    #[must_use]
    pub fn get(&self, reach: Reach, url: &str) -> Request {
        Request::new(self.clone(), Method::GET, reach, url)
    }

    /// Sends something to `url`; nothing happens before [`Request::send`].
    #[must_use]
    pub fn post(&self, reach: Reach, url: &str) -> Request {
        Request::new(self.clone(), Method::POST, reach, url)
    }

    fn client(&self, reach: Reach) -> &Client {
        match reach {
            Reach::Operator => &self.inner.operator,
            Reach::Outside => &self.inner.outside,
        }
    }
}

impl EgressBuilder {
    /// Networks besides the public internet that may be reached on a user's word.
    #[must_use]
    pub fn allow(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.allowed.extend(networks);
        self
    }

    /// Takes the addresses of names from somewhere else.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Makes the client.
    ///
    /// # Errors
    /// [`crate::Code::InternalError`] if TLS cannot be set up.
    pub fn build(self) -> Result<Egress> {
        let reachable = Reachable { allowed: self.allowed };
        let checked = |reachable| resolve::Checked { resolver: Arc::clone(&self.resolver), reachable };
        // Outside, each request has a connection of its own: none is to a place that was looked at long ago.
        let (operator, outside) = (client(checked(None), 4)?, client(checked(Some(reachable.clone())), 0)?);
        Ok(Egress { inner: Arc::new(Inner { operator, outside, reachable }) })
    }
}

fn client(resolver: resolve::Checked, idle: usize) -> Result<Client> {
    #[expect(clippy::disallowed_methods, reason = "the one client there is")]
    let builder = Client::builder();
    builder
        .dns_resolver(resolver)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .pool_max_idle_per_host(idle)
        .http1_max_headers(limits::EGRESS_HEADERS)
        .http2_max_header_list_size(u32::try_from(limits::EGRESS_HEADER_BYTES).unwrap_or(u32::MAX))
        .connect_timeout(limits::EGRESS_CONNECT)
        .user_agent(concat!("scaivault/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(Error::internal)
}
