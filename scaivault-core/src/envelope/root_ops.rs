//! Adding and removing root keys while everything goes on.
//!
//! Each key is wrapped anew by an act of its own, which puts the new wraps where those that were read still are. What
//! was done is known from the rows themselves, so that any of this may be stopped anywhere and called again, and two
//! that do the same at once do not get in each other's way.

use std::{
    collections::{BTreeSet, HashMap},
    sync::atomic::Ordering,
};

use scaivault_kms::{KmsError, SecretKey, WrappedKey};

use super::{
    Keyring, Keys,
    ops::operator,
    recovery::{PROVIDER, RecoveryKey, RecoveryPublic},
    rewrap::{self, Watch, act},
    rooted::{self, REMOVED, RootRow, Rooted, RootedTable, sql},
    roots::{self, Closed, Root},
    types::{Progress, RootAdded, RootKeyStatus, RootMade, RootRemoved, RootStatus},
    wraps::{RootId, Wraps},
};
use crate::{
    Code, Ctx, Error, Result, Scope, TenantId, Vault,
    audit::Action,
    pipeline::{Act, Permit, Write},
    storage::{QueryBuilder, Ts, query},
    vault::Inner,
};

/// How often a key is read again that somebody else wrapped anew meanwhile.
const TRIES: u32 = 5;
/// The tenant in whose trail the background work on root keys is recorded: they belong to no tenant.
pub(crate) const OPERATOR: &str = "tnt_operator";

/// What keys are to be wrapped under.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'t> {
    Root(&'t Root),
    /// The same, and what it has wrapped already is opened and compared: the key behind its name may be another one.
    Doubted(&'t Root),
    /// With the private key, if it is at hand to prove what was wrapped.
    Recovery(&'t RecoveryPublic, Option<&'t RecoveryKey>),
}

/// What opens the keys that are to be wrapped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Opener<'o> {
    Roots,
    Recovery(&'o RecoveryKey),
}

/// What was opened by the root keys that stay.
#[derive(Debug)]
pub(super) struct Seen<'s> {
    staying: &'s [RootId],
    /// The wraps of each key, by its name.
    opened: HashMap<String, Vec<u8>>,
}

/// What wrapping all keys under some root keys came to.
#[derive(Debug, Default)]
pub(super) struct Completed {
    pub(super) wrapped: u64,
    pub(super) current: u64,
    /// Wraps that could not be made.
    pub(super) missing: u64,
    /// The first thing that went wrong.
    pub(super) failed: Option<Error>,
}

impl Target<'_> {
    fn id(&self) -> RootId {
        match self {
            Self::Root(root) | Self::Doubted(root) => root.id(),
            Self::Recovery(public, _) => public.id(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Root(root) | Self::Doubted(root) => root.name().to_owned(),
            Self::Recovery(..) => "recovery".to_owned(),
        }
    }
}

impl Keyring {
    /// A wrap of the key under one root key, proven to open where that can be proven.
    async fn proven(
        &self,
        target: Target<'_>,
        key: &Rooted,
        open: &SecretKey,
    ) -> Result<WrappedKey, KmsError> {
        let failed = |provider, message: &str, source: Option<Error>| KmsError::Device {
            provider,
            message: message.to_owned(),
            source: source.map(Into::into),
        };
        let (provider, wrap, opened) = match target {
            Target::Root(root) | Target::Doubted(root) => {
                let wrap = self.roots().wrap(root, open, &key.context).await?;
                let opened = self.roots().unwrap(root, &wrap, &key.context).await?;
                (root.describe().provider, wrap, opened)
            }
            Target::Recovery(public, private) => {
                let wrap = public
                    .wrap(open, &key.context, self.random())
                    .map_err(|error| failed(PROVIDER, "it does not wrap", Some(error)))?;
                let Some(private) = private else { return Ok(wrap) };
                let opened = private.unwrap(&wrap, &key.context)?;
                (PROVIDER, wrap, opened)
            }
        };
        match opened.ct_eq(open) {
            true => Ok(wrap),
            false => Err(failed(provider, "it does not open what it wrapped", None)),
        }
    }

