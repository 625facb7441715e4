use serde_json::json;

use super::{
    SecretPath,
    expiry::{self, Schedule},
    store::{self, SecretAndVersion, SecretRow, VersionRow, sql},
    types::{
        Deleted, Expectation, ListFilter, NOTIFY_BEFORE, SecretData, SecretItem, SecretPatch, SecretType,
        SecretValue, SecretVersion, SecretWrite, WriteOptions, Written, recoverable_until,
    },
};
use crate::{
    Code, Ctx, DurationText, Error, Result, TenantId,
    audit::Action,
    envelope::Slot,
    events::EventType,
    identity::Scope,
    limits,
    pipeline::{Act, Outcome, Permit, Write},
    policy::Permission,
    storage::{json as json_arg, query},
    vault::Inner,
    wire::{Page, rfc3339},
};

/// The verbs on secrets, for one caller. From [`Vault::secrets`](crate::Vault::secrets).
///
/// With [`Ctx::in_partner`] they are about the secrets that a partner shares: whoever has the scope may read and list them
/// in any tenant of the partner; the rest is for admins of the partner, and for whom his policies grant it.
#[derive(Clone, Copy, Debug)]
pub struct Secrets<'a> {
    pub(super) vault: &'a Inner,
    pub(super) ctx: &'a Ctx,
}

impl<'a> Secrets<'a> {
    pub(crate) fn new(vault: &'a Inner, ctx: &'a Ctx) -> Self {
        Self { vault, ctx }
    }

    /// Reads a version, or the current one. Needs `secrets:read` and the permission `read`.
    ///
    /// # Errors
    /// [`Code::SecretNotFound`] also for one that is deleted, or has expired and the caller does not have
    /// the permission `admin`; [`Code::VersionNotFound`] if it has aged out or never was.
    pub async fn get(&self, path: &SecretPath, version: Option<i64>) -> Result<SecretValue> {
        let act = Act::secret(Action::Read, &[Scope::SecretsRead], path, Permission::Read);
        self.vault.door.perform(self.ctx, act, |permit| get(permit, path, version)).await
    }

    /// Writes a new version. Needs `secrets:write` and the permission `write`.
    ///
    /// # Errors
    /// [`Code::SecretExists`] if the path holds a deleted secret that can still be restored;
    /// [`Code::VersionConflict`] if what `write.expect` says is not so; [`Code::ValidationError`].
    pub async fn put(&self, path: &SecretPath, write: SecretWrite) -> Result<Written> {
        let act = Act::secret(Action::Write, &[Scope::SecretsWrite], path, Permission::Write);
        let retention = self.vault.settings.soft_delete_retention;
        self.vault.door.perform(self.ctx, act, |permit| put(permit, path, write, retention)).await
    }

    /// Changes metadata and options; makes no version. Needs `secrets:write` and the permission `write`.
    ///
    /// # Errors
    /// [`Code::SecretNotFound`]; [`Code::ValidationError`].
    pub async fn patch(&self, path: &SecretPath, patch: SecretPatch) -> Result<SecretItem> {
        let act = Act::secret(Action::Write, &[Scope::SecretsWrite], path, Permission::Write);
        self.vault.door.perform(self.ctx, act, |permit| self::patch(permit, path, patch)).await
    }

    /// Deletes a secret: so that it can be restored for a while, or for good. Needs `secrets:delete` and the
    /// permission `delete`. For good also takes one that is deleted already, and destroys its data keys.
    ///
    /// # Errors
    /// [`Code::SecretNotFound`].
    pub async fn delete(&self, path: &SecretPath, permanent: bool) -> Result<Deleted> {
        let act = Act::secret(Action::Delete, &[Scope::SecretsDelete], path, Permission::Delete);
        let retention = self.vault.settings.soft_delete_retention;
        self.vault.door.perform(self.ctx, act, |permit| delete(permit, path, permanent, retention)).await
    }

