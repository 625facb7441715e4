//! What is to be told to others: events, written to the outbox by the transaction of the change itself.

pub(crate) mod store;
mod types;

pub(crate) use types::{Event, EventType};
