//! The binary: what it says, where, and with which code it ends.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    process::{Command, Output},
};

use scaivault_core::{
    Caller, Database, Role, Scope, TenantId, Vault,
    secrets::{SecretData, SecretPath, SecretWrite},
};
use scaivault_kms::local::{KeyFile, LocalProvider};
use scaivault_server::dev::DevIssuer;
use tempfile::TempDir;

struct Run {
    code: i32,
    out: String,
    err: String,
}

/// Runs it in an environment of these variables and no others.
fn run(args: &[&str], vars: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scaivault-server"));
    let Output { status, stdout, stderr } =
        command.args(args).env_clear().envs(vars.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

/// A folder with a root key, and what `serve` needs to be told to use it.
struct Place {
    dir: TempDir,
    database: String,
    key: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("root.key");
        KeyFile::create(&key).unwrap();
        let database = format!("sqlite:{}", dir.path().join("vault.db").display());
        Self { key: key.to_str().unwrap().to_owned(), dir, database }
    }

    fn vars(&self) -> Vec<(&str, &str)> {
        vec![
            ("DATABASE_URL", &self.database),
            ("BASE_URL", "https://vault.example"),
            ("SCAIKEY_URL", "https://scaikey.example"),
            ("KMS_PROVIDER", "local"),
            ("KMS_LOCAL_KEY_FILE", &self.key),
            ("BIND_ADDRESS", "127.0.0.1:0"),
        ]
    }

    fn with<'a>(&'a self, name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut vars = self.vars();
        vars.retain(|(known, _)| *known != name);
        vars.push((name, value));
        vars
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("vault.db")
    }
}

#[test]
fn the_version_is_printed() {
    let run = run(&["version"], &[("LOG_LEVEL", "nonsense")]);
    let expected = concat!("scaivault-server ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, expected, ""));
}

#[test]
fn arguments_that_mean_nothing_exit_with_2() {
    for args in [
        &[][..],
        &["nonsense"],
        &["serve", "--nonsense"],
        &["dev", "--bind", "here"],
        &["dev", "nonsense"],
        &["dev", "token"],
        &["migrate", "now"],
    ] {
        let run = run(args, &[]);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}");
        assert!(!run.err.is_empty(), "{args:?}");
    }
}

#[test]
fn every_problem_of_the_settings_is_told_at_once_and_no_value_of_one() {
    for command in ["serve", "check-config"] {
        let none = run(&[command], &[]);
        assert_eq!((none.code, none.out.as_str()), (2, ""), "{command}");
        for name in ["DATABASE_URL", "BASE_URL", "SCAIKEY_URL", "KMS_PROVIDER"] {
            assert!(none.err.contains(name), "{command}: {}", none.err);
        }
        let bad = [
            ("DATABASE_URL", "mysql://app:canary@db/x"),
            ("DATABASE_URL_FILE", "/run/canary"),
            ("BASE_URL", "https://vault.example/canary"),
            ("SCAIKEY_URL", "http://canary.example"),
            ("KMS_PROVIDER", "local"),
            ("TLS_CERT_FILE", "/etc/canary.pem"),
            ("LOG_LEVLE", "canary"),
            ("REDIS_URL", "canary://:canary@redis"),
            ("VAULT_TOKEN", "canary"),
            ("DB_POOL_SIZE", "canary"),
            ("BIND_ADDRESS", "canary"),
            ("MIGRATE_ON_START", "canary"),
            ("JWT_AUDIENCE", "a,,b"),
            ("DRAIN_TIMEOUT", "canary"),
            ("KEY_CACHE_TTL", ""),
            // None of our business.
            ("PATH", "/canary"),
            ("REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ];
        let run = run(&[command], &bad);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{command}");
        for name in [
            "DATABASE_URL",
            "DATABASE_URL_FILE",
            "SCAIKEY_URL",
            "KMS_LOCAL_KEY_FILE",
            "TLS_KEY_FILE",
            "LOG_LEVLE",
            "REDIS_URL",
            "VAULT_TOKEN",
            "DB_POOL_SIZE",
            "BIND_ADDRESS",
            "MIGRATE_ON_START",
            "JWT_AUDIENCE",
            "DRAIN_TIMEOUT",
            "KEY_CACHE_TTL",
            "BASE_URL",
        ] {
            assert!(run.err.contains(name), "{command}: {name} is not in {}", run.err);
        }
        for other in ["canary", "PATH ", "6379"] {
            assert!(!run.err.contains(other), "{command}: {other} is in {}", run.err);
        }
    }
}

#[test]
fn a_root_key_that_is_missing_exposed_or_none_is_named_and_not_shown() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let missing = run(&["serve"], &place.with("KMS_LOCAL_KEY_FILE", "/nonexistent/root.key"));
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("/nonexistent/root.key"), "{}", missing.err);
    let content = fs::read_to_string(&place.key).unwrap();
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = run(&["serve"], &place.vars());
    assert_eq!(exposed.code, 2);
    assert!(exposed.err.contains("root.key") && !exposed.err.contains(content.trim()), "{}", exposed.err);
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&place.key, "canary").unwrap();
    let broken = run(&["serve"], &place.vars());
    assert_eq!(broken.code, 2);
    assert!(broken.err.contains("root.key") && !broken.err.contains("canary"), "{}", broken.err);
    assert!(!place.file().exists(), "the database was touched before the settings were known to be good");
}

