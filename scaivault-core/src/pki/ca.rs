use std::{collections::BTreeSet, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use scaivault_kms::{KeySpec, Secret, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{CaPlan, Issued, Issuer, Serial, build_crl, issue_intermediate, issue_root, pem};
use time::OffsetDateTime;

use super::{
    Pki,
    certificate::{Inventory, check_key_first, insert_certificate, insert_outside},
    issuer::{self, CaIssuer, key_slot, not_found, pending, urls},
    key::{CaKey, NewKey, Place, Wanted, unsigned},
    numbering::{Lists, Numbering},
    store::{self, CaRow, ChainRow, sql},
    types::{Ca, CaCertificate, CaCreate, CaType, KeyType, NameConstraints},
};
use crate::{
    Code, Error, FieldErrors, Name, Result, Scope,
    audit::Action,
    envelope::{Sealed, TenantKeys},
    identity::Role,
    limits,
    pipeline::{Act, Outcome, Permit, Write},
    storage::{Arg, query},
    vault::Inner,
    wire::{self, Page},
};

impl<'a> Pki<'a> {
    /// Makes a CA: a key, sealed like a secret or inside of a key provider, a certificate, and an empty revocation list; or,
    /// where its certificate is to be signed outside, a key and a request. Needs `pki:admin`; a key that exists already in a provider needs the role `super_admin` as well.
    ///
    /// # Errors
    /// [`Code::ValidationError`] naming every field; [`Code::NameConflict`]; [`Code::CaNotFound`] for the
    /// parent; [`Code::InvalidState`] if the parent no longer issues; [`Code::AccessDenied`] for a `key_ref` of others;
    /// [`Code::ServiceUnavailable`] if the key provider does not answer: then no CA was made.
    pub async fn create_ca(&self, write: CaCreate) -> Result<Ca> {
        let act = Act::object(Action::PkiCaCreate, &[Scope::PkiAdmin], "pki_ca", None);
        let vault = self.vault;
        vault.door.perform(self.ctx, act, |permit| async move { create(vault, permit, &write).await }).await
    }

    /// The tenant's CAs in the order they were made. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::InvalidCursor`].
    pub async fn cas(&self, limit: Option<u32>, cursor: Option<String>) -> Result<Page<Ca>> {
        let act = Act::object(Action::PkiCaRead, &[Scope::PkiAdmin], "pki_ca", None);
        let vault = self.vault;
        vault
            .door
            .perform(self.ctx, act, |permit| async move { list(vault, permit, limit, cursor).await })
            .await
    }

    /// One CA. Needs `pki:admin` or `pki:issue`.
    ///
    /// # Errors
    /// [`Code::CaNotFound`].
    pub async fn ca(&self, id: &str) -> Result<Ca> {
        let act = Act::object(Action::PkiCaRead, &[Scope::PkiAdmin, Scope::PkiIssue], "pki_ca", Some(id));
        let vault = self.vault;
        let work = |permit: Permit<'a>| async move {
            let row: Option<CaRow> = permit.fetch_optional(store::ca(permit.tenant(), id)).await?;
            permit.answer(row.ok_or_else(not_found)?.into_ca(vault.settings.base_url.as_deref())?)
        };
        vault.door.perform(self.ctx, act, work).await
    }

    /// A CA's certificate and those above it. Any caller of the tenant may have it.
    ///
    /// # Errors
    /// [`Code::CaNotFound`]; [`Code::InvalidState`] for a CA that waits for its certificate.
    pub async fn ca_certificate(&self, id: &str) -> Result<CaCertificate> {
        let act = Act::object(Action::PkiCaRead, &[], "pki_ca", Some(id));
        let work = |permit: Permit<'a>| async move {
            let rows: Vec<ChainRow> = permit.fetch_all(issuer::chain(permit.tenant(), id)).await?;
            if rows.first().is_some_and(|own| own.pending) {
                return Err(pending());
            }
            let chain = issuer::certificates(&rows)?;
            let cross_certificates = match chain.first() {
                Some(own) => super::again::cross_certificates(&permit, own).await?,
                None => Vec::new(),
            };
            let mut chain = chain.iter().map(|der| pem::encode("CERTIFICATE", der));
            let certificate_pem = chain.next().ok_or_else(not_found)?;
            let chain_pem = chain.collect();
            permit.answer(CaCertificate { certificate_pem, chain_pem, cross_certificates })
        };
        self.vault.door.perform(self.ctx, act, work).await
    }
}

