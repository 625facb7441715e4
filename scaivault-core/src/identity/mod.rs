//! Who is asking.
//!
//! A [`TokenVerifier`] turns a bearer token into a [`Caller`], or refuses it. Its keys come from a
//! [`JwksSource`]; this room makes no connection of its own, reads no global clock and issues no tokens.
//! An embedder who authenticates callers himself builds them with [`Caller::user`] and
//! [`Caller::service_account`].
//!
//! Only a token whose signature, issuer, audience and times hold becomes a caller, and what a claim says
//! is believed only then. Errors name the claim or the reason, never the token or a value in it.

mod caller;
mod claims;
pub(crate) mod directory;
mod json;
mod jwks;
mod token;
mod types;

#[cfg(test)]
mod tests;

pub use caller::{Caller, Whoami};
pub use jwks::{JwksSource, StaticJwks};
pub use token::{TokenSettings, TokenVerifier};
pub use types::{IdentityType, Role, Scope, Scopes};
