//! The thread that reads the control topic: from its beginning, then whatever comes.
//!
//! No consumer group and no stored position: the topic is small, and what counts is its latest word. Everything that is
//! there when it begins is folded before anything is published, so that the past is not taken for news and nobody is sent
//! to an owner of long ago. While Kafka is away the last directory stays in force; where the log no longer holds what was
//! to come next, it is read anew. A record whose schema is not known yet holds up no other: it is put aside and tried
//! again.

mod unread;

use super::Control;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use schemas::SchemaCache;
use schemas::control::{ControlError, Directory, PARTITIONS};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use unread::Unread;

/// How long the thread waits for a record before it looks whether it has to stop.
const POLL: Duration = Duration::from_millis(200);
/// The same, while there is still a past to read.
const LOOK: Duration = Duration::from_millis(10);
/// How long the thread waits for the connection of a client.
const CONNECT: Duration = Duration::from_secs(2);
/// Pause before something that failed is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// What is read.
#[derive(Debug, Clone)]
pub struct TailSettings {
    /// `host:port,...`
    pub bootstrap: String,
    /// Name of the topic `control`, prefix included.
    pub topic: String,
}

/// Keeps the routing current until told to stop.
pub fn start(
    settings: TailSettings,
    schemas: SchemaCache,
    control: Arc<Control>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let tail = Tail { settings, schemas, control, stop };
    std::thread::Builder::new().name("control-tail".into()).spawn(move || tail.run())?;
    Ok(())
}

struct Tail {
    settings: TailSettings,
    schemas: SchemaCache,
    control: Arc<Control>,
    stop: CancellationToken,
}

type Client = BaseConsumer<Callbacks>;

impl Tail {
    fn run(&self) {
        while !self.stop.is_cancelled() {
            // The consumer is dropped here, on this thread: that may block.
            match connect(&self.settings) {
                Ok(consumer) => self.read(&consumer),
                Err(error) => tracing::error!(%error, "the control topic cannot be read, trying again"),
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Until told to stop, or until the log no longer holds what comes next.
    fn read(&self, consumer: &Client) {
        let (mut directory, mut unread) = (Directory::default(), Unread::default());
        let (began, mut is_first) = (Instant::now(), true);
        let mut past = match Past::of(consumer, &self.settings.topic) {
            Ok(past) => past,
            Err(error) => {
                tracing::debug!(%error, "nobody says where the control topic ends, trying again");
                return;
            }
        };
        // An empty topic is published too: then nobody owns anything.
        let mut news = true;
        while !self.stop.is_cancelled() {
            news |= unread.try_again(&mut directory, &self.schemas);
            let is_held = is_first && unread.hides_the_present(began.elapsed());
            let wait = match (past.left.is_empty(), news) {
                (false, _) => LOOK,
                (true, true) if is_held => PAUSE,
                (true, true) => Duration::ZERO,
                (true, false) if !unread.is_empty() => PAUSE,
                (true, false) => POLL,
            };
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    self.fold(&mut directory, &mut unread, &message);
                    past.has_read(message.partition(), message.offset());
                    news = true;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => past.has_ended(partition),
                Some(Err(error)) if is_lost(&error) => {
                    tracing::warn!(%error, "the control topic does not go on where it ended, reading it anew");
                    return;
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the control topic cannot be read right now");
                    std::thread::sleep(PAUSE);
                }
                None if news && past.is_read(consumer) && !is_held => {
                    (news, is_first) = (false, false);
                    self.control.publish(&directory);
                }
                None => {}
            }
        }
    }

    fn fold(&self, directory: &mut Directory, unread: &mut Unread, message: &BorrowedMessage<'_>) {
        let (partition, offset) = (message.partition(), message.offset());
        match directory.apply(&self.schemas, partition, message.key(), message.payload()) {
            Ok(_) => unread.forget(partition, message.key()),
            Err(ControlError::Wait(_)) => unread.put_aside(partition, message.key(), message.payload()),
            Err(ControlError::Bad(reason)) => {
                tracing::warn!(partition, offset, reason, "a control record is skipped");
            }
        }
    }
}

/// What was in the topic when the reading began, as far as it was not read.
struct Past {
    topic: String,
    /// By partition, where it ended.
    left: BTreeMap<i32, i64>,
}

impl Past {
    /// The ends are those that a reader of committed records gets to.
    fn of(consumer: &Client, topic: &str) -> Result<Self, KafkaError> {
        let mut left = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let (low, high) = consumer.fetch_watermarks(topic, partition, CONNECT)?;
            if high > low {
                left.insert(partition, high);
            }
        }
        Ok(Self { topic: topic.to_owned(), left })
    }

    /// This record is folded.
    fn has_read(&mut self, partition: i32, offset: i64) {
        self.left.retain(|left, end| *left != partition || offset + 1 < *end);
    }

    /// The broker has nothing more right now. Where the last records were compacted away, only this tells.
    fn has_ended(&mut self, partition: i32) {
        self.left.remove(&partition);
    }

    /// Whether nothing is left. Behind the last record there may be the marker of its transaction: positions count it.
    fn is_read(&mut self, consumer: &Client) -> bool {
        if !self.left.is_empty()
            && let Ok(positions) = consumer.position()
        {
            let position = |partition| match positions.find_partition(&self.topic, partition)?.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            self.left.retain(|partition, end| position(*partition).is_none_or(|position| position < *end));
        }
        self.left.is_empty()
    }
}

fn connect(settings: &TailSettings) -> Result<Client, KafkaError> {
    let consumer: Client = client_config(settings).create_with_context(Callbacks)?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(&settings.topic, partition, Offset::Beginning)?;
    }
    learn(&consumer, &settings.topic);
    consumer.assign(&all)?;
    Ok(consumer)
}

/// Asks where the topic is before it is read; left to its timers, the client library takes half a second longer.
fn learn(consumer: &Client, topic: &str) {
    // The first answer comes over the bootstrap connection, the second one when a broker that it named is connected.
    for _ in 0..2 {
        if let Err(error) = consumer.fetch_metadata(Some(topic), CONNECT) {
            tracing::debug!(%error, "the broker does not answer yet");
            return;
        }
    }
}

/// Whether nothing more will come: the log lost its end or was made anew, or the client is broken.
fn is_lost(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(error.rdkafka_error_code(), Some(Code::AutoOffsetReset | Code::OffsetOutOfRange))
}

fn client_config(settings: &TailSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.bootstrap)
        .set("client.id", "kontor-gateway-control")
        // The client library assigns nothing without a name; no group is joined and nothing is committed.
        .set("group.id", "kontor-gateway")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What a leader that is none any more has left open or aborted is no assignment.
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        // A position that the log no longer holds is an error, never a silent jump.
        .set("auto.offset.reset", "error")
        // The broker answers a waiting fetch at the first byte: a long wait costs no latency.
        .set("fetch.min.bytes", "1")
        .set("fetch.wait.max.ms", "500")
        // The default of 500 ms would show as a pause.
        .set("fetch.error.backoff.ms", "50")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .set("socket.nagle.disable", "true")
        .set("check.crcs", "true")
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Critical);
    config
}

struct Callbacks;

impl ClientContext for Callbacks {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client of the control topic");
    }
}

impl ConsumerContext for Callbacks {}

#[cfg(test)]
mod tests;
