//! The one table of routes: which method and path lead to which handler, under which audit action.

use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc, time::Instant};

use http::{HeaderName, HeaderValue, Method};
use scaivault_core::{Code, Error, Result, Scope};

use super::{Head, Reply, Request, path, problem, request::Params};
use crate::metrics::Metrics;

/// What the server serves: the state that handlers share, and who may enter.
pub trait App: Send + Sync + 'static {
    /// Who calls, as a handler of an authenticated row receives it.
    type Caller: Clone + Send + Sync + 'static;

    /// Decides who sent a request, before its body is read.
    ///
    /// # Errors
    /// What the caller is told instead: [`Code::AuthenticationRequired`], [`Code::TokenInvalid`], …
    fn identify(&self, head: &Head) -> impl Future<Output = Result<Self::Caller>> + Send;

    /// Fields that an answer to this caller carries besides its own.
    fn fields(&self, caller: &Self::Caller) -> Vec<(HeaderName, HeaderValue)>;

    /// Where requests are counted.
    fn metrics(&self) -> &Metrics;

    /// Makes sure that an error which a known caller is about to get is in the audit trail; gives back the
    /// error to answer with. A caller who may not do it at all is told that, and not what is wrong with his
    /// request.
    fn refused(
        &self,
        caller: &Self::Caller,
        refusal: Refusal,
        error: Error,
    ) -> impl Future<Output = Error> + Send;
}

/// What is known of a request that ends in an error.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The row's action; `unrouted` if there is no row.
    pub action: &'static str,
    /// The path parameters as they were understood, or the path as it was sent if there is no row.
    pub about: Option<String>,
    /// The scopes of the row, any of which is enough; empty if it takes none.
    pub scopes: &'static [Scope],
    /// When the request arrived.
    pub started: Instant,
}

/// Whether a row needs a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone; the handler gets no caller.
    Public,
    /// Only who [`App::identify`] lets in.
    Authenticated,
}

/// A row for callers who are known: `route(Method::GET, "/v1/policies/{id}", policies::read)`.
///
/// The handler takes the request and the caller, so it cannot run without one.
pub fn route<A, F, Fut>(method: Method, template: &'static str, handler: F) -> Route<A>
where
    A: App,
    F: Fn(Request<A>, A::Caller) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    let guarded = move |request: Request<A>| {
        let handler = handler.clone();
        let run: Running = Box::pin(async move {
            let app = Arc::clone(request.app());
            let caller = app.identify(request.head()).await?;
            let (refusal, id) = (request.head().refusal(), request.head().id().clone());
            let action = refusal.action;
            let reply = match handler(request, caller.clone()).await {
                Ok(reply) => reply,
                Err(error) => problem::reply(&app.refused(&caller, refusal, error).await, &id, action),
            };
            Ok(app.fields(&caller).into_iter().fold(reply, |reply, (name, value)| reply.header(name, value)))
        });
        run
    };
    Route::new(method, template, Access::Authenticated, Arc::new(guarded))
}

/// A row for everybody: `public(Method::GET, "/v1/health", health::live)`.
pub fn public<A, F, Fut>(method: Method, template: &'static str, handler: F) -> Route<A>
where
    A: App,
    F: Fn(Request<A>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    let open = move |request: Request<A>| -> Running { Box::pin(handler(request)) };
    Route::new(method, template, Access::Public, Arc::new(open))
}

/// One row of the table.
///
/// A template is a path of literal segments and of parameters: `{name}` is one segment, `{*name}` as a last
/// segment is one or more. `{*name}/word` is `{*name}` whose last segment is exactly `word`; among the rows
/// of one `{*name}`, that last segment decides first and the method second, so that
/// `PUT /v1/secrets/a/metadata` is a 405 rather than a secret named `metadata`.
pub struct Route<A> {
    method: Method,
    template: &'static str,
    access: Access,
    action: &'static str,
    scopes: &'static [Scope],
    raw_tail: bool,
    handler: Handler<A>,
}

type Running = Pin<Box<dyn Future<Output = Result<Reply>> + Send>>;
type Handler<A> = Arc<dyn Fn(Request<A>) -> Running + Send + Sync>;

impl<A> Route<A> {
    fn new(method: Method, template: &'static str, access: Access, handler: Handler<A>) -> Self {
        Self { method, template, access, action: "", scopes: &[], raw_tail: false, handler }
    }

    /// The name under which the audit trail and the logs know this row. Every row needs one.
    #[must_use]
    pub fn action(mut self, action: &'static str) -> Self {
        self.action = action;
        self
    }

    /// The scopes of which the verb behind this row demands one. The verb decides; here they say what to tell
    /// a caller whose request cannot be read.
    #[must_use]
    pub fn scopes(mut self, any_of: &'static [Scope]) -> Self {
        self.scopes = any_of;
        self
    }

    /// Hands the `{*tail}` over as it was sent, undecoded and with any slashes: for OCSP over GET
    /// (RFC 6960 appendix A.1), whose tail is base64.
    #[must_use]
    pub fn raw_tail(mut self) -> Self {
        self.raw_tail = true;
        self
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path template.
    #[must_use]
    pub fn template(&self) -> &'static str {
        self.template
    }

    /// Whether a caller is needed.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// The audit action.
    #[must_use]
    pub fn audit_action(&self) -> &'static str {
        self.action
    }

    /// The scopes, any of which is enough; empty if any caller will do.
    #[must_use]
    pub fn required_scopes(&self) -> &'static [Scope] {
        self.scopes
    }

    pub(crate) fn handle(&self, request: Request<A>) -> Running {
        (self.handler)(request)
    }
}

