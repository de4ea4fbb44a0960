//! The control topic, from its beginning to its end of now.

use std::collections::BTreeMap;

use anyhow::Context;
use processor::clock::SystemClock;
use processor::control::ControlReader;
use processor::log::Topics;
use processor::log::kafka::{KafkaLog, KafkaOptions};
use schemas::SchemaCache;
use schemas::control::{self, Directory};
use schemas::topics::Topology;

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
    let clock = SystemClock::shared();
    let reader = ControlReader::at_end(&log, &*clock, schemas, topic, "status").with_context(|| {
        format!("cannot read {} at {bootstrap}; is the broker up, and is the prefix right?", spec.name)
    })?;
    Ok(Control { directory: reader.directory, heard_ms: reader.heard_ms, now_ms: clock.wall_ms() })
}
