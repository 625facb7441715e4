use std::path::{Path, PathBuf};

use clap::Args;
use scaivault_core::DurationText;

use super::Failure;
use crate::dev::{Claims, DevIssuer, PARTNER, TENANT};

/// What to put into a development token.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The folder of the development server.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Who: `sa:billing` is a service account, `user:alice@acme.example` a user.
    #[arg(long)]
    identity: String,
    /// Scopes, separated by spaces.
    #[arg(long)]
    scopes: String,
    /// Groups, separated by commas.
    #[arg(long, value_delimiter = ',')]
    groups: Vec<String>,
    /// Roles, separated by commas.
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
    /// The tenant that the token speaks for.
    #[arg(long, default_value = TENANT)]
    tenant: String,
    /// The partner whose tenant that is.
    #[arg(long, default_value = PARTNER)]
    partner: String,
    /// How long the token is good for.
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: DurationText,
}

fn duration(text: &str) -> Result<DurationText, String> {
    text.parse().map_err(|error: scaivault_core::Error| error.message().to_owned())
}

/// `dev token`: a token of the issuer in the folder, which must be there.
pub(super) fn token(options: &Options, data_dir: Option<&Path>) -> Result<String, Failure> {
    let dir = options.data_dir.as_deref().or(data_dir);
    let dir =
        dir.ok_or_else(|| Failure::settings("--data-dir is needed: the folder of the development server"))?;
    if !dir.join("issuer.key").exists() {
        let message =
            format!("{} is not the folder of a development server: start `dev` on it first", dir.display());
        return Err(Failure::settings(message));
    }
    let issuer = DevIssuer::open(dir).map_err(Failure::general)?;
    let claims = Claims {
        identity: options.identity.clone(),
        tenant: options.tenant.clone(),
        partner: options.partner.clone(),
        scopes: options.scopes.clone(),
        groups: options.groups.clone(),
        roles: options.roles.clone(),
        ttl: options.ttl.get(),
    };
    issuer.token(&claims).map_err(Failure::general)
}