impl<A> fmt::Debug for Route<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.method, self.template, self.action)
    }
}

/// A table that contradicts itself: a defect found at start, before anything is served.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Two rows for one method and path.
    #[error("two rows for {0}")]
    Twice(String),
    /// A row without an audit action.
    #[error("no action for {0}")]
    NoAction(String),
    /// A template that cannot be matched, or not beside the others.
    #[error("{route}: {reason}")]
    Template {
        /// The row.
        route: String,
        /// Why.
        reason: String,
    },
}

/// The table, ready to be asked.
pub struct Router<A> {
    routes: Vec<Arc<Route<A>>>,
    tree: matchit::Router<usize>,
    nodes: Vec<Node<A>>,
}

/// The rows that share a template up to the word after a `{*name}`.
struct Node<A> {
    /// The name of the `{*name}`, if the template ends in one.
    tail: Option<&'static str>,
    raw_tail: bool,
    plain: Rows<A>,
    suffixes: Vec<(&'static str, Rows<A>)>,
}

type Rows<A> = Vec<Arc<Route<A>>>;

/// What the table says of a request.
pub(crate) struct Found<A> {
    pub(crate) route: Arc<Route<A>>,
    pub(crate) params: Params,
    /// The tenant that stood before the path, decoded once.
    pub(crate) tenant: Option<String>,
}

/// What stands before a tenant in a path.
const TENANT_PREFIX: &str = "/v1/t/";

/// Why no row serves a request.
pub(crate) struct Miss {
    pub(crate) error: Error,
    /// The methods that would have been served, for a 405.
    pub(crate) allow: Option<HeaderValue>,
}

impl<A> Router<A> {
    /// Builds the table.
    ///
    /// # Errors
    /// [`TableError`] for the first row that contradicts itself or another one.
    pub fn new(routes: Vec<Route<A>>) -> Result<Self, TableError> {
        let mut router = Self { routes: Vec::new(), tree: matchit::Router::new(), nodes: Vec::new() };
        let mut known: HashMap<&'static str, usize> = HashMap::new();
        for route in routes {
            router.add(Arc::new(route), &mut known)?;
        }
        Ok(router)
    }

    /// Every row, in the order of the table.
    pub fn rows(&self) -> impl Iterator<Item = &Route<A>> {
        self.routes.iter().map(AsRef::as_ref)
    }

    /// The row that a request of this method and raw path reaches.
    #[must_use]
    pub fn reached(&self, method: &Method, path: &str) -> Option<Arc<Route<A>>> {
        self.find(method, path).ok().map(|found| found.route)
    }

    /// The row for a raw path. `/v1/t/{tenant}/` before the path of a row for callers who are known, once, names the
    /// tenant that is acted on.
    pub(crate) fn find(&self, method: &Method, raw: &str) -> Result<Found<A>, Box<Miss>> {
        let prefixed = raw.strip_prefix(TENANT_PREFIX).and_then(|rest| rest.split_once('/'));
        let Some((tenant, rest)) = prefixed else { return self.row(method, raw, |_| true) };
        if let Some(flaw) = path::segment_flaw(tenant) {
            return Err(refuse(flaw, false));
        }
        let known = |route: &Route<A>| route.access == Access::Authenticated;
        let found = self.row(method, &format!("/v1/{rest}"), known)?;
        Ok(Found { tenant: Some(path::decode(tenant)), ..found })
    }

    /// The row for a path without a prefix, among those that are `served`.
    fn row(
        &self,
        method: &Method,
        raw: &str,
        served: impl Fn(&Route<A>) -> bool,
    ) -> Result<Found<A>, Box<Miss>> {
        let found = self.tree.at(raw).ok();
        let node = found.as_ref().and_then(|found| self.nodes.get(*found.value));
        let captured =
            found.as_ref().map(|found| found.params.iter().collect::<Vec<_>>()).unwrap_or_default();
        let raw_tail = node.is_some_and(|node| node.raw_tail);
        let flaw = if raw_tail { prefix_flaw(&captured) } else { path::flaw(raw) };
        if let Some(flaw) = flaw {
            return Err(refuse(flaw, node.is_some_and(|node| node.tail.is_some() && !raw_tail)));
        }
        let Some(node) = node else { return Err(nothing()) };
        let (rows, params) = node.choose(&captured);
        let rows: Vec<_> = rows.iter().filter(|route| served(route)).collect();
        match rows.iter().find(|route| serves(route, method)) {
            Some(route) => Ok(Found { route: Arc::clone(route), params, tenant: None }),
            None if rows.is_empty() => Err(nothing()),
            None => Err(not_allowed(&rows)),
        }
    }

