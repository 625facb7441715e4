use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use scaivault_kms::{Cause, Context, Description, KeyProvider, KmsError, SecretKey, WrappedKey};

use super::wraps::{RootId, Wraps};
use crate::{Code, Error, Result, limits};

/// A root key that the vault is configured with, and whether it works.
#[derive(Debug)]
pub(crate) struct Root {
    name: String,
    provider: Arc<dyn KeyProvider>,
    failing: Mutex<Option<Failing>>,
    /// Whether it was asked once, so that it knows its key by the name that stands in wraps.
    asked: AtomicBool,
}

/// Since its last call did not go well.
#[derive(Clone, Debug)]
struct Failing {
    pause: Duration,
    next_probe: Instant,
}

/// Every root key that the vault is configured with, in order of preference. There is at least one.
#[derive(Debug)]
pub(crate) struct Roots {
    all: Vec<Root>,
    calls: AtomicU64,
    /// What the last check found, and when: shared by whoever asks soon after.
    checked: tokio::sync::Mutex<Option<(Instant, Vec<RootHealth>)>>,
}

/// Whether a configured root key can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootHealth {
    /// What the operator calls it.
    pub name: String,
    /// Why it cannot be used, in one word (`unavailable`, `denied`, …); `None` if it can.
    pub failure: Option<&'static str>,
}

/// Why no root key did what was wanted: each that was asked, and its reason.
#[derive(Debug)]
pub(crate) struct Closed(pub(super) Vec<(String, KmsError)>);

impl Root {
    fn new(name: String, provider: Arc<dyn KeyProvider>) -> Self {
        Self { name, provider, failing: Mutex::default(), asked: AtomicBool::new(false) }
    }

    /// What the operator calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn describe(&self) -> Description {
        self.provider.describe()
    }

    pub(super) fn id(&self) -> RootId {
        let description = self.describe();
        RootId::new(description.provider, description.key_id)
    }

    /// Whether the wrap bears its name, and not that of another replica or of a key before it.
    fn made(&self, wrap: &WrappedKey) -> bool {
        self.id() == RootId::of(wrap)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing().is_some()
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down how a call went.
    fn note<T>(&self, result: &Result<T, KmsError>) {
        let mut failing = self.failing();
        let error = match result {
            Ok(_) => {
                if failing.take().is_some() {
                    tracing::info!(root = self.name, "the root key works again");
                }
                return;
            }
            // These speak of what it was asked, not of itself.
            Err(KmsError::Invalid { .. } | KmsError::Unsupported { .. }) => return,
            Err(error) => error,
        };
        let pause = match &*failing {
            None => {
                tracing::warn!(root = self.name, %error, "the root key does not work; others are preferred");
                limits::ROOT_PROBE
            }
            Some(before) => (before.pause * 2).min(limits::ROOT_PROBE_MAX),
        };
        *failing = Some(Failing { pause, next_probe: Instant::now() + pause });
    }
}

impl Roots {
    /// The first is named after the kind of its provider unless it has a name, the others as the operator calls them.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if there are more than [`limits::ROOTS`], or if a name or a root key is there twice,
    /// or a name is not 1 to 32 of `a-z`, `0-9` and `-`.
    pub(crate) fn new(
        name: Option<String>,
        first: Arc<dyn KeyProvider>,
        further: Vec<(String, Arc<dyn KeyProvider>)>,
    ) -> Result<Self> {
        let refused = |what: String| Err(Error::new(Code::InvalidRequest, what));
        if further.len() >= limits::ROOTS {
            let count = further.len() + 1;
            return refused(format!("there are {count} root keys; at most {} may be", limits::ROOTS));
        }
        let unfit = |name: &str| {
            refused(format!("the name {name:?} of a root key is not 1 to 32 of a-z, 0-9 and hyphens"))
        };
        let kind = first.describe().provider;
        let name = name.unwrap_or_else(|| if is_name(kind) { kind } else { PRIMARY }.to_owned());
        if !is_name(&name) {
            return unfit(&name);
        }
        let mut all = vec![Root::new(name, first)];
        for (name, provider) in further {
            if !is_name(&name) {
                return unfit(&name);
            }
            if all.iter().any(|root| root.name == name) {
                return refused(format!("two root keys have the name {name}"));
            }
            let root = Root::new(name, provider);
            if let Some(same) = all.iter().find(|known| known.id() == root.id()) {
                let (a, b) = (&same.name, &root.name);
                return refused(format!("the root keys {a} and {b} are the same: {}", root.id()));
            }
            all.push(root);
        }
        Ok(Self { all, calls: AtomicU64::new(0), checked: tokio::sync::Mutex::default() })
    }

