//! CA certificates of others that a tenant trusts, each for a purpose.

use scaivault_pki::{Certificate, Oid, parse_bundle, pem, validate::Failure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

use super::Pki;
use crate::{
    Caller, Code, Error, FieldErrors, Result, Scope, TenantId, Vault,
    audit::Action,
    events::EventType,
    limits,
    name::Name,
    pipeline::{Act, Outcome, Permit, Write},
    secrets::{Due, Schedule},
    storage::{Query, QueryBuilder, Ts, query},
    wire::{self, Page},
};

const ADMIN: &[Scope] = &[Scope::PkiAdmin];
/// Anchors whose notices one look finds.
const BATCH: usize = 100;

pub(crate) mod sql {
    pub(crate) const ANCHOR: &str = "\
        SELECT id, name, description, purpose, certificate, created_at, created_by FROM pki_anchor \
        WHERE tenant_id = $1 AND id = $2";
    pub(crate) const COUNT: &str = "SELECT count(*) FROM pki_anchor WHERE tenant_id = $1";
    pub(crate) const INSERT: &str = "\
        INSERT INTO pki_anchor (tenant_id, id, name, name_key, description, purpose, certificate, fingerprint_sha256, \
        not_after, notify_at, created_at, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
        ON CONFLICT DO NOTHING";
    /// Which anchor stands in the way: of the same name, or the same certificate for the same purpose.
    pub(crate) const TAKEN: &str = "\
        SELECT id, name_key FROM pki_anchor WHERE tenant_id = $1 \
        AND (name_key = $2 OR (purpose = $3 AND fingerprint_sha256 = $4)) ORDER BY id LIMIT 2";
    pub(crate) const DELETE: &str = "DELETE FROM pki_anchor WHERE tenant_id = $1 AND id = $2";
    pub(crate) const NOTIFIABLE: &str = "\
        SELECT tenant_id, id FROM pki_anchor WHERE notify_at IS NOT NULL AND notify_at <= $1 \
        ORDER BY notify_at LIMIT 100";
    pub(crate) const NOTICE: &str = "\
        SELECT name, purpose, not_after, notify_at FROM pki_anchor WHERE tenant_id = $1 AND id = $2";
    /// Moves the notice on, unless another replica did.
    pub(crate) const SET_NOTICE: &str = "\
        UPDATE pki_anchor SET notify_at = $3 WHERE tenant_id = $1 AND id = $2 AND notify_at = $4";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[ANCHOR, COUNT, INSERT, TAKEN, DELETE, NOTIFIABLE, NOTICE, SET_NOTICE];
}

/// What an anchor is trusted for, and what a certificate is asked to be good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorPurpose {
    /// Whatever is asked; of a certificate, nothing in particular.
    #[default]
    Any,
    /// TLS servers.
    TlsServer,
    /// TLS clients.
    TlsClient,
    /// Signed and encrypted e-mail.
    EmailProtection,
    /// Signed programs.
    CodeSigning,
    /// Time stamps.
    TimeStamping,
}

impl AnchorPurpose {
    /// Every purpose there is.
    pub const ALL: &[Self] = &[
        Self::Any,
        Self::TlsServer,
        Self::TlsClient,
        Self::EmailProtection,
        Self::CodeSigning,
        Self::TimeStamping,
    ];

    /// The stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::TlsServer => "tls_server",
            Self::TlsClient => "tls_client",
            Self::EmailProtection => "email_protection",
            Self::CodeSigning => "code_signing",
            Self::TimeStamping => "time_stamping",
        }
    }

    /// The purpose of that text.
    ///
    /// # Errors
    /// [`Code::ValidationError`] on `purpose`.
    pub fn parse(text: &str) -> Result<Self> {
        let known = Self::ALL.iter().copied().find(|purpose| purpose.as_str() == text);
        known.ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.iter().map(|purpose| purpose.as_str()).collect();
            Error::field("purpose", format!("must be one of {}", all.join(", ")))
        })
    }

    /// The key purpose that a certificate has to name (RFC 5280, 4.2.1.12).
    pub(super) fn oid(self) -> Result<Option<Oid>> {
        let last = match self {
            Self::Any => return Ok(None),
            Self::TlsServer => 1,
            Self::TlsClient => 2,
            Self::CodeSigning => 3,
            Self::EmailProtection => 4,
            Self::TimeStamping => 8,
        };
        format!("1.3.6.1.5.5.7.3.{last}").parse().map(Some).map_err(Error::from)
    }
}

