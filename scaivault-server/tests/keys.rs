//! `keys`: what it says, where, and with which code it ends.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use scaivault_core::{
    Caller, Database, PartnerId, Role, Scope, TenantId, Vault,
    secrets::{SecretData, SecretPath, SecretWrite},
};
use scaivault_kms::local::{KeyFile, LocalProvider};
use tempfile::TempDir;

struct Run {
    code: i32,
    out: String,
    err: String,
}

/// A vault of one tenant with secrets, and the settings of `serve` for it.
struct Place {
    dir: TempDir,
    key: String,
}

impl Place {
    async fn new(secrets: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("root.key");
        KeyFile::create(&key).unwrap();
        let place = Self { key: key.to_str().unwrap().to_owned(), dir };
        let vault = place.vault().await;
        let ctx = vault.ctx(caller()).unwrap();
        for n in 0..secrets {
            let data = SecretData::from_value(&serde_json::json!({"canary": n})).unwrap();
            let path = SecretPath::parse(&format!("app/s{n}")).unwrap();
            vault.secrets(&ctx).put(&path, SecretWrite::new(data)).await.unwrap();
        }
        vault.close().await;
        place
    }

    async fn vault(&self) -> Vault {
        let key = KeyFile::open(Path::new(&self.key)).unwrap();
        let database = Database::sqlite(self.dir.path().join("vault.db"));
        Vault::builder(database, Arc::new(LocalProvider::new(key))).open().await.unwrap()
    }

    async fn reads(&self, secrets: usize) {
        let vault = self.vault().await;
        let ctx = vault.ctx(caller()).unwrap();
        for n in 0..secrets {
            let path = SecretPath::parse(&format!("app/s{n}")).unwrap();
            let value = vault.secrets(&ctx).get(&path, None).await.unwrap();
            assert_eq!(value.data.decode::<serde_json::Value>().unwrap(), serde_json::json!({"canary": n}));
        }
        vault.close().await;
    }

    /// `keys` with these arguments, and settings besides those of the place.
    fn keys(&self, args: &[&str], more: &[(&str, &str)]) -> Run {
        self.told(args, more, "")
    }

    /// The same, with something on its standard input.
    fn told(&self, args: &[&str], more: &[(&str, &str)], input: &str) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scaivault-server"));
        let database = format!("sqlite:{}", self.dir.path().join("vault.db").display());
        command.arg("keys").args(args).env_clear();
        command.env("DATABASE_URL", database).env("BASE_URL", "https://vault.example");
        command.env("SCAIKEY_URL", "https://scaikey.example").env("KMS_PROVIDER", "local");
        command.env("KMS_LOCAL_KEY_FILE", &self.key).envs(more.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = command.spawn().unwrap();
        // A command that reads nothing may have ended already.
        let _ = running.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = running.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }
}

fn caller() -> Caller {
    let caller = Caller::user("user:alice", TenantId::parse("tnt_acme").unwrap()).unwrap();
    let caller = caller.with_roles([Role::TenantAdmin]).with_scopes([Scope::Admin]);
    caller.with_partner(PartnerId::parse("ptn_acme").unwrap())
}

#[tokio::test]
async fn every_verb_says_what_it_did_and_exits_with_0() {
    let place = Place::new(5).await;
    let status = place.keys(&["status"], &[]);
    assert_eq!(status.code, 0, "{}", status.err);
    for part in [
        "root key: local ",
        "local here, active; 1 keys under it",
        "of ptn_acme, version 1",
        "of tnt_acme, version 1",
    ] {
        assert!(status.out.contains(part), "{}", status.out);
    }
    let json = place.keys(&["status", "--json"], &[]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["tenant_keys"][0]["tenant_id"], "tnt_acme");

    let tenant = place.keys(&["rotate-tenant", "tnt_acme"], &[]);
    assert_eq!(tenant.code, 0, "{}", tenant.err);
    assert!(
        tenant.out.contains("5 wrapped anew") && tenant.out.contains("to be destroyed after"),
        "{}",
        tenant.out
    );
    assert!(tenant.err.contains("secret_version: 5 of 5"), "{}", tenant.err);
    assert!(!tenant.err.contains(['\r', '\x1b']), "no bar where there is no terminal: {:?}", tenant.err);
    let partner = place.keys(&["rotate-partner", "ptn_acme"], &[]);
    assert_eq!(partner.code, 0, "{}", partner.err);
    assert!(partner.out.contains("2 wrapped anew") && partner.out.contains(": destroyed"), "{}", partner.out);
    let verify = place.keys(&["verify"], &[]);
    assert_eq!((verify.code, verify.out.contains("5 data keys: 0 do not open")), (0, true), "{}", verify.out);
    assert!(place.keys(&["verify", "--sample", "2"], &[]).out.contains("2 data keys"));
    place.reads(5).await;
}

