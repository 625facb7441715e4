//! HTTP: one table of routes, strict decoding, one form of error, and the connections themselves.
//!
//! Nothing in here knows a verb of the vault.

pub mod json;
pub mod origin;
pub mod problem;
pub mod query;
pub mod router;
pub mod serve;
pub mod stop;
pub mod tls;

mod body;
mod connection;
mod exchange;
mod fault;
mod path;
mod reply;
mod request;

pub use reply::Reply;
pub use request::{Head, Request, RequestId};
