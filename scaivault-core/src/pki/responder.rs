//! OCSP responders that CAs delegate to, so that an answer costs no use of a CA's key.
//!
//! The key of one is made here, never leaves the memory of this process and is forgotten with it: each process has its
//! own for each CA that it is asked about. Its certificate lives for [`limits::RESPONDER_LIFE`], is replaced when half of
//! that is over, and stands in the inventory like everything else that the CA signed.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use scaivault_kms::{KeySpec, SigningKey as _, local::SoftwareKey};
use scaivault_pki::ocsp::{Responder, issue_responder};
use time::OffsetDateTime;

use super::{
    ca::generate_key,
    certificate::{Inventory, insert_certificate},
    issuer::CaIssuer,
    key::unsigned,
};
use crate::{
    Caller, Ctx, Error, Result, Scope, TenantId,
    audit::Action,
    id, limits,
    pipeline::{Act, Outcome, Permit},
    vault::Inner,
};

/// The responders of this process, by CA.
#[derive(Debug)]
pub(crate) struct Responders {
    known: Cache<String, Arc<Delegate>>,
    /// CAs that could not delegate a moment ago.
    failed: Cache<String, ()>,
}

/// A responder with its key.
#[derive(Debug)]
pub(super) struct Delegate {
    pub(super) responder: Responder,
    pub(super) key: SoftwareKey,
}

/// Responders kept at once.
const RESPONDERS: u64 = 10_000;
/// How long after a failure a CA signs its answers itself, before it is asked again to delegate.
const FAILED: Duration = Duration::from_secs(60);

impl Responders {
    pub(crate) fn new() -> Self {
        Self {
            known: Cache::builder().max_capacity(RESPONDERS).time_to_live(limits::RESPONDER_LIFE).build(),
            failed: Cache::builder().max_capacity(RESPONDERS).time_to_live(FAILED).build(),
        }
    }
}

impl Delegate {
    /// Whether it is to be used: in the first half of its life.
    fn is_fresh(&self, now: OffsetDateTime) -> bool {
        let issued = self.responder.issued();
        let half = (issued.not_after - issued.not_before) / 2;
        (issued.not_before..issued.not_after - half).contains(&now)
    }
}

/// The responder of the CA; a new one if there is none or it has lived for half of its life. `None` if the CA cannot
/// delegate now: it has expired, its key cannot be used, or nothing can be written.
pub(super) async fn delegate(vault: &Inner, tenant: &TenantId, ca: &CaIssuer) -> Option<Arc<Delegate>> {
    let responders = &vault.responders;
    let now = vault.clock.now();
    if now > ca.issuer.not_after() || responders.failed.contains_key(&ca.id) {
        return None;
    }
    if let Some(known) = responders.known.get(&ca.id).await {
        if known.is_fresh(now) {
            return Some(known);
        }
        responders.known.invalidate(&ca.id).await;
    }
    // Boxed: it walks through the pipeline, in the middle of a request that does so seldom.
    let make = Box::pin(async { make(vault, tenant, ca, now).await.map(Arc::new) });
    match responders.known.try_get_with_by_ref(&ca.id, make).await.map_err(Error::shared) {
        Ok(made) => Some(made),
        Err(error) => {
            tracing::warn!(ca_id = ca.id, error = %error, "no OCSP responder could be made");
            responders.failed.insert(ca.id.clone(), ()).await;
            None
        }
    }
}

async fn make(vault: &Inner, tenant: &TenantId, ca: &CaIssuer, now: OffsetDateTime) -> Result<Delegate> {
    let caller = Caller::system("ocsp-responder", tenant.clone())?;
    let ctx = Ctx::new(caller, id::new("req_", now, vault.random.as_ref())?, now);
    let act = Act::object(Action::PkiOcspResponder, &[Scope::PkiAdmin], "pki_ca", Some(&ca.id));
    vault.door.perform(&ctx, act, |permit| async move { issue(vault, permit, ca).await }).await
}

async fn issue(vault: &Inner, permit: Permit<'_>, ca: &CaIssuer) -> Result<Outcome<Delegate>> {
    let now = permit.ctx().now();
    let keys = ca.tenant_keys(&permit, None).await?;
    let open = async |key_id: &str| match &keys {
        Some(keys) if keys.has(key_id) => Ok(Arc::clone(keys)),
        _ => permit.keys_for(key_id).await,
    };
    let ca_key = ca.open_key((permit.tenant(), vault.door.roots()), open).await?;
    let (key, _) = generate_key(responder_kind(ca.spec)).await?;
    let (serial, spki) = (ca.new_serial(&permit, keys.as_deref(), true)?, key.public_key_der());
    let issuer = ca.issuer_of(&serial)?;
    let made = issue_responder(serial, spki, limits::RESPONDER_LIFE, &issuer, &ca_key, now).await;
    let responder = made.map_err(unsigned)?;
    let issued = responder.issued();
    permit.make_room(issued.not_after).await?;
    let mut tx = permit.begin().await?;
    let inventory = Inventory {
        id: &tx.new_id("cert_")?,
        ca_id: &ca.id,
        role: None,
        common_name: Some("OCSP responder"),
        alt_names: &[],
        ip_sans: &[],
        tags: None,
        source: "ocsp",
        key: None,
    };
    insert_certificate(&mut tx, &inventory, issued).await?;
    tx.note("certificate_id", inventory.id);
    tx.note("serial_number", issued.serial.to_string());
    tx.commit(Delegate { responder, key }).await
}

/// The kind of a responder's key: one that is quick and that everybody knows, but no weaker than the CA's against
/// quantum computers.
fn responder_kind(ca: KeySpec) -> KeySpec {
    match ca {
        KeySpec::MlDsa44 | KeySpec::MlDsa65 | KeySpec::MlDsa87 => ca,
        _ => KeySpec::EcP256,
    }
}
