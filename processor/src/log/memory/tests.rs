//! One test per rule of Kafka.

mod faults;
mod random;
mod reading;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::log::{LogConsumer, LogProducer, OutRecord, RecordBatch};
use crate::testing::ManualClock;

const SOON: Duration = Duration::from_secs(1);

/// A simulated log of topics `a` and `b` with two partitions each.
struct Bench {
    log: MemoryLog,
    clock: Arc<ManualClock>,
    a0: TopicPartition,
    a1: TopicPartition,
    b0: TopicPartition,
}

fn bench() -> Bench {
    let mut topics = Topics::new(2);
    let (a, b) = (topics.add("a"), topics.add("b"));
    let clock = ManualClock::shared(1_000);
    let log = MemoryLog::simulated(topics, clock.clone());
    let at = |topic, partition| TopicPartition { topic, partition };
    Bench { log, clock, a0: at(a, 0), a1: at(a, 1), b0: at(b, 0) }
}

impl Bench {
    fn producer(&self, id: &str) -> MemoryProducer {
        self.log.producer(id, SOON).unwrap()
    }

    fn consumer(&self, at: TopicPartition, from: i64) -> MemoryConsumer {
        let mut consumer = self.log.consumer("reader").unwrap();
        consumer.assign(&[(at, from)]).unwrap();
        consumer
    }

    /// Appends without a transaction; key and value are the same.
    fn plain(&self, at: TopicPartition, text: &str) -> i64 {
        self.log.append(at, Some(text.as_bytes()), Some(text.as_bytes()), None).unwrap()
    }

    /// One whole transaction of an id: these records, committed.
    fn commit(&self, producer: &mut MemoryProducer, at: TopicPartition, texts: &[&str]) {
        producer.begin().unwrap();
        texts.iter().for_each(|text| send(producer, at, text).unwrap());
        producer.commit(SOON).unwrap();
    }

    fn committed(&self, at: TopicPartition) -> Vec<String> {
        self.log.read_committed(at).unwrap().iter().map(show).collect()
    }

    fn watermarks(&self, at: TopicPartition) -> (i64, i64) {
        let marks = self.log.watermarks(at).unwrap();
        (marks.low, marks.high)
    }
}

/// `offset:value`, a tombstone as `offset:-key`.
fn show(record: &StoredRecord) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match &record.value {
        Some(value) => format!("{}:{}", record.offset, text(value)),
        None => format!("{}:-{}", record.offset, text(record.key.as_deref().unwrap_or_default())),
    }
}

fn send(producer: &mut MemoryProducer, at: TopicPartition, text: &str) -> Result<(), Fault> {
    send_row(producer, at, text, Some(text))
}

fn send_row(producer: &mut MemoryProducer, at: TopicPartition, key: &str, value: Option<&str>) -> Result<(), Fault> {
    producer.send(OutRecord {
        topic: at.topic,
        partition: at.partition,
        key: Some(key.as_bytes()),
        value: value.map(str::as_bytes),
        headers: &[],
    })
}

fn poll(consumer: &mut MemoryConsumer, max_records: usize) -> Result<Vec<String>, LogError> {
    let mut batch = RecordBatch::default();
    consumer.poll(&mut batch, max_records, 1 << 20, SOON)?;
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    Ok(batch.iter().map(|record| format!("{}:{}", record.offset, text(record.value))).collect())
}
