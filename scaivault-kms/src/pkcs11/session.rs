use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{MechanismInfo, MechanismType},
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::{Session, SessionState, UserType},
    slot::Slot,
    types::RawAuthPin,
};

use super::{
    Pkcs11Config, Token,
    config::MECHANISMS,
    error::{Failure, denied, device, unavailable, unsupported},
    provider::Root,
};
use crate::{KmsError, Secret};

/// What the threads of one provider have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Pkcs11Config,
    pub(super) module: Pkcs11,
    /// The root key that wraps now, once the token has said which it is.
    pub(super) root: RwLock<Option<Root>>,
}

impl Shared {
    pub(super) fn root(&self) -> Option<Root> {
        self.root.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_root(&self, root: &Root) {
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = Some(root.clone());
    }
}

/// What PKCS #11 makes one per process: an initialised module, and the count of wrong PINs.
#[derive(Default)]
struct Process {
    modules: BTreeMap<PathBuf, Pkcs11>,
    /// The PIN that each token (by module path and serial number) has refused: it is not given a second time, not
    /// even by another provider, because tokens count and then lock.
    refused: BTreeMap<(PathBuf, String), Secret>,
}

static PROCESS: Mutex<Option<Process>> = Mutex::new(None);

fn process() -> MutexGuard<'static, Option<Process>> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens and initialises the module, or refers to it where this process did so already. It is never finalised:
/// `C_Finalize` would end the sessions of everybody else in this process.
pub(super) fn open_module(path: &Path) -> Result<Pkcs11, KmsError> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut process = process();
    let process = process.get_or_insert_default();
    if let Some(module) = process.modules.get(&real) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(&real).map_err(|e| {
        Failure::from(e).into_kms(&format!("the PKCS #11 module {} cannot be opened", path.display()))
    })?;
    initialize(&module).map_err(|e| match e {
        Error::Pkcs11(RvError::ArgumentsBad, _) => unsupported(format!(
            "the PKCS #11 module {} lacks a start without parameters of its own (NSS softokn is like that): give \
             them to p11-kit as x-init-reserved, and open p11-kit-proxy.so",
            path.display()
        )),
        e => Failure::from(e).into_kms(&format!("the PKCS #11 module {} does not start", path.display())),
    })?;
    process.modules.insert(real, module.clone());
    Ok(module)
}

fn initialize(module: &Pkcs11) -> Result<(), Error> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Whoever embeds us may use the same module.
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}

/// One thread's session, opened when it is first needed and again after it was lost.
pub(super) struct Worker {
    shared: Arc<Shared>,
    open: Option<Open>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None }
    }

    /// Runs `operation`; if the session or its login turns out to be gone, once more on a fresh one. Only for what
    /// may be done twice.
    pub(super) fn run<T>(
        &mut self,
        what: &str,
        mut operation: impl FnMut(&mut Open) -> Result<T, Failure>,
    ) -> Result<T, KmsError> {
        match self.attempt(&mut operation) {
            Err(failure) if failure.asks_for_a_new_session() => {
                self.abandon(&failure);
                let again = self.attempt(&mut operation);
                self.finish(what, again)
            }
            other => self.finish(what, other),
        }
    }

    /// Runs `operation` at most once, for what must not be done twice: making a key.
    pub(super) fn run_once<T>(
        &mut self,
        what: &str,
        operation: impl FnOnce(&mut Open) -> Result<T, Failure>,
    ) -> Result<T, KmsError> {
        // A harmless question first, so that a session that died in its sleep is replaced.
        self.run(what, |open| open.check_login())?;
        let outcome = match self.open.as_mut() {
            Some(open) => operation(open),
            None => Err(unavailable("no session").into()),
        };
        self.finish(what, outcome)
    }

    fn attempt<T>(
        &mut self,
        operation: &mut impl FnMut(&mut Open) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.open.is_none() {
            self.open = Some(Open::new(&self.shared)?);
        }
        match self.open.as_mut() {
            Some(open) => operation(open),
            None => Err(unavailable("no session").into()),
        }
    }

    fn finish<T>(&mut self, what: &str, outcome: Result<T, Failure>) -> Result<T, KmsError> {
        outcome.map_err(|failure| {
            if failure.asks_for_a_new_session() {
                self.abandon(&failure);
            }
            failure.into_kms(what)
        })
    }

    /// Lets go of the session. Where the token no longer knows it, its number may be somebody else's by now: then
    /// it is not closed.
    fn abandon(&mut self, failure: &Failure) {
        let known = !matches!(
            failure,
            Failure::Token(Error::Pkcs11(
                RvError::SessionHandleInvalid | RvError::SessionClosed | RvError::CryptokiNotInitialized,
                _
            ))
        );
        if let Some(open) = self.open.take().filter(|_| known) {
            drop(open.session.close());
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            drop(open.session.close());
        }
    }
}

