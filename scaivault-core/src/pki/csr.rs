//! Certificate requests that somebody else approves before they are signed.
//!
//! `pending → approved → signed`, and `rejected` from the first two. An approval is a hash over the request, the role as
//! it was, and who asked: if the role has changed since, it is void and the request has to be approved again.

use std::collections::{BTreeSet, HashMap};

use aws_lc_rs::digest::{SHA256, digest};
use scaivault_pki::{Csr, pem};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{
    Pki,
    certificate::check_key_first,
    issue::Ready,
    role::not_found as role_not_found,
    store::{RoleRow, roles_named, sql as pki_sql},
    types::IssuedCertificate,
};
use crate::{
    Caller, Code, DurationText, Error, IdempotencyKey, Result, Scope, TenantId,
    audit::Action,
    idempotency::Once,
    limits,
    pipeline::{Act, Outcome, Permit, Write},
    storage::{Query, QueryBuilder, Ts, json, query},
    vault::Inner,
    wire::{self, Page},
};

pub(crate) mod sql {
    pub(crate) const INSERT: &str = "\
        INSERT INTO pki_csr (tenant_id, id, role, csr, common_name, alt_names, key_kind, ttl, description, status, \
        requested_by, requested_from, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending', $10, $11, $12)";
    pub(crate) const CSR: &str = "\
        SELECT id, role, csr, common_name, alt_names, key_kind, ttl, description, status, requested_by, requested_from, \
        created_at, approval, decided_by, decided_at, rejection_reason, certificate_id \
        FROM pki_csr WHERE tenant_id = $1 AND id = $2";
    pub(crate) const COUNT_OPEN: &str =
        "SELECT count(*) FROM pki_csr WHERE tenant_id = $1 AND status IN ('pending', 'approved')";
    /// Whoever else decides about the request waits here.
    pub(crate) const LOCK: &str = "UPDATE pki_csr SET id = id WHERE tenant_id = $1 AND id = $2";
    pub(crate) const APPROVE: &str = "\
        UPDATE pki_csr SET status = 'approved', approval = $3, decided_by = $4, decided_at = $5 \
        WHERE tenant_id = $1 AND id = $2";
    pub(crate) const REJECT: &str = "\
        UPDATE pki_csr SET status = 'rejected', approval = NULL, rejection_reason = $3, decided_by = $4, decided_at = $5 \
        WHERE tenant_id = $1 AND id = $2";
    pub(crate) const SIGNED: &str =
        "UPDATE pki_csr SET status = 'signed', certificate_id = $3 WHERE tenant_id = $1 AND id = $2";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[INSERT, CSR, COUNT_OPEN, LOCK, APPROVE, REJECT, SIGNED];
}

const ADMIN: &[Scope] = &[Scope::PkiAdmin];
const EITHER: &[Scope] = &[Scope::PkiIssue, Scope::PkiAdmin];
const KIND: &str = "pki_csr";

/// Where a certificate request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the states of the API contract")]
pub enum CsrStatus {
    Pending,
    Approved,
    Signed,
    Rejected,
}

impl CsrStatus {
    /// The stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Signed => "signed",
            Self::Rejected => "rejected",
        }
    }

    /// The state of that text, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Approved, Self::Signed, Self::Rejected]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// A certificate request to be submitted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CsrWrite {
    /// PEM.
    pub csr_pem: String,
    /// By which role it is to be signed.
    pub role: String,
    /// How long the certificate shall live; the role's default unless given.
    pub ttl: Option<DurationText>,
    /// For whoever decides: at most 2048 characters.
    pub description: String,
    /// What the caller names this request by, so that sending it again submits nothing more.
    #[serde(skip)]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// Which requests to list. Newest come first.
#[derive(Clone, Debug, Default)]
pub struct CsrFilter {
    /// In this state.
    pub status: Option<CsrStatus>,
    /// Requests a page: 100 unless given, 1000 at most.
    pub limit: Option<u32>,
    /// Where the previous page ended.
    pub cursor: Option<String>,
}