async fn create(vault: &Inner, permit: Permit<'_>, write: &CaCreate) -> Result<Outcome<Ca>> {
    let (name, spec) = check(write)?;
    check_key_ref(&permit, write.key_ref.as_deref())?;
    let wanted = Wanted::find(vault.door.roots(), write, spec).await?;
    let parent = match &write.parent_ca_id {
        Some(parent) => Some(active_issuer(vault, &permit, parent).await?),
        None => None,
    };
    let paper = match write.external {
        true => Paper::Request(None),
        false => {
            let above = parent.as_ref().map(|parent| &parent.issuer);
            Paper::Certificate(Box::new(plan(write, wanted.spec(), above, permit.ctx().now())?))
        }
    };
    make(vault, permit, (write, &name, None), (wanted, paper), parent.as_deref()).await
}

/// What is made of the key of a new CA.
pub(super) enum Paper<'p> {
    /// A certificate.
    Certificate(Box<CaPlan>),
    /// A request for one, for that name in DER, or for the one that was asked for.
    Request(Option<&'p [u8]>),
}

/// Makes the key and what follows from it.
pub(super) async fn make(
    vault: &Inner,
    permit: Permit<'_>,
    (write, name, lineage): (&CaCreate, &Name, Option<&Lineage>),
    (wanted, paper): (Wanted<'_>, Paper<'_>),
    parent: Option<&CaIssuer>,
) -> Result<Outcome<Ca>> {
    // Seen again in the transaction; here, before a provider is asked for a key that nobody can take away from it.
    check_free(&permit, name).await?;
    let id = permit.new_id(&format!("ca_{}_", write.ca_type.as_str()))?;
    let lists = Lists::of(write, vault.settings.base_url.as_deref(), &id)?;
    let made = matches!(wanted, Wanted::Made { .. });
    let new = NewCa {
        id: &id,
        name,
        common_name: &write.common_name,
        ca_type: write.ca_type,
        parent_ca_id: write.parent_ca_id.as_deref(),
        key: &wanted.make(permit.tenant(), &id, permit.source()).await?,
        lists: &lists,
        lineage,
    };
    let done = match paper {
        Paper::Certificate(plan) => certify(vault, permit, &new, *plan, parent).await,
        Paper::Request(subject) => super::adopt::request(vault, permit, &new, (write, subject)).await,
    };
    if let (Err(error), Place::Provider { name, key_ref }, true) = (&done, &new.key.at, made) {
        let error = error.message();
        tracing::warn!(
            provider = name,
            key_ref,
            error,
            "a key was made for a CA that was not made: nothing uses it"
        );
    }
    done
}

/// Tenants share the providers, so that keys which are there already are for operators to give.
pub(super) fn check_key_ref(permit: &Permit<'_>, key_ref: Option<&str>) -> Result<()> {
    if key_ref.is_some() && !permit.ctx().caller().has_role(Role::SuperAdmin) {
        return Err(Error::new(Code::AccessDenied, "key_ref: keys that exist are for super administrators."));
    }
    Ok(())
}

/// Whether the tenant may have one more CA, and one of that name.
pub(super) async fn check_free(permit: &Permit<'_>, name: &Name) -> Result<()> {
    let named = query(sql::CA_NAMED).bind(permit.tenant()).bind(name.key());
    if permit.fetch_optional::<(String,)>(named).await?.is_some() {
        return Err(name_taken());
    }
    check_count(permit.fetch_optional(query(sql::COUNT_CAS).bind(permit.tenant())).await?)
}

