//! The directory of the identity provider, over HTTP. Where its lists are is written here and nowhere else.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::{StatusCode, Url};
use scaivault_core::{
    Error, Result,
    identities::{
        IdentityPage, IdentitySource, SourceGroup, SourceMember, SourcePartner, SourceTenant, SourceUser,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::{
    config::{Client, Issuer},
    egress::{Egress, FetchError, discover},
};

/// Lists partners, tenants, users, groups and members at ScaiKey, as a client with credentials of its own.
#[derive(Debug)]
pub struct HttpDirectory {
    egress: Egress,
    issuer: Issuer,
    client: Client,
    token: Mutex<Option<Token>>,
}

struct Token {
    text: Zeroizing<String>,
    until: Instant,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl HttpDirectory {
    /// The directory behind an issuer.
    #[must_use]
    pub fn new(egress: Egress, issuer: Issuer, client: Client) -> Self {
        Self { egress, issuer, client, token: Mutex::new(None) }
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
    ) -> Result<IdentityPage<T>, FetchError> {
        let url = self.address(segments, partner, cursor)?;
        let token = self.token(false).await?;
        let text = match self.egress.get_as(&token, &url, PAGE_BYTES).await {
            // It may have been taken back before its time.
            Err(FetchError::Status { status: StatusCode::UNAUTHORIZED, .. }) => {
                let token = self.token(true).await?;
                self.egress.get_as(&token, &url, PAGE_BYTES).await?
            }
            done => done?,
        };
        serde_json::from_str(&text).map_err(|_| unfit(&url, "it is no page of that list"))
    }

    fn address(
        &self,
        segments: &[&str],
        partner: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<String, FetchError> {
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
    async fn token(&self, anew: bool) -> Result<Zeroizing<String>, FetchError> {
        let mut kept = self.token.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| !anew && Instant::now() < token.until) {
            return Ok(token.text.clone());
        }
        let (from, document) = discover(&self.egress, &self.issuer).await?;
        let url = self.token_endpoint(&from, &document)?;
        let credentials = (self.client.id.as_str(), self.client.secret.as_str());
        let text = Zeroizing::new(self.egress.client_token(credentials, &url, TOKEN_BYTES).await?);
        let answer: TokenAnswer =
            serde_json::from_str(&text).map_err(|_| unfit(&url, "it is no answer with a token"))?;
        let text = Zeroizing::new(answer.access_token);
        let lasts = Duration::from_secs(answer.expires_in.unwrap_or(300).min(3600));
        let until = Instant::now() + lasts.saturating_sub(TOKEN_MARGIN);
        *kept = Some(Token { text: text.clone(), until });
        Ok(text)
    }

    /// Where tokens are given out, under the rules for the issuer itself.
    fn token_endpoint(&self, from: &str, document: &str) -> Result<String, FetchError> {
        #[derive(Deserialize)]
        struct Document {
            token_endpoint: String,
        }
        let document: Document = serde_json::from_str(document)
            .map_err(|_| unfit(from, "it is no discovery document with a token_endpoint"))?;
        let endpoint = Issuer::parse(&document.token_endpoint)
            .map_err(|reason| unfit(from, &format!("its token_endpoint {reason}")))?;
        let is_https = |url: &str| url.starts_with("https://");
        if is_https(self.issuer.as_str()) && !is_https(endpoint.as_str()) {
            return Err(unfit(from, "its token_endpoint must be https, as the issuer is"));
        }
        Ok(endpoint.as_str().to_owned())
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

fn unfit(url: &str, reason: &str) -> FetchError {
    FetchError::Unfit { url: url.to_owned(), reason: reason.to_owned() }
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
