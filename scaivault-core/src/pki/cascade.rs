//! The end of a CA. The certificates of the CAs below it are revoked row by row, of which there are few; what those
//! CAs issued to others is revoked by rule: OCSP and the inventory look at the issuer as well.

use std::collections::BTreeSet;

use scaivault_pki::Serial;

use super::{
    Pki, RevocationReason,
    crl::{self, Marks},
    issuer::{not_found, pending},
    revoke::settle,
    store::{self, BelowRow, CaRow, OfCaRow, sql},
    types::{Ca, Revocation},
};
use crate::{
    Error, Result, Scope,
    audit::Action,
    pipeline::{Act, Outcome, Permit, Write},
    storage::query,
    vault::Inner,
};

impl Pki<'_> {
    /// Revokes a CA with everything below it: no CA among them issues any more, their certificates stand on the lists
    /// of who signed them, and OCSP and the inventory call what they issued revoked. A root is on no list of its
    /// own: take it out of the trust stores as well. One that was signed outside is on no list here: have it revoked there as
    /// well. Needs `pki:admin`. One that is revoked already stays as it is.
    ///
    /// # Errors
    /// [`Code::CaNotFound`](crate::Code::CaNotFound);
    /// [`Code::InvalidState`](crate::Code::InvalidState) for a CA that waits for its certificate;
    /// [`Code::ValidationError`](crate::Code::ValidationError) for the reason `certificate_hold`.
    pub async fn revoke_ca(&self, id: &str, reason: RevocationReason) -> Result<Ca> {
        let act = Act::object(Action::PkiCaRevoke, &[Scope::PkiAdmin], "pki_ca", Some(id));
        let vault = self.vault;
        vault
            .door
            .perform(self.ctx, act, |permit| async move { revoke_ca(vault, permit, id, reason).await })
            .await
    }
}

async fn revoke_ca(
    vault: &Inner,
    permit: Permit<'_>,
    id: &str,
    reason: RevocationReason,
) -> Result<Outcome<Ca>> {
    let mut tx = permit.begin().await?;
    let state = query(sql::CA_STATE).bind(tx.tenant()).bind(id);
    if let Some((_, true)) = tx.fetch_optional::<(bool, bool)>(state).await? {
        return Err(pending());
    }
    let revoked = revoke(&mut tx, id, reason).await?;
    tx.note("reason", reason.as_str());
    tx.note("revoked", revoked.len());
    let row: Option<CaRow> = tx.fetch_optional(store::ca(tx.tenant(), id)).await?;
    let ca = row.ok_or_else(not_found)?.into_ca(vault.settings.base_url.as_deref())?;
    tx.commit(ca).await
}

/// Ends a CA and those below it; gives the certificates that were not revoked before. Those of others for their keys, by
/// which they were cross-signed, are revoked with them. The keys of those below were not compromised, but who vouched
/// for them.
///
/// # Errors
/// [`Code::CaNotFound`](crate::Code::CaNotFound);
/// [`Code::ValidationError`](crate::Code::ValidationError) for the reason `certificate_hold`.
pub(super) async fn revoke(tx: &mut Write<'_>, id: &str, reason: RevocationReason) -> Result<Vec<String>> {
    if reason == RevocationReason::CertificateHold {
        let message = "a CA is not put on hold: what it issued meanwhile would come back with it";
        return Err(Error::field("reason", message));
    }
    let (mut revoked, mut marks, mut ended) = (Vec::new(), Marks::new(), BTreeSet::new());
    // A CA that is being made below one of them holds it until it is there: then it is seen the next time.
    loop {
        let below = query(sql::WITH_THOSE_BELOW).bind(tx.tenant()).bind(id);
        let mut cas: Vec<BelowRow> = tx.fetch_all(below).await?;
        cas.retain(|ca| !ended.contains(&ca.id));
        if cas.is_empty() {
            break;
        }
        for ca in cas {
            tx.execute(query(sql::DEACTIVATE_CA).bind(tx.tenant()).bind(&ca.id)).await?;
            let why = if ca.id == id { reason } else { of_those_below(reason) };
            let block = ca.id == id && compromised(reason);
            let cross = query(sql::CROSS_OF).bind(tx.tenant()).bind(&ca.certificate.certificate_id);
            let cross: Vec<OfCaRow> = tx.fetch_all(cross).await?;
            for certificate in std::iter::once(ca.certificate).chain(cross) {
                if let Some(revocation) = end(tx, &ca.id, &certificate, why, block).await? {
                    marks.extend(certificate.issuer_id.map(|issuer| (issuer, certificate.shard)));
                    revoked.push(revocation.id);
                }
            }
            ended.insert(ca.id);
        }
    }
    if ended.is_empty() {
        return Err(not_found());
    }
    crl::mark(tx, &marks).await?;
    Ok(revoked)
}

fn compromised(reason: RevocationReason) -> bool {
    matches!(reason, RevocationReason::KeyCompromise | RevocationReason::CaCompromise)
}

fn of_those_below(reason: RevocationReason) -> RevocationReason {
    if compromised(reason) { RevocationReason::CaCompromise } else { reason }
}

/// Revokes one certificate of a CA, unless it is.
async fn end(
    tx: &mut Write<'_>,
    ca_id: &str,
    certificate: &OfCaRow,
    reason: RevocationReason,
    block: bool,
) -> Result<Option<Revocation>> {
    let now = tx.ctx().now();
    let revoke = query(sql::REVOKE)
        .bind(tx.tenant())
        .bind(&certificate.certificate_id)
        .bind(now)
        .bind(reason.as_str());
    if tx.execute(revoke).await? == 0 {
        return Ok(None);
    }
    let revocation = Revocation {
        id: certificate.certificate_id.clone(),
        ca_id: certificate.issuer_id.as_deref().unwrap_or(ca_id).to_owned(),
        serial_number: Serial::from_bytes(&certificate.serial)?.to_string(),
        revoked_at: now,
        revocation_reason: reason.as_str().to_owned(),
    };
    settle(tx, &revocation, block).await?;
    Ok(Some(revocation))
}
