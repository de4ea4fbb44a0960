//! topics.yaml into a [`Topology`]: read once, refused as a whole at the first thing that is wrong, and named by its
//! path in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

use super::fields::{Fields, bad, kind};
use super::suggest::{hint, nearest};
use super::topology::{Cleanup, MOST_STANDBYS, Subjects, TopicSpec, Topology};
use crate::records::{RECORD_TYPES, RecordType, record_type};

/// Why a declaration of topics cannot be used. Never worth a retry.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// No such file, or not readable.
    #[error("cannot read {}, name the declaration of topics with --topics or KONTOR_TOPICS", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not YAML.
    #[error("not a YAML file: {0}")]
    Yaml(#[from] serde_yaml_ng::Error),
    /// Wrong content.
    #[error("{path}: {what}")]
    Invalid {
        /// Keys from the top, joined by dots.
        path: String,
        /// What is wrong and what was expected.
        what: String,
    },
}

/// More partitions than that are a slip of the finger.
const MOST_PARTITIONS: i32 = 10_000;

impl Topology {
    /// Reads and checks a declaration.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TopologyError> {
        let path = path.as_ref();
        let text =
            std::fs::read_to_string(path).map_err(|source| TopologyError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// The same from text.
    pub fn parse(text: &str) -> Result<Self, TopologyError> {
        let mut top = Fields::of("", serde_yaml_ng::from_str::<Value>(text)?)?;
        let partitions = required(top.count("partitions", MOST_PARTITIONS)?, "partitions")?;
        let shards = required(top.count("shards", MOST_PARTITIONS)?, "shards")?;
        if shards > partitions {
            return Err(bad("shards", format!("must be at most partitions ({partitions}), found {shards}")));
        }
        let layout = required(top.count("layout", i32::MAX)?, "layout")?;
        let standbys = top.number("standbys", 0..=i32::from(MOST_STANDBYS))?.map_or(1, i32::unsigned_abs) as usize;
        let replication = top.count("replication", 100)?.unwrap_or(3);
        let protected = top.strings("protected")?;
        let defaults = match top.value("defaults") {
            Some(value) => config(&top.at("defaults"), value)?,
            None => BTreeMap::new(),
        };
        let declared = Fields::of("topics", required(top.value("topics"), "topics")?)?.entries()?;
        top.finish()?;

        let mut topology = Self {
            partitions,
            shards,
            layout,
            standbys,
            replication,
            protected,
            prefix: String::new(),
            topics: Vec::new(),
        };
        for (name, value) in declared {
            let topic = topic(&topology, &defaults, &name, value)?;
            topology.topics.push(topic);
        }
        one_topic_per_table(&topology)?;
        Ok(topology)
    }
}

fn topic(
    topology: &Topology,
    defaults: &BTreeMap<String, String>,
    name: &str,
    value: Value,
) -> Result<TopicSpec, TopologyError> {
    let path = format!("topics.{name}");
    if !is_legal_name(name) {
        return Err(bad(&path, "a topic name has 1 to 100 of the characters a-z A-Z 0-9 . _ -"));
    }
    let mut fields = Fields::of(&path, value)?;
    let cleanup = cleanup(&mut fields)?;
    let own_partitions = fields.count("partitions", MOST_PARTITIONS)?;
    let co_partitioned = fields.flag("co_partitioned")?.unwrap_or(own_partitions.is_none());
    if co_partitioned && own_partitions.is_some_and(|own| own != topology.partitions) {
        let at = fields.at("partitions");
        return Err(bad(&at, format!("a co-partitioned topic has {} partitions as all others", topology.partitions)));
    }
    let key = fields.string("key")?.unwrap_or_default();
    let records = records(&fields.at("records"), fields.strings("records")?)?;
    let subjects = subjects(&mut fields, records.len())?;
    let tables = fields.strings("tables")?;
    let internal = fields.flag("internal")?.unwrap_or(false);
    let mut settings = defaults.clone();
    if let Some(value) = fields.value("config") {
        settings.extend(config(&fields.at("config"), value)?);
    }
    settings.insert("cleanup.policy".to_owned(), cleanup.as_str().to_owned());
    fields.finish()?;
    Ok(TopicSpec {
        name: name.to_owned(),
        base: name.to_owned(),
        partitions: own_partitions.unwrap_or(topology.partitions),
        co_partitioned,
        cleanup,
        config: settings,
        key,
        records,
        subjects,
        tables,
        internal,
        keep: topology.is_protected(name),
    })
}

fn cleanup(fields: &mut Fields) -> Result<Cleanup, TopologyError> {
    let at = fields.at("cleanup");
    match required(fields.string("cleanup")?, &at)?.as_str() {
        "delete" => Ok(Cleanup::Delete),
        "compact" => Ok(Cleanup::Compact),
        "compact,delete" => Ok(Cleanup::CompactDelete),
        other => Err(bad(&at, format!("must be delete, compact or \"compact,delete\", found \"{other}\""))),
    }
}

fn subjects(fields: &mut Fields, records: usize) -> Result<Subjects, TopologyError> {
    let at = fields.at("subjects");
    match fields.string("subjects")?.as_deref() {
        None | Some("topic-record") => Ok(Subjects::TopicRecord),
        Some("topic") if records == 1 => Ok(Subjects::Topic),
        Some("topic") => {
            Err(bad(&at, format!("one subject for the whole topic needs exactly one record, found {records}")))
        }
        Some(other) => Err(bad(&at, format!("must be topic-record or topic, found \"{other}\""))),
    }
}

fn records(path: &str, names: Vec<String>) -> Result<Vec<&'static RecordType>, TopologyError> {
    let mut found: Vec<&'static RecordType> = Vec::new();
    for name in names {
        let record = record_type(&name).ok_or_else(|| {
            let hint = hint(&name, RECORD_TYPES.iter().map(|record| record.name));
            bad(path, format!("there is no record {name}{hint}"))
        })?;
        if found.contains(&record) {
            return Err(bad(path, format!("{name} stands there twice")));
        }
        found.push(record);
    }
    Ok(found)
}