#[test]
fn a_dry_run_changes_nothing_and_a_migration_happens_once() {
    let place = Place::new();
    let vars = [("DATABASE_URL", place.database.as_str())];
    let dry = run(&["migrate", "--dry-run"], &vars);
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert!(dry.out.starts_with("these migrations would be applied: [1"), "{}", dry.out);
    let again = run(&["migrate", "--dry-run"], &vars);
    assert_eq!((again.code, again.out.as_str()), (0, dry.out.as_str()));

    let behind = run(&["check-config"], &place.vars());
    assert_eq!(behind.code, 0, "{}", behind.err);
    assert!(behind.out.contains("schema behind by the migrations [1"), "{}", behind.out);
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1, "only the key: looking makes no database");

    let refused = run(&["serve", "--no-migrate"], &place.vars());
    assert_eq!((refused.code, refused.out.as_str()), (3, ""));
    assert!(refused.err.contains("the schema lacks the migrations [1"), "{}", refused.err);
    let refused = run(&["serve"], &place.with("MIGRATE_ON_START", "false"));
    assert_eq!(refused.code, 3);

    let nowhere = run(&["check-config"], &place.with("DATABASE_URL", "sqlite:/nonexistent/folder/vault.db"));
    assert_eq!((nowhere.code, nowhere.out.as_str()), (1, ""));

    let done = run(&["migrate"], &vars);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.starts_with("applied migrations: [1"), "{}", done.out);
    for args in [&["migrate"][..], &["migrate", "--dry-run"]] {
        let again = run(args, &vars);
        assert_eq!((again.code, again.out.as_str()), (0, "the schema is up to date\n"));
    }
    let current = run(&["check-config"], &place.vars());
    assert_eq!(current.code, 0, "{}", current.err);
    for line in [
        "settings: ok",
        "listens on: 127.0.0.1:0 (plain HTTP)",
        "base url: https://vault.example",
        "issuer: https://scaikey.example",
        "database: reachable, schema up to date",
    ] {
        assert!(current.out.lines().any(|known| known == line), "{line:?} is not in {}", current.out);
    }
    let root = current.out.lines().find_map(|line| line.strip_prefix("root key local: ")).unwrap();
    let fingerprint = KeyFile::open(&place.dir.path().join("root.key")).unwrap().fingerprint().to_owned();
    let known = format!(
        "local {fingerprint}, AES-256-GCM, 256 bits, context bound by the provider, extractable; health "
    );
    assert!(root.starts_with(&known) && root.ends_with(" ms"), "{root}");
}

