use serde::Serialize;
use time::OffsetDateTime;

/// The keys there are, and what is under them. Nothing here is secret.
#[derive(Clone, Debug, Serialize)]
pub struct KeyStatus {
    /// The root key that wraps now.
    pub root: RootKeyStatus,
    /// Every root key that is configured or that the database knows.
    pub roots: Vec<RootStatus>,
    /// Every partner key.
    pub partner_keys: Vec<PartnerKeyStatus>,
    /// Every tenant key, by tenant and version.
    pub tenant_keys: Vec<TenantKeyStatus>,
}

/// A root key as its provider names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RootKeyStatus {
    /// The kind of provider.
    pub provider: String,
    /// The name at the provider.
    pub key_id: String,
    /// The version, where the provider has versions.
    pub key_version: Option<String>,
}

/// A root key, as the database knows it and as it is configured.
#[derive(Clone, Debug, Serialize)]
pub struct RootStatus {
    /// What the operator calls it; `None` if it is not configured.
    pub name: Option<String>,
    /// The kind of provider; `recovery` if its private key is in shares.
    pub provider: String,
    /// The name at the provider.
    pub key_id: String,
    /// The version, where the provider has versions and the root key is configured.
    pub key_version: Option<String>,
    /// `active`: it wraps; `removing`, `removed`; `pending`: a recovery root whose making was not finished; `inactive`:
    /// it is configured and was never added.
    pub state: String,
    /// Why it cannot be used now, in one word; `None` if it can, or is not configured.
    pub failure: Option<&'static str>,
    /// Keys that are wrapped under it: partner keys, and those of the vault itself.
    pub wraps: u64,
    /// Keys that are not wrapped under it, and are to be.
    pub missing: u64,
    /// Of a recovery root: how many shares make its key, and how many there are.
    pub shares: Option<(i64, i64)>,
    /// Since when it wraps.
    #[serde(serialize_with = "crate::wire::seconds_opt")]
    pub added_at: Option<OffsetDateTime>,
    /// Since when it does no more.
    #[serde(serialize_with = "crate::wire::seconds_opt")]
    pub removed_at: Option<OffsetDateTime>,
}

/// A partner key.
#[derive(Clone, Debug, Serialize)]
pub struct PartnerKeyStatus {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub partner_id: String,
    /// Counted from 1; the newest seals.
    pub version: i64,
    /// The first of the root keys that it is under; `None` if the stored wraps cannot be read.
    pub root: Option<RootKeyStatus>,
    /// Every root key that it is under.
    pub roots: Vec<RootKeyStatus>,
    /// Whether it is under a configured root key, and under the current version of each that it is under.
    pub root_is_current: bool,
    /// Since when it is there.
    #[serde(serialize_with = "crate::wire::seconds")]
    pub created_at: OffsetDateTime,
    /// When a newer key replaced it.
    #[serde(serialize_with = "crate::wire::seconds_opt")]
    pub retired_at: Option<OffsetDateTime>,
    /// Tenant keys under it.
    pub tenant_keys: i64,
}

/// A tenant key.
#[derive(Clone, Debug, Serialize)]
pub struct TenantKeyStatus {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub tenant_id: String,
    /// Counted from 1; the newest seals.
    pub version: i64,
    /// The partner key that it is under.
    pub partner_key_id: String,
    /// Since when it is there.
    #[serde(serialize_with = "crate::wire::seconds")]
    pub created_at: OffsetDateTime,
    /// When a newer key replaced it.
    #[serde(serialize_with = "crate::wire::seconds_opt")]
    pub retired_at: Option<OffsetDateTime>,
    /// When it may be destroyed, if nothing is found under it until then.
    #[serde(serialize_with = "crate::wire::seconds_opt")]
    pub destroy_after: Option<OffsetDateTime>,
    /// Rows that are still under a retired key; `None` for the key that seals.
    pub rows: Option<RowCounts>,
}

/// Rows by table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// Versions of secrets.
    pub secret_version: i64,
    /// Keys of CAs.
    pub pki_ca: i64,
    /// Kept keys of certificates.
    pub pki_certificate: i64,
    /// Keys that serial numbers are made with.
    pub pki_numbering: i64,
}

