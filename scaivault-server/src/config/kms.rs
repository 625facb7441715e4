//! The settings of root keys.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use scaivault_core::limits;

use super::{
    place::{Aws, Azure, AzureLogin, Gcp, Kind, Kms, Local, Pkcs11, Place, Root, Tpm, Transit, VaultLogin},
    read::Reader,
    table::{self, Part, SUFFIXES},
    value::{self, Hidden},
};

/// The root keys; `None` once a problem was told.
pub(super) fn kms(from: &mut Reader<'_>) -> Option<Kms> {
    let cache_ttl = from.duration("KEY_CACHE_TTL", limits::KEY_CACHE_TTL);
    let anchor_file = from.text("ANCHOR_FILE").map(PathBuf::from);
    let mut found = Vec::new();
    for suffix in SUFFIXES {
        let mut of = Of { from, suffix };
        let Some(kind) = of.provider() else { continue };
        of.refuse_others(kind);
        found.push(of.root(kind));
        if suffix.is_empty() && kind == Kind::Aws {
            found.extend(of.secondary(found.last().and_then(Option::as_ref)).map(Some));
        }
    }
    let mut roots: Vec<Root> = found.into_iter().collect::<Option<_>>()?;
    name(&mut roots, from)?;
    let anchor_file = anchor_file.or_else(|| roots.first().and_then(beside));
    (!roots.is_empty()).then_some(Kms { roots, anchor_file, cache_ttl })
}

/// The root key's file with `.anchor` behind its name.
fn beside(root: &Root) -> Option<PathBuf> {
    let Place::Local(Local { key_file, .. }) = &root.place else { return None };
    let mut name = key_file.file_name().unwrap_or_default().to_owned();
    name.push(".anchor");
    Some(key_file.with_file_name(name))
}

/// Names those that the operator did not, and refuses a name that is there twice.
fn name(roots: &mut [Root], from: &mut Reader<'_>) -> Option<()> {
    let mut taken: BTreeMap<String, &'static str> = BTreeMap::new();
    for root in roots.iter().filter(|root| !root.name.is_empty()) {
        if let Some(first) = taken.insert(root.name.clone(), root.suffix) {
            from.problem(format!("KMS_NAME{first} and KMS_NAME{} are the same.", root.suffix));
            return None;
        }
    }
    for root in roots.iter_mut().filter(|root| root.name.is_empty()) {
        let kind = root.place.kind();
        let numbered = |n: usize| if n == 1 { kind.to_string() } else { format!("{kind}-{n}") };
        root.name = (1..).map(numbered).find(|name| !taken.contains_key(name)).unwrap_or_default();
        taken.insert(root.name.clone(), root.suffix);
    }
    Some(())
}

/// Reads the variables of one root key.
struct Of<'r, 'a> {
    from: &'r mut Reader<'a>,
    suffix: &'static str,
}

impl Of<'_, '_> {
    fn named(&self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.from.text(&self.named(name))
    }

