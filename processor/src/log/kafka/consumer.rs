//! Reading assigned partitions.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::fault::{self, LogError};
use crate::log::{LogConsumer, Record, RecordBatch, TopicId, TopicPartition, Topics};

/// One consumer, used by one thread.
pub struct KafkaConsumer {
    inner: Option<BaseConsumer>,
    topics: Topics,
}

impl KafkaConsumer {
    pub(super) fn new(inner: BaseConsumer, topics: Topics) -> KafkaConsumer {
        KafkaConsumer { inner: Some(inner), topics }
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
}

impl LogConsumer for KafkaConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        let list = self.list(partitions)?;
        self.inner()?.assign(&list).map_err(|error| fault::of_read(error, "assignment"))
    }

    fn poll(
        &mut self,
        out: &mut RecordBatch,
        max_records: usize,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<(), LogError> {
        let inner = self.inner.as_ref().ok_or_else(|| LogError::Unavailable("consumer is closed".to_owned()))?;
        // Most records are of the same topic as the one before.
        let mut last: Option<TopicId> = None;
        let mut wait = timeout;
        while out.len() < max_records && out.bytes() < max_bytes {
            let message = match inner.poll(wait) {
                None => return Ok(()),
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
    use rdkafka::error::RDKafkaErrorCode;

    use super::*;

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
}