    /// Whether a key is under this target, as far as that has to be shown.
    ///
    /// # Errors
    /// What kept the root key from opening its wrap, if that says nothing about the wrap.
    async fn is_under(
        &self,
        target: Target<'_>,
        wraps: &Wraps,
        key: &Rooted,
        open: &SecretKey,
    ) -> Result<bool, KmsError> {
        let (Some(wrap), Target::Doubted(root)) = (wraps.under(&target.id()), target) else {
            return Ok(wraps.under(&target.id()).is_some());
        };
        match self.roots().unwrap(root, wrap, &key.context).await {
            Ok(opened) => Ok(opened.ct_eq(open)),
            Err(KmsError::NotFound { .. } | KmsError::Invalid { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens a key by what is not doubted, or else by whatever does.
    async fn opened_beside(
        &self,
        opener: Opener<'_>,
        targets: &[Target<'_>],
        key: &Rooted,
    ) -> Result<SecretKey> {
        let doubted: Vec<RootId> =
            targets.iter().filter(|target| matches!(target, Target::Doubted(_))).map(Target::id).collect();
        if let Opener::Roots = opener
            && !doubted.is_empty()
        {
            let others = key.wraps()?.only(|root| !doubted.contains(root));
            if let Ok(open) = self.roots().open(&others, &key.context).await {
                return Ok(open);
            }
        }
        self.opened(opener, key).await
    }

    async fn opened(&self, opener: Opener<'_>, key: &Rooted) -> Result<SecretKey> {
        Ok(match opener {
            Opener::Roots => self.roots().open(&key.wraps()?, &key.context).await?,
            Opener::Recovery(private) => {
                private.open(&key.wraps()?, &key.context).map_err(|error| Closed::one("recovery", error))?
            }
        })
    }
}

/// Puts other wraps in the place of what a key has, unless somebody else did so meanwhile.
pub(super) async fn replace<'a>(
    vault: &'a Inner,
    ctx: &'a Ctx,
    key: &Rooted,
    anew: &Wraps,
    step: &'static str,
) -> Result<bool> {
    if anew.is_empty() {
        return Err(Error::internal(format!("{} {} would be under no root key", key.table.name(), key.id)));
    }
    let bytes = anew.to_bytes();
    let work = |permit: Permit<'a>| async move {
        let mut tx = permit.over_keys()?.begin().await?;
        let changed = tx.execute(key.replace(&bytes)).await? == 1;
        tx.note("step", step);
        if !key.owner.is_empty() {
            tx.note("partner_id", key.owner.clone());
        }
        tx.note("root_keys", anew.iter().map(|wrap| RootId::of(wrap).to_string()).collect::<Vec<_>>());
        tx.note("changed", changed);
        tx.commit(changed).await
    };
    vault.door.perform(ctx, act(key.table.name(), &key.id), work).await
}

/// Wraps every key under each of `targets` that it is not under yet. Of what fails, the rest is done all the same; a
/// root key that is out is not asked again.
pub(super) async fn complete<'a>(
    vault: &'a Inner,
    ctx: &'a Ctx,
    opener: Opener<'_>,
    targets: &[Target<'_>],
    watch: Watch<'_>,
) -> Result<Completed> {
    let mut done = Completed::default();
    let mut out = BTreeSet::new();
    for table in RootedTable::ALL {
        let mut after = String::new();
        let mut seen = 0;
        loop {
            let page = table.page(&vault.door.key_db(), &after).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            for key in page {
                complete_key(vault, ctx, opener, targets, key, (&mut done, &mut out)).await?;
                if targets.iter().all(|target| out.contains(&target.name())) {
                    return Ok(done);
                }
                seen += 1;
                if let Some(watch) = watch {
                    watch(Progress { table: table.name(), done: seen, total: seen });
                }
            }
        }
    }
    Ok(done)
}

async fn complete_key<'a>(
    vault: &'a Inner,
    ctx: &'a Ctx,
    opener: Opener<'_>,
    targets: &[Target<'_>],
    mut key: Rooted,
    (done, out): (&mut Completed, &mut BTreeSet<String>),
) -> Result<()> {
    let keyring = vault.door.keyring();
    for _ in 0..TRIES {
        let Ok(wraps) = key.wraps() else {
            done.fail(targets.len(), Error::internal(format!("the wrap of {} cannot be read", key.id)));
            return Ok(());
        };
        let is_to_do = |target: &&Target<'_>| {
            wraps.under(&target.id()).is_none() || matches!(target, Target::Doubted(_))
        };
        let to_do: Vec<_> = targets.iter().filter(is_to_do).collect();
        if to_do.is_empty() {
            done.current += 1;
            return Ok(());
        }
        let open = match keyring.opened_beside(opener, targets, &key).await {
            Ok(open) => open,
            Err(error) => {
                done.fail(to_do.len(), error);
                return Ok(());
            }
        };
        let (mut anew, mut made) = (wraps.clone(), 0);
        let mut failed = Vec::new();
        for target in to_do {
            if out.contains(&target.name()) {
                failed.push(None);
                continue;
            }
            let wrap = match keyring.is_under(*target, &wraps, &key, &open).await {
                Ok(true) => continue,
                Ok(false) => keyring.proven(*target, &key, &open).await,
                Err(error) => Err(error),
            };
            match wrap {
                Ok(wrap) => {
                    anew = anew.with(wrap);
                    made += 1;
                }
                Err(error) => {
                    if roots::is_out(&error) {
                        out.insert(target.name());
                    }
                    failed.push(Some(Closed::one(&target.name(), error).into()));
                }
            }
        }
        if made > 0 && !replace(vault, ctx, &key, &anew, "wrap").await? {
            match key.table.one(&vault.door.key_db(), &key.id).await? {
                Some(now) => key = now,
                // Its end has come meanwhile.
                None => return Ok(()),
            }
            continue;
        }
        done.wrapped += u64::from(made > 0);
        done.current += u64::from(made == 0 && failed.is_empty());
        done.missing += failed.len() as u64;
        done.failed = done.failed.take().or(failed.into_iter().flatten().next());
        return Ok(());
    }
    done.fail(targets.len(), lost_race());
    Ok(())
}

impl Completed {
    fn fail(&mut self, missing: usize, error: Error) {
        self.missing += missing as u64;
        self.failed.get_or_insert(error);
    }

    /// The figures, unless something went wrong.
    pub(super) fn whole(self) -> Result<Self> {
        match self.failed {
            None => Ok(self),
            Some(error) => Err(error),
        }
    }
}

fn lost_race() -> Error {
    Error::new(Code::VersionConflict, "The key is being wrapped anew by somebody else.")
}

fn changed_meanwhile(root: &RootId) -> Error {
    let message = format!("{root} was added or removed by somebody else meanwhile; `keys status` shows it.");
    Error::new(Code::VersionConflict, message)
}

/// What is wrong with a name, and which there are.
pub(super) fn unknown(which: &str, known: impl Iterator<Item = String>) -> Error {
    let known: Vec<String> = known.collect();
    Error::new(Code::NotFound, format!("There is no root key {which}; there are: {}.", known.join(", ")))
}

impl<'a> Keys<'a> {
    /// Wraps every partner key, and every key of the vault itself, under one more root key: one that the vault is
    /// configured with by this name. Each wrap is opened again before it is stored, and what it has wrapped already is
    /// opened and compared: what another key of its name has made gives way. From the beginning on, new keys are
    /// wrapped under it as well. A root key that was removed may be added again.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::NotFound`] if no root key of that name is configured;
    /// [`Code::ServiceUnavailable`] if it does not work, or if a key cannot be opened now: the others are done all the
    /// same; [`Code::VersionConflict`] if it was removed meanwhile.
    pub async fn add_root(&self, name: &str) -> Result<RootAdded> {
        self.add_root_opened_by(name, Opener::Roots).await
    }

    pub(super) async fn add_root_opened_by(&self, name: &str, opener: Opener<'_>) -> Result<RootAdded> {
        self.ask("root_key", name).await?;
        let keyring = self.vault.door.keyring();
        let root = keyring
            .roots()
            .named(name)
            .ok_or_else(|| unknown(name, keyring.roots().iter().map(|root| root.name().to_owned())))?;
        keyring.roots().health(root).await.map_err(|error| Closed::one(name, error))?;
        keyring.first_roots().await?;
        self.opens_one(opener).await?;
        self.activate(root).await?;
        let done =
            complete(self.vault, self.ctx, opener, &[Target::Doubted(root)], self.watch).await?.whole()?;
        let rows = keyring.known_roots().await?;
        if !rows.iter().any(|row| row.is_active() && row.root() == root.id()) {
            return Err(changed_meanwhile(&root.id()));
        }
        let root = RootKeyStatus::from(root.describe());
        Ok(RootAdded { root, wrapped: done.wrapped, current: done.current })
    }

    /// That there is a key which opens, or none at all: where nothing opens, a root key that wraps new keys only makes
    /// things worse.
    async fn opens_one(&self, opener: Opener<'_>) -> Result<()> {
        let mut failed = Ok(());
        for table in [RootedTable::Partner, RootedTable::Audit] {
            for key in table.page(&self.vault.door.key_db(), "").await? {
                match self.vault.door.keyring().opened(opener, &key).await {
                    Ok(_) => return Ok(()),
                    Err(error) => failed = failed.and(Err(error)),
                }
            }
        }
        failed
    }

    /// Makes a root key wrap from here on.
    pub(super) async fn activate(&self, root: &Root) -> Result<()> {
        let id = root.id();
        let work = |permit: Permit<'a>| async move {
            let row = permit.new_id("rk_")?;
            let now = permit.keyring().now();
            let mut tx = permit.over_keys()?.begin().await?;
            let rows = locked(&mut tx).await?;
            let row = match rows.iter().find(|known| known.1 == id) {
                Some((known, ..)) => known.clone(),
                None => row,
            };
            tx.execute(rooted::insert_root(&row, &id, now)).await?;
            tx.execute(query(sql::ACTIVATE_ROOT).bind(&row).bind(now)).await?;
            tx.note("step", "add");
            tx.note("root_key", id.to_string());
            tx.commit(()).await
        };
        self.vault.door.perform(self.ctx, act("root_key", root.name()), work).await
    }

    /// Takes the wraps of one root key away from every key, after each was opened by another root key that is active
    /// and configured, and compared with what this one opens, where it answers. The root key is named as it is
    /// configured, or by the kind of its provider, a colon and its name there; it need be neither reachable nor
    /// configured. So are recovery roots named (`recovery:` and the fingerprint) that another has taken the place of.
    /// Afterwards no key of the vault needs it any more; [`RootRemoved::cas`] counts the CAs that need its provider.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::NotFound`] if there is no such root key; [`Code::InvalidState`] if it is the
    /// last, or if a key does not open by another: the source says why, and nothing was changed, or, if the key came
    /// while the wraps were being taken away, the others have lost theirs and this may be called again;
    /// [`Code::VersionConflict`] if somebody else has added it meanwhile.
    pub async fn remove_root(&self, which: &str) -> Result<RootRemoved> {
        self.ask("root_key", which).await?;
        let keyring = self.vault.door.keyring();
        let rows = keyring.first_roots().await?;
        if let Some(root) = keyring.roots().named(which) {
            // Its name may be another one than that in its wraps until it was asked.
            keyring.roots().identify(root).await;
        }
        let configured = keyring.roots().named(which).map(Root::id);
        let row = rows
            .iter()
            .filter(|row| !(row.is_recovery() && row.is_active()))
            .find(|row| Some(row.root()) == configured || row.root().to_string() == which);
        let Some(row) = row else {
            return Err(unknown(which, rows.iter().map(|row| row.root().to_string())));
        };
        let gone = row.root();
        let name = keyring.roots().by_id(&gone).map(|root| root.name().to_owned());
        let cas = match &name {
            Some(name) => self.cas_in(name).await?,
            None => 0,
        };
        let staying = self.staying(&rows, &gone).await?;
        let dropped = self.take_away(&row.id, &gone, &staying).await?;
        Ok(RootRemoved { name, provider: gone.provider, key_id: gone.key_id, dropped, cas })
    }

    /// The root keys that are active and configured, without one.
    pub(super) async fn staying(&self, rows: &[RootRow], gone: &RootId) -> Result<Vec<RootId>> {
        let wrappers = self.vault.door.keyring().wrappers(rows).await;
        let staying: Vec<RootId> = wrappers.into_iter().map(Root::id).filter(|root| root != gone).collect();
        if staying.is_empty() {
            let message = format!("{gone} is the last root key that is active and configured.");
            return Err(Error::new(Code::InvalidState, message));
        }
        Ok(staying)
    }

    /// Takes the wraps of a root key away, after every key was opened by one of those that stay.
    pub(super) async fn take_away(&self, row: &str, gone: &RootId, staying: &[RootId]) -> Result<u64> {
        let seen = self.opens_without(gone, staying).await?;
        self.begin_removal(row, gone).await?;
        let dropped = self.drop_wraps(gone, &seen).await?;
        self.end_removal(row, gone).await?;
        Ok(dropped)
    }

    /// How many CAs have their key in the provider that the operator calls so.
    async fn cas_in(&self, name: &str) -> Result<u64> {
        let work = |permit: Permit<'a>| async move {
            let permit = permit.over_keys()?;
            let count: Option<(i64,)> = permit.fetch_optional(query(sql::CAS_IN_PROVIDER).bind(name)).await?;
            permit.answer(count.map_or(0, |(count,)| count.unsigned_abs()))
        };
        let act = Act::object(Action::KeyRead, &[Scope::Admin], "root_key", Some(name));
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Makes the root key in every configured provider that has none, and says so. A root key that keys are under is
    /// never made anew: it was lost, or the configuration is wrong. Making one is not adding it: to a vault that has
    /// keys, [`add_root`](Self::add_root) does that.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::InvalidState`] if there is no root key where keys are under one;
    /// [`Code::ServiceUnavailable`] if a provider does not answer, which does not mean that it has none.
    pub async fn bootstrap(&self) -> Result<Vec<RootMade>> {
        self.ask("root_key", "bootstrap").await?;
        let roots = self.vault.door.keyring().roots();
        let mut all = Vec::new();
        for root in roots.iter() {
            let made = match roots.health(root).await {
                Ok(()) => false,
                Err(KmsError::NotFound { .. }) => {
                    if self.is_in_use(&root.id()).await? {
                        let message = format!(
                            "There is no root key {}, but keys are under it: it is lost, or the settings are wrong.",
                            root.name()
                        );
                        return Err(Error::new(Code::InvalidState, message));
                    }
                    self.create(root).await?;
                    true
                }
                Err(error) => return Err(Closed::one(root.name(), error).into()),
            };
            all.push(RootMade { name: root.name().to_owned(), root: root.describe().into(), made });
        }
        Ok(all)
    }

    async fn create(&self, root: &Root) -> Result<()> {
        let work = |permit: Permit<'a>| async move {
            let mut permit = permit.over_keys()?;
            let made = permit.keyring().roots().create(root).await;
            let made = made.map_err(|error| Closed::one(root.name(), error))?;
            permit.note("step", "create");
            permit.note("root_key", RootId::new(made.provider, made.key_id).to_string());
            permit.answer(())
        };
        self.vault.door.perform(self.ctx, act("root_key", root.name()), work).await
    }