    fn parsed<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let (name, value) = (self.named(name), self.text(name));
        self.from.parsed(&name, value, parse)
    }

    /// A value that a root key of this kind cannot be without.
    fn required<T>(
        &mut self,
        kind: Kind,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.text(name).is_none() {
            self.missing(kind, &self.named(name));
        }
        self.parsed(name, parse)
    }

    fn missing(&mut self, kind: Kind, what: &str) {
        let provider = self.text("KMS_PROVIDER").unwrap_or_else(|| kind.to_string());
        let sentence = format!("{what} is required with {}={provider}.", self.named("KMS_PROVIDER"));
        // The name of the first variable, if it was objected to for being empty.
        if !self.from.is_empty(what.split([',', ' ']).next().unwrap_or_default()) {
            self.from.problem(sentence);
        }
    }

    fn secret(&mut self, name: &str) -> Option<Hidden> {
        let file = self.named(&format!("{name}_FILE"));
        self.from.optional_secret(&self.named(name), &file).map(Hidden::new)
    }

    fn has_secret(&self, name: &str) -> bool {
        self.text(name).is_some() || self.text(&format!("{name}_FILE")).is_some()
    }

    fn number(&mut self, name: &str, default: u32, range: std::ops::RangeInclusive<u32>) -> usize {
        let name = self.named(name);
        usize::try_from(self.from.number(&name, default, range)).unwrap_or(usize::MAX)
    }

    /// What there is; `None` if nothing, or if it is none of ours, or absent and told to be missing.
    fn provider(&mut self) -> Option<Kind> {
        if self.text("KMS_PROVIDER").is_some() {
            return self.parsed("KMS_PROVIDER", Kind::parse);
        }
        if self.suffix.is_empty() {
            self.from.required("KMS_PROVIDER");
            return None;
        }
        for variable in self.set() {
            let provider = self.named("KMS_PROVIDER");
            self.from.problem(format!("{variable} is set without {provider}."));
        }
        None
    }

    /// The variables with this suffix that are set and describe a root key.
    fn set(&self) -> Vec<String> {
        let ours = |name: &&str| {
            table::find(name).is_some_and(|(setting, suffix)| setting.part.is_root() && suffix == self.suffix)
        };
        self.from.names().filter(ours).map(str::to_owned).collect()
    }

    /// Refuses what belongs to another provider. Azure's own names may be there for somebody else.
    fn refuse_others(&mut self, kind: Kind) {
        for variable in self.set() {
            let Some((setting, _)) = table::find(&variable) else { continue };
            let lent = self.suffix.is_empty() && setting.name.starts_with("AZURE_");
            if setting.part.belongs_to(kind) || lent {
                continue;
            }
            let owner = match setting.part {
                Part::Provider(Kind::Transit) => "vault".to_owned(),
                Part::Provider(owner) => owner.to_string(),
                Part::Shared(owners) => owners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                _ => continue,
            };
            let (name, provider) =
                (self.named("KMS_PROVIDER"), self.text("KMS_PROVIDER").unwrap_or_default());
            self.from.problem(format!(
                "{variable} is set, but {name} is {provider}; it belongs to {owner}: unset it."
            ));
        }
    }

    fn root(&mut self, kind: Kind) -> Option<Root> {
        let named = self.text("KMS_NAME").is_some();
        let name = self.parsed("KMS_NAME", value::root_name);
        let timeout = match self.parsed("KMS_TIMEOUT", value::timeout) {
            None if self.text("KMS_TIMEOUT").is_some() => None,
            given => Some(given.unwrap_or(kind.timeout())),
        };
        let attempt = match (self.parsed("KMS_ATTEMPT_TIMEOUT", value::timeout), timeout) {
            (Some(attempt), Some(timeout)) if attempt > timeout => {
                let (name, other) = (self.named("KMS_ATTEMPT_TIMEOUT"), self.named("KMS_TIMEOUT"));
                self.from.problem(format!("{name} must not be longer than {other}."));
                None
            }
            (given, timeout) => timeout.map(|timeout| given.unwrap_or(ATTEMPT).min(timeout)),
        };
        let concurrency = self.number("KMS_CONCURRENCY", 64, 1..=1024);
        let place = match kind {
            Kind::Aws => self.aws(),
            Kind::Gcp => self.gcp(),
            Kind::Azure => self.azure(),
            Kind::Transit => self.transit(),
            Kind::Pkcs11 => self.pkcs11(),
            Kind::Tpm => self.tpm(),
            Kind::Local => self.local(),
        };
        if named && name.is_none() {
            return None;
        }
        Some(Root {
            name: name.unwrap_or_default(),
            suffix: self.suffix,
            timeout: timeout?,
            attempt: attempt?,
            concurrency,
            place: place?,
        })
    }

    fn aws(&mut self) -> Option<Place> {
        let key_id = self.required(Kind::Aws, "KMS_KEY_ID", value::aws_key);
        let region = self.text("KMS_REGION");
        if let (Some(key), Some(region)) = (&key_id, &region)
            && value::region_of(key).is_some_and(|own| own != region)
        {
            let (name, key) = (self.named("KMS_REGION"), self.named("KMS_KEY_ID"));
            self.from.problem(format!("{name} is another region than that of the ARN in {key}."));
            return None;
        }
        let endpoint = self.optional("KMS_ENDPOINT", value::service)?;
        Some(Place::Aws(Aws { key_id: key_id?, region, endpoint, profile: self.text("KMS_PROFILE") }))
    }

    /// `KMS_KEY_ID_SECONDARY`, as a root key beside the first.
    fn secondary(&mut self, first: Option<&Root>) -> Option<Root> {
        let key = self.parsed("KMS_KEY_ID_SECONDARY", value::aws_key)?;
        let first = first?;
        let Place::Aws(Aws { key_id, region, endpoint, profile }) = &first.place else { return None };
        if key == *key_id {
            self.from.problem("KMS_KEY_ID_SECONDARY is the key that KMS_KEY_ID is.");
            return None;
        }
        let own = value::region_of(&key).map(str::to_owned);
        let region = own.or_else(|| region.clone()).or_else(|| value::region_of(key_id).map(str::to_owned));
        let place =
            Place::Aws(Aws { key_id: key, region, endpoint: endpoint.clone(), profile: profile.clone() });
        Some(Root { name: String::new(), place, ..first.clone() })
    }

    fn gcp(&mut self) -> Option<Place> {
        let key_name = self.required(Kind::Gcp, "KMS_KEY_NAME", value::gcp_key);
        let endpoint = self.optional("KMS_ENDPOINT", value::service)?;
        let credentials_file = self.text("KMS_CREDENTIALS_FILE").map(PathBuf::from);
        let hsm = self.hsm();
        Some(Place::Gcp(Gcp { key_name: key_name?, credentials_file, endpoint, hsm }))
    }

    fn azure(&mut self) -> Option<Place> {
        let key_url = self.required(Kind::Azure, "KMS_KEY_URL", value::azure_key);
        let resource = self.optional("KMS_RESOURCE", value::service)?;
        let authority = self.optional("AZURE_AUTHORITY_HOST", value::service)?;
        let hsm = self.hsm();
        let login = self.azure_login()?;
        Some(Place::Azure(Azure { key_url: key_url?, resource, authority, hsm, login }))
    }

    fn azure_login(&mut self) -> Option<AzureLogin> {
        let (tenant, client) = (self.text("AZURE_TENANT_ID"), self.text("AZURE_CLIENT_ID"));
        let token_file = self.text("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from);
        let has_secret = self.has_secret("AZURE_CLIENT_SECRET");
        if !has_secret && token_file.is_none() {
            if tenant.is_none() {
                return Some(AzureLogin::Managed { client_id: client });
            }
            let (one, secret) = (self.named("AZURE_TENANT_ID"), self.named("AZURE_CLIENT_SECRET"));
            let file = self.named("AZURE_FEDERATED_TOKEN_FILE");
            self.from.problem(format!("{one} is set without {secret} or {file}."));
            return None;
        }
        for (name, value) in [("AZURE_TENANT_ID", &tenant), ("AZURE_CLIENT_ID", &client)] {
            if value.is_none() {
                self.missing(Kind::Azure, &self.named(name));
            }
        }
        let (tenant_id, client_id) = (tenant?, client?);
        match token_file {
            None => {
                let secret = self.secret("AZURE_CLIENT_SECRET")?;
                Some(AzureLogin::ClientSecret { tenant_id, client_id, secret })
            }
            Some(token_file) if !has_secret => {
                Some(AzureLogin::Workload { tenant_id, client_id, token_file })
            }
            Some(_) => {
                let (one, other) =
                    (self.named("AZURE_CLIENT_SECRET"), self.named("AZURE_FEDERATED_TOKEN_FILE"));
                self.from.problem(format!("{one} and {other} are both set; only one may be."));
                None
            }
        }
    }

    fn hsm(&mut self) -> bool {
        self.from.flag(&self.named("KMS_HSM"), false)
    }

    /// The inner `None` if it is not set, the outer if it is wrong.
    fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match self.text(name) {
            None => Some(None),
            Some(_) => self.parsed(name, parse).map(Some),
        }
    }

    fn transit(&mut self) -> Option<Place> {
        let address = self.required(Kind::Transit, "VAULT_ADDR", value::service);
        let key = self.required(Kind::Transit, "VAULT_TRANSIT_KEY", value::vault_name);
        let mount =
            self.optional("VAULT_TRANSIT_MOUNT", value::vault_path)?.unwrap_or_else(|| "transit".to_owned());
        let namespace = self.optional("VAULT_NAMESPACE", value::vault_path)?;
        let ca_file = self.text("VAULT_CACERT").map(PathBuf::from);
        let login = self.vault_login();
        Some(Place::Transit(Transit {
            address: address?,
            mount,
            key: key?,
            namespace,
            ca_file,
            login: login?,
        }))
    }

    fn vault_login(&mut self) -> Option<VaultLogin> {
        let ways = [
            ("VAULT_TOKEN", self.has_secret("VAULT_TOKEN")),
            ("VAULT_ROLE_ID", self.text("VAULT_ROLE_ID").is_some()),
            ("VAULT_KUBERNETES_ROLE", self.text("VAULT_KUBERNETES_ROLE").is_some()),
        ];
        let given: Vec<_> = ways.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        let way = match given[..] {
            [way] => way,
            [] => {
                let [token, role, kubernetes] = ways.map(|(name, _)| self.named(name));
                self.missing(Kind::Transit, &format!("{token}, {role} or {kubernetes}"));
                return None;
            }
            _ => {
                let names: Vec<_> = given.iter().map(|name| self.named(name)).collect();
                self.from.problem(format!(
                    "{} are set; only one may be: they are ways to log in.",
                    names.join(" and ")
                ));
                return None;
            }
        };
        // What belongs to a way that is not taken.
        let owners = [("VAULT_SECRET_ID", "VAULT_ROLE_ID"), ("VAULT_JWT_FILE", "VAULT_KUBERNETES_ROLE")];
        for (name, owner) in owners {
            if self.has_secret(name) && way != owner {
                let (name, owner) = (self.named(name), self.named(owner));
                self.from.problem(format!("{name} is set without {owner}."));
                return None;
            }
        }
        let mount = match self.text("VAULT_AUTH_MOUNT") {
            None => None,
            Some(_) if way == "VAULT_TOKEN" => {
                let (name, token) = (self.named("VAULT_AUTH_MOUNT"), self.named("VAULT_TOKEN"));
                self.from.problem(format!("{name} is set, but {token} needs no login; unset one of them."));
                return None;
            }
            Some(_) => Some(self.parsed("VAULT_AUTH_MOUNT", value::vault_path)?),
        };
        let mount = |usual: &str| mount.unwrap_or_else(|| usual.to_owned());
        match way {
            "VAULT_TOKEN" => self.secret("VAULT_TOKEN").map(VaultLogin::Token),
            "VAULT_ROLE_ID" => {
                let secret_id = match self.has_secret("VAULT_SECRET_ID") {
                    true => Some(self.secret("VAULT_SECRET_ID")?),
                    false => None,
                };
                Some(VaultLogin::AppRole {
                    mount: mount("approle"),
                    role_id: self.text("VAULT_ROLE_ID")?,
                    secret_id,
                })
            }
            _ => {
                let jwt_file =
                    self.text("VAULT_JWT_FILE").unwrap_or_else(|| SERVICE_ACCOUNT.to_owned()).into();
                let role = self.text("VAULT_KUBERNETES_ROLE")?;
                Some(VaultLogin::Kubernetes { mount: mount("kubernetes"), role, jwt_file })
            }
        }
    }

    fn pkcs11(&mut self) -> Option<Place> {
        let plain = |text: &str| Ok(text.to_owned());
        let library = self.required(Kind::Pkcs11, "PKCS11_LIBRARY", plain).map(PathBuf::from);
        let slot = self.required(Kind::Pkcs11, "PKCS11_SLOT", value::slot);
        if !self.has_secret("PKCS11_PIN") {
            let or = format!("{}, or {},", self.named("PKCS11_PIN"), self.named("PKCS11_PIN_FILE"));
            self.missing(Kind::Pkcs11, &or);
        }
        let pin = self.secret("PKCS11_PIN");
        let key_label = self.required(Kind::Pkcs11, "PKCS11_KEY_LABEL", plain);
        let key_id = self.optional("PKCS11_KEY_ID", value::hexadecimal)?;
        let sessions = self.number("PKCS11_SESSIONS", 4, 1..=64);
        Some(Place::Pkcs11(Pkcs11 {
            library: library?,
            slot: slot?,
            pin: pin?,
            key_label: key_label?,
            key_id,
            sessions,
        }))
    }

    fn tpm(&mut self) -> Option<Place> {
        let tcti = self.text("TPM_TCTI").unwrap_or_else(|| "device:/dev/tpmrm0".to_owned());
        let key_label = self.text("TPM_KEY_LABEL").unwrap_or_else(|| "scaivault-root".to_owned());
        let handle = self.optional("TPM_KEY_HANDLE", value::handle)?;
        let owner_auth = match self.has_secret("TPM_OWNER_AUTH") {
            true => Some(self.secret("TPM_OWNER_AUTH")?),
            false => None,
        };
        Some(Place::Tpm(Tpm { tcti, key_label, handle, owner_auth }))
    }

    fn local(&mut self) -> Option<Place> {
        let key_file = self.required(Kind::Local, "KMS_LOCAL_KEY_FILE", |text| Ok(PathBuf::from(text)));
        let older = self.optional("KMS_LOCAL_OLD_KEY_FILES", value::list)?.unwrap_or_default();
        Some(Place::Local(Local {
            key_file: key_file?,
            old_key_files: older.into_iter().map(PathBuf::from).collect(),
        }))
    }
}

/// For one attempt, where a service is asked over a network.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Where a pod finds its token.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