#[tokio::test]
async fn a_root_key_is_replaced_and_the_old_one_can_go() {
    let mut place = Place::new(2).await;
    let new = place.dir.path().join("new.key").to_str().unwrap().to_owned();
    KeyFile::create(Path::new(&new)).unwrap();
    let old = std::mem::replace(&mut place.key, new);
    // Without the old one nothing opens, and nothing is changed.
    let lost = place.keys(&["rotate-root"], &[]);
    assert_eq!((lost.code, lost.out.as_str()), (1, ""), "{}", lost.err);
    assert_eq!(place.keys(&["verify"], &[]).code, 1);
    let done = place.keys(&["rotate-root"], &[("KMS_LOCAL_OLD_KEY_FILES", &old)]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("1 partner keys wrapped anew, 0 were"), "{}", done.out);
    std::fs::remove_file(old).unwrap();
    assert_eq!(place.keys(&["verify"], &[]).code, 0);
    place.reads(2).await;
}

#[tokio::test]
async fn what_cannot_be_done_is_said_and_exits_with_a_code() {
    let place = Place::new(1).await;
    for (args, code) in [
        (&["rotate-tenant", "tnt_nobody"][..], 1),
        (&["rotate-partner", "ptn_nobody"], 1),
        (&["rotate-tenant", "not a tenant"], 2),
        (&["rotate-tenant"], 2),
        (&["rotate-everything"], 2),
        (&["verify", "--sample", "few"], 2),
        (&["status", "--data-dir", "nowhere"], 2),
        (&["add-root", "backup"], 1),
        (&["add-root"], 2),
        (&["remove-root", "aws:nothing"], 1),
        (&["remove-root", "local"], 1),
        (&["recovery-create", "--shares", "3", "--threshold", "1"], 2),
        (&["recovery-create", "--shares", "300", "--threshold", "2"], 2),
        (&["recovery-drill"], 2),
        (&["recovery-remove"], 1),
    ] {
        let run = place.keys(args, &[]);
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{args:?}: {}", run.err);
        assert!(!run.err.is_empty() && !run.err.contains("canary"), "{args:?}");
    }
    assert_eq!(place.keys(&["status"], &[("KMS_LOCAL_KEY_FILE", "nowhere")]).code, 2);
    let none = place.dir.path().join("none.db");
    let schema = place.keys(&["status"], &[("DATABASE_URL", &format!("sqlite:{}", none.display()))]);
    assert_ne!(schema.code, 0, "a schema that is behind is not migrated by looking at keys");
}

#[tokio::test]
async fn a_root_key_of_the_settings_is_there_or_refused_by_name() {
    let place = Place::new(1).await;
    let found = place.keys(&["bootstrap"], &[]);
    assert_eq!(found.code, 0, "{}", found.err);
    assert!(
        found.out.starts_with("root key local (local ") && found.out.contains("): was there"),
        "{}",
        found.out
    );
    let added = place.keys(&["add-root", "local"], &[]);
    assert_eq!(added.code, 0, "{}", added.err);
    assert!(added.out.contains("0 keys wrapped under it, 1 were already"), "{}", added.out);
    let unknown = place.keys(&["add-root", "backup"], &[]);
    assert!(unknown.err.contains("There is no root key backup; there are: local."), "{}", unknown.err);
}

