use std::sync::Arc;

use scaivault_core::{SchemaState, Vault};
use scaivault_kms::local::{KeyFile, LocalProvider};

use super::{Failure, SCHEMA, say, serve};
use crate::{config::MigrateConfig, logging};

/// `migrate`: brings the schema up to date, or says what that would do.
pub(super) async fn migrate(dry_run: bool, create_roles: bool) -> Result<(), Failure> {
    let config = MigrateConfig::from_env()?;
    logging::start(config.log);
    let database = serve::database(&config.database)?;
    // The schema needs no key: one that is kept nowhere stands in for the root key.
    let unused = KeyFile::generate().map_err(Failure::general)?;
    let builder = Vault::builder(database, Arc::new(LocalProvider::new(unused)));
    let state = builder.schema().await?;
    if create_roles && !matches!(state, SchemaState::Ahead(_)) {
        builder.create_roles(&config.passwords).await?;
    }
    match state {
        SchemaState::Current if dry_run => say("the schema is up to date"),
        SchemaState::Current => {
            // Roles that were made since are granted what they need.
            builder.migrate_now().await?;
            say("the schema is up to date")
        }
        SchemaState::Ahead(version) => Err(Failure {
            exit: SCHEMA,
            error: format!(
                "the schema has migration {version}, which this build does not know: use a newer build"
            )
            .into(),
        }),
        SchemaState::Behind(missing) if dry_run => {
            say(&format!("these migrations would be applied: {missing:?}"))
        }
        SchemaState::Behind(missing) => {
            builder.migrate_now().await?;
            say(&format!("applied migrations: {missing:?}"))
        }
    }
}
