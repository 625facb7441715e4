use std::time::Duration;

use crate::Secret;

/// What a [`TpmProvider`](super::TpmProvider) needs to know.
#[derive(Debug)]
pub struct TpmConfig {
    pub(super) tcti: String,
    pub(super) label: String,
    pub(super) root: RootKey,
    pub(super) owner_auth: Option<Secret>,
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