/// Settings as Kafka takes them: texts.
fn config(path: &str, value: Value) -> Result<BTreeMap<String, String>, TopologyError> {
    let mut settings = BTreeMap::new();
    for (key, value) in Fields::of(path, value)?.entries()? {
        let at = format!("{path}.{key}");
        if key == "cleanup.policy" {
            return Err(bad(&at, "is set by the key cleanup of the topic"));
        }
        // A key that is unknown here may be one of a newer broker, which then judges it; a near miss is a slip.
        if !TOPIC_SETTINGS.contains(&key.as_str())
            && let Some(near) = nearest(&key, TOPIC_SETTINGS.iter().copied())
        {
            return Err(bad(&at, format!("unknown setting, did you mean {near}?")));
        }
        let text = match &value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => kind(&value),
            other => return Err(bad(&at, format!("must be a text, a number, true or false, found {}", kind(other)))),
        };
        let is_numeric = !TEXT_SETTINGS.contains(&key.as_str()) && TOPIC_SETTINGS.contains(&key.as_str());
        if is_numeric && text.parse::<f64>().is_err() {
            return Err(bad(&at, format!("must be a number, found \"{text}\"")));
        }
        settings.insert(key, text);
    }
    Ok(settings)
}

fn one_topic_per_table(topology: &Topology) -> Result<(), TopologyError> {
    let mut seen = BTreeSet::new();
    for topic in &topology.topics {
        for table in &topic.tables {
            if !seen.insert(table) {
                return Err(bad(&format!("topics.{}.tables", topic.base), format!("table {table} is backed twice")));
            }
        }
    }
    Ok(())
}

fn required<T>(value: Option<T>, path: &str) -> Result<T, TopologyError> {
    value.ok_or_else(|| bad(path, "is missing"))
}

/// Kafka's rule, with room for a prefix in its 249 characters.
pub(super) fn is_legal_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Settings of a topic in Kafka 4.
const TOPIC_SETTINGS: &[&str] = &[
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

/// Those of them whose values are no numbers.
const TEXT_SETTINGS: &[&str] = &[
    "compression.type",
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "message.timestamp.type",
    "preallocate",
    "remote.storage.enable",
    "unclean.leader.election.enable",
];

#[cfg(test)]
mod tests;