/// A session that is logged in, and what was learnt through it.
pub(super) struct Open {
    pub(super) shared: Arc<Shared>,
    pub(super) session: Session,
    pub(super) abilities: Abilities,
    slot: Slot,
    /// Whether a fresh wrap is being tried, see `wrap::judge`.
    pub(super) in_self_test: bool,
    /// The hash that this token takes for RSA-OAEP, once tried.
    pub(super) oaep_hash: Option<u8>,
    handles: HashMap<Object, ObjectHandle>,
}

/// What an object is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) label: Option<String>,
    pub(super) id: Option<Vec<u8>>,
}

/// The classes of object that this adapter looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Secret,
    Private,
    Public,
}

impl Object {
    pub(super) fn template(&self) -> Vec<Attribute> {
        let class = match self.kind {
            Kind::Secret => ObjectClass::SECRET_KEY,
            Kind::Private => ObjectClass::PRIVATE_KEY,
            Kind::Public => ObjectClass::PUBLIC_KEY,
        };
        let label = self.label.as_ref().map(|label| Attribute::Label(label.clone().into_bytes()));
        let id = self.id.as_ref().map(|id| Attribute::Id(id.clone()));
        [Attribute::Class(class), Attribute::Token(true)].into_iter().chain(label).chain(id).collect()
    }
}

impl Open {
    fn new(shared: &Arc<Shared>) -> Result<Self, Failure> {
        let slot = match find_slot(shared) {
            Err(Failure::Token(Error::Pkcs11(RvError::CryptokiNotInitialized, _))) => {
                // Somebody in this process finalised the module under us.
                initialize(&shared.module)?;
                find_slot(shared)?
            }
            other => other?,
        };
        let abilities = Abilities::ask(shared, slot)?;
        let session = shared.module.open_ro_session_no_drop(slot)?;
        if let Err(failure) = log_in(shared, slot, &session) {
            drop(session.close());
            return Err(failure);
        }
        let shared = Arc::clone(shared);
        Ok(Self {
            shared,
            session,
            abilities,
            slot,
            in_self_test: false,
            oaep_hash: None,
            handles: HashMap::new(),
        })
    }

    /// A session that may write, for making keys; it is logged in because the token is.
    pub(super) fn read_write(&self) -> Result<Session, Failure> {
        Ok(self.shared.module.open_rw_session(self.slot)?)
    }

    /// Every object that fits. An empty answer is only believed of a session that is logged in: any other is shown
    /// no private object, and "no key" is not to be read out of that.
    pub(super) fn find(&self, object: &Object) -> Result<Vec<ObjectHandle>, Failure> {
        let found = self.session.find_objects(&object.template())?;
        if found.is_empty() {
            self.check_login()?;
        }
        Ok(found)
    }

    /// The first object that fits, remembered for as long as the session lasts.
    pub(super) fn handle(&mut self, object: &Object) -> Result<Option<ObjectHandle>, Failure> {
        if let Some(handle) = self.handles.get(object) {
            return Ok(Some(*handle));
        }
        let found = self.find(object)?.first().copied();
        if let Some(handle) = found {
            self.handles.insert(object.clone(), handle);
        }
        Ok(found)
    }

    /// The attributes that the token tells of an object; what it does not know or hides is left out.
    pub(super) fn attributes(
        &self,
        object: ObjectHandle,
        wanted: &[AttributeType],
    ) -> Result<Vec<Attribute>, Failure> {
        Ok(self.session.get_attributes(object, wanted)?)
    }

    fn check_login(&self) -> Result<(), Failure> {
        match self.session.get_session_info()?.session_state() {
            SessionState::RoUser | SessionState::RwUser => Ok(()),
            _ => {
                Err(Error::Pkcs11(RvError::UserNotLoggedIn, cryptoki::context::Function::GetSessionInfo)
                    .into())
            }
        }
    }
}

fn find_slot(shared: &Shared) -> Result<Slot, Failure> {
    let wanted = &shared.config.token;
    let (mut found, mut seen, mut odd) = (Vec::new(), Vec::new(), Vec::new());
    for slot in shared.module.get_slots_with_token()? {
        let info = match shared.module.get_token_info(slot) {
            Ok(info) => info,
            Err(error @ Error::Pkcs11(..)) => return Err(error.into()),
            // It may be of somebody else's token, which is no reason to refuse ours.
            Err(_) => {
                odd.push(format!("the one in slot {}", slot.id()));
                continue;
            }
        };
        if !info.token_initialized() {
            continue;
        }
        let fits = match wanted {
            Token::Label(label) => info.label() == label,
            Token::Serial(serial) => info.serial_number() == serial,
            Token::Slot(id) => slot.id() == *id,
        };
        if fits {
            found.push(slot);
        }
        seen.push(format!("{:?} (serial {}, slot {})", info.label(), info.serial_number(), slot.id()));
    }
    match found[..] {
        [slot] => Ok(slot),
        [] if !odd.is_empty() => Err(unsupported(format!(
            "no token with {wanted}; there is {}; and {} lacks a description that can be read: its time is none of \
             PKCS #11 (opencryptoki 3.8 is like that)",
            list(&seen),
            odd.join(", ")
        ))
        .into()),
        // A token that is unplugged comes back: this is not "no such key".
        [] => Err(unavailable(format!("no token with {wanted}; there is {}", list(&seen))).into()),
        _ => Err(denied(format!("more than one token with {wanted}; there is {}", list(&seen))).into()),
    }
}

