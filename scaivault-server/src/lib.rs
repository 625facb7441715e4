//! The ScaiVault HTTP server: decode a request, call one verb of the vault, encode its answer.
//!
//! It holds no SQL, takes no policy decision and does no cryptography beyond TLS and the tokens of `dev`.
//! Everything is built around one [table of routes](http::router) and an [`App`](http::router::App).

pub mod app;
pub mod commands;
pub mod config;
pub mod dev;
pub mod egress;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod roots;
pub mod routes;
pub mod scaikey;
