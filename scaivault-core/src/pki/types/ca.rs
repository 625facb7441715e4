use scaivault_pki::{Subject, pem};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{KeyType, PrivateKeyPem, SubjectFields};
use crate::{Error, Result, wire};

/// Where a CA stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaType {
    /// Self-signed.
    Root,
    /// Signed by another CA, of the tenant or outside.
    Intermediate,
}

impl CaType {
    pub(in crate::pki) fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
        }
    }

    pub(in crate::pki) fn parse(text: &str) -> Result<Self> {
        match text {
            "root" => Ok(Self::Root),
            "intermediate" => Ok(Self::Intermediate),
            _ => Err(Error::internal("a stored CA of an unknown type")),
        }
    }
}

/// A CA to be made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaCreate {
    /// Unique in the tenant, in whatever case.
    pub name: String,
    /// The common name of the certificate.
    pub common_name: String,
    /// Root or intermediate.
    pub ca_type: CaType,
    /// Who signs an intermediate.
    #[serde(default)]
    pub parent_ca_id: Option<String>,
    /// `rsa` unless given.
    #[serde(default)]
    pub key_type: Option<KeyType>,
    /// 4096 for rsa, 256 for ec unless given.
    #[serde(default)]
    pub key_size: Option<u32>,
    /// Which of the configured key providers holds the key, inside of which it is made and stays; without one it is made
    /// here and sealed.
    #[serde(default)]
    pub key_provider: Option<String>,
    /// An existing key of the provider, in its own words (a label, an ARN, a handle), instead of a new one. For operators
    /// alone, since tenants share the provider; no other CA may have that key.
    #[serde(default)]
    pub key_ref: Option<String>,
    /// 3650 days for a root, 1825 for an intermediate unless given; cut to the parent's end.
    #[serde(default)]
    pub validity_days: Option<u32>,
    /// The rest of the name.
    #[serde(default)]
    pub subject: SubjectFields,
    /// How many CAs may follow below this one.
    #[serde(default)]
    pub max_path_length: Option<u8>,
    /// Which names it, and every CA below it, may issue for. Within those of its parent.
    #[serde(default)]
    pub name_constraints: Option<NameConstraints>,
    /// Certificate policies, as dotted numbers.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Whether an intermediate is signed by somebody outside, whom the request is for that it then has: it waits for its
    /// certificate. What it may do is for the signer to say, but for `max_path_length`, which is asked for.
    #[serde(default)]
    pub external: bool,
    /// On how many lists stands what it revokes, a power of two up to 128: each certificate names its own. With 1, as
    /// unless given, there is the complete list alone.
    #[serde(default)]
    pub crl_shards: Option<u32>,
    /// Whether its lists have deltas, which are built more often.
    #[serde(default)]
    pub delta_crls: bool,
    /// Whether certificates stay on its lists when they have expired.
    #[serde(default)]
    pub keep_expired_on_crl: bool,
}

impl CaCreate {
    /// A CA of that type with the defaults for the rest.
    #[must_use]
    pub fn new(name: impl Into<String>, common_name: impl Into<String>, ca_type: CaType) -> Self {
        Self {
            name: name.into(),
            common_name: common_name.into(),
            ca_type,
            parent_ca_id: None,
            key_type: None,
            key_size: None,
            key_provider: None,
            key_ref: None,
            validity_days: None,
            subject: SubjectFields::default(),
            max_path_length: None,
            name_constraints: None,
            policies: Vec::new(),
            external: false,
            crl_shards: None,
            delta_crls: false,
            keep_expired_on_crl: false,
        }
    }

    pub(in crate::pki) fn subject(&self) -> Subject {
        let SubjectFields { organization, organizational_unit, country, state, locality } =
            self.subject.clone();
        Subject {
            common_name: self.common_name.clone(),
            organization,
            organizational_unit,
            country,
            state,
            locality,
        }
    }
}

