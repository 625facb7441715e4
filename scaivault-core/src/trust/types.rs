use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

use super::{
    aws::AwsAccounts,
    bound::{BoundClaim, ClaimPath, Pattern, Wanted},
    keys,
};
use crate::{
    Caller, DurationText, Error, FieldErrors, Name, Result, Scope, TenantId, limits, policy::PathPattern,
};

/// What a workload shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustKind {
    /// A token of any OpenID Connect issuer.
    Oidc,
    /// A service account's token of a Kubernetes cluster.
    Kubernetes,
    /// A token of a job of GitHub Actions.
    Github,
    /// An identity token of a Google service account.
    Gcp,
    /// A signed request that AWS answers with who signed it.
    Aws,
}

impl TrustKind {
    const ALL: [Self; 5] = [Self::Oidc, Self::Kubernetes, Self::Github, Self::Gcp, Self::Aws];

    /// The stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::Kubernetes => "kubernetes",
            Self::Github => "github",
            Self::Gcp => "gcp",
            Self::Aws => "aws",
        }
    }

    /// Who issues tokens of this kind, where that is one and the same for everybody.
    fn issuer(self) -> Option<&'static str> {
        match self {
            Self::Github => Some("https://token.actions.githubusercontent.com"),
            Self::Gcp => Some("https://accounts.google.com"),
            Self::Oidc | Self::Kubernetes | Self::Aws => None,
        }
    }
}

/// A trust configuration as it is written; see the API contract for its fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields of the API")]
pub struct TrustWrite {
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub issuer: Option<String>,
    #[serde(default)]
    pub jwks_url: Option<String>,
    #[serde(default)]
    pub jwks: Option<Value>,
    #[serde(default)]
    pub audiences: Option<Vec<String>>,
    #[serde(default)]
    pub bound_subject: Option<String>,
    #[serde(default)]
    pub bound_claims: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    pub accounts: Option<Vec<String>>,
    #[serde(default)]
    pub arns: Option<Vec<String>>,
    #[serde(default)]
    pub partitions: Option<Vec<String>>,
    pub service_account: String,
    pub scopes: Vec<String>,
    pub allowed_paths: Vec<String>,
    #[serde(default)]
    pub max_ttl: Option<String>,
    #[serde(default)]
    pub single_use: Option<bool>,
}

/// A trust configuration that means something.
#[derive(Clone, Debug)]
pub struct TrustDocument {
    pub(super) name: Name,
    pub(super) description: String,
    pub(super) kind: TrustKind,
    pub(super) proof: Proof,
    pub(super) service_account: String,
    pub(super) scopes: Vec<Scope>,
    pub(super) allowed_paths: Vec<PathPattern>,
    pub(super) max_ttl: DurationText,
    pub(super) single_use: bool,
}

/// What has to be shown.
#[derive(Clone, Debug)]
pub(super) enum Proof {
    Token(TokenProof),
    Aws(AwsAccounts),
}

#[derive(Clone, Debug)]
pub(super) struct TokenProof {
    pub(super) issuer: String,
    pub(super) jwks_url: Option<String>,
    /// A key set, for an issuer that cannot be reached.
    pub(super) jwks: Option<Value>,
    pub(super) audiences: Vec<String>,
    pub(super) subject: Option<Pattern>,
    pub(super) claims: Vec<BoundClaim>,
}

