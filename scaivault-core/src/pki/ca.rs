use aws_lc_rs::digest::{SHA256, digest};
use scaivault_kms::{KeySpec, Secret, SigningKey as _, local::SoftwareKey};
use scaivault_pki::{CaPlan, Issued, Issuer, Serial, build_crl, issue_intermediate, issue_root, pem};
use time::OffsetDateTime;

use super::{
    Pki,
    certificate::{Inventory, insert_certificate},
    issuer::{self, CaIssuer, key_slot, not_found, urls},
    key::{CaKey, Place, Wanted, unsigned},
    numbering::{Lists, Numbering},
    store::{self, CaRow, ChainRow, sql},
    types::{Ca, CaCertificate, CaCreate, CaType, KeyType},
};
use crate::{
    Code, Error, FieldErrors, Name, Result, Scope,
    audit::Action,
    identity::Role,
    limits,
    pipeline::{Act, Outcome, Permit},
    storage::{Arg, query},
    vault::Inner,
    wire::{self, Page},
};

impl<'a> Pki<'a> {
    /// Makes a CA: a key, sealed like a secret or inside of a key provider, a certificate, and an empty revocation list.
    /// Needs `pki:admin`; a key that exists already in a provider needs the role `super_admin` as well.
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
    /// [`Code::CaNotFound`].
    pub async fn ca_certificate(&self, id: &str) -> Result<CaCertificate> {
        let act = Act::object(Action::PkiCaRead, &[], "pki_ca", Some(id));
        let work = |permit: Permit<'a>| async move {
            let rows: Vec<ChainRow> = permit.fetch_all(issuer::chain(permit.tenant(), id)).await?;
            let mut chain = rows.iter().map(|row| pem::encode("CERTIFICATE", &row.certificate));
            let certificate_pem = chain.next().ok_or_else(not_found)?;
            let chain_pem = chain.collect();
            permit.answer(CaCertificate { certificate_pem, chain_pem })
        };
        self.vault.door.perform(self.ctx, act, work).await
    }
}

