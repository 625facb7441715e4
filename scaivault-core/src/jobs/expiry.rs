//! Tells of secrets and trust anchors that expire soon or have expired.

use crate::{Caller, Code, Result, TenantId, Vault, pki, secrets, secrets::SecretPath, storage::query};

pub(super) async fn run_due(vault: &Vault) -> Result<()> {
    secrets(vault).await.and(pki::anchors::tell_due(vault).await)
}

async fn secrets(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    loop {
        let due = query(secrets::store::sql::NOTIFIABLE).bind(inner.clock.now());
        let due = inner.door.job_db().fetch_all::<(String, String)>(due).await?;
        let full = due.len() >= secrets::store::NOTIFIABLE_BATCH;
        let mut result = Ok(());
        for (tenant, path) in due {
            // One that cannot be told of does not keep the others.
            if let Err(error) = notify(vault, tenant, &path).await {
                tracing::error!(error = %error, causes = error.causes(), "an expiry could not be told");
                result = Err(error);
            }
        }
        if !full || result.is_err() {
            return result;
        }
    }
}

async fn notify(vault: &Vault, tenant: String, path: &str) -> Result<()> {
    let ctx = vault.ctx(Caller::system("secret-expiry", TenantId::stored(tenant)?)?)?;
    match vault.secrets(&ctx).notify_expiry(&SecretPath::parse(path)?).await {
        // Another replica was faster, or it was deleted in between.
        Err(error) if error.code() == Code::SecretNotFound => Ok(()),
        done => done,
    }
}
