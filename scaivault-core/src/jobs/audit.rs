//! The audit trail: records that a crash left without a place get one, and the ends of chains are signed.

use std::sync::atomic::Ordering;

use crate::{Result, Vault, anchor, audit};

pub(super) async fn run_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let mut result = Ok(());
    for tenant in inner.sequencer.waiting().await? {
        if let Err(error) = inner.door.audit_linked(&tenant).await {
            result = Err(error);
        }
    }
    // A chain that is not what it was is not written down either.
    let signed = audit::checkpoint_all(inner).await?;
    if signed || !inner.anchored.load(Ordering::Relaxed) {
        anchor::update(inner).await?;
    }
    result
}
