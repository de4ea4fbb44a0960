//! One transactional producer.
//!
//! With `statistics.interval.ms` among the client's settings it counts its Produce requests; without, as by default, the
//! client library gathers nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, ClientContext, Message, Statistics};

use super::served::ServedProducer;
use crate::fault::{self, Fault};
use crate::log::{LogProducer, OutRecord, TopicPartition, Topics};

/// Of the first initialisation: several times what one takes that meets no open transaction.
const PROBE: Duration = Duration::from_millis(120);

/// Highest acknowledged offset by topic and partition, -1 before the first. Written by the client's thread.
struct Delivered {
    partitions: usize,
    offsets: Vec<AtomicI64>,
}

impl Delivered {
    fn slot(&self, at: TopicPartition) -> usize {
        usize::from(at.topic.0) * self.partitions + at.partition.max(0) as usize
    }
}

struct DeliveryContext {
    delivered: Arc<Delivered>,
    /// Produce requests of this producer that were counted already.
    produce_requests: AtomicU64,
}

impl ClientContext for DeliveryContext {
    fn stats(&self, statistics: Statistics) {
        let of_broker = |broker: &rdkafka::statistics::Broker| broker.req.get("Produce").copied().unwrap_or(0);
        let sent: i64 = statistics.brokers.values().map(of_broker).sum();
        let sent = u64::try_from(sent).unwrap_or(0);
        let counted = self.produce_requests.swap(sent, Ordering::AcqRel);
        metrics::counter!("kontor_produce_requests_total").increment(sent.saturating_sub(counted));
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: usize) {
        // A failed delivery fails the commit; here only acknowledged offsets count.
        if let Ok(message) = result
            && let Some(offset) = self.delivered.offsets.get(slot)
        {
            offset.fetch_max(message.offset(), Ordering::AcqRel);
        }
    }
}

/// See the module. Its events are served by a thread, without which an abort would hang.
pub struct KafkaProducer {
    inner: Option<ServedProducer<DeliveryContext>>,
    delivered: Arc<Delivered>,
    topics: Topics,
}

impl KafkaProducer {
    /// Creates and initialises: blocks until the broker has ended the earlier owner's transaction.
    ///
    /// A broker that finds an open transaction begins to abort it and answers "try again", and the client library tries
    /// again after half a second that cannot be configured. So a first producer only sets the abort going, and is
    /// dropped when it has no answer soon; the second one finds it done. Not more than once: each further attempt may
    /// itself meet the one before it. Should the first one's request come late all the same, it fences the second, which
    /// then initialises again: the assignment says that the shard is still its own (with `--alone`, where there is none,
    /// the claim in the changelog).
    pub(super) fn start(config: &ClientConfig, topics: &Topics, deadline: Duration) -> Result<KafkaProducer, Fault> {
        let mut left = deadline;
        if deadline > PROBE {
            match KafkaProducer::initialised(config, topics, PROBE) {
                Ok(probe) => return Ok(probe),
                Err(fault) => tracing::debug!(%fault, "initialising once more"),
            }
            left -= PROBE;
        }
        KafkaProducer::initialised(config, topics, left)
    }

    /// The thread that serves it comes last: without one a producer that was not initialised is gone at once, long
    /// before it would try again.
    fn initialised(config: &ClientConfig, topics: &Topics, deadline: Duration) -> Result<KafkaProducer, Fault> {
        let mut producer = KafkaProducer::create(config, topics)?;
        let initialised = producer.inner()?.init_transactions(deadline);
        initialised.map_err(|error| Fault::Retry(format!("init: {error}")))?;
        if let Some(inner) = &mut producer.inner {
            inner.serve().map_err(|error| Fault::Discard(error.to_string()))?;
        }
        Ok(producer)
    }

    fn create(config: &ClientConfig, topics: &Topics) -> Result<KafkaProducer, Fault> {
        // The control topic has two, whatever the others have.
        let partitions = topics.partitions.max(schemas::control::PARTITIONS) as usize;
        let offsets = (0..topics.len() * partitions).map(|_| AtomicI64::new(-1)).collect();
        let delivered = Arc::new(Delivered { partitions, offsets });
        let context = DeliveryContext { delivered: Arc::clone(&delivered), produce_requests: AtomicU64::new(0) };
        let inner = ServedProducer::create(config, context).map_err(|error| Fault::Discard(error.to_string()))?;
        let producer = KafkaProducer { inner: Some(inner), delivered, topics: topics.clone() };
        // Measured with it: init p50 36 ms and p90 40 ms, without it 44 and 513 ms.
        super::learn(producer.inner()?.client(), topics.names());
        Ok(producer)
    }

    fn inner(&self) -> Result<&BaseProducer<DeliveryContext>, Fault> {
        self.inner.as_deref().ok_or_else(|| Fault::Discard("producer is closed".to_owned()))
    }
}

impl LogProducer for KafkaProducer {
    fn begin(&mut self) -> Result<(), Fault> {
        self.inner()?.begin_transaction().map_err(fault::of_transaction)
    }

    fn send(&mut self, record: OutRecord<'_>) -> Result<(), Fault> {
        let at = TopicPartition { topic: record.topic, partition: record.partition };
        let mut message: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(self.topics.name(record.topic), self.delivered.slot(at))
                .partition(record.partition);
        message.key = record.key;
        message.payload = record.value;
        if !record.headers.is_empty() {
            let headers = record
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
            message = message.headers(headers);
        }
        let inner = self.inner()?;
        inner.send(message).map_err(|(error, _)| match inner.client().fatal_error() {
            // The error of sending says only that there is one. A fence must be known as such: who takes it for a broken
            // producer makes a new one, and fences its successor.
            Some((code, reason)) => fault::of_commit(code, false, &reason),
            None => fault::of_send(error),
        })
    }

    fn commit(&mut self, deadline: Duration) -> Result<(), Fault> {
        super::commit::commit_transaction(self.inner()?.client(), deadline)
    }

    fn abort(&mut self, deadline: Duration) -> Result<(), Fault> {
        self.inner()?.abort_transaction(Timeout::After(deadline)).map_err(fault::of_transaction)
    }

    fn last_offset(&self, at: TopicPartition) -> Option<i64> {
        let offset = self.delivered.offsets.get(self.delivered.slot(at))?.load(Ordering::Acquire);
        (offset >= 0).then_some(offset)
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            super::drop_elsewhere(inner);
        }
    }
}
