use std::{path::PathBuf, time::Duration};

use super::*;

/// The settings of `serve` with these root keys and no others.
fn roots(vars: &[(&str, &str)]) -> Result<Vec<Root>, ConfigError> {
    let mut all = vec![("KMS_PROVIDER", "-"), ("KMS_LOCAL_KEY_FILE", "-")];
    all.extend_from_slice(vars);
    serve(&all).map(|config| config.kms.roots)
}

fn place(vars: &[(&str, &str)]) -> Place {
    let mut roots = roots(vars).unwrap();
    assert_eq!(roots.len(), 1);
    roots.remove(0).place
}

/// What is wrong with root keys.
fn wrong(vars: &[(&str, &str)]) -> Vec<String> {
    let error = roots(vars).unwrap_err();
    assert!(!error.to_string().contains(CANARY), "{error}");
    error.problems().to_vec()
}

fn hidden(text: &str) -> Hidden {
    Hidden::new(text.to_owned().into())
}

const VAULT: [(&str, &str); 4] = [
    ("KMS_PROVIDER", "vault"),
    ("VAULT_ADDR", "https://vault.example:8200/"),
    ("VAULT_TRANSIT_KEY", "scai"),
    ("VAULT_TOKEN", CANARY),
];
const HSM: [(&str, &str); 5] = [
    ("KMS_PROVIDER", "pkcs11"),
    ("PKCS11_LIBRARY", "/usr/lib/hsm.so"),
    ("PKCS11_SLOT", "label:scai"),
    ("PKCS11_PIN", CANARY),
    ("PKCS11_KEY_LABEL", "root"),
];
const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1";
const OTHER_KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/2";

#[test]
fn a_key_file_and_older_ones() {
    let local = [("KMS_PROVIDER", "local"), ("KMS_LOCAL_KEY_FILE", "/k/root.key")];
    let Place::Local(key) = place(&local) else { panic!("another kind") };
    assert_eq!((key.key_file, key.old_key_files), (PathBuf::from("/k/root.key"), vec![]));
    let older = [&local[..], &[("KMS_LOCAL_OLD_KEY_FILES", "/k/1, /k/2")]].concat();
    let Place::Local(key) = place(&older) else { panic!("another kind") };
    assert_eq!(key.old_key_files, [PathBuf::from("/k/1"), PathBuf::from("/k/2")]);
    assert!(
        wrong(&[&local[..], &[("KMS_LOCAL_OLD_KEY_FILES", "/k/1,,/k/2")]].concat())[0]
            .contains("without empty")
    );
    let config = serve(&[]).unwrap();
    assert_eq!(config.kms.anchor_file.as_deref(), Some(Path::new("/etc/scaivault/root.key.anchor")));
    let config = serve(&[("ANCHOR_FILE", "/a")]).unwrap();
    assert_eq!(config.kms.anchor_file.as_deref(), Some(Path::new("/a")));
}

#[test]
fn aws_with_its_secondary() {
    let one = [("KMS_PROVIDER", "aws"), ("KMS_KEY_ID", "alias/scai"), ("KMS_REGION", "eu-west-1")];
    let aws = |key_id: &str, region: Option<&str>, endpoint: Option<&str>| {
        Place::Aws(Aws {
            key_id: key_id.into(),
            region: region.map(str::to_owned),
            endpoint: endpoint.map(str::to_owned),
            profile: None,
        })
    };
    assert_eq!(place(&one), aws("alias/scai", Some("eu-west-1"), None));
    let two = [
        ("KMS_PROVIDER", "aws"),
        ("KMS_KEY_ID", KEY),
        ("KMS_KEY_ID_SECONDARY", OTHER_KEY),
        ("KMS_ENDPOINT", "http://127.0.0.1:5000"),
        ("KMS_TIMEOUT", "20s"),
    ];
    let two = roots(&two).unwrap();
    assert_eq!(two.iter().map(|root| root.name.as_str()).collect::<Vec<_>>(), ["aws", "aws-2"]);
    assert_eq!(two[0].place, aws(KEY, None, Some("http://127.0.0.1:5000")));
    assert_eq!(two[1].place, aws(OTHER_KEY, Some("us-east-1"), Some("http://127.0.0.1:5000")));
    assert_eq!(two[1].timeout, Duration::from_secs(20));

    let aws = [("KMS_PROVIDER", "aws"), ("KMS_KEY_ID", KEY)];
    for (name, value, said) in [
        ("KMS_KEY_ID", "arn:aws:s3:::bucket", "KMS_KEY_ID must be the ARN"),
        ("KMS_KEY_ID", "-", "KMS_KEY_ID is required with KMS_PROVIDER=aws."),
        ("KMS_KEY_ID_SECONDARY", KEY, "KMS_KEY_ID_SECONDARY is the key that KMS_KEY_ID is."),
        ("KMS_KEY_ID_SECONDARY", "a key", "KMS_KEY_ID_SECONDARY must be the ARN"),
        ("KMS_REGION", "us-east-1", "KMS_REGION is another region than that of the ARN in KMS_KEY_ID."),
        ("KMS_ENDPOINT", "http://kms.example", "KMS_ENDPOINT must be https"),
        ("KMS_KEY_ID_2", OTHER_KEY, "KMS_KEY_ID_2 is set without KMS_PROVIDER_2."),
        ("KMS_KEY_ID_SECONDARY_2", OTHER_KEY, "KMS_KEY_ID_SECONDARY_2 is not a setting"),
    ] {
        let problems = wrong(&[&aws[..], &[(name, value)]].concat());
        assert!(problems.len() == 1 && problems[0].starts_with(said), "{said}: {problems:?}");
    }
}