#[test]
fn every_root_key_is_tried_and_what_fails_is_named_with_its_variable() {
    let place = Place::new();
    let second = place.dir.path().join("second.key");
    KeyFile::create(&second).unwrap();
    let mut vars = place.vars();
    vars.extend([
        ("KMS_NAME", "main"),
        ("KMS_PROVIDER_2", "local"),
        ("KMS_LOCAL_KEY_FILE_2", second.to_str().unwrap()),
        // Nobody listens there.
        ("KMS_PROVIDER_3", "vault"),
        ("VAULT_ADDR_3", "http://127.0.0.1:9"),
        ("VAULT_TRANSIT_KEY_3", "scai"),
        ("VAULT_TOKEN_3", "canary"),
        ("KMS_TIMEOUT_3", "2s"),
    ]);
    let tried = run(&["check-config"], &vars);
    assert_eq!(tried.code, 2, "{}", tried.out);
    for line in [
        "root key main: local ",
        "root key local: local ",
        "root key transit: FAILED: transit: unavailable: ",
    ] {
        assert!(tried.out.lines().any(|l| l.starts_with(line)), "{line}: {}", tried.out);
    }
    let said =
        "scaivault-server: the root key transit (KMS_PROVIDER_3) cannot be used: transit: unavailable: ";
    assert!(tried.err.starts_with(said), "{}", tried.err);
    assert!(!tried.err.contains("canary") && !tried.out.contains("canary"));

    let same =
        [&vars[..6], &[("KMS_PROVIDER_2", "local"), ("KMS_LOCAL_KEY_FILE_2", place.key.as_str())]].concat();
    let same = run(&["check-config"], &same);
    assert_eq!((same.code, same.out.as_str()), (2, ""));
    assert!(
        same.err.contains("KMS_PROVIDER and KMS_PROVIDER_2 describe the same root key, local "),
        "{}",
        same.err
    );
    for (name, value, said) in [
        (
            "KMS_LOCAL_KEY_FILE_2",
            "/nonexistent",
            "KMS_PROVIDER_2 is local, which cannot be used: local: key not found",
        ),
        ("VAULT_CACERT_3", "/nonexistent", "VAULT_CACERT_3 names a file that cannot be read: "),
    ] {
        let vars: Vec<_> =
            vars.iter().copied().filter(|(known, _)| *known != name).chain([(name, value)]).collect();
        for command in ["serve", "check-config"] {
            let refused = run(&[command], &vars);
            assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{}", refused.err);
            assert!(refused.err.contains(said), "{said}: {}", refused.err);
        }
    }
}

#[test]
fn a_module_of_an_hsm_that_cannot_be_opened_is_a_problem_of_the_settings() {
    let place = Place::new();
    let mut vars = place.vars();
    vars.retain(|(name, _)| !name.starts_with("KMS_"));
    vars.extend([
        ("KMS_PROVIDER", "pkcs11"),
        ("PKCS11_LIBRARY", "/nonexistent/hsm.so"),
        ("PKCS11_SLOT", "label:scai"),
        ("PKCS11_PIN", "canary"),
        ("PKCS11_KEY_LABEL", "root"),
    ]);
    let run = run(&["serve"], &vars);
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
    assert!(
        run.err.contains("KMS_PROVIDER is pkcs11, which cannot be used: pkcs11: device failure: "),
        "{}",
        run.err
    );
    assert!(run.err.contains("/nonexistent/hsm.so") && !run.err.contains("canary"), "{}", run.err);
    assert!(!place.file().exists(), "the database was touched before the settings were known to be good");
}

#[test]
fn the_table_of_settings_is_printed_without_any() {
    let table = run(&["check-config", "--settings-table"], &[]);
    assert_eq!(
        (table.code, table.out.as_str()),
        (0, include_str!("../../docs/SETTINGS.md")),
        "{}",
        table.err
    );
}

#[test]
fn a_certificate_that_cannot_be_read_is_a_problem_of_the_settings() {
    let place = Place::new();
    let mut vars = place.vars();
    vars.extend([("TLS_CERT_FILE", "/nonexistent/c.pem"), ("TLS_KEY_FILE", "/nonexistent/k.pem")]);
    for command in ["serve", "check-config"] {
        let run = run(&[command], &vars);
        assert_eq!(run.code, 2, "{command}");
        assert!(run.err.contains("/nonexistent/c.pem"), "{}", run.err);
    }
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new();
    let run_serve = run(&["serve"], &place.with("BIND_ADDRESS", &address));
    assert_eq!(run_serve.code, 1);
    assert!(run_serve.err.contains(&address), "{}", run_serve.err);
    let run_dev = run(&["dev", "--bind", &address], &[]);
    assert_eq!((run_dev.code, run_dev.out.as_str()), (1, ""));
    assert!(run_dev.err.contains(&address), "{}", run_dev.err);
}