    /// That the caller is an operator, and what he asked for, in the trail.
    pub(super) async fn ask(&self, kind: &'static str, id: &str) -> Result<()> {
        let work = |permit: Permit<'a>| async move {
            operator(&permit)?;
            permit.answer(())
        };
        self.vault.door.perform(self.ctx, act(kind, id), work).await
    }

    /// Opens every key that is under `gone` by one of those that stay, and remembers what was there.
    async fn opens_without<'s>(&self, gone: &RootId, staying: &'s [RootId]) -> Result<Seen<'s>> {
        let mut opened = HashMap::new();
        for table in RootedTable::ALL {
            let (mut after, mut seen) = (String::new(), 0);
            loop {
                let page = table.page(&self.vault.door.key_db(), &after).await?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.id);
                for key in page {
                    self.opens_by(&key, gone, staying).await?;
                    opened.insert(key.id, key.wrapped);
                    seen += 1;
                    if let Some(watch) = self.watch {
                        watch(Progress { table: table.name(), done: seen, total: seen });
                    }
                }
            }
        }
        Ok(Seen { staying, opened })
    }

    async fn opens_by(&self, key: &Rooted, gone: &RootId, staying: &[RootId]) -> Result<()> {
        let roots = self.vault.door.keyring().roots();
        let what = format!("{} {}", key.table.name(), key.id);
        let wraps = key.wraps()?;
        let without = wraps.clone().without(gone).only(|root| staying.contains(root));
        let open = roots.open(&without, &key.context).await.map_err(|closed| {
            let message = format!("{what} does not open by another root key: {gone} has to stay.");
            Error::new(Code::InvalidState, message).because(closed)
        })?;
        if let (Some(root), Some(wrap)) = (roots.by_id(gone), wraps.under(gone))
            && !root.is_failing()
            && let Ok(known) = roots.unwrap(root, wrap, &key.context).await
            && !known.ct_eq(&open)
        {
            let message =
                format!("{what} opens to another key by {gone} than by the others: it has to stay.");
            return Err(Error::new(Code::InvalidState, message));
        }
        Ok(())
    }

    pub(super) async fn begin_removal(&self, row: &str, gone: &RootId) -> Result<()> {
        let work = |permit: Permit<'a>| async move {
            let mut tx = permit.over_keys()?.begin().await?;
            let rows = locked(&mut tx).await?;
            let stays = |(id, root, state): &&(String, RootId, String)| {
                id != row && state == rooted::ACTIVE && root.provider != PROVIDER
            };
            if rows.iter().find(stays).is_none() {
                let message = format!("{gone} is the last root key that is active.");
                return Err(Error::new(Code::InvalidState, message));
            }
            tx.execute(query(sql::REMOVING_ROOT).bind(row)).await?;
            tx.note("step", "remove");
            tx.note("root_key", gone.to_string());
            tx.commit(()).await
        };
        self.vault.door.perform(self.ctx, act("root_key", &gone.to_string()), work).await
    }

    /// Takes the wraps of one root key away. What has changed since it was opened is opened again first.
    async fn drop_wraps(&self, gone: &RootId, seen: &Seen<'_>) -> Result<u64> {
        let mut dropped = 0;
        // Until a look at all of them finds none: what was under way when this began may come later.
        for _ in 0..TRIES {
            let mut found = false;
            for table in RootedTable::ALL {
                let mut after = String::new();
                loop {
                    let page = table.page(&self.vault.door.key_db(), &after).await?;
                    let Some(last) = page.last() else { break };
                    after.clone_from(&last.id);
                    for key in page {
                        let Ok(wraps) = key.wraps() else { continue };
                        if wraps.under(gone).is_none() {
                            continue;
                        }
                        found = true;
                        if seen.opened.get(&key.id) != Some(&key.wrapped) {
                            self.opens_by(&key, gone, seen.staying).await?;
                        }
                        let changed =
                            replace(self.vault, self.ctx, &key, &wraps.without(gone), "unwrap").await?;
                        dropped += u64::from(changed);
                        if let Some(watch) = self.watch {
                            watch(Progress { table: table.name(), done: dropped, total: dropped });
                        }
                    }
                }
            }
            if !found {
                return Ok(dropped);
            }
        }
        Err(lost_race())
    }

    pub(super) async fn end_removal(&self, row: &str, gone: &RootId) -> Result<()> {
        let work = |permit: Permit<'a>| async move {
            let now = permit.keyring().now();
            let mut tx = permit.over_keys()?.begin().await?;
            let state = locked(&mut tx).await?.into_iter().find(|known| known.0 == row).map(|known| known.2);
            let done = tx.execute(query(sql::REMOVED_ROOT).bind(row).bind(now)).await? == 1;
            if !done && state.as_deref() != Some(REMOVED) {
                return Err(changed_meanwhile(gone));
            }
            tx.note("step", "removed");
            tx.note("root_key", gone.to_string());
            tx.commit(()).await
        };
        self.vault.door.perform(self.ctx, act("root_key", &gone.to_string()), work).await
    }
}

