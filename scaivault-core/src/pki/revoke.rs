use scaivault_pki::Serial;
use serde_json::json;

use super::{
    Pki, RevocationReason, cascade, certificate,
    crl::{self, Marks},
    numbering::{issuer_of_unkept, row_of_unkept},
    store::{SerialRow, sql},
    types::{ReleaseWrite, Released, Revocation, RevokeWrite},
};
use crate::{
    Code, Error, Result, Scope,
    audit::Action,
    events::EventType,
    pipeline::{Act, Outcome, Permit, Write},
    storage::query,
    vault::Inner,
};

impl Pki<'_> {
    /// Revokes a certificate: OCSP says so at once, the next revocation list carries it, which is built within
    /// half a minute. Needs `pki:admin`.
    /// One that is revoked already stays as it is, unless it was only on hold. Revoking the certificate of a CA revokes
    /// everything below it. A key that was compromised is refused from then on, unless the role kept nothing of the
    /// certificate: then nobody knows its key.
    ///
    /// # Errors
    /// [`Code::CertificateNotFound`]; [`Code::InvalidRequest`] if several CAs issued that serial and none is
    /// named; [`Code::InvalidState`] for a root, which no list of its own can revoke, and for a CA that somebody outside
    /// signed, who has to revoke it; [`Code::ValidationError`] if a CA is to be put on hold.
    pub async fn revoke(&self, write: RevokeWrite) -> Result<Revocation> {
        let act = Act::object(Action::PkiRevoke, &[Scope::PkiAdmin], "pki_certificate", None);
        let vault = self.vault;
        vault.door.perform(self.ctx, act, |permit| async move { revoke(vault, permit, &write).await }).await
    }

    /// Releases a certificate that is on hold: OCSP says so at once, the next revocation list no longer has it. Needs
    /// `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CertificateNotFound`]; [`Code::InvalidRequest`] as for [`revoke`](Self::revoke);
    /// [`Code::InvalidState`] if it is not on hold, or its key was compromised meanwhile.
    pub async fn release(&self, write: ReleaseWrite) -> Result<Released> {
        let act = Act::object(Action::PkiRelease, &[Scope::PkiAdmin], "pki_certificate", None);
        self.vault.door.perform(self.ctx, act, |permit| async move { release(permit, &write).await }).await
    }
}

/// The certificate of that serial number, and the CA that issued it.
async fn find(tx: &mut Write<'_>, serial: &Serial, ca_id: Option<&str>) -> Result<(SerialRow, String)> {
    let found = query(sql::BY_SERIAL).bind(tx.tenant()).bind(serial.as_bytes());
    let mut found: Vec<SerialRow> = tx.fetch_all(found).await?;
    found.retain(|row| {
        ca_id.is_none_or(|ca_id| row.ca_id.as_ref().or(row.of_ca.as_ref()).is_some_and(|id| id == ca_id))
    });
    let (mut here, outside): (Vec<_>, Vec<_>) = found.into_iter().partition(|row| row.ca_id.is_some());
    let Some(row) = here.pop() else {
        return Err(if outside.is_empty() { certificate::not_found() } else { signed_outside() });
    };
    let issuer = row.ca_id.clone().ok_or_else(signed_outside)?;
    if !here.is_empty() {
        return Err(Error::new(
            Code::InvalidRequest,
            "ca_id: several CAs issued this serial number; name one",
        ));
    }
    tx.resource(&row.id);
    tx.note("serial_number", serial.to_string());
    tx.note("ca_id", issuer.as_str());
    Ok((row, issuer))
}