    /// Destroys a secret that was deleted before `deleted_before`, for the job that does so.
    pub(crate) async fn purge(&self, path: &SecretPath, deleted_before: time::OffsetDateTime) -> Result<()> {
        let act = Act::secret(Action::SecretPurge, &[], path, Permission::Delete);
        let work = |permit: Permit<'a>| async move {
            let mut tx = permit.begin().await?;
            let select = store::secret_locked(tx.tenant(), path.as_str(), tx.lock_rows());
            let found: Option<SecretRow> = tx.fetch_optional(select).await?;
            let row = found
                .filter(|r| r.deleted_at().is_some_and(|at| at <= deleted_before))
                .ok_or_else(not_found)?;
            tx.execute(query(sql::DELETE).bind(tx.tenant()).bind(&row.id)).await?;
            tx.commit(()).await
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Tells what is due of a secret's expiry, for the job that does so.
    pub(crate) async fn notify_expiry(&self, path: &SecretPath) -> Result<()> {
        let act = Act::secret(Action::SecretNotify, &[], path, Permission::Read);
        self.vault.door.perform(self.ctx, act, |permit| expiry::notify(permit, path)).await
    }

    /// Brings a deleted secret back while its retention lasts. Needs `secrets:write` and the permission
    /// `write`.
    ///
    /// # Errors
    /// [`Code::SecretNotFound`] if there is no deleted secret on the path, or not any more.
    pub async fn restore(&self, path: &SecretPath) -> Result<SecretItem> {
        let act = Act::secret(Action::Restore, &[Scope::SecretsWrite], path, Permission::Write);
        let retention = self.vault.settings.soft_delete_retention;
        self.vault.door.perform(self.ctx, act, |permit| restore(permit, path, retention)).await
    }

    /// Everything but the value. Needs `secrets:list` and the permission `list`.
    ///
    /// # Errors
    /// [`Code::SecretNotFound`].
    pub async fn metadata(&self, path: &SecretPath) -> Result<SecretItem> {
        let act = Act::secret(Action::List, &[Scope::SecretsList], path, Permission::List);
        let work = async |permit: Permit<'a>| {
            let row = live(permit.fetch_optional(store::secret(permit.tenant(), path.as_str())).await?)?;
            let count = query(sql::COUNT_VERSIONS).bind(permit.tenant()).bind(&row.id);
            let count: Option<(i64,)> = permit.fetch_optional(count).await?;
            let item = SecretItem { version_count: count.map(|(n,)| n), ..row.into_item(permit.tenant())? };
            permit.answer(item)
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// The versions that can be read, newest first. Needs `secrets:list` and the permission `list`.
    ///
    /// # Errors
    /// [`Code::SecretNotFound`].
    pub async fn versions(&self, path: &SecretPath) -> Result<Vec<SecretVersion>> {
        let act = Act::secret(Action::List, &[Scope::SecretsList], path, Permission::List);
        let work = async |permit: Permit<'a>| {
            let row = live(permit.fetch_optional(store::secret(permit.tenant(), path.as_str())).await?)?;
            let rows: Vec<VersionRow> =
                permit.fetch_all(query(sql::VERSIONS).bind(permit.tenant()).bind(&row.id)).await?;
            let versions = rows.into_iter().map(|v| v.into_version(row.current_version)).collect();
            permit.answer(versions)
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// The secrets that the caller may list, by path, without values. Needs `secrets:list`; each item needs
    /// the permission `list`. A page may hold fewer items than asked for although there are more.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`]; [`Code::InvalidPath`] for a prefix that no path has.
    pub async fn list(&self, filter: ListFilter) -> Result<Page<SecretItem>> {
        super::list::list(self, filter).await
    }
}

async fn get(
    mut permit: Permit<'_>,
    path: &SecretPath,
    version: Option<i64>,
) -> Result<Outcome<SecretValue>> {
    if version.is_some_and(|v| v < 1) {
        return Err(Error::new(Code::VersionNotFound, "Versions are numbered from 1."));
    }
    let found =
        permit.fetch_optional(store::secret_and_version(permit.tenant(), path.as_str(), version)).await?;
    let mut found: SecretAndVersion = found.ok_or_else(not_found)?;
    let sealed = found.take_version();
    let secret = live(Some(found.secret))?;
    let now = permit.ctx().now();
    if secret.expires_at().is_some_and(|at| at <= now) && !permit.may(path.as_str(), Permission::Admin) {
        return Err(not_found().with(|d| d.expired = Some(true)));
    }
    let (version, sealed) = sealed
        .ok_or_else(|| Error::new(Code::VersionNotFound, "There is no such version, or it has aged out."))?;
    let keys = permit.keys_for(&sealed.key_id).await?;
    let data = SecretData::from_sealed(
        keys.open(&slot(permit.tenant(), &[&secret.id, path.as_str()], version), &sealed)?,
    );
    if secret.last_accessed_at().is_none_or(|at| at + limits::LAST_ACCESSED_EVERY <= now) {
        permit.touch(&secret.id);
    }
    permit.note("version", version);
    let item = SecretItem { version, ..secret.into_item(permit.tenant())? };
    permit.answer(SecretValue { item, data })
}

async fn put(
    permit: Permit<'_>,
    path: &SecretPath,
    write: SecretWrite,
    retention: std::time::Duration,
) -> Result<Outcome<Written>> {
    write.options.check(permit.ctx().now())?;
    let keys = permit.keys_to_seal(None).await?;
    let new_id = permit.new_id("sec_")?;
    let mut tx = permit.begin().await?;
    let (row, created) = upsert(&mut tx, &new_id, path, &write, retention).await?;
    let sealed = keys
        .seal(&slot(tx.tenant(), &[&row.id, path.as_str()], row.current_version), write.data.expose_json())?;
    let insert = query(sql::INSERT_VERSION)
        .bind(tx.tenant())
        .bind(&row.id)
        .bind(row.current_version)
        .bind(&sealed.ciphertext)
        .bind(&sealed.wrapped_key)
        .bind(&sealed.key_id)
        .bind(tx.ctx().now())
        .bind(tx.ctx().caller().identity_id());
    tx.execute(insert).await?;
    prune(&mut tx, &row).await?;
    let id = row.id.clone();
    let item = row.into_item(tx.tenant())?;
    if created || write.metadata.is_some() {
        write_tags(&mut tx, &item, created, &id).await?;
    }
    told_of_put(&mut tx, &item, created)?;
    tx.note("version", item.version);
    tx.commit(Written { item, created }).await
}

/// Drops the versions that are more than the secret keeps.
async fn prune(tx: &mut Write<'_>, row: &SecretRow) -> Result<()> {
    let oldest = row.current_version - row.max_versions;
    if oldest >= 1 {
        tx.execute(query(sql::PRUNE).bind(tx.tenant()).bind(&row.id).bind(oldest)).await?;
    }
    Ok(())
}

/// Makes the secret's row, or moves the one that is there to its next version; holds its lock either way.
async fn upsert(
    tx: &mut Write<'_>,
    new_id: &str,
    path: &SecretPath,
    write: &SecretWrite,
    retention: std::time::Duration,
) -> Result<(SecretRow, bool)> {
    let over = tx.ctx().now();
    let lost = |row: &SecretRow| row.deleted_at().is_some_and(|at| recoverable_until(at, retention) <= over);
    loop {
        let select = store::secret_locked(tx.tenant(), path.as_str(), tx.lock_rows());
        let mut found: Option<SecretRow> = tx.fetch_optional(select).await?;
        if let Some(row) = found.take_if(|row| lost(row)) {
            // What nobody can restore does not hold the path until the job comes by.
            tx.execute(query(sql::DELETE).bind(tx.tenant()).bind(&row.id)).await?;
            tx.note("purged", true);
        }
        check_expectation(write.expect, found.as_ref())?;
        match found {
            Some(row) => return Ok((update(tx, &row, write).await?, false)),
            None => {
                if let Some(row) = insert(tx, new_id, path, write).await? {
                    return Ok((row, true));
                }
                // Somebody else made it in between: now there is a row to lock.
            }
        }
    }
}

fn check_expectation(expect: Expectation, found: Option<&SecretRow>) -> Result<()> {
    if found.is_some_and(|row| row.deleted_at().is_some()) {
        let message = "The path holds a deleted secret; restore it or delete it permanently.";
        return Err(Error::new(Code::SecretExists, message));
    }
    let current = found.map_or(0, |row| row.current_version);
    let expected = match expect {
        Expectation::Anything => return Ok(()),
        Expectation::Absent => 0,
        Expectation::Version(version) => version,
    };
    if expected == current {
        return Ok(());
    }
    let message = format!("The current version is {current}, not {expected}; read it again and retry.");
    Err(Error::new(Code::VersionConflict, message).with(|d| d.current_version = Some(current)))
}

/// `None` if the path was taken in between.
async fn insert(
    tx: &mut Write<'_>,
    id: &str,
    path: &SecretPath,
    write: &SecretWrite,
) -> Result<Option<SecretRow>> {
    let now = tx.ctx().now();
    let metadata = write.metadata.clone().unwrap_or_default();
    let notify_before = notify_text(&write.options).unwrap_or_else(|| NOTIFY_BEFORE.to_owned());
    let expires_at = write.options.expiry(None, now);
    let notify_at = next_notice(expires_at, &notify_before, now)?;
    let insert = query(sql::INSERT)
        .bind(tx.tenant())
        .bind(path.as_str())
        .bind(id)
        .bind(write.secret_type.unwrap_or(SecretType::Json).as_str())
        .bind(write.options.max_versions.unwrap_or(limits::MAX_VERSIONS_DEFAULT))
        .bind(json_arg(&metadata)?)
        .bind(notify_before)
        .bind(now)
        .bind(expires_at)
        .bind(notify_at);
    tx.fetch_optional(insert).await
}

async fn update(tx: &mut Write<'_>, row: &SecretRow, write: &SecretWrite) -> Result<SecretRow> {
    // An expiry in the past would hide what is being written.
    let before = row.expires_at().filter(|at| *at > tx.ctx().now());
    let metadata = match &write.metadata {
        Some(metadata) => metadata.clone(),
        None => row.metadata()?,
    };
    let change = Change {
        secret_type: write.secret_type.map_or(row.secret_type.as_str(), |kind| kind.as_str()),
        version: row.current_version + 1,
        expires_before: before,
    };
    apply(tx, row, &change, &metadata, &write.options).await
}

/// What an update sets besides metadata and options.
struct Change<'c> {
    secret_type: &'c str,
    version: i64,
    expires_before: Option<time::OffsetDateTime>,
}

async fn apply(
    tx: &mut Write<'_>,
    row: &SecretRow,
    change: &Change<'_>,
    metadata: &super::Metadata,
    options: &WriteOptions,
) -> Result<SecretRow> {
    let now = tx.ctx().now();
    let notify_before = notify_text(options).unwrap_or_else(|| row.notify_before.clone());
    let expires_at = options.expiry(change.expires_before, now);
    // What is due already is still told, unless there is another schedule now.
    let notify_at = if expires_at == row.expires_at() && notify_before == row.notify_before {
        row.notify_at()
    } else {
        next_notice(expires_at, &notify_before, now)?
    };
    let update = query(sql::UPDATE)
        .bind(tx.tenant())
        .bind(&row.id)
        .bind(change.secret_type)
        .bind(change.version)
        .bind(options.max_versions.unwrap_or(row.max_versions))
        .bind(json_arg(metadata)?)
        .bind(notify_before)
        .bind(now)
        .bind(expires_at)
        .bind(notify_at);
    let row = tx.fetch_optional(update).await?;
    row.ok_or_else(|| Error::internal("a row that is locked is not there"))
}

/// When something is next to be told of the expiry.
fn next_notice(
    expires_at: Option<time::OffsetDateTime>,
    notify_before: &str,
    now: time::OffsetDateTime,
) -> Result<Option<time::OffsetDateTime>> {
    let schedule = expires_at.map(|at| Schedule::new(at, notify_before)).transpose()?;
    Ok(schedule.and_then(|schedule| schedule.next(now)))
}

fn notify_text(options: &WriteOptions) -> Option<String> {
    let list = options.notify_before.as_ref()?;
    Some(list.iter().map(DurationText::as_str).collect::<Vec<_>>().join(","))
}

async fn write_tags(tx: &mut Write<'_>, item: &SecretItem, created: bool, id: &str) -> Result<()> {
    if !created {
        tx.execute(query(sql::DELETE_TAGS).bind(tx.tenant()).bind(id)).await?;
    }
    for tag in item.metadata.tags() {
        tx.execute(query(sql::INSERT_TAG).bind(tx.tenant()).bind(id).bind(tag).bind(&item.path)).await?;
    }
    Ok(())
}

fn told_of_put(tx: &mut Write<'_>, item: &SecretItem, created: bool) -> Result<()> {
    let by = tx.ctx().caller().identity_id();
    if created {
        let data = json!({
            "version": item.version,
            "secret_type": item.secret_type,
            "created_by": by,
            "tags": item.metadata.tags(),
            "expires_at": item.expires_at.map(rfc3339),
        });
        tx.event(EventType::SecretCreated, Some(&item.path), data)
    } else {
        let data = json!({
            "old_version": item.version - 1,
            "new_version": item.version,
            "updated_by": by,
            "is_rotation": false,
        });
        tx.event(EventType::SecretUpdated, Some(&item.path), data)
    }
}

async fn patch(permit: Permit<'_>, path: &SecretPath, patch: SecretPatch) -> Result<Outcome<SecretItem>> {
    patch.options.check(permit.ctx().now())?;
    let mut tx = permit.begin().await?;
    let row =
        live(tx.fetch_optional(store::secret_locked(tx.tenant(), path.as_str(), tx.lock_rows())).await?)?;
    let (metadata, retag) = match patch.metadata {
        Some(patch) => (row.metadata()?.merged(patch)?, true),
        None => (row.metadata()?, false),
    };
    let change = Change {
        secret_type: &row.secret_type,
        version: row.current_version,
        expires_before: row.expires_at(),
    };
    let row = apply(&mut tx, &row, &change, &metadata, &patch.options).await?;
    prune(&mut tx, &row).await?;
    let id = row.id.clone();
    let item = row.into_item(tx.tenant())?;
    if retag {
        write_tags(&mut tx, &item, false, &id).await?;
    }
    tx.note("metadata_only", true);
    tx.commit(item).await
}

async fn delete(
    permit: Permit<'_>,
    path: &SecretPath,
    permanent: bool,
    retention: std::time::Duration,
) -> Result<Outcome<Deleted>> {
    let mut tx = permit.begin().await?;
    let found: Option<SecretRow> =
        tx.fetch_optional(store::secret_locked(tx.tenant(), path.as_str(), tx.lock_rows())).await?;
    let row = found.filter(|row| permanent || row.deleted_at().is_none()).ok_or_else(not_found)?;
    let count = query(sql::COUNT_VERSIONS).bind(tx.tenant()).bind(&row.id);
    let version_count = tx.fetch_optional::<(i64,)>(count).await?.map_or(0, |(n,)| n);
    let now = tx.ctx().now();
    let recoverable_until = (!permanent).then(|| recoverable_until(now, retention));
    let change = if permanent {
        // The versions go with it, and with them the only copies of their data keys.
        query(sql::DELETE).bind(tx.tenant()).bind(&row.id)
    } else {
        query(sql::SET_DELETED).bind(tx.tenant()).bind(&row.id).bind(Some(now))
    };
    tx.execute(change).await?;
    let mut data = json!({
        "version_count": version_count,
        "deleted_by": tx.ctx().caller().identity_id(),
        "permanent": permanent,
    });
    if let Some(until) = recoverable_until {
        data["recoverable_until"] = json!(rfc3339(until));
    }
    tx.event(EventType::SecretDeleted, Some(path.as_str()), data)?;
    tx.note("permanent", permanent);
    tx.commit(Deleted { path: path.clone(), permanent, version_count, recoverable_until }).await
}

async fn restore(
    permit: Permit<'_>,
    path: &SecretPath,
    retention: std::time::Duration,
) -> Result<Outcome<SecretItem>> {
    let mut tx = permit.begin().await?;
    let found: Option<SecretRow> =
        tx.fetch_optional(store::secret_locked(tx.tenant(), path.as_str(), tx.lock_rows())).await?;
    let now = tx.ctx().now();
    let in_time = |row: &SecretRow| row.deleted_at().is_some_and(|at| recoverable_until(at, retention) > now);
    let row = found.filter(in_time).ok_or_else(not_found)?;
    tx.execute(query(sql::SET_DELETED).bind(tx.tenant()).bind(&row.id).bind(None::<time::OffsetDateTime>))
        .await?;
    let data = json!({
        "old_version": row.current_version,
        "new_version": row.current_version,
        "updated_by": tx.ctx().caller().identity_id(),
        "is_rotation": false,
        "restored": true,
    });
    tx.event(EventType::SecretUpdated, Some(path.as_str()), data)?;
    let item = SecretItem { deleted_at: None, ..row.into_item(tx.tenant())? };
    tx.commit(item).await
}

/// The one place of a version's ciphertext. The path is part of the row's name, so that a row that is
/// moved to another path does not open.
pub(crate) fn slot<'s>(tenant: &'s TenantId, row: &'s [&'s str; 2], version: i64) -> Slot<'s> {
    Slot { tenant, table: "secret_version", row, column: "ciphertext", version }
}

/// The row, unless there is none or it is deleted.
fn live(row: Option<SecretRow>) -> Result<SecretRow> {
    row.filter(|row| row.deleted_at().is_none()).ok_or_else(not_found)
}

pub(super) fn not_found() -> Error {
    Error::new(Code::SecretNotFound, "There is no secret on this path.")
}
