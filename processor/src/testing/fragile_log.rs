//! The log as one worker holds it: every call is a step at which the worker may die, before it or after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::fuse::Fuse;
use crate::fault::{Fault, LogError};
use crate::log::memory::{MemoryAppender, MemoryConsumer, MemoryLog, MemoryProducer};
use crate::log::{Log, LogConsumer, LogProducer, OutRecord, RecordBatch, TopicPartition, Topics, Watermarks};

/// Which worker initialised a transactional id last.
pub(super) type Initialised = Arc<Mutex<BTreeMap<String, String>>>;

/// See the module. Shards of a simulation run on it.
pub struct FragileLog {
    log: MemoryLog,
    fuse: Arc<Fuse>,
    worker: String,
    initialised: Initialised,
}

/// See [`LogConsumer`].
pub struct FragileConsumer {
    consumer: MemoryConsumer,
    fuse: Arc<Fuse>,
}

/// See [`LogProducer`].
pub struct FragileProducer {
    producer: MemoryProducer,
    fuse: Arc<Fuse>,
}

impl FragileLog {
    pub(super) fn new(log: MemoryLog, fuse: Arc<Fuse>, worker: &str, initialised: Initialised) -> FragileLog {
        FragileLog { log, fuse, worker: worker.to_owned(), initialised }
    }
}

impl Log for FragileLog {
    type Consumer = FragileConsumer;
    type Producer = FragileProducer;
    type Appender = MemoryAppender;

    fn topics(&self) -> &Topics {
        self.log.topics()
    }

    fn consumer(&self, name: &str) -> Result<FragileConsumer, LogError> {
        Ok(FragileConsumer { consumer: self.log.consumer(name)?, fuse: Arc::clone(&self.fuse) })
    }

    fn producer(&self, transactional_id: &str, deadline: Duration) -> Result<FragileProducer, Fault> {
        self.fuse.step("before init");
        let producer = self.log.producer(transactional_id, deadline);
        // Also after a time-out: it may have happened.
        self.initialised.lock().insert(transactional_id.to_owned(), self.worker.clone());
        self.fuse.step("after init");
        Ok(FragileProducer { producer: producer?, fuse: Arc::clone(&self.fuse) })
    }

    fn appender(&self, name: &str) -> Result<MemoryAppender, LogError> {
        self.log.appender(name)
    }

    fn watermarks(&self, at: TopicPartition) -> Result<Watermarks, LogError> {
        self.log.watermarks(at)
    }

    fn last_stable(&self, at: TopicPartition) -> Result<i64, LogError> {
        self.log.last_stable(at)
    }

    fn delete_before(&self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        self.fuse.step("before deletion");
        self.log.delete_before(offsets)
    }
}

impl LogConsumer for FragileConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        self.fuse.step("before assign");
        self.consumer.assign(partitions)
    }

    fn poll(
        &mut self,
        out: &mut RecordBatch,
        max_records: usize,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<(), LogError> {
        let polled = self.consumer.poll(out, max_records, max_bytes, timeout);
        self.fuse.step("after poll");
        polled
    }

    fn position(&mut self, at: TopicPartition) -> Result<Option<i64>, LogError> {
        self.consumer.position(at)
    }

    fn mirror(&mut self, positions: &[(TopicPartition, i64)]) {
        self.consumer.mirror(positions);
    }
}

impl LogProducer for FragileProducer {
    fn begin(&mut self) -> Result<(), Fault> {
        self.producer.begin()
    }

    fn send(&mut self, record: OutRecord<'_>) -> Result<(), Fault> {
        let sent = self.producer.send(record);
        self.fuse.step("after send");
        sent
    }

    fn commit(&mut self, deadline: Duration) -> Result<(), Fault> {
        self.fuse.step("before commit");
        let committed = self.producer.commit(deadline);
        self.fuse.step("after commit");
        committed
    }

    fn abort(&mut self, deadline: Duration) -> Result<(), Fault> {
        self.fuse.step("before abort");
        let aborted = self.producer.abort(deadline);
        self.fuse.step("after abort");
        aborted
    }

    fn last_offset(&self, at: TopicPartition) -> Option<i64> {
        self.producer.last_offset(at)
    }
}
