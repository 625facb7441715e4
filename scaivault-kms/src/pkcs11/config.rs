use std::{
    fs, io,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use cryptoki::mechanism::MechanismType;
use zeroize::Zeroizing;

use super::PROVIDER;
use crate::{KmsError, Secret};

/// What a [`Pkcs11Provider`](super::Pkcs11Provider) needs to know.
#[derive(Debug)]
pub struct Pkcs11Config {
    pub(super) module: PathBuf,
    pub(super) token: Token,
    pub(super) pin: Pin,
    pub(super) key_label: String,
    pub(super) key_id: Option<Vec<u8>>,
    pub(super) sessions: usize,
    pub(super) queue: usize,
    pub(super) deadline: Duration,
    pub(super) forbidden: Vec<MechanismType>,
}

impl Pkcs11Config {
    /// The root key labelled `key_label` in `token`, through the PKCS #11 library at `module`; four sessions,
    /// 64 requests waiting, ten seconds for each.
    #[must_use]
    pub fn new(module: impl Into<PathBuf>, token: Token, pin: Pin, key_label: impl Into<String>) -> Self {
        Self {
            module: module.into(),
            token,
            pin,
            key_label: key_label.into(),
            key_id: None,
            sessions: 4,
            queue: 64,
            deadline: Duration::from_secs(10),
            forbidden: Vec::new(),
        }
    }

    /// Wraps under the root key with this `CKA_ID`, and not under the newest of that label.
    #[must_use]
    pub fn key_id(mut self, id: impl Into<Vec<u8>>) -> Self {
        self.key_id = Some(id.into());
        self
    }

    /// How many sessions are held, each on a thread of its own; at least one.
    #[must_use]
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.sessions = sessions.max(1);
        self
    }

    /// How many requests may wait for a session; one more is refused as unavailable.
    #[must_use]
    pub fn queue(mut self, queue: usize) -> Self {
        self.queue = queue.max(1);
        self
    }

    /// How long a request may take, waiting included.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Does as if the token lacked these mechanisms when a root key or a signature scheme is chosen. What was
    /// wrapped by one of them still opens.
    ///
    /// # Errors
    /// [`KmsError::Unsupported`] for a name that this adapter never uses.
    pub fn forbid<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, KmsError> {
        for name in names {
            let known = MECHANISMS.iter().find(|(_, n)| *n == name).ok_or_else(|| {
                let known: Vec<_> = MECHANISMS.iter().map(|(_, name)| *name).collect();
                KmsError::Unsupported {
                    provider: PROVIDER,
                    message: format!("mechanism {name:?} to forbid; there are {}", known.join(", ")),
                }
            })?;
            self.forbidden.push(known.0);
        }
        Ok(self)
    }
}

/// The mechanisms that this adapter uses, with the names of the standard.
pub(super) const MECHANISMS: &[(MechanismType, &str)] = &[
    (MechanismType::AES_KEY_GEN, "CKM_AES_KEY_GEN"),
    (MechanismType::AES_GCM, "CKM_AES_GCM"),
    (MechanismType::AES_KEY_WRAP_PAD, "CKM_AES_KEY_WRAP_PAD"),
    (MechanismType::AES_CBC, "CKM_AES_CBC"),
    (MechanismType::GENERIC_SECRET_KEY_GEN, "CKM_GENERIC_SECRET_KEY_GEN"),
    (MechanismType::SHA256_HMAC, "CKM_SHA256_HMAC"),
    (MechanismType::RSA_PKCS_KEY_PAIR_GEN, "CKM_RSA_PKCS_KEY_PAIR_GEN"),
    (MechanismType::RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP"),
    (MechanismType::RSA_PKCS, "CKM_RSA_PKCS"),
    (MechanismType::SHA256_RSA_PKCS, "CKM_SHA256_RSA_PKCS"),
    (MechanismType::SHA384_RSA_PKCS, "CKM_SHA384_RSA_PKCS"),
    (MechanismType::RSA_PKCS_PSS, "CKM_RSA_PKCS_PSS"),
    (MechanismType::SHA256_RSA_PKCS_PSS, "CKM_SHA256_RSA_PKCS_PSS"),
    (MechanismType::ECC_KEY_PAIR_GEN, "CKM_EC_KEY_PAIR_GEN"),
    (MechanismType::ECDSA, "CKM_ECDSA"),
    (MechanismType::ECDSA_SHA256, "CKM_ECDSA_SHA256"),
    (MechanismType::ECDSA_SHA384, "CKM_ECDSA_SHA384"),
    (MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, "CKM_EC_EDWARDS_KEY_PAIR_GEN"),
    (MechanismType::EDDSA, "CKM_EDDSA"),
];

/// Which token.
///
/// In text, `label:NAME`, `serial:NUMBER` or `slot:ID`; digits alone are the id of a slot, anything else is a
/// label. A label or serial is better than an id, which many modules give anew at every start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// The one token with this label.
    Label(String),
    /// The token with this serial number.
    Serial(String),
    /// The token in the slot with this id.
    Slot(u64),
}

