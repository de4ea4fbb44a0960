//! The log on librdkafka.
//!
//! Every setting that matters is set by name with its reason. Clients live and die on threads of their own: dropping
//! one can block for a second, and never on the thread of a shard.

mod appender;
mod commit;
mod consumer;
mod producer;
mod served;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

pub use appender::KafkaAppender;
pub use commit::commit_transaction;
pub use consumer::KafkaConsumer;
pub use producer::KafkaProducer;

use crate::fault::{self, Fault, LogError};
use crate::log::{Log, TopicPartition, Topics, Watermarks};
use crate::transaction::TIMEOUT;

/// Wait for one answer about watermarks.
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(5);

/// Wait for the answer to a question that only helps to say what is wrong.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(1);

/// Records that one consumer may hold in advance: those of two transactions.
const QUEUED_RECORDS: usize = 4000;

/// Wait for the connection of a client.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Settings of all clients of a process.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// `host:port,...`
    pub bootstrap: String,
    /// Consumer group under which positions are mirrored.
    pub group: String,
    /// Prefix of client ids, for the broker's logs and quotas.
    pub client_id: String,
    /// Bytes that one consumer may hold in advance.
    pub prefetch_bytes: usize,
    /// Further settings of librdkafka: security and the like. Those that the engine depends on it sets itself, after these.
    pub extra: Vec<(String, String)>,
}

/// A cluster.
pub struct KafkaLog {
    options: KafkaOptions,
    topics: Topics,
    /// Reads uncommitted, so that a high watermark is the end of the log and not the last stable offset.
    inspector: Arc<BaseConsumer>,
}

impl KafkaLog {
    /// Prepares clients; nothing is asked of the broker yet.
    pub fn new(options: KafkaOptions, topics: Topics) -> Result<KafkaLog, LogError> {
        let mut config = base(&options, "inspector");
        config.set("isolation.level", "read_uncommitted");
        let inspector: BaseConsumer = config.create().map_err(|error| LogError::Refused(format!("client: {error}")))?;
        Ok(KafkaLog { options, topics, inspector: Arc::new(inspector) })
    }

    /// Identity of the cluster; `None` when it did not answer in time.
    pub fn cluster_id(&self, timeout: Duration) -> Option<String> {
        schemas::topics::fetch_cluster_id(self.inspector.client(), timeout)
    }
}

impl Log for KafkaLog {
    type Consumer = KafkaConsumer;
    type Producer = KafkaProducer;
    type Appender = KafkaAppender;

    fn topics(&self) -> &Topics {
        &self.topics
    }

    fn consumer(&self, name: &str) -> Result<KafkaConsumer, LogError> {
        let mut config = base(&self.options, name);
        config
            // Only for mirrored positions; nothing subscribes.
            .set("group.id", &self.options.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Records of aborted and open transactions are never seen.
            .set("isolation.level", "read_committed")
            // A position that the log no longer holds is a loud stop, never a silent jump.
            .set("auto.offset.reset", "error")
            // An end-of-partition event would move the position.
            .set("enable.partition.eof", "false")
            // Answer as soon as there is one byte: the broker wakes a waiting fetch when the last stable offset moves,
            // so a long wait costs no latency and saves idle CPU.
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "500")
            // Defaults of 1000 and 500 ms would show as pauses.
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.max.messages.kbytes", (self.options.prefetch_bytes / 1024).max(1).to_string())
            // The bytes above count what a record holds, not the 400 bytes that the client library keeps around each;
            // and an answer may be as large as the parts of all partitions together, compressed. With the defaults a
            // backlog of small records filled 16 MB in each shard.
            .set("queued.min.messages", QUEUED_RECORDS.to_string())
            .set("max.partition.fetch.bytes", (self.options.prefetch_bytes / 4).max(64 << 10).to_string())
            // A flipped bit in a broker's file must not become an amount: the checksum is the only one from end to end.
            .set("check.crcs", "true");
        let consumer: BaseConsumer<DefaultConsumerContext> =
            config.create().map_err(|error| LogError::Refused(format!("client: {error}")))?;
        // All of them now: later the answer would come behind that of a fetch that waits.
        learn(consumer.client(), self.topics.names());
        Ok(KafkaConsumer::new(consumer, self.topics.clone()))
    }

