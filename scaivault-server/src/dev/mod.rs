//! Development mode: everything in one folder, with an identity issuer of its own. Reached by the `dev`
//! subcommand alone, and bound to loopback only, so that it cannot be production by accident.

mod issuer;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use issuer::{Claims, DevIssuer, IssuerError};
use scaivault_kms::{
    KmsError,
    local::{KeyFile, LocalProvider},
};

/// The tenant that development tokens speak for unless told otherwise.
pub const TENANT: &str = "tnt_dev";
/// The partner of every development tenant.
pub const PARTNER: &str = "ptn_dev";

/// The folder that holds everything: `vault.db`, `root.key` and `issuer.key`.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Removed with the process, if nobody named a folder.
    _temporary: Option<tempfile::TempDir>,
}

impl DataDir {
    /// Opens the folder, made with mode 0700 if it is not there; a temporary one if none is named.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(named: Option<&Path>) -> io::Result<Self> {
        let Some(path) = named else {
            let temporary = tempfile::Builder::new().prefix("scaivault-dev-").tempdir()?;
            return Ok(Self { path: temporary.path().to_owned(), _temporary: Some(temporary) });
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self { path: path.to_owned(), _temporary: None })
    }

    /// The SQLite file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join("vault.db")
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The software root key: made with a new folder, never where something was sealed already (`sealed` says
    /// whether the database holds keys), since what is missing then is the key of that.
    ///
    /// # Errors
    /// [`KmsError`] if the file is missing beside a database, or cannot be used.
    pub fn root_key(&self, sealed: bool) -> Result<Arc<LocalProvider>, KmsError> {
        let path = self.path.join("root.key");
        let key = match KeyFile::open(&path) {
            Err(KmsError::NotFound { .. }) if !sealed => KeyFile::create(&path)?,
            opened => opened?,
        };
        Ok(Arc::new(LocalProvider::new(key)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_root_key_is_made_once_and_never_beside_a_database() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(Some(&parent.path().join("data"))).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(dir.root_key(true), Err(KmsError::NotFound { .. })), "another database's key");
        dir.root_key(false).unwrap();
        let bytes = fs::read(dir.path().join("root.key")).unwrap();
        dir.root_key(true).unwrap();
        assert_eq!(fs::read(dir.path().join("root.key")).unwrap(), bytes);

        fs::remove_file(dir.path().join("root.key")).unwrap();
        assert!(matches!(dir.root_key(true), Err(KmsError::NotFound { .. })));
        assert!(!dir.path().join("root.key").exists());
    }
}
