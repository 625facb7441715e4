use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    Outside, Trust, TrustKind,
    aws::{self, AwsAccounts},
    keys::Keys,
    store::{TrustRow, sql},
    types::{Proof, TokenProof},
};
use crate::{
    Action, Caller, Clock, Code, Ctx, Error, FieldErrors, PartnerId, Result, Scope, TenantId,
    audit::shown,
    identity::{Claims, Signed},
    limits,
    pipeline::{Act, Outcome, Permit},
    policy::PathPattern,
    storage::query,
    vault::Inner,
};

/// Makes the tokens that are given out for foreign proofs: the identity provider, or what stands for it in development.
#[async_trait]
pub trait TokenMinter: fmt::Debug + Send + Sync {
    /// A token that says exactly this, and nothing that lets its bearer do more.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`] if there is none to be had.
    async fn mint(&self, wanted: &MintRequest<'_>) -> Result<Minted>;
}

/// What a token is to say.
pub struct MintRequest<'a> {
    /// For which tenant.
    pub tenant: &'a TenantId,
    /// Whose that tenant is.
    pub partner: &'a PartnerId,
    /// Who its bearer is, such as `sa:billing`.
    pub service_account: &'a str,
    /// Its scopes: all of them, at least one.
    pub scopes: &'a [Scope],
    /// The patterns of the paths that it is narrowed to, at least one.
    pub allowed_paths: &'a [PathPattern],
    /// How long it is to last at most.
    pub ttl: Duration,
    /// The proof that was believed, and its type (RFC 8693 section 3).
    pub subject_token: &'a str,
    /// See `subject_token`.
    pub subject_token_type: &'static str,
}

impl fmt::Debug for MintRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("MintRequest");
        f.field("tenant", &self.tenant)
            .field("service_account", &self.service_account)
            .finish_non_exhaustive()
    }
}

/// A token that was made.
pub struct Minted {
    /// The token.
    pub token: Zeroizing<String>,
    /// How long it lasts from now on.
    pub ttl: Duration,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// What an exchange stands on.
#[derive(Clone, Debug)]
pub struct ExchangeSettings {
    /// Makes the tokens.
    pub minter: Arc<dyn TokenMinter>,
    /// Fetches the keys of issuers that tenants name, and asks AWS.
    pub outside: Arc<dyn Outside>,
}

/// A request for an exchange as it is written (RFC 8693 section 2.1); see the API contract.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the fields of the API")]
pub struct ExchangeWrite {
    #[serde(default)]
    pub grant_type: Option<String>,
    pub tenant_id: String,
    pub subject_token: String,
    #[serde(default)]
    pub subject_token_type: Option<String>,
    #[serde(default)]
    pub requested_token_type: Option<String>,
    #[serde(default)]
    pub audience: Option<String>,
    #[serde(default)]
    pub role: Option<String>,
    #[serde(default)]
    pub scope: Option<String>,
    #[serde(default)]
    pub allowed_paths: Option<Vec<String>>,
}

/// A request for an exchange that can be read.
pub struct ExchangeRequest {
    tenant: TenantId,
    proof: Shown,
    role: Option<String>,
    scopes: Option<Vec<String>>,
    allowed_paths: Option<Vec<PathPattern>>,
}

/// What the workload shows.
enum Shown {
    Token(Zeroizing<String>),
    AwsRequest(Zeroizing<String>),
}

impl Shown {
    fn text(&self) -> &str {
        match self {
            Self::Token(text) | Self::AwsRequest(text) => text,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => JWT,
            Self::AwsRequest(_) => AWS_REQUEST,
        }
    }
}

impl ExchangeRequest {
    /// Reads one.
    ///
    /// # Errors
    /// [`Code::ValidationError`] with every field that cannot be read.
    pub fn parse(write: ExchangeWrite) -> Result<Self> {
        let mut wrong = FieldErrors::default();
        let subject_token = Zeroizing::new(write.subject_token);
        let mut is = |field: &str, value: Option<&str>, allowed: &[&str]| {
            if value.is_some_and(|value| !allowed.contains(&value)) {
                wrong.push(field, format!("must be {}", allowed.join(" or ")));
            }
        };
        is("grant_type", write.grant_type.as_deref(), &[GRANT_TYPE]);
        is("requested_token_type", write.requested_token_type.as_deref(), &[ACCESS_TOKEN, JWT]);
        is("audience", write.audience.as_deref(), &[AUDIENCE]);
        is("subject_token_type", write.subject_token_type.as_deref(), &[JWT, ID_TOKEN, AWS_REQUEST]);
        let tenant = TenantId::parse(write.tenant_id);
        if tenant.is_err() {
            wrong.push("tenant_id", "must be 1 to 128 visible ASCII characters");
        }
        if !(1..=limits::TOKEN_BYTES).contains(&subject_token.len()) {
            wrong.push("subject_token", format!("must have 1 to {} bytes", limits::TOKEN_BYTES));
        }
        let scopes = write.scope.map(|scope| scope.split(' ').map(str::to_owned).collect::<Vec<_>>());
        if scopes
            .as_ref()
            .is_some_and(|scopes| scopes.len() > Scope::ALL.len() || scopes.iter().any(String::is_empty))
        {
            wrong.push("scope", "must be scopes, each once, with one space between them");
        }
        let allowed_paths = write.allowed_paths.map(|texts| patterns(&texts, &mut wrong));
        wrong.finish()?;
        let proof = match write.subject_token_type.as_deref() {
            Some(AWS_REQUEST) => Shown::AwsRequest(subject_token),
            _ => Shown::Token(subject_token),
        };
        Ok(Self { tenant: tenant?, proof, role: write.role, scopes, allowed_paths })
    }
}

impl fmt::Debug for ExchangeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeRequest").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

fn patterns(texts: &[String], wrong: &mut FieldErrors) -> Vec<PathPattern> {
    if !(1..=limits::ALLOWED_PATHS).contains(&texts.len()) {
        wrong.push("allowed_paths", format!("must have 1 to {} patterns", limits::ALLOWED_PATHS));
    }
    let mut all = Vec::new();
    for (at, text) in texts.iter().enumerate().take(limits::ALLOWED_PATHS) {
        match PathPattern::parse(text) {
            Ok(pattern) => all.push(pattern),
            Err(error) => wrong.push(format!("allowed_paths[{at}]"), error.message()),
        }
    }
    all
}

pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const AWS_REQUEST: &str = "urn:scaivault:params:oauth:token-type:aws-sts-request";
/// The audience that may be asked for: this vault is what tokens of an exchange are for.
const AUDIENCE: &str = "scaivault";

/// Where a request without a token comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Its address.
    pub source_ip: IpAddr,
    /// The request's name.
    pub request_id: &'a str,
    /// The program that made it, if it said so.
    pub user_agent: Option<&'a str>,
}

