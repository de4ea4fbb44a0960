//! What a service checks before it touches a topic: only looks, names everything that is wrong at once, and the fix.
//!
//! Settings that only cost performance may differ (an operator tunes them); those that would cost data may not.

use std::time::Duration;

use serde::Serialize;

use super::cluster::{Cluster, ClusterState, Target};
use super::compare::{same_value, wanted_config};
use super::plan::{Deadline, Parts, TopicsError, check_prefix, subjects_state, topics_state};
use super::subjects::Registry;
use super::topology::Topology;

/// One thing that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "mismatch", rename_all = "snake_case")]
pub enum Mismatch {
    /// No such topic.
    #[error("topic {topic} is missing")]
    MissingTopic {
        /// Name in the cluster.
        topic: String,
    },
    /// Another number of partitions.
    #[error("topic {topic} has {actual} partitions instead of {declared}")]
    Partitions {
        /// Name in the cluster.
        topic: String,
        /// Partitions now.
        actual: i32,
        /// Partitions declared.
        declared: i32,
    },
    /// A setting that protects data.
    #[error("topic {topic} has {setting}={actual} instead of {declared}")]
    Setting {
        /// Name in the cluster.
        topic: String,
        /// Kafka's name of the setting.
        setting: String,
        /// Value in force.
        actual: String,
        /// Value declared.
        declared: String,
    },
    /// This build's schema is no version of the subject.
    #[error("the schema of {subject} is not registered")]
    MissingSchema {
        /// The subject.
        subject: String,
    },
}

/// A service must not start.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Not as declared: somebody has to act first.
    #[error("{}; {}", list(.0), fix(.0))]
    Mismatch(Vec<Mismatch>),
    /// Could not look. Worth a retry.
    #[error(transparent)]
    Topics(#[from] TopicsError),
}

/// Checks topics and schemas. Changes nothing. Kafka is tried until the target's deadline, the registry for 3 s at
/// most: a service has [`verify_topics`] to fall back to.
pub async fn verify(target: &Target, topology: &Topology) -> Result<(), VerifyError> {
    let parts = Parts::connect(target, topology)?;
    judge(target, topology, &parts.cluster, Some(&parts.registry)).await
}

/// Checks topics only, for a service that knows its schemas by [`SchemaCache::resolve`](crate::SchemaCache::resolve)
/// and must start while the registry is down.
pub async fn verify_topics(target: &Target, topology: &Topology) -> Result<(), VerifyError> {
    check_prefix(&topology.prefix)?;
    let cluster = Cluster::connect(target).map_err(TopicsError::from)?;
    judge(target, topology, &cluster, None).await
}

/// How often a missing topic is looked for: a broker that has just started may not know all of them yet.
const LOOKS: u32 = 4;
/// How long a registry may take to answer.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(3);

async fn judge(
    target: &Target,
    topology: &Topology,
    cluster: &Cluster,
    registry: Option<&Registry>,
) -> Result<(), VerifyError> {
    let until = Deadline::of(target);
    let mut looks = 0;
    loop {
        let mut state = until.retry(async || topics_state(cluster, topology).await).await?;
        if let Some(registry) = registry {
            let patience = Deadline::of_at_most(target, REGISTRY_PATIENCE);
            state.subjects = patience.retry(async || subjects_state(registry, topology).await).await?;
        }
        let mut found = topic_mismatches(topology, &state);
        if registry.is_some() {
            found.extend(schema_mismatches(topology, &state));
        }
        if found.is_empty() {
            return Ok(());
        }
        looks += 1;
        let may_appear = found.iter().any(|mismatch| matches!(mismatch, Mismatch::MissingTopic { .. }));
        if !may_appear || looks == LOOKS || until.is_over() {
            return Err(VerifyError::Mismatch(found));
        }
        until.pause(looks - 1).await;
    }
}

/// Settings whose drift loses records, order in time, or durability.
const GUARDED: &[&str] = &[
    "cleanup.policy",
    "message.timestamp.type",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "unclean.leader.election.enable",
];

/// Everything that is wrong, in the order of the declaration.
fn topic_mismatches(topology: &Topology, state: &ClusterState) -> Vec<Mismatch> {
    let mut found = Vec::new();
    for spec in &topology.topics {
        let topic = || spec.name.clone();
        let Some(actual) = state.topics.get(&spec.name) else {
            found.push(Mismatch::MissingTopic { topic: topic() });
            continue;
        };
        if actual.partitions != spec.partitions {
            let (actual, declared) = (actual.partitions, spec.partitions);
            found.push(Mismatch::Partitions { topic: topic(), actual, declared });
        }
        let wanted = wanted_config(spec, actual.replication);
        for (setting, declared) in wanted.into_iter().filter(|(key, _)| GUARDED.contains(&key.as_str())) {
            let in_force = actual.config.get(&setting).map_or("nothing", String::as_str);
            if !same_value(in_force, &declared) {
                let actual = in_force.to_owned();
                found.push(Mismatch::Setting { topic: topic(), setting, actual, declared });
            }
        }
    }
    found
}

fn schema_mismatches(topology: &Topology, state: &ClusterState) -> Vec<Mismatch> {
    let is_there = |subject: &String| state.subjects.get(subject).is_some_and(|subject| subject.registered);
    let missing = topology.subjects().map(|(_, _, subject)| subject).filter(|subject| !is_there(subject));
    missing.map(|subject| Mismatch::MissingSchema { subject }).collect()
}

fn list(mismatches: &[Mismatch]) -> String {
    mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What to do: nearly always one command.
fn fix(mismatches: &[Mismatch]) -> &'static str {
    if mismatches.iter().any(|mismatch| matches!(mismatch, Mismatch::Partitions { .. })) {
        "the number of partitions cannot be changed: declare the one in use, take another prefix, or delete the topic; \
         `topics apply` mends the rest"
    } else {
        "run `topics apply`"
    }
}

#[cfg(test)]
mod tests;