fn list(seen: &[String]) -> String {
    if seen.is_empty() { "none".to_owned() } else { seen.join(", ") }
}

fn log_in(shared: &Shared, slot: Slot, session: &Session) -> Result<(), Failure> {
    let info = shared.module.get_token_info(slot)?;
    let token = (shared.config.module.clone(), info.serial_number().to_owned());
    let pin = shared.config.pin.expose();
    // Held while logging in, so that threads that start together give a wrong PIN once and not once each.
    let mut process = process();
    let process = process.get_or_insert_default();
    if process.refused.get(&token).is_some_and(|refused| refused.ct_eq(&Secret::new(pin.to_vec()))) {
        return Err(denied("the token refused this PIN before; it is not tried again").into());
    }
    if info.user_pin_locked() {
        return Err(denied("the token has locked the PIN of its user").into());
    }
    if info.user_pin_final_try() {
        let message = "one more wrong PIN locks the token, so none is tried; log in once by other means";
        return Err(denied(message).into());
    }
    match session.login_with_raw(UserType::User, &RawAuthPin::new(Box::new(pin.to_vec()))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
            process.refused.remove(&token);
            Ok(())
        }
        Err(error) => {
            if matches!(
                error,
                Error::Pkcs11(
                    RvError::PinIncorrect
                        | RvError::PinInvalid
                        | RvError::PinLenRange
                        | RvError::PinExpired
                        | RvError::PinLocked,
                    _
                )
            ) {
                process.refused.insert(token, Secret::new(pin.to_vec()));
            }
            Err(Failure::Ours(Failure::Token(error).into_kms("login")))
        }
    }
}

/// What the token says it can do.
pub(super) struct Abilities {
    told: Vec<(MechanismType, MechanismInfo)>,
    forbidden: Vec<MechanismType>,
}

/// A mechanism with the use that is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Generate(MechanismType),
    GeneratePair(MechanismType),
    Encrypt(MechanismType),
    Decrypt(MechanismType),
    Wrap(MechanismType),
    Sign(MechanismType),
}

impl Need {
    fn mechanism(self) -> MechanismType {
        match self {
            Self::Generate(m)
            | Self::GeneratePair(m)
            | Self::Encrypt(m)
            | Self::Decrypt(m)
            | Self::Wrap(m)
            | Self::Sign(m) => m,
        }
    }

    fn is_met_by(self, info: &MechanismInfo) -> bool {
        match self {
            Self::Generate(_) => info.generate(),
            Self::GeneratePair(_) => info.generate_key_pair(),
            Self::Encrypt(_) => info.encrypt() && info.decrypt(),
            Self::Decrypt(_) => info.decrypt(),
            Self::Wrap(_) => info.wrap() && info.unwrap(),
            Self::Sign(_) => info.sign(),
        }
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = MECHANISMS.iter().find(|(m, _)| *m == self.mechanism()).map_or("?", |(_, name)| *name);
        f.write_str(name)
    }
}

impl Abilities {
    fn ask(shared: &Shared, slot: Slot) -> Result<Self, Failure> {
        let mut told = Vec::new();
        for (mechanism, _) in MECHANISMS {
            match shared.module.get_mechanism_info(slot, *mechanism) {
                Ok(info) => told.push((*mechanism, info)),
                Err(Error::Pkcs11(RvError::MechanismInvalid, _)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { told, forbidden: shared.config.forbidden.clone() })
    }

    /// Whether the token can, forbidden or not.
    pub(super) fn has(&self, need: Need) -> bool {
        self.told.iter().any(|(mechanism, info)| *mechanism == need.mechanism() && need.is_met_by(info))
    }

    /// Whether the token can and may.
    pub(super) fn can(&self, need: Need) -> bool {
        self.has(need) && !self.forbidden.contains(&need.mechanism())
    }

    /// The names of the needs that are not met, forbidden ones among them.
    pub(super) fn lacks(&self, needs: &[Need]) -> Vec<String> {
        needs.iter().filter(|need| !self.can(**need)).map(|need| self.name(*need)).collect()
    }

    fn name(&self, need: Need) -> String {
        if self.has(need) { format!("{need} (forbidden by configuration)") } else { need.to_string() }
    }
}

/// Makes sure that a key that was just made is what was asked for: some tokens ignore attributes.
pub(super) fn check_made(open: &Open, key: ObjectHandle, what: &str) -> Result<(), Failure> {
    let told = open.attributes(key, &[AttributeType::Sensitive, AttributeType::Extractable])?;
    if told.contains(&Attribute::Sensitive(true)) && told.contains(&Attribute::Extractable(false)) {
        Ok(())
    } else {
        Err(device(format!("the token made {what} readable although it was told not to")).into())
    }
}