/// A token that was given out (RFC 8693 section 2.2.1).
#[derive(Serialize)]
pub struct Exchanged {
    #[serde(serialize_with = "exposed")]
    access_token: Zeroizing<String>,
    issued_token_type: &'static str,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
}

fn exposed<S: Serializer>(token: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(token)
}

impl fmt::Debug for Exchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanged").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// What exchanges are done with.
#[derive(Debug)]
pub(crate) struct Exchanger {
    minter: Arc<dyn TokenMinter>,
    outside: Arc<dyn Outside>,
    keys: Keys,
}

impl Exchanger {
    pub(crate) fn new(settings: ExchangeSettings, clock: Arc<dyn Clock>) -> Self {
        let ExchangeSettings { minter, outside } = settings;
        Self { minter, keys: Keys::new(Arc::clone(&outside), clock), outside }
    }
}

/// Who a proof says that the workload is, when it is believed.
struct Proven {
    /// As the platform names it.
    subject: String,
    /// What tells this proof from every other.
    hash: String,
    /// From when on it would not be believed any more.
    expires: OffsetDateTime,
}

/// See [`Vault::exchange`](crate::Vault::exchange).
pub(crate) async fn exchange(
    vault: &Inner,
    request: &ExchangeRequest,
    origin: Origin<'_>,
) -> Result<Exchanged> {
    let Some(exchanger) = &vault.exchanger else {
        return Err(Error::new(
            Code::NotFound,
            "Tokens are not exchanged here: nothing is configured that mints them.",
        ));
    };
    if !vault.door.is_tenant(&request.tenant).await? {
        // There is no trail to write it to, and asking makes no tenant.
        return Err(refused());
    }
    let caller = Caller::system(JOB, request.tenant.clone())?;
    let ctx = Ctx::new(caller, origin.request_id.to_owned(), vault.clock.now())
        .with_request_id(origin.request_id)
        .with_source_ip(origin.source_ip);
    let ctx = match origin.user_agent {
        Some(agent) => ctx.with_user_agent(agent),
        None => ctx,
    };
    let act = Act::object(Action::AuthExchange, &[], "trust", None);
    let work = |permit| async move { work(vault, exchanger, permit, request).await };
    vault.door.perform(&ctx, act, work).await.map_err(|error| match error.code() {
        Code::TokenInvalid | Code::TokenExpired => refused(),
        _ => error,
    })
}