impl TrustDocument {
    /// Reads one.
    ///
    /// # Errors
    /// [`Code::ValidationError`](crate::Code::ValidationError) with every field that is wrong.
    pub fn parse(write: TrustWrite) -> Result<Self> {
        let mut wrong = FieldErrors::default();
        let name = Name::parse(&write.name).map_err(|_| {
            wrong.push("name", "must be 1 to 128 letters, digits, single spaces and . _ -, and not reserved");
        });
        let description = write.description.clone().unwrap_or_default();
        if description.chars().count() > limits::DESCRIPTION_CHARS {
            wrong.push("description", format!("must have at most {} characters", limits::DESCRIPTION_CHARS));
        }
        let kind = TrustKind::ALL.into_iter().find(|kind| kind.as_str() == write.kind);
        if kind.is_none() {
            wrong.push("type", "must be oidc, kubernetes, github, gcp or aws");
        }
        let is_account = write.service_account.strip_prefix("sa:").is_some_and(|name| !name.is_empty())
            && TenantId::parse("x").and_then(|x| Caller::service_account(&*write.service_account, x)).is_ok();
        if !is_account {
            wrong.push(
                "service_account",
                "must be one service account, such as sa:billing, without wildcards",
            );
        }
        let scopes = scopes(&write.scopes, &mut wrong);
        let allowed_paths = patterns(&write.allowed_paths, &mut wrong);
        let max_ttl = max_ttl(write.max_ttl.as_deref(), &mut wrong);
        let proof = kind.map(|kind| match kind {
            TrustKind::Aws => Proof::Aws(aws(&write, &mut wrong)),
            kind => Proof::Token(token(kind, &write, &mut wrong)),
        });
        wrong.finish()?;
        match (name, kind, proof) {
            (Ok(name), Some(kind), Some(proof)) => Ok(Self {
                name,
                description,
                kind,
                proof,
                service_account: write.service_account,
                scopes,
                allowed_paths,
                max_ttl,
                single_use: write.single_use.unwrap_or(matches!(kind, TrustKind::Github | TrustKind::Aws)),
            }),
            _ => Err(Error::internal("a trust configuration without a name or a kind")),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it is found by: the `iss` of tokens, or what stands in its place.
    pub(super) fn issuer(&self) -> &str {
        match &self.proof {
            Proof::Token(proof) => &proof.issuer,
            Proof::Aws(_) => AwsAccounts::ISSUER,
        }
    }

    pub(super) fn lifetime(&self) -> Duration {
        self.max_ttl.get().min(limits::EXCHANGED_LIFE)
    }
}

fn scopes(texts: &[String], wrong: &mut FieldErrors) -> Vec<Scope> {
    let mut all = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        match Scope::parse(text) {
            Some(scope) if !all.contains(&scope) => all.push(scope),
            Some(_) => wrong.push(format!("scopes[{at}]"), "is there already"),
            None => wrong.push(format!("scopes[{at}]"), "is not a scope"),
        }
    }
    if texts.is_empty() {
        wrong.push("scopes", "must name at least one");
    }
    all
}

fn patterns(texts: &[String], wrong: &mut FieldErrors) -> Vec<PathPattern> {
    if !(1..=limits::ALLOWED_PATHS).contains(&texts.len()) {
        wrong.push(
            "allowed_paths",
            format!("must have 1 to {} patterns; ** is every path", limits::ALLOWED_PATHS),
        );
    }
    let mut all = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        match PathPattern::parse(text) {
            Ok(pattern) => all.push(pattern),
            Err(error) => wrong.push(format!("allowed_paths[{at}]"), error.message()),
        }
    }
    all
}

fn max_ttl(text: Option<&str>, wrong: &mut FieldErrors) -> DurationText {
    let most = DurationText::from_duration(limits::EXCHANGED_LIFE);
    let Some(text) = text else { return most };
    match text.parse::<DurationText>() {
        Ok(ttl) if (limits::EXCHANGED_LIFE_MIN..=limits::EXCHANGED_LIFE).contains(&ttl.get()) => ttl,
        _ => {
            wrong.push("max_ttl", "must be a duration from 1m to 1h");
            most
        }
    }
}

/// Objects to a field that means nothing for this kind.
fn foreign<T>(kind: TrustKind, field: &str, value: Option<&T>, wrong: &mut FieldErrors) {
    if value.is_some() {
        wrong.push(field, format!("is nothing that {} has", kind.as_str()));
    }
}

