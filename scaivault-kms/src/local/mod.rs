//! The software provider: the root key is a file, the wrap is AES-256-GCM in this process.
//!
//! For embedded use and development. It keeps every promise but one: whoever can read the file has the
//! root key, which is why a file that others may read is refused.

mod config;
mod sign;
mod wrap;

pub use config::KeyFile;
pub use sign::SoftwareKey;
pub use wrap::LocalProvider;

/// The name of this provider in errors and wraps.
pub(crate) const PROVIDER: &str = "local";
