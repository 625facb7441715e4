use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use scaivault_core::{
    Caller, Code, Ctx, Database, Error, PartnerId, TenantId, Vault,
    keys::{
        KeyReport, KeyStatus, OldKey, Progress, RecoveryDrill, RecoveryMade, RecoveryShare, RootKeyStatus,
        RootRemoved, RootStatus, Rotation, Verify,
    },
    rfc3339,
};
use zeroize::Zeroizing;

use super::{Failure, dev::POOL, say, serve};
use crate::{
    config::{Config, Log},
    dev::{DataDir, PARTNER},
    logging,
};

/// What `keys` is told.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
    /// The folder of a development server, instead of the settings of `serve`.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    /// The PostgreSQL of that development server, if it has one.
    #[arg(long, global = true, requires = "data_dir")]
    database_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the keys, and what is still under the old ones.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Wraps every partner key under the current version of the root keys that the settings name.
    RotateRoot {
        /// Makes a version of a root key by the service's own means before, once: of the one of this name in the
        /// settings, or of the first.
        #[arg(long, value_name = "NAME", num_args = 0..=1)]
        in_place: Option<Option<String>>,
    },
    /// Wraps every key under one more root key of the settings.
    AddRoot {
        /// Its name in the settings.
        name: String,
        /// Opens the keys by shares of the recovery root, read from standard input, one a line: for when no root key
        /// that they are under is there any more.
        #[arg(long)]
        recovery: bool,
    },
    /// Takes the wraps of a root key away, after every key was opened by another: then it is no longer needed.
    RemoveRoot {
        /// Its name in the settings, or the kind of its provider, a colon and its name there, as `status` shows it.
        root: String,
    },
    /// Makes the root key in every provider of the settings that has none.
    Bootstrap,
    /// Makes a recovery root, prints the shares of its key, and wraps every key to it. They are nowhere else.
    RecoveryCreate {
        /// How many shares, at most 16.
        #[arg(long)]
        shares: u8,
        /// How many of them make the key, at least 2.
        #[arg(long)]
        threshold: u8,
    },
    /// Opens every key by shares of the recovery root, read from standard input, one a line. Changes nothing.
    RecoveryDrill,
    /// Takes the recovery root away; its shares are of no use then.
    RecoveryRemove,
    /// Makes a new key for a partner and wraps his tenants' keys under it.
    RotatePartner {
        /// The partner.
        id: String,
    },
    /// Makes a new key for a tenant and wraps the data keys of its rows under it.
    RotateTenant {
        /// The tenant.
        id: String,
        /// Waits until the old key is destroyed, instead of leaving that to the server.
        #[arg(long)]
        wait: bool,
    },
    /// Opens the keys and names what does not open.
    Verify {
        /// Open this many data keys of each table of each tenant, instead of all.
        #[arg(long)]
        sample: Option<usize>,
    },
}

/// `keys`: the life of the keys between the root key and the rows, while servers go on.
pub(super) async fn keys(options: Options) -> Result<(), Failure> {
    let vault = open(options.data_dir.as_deref(), options.database_url.as_deref()).await?;
    let done = execute(&vault, options.command).await;
    vault.close().await;
    done
}

/// The vault of the settings or of the folder. A schema that is behind is refused: a server migrates it.
async fn open(data_dir: Option<&Path>, database_url: Option<&str>) -> Result<Vault, Failure> {
    let Some(data_dir) = data_dir else {
        let config = Config::from_env()?;
        logging::start(config.log);
        return Ok(serve::builder(&config).await?.migrate(false).open().await?);
    };
    logging::start(Log::from_env()?);
    if !data_dir.join("root.key").exists() {
        let message = format!(
            "{} is not the folder of a development server: start `dev` on it first",
            data_dir.display()
        );
        return Err(Failure::settings(message));
    }
    let dir = DataDir::open(Some(data_dir))?;
    let database = match database_url {
        Some(url) => Database::postgres(url, POOL).map_err(Failure::settings)?,
        None => Database::sqlite(dir.database()),
    };
    // A vault of `dev`, which does not insist on the fence either.
    let builder =
        Vault::builder(database, dir.root_key(true).map_err(Failure::general)?).allow_unfenced(true);
    Ok(builder.default_partner(PartnerId::parse(PARTNER)?).migrate(false).open().await?)
}

