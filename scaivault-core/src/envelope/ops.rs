use std::{collections::BTreeSet, fmt};

use scaivault_kms::{Description, KmsError, WrappedKey};

use super::{
    rewrap::{self, Settled, Watch, act, keeper},
    root_ops,
    rooted::{Rooted, RootedTable},
    roots::{Closed, Root, Roots, is_out},
    store::{
        self, EveryPartnerKey, EveryTenantKey, PartnerKeyRow, RetiredPartnerKey, RetiredTenantKey,
        TenantKeyAndPartner, sql,
    },
    types::{
        KeyReport, KeyStatus, PartnerKeyStatus, Progress, RootKeyStatus, RootRotation, Rotation, RowCounts,
        TenantKeyStatus, Verify,
    },
    verify,
    wraps::{RootId, Wraps},
};
use crate::{
    Code, Ctx, Error, PartnerId, Result, Role, Scope, TenantId,
    audit::Action,
    identity::IdentityType,
    limits,
    pipeline::{Act, Outcome, Permit},
    storage::{Query, Ts, query},
    vault::Inner,
};

/// The verbs on the keys between the root key and the rows, for one caller. From
/// [`Vault::keys`](crate::Vault::keys).
///
/// They are for whoever operates the vault: a caller with the scope `admin` and the role `super_admin`, or
/// `Caller::system("key-rotation", tenant)`. Reading and writing go on meanwhile. Each verb may be stopped
/// anywhere and called again: it goes on where it was, as does the background work of any replica.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    pub(super) vault: &'a Inner,
    pub(super) ctx: &'a Ctx,
    pub(super) watch: Watch<'a>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(vault: &'a Inner, ctx: &'a Ctx) -> Self {
        Self { vault, ctx, watch: None }
    }

    /// Tells `watch` after each batch how far the verb has come.
    #[must_use]
    pub fn watched(self, watch: &'a (dyn Fn(Progress) + Send + Sync)) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// The keys there are, and what is still under the old ones.
    ///
    /// # Errors
    /// [`Code::InsufficientScope`], [`Code::AccessDenied`] if the caller is no operator.
    pub async fn status(&self) -> Result<KeyStatus> {
        let act = Act::object(Action::KeyRead, &[Scope::Admin], "key", None);
        self.vault.door.perform(self.ctx, act, status).await
    }

    /// Opens every partner key (by a call to the provider each), every tenant key, and all or some of the data
    /// keys, and names what does not open.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::ServiceUnavailable`] if the provider does not answer, which says
    /// nothing about the keys.
    pub async fn verify(&self, how: Verify) -> Result<KeyReport> {
        let act = Act::object(Action::KeyRead, &[Scope::Admin], "key", None);
        let watch = self.watch;
        let work = |permit: Permit<'a>| async move {
            operator(&permit)?;
            verify::verify(permit, how, watch).await
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Wraps every key anew that is under an older version of a configured root key, or under one whose place a
    /// configured one of its kind has taken. What a provider needs to open the old wraps has to be there until this is
    /// done.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::ServiceUnavailable`] if a wrap cannot be opened now, the source
    /// naming the root key that it takes. The other keys are done all the same, and so are the other wraps of the same
    /// key; a root key that is out is not asked again.
    pub async fn rotate_root(&self) -> Result<RootRotation> {
        let root = self.current_root().await?;
        let keyring = self.vault.door.keyring();
        for root in keyring.roots().iter() {
            // A version that was made meanwhile is known once it was asked.
            keyring.roots().identify(root).await;
        }
        let mut rotation =
            RootRotation { root: RootKeyStatus::from(root.describe()), rewrapped: 0, current: 0 };
        let mut failed = Ok(());
        let mut out = BTreeSet::new();
        for table in RootedTable::ALL {
            let mut after = String::new();
            loop {
                let page = table.page(&self.vault.door.key_db(), &after).await?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.id);
                for key in page {
                    let changed = self.rotate_key(key, &mut out).await;
                    match changed {
                        Ok(changed) if table == RootedTable::Partner => {
                            rotation.rewrapped += u64::from(changed);
                            rotation.current += u64::from(!changed);
                        }
                        Ok(_) => {}
                        Err(error) => failed = failed.and(Err(error)),
                    }
                    if let Some(watch) = self.watch {
                        let seen = rotation.rewrapped + rotation.current;
                        watch(Progress { table: table.name(), done: seen, total: seen });
                    }
                }
            }
        }
        failed?;
        self.end_succeeded().await?;
        Ok(rotation)
    }

    /// Wraps a key anew where a wrap of it is not of today; whether there was any.
    async fn rotate_key(&self, key: Rooted, out: &mut BTreeSet<String>) -> Result<bool> {
        let again = |key: &Rooted| {
            let (table, id) = (key.table, key.id.clone());
            async move { table.one(&self.vault.door.key_db(), &id).await }
        };
        let mut key = key;
        for _ in 0..3 {
            let (anew, failed) = self.rotated(&key, out).await?;
            let changed = match &anew {
                None => false,
                Some(anew) if root_ops::replace(self.vault, self.ctx, &key, anew, "rewrap").await? => true,
                Some(_) => match again(&key).await? {
                    Some(now) => {
                        key = now;
                        continue;
                    }
                    None => return Ok(false),
                },
            };
            return failed.map(|()| changed);
        }
        Err(lost_race())
    }

    /// The wraps that a key is to have, if they are others than it has; and what could not be done.
    async fn rotated(&self, key: &Rooted, out: &mut BTreeSet<String>) -> Result<(Option<Wraps>, Result<()>)> {
        let roots = self.vault.door.keyring().roots();
        let wraps = key.wraps()?;
        let mut anew = wraps.clone();
        let mut failed: Vec<(String, KmsError)> = Vec::new();
        // Wraps of a root key that is no longer configured, and those of its kind that do not know it.
        let mut strangers: Vec<(String, KmsError)> = Vec::new();
        let mut held = false;
        for wrap in wraps.iter() {
            let id = RootId::of(wrap);
            let holders = roots.holders(&id);
            held |= holders.iter().any(|root| root.id() == id);
            if holders.iter().any(|root| is_current(&root.describe(), wrap)) {
                continue;
            }
            let mut refused = Vec::new();
            let mut made = None;
            for root in holders {
                if out.contains(root.name()) {
                    refused.push((root.name().to_owned(), was_out(root)));
                    continue;
                }
                match rotate_wrap(roots, root, wrap, key).await {
                    Ok(wrap) => {
                        made = Some((root, wrap));
                        break;
                    }
                    Err(error @ KmsError::NotFound { .. }) if root.id() != id => {
                        strangers.push((root.name().to_owned(), error));
                    }
                    Err(error) => {
                        if is_out(&error) {
                            out.insert(root.name().to_owned());
                        }
                        refused.push((root.name().to_owned(), error));
                    }
                }
            }
            match made {
                Some((root, wrap)) => {
                    if RootId::of(&wrap) != id {
                        self.activate(root).await?;
                    }
                    anew = anew.without(&id).with(wrap);
                    held = true;
                }
                None => failed.extend(refused),
            }
        }
        if !held && failed.is_empty() && strangers.is_empty() {
            let names = wraps.iter().map(|wrap| RootId::of(wrap).to_string());
            failed.extend(names.map(|name| {
                let message = "it is not configured".to_owned();
                (name, KmsError::NotFound { provider: "vault", message })
            }));
        }
        if !held {
            failed.append(&mut strangers);
        }
        let failed = if failed.is_empty() { Ok(()) } else { Err(Closed(failed).into()) };
        Ok(((anew != wraps).then_some(anew), failed))
    }

    /// Root keys that others of their kind have taken the place of, and that nothing is under any more.
    async fn end_succeeded(&self) -> Result<()> {
        let keyring = self.vault.door.keyring();
        let rows = keyring.known_roots().await?;
        for row in rows.iter().filter(|row| (row.is_active() || row.is_going()) && !row.is_recovery()) {
            let id = row.root();
            let holders = keyring.roots().holders(&id);
            if holders.is_empty() || holders.iter().any(|root| root.id() == id) {
                continue;
            }
            if !self.is_in_use(&id).await? {
                self.begin_removal(&row.id, &id).await?;
                // From here on nothing can come under it alone; until here it could.
                if self.is_in_use(&id).await? {
                    let message = format!("A key came under {id} meanwhile; rotate again.");
                    return Err(Error::new(Code::VersionConflict, message));
                }
                self.end_removal(&row.id, &id).await?;
            }
        }
        Ok(())
    }

    /// Makes a version of a root key by the service's own means, once, and then does what
    /// [`rotate_root`](Self::rotate_root) does. The root key is named as it is configured; the first, without a name.
    /// Called again, it makes another version.
    ///
    /// # Errors
    /// As [`rotate_root`](Self::rotate_root), and then the version is there; before, [`Code::NotFound`] if no root key
    /// of that name is configured, [`Code::InvalidState`] if its provider rotates no keys in place.
    pub async fn rotate_root_in_place(&self, name: Option<&str>) -> Result<RootRotation> {
        let first = self.current_root().await?;
        let roots = self.vault.door.keyring().roots();
        let root = match name {
            None => first,
            Some(name) => roots
                .named(name)
                .ok_or_else(|| root_ops::unknown(name, roots.iter().map(|root| root.name().to_owned())))?,
        };
        let work = |permit: Permit<'a>| async move {
            let mut permit = permit.over_keys()?;
            let made = roots.rotate(root).await.map_err(|error| match error {
                KmsError::Unsupported { .. } => {
                    let message = format!(
                        "Root key {} cannot be rotated in place: make another one, and add or rotate to it.",
                        root.name()
                    );
                    Error::new(Code::InvalidState, message).because(Closed::one(root.name(), error))
                }
                error => Closed::one(root.name(), error).into(),
            })?;
            permit.note("step", "rotate");
            permit.note("root_key", RootId::new(made.provider, made.key_id).to_string());
            permit.note("key_version", made.key_version);
            permit.answer(())
        };
        self.vault.door.perform(self.ctx, act("root_key", root.name()), work).await?;
        self.rotate_root().await
    }

    /// Whether a key is under this root key, or may be.
    pub(super) async fn is_in_use(&self, root: &RootId) -> Result<bool> {
        for table in RootedTable::ALL {
            let mut after = String::new();
            loop {
                let page = table.page(&self.vault.door.key_db(), &after).await?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.id);
                // One that cannot be read may be under anything.
                if page.iter().any(|key| key.wraps().map_or(true, |wraps| wraps.under(root).is_some())) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Makes a new key for a partner, wraps his tenants' keys under it, and destroys the old one. Goes on with a
    /// rotation that was not finished instead of making another key.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::NotFound`] if the partner has no key.
    pub async fn rotate_partner(&self, partner: &PartnerId) -> Result<Rotation> {
        let (key_id, made) = again(|| self.replace_partner_key(partner, Replace::Settled)).await?;
        let mut rotation = Rotation { key_id, made, rewrapped: 0, broken: 0, old: Vec::new() };
        self.settle_partner(partner, &mut rotation).await?;
        if rotation.is_stuck() {
            let (key_id, made) =
                again(|| self.replace_partner_key(partner, Replace::This(&rotation.key_id))).await?;
            rotation = Rotation { key_id, made, rewrapped: 0, broken: 0, old: Vec::new() };
            self.settle_partner(partner, &mut rotation).await?;
        }
        Ok(rotation)
    }

    async fn settle_partner(&self, partner: &PartnerId, rotation: &mut Rotation) -> Result<()> {
        for old in self.retired_partner_keys(partner).await? {
            rotation.add(rewrap::settle_partner_key(self.vault, self.ctx, &old, self.watch).await?);
        }
        Ok(())
    }

    /// Makes a new key for a tenant, which seals from then on, and wraps the data keys of the tenant's rows under
    /// it; ciphertexts stay as they are. The old key opens until nothing has needed it for a while (see
    /// [`OldKey::destroy_after`](super::OldKey)), and is then destroyed by the background work, or by this verb
    /// if it is called again. Goes on with a rotation that was not finished instead of making another key.
    ///
    /// # Errors
    /// As [`status`](Self::status); [`Code::NotFound`] if there is no such tenant.
    pub async fn rotate_tenant(&self, tenant: &TenantId) -> Result<Rotation> {
        self.request_rotation(tenant).await?;
        let ctx = keeper(self.vault, tenant, Some(self.ctx))?;
        let replace = async |how| again(|| replace_tenant_key(self.vault, Some(self.ctx), &ctx, how)).await;
        let (key_id, made) = replace(Replace::Settled).await?;
        let mut rotation = Rotation { key_id, made, rewrapped: 0, broken: 0, old: Vec::new() };
        self.settle_tenant(&ctx, &mut rotation).await?;
        if rotation.is_stuck() {
            // What was left of the last one does not open: it keeps its key, and not the others.
            let (key_id, made) = replace(Replace::This(&rotation.key_id)).await?;
            rotation = Rotation { key_id, made, rewrapped: 0, broken: 0, old: Vec::new() };
            self.settle_tenant(&ctx, &mut rotation).await?;
        }
        Ok(rotation)
    }

    /// Goes on with what a tenant's rotations have left: wraps anew what came under an old key since, and
    /// destroys the old keys whose time has come. Makes no key.
    ///
    /// # Errors
    /// As [`rotate_tenant`](Self::rotate_tenant).
    pub async fn settle(&self, tenant: &TenantId) -> Result<Rotation> {
        self.request_rotation(tenant).await?;
        let ctx = keeper(self.vault, tenant, Some(self.ctx))?;
        let key_id = newest_key(self.vault, &ctx).await?;
        let mut rotation = Rotation { key_id, made: false, rewrapped: 0, broken: 0, old: Vec::new() };
        self.settle_tenant(&ctx, &mut rotation).await?;
        Ok(rotation)
    }

    async fn settle_tenant(&self, ctx: &Ctx, rotation: &mut Rotation) -> Result<()> {
        let retired = retired_tenant_keys(self.vault, ctx).await?;
        for old in retired {
            rotation.add(rewrap::settle_tenant_key(self.vault, ctx, &old, u64::MAX, self.watch).await?);
        }
        Ok(())
    }

    /// The caller's own act: that he asked for it, in the trail of his own tenant.
    async fn request_rotation(&self, tenant: &TenantId) -> Result<()> {
        let work = |permit: Permit<'a>| async move {
            operator(&permit)?;
            let permit = permit.over_keys()?;
            let found: Option<(String,)> =
                permit.fetch_optional(query(crate::tenancy::store::sql::PARTNER).bind(tenant)).await?;
            found.ok_or_else(|| Error::new(Code::NotFound, "There is no such tenant."))?;
            permit.answer(())
        };
        self.vault.door.perform(self.ctx, act("tenant", tenant.as_str()), work).await
    }

    /// The root key that is preferred; only for operators.
    async fn current_root(&self) -> Result<&'a Root> {
        let work = |permit: Permit<'a>| async move {
            operator(&permit)?;
            permit.answer(())
        };
        let act = Act::object(Action::KeyRotate, &[Scope::Admin], "root_key", None);
        self.vault.door.perform(self.ctx, act, work).await?;
        self.vault.door.keyring().known_roots().await?;
        Ok(self.vault.door.roots().first())
    }

    async fn retired_partner_keys(&self, partner: &PartnerId) -> Result<Vec<RetiredPartnerKey>> {
        let work = |permit: Permit<'a>| async move {
            let permit = permit.over_keys()?;
            let mut all: Vec<RetiredPartnerKey> = Vec::new();
            loop {
                let after = all.last().map_or("", |row| row.key.id.as_str());
                let page = permit.fetch_all(query(sql::RETIRED_PARTNER_KEYS).bind(after)).await?;
                if page.is_empty() {
                    break;
                }
                all.extend::<Vec<RetiredPartnerKey>>(page);
            }
            all.retain(|row| row.partner_id == partner.as_str());
            permit.answer(all)
        };
        self.vault.door.perform(self.ctx, act("partner", partner.as_str()), work).await
    }

    async fn replace_partner_key(&self, partner: &PartnerId, how: Replace<'_>) -> Result<(String, bool)> {
        let work = |permit: Permit<'a>| async move {
            operator(&permit)?;
            let permit = permit.over_keys()?;
            let newest: Option<PartnerKeyRow> =
                permit.fetch_optional(store::newest_partner_key(partner)).await?;
            let newest = newest
                .ok_or_else(|| Error::new(Code::NotFound, "There is no partner with a key of that name."))?;
            let unfinished = query(sql::RETIRED_OF_PARTNER).bind(partner);
            if !how.applies(&permit, &newest.id, unfinished).await? {
                return permit.answer((newest.id, false));
            }
            let (made, by) = permit.keyring().new_partner_key(partner, newest.version + 1).await?;
            let now = permit.keyring().now();
            let mut tx = permit.begin().await?;
            let held: Option<(String,)> = tx.fetch_optional(store::hold_root(&by, tx.lock_rows())).await?;
            held.ok_or_else(lost_race)?;
            if tx.execute(store::insert_partner_key(partner, &made, now)).await? == 0 {
                return Err(lost_race());
            }
            let retire =
                query(sql::RETIRE_PARTNER_KEYS).bind(partner).bind(made.version).bind(now).bind(tx.tenant());
            tx.execute(retire).await?;
            tx.note("step", "switch");
            tx.note("new_key_id", made.id.clone());
            tx.commit((made.id, true)).await
        };
        self.vault.door.perform(self.ctx, act("partner", partner.as_str()), work).await
    }
}

