//! Driving a topology in a simulation: the real shard code on a log, stores and a clock in memory.
//!
//! For tests of any user of the engine: give [`Simulation`] an application and a seed, append input to its log, step
//! it, drain it, and check what came out. Workers die at every step, logs and disks fail, owners are fenced; a seed
//! that breaks a rule is printed and replays ([`for_each_seed`]). Nothing here is part of a running processor.

mod conditions;
mod disk;
mod expected;
mod fragile_log;
mod fuse;
mod manual_clock;
mod rules;
mod seeds;
mod simulation;
mod turns;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use schemas::{AvroRecord, Encoder, SchemaCache, records};

pub use self::conditions::Conditions;
pub use self::fragile_log::{FragileConsumer, FragileLog, FragileProducer};
pub use self::manual_clock::ManualClock;
pub use self::seeds::for_each_seed;
pub use self::simulation::{Breach, Simulation};
use crate::shard::Codecs;

/// Codecs of the engine without a registry. The ids 1 and 2 are taken; `writers` adds those of the application's own
/// schemas, as (id, schema in JSON).
pub fn codecs(writers: &[(u32, &str)]) -> Result<Arc<Codecs>, String> {
    let own = [(1, records::Position::schema_json()), (2, records::Owner::schema_json())];
    let all: Vec<(u32, &str)> = own.into_iter().chain(writers.iter().copied()).collect();
    let schemas = SchemaCache::fixed(&all)?;
    Ok(Arc::new(Codecs { position: Encoder::new(1), owner: Encoder::new(2), schemas }))
}
