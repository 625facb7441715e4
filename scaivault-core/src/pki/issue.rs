use std::{collections::BTreeMap, sync::Arc};

use scaivault_kms::SigningKey as _;
use scaivault_pki::{IssueRequest, Issued, KeyKind, Plan, issue_leaf};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

use super::{
    Pki,
    ca::{generate_key, inactive, issuer, told},
    certificate::{Inventory, check_issuing, check_key, insert_certificate, key_slot, register_serial},
    issuer::CaIssuer,
    key::unsigned,
    numbering::is_unkept,
    pool::KeyPair,
    store::{RoleRow, sql},
    tags::check_tags,
    types::{IssueWrite, IssuedCertificate, PrivateKeyPem},
};
use crate::{
    Error, Result, Scope,
    audit::Action,
    envelope::{Sealed, TenantKeys},
    events::EventType,
    idempotency::Once,
    pipeline::{Act, Outcome, Permit, Write},
    storage::query,
    vault::Inner,
};

impl Pki<'_> {
    /// Makes a key pair and a certificate for it. Needs `pki:issue` and the permission `read` on the path
    /// `pki/issue/<role>`. The private key is given once; it is kept only if the role says so. With an idempotency
    /// key, the same request again is answered with the same certificate, and without the private key.
    ///
    /// # Errors
    /// [`Code::RoleNotFound`](crate::Code::RoleNotFound);
    /// [`Code::ValidationError`](crate::Code::ValidationError) naming every rule of the role that the request
    /// breaks; [`Code::InvalidState`](crate::Code::InvalidState) if the CA no longer issues;
    /// [`Code::IdempotencyConflict`](crate::Code::IdempotencyConflict).
    pub async fn issue(&self, role: &str, write: IssueWrite) -> Result<IssuedCertificate> {
        let path = format!("pki/issue/{role}");
        let act = Act::on_virtual(Action::PkiIssue, &[Scope::PkiIssue], "pki_role", path);
        let vault = self.vault;
        vault
            .door
            .perform(self.ctx, act, |permit| async move { issue(vault, permit, role, write).await })
            .await
    }
}

async fn issue(
    vault: &Inner,
    mut permit: Permit<'_>,
    role_name: &str,
    mut write: IssueWrite,
) -> Result<Outcome<IssuedCertificate>> {
    let path = format!("pki/issue/{role_name}");
    let once = Once::new(permit.ctx(), write.idempotency_key.take(), format!("POST {path}"), &write)?;
    if let Some(once) = &once
        && let Some(known) = once.find::<Remembered>(&permit).await?
    {
        known.note(&mut permit);
        return permit.answer(known.into_issued());
    }
    let ready = Ready::find(vault, &permit, role_name).await?;
    let tags = ready.tags(&mut write.tags)?;
    let plan = ready.role.admit(&asked(write), &ready.ca.issuer, permit.ctx().now())?;
    let keys = match ready.row.config.0.store_private_keys {
        true => Some(permit.keys_to_seal(ready.ca.key_id()).await?),
        false => None,
    };
    let (public, pkcs8) = leaf_key(vault, plan.key().to_make()).await?;
    let mut signed = ready.sign(vault, &permit, plan, &public, keys.as_ref()).await?;
    signed.tags = tags;
    let kept = match &keys {
        Some(keys) => Some(keys.seal(&key_slot(permit.tenant(), &[&signed.id]), pkcs8.expose())?),
        None => None,
    };
    permit.make_room(signed.issued.not_after).await?;
    let mut tx = permit.begin().await?;
    if let Some(known) = signed.claim(&mut tx, once.as_ref(), true).await? {
        return tx.commit(known.into_issued()).await;
    }
    signed.keep(&mut tx, (&path, "internal"), kept.as_ref()).await?;
    tx.commit(signed.into_issued(Some(PrivateKeyPem::from_pkcs8(&pkcs8)))).await
}

/// What the engine is asked.
pub(super) fn asked(write: IssueWrite) -> IssueRequest {
    IssueRequest {
        common_name: write.common_name,
        alt_names: write.alt_names,
        ip_sans: write.ip_sans,
        email_sans: write.email_sans,
        uri_sans: write.uri_sans,
        subject: write.subject.parts(),
        ttl: write.ttl.map(|ttl| ttl.get()),
    }
}

