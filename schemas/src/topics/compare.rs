//! The declaration against the cluster, as a pure function: what must be done, what will not be done, what is worth
//! saying.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cluster::{ActualTopic, ClusterState};
use super::subjects::{COMPATIBILITY, SubjectState};
use super::topology::{TopicSpec, Topology};

/// The difference between a declaration and a cluster. Empty once `apply` has run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What `apply` would do, in this order.
    pub actions: Vec<Action>,
    /// What stands in the way of `apply`.
    pub refusals: Vec<Refusal>,
    /// What is different, and is an operator's to change.
    pub warnings: Vec<String>,
    /// Topics that are not declared, internal ones left out.
    pub unknown: Vec<String>,
    /// What was decided on the way.
    pub notes: Vec<String>,
}

/// One step of `apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// The topic does not exist.
    CreateTopic {
        /// Name in the cluster.
        topic: String,
        /// Partitions.
        partitions: i32,
        /// Replicas, at most as many as brokers.
        replication: i32,
        /// All of its settings.
        config: BTreeMap<String, String>,
    },
    /// Settings differ. Those that are not declared stay as they are.
    AlterConfig {
        /// Name in the cluster.
        topic: String,
        /// One for each setting that differs.
        changes: Vec<ConfigChange>,
    },
    /// A subject would accept schemas that old readers or old records do not bear.
    SetCompatibility {
        /// The subject.
        subject: String,
        /// Level now, if it has one of its own.
        from: Option<String>,
        /// Level to be.
        to: String,
    },
    /// This build's schema is not registered.
    RegisterSchema {
        /// The subject.
        subject: String,
        /// Full name of the record.
        record: String,
    },
    /// Only when deleting was asked for.
    DeleteTopic {
        /// Name in the cluster.
        topic: String,
    },
}

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigChange {
    /// Name of the setting.
    pub key: String,
    /// Value now, also when it comes from the broker's defaults.
    pub from: Option<String>,
    /// Value to be.
    pub to: String,
}

/// A difference that `apply` does not touch, and that services do not run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// Another number of partitions would send keys to partitions that do not hold their state.
    Partitions {
        /// Name in the cluster.
        topic: String,
        /// Partitions now.
        from: i32,
        /// Partitions declared.
        to: i32,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Partitions { topic, from, to } => write!(
                f,
                "topic {topic} has {from} partitions, declared are {to}: a change would part keys from their state; \
                 declare {from}, or use another prefix, or delete the topic with everything that was built from it"
            ),
        }
    }
}

impl Plan {
    /// What it takes to make `state` as `topology` declares. Topics are deleted only with `delete_unknown`, and then
    /// only those of this prefix that are neither internal nor protected.
    pub fn between(topology: &Topology, state: &ClusterState, delete_unknown: bool) -> Self {
        let mut plan = Self::default();
        let replication = plan.cap_replication(topology, state.brokers);
        for spec in &topology.topics {
            match state.topics.get(&spec.name) {
                None => plan.actions.push(create(spec, replication)),
                Some(actual) => plan.compare(spec, actual, replication),
            }
        }
        for (_, record, subject) in topology.subjects() {
            plan.compare_subject(&subject, record.full_name, state.subjects.get(&subject));
        }
        plan.list_unknown(topology, state, delete_unknown);
        plan
    }