    fn producer(&self, transactional_id: &str, deadline: Duration) -> Result<KafkaProducer, Fault> {
        let mut config = base(&self.options, transactional_id);
        config
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // The commit flushes; waiting for company would only add to the latency.
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("transaction.timeout.ms", TIMEOUT.as_millis().to_string())
            // Below the transaction's, or librdkafka refuses.
            .set("message.timeout.ms", "55000")
            .set("retry.backoff.ms", "5")
            .set("retry.backoff.max.ms", "50")
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", "262144");
        KafkaProducer::start(&config, &self.topics, deadline)
    }

    fn appender(&self, name: &str) -> Result<KafkaAppender, LogError> {
        let mut config = base(&self.options, name);
        config
            .set("acks", "all")
            // A late retry must not come behind a later record, such as the last word of a member.
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            // Whoever waits for it gives up sooner; what is sent late must not come much later.
            .set("message.timeout.ms", "3000")
            .set("retry.backoff.ms", "20");
        KafkaAppender::start(&config, &self.topics)
    }

    fn watermarks(&self, at: TopicPartition) -> Result<Watermarks, LogError> {
        let topic = self.topics.name(at.topic);
        let (low, high) = self
            .inspector
            .fetch_watermarks(topic, at.partition, WATERMARK_TIMEOUT)
            .map_err(|error| fault::of_read(error, topic))?;
        Ok(Watermarks { low, high })
    }

    fn last_stable(&self, at: TopicPartition) -> Result<i64, LogError> {
        let topic = self.topics.name(at.topic);
        let mut config = base(&self.options, "diagnosis");
        // Which end a broker tells goes by the isolation of whoever asks.
        config.set("isolation.level", "read_committed");
        let asking: BaseConsumer = config.create().map_err(|error| LogError::Refused(format!("client: {error}")))?;
        let answer = asking.fetch_watermarks(topic, at.partition, DIAGNOSIS_TIMEOUT);
        drop_elsewhere(asking);
        answer.map(|(_, stable)| stable).map_err(|error| fault::of_read(error, topic))
    }

    fn delete_before(&self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        let refused = |error: rdkafka::error::KafkaError| LogError::Refused(error.to_string());
        let admin: AdminClient<DefaultClientContext> = base(&self.options, "prune").create().map_err(refused)?;
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (at, offset) in offsets {
            list.add_partition_offset(self.topics.name(at.topic), at.partition, Offset::Offset(*offset))
                .map_err(refused)?;
        }
        let options = AdminOptions::new().operation_timeout(Some(WATERMARK_TIMEOUT));
        let deleted = futures_executor::block_on(admin.delete_records(&list, &options)).map_err(refused)?;
        let failed = deleted.elements().into_iter().find_map(|element| element.error().err());
        failed.map_or(Ok(()), |error| Err(refused(error)))
    }
}

fn base(options: &KafkaOptions, name: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.bootstrap)
        .set("client.id", format!("{}-{name}", options.client_id))
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .set("socket.nagle.disable", "true")
        .set("log.connection.close", "false")
        .set("allow.auto.create.topics", "false")
        .set("statistics.interval.ms", "0");
    for (key, value) in &options.extra {
        config.set(key, value);
    }
    config
}

/// Waits until the client is connected and knows the leaders of these topics, for a bounded time. What it does not know
/// when it needs it, it asks for without waiting for a connection, and again only by a timer: of half a second for the
/// coordinator of a transactional id, of a whole one for the leaders of partitions that were just assigned.
fn learn<C: ClientContext>(client: &Client<C>, topics: &[String]) {
    // The first answer comes over the bootstrap connection, which is closed for it; the second one comes when one of the
    // brokers that it named is connected.
    for topic in topics.iter().take(1).chain(topics) {
        if let Err(error) = client.fetch_metadata(Some(topic), CONNECT_TIMEOUT) {
            // The timers have to do.
            tracing::debug!(%error, topic, "broker does not answer yet");
            return;
        }
    }
}

/// Drops a client on a thread of its own: its destructor may wait for the broker.
fn drop_elsewhere<T: Send + 'static>(client: T) {
    // Without a thread it is dropped here, late but right.
    let _ = std::thread::Builder::new().name("client-drop".to_owned()).spawn(move || drop(client));
}