async fn create(vault: &Inner, permit: Permit<'_>, write: &CaCreate) -> Result<Outcome<Ca>> {
    let (name, spec) = check(write)?;
    if write.key_ref.is_some() && !permit.ctx().caller().has_role(Role::SuperAdmin) {
        return Err(Error::new(Code::AccessDenied, "key_ref: keys that exist are for super administrators."));
    }
    let wanted = Wanted::find(vault.door.roots(), write, spec).await?;
    let parent = match &write.parent_ca_id {
        Some(parent) => Some(active_issuer(vault, &permit, parent).await?),
        None => None,
    };
    let plan = plan(write, wanted.spec(), parent.as_ref().map(|p| &p.issuer), permit.ctx().now())?;
    // Seen again in the transaction; here, before a provider is asked for a key that nobody can take away from it.
    let named = query(sql::CA_NAMED).bind(permit.tenant()).bind(name.key());
    if permit.fetch_optional::<(String,)>(named).await?.is_some() {
        return Err(name_taken());
    }
    check_count(permit.fetch_optional(query(sql::COUNT_CAS).bind(permit.tenant())).await?)?;
    let id = permit.new_id(&format!("ca_{}_", write.ca_type.as_str()))?;
    let lists = Lists::of(write, vault.settings.base_url.as_deref(), &id)?;
    let made = matches!(wanted, Wanted::Made { .. });
    let key = wanted.make(permit.tenant(), &id, permit.source()).await?;
    let (new, at) = (New { id: &id, name: &name, write, plan, lists, key: &key.key }, &key.at);
    let done = certify(vault, permit, new, at, parent.as_deref()).await;
    if let (Err(error), Place::Provider { name, key_ref }, true) = (&done, at, made) {
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

/// A CA that is about to be made.
struct New<'n> {
    id: &'n str,
    name: &'n Name,
    write: &'n CaCreate,
    plan: CaPlan,
    lists: Lists,
    key: &'n CaKey,
}

/// Its certificate, its first revocation list, and its row.
async fn certify(
    vault: &Inner,
    permit: Permit<'_>,
    New { id, name, write, plan, lists, key }: New<'_>,
    at: &Place,
    parent: Option<&CaIssuer>,
) -> Result<Outcome<Ca>> {
    let now = permit.ctx().now();
    let keys = permit.keys_to_seal(parent.and_then(CaIssuer::key_id)).await?;
    let issued = match parent {
        None => issue_root(plan, new_serial(&permit)?, key).await,
        Some(parent) => {
            let known = parent.tenant_keys(&permit, Some(&keys)).await?;
            let serial = parent.new_serial(&permit, known.as_deref(), true)?;
            let open = async |key_id: &str| match keys.has(key_id) {
                true => Ok(keys.clone()),
                false => permit.keys_for(key_id).await,
            };
            let parent_key = parent.open_key((permit.tenant(), vault.door.roots()), open).await?;
            let issuer = parent.issuer_of(&serial)?;
            issue_intermediate(plan, serial, key.public_key_der(), &issuer, &parent_key).await
        }
    };
    let issued = issued.map_err(unsigned)?;
    let base_url = vault.settings.base_url.as_deref();
    let issuer = Issuer::from_certificate(&issued.der, urls(base_url, id))?;
    let crl = build_crl(&issuer, key, 1, now, now + limits::CRL_VALIDITY, std::iter::empty()).await;
    let crl = crl.map_err(unsigned)?;
    let sealed = match at {
        Place::Here(pkcs8) => Some(keys.seal(&key_slot(permit.tenant(), &[id]), pkcs8.expose())?),
        Place::Provider { .. } => None,
    };
    let numbering = Numbering::new(&permit, &keys, id, lists)?;
    let provided = match at {
        Place::Provider { name, key_ref } => Some((name.as_str(), key_ref.as_str())),
        Place::Here(_) => None,
    };
    let fingerprint = provided.map(|_| digest(&SHA256, key.public_key_der()));

    permit.make_room(issued.not_after).await?;
    let mut tx = permit.begin().await?;
    check_count(tx.fetch_optional(query(sql::COUNT_CAS).bind(tx.tenant())).await?)?;
    let insert = query(sql::INSERT_CA)
        .bind(tx.tenant())
        .bind(id)
        .bind(name.as_str())
        .bind(name.key())
        .bind(&write.common_name)
        .bind(write.ca_type.as_str())
        .bind(write.parent_ca_id.as_deref())
        .bind(key.spec().as_str())
        .bind(&issued.der)
        .bind(issued.serial.as_bytes())
        .bind(Arg::Bytes(sealed.as_ref().map(|sealed| sealed.ciphertext.as_slice())))
        .bind(Arg::Bytes(sealed.as_ref().map(|sealed| sealed.wrapped_key.as_slice())))
        .bind(sealed.as_ref().map(|sealed| sealed.key_id.as_str()))
        .bind(provided.map(|(provider, _)| provider))
        .bind(provided.map(|(_, key_ref)| key_ref))
        .bind(Arg::Bytes(fingerprint.as_ref().map(|hash| hash.as_ref())))
        .bind(issued.not_before)
        .bind(issued.not_after)
        .bind(now);
    if tx.execute(insert).await? == 0 {
        let named = query(sql::CA_NAMED).bind(tx.tenant()).bind(name.key());
        return Err(match tx.fetch_optional::<(String,)>(named).await? {
            Some(_) => name_taken(),
            None => Error::field("key_ref", "another CA has this key"),
        });
    }
    numbering.insert(&mut tx, id).await?;
    let inventory = Inventory {
        id: &tx.new_id("cert_")?,
        // A root is listed under itself, everything else under who signed it.
        ca_id: write.parent_ca_id.as_deref().unwrap_or(id),
        role: None,
        common_name: Some(&write.common_name),
        alt_names: &[],
        ip_sans: &[],
        source: "ca",
        key: None,
    };
    insert_certificate(&mut tx, &inventory, &issued).await?;
    insert_first_crl(&mut tx, id, &crl, now).await?;
    numbering.insert_lists(&mut tx, id).await?;
    let row: Option<CaRow> = tx.fetch_optional(store::ca(tx.tenant(), id)).await?;
    let ca = row.ok_or_else(|| Error::internal("a CA vanished"))?.into_ca(base_url)?;
    tx.resource(id);
    tx.note("name", name.as_str());
    tx.note("ca_type", write.ca_type.as_str());
    if let Some((provider, key_ref)) = provided {
        tx.note("key_provider", provider);
        tx.note("key_ref", key_ref);
    }
    tx.commit(ca).await
}

fn name_taken() -> Error {
    Error::new(Code::NameConflict, "name: another CA of the tenant has this name")
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
fn check(write: &CaCreate) -> Result<(Name, Option<KeySpec>)> {
    let mut wrong = FieldErrors::default();
    let name = Name::parse_label(&write.name);
    if let Err(error) = &name {
        for reason in error.details().fields.values().flatten() {
            wrong.push("name", reason);
        }
    }
    match (write.ca_type, &write.parent_ca_id) {
        (CaType::Root, Some(_)) => wrong.push("parent_ca_id", "a root has no parent"),
        (CaType::Intermediate, None) => wrong.push("parent_ca_id", "an intermediate needs a parent"),
        _ => {}
    }
    let spec = match (&write.key_ref, write.key_type, write.key_size) {
        (Some(_), None, None) => None,
        (_, key_type, size) => {
            let spec = key_type.unwrap_or(KeyType::Rsa).spec(size);
            let field = if matches!(key_type, None | Some(KeyType::Rsa | KeyType::Ec)) {
                "key_size"
            } else {
                "key_type"
            };
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
    Ok(plan?)
}

/// How long CAs live unless told otherwise.
const ROOT_DAYS: u32 = 3650;
/// See [`ROOT_DAYS`].
const INTERMEDIATE_DAYS: u32 = 1825;

async fn insert_first_crl(
    tx: &mut crate::pipeline::Write<'_>,
    ca_id: &str,
    crl: &Vec<u8>,
    now: OffsetDateTime,
) -> Result<()> {
    let insert = query(sql::INSERT_CRL)
        .bind(tx.tenant())
        .bind(ca_id)
        .bind(1)
        .bind(crl)
        .bind(now)
        .bind(now + limits::CRL_VALIDITY)
        .bind(now + limits::CRL_EVERY);
    tx.execute(insert).await.map(drop)
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
pub(super) async fn active_issuer(
    vault: &Inner,
    permit: &Permit<'_>,
    id: &str,
) -> Result<std::sync::Arc<CaIssuer>> {
    let state = query(sql::CA_STATE).bind(permit.tenant()).bind(id);
    match permit.fetch_optional::<(bool,)>(state).await? {
        None => Err(not_found()),
        Some((false,)) => Err(inactive()),
        Some((true,)) => issuer(vault, permit, id).await,
    }
}

pub(super) async fn issuer(vault: &Inner, permit: &Permit<'_>, id: &str) -> Result<std::sync::Arc<CaIssuer>> {
    let load = permit.fetch_all(issuer::chain(permit.tenant(), id));
    vault.issuers.get((permit.tenant(), id), vault.settings.base_url.as_deref(), load).await
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
        KeySpec::EcP256 | KeySpec::EcP384 => SoftwareKey::generate(spec),
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
