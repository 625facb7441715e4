//! More than one certificate for a CA's name: cross certificates, and new keys.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use scaivault_pki::{CaPlan, Certificate, Csr, PkiError, issue_intermediate, pem};

use super::{
    Pki,
    ca::{
        INTERMEDIATE_DAYS, Lineage, Paper, ROOT_DAYS, active_issuer, check, check_key_ref, finish,
        lock_issuing, make, told,
    },
    certificate::{Inventory, check_issuing, check_key_first, insert_certificate},
    issuer::{self as issuers, CaIssuer, not_found},
    key::{Wanted, unsigned},
    store::{ChainRow, RoleRow, sql},
    types::{Ca, CaCreate, CaCrossSign, CaRekey, CaType, CrossCertificate, NameConstraints, family},
};
use crate::{
    Error, Result, Scope,
    audit::Action,
    events::EventType,
    pipeline::{Act, Outcome, Permit},
    storage::{json, query},
    vault::Inner,
};

impl Pki<'_> {
    /// Certifies the name and the key of another CA: what that one issues can be verified up to this one as well. Needs
    /// `pki:admin`. The certificate is in the inventory of this CA, which revokes it by its serial number.
    ///
    /// # Errors
    /// [`Code::CaNotFound`](crate::Code::CaNotFound) for either;
    /// [`Code::InvalidState`](crate::Code::InvalidState) if one of them does not issue;
    /// [`Code::ValidationError`](crate::Code::ValidationError) naming every field, also for what the constraints of this CA
    /// forbid.
    pub async fn cross_sign(&self, id: &str, write: CaCrossSign) -> Result<CrossCertificate> {
        let act = Act::object(Action::PkiCaCrossSign, &[Scope::PkiAdmin], "pki_ca", Some(id));
        let vault = self.vault;
        vault
            .door
            .perform(self.ctx, act, |permit| async move { cross(vault, permit, id, &write).await })
            .await
    }

    /// Makes a CA with the name, parent and constraints of another and a new key. Both are alive: the one before goes on
    /// signing its revocation lists and OCSP answers, and issues for its roles until
    /// [`make_default`](Self::make_default) takes them over. One that was signed outside is followed by a pending CA with a
    /// request for the same name. Needs `pki:admin`; an existing key the role `super_admin` as well.
    ///
    /// # Errors
    /// As [`create_ca`](Self::create_ca); [`Code::ValidationError`](crate::Code::ValidationError) naming `validity_days` where
    /// the certificate is signed outside.
    pub async fn rekey_ca(&self, id: &str, write: CaRekey) -> Result<Ca> {
        let act = Act::object(Action::PkiCaRekey, &[Scope::PkiAdmin], "pki_ca", Some(id));
        let vault = self.vault;
        vault
            .door
            .perform(self.ctx, act, |permit| async move { rekey(vault, permit, id, &write).await })
            .await
    }

    /// Has every role that issues from a CA of the same family, with a key before or after, issue from this one from now
    /// on. Approvals of requests under those roles are void. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CaNotFound`](crate::Code::CaNotFound);
    /// [`Code::InvalidState`](crate::Code::InvalidState) if the CA does not issue.
    pub async fn make_default(&self, id: &str) -> Result<Ca> {
        let act = Act::object(Action::PkiCaDefault, &[Scope::PkiAdmin], "pki_ca", Some(id));
        let vault = self.vault;
        vault.door.perform(self.ctx, act, |permit| async move { make_default(vault, permit, id).await }).await
    }
}

/// The name and the key that are certified, and what is said of them unless asked otherwise.
struct Subject {
    name: Vec<u8>,
    public_key: Vec<u8>,
    spec: scaivault_kms::KeySpec,
    common_name: Option<String>,
    max_path_length: Option<u32>,
    name_constraints: Option<scaivault_pki::NameConstraints>,
    policies: Vec<String>,
}

impl Subject {
    async fn find(vault: &Inner, permit: &Permit<'_>, write: &CaCrossSign) -> Result<Self> {
        match (&write.ca_id, &write.csr_pem) {
            (Some(ca_id), None) => {
                let ca = active_issuer(vault, permit, ca_id).await?;
                let lineage = query(sql::LINEAGE).bind(permit.tenant()).bind(ca_id);
                let row: Option<LineageRow> = permit.fetch_optional(lineage).await?;
                Self::of_ca(&ca, row.map(|row| row.common_name))
            }
            (None, Some(csr)) => Self::of_csr(csr),
            (None, None) => Err(Error::field("ca_id", "is required, or csr_pem")),
            (Some(_), Some(_)) => Err(Error::field("csr_pem", "must be absent where ca_id is given")),
        }
    }

