//! Passwords as PostgreSQL stores them (RFC 5803), so that a password never stands in a statement, which a server
//! may log.

use std::{fmt, num::NonZeroU32};

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::fence::Verifiers;
use crate::{Code, Error, Random, Result};

/// The passwords of the two roles that log in to PostgreSQL; a role without one has to prove who it is in
/// another way (`pg_hba.conf`). Used for roles that are yet to be made; those of others stay.
#[derive(Clone, Default)]
pub struct RolePasswords {
    /// Of `scaivault_owner`, who owns the schema and migrates.
    pub owner: Option<Zeroizing<String>>,
    /// Of `scaivault_app`, as whom the vault is served.
    pub app: Option<Zeroizing<String>>,
}

impl fmt::Debug for RolePasswords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RolePasswords(redacted)")
    }
}

impl RolePasswords {
    pub(crate) fn verifiers(&self, random: &dyn Random) -> Result<Verifiers> {
        let make = |password: &Option<Zeroizing<String>>| {
            password.as_ref().map(|password| verifier(password, random)).transpose()
        };
        Ok(Verifiers { owner: make(&self.owner)?, app: make(&self.app)? })
    }
}

const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

fn verifier(password: &str, random: &dyn Random) -> Result<String> {
    // Anything else would have to be normalised first, as the client that sends it does.
    if password.is_empty() || !password.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err(Error::new(Code::InvalidRequest, "the password of a role must be printable ASCII"));
    }
    let mut salt = [0; 16];
    random.fill(&mut salt)?;
    Ok(with_salt(password, &salt))
}

fn with_salt(password: &str, salt: &[u8]) -> String {
    let mut salted = Zeroizing::new([0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password.as_bytes(), salted.as_mut());
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_ref());
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let text = |bytes: &[u8]| STANDARD.encode(bytes);
    format!("SCRAM-SHA-256${ITERATIONS}:{}${}:{}", text(salt), text(stored.as_ref()), text(server.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_the_one_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(
            with_salt("pencil", &salt),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }
}