    fn add(
        &mut self,
        route: Arc<Route<A>>,
        known: &mut HashMap<&'static str, usize>,
    ) -> Result<(), TableError> {
        let template =
            |reason: &str| TableError::Template { route: format!("{route:?}"), reason: reason.into() };
        if route.action.is_empty() {
            return Err(TableError::NoAction(format!("{route:?}")));
        }
        let shape = Shape::of(route.template)
            .ok_or_else(|| template("a segment other than one word follows {*…}"))?;
        if route.raw_tail && (shape.tail.is_none() || shape.suffix.is_some()) {
            return Err(template("a raw tail needs a template that ends in {*…}"));
        }
        let index = match known.get(shape.base) {
            Some(index) => *index,
            None => {
                let index = self.nodes.len();
                self.tree.insert(shape.base, index).map_err(|error| template(&error.to_string()))?;
                let raw_tail = route.raw_tail;
                self.nodes.push(Node { tail: shape.tail, raw_tail, plain: Vec::new(), suffixes: Vec::new() });
                known.insert(shape.base, index);
                index
            }
        };
        let node = self.nodes.get_mut(index).ok_or_else(|| template("lost"))?;
        if node.raw_tail != route.raw_tail {
            return Err(template("its rows disagree about the raw tail"));
        }
        let rows = node.rows_mut(shape.suffix);
        if rows.iter().any(|row| row.method == route.method) {
            return Err(TableError::Twice(format!("{route:?}")));
        }
        rows.push(Arc::clone(&route));
        self.routes.push(route);
        Ok(())
    }
}

impl<A> fmt::Debug for Router<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.routes).finish()
    }
}

impl<A> Node<A> {
    fn rows_mut(&mut self, suffix: Option<&'static str>) -> &mut Rows<A> {
        let Some(word) = suffix else { return &mut self.plain };
        let at = self.suffixes.iter().position(|(known, _)| *known == word).unwrap_or(self.suffixes.len());
        if at == self.suffixes.len() {
            self.suffixes.push((word, Vec::new()));
        }
        &mut self.suffixes[at].1
    }

    /// The rows that the last segment selects, and the parameters without it.
    fn choose(&self, captured: &[(&str, &str)]) -> (&Rows<A>, Params) {
        let mut rows = &self.plain;
        let params = captured.iter().map(|&(name, value)| {
            if self.tail != Some(name) {
                return (name.to_owned(), path::decode(value));
            }
            if self.raw_tail {
                return (name.to_owned(), value.to_owned());
            }
            let split = value.rsplit_once('/');
            let suffix = split.and_then(|(head, last)| {
                self.suffixes.iter().find(|(word, _)| *word == last).map(|(_, rows)| (head, rows))
            });
            let kept = suffix.map_or(value, |(head, selected)| {
                rows = selected;
                head
            });
            (name.to_owned(), path::decode(kept))
        });
        let params = Params(params.collect());
        (rows, params)
    }
}

/// A template taken apart.
struct Shape {
    /// Up to and with a `{*name}`.
    base: &'static str,
    tail: Option<&'static str>,
    suffix: Option<&'static str>,
}

impl Shape {
    fn of(template: &'static str) -> Option<Self> {
        let Some(start) = template.find("/{*") else {
            return Some(Self { base: template, tail: None, suffix: None });
        };
        let end = start + template.get(start..)?.find('}')? + 1;
        let tail = template.get(start + 3..end - 1);
        let suffix = match template.get(end..)? {
            "" => None,
            rest => Some(
                rest.strip_prefix('/').filter(|word| !word.is_empty() && !word.contains(['/', '{', '}']))?,
            ),
        };
        Some(Self { base: template.get(..end)?, tail, suffix })
    }
}

fn serves<A>(route: &Route<A>, method: &Method) -> bool {
    route.method == *method || (*method == Method::HEAD && route.method == Method::GET)
}

/// The flaw of the parameters before a raw tail; literals match only as they are.
fn prefix_flaw(captured: &[(&str, &str)]) -> Option<&'static str> {
    let before = captured.len().saturating_sub(1);
    captured.iter().take(before).find_map(|(_, value)| path::segment_flaw(value))
}

fn refuse(flaw: &str, is_secret_path: bool) -> Box<Miss> {
    let code = if is_secret_path { Code::InvalidPath } else { Code::InvalidRequest };
    Box::new(Miss { error: Error::new(code, format!("The path {flaw}.")), allow: None })
}

fn nothing() -> Box<Miss> {
    Box::new(Miss { error: Error::new(Code::NotFound, "There is no such route."), allow: None })
}

fn not_allowed<A>(rows: &[&Arc<Route<A>>]) -> Box<Miss> {
    let mut methods: Vec<&str> = rows.iter().map(|route| route.method.as_str()).collect();
    if methods.contains(&"GET") && !methods.contains(&"HEAD") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    let allow = methods.join(", ");
    let error = Error::new(Code::MethodNotAllowed, format!("Only {allow} is served here."));
    Box::new(Miss { error, allow: HeaderValue::from_str(&allow).ok() })
}

#[cfg(test)]
mod tests;
