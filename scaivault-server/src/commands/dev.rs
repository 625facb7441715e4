use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use scaivault_core::{
    ClientIdentities, Database, PartnerId, StaticJwks, SystemClock, TokenSettings, TokenVerifier, Vault,
    egress::Egress,
    trust::{ExchangeSettings, TokenMinter},
};
use tokio::net::TcpListener;

use super::{Failure, say, start};
use crate::{
    config::Log,
    dev::{Claims, DataDir, DevIssuer, PARTNER, TENANT},
    http::{origin::TrustedProxies, stop},
    logging,
    metrics::Metrics,
};

/// `dev`: everything with nothing installed, on this machine only.
pub(super) async fn dev(
    bind: SocketAddr,
    data_dir: Option<&Path>,
    database_url: Option<&str>,
) -> Result<(), Failure> {
    if !bind.ip().is_loopback() {
        let message =
            format!("--bind {bind}: development mode listens on loopback only, such as 127.0.0.1:8443");
        return Err(Failure::settings(message));
    }
    logging::start(Log::from_env()?);
    let dir = DataDir::open(data_dir)
        .map_err(|error| Failure::general(format!("the data folder cannot be used: {error}")))?;
    let issuer = Arc::new(DevIssuer::open(dir.path()).map_err(Failure::general)?);
    let database = match database_url {
        Some(url) => Database::postgres(url, POOL).map_err(Failure::settings)?,
        None => Database::sqlite(dir.database()),
    };
    let listener = TcpListener::bind(bind)
        .await
        .map_err(|error| Failure::general(format!("cannot listen on {bind}: {error}")))?;
    let url = format!("http://{}", listener.local_addr()?);
    let sealed = match database_url {
        Some(_) => Vault::holds_keys(&database).await?,
        None => dir.database().exists(),
    };
    let vault = Vault::builder(database, dir.root_key(sealed).map_err(Failure::general)?)
        .base_url(&url)
        .exchange(ExchangeSettings {
            minter: Arc::clone(&issuer) as Arc<dyn TokenMinter>,
            outside: Arc::new(Egress::builder().build()?),
        })
        .default_partner(PartnerId::parse(PARTNER)?)
        // Whatever role a developer has at hand.
        .allow_unfenced(true)
        .open()
        .await?;
    // Before anybody is told that it runs, and may tell it to stop.
    let stop = stop::on_signals()?;
    greet(&url, &issuer, &dir, data_dir.is_some())?;
    let app = start::App {
        vault,
        verifier: Arc::new(verifier(&issuer)?),
        metrics: Metrics::default(),
        proxies: TrustedProxies::default(),
        identities: ClientIdentities::default(),
        revocation: None,
    };
    start::serve(listener, app, None, Duration::from_secs(30), stop).await
}

/// Connections to PostgreSQL.
pub(super) const POOL: u32 = 16;

fn verifier(issuer: &DevIssuer) -> Result<TokenVerifier, Failure> {
    let settings = TokenSettings {
        issuers: vec![DevIssuer::ISSUER.to_owned()],
        audiences: vec![DevIssuer::AUDIENCE.to_owned()],
        default_partner: None,
    };
    let keys = Arc::new(StaticJwks::new(issuer.jwks()));
    TokenVerifier::new(keys, settings, Arc::new(SystemClock)).map_err(Failure::general)
}

/// The lines that a script cuts, then a hint for people.
fn greet(url: &str, issuer: &DevIssuer, dir: &DataDir, kept: bool) -> Result<(), Failure> {
    let claims = Claims {
        identity: "user:admin@dev.example".to_owned(),
        tenant: TENANT.to_owned(),
        partner: PARTNER.to_owned(),
        scopes: "admin".to_owned(),
        groups: Vec::new(),
        roles: vec!["tenant_admin".to_owned()],
        ttl: Duration::from_secs(24 * 3600),
    };
    let token = issuer.token(&claims).map_err(Failure::general)?;
    let kept = if kept { "kept" } else { "removed when this stops" };
    say(&format!(
        "url: {url}\n\
         tenant: {TENANT}\n\
         admin token: {token}\n\
         data: {} ({kept})\n\
         \n\
         This is development mode: a software root key, tokens of its own, this machine only. Try:\n\
         \n  export TOKEN=<the admin token>\n  \
         curl -X PUT {url}/v1/secrets/app/db -H \"Authorization: Bearer $TOKEN\" \\\n    \
         -H 'Content-Type: application/json' -d '{{\"data\": {{\"password\": \"correct horse\"}}}}'\n  \
         curl {url}/v1/secrets/app/db -H \"Authorization: Bearer $TOKEN\"\n",
        dir.path().display(),
    ))
}