/// Trust anchors to be added.
#[derive(Clone, Debug, Default)]
pub struct AnchorWrite {
    /// Unique in the tenant, in whatever case; of several certificates each gets a number behind it.
    pub name: String,
    /// One certificate: PEM, or DER in Base64.
    pub certificate_pem: Option<String>,
    /// Up to 64 certificates instead: PEM, or a PKCS #7 message without signers.
    pub bundle: Option<String>,
    /// What they are trusted for.
    pub purpose: AnchorPurpose,
    /// For people, at most [`limits::DESCRIPTION_CHARS`] characters.
    pub description: String,
}

/// A certificate that the tenant trusts.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct TrustAnchor {
    pub id: String,
    pub name: String,
    pub description: String,
    pub purpose: AnchorPurpose,
    pub subject: String,
    pub issuer: String,
    pub serial_number: String,
    pub fingerprint_sha256: String,
    /// SHA-256 of the `SubjectPublicKeyInfo`.
    pub key_sha256: String,
    #[serde(serialize_with = "wire::seconds")]
    pub not_before: OffsetDateTime,
    #[serde(serialize_with = "wire::seconds")]
    pub not_after: OffsetDateTime,
    /// Whether it ends within [`limits::TRUST_ANCHOR_SOON`], or has ended.
    pub expires_soon: bool,
    pub certificate_pem: String,
    #[serde(serialize_with = "wire::seconds")]
    pub created_at: OffsetDateTime,
    pub created_by: String,
}

/// Which trust anchors to list, in the order they were added.
#[derive(Clone, Debug, Default)]
pub struct AnchorFilter {
    /// Only those of this purpose.
    pub purpose: Option<AnchorPurpose>,
    /// Anchors a page: 100 unless given, 1000 at most.
    pub limit: Option<u32>,
    /// Where the previous page ended.
    pub cursor: Option<String>,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct AnchorRow {
    pub(super) id: String,
    name: String,
    description: String,
    purpose: String,
    pub(super) certificate: Vec<u8>,
    created_at: Ts,
    created_by: String,
}

impl AnchorRow {
    fn into_anchor(self, now: OffsetDateTime) -> Result<TrustAnchor> {
        let certificate = Certificate::from_der(&self.certificate)?;
        Ok(TrustAnchor {
            id: self.id,
            name: self.name,
            description: self.description,
            purpose: AnchorPurpose::parse(&self.purpose)
                .map_err(|_| Error::internal("a stored trust anchor of an unknown purpose"))?,
            subject: certificate.subject(),
            issuer: certificate.issuer(),
            serial_number: certificate.serial_number(),
            fingerprint_sha256: hex::encode(certificate.fingerprint_sha256()),
            key_sha256: hex::encode(certificate.key_sha256()),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            expires_soon: certificate.not_after() <= now + limits::TRUST_ANCHOR_SOON,
            certificate_pem: pem::encode("CERTIFICATE", &self.certificate),
            created_at: self.created_at.get(),
            created_by: self.created_by,
        })
    }
}

impl<'a> Pki<'a> {
    /// Trusts certificates of CAs, all of them or none. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::ValidationError`] for what is no sound CA certificate, or not valid now; [`Code::NameConflict`] if the
    /// tenant has an anchor of that name, or that certificate for that purpose; [`Code::InvalidState`] if there would be
    /// more than [`limits::TRUST_ANCHORS`].
    pub async fn add_trust_anchors(&self, write: AnchorWrite) -> Result<Vec<TrustAnchor>> {
        let act = Act::object(Action::PkiAnchorCreate, ADMIN, "trust_anchor", None);
        self.vault.door.perform(self.ctx, act, |permit| async move { add(permit, &write).await }).await
    }