/// A CA that is about to be made.
pub(super) struct NewCa<'n> {
    pub(super) id: &'n str,
    pub(super) name: &'n Name,
    pub(super) common_name: &'n str,
    pub(super) ca_type: CaType,
    pub(super) parent_ca_id: Option<&'n str>,
    pub(super) key: &'n NewKey,
    pub(super) lists: &'n Lists,
    pub(super) lineage: Option<&'n Lineage>,
}

/// What is sealed of a new CA: its key, unless a provider has it, and that for serial numbers.
pub(super) struct SealedKeys {
    key: Option<Sealed>,
    numbering: Numbering,
}

/// Which CA one takes the place of.
#[derive(Debug)]
pub(super) struct Lineage {
    pub(super) replaces: String,
    /// The first of that name.
    pub(super) family: String,
}

impl NewCa<'_> {
    pub(super) fn seal(&self, permit: &Permit<'_>, keys: &TenantKeys) -> Result<SealedKeys> {
        let key = match &self.key.at {
            Place::Here(pkcs8) => Some(keys.seal(&key_slot(permit.tenant(), &[self.id]), pkcs8.expose())?),
            Place::Provider { .. } => None,
        };
        Ok(SealedKeys { key, numbering: Numbering::new(permit, keys, self.id, self.lists.clone())? })
    }

    /// Its row, and what the trail says of it. Without a certificate it is a row of nothing yet.
    pub(super) async fn insert(
        &self,
        tx: &mut Write<'_>,
        sealed: &SealedKeys,
        issued: Option<&Issued>,
    ) -> Result<()> {
        let (key, now) = (&self.key.key, tx.ctx().now());
        let SealedKeys { key: sealed, numbering } = sealed;
        let sealed = sealed.as_ref();
        let provided = match &self.key.at {
            Place::Provider { name, key_ref } => Some((name.as_str(), key_ref.as_str())),
            Place::Here(_) => None,
        };
        let hash = digest(&SHA256, key.public_key_der());
        let fingerprint = provided.map(|_| hash.as_ref());
        check_count(tx.fetch_optional(query(sql::COUNT_CAS).bind(tx.tenant())).await?)?;
        let insert = query(sql::INSERT_CA)
            .bind(tx.tenant())
            .bind(self.id)
            .bind(self.name.as_str())
            .bind(self.name.key())
            .bind(self.common_name)
            .bind(self.ca_type.as_str())
            .bind(self.parent_ca_id)
            .bind(key.spec().as_str())
            .bind(issued.map_or(&[][..], |issued| &issued.der))
            .bind(issued.map_or(&[][..], |issued| issued.serial.as_bytes()))
            .bind(Arg::Bytes(sealed.map(|sealed| sealed.ciphertext.as_slice())))
            .bind(Arg::Bytes(sealed.map(|sealed| sealed.wrapped_key.as_slice())))
            .bind(sealed.map(|sealed| sealed.key_id.as_str()))
            .bind(provided.map(|(provider, _)| provider))
            .bind(provided.map(|(_, key_ref)| key_ref))
            .bind(Arg::Bytes(fingerprint))
            .bind(issued.map_or(now, |issued| issued.not_before))
            .bind(issued.map_or(now, |issued| issued.not_after))
            .bind(now)
            .bind(hash.as_ref());
        if tx.execute(insert).await? == 0 {
            let named = query(sql::CA_NAMED).bind(tx.tenant()).bind(self.name.key());
            return Err(match tx.fetch_optional::<(String,)>(named).await? {
                Some(_) => name_taken(),
                // Of the tenant, or, in a provider, of whomever.
                None if provided.is_some() => Error::field("key_ref", "another CA has this key"),
                None => key_taken(),
            });
        }
        numbering.insert(tx, self.id).await?;
        if let Some(Lineage { replaces, family }) = self.lineage {
            let set = query(sql::SET_LINEAGE).bind(tx.tenant()).bind(self.id).bind(replaces).bind(family);
            tx.execute(set).await?;
            tx.note("replaces", replaces.as_str());
        }
        tx.resource(self.id);
        tx.note("name", self.name.as_str());
        tx.note("ca_type", self.ca_type.as_str());
        if let Some((provider, key_ref)) = provided {
            tx.note("key_provider", provider);
            tx.note("key_ref", key_ref);
        }
        Ok(())
    }
}