/// The root keys that there are, by their rows, held until the transaction ends.
pub(super) async fn locked(tx: &mut Write<'_>) -> Result<Vec<(String, RootId, String)>> {
    let mut all = QueryBuilder::new(sql::ROOTS_TO_LOCK);
    all.text(tx.lock_rows());
    let rows: Vec<(String, String, String, String)> = tx.fetch_all(all.build()).await?;
    Ok(rows.into_iter().map(|(id, provider, key, state)| (id, RootId::new(provider, key), state)).collect())
}

/// Wraps what came while a root key was out, and takes away what came under a root key that was just removed. For the
/// background work of any replica.
pub(crate) async fn run_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let keyring = inner.door.keyring();
    keyring.roots().probe().await;
    let rows = keyring.known_roots().await?;
    let active = rows.iter().filter(|row| row.is_active()).count();
    if active < 2 && active == rows.len() {
        inner.root_wraps_missing.store(0, Ordering::Relaxed);
        return Ok(());
    }
    let ctx = rewrap::keeper(inner, &TenantId::parse(OPERATOR)?, None)?;
    let public = keyring.recovery_public(&rows).await.unwrap_or_else(|error| {
        tracing::warn!(%error, causes = error.causes(), "the recovery root cannot be used now");
        None
    });
    let mut targets: Vec<Target<'_>> = keyring.wrappers(&rows).await.into_iter().map(Target::Root).collect();
    targets.extend(public.as_ref().map(|public| Target::Recovery(public, None)));
    let done = complete(inner, &ctx, Opener::Roots, &targets, None).await?;
    let missing = sweep(inner, &ctx, &rows).await?;
    inner.root_wraps_missing.store(missing, Ordering::Relaxed);
    done.whole().map(drop)
}

