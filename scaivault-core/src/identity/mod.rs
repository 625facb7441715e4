//! Who is asking.
//!
//! A [`TokenVerifier`] turns a bearer token into a [`Caller`], or refuses it. Its keys come from a
//! [`JwksSource`], such as [`HttpJwks`]; this room makes connections through [`crate::egress`] alone, reads no
//! global clock and issues no tokens.
//! An embedder who authenticates callers himself builds them with [`Caller::user`] and
//! [`Caller::service_account`].
//!
//! Only a token whose signature, issuer, audience and times hold becomes a caller, and what a claim says
//! is believed only then. Errors name the claim or the reason, never the token or a value in it.

mod caller;
mod certificate;
mod claims;
pub(crate) mod directory;
mod discovery;
mod introspection;
pub(crate) mod json;
mod jwks;
mod look;
mod token;
mod types;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    claims::Claims,
    discovery::Discovery,
    jwks::{KeyCache, KeySet},
    token::Signed,
};
pub use caller::{Caller, Whoami};
pub use certificate::{ClientCertificate, ClientIdentities};
pub use discovery::HttpJwks;
pub use introspection::{HttpIntrospection, Introspect};
pub use jwks::{JwksSource, StaticJwks};
pub(crate) use look::introspect;
pub use look::{Introspection, TokenSubject};
pub use token::{TokenSettings, TokenVerifier};
pub use types::{IdentityType, Role, Scope, Scopes};
