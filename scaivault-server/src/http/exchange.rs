//! One request and its answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use scaivault_core::{ClientCertificate, Code, Error, SystemRandom};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Head, Reply, Request, RequestId,
    body::Body,
    problem,
    request::{Params, X_REQUEST_ID},
    router::{App, Found, Miss, Refusal, Route, Router},
};

/// What the requests of one server share.
pub(crate) struct Shared<A> {
    pub(crate) app: Arc<A>,
    pub(crate) router: Router<A>,
    pub(crate) body_bytes: usize,
    pub(crate) body_time: Duration,
    pub(crate) tls: bool,
}

/// What the requests of one connection share.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// What the other end showed in the handshake.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    /// One permit for each handler that may run at a time.
    pub(crate) handlers: Arc<Semaphore>,
    /// The connection's place among all connections, given up after the last handler.
    pub(crate) slot: Arc<OwnedSemaphorePermit>,
    /// Set by each request, cleared by the watch for idle connections.
    pub(crate) busy: AtomicBool,
}

/// Answers one request; never fails.
pub(crate) async fn answer<A: App>(
    shared: Arc<Shared<A>>,
    peer: Arc<Peer>,
    request: http::Request<Incoming>,
) -> Response<Full<Bytes>> {
    let started = Instant::now();
    peer.busy.store(true, Ordering::Relaxed);
    let id = RequestId::of(request.headers(), &SystemRandom);
    let method = request.method().clone();
    let found = shared.router.find(&method, request.uri().path());
    let (parts, incoming) = request.into_parts();
    let mut head = Head {
        method: method.clone(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        params: Params::default(),
        tenant: None,
        template: "",
        id: id.clone(),
        peer: peer.address,
        certificate: peer.certificate.clone(),
        action: UNROUTED,
        scopes: &[],
        started,
    };
    let template = found.as_ref().map_or("", |found| found.route.template());
    let app = Arc::clone(&shared.app);
    let counted = app.metrics().begin(&method, template);
    let (reply, action) = match found {
        Ok(Found { route, params, tenant }) => {
            let action = route.audit_action();
            (head.params, head.action, head.scopes) = (params, action, route.required_scopes());
            (head.tenant, head.template) = (tenant, template);
            let waits = head.headers.contains_key(header::EXPECT);
            let body = Body::new(incoming, shared.body_bytes, shared.body_time, waits);
            let request = Request::new(Arc::clone(&shared.app), head, body);
            (run(route, request, &peer, &id).await, action)
        }
        Err(miss) => (missed(&shared, &head, parts.uri.path(), *miss).await, UNROUTED),
    };
    let (status, took) = (reply.status().as_u16(), started.elapsed());
    counted.end(reply.status(), took);
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    // A method of one's own making may be as long as a header.
    let name = method.as_str();
    let name = name.get(..16).unwrap_or(name);
    tracing::info!(request_id = id.as_str(), method = name, template, action, status, took_ms, "request");
    finish(reply, &id, &method, shared.tls)
}

/// The answer to a request that no row serves. Whoever shows a good token is on record with it.
async fn missed<A: App>(shared: &Shared<A>, head: &Head, path: &str, miss: Miss) -> Reply {
    let error = match shared.app.identify(head).await {
        Ok(caller) => {
            let refusal = Refusal { about: Some(path.to_owned()), ..head.refusal() };
            shared.app.refused(&caller, refusal, miss.error).await
        }
        Err(error) if matches!(error.code(), Code::RateLimited | Code::ServiceUnavailable) => error,
        Err(_) => miss.error,
    };
    let reply = problem::reply(&error, &head.id, UNROUTED);
    match miss.allow {
        Some(allow) => reply.header(header::ALLOW, allow),
        None => reply,
    }
}

/// The action of a request that no row serves.
const UNROUTED: &str = "unrouted";

/// Runs the handler in a task of its own: a caller who hangs up does not cut a verb in half, and a panic is
/// an answer. The task holds its place in the connection and the connection's place in the server, so that
/// neither the bound on work nor the drain can lose sight of it.
async fn run<A: App>(route: Arc<Route<A>>, request: Request<A>, peer: &Peer, id: &RequestId) -> Reply {
    let action = route.audit_action();
    let outcome = match Arc::clone(&peer.handlers).acquire_owned().await {
        Err(closed) => Err(Error::internal(closed)),
        Ok(permit) => {
            let held = (permit, Arc::clone(&peer.slot));
            let task = tokio::spawn(async move {
                let outcome = route.handle(request).await;
                drop(held);
                outcome
            });
            // What a panic says may hold a secret; that it happened is enough.
            task.await.unwrap_or_else(|_| Err(Error::internal("the handler panicked")))
        }
    };
    outcome.unwrap_or_else(|error| problem::reply(&error, id, action))
}

/// Adds what every answer carries.
fn finish(reply: Reply, id: &RequestId, method: &Method, tls: bool) -> Response<Full<Bytes>> {
    let mut response = reply.into_response();
    if *method == Method::HEAD {
        let length = hyper::body::Body::size_hint(response.body()).exact().unwrap_or(0);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        *response.body_mut() = Full::default();
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(X_REQUEST_ID.clone(), value);
    }
    set_if_absent(headers, &header::CACHE_CONTROL, "no-store");
    set_if_absent(headers, &header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if tls {
        set_if_absent(headers, &header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    response
}

fn set_if_absent(headers: &mut HeaderMap, name: &HeaderName, value: &'static str) {
    if !headers.contains_key(name) {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// One year (RFC 6797 section 6.1.1), in seconds.
const HSTS: &str = "max-age=31536000";
