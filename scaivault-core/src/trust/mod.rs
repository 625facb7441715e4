//! Whose proofs of identity a tenant exchanges for tokens of its own: the nouns of [`Vault::trusts`](crate::Vault::trusts)
//! and [`Vault::exchange`](crate::Vault::exchange).
//!
//! A workload shows what its platform gave it: an OpenID Connect token of Kubernetes, GitHub or Google, or a signed request
//! to AWS. A trust configuration says which of them are believed, what they have to say, and which service account they
//! become, within which scopes and paths. The token that is given out is minted elsewhere, by a [`TokenMinter`].
//!
//! Whoever is refused learns that and nothing more; the reason is in the audit trail of the tenant.

mod aws;
mod bound;
mod exchange;
mod keys;
mod ops;
mod records;
mod scaikey;
pub(crate) mod store;
mod types;

#[cfg(test)]
mod tests;

pub use exchange::{
    ExchangeRequest, ExchangeSettings, ExchangeWrite, Exchanged, MintRequest, Minted, Origin, TokenMinter,
};
pub(crate) use exchange::{Exchanger, exchange};
pub use keys::{Outside, Posted};
pub use ops::Trusts;
pub use records::Trust;
pub use scaikey::ScaiKeyMinter;
pub use types::{TrustDocument, TrustKind, TrustWrite};
