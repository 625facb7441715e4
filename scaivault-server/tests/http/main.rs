//! The HTTP plumbing over real sockets, with an application of a few rows.

mod bodies;
mod requests;
mod stopping;
mod support;
mod tls;
