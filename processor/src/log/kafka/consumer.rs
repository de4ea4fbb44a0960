//! Reading assigned partitions.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::stalls::{Ends, Seen, Stalls};
use crate::clock::SharedClock;
use crate::fault::{self, LogError};
use crate::log::{LogConsumer, Record, RecordBatch, TopicId, TopicPartition, Topics};

/// One consumer, used by one thread.
pub struct KafkaConsumer {
    inner: Option<BaseConsumer>,
    topics: Topics,
    clock: SharedClock,
    ends: Arc<Ends>,
    /// What is read, from where.
    assigned: Vec<(TopicPartition, i64)>,
    stalls: Stalls,
    /// Why this consumer is to be replaced; told by the next poll, so that no record is lost.
    stalled: Option<String>,
}

impl KafkaConsumer {
    pub(super) fn new(inner: BaseConsumer, topics: Topics, clock: SharedClock, ends: Arc<Ends>) -> KafkaConsumer {
        let (assigned, stalls) = (Vec::new(), Stalls::default());
        KafkaConsumer { inner: Some(inner), topics, clock, ends, assigned, stalls, stalled: None }
    }

    fn inner(&self) -> Result<&BaseConsumer, LogError> {
        self.inner.as_ref().ok_or_else(|| LogError::Unavailable("consumer is closed".to_owned()))
    }

    fn list(&self, offsets: &[(TopicPartition, i64)]) -> Result<TopicPartitionList, LogError> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (at, offset) in offsets {
            list.add_partition_offset(self.topics.name(at.topic), at.partition, Offset::Offset(*offset))
                .map_err(|error| LogError::Refused(error.to_string()))?;
        }
        Ok(list)
    }

    /// Now and then: whether every partition that has something to read is read.
    fn look(&mut self) {
        let now = self.clock.monotonic();
        if self.assigned.is_empty() || !self.stalls.is_due(now) {
            return;
        }
        match self.seen() {
            Ok(seen) => self.stalled = self.stalls.look(now, &seen).map(|seen| self.complaint(seen)),
            Err(error) => {
                tracing::debug!(%error, "the ends of partitions are not known");
                self.stalls.begin(now);
            }
        }
    }

    /// The ends first: what is behind them afterwards could have been read.
    fn seen(&mut self) -> Result<Vec<Seen>, LogError> {
        let partitions: Vec<_> = self.assigned.iter().map(|(at, _)| *at).collect();
        let ends = self.ends.of(&partitions)?;
        let positions = self.inner()?.position().map_err(|error| fault::of_read(error, "positions"))?;
        let position =
            |at: TopicPartition| match positions.find_partition(self.topics.name(at.topic), at.partition)?.offset() {
                Offset::Offset(position) => Some(position),
                // Nothing was read yet.
                _ => self.assigned.iter().find(|(one, _)| *one == at).map(|(_, start)| *start),
            };
        Ok(ends.into_iter().filter_map(|(at, end)| Some(Seen { at, position: position(at)?, end })).collect())
    }

    fn complaint(&self, Seen { at, position, end }: Seen) -> String {
        metrics::counter!("kontor_reader_stalls_total").increment(1);
        let topic = self.topics.name(at.topic);
        format!(
            "{topic}-{}: nothing comes behind offset {position}, and it ends at {end}: a new client is needed",
            at.partition
        )
    }
}

impl LogConsumer for KafkaConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        let list = self.list(partitions)?;
        self.inner()?.assign(&list).map_err(|error| fault::of_read(error, "assignment"))?;
        self.assigned = partitions.to_vec();
        self.stalled = None;
        self.stalls.begin(self.clock.monotonic());
        Ok(())
    }

    fn poll(
        &mut self,
        out: &mut RecordBatch,
        max_records: usize,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<(), LogError> {
        if let Some(reason) = self.stalled.take() {
            return Err(LogError::Refused(reason));
        }
        let inner = self.inner.as_ref().ok_or_else(|| LogError::Unavailable("consumer is closed".to_owned()))?;
        // Most records are of the same topic as the one before.
        let mut last: Option<TopicId> = None;
        let mut wait = timeout;
        while out.len() < max_records && out.bytes() < max_bytes {
            let message = match inner.poll(wait) {
                None => {
                    self.look();
                    return Ok(());
                }
                Some(Ok(message)) => message,
                Some(Err(error)) => return report(error, out),
            };
            wait = Duration::ZERO;
            let topic = match last.filter(|id| self.topics.name(*id) == message.topic()) {
                Some(id) => id,
                None => match self.topics.find(message.topic()) {
                    Some(id) => *last.insert(id),
                    None => continue,
                },
            };
            out.push(Record {
                topic,
                partition: message.partition(),
                offset: message.offset(),
                timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
                key: message.key(),
                value: message.payload(),
            });
        }
        Ok(())
    }

    fn position(&mut self, at: TopicPartition) -> Result<Option<i64>, LogError> {
        let topic = self.topics.name(at.topic);
        let positions = self.inner()?.position().map_err(|error| fault::of_read(error, topic))?;
        let offset = positions.find_partition(topic, at.partition).map(|element| element.offset());
        Ok(match offset {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        })
    }

    fn mirror(&mut self, positions: &[(TopicPartition, i64)]) {
        if positions.is_empty() {
            return;
        }
        if let (Ok(list), Ok(inner)) = (self.list(positions), self.inner())
            && let Err(error) = inner.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "positions were not mirrored to the group");
        }
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            super::drop_elsewhere(inner);
        }
    }
}

