//! The HTTP plumbing over real sockets, with an application of a few rows.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod bodies;
mod requests;
mod stopping;
mod support;
mod tls;
