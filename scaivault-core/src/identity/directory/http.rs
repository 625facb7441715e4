//! The directory of the identity provider, over HTTP. Where its lists are is written here and nowhere else.

use std::{
    fmt,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{
    IdentityPage, IdentitySource, SourceGroup, SourceMember, SourcePartner, SourceTenant, SourceUser,
};
use crate::{
    Error, Result,
    egress::{Answer, Egress, EgressError, Reach, ServiceUrl, encode},
    identity::Discovery,
};

/// Lists partners, tenants, users, groups and members at ScaiKey, as a client with credentials of its own.
pub struct HttpDirectory {
    egress: Egress,
    discovery: Discovery,
    issuer: ServiceUrl,
    client_id: String,
    client_secret: Zeroizing<String>,
    token: Mutex<Option<Token>>,
}

struct Token {
    text: Zeroizing<String>,
    until: Instant,
}

impl fmt::Debug for HttpDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDirectory").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl HttpDirectory {
    /// The directory behind `issuer`, as its client `client_id`, authenticated by HTTP Basic (RFC 6749 section 2.3.1).
    #[must_use]
    pub fn new(
        egress: Egress,
        issuer: ServiceUrl,
        (client_id, client_secret): (String, Zeroizing<String>),
    ) -> Self {
        let discovery = Discovery::new(egress.clone(), issuer.clone());
        Self { egress, discovery, issuer, client_id, client_secret, token: Mutex::new(None) }
    }

    async fn page<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        partner: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<IdentityPage<T>> {
        self.try_page(segments, partner, cursor).await.map_err(|error| {
            Error::unavailable("The identity provider's lists cannot be fetched.", RETRY_AFTER, error)
        })
    }

    async fn try_page<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        partner: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<IdentityPage<T>, EgressError> {
        let url = self.address(segments, partner, cursor)?;
        let token = self.token(false).await?;
        match self.get(&url, &token).await {
            // It may have been taken back before its time.
            Err(EgressError::Status { status: 401, .. }) => {
                let token = self.token(true).await?;
                self.get(&url, &token).await?.json()
            }
            answer => answer?.json(),
        }
    }

    async fn get(&self, url: &str, token: &str) -> Result<Answer, EgressError> {
        let authorization = Zeroizing::new(format!("Bearer {token}"));
        let request = self.egress.get(Reach::Operator, url).header("Authorization", &authorization);
        request.max_bytes(PAGE_BYTES).send().await?.ok()
    }

    fn address(
        &self,
        segments: &[&str],
        partner: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<String, EgressError> {
        let base = self.issuer.as_str();
        let mut url = Url::parse(base).map_err(|_| unfit(base, "it is no address"))?;
        {
            let mut path = url.path_segments_mut().map_err(|()| unfit(base, "it has no path"))?;
            path.pop_if_empty().extend(LISTS).extend(segments);
        }
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("limit", PAGE_ROWS);
            for (name, value) in [("partner_id", partner), ("cursor", cursor)] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
        }
        Ok(url.into())
    }

    /// A token that is good for a while, fetched anew where that is asked for.
    async fn token(&self, anew: bool) -> Result<Zeroizing<String>, EgressError> {
        let mut kept = self.token.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| !anew && Instant::now() < token.until) {
            return Ok(token.text.clone());
        }
        let url = self.discovery.find(|document| document.token_endpoint, "token_endpoint").await?;
        let request = self
            .egress
            .post(Reach::Operator, url.as_str())
            .header("Accept", "application/json")
            .basic(&encode(&self.client_id), &encode(&self.client_secret))
            .form(&[("grant_type", "client_credentials")])
            .max_bytes(TOKEN_BYTES);
        let answer: TokenAnswer = request.send().await?.ok()?.json()?;
        let text = Zeroizing::new(answer.access_token);
        let lasts = Duration::from_secs(answer.expires_in.unwrap_or(300).min(3600));
        let until = Instant::now() + lasts.saturating_sub(TOKEN_MARGIN);
        *kept = Some(Token { text: text.clone(), until });
        Ok(text)
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

fn unfit(url: &str, reason: &str) -> EgressError {
    EgressError::Unfit { url: url.to_owned(), reason: reason.to_owned() }
}

#[async_trait]
impl IdentitySource for HttpDirectory {
    async fn partners(&self, cursor: Option<&str>) -> Result<IdentityPage<SourcePartner>> {
        self.page(&["partners"], None, cursor).await
    }

    async fn tenants(
        &self,
        partner: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<IdentityPage<SourceTenant>> {
        self.page(&["tenants"], partner, cursor).await
    }

    async fn users(&self, tenant: &str, cursor: Option<&str>) -> Result<IdentityPage<SourceUser>> {
        self.page(&["tenants", tenant, "users"], None, cursor).await
    }

    async fn groups(&self, tenant: &str, cursor: Option<&str>) -> Result<IdentityPage<SourceGroup>> {
        self.page(&["tenants", tenant, "groups"], None, cursor).await
    }

    async fn members(
        &self,
        tenant: &str,
        group: &str,
        cursor: Option<&str>,
    ) -> Result<IdentityPage<SourceMember>> {
        self.page(&["tenants", tenant, "groups", group, "members"], None, cursor).await
    }
}

/// Where the lists are, under the issuer's address.
const LISTS: [&str; 3] = ["api", "v1", "platform"];
/// Rows of a page that is asked for.
const PAGE_ROWS: &str = "500";
/// Bytes of a page.
const PAGE_BYTES: usize = 8 << 20;
/// Bytes of an answer with a token.
const TOKEN_BYTES: usize = 64 << 10;
/// How long before its end a token is no longer used.
const TOKEN_MARGIN: Duration = Duration::from_secs(30);
/// When to try again.
const RETRY_AFTER: Duration = Duration::from_secs(60);