async fn execute(vault: &Vault, command: Command) -> Result<(), Failure> {
    let ctx = vault.ctx(Caller::system("key-rotation", TenantId::parse(OPERATOR)?)?)?;
    let told = Told::new(io::stderr().is_terminal());
    let watch = |progress| told.tell(progress);
    let done = run(vault, &ctx, command, &watch, &told).await;
    if done.is_err() {
        told.end();
    }
    done
}

async fn run(
    vault: &Vault,
    ctx: &Ctx,
    command: Command,
    watch: &(dyn Fn(Progress) + Send + Sync),
    told: &Told,
) -> Result<(), Failure> {
    let keys = vault.keys(ctx).watched(watch);
    match command {
        Command::Status { json: true } => {
            say(&serde_json::to_string_pretty(&keys.status().await?).map_err(Failure::general)?)
        }
        Command::Status { json: false } => say(&table(&keys.status().await?)),
        Command::RotateRoot { in_place } => {
            let done = match in_place {
                Some(name) => keys.rotate_root_in_place(name.as_deref()).await.map_err(refused)?,
                None => keys.rotate_root().await?,
            };
            told.end();
            say(&format!(
                "root key {}: {} partner keys wrapped anew, {} were under it already",
                root(&done.root),
                done.rewrapped,
                done.current
            ))
        }
        Command::AddRoot { name, recovery } => {
            let added = match recovery {
                false => keys.add_root(&name).await?,
                true => keys.add_root_by_recovery(&name, &read_shares()?).await?,
            };
            told.end();
            say(&format!(
                "root key {}: {} keys wrapped under it, {} were already",
                root(&added.root),
                added.wrapped,
                added.current
            ))
        }
        Command::RemoveRoot { root } => {
            let removed = keys.remove_root(&root).await.map_err(refused)?;
            told.end();
            say(&format!("root key {} {}: {}", removed.provider, removed.key_id, fate_of_root(&removed)))
        }
        Command::Bootstrap => {
            for made in keys.bootstrap().await.map_err(refused)? {
                let what = if made.made { "made" } else { "was there" };
                say(&format!("root key {} ({}): {what}", made.name, root(&made.root)))?;
            }
            Ok(())
        }
        Command::RecoveryCreate { shares, threshold } => {
            let made = keys.recovery_create(shares, threshold).await?;
            told.end();
            hand_out(&made)?;
            if let Some(error) = made.unfinished {
                let error = Failure::general(error);
                note(&format!("not all keys are wrapped to it yet, which the server goes on with: {error}"));
            }
            let dropped = keys.recovery_settle().await.map_err(|error| {
                let error = Failure::general(error);
                let message = "the shares above are good; of the recovery root before, the wraps are there still, and \
                               `keys remove-root recovery:FINGERPRINT` takes them away";
                Failure::general(format!("{message}: {error}"))
            })?;
            told.end();
            match dropped {
                0 => Ok(()),
                _ => say(&format!("the recovery root before is removed: {dropped} wraps taken away")),
            }
        }
        Command::RecoveryDrill => {
            let drill = keys.recovery_drill(&read_shares()?).await?;
            told.end();
            drilled(&drill)
        }
        Command::RecoveryRemove => {
            let dropped = keys.recovery_remove().await.map_err(refused)?;
            told.end();
            say(&format!(
                "the recovery root is removed: {dropped} wraps taken away. Its shares still open backups from before: \
                 rotate the partners' keys if they may be in the wrong hands"
            ))
        }
        Command::RotatePartner { id } => {
            let rotation = keys.rotate_partner(&PartnerId::parse(id)?).await?;
            told.end();
            finish(&rotation)
        }
        Command::RotateTenant { id, wait } => {
            // What stands for a partner can be named here, and nowhere else from outside.
            let known = vault.audited_tenants().await?.into_iter().find(|tenant| tenant.as_str() == id);
            let tenant = known.map_or_else(|| TenantId::parse(id), Ok)?;
            let mut rotation = keys.rotate_tenant(&tenant).await?;
            told.end();
            if wait {
                rotation = settle(vault, ctx, &tenant, rotation).await?;
            }
            finish(&rotation)
        }
        Command::Verify { sample } => {
            let report = keys.verify(sample.map_or(Verify::All, Verify::Sample)).await?;
            told.end();
            verdict(&report)
        }
    }
}

