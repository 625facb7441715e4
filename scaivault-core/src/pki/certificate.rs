use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use scaivault_pki::Issued;

use super::{
    Pki, PrivateKeyPem,
    numbering::shard_octet,
    store::{CertificateRow, RevokedCa, StateRow, sql},
    tags,
    types::Certificate,
};
use crate::{
    Code, Error, Result, Scope, TenantId,
    audit::Action,
    envelope::{Sealed, Slot},
    pipeline::{Act, Permit, Write},
    storage::{Arg, json, query},
};

pub(super) const READ: &[Scope] = &[Scope::PkiIssue, Scope::PkiAdmin];

impl<'a> Pki<'a> {
    /// One certificate. Needs `pki:issue` or `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CertificateNotFound`].
    pub async fn certificate(&self, id: &str) -> Result<Certificate> {
        let act = Act::object(Action::PkiCertificateRead, READ, "pki_certificate", Some(id));
        let work = |permit: Permit<'a>| async move {
            let (row, state, cas) = find(&permit, id).await?;
            let certificate = row.into_certificate(state, &cas, permit.ctx().now(), true)?;
            permit.answer(certificate)
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// One certificate and its private key, if its role had the key kept. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CertificateNotFound`].
    pub async fn certificate_with_key(&self, id: &str) -> Result<(Certificate, Option<PrivateKeyPem>)> {
        let act = Act::object(Action::PkiCertificateRead, &[Scope::PkiAdmin], "pki_certificate", Some(id));
        let work = |mut permit: Permit<'a>| async move {
            let (mut row, state, cas) = find(&permit, id).await?;
            let key = match row.take_key() {
                Some(sealed) => {
                    let keys = permit.keys_for(&sealed.key_id).await?;
                    let pkcs8 = keys.open(&key_slot(permit.tenant(), &[id]), &sealed)?;
                    Some(PrivateKeyPem::from_pkcs8(&pkcs8))
                }
                None => None,
            };
            let certificate = row.into_certificate(state, &cas, permit.ctx().now(), true)?;
            permit.note("private_key_read", key.is_some());
            permit.answer((certificate, key))
        };
        self.vault.door.perform(self.ctx, act, work).await
    }
}

/// What the inventory keeps of a certificate besides what it says itself.
pub(super) struct Inventory<'i> {
    pub(super) id: &'i str,
    pub(super) ca_id: &'i str,
    pub(super) role: Option<&'i str>,
    pub(super) common_name: Option<&'i str>,
    pub(super) alt_names: &'i [String],
    pub(super) ip_sans: &'i [String],
    pub(super) tags: Option<&'i BTreeMap<String, String>>,
    pub(super) source: &'static str,
    pub(super) key: Option<&'i Sealed>,
}

pub(super) async fn insert_certificate(
    tx: &mut Write<'_>,
    about: &Inventory<'_>,
    issued: &Issued,
) -> Result<()> {
    register_serial(tx, about, issued).await?;
    keep_certificate(tx, about, issued).await
}

/// The certificate of the CA `about.ca_id`, which somebody outside signed and numbered: it is in the inventory, and no CA
/// here answers for its serial number.
pub(super) async fn insert_outside(tx: &mut Write<'_>, about: &Inventory<'_>, issued: &Issued) -> Result<()> {
    register(tx, None, about, issued).await?;
    keep_certificate(tx, about, issued).await
}

/// The certificate of a serial number that is registered.
pub(super) async fn keep_certificate(
    tx: &mut Write<'_>,
    about: &Inventory<'_>,
    issued: &Issued,
) -> Result<()> {
    let insert = query(sql::INSERT_CERTIFICATE)
        .bind(tx.tenant())
        .bind(about.id)
        .bind(about.ca_id)
        .bind(issued.serial.as_bytes())
        .bind(about.role)
        .bind(about.common_name)
        .bind(json(&about.alt_names)?)
        .bind(json(&about.ip_sans)?)
        .bind(&issued.der)
        .bind(issued.fingerprint_sha256.as_slice())
        .bind(issued.not_before)
        .bind(issued.not_after)
        .bind(about.source)
        .bind(tx.ctx().caller().identity_id())
        .bind(tx.ctx().now())
        .bind(Arg::Bytes(about.key.map(|key| key.ciphertext.as_slice())))
        .bind(Arg::Bytes(about.key.map(|key| key.wrapped_key.as_slice())))
        .bind(about.key.map(|key| key.key_id.as_str()));
    tx.execute(insert).await?;
    tags::index(tx, about).await
}

