//! Background work. A job finds what is due over all tenants and does it under a permit of the tenant, as a
//! system identity that names the job. Every job takes its rows by lease or by a condition, so that all
//! replicas may run it at once.

mod purge;

use std::time::Duration;

use crate::{Result, Vault, envelope, pki};

/// How often it is looked at whether something is due.
const EVERY: Duration = Duration::from_secs(30);

/// Does what is due, once.
pub(crate) async fn run_due(vault: &Vault) -> Result<()> {
    let lists = pki::build_due(vault).await;
    let purge = purge::run_due(vault).await;
    let keys = envelope::rewrap::run_due(vault).await;
    lists.and(purge).and(keys)
}

/// Does what is due, again and again.
pub(crate) async fn run_forever(vault: Vault) {
    loop {
        if let Err(error) = run_due(&vault).await {
            tracing::error!(error = %error, source = ?std::error::Error::source(&error), "background work failed");
        }
        tokio::time::sleep(EVERY).await;
    }
}
