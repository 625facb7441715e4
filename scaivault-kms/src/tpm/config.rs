use std::time::Duration;

use super::error::invalid;
use crate::{KmsError, Secret};

/// What a [`TpmProvider`](super::TpmProvider) needs to know.
#[derive(Debug)]
pub struct TpmConfig {
    pub(super) tcti: String,
    pub(super) label: String,
    pub(super) root: RootKey,
    pub(super) owner_auth: Option<Secret>,
    pub(super) pcrs: Vec<u8>,
    pub(super) queue: usize,
    pub(super) deadline: Duration,
}

/// Where the root key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootKey {
    /// Derived from the TPM's owner seed and the label, at every start. There is nothing to make and nothing to lose
    /// but the seed, which clearing the TPM changes.
    Derived,
    /// At this persistent handle (0x81000000–0x817FFFFF), where
    /// [`create_root`](crate::KeyProvider::create_root) puts it.
    Persistent(u32),
}

impl TpmConfig {
    /// The derived root key of that label, in the TPM behind `tcti`: `device:/dev/tpmrm0` (the kernel's resource
    /// manager, which is to be preferred over `/dev/tpm0`), `swtpm:host=…,port=…`, and whatever else libtss2 knows.
    /// 64 requests may wait, each for at most 30 seconds: a TPM is slow.
    #[must_use]
    pub fn new(tcti: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            tcti: tcti.into(),
            label: label.into(),
            root: RootKey::Derived,
            owner_auth: None,
            pcrs: Vec::new(),
            queue: 64,
            deadline: Duration::from_secs(30),
        }
    }

    /// Where the root key is.
    #[must_use]
    pub fn root(mut self, root: RootKey) -> Self {
        self.root = root;
        self
    }

    /// The authorisation of the owner hierarchy, where it has one.
    #[must_use]
    pub fn owner_auth(mut self, auth: Secret) -> Self {
        self.owner_auth = Some(auth);
        self
    }

    /// Binds what is wrapped from now on to what these PCRs (0–23, of the SHA-256 bank) hold at that time: it opens as
    /// long as they hold the same. After a change of what they measure, such as firmware, it opens no more: have
    /// another root before.
    ///
    /// # Errors
    /// [`KmsError::Invalid`] for another number, or for none.
    pub fn pcrs(mut self, pcrs: impl IntoIterator<Item = u8>) -> Result<Self, KmsError> {
        self.pcrs = pcrs.into_iter().collect();
        self.pcrs.sort_unstable();
        self.pcrs.dedup();
        if self.pcrs.is_empty() || self.pcrs.iter().any(|pcr| *pcr > 23) {
            return Err(invalid("PCRs are named by numbers from 0 to 23"));
        }
        Ok(self)
    }

    /// How many requests may wait for the TPM; one more is refused as unavailable.
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
}