/// As whom an exchange is in the trail: who asks is not known before.
const JOB: &str = "token-exchange";

/// All that anybody learns who is refused.
fn refused() -> Error {
    Error::new(Code::TokenInvalid, "The subject token is not accepted.").recorded()
}

/// Why a proof is refused, for the trail. Nothing of what was shown is in it.
pub(super) fn refuse(reason: impl fmt::Display) -> Error {
    Error::new(Code::TokenInvalid, format!("The subject token is not accepted: {reason}."))
}

async fn work(
    vault: &Inner,
    exchanger: &Exchanger,
    mut permit: Permit<'_>,
    request: &ExchangeRequest,
) -> Result<Outcome<Exchanged>> {
    let (trust, proven) = find(vault, exchanger, &permit, request).await?;
    let document = &trust.document;
    if document.single_use {
        let used = query(sql::USED).bind(permit.tenant()).bind(&trust.id).bind(&proven.hash);
        if permit.fetch_optional::<(i64,)>(used).await?.is_some_and(|(n,)| n > 0) {
            return Err(refuse(format_args!("{}: it was exchanged before", trust.id)));
        }
    }
    permit.resource(&trust.id);
    permit.note("trust_id", trust.id.as_str());
    permit.note("subject", shown(&proven.subject));
    permit.note("service_account", document.service_account.as_str());
    let scopes = narrowed_scopes(&document.scopes, request.scopes.as_deref())?;
    let allowed_paths = narrowed_paths(&document.allowed_paths, request.allowed_paths.as_deref())?;
    let wanted = MintRequest {
        tenant: permit.tenant(),
        partner: permit.partner(),
        service_account: &document.service_account,
        scopes: &scopes,
        allowed_paths: &allowed_paths,
        ttl: document.lifetime(),
        subject_token: request.proof.text(),
        subject_token_type: request.proof.kind(),
    };
    let Minted { token, ttl } = exchanger.minter.mint(&wanted).await?;
    let scope = scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ");
    permit.note("scope", scope.as_str());
    permit.note("allowed_paths", allowed_paths.iter().map(PathPattern::as_str).collect::<Vec<_>>());
    let expires_in = ttl.min(document.lifetime()).as_secs();
    permit.note("expires_in", expires_in);
    let answer = Exchanged {
        access_token: token,
        issued_token_type: ACCESS_TOKEN,
        token_type: "Bearer",
        expires_in,
        scope,
    };
    if !document.single_use {
        return permit.answer(answer);
    }
    let mut tx = permit.begin().await?;
    tx.execute(query(sql::FORGET_USED).bind(tx.tenant()).bind(tx.ctx().now())).await?;
    let insert = query(sql::USE)
        .bind(tx.tenant())
        .bind(&trust.id)
        .bind(&proven.hash)
        .bind(proven.expires + limits::PROOF_KEPT);
    if tx.execute(insert).await? == 0 {
        return Err(refuse(format_args!("{}: it was exchanged before", trust.id)));
    }
    tx.commit(answer).await
}

/// The trust configuration that accepts the proof: of those for its issuer, and for the account that is asked for. Where
/// several accept it they have to agree on the account; then it is the oldest.
async fn find(
    vault: &Inner,
    exchanger: &Exchanger,
    permit: &Permit<'_>,
    request: &ExchangeRequest,
) -> Result<(Trust, Proven)> {
    let signed = match &request.proof {
        Shown::Token(token) => Some(Signed::read(token)?),
        Shown::AwsRequest(_) => None,
    };
    let issuer = match &signed {
        Some(signed) => signed.claimed_issuer()?,
        None => AwsAccounts::ISSUER.to_owned(),
    };
    let rows: Vec<TrustRow> =
        permit.fetch_all(query(sql::OF_ISSUER).bind(permit.tenant()).bind(&issuer)).await?;
    let mut refusal = refuse("no trust configuration is for its issuer and the account that is asked for");
    let mut found: Option<(Trust, Proven)> = None;
    // AWS is asked once for each request, however many trust configurations there are.
    let mut identity = None;
    for row in rows {
        let trust = row.into_trust()?;
        if request.role.as_ref().is_some_and(|role| *role != trust.document.service_account) {
            continue;
        }
        let proven = match (&trust.document.proof, &signed, &request.proof) {
            (Proof::Token(proof), Some(signed), _) => {
                token(exchanger, &trust, proof, signed, vault.clock.now()).await
            }
            (Proof::Aws(accounts), None, Shown::AwsRequest(text)) => {
                if identity.is_none() {
                    let server = server_id(vault, permit.tenant());
                    identity =
                        Some(aws::ask(exchanger.outside.as_ref(), text, &server, vault.clock.now()).await?);
                }
                match &identity {
                    Some(identity) => accounts.check(identity).map(|()| Proven {
                        subject: identity.arn.clone(),
                        hash: identity.hash.clone(),
                        expires: identity.expires,
                    }),
                    None => continue,
                }
            }
            _ => continue,
        };
        match (proven, &found) {
            (Ok(proven), None) => found = Some((trust, proven)),
            (Ok(_), Some((other, _))) if other.document.service_account != trust.document.service_account => {
                return Err(refuse(
                    "several trust configurations accept it for different accounts; role has to name one",
                ));
            }
            (Ok(_), Some(_)) => {}
            (Err(error), _) => refusal = of_trust(&trust.id, error),
        }
    }
    found.ok_or(refusal)
}

