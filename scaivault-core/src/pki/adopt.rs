//! CAs that others have a part in: those whose certificate is signed outside, and those that were made elsewhere.

use std::sync::Arc;

use scaivault_kms::{SigningKey as _, local::SoftwareKey};
use scaivault_pki::{
    Adopted, Certificate, Csr, Issuer, IssuerUrls, adopt, pem, private_key, request_ca, request_ca_named,
};

use super::{
    Pki,
    ca::{
        NewCa, check_free, check_key_ref, finish, first_crl, insert_first_crl, key_taken, list_certificate,
        lock_issuing,
    },
    certificate::check_key_first,
    issuer::{self, CaIssuer, not_found, urls},
    key::{CaKey, NewKey, Place, Wanted, unsigned},
    numbering::Lists,
    past::{Past, check_end},
    store::{self, CaRow, ChainRow, sql},
    types::{Ca, CaCreate, CaCsr, CaImport, CaInstall, CaType, PrivateKeyPem},
};
use crate::{
    Code, Error, FieldErrors, Name, Result, Scope,
    audit::Action,
    pipeline::{Act, Outcome, Permit},
    storage::query,
    vault::Inner,
};

impl<'a> Pki<'a> {
    /// The request of a CA whose certificate is signed outside. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CaNotFound`].
    pub async fn ca_csr(&self, id: &str) -> Result<CaCsr> {
        let act = Act::object(Action::PkiCaRead, &[Scope::PkiAdmin], "pki_ca", Some(id));
        let work = |permit: Permit<'a>| async move {
            let row = permit.fetch_optional(query(sql::CA_CSR).bind(permit.tenant()).bind(id)).await?;
            let (csr,): (Option<Vec<u8>>,) = row.ok_or_else(not_found)?;
            permit.answer(CaCsr { csr_pem: csr.map(|der| pem::encode("CERTIFICATE REQUEST", &der)) })
        };
        self.vault.door.perform(self.ctx, act, work).await
    }

    /// Gives a CA that waits for it its certificate, which somebody outside has signed; then it issues, within what the
    /// certificate and those above it allow. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CaNotFound`]; [`Code::InvalidState`] if the CA does not wait; [`Code::ValidationError`] naming
    /// `certificate_pem` if that is not a certificate for its key, of a CA that may sign certificates and revocation lists,
    /// and valid now, or is for another name than the CA whose place it takes, or `chain_pem` if those are not the
    /// certificates above it.
    pub async fn install_ca(&self, id: &str, write: CaInstall) -> Result<Ca> {
        let act = Act::object(Action::PkiCaInstall, &[Scope::PkiAdmin], "pki_ca", Some(id));
        let vault = self.vault;
        vault
            .door
            .perform(self.ctx, act, |permit| async move { install(vault, permit, id, &write).await })
            .await
    }

    /// Gives up a CA that waits for its certificate: its key is destroyed, its name is free again. A key inside of a
    /// provider stays there, and the record names it. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CaNotFound`]; [`Code::InvalidState`] for a CA that has a certificate.
    pub async fn delete_ca(&self, id: &str) -> Result<()> {
        let act = Act::object(Action::PkiCaDelete, &[Scope::PkiAdmin], "pki_ca", Some(id));
        self.vault.door.perform(self.ctx, act, |permit| async move { give_up(permit, id).await }).await
    }

    /// Takes over a CA that was made elsewhere: its certificate, and its key, which is sealed at once, or which a key
    /// provider has already. What it revoked before is on its lists here if its last list comes with it; what it issued before
    /// is not known until it is [registered](Self::register_certificates). Needs `pki:admin`; a key in a provider needs the
    /// role `super_admin` as well.
    ///
    /// # Errors
    /// [`Code::ValidationError`] naming every field; as [`install_ca`](Self::install_ca) for the certificates;
    /// [`Code::NameConflict`]; [`Code::AccessDenied`] for a `key_ref` of others.
    pub async fn import_ca(&self, write: CaImport) -> Result<Ca> {
        let act = Act::object(Action::PkiCaImport, &[Scope::PkiAdmin], "pki_ca", None);
        let vault = self.vault;
        vault.door.perform(self.ctx, act, |permit| async move { import(vault, permit, &write).await }).await
    }
}