    /// The one that is preferred.
    pub(crate) fn first(&self) -> &Root {
        // One is there from the beginning, and none is ever taken out.
        &self.all[0]
    }

    /// The provider of the root key that the operator calls so.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<dyn KeyProvider>> {
        self.named(name).map(|root| &root.provider)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Root> {
        self.iter().find(|root| root.name == name)
    }

    pub(super) fn by_id(&self, id: &RootId) -> Option<&Root> {
        self.iter().find(|root| root.id() == *id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Root> {
        self.all.iter()
    }

    /// How often a provider was called.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Those that make and open a wrap under `id`: the root key itself, or else whatever is of its kind, which may
    /// hold former keys as well, or another replica of the same key.
    pub(super) fn holders(&self, id: &RootId) -> Vec<&Root> {
        match self.by_id(id) {
            Some(root) => vec![root],
            None => self.iter().filter(|root| root.describe().provider == id.provider).collect(),
        }
    }

    /// Calls a root key, and remembers how that went.
    async fn call<T>(
        &self,
        root: &Root,
        patience: Option<Duration>,
        call: impl Future<Output = Result<T, KmsError>>,
    ) -> Result<T, KmsError> {
        let result = self.answered(root, patience, call).await;
        root.note(&result);
        result
    }

    async fn answered<T>(
        &self,
        root: &Root,
        patience: Option<Duration>,
        call: impl Future<Output = Result<T, KmsError>>,
    ) -> Result<T, KmsError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match patience {
            None => call.await,
            Some(patience) => tokio::time::timeout(patience, call).await.unwrap_or_else(|_| {
                let message = format!("no answer in {} s", patience.as_secs());
                let provider = root.describe().provider;
                Err(KmsError::unavailable(provider, Cause::Deadline, message, None, None))
            }),
        }
    }

    /// Wraps under one root key.
    pub(super) async fn wrap(
        &self,
        root: &Root,
        key: &SecretKey,
        context: &Context,
    ) -> Result<WrappedKey, KmsError> {
        self.call(root, None, root.provider.wrap(key, context)).await
    }

    /// Opens by one root key.
    pub(super) async fn unwrap(
        &self,
        root: &Root,
        wrap: &WrappedKey,
        context: &Context,
    ) -> Result<SecretKey, KmsError> {
        self.unwrap_within(None, root, wrap, context).await
    }

    async fn unwrap_within(
        &self,
        patience: Option<Duration>,
        root: &Root,
        wrap: &WrappedKey,
        context: &Context,
    ) -> Result<SecretKey, KmsError> {
        let result = self.answered(root, patience, root.provider.unwrap(wrap, context)).await;
        // That it does not know the wrap of another root key says nothing about it.
        if root.made(wrap) || !matches!(result, Err(KmsError::NotFound { .. })) {
            root.note(&result);
        }
        result
    }

    /// Wraps anew under the version of today what one root key has wrapped.
    pub(super) async fn rewrap(
        &self,
        root: &Root,
        wrap: &WrappedKey,
        context: &Context,
    ) -> Result<WrappedKey, KmsError> {
        self.call(root, None, root.provider.rewrap(wrap, context)).await
    }

    /// Opens by whichever root key works, in order of preference; those that failed last come after the others.
    pub(super) async fn open(&self, wraps: &Wraps, context: &Context) -> Result<SecretKey, Closed> {
        let mut ways: Vec<(&Root, &WrappedKey)> = Vec::new();
        let mut failed = Vec::new();
        for wrap in wraps.iter() {
            let id = RootId::of(wrap);
            let holders = self.holders(&id);
            if holders.is_empty() && id.provider != super::recovery::PROVIDER {
                let message = format!("the root key {id} is not configured");
                failed.push((id.to_string(), KmsError::NotFound { provider: "vault", message }));
            }
            ways.extend(holders.into_iter().map(|root| (root, wrap)));
        }
        let place = |root: &Root| self.iter().position(|known| known.name == root.name);
        ways.sort_by_key(|(root, wrap)| (root.is_failing(), !root.made(wrap), place(root)));
        let last = ways.len().saturating_sub(1);
        for (n, (root, wrap)) in ways.into_iter().enumerate() {
            // Whoever has nobody behind him is given the time that he takes.
            let patience = (n < last).then_some(limits::ROOT_PATIENCE);
            match self.unwrap_within(patience, root, wrap, context).await {
                Ok(key) => return Ok(key),
                Err(error) => {
                    if matches!(error, KmsError::Invalid { .. }) {
                        tracing::error!(
                            root = root.name,
                            %error,
                            "a wrap does not open under its root key; `keys verify` names it"
                        );
                    }
                    failed.push((root.name.clone(), error));
                }
            }
        }
        Err(Closed(failed))
    }

    /// Wraps under each of these that works. Those that failed last are asked only if none of the others answers.
    pub(super) async fn wrap_under(
        &self,
        roots: &[&Root],
        key: &SecretKey,
        context: &Context,
    ) -> Result<Wraps, Closed> {
        let mut failed = Vec::new();
        let (last, first): (Vec<&Root>, Vec<&Root>) =
            roots.iter().copied().partition(|root| root.is_failing());
        for asked in [first, last] {
            let patience = (roots.len() > 1).then_some(limits::ROOT_PATIENCE);
            let calls = asked.iter().map(|root| self.call(root, patience, root.provider.wrap(key, context)));
            let mut wraps = Vec::new();
            for (root, result) in asked.iter().zip(join_all(calls).await) {
                match result {
                    Ok(wrap) => wraps.push(wrap),
                    Err(error) => failed.push((root.name.clone(), error)),
                }
            }
            if !wraps.is_empty() {
                return Ok(Wraps::new(wraps));
            }
        }
        Err(Closed(failed))
    }

    /// Asks a root key once, so that it knows how its key is named in wraps and which version it has.
    /// Whether it works, as far as is known.
    pub(super) async fn identify(&self, root: &Root) -> bool {
        if root.is_failing() {
            return false;
        }
        if root.asked.load(Ordering::Acquire) {
            return true;
        }
        let answered = self.call(root, Some(limits::ROOT_PATIENCE), root.provider.health()).await.is_ok();
        if answered {
            root.asked.store(true, Ordering::Release);
        }
        answered
    }

    /// Asks one root key whether it can be used now.
    pub(super) async fn health(&self, root: &Root) -> Result<(), KmsError> {
        self.call(root, None, root.provider.health()).await.map(drop)
    }

    /// Makes the root key itself, where there is none: see [`KeyProvider::create_root`].
    pub(super) async fn create(&self, root: &Root) -> Result<Description, KmsError> {
        self.call(root, None, root.provider.create_root()).await
    }

    /// Makes a version of the root key by the service's own means: see [`KeyProvider::rotate`].
    pub(super) async fn rotate(&self, root: &Root) -> Result<Description, KmsError> {
        self.call(root, None, root.provider.rotate()).await
    }

    /// Asks those that failed last whether they work again, each when its time has come.
    pub(crate) async fn probe(&self) {
        let now = Instant::now();
        let due = self.iter().filter(|root| root.failing().as_ref().is_some_and(|f| f.next_probe <= now));
        join_all(due.map(|root| self.call(root, Some(limits::ROOT_PATIENCE), root.provider.health()))).await;
    }

    /// Asks all of them, unless that was done within [`limits::ROOT_CHECK_SHARED`].
    pub(crate) async fn check(&self) -> Vec<RootHealth> {
        let mut checked = self.checked.lock().await;
        if let Some((at, found)) = &*checked
            && at.elapsed() < limits::ROOT_CHECK_SHARED
        {
            return found.clone();
        }
        let calls = self
            .iter()
            .map(|root| async { self.call(root, Some(limits::ROOT_PATIENCE), root.provider.health()).await });
        let found: Vec<RootHealth> = self
            .iter()
            .zip(join_all(calls).await)
            .map(|(root, result)| RootHealth {
                name: root.name.clone(),
                failure: result.err().map(|error| reason(&error)),
            })
            .collect();
        *checked = Some((Instant::now(), found.clone()));
        found
    }
}

/// Whether what was asked of a root key would have failed for any key.
pub(super) fn is_out(error: &KmsError) -> bool {
    error.is_transient()
        || matches!(
            error,
            KmsError::Denied { .. } | KmsError::Unauthenticated { .. } | KmsError::Disabled { .. }
        )
}

fn reason(error: &KmsError) -> &'static str {
    match error {
        KmsError::Denied { .. } => "denied",
        KmsError::Unauthenticated { .. } => "unauthenticated",
        KmsError::NotFound { .. } => "not_found",
        KmsError::Disabled { .. } => "disabled",
        KmsError::Unavailable { .. } => "unavailable",
        KmsError::Device { .. } => "device",
        KmsError::Unsupported { .. } => "unsupported",
        _ => "invalid",
    }
}

