//! Destroys secrets that were deleted and whose retention is over, and with them their data keys.

use crate::{Caller, Code, Result, TenantId, Vault, secrets, secrets::SecretPath, storage::query};

pub(super) async fn run_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let deleted_before = inner.clock.now() - inner.settings.soft_delete_retention;
    let due = query(secrets::store::sql::PURGEABLE).bind(deleted_before);
    let mut result = Ok(());
    for (tenant, path) in inner.door.job_db().fetch_all::<(String, String)>(due).await? {
        let ctx = vault.ctx(Caller::system("secret-purge", TenantId::parse(tenant)?)?)?;
        match vault.secrets(&ctx).purge(&SecretPath::parse(&path)?, deleted_before).await {
            Ok(()) => {}
            // Another replica was faster, or it was restored in between.
            Err(error) if error.code() == Code::SecretNotFound => {}
            // One that cannot be purged does not keep the others.
            Err(error) => {
                tracing::error!(error = %error, "a deleted secret could not be purged");
                result = Err(error);
            }
        }
    }
    result
}