/// A root key in a state that forbids it is no matter of the schema.
fn refused(error: Error) -> Failure {
    match error.code() {
        Code::InvalidState => Failure::general(error),
        _ => error.into(),
    }
}

/// Shares from standard input, one a line. What is wrong with one is said by its line; nothing of it is shown.
fn read_shares() -> Result<Vec<RecoveryShare>, Failure> {
    if io::stdin().is_terminal() {
        note("shares of the recovery root, one a line, then Ctrl-D:");
    }
    // Never grown, and past the buffer of standard input, so that no copy is left behind.
    let mut text = Zeroizing::new(String::with_capacity(SHARES_BYTES));
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    stdin.take(SHARES_BYTES as u64).read_to_string(&mut text)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let shares = lines.map(|(at, line)| {
        RecoveryShare::parse(line)
            .map_err(|error| Failure::general(format!("line {}: {}", at + 1, error.message())))
    });
    shares.collect()
}

fn hand_out(made: &RecoveryMade) -> Result<(), Failure> {
    say(&format!(
        "recovery root {}: {} keys wrapped to it\n\
         {} of these {} shares make its key. Give each to another keeper; they are not shown again.",
        made.fingerprint,
        made.wrapped,
        made.threshold,
        made.shares.len()
    ))?;
    for share in &made.shares {
        say(&format!("\nshare {} of {}:", share.index(), made.shares.len()))?;
        let text = share.text();
        // In one piece: an empty line buffer passes on whole lines without keeping them.
        let mut line = Zeroizing::new(Vec::with_capacity(text.expose().len() + 1));
        line.extend_from_slice(text.expose());
        line.push(b'\n');
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()?;
    }
    Ok(())
}

fn drilled(drill: &RecoveryDrill) -> Result<(), Failure> {
    say(&format!(
        "recovery root {}: {} keys opened by the shares, {} of them compared with the root keys; {} not wrapped to it \
         yet, {} do not open",
        drill.fingerprint, drill.opened, drill.compared, drill.missing, drill.broken_total
    ))?;
    for broken in &drill.broken {
        say(&format!("{} {} of {}: {}", broken.table, broken.row, broken.owner, broken.reason))?;
    }
    match (drill.broken_total, drill.missing) {
        (0, 0) => Ok(()),
        (0, missing) => Err(Failure::general(format!("{missing} keys are not wrapped to the recovery root"))),
        (broken, _) => Err(Failure::general(format!("{broken} keys do not open by the shares"))),
    }
}

/// Looks again until no old key is left, or one that something needs.
async fn settle(
    vault: &Vault,
    ctx: &Ctx,
    tenant: &TenantId,
    mut rotation: Rotation,
) -> Result<Rotation, Failure> {
    while rotation.broken == 0 && rotation.old.iter().any(|old| !old.destroyed) {
        note(&format!("waiting for {}", rotation.old.iter().map(fate).collect::<Vec<_>>().join(", ")));
        tokio::time::sleep(LOOK_AGAIN).await;
        let again = vault.keys(ctx).settle(tenant).await?;
        rotation.rewrapped += again.rewrapped;
        rotation.broken = again.broken;
        for old in &mut rotation.old {
            // Gone between two looks: a server destroyed it.
            let seen = again.old.iter().find(|seen| seen.id == old.id).cloned();
            *old = seen.unwrap_or(OldKey { id: old.id.clone(), destroyed: true, destroy_after: None });
        }
    }
    Ok(rotation)
}

/// The tenant whose audit trail has the acts of operators that concern no tenant of their own.
const OPERATOR: &str = "tnt_operator";
/// Bytes of shares that are read: more than the most and longest there are.
const SHARES_BYTES: usize = 8 << 10;
/// How often `--wait` looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Says on standard error how far an act has come: by a bar on a terminal, elsewhere by a line once in so many
/// rows, and in the end.
#[derive(Debug)]
struct Told {
    terminal: bool,
    last: std::sync::Mutex<(&'static str, u64)>,
}

/// Rows between two lines.
const TELL_EVERY: u64 = 5_000;
/// Signs between the brackets of a bar.
const BAR: u64 = 30;

impl Told {
    fn new(terminal: bool) -> Self {
        Self { terminal, last: std::sync::Mutex::new(("", 0)) }
    }