impl Closed {
    pub(super) fn one(root: &str, error: KmsError) -> Self {
        Self(vec![(root.to_owned(), error)])
    }

    /// Whether one of them may do it later without anybody changing anything.
    pub(super) fn is_outage(&self) -> bool {
        self.0
            .iter()
            .any(|(_, error)| matches!(error, KmsError::Unavailable { .. } | KmsError::Device { .. }))
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there is no root key to ask");
        }
        for (n, (root, error)) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}root key {root}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Closed {}

impl From<Closed> for Error {
    fn from(closed: Closed) -> Self {
        let wait = closed.0.iter().filter_map(|(_, error)| error.retry_after()).min();
        let needs_help = |error: &KmsError| {
            matches!(
                error,
                KmsError::Denied { .. }
                    | KmsError::Disabled { .. }
                    | KmsError::NotFound { .. }
                    | KmsError::Unauthenticated { .. }
            )
        };
        if closed.is_outage() {
            let wait = wait.unwrap_or(Duration::from_secs(1));
            return Self::unavailable("The key service is not available.", wait, closed);
        }
        if closed.0.is_empty() || closed.0.iter().any(|(_, error)| needs_help(error)) {
            let message = "The root key cannot be used; an operator has to look.";
            return Self::unavailable(message, Duration::from_secs(60), closed);
        }
        Self::internal(closed)
    }
}

