//! The end of certificates that expired longer ago than records are kept: their entries in the register first, then
//! the certificates themselves, a month at a time on PostgreSQL and a few hundred rows at a time on SQLite.

use time::OffsetDateTime;

use super::store::sql;
use crate::{
    Result, limits,
    storage::{partitions::end_of, query},
    vault::Inner,
};

/// For a database with partitions.
pub(crate) async fn detach_expired(vault: &Inner, cutoff: OffsetDateTime) -> Result<()> {
    let months = vault.door.certificate_months();
    for month in vault.door.months_before(months, cutoff).await? {
        forget_serials(vault, end_of(month)?).await?;
        vault.door.detach_month(months, month).await?;
    }
    Ok(())
}

/// For one without.
pub(crate) async fn delete_expired(vault: &Inner, cutoff: OffsetDateTime) -> Result<()> {
    forget_serials(vault, cutoff).await?;
    in_steps(vault, sql::DELETE_CERTIFICATES, cutoff).await
}

async fn forget_serials(vault: &Inner, before: OffsetDateTime) -> Result<()> {
    in_steps(vault, sql::DELETE_SERIALS, before).await
}

async fn in_steps(vault: &Inner, delete: &'static str, before: OffsetDateTime) -> Result<()> {
    loop {
        let delete = query(delete).bind(before).bind(limits::CERTIFICATE_DELETE);
        if vault.door.job_db().execute(delete).await? < limits::CERTIFICATE_DELETE.unsigned_abs() {
            return Ok(());
        }
    }
}
