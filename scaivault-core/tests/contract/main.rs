//! What the vault promises, written once and run over SQLite and PostgreSQL.
//!
//! PostgreSQL needs a server: `SCAIVAULT_TEST_POSTGRES` holds the URL of a superuser on one that may be
//! filled with scratch databases. Without it that half says that it was skipped.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bench;

mod access;
mod anchor;
mod anchors;
mod attacks;
mod audit;
mod ca_keys;
mod ca_life;
mod ca_origins;
mod conditions;
mod crls;
mod envelope;
mod epoch;
mod fence;
mod identities;
mod inventory;
mod issuing;
mod keys;
mod lifecycle;
mod lists;
mod look;
mod partner;
mod past;
mod pki;
mod policies;
mod proof;
mod revocation;
mod roots;
mod secrets;
mod tenancy;
mod trust;
mod upgrade;
mod validate;