/// Its certificate, its first revocation list, and its row.
async fn certify(
    vault: &Inner,
    permit: Permit<'_>,
    new: &NewCa<'_>,
    plan: CaPlan,
    parent: Option<&CaIssuer>,
) -> Result<Outcome<Ca>> {
    let keys = permit.keys_to_seal(parent.and_then(CaIssuer::key_id)).await?;
    let issued = sign(vault, &permit, plan, &new.key.key, (parent, &keys)).await?;
    let issuer = Issuer::from_certificate(&issued.der, urls(vault.settings.base_url.as_deref(), new.id))?;
    let crl = first_crl(&permit, &issuer, &new.key.key, 1).await?;
    let sealed = new.seal(&permit, &keys)?;
    permit.make_room(issued.not_after).await?;
    let mut tx = permit.begin().await?;
    lock_issuing(
        &mut tx,
        new.parent_ca_id.into_iter().chain(new.lineage.map(|lineage| lineage.replaces.as_str())),
    )
    .await?;
    new.insert(&mut tx, &sealed, Some(&issued)).await?;
    // A root is listed under itself, everything else under who signed it.
    let listed = new.parent_ca_id.unwrap_or(new.id);
    list_certificate(&mut tx, (new.id, Some(listed)), new.common_name, &issued).await?;
    insert_first_crl(&mut tx, new.id, (&crl, 1), new.lists).await?;
    finish(tx, vault, new.id).await
}

/// The certificate of a new CA. `keys` are those of the tenant, where they are open already.
async fn sign(
    vault: &Inner,
    permit: &Permit<'_>,
    plan: CaPlan,
    key: &CaKey,
    (parent, keys): (Option<&CaIssuer>, &Arc<TenantKeys>),
) -> Result<Issued> {
    check_key_first(permit, "key_ref", key.public_key_der()).await?;
    let Some(parent) = parent else {
        return issue_root(plan, new_serial(permit)?, key).await.map_err(unsigned);
    };
    let known = parent.tenant_keys(permit, Some(keys)).await?;
    let serial = parent.new_serial(permit, known.as_deref(), true)?;
    let open = async |key_id: &str| match keys.has(key_id) {
        true => Ok(Arc::clone(keys)),
        false => permit.keys_for(key_id).await,
    };
    let parent_key = parent.open_key((permit.tenant(), vault.door.roots()), open).await?;
    let issuer = parent.issuer_of(&serial)?;
    let issued = issue_intermediate(plan, serial, key.public_key_der(), &issuer, &parent_key).await;
    issued.map_err(unsigned)
}

/// The first list that is published here: of nothing.
pub(super) async fn first_crl(
    permit: &Permit<'_>,
    issuer: &Issuer,
    key: &CaKey,
    number: u64,
) -> Result<Vec<u8>> {
    let now = permit.ctx().now();
    let crl = build_crl(issuer, key, number, now, now + limits::CRL_VALIDITY, std::iter::empty()).await;
    crl.map_err(unsigned)
}

/// Puts the certificate of the CA `id` into the inventory, under the CA that lists it; under none if it was signed outside.
pub(super) async fn list_certificate(
    tx: &mut Write<'_>,
    (id, listed): (&str, Option<&str>),
    common_name: &str,
    issued: &Issued,
) -> Result<()> {
    let inventory = Inventory {
        id: &tx.new_id("cert_")?,
        ca_id: listed.unwrap_or(id),
        role: None,
        common_name: Some(common_name),
        alt_names: &[],
        ip_sans: &[],
        tags: None,
        source: "ca",
        key: None,
    };
    match listed {
        Some(_) => insert_certificate(tx, &inventory, issued).await?,
        None => insert_outside(tx, &inventory, issued).await?,
    }
    tx.execute(query(sql::SET_CERTIFICATE).bind(tx.tenant()).bind(id).bind(inventory.id)).await.map(drop)
}

