use scaivault_pki::{CrlEntry, RevocationReason, Serial, build_crl, pem};

use super::{
    Pki,
    ca::issuer,
    issuer::not_found,
    key::unsigned,
    numbering::{Lists, Numbering},
    store::sql,
    types::{Crl, PublicCrl},
};
use crate::{
    Caller, Code, Error, Result, Scope, TenantId, Vault,
    audit::Action,
    id, limits,
    pipeline::{Act, Outcome, Permit},
    storage::{Ts, query},
    vault::Inner,
};

impl Pki<'_> {
    /// Builds a CA's revocation list now and publishes it. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::CaNotFound`].
    pub async fn build_crl(&self, ca_id: &str) -> Result<Crl> {
        let act = Act::object(Action::PkiCrlBuild, &[Scope::PkiAdmin], "pki_ca", Some(ca_id));
        let vault = self.vault;
        let work = |permit| async move { build(vault, permit, ca_id).await };
        // Another replica may publish first: then its list may lack what was revoked since, so it is built anew.
        for _ in 0..ATTEMPTS {
            match vault.door.perform(self.ctx, act.clone(), work).await {
                Err(error) if error.code() == Code::VersionConflict => {}
                done => return done,
            }
        }
        Err(Error::new(Code::VersionConflict, "The list is being built by others all the time; try again."))
    }
}

/// How often a list is built anew because another was published in between.
const ATTEMPTS: usize = 5;

/// The list that is published now.
pub(super) async fn current(vault: &Inner, ca_id: &str) -> Result<PublicCrl> {
    let row =
        vault.door.public().fetch_optional::<(Vec<u8>, Ts, Ts)>(query(sql::PUBLIC_CRL).bind(ca_id)).await?;
    let (der, this_update, next_update) = row.ok_or_else(not_found)?;
    Ok(PublicCrl { der, this_update: this_update.get(), next_update: next_update.get() })
}

/// Builds every list that is due and that no other replica is building.
pub(crate) async fn build_due(vault: &Vault) -> Result<()> {
    let inner = vault.inner();
    let now = inner.clock.now();
    let due: Vec<(String, String)> = inner.door.job_db().fetch_all(query(sql::DUE_CRLS).bind(now)).await?;
    let mut result = Ok(());
    for (tenant, ca_id) in due {
        // One that cannot be built does not keep the others.
        if let Err(error) = build_claimed(vault, &tenant, &ca_id, now).await {
            tracing::error!(ca_id, error = %error, causes = error.causes(), "a revocation list could not be built");
            result = Err(error);
        }
    }
    result
}

async fn build_claimed(vault: &Vault, tenant: &str, ca_id: &str, now: time::OffsetDateTime) -> Result<()> {
    let owner = TenantId::parse(tenant)?;
    let claim = query(sql::CLAIM_CRL).bind(tenant).bind(ca_id).bind(now).bind(now + CLAIM);
    if vault.inner().door.job_db_of(&owner).execute(claim).await? == 0 {
        return Ok(());
    }
    let ctx = vault.ctx(Caller::system("crl-builder", owner)?)?;
    vault.pki(&ctx).build_crl(ca_id).await.map(drop)
}

/// How long a replica that took a list may work on it before another may.
const CLAIM: time::Duration = time::Duration::minutes(5);

/// How long after its identifier was made a certificate may come to be written.
const SETTLED: time::Duration = time::Duration::minutes(10);

#[derive(sqlx::FromRow)]
struct RevokedRow {
    serial: Vec<u8>,
    revoked_at: Ts,
    revocation_reason: String,
}

impl RevokedRow {
    fn into_entry(self) -> Result<CrlEntry> {
        let reason = RevocationReason::parse(&self.revocation_reason);
        Ok(CrlEntry {
            serial: Serial::from_bytes(&self.serial)?,
            revoked_at: self.revoked_at.get(),
            reason: reason.ok_or_else(|| Error::internal("a stored revocation has an unknown reason"))?,
        })
    }
}

async fn build(vault: &Inner, permit: Permit<'_>, ca_id: &str) -> Result<Outcome<Crl>> {
    let ca = issuer(vault, &permit, ca_id).await?;
    let keys = async |key_id: &str| permit.keys_for(key_id).await;
    let key = ca.open_key((permit.tenant(), vault.door.roots()), keys).await?;
    let number = query(sql::CRL_NUMBER).bind(permit.tenant()).bind(ca_id);
    let (before,) = permit.fetch_optional::<(i64,)>(number).await?.ok_or_else(not_found)?;
    let now = permit.ctx().now();
    // An entry stays for one more list after its certificate has expired (RFC 5280, 3.3), and for as long as
    // a list lives.
    let revoked = query(sql::REVOKED).bind(permit.tenant()).bind(ca_id).bind(now - limits::CRL_VALIDITY);
    let rows: Vec<RevokedRow> = permit.fetch_all(revoked).await?;
    let entries: Vec<CrlEntry> = rows.into_iter().map(RevokedRow::into_entry).collect::<Result<_>>()?;
    let (count, number, next_update) = (entries.len(), before + 1, now + limits::CRL_VALIDITY);
    let der = build_crl(&ca.issuer, &key, number.unsigned_abs(), now, next_update, entries.into_iter()).await;
    let der = der.map_err(unsigned)?;

    // A CA of an older release gets a key for its serial numbers by the way.
    let numbering = match ca.numbering {
        Some(_) => None,
        None => {
            let keys = permit.keys_to_seal(ca.key_id()).await?;
            Some(Numbering::new(&permit, &keys, ca_id, Lists::default())?)
        }
    };
    let mut tx = permit.begin().await?;
    let publish = query(sql::UPDATE_CRL)
        .bind(tx.tenant())
        .bind(ca_id)
        .bind(number)
        .bind(&der)
        .bind(now)
        .bind(next_update)
        .bind(now + limits::CRL_EVERY)
        .bind(before);
    if tx.execute(publish).await? == 0 {
        return Err(Error::new(Code::VersionConflict, "Another list was published in between."));
    }
    // Also a good moment to keep the count of what was issued cheap. What is younger may still be on its way.
    let settled = id::first("cert_", now - SETTLED);
    tx.execute(query(sql::COUNT_ISSUED).bind(tx.tenant()).bind(ca_id).bind(settled)).await?;
    if let Some(numbering) = &numbering {
        numbering.insert(&mut tx, ca_id).await?;
        ca.forget();
    }
    tx.note("crl_number", number);
    tx.note("revoked_certificates", count);
    let crl_pem = pem::encode("X509 CRL", &der);
    tx.commit(Crl { crl_pem, crl_number: number, this_update: now, next_update }).await
}
