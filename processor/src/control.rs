//! The control topic, read to its end by who is no member: by `processor status`, and by a change of layout.
//!
//! Who comes only to look may wait: for the end, and for a schema that the registry is still asked about. A member must
//! not, so `membership` follows the topic in its own way.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::SchemaCache;
use schemas::control::{self, Change, ControlError, Directory};

use crate::clock::Clock;
use crate::fault::LogError;
use crate::log::{Log, LogConsumer, Record, RecordBatch, TopicId, TopicPartition};

/// The end is reached within this time, or something is wrong; the same for a schema.
const DEADLINE: Duration = Duration::from_secs(15);
/// Wait of one poll, and for a schema.
const PAUSE: Duration = Duration::from_millis(20);
/// Records and bytes of one poll.
const POLL_RECORDS: usize = 10_000;
const POLL_BYTES: usize = 1 << 20;

/// Why it was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ControlReadError {
    /// The broker.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The broker is slow, or a leader's transaction is open.
    #[error("its end was not reached in {} s", DEADLINE.as_secs())]
    Late,
    /// A record that cannot be folded, or not yet.
    #[error(transparent)]
    Record(#[from] ControlError),
}

/// A reader of the topic, and what it has read.
pub struct ControlReader<'s, L: Log> {
    log: &'s L,
    clock: &'s dyn Clock,
    schemas: &'s SchemaCache,
    parts: [TopicPartition; 2],
    consumer: L::Consumer,
    polled: RecordBatch,
    /// Who lives and who owns what.
    pub directory: Directory,
    /// Members that said something and did not leave, and when they last did, milliseconds since 1970 by the broker.
    pub heard_ms: BTreeMap<String, i64>,
}

impl<'s, L: Log> ControlReader<'s, L> {
    /// Reads from the beginning to the end that the topic has now. `name` is the client's.
    pub fn at_end(
        log: &'s L,
        clock: &'s dyn Clock,
        schemas: &'s SchemaCache,
        topic: TopicId,
        name: &str,
    ) -> Result<Self, ControlReadError> {
        let parts = control::PARTS.map(|partition| TopicPartition { topic, partition });
        let mut starts = Vec::new();
        for at in parts {
            starts.push((at, log.watermarks(at)?.low));
        }
        let mut consumer = log.consumer(name)?;
        consumer.assign(&starts)?;
        let (polled, directory, heard_ms) = (RecordBatch::default(), Directory::default(), BTreeMap::new());
        let mut reader = ControlReader { log, clock, schemas, parts, consumer, polled, directory, heard_ms };
        reader.catch_up()?;
        Ok(reader)
    }

    /// Reads on for this time, and then to the end: with a broker that stalls, nobody would have been heard.
    pub fn follow(&mut self, patience: Duration) -> Result<(), ControlReadError> {
        let until = self.clock.monotonic() + patience;
        while self.clock.monotonic() < until {
            self.poll()?;
        }
        self.catch_up()
    }

    fn catch_up(&mut self) -> Result<(), ControlReadError> {
        let mut ends = Vec::new();
        for at in self.parts {
            let log = self.log.watermarks(at)?;
            // Nothing would ever be passed in an empty one.
            if log.low < log.high {
                ends.push((at, log.high));
            }
        }
        let until = self.clock.monotonic() + DEADLINE;
        loop {
            let consumer = &mut self.consumer;
            ends.retain(|(at, end)| consumer.position(*at).ok().flatten().unwrap_or(0) < *end);
            if ends.is_empty() {
                return Ok(());
            }
            if self.clock.monotonic() >= until {
                return Err(ControlReadError::Late);
            }
            self.poll()?;
        }
    }

    fn poll(&mut self) -> Result<(), ControlReadError> {
        self.polled.clear();
        self.consumer.poll(&mut self.polled, POLL_RECORDS, POLL_BYTES, PAUSE)?;
        let polled = std::mem::take(&mut self.polled);
        for record in polled.iter() {
            match self.fold(&record)? {
                Change::Beat(name) => {
                    self.heard_ms.insert(name, record.timestamp_ms);
                }
                Change::Left(name) => {
                    self.heard_ms.remove(&name);
                }
                Change::Assigned | Change::Nothing => {}
            }
        }
        self.polled = polled;
        Ok(())
    }

    fn fold(&mut self, record: &Record<'_>) -> Result<Change, ControlReadError> {
        let until = self.clock.monotonic() + DEADLINE;
        loop {
            match self.directory.apply(self.schemas, record.partition, record.key, record.value) {
                Ok(change) => return Ok(change),
                Err(ControlError::Wait(_)) if self.clock.monotonic() < until => self.clock.pause(PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::control::{MEMBER_PARTITION, member_key};
    use schemas::records::Member;
    use schemas::{AvroRecord, Encoder};

    use super::*;
    use crate::log::Topics;
    use crate::log::memory::MemoryLog;
    use crate::testing::ManualClock;

    fn beat(log: &MemoryLog, topic: TopicId, name: &str, schema: u32) {
        let record = Member { instance: name.to_owned(), incarnation: "1".to_owned(), beat: 1, ..Member::default() };
        let mut value = Vec::new();
        Encoder::new(schema).encode(&record, &mut value).unwrap();
        say(log, topic, name, Some(&value));
    }

    fn say(log: &MemoryLog, topic: TopicId, name: &str, value: Option<&[u8]>) {
        let at = TopicPartition { topic, partition: MEMBER_PARTITION };
        log.append(at, Some(&member_key(name)), value, None).unwrap();
    }

    #[test]
    fn who_left_is_not_heard_and_a_schema_is_not_waited_for_without_end() {
        let (clock, mut topics) = (ManualClock::shared(0), Topics::new(control::PARTITIONS));
        let topic = topics.add("control");
        let log = MemoryLog::simulated(topics, clock.clone());
        let schemas = SchemaCache::fixed(&[(2, Member::schema_json())]).unwrap();
        let read = || ControlReader::at_end(&log, &*clock, &schemas, topic, "test");
        assert!(read().unwrap().heard_ms.is_empty(), "an empty topic has an end");

        for name in ["stays", "leaves"] {
            beat(&log, topic, name, 2);
        }
        say(&log, topic, "leaves", None);
        let reader = read().unwrap();
        let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(names(reader.heard_ms.keys().collect()), ["stays"]);
        assert_eq!(names(reader.directory.members.keys().collect()), ["stays"]);

        beat(&log, topic, "of a later version", 3);
        let error = read().err().unwrap();
        assert!(matches!(error, ControlReadError::Record(ControlError::Wait(3))), "{error}");
        assert!(clock.monotonic() >= DEADLINE);
    }
}