/// Takes stragglers away from removed root keys, and counts the wraps that are missing under active ones.
async fn sweep<'a>(vault: &'a Inner, ctx: &'a Ctx, rows: &[RootRow]) -> Result<u64> {
    let active: Vec<RootId> = rows.iter().filter(|row| row.is_active()).map(RootRow::root).collect();
    let removed = |root: &RootId| rows.iter().any(|row| row.root() == *root && row.state == REMOVED);
    let mut missing = 0;
    for table in RootedTable::ALL {
        let mut after = String::new();
        loop {
            let page = table.page(&vault.door.key_db(), &after).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            for key in page {
                let Ok(wraps) = key.wraps() else { continue };
                missing += active.iter().filter(|root| wraps.under(root).is_none()).count() as u64;
                let kept = wraps.only(|root| !removed(root));
                if kept == wraps {
                    continue;
                }
                // Only what is known to open without them.
                let by_active = kept.only(|root| active.contains(root));
                if vault.door.keyring().roots().open(&by_active, &key.context).await.is_ok() {
                    replace(vault, ctx, &key, &kept, "unwrap").await?;
                }
            }
        }
    }
    Ok(missing)
}

/// Every root key that is configured or that the database knows, with what is under it.
pub(super) async fn root_status(keyring: &Keyring) -> Result<Vec<RootStatus>> {
    let health = keyring.roots().check().await;
    let rows = rooted::roots(&keyring.key_db()).await?;
    let mut all: Vec<(RootId, RootStatus)> = Vec::new();
    for row in &rows {
        let id = row.root();
        let status = RootStatus {
            name: None,
            provider: id.provider.clone(),
            key_id: id.key_id.clone(),
            key_version: None,
            state: row.state.clone(),
            failure: None,
            wraps: 0,
            missing: 0,
            shares: row.threshold.zip(row.shares),
            added_at: Some(row.added_at.get()),
            removed_at: row.removed_at.map(Ts::get),
        };
        all.push((id, status));
    }
    for root in keyring.roots().iter() {
        let id = root.id();
        let at = all.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            let status = RootStatus {
                name: None,
                provider: id.provider.clone(),
                key_id: id.key_id.clone(),
                key_version: None,
                state: "inactive".to_owned(),
                failure: None,
                wraps: 0,
                missing: 0,
                shares: None,
                added_at: None,
                removed_at: None,
            };
            all.push((id, status));
            all.len() - 1
        });
        let status = &mut all[at].1;
        status.name = Some(root.name().to_owned());
        status.key_version = root.describe().key_version;
        status.failure = health.iter().find(|h| h.name == root.name()).and_then(|h| h.failure);
    }
    for table in RootedTable::ALL {
        let mut after = String::new();
        loop {
            let page = table.page(&keyring.key_db(), &after).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            for wraps in page.iter().filter_map(|key| key.wraps().ok()) {
                for (id, status) in &mut all {
                    let under = wraps.under(id).is_some();
                    status.wraps += u64::from(under);
                    status.missing += u64::from(!under && status.state == rooted::ACTIVE);
                }
            }
        }
    }
    Ok(all.into_iter().map(|(_, status)| status).collect())
}
