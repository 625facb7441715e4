use scaivault_kms::SigningKey as _;
use scaivault_pki::{IssueRequest, issue_leaf};
use serde_json::json;

use super::{
    Pki,
    ca::{generate_key, inactive, issuer, new_serial, told},
    certificate::{Inventory, check_issuing, insert_certificate, key_slot},
    key::unsigned,
    store::{RoleRow, sql},
    types::{IssueWrite, IssuedCertificate, PrivateKeyPem},
};
use crate::{
    Result, Scope,
    audit::Action,
    events::EventType,
    pipeline::{Act, Outcome, Permit},
    storage::query,
    vault::Inner,
};

impl Pki<'_> {
    /// Makes a key pair and a certificate for it. Needs `pki:issue` and the permission `read` on the path
    /// `pki/issue/<role>`. The private key is given once; it is kept only if the role says so.
    ///
    /// # Errors
    /// [`Code::RoleNotFound`](crate::Code::RoleNotFound);
    /// [`Code::ValidationError`](crate::Code::ValidationError) naming every rule of the role that the request
    /// breaks; [`Code::InvalidState`](crate::Code::InvalidState) if the CA no longer issues.
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
    permit: Permit<'_>,
    role_name: &str,
    write: IssueWrite,
) -> Result<Outcome<IssuedCertificate>> {
    let row: Option<RoleRow> =
        permit.fetch_optional(query(sql::ROLE).bind(permit.tenant()).bind(role_name)).await?;
    let row = row.ok_or_else(super::role::not_found)?;
    if !row.ca_is_active {
        return Err(inactive());
    }
    let role = row.config.0.compile()?;
    let ca = issuer(vault, &permit, &row.config.0.ca_id).await?;
    let request = IssueRequest {
        common_name: write.common_name,
        alt_names: write.alt_names,
        ip_sans: write.ip_sans,
        ttl: write.ttl.map(|ttl| ttl.get()),
    };
    let plan = role.admit(&request, &ca.issuer, permit.ctx().now())?;
    let common_name = plan.common_name().map(str::to_owned);
    let alt_names: Vec<String> = plan.dns_names().iter().map(|name| name.as_str().to_owned()).collect();
    let ip_sans: Vec<String> = plan.ip_addresses().iter().map(ToString::to_string).collect();

    let keys = match row.config.0.store_private_keys {
        true => Some(permit.keys_to_seal(ca.key_id()).await?),
        false => None,
    };
    let (id, serial) = (permit.new_id("cert_")?, new_serial(&permit)?);
    let (key, pkcs8) = generate_key(plan.key()).await?;
    let open = async |key_id: &str| match &keys {
        Some(keys) => Ok(keys.clone()),
        None => permit.keys_for(key_id).await,
    };
    let ca_key = ca.open_key((permit.tenant(), vault.door.roots()), open).await?;
    let issued = issue_leaf(plan, serial, key.public_key_der(), &ca.issuer, &ca_key).await;
    let issued = issued.map_err(unsigned)?;
    let kept = match &keys {
        Some(keys) => Some(keys.seal(&key_slot(permit.tenant(), &[&id]), pkcs8.expose())?),
        None => None,
    };
    let inventory = Inventory {
        id: &id,
        ca_id: &ca.id,
        role: Some(role_name),
        common_name: common_name.as_deref(),
        alt_names: &alt_names,
        ip_sans: &ip_sans,
        source: "internal",
        key: kept.as_ref(),
    };
    permit.make_room(issued.not_after).await?;
    let mut tx = permit.begin().await?;
    check_issuing(&mut tx, &ca.id).await?;
    insert_certificate(&mut tx, &inventory, &issued).await?;
    let path = format!("pki/issue/{role_name}");
    tx.event(EventType::CertificateIssued, Some(&path), told(&issued, &ca.id, &id, common_name.as_deref()))?;
    tx.resource(&id);
    tx.note("serial_number", issued.serial.to_string());
    tx.note("common_name", json!(common_name));
    tx.note("ca_id", ca.id.clone());
    tx.commit(IssuedCertificate {
        id,
        certificate: issued.pem(),
        private_key: PrivateKeyPem::from_pkcs8(&pkcs8),
        ca_chain: ca.chain.clone(),
        serial_number: issued.serial.to_string(),
        not_before: issued.not_before,
        not_after: issued.not_after,
    })
    .await
}