    /// The tenant's trust anchors.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`].
    pub async fn trust_anchors(&self, filter: AnchorFilter) -> Result<Page<TrustAnchor>> {
        let act = Act::object(Action::PkiAnchorRead, &[], "trust_anchor", None);
        self.vault.door.perform(self.ctx, act, |permit| async move { list(permit, &filter).await }).await
    }

    /// One trust anchor.
    ///
    /// # Errors
    /// [`Code::TrustAnchorNotFound`].
    pub async fn trust_anchor(&self, id: &str) -> Result<TrustAnchor> {
        let act = Act::object(Action::PkiAnchorRead, &[], "trust_anchor", Some(id));
        let work = |permit: Permit<'a>| async move {
            let row = permit.fetch_optional(query(sql::ANCHOR).bind(permit.tenant()).bind(id)).await?;
            let row: AnchorRow = row.ok_or_else(not_found)?;
            let anchor = row.into_anchor(permit.ctx().now())?;
            permit.answer(anchor)
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Trusts a certificate no more. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::TrustAnchorNotFound`].
    pub async fn delete_trust_anchor(&self, id: &str) -> Result<()> {
        let act = Act::object(Action::PkiAnchorDelete, ADMIN, "trust_anchor", Some(id));
        let work = |permit: Permit<'a>| async move {
            let mut tx = permit.begin().await?;
            if tx.execute(query(sql::DELETE).bind(tx.tenant()).bind(id)).await? == 0 {
                return Err(not_found());
            }
            tx.commit(()).await
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// The trust anchors that count for a purpose, those for any included, as one PEM text; empty if there are none.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`] if the database does not answer.
    pub async fn trust_anchor_bundle(&self, purpose: AnchorPurpose) -> Result<String> {
        let act = Act::object(Action::PkiAnchorRead, &[], "trust_anchor", None);
        let work = |mut permit: Permit<'a>| async move {
            let rows = of_purpose(&permit, purpose).await?;
            permit.note("purpose", purpose.as_str());
            permit.answer(rows.iter().map(|row| pem::encode("CERTIFICATE", &row.certificate)).collect())
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Tells what is due of the expiry of one anchor.
    async fn tell_anchor(&self, id: &str) -> Result<()> {
        let act = Act::object(Action::PkiAnchorNotify, &[], "trust_anchor", Some(id));
        self.vault.door.perform(self.ctx, act, |permit| async move { tell(permit, id).await }).await
    }
}

/// What counts for a purpose: its own anchors, and those for any.
pub(super) async fn of_purpose(permit: &Permit<'_>, purpose: AnchorPurpose) -> Result<Vec<AnchorRow>> {
    let mut q = select(permit.tenant());
    q.and_in("purpose", [AnchorPurpose::Any.as_str(), purpose.as_str()]);
    q.text(" ORDER BY id LIMIT ").arg(limits::TRUST_ANCHORS);
    permit.fetch_all(q.build()).await
}

fn select(tenant: &TenantId) -> QueryBuilder<'_> {
    let mut q = QueryBuilder::new(
        "SELECT id, name, description, purpose, certificate, created_at, created_by FROM pki_anchor WHERE tenant_id = ",
    );
    q.arg(tenant);
    q
}

fn page<'q>(tenant: &'q TenantId, filter: &AnchorFilter, after: Option<&'q str>, limit: i64) -> Query<'q> {
    let mut q = select(tenant);
    q.and("purpose = ", filter.purpose.map(AnchorPurpose::as_str)).and("id > ", after);
    q.text(" ORDER BY id LIMIT ").arg(limit);
    q.build()
}

async fn list(permit: Permit<'_>, filter: &AnchorFilter) -> Result<Outcome<Page<TrustAnchor>>> {
    let (keys, now) = (permit.keys().await?, permit.ctx().now());
    let open = |cursor: &String| wire::open_cursor::<String>(&keys, "trust_anchors", &filter.purpose, cursor);
    let after = filter.cursor.as_ref().map(open).transpose()?;
    let wanted = wire::page_size(filter.limit);
    let select = page(permit.tenant(), filter, after.as_deref(), wanted as i64 + 1);
    let rows: Vec<AnchorRow> = permit.fetch_all_lagging(select).await?;
    let page = wire::cut(rows, wanted, (&keys, "trust_anchors", &filter.purpose), |last| last.id.clone())?;
    permit.answer(page.try_map(|row| row.into_anchor(now))?)
}

/// The certificates of a request, each sound.
fn certificates(write: &AnchorWrite, now: OffsetDateTime) -> Result<Vec<Certificate>> {
    let (field, text) = match (&write.certificate_pem, &write.bundle) {
        (Some(one), None) => ("certificate_pem", one),
        (None, Some(many)) => ("bundle", many),
        _ => return Err(Error::field("certificate_pem", "must be given, or else bundle, and not both")),
    };
    let found = parse_bundle(field, text)?;
    if field == "certificate_pem" && found.len() > 1 {
        return Err(Error::field(field, "holds more than one certificate; give them as bundle"));
    }
    let mut wrong = FieldErrors::default();
    for (at, certificate) in found.iter().enumerate() {
        if found[..at].contains(certificate) {
            wrong.push(field, format!("certificate {}: is there twice", at + 1));
        }
        let anchor = scaivault_pki::TrustAnchor { certificate: certificate.clone(), enforce: true };
        for Failure { reason, detail, .. } in anchor.check(now) {
            wrong.push(field, format!("certificate {}: {detail} ({})", at + 1, reason.name()));
        }
    }
    wrong.finish()?;
    Ok(found)
}

async fn add(permit: Permit<'_>, write: &AnchorWrite) -> Result<Outcome<Vec<TrustAnchor>>> {
    let now = permit.ctx().now();
    if write.description.chars().count() > limits::DESCRIPTION_CHARS {
        let most = limits::DESCRIPTION_CHARS;
        return Err(Error::field("description", format!("must have at most {most} characters")));
    }
    let found = certificates(write, now)?;
    let name = Name::parse_label(&write.name)?;
    let named = |at: usize| match found.len() {
        1 => Ok(name.clone()),
        _ => Name::parse_label(&format!("{} {}", name.as_str(), at + 1)),
    };
    let mut rows = Vec::with_capacity(found.len());
    for (at, certificate) in found.iter().enumerate() {
        rows.push((permit.new_id("ta_")?, named(at)?, certificate));
    }
    let mut tx = permit.begin().await?;
    let count = query(sql::COUNT).bind(tx.tenant());
    let there = tx.fetch_optional::<(i64,)>(count).await?.map_or(0, |(there,)| there);
    if there + rows.len() as i64 > limits::TRUST_ANCHORS {
        let message = format!("A tenant may have {} trust anchors.", limits::TRUST_ANCHORS);
        return Err(Error::new(Code::InvalidState, message));
    }
    let mut added = Vec::with_capacity(rows.len());
    for (id, name, certificate) in rows {
        added.push(insert(&mut tx, write, (id, name), certificate).await?);
    }
    if let [one] = added.as_slice() {
        tx.resource(&one.id);
    }
    let fingerprints: Vec<&str> = added.iter().map(|anchor| anchor.fingerprint_sha256.as_str()).collect();
    tx.note("purpose", write.purpose.as_str());
    tx.note("fingerprints_sha256", json!(fingerprints));
    tx.commit(added).await
}

async fn insert(
    tx: &mut Write<'_>,
    write: &AnchorWrite,
    (id, name): (String, Name),
    certificate: &Certificate,
) -> Result<TrustAnchor> {
    let (now, ends) = (tx.ctx().now(), certificate.not_after());
    let fingerprint = certificate.fingerprint_sha256();
    let insert = query(sql::INSERT)
        .bind(tx.tenant())
        .bind(&id)
        .bind(name.as_str())
        .bind(name.key())
        .bind(&write.description)
        .bind(write.purpose.as_str())
        .bind(certificate.der())
        .bind(fingerprint.as_slice())
        .bind(ends)
        .bind(Schedule::new(ends, limits::TRUST_ANCHOR_NOTICES)?.next(now))
        .bind(now)
        .bind(tx.ctx().caller().identity_id());
    if tx.execute(insert).await? == 0 {
        let taken = query(sql::TAKEN)
            .bind(tx.tenant())
            .bind(name.key())
            .bind(write.purpose.as_str())
            .bind(fingerprint.as_slice());
        let taken: Vec<(String, String)> = tx.fetch_all(taken).await?;
        let message = match taken.iter().find(|(_, key)| *key != name.key()) {
            Some((other, _)) => format!(
                "{}: the trust anchor {other} has this certificate for this purpose",
                if write.bundle.is_some() { "bundle" } else { "certificate_pem" },
            ),
            None => "name: another trust anchor of the tenant has this name".to_owned(),
        };
        return Err(Error::new(Code::NameConflict, message));
    }
    let row = AnchorRow {
        id,
        name: name.as_str().to_owned(),
        description: write.description.clone(),
        purpose: write.purpose.as_str().to_owned(),
        certificate: certificate.der().to_vec(),
        created_at: now.into(),
        created_by: tx.ctx().caller().identity_id().to_owned(),
    };
    row.into_anchor(now)
}

#[derive(Debug, sqlx::FromRow)]
struct NoticeRow {
    name: String,
    purpose: String,
    not_after: Ts,
    notify_at: Option<Ts>,
}

async fn tell(permit: Permit<'_>, id: &str) -> Result<Outcome<()>> {
    let now = permit.ctx().now();
    let mut tx = permit.begin().await?;
    let row: Option<NoticeRow> = tx.fetch_optional(query(sql::NOTICE).bind(tx.tenant()).bind(id)).await?;
    let due = row.and_then(|row| Some((row.notify_at?.get(), row))).filter(|(at, _)| *at <= now);
    let (since, row) = due.ok_or_else(not_found)?;
    let schedule = Schedule::new(row.not_after.get(), limits::TRUST_ANCHOR_NOTICES)?;
    let next = query(sql::SET_NOTICE).bind(tx.tenant()).bind(id).bind(schedule.next(now)).bind(since);
    if tx.execute(next).await? == 0 {
        return Err(not_found());
    }
    if let Some(due) = schedule.due(since, now) {
        let event_type = match due {
            Due::Expired => EventType::TrustAnchorExpired,
            Due::Expiring { .. } => EventType::TrustAnchorExpiring,
        };
        let mut data = due.data(row.not_after.get());
        data["trust_anchor_id"] = json!(id);
        data["name"] = json!(row.name);
        data["purpose"] = json!(row.purpose);
        tx.event(event_type, None, data)?;
        tx.note("event", event_type.as_str());
    }
    tx.commit(()).await
}

/// Tells of the trust anchors whose expiry is due to be told.
pub(crate) async fn tell_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    loop {
        let due = query(sql::NOTIFIABLE).bind(inner.clock.now());
        let due = inner.door.job_db().fetch_all::<(String, String)>(due).await?;
        let full = due.len() >= BATCH;
        let mut result = Ok(());
        for (tenant, id) in due {
            let ctx = vault.ctx(Caller::system("anchor-expiry", TenantId::stored(tenant)?)?)?;
            match vault.pki(&ctx).tell_anchor(&id).await {
                // Another replica was faster, or it was deleted in between.
                Err(error) if error.code() == Code::TrustAnchorNotFound => {}
                Err(error) => {
                    tracing::error!(error = %error, causes = error.causes(), "an expiry could not be told");
                    result = Err(error);
                }
                Ok(()) => {}
            }
        }
        if !full || result.is_err() {
            return result;
        }
    }
}

fn not_found() -> Error {
    Error::new(Code::TrustAnchorNotFound, "There is no such trust anchor.")
}
