//! A stream processor on Kafka: tables from one compacted changelog per task, exactly-once by Kafka transactions,
//! committed-only local stores, queries by partition.
//!
//! The engine knows nothing of what runs on it: see [`topology::Application`] for what a user supplies and
//! [`instance::Instance`] for how it runs. The order of the commit path is in [`shard`], and it is the correctness
//! argument; `ARCHITECTURE.md` follows one record through it.

pub mod clock;
pub mod compare;
pub mod context;
pub mod control;
pub mod dead_letter;
pub mod fault;
pub mod formats;
mod history;
pub mod instance;
pub mod layout;
pub mod log;
pub mod membership;
pub mod outbox;
mod ownership;
pub mod peer;
pub mod policy;
pub mod probe;
mod prune;
pub mod query;
mod restore;
pub mod shard;
mod stage;
mod standby;
pub mod stores;
pub mod task;
pub mod testing;
pub mod topology;
pub mod transaction;
