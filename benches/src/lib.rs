//! Load and measurements, for the bank as it runs (`load commands`, `load graphql`) and for the bare transactional
//! copy loop beside it (`load loop`), what a stack costs when nothing happens (`load idle`), and what a watcher costs who
//! was away (`load resume`).
//!
//! Open loop: an event is due at its time whether or not earlier ones were answered, and its latency counts from that
//! time, so a stall is seen by everyone who would have met it. Nothing here knows how the processor works: it speaks
//! the contract's topics and GraphQL, reads /proc and /metrics, and ends every run of the bank under load with `processor audit`.
//!
//! mix, schedule, latency, report: pure. stack, usage, metrics, audit: what surrounds a run. kafka, probe: the open
//! loop over Kafka, used by commands and control. graphql: the open loop over HTTP. resume: over the query protocol.

pub mod accounts;
pub mod audit;
pub mod commands;
pub mod control;
pub mod graphql;
pub mod idle;
pub mod kafka;
pub mod latency;
pub mod metrics;
pub mod mix;
pub mod options;
pub mod probe;
pub mod report;
pub mod resume;
pub mod schedule;
pub mod session;
pub mod stack;
pub mod usage;
pub mod worker;