/// A key pair for a certificate, made ahead if there is one.
async fn leaf_key(vault: &Inner, kind: KeyKind) -> Result<KeyPair> {
    let spec = kind.spec().ok_or_else(|| Error::internal("a role of a key that cannot be made"))?;
    if let Some(pair) = vault.rsa_keys.take(spec) {
        return Ok(pair);
    }
    let (key, pkcs8) = generate_key(spec).await?;
    Ok((key.public_key_der().to_vec(), pkcs8))
}

/// A role and its issuer, ready to sign.
pub(super) struct Ready {
    pub(super) row: RoleRow,
    pub(super) role: scaivault_pki::Role,
    pub(super) ca: Arc<CaIssuer>,
}

impl Ready {
    /// # Errors
    /// [`Code::RoleNotFound`](crate::Code::RoleNotFound); [`Code::InvalidState`](crate::Code::InvalidState) if the CA
    /// no longer issues.
    pub(super) async fn find(vault: &Inner, permit: &Permit<'_>, role: &str) -> Result<Self> {
        let row: Option<RoleRow> =
            permit.fetch_optional(query(sql::ROLE).bind(permit.tenant()).bind(role)).await?;
        let row = row.ok_or_else(super::role::not_found)?;
        if !row.ca_is_active {
            return Err(inactive());
        }
        let role = row.config.0.compile()?;
        let ca = issuer(vault, permit, &row.config.0.ca_id).await?;
        Ok(Self { row, role, ca })
    }

    /// The tags that a certificate of the role is to get.
    ///
    /// # Errors
    /// [`Code::ValidationError`](crate::Code::ValidationError) naming `tags`, also where nothing is kept of it.
    pub(super) fn tags(&self, asked: &mut BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
        check_tags(asked)?;
        if self.row.config.0.no_store && !asked.is_empty() {
            return Err(Error::field("tags", "must be absent: the role keeps no certificates"));
        }
        Ok(std::mem::take(asked))
    }

    /// Signs what was planned, for that public key. `keys` are those of the tenant, where they are open already.
    pub(super) async fn sign(
        &self,
        vault: &Inner,
        permit: &Permit<'_>,
        plan: Plan,
        public_key: &[u8],
        keys: Option<&Arc<TenantKeys>>,
    ) -> Result<Signed> {
        let common_name = plan.common_name().map(str::to_owned);
        let names = plan.dns_names().iter().map(|name| name.as_str().to_owned());
        let names = names.chain(plan.emails().iter().cloned()).chain(plan.uris().iter().cloned()).collect();
        let ip_sans = plan.ip_addresses().iter().map(ToString::to_string).collect();
        let (renew_after, is_cut) = (plan.renew_after(), plan.is_cut());
        let (stored, keys) = (!self.row.config.0.no_store, self.ca.tenant_keys(permit, keys).await?);
        let (id, serial) = (permit.new_id("cert_")?, self.ca.new_serial(permit, keys.as_deref(), stored)?);
        let open = async |key_id: &str| match &keys {
            Some(keys) if keys.has(key_id) => Ok(Arc::clone(keys)),
            _ => permit.keys_for(key_id).await,
        };
        let ca_key = self.ca.open_key((permit.tenant(), vault.door.roots()), open).await?;
        let issuer = self.ca.issuer_of(&serial)?;
        let issued = issue_leaf(plan, serial, public_key, &issuer, &ca_key).await.map_err(unsigned)?;
        Ok(Signed {
            id,
            issued,
            renew_after,
            is_cut,
            role: self.row.config.0.name.clone(),
            stored,
            ca: Arc::clone(&self.ca),
            common_name,
            names,
            ip_sans,
            tags: BTreeMap::new(),
        })
    }
}

/// A certificate that was signed and that nobody has seen yet.
pub(super) struct Signed {
    pub(super) id: String,
    issued: Issued,
    renew_after: OffsetDateTime,
    is_cut: bool,
    role: String,
    stored: bool,
    ca: Arc<CaIssuer>,
    common_name: Option<String>,
    /// DNS names, e-mail addresses and URIs.
    names: Vec<String>,
    ip_sans: Vec<String>,
    pub(super) tags: BTreeMap<String, String>,
}

impl Signed {
    pub(super) fn not_after(&self) -> OffsetDateTime {
        self.issued.not_after
    }

