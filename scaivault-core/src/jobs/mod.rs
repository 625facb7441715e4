//! Background work. A job finds what is due over all tenants and does it under a permit of the tenant, as a
//! system identity that names the job. Every job takes its rows by lease or by a condition, so that all
//! replicas may run it at once.

mod audit;
mod expiry;
mod partitions;
mod purge;

use std::time::Duration;

use crate::{Result, Vault, envelope, identity::directory, pki};

/// How often it is looked at whether something is due.
const EVERY: Duration = Duration::from_secs(30);

/// Does what is due, once.
pub(crate) async fn run_due(vault: &Vault) -> Result<()> {
    if vault.quarantine().is_some() {
        return Ok(());
    }
    // First: it may find that the database was put back.
    let audit = audit::run_due(vault).await;
    if vault.quarantine().is_some() {
        return audit;
    }
    let lists = pki::build_due(vault).await;
    let purge = purge::run_due(vault).await;
    let expiry = expiry::run_due(vault).await;
    let roots = envelope::complete_roots(vault).await;
    let keys = envelope::rewrap::run_due(vault).await;
    let partitions = partitions::run_due(vault).await;
    lists.and(purge).and(expiry).and(roots).and(keys).and(audit).and(partitions)
}

/// How often it is looked at whether a root key that failed is to be asked again.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Does what is due, again and again, until the vault is closed.
pub(crate) async fn run_forever(vault: Vault) {
    // Beside the rounds, which may be long: a root key that is back is to be preferred within seconds.
    tokio::join!(rounds(&vault), probes(&vault), syncs(&vault));
}

async fn probes(vault: &Vault) {
    let mut closed = vault.inner().closed.subscribe();
    while !*closed.borrow_and_update() {
        vault.inner().door.roots().probe().await;
        let _ = tokio::time::timeout(PROBE_EVERY, closed.changed()).await;
    }
}

/// Beside the rounds, since the identity provider may be slow.
async fn syncs(vault: &Vault) {
    let mut closed = vault.inner().closed.subscribe();
    while !*closed.borrow_and_update() {
        let round = tokio::spawn({
            let vault = vault.clone();
            async move { directory::run_due_syncs(&vault).await }
        });
        match round.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, causes = error.causes(), "identities were not synced"),
            Err(_) => tracing::error!("the sync of identities panicked"),
        }
        tokio::select! {
            _ = closed.changed() => {}
            () = vault.inner().sync_wanted.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn rounds(vault: &Vault) {
    let mut closed = vault.inner().closed.subscribe();
    while !*closed.borrow_and_update() {
        let round = tokio::spawn({
            let vault = vault.clone();
            async move { run_due(&vault).await }
        });
        match round.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(error = %error, causes = error.causes(), "background work failed")
            }
            // What a panic says may hold a secret; the next round is tried all the same.
            Err(_) => tracing::error!("background work panicked"),
        }
        vault.inner().door.forget_expired_keys().await;
        let _ = tokio::time::timeout(EVERY, closed.changed()).await;
    }
}
