//! Break-glass: a recovery root is made, tried, used and removed.

use std::fmt;

use scaivault_kms::Secret;
use serde::Serialize;

use super::{
    Keys, hold_root,
    instance::RECOVERY,
    never_held,
    recovery::{PROVIDER, RecoveryKey, RecoveryShare},
    rewrap::act,
    root_ops::{Opener, Target, complete, locked},
    rooted::{REMOVED, RootRow, RootedTable, sql},
    types::{Broken, Progress, RootAdded},
};
use crate::{Code, Error, Result, limits, pipeline::Permit, storage::query};

/// A recovery root that was just made. The shares are nowhere else, and cannot be had again.
pub struct RecoveryMade {
    /// What names its public key.
    pub fingerprint: String,
    /// How many of the shares make its private key.
    pub threshold: u8,
    /// The shares, each for another keeper.
    pub shares: Vec<RecoveryShare>,
    /// Keys that were wrapped to it: partner keys, and those of the vault itself.
    pub wrapped: u64,
    /// Why some of the keys that came meanwhile are not wrapped to it yet; the background work does that.
    pub unfinished: Option<Error>,
}

/// What opening every key by shares came to.
#[derive(Clone, Debug, Serialize)]
pub struct RecoveryDrill {
    /// What names the public key.
    pub fingerprint: String,
    /// Keys that the shares opened.
    pub opened: u64,
    /// Those among them that a root key opened as well, to the same key.
    pub compared: u64,
    /// Keys that are not wrapped to the recovery root yet: the background work does that.
    pub missing: u64,
    /// Keys that the shares do not open, or open to another key than the root keys do.
    pub broken_total: u64,
    /// The first of them, by name.
    pub broken: Vec<Broken>,
}

