use std::time::{Duration, Instant};

use scaivault_core::SchemaState;
use scaivault_kms::{Attestation, Context, Description, KmsError, SecretKey};

use super::{Failure, say, serve};
use crate::{
    config::{self, Config},
    http::tls,
    roots::{self, Ready},
};

/// `check-config`: reads everything that `serve` would read, asks every root key and the database, and says what it
/// found. Changes nothing.
pub(super) async fn check_config(settings_table: bool) -> Result<(), Failure> {
    if settings_table {
        return say(config::document().trim_end());
    }
    let config = Config::from_env()?;
    if let Some(files) = &config.http.tls {
        tls::acceptor(&files.certificates, &files.key, files.clients.as_deref())
            .map_err(Failure::settings)?;
    }
    let roots = roots::ready(&config.kms.roots).await.map_err(Failure::settings)?;
    let builder = serve::builder_over(&config, &roots)?;
    builder.check_fence().await?;
    let schema = match builder.schema().await? {
        SchemaState::Current => "up to date".to_owned(),
        SchemaState::Behind(missing) => format!("behind by the migrations {missing:?}"),
        SchemaState::Ahead(version) => format!("ahead: migration {version} is not known to this build"),
    };
    say(&format!(
        "settings: ok\nlistens on: {}{}\nbase url: {}\nissuer: {}\ndatabase: reachable, schema {schema}",
        config.http.bind,
        if config.http.tls.is_some() { " (TLS)" } else { " (plain HTTP)" },
        config.http.base_url.as_str(),
        config.identity.issuer.as_str(),
    ))?;
    let mut failed = Vec::new();
    for root in &roots {
        match tried(root).await {
            Ok(trial) => say(&format!("root key {}: {trial}", root.name))?,
            Err(error) => {
                let reason = roots::told(&error);
                say(&format!("root key {}: FAILED: {reason}", root.name))?;
                failed
                    .push(format!("the root key {} ({}) cannot be used: {reason}", root.name, root.variable));
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::settings(failed.join("\n"))) }
}

/// What a root key said, in one line: how it wraps, and how long that took.
async fn tried(root: &Ready) -> Result<String, KmsError> {
    let provider = &root.provider;
    let health = provider.health().await?.latency;
    let key = SecretKey::generate()?;
    let context = Context::new().with("purpose", "check-config");
    let started = Instant::now();
    let wrapped = provider.wrap(&key, &context).await?;
    let wrap = started.elapsed();
    let started = Instant::now();
    let opened = provider.unwrap(&wrapped, &context).await?;
    let unwrap = started.elapsed();
    let Description {
        provider: kind,
        key_id,
        key_version,
        native_context,
        key_bits,
        extractable,
        attestation,
        ..
    } = provider.describe();
    if !opened.ct_eq(&key) {
        let message = "another key came back than was wrapped".to_owned();
        return Err(KmsError::Device { provider: kind, message, source: None });
    }
    let version = key_version.map(|version| format!(" version {version}")).unwrap_or_default();
    let bound = if native_context { "the provider" } else { "us" };
    let kept = match (extractable, attestation) {
        (true, _) => "extractable",
        (false, Attestation::Device) => "not extractable, as the device enforces",
        (false, Attestation::Service) => "not extractable, as the service says",
        (false, _) => "not extractable",
    };
    let bits = key_bits.map(|bits| format!(", {bits} bits")).unwrap_or_default();
    Ok(format!(
        "{kind} {key_id}{version}, {}{bits}, context bound by {bound}, {kept}; health {}, wrap {}, unwrap {}",
        wrapped.algorithm,
        millis(health),
        millis(wrap),
        millis(unwrap)
    ))
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
