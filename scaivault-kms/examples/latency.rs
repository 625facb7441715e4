//! How long the providers take: p50 and p99 of wrap, unwrap and sign, one call after the other and through the
//! guard, in a table. Reads the variables that the tests read; `scripts/kms-test --latency` sets them.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "which peers there are is told by the environment")]

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use scaivault_kms::{
    Context, KeyProvider, KeySpec, Secret, SecretKey,
    aws::{AwsConfig, AwsProvider},
    guard::{Guarded, Limits},
    local::{KeyFile, LocalProvider},
    transit::{Auth, TransitConfig, TransitProvider},
};

const CALLS: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("| provider | wrap p50 | p99 | unwrap p50 | p99 | sign P-256 p50 | p99 |");
    println!("|---|---|---|---|---|---|---|");
    show("local", Arc::new(LocalProvider::new(KeyFile::generate()?))).await?;
    for name in ["SCAIVAULT_TEST_TRANSIT", "SCAIVAULT_TEST_TRANSIT_TLS"] {
        let (Ok(address), Ok(token)) = (std::env::var(name), std::env::var("SCAIVAULT_TEST_TRANSIT_TOKEN"))
        else {
            println!("| ({name} is not set) |");
            continue;
        };
        let mut config = TransitConfig::new(address, "latency", Auth::Token(Secret::new(token.into_bytes())));
        if let Ok(path) = std::env::var(format!("{name}_CA")) {
            config.ca_pem = Some(std::fs::read(path)?);
        }
        let label = if config.ca_pem.is_some() { "transit, TLS" } else { "transit" };
        show(label, Arc::new(TransitProvider::connect(config).await?)).await?;
    }
    if let (Ok(endpoint), Ok(key)) =
        (std::env::var("SCAIVAULT_TEST_AWS"), std::env::var("SCAIVAULT_TEST_AWS_KEY"))
    {
        let mut config = AwsConfig::new(key);
        config.endpoint = Some(endpoint);
        show("aws (moto)", Arc::new(AwsProvider::connect(config).await?)).await?;
    }
    Ok(())
}

async fn show(label: &str, inner: Arc<dyn KeyProvider>) -> Result<(), Box<dyn Error>> {
    let provider = Guarded::new(inner, Limits::default());
    let context = Context::new().with("partner", "ptn_latency");
    let (mut wraps, mut unwraps, mut signs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let key = SecretKey::generate()?;
        let start = Instant::now();
        let wrapped = provider.wrap(&key, &context).await?;
        wraps.push(start.elapsed());
        let start = Instant::now();
        provider.unwrap(&wrapped, &context).await?;
        unwraps.push(start.elapsed());
    }
    if let Ok(key) = provider.create_signing_key("latency-ca", KeySpec::EcP256).await {
        for _ in 0..CALLS {
            let start = Instant::now();
            key.sign(KeySpec::EcP256.default_scheme(), &[7; 1000]).await?;
            signs.push(start.elapsed());
        }
    }
    let columns =
        [wraps, unwraps, signs].map(|samples| format!("{} | {}", at(&samples, 50), at(&samples, 99)));
    println!("| {label} | {} |", columns.join(" | "));
    Ok(())
}

/// A percentile, in milliseconds.
fn at(samples: &[Duration], percent: usize) -> String {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let found = sorted.get(sorted.len() * percent / 100);
    found.map_or("–".to_owned(), |took| format!("{:.2}", took.as_secs_f64() * 1000.0))
}
