//! Many certificates revoked at once: chosen by what they have in common, a batch a call.

use scaivault_pki::Serial;
use serde_json::json;

use super::{
    Pki, RevocationReason,
    crl::{self, Marks},
    revoke::settle,
    store::{self, sql},
    types::{BulkRevocation, BulkRevoke, Revocation},
};
use crate::{
    FieldErrors, Result, Scope,
    audit::Action,
    limits,
    pipeline::{Act, Outcome, Permit},
    storage::query,
};

impl Pki<'_> {
    /// Revokes the certificates that are valid and fit everything that is said of them, up to
    /// [`limits::BULK_REVOKE`] a call: what is left is told, and the same call goes on with it, also after one that was
    /// cut off. With `dry_run` it only tells. Certificates of CAs are not among them. Needs `pki:admin`.
    ///
    /// # Errors
    /// [`Code::ValidationError`](crate::Code::ValidationError) if nothing is said of them, or nonsense, or they are to be
    /// put on hold.
    pub async fn revoke_many(&self, write: BulkRevoke) -> Result<BulkRevocation> {
        let act = Act::object(Action::PkiRevoke, &[Scope::PkiAdmin], "pki_certificate", None);
        self.vault.door.perform(self.ctx, act, |permit| async move { revoke(permit, &write).await }).await
    }
}

/// [`BulkRevoke`] as the database is asked.
#[derive(Debug)]
pub(super) struct BulkFilter {
    pub(super) ca_id: Option<String>,
    pub(super) role: Option<String>,
    pub(super) issued_to: Option<String>,
    pub(super) key_hash: Option<Vec<u8>>,
    /// Matches the names as JSON text; `!` escapes.
    pub(super) san_like: Option<String>,
}

async fn revoke(mut permit: Permit<'_>, write: &BulkRevoke) -> Result<Outcome<BulkRevocation>> {
    let filter = filter(write)?;
    let now = permit.ctx().now();
    permit.note(
        "chosen_by",
        json!({
            "ca_id": write.ca_id,
            "role": write.role,
            "issued_to": write.issued_to,
            "key_sha256": write.key_sha256,
            "san": write.san,
        }),
    );
    permit.note("reason", write.reason.as_str());
    permit.note("dry_run", write.dry_run);
    let count = store::count_chosen(permit.tenant(), &filter, now);
    let matched = permit.fetch_optional::<(i64,)>(count).await?.map_or(0, |(count,)| count);
    permit.note("matched", matched);
    let choose = store::choose(permit.tenant(), &filter, now, limits::BULK_REVOKE);
    if write.dry_run {
        let rows: Vec<(String, String, Vec<u8>, i64)> = permit.fetch_all(choose).await?;
        let serial_numbers = named(rows.iter().map(|(_, _, serial, _)| serial))?;
        return permit.answer(BulkRevocation { matched, revoked: 0, remaining: matched, serial_numbers });
    }
    let mut tx = permit.begin().await?;
    let rows: Vec<(String, String, Vec<u8>, i64)> = tx.fetch_all(choose).await?;
    let mut serials = Vec::with_capacity(rows.len());
    let mut marks = Marks::new();
    for (id, ca_id, serial, shard) in rows {
        let revoke = query(sql::REVOKE).bind(tx.tenant()).bind(&id).bind(now).bind(write.reason.as_str());
        if tx.execute(revoke).await? == 0 {
            continue;
        }
        let serial_number = Serial::from_bytes(&serial)?.to_string();
        let revocation_reason = write.reason.as_str().to_owned();
        let revocation = Revocation { id, ca_id, serial_number, revoked_at: now, revocation_reason };
        settle(&mut tx, &revocation, write.reason == RevocationReason::KeyCompromise).await?;
        marks.insert((revocation.ca_id, shard));
        serials.push(serial);
    }
    crl::mark(&mut tx, &marks).await?;
    let revoked = i64::try_from(serials.len()).unwrap_or(i64::MAX);
    tx.note("revoked", revoked);
    let serial_numbers = named(serials.iter())?;
    let remaining = matched.saturating_sub(revoked).max(0);
    tx.commit(BulkRevocation { matched, revoked, remaining, serial_numbers }).await
}

fn named<'a>(serials: impl Iterator<Item = &'a Vec<u8>>) -> Result<Vec<String>> {
    serials.take(limits::BULK_NAMED).map(|serial| Ok(Serial::from_bytes(serial)?.to_string())).collect()
}

fn filter(write: &BulkRevoke) -> Result<BulkFilter> {
    let mut wrong = FieldErrors::default();
    let said = [&write.role, &write.issued_to, &write.key_sha256, &write.san];
    if said.iter().all(|said| said.is_none()) {
        wrong
            .push("role", "one of role, issued_to, key_sha256 and san must say which certificates are meant");
    }
    if write.reason == RevocationReason::CertificateHold {
        wrong.push("reason", "certificates are put on hold one by one");
    }
    let key_hash = write.key_sha256.as_deref().map(|text| hex::decode(text).unwrap_or_default());
    if key_hash.as_ref().is_some_and(|hash| hash.len() != 32) {
        wrong.push(
            "key_sha256",
            "must be the SHA-256 of a SubjectPublicKeyInfo in DER, 64 hexadecimal digits",
        );
    }
    let san_like = write.san.as_deref().map(|san| {
        like(san).unwrap_or_else(|| {
            wrong.push("san", "must be a DNS name, or *. and one for all names below it");
            String::new()
        })
    });
    wrong.finish()?;
    Ok(BulkFilter {
        ca_id: write.ca_id.clone(),
        role: write.role.clone(),
        issued_to: write.issued_to.clone(),
        key_hash,
        san_like,
    })
}

/// A pattern for a name among others in a JSON array: whole, or by its end.
fn like(san: &str) -> Option<String> {
    let (any, name) = match san.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, san),
    };
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if name.is_empty() || name.len() > 253 || !plain || name.starts_with('.') {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('_', "!_");
    Some(if any { format!("%.{name}\"%") } else { format!("%\"{name}\"%") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_whole_or_by_their_end() {
        assert_eq!(like("A.b_c.test").as_deref(), Some("%\"a.b!_c.test\"%"));
        assert_eq!(like("*.svc.test").as_deref(), Some("%.svc.test\"%"));
        for bad in ["", "*.", "*", "a%b", "a\"b", "*.*.x", ".x", "a!b"] {
            assert_eq!(like(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_says_nothing_is_refused_by_its_fields() {
        let nothing = BulkRevoke::new(RevocationReason::CertificateHold);
        let bad = BulkRevoke { key_sha256: Some("00".into()), san: Some("%".into()), ..nothing.clone() };
        for (write, fields) in [(nothing, &["reason", "role"][..]), (bad, &["key_sha256", "reason", "san"])] {
            let error: crate::Error = filter(&write).unwrap_err();
            assert_eq!(error.details().fields.keys().collect::<Vec<_>>(), fields);
        }
    }
}
