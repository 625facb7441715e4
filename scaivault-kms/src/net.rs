use std::{error::Error as StdError, io};

/// Whether TLS is what failed, somewhere below.
pub(crate) fn of_tls(error: &(dyn StdError + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    // An `io::Error` shows the source of what it holds, not what it holds.
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    held.is_some_and(|held| of_tls(held)) || error.source().is_some_and(of_tls)
}
