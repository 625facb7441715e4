use std::sync::Arc;

use scaivault_core::{
    Database, HttpIntrospection, HttpJwks, JwksSource, SystemClock, TokenSettings, TokenVerifier, Vault,
    VaultBuilder,
    egress::Egress,
    identities::HttpDirectory,
    trust::{ExchangeSettings, ScaiKeyMinter},
};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::{Failure, start};
use crate::{
    config::{self, Config, DatabaseKind, TlsFiles},
    http::{stop, tls},
    logging,
    metrics::Metrics,
    roots::{self, Ready},
};

/// `serve`: the API with the settings of the environment.
pub(super) async fn serve(no_migrate: bool) -> Result<(), Failure> {
    let config = Config::from_env()?;
    logging::start(config.log);
    let acceptor =
        |files: &TlsFiles| tls::acceptor(&files.certificates, &files.key, files.clients.as_deref());
    let acceptor = config.http.tls.as_ref().map(acceptor).transpose().map_err(Failure::settings)?;
    let egress = Egress::builder().allow(config.egress_allowed.iter().copied()).build()?;
    let verifier = Arc::new(verifier(&config, &egress)?);
    let roots = roots::ready(&config.kms.roots).await.map_err(Failure::settings)?;
    let builder = builder_over(&config, &roots)?.migrate(config.migrate_on_start && !no_migrate);
    let builder = match exchange(&config, &egress, &verifier) {
        Some(exchange) => builder.exchange(exchange),
        None => builder,
    };
    let builder = match directory(&config, &egress) {
        Some(source) => builder.identity_source(Arc::new(source), config.identity.sync_interval),
        None => builder,
    };
    let vault = builder.open().await?;
    let listener = TcpListener::bind(config.http.bind)
        .await
        .map_err(|error| Failure::general(format!("cannot listen on {}: {error}", config.http.bind)))?;
    let revocation = match config.http.pki_bind {
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|error| Failure::general(format!("cannot listen on {address}: {error}")))?,
        ),
        None => None,
    };
    let stop = stop::on_signals()?;
    tracing::info!(address = %config.http.bind, tls = acceptor.is_some(), "serving");
    let metrics = Metrics::new(roots.iter().map(|root| (root.name.clone(), root.latencies.clone())));
    // A root key that does not answer keeps nobody from listening: readiness says so, and the log.
    tokio::spawn(roots::watch_start(roots));
    let (proxies, identities) = (config.http.trusted_proxies, config.http.client_identities);
    let app = start::App { vault, verifier, metrics, proxies, identities, revocation };
    start::serve(listener, app, acceptor, config.http.drain, stop).await
}

/// The vault that the settings describe, not opened yet.
pub(super) async fn builder(config: &Config) -> Result<VaultBuilder, Failure> {
    let roots = roots::ready(&config.kms.roots).await.map_err(Failure::settings)?;
    builder_over(config, &roots)
}

/// The same over root keys that are ready.
pub(super) fn builder_over(config: &Config, roots: &[Ready]) -> Result<VaultBuilder, Failure> {
    let builder = keyed(&config.database, &config.kms, roots)?.rate_limits(config.rate_limits.clone());
    let builder = match &config.redis {
        Some(url) => builder.redis(url.clone()),
        None => builder,
    };
    let identity = &config.identity;
    let builder = match &identity.webhook_secrets {
        Some(secrets) => builder.webhook_secrets(Arc::clone(secrets)),
        None => builder,
    };
    Ok(builder
        .bootstrap_super_admin(identity.bootstrap_super_admin.clone().unwrap_or_default())
        .base_url(config.http.base_url.as_str())
        .key_cache_ttl(config.kms.cache_ttl)
        .soft_delete_retention(config.soft_delete_retention)
        .audit_retention(config.audit_retention)
        .mfa_window(config.mfa_window)
        .rsa_pool(config.rsa_pool)
        .tenant_admin_bypass(config.tenant_admin_bypass))
}

/// A vault that serves nothing: its database, its root keys and its anchor.
pub(super) fn keyed(
    database: &config::Database,
    kms: &config::Kms,
    roots: &[Ready],
) -> Result<VaultBuilder, Failure> {
    let (first, further) =
        roots.split_first().ok_or_else(|| Failure::settings("KMS_PROVIDER is required."))?;
    let mut builder =
        Vault::builder(self::database(database)?, first.provider.clone()).first_root_name(&first.name);
    for root in further {
        builder = builder.add_root(&root.name, root.provider.clone());
    }
    Ok(match &kms.anchor_file {
        Some(file) => builder.anchor(file),
        None => builder,
    })
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

/// What exchanges of foreign proofs for tokens stand on, if we are a client of the issuer that can have some minted.
fn exchange(config: &Config, egress: &Egress, verifier: &Arc<TokenVerifier>) -> Option<ExchangeSettings> {
    let client = config.identity.client.as_ref()?;
    let audience = config.identity.audiences.first()?.clone();
    let minter = ScaiKeyMinter::new(
        egress.clone(),
        config.identity.issuer.clone(),
        (client.id.clone(), Zeroizing::new(client.secret.expose().to_owned())),
        audience,
        Arc::clone(verifier),
        Arc::new(SystemClock),
    );
    Some(ExchangeSettings { minter: Arc::new(minter), outside: Arc::new(egress.clone()) })
}

/// Where the directory is synced from, if we are a client of the issuer that may list it.
fn directory(config: &Config, egress: &Egress) -> Option<HttpDirectory> {
    let client = config.identity.client.as_ref()?;
    let secret = Zeroizing::new(client.secret.expose().to_owned());
    Some(HttpDirectory::new(egress.clone(), config.identity.issuer.clone(), (client.id.clone(), secret)))
}

fn verifier(config: &Config, egress: &Egress) -> Result<TokenVerifier, Failure> {
    let (issuer, jwks) = (config.identity.issuer.clone(), config.identity.jwks.clone());
    let source: Arc<dyn JwksSource> = Arc::new(HttpJwks::new(egress.clone(), issuer.clone(), jwks));
    let settings = TokenSettings {
        issuers: vec![config.identity.issuer.as_str().to_owned()],
        audiences: config.identity.audiences.clone(),
        default_partner: None,
    };
    let verifier = TokenVerifier::new(source, settings, Arc::new(SystemClock)).map_err(Failure::settings)?;
    let Some(client) = &config.identity.client else { return Ok(verifier) };
    let url = config.identity.introspection.clone();
    let secret = Zeroizing::new(client.secret.expose().to_owned());
    let source = HttpIntrospection::new(egress.clone(), issuer, url, &client.id, secret);
    Ok(verifier.with_introspection(Arc::new(source)))
}
