//! Driving a topology in a simulation: the real shard code on a log, a store and a clock in memory.

mod manual_clock;

pub use self::manual_clock::ManualClock;
