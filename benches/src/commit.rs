//! The only `unsafe` of the driver: librdkafka's own commit, for the control loop.
//!
//! The safe wrapper (rdkafka 0.39) flushes first and there always waits 100 ms while anything is outstanding: a bare
//! loop through it would be no control, it would be forty times slower than what it stands for.

#![expect(unsafe_code, reason = "101 ms against 3 ms for each commit, see the module")]

use rdkafka::bindings;
use rdkafka::producer::{DefaultProducerContext, Producer, ThreadedProducer};

/// A commit that was not acknowledged; the loop ends, it does not repair.
#[derive(Debug, thiserror::Error)]
#[error("the transaction was not committed: code {0}")]
pub struct CommitError(i32);

/// Flushes and commits the open transaction.
pub fn commit(producer: &ThreadedProducer<DefaultProducerContext>, timeout_ms: i32) -> Result<(), CommitError> {
    // SAFETY: the pointer belongs to `producer`, which is borrowed for the call; librdkafka allows the call from any
    // thread. A returned error is ours: read once, destroyed once.
    let code = unsafe {
        let error = bindings::rd_kafka_commit_transaction(producer.client().native_ptr(), timeout_ms);
        if error.is_null() {
            return Ok(());
        }
        let code = bindings::rd_kafka_error_code(error);
        bindings::rd_kafka_error_destroy(error);
        code
    };
    Err(CommitError(code as i32))
}
