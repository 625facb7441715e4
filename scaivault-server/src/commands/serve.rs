use std::sync::Arc;

use scaivault_core::{Database, JwksSource, SystemClock, TokenSettings, TokenVerifier, Vault, VaultBuilder};
use scaivault_kms::local::{KeyFile, LocalProvider};
use tokio::net::TcpListener;

use super::{Failure, start};
use crate::{
    config::{self, Config, DatabaseKind},
    egress::{Egress, HttpJwks},
    http::{stop, tls},
    logging,
};

/// `serve`: the API with the settings of the environment.
pub(super) async fn serve(no_migrate: bool) -> Result<(), Failure> {
    let config = Config::from_env()?;
    logging::start(config.log);
    let acceptor = match &config.http.tls {
        Some(files) => Some(tls::acceptor(&files.certificates, &files.key).map_err(Failure::settings)?),
        None => None,
    };
    let verifier = verifier(&config)?;
    let vault = builder(&config)?.migrate(config.migrate_on_start && !no_migrate).open().await?;
    let listener = TcpListener::bind(config.http.bind)
        .await
        .map_err(|error| Failure::general(format!("cannot listen on {}: {error}", config.http.bind)))?;
    let stop = stop::on_signals()?;
    tracing::info!(address = %config.http.bind, tls = acceptor.is_some(), "serving");
    start::serve(listener, vault, verifier, acceptor, config.http.drain, stop).await
}

/// The vault that the settings describe, not opened yet.
pub(super) fn builder(config: &Config) -> Result<VaultBuilder, Failure> {
    let key = KeyFile::open(&config.kms.key_file).map_err(Failure::settings)?;
    let older = config.kms.old_key_files.iter().map(|file| KeyFile::open(file));
    let older = older.collect::<Result<Vec<_>, _>>().map_err(Failure::settings)?;
    let provider = Arc::new(LocalProvider::with_older(key, older));
    Ok(Vault::builder(database(&config.database)?, provider)
        .base_url(config.http.base_url.as_str())
        .anchor(&config.kms.anchor_file)
        .key_cache_ttl(config.kms.cache_ttl)
        .soft_delete_retention(config.soft_delete_retention)
        .audit_retention(config.audit_retention)
        .tenant_admin_bypass(config.tenant_admin_bypass))
}

/// The database that the settings name.
pub(super) fn database(config: &config::Database) -> Result<Database, Failure> {
    match config.url.kind() {
        DatabaseKind::Postgres => {
            let database = Database::postgres(config.url.expose(), config.pool_size);
            let replica = config.url_read.as_ref();
            let with_replica = |database: Database| match replica {
                Some(url) => database.with_read_replica(url.expose()),
                None => Ok(database),
            };
            database.and_then(with_replica).map_err(Failure::settings)
        }
        DatabaseKind::Sqlite => {
            let url = config.url.expose();
            let path = url.strip_prefix("sqlite:").unwrap_or(url);
            Ok(Database::sqlite(path.strip_prefix("//").unwrap_or(path)))
        }
    }
}

fn verifier(config: &Config) -> Result<TokenVerifier, Failure> {
    let source: Arc<dyn JwksSource> = Arc::new(HttpJwks::new(Egress::new()?, &config.identity));
    let settings = TokenSettings {
        issuers: vec![config.identity.issuer.as_str().to_owned()],
        audiences: config.identity.audiences.clone(),
        default_partner: None,
    };
    TokenVerifier::new(source, settings, Arc::new(SystemClock)).map_err(Failure::settings)
}