/// Records before a broker that is away are kept for the caller; that error comes again if it lasts. Every other one is
/// told: the client library says it once, and may go on behind records that it could not read.
fn report(error: KafkaError, out: &RecordBatch) -> Result<(), LogError> {
    match fault::of_read(error, "input") {
        LogError::Unavailable(_) if !out.is_empty() => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::error::RDKafkaErrorCode;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::super::stalls::LOOK_INTERVAL;
    use super::super::{KafkaLog, KafkaOptions};
    use super::*;
    use crate::log::Log;
    use crate::testing::ManualClock;

    fn batch(records: usize) -> RecordBatch {
        let mut batch = RecordBatch::default();
        let record =
            |offset| Record { topic: TopicId(0), partition: 0, offset, timestamp_ms: 0, key: Some(b"k"), value: None };
        (0..records as i64).for_each(|offset| batch.push(record(offset)));
        batch
    }

    #[test]
    fn a_hole_is_told_whatever_came_before_it() {
        for code in [RDKafkaErrorCode::BadMessage, RDKafkaErrorCode::BadCompression, RDKafkaErrorCode::OffsetOutOfRange]
        {
            for records in [0, 3] {
                let told = report(KafkaError::MessageConsumption(code), &batch(records));
                assert!(!matches!(told, Ok(()) | Err(LogError::Unavailable(_))), "{code:?}: {told:?}");
            }
        }
        let away = || KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown);
        assert!(report(away(), &batch(3)).is_ok());
        assert!(matches!(report(away(), &batch(0)), Err(LogError::Unavailable(_))));
    }

    /// A broker with a topic of two partitions, a consumer of both, and a clock that the test moves.
    struct Scene {
        _cluster: MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
        producer: BaseProducer,
        consumer: KafkaConsumer,
        clock: Arc<ManualClock>,
        partitions: [TopicPartition; 2],
    }

    impl Scene {
        fn begin() -> Scene {
            let cluster = MockCluster::new(1).unwrap();
            cluster.create_topic("records", 2, 1).unwrap();
            let bootstrap = cluster.bootstrap_servers();
            let producer = ClientConfig::new().set("bootstrap.servers", &bootstrap).create().unwrap();
            let mut topics = Topics::new(2);
            let topic = topics.add("records");
            let (group, client_id) = ("readers".to_owned(), "test".to_owned());
            let options = KafkaOptions { bootstrap, group, client_id, prefetch_bytes: 1 << 18, extra: Vec::new() };
            let mut consumer = KafkaLog::new(options, topics).unwrap().consumer("test").unwrap();
            let clock = ManualClock::shared(0);
            consumer.clock = clock.clone();
            let partitions = [0, 1].map(|partition| TopicPartition { topic, partition });
            consumer.assign(&partitions.map(|at| (at, 0))).unwrap();
            let mut scene = Scene { _cluster: cluster, producer, consumer, clock, partitions };
            scene.append();
            assert_eq!(scene.read_until(2), 2);
            scene
        }

        /// One record in each partition.
        fn append(&self) {
            for at in self.partitions {
                self.producer.send(BaseRecord::to("records").key("k").payload("v").partition(at.partition)).unwrap();
            }
            self.producer.flush(Duration::from_secs(10)).unwrap();
        }

        /// Polls until so many records came, or none for long; time stands still.
        fn read_until(&mut self, records: usize) -> usize {
            let mut read = RecordBatch::default();
            for _ in 0..200 {
                self.consumer.poll(&mut read, 10, 1 << 20, Duration::from_millis(50)).unwrap();
                if read.len() >= records {
                    break;
                }
            }
            read.len()
        }

        /// Polls over so many looks, and gives the first error.
        fn look(&mut self, times: usize) -> Option<LogError> {
            let mut read = RecordBatch::default();
            (0..times).find_map(|_| {
                self.clock.advance(LOOK_INTERVAL);
                self.consumer.poll(&mut read, 10, 1 << 20, Duration::from_millis(200)).err()
            })
        }
    }

    #[test]
    fn a_partition_that_the_client_no_longer_reads_is_told_and_one_without_records_is_not() {
        let mut scene = Scene::begin();
        assert!(scene.look(10).is_none(), "all was read");
        // What is paused is not fetched and gives no error: as what has stalled.
        let mut paused = TopicPartitionList::new();
        paused.add_partition("records", 1);
        scene.consumer.inner().unwrap().pause(&paused).unwrap();
        assert!(scene.look(10).is_none(), "there is nothing that was not read");
        scene.append();
        assert_eq!(scene.read_until(1), 1, "the other one is read");
        let told = scene.look(10).expect("a complaint");
        assert!(
            matches!(&told, LogError::Refused(reason) if reason.contains("records-1") && reason.contains("offset 1")),
            "{told}"
        );
        // A new assignment begins anew.
        let [_, stalled] = scene.partitions;
        scene.consumer.assign(&[(stalled, 1)]).unwrap();
        scene.consumer.inner().unwrap().resume(&paused).unwrap();
        assert_eq!(scene.read_until(1), 1);
        assert!(scene.look(10).is_none());
    }
}