/// The shares that `recovery-create` printed.
fn shares(out: &str) -> Vec<String> {
    out.lines().filter(|line| line.starts_with("svr1-")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_lost_root_key_is_made_up_for_by_shares() {
    let mut place = Place::new(2).await;
    let made = place.keys(&["recovery-create", "--shares", "3", "--threshold", "2"], &[]);
    assert_eq!(made.code, 0, "{}", made.err);
    let shares = shares(&made.out);
    assert_eq!(shares.len(), 3, "{}", made.out);
    assert!(made.out.contains("2 of these 3 shares make its key"), "{}", made.out);
    let status = place.keys(&["status"], &[]).out;
    assert!(status.contains("recovery root: ") && status.contains("2 of 3 shares, active"), "{status}");
    assert!(!status.contains("svr1"), "{status}");

    let drill = place.told(&["recovery-drill"], &[], &format!("{}\n\n{}\n", shares[2], shares[0]));
    assert_eq!(drill.code, 0, "{}", drill.err);
    assert!(drill.out.contains("2 keys opened by the shares, 2 of them compared"), "{}", drill.out);
    let digit = if &shares[1][30..31] == "f" { "e" } else { "f" };
    let mistyped = format!("{}{digit}{}", &shares[1][..30], &shares[1][31..]);
    for (input, code, why) in [
        (String::new(), 2, "there are no shares"),
        (shares[1].clone(), 2, "it takes 2"),
        (format!("{0}\n{0}\n", shares[1]), 2, "share 2 is there twice"),
        (format!("{}\ncorrect horse\n", shares[1]), 1, "line 2: no share"),
        (format!("{}\n{mistyped}0\n", shares[0]), 1, "line 2: no share: it is too long"),
    ] {
        let refused = place.told(&["recovery-drill"], &[], &input);
        assert_eq!((refused.code, refused.out.as_str()), (code, ""), "{}", refused.err);
        assert!(refused.err.contains(why), "{}", refused.err);
        assert!(!refused.err.contains(&shares[1][12..30]), "{}", refused.err);
    }

    // The key file is gone; what is made in its place opens nothing.
    std::fs::remove_file(&place.key).unwrap();
    place.key = place.dir.path().join("new.key").to_str().unwrap().to_owned();
    KeyFile::create(Path::new(&place.key)).unwrap();
    assert_eq!(place.keys(&["verify"], &[]).code, 1);
    assert_eq!(place.keys(&["add-root", "local"], &[]).code, 1);
    let input = format!("{}\n{}\n", shares[0], shares[1]);
    let added = place.told(&["add-root", "local", "--recovery"], &[], &input);
    assert_eq!(added.code, 0, "{}", added.err);
    assert!(added.out.contains("2 keys wrapped under it"), "{}", added.out);
    assert_eq!(place.keys(&["verify"], &[]).code, 0);
    place.reads(2).await;

    let status = place.keys(&["status"], &[]).out;
    let lost = status.lines().find(|line| line.contains("not configured")).unwrap();
    let lost = format!("local:{}", lost.split([' ', ',']).nth(3).unwrap());
    let removed = place.keys(&["remove-root", &lost], &[]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    assert!(removed.out.contains("2 wraps taken away"), "{}", removed.out);
    let removed = place.keys(&["recovery-remove"], &[]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    place.reads(2).await;
}

#[tokio::test]
async fn a_vault_moves_from_one_root_key_to_another() {
    let mut place = Place::new(3).await;
    let new = place.dir.path().join("new.key").to_str().unwrap().to_owned();
    KeyFile::create(Path::new(&new)).unwrap();
    let both = [("KMS_PROVIDER_2", "local"), ("KMS_LOCAL_KEY_FILE_2", new.as_str())];
    let before = place.keys(&["status"], &both);
    assert!(before.out.contains("local-2 here, inactive; 0 keys under it"), "{}", before.out);
    let added = place.keys(&["add-root", "local-2"], &both);
    assert_eq!(added.code, 0, "{}", added.err);
    assert!(added.out.contains("1 keys wrapped under it, 0 were already"), "{}", added.out);
    let verify = place.keys(&["verify"], &both);
    assert!(verify.out.contains("root key local-2: 1 wraps opened, 0 do not open"), "{}", verify.out);
    let removed = place.keys(&["remove-root", "local"], &both);
    assert_eq!(removed.code, 0, "{}", removed.err);
    assert!(removed.out.contains("1 wraps taken away; nothing needs it any more"), "{}", removed.out);
    assert_eq!(place.keys(&["remove-root", "local-2"], &both).code, 1);
    std::fs::remove_file(&place.key).unwrap();
    place.key = new;
    assert_eq!(place.keys(&["verify"], &[]).code, 0);
    place.reads(3).await;
}
