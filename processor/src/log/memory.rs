//! A log in memory that keeps the rules of Kafka which the engine relies on, and breaks where it is told to.
//!
//! Transactions per transactional id with epochs and fencing, read_committed visibility up to the last stable offset,
//! markers that take offsets, watermarks, deletion, compaction, and injected faults ([`Injected`], [`Rates`]).
//! The same calls in the same order give the same log. It refuses to know consumer groups, replication and
//! retention by time. Everything above this file sees only [`Log`]; tests hold the [`MemoryLog`] itself.

mod appender;
mod broker;
mod chance;
mod consumer;
mod faults;
mod partition;
mod producer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use self::broker::Broker;
use self::faults::Call;

pub use self::appender::MemoryAppender;
pub use self::chance::Chance;
pub use self::consumer::MemoryConsumer;
pub use self::faults::{Injected, Rates};
pub use self::partition::{StoredRecord, Tombstones};
pub use self::producer::MemoryProducer;

use super::{Log, TopicId, TopicPartition, Topics, Watermarks};
use crate::clock::SharedClock;
use crate::fault::{Fault, LogError};

/// Handle of a log in memory; clones share it.
#[derive(Clone)]
pub struct MemoryLog {
    inner: Arc<Inner>,
}

struct Inner {
    topics: Topics,
    clock: SharedClock,
    /// A poll without records waits for real; otherwise it only moves the clock.
    waits: bool,
    broker: Mutex<Broker>,
    changed: Condvar,
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("MemoryLog").field("topics", &self.inner.topics.names()).finish_non_exhaustive()
    }
}

impl MemoryLog {
    /// An empty log for threads: a poll waits for records, `clock` gives the log's time.
    pub fn new(topics: Topics, clock: SharedClock) -> MemoryLog {
        MemoryLog::with_waits(topics, clock, true)
    }

    /// An empty log for one thread: nothing ever waits. A poll that would wait pauses the (manual) clock instead, and
    /// meanwhile one of the commits and markers on their way arrives.
    pub fn simulated(topics: Topics, clock: SharedClock) -> MemoryLog {
        MemoryLog::with_waits(topics, clock, false)
    }

    fn with_waits(topics: Topics, clock: SharedClock, waits: bool) -> MemoryLog {
        let broker = Mutex::new(Broker::new(&topics));
        MemoryLog { inner: Arc::new(Inner { topics, clock, waits, broker, changed: Condvar::new() }) }
    }

    /// Time of records appended from now on, in milliseconds since 1970; `None`: the wall time of the clock.
    pub fn set_time(&self, time_ms: Option<i64>) {
        self.with(|broker| broker.time_ms = time_ms);
    }

    /// Appends as a client without transactions does, with the time that the log is to tell (`None`: its own).
    /// Returns the offset.
    pub fn append(
        &self,
        at: TopicPartition,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: Option<i64>,
    ) -> Result<i64, LogError> {
        let offset = self.with(|broker| {
            let timestamp_ms = timestamp_ms.unwrap_or_else(|| self.now_ms(broker));
            let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
            let record = StoredRecord { offset: -1, timestamp_ms, key, value, headers: Vec::new() };
            Ok(broker.partition_mut(at)?.append(record, None))
        });
        self.wake();
        offset
    }

    /// What a read_committed reader gets of a whole partition.
    pub fn read_committed(&self, at: TopicPartition) -> Result<Vec<StoredRecord>, LogError> {
        self.with(|broker| {
            let partition = broker.partition(at)?;
            let passed = partition.pass(partition.low(), |_| true);
            Ok(passed.records.into_iter().cloned().collect())
        })
    }

    /// All records of a partition, aborted and open ones included.
    pub fn read_uncommitted(&self, at: TopicPartition) -> Result<Vec<StoredRecord>, LogError> {
        self.with(|broker| Ok(broker.partition(at)?.uncommitted().cloned().collect()))
    }

    /// The latest record of a key whose commit is decided, also when readers do not see it yet because a marker is on
    /// its way. For checks that nothing is ahead of the log.
    pub fn last_decided(&self, at: TopicPartition, key: &[u8]) -> Option<StoredRecord> {
        self.with(|broker| broker.last_decided(at, key))
    }

