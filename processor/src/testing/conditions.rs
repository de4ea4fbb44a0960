//! How hard a simulation makes it for a topology.

use crate::log::memory::Rates;

/// What happens by chance. Numbers are per thousand: of steps, or of calls where that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Instances, each with a disk of its own.
    pub instances: usize,
    /// Faults of the log, per thousand calls.
    pub log: Rates,
    /// Failed writes of a store, per thousand writes.
    pub store_faults: u32,
    /// A worker dies: at once, or at one of its next steps.
    pub deaths: u32,
    /// A worker starts for a shard that has one already, on another instance.
    pub takeovers: u32,
    /// A store that no worker uses is lost.
    pub lost_stores: u32,
    /// A shard without a worker gets one.
    pub restarts: u32,
    /// Open transactions time out.
    pub expiries: u32,
    /// A changelog partition is compacted.
    pub compactions: u32,
    /// Inputs that carry work in flight are deleted below the committed positions.
    pub prunings: u32,
}

impl Conditions {
    /// One instance, nothing goes wrong.
    pub const CALM: Conditions = Conditions {
        instances: 1,
        log: Rates::NONE,
        store_faults: 0,
        deaths: 0,
        takeovers: 0,
        lost_stores: 0,
        restarts: 1000,
        expiries: 0,
        compactions: 0,
        prunings: 0,
    };

    /// Two instances, everything goes wrong now and then.
    pub const ROUGH: Conditions = Conditions {
        instances: 2,
        log: Rates::ROUGH,
        store_faults: 10,
        deaths: 60,
        takeovers: 15,
        lost_stores: 10,
        restarts: 400,
        expiries: 5,
        compactions: 20,
        prunings: 30,
    };

    /// A worker may fail to read who claimed its shard.
    pub(super) fn reads_fail(&self) -> bool {
        self.log.poll + self.log.watermarks + self.log.assign + self.store_faults > 0
    }
}