impl RowCounts {
    /// All of them.
    #[must_use]
    pub fn total(self) -> i64 {
        self.secret_version + self.pki_ca + self.pki_certificate + self.pki_numbering
    }
}

/// What wrapping the partner keys anew under the root key came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RootRotation {
    /// The root key that wraps now.
    pub root: RootKeyStatus,
    /// Partner keys that were under another one, and are no longer.
    pub rewrapped: u64,
    /// Partner keys that were under it already.
    pub current: u64,
}

/// What adding a root key came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RootAdded {
    /// The root key.
    pub root: RootKeyStatus,
    /// Keys that this call wrapped under it: partner keys, and those of the vault itself.
    pub wrapped: u64,
    /// Keys that were under it already.
    pub current: u64,
}

/// What the bootstrap found at one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RootMade {
    /// What the operator calls it.
    pub name: String,
    /// The root key.
    pub root: RootKeyStatus,
    /// Whether this call made it; otherwise it was there.
    pub made: bool,
}

/// What removing a root key came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RootRemoved {
    /// What the operator calls it; `None` if it is not configured.
    pub name: Option<String>,
    /// The kind of its provider.
    pub provider: String,
    /// Its name there.
    pub key_id: String,
    /// Wraps that this call took away.
    pub dropped: u64,
    /// CAs, of whatever tenants, whose key is in the provider of this name: it has to stay configured, and nothing of
    /// theirs may be destroyed in it. 0 if it is not configured, since nothing is known then.
    pub cas: u64,
}

/// What rotating a partner or tenant key came to, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rotation {
    /// The key that seals now.
    pub key_id: String,
    /// Whether this call made it; otherwise it went on with a rotation that had not been finished.
    pub made: bool,
    /// Wraps that this call put under it.
    pub rewrapped: u64,
    /// Wraps that do not open and were left as they are: their old key stays. [`Keys::verify`](super::Keys::verify)
    /// names them.
    pub broken: u64,
    /// The keys that it replaces.
    pub old: Vec<OldKey>,
}

/// A retired key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OldKey {
    /// Its name.
    pub id: String,
    /// Whether it is gone.
    pub destroyed: bool,
    /// When the background work will destroy it, if it finds nothing under it until then; `None` if it is gone,
    /// or if something is under it still.
    #[serde(serialize_with = "crate::wire::seconds_opt")]
    pub destroy_after: Option<OffsetDateTime>,
}

/// How much of the data keys to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Every one.
    All,
    /// This many of each table of each tenant, chosen at random.
    Sample(usize),
}

/// What a check of the keys found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KeyReport {
    /// What was opened.
    pub checked: Checked,
    /// What each configured root key has opened.
    pub roots: Vec<RootReport>,
    /// How many did not open.
    pub broken_total: u64,
    /// The first of them, by name.
    pub broken: Vec<Broken>,
}

/// What a check of the keys found about one root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RootReport {
    /// What the operator calls it.
    pub name: String,
    /// Wraps that it opened.
    pub opened: u64,
    /// Wraps that it refused; they are among those that are named as broken.
    pub broken: u64,
    /// Wraps about which nothing is known, since it was out or did not let us; the keys opened by another root key.
    pub unchecked: u64,
}

/// How many of each were tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Partner keys.
    pub partner_keys: u64,
    /// Keys of the vault itself that lie under the root keys.
    pub instance_keys: u64,
    /// Tenant keys.
    pub tenant_keys: u64,
    /// Data keys of rows.
    pub data_keys: u64,
}

/// A key that does not open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The table that it is in.
    pub table: &'static str,
    /// What names its row there; the version follows `/` where a row has one.
    pub row: String,
    /// Whose it is: a partner for partner keys, a tenant for others.
    pub owner: String,
    /// Why, without secrets.
    pub reason: String,
}

/// How far a long act has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The table being worked on.
    pub table: &'static str,
    /// Rows done by this call.
    pub done: u64,
    /// Rows there were to do when it began; more may come.
    pub total: u64,
}
