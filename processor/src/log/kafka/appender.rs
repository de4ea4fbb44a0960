//! Writing single records outside of transactions, one at a time.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
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
    /// For the next producer.
    config: ClientConfig,
    topics: Topics,
    sent: usize,
}

impl KafkaAppender {
    pub(super) fn start(config: &ClientConfig, topics: &Topics) -> Result<KafkaAppender, LogError> {
        let (inner, reports) = connect(config, topics)?;
        Ok(KafkaAppender { inner: Some(inner), reports, config: config.clone(), topics: topics.clone(), sent: 0 })
    }

    /// What the producer cannot get over: it takes nothing any more. A broker that lost the end of what it had
    /// acknowledged is the usual cause, because the numbers of the records do not fit then.
    fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.inner.as_ref()?.client().fatal_error()
    }

    /// Replaces the producer. To connect takes up to two seconds where no broker answers; then nothing could be appended
    /// anyway. The broken one sends nothing any more: what could come behind the next record is already on its way.
    fn renew(&mut self) -> Result<(), LogError> {
        let (inner, reports) = connect(&self.config, &self.topics)?;
        self.reports = reports;
        if let Some(broken) = self.inner.replace(inner) {
            // Here it would hold up heartbeats for as long as it takes to be dropped.
            super::drop_elsewhere(broken);
        }
        Ok(())
    }

    fn append_once(
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

fn connect(
    config: &ClientConfig,
    topics: &Topics,
) -> Result<(ServedProducer<ReportContext>, Receiver<Report>), LogError> {
    let (sender, reports) = bounded(64);
    let refused = |error: KafkaError| LogError::Refused(format!("client: {error}"));
    let mut inner = ServedProducer::create(config, ReportContext { reports: sender }).map_err(refused)?;
    inner.serve().map_err(refused)?;
    super::learn(inner.client(), topics.names());
    Ok((inner, reports))
}

impl LogAppender for KafkaAppender {
    /// A record that meets the fatal error is lost; the next one goes to a new producer.
    fn append(
        &mut self,
        at: TopicPartition,
        key: &[u8],
        value: Option<&[u8]>,
        deadline: Duration,
    ) -> Result<(), LogError> {
        // Asked of the client and not of the last error: a delivery report has the code of what went wrong, and whoever
        // gave up waiting has seen none.
        if let Some((code, reason)) = self.fatal_error() {
            tracing::error!(%code, reason, "the producer met a fatal error and is replaced");
            self.renew()?;
        }
        self.append_once(at, key, value, deadline)
    }
}

impl Drop for KafkaAppender {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            super::drop_elsewhere(inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::super::{KafkaLog, KafkaOptions};
    use super::*;
    use crate::log::Log;

    const LONG: Duration = Duration::from_secs(20);

    /// Against the client library's in-process broker.
    #[test]
    fn a_fatal_error_costs_one_record() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("control", 2, 1).unwrap();
        let mut topics = Topics::new(2);
        let at = TopicPartition { topic: topics.add("control"), partition: 1 };
        let options = KafkaOptions {
            bootstrap: cluster.bootstrap_servers(),
            group: "test".to_owned(),
            client_id: "test".to_owned(),
            prefetch_bytes: 1 << 20,
            extra: Vec::new(),
        };
        let log = KafkaLog::new(options, topics).unwrap();
        let mut appender = log.appender("heartbeats").unwrap();
        appender.append(at, b"a", Some(b"1".as_slice()), LONG).unwrap();
        assert_eq!(appender.fatal_error(), None);
        // As a broker says that has lost the record before.
        let lost_its_end = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER];
        cluster.request_errors(RDKafkaApiKey::Produce, &lost_its_end);
        appender.append(at, b"a", Some(b"2".as_slice()), LONG).unwrap_err();
        assert!(appender.fatal_error().is_some(), "the client library goes on by itself");
        for value in [b"3".as_slice(), b"4".as_slice()] {
            appender.append(at, b"a", Some(value), LONG).unwrap();
        }
        assert_eq!(appender.fatal_error(), None);
    }
}