/// Commits, and gives the CA as it is now.
pub(super) async fn finish(mut tx: Write<'_>, vault: &Inner, id: &str) -> Result<Outcome<Ca>> {
    let row: Option<CaRow> = tx.fetch_optional(store::ca(tx.tenant(), id)).await?;
    let ca = row.ok_or_else(|| Error::internal("a CA vanished"))?;
    let ca = ca.into_ca(vault.settings.base_url.as_deref())?;
    tx.commit(ca).await
}

fn name_taken() -> Error {
    Error::new(Code::NameConflict, "name: another CA of the tenant has this name")
}

pub(super) fn key_taken() -> Error {
    Error::field("certificate_pem", "another CA of the tenant has this key")
}

fn check_count(row: Option<(i64,)>) -> Result<()> {
    match row {
        Some((count,)) if count >= limits::CAS => {
            let message = format!("The tenant has {} CAs, which is as many as there may be.", limits::CAS);
            Err(Error::new(Code::InvalidState, message))
        }
        _ => Ok(()),
    }
}

/// Checks what the engine does not know of; gives the name in its one spelling, and the kind of key, unless that is for
/// a key to say which exists.
pub(super) fn check(write: &CaCreate) -> Result<(Name, Option<KeySpec>)> {
    let mut wrong = FieldErrors::default();
    let name = Name::parse_label(&write.name);
    if let Err(error) = &name {
        for reason in error.details().fields.values().flatten() {
            wrong.push("name", reason);
        }
    }
    match (write.ca_type, &write.parent_ca_id) {
        (CaType::Root, Some(_)) => wrong.push("parent_ca_id", "a root has no parent"),
        (CaType::Intermediate, None) if !write.external => {
            wrong.push("parent_ca_id", "an intermediate needs a parent, or external");
        }
        _ => {}
    }
    if write.external {
        super::adopt::check(write, &mut wrong);
    }
    let spec = match (&write.key_ref, write.key_type, write.key_size) {
        (Some(_), None, None) => None,
        (_, key_type, size) => {
            let spec = key_type.unwrap_or(KeyType::Rsa).spec(size);
            let field =
                if size.is_none() && key_type == Some(KeyType::Any) { "key_type" } else { "key_size" };
            spec.map_err(|message| wrong.push(field, message)).ok()
        }
    };
    if write.key_ref.is_some() && write.key_provider.is_none() {
        wrong.push("key_ref", "needs key_provider");
    }
    if write
        .key_ref
        .as_ref()
        .is_some_and(|key| !(1..=KEY_REF).contains(&key.len()) || key.contains(char::is_control))
    {
        wrong.push("key_ref", format!("must be 1 to {KEY_REF} bytes without control characters"));
    }
    wrong.finish()?;
    Ok((name?, spec))
}

/// Bytes of a reference to a key in a provider.
const KEY_REF: usize = 2048;

fn plan(write: &CaCreate, spec: KeySpec, parent: Option<&Issuer>, now: OffsetDateTime) -> Result<CaPlan> {
    let subject = write.subject();
    let plan = match parent {
        None => {
            CaPlan::root(subject, spec, write.validity_days.unwrap_or(ROOT_DAYS), write.max_path_length, now)
        }
        Some(parent) => {
            let days = write.validity_days.unwrap_or(INTERMEDIATE_DAYS);
            CaPlan::intermediate(subject, spec, days, write.max_path_length, parent, now)
        }
    };
    let names = write.name_constraints.as_ref().map(NameConstraints::engine);
    Ok(plan?.limited(names.as_ref(), &write.policies)?)
}

/// How long CAs live unless told otherwise.
pub(super) const ROOT_DAYS: u32 = 3650;
/// See [`ROOT_DAYS`].
pub(super) const INTERMEDIATE_DAYS: u32 = 1825;