/// Names that a CA may issue for, and names that it may not (RFC 5280, 4.2.1.10).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NameConstraints {
    /// Of a kind that is named here, only these names.
    pub permitted: NameSubtrees,
    /// None of these names, whatever is permitted.
    pub excluded: NameSubtrees,
}

/// Subtrees of names, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NameSubtrees {
    /// Hosts with everything below them.
    pub dns: Vec<String>,
    /// Networks, as `10.0.0.0/8`.
    pub ip: Vec<String>,
    /// Mailboxes, hosts, or `.example.com` for the hosts below a domain.
    pub email: Vec<String>,
    /// Hosts, or `.example.com` for the hosts below a domain.
    pub uri: Vec<String>,
    /// Beginnings of subjects, the last part first: `O=Acme,C=NL`.
    pub directory: Vec<String>,
}

impl NameConstraints {
    pub(in crate::pki) fn engine(&self) -> scaivault_pki::NameConstraints {
        let subtrees = |from: &NameSubtrees| {
            let NameSubtrees { dns, ip, email, uri, directory } = from.clone();
            scaivault_pki::NameSubtrees { dns, ip, email, uri, directory }
        };
        scaivault_pki::NameConstraints {
            permitted: subtrees(&self.permitted),
            excluded: subtrees(&self.excluded),
        }
    }

    pub(in crate::pki) fn of(engine: scaivault_pki::NameConstraints) -> Self {
        let subtrees = |from: scaivault_pki::NameSubtrees| {
            let scaivault_pki::NameSubtrees { dns, ip, email, uri, directory } = from;
            NameSubtrees { dns, ip, email, uri, directory }
        };
        Self { permitted: subtrees(engine.permitted), excluded: subtrees(engine.excluded) }
    }
}

/// Where a CA is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaState {
    /// It waits for the certificate that somebody outside is to sign, and issues nothing.
    Pending,
    /// It issues.
    Active,
    /// It was revoked and issues nothing any more.
    Revoked,
}

/// The certificate of a pending CA.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaInstall {
    /// PEM.
    pub certificate_pem: String,
    /// Those above it, the nearest first, each PEM; as far as they are known.
    #[serde(default)]
    pub chain_pem: Vec<String>,
}

/// A CA that was made elsewhere, with its key.
#[derive(Debug)]
pub struct CaImport {
    /// Unique in the tenant, in whatever case.
    pub name: String,
    /// PEM.
    pub certificate_pem: String,
    /// PEM: PKCS #8, SEC 1 or PKCS #1, not encrypted. Either this or a key in a provider.
    pub private_key_pem: Option<PrivateKeyPem>,
    /// See [`CaCreate::key_provider`].
    pub key_provider: Option<String>,
    /// See [`CaCreate::key_ref`].
    pub key_ref: Option<String>,
    /// See [`CaInstall::chain_pem`].
    pub chain_pem: Vec<String>,
    /// The number of the last revocation list that was published elsewhere: numbers go on from there.
    pub crl_number: u64,
    /// See [`CaCreate::crl_shards`]; certificates that are issued from now on name them.
    pub crl_shards: Option<u32>,
    /// See [`CaCreate::delta_crls`].
    pub delta_crls: bool,
    /// See [`CaCreate::keep_expired_on_crl`].
    pub keep_expired_on_crl: bool,
    /// That list itself, PEM or DER in Base64: complete, and by the key of the CA. What is on it is revoked here, too, and
    /// the higher of its number and `crl_number` counts.
    pub crl_pem: Option<String>,
}

/// Another CA to be certified: one of the vault, or one that a request is there of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaCrossSign {
    /// A CA of the tenant.
    pub ca_id: Option<String>,
    /// A certificate request, PEM. Its subject and key are taken, and nothing else.
    pub csr_pem: Option<String>,
    /// 1825 unless given; cut to the end of who signs.
    pub validity_days: Option<u32>,
    /// As the other CA's own certificate says unless given.
    pub max_path_length: Option<u8>,
    /// As the other CA's own certificate says unless given.
    pub name_constraints: Option<NameConstraints>,
    /// As the other CA's own certificate says unless given.
    pub policies: Option<Vec<String>>,
}

