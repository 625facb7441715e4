use scaivault_core::SchemaState;

use super::{Failure, say, serve};
use crate::{config::Config, http::tls};

/// `check-config`: reads everything that `serve` would read, and says what it found. Changes nothing.
pub(super) async fn check_config() -> Result<(), Failure> {
    let config = Config::from_env()?;
    if let Some(files) = &config.http.tls {
        tls::acceptor(&files.certificates, &files.key).map_err(Failure::settings)?;
    }
    let builder = serve::builder(&config)?;
    builder.check_fence().await?;
    let schema = match builder.schema().await? {
        SchemaState::Current => "up to date".to_owned(),
        SchemaState::Behind(missing) => format!("behind by the migrations {missing:?}"),
        SchemaState::Ahead(version) => format!("ahead: migration {version} is not known to this build"),
    };
    say(&format!(
        "settings: ok\nlistens on: {}{}\nbase url: {}\nissuer: {}\nroot key: local, readable\ndatabase: reachable, schema {schema}",
        config.http.bind,
        if config.http.tls.is_some() { " (TLS)" } else { " (plain HTTP)" },
        config.http.base_url.as_str(),
        config.identity.issuer.as_str(),
    ))
}