/// A submitted certificate request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of the API contract")]
pub struct CsrRequest {
    pub id: String,
    pub status: CsrStatus,
    /// Of an approved one, whether it can be signed: not if its role has changed since.
    #[serde(default)]
    pub approval_valid: Option<bool>,
    pub role: String,
    pub common_name: Option<String>,
    /// Every name that the certificate would have, of every type.
    pub alt_names: Vec<String>,
    pub key_type: String,
    pub key_size: Option<u32>,
    pub ttl: Option<String>,
    pub description: String,
    pub requested_by: String,
    #[serde(serialize_with = "wire::seconds", deserialize_with = "time::serde::rfc3339::deserialize")]
    pub created_at: OffsetDateTime,
    /// Who approved or rejected it.
    pub decided_by: Option<String>,
    #[serde(
        serialize_with = "wire::seconds_opt",
        deserialize_with = "time::serde::rfc3339::option::deserialize"
    )]
    pub decided_at: Option<OffsetDateTime>,
    pub rejection_reason: Option<String>,
    pub certificate_id: Option<String>,
    pub csr_pem: String,
}

#[derive(Debug, sqlx::FromRow)]
struct CsrRow {
    id: String,
    role: String,
    csr: Vec<u8>,
    common_name: Option<String>,
    alt_names: Json<Vec<String>>,
    key_kind: String,
    ttl: Option<String>,
    description: String,
    status: String,
    requested_by: String,
    requested_from: String,
    created_at: Ts,
    approval: Option<Vec<u8>>,
    decided_by: Option<String>,
    decided_at: Option<Ts>,
    rejection_reason: Option<String>,
    certificate_id: Option<String>,
}

impl CsrRow {
    fn status(&self) -> Result<CsrStatus> {
        CsrStatus::parse(&self.status).ok_or_else(|| Error::internal("a stored request in an unknown state"))
    }

    /// With its role, where there still is one; only what is approved needs it.
    fn into_request(self, role: Option<&RoleRow>) -> Result<CsrRequest> {
        let (family, size) = match self.key_kind.split_once('-') {
            Some((family @ ("ec" | "rsa"), size)) => (family, size.trim_start_matches('p').parse().ok()),
            _ => (self.key_kind.as_str(), None),
        };
        let status = self.status()?;
        let approval_valid = match (status, role) {
            (CsrStatus::Approved, Some(role)) => {
                Some(self.approval.as_ref() == Some(&self.approval_of(role)?))
            }
            (CsrStatus::Approved, None) => Some(false),
            _ => None,
        };
        Ok(CsrRequest {
            status,
            approval_valid,
            key_type: family.to_owned(),
            key_size: size,
            csr_pem: pem::encode("CERTIFICATE REQUEST", &self.csr),
            id: self.id,
            role: self.role,
            common_name: self.common_name,
            alt_names: self.alt_names.0,
            ttl: self.ttl,
            description: self.description,
            requested_by: self.requested_by,
            created_at: self.created_at.get(),
            decided_by: self.decided_by,
            decided_at: self.decided_at.map(Ts::get),
            rejection_reason: self.rejection_reason,
            certificate_id: self.certificate_id,
        })
    }

    /// What an approval binds: change any of it, and it is void.
    fn approval_of(&self, role: &RoleRow) -> Result<Vec<u8>> {
        let bound = (
            "csr approval 1",
            hex::encode(&self.csr),
            &self.ttl,
            (&role.config.0.name, role.version, role.created_at.micros()),
            (&self.requested_from, &self.requested_by),
        );
        let bytes = serde_json::to_vec(&bound).map_err(Error::internal)?;
        Ok(digest(&SHA256, &bytes).as_ref().to_vec())
    }

    fn is_of(&self, caller: &Caller) -> bool {
        self.requested_by == caller.identity_id() && self.requested_from == caller.tenant_id().as_str()
    }

    /// Whether the caller asked for this himself, by whatever spelling of his name, from whatever tenant. It does not
    /// matter by which binding or group he may decide.
    fn is_by_name_of(&self, caller: &Caller) -> bool {
        self.requested_by.to_lowercase() == caller.identity_id().to_lowercase()
    }
}