/// The same refusal with the trust configuration that it is about.
fn of_trust(id: &str, error: Error) -> Error {
    match error.code() {
        Code::TokenInvalid | Code::TokenExpired => {
            Error::new(error.code(), format!("{id}: {}", error.message()))
        }
        // Whose keys cannot be had is nothing that a stranger may find out.
        _ => Error::new(Code::TokenInvalid, format!("{id}: {}", error.message())).because(error),
    }
}

/// What a request to AWS has to be made for: this vault and this tenant.
fn server_id(vault: &Inner, tenant: &TenantId) -> String {
    let base = vault.settings.base_url.as_deref().unwrap_or_default();
    format!("{base}/{}", tenant.as_str())
}

async fn token(
    exchanger: &Exchanger,
    trust: &Trust,
    proof: &TokenProof,
    signed: &Signed<'_>,
    now: OffsetDateTime,
) -> Result<Proven> {
    let members = signed.open(&exchanger.keys.of(proof)).await?;
    let (subject, expires) =
        Claims::new(members.clone(), now).into_foreign(&proof.issuer, &proof.audiences)?;
    check_bound(trust.document.kind, proof, &subject, &members)?;
    Ok(Proven { subject, hash: signed.hash(), expires: expires + limits::TOKEN_LEEWAY })
}

fn check_bound(
    kind: TrustKind,
    proof: &TokenProof,
    subject: &str,
    claims: &Map<String, Value>,
) -> Result<()> {
    if proof.subject.as_ref().is_some_and(|pattern| !pattern.matches(subject)) {
        return Err(refuse("claim sub is not a bound one"));
    }
    for bound in &proof.claims {
        if !bound.holds(claims) {
            return Err(refuse(format_args!("claim {} is not a bound one", bound.path.as_str())));
        }
        // Anybody can name an address that is not his; only its issuer can say that it is his.
        let unverified =
            bound.path.first() == "email" && claims.get("email_verified") != Some(&Value::Bool(true));
        if unverified && kind != TrustKind::Kubernetes {
            return Err(refuse("claim email is bound, and email_verified is not true"));
        }
    }
    Ok(())
}

/// What a request asks for, if it is no more than the ceiling.
fn narrowed_scopes(ceiling: &[Scope], asked: Option<&[String]>) -> Result<Vec<Scope>> {
    let Some(asked) = asked else { return Ok(ceiling.to_vec()) };
    let all: crate::Scopes = ceiling.iter().copied().collect();
    let mut scopes = Vec::new();
    for text in asked {
        match Scope::parse(text).filter(|scope| all.contains(*scope)) {
            Some(scope) if !scopes.contains(&scope) => scopes.push(scope),
            Some(_) => {}
            None => return Err(outside("scope", "names a scope that the trust configuration does not give")),
        }
    }
    Ok(scopes)
}

fn narrowed_paths(ceiling: &[PathPattern], asked: Option<&[PathPattern]>) -> Result<Vec<PathPattern>> {
    let Some(asked) = asked else { return Ok(ceiling.to_vec()) };
    match asked.iter().position(|pattern| !ceiling.iter().any(|wide| wide.covers(pattern))) {
        None => Ok(asked.to_vec()),
        Some(at) => {
            let field = format!("allowed_paths[{at}]");
            Err(outside(
                &field,
                "reaches further than one of the patterns that the trust configuration gives",
            ))
        }
    }
}

fn outside(field: &str, reason: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("{field}: {reason}"))
}
