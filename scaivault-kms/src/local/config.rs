use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use aws_lc_rs::digest::{Context as Digest, SHA256};
use zeroize::Zeroizing;

use super::PROVIDER;
use crate::{KmsError, SecretKey};

/// The root key of the software provider, from a file of 32 raw bytes or 64 hexadecimal digits.
#[derive(Debug)]
pub struct KeyFile {
    key: SecretKey,
    fingerprint: String,
}

impl KeyFile {
    /// A fresh key that is kept nowhere: what it wraps is lost with the process.
    ///
    /// # Errors
    /// [`KmsError::Device`] if the random generator fails.
    pub fn generate() -> Result<Self, KmsError> {
        Ok(Self::from_key(SecretKey::generate()?))
    }

    /// Uses a key that the caller holds.
    #[must_use]
    pub fn from_key(key: SecretKey) -> Self {
        // A label of its own, so that the fingerprint can be shown without helping anybody to guess.
        let mut digest = Digest::new(&SHA256);
        digest.update(b"scaivault/local-root-key/fingerprint/1");
        digest.update(key.expose());
        let fingerprint = hex::encode(&digest.finish().as_ref()[..8]);
        Self { key, fingerprint }
    }

    /// Creates the file with a fresh key, mode 0600, and reads it back. The only place where the
    /// software provider makes a root key; an existing file is never overwritten.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] if the file exists; [`KmsError::Device`] if it cannot be written.
    pub fn create(path: &Path) -> Result<Self, KmsError> {
        let key = SecretKey::generate()?;
        let text = Zeroizing::new(format!("{}\n", &*Zeroizing::new(hex::encode(key.expose()))));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
            |e| match e.kind() {
                io::ErrorKind::AlreadyExists => invalid(path, "exists already and is not overwritten"),
                _ => device(path, "cannot be created", e),
            },
        )?;
        file.write_all(text.as_bytes()).map_err(|e| device(path, "cannot be written", e))?;
        file.sync_all().map_err(|e| device(path, "cannot be flushed", e))?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            // The name must survive a crash as well, or what the key wraps is lost.
            let dir = fs::File::open(dir).map_err(|e| device(path, "its folder cannot be opened", e))?;
            dir.sync_all().map_err(|e| device(path, "its folder cannot be flushed", e))?;
        }
        Self::open(path)
    }

    /// Reads the key.
    ///
    /// # Errors
    /// [`KmsError::NotFound`] if there is no file; [`KmsError::Denied`] if anyone but its owner may read
    /// or write it, or this process may not; [`KmsError::Invalid`] if it does not hold a 32-byte key.
    pub fn open(path: &Path) -> Result<Self, KmsError> {
        let file = fs::File::open(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => KmsError::NotFound {
                provider: PROVIDER,
                message: format!("no key file at {}", path.display()),
            },
            io::ErrorKind::PermissionDenied => denied(path, "may not be read by this process"),
            _ => device(path, "cannot be opened", e),
        })?;
        let meta = file.metadata().map_err(|e| device(path, "cannot be examined", e))?;
        if !meta.is_file() {
            return Err(invalid(path, "is not a regular file"));
        }
        if meta.mode() & 0o077 != 0 {
            let mode = meta.mode() & 0o777;
            return Err(denied(path, &format!("has mode {mode:04o}, so others may use it; chmod 0600 it")));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(128));
        file.take(128).read_to_end(&mut bytes).map_err(|e| device(path, "cannot be read", e))?;
        let key = SecretKey::from_slice(&bytes).or_else(|| {
            let decoded = Zeroizing::new(hex::decode(bytes.trim_ascii()).ok()?);
            SecretKey::from_slice(&decoded)
        });
        key.map(Self::from_key).ok_or_else(|| invalid(path, "must hold 32 bytes, or 64 hexadecimal digits"))
    }

    /// A short public name of the key, derived from it by SHA-256.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn key(&self) -> &SecretKey {
        &self.key
    }
}

fn denied(path: &Path, message: &str) -> KmsError {
    KmsError::Denied { provider: PROVIDER, message: format!("key file {} {message}", path.display()) }
}

fn invalid(path: &Path, message: &str) -> KmsError {
    KmsError::Invalid { provider: PROVIDER, message: format!("key file {} {message}", path.display()) }
}

fn device(path: &Path, message: &str, source: io::Error) -> KmsError {
    KmsError::Device {
        provider: PROVIDER,
        message: format!("key file {} {message}", path.display()),
        source: Some(source.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_created_file_is_private_and_opens_to_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        let made = KeyFile::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(KeyFile::open(&path).unwrap().key.ct_eq(&made.key));
        assert!(matches!(KeyFile::create(&path), Err(KmsError::Invalid { .. })), "never overwritten");
    }

    #[test]
    fn a_file_that_others_may_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        KeyFile::create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = KeyFile::open(&path).unwrap_err();
            assert!(matches!(error, KmsError::Denied { .. }), "{mode:o}");
            assert!(error.to_string().contains("chmod 0600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(KeyFile::open(&path).is_ok());
    }

    #[test]
    fn raw_bytes_open_and_other_contents_are_refused_without_showing_them() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        assert!(KeyFile::open(&write("raw", &[7; 32])).is_ok());
        for (name, bytes) in
            [("empty", &b""[..]), ("short", &[7; 31]), ("text", b"canary-not-a-key"), ("long", &[7; 200])]
        {
            let error = KeyFile::open(&write(name, bytes)).unwrap_err();
            assert!(matches!(error, KmsError::Invalid { .. }), "{name}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        assert!(matches!(KeyFile::open(&dir.path().join("none")), Err(KmsError::NotFound { .. })));
    }
}