/// A certificate of one CA for the name and key of another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CrossCertificate {
    /// Its identifier in the inventory.
    pub id: String,
    /// Who signed it.
    pub ca_id: String,
    /// PEM.
    pub certificate_pem: String,
    /// Who signed it, and those above, PEM, the nearest first.
    pub chain_pem: String,
}

/// A new key for a CA that is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaRekey {
    /// What the CA with the new key is called here; the name in its certificate stays.
    pub name: String,
    /// As the key before unless given.
    #[serde(default)]
    pub key_type: Option<KeyType>,
    /// As the key before, or the default of another type, unless given.
    #[serde(default)]
    pub key_size: Option<u32>,
    /// See [`CaCreate::key_provider`].
    #[serde(default)]
    pub key_provider: Option<String>,
    /// See [`CaCreate::key_ref`].
    #[serde(default)]
    pub key_ref: Option<String>,
    /// See [`CaCreate::validity_days`]; not where the certificate is signed outside.
    #[serde(default)]
    pub validity_days: Option<u32>,
    /// See [`CaCreate::crl_shards`]; as the CA before unless given, as are the next two.
    #[serde(default)]
    pub crl_shards: Option<u32>,
    /// See [`CaCreate::delta_crls`].
    #[serde(default)]
    pub delta_crls: Option<bool>,
    /// See [`CaCreate::keep_expired_on_crl`].
    #[serde(default)]
    pub keep_expired_on_crl: Option<bool>,
}

/// A request for the certificate of a CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaCsr {
    /// PEM (PKCS #10); none for a CA whose certificate was not asked for outside.
    pub csr_pem: Option<String>,
}

/// A CA, without its key.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct Ca {
    pub id: String,
    pub name: String,
    pub common_name: String,
    pub ca_type: CaType,
    pub parent_ca_id: Option<String>,
    pub key_type: KeyType,
    pub key_size: Option<u32>,
    pub key_provider: Option<String>,
    pub key_ref: Option<String>,
    /// Empty while it is pending.
    pub serial_number: String,
    /// While it is pending, when it was made, as is its end.
    #[serde(serialize_with = "wire::seconds")]
    pub valid_from: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub valid_until: OffsetDateTime,
    pub is_active: bool,
    pub state: CaState,
    /// Counts the keys that followed each other under this name.
    pub generation: i64,
    /// The CA with the key before.
    pub replaces: Option<String>,
    /// How many CAs may follow below it; none if any number.
    pub max_path_length: Option<u32>,
    pub name_constraints: Option<NameConstraints>,
    pub policies: Vec<String>,
    pub certificates_issued: i64,
    pub crl_shards: i64,
    pub delta_crls: bool,
    pub keep_expired_on_crl: bool,
    pub crl_url: Option<String>,
    pub ocsp_url: Option<String>,
    #[serde(serialize_with = "wire::seconds_opt")]
    pub revoked_at: Option<OffsetDateTime>,
    pub revocation_reason: Option<String>,
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
}

/// A CA's certificate, and those above it, the nearest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaCertificate {
    /// PEM.
    pub certificate_pem: String,
    /// PEM blocks one after another; empty for a root.
    pub chain_pem: String,
    /// Other ways up: certificates that CAs of the tenant gave to this name and key, without those that were revoked.
    pub cross_certificates: Vec<CrossCertificate>,
}

/// The complete revocation list that was just built; its PEM is empty if there is too much for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct Crl {
    pub crl_pem: String,
    pub crl_number: i64,
    #[serde(serialize_with = "wire::seconds")]
    pub this_update: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub next_update: OffsetDateTime,
}

/// The current revocation list of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicCrl {
    /// DER.
    pub der: Vec<u8>,
    /// When it was built.
    pub this_update: OffsetDateTime,
    /// Until when it may be used.
    pub next_update: OffsetDateTime,
}

impl PublicCrl {
    /// PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode("X509 CRL", &self.der)
    }
}