impl FromStr for Token {
    type Err = KmsError;

    fn from_str(text: &str) -> Result<Self, KmsError> {
        let bad = || KmsError::Invalid { provider: PROVIDER, message: format!("slot {text:?}") };
        match text.split_once(':') {
            _ if text.is_empty() => Err(bad()),
            Some(("label", label)) => Ok(Self::Label(label.to_owned())),
            Some(("serial", serial)) => Ok(Self::Serial(serial.to_owned())),
            Some(("slot", id)) => id.parse().map(Self::Slot).map_err(|_| bad()),
            _ => Ok(text.parse().map_or_else(|_| Self::Label(text.to_owned()), Self::Slot)),
        }
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Label(label) => write!(f, "label {label:?}"),
            Self::Serial(serial) => write!(f, "serial {serial:?}"),
            Self::Slot(id) => write!(f, "slot {id}"),
        }
    }
}

/// The PIN of the token's user: zeroized, never shown, and given to the token once per process for as long as the
/// token refuses it, because a token counts wrong PINs and locks.
#[derive(Debug)]
pub struct Pin(Secret);

impl Pin {
    /// A PIN that the caller holds.
    #[must_use]
    pub fn new(pin: Secret) -> Self {
        Self(pin)
    }

    /// Reads the PIN from a file; one line end at the end is not part of it.
    ///
    /// # Errors
    /// [`KmsError::NotFound`] if there is no file; [`KmsError::Denied`] if anyone but its owner may use it, or this
    /// process may not; [`KmsError::Invalid`] if it is empty or longer than 256 bytes.
    pub fn from_file(path: &Path) -> Result<Self, KmsError> {
        let says = |message: &str| format!("PIN file {} {message}", path.display());
        let denied = |message: &str| KmsError::Denied { provider: PROVIDER, message: says(message) };
        let invalid = |message: &str| KmsError::Invalid { provider: PROVIDER, message: says(message) };
        let device = |e: io::Error| KmsError::Device {
            provider: PROVIDER,
            message: says("cannot be read"),
            source: Some(e.into()),
        };
        let file = fs::File::open(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                KmsError::NotFound { provider: PROVIDER, message: says("does not exist") }
            }
            io::ErrorKind::PermissionDenied => denied("may not be read by this process"),
            _ => device(e),
        })?;
        if file.metadata().map_err(device)?.mode() & 0o077 != 0 {
            return Err(denied("may be used by others; chmod 0600 it"));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PIN + 8));
        file.take(MAX_PIN as u64 + 3).read_to_end(&mut bytes).map_err(device)?;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let pin = line.strip_suffix(b"\r").unwrap_or(line);
        if pin.is_empty() || pin.len() > MAX_PIN {
            return Err(invalid("must hold one line of 1 to 256 bytes"));
        }
        Ok(Self(Secret::new(pin.to_vec())))
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

const MAX_PIN: usize = 256;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_named_by_label_serial_or_slot() {
        for (text, token) in [
            ("label:a:b", Token::Label("a:b".into())),
            ("serial:00ff", Token::Serial("00ff".into())),
            ("slot:7", Token::Slot(7)),
            ("7", Token::Slot(7)),
            ("my token", Token::Label("my token".into())),
        ] {
            assert_eq!(text.parse::<Token>().unwrap(), token);
        }
        assert!("slot:x".parse::<Token>().is_err() && "".parse::<Token>().is_err());
    }

    #[test]
    fn a_pin_comes_from_a_private_file_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        fs::write(&path, "canary\r\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Pin::from_file(&path), Err(KmsError::Denied { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let pin = Pin::from_file(&path).unwrap();
        assert_eq!(pin.expose(), b"canary");
        let config = Pkcs11Config::new("module", Token::Slot(0), pin, "root");
        assert!(!format!("{config:?}").contains("canary"));
        fs::write(&path, "\n").unwrap();
        assert!(matches!(Pin::from_file(&path), Err(KmsError::Invalid { .. })));
        assert!(matches!(Pin::from_file(&dir.path().join("none")), Err(KmsError::NotFound { .. })));
    }

    #[test]
    fn a_mechanism_to_forbid_must_be_one_that_is_used() {
        let config = || Pkcs11Config::new("m", Token::Slot(0), Pin::new(Secret::new(vec![1])), "root");
        assert!(config().forbid(MECHANISMS.iter().map(|(_, name)| *name)).is_ok());
        assert!(matches!(config().forbid(["CKM_AES_GMC"]), Err(KmsError::Unsupported { .. })));
    }
}
