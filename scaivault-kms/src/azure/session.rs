use std::sync::Arc;

use azure_core::{
    cloud::CustomConfiguration,
    credentials::{Secret, TokenCredential},
    http::{ClientOptions, RetryOptions, Transport},
};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use bytes::Bytes;
use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Mutex,
    time::{Duration, timeout},
};
use zeroize::Zeroizing;

use super::{
    AzureAuth, AzureConfig, PROVIDER,
    error::{answered, challenged, disabled, invalid, no_token, unauthenticated, unavailable, unexpected},
};
use crate::{
    Cause, KmsError,
    rest::{self, Rest},
};

/// Requests to one vault in our name. Tokens are kept until they are about to expire; however many requests wait for
/// one, it is asked for once. No token is ever sent to another host than the vault.
pub(super) struct Session {
    rest: Rest,
    pub(super) vault: Url,
    scope: String,
    auth: AzureAuth,
    authority: Option<String>,
    timeout: Duration,
    source: Mutex<Option<Arc<dyn TokenCredential>>>,
}

impl Session {
    pub(super) fn new(config: AzureConfig, vault: Url) -> Result<Self, KmsError> {
        Ok(Self {
            rest: Rest::new(PROVIDER, config.timeout, config.ca_pem.as_deref(), HeaderMap::new())?,
            scope: config.scope(&vault)?,
            vault,
            auth: config.auth,
            authority: config.authority,
            timeout: config.timeout,
            source: Mutex::default(),
        })
    }

    /// Whether the vault is a Managed HSM.
    pub(super) fn is_hsm(&self) -> bool {
        self.scope.starts_with("https://managedhsm.")
    }

    /// `GET keys/…`, and the answer if it was a success.
    pub(super) async fn get(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        self.call(Method::GET, self.url(path)?, None, path).await
    }

    /// The next page of a list, which the vault names by a URL of its own.
    pub(super) async fn next(&self, url: &str, what: &str) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let url = Url::parse(url).ok().filter(|url| url.origin() == self.vault.origin());
        let url = url.ok_or_else(|| unexpected("a next page in the same vault"))?;
        self.call(Method::GET, url, None, what).await
    }

    /// `POST keys/…`, as [`get`](Self::get).
    pub(super) async fn post(
        &self,
        path: &str,
        with: &(impl Serialize + Sync),
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        self.call(Method::POST, self.url(path)?, Some(rest::body(PROVIDER, with)?), path).await
    }

    /// What is missing may have been deleted in such a way that it can be had again.
    pub(super) async fn refine(&self, error: KmsError, name: &str) -> KmsError {
        if !matches!(error, KmsError::NotFound { .. }) {
            return error;
        }
        match self.get(&format!("deletedkeys/{name}")).await {
            Ok(_) => disabled(format!("keys/{name}: the key was deleted and can be recovered")),
            Err(_) => error,
        }
    }

    fn url(&self, path: &str) -> Result<Url, KmsError> {
        let mut url = self.vault.join(path).map_err(|_| invalid("a name is not fit for a path"))?;
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        Ok(url)
    }

    async fn call(
        &self,
        method: Method,
        url: Url,
        body: Option<Bytes>,
        what: &str,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let mut again = true;
        loop {
            let (source, bearer) = self.bearer().await?;
            let credential = Some((AUTHORIZATION, &bearer));
            let answer = self.rest.send(method.clone(), url.clone(), credential, body.clone()).await?;
            if answer.status.is_success() {
                return Ok(answer.body);
            }
            if answer.status != StatusCode::UNAUTHORIZED {
                return Err(answered(&answer, what));
            }
            if !std::mem::take(&mut again) {
                return Err(challenged(&answer, &self.scope, what));
            }
            // Taken away before its time: a source keeps its token until it expires, a new source has none.
            self.source.lock().await.take_if(|held| Arc::ptr_eq(held, &source));
        }
    }

    async fn bearer(&self) -> Result<(Arc<dyn TokenCredential>, HeaderValue), KmsError> {
        let mut held = self.source.lock().await;
        let source = match held.as_ref() {
            Some(source) => source.clone(),
            None => held.insert(self.open().map_err(|error| no_token(&error))?).clone(),
        };
        let scopes = [self.scope.as_str()];
        let token = timeout(self.timeout, source.get_token(&scopes, None)).await;
        let token = token.map_err(|_| unavailable(Cause::Deadline, "no token in time"))?;
        let token = token.map_err(|error| no_token(&error))?;
        let text = Zeroizing::new(format!("Bearer {}", token.token.secret()));
        let mut bearer = HeaderValue::from_str(&text)
            .map_err(|_| unauthenticated("the token has characters of no token"))?;
        bearer.set_sensitive(true);
        Ok((source, bearer))
    }

    fn open(&self) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let cloud = self.authority.as_ref().map(|authority| {
            let mut cloud = CustomConfiguration::default();
            cloud.authority_host = authority.clone();
            Arc::new(cloud.into())
        });
        let client_options = ClientOptions {
            // Tried again by the layer around every provider, which knows the deadline.
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(self.rest.http()))),
            cloud,
            ..ClientOptions::default()
        };
        Ok(match &self.auth {
            AzureAuth::ClientSecret { tenant_id, client_id, secret } => {
                let secret = Secret::new(String::from_utf8_lossy(secret.expose().trim_ascii()).into_owned());
                let options = ClientSecretCredentialOptions { client_options };
                ClientSecretCredential::new(tenant_id, client_id.clone(), secret, Some(options))?
            }
            AzureAuth::WorkloadIdentity { tenant_id, client_id, token_file } => {
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options },
                    tenant_id: tenant_id.clone(),
                    client_id: client_id.clone(),
                    token_file_path: token_file.clone(),
                }))?
            }
            AzureAuth::ManagedIdentity { client_id } => {
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id: client_id.clone().map(UserAssignedId::ClientId),
                    client_options,
                }))?
            }
        })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("vault", &self.vault.as_str()).finish_non_exhaustive()
    }
}

/// Known to vaults and to Managed HSMs.
const API_VERSION: &str = "7.4";

pub(super) fn parse<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, KmsError> {
    serde_json::from_slice(answer).map_err(|_| unexpected("the data that the API promises"))
}
