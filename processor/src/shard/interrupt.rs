//! Why a shard leaves its loop, and how it ends. What follows from each is decided in one place, `Shard::recover`.

use state_store::StoreError;

use crate::fault::Fault;
use crate::topology::ProcessError;

/// Why a shard cannot simply go on.
#[derive(Debug)]
pub enum Interrupt {
    /// The instance is told to do something else for the shard, or ends.
    Released,
    /// Another producer has initialised its transactional id.
    Fenced(String),
    /// Unknown outcome or broken client: initialise again.
    Retake(String),
    /// A store cannot be trusted: wipe it, restore it.
    Corrupt {
        /// Whose.
        partition: i32,
        /// What was seen.
        reason: String,
    },
    /// A store failed, and may refuse everything until it is opened anew, which the others do not need.
    Reopen {
        /// Whose.
        partition: i32,
        /// What was said.
        reason: String,
    },
    /// Going on would lose or make data.
    Stop(String),
}

/// How a shard ended.
#[derive(Debug)]
pub enum Exit {
    /// It was asked to.
    Shutdown,
    /// Another instance owns it.
    NotOwner(String),
    /// It cannot go on without an operator.
    Stopped(String),
}

pub(crate) fn interrupt_of(fault: Fault) -> Interrupt {
    match fault {
        Fault::Fenced(reason) => Interrupt::Fenced(reason),
        // After a certain abort the same producer could go on; taking the one way that is always right keeps the
        // number of states small, and aborts are rare.
        Fault::Abort(reason) | Fault::Retry(reason) | Fault::Discard(reason) => Interrupt::Retake(reason),
    }
}

pub(crate) fn interrupt_of_store(partition: i32, error: StoreError) -> Interrupt {
    match error {
        StoreError::Corrupt { .. } => Interrupt::Corrupt { partition, reason: error.to_string() },
        // It goes on by itself once there is space, and its rows can be read meanwhile.
        StoreError::Full { .. } => Interrupt::Retake(format!("store of partition {partition}: {error}")),
        error => Interrupt::Reopen { partition, reason: error.to_string() },
    }
}

pub(crate) fn interrupt_of_process(partition: i32, error: ProcessError) -> Interrupt {
    match error {
        ProcessError::Store(error) => interrupt_of_store(partition, error),
        error => Interrupt::Stop(format!("partition {partition}: {error}")),
    }
}