impl fmt::Debug for RecoveryMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryMade")
            .field("fingerprint", &self.fingerprint)
            .field("threshold", &self.threshold)
            .field("shares", &self.shares.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Keys<'a> {
    /// Makes a recovery root: a key pair whose private half is split into shares, `threshold` of which make it again,
    /// and is nowhere else. Every key is wrapped to its public half, now and from here on. The recovery root before it
    /// wraps no more, but its shares open what they opened until [`recovery_settle`](Self::recovery_settle): call that
    /// when the new shares are with their keepers.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::InvalidRequest`] unless 2 ≤ `threshold` ≤ `shares` ≤
    /// [`limits::RECOVERY_SHARES`]; [`Code::ServiceUnavailable`] if a key cannot be opened now: then nothing wraps to
    /// the new one, and the one before stays.
    pub async fn recovery_create(&self, shares: u8, threshold: u8) -> Result<RecoveryMade> {
        self.ask("root_key", PROVIDER).await?;
        let keyring = self.vault.door.keyring();
        let key = RecoveryKey::generate()?;
        let parts = key.split(shares, threshold, keyring.random())?;
        let row = self.insert_recovery(&key, shares, threshold).await?;
        let target = [Target::Recovery(key.public(), Some(&key))];
        let first = complete(self.vault, self.ctx, Opener::Roots, &target, self.watch).await?.whole()?;
        self.activate_recovery(&row, &key).await?;
        // What came before everybody knew of it. Whatever happens here, the shares are handed out.
        let later = complete(self.vault, self.ctx, Opener::Roots, &target, self.watch).await;
        let (later, unfinished) =
            later.map_or_else(|error| (0, Some(error)), |done| (done.wrapped, done.failed));
        Ok(RecoveryMade {
            fingerprint: key.public().fingerprint(),
            threshold,
            shares: parts,
            wrapped: first.wrapped + later,
            unfinished,
        })
    }

    /// Takes away what is wrapped to recovery roots that another has taken the place of, after every key was wrapped
    /// to the present one and opened by a root key that is active and configured: their shares are of no use any more
    /// for what is in the database then. Gives how many wraps that were.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::ServiceUnavailable`] or [`Code::InvalidState`] if a key cannot be opened
    /// now: the recovery root before stays until this is called again.
    pub async fn recovery_settle(&self) -> Result<u64> {
        self.ask("root_key", PROVIDER).await?;
        let keyring = self.vault.door.keyring();
        let rows = keyring.known_roots().await?;
        let going: Vec<&RootRow> = rows.iter().filter(|row| row.is_recovery() && row.is_going()).collect();
        if going.is_empty() {
            return Ok(0);
        }
        if let Some(public) = keyring.recovery_public(&rows).await? {
            let target = [Target::Recovery(&public, None)];
            complete(self.vault, self.ctx, Opener::Roots, &target, self.watch).await?.whole()?;
        }
        let mut dropped = 0;
        for row in going {
            let staying = self.staying(&rows, &row.root()).await?;
            dropped += self.take_away(&row.id, &row.root(), &staying).await?;
        }
        Ok(dropped)
    }

    /// The row of a recovery root that does not wrap yet.
    async fn insert_recovery(&self, key: &RecoveryKey, shares: u8, threshold: u8) -> Result<String> {
        let public = Secret::new(key.public().bytes().to_vec());
        let root = key.public().id();
        let work = |permit: Permit<'a>| async move {
            let keyring = permit.keyring();
            let row = permit.new_id("rk_")?;
            let (sealed, by) = keyring.seal_instance(RECOVERY, &row, &public).await?;
            let now = keyring.now();
            let mut tx = permit.over_keys()?.begin().await?;
            let held: Option<(String,)> = tx.fetch_optional(hold_root(&by, tx.lock_rows())).await?;
            held.ok_or_else(never_held)?;
            let insert = query(sql::INSERT_RECOVERY)
                .bind(&row)
                .bind(&root.provider)
                .bind(&root.key_id)
                .bind(&sealed.ciphertext)
                .bind(&sealed.wrapped)
                .bind(i64::from(threshold))
                .bind(i64::from(shares))
                .bind(now);
            tx.execute(insert).await?;
            tx.note("step", "make");
            tx.note("root_key", root.to_string());
            tx.note("shares", shares);
            tx.note("threshold", threshold);
            tx.commit(row).await
        };
        self.vault.door.perform(self.ctx, act("root_key", PROVIDER), work).await
    }

    /// Makes it the one that wraps, in the place of whichever does.
    async fn activate_recovery(&self, row: &str, key: &RecoveryKey) -> Result<()> {
        let id = key.public().id();
        let work = |permit: Permit<'a>| async move {
            let now = permit.keyring().now();
            let mut tx = permit.over_keys()?.begin().await?;
            let mut replaced = Vec::new();
            for (other, root, state) in locked(&mut tx).await? {
                if root.provider == PROVIDER && other != row && state != REMOVED {
                    tx.execute(query(sql::REMOVING_ROOT).bind(&other)).await?;
                    replaced.push(root.to_string());
                }
            }
            tx.execute(query(sql::ACTIVATE_ROOT).bind(row).bind(now)).await?;
            tx.note("step", "add");
            tx.note("root_key", id.to_string());
            tx.note("replaced", replaced);
            tx.commit(()).await
        };
        self.vault.door.perform(self.ctx, act("root_key", PROVIDER), work).await
    }

    /// Makes the private key of shares again, opens every key by it, and compares with what the root keys open, as far
    /// as they can be reached. Changes nothing.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::InvalidRequest`] if the shares do not make a key, saying which is wrong;
    /// [`Code::NotFound`] if they make that of a recovery root which is no longer, or not of this vault.
    pub async fn recovery_drill(&self, shares: &[RecoveryShare]) -> Result<RecoveryDrill> {
        let watch = self.watch;
        self.ask("root_key", PROVIDER).await?;
        let key = self.joined(shares).await?;
        let work = |permit: Permit<'a>| async move {
            let mut permit = permit.over_keys()?;
            let keyring = permit.keyring();
            let mut drill = RecoveryDrill {
                fingerprint: key.public().fingerprint(),
                opened: 0,
                compared: 0,
                missing: 0,
                broken_total: 0,
                broken: Vec::new(),
            };
            for table in RootedTable::ALL {
                let (mut after, mut seen) = (String::new(), 0);
                loop {
                    let page = table.page(&keyring.key_db(), &after).await?;
                    let Some(last) = page.last() else { break };
                    after.clone_from(&last.id);
                    for rooted in page {
                        let wraps = match rooted.wraps() {
                            Ok(wraps) if wraps.under(&key.public().id()).is_none() => {
                                drill.missing += 1;
                                continue;
                            }
                            Ok(wraps) => wraps,
                            Err(error) => {
                                drill.broken(table, rooted.id, rooted.owner, error.to_string());
                                continue;
                            }
                        };
                        match key.open(&wraps, &rooted.context) {
                            Ok(open) => match keyring.roots().open(&wraps, &rooted.context).await {
                                Ok(known) if known.ct_eq(&open) => {
                                    drill.opened += 1;
                                    drill.compared += 1;
                                }
                                Ok(_) => {
                                    let reason = "it opens to another key than by the root keys".to_owned();
                                    drill.broken(table, rooted.id, rooted.owner, reason);
                                }
                                // What this is for.
                                Err(_) => drill.opened += 1,
                            },
                            Err(error) => drill.broken(table, rooted.id, rooted.owner, error.to_string()),
                        }
                        seen += 1;
                        if let Some(watch) = watch {
                            watch(Progress { table: table.name(), done: seen, total: seen });
                        }
                    }
                }
            }
            permit.note("step", "drill");
            permit.note("root_key", key.public().id().to_string());
            permit.note("opened", drill.opened);
            permit.note("broken", drill.broken_total);
            permit.answer(drill)
        };
        self.vault.door.perform(self.ctx, act("root_key", PROVIDER), work).await
    }

    /// As [`add_root`](Self::add_root), but every key is opened by the shares of the recovery root: for when no root key
    /// that it lies under is there any more.
    ///
    /// # Errors
    /// As [`add_root`](Self::add_root) and [`recovery_drill`](Self::recovery_drill).
    pub async fn add_root_by_recovery(&self, name: &str, shares: &[RecoveryShare]) -> Result<RootAdded> {
        self.ask("root_key", name).await?;
        let key = self.joined(shares).await?;
        self.add_root_opened_by(name, Opener::Recovery(&key)).await
    }

    /// Takes every recovery root away, after every key was opened by a root key that is active and configured: the
    /// shares are of no use any more for what is in the database then. Gives how many wraps were taken away.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::NotFound`] if there is none; [`Code::InvalidState`] if a key does not open
    /// by a root key now: the source says why.
    pub async fn recovery_remove(&self) -> Result<u64> {
        self.ask("root_key", PROVIDER).await?;
        let rows = self.vault.door.keyring().known_roots().await?;
        let gone: Vec<&RootRow> =
            rows.iter().filter(|row| row.is_recovery() && row.state != REMOVED).collect();
        if gone.is_empty() {
            return Err(Error::new(Code::NotFound, "There is no recovery root."));
        }
        let mut dropped = 0;
        for row in gone {
            let staying = self.staying(&rows, &row.root()).await?;
            dropped += self.take_away(&row.id, &row.root(), &staying).await?;
        }
        Ok(dropped)
    }

    /// The private key of a recovery root that something is wrapped to.
    async fn joined(&self, shares: &[RecoveryShare]) -> Result<RecoveryKey> {
        let key = RecoveryKey::join(shares)?;
        let rows = self.vault.door.keyring().known_roots().await?;
        let usable = |row: &&RootRow| row.is_recovery() && (row.is_active() || row.is_going());
        if rows.iter().filter(usable).any(|row| row.root() == key.public().id()) {
            return Ok(key);
        }
        match rows.iter().find(|row| row.is_recovery() && row.is_active()).map(RootRow::root) {
            Some(root) => {
                let made = key.public().fingerprint();
                let message = format!(
                    "The shares are of recovery root {made}; the one of this vault is {}.",
                    root.key_id
                );
                Err(Error::new(Code::NotFound, message))
            }
            None => Err(Error::new(Code::NotFound, "This vault has no recovery root.")),
        }
    }
}

impl RecoveryDrill {
    fn broken(&mut self, table: RootedTable, row: String, owner: String, reason: String) {
        self.broken_total += 1;
        if self.broken.len() < limits::BROKEN_NAMED {
            self.broken.push(Broken { table: table.name(), row, owner, reason });
        }
    }
}