pub(super) async fn insert_first_crl(
    tx: &mut Write<'_>,
    ca_id: &str,
    (crl, number): (&Vec<u8>, i64),
    lists: &Lists,
) -> Result<()> {
    let now = tx.ctx().now();
    let insert = query(sql::INSERT_CRL)
        .bind(tx.tenant())
        .bind(ca_id)
        .bind(number)
        .bind(crl)
        .bind(now)
        .bind(now + limits::CRL_VALIDITY)
        .bind(now + limits::CRL_EVERY);
    tx.execute(insert).await?;
    lists.insert(tx, ca_id).await
}

async fn list(
    vault: &Inner,
    permit: Permit<'_>,
    limit: Option<u32>,
    cursor: Option<String>,
) -> Result<Outcome<Page<Ca>>> {
    let keys = permit.keys().await?;
    let open = |cursor: String| wire::open_cursor::<String>(&keys, "cas", &(), &cursor);
    let after = cursor.map(open).transpose()?.unwrap_or_default();
    let wanted = wire::page_size(limit);
    let rows: Vec<CaRow> =
        permit.fetch_all_lagging(store::cas(permit.tenant(), &after, wanted as i64 + 1)).await?;
    let page = wire::cut(rows, wanted, (&keys, "cas", &()), |last| last.id.clone())?;
    let base_url = vault.settings.base_url.as_deref();
    permit.answer(page.try_map(|row| row.into_ca(base_url))?)
}

/// The issuer, if it still issues.
pub(super) async fn active_issuer(vault: &Inner, permit: &Permit<'_>, id: &str) -> Result<Arc<CaIssuer>> {
    let state = query(sql::CA_STATE).bind(permit.tenant()).bind(id);
    match permit.fetch_optional::<(bool, bool)>(state).await? {
        None => Err(not_found()),
        Some((_, true)) => Err(pending()),
        Some((false, _)) => Err(inactive()),
        Some((true, _)) => issuer(vault, permit, id).await,
    }
}

pub(super) async fn issuer(vault: &Inner, permit: &Permit<'_>, id: &str) -> Result<Arc<CaIssuer>> {
    let load = permit.fetch_all(issuer::chain(permit.tenant(), id));
    vault.issuers.get((permit.tenant(), id), vault.settings.base_url.as_deref(), load).await
}

/// Sees to it, in the transaction that lists what was signed, that these CAs issue until its end: the key may have taken
/// long, and whoever ends one of them waits, and finds what is made here.
pub(super) async fn lock_issuing<'i>(tx: &mut Write<'_>, cas: impl Iterator<Item = &'i str>) -> Result<()> {
    // In one order, so that nobody waits for each other.
    for id in cas.collect::<BTreeSet<_>>() {
        if tx.execute(query(sql::LOCK_ISSUING).bind(tx.tenant()).bind(id)).await? == 0 {
            return Err(inactive());
        }
    }
    Ok(())
}

pub(super) fn inactive() -> Error {
    Error::new(Code::InvalidState, "The CA no longer issues: it was revoked.")
}

/// A serial number of 128 bits, nearly all of them random, for who has no key to make others with.
pub(super) fn new_serial(permit: &Permit<'_>) -> Result<Serial> {
    let mut bytes = [0; 16];
    permit.random(&mut bytes)?;
    Ok(Serial::from_random(bytes))
}

/// A key pair. RSA keys take long to find: they are looked for where they hold nobody up.
pub(super) async fn generate_key(spec: KeySpec) -> Result<(SoftwareKey, Secret)> {
    let generated = match spec {
        KeySpec::EcP256 | KeySpec::EcP384 | KeySpec::Ed25519 => SoftwareKey::generate(spec),
        _ => {
            let task = tokio::task::spawn_blocking(move || SoftwareKey::generate(spec));
            task.await.map_err(Error::internal)?
        }
    };
    Ok(generated?)
}

/// What was issued, as the audit trail and events name it.
pub(super) fn told(issued: &Issued, ca_id: &str, id: &str, common_name: Option<&str>) -> serde_json::Value {
    serde_json::json!({
        "certificate_id": id,
        "ca_id": ca_id,
        "common_name": common_name,
        "serial_number": issued.serial.to_string(),
        "not_after": wire::rfc3339(issued.not_after),
    })
}