fn token(kind: TrustKind, write: &TrustWrite, wrong: &mut FieldErrors) -> TokenProof {
    foreign(kind, "accounts", write.accounts.as_ref(), wrong);
    foreign(kind, "arns", write.arns.as_ref(), wrong);
    foreign(kind, "partitions", write.partitions.as_ref(), wrong);
    let issuer = issuer(kind, write, wrong);
    if let Some(url) = &write.jwks_url
        && let Err(reason) = keys::check_url(url)
    {
        wrong.push("jwks_url", reason);
    }
    match (&write.jwks, &write.jwks_url) {
        (Some(_), Some(_)) => wrong.push("jwks", "must not stand beside jwks_url"),
        (Some(set), None) => {
            if let Err(reason) = keys::check_set(set) {
                wrong.push("jwks", reason);
            }
        }
        (None, _) => {}
    }
    if kind.issuer().is_some() {
        foreign(kind, "jwks_url", write.jwks_url.as_ref(), wrong);
        foreign(kind, "jwks", write.jwks.as_ref(), wrong);
    }
    let audiences = write.audiences.clone().unwrap_or_default();
    let good = |text: &String| {
        (1..=limits::BOUND_VALUE).contains(&text.len()) && !text.chars().any(char::is_control)
    };
    if !(1..=limits::BOUND_VALUES).contains(&audiences.len()) || !audiences.iter().all(good) {
        let reason =
            format!("must be 1 to {} texts of at most {} bytes", limits::BOUND_VALUES, limits::BOUND_VALUE);
        wrong.push("audiences", reason);
    }
    let subject = write
        .bound_subject
        .as_deref()
        .and_then(|text| Pattern::parse(text).map_err(|reason| wrong.push("bound_subject", reason)).ok());
    let claims = claims(write, wrong);
    let proof = TokenProof {
        issuer,
        jwks_url: write.jwks_url.clone(),
        jwks: write.jwks.clone(),
        audiences,
        subject,
        claims,
    };
    binds_enough(kind, write, &proof, wrong);
    proof
}

fn issuer(kind: TrustKind, write: &TrustWrite, wrong: &mut FieldErrors) -> String {
    match (kind.issuer(), &write.issuer) {
        (Some(fixed), None) => fixed.to_owned(),
        (Some(fixed), Some(given)) => {
            if given != fixed {
                wrong.push("issuer", format!("is {fixed} for {}", kind.as_str()));
            }
            fixed.to_owned()
        }
        (None, Some(given)) => {
            if let Err(reason) = keys::check_url(given) {
                wrong.push("issuer", reason);
            }
            given.clone()
        }
        (None, None) => {
            wrong.push("issuer", "is required");
            String::new()
        }
    }
}