impl Rotation {
    /// Whether this call could do nothing for a rotation that is not finished.
    fn is_stuck(&self) -> bool {
        !self.made && self.rewrapped == 0 && self.broken > 0
    }

    fn add(&mut self, settled: Settled) {
        self.rewrapped += settled.rewrapped;
        self.broken += settled.broken;
        self.old.push(settled.key);
    }
}

impl fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("ctx", &self.ctx).finish_non_exhaustive()
    }
}

/// When a key is replaced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Replace<'k> {
    /// If every former one has nothing under it any more.
    Settled,
    /// If it is this one still.
    This(&'k str),
    /// If it has sealed half of what it may.
    Worn,
}

impl Replace<'_> {
    async fn applies(self, permit: &Permit<'_>, newest: &str, unfinished: Query<'_>) -> Result<bool> {
        let count = match self {
            Self::Settled => unfinished,
            Self::This(id) => return Ok(id == newest),
            Self::Worn => query(sql::IS_WORN).bind(newest).bind(limits::WRAPS_WORN),
        };
        let found = permit.fetch_optional::<(i64,)>(count).await?.is_some_and(|(count,)| count > 0);
        Ok(found == matches!(self, Self::Worn))
    }
}

/// Keys of a page.
const PAGE: i64 = 100;

async fn newest_key<'a>(vault: &'a Inner, ctx: &'a Ctx) -> Result<String> {
    let work = |permit: Permit<'a>| async move {
        let rows: Vec<TenantKeyAndPartner> = permit.fetch_all(store::tenant_keys(permit.tenant())).await?;
        let key_id = rows.last().map(|row| row.id.clone()).unwrap_or_default();
        permit.answer(key_id)
    };
    vault.door.perform(ctx, act("tenant", ctx.tenant().as_str()), work).await
}