    fn of_ca(ca: &CaIssuer, common_name: Option<String>) -> Result<Self> {
        let certificate = Certificate::from_der(ca.issuer.certificate_der())?;
        Ok(Self {
            name: ca.issuer.name_der().to_vec(),
            public_key: certificate.public_key_spki().to_vec(),
            spec: ca.spec,
            common_name,
            max_path_length: ca.issuer.max_path_length(),
            name_constraints: ca.issuer.name_constraints()?,
            policies: ca.issuer.policies()?,
        })
    }

    fn of_csr(text: &str) -> Result<Self> {
        let csr = Csr::parse(text.as_bytes())?;
        let kind = csr.key_kind();
        let unfit =
            || Error::field("csr_pem", format!("has a key of kind {kind}, which no CA here certifies"));
        Ok(Self {
            name: csr.subject_der()?,
            public_key: csr.public_key_spki().to_vec(),
            spec: kind.spec().ok_or_else(unfit)?,
            common_name: csr.common_name().map(str::to_owned),
            max_path_length: None,
            name_constraints: None,
            policies: Vec::new(),
        })
    }
}

async fn cross(
    vault: &Inner,
    permit: Permit<'_>,
    id: &str,
    write: &CaCrossSign,
) -> Result<Outcome<CrossCertificate>> {
    let ca = active_issuer(vault, &permit, id).await?;
    let subject = Subject::find(vault, &permit, write).await?;
    let field = if write.ca_id.is_some() { "ca_id" } else { "csr_pem" };
    check_key_first(&permit, field, &subject.public_key).await?;
    let own_length = subject.max_path_length.map(|length| u8::try_from(length).unwrap_or(u8::MAX));
    let days = write.validity_days.unwrap_or(INTERMEDIATE_DAYS);
    let length = write.max_path_length.or(own_length);
    let names = write.name_constraints.as_ref().map(NameConstraints::engine).or(subject.name_constraints);
    let policies = write.policies.as_ref().unwrap_or(&subject.policies);
    let plan =
        CaPlan::named(&subject.name, subject.spec, days, length, Some(&ca.issuer), permit.ctx().now())?;
    let plan = plan.limited(names.as_ref(), policies)?;
    let keys = ca.tenant_keys(&permit, None).await?;
    let (certificate_id, serial) = (permit.new_id("cert_")?, ca.new_serial(&permit, keys.as_deref(), true)?);
    let open = async |key_id: &str| match &keys {
        Some(keys) if keys.has(key_id) => Ok(Arc::clone(keys)),
        _ => permit.keys_for(key_id).await,
    };
    let issuer = ca.issuer_of(&serial)?;
    let key = ca.open_key((permit.tenant(), vault.door.roots()), open).await?;
    let issued = issue_intermediate(plan, serial, &subject.public_key, &issuer, &key).await;
    let issued = issued.map_err(|error| match error {
        PkiError::Invalid { field: "subject_key_spki", message } => Error::field(field, message),
        other => unsigned(other),
    })?;
    permit.make_room(issued.not_after).await?;
    let mut tx = permit.begin().await?;
    lock_issuing(&mut tx, std::iter::once(id).chain(write.ca_id.as_deref())).await?;
    let inventory = Inventory {
        id: &certificate_id,
        ca_id: id,
        role: None,
        common_name: subject.common_name.as_deref(),
        alt_names: &[],
        ip_sans: &[],
        tags: None,
        source: "cross",
        key: None,
    };
    insert_certificate(&mut tx, &inventory, &issued).await?;
    let about = told(&issued, id, &certificate_id, subject.common_name.as_deref());
    tx.event(EventType::CertificateIssued, None, about)?;
    tx.note("serial_number", issued.serial.to_string());
    tx.note("certificate_id", certificate_id.clone());
    tx.note("subject_ca_id", serde_json::json!(write.ca_id));
    let (certificate_pem, chain_pem) = (issued.pem(), ca.chain.concat());
    tx.commit(CrossCertificate { id: certificate_id, ca_id: id.to_owned(), certificate_pem, chain_pem }).await
}

/// The cross certificates for the key of the certificate `own`, in DER.
pub(super) async fn cross_certificates(permit: &Permit<'_>, own: &[u8]) -> Result<Vec<CrossCertificate>> {
    let own = Certificate::from_der(own)?;
    let hash = digest(&SHA256, own.public_key_spki());
    let cross = query(sql::CROSS).bind(permit.tenant()).bind(hash.as_ref());
    let rows: Vec<(String, String, Vec<u8>)> = permit.fetch_all(cross).await?;
    let mut all = Vec::new();
    for (id, ca_id, der) in rows {
        let above: Vec<ChainRow> = permit.fetch_all(issuers::chain(permit.tenant(), &ca_id)).await?;
        let above = issuers::certificates(&above)?;
        all.push(CrossCertificate {
            id,
            ca_id,
            certificate_pem: pem::encode("CERTIFICATE", &der),
            chain_pem: above.iter().map(|der| pem::encode("CERTIFICATE", der)).collect(),
        });
    }
    Ok(all)
}

