//! Which root keys wrap: those that are both configured and active in the database.

use std::time::Duration;

use scaivault_kms::{Context, KmsError, SecretKey};

use super::{
    Keyring,
    instance::{InstanceKey, RECOVERY},
    recovery::RecoveryPublic,
    rewrap::JOB,
    root_ops::OPERATOR,
    rooted::{self, RootRow, RootedTable, sql},
    roots::{Closed, Root},
    wraps::{RootId, Wraps},
};
use crate::{
    Caller, Ctx, Error, Result, TenantId,
    audit::{self, Action, Record},
    id,
    pipeline::On,
    storage::{Query, query},
};

/// A key under every root key that answered.
#[derive(Debug)]
pub(super) struct Wrapped {
    pub(super) wraps: Wraps,
    /// The row of a root key that has made one of them: it has to be active still when they are stored.
    pub(super) by: String,
}

impl Keyring {
    /// The root keys that the database knows; none until the first key is wrapped. If there are keys from before it
    /// knew of root keys, it learns here of those that they are under.
    pub(super) async fn known_roots(&self) -> Result<Vec<RootRow>> {
        let db = self.key_db();
        let rows = rooted::roots(&db).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
        for root in self.roots_in_use().await? {
            self.register(&root).await?;
        }
        rooted::roots(&db).await
    }

    /// The same, and in a vault without keys every configured root key that works becomes active.
    pub(super) async fn first_roots(&self) -> Result<Vec<RootRow>> {
        let rows = self.known_roots().await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
        for root in self.roots().iter() {
            if self.roots().identify(root).await {
                self.register(&root.id()).await?;
            }
        }
        self.known_roots().await
    }

