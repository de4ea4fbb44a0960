//! Reads a cluster and its registry, and compares.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, ClusterError, ClusterState, Target};
use super::compare::Plan;
use super::load::is_legal_name;
use super::subjects::{Registry, SubjectError, SubjectState};
use super::topology::Topology;

/// Neither plan nor apply nor verify came to its end. Apart from [`TopicsError::Name`], worth a retry when the
/// cluster or the registry is better.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// Kafka.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The registry.
    #[error(transparent)]
    Subjects(#[from] SubjectError),
    /// A prefix makes an impossible name, or one that cannot be told from another's.
    #[error("prefix \"{0}\" is no good: up to 100 of a-z A-Z 0-9 . _ - that end with one of . _ -")]
    Name(String),
    /// Refused before anything was changed.
    #[error("nothing was changed: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// Time is up, and the cluster is still not as declared.
    #[error("the cluster is not as declared after {waited_s} s, still to do: {left}")]
    Deadline {
        /// Seconds.
        waited_s: u64,
        /// The actions that came back.
        left: String,
    },
}

impl TopicsError {
    /// Whether the same may work a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Cluster(error) => error.is_transient(),
            Self::Subjects(error) => error.is_transient(),
            Self::Name(_) | Self::Refused(_) | Self::Deadline { .. } => false,
        }
    }
}

/// What `apply` would do. Changes nothing; tries until the target's deadline to get an answer.
pub async fn plan(target: &Target, topology: &Topology, delete_unknown: bool) -> Result<Plan, TopicsError> {
    let parts = Parts::connect(target, topology)?;
    let until = Deadline::of(target);
    let state = until.retry(async || parts.state(topology).await).await?;
    Ok(Plan::between(topology, &state, delete_unknown))
}

/// Both sides of a target.
pub(super) struct Parts {
    pub(super) cluster: Cluster,
    pub(super) registry: Registry,
}

impl Parts {
    pub(super) fn connect(target: &Target, topology: &Topology) -> Result<Self, TopicsError> {
        check_prefix(&topology.prefix)?;
        Ok(Self { cluster: Cluster::connect(target)?, registry: Registry::connect(&target.registry)? })
    }

    pub(super) async fn state(&self, topology: &Topology) -> Result<ClusterState, TopicsError> {
        let mut state = topics_state(&self.cluster, topology).await?;
        state.subjects = subjects_state(&self.registry, topology).await?;
        Ok(state)
    }
}

pub(super) async fn topics_state(cluster: &Cluster, topology: &Topology) -> Result<ClusterState, TopicsError> {
    let names: Vec<&str> = topology.topics.iter().map(|topic| topic.name.as_str()).collect();
    Ok(cluster.state(&names).await?)
}

pub(super) async fn subjects_state(
    registry: &Registry,
    topology: &Topology,
) -> Result<BTreeMap<String, SubjectState>, TopicsError> {
    let mut found = BTreeMap::new();
    for (_, record, subject) in topology.subjects() {
        let state = registry.state(&subject, record.schema_json).await?;
        found.insert(subject, state);
    }
    Ok(found)
}

/// Without a separator at its end, one system's prefix could be the start of another's.
pub(super) fn check_prefix(prefix: &str) -> Result<(), TopicsError> {
    let is_separated = prefix.ends_with(['.', '_', '-']) && !prefix.starts_with('_');
    if prefix.is_empty() || (is_legal_name(prefix) && is_separated) {
        Ok(())
    } else {
        Err(TopicsError::Name(prefix.to_owned()))
    }
}

/// Until when to try, and how patiently.
pub(super) struct Deadline {
    started: Instant,
    limit: Duration,
}

impl Deadline {
    pub(super) fn of(target: &Target) -> Self {
        Self { started: Instant::now(), limit: Duration::from_millis(target.timeout_ms) }
    }

    /// The same, but at most `limit`.
    pub(super) fn of_at_most(target: &Target, limit: Duration) -> Self {
        let all = Self::of(target);
        Self { limit: all.limit.min(limit), ..all }
    }

    pub(super) fn is_over(&self) -> bool {
        self.started.elapsed() >= self.limit
    }

    pub(super) fn waited_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Sleeps for the `n`th time: a tenth of a second, doubling, at most two, and not beyond the deadline.
    pub(super) async fn pause(&self, n: u32) {
        let pause = Duration::from_millis(100 << n.min(5)).min(Duration::from_secs(2));
        tokio::time::sleep(pause.min(self.limit.saturating_sub(self.started.elapsed()))).await;
    }

    /// Tries until it works, fails for good, or the time is up.
    pub(super) async fn retry<T, F: Future<Output = Result<T, TopicsError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, TopicsError> {
        let mut n = 0;
        loop {
            match attempt().await {
                Err(error) if error.is_transient() && !self.is_over() => {
                    tracing::warn!(%error, "trying again");
                    self.pause(n).await;
                }
                other => return other,
            }
            n += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_with_a_separator() {
        for good in ["", "t1.", "team-a_", "x-"] {
            check_prefix(good).unwrap();
        }
        for bad in ["t1", "_x.", "a b.", ".", "t\u{e9}.", &"x.".repeat(60)] {
            let error = check_prefix(bad).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }
}
