//! The only `unsafe`: librdkafka's own commit, for the engine and for the control loop of the benches.
//!
//! The safe wrapper (rdkafka 0.39) flushes first and there always waits 100 ms while anything is outstanding; measured,
//! a commit takes 101 ms through it and 3 ms through this call, which flushes by itself.

#![expect(unsafe_code, reason = "measured: 101 ms against 3 ms for each commit, see the module")]

use std::ffi::CStr;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;

use crate::fault::{self, Fault};

/// Flushes and commits the open transaction of this client; blocks up to `deadline`.
///
/// The events of the client must be served by another thread meanwhile, as `served.rs` does.
pub fn commit_transaction<C: ClientContext>(client: &Client<C>, deadline: Duration) -> Result<(), Fault> {
    let timeout_ms = i32::try_from(deadline.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client pointer belongs to `client` and stays valid while it is borrowed; librdkafka allows the call
    // from any thread. A returned error is ours: it is read while it lives (its string is NUL-terminated and owned by
    // it) and destroyed exactly once.
    let failure = unsafe {
        let error = bindings::rd_kafka_commit_transaction(client.native_ptr(), timeout_ms);
        if error.is_null() {
            None
        } else {
            let code = RDKafkaErrorCode::from(bindings::rd_kafka_error_code(error));
            let text = CStr::from_ptr(bindings::rd_kafka_error_string(error)).to_string_lossy().into_owned();
            let requires_abort = bindings::rd_kafka_error_txn_requires_abort(error) != 0;
            bindings::rd_kafka_error_destroy(error);
            Some((code, text, requires_abort))
        }
    };
    match failure {
        None => Ok(()),
        Some((code, text, requires_abort)) => Err(fault::of_commit(code, requires_abort, &text)),
    }
}