    fn tell(&self, progress: Progress) {
        let Ok(mut last) = self.last.lock() else { return };
        let Progress { table, done, total } = progress;
        let (new, complete) = (last.0 != table, done == total);
        if self.terminal {
            *last = (table, done);
            // Back to the beginning of the line, and what was there is wiped out.
            let _ = write!(io::stderr().lock(), "\r{}\x1b[K", bar(progress));
        } else if new || complete || done >= last.1 + TELL_EVERY || done < last.1 {
            *last = (table, done);
            note(&format!("{table}: {done} of {total}"));
        }
    }

    /// Leaves the line of the bar, so that what follows has one of its own.
    fn end(&self) {
        if self.terminal && self.last.lock().is_ok_and(|last| !last.0.is_empty()) {
            note("");
        }
    }
}

fn bar(Progress { table, done, total }: Progress) -> String {
    let filled = match total {
        0 => BAR,
        total => (u128::from(done.min(total)) * u128::from(BAR) / u128::from(total)) as u64,
    };
    let signs: String = (0..BAR).map(|at| if at < filled { '#' } else { '.' }).collect();
    format!("{table} [{signs}] {done} of {total}")
}

fn note(line: &str) {
    // There is nowhere to report that standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn finish(rotation: &Rotation) -> Result<(), Failure> {
    let made = if rotation.made { "made" } else { "went on with" };
    let mut lines = format!("{made} key {}: {} wrapped anew", rotation.key_id, rotation.rewrapped);
    for old in &rotation.old {
        lines.push_str(&format!("\nold key {}", fate(old)));
    }
    say(&lines)?;
    match rotation.broken {
        0 => Ok(()),
        count => Err(Failure::general(format!(
            "{count} wraps do not open and keep their old key; `keys verify` names them"
        ))),
    }
}

fn fate(old: &OldKey) -> String {
    match (old.destroyed, old.destroy_after) {
        (true, _) => format!("{}: destroyed", old.id),
        (false, Some(at)) => format!("{}: to be destroyed after {}", old.id, rfc3339(at)),
        (false, None) => format!("{}: still needed; the server goes on with it", old.id),
    }
}

fn fate_of_root(removed: &RootRemoved) -> String {
    let name = removed.name.as_deref().unwrap_or("of it");
    match removed.cas {
        0 => format!("{} wraps taken away; nothing needs it any more", removed.dropped),
        cas => format!(
            "{} wraps taken away; no key of the vault needs it any more. But {cas} CAs have their key in the provider \
             {name}: leave it in the settings by this name, and do not destroy it",
            removed.dropped
        ),
    }
}

fn root(root: &RootKeyStatus) -> String {
    let version = root.key_version.as_deref().map(|version| format!(" version {version}"));
    format!("{} {}{}", root.provider, root.key_id, version.unwrap_or_default())
}

fn root_line(known: &RootStatus) -> String {
    let name = known.name.as_deref().map_or("not configured".to_owned(), |name| format!("{name} here"));
    let version = known.key_version.as_deref().map(|version| format!(" version {version}"));
    let mut line = match known.shares {
        Some((threshold, shares)) => {
            format!("recovery root: {}, {threshold} of {shares} shares, {}", known.key_id, known.state)
        }
        None => {
            let version = version.unwrap_or_default();
            format!("root key: {} {}{version}, {name}, {}", known.provider, known.key_id, known.state)
        }
    };
    if known.state != "removed" || known.wraps > 0 {
        line.push_str(&format!("; {} keys under it", known.wraps));
    }
    if known.missing > 0 {
        line.push_str(&format!(", {} missing", known.missing));
    }
    if let Some(failure) = known.failure {
        line.push_str(&format!("; cannot be used: {failure}"));
    }
    match known.state.as_str() {
        "inactive" => line.push_str(" (opens and does not wrap: add-root)"),
        "removing" => line.push_str(" (not finished: remove-root)"),
        _ => {}
    }
    line.push('\n');
    line
}

fn table(status: &KeyStatus) -> String {
    let mut lines: String = status.roots.iter().map(root_line).collect();
    for key in &status.partner_keys {
        let under = match key.roots.as_slice() {
            [] => "a wrap that cannot be read".to_owned(),
            roots => roots.iter().map(root).collect::<Vec<_>>().join(" and "),
        };
        let current = if key.root_is_current { "" } else { " (not the current one: rotate-root)" };
        let retired = if key.retired_at.is_some() { ", retired" } else { "" };
        lines.push_str(&format!(
            "partner key {} of {}, version {}{retired}: under {under}{current}; {} tenant keys\n",
            key.id, key.partner_id, key.version, key.tenant_keys
        ));
    }
    for key in &status.tenant_keys {
        lines.push_str(&format!(
            "tenant key {} of {}, version {}: under {}",
            key.id, key.tenant_id, key.version, key.partner_key_id
        ));
        if let (Some(at), Some(rows)) = (key.retired_at, key.rows) {
            lines.push_str(&format!(
                ", retired {}; rows: secret_version {}, pki_ca {}, pki_certificate {}, pki_numbering {}",
                rfc3339(at),
                rows.secret_version,
                rows.pki_ca,
                rows.pki_certificate,
                rows.pki_numbering
            ));
        }
        if let Some(at) = key.destroy_after {
            lines.push_str(&format!("; to be destroyed after {}", rfc3339(at)));
        }
        lines.push('\n');
    }
    lines.truncate(lines.trim_end().len());
    lines
}

fn verdict(report: &KeyReport) -> Result<(), Failure> {
    let checked = report.checked;
    say(&format!(
        "opened {} partner keys, {} tenant keys, {} data keys: {} do not open",
        checked.partner_keys, checked.tenant_keys, checked.data_keys, report.broken_total
    ))?;
    for broken in &report.broken {
        say(&format!("{} {} of {}: {}", broken.table, broken.row, broken.owner, broken.reason))?;
    }
    for root in report.roots.iter().filter(|_| report.roots.len() > 1) {
        say(&format!(
            "root key {}: {} wraps opened, {} do not open, {} not checked since it was out",
            root.name, root.opened, root.broken, root.unchecked
        ))?;
    }
    match report.broken_total {
        0 => Ok(()),
        count => Err(Failure::general(format!("{count} keys do not open"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, wraps: u64) -> RootStatus {
        RootStatus {
            name: None,
            provider: "local".to_owned(),
            key_id: "k".to_owned(),
            key_version: None,
            state: state.to_owned(),
            failure: None,
            wraps,
            missing: 0,
            shares: None,
            added_at: None,
            removed_at: None,
        }
    }

    #[test]
    fn stragglers_under_a_removed_root_key_are_shown() {
        assert!(root_line(&status("removed", 2)).contains("2 keys under it"));
        assert!(!root_line(&status("removed", 0)).contains("keys under it"));
    }

    #[test]
    fn who_removes_a_root_key_is_told_of_cas_in_its_provider() {
        let mut removed = RootRemoved {
            name: Some("hsm".to_owned()),
            provider: "pkcs11".to_owned(),
            key_id: "k".to_owned(),
            dropped: 5,
            cas: 0,
        };
        assert!(fate_of_root(&removed).contains("nothing needs it any more"));
        removed.cas = 3;
        let told = fate_of_root(&removed);
        assert!(
            told.contains("3 CAs") && told.contains("provider hsm") && !told.contains("nothing needs"),
            "{told}"
        );
    }

    #[test]
    fn a_bar_is_full_when_all_is_done_and_never_longer() {
        let bar = |done, total| bar(Progress { table: "t", done, total });
        assert_eq!(bar(0, 60), format!("t [{}] 0 of 60", ".".repeat(30)));
        assert_eq!(bar(30, 60), format!("t [{}{}] 30 of 60", "#".repeat(15), ".".repeat(15)));
        for (done, total) in [(60, 60), (0, 0), (70, 60), (u64::MAX, u64::MAX)] {
            assert_eq!(bar(done, total), format!("t [{}] {done} of {total}", "#".repeat(30)));
        }
    }
}