fn claims(write: &TrustWrite, wrong: &mut FieldErrors) -> Vec<BoundClaim> {
    let bound = write.bound_claims.iter().flatten();
    if bound.clone().count() > limits::BOUND_CLAIMS {
        wrong.push("bound_claims", format!("must have at most {} claims", limits::BOUND_CLAIMS));
    }
    let mut all = Vec::new();
    for (name, values) in bound {
        let mut flaw =
            |reason: String| wrong.push("bound_claims", format!("{}: {reason}", crate::audit::shown(name)));
        let values = match values {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        if !(1..=limits::BOUND_VALUES).contains(&values.len()) {
            flaw(format!("must have 1 to {} values", limits::BOUND_VALUES));
        }
        let read: Result<Vec<_>, _> = values.iter().map(Wanted::parse).collect();
        match (ClaimPath::parse(name), read) {
            (Ok(path), Ok(any_of)) => all.push(BoundClaim { path, any_of }),
            (Err(reason), _) | (_, Err(reason)) => flaw(reason),
        }
    }
    all
}

/// Refuses what would let in more than was meant: everybody with a token of that issuer, of which GitHub and Google are
/// for the whole world.
fn binds_enough(kind: TrustKind, write: &TrustWrite, proof: &TokenProof, wrong: &mut FieldErrors) {
    if write.bound_subject.is_none() && proof.claims.is_empty() {
        wrong.push(
            "bound_claims",
            "bind something, by bound_subject or bound_claims: else everybody with a token is let in",
        );
        return;
    }
    let subject = |good: &dyn Fn(&Pattern) -> bool| proof.subject.as_ref().is_some_and(good);
    let claim = |names: &[&str], good: &dyn Fn(&Wanted) -> bool| {
        let named = |bound: &&BoundClaim| {
            let path = bound.path.as_str();
            names.iter().any(|name| path == *name || path.strip_prefix('/') == Some(*name))
        };
        proof.claims.iter().filter(named).any(|bound| bound.any_of.iter().all(good))
    };
    let exact = |wanted: &Wanted| match wanted {
        Wanted::Text(pattern) => !pattern.has_wildcards(),
        Wanted::Number(_) => true,
        Wanted::Bool(_) => false,
    };
    let owned = |wanted: &Wanted| matches!(wanted, Wanted::Text(pattern) if pattern.names("", '/'));
    let (enough, reason) = match kind {
        TrustKind::Github => (
            subject(&|pattern| pattern.names("repo:", '/'))
                || claim(&["repository"], &owned)
                || claim(&["repository_id"], &exact),
            "must bind repository (OWNER/…), repository_id, or the subject (repo:OWNER/…), the owner without wildcards",
        ),
        TrustKind::Gcp => (
            subject(&|pattern| !pattern.has_wildcards())
                || claim(
                    &["email", "google/compute_engine/project_id", "google/compute_engine/project_number"],
                    &exact,
                ),
            "must bind email, the subject, or the project of the instance, without wildcards",
        ),
        TrustKind::Kubernetes => (
            subject(&|pattern| pattern.names("system:serviceaccount:", ':'))
                || claim(&["kubernetes.io/namespace"], &exact),
            "must bind the namespace: by /kubernetes.io/namespace, or by a subject system:serviceaccount:NAMESPACE:…",
        ),
        TrustKind::Oidc | TrustKind::Aws => (true, ""),
    };
    if !enough {
        wrong.push("bound_claims", reason);
    }
}

fn aws(write: &TrustWrite, wrong: &mut FieldErrors) -> AwsAccounts {
    let kind = TrustKind::Aws;
    foreign(kind, "issuer", write.issuer.as_ref(), wrong);
    foreign(kind, "jwks_url", write.jwks_url.as_ref(), wrong);
    foreign(kind, "jwks", write.jwks.as_ref(), wrong);
    foreign(kind, "audiences", write.audiences.as_ref(), wrong);
    foreign(kind, "bound_subject", write.bound_subject.as_ref(), wrong);
    foreign(kind, "bound_claims", write.bound_claims.as_ref(), wrong);
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    AwsAccounts::parse(list(&write.accounts), list(&write.arns), write.partitions.clone(), wrong)
}

impl Serialize for TrustDocument {
    /// As it is written: what is stored, and read again by [`TrustDocument::parse`].
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("name", self.name.as_str())?;
        map.serialize_entry("description", &self.description)?;
        map.serialize_entry("type", self.kind.as_str())?;
        match &self.proof {
            Proof::Token(TokenProof { issuer, jwks_url, jwks, audiences, subject, claims }) => {
                map.serialize_entry("issuer", issuer)?;
                if self.kind.issuer().is_none() {
                    map.serialize_entry("jwks_url", jwks_url)?;
                    map.serialize_entry("jwks", jwks)?;
                }
                map.serialize_entry("audiences", audiences)?;
                map.serialize_entry("bound_subject", subject)?;
                let claims: BTreeMap<_, _> =
                    claims.iter().map(|bound| (bound.path.as_str(), &bound.any_of)).collect();
                map.serialize_entry("bound_claims", &claims)?;
            }
            Proof::Aws(AwsAccounts { accounts, arns, partitions }) => {
                map.serialize_entry("accounts", accounts)?;
                map.serialize_entry("arns", arns)?;
                map.serialize_entry("partitions", partitions)?;
            }
        }
        map.serialize_entry("service_account", &self.service_account)?;
        map.serialize_entry("scopes", &self.scopes)?;
        map.serialize_entry("allowed_paths", &self.allowed_paths)?;
        map.serialize_entry("max_ttl", &self.max_ttl)?;
        map.serialize_entry("single_use", &self.single_use)?;
        map.end()
    }
}
