//! The declaration as data. Built by `load` only, which checks it; renamed by [`Topology::with_prefix`] only.

use std::collections::BTreeMap;

use crate::records::RecordType;

/// More standbys of one shard than that are a slip of the finger.
pub const MOST_STANDBYS: u8 = 10;

/// Every topic of a system, as topics.yaml declares them.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// Partitions of every co-partitioned topic. Chosen once: a change moves keys away from their state.
    pub partitions: i32,
    /// Shards that the partitions are dealt to, `partition mod shards`.
    pub shards: i32,
    /// Version of the sharding; whoever changes `shards` raises it.
    pub layout: i32,
    /// Instances besides the owner that follow each shard, as far as there are instances for them.
    pub standbys: usize,
    /// Replicas of each partition, where the cluster has as many brokers.
    pub replication: i32,
    /// Patterns (`*` at the end) of topics that are never deleted, without prefix.
    pub protected: Vec<String>,
    /// What topic names start with; empty by default.
    pub prefix: String,
    /// The topics, in the order of the file.
    pub topics: Vec<TopicSpec>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSpec {
    /// Name in the cluster, with the prefix.
    pub name: String,
    /// Name in topics.yaml.
    pub base: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Whether the same number in another co-partitioned topic holds the same keys.
    pub co_partitioned: bool,
    /// What happens to old records.
    pub cleanup: Cleanup,
    /// Settings of the topic as Kafka names them, `cleanup.policy` included.
    pub config: BTreeMap<String, String>,
    /// What the key is, for people.
    pub key: String,
    /// Records that the topic may hold; empty for raw bytes.
    pub records: Vec<&'static RecordType>,
    /// How the registry's subjects are named.
    pub subjects: Subjects,
    /// Tables that can be rebuilt from this topic.
    pub tables: Vec<String>,
    /// Whether the topic is of no use outside the processor.
    pub internal: bool,
    /// Whether `protected` names it: it stays even when it is no longer declared.
    pub keep: bool,
}

/// Kafka's `cleanup.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Old segments go, by the retention.
    Delete,
    /// The latest record of each key stays.
    Compact,
    /// Both.
    CompactDelete,
}

impl Cleanup {
    /// As in topics.yaml and in Kafka.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactDelete => "compact,delete",
        }
    }

    /// Whether the latest record of each key stays for ever.
    pub fn keeps_latest(self) -> bool {
        self == Self::Compact
    }
}

/// Naming of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subjects {
    /// `<topic>-<full name of the record>`
    TopicRecord,
    /// `<topic>-value`, for topics of one record type.
    Topic,
}

impl TopicSpec {
    /// The registry's subject for a record of this topic.
    pub fn subject(&self, record_full_name: &str) -> String {
        match self.subjects {
            Subjects::TopicRecord => format!("{}-{record_full_name}", self.name),
            Subjects::Topic => format!("{}-value", self.name),
        }
    }
}

impl Topology {
    /// The topic that topics.yaml calls `base`.
    pub fn topic(&self, base: &str) -> Option<&TopicSpec> {
        self.topics.iter().find(|topic| topic.base == base)
    }

    /// The same topics under names that start with `prefix` (a separator such as `.` is part of it), so that several
    /// systems share a cluster.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        for topic in &mut self.topics {
            topic.name = format!("{prefix}{}", topic.base);
        }
        self
    }

    /// Every record of every topic: what a registry must know.
    pub fn subjects(&self) -> impl Iterator<Item = (&TopicSpec, &'static RecordType, String)> {
        self.topics
            .iter()
            .flat_map(|topic| topic.records.iter().map(move |record| (topic, *record, topic.subject(record.full_name))))
    }

    /// Whether a topic must never be deleted: of the cluster itself (`_` first), of another prefix, or protected.
    pub fn is_untouchable(&self, topic: &str) -> bool {
        match topic.strip_prefix(self.prefix.as_str()) {
            None => true,
            Some(base) => topic.starts_with('_') || base.starts_with('_') || self.is_protected(base),
        }
    }

    pub(super) fn is_protected(&self, base: &str) -> bool {
        self.protected.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => base.starts_with(start),
            None => base == pattern,
        })
    }
}
