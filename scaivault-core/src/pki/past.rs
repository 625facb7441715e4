//! What a CA did before it came here: what it had revoked, by its last list, and what it had issued, as far as somebody
//! has the certificates.

use std::collections::BTreeMap;

use scaivault_pki::{
    Certificate, CrlEntry, Issuer, PastCertificate, PastList, PkiError, RevocationReason, Serial, build_crl,
    parse_bundle, parse_crls,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

use super::{
    Pki,
    certificate::{Inventory, insert_certificate, keep_certificate},
    issuer::not_found,
    key::{CaKey, unsigned},
    numbering::shard_octet,
    store,
    types::CaImport,
};
use crate::{
    Code, Error, FieldErrors, Result, Scope, TenantId,
    audit::Action,
    limits,
    pipeline::{Act, Outcome, Permit, Write},
    storage::{Query, QueryBuilder, query},
};

pub(crate) mod sql {
    pub(crate) const SET_IMPORTED: &str =
        "UPDATE pki_ca SET imported = TRUE WHERE tenant_id = $1 AND id = $2";
    pub(crate) const ORIGIN: &str =
        "SELECT certificate, imported FROM pki_ca WHERE tenant_id = $1 AND id = $2";
    /// Has others who register with the CA wait.
    pub(crate) const LOCK: &str = "UPDATE pki_ca SET name = name WHERE tenant_id = $1 AND id = $2";
    /// Gives a serial number that was known by a list the rest of what its certificate says.
    pub(crate) const COMPLETE: &str = "\
        UPDATE pki_serial SET source = 'imported', not_after = $3, key_hash = $4 \
        WHERE tenant_id = $1 AND certificate_id = $2";
    pub(crate) const SET_WEAK: &str =
        "UPDATE pki_serial SET weak = $3 WHERE tenant_id = $1 AND certificate_id = $2";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[SET_IMPORTED, ORIGIN, LOCK, COMPLETE, SET_WEAK];
}

/// Where certificates come from that somebody else's vault issued.
const IMPORTED: &str = "imported";
/// Serial numbers that one statement registers.
const AT_ONCE: usize = 500;

/// Certificates that a CA issued before it came here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRegistration {
    /// PEM, one certificate each; at most [`limits::REGISTERED_CERTIFICATES`].
    pub certificates_pem: Vec<String>,
}

/// What became of [`CertificateRegistration`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RegisteredCertificates {
    /// Certificates that are in the inventory from now on.
    pub registered: usize,
    /// Certificates that were in it already, or were sent twice.
    pub known: usize,
    /// Certificates past their end, which were left out: nobody asks about them any more.
    pub expired: usize,
}

impl<'a> Pki<'a> {
    /// Takes certificates into the inventory that an imported CA had issued before: OCSP says that they are good, they are
    /// found, and can be revoked. What its list said of one stays. All of them or none. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CaNotFound`]; [`Code::InvalidState`] for a CA that was not imported, whose certificates are all on record;
    /// [`Code::ValidationError`] naming each of `certificates_pem` that the CA did not issue under its name and by its key,
    /// or whose serial number another certificate has, or that ends after the year 9998.
    pub async fn register_certificates(
        &self,
        ca_id: &str,
        write: CertificateRegistration,
    ) -> Result<RegisteredCertificates> {
        let act = Act::object(Action::PkiCertificateRegister, &[Scope::PkiAdmin], "pki_ca", Some(ca_id));
        let work = |permit: Permit<'a>| async move { register(permit, ca_id, write).await };
        self.vault.door.perform(self.ctx, act, work).await
    }
}

/// What an imported CA had published.
pub(super) struct Past {
    number: i64,
    entries: Vec<CrlEntry>,
}

impl Past {
    /// Reads the last list, if there is one.
    ///
    /// # Errors
    /// [`Code::ValidationError`] naming `crl_pem` or `crl_number`.
    pub(super) fn read(write: &CaImport, certificate: &[u8], now: OffsetDateTime) -> Result<Self> {
        let list = match &write.crl_pem {
            Some(text) => Some(read_list(text, certificate, now)?),
            None => None,
        };
        let listed = list.as_ref().and_then(|list| list.number).unwrap_or_default();
        let (last, field) = match listed > write.crl_number {
            true => (listed, "crl_pem"),
            false => (write.crl_number, "crl_number"),
        };
        let number = last.checked_add(1).and_then(|number| i64::try_from(number).ok());
        let number = number.ok_or_else(|| Error::field(field, "must have a number below 2^63 - 1"))?;
        Ok(Self { number, entries: list.map(|list| list.entries).unwrap_or_default() })
    }

    /// The number of the first list that is published here.
    pub(super) fn number(&self) -> i64 {
        self.number
    }