    /// Remembers the answer under the request's key, if it has one. If another was faster, gives what that one
    /// answered: the certificate at hand is never seen then.
    pub(super) async fn claim(
        &self,
        tx: &mut Write<'_>,
        once: Option<&Once>,
        with_key: bool,
    ) -> Result<Option<Remembered>> {
        let Some(once) = once else { return Ok(None) };
        let known = once.claim::<Remembered>(tx, &self.remembered(with_key)).await?;
        if let Some(known) = &known {
            tx.resource(&known.id);
            tx.note("idempotent_replay", true);
        }
        Ok(known)
    }

    /// Lists it, and tells of it.
    pub(super) async fn keep(
        &self,
        tx: &mut Write<'_>,
        (path, source): (&str, &'static str),
        key: Option<&Sealed>,
    ) -> Result<()> {
        check_issuing(tx, &self.ca.id).await?;
        let inventory = Inventory {
            id: &self.id,
            ca_id: &self.ca.id,
            role: Some(&self.role),
            common_name: self.common_name.as_deref(),
            alt_names: &self.names,
            ip_sans: &self.ip_sans,
            tags: Some(&self.tags),
            source,
            key,
        };
        match self.stored {
            true => insert_certificate(tx, &inventory, &self.issued).await?,
            // Its number says that it was issued, for ever.
            false if is_unkept(&self.issued.serial) => match source {
                "internal" => {}
                _ => check_key(tx, source, &self.issued.key_sha256).await?,
            },
            false => register_serial(tx, &inventory, &self.issued).await?,
        }
        let about = told(&self.issued, &self.ca.id, &self.id, self.common_name.as_deref());
        tx.event(EventType::CertificateIssued, Some(path), about)?;
        tx.resource(&self.id);
        tx.note("serial_number", self.issued.serial.to_string());
        tx.note("common_name", json!(self.common_name));
        tx.note("ca_id", self.ca.id.clone());
        Ok(())
    }

    pub(super) fn into_issued(self, private_key: Option<PrivateKeyPem>) -> IssuedCertificate {
        IssuedCertificate {
            certificate: self.issued.pem(),
            private_key,
            private_key_withheld: false,
            ca_chain: self.ca.chain.clone(),
            serial_number: self.issued.serial.to_string(),
            not_before: self.issued.not_before,
            not_after: self.issued.not_after,
            next_renewal_after: self.renew_after,
            warnings: warnings(self.is_cut),
            id: self.id,
        }
    }

    fn remembered(&self, with_key: bool) -> Remembered {
        Remembered {
            id: self.id.clone(),
            certificate: self.issued.pem(),
            with_key,
            ca_chain: self.ca.chain.clone(),
            serial_number: self.issued.serial.to_string(),
            not_before: self.issued.not_before,
            not_after: self.issued.not_after,
            renew_after: Some(self.renew_after),
            is_cut: self.is_cut,
        }
    }
}

fn warnings(is_cut: bool) -> Vec<String> {
    is_cut.then(|| "not_after was cut to the end of the issuer".to_owned()).into_iter().collect()
}

/// An answer as it is kept for those who ask again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Remembered {
    id: String,
    certificate: String,
    /// Whether the first answer had a private key.
    with_key: bool,
    ca_chain: Vec<String>,
    serial_number: String,
    #[serde(with = "time::serde::rfc3339")]
    not_before: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    not_after: OffsetDateTime,
    /// None in what an older release remembered.
    #[serde(default, with = "time::serde::rfc3339::option")]
    renew_after: Option<OffsetDateTime>,
    #[serde(default)]
    is_cut: bool,
}

impl Remembered {
    /// Says in the record of the request that it made nothing new.
    pub(super) fn note(&self, permit: &mut Permit<'_>) {
        permit.resource(&self.id);
        permit.note("idempotent_replay", true);
        permit.note("serial_number", self.serial_number.clone());
    }

    pub(super) fn into_issued(self) -> IssuedCertificate {
        IssuedCertificate {
            id: self.id,
            certificate: self.certificate,
            private_key: None,
            private_key_withheld: self.with_key,
            ca_chain: self.ca_chain,
            serial_number: self.serial_number,
            not_before: self.not_before,
            not_after: self.not_after,
            next_renewal_after: self.renew_after.unwrap_or(self.not_after),
            warnings: warnings(self.is_cut),
        }
    }
}
