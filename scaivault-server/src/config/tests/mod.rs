mod kms;

use std::path::Path;

use super::*;

const CANARY: &str = "hunter2-canary";

fn serve(extra: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let base = [
        ("DATABASE_URL", "postgresql://app:hunter2-canary@db:5432/scaivault?sslmode=require"),
        ("BASE_URL", "https://vault.example"),
        ("SCAIKEY_URL", "https://scaikey.example"),
        ("KMS_PROVIDER", "local"),
        ("KMS_LOCAL_KEY_FILE", "/etc/scaivault/root.key"),
        ("PATH", "/usr/bin"),
    ];
    let mut vars: std::collections::BTreeMap<&str, &str> = base.into_iter().collect();
    for (name, value) in extra {
        if *value == "-" {
            vars.remove(name);
        } else {
            vars.insert(name, value);
        }
    }
    let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Config::from_vars(vars, &|path: &Path| match path.to_str() {
        Some("/run/db") => Ok(format!("postgres://app:{CANARY}@db/x\n")),
        Some("/run/clients") => Ok("dns:a.example tnt_a sa:a\n".to_owned()),
        Some("/run/no-clients") => Ok(format!("{CANARY} tnt_a sa:a\n")),
        Some("/run/secret") => Ok(format!("{CANARY}\n")),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    })
}

/// The only problem.
fn problem(extra: &[(&str, &str)]) -> String {
    let error = serve(extra).unwrap_err();
    assert!(!error.to_string().contains(CANARY), "{error}");
    assert_eq!(error.problems().len(), 1, "{error}");
    error.problems()[0].clone()
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = serve(&[]).unwrap();
    assert_eq!(config.http.bind.to_string(), "0.0.0.0:8443");
    assert_eq!((config.http.tls, config.http.drain.as_secs()), (None, 30));
    assert_eq!(config.http.base_url.as_str(), "https://vault.example");
    assert_eq!(config.identity.audiences, ["scaivault"]);
    assert_eq!((config.identity.issuer.as_str(), config.identity.jwks), ("https://scaikey.example", None));
    assert!(config.identity.client.is_none() && config.identity.introspection.is_none());
    assert!(config.egress_allowed.is_empty());
    assert_eq!((config.database.pool_size, config.database.url.kind()), (16, DatabaseKind::Postgres));
    assert_eq!(config.kms.cache_ttl.as_secs(), 60);
    assert_eq!(config.log, Log { level: Level::Info, format: Format::Json });
    assert!(config.migrate_on_start && config.tenant_admin_bypass);
    assert_eq!((config.mfa_window.as_secs(), config.http.trusted_proxies), (900, TrustedProxies::default()));
    assert_eq!(config.soft_delete_retention.as_secs(), 30 * 24 * 3600);
}

