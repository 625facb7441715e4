use async_trait::async_trait;
use serde::Deserialize;

use super::jwks::JwksSource;
use crate::{
    Error, Result,
    egress::{Egress, EgressError, Reach, ServiceUrl},
    limits,
};

/// Fetches the key set of a token issuer: from its configured address, or where its discovery document points.
#[derive(Clone, Debug)]
pub struct HttpJwks {
    discovery: Discovery,
    jwks: Option<ServiceUrl>,
}

impl HttpJwks {
    /// The keys of an issuer that an operator configured; at `jwks`, or where the platform's discovery document says
    /// they are, or the standard one (OpenID Connect Discovery 1.0 section 4) if there is none.
    #[must_use]
    pub fn new(egress: Egress, issuer: ServiceUrl, jwks: Option<ServiceUrl>) -> Self {
        Self { discovery: Discovery::new(egress, issuer), jwks }
    }

    /// The keys of an issuer that a user named: at `jwks`, or where its standard discovery document says they are,
    /// which has to be of this issuer.
    #[must_use]
    pub fn outside(egress: Egress, issuer: ServiceUrl, jwks: Option<ServiceUrl>) -> Self {
        Self { discovery: Discovery { egress, reach: Reach::Outside, issuer }, jwks }
    }

    async fn try_fetch(&self) -> Result<String, EgressError> {
        let url = match &self.jwks {
            Some(url) => url.clone(),
            None => self.discovery.find(|document| document.jwks_uri, "jwks_uri").await?,
        };
        self.discovery.get(url.as_str(), limits::JWKS_BYTES).await?.text()
    }
}

#[async_trait]
impl JwksSource for HttpJwks {
    /// The key set as JSON text, at most [`limits::JWKS_BYTES`] of it; parsing it is the verifier's business.
    async fn fetch(&self) -> Result<String> {
        self.try_fetch().await.map_err(|error| {
            Error::unavailable("The keys of the token issuer cannot be fetched.", limits::JWKS_RETRY, error)
        })
    }
}

/// Where the services of an issuer are.
#[derive(Clone, Debug)]
pub(crate) struct Discovery {
    egress: Egress,
    reach: Reach,
    issuer: ServiceUrl,
}

/// What we read of a discovery document.
#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    issuer: Option<String>,
    pub(super) jwks_uri: Option<String>,
    pub(super) introspection_endpoint: Option<String>,
    pub(crate) token_endpoint: Option<String>,
}

impl Discovery {
    pub(crate) fn new(egress: Egress, issuer: ServiceUrl) -> Self {
        Self { egress, reach: Reach::Operator, issuer }
    }

    /// The address that a discovery document gives as `name`. It may be at another host, but under the rules for the
    /// issuer itself: an answer must not talk us down to plain HTTP.
    pub(crate) async fn find(
        &self,
        pick: impl FnOnce(Document) -> Option<String>,
        name: &str,
    ) -> Result<ServiceUrl, EgressError> {
        let (from, document) = self.document().await?;
        self.address(from, pick(document), name)
    }

    pub(super) fn address(
        &self,
        from: String,
        address: Option<String>,
        name: &str,
    ) -> Result<ServiceUrl, EgressError> {
        let unfit = |reason: String| EgressError::Unfit { url: from, reason };
        let Some(address) = address else { return Err(unfit(format!("it has no {name}"))) };
        match ServiceUrl::parse(&address) {
            Ok(address) if self.issuer.is_https() && !address.is_https() => {
                Err(unfit(format!("its {name} must be https, as the issuer is")))
            }
            Ok(address) => Ok(address),
            Err(reason) => Err(unfit(format!("its {name} {reason}"))),
        }
    }

    async fn document(&self) -> Result<(String, Document), EgressError> {
        let at = |path: &str| format!("{}{path}", self.issuer.as_str());
        let (platform, standard) = (at(PLATFORM_DISCOVERY), at(STANDARD_DISCOVERY));
        if self.reach == Reach::Operator {
            match self.get(&platform, DISCOVERY_BYTES).await {
                Ok(answer) => return Ok((platform, answer.json()?)),
                Err(EgressError::Status { status: 404, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let document: Document = self.get(&standard, DISCOVERY_BYTES).await?.json()?;
        // OpenID Connect Discovery 1.0 section 4.3; the platform's issuers are below its address.
        if self.reach == Reach::Outside && document.issuer.as_deref() != Some(self.issuer.as_str()) {
            let reason = "it names an unexpected issuer".into();
            return Err(EgressError::Unfit { url: standard, reason });
        }
        Ok((standard, document))
    }

    async fn get(&self, url: &str, max: usize) -> Result<crate::egress::Answer, EgressError> {
        self.egress.get(self.reach, url).protected().max_bytes(max).send().await?.ok()
    }
}

/// The discovery document of the platform.
pub(super) const PLATFORM_DISCOVERY: &str = "/api/v1/platform/oauth/.well-known/openid-configuration";
/// The discovery document of any issuer.
pub(super) const STANDARD_DISCOVERY: &str = "/.well-known/openid-configuration";
/// Bytes of a discovery document.
const DISCOVERY_BYTES: usize = 64 << 10;