#[test]
fn vault_by_each_login() {
    let transit = |login| {
        Place::Transit(Transit {
            address: "https://vault.example:8200".into(),
            mount: "transit".into(),
            key: "scai".into(),
            namespace: None,
            ca_file: None,
            login,
        })
    };
    for alias in ["vault", "hashicorp", "hashicorp_vault", "transit"] {
        let vars = [&VAULT[..], &[("KMS_PROVIDER", alias)]].concat();
        assert_eq!(place(&vars), transit(VaultLogin::Token(hidden(CANARY))));
    }
    let role = [("VAULT_TOKEN", "-"), ("VAULT_ROLE_ID", "r"), ("VAULT_SECRET_ID", CANARY)];
    let app_role =
        |mount: &str, secret_id| VaultLogin::AppRole { mount: mount.into(), role_id: "r".into(), secret_id };
    let vars = [&VAULT[..], &role].concat();
    assert_eq!(place(&vars), transit(app_role("approle", Some(hidden(CANARY)))));
    let vars = [&VAULT[..], &role[..2], &[("VAULT_AUTH_MOUNT", "/team/roles/")]].concat();
    assert_eq!(place(&vars), transit(app_role("team/roles", None)));
    let vars = [&VAULT[..], &[("VAULT_TOKEN", "-"), ("VAULT_KUBERNETES_ROLE", "k")]].concat();
    let jwt_file = "/var/run/secrets/kubernetes.io/serviceaccount/token".into();
    let login = VaultLogin::Kubernetes { mount: "kubernetes".into(), role: "k".into(), jwt_file };
    assert_eq!(place(&vars), transit(login));
    let more =
        [("VAULT_TRANSIT_MOUNT", "team/transit"), ("VAULT_NAMESPACE", "ns/"), ("VAULT_CACERT", "/ca.pem")];
    let Place::Transit(all) = place(&[&VAULT[..], &more].concat()) else { panic!("another kind") };
    assert_eq!((all.mount.as_str(), all.namespace.as_deref()), ("team/transit", Some("ns")));
    assert_eq!(all.ca_file.as_deref(), Some(Path::new("/ca.pem")));
}

#[test]
fn vault_with_two_logins_or_none_is_refused() {
    let none = ("VAULT_TOKEN", "-");
    for (vars, said) in [
        (
            &[("VAULT_ROLE_ID", "r")][..],
            "VAULT_TOKEN and VAULT_ROLE_ID are set; only one may be: they are ways to log in.",
        ),
        (
            &[("VAULT_ROLE_ID", "r"), ("VAULT_KUBERNETES_ROLE", "k"), none][..],
            "VAULT_ROLE_ID and VAULT_KUBERNETES_ROLE are set; only one may be: they are ways to log in.",
        ),
        (
            &[none][..],
            "VAULT_TOKEN, VAULT_ROLE_ID or VAULT_KUBERNETES_ROLE is required with KMS_PROVIDER=vault.",
        ),
        (&[("VAULT_SECRET_ID", CANARY)][..], "VAULT_SECRET_ID is set without VAULT_ROLE_ID."),
        (&[("VAULT_JWT_FILE", "/t")][..], "VAULT_JWT_FILE is set without VAULT_KUBERNETES_ROLE."),
        (
            &[("VAULT_AUTH_MOUNT", "x")][..],
            "VAULT_AUTH_MOUNT is set, but VAULT_TOKEN needs no login; unset one of them.",
        ),
        (
            &[("VAULT_TOKEN_FILE", "/run/secret")][..],
            "VAULT_TOKEN and VAULT_TOKEN_FILE are both set; only one may be.",
        ),
        (&[("VAULT_TOKEN", " ")][..], "VAULT_TOKEN is set but empty; give it a value or unset it."),
        (
            &[("VAULT_ADDR", "http://vault.example")][..],
            "VAULT_ADDR must be https: credentials are sent there (http is for loopback only).",
        ),
        (
            &[("VAULT_ADDR", "https://x:hunter2-canary@vault.example")][..],
            "VAULT_ADDR must have no user name or password in it.",
        ),
        (
            &[("VAULT_TRANSIT_KEY", "../x")][..],
            "VAULT_TRANSIT_KEY must be a name of up to 128 letters, digits, _, - and ..",
        ),
        (
            &[("VAULT_TRANSIT_MOUNT", "a//b")][..],
            "VAULT_TRANSIT_MOUNT must be a path of names of letters, digits, _, - and ..",
        ),
    ] {
        assert_eq!(wrong(&[&VAULT[..], vars].concat()), [said], "{vars:?}");
    }
}