async fn revoke(vault: &Inner, permit: Permit<'_>, write: &RevokeWrite) -> Result<Outcome<Revocation>> {
    let serial = Serial::parse(&write.serial_number)?;
    let now = permit.ctx().now();
    let unkept = issuer_of_unkept(vault, &permit, &serial, write.ca_id.as_deref()).await?;
    let mut tx = permit.begin().await?;
    if let Some(ca) = &unkept {
        let id = tx.new_id("cert_")?;
        tx.execute(row_of_unkept(tx.tenant(), ca, &serial, &id)).await?;
    }
    let (row, issuer) = find(&mut tx, &serial, write.ca_id.as_deref()).await?;
    tx.note("reason", write.reason.as_str());
    let revocation = Revocation {
        id: row.id.clone(),
        ca_id: issuer.clone(),
        serial_number: serial.to_string(),
        revoked_at: row.since().unwrap_or(now),
        revocation_reason: write.reason.as_str().to_owned(),
    };
    let of_ca = match row.source.as_str() {
        "ca" => Some(row.of_ca.as_deref().filter(|id| *id != issuer).ok_or_else(root)?),
        _ => None,
    };
    if row.source == "cross" && write.reason == RevocationReason::CertificateHold {
        return Err(Error::field("reason", "a certificate of a CA is not put on hold"));
    }
    let block = write.reason == RevocationReason::KeyCompromise;
    let revoked = match of_ca {
        Some(ca_id) => cascade::revoke(&mut tx, ca_id, write.reason).await?.contains(&row.id),
        None => {
            let revoke =
                query(sql::REVOKE).bind(tx.tenant()).bind(&row.id).bind(now).bind(write.reason.as_str());
            tx.execute(revoke).await? > 0
        }
    };
    if !revoked {
        // Revoked before, by us or by somebody who was faster: that is the revocation.
        let again = query(sql::BY_SERIAL).bind(tx.tenant()).bind(serial.as_bytes());
        let rows: Vec<SerialRow> = tx.fetch_all(again).await?;
        let row = rows.into_iter().find(|r| r.id == row.id).ok_or_else(certificate::not_found)?;
        let before = row
            .revocation(&serial, &issuer)?
            .ok_or_else(|| Error::internal("neither revoked nor revocable"))?;
        tx.note("already_revoked", true);
        if block {
            // What is new about it is that nobody may use the key again.
            tx.execute(query(sql::BLOCK).bind(tx.tenant()).bind(&row.id)).await?;
        }
        return tx.commit(before).await;
    }
    if of_ca.is_none() {
        settle(&mut tx, &revocation, block).await?;
        crl::mark(&mut tx, &Marks::from([(issuer, row.shard)])).await?;
    }
    tx.commit(revocation).await
}

fn root() -> Error {
    Error::new(
        Code::InvalidState,
        "A root cannot be revoked: nobody would believe the list that says so. Take it out of the trust stores, and \
         revoke the CA itself to end what is below it.",
    )
}

fn signed_outside() -> Error {
    Error::new(
        Code::InvalidState,
        "The certificate was signed outside: who signed it has to revoke it. Revoke the CA itself to end what is below it.",
    )
}

/// What follows from a revocation: an event, and the end of a key that was compromised.
pub(super) async fn settle(tx: &mut Write<'_>, revocation: &Revocation, block: bool) -> Result<()> {
    if block {
        tx.execute(query(sql::BLOCK).bind(tx.tenant()).bind(&revocation.id)).await?;
    }
    let data = json!({
        "certificate_id": revocation.id,
        "ca_id": revocation.ca_id,
        "serial_number": revocation.serial_number,
        "reason": revocation.revocation_reason,
    });
    tx.event(EventType::CertificateRevoked, None, data)
}

async fn release(permit: Permit<'_>, write: &ReleaseWrite) -> Result<Outcome<Released>> {
    let serial = Serial::parse(&write.serial_number)?;
    let now = permit.ctx().now();
    let mut tx = permit.begin().await?;
    let (row, issuer) = find(&mut tx, &serial, write.ca_id.as_deref()).await?;
    let release = query(sql::RELEASE).bind(tx.tenant()).bind(&row.id);
    if tx.execute(release).await? == 0 {
        return Err(Error::new(
            Code::InvalidState,
            "The certificate is not on hold, or its key was compromised.",
        ));
    }
    let released = Released {
        id: row.id.clone(),
        ca_id: issuer.clone(),
        serial_number: serial.to_string(),
        released_at: now,
    };
    let data = json!({
        "certificate_id": released.id,
        "ca_id": released.ca_id,
        "serial_number": released.serial_number,
    });
    tx.event(EventType::CertificateReleased, None, data)?;
    crl::mark(&mut tx, &Marks::from([(issuer, row.shard)])).await?;
    tx.commit(released).await
}
