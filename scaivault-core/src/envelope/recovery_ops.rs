//! Break-glass: a recovery root is made, tried, used and removed.

use std::fmt;

use scaivault_kms::Secret;
use serde::Serialize;

use super::{
    Keys,
    instance::RECOVERY,
    recovery::{PROVIDER, RecoveryKey, RecoveryShare},
    rewrap::act,
    root_ops::{Opener, Target, complete, locked},
    rooted::{RootRow, RootedTable, sql},
    types::{Broken, Progress, RootAdded},
    wraps::RootId,
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
    /// and is nowhere else. Every key is wrapped to its public half, now and from here on. It takes the place of the
    /// recovery root before it, whose shares are of no use any more.
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
        let replaced = self.activate_recovery(&row, &key).await?;
        // What came before everybody knew of it.
        let later = complete(self.vault, self.ctx, Opener::Roots, &target, self.watch).await?.whole()?;
        for (row, root) in replaced {
            self.drop_wraps(&root, None).await?;
            self.end_removal(&row, &root).await?;
        }
        Ok(RecoveryMade {
            fingerprint: key.public().fingerprint(),
            threshold,
            shares: parts,
            wrapped: first.wrapped + later.wrapped,
        })
    }

    /// The row of a recovery root that does not wrap yet.
    async fn insert_recovery(&self, key: &RecoveryKey, shares: u8, threshold: u8) -> Result<String> {
        let public = Secret::new(key.public().bytes().to_vec());
        let root = key.public().id();
        let work = |permit: Permit<'a>| async move {
            let keyring = permit.keyring();
            let row = permit.new_id("rk_")?;
            let sealed = keyring.seal_instance(RECOVERY, &row, &public).await?;
            let now = keyring.now();
            let mut tx = permit.over_keys()?.begin().await?;
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

    /// Makes it the one that wraps, and gives those whose place it takes.
    async fn activate_recovery(&self, row: &str, key: &RecoveryKey) -> Result<Vec<(String, RootId)>> {
        let id = key.public().id();
        let work = |permit: Permit<'a>| async move {
            let now = permit.keyring().now();
            let mut tx = permit.over_keys()?.begin().await?;
            let mut replaced = Vec::new();
            for (other, root, state) in locked(&mut tx).await? {
                if root.provider == PROVIDER && other != row && state != super::rooted::REMOVED {
                    tx.execute(query(sql::REMOVING_ROOT).bind(&other)).await?;
                    replaced.push((other, root));
                }
            }
            tx.execute(query(sql::ACTIVATE_ROOT).bind(row).bind(now)).await?;
            tx.note("step", "add");
            tx.note("root_key", id.to_string());
            tx.note("replaced", replaced.iter().map(|(_, root)| root.to_string()).collect::<Vec<_>>());
            tx.commit(replaced).await
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

    /// Takes the recovery root away: its shares are of no use any more.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::NotFound`] if there is none.
    pub async fn recovery_remove(&self) -> Result<u64> {
        self.ask("root_key", PROVIDER).await?;
        let work = |permit: Permit<'a>| async move {
            let mut tx = permit.over_keys()?.begin().await?;
            let mut gone = Vec::new();
            for (row, root, state) in locked(&mut tx).await? {
                if root.provider == PROVIDER && state != super::rooted::REMOVED {
                    tx.execute(query(sql::REMOVING_ROOT).bind(&row)).await?;
                    gone.push((row, root));
                }
            }
            if gone.is_empty() {
                return Err(Error::new(Code::NotFound, "There is no recovery root."));
            }
            tx.note("step", "remove");
            tx.note("root_keys", gone.iter().map(|(_, root)| root.to_string()).collect::<Vec<_>>());
            tx.commit(gone).await
        };
        let gone = self.vault.door.perform(self.ctx, act("root_key", PROVIDER), work).await?;
        let mut dropped = 0;
        for (row, root) in gone {
            dropped += self.drop_wraps(&root, None).await?;
            self.end_removal(&row, &root).await?;
        }
        Ok(dropped)
    }

    /// The private key of the recovery root that is in force.
    async fn joined(&self, shares: &[RecoveryShare]) -> Result<RecoveryKey> {
        let key = RecoveryKey::join(shares)?;
        let rows = self.vault.door.keyring().known_roots().await?;
        let current = |row: &&RootRow| row.is_active() && row.is_recovery();
        match rows.iter().find(current).map(RootRow::root) {
            Some(root) if root == key.public().id() => Ok(key),
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
