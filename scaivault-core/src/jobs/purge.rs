//! Destroys what has outlived its retention: deleted secrets, and with them their data keys; events that
//! nobody came for; answers to repeated requests.

use crate::{
    Caller, Code, Result, TenantId, Vault, events, idempotency, limits, secrets, secrets::SecretPath,
    storage::query,
};

pub(super) async fn run_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let now = inner.clock.now();
    let deleted_before = now - inner.settings.soft_delete_retention;
    let due = query(secrets::store::sql::PURGEABLE).bind(deleted_before);
    let mut result = Ok(());
    for (tenant, path) in inner.door.job_db().fetch_all::<(String, String)>(due).await? {
        // One that cannot be purged does not keep the others.
        if let Err(error) = purge(vault, tenant, &path, deleted_before).await {
            tracing::error!(error = %error, causes = error.causes(), "a deleted secret could not be purged");
            result = Err(error);
        }
    }
    let old = query(events::store::sql::DELETE_OLD).bind(now - limits::OUTBOX_RETENTION);
    inner.door.job_db().execute(old).await?;
    idempotency::delete_expired(inner).await?;
    result
}

async fn purge(
    vault: &Vault,
    tenant: String,
    path: &str,
    deleted_before: time::OffsetDateTime,
) -> Result<()> {
    let ctx = vault.ctx(Caller::system("secret-purge", TenantId::stored(tenant)?)?)?;
    match vault.secrets(&ctx).purge(&SecretPath::parse(path)?, deleted_before).await {
        // Another replica was faster, or it was restored in between.
        Err(error) if error.code() == Code::SecretNotFound => Ok(()),
        done => done,
    }
}
