//! The real [`Commands`]: an idempotent producer on the topic `commands`.
//!
//! Order per key and no duplicates by the broker's sequence check; even so a duplicate would do no harm, since the
//! bank knows every id. The queue is bounded, nothing here blocks a runtime thread, and the client is dropped on the
//! thread that probes, because dropping it may block.

use crate::command::link::Link;
use crate::command::{Begun, Command, Commands, SendError};
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use schemas::Encoder;
use schemas::records::{ConfirmAccountCreation, ConfirmMoneyTransfer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A command waits this long for the link before it is refused. The client shall have its answer within two seconds, of
/// which a busy machine took up to 570 ms for the rest.
const WAIT_FOR_LINK: Duration = Duration::from_millis(1200);
/// An acknowledgement that takes longer makes the link suspect. Far above a busy broker's, far below a dead one's.
const LATE_ACKNOWLEDGEMENT: Duration = Duration::from_millis(700);
/// How long one probe waits for a broker.
const PROBE: Duration = Duration::from_millis(1000);

/// How the producer is made.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// `host:port,...`
    pub bootstrap: String,
    /// Name of the topic `commands`, prefix included.
    pub topic: String,
    /// Schema id of `ConfirmAccountCreation` in that topic.
    pub account_creation_schema: u32,
    /// Schema id of `ConfirmMoneyTransfer` in that topic.
    pub transfer_schema: u32,
    /// How long the client library may keep trying to deliver, milliseconds, counted from the hand-over. No shorter than
    /// the client of the API waits, so that nothing is given up that somebody waits for; and not much longer, so that
    /// little takes effect after "timed out" was said.
    pub delivery_timeout_ms: u32,
}

/// Commands over Kafka.
pub struct KafkaCommands {
    settings: KafkaSettings,
    producer: Arc<RwLock<Client>>,
    link: Arc<Link>,
    account_creation: Encoder<ConfirmAccountCreation>,
    transfer: Encoder<ConfirmMoneyTransfer>,
}

type Client = Arc<ThreadedProducer<Callbacks>>;
type Acknowledgement = Result<(), KafkaError>;

impl KafkaCommands {
    /// Makes the producer; does not wait for a broker.
    pub fn start(settings: KafkaSettings) -> Result<Self, KafkaError> {
        let link = Arc::new(Link::new());
        let producer = Arc::new(RwLock::new(connect(&settings, &link)?));
        let prober = {
            let (link, producer, topic) = (Arc::clone(&link), Arc::clone(&producer), settings.topic.clone());
            move || {
                link.probe_until_closed(|| {
                    let client = Arc::clone(&producer.read());
                    client.client().fetch_metadata(Some(&topic), PROBE).is_ok()
                });
                drop(producer);
            }
        };
        std::thread::Builder::new()
            .name("kafka-link".into())
            .spawn(prober)
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self {
            account_creation: Encoder::new(settings.account_creation_schema),
            transfer: Encoder::new(settings.transfer_schema),
            settings,
            producer,
            link,
        })
    }

    fn encode(&self, command: &Command) -> Result<Vec<u8>, SendError> {
        let mut bytes = Vec::with_capacity(256);
        let encoded = match command {
            Command::AccountCreation(command) => self.account_creation.encode(command, &mut bytes),
            Command::Transfer(command) => self.transfer.encode(command, &mut bytes),
        };
        encoded.map_err(|error| SendError::NotSent(format!("the command cannot be encoded: {error}")))?;
        Ok(bytes)
    }

    /// Into the client's queue, or not at all. A client with a fatal error takes nothing any more: it is replaced,
    /// once per call.
    fn enqueue(
        &self,
        key: &str,
        partition: i32,
        value: &[u8],
    ) -> Result<oneshot::Receiver<Acknowledgement>, SendError> {
        let client = Arc::clone(&self.producer.read());
        let error = match self.enqueue_at(&client, key, partition, value) {
            Ok(acknowledged) => return Ok(acknowledged),
            Err(error) => error,
        };
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            let renewed = self.renew(client).map_err(|error| SendError::NotSent(error.to_string()))?;
            if let Ok(acknowledged) = self.enqueue_at(&renewed, key, partition, value) {
                return Ok(acknowledged);
            }
        }
        Err(SendError::NotSent(format!("the queue to Kafka took no command: {error}")))
    }

    fn enqueue_at(
        &self,
        client: &Client,
        key: &str,
        partition: i32,
        value: &[u8],
    ) -> Result<oneshot::Receiver<Acknowledgement>, KafkaError> {
        let (acknowledge, acknowledged) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(&self.settings.topic, Box::new(acknowledge))
            .partition(partition)
            .key(key)
            .payload(value);
        client.send(record).map(|()| acknowledged).map_err(|(error, _record)| error)
    }

    fn renew(&self, broken: Client) -> Result<Client, KafkaError> {
        let mut current = self.producer.write();
        if Arc::ptr_eq(&current, &broken) {
            tracing::error!("the producer met a fatal error and is replaced");
            *current = connect(&self.settings, &self.link)?;
            // Dropping a client may block: not on a thread of the runtime.
            std::thread::spawn(move || drop(broken));
        }
        Ok(Arc::clone(&current))
    }
}

