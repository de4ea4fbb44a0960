//! The control topic, from its beginning to its end of now.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use processor::clock::{Clock, SystemClock};
use processor::log::kafka::{KafkaLog, KafkaOptions};
use processor::log::{Log, LogConsumer, RecordBatch, TopicPartition, Topics};
use schemas::SchemaCache;
use schemas::control::{self, Change, ControlError, Directory};
use schemas::topics::Topology;

/// Time to reach the end.
const DEADLINE: Duration = Duration::from_secs(15);
/// Wait of one poll, and for a schema.
const PAUSE: Duration = Duration::from_millis(20);

/// What was read.
pub struct Control {
    /// Who lives and who owns what.
    pub directory: Directory,
    /// When each member last said that it lives, milliseconds since 1970 by the broker.
    pub heard_ms: BTreeMap<String, i64>,
    /// Now, milliseconds since 1970.
    pub now_ms: i64,
}

/// Reads it.
pub fn control(bootstrap: &str, topology: &Topology, schemas: &SchemaCache) -> anyhow::Result<Control> {
    let spec = topology.topic("control").context("topics.yaml declares no topic control")?;
    let mut topics = Topics::new(control::PARTITIONS);
    let topic = topics.add(&spec.name);
    let options = KafkaOptions {
        bootstrap: bootstrap.to_owned(),
        group: "kontor-status".to_owned(),
        client_id: "status".to_owned(),
        prefetch_bytes: 4 << 20,
        extra: Vec::new(),
    };
    let log = KafkaLog::new(options, topics)?;
    let mut reader = Reader { log, schemas, directory: Directory::default(), heard_ms: BTreeMap::new() };
    let parts = [control::ASSIGNMENT_PARTITION, control::MEMBER_PARTITION];
    reader.read(parts.map(|partition| TopicPartition { topic, partition })).with_context(|| {
        format!("cannot read {} at {bootstrap}; is the broker up, and is the prefix right?", spec.name)
    })?;
    Ok(Control { directory: reader.directory, heard_ms: reader.heard_ms, now_ms: SystemClock::shared().wall_ms() })
}

struct Reader<'s> {
    log: KafkaLog,
    schemas: &'s SchemaCache,
    directory: Directory,
    heard_ms: BTreeMap<String, i64>,
}

impl Reader<'_> {
    fn read(&mut self, parts: [TopicPartition; 2]) -> anyhow::Result<()> {
        let clock = SystemClock::shared();
        let until = clock.monotonic() + DEADLINE;
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for at in parts {
            let log = self.log.watermarks(at)?;
            starts.push((at, log.low));
            ends.push((at, log.high));
        }
        let mut consumer = self.log.consumer("status")?;
        consumer.assign(&starts)?;
        let mut polled = RecordBatch::default();
        loop {
            polled.clear();
            consumer.poll(&mut polled, 10_000, 1 << 20, PAUSE)?;
            for record in polled.iter() {
                self.fold(&*clock, &record)?;
            }
            ends.retain(|(at, end)| consumer.position(*at).ok().flatten().unwrap_or(0) < *end);
            if ends.is_empty() {
                return Ok(());
            }
            anyhow::ensure!(clock.monotonic() < until, "its end was not reached in {} s", DEADLINE.as_secs());
        }
    }

    fn fold(&mut self, clock: &dyn Clock, record: &processor::log::Record<'_>) -> anyhow::Result<()> {
        let until = clock.monotonic() + DEADLINE;
        loop {
            match self.directory.apply(self.schemas, record.partition, record.key, record.value) {
                Ok(Change::Beat(name)) => {
                    self.heard_ms.insert(name, record.timestamp_ms);
                    return Ok(());
                }
                Ok(_) => return Ok(()),
                Err(ControlError::Wait(_)) if clock.monotonic() < until => clock.pause(PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
