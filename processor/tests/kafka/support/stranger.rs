//! Somebody else who writes into the topics of a bank.

use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

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