fn connect(settings: &KafkaSettings, link: &Arc<Link>) -> Result<Client, KafkaError> {
    let producer = client_config(settings).create_with_context(Callbacks { link: Arc::clone(link) })?;
    Ok(Arc::new(producer))
}

impl Commands for KafkaCommands {
    fn send(
        &self,
        key: String,
        partition: i32,
        command: Command,
        begun: Begun,
    ) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let result = self.deliver(&key, partition, &command, &begun).await;
            let outcome = match &result {
                Ok(()) => "sent",
                Err(SendError::NotSent(_)) => "unavailable",
                Err(SendError::Unknown(_)) => "unknown",
            };
            metrics::counter!("kontor_commands_total", "outcome" => outcome).increment(1);
            result
        })
    }

    fn is_up(&self) -> bool {
        self.link.is_up()
    }
}

impl KafkaCommands {
    async fn deliver(&self, key: &str, partition: i32, command: &Command, begun: &Begun) -> Result<(), SendError> {
        let value = self.encode(command)?;
        if !self.link.wait_until_up(WAIT_FOR_LINK).await {
            return Err(SendError::NotSent("Kafka cannot be reached".into()));
        }
        begun.set();
        let mut acknowledged = self.enqueue(key, partition, &value)?;
        let received = match tokio::time::timeout(LATE_ACKNOWLEDGEMENT, &mut acknowledged).await {
            Ok(received) => received,
            Err(_) => {
                self.link.suspect();
                acknowledged.await
            }
        };
        match received {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(SendError::Unknown("the producer was closed".into())),
        }
    }
}

impl Drop for KafkaCommands {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// Only what the client library refuses by itself, or a broker refuses for good reason, is certainly not in the log.
/// A time-out, a lost connection, a purge: all of them may have happened after the broker had written the record.
fn classify(error: &KafkaError) -> SendError {
    use RDKafkaErrorCode as Code;
    let certain = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::UnknownPartition
                | Code::UnknownTopic
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::MessageSizeTooLarge
                | Code::InvalidMessageSize
        )
    );
    let text = format!("Kafka did not take the command: {error}");
    if certain { SendError::NotSent(text) } else { SendError::Unknown(text) }
}

fn client_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.bootstrap)
        .set("client.id", "kontor-gateway")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // A command waits for nobody: its client does.
        .set("linger.ms", "0")
        .set("compression.type", "none")
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", settings.delivery_timeout_ms.to_string())
        // Bounded: what does not fit is refused at once and says so.
        .set("queue.buffering.max.messages", "20000")
        .set("queue.buffering.max.kbytes", "65536")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .set("socket.nagle.disable", "true")
        .set("topic.metadata.refresh.interval.ms", "60000")
        // Losing a connection is said through the link, once, not line by line.
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Critical);
    config
}

struct Callbacks {
    link: Arc<Link>,
}

impl ClientContext for Callbacks {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client");
        self.link.suspect();
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = Box<oneshot::Sender<Acknowledgement>>;

    fn delivery(&self, result: &DeliveryResult<'_>, acknowledge: Self::DeliveryOpaque) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.clone()),
        };
        // Nobody may be waiting any more: the answer came first, or the client went away.
        let _ = acknowledge.send(result);
    }
}

#[cfg(test)]
mod tests;
