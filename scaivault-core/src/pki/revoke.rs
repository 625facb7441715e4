use scaivault_pki::Serial;
use serde_json::json;

use super::{
    Pki, certificate,
    store::{SerialRow, sql},
    types::{Revocation, RevokeWrite},
};
use crate::{
    Code, Error, Result, Scope,
    audit::Action,
    events::EventType,
    pipeline::{Act, Outcome, Permit},
    storage::query,
};

impl Pki<'_> {
    /// Revokes a certificate: OCSP says so at once, the next revocation list carries it. Needs `pki:admin`.
    /// One that is revoked already stays as it is. Revoking the certificate of a CA ends its issuing.
    ///
    /// # Errors
    /// [`Code::CertificateNotFound`]; [`Code::InvalidRequest`] if several CAs issued that serial and none is
    /// named; [`Code::InvalidState`] for a root, which no list of its own can revoke.
    pub async fn revoke(&self, write: RevokeWrite) -> Result<Revocation> {
        let act = Act::object(Action::PkiRevoke, &[Scope::PkiAdmin], "pki_certificate", None);
        self.vault.door.perform(self.ctx, act, |permit| async move { revoke(permit, &write).await }).await
    }
}

async fn revoke(permit: Permit<'_>, write: &RevokeWrite) -> Result<Outcome<Revocation>> {
    let serial = Serial::parse(&write.serial_number)?;
    let now = permit.ctx().now();
    let mut tx = permit.begin().await?;
    let found = query(sql::BY_SERIAL).bind(tx.tenant()).bind(serial.as_bytes());
    let mut found: Vec<SerialRow> = tx.fetch_all(found).await?;
    found.retain(|row| write.ca_id.as_ref().is_none_or(|ca_id| row.ca_id == *ca_id));
    let row = found.pop().ok_or_else(certificate::not_found)?;
    if !found.is_empty() {
        return Err(Error::new(
            Code::InvalidRequest,
            "ca_id: several CAs issued this serial number; name one",
        ));
    }
    tx.resource(&row.id);
    tx.note("serial_number", serial.to_string());
    tx.note("ca_id", row.ca_id.clone());
    tx.note("reason", write.reason.as_str());
    let revocation = Revocation {
        id: row.id.clone(),
        ca_id: row.ca_id.clone(),
        serial_number: serial.to_string(),
        revoked_at: now,
        revocation_reason: write.reason.as_str().to_owned(),
    };
    if row.source == "ca" {
        let deactivate = query(sql::DEACTIVATE_CA).bind(tx.tenant()).bind(&row.ca_id).bind(serial.as_bytes());
        if tx.execute(deactivate).await? == 0 {
            return Err(Error::new(
                Code::InvalidState,
                "A root cannot be revoked: nobody would believe the list that says so. Take it out of the trust stores.",
            ));
        }
    }
    let revoke = query(sql::REVOKE).bind(tx.tenant()).bind(&row.id).bind(now).bind(write.reason.as_str());
    if tx.execute(revoke).await? == 0 {
        // Revoked before, by us or by somebody who was faster: that is the revocation.
        let again = query(sql::BY_SERIAL).bind(tx.tenant()).bind(serial.as_bytes());
        let rows: Vec<SerialRow> = tx.fetch_all(again).await?;
        let row = rows.into_iter().find(|r| r.id == row.id).ok_or_else(certificate::not_found)?;
        let before =
            row.revocation(&serial)?.ok_or_else(|| Error::internal("neither revoked nor revocable"))?;
        tx.note("already_revoked", true);
        return tx.commit(before).await;
    }
    let data = json!({
        "certificate_id": revocation.id,
        "ca_id": revocation.ca_id,
        "serial_number": revocation.serial_number,
        "reason": revocation.revocation_reason,
    });
    tx.event(EventType::CertificateRevoked, None, data)?;
    tx.commit(revocation).await
}
