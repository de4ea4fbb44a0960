//! Writing single records outside of transactions, one at a time.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use super::served::ServedProducer;
use crate::fault::LogError;
use crate::log::{LogAppender, TopicPartition, Topics};

/// What became of the record with this number; an error is the text of the client library.
type Report = (usize, Result<(), String>);

struct ReportContext {
    reports: Sender<Report>,
}

impl ClientContext for ReportContext {}

impl ProducerContext for ReportContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.to_string());
        // Whoever waited may have given up: then nobody takes the report out, and a later one would wait behind it.
        let _ = self.reports.try_send((number, result));
    }
}

/// See the module.
pub struct KafkaAppender {
    inner: Option<ServedProducer<ReportContext>>,
    reports: Receiver<Report>,
    topics: Topics,
    sent: usize,
}

impl KafkaAppender {
    pub(super) fn start(config: &ClientConfig, topics: &Topics) -> Result<KafkaAppender, LogError> {
        let (sender, reports) = bounded(64);
        let refused = |error: KafkaError| LogError::Refused(format!("client: {error}"));
        let mut inner = ServedProducer::create(config, ReportContext { reports: sender }).map_err(refused)?;
        inner.serve().map_err(refused)?;
        super::learn(inner.client(), topics.names());
        Ok(KafkaAppender { inner: Some(inner), reports, topics: topics.clone(), sent: 0 })
    }
}

impl LogAppender for KafkaAppender {
    fn append(
        &mut self,
        at: TopicPartition,
        key: &[u8],
        value: Option<&[u8]>,
        deadline: Duration,
    ) -> Result<(), LogError> {
        let inner = self.inner.as_ref().ok_or_else(|| LogError::Unavailable("producer is closed".to_owned()))?;
        // Reports of records that nobody waited for.
        while self.reports.try_recv().is_ok() {}
        self.sent += 1;
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(self.topics.name(at.topic), self.sent).partition(at.partition).key(key);
        record.payload = value;
        inner.send(record).map_err(|(error, _)| LogError::Unavailable(error.to_string()))?;
        loop {
            match self.reports.recv_timeout(deadline) {
                Ok((number, result)) if number == self.sent => return result.map_err(LogError::Unavailable),
                Ok(_) => {}
                Err(_) => return Err(LogError::Unavailable("no answer to a record in time".to_owned())),
            }
        }
    }
}

impl Drop for KafkaAppender {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            super::drop_elsewhere(inner);
        }
    }
}