async fn retired_tenant_keys<'a>(vault: &'a Inner, ctx: &'a Ctx) -> Result<Vec<RetiredTenantKey>> {
    let work = |permit: Permit<'a>| async move {
        let mut all: Vec<RetiredTenantKey> = Vec::new();
        loop {
            let after = all.last().map_or("", |row| row.id.as_str());
            let page = query(sql::RETIRED_TENANT_KEYS).bind(after).bind(permit.tenant());
            let page: Vec<RetiredTenantKey> = permit.fetch_all(page).await?;
            if page.is_empty() {
                return permit.answer(all);
            }
            all.extend(page);
        }
    };
    vault.door.perform(ctx, act("tenant", ctx.tenant().as_str()), work).await
}

/// The switch of a tenant: from its commit on, the new key seals. `ctx` acts for the tenant.
pub(super) async fn replace_tenant_key<'a>(
    vault: &'a Inner,
    asked: Option<&Ctx>,
    ctx: &'a Ctx,
    how: Replace<'_>,
) -> Result<(String, bool)> {
    let work = |mut permit: Permit<'a>| async move {
        if let Some(asked) = asked {
            permit.note("requested_by", asked.caller().identity_id());
        }
        // A tenant that has no key yet gets its first one here.
        permit.keys().await?;
        let (keyring, tenant) = (permit.keyring(), permit.tenant());
        let rows: Vec<TenantKeyAndPartner> = permit.fetch_all(store::tenant_keys(tenant)).await?;
        let newest = rows.last().ok_or_else(|| Error::internal("a tenant without a key"))?.parts().0;
        if !how.applies(&permit, &newest.id, query(sql::UNDRAINED).bind(tenant)).await? {
            return permit.answer((newest.id, false));
        }
        let (above, partner_key) = keyring.newest_partner_key(permit.partner()).await?;
        let made = keyring.new_tenant_key(tenant, newest.version + 1, (&above.id, &partner_key))?;
        let now = keyring.now();
        let mut tx = permit.begin().await?;
        if tx.execute(store::insert_tenant_key(tenant, &made, now)).await? == 0 {
            return Err(lost_race());
        }
        tx.execute(query(sql::RETIRE_TENANT_KEYS).bind(tenant).bind(made.version).bind(now)).await?;
        tx.note("step", "switch");
        tx.note("new_key_id", made.id.clone());
        let done = tx.commit((made.id, true)).await?;
        keyring.forget(tenant).await;
        Ok(done)
    };
    vault.door.perform(ctx, act("tenant", ctx.tenant().as_str()), work).await
}