    /// That list: of all that was revoked before.
    pub(super) async fn first_crl(
        &self,
        now: OffsetDateTime,
        issuer: &Issuer,
        key: &CaKey,
    ) -> Result<Vec<u8>> {
        let (issuer, key, number) = (issuer.clone(), key.clone(), self.number.unsigned_abs());
        let entries = self.entries.clone();
        let work = async move {
            let next = now + limits::CRL_VALIDITY;
            build_crl(&issuer, &key, number, now, next, entries.into_iter()).await
        };
        // Long lists are encoded where that holds nobody up.
        let runtime = tokio::runtime::Handle::current();
        let built = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
        built.map_err(Error::internal)?.map_err(unsigned)
    }

    /// Registers what was revoked. Nobody knows yet when those certificates end: until the CA does.
    pub(super) async fn insert(
        &self,
        tx: &mut Write<'_>,
        ca_id: &str,
        ca_ends: OffsetDateTime,
    ) -> Result<()> {
        tx.execute(query(sql::SET_IMPORTED).bind(tx.tenant()).bind(ca_id)).await?;
        for entries in self.entries.chunks(AT_ONCE) {
            let mut rows = Vec::with_capacity(entries.len());
            for entry in entries {
                rows.push((tx.new_id("cert_")?, entry));
            }
            let inserted = tx.execute(insert_revoked(tx.tenant(), ca_id, ca_ends, &rows)).await?;
            if usize::try_from(inserted).ok() != Some(rows.len()) {
                return Err(Error::field("crl_pem", "has the serial number of the CA's own certificate"));
            }
        }
        if !self.entries.is_empty() {
            tx.note("revoked_certificates", self.entries.len());
        }
        Ok(())
    }
}

fn read_list(text: &str, certificate: &[u8], now: OffsetDateTime) -> Result<PastList> {
    let mut lists = parse_crls("crl_pem", text)?;
    let (Some(der), true) = (lists.pop(), lists.is_empty()) else {
        return Err(Error::field("crl_pem", "must be one revocation list"));
    };
    Ok(PastList::read(&der, &Certificate::from_der(certificate)?, now)?)
}

fn insert_revoked<'q>(
    tenant: &'q TenantId,
    ca_id: &'q str,
    ends: OffsetDateTime,
    rows: &'q [(String, &'q CrlEntry)],
) -> Query<'q> {
    let mut q = QueryBuilder::new(
        "INSERT INTO pki_serial (tenant_id, ca_id, source, serial, certificate_id, not_after, revoked_at, \
         revocation_reason, shard) VALUES ",
    );
    for (at, (id, entry)) in rows.iter().enumerate() {
        q.text(if at == 0 { "(" } else { ", (" }).arg(tenant).text(", ").arg(ca_id).text(", ").arg(IMPORTED);
        q.text(", ").arg(entry.serial.as_bytes()).text(", ").arg(id).text(", ").arg(ends);
        q.text(", ").arg(entry.revoked_at).text(", ").arg(entry.reason.as_str());
        q.text(", ").arg(shard_octet(&entry.serial)).text(")");
    }
    q.text(" ON CONFLICT DO NOTHING");
    q.build()
}

async fn register(
    permit: Permit<'_>,
    ca_id: &str,
    write: CertificateRegistration,
) -> Result<Outcome<RegisteredCertificates>> {
    let origin = query(sql::ORIGIN).bind(permit.tenant()).bind(ca_id);
    let origin: Option<(Vec<u8>, bool)> = permit.fetch_optional(origin).await?;
    let (ca, imported) = origin.ok_or_else(not_found)?;
    if !imported {
        let message = "The CA was not imported: everything that it issued is on record.";
        return Err(Error::new(Code::InvalidState, message));
    }
    let most = limits::REGISTERED_CERTIFICATES;
    if !(1..=most).contains(&write.certificates_pem.len()) {
        return Err(Error::field(CERTIFICATES, format!("must have 1 to {most} entries")));
    }
    let ca = Certificate::from_der(&ca)?;
    let read = tokio::task::spawn_blocking(move || read_all(&write.certificates_pem, &ca));
    let read = read.await.map_err(Error::internal)??;
    let now = permit.ctx().now();
    let mut done = RegisteredCertificates::default();
    let mut wanted: BTreeMap<&Serial, (usize, &PastCertificate)> = BTreeMap::new();
    let mut wrong = FieldErrors::default();
    for (at, past) in read.iter().enumerate() {
        if past.issued.not_after < now {
            done.expired += 1;
            continue;
        }
        match wanted.insert(&past.issued.serial, (at, past)) {
            Some((_, before)) if before.issued.der == past.issued.der => done.known += 1,
            Some((first, _)) => wrong.push(item(at), format!("has the serial number of {}", item(first))),
            None if past.issued.not_after.year() > LAST_YEAR => wrong.push(item(at), too_late()),
            None => permit.make_room(past.issued.not_after).await?,
        }
    }
    wrong.finish()?;
    let mut tx = permit.begin().await?;
    tx.execute(query(sql::LOCK).bind(tx.tenant()).bind(ca_id)).await?;
    let known = known(&mut tx, ca_id, wanted.keys().copied()).await?;
    let mut wrong = FieldErrors::default();
    let mut named = Vec::new();
    for (serial, (at, past)) in wanted {
        match known.iter().find(|row| row.serial == serial.as_bytes()) {
            Some(KnownRow { fingerprint_sha256: Some(kept), .. })
                if kept == past.issued.fingerprint_sha256.as_slice() =>
            {
                done.known += 1;
                continue;
            }
            Some(KnownRow { fingerprint_sha256: Some(_), .. }) => {
                wrong.push(item(at), "has the serial number of another certificate of this CA");
                continue;
            }
            row => insert(&mut tx, ca_id, past, row).await?,
        }
        done.registered += 1;
        if named.len() < limits::BULK_NAMED {
            named.push(serial.to_string());
        }
    }
    wrong.finish()?;
    tx.note("registered", done.registered);
    tx.note("known", done.known);
    tx.note("expired", done.expired);
    tx.note("serial_numbers", json!(named));
    tx.commit(done).await
}