    /// Deletes records below `offset`, at most all; returns the new low watermark.
    pub fn delete_below(&self, at: TopicPartition, offset: i64) -> Result<i64, LogError> {
        let low = self.with(|broker| Ok(broker.partition_mut(at)?.delete_below(offset)));
        self.wake();
        low
    }

    /// Compacts a partition: the latest record of each key stays, offsets do not change.
    pub fn compact(&self, at: TopicPartition, tombstones: Tombstones) -> Result<(), LogError> {
        self.with(|broker| {
            broker.partition_mut(at)?.compact(tombstones);
            Ok(())
        })
    }

    /// Transactional ids with an open transaction.
    pub fn open_transactions(&self) -> Vec<String> {
        self.with(|broker| broker.open_ids())
    }

    /// Aborts every open transaction as its time-out does: the owners find themselves fenced.
    pub fn expire_transactions(&self) {
        self.with(|broker| {
            for id in broker.open_ids() {
                broker.expire(&id);
            }
        });
        self.wake();
    }

    /// From now on an open transaction is aborted when a reader waits in vain and it is older than this. Only in a
    /// simulation; at first never.
    pub fn expire_after(&self, timeout: Duration) {
        self.with(|broker| broker.transaction_timeout = Some(timeout));
    }

    /// Initialises an id as another process would: its owner is fenced, its transaction aborted.
    pub fn fence(&self, transactional_id: &str) {
        self.with(|broker| broker.init(transactional_id));
        self.wake();
    }

    /// A fenced producer learns of it at `send` already (true) or only at `commit` (false, as at first).
    pub fn show_fence_at_send(&self, shows: bool) {
        self.with(|broker| broker.shows_fence_at_send = shows);
    }

    /// Largest key and value together that a producer may send; 1,000,000 at first.
    pub fn limit_record_bytes(&self, max: usize) {
        self.with(|broker| broker.max_record_bytes = max);
    }

    /// The next call of this kind fails, whoever makes it.
    pub fn inject(&self, fault: Injected) {
        self.with(|broker| broker.plan.script(None, fault));
    }

    /// The next call of this kind by this transactional id, or by the consumer of this name, fails.
    pub fn inject_for(&self, name: &str, fault: Injected) {
        self.with(|broker| broker.plan.script(Some(name.to_owned()), fault));
    }

    /// Number of injected faults that have not struck.
    pub fn injected(&self) -> usize {
        self.with(|broker| broker.plan.scripted())
    }

    /// From now on faults strike by chance.
    pub fn seed_faults(&self, seed: u64, rates: Rates) {
        self.with(|broker| broker.plan.seed(seed, rates));
    }

    /// No faults any more. What is on its way stays so.
    pub fn end_faults(&self) {
        self.with(|broker| broker.plan.clear());
    }

    /// Number of commits and markers on their way.
    pub fn late(&self) -> usize {
        self.with(|broker| broker.late())
    }

    /// One of those on their way arrives: the one at `index` modulo their number. False: there is none.
    pub fn deliver_late(&self, index: usize) -> bool {
        let delivered = self.with(|broker| broker.deliver(index));
        self.wake();
        delivered
    }

    /// All that is on its way arrives.
    pub fn deliver_all(&self) {
        while self.deliver_late(0) {}
    }

    /// Offset mirrored last for a partition.
    pub fn mirrored(&self, at: TopicPartition) -> Option<i64> {
        self.with(|broker| broker.mirrored.get(&at).copied())
    }

    /// Calls on producers that no caller may make: use after an unclear answer, send without begin, and so on.
    pub fn misuses(&self) -> Vec<String> {
        self.with(|broker| broker.misuses.clone())
    }

