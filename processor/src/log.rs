//! The log: what the engine needs of Kafka, and nothing more.
//!
//! Two implementations: [`kafka`] over librdkafka, and [`memory`] with transactions, fencing, isolation, markers that
//! take offsets and injected faults. The shard runs unchanged on both. The trait refuses to know consumer groups:
//! partitions are assigned by hand and positions are part of the state.

pub mod kafka;
pub mod memory;

use std::time::Duration;

use crate::fault::{Fault, LogError};

/// A topic of the topology, as an index into [`Topics`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u16);

/// The topics of one topology with their real names (prefix included). All are co-partitioned, but for the control topic.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    names: Vec<String>,
    /// Partitions of each topic.
    pub partitions: i32,
}

impl Topics {
    /// No topics yet, for `partitions` partitions each.
    pub fn new(partitions: i32) -> Topics {
        Topics { names: Vec::new(), partitions }
    }

    /// The id of `name`, which is added when it is new.
    pub fn add(&mut self, name: &str) -> TopicId {
        if let Some(id) = self.find(name) {
            return id;
        }
        self.names.push(name.to_owned());
        TopicId((self.names.len() - 1) as u16)
    }

    /// The id of `name`.
    pub fn find(&self, name: &str) -> Option<TopicId> {
        self.names.iter().position(|known| known == name).map(|index| TopicId(index as u16))
    }

    /// The name of a topic of this topology.
    pub fn name(&self, topic: TopicId) -> &str {
        &self.names[usize::from(topic.0)]
    }

    /// All names, in the order of their ids.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of topics.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True without topics.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: i32,
}

/// First offset that exists and the offset after the last one, markers and open transactions included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset that still exists.
    pub low: i64,
    /// Offset that the next record will get.
    pub high: i64,
}

/// A record that was read. Borrowed from a [`RecordBatch`].
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it was read.
    pub topic: TopicId,
    /// Where it was read.
    pub partition: i32,
    /// Where it was read.
    pub offset: i64,
    /// Milliseconds since 1970 as the broker tells them.
    pub timestamp_ms: i64,
    /// `None`: null key.
    pub key: Option<&'a [u8]>,
    /// `None`: null value (a tombstone in a compacted topic).
    pub value: Option<&'a [u8]>,
}

impl Record<'_> {
    /// Where the record was read.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: self.partition }
    }
}

#[derive(Clone, Copy, Debug)]
struct Head {
    topic: TopicId,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    start: u32,
    /// Length, or -1 for null.
    key_len: i32,
    value_len: i32,
}

/// Records of one poll, keys and values in one buffer that is reused.
#[derive(Debug, Default)]
pub struct RecordBatch {
    arena: Vec<u8>,
    heads: Vec<Head>,
}

impl RecordBatch {
    /// Appends a copy of a record.
    pub fn push(&mut self, record: Record<'_>) {
        let start = self.arena.len() as u32;
        let length = |part: Option<&[u8]>| part.map_or(-1, |bytes| bytes.len() as i32);
        self.arena.extend_from_slice(record.key.unwrap_or_default());
        self.arena.extend_from_slice(record.value.unwrap_or_default());
        self.heads.push(Head {
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            start,
            key_len: length(record.key),
            value_len: length(record.value),
        });
    }

    /// The records in the order in which they were read.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.heads.iter().map(|head| self.view(head))
    }

    /// The record at `index`.
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        self.heads.get(index).map(|head| self.view(head))
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Forgets the records, keeps a bounded buffer.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.arena.clear();
        self.arena.shrink_to(4 << 20);
    }

    fn view(&self, head: &Head) -> Record<'_> {
        let key_start = head.start as usize;
        let value_start = key_start + head.key_len.max(0) as usize;
        let slice = |start: usize, len: i32| (len >= 0).then(|| &self.arena[start..start + len as usize]);
        Record {
            topic: head.topic,
            partition: head.partition,
            offset: head.offset,
            timestamp_ms: head.timestamp_ms,
            key: slice(key_start, head.key_len),
            value: slice(value_start, head.value_len),
        }
    }
}

