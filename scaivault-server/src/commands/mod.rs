//! The command line: what the binary can be told to do, one file a command.

mod audit;
mod check_config;
mod dev;
mod dev_token;
mod keys;
mod migrate;
mod serve;
mod start;

use std::{
    error::Error as StdError,
    fmt,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use scaivault_core::{Code, Error};

use crate::config::ConfigError;

/// Secrets and certificates behind one API.
#[derive(Debug, Parser)]
#[command(name = "scaivault-server", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the API with the settings of the environment.
    Serve {
        /// Refuses a schema that is behind instead of migrating it (as MIGRATE_ON_START=false).
        #[arg(long)]
        no_migrate: bool,
    },
    /// Brings the database's schema up to date.
    Migrate {
        /// Only says what would be done: exits with 0 if that can be, with 3 if the schema is newer than this build.
        #[arg(long)]
        dry_run: bool,
        /// First makes the PostgreSQL roles of migrations/README.md that are missing, with the passwords in
        /// DATABASE_OWNER_PASSWORD and DATABASE_APP_PASSWORD (or the files that …_FILE name), if there are any.
        #[arg(long, conflicts_with = "dry_run")]
        create_roles: bool,
    },
    /// Serves the API on this machine with nothing installed: SQLite, a software root key, tokens of its own.
    Dev {
        #[command(subcommand)]
        command: Option<DevCommand>,
        /// Where to listen: a loopback address; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:8443")]
        bind: SocketAddr,
        /// Where to keep the data; a folder for this run alone if not given.
        #[arg(long)]
        data_dir: Option<PathBuf>,
        /// A PostgreSQL for development instead of SQLite in the folder, which must then be named.
        #[arg(long, requires = "data_dir")]
        database_url: Option<String>,
    },
    /// Rotates and checks the keys between the root key and the rows, while servers go on.
    Keys(keys::Options),
    /// Ends the quarantine of a database that was put back to an older state.
    Recover {
        /// Takes the database as it is; the audit trail says so.
        #[arg(long, required = true)]
        accept_rollback: bool,
        #[command(flatten)]
        place: audit::Place,
    },
    /// Proves the audit trail.
    Audit {
        #[command(subcommand)]
        command: Box<audit::AuditCommand>,
    },
    /// Prints the version.
    Version,
    /// Checks the settings, every root key and the database, and prints what it found.
    CheckConfig {
        /// Prints every setting there is, as docs/SETTINGS.md has them, and checks nothing.
        #[arg(long)]
        settings_table: bool,
    },
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    /// Prints a token of the development issuer.
    Token(Box<dev_token::Options>),
}

/// How a command failed: what to say, and the exit code.
#[derive(Debug)]
struct Failure {
    exit: u8,
    error: Box<dyn StdError + Send + Sync>,
}

/// Something went wrong.
const GENERAL: u8 = 1;
/// The settings are not usable.
const SETTINGS: u8 = 2;
/// The database's schema is not what this build needs.
const SCHEMA: u8 = 3;

impl Failure {
    fn general(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { exit: GENERAL, error: error.into() }
    }

    fn settings(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { exit: SETTINGS, error: error.into() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::settings(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::general(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.code() {
            Code::InvalidState => SCHEMA,
            // What we asked for ourselves, as the settings have it: a role that may not serve, say.
            Code::InvalidRequest => SETTINGS,
            _ => GENERAL,
        };
        Self { exit, error: error.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut next = self.error.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

/// Does what the command line says. Exit codes: 0 done, 1 failed, 2 settings, 3 schema.
#[must_use]
pub fn run() -> ExitCode {
    // A command line that means nothing ends here, with 2, and clap's own words.
    let command = Cli::parse().command;
    // This is the program, not a library: it may choose the cryptography for the process. Only a second
    // choice can fail.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(&Failure::general(error)),
    };
    match runtime.block_on(execute(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => tell(&failure),
    }
}

async fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve { no_migrate } => serve::serve(no_migrate).await,
        Command::Migrate { dry_run, create_roles } => migrate::migrate(dry_run, create_roles).await,
        Command::Dev { command: Some(DevCommand::Token(options)), data_dir, .. } => {
            say(&dev_token::token(&options, data_dir.as_deref())?)
        }
        Command::Dev { command: None, bind, data_dir, database_url } => {
            dev::dev(bind, data_dir.as_deref(), database_url.as_deref()).await
        }
        Command::Keys(options) => keys::keys(options).await,
        Command::Recover { accept_rollback: _, place } => {
            let vault = place.open().await?;
            let done = vault.accept_rollback().await;
            vault.close().await;
            say(&format!("accepted: {}", done?))
        }
        Command::Audit { command } => audit::audit(*command).await,
        Command::Version => say(concat!("scaivault-server ", env!("CARGO_PKG_VERSION"))),
        Command::CheckConfig { settings_table } => check_config::check_config(settings_table).await,
    }
}

/// One line, or several, on standard output.
fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn tell(failure: &Failure) -> ExitCode {
    // There is nowhere to report that standard error is gone.
    let _ = writeln!(io::stderr().lock(), "scaivault-server: {failure}");
    ExitCode::from(failure.exit)
}