/// Tries again what lost a race: against another rotation of the same key, or against the end of the key above.
pub(super) async fn again<T, F: Future<Output = Result<T>>>(work: impl Fn() -> F) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match work().await {
            Err(error)
                if tries < 3 && (error.code() == Code::VersionConflict || store::is_reference(&error)) => {}
            done => return done,
        }
    }
}

fn lost_race() -> Error {
    Error::new(Code::VersionConflict, "Another key was made in between.")
}

/// Operators only: keys belong to the vault, not to a tenant of it.
pub(super) fn operator(permit: &Permit<'_>) -> Result<()> {
    let caller = permit.ctx().caller();
    let allowed = match caller.identity_type() {
        IdentityType::System => caller.identity_id().strip_prefix("system:") == Some(rewrap::JOB),
        _ => caller.has_role(Role::SuperAdmin),
    };
    match allowed {
        true => Ok(()),
        false => Err(Error::new(Code::AccessDenied, "Keys are for super administrators.")),
    }
}

async fn status(permit: Permit<'_>) -> Result<Outcome<KeyStatus>> {
    operator(&permit)?;
    let permit = permit.over_keys()?;
    let keyring = permit.keyring();
    let mut status = KeyStatus {
        root: keyring.roots().first().describe().into(),
        roots: root_ops::root_status(keyring).await?,
        partner_keys: Vec::new(),
        tenant_keys: Vec::new(),
    };
    loop {
        let after = status.partner_keys.last().map_or("", |key| key.id.as_str());
        let page = query(sql::EVERY_PARTNER_KEY).bind(after).bind(PAGE);
        let rows: Vec<EveryPartnerKey> = permit.fetch_all(page).await?;
        if rows.is_empty() {
            break;
        }
        status.partner_keys.extend(rows.into_iter().map(|row| partner_key_status(keyring.roots(), row)));
    }
    let grace = permit.keyring().grace();
    loop {
        let after = status.tenant_keys.last().map_or(("", 0), |key| (key.tenant_id.as_str(), key.version));
        let page = query(sql::EVERY_TENANT_KEY).bind(after.0).bind(after.1).bind(PAGE);
        let rows: Vec<EveryTenantKey> = permit.fetch_all(page).await?;
        if rows.is_empty() {
            return permit.answer(status);
        }
        for row in rows {
            let retired = row.retired_at.map(Ts::get);
            let rows: Option<RowCounts> = match retired {
                None => None,
                Some(_) => {
                    let counts: Option<(i64, i64, i64, i64)> =
                        permit.fetch_optional(store::under_tenant_key(&row.id)).await?;
                    counts.map(RowCounts::from)
                }
            };
            status.tenant_keys.push(TenantKeyStatus {
                destroy_after: row
                    .drained_at
                    .map(Ts::get)
                    .max(retired)
                    .filter(|_| row.drained_at.is_some())
                    .map(|at| at + grace),
                id: row.id,
                tenant_id: row.tenant_id,
                version: row.version,
                partner_key_id: row.partner_key_id,
                created_at: row.created_at.get(),
                retired_at: retired,
                rows,
            });
        }
    }
}