    /// A number that is the same for the same readable records at the same offsets and times.
    pub fn digest(&self) -> u64 {
        self.with(|broker| {
            let mut digest = Digest::default();
            for (at, partition) in broker.partitions() {
                digest.number(i64::from(at.topic.0));
                digest.number(i64::from(at.partition));
                digest.number(partition.high());
                for record in partition.pass(partition.low(), |_| true).records {
                    digest.number(record.offset);
                    digest.number(record.timestamp_ms);
                    digest.bytes(record.key.as_deref());
                    digest.bytes(record.value.as_deref());
                }
            }
            digest.0
        })
    }

    fn with<R>(&self, visit: impl FnOnce(&mut Broker) -> R) -> R {
        visit(&mut self.inner.broker.lock())
    }

    fn now_ms(&self, broker: &Broker) -> i64 {
        broker.time_ms.unwrap_or_else(|| self.inner.clock.wall_ms())
    }

    fn wake(&self) {
        self.inner.changed.notify_all();
    }

    fn pause(&self, time: Duration) {
        self.inner.clock.pause(time);
    }

    /// A reader waits in vain.
    fn pass_time(&self, timeout: Duration) {
        self.wait(timeout, |_| false);
    }

    /// Waits until there is something, at most `timeout`.
    fn wait(&self, timeout: Duration, is_there: impl Fn(&Broker) -> bool) {
        let mut broker = self.inner.broker.lock();
        if is_there(&broker) {
            return;
        }
        if self.inner.waits {
            self.inner.changed.wait_while_for(&mut broker, |broker| !is_there(broker), timeout);
        } else {
            drop(broker);
            self.inner.clock.pause(timeout);
            self.with(|broker| {
                broker.deliver(0);
                broker.expire_old(self.inner.clock.monotonic());
            });
        }
    }

    fn topic_name(&self, topic: TopicId) -> String {
        self.inner.topics.name(topic).to_owned()
    }
}

impl Log for MemoryLog {
    type Consumer = MemoryConsumer;
    type Producer = MemoryProducer;
    type Appender = MemoryAppender;

    fn topics(&self) -> &Topics {
        &self.inner.topics
    }

    fn consumer(&self, name: &str) -> Result<MemoryConsumer, LogError> {
        Ok(MemoryConsumer::new(self.clone(), name))
    }

    fn producer(&self, transactional_id: &str, _deadline: Duration) -> Result<MemoryProducer, Fault> {
        let epoch = self.with(|broker| match broker.plan.strike(Call::Init, transactional_id) {
            Some(Injected::InitUnavailable) => Err(Fault::Retry("broker is not available".to_owned())),
            Some(Injected::InitReplyLost) => {
                broker.init(transactional_id);
                Err(Fault::Retry("init timed out".to_owned()))
            }
            Some(_) => Err(Fault::Retry("init timed out".to_owned())),
            None => Ok(broker.init(transactional_id)),
        });
        self.wake();
        Ok(MemoryProducer::new(self.clone(), transactional_id, epoch?))
    }

    fn appender(&self, _name: &str) -> Result<MemoryAppender, LogError> {
        Ok(MemoryAppender::new(self.clone()))
    }

    fn watermarks(&self, at: TopicPartition) -> Result<Watermarks, LogError> {
        self.with(|broker| {
            if broker.plan.strike(Call::Watermarks, "").is_some() {
                return Err(LogError::Unavailable("injected at watermarks".to_owned()));
            }
            let partition = broker.partition(at)?;
            Ok(Watermarks { low: partition.low(), high: partition.high() })
        })
    }

    fn last_stable(&self, at: TopicPartition) -> Result<i64, LogError> {
        self.with(|broker| Ok(broker.partition(at)?.last_stable()))
    }

    fn delete_before(&self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        offsets.iter().try_for_each(|(at, offset)| self.delete_below(*at, *offset).map(|_| ()))
    }
}

/// FNV-1a over fields that tell their lengths.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn number(&mut self, number: i64) {
        number.to_be_bytes().into_iter().for_each(|byte| self.byte(byte));
    }

    fn bytes(&mut self, bytes: Option<&[u8]>) {
        self.number(bytes.map_or(-1, |bytes| bytes.len() as i64));
        bytes.unwrap_or_default().iter().for_each(|byte| self.byte(*byte));
    }
}
