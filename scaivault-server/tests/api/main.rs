//! The whole API over real sockets: the routing table, a vault on SQLite and tokens of the development issuer.
//! The modules mirror the tree of the URLs; `errors`, `refusals` and `tenants` go across it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod anchors;
mod audit;
mod auth;
mod aws;
mod canary;
mod certificates;
mod contract;
mod errors;
mod exchange;
mod health;
mod identity;
mod issuing;
mod limits;
mod metrics;
mod pki;
mod platforms;
mod policies;
mod refusals;
mod scaikey;
mod secrets;
mod support;
mod tenancy;
mod tenants;
mod world;
