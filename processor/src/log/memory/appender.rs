//! The writer of the in-memory log that knows no transactions.

use std::time::Duration;

use super::MemoryLog;
use crate::fault::LogError;
use crate::log::{LogAppender, TopicPartition};

/// See [`LogAppender`].
#[derive(Debug)]
pub struct MemoryAppender {
    log: MemoryLog,
}

impl MemoryAppender {
    pub(super) fn new(log: MemoryLog) -> MemoryAppender {
        MemoryAppender { log }
    }
}

impl LogAppender for MemoryAppender {
    fn append(
        &mut self,
        at: TopicPartition,
        key: &[u8],
        value: Option<&[u8]>,
        _deadline: Duration,
    ) -> Result<(), LogError> {
        self.log.append(at, Some(key), value, None).map(|_| ())
    }
}