#[test]
fn google_and_azure() {
    let name = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
    let gcp = [("KMS_PROVIDER", "gcp"), ("KMS_KEY_NAME", name)];
    let plain = Gcp { key_name: name.into(), credentials_file: None, endpoint: None, hsm: false };
    assert_eq!(place(&gcp), Place::Gcp(plain.clone()));
    let more = [("KMS_CREDENTIALS_FILE", "/c.json"), ("KMS_HSM", "true")];
    let file = Some("/c.json".into());
    assert_eq!(
        place(&[&gcp[..], &more].concat()),
        Place::Gcp(Gcp { credentials_file: file, hsm: true, ..plain })
    );
    for other in ["k", "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"] {
        let told = wrong(&[("KMS_PROVIDER", "gcp"), ("KMS_KEY_NAME", other)]);
        assert_eq!(told, ["KMS_KEY_NAME must be projects/P/locations/L/keyRings/R/cryptoKeys/K."]);
    }

    let url = "https://v.vault.azure.net/keys/k";
    let azure = [("KMS_PROVIDER", "azure"), ("KMS_KEY_URL", url)];
    let at = |login| {
        Place::Azure(Azure { key_url: url.into(), resource: None, authority: None, hsm: false, login })
    };
    assert_eq!(place(&azure), at(AzureLogin::Managed { client_id: None }));
    let (tenant_id, client_id) = ("t".to_owned(), "c".to_owned());
    let who = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")];
    let secret = [&azure[..], &who, &[("AZURE_CLIENT_SECRET_FILE", "/run/secret")]].concat();
    let login = AzureLogin::ClientSecret {
        tenant_id: tenant_id.clone(),
        client_id: client_id.clone(),
        secret: hidden(CANARY),
    };
    assert_eq!(place(&secret), at(login));
    let token = [&azure[..], &who, &[("AZURE_FEDERATED_TOKEN_FILE", "/t")]].concat();
    assert_eq!(place(&token), at(AzureLogin::Workload { tenant_id, client_id, token_file: "/t".into() }));
    for (vars, said) in [
        (
            [&secret[..], &[("AZURE_FEDERATED_TOKEN_FILE", "/t")]].concat(),
            "AZURE_CLIENT_SECRET and AZURE_FEDERATED_TOKEN_FILE are both set; only one may be.",
        ),
        (
            [&azure[..], &who].concat(),
            "AZURE_TENANT_ID is set without AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE.",
        ),
        (
            [&token[..], &[("AZURE_CLIENT_ID", "-")]].concat(),
            "AZURE_CLIENT_ID is required with KMS_PROVIDER=azure.",
        ),
        (
            [&azure[..], &[("KMS_KEY_URL", "http://v.vault.azure.net/keys/k")]].concat(),
            "KMS_KEY_URL must be https://NAME.vault.azure.net/keys/KEY, with or without /VERSION.",
        ),
    ] {
        assert_eq!(wrong(&vars), [said]);
    }
}