/// The first root key's name if the kind of its provider is none.
const PRIMARY: &str = "primary";

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use scaivault_kms::local::{KeyFile, LocalProvider};

    use super::*;

    fn provider() -> Arc<dyn KeyProvider> {
        Arc::new(LocalProvider::new(KeyFile::generate().unwrap()))
    }

    fn refusal(further: Vec<(&str, Arc<dyn KeyProvider>)>) -> String {
        let further = further.into_iter().map(|(name, provider)| (name.to_owned(), provider)).collect();
        Roots::new(None, provider(), further).unwrap_err().to_string()
    }

    #[test]
    fn names_are_found_and_doubles_refused_by_name() {
        let second = provider();
        let roots = Roots::new(None, provider(), vec![("backup-2".to_owned(), second.clone())]).unwrap();
        assert_eq!(roots.iter().map(Root::name).collect::<Vec<_>>(), ["local", "backup-2"]);
        assert_eq!(roots.by_name("backup-2").unwrap().describe(), second.describe());
        assert_eq!(roots.by_name("local").unwrap().describe(), roots.first().describe());
        assert!(roots.by_name("aws").is_none());

        assert!(refusal(vec![("local", provider())]).contains("two root keys have the name local"));
        let twice = refusal(vec![("a", second.clone()), ("b", second)]);
        assert!(twice.contains("a and b are the same"), "{twice}");
        for name in ["", "Backup", "a b", "a/b", &"a".repeat(33)] {
            assert!(refusal(vec![(name, provider())]).contains(&format!("{name:?}")), "{name}");
        }
        let named = Roots::new(Some("main".to_owned()), provider(), vec![]).unwrap();
        assert_eq!(named.first().name(), "main");
        assert!(Roots::new(Some("Main".to_owned()), provider(), vec![]).is_err());
        let nine: Vec<String> = (0..8).map(|n| format!("r{n}")).collect();
        let nine = nine.iter().map(|name| (name.as_str(), provider())).collect();
        assert!(refusal(nine).contains("there are 9 root keys"));
    }
}
