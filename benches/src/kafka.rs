//! Clients of the driver, and what the broker says about the ends of topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use schemas::topics::Topology;

const CALL: Duration = Duration::from_secs(10);

/// Counts what could not be delivered.
#[derive(Clone, Default)]
pub struct Failures(Arc<AtomicU64>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A producer of commands as a client of the bank would have it: durable, idempotent.
pub struct Sender {
    producer: ThreadedProducer<Failures>,
    failures: Failures,
}

impl Sender {
    /// `linger_ms`: 0 for latency, a few for a backlog.
    pub fn new(bootstrap: &str, linger_ms: u32) -> KafkaResult<Sender> {
        let failures = Failures::default();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("client.id", "kontor-load")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", linger_ms.to_string())
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", "262144")
            .set("batch.num.messages", "10000")
            .create_with_context(failures.clone())?;
        Ok(Sender { producer, failures })
    }

    /// Hands one record over; waits while the queue is full.
    pub fn send(&self, topic: &str, partition: i32, key: &str, payload: &[u8]) -> KafkaResult<()> {
        let mut record = BaseRecord::to(topic).partition(partition).key(key).payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    std::thread::sleep(Duration::from_millis(1)); // librdkafka gives no signal for a free place.
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Records that could not be delivered so far.
    pub fn failed(&self) -> u64 {
        self.failures.0.load(Ordering::Relaxed)
    }
}

/// A reader of answers: read_committed, assigned from the present ends of `topics`.
pub fn reader_at_end(bootstrap: &str, topics: &[&str], partitions: i32) -> KafkaResult<BaseConsumer> {
    let consumer = consumer(bootstrap)?;
    let mut assignment = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..partitions {
            let (_, end) = watermarks(&consumer, topic, partition)?;
            assignment.add_partition_offset(topic, partition, Offset::Offset(end))?;
        }
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

/// First offset and end of a partition. A topic that was only just created may have no leader yet: then again.
fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> KafkaResult<(i64, i64)> {
    use RDKafkaErrorCode::{LeaderNotAvailable, NotLeaderForPartition, UnknownPartition, UnknownTopicOrPartition};
    let start = Instant::now();
    loop {
        let answer = consumer.fetch_watermarks(topic, partition, CALL);
        let code = answer.as_ref().err().and_then(KafkaError::rdkafka_error_code);
        let is_young = matches!(
            code,
            Some(LeaderNotAvailable | NotLeaderForPartition | UnknownPartition | UnknownTopicOrPartition)
        );
        if !is_young || start.elapsed() > CALL {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50)); // The broker does not tell when it has elected.
    }
}

/// A consumer without assignment, with the settings that were measured best for latency.
pub fn consumer(bootstrap: &str) -> KafkaResult<BaseConsumer> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "kontor-load")
        .set("group.id", "kontor-load")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.min.bytes", "1")
        .set("fetch.wait.max.ms", "500")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "50")
        .set("queued.max.messages.kbytes", "32768")
        .set("reconnect.backoff.max.ms", "500")
        .create()
}

/// End offsets of topics, partitions added up. Markers of transactions are included: they are written too.
pub fn ends(bootstrap: &str, topics: &[String], topology: &Topology) -> KafkaResult<BTreeMap<String, i64>> {
    let consumer = consumer(bootstrap)?;
    let mut ends = BTreeMap::new();
    for topic in topics {
        let declared = topology.topics.iter().find(|spec| spec.name == *topic);
        for partition in 0..declared.map_or(topology.partitions, |spec| spec.partitions) {
            let (_, end) = watermarks(&consumer, topic, partition)?;
            *ends.entry(topic.clone()).or_default() += end;
        }
    }
    Ok(ends)
}