#[derive(Debug, sqlx::FromRow)]
struct LineageRow {
    ca_type: String,
    parent_ca_id: Option<String>,
    common_name: String,
    family: String,
}

async fn rekey(vault: &Inner, permit: Permit<'_>, id: &str, write: &CaRekey) -> Result<Outcome<Ca>> {
    let old = active_issuer(vault, &permit, id).await?;
    let row: Option<LineageRow> =
        permit.fetch_optional(query(sql::LINEAGE).bind(permit.tenant()).bind(id)).await?;
    let row = row.ok_or_else(not_found)?;
    let ca_type = CaType::parse(&row.ca_type)?;
    let external = ca_type == CaType::Intermediate && row.parent_ca_id.is_none();
    let (key_type, key_size) = match (&write.key_ref, write.key_type) {
        (None, None) => {
            let (key_type, size) = family(old.spec);
            (Some(key_type), write.key_size.or(size))
        }
        (_, key_type) => (key_type, write.key_size),
    };
    let lists = old.numbering.as_ref().map(|numbering| numbering.lists.clone()).unwrap_or_default();
    let asked = CaCreate {
        key_type,
        key_size,
        key_provider: write.key_provider.clone(),
        key_ref: write.key_ref.clone(),
        parent_ca_id: row.parent_ca_id,
        validity_days: write.validity_days,
        max_path_length: old.issuer.max_path_length().map(|length| u8::try_from(length).unwrap_or(u8::MAX)),
        external,
        crl_shards: write.crl_shards.or(lists.shards.try_into().ok()),
        delta_crls: write.delta_crls.unwrap_or(lists.delta_crls),
        keep_expired_on_crl: write.keep_expired_on_crl.unwrap_or(lists.keep_expired),
        ..CaCreate::new(&write.name, row.common_name, ca_type)
    };
    let (name, spec) = check(&asked)?;
    check_key_ref(&permit, asked.key_ref.as_deref())?;
    let wanted = Wanted::find(vault.door.roots(), &asked, spec).await?;
    let parent = match &asked.parent_ca_id {
        Some(parent) => Some(active_issuer(vault, &permit, parent).await?),
        None => None,
    };
    let lineage = Lineage { replaces: id.to_owned(), family: row.family };
    let paper = match external {
        true => Paper::Request(Some(old.issuer.name_der())),
        false => {
            let above = parent.as_ref().map(|parent| &parent.issuer);
            let default = if above.is_some() { INTERMEDIATE_DAYS } else { ROOT_DAYS };
            let (days, length) = (write.validity_days.unwrap_or(default), asked.max_path_length);
            let now = permit.ctx().now();
            let plan = CaPlan::named(old.issuer.name_der(), wanted.spec(), days, length, above, now)?;
            let plan = plan.limited(old.issuer.name_constraints()?.as_ref(), &old.issuer.policies()?)?;
            Paper::Certificate(Box::new(plan))
        }
    };
    make(vault, permit, (&asked, &name, Some(&lineage)), (wanted, paper), parent.as_deref()).await
}

async fn make_default(vault: &Inner, permit: Permit<'_>, id: &str) -> Result<Outcome<Ca>> {
    let mut tx = permit.begin().await?;
    let row: Option<LineageRow> = tx.fetch_optional(query(sql::LINEAGE).bind(tx.tenant()).bind(id)).await?;
    let row = row.ok_or_else(not_found)?;
    check_issuing(&mut tx, id).await?;
    let family: Vec<(String,)> = tx.fetch_all(query(sql::FAMILY).bind(tx.tenant()).bind(&row.family)).await?;
    let family: Vec<String> = family.into_iter().map(|(id,)| id).collect();
    let names = query(sql::ROLES_OF_FAMILY).bind(tx.tenant()).bind(&row.family).bind(id);
    let names: Vec<(String,)> = tx.fetch_all(names).await?;
    for (name,) in &names {
        // Whoever else changes the role waits here.
        tx.execute(query(sql::LOCK_ROLE).bind(tx.tenant()).bind(name)).await?;
        let role: Option<RoleRow> = tx.fetch_optional(query(sql::ROLE).bind(tx.tenant()).bind(name)).await?;
        let Some(role) = role else { continue };
        let mut config = role.config.0;
        // Somebody may have given it to another CA meanwhile.
        if !family.contains(&config.ca_id) {
            continue;
        }
        config.ca_id = id.to_owned();
        let update = query(sql::UPDATE_ROLE).bind(tx.tenant()).bind(name).bind(id).bind(json(&config)?);
        tx.execute(update.bind(tx.ctx().now())).await?;
    }
    tx.note("roles", names.iter().map(|(name,)| name.as_str()).collect::<Vec<_>>().join(","));
    finish(tx, vault, id).await
}
