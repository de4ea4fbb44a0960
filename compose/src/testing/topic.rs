//! Topics as a test sees them: send a record and learn where it went, read a whole topic, list and delete topics.
//! Everything here blocks; from async code use `tokio::task::spawn_blocking`, or `Namespace`, which does.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::error::{Error, Result};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Of transactions, what was committed; up to the last stable offset.
    Committed,
    /// Everything; up to the high watermark.
    Uncommitted,
}

/// One record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Of its creation or of its append, as the topic says.
    pub timestamp_ms: i64,
    /// Bytes of the key.
    pub key: Option<Vec<u8>>,
    /// Bytes of the value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

fn failed(bootstrap: &str, doing: String) -> impl Fn(KafkaError) -> Error {
    let bootstrap = bootstrap.to_string();
    move |error| Error::Kafka { bootstrap: bootstrap.clone(), doing: doing.clone(), cause: error.to_string() }
}

fn client<T: FromClientConfig>(bootstrap: &str, settings: &[(&str, &str)]) -> Result<T> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("log_level", "0");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().map_err(failed(bootstrap, "make a client".into()))
}

/// Reads every partition of a topic from its start to the end that it has now. Partition by partition in the order of
/// offsets, the partitions one after the other.
pub fn read_topic(bootstrap: &str, topic: &str, isolation: Isolation) -> Result<Vec<Record>> {
    let level = match isolation {
        Isolation::Committed => "read_committed",
        Isolation::Uncommitted => "read_uncommitted",
    };
    let consumer: BaseConsumer = client(
        bootstrap,
        &[
            ("group.id", "kontor-test-reader"),
            ("isolation.level", level),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("enable.partition.eof", "true"),
            ("fetch.wait.max.ms", "50"),
        ],
    )?;
    let unable = failed(bootstrap, format!("read {topic}"));
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT).map_err(&unable)?;
    let mut open = TopicPartitionList::new();
    for described in metadata.topics() {
        for partition in described.partitions() {
            let added = open.add_partition_offset(topic, partition.id(), Offset::Beginning);
            added.map_err(&unable)?;
        }
    }
    if open.count() == 0 {
        return Err(unable(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)));
    }
    consumer.assign(&open).map_err(&unable)?;
    let mut records = read_to_the_end(&consumer, open.count(), &unable)?;
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// Ends when each partition said once that it has no more.
fn read_to_the_end(
    consumer: &BaseConsumer,
    partitions: usize,
    unable: &impl Fn(KafkaError) -> Error,
) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut ended = std::collections::BTreeSet::new();
    let mut silent_since = Instant::now();
    while ended.len() < partitions {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => records.push(owned(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(error)) => return Err(unable(error)),
            None if silent_since.elapsed() >= REQUEST_TIMEOUT => {
                return Err(unable(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)));
            }
            None => continue,
        }
        silent_since = Instant::now();
    }
    Ok(records)
}

fn owned(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        let bytes = |h: Header<'_, &[u8]>| (h.key.to_string(), h.value.unwrap_or_default().to_vec());
        headers.iter().map(bytes).collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

type Delivered = std::result::Result<(i32, i64), KafkaError>;

/// Tells the waiting sender what became of its record.
struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<mpsc::Sender<Delivered>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let delivered = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        let _ = waiting.send(delivered);
    }
}

/// Sends records as any client would: Java's default partitioner unless the partition is named.
pub struct Sender {
    bootstrap: String,
    producer: ThreadedProducer<Reports>,
}

impl Sender {
    /// A sender to one cluster.
    pub fn new(bootstrap: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("log_level", "0")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", "20000")
            // A broker that was restarted is found again soon: by default it may take ten seconds.
            .set("reconnect.backoff.max.ms", "500")
            // Large records are refused by the broker or not at all.
            .set("message.max.bytes", "50000000");
        let producer = config.create_with_context(Reports);
        Ok(Self {
            bootstrap: bootstrap.to_string(),
            producer: producer.map_err(failed(bootstrap, "make a producer".into()))?,
        })
    }

    /// Sends one record and waits for its partition and offset.
    pub fn send(&self, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(i32, i64)> {
        self.send_to(topic, None, key, value, &[])
    }

    /// Sends one record to a partition of choice, with headers.
    pub fn send_to(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Result<(i32, i64)> {
        let unable = failed(&self.bootstrap, format!("send to {topic}"));
        let (waiting, delivered) = mpsc::channel();
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(waiting));
        record.partition = partition;
        record.key = key;
        record.payload = value;
        if !headers.is_empty() {
            let mut owned = OwnedHeaders::new();
            for (key, value) in headers {
                let value = Some(*value);
                owned = owned.insert(Header { key, value });
            }
            record = record.headers(owned);
        }
        self.producer.send(record).map_err(|(error, _)| unable(error))?;
        let timed_out = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
        delivered.recv_timeout(REQUEST_TIMEOUT * 2).unwrap_or(Err(timed_out)).map_err(unable)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue());
    }
}

/// Every topic of the cluster with its number of partitions.
pub fn list_topics(bootstrap: &str) -> Result<HashMap<String, usize>> {
    let consumer: BaseConsumer = client(bootstrap, &[])?;
    let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT);
    let metadata = metadata.map_err(failed(bootstrap, "list topics".into()))?;
    let topics = metadata.topics().iter();
    Ok(topics.map(|t| (t.name().to_string(), t.partitions().len())).collect())
}

/// Deletes topics; those that are gone already are no error.
pub fn delete_topics(bootstrap: &str, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let bootstrap = bootstrap.to_string();
    let names = names.to_vec();
    // A thread of its own, since the caller may be inside a runtime already.
    let worker = std::thread::spawn(move || {
        let admin: AdminClient<DefaultClientContext> = client(&bootstrap, &[])?;
        let unable = failed(&bootstrap, "delete topics".into());
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build();
        let runtime = runtime.map_err(Error::io("make", std::path::Path::new("a runtime")))?;
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
        let topics: Vec<&str> = names.iter().map(String::as_str).collect();
        let outcomes = runtime.block_on(admin.delete_topics(&topics, &options)).map_err(&unable)?;
        for outcome in outcomes {
            match outcome {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((_, code)) => return Err(unable(KafkaError::AdminOp(code))),
            }
        }
        Ok(())
    });
    worker.join().unwrap_or_else(|_| Err(Error::Usage("the thread that deletes topics panicked".into())))
}