    async fn roots_in_use(&self) -> Result<Vec<RootId>> {
        let mut found = Vec::new();
        let mut add = |root: RootId| {
            if !found.contains(&root) {
                found.push(root);
            }
        };
        for table in [RootedTable::Partner, RootedTable::Audit] {
            let mut after = String::new();
            loop {
                let page = table.page(&self.key_db(), &after).await?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.id);
                // One that cannot be read says nothing about root keys.
                page.iter()
                    .filter_map(|key| key.wraps().ok())
                    .for_each(|wraps| wraps.iter().for_each(|wrap| add(RootId::of(wrap))));
            }
        }
        Ok(found)
    }

    async fn register(&self, root: &RootId) -> Result<()> {
        self.enter(root, "register", None).await
    }

    /// Makes a root key active that is not known, or, by `revive`, one that is. Nobody asked for it: the trail has it
    /// as an act of the background work.
    async fn enter(&self, root: &RootId, step: &str, revive: Option<Query<'_>>) -> Result<()> {
        let now = self.now();
        let id = id::new("rk_", now, self.random())?;
        let caller = Caller::system(JOB, TenantId::parse(OPERATOR)?)?;
        let ctx = Ctx::new(caller, id::new("req_", now, self.random())?, now);
        let act = On::Object { kind: "root_key", id: Some(root.to_string()) };
        let mut record = Record::new(&ctx, Action::KeyRotate, &act, (now, Duration::ZERO), self.random())?;
        record.extra.insert("step".to_owned(), step.into());
        record.extra.insert("root_key".to_owned(), root.to_string().into());
        let mut tx = self.key_db().begin().await?;
        let mut changed = tx.execute(rooted::insert_root(&id, root, now)).await?;
        if let Some(revive) = revive.filter(|_| changed == 0) {
            changed = tx.execute(revive).await?;
        }
        if changed > 0 {
            audit::append(&mut tx, record.into_log()).await?;
        }
        tx.commit().await
    }

    /// The configured root keys that are active, in order of preference.
    pub(super) async fn wrappers(&self, rows: &[RootRow]) -> Vec<&Root> {
        let active = |root: &Root| rows.iter().any(|row| row.is_active() && row.root() == root.id());
        for root in self.roots().iter().filter(|root| !active(root)) {
            // Its name may be another one than that in its wraps until it was asked.
            self.roots().identify(root).await;
        }
        self.roots().iter().filter(|root| active(root)).collect()
    }

    /// Wraps a key under every active root key that answers; at least one has to.
    pub(super) async fn wrap_new(&self, key: &SecretKey, context: &Context) -> Result<Wrapped> {
        let mut rows = self.known_roots().await?;
        let mut wrappers: Vec<&Root> = self.roots().iter().collect();
        if !rows.is_empty() {
            wrappers = self.wrappers(&rows).await;
            if wrappers.is_empty() {
                self.succeed(&rows).await?;
                rows = self.known_roots().await?;
                wrappers = self.wrappers(&rows).await;
            }
        }
        let mut wraps = self.roots().wrap_under(&wrappers, key, context).await?;
        if rows.is_empty() {
            // Those that have proven to work, and no name that was mistyped.
            for wrap in wraps.iter() {
                self.register(&RootId::of(wrap)).await?;
            }
            rows = self.known_roots().await?;
        }
        let by = wraps.iter().find_map(|wrap| rows.iter().find(|row| row.root() == RootId::of(wrap)));
        let by = by.ok_or_else(|| Error::internal("a wrap under a root key that nobody knows"))?.id.clone();
        match self.recovery_public(&rows).await {
            Ok(None) => {}
            Ok(Some(public)) => wraps = wraps.with(public.wrap(key, context, self.random())?),
            Err(error) => {
                let causes = error.causes();
                tracing::warn!(%error, causes, "not wrapped to the recovery root; the background work will")
            }
        }
        Ok(Wrapped { wraps, by })
    }

    /// Makes a configured root key active that opens what an active one has wrapped which is no longer configured: a
    /// key file that was put in front of the one before, another replica of the same key.
    async fn succeed(&self, rows: &[RootRow]) -> Result<()> {
        let gone: Vec<RootId> =
            rows.iter().filter(|row| row.is_active() && !row.is_recovery()).map(RootRow::root).collect();
        let mut failed = Vec::new();
        for table in [RootedTable::Partner, RootedTable::Audit] {
            for key in table.page(&self.key_db(), "").await? {
                let Ok(wraps) = key.wraps() else { continue };
                for wrap in wraps.iter().filter(|wrap| gone.contains(&RootId::of(wrap))) {
                    for root in self.roots().holders(&RootId::of(wrap)) {
                        match self.roots().unwrap(root, wrap, &key.context).await {
                            Ok(_) => {
                                let id = root.id();
                                let revive = query(sql::REVIVE_ROOT)
                                    .bind(&id.provider)
                                    .bind(&id.key_id)
                                    .bind(self.now());
                                return self.enter(&id, "succeed", Some(revive)).await;
                            }
                            Err(error) if error.is_transient() => {
                                return Err(Closed::one(root.name(), error).into());
                            }
                            Err(error) => failed.push((root.name().to_owned(), error)),
                        }
                    }
                }
            }
        }
        let names: Vec<String> = gone.iter().map(RootId::to_string).collect();
        for root in self.roots().iter() {
            let message = format!("{} is none of those that wrap ({})", root.id(), names.join(", "));
            failed.push((root.name().to_owned(), KmsError::NotFound { provider: "vault", message }));
        }
        Err(Closed(failed).into())
    }

    /// The public key of the recovery root, if there is one: sealed under the root keys, so that it is ours.
    pub(super) async fn recovery_public(&self, rows: &[RootRow]) -> Result<Option<RecoveryPublic>> {
        let Some(row) = rows.iter().find(|row| row.is_active() && row.is_recovery()) else { return Ok(None) };
        let root = row.root();
        if let Some(known) = self.known_recovery().filter(|known| known.id() == root) {
            return Ok(Some(known));
        }
        let (Some(ciphertext), Some(wrapped)) = (row.ciphertext.clone(), row.wrapped.clone()) else {
            return Err(Error::internal("a recovery root without its public key"));
        };
        let opened = self.open_instance(RECOVERY, &row.id, &InstanceKey { ciphertext, wrapped }).await?;
        let public = RecoveryPublic::from_slice(opened.expose()).filter(|public| public.id() == root);
        let public = public.ok_or_else(|| Error::internal("a recovery root with another public key"))?;
        self.remember_recovery(public.clone());
        Ok(Some(public))
    }

    /// Says in the log which of the configured root keys do not wrap, and why.
    pub(crate) async fn tell_inactive(&self) -> Result<()> {
        let rows = rooted::roots(&self.key_db()).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let wrappers = self.wrappers(&rows).await;
        for root in self.roots().iter().filter(|root| !wrappers.iter().any(|w| w.name() == root.name())) {
            let (name, root) = (root.name(), root.id());
            tracing::warn!(
                name,
                root = %root,
                "this root key opens and does not wrap: run `keys add-root`, or `keys rotate-root` if it replaces one of its kind"
            );
        }
        if wrappers.is_empty() {
            let active: Vec<String> =
                rows.iter().filter(|row| row.is_active()).map(|row| row.root().to_string()).collect();
            tracing::error!(
                active = active.join(", "),
                "none of the configured root keys is one that the keys are under"
            );
        }
        Ok(())
    }
}
