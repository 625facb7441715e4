use scaivault_pki::{Csr, CsrOverride};

use super::{
    Pki,
    certificate::check_key_first,
    issue::{Ready, Remembered},
    types::{IssuedCertificate, SignNames, SignWrite},
};
use crate::{
    Result, Scope,
    audit::Action,
    idempotency::Once,
    pipeline::{Act, Outcome, Permit},
    vault::Inner,
};

impl Pki<'_> {
    /// Makes a certificate for the key of a certificate request, whose signature proves that the caller has it.
    /// Needs `pki:issue` and the permission `read` on the path `pki/sign/<role>`. What the request asks for is judged
    /// by the role; what the certificate says is what the role admitted, and nothing is copied.
    ///
    /// # Errors
    /// As [`issue`](Self::issue); [`Code::ValidationError`](crate::Code::ValidationError) also names what is wrong
    /// with the certificate request, under `csr_pem`.
    pub async fn sign(&self, role: &str, write: SignWrite) -> Result<IssuedCertificate> {
        let path = format!("pki/sign/{role}");
        let act = Act::on_virtual(Action::PkiSign, &[Scope::PkiIssue], "pki_role", path);
        let vault = self.vault;
        vault
            .door
            .perform(self.ctx, act, |permit| async move { sign(vault, permit, role, write).await })
            .await
    }
}

async fn sign(
    vault: &Inner,
    mut permit: Permit<'_>,
    role_name: &str,
    mut write: SignWrite,
) -> Result<Outcome<IssuedCertificate>> {
    let path = format!("pki/sign/{role_name}");
    let once = Once::new(permit.ctx(), write.idempotency_key.take(), format!("POST {path}"), &write)?;
    if let Some(once) = &once
        && let Some(known) = once.find::<Remembered>(&permit).await?
    {
        known.note(&mut permit);
        return permit.answer(known.into_issued());
    }
    let ready = Ready::find(vault, &permit, role_name).await?;
    let tags = ready.tags(&mut write.tags)?;
    let csr = Csr::parse(write.csr_pem.as_bytes())?;
    let names = write.names.map(SignNames::into_override);
    let ttl = write.ttl.map(|ttl| ttl.get());
    let plan = ready.role.admit_csr(&csr, names, ttl, &ready.ca.issuer, permit.ctx().now())?;
    check_key_first(&permit, "csr_pem", csr.public_key_spki()).await?;
    let mut signed = ready.sign(vault, &permit, plan, csr.public_key_spki(), None).await?;
    signed.tags = tags;
    permit.make_room(signed.not_after()).await?;
    let mut tx = permit.begin().await?;
    if let Some(known) = signed.claim(&mut tx, once.as_ref(), false).await? {
        return tx.commit(known.into_issued()).await;
    }
    signed.keep(&mut tx, (&path, "csr"), None).await?;
    tx.commit(signed.into_issued(None)).await
}

impl SignNames {
    pub(super) fn into_override(self) -> CsrOverride {
        let Self { alt_names, ip_sans, email_sans, uri_sans } = self;
        CsrOverride { alt_names, ip_sans, email_sans, uri_sans }
    }
}