#[test]
fn an_hsm() {
    let vars = [&HSM[..], &[("PKCS11_KEY_ID", "01aF"), ("PKCS11_SESSIONS", "8")]].concat();
    let hsm = Pkcs11 {
        library: "/usr/lib/hsm.so".into(),
        slot: "label:scai".into(),
        pin: hidden(CANARY),
        key_label: "root".into(),
        key_id: Some(vec![1, 0xaf]),
        sessions: 8,
    };
    assert_eq!(place(&vars), Place::Pkcs11(hsm));
    for (name, value, said) in [
        ("PKCS11_PIN", "-", "PKCS11_PIN, or PKCS11_PIN_FILE, is required with KMS_PROVIDER=pkcs11."),
        ("PKCS11_LIBRARY", "-", "PKCS11_LIBRARY is required with KMS_PROVIDER=pkcs11."),
        ("PKCS11_SLOT", "slot:first", "PKCS11_SLOT must have digits behind slot:, the id of a slot."),
        ("PKCS11_SLOT", "label:", "PKCS11_SLOT must have a name behind the colon."),
        ("PKCS11_KEY_ID", "1", "PKCS11_KEY_ID must be hexadecimal digits, two a byte."),
        ("PKCS11_KEY_ID", "xx", "PKCS11_KEY_ID must be hexadecimal digits, two a byte."),
        ("PKCS11_SESSIONS", "0", "PKCS11_SESSIONS must be an integer from 1 to 64."),
        ("PKCS11_PIN_FILE", "/run/secret", "PKCS11_PIN and PKCS11_PIN_FILE are both set; only one may be."),
        (
            "KMS_ATTEMPT_TIMEOUT",
            "2s",
            "KMS_ATTEMPT_TIMEOUT is set, but KMS_PROVIDER is pkcs11; it belongs to aws, gcp, azure, transit: unset it.",
        ),
    ] {
        assert_eq!(wrong(&[&HSM[..], &[(name, value)]].concat()), [said]);
    }
    let from_file = [&HSM[..], &[("PKCS11_PIN", "-"), ("PKCS11_PIN_FILE", "/run/secret")]].concat();
    let Place::Pkcs11(hsm) = place(&from_file) else { panic!("another kind") };
    assert_eq!(hsm.pin.expose(), CANARY);
    assert!(!format!("{:?}", roots(&from_file).unwrap()).contains(CANARY));
}

#[test]
fn a_setting_of_another_provider_is_refused_by_name() {
    for (vars, name, said) in [
        (
            &VAULT[..],
            "KMS_KEY_ID",
            "KMS_KEY_ID is set, but KMS_PROVIDER is vault; it belongs to aws: unset it.",
        ),
        (
            &HSM[..],
            "VAULT_TOKEN",
            "VAULT_TOKEN is set, but KMS_PROVIDER is pkcs11; it belongs to vault: unset it.",
        ),
        (
            &HSM[..],
            "KMS_ENDPOINT",
            "KMS_ENDPOINT is set, but KMS_PROVIDER is pkcs11; it belongs to aws, gcp: unset it.",
        ),
        (
            &VAULT[..],
            "KMS_LOCAL_KEY_FILE",
            "KMS_LOCAL_KEY_FILE is set, but KMS_PROVIDER is vault; it belongs to local: unset it.",
        ),
        (&VAULT[..], "TPM_TCTI", "TPM_TCTI is set, but KMS_PROVIDER is vault; it belongs to tpm: unset it."),
    ] {
        assert_eq!(wrong(&[vars, &[(name, CANARY)]].concat()), [said]);
    }
    // Azure's own names may be there for others.
    assert!(roots(&[&VAULT[..], &[("AZURE_CLIENT_ID", "x")]].concat()).is_ok());
}