/// Up to when there is room for certificates, which are kept by the months of their ends.
const LAST_YEAR: i32 = 9998;

fn too_late() -> String {
    format!("ends after the year {LAST_YEAR}")
}

/// Whether there is room for the certificate of a CA that ends then.
///
/// # Errors
/// [`Code::ValidationError`] naming `certificate_pem`.
pub(super) fn check_end(end: OffsetDateTime) -> Result<()> {
    if end.year() > LAST_YEAR { Err(Error::field("certificate_pem", too_late())) } else { Ok(()) }
}

/// The field of the certificates.
const CERTIFICATES: &str = "certificates_pem";

fn item(at: usize) -> String {
    format!("{CERTIFICATES}[{at}]")
}

/// Everything that was sent, each of it a certificate that the CA has issued.
fn read_all(texts: &[String], ca: &Certificate) -> Result<Vec<PastCertificate>> {
    let mut wrong = FieldErrors::default();
    let mut all = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        match read_one(text, ca) {
            Ok(past) => all.push(past),
            Err(PkiError::Invalid { message, .. }) => wrong.push(item(at), message),
            Err(other) => return Err(other.into()),
        }
    }
    wrong.finish()?;
    Ok(all)
}

fn read_one(text: &str, ca: &Certificate) -> std::result::Result<PastCertificate, PkiError> {
    let mut found = parse_bundle(CERTIFICATES, text)?;
    match (found.pop(), found.is_empty()) {
        (Some(certificate), true) => PastCertificate::read(&certificate, ca),
        _ => Err(PkiError::Invalid { field: CERTIFICATES, message: "must be one certificate".to_owned() }),
    }
}

/// A serial number that is on record, with the certificate if that is there.
#[derive(Debug, sqlx::FromRow)]
struct KnownRow {
    serial: Vec<u8>,
    id: String,
    revocation_reason: Option<String>,
    fingerprint_sha256: Option<Vec<u8>>,
}

async fn known(
    tx: &mut Write<'_>,
    ca_id: &str,
    serials: impl Iterator<Item = &Serial>,
) -> Result<Vec<KnownRow>> {
    let mut q = QueryBuilder::new(
        "SELECT s.serial, s.certificate_id AS id, s.revocation_reason, k.fingerprint_sha256 FROM pki_serial s \
         LEFT JOIN pki_certificate k ON k.tenant_id = s.tenant_id AND k.id = s.certificate_id \
         AND k.not_after = s.not_after WHERE s.tenant_id = ",
    );
    q.arg(tx.tenant()).text(" AND s.ca_id = ").arg(ca_id).text(" AND s.serial IN (NULL");
    for serial in serials {
        q.text(", ").arg(serial.as_bytes());
    }
    q.text(")");
    tx.fetch_all(q.build()).await
}

/// A certificate, for which there may be a number already.
async fn insert(
    tx: &mut Write<'_>,
    ca_id: &str,
    past: &PastCertificate,
    row: Option<&KnownRow>,
) -> Result<()> {
    let id = match row {
        Some(row) => row.id.clone(),
        None => tx.new_id("cert_")?,
    };
    let about = Inventory {
        id: &id,
        ca_id,
        role: None,
        common_name: past.common_name.as_deref(),
        alt_names: &past.alt_names,
        ip_sans: &past.ip_sans,
        tags: None,
        source: IMPORTED,
        key: None,
    };
    match row {
        Some(row) => {
            let complete = query(sql::COMPLETE)
                .bind(tx.tenant())
                .bind(&id)
                .bind(past.issued.not_after)
                .bind(past.issued.key_sha256.as_slice());
            tx.execute(complete).await?;
            keep_certificate(tx, &about, &past.issued).await?;
            if row.revocation_reason.as_deref() == Some(RevocationReason::KeyCompromise.as_str()) {
                tx.execute(query(store::sql::BLOCK).bind(tx.tenant()).bind(&id)).await?;
            }
        }
        None => insert_certificate(tx, &about, &past.issued).await?,
    }
    if !past.weak.is_empty() {
        let words: Vec<&str> = past.weak.iter().map(|weak| weak.as_str()).collect();
        tx.execute(query(sql::SET_WEAK).bind(tx.tenant()).bind(&id).bind(words.join(","))).await?;
    }
    Ok(())
}
