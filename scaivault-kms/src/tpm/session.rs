use std::{str::FromStr as _, sync::Arc, sync::OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use tss_esapi::{
    Context, TctiNameConf,
    attributes::{ObjectAttributesBuilder, SessionAttributesBuilder},
    constants::SessionType,
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, SessionHandle, TpmHandle},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        dynamic_handles::Persistent,
        ecc::EccCurve,
        resource_handles::{Hierarchy, Provision},
        session_handles::{AuthSession, PolicySession},
    },
    structures::{
        Auth, Digest, EccParameter, EccPoint, PcrSelectionListBuilder, PcrSlot, Public, PublicBuilder,
        PublicEccParametersBuilder, SymmetricDefinition, SymmetricDefinitionObject,
    },
};

use super::{
    RootKey, TpmConfig,
    error::{Failure, invalid, not_found, unavailable},
};
use crate::KmsError;

/// What the thread has in common with the provider.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: TpmConfig,
    /// The name of the root key once the TPM has told it; it never changes for one provider.
    pub(super) version: OnceLock<String>,
}

/// The thread's connection, opened when it is first needed and again after it was lost.
pub(super) struct Worker {
    shared: Arc<Shared>,
    open: Option<Open>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None }
    }

    /// Runs `operation`; if the connection turns out to be gone, once more on a fresh one. Only for what may be done
    /// twice.
    pub(super) fn run<T>(
        &mut self,
        what: &str,
        mut operation: impl FnMut(&mut Open) -> Result<T, Failure>,
    ) -> Result<T, KmsError> {
        match self.attempt(&mut operation) {
            Err(failure) if self.open.is_some() && failure.asks_for_a_new_connection() => {
                // Closing flushes what was loaded.
                self.open = None;
                self.attempt(&mut operation)
            }
            other => other,
        }
        .map_err(|failure| {
            if failure.asks_for_a_new_connection() {
                self.open = None;
            }
            failure.into_kms(what)
        })
    }

    /// Runs `operation` without the root key, and so before there is one.
    pub(super) fn bare<T>(
        &mut self,
        what: &str,
        operation: impl FnOnce(&mut Context, &TpmConfig) -> Result<T, Failure>,
    ) -> Result<T, KmsError> {
        self.open = None;
        let config = &self.shared.config;
        let outcome = connect(config).and_then(|mut context| operation(&mut context, config));
        outcome.map_err(|failure| failure.into_kms(what))
    }

    fn attempt<T>(
        &mut self,
        operation: &mut impl FnMut(&mut Open) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.shared)?,
        };
        operation(self.open.insert(open))
    }
}

/// A connection with the root key loaded and a session that encrypts parameters.
pub(super) struct Open {
    pub(super) context: Context,
    pub(super) root: KeyHandle,
    pub(super) session: AuthSession,
    pub(super) version: String,
}

impl Open {
    fn new(shared: &Shared) -> Result<Self, Failure> {
        let mut context = connect(&shared.config)?;
        let root = match shared.config.root {
            RootKey::Derived => create_primary(&mut context, &shared.config.label)?,
            RootKey::Persistent(handle) => match persistent(&mut context, handle)? {
                Some(object) => object.into(),
                None => {
                    return Err(not_found(format!("no key at handle {handle:#010x}; none was made")).into());
                }
            },
        };
        let session = context.start_auth_session(
            Some(root),
            None,
            None,
            SessionType::Hmac,
            SymmetricDefinition::AES_128_CFB,
            HashingAlgorithm::Sha256,
        )?;
        let session = session.ok_or(Failure::Ours(super::error::device("the TPM started no session")))?;
        let (attributes, mask) =
            SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
        context.tr_sess_set_attributes(session, attributes, mask)?;
        let name = context.tr_get_name(root.into())?;
        // The digest of the name; it begins with two bytes for the hash.
        let version = hex::encode(name.value().get(2..18).unwrap_or_default());
        let known = shared.version.get_or_init(|| version.clone());
        if *known != version {
            let told =
                format!("the root key was {known} and is {version} now: the TPM was cleared or exchanged");
            return Err(not_found(told).into());
        }
        Ok(Self { context, root, session, version })
    }