/// The serial number alone: all that is kept of a certificate whose role keeps none.
///
/// # Errors
/// [`Code::ValidationError`] naming where the key came from if it was compromised.
pub(super) async fn register_serial(
    tx: &mut Write<'_>,
    about: &Inventory<'_>,
    issued: &Issued,
) -> Result<()> {
    register(tx, Some(about.ca_id), about, issued).await
}

async fn register(
    tx: &mut Write<'_>,
    issuer: Option<&str>,
    about: &Inventory<'_>,
    issued: &Issued,
) -> Result<()> {
    // A key that was made a moment ago is nobody's yet; what was issued elsewhere is a fact.
    if !matches!(about.source, "internal" | "ocsp" | "imported") {
        check_key(tx, about.source, &issued.key_sha256).await?;
    }
    let register = query(sql::INSERT_SERIAL)
        .bind(tx.tenant())
        .bind(issuer)
        .bind(issued.serial.as_bytes())
        .bind(about.id)
        .bind(about.source)
        .bind(issued.not_after)
        .bind(issued.key_sha256.as_slice())
        .bind(shard_octet(&issued.serial));
    tx.execute(register).await.map(drop)
}

/// Refuses a key that was compromised, by the SHA-256 of its `SubjectPublicKeyInfo`: for ever, and whoever asks. It came
/// with a certificate of that source.
///
/// # Errors
/// [`Code::ValidationError`] naming `csr_pem` or `certificate_pem`.
pub(super) async fn check_key(tx: &mut Write<'_>, source: &str, key_sha256: &[u8]) -> Result<()> {
    let blocked = query(sql::BLOCKED).bind(tx.tenant()).bind(key_sha256);
    let field = if matches!(source, "csr" | "cross") { "csr_pem" } else { "certificate_pem" };
    let compromised = |_| Err(Error::field(field, COMPROMISED));
    tx.fetch_optional::<(String,)>(blocked).await?.map_or(Ok(()), compromised)
}

/// The same before anything is signed for the key, a DER `SubjectPublicKeyInfo`, that came in `field` of the request.
///
/// # Errors
/// [`Code::ValidationError`] naming `field`.
pub(super) async fn check_key_first(permit: &Permit<'_>, field: &str, public_key: &[u8]) -> Result<()> {
    if is_blocked(permit, public_key).await? { Err(Error::field(field, COMPROMISED)) } else { Ok(()) }
}

/// Whether the key, a DER `SubjectPublicKeyInfo`, was compromised.
pub(super) async fn is_blocked(permit: &Permit<'_>, public_key: &[u8]) -> Result<bool> {
    let hash = digest(&SHA256, public_key);
    let blocked = query(sql::BLOCKED).bind(permit.tenant()).bind(hash.as_ref());
    Ok(permit.fetch_optional::<(String,)>(blocked).await?.is_some())
}

/// Why a key that was compromised is refused.
pub(super) const COMPROMISED: &str = "is of a key that was compromised: a certificate of it was revoked";

/// Checks once more, in the transaction that lists what was signed, that the CA still issues.
pub(super) async fn check_issuing(tx: &mut Write<'_>, ca_id: &str) -> Result<()> {
    let state = query(sql::CA_STATE).bind(tx.tenant()).bind(ca_id);
    match tx.fetch_optional::<(bool, bool)>(state).await? {
        Some((true, _)) => Ok(()),
        _ => Err(super::ca::inactive()),
    }
}

/// The one place of a kept private key.
pub(crate) fn key_slot<'s>(tenant: &'s TenantId, row: &'s [&'s str; 1]) -> Slot<'s> {
    Slot { tenant, table: "pki_certificate", row, column: "key", version: 1 }
}

pub(super) async fn find(
    permit: &Permit<'_>,
    id: &str,
) -> Result<(CertificateRow, StateRow, Vec<RevokedCa>)> {
    let state = permit.fetch_optional(query(sql::STATE).bind(permit.tenant()).bind(id)).await?;
    let state: StateRow = state.ok_or_else(not_found)?;
    let row = query(sql::CERTIFICATE).bind(permit.tenant()).bind(id).bind(state.not_after.get());
    let row = permit.fetch_optional(row).await?;
    let row = row.ok_or_else(not_found)?;
    let cas = permit.fetch_all(query(sql::REVOKED_CAS).bind(permit.tenant())).await?;
    Ok((row, state, cas))
}

pub(super) fn not_found() -> Error {
    Error::new(Code::CertificateNotFound, "There is no such certificate.")
}
