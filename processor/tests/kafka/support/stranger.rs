//! Somebody else who writes into the topics of a bank.

use std::sync::{Arc, mpsc};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ProducerContext, ThreadedProducer};

use super::{Bank, DEADLINE};

/// An open transaction of somebody else at the end of a changelog: records below the high watermark that are not
/// stable yet. The shard must neither run without them nor take them.
pub struct OpenTransaction {
    producer: Arc<ThreadedProducer<DefaultProducerContext>>,
}

impl OpenTransaction {
    /// Opens it in this partition of the changelog, with records of this key.
    pub async fn begin(bank: &Bank, partition: i32, key: &str) -> OpenTransaction {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bank.space.bootstrap());
        config.set("transactional.id", format!("{}stranger", bank.space.prefix));
        let producer: Arc<ThreadedProducer<DefaultProducerContext>> = Arc::new(config.create().unwrap());
        let (opening, topic, key) = (Arc::clone(&producer), bank.space.topic("changelog"), key.to_owned());
        let open = move || {
            opening.init_transactions(DEADLINE).unwrap();
            opening.begin_transaction().unwrap();
            for _ in 0..10 {
                let record = BaseRecord::to(&topic).partition(partition).key(&key).payload("never committed");
                opening.send::<String, str>(record).map_err(|(error, _)| error).unwrap();
            }
            opening.flush(DEADLINE).unwrap();
        };
        tokio::task::spawn_blocking(open).await.unwrap();
        OpenTransaction { producer }
    }

    /// Aborts it: its records stay, as aborted ones.
    pub async fn abort(self) {
        tokio::task::spawn_blocking(move || self.producer.abort_transaction(DEADLINE).unwrap()).await.unwrap();
    }
}

/// Tells what became of a record.
struct Fate(mpsc::Sender<Option<RDKafkaErrorCode>>);

impl ClientContext for Fate {}

impl ProducerContext for Fate {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let refused = result.as_ref().err().and_then(|(error, _)| error.rdkafka_error_code());
        self.0.send(refused).unwrap();
    }
}

/// Sends a record to a topic by its full name: why it was not taken, or nothing when it was.
pub async fn refusal_of_a_record(bank: &Bank, topic: &str) -> Option<RDKafkaErrorCode> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bank.space.bootstrap());
    // By default it waits so long for a topic to appear that the record times out, which says nothing about the topic.
    config.set("topic.metadata.propagation.max.ms", "500");
    let topic = topic.to_owned();
    let send = move || {
        let (told, fate) = mpsc::channel();
        let producer = ThreadedProducer::<Fate>::from_config_and_context(&config, Fate(told)).unwrap();
        producer.send(BaseRecord::to(&topic).key("key").payload("value")).map_err(|(error, _)| error).unwrap();
        fate.recv_timeout(DEADLINE).unwrap()
    };
    tokio::task::spawn_blocking(send).await.unwrap()
}