/// A record to be produced inside the open transaction.
#[derive(Clone, Copy, Debug)]
pub struct OutRecord<'a> {
    /// Topic of this topology.
    pub topic: TopicId,
    /// Always explicit: the engine computes partitions itself.
    pub partition: i32,
    /// `None`: null key.
    pub key: Option<&'a [u8]>,
    /// `None`: tombstone.
    pub value: Option<&'a [u8]>,
    /// Names and values, mostly none.
    pub headers: &'a [(String, Vec<u8>)],
}

/// Where the engine reads and writes. Cheap to share between the shards of a process.
pub trait Log: Send + Sync + 'static {
    /// Reader of assigned partitions.
    type Consumer: LogConsumer;
    /// Writer of one transactional id.
    type Producer: LogProducer;
    /// Writer without transactions.
    type Appender: LogAppender;

    /// The topics that ids refer to.
    fn topics(&self) -> &Topics;

    /// A new reader without assignment; `name` tells it apart in logs.
    fn consumer(&self, name: &str) -> Result<Self::Consumer, LogError>;

    /// Creates the producer of a transactional id and initialises it: aborts the open transaction of an earlier owner
    /// and fences it. Blocks up to `deadline`.
    fn producer(&self, transactional_id: &str, deadline: Duration) -> Result<Self::Producer, Fault>;

    /// A new writer of single records outside of transactions; `name` tells it apart in logs.
    fn appender(&self, name: &str) -> Result<Self::Appender, LogError>;

    /// Watermarks of one partition, read uncommitted. Blocks up to a few seconds.
    fn watermarks(&self, at: TopicPartition) -> Result<Watermarks, LogError>;

    /// First offset of a partition that read_committed readers may not see yet: of its earliest open transaction, without
    /// one the high watermark. Blocks up to a second. For a diagnosis: it may cost a connection.
    fn last_stable(&self, at: TopicPartition) -> Result<i64, LogError>;

    /// Deletes the records below the given offsets. Blocks up to a few seconds.
    fn delete_before(&self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError>;
}

/// Reads assigned partitions, read_committed, from given offsets. Used by one thread.
pub trait LogConsumer: Send {
    /// Replaces the assignment. Reading starts at the given offset of each partition.
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<(), LogError>;

    /// Waits up to `timeout` for a first record, then takes what is there, up to `max_records` and about `max_bytes`,
    /// and appends it to `out`. Records of one partition come in the order of their offsets.
    fn poll(
        &mut self,
        out: &mut RecordBatch,
        max_records: usize,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<(), LogError>;

    /// Offset after the last one that was passed in this partition, markers included; `None` before anything was.
    fn position(&mut self, at: TopicPartition) -> Result<Option<i64>, LogError>;

    /// Mirrors positions as offsets of the consumer group, so that lag tools work. Asynchronous, best effort: nothing
    /// is ever read from there.
    fn mirror(&mut self, positions: &[(TopicPartition, i64)]);
}

/// Writes single records that belong to no transaction.
pub trait LogAppender: Send {
    /// Appends and waits until the broker has it. After an error it may be there all the same, or come later.
    fn append(
        &mut self,
        at: TopicPartition,
        key: &[u8],
        value: Option<&[u8]>,
        deadline: Duration,
    ) -> Result<(), LogError>;
}

/// One transactional producer. Used by one thread. Dropping it never blocks the caller for long.
pub trait LogProducer: Send {
    /// Opens a transaction.
    fn begin(&mut self) -> Result<(), Fault>;

    /// Appends to the open transaction. Errors of the broker may show only at [`LogProducer::commit`].
    fn send(&mut self, record: OutRecord<'_>) -> Result<(), Fault>;

    /// Flushes and commits. `Ok` only when the broker acknowledged the commit.
    fn commit(&mut self, deadline: Duration) -> Result<(), Fault>;

    /// Aborts the open transaction. `Ok` only when that is certain.
    fn abort(&mut self, deadline: Duration) -> Result<(), Fault>;

    /// Highest offset that this producer was told of by the broker in this partition. After [`LogProducer::commit`]
    /// it is the offset of the transaction's last record there.
    fn last_offset(&self, at: TopicPartition) -> Option<i64>;
}