impl<'a> Pki<'a> {
    /// Submits a certificate request for approval. Needs `pki:issue` and the permission `read` on the path
    /// `pki/sign/<role>`. The role judges it at once, and again when it is signed.
    ///
    /// # Errors
    /// [`Code::RoleNotFound`]; [`Code::ValidationError`] naming every rule that it breaks; [`Code::InvalidState`] if the
    /// CA no longer issues or the tenant has too many open requests; [`Code::IdempotencyConflict`].
    pub async fn submit_csr(&self, write: CsrWrite) -> Result<CsrRequest> {
        let path = format!("pki/sign/{}", write.role);
        let act = Act::on_virtual(Action::CsrSubmit, &[Scope::PkiIssue], KIND, path);
        let vault = self.vault;
        vault.door.perform(self.ctx, act, |permit| async move { submit(vault, permit, write).await }).await
    }

    /// The tenant's certificate requests, newest first. With `pki:admin` all, with `pki:issue` the caller's own.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`].
    pub async fn csrs(&self, filter: CsrFilter) -> Result<Page<CsrRequest>> {
        let act = Act::object(Action::CsrRead, EITHER, KIND, None);
        self.vault.door.perform(self.ctx, act, |permit| async move { list(permit, &filter).await }).await
    }

    /// One certificate request. With `pki:admin` any, with `pki:issue` one's own.
    ///
    /// # Errors
    /// [`Code::CsrNotFound`].
    pub async fn csr(&self, id: &str) -> Result<CsrRequest> {
        let act = Act::object(Action::CsrRead, EITHER, KIND, Some(id));
        let work = |permit: Permit<'a>| async move {
            let row: Option<CsrRow> = permit.fetch_optional(one(permit.tenant(), id)).await?;
            let row = visible(row, permit.ctx().caller())?;
            let requests = with_roles(&permit, vec![row]).await?;
            permit.answer(requests.into_iter().next().ok_or_else(not_found)?)
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Approves a certificate request. Needs `pki:admin`, and to be somebody else than who submitted it. One whose role
    /// has changed since it was approved can be approved anew.
    ///
    /// # Errors
    /// [`Code::CsrNotFound`]; [`Code::AccessDenied`] for one's own; [`Code::InvalidState`] if it is not pending;
    /// [`Code::RoleNotFound`] if its role is gone.
    pub async fn approve_csr(&self, id: &str) -> Result<CsrRequest> {
        let act = Act::object(Action::CsrApprove, ADMIN, KIND, Some(id));
        let work = |permit: Permit<'a>| async move {
            let mut tx = permit.begin().await?;
            let row = locked(&mut tx, id).await?;
            if row.is_by_name_of(tx.ctx().caller()) {
                return Err(Error::new(
                    Code::AccessDenied,
                    "A certificate request is approved by somebody else than who submitted it.",
                ));
            }
            let role = query(pki_sql::ROLE).bind(tx.tenant()).bind(&row.role);
            let role: RoleRow = tx.fetch_optional(role).await?.ok_or_else(role_not_found)?;
            let approval = row.approval_of(&role)?;
            match row.status()? {
                CsrStatus::Pending => {}
                CsrStatus::Approved if row.approval.as_ref() != Some(&approval) => {}
                status => return Err(wrong_state(status)),
            }
            let approve = query(sql::APPROVE)
                .bind(tx.tenant())
                .bind(id)
                .bind(&approval)
                .bind(tx.ctx().caller().identity_id())
                .bind(tx.ctx().now());
            tx.execute(approve).await?;
            tx.note("role", row.role.clone());
            tx.note("role_version", role.version);
            finish(tx, id).await
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Rejects a certificate request that was not signed yet. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CsrNotFound`]; [`Code::InvalidState`] if it is signed or rejected; [`Code::ValidationError`] for a reason
    /// of none or more than 2048 characters.
    pub async fn reject_csr(&self, id: &str, reason: &str) -> Result<CsrRequest> {
        let act = Act::object(Action::CsrReject, ADMIN, KIND, Some(id));
        let work = |permit: Permit<'a>| async move {
            if reason.trim().is_empty() || !is_bounded(reason) {
                return Err(Error::field("reason", "must have 1 to 2048 characters"));
            }
            let mut tx = permit.begin().await?;
            let row = locked(&mut tx, id).await?;
            match row.status()? {
                CsrStatus::Pending | CsrStatus::Approved => {}
                status => return Err(wrong_state(status)),
            }
            let reject = query(sql::REJECT)
                .bind(tx.tenant())
                .bind(id)
                .bind(reason)
                .bind(tx.ctx().caller().identity_id())
                .bind(tx.ctx().now());
            tx.execute(reject).await?;
            finish(tx, id).await
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Signs a certificate request that was approved: with `pki:issue` one's own, with `pki:admin` any. `ttl` may only
    /// shorten what was submitted.
    ///
    /// # Errors
    /// [`Code::CsrNotFound`]; [`Code::InvalidState`] if it is not approved, its role has changed since, or the CA no
    /// longer issues; [`Code::ValidationError`] naming every rule that it breaks; [`Code::RoleNotFound`].
    pub async fn sign_csr(&self, id: &str, ttl: Option<DurationText>) -> Result<IssuedCertificate> {
        let act = Act::object(Action::PkiSign, EITHER, KIND, Some(id));
        let vault = self.vault;
        vault.door.perform(self.ctx, act, |permit| async move { sign(vault, permit, id, ttl).await }).await
    }
}

async fn submit(vault: &Inner, mut permit: Permit<'_>, mut write: CsrWrite) -> Result<Outcome<CsrRequest>> {
    let once = Once::new(permit.ctx(), write.idempotency_key.take(), "POST pki/csr".to_owned(), &write)?;
    if let Some(once) = &once
        && let Some(known) = once.find::<CsrRequest>(&permit).await?
    {
        permit.resource(&known.id);
        permit.note("idempotent_replay", true);
        return permit.answer(known);
    }
    if !is_bounded(&write.description) {
        return Err(Error::field("description", "must have at most 2048 characters"));
    }
    let ready = Ready::find(vault, &permit, &write.role).await?;
    let csr = Csr::parse(write.csr_pem.as_bytes())?;
    let ttl = write.ttl.as_ref().map(DurationText::get);
    let plan = ready.role.admit_csr(&csr, None, ttl, &ready.ca.issuer, permit.ctx().now())?;
    check_key_first(&permit, "csr_pem", csr.public_key_spki()).await?;
    let names = plan.dns_names().iter().map(|name| name.as_str().to_owned());
    let names = names.chain(plan.ip_addresses().iter().map(ToString::to_string));
    let names = names.chain(plan.emails().iter().cloned()).chain(plan.uris().iter().cloned());
    let der = csr.to_der();
    let (id, now) = (permit.new_id("csr_")?, Ts::from(permit.ctx().now()));
    let caller = permit.ctx().caller();
    let row = CsrRow {
        id,
        role: write.role,
        csr: der.clone(),
        common_name: plan.common_name().map(str::to_owned),
        alt_names: Json(names.collect()),
        key_kind: csr.key_kind().to_string(),
        ttl: write.ttl.map(|ttl| ttl.to_string()),
        description: write.description,
        status: CsrStatus::Pending.as_str().to_owned(),
        requested_by: caller.identity_id().to_owned(),
        requested_from: caller.tenant_id().as_str().to_owned(),
        created_at: now,
        approval: None,
        decided_by: None,
        decided_at: None,
        rejection_reason: None,
        certificate_id: None,
    };
    let mut tx = permit.begin().await?;
    let open = tx.fetch_optional::<(i64,)>(query(sql::COUNT_OPEN).bind(tx.tenant())).await?;
    if open.is_some_and(|(open,)| open >= limits::OPEN_CSRS) {
        let most = limits::OPEN_CSRS;
        let message = format!("{most} certificate requests wait already, which is as many as may.");
        return Err(Error::new(Code::InvalidState, message));
    }
    let insert = query(sql::INSERT)
        .bind(tx.tenant())
        .bind(row.id.clone())
        .bind(row.role.clone())
        .bind(&der)
        .bind(row.common_name.clone().map_or(crate::storage::Arg::Text(None), Into::into))
        .bind(json(&row.alt_names.0)?)
        .bind(row.key_kind.clone())
        .bind(row.ttl.clone().map_or(crate::storage::Arg::Text(None), Into::into))
        .bind(row.description.clone())
        .bind(row.requested_by.clone())
        .bind(row.requested_from.clone())
        .bind(row.created_at.get());
    let (id, common_name) = (row.id.clone(), row.common_name.clone());
    let request = row.into_request(None)?;
    if let Some(once) = &once
        && let Some(known) = once.claim::<CsrRequest>(&mut tx, &request).await?
    {
        tx.resource(&known.id);
        tx.note("idempotent_replay", true);
        return tx.commit(known).await;
    }
    tx.execute(insert).await?;
    tx.resource(&id);
    tx.note("common_name", serde_json::json!(common_name));
    tx.commit(request).await
}

async fn sign(
    vault: &Inner,
    permit: Permit<'_>,
    id: &str,
    ttl: Option<DurationText>,
) -> Result<Outcome<IssuedCertificate>> {
    let row: Option<CsrRow> = permit.fetch_optional(one(permit.tenant(), id)).await?;
    let row = visible(row, permit.ctx().caller())?;
    if row.status()? != CsrStatus::Approved {
        return Err(wrong_state(row.status()?));
    }
    let ready = Ready::find(vault, &permit, &row.role).await?;
    let approved = row.approval_of(&ready.row)?;
    check_approval(&row, &approved)?;
    let submitted = row.ttl.as_ref().map(|ttl| ttl.parse::<DurationText>()).transpose()?;
    let ttl = match (ttl, submitted) {
        (Some(ttl), Some(most)) if ttl.get() > most.get() => {
            return Err(Error::field("ttl", format!("must be at most {most}, which was approved")));
        }
        (Some(ttl), _) | (None, Some(ttl)) => Some(ttl.get()),
        (None, None) => None,
    };
    let csr = Csr::parse(&row.csr)?;
    let plan = ready.role.admit_csr(&csr, None, ttl, &ready.ca.issuer, permit.ctx().now())?;
    check_key_first(&permit, "csr_pem", csr.public_key_spki()).await?;
    let signed = ready.sign(vault, &permit, plan, csr.public_key_spki(), None).await?;
    permit.make_room(signed.not_after()).await?;
    let mut tx = permit.begin().await?;
    // Somebody may have signed or rejected it, or changed the role, in between.
    let row = locked(&mut tx, id).await?;
    if row.status()? != CsrStatus::Approved {
        return Err(wrong_state(row.status()?));
    }
    let role = query(pki_sql::ROLE).bind(tx.tenant()).bind(&row.role);
    let role: RoleRow = tx.fetch_optional(role).await?.ok_or_else(role_not_found)?;
    check_approval(&row, &row.approval_of(&role)?)?;
    tx.execute(query(sql::SIGNED).bind(tx.tenant()).bind(id).bind(&signed.id)).await?;
    let path = format!("pki/sign/{}", row.role);
    signed.keep(&mut tx, (&path, "csr"), None).await?;
    tx.note("csr_id", id);
    tx.note("requested_by", row.requested_by.clone());
    tx.note("approved_by", serde_json::json!(row.decided_by));
    tx.commit(signed.into_issued(None)).await
}

fn check_approval(row: &CsrRow, approved: &Vec<u8>) -> Result<()> {
    if row.approval.as_ref() == Some(approved) {
        return Ok(());
    }
    let message = "The role has changed since the request was approved: the approval is void, and it has to be approved again.";
    Err(Error::new(Code::InvalidState, message))
}

async fn list(permit: Permit<'_>, filter: &CsrFilter) -> Result<Outcome<Page<CsrRequest>>> {
    let keys = permit.keys().await?;
    let caller = permit.ctx().caller();
    let own =
        (!caller.has_scope(Scope::PkiAdmin)).then(|| (caller.identity_id(), caller.tenant_id().as_str()));
    let bound = (filter.status, own);
    let open = |cursor: &String| wire::open_cursor::<String>(&keys, "csrs", &bound, cursor);
    let before = filter.cursor.as_ref().map(open).transpose()?;
    let wanted = wire::page_size(filter.limit);
    let mut q = QueryBuilder::new(
        "SELECT id, role, csr, common_name, alt_names, key_kind, ttl, description, status, requested_by, requested_from, \
         created_at, approval, decided_by, decided_at, rejection_reason, certificate_id FROM pki_csr WHERE tenant_id = ",
    );
    q.arg(permit.tenant()).and("status = ", filter.status.map(CsrStatus::as_str));
    q.and("id < ", before.as_deref());
    q.and("requested_by = ", own.map(|(id, _)| id)).and("requested_from = ", own.map(|(_, tenant)| tenant));
    q.text(" ORDER BY id DESC LIMIT ").arg(wanted as i64 + 1);
    let rows: Vec<CsrRow> = permit.fetch_all_lagging(q.build()).await?;
    let page = wire::cut(rows, wanted, (&keys, "csrs", &bound), |last| last.id.clone())?;
    let Page { items, cursor } = page;
    let items = with_roles(&permit, items).await?;
    permit.answer(Page { items, cursor })
}

/// What is told of the rows: the roles of those that are approved say whether they still are.
async fn with_roles(permit: &Permit<'_>, rows: Vec<CsrRow>) -> Result<Vec<CsrRequest>> {
    let approved = CsrStatus::Approved.as_str();
    let names: BTreeSet<&str> =
        rows.iter().filter(|row| row.status == approved).map(|row| row.role.as_str()).collect();
    let roles: Vec<RoleRow> = match names.is_empty() {
        true => Vec::new(),
        false => permit.fetch_all(roles_named(permit.tenant(), names.into_iter())).await?,
    };
    let roles: HashMap<&str, &RoleRow> =
        roles.iter().map(|role| (role.config.0.name.as_str(), role)).collect();
    let told = |row: CsrRow| {
        let role = roles.get(row.role.as_str()).copied();
        row.into_request(role)
    };
    rows.into_iter().map(told).collect()
}

fn one<'q>(tenant: &'q TenantId, id: &'q str) -> Query<'q> {
    query(sql::CSR).bind(tenant).bind(id)
}

/// To whoever may not see a request it is not there.
fn visible(row: Option<CsrRow>, caller: &Caller) -> Result<CsrRow> {
    row.filter(|row| caller.has_scope(Scope::PkiAdmin) || row.is_of(caller)).ok_or_else(not_found)
}

async fn locked(tx: &mut Write<'_>, id: &str) -> Result<CsrRow> {
    tx.execute(query(sql::LOCK).bind(tx.tenant()).bind(id)).await?;
    tx.fetch_optional(one(tx.tenant(), id)).await?.ok_or_else(not_found)
}

async fn finish(mut tx: Write<'_>, id: &str) -> Result<Outcome<CsrRequest>> {
    let row: Option<CsrRow> = tx.fetch_optional(one(tx.tenant(), id)).await?;
    let row = row.ok_or_else(|| Error::internal("a certificate request vanished"))?;
    let role = query(pki_sql::ROLE).bind(tx.tenant()).bind(&row.role);
    let role: Option<RoleRow> = tx.fetch_optional(role).await?;
    let request = row.into_request(role.as_ref())?;
    tx.note("requested_by", request.requested_by.clone());
    tx.commit(request).await
}

fn is_bounded(text: &str) -> bool {
    text.chars().take(limits::DESCRIPTION_CHARS + 1).count() <= limits::DESCRIPTION_CHARS
}

fn wrong_state(status: CsrStatus) -> Error {
    Error::new(Code::InvalidState, format!("The certificate request is {}.", status.as_str()))
}

fn not_found() -> Error {
    Error::new(Code::CsrNotFound, "There is no such certificate request.")
}
