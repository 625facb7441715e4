//! The audit trail: records that a crash left without a place get one, and the ends of chains are signed.

use crate::{Result, Vault, audit};

pub(super) async fn run_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let mut result = Ok(());
    for tenant in inner.sequencer.waiting().await? {
        if let Err(error) = inner.door.audit_linked(&tenant).await {
            result = Err(error);
        }
    }
    result.and(audit::checkpoint_all(inner).await)
}