fn partner_key_status(roots: &Roots, row: EveryPartnerKey) -> PartnerKeyStatus {
    let wraps = Wraps::from_bytes(&row.key.wrapped).ok();
    let (mut current, mut stale) = (false, false);
    for wrap in wraps.iter().flat_map(Wraps::iter) {
        let holders = roots.holders(&RootId::of(wrap));
        let is_current = holders.iter().any(|root| is_current(&root.describe(), wrap));
        current |= is_current;
        stale |= !is_current && holders.iter().any(|root| root.id() == RootId::of(wrap));
    }
    let roots: Vec<RootKeyStatus> = wraps.iter().flat_map(Wraps::iter).map(RootKeyStatus::from).collect();
    PartnerKeyStatus {
        root_is_current: current && !stale,
        root: roots.first().cloned(),
        roots,
        id: row.key.id,
        partner_id: row.partner_id,
        version: row.key.version,
        created_at: row.created_at.get(),
        retired_at: row.retired_at.map(Ts::get),
        tenant_keys: row.tenant_keys,
    }
}

/// The same key under the root key of today, proven to open.
async fn rotate_wrap(
    roots: &Roots,
    root: &Root,
    wrap: &WrappedKey,
    key: &Rooted,
) -> Result<WrappedKey, KmsError> {
    let open = roots.unwrap(root, wrap, &key.context).await?;
    let anew = match RootId::of(wrap) == root.id() {
        true => roots.rewrap(root, wrap, &key.context).await?,
        false => roots.wrap(root, &open, &key.context).await?,
    };
    match roots.unwrap(root, &anew, &key.context).await?.ct_eq(&open) {
        true => Ok(anew),
        false => Err(KmsError::Device {
            provider: root.describe().provider,
            message: "it does not open what it wrapped".to_owned(),
            source: None,
        }),
    }
}

/// Why a root key is not asked again.
fn was_out(root: &Root) -> KmsError {
    KmsError::Unavailable {
        provider: root.describe().provider,
        message: "not asked: it was out before".to_owned(),
        retry_after: None,
        source: None,
    }
}

/// A provider that does not tell versions apart rotates in place and opens what it wrapped before.
fn is_current(root: &Description, wrap: &WrappedKey) -> bool {
    root.provider == wrap.provider
        && root.key_id == wrap.key_id
        && (root.key_version.is_none() || root.key_version == wrap.key_version)
}

impl From<Description> for RootKeyStatus {
    fn from(root: Description) -> Self {
        Self { provider: root.provider.to_owned(), key_id: root.key_id, key_version: root.key_version }
    }
}

impl From<&WrappedKey> for RootKeyStatus {
    fn from(wrap: &WrappedKey) -> Self {
        Self {
            provider: wrap.provider.clone(),
            key_id: wrap.key_id.clone(),
            key_version: wrap.key_version.clone(),
        }
    }
}