#[test]
fn every_setting_can_be_set() {
    let config = serve(&[
        ("DATABASE_URL", "sqlite:/var/lib/vault.db"),
        ("DB_POOL_SIZE", "100"),
        ("BIND_ADDRESS", "[::1]:9000"),
        ("TLS_CERT_FILE", "/c"),
        ("TLS_KEY_FILE", "/k"),
        ("TLS_CLIENT_CA_FILE", "/ca"),
        ("TLS_CLIENT_IDENTITIES_FILE", "/run/clients"),
        ("SCAIKEY_URL", "http://127.0.0.1:4000"),
        ("SCAIKEY_JWKS_URL", "http://[::1]:4000/jwks"),
        ("SCAIKEY_CLIENT_ID", "vault"),
        ("SCAIKEY_CLIENT_SECRET", CANARY),
        ("SCAIKEY_INTROSPECTION_URL", "https://scaikey.example/introspect"),
        ("EGRESS_ALLOWED_CIDRS", "10.20.0.0/16, fd00:1::/32"),
        ("JWT_AUDIENCE", "a, b"),
        ("KEY_CACHE_TTL", "0s"),
        ("MIGRATE_ON_START", "false"),
        ("SOFT_DELETE_RETENTION", "2w"),
        ("TENANT_ADMIN_BYPASS", "false"),
        ("MFA_WINDOW", "1h"),
        ("PKI_RSA_POOL", "0"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ("DRAIN_TIMEOUT", "5m"),
        ("LOG_LEVEL", "debug"),
        ("LOG_FORMAT", "text"),
    ])
    .unwrap();
    assert!(!format!("{config:?}").contains(CANARY));
    assert_eq!(config.database.url.expose(), "sqlite:/var/lib/vault.db");
    let tls = config.http.tls.unwrap();
    assert_eq!((tls.key.as_path(), tls.clients.as_deref()), (Path::new("/k"), Some(Path::new("/ca"))));
    assert_eq!(format!("{:?}", config.http.client_identities), "ClientIdentities(1)");
    assert_eq!((config.identity.audiences.join("|"), config.kms.cache_ttl), ("a|b".into(), Duration::ZERO));
    assert_eq!((config.http.drain.as_secs(), config.soft_delete_retention.as_secs()), (300, 14 * 86_400));
    assert!(!config.migrate_on_start && !config.tenant_admin_bypass);
    assert_eq!((config.mfa_window.as_secs(), config.rsa_pool), (3600, 0));
    let client = config.identity.client.unwrap();
    assert_eq!((client.id.as_str(), client.secret.expose()), ("vault", CANARY));
    assert_eq!(config.identity.introspection.unwrap().as_str(), "https://scaikey.example/introspect");
    assert_eq!(config.egress_allowed.len(), 2);
    assert_eq!(format!("{:?}", config.http.trusted_proxies), r#"{"10.0.0.0/8", "::1/128"}"#);
}

#[test]
fn every_problem_is_told_at_once_and_named() {
    let error = Config::from_vars(
        [("LOG_LEVEL", "loud"), ("KMS_KEY_ID", "arn"), ("DATABSE_URL", "x"), ("DATABASE_POOL", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        &read_file,
    )
    .unwrap_err();
    let text = error.to_string();
    for name in ["LOG_LEVEL", "DATABASE_POOL", "DATABASE_URL, or", "BASE_URL", "SCAIKEY_URL", "KMS_PROVIDER"]
    {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert_eq!(error.problems().len(), 6, "{text}");
}

#[test]
fn contradictions_are_refused() {
    assert!(
        problem(&[("DATABASE_URL_FILE", "/run/db")])
            .contains("DATABASE_URL and DATABASE_URL_FILE are both set")
    );
    assert!(problem(&[("TLS_CERT_FILE", "/c")]).starts_with("TLS_CERT_FILE is set without TLS_KEY_FILE"));
    assert!(problem(&[("TLS_KEY_FILE", "/k")]).starts_with("TLS_KEY_FILE is set without TLS_CERT_FILE"));
    assert!(problem(&[("SCAIKEY_CLIENT_ID", "vault")]).contains("without SCAIKEY_CLIENT_SECRET"));
    assert!(problem(&[("SCAIKEY_CLIENT_SECRET", CANARY)]).contains("without SCAIKEY_CLIENT_ID"));
    assert!(problem(&[("SCAIKEY_CLIENT_SECRET_FILE", "/run/secret")]).contains("without SCAIKEY_CLIENT_ID"));
    assert!(
        problem(&[("SCAIKEY_INTROSPECTION_URL", "https://x.example/i")])
            .contains("without SCAIKEY_CLIENT_ID")
    );
    assert!(
        problem(&[("TLS_CLIENT_CA_FILE", "/ca")])
            .starts_with("TLS_CLIENT_CA_FILE is set without TLS_CERT_FILE")
    );
    let clients = |file| [("TLS_CLIENT_IDENTITIES_FILE", file)];
    assert!(problem(&clients("/run/clients")).contains("is set without TLS_CLIENT_CA_FILE"));
    let tls = [("TLS_CERT_FILE", "/c"), ("TLS_KEY_FILE", "/k"), ("TLS_CLIENT_CA_FILE", "/ca")];
    let wrong = |file| problem(&[&tls[..], &clients(file)].concat());
    assert!(
        wrong("/run/no-clients")
            .starts_with("TLS_CLIENT_IDENTITIES_FILE names a file whose line 1 must begin")
    );
    assert!(wrong("/nowhere").starts_with("TLS_CLIENT_IDENTITIES_FILE names a file that cannot be read"));
    assert!(problem(&[("KMS_LOCAL_KEY_FILE", "-")]).contains("KMS_LOCAL_KEY_FILE is required"));
    assert_eq!(problem(&[("BASE_URL", " ")]), "BASE_URL is set but empty; give it a value or unset it.");
}

#[test]
fn a_secret_comes_from_a_file_too_and_is_never_shown() {
    let config = serve(&[("DATABASE_URL", "-"), ("DATABASE_URL_FILE", "/run/db")]).unwrap();
    assert_eq!(config.database.url.expose(), format!("postgres://app:{CANARY}@db/x"));
    assert!(!format!("{config:?}").contains(CANARY));
    let config =
        serve(&[("SCAIKEY_CLIENT_ID", "vault"), ("SCAIKEY_CLIENT_SECRET_FILE", "/run/secret")]).unwrap();
    assert_eq!(config.identity.client.unwrap().secret.expose(), CANARY);
    let missing = problem(&[("DATABASE_URL", "-"), ("DATABASE_URL_FILE", "/run/none")]);
    assert!(missing.starts_with("DATABASE_URL_FILE names a file that cannot be read"), "{missing}");
}

#[test]
fn wrong_values_are_refused_without_being_repeated() {
    for (name, value) in [
        ("DATABASE_URL", "mysql://app:hunter2-canary@db/x"),
        ("DATABASE_URL", "hunter2-canary"),
        ("DATABASE_URL", "sqlite:"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("DATABASE_URL", "postgres:///hunter2-canary"),
        ("BASE_URL", "https://alice:hunter2-canary@vault.example"),
        ("BASE_URL", "https://vault.example/"),
        ("BASE_URL", "https://vault.example/v1"),
        ("BASE_URL", "https://vault.example?x"),
        ("BASE_URL", "https://vault.example:443"),
        ("BASE_URL", "vault.example"),
        ("BASE_URL", "ftp://vault.example"),
        ("SCAIKEY_URL", "http://scaikey.example"),
        ("SCAIKEY_URL", "https://scaikey.example/"),
        ("SCAIKEY_URL", "https://:hunter2-canary@scaikey.example"),
        ("SCAIKEY_JWKS_URL", "http://scaikey.example/jwks"),
        ("SCAIKEY_JWKS_URL", "https://scaikey.example/jwks?hunter2-canary"),
        ("EGRESS_ALLOWED_CIDRS", "hunter2-canary"),
        ("EGRESS_ALLOWED_CIDRS", "10.0.0.1/8"),
        ("EGRESS_ALLOWED_CIDRS", "10.0.0.0/8,,"),
        ("BIND_ADDRESS", "localhost:8443"),
        ("BIND_ADDRESS", "8443"),
        ("DB_POOL_SIZE", "0"),
        ("DB_POOL_SIZE", "101"),
        ("KEY_CACHE_TTL", "60"),
        ("KEY_CACHE_TTL", "0"),
        ("KEY_CACHE_TTL", "060s"),
        ("KEY_CACHE_TTL", "1h30m"),
        ("DRAIN_TIMEOUT", "-1s"),
        ("DRAIN_TIMEOUT", "99999999999999999999s"),
        ("SOFT_DELETE_RETENTION", "18446744073709551615w"),
        ("MIGRATE_ON_START", "yes"),
        ("TENANT_ADMIN_BYPASS", "1"),
        ("MFA_WINDOW", "15"),
        ("PKI_RSA_POOL", "65"),
        ("PKI_RSA_POOL", "-1"),
        ("TRUSTED_PROXIES", "hunter2-canary"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "*"),
        ("JWT_AUDIENCE", "a,,b"),
        ("SCAIKEY_WEBHOOK_SECRET", "hunter2-canary"),
        ("SCAIKEY_WEBHOOK_SECRET", "hunter2-canary-is-long-enough,"),
        ("SCAIKEY_CLIENT_ID", "vault"),
        ("IDENTITY_SYNC_INTERVAL", "9s"),
        ("IDENTITY_SYNC_INTERVAL", "15"),
        ("RATE_LIMIT_IDENTITY_SYNC", "-1"),
        ("LOG_FORMAT", "xml"),
        ("KMS_PROVIDER", "hunter2-canary"),
    ] {
        let problem = problem(&[(name, value)]);
        assert!(problem.starts_with(name) && problem.ends_with('.'), "{name}={value}: {problem}");
    }
}

#[test]
fn what_feeds_the_directory_is_optional_and_its_secrets_are_not_shown() {
    let none = serve(&[("BOOTSTRAP_SUPER_ADMIN", "")]).unwrap().identity;
    assert!(none.client.is_none() && none.webhook_secrets.is_none() && none.bootstrap_super_admin.is_none());
    assert_eq!(none.sync_interval.as_secs(), 900);
    let all = serve(&[
        ("SCAIKEY_CLIENT_ID", "vault"),
        ("SCAIKEY_CLIENT_SECRET_FILE", "/run/secret"),
        ("SCAIKEY_WEBHOOK_SECRET", "hunter2-canary-is-long-enough, hunter2-canary-is-another"),
        ("IDENTITY_SYNC_INTERVAL", "5m"),
        ("BOOTSTRAP_SUPER_ADMIN", "root@acme.example"),
    ]);
    let all = all.unwrap().identity;
    assert!(!format!("{all:?}").contains(CANARY), "{all:?}");
    let client = all.client.unwrap();
    assert_eq!((client.id.as_str(), client.secret.expose()), ("vault", CANARY));
    assert_eq!(format!("{:?}", all.webhook_secrets.unwrap()), "WebhookSecrets(2)");
    assert_eq!(
        (all.sync_interval.as_secs(), all.bootstrap_super_admin.as_deref()),
        (300, Some("root@acme.example"))
    );
}

#[test]
fn what_this_build_does_not_have_is_said() {
    for name in ["WEBHOOK_ALLOWED_CIDRS", "METRICS_BIND_ADDRESS", "OBJECT_STORE_BUCKET"] {
        assert_eq!(
            problem(&[(name, CANARY)]),
            format!("{name} is set, but this build does not support it; unset it.")
        );
    }
    for name in [
        "SCAIKEY_JKWS_URL",
        "LOG_LEVLE",
        "KMS_PROVIDR",
        "SCAIVAULT_BIND",
        "EGRESS_ALLOWED",
        "WEBHOOK_X",
        "VAULT_TOKN",
    ] {
        let problem = problem(&[(name, CANARY)]);
        assert!(problem.starts_with(name) && problem.contains("spelling"), "{problem}");
    }
    assert!(problem(&[("KMS_LOCAL_KEY_FILE_FILE", "x")]).contains("cannot be read from a file"));
}

#[test]
fn the_variables_of_others_are_left_alone() {
    let others = [
        ("HOME", "/root"),
        ("HOSTNAME", "pod-1"),
        ("REDIS_SERVICE_HOST", "10.0.0.1"),
        ("REDIS_SERVICE_PORT", "6379"),
        ("REDIS_SERVICE_PORT_TLS", "6380"),
        ("REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("VAULT_PORT_8200_TCP", "tcp://10.0.0.1:8200"),
        ("SCAIVAULT_PORT_8443_TCP_ADDR", "10.0.0.1"),
        ("SCAIVAULT_URL", "https://vault.example"),
        ("SCAIVAULT_TOKEN", CANARY),
    ];
    assert!(serve(&others).is_ok());
}

#[test]
fn migrate_needs_the_database_alone_but_no_setting_may_be_wrong() {
    let migrate = |vars: &[(&str, &str)]| {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        MigrateConfig::from_vars(vars, &read_file)
    };
    assert_eq!(
        migrate(&[("DATABASE_URL", "sqlite:a.db")]).unwrap().database.url.kind(),
        DatabaseKind::Sqlite
    );
    assert!(migrate(&[]).is_err());
    assert!(migrate(&[("DATABASE_URL", "sqlite:a.db"), ("DATABASE_UR", "x")]).is_err());
}