    /// Whether the cluster is as declared. Unknown topics alone are no difference: the cluster may be shared.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.refusals.is_empty() && self.warnings.is_empty()
    }

    fn cap_replication(&mut self, topology: &Topology, brokers: usize) -> i32 {
        let most = i32::try_from(brokers).unwrap_or(i32::MAX).max(1);
        if topology.replication > most {
            let brokers = if most == 1 { "1 broker".to_owned() } else { format!("{most} brokers") };
            let wanted = topology.replication;
            self.notes.push(format!("replication {wanted} is capped at {most}: the cluster has {brokers}"));
        }
        topology.replication.min(most)
    }

    fn compare(&mut self, spec: &TopicSpec, actual: &ActualTopic, replication: i32) {
        if actual.partitions != spec.partitions {
            let (from, to) = (actual.partitions, spec.partitions);
            self.refusals.push(Refusal::Partitions { topic: spec.name.clone(), from, to });
        }
        // A cluster that is short of a broker today still holds topics with more replicas: that is no drift.
        if actual.replication < replication {
            let (topic, has) = (&spec.name, actual.replication);
            self.warnings.push(format!(
                "topic {topic} has {has} replicas, the cluster bears {replication}: move it with kafka-reassign-partitions"
            ));
        }
        let changes: Vec<ConfigChange> = wanted_config(spec, actual.replication)
            .into_iter()
            .filter(|(key, to)| actual.config.get(key).is_none_or(|from| !same_value(from, to)))
            .map(|(key, to)| ConfigChange { from: actual.config.get(&key).cloned(), key, to })
            .collect();
        if !changes.is_empty() {
            self.actions.push(Action::AlterConfig { topic: spec.name.clone(), changes });
        }
    }

    fn compare_subject(&mut self, subject: &str, record: &str, actual: Option<&SubjectState>) {
        // Subjects may be shared by two records of a topic only when they are named by it, and then there is one.
        let level = actual.and_then(|actual| actual.compatibility.clone());
        if level.as_deref() != Some(COMPATIBILITY) {
            let (subject, to) = (subject.to_owned(), COMPATIBILITY.to_owned());
            self.actions.push(Action::SetCompatibility { subject, from: level, to });
        }
        if !actual.is_some_and(|actual| actual.registered) {
            self.actions.push(Action::RegisterSchema { subject: subject.to_owned(), record: record.to_owned() });
        }
    }

    fn list_unknown(&mut self, topology: &Topology, state: &ClusterState, delete_unknown: bool) {
        for topic in state.topics.keys() {
            let declared = topology.topics.iter().any(|spec| &spec.name == topic);
            if declared || !topic.starts_with(&topology.prefix) || is_internal(topic) {
                continue;
            }
            self.unknown.push(topic.clone());
            if !delete_unknown {
                continue;
            }
            if topology.is_untouchable(topic) {
                self.notes.push(format!("topic {topic} is not declared but protected: it stays"));
            } else {
                self.actions.push(Action::DeleteTopic { topic: topic.clone() });
            }
        }
    }
}

fn create(spec: &TopicSpec, replication: i32) -> Action {
    Action::CreateTopic {
        topic: spec.name.clone(),
        partitions: spec.partitions,
        replication,
        config: wanted_config(spec, replication),
    }
}

/// The declared settings, with `min.insync.replicas` at most as many as there are replicas: more, and nothing could
/// be written.
pub(super) fn wanted_config(spec: &TopicSpec, replication: i32) -> BTreeMap<String, String> {
    let mut config = spec.config.clone();
    if let Some(wanted) = config.get_mut("min.insync.replicas")
        && wanted.parse().is_ok_and(|wanted: i32| wanted > replication)
    {
        *wanted = replication.to_string();
    }
    config
}

/// Kafka answers `0.10` for 0.1, and lists in any order.
pub(super) fn same_value(a: &str, b: &str) -> bool {
    let numbers = a.parse::<f64>().ok().zip(b.parse::<f64>().ok());
    let sorted = |list: &str| {
        let mut parts: Vec<String> = list.split(',').map(|part| part.trim().to_owned()).collect();
        parts.sort();
        parts
    };
    numbers.is_some_and(|(a, b)| a.total_cmp(&b).is_eq()) || sorted(a) == sorted(b)
}

/// The cluster's own and those of tools that follow its habit.
fn is_internal(topic: &str) -> bool {
    topic.starts_with('_')
}

#[cfg(test)]
mod tests;