    /// Runs a command in the session that encrypts its parameters.
    pub(super) fn within<T>(
        &mut self,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> tss_esapi::Result<T> {
        self.context.execute_with_session(Some(self.session), command)
    }

    /// The policy that is met while these PCRs hold what they hold now.
    pub(super) fn pcr_policy(&mut self, pcrs: &[u8]) -> Result<Digest, Failure> {
        let session = self.policy_session(SessionType::Trial, pcrs)?;
        let policy = self.context.policy_get_digest(session);
        self.end(session)?;
        Ok(policy?)
    }

    /// Runs a command that these PCRs authorise, its parameters encrypted.
    pub(super) fn within_policy<T>(
        &mut self,
        pcrs: &[u8],
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, Failure> {
        let policy = self.policy_session(SessionType::Policy, pcrs)?;
        let sessions = (Some(AuthSession::PolicySession(policy)), Some(self.session), None);
        let outcome = self.context.execute_with_sessions(sessions, command);
        self.end(policy)?;
        Ok(outcome?)
    }

    fn policy_session(&mut self, kind: SessionType, pcrs: &[u8]) -> Result<PolicySession, Failure> {
        let started = self.context.start_auth_session(
            None,
            None,
            None,
            kind,
            SymmetricDefinition::AES_128_CFB,
            HashingAlgorithm::Sha256,
        )?;
        let started = started.ok_or(Failure::Ours(super::error::device("the TPM started no session")))?;
        let (attributes, mask) = SessionAttributesBuilder::new().with_continue_session(true).build();
        self.context.tr_sess_set_attributes(started, attributes, mask)?;
        let session = PolicySession::try_from(started)?;
        let slots: Result<Vec<PcrSlot>, _> = pcrs
            .iter()
            .map(|pcr| PcrSlot::try_from(1_u32.checked_shl((*pcr).into()).unwrap_or_default()))
            .collect();
        let slots = slots.map_err(|_| invalid("PCRs are named by numbers from 0 to 23"))?;
        let selection = PcrSelectionListBuilder::new().with_selection(HashingAlgorithm::Sha256, &slots);
        let bound = selection
            .build()
            .and_then(|selection| self.context.policy_pcr(session, Digest::default(), selection));
        if let Err(error) = bound {
            self.end(session)?;
            return Err(error.into());
        }
        Ok(session)
    }

    fn end(&mut self, session: PolicySession) -> Result<(), Failure> {
        Ok(self.context.flush_context(SessionHandle::from(session).into())?)
    }

    /// Flushes what was loaded, whatever came of it.
    pub(super) fn flush<T>(
        &mut self,
        loaded: KeyHandle,
        outcome: tss_esapi::Result<T>,
    ) -> Result<T, Failure> {
        let flushed = self.context.flush_context(loaded.into());
        let outcome = outcome?;
        flushed?;
        Ok(outcome)
    }
}

fn connect(config: &TpmConfig) -> Result<Context, Failure> {
    let tcti = TctiNameConf::from_str(&config.tcti)
        .map_err(|_| invalid(format!("libtss2 does not know the way {:?} to a TPM", config.tcti)))?;
    let mut context =
        Context::new(tcti).map_err(|e| unavailable(format!("no TPM at {:?}", config.tcti), e))?;
    if let Some(auth) = &config.owner_auth {
        let auth =
            Auth::try_from(auth.expose()).map_err(|_| invalid("the owner's authorisation is too long"))?;
        context.tr_set_auth(ObjectHandle::Owner, auth)?;
    }
    Ok(context)
}

/// The root key of this label: the same at every call until the TPM is cleared.
pub(super) fn create_primary(context: &mut Context, label: &str) -> Result<KeyHandle, Failure> {
    let template = root_template(label)?;
    let made = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.create_primary(Hierarchy::Owner, template, None, None, None, None)
    })?;
    Ok(made.key_handle)
}

fn root_template(label: &str) -> tss_esapi::Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
        SymmetricDefinitionObject::AES_128_CFB,
        EccCurve::NistP256,
    )
    .build()?;
    let unique = digest(&SHA256, &[b"scaivault/tpm/root/1/", label.as_bytes()].concat());
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::new(
            EccParameter::try_from(unique.as_ref())?,
            EccParameter::try_from(vec![0; 32])?,
        ))
        .build()
}

/// The object at a persistent handle, if there is one.
pub(super) fn persistent(context: &mut Context, handle: u32) -> Result<Option<ObjectHandle>, Failure> {
    let handle = persistent_handle(handle)?;
    let found =
        context.execute_without_session(|context| context.tr_from_tpm_public(TpmHandle::Persistent(handle)));
    match found.map_err(Failure::from) {
        Ok(object) => Ok(Some(object)),
        Err(failure) if is_no_such_handle(&failure) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The TPM's own word that there is nothing at the handle that it was asked for; nothing else counts as absence.
fn is_no_such_handle(failure: &Failure) -> bool {
    use tss_esapi::{Error, constants::Tss2ResponseCodeKind as Kind};
    matches!(failure, Failure::Tpm(Error::Tss2Error(code)) if code.kind() == Some(Kind::Handle))
}

/// Keeps what is loaded at a persistent handle.
pub(super) fn keep(context: &mut Context, loaded: KeyHandle, handle: u32) -> Result<(), Failure> {
    let persistent = Persistent::Persistent(persistent_handle(handle)?);
    let kept = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.evict_control(Provision::Owner, loaded.into(), persistent)
    });
    context.flush_context(loaded.into())?;
    let mut kept = kept?;
    context.tr_close(&mut kept)?;
    Ok(())
}

fn persistent_handle(handle: u32) -> Result<PersistentTpmHandle, Failure> {
    if !(0x8100_0000..=0x817f_ffff).contains(&handle) {
        let message =
            format!("{handle:#010x} is not a persistent handle of the owner (0x81000000-0x817fffff)");
        return Err(invalid(message).into());
    }
    Ok(PersistentTpmHandle::new(handle)?)
}