#[test]
fn further_root_keys_have_a_number_and_a_name() {
    let numbered: Vec<_> = HSM.iter().map(|(name, value)| (format!("{name}_3"), *value)).collect();
    let numbered = numbered.iter().map(|(name, value)| (name.as_str(), *value));
    let second = [("KMS_PROVIDER_2", "local"), ("KMS_LOCAL_KEY_FILE_2", "/k/2"), ("KMS_TIMEOUT_2", "1m")];
    let fourth = [("KMS_PROVIDER_4", "local"), ("KMS_LOCAL_KEY_FILE_4", "/k/4")];
    let vars: Vec<_> = VAULT.into_iter().chain(second).chain(numbered).chain(fourth).collect();
    let all = roots(&vars).unwrap();
    let seen: Vec<_> =
        all.iter().map(|root| (root.name.as_str(), root.suffix, root.timeout.as_secs())).collect();
    assert_eq!(seen, [("transit", "", 10), ("local", "_2", 60), ("pkcs11", "_3", 10), ("local-2", "_4", 10)]);
    let named = |names: &[(&'static str, &'static str)]| [&vars[..], names].concat();
    let all = roots(&named(&[("KMS_NAME_4", "local"), ("KMS_NAME", "main")])).unwrap();
    assert_eq!(
        all.iter().map(|root| root.name.as_str()).collect::<Vec<_>>(),
        ["main", "local-2", "pkcs11", "local"]
    );

    let twice = named(&[("KMS_NAME", "same"), ("KMS_NAME_3", "same")]);
    assert_eq!(wrong(&twice), ["KMS_NAME and KMS_NAME_3 are the same."]);
    assert_eq!(wrong(&named(&[("KMS_NAME_2", "Big")])), ["KMS_NAME_2 must be 1 to 32 of a-z, 0-9 and -."]);
    assert_eq!(
        wrong(&named(&[("PKCS11_PIN_3", "-")])),
        ["PKCS11_PIN_3, or PKCS11_PIN_FILE_3, is required with KMS_PROVIDER_3=pkcs11."]
    );
    assert_eq!(
        wrong(&named(&[("VAULT_TOKEN_2", CANARY)])),
        ["VAULT_TOKEN_2 is set, but KMS_PROVIDER_2 is local; it belongs to vault: unset it."]
    );
    let orphan = wrong(&named(&[("KMS_PROVIDER_2", "-")]));
    assert_eq!(orphan.len(), 2, "{orphan:?}");
    assert!(orphan.iter().all(|problem| problem.ends_with("is set without KMS_PROVIDER_2.")), "{orphan:?}");
    assert!(wrong(&named(&[("KMS_PROVIDER_5", "local")]))[0].contains("KMS_PROVIDER_5 is not a setting"));
    assert!(wrong(&named(&[("KMS_PROVIDER_2", "ibm")]))[0].starts_with("KMS_PROVIDER_2 must be aws, gcp"));
}

#[test]
fn bounds_of_time_and_number() {
    for (name, value, said) in [
        ("KMS_TIMEOUT", "0s", "KMS_TIMEOUT must be a duration from 1s to 5m."),
        ("KMS_TIMEOUT", "6m", "KMS_TIMEOUT must be a duration from 1s to 5m."),
        ("KMS_ATTEMPT_TIMEOUT", "11s", "KMS_ATTEMPT_TIMEOUT must not be longer than KMS_TIMEOUT."),
        ("KMS_CONCURRENCY", "0", "KMS_CONCURRENCY must be an integer from 1 to 1024."),
    ] {
        assert_eq!(wrong(&[&VAULT[..], &[(name, value)]].concat()), [said]);
    }
    let root = roots(&[&VAULT[..], &[("KMS_TIMEOUT", "2s")]].concat()).unwrap().remove(0);
    assert_eq!((root.timeout.as_secs(), root.attempt.as_secs(), root.concurrency), (2, 2, 64));
}

#[test]
fn a_provider_that_is_not_built_in_is_named_with_its_feature() {
    for (kind, built) in [
        ("aws", cfg!(feature = "aws")),
        ("azure", cfg!(feature = "azure")),
        ("gcp", cfg!(feature = "gcp")),
        ("pkcs11", cfg!(feature = "pkcs11")),
        ("tpm", cfg!(feature = "tpm")),
        ("transit", cfg!(feature = "transit")),
    ] {
        let sentence = format!(
            "KMS_PROVIDER is {kind}, which this build does not have: it was built without the feature {kind}."
        );
        let told =
            roots(&[("KMS_PROVIDER", kind)]).map_or_else(|error| error.problems().to_vec(), |_| vec![]);
        assert_eq!(told.contains(&sentence), !built, "{kind}: {told:?}");
    }
}

#[cfg(feature = "tpm")]
#[test]
fn a_tpm() {
    let tpm = |vars: &[(&str, &str)]| place(&[&[("KMS_PROVIDER", "tpm")], vars].concat());
    let plain = Tpm {
        tcti: "device:/dev/tpmrm0".into(),
        key_label: "scaivault-root".into(),
        handle: None,
        owner_auth: None,
    };
    assert_eq!(tpm(&[]), Place::Tpm(plain.clone()));
    let kept = Tpm { handle: Some(0x8100_0001), owner_auth: Some(hidden(CANARY)), ..plain };
    assert_eq!(tpm(&[("TPM_KEY_HANDLE", "0x81000001"), ("TPM_OWNER_AUTH", CANARY)]), Place::Tpm(kept));
    let other = wrong(&[("KMS_PROVIDER", "tpm"), ("TPM_KEY_HANDLE", "81000001")]);
    assert_eq!(other, ["TPM_KEY_HANDLE must be a handle from 0x81000000 to 0x817fffff."]);
}
