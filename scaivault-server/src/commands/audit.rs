use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use scaivault_core::{
    AuditKey, Caller, Database, Error, Line, ProofRange, SchemaState, TenantId, Vault, Verdict, rfc3339,
    verify_export,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Failure, SCHEMA, dev, say, serve};
use crate::{config::KeyedConfig, dev::DataDir, logging, roots};

/// What to do with the audit trail.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Verifies the trail of every tenant, or of one, in the database; or one that was exported.
    Verify {
        /// Only what was recorded at or after this time, such as 2026-11-22T02:29:00Z.
        #[arg(long, value_parser = time, conflicts_with = "file")]
        from: Option<OffsetDateTime>,
        /// Only what was recorded before this time.
        #[arg(long, value_parser = time, conflicts_with = "file")]
        to: Option<OffsetDateTime>,
        /// Only this tenant.
        #[arg(long, conflicts_with = "file")]
        tenant: Option<String>,
        /// An exported trail; no database is touched.
        #[arg(long, requires = "public_key", conflicts_with_all = ["data_dir", "database_url"])]
        file: Option<PathBuf>,
        /// The public key that signed the exported trail, PEM.
        #[arg(long, requires = "file")]
        public_key: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Writes the trail of a tenant and what proves it to a file, one JSON object a line.
    Export {
        /// The tenant.
        #[arg(long)]
        tenant: String,
        /// The file, made anew.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Prints the public key of the trail's signatures, PEM.
    PublicKey {
        #[command(flatten)]
        place: Place,
    },
}

/// Where the vault is: what the environment says, unless a folder of `dev` is named.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The folder of a `dev` vault.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The PostgreSQL of that `dev` vault.
    #[arg(long, requires = "data_dir")]
    database_url: Option<String>,
}

/// `audit`: the proof that the trail is what it was. Ends with 1 if it is not.
pub(super) async fn audit(command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Verify { file: Some(file), public_key: Some(key), .. } => verify_file(&file, &key),
        AuditCommand::Verify { from, to, tenant, place, .. } => {
            let vault = place.open().await?;
            let done = verify(&vault, ProofRange { from, to }, tenant).await;
            vault.close().await;
            done
        }
        AuditCommand::Export { tenant, out, place } => {
            let vault = place.open().await?;
            let done = export(&vault, &tenant, &out).await;
            vault.close().await;
            done
        }
        AuditCommand::PublicKey { place } => {
            let vault = place.open().await?;
            let key = vault.audit_key().await;
            vault.close().await;
            say(key?.to_pem().trim_end())
        }
    }
}

impl Place {
    /// Opens the vault as it is: nothing is made or migrated.
    pub(super) async fn open(self) -> Result<Vault, Failure> {
        let builder = match &self.data_dir {
            Some(dir) => {
                let dir = DataDir::open(Some(&fs::canonicalize(dir)?))?;
                let database = match &self.database_url {
                    Some(url) => Database::postgres(url, dev::POOL).map_err(Failure::settings)?,
                    None => Database::sqlite(dir.database()),
                };
                Vault::builder(database, dir.root_key(true).map_err(Failure::general)?).allow_unfenced(true)
            }
            None => {
                let config = KeyedConfig::from_env()?;
                logging::start(config.log);
                let roots = roots::ready(&config.kms.roots).await.map_err(Failure::settings)?;
                serve::keyed(&config.database, &config.kms, &roots)?
            }
        };
        let builder = builder.migrate(false);
        match builder.schema().await? {
            SchemaState::Current => Ok(builder.open().await?),
            _ => Err(Failure {
                exit: SCHEMA,
                error: "the schema is not what this build needs: migrate it first".into(),
            }),
        }
    }
}

async fn verify(vault: &Vault, range: ProofRange, tenant: Option<String>) -> Result<(), Failure> {
    let tenants = match tenant {
        Some(tenant) => vec![known(vault, &tenant).await?],
        None => vault.audited_tenants().await?,
    };
    let mut bad = 0;
    for tenant in tenants {
        let ctx = vault.ctx(Caller::system("audit-verify", tenant)?)?;
        let verdict = vault.audit(&ctx).verify(range).await?;
        bad += usize::from(!verdict.is_good());
        say(&told(&verdict))?;
    }
    judged(bad)
}

fn verify_file(file: &Path, key: &Path) -> Result<(), Failure> {
    let key = AuditKey::from_pem(&fs::read_to_string(key)?).map_err(Failure::settings)?;
    let lines = BufReader::new(File::open(file)?).lines().enumerate().map(|(number, line)| {
        let line = line.map_err(|error| Failure::general(format!("line {}: {error}", number + 1)))?;
        serde_json::from_str::<Line>(&line).map_err(|error| {
            Failure::general(format!("line {}: not a line of an export: {error}", number + 1))
        })
    });
    let verdict = verify_export(&key, lines)?;
    say(&told(&verdict))?;
    judged(usize::from(!verdict.is_good()))
}

/// A tenant that there is: asking about another must not make it.
async fn known(vault: &Vault, id: &str) -> Result<TenantId, Failure> {
    let found = vault.audited_tenants().await?.into_iter().find(|tenant| tenant.as_str() == id);
    found.ok_or_else(|| Failure::general(format!("there is no tenant {id}")))
}

async fn export(vault: &Vault, tenant: &str, out: &Path) -> Result<(), Failure> {
    let tenant = known(vault, tenant).await?;
    let mut file = BufWriter::new(File::create(out)?);
    let ctx = vault.ctx(Caller::system("audit-export", tenant)?)?;
    let write = |line: &Line| {
        serde_json::to_writer(&mut file, line).map_err(Error::internal)?;
        file.write_all(b"\n").map_err(Error::internal)
    };
    let records = vault.audit(&ctx).export(write).await?;
    file.into_inner().map_err(|error| Failure::general(error.to_string()))?.sync_all()?;
    say(&format!("exported {records} records"))
}

/// A verdict in a line.
fn told(verdict: &Verdict) -> String {
    let tenant = &verdict.tenant_id;
    match &verdict.fault {
        Some(fault) => format!("BAD  {tenant}: {fault}"),
        None if verdict.last_seq < verdict.first_seq => format!("good {tenant}: nothing to verify"),
        None => {
            let signed = match (verdict.signed_seq, verdict.signed_at) {
                (Some(seq), Some(at)) => format!("signed up to {seq} at {}", rfc3339(at)),
                _ => "not signed yet".to_owned(),
            };
            let (first, last, hash) = (verdict.first_seq, verdict.last_seq, verdict.last_hash);
            format!("good {tenant}: records {first} to {last}, {signed}, hash {hash}")
        }
    }
}

fn judged(bad: usize) -> Result<(), Failure> {
    if bad == 0 { Ok(()) } else { Err(Failure::general("the audit trail is not what it was")) }
}

fn time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "must be a time such as 2026-11-22T02:29:00Z".to_owned())
}