#[test]
fn development_mode_listens_on_this_machine_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for bind in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8443", "[2001:db8::1]:8443"] {
        let run = run(&["dev", "--bind", bind, "--data-dir", data.to_str().unwrap()], &[]);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{bind}");
        assert!(run.err.contains("loopback") && run.err.contains(bind), "{}", run.err);
    }
    assert!(!data.exists(), "nothing is made for a server that does not start");
}

#[test]
fn a_database_without_its_root_key_is_not_given_another() {
    let dir = tempfile::tempdir().unwrap();
    let vars = [("DATABASE_URL", format!("sqlite:{}", dir.path().join("vault.db").display()))];
    let vars: Vec<(&str, &str)> = vars.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(run(&["migrate"], &vars).code, 0);
    let run = run(&["dev", "--bind", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()], &[]);
    assert_eq!((run.code, run.out.as_str()), (1, ""));
    assert!(run.err.contains("root.key"), "{}", run.err);
    assert!(!dir.path().join("root.key").exists());
}

#[test]
fn a_dev_token_needs_the_folder_of_a_dev_and_is_printed_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let what = ["--identity", "sa:billing", "--scopes", "secrets:read pki:issue"];
    let none = run(&[&["dev", "token"][..], &what].concat(), &[]);
    assert_eq!((none.code, none.out.as_str()), (2, ""));
    assert!(none.err.contains("--data-dir"), "{}", none.err);
    let args = [&["dev", "token", "--data-dir", path][..], &what].concat();
    let other = run(&args, &[]);
    assert_eq!((other.code, other.out.as_str()), (2, ""));
    assert!(other.err.contains(path), "{}", other.err);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made by asking");

    DevIssuer::open(folder.path()).unwrap();
    let claims = |run: &Run| -> serde_json::Value {
        assert_eq!((run.code, run.err.as_str()), (0, ""));
        let token = run.out.strip_suffix('\n').unwrap();
        assert_eq!(token.split('.').count(), 3, "{token}");
        let payload = token.split('.').nth(1).unwrap();
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        serde_json::from_slice(&base64::Engine::decode(&engine, payload).unwrap()).unwrap()
    };
    let made = claims(&run(&args, &[]));
    assert_eq!((&made["sub"], &made["scope"]), (&"sa:billing".into(), &"secrets:read pki:issue".into()));
    assert_eq!((&made["client_id"], &made["tenant_id"]), (&"sa:billing".into(), &"tnt_dev".into()));
    assert_eq!(made["exp"].as_i64().unwrap() - made["iat"].as_i64().unwrap(), 3600);
    // The folder may also be named before the word.
    let more = [
        "dev",
        "--data-dir",
        path,
        "token",
        "--identity",
        "user:alice",
        "--scopes",
        "",
        "--groups",
        "a,b",
        "--roles",
        "tenant_admin",
        "--tenant",
        "tnt_x",
        "--ttl",
        "2m",
    ];
    let made = claims(&run(&more, &[]));
    assert_eq!(
        (&made["groups"], &made["roles"]),
        (&serde_json::json!(["a", "b"]), &serde_json::json!(["tenant_admin"]))
    );
    assert_eq!((&made["tenant_id"], &made["client_id"]), (&"tnt_x".into(), &serde_json::Value::Null));
    assert_eq!(made["exp"].as_i64().unwrap() - made["iat"].as_i64().unwrap(), 120);
    for ttl in ["0s", "1", "1h30m", "-1h", ""] {
        let bad = run(&[&args[..], &["--ttl", ttl]].concat(), &[]);
        assert_eq!((bad.code, bad.out.as_str()), (2, ""), "{ttl:?}");
    }
}