/// What may not be said of a CA whose certificate is signed outside.
pub(super) fn check(write: &CaCreate, wrong: &mut FieldErrors) {
    if write.ca_type == CaType::Root {
        wrong.push("external", "a root signs itself");
    }
    if write.parent_ca_id.is_some() && write.ca_type == CaType::Intermediate {
        wrong.push("parent_ca_id", "must be absent with external");
    }
    for (field, given) in [
        ("validity_days", write.validity_days.is_some()),
        ("name_constraints", write.name_constraints.is_some()),
        ("policies", !write.policies.is_empty()),
    ] {
        if given {
            wrong.push(field, "is for the signer to say where the certificate is signed outside");
        }
    }
}

/// A request for the certificate of a key, for that name in DER, or for the one that was asked for.
pub(super) async fn request(
    vault: &Inner,
    permit: Permit<'_>,
    new: &NewCa<'_>,
    (write, subject): (&CaCreate, Option<&[u8]>),
) -> Result<Outcome<Ca>> {
    let key = &new.key.key;
    check_key_first(&permit, "key_ref", key.public_key_der()).await?;
    let csr = match subject {
        Some(name) => request_ca_named(name, write.max_path_length, key).await,
        None => request_ca(&write.subject(), write.max_path_length, key).await,
    };
    let csr = csr.map_err(unsigned)?;
    let keys = permit.keys_to_seal(None).await?;
    let sealed = new.seal(&permit, &keys)?;
    let mut tx = permit.begin().await?;
    lock_issuing(&mut tx, new.lineage.map(|lineage| lineage.replaces.as_str()).into_iter()).await?;
    new.insert(&mut tx, &sealed, None).await?;
    tx.execute(query(sql::SET_PENDING).bind(tx.tenant()).bind(new.id).bind(&csr)).await?;
    tx.note("external", true);
    finish(tx, vault, new.id).await
}

async fn install(vault: &Inner, permit: Permit<'_>, id: &str, write: &CaInstall) -> Result<Outcome<Ca>> {
    let rows: Vec<ChainRow> = permit.fetch_all(issuer::chain(permit.tenant(), id)).await?;
    let row = rows.first().ok_or_else(not_found)?;
    let csr = query(sql::CA_CSR).bind(permit.tenant()).bind(id);
    let csr: Option<(Option<Vec<u8>>,)> = permit.fetch_optional(csr).await?;
    let (Some((Some(csr),)), true) = (csr, row.pending) else { return Err(installed()) };
    let csr = Csr::parse(&csr)?;
    let urls = urls(vault.settings.base_url.as_deref(), id);
    let read = Read::certificates(&write.certificate_pem, &write.chain_pem)?;
    let now = permit.ctx().now();
    let adopted = adopt(&read.own, &read.above, csr.public_key_spki(), urls, now)?;
    if adopted.is_root {
        return Err(Error::field("certificate_pem", "signed itself; it is to be signed by another CA"));
    }
    let replaced = query(sql::REPLACED).bind(permit.tenant()).bind(id);
    if let Some((before,)) = permit.fetch_optional::<(Vec<u8>,)>(replaced).await?
        && !Certificate::from_der(&read.own)?.has_name_of(&Certificate::from_der(&before)?)
    {
        let message = "is for another name than that of the CA whose place it takes";
        return Err(Error::field("certificate_pem", message));
    }
    check_key_first(&permit, "certificate_pem", csr.public_key_spki()).await?;
    let ca = CaIssuer::adopted(id, &adopted, row)?;
    let open = async |key_id: &str| permit.keys_for(key_id).await;
    let key = ca.open_key((permit.tenant(), vault.door.roots()), open).await?;
    let crl = first_crl(&permit, &adopted.issuer, &key, 1).await?;
    check_end(adopted.issued.not_after)?;
    permit.make_room(adopted.issued.not_after).await?;
    let mut tx = permit.begin().await?;
    let install = query(sql::INSTALL)
        .bind(tx.tenant())
        .bind(id)
        .bind(&adopted.common_name)
        .bind(&adopted.issued.der)
        .bind(adopted.issued.serial.as_bytes())
        .bind(above_pem(&adopted))
        .bind(adopted.issued.not_before)
        .bind(adopted.issued.not_after);
    if tx.execute(install).await? == 0 {
        return Err(installed());
    }
    list_certificate(&mut tx, (id, None), &adopted.common_name, &adopted.issued).await?;
    let lists = ca.numbering.as_ref().map(|numbering| numbering.lists.clone()).unwrap_or_default();
    insert_first_crl(&mut tx, id, (&crl, 1), &lists).await?;
    tx.note("serial_number", adopted.issued.serial.to_string());
    finish(tx, vault, id).await
}

