//! `topics.yaml`: the one declaration of every topic, and what keeps a cluster as declared.
//!
//! [`Topology`] is the declaration. [`plan`] compares it with a cluster and a schema registry, [`apply`] makes the
//! difference go away, [`verify`] is what a service calls at start: it only looks, and refuses. The comparison itself
//! ([`Plan::between`]) is pure. Deleting is never implied, and partitions are never added: a key would then change
//! its partition, and its state would stay behind.

mod apply;
mod cluster;
mod compare;
mod fields;
mod load;
mod plan;
mod report;
mod subjects;
mod suggest;
mod topology;
mod verify;

pub use apply::{Applied, apply};
pub use cluster::{ActualTopic, ClusterError, ClusterState, Target, cluster_id, fetch_cluster_id};
pub use compare::{Action, ConfigChange, Plan, Refusal};
pub use load::TopologyError;
pub use plan::{TopicsError, plan};
pub use report::{describe, to_json};
pub use subjects::{SubjectError, SubjectState};
pub use topology::{Cleanup, MOST_STANDBYS, Subjects, TopicSpec, Topology};
pub use verify::{Mismatch, VerifyError, verify, verify_topics};