impl Place {
    /// Some secrets of two tenants, written and read.
    fn live(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let provider = LocalProvider::new(KeyFile::open(&self.dir.path().join("root.key")).unwrap());
            let vault = Vault::builder(Database::sqlite(self.file()), std::sync::Arc::new(provider))
                .open()
                .await
                .unwrap();
            for tenant in ["tnt_a", "tnt_b"] {
                for n in 0..3 {
                    let caller = Caller::user("user:ä\u{1}", TenantId::parse(tenant).unwrap());
                    let caller =
                        caller.or_else(|_| Caller::user("user:a", TenantId::parse(tenant).unwrap())).unwrap();
                    let caller = caller.with_roles([Role::TenantAdmin]).with_scopes([Scope::Admin]);
                    let ctx = vault.ctx(caller).unwrap().with_user_agent("a \"b\" \\ é \u{7f}");
                    let value = SecretData::from_value(&serde_json::json!({ "n": n })).unwrap();
                    let path = SecretPath::parse(&format!("app/{n}")).unwrap();
                    vault.secrets(&ctx).put(&path, SecretWrite::new(value)).await.unwrap();
                    vault.secrets(&ctx).get(&path, None).await.unwrap();
                }
            }
            vault.close().await;
        });
    }
}

#[test]
fn the_audit_trail_is_verified_in_place_and_as_an_export_by_us_and_by_a_stranger() {
    let place = Place::new();
    place.live();
    let vars = place.vars();
    let good = run(&["audit", "verify"], &vars);
    assert_eq!((good.code, good.err.as_str()), (0, ""), "{}", good.out);
    assert!(
        good.out.contains("good tnt_a: records 1 to 6") && good.out.contains("good tnt_b"),
        "{}",
        good.out
    );
    let none = run(&["audit", "verify", "--tenant", "tnt_c"], &vars);
    assert_eq!(none.code, 1);
    let part = run(&["audit", "verify", "--tenant", "tnt_a", "--from", "2020-01-01T00:00:00Z"], &vars);
    assert_eq!(part.code, 0, "{}", part.err);

    let (out, key) = (place.dir.path().join("trail.jsonl"), place.dir.path().join("audit.pem"));
    let (out_name, key_name) = (out.to_str().unwrap(), key.to_str().unwrap());
    let exported = run(&["audit", "export", "--tenant", "tnt_a", "--out", out_name], &vars);
    assert_eq!(exported.code, 0, "{}", exported.err);
    let printed = run(&["audit", "public-key"], &vars);
    assert!(printed.out.starts_with("-----BEGIN PUBLIC KEY-----"), "{}", printed.err);
    fs::write(&key, &printed.out).unwrap();
    let judge = || {
        let ours = run(&["audit", "verify", "--file", out_name, "--public-key", key_name], &[]);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/audit-verify.py");
        let theirs = Command::new("python3").args([script, out_name, key_name]).output();
        if let Ok(theirs) = theirs {
            let said = String::from_utf8_lossy(&[theirs.stdout, theirs.stderr].concat()).into_owned();
            assert_eq!(theirs.status.code(), Some(ours.code), "they say {said}, we {}", ours.out);
        }
        ours
    };
    assert_eq!(judge().code, 0, "{}", judge().out);
    let whole = fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let record =
        lines.iter().position(|line| line.contains("\"seq\":3,") && line.contains("record")).unwrap();
    let without = |n: usize| {
        let kept = lines.iter().enumerate().filter(|(i, _)| *i != n).map(|(_, line)| format!("{line}\n"));
        kept.collect::<String>()
    };
    for (bad, said) in [
        (without(record), "record 3: is missing"),
        (whole.replace("app/1", "app/x"), "was changed"),
        (without(lines.len() - 1), "missing, and so is all after it"),
        (whole.replace("ecdsa-p256-sha256", "none"), "names an algorithm"),
        (whole.replacen("tnt_a", "tnt_b", 1), "tenant"),
    ] {
        fs::write(&out, bad).unwrap();
        let told = judge();
        assert_eq!(told.code, 1);
        assert!(told.out.starts_with("BAD  ") && told.out.contains(said), "{said}: {}", told.out);
    }
    // Another vault's key is none of ours.
    fs::write(&out, &whole).unwrap();
    let other = Place::new();
    other.live();
    fs::write(&key, run(&["audit", "public-key"], &other.vars()).out).unwrap();
    assert_eq!(judge().code, 1);
    let calm = run(&["recover", "--accept-rollback"], &vars);
    assert!(calm.code == 3 && calm.err.contains("not in quarantine"), "{}", calm.err);
    for args in [
        &["recover"][..],
        &["audit"][..],
        &["audit", "verify", "--file", "x"],
        &["audit", "verify", "--from", "now"],
    ] {
        assert_eq!(run(args, &vars).code, 2, "{args:?}");
    }
}