fn installed() -> Error {
    Error::new(Code::InvalidState, "The CA does not wait for a certificate.")
}

async fn give_up(permit: Permit<'_>, id: &str) -> Result<Outcome<()>> {
    let mut tx = permit.begin().await?;
    if tx.execute(query(sql::LOCK_PENDING).bind(tx.tenant()).bind(id)).await? == 0 {
        let state = query(sql::CA_STATE).bind(tx.tenant()).bind(id);
        return Err(match tx.fetch_optional::<(bool, bool)>(state).await? {
            None => not_found(),
            Some(_) => {
                let message =
                    "The CA has a certificate: what was issued is answered for. Revoke it to end it.";
                Error::new(Code::InvalidState, message)
            }
        });
    }
    let row: Option<CaRow> = tx.fetch_optional(store::ca(tx.tenant(), id)).await?;
    let row = row.ok_or_else(not_found)?;
    tx.note("name", row.name);
    if let (Some(provider), Some(key_ref)) = (row.key_provider, row.key_ref) {
        tx.note("key_provider", provider);
        tx.note("key_ref", key_ref);
    }
    tx.execute(query(sql::DELETE_NUMBERING).bind(tx.tenant()).bind(id)).await?;
    tx.execute(query(sql::DELETE_CA).bind(tx.tenant()).bind(id)).await?;
    tx.commit(()).await
}

/// The certificates of a request, in DER.
struct Read {
    own: Vec<u8>,
    above: Vec<Vec<u8>>,
}

impl Read {
    fn certificates(own: &str, above: &[String]) -> Result<Self> {
        let mut found = pem::parse_certificates(own)?;
        let (Some(own), true) = (found.pop(), found.is_empty()) else {
            return Err(Error::field(
                "certificate_pem",
                "must be one certificate; those above it go to chain_pem",
            ));
        };
        let mut all = Vec::new();
        for (i, text) in above.iter().enumerate() {
            let field = format!("chain_pem[{i}]");
            let read = pem::parse_certificates(text);
            all.extend(read.map_err(|_| Error::field(field, "must be a certificate in PEM"))?);
        }
        Ok(Self { own, above: all })
    }
}

fn above_pem(adopted: &Adopted) -> String {
    adopted.above.iter().map(|der| pem::encode("CERTIFICATE", der)).collect()
}

