use std::sync::Arc;

use bytes::Bytes;
use gcp_auth::{CustomServiceAccount, MetadataServiceAccount, TokenProvider};
use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::Serialize;
use tokio::{
    sync::Mutex,
    task,
    time::{Duration, timeout},
};
use zeroize::Zeroizing;

use super::{
    GcpAuth, GcpConfig, PROVIDER,
    error::{answered, invalid, no_token, unauthenticated, unavailable},
};
use crate::{
    Cause, KmsError,
    rest::{self, Rest},
};

/// Requests in our name. A token is asked for when it is first needed and when the last one is about to expire;
/// however many requests wait for it, it is asked for once.
pub(super) struct Session {
    rest: Rest,
    base: Url,
    auth: GcpAuth,
    timeout: Duration,
    source: Mutex<Option<Arc<dyn TokenProvider>>>,
}

impl Session {
    pub(super) fn new(config: &GcpConfig) -> Result<Self, KmsError> {
        Ok(Self {
            rest: Rest::new(PROVIDER, config.timeout, config.ca_pem.as_deref(), HeaderMap::new())?,
            base: config.base()?,
            auth: config.auth.clone(),
            timeout: config.timeout,
            source: Mutex::default(),
        })
    }

    /// `GET path`, and the answer if it was a success. `what` is what the request is about.
    pub(super) async fn get(&self, path: &str, what: &str) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        self.call(Method::GET, path, None, what).await
    }

    /// `POST path`, as [`get`](Self::get).
    pub(super) async fn post(
        &self,
        path: &str,
        with: &(impl Serialize + Sync),
        what: &str,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        self.call(Method::POST, path, Some(rest::body(PROVIDER, with)?), what).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        what: &str,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let url = self.base.join(path).map_err(|_| invalid("a name is not fit for a path"))?;
        let mut again = true;
        loop {
            let (source, bearer) = self.bearer().await?;
            let credential = Some((AUTHORIZATION, &bearer));
            let answer = self.rest.send(method.clone(), url.clone(), credential, body.clone()).await?;
            if answer.status.is_success() {
                return Ok(answer.body);
            }
            if answer.status != StatusCode::UNAUTHORIZED || !std::mem::take(&mut again) {
                return Err(answered(&answer, what));
            }
            // Taken away before its time: a source keeps its token until it expires, a new source has none.
            self.source.lock().await.take_if(|held| Arc::ptr_eq(held, &source));
        }
    }

    async fn bearer(&self) -> Result<(Arc<dyn TokenProvider>, HeaderValue), KmsError> {
        let late = |_| unavailable(Cause::Deadline, "no token in time");
        let mut held = self.source.lock().await;
        let source = match held.as_ref() {
            Some(source) => source.clone(),
            None => {
                let opened = timeout(self.timeout, open(self.auth.clone())).await.map_err(late)??;
                held.insert(opened).clone()
            }
        };
        let token = timeout(self.timeout, source.token(&[SCOPE])).await.map_err(late)?;
        let token = token.map_err(|error| no_token(&error))?;
        let text = Zeroizing::new(format!("Bearer {}", token.as_str()));
        let mut bearer = HeaderValue::from_str(&text)
            .map_err(|_| unauthenticated("the token has characters of no token"))?;
        bearer.set_sensitive(true);
        Ok((source, bearer))
    }
}

async fn open(auth: GcpAuth) -> Result<Arc<dyn TokenProvider>, KmsError> {
    match auth {
        GcpAuth::Default => gcp_auth::provider().await.map_err(|error| no_token(&error)),
        GcpAuth::ServiceAccount(path) => {
            // Reads the file, and the system's certificates.
            let opened = task::spawn_blocking(move || CustomServiceAccount::from_file(path)).await;
            let opened = opened.map_err(|_| unauthenticated("reading the service account file failed"))?;
            Ok(Arc::new(opened.map_err(|error| no_token(&error))?))
        }
        GcpAuth::MetadataServer => {
            let opened = MetadataServiceAccount::new().await;
            Ok(Arc::new(opened.map_err(|error| no_token(&error))?))
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