async fn import(vault: &Inner, permit: Permit<'_>, write: &CaImport) -> Result<Outcome<Ca>> {
    let name = check_import(write)?;
    check_key_ref(&permit, write.key_ref.as_deref())?;
    let read = Read::certificates(&write.certificate_pem, &write.chain_pem)?;
    let asked = CaCreate {
        key_provider: write.key_provider.clone(),
        key_ref: write.key_ref.clone(),
        crl_shards: write.crl_shards,
        delta_crls: write.delta_crls,
        keep_expired_on_crl: write.keep_expired_on_crl,
        ..CaCreate::new("", "", CaType::Root)
    };
    let key = match &write.private_key_pem {
        Some(text) => open_key(text, &read.own)?,
        None => provided_key(vault, &permit, &asked).await?,
    };
    check_free(&permit, &name).await?;
    let judge =
        |urls: IssuerUrls| adopt(&read.own, &read.above, key.key.public_key_der(), urls, permit.ctx().now());
    let ca_type = if judge(IssuerUrls::default())?.is_root { CaType::Root } else { CaType::Intermediate };
    let id = permit.new_id(&format!("ca_{}_", ca_type.as_str()))?;
    let adopted = judge(urls(vault.settings.base_url.as_deref(), &id))?;
    check_key_first(&permit, "certificate_pem", key.key.public_key_der()).await?;
    let common_name = adopted.common_name.as_str();
    let lists = Lists::of(&asked, vault.settings.base_url.as_deref(), &id)?;
    let new = NewCa {
        id: &id,
        name: &name,
        common_name,
        ca_type,
        parent_ca_id: None,
        key: &key,
        lists: &lists,
        lineage: None,
    };
    let past = Past::read(write, &read.own, permit.ctx().now())?;
    let (crl, number) = (past.first_crl(permit.ctx().now(), &adopted.issuer, &key.key).await?, past.number());
    let keys = permit.keys_to_seal(None).await?;
    let sealed = new.seal(&permit, &keys)?;
    check_end(adopted.issued.not_after)?;
    permit.make_room(adopted.issued.not_after).await?;
    let mut tx = permit.begin().await?;
    let same = query(sql::CA_WITH_KEY).bind(tx.tenant()).bind(adopted.issued.key_sha256.as_slice());
    if tx.fetch_optional::<(String,)>(same).await?.is_some() {
        return Err(key_taken());
    }
    new.insert(&mut tx, &sealed, Some(&adopted.issued)).await?;
    tx.execute(query(sql::SET_ABOVE).bind(tx.tenant()).bind(&id).bind(above_pem(&adopted))).await?;
    let listed = adopted.is_root.then_some(id.as_str());
    list_certificate(&mut tx, (&id, listed), common_name, &adopted.issued).await?;
    past.insert(&mut tx, &id, adopted.issued.not_after).await?;
    insert_first_crl(&mut tx, &id, (&crl, number), &lists).await?;
    tx.note("serial_number", adopted.issued.serial.to_string());
    tx.note("crl_number", number);
    finish(tx, vault, &id).await
}

fn check_import(write: &CaImport) -> Result<Name> {
    let mut wrong = FieldErrors::default();
    let name = Name::parse_label(&write.name);
    if let Err(error) = &name {
        for reason in error.details().fields.values().flatten() {
            wrong.push("name", reason);
        }
    }
    match (&write.private_key_pem, &write.key_provider, &write.key_ref) {
        (Some(_), None, None) | (None, Some(_), Some(_)) => {}
        (Some(_), ..) => wrong.push("private_key_pem", "must be absent where a key provider has the key"),
        (None, Some(_), None) => wrong.push("key_ref", "is required with key_provider"),
        (None, None, Some(_)) => wrong.push("key_ref", "needs key_provider"),
        (None, None, None) => wrong.push("private_key_pem", "is required, or key_provider and key_ref"),
    }
    wrong.finish()?;
    name
}

/// The key out of its text, for the kind that its certificate is of.
fn open_key(text: &PrivateKeyPem, certificate: &[u8]) -> Result<NewKey> {
    let spec = Issuer::from_certificate(certificate, IssuerUrls::default());
    let spec = spec.map_err(|error| Error::field("certificate_pem", reason(error)))?.spec();
    let certificate = Certificate::from_der(certificate)?;
    let pkcs8 = private_key(text.expose(), certificate.public_key_spki())?;
    let key = SoftwareKey::from_pkcs8(spec, &pkcs8);
    let unfit =
        |_| Error::field("private_key_pem", "is no private key of the kind that the certificate is for");
    Ok(NewKey { key: CaKey::Software(Arc::new(key.map_err(unfit)?)), at: Place::Here(pkcs8) })
}

fn reason(error: scaivault_pki::PkiError) -> String {
    match error {
        scaivault_pki::PkiError::Invalid { message, .. } => message,
        other => other.to_string(),
    }
}

async fn provided_key(vault: &Inner, permit: &Permit<'_>, asked: &CaCreate) -> Result<NewKey> {
    let wanted = Wanted::find(vault.door.roots(), asked, None).await?;
    wanted.make(permit.tenant(), "", permit.source()).await
}
